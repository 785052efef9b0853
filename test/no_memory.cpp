//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What becomes of operations when there is no memory: test/proof tries every allocation of every
// operation, this what has gone wrong once.

// Asio is to allocate with operator new, not with aligned_alloc().
#define BOOST_ASIO_DISABLE_STD_ALIGNED_ALLOC
#define BOOST_ASIO_DISABLE_BOOST_ALIGN

#include "support/global_new.hpp"
#include "support/run.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/recycling_allocator.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::error_code;
using bulkhead::permit;

namespace {

/// Calls `f(arm)` until no allocation fails in it: in the k-th call, the k-th of those that are made as
/// long as the object lives that `arm(of_all_threads)` returns.
template <class F>
void for_each_failure(F f) {
  for (long k = 0, failures = -1; failures != test::global_fuse.failures; ++k) {
    failures = test::global_fuse.failures;
    BOOST_TEST_CONTEXT("allocation " << k)
    f([k](bool of_all_threads = false) { return test::global_fuse_scope(k, of_all_threads); });
  }
}

} // namespace

BOOST_AUTO_TEST_CASE(a_grant_does_not_need_the_handlers_allocator) {
  asio::io_context io;
  test::allocation_fuse fuse;
  test::memory_balance memory;
  bulkhead::semaphore s(io, 1);
  permit held = s.try_acquire().value();
  bool granted = false;
  s.async_acquire(
      asio::bind_executor(io, asio::bind_allocator(test::throwing_allocator<char>(fuse, memory),
                                                   [&](error_code ec, permit) { granted = !ec; })));
  fuse.arm(0, true);
  held.release();
  test::run(io);
  BOOST_TEST(fuse.failures != 0);
  BOOST_TEST(granted);
  BOOST_TEST(memory.blocks == 0);
  BOOST_TEST(s.available() == 1u);
}

BOOST_AUTO_TEST_CASE(a_grant_is_posted_although_memory_was_short) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    bulkhead::semaphore s(io, 1);
    permit held = s.try_acquire().value();
    bool granted = false;
    s.async_acquire([&](error_code ec, permit) { granted = !ec; });
    {
      const auto armed = arm();
      held.release();
    }
    test::run(io);
    BOOST_TEST(granted);
  });
}

BOOST_AUTO_TEST_CASE(what_cannot_wait_for_want_of_memory_frees_its_own_before_its_handler) {
  for_each_failure([](auto arm) {
    asio::io_context io, others;
    bulkhead::semaphore s(io, 1);
    permit held = s.try_acquire().value();
    asio::steady_timer timer(others, 0ms);
    long blocks = -1; // when the handler goes, and with it what its allocator needs
    {
      std::shared_ptr<test::memory_balance> memory(new test::memory_balance,
                                                   [&](test::memory_balance* m) {
                                                     blocks = m->blocks;
                                                     delete m;
                                                   });
      auto handler =
          asio::bind_executor(io, asio::bind_allocator(test::counting_allocator<char>(*memory),
                                                       [memory](error_code) {}));
      memory.reset();
      const auto armed = arm();
      try {
        timer.async_wait(bulkhead::limited_by(s, std::move(handler)));
      } catch (const std::bad_alloc&) {
      }
    }
    held.release();
    test::poll(io); // starts the wait
    test::run(others);
    test::run(io);
    BOOST_TEST(blocks == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_pool_stops_without_memory_for_the_error) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    std::optional<bulkhead::pool> p(std::in_place, bulkhead::pool_options{.threads = 1});
    p->pause();
    int failed = 0;
    for (int i = 0; i != 3; ++i)
      p->async_submit([] {}, asio::bind_executor(io, [&](std::exception_ptr e) { failed += !!e; }));
    {
      const auto armed = arm();
      p->stop();
    }
    p.reset();
    test::run(io);
    BOOST_TEST(failed == 3);
  });
}

BOOST_AUTO_TEST_CASE(a_worker_with_a_long_name_starts_without_memory) {
  for_each_failure([](auto arm) {
    const bulkhead::pool_options options{.threads = 1, .name = std::string(100, 'n')};
    const auto armed = arm(true);
    try {
      bulkhead::pool p(options);
      p.join();
    } catch (const std::bad_alloc&) {
    }
  });
}

BOOST_AUTO_TEST_CASE(a_join_that_throws_leaves_no_work_behind) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    bulkhead::task_group g(io);
    int outcomes = 0;
    {
      const auto armed = arm();
      try {
        g.async_join([&](std::exception_ptr) { ++outcomes; });
      } catch (const std::bad_alloc&) {
        ++outcomes;
      }
    }
    test::poll(io);
    BOOST_TEST(io.stopped());
    BOOST_TEST(outcomes == 1);
  });
}

BOOST_AUTO_TEST_CASE(failures_of_children_are_kept_although_memory_is_short) {
  for (auto policy : {bulkhead::on_error::cancel_siblings, bulkhead::on_error::collect})
    for_each_failure([policy](auto arm) {
      asio::io_context io;
      bulkhead::task_group g(io, {.error = policy});
      for (int i = 0; i != 3; ++i) g.spawn([] { throw std::bad_alloc(); });
      bool has_failed = false;
      g.async_join([&](std::exception_ptr e) { has_failed = e != nullptr; });
      {
        const auto armed = arm();
        test::run(io);
      }
      BOOST_TEST(has_failed);
      BOOST_TEST(g.size() == 0u);
    });
}

