//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Arguments that mean nothing, where several headers have them in common: functions and coroutines that
// are empty, enumerators that are none, numbers that are none or too large.

#include "support/run.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/stats.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <limits>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::awaitable;
using asio::use_future;
using bulkhead::errc;
using bulkhead::pool;
using bulkhead::pool_options;
using bulkhead::task_group;
using bulkhead::unbounded;

namespace {

std::string why_invalid(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no std::invalid_argument";
}

// Counts the exceptions of one type among those that it gets.
template <class Exception>
struct counts {
  std::atomic<int>& n;

  void operator()(std::exception_ptr e) const {
    try {
      std::rethrow_exception(e);
    } catch (const Exception&) {
      ++n;
    }
  }
};

using counts_empty_calls = counts<std::bad_function_call>;

} // namespace

// --- functions ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_null_pointer_is_a_task_that_throws) {
  void (*const nothing)() = nullptr;
  void (*const stoppable)(std::stop_token) = nullptr;
  int (*const number)() = nullptr;
  std::atomic<int> bad{0};
  pool p(pool_options{.threads = 1, .on_exception = counts_empty_calls{bad}});
  p.submit(nothing);
  p.submit(nothing, bulkhead::on_full::caller_runs);
  BOOST_TEST(p.try_submit(stoppable));
  BOOST_CHECK_THROW(p.async_submit(number, use_future).get(), std::bad_function_call);
  {
    bulkhead::lanes set(p, {.on_exception = counts_empty_calls{bad}});
    const bulkhead::lane l = set.open();
    BOOST_TEST(l.try_submit(nothing));
    BOOST_TEST(l.try_submit(stoppable));
    BOOST_CHECK_THROW(l.async_submit(number, use_future).get(), std::bad_function_call);
    l.async_drain(use_future).get();
    BOOST_TEST(l.stats().failed == 3u);
  }
  p.join();
  BOOST_TEST(bad == 5);
  BOOST_TEST(p.stats().failed == 4u);
}

BOOST_AUTO_TEST_CASE(a_null_pointer_with_a_state_is_a_task_that_throws) {
  void (*const nothing)(int&) = nullptr;
  std::atomic<int> bad{0};
  bulkhead::stateful_pool<int> p(
      [] { return 1; }, pool_options{.threads = 1, .on_exception = counts_empty_calls{bad}});
  p.submit(nothing);
  BOOST_CHECK_THROW(p.async_submit(nothing, use_future).get(), std::bad_function_call);
  p.join();
  BOOST_TEST(bad == 1);
}

BOOST_AUTO_TEST_CASE(a_child_that_is_a_null_pointer_fails) {
  asio::io_context io;
  int bad = 0;
  const auto expect_one = [&](auto start) {
    std::exception_ptr error;
    start([&](std::exception_ptr e, auto&&...) { error = e; });
    test::run(io);
    BOOST_REQUIRE(error);
    BOOST_CHECK_THROW(std::rethrow_exception(error), std::bad_function_call);
    ++bad;
  };
  const auto in_group = [&](auto child) {
    expect_one([&](auto handler) {
      task_group g(io);
      g.spawn(child);
      g.async_join(std::move(handler));
      test::run(io);
    });
  };
  in_group(static_cast<void (*)()>(nullptr));
  in_group(static_cast<void (*)(std::stop_token)>(nullptr));
  in_group(static_cast<awaitable<void> (*)()>(nullptr));
  in_group(static_cast<void (*)(asio::yield_context)>(nullptr));
  in_group(std::function<awaitable<int>()>());
  expect_one([&](auto handler) {
    bulkhead::async_map(io, std::vector{1}, 1, static_cast<int (*)(int)>(nullptr), handler);
  });
  expect_one([&](auto handler) {
    bulkhead::async_scope(io, {}, static_cast<awaitable<void> (*)(task_group&)>(nullptr), handler);
  });
  expect_one([&](auto handler) {
    bulkhead::async_scope(io, {}, static_cast<void (*)(task_group&, asio::yield_context)>(nullptr),
                          handler);
  });
  BOOST_TEST(bad == 8);
}

BOOST_AUTO_TEST_CASE(an_awaitable_that_was_moved_from_is_a_child_that_fails) {
  asio::io_context io;
  const auto expect_failure = [&](auto start) {
    std::exception_ptr error;
    start([&](std::exception_ptr e, auto&&...) { error = e; });
    test::run(io);
    BOOST_REQUIRE(error);
    BOOST_TEST(why_invalid([&] { std::rethrow_exception(error); }) ==
               "task_group: an awaitable must not be empty");
  };
  const auto in_group = [&](auto child) {
    expect_failure([&](auto handler) {
      task_group g(io);
      g.spawn(std::move(child));
      g.async_join(std::move(handler));
      test::run(io);
    });
  };
  in_group(awaitable<void>());
  in_group(awaitable<int>());
  in_group([] { return awaitable<void>(); });
  expect_failure([&](auto handler) {
    bulkhead::async_map(
        io, std::vector{1}, 1, [](int) { return awaitable<int>(); }, handler);
  });
  expect_failure([&](auto handler) {
    bulkhead::async_scope(
        io, {}, [](task_group&) { return awaitable<void>(); }, handler);
  });
}

