//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What lanes are and whose turn it is. What their operations promise is in lanes_operations.cpp and
// lanes_tokens.cpp, how they end in lanes_shutdown.cpp, and their executor in lanes_executor.cpp.

#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/stage.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <latch>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::basic_lanes;
using bulkhead::lane;
using bulkhead::lane_options;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::live;
using test::occupancy;
using test::stage;
using test::wait_until;

static_assert(!std::is_copy_constructible_v<lanes>);
static_assert(std::is_nothrow_move_constructible_v<lanes>);
static_assert(std::is_nothrow_move_assignable_v<lanes>);
static_assert(std::is_nothrow_destructible_v<lanes>);
static_assert(!std::is_convertible_v<asio::any_io_executor, lanes>);
static_assert(std::is_same_v<lanes::executor_type, asio::any_io_executor>);
static_assert(std::is_same_v<lanes::rebind_executor<asio::system_executor>::other,
                             basic_lanes<asio::system_executor>>);
static_assert(std::is_copy_constructible_v<lane>);
static_assert(std::is_nothrow_move_constructible_v<lane>);
static_assert(std::is_copy_assignable_v<lane>);
static_assert(!std::is_default_constructible_v<lane>);
static_assert(noexcept(std::declval<const lane&>().get_executor()));
static_assert(noexcept(std::declval<const lane&>().stats()));

namespace {

std::string message_of(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no exception";
}

bool balanced(const lane_stats& s) {
  return s.in_flight == 0 && s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

lanes_options at_most(std::size_t concurrency) { return {.concurrency = concurrency}; }

const auto nothing = [] {};

} // namespace

// --- options ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(by_default_there_is_one_handler_per_processor_and_a_bounded_queue) {
  const lanes_options all;
  BOOST_TEST(all.concurrency == bulkhead::available_parallelism());
  BOOST_TEST(all.batch >= 1u);
  BOOST_TEST(all.minimum_share == 0);
  const lane_options one;
  BOOST_TEST(one.weight == 1);
  BOOST_TEST(one.priority == 0);
  BOOST_TEST(one.queue_limit == 4096u);
  BOOST_TEST(one.waiter_limit == unbounded);
  BOOST_TEST(one.concurrency == unbounded);
  asio::io_context io;
  lanes l(io);
  BOOST_TEST(l.concurrency() == bulkhead::available_parallelism());
}

BOOST_AUTO_TEST_CASE(an_invalid_option_is_named_with_its_value) {
  asio::io_context io;
  const auto set = [&](lanes_options o) { return message_of([&] { lanes l(io, o); }); };
  BOOST_TEST(set({.concurrency = 0}) == "lanes_options::concurrency must be at least 1 (got 0)");
  BOOST_TEST(set({.batch = 0}) == "lanes_options::batch must be at least 1 (got 0)");
  const std::string share = "lanes_options::minimum_share must be at least 0 and less than 1 ";
  BOOST_TEST(set({.minimum_share = 1}) == share + "(got 1)");
  BOOST_TEST(set({.minimum_share = -0.5}) == share + "(got -0.5)");
  BOOST_TEST(set({.minimum_share = std::nan("")}) == share + "(got nan)");

  lanes l(io);
  const auto one = [&](lane_options o) { return message_of([&] { (void)l.open(o); }); };
  BOOST_TEST(one({.queue_limit = 0}) == "lane_options::queue_limit must be at least 1 (got 0)");
  BOOST_TEST(one({.concurrency = 0}) == "lane_options::concurrency must be at least 1 (got 0)");
  const std::string weight = "lane_options::weight must be from 1e-6 to 1e6 ";
  BOOST_TEST(one({.weight = 0}) == weight + "(got 0)");
  BOOST_TEST(one({.weight = -1}) == weight + "(got -1)");
  BOOST_TEST(one({.weight = 1e-300}) == weight + "(got 1e-300)");
  BOOST_TEST(one({.weight = 1e300}) == weight + "(got 1e+300)");
  BOOST_TEST(one({.weight = std::nan("")}) == weight + "(got nan)");
  BOOST_TEST(one({.weight = std::numeric_limits<double>::infinity()}) == weight + "(got inf)");
  BOOST_TEST(l.size() == 0u);
  (void)l.open({.weight = 1e-6});
  (void)l.open({.weight = 1e6});

  const lane a = l.open();
  BOOST_TEST(message_of([&] { a.set_weight(-3); }) ==
             "lane::set_weight: weight must be from 1e-6 to 1e6 (got -3)");
  BOOST_TEST(message_of([&] { a.set_concurrency(0); }) ==
             "lane::set_concurrency: n must be at least 1 (got 0)");
  BOOST_TEST(message_of([&] { l.set_concurrency(0); }) ==
             "lanes::set_concurrency: n must be at least 1 (got 0)");
  BOOST_TEST(message_of([&] { (void)bulkhead::limit_concurrency(io.get_executor(), 0); }) ==
             "limit_concurrency: n must be at least 1 (got 0)");
}