BOOST_AUTO_TEST_CASE(a_scope_whose_body_cannot_begin_completes) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    int outcomes = 0;
    auto body = [](bulkhead::task_group&) -> asio::awaitable<void> { co_return; };
    bulkhead::async_scope(io, {}, body, [&](std::exception_ptr) { ++outcomes; });
    {
      const auto armed = arm();
      test::poll(io);
    }
    BOOST_TEST(io.stopped());
    BOOST_TEST(outcomes == 1);
  });
}

BOOST_AUTO_TEST_CASE(a_loop_over_elements_either_throws_or_completes) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    const std::vector<int> elements{1, 2, 3};
    int outcomes = 0;
    {
      const auto armed = arm();
      try {
        bulkhead::async_for_each(
            io, elements, 2, [](int) {}, [&](std::exception_ptr) { ++outcomes; });
      } catch (const std::bad_alloc&) {
        ++outcomes;
      }
      test::poll(io);
    }
    BOOST_TEST(io.stopped());
    BOOST_TEST(outcomes == 1);
  });
}

BOOST_AUTO_TEST_CASE(what_stands_in_a_lane_survives_that_its_runner_cannot_be_posted) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    bulkhead::lanes set(io, {.concurrency = 1, .batch = 1});
    const bulkhead::lane l = set.open();
    int ran = 0;
    std::vector<std::vector<char, asio::recycling_allocator<char>>> kept;
    kept.reserve(12);
    const auto function = [&] { // takes what Asio has kept, so that the next runner's memory is new
      ++ran;
      try {
        for (int i = 0; i != 3; ++i) kept.emplace_back(64);
      } catch (const std::bad_alloc&) {
      }
    };
    for (int i = 0; i != 4; ++i) BOOST_TEST(l.try_submit(function));
    {
      const auto armed = arm();
      test::run(io);
    }
    BOOST_TEST(ran == 4);
  });
}

BOOST_AUTO_TEST_CASE(an_operation_with_a_deadline_can_be_destroyed_without_memory) {
  for_each_failure([](auto arm) {
    asio::io_context io;
    {
      std::optional<asio::io_context> other(std::in_place);
      std::optional<asio::steady_timer> timer(std::in_place, *other, 1h);
      timer->async_wait(bulkhead::timeout(1h, asio::bind_executor(io, [](error_code) {})));
      timer.reset(); // its completion is on the way in `other`
      const auto armed = arm();
      other.reset();
    }
    test::run(io);
  });
}

BOOST_AUTO_TEST_CASE(a_child_comes_back_from_another_executor_without_memory) {
  for_each_failure([](auto arm) {
    asio::io_context io, other;
    bulkhead::task_group g(io);
    g.spawn([&]() -> asio::awaitable<void> {
      co_await asio::post(asio::bind_executor(other, asio::use_awaitable_t<>()));
    });
    std::optional<std::exception_ptr> outcome;
    g.async_join([&](std::exception_ptr e) { outcome = e; });
    test::poll(io);
    {
      const auto armed = arm();
      test::poll(other);
    }
    test::run(io);
    BOOST_TEST((outcome && !*outcome));
  });
}

// As Asio's spawn does it where memory fails.
BOOST_AUTO_TEST_CASE(an_initiation_may_throw_and_destroy_its_handler_later) {
  asio::io_context io;
  bulkhead::task_group g(io);
  std::shared_ptr<void> kept;
  g.spawn(asio::async_initiate<const asio::deferred_t, void(error_code)>(
      [&](auto handler) {
        kept = std::make_shared<decltype(handler)>(std::move(handler));
        throw std::bad_alloc();
      },
      asio::deferred));
  std::exception_ptr outcome;
  g.async_join([&](std::exception_ptr e) { outcome = e; });
  test::poll(io);
  BOOST_TEST(g.size() == 1u);
  kept.reset();
  test::run(io);
  BOOST_TEST(g.size() == 0u);
  BOOST_REQUIRE(outcome);
  BOOST_CHECK_THROW(std::rethrow_exception(outcome), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(a_group_goes_on_after_a_child_without_memory_for_its_cancellation_state) {
  struct wide_filter {
    char words[2000] = {}; // more than Asio keeps for the next one
    asio::cancellation_type operator()(asio::cancellation_type type) const { return type; }
  };
  asio::io_context io;
  bulkhead::task_group g(io);
  std::optional<test::global_fuse_scope> armed;
  bool has_failed = false;
  g.spawn([&]() -> asio::awaitable<void> {
    armed.emplace(0);
    test::global_fuse.arm(0, true);
    try {
      co_await asio::this_coro::reset_cancellation_state(wide_filter());
    } catch (const std::bad_alloc&) {
      has_failed = true;
    }
  });
  test::poll(io);
  armed.reset();
  BOOST_TEST(has_failed);
  BOOST_TEST(io.stopped());
  BOOST_TEST(g.size() == 0u);
  bool ran = false;
  g.spawn([&]() -> asio::awaitable<void> {
    co_await asio::post(asio::deferred);
    ran = true;
  });
  test::run(io);
  BOOST_TEST(ran);
}
