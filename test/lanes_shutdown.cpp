//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// How lanes end: closed, drained, with their set, with a context, and with an executor that fails.

#include "support/allocators.hpp"
#include "support/global_new.hpp"
#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/stage.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <latch>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_options;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::code_of;
using test::live;
using test::stage;
using test::wait_until;

namespace {

const error_code aborted = asio::error::operation_aborted;
const auto nothing = [] {};

bool balanced(const lane_stats& s) {
  return s.in_flight == 0 && s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

lanes_options at_most(std::size_t concurrency) { return {.concurrency = concurrency}; }

// What one async_submit of a function without a result came to. Its handler runs on one thread.
struct outcome {
  int calls = 0;
  std::exception_ptr error;

  auto into() {
    return [this](std::exception_ptr e) {
      error = e;
      ++calls;
    };
  }

  bool succeeded() const { return calls == 1 && !error; }
  bool ended_with(const error_code& ec) const { return calls == 1 && code_of(error) == ec; }
};

/// Of async_drain.
struct drained {
  int calls = 0;
  error_code error;

  auto into() {
    return [this](error_code ec) {
      error = ec;
      ++calls;
    };
  }

  bool succeeded() const { return calls == 1 && !error; }
  bool ended_with(const error_code& ec) const { return calls == 1 && error == ec; }
};

/// Does something when it is destroyed, once. A function that does nothing.
template <class F>
class at_end {
public:
  explicit at_end(F f) : f_(std::move(f)) {}
  at_end(at_end&& other) noexcept : f_(std::exchange(other.f_, std::nullopt)) {}
  ~at_end() {
    if (f_) (*f_)();
  }
  void operator()() const noexcept {}

private:
  std::optional<F> f_;
};

} // namespace

// --- close and drain ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(close_refuses_new_work_and_runs_what_is_queued) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open({.queue_limit = 2}), other = l.open();
  int ran = 0;
  outcome queued, waiting, late;
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  a.async_submit([&] { ++ran; }, queued.into());
  a.async_submit([&] { ++ran; }, waiting.into());
  BOOST_TEST(a.stats().waiting == 1u);
  a.close();
  a.close();
  BOOST_TEST(a.stats().waiting == 0u);
  BOOST_TEST(!a.try_submit(nothing));
  a.async_submit([&] { ++ran; }, late.into());
  BOOST_TEST(other.try_submit([&] { ++ran; }));
  asio::post(a.get_executor(), [&] { ++ran; }); // a continuation
  BOOST_TEST(late.calls == 0);
  test::run(io);
  BOOST_TEST(ran == 4);
  BOOST_TEST(queued.succeeded());
  BOOST_TEST(waiting.ended_with(errc::closed));
  BOOST_TEST(late.ended_with(errc::closed));
  BOOST_TEST(a.stats().rejected == 3u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_drain_waits_for_all_that_is_queued_or_running) {
  asio::io_context io;
  lanes l(io, {.concurrency = 1, .batch = 1});
  const lane a = l.open(), other = l.open();
  std::string order;
  for (int i = 0; i != 3; ++i) BOOST_TEST(a.try_submit([&] { order += 'a'; }));
  a.async_drain(asio::bind_executor(io, [&](error_code ec) {
    BOOST_TEST(!ec);
    order += '!';
  }));
  BOOST_TEST(!a.try_submit(nothing));
  test::run(io);
  BOOST_TEST(order == "aaa!");
  BOOST_TEST(other.try_submit(nothing)); // goes on
  test::run(io);
}

BOOST_AUTO_TEST_CASE(a_drain_does_not_wait_for_continuations) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open();
  drained d;
  std::atomic<bool> go_on{true};
  std::function<void()> again = [&] {
    if (go_on) asio::post(a.get_executor(), again);
  };
  asio::post(a.get_executor(), again);
  BOOST_TEST(a.try_submit(nothing));
  a.async_drain(asio::bind_executor(io, [&](error_code ec) {
    d.into()(ec);
    go_on = false;
  }));
  test::run(io);
  BOOST_TEST(d.succeeded());
}

