//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What runs the children of groups is used again and again, on many threads and for many contexts.
// None of it may show: each child is as if it were the first. And deadlocks within a group.

#include "support/places.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/map.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::awaitable;
using asio::cancellation_type;
using asio::use_awaitable;
using bulkhead::async_scope;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::group_options;
using bulkhead::group_stats;
using bulkhead::on_error;
using bulkhead::task_group;
using test::ended_with;
using test::event;
using test::failure;
using test::forever;
using test::live;
using test::number_of;
using test::on_every_executor;
using test::yield_turns;

namespace {

const error_code aborted = asio::error::operation_aborted;
constexpr auto tuple_awaitable = asio::as_tuple(use_awaitable);

error_code code_of(const std::exception_ptr& p) {
  if (!p) return {};
  try {
    std::rethrow_exception(p);
  } catch (const bulkhead::system_error& e) {
    return e.code();
  } catch (...) {
    return make_error_code(boost::system::errc::invalid_argument);
  }
}

bool is(const group_stats& s, std::size_t running, std::size_t pending, std::uint64_t spawned,
        std::uint64_t completed, std::uint64_t failed, std::uint64_t cancelled) {
  const bool same = s.running == running && s.pending == pending && s.spawned == spawned &&
                    s.completed == completed && s.failed == failed && s.cancelled == cancelled;
  BOOST_TEST_INFO("running " << s.running << ", pending " << s.pending << ", spawned " << s.spawned
                             << ", completed " << s.completed << ", failed " << s.failed
                             << ", cancelled " << s.cancelled);
  BOOST_TEST(same);
  return same;
}

} // namespace

// --- async_spawn that could never end -----------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_last_child_of_all_that_wait_for_a_slot_is_told_so_and_the_group_goes_on) {
  on_every_executor([](auto& place) {
    constexpr int n = 4;
    std::atomic<int> in_flight{0}, deadlocks{0}, accepted{0}, other{0}, ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      auto child = [&]() -> awaitable<void> {
        ++in_flight;
        while (in_flight != n) co_await yield_turns();
        auto grandchild = [&] { ++ran; };
        auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
        ++(ec == errc::would_deadlock ? deadlocks : !ec ? accepted : other);
      };
      for (int i = 0; i != n; ++i) g.spawn(child);
      co_return;
    };
    auto f = async_scope(place.executor(), group_options{.limit = n}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(deadlocks >= 1);
    BOOST_TEST(accepted + deadlocks == n);
    BOOST_TEST(ran == accepted);
    BOOST_TEST(other == 0);
    if (!place.parallel) BOOST_TEST(deadlocks == 1);
  });
}

BOOST_AUTO_TEST_CASE(a_child_that_alone_fills_its_group_is_told_at_once) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  std::optional<error_code> result;
  g.spawn([&]() -> awaitable<void> {
    auto grandchild = [] {};
    auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
    result = ec;
  });
  auto f = g.async_join(asio::use_future);
  test::run(io);
  BOOST_TEST((result == errc::would_deadlock));
  BOOST_TEST(ended_with(f) == 0);
  BOOST_TEST(g.size() + g.pending() == 0u);
}

BOOST_AUTO_TEST_CASE(the_body_and_those_outside_may_always_wait_for_a_slot) {
  asio::io_context io;
  event e(io.get_executor());
  std::string log;
  auto body = [&](task_group& g) -> awaitable<void> {
    g.spawn([&]() -> awaitable<void> {
      co_await e.wait();
      log += 'a';
      auto grandchild = [] {};
      auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
      if (ec == errc::would_deadlock) log += 'd'; // the child itself: the body's wait ends no child
    });
    g.async_spawn([&] { log += 'x'; }, [&](error_code ec) { log += ec ? 'E' : 'o'; });
    auto child = [&] { log += 'b'; };
    auto [ec] = co_await g.async_spawn(child, tuple_awaitable);
    if (ec) log += 'E';
  };
  auto f = async_scope(io, group_options{.limit = 1}, body, asio::use_future);
  test::poll(io);
  BOOST_TEST(log == "");
  e.set();
  test::run(io);
  BOOST_TEST(ended_with(f) == 0);
  BOOST_TEST(log.find('E') == std::string::npos, log);
  BOOST_TEST(log.substr(0, 2) == "ad", log);
  BOOST_TEST(log.size() == 5u, log);
}

BOOST_AUTO_TEST_CASE(a_child_may_wait_for_a_slot_while_another_one_does_not) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  event e(io.get_executor());
  std::optional<error_code> result;
  int ran = 0;
  g.spawn([&]() -> awaitable<void> {
    auto grandchild = [&] { ++ran; };
    auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
    result = ec;
  });
  g.spawn([&] { return e.wait(); });
  test::poll(io);
  BOOST_TEST(!result);
  is(g.stats(), 2, 1, 2, 0, 0, 0);
  e.set();
  test::run(io);
  BOOST_TEST((result == error_code()));
  BOOST_TEST(ran == 1);
}

BOOST_AUTO_TEST_CASE(a_wait_within_a_scope_of_a_child_is_the_childs) {
  for (int kind = 0; kind != 4; ++kind) BOOST_TEST_CONTEXT("kind " << kind) {
      asio::io_context io;
      task_group g(io, group_options{.limit = 1});
      std::optional<error_code> result;
      auto ask = [&]() -> awaitable<void> {
        auto grandchild = [] {};
        auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
        result = ec;
      };
      g.spawn([&]() -> awaitable<void> {
        auto body = [&](task_group& inner) -> awaitable<void> {
          if (kind == 0) co_await ask();
          if (kind == 1) inner.spawn(ask);
          if (kind == 2) {
            auto innermost = [&](task_group& last) -> awaitable<void> {
              last.spawn(ask);
              co_return;
            };
            co_await async_scope(group_options(), innermost, use_awaitable);
          }
        };
        if (kind != 3) {
          co_await async_scope(group_options(), body, use_awaitable);
        } else {
          auto f = [&](int) { return ask(); };
          co_await bulkhead::async_for_each(std::views::iota(0, 1), 1, f, use_awaitable);
        }
      });
      test::run(io);
      BOOST_TEST((result == errc::would_deadlock));
      BOOST_TEST(g.size() == 0u);
    }
}

