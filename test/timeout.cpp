//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/manual_clock.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"
#include "support/tracker_executor.hpp"

#include <bulkhead/limited_by.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::limited_by;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::timeout;
using test::manual_clock;

namespace {

using test::poll;
using test::run;

const error_code aborted = asio::error::operation_aborted;
const error_code exceeded = errc::deadline_exceeded;

permit take(semaphore& s, std::size_t weight = 1) { return s.try_acquire(weight).value(); }

template <class Token>
auto soon(Token&& token) {
  return timeout<manual_clock>(5s, std::forward<Token>(token));
}

using acquire_signature = void(error_code, permit);

// The operation is an acquisition of one unit, which waits until proceed().
struct timed_fixture {
  test::background object;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::optional<semaphore> resource{std::in_place, executor, 1};
  permit locked;
  bool expires = false;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return resource->async_acquire(1, soon(std::forward<Token>(token)));
  }

  void proceed() {
    if (expires)
      manual_clock::advance(5s);
    else
      locked.release();
  }

  void settle() { object.finish(); }
  void destroy() { resource.reset(); }
  void restored() {
    BOOST_TEST(resource->in_use() == 0u);
    BOOST_TEST(resource->waiting() == 0u);
  }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }
};

auto nothing_waits = [] { return std::make_unique<timed_fixture>(); };

auto operation_waits = [] {
  auto f = std::make_unique<timed_fixture>();
  f->locked = take(*f->resource);
  return f;
};

auto operation_expires = [] {
  auto f = std::make_unique<timed_fixture>();
  f->locked = take(*f->resource);
  f->expires = true;
  return f;
};

auto expect_success = [](error_code ec, permit p) {
  BOOST_TEST(!ec);
  BOOST_TEST(p.weight() == 1u);
};

auto expect_exceeded = [](error_code ec, permit p) {
  BOOST_TEST(ec == exceeded);
  BOOST_TEST(!p);
};

} // namespace

// --- tokens, executors, allocators, cancellation ------------------------------------------------

BOOST_AUTO_TEST_CASE(every_token_can_have_a_deadline) {
  test::token_matrix<acquire_signature>(nothing_waits, expect_success);
  test::token_matrix<acquire_signature>(operation_waits, expect_success);
}

BOOST_AUTO_TEST_CASE(every_token_reports_that_the_deadline_was_exceeded) {
  test::token_matrix<acquire_signature>(operation_expires, expect_exceeded);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor_else_on_that_of_the_io_object) {
  auto any = [](error_code, permit) {};
  test::executor_matrix(nothing_waits, any);
  test::executor_matrix(operation_waits, any);
  test::executor_matrix(operation_expires, any);
}

BOOST_AUTO_TEST_CASE(it_can_be_cancelled_at_any_time_and_reports_operation_aborted) {
  test::cancellation_matrix(operation_waits, expect_success);
}

BOOST_AUTO_TEST_CASE(completion_and_cancellation_exclude_each_other) {
  test::cancellation_race(operation_waits, expect_success, test::scaled(400));
}

namespace {

using submit_signature = void(std::exception_ptr, int);

struct timed_submit_fixture {
  bulkhead::pool workers{2}; // one for the work, one for the deadline of a handler without executor
  bool expires = false;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto work = [e = expires](std::stop_token stop) {
      while (e && !stop.stop_requested()) std::this_thread::yield();
      if (e) throw bulkhead::system_error(aborted);
      return 42;
    };
    return workers.async_submit(work, soon(std::forward<Token>(token)));
  }

  void proceed() {
    if (expires) manual_clock::advance(5s);
  }
  void settle() { workers.join(); }
};

} // namespace

BOOST_AUTO_TEST_CASE(signatures_with_an_exception_ptr_can_have_a_deadline_with_every_token) {
  test::token_matrix<submit_signature>([] { return std::make_unique<timed_submit_fixture>(); },
                                       [](std::exception_ptr e, int value) {
                                         BOOST_TEST(!e);
                                         BOOST_TEST(value == 42);
                                       });
  test::token_matrix<submit_signature>(
      [] {
        auto f = std::make_unique<timed_submit_fixture>();
        f->expires = true;
        return f;
      },
      [](std::exception_ptr e, int value) {
        BOOST_TEST(test::code_of(e) == exceeded);
        BOOST_TEST(value == 0);
      });
}

// --- what it promises ----------------------------------------------------------------------------

namespace {

// One operation that ends when the test says so, and notes what it was told.
class controlled {
public:
  explicit controlled(asio::io_context& io) : io_(io) {}