BOOST_AUTO_TEST_CASE(many_drains_complete_together_also_of_an_idle_lane) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  drained first, second, third;
  BOOST_TEST(a.try_submit(nothing));
  a.async_drain(first.into());
  a.async_drain(asio::bind_executor(io, second.into()));
  test::run(io);
  a.async_drain(third.into());
  test::run(io);
  BOOST_TEST(first.succeeded());
  BOOST_TEST(second.succeeded());
  BOOST_TEST(third.succeeded());
}

BOOST_AUTO_TEST_CASE(a_drain_completes_after_the_submissions_it_waited_for) {
  for (int round = 0; round != test::scaled(600); ++round) {
    asio::thread_pool threads(1);
    asio::io_context io;
    lanes l(threads, at_most(1));
    const lane a = l.open();
    asio::cancellation_signal signal;
    test::gate g;
    BOOST_TEST(a.try_submit([&] { g.wait(); }));
    int handled = 0, at_drain = -1;
    a.async_submit(nothing, asio::bind_cancellation_slot(
                                signal.slot(),
                                asio::bind_executor(io, [&](std::exception_ptr) { ++handled; })));
    a.async_drain(asio::bind_executor(io, [&](error_code) { at_drain = handled; }));
    std::latch go(2);
    std::thread canceller([&] {
      go.arrive_and_wait();
      signal.emit(asio::cancellation_type::terminal);
    });
    go.arrive_and_wait();
    g.open();
    test::run(io);
    canceller.join();
    BOOST_REQUIRE(at_drain == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_place_that_is_being_filled_is_waited_for) {
  asio::io_context io;
  lanes l(io, at_most(1));
  const lane a = l.open();
  drained d;
  struct drains_as_it_is_copied {
    const lane* where;
    drained* d;
    asio::io_context* io;
    drains_as_it_is_copied(const lane& w, drained& x, asio::io_context& c)
        : where(&w), d(&x), io(&c) {}
    drains_as_it_is_copied(const drains_as_it_is_copied& other) : d(other.d), io(other.io) {
      other.where->async_drain(asio::bind_executor(*io, d->into()));
      test::poll(*io);
      BOOST_TEST(d->calls == 0);
    }
    drains_as_it_is_copied(drains_as_it_is_copied&& other) noexcept = default;
    void operator()() { BOOST_TEST(d->calls == 0); }
  };
  const drains_as_it_is_copied f(a, d, io);
  BOOST_TEST(a.try_submit(f));
  test::run(io);
  BOOST_TEST(d.succeeded());
  BOOST_TEST(a.stats().completed == 1u);
}

// --- the end of the set -------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_end_of_the_set_aborts_submissions_and_runs_continuations) {
  asio::io_context io;
  std::atomic<int> alive{0};
  int ran = 0, continued = 0;
  outcome own, foreign, waiting;
  drained d;
  std::optional<lanes> l(std::in_place, io, at_most(2));
  const lane a = l->open({.queue_limit = 3}), b = l->open();
  BOOST_TEST(a.try_submit([&, x = live(alive)] { ++ran; }));
  auto task = [&, x = live(alive)] { ++ran; };
  a.async_submit(task, own.into());
  a.async_submit(task, asio::bind_executor(io, foreign.into()));
  a.async_submit(task, waiting.into());
  a.async_drain(asio::bind_executor(io, d.into()));
  asio::post(a.get_executor(), [&, x = live(alive)] { ++continued; });
  BOOST_TEST(b.try_submit([&, x = live(alive)] { ++ran; }));
  BOOST_TEST(a.stats().queued == 3u);
  l.reset();
  BOOST_TEST(alive == 2); // the continuation's, and `task`
  BOOST_TEST(own.calls + foreign.calls + waiting.calls + d.calls == 0);
  test::run(io);
  BOOST_TEST(ran == 0);
  BOOST_TEST(continued == 1);
  BOOST_TEST(own.ended_with(aborted));
  BOOST_TEST(foreign.ended_with(aborted));
  BOOST_TEST(waiting.ended_with(errc::closed)); // async_drain() has closed the lane before
  BOOST_TEST(d.ended_with(aborted));
  BOOST_TEST(a.stats().cancelled == 3u);
  BOOST_TEST(balanced(a.stats()));
  BOOST_TEST(balanced(b.stats()));
}

BOOST_AUTO_TEST_CASE(the_end_of_the_set_aborts_who_waits_for_room) {
  asio::io_context io;
  outcome waiting;
  std::optional<lanes> l(std::in_place, io, at_most(1));
  const lane a = l->open({.queue_limit = 1});
  BOOST_TEST(a.try_submit(nothing));
  a.async_submit(nothing, waiting.into());
  l.reset();
  test::run(io);
  BOOST_TEST(waiting.ended_with(aborted));
  BOOST_TEST(a.stats().cancelled == 2u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(the_end_of_the_set_leaves_alone_what_runs) {
  asio::thread_pool threads(2);
  std::optional<lanes> l(std::in_place, threads, at_most(2));
  const lane a = l->open();
  test::gate g;
  test::counter started;
  std::atomic<bool> stopped{false};
  std::atomic<int> failed{0};
  auto task = [&](std::stop_token t) {
    started.add();
    g.wait();
    stopped = t.stop_requested();
    return 7;
  };
  auto result = a.async_submit(task, asio::use_future);
  auto thrower = [&]() -> void {
    started.add();
    g.wait();
    throw std::runtime_error("late");
  };
  a.async_submit(thrower,
                 [&](std::exception_ptr e) { failed += e && code_of(nullptr) == aborted; });
  started.wait_for(2);
  auto drain = a.async_drain(asio::use_future);
  l.reset();
  BOOST_CHECK_EXCEPTION(drain.get(), bulkhead::system_error,
                        [](const auto& e) { return e.code() == aborted; });
  auto late = a.async_drain(asio::use_future);
  g.open();
  BOOST_TEST(result.get() == 7);
  late.get();
  threads.join();
  BOOST_TEST(!stopped);
  BOOST_TEST(a.stats().completed == 1u);
  BOOST_TEST(a.stats().failed == 1u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(handles_and_executors_are_good_for_what_they_can_do_after_the_end_of_the_set) {
  asio::io_context io;
  std::optional<lanes> l(std::in_place, io, at_most(1));
  const lane a = l->open({.name = "orphan"});
  const auto ex = a.get_executor();
  l.reset();
  BOOST_TEST(a.name() == "orphan");
  BOOST_TEST(!a.try_submit(nothing));
  outcome o;
  drained d;
  a.async_submit(nothing, o.into());
  a.async_drain(d.into());
  int ran = 0;
  asio::post(ex, [&] { ++ran; });
  a.set_weight(3);
  a.set_priority(3);
  a.set_concurrency(3);
  a.close();
  test::run(io);
  BOOST_TEST(o.ended_with(errc::closed));
  BOOST_TEST(d.succeeded());
  BOOST_TEST(ran == 1);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(the_set_may_end_inside_its_own_handler) {
  for (bool in_completion : {false, true}) {
    asio::io_context io;
    auto l = std::make_unique<lanes>(io, at_most(1));
    const lane a = l->open();
    outcome behind;
    bool ended = false;
    auto end = [&] {
      l.reset();
      ended = true;
    };
    if (in_completion)
      a.async_submit(nothing, [&](std::exception_ptr) { end(); });
    else
      BOOST_TEST(a.try_submit(end));
    asio::post(io, [&] { a.async_submit(nothing, behind.into()); });
    test::run(io);
    BOOST_TEST(ended);
    BOOST_TEST(behind.calls == 1);
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(sets_can_be_moved) {
  asio::io_context io, other_io;
  std::atomic<int> alive{0};
  int ran = 0;
  lanes l(io, at_most(3));
  const lane a = l.open();
  BOOST_TEST(a.try_submit([&, x = live(alive)] { ++ran; }));
  lanes moved(std::move(l));
  BOOST_TEST(moved.concurrency() == 3u);
  BOOST_TEST(moved.size() == 1u);
  BOOST_TEST(alive == 1);
  test::run(io);
  BOOST_TEST(ran == 1);

  // What is assigned to has ended before.
  lanes target(other_io, at_most(2));
  const lane b = target.open();
  BOOST_TEST(b.try_submit([&, x = live(alive)] { ++ran; }));
  target = std::move(moved);
  BOOST_TEST(alive == 0);
  BOOST_TEST(!b.try_submit(nothing));
  BOOST_TEST(target.concurrency() == 3u);
  BOOST_TEST((target.get_executor() == asio::any_io_executor(io.get_executor())));
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  auto& same = target;
  target = std::move(same);
  test::run(io);
  BOOST_TEST(ran == 2);
}

BOOST_AUTO_TEST_CASE(a_submission_that_the_end_of_the_set_overtakes_is_dropped_and_leaves_nothing) {
  // The set ends, and what ran has ended, while a function is on its way into its node.
  std::atomic<int> alive{0};
  struct ends_the_set {
    std::optional<lanes>* set;
    asio::io_context* io;
    live l;
    ends_the_set(std::optional<lanes>& s, asio::io_context& c, std::atomic<int>& n)
        : set(&s), io(&c), l(n) {}
    ends_the_set(const ends_the_set& other) : set(other.set), io(other.io), l(other.l) {
      set->reset();
      test::run(*io);
    }
    ends_the_set(ends_the_set&&) noexcept = default;
    void operator()() { BOOST_ERROR("it is too late"); }
  };
  const auto overtake = [&] {
    asio::io_context io;
    std::optional<lanes> l(std::in_place, io, at_most(1));
    const lane a = l->open();
    asio::post(a.get_executor(), nothing);
    const ends_the_set f(l, io, alive);
    BOOST_TEST(a.try_submit(f));
    BOOST_TEST(alive == 1);
    BOOST_TEST(a.stats().cancelled == 1u);
    BOOST_TEST(balanced(a.stats()));
  };
  overtake();
  const long blocks = test::global_memory.blocks;
  overtake();
  BOOST_TEST(test::global_memory.blocks <= blocks); // a thread of another case may free its last
}

BOOST_AUTO_TEST_CASE(a_drain_that_begins_while_the_set_ends_completes) {
  asio::io_context io;
  drained d;
  std::optional<lanes> l(std::in_place, io, at_most(1));
  const lane a = l->open();
  auto begin_drain = [&] { a.async_drain(asio::bind_executor(io, d.into())); };
  a.async_submit(at_end(begin_drain), asio::bind_executor(io, [](std::exception_ptr) {}));
  l.reset(); // destroys the function
  test::run(io);
  BOOST_TEST(d.calls == 1);
}

BOOST_AUTO_TEST_CASE(functions_may_do_anything_as_they_are_destroyed_by_the_end_of_the_set) {
  asio::io_context io;
  std::optional<lanes> l(std::in_place, io, at_most(1));
  const lane a = l->open(), b = l->open();
  int continued = 0, refused = 0;
  auto mischief = [&] {
    refused += !a.try_submit(nothing);
    refused += !b.try_submit(nothing) || true;
    a.async_submit(nothing, asio::detached);
    asio::post(a.get_executor(), [&] { ++continued; });
    a.set_priority(4);
    b.set_concurrency(1);
    a.close();
    (void)a.stats();
  };
  BOOST_TEST(a.try_submit(at_end(mischief)));
  a.async_submit(at_end(mischief), asio::detached);
  BOOST_TEST(b.try_submit(at_end(mischief)));
  l.reset();
  test::run(io);
  BOOST_TEST(refused == 6);
  BOOST_TEST(continued == 3);
  BOOST_TEST(balanced(a.stats()));
  BOOST_TEST(balanced(b.stats()));
}

BOOST_AUTO_TEST_CASE(nothing_is_left_of_sets_and_lanes) {
  const auto use = [] {
    asio::io_context io;
    {
      lanes l(io, {.concurrency = 2, .name = "a name that is too long to be kept in a string"});
      for (int i = 0; i != 30; ++i) {
        const lane a = l.open({.name = "another name that is too long", .priority = i % 3});
        BOOST_TEST(a.try_submit(nothing));
        a.async_submit(nothing, asio::detached);
        a.async_drain(asio::detached);
        asio::post(a.get_executor(), nothing);
        if (i % 2) test::run(io);
      }
    }
    test::run(io);
  };
  use();
  const long blocks = test::global_memory.blocks;
  for (int i = 0; i != 10; ++i) use();
  BOOST_TEST(test::global_memory.blocks <= blocks);
}

// --- contexts -----------------------------------------------------------------------------------

namespace {

/// One of each that can be in a lane, with handlers on `own` and on `foreign`. None of it runs.
void fill(const lane& a, asio::io_context& foreign, std::atomic<int>& alive,
          std::atomic<int>& calls) {
  const auto own_handler = [&calls, l = live(alive)](std::exception_ptr) { ++calls; };
  const auto foreign_handler = [&] { return asio::bind_executor(foreign, own_handler); };
  const auto task = [&calls, l = live(alive)] { ++calls; };
  BOOST_TEST(a.try_submit(task));
  a.async_submit(task, own_handler);
  a.async_submit(task, foreign_handler());
  asio::post(a.get_executor(), task);
  a.async_submit(task, own_handler); // these wait
  a.async_submit(task, foreign_handler());
  BOOST_TEST(a.stats().queued == 3u);
  BOOST_TEST(a.stats().waiting == 2u);
}

void drain(const lane& a, asio::io_context& foreign, std::atomic<int>& alive,
           std::atomic<int>& calls) {
  const auto handler = [&calls, l = live(alive)](error_code) { ++calls; };
  a.async_drain(handler);
  a.async_drain(asio::bind_executor(foreign, handler));
}

} // namespace

BOOST_AUTO_TEST_CASE(the_end_of_the_inner_context_destroys_all_uninvoked_whichever_goes_first) {
  enum class first { set, inner, foreign };
  for (first f : {first::set, first::inner, first::foreign}) {
    for (bool handles : {false, true}) {
      for (bool drains : {false, true}) {
        BOOST_TEST_CONTEXT("first " << static_cast<int>(f) << handles << drains) {
          std::atomic<int> alive{0}, calls{0};
          std::optional<asio::io_context> inner(std::in_place), foreign(std::in_place);
          std::optional<lanes> l(std::in_place, *inner, at_most(2));
          std::optional<lane> a(l->open({.queue_limit = 3}));
          fill(*a, *foreign, alive, calls);
          if (drains) drain(*a, *foreign, alive, calls);
          if (!handles) a.reset();
          if (f == first::foreign) foreign.reset();
          if (f == first::set) l.reset();
          inner.reset();
          if (foreign && f != first::set) {
            const std::size_t ran = test::run(*foreign);
            BOOST_TEST(ran == (drains ? 1u : 0u)); // the one that waited was refused by close()
            if (drains) calls = 0;
          }
          foreign.reset();
          BOOST_TEST(alive == 0);
          BOOST_TEST(calls == 0);
          if (a) {
            BOOST_TEST(balanced(a->stats()));
            BOOST_TEST(!a->try_submit(nothing));
          }
          l.reset();
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(
    what_the_end_of_the_inner_context_destroys_may_end_the_context_of_another_handler) {
  std::atomic<int> alive{0}, calls{0};
  for (bool waits : {false, true}) {
    std::optional<asio::io_context> inner(std::in_place);
    auto foreign = std::make_shared<asio::io_context>();
    lanes l(inner->get_executor(), at_most(1));
    const lane a = l.open({.queue_limit = waits ? 1u : 3u});
    const auto count = [&calls, n = test::live(alive)](std::exception_ptr) { ++calls; };
    a.async_submit([] {}, [count, foreign](std::exception_ptr) { count(nullptr); });
    a.async_submit([] {}, asio::bind_executor(*foreign, count));
    a.async_submit([] {}, count);
    foreign.reset();
    inner.reset();
    BOOST_TEST(alive == 1); // `count`
    BOOST_TEST(a.stats().cancelled == 3u);
    BOOST_TEST(balanced(a.stats()));
  }
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(what_is_left_of_a_lane_runs_on_when_a_handlers_context_has_gone) {
  std::atomic<int> alive{0}, calls{0};
  asio::io_context inner;
  std::optional<asio::io_context> foreign(std::in_place);
  lanes l(inner, at_most(1));
  const lane a = l.open({.queue_limit = 3});
  fill(a, *foreign, alive, calls);
  foreign.reset();
  BOOST_TEST(a.stats().queued == 3u); // one of those that waited has moved up
  test::run(inner);
  BOOST_TEST(calls == 2 + 2 + 2); // tasks and handlers
  BOOST_TEST(alive == 0);
  BOOST_TEST(a.stats().cancelled == 2u);
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(a_handlers_context_may_end_while_its_task_runs) {
  for (bool closed : {false, true}) {
    std::atomic<int> alive{0}, calls{0};
    asio::thread_pool threads(1);
    lanes l(threads, at_most(1));
    const lane a = l.open();
    std::optional<asio::io_context> io(std::in_place);
    test::counter started;
    auto task = [&started, x = live(alive)](std::stop_token token) {
      started.add();
      wait_until([&] { return token.stop_requested(); });
    };
    a.async_submit(std::move(task), asio::bind_executor(*io, [&calls, x = live(alive)](
                                                                 std::exception_ptr) { ++calls; }));
    started.wait_for(1);
    if (closed) a.close();
    io.reset(); // asks the task to stop, and waits for it
    BOOST_TEST(alive == 0);
    threads.join();
    BOOST_TEST(calls == 0);
    BOOST_TEST(a.stats().completed == 1u);
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(the_end_of_a_task_may_race_with_the_end_of_its_handlers_context) {
  asio::thread_pool threads(2);
  lanes l(threads, at_most(2));
  const lane a = l.open();
  for (int round = 0; round != test::scaled(1000); ++round) {
    std::atomic<int> alive{0};
    std::optional<asio::io_context> io(std::in_place);
    std::latch go(2);
    auto task = [&go, x = live(alive)] { go.arrive_and_wait(); };
    a.async_submit(std::move(task),
                   asio::bind_executor(*io, [x = live(alive)](std::exception_ptr) {}));
    go.arrive_and_wait();
    io.reset();
    BOOST_TEST(alive == 0);
  }
  threads.join();
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(the_inner_context_may_end_while_a_handler_of_another_that_ends_is_destroyed) {
  // The task has ended, so nothing of it may need the inner context any more.
  std::optional<asio::io_context> inner(std::in_place), foreign(std::in_place);
  std::optional<lanes> l(std::in_place, *inner, at_most(1));
  std::optional<lane> a(l->open());
  test::gate inner_is_gone;
  test::counter started;
  auto task = [&](std::stop_token token) {
    started.add();
    wait_until([&] { return token.stop_requested(); });
  };
  auto wait = [&] { inner_is_gone.wait(); };
  a->async_submit(task, asio::bind_executor(*foreign, [w = std::make_unique<at_end<decltype(wait)>>(
                                                           wait)](std::exception_ptr) {}));
  std::thread runner([&] {
    inner->run_one();
    l.reset();
    a.reset();
    inner.reset();
    inner_is_gone.open();
  });
  started.wait_for(1);
  foreign.reset();
  runner.join();
}

BOOST_AUTO_TEST_CASE(a_task_may_end_the_context_that_another_task_works_for) {
  asio::thread_pool threads(2);
  lanes l(threads, at_most(2));
  const lane a = l.open();
  int calls = 0;
  BOOST_TEST(a.try_submit([&] {
    std::optional<asio::io_context> io(std::in_place);
    test::counter started;
    auto task = [&](std::stop_token token) {
      started.add();
      wait_until([&] { return token.stop_requested(); });
    };
    a.async_submit(task, asio::bind_executor(*io, [&](std::exception_ptr) { ++calls; }));
    started.wait_for(1);
    io.reset(); // asks the task to stop, and waits for it
  }));
  threads.join();
  BOOST_TEST(calls == 0);
  BOOST_TEST(a.stats().completed == 2u);
}

BOOST_AUTO_TEST_CASE(a_pool_that_stops_takes_what_is_queued_in_lanes_with_it) {
  std::atomic<int> alive{0}, ran{0}, calls{0};
  asio::io_context foreign;
  for (bool stop : {false, true}) {
    std::optional<bulkhead::pool> p(std::in_place, 1);
    lanes l(*p, at_most(1));
    const lane a = l.open({.queue_limit = unbounded});
    test::plug busy(*p);
    const auto task = [&, x = live(alive)] { ++ran; };
    for (int i = 0; i != 10; ++i) {
      BOOST_TEST(a.try_submit(task));
      asio::post(a.get_executor(), task);
      a.async_submit(task, asio::bind_executor(foreign, [&](std::exception_ptr) { ++calls; }));
    }
    if (stop) p->stop();
    busy.open();
    if (!stop) p->join();
    p.reset();
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(ran == 30);
  test::run(foreign);
  BOOST_TEST(calls == 10);
}

BOOST_AUTO_TEST_CASE(a_thread_pool_that_stops_in_the_middle_leaves_nothing) {
  std::atomic<int> alive{0};
  for (int round = 0; round != test::scaled(200); ++round) {
    asio::io_context foreign;
    {
      asio::thread_pool threads(2);
      lanes l(threads, {.concurrency = 2, .batch = 2});
      const lane a = l.open(), b = l.open();
      for (int i = 0; i != 20; ++i) {
        auto task = [x = live(alive)] {};
        BOOST_TEST(a.try_submit(task));
        asio::post(b.get_executor(), task);
        a.async_submit(task, [x = live(alive)](std::exception_ptr) {});
        b.async_submit(task,
                       asio::bind_executor(foreign, [x = live(alive)](std::exception_ptr) {}));
      }
      b.async_drain([x = live(alive)](error_code) {});
      if (round % 2) threads.stop();
    }
    test::run(foreign);
    BOOST_TEST(alive == 0);
  }
}

// --- executors that fail ------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(what_the_inner_executor_throws_reaches_the_submitter_and_nothing_is_left) {
  stage s;
  std::atomic<int> alive{0};
  int ran = 0, calls = 0;
  lanes l(s.executor(), at_most(2));
  const lane a = l.open();
  const auto task = [&, x = live(alive)] { ++ran; };
  s.now = stage::mood::throws;
  BOOST_CHECK_THROW((void)a.try_submit(task), std::bad_alloc);
  BOOST_CHECK_THROW(asio::post(a.get_executor(), task), std::bad_alloc);
  BOOST_CHECK_THROW(a.async_submit(task, asio::bind_executor(asio::system_executor(),
                                                             [&](std::exception_ptr) { ++calls; })),
                    std::bad_alloc);
  BOOST_TEST(alive == 1);
  BOOST_TEST(a.stats().queued == 0u);
  BOOST_TEST(balanced(a.stats()));
  s.now = stage::mood::works;
  BOOST_TEST(a.try_submit(task)); // and it goes on
  s.run();
  BOOST_TEST(ran == 1);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(while_something_of_the_set_runs_a_throwing_inner_executor_is_borne) {
  stage s;
  int ran = 0;
  lanes l(s.executor(), at_most(3));
  const lane a = l.open(), b = l.open();
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  s.now = stage::mood::throws;
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  BOOST_TEST(b.try_submit([&] { ++ran; }));
  asio::post(b.get_executor(), [&] { ++ran; });
  a.async_submit([&] { ++ran; }, asio::detached);
  l.set_concurrency(5); // tries again, in vain, and not for ever
  a.set_concurrency(5);
  s.run();
  BOOST_TEST(ran == 5);
  BOOST_TEST(balanced(a.stats()));
  BOOST_TEST(balanced(b.stats()));
}

BOOST_AUTO_TEST_CASE(after_a_batch_a_throwing_inner_executor_loses_what_is_queued_and_no_more) {
  stage s;
  std::atomic<int> alive{0};
  int ran = 0;
  lanes l(s.executor(), {.concurrency = 1, .batch = 2});
  const lane a = l.open();
  drained d;
  asio::io_context io;
  for (int i = 0; i != 5; ++i) BOOST_TEST(a.try_submit([&, x = live(alive)] { ++ran; }));
  s.now = stage::mood::throws;
  s.run();
  BOOST_TEST(ran == 2);
  BOOST_TEST(alive == 0);
  BOOST_TEST(a.stats().cancelled == 3u);
  s.now = stage::mood::works;
  BOOST_TEST(a.try_submit([&] { ++ran; }));
  a.async_drain(asio::bind_executor(io, d.into()));
  s.run();
  test::run(io);
  BOOST_TEST(ran == 3);
  BOOST_TEST(d.succeeded());
  BOOST_TEST(balanced(a.stats()));
}

BOOST_AUTO_TEST_CASE(functions_that_the_inner_executor_drops_take_what_is_queued_with_them) {
  for (bool at_once : {false, true}) {
    stage s;
    std::atomic<int> alive{0};
    int ran = 0, calls = 0;
    lanes l(s.executor(), at_most(2));
    const lane a = l.open();
    asio::io_context io;
    drained d;
    const auto fill_lane = [&] {
      (void)a.try_submit([&, x = live(alive)] { ++ran; });
      asio::post(a.get_executor(), [&, x = live(alive)] { ++ran; });
      a.async_submit([&, x = live(alive)] { ++ran; },
                     asio::bind_executor(io, [&](std::exception_ptr) { ++calls; }));
    };
    if (at_once) s.now = stage::mood::drops;
    fill_lane();
    if (!at_once) {
      BOOST_TEST(s.size() == 2u);
      s.drop_first();
      BOOST_TEST(alive == 3); // somebody else is still on his way
      s.drop_first();
    }
    BOOST_TEST(alive == 0);
    BOOST_TEST(ran == 0);
    s.now = stage::mood::works;
    BOOST_TEST(a.stats().queued == 0u);
    BOOST_TEST(a.try_submit([&] { ++ran; }));
    s.run();
    BOOST_TEST(ran == 1);
    a.async_drain(asio::bind_executor(io, d.into()));
    test::run(io);
    BOOST_TEST(calls == 0);
    BOOST_TEST(d.succeeded());
    BOOST_TEST(balanced(a.stats()));
  }
}

BOOST_AUTO_TEST_CASE(an_inner_executor_may_run_functions_inside_the_call) {
  struct inline_executor : test::at_once {
    asio::io_context* io;
    explicit inline_executor(asio::io_context& c) : io(&c) {}
    asio::execution_context& query(asio::execution::context_t) const noexcept { return *io; }
    inline_executor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
    bool operator==(const inline_executor&) const noexcept = default;
  };
  asio::io_context io;
  lanes l(inline_executor(io), {.concurrency = 1, .batch = 3});
  const lane a = l.open(), b = l.open();
  std::string order;
  BOOST_TEST(a.try_submit([&] {
    order += '(';
    for (int i = 0; i != 5; ++i) BOOST_TEST(a.try_submit([&] { order += 'a'; }));
    BOOST_TEST(b.try_submit([&] { order += 'b'; }));
    order += ')';
  }));
  BOOST_TEST(order == "()baaaaa");
  outcome o;
  a.async_submit(nothing, o.into());
  BOOST_TEST(o.succeeded());
  BOOST_TEST(balanced(a.stats()));
}

// --- exceptions ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(without_on_exception_one_line_goes_to_stderr) {
  int pipe_ends[2];
  BOOST_REQUIRE(::pipe(pipe_ends) == 0);
  std::fflush(stderr);
  const int saved = ::dup(2);
  ::dup2(pipe_ends[1], 2);
  int ran = 0;
  {
    asio::io_context io;
    lanes l(io, {.name = "tenants"});
    const lane a = l.open({.name = "noisy"});
    BOOST_TEST(a.try_submit([] { throw std::runtime_error("first trouble"); }));
    BOOST_TEST(a.try_submit([] { throw 42; }));
    BOOST_TEST(a.try_submit([&] { ++ran; }));
    test::run(io);
  }
  std::fflush(stderr);
  ::dup2(saved, 2);
  ::close(saved);
  ::close(pipe_ends[1]);
  std::string text(4096, '\0');
  const auto n = ::read(pipe_ends[0], text.data(), text.size());
  ::close(pipe_ends[0]);
  BOOST_REQUIRE(n > 0);
  text.resize(static_cast<std::size_t>(n));
  BOOST_TEST(text == "bulkhead: lanes \"tenants\": uncaught exception in a handler: first trouble\n"
                     "bulkhead: lanes \"tenants\": uncaught exception in a handler\n");
  BOOST_TEST(ran == 1);
}
