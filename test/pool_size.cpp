//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//
// The size of a pool: growing, shrinking, pausing, and what runs when a worker begins and ends.

#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::pool;
using bulkhead::pool_options;
using test::balanced;
using test::plug;
using test::wait_until;

namespace {

pool_options elastic(std::size_t least, std::size_t most) {
  pool_options o;
  o.threads = most;
  o.min_threads = least;
  return o;
}

std::string why_invalid(pool_options o) {
  try {
    pool p(std::move(o));
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

// Counts the workers that live, by the pool's own hooks.
struct census {
  std::atomic<long> now{0};
  std::atomic<long> most{0};
  std::atomic<long> started{0};

  void attach_to(pool_options& o) {
    o.on_worker_start = [this](std::size_t) {
      ++started;
      const long n = ++now;
      long seen = most;
      while (seen < n && !most.compare_exchange_weak(seen, n)) {
      }
    };
    o.on_worker_stop = [this](std::size_t) { --now; };
  }
};

// Whether `n` functions can run in `p` at the same time.
void expect_parallel(pool& p, std::ptrdiff_t n) {
  auto all = std::make_shared<std::latch>(n + 1);
  for (std::ptrdiff_t i = 0; i != n; ++i) p.submit([all] { all->arrive_and_wait(); });
  all->arrive_and_wait();
}

} // namespace

BOOST_AUTO_TEST_CASE(contradictory_sizes_are_invalid_arguments_that_say_so) {
  BOOST_TEST(why_invalid(elastic(3, 2)) ==
             "pool_options::min_threads must be at most threads, 2 (got 3)");
  pool_options o;
  o.idle_expiry = -1ns;
  BOOST_TEST(why_invalid(o) == "pool_options::idle_expiry must be more than 0 ns (got -1)");
  pool p(1);
  BOOST_CHECK_EXCEPTION(p.resize(0), std::invalid_argument, [](const std::invalid_argument& e) {
    return std::string(e.what()) == "pool::resize: threads must be at least 1 (got 0)";
  });
  BOOST_TEST(p.stats().threads == 1u);
}

// --- elastic pools ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_elastic_pool_grows_when_work_comes_and_all_are_busy) {
  pool p(elastic(1, 3));
  BOOST_TEST(p.stats().threads == 1u);
  plug busy;
  for (std::size_t n = 1; n <= 3; ++n) {
    wait_until([&] { return p.stats().idle == 1 || n != 1; }); // so much for its birth
    busy.hold(p);
    BOOST_TEST(p.stats().threads == n);
  }
  p.submit([] {});
  BOOST_TEST(p.stats().threads == 3u);
  BOOST_TEST(p.stats().queued == 1u);
  busy.open();
  p.join();
  BOOST_TEST(p.stats().completed == 4u);
}

BOOST_AUTO_TEST_CASE(an_elastic_pool_grows_for_posts_from_inside_too) {
  pool p(elastic(1, 2));
  std::latch both(2);
  asio::post(p, [&] {
    asio::post(p, [&] { both.arrive_and_wait(); });
    both.arrive_and_wait();
  });
  p.join();
  BOOST_TEST(both.try_wait());
}

BOOST_AUTO_TEST_CASE(an_elastic_pool_grows_for_a_function_that_comes_while_its_worker_handles_io) {
  for (int round = 0; round != test::scaled(300); ++round) {
    test::gate ran;
    pool p(elastic(1, 2));
    wait_until([&] { return p.stats().idle == 1; });
    boost::asio::steady_timer timer(p, 20us);
    timer.async_wait([&](boost::system::error_code) { ran.wait(); });
    const auto then = timer.expiry() + std::chrono::microseconds(round % 64);
    while (std::chrono::steady_clock::now() < then) {
    }
    p.submit([&] { ran.open(); });
    p.join();
  }
}

BOOST_AUTO_TEST_CASE(an_elastic_pool_grows_when_its_watcher_has_io_to_handle) {
  // What a handler posts may be left to a sleeping worker that looks for itself.
  for (int round = 0; round != test::scaled(50); ++round) {
    test::gate ran;
    pool p(elastic(2, 3));
    wait_until([&] { return p.stats().idle == 2; });
    boost::asio::steady_timer timer(p, 0us);
    boost::asio::post(p, [&] {
      boost::asio::post(p, [&] { ran.open(); });
      timer.async_wait([&](boost::system::error_code) { ran.wait(); });
      ran.wait();
    });
    p.join();
  }
}

BOOST_AUTO_TEST_CASE(idle_workers_above_the_minimum_expire) {
  census workers;
  pool_options o = elastic(1, 4);
  o.idle_expiry = 1ms;
  workers.attach_to(o);
  pool p(o);
  for (int round = 0; round != 3; ++round) {
    expect_parallel(p, 4);
    wait_until([&] { return p.stats().threads == 1; });
    wait_until([&] { return workers.now == 1; });
  }
  // One may expire before it has had its turn, or be on its way out when the next one comes.
  BOOST_TEST(p.stats().expired_workers >= 9u);
  BOOST_TEST(workers.most >= 4);
  p.join();
  BOOST_TEST(workers.now == 0);
}

BOOST_AUTO_TEST_CASE(a_pool_of_fixed_size_keeps_its_workers) {
  pool_options o = elastic(0, 3);
  o.idle_expiry = 1ns;
  pool p(o);
  BOOST_TEST(p.stats().threads == 3u);
  expect_parallel(p, 3);
  wait_until([&] { return p.stats().idle == 3; });
  BOOST_TEST(p.stats().threads == 3u);
  BOOST_TEST(p.stats().expired_workers == 0u);
}

// How often the threads of this process, but for the one that asks, have gone to sleep.
std::uint64_t times_others_slept() {
  std::uint64_t n = 0;
  const std::string self = std::to_string(::gettid());
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    if (thread.path().filename() == self) continue;
    std::ifstream status(thread.path() / "status");
    for (std::string word; status >> word;)
      if (std::uint64_t times = 0; word == "voluntary_ctxt_switches:" && status >> times)
        n += times;
  }
  return n;
}

