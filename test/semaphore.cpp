//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/allocators.hpp"
#include "support/cancellation.hpp"
#include "support/global_new.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/stage.hpp"
#include "support/tokens.hpp"
#include "support/tracker_executor.hpp"

#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <latch>
#include <memory>
#include <memory_resource>
#include <new>
#include <optional>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::semaphore_options;
using bulkhead::unbounded;
using test::stage;

static_assert(std::is_nothrow_move_constructible_v<semaphore>);
static_assert(std::is_nothrow_move_assignable_v<semaphore>);
static_assert(std::is_nothrow_destructible_v<semaphore>);
static_assert(!std::is_copy_constructible_v<semaphore>);
static_assert(!std::is_copy_assignable_v<semaphore>);
static_assert(!std::is_default_constructible_v<semaphore>);
static_assert(std::is_constructible_v<semaphore, asio::io_context&, std::size_t>);
static_assert(std::is_constructible_v<semaphore, asio::any_io_executor, std::size_t>);
static_assert(std::is_same_v<semaphore, bulkhead::basic_semaphore<>>);
static_assert(std::is_same_v<semaphore::executor_type, asio::any_io_executor>);
static_assert(std::is_same_v<semaphore::rebind_executor<asio::io_context::executor_type>::other,
                             bulkhead::basic_semaphore<asio::io_context::executor_type>>);
static_assert(noexcept(std::declval<const semaphore&>().get_executor()));
static_assert(noexcept(std::declval<const semaphore&>().in_use()));
static_assert(noexcept(std::declval<const semaphore&>().waiting()));

namespace {

using test::poll;
using test::run;

// What one async_acquire came to.
struct result {
  int calls = 0;
  error_code code;
  permit held;
};

auto into(result& r) {
  return [&r](error_code ec, permit p) {
    ++r.calls;
    r.code = ec;
    r.held = std::move(p);
  };
}

bool granted(const result& r) { return r.calls == 1 && !r.code && r.held; }
bool pending(const result& r) { return r.calls == 0; }
bool failed(const result& r, error_code ec) { return r.calls == 1 && r.code == ec && !r.held; }

const error_code aborted = asio::error::operation_aborted;

std::string message_of(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no std::invalid_argument";
}

permit take(semaphore& s, std::size_t weight = 1) { return s.try_acquire(weight).value(); }

// Posts to a context, does something first and returns some time later.
struct slow_executor {
  asio::io_context::executor_type inner;
  const std::function<void()>* before;
  const std::function<void()>* after;

  template <class F>
  void execute(F f) const {
    (*before)();
    asio::require(inner, asio::execution::blocking.never).execute(std::move(f));
    (*after)();
  }

  slow_executor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
  bool operator==(const slow_executor&) const noexcept = default;
};

} // namespace

// --- counting -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_handler_that_is_an_lvalue_is_copied) {
  asio::io_context io;
  semaphore s(io, 1);
  int calls = 0;
  auto handler = [&calls, owned = std::make_shared<int>(1)](error_code, permit) {
    calls += *owned;
  };
  const auto constant = handler;
  for (int i = 0; i != 2; ++i) {
    s.async_acquire(handler); // granted, or waits
    s.async_acquire(constant);
  }
  test::run(io);
  BOOST_TEST(calls == 4);
}

