//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_WATCHDOG_HPP
#define BULKHEAD_TEST_SUPPORT_WATCHDOG_HPP

#include <boost/test/tree/observer.hpp>
#include <boost/test/tree/test_unit.hpp>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>

namespace test {

/// How many threads this process has.
inline long thread_count() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
}

/// How many it has while no test runs.
inline long threads_at_rest = 0;

/// Ends the process when one test case takes longer than a hard limit, so that a hang is a failure
/// with a name and not a job that never ends. Every test executable that includes this file has it.
///
/// The limit is no timing assertion: it is far beyond what the slowest machine needs, though one that
/// is busy with other things takes a hundred times as long to hand over between threads. Set
/// BULKHEAD_TEST_LIMIT to a number of seconds for debugging.
class watchdog : public boost::unit_test::test_observer {
public:
  watchdog() {
    boost::unit_test::framework::register_observer(*this);
    thread_ = std::thread([this] { run(); });
    threads_at_rest = thread_count();
  }

  ~watchdog() override {
    boost::unit_test::framework::deregister_observer(*this);
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void test_unit_start(const boost::unit_test::test_unit& unit) override {
    if (unit.p_type != boost::unit_test::TUT_CASE) return;
    set(unit.p_name.get());
  }

  void test_unit_finish(const boost::unit_test::test_unit& unit, unsigned long) override {
    if (unit.p_type != boost::unit_test::TUT_CASE) return;
    set({});
  }

private:
  using clock = std::chrono::steady_clock;

  static std::chrono::seconds limit() {
    if (const char* s = std::getenv("BULKHEAD_TEST_LIMIT"))
      return std::chrono::seconds(std::strtol(s, nullptr, 10));
    return std::chrono::seconds(120);
  }

  void set(std::string name) {
    {
      std::lock_guard lock(mutex_);
      name_ = std::move(name);
      deadline_ = clock::now() + limit();
    }
    changed_.notify_all();
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
      if (name_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, deadline_);
        if (!name_.empty() && clock::now() >= deadline_) {
          std::fprintf(stderr, "watchdog: the test \"%s\" hangs\n", name_.c_str());
          std::fflush(nullptr);
          std::_Exit(97);
        }
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string name_;
  clock::time_point deadline_{};
  bool stopped_ = false;
  std::thread thread_;
};

} // namespace test

namespace test {
BOOST_TEST_GLOBAL_FIXTURE(watchdog);
}

#endif