  template <class Token>
  auto async_run(Token&& token) {
    return asio::async_initiate<Token, void(error_code)>(
        [this](auto handler) {
          ++started;
          auto slot = asio::get_associated_cancellation_slot(handler);
          if (slot.is_connected())
            slot.assign([this](asio::cancellation_type t) {
              signals.push_back(t);
              if (obeys) complete(aborted);
            });
          auto shared = std::make_shared<decltype(handler)>(std::move(handler));
          end_ = [this, shared](error_code ec) {
            auto ex = asio::get_associated_executor(*shared, io_.get_executor());
            asio::post(ex, [shared, ec] { std::move (*shared)(ec); });
          };
        },
        token);
  }

  void complete(error_code ec) {
    if (auto end = std::exchange(end_, nullptr)) end(ec);
  }

  int started = 0;
  bool obeys = true;
  std::vector<asio::cancellation_type> signals;

private:
  asio::io_context& io_;
  std::function<void(error_code)> end_;
};

struct seen {
  int calls = 0;
  error_code code;
};

auto into(asio::io_context& io, seen& s) {
  return asio::bind_executor(io, [&s](error_code ec) {
    ++s.calls;
    s.code = ec;
  });
}

void run_until(asio::io_context& io, const seen& s) {
  io.restart();
  while (s.calls == 0) io.run_one();
}

} // namespace

BOOST_AUTO_TEST_CASE(the_operation_starts_inside_the_initiating_function) {
  asio::io_context io;
  controlled op(io);
  seen s;
  op.async_run(soon(into(io, s)));
  BOOST_TEST(op.started == 1);
  op.complete({});
  run(io);
  BOOST_TEST(s.calls == 1);
}

BOOST_AUTO_TEST_CASE(nothing_happens_before_the_deadline) {
  asio::io_context io;
  controlled op(io);
  seen s;
  op.async_run(soon(into(io, s)));
  manual_clock::advance(5s - 1ns);
  for (int i = 0; i != 10; ++i) poll(io);
  BOOST_TEST(op.signals.empty());
  manual_clock::advance(1ns);
  run_until(io, s);
  BOOST_TEST((op.signals == std::vector{asio::cancellation_type::terminal}));
  BOOST_TEST(s.code == exceeded);
}

BOOST_AUTO_TEST_CASE(a_success_stays_one_also_after_the_deadline) {
  asio::io_context io;
  controlled op(io);
  op.obeys = false;
  seen s;
  op.async_run(soon(into(io, s)));
  manual_clock::advance(5s);
  while (op.signals.empty()) poll(io);
  op.complete({});
  run_until(io, s);
  BOOST_TEST(!s.code);
}

BOOST_AUTO_TEST_CASE(another_error_stays_what_it_is) {
  asio::io_context io;
  controlled op(io);
  op.obeys = false;
  seen s;
  op.async_run(soon(into(io, s)));
  manual_clock::advance(5s);
  while (op.signals.empty()) poll(io);
  op.complete(asio::error::connection_reset);
  run_until(io, s);
  BOOST_TEST(s.code == asio::error::connection_reset);
}

BOOST_AUTO_TEST_CASE(an_abort_that_is_not_of_the_deadline_stays_operation_aborted) {
  asio::io_context io;
  controlled op(io);
  seen s;
  op.async_run(soon(into(io, s)));
  op.complete(aborted);
  run_until(io, s);
  BOOST_TEST(s.code == aborted);
}

BOOST_AUTO_TEST_CASE(a_terminal_signal_before_the_deadline_makes_it_operation_aborted) {
  asio::io_context io;
  controlled op(io);
  op.obeys = false;
  asio::cancellation_signal signal;
  seen s;
  op.async_run(soon(asio::bind_cancellation_slot(signal.slot(), into(io, s))));
  signal.emit(asio::cancellation_type::terminal);
  poll(io);
  manual_clock::advance(5s);
  for (int i = 0; i != 10; ++i) poll(io);
  op.complete(aborted);
  run_until(io, s);
  BOOST_TEST(s.code == aborted);
}

BOOST_AUTO_TEST_CASE(a_milder_signal_that_is_not_obeyed_leaves_the_deadline_in_force) {
  asio::io_context io;
  controlled op(io);
  op.obeys = false;
  asio::cancellation_signal signal;
  seen s;
  op.async_run(soon(asio::bind_cancellation_slot(signal.slot(), into(io, s))));
  signal.emit(asio::cancellation_type::total);
  poll(io);
  op.obeys = true;
  manual_clock::advance(5s);
  run_until(io, s);
  BOOST_TEST(s.code == exceeded);
  BOOST_TEST((op.signals ==
              std::vector{asio::cancellation_type::total, asio::cancellation_type::terminal}));
}

