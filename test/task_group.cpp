//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::awaitable;
using asio::use_awaitable;
using bulkhead::async_scope;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::group_options;
using bulkhead::on_error;
using bulkhead::task_group;
using bulkhead::unbounded;
using test::code_of;
using test::ended_with;
using test::event;
using test::failure;
using test::forever;
using test::live;
using test::number_of;
using test::occupancy;
using test::on_every_executor;
using test::wait_until;
using test::yield_turns;

static_assert(!std::is_copy_constructible_v<task_group>);
static_assert(!std::is_copy_assignable_v<task_group>);
static_assert(std::is_nothrow_move_constructible_v<task_group>);
static_assert(std::is_nothrow_destructible_v<task_group>);
static_assert(!std::is_default_constructible_v<task_group>);
static_assert(!std::is_convertible_v<asio::io_context&, task_group>);
static_assert(std::is_constructible_v<task_group, asio::io_context&>);
static_assert(std::is_constructible_v<task_group, bulkhead::pool&, group_options>);
static_assert(std::is_constructible_v<task_group, asio::any_io_executor, group_options>);
static_assert(noexcept(std::declval<const task_group&>().size()));
static_assert(noexcept(std::declval<const task_group&>().pending()));
static_assert(group_options{}.limit == unbounded);
static_assert(group_options{}.error == on_error::cancel_siblings);
static_assert(std::is_trivially_destructible_v<group_options>); // stands in co_await expressions

namespace {

const error_code aborted = asio::error::operation_aborted;

/// The failure that a scope or a join ended with: see test::number_of.
std::string message_of(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no std::invalid_argument";
}

bool refused(task_group& g) {
  try {
    g.spawn([] {});
  } catch (const bulkhead::system_error& e) {
    return e.code() == errc::closed || e.code() == aborted;
  }
  return false;
}

} // namespace

// --- arguments ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_handler_that_is_an_lvalue_is_copied) {
  asio::io_context io;
  task_group g(io, {.limit = 1});
  int calls = 0;
  auto handler = [&calls, owned = std::make_shared<int>(1)](auto) { calls += *owned; };
  const auto constant = handler;
  for (int i = 0; i != 2; ++i) {
    g.async_spawn([] {}, handler); // starts, or waits
    g.async_spawn([] {}, constant);
    g.async_join(handler);
    g.async_join(constant);
  }
  test::run(io);
  BOOST_TEST(calls == 8);
}

BOOST_AUTO_TEST_CASE(a_limit_of_zero_is_an_invalid_argument) {
  asio::io_context io;
  const std::string message = message_of([&] { task_group g(io, group_options{.limit = 0}); });
  BOOST_TEST(message == "group_options::limit must be at least 1 (got 0)");
}

BOOST_AUTO_TEST_CASE(a_scope_refuses_a_limit_of_zero_before_it_is_initiated) {
  asio::io_context io;
  auto body = [](task_group&) -> awaitable<void> { co_return; };
  for (int kind = 0; kind != 3; ++kind) {
    const std::string message = message_of([&] {
      const group_options options{.limit = 0};
      if (kind == 0) (void)async_scope(io, options, body, use_awaitable);
      if (kind == 1) (void)async_scope(io, options, body, asio::use_future);
      if (kind == 2) async_scope(io, options, body, [](std::exception_ptr) {});
    });
    BOOST_TEST(message.find("got 0") != std::string::npos, message);
  }
  BOOST_TEST(test::poll(io) == 0u);
}

// --- the limit ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(no_more_than_limit_children_are_in_flight) {
  on_every_executor([](auto& place) {
    constexpr int n = 100, limit = 4;
    occupancy inside;
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await yield_turns(5);
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != n; ++i) g.spawn(child);
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.limit = limit}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.total() == n);
    BOOST_TEST(inside.now() == 0);
    BOOST_TEST(inside.peak() <= limit);
    if (!place.parallel) BOOST_TEST(inside.peak() == limit);
  });
}

BOOST_AUTO_TEST_CASE(async_spawn_keeps_the_limit_too) {
  on_every_executor([](auto& place) {
    constexpr int n = 100, limit = 4;
    occupancy inside;
    std::atomic<std::size_t> most{0};
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await yield_turns(3);
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != n; ++i) {
        co_await g.async_spawn(child);
        most = std::max(most.load(), g.size() + g.pending());
      }
    };
    auto f = async_scope(place.executor(), group_options{.limit = limit}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.total() == n);
    BOOST_TEST(inside.peak() <= limit);
    BOOST_TEST(most <= static_cast<std::size_t>(limit)); // nothing is accepted ahead
  });
}

BOOST_AUTO_TEST_CASE(a_limit_of_one_runs_children_one_after_the_other_in_order) {
  on_every_executor([](auto& place) {
    std::vector<int> order; // unprotected
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 50; ++i)
        g.spawn([&order, i]() -> awaitable<void> {
          co_await yield_turns();
          order.push_back(i);
        });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(order.size() == 50u);
    BOOST_TEST(std::is_sorted(order.begin(), order.end()));
  });
}

BOOST_AUTO_TEST_CASE(without_a_limit_all_children_run_together) {
  on_every_executor([](auto& place) {
    constexpr int n = 100;
    occupancy inside;
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      while (inside.total() != n) co_await yield_turns();
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != n; ++i) g.spawn(child);
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.peak() == n);
  });
}

BOOST_AUTO_TEST_CASE(children_run_at_the_same_time_where_there_are_threads) {
  bulkhead::pool p(4);
  std::latch together(4);
  auto body = [&](task_group& g) -> awaitable<void> {
    for (int i = 0; i != 4; ++i) g.spawn([&] { together.arrive_and_wait(); });
    co_return;
  };
  auto f = async_scope(p, group_options(), body, asio::use_future);
  BOOST_TEST(ended_with(f) == 0);
}

BOOST_AUTO_TEST_CASE(a_child_never_starts_inside_the_call_that_spawns_it) {
  asio::io_context io;
  task_group g(io);
  int inside = 0, ran = 0;
  auto child = [&] {
    inside += test::in_initiation();
    ++ran;
  };
  asio::post(io, [&] {
    test::initiation_scope scope;
    g.spawn(child);
    BOOST_TEST(g.try_spawn(child));
    g.async_spawn(child, asio::detached);
  });
  test::run(io);
  BOOST_TEST(ran == 3);
  BOOST_TEST(inside == 0);
}

// --- spawn, try_spawn, async_spawn, close -------------------------------------------------------

BOOST_AUTO_TEST_CASE(try_spawn_is_false_when_the_group_is_full_or_closed) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  event e(io.get_executor());
  int ran = 0;
  auto waits = [&] { return e.wait(); };
  auto counts = [&] { ++ran; };
  BOOST_TEST(g.try_spawn(waits));
  BOOST_TEST(g.try_spawn(waits));
  BOOST_TEST(!g.try_spawn(counts));
  BOOST_TEST(g.size() == 2u);
  BOOST_TEST(g.pending() == 0u);
  e.set();
  test::poll(io);
  BOOST_TEST(g.size() == 0u);
  BOOST_TEST(g.try_spawn(counts));
  g.close();
  BOOST_TEST(!g.try_spawn(counts));
  test::run(io);
  BOOST_TEST(ran == 1);
}

BOOST_AUTO_TEST_CASE(a_try_spawn_that_is_refused_leaves_the_child_alone) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  std::unique_ptr<int> kept = std::make_unique<int>(1);
  auto child = [kept = std::move(kept)]() mutable { kept.reset(); };
  g.spawn([] {});
  BOOST_TEST(!g.try_spawn(std::move(child)));
  test::run(io);
  BOOST_TEST(g.try_spawn(std::move(child)));
  test::run(io);
  g.close();
  auto another = std::make_unique<int>(2);
  auto late = [another = std::move(another)] { (void)another; };
  BOOST_TEST(!g.try_spawn(std::move(late)));
  BOOST_TEST(g.stats().completed == 2u);
}

