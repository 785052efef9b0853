//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What a pool does when the system has no more threads. pthread_create is replaced for this, which
// is why these tests have an executable of their own.

#include "support/pool.hpp"
#include "support/run.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/stateful_pool.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/system_error.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// How many more threads can be created; -1: any number.
std::atomic<long> threads_left{-1};
std::atomic<long> refusals{0};
std::atomic<long> seen{0};

class thread_budget {
public:
  explicit thread_budget(long n) {
    refusals = 0;
    threads_left = n;
  }
  ~thread_budget() { threads_left = -1; }
};

bool interposed() {
  const long before = seen;
  std::thread([] {}).join();
  return seen == before + 1;
}

} // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) {
  ++seen;
  long left = threads_left;
  while (left >= 0 && !threads_left.compare_exchange_weak(left, left ? left - 1 : 0)) {
  }
  if (left == 0) {
    ++refusals;
    return EAGAIN;
  }
  using create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<create>(dlsym(RTLD_NEXT, "pthread_create"));
  return real(thread, attributes, start, argument);
}

BOOST_AUTO_TEST_CASE(a_thread_that_cannot_be_created_is_a_system_error_with_none_left_behind) {
  if (!interposed()) {
    BOOST_TEST_MESSAGE("SKIPPED: pthread_create cannot be replaced in this build");
    return;
  }
  for (long possible = 0; possible != 4; ++possible) {
    BOOST_TEST_CONTEXT(possible << " of 4 threads") {
      thread_budget budget(possible);
      std::error_code code;
      try {
        bulkhead::pool p(4);
      } catch (const boost::system::system_error& e) {
        code = e.code();
      }
      BOOST_TEST((code == std::errc::resource_unavailable_try_again));
      BOOST_TEST(refusals == 1);
      test::expect_threads(0);
    }
  }
}

BOOST_AUTO_TEST_CASE(with_threads_to_be_had_the_pool_starts) {
  thread_budget budget(4);
  test::counter ran;
  bulkhead::pool p(4);
  p.submit([&] { ran.add(); });
  ran.wait_for(1);
  BOOST_TEST(refusals == 0);
}

BOOST_AUTO_TEST_CASE(a_pool_that_is_destroyed_on_its_own_worker_ends_the_program_with_a_message) {
#if defined(BULKHEAD_TEST_TSAN)
  BOOST_TEST_MESSAGE("SKIPPED: ThreadSanitizer does not allow threads after fork()");
#else
  int pipe_ends[2];
  BOOST_REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(pipe_ends[1], 2);
    std::set_terminate([] { ::_exit(42); });
    auto* p = new bulkhead::pool(1);
    p->submit([p] { delete p; });
    for (;;) ::pause();
  }
  ::close(pipe_ends[1]);
  std::string message;
  char buffer[256];
  for (ssize_t n; (n = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
    message.append(buffer, static_cast<std::size_t>(n));
  ::close(pipe_ends[0]);
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFEXITED(status));
  BOOST_TEST(WEXITSTATUS(status) == 42);
  BOOST_TEST(message.find("worker") != std::string::npos, message);
#endif
}

BOOST_AUTO_TEST_CASE(a_running_pool_creates_no_threads) {
  test::counter ran;
  bulkhead::pool p(2);
  thread_budget budget(0);
  for (int i = 0; i != 100; ++i) p.submit([&] { ran.add(); });
  ran.wait_for(100);
  boost::asio::steady_timer timer(p, boost::asio::steady_timer::time_point::min());
  timer.async_wait([&](boost::system::error_code) { ran.add(); });
  ran.wait_for(101);
  p.join();
  BOOST_TEST(refusals == 0);
}

BOOST_AUTO_TEST_CASE(a_worker_that_cannot_be_added_is_reported_and_the_pool_goes_on) {
  if (!interposed()) {
    BOOST_TEST_MESSAGE("SKIPPED: pthread_create cannot be replaced in this build");
    return;
  }
  std::atomic<int> reported{0};
  bulkhead::pool_options o;
  o.threads = 3;
  o.min_threads = 1;
  o.on_exception = [&](std::exception_ptr) { ++reported; };
  test::counter ran;
  bulkhead::pool p(o);
  {
    thread_budget budget(0);
    test::plug busy(p);
    p.submit([] {}); // finds no worker, and none can be created
    BOOST_TEST(reported == 1);
    BOOST_TEST(p.stats().threads == 1u);
    busy.open();
    p.resize(2);
  }
  for (int i = 0; i != 100; ++i) p.submit([&] { ran.add(); });
  ran.wait_for(100);
  bulkhead::pool fixed([&] {
    o.min_threads = 0;
    o.threads = 1;
    return o;
  }());
  thread_budget budget(1);
  reported = 0;
  fixed.resize(4);
  BOOST_TEST(reported == 1);
  BOOST_TEST(fixed.stats().threads == 2u);
  for (int i = 0; i != 100; ++i) fixed.submit([&] { ran.add(); });
  ran.wait_for(200);
}

BOOST_AUTO_TEST_CASE(
    what_a_worker_without_a_state_has_left_is_not_kept_for_one_that_is_not_created) {
  if (!interposed()) {
    BOOST_TEST_MESSAGE("SKIPPED: pthread_create cannot be replaced in this build");
    return;
  }
  std::atomic<int> calls{0};
  bulkhead::pool_options o;
  o.threads = 3;
  o.on_exception = [](std::exception_ptr) {};
  test::gate warm, cold;
  test::counter busy, ran;
  bulkhead::stateful_pool<int> p(
      [&] {
        const int call = ++calls;
        if (call == 2) throw std::runtime_error("no state");
        return call;
      },
      o, {bulkhead::never, bulkhead::never});
  p.submit([&](int&) {
    busy.add();
    warm.wait();
  });
  boost::asio::post(p.get_executor(), [&] {
    busy.add();
    cold.wait();
  });
  busy.wait_for(2);
  p.submit([&](int& call) { ran.add(call); });
  test::wait_until([&] { return p.stats().failed_builds == 1; });
  p.resize(2); // so it leaves
  test::wait_until([&] { return p.stats().threads == 2; });
  {
    thread_budget budget(0);
    p.resize(3);
    BOOST_TEST(refusals != 0);
  }
  cold.open();
  ran.wait_for(3); // the third call's state
  warm.open();
}