BOOST_AUTO_TEST_CASE(units_are_taken_and_given_back) {
  asio::io_context io;
  semaphore s(io, 5);
  BOOST_TEST(s.limit() == 5u);
  BOOST_TEST(s.available() == 5u);
  permit a = take(s, 2);
  permit b = take(s, 3);
  BOOST_TEST(a.weight() == 2u);
  BOOST_TEST(s.in_use() == 5u);
  BOOST_TEST(s.available() == 0u);
  a.release();
  BOOST_TEST(s.in_use() == 3u);
  BOOST_TEST(s.available() == 2u);
  { permit c = std::move(b); }
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(try_acquire_takes_one_by_default) {
  asio::io_context io;
  semaphore s(io, 2);
  auto r = s.try_acquire();
  BOOST_TEST(r.has_value());
  BOOST_TEST(s.in_use() == 1u);
}

BOOST_AUTO_TEST_CASE(a_refused_try_acquire_says_queue_full_and_does_not_know_when) {
  asio::io_context io;
  semaphore s(io, 2);
  permit p = take(s, 1);
  auto r = s.try_acquire(2);
  BOOST_REQUIRE(r.has_error());
  BOOST_TEST((r.error().code == errc::queue_full));
  BOOST_TEST((r.error().retry_after == std::chrono::nanoseconds(0)));
  BOOST_TEST(!r.error().stage.empty());
  BOOST_TEST(s.in_use() == 1u);
  BOOST_CHECK_EXCEPTION((void)r.value(), bulkhead::system_error,
                        [](const auto& e) { return e.code() == errc::queue_full; });
}

BOOST_AUTO_TEST_CASE(a_weight_of_the_whole_limit_fits) {
  asio::io_context io;
  semaphore s(io, 3);
  BOOST_TEST(s.try_acquire(3).has_value());
}

BOOST_AUTO_TEST_CASE(weights_near_the_largest_number_do_not_overflow) {
  asio::io_context io;
  semaphore s(io, unbounded);
  permit p = take(s, unbounded - 1);
  BOOST_TEST((s.try_acquire(2).error().code == errc::queue_full));
  permit q = take(s, 1);
  BOOST_TEST(s.available() == 0u);
  BOOST_TEST((s.try_acquire(unbounded).error().code == errc::queue_full));
  p.release();
  q.release();
  BOOST_TEST(take(s, unbounded).weight() == unbounded);
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(more_than_the_limit_fails_at_once) {
  asio::io_context io;
  semaphore s(io, 3);
  permit p = take(s, 3);
  BOOST_TEST((s.try_acquire(4).error().code == errc::exceeds_limit));
  result r;
  s.async_acquire(4, into(r));
  poll(io);
  BOOST_TEST(failed(r, errc::exceeds_limit));
  BOOST_TEST(s.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(async_acquire_without_a_weight_takes_one) {
  asio::io_context io;
  semaphore s(io, 2);
  result r;
  s.async_acquire(into(r));
  run(io);
  BOOST_TEST(granted(r));
  BOOST_TEST(r.held.weight() == 1u);
}

// --- order --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(waiters_are_granted_in_the_order_in_which_they_came) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  std::vector<int> order;
  for (int i = 0; i != 100; ++i)
    s.async_acquire(1, [&, i](error_code ec, permit) {
      BOOST_TEST(!ec);
      order.push_back(i);
    });
  BOOST_TEST(s.waiting() == 100u);
  p.release();
  run(io);
  BOOST_TEST(order.size() == 100u);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(try_acquire_never_overtakes_a_waiter) {
  asio::io_context io;
  semaphore s(io, 3);
  permit p = take(s, 2);
  result big;
  s.async_acquire(3, into(big));
  BOOST_TEST(s.available() == 1u);
  BOOST_TEST((s.try_acquire(1).error().code == errc::queue_full));
  BOOST_TEST((s.try_acquire(0).error().code == errc::queue_full));
  p.release();
  run(io);
  BOOST_TEST(granted(big));
}

BOOST_AUTO_TEST_CASE(async_acquire_never_overtakes_a_waiter) {
  asio::io_context io;
  semaphore s(io, 3);
  permit p = take(s, 2);
  result big, small;
  s.async_acquire(3, into(big));
  s.async_acquire(1, into(small));
  poll(io);
  BOOST_TEST(pending(small));
  p.release();
  poll(io);
  BOOST_TEST(granted(big));
  BOOST_TEST(pending(small));
  big.held.release();
  run(io);
  BOOST_TEST(granted(small));
}

BOOST_AUTO_TEST_CASE(large_acquire_does_not_starve) {
  asio::io_context io;
  semaphore s(io, 4);
  std::vector<permit> held;
  for (int i = 0; i != 4; ++i) held.push_back(take(s));
  result large;
  s.async_acquire(4, into(large));
  // Small requests come all the time, and small units are given back one by one.
  std::vector<result> small(20);
  for (std::size_t i = 0; i != small.size(); ++i) {
    s.async_acquire(1, into(small[i]));
    if (i < held.size()) held[i].release();
    poll(io);
    if (i < 3) BOOST_TEST(pending(small[i]));
  }
  BOOST_TEST(granted(large));
  for (auto& r : small) BOOST_TEST(pending(r));
  large.held.release();
  poll(io);
  BOOST_TEST(granted(small[0]));
  BOOST_TEST(granted(small[3]));
  BOOST_TEST(pending(small[4]));
}

BOOST_AUTO_TEST_CASE(one_release_grants_all_that_fit) {
  asio::io_context io;
  semaphore s(io, 5);
  permit p = take(s, 5);
  result a, b, c, d;
  s.async_acquire(2, into(a));
  s.async_acquire(2, into(b));
  s.async_acquire(2, into(c));
  s.async_acquire(1, into(d));
  p.release();
  poll(io);
  BOOST_TEST(granted(a));
  BOOST_TEST(granted(b));
  BOOST_TEST(pending(c));
  BOOST_TEST(pending(d));
  BOOST_TEST(s.in_use() == 4u);
}

BOOST_AUTO_TEST_CASE(cancelled_head_grants_smaller_waiters) {
  asio::io_context io;
  semaphore s(io, 3);
  permit p = take(s, 2);
  asio::cancellation_signal signal;
  result head, small, also, last;
  s.async_acquire(3, asio::bind_cancellation_slot(signal.slot(), into(head)));
  s.async_acquire(1, into(small));
  s.async_acquire(0, into(also));
  s.async_acquire(1, into(last));
  signal.emit(asio::cancellation_type::total);
  BOOST_TEST(s.waiting() == 1u); // at once: not only when the aborted handler has run
  BOOST_TEST(s.in_use() == 3u);
  poll(io);
  BOOST_TEST(failed(head, aborted));
  BOOST_TEST(granted(small));
  BOOST_TEST(granted(also));
  BOOST_TEST(pending(last));
}

BOOST_AUTO_TEST_CASE(a_cancelled_waiter_in_the_middle_changes_nothing_for_the_others) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  asio::cancellation_signal signal;
  result a, b, c;
  s.async_acquire(1, into(a));
  s.async_acquire(1, asio::bind_cancellation_slot(signal.slot(), into(b)));
  s.async_acquire(1, into(c));
  signal.emit(asio::cancellation_type::terminal);
  poll(io);
  BOOST_TEST(failed(b, aborted));
  BOOST_TEST(pending(a));
  p.release();
  poll(io);
  BOOST_TEST(granted(a));
  BOOST_TEST(pending(c));
  a.held.release();
  poll(io);
  BOOST_TEST(granted(c));
}

BOOST_AUTO_TEST_CASE(weight_zero_waits_its_turn_and_its_permit_is_true) {
  asio::io_context io;
  semaphore s(io, 2);
  permit p = take(s, 2);
  result big, zero;
  s.async_acquire(1, into(big));
  s.async_acquire(0, into(zero));
  poll(io);
  BOOST_TEST(pending(zero));
  BOOST_TEST(s.waiting() == 2u);
  p.release();
  run(io);
  BOOST_TEST(granted(big));
  BOOST_TEST(granted(zero));
  BOOST_TEST(zero.held.weight() == 0u);
  BOOST_TEST(s.in_use() == 1u);
  zero.held.release();
  BOOST_TEST(s.in_use() == 1u);
  BOOST_TEST(static_cast<bool>(take(s, 0)));
}

BOOST_AUTO_TEST_CASE(ten_thousand_waiters_of_one_release_do_not_recurse_and_run_in_order) {
  constexpr int n = 10'000;
  asio::io_context io;
  semaphore s(io, n);
  permit all = take(s, n);
  int depth = 0, deepest = 0;
  bool releasing = false;
  std::vector<int> order;
  for (int i = 0; i != n; ++i)
    s.async_acquire(1, [&, i](error_code ec, permit p) {
      deepest = std::max(deepest, ++depth);
      BOOST_REQUIRE(!ec);
      BOOST_REQUIRE(!releasing);
      order.push_back(i);
      p.release();
      --depth;
    });
  releasing = true;
  all.release();
  releasing = false;
  BOOST_TEST(s.waiting() == 0u);
  run(io);
  BOOST_TEST(deepest == 1);
  BOOST_TEST(order.size() == static_cast<std::size_t>(n));
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(a_chain_of_ten_thousand_releases_inside_handlers_does_not_recurse) {
  constexpr int n = 10'000;
  asio::io_context io;
  semaphore s(io, 1);
  permit one = take(s);
  int depth = 0, deepest = 0, calls = 0;
  for (int i = 0; i != n; ++i)
    s.async_acquire(1, [&, i](error_code, permit p) {
      deepest = std::max(deepest, ++depth);
      BOOST_REQUIRE(calls == i);
      ++calls;
      p.release(); // grants the next one
      --depth;
    });
  one.release();
  run(io);
  BOOST_TEST(calls == n);
  BOOST_TEST(deepest == 1);
}

BOOST_AUTO_TEST_CASE(a_handler_may_acquire_again) {
  asio::io_context io;
  semaphore s(io, 1);
  int rounds = 0;
  struct again {
    semaphore& s;
    int& rounds;
    void operator()(error_code ec, permit p) {
      BOOST_REQUIRE(!ec);
      if (++rounds == 1000) return;
      s.async_acquire(1, again{s, rounds});
      BOOST_TEST(s.waiting() == 1u); // p is still held
      p.release();
    }
  };
  s.async_acquire(1, again{s, rounds});
  run(io);
  BOOST_TEST(rounds == 1000);
  BOOST_TEST(s.in_use() == 0u);
}

// --- bounds, pause, close -----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(max_waiters_bounds_the_queue_exactly) {
  BOOST_TEST(semaphore_options{}.max_waiters == unbounded);
  asio::io_context io;
  semaphore s(io, 1, semaphore_options{.max_waiters = 2});
  permit p = take(s);
  result a, b, refused, later;
  asio::cancellation_signal signal;
  s.async_acquire(1, asio::bind_cancellation_slot(signal.slot(), into(a)));
  s.async_acquire(1, into(b));
  s.async_acquire(1, into(refused));
  poll(io);
  BOOST_TEST(failed(refused, errc::queue_full));
  BOOST_TEST(s.waiting() == 2u);
  signal.emit(asio::cancellation_type::terminal);
  s.async_acquire(1, into(later)); // in the place of the cancelled one
  poll(io);
  BOOST_TEST(pending(later));
  p.release();
  poll(io);
  b.held.release();
  poll(io);
  BOOST_TEST(granted(later));
}

BOOST_AUTO_TEST_CASE(without_waiters_allowed_what_fits_is_granted_all_the_same) {
  asio::io_context io;
  semaphore s(io, 1, semaphore_options{.max_waiters = 0});
  result a, b;
  s.async_acquire(1, into(a));
  poll(io);
  BOOST_TEST(granted(a));
  s.async_acquire(1, into(b));
  poll(io);
  BOOST_TEST(failed(b, errc::queue_full));
}

BOOST_AUTO_TEST_CASE(limit_zero_pauses_everything) {
  asio::io_context io;
  semaphore s(io, 0);
  BOOST_TEST(s.limit() == 0u);
  BOOST_TEST(s.available() == 0u);
  BOOST_TEST((s.try_acquire(1).error().code == errc::queue_full));
  BOOST_TEST((s.try_acquire(0).error().code == errc::queue_full));
  result none, one, many;
  s.async_acquire(0, into(none));
  s.async_acquire(1, into(one));
  s.async_acquire(1'000'000, into(many));
  poll(io);
  BOOST_TEST(pending(none));
  BOOST_TEST(pending(one));
  BOOST_TEST(pending(many));
  BOOST_TEST(s.waiting() == 3u);
  s.close();
  run(io);
  BOOST_TEST(failed(none, errc::closed));
  BOOST_TEST(failed(one, errc::closed));
  BOOST_TEST(failed(many, errc::closed));
}

BOOST_AUTO_TEST_CASE(close_ends_the_waits_and_leaves_permits_alone) {
  asio::io_context io;
  semaphore s(io, 2);
  permit p = take(s, 2);
  result a, b, later;
  s.async_acquire(1, into(a));
  s.async_acquire(2, into(b));
  s.close();
  BOOST_TEST(s.waiting() == 0u);
  BOOST_TEST(pending(a)); // posted, not called
  run(io);
  BOOST_TEST(failed(a, errc::closed));
  BOOST_TEST(failed(b, errc::closed));
  BOOST_TEST(static_cast<bool>(p));
  BOOST_TEST(s.in_use() == 2u);
  p.release();
  BOOST_TEST(s.in_use() == 0u);
  BOOST_TEST((s.try_acquire(1).error().code == errc::closed));
  s.async_acquire(1, into(later));
  run(io);
  BOOST_TEST(failed(later, errc::closed));
  s.close();
}

BOOST_AUTO_TEST_CASE(a_permit_granted_before_close_is_delivered) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  result r;
  s.async_acquire(1, into(r));
  p.release();
  s.close();
  run(io);
  BOOST_TEST(granted(r));
}

BOOST_AUTO_TEST_CASE(closed_is_reported_before_exceeds_limit_and_queue_full) {
  asio::io_context io;
  semaphore s(io, 1, semaphore_options{.max_waiters = 0});
  s.close();
  result r;
  s.async_acquire(2, into(r));
  run(io);
  BOOST_TEST(failed(r, errc::closed));
  BOOST_TEST((s.try_acquire(2).error().code == errc::closed));
}

// --- forgotten permits --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(forgotten_units_come_back_through_release) {
  asio::io_context io;
  semaphore s(io, 3);
  take(s, 2).forget();
  BOOST_TEST(s.in_use() == 2u);
  result r;
  s.async_acquire(3, into(r));
  s.release(1);
  BOOST_TEST(s.in_use() == 1u);
  poll(io);
  BOOST_TEST(pending(r));
  s.release(1);
  poll(io);
  BOOST_TEST(granted(r));
}

BOOST_AUTO_TEST_CASE(releasing_more_than_is_forgotten_is_an_error_that_changes_nothing) {
  asio::io_context io;
  semaphore s(io, 5);
  permit held = take(s, 2); // a permit's units are not for release() to give back
  take(s, 1).forget();
  const std::string message = message_of([&] { s.release(2); });
  BOOST_TEST(message.find("release") != std::string::npos, message);
  BOOST_TEST(message.find("got 2") != std::string::npos, message);
  BOOST_TEST(s.in_use() == 3u);
  BOOST_CHECK_THROW(s.release(unbounded), std::invalid_argument);
  BOOST_TEST(s.in_use() == 3u);
  s.release(1);
  s.release(0);
  BOOST_TEST(s.in_use() == 2u);
  BOOST_CHECK_THROW(s.release(1), std::invalid_argument);
  held.release();
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(a_part_of_a_permit_can_be_given_back) {
  asio::io_context io;
  semaphore s(io, 3);
  permit p = take(s, 3);
  result r;
  s.async_acquire(2, into(r));
  (void)p.split(1);
  poll(io);
  BOOST_TEST(pending(r));
  (void)p.split(1);
  poll(io);
  BOOST_TEST(granted(r));
  BOOST_TEST(p.weight() == 1u);
}

// --- lifetimes ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(destruction_aborts_the_waiters) {
  asio::io_context io;
  std::optional<semaphore> s(std::in_place, io, 1);
  permit p = take(*s);
  result a, b;
  s->async_acquire(1, into(a));
  s->async_acquire(1, into(b));
  s.reset();
  BOOST_TEST(pending(a)); // posted, not called
  run(io);
  BOOST_TEST(failed(a, aborted));
  BOOST_TEST(failed(b, aborted));
  p.release();
}

BOOST_AUTO_TEST_CASE(a_permit_granted_before_the_destruction_is_delivered) {
  asio::io_context io;
  std::optional<semaphore> s(std::in_place, io, 1);
  result r;
  s->async_acquire(1, into(r));
  s.reset();
  run(io);
  BOOST_TEST(granted(r));
  r.held.release();
}

BOOST_AUTO_TEST_CASE(a_permit_outlives_its_semaphore_and_its_context) {
  permit p;
  {
    asio::io_context io;
    semaphore s(io, 2);
    p = take(s, 2);
  }
  BOOST_TEST(static_cast<bool>(p));
  BOOST_TEST(p.weight() == 2u);
  permit q = p.split(1);
  p.merge(std::move(q));
  p.release();
  BOOST_TEST(!p);
}

BOOST_AUTO_TEST_CASE(a_semaphore_outlives_its_context) {
  std::atomic<int> alive{0};
  int calls = 0;
  std::optional<asio::io_context> io(std::in_place);
  semaphore s(io->get_executor(), 1);
  permit p = take(s);
  for (int i = 0; i != 3; ++i)
    s.async_acquire(1, [&calls, l = test::live(alive)](error_code, permit) { ++calls; });
  BOOST_TEST(alive == 3);
  io.reset();
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.waiting() == 0u);
  p.release();
  BOOST_TEST(s.in_use() == 0u);
  s.close();
}

