//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "queue_context.hpp"

#include <bulkhead/detail/wait/deadline.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/two_stage_cancellation.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <optional>

namespace {

namespace asio = boost::asio;
using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

constexpr auto terminal = asio::cancellation_type::terminal;

// --- gate ---

struct plain_gate final : gate {
  using gate::gate;
};

/// Two push, two threads run what is pushed.
void push_through() {
  queue_context context;
  std::optional<asio::any_io_executor> work(asio::prefer(
      asio::any_io_executor(context.get_executor()), asio::execution::outstanding_work.tracked));
  const gate_ptr<plain_gate> g(new plain_gate(context.get_executor()));
  shared<int> passed(0);
  sync::atomic<int> inside{0};
  sync::atomic<int> left{3};
  const auto pass = [&](int after) {
    return [&, after] {
      check(inside.fetch_add(1) == 0, "one passes at a time");
      check(passed.get() >= after, "in the order of arrival");
      passed.set(passed.get() + 1);
      inside.fetch_sub(1);
    };
  };
  const auto done = [&](int n) {
    if (left.fetch_sub(n) == n) work.reset();
  };
  together(
      [&] {
        g->push(pass(0));
        g->push(pass(1));
        done(2);
      },
      [&] {
        g->push(pass(0));
        done(1);
      },
      [&] { context.run(); }, [&] { context.run(); });
  check(passed.get() == 3, "all have passed");
}

const interleave::model passes("gate", "functions pass one by one, in order, and all of them",
                               &push_through);

/// Executors of the gate that count as work begin and end in two threads.
void count_work() {
  queue_context context;
  gate_ptr<plain_gate> g(new plain_gate(context.get_executor()));
  std::optional<gate_executor> work(
      gate_executor(*g).require(asio::execution::outstanding_work.tracked));
  bool ran = false;
  together(
      [&] {
        auto mine = std::move(work);
        work.reset();
        const auto other = *mine;
        mine.reset();
        other.execute([&] { ran = true; });
      },
      [&] {
        const auto other = gate_executor(*g).require(asio::execution::outstanding_work.tracked);
      },
      [&] { context.run(); });
  check(ran, "the context waits for the work of a gate");
}

const interleave::model works("gate_work", "its work is its context's", &count_work);

// --- deadline ---

using timed = deadline<std::chrono::steady_clock>;

/// A signal of the user's while the operation completes.
void emit_or_finish() {
  queue_context context;
  asio::cancellation_signal user;
  bool is_finished = false;
  int emitted = 0;
  {
    gate_ptr<timed> d(new timed(context.get_executor(), asio::any_io_executor()));
    d->listen(user.slot());
    d->slot().assign([&](asio::cancellation_type) {
      check(!is_finished, "an operation that has completed gets no signal");
      ++emitted;
    });
    together([&] { user.emit(terminal); },
             [d = std::move(d), &is_finished] {
               d->push([d, &is_finished] {
                 check(!d->finish(), "it was not the deadline");
                 is_finished = true;
               });
             },
             [&] {
               interleave::wait_until([&] { return !is_finished; });
               context.run();
             });
  }
  context.run();
  check(is_finished && emitted <= 1, "it has completed");
  user.emit(terminal); // harmless
  context.run();
}

const interleave::model
    ends("deadline", "a signal reaches an operation before its end or not at all", &emit_or_finish);

// --- two_stage_cancellation ---

/// A signal while the second stage begins.
void begin_second_stage() {
  asio::cancellation_signal user;
  const auto c = two_stage_cancellation::watch(user.slot());
  shared<int> told(0);
  bool refused = false;
  together([&] { user.emit(terminal); },
           [&] {
             if (!c->begin_second(asio::any_io_executor())) {
               refused = true;
               return;
             }
             told.set(1); // before anybody may look into the slot
             c->second().assign([&](asio::cancellation_type) { told.set(told.get() + 1); });
             two_stage_cancellation::second_has_begun(c);
           });
  check(refused ? told.get() == 0 : told.get() == 2, "it is refused, or told once");
}

const interleave::model begins("two_stage_cancellation",
                               "a signal keeps the second stage from beginning, or reaches it",
                               &begin_second_stage);

} // namespace
