//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_CANCELLATION_HPP
#define BULKHEAD_TEST_SUPPORT_CANCELLATION_HPP

#include "tokens.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/test/unit_test.hpp>

#include <optional>
#include <thread>

// Cancels one operation in every way and at every moment.
//
// The operation is given as in tokens.hpp, and it must really wait until proceed(). A signal
// keeps what it goes on with from starting. Two more members of the fixture are used if they exist:
//
//   destroy()   ends the object; also after the operation has completed
//   restored()  checks that nothing was lost once the operation and proceed() are both done

namespace test {

inline constexpr asio::cancellation_type all_cancellation_types[] = {
    asio::cancellation_type::terminal, asio::cancellation_type::partial,
    asio::cancellation_type::total};

namespace detail {

template <class Fixture>
void destroy(Fixture& f) {
  if constexpr (requires { f.destroy(); }) f.destroy();
}

template <class Fixture>
void restored(Fixture& f) {
  if constexpr (requires { f.restored(); }) f.restored();
}

// Tells a success from an abort; anything else fails the test.
template <class Check>
struct either {
  Check check;
  bool* aborted;

  template <class Error, class... T>
  void operator()(Error e, T... values) {
    *aborted = code_of(e) == asio::error::operation_aborted;
    if (!*aborted) check(e, std::move(values)...);
  }
};

template <class Fixture, class Handler>
void start(Fixture& f, asio::cancellation_signal& signal, Handler handler) {
  initiation_scope scope;
  f.initiate(asio::bind_cancellation_slot(signal.slot(), std::move(handler)));
}

template <class Make, class Check>
void cancel_one_type(Make& make, Check& check, asio::cancellation_type type) {
  using result = either<Check>;

  BOOST_TEST_CONTEXT("emitted before the start: not seen, and not in the way") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    signal.emit(type);
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    poll(p.context);
    BOOST_TEST(p.calls == 0);
    f->proceed();
    p.finish();
    BOOST_TEST(!aborted);
    f->settle();
    restored(*f);
  }
  BOOST_TEST_CONTEXT("while waiting") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    poll(p.context);
    BOOST_TEST(p.calls == 0);
    {
      initiation_scope scope; // emit() must not run the handler either
      signal.emit(type);
    }
    BOOST_TEST(p.calls == 0);
    p.finish();
    BOOST_TEST(aborted);
    signal.emit(type);
    f->proceed();
    f->settle();
    restored(*f);
    BOOST_TEST(p.calls == 1);
  }
  BOOST_TEST_CONTEXT("twice") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    signal.emit(type);
    signal.emit(type);
    p.finish();
    BOOST_TEST(aborted);
    f->proceed();
    f->settle();
    restored(*f);
  }
  BOOST_TEST_CONTEXT("a type that is none is not seen") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    signal.emit(asio::cancellation_type::none);
    poll(p.context);
    BOOST_TEST(p.calls == 0);
    f->proceed();
    p.finish();
    BOOST_TEST(!aborted);
    f->settle();
    restored(*f);
  }
  BOOST_TEST_CONTEXT("after completion, and after the object's end") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    f->proceed();
    p.finish();
    BOOST_TEST(!aborted);
    signal.emit(type);
    f->settle();
    restored(*f);
    destroy(*f);
    signal.emit(type);
    f.reset();
    signal.emit(type);
    poll(p.context);
    BOOST_TEST(p.calls == 1);
  }
  BOOST_TEST_CONTEXT("between completion and the handler: a success stays one") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    f->proceed();
    f->settle();
    signal.emit(type);
    p.finish();
    BOOST_TEST(aborted == goes_on(*f));
    restored(*f);
  }
  BOOST_TEST_CONTEXT("the signal is destroyed first") {
    auto f = make();
    probe p;
    bool aborted = false;
    {
      asio::cancellation_signal signal;
      start(*f, signal, probe_handler<result>(p, {check, &aborted}));
    }
    f->proceed();
    p.finish();
    BOOST_TEST(!aborted);
    f->settle();
    restored(*f);
  }
  BOOST_TEST_CONTEXT("the handler destroys the signal") {
    auto f = make();
    probe p;
    std::optional<asio::cancellation_signal> signal(std::in_place);
    bool aborted = false;
    auto last = [&, r = result{check, &aborted}](auto... args) mutable {
      signal.reset();
      r(std::move(args)...);
    };
    start(*f, *signal, probe_handler<decltype(last)>(p, last));
    signal->emit(type);
    p.finish();
    BOOST_TEST(aborted);
    f->proceed();
    f->settle();
    restored(*f);
  }
  BOOST_TEST_CONTEXT("a coroutine that waits") {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool completed = false;
    auto body = [](auto& fixture, probe& here) -> asio::awaitable<void> {
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
      auto results = co_await fixture.initiate(asio::as_tuple(asio::use_awaitable));
      ++here.calls;
      BOOST_TEST(current_executor() == handler_id);
      BOOST_TEST((code_of(std::get<0>(results)) == asio::error::operation_aborted));
    };
    asio::co_spawn(p.executor(), body(*f, p),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                     completed = true;
                     BOOST_TEST(!e);
                   }));
    poll(p.context);
    signal.emit(type);
    p.finish();
    BOOST_TEST(completed);
    f->proceed();
    f->settle();
    restored(*f);
  }
}

} // namespace detail

/// See the top of this file.
template <class Make, class Check>
void cancellation_matrix(Make make, Check check) {
  for (auto type : all_cancellation_types)
    BOOST_TEST_CONTEXT("cancellation type " << static_cast<unsigned>(type))
  detail::cancel_one_type(make, check, type);
}

/// Cancels from one thread while another lets the operation complete: one of the two wins, the
/// handler runs once, and nothing is lost.
template <class Make, class Check>
void cancellation_race(Make make, Check check, int rounds) {
  for (int i = 0; i != rounds; ++i) {
    auto f = make();
    probe p;
    asio::cancellation_signal signal;
    bool aborted = false;
    detail::start(*f, signal, probe_handler<detail::either<Check>>(p, {check, &aborted}));
    std::atomic<bool> go{false};
    std::thread canceller([&] {
      while (!go) std::this_thread::yield();
      signal.emit(all_cancellation_types[i % 3]);
    });
    go = true;
    f->proceed();
    p.finish();
    canceller.join();
    f->settle();
    detail::restored(*f);
  }
}

} // namespace test

#endif
