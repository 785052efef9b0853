//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What groups cost in memory.

#include "support/global_new.hpp"
#include "support/places.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

namespace asio = boost::asio;
using asio::awaitable;
using bulkhead::group_options;
using bulkhead::task_group;
using test::live;

namespace {

/// Runs `n` children of each kind through a group, some at a time.
awaitable<void> run_children(task_group& g, int n) {
  auto coroutine = []() -> awaitable<void> { co_await test::yield_turns(); };
  for (int i = 0; i != n; ++i) {
    co_await g.async_spawn([] {});
    co_await g.async_spawn(coroutine);
  }
  co_await g.async_join();
}

void run_here(asio::io_context& io, awaitable<void> a) {
  asio::co_spawn(io, std::move(a), [](std::exception_ptr e) { BOOST_TEST(!e); });
  test::run(io);
}

/// Refuses what it is given, by throwing, when it is told to.
struct moody_executor {
  asio::io_context::executor_type inner;
  const bool* refuses;

  template <class F>
  void execute(F&& f) const {
    std::decay_t<F> taken(std::forward<F>(f));
    if (*refuses) throw std::bad_alloc();
    asio::post(inner, std::move(taken));
  }

  asio::execution_context& query(asio::execution::context_t) const noexcept {
    return inner.context();
  }
  moody_executor require(asio::execution::blocking_t::never_t) const { return *this; }
  friend bool operator==(const moody_executor& a, const moody_executor& b) noexcept {
    return a.inner == b.inner && a.refuses == b.refuses;
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(a_group_that_lives_for_long_keeps_nothing_of_its_children) {
  asio::io_context io;
  task_group g(io, group_options{.limit = 8});
  run_here(io, run_children(g, 100));
  const long blocks = test::global_memory.blocks;
  run_here(io, run_children(g, 20'000));
  BOOST_TEST(test::global_memory.blocks <= blocks);
  BOOST_TEST(g.stats().completed == 2u * 20'100);
}

BOOST_AUTO_TEST_CASE(threads_that_end_leave_nothing_of_the_groups_they_ran) {
  const auto run_groups = [] {
    bulkhead::pool pool(3);
    auto body = [](task_group& g) -> awaitable<void> { co_await run_children(g, 200); };
    for (int i = 0; i != 4; ++i)
      bulkhead::async_scope(pool, group_options{.limit = 5}, body, asio::use_future).get();
  };
  run_groups();
  const long blocks = test::global_memory.blocks;
  for (int i = 0; i != 20; ++i) run_groups();
  // What the depot that all threads share takes in is bounded, and may grow until it is full.
  BOOST_TEST(test::global_memory.blocks <= blocks + 2000);
}

#if !BULKHEAD_TEST_ASAN // which is to see each block come and go
BOOST_AUTO_TEST_CASE(a_child_costs_its_coroutine_frame_and_a_function_costs_nothing) {
  constexpr int n = 1000;
  asio::io_context io;
  task_group g(io, group_options{.limit = 16});
  run_here(io, run_children(g, 100));
  long functions = 0, coroutines = 0;
  auto nothing = []() -> awaitable<void> { co_return; };
  auto body = [&]() -> awaitable<void> {
    long before = test::global_memory.allocations;
    for (int i = 0; i != n; ++i) co_await g.async_spawn([] {});
    co_await g.async_join();
    functions = test::global_memory.allocations - before;
    before = test::global_memory.allocations;
    for (int i = 0; i != n; ++i) co_await g.async_spawn(nothing());
    co_await g.async_join();
    coroutines = test::global_memory.allocations - before;
  };
  run_here(io, body());
  // Asio keeps two freed blocks of a kind for each thread; what is beyond it allocates, once for so
  // many children.
  BOOST_TEST(functions <= n / 8);
  BOOST_TEST(coroutines <= n + n / 4);
}
#endif

BOOST_AUTO_TEST_CASE(a_child_that_the_executor_refuses_was_never_accepted) {
  asio::io_context io;
  bool refuses = true;
  std::atomic<int> alive{0}, ran{0};
  const auto child = [&ran, l = live(alive)] { ++ran; };
  task_group g(asio::any_io_executor(moody_executor{io.get_executor(), &refuses}));
  BOOST_CHECK_THROW(g.spawn(child), std::bad_alloc);
  BOOST_CHECK_THROW((void)g.try_spawn(child), std::bad_alloc);
  BOOST_TEST(alive == 1);
  BOOST_TEST(g.size() == 0u);
  refuses = false;
  g.spawn(child);
  BOOST_TEST(g.try_spawn(child));
  test::run(io);
  BOOST_TEST(ran == 2);
  BOOST_TEST(g.stats().spawned == 2u);
  BOOST_TEST(g.stats().completed == 2u);
}

BOOST_AUTO_TEST_CASE(a_scope_that_the_executor_refuses_completes_aborted) {
  asio::io_context io;
  bool refuses = true;
  int completed = 0;
  auto body = [](task_group&) -> awaitable<void> { co_return; };
  bulkhead::async_scope(asio::any_io_executor(moody_executor{io.get_executor(), &refuses}),
                        group_options(), body,
                        asio::bind_executor(io.get_executor(), [&completed](std::exception_ptr e) {
                          completed = test::number_of(e); // operation_aborted
                        }));
  test::run(io);
  BOOST_TEST(completed == -1);
}

BOOST_AUTO_TEST_CASE(a_spawn_that_finds_no_memory_throws_and_changes_nothing) {
  asio::io_context io;
  std::atomic<int> alive{0}, ran{0};
  {
    task_group g(io);
    int accepted = 0;
    for (int i = 0; i != 20; ++i) {
      live l(alive);
      auto child = [l, &ran, padding = std::array<char, 2000>()] { ran += 1 + padding[0]; };
      try {
        test::global_fuse_scope fuse(i);
        g.spawn(std::move(child));
        ++accepted;
      } catch (const std::bad_alloc&) {
      }
    }
    BOOST_TEST(accepted < 20);
    BOOST_TEST(g.stats().spawned == static_cast<std::size_t>(accepted));
    test::run(io);
    BOOST_TEST(ran == accepted);
  }
  BOOST_TEST(alive == 0);
}