BOOST_AUTO_TEST_CASE(a_wait_for_a_slot_that_was_cancelled_is_counted_no_more) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  event e(io.get_executor()), go(io.get_executor());
  asio::cancellation_signal signal;
  std::optional<error_code> first, second;
  g.spawn([&]() -> awaitable<void> {
    auto grandchild = [] {};
    const asio::any_io_executor ex = co_await asio::this_coro::executor;
    g.async_spawn(grandchild,
                  asio::bind_cancellation_slot(
                      signal.slot(), asio::bind_executor(ex, [&](error_code ec) { first = ec; })));
    co_await e.wait();
  });
  g.spawn([&]() -> awaitable<void> {
    co_await go.wait();
    auto grandchild = [] {};
    auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
    second = ec;
  });
  test::poll(io);
  BOOST_TEST(g.pending() == 1u);
  signal.emit(cancellation_type::total);
  test::poll(io);
  BOOST_TEST((first == aborted));
  go.set();
  test::poll(io);
  BOOST_TEST(!second); // it waits: the other one does not
  e.set();
  test::run(io);
  BOOST_TEST((second == error_code()));
}

BOOST_AUTO_TEST_CASE(a_child_that_ends_while_its_waits_go_on_is_counted_no_more) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 2});
  event e(io.get_executor()), go(io.get_executor()), end(io.get_executor());
  std::optional<error_code> result;
  int accepted = 0;
  g.spawn([&]() -> awaitable<void> { // two waits, which it does not wait for
    const asio::any_io_executor ex = co_await asio::this_coro::executor;
    for (int i = 0; i != 2; ++i)
      g.async_spawn([&] { return e.wait(); },
                    asio::bind_executor(ex, [&](error_code ec) { accepted += !ec; }));
    co_await end.wait();
  });
  g.spawn([&]() -> awaitable<void> {
    co_await go.wait();
    auto grandchild = [] {};
    auto [ec] = co_await g.async_spawn(grandchild, tuple_awaitable);
    result = ec;
  });
  test::poll(io);
  BOOST_TEST(g.pending() == 2u);
  end.set();
  test::poll(io);
  BOOST_TEST(accepted == 1);
  go.set();
  test::poll(io);
  BOOST_TEST(!result); // somebody is in flight who does not wait
  e.set();
  test::run(io);
  BOOST_TEST((result == error_code()));
  BOOST_TEST(accepted == 2);
  BOOST_TEST(g.size() == 0u);
}

BOOST_AUTO_TEST_CASE(nobody_is_told_of_a_deadlock_while_there_is_none) {
  on_every_executor([](auto& place) {
    constexpr int spawners = 3;
    const int each = test::scaled(4000);
    std::atomic<int> busy{spawners}, errors{0}, ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&]() -> awaitable<void> { // in flight all the time, and waits for no slot
        while (busy != 0) co_await yield_turns();
      });
      for (int i = 0; i != spawners; ++i)
        g.spawn([&, i]() -> awaitable<void> {
          for (int n = 0; n != each; ++n) {
            auto quick = [&] { ++ran; };
            auto slow = [&]() -> awaitable<void> {
              co_await yield_turns();
              ++ran;
            };
            auto nested = [&](task_group&) -> awaitable<void> {
              auto [ec] = co_await g.async_spawn(slow, tuple_awaitable);
              if (ec) ++errors;
            };
            if ((n + i) % 5 == 0) {
              co_await async_scope(group_options(), nested, use_awaitable);
            } else if (n % 2) {
              auto [ec] = co_await g.async_spawn(quick, tuple_awaitable);
              if (ec) ++errors;
            } else {
              auto [ec] = co_await g.async_spawn(slow, tuple_awaitable);
              if (ec) ++errors;
            }
          }
          --busy;
        });
      co_return;
    };
    auto f =
        async_scope(place.executor(), group_options{.limit = spawners + 2}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(errors == 0);
    BOOST_TEST(ran == spawners * each);
  });
}

// --- async_join that could never end ------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_child_that_joins_its_own_group_is_told_so) {
  on_every_executor([](auto& place) {
    std::atomic<int> told{0}, others{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      auto ask = [&]() -> awaitable<void> {
        auto [e] = co_await g.async_join(tuple_awaitable);
        ++(code_of(e) == errc::would_deadlock ? told : others);
      };
      g.spawn(ask);
      g.spawn([&, ask]() -> awaitable<void> {
        auto nested = [&](task_group& inner) -> awaitable<void> {
          inner.spawn(ask);
          co_await ask();
        };
        co_await async_scope(group_options(), nested, use_awaitable);
        auto f = [&](int) { return ask(); };
        co_await bulkhead::async_for_each(std::views::iota(0, 2), 2, f, use_awaitable);
      });
      co_return;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(told == 5);
    BOOST_TEST(others == 0);
  });
}