BOOST_AUTO_TEST_CASE(shutdown_of_the_semaphores_context_destroys_handlers_of_another) {
  std::atomic<int> alive{0};
  int calls = 0;
  asio::io_context handlers;
  std::optional<asio::io_context> home(std::in_place);
  semaphore s(home->get_executor(), 1);
  permit p = take(s);
  s.async_acquire(1, asio::bind_executor(handlers, [&calls, l = test::live(alive)](
                                                       error_code, permit) { ++calls; }));
  home.reset();
  p.release();
  run(handlers); // its work is gone as well
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(shutdown_of_a_handlers_context_destroys_that_handler_and_grants_the_next) {
  std::atomic<int> alive{0};
  int calls = 0;
  asio::io_context home;
  std::optional<asio::io_context> handlers(std::in_place);
  semaphore s(home, 3);
  permit p = take(s, 2);
  s.async_acquire(3, asio::bind_executor(*handlers, [&calls, l = test::live(alive)](
                                                        error_code, permit) { ++calls; }));
  result next;
  s.async_acquire(1, into(next));
  handlers.reset();
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  run(home);
  BOOST_TEST(granted(next));
  BOOST_TEST(s.waiting() == 0u);
}

struct closes_at_its_end {
  std::optional<semaphore>* where;
  explicit closes_at_its_end(std::optional<semaphore>* s) : where(s) {}
  closes_at_its_end(closes_at_its_end&& other) noexcept
      : where(std::exchange(other.where, nullptr)) {}
  ~closes_at_its_end() {
    if (where) (*where)->close();
  }
};

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_end_the_context_of_the_semaphore) {
  auto home = std::make_shared<asio::io_context>();
  std::optional<asio::io_context> handlers(std::in_place);
  semaphore s(home->get_executor(), 3);
  permit p = take(s, 2);
  int calls = 0;
  s.async_acquire(3,
                  asio::bind_executor(*handlers, [&calls, home](error_code, permit) { ++calls; }));
  s.async_acquire(1, [&calls](error_code, permit) { ++calls; }); // it could be granted
  home.reset();
  handlers.reset();
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.in_use() == 2u);
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_end_the_context_of_another_that_waits) {
  std::optional<asio::io_context> home(std::in_place);
  auto handlers = std::make_shared<asio::io_context>();
  semaphore s(home->get_executor(), 1);
  permit p = take(s);
  std::atomic<int> alive{0};
  int calls = 0;
  s.async_acquire(1, [&calls, handlers](error_code, permit) { ++calls; });
  s.async_acquire(1, asio::bind_executor(*handlers, [&calls, l = test::live(alive)](
                                                        error_code, permit) { ++calls; }));
  s.async_acquire(1, [&calls, l = test::live(alive)](error_code, permit) { ++calls; });
  handlers.reset();
  home.reset();
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.waiting() == 0u);
  BOOST_TEST(s.stats().cancelled == 3u);
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_end_the_semaphore_while_others_wait) {
  std::optional<asio::io_context> home(std::in_place);
  asio::io_context handlers;
  auto s = std::make_shared<semaphore>(home->get_executor(), 1);
  permit p = take(*s);
  std::atomic<int> alive{0};
  int calls = 0;
  result elsewhere;
  s->async_acquire(1, [&calls, s](error_code, permit) { ++calls; });
  s->async_acquire(1, [&calls, l = test::live(alive)](error_code, permit) { ++calls; });
  s->async_acquire(1, asio::bind_executor(handlers, into(elsewhere)));
  s.reset();
  home.reset();
  run(handlers);
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  BOOST_TEST(elsewhere.code == aborted);
  p.release();
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_end_its_own_context) {
  std::optional<asio::io_context> home(std::in_place);
  auto handlers = std::make_shared<asio::io_context>();
  semaphore s(home->get_executor(), 1);
  permit p = take(s);
  int calls = 0;
  s.async_acquire(
      1, asio::bind_executor(*handlers, [&calls, handlers](error_code, permit) { ++calls; }));
  const std::weak_ptr<asio::io_context> watch = handlers;
  handlers.reset();
  home.reset();
  BOOST_TEST(watch.expired());
  BOOST_TEST(calls == 0);
}

namespace {

/// A service of the user's. It ends before those that the context had earlier, and `what` with it.
struct kept_to_the_end : asio::execution_context::service {
  inline static asio::execution_context::id id;

  kept_to_the_end(asio::execution_context& context, std::shared_ptr<void> w)
      : asio::execution_context::service(context), what(std::move(w)) {}
  void shutdown() override { what.reset(); }

  std::shared_ptr<void> what;
};

} // namespace

// An executor may end before our service, and destroy what is posted to it from then on.