BOOST_AUTO_TEST_CASE(the_executor_is_deduced) {
  asio::io_context io;
  bulkhead::pool p(1);
  basic_lanes a(io);
  basic_lanes b(io.get_executor(), at_most(2));
  basic_lanes c(p, at_most(2));
  basic_lanes d(asio::any_io_executor(io.get_executor()));
  static_assert(std::is_same_v<decltype(a), basic_lanes<asio::io_context::executor_type>>);
  static_assert(std::is_same_v<decltype(b), decltype(a)>);
  static_assert(std::is_same_v<decltype(c), basic_lanes<bulkhead::pool::executor_type>>);
  static_assert(std::is_same_v<decltype(d), lanes>);
  BOOST_TEST((a.get_executor() == io.get_executor()));
  BOOST_TEST((c.get_executor() == p.get_executor()));
  BOOST_TEST(c.concurrency() == 2u);
}

BOOST_AUTO_TEST_CASE(a_lane_has_its_name_and_is_a_handle) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open({.name = "a"});
  lane b = l.open({.name = "b"});
  BOOST_TEST(a.name() == "a");
  lane copy = a;
  BOOST_TEST((copy == a));
  BOOST_TEST((copy != b));
  b = a;
  BOOST_TEST((b == a));
  BOOST_TEST(l.size() == 1u); // nobody has the other one any more
}

BOOST_AUTO_TEST_CASE(a_lane_lives_as_long_as_a_handle_an_executor_or_a_task) {
  asio::io_context io;
  lanes l(io, at_most(1));
  std::optional<lane> handle(l.open());
  BOOST_TEST(l.size() == 1u);
  auto ex = std::optional(handle->get_executor());
  BOOST_TEST(handle->try_submit(nothing));
  handle.reset();
  BOOST_TEST(l.size() == 1u);
  ex.reset();
  BOOST_TEST(l.size() == 1u);
  test::run(io);
  BOOST_TEST(l.size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_lane_that_is_done_is_gone_while_the_next_one_runs) {
  stage s;
  lanes l(s.executor(), at_most(1));
  std::size_t left = 0;
  const lane b = l.open();
  {
    const lane a = l.open();
    BOOST_TEST(a.try_submit(nothing));
    BOOST_TEST(b.try_submit([&] { left = l.size(); }));
  }
  BOOST_TEST(l.size() == 2u);
  s.run();
  BOOST_TEST(left == 1u);
}

// --- submissions --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_submitted_task_runs_once_and_not_inside_the_call) {
  test::on_every_executor([](auto& place) {
    lanes l(place.executor(), at_most(1));
    const lane a = l.open();
    std::atomic<int> ran{0};
    const auto submitter = std::this_thread::get_id();
    std::atomic<bool> inside{true}, was_inside{false};
    BOOST_TEST(a.try_submit([&] {
      was_inside = inside && std::this_thread::get_id() == submitter;
      ++ran;
    }));
    inside = false;
    place.finish();
    BOOST_TEST(ran == 1);
    BOOST_TEST(!was_inside);
    BOOST_TEST(a.stats().completed == 1u);
    BOOST_TEST(balanced(a.stats()));
  });
}

BOOST_AUTO_TEST_CASE(a_callable_is_taken_by_value_by_move_and_by_copy) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  int ran = 0;
  const auto constant = [&] { ++ran; };
  auto variable = [&] { ++ran; };
  auto owner = [&, u = std::make_unique<int>(3)]() mutable { ran += *u; };
  std::function<void()> function = variable;
  BOOST_TEST(a.try_submit(constant));
  BOOST_TEST(a.try_submit(std::move(owner)));
  BOOST_TEST(a.try_submit(function));
  BOOST_TEST(a.try_submit([&] {
    ++ran;
    return std::make_unique<int>(1); // which nobody gets
  }));
  BOOST_TEST(a.try_submit([&](std::stop_token t) { ran += t.stop_possible() ? 100 : 1; }));
  test::run(io);
  BOOST_TEST(ran == 7);
  BOOST_TEST(static_cast<bool>(function)); // copied, not moved
}