BOOST_AUTO_TEST_CASE(the_body_and_those_outside_and_the_owner_of_an_inner_group_may_join) {
  on_every_executor([](auto& place) {
    std::atomic<int> ended{0}, errors{0}, early{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      auto child = [&]() -> awaitable<void> {
        task_group inner(co_await asio::this_coro::executor);
        std::atomic<bool> over{false};
        inner.spawn([&]() -> awaitable<void> {
          co_await yield_turns(5);
          over = true;
        });
        auto [e] = co_await inner.async_join(tuple_awaitable);
        if (e) ++errors;
        if (!over) ++early;
        ++ended;
      };
      for (int i = 0; i != 3; ++i) g.spawn(child);
      auto [e] = co_await g.async_join(tuple_awaitable);
      if (e) ++errors;
      if (ended != 3) ++early;
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(errors == 0);
    BOOST_TEST(early == 0);
  });
}

BOOST_AUTO_TEST_CASE(who_has_outlived_a_child_may_join_its_group) {
  // A group made by a child, and kept beyond the child's end, is no part of the child that comes
  // next.
  asio::io_context io;
  task_group g(io, group_options{.limit = 1});
  event e(io.get_executor()), ask(io.get_executor());
  std::unique_ptr<task_group> inner;
  std::optional<error_code> joined, spawned;
  g.spawn([&]() -> awaitable<void> {
    inner = std::make_unique<task_group>(co_await asio::this_coro::executor);
    inner->spawn([&]() -> awaitable<void> {
      co_await ask.wait();
      auto child = [] {};
      auto [ec] = co_await g.async_spawn(child, tuple_awaitable);
      spawned = ec;
      auto [x] = co_await g.async_join(tuple_awaitable);
      joined = code_of(x);
    });
  });
  g.spawn([&] { return e.wait(); });
  test::poll(io);
  BOOST_TEST(g.size() == 1u);
  ask.set();
  test::poll(io);
  BOOST_TEST(!spawned);
  e.set();
  test::run(io);
  BOOST_TEST((spawned == error_code()));
  BOOST_TEST((joined == error_code()));
}

// --- stats --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(stats_count_every_child_once) {
  for (on_error policy : {on_error::cancel_siblings, on_error::collect}) {
    const bool collects = policy == on_error::collect;
    BOOST_TEST_CONTEXT((collects ? "collect" : "cancel_siblings")) {
      asio::io_context io;
      task_group g(io, group_options{.limit = 2, .error = policy});
      event e(io.get_executor());
      is(g.stats(), 0, 0, 0, 0, 0, 0);
      g.spawn([&] { return e.wait(); });
      is(g.stats(), 1, 0, 1, 0, 0, 0);
      g.spawn([&] { return forever(); });
      g.spawn([] { throw failure(1); });
      g.spawn([] {});
      is(g.stats(), 2, 2, 4, 0, 0, 0);
      BOOST_TEST(!g.try_spawn([] {})); // not accepted
      int accepted = 0, refused = 0;
      g.async_spawn([] {}, [&](error_code ec) { ++(ec ? refused : accepted); });
      is(g.stats(), 2, 3, 4, 0, 0, 0); // counted when it starts
      test::poll(io);
      is(g.stats(), 2, 3, 4, 0, 0, 0);
      e.set();
      test::poll(io);
      if (collects) {
        is(g.stats(), 1, 0, 5, 3, 1, 0);
        BOOST_TEST(accepted == 1);
        g.cancel();
        test::poll(io);
        is(g.stats(), 0, 0, 5, 3, 1, 1);
      } else { // the failure cancels the other three, one of them was no more than asked for
        is(g.stats(), 0, 0, 4, 1, 1, 2);
        BOOST_TEST(refused == 1);
      }
      test::run(io);
      BOOST_TEST(g.errors().size() == 1u);
    }
  }
}

BOOST_AUTO_TEST_CASE(stats_of_cancelled_and_closed_groups) {
  for (on_error policy : {on_error::cancel_siblings, on_error::collect}) {
    asio::io_context io;
    task_group g(io, group_options{.limit = 1, .error = policy});
    g.spawn([&]() -> awaitable<void> { // ends with something else after a cancellation: failed
      bool stopped = false;
      try {
        co_await forever();
      } catch (const bulkhead::system_error&) {
        stopped = true;
      }
      if (stopped) throw failure(3);
    });
    g.spawn([] {});
    g.async_spawn([] {}, [](error_code) {});
    test::poll(io);
    g.cancel(cancellation_type::partial); // drops what has not started
    is(g.stats(), 1, 0, 2, 0, 0, 1);
    g.spawn([] {});
    g.async_spawn([] {}, [](error_code) {});
    is(g.stats(), 1, 2, 3, 0, 0, 1);
    g.close();
    is(g.stats(), 1, 1, 3, 0, 0, 1);
    g.cancel();
    is(g.stats(), 1, 0, 3, 0, 0, 2);
    test::run(io);
    is(g.stats(), 0, 0, 3, 0, 1, 2);
  }
}

BOOST_AUTO_TEST_CASE(stats_of_a_scope_do_not_count_the_body) {
  asio::io_context io;
  group_stats inside{}, after{};
  auto body = [&](task_group& g) -> awaitable<void> {
    g.spawn([] {});
    inside = g.stats();
    co_await g.async_join();
    after = g.stats();
  };
  auto f = async_scope(io, group_options(), body, asio::use_future);
  test::run(io);
  BOOST_TEST(ended_with(f) == 0);
  is(inside, 1, 0, 1, 0, 0, 0);
  is(after, 0, 0, 1, 1, 0, 0);
}

// --- async_spawn that need not wait -------------------------------------------------------------

