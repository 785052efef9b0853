//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// async_submit and async_drain of a lane, with every executor, allocator and cancellation. With every
// token: lanes_tokens.cpp.

#include "support/allocators.hpp"
#include "support/cancellation.hpp"
#include "support/global_new.hpp"
#include "support/lanes.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::balanced;
using test::code_of;
using test::expect_42;
using test::expect_no_error;
using test::live;
using test::make_drain;
using test::make_submit;
using test::wait_until;
using where = test::submit_fixture::where;

namespace {

const error_code aborted = asio::error::operation_aborted;
const auto nothing = [] {};

// What one async_submit came to. Its handler runs on one thread.
struct outcome {
  int calls = 0;
  std::exception_ptr error;
  int value = 0;

  auto into() {
    return [this](std::exception_ptr e, int v) {
      error = e;
      value = v;
      ++calls;
    };
  }

  bool aborted() const { return calls == 1 && code_of(error) == ::aborted; }
  bool failed(errc e) const { return calls == 1 && code_of(error) == e; }
  bool succeeded(int v) const { return calls == 1 && !error && value == v; }
};

} // namespace

// --- executors ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  auto check = [](std::exception_ptr, int) {};
  test::executor_matrix(make_submit(where::running), check);
  test::executor_matrix(make_submit(where::queued), check);
  test::executor_matrix(make_submit(where::waiting), check);
  test::executor_matrix(make_drain(true), expect_no_error);
  test::executor_matrix(make_drain(false), expect_no_error);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(what_need_not_wait_completes_on_an_associated_immediate_executor) {
  auto closed = [] {
    auto f = std::make_unique<test::submit_fixture>(where::running);
    f->l->close();
    return f;
  };
  BOOST_TEST(test::completes_at_once(
      closed, [](std::exception_ptr e, int) { BOOST_TEST((code_of(e) == errc::closed)); }));
  BOOST_TEST(!test::completes_at_once(make_submit(where::waiting), expect_42));
}
#endif

BOOST_AUTO_TEST_CASE(a_submission_is_work_for_the_inner_executor_and_for_the_handlers_context) {
  asio::io_context inner, io;
  lanes l(inner, {.concurrency = 1});
  const lane a = l.open();
  outcome r;
  a.async_submit([] { return 1; }, asio::bind_executor(io, r.into()));
  BOOST_TEST(io.poll() == 0u);
  BOOST_TEST(!io.stopped());
  inner.run_one();
  BOOST_TEST(!io.stopped());
  test::run(io); // returns after the handler, not before
  BOOST_TEST(r.succeeded(1));
  test::run(inner);
}

// --- cancellation -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_queued_task_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_submit(where::queued), expect_42);
}

BOOST_AUTO_TEST_CASE(a_wait_for_room_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_submit(where::waiting), expect_42);
}

BOOST_AUTO_TEST_CASE(a_drain_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_drain(true), expect_no_error);
}

BOOST_AUTO_TEST_CASE(a_drain_closes_the_lane_also_when_its_wait_is_cancelled) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1});
  const lane a = l.open();
  asio::cancellation_signal signal;
  std::optional<error_code> ended;
  int ran = 0;
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  a.async_drain(asio::bind_cancellation_slot(signal.slot(), [&](error_code ec) { ended = ec; }));
  signal.emit(asio::cancellation_type::terminal);
  BOOST_TEST(!a.try_submit(nothing));
  test::run(io);
  BOOST_TEST((ended == aborted));
  BOOST_TEST(ran == 1);
}

BOOST_AUTO_TEST_CASE(a_start_and_a_cancellation_exclude_each_other) {
  test::cancellation_race(make_submit(where::queued), expect_42, test::scaled(200));
  test::cancellation_race(make_submit(where::waiting), expect_42, test::scaled(200));
  test::cancellation_race(make_drain(true), expect_no_error, test::scaled(200));
}

