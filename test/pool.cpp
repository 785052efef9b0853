//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/allocators.hpp"
#include "support/cancellation.hpp"
#include "support/global_new.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <unistd.h>

namespace asio = boost::asio;
namespace execution = boost::asio::execution;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::on_full;
using bulkhead::pool;
using bulkhead::pool_options;
using bulkhead::unbounded;
using test::balanced;
using test::code_of;
using test::live;
using test::plug;
using test::wait_until;

using pool_executor = pool::executor_type;

static_assert(std::is_base_of_v<asio::execution_context, pool>);
static_assert(!std::is_copy_constructible_v<pool>);
static_assert(!std::is_move_constructible_v<pool>);
static_assert(!std::is_copy_assignable_v<pool>);
static_assert(std::is_nothrow_destructible_v<pool>);
static_assert(std::is_default_constructible_v<pool>);
static_assert(!std::is_convertible_v<std::size_t, pool>);
static_assert(noexcept(std::declval<pool&>().get_executor()));
static_assert(noexcept(std::declval<const pool&>().stats()));

static_assert(execution::is_executor_v<pool_executor>);
static_assert(std::is_nothrow_copy_constructible_v<pool_executor>);
static_assert(std::is_nothrow_move_constructible_v<pool_executor>);
static_assert(std::is_nothrow_copy_assignable_v<pool_executor>);
static_assert(noexcept(std::declval<pool_executor>() == std::declval<pool_executor>()));
static_assert(std::is_convertible_v<pool_executor, asio::any_io_executor>);

static_assert(asio::can_require_v<pool_executor, execution::blocking_t::never_t>);
static_assert(asio::can_require_v<pool_executor, execution::blocking_t::possibly_t>);
static_assert(asio::can_require_v<pool_executor, execution::blocking_t::always_t>);
static_assert(asio::can_require_v<pool_executor, execution::relationship_t::fork_t>);
static_assert(asio::can_require_v<pool_executor, execution::relationship_t::continuation_t>);
static_assert(asio::can_require_v<pool_executor, execution::outstanding_work_t::tracked_t>);
static_assert(asio::can_require_v<pool_executor, execution::outstanding_work_t::untracked_t>);
static_assert(asio::can_require_v<pool_executor, execution::allocator_t<void>>);
static_assert(
    asio::can_require_v<pool_executor, execution::allocator_t<test::counting_allocator<int>>>);
static_assert(asio::can_query_v<pool_executor, execution::blocking_t>);
static_assert(asio::can_query_v<pool_executor, execution::relationship_t>);
static_assert(asio::can_query_v<pool_executor, execution::outstanding_work_t>);
static_assert(asio::can_query_v<pool_executor, execution::mapping_t>);
static_assert(asio::can_query_v<pool_executor, execution::occupancy_t>);
static_assert(asio::can_query_v<pool_executor, execution::allocator_t<void>>);
static_assert(asio::can_query_v<pool_executor, execution::context_t>);

namespace {

const error_code aborted = asio::error::operation_aborted;

// What one async_submit came to. The handler may run on any one thread.
template <class T = int>
struct outcome_of {
  std::atomic<int> calls{0};
  std::exception_ptr error;
  T value{};

  auto into() {
    return [this](std::exception_ptr e, T v) {
      error = e;
      value = std::move(v);
      ++calls;
    };
  }

  bool aborted() const { return calls == 1 && code_of(error) == ::aborted; }
  bool failed(errc e) const { return calls == 1 && code_of(error) == e; }
  bool succeeded(const T& v) const { return calls == 1 && !error && value == v; }
};

template <class Exception = std::invalid_argument>
std::string message_of(auto f) {
  try {
    f();
  } catch (const Exception& e) {
    return e.what();
  }
  return "no exception";
}

error_code error_of(auto f) {
  try {
    f();
  } catch (const bulkhead::system_error& e) {
    return e.code();
  }
  return {};
}

pool_options small(std::size_t threads, std::size_t queue_limit,
                   std::size_t waiter_limit = unbounded) {
  return pool_options{.threads = threads, .queue_limit = queue_limit, .waiter_limit = waiter_limit};
}

const auto nothing = [] {};

// Asio's global context of system_executor starts threads when it is first used; they are no
// concern of these tests, so they are there from the beginning.
struct system_threads {
  system_threads() {
    (void)asio::query(asio::system_executor(), execution::context);
    test::threads_at_rest = test::thread_count();
  }
};

BOOST_TEST_GLOBAL_FIXTURE(system_threads);

} // namespace

// --- options ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_default_pool_has_a_thread_per_cpu_and_a_bounded_queue) {
  const pool_options options;
  BOOST_TEST(options.threads >= 1u);
  BOOST_TEST(options.queue_limit == 4096u);
  BOOST_TEST(options.waiter_limit == unbounded);
  BOOST_TEST(!options.on_exception);
  pool p;
  BOOST_TEST(p.stats().threads == options.threads);
}

BOOST_AUTO_TEST_CASE(a_pool_has_the_threads_it_was_given) {
  pool p(3);
  BOOST_TEST(p.stats().threads == 3u);
  test::expect_threads(3);
}

BOOST_AUTO_TEST_CASE(no_threads_is_an_invalid_argument_that_says_so) {
  const std::string wanted = "pool_options::threads must be at least 1 (got 0)";
  BOOST_TEST(message_of([] { pool p(0); }) == wanted);
  BOOST_TEST(message_of([] { pool p(pool_options{.threads = 0}); }) == wanted);
}

BOOST_AUTO_TEST_CASE(a_queue_limit_of_zero_is_an_invalid_argument_that_says_so) {
  BOOST_TEST(message_of([] { pool p(small(1, 0)); }) ==
             "pool_options::queue_limit must be at least 1 (got 0)");
}

BOOST_AUTO_TEST_CASE(designated_initialisers_name_the_options) {
  pool p(pool_options{.threads = 2, .queue_limit = unbounded, .name = "worker"});
  BOOST_TEST(p.stats().threads == 2u);
}

BOOST_AUTO_TEST_CASE(a_worker_is_named_after_its_pool) {
  pool p(pool_options{.threads = 2, .name = "crunch"});
  test::slot<std::string> name;
  p.submit([&] { name.set_value(test::thread_name()); });
  const std::string got = name.get();
  BOOST_TEST(got.rfind("crunch", 0) == 0u, got);
}

BOOST_AUTO_TEST_CASE(a_long_name_is_cut_and_not_lost) {
  const std::string long_name(40, 'x');
  pool p(pool_options{.threads = 1, .name = long_name});
  test::slot<std::string> name;
  p.submit([&] { name.set_value(test::thread_name()); });
  const std::string got = name.get();
  BOOST_TEST(got.rfind("xxxxxxxx", 0) == 0u, got);
  BOOST_TEST(got.size() == 15u);
}

// --- try_submit and submit ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_submitted_task_runs_once_on_a_worker) {
  pool p(2);
  test::slot<std::thread::id> ran;
  BOOST_TEST(p.try_submit([&] { ran.set_value(std::this_thread::get_id()); }));
  BOOST_TEST((ran.get() != std::this_thread::get_id()));
  p.join();
  BOOST_TEST(p.stats().completed == 1u);
}

BOOST_AUTO_TEST_CASE(a_callable_is_taken_by_value_by_move_and_by_copy) {
  test::counter ran;
  pool p(1);
  const auto constant = [&] { ran.add(); };
  auto variable = [&] { ran.add(); };
  auto owner = [&, u = std::make_unique<int>(3)]() mutable { ran.add(*u); };
  std::function<void()> function = variable;
  BOOST_TEST(p.try_submit(constant));
  BOOST_TEST(p.try_submit(variable));
  BOOST_TEST(p.try_submit(std::move(owner)));
  BOOST_TEST(p.try_submit(function));
  p.submit(constant);
  p.submit(std::move(variable));
  p.join();
  BOOST_TEST(ran.value() == 8);
  BOOST_TEST(static_cast<bool>(function)); // copied, not moved
}

BOOST_AUTO_TEST_CASE(a_callable_of_any_size_and_alignment_is_carried) {
  pool p(1);
  std::atomic<bool> good{true};
  struct alignas(64) wide {
    std::array<char, 1000> bytes{};
  };
  const auto check = [&](const auto& object) {
    p.submit([&good, object] {
      using type = std::decay_t<decltype(object)>;
      if (reinterpret_cast<std::uintptr_t>(&object) % alignof(type) != 0) good = false;
    });
  };
  check(wide{});
  check(std::array<char, 1>{});
  check(std::array<char, 48>{});
  check(std::array<char, 49>{});
  check(std::array<char, 4096>{});
  p.join();
  BOOST_TEST(good);
}

BOOST_AUTO_TEST_CASE(a_refused_try_submit_leaves_the_callable_untouched) {
  pool p(small(1, 1));
  plug busy(p);
  BOOST_TEST(p.try_submit(nothing));
  struct task {
    std::unique_ptr<int> owned = std::make_unique<int>(7);
    void operator()() {}
  } t;
  BOOST_TEST(!p.try_submit(std::move(t)));
  BOOST_REQUIRE(t.owned);
  BOOST_TEST(*t.owned == 7);
  busy.open();
  p.join();
  BOOST_TEST(!p.try_submit(std::move(t))); // closed
  BOOST_TEST(static_cast<bool>(t.owned));
}

BOOST_AUTO_TEST_CASE(a_refused_submit_leaves_the_callable_untouched) {
  pool p(small(1, 1));
  plug busy(p);
  BOOST_TEST(p.try_submit(nothing));
  struct task {
    std::unique_ptr<int> owned = std::make_unique<int>(7);
    void operator()() {}
  } t;
  BOOST_TEST((error_of([&] { p.submit(std::move(t), on_full::reject); }) == errc::queue_full));
  BOOST_TEST(static_cast<bool>(t.owned));
  p.close();
  for (auto mode : {on_full::reject, on_full::block, on_full::caller_runs})
    BOOST_TEST((error_of([&] { p.submit(std::move(t), mode); }) == errc::closed));
  BOOST_TEST(static_cast<bool>(t.owned));
}

BOOST_AUTO_TEST_CASE(the_queue_limit_is_exact) {
  for (std::size_t limit : {1u, 2u, 15u, 16u, 17u, 1000u}) {
    pool p(small(1, limit));
    plug busy(p);
    for (std::size_t i = 0; i != limit; ++i) BOOST_TEST(p.try_submit(nothing));
    BOOST_TEST(!p.try_submit(nothing));
    BOOST_TEST(p.stats().queued == limit);
    busy.open();
    p.join();
    BOOST_TEST(p.stats().completed == limit + 1);
    BOOST_TEST(p.stats().rejected == 1u);
    BOOST_TEST(balanced(p.stats()));
  }
}

