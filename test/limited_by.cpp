//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
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
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::limited_by;
using bulkhead::outcome;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::timeout;

namespace {

using test::poll;
using test::run;

const error_code aborted = asio::error::operation_aborted;

permit take(semaphore& s, std::size_t weight = 1) { return s.try_acquire(weight).value(); }

using acquire_signature = void(error_code, permit);

// The operation is an acquisition of `resource`, for that can be made to wait, and shows whether it
// was started. The permit is one of `limiter`, which has a context of its own.
struct limited_fixture {
  test::background object;
  test::background other;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::optional<semaphore> limiter{std::in_place, other.context(), 3};
  std::optional<semaphore> resource{std::in_place, executor, 1};
  permit held;   // of the limiter, until proceed()
  permit locked; // of the resource, until proceed()

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return resource->async_acquire(1, limited_by(*limiter, 2, std::forward<Token>(token)));
  }

  void proceed() {
    held.release();
    locked.release();
  }

  /// Not the object's context where the handler's has not run yet: until then the operation is to start.
  void settle() {
    if (!waits_for_permit) object.finish();
    other.finish();
  }
  void destroy() {
    limiter.reset();
    resource.reset();
  }
  void restored() {
    BOOST_TEST(limiter->in_use() == 0u);
    BOOST_TEST(limiter->waiting() == 0u);
    BOOST_TEST(resource->in_use() == 0u);
    BOOST_TEST(resource->waiting() == 0u);
  }
  bool goes_on() const { return waits_for_permit; }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }

  bool waits_for_permit = false;
};

auto nothing_waits = [] { return std::make_unique<limited_fixture>(); };

auto permit_waits = [] {
  auto f = std::make_unique<limited_fixture>();
  f->held = take(*f->limiter, 2);
  f->waits_for_permit = true;
  return f;
};

auto operation_waits = [] {
  auto f = std::make_unique<limited_fixture>();
  f->locked = take(*f->resource);
  return f;
};

auto limiter_refuses = [] {
  auto f = std::make_unique<limited_fixture>();
  f->limiter->close();
  return f;
};

auto expect_success = [](error_code ec, permit p) {
  BOOST_TEST(!ec);
  BOOST_TEST(p.weight() == 1u);
};

auto expect_closed = [](error_code ec, permit p) {
  BOOST_TEST((ec == errc::closed));
  BOOST_TEST(!p);
};

// A limiter that notes how its permits were completed.
class recording_limiter final : bulkhead::detail::permit_source {
public:
  boost::system::result<permit, bulkhead::rejection> try_acquire(std::size_t weight = 1) {
    return permit(*this, weight);
  }

  template <class Token>
  auto async_acquire(std::size_t weight, Token&& token) {
    return asio::async_initiate<Token, void(error_code, permit)>(
        [this](auto handler, std::size_t w) {
          auto ex = asio::get_associated_executor(handler);
          asio::post(ex, [h = std::move(handler), p = permit(*this, w)]() mutable {
            std::move(h)(error_code(), std::move(p));
          });
        },
        token, weight);
  }

  template <class Token>
  auto async_acquire(Token&& token) {
    return async_acquire(1, std::forward<Token>(token));
  }

  std::vector<outcome> outcomes;

private:
  void give_back(std::size_t, outcome o) noexcept override { outcomes.push_back(o); }
  void forget(std::size_t) noexcept override {}
  permit_source& split(std::size_t) override { return *this; }
  void merge(permit_source&, std::size_t) noexcept override {}
};

static_assert(bulkhead::limiter<recording_limiter>);

template <class Token>
auto async_complete(asio::io_context& io, error_code ec, Token&& token) {
  return asio::async_initiate<Token, void(error_code)>(
      [&io](auto handler, error_code e) {
        asio::post(io, [h = std::move(handler), e]() mutable { std::move(h)(e); });
      },
      token, ec);
}

} // namespace

// --- tokens, executors, allocators, cancellation ------------------------------------------------

BOOST_AUTO_TEST_CASE(every_token_can_be_limited) {
  test::token_matrix<acquire_signature>(nothing_waits, expect_success);
  test::token_matrix<acquire_signature>(permit_waits, expect_success);
  test::token_matrix<acquire_signature>(operation_waits, expect_success);
}