BOOST_AUTO_TEST_CASE(a_cancellation_of_any_type_reaches_an_operation) {
  on_every_executor([](auto& place) {
    task_group g(place.executor());
    bulkhead::semaphore s(place.executor(), 1);
    auto held = s.try_acquire();
    g.spawn(s.async_acquire(1, asio::deferred));
    while (s.waiting() == 0) {
      if constexpr (std::decay_t<decltype(place)>::parallel)
        std::this_thread::yield();
      else
        test::poll(place.context);
    }
    g.cancel(asio::cancellation_type::total);
    place.finish();
    BOOST_TEST(s.waiting() == 0u);
    BOOST_TEST(g.stats().cancelled == 1u);
  });
}

BOOST_AUTO_TEST_CASE(try_spawn_never_overtakes_who_waits) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  event first(io.get_executor()), second(io.get_executor());
  std::string order;
  BOOST_TEST(g.try_spawn([&] { return first.wait(); }));
  g.spawn([&]() -> awaitable<void> {
    order += 'a';
    co_await second.wait();
  });
  BOOST_TEST(!g.try_spawn([&] { order += 'x'; }));
  first.set();
  test::poll(io);
  BOOST_TEST(order == "a");
  BOOST_TEST(!g.try_spawn([&] { order += 'x'; }));
  second.set();
  test::run(io);
  BOOST_TEST(order == "a");
}

BOOST_AUTO_TEST_CASE(spawn_starts_pending_children_in_order_as_slots_get_free) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  std::vector<std::unique_ptr<event>> events;
  std::vector<int> started;
  for (int i = 0; i != 5; ++i) {
    events.push_back(std::make_unique<event>(io.get_executor()));
    g.spawn([&, i] {
      started.push_back(i);
      return events[static_cast<std::size_t>(i)]->wait();
    });
  }
  test::poll(io);
  BOOST_TEST(started == (std::vector<int>{0, 1}));
  BOOST_TEST(g.size() == 2u);
  BOOST_TEST(g.pending() == 3u);
  events[1]->set();
  test::poll(io);
  BOOST_TEST(started == (std::vector<int>{0, 1, 2}));
  events[0]->set();
  events[2]->set();
  test::poll(io);
  BOOST_TEST(started == (std::vector<int>{0, 1, 2, 3, 4}));
  BOOST_TEST(g.pending() == 0u);
  events[3]->set();
  events[4]->set();
  test::run(io);
  BOOST_TEST(g.size() == 0u);
}

BOOST_AUTO_TEST_CASE(async_spawn_waits_in_order) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  event e(io.get_executor());
  std::vector<int> accepted, started;
  g.spawn([&] { return e.wait(); });
  for (int i = 0; i != 5; ++i)
    g.async_spawn([&, i] { started.push_back(i); },
                  [&, i](error_code ec) {
                    BOOST_TEST(!ec);
                    accepted.push_back(i);
                  });
  test::poll(io);
  BOOST_TEST(accepted.empty());
  BOOST_TEST(started.empty());
  BOOST_TEST(g.pending() == 5u);
  e.set();
  test::run(io);
  BOOST_TEST(accepted == (std::vector<int>{0, 1, 2, 3, 4}));
  BOOST_TEST(started == (std::vector<int>{0, 1, 2, 3, 4}));
}

BOOST_AUTO_TEST_CASE(a_cancelled_async_spawn_destroys_its_child_unstarted) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  event e(io.get_executor());
  asio::cancellation_signal signal;
  std::atomic<int> alive{0};
  int started = 0, after = 0;
  std::optional<error_code> result;
  int alive_at_completion = -1;
  g.spawn([&] { return e.wait(); });
  g.async_spawn([&started, l = live(alive)] { ++started; },
                asio::bind_cancellation_slot(signal.slot(), [&](error_code ec) {
                  result = ec;
                  alive_at_completion = alive;
                }));
  g.spawn([&] { ++after; });
  BOOST_TEST(alive == 1);
  BOOST_TEST(g.pending() == 2u);
  signal.emit(asio::cancellation_type::total);
  BOOST_TEST(g.pending() == 1u);
  test::poll(io);
  BOOST_TEST((result == aborted));
  BOOST_TEST(alive_at_completion == 0);
  e.set();
  test::run(io);
  BOOST_TEST(started == 0);
  BOOST_TEST(after == 1);
}

BOOST_AUTO_TEST_CASE(a_refused_child_is_destroyed_before_the_handler_runs) {
  asio::io_context io;
  task_group g(io);
  g.close();
  std::atomic<int> alive{0};
  int alive_at_completion = -1;
  g.async_spawn([l = live(alive)] {}, asio::bind_executor(test::at_once(), [&](error_code ec) {
                  if (ec == errc::closed) alive_at_completion = alive;
                }));
  test::run(io);
  BOOST_TEST(alive_at_completion == 0);
}

BOOST_AUTO_TEST_CASE(a_child_may_wait_for_a_slot_that_is_only_reserved) {
  struct copied { // while it has the slot, the other child asks
    explicit copied(asio::io_context& io) : io(io) {}
    copied(const copied& other) : io(other.io) { test::poll(io); }
    void operator()() const {}
    asio::io_context& io;
  };
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  event e(io.get_executor());
  std::optional<error_code> result;
  g.spawn([&]() -> awaitable<void> {
    co_await e.wait();
    auto [ec] = co_await g.async_spawn([] {}, asio::as_tuple(use_awaitable));
    result = ec;
  });
  test::poll(io);
  e.set();
  const copied c(io);
  BOOST_TEST(g.try_spawn(c));
  BOOST_TEST(!result);
  test::run(io);
  BOOST_TEST((result == error_code()));
  BOOST_TEST(g.stats().completed == 3u);
}

BOOST_AUTO_TEST_CASE(close_refuses_new_children_and_runs_accepted_ones) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  event e(io.get_executor());
  std::atomic<int> alive{0};
  int ran = 0, waited = 0;
  std::optional<error_code> result;
  g.spawn([&] { return e.wait(); });
  g.spawn([&] { ++ran; });
  g.async_spawn([&waited, l = live(alive)] { ++waited; }, [&](error_code ec) { result = ec; });
  g.spawn([&] { ++ran; });
  g.close();
  BOOST_TEST(g.pending() == 2u);
  test::poll(io);
  BOOST_TEST((result == errc::closed));
  BOOST_TEST(alive == 0);
  BOOST_TEST(refused(g));
  BOOST_TEST(!g.try_spawn([&] { ++ran; }));
  std::optional<error_code> late;
  g.async_spawn([&] { ++ran; }, [&](error_code ec) { late = ec; });
  test::poll(io);
  BOOST_TEST((late == errc::closed));
  e.set();
  test::run(io);
  BOOST_TEST(ran == 2);
  BOOST_TEST(waited == 0);
}

BOOST_AUTO_TEST_CASE(a_child_may_spawn_siblings_and_close_the_group) {
  on_every_executor([](auto& place) {
    std::atomic<int> ran{0};
    std::atomic<bool> closed{false};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&]() -> awaitable<void> {
        for (int i = 0; i != 10; ++i) co_await g.async_spawn([&] { ++ran; });
        g.spawn([&] { ++ran; });
        g.close();
        closed = refused(g);
      });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.limit = 3}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(ran == 11);
    BOOST_TEST(closed);
  });
}