BOOST_AUTO_TEST_CASE(the_queue_limit_is_exact_for_many_producers) {
  constexpr std::size_t limit = 100, producers = 4;
  pool p(small(2, limit));
  plug busy(p, 2);
  std::atomic<std::size_t> accepted{0};
  std::atomic<std::size_t> ran{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t != producers; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i != 1000; ++i)
        if (p.try_submit([&] { ++ran; })) ++accepted;
    });
  for (auto& t : threads) t.join();
  BOOST_TEST(accepted == limit);
  BOOST_TEST(p.stats().queued == limit);
  BOOST_TEST(p.stats().rejected == producers * 1000 - limit);
  busy.open();
  p.join();
  BOOST_TEST(ran == limit);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(the_queue_limit_is_exact_while_places_come_and_go) {
  // A tree of tasks, each of which runs those of its children here that the pool refuses, and threads
  // outside that take places from it.
  constexpr std::size_t limit = 40, workers = 2;
  pool p(small(workers, limit));
  std::atomic<std::size_t> accepted{0}, started{0}, most{0};
  std::function<void(int)> node = [&](int height) {
    const std::size_t a = accepted, s = started; // as far as one can see
    if (a > s + most) most = a - s;
    for (int child = 0; child != 2 && height != 0; ++child) {
      const auto queued = [&, height] {
        ++started;
        node(height - 1);
      };
      if (p.try_submit(queued))
        ++accepted;
      else
        node(height - 1);
    }
  };
  const int attempts = test::scaled(100'000);
  for (int round = 0; round != 5; ++round) {
    std::atomic<bool> root_done{false};
    asio::post(p, [&] {
      node(test::sanitized ? 12 : 17);
      root_done = true;
    });
    std::thread outside([&] {
      for (int i = 0; i != attempts; ++i)
        if (p.try_submit([&] { ++started; })) ++accepted;
    });
    outside.join();
    wait_until([&] { return root_done && p.stats().running == 0 && started == accepted; });
    plug busy(p, workers);
    while (p.try_submit([&] { ++started; })) ++accepted;
    BOOST_TEST(p.stats().queued == limit);
    BOOST_TEST(accepted - started == limit);
  }
  BOOST_TEST(most <= limit + workers); // who starts one counts it a little later
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_started_task_has_left_the_queue) {
  // Work that was claimed and has not started is still queued; work that runs is not.
  pool p(small(1, 2));
  plug first(p);
  BOOST_TEST(p.stats().running == 1u);
  BOOST_TEST(p.stats().queued == 0u);
  plug second;
  test::slot<void> started;
  p.submit([&] {
    started.set_value();
    first.open();
  });
  p.submit(nothing);
  BOOST_TEST(p.stats().queued == 2u);
  BOOST_TEST(!p.try_submit(nothing));
  first.open();
  started.get();
  wait_until([&] { return p.stats().queued == 0; });
  BOOST_TEST(p.try_submit(nothing));
}

BOOST_AUTO_TEST_CASE(tasks_of_one_producer_start_in_order) {
  pool p(1);
  std::vector<int> order;
  for (int i = 0; i != 1000; ++i) p.submit([&order, i] { order.push_back(i); });
  p.join();
  BOOST_TEST(order.size() == 1000u);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

struct throws_when_copied_from_an_lvalue {
  throws_when_copied_from_an_lvalue() = default;
  throws_when_copied_from_an_lvalue(const throws_when_copied_from_an_lvalue&) = default;
  template <class T>
  requires std::is_same_v<T, throws_when_copied_from_an_lvalue&>
  throws_when_copied_from_an_lvalue(T&&) {
    throw 1;
  } // NOLINT: it is to be greedy
  void operator()() const {}
};

BOOST_AUTO_TEST_CASE(a_copy_that_throws_loses_nothing_though_the_type_looks_trivial) {
  using function = throws_when_copied_from_an_lvalue;
  static_assert(std::is_trivially_copyable_v<function>);
  pool p(1);
  function f;
  BOOST_CHECK_THROW((void)p.try_submit(f), int);
  BOOST_CHECK_THROW(asio::post(p, f), int);
  p.submit(std::as_const(f));
  p.join();
  BOOST_TEST(p.stats().completed == 1u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(submit_reject_throws_queue_full) {
  pool p(small(1, 1));
  plug busy(p);
  p.submit(nothing, on_full::reject);
  BOOST_TEST((error_of([&] { p.submit(nothing, on_full::reject); }) == errc::queue_full));
  BOOST_TEST(p.stats().rejected == 1u);
}

BOOST_AUTO_TEST_CASE(submit_caller_runs_runs_here_when_the_queue_is_full) {
  pool p(small(1, 1));
  plug busy(p);
  std::thread::id queued, here;
  p.submit([&] { queued = std::this_thread::get_id(); }, on_full::caller_runs);
  p.submit([&] { here = std::this_thread::get_id(); }, on_full::caller_runs);
  BOOST_TEST((here == std::this_thread::get_id()));
  busy.open();
  p.join();
  BOOST_TEST((queued != std::this_thread::get_id()));
  BOOST_TEST((queued != std::thread::id()));
  BOOST_TEST(p.stats().completed == 3u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(submit_caller_runs_works_on_a_worker) {
  pool p(small(1, 1));
  test::slot<bool> same;
  p.submit([&] {
    p.submit(nothing);
    const auto me = std::this_thread::get_id();
    bool ran_here = false;
    p.submit([&] { ran_here = me == std::this_thread::get_id(); }, on_full::caller_runs);
    same.set_value(ran_here);
  });
  BOOST_TEST(same.get());
}

BOOST_AUTO_TEST_CASE(submit_caller_runs_inside_a_submission_is_counted_as_one_that_runs) {
  pool p(pool_options{.threads = 1, .queue_limit = 1, .on_exception = [](std::exception_ptr) {}});
  test::slot<void> done;
  bulkhead::pool_stats within, after;
  p.submit([&] {
    p.submit(nothing); // fills the queue
    for (int i = 0; i != 3; ++i) {
      p.submit([&] { within = p.stats(); }, on_full::caller_runs);
      p.submit([] { throw 1; }, on_full::caller_runs);
      BOOST_TEST(!p.try_submit(nothing));
    }
    after = p.stats();
    done.set_value();
  });
  done.get();
  BOOST_TEST(within.running == 2u);
  BOOST_TEST(within.queued == 1u);
  BOOST_TEST(after.submitted == 11u);
  BOOST_TEST(after.running == 1u);
  BOOST_TEST(after.completed == 3u);
  BOOST_TEST(after.failed == 3u);
  BOOST_TEST(after.rejected == 3u);
  p.join();
  BOOST_TEST(p.stats().exceptions == 3u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_refused_submission_is_admitted_as_soon_as_there_is_room) {
  // Whether the queue is still full is found without a lock: each way to get room must show.
  test::gate second;
  pool p(small(1, 2));
  auto refused = [&] { return !p.try_submit(nothing); };
  plug first(p);
  asio::cancellation_signal signal;
  p.submit([&] { second.wait(); });
  p.async_submit(nothing, asio::bind_cancellation_slot(signal.slot(), asio::detached));
  BOOST_TEST(refused());
  BOOST_TEST(refused());
  signal.emit(asio::cancellation_type::terminal); // one is withdrawn
  BOOST_TEST(!refused());
  BOOST_TEST(refused());
  first.open(); // one is started
  wait_until([&] { return p.stats().queued == 1; });
  BOOST_TEST(!refused());
  BOOST_TEST(refused());
  p.close();
  BOOST_TEST((error_of([&] { p.submit(nothing, on_full::reject); }) == errc::closed));
  BOOST_TEST((error_of([&] { p.submit(nothing, on_full::caller_runs); }) == errc::closed));
  second.open();
}

BOOST_AUTO_TEST_CASE(submit_blocks_until_there_is_room) {
  test::counter ran;
  pool p(small(1, 1));
  plug busy(p);
  p.submit(nothing);
  std::atomic<bool> returned{false};
  std::thread blocked([&] {
    p.submit([&] { ran.add(); });
    returned = true;
  });
  wait_until([&] { return p.stats().waiting == 1; });
  BOOST_TEST(!returned);
  busy.open();
  blocked.join();
  p.join();
  BOOST_TEST(ran.value() == 1);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(blocked_submits_return_when_they_are_admitted_though_the_queue_stays_full) {
  constexpr int limit = 64, threads = 8;
  pool p(small(1, limit));
  std::counting_semaphore<> go(0);
  auto task = [&] { go.acquire(); };
  for (int i = 0; i != limit; ++i) p.submit(task);
  wait_until([&] { return p.stats().running == 1; });
  p.submit(task);
  std::vector<std::thread> blocked;
  for (int i = 0; i != threads; ++i) blocked.emplace_back([&] { p.submit(task); });
  wait_until([&] { return p.stats().waiting == threads; });
  go.release(threads);
  for (auto& t : blocked) t.join();
  BOOST_TEST(p.stats().queued == std::size_t(limit));
  go.release(limit + 1);
  p.join();
  BOOST_TEST(p.stats().completed == std::uint64_t(limit + threads + 1));
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_blocking_submit_from_its_own_worker_throws_would_deadlock) {
  pool p(small(1, 1));
  test::slot<error_code> result;
  p.submit([&] {
    p.submit(nothing); // room: nothing to wait for
    result.set_value(error_of([&] { p.submit(nothing); }));
  });
  BOOST_TEST((result.get() == errc::would_deadlock));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_blocking_submit_from_another_pools_worker_waits) {
  pool p(small(1, 1)), other(1);
  plug busy(p);
  p.submit(nothing);
  test::slot<void> done;
  other.submit([&] { p.submit([&] { done.set_value(); }); });
  wait_until([&] { return p.stats().waiting == 1; });
  busy.open();
  done.get();
}

BOOST_AUTO_TEST_CASE(close_wakes_a_blocked_submit_with_closed) {
  for (bool by_stop : {false, true}) {
    pool p(small(1, 1));
    plug busy(p);
    p.submit(nothing);
    error_code seen;
    std::thread blocked([&] { seen = error_of([&] { p.submit(nothing); }); });
    wait_until([&] { return p.stats().waiting == 1; });
    if (by_stop)
      p.stop();
    else
      p.close();
    blocked.join();
    BOOST_TEST((seen == errc::closed));
    BOOST_TEST(p.stats().waiting == 0u);
    busy.open();
    p.join();
    BOOST_TEST(balanced(p.stats()));
  }
}

BOOST_AUTO_TEST_CASE(asynchronous_waiters_and_blocked_submitters_stand_in_one_line) {
  pool p(small(1, 1));
  std::mutex mutex;
  std::vector<char> order;
  auto task = [&](char c) {
    return [&, c] {
      std::lock_guard lock(mutex);
      order.push_back(c);
      return 0;
    };
  };
  plug busy(p);
  BOOST_TEST(p.try_submit(task('a')));
  p.async_submit(task('b'), asio::detached);
  BOOST_TEST(p.stats().waiting == 1u);
  std::thread blocked([&] { p.submit(task('c')); });
  wait_until([&] { return p.stats().waiting == 2; });
  p.async_submit(task('d'), asio::detached);
  std::thread blocked_too([&] { p.submit(task('e')); });
  wait_until([&] { return p.stats().waiting == 4; });
  p.async_submit(task('f'), asio::detached);
  BOOST_TEST(!p.try_submit(task('x')));
  busy.open();
  blocked.join();
  blocked_too.join();
  wait_until([&] { return p.stats().waiting == 0; }); // join() would refuse it
  p.join();
  BOOST_TEST(std::string(order.begin(), order.end()) == "abcdef");
}

BOOST_AUTO_TEST_CASE(a_task_may_submit_more) {
  test::counter ran;
  pool p(2);
  p.submit([&] {
    for (int i = 0; i != 100; ++i)
      if (!p.try_submit([&] { ran.add(); })) ran.add();
  });
  ran.wait_for(100);
  p.join();
  BOOST_TEST(p.stats().completed == 101u);
}

// --- async_submit -------------------------------------------------------------------------------

namespace {

// async_submit of a task that runs until proceed(). With `queued`, the task does not even start
// until then; with `waiting`, it waits for room until then.
struct submit_fixture {
  enum class where { running, queued, waiting };

  std::shared_ptr<test::gate> open = std::make_shared<test::gate>();
  std::shared_ptr<std::atomic<int>> alive = std::make_shared<std::atomic<int>>(0);
  std::optional<pool> p;
  plug busy;
  where w;
  bool throws = false;

  explicit submit_fixture(where at) : w(at) {
    p.emplace(pool_options{.threads = 1, .queue_limit = 1, .name = "fixture"});
    if (w == where::running) return;
    busy.hold(*p);
    if (w == where::waiting) p->submit(nothing);
  }

  ~submit_fixture() {
    open->open();
    busy.open();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open, counted = live(*alive), keep = alive, fail = throws] {
      g->wait();
      if (fail) throw std::runtime_error("from the task");
      return 42;
    };
    return p->async_submit(std::move(task), std::forward<Token>(token));
  }

  void proceed() {
    open->open();
    busy.open();
  }

  void settle() {
    wait_until([&] { return p->stats().waiting == 0; }); // join() would refuse what waits
    p->join();
  }
  void destroy() { p.reset(); }
  void restored() {
    BOOST_TEST(*alive == 0);
    BOOST_TEST(balanced(p->stats()));
  }
  bool on_own_executor() const { return test::thread_name().rfind("fixture", 0) == 0; }
};

struct void_submit_fixture : submit_fixture {
  using submit_fixture::submit_fixture;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open] { g->wait(); };
    return p->async_submit(std::move(task), std::forward<Token>(token));
  }
};

struct move_only_submit_fixture : submit_fixture {
  using submit_fixture::submit_fixture;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open] {
      g->wait();
      return std::make_unique<int>(5);
    };
    return p->async_submit(std::move(task), std::forward<Token>(token));
  }
};

struct idle_drain_fixture : submit_fixture {
  idle_drain_fixture() : submit_fixture(where::running) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p->async_drain(std::forward<Token>(token));
  }
};

template <submit_fixture::where Where, bool Throws = false>
auto make_submit = [] {
  auto f = std::make_unique<submit_fixture>(Where);
  f->throws = Throws;
  return f;
};

using where = submit_fixture::where;
using submit_signature = void(std::exception_ptr, int);

auto expect_42 = [](std::exception_ptr e, int n) {
  BOOST_TEST(!e);
  BOOST_TEST(n == 42);
};

auto expect_the_tasks_error = [](std::exception_ptr e, int) {
  BOOST_REQUIRE(e);
  BOOST_CHECK_EXCEPTION(std::rethrow_exception(e), std::runtime_error,
                        [](const auto& x) { return x.what() == std::string("from the task"); });
};

auto expect_code(error_code wanted) {
  return [wanted](std::exception_ptr e, int) { BOOST_TEST(code_of(e) == wanted); };
}

} // namespace

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_task) {
  test::token_matrix<submit_signature>(make_submit<where::running>, expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_queued_task) {
  test::token_matrix<submit_signature>(make_submit<where::queued>, expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_after_waiting_for_room) {
  test::token_matrix<submit_signature>(make_submit<where::waiting>, expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_exception_of_a_task) {
  test::token_matrix<submit_signature>(make_submit<where::running, true>, expect_the_tasks_error);
}

BOOST_AUTO_TEST_CASE(every_token_reports_queue_full) {
  struct full_fixture : submit_fixture {
    full_fixture() : submit_fixture(where::running) {
      p.emplace(small(1, 1, 0));
      busy.hold(*p);
      p->submit(nothing);
    }
  };
  test::token_matrix<submit_signature>([] { return std::make_unique<full_fixture>(); },
                                       expect_code(errc::queue_full));
}

BOOST_AUTO_TEST_CASE(every_token_reports_closed) {
  auto make = [] {
    auto f = std::make_unique<submit_fixture>(where::running);
    f->p->close();
    return f;
  };
  test::token_matrix<submit_signature>(make, expect_code(errc::closed));
}

BOOST_AUTO_TEST_CASE(every_token_completes_without_a_result) {
  test::token_matrix<void(std::exception_ptr)>(
      [] { return std::make_unique<void_submit_fixture>(where::running); },
      [](std::exception_ptr e) { BOOST_TEST(!e); });
}

BOOST_AUTO_TEST_CASE(every_token_gets_a_move_only_result) {
  test::token_matrix<void(std::exception_ptr, std::unique_ptr<int>)>(
      [] { return std::make_unique<move_only_submit_fixture>(where::queued); },
      [](std::exception_ptr e, std::unique_ptr<int> v) {
        BOOST_TEST(!e);
        BOOST_REQUIRE(v);
        BOOST_TEST(*v == 5);
      });
}

BOOST_AUTO_TEST_CASE(handlers_of_async_submit_run_on_their_executor) {
  auto check = [](std::exception_ptr, int) {};
  test::executor_matrix(make_submit<where::running>, check);
  test::executor_matrix(make_submit<where::queued>, check);
  test::executor_matrix(make_submit<where::waiting>, check);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(what_need_not_wait_completes_on_an_associated_immediate_executor) {
  auto closed = [] {
    auto f = std::make_unique<submit_fixture>(where::running);
    f->p->close();
    return f;
  };
  BOOST_TEST(test::completes_at_once(closed, expect_code(errc::closed)));
  BOOST_TEST(!test::completes_at_once(make_submit<where::waiting>, expect_42));
}
#endif

BOOST_AUTO_TEST_CASE(a_queued_task_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_submit<where::queued>, expect_42);
}

BOOST_AUTO_TEST_CASE(a_wait_for_room_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_submit<where::waiting>, expect_42);
}

BOOST_AUTO_TEST_CASE(a_start_and_a_cancellation_exclude_each_other) {
  test::cancellation_race(make_submit<where::queued>, expect_42, test::scaled(200));
  test::cancellation_race(make_submit<where::waiting>, expect_42, test::scaled(200));
}

BOOST_AUTO_TEST_CASE(the_waiter_limit_is_exact) {
  pool p(small(1, 2, 3));
  asio::io_context io;
  plug busy(p);
  std::vector<std::unique_ptr<outcome_of<>>> results;
  for (int i = 0; i != 6; ++i) {
    results.push_back(std::make_unique<outcome_of<>>());
    p.async_submit([i] { return i; }, asio::bind_executor(io, results.back()->into()));
  }
  BOOST_TEST(p.stats().queued == 2u);
  BOOST_TEST(p.stats().waiting == 3u);
  test::poll(io);
  BOOST_TEST(results[5]->failed(errc::queue_full));
  BOOST_TEST(p.stats().rejected == 1u);
  busy.open();
  test::run(io);
  for (int i = 0; i != 5; ++i) BOOST_TEST(results[static_cast<std::size_t>(i)]->succeeded(i));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(without_waiters_allowed_a_full_queue_refuses_at_once) {
  pool p(small(1, 1, 0));
  asio::io_context io;
  plug busy(p);
  outcome_of<> a, b;
  p.async_submit([] { return 1; }, asio::bind_executor(io, a.into()));
  p.async_submit([] { return 2; }, asio::bind_executor(io, b.into()));
  test::poll(io);
  BOOST_TEST(a.calls == 0);
  BOOST_TEST(b.failed(errc::queue_full));
}

BOOST_AUTO_TEST_CASE(waiters_are_admitted_in_order) {
  constexpr int n = 200;
  pool p(small(1, 1));
  std::vector<int> order;
  plug busy(p);
  for (int i = 0; i != n; ++i)
    p.async_submit(
        [&order, i] {
          order.push_back(i);
          return i;
        },
        asio::detached);
  BOOST_TEST(p.stats().waiting == n - 1u);
  busy.open();
  // join() closes, which would refuse the waiters
  wait_until([&] { return p.stats().waiting == 0; });
  p.join();
  BOOST_TEST(order.size() == static_cast<std::size_t>(n));
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(cancelling_a_queued_task_frees_its_room_at_once) {
  pool p(small(1, 1));
  asio::io_context io;
  asio::cancellation_signal signal;
  std::atomic<int> alive{0};
  outcome_of<> queued, waiting, behind;
  plug busy(p);
  auto task = [l = live(alive)] { return 1; };
  p.async_submit(std::move(task), asio::bind_cancellation_slot(
                                      signal.slot(), asio::bind_executor(io, queued.into())));
  p.async_submit([] { return 2; }, asio::bind_executor(io, waiting.into()));
  p.async_submit([] { return 3; }, asio::bind_executor(io, behind.into()));
  BOOST_TEST(p.stats().waiting == 2u);
  signal.emit(asio::cancellation_type::total);
  BOOST_TEST(p.stats().queued == 1u);
  BOOST_TEST(p.stats().waiting == 1u); // one moved up although no worker was free
  test::poll(io);
  BOOST_TEST(queued.aborted());
  BOOST_TEST(p.stats().cancelled == 1u);
  busy.open();
  test::run(io);
  BOOST_TEST(waiting.succeeded(2));
  BOOST_TEST(behind.succeeded(3));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(cancelling_a_wait_for_room_leaves_the_line) {
  pool p(small(1, 1));
  asio::io_context io;
  asio::cancellation_signal signal;
  outcome_of<> first, second;
  plug busy(p);
  p.submit(nothing);
  p.async_submit([] { return 1; }, asio::bind_cancellation_slot(
                                       signal.slot(), asio::bind_executor(io, first.into())));
  p.async_submit([] { return 2; }, asio::bind_executor(io, second.into()));
  signal.emit(asio::cancellation_type::partial);
  BOOST_TEST(p.stats().waiting == 1u);
  test::poll(io);
  BOOST_TEST(first.aborted());
  busy.open();
  test::run(io);
  BOOST_TEST(second.succeeded(2));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(cancelling_a_running_task_requests_stop_and_keeps_its_result) {
  for (auto type : test::all_cancellation_types) {
    pool p(2);
    asio::io_context io;
    asio::cancellation_signal signal;
    test::slot<void> started;
    outcome_of<> r;
    auto task = [&](std::stop_token token) {
      started.set_value();
      wait_until([&] { return token.stop_requested(); });
      return 7;
    };
    p.async_submit(task,
                   asio::bind_cancellation_slot(signal.slot(), asio::bind_executor(io, r.into())));
    started.get();
    signal.emit(type);
    test::run(io);
    BOOST_TEST(r.succeeded(7));
    p.join();
    BOOST_TEST(p.stats().completed == 1u);
    BOOST_TEST(p.stats().cancelled == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_task_without_a_stop_token_runs_to_its_end) {
  test::gate g;
  pool p(1);
  asio::io_context io;
  asio::cancellation_signal signal;
  test::slot<void> started;
  outcome_of<> r;
  p.async_submit(
      [&] {
        started.set_value();
        g.wait();
        return 7;
      },
      asio::bind_cancellation_slot(signal.slot(), asio::bind_executor(io, r.into())));
  started.get();
  signal.emit(asio::cancellation_type::terminal);
  g.open();
  test::run(io);
  BOOST_TEST(r.succeeded(7));
}

BOOST_AUTO_TEST_CASE(a_task_is_not_asked_to_stop_without_a_reason) {
  pool p(1);
  auto f = p.async_submit([](std::stop_token token) { return token.stop_requested(); },
                          asio::use_future);
  BOOST_TEST(!f.get());
}

BOOST_AUTO_TEST_CASE(what_a_task_throws_reaches_its_handler_and_not_on_exception) {
  std::atomic<int> reported{0};
  pool p(pool_options{.threads = 1, .on_exception = [&](std::exception_ptr) { ++reported; }});
  asio::io_context io;
  std::exception_ptr seen;
  p.async_submit([]() -> int { throw 42; },
                 asio::bind_executor(io, [&](std::exception_ptr e, int) { seen = e; }));
  test::run(io);
  BOOST_REQUIRE(seen);
  BOOST_CHECK_THROW(std::rethrow_exception(seen), int);
  p.join();
  BOOST_TEST(reported == 0);
  BOOST_TEST(p.stats().failed == 1u);
  BOOST_TEST(p.stats().exceptions == 0u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_tasks_captures_are_gone_before_its_completion) {
  pool p(1);
  asio::io_context io;
  std::atomic<int> alive{0};
  int at_completion = -1;
  auto task = [l = live(alive)] { return 1; };
  p.async_submit(std::move(task),
                 asio::bind_executor(io, [&](std::exception_ptr, int) { at_completion = alive; }));
  test::run(io);
  BOOST_TEST(at_completion == 0);

  // Also when it throws
  at_completion = -1;
  auto thrower = [l = live(alive)]() -> int { throw std::runtime_error("x"); };
  p.async_submit(std::move(thrower),
                 asio::bind_executor(io, [&](std::exception_ptr, int) { at_completion = alive; }));
  test::run(io);
  BOOST_TEST(at_completion == 0);
}

BOOST_AUTO_TEST_CASE(a_tasks_captures_are_gone_before_the_next_task_runs) {
  pool p(1);
  std::atomic<int> alive{0};
  std::atomic<int> seen{-1};
  plug busy(p);
  p.submit([l = live(alive)] {});
  p.submit([&] { seen = alive.load(); });
  busy.open();
  p.join();
  BOOST_TEST(seen == 0);

  pool q(1);
  seen = -1;
  asio::post(q, [l = live(alive)] {});
  asio::post(q, [&] { seen = alive.load(); });
  q.join();
  BOOST_TEST(seen == 0);
}

BOOST_AUTO_TEST_CASE(an_aborted_tasks_captures_are_gone_before_its_completion) {
  pool p(1);
  asio::io_context io;
  asio::cancellation_signal signal;
  std::atomic<int> alive{0};
  int at_completion = -1;
  plug busy(p);
  auto task = [l = live(alive)] { return 1; };
  p.async_submit(std::move(task),
                 asio::bind_cancellation_slot(signal.slot(),
                                              asio::bind_executor(io, [&](std::exception_ptr, int) {
                                                at_completion = alive;
                                              })));
  signal.emit(asio::cancellation_type::terminal);
  test::run(io);
  BOOST_TEST(at_completion == 0);
}

BOOST_AUTO_TEST_CASE(a_handler_of_the_pool_itself_runs_on_a_worker) {
  pool p(pool_options{.threads = 2, .name = "home"});
  test::slot<std::string> name;
  p.async_submit([] { return 1; },
                 [&](std::exception_ptr, int) { name.set_value(test::thread_name()); });
  BOOST_TEST(name.get().rfind("home", 0) == 0u);
}

BOOST_AUTO_TEST_CASE(async_submit_is_work_for_the_pool_and_for_the_handlers_context) {
  pool p(1);
  asio::io_context io;
  outcome_of<> r;
  plug busy(p);
  p.async_submit([] { return 1; }, asio::bind_executor(io, r.into()));
  BOOST_TEST(io.poll() == 0u);
  BOOST_TEST(!io.stopped());
  busy.open();
  test::run(io); // returns after the handler, not before
  BOOST_TEST(r.succeeded(1));
}

BOOST_AUTO_TEST_CASE(a_coroutine_of_another_context_hops_to_the_pool_and_back) {
  pool p(pool_options{.threads = 2, .name = "far"});
  asio::io_context io;
  int done = 0;
  auto body = [](pool& where_to, int& finished) -> asio::awaitable<void> {
    const auto here = std::this_thread::get_id();
    for (int i = 0; i != 100; ++i) {
      auto task = [i] { return std::pair(i, std::this_thread::get_id()); };
      auto [n, there] = co_await where_to.async_submit(task, asio::use_awaitable);
      BOOST_TEST(n == i);
      BOOST_TEST((there != here));
      BOOST_TEST((std::this_thread::get_id() == here));
    }
    ++finished;
  };
  asio::co_spawn(io, body(p, done), asio::detached);
  test::run(io);
  BOOST_TEST(done == 1);
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_in_async_submit_submits_nothing) {
  pool p(small(1, 1));
  asio::io_context io;
  test::allocation_fuse fuse;
  test::memory_balance memory;
  std::atomic<int> alive{0};
  for (bool waits : {false, true}) {
    plug busy(p);
    if (waits) p.submit(nothing);
    bool started = false;
    int calls = 0;
    long failures = 0;
    const auto before = p.stats();
    for (long n = 0; !started; ++n) {
      auto task = [l = live(alive)] { return 1; };
      fuse.arm(n);
      try {
        p.async_submit(std::move(task),
                       asio::bind_allocator(
                           test::throwing_allocator<int>(fuse, memory),
                           asio::bind_executor(io, [&](std::exception_ptr, int) { ++calls; })));
        started = true;
      } catch (const std::bad_alloc&) {
        ++failures;
        BOOST_TEST(memory.blocks == 0);
        BOOST_TEST(p.stats().queued == before.queued);
        BOOST_TEST(p.stats().waiting == before.waiting);
      }
      fuse.disarm();
    }
    BOOST_TEST(failures > 0);
    BOOST_TEST(alive == 1);
    busy.open();
    test::run(io);
    BOOST_TEST(calls == 1);
    BOOST_TEST(alive == 0);
    BOOST_TEST(memory.blocks == 0);
    wait_until([&] { return p.stats().running == 0 && p.stats().queued == 0; });
  }
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_elsewhere_submits_nothing) {
  for (int kind = 0; kind != 5; ++kind) {
    BOOST_TEST_CONTEXT("kind " << kind) {
      bool started = false;
      for (long n = 0; !started; ++n) {
        pool p(small(1, 1));
        asio::io_context io;
        plug busy(p);
        if (kind == 1) p.submit(nothing); // wait for room
        std::atomic<int> alive{0};
        std::atomic<int> ran{0};
        struct task {
          live l;
          std::atomic<int>* runs;
          std::array<char, 200> large{};
          int operator()() { return ++*runs; }
        } t{live(alive), &ran};
        auto handler = asio::bind_executor(io, [](std::exception_ptr, int) {});
        const auto before = p.stats();
        try {
          test::global_fuse_scope fuse(n);
          if (kind < 2) p.async_submit(std::move(t), handler);
          if (kind == 2) started = p.try_submit(t); // refused or accepted, but not lost
          if (kind == 3) p.submit(t);
          if (kind == 4) asio::post(p, t);
          started = true;
        } catch (const std::bad_alloc&) {
          BOOST_TEST(p.stats().queued == before.queued);
          BOOST_TEST(p.stats().waiting == before.waiting);
        }
        busy.open();
        if (kind == 1 && started) test::run(io);
        p.join();
        BOOST_TEST(ran == (started ? 1 : 0));
        BOOST_TEST(alive <= 1); // t itself, if it was copied or has come back
        BOOST_TEST(balanced(p.stats()));
      }
    }
  }
}

// --- exceptions of tasks without a handler ------------------------------------------------------

BOOST_AUTO_TEST_CASE(on_exception_gets_what_posted_and_submitted_tasks_throw) {
  std::mutex mutex;
  std::multiset<int> seen;
  std::thread::id worker;
  pool p(pool_options{.threads = 1, .on_exception = [&](std::exception_ptr e) {
                        std::lock_guard lock(mutex);
                        worker = std::this_thread::get_id();
                        try {
                          std::rethrow_exception(e);
                        } catch (int n) {
                          seen.insert(n);
                        }
                      }});
  BOOST_TEST(p.try_submit([] { throw 1; }));
  p.submit([] { throw 2; });
  asio::post(p, [] { throw 3; });
  asio::dispatch(p, [] { throw 4; });
  asio::post(p, [&] { asio::dispatch(p, [] { throw 5; }); });
  test::slot<std::thread::id> alive;
  p.submit([&] { alive.set_value(std::this_thread::get_id()); }); // the worker survives
  const auto survivor = alive.get();
  p.join();
  BOOST_TEST(seen == (std::multiset<int>{1, 2, 3, 4, 5}));
  BOOST_TEST((survivor == worker));
  BOOST_TEST(p.stats().exceptions == 5u);
  BOOST_TEST(p.stats().failed == 2u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(an_empty_function_is_a_task_that_throws) {
  std::atomic<int> bad{0};
  pool p(pool_options{.threads = 1, .on_exception = [&](std::exception_ptr e) {
                        try {
                          std::rethrow_exception(e);
                        } catch (const std::bad_function_call&) {
                          ++bad;
                        }
                      }});
  p.submit(std::function<void()>());
  asio::io_context io;
  std::exception_ptr seen;
  p.async_submit(std::function<int()>(),
                 asio::bind_executor(io, [&](std::exception_ptr e, int) { seen = e; }));
  test::run(io);
  BOOST_REQUIRE(seen);
  BOOST_CHECK_THROW(std::rethrow_exception(seen), std::bad_function_call);
  p.join();
  BOOST_TEST(bad == 1);
}

BOOST_AUTO_TEST_CASE(an_exception_from_a_completion_handler_is_reported_and_the_worker_survives) {
  std::atomic<int> reported{0};
  pool p(pool_options{.threads = 1, .on_exception = [&](std::exception_ptr) { ++reported; }});
  p.async_submit([] { return 1; }, [](std::exception_ptr, int) { throw 1; });
  asio::steady_timer timer(p, asio::steady_timer::time_point::min());
  timer.async_wait([](error_code) { throw 2; });
  test::slot<void> alive;
  wait_until([&] { return reported == 2; });
  p.submit([&] { alive.set_value(); });
  alive.get();
}

BOOST_AUTO_TEST_CASE(without_on_exception_one_line_goes_to_stderr) {
  std::fflush(stderr);
  std::FILE* file = std::tmpfile();
  BOOST_REQUIRE(file);
  const int saved = ::dup(2);
  ::dup2(::fileno(file), 2);
  {
    pool p(pool_options{.threads = 1, .name = "loud"});
    p.submit([] { throw std::runtime_error("the reason"); });
    p.join();
  }
  std::fflush(stderr);
  ::dup2(saved, 2);
  ::close(saved);
  std::rewind(file);
  std::string text;
  for (int c; (c = std::fgetc(file)) != EOF;) text.push_back(static_cast<char>(c));
  std::fclose(file);
  BOOST_TEST(text.find("the reason") != std::string::npos, text);
  BOOST_TEST(std::count(text.begin(), text.end(), '\n') == 1);
}

// --- close, drain, stop, join -------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(close_refuses_new_work_and_runs_what_is_queued) {
  test::counter ran;
  pool p(1);
  asio::io_context io;
  outcome_of<> later;
  plug busy(p);
  for (int i = 0; i != 10; ++i) p.submit([&] { ran.add(); });
  p.close();
  BOOST_TEST(!p.try_submit([&] { ran.add(); }));
  BOOST_TEST((error_of([&] { p.submit(nothing); }) == errc::closed));
  p.async_submit([] { return 1; }, asio::bind_executor(io, later.into()));
  test::run(io);
  BOOST_TEST(later.failed(errc::closed));
  BOOST_TEST(p.stats().rejected == 3u);
  asio::post(p, [&] { ran.add(); }); // continuations are never refused
  busy.open();
  p.join();
  BOOST_TEST(ran.value() == 11);
  BOOST_TEST(balanced(p.stats()));
  p.close();
}

BOOST_AUTO_TEST_CASE(close_completes_waiters_with_closed_and_counts_them_rejected) {
  pool p(small(1, 1));
  asio::io_context io;
  std::atomic<int> alive{0};
  outcome_of<> queued, waiting;
  plug busy(p);
  p.async_submit([] { return 1; }, asio::bind_executor(io, queued.into()));
  auto task = [l = live(alive)] { return 2; };
  p.async_submit(std::move(task), asio::bind_executor(io, waiting.into()));
  p.close();
  BOOST_TEST(p.stats().waiting == 0u);
  test::poll(io);
  BOOST_TEST(waiting.failed(errc::closed));
  BOOST_TEST(alive == 0);
  BOOST_TEST(queued.calls == 0);
  BOOST_TEST(p.stats().rejected == 1u);
  busy.open();
  test::run(io);
  BOOST_TEST(queued.succeeded(1));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

namespace {

// async_drain of a pool that runs one task and has another queued, until proceed().
struct drain_fixture : submit_fixture {
  bool overtaken = false;
  drain_fixture() : submit_fixture(where::queued) { p->submit(nothing); }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p->async_drain(std::forward<Token>(token));
  }

  void proceed() {
    if (overtaken) p->stop();
    submit_fixture::proceed();
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(every_token_awaits_a_drain) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<drain_fixture>(); },
                                       [](error_code ec) { BOOST_TEST(!ec); });
}

BOOST_AUTO_TEST_CASE(every_token_awaits_the_drain_of_an_idle_pool) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<idle_drain_fixture>(); },
                                       [](error_code ec) { BOOST_TEST(!ec); });
}

BOOST_AUTO_TEST_CASE(handlers_of_async_drain_run_on_their_executor) {
  test::executor_matrix([] { return std::make_unique<drain_fixture>(); },
                        [](error_code ec) { BOOST_TEST(!ec); });
}

BOOST_AUTO_TEST_CASE(a_drain_can_be_cancelled_at_any_time) {
  test::cancellation_matrix([] { return std::make_unique<drain_fixture>(); },
                            [](error_code ec) { BOOST_TEST(!ec); });
}

BOOST_AUTO_TEST_CASE(a_drain_closes_the_pool_also_when_its_wait_is_cancelled) {
  pool p(1);
  asio::io_context io;
  asio::cancellation_signal signal;
  std::optional<error_code> drained;
  plug busy(p);
  p.async_drain(asio::bind_cancellation_slot(
      signal.slot(), asio::bind_executor(io, [&](error_code ec) { drained = ec; })));
  BOOST_TEST(!p.try_submit(nothing));
  signal.emit(asio::cancellation_type::total);
  test::run(io);
  BOOST_TEST((drained == aborted));
  BOOST_TEST(!p.try_submit(nothing));
}

BOOST_AUTO_TEST_CASE(a_drain_waits_for_all_that_is_queued_or_running) {
  constexpr int n = 50;
  pool p(2);
  asio::io_context io;
  std::atomic<int> done{0};
  int at_completion = -1;
  plug busy(p, 2);
  for (int i = 0; i != n; ++i) p.submit([&] { ++done; });
  p.async_drain(asio::bind_executor(io, [&](error_code ec) {
    BOOST_TEST(!ec);
    at_completion = done;
  }));
  test::poll(io);
  BOOST_TEST(at_completion == -1);
  busy.open();
  test::run(io);
  BOOST_TEST(at_completion == n);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_drain_does_not_wait_for_continuations) {
  test::gate g;
  test::counter started;
  pool p(2);
  asio::io_context io;
  asio::steady_timer timer(p, asio::steady_timer::time_point::max());
  timer.async_wait(asio::detached);
  asio::post(p, [&] {
    started.add();
    g.wait();
  });
  started.wait_for(1);
  bool drained = false;
  p.async_drain(asio::bind_executor(io, [&](error_code ec) { drained = !ec; }));
  test::run(io);
  BOOST_TEST(drained);
  g.open();
  p.stop();
}

BOOST_AUTO_TEST_CASE(many_drains_complete_together) {
  pool p(1);
  asio::io_context io;
  int drained = 0;
  plug busy(p);
  for (int i = 0; i != 10; ++i)
    p.async_drain(asio::bind_executor(io, [&](error_code ec) { drained += !ec; }));
  busy.open();
  test::run(io);
  BOOST_TEST(drained == 10);
  p.async_drain(asio::bind_executor(io, [&](error_code ec) { drained += !ec; }));
  test::run(io);
  BOOST_TEST(drained == 11);
}

BOOST_AUTO_TEST_CASE(a_drain_that_stop_overtakes_is_aborted) {
  pool p(1);
  asio::io_context io;
  std::optional<error_code> drained;
  plug busy(p);
  p.submit(nothing);
  p.async_drain(asio::bind_executor(io, [&](error_code ec) { drained = ec; }));
  p.stop();
  test::run(io);
  BOOST_TEST((drained == aborted));
}

BOOST_AUTO_TEST_CASE(a_drain_is_not_completed_by_the_stop_that_overtakes_it) {
  // The running task ends because of the stop, so that the pool is empty in the same moment.
  for (int round = 0; round != test::scaled(400); ++round) {
    test::counter started;
    pool p(1);
    asio::io_context io;
    std::optional<error_code> drained;
    auto task = [&](std::stop_token token) {
      started.add();
      wait_until([&] { return token.stop_requested(); });
    };
    p.async_submit(task, asio::bind_executor(io, [](std::exception_ptr) {}));
    started.wait_for(1);
    p.async_drain(asio::bind_executor(io, [&](error_code ec) { drained = ec; }));
    p.stop();
    test::run(io);
    BOOST_REQUIRE((drained == aborted));
  }
}

BOOST_AUTO_TEST_CASE(drain_for_reports_a_clean_end) {
  pool p(2);
  for (int i = 0; i != 20; ++i) p.submit(nothing);
  const auto report = p.drain_for(1h);
  BOOST_TEST(report.abandoned == 0u);
  BOOST_TEST(report.completed <= 20u);
  BOOST_TEST(p.stats().completed == 20u);
  BOOST_TEST(!p.try_submit(nothing));
}

BOOST_AUTO_TEST_CASE(drain_for_counts_what_ended_while_it_drained) {
  pool p(1);
  plug busy(p);
  for (int i = 0; i != 5; ++i) p.submit(nothing);
  std::thread opener([&] {
    wait_until(
        [&] { return error_of([&] { p.submit(nothing, on_full::reject); }) == errc::closed; });
    busy.open();
  });
  const auto accepted_before_close = p.stats().queued;
  const auto report = p.drain_for(1h);
  opener.join();
  BOOST_TEST(report.abandoned == 0u);
  BOOST_TEST(report.completed >= accepted_before_close + 1); // the plug ended as well
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(drain_for_abandons_at_its_deadline_what_never_started) {
  test::counter started;
  pool p(small(1, 100));
  asio::io_context io;
  std::vector<std::unique_ptr<outcome_of<>>> results;
  outcome_of<> running;
  auto long_task = [&](std::stop_token token) {
    started.add();
    wait_until([&] { return token.stop_requested(); });
    return 1;
  };
  p.async_submit(long_task, asio::bind_executor(io, running.into()));
  started.wait_for(1);
  for (int i = 0; i != 5; ++i) {
    results.push_back(std::make_unique<outcome_of<>>());
    p.async_submit([] { return 0; }, asio::bind_executor(io, results.back()->into()));
  }
  for (int i = 0; i != 3; ++i) p.submit(nothing);
  const auto report = p.drain_for(1ms);
  BOOST_TEST(report.abandoned == 8u);
  test::run(io);
  for (auto& r : results) BOOST_TEST(r->aborted());
  BOOST_TEST(running.succeeded(1));
  p.join();
  BOOST_TEST(p.stats().cancelled == 8u);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(drain_for_zero_and_negative_durations_stop_at_once) {
  for (auto d : {std::chrono::nanoseconds(0), std::chrono::nanoseconds(-1)}) {
    pool p(1);
    plug busy(p);
    p.submit(nothing);
    const auto report = p.drain_for(d); // does not wait for what is running
    BOOST_TEST(report.abandoned == 1u);
    busy.open();
    p.join();
    BOOST_TEST(balanced(p.stats()));
  }
}

BOOST_AUTO_TEST_CASE(drain_for_a_very_long_time_does_not_overflow) {
  pool p(1);
  p.submit(nothing);
  BOOST_TEST(p.drain_for(std::chrono::nanoseconds::max()).abandoned == 0u);
}

BOOST_AUTO_TEST_CASE(stop_drops_what_has_not_started) {
  std::atomic<int> alive{0};
  std::atomic<int> ran{0};
  pool p(small(1, 3));
  asio::io_context io;
  outcome_of<> queued, waiting;
  plug busy(p);
  auto make = [&] { return [&ran, l = live(alive)] { return ++ran; }; };
  BOOST_TEST(p.try_submit(make()));
  p.submit(make());
  p.async_submit(make(), asio::bind_executor(io, queued.into()));
  p.async_submit(make(), asio::bind_executor(io, waiting.into()));
  BOOST_TEST(alive == 4);
  p.stop();
  BOOST_TEST(alive == 0);
  BOOST_TEST(!p.try_submit(nothing));
  test::run(io);
  BOOST_TEST(queued.aborted());
  // A waiter never was admitted; that it ended is what matters.
  BOOST_TEST((waiting.aborted() || waiting.failed(errc::closed)));
  busy.open();
  p.join();
  BOOST_TEST(ran == 0);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(stop_requests_stop_of_running_tasks) {
  test::counter started;
  pool p(2);
  asio::io_context io;
  outcome_of<> a, b;
  auto task = [&](std::stop_token token) {
    started.add();
    wait_until([&] { return token.stop_requested(); });
    return 3;
  };
  p.async_submit(task, asio::bind_executor(io, a.into()));
  p.async_submit(task, asio::bind_executor(io, b.into()));
  started.wait_for(2);
  p.stop();
  test::run(io);
  BOOST_TEST(a.succeeded(3));
  BOOST_TEST(b.succeeded(3));
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(stop_destroys_handlers_of_the_pool_itself_uninvoked) {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  {
    pool p(small(1, 1));
    plug busy(p);
    auto handler = [&] { return [&calls, l = live(alive)](std::exception_ptr, int) { ++calls; }; };
    p.async_submit([] { return 1; }, handler());
    p.async_submit([] { return 1; }, handler());
    p.async_drain([&calls, l = live(alive)](error_code) { ++calls; });
    p.stop();
    busy.open();
    p.join();
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(a_task_may_stop_its_pool) {
  pool p(2);
  test::slot<void> done;
  for (int i = 0; i != 20; ++i) {
    const bool accepted = p.try_submit([&, i] {
      if (i == 3) {
        p.stop();
        done.set_value();
      }
    });
    BOOST_TEST((accepted || i > 3));
  }
  done.get();
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(stop_is_idempotent_and_may_follow_join) {
  pool p(2);
  p.stop();
  p.stop();
  p.join();
  p.stop();
  p.join();
  p.close();
  BOOST_TEST(!p.try_submit(nothing));
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(stop_ends_pending_io_without_invoking_its_handlers) {
  std::atomic<int> alive{0}, calls{0};
  {
    pool p(1);
    asio::steady_timer timer(p, asio::steady_timer::time_point::max());
    timer.async_wait([&calls, l = live(alive)](error_code) { ++calls; });
    p.stop();
    p.join(); // does not wait for the timer
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(join_waits_for_tracked_work) {
  pool p(2);
  std::atomic<bool> fired{false};
  asio::steady_timer timer(p, 5ms);
  timer.async_wait([&](error_code ec) {
    BOOST_TEST(!ec);
    asio::post(p, [&] { fired = true; });
  });
  p.join();
  BOOST_TEST(fired);
}

BOOST_AUTO_TEST_CASE(join_waits_for_coroutines) {
  pool p(2);
  std::atomic<bool> done{false};
  auto body = [](std::atomic<bool>& finished) -> asio::awaitable<void> {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (int i = 0; i != 3; ++i) {
      timer.expires_after(1ms);
      co_await timer.async_wait(asio::use_awaitable);
    }
    finished = true;
  };
  asio::co_spawn(p, body(done), asio::detached);
  p.join();
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(join_waits_for_a_tracking_executor) {
  test::counter ran;
  pool p(1);
  std::optional work(asio::require(p.get_executor(), execution::outstanding_work.tracked));
  std::atomic<bool> joined{false};
  std::thread joiner([&] {
    p.join();
    joined = true;
  });
  for (int i = 0; i != 10; ++i) {
    asio::post(p, [&] { ran.add(); });
    ran.wait_for(i + 1);
  }
  BOOST_TEST(!joined);
  work.reset();
  joiner.join();
  BOOST_TEST(joined);
}

BOOST_AUTO_TEST_CASE(join_leaves_no_thread_behind) {
  pool p(4);
  p.submit(nothing);
  p.join();
  test::expect_threads(0);
  BOOST_TEST(p.stats().threads == 0u);
}

BOOST_AUTO_TEST_CASE(join_is_idempotent) {
  test::counter ran;
  pool p(2);
  p.submit([&] { ran.add(); });
  p.join();
  p.join();
  BOOST_TEST(ran.value() == 1);
  BOOST_TEST(!p.try_submit(nothing));
}

BOOST_AUTO_TEST_CASE(join_and_drain_for_from_a_worker_throw_would_deadlock) {
  pool p(2);
  test::slot<error_code> from_task, from_continuation, draining;
  p.submit([&] { from_task.set_value(error_of([&] { p.join(); })); });
  BOOST_TEST((from_task.get() == errc::would_deadlock));
  asio::post(p, [&] { from_continuation.set_value(error_of([&] { p.join(); })); });
  BOOST_TEST((from_continuation.get() == errc::would_deadlock));
  p.submit([&] { draining.set_value(error_of([&] { (void)p.drain_for(1h); })); });
  BOOST_TEST((draining.get() == errc::would_deadlock));
  BOOST_TEST(p.try_submit(nothing)); // refused before it closed anything
}

BOOST_AUTO_TEST_CASE(a_worker_of_another_pool_may_join) {
  pool outer(1), inner(1);
  test::slot<error_code> result;
  outer.submit([&] { result.set_value(error_of([&] { inner.join(); })); });
  BOOST_TEST(!result.get());
}

BOOST_AUTO_TEST_CASE(five_threads_join_and_stop_at_once) {
  for (int round = 0; round != test::scaled(40); ++round) {
    pool p(2);
    for (int i = 0; i != 20; ++i) p.submit(nothing);
    std::latch go(5);
    std::vector<std::thread> threads;
    for (int i = 0; i != 5; ++i)
      threads.emplace_back([&, i] {
        go.arrive_and_wait();
        if (i == round % 5) p.stop();
        p.join();
      });
    for (auto& t : threads) t.join();
    BOOST_TEST(balanced(p.stats()));
    BOOST_TEST(p.stats().threads == 0u);
  }
}

BOOST_AUTO_TEST_CASE(the_destructor_leaves_nothing_behind) {
  std::atomic<int> alive{0}, own_calls{0};
  asio::io_context io;
  outcome_of<> queued, waiting;
  std::optional<error_code> drained;
  {
    test::counter started;
    std::optional<pool> p(std::in_place, small(1, 4));
    // ~pool stops this one
    auto running = [&, l = live(alive)](std::stop_token token) {
      started.add();
      wait_until([&] { return token.stop_requested(); });
    };
    p->async_submit(std::move(running), [&, l = live(alive)](std::exception_ptr) { ++own_calls; });
    started.wait_for(1);
    p->submit([l = live(alive)] {});
    const auto task = [l = live(alive)] { return 1; };
    p->async_submit(task, asio::bind_executor(io, queued.into()));
    p->async_submit(task, [&, l = live(alive)](std::exception_ptr, int) { ++own_calls; });
    p->submit([l = live(alive)] {});
    p->async_submit(task, asio::bind_executor(io, waiting.into()));
    p->async_submit(task, [&, l = live(alive)](std::exception_ptr, int) { ++own_calls; });
    asio::post(*p, [l = live(alive)] {});
    asio::steady_timer timer(*p, asio::steady_timer::time_point::max());
    timer.async_wait([&, l = live(alive)](error_code) { ++own_calls; });
    auto sleeper = [](live) -> asio::awaitable<void> {
      asio::steady_timer forever(co_await asio::this_coro::executor,
                                 asio::steady_timer::time_point::max());
      co_await forever.async_wait(asio::use_awaitable);
    };
    asio::co_spawn(*p, sleeper(live(alive)), asio::detached);
    p->async_drain(asio::bind_executor(io, [&](error_code ec) { drained = ec; }));
  }
  // (the timer above died before the pool; that aborts its wait, whose handler then never runs)
  test::expect_threads(0);
  test::run(io);
  BOOST_TEST(queued.aborted());
  BOOST_TEST((waiting.aborted() || waiting.failed(errc::closed)));
  BOOST_TEST((drained == aborted));
  BOOST_TEST(alive == 0);
  BOOST_TEST(own_calls == 0);
}

BOOST_AUTO_TEST_CASE(a_handlers_context_may_end_before_the_pool) {
  for (bool pool_first : {false, true}) {
    std::atomic<int> alive{0};
    std::atomic<int> calls{0};
    std::optional<pool> p(std::in_place, small(1, 1));
    std::optional<asio::io_context> io(std::in_place);
    {
      plug busy(*p);
      for (int i = 0; i != 2; ++i) { // one queued, one waiting
        auto task = [l = live(alive)] { return 1; };
        p->async_submit(std::move(task),
                        asio::bind_executor(
                            *io, [&calls, l = live(alive)](std::exception_ptr, int) { ++calls; }));
      }
      p->async_drain(asio::bind_executor(*io, [&calls, l = live(alive)](error_code) { ++calls; }));
      if (!pool_first) io.reset();
    }
    if (!pool_first) BOOST_TEST(calls == 0);
    p.reset();
    io.reset(); // what was posted to it is destroyed
    BOOST_TEST(alive == 0);
    BOOST_TEST(calls == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_handlers_context_may_end_while_its_task_runs) {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  test::counter started;
  pool p(1);
  std::optional<asio::io_context> io(std::in_place);
  auto g = std::make_shared<test::gate>();
  auto task = [&started, g, l = live(alive)] {
    started.add();
    g->wait();
    return 1;
  };
  p.async_submit(
      std::move(task),
      asio::bind_executor(*io, [&calls, l = live(alive)](std::exception_ptr, int) { ++calls; }));
  started.wait_for(1);
  std::thread opener([g] { g->open(); });
  io.reset();
  opener.join();
  p.join();
  BOOST_TEST(calls == 0);
  BOOST_TEST(alive == 0);
  BOOST_TEST(balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_worker_may_end_the_context_that_another_workers_task_works_for) {
  std::atomic<int> alive{0}, calls{0};
  test::counter started;
  pool p(2);
  auto io = std::make_unique<asio::io_context>();
  auto task = [&started, l = live(alive)](std::stop_token token) {
    started.add();
    wait_until([&] { return token.stop_requested(); });
    return 1;
  };
  p.async_submit(
      std::move(task),
      asio::bind_executor(*io, [&calls, l = live(alive)](std::exception_ptr, int) { ++calls; }));
  started.wait_for(1);
  test::slot<int> left;
  p.submit([&] {
    io.reset(); // asks the task to stop, and waits for it
    left.set_value(alive);
  });
  BOOST_TEST(left.get() == 0);
  p.join();
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(join_ends_although_a_submission_fails_meanwhile) {
  for (int round = 0; round != test::scaled(200); ++round) {
    pool p(1);
    struct fails_to_copy {
      pool* where_to;
      std::atomic<bool>* copying;
      explicit fails_to_copy(pool& q, std::atomic<bool>& c) : where_to(&q), copying(&c) {}
      fails_to_copy(const fails_to_copy& other) : where_to(other.where_to), copying(other.copying) {
        *copying = true;
        wait_until([&] { return !where_to->try_submit(nothing); }); // join() has closed the pool
        std::this_thread::yield();
        throw 1;
      }
      void operator()() {}
    };
    std::atomic<bool> copying{false};
    const fails_to_copy f(p, copying);
    std::thread submitter([&] { BOOST_CHECK_THROW((void)p.try_submit(f), int); });
    wait_until([&] { return copying.load(); });
    p.join();
    submitter.join();
    BOOST_TEST(balanced(p.stats()));
  }
}

BOOST_AUTO_TEST_CASE(a_drain_completes_after_the_submissions_it_waited_for) {
  for (int round = 0; round != test::scaled(600); ++round) {
    pool p(1);
    asio::io_context io;
    asio::cancellation_signal signal;
    plug busy(p);
    int handled = 0, at_drain = -1;
    p.async_submit(nothing, asio::bind_cancellation_slot(
                                signal.slot(),
                                asio::bind_executor(io, [&](std::exception_ptr) { ++handled; })));
    p.async_drain(asio::bind_executor(io, [&](error_code) { at_drain = handled; }));
    std::latch go(2);
    std::thread canceller([&] {
      go.arrive_and_wait();
      signal.emit(asio::cancellation_type::terminal);
    });
    go.arrive_and_wait();
    busy.open();
    test::run(io);
    canceller.join();
    BOOST_REQUIRE(at_drain == 1);
  }
}

BOOST_AUTO_TEST_CASE(the_end_of_a_task_may_race_with_the_end_of_its_handlers_context) {
  pool p(2);
  for (int round = 0; round != test::scaled(1000); ++round) {
    std::atomic<int> alive{0};
    std::optional<asio::io_context> io(std::in_place);
    std::latch go(2);
    struct slow_to_move { // moving the result takes place between the task and its handler
      slow_to_move() = default;
      slow_to_move(slow_to_move&&) noexcept { std::this_thread::yield(); }
      slow_to_move& operator=(slow_to_move&&) noexcept {
        std::this_thread::yield();
        return *this;
      }
    };
    auto task = [&go, l = live(alive)] {
      go.arrive_and_wait();
      return slow_to_move();
    };
    p.async_submit(std::move(task), asio::bind_executor(*io, [l = live(alive)](std::exception_ptr,
                                                                               slow_to_move) {}));
    go.arrive_and_wait();
    io.reset();
    BOOST_TEST(alive == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_stop_through_the_base_class_is_survived) {
  pool p(2);
  auto survive = [](auto& which) {
    using base = asio::io_context;
    if constexpr (std::is_convertible_v<decltype(&which), base*>) {
      for (int i = 0; i != 20; ++i) {
        static_cast<base&>(which).stop();
        test::slot<void> ran, fired;
        which.submit([&] { ran.set_value(); });
        ran.get();
        asio::steady_timer timer(which, asio::steady_timer::time_point::min());
        timer.async_wait([&](error_code ec) {
          if (!ec) fired.set_value();
        });
        fired.get();
      }
    }
  };
  survive(p);
  p.join();
  BOOST_TEST(balanced(p.stats()));
}

// --- statistics ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_way_of_submitting_is_counted) {
  pool p(small(1, 2, 0));
  asio::io_context io;
  {
    plug busy(p);                                                                  // 1 completed
    BOOST_TEST(p.try_submit(nothing));                                             // 2 completed
    p.async_submit(nothing, asio::bind_executor(io, [](std::exception_ptr) {}));   // 3 completed
    BOOST_TEST(!p.try_submit(nothing));                                            // 1 rejected
    BOOST_CHECK_THROW(p.submit(nothing, on_full::reject), bulkhead::system_error); // 2 rejected
    p.submit(nothing, on_full::caller_runs);                                       // 4 completed
    p.async_submit(nothing, asio::bind_executor(io, [](std::exception_ptr) {}));   // 3 rejected
  }
  p.join();
  const auto s = p.stats();
  BOOST_TEST(s.submitted == 7u);
  BOOST_TEST(s.completed == 4u);
  BOOST_TEST(s.rejected == 3u);
  BOOST_TEST(s.continuations == 0u);
  BOOST_TEST(balanced(s));
}

BOOST_AUTO_TEST_CASE(continuations_are_counted_apart) {
  pool p(2);
  for (int i = 0; i != 10; ++i) asio::post(p, nothing);
  p.join();
  BOOST_TEST(p.stats().continuations == 10u);
  BOOST_TEST(p.stats().submitted == 0u);
}

BOOST_AUTO_TEST_CASE(the_statistics_balance_after_any_mixture) {
  const int each = test::scaled(4000);
  std::atomic<long> handled{0}, started{0}, async_tasks{0};
  pool p(pool_options{
      .threads = 3, .queue_limit = 16, .waiter_limit = 8, .on_exception = [](std::exception_ptr) {
      }});
  asio::thread_pool handlers(1);
  std::vector<std::thread> threads;
  for (int t = 0; t != 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i != each; ++i) {
        auto task = [&started, i] {
          ++started;
          if (i % 7 == 0) throw i;
        };
        switch ((i + t) % 5) {
        case 0:
          (void)p.try_submit(task);
          break;
        case 1:
          (void)error_of([&] { p.submit(task, i % 2 ? on_full::reject : on_full::block); });
          break;
        case 2:
          p.submit([&] { ++started; }, on_full::caller_runs);
          break;
        default: {
          auto signal = std::make_shared<asio::cancellation_signal>();
          ++async_tasks;
          p.async_submit(task, asio::bind_cancellation_slot(
                                   signal->slot(),
                                   asio::bind_executor(
                                       handlers, [&, signal](std::exception_ptr) { ++handled; })));
          if (i % 4 == 0) signal->emit(asio::cancellation_type::total);
          break;
        }
        }
        if (i % 100 == 0) asio::post(p, nothing);
        (void)p.stats();
      }
    });
  for (auto& t : threads) t.join();
  p.join();
  handlers.join();
  const auto s = p.stats();
  BOOST_TEST(balanced(s));
  BOOST_TEST(s.submitted == static_cast<std::uint64_t>(each) * 3);
  BOOST_TEST(s.completed + s.failed == static_cast<std::uint64_t>(started.load()));
  BOOST_TEST(handled == async_tasks);
}

BOOST_AUTO_TEST_CASE(the_statistics_balance_after_a_stop_in_the_middle) {
  for (int round = 0; round != test::scaled(60); ++round) {
    pool p(small(2, 8, 8));
    asio::thread_pool handlers(1);
    std::atomic<int> started{0}, handled{0};
    constexpr int n = 100;
    std::thread producer([&] {
      for (int i = 0; i != n; ++i)
        p.async_submit([&] { ++started; },
                       asio::bind_executor(handlers, [&](std::exception_ptr) { ++handled; }));
    });
    std::thread blocker([&] {
      for (int i = 0; i != n; ++i) (void)error_of([&] { p.submit([&] { ++started; }); });
    });
    p.stop();
    producer.join();
    blocker.join();
    p.join();
    handlers.join();
    BOOST_TEST(handled == n);
    BOOST_TEST(balanced(p.stats()));
    BOOST_TEST(p.stats().submitted == 2u * n);
  }
}

// --- the executor -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(executors_are_compared_by_pool_and_properties) {
  pool p(1), q(1);
  const auto a = p.get_executor();
  BOOST_TEST((a == p.get_executor()));
  BOOST_TEST((a != q.get_executor()));
  const auto never = asio::require(a, execution::blocking.never);
  BOOST_TEST((never != a));
  BOOST_TEST((never == asio::require(a, execution::blocking.never)));
  BOOST_TEST((never == asio::require(never, execution::blocking.never)));
  const asio::any_io_executor erased = a, other = q.get_executor();
  BOOST_TEST((erased == asio::any_io_executor(p.get_executor())));
  BOOST_TEST((erased != other));
}

BOOST_AUTO_TEST_CASE(every_property_can_be_required_and_is_then_what_a_query_says) {
  pool p(3);
  const auto ex = p.get_executor();
  BOOST_TEST((&asio::query(ex, execution::context) == &p));
  BOOST_TEST((&asio::query(asio::any_io_executor(ex), execution::context) ==
              static_cast<asio::execution_context*>(&p)));
  BOOST_TEST((asio::query(ex, execution::mapping) == execution::mapping.thread));
  BOOST_TEST(asio::query(ex, execution::occupancy) == 3u);

  BOOST_TEST((asio::query(ex, execution::blocking) == execution::blocking.possibly));
  BOOST_TEST((asio::query(asio::require(ex, execution::blocking.never), execution::blocking) ==
              execution::blocking.never));
  BOOST_TEST((asio::query(asio::require(ex, execution::blocking.always), execution::blocking) ==
              execution::blocking.always));
  const auto back =
      asio::require(asio::require(ex, execution::blocking.never), execution::blocking.possibly);
  BOOST_TEST((asio::query(back, execution::blocking) == execution::blocking.possibly));

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

BOOST_AUTO_TEST_CASE(the_allocator_property_is_kept_and_used) {
  pool p(1);
  test::memory_balance memory;
  const test::counting_allocator<int> a(memory);
  const auto ex = asio::require(p.get_executor(), execution::allocator(a));
  BOOST_TEST((asio::query(ex, execution::allocator) == a));
  const auto plain = asio::require(ex, execution::allocator);
  static_assert(std::is_same_v<std::decay_t<decltype(asio::query(plain, execution::allocator))>,
                               std::allocator<void>>);
  // A function that is too large for any inline storage
  test::slot<long> at_entry;
  ex.execute([&, large = std::array<char, 5000>{}] {
    (void)large;
    at_entry.set_value(memory.blocks);
  });
  at_entry.get();
  p.join();
  BOOST_TEST(memory.allocations > 0);
  BOOST_TEST(memory.blocks == 0);
}

BOOST_AUTO_TEST_CASE(conversion_to_any_io_executor_does_not_allocate) {
  pool p(1);
  wait_until([&] { return p.stats().idle == 1; }); // its worker allocates as it begins
  const auto ex = p.get_executor();
  const auto tracked = asio::require(ex, execution::outstanding_work.tracked);
  const auto before = test::global_memory.allocations.load();
  {
    asio::any_io_executor a(ex), b(tracked);
    asio::any_io_executor c(a), d(std::move(b));
    auto e = asio::prefer(a, execution::outstanding_work.tracked);
    auto f = asio::require(e, execution::blocking.never);
    a = f;
  }
  BOOST_TEST(test::global_memory.allocations.load() == before);
}

BOOST_AUTO_TEST_CASE(blocking_never_does_not_run_inside_the_caller) {
  pool p(1);
  test::slot<bool> ran_inside;
  auto inside = std::make_shared<bool>(true);
  asio::post(p, [&, inside] {
    asio::require(p.get_executor(), execution::blocking.never).execute([&, inside] {
      ran_inside.set_value(*inside);
    });
    *inside = false;
  });
  BOOST_TEST(!ran_inside.get());
}

BOOST_AUTO_TEST_CASE(post_and_defer_run_after_the_caller_and_dispatch_inside_it) {
  pool p(1);
  test::slot<void> all;
  std::string order;
  asio::post(p, [&] {
    order += 'a';
    asio::post(p, [&] { order += 'd'; });
    asio::defer(p, [&] {
      order += 'e';
      all.set_value();
    });
    asio::dispatch(p, [&] { order += 'b'; });
    order += 'c';
  });
  all.get();
  BOOST_TEST(order == "abcde");
}

BOOST_AUTO_TEST_CASE(dispatch_from_outside_does_not_run_in_the_caller) {
  pool p(1);
  test::slot<std::thread::id> ran;
  asio::dispatch(p, [&] { ran.set_value(std::this_thread::get_id()); });
  BOOST_TEST((ran.get() != std::this_thread::get_id()));
}

BOOST_AUTO_TEST_CASE(blocking_always_returns_after_the_function) {
  pool p(2);
  const auto always = asio::require(p.get_executor(), execution::blocking.always);
  std::thread::id ran;
  always.execute([&] { ran = std::this_thread::get_id(); });
  BOOST_TEST((ran != std::thread::id()));
  BOOST_TEST((ran != std::this_thread::get_id()));
  // On a worker: no deadlock, even if it is the only one.
  pool single(1);
  test::slot<bool> done;
  asio::post(single, [&] {
    bool executed = false;
    asio::require(single.get_executor(), execution::blocking.always).execute([&] {
      executed = true;
    });
    done.set_value(executed);
  });
  BOOST_TEST(done.get());
}

BOOST_AUTO_TEST_CASE(blocking_always_on_a_worker_of_a_paused_pool_does_not_wait_for_resume) {
  for (std::size_t threads : {1u, 2u}) {
    test::slot<bool> done;
    pool p(threads);
    asio::post(p, [&] {
      p.pause(); // what runs is to end all the same
      bool executed = false;
      asio::require(p.get_executor(), execution::blocking.always).execute([&] { executed = true; });
      done.set_value(executed);
    });
    BOOST_TEST(done.get());
  }
}

struct called_either_way {
  bool* got_token;
  void operator()() const {}
  void operator()(std::stop_token) const { *got_token = true; }
};

BOOST_AUTO_TEST_CASE(what_runs_inside_the_caller_is_called_as_in_the_queue) {
  std::exception_ptr seen;
  bool got_token = false;
  pool_options o;
  o.threads = 1;
  o.on_exception = [&](std::exception_ptr e) { seen = e; };
  pool p(o);
  asio::post(p, [&] {
    p.get_executor().execute(called_either_way{&got_token});
    void (*const none)() = nullptr;
    p.get_executor().execute(none);
  });
  p.join();
  BOOST_TEST(got_token);
  BOOST_REQUIRE(seen);
  BOOST_CHECK_THROW(std::rethrow_exception(seen), std::bad_function_call);
}

BOOST_AUTO_TEST_CASE(a_post_is_never_refused) {
  test::counter ran;
  pool p(small(1, 1, 0));
  plug busy(p);
  BOOST_TEST(p.try_submit([&] { ran.add(); }));
  for (int i = 0; i != 1000; ++i) asio::post(p, [&] { ran.add(); });
  p.close();
  for (int i = 0; i != 1000; ++i) asio::post(p, [&] { ran.add(); });
  busy.open();
  p.join();
  BOOST_TEST(ran.value() == 2001);
}

BOOST_AUTO_TEST_CASE(what_is_posted_from_inside_is_not_lost) {
  pool p(3);
  const int depth = test::sanitized ? 10 : 14;
  std::atomic<int> ran{0};
  std::function<void(int)> tree = [&](int d) {
    ++ran;
    if (d == 0) return;
    asio::post(p, [&tree, d] { tree(d - 1); });
    asio::post(p, [&tree, d] { tree(d - 1); });
  };
  asio::post(p, [&] { tree(depth); });
  p.join();
  BOOST_TEST(ran == (2 << depth) - 1);
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_with_many_producers) {
  const int each = test::scaled(50'000);
  pool p(3);
  std::atomic<long> ran{0};
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i != each; ++i) {
        if ((i + t) % 2)
          asio::post(p, [&] { ++ran; });
        else
          p.submit([&] { ++ran; });
      }
    });
  for (auto& t : threads) t.join();
  p.join();
  BOOST_TEST(ran == 4L * each);
}

BOOST_AUTO_TEST_CASE(a_sleeping_worker_is_woken_every_time) {
  pool p(2);
  for (int i = 0; i != test::scaled(5000); ++i) {
    test::slot<void> ran;
    if (i % 2)
      asio::post(p, [&] { ran.set_value(); });
    else
      BOOST_REQUIRE(p.try_submit([&] { ran.set_value(); }));
    ran.get();
  }
}

BOOST_AUTO_TEST_CASE(all_workers_run_at_the_same_time) {
  constexpr std::ptrdiff_t n = 4;
  pool p(n);
  {
    std::latch together(n + 1); // opens only if all tasks run at once
    for (std::ptrdiff_t i = 0; i != n; ++i) p.submit([&] { together.arrive_and_wait(); });
    together.arrive_and_wait();
    wait_until([&] { return p.stats().running == 0; });
  }
  {
    auto together = std::make_shared<std::latch>(n);
    test::counter done;
    asio::post(p, [&, together] { // from inside
      for (std::ptrdiff_t i = 1; i != n; ++i)
        asio::post(p, [&, together] {
          together->arrive_and_wait();
          done.add();
        });
      together->arrive_and_wait();
      done.add();
    });
    done.wait_for(n);
  }
}

BOOST_AUTO_TEST_CASE(a_task_that_blocks_does_not_hold_back_those_behind_it) {
  pool p(2);
  for (int round = 0; round != test::scaled(200); ++round) {
    auto g = std::make_shared<test::gate>();
    test::counter done;
    p.submit([&done, g] {
      g->wait();
      done.add();
    });
    for (int i = 0; i != 20; ++i) p.submit([&done] { done.add(); });
    asio::post(p, [&done, g] {
      g->open();
      done.add();
    });
    done.wait_for(22);
  }
}

BOOST_AUTO_TEST_CASE(what_a_blocked_handler_posted_runs_on_another_worker) {
  pool p(2);
  for (int i = 0; i != test::scaled(500); ++i) {
    test::slot<void> done;
    asio::post(p, [&] {
      test::slot<void> inner;
      asio::post(p, [&] { inner.set_value(); });
      inner.get();
      done.set_value();
    });
    done.get();
  }
}

// The worker claims what it has posted, and blocks in the first.
BOOST_AUTO_TEST_CASE(what_a_handler_posted_runs_although_the_first_of_it_blocks) {
  pool p(2);
  for (int round = 0; round != test::scaled(20); ++round)
    for (int between = 0; between != 8; ++between) {
      auto g = std::make_shared<test::gate>();
      test::counter done;
      asio::post(p, [&p, &done, g, between] {
        asio::post(p, [&done, g] {
          g->wait();
          done.add();
        });
        for (int i = 0; i != between; ++i) asio::post(p, [&done] { done.add(); });
        asio::post(p, [&done, g] {
          g->open();
          done.add();
        });
      });
      done.wait_for(between + 2);
    }
}

// The other worker sleeps at the reactor, where something is ready again and again that never comes
// through the pool: its handler runs elsewhere. That goes on until what is waited for has run.
BOOST_AUTO_TEST_CASE(what_a_blocked_handler_posted_runs_although_io_of_others_goes_on) {
  pool p(2);
  std::atomic<bool> done{false};
  test::slot<void> over;
  asio::steady_timer timer(p);
  std::function<void()> expire = [&] {
    timer.expires_after(std::chrono::seconds(0));
    timer.async_wait(asio::bind_executor(asio::system_executor(), [&](error_code) {
      if (done)
        over.set_value();
      else
        expire();
    }));
  };
  expire();
  for (int round = 0; round != test::scaled(20); ++round) {
    test::slot<void> seen;
    asio::post(p, [&] {
      test::slot<void> inner;
      asio::post(p, [&] { inner.set_value(); }); // on the worker that has the events run
      inner.get();
      seen.set_value();
    });
    seen.get();
  }
  done = true;
  over.get();
}

// --- Asio's own things on a pool ----------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_strand_on_a_pool_keeps_its_promise) {
  pool p(4);
  auto strand = asio::make_strand(p.get_executor());
  const int n = test::scaled(20'000);
  int unprotected = 0;
  std::vector<int> order;
  for (int i = 0; i != n; ++i)
    asio::post(strand, [&, i] {
      ++unprotected;
      order.push_back(i);
    });
  p.join();
  BOOST_TEST(unprotected == n);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(coroutines_run_on_a_pool) {
  pool p(3);
  std::atomic<int> done{0};
  auto body = [](std::atomic<int>& finished) -> asio::awaitable<void> {
    auto ex = co_await asio::this_coro::executor;
    for (int i = 0; i != 100; ++i) co_await asio::post(ex, asio::use_awaitable);
    ++finished;
  };
  for (int i = 0; i != 50; ++i) asio::co_spawn(p, body(done), asio::detached);
  p.join();
  BOOST_TEST(done == 50);
}

#if defined(BULKHEAD_TEST_HAS_SPAWN)
BOOST_AUTO_TEST_CASE(stackful_coroutines_run_on_a_pool) {
  pool p(2);
  std::atomic<int> done{0};
  for (int i = 0; i != 10; ++i)
    asio::spawn(
        p.get_executor(),
        [&](auto yield) {
          for (int n = 0; n != 10; ++n) asio::post(yield);
          if (p.async_submit([] { return 5; }, yield) == 5) ++done;
        },
        asio::detached);
  wait_until([&] { return done == 10; });
  p.join();
}
#endif

BOOST_AUTO_TEST_CASE(timers_fire_on_workers_with_no_thread_beyond_them) {
  test::counter fired;
  pool p(pool_options{.threads = 2, .name = "ticker"});
  std::atomic<bool> on_worker{true};
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  for (int i = 0; i != 50; ++i) {
    timers.push_back(std::make_unique<asio::steady_timer>(p, std::chrono::microseconds(i * 50)));
    timers.back()->async_wait([&](error_code ec) {
      if (ec || test::thread_name().rfind("ticker", 0) != 0) on_worker = false;
      fired.add();
    });
  }
  fired.wait_for(50);
  BOOST_TEST(on_worker);
  test::expect_threads(2);
  p.join();
}

BOOST_AUTO_TEST_CASE(timers_fire_while_all_workers_are_busy_with_short_tasks) {
  pool p(1);
  std::atomic<bool> fired{false};
  std::function<void()> again = [&] {
    if (!fired) asio::post(p, [&] { again(); });
  };
  asio::post(p, [&] { again(); });
  asio::steady_timer timer(p, 1ms);
  timer.async_wait([&](error_code) { fired = true; });
  p.join();
  BOOST_TEST(fired);
}

BOOST_AUTO_TEST_CASE(tcp_echo_works_with_no_thread_beyond_the_workers) {
  using asio::ip::tcp;
  pool p(2);
  const int rounds = test::scaled(400);
  std::atomic<int> echoed{0};

  auto server = [](tcp::acceptor& acceptor) -> asio::awaitable<void> {
    tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
    std::array<char, 64> data;
    for (;;) {
      auto [ec, n] =
          co_await socket.async_read_some(asio::buffer(data), asio::as_tuple(asio::use_awaitable));
      if (ec) co_return;
      co_await asio::async_write(socket, asio::buffer(data, n), asio::use_awaitable);
    }
  };
  auto client = [](tcp::endpoint where_to, int n,
                   std::atomic<int>& count) -> asio::awaitable<void> {
    tcp::socket socket(co_await asio::this_coro::executor);
    co_await socket.async_connect(where_to, asio::use_awaitable);
    std::array<char, 4> out{'p', 'i', 'n', 'g'}, in{};
    for (int i = 0; i != n; ++i) {
      co_await asio::async_write(socket, asio::buffer(out), asio::use_awaitable);
      co_await asio::async_read(socket, asio::buffer(in), asio::use_awaitable);
      if (in == out) ++count;
    }
  };
  tcp::acceptor acceptor(p, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  asio::co_spawn(p, server(acceptor), asio::detached);
  asio::co_spawn(p, client(acceptor.local_endpoint(), rounds, echoed), asio::detached);
  wait_until([&] { return echoed >= rounds / 2; });
  test::expect_threads(2);
  p.join();
  BOOST_TEST(echoed == rounds);
}

BOOST_AUTO_TEST_CASE(io_goes_on_while_submissions_keep_the_pool_busy) {
  pool p(small(2, 8));
  std::atomic<int> ticks{0};
  std::atomic<bool> enough{false};
  auto ticker = [](std::atomic<int>& count, std::atomic<bool>& stop) -> asio::awaitable<void> {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (++count != 20) {
      timer.expires_after(100us);
      co_await timer.async_wait(asio::use_awaitable);
    }
    stop = true;
  };
  asio::co_spawn(p, ticker(ticks, enough), asio::detached);
  while (!enough) p.submit(nothing);
  p.join();
  BOOST_TEST(ticks == 20);
}

BOOST_AUTO_TEST_CASE(two_pools_work_for_each_other) {
  pool a(2), b(2);
  auto body = [](pool& here, pool& there, int n) -> asio::awaitable<int> {
    int sum = 0;
    for (int i = 0; i != n; ++i) {
      auto task = [i] { return i; };
      sum += co_await there.async_submit(task, asio::use_awaitable);
      sum += co_await here.async_submit(task, asio::use_awaitable);
    }
    co_return sum;
  };
  const int n = test::scaled(1000);
  auto first = asio::co_spawn(a, body(a, b, n), asio::use_future);
  auto second = asio::co_spawn(b, body(b, a, n), asio::use_future);
  BOOST_TEST(first.get() == n * (n - 1));
  BOOST_TEST(second.get() == n * (n - 1));
  a.join(); // while b is still there: the last of a's coroutines may be on its way out of it
}