BOOST_AUTO_TEST_CASE(waiters_whose_executor_has_ended_are_destroyed_without_recursion) {
  std::atomic<int> alive{0};
  std::optional<asio::io_context> io(std::in_place);
  stage ended(*io);
  ended.now = stage::mood::drops;
  semaphore s(io->get_executor(), 1);
  permit p = take(s);
  const int n = test::scaled(100'000);
  for (int i = 0; i != n; ++i)
    s.async_acquire(
        1, asio::bind_executor(ended.executor(), [l = test::live(alive)](error_code, permit) {}));
  asio::make_service<kept_to_the_end>(*io, std::make_shared<permit>(std::move(p)));
  io.reset();
  BOOST_TEST(alive == 0);
  BOOST_TEST(ended.given() == static_cast<std::size_t>(n));
  BOOST_TEST(s.in_use() == 0u);
  BOOST_TEST(s.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(a_handler_that_comes_back_from_its_executor_may_end_the_context_of_others) {
  std::atomic<int> alive{0};
  int calls = 0;
  std::optional<asio::io_context> io(std::in_place);
  stage ended(*io);
  ended.now = stage::mood::drops;
  semaphore s(io->get_executor(), 1);
  auto handlers = std::make_shared<asio::io_context>();
  const auto of_handlers = handlers->get_executor();
  const std::weak_ptr<asio::io_context> watch = handlers;
  permit p = take(s);
  s.async_acquire(1, asio::bind_executor(ended.executor(), [&calls, handlers = std::move(handlers)](
                                                               error_code, permit) { ++calls; }));
  for (int i = 0; i != 3; ++i)
    s.async_acquire(1, asio::bind_executor(of_handlers, [&calls, l = test::live(alive)](
                                                            error_code, permit) { ++calls; }));
  asio::make_service<kept_to_the_end>(*io, std::make_shared<permit>(std::move(p)));
  io.reset();
  BOOST_TEST(ended.given() == 1u);
  BOOST_TEST(watch.expired());
  BOOST_TEST(alive == 0);
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(what_is_being_ended_is_ended_before_the_context_that_a_handler_ends) {
  std::atomic<int> alive{0};
  std::vector<error_code> seen;
  std::optional<asio::io_context> io(std::in_place);
  stage ended(*io);
  ended.now = stage::mood::drops;
  std::optional<semaphore> s(std::in_place, io->get_executor(), 1);
  auto handlers = std::make_shared<asio::io_context>();
  asio::io_context others;
  const auto of_handlers = handlers->get_executor();
  const permit p = take(*s);
  s->async_acquire(
      1, asio::bind_executor(ended.executor(), [h = std::move(handlers)](error_code, permit) {}));
  for (int i = 0; i != 3; ++i) {
    s->async_acquire(
        1, asio::bind_executor(of_handlers, [l = test::live(alive)](error_code, permit) {}));
    s->async_acquire(
        1, asio::bind_executor(others, [&](error_code ec, permit) { seen.push_back(ec); }));
  }
  asio::make_service<kept_to_the_end>(*io, std::make_shared<closes_at_its_end>(&s));
  io.reset();
  run(others);
  BOOST_TEST(ended.given() == 1u);
  BOOST_TEST(alive == 0);
  BOOST_TEST((seen == std::vector<error_code>(3, errc::closed)));
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_destroyed_may_own_the_memory_of_its_operation) {
  std::optional<asio::io_context> io(std::in_place);
  semaphore s(io->get_executor(), 1);
  permit p = take(s);
  auto arena = std::make_shared<std::pmr::monotonic_buffer_resource>();
  s.async_acquire(1, asio::bind_allocator(std::pmr::polymorphic_allocator<>(arena.get()),
                                          [arena](error_code, permit) {}));
  const std::weak_ptr<void> watch = arena;
  arena.reset();
  io.reset();
  BOOST_TEST(watch.expired());
}

BOOST_AUTO_TEST_CASE(an_acquisition_after_the_end_of_the_context_is_refused_also_with_holders) {
  asio::io_context handlers;
  for (bool tracks : {false, true}) {
    std::optional<asio::io_context> home(std::in_place);
    semaphore_options o;
    o.track_holders = tracks;
    semaphore s(home->get_executor(), 1, o);
    home.reset();
    error_code seen;
    s.async_acquire(1, asio::bind_executor(handlers, [&](error_code ec, permit) { seen = ec; }));
    run(handlers);
    BOOST_TEST(seen == aborted);
    BOOST_TEST(s.stats().rejected == 1u);
    handlers.restart();
  }
}

BOOST_AUTO_TEST_CASE(two_contexts_end_in_either_order) {
  for (bool home_first : {true, false}) {
    std::atomic<int> alive{0};
    int calls = 0;
    std::optional<asio::io_context> home(std::in_place);
    std::optional<asio::io_context> handlers(std::in_place);
    std::optional<semaphore> s(std::in_place, home->get_executor(), 1);
    permit p = take(*s);
    for (int i = 0; i != 3; ++i) {
      s->async_acquire(1, [&calls, l = test::live(alive)](error_code, permit) { ++calls; });
      s->async_acquire(1, asio::bind_executor(*handlers, [&calls, l = test::live(alive)](
                                                             error_code, permit) { ++calls; }));
    }
    (home_first ? home : handlers).reset();
    (home_first ? handlers : home).reset();
    BOOST_TEST(alive == 0);
    BOOST_TEST(calls == 0);
    BOOST_TEST(s->waiting() == 0u);
    s.reset();
    p.release();
  }
}

BOOST_AUTO_TEST_CASE(granted_permits_on_their_way_come_back_when_their_context_ends) {
  asio::io_context home;
  std::optional<asio::io_context> handlers(std::in_place);
  semaphore s(home, 2);
  permit p = take(s);
  int calls = 0;
  auto count = asio::bind_executor(*handlers, [&](error_code, permit) { ++calls; });
  s.async_acquire(1, count); // at once
  s.async_acquire(1, count); // waits
  p.release();
  BOOST_TEST(s.in_use() == 2u);
  handlers.reset();
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(a_semaphore_that_its_own_waiting_handler_owns_ends_with_the_context) {
  std::optional<asio::io_context> io(std::in_place);
  auto s = std::make_shared<semaphore>(*io, 1);
  std::weak_ptr<semaphore> watch = s;
  permit p = take(*s);
  s->async_acquire(1, [s](error_code, permit) {});
  s.reset();
  BOOST_TEST(!watch.expired());
  io.reset();
  BOOST_TEST(watch.expired());
  p.release();
}

BOOST_AUTO_TEST_CASE(a_destroyed_handler_may_hold_a_permit_of_the_same_semaphore) {
  // The permit gives back while the semaphore ends its waits: no lock may be held then.
  asio::io_context home;
  std::optional<asio::io_context> handlers(std::in_place);
  semaphore s(home, 2);
  permit a = take(s), b = take(s);
  result last;
  s.async_acquire(1, asio::bind_executor(*handlers, [a = std::move(a)](error_code, permit) {}));
  s.async_acquire(2, into(last));
  handlers.reset();
  b.release();
  run(home);
  BOOST_TEST(granted(last));
}

BOOST_AUTO_TEST_CASE(moving_a_semaphore_keeps_its_waiters) {
  asio::io_context io;
  semaphore a(io, 1);
  permit p = take(a);
  result r;
  a.async_acquire(1, into(r));
  semaphore b(std::move(a));
  BOOST_TEST(b.waiting() == 1u);
  p.release();
  run(io);
  BOOST_TEST(granted(r));
  BOOST_TEST(b.in_use() == 1u);
}

BOOST_AUTO_TEST_CASE(move_assignment_aborts_the_waiters_of_the_old_value) {
  asio::io_context io;
  semaphore a(io, 1), b(io, 2);
  permit p = take(a), q = take(b, 2);
  result of_a, of_b;
  a.async_acquire(1, into(of_a));
  b.async_acquire(1, into(of_b));
  b = std::move(a);
  poll(io);
  BOOST_TEST(failed(of_b, aborted));
  BOOST_TEST(pending(of_a));
  BOOST_TEST(b.limit() == 1u);
  p.release();
  run(io);
  BOOST_TEST(granted(of_a));
}

BOOST_AUTO_TEST_CASE(a_waiting_acquire_is_work_for_both_executors) {
  asio::io_context home, handlers;
  semaphore s(home, 1);
  permit p = take(s);
  result r;
  s.async_acquire(1, asio::bind_executor(handlers, into(r)));
  BOOST_TEST(home.poll() == 0u);
  BOOST_TEST(!home.stopped());
  BOOST_TEST(handlers.poll() == 0u);
  BOOST_TEST(!handlers.stopped());
  p.release();
  run(handlers);
  BOOST_TEST(granted(r));
  BOOST_TEST(home.poll() == 0u);
  BOOST_TEST(home.stopped());
}

// --- statistics ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_acquisition_is_counted_once) {
  asio::io_context io;
  std::optional<semaphore> s(std::in_place, io, 3, semaphore_options{.max_waiters = 3});
  permit a = take(*s, 2);                    // granted
  permit b = take(*s, 1);                    // granted
  BOOST_TEST(!s->try_acquire().has_value()); // rejected
  BOOST_TEST(!s->try_acquire(4).has_value());
  result r[5];
  asio::cancellation_signal signal;
  s->async_acquire(3, asio::bind_cancellation_slot(signal.slot(), into(r[0])));
  s->async_acquire(1, into(r[1]));
  s->async_acquire(3, into(r[2]));
  s->async_acquire(1, into(r[3])); // rejected: no room
  s->async_acquire(9, into(r[4])); // rejected: too heavy
  auto stats = s->stats();
  BOOST_TEST(stats.limit == 3u);
  BOOST_TEST(stats.in_use == 3u);
  BOOST_TEST(stats.waiting == 3u);
  BOOST_TEST(stats.granted == 2u);
  BOOST_TEST(stats.rejected == 4u);

  signal.emit(asio::cancellation_type::total);
  b.release();  // grants r[1]
  s->resize(2); // too small for r[2]
  stats = s->stats();
  BOOST_TEST(stats.limit == 2u);
  BOOST_TEST(stats.in_use == 3u);
  BOOST_TEST(stats.waiting == 0u);
  BOOST_TEST(stats.granted == 3u);
  BOOST_TEST(stats.waited == 1u);
  BOOST_TEST(stats.rejected == 5u);
  BOOST_TEST(stats.cancelled == 1u);
  BOOST_TEST(stats.granted + stats.rejected + stats.cancelled + stats.waiting == 9u);
  run(io);

  s->async_acquire(1, into(r[0] = {}));
  s->close();
  BOOST_TEST(s->stats().rejected == 6u);
}

BOOST_AUTO_TEST_CASE(permits_that_need_not_wait_are_counted_as_well) {
  asio::io_context io;
  semaphore s(io, 1);
  for (int i = 0; i != 100'000; ++i) take(s).release(); // more than fit the word of the fast path
  BOOST_TEST(s.stats().granted == 100'000u);
  BOOST_TEST(s.stats().waited == 0u);
  BOOST_TEST(s.stats().wait_time.count() == 0u);
}

BOOST_AUTO_TEST_CASE(waits_are_timed_as_often_as_the_options_say) {
  for (std::size_t timed : {0, 1, 4}) {
    asio::io_context io;
    semaphore s(io, 1, {.timed_waits = timed});
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i != 16; ++i) {
      permit held = take(s);
      result r;
      s.async_acquire(1, into(r));
      held.release();
      run(io);
      BOOST_TEST(granted(r));
    }
    const auto duration = std::chrono::steady_clock::now() - start;
    const auto waits = s.stats().wait_time;
    BOOST_TEST(waits.count() == (timed == 0 ? 0u : 16u / timed));
    BOOST_TEST((waits.sum <= duration));
  }
}

BOOST_AUTO_TEST_CASE(a_wait_time_is_that_from_the_queue_to_the_grant) {
  using clock = std::chrono::steady_clock;
  asio::io_context io;
  semaphore s(io, 1);
  permit held = take(s);
  result r;
  const auto before = clock::now();
  s.async_acquire(1, into(r));
  const auto begun = clock::now();
  auto end = begun;
  while (end == begun) end = clock::now();
  held.release();
  const auto after = clock::now();
  const auto waits = s.stats().wait_time;
  BOOST_TEST(waits.count() == 1u);
  BOOST_TEST((waits.sum >= end - begun));
  BOOST_TEST((waits.sum <= after - before));
  run(io);
}

// --- who holds, who waits ------------------------------------------------------------------------

namespace {

constexpr semaphore_options tracked_options() {
  semaphore_options o;
  o.track_holders = true;
  return o;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_handlers_own_functions_are_its_own_business) {
  struct {
    int* calls;
    void operator()(error_code, permit) {}
    void begin_wait() { ++*calls; }
    void complete_at_once(asio::any_io_executor, error_code, permit) { ++*calls; }
    const std::source_location& where() const {
      ++*calls;
      return here;
    }
    std::source_location here{};
  } handler;
  int calls = 0;
  handler.calls = &calls;
  asio::io_context io;
  semaphore s(io, 1, tracked_options());
  permit held = take(s);
  s.async_acquire(handler); // waits
  held.release();
  run(io);
  io.restart();
  s.async_acquire(handler);
  run(io);
  BOOST_TEST(calls == 0);
  BOOST_TEST(s.available() == 1u);
}

BOOST_AUTO_TEST_CASE(holders_and_waiters_are_known_where_they_are_tracked) {
  asio::io_context io;
  semaphore s(io, 3, tracked_options());
  permit a = s.try_acquire(2).value();
  const auto line_of_a = std::source_location::current().line() - 1;
  result b, c;
  s.async_acquire(1, into(b));
  const auto line_of_b = std::source_location::current().line() - 1;
  s.async_acquire(3, into(c));
  const auto line_of_c = std::source_location::current().line() - 1;
  poll(io);
  BOOST_TEST(granted(b));

  auto holders = s.holders();
  BOOST_REQUIRE(holders.size() == 2u);
  BOOST_TEST(holders[0].weight == 2u);
  BOOST_TEST(holders[0].where.line() == line_of_a);
  BOOST_TEST(holders[1].weight == 1u);
  BOOST_TEST(holders[1].where.line() == line_of_b);
  for (const auto& h : holders) {
    BOOST_TEST((h.thread == std::this_thread::get_id()));
    BOOST_TEST(h.since.count() >= 0);
    BOOST_TEST(std::string(h.where.file_name()).ends_with("semaphore.cpp"));
  }
  auto waiters = s.waiters();
  BOOST_REQUIRE(waiters.size() == 1u);
  BOOST_TEST(waiters[0].weight == 3u);
  BOOST_TEST(waiters[0].where.line() == line_of_c);

  a.release();
  b.held.release();
  run(io);
  BOOST_TEST(granted(c));
  BOOST_TEST(s.waiters().empty());
  BOOST_REQUIRE(s.holders().size() == 1u);
  c.held.release();
  BOOST_TEST(s.holders().empty());
  BOOST_TEST(s.idle());
}

BOOST_AUTO_TEST_CASE(parts_of_a_tracked_permit_are_tracked) {
  asio::io_context io;
  std::optional<semaphore> s(std::in_place, io, 5, tracked_options());
  permit a = s->try_acquire(5).value();
  permit b = a.split(2);
  BOOST_REQUIRE(s->holders().size() == 2u);
  BOOST_TEST(s->holders()[0].weight == 3u);
  BOOST_TEST(s->holders()[1].weight == 2u);
  a.merge(std::move(b));
  BOOST_REQUIRE(s->holders().size() == 1u);
  BOOST_TEST(s->holders()[0].weight == 5u);
  BOOST_TEST(s->in_use() == 5u);
  semaphore stranger(io, 1, tracked_options());
  permit other = take(stranger);
  BOOST_CHECK_THROW(a.merge(std::move(other)), std::invalid_argument);
  a.split(1).forget();
  BOOST_TEST(s->in_use() == 5u);
  s->release(1);
  BOOST_TEST(s->in_use() == 4u);
  s.reset();
  a.release(); // into nothing
}

BOOST_AUTO_TEST_CASE(nobody_is_known_where_it_is_off) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  BOOST_TEST(s.holders().empty());
  BOOST_TEST(s.waiters().empty());
}

BOOST_AUTO_TEST_CASE(a_child_that_waits_for_what_it_holds_itself_gets_would_deadlock) {
  asio::io_context io;
  semaphore s(io, 2, tracked_options());
  error_code whole, half, behind;
  int others = 0;
  auto scope = [&](bulkhead::task_group& g) -> asio::awaitable<void> {
    auto reenters = [&]() -> asio::awaitable<void> {
      permit all = co_await s.async_acquire(2, asio::use_awaitable);
      auto [ec, p] = co_await s.async_acquire(1, asio::as_tuple(asio::use_awaitable));
      whole = ec;
    };
    g.spawn(reenters);
    co_await g.async_join(asio::use_awaitable);

    auto upgrades = [&]() -> asio::awaitable<void> {
      permit one = co_await s.async_acquire(1, asio::use_awaitable);
      auto [ec, p] = co_await s.async_acquire(2, asio::as_tuple(asio::use_awaitable));
      half = ec;
    };
    g.spawn(upgrades);
    co_await g.async_join(asio::use_awaitable);

    // Behind a request for all, by somebody else, which it keeps from being granted.
    auto wants_all = [&]() -> asio::awaitable<void> {
      permit all = co_await s.async_acquire(2, asio::use_awaitable);
      ++others;
    };
    auto holds_one = [&]() -> asio::awaitable<void> {
      permit one = co_await s.async_acquire(1, asio::use_awaitable);
      g.spawn(wants_all);
      while (s.waiting() == 0) co_await asio::post(io, asio::use_awaitable);
      auto [ec, p] = co_await s.async_acquire(1, asio::as_tuple(asio::use_awaitable));
      behind = ec;
    };
    g.spawn(holds_one);
    co_await g.async_join(asio::use_awaitable);
  };
  asio::co_spawn(io, bulkhead::async_scope(bulkhead::group_options(), scope, asio::use_awaitable),
                 [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST((whole == errc::would_deadlock));
  BOOST_TEST((half == errc::would_deadlock));
  BOOST_TEST((behind == errc::would_deadlock));
  BOOST_TEST(others == 1);
  BOOST_TEST(s.idle());
}

BOOST_AUTO_TEST_CASE(a_child_that_waits_for_others_is_left_to_wait) {
  asio::io_context io;
  semaphore s(io, 2, tracked_options());
  int done = 0;
  auto scope = [&](bulkhead::task_group& g) -> asio::awaitable<void> {
    auto takes_two = [&]() -> asio::awaitable<void> {
      permit one = co_await s.async_acquire(1, asio::use_awaitable);
      one.release();
      permit both = co_await s.async_acquire(2, asio::use_awaitable);
      co_await asio::post(io, asio::use_awaitable);
      ++done;
    };
    for (int i = 0; i != 10; ++i) g.spawn(takes_two);
    co_return;
  };
  asio::co_spawn(io, bulkhead::async_scope(bulkhead::group_options(), scope, asio::use_awaitable),
                 [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(done == 10);
  BOOST_TEST(s.idle());
}

// Children that follow one another are often at one address.
BOOST_AUTO_TEST_CASE(a_child_is_not_taken_for_one_that_has_ended_and_handed_its_permit_on) {
  asio::io_context io;
  semaphore s(io, 1, tracked_options());
  std::optional<permit> handed_on;
  std::vector<error_code> results;
  auto scope = [&](bulkhead::task_group& g) -> asio::awaitable<void> {
    auto takes_one = [&]() -> asio::awaitable<void> {
      auto [ec, p] = co_await s.async_acquire(1, asio::as_tuple(asio::use_awaitable));
      results.push_back(ec);
      handed_on = std::move(p);
    };
    for (int i = 0; i != 10; ++i) {
      g.spawn(takes_one);
      while (s.waiting() == 0 && results.size() != std::size_t(i + 1))
        co_await asio::post(io, asio::use_awaitable);
      if (i != 0) handed_on.reset();
      co_await g.async_join(asio::use_awaitable);
    }
  };
  asio::co_spawn(io, bulkhead::async_scope(bulkhead::group_options(), scope, asio::use_awaitable),
                 [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(results.size() == 10u);
  for (error_code ec : results) BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(a_child_may_start_several_operations_at_once_under_one_limit) {
  asio::io_context io;
  semaphore s(io, 1, tracked_options());
  int completed = 0;
  auto scope = [&](bulkhead::task_group& g) -> asio::awaitable<void> {
    auto waits_for_two = [&]() -> asio::awaitable<void> {
      using namespace asio::experimental::awaitable_operators;
      const auto ex = co_await asio::this_coro::executor;
      asio::steady_timer a(ex, std::chrono::milliseconds(1));
      asio::steady_timer b(ex, std::chrono::milliseconds(1));
      co_await (a.async_wait(bulkhead::limited_by(s, asio::use_awaitable)) &&
                b.async_wait(bulkhead::limited_by(s, asio::use_awaitable)));
      ++completed;
    };
    g.spawn(waits_for_two);
    co_await g.async_join(asio::use_awaitable);
  };
  asio::co_spawn(io, bulkhead::async_scope(bulkhead::group_options(), scope, asio::use_awaitable),
                 [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(completed == 1);
  BOOST_TEST(s.idle());
}

BOOST_AUTO_TEST_CASE(tracked_permits_are_conserved_on_several_threads) {
  asio::thread_pool threads(3);
  semaphore s(threads, 3, tracked_options());
  std::atomic<int> completed{0};
  const int total = test::scaled(20'000);
  for (int i = 0; i != total; ++i)
    s.async_acquire(1 + i % 3, [&](error_code ec, permit p) {
      if (!ec && p.weight() > 1) p.split(1).release();
      if (!ec) ++completed;
    });
  for (int i = 0; i != 100; ++i) {
    (void)s.holders();
    (void)s.waiters();
  }
  threads.join();
  BOOST_TEST(completed == total);
  BOOST_TEST(s.idle());
  BOOST_TEST(s.holders().empty());
}

// --- tokens, executors, allocators, cancellation ------------------------------------------------

namespace {

// async_acquire(2) on a semaphore of 3 units, of which `held` are taken until proceed().
struct acquire_fixture {
  test::background object;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::optional<semaphore> s;
  permit held;
  std::size_t weight = 2;
  bool close = false;
  bool end = false;

  explicit acquire_fixture(std::size_t taken, semaphore_options options = {})
      : s(std::in_place, executor, 3, std::move(options)), held(take(*s, taken)) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s->async_acquire(weight, std::forward<Token>(token));
  }

  void proceed() {
    if (close) s->close();
    if (end) s.reset();
    if (!close && !end) held.release();
  }

  void settle() { object.finish(); }
  void destroy() { s.reset(); }
  void restored() {
    BOOST_TEST(s->in_use() == 0u);
    BOOST_TEST(s->waiting() == 0u);
    BOOST_TEST(take(*s, 3).weight() == 3u);
  }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }
};

auto free_units = [] { return std::make_unique<acquire_fixture>(0); };
auto taken_units = [] { return std::make_unique<acquire_fixture>(2); };
auto expect_two = [](error_code ec, permit p) {
  BOOST_TEST(!ec);
  BOOST_TEST(static_cast<bool>(p));
  BOOST_TEST(p.weight() == 2u);
};

auto expect_error(error_code wanted) {
  return [wanted](error_code ec, permit p) {
    BOOST_TEST(ec == wanted);
    BOOST_TEST(!p);
  };
}

using acquire_signature = void(error_code, permit);

} // namespace

BOOST_AUTO_TEST_CASE(every_token_acquires_what_is_free) {
  test::token_matrix<acquire_signature>(free_units, expect_two);
}

BOOST_AUTO_TEST_CASE(every_token_acquires_after_a_wait) {
  test::token_matrix<acquire_signature>(taken_units, expect_two);
}

BOOST_AUTO_TEST_CASE(every_token_reports_exceeds_limit) {
  auto make = [] {
    auto f = std::make_unique<acquire_fixture>(0);
    f->weight = 4;
    return f;
  };
  test::token_matrix<acquire_signature>(make, expect_error(errc::exceeds_limit));
}

BOOST_AUTO_TEST_CASE(every_token_reports_queue_full) {
  auto make = [] {
    return std::make_unique<acquire_fixture>(2, semaphore_options{.max_waiters = 0});
  };
  test::token_matrix<acquire_signature>(make, expect_error(errc::queue_full));
}

BOOST_AUTO_TEST_CASE(every_token_reports_closed_while_waiting) {
  auto make = [] {
    auto f = std::make_unique<acquire_fixture>(2);
    f->close = true;
    return f;
  };
  test::token_matrix<acquire_signature>(make, expect_error(errc::closed));
}

BOOST_AUTO_TEST_CASE(every_token_reports_the_end_of_the_semaphore) {
  auto make = [] {
    auto f = std::make_unique<acquire_fixture>(2);
    f->end = true;
    return f;
  };
  test::token_matrix<acquire_signature>(make, expect_error(aborted));
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  auto check = [](error_code ec, permit) { BOOST_TEST(!ec); };
  test::executor_matrix(free_units, check);
  test::executor_matrix(taken_units, check);
}

BOOST_AUTO_TEST_CASE(an_acquire_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(taken_units, expect_two);
}

BOOST_AUTO_TEST_CASE(a_grant_and_a_cancellation_exclude_each_other) {
  test::cancellation_race(taken_units, expect_two, test::scaled(400));
}

BOOST_AUTO_TEST_CASE(a_signal_without_waiters_is_harmless_after_an_immediate_grant) {
  asio::io_context io;
  std::optional<semaphore> s(std::in_place, io, 1);
  asio::cancellation_signal signal;
  result r;
  s->async_acquire(1, asio::bind_cancellation_slot(signal.slot(), into(r)));
  signal.emit(asio::cancellation_type::terminal); // granted already
  run(io);
  BOOST_TEST(granted(r));
  s.reset();
  signal.emit(asio::cancellation_type::terminal);
}

BOOST_AUTO_TEST_CASE(one_slot_can_serve_many_acquires_one_after_the_other) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  asio::cancellation_signal signal;
  for (int i = 0; i != 100; ++i) {
    result r;
    s.async_acquire(1, asio::bind_cancellation_slot(signal.slot(), into(r)));
    signal.emit(asio::cancellation_type::partial);
    poll(io);
    BOOST_TEST(failed(r, aborted));
  }
  BOOST_TEST(s.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(an_emit_inside_a_handler_cancels_another_wait) {
  asio::io_context io;
  semaphore s(io, 1);
  permit p = take(s);
  asio::cancellation_signal signal;
  result second;
  s.async_acquire(1, [&](error_code, permit) { signal.emit(asio::cancellation_type::terminal); });
  s.async_acquire(1, asio::bind_cancellation_slot(signal.slot(), into(second)));
  p.release();
  run(io);
  // The first handler still held its permit when it emitted.
  BOOST_TEST(failed(second, aborted));
}

BOOST_AUTO_TEST_CASE(a_default_token_can_be_bound_to_the_executor) {
  using token = asio::use_awaitable_t<>;
  using coro_semaphore = token::as_default_on_t<semaphore>;
  asio::io_context io;
  coro_semaphore s(io.get_executor(), 3);
  bool done = false;
  auto body = [](coro_semaphore& sem, bool& finished) -> asio::awaitable<void> {
    permit a = co_await sem.async_acquire(2);
    BOOST_TEST(a.weight() == 2u);
    permit b = co_await sem.async_acquire();
    BOOST_TEST(b.weight() == 1u);
    finished = true;
  };
  asio::co_spawn(io, body(s, done), asio::detached);
  run(io);
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(it_works_on_the_executors_of_asio) {
  asio::io_context io;
  {
    bulkhead::basic_semaphore<asio::io_context::executor_type> s(io, 1);
    result r;
    s.async_acquire(1, into(r));
    run(io);
    BOOST_TEST(granted(r));
  }
  {
    auto strand = asio::make_strand(io);
    bulkhead::basic_semaphore<decltype(strand)> s(strand, 1);
    bool inside = false;
    s.async_acquire(1, [&](error_code, permit) { inside = strand.running_in_this_thread(); });
    run(io);
    BOOST_TEST(inside);
  }
  {
    bulkhead::basic_semaphore<asio::system_executor> s(asio::system_executor(), 1);
    BOOST_TEST(s.async_acquire(1, asio::use_future).get().weight() == 1u);
  }
  {
    asio::thread_pool threads(2);
    semaphore s(threads, 1);
    permit p = take(s);
    auto f = s.async_acquire(1, asio::use_future);
    p.release();
    BOOST_TEST(f.get().weight() == 1u);
    threads.join();
  }
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(an_associated_immediate_executor_is_honoured) {
  asio::io_context io;
  semaphore s(io, 1);
  test::tracker_executor immediate(7, asio::system_executor());
  int ran_on = 0;
  bool inside = false;
  permit kept;
  auto handler = [&](error_code ec, permit p) {
    BOOST_TEST(!ec);
    ran_on = test::current_executor();
    inside = test::in_initiation();
    kept = std::move(p);
    BOOST_TEST(s.in_use() == 1u); // no lock is held
  };
  {
    test::initiation_scope scope;
    s.async_acquire(1, asio::bind_immediate_executor(immediate, handler));
  }
  BOOST_TEST(ran_on == 7);
  BOOST_TEST(inside);
  // What has to wait completes on the handler's own executor.
  ran_on = 0;
  s.async_acquire(1, asio::bind_immediate_executor(immediate, handler));
  permit(std::move(kept)).release();
  BOOST_TEST(ran_on == 0);
  run(io);
  BOOST_TEST(ran_on == 0);
  BOOST_TEST(!inside);
}
#endif

BOOST_AUTO_TEST_CASE(a_failed_allocation_of_the_handler_acquires_nothing) {
  asio::io_context io;
  test::allocation_fuse fuse;
  test::memory_balance memory;
  for (bool waits : {false, true}) {
    bulkhead::basic_semaphore<asio::io_context::executor_type> s(io, 1);
    permit p = waits ? s.try_acquire(1).value() : permit();
    int calls = 0;
    bool started = false;
    long failures = 0;
    for (long n = 0; !started; ++n) {
      fuse.arm(n);
      try {
        s.async_acquire(1, asio::bind_allocator(test::throwing_allocator<int>(fuse, memory),
                                                [&calls](error_code ec, permit) {
                                                  BOOST_TEST(!ec);
                                                  ++calls;
                                                }));
        started = true;
      } catch (const std::bad_alloc&) {
        ++failures;
        BOOST_TEST(s.waiting() == 0u);
        BOOST_TEST(s.in_use() == (waits ? 1u : 0u));
        BOOST_TEST(memory.blocks == 0);
      }
      fuse.disarm();
    }
    BOOST_TEST(failures > 0);
    BOOST_TEST(calls == 0);
    p.release();
    run(io);
    BOOST_TEST(calls == 1);
    BOOST_TEST(memory.blocks == 0);
    BOOST_TEST(s.in_use() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_failed_allocation_elsewhere_acquires_nothing) {
  for (bool waits : {false, true}) {
    bool started = false;
    for (long n = 0; !started; ++n) {
      asio::io_context home, handlers;
      semaphore s(home, 1);
      permit p = waits ? take(s) : permit();
      asio::cancellation_signal signal;
      std::atomic<int> alive{0};
      int calls = 0;
      {
        auto handler = asio::bind_cancellation_slot(
            signal.slot(),
            asio::bind_executor(handlers, [&calls, l = test::live(alive)](error_code ec, permit) {
              BOOST_TEST(!ec);
              ++calls;
            }));
        try {
          test::global_fuse_scope fuse(n);
          s.async_acquire(1, std::move(handler));
          started = true;
        } catch (const std::bad_alloc&) {
        }
      }
      BOOST_TEST(alive == (started ? 1 : 0));
      if (!started) {
        BOOST_TEST(s.waiting() == 0u);
        BOOST_TEST(s.in_use() == (waits ? 1u : 0u));
        signal.emit(asio::cancellation_type::terminal);
      }
      p.release();
      run(handlers);
      BOOST_TEST(calls == (started ? 1 : 0));
      BOOST_TEST(s.in_use() == 0u);
    }
  }
}

// --- threads ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(permits_are_conserved_under_concurrent_release_and_cancellation) {
  constexpr int limit = 5;
  constexpr int producers = 3;
  const int each = test::scaled(100'000) / producers;

  test::background home(2);
  semaphore s(home.context(), limit);
  std::atomic<int> held{0}, peak{0};
  std::atomic<long> got{0}, lost{0}, other{0};

  struct state {
    asio::cancellation_signal signal;
  };

  std::vector<std::thread> threads;
  for (int t = 0; t != producers; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i != each; ++i) {
        auto st = std::make_shared<state>();
        const std::size_t weight = static_cast<std::size_t>((i + t) % 4);
        s.async_acquire(weight,
                        asio::bind_cancellation_slot(
                            st->signal.slot(), [&, st, weight](error_code ec, permit p) {
                              if (ec == asio::error::operation_aborted && !p) {
                                ++lost;
                              } else if (!ec && p && p.weight() == weight) {
                                const int now = held += static_cast<int>(weight);
                                int seen = peak;
                                while (now > seen && !peak.compare_exchange_weak(seen, now)) {
                                }
                                ++got;
                                held -= static_cast<int>(weight);
                                p.release();
                              } else {
                                ++other;
                              }
                            }));
        if (i % 3 == 0) st->signal.emit(test::all_cancellation_types[(i / 3) % 3]);
        if (auto now = s.try_acquire(1)) now->release();
      }
    });
  for (auto& t : threads) t.join();
  home.finish();
  BOOST_TEST(got + lost == static_cast<long>(each) * producers);
  BOOST_TEST(other == 0);
  BOOST_TEST(peak <= limit);
  BOOST_TEST(s.in_use() == 0u);
  BOOST_TEST(s.waiting() == 0u);
  BOOST_TEST(take(s, limit).weight() == static_cast<std::size_t>(limit));
}

BOOST_AUTO_TEST_CASE(closing_races_with_everything_and_loses_nobody) {
  for (int round = 0; round != test::scaled(200); ++round) {
    test::background home(2);
    semaphore s(home.context(), 2);
    std::atomic<int> calls{0};
    constexpr int n = 50;
    std::thread producer([&] {
      for (int i = 0; i != n; ++i) s.async_acquire(1, [&](error_code, permit) { ++calls; });
    });
    std::thread closer([&] { s.close(); });
    producer.join();
    closer.join();
    home.finish();
    BOOST_TEST(calls == n);
    BOOST_TEST(s.in_use() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_deferred_acquire_takes_nothing_until_it_is_started) {
  asio::io_context io;
  semaphore s(io, 2);
  auto op = s.async_acquire(2, asio::deferred);
  BOOST_TEST(s.in_use() == 0u);
  result r;
  std::move(op)(into(r));
  run(io);
  BOOST_TEST(granted(r));
}

BOOST_AUTO_TEST_CASE(coroutines_on_several_threads_share_one_semaphore) {
  constexpr std::size_t limit = 3;
  test::background home(3);
  semaphore s(home.context(), limit);
  std::atomic<int> inside{0}, done{0};
  std::atomic<bool> over{false};
  auto body = [](semaphore& sem, std::atomic<int>& in, std::atomic<bool>& too_many,
                 std::atomic<int>& finished, int rounds) -> asio::awaitable<void> {
    auto ex = co_await asio::this_coro::executor;
    for (int i = 0; i != rounds; ++i) {
      permit p = co_await sem.async_acquire(1, asio::use_awaitable);
      if (++in > static_cast<int>(limit)) too_many = true;
      co_await asio::post(ex, asio::use_awaitable);
      --in;
    }
    ++finished;
  };
  for (int i = 0; i != 20; ++i)
    asio::co_spawn(home.context(), body(s, inside, over, done, test::scaled(500)), asio::detached);
  home.finish();
  BOOST_TEST(done == 20);
  BOOST_TEST(!over);
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(a_coroutine_that_need_not_wait_goes_on_without_its_executor) {
  asio::io_context io;
  semaphore s(io, 1);
  bool passed_through = false;
  auto body = [&]() -> asio::awaitable<void> {
    asio::post(io, [&] { passed_through = true; });
    permit p = co_await s.async_acquire(asio::use_awaitable);
    BOOST_TEST(p.weight() == 1u);
    p.release();
    auto [ec, q] = co_await s.async_acquire(1, asio::as_tuple(asio::use_awaitable));
    BOOST_TEST(!ec);
    BOOST_TEST(q.weight() == 1u);
    try {
      (void)co_await s.async_acquire(2, asio::use_awaitable);
      BOOST_ERROR("no system_error");
    } catch (const bulkhead::system_error& e) {
      BOOST_TEST((e.code() == errc::exceeds_limit));
    }
    auto as_tuple = asio::as_tuple(asio::use_awaitable); // an lvalue
    auto [refused, none] = co_await s.async_acquire(2, as_tuple);
    BOOST_TEST((refused == errc::exceeds_limit));
    BOOST_TEST(!none);
    BOOST_TEST(!passed_through);
    asio::post(io, [r = std::make_shared<permit>(std::move(q))] { r->release(); });
    permit after_a_wait = co_await s.async_acquire(asio::use_awaitable);
    BOOST_TEST(passed_through);
  };
  asio::co_spawn(io, body(), [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(passed_through);
  BOOST_TEST(s.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(limits_at_the_edge_of_32_bits_are_exact) {
  constexpr std::size_t edge = 0xffffffff;
  for (std::size_t limit : {edge - 1, edge, edge + 1}) {
    asio::io_context io;
    semaphore s(io, limit);
    permit p = take(s, limit - 1);
    BOOST_TEST(s.available() == 1u);
    BOOST_TEST(!s.try_acquire(2));
    permit q = take(s, 1);
    BOOST_TEST(!s.try_acquire(1));
    BOOST_TEST(s.in_use() == limit);
    p.release();
    BOOST_TEST(s.in_use() == 1u);
    s.resize(edge);
    BOOST_TEST(take(s, edge - 1).weight() == edge - 1);
    q.release();
    BOOST_TEST(take(s, edge).weight() == edge);
  }
}

BOOST_AUTO_TEST_CASE(units_are_conserved_while_the_limit_changes) {
  constexpr std::size_t limit = 4;
  test::background home(1);
  semaphore s(home.context(), limit);
  std::atomic<long> waits{0}, granted_later{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t != 3; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = test::scaled(100'000); i != 0; --i) {
        auto r = s.try_acquire(random() % 4);
        if (!r) {
          if (random() % 4 != 0) continue;
          ++waits;
          s.async_acquire(random() % 2, [&](error_code, permit) { ++granted_later; });
          continue;
        }
        permit p = std::move(*r);
        permit part = p.split(p.weight() / 2);
        if (random() % 4 == 0) p.merge(std::move(part));
        if (random() % 64 == 0) {
          const std::size_t n = p.weight();
          p.forget();
          s.release(n);
        }
      }
    });
  std::atomic<bool> over{false};
  std::thread resizing([&] {
    std::mt19937 random(7);
    while (!over) s.resize(random() % (2 * limit));
  });
  for (auto& t : threads) t.join();
  over = true;
  resizing.join();
  s.resize(limit);
  home.finish();
  BOOST_TEST(granted_later == waits);
  BOOST_TEST(s.waiting() == 0u);
  BOOST_TEST(s.in_use() == 0u);
  BOOST_TEST(take(s, limit).weight() == limit);
}

BOOST_AUTO_TEST_CASE(the_last_permit_may_end_while_its_semaphore_does) {
  for (int round = 0; round != test::scaled(2'000); ++round) {
    asio::io_context io;
    auto s = std::make_unique<semaphore>(io, 2);
    result waited;
    permit p = take(*s), q = take(*s);
    if (round % 2 == 0) s->async_acquire(1, into(waited));
    if (round % 3 == 0) q.release();
    std::thread other([p = std::move(p), forgets = round % 5 == 0]() mutable {
      if (forgets) p.forget();
    });
    s.reset();
    q.release();
    other.join();
    run(io);
  }
}

BOOST_AUTO_TEST_CASE(a_context_does_not_end_while_another_one_destroys_a_handler_of_its) {
  // Whose executors and work are those of the handler, or of the semaphore. The other context gets
  // every chance to end while the handler is being destroyed.
  struct slow_to_die {
    test::gate* dying;
    const std::atomic<bool>& other_has_ended;
    bool& ended_meanwhile;

    slow_to_die(test::gate& g, const std::atomic<bool>& ended, bool& meanwhile)
        : dying(&g), other_has_ended(ended), ended_meanwhile(meanwhile) {}
    slow_to_die(slow_to_die&& other) noexcept
        : dying(std::exchange(other.dying, nullptr)), other_has_ended(other.other_has_ended),
          ended_meanwhile(other.ended_meanwhile) {}
    ~slow_to_die() {
      if (!dying) return;
      dying->open();
      for (int turns = 0; turns != 1'000 && !other_has_ended; ++turns) std::this_thread::yield();
      ended_meanwhile = other_has_ended;
    }
  };
  for (bool home_first : {false, true}) {
    std::optional<asio::io_context> home(std::in_place), handlers(std::in_place);
    semaphore s(*home, 1);
    permit p = take(s);
    test::gate dying;
    std::atomic<bool> ended{false};
    bool meanwhile = false;
    s.async_acquire(
        1, asio::bind_executor(asio::make_strand(*handlers),
                               [l = slow_to_die(dying, ended, meanwhile)](error_code, permit) {}));
    std::thread other([&] {
      dying.wait();
      (home_first ? handlers : home).reset();
      ended = true;
    });
    (home_first ? home : handlers).reset();
    other.join();
    if (home_first) BOOST_TEST(!meanwhile); // the semaphore's own may: its work has ended by then
    BOOST_TEST(s.waiting() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(two_contexts_may_end_at_the_same_time) {
  for (int round = 0; round != test::scaled(2000); ++round) {
    std::atomic<int> alive{0};
    std::optional<asio::io_context> home(std::in_place), handlers(std::in_place);
    semaphore s(*home, 1);
    permit p = take(s);
    for (int i = 0; i != 4; ++i) {
      auto handler = [l = test::live(alive)](error_code, permit) {};
      if (i == round % 4)
        s.async_acquire(1, std::move(handler));
      else
        s.async_acquire(1, asio::bind_executor(*handlers, std::move(handler)));
    }
    std::latch go(2);
    std::thread other([&] {
      go.arrive_and_wait();
      handlers.reset();
    });
    go.arrive_and_wait();
    home.reset();
    other.join();
    BOOST_TEST(alive == 0);
    BOOST_TEST(s.waiting() == 0u);
  }
}

namespace {

/// Who asks for memory once it is armed waits for the end of a context first.
struct memory_until_the_end : std::pmr::memory_resource {
  std::atomic<bool> armed{false};
  test::gate asked, ends;

private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (armed) {
      asked.open();
      ends.wait();
    }
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

} // namespace

BOOST_AUTO_TEST_CASE(strands_end_after_the_last_handler_that_is_posted_to_them) {
  // Asio's strands lose a function now and then that they are given while their service ends.
  struct mark {
    std::thread::id& destroyed_by;

    ~mark() { destroyed_by = std::this_thread::get_id(); }
  };
  std::thread::id destroyed_by;
  memory_until_the_end memory;
  asio::io_context home;
  semaphore s(home, 1);
  permit p = take(s);
  std::optional<asio::io_context> handlers(std::in_place);
  (void)semaphore(*handlers, 1); // before the first strand
  asio::make_service<kept_to_the_end>(
      *handlers, std::shared_ptr<void>(nullptr, [&](std::nullptr_t) { memory.ends.open(); }));
  s.async_acquire(
      1, asio::bind_allocator(std::pmr::polymorphic_allocator<>(&memory),
                              asio::bind_executor(asio::make_strand(*handlers),
                                                  [m = std::make_unique<mark>(destroyed_by)](
                                                      error_code, permit) {})));
  memory.armed = true;
  std::thread other([&] { p.release(); });
  memory.asked.wait();
  handlers.reset();
  other.join();
  BOOST_TEST((destroyed_by == std::this_thread::get_id())); // and not by the strand in the other
}

BOOST_AUTO_TEST_CASE(the_last_permit_may_end_while_another_thread_posts_its_handler) {
  // The semaphore is gone by then, so either of the two may be the last to use the engine. What the
  // threads tell each other here orders nothing: if one touches the engine too late, TSan sees it.
  for (bool forgets : {false, true}) {
    asio::io_context io;
    std::atomic<bool> ended{false}, over{false};
    auto wait_for = [](const std::atomic<bool>& flag) {
      while (!flag.load(std::memory_order_relaxed)) std::this_thread::yield();
    };
    std::optional<semaphore> s(std::in_place, io, 1);
    permit p = take(*s);
    const std::function<void()> before = [&] { s.reset(); };
    const std::function<void()> after = [&] { wait_for(ended); };
    s->async_acquire(1, asio::bind_executor(slow_executor{io.get_executor(), &before, &after},
                                            [&](error_code, permit q) {
                                              if (forgets)
                                                q.forget();
                                              else
                                                q.release();
                                              ended.store(true, std::memory_order_relaxed);
                                              wait_for(over);
                                            }));
    std::optional work(asio::make_work_guard(io));
    std::thread other([&] { io.run(); });
    p.release();
    over.store(true, std::memory_order_relaxed);
    work.reset();
    other.join();
    BOOST_TEST(ended);
  }
}

BOOST_AUTO_TEST_CASE(a_release_may_race_with_the_end_of_the_waiters_context) {
  // The handler is invoked, or destroyed uninvoked; nothing of the context is touched afterwards.
  for (int round = 0; round != test::scaled(2000); ++round) {
    std::atomic<int> alive{0};
    asio::io_context home;
    std::optional<asio::io_context> handlers(std::in_place);
    const bool same = round % 2;
    std::optional<semaphore> s(std::in_place, same ? *handlers : home, 2);
    permit p = take(*s, 2);
    for (int i = 0; i != 2; ++i)
      s->async_acquire(
          1, asio::bind_executor(*handlers, [l = test::live(alive)](error_code, permit) {}));
    std::latch go(2);
    std::thread releaser([&] {
      go.arrive_and_wait();
      if (round % 3 == 0)
        s->close();
      else
        p.release();
    });
    go.arrive_and_wait();
    handlers.reset();
    releaser.join();
    BOOST_TEST(alive == 0);
    p.release();
    if (round % 3) BOOST_TEST(s->in_use() == 0u);
  }
}