BOOST_AUTO_TEST_CASE(a_scope_whose_body_has_ended_still_takes_children_of_its_children) {
  on_every_executor([](auto& place) {
    constexpr int depth = 6;
    std::atomic<int> ran{0};
    task_group* group = nullptr;
    struct node {
      task_group*& g;
      std::atomic<int>& ran;
      int depth;
      void operator()() {
        ++ran;
        if (depth == 0) return;
        g->spawn(node{g, ran, depth - 1});
        g->spawn(node{g, ran, depth - 1});
      }
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      group = &g;
      g.spawn(node{group, ran, depth});
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(ran == (2 << depth) - 1);
  });
}

// --- kinds of children --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(children_of_all_kinds) {
  on_every_executor([](auto& place) {
    std::atomic<int> ran{0};
    auto coroutine = [](std::atomic<int>& count) -> awaitable<void> {
      co_await yield_turns();
      ++count;
    };
    auto with_value = [](std::atomic<int>& count) -> awaitable<std::unique_ptr<int>> {
      ++count;
      co_return std::make_unique<int>(1);
    };
    asio::steady_timer timer(place.executor(), asio::steady_timer::time_point::min());
    bulkhead::semaphore s(place.executor(), 1);
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn(coroutine(ran));                                         // awaitable<void>
      g.spawn(with_value(ran));                                        // awaitable<T>
      g.spawn([&] { return coroutine(ran); });                         // returns an awaitable
      g.spawn([&](std::stop_token) { return coroutine(ran); });        // the same with a token
      g.spawn([&] { ++ran; });                                         // plain
      g.spawn([&] { return ++ran; });                                  // plain, with a result
      g.spawn([&](std::stop_token t) { ran += !t.stop_requested(); }); // plain, with a token
      g.spawn([&, u = std::make_unique<int>(1)] { ran += *u; });       // move-only
      g.spawn(timer.async_wait(asio::deferred));                       // deferred operation
      g.spawn([&] { return s.async_acquire(1, asio::deferred); });     // returns one
      g.spawn([&](std::stop_token) { return s.async_acquire(1, asio::deferred); });
      const auto constant = [&] { ++ran; };
      g.spawn(constant);
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(ran == 9);
    BOOST_TEST(s.in_use() == 0u);
  });
}

BOOST_AUTO_TEST_CASE(a_deferred_operation_fails_with_its_error_code) {
  on_every_executor([](auto& place) {
    bulkhead::semaphore s(place.executor(), 1);
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn(s.async_acquire(2, asio::deferred));
      co_await forever();
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_CHECK_EXCEPTION(f.get(), bulkhead::system_error,
                          [](const auto& e) { return e.code() == errc::exceeds_limit; });
  });
}

BOOST_AUTO_TEST_CASE(a_deferred_operation_is_cancelled_with_the_group) {
  on_every_executor([](auto& place) {
    bulkhead::semaphore s(place.executor(), 1);
    auto held = s.try_acquire().value();
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn(s.async_acquire(1, asio::deferred));
      co_await yield_turns(3);
      g.cancel();
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(s.waiting() == 0u);
  });
}

BOOST_AUTO_TEST_CASE(
    a_childs_captures_are_gone_when_the_next_child_starts_and_when_the_group_ends) {
  on_every_executor([](auto& place) {
    std::atomic<int> alive{0};
    std::atomic<int> most{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 20; ++i) {
        auto plain = [l = live(alive)] {};
        auto coroutine = [&, l = live(alive)]() -> awaitable<void> { co_await yield_turns(); };
        co_await g.async_spawn(std::move(plain));
        co_await g.async_spawn(std::move(coroutine));
        most = std::max(most.load(), alive.load());
      }
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(alive == 0);
    BOOST_TEST(most <= 2); // the one that runs, and the moved-from closure's neighbour
  });
}

// --- failure ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_first_failure_cancels_the_siblings_and_is_reported) {
  on_every_executor([](auto& place) {
    constexpr int n = 10;
    std::atomic<int> cancelled{0};
    std::atomic<int> started{0};
    auto sibling = [&]() -> awaitable<void> {
      ++started;
      try {
        co_await forever();
      } catch (const bulkhead::system_error& e) {
        if (e.code() == aborted) ++cancelled;
        throw;
      }
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != n; ++i) g.spawn(sibling);
      g.spawn([&]() -> awaitable<void> {
        while (started != n) co_await yield_turns();
        throw failure(7);
      });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 7);
    BOOST_TEST(cancelled == n);
  });
}

BOOST_AUTO_TEST_CASE(the_failure_that_came_first_is_reported_not_a_later_one) {
  on_every_executor([](auto& place) {
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&]() -> awaitable<void> {
        try {
          co_await forever();
        } catch (...) {
        }
        throw failure(2); // while it is being cancelled
      });
      g.spawn([&]() -> awaitable<void> {
        co_await yield_turns(3);
        throw failure(1);
      });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 1);
  });
}

BOOST_AUTO_TEST_CASE(a_plain_child_that_throws_fails_the_group) {
  on_every_executor([](auto& place) {
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([] { throw failure(3); });
      co_await forever();
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 3);
  });
}

BOOST_AUTO_TEST_CASE(operation_aborted_without_a_cancellation_is_a_failure) {
  on_every_executor([](auto& place) {
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([] { throw bulkhead::system_error(aborted); });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == -1);
  });
}

BOOST_AUTO_TEST_CASE(a_wait_for_a_channel_that_is_cancelled_is_no_failure) {
  on_every_executor([](auto& place) {
    using channel = asio::experimental::concurrent_channel<void(error_code, int)>;
    channel c(place.executor(), 1);
    event waits(place.executor());
    auto child = [&]() -> awaitable<void> {
      waits.set();
      (void)co_await c.async_receive(use_awaitable);
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn(child);
      co_await waits.wait();
      g.cancel();
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
  });
}

BOOST_AUTO_TEST_CASE(an_exception_of_any_type_arrives) {
  on_every_executor([](auto& place) {
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([] { throw 42; });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_CHECK_THROW(f.get(), int);
  });
}

BOOST_AUTO_TEST_CASE(a_failing_body_cancels_the_children_and_waits_for_them) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await forever();
    };
    auto body = [&](task_group& g) -> awaitable<int> {
      for (int i = 0; i != 5; ++i) g.spawn(child);
      while (inside.total() != 5) co_await yield_turns();
      throw failure(9);
      co_return 1;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    const int result = place.parallel ? ended_with(f) : (place.finish(), ended_with(f));
    BOOST_TEST(inside.now() == 0); // on completion, not only in the end
    BOOST_TEST(result == 9);
    place.finish();
  });
}

BOOST_AUTO_TEST_CASE(a_failing_body_cancels_the_children_under_collect_too) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await forever();
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 5; ++i) g.spawn(child);
      while (inside.total() != 5) co_await yield_turns();
      throw failure(9);
    };
    auto f = async_scope(place.executor(), group_options{.error = on_error::collect}, body,
                         asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 9);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_body_that_throws_before_its_first_suspension_fails_the_scope) {
  on_every_executor([](auto& place) {
    std::atomic<int> ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&] { ++ran; });
      throw failure(4);
      co_return;
    };
    auto not_a_coroutine = [&](task_group&) -> awaitable<void> { throw failure(5); };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    auto h = async_scope(place.executor(), group_options(), not_a_coroutine, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 4);
    BOOST_TEST(ended_with(h) == 5);
    BOOST_TEST(ran <= 1);
  });
}

BOOST_AUTO_TEST_CASE(a_failing_child_cancels_the_body) {
  on_every_executor([](auto& place) {
    std::atomic<bool> seen{false};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&]() -> awaitable<void> {
        co_await yield_turns(3);
        throw failure(6);
      });
      try {
        co_await forever();
      } catch (const bulkhead::system_error& e) {
        seen = e.code() == aborted;
        throw;
      }
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 6);
    BOOST_TEST(seen);
  });
}

BOOST_AUTO_TEST_CASE(after_a_failure_nothing_more_starts) {
  on_every_executor([](auto& place) {
    std::atomic<int> started{0};
    std::atomic<bool> closed{false};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([] { throw failure(1); });
      try {
        for (int i = 0; i != 10; ++i) g.spawn([&] { ++started; }); // until the failure comes
        co_await forever();
      } catch (...) {
      }
      closed = refused(g) && !g.try_spawn([&] { ++started; });
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 1);
    BOOST_TEST(started == 0);
    BOOST_TEST(closed);
  });
}

BOOST_AUTO_TEST_CASE(collect_lets_all_run_and_reports_every_failure_in_time_order) {
  on_every_executor([](auto& place) {
    std::atomic<int> ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 1; i <= 6; ++i)
        g.spawn([&ran, i]() -> awaitable<void> {
          co_await yield_turns(2);
          ++ran;
          if (i % 2 == 0) throw failure(i);
        });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1, .error = on_error::collect},
                         body, asio::use_future);
    place.finish();
    std::vector<int> seen;
    try {
      f.get();
    } catch (const bulkhead::multiple_errors& e) {
      for (auto& p : e.errors()) seen.push_back(number_of(p));
    }
    BOOST_TEST(seen == (std::vector<int>{2, 4, 6}));
    BOOST_TEST(ran == 6);
  });
}