BOOST_AUTO_TEST_CASE(a_deadline_in_the_past_cancels_what_has_started) {
  for (auto d : {std::chrono::seconds(0), std::chrono::seconds(-1), std::chrono::seconds::min()}) {
    asio::io_context io;
    controlled op(io);
    seen s;
    op.async_run(timeout(d, into(io, s)));
    run(io);
    BOOST_TEST(op.started == 1);
    BOOST_TEST(s.code == exceeded);
  }
}

BOOST_AUTO_TEST_CASE(a_duration_beyond_the_clock_is_for_ever) {
  asio::io_context io;
  controlled op(io);
  seen s;
  op.async_run(timeout(std::chrono::hours::max(), into(io, s)));
  poll(io);
  BOOST_TEST(op.signals.empty());
  op.complete({});
  run(io);
  BOOST_TEST(s.calls == 1);
}

BOOST_AUTO_TEST_CASE(an_operation_that_completes_leaves_no_timer_behind) {
  asio::io_context io;
  asio::steady_timer quick(io, 0s);
  bool called = false;
  quick.async_wait(timeout(std::chrono::hours(1), [&](error_code ec) {
    BOOST_TEST(!ec);
    called = true;
  }));
  run(io); // does not take an hour
  BOOST_TEST(called);
}

BOOST_AUTO_TEST_CASE(an_operation_that_is_destroyed_leaves_no_timer_behind) {
  asio::io_context io;
  std::atomic<int> alive{0};
  {
    controlled op(io);
    op.async_run(timeout(std::chrono::hours(1),
                         asio::bind_executor(io, [l = test::live(alive)](error_code) {})));
    BOOST_TEST(alive == 1);
  }
  BOOST_TEST(alive == 0);
  run(io); // does not take an hour
}

BOOST_AUTO_TEST_CASE(contexts_may_end_in_either_order_while_it_runs) {
  for (bool handlers_first : {false, true}) {
    std::atomic<int> alive{0};
    std::optional<asio::io_context> home(std::in_place);
    std::optional<asio::io_context> handlers(std::in_place);
    std::optional<semaphore> s(std::in_place, *home, 1);
    permit locked = take(*s);
    asio::cancellation_signal signal;
    s->async_acquire(
        1, timeout(std::chrono::hours(1),
                   asio::bind_cancellation_slot(
                       signal.slot(), asio::bind_executor(*handlers, [l = test::live(alive)](
                                                                         error_code, permit) {}))));
    BOOST_TEST(alive == 1);
    if (handlers_first)
      handlers.reset();
    else
      home.reset();
    if (handlers_first) BOOST_TEST(alive == 0);
    if (handlers_first)
      home.reset();
    else
      handlers.reset();
    BOOST_TEST(alive == 0);
    signal.emit(asio::cancellation_type::terminal);
  }
}

// The operation has completed, and nothing of it is outstanding in its context.
BOOST_AUTO_TEST_CASE(a_signal_does_not_need_the_context_of_an_operation_that_has_completed) {
  for (bool limited : {false, true}) {
    asio::io_context handlers;
    std::optional<asio::io_context> home(std::in_place);
    std::optional<semaphore> s(std::in_place, *home, 1);
    semaphore limiter(handlers, 1);
    permit locked = take(*s);
    asio::cancellation_signal signal;
    int calls = 0;
    auto token = asio::bind_cancellation_slot(
        signal.slot(), asio::bind_executor(handlers, [&](error_code ec, permit p) {
          ++calls;
          BOOST_TEST(!ec);
          BOOST_TEST(!!p);
        }));
    if (limited)
      s->async_acquire(1, limited_by(limiter, token));
    else
      s->async_acquire(1, timeout(std::chrono::hours(1), token));
    poll(handlers);
    if (!limited) signal.emit(asio::cancellation_type::terminal); // passes when `handlers` runs
    locked.release();
    s.reset();
    home.reset();
    if (limited) signal.emit(asio::cancellation_type::terminal);
    run(handlers);
    BOOST_TEST(calls == 1);
  }
}

BOOST_AUTO_TEST_CASE(an_exception_of_the_initiation_leaves_nothing_behind) {
  asio::io_context io;
  auto start = [&](auto&& token) {
    return asio::async_initiate<decltype(token), void(error_code)>(
        [](auto) { throw std::runtime_error("no"); }, token);
  };
  BOOST_CHECK_THROW(
      start(timeout(std::chrono::hours(1), asio::bind_executor(io, [](error_code) {}))),
      std::runtime_error);
  run(io);
}

