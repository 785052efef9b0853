//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The executor of a lane, and what runs on it: coroutines, timers, sockets, strands.

#include "support/allocators.hpp"
#include "support/global_new.hpp"
#include "support/places.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>
#if defined(BULKHEAD_TEST_HAS_SPAWN)
#include <boost/asio/spawn.hpp>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
namespace execution = boost::asio::execution;
using namespace std::chrono_literals;
using bulkhead::lane;
using bulkhead::lane_options;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::live;
using test::occupancy;

using lane_executor = lane::executor_type;

static_assert(execution::is_executor_v<lane_executor>);
static_assert(std::is_nothrow_copy_constructible_v<lane_executor>);
static_assert(std::is_nothrow_move_constructible_v<lane_executor>);
static_assert(std::is_nothrow_copy_assignable_v<lane_executor>);
static_assert(std::is_nothrow_move_assignable_v<lane_executor>);
static_assert(noexcept(std::declval<lane_executor>() == std::declval<lane_executor>()));
static_assert(std::is_convertible_v<lane_executor, asio::any_io_executor>);

static_assert(asio::can_require_v<lane_executor, execution::blocking_t::never_t>);
static_assert(asio::can_require_v<lane_executor, execution::blocking_t::possibly_t>);
static_assert(!asio::can_require_v<lane_executor, execution::blocking_t::always_t>);
static_assert(asio::can_require_v<lane_executor, execution::relationship_t::fork_t>);
static_assert(asio::can_require_v<lane_executor, execution::relationship_t::continuation_t>);
static_assert(asio::can_require_v<lane_executor, execution::outstanding_work_t::tracked_t>);
static_assert(asio::can_require_v<lane_executor, execution::outstanding_work_t::untracked_t>);
static_assert(asio::can_require_v<lane_executor, execution::allocator_t<void>>);
static_assert(
    asio::can_require_v<lane_executor, execution::allocator_t<test::counting_allocator<int>>>);
static_assert(asio::can_query_v<lane_executor, execution::blocking_t>);
static_assert(asio::can_query_v<lane_executor, execution::relationship_t>);
static_assert(asio::can_query_v<lane_executor, execution::outstanding_work_t>);
static_assert(asio::can_query_v<lane_executor, execution::mapping_t>);
static_assert(asio::can_query_v<lane_executor, execution::occupancy_t>);
static_assert(asio::can_query_v<lane_executor, execution::allocator_t<void>>);
static_assert(asio::can_query_v<lane_executor, execution::context_t>);

namespace {

lanes_options at_most(std::size_t concurrency) { return {.concurrency = concurrency}; }

} // namespace

// --- properties ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(executors_are_compared_by_lane_and_properties) {
  asio::io_context io;
  lanes l(io);
  const lane one = l.open(), two = l.open();
  const auto a = one.get_executor();
  BOOST_TEST((a == one.get_executor()));
  BOOST_TEST((a != two.get_executor()));
  const auto never = asio::require(a, execution::blocking.never);
  BOOST_TEST((never != a));
  BOOST_TEST((never == asio::require(never, execution::blocking.never)));
  const asio::any_io_executor erased = a, other = two.get_executor();
  BOOST_TEST((erased == asio::any_io_executor(one.get_executor())));
  BOOST_TEST((erased != other));
}