BOOST_AUTO_TEST_CASE(collect_reports_a_single_failure_as_itself) {
  on_every_executor([](auto& place) {
    std::atomic<int> ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([] { throw failure(8); });
      for (int i = 0; i != 5; ++i)
        g.spawn([&]() -> awaitable<void> {
          co_await yield_turns(4);
          ++ran;
        });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.error = on_error::collect}, body,
                         asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 8);
    BOOST_TEST(ran == 5);
  });
}

BOOST_AUTO_TEST_CASE(errors_lists_the_failures_so_far) {
  asio::io_context io;
  task_group g(io, group_options{.error = on_error::collect});
  BOOST_TEST(g.errors().empty());
  g.spawn([] { throw failure(1); });
  g.spawn([] {});
  test::poll(io);
  BOOST_REQUIRE(g.errors().size() == 1u);
  BOOST_TEST(number_of(g.errors()[0]) == 1);
  g.spawn([] { throw failure(2); }); // collect: still open
  test::poll(io);
  BOOST_REQUIRE(g.errors().size() == 2u);
  BOOST_TEST(number_of(g.errors()[1]) == 2);
}

BOOST_AUTO_TEST_CASE(a_failure_that_is_not_reported_may_use_the_group_while_it_is_destroyed) {
  // So it ends under no lock of the group's, and no later than the scope. (The failure that is
  // reported outlives the scope, as it must, and so is of another kind.)
  on_every_executor([](auto& place) {
    struct nosy : failure {
      const task_group* group;
      nosy(int n, const task_group& g) : failure(n), group(&g) {}
      nosy(const nosy&) = default;
      ~nosy() override { (void)group->size(); }
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 1; i <= 4; ++i)
        g.spawn([&g, i]() -> awaitable<void> {
          try {
            co_await forever();
          } catch (...) {
          }
          throw nosy(i, g);
        });
      co_await yield_turns(3);
      throw failure(9);
    };
    auto done = std::make_shared<std::promise<int>>();
    async_scope(place.executor(), group_options(), body,
                [done](std::exception_ptr e) { done->set_value(e ? 1 : 0); });
    place.finish();
    BOOST_TEST(done->get_future().get() == 1);
  });
}

BOOST_AUTO_TEST_CASE(an_initiation_that_throws_fails_its_child_and_cancels_the_siblings) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto operation = [] {
      auto token = asio::deferred;
      return asio::async_initiate<asio::deferred_t, void(error_code)>(
          [](auto&& handler) {
            auto taken = std::move(handler);
            throw failure(3);
          },
          token);
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&]() -> awaitable<void> {
        occupancy::visit v(inside);
        co_await forever();
      });
      while (inside.total() != 1) co_await yield_turns();
      g.spawn(operation);
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 3);
    BOOST_TEST(inside.now() == 0);
  });
}

// --- cancellation -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(cancelling_the_group_ends_the_children_and_is_no_error) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto body = [&](task_group& g) -> awaitable<int> {
      for (int i = 0; i != 5; ++i)
        g.spawn([&]() -> awaitable<void> {
          occupancy::visit v(inside);
          co_await forever();
        });
      while (inside.total() != 5) co_await yield_turns();
      g.cancel();
      co_return 3; // the body itself is not cancelled
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(f.get() == 3);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_terminal_cancel_closes_the_group_and_other_types_do_not) {
  asio::io_context io;
  for (auto type : test::all_cancellation_types) {
    task_group g(io);
    event never(io.get_executor());
    bool saw = false;
    g.spawn([&]() -> awaitable<void> {
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
      try {
        co_await never.wait();
      } catch (...) {
        saw = true;
      }
    });
    test::poll(io);
    g.cancel(type);
    test::poll(io);
    BOOST_TEST(saw);
    BOOST_TEST(refused(g) == (type == asio::cancellation_type::terminal));
    test::poll(io);
  }
}

BOOST_AUTO_TEST_CASE(a_cancellation_type_is_forwarded_as_it_is) {
  asio::io_context io;
  for (auto type : test::all_cancellation_types) {
    task_group g(io);
    bulkhead::semaphore s(io, 1);
    auto held = s.try_acquire().value();
    asio::cancellation_type seen = asio::cancellation_type::none;
    g.spawn([&]() -> awaitable<void> {
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
      co_await asio::this_coro::throw_if_cancelled(false);
      auto [ec, p] = co_await s.async_acquire(1, asio::as_tuple(use_awaitable));
      seen = (co_await asio::this_coro::cancellation_state).cancelled();
    });
    test::poll(io);
    g.cancel(type);
    test::poll(io);
    BOOST_TEST((seen == type));
  }
}