BOOST_AUTO_TEST_CASE(a_token_can_be_kept_and_used_again) {
  asio::io_context io;
  asio::steady_timer timer(io, 0s);
  auto calls = std::make_shared<int>(0);
  auto callback = [calls](auto...) {
    if (calls) ++*calls;
  };
  auto token = soon(callback);
  timer.async_wait(token);
  timer.async_wait(token);
  bulkhead::pool p(1);
  auto other = soon(asio::bind_executor(io, callback));
  p.async_submit([] {}, other);
  p.async_submit([] {}, other);
  p.join();
  run(io);
  BOOST_TEST(*calls == 4);
}

namespace {

struct fragile_handler {
  fragile_handler() = default;
  fragile_handler(const fragile_handler&) { throw std::runtime_error("no copy"); }
  fragile_handler(fragile_handler&&) noexcept = default;
  void operator()(error_code) const {}
};

} // namespace

BOOST_AUTO_TEST_CASE(a_handler_that_cannot_be_copied_leaves_no_timer_behind) {
  asio::io_context io;
  asio::steady_timer timer(io, 0s);
  const auto token = timeout(std::chrono::hours(1), fragile_handler());
  BOOST_CHECK_THROW(timer.async_wait(token), std::runtime_error);
  BOOST_TEST(run(io) == 0u);
}