BOOST_AUTO_TEST_CASE(what_makes_something_later_must_not_be_empty) {
  asio::io_context io;
  using semaphores = bulkhead::keyed<int>;
  using lanes_of_tenants = bulkhead::tenants<int>;
  using states = bulkhead::stateful_pool<int>;
  BOOST_TEST(why_invalid([] { semaphores k{std::function<bulkhead::semaphore(const int&)>()}; }) ==
             "keyed: make must not be empty");
  BOOST_TEST(why_invalid([] {
               semaphores k{static_cast<bulkhead::semaphore (*)(const int&)>(nullptr)};
             }) == "keyed: make must not be empty");
  BOOST_TEST(why_invalid([&] {
               lanes_of_tenants t(io, {}, std::function<bulkhead::lane_options(const int&)>());
             }) == "tenants: open must not be empty");
  BOOST_TEST(why_invalid([] { states s{std::function<int()>()}; }) ==
             "stateful_pool: factory must not be empty");
  BOOST_TEST(why_invalid([] { states s{static_cast<int (*)(std::size_t)>(nullptr)}; }) ==
             "stateful_pool: factory must not be empty");
}

// --- enumerators --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_policy_that_is_none_is_an_invalid_argument) {
  pool p(1);
  BOOST_TEST(why_invalid([&] { p.submit([] {}, static_cast<bulkhead::on_full>(7)); }) ==
             "pool::submit: policy must be block, caller_runs or reject (got 7)");
  p.join();
  BOOST_TEST(p.stats().submitted == 0u);
  const bulkhead::group_options none{.error = static_cast<bulkhead::on_error>(2)};
  const std::string message = "group_options::error must be cancel_siblings or collect (got 2)";
  BOOST_TEST(why_invalid([&] { task_group g(p, none); }) == message);
  BOOST_TEST(why_invalid([&] {
               bulkhead::async_scope(
                   p, none, [](task_group&) -> awaitable<void> { co_return; }, asio::detached);
             }) == message);
}

// --- numbers ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_pool_has_no_more_threads_than_any_system) {
  const auto of = [](std::size_t threads, std::size_t least) {
    return [=] { pool p(pool_options{.threads = threads, .min_threads = least}); };
  };
  BOOST_TEST(why_invalid(of(65537, 1)) ==
             "pool_options::threads must be at most 65536 (got 65537)");
  BOOST_TEST(why_invalid(of(unbounded, 1)) ==
             "pool_options::threads must be at most 65536 (got " + std::to_string(unbounded) + ")");
  BOOST_TEST(why_invalid(of(unbounded, 0)) ==
             "pool_options::threads must be at most 65536 (got " + std::to_string(unbounded) + ")");
  pool p(pool_options{.threads = 65536, .min_threads = 1});
  BOOST_TEST(why_invalid([&] { p.resize(65537); }) ==
             "pool::resize: threads must be at most 65536 (got 65537)");
  BOOST_TEST(p.async_submit([] { return 1; }, use_future).get() == 1);
  BOOST_TEST(p.stats().resizes == 0u);
}

BOOST_AUTO_TEST_CASE(a_duration_that_is_no_number_is_an_invalid_argument) {
  using seconds = std::chrono::duration<double>;
  const auto with = [](double s) { return bulkhead::timeout(seconds(s), asio::detached); };
  BOOST_TEST(why_invalid([&] { (void)with(std::numeric_limits<double>::quiet_NaN()); }) ==
             "timeout: duration must be a number");
  const double infinity = std::numeric_limits<double>::infinity();
  BOOST_TEST((with(infinity).duration_ == std::chrono::steady_clock::duration::max()));
  BOOST_TEST((with(-infinity).duration_ == std::chrono::steady_clock::duration::min()));
}

BOOST_AUTO_TEST_CASE(a_share_of_a_histogram_beyond_the_whole_is_the_whole) {
  bulkhead::duration_histogram h;
  h.add(1500ns);
  BOOST_TEST((h.quantile(1.5) == h.quantile(1)));
  BOOST_TEST((h.quantile(-1) == h.quantile(0)));
}

BOOST_AUTO_TEST_CASE(a_variable_without_a_name_is_an_invalid_argument) {
  BOOST_TEST(why_invalid([] { bulkhead::threads_from_env(nullptr, 1); }) ==
             "threads_from_env: name must not be null");
}

// --- calls --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_worker_that_attaches_itself_to_its_own_pool_would_wait_for_ever) {
  pool p(1);
  auto attached = p.async_submit([&] { p.attach(); }, use_future);
  try {
    attached.get();
    BOOST_ERROR("it has come back");
  } catch (const boost::system::system_error& e) {
    BOOST_TEST((e.code() == errc::would_deadlock));
  }
  BOOST_TEST(p.stats().threads == 1u);
}