BOOST_AUTO_TEST_CASE(every_property_can_be_required_and_is_then_what_a_query_says) {
  asio::io_context io;
  lanes l(io, at_most(3));
  const lane a = l.open({.concurrency = 2}), b = l.open();
  const auto ex = a.get_executor();
  BOOST_TEST((&asio::query(ex, execution::context) == &io));
  BOOST_TEST((&asio::query(asio::any_io_executor(ex), execution::context) == &io));
  BOOST_TEST((asio::query(ex, execution::mapping) == execution::mapping.thread));
  BOOST_TEST(asio::query(ex, execution::occupancy) == 2u);
  BOOST_TEST(asio::query(b.get_executor(), execution::occupancy) == 3u);
  l.set_concurrency(1);
  BOOST_TEST(asio::query(ex, execution::occupancy) == 1u);

  BOOST_TEST((asio::query(ex, execution::blocking) == execution::blocking.possibly));
  const auto never = asio::require(ex, execution::blocking.never);
  BOOST_TEST((asio::query(never, execution::blocking) == execution::blocking.never));
  BOOST_TEST((asio::query(asio::require(never, execution::blocking.possibly),
                          execution::blocking) == execution::blocking.possibly));

  BOOST_TEST((asio::query(ex, execution::relationship) == execution::relationship.fork));
  const auto continuation = asio::require(ex, execution::relationship.continuation);
  BOOST_TEST(
      (asio::query(continuation, execution::relationship) == execution::relationship.continuation));
  BOOST_TEST((asio::query(asio::require(continuation, execution::relationship.fork),
                          execution::relationship) == execution::relationship.fork));

  BOOST_TEST(
      (asio::query(ex, execution::outstanding_work) == execution::outstanding_work.untracked));
  const auto tracked = asio::require(ex, execution::outstanding_work.tracked);
  BOOST_TEST(
      (asio::query(tracked, execution::outstanding_work) == execution::outstanding_work.tracked));
  BOOST_TEST((asio::query(asio::require(tracked, execution::outstanding_work.untracked),
                          execution::outstanding_work) == execution::outstanding_work.untracked));

  // One property does not disturb another.
  const auto both =
      asio::require(tracked, execution::blocking.never, execution::relationship.continuation);
  BOOST_TEST(
      (asio::query(both, execution::outstanding_work) == execution::outstanding_work.tracked));
  BOOST_TEST((asio::query(both, execution::blocking) == execution::blocking.never));
  BOOST_TEST((asio::query(both, execution::relationship) == execution::relationship.continuation));
}

BOOST_AUTO_TEST_CASE(a_tracked_executor_keeps_the_context_running_as_long_as_any_copy_lives) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  {
    std::optional tracked(asio::require(a.get_executor(), execution::outstanding_work.tracked));
    auto copy = std::optional(*tracked);
    const auto moved = std::optional(std::move(*copy));
    copy.reset();
    tracked.reset();
    BOOST_TEST(test::poll(io) == 0u);
    BOOST_TEST(!io.stopped());
    auto assigned = a.get_executor();
    assigned = *moved;
    const auto swapped = std::exchange(assigned, a.get_executor());
    BOOST_TEST(test::poll(io) == 0u);
    BOOST_TEST(!io.stopped());
  }
  BOOST_TEST(test::poll(io) == 0u);
  BOOST_TEST(io.stopped());

  auto guard = asio::make_work_guard(a.get_executor());
  int ran = 0;
  std::thread t([&] { asio::post(a.get_executor(), [&] { guard.reset(); }); });
  io.restart();
  io.run(); // would return at once otherwise
  t.join();
  asio::post(a.get_executor(), [&] { ++ran; });
  test::run(io);
  BOOST_TEST(ran == 1);
}

BOOST_AUTO_TEST_CASE(work_may_be_tracked_by_many_threads) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  const int n = test::scaled(20'000);
  std::vector<std::thread> all;
  for (int t = 0; t != 3; ++t)
    all.emplace_back([&] {
      for (int i = 0; i != n; ++i) {
        const auto tracked = asio::require(a.get_executor(), execution::outstanding_work.tracked);
        const auto copy = tracked;
      }
    });
  for (auto& t : all) t.join();
  test::poll(io);
  BOOST_TEST(io.stopped());
}

namespace {

/// Too large to fit into any_io_executor without an allocation.
class large_executor {
public:
  explicit large_executor(asio::io_context& io) : inner_(io.get_executor()) {}

  template <class F>
  void execute(F&& f) const {
    inner_.execute(std::forward<F>(f));
  }
  asio::execution_context& query(execution::context_t) const noexcept { return inner_.context(); }
  large_executor require(execution::blocking_t::never_t) const {
    return wrap(asio::require(inner_, execution::blocking.never));
  }
  large_executor require(execution::outstanding_work_t::tracked_t) const { return *this; }
  bool operator==(const large_executor& other) const noexcept { return inner_ == other.inner_; }

private:
  template <class Inner>
  large_executor wrap(const Inner& inner) const {
    large_executor copy = *this;
    copy.inner_ = inner;
    return copy;
  }

  asio::io_context::executor_type inner_;
  [[maybe_unused]] std::array<char, 100> filling_{};
};

} // namespace