BOOST_AUTO_TEST_CASE(cancelling_a_queued_task_frees_its_room_at_once) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1});
  const lane a = l.open({.queue_limit = 1});
  asio::cancellation_signal signal;
  std::atomic<int> alive{0};
  outcome queued, waiting, behind;
  auto task = [x = live(alive)] { return 1; };
  a.async_submit(std::move(task), asio::bind_cancellation_slot(signal.slot(), queued.into()));
  a.async_submit([] { return 2; }, waiting.into());
  a.async_submit([] { return 3; }, behind.into());
  BOOST_TEST(a.stats().waiting == 2u);
  signal.emit(asio::cancellation_type::total);
  BOOST_TEST(alive == 0);
  BOOST_TEST(a.stats().queued == 1u);
  BOOST_TEST(a.stats().waiting == 1u); // one moved up although nothing has run
  BOOST_TEST(a.stats().cancelled == 1u);
  BOOST_TEST(queued.calls == 0);
  test::run(io);
  BOOST_TEST(queued.aborted());
  BOOST_TEST(waiting.succeeded(2));
  BOOST_TEST(behind.succeeded(3));
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(cancelling_a_running_task_requests_stop_and_keeps_its_result) {
  for (auto type : test::all_cancellation_types) {
    asio::thread_pool threads(1);
    lanes l(threads, {.concurrency = 1});
    const lane a = l.open();
    asio::io_context io;
    asio::cancellation_signal signal;
    test::slot<void> started;
    outcome r;
    auto task = [&](std::stop_token token) {
      started.set_value();
      wait_until([&] { return token.stop_requested(); });
      return 7;
    };
    a.async_submit(task,
                   asio::bind_cancellation_slot(signal.slot(), asio::bind_executor(io, r.into())));
    started.get();
    signal.emit(type);
    test::run(io);
    BOOST_TEST(r.succeeded(7));
    threads.join();
    BOOST_TEST(a.stats().completed == 1u);
    BOOST_TEST(a.stats().cancelled == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_task_is_not_asked_to_stop_without_a_reason) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  int asked = -1;
  a.async_submit([](std::stop_token token) { return token.stop_requested() ? 1 : 0; },
                 [&](std::exception_ptr, int n) { asked = n; });
  test::run(io);
  BOOST_TEST(asked == 0);
}

// --- room ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_waiter_limit_is_exact) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1});
  const lane a = l.open({.queue_limit = 2, .waiter_limit = 3});
  std::array<outcome, 6> results;
  for (int i = 0; i != 6; ++i)
    a.async_submit([i] { return i; }, results[static_cast<std::size_t>(i)].into());
  BOOST_TEST(a.stats().queued == 2u);
  BOOST_TEST(a.stats().waiting == 3u);
  BOOST_TEST(a.stats().rejected == 1u);
  test::run(io);
  for (int i = 0; i != 5; ++i) BOOST_TEST(results[static_cast<std::size_t>(i)].succeeded(i));
  BOOST_TEST(results[5].failed(errc::queue_full));
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(waiters_are_admitted_in_order_and_nobody_overtakes_them) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1});
  const lane a = l.open({.queue_limit = 2});
  std::vector<int> order;
  int refused = 0;
  for (int i = 0; i != 200; ++i) {
    a.async_submit(
        [&, i] {
          order.push_back(i);
          refused += !a.try_submit(nothing); // there is always somebody in line, but in the end
        },
        asio::detached);
  }
  BOOST_TEST(a.stats().waiting == 198u);
  test::run(io);
  BOOST_TEST(order.size() == 200u);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
  BOOST_TEST(refused == 198);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_tasks_captures_are_gone_before_its_completion) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  std::atomic<int> alive{0};
  std::vector<int> at_completion;
  const auto note = [&](std::exception_ptr, int) { at_completion.push_back(alive); };
  auto task = [x = live(alive)] { return 1; };
  auto thrower = [x = live(alive)]() -> int { throw 1; };
  asio::cancellation_signal signal;
  auto cancelled = [x = live(alive)] { return 1; };
  a.async_submit(std::move(cancelled), asio::bind_cancellation_slot(signal.slot(), note));
  signal.emit(asio::cancellation_type::terminal);
  test::run(io);
  a.async_submit(std::move(task), note);
  test::run(io);
  a.async_submit(std::move(thrower), note);
  test::run(io);
  const std::vector<int> wanted{2, 1, 0}; // those that have not been submitted yet
  BOOST_TEST(at_completion == wanted, boost::test_tools::per_element());
}

// --- memory -------------------------------------------------------------------------------------

namespace {

// How many allocations `n` functions of this size cost, in a set that has run some.
template <std::size_t Size>
long allocations_of(int n) {
  struct function {
    std::array<char, Size> bytes{};
    void operator()() const {}
  };
  asio::io_context io;
  lanes l(io, {.concurrency = 1, .batch = unbounded});
  const lane a = l.open(), b = l.open();
  const auto round = [&](int functions) {
    for (int i = 0; i != functions; ++i) BOOST_TEST_REQUIRE((i % 2 ? a : b).try_submit(function{}));
    test::run(io);
  };
  const auto cost_of_round = [&](int functions) {
    const long before = test::global_memory.allocations;
    round(functions);
    return test::global_memory.allocations - before;
  };
  round(n);
  const long cost_of_runner = cost_of_round(1);
  return cost_of_round(n) - cost_of_runner;
}

} // namespace

BOOST_AUTO_TEST_CASE(functions_allocate_nothing_in_steady_state) {
  BOOST_TEST(allocations_of<1>(1000) == 0);
  BOOST_TEST(allocations_of<48>(1000) == 0);
  BOOST_TEST(allocations_of<200>(1000) == 0);
  BOOST_TEST(allocations_of<800>(1000) == 0);
}