BOOST_AUTO_TEST_CASE(async_spawn_in_a_coroutine_suspends_only_if_it_has_to_wait) {
  asio::io_context io;
  int violations = 0, waits = 0;
  event first(io.get_executor()), second(io.get_executor()), last(io.get_executor());
  auto body = [&](task_group& g) -> awaitable<void> {
    auto wait_for_first = [&] { return first.wait(); };
    auto wait_for_second = [&] { return second.wait(); };
    auto child = [&] { return last.wait(); };
    for (int i = 0; i != 2; ++i) {
      bool others = false;
      asio::post(io, [&] { others = true; });
      if (i == 0) {
        co_await g.async_spawn(wait_for_first, use_awaitable);
      } else {
        auto [ec] = co_await g.async_spawn(wait_for_second, tuple_awaitable);
        if (ec) ++violations;
      }
      if (others || g.size() != static_cast<std::size_t>(i + 1)) ++violations;
      co_await yield_turns();
      if (!others) ++violations;
    }
    for (int i = 0; i != 2; ++i) {
      bool others = false;
      asio::post(io, [&] {
        others = true;
        asio::post(io, [&, i] { (i == 0 ? first : second).set(); });
      });
      if (i == 0) {
        co_await g.async_spawn(child);
      } else {
        auto [ec] = co_await g.async_spawn(child, tuple_awaitable);
        if (ec) ++violations;
      }
      if (others) ++waits;
    }
    g.close();
    bool others = false;
    asio::post(io, [&] { others = true; });
    auto [ec] = co_await g.async_spawn(child, tuple_awaitable);
    if (others || ec != errc::closed) ++violations;
    last.set();
    co_await yield_turns();
  };
  auto f = async_scope(io, group_options{.limit = 2}, body, asio::use_future);
  test::run(io);
  BOOST_TEST(ended_with(f) == 0);
  BOOST_TEST(violations == 0);
  BOOST_TEST(waits == 2);
}

// --- no child sees anything of the one before ---------------------------------------------------

BOOST_AUTO_TEST_CASE(the_executor_of_a_child_that_has_ended_stays_usable_and_its_own) {
  asio::thread_pool threads(2);
  asio::any_io_executor kept;
  for (int round = 0; round != 50; ++round) {
    {
      task_group g(threads);
      g.spawn([&]() -> awaitable<void> { kept = co_await asio::this_coro::executor; });
      g.async_join(asio::use_future).get();
    }
    // Whoever blocks in another group blocks nobody here.
    task_group other(threads);
    test::gate open;
    std::atomic<int> same{0};
    other.spawn([&]() -> awaitable<void> {
      if (co_await asio::this_coro::executor == kept) ++same;
      open.wait();
    });
    test::slot<void> ran;
    asio::post(kept, [&] { ran.set_value(); });
    ran.get();
    open.open();
    other.async_join(asio::use_future).get();
    BOOST_TEST(same == 0);
  }
}

BOOST_AUTO_TEST_CASE(an_io_object_may_outlive_the_child_that_made_it) {
  on_every_executor([](auto& place) {
    std::unique_ptr<asio::steady_timer> timer;
    std::atomic<int> fired{0}, next{0};
    {
      task_group g(place.executor());
      auto work = asio::prefer(place.executor(), asio::execution::outstanding_work.tracked);
      g.spawn([&]() -> awaitable<void> {
        timer = std::make_unique<asio::steady_timer>(co_await asio::this_coro::executor,
                                                     asio::steady_timer::time_point::max());
        timer->async_wait([&](error_code ec) { fired += ec == aborted; });
      });
      g.async_join([&](std::exception_ptr) {
        asio::post(timer->get_executor(), [&] {
          timer->cancel();
          g.spawn([&] { ++next; });
          work = {};
        });
      });
      place.finish();
    }
    BOOST_TEST(fired == 1);
    BOOST_TEST(next == 1);
    timer.reset();
  });
}

BOOST_AUTO_TEST_CASE(a_cancellation_meant_for_one_child_never_reaches_the_next) {
  for (auto type : {cancellation_type::partial, cancellation_type::total}) {
    asio::io_context io;
    task_group g(io, group_options{.limit = 1});
    event e(io.get_executor());
    auto seen = cancellation_type::none;
    int ran = 0;
    auto second = [&]() -> awaitable<void> {
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await yield_turns(5);
      seen = (co_await asio::this_coro::cancellation_state).cancelled();
      ++ran;
    };
    g.spawn([&] { return e.wait(); });
    test::poll(io);
    e.set();        // its next step ends it,
    g.cancel(type); // and the signal comes after that
    g.spawn(second);
    test::run(io);
    BOOST_TEST(ran == 1);
    BOOST_TEST((seen == cancellation_type::none));
  }
}

BOOST_AUTO_TEST_CASE(a_child_spawned_after_a_cancellation_is_not_cancelled_by_it) {
  on_every_executor([](auto& place) {
    const int rounds = test::scaled(1000);
    task_group g(place.executor(), group_options{.limit = 2});
    auto work = asio::prefer(place.executor(), asio::execution::outstanding_work.tracked);
    std::atomic<int> hit{0};
    std::atomic<int> before{0};
    std::thread other([&] {
      for (int i = 0; i != rounds; ++i) {
        // Those before may be cancelled, these not: they are no longer there when the next comes.
        auto child = [&]() -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          co_await asio::this_coro::throw_if_cancelled(false);
          co_await yield_turns(2);
          asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
          if (state.cancelled() != cancellation_type::none) ++hit;
        };
        auto victim = [&]() -> awaitable<void> {
          ++before;
          co_await yield_turns();
        };
        g.spawn(victim);
        g.cancel(cancellation_type::total);
        g.spawn(child);
        test::slot<void> joined;
        g.async_join([&](std::exception_ptr) { joined.set_value(); });
        joined.get();
      }
      work = {};
    });
    place.finish();
    other.join();
    BOOST_TEST(hit == 0);
  });
}