BOOST_AUTO_TEST_CASE(tracking_work_may_fail_for_want_of_memory_and_then_nothing_is_tracked) {
  asio::io_context io;
  lanes l(large_executor(io), at_most(1));
  const lane a = l.open();
  const auto ex = a.get_executor();
  const auto fail = [&] {
    const test::global_fuse_scope fuse(0);
    (void)asio::require(ex, execution::outstanding_work.tracked);
  };
  BOOST_CHECK_THROW(fail(), std::bad_alloc);
  const auto tracked = asio::require(ex, execution::outstanding_work.tracked);
  const auto copy = tracked;
  int ran = 0;
  asio::post(copy, [&] { ++ran; });
  test::run(io);
  BOOST_TEST(ran == 1);
}

BOOST_AUTO_TEST_CASE(the_allocator_property_is_kept_and_used) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open();
  test::memory_balance memory;
  const test::counting_allocator<int> allocator(memory);
  const auto ex = asio::require(a.get_executor(), execution::allocator(allocator));
  BOOST_TEST((asio::query(ex, execution::allocator) == allocator));
  const auto plain = asio::require(ex, execution::allocator);
  static_assert(std::is_same_v<decltype(plain), const lane_executor>);
  long at_entry = -1;
  ex.execute([&, large = std::array<char, 5000>{}] {
    (void)large;
    at_entry = memory.blocks;
  });
  BOOST_TEST(memory.blocks == 1);
  test::run(io);
  BOOST_TEST(at_entry == 0);
  BOOST_TEST(memory.blocks == 0);
  BOOST_TEST(memory.bytes == 0);

  // What never runs gives its memory back as well.
  {
    asio::io_context dying;
    lanes m(dying);
    asio::require(m.open().get_executor(), execution::allocator(allocator)).execute([] {});
    BOOST_TEST(memory.blocks == 1);
  }
  BOOST_TEST(memory.blocks == 0);
}

BOOST_AUTO_TEST_CASE(conversion_to_any_io_executor_does_not_allocate) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  const auto ex = a.get_executor();
  const auto tracked = asio::require(ex, execution::outstanding_work.tracked);
  const long before = test::global_memory.allocations;
  {
    asio::any_io_executor b(ex), c(tracked);
    asio::any_io_executor d(b), e(std::move(c));
    auto f = asio::prefer(b, execution::outstanding_work.tracked);
    auto g = asio::require(f, execution::blocking.never);
    b = g;
  }
  BOOST_TEST(test::global_memory.allocations == before);
}

#if !BULKHEAD_TEST_ASAN // which is to see each block come and go
BOOST_AUTO_TEST_CASE(a_lane_at_work_does_not_ask_for_memory) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open({.queue_limit = unbounded}), b = l.open({.priority = 1});
  long again = 100, before = 0;
  std::function<void()> step; // posted from inside, where Asio keeps memory
  step = [&] {
    if (again == 50) before = test::global_memory.allocations;
    if (--again == 0) return;
    asio::post(a.get_executor(), [&] { step(); });
    if (again % 3 == 0) asio::post(b.get_executor(), [] {});
  };
  asio::post(a.get_executor(), [&] { step(); });
  test::run(io);
  BOOST_TEST(test::global_memory.allocations == before);
}
#endif

// --- where functions run ------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(dispatch_runs_inside_a_handler_of_the_same_lane_and_of_no_other) {
  asio::io_context io;
  lanes l(io, at_most(2)), other_set(io, at_most(2));
  const lane a = l.open(), b = l.open(), c = other_set.open();
  std::string order;
  asio::post(a.get_executor(), [&] {
    order += '1';
    asio::dispatch(a.get_executor(), [&] { order += '2'; });
    asio::dispatch(b.get_executor(), [&] { order += 'b'; });
    asio::dispatch(c.get_executor(), [&] { order += 'c'; });
    asio::post(a.get_executor(), [&] { order += '5'; });
    asio::defer(a.get_executor(), [&] { order += '6'; });
    asio::require(a.get_executor(), execution::blocking.never).execute([&] { order += '7'; });
    asio::dispatch(a.get_executor(), [&] { order += '3'; });
    order += '4';
  });
  test::run(io);
  BOOST_TEST(order.size() == 9u);
  BOOST_TEST(order.starts_with("1234"), order);
  order.erase(std::remove_if(order.begin(), order.end(), [](char x) { return x > '9'; }),
              order.end());
  BOOST_TEST(order == "1234567");
}

BOOST_AUTO_TEST_CASE(dispatch_from_outside_is_queued) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  int ran = 0;
  asio::dispatch(a.get_executor(), [&] { ++ran; });
  BOOST_TEST(ran == 0);
  asio::post(io, [&] {
    asio::dispatch(a.get_executor(), [&] { ++ran; });
    BOOST_TEST(ran <= 1);
  });
  test::run(io);
  BOOST_TEST(ran == 2);
}