BOOST_AUTO_TEST_CASE(a_weaker_cancellation_does_not_undo_one_that_the_child_has_not_looked_at) {
  asio::io_context io;
  task_group g(io);
  int steps = 0;
  g.spawn([&]() -> awaitable<void> {
    for (;; ++steps) co_await asio::post(use_awaitable);
  });
  while (steps < 3) io.poll_one();
  g.cancel();
  g.cancel(asio::cancellation_type::total);
  for (int before = steps; g.size() != 0 && steps < before + 100;) io.poll_one();
  BOOST_TEST(g.size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_child_cancelled_before_its_start_never_starts) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  std::atomic<int> alive{0};
  int started = 0;
  std::optional<std::exception_ptr> joined;
  for (int i = 0; i != 5; ++i) // two posted to start, three pending
    g.spawn([&started, l = live(alive)] { ++started; });
  std::optional<error_code> waiting;
  g.async_spawn([&started, l = live(alive)] { ++started; }, [&](error_code ec) { waiting = ec; });
  g.cancel();
  BOOST_TEST(g.pending() == 0u);
  g.async_join([&](std::exception_ptr e) { joined = e; });
  test::run(io);
  BOOST_TEST(started == 0);
  BOOST_TEST(alive == 0);
  BOOST_TEST((waiting == aborted));
  BOOST_REQUIRE(joined);
  BOOST_TEST(!*joined);
  BOOST_TEST(g.size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_child_may_take_its_time_to_end_after_a_cancellation) {
  on_every_executor([](auto& place) {
    std::atomic<int> cleaned{0};
    int at_completion = -1;
    auto body = [&](task_group& g) -> awaitable<void> {
      std::atomic<int>* c = &cleaned;
      auto child = [c]() -> awaitable<void> {
        try {
          co_await forever();
        } catch (...) {
        }
        co_await asio::this_coro::reset_cancellation_state();
        co_await yield_turns(20);
        ++*c;
      };
      for (int i = 0; i != 5; ++i) g.spawn(child);
      co_await yield_turns(3);
      throw failure(1);
    };
    auto done = std::make_shared<std::promise<int>>();
    async_scope(place.executor(), group_options(), body, [&, done](std::exception_ptr e) {
      at_completion = cleaned;
      done->set_value(number_of(e));
    });
    place.finish();
    BOOST_TEST(done->get_future().get() == 1);
    // Children that the failure found unstarted never started; all the others were waited for.
    BOOST_TEST(at_completion == cleaned);
  });
}

BOOST_AUTO_TEST_CASE(a_stop_token_is_stopped_by_a_cancellation) {
  bulkhead::pool p(4);
  std::atomic<int> started{0};
  auto body = [&](task_group& g) -> awaitable<void> {
    for (int i = 0; i != 3; ++i)
      g.spawn([&](std::stop_token token) {
        ++started;
        wait_until([&] { return token.stop_requested(); });
      });
    while (started != 3) co_await yield_turns();
    throw failure(2);
  };
  auto f = async_scope(p, group_options(), body, asio::use_future);
  BOOST_TEST(ended_with(f) == 2);
}

BOOST_AUTO_TEST_CASE(cancelling_the_scope_cancels_body_and_children) {
  on_every_executor([](auto& place) {
    {
      asio::cancellation_signal signal;
      occupancy inside;
      std::atomic<bool> body_saw{false};
      auto child = [&]() -> awaitable<void> {
        occupancy::visit v(inside);
        co_await forever();
      };
      auto body = [&](task_group& g) -> awaitable<void> {
        for (int i = 0; i != 5; ++i) g.spawn(child);
        occupancy::visit v(inside);
        try {
          co_await forever();
        } catch (...) {
          body_saw = true;
          throw;
        }
      };
      auto done = std::make_shared<std::promise<std::exception_ptr>>();
      int left = -1;
      async_scope(place.executor(), group_options(), body,
                  asio::bind_cancellation_slot(signal.slot(), [&, done](std::exception_ptr e) {
                    left = inside.now();
                    done->set_value(e);
                  }));
      if constexpr (!std::decay_t<decltype(place)>::parallel)
        test::poll(place.context);
      else
        wait_until([&] { return inside.total() == 6; });
      signal.emit(asio::cancellation_type::terminal);
      place.finish();
      BOOST_TEST(number_of(done->get_future().get()) == -1);
      BOOST_TEST(left == 0);
      BOOST_TEST(body_saw);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_cancelled_scope_reports_the_failure_that_came_before) {
  asio::io_context io;
  asio::cancellation_signal signal;
  int result = 0;
  auto body = [&](task_group& g) -> awaitable<void> {
    g.spawn([]() -> awaitable<void> {
      try {
        co_await forever();
      } catch (...) {
      }
      co_await asio::this_coro::reset_cancellation_state();
      co_await yield_turns(5);
    });
    g.spawn([] { throw failure(3); });
    co_return;
  };
  async_scope(io, group_options(), body,
              asio::bind_cancellation_slot(signal.slot(),
                                           [&](std::exception_ptr e) { result = number_of(e); }));
  while (io.poll_one() && result == 0) signal.emit(asio::cancellation_type::terminal);
  test::run(io);
  BOOST_TEST((result == 3 || result == -1));
  BOOST_TEST(result != 0);
}

BOOST_AUTO_TEST_CASE(a_body_that_spawns_into_its_cancelled_scope_is_cancelled_and_has_not_failed) {
  asio::io_context io;
  asio::cancellation_signal signal;
  int result = 0;
  auto body = [&](task_group& g) -> awaitable<void> {
    signal.emit(asio::cancellation_type::terminal);
    g.spawn([] {}); // throws, for a reason that is the cancellation
    co_return;
  };
  async_scope(io, group_options(), body,
              asio::bind_cancellation_slot(signal.slot(),
                                           [&](std::exception_ptr e) { result = number_of(e); }));
  test::run(io);
  BOOST_TEST(result == -1);
}

// A signal reaches whom it is for after the step that runs now; what that step spawns would never
// hear of it.
BOOST_AUTO_TEST_CASE(a_cancelled_scope_accepts_no_child_whatever_the_type) {
  for (auto type : test::all_cancellation_types)
    for (bool from_a_child : {false, true}) {
      BOOST_TEST_CONTEXT("cancellation type " << static_cast<unsigned>(type) << ", spawned by "
                                              << (from_a_child ? "a child" : "the body")) {
        asio::io_context io;
        event never(io.get_executor());
        asio::cancellation_signal signal;
        int started = 0, result = 0;
        std::optional<error_code> waited;
        auto late = [&]() -> awaitable<void> {
          ++started;
          co_await never.wait();
        };
        auto spawner = [&](task_group& g) -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          signal.emit(type);
          BOOST_TEST(!g.try_spawn(late));
          g.async_spawn(late, [&](error_code ec) { waited = ec; });
          BOOST_TEST(refused(g));
          co_await never.wait();
        };
        auto body = [&](task_group& g) -> awaitable<void> {
          if (!from_a_child) co_return co_await spawner(g);
          g.spawn([&] { return spawner(g); });
        };
        async_scope(io, group_options(), body,
                    asio::bind_cancellation_slot(
                        signal.slot(), [&](std::exception_ptr e) { result = number_of(e); }));
        test::poll(io);
        BOOST_TEST((waited == aborted));
        BOOST_TEST(result == -1); // 0: it still waits for a child that was missed
        BOOST_TEST(started == 0);
      }
    }
}

BOOST_AUTO_TEST_CASE(a_cancelled_coroutine_cancels_the_scope_it_awaits) {
  on_every_executor([](auto& place) {
    asio::cancellation_signal signal;
    occupancy inside;
    auto child = [&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await forever();
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 3; ++i) g.spawn(child);
      co_await forever();
    };
    std::atomic<int> left{-1};
    auto outer = [&]() -> awaitable<void> {
      auto [e] = co_await async_scope(group_options(), body, asio::as_tuple(use_awaitable));
      left = inside.now();
      if (number_of(e) != -1) left = -2;
    };
    auto strand = asio::make_strand(place.executor());
    asio::co_spawn(strand, outer(),
                   asio::bind_cancellation_slot(
                       signal.slot(), asio::bind_executor(strand, [](std::exception_ptr) {})));
    if constexpr (!std::decay_t<decltype(place)>::parallel)
      test::poll(place.context);
    else
      wait_until([&] { return inside.total() == 3; });
    asio::post(strand, [&] { signal.emit(asio::cancellation_type::terminal); });
    place.finish();
    BOOST_TEST(left == 0);
  });
}

BOOST_AUTO_TEST_CASE(scopes_nest_and_the_inner_one_ends_first) {
  on_every_executor([](auto& place) {
    occupancy inner_children;
    std::atomic<int> left{-1};
    auto grandchild = [&]() -> awaitable<void> {
      occupancy::visit v(inner_children);
      co_await forever();
    };
    auto inner_body = [&](task_group& g) -> awaitable<int> {
      for (int i = 0; i != 4; ++i) g.spawn(grandchild);
      co_await forever();
      co_return 0;
    };
    auto child = [&]() -> awaitable<void> {
      try {
        (void)co_await async_scope(group_options(), inner_body, use_awaitable);
      } catch (...) {
        left = inner_children.now();
        throw;
      }
    };
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn(child);
      while (inner_children.total() != 4) co_await yield_turns();
      g.spawn([] { throw failure(5); });
      co_await forever();
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 5);
    BOOST_TEST(left == 0);
    BOOST_TEST(inner_children.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_child_may_cancel_its_own_group) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 3; ++i)
        g.spawn([&]() -> awaitable<void> {
          occupancy::visit v(inside);
          co_await forever();
        });
      g.spawn([&]() -> awaitable<void> {
        while (inside.total() != 3) co_await yield_turns();
        g.cancel();
        co_await forever(); // is cancelled as well
      });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.now() == 0);
  });
}