BOOST_AUTO_TEST_CASE(the_memory_of_very_many_functions_is_freed_after_them) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open({.queue_limit = unbounded});
  BOOST_TEST(a.try_submit(nothing));
  test::run(io);
  const long before = test::global_memory.blocks;
  for (int i = 0; i != 10'000; ++i) BOOST_TEST_REQUIRE(a.try_submit(nothing));
  test::run(io);
  BOOST_TEST(test::global_memory.blocks <= before);
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_of_the_handlers_submits_nothing) {
  for (bool waits : {false, true}) {
    asio::io_context inner, io;
    lanes l(inner, {.concurrency = 1});
    const lane a = l.open({.queue_limit = 1});
    if (waits) BOOST_TEST(a.try_submit(nothing));
    test::allocation_fuse fuse;
    test::memory_balance memory;
    std::atomic<int> alive{0};
    bool started = false;
    int calls = 0;
    long failures = 0;
    const lane_stats before = a.stats();
    for (long n = 0; !started; ++n) {
      auto task = [x = live(alive)] { return 1; };
      fuse.arm(n);
      try {
        a.async_submit(std::move(task),
                       asio::bind_allocator(
                           test::throwing_allocator<int>(fuse, memory),
                           asio::bind_executor(io, [&](std::exception_ptr, int) { ++calls; })));
        started = true;
      } catch (const std::bad_alloc&) {
        ++failures;
        BOOST_TEST(memory.blocks == 0);
        BOOST_TEST(a.stats().queued == before.queued);
        BOOST_TEST(a.stats().waiting == before.waiting);
      }
      fuse.disarm();
    }
    BOOST_TEST(failures > 0);
    BOOST_TEST(alive == 1);
    test::run(inner);
    test::run(io);
    BOOST_TEST(calls == 1);
    BOOST_TEST(alive == 0);
    BOOST_TEST(memory.blocks == 0);
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_elsewhere_submits_nothing) {
  enum { async, async_waiting, attempt, post, drain, open, kinds };
  for (int kind = 0; kind != kinds; ++kind) {
    BOOST_TEST_CONTEXT("kind " << kind) {
      bool started = false;
      long failures = 0;
      for (long n = 0; !started; ++n) {
        std::atomic<int> alive{0}, handlers{0};
        int ran = 0, calls = 0;
        {
          asio::io_context inner, io;
          lanes l(inner, {.concurrency = 1});
          const lane a = l.open({.queue_limit = 1});
          if (kind == async_waiting) BOOST_TEST(a.try_submit(nothing));
          struct task {
            live l;
            int* runs;
            std::array<char, 200> large{};
            int operator()() { return ++*runs; }
          } t{live(alive), &ran};
          const lane_stats before = a.stats();
          try {
            auto handler = asio::bind_executor(io, [&, x = live(handlers)](auto...) { ++calls; });
            test::global_fuse_scope fuse(n);
            if (kind <= async_waiting) a.async_submit(std::move(t), std::move(handler));
            if (kind == attempt) started = a.try_submit(t);
            if (kind == post) asio::post(a.get_executor(), t);
            if (kind == drain) a.async_drain(std::move(handler));
            if (kind == open)
              (void)l.open({.name = "a name that does not fit into a string", .priority = 7});
            started = true;
          } catch (const std::bad_alloc&) {
            ++failures;
            BOOST_TEST(handlers == 0);
            BOOST_TEST(a.stats().queued == before.queued);
            BOOST_TEST(a.stats().waiting == before.waiting);
            BOOST_TEST(l.size() == 1u);
            if (kind == drain) BOOST_TEST((a.try_submit(nothing))); // not closed
          }
          test::run(inner);
          test::run(io);
          BOOST_TEST(calls == (started && kind != attempt && kind != post && kind != open));
          BOOST_TEST(ran == (started && kind != drain && kind != open));
          BOOST_TEST(balanced(a.stats()));
          BOOST_TEST(a.try_submit(nothing) == (!started || kind != drain)); // it goes on
        }
        BOOST_TEST(alive == 0);
        BOOST_TEST(handlers == 0);
      }
      // (Asio's own memory, which continuations are in, cannot be made to fail.)
      if (kind != post) BOOST_TEST(failures > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_makes_no_set) {
  asio::io_context io;
  bool made = false;
  long failures = 0;
  for (long n = 0; !made; ++n) {
    const lanes_options options{.concurrency = 2, .name = "a name that does not fit into a string"};
    try {
      test::global_fuse_scope fuse(n);
      lanes l(io, options);
      made = true;
    } catch (const std::bad_alloc&) {
      ++failures;
    }
  }
  BOOST_TEST(failures > 0);
  const long blocks = test::global_memory.blocks;
  for (int i = 0; i != 10; ++i) lanes l(io);
  BOOST_TEST(test::global_memory.blocks == blocks);
}
