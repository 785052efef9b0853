//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_PLACES_HPP
#define BULKHEAD_TEST_SUPPORT_PLACES_HPP

#include "run.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <exception>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

// Where groups are tested: on one thread, on Asio's threads, and on ours.

namespace test {

namespace asio = boost::asio;

struct on_io_context {
  static constexpr bool parallel = false;
  asio::io_context context;
  asio::any_io_executor executor() { return context.get_executor(); }
  /// Returns when nothing is left to do.
  void finish() { run(context); }
};

struct on_thread_pool {
  static constexpr bool parallel = true;
  asio::thread_pool context{4};
  asio::any_io_executor executor() { return context.get_executor(); }
  void finish() { context.join(); }
};

struct on_pool {
  static constexpr bool parallel = true;
  bulkhead::pool context{4};
  asio::any_io_executor executor() { return context.get_executor(); }
  void finish() { context.join(); }
};

template <class F>
void on_every_executor(F f) {
  BOOST_TEST_CONTEXT("on an io_context with one thread") {
    on_io_context place;
    f(place);
  }
  BOOST_TEST_CONTEXT("on an asio::thread_pool with four") {
    on_thread_pool place;
    f(place);
  }
  BOOST_TEST_CONTEXT("on a pool with four") {
    on_pool place;
    f(place);
  }
}

/// Runs `operation(token)` to its end and says what came of it.
template <class Place, class Operation>
auto outcome_of(Place& place, Operation operation) {
  auto future = operation(asio::bind_executor(place.executor(), asio::use_future));
  place.finish();
  return future;
}

template <class T>
std::exception_ptr error_of(std::future<T> future) {
  try {
    (void)future.get();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

/// Runs a handler as soon as it is posted, which is the earliest moment at which some other thread
/// could run it.
struct at_once {
  template <class F>
  void execute(F f) const {
    std::move(f)();
  }
  at_once require(asio::execution::blocking_t::never_t) const noexcept { return {}; }
  friend bool operator==(const at_once&, const at_once&) noexcept { return true; }
};

/// An event that coroutines can wait for, with all types of cancellation.
class event {
public:
  explicit event(const asio::any_io_executor& ex)
      : semaphore_(ex, 1), closed_(semaphore_.try_acquire().value()) {}

  void set() { closed_.release(); }

  asio::awaitable<void> wait() { (void)co_await semaphore_.async_acquire(1, asio::use_awaitable); }

private:
  bulkhead::semaphore semaphore_;
  bulkhead::permit closed_;
};

/// Waits until it is cancelled.
inline asio::awaitable<void> forever() {
  asio::steady_timer timer(co_await asio::this_coro::executor,
                           asio::steady_timer::time_point::max());
  co_await timer.async_wait(asio::use_awaitable);
}

/// Lets others have a turn.
inline asio::awaitable<void> yield_turns(int n = 1) {
  auto ex = co_await asio::this_coro::executor;
  for (int i = 0; i != n; ++i) co_await asio::post(ex, asio::use_awaitable);
}

/// How many are inside at one time, and how many there were at most.
class occupancy {
public:
  class visit {
  public:
    explicit visit(occupancy& o) : occupancy_(&o) {
      const int n = ++o.now_;
      int peak = o.peak_;
      while (n > peak && !o.peak_.compare_exchange_weak(peak, n)) {
      }
      ++o.total_;
    }
    ~visit() { --occupancy_->now_; }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;

  private:
    occupancy* occupancy_;
  };

  int now() const { return now_; }
  int peak() const { return peak_; }
  int total() const { return total_; }

private:
  std::atomic<int> now_{0}, peak_{0}, total_{0};
};

/// An exception that tells who threw it.
struct failure : std::runtime_error {
  explicit failure(int n) : std::runtime_error("failure " + std::to_string(n)), number(n) {}
  int number;
};

/// The number of a failure, 0 for none, -1 for operation_aborted, -2 for anything else.
inline int number_of(const std::exception_ptr& p) {
  if (!p) return 0;
  try {
    std::rethrow_exception(p);
  } catch (const failure& f) {
    return f.number;
  } catch (const boost::system::system_error& e) {
    return e.code() == asio::error::operation_aborted ? -1 : -2;
  } catch (...) {
    return -2;
  }
}

/// The same of what came of an operation.
template <class T>
int ended_with(std::future<T>& future) {
  return number_of(error_of(std::move(future)));
}

} // namespace test

#endif