// There is nothing to wait for but that nothing happens: so it looks until that is so.
BOOST_AUTO_TEST_CASE(workers_that_may_not_expire_sleep_on) {
  for (std::size_t least : {0u, 2u}) {
    pool_options o = elastic(least, 3);
    o.idle_expiry = 1us;
    pool p(o);
    expect_parallel(p, 3);
    const std::size_t stay = least == 0 ? 3 : least;
    wait_until([&] { return p.stats().threads == stay && p.stats().idle == stay; });
    wait_until([] {
      const std::uint64_t before = times_others_slept();
      std::this_thread::sleep_for(20ms);
      return times_others_slept() == before;
    });
    expect_parallel(p, 3);
    wait_until([&] { return p.stats().threads == stay; });
  }
}

BOOST_AUTO_TEST_CASE(work_is_not_lost_while_workers_come_and_go) {
  census workers;
  pool_options o = elastic(1, 4);
  o.idle_expiry = 20us;
  workers.attach_to(o);
  std::atomic<int> ran{0};
  const int n = test::scaled(20'000);
  {
    pool p(o);
    for (int i = 0; i != n; ++i) {
      p.submit([&] { asio::post(p, [&] { ++ran; }); });
      if (i % 100 != 0) continue;
      std::this_thread::sleep_for(50us);
      BOOST_TEST(p.stats().threads <= 4u);
    }
    p.join();
    BOOST_TEST(balanced(p.stats()));
  }
  BOOST_TEST(ran == n);
  BOOST_TEST(workers.now == 0);
}

// --- resize -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(resize_adds_workers_at_once) {
  pool p(1);
  plug busy(p);
  p.resize(4);
  BOOST_TEST(p.stats().threads == 4u);
  BOOST_TEST(p.stats().resizes == 1u);
  expect_parallel(p, 3);
}

BOOST_AUTO_TEST_CASE(shrinking_lets_running_tasks_end_and_starts_no_more_than_fit) {
  test::counter ran;
  pool p(4);
  plug busy(p, 4);
  p.resize(1);
  BOOST_TEST(p.stats().running == 4u);
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  wait_until([&] { return p.stats().threads == 4; });
  busy.open();
  wait_until([&] { return p.stats().threads == 1; });
  for (int i = 0; i != 100; ++i)
    p.submit([&] {
      most = std::max(most.load(), ++now);
      std::this_thread::yield();
      --now;
      ran.add();
    });
  ran.wait_for(100);
  BOOST_TEST(most == 1);
  BOOST_TEST(p.stats().expired_workers == 0u);
}