BOOST_AUTO_TEST_CASE(a_callable_keeps_its_alignment) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  int ran = 0;
  struct alignas(128) task {
    int* runs;
    void operator()() { *runs += reinterpret_cast<std::uintptr_t>(this) % alignof(task) == 0; }
  };
  for (int i = 0; i != 5; ++i) BOOST_TEST(a.try_submit(task{&ran}));
  test::run(io);
  BOOST_TEST(ran == 5);
}

BOOST_AUTO_TEST_CASE(a_refused_try_submit_leaves_the_callable_untouched) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open({.queue_limit = 1});
  BOOST_TEST(a.try_submit(nothing));
  struct task {
    std::unique_ptr<int> owned = std::make_unique<int>(7);
    void operator()() {}
  } t;
  BOOST_TEST(!a.try_submit(std::move(t)));
  BOOST_TEST(static_cast<bool>(t.owned));
  test::run(io);
  a.close();
  BOOST_TEST(!a.try_submit(std::move(t)));
  BOOST_TEST(static_cast<bool>(t.owned));
  BOOST_TEST(a.stats().rejected == 2u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_callable_that_throws_as_it_is_copied_is_not_submitted) {
  struct fails_to_copy {
    fails_to_copy() = default;
    fails_to_copy(const fails_to_copy&) { throw 1; }
    void operator()() {}
  };
  asio::io_context io;
  lanes l(io);
  const lane a = l.open({.queue_limit = 1});
  struct takes_a_token : fails_to_copy {
    void operator()(std::stop_token) {}
  };
  struct alignas(128) is_overaligned : fails_to_copy {};
  const fails_to_copy f;
  const takes_a_token g;
  const is_overaligned h;
  for (int i = 0; i != 3; ++i) {
    BOOST_CHECK_THROW((void)a.try_submit(f), int);
    BOOST_CHECK_THROW((void)a.try_submit(g), int);
    BOOST_CHECK_THROW((void)a.try_submit(h), int);
  }
  BOOST_TEST(a.stats().submitted == 0u);
  BOOST_TEST(a.try_submit(nothing)); // its place is free
  test::run(io);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_place_that_is_given_up_goes_to_who_waits) {
  // Whoever begins to wait while a place is being filled gets it if that fails.
  stage s;
  lanes l(s.executor(), at_most(1));
  std::optional<lane> a(l.open({.queue_limit = 1}));
  int ran = 0;
  struct fails_to_copy {
    const lane* where;
    int* ran;
    fails_to_copy(const lane& w, int& r) : where(&w), ran(&r) {}
    fails_to_copy(const fails_to_copy& other) : where(other.where), ran(other.ran) {
      where->async_submit([r = ran] { ++*r; }, asio::detached);
      BOOST_TEST(where->stats().waiting == 1u);
      throw 1;
    }
    void operator()() {}
  };
  const fails_to_copy f(*a, ran);
  BOOST_CHECK_THROW((void)a->try_submit(f), int);
  BOOST_TEST(a->stats().queued == 1u);
  s.run();
  BOOST_TEST(ran == 1);
  BOOST_TEST(balanced(a->stats()));
  a.reset();
  s.run();
  BOOST_TEST(l.size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_callable_that_throws_as_it_is_moved_to_its_run_is_destroyed) {
  struct moves_once {
    live l;
    int moves = 0;
    explicit moves_once(std::atomic<int>& alive) : l(alive) {}
    moves_once(moves_once&& other) : l(other.l), moves(other.moves + 1) {
      if (moves == 2) throw std::runtime_error("not again");
    }
    void operator()() {}
  };
  std::atomic<int> alive{0};
  int reported = 0;
  asio::io_context io;
  lanes l(io, {.on_exception = [&](std::exception_ptr) { ++reported; }});
  const lane a = l.open();
  BOOST_TEST(a.try_submit(moves_once(alive)));
  test::run(io);
  BOOST_TEST(reported == 1);
  BOOST_TEST(alive == 0);
  BOOST_TEST(a.stats().failed == 1u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(the_queue_limit_is_exact) {
  for (std::size_t limit : {1u, 2u, 17u, 1000u}) {
    asio::io_context io;
    lanes l(io, at_most(1));
    const lane a = l.open({.queue_limit = limit});
    const lane b = l.open({.queue_limit = 1});
    for (std::size_t i = 0; i != limit; ++i) BOOST_TEST(a.try_submit(nothing));
    BOOST_TEST(!a.try_submit(nothing));
    BOOST_TEST(b.try_submit(nothing)); // each has a limit of its own
    BOOST_TEST(a.stats().queued == limit);
    asio::post(a.get_executor(), nothing); // no submission
    BOOST_TEST(a.stats().queued == limit);
    test::run(io);
    BOOST_TEST(a.stats().completed == limit);
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(the_queue_limit_is_exact_for_many_producers) {
  constexpr std::size_t limit = 100, producers = 4;
  asio::thread_pool threads(2);
  lanes l(threads, at_most(2));
  const lane a = l.open({.queue_limit = limit});
  test::gate g;
  test::counter started;
  for (int i = 0; i != 2; ++i)
    BOOST_TEST(a.try_submit([&] {
      started.add();
      g.wait();
    }));
  started.wait_for(2);
  std::atomic<std::size_t> accepted{0}, ran{0};
  std::vector<std::thread> all;
  for (std::size_t t = 0; t != producers; ++t)
    all.emplace_back([&] {
      for (int i = 0; i != 1000; ++i)
        if (a.try_submit([&] { ++ran; })) ++accepted;
    });
  for (auto& t : all) t.join();
  BOOST_TEST(accepted == limit);
  BOOST_TEST(a.stats().rejected == producers * 1000 - limit);
  g.open();
  threads.join();
  BOOST_TEST(ran == limit);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_started_task_has_left_the_queue) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open({.queue_limit = 1});
  bool room = false;
  lane_stats inside;
  BOOST_TEST(a.try_submit([&] {
    inside = a.stats();
    room = a.try_submit(nothing);
  }));
  test::run(io);
  BOOST_TEST(room);
  BOOST_TEST(inside.running == 1u);
  BOOST_TEST(inside.in_flight == 1u);
  BOOST_TEST(inside.queued == 0u);
  BOOST_TEST(balanced(a.stats()));
}

// --- how many at a time -------------------------------------------------------------------------

namespace {

/// A set over every kind of executor, four of whose handlers could run at one time, or one.
template <class F>
void on_every_inner_executor(F f) {
  test::on_every_executor([&](auto& place) {
    BOOST_TEST_CONTEXT("as any_io_executor") {
      lanes l(place.executor(), at_most(3));
      f(l, place);
    }
  });
  test::on_every_executor([&](auto& place) {
    BOOST_TEST_CONTEXT("as its own type") {
      basic_lanes l(place.context, at_most(3));
      f(l, place);
    }
  });
  test::on_every_executor([&](auto& place) {
    BOOST_TEST_CONTEXT("through a strand") {
      basic_lanes l(asio::make_strand(place.executor()), at_most(3));
      f(l, place);
    }
  });
  test::on_every_executor([&](auto& place) {
    BOOST_TEST_CONTEXT("through a lane") {
      lanes outer(place.executor(), at_most(2));
      basic_lanes l(outer.open().get_executor(), at_most(3));
      f(l, place);
    }
  });
}

} // namespace

BOOST_AUTO_TEST_CASE(no_more_are_in_flight_than_may_be) {
  on_every_inner_executor([](auto& l, auto& place) {
    occupancy all, first, second;
    const lane a = l.open({.queue_limit = unbounded});
    const lane b = l.open({.queue_limit = unbounded, .concurrency = 1});
    const lane c = l.open({.queue_limit = unbounded, .concurrency = 2});
    std::vector<int> order; // of b
    const int n = test::scaled(2000);
    for (int i = 0; i != n; ++i) {
      BOOST_TEST_REQUIRE(a.try_submit([&] { occupancy::visit here(all); }));
      BOOST_TEST_REQUIRE(b.try_submit([&, i] {
        occupancy::visit here(all), one(first);
        order.push_back(i);
      }));
      BOOST_TEST_REQUIRE(c.try_submit([&] {
        occupancy::visit here(all), two(second);
        asio::post(c.get_executor(), [&] { occupancy::visit there(all), again(second); });
      }));
    }
    place.finish();
    BOOST_TEST(all.total() == 4 * n);
    BOOST_TEST(all.peak() <= 3);
    BOOST_TEST(first.peak() == 1);
    BOOST_TEST(second.peak() <= 2);
    BOOST_TEST(order.size() == static_cast<std::size_t>(n));
    BOOST_TEST(std::is_sorted(order.begin(), order.end()));
    for (const lane& l2 : {a, b, c}) BOOST_TEST(balanced(l2.stats()));
  });
}

namespace {

/// That `n` tasks of `lanes`, one after the other, are in flight at one time.
void check_run_together(const std::vector<lane>& lanes, std::ptrdiff_t n) {
  auto together = std::make_shared<std::latch>(n);
  test::counter done;
  for (std::ptrdiff_t i = 0; i != n; ++i)
    BOOST_TEST(lanes[static_cast<std::size_t>(i) % lanes.size()].try_submit([&, together] {
      together->arrive_and_wait();
      done.add();
    }));
  done.wait_for(n);
}

} // namespace

BOOST_AUTO_TEST_CASE(as_many_are_in_flight_as_may_be) {
  asio::thread_pool threads(4);
  lanes l(threads, at_most(4));
  for (int round = 0; round != test::scaled(200); ++round) {
    check_run_together({l.open()}, 4);
    check_run_together({l.open({.concurrency = 2}), l.open({.concurrency = 2})}, 4);
    check_run_together({l.open(), l.open(), l.open(), l.open(), l.open()}, 4);
  }
}

BOOST_AUTO_TEST_CASE(as_many_are_in_flight_as_may_be_although_most_had_to_wait_for_room) {
  asio::thread_pool threads(4);
  lanes l(threads, at_most(4));
  for (int round = 0; round != test::scaled(200); ++round) {
    const lane a = l.open({.queue_limit = 1});
    auto together = std::make_shared<std::latch>(4);
    test::counter done;
    for (int i = 0; i != 4; ++i)
      a.async_submit([&, together] { together->arrive_and_wait(); },
                     [&](std::exception_ptr) { done.add(); });
    done.wait_for(4);
  }
}

BOOST_AUTO_TEST_CASE(on_the_inner_executor_there_are_no_more_functions_than_may_be_in_flight) {
  stage s;
  lanes l(s.executor(), at_most(3));
  const lane a = l.open(), b = l.open();
  for (int i = 0; i != 50; ++i) {
    BOOST_TEST(a.try_submit(nothing));
    BOOST_TEST(b.try_submit(nothing));
    asio::post(a.get_executor(), nothing);
    BOOST_TEST(s.size() <= 3u);
  }
  BOOST_TEST(s.size() == 3u);
  while (s.step()) BOOST_TEST(s.size() <= 3u);
  BOOST_TEST(a.stats().completed == 50u);
}

BOOST_AUTO_TEST_CASE(the_inner_executor_is_given_no_function_that_finds_nothing_to_do) {
  stage s;
  lanes l(s.executor(), at_most(8));
  const lane a = l.open({.concurrency = 1});
  for (int i = 0; i != 10; ++i) BOOST_TEST(a.try_submit(nothing));
  BOOST_TEST(s.given() == 1u);
  s.run();
  BOOST_TEST(s.given() == 1u);
  const lane b = l.open(), c = l.open();
  BOOST_TEST(b.try_submit(nothing));
  BOOST_TEST(c.try_submit([&] { asio::post(c.get_executor(), nothing); }));
  BOOST_TEST(s.given() == 3u);
  s.run();
  BOOST_TEST(s.given() == 3u); // one is on its way already when c has more to do
  BOOST_TEST(c.stats().continuations == 1u);
}

BOOST_AUTO_TEST_CASE(more_may_be_in_flight_from_now_on) {
  asio::thread_pool threads(4);
  lanes l(threads, at_most(1));
  const lane a = l.open({.concurrency = 3});
  std::latch together(3);
  test::counter done;
  for (int i = 0; i != 3; ++i)
    BOOST_TEST(a.try_submit([&] {
      together.arrive_and_wait();
      done.add();
    }));
  l.set_concurrency(4);
  BOOST_TEST(l.concurrency() == 4u);
  done.wait_for(3);

  const lane b = l.open({.concurrency = 1});
  std::latch again(4);
  for (int i = 0; i != 4; ++i)
    BOOST_TEST(b.try_submit([&] {
      again.arrive_and_wait();
      done.add();
    }));
  b.set_concurrency(unbounded);
  done.wait_for(7);
  threads.join();
}

BOOST_AUTO_TEST_CASE(fewer_may_be_in_flight_once_enough_have_ended) {
  for (bool one_lane : {false, true}) {
    asio::thread_pool threads(4);
    lanes l(threads, at_most(4));
    const lane a = l.open({.queue_limit = unbounded});
    test::gate g;
    test::counter started, ended;
    for (int i = 0; i != 4; ++i)
      BOOST_TEST(a.try_submit([&] {
        started.add();
        g.wait();
        ended.add();
      }));
    started.wait_for(4);
    if (one_lane)
      a.set_concurrency(1);
    else
      l.set_concurrency(1);
    occupancy few;
    std::atomic<long> first_came_after{-1};
    for (int i = 0; i != 200; ++i)
      BOOST_TEST(a.try_submit([&] {
        long none = -1;
        first_came_after.compare_exchange_strong(none, ended.value());
        occupancy::visit here(few);
        std::this_thread::yield();
      }));
    BOOST_TEST(a.stats().in_flight == 4u); // nothing is taken back
    g.open();
    threads.join();
    BOOST_TEST(few.peak() == 1);
    BOOST_TEST(few.total() == 200);
    BOOST_TEST(first_came_after == 4);
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(bounds_change_while_it_runs) {
  asio::thread_pool threads(4);
  lanes l(threads, at_most(4));
  const lane a = l.open({.queue_limit = unbounded}), b = l.open({.queue_limit = unbounded});
  occupancy all;
  const int n = test::scaled(20'000);
  std::thread changer([&] {
    for (std::size_t i = 0; i != 2000 && (a.stats().queued != 0 || i < 100); ++i) {
      l.set_concurrency(1 + i % 4);
      a.set_concurrency(1 + i % 3);
      b.set_weight(1 + static_cast<double>(i % 7));
      b.set_priority(static_cast<int>(i % 3));
    }
    l.set_concurrency(4);
  });
  for (int i = 0; i != n; ++i) {
    BOOST_TEST_REQUIRE(a.try_submit([&] { occupancy::visit here(all); }));
    BOOST_TEST_REQUIRE(b.try_submit([&] { occupancy::visit here(all); }));
  }
  changer.join();
  threads.join();
  BOOST_TEST(all.total() == 2 * n);
  BOOST_TEST(all.peak() <= 4);
  BOOST_TEST(balanced(a.stats()));
  BOOST_TEST(balanced(b.stats()));
}

// --- whose turn ---------------------------------------------------------------------------------

namespace {

/// Notes who ran, one letter each.
struct notes {
  std::string text;

  void submit(const lane& l, char c, int n = 1) {
    for (int i = 0; i != n; ++i) BOOST_TEST_REQUIRE(l.try_submit([this, c] { text += c; }));
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(tasks_of_a_lane_start_in_the_order_in_which_they_came_of_whatever_kind) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open();
  std::vector<int> order;
  for (int i = 0; i < 300; i += 3) {
    BOOST_TEST(a.try_submit([&order, i] { order.push_back(i); }));
    asio::post(a.get_executor(), [&order, i] { order.push_back(i + 1); });
    a.async_submit([&order, i] { order.push_back(i + 2); }, asio::detached);
  }
  test::run(io);
  BOOST_TEST(order.size() == 300u);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(lanes_take_turns) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open(), b = l.open(), c = l.open();
  notes n;
  n.submit(a, 'a', 4);
  n.submit(b, 'b', 2);
  n.submit(c, 'c', 1);
  test::run(io);
  BOOST_TEST(n.text == "abcabaa");
}

BOOST_AUTO_TEST_CASE(one_task_waits_behind_at_most_one_of_each_other_lane) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open(), b = l.open(), late = l.open();
  notes n;
  n.submit(a, 'a', 1000);
  n.submit(b, 'b', 1000);
  BOOST_TEST(a.try_submit(nothing));
  io.restart();
  for (int i = 0; i != 10; ++i) io.run_one();
  n.text.clear();
  n.submit(late, '!');
  test::run(io);
  BOOST_TEST(n.text.find('!') <= 2u);
}

BOOST_AUTO_TEST_CASE(turns_are_in_proportion_to_weights) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open({.weight = 1}), b = l.open({.weight = 2}), c = l.open({.weight = 4});
  notes n;
  for (const auto& [where, name] : {std::pair(a, 'a'), {b, 'b'}, {c, 'c'}})
    n.submit(where, name, 4000);
  test::run(io);
  const std::string first = n.text.substr(0, 700);
  BOOST_TEST(std::abs(std::count(first.begin(), first.end(), 'a') - 100) <= 2);
  BOOST_TEST(std::abs(std::count(first.begin(), first.end(), 'b') - 200) <= 2);
  BOOST_TEST(std::abs(std::count(first.begin(), first.end(), 'c') - 400) <= 2);
}

BOOST_AUTO_TEST_CASE(a_higher_priority_comes_first) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane low = l.open({.weight = 100, .priority = -1});
  const lane high = l.open({.priority = 1});
  const lane middle = l.open();
  notes n;
  n.submit(low, 'l', 3);
  n.submit(middle, 'm', 2);
  n.submit(high, 'h', 3);
  BOOST_TEST(middle.try_submit([&] {
    n.text += '!';
    n.submit(high, 'h');
  }));
  test::run(io);
  BOOST_TEST(n.text == "hhhmm!hlll");
}

BOOST_AUTO_TEST_CASE(a_lower_priority_runs_where_a_higher_one_may_not) {
  asio::thread_pool threads(2);
  lanes l(threads, at_most(2));
  const lane high = l.open({.priority = 1, .concurrency = 1}), low = l.open();
  test::gate g;
  test::counter ran;
  BOOST_TEST(high.try_submit([&] { g.wait(); }));
  BOOST_TEST(high.try_submit(nothing));
  BOOST_TEST(low.try_submit([&] { ran.add(); }));
  ran.wait_for(1); // while the other one is at its bound
  g.open();
  threads.join();
}

BOOST_AUTO_TEST_CASE(a_minimum_share_keeps_a_lower_priority_going) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1, .minimum_share = 0.25});
  const lane high = l.open({.priority = 1}), low = l.open();
  notes n;
  n.submit(low, 'l', 1000);
  n.submit(high, 'h', 3000);
  test::run(io);
  const std::string first = n.text.substr(0, 1000);
  BOOST_TEST(std::abs(std::count(first.begin(), first.end(), 'l') - 250) <= 2);
}

BOOST_AUTO_TEST_CASE(weights_and_priorities_change_what_is_queued_already) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open(), b = l.open();
  notes n;
  n.submit(a, 'a', 5);
  n.submit(b, 'b', 5);
  b.set_priority(1);
  test::run(io);
  BOOST_TEST(n.text == "bbbbbaaaaa");
  n.text.clear();
  b.set_priority(0);
  b.set_weight(3);
  n.submit(a, 'a', 100);
  n.submit(b, 'b', 300);
  test::run(io);
  const std::string first = n.text.substr(0, 100);
  BOOST_TEST(std::abs(std::count(first.begin(), first.end(), 'b') - 75) <= 2);
}

BOOST_AUTO_TEST_CASE(others_on_the_inner_executor_have_their_turn_after_a_batch) {
  for (std::size_t batch : {1u, 2u, 16u}) {
    asio::io_context io;
    lanes l(io, {.concurrency = 1, .batch = batch});
    const lane a = l.open(), b = l.open();
    std::string text;
    notes n;
    for (int i = 0; i != 50; ++i) {
      BOOST_TEST(a.try_submit([&] { text += 'l'; }));
      asio::post(b.get_executor(), [&] { text += 'l'; });
    }
    std::function<void()> other = [&] {
      text += 'o';
      if (text.size() < 100) asio::post(io, other);
    };
    asio::post(io, other);
    test::run(io);
    const std::string turn = std::string(batch, 'l') + 'o';
    for (std::size_t at = 0; at + turn.size() < 90; at += turn.size())
      BOOST_TEST(text.substr(at, turn.size()) == turn);
  }
}

BOOST_AUTO_TEST_CASE(what_goes_on_after_a_batch_is_a_continuation_and_what_is_added_is_not) {
  stage s;
  lanes l(s.executor(), {.concurrency = 2, .batch = 2});
  const lane a = l.open();
  for (int i = 0; i != 8; ++i) BOOST_TEST(a.try_submit(nothing));
  BOOST_TEST(s.given() == 2u);
  BOOST_TEST(s.continuations() == 0u);
  s.step();
  BOOST_TEST(s.given() == 3u);
  BOOST_TEST(s.continuations() == 1u);
  s.run();
  BOOST_TEST(s.continuations() == s.given() - 2);
  BOOST_TEST(a.try_submit([&] { asio::post(a.get_executor(), nothing); }));
  BOOST_TEST(a.try_submit(nothing));
  BOOST_TEST(s.continuations() == s.given() - 4);
  s.run();
}

BOOST_AUTO_TEST_CASE(limited_to_one_it_lets_others_on_a_thread_pool_have_their_turn) {
  for (std::size_t threads : {1u, 2u}) {
    asio::thread_pool pool(threads);
    const auto strand = bulkhead::limit_concurrency(pool.get_executor(), 1);
    std::atomic<bool> over{false};
    std::function<void()> step = [&] {
      if (!over) asio::post(strand, step);
    };
    asio::post(strand, step);
    asio::post(strand, step);
    asio::post(pool, [&] { asio::post(pool, [&] { over = true; }); });
    pool.join();
    BOOST_TEST(over);
  }
}

BOOST_AUTO_TEST_CASE(lanes_may_be_opened_and_closed_while_others_run) {
  asio::thread_pool threads(3);
  lanes l(threads, at_most(3));
  std::atomic<int> ran{0}, accepted{0};
  std::vector<std::thread> all;
  for (int t = 0; t != 3; ++t)
    all.emplace_back([&, t] {
      for (int i = 0; i != test::scaled(2000); ++i) {
        const lane a =
            l.open({.weight = 1. + t, .priority = i % 4, .queue_limit = 2, .concurrency = 1});
        for (int j = 0; j != 3; ++j) accepted += a.try_submit([&] { ++ran; });
        if (i % 2 == 0) a.close();
      }
    });
  for (auto& t : all) t.join();
  threads.join();
  BOOST_TEST(ran == accepted);
  BOOST_TEST(l.size() == 0u);
}

// --- exceptions ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(on_exception_gets_what_tasks_and_continuations_throw_and_the_lane_goes_on) {
  asio::io_context io;
  std::vector<std::string> seen;
  lanes l(io, {.concurrency = 1, .on_exception = [&](std::exception_ptr e) {
                 try {
                   std::rethrow_exception(e);
                 } catch (const std::runtime_error& x) {
                   seen.push_back(x.what());
                 }
               }});
  const lane a = l.open();
  int ran = 0;
  BOOST_TEST(a.try_submit([] { throw std::runtime_error("task"); }));
  asio::post(a.get_executor(), [] { throw std::runtime_error("continuation"); });
  std::exception_ptr given;
  a.async_submit([] { throw std::runtime_error("asynchronous"); },
                 [&](std::exception_ptr e) {
                   given = e;
                   throw std::runtime_error("handler");
                 });
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  BOOST_TEST(a.try_submit(std::function<void()>([] { throw std::runtime_error("function"); })));
  test::run(io);
  BOOST_TEST(ran == 1);
  const std::vector<std::string> wanted{"task", "continuation", "function", "handler"};
  BOOST_TEST(seen == wanted, boost::test_tools::per_element());
  BOOST_REQUIRE(given);
  BOOST_CHECK_EXCEPTION(std::rethrow_exception(given), std::runtime_error,
                        [](const auto& e) { return e.what() == std::string("asynchronous"); });
  const lane_stats s = a.stats();
  BOOST_TEST(s.failed == 3u);
  BOOST_TEST(s.completed == 1u);
  BOOST_TEST(s.continuations == 2u);
  BOOST_TEST(balanced(s));
}

// --- limit_concurrency --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(limited_to_one_it_is_a_strand) {
  asio::thread_pool threads(4);
  const auto ex = bulkhead::limit_concurrency(threads.get_executor(), 1);
  occupancy inside;
  std::vector<int> order;
  const int n = test::scaled(20'000);
  for (int i = 0; i != n; ++i)
    asio::post(ex, [&, i] {
      occupancy::visit here(inside);
      order.push_back(i);
    });
  threads.join();
  BOOST_TEST(inside.peak() == 1);
  BOOST_TEST(order.size() == static_cast<std::size_t>(n));
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(limited_to_more_as_many_run_at_a_time) {
  asio::thread_pool threads(4);
  const auto ex = bulkhead::limit_concurrency(threads.get_executor(), 3);
  std::latch together(3);
  for (int i = 0; i != 3; ++i) asio::post(ex, [&] { together.arrive_and_wait(); });
  occupancy inside;
  const int n = test::scaled(20'000);
  for (int i = 0; i != n; ++i) asio::post(ex, [&] { occupancy::visit here(inside); });
  threads.join();
  BOOST_TEST(inside.peak() <= 3);
  BOOST_TEST(inside.total() == n);
}

BOOST_AUTO_TEST_CASE(a_limited_executor_ends_with_its_last_copy_and_what_it_has_to_do) {
  asio::io_context io;
  std::atomic<int> alive{0};
  int ran = 0;
  asio::post(bulkhead::limit_concurrency(io.get_executor(), 2), [&, l = live(alive)] { ++ran; });
  BOOST_TEST(alive == 1);
  test::run(io);
  BOOST_TEST(ran == 1);
  BOOST_TEST(alive == 0);
}

BOOST_AUTO_TEST_CASE(the_system_executor_can_be_limited) {
  const auto ex = bulkhead::limit_concurrency(asio::system_executor(), 1);
  occupancy inside;
  test::counter done;
  for (int i = 0; i != 1000; ++i)
    asio::post(ex, [&] {
      { occupancy::visit here(inside); }
      done.add();
    });
  done.wait_for(1000);
  BOOST_TEST(inside.peak() == 1);
}