BOOST_AUTO_TEST_CASE(a_lane_knows_its_handlers) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open(), b = l.open();
  const auto in_a = [&] { return a.get_executor().running_in_this_thread(); };
  const auto in_b = [&] { return b.get_executor().running_in_this_thread(); };
  int seen = 0;
  const auto check = [&] {
    BOOST_TEST(in_a());
    BOOST_TEST(!in_b());
    ++seen;
  };
  BOOST_TEST(!in_a());
  BOOST_TEST(a.try_submit(check));
  asio::post(a.get_executor(), check);
  a.async_submit(check, [&](std::exception_ptr) { check(); });
  asio::post(io, [&] { BOOST_TEST(!in_a()); });
  BOOST_TEST(a.try_submit([] { throw 1; }));
  test::run(io);
  BOOST_TEST(seen == 4);
  BOOST_TEST(!in_a());

  // Through a lane that stands on another
  lanes upper(a.get_executor(), at_most(1));
  const lane c = upper.open();
  asio::post(c.get_executor(), [&] {
    BOOST_TEST(c.get_executor().running_in_this_thread());
    check();
  });
  test::run(io);
  BOOST_TEST(seen == 5);
}

BOOST_AUTO_TEST_CASE(a_handler_on_another_thread_is_none_of_this_one) {
  asio::thread_pool threads(2);
  lanes l(threads, at_most(2));
  const lane a = l.open();
  test::gate g;
  test::counter started;
  asio::post(a.get_executor(), [&] {
    started.add();
    g.wait();
  });
  started.wait_for(1);
  BOOST_TEST(!a.get_executor().running_in_this_thread());
  g.open();
  threads.join();
}

BOOST_AUTO_TEST_CASE(continuations_are_never_refused) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open({.queue_limit = 1, .waiter_limit = 0});
  BOOST_TEST(a.try_submit([] {}));
  a.close();
  int ran = 0;
  for (int i = 0; i != 10'000; ++i) asio::post(a.get_executor(), [&] { ++ran; });
  test::run(io);
  BOOST_TEST(ran == 10'000);
  BOOST_TEST(a.stats().continuations == 10'000u);
}

// --- what runs on it ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(coroutines_run_on_a_lane_and_count_while_they_run) {
  test::on_every_executor([](auto& place) {
    lanes l(place.executor(), at_most(2));
    const lane a = l.open({.concurrency = 1}), b = l.open();
    occupancy in_a, in_b, all;
    std::atomic<int> elsewhere{0};
    auto body = [](const lane& here, occupancy& one, occupancy& set,
                   std::atomic<int>& strays) -> asio::awaitable<void> {
      for (int i = 0; i != 20; ++i) {
        {
          occupancy::visit in_lane(one), in_set(set);
          if (!here.get_executor().running_in_this_thread()) ++strays;
        }
        co_await test::yield_turns();
      }
    };
    for (int i = 0; i != 10; ++i) {
      asio::co_spawn(a.get_executor(), body(a, in_a, all, elsewhere), asio::detached);
      asio::co_spawn(b.get_executor(), body(b, in_b, all, elsewhere), asio::detached);
    }
    place.finish();
    BOOST_TEST(elsewhere == 0);
    BOOST_TEST(in_a.total() == 200);
    BOOST_TEST(in_b.total() == 200);
    BOOST_TEST(in_a.peak() == 1);
    BOOST_TEST(all.peak() <= 2);
  });
}

BOOST_AUTO_TEST_CASE(a_coroutine_hops_to_a_lane_and_back) {
  asio::io_context io;
  asio::thread_pool threads(2);
  lanes l(threads, at_most(1));
  const lane a = l.open();
  bool done = false;
  auto body = [](const lane& where, bool& ended) -> asio::awaitable<void> {
    const auto here = std::this_thread::get_id();
    for (int i = 0; i != 100; ++i) {
      auto task = [i] { return std::pair(i, std::this_thread::get_id()); };
      const auto [n, there] = co_await where.async_submit(task, asio::use_awaitable);
      BOOST_TEST(n == i);
      BOOST_TEST((there != here));
      BOOST_TEST((std::this_thread::get_id() == here));
    }
    ended = true;
  };
  asio::co_spawn(io, body(a, done), asio::detached);
  test::run(io);
  BOOST_TEST(done);
}

#if defined(BULKHEAD_TEST_HAS_SPAWN)
BOOST_AUTO_TEST_CASE(stackful_coroutines_run_on_a_lane) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open();
  int n = 0;
  asio::spawn(
      a.get_executor(),
      [&](auto yield) {
        n = a.async_submit([] { return 20; }, yield);
        asio::post(yield);
        n += a.get_executor().running_in_this_thread() ? 1 : 0;
      },
      asio::detached);
  test::run(io);
  BOOST_TEST(n == 21);
}
#endif

