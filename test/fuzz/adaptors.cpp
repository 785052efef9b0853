//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// timeout() and limited_by() around an operation, stacked in several ways: when the operation starts,
// what becomes of the permits, and with which error all of it completes.

#include "../support/manual_clock.hpp"

#include <boost/asio/wait_traits.hpp>

#include <chrono>

namespace {

/// So that a timer that is due is seen by the next poll, and not by one a moment later.
struct polled_clock : test::manual_clock {};

} // namespace

template <>
struct boost::asio::wait_traits<polled_clock> {
  static std::chrono::nanoseconds to_wait_duration(const polled_clock::duration&) {
    return std::chrono::nanoseconds(0);
  }
  static std::chrono::nanoseconds to_wait_duration(const polled_clock::time_point&) {
    return std::chrono::nanoseconds(0);
  }
};

#include "../support/reference_semaphore.hpp"
#include "fuzz.hpp"
#include "switchboard.hpp"

#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::cancellation_type;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::limited_by;
using bulkhead::permit;
using bulkhead::semaphore;
using test::check;
using test::did;
using test::same;

namespace {

constexpr std::size_t limiters = 2, most_waiters = 4;

template <class Token>
auto timeout(std::chrono::nanoseconds d, Token&& token) {
  return bulkhead::timeout<polled_clock>(d, std::forward<Token>(token));
}

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), io_(std::in_place), board_(*io_) {
    for (auto& l : limiters_) {
      const std::size_t limit = 1 + any_(4);
      l.reference.emplace(limit, most_waiters, l.completions);
      l.real.emplace(*io_, limit, bulkhead::semaphore_options{.max_waiters = most_waiters});
    }
  }

  void play() {
    while (!any_.empty()) {
      operate();
      poll();
      compare();
    }
    if (any_.one_in(4)) {
      did("end the context");
      board_.drop_all();
      io_.reset();
    } else {
      finish();
    }
    for (auto& l : limiters_) l.held.clear();
    same("handlers that are left", 1, alive_.use_count());
  }