BOOST_AUTO_TEST_CASE(sleeping_workers_leave_when_the_pool_shrinks) {
  pool p(4);
  wait_until([&] { return p.stats().idle == 4; });
  p.resize(2);
  wait_until([&] { return p.stats().threads == 2; });
  expect_parallel(p, 2);
}

BOOST_AUTO_TEST_CASE(an_elastic_pool_that_may_grow_again_starts_what_waits) {
  test::gate third;
  pool p(elastic(1, 2));
  for (int i = 0; i != 2; ++i) p.submit([&] { third.wait(); });
  wait_until([&] { return p.stats().running == 2; });
  p.submit([&] { third.open(); });
  p.resize(3);
  third.wait();
  p.join();
}

BOOST_AUTO_TEST_CASE(resize_below_min_threads_lowers_that_too) {
  pool_options o = elastic(2, 4);
  o.idle_expiry = 1ms;
  pool p(o);
  p.resize(1);
  wait_until([&] { return p.stats().threads == 1; });
  p.resize(3);
  BOOST_TEST(p.stats().threads == 1u); // elastic as before
  expect_parallel(p, 3);
  wait_until([&] { return p.stats().threads == 1; });
}

BOOST_AUTO_TEST_CASE(a_task_may_resize_its_pool) {
  test::counter done;
  pool p(2);
  p.submit([&] {
    p.resize(1);
    p.resize(3);
    done.add();
  });
  done.wait_for(1);
  expect_parallel(p, 3);
  p.join();
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_and_the_limit_holds_while_the_size_changes_under_load) {
  census workers;
  pool_options o;
  o.threads = 2;
  o.queue_limit = 64;
  workers.attach_to(o);
  std::atomic<int> ran{0};
  const int n = test::scaled(20'000);
  pool p(o);
  std::atomic<bool> stop{false};
  std::atomic<bool> exceeded{false};
  std::thread sizes([&] {
    for (std::size_t i = 0; !stop; ++i) {
      p.resize(1 + i % 5);
      if (p.stats().threads > 5) exceeded = true;
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> producers;
  for (int t = 0; t != 2; ++t)
    producers.emplace_back([&] {
      for (int i = 0; i != n; ++i) p.submit([&] { asio::post(p, [&] { ++ran; }); });
    });
  for (auto& t : producers) t.join();
  stop = true;
  sizes.join();
  p.join();
  BOOST_TEST(ran == 2 * n);
  BOOST_TEST(!exceeded);
  BOOST_TEST(workers.now == 0);
  BOOST_TEST(balanced(p.stats()));
}

// --- pause --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_paused_pool_starts_nothing) {
  pool p(2);
  std::atomic<int> ran{0};
  wait_until([&] { return p.stats().idle == 2; }); // one of them sleeps in the reactor
  p.pause();
  p.submit([&] { ++ran; });
  asio::post(p, [&] { ++ran; });
  asio::dispatch(p, [&] { ++ran; });
  asio::steady_timer timer(p, asio::steady_timer::time_point::min());
  timer.async_wait([&](boost::system::error_code) { ++ran; });
  // Workers have had every occasion when those of another pool have run as much.
  for (int i = 0; i != 100; ++i) {
    pool other(2);
    expect_parallel(other, 2);
  }
  BOOST_TEST(ran == 0);
  BOOST_TEST(p.stats().queued == 1u);
  p.resume();
  wait_until([&] { return ran == 4; });
  p.join();
}

BOOST_AUTO_TEST_CASE(a_paused_pool_does_not_grow) {
  test::counter ran;
  pool p(elastic(1, 8));
  p.pause();
  for (int i = 0; i != 10; ++i) {
    p.submit([&] { ran.add(); });
    asio::post(p, [&] { ran.add(); });
  }
  BOOST_TEST(p.stats().threads == 1u);
  p.resume();
  ran.wait_for(20);
}

BOOST_AUTO_TEST_CASE(what_runs_goes_on_when_its_pool_is_paused) {
  test::gate go;
  test::counter reached;
  pool p(1);
  p.submit([&] {
    p.pause();
    reached.add();
    go.wait();
    asio::dispatch(p, [&] { reached.add(10); }); // begins nothing now, also inside a handler
    reached.add();
  });
  p.submit([&] { reached.add(100); });
  reached.wait_for(1);
  go.open();
  reached.wait_for(2);
  wait_until([&] { return p.stats().running == 0; });
  BOOST_TEST(reached.value() == 2);
  p.resume();
  reached.wait_for(112);
}

BOOST_AUTO_TEST_CASE(join_of_a_paused_pool_waits_for_resume) {
  pool p(2);
  p.pause();
  std::atomic<bool> ran{false};
  std::atomic<bool> joined{false};
  p.submit([&] { ran = true; });
  std::thread joiner([&] {
    p.join();
    joined = true;
  });
  for (int i = 0; i != 1000; ++i) std::this_thread::yield();
  BOOST_TEST(!joined);
  p.resume();
  joiner.join();
  BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(stop_overrides_a_pause) {
  std::atomic<bool> ran{false};
  {
    pool p(2);
    p.pause();
    p.submit([&] { ran = true; });
    p.stop();
    p.join();
    BOOST_TEST(p.stats().cancelled == 1u);
  }
  BOOST_TEST(!ran);
}

BOOST_AUTO_TEST_CASE(a_drain_of_a_paused_pool_abandons_at_its_deadline) {
  pool p(1);
  p.pause();
  p.submit([] {});
  BOOST_TEST(p.drain_for(1ms).abandoned == 1u);
  BOOST_TEST(p.drain_for(1ms).abandoned == 0u);
}

BOOST_AUTO_TEST_CASE(a_pool_can_be_paused_and_resumed_under_load) {
  pool p(2);
  std::atomic<bool> stop{false};
  std::thread toggle([&] {
    while (!stop) {
      p.pause();
      std::this_thread::yield();
      p.resume();
      std::this_thread::yield();
    }
  });
  std::atomic<int> ran{0};
  const int n = test::scaled(20'000);
  for (int i = 0; i != n; ++i) p.submit([&] { asio::post(p, [&] { ++ran; }); });
  stop = true;
  toggle.join();
  p.join();
  BOOST_TEST(ran == n);
}

// --- hooks --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(hooks_run_on_the_worker_before_its_first_and_after_its_last_function) {
  static thread_local bool began = false;
  static thread_local std::optional<std::size_t> number;
  std::mutex mutex;
  std::set<std::size_t> ended;
  bool always_began = true;
  pool_options o;
  o.threads = 3;
  o.on_worker_start = [&](std::size_t i) {
    began = true;
    number = i;
  };
  o.on_worker_stop = [&](std::size_t i) {
    began = false; // a function that came behind this would see it
    std::lock_guard lock(mutex);
    if (number == i) ended.insert(i);
  };
  {
    pool p(o);
    for (int i = 0; i != 100; ++i)
      p.submit([&] {
        std::lock_guard lock(mutex);
        always_began = always_began && began;
      });
    p.join();
  }
  BOOST_TEST(always_began);
  BOOST_TEST((ended == std::set<std::size_t>{0, 1, 2}));
}

BOOST_AUTO_TEST_CASE(a_worker_in_its_start_hook_keeps_no_other_from_working) {
  test::gate done;
  pool_options o;
  o.threads = 3;
  o.on_worker_start = [&](std::size_t worker) {
    if (worker == 0) done.wait();
  };
  pool p(o);
  wait_until([&] { return p.stats().idle == 2; });
  p.submit([&] { done.open(); });
  done.wait();
}

BOOST_AUTO_TEST_CASE(one_function_creates_one_worker_however_long_its_start_hook_takes) {
  test::gate go_on;
  std::atomic<int> started{0};
  pool_options o = elastic(1, 8);
  o.on_worker_start = [&](std::size_t) {
    if (++started != 1) go_on.wait();
  };
  test::counter ran;
  pool p(o);
  wait_until([&] { return p.stats().idle == 1; }); // a worker in its hook counts as busy
  plug busy(p);
  p.submit([&] { ran.add(); });
  wait_until([&] { return started >= 2; });
  BOOST_TEST(p.stats().threads == 2u);
  p.submit([&] { ran.add(); });
  wait_until([&] { return started >= 3; });
  BOOST_TEST(p.stats().threads == 3u);
  go_on.open();
  ran.wait_for(2);
}

BOOST_AUTO_TEST_CASE(a_stop_hook_may_use_its_pool_while_that_ends) {
  std::atomic<pool*> where{nullptr};
  test::gate in_hook, go_on;
  pool_options o = elastic(1, 2);
  o.idle_expiry = 1ms;
  o.on_worker_stop = [&](std::size_t) {
    in_hook.open();
    go_on.wait();
    boost::asio::post(*where, [] {});
    where.load()->resize(2);
  };
  pool p(o);
  where = &p;
  expect_parallel(p, 2);
  in_hook.wait(); // one has expired
  p.stop();
  std::thread joins([&] { p.join(); });
  go_on.open();
  joins.join();
}

struct posts_at_its_end {
  pool* where = nullptr;
  test::gate* begins = nullptr;
  ~posts_at_its_end() {
    if (!where) return;
    begins->open();
    for (int i = 0; i != 100; ++i) {
      boost::asio::post(*where, [] {});
      std::this_thread::yield();
    }
  }
};

thread_local posts_at_its_end at_the_end;

BOOST_AUTO_TEST_CASE(thread_local_objects_may_use_the_pool_whose_worker_ends) {
  for (std::size_t least : {1u, 2u}) {
    test::gate begins;
    pool_options o = elastic(least, 2);
    o.idle_expiry = 1ms;
    pool p(o);
    auto both = std::make_shared<std::latch>(3);
    for (int i = 0; i != 2; ++i)
      p.submit([&, both] {
        at_the_end.where = &p;
        at_the_end.begins = &begins;
        both->arrive_and_wait();
      });
    both->arrive_and_wait();
    if (least == 1) begins.wait();
    p.join();
  }
}

BOOST_AUTO_TEST_CASE(a_hook_that_throws_is_reported_and_the_worker_works) {
  std::atomic<int> reported{0};
  pool_options o;
  o.threads = 2;
  o.on_worker_start = [](std::size_t) { throw 1; };
  o.on_worker_stop = [](std::size_t) { throw 2; };
  o.on_exception = [&](std::exception_ptr) { ++reported; };
  {
    pool p(o);
    expect_parallel(p, 2);
  }
  BOOST_TEST(reported == 4);
}

// --- what asio::thread_pool has -----------------------------------------------------------------

namespace {

template <class Pool>
int use_as_thread_pool() {
  std::atomic<int> ran{0};
  Pool p;
  asio::post(p, [&] { ++ran; });
  asio::post(p.get_executor(), [&] { ++ran; });
  asio::post(p.executor(), [&] { ++ran; });
  typename Pool::executor_type ex = p.get_executor();
  BOOST_TEST(&asio::query(ex, asio::execution::context) == &p);
  std::thread attached([&] {
    p.attach();
    ++ran;
  });
  p.wait();
  attached.join();
  p.join();
  p.stop();
  return ran;
}

} // namespace

BOOST_AUTO_TEST_CASE(code_for_asio_thread_pool_means_the_same_with_a_pool) {
#if BOOST_ASIO_VERSION < 103300 // the peer has no executor() any more
  BOOST_TEST(use_as_thread_pool<asio::thread_pool>() == 4);
#endif
  BOOST_TEST(use_as_thread_pool<pool>() == 4);
}

BOOST_AUTO_TEST_CASE(an_attached_thread_is_a_worker_until_the_pool_ends) {
  test::counter ran;
  pool p(1);
  plug busy(p);
  std::thread attached([&] { p.attach(); });
  std::thread::id ran_on;
  p.submit([&] {
    ran_on = std::this_thread::get_id();
    ran.add();
  });
  ran.wait_for(1);
  BOOST_TEST((ran_on == attached.get_id()));
  BOOST_TEST(p.stats().threads == 2u);
  busy.open();
  p.stop();
  attached.join();
  p.attach(); // has ended already
}

BOOST_AUTO_TEST_CASE(attached_threads_sleep_also_when_they_are_more_than_the_pool_should_have) {
  pool p(1);
  plug busy(p);
  std::thread a([&] { p.attach(); }), b([&] { p.attach(); });
  wait_until([&] { return p.stats().threads == 3; });
  p.resize(1);
  const auto expect_two_asleep = [&] {
    wait_until([&] { return p.stats().idle == 2; });
    for (int i = 0; i != 1000; ++i) {
      BOOST_TEST_REQUIRE(p.stats().idle == 2u);
      std::this_thread::yield();
    }
  };
  expect_two_asleep(); // the surplus one is busy
  busy.open();
  wait_until([&] { return p.stats().threads == 2; });
  expect_two_asleep();
  p.stop();
  a.join();
  b.join();
}