BOOST_AUTO_TEST_CASE(timers_of_a_lane_fire_in_it) {
  test::on_every_executor([](auto& place) {
    lanes l(place.executor(), at_most(2));
    const lane a = l.open({.concurrency = 1});
    occupancy inside;
    std::vector<std::unique_ptr<asio::steady_timer>> timers;
    for (int i = 0; i != 50; ++i) {
      timers.push_back(std::make_unique<asio::steady_timer>(a.get_executor(), 1us));
      timers.back()->async_wait([&](boost::system::error_code) { occupancy::visit here(inside); });
    }
    place.finish();
    BOOST_TEST(inside.total() == 50);
    BOOST_TEST(inside.peak() == 1);
  });
}

BOOST_AUTO_TEST_CASE(sockets_and_strands_work_on_a_lane) {
  test::on_every_executor([](auto& place) {
    using tcp = asio::ip::tcp;
    lanes l(place.executor(), at_most(3));
    const lane server = l.open(), clients = l.open({.weight = 2});
    tcp::acceptor acceptor(server.get_executor(), {asio::ip::address_v4::loopback(), 0});
    constexpr int n = 5;
    auto serve = [](tcp::acceptor& from, const lane& where) -> asio::awaitable<void> {
      for (int i = 0; i != n; ++i) {
        tcp::socket s = co_await from.async_accept(where.get_executor(), asio::use_awaitable);
        std::array<char, 4> text{};
        co_await asio::async_read(s, asio::buffer(text), asio::use_awaitable);
        co_await asio::async_write(s, asio::buffer(text), asio::use_awaitable);
      }
    };
    asio::co_spawn(asio::make_strand(server.get_executor()), serve(acceptor, server),
                   asio::detached);
    std::atomic<int> echoed{0};
    auto ask = [](tcp::endpoint where, std::atomic<int>& count) -> asio::awaitable<void> {
      tcp::socket s(co_await asio::this_coro::executor);
      co_await s.async_connect(where, asio::use_awaitable);
      std::array<char, 4> text{'e', 'c', 'h', 'o'};
      co_await asio::async_write(s, asio::buffer(text), asio::use_awaitable);
      text.fill(0);
      co_await asio::async_read(s, asio::buffer(text), asio::use_awaitable);
      count += std::string(text.data(), 4) == "echo";
    };
    for (int i = 0; i != n; ++i)
      asio::co_spawn(asio::make_strand(clients.get_executor()),
                     ask(acceptor.local_endpoint(), echoed), asio::detached);
    place.finish();
    BOOST_TEST(echoed == n);
  });
}

BOOST_AUTO_TEST_CASE(a_strand_on_a_lane_keeps_its_promise) {
  asio::thread_pool threads(4);
  lanes l(threads, at_most(4));
  auto strand = asio::make_strand(l.open().get_executor());
  occupancy inside;
  std::vector<int> order;
  const int n = test::scaled(20'000);
  for (int i = 0; i != n; ++i)
    asio::post(strand, [&, i] {
      occupancy::visit here(inside);
      order.push_back(i);
    });
  threads.join();
  BOOST_TEST(inside.peak() == 1);
  BOOST_TEST(order.size() == static_cast<std::size_t>(n));
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(executors_keep_their_lane_when_the_set_has_gone) {
  asio::io_context io;
  std::optional<lane_executor> ex;
  std::atomic<int> alive{0};
  {
    lanes l(io, at_most(1));
    ex = l.open().get_executor();
  }
  int ran = 0;
  asio::post(*ex, [&, l = live(alive)] { ++ran; });
  auto timer = std::make_unique<asio::steady_timer>(*ex, 1us);
  ex.reset();
  timer->async_wait([&, l = live(alive)](boost::system::error_code) { ++ran; });
  test::run(io);
  BOOST_TEST(ran == 2);
  BOOST_TEST(alive == 0);
}