// --- results ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_scope_completes_with_the_result_of_its_body) {
  on_every_executor([](auto& place) {
    auto number = [](task_group&) -> awaitable<int> { co_return 5; };
    auto owner = [](task_group&) -> awaitable<std::unique_ptr<int>> {
      co_return std::make_unique<int>(6);
    };
    auto text = [](task_group&) -> awaitable<std::string> { co_return std::string(100, 'x'); };
    auto flag = [](task_group&) -> awaitable<bool> { co_return true; };
    auto nothing = [](task_group&) -> awaitable<void> { co_return; };
    auto a = async_scope(place.executor(), group_options(), number, asio::use_future);
    auto b = async_scope(place.executor(), group_options(), owner, asio::use_future);
    auto c = async_scope(place.executor(), group_options(), text, asio::use_future);
    auto d = async_scope(place.executor(), group_options(), flag, asio::use_future);
    auto e = async_scope(place.executor(), group_options(), nothing, asio::use_future);
    static_assert(std::is_same_v<decltype(a), std::future<int>>);
    static_assert(std::is_same_v<decltype(e), std::future<void>>);
    place.finish();
    BOOST_TEST(a.get() == 5);
    BOOST_TEST(*b.get() == 6);
    BOOST_TEST(c.get() == std::string(100, 'x'));
    BOOST_TEST(d.get());
    BOOST_TEST(ended_with(e) == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_scope_takes_its_executor_from_the_coroutine_that_awaits_it) {
  asio::io_context io;
  const test::handler_executor tracker(test::handler_id, io.get_executor());
  std::vector<int> seen;
  auto body = [&](task_group& g) -> awaitable<int> {
    seen.push_back(test::current_executor());
    g.spawn([&] { seen.push_back(test::current_executor()); });
    co_return 2;
  };
  auto outer = [&]() -> awaitable<void> {
    const int n = co_await async_scope(group_options(), body, use_awaitable);
    seen.push_back(test::current_executor() * n);
  };
  asio::co_spawn(tracker, outer(), asio::detached);
  test::run(io);
  BOOST_TEST(seen == (std::vector<int>{1, 1, 2}));
}

BOOST_AUTO_TEST_CASE(a_scope_takes_its_executor_from_a_bound_callback) {
  asio::io_context io;
  const test::handler_executor tracker(test::handler_id, io.get_executor());
  int on = 0, calls = 0;
  auto body = [&](task_group&) -> awaitable<void> {
    on = test::current_executor();
    co_return;
  };
  async_scope(group_options(), body, asio::bind_executor(tracker, [&](std::exception_ptr e) {
                BOOST_TEST(!e);
                BOOST_TEST(test::current_executor() == test::handler_id);
                ++calls;
              }));
  test::run(io);
  BOOST_TEST(on == test::handler_id);
  BOOST_TEST(calls == 1);
}

// --- a group of its own -------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_empty_group_is_joined_at_once_but_not_inside_the_call) {
  asio::io_context io;
  task_group g(io);
  int calls = 0;
  {
    test::initiation_scope scope;
    g.async_join([&](std::exception_ptr e) {
      BOOST_TEST(!e);
      BOOST_TEST(!test::in_initiation());
      ++calls;
    });
  }
  BOOST_TEST(calls == 0);
  test::run(io);
  BOOST_TEST(calls == 1);
}

BOOST_AUTO_TEST_CASE(many_joins_complete_together_and_a_group_can_be_used_again) {
  asio::io_context io;
  task_group g(io);
  event e(io.get_executor());
  int joined = 0;
  g.spawn([&] { return e.wait(); });
  for (int i = 0; i != 3; ++i) g.async_join([&](std::exception_ptr x) { joined += !x; });
  test::poll(io);
  BOOST_TEST(joined == 0);
  e.set();
  test::poll(io);
  BOOST_TEST(joined == 3);
  int ran = 0;
  g.spawn([&] { ++ran; });
  g.async_join([&](std::exception_ptr x) { joined += !x; });
  test::run(io);
  BOOST_TEST(ran == 1);
  BOOST_TEST(joined == 4);
}

BOOST_AUTO_TEST_CASE(a_join_reports_the_failure) {
  on_every_executor([](auto& place) {
    task_group g(place.executor());
    g.spawn([] { throw failure(4); });
    auto f = g.async_join(asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 4);
  });
}

BOOST_AUTO_TEST_CASE(the_default_token_of_a_group_is_use_awaitable) {
  asio::io_context io;
  bool done = false;
  auto body = [&]() -> awaitable<void> {
    task_group g(io);
    int ran = 0;
    auto child = [&] { ++ran; };
    co_await g.async_spawn(child);
    co_await g.async_join();
    BOOST_TEST(ran == 1);
    done = true;
  };
  asio::co_spawn(io, body(), asio::detached);
  test::run(io);
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(destroying_a_group_cancels_its_children_and_aborts_its_joins) {
  on_every_executor([](auto& place) {
    occupancy inside;
    std::atomic<int> alive{0};
    std::atomic<bool> saw{false};
    auto joined = std::make_shared<std::promise<std::exception_ptr>>();
    auto spawned = std::make_shared<std::promise<error_code>>();
    {
      std::optional<task_group> g(std::in_place, place.executor(), group_options{.limit = 1});
      g->spawn([&inside, &saw, l = live(alive)]() -> awaitable<void> {
        occupancy::visit v(inside);
        try {
          co_await forever();
        } catch (const bulkhead::system_error& e) {
          saw = e.code() == aborted;
        }
      });
      g->spawn([&inside, l = live(alive)] { occupancy::visit v(inside); });
      g->async_spawn([&inside, l = live(alive)] { occupancy::visit v(inside); },
                     [spawned](error_code ec) { spawned->set_value(ec); });
      g->async_join([joined](std::exception_ptr e) { joined->set_value(e); });
      if constexpr (!std::decay_t<decltype(place)>::parallel)
        test::poll(place.context);
      else
        wait_until([&] { return inside.total() == 1; });
    }
    place.finish();
    BOOST_TEST(number_of(joined->get_future().get()) == -1);
    BOOST_TEST((spawned->get_future().get() == aborted));
    BOOST_TEST(saw);
    BOOST_TEST(inside.total() == 1);
    BOOST_TEST(inside.now() == 0);
    BOOST_TEST(alive == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_moved_group_keeps_its_children) {
  asio::io_context io;
  task_group a(io);
  event e(io.get_executor());
  a.spawn([&] { return e.wait(); });
  task_group b(std::move(a));
  BOOST_TEST(b.size() == 1u);
  bool joined = false;
  b.async_join([&](std::exception_ptr x) { joined = !x; });
  e.set();
  test::run(io);
  BOOST_TEST(joined);
}

BOOST_AUTO_TEST_CASE(children_and_joins_are_work_for_the_context) {
  asio::io_context io, other;
  task_group g(io);
  event e(other.get_executor());
  g.spawn([&] { return e.wait(); });
  BOOST_TEST(test::poll(io) > 0u);
  BOOST_TEST(!io.stopped());
  bool joined = false;
  asio::io_context handlers;
  g.async_join(asio::bind_executor(handlers, [&](std::exception_ptr) { joined = true; }));
  BOOST_TEST(handlers.poll() == 0u);
  BOOST_TEST(!handlers.stopped());
  e.set();
  test::run(io);
  test::run(handlers);
  BOOST_TEST(joined);
}

BOOST_AUTO_TEST_CASE(shutdown_of_the_context_destroys_children_and_handlers_uninvoked) {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  std::optional<task_group> g;
  {
    asio::io_context io;
    g.emplace(io, group_options{.limit = 2});
    for (int i = 0; i != 4; ++i) // two run, two are pending
      g->spawn([l = live(alive)]() -> awaitable<void> { co_await forever(); });
    g->async_spawn([l = live(alive)] {}, [&calls, l = live(alive)](error_code) { ++calls; });
    g->async_join([&calls, l = live(alive)](std::exception_ptr) { ++calls; });
    auto body = [&alive](task_group& inner) -> awaitable<void> {
      inner.spawn([l = live(alive)]() -> awaitable<void> { co_await forever(); });
      co_await forever();
    };
    async_scope(io, group_options(), body,
                [&calls, l = live(alive)](std::exception_ptr) { ++calls; });
    test::poll(io);
    g->spawn([l = live(alive)] {}); // posted, not started
    BOOST_TEST(alive > 0);
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  g.reset();
}

BOOST_AUTO_TEST_CASE(what_the_end_of_the_context_destroys_may_end_the_context_of_another_handler) {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  for (bool joins : {false, true}) {
    std::optional<asio::io_context> io(std::in_place);
    auto handlers = std::make_shared<asio::io_context>();
    task_group g(io->get_executor(), group_options{.limit = 1});
    g.spawn([l = live(alive)]() -> awaitable<void> { co_await forever(); });
    const auto count = [&calls, l = live(alive)](auto&&...) { ++calls; };
    if (joins) {
      g.async_join([handlers, count](std::exception_ptr) { count(); });
      g.async_join(asio::bind_executor(*handlers, count));
    } else {
      g.async_spawn([] {}, [handlers, count](error_code) { count(); });
      g.async_spawn([l = live(alive)] {}, asio::bind_executor(*handlers, count));
    }
    g.spawn([l = live(alive)] {});
    test::poll(*io);
    handlers.reset();
    io.reset();
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_end_the_context_of_the_group_or_of_the_scope) {
  std::atomic<int> calls{0};
  const auto count = [&calls](auto&&...) { ++calls; };
  for (bool in_scope : {false, true}) {
    auto io = std::make_shared<asio::io_context>();
    std::optional<asio::io_context> handlers(std::in_place);
    std::optional<task_group> g;
    auto spawn = [&](task_group& group) {
      group.spawn([]() -> awaitable<void> { co_await forever(); });
      group.async_spawn([] {},
                        asio::bind_executor(*handlers, [count, io](error_code) { count(); }));
    };
    auto body = [&](task_group& group) -> awaitable<void> {
      spawn(group);
      co_await forever();
    };
    if (in_scope)
      async_scope(io->get_executor(), group_options{.limit = 1}, body,
                  asio::bind_executor(*io, count));
    else
      spawn(g.emplace(io->get_executor(), group_options{.limit = 1}));
    test::poll(*io);
    const std::weak_ptr<asio::io_context> watch = io;
    io.reset();
    handlers.reset();
    BOOST_TEST(watch.expired());
  }
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(a_function_that_never_started_may_use_what_its_handler_owns_to_the_end) {
  struct user {
    explicit user(const int& i) noexcept : owned(&i) {}
    ~user() { BOOST_TEST(*owned == 7); }
    const int* owned;
  };
  for (bool home_ends : {false, true}) {
    std::optional<asio::io_context> io(std::in_place), handlers(std::in_place);
    task_group g(io->get_executor(), group_options{.limit = 1});
    g.spawn([]() -> awaitable<void> { co_await forever(); });
    auto owned = std::make_unique<int>(7);
    auto f = [u = std::make_shared<user>(*owned)] {};
    g.async_spawn(std::move(f),
                  asio::bind_executor(*handlers, [o = std::move(owned)](error_code) {}));
    test::poll(*io);
    (home_ends ? io : handlers).reset();
  }
}

BOOST_AUTO_TEST_CASE(a_scope_whose_handlers_context_ends_first_is_cancelled) {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  asio::io_context io;
  std::optional<asio::io_context> handlers(std::in_place);
  auto body = [&alive](task_group& g) -> awaitable<void> {
    g.spawn([l = live(alive)]() -> awaitable<void> { co_await forever(); });
    co_await forever();
  };
  async_scope(
      io, group_options(), body,
      asio::bind_executor(*handlers, [&calls, l = live(alive)](std::exception_ptr) { ++calls; }));
  test::poll(io);
  handlers.reset();
  test::run(io); // ends: everything was cancelled
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
}

// --- tokens, executors, cancellation ------------------------------------------------------------

namespace {

struct group_fixture {
  test::background object;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::optional<event> e{std::in_place, executor};
  std::optional<task_group> g{std::in_place, executor, group_options{.limit = 1}};
  std::atomic<int> ran{0};

  void proceed() { e->set(); }
  void settle() { object.finish(); }
  void destroy() { g.reset(); }
  void restored() {
    BOOST_TEST(g->size() == 0u);
    BOOST_TEST(g->pending() == 0u);
  }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }
};

struct spawn_fixture : group_fixture {
  spawn_fixture() {
    g->spawn([this] { return e->wait(); });
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto child = [this] { ++ran; };
    return g->async_spawn(std::move(child), std::forward<Token>(token));
  }
};

struct free_spawn_fixture : group_fixture {
  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto child = [this] { ++ran; };
    return g->async_spawn(std::move(child), std::forward<Token>(token));
  }
};

struct closed_spawn_fixture : free_spawn_fixture {
  closed_spawn_fixture() { g->close(); }
};

struct join_fixture : group_fixture {
  bool fails = false;

  explicit join_fixture(bool failing = false) : fails(failing) {
    g->spawn([this]() -> awaitable<void> {
      co_await e->wait();
      if (fails) throw failure(11);
    });
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return g->async_join(std::forward<Token>(token));
  }
};

// A scope whose body waits for the event and has a child that does so too.
struct scope_fixture : group_fixture {
  bool fails = false;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto body = [this](task_group& inner) -> awaitable<int> {
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
      inner.spawn([this]() -> awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        co_await e->wait();
      });
      co_await e->wait();
      if (fails) throw failure(11);
      co_return 42;
    };
    return async_scope(executor, group_options(), std::move(body), std::forward<Token>(token));
  }
};

auto no_code = [](error_code ec) { BOOST_TEST(!ec); };
auto no_error = [](std::exception_ptr e) { BOOST_TEST(!e); };
auto expect_42 = [](std::exception_ptr e, int n) {
  BOOST_TEST(number_of(e) == 0);
  BOOST_TEST(n == 42);
};

} // namespace

BOOST_AUTO_TEST_CASE(every_token_spawns_at_once) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<free_spawn_fixture>(); },
                                       no_code);
}

BOOST_AUTO_TEST_CASE(every_token_spawns_after_a_wait) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<spawn_fixture>(); }, no_code);
}