BOOST_AUTO_TEST_CASE(what_a_child_does_to_its_cancellation_state_ends_with_it) {
  on_every_executor([](auto& place) {
    std::atomic<int> wrong{0}, ended{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 20; ++i) {
        g.spawn([&, i]() -> awaitable<void> {
          auto cs = co_await asio::this_coro::cancellation_state;
          if (cs.cancelled() != cancellation_type::none) ++wrong;
          if (!co_await asio::this_coro::throw_if_cancelled()) ++wrong;
          co_await asio::this_coro::throw_if_cancelled(false);
          co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
          if (i % 3 == 0) throw failure(1);
          if (i % 3 == 1) co_await yield_turns();
        });
      }
      g.spawn([&]() -> awaitable<void> { // hangs, if the filter is still there
        if (!co_await asio::this_coro::throw_if_cancelled()) ++wrong;
        co_await forever();
      });
      while (g.pending() != 0 || g.size() != 1) co_await yield_turns();
      co_await yield_turns();
      g.cancel();
      co_await g.async_join(tuple_awaitable);
      ++ended;
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1, .error = on_error::collect},
                         body, asio::use_future);
    place.finish();
    (void)ended_with(f);
    BOOST_TEST(ended == 1);
    BOOST_TEST(wrong == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_cancelled_child_leaves_no_cancelled_state_to_the_next) {
  on_every_executor([](auto& place) {
    const int rounds = test::scaled(400);
    std::atomic<int> cancelled{0}, wrong{0}, ran{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != rounds; ++i) {
        auto first = [&, i]() -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          if (i % 2) co_await asio::this_coro::throw_if_cancelled(false);
          asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
          while (state.cancelled() == cancellation_type::none) co_await yield_turns();
          ++cancelled;
        };
        auto second = [&]() -> awaitable<void> {
          asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
          if (state.cancelled() != cancellation_type::none) ++wrong;
          co_await yield_turns();
          ++ran;
        };
        g.spawn(first);
        co_await yield_turns(2);
        while (g.size() == 0) co_await yield_turns();
        g.cancel(cancellation_type::total);
        g.spawn(second);
        co_await g.async_join(tuple_awaitable);
      }
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(wrong == 0);
    BOOST_TEST(ran == rounds);
  });
}

BOOST_AUTO_TEST_CASE(
    a_child_that_moves_to_another_executor_and_ends_there_leaves_the_next_at_home) {
  asio::io_context io;
  test::background away(2);
  std::atomic<int> abroad{0}, strangers{0}, ran{0};
  {
    const auto home = std::this_thread::get_id();
    task_group g(io, group_options{.limit = 2});
    for (int i = 0; i != test::scaled(2000); ++i) {
      g.spawn([&, i]() -> awaitable<void> {
        if (std::this_thread::get_id() != home) ++strangers;
        ++ran;
        if (i % 2) {
          co_await asio::post(asio::bind_executor(away.context(), use_awaitable));
          if (std::this_thread::get_id() != home) ++abroad;
        }
      });
      g.spawn([&] {
        if (std::this_thread::get_id() != home) ++strangers;
        ++ran;
      });
    }
    auto f = g.async_join(asio::use_future);
    test::run(io); // ends: nothing has left work behind
    BOOST_TEST(ended_with(f) == 0);
  }
  BOOST_TEST(strangers == 0);
  BOOST_TEST(ran == 2 * test::scaled(2000));
  BOOST_TEST(abroad == test::scaled(2000) / 2);
}

BOOST_AUTO_TEST_CASE(a_child_whose_handler_another_thread_destroys_is_lost_but_not_waited_for) {
  for (int round = 0; round != test::scaled(600); ++round) {
    asio::thread_pool threads(1);
    test::background other;
    std::atomic<int> alive{0};
    task_group g(threads);
    g.spawn([&, l = live(alive)]() -> awaitable<void> {
      auto initiation = [&](auto handler) {
        asio::post(other.context(), [h = std::move(handler)] {}); // and no more
      };
      co_await asio::async_initiate<decltype(use_awaitable), void()>(initiation, use_awaitable);
    });
    auto f = g.async_join(asio::use_future);
    BOOST_TEST(ended_with(f) == -1);
    threads.join();
    BOOST_TEST(alive == 0);
  }
}

// --- nothing outlives a scope -------------------------------------------------------------------

namespace {

/// Takes its time to end, and sees whether the scope completes meanwhile.
struct witness {
  test::counter& ending;
  std::atomic<bool>& completed;
  std::atomic<int>& violations;