BOOST_AUTO_TEST_CASE(every_token_reports_the_refusal_of_the_limiter) {
  test::token_matrix<acquire_signature>(limiter_refuses, expect_closed);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor_else_on_that_of_the_io_object) {
  auto any = [](error_code, permit) {};
  test::executor_matrix(nothing_waits, any);
  test::executor_matrix(permit_waits, any);
  test::executor_matrix(operation_waits, any);
  test::executor_matrix(limiter_refuses, any);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(what_need_not_wait_completes_on_an_associated_immediate_executor) {
  BOOST_TEST(test::completes_at_once(nothing_waits, expect_success));
  BOOST_TEST(test::completes_at_once(limiter_refuses, expect_closed));
  // The permit has to, the operation has not:
  BOOST_TEST(test::completes_at_once(permit_waits, expect_success));
  BOOST_TEST(!test::completes_at_once(operation_waits, expect_success));
}
#endif

BOOST_AUTO_TEST_CASE(it_can_be_cancelled_while_it_waits_for_the_permit) {
  test::cancellation_matrix(permit_waits, expect_success);
}

BOOST_AUTO_TEST_CASE(it_can_be_cancelled_while_the_operation_runs) {
  test::cancellation_matrix(operation_waits, expect_success);
}

BOOST_AUTO_TEST_CASE(a_grant_and_a_cancellation_exclude_each_other) {
  test::cancellation_race(permit_waits, expect_success, test::scaled(400));
}

namespace {

using submit_signature = void(std::exception_ptr, int);

struct limited_submit_fixture {
  bulkhead::pool workers{1};
  test::background other;
  semaphore limiter{other.context(), 1};
  permit held;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return workers.async_submit([] { return 42; }, limited_by(limiter, std::forward<Token>(token)));
  }

  void proceed() { held.release(); }
  void settle() {
    other.finish();
    workers.join();
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(signatures_with_an_exception_ptr_can_be_limited_with_every_token) {
  auto expect_value = [](std::exception_ptr e, int value) {
    BOOST_TEST(!e);
    BOOST_TEST(value == 42);
  };
  test::token_matrix<submit_signature>([] { return std::make_unique<limited_submit_fixture>(); },
                                       expect_value);
  test::token_matrix<submit_signature>(
      [] {
        auto f = std::make_unique<limited_submit_fixture>();
        f->held = take(f->limiter);
        return f;
      },
      expect_value);
  test::token_matrix<submit_signature>(
      [] {
        auto f = std::make_unique<limited_submit_fixture>();
        f->limiter.close();
        return f;
      },
      [](std::exception_ptr e, int value) {
        BOOST_TEST((test::code_of(e) == errc::closed));
        BOOST_TEST(value == 0);
      });
}

// --- what it promises ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_operation_starts_inside_the_initiating_function_when_a_permit_is_free) {
  asio::io_context io;
  semaphore limiter(io, 1);
  semaphore resource(io, 1);
  permit locked = take(resource);
  resource.async_acquire(1, limited_by(limiter, [](error_code, permit) {}));
  BOOST_TEST(limiter.in_use() == 1u);
  BOOST_TEST(resource.waiting() == 1u);
}

BOOST_AUTO_TEST_CASE(an_operation_does_not_start_before_its_permit_is_granted) {
  asio::io_context io;
  semaphore limiter(io, 1);
  semaphore resource(io, 1);
  permit held = take(limiter);
  permit locked = take(resource);
  resource.async_acquire(1, limited_by(limiter, [](error_code, permit) {}));
  poll(io);
  BOOST_TEST(limiter.waiting() == 1u);
  BOOST_TEST(resource.waiting() == 0u);
  held.release();
  poll(io);
  BOOST_TEST(resource.waiting() == 1u);
}

BOOST_AUTO_TEST_CASE(operations_get_their_permits_in_the_order_in_which_they_were_initiated) {
  asio::io_context io;
  semaphore limiter(io, 1);
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  std::vector<int> order;
  for (int i = 0; i != 5; ++i) {
    timers.push_back(std::make_unique<asio::steady_timer>(io, 0s));
    timers.back()->async_wait(limited_by(limiter, [&order, i](error_code) { order.push_back(i); }));
  }
  run(io);
  const std::vector<int> expected{0, 1, 2, 3, 4};
  BOOST_TEST(order == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_permit_is_back_before_the_handler_runs) {
  asio::io_context io;
  semaphore limiter(io, 1);
  asio::steady_timer timer(io, 0s);
  bool called = false;
  timer.async_wait(limited_by(limiter, [&](error_code ec) {
    called = true;
    BOOST_TEST(!ec);
    BOOST_TEST(limiter.in_use() == 0u);
  }));
  BOOST_TEST(limiter.in_use() == 1u);
  run(io);
  BOOST_TEST(called);
}

BOOST_AUTO_TEST_CASE(the_weight_is_what_it_acquires) {
  asio::io_context io;
  semaphore limiter(io, 5);
  asio::steady_timer timer(io, 0s);
  timer.async_wait(limited_by(limiter, 3, [](error_code) {}));
  BOOST_TEST(limiter.in_use() == 3u);
  run(io);
  error_code refused;
  timer.async_wait(limited_by(limiter, 6, [&](error_code ec) { refused = ec; }));
  BOOST_TEST(!refused);
  run(io);
  BOOST_TEST((refused == errc::exceeds_limit));
}

BOOST_AUTO_TEST_CASE(cancelling_while_it_waits_for_the_permit_never_starts_the_operation) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    semaphore limiter(io, 1);
    semaphore resource(io, 1);
    permit held = take(limiter);
    asio::cancellation_signal signal;
    error_code result;
    resource.async_acquire(
        1, limited_by(limiter, asio::bind_cancellation_slot(
                                   signal.slot(), [&](error_code ec, permit) { result = ec; })));
    signal.emit(type);
    held.release();
    run(io);
    BOOST_TEST(result == aborted);
    BOOST_TEST(resource.in_use() == 0u);
    BOOST_TEST(limiter.in_use() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_cancellation_between_the_grant_and_the_start_is_not_lost) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    semaphore limiter(io, 1);
    asio::steady_timer timer(io, std::chrono::hours(1));
    permit held = take(limiter);
    asio::cancellation_signal signal;
    error_code result;
    timer.async_wait(limited_by(
        limiter, asio::bind_cancellation_slot(signal.slot(), [&](error_code ec) { result = ec; })));
    held.release();    // granted, and its handler on its way
    signal.emit(type); // too late for the wait
    run(io);           // does not take an hour
    BOOST_TEST(result == aborted);
    BOOST_TEST(limiter.in_use() == 0u);
  }
}

// An operation that has begun to start and has not put anything into its slot yet.
BOOST_AUTO_TEST_CASE(a_cancellation_from_another_thread_during_the_start_is_not_lost) {
  for (bool waits : {false, true}) {
    asio::io_context io;
    semaphore limiter(io, 1);
    semaphore resource(io, 1);
    permit locked = take(resource);
    permit held;
    if (waits) held = take(limiter);
    asio::cancellation_signal signal;
    std::thread canceller;
    auto initiation = [&](auto handler) {
      canceller = std::thread([&] { signal.emit(asio::cancellation_type::total); });
      canceller.join();
      resource.async_acquire(1, std::move(handler));
    };
    std::optional<error_code> result;
    auto token = limited_by(
        limiter,
        asio::bind_cancellation_slot(signal.slot(), [&](error_code ec, permit) { result = ec; }));
    asio::async_initiate<decltype(token), void(error_code, permit)>(initiation, token);
    held.release();
    poll(io);
    BOOST_REQUIRE(result);
    BOOST_TEST(*result == aborted);
    BOOST_TEST(resource.waiting() == 0u);
    BOOST_TEST(limiter.in_use() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_signal_may_come_after_the_end_of_everything) {
  asio::cancellation_signal signal;
  {
    asio::io_context io;
    semaphore limiter(io, 1);
    asio::steady_timer timer(io, 0s);
    timer.async_wait(
        limited_by(limiter, asio::bind_cancellation_slot(signal.slot(), [](error_code) {})));
    run(io);
    signal.emit(asio::cancellation_type::terminal);
  }
  signal.emit(asio::cancellation_type::terminal);
}

BOOST_AUTO_TEST_CASE(the_permit_comes_back_when_the_operation_is_destroyed) {
  test::background other;
  semaphore limiter(other.context(), 1);
  {
    asio::io_context io;
    asio::steady_timer timer(io, std::chrono::hours(1));
    timer.async_wait(limited_by(limiter, [](error_code) {}));
    BOOST_TEST(limiter.in_use() == 1u);
  }
  BOOST_TEST(limiter.in_use() == 0u);
}

BOOST_AUTO_TEST_CASE(an_operation_that_waits_for_its_permit_ends_with_its_context) {
  test::background other;
  semaphore limiter(other.context(), 1);
  permit held = take(limiter);
  std::atomic<int> alive{0};
  {
    asio::io_context io;
    asio::steady_timer timer(io, std::chrono::hours(1));
    timer.async_wait(limited_by(limiter, [l = test::live(alive)](error_code) {}));
    BOOST_TEST(limiter.waiting() == 1u);
    BOOST_TEST(alive == 1);
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(limiter.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(
    the_context_of_the_io_object_has_work_while_the_operation_waits_for_its_permit) {
  asio::io_context io, handlers;
  semaphore limiter(handlers, 1);
  asio::steady_timer timer(io, 0ms);
  std::optional<error_code> completed;
  const auto start = [&] {
    completed.reset();
    timer.async_wait(
        limited_by(limiter, asio::bind_executor(handlers, [&](error_code ec) { completed = ec; })));
  };

  std::optional<permit> held(take(limiter));
  start();
  io.poll();
  BOOST_TEST(!io.stopped());
  held.reset();
  poll(handlers); // starts it
  run(io);
  run(handlers);
  BOOST_TEST((completed == error_code()));

  // And no longer.
  held.emplace(take(limiter));
  start();
  limiter.close();
  run(handlers);
  BOOST_TEST((completed == error_code(errc::closed)));
  run(io);
}

BOOST_AUTO_TEST_CASE(
    the_context_of_the_io_object_may_end_while_the_operation_waits_for_its_permit) {
  asio::io_context handlers;
  semaphore limiter(handlers, 1);
  const permit held = take(limiter);
  asio::cancellation_signal signal;
  std::optional<error_code> completed;
  {
    asio::io_context io;
    asio::steady_timer timer(io, std::chrono::hours(1));
    timer.async_wait(limited_by(
        limiter,
        asio::bind_executor(handlers, asio::bind_cancellation_slot(
                                          signal.slot(), [&](error_code ec) { completed = ec; }))));
  }
  signal.emit(asio::cancellation_type::terminal);
  run(handlers);
  BOOST_TEST((completed == aborted));
}

BOOST_AUTO_TEST_CASE(the_context_of_the_io_object_may_end_while_its_wait_is_being_cancelled) {
  for (int i = 0; i != test::scaled(1000); ++i) {
    test::background handlers;
    semaphore limiter(handlers.context(), 1);
    const permit held = take(limiter);
    asio::cancellation_signal signal;
    auto io = std::make_unique<asio::io_context>();
    auto timer = std::make_unique<asio::steady_timer>(*io, std::chrono::hours(1));
    auto done = std::make_shared<std::promise<void>>();
    timer->async_wait(limited_by(
        limiter, asio::bind_executor(handlers.context(), asio::bind_cancellation_slot(
                                                             signal.slot(), [done](error_code) {
                                                               done->set_value();
                                                             }))));
    timer.reset();
    std::thread ends([&] { io.reset(); });
    signal.emit(asio::cancellation_type::terminal);
    done->get_future().get();
    ends.join();
  }
}

BOOST_AUTO_TEST_CASE(the_end_of_the_limiter_aborts_what_waits_for_it_and_leaves_what_runs_alone) {
  asio::io_context io;
  std::optional<semaphore> limiter(std::in_place, io, 1);
  asio::steady_timer timer(io, 1ms);
  asio::steady_timer never(io, std::chrono::hours(1));
  error_code first, second;
  timer.async_wait(limited_by(*limiter, [&](error_code ec) { first = ec; }));
  never.async_wait(limited_by(*limiter, [&](error_code ec) { second = ec; }));
  limiter.reset();
  run(io);
  BOOST_TEST(!first);
  BOOST_TEST(second == aborted);
}

BOOST_AUTO_TEST_CASE(the_error_of_the_operation_is_the_outcome_of_the_permit) {
  asio::io_context io;
  recording_limiter limiter;
  auto complete_with = [&](error_code ec) {
    async_complete(io, ec, limited_by(limiter, asio::bind_executor(io, asio::detached)));
    run(io);
  };
  complete_with({});
  complete_with(aborted);
  complete_with(errc::deadline_exceeded);
  complete_with(asio::error::connection_reset);
  const std::vector<outcome> expected{outcome::success, outcome::ignored, outcome::dropped,
                                      outcome::failure};
  BOOST_TEST((limiter.outcomes == expected));
}

BOOST_AUTO_TEST_CASE(an_exception_is_a_failure) {
  asio::io_context io;
  recording_limiter limiter;
  auto throwing = []() -> asio::awaitable<void> {
    throw std::runtime_error("no");
    co_return;
  };
  std::exception_ptr error;
  asio::co_spawn(
      io, throwing,
      limited_by(limiter, asio::bind_executor(io, [&](std::exception_ptr e) { error = e; })));
  run(io);
  BOOST_TEST(static_cast<bool>(error));
  BOOST_TEST((limiter.outcomes == std::vector{outcome::failure}));
}

BOOST_AUTO_TEST_CASE(limiters_stack_and_the_inner_one_is_acquired_first_and_released_last) {
  asio::io_context io;
  semaphore outer(io, 1);
  semaphore inner(io, 1);
  permit held = take(outer);
  asio::steady_timer timer(io, 0s);
  bool called = false;
  timer.async_wait(limited_by(outer, limited_by(inner, [&](error_code) {
                                called = true;
                                BOOST_TEST(outer.in_use() == 0u);
                                BOOST_TEST(inner.in_use() == 0u);
                              })));
  BOOST_TEST(inner.in_use() == 1u);
  BOOST_TEST(outer.waiting() == 1u);
  held.release();
  run(io);
  BOOST_TEST(called);
}

BOOST_AUTO_TEST_CASE(a_deferred_operation_acquires_nothing_until_it_is_started) {
  asio::io_context io;
  semaphore limiter(io, 1);
  asio::steady_timer timer(io, 0s);
  auto operation = timer.async_wait(limited_by(limiter, asio::deferred));
  BOOST_TEST(limiter.in_use() == 0u);
  int calls = 0;
  operation([&](error_code) { ++calls; }); // an lvalue can be started again
  BOOST_TEST(limiter.in_use() == 1u);
  run(io);
  std::move(operation)([&](error_code) { ++calls; });
  run(io);
  BOOST_TEST(calls == 2);
}

BOOST_AUTO_TEST_CASE(a_token_can_be_kept_and_used_again) {
  asio::io_context io;
  semaphore limiter(io, 1);
  asio::steady_timer timer(io, 0s);
  const auto token = limited_by(limiter, asio::use_awaitable);
  int done = 0;
  auto twice = [&]() -> asio::awaitable<void> {
    co_await timer.async_wait(token);
    co_await timer.async_wait(token);
    ++done;
  };
  asio::co_spawn(io, twice, asio::detached);
  run(io);
  BOOST_TEST(done == 1);
}

BOOST_AUTO_TEST_CASE(a_token_with_a_callback_can_be_kept_and_used_again) {
  asio::io_context io;
  semaphore limiter(io, 1);
  asio::steady_timer timer(io, 0s);
  auto calls = std::make_shared<int>(0);
  auto token = limited_by(limiter, [calls](error_code) {
    if (calls) ++*calls;
  });
  timer.async_wait(token);
  timer.async_wait(token);
  timer.async_wait(std::move(token));
  run(io);
  BOOST_TEST(*calls == 3);
}

BOOST_AUTO_TEST_CASE(as_tuple_works_inside_and_outside) {
  asio::io_context io;
  semaphore limiter(io, 1);
  limiter.close();
  asio::steady_timer timer(io, 0s);
  std::vector<error_code> seen;
  auto both = [&]() -> asio::awaitable<void> {
    auto [inside] =
        co_await timer.async_wait(limited_by(limiter, asio::as_tuple(asio::use_awaitable)));
    seen.push_back(inside);
    auto [outside] =
        co_await timer.async_wait(asio::as_tuple(limited_by(limiter, asio::use_awaitable)));
    seen.push_back(outside);
  };
  asio::co_spawn(io, both, asio::detached);
  run(io);
  BOOST_REQUIRE(seen.size() == 2u);
  BOOST_TEST((seen[0] == errc::closed));
  BOOST_TEST((seen[1] == errc::closed));
}

// --- with all kinds of operations ----------------------------------------------------------------

namespace {

asio::awaitable<void> echo_once(asio::ip::tcp::acceptor& acceptor) {
  auto socket = co_await acceptor.async_accept(asio::use_awaitable);
  std::array<char, 5> data{};
  co_await asio::async_read(socket, asio::buffer(data), asio::use_awaitable);
  co_await asio::async_write(socket, asio::buffer(data), asio::use_awaitable);
}

// Waits for a timer as often as it is told, and completes with that number.
template <class Token>
auto async_count(asio::steady_timer& timer, int n, Token&& token) {
  return asio::async_compose<Token, void(error_code, int)>(
      [&timer, n, i = 0](auto& self, error_code ec = {}) mutable {
        if (ec || i == n) return self.complete(ec, i);
        ++i;
        timer.expires_after(0s);
        timer.async_wait(std::move(self));
      },
      token, timer);
}

} // namespace

BOOST_AUTO_TEST_CASE(sockets_composed_operations_channels_and_coroutines_can_be_limited) {
  asio::io_context io;
  semaphore s(io, 1);
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  bool done = false;
  auto client = [&]() -> asio::awaitable<void> {
    asio::ip::tcp::socket socket(io);
    co_await socket.async_connect(acceptor.local_endpoint(), limited_by(s, asio::use_awaitable));
    const std::string hello = "hello";
    co_await asio::async_write(socket, asio::buffer(hello), limited_by(s, asio::use_awaitable));
    std::array<char, 5> data{};
    const auto n =
        co_await asio::async_read(socket, asio::buffer(data), limited_by(s, asio::use_awaitable));
    BOOST_TEST(n == 5u);
    BOOST_TEST(std::string(data.data(), n) == hello);

    asio::steady_timer timer(io);
    BOOST_TEST(co_await async_count(timer, 3, limited_by(s, asio::use_awaitable)) == 3);

    asio::experimental::channel<void(error_code, std::string)> channel(io, 1);
    channel.try_send(error_code(), "through the channel");
    const auto text = co_await channel.async_receive(limited_by(s, asio::use_awaitable));
    BOOST_TEST(text == "through the channel");

    auto child = []() -> asio::awaitable<int> { co_return 7; };
    BOOST_TEST(co_await asio::co_spawn(io, child, limited_by(s, asio::use_awaitable)) == 7);
    BOOST_TEST(s.in_use() == 0u);
    done = true;
  };
  asio::co_spawn(io, echo_once(acceptor), asio::detached);
  asio::co_spawn(io, client, [](std::exception_ptr e) { BOOST_TEST(!e); });
  run(io);
  BOOST_TEST(done);
}

// --- under load ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(no_more_than_the_limit_run_at_once_on_any_number_of_threads) {
  asio::thread_pool threads(3);
  semaphore limiter(threads, 4);
  std::atomic<int> running{0}, most{0}, completed{0};
  const int total = test::scaled(20'000);
  {
    bulkhead::pool workers(3);
    for (int i = 0; i != total; ++i)
      workers.async_submit(
          [&] {
            const int now = ++running;
            for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
            }
            --running;
          },
          limited_by(limiter, asio::bind_executor(threads, [&](std::exception_ptr e) {
                       if (!e) ++completed;
                     })));
    while (completed != total) std::this_thread::yield();
    workers.join();
  }
  threads.join();
  BOOST_TEST(completed == total);
  BOOST_TEST(most <= 4);
  BOOST_TEST(limiter.in_use() == 0u);
}

// Every operation completes once, cancelled or not, and every permit comes back. A signal is emitted
// where Asio wants it, on the strand of its operation.
BOOST_AUTO_TEST_CASE(permits_are_conserved_while_waits_and_operations_are_cancelled) {
  asio::thread_pool threads(3);
  semaphore limiter(threads, 2);
  semaphore resource(threads, 3);
  const int total = test::scaled(20'000);
  std::atomic<int> granted{0}, cancelled{0}, wrong{0};
  struct attempt {
    explicit attempt(asio::thread_pool& t) : strand(asio::make_strand(t.get_executor())) {}

    asio::strand<asio::thread_pool::executor_type> strand;
    asio::cancellation_signal signal;
  };
  for (int i = 0; i != total; ++i) {
    auto a = std::make_shared<attempt>(threads);
    asio::post(a->strand, [&, a, i] {
      resource.async_acquire(
          1,
          limited_by(limiter, asio::bind_cancellation_slot(
                                  a->signal.slot(),
                                  asio::bind_executor(a->strand, [&, a](error_code ec, permit p) {
                                    if (!ec && p)
                                      ++granted;
                                    else if (ec == aborted && !p)
                                      ++cancelled;
                                    else
                                      ++wrong;
                                  }))));
      if (i % 3 == 0)
        asio::post(a->strand, [a] { a->signal.emit(asio::cancellation_type::total); });
    });
  }
  threads.join();
  BOOST_TEST(granted + cancelled == total);
  BOOST_TEST(wrong == 0);
  BOOST_TEST(limiter.in_use() == 0u);
  BOOST_TEST(resource.in_use() == 0u);
}