BOOST_AUTO_TEST_CASE(every_token_reports_a_closed_group) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<closed_spawn_fixture>(); },
                                       [](error_code ec) { BOOST_TEST((ec == errc::closed)); });
}

BOOST_AUTO_TEST_CASE(every_token_joins) {
  test::token_matrix<void(std::exception_ptr)>([] { return std::make_unique<join_fixture>(); },
                                               no_error);
}

BOOST_AUTO_TEST_CASE(every_token_reports_a_failure_of_a_join) {
  test::token_matrix<void(std::exception_ptr)>(
      [] { return std::make_unique<join_fixture>(true); },
      [](std::exception_ptr e) { BOOST_TEST(number_of(e) == 11); });
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_scope) {
  test::token_matrix<void(std::exception_ptr, int)>(
      [] { return std::make_unique<scope_fixture>(); }, expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_failure_of_a_scope) {
  auto make = [] {
    auto f = std::make_unique<scope_fixture>();
    f->fails = true;
    return f;
  };
  test::token_matrix<void(std::exception_ptr, int)>(
      make, [](std::exception_ptr e, int) { BOOST_TEST(number_of(e) == 11); });
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  test::executor_matrix([] { return std::make_unique<free_spawn_fixture>(); }, no_code);
  test::executor_matrix([] { return std::make_unique<spawn_fixture>(); }, no_code);
  test::executor_matrix([] { return std::make_unique<join_fixture>(); }, no_error);
  test::executor_matrix([] { return std::make_unique<scope_fixture>(); }, expect_42);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(what_need_not_wait_completes_on_an_associated_immediate_executor) {
  BOOST_TEST(
      test::completes_at_once([] { return std::make_unique<free_spawn_fixture>(); }, no_code));
  BOOST_TEST(test::completes_at_once([] { return std::make_unique<closed_spawn_fixture>(); },
                                     [](error_code ec) { BOOST_TEST((ec == errc::closed)); }));
  BOOST_TEST(!test::completes_at_once([] { return std::make_unique<spawn_fixture>(); }, no_code));
  BOOST_TEST(!test::completes_at_once([] { return std::make_unique<join_fixture>(); }, no_error));
}
#endif

BOOST_AUTO_TEST_CASE(a_waiting_async_spawn_can_be_cancelled_at_any_time) {
  test::cancellation_matrix([] { return std::make_unique<spawn_fixture>(); }, no_code);
}

BOOST_AUTO_TEST_CASE(a_join_can_be_cancelled_at_any_time) {
  test::cancellation_matrix([] { return std::make_unique<join_fixture>(); }, no_error);
}

BOOST_AUTO_TEST_CASE(a_scope_can_be_cancelled_at_any_time) {
  test::cancellation_matrix([] { return std::make_unique<scope_fixture>(); }, expect_42);
}

BOOST_AUTO_TEST_CASE(completion_and_cancellation_exclude_each_other) {
  const int rounds = test::scaled(150);
  test::cancellation_race([] { return std::make_unique<spawn_fixture>(); }, no_code, rounds);
  test::cancellation_race([] { return std::make_unique<join_fixture>(); }, no_error, rounds);
  test::cancellation_race([] { return std::make_unique<scope_fixture>(); }, expect_42, rounds);
}

BOOST_AUTO_TEST_CASE(cancelling_a_join_abandons_only_the_wait) {
  asio::io_context io;
  task_group g(io);
  event e(io.get_executor());
  asio::cancellation_signal signal;
  int first = 0;
  bool second = false, ran = false;
  g.spawn([&]() -> awaitable<void> {
    co_await e.wait();
    ran = true;
  });
  g.async_join(asio::bind_cancellation_slot(signal.slot(),
                                            [&](std::exception_ptr x) { first = number_of(x); }));
  g.async_join([&](std::exception_ptr x) { second = !x; });
  signal.emit(asio::cancellation_type::terminal);
  test::poll(io);
  BOOST_TEST(first == -1);
  BOOST_TEST(g.size() == 1u);
  BOOST_TEST(!second);
  e.set();
  test::run(io);
  BOOST_TEST(ran);
  BOOST_TEST(second);
}

// --- threads ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(no_child_outlives_its_scope_whatever_happens) {
  on_every_executor([](auto& place) {
    const int rounds = test::scaled(600);
    occupancy children;
    std::atomic<int> violations{0}, completions{0};
    std::vector<std::unique_ptr<asio::cancellation_signal>> signals;
    for (int round = 0; round != rounds; ++round) {
      auto inside = std::make_shared<std::atomic<int>>(0);
      auto body = [=, &children](task_group& g) -> awaitable<int> {
        for (int i = 0; i != 6; ++i) {
          auto child = [=, &children, &g]() -> awaitable<void> {
            struct guard {
              std::atomic<int>& n;
              explicit guard(std::atomic<int>& m) : n(m) { ++n; }
              ~guard() { --n; }
            } in(*inside);
            occupancy::visit v(children);
            co_await yield_turns((round + i) % 4);
            switch ((round * 7 + i) % 11) {
            case 0:
              throw failure(1);
            case 1:
              g.cancel();
              break;
            case 2: {
              asio::steady_timer timer(co_await asio::this_coro::executor,
                                       std::chrono::microseconds(300));
              co_await timer.async_wait(use_awaitable);
              break;
            }
            case 3:
              g.close();
              break;
            default:
              break;
            }
          };
          if (i % 2) {
            (void)g.try_spawn(child);
          } else {
            auto [ec] = co_await g.async_spawn(child, asio::as_tuple(use_awaitable));
            (void)ec;
          }
        }
        if (round % 5 == 0) throw failure(2);
        g.cancel();
        co_return 1;
      };
      signals.push_back(std::make_unique<asio::cancellation_signal>());
      async_scope(
          place.executor(), group_options{.limit = static_cast<std::size_t>(1 + round % 4)}, body,
          asio::bind_cancellation_slot(signals.back()->slot(),
                                       [=, &violations, &completions](std::exception_ptr, int) {
                                         if (*inside != 0) ++violations;
                                         ++completions;
                                       }));
      if (round % 3 == 0)
        signals[static_cast<std::size_t>(round / 2)]->emit(asio::cancellation_type::terminal);
    }
    place.finish();
    BOOST_TEST(completions == rounds);
    BOOST_TEST(violations == 0);
    BOOST_TEST(children.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(of_two_cancellations_at_one_time_every_child_sees_both) {
  for (int round = 0; round != test::scaled(400); ++round) {
    bulkhead::pool p(3);
    task_group g(p);
    std::atomic<int> started{0};
    for (int i = 0; i != 5; ++i)
      g.spawn([&]() -> awaitable<void> {
        ++started;
        co_await forever(); // ends at a terminal cancellation only
      });
    wait_until([&] { return started == 5; });
    std::latch go(2);
    std::thread other([&] {
      go.arrive_and_wait();
      g.cancel(round % 2 ? asio::cancellation_type::partial : asio::cancellation_type::total);
    });
    go.arrive_and_wait();
    g.cancel();
    other.join();
    auto f = g.async_join(asio::use_future);
    BOOST_TEST(ended_with(f) == 0); // a hang: a child has missed the terminal one
  }
}

BOOST_AUTO_TEST_CASE(a_child_whose_foreign_context_ends_is_lost_but_not_waited_for) {
  asio::io_context io;
  std::atomic<int> alive{0};
  std::optional<asio::io_context> foreign(std::in_place);
  auto timer =
      std::make_unique<asio::steady_timer>(*foreign, asio::steady_timer::time_point::max());
  task_group g(io);
  int result = 0;
  g.spawn([&, l = live(alive)]() -> awaitable<void> { co_await timer->async_wait(use_awaitable); });
  g.async_join([&](std::exception_ptr e) { result = number_of(e); });
  test::poll(io);
  timer.reset(); // its wait is over now, but nobody runs what follows from that
  foreign.reset();
  test::run(io);
  BOOST_TEST(result == -1);
  BOOST_TEST(alive == 0);
}

BOOST_AUTO_TEST_CASE(a_lost_child_is_a_failure_that_cancels_the_others) {
  asio::io_context io;
  std::optional<asio::io_context> foreign(std::in_place);
  auto timer =
      std::make_unique<asio::steady_timer>(*foreign, asio::steady_timer::time_point::max());
  occupancy inside;
  int result = 0;
  auto body = [&](task_group& g) -> awaitable<void> {
    g.spawn([&]() -> awaitable<void> { co_await timer->async_wait(use_awaitable); });
    g.spawn([&]() -> awaitable<void> {
      occupancy::visit v(inside);
      co_await forever();
    });
    co_await forever();
  };
  async_scope(io, group_options(), body, [&](std::exception_ptr e) { result = number_of(e); });
  test::poll(io);
  BOOST_TEST(inside.now() == 1);
  timer.reset();
  foreign.reset();
  test::run(io);
  BOOST_TEST(result == -1);
  BOOST_TEST(inside.now() == 0);
}

BOOST_AUTO_TEST_CASE(children_on_a_strand_run_one_at_a_time) {
  bulkhead::pool p(4);
  auto strand = asio::make_strand(p.get_executor());
  int unprotected = 0;
  auto body = [&](task_group& g) -> awaitable<void> {
    for (int i = 0; i != 50; ++i)
      g.spawn([&]() -> awaitable<void> {
        for (int n = 0; n != 20; ++n) {
          ++unprotected;
          co_await yield_turns();
        }
      });
    co_return;
  };
  auto f = async_scope(strand, group_options(), body, asio::use_future);
  BOOST_TEST(ended_with(f) == 0);
  BOOST_TEST(unprotected == 1000);
}

BOOST_AUTO_TEST_CASE(a_group_is_shared_by_many_threads) {
  on_every_executor([](auto& place) {
    const int each = test::scaled(3000);
    task_group g(place.executor(), group_options{.limit = 8});
    std::atomic<int> ran{0}, refusals{0};
    auto work = asio::make_work_guard(place.executor());
    std::vector<std::thread> threads;
    for (int t = 0; t != 3; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i != each; ++i) {
          auto child = [&] { ++ran; };
          switch ((i + t) % 3) {
          case 0:
            g.spawn(child);
            break;
          case 1:
            if (!g.try_spawn(child)) ++refusals;
            break;
          default:
            g.async_spawn(child, [](error_code) {});
            break;
          }
          (void)g.size();
          (void)g.pending();
        }
      });
    for (auto& t : threads) t.join();
    work.reset();
    auto f = g.async_join(asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(ran + refusals == 3 * each);
  });
}

BOOST_AUTO_TEST_CASE(a_thousand_children_that_end_at_once_do_not_recurse) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  int ran = 0, depth = 0, deepest = 0;
  for (int i = 0; i != 10'000; ++i)
    g.spawn([&] {
      deepest = std::max(deepest, ++depth);
      ++ran;
      --depth;
    });
  test::run(io);
  BOOST_TEST(ran == 10'000);
  BOOST_TEST(deepest == 1);
}

BOOST_AUTO_TEST_CASE(a_join_may_race_with_the_end_of_its_handlers_context) {
  for (int round = 0; round != test::scaled(500); ++round) {
    std::atomic<int> alive{0};
    test::background home;
    task_group g(home.context());
    event e(home.context().get_executor());
    std::optional<asio::io_context> handlers(std::in_place);
    g.spawn([&] { return e.wait(); });
    g.async_join(asio::bind_executor(*handlers, [l = live(alive)](std::exception_ptr) {}));
    e.set();
    handlers.reset();
    BOOST_TEST(alive == 0);
    home.finish();
  }
}