  ~witness() {
    ending.add();
    for (int i = 0; i != 200 && !completed; ++i) std::this_thread::yield();
    if (completed) ++violations;
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(the_captures_of_a_child_are_gone_before_its_scope_completes) {
  for (int round = 0; round != test::scaled(100); ++round) {
    asio::thread_pool threads(2);
    std::atomic<bool> completed{false};
    std::atomic<int> violations{0};
    test::counter ending;
    auto body = [&](task_group& g) -> awaitable<void> {
      std::unique_ptr<witness> w(new witness{ending, completed, violations});
      g.spawn([w = std::move(w)] {});
      g.spawn([&] { ending.wait_for(1); }); // ends while the other one is ending
      co_return;
    };
    async_scope(threads, group_options(), body, [&](std::exception_ptr) { completed = true; });
    threads.join();
    BOOST_TEST_REQUIRE(violations == 0);
  }
}

BOOST_AUTO_TEST_CASE(what_a_body_returned_is_gone_before_its_scope_completes_with_a_failure) {
  asio::io_context io, handlers;
  const auto result = std::make_shared<int>(1);
  long uses = 0;
  auto body = [&](task_group& g) -> awaitable<std::shared_ptr<int>> {
    g.spawn([] { throw failure(1); });
    co_return result;
  };
  async_scope(io, group_options(), body,
              asio::bind_executor(handlers, [&](std::exception_ptr e, std::shared_ptr<int>) {
                BOOST_TEST(number_of(e) == 1);
                uses = result.use_count();
              }));
  io.run_one(); // the body, and the child after it; what was posted for that is still to come
  BOOST_TEST(handlers.poll() == 1u);
  BOOST_TEST(uses == 1);
  BOOST_TEST(io.poll() == 1u);
}

BOOST_AUTO_TEST_CASE(the_captures_of_a_child_that_never_started_are_gone_too) {
  for (int round = 0; round != test::scaled(100); ++round) {
    asio::thread_pool threads(2);
    std::atomic<bool> completed{false};
    std::atomic<int> violations{0};
    test::counter started, ending;
    asio::cancellation_signal signal;
    auto body = [&](task_group& g) -> awaitable<void> {
      std::unique_ptr<witness> w(new witness{ending, completed, violations});
      g.spawn([&] {
        started.add();
        ending.wait_for(1); // ends while the other one is being destroyed
      });
      if (round % 2)
        g.spawn([w = std::move(w)] {});
      else
        g.async_spawn([w = std::move(w)] {}, [](error_code) {});
      co_return;
    };
    async_scope(
        threads, group_options{.limit = 1}, body,
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { completed = true; }));
    started.wait_for(1);
    signal.emit(cancellation_type::terminal);
    threads.join();
    BOOST_TEST_REQUIRE(violations == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_child_may_destroy_its_own_group) {
  on_every_executor([](auto& place) {
    std::atomic<int> alive{0}, ended{0};
    auto g = std::make_unique<task_group>(place.executor(), group_options{.limit = 2});
    test::gate begin;
    g->spawn([&, l = live(alive)]() -> awaitable<void> {
      if (place.parallel) begin.wait();
      g.reset();
      ++ended;
      co_await forever(); // until the cancellation comes
    });
    g->spawn([l = live(alive)] { return forever(); });
    g->spawn([l = live(alive)] { return forever(); });
    begin.open();
    place.finish();
    BOOST_TEST(ended == 1);
    BOOST_TEST(alive == 0);
  });
}

// --- contexts and threads that end --------------------------------------------------------------

namespace {

template <class Context>
struct maker;
template <>
struct maker<asio::io_context> {
  asio::io_context context;
  void let_run(const std::atomic<int>& started, int n) {
    while (started != n) test::poll(context);
  }
  void stop() {}
};
template <>
struct maker<asio::thread_pool> {
  asio::thread_pool context{2};
  void let_run(const std::atomic<int>& started, int n) {
    while (started != n) std::this_thread::yield();
  }
  void stop() { context.stop(); }
};
template <>
struct maker<bulkhead::pool> {
  bulkhead::pool context{2};
  void let_run(const std::atomic<int>& started, int n) {
    while (started != n) std::this_thread::yield();
  }
  void stop() { context.stop(); }
};

template <class Context>
void end_with_children(int round) {
  std::atomic<int> alive{0}, started{0}, calls{0};
  std::optional<task_group> g;
  {
    maker<Context> m;
    const bool on_strand = round % 3 == 2;
    auto ex = on_strand ? asio::any_io_executor(asio::make_strand(m.context))
                        : asio::any_io_executor(m.context.get_executor());
    g.emplace(ex, group_options{.limit = 3});
    auto child = [&, l = live(alive)]() -> awaitable<void> {
      ++started;
      live inside(alive);
      co_await forever();
    };
    auto nests = [&, child, l = live(alive)]() -> awaitable<void> {
      live inside(alive);
      auto body = [&](task_group& inner) -> awaitable<void> {
        inner.spawn(child);
        if (round % 4 == 1) co_await g->async_spawn(child); // there is no room
        co_await forever();
      };
      co_await async_scope(group_options(), body, use_awaitable);
    };
    auto leaves_one = [&, l = live(alive)]() -> awaitable<void> { // on its executor
      asio::co_spawn(co_await asio::this_coro::executor, forever(), asio::detached);
    };
    task_group leavers(ex);
    leavers.spawn(leaves_one);
    g->spawn(child);
    g->spawn(child);
    g->spawn(nests);
    g->spawn(child); // pending
    g->async_spawn(child, [&, l = live(alive)](error_code) { ++calls; });
    if (round % 2) m.let_run(started, 3);
    g->async_join([&, l = live(alive)](std::exception_ptr) { ++calls; });
    async_scope(
        ex, group_options(),
        [l = live(alive)](task_group& inner) -> awaitable<void> {
          inner.spawn([] { return forever(); });
          co_await forever();
        },
        [&, l = live(alive)](std::exception_ptr) { ++calls; });
    if (on_strand) {
      // A strand must not be destroyed after its context.
      m.stop();
      if constexpr (requires { m.context.join(); }) m.context.join();
      g.reset();
    }
    m.stop();
  }
  BOOST_TEST(alive == 0);
  // Another one, in this thread.
  asio::io_context io;
  int ran = 0;
  auto body = [&](task_group& inner) -> awaitable<void> {
    for (int i = 0; i != 5; ++i)
      inner.spawn([&]() -> awaitable<void> {
        co_await yield_turns();
        ++ran;
      });
    co_return;
  };
  auto f = async_scope(io, group_options(), body, asio::use_future);
  test::run(io);
  BOOST_TEST(ended_with(f) == 0);
  BOOST_TEST(ran == 5);
  g.reset();
}

} // namespace

BOOST_AUTO_TEST_CASE(an_io_context_may_end_with_children_and_others_go_on) {
  for (int round = 0; round != 12; ++round) end_with_children<asio::io_context>(round);
}

BOOST_AUTO_TEST_CASE(a_thread_pool_may_end_with_children_and_others_go_on) {
  for (int round = 0; round != 12; ++round) end_with_children<asio::thread_pool>(round);
}

BOOST_AUTO_TEST_CASE(a_pool_may_end_with_children_and_others_go_on) {
  for (int round = 0; round != 12; ++round) end_with_children<bulkhead::pool>(round);
}

BOOST_AUTO_TEST_CASE(threads_may_end_while_others_go_on_with_groups) {
  const int rounds = test::scaled(200);
  std::atomic<int> ran{0}, wrong{0};
  std::vector<std::thread> users;
  for (int u = 0; u != 4; ++u)
    users.emplace_back([&, u] {
      for (int round = 0; round != rounds; ++round) {
        std::thread short_lived([&, n = 1 + (round * 7 + u) % 90] {
          asio::io_context io;
          auto body = [&](task_group& g) -> awaitable<void> {
            for (int i = 0; i != n; ++i)
              g.spawn([&]() -> awaitable<void> {
                co_await yield_turns();
                ++ran;
              });
            co_return;
          };
          auto f = async_scope(io, group_options(), body, asio::use_future);
          test::run(io);
          if (ended_with(f) != 0) ++wrong;
        });
        short_lived.join();
      }
    });
  long expected = 0;
  for (int u = 0; u != 4; ++u)
    for (int round = 0; round != rounds; ++round) expected += 1 + (round * 7 + u) % 90;
  for (auto& t : users) t.join();
  BOOST_TEST(ran == expected);
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(a_thread_that_uses_what_others_have_left_leaves_nothing_itself) {
  // It is the leak checker that sees it.
  std::atomic<int> ran{0};
  for (int children : {200, 1, 200, 3}) {
    std::thread t([&] {
      asio::io_context io;
      task_group g(io);
      for (int i = 0; i != children; ++i)
        g.spawn([&]() -> awaitable<void> {
          co_await yield_turns(2);
          ++ran;
        });
      test::run(io);
    });
    t.join();
  }
  BOOST_TEST(ran == 404);
}

BOOST_AUTO_TEST_CASE(an_executor_of_a_child_may_be_kept_until_the_thread_ends) {
  std::atomic<int> ran{0};
  for (int round = 0; round != 20; ++round) {
    asio::io_context io;
    std::thread t([&] {
      // Ends after what the library keeps in this thread.
      static thread_local std::vector<asio::any_io_executor> kept;
      kept.clear();
      task_group g(io);
      for (int i = 0; i != 40; ++i)
        g.spawn([&]() -> awaitable<void> {
          kept.push_back(co_await asio::this_coro::executor);
          ++ran;
          co_await yield_turns();
        });
      test::run(io);
    });
    t.join();
  }
  BOOST_TEST(ran == 20 * 40);
}

// --- children that block ------------------------------------------------------------------------

namespace {

template <class Pool>
void block_for_each_other() {
  for (int round = 0; round != test::scaled(600); ++round) {
    Pool threads(2);
    std::latch both(2);
    std::atomic<int> quick{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      const int before = round % 5, between = round / 5 % 5;
      for (int i = 0; i != before; ++i) g.spawn([&] { ++quick; });
      g.spawn([&] { both.arrive_and_wait(); });
      for (int i = 0; i != between; ++i) g.spawn([&] { ++quick; });
      g.spawn([&] { both.arrive_and_wait(); });
      co_return;
    };
    auto f = async_scope(threads, group_options{.limit = round % 2 ? bulkhead::unbounded : 2}, body,
                         asio::use_future);
    BOOST_TEST(ended_with(f) == 0);
    threads.join();
  }
}

} // namespace

BOOST_AUTO_TEST_CASE(children_that_block_for_each_other_run_in_parallel_on_a_thread_pool) {
  block_for_each_other<asio::thread_pool>();
}

BOOST_AUTO_TEST_CASE(children_that_block_for_each_other_run_in_parallel_on_a_pool) {
  block_for_each_other<bulkhead::pool>();
}

BOOST_AUTO_TEST_CASE(calls_of_a_map_that_block_for_each_other_run_in_parallel) {
  for (int round = 0; round != test::scaled(200); ++round) {
    bulkhead::pool threads(2);
    std::vector<std::unique_ptr<std::latch>> pairs;
    for (int i = 0; i != 8; ++i) pairs.push_back(std::make_unique<std::latch>(2));
    auto f = bulkhead::async_for_each(
        threads, std::views::iota(0, 16), 2,
        [&](int i) { pairs[static_cast<std::size_t>(i / 2)]->arrive_and_wait(); },
        asio::use_future);
    BOOST_TEST(ended_with(f) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_call_begins_although_the_pull_of_the_next_element_takes_long) {
  for (int n : {2, 4})
    for (int round = 0; round != test::scaled(200); ++round) {
      test::counter begun;
      bulkhead::pool threads(static_cast<std::size_t>(n));
      auto elements = std::views::iota(0, 10 * n) | std::views::transform([&](int i) {
                        if (i % n == n - 1) begun.wait_for(i); // all before it
                        return i;
                      });
      auto f = bulkhead::async_for_each(
          threads, elements, static_cast<std::size_t>(n),
          [&](int i) {
            begun.add();
            if (i % n == 0) begun.wait_for(i + n - 1); // all but the last of its n
          },
          asio::use_future);
      BOOST_TEST(ended_with(f) == 0);
    }
}

// --- work ---------------------------------------------------------------------------------------

namespace {

/// Its default constructor, which a scope that failed runs for its handler, takes until it may end.
struct slow_result {
  slow_result() {
    if (!begun) return;
    begun->count_down();
    while (!*may_end) std::this_thread::yield();
    // Whoever waits for this, as he must, does not come before.
    for (int i = 0; i != 1000; ++i) std::this_thread::yield();
    *too_early = context_ended->load();
  }
  explicit slow_result(int) {}

  static inline std::latch* begun = nullptr;
  static inline std::atomic<bool>* may_end = nullptr;
  static inline std::atomic<bool>* context_ended = nullptr;
  static inline std::atomic<bool>* too_early = nullptr;
};

} // namespace

BOOST_AUTO_TEST_CASE(the_context_of_a_handler_ends_only_after_what_is_on_its_way_to_it) {
  std::latch begun(1);
  std::atomic<bool> may_end{false}, ended{false}, too_early{false};
  slow_result::begun = &begun;
  slow_result::may_end = &may_end;
  slow_result::context_ended = &ended;
  slow_result::too_early = &too_early;
  asio::thread_pool pool(2);
  std::optional<asio::io_context> others(std::in_place);
  auto body = [](task_group&) -> awaitable<slow_result> {
    co_await yield_turns();
    throw failure(1);
    co_return slow_result(1);
  };
  async_scope(pool, group_options(), body,
              asio::bind_executor(others->get_executor(), [](std::exception_ptr, slow_result) {}));
  begun.wait();
  may_end = true;
  others.reset();
  ended = true;
  pool.join();
  BOOST_TEST(!too_early);
  slow_result::begun = nullptr;
}

BOOST_AUTO_TEST_CASE(who_has_outlived_a_child_does_not_wait_for_the_next) {
  asio::thread_pool pool(4);
  std::latch done(1);
  task_group g(pool, group_options{.limit = 1});
  auto helper = [&]() -> awaitable<void> {
    co_await yield_turns(10);
    done.count_down();
  };
  g.spawn([&]() -> awaitable<void> {
    asio::co_spawn(co_await asio::this_coro::executor, helper, asio::detached);
  });
  g.spawn([&] { done.wait(); });
  g.async_join(asio::use_future).get();
  pool.join();
  BOOST_TEST(g.stats().completed == 2u);
}

BOOST_AUTO_TEST_CASE(what_escapes_the_first_step_of_a_child_is_the_executors_and_the_others_run) {
  asio::io_context io;
  task_group g(io, group_options{.error = on_error::collect});
  bool ran = false;
  g.spawn([]() -> awaitable<void> {
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
        [](auto&&) { throw failure(4); }, asio::use_awaitable);
  });
  g.spawn([&ran] { ran = true; });
  BOOST_CHECK_THROW(test::run(io), failure);
  BOOST_TEST(!ran);
  test::run(io);
  BOOST_TEST(number_of(g.errors().at(0)) == -1); // it was lost
  BOOST_TEST(g.stats().failed == 1u);
  BOOST_TEST(g.size() == 0u);
}

namespace {

/// Threads' memories of groups are gone when this is destroyed.
struct last_of_all {
  ~last_of_all() {
    asio::io_context io;
    task_group g(io);
    bool ran = false;
    auto child = [&ran]() -> awaitable<void> {
      co_await yield_turns();
      ran = true;
    };
    g.spawn(child);
    io.run();
    if (!ran) std::abort();
  }
} const static_object;

} // namespace

BOOST_AUTO_TEST_CASE(groups_work_while_what_is_static_is_destroyed) {
  (void)static_object; // says so by not aborting when the program ends
}

BOOST_AUTO_TEST_CASE(a_context_runs_out_of_work_when_the_children_have_ended) {
  asio::io_context io;
  task_group g(io);
  for (int i = 0; i != 100; ++i) g.spawn([] { return yield_turns(); });
  test::run(io);
  BOOST_TEST(g.size() == 0u);
  BOOST_TEST(io.stopped());
}

BOOST_AUTO_TEST_CASE(a_child_that_is_suspended_is_work_whatever_it_waits_for) {
  for (bool in_scope : {false, true}) {
    asio::io_context io;
    std::function<void()> complete;
    bool ended = false;
    auto waits = [&]() -> awaitable<void> {
      co_await yield_turns(2);
      auto initiation = [&](auto handler) {
        auto h = std::make_shared<decltype(handler)>(std::move(handler));
        complete = [h] { asio::post(asio::get_associated_executor(*h), std::move(*h)); };
      };
      co_await asio::async_initiate<decltype(use_awaitable), void()>(initiation, use_awaitable);
      ended = true;
    };
    task_group g(io, group_options{.limit = 1});
    auto body = [&](task_group&) -> awaitable<void> { co_await waits(); };
    if (in_scope) {
      async_scope(io, group_options(), body, [](std::exception_ptr) {});
    } else {
      g.spawn([] { return yield_turns(); });
      g.spawn(waits);
    }
    test::poll(io);
    BOOST_TEST(static_cast<bool>(complete));
    BOOST_TEST(!io.stopped());
    std::thread other([&] { std::exchange(complete, nullptr)(); });
    io.run();
    other.join();
    BOOST_TEST(ended);
    BOOST_TEST(io.stopped());
  }
}