private:
  /// What is around an operation, the outermost first: it is entered first, and left last.
  struct layer {
    int limiter = -1; // or else it is a deadline
    std::size_t weight = 0;
    std::chrono::nanoseconds duration{0};

    bool is_active = false; // the permit is held, or the deadline counts
    bool is_expired = false, is_cancelled = false;
    polled_clock::time_point due{};
  };

  struct operation {
    std::vector<layer> layers;
    std::size_t at =
        0; // the layer whose permit is waited for; the operation itself if there is none
    cancellation_type heeds;
    std::unique_ptr<asio::cancellation_signal> signal =
        std::make_unique<asio::cancellation_signal>();
    bool has_ended = false, is_expected = false;
    error_code expected{};
  };

  struct limiter {
    std::deque<test::acquisition> completions{};
    std::optional<test::reference_semaphore> reference{};
    std::optional<semaphore> real{};
    std::vector<permit> held{};
  };

  // --- the model

  /// Goes inwards from layer `at`.
  void enter(int id, std::size_t at) {
    operation& o = operations_.at(id);
    for (o.at = at; o.at != o.layers.size(); ++o.at) {
      layer& l = o.layers[o.at];
      if (l.limiter == -1) {
        l.is_active = true;
        l.due = polled_clock::now() + l.duration;
      } else {
        limiter& of = limiters_[static_cast<std::size_t>(l.limiter)];
        const std::size_t before = of.completions.size();
        of.reference->acquire(id, l.weight);
        if (of.completions.size() == before) return; // it waits
        const error_code ec = of.completions.back().code;
        of.completions.pop_back();
        if (ec) return leave(id, ec);
        l.is_active = true;
      }
    }
  }

  /// Goes outwards with an error, or none.
  void leave(int id, error_code ec) {
    operation& o = operations_.at(id);
    for (std::size_t i = std::min(o.at + 1, o.layers.size()); i != 0; --i) {
      layer& l = o.layers[i - 1];
      if (!std::exchange(l.is_active, false)) continue;
      if (l.limiter != -1)
        limiters_[static_cast<std::size_t>(l.limiter)].reference->give_back(l.weight);
      else if (l.is_expired && ec == asio::error::operation_aborted)
        ec = errc::deadline_exceeded;
    }
    o.expected = ec;
    o.is_expected = true;
    serve();
  }

  /// What was granted goes on, what was refused ends.
  void serve() {
    if (std::exchange(serves_, true)) return;
    for (bool again = true; std::exchange(again, false);)
      for (auto& l : limiters_)
        while (!l.completions.empty()) {
          again = true;
          const test::acquisition c = l.completions.front();
          l.completions.pop_front();
          operation& o = operations_.at(c.id);
          if (c.code) {
            leave(c.id, c.code);
          } else {
            o.layers[o.at].is_active = true;
            enter(c.id, o.at + 1);
          }
        }
    serves_ = false;
  }

  /// A signal, on its way inwards from layer `from`.
  void signal(int id, std::size_t from, cancellation_type type) {
    operation& o = operations_.at(id);
    if (o.is_expected) return;
    for (std::size_t i = from; i != o.at; ++i)
      if (layer& l = o.layers[i]; l.limiter == -1 && !l.is_expired &&
                                  (type & cancellation_type::terminal) != cancellation_type::none)
        l.is_cancelled = true;
    if (o.at != o.layers.size()) {
      limiters_[static_cast<std::size_t>(o.layers[o.at].limiter)].reference->cancel(id);
      serve();
    } else if ((type & o.heeds) != cancellation_type::none) {
      leave(id, asio::error::operation_aborted);
    }
  }

  /// Deadlines that are due, the first first.
  void expire() {
    for (;;) {
      layer* first = nullptr;
      std::pair<int, std::size_t> where;
      for (auto& [id, o] : operations_)
        for (std::size_t i = 0; i != o.layers.size() && !o.is_expected; ++i)
          if (layer& l = o.layers[i]; l.limiter == -1 && l.is_active && !l.is_expired &&
                                      !l.is_cancelled && l.due <= polled_clock::now() &&
                                      (!first || l.due < first->due)) {
            first = &l;
            where = {id, i};
          }
      if (!first) return;
      did("  (a deadline of)", static_cast<std::size_t>(where.first));
      first->is_expired = true;
      signal(where.first, where.second + 1, cancellation_type::terminal);
    }
  }

  // --- both

  limiter& any_limiter() { return limiters_[any_(limiters)]; }

  void operate() {
    switch (any_(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return start();
    case 4:
    case 5:
      return complete();
    case 6:
    case 7:
      return cancel();
    case 8:
      return advance();
    case 9: {
      limiter& l = any_limiter();
      const std::size_t weight = any_(4);
      did("try_acquire", weight);
      const error_code expected = l.reference->try_acquire(weight);
      auto result = l.real->try_acquire(weight);
      same("the result", expected, result ? error_code() : result.error().code);
      if (result) l.held.push_back(std::move(*result));
      return;
    }
    case 10: {
      limiter& l = any_limiter();
      if (l.held.empty()) return;
      did("release", l.held.back().weight());
      l.reference->give_back(l.held.back().weight());
      l.held.pop_back();
      return serve();
    }
    default: {
      limiter& l = any_limiter();
      const std::size_t limit = any_(5);
      did("resize", limit);
      l.reference->resize(limit);
      l.real->resize(limit);
      return serve();
    }
    }
  }

  layer any_deadline() {
    layer l;
    // No two are due at the same time; a few have passed before they begin.
    constexpr std::chrono::nanoseconds apart(1'000'000'000);
    const auto since = polled_clock::now().time_since_epoch() % apart;
    l.duration = (static_cast<int>(any_(8)) - 1) * apart - since +
                 std::chrono::nanoseconds(++last_deadline_);
    return l;
  }

  layer any_permit() {
    layer l;
    l.limiter = static_cast<int>(any_(limiters));
    l.weight = any_(4);
    return l;
  }

  void start() {
    const int id = ++last_id_;
    operation& o = operations_[id];
    o.heeds = std::array{cancellation_type::all, cancellation_type::terminal,
                         cancellation_type::none}[any_(3)];
    const unsigned shape = any_(7);
    did(std::array{"start with a deadline", "start with a permit",
                   "start with a deadline around a permit", "start with a permit around a deadline",
                   "start with two permits", "start with two deadlines",
                   "start with deadlines around a permit and in it"}[shape],
        static_cast<std::size_t>(id));
    auto handler = asio::bind_cancellation_slot(
        o.signal->slot(), asio::bind_executor(*io_, [this, id, count = alive_](error_code ec) {
          operation& done = operations_.at(id);
          did("  (completion)", static_cast<std::size_t>(id));
          check("it completes when it may", done.is_expected);
          check("it completes once", !std::exchange(done.has_ended, true));
          same("the error", done.expected, ec);
        }));
    auto begin = [&](std::vector<layer> layers) {
      o.layers = std::move(layers);
      enter(id, 0);
      expire();
      return board_.async_wait(id, o.heeds);
    };
    auto of = [this](const layer& l) -> semaphore& {
      return *limiters_[static_cast<std::size_t>(l.limiter)].real;
    };
    switch (shape) {
    case 0: {
      const layer d = any_deadline();
      return begin({d})(timeout(d.duration, handler));
    }
    case 1: {
      const layer p = any_permit();
      return begin({p})(limited_by(of(p), p.weight, handler));
    }
    case 2: {
      const layer d = any_deadline(), p = any_permit();
      return begin({d, p})(limited_by(of(p), p.weight, timeout(d.duration, handler)));
    }
    case 3: {
      const layer p = any_permit(), d = any_deadline();
      return begin({p, d})(timeout(d.duration, limited_by(of(p), p.weight, handler)));
    }
    case 4: {
      const layer p = any_permit(), q = any_permit();
      return begin({p, q})(limited_by(of(q), q.weight, limited_by(of(p), p.weight, handler)));
    }
    case 5: {
      const layer d = any_deadline(), e = any_deadline();
      return begin({d, e})(timeout(e.duration, timeout(d.duration, handler)));
    }
    default: {
      const layer d = any_deadline(), p = any_permit(), e = any_deadline();
      return begin({d, p, e})(
          timeout(e.duration, limited_by(of(p), p.weight, timeout(d.duration, handler))));
    }
    }
  }

  void complete() {
    std::vector<int> waiting;
    for (auto& [id, o] : operations_)
      if (board_.waits(id)) waiting.push_back(id);
    if (waiting.empty()) return;
    const int id = waiting[any_(std::min<std::size_t>(waiting.size(), 256))];
    const error_code ec = std::array<error_code, 3>{error_code(), asio::error::eof,
                                                    asio::error::operation_aborted}[any_(3)];
    did("complete", static_cast<std::size_t>(id));
    leave(id, ec);
    board_.complete(id, ec);
  }

  void cancel() {
    if (operations_.empty()) return;
    auto at = operations_.begin();
    std::advance(at, any_(std::min<std::size_t>(operations_.size(), 256)));
    const auto type = std::array{cancellation_type::terminal, cancellation_type::partial,
                                 cancellation_type::total}[any_(3)];
    did("cancel", static_cast<std::size_t>(at->first));
    signal(at->first, 0, type);
    at->second.signal->emit(type);
  }

  /// To the next deadline.
  void advance() {
    std::optional<polled_clock::time_point> next;
    for (auto& [id, o] : operations_)
      for (const layer& l : o.layers)
        if (l.limiter == -1 && l.is_active && l.due > polled_clock::now() &&
            (!next || l.due < *next))
          next = l.due;
    if (!next) return;
    did("advance");
    polled_clock::advance(*next - polled_clock::now());
  }

  void poll() {
    expire();
    io_->restart();
    io_->poll();
    std::erase_if(operations_, [](const auto& o) {
      same("whether it has completed", o.second.is_expected, o.second.has_ended);
      return o.second.has_ended;
    });
  }

  void compare() {
    for (auto& l : limiters_)
      same("a limiter", l.reference->look(),
           test::units{l.real->limit(), l.real->in_use(), l.real->available(), l.real->waiting()});
    for (auto& [id, o] : operations_)
      same("whether the operation has started", o.at == o.layers.size(), board_.waits(id));
  }

  /// Every operation completes by itself in the end.
  void finish() {
    for (auto& l : limiters_) {
      did("finish");
      while (!l.held.empty()) {
        l.reference->give_back(l.held.back().weight());
        l.held.pop_back();
        serve();
        poll();
      }
      l.reference->resize(100);
      l.real->resize(100);
      serve();
      poll();
    }
    while (!operations_.empty()) {
      const int id = operations_.begin()->first;
      did("complete", static_cast<std::size_t>(id));
      check("it has started", board_.waits(id));
      leave(id, {});
      board_.complete(id, {});
      poll();
      compare();
    }
  }

  test::choices any_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each handler
  std::optional<asio::io_context> io_;
  test::switchboard board_;
  std::array<limiter, limiters> limiters_;
  std::map<int, operation> operations_;
  bool serves_ = false;
  int last_id_ = 0, last_deadline_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
