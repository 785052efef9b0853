//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A semaphore and its permits, from the first acquisition to the end of semaphore, context or both.

#include "../support/reference_semaphore.hpp"
#include "fuzz.hpp"

#include <bulkhead/semaphore.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::outcome;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::unbounded;
using test::check;
using test::did;
using test::same;

namespace {

// Some are beyond half a word.
constexpr std::array<std::size_t, 8> limits{1,          2,          3,           100,
                                            0xfffffffe, 0xffffffff, 0x100000000, unbounded};

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), limit_(limits[any_(limits.size())]),
        max_waiters_(any_(3) == 2 ? 3 : unbounded), tracks_holders_(any_.one_in(4)),
        polls_always_(any_.one_in(2)) {
    begin();
  }

  void play() {
    while (!any_.empty()) {
      operate();
      if (polls_always_ || any_.one_in(3)) poll();
      compare();
    }
    old_.clear();
    while (!held_.empty()) give_back(held_.size() - 1);
    end();
    poll();
    waits_.clear();
    io_.reset();
    same("handlers that are left", 1, alive_.use_count());
  }

private:
  struct held_permit {
    permit real;
    std::size_t weight;
  };

  struct wait {
    int id;
    std::unique_ptr<asio::cancellation_signal> signal;
  };

  static std::size_t sum(std::size_t a, std::size_t b) {
    return a > unbounded - b ? unbounded : a + b;
  }

  std::size_t up_to(std::size_t n) {
    const std::size_t k = any_.byte();
    return n < 256 ? k % (n + 1) : n / 255 * k;
  }

  std::size_t any_weight() {
    const std::size_t limit = reference_->look().limit;
    switch (any_(8)) {
    case 0:
      return 1;
    case 1:
      return 0;
    case 2:
      return sum(limit, 1 + any_(3));
    case 3:
      return limit - std::min<std::size_t>(limit, any_(3));
    case 4:
      return reference_->look().available;
    case 5:
      return up_to(limit);
    default:
      return sum(limit / (1 + any_(8)), any_(2));
    }
  }

  std::size_t any_limit() {
    switch (any_(6)) {
    case 0:
      return limit_;
    case 1:
      return 0;
    case 2:
      return reference_->look().in_use;
    case 3:
      return 1 + any_(4);
    case 4:
      return sum(limit_, up_to(limit_));
    default:
      return up_to(limit_);
    }
  }

  void operate() {
    switch (any_(20)) {
    case 0:
    case 1:
      return try_acquire(any_weight());
    case 2:
    case 3:
    case 4:
    case 5:
      return acquire(any_weight());
    case 6:
    case 7:
    case 8:
    case 9:
      if (!held_.empty()) give_back(any_(held_.size()));
      return;
    case 10:
      return split_any();
    case 11:
      return merge_any();
    case 12:
      return forget_any();
    case 13:
      return release();
    case 14:
      return resize(any_limit());
    case 15:
    case 16:
      return cancel_any();
    case 17:
      if (!old_.empty()) drop_old();
      return;
    case 18:
      if (any_.one_in(4)) close();
      return;
    default:
      switch (any_(6)) {
      case 0:
        if (!io_) return;
        end();
        return begin();
      case 1:
        return end_context();
      default:
        return;
      }
    }
  }

  void begin() {
    did("begin", limit_);
    tried_ = 0;
    first_id_ = last_id_ + 1;
    reference_.emplace(limit_, max_waiters_, expected_);
    real_.emplace(*io_, limit_,
                  bulkhead::semaphore_options{.max_waiters = max_waiters_,
                                              .timed_waits = 1,
                                              .track_holders = tracks_holders_});
  }

  // What is held, or granted and on its way, outlives it.
  void end() {
    did("end");
    reference_->destroy();
    real_.reset();
    for (auto& h : held_) old_.push_back(std::move(h.real));
    held_.clear();
  }

  // The semaphore outlives it. A permit on its way goes back.
  void end_context() {
    if (!io_) return;
    did("end the context");
    io_.reset();
    reference_->end_context();
    for (const test::acquisition& c : expected_)
      if (!c.code && c.id >= first_id_) reference_->give_back(c.weight);
    expected_.clear();
    same("handlers that outlive the context", 1, alive_.use_count());
  }

  void try_acquire(std::size_t weight) {
    did("try_acquire", weight);
    ++tried_;
    const error_code expected = reference_->try_acquire(weight);
    auto result = real_->try_acquire(weight);
    same("the result", expected, result ? error_code() : result.error().code);
    if (!result) return;
    same("the weight", weight, result->weight());
    held_.push_back({std::move(*result), weight});
  }

  void acquire(std::size_t weight) {
    if (!io_) return;
    did("async_acquire", weight);
    ++tried_;
    const int id = ++last_id_;
    const bool gives_back = any_.one_in(4);
    auto handler = [this, id, gives_back, count = alive_](error_code ec, permit p) {
      arrived_.push_back({id, ec, p.weight()});
      check("there is a permit, or an error", !ec == static_cast<bool>(p));
      if (!p) return;
      const bool is_old = id < first_id_ || !real_;
      if (gives_back) {
        if (!is_old) reference_->give_back(p.weight());
      } else if (is_old) {
        old_.push_back(std::move(p));
      } else {
        held_.push_back({std::move(p), arrived_.back().weight});
      }
    };
    reference_->acquire(id, weight);
    if (any_.one_in(4)) return real_->async_acquire(weight, std::move(handler));
    waits_.push_back({id, std::make_unique<asio::cancellation_signal>()});
    if (waits_.size() > 40) waits_.pop_front(); // it may wait still, and cannot be cancelled then
    real_->async_acquire(
        weight, asio::bind_cancellation_slot(waits_.back().signal->slot(), std::move(handler)));
  }

  // It waits, or has ended, or its semaphore has.
  void cancel_any() {
    if (waits_.empty()) return;
    const wait& w = waits_[any_(waits_.size())];
    did("cancel", static_cast<std::size_t>(w.id));
    using asio::cancellation_type;
    const auto type = std::array{cancellation_type::terminal, cancellation_type::partial,
                                 cancellation_type::total, cancellation_type::all,
                                 cancellation_type::none}[any_(5)];
    if (type != cancellation_type::none) reference_->cancel(w.id);
    w.signal->emit(type);
  }

  void give_back(std::size_t i) {
    did("give back", held_[i].weight);
    std::swap(held_[i], held_.back());
    reference_->give_back(held_.back().weight);
    permit p = std::move(held_.back().real);
    held_.pop_back();
    switch (any_(3)) {
    case 0:
      return p.release();
    case 1:
      return p.complete(outcome::dropped);
    default:
      return;
    }
  }

  void split_any() {
    if (held_.empty()) return;
    auto& h = held_[any_(held_.size())];
    const std::size_t n = up_to(sum(h.weight, 1));
    did("split", n);
    try {
      permit part = h.real.split(n);
      check("there is as much to split", n <= h.weight);
      same("the weight", n, part.weight());
      h.weight -= n;
      held_.push_back({std::move(part), n});
    } catch (const std::invalid_argument&) {
      check("there is too little to split", n > h.weight);
    }
  }

  void merge_any() {
    if (held_.empty()) return;
    auto& a = held_[any_(held_.size())];
    auto& b = held_.back();
    did("merge", b.weight);
    if (!old_.empty() && any_.one_in(4)) {
      bool done = true;
      try {
        a.real.merge(std::move(old_.back()));
      } catch (const std::invalid_argument&) {
        done = false;
      }
      same("whether permits of two semaphores are merged", false, done);
    }
    if (&a == &b) return;
    a.real.merge(std::move(b.real));
    check("the merged permit is empty", !b.real);
    a.weight += b.weight;
    held_.pop_back();
  }

  void forget_any() {
    if (held_.empty()) return;
    std::swap(held_[any_(held_.size())], held_.back());
    did("forget", held_.back().weight);
    reference_->forget(held_.back().weight);
    held_.back().real.forget();
    held_.pop_back();
  }

  void release() {
    const std::size_t n =
        any_.one_in(2) ? up_to(sum(reference_->forgotten(), 2)) : reference_->forgotten();
    did("release", n);
    const bool expected = reference_->release(n);
    bool done = true;
    try {
      real_->release(n);
    } catch (const std::invalid_argument&) {
      done = false;
    }
    same("whether that is possible", expected, done);
  }

  void resize(std::size_t limit) {
    did("resize", limit);
    reference_->resize(limit);
    real_->resize(limit);
  }

  void close() {
    did("close");
    reference_->close();
    real_->close();
  }

  void drop_old() {
    did("drop a permit that has outlived its semaphore");
    std::swap(old_[any_(old_.size())], old_.back());
    if (any_.one_in(4)) old_.back().forget();
    old_.pop_back();
  }

  void poll() {
    if (!io_) return;
    io_->restart();
    io_->poll();
    for (const test::acquisition& c : arrived_) {
      check("a completion is due", !expected_.empty());
      same("the next completion", expected_.front(), c);
      expected_.pop_front();
    }
    arrived_.clear();
    if (!expected_.empty()) test::diverge("the next completion", expected_.front(), "none");
  }

  void compare() {
    same("the semaphore", reference_->look(),
         test::units{real_->limit(), real_->in_use(), real_->available(), real_->waiting()});
    for (const auto& h : held_) same("the weight of a permit", h.weight, h.real.weight());
    const bulkhead::semaphore_stats s = real_->stats();
    same("the number of acquisitions", tried_, s.granted + s.rejected + s.cancelled + s.waiting);
    if (tracks_holders_) same("the number of waiters", s.waiting, real_->waiters().size());
  }

  test::choices any_;
  const std::size_t limit_;
  const std::size_t max_waiters_;
  const bool tracks_holders_;
  const bool polls_always_;

  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each handler
  std::optional<asio::io_context> io_{std::in_place};
  std::deque<test::acquisition> expected_; // of all semaphores so far
  std::vector<test::acquisition> arrived_;
  std::optional<test::reference_semaphore> reference_;
  std::deque<wait> waits_;
  std::optional<semaphore> real_;
  std::vector<held_permit> held_;
  std::vector<permit> old_; // of semaphores that are gone
  std::uint64_t tried_ = 0;
  int first_id_ = 1; // of this semaphore
  int last_id_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