// --- the order of adaptors -----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_timeout_inside_of_limited_by_bounds_waiting_and_operation) {
  asio::io_context io;
  semaphore limiter(io, 1);
  permit held = take(limiter);
  controlled op(io);
  seen s;
  op.async_run(limited_by(limiter, soon(into(io, s))));
  manual_clock::advance(5s);
  run_until(io, s);
  BOOST_TEST(s.code == exceeded);
  BOOST_TEST(op.started == 0);
  BOOST_TEST(limiter.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(a_timeout_around_limited_by_bounds_the_operation_only) {
  asio::io_context io;
  semaphore limiter(io, 1);
  permit held = take(limiter);
  controlled op(io);
  seen s;
  op.async_run(soon(limited_by(limiter, into(io, s))));
  manual_clock::advance(60s); // it waits for its permit for a minute
  for (int i = 0; i != 10; ++i) poll(io);
  BOOST_TEST(s.calls == 0);
  held.release();
  while (op.started == 0) poll(io);
  manual_clock::advance(5s - 1ns);
  for (int i = 0; i != 10; ++i) poll(io);
  BOOST_TEST(s.calls == 0);
  manual_clock::advance(1ns);
  run_until(io, s);
  BOOST_TEST(s.code == exceeded);
  BOOST_TEST(limiter.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(timeouts_stack_and_the_shorter_one_counts) {
  asio::io_context io;
  for (int which : {0, 1}) {
    controlled op(io);
    seen s;
    if (which == 0)
      op.async_run(timeout<manual_clock>(1s, timeout<manual_clock>(9s, into(io, s))));
    else
      op.async_run(timeout<manual_clock>(9s, timeout<manual_clock>(1s, into(io, s))));
    manual_clock::advance(1s);
    run_until(io, s);
    BOOST_TEST(s.code == exceeded);
  }
}

// --- with all kinds of operations ----------------------------------------------------------------

namespace {

template <class Token>
auto async_count_for_ever(asio::steady_timer& timer, Token&& token) {
  return asio::async_compose<Token, void(error_code, int)>(
      [&timer, i = 0](auto& self, error_code ec = {}) mutable {
        if (ec || self.get_cancellation_state().cancelled() != asio::cancellation_type::none)
          return self.complete(aborted, i);
        ++i;
        timer.expires_after(0s);
        timer.async_wait(std::move(self));
      },
      token, timer);
}

} // namespace

BOOST_AUTO_TEST_CASE(sockets_composed_operations_channels_and_coroutines_can_have_a_deadline) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  bool done = false;
  auto client = [&]() -> asio::awaitable<void> {
    asio::ip::tcp::socket socket(io);
    co_await socket.async_connect(acceptor.local_endpoint(), timeout(1min, asio::use_awaitable));
    std::array<char, 5> data{};
    auto [e1, n] = co_await asio::async_read(socket, asio::buffer(data),
                                             timeout(1ms, asio::as_tuple(asio::use_awaitable)));
    BOOST_TEST(e1 == exceeded); // nobody sends
    BOOST_TEST(n == 0u);

    asio::steady_timer timer(io);
    auto [e2, i] =
        co_await async_count_for_ever(timer, timeout(1ms, asio::as_tuple(asio::use_awaitable)));
    BOOST_TEST(e2 == exceeded);
    BOOST_TEST(i > 0);

    asio::experimental::channel<void(error_code, std::string)> channel(io, 1);
    auto [e3, text] =
        co_await channel.async_receive(timeout(1ms, asio::as_tuple(asio::use_awaitable)));
    BOOST_TEST(e3 == exceeded);

    auto sleeper = [&io]() -> asio::awaitable<int> {
      asio::steady_timer t(io, std::chrono::hours(1));
      co_await t.async_wait(asio::use_awaitable);
      co_return 7;
    };
    auto [e4, seven] =
        co_await asio::co_spawn(io, sleeper, timeout(1ms, asio::as_tuple(asio::use_awaitable)));
    BOOST_TEST(test::code_of(e4) == exceeded);
    done = true;
  };
  asio::co_spawn(io, client, [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(done);
}

// Asio (1.81) passes a signal on to the executor of the coroutine as a pointer to what is in the slot.
BOOST_AUTO_TEST_CASE(a_coroutine_may_end_while_the_signal_is_on_its_way_to_it) {
  for (bool limited : {false, true}) {
    asio::io_context work;
    asio::io_context handlers;
    semaphore s(handlers, 1);
    asio::cancellation_signal signal;
    asio::steady_timer timer(work, std::chrono::hours(1));
    auto body = [&]() -> asio::awaitable<void> {
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    };
    seen r;
    auto token = asio::bind_cancellation_slot(
        signal.slot(), asio::bind_executor(handlers, [&](std::exception_ptr e) {
          ++r.calls;
          r.code = test::code_of(e);
        }));
    if (limited)
      asio::co_spawn(work, body, limited_by(s, token));
    else
      asio::co_spawn(work, body, timeout<manual_clock>(5s, token));
    poll(work);
    timer.cancel(); // the coroutine is going to end
    if (limited)
      signal.emit(asio::cancellation_type::terminal);
    else
      manual_clock::advance(5s);
    for (int i = 0; i != 10; ++i) poll(handlers); // the signal is on its way, behind that
    work.restart();
    while (r.calls == 0) {
      work.poll_one();
      poll(handlers);
    }
    poll(work);
    poll(handlers);
    BOOST_TEST(r.calls == 1);
  }
}

// --- under load ----------------------------------------------------------------------------------

// Deadlines that come at the very moment at which operations end, on three threads, without a strand;
// signals of the user, from a thread of their own, as well.
BOOST_AUTO_TEST_CASE(deadlines_signals_and_completions_may_meet_on_any_number_of_threads) {
  bulkhead::pool workers(3);
  semaphore resource(workers, 2);
  const int total = test::scaled(20'000);
  std::atomic<int> granted{0}, late{0}, cancelled{0}, wrong{0};
  std::vector<std::unique_ptr<asio::cancellation_signal>> signals;
  std::atomic<int> ready{0};
  for (int i = 0; i != total; ++i) signals.push_back(std::make_unique<asio::cancellation_signal>());
  std::thread canceller([&] {
    for (int i = 0; i != total; ++i) {
      while (ready <= i) std::this_thread::yield();
      if (i % 5 == 0) signals[i]->emit(asio::cancellation_type::total);
    }
  });
  for (int i = 0; i != total; ++i) {
    resource.async_acquire(
        1, timeout(std::chrono::microseconds(i % 50),
                   asio::bind_cancellation_slot(signals[i]->slot(), [&](error_code ec, permit p) {
                     if (!ec && p)
                       ++granted;
                     else if (ec == exceeded && !p)
                       ++late;
                     else if (ec == aborted && !p)
                       ++cancelled;
                     else
                       ++wrong;
                   })));
    ++ready;
  }
  canceller.join();
  workers.join();
  BOOST_TEST(granted + late + cancelled == total);
  BOOST_TEST(wrong == 0);
  BOOST_TEST(resource.in_use() == 0u);
}

// A composed operation whose steps run on all threads is cancelled between two of them, never inside
// of one.
BOOST_AUTO_TEST_CASE(the_steps_of_an_operation_never_meet_its_deadline) {
  bulkhead::pool workers(3);
  const int total = test::scaled(2'000);
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  std::atomic<int> late{0}, wrong{0};
  for (int i = 0; i != total; ++i) {
    timers.push_back(std::make_unique<asio::steady_timer>(workers));
    async_count_for_ever(*timers[i],
                         timeout(std::chrono::microseconds(i % 200),
                                 [&](error_code ec, int) { ++(ec == exceeded ? late : wrong); }));
  }
  workers.join();
  BOOST_TEST(late == total);
  BOOST_TEST(wrong == 0);
}
