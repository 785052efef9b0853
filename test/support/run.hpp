//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_RUN_HPP
#define BULKHEAD_TEST_SUPPORT_RUN_HPP

#include "sanitizer.hpp"
#include "watchdog.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace test {

/// Runs `context` until it has nothing left to do. The watchdog turns a hang into a failure.
inline std::size_t run(boost::asio::io_context& context) {
  context.restart();
  return context.run();
}

/// Runs what is ready and does not wait.
inline std::size_t poll(boost::asio::io_context& context) {
  context.restart();
  return context.poll();
}

/// An io_context with threads of its own, which stay until finish().
class background {
public:
  explicit background(std::size_t threads = 1) : guard_(context_.get_executor()) {
    for (std::size_t i = 0; i != threads; ++i) threads_.emplace_back([this] { context_.run(); });
  }

  ~background() {
    guard_.reset();
    context_.stop();
    for (auto& t : threads_)
      if (t.joinable()) t.join();
  }

  boost::asio::io_context& context() noexcept { return context_; }

  /// Returns when no work is left, with the threads gone.
  void finish() {
    guard_.reset();
    for (auto& t : threads_)
      if (t.joinable()) t.join();
  }

private:
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::vector<std::thread> threads_;
};

// The next three are waited for by one thread and changed by another, and may be destroyed as soon
// as the wait is over: they notify under their lock, and then never touch themselves again. (A
// std::promise may still be busy inside set_value() when its future is ready.) A gate that tasks of
// a pool wait at outlives the pool, for opening it ends no wait yet.

/// A gate that tasks wait at until the test opens it.
class gate {
public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

/// A number that threads can wait for.
class counter {
public:
  void add(long n = 1) {
    std::lock_guard lock(mutex_);
    value_ += n;
    changed_.notify_all();
  }

  void wait_for(long n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return value_ >= n; });
  }

  long value() const {
    std::lock_guard lock(mutex_);
    return value_;
  }

private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  long value_ = 0;
};

/// A value that one thread sets, once, and another waits for.
template <class T>
class slot {
public:
  void set_value(T value) {
    std::lock_guard lock(mutex_);
    value_ = std::move(value);
    changed_.notify_all();
  }

  T get() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

template <>
class slot<void> {
public:
  void set_value() { opened_.open(); }
  void get() { opened_.wait(); }

private:
  gate opened_;
};

/// Counts live copies of itself, those that were moved from aside: what holds one has not been
/// destroyed yet.
class live {
public:
  explicit live(std::atomic<int>& count) noexcept : count_(&count) { ++*count_; }
  live(const live& other) noexcept : count_(other.count_) {
    if (count_) ++*count_;
  }
  live(live&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  ~live() {
    if (count_) --*count_;
  }
  live& operator=(const live&) = delete;

private:
  std::atomic<int>* count_;
};

} // namespace test

#endif
