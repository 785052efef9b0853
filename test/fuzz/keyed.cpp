//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A limiter for each key: when one is made, when it is forgotten, and what goes through it meanwhile.

#include "../support/reference_semaphore.hpp"
#include "fuzz.hpp"

#include <bulkhead/limit/keyed.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/deferred.hpp>
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
#include <set>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::permit;
using bulkhead::semaphore;
using test::check;
using test::did;
using test::same;

namespace {

using limits = bulkhead::keyed<int>;
using deferred_acquire =
    decltype(std::declval<limits::handle&>().async_acquire(std::size_t(), asio::deferred));

constexpr std::size_t most_waiters = 3;

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), limit_(1 + any_(3)),
        real_(
            std::in_place,
            [this](const int&) {
              ++made_;
              return semaphore(io_, limit_, {.max_waiters = most_waiters});
            },
            bulkhead::keyed_options{.shards = 1}) {}

  void play() {
    while (!any_.empty()) {
      operate();
      if (any_.one_in(2)) poll();
      compare();
    }
    poll();
    end();
    held_.clear();
    handles_.clear();
    start_deferred();
    poll();
    waits_.clear();
    same("handlers that are left", 1, alive_.use_count());
  }

private:
  struct entry {
    test::reference_semaphore limiter;
    std::size_t handles = 0;
    std::size_t permits = 0; // on their way, too
  };

  struct held_permit {
    permit real;
    std::shared_ptr<entry> of;
  };

  struct held_handle {
    limits::handle real;
    std::shared_ptr<entry> of;
  };

  struct wait {
    std::shared_ptr<entry> of;
    std::unique_ptr<asio::cancellation_signal> signal;
  };

  int any_key() { return static_cast<int>(any_(12)); }
  std::size_t any_weight() { return any_(5); }

  // --- the model

  static bool is_idle(const entry& e) {
    const test::units u = e.limiter.look();
    return e.handles == 0 && e.permits == 0 && u.in_use == 0 && u.waiting == 0;
  }

  bool evict_next() {
    const int key = turns_.front();
    turns_.pop_front();
    if (is_idle(*entries_.at(key))) return entries_.erase(key) != 0;
    turns_.push_back(key);
    return false;
  }

  std::shared_ptr<entry> touch(int key) {
    if (const auto at = entries_.find(key); at != entries_.end()) return at->second;
    for (std::size_t looks = 4; looks != 0 && !turns_.empty(); --looks) evict_next();
    ++expected_made_;
    turns_.push_back(key);
    return entries_[key] = std::make_shared<entry>(
               entry{test::reference_semaphore(limit_, most_waiters, expected_)});
  }

  // --- both

  void operate() {
    switch (any_(14)) {
    case 0:
    case 1:
      return take_handle(any_key());
    case 2:
    case 3:
      if (!handles_.empty()) drop_handle(any_(handles_.size()));
      return;
    case 4:
      return try_acquire(any_key(), any_weight());
    case 5:
    case 6:
      return acquire(any_key(), any_weight());
    case 7:
    case 8:
      if (!held_.empty()) give_back(any_(held_.size()));
      return;
    case 9:
      return cancel_any();
    case 10: {
      did("evict_idle");
      std::size_t expected = 0;
      for (std::size_t n = turns_.size(); n != 0; --n) expected += evict_next();
      return same("the number that was evicted", expected, real_->evict_idle());
    }
    case 11:
      return change();
    case 12: {
      did("for_each");
      std::set<int> expected, found;
      for (auto& [key, e] : entries_) expected.insert(key);
      real_->for_each([&](const int& key, semaphore&) { found.insert(key); });
      return check("all are visited", expected == found);
    }
    default:
      return any_.one_in(2) ? defer(any_key(), any_weight()) : start_deferred();
    }
  }

  void take_handle(int key) {
    if (handles_.size() > 20) return;
    did("a handle of", static_cast<std::size_t>(key));
    const auto e = touch(key);
    ++e->handles;
    handles_.push_back({(*real_)[key], e});
  }

  void drop_handle(std::size_t i) {
    did("drop a handle", i);
    --handles_[i].of->handles;
    handles_.erase(handles_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void try_acquire(int key, std::size_t weight) {
    did("try_acquire", static_cast<std::size_t>(key));
    const auto e = touch(key);
    const error_code expected = e->limiter.try_acquire(weight);
    auto result = real_->try_acquire(key, weight);
    same("the result", expected, result ? error_code() : result.error().code);
    if (!result) return;
    ++e->permits;
    held_.push_back({std::move(*result), e});
  }

  /// Counts the permits that are on their way.
  void note_grants(std::size_t since) {
    for (; since != expected_.size(); ++since)
      if (!expected_[since].code) ++waits_.at(expected_[since].id).of->permits;
  }

  template <class F>
  void change_model(F f) {
    const std::size_t since = expected_.size();
    f();
    note_grants(since);
  }

  auto handler(int id, const std::shared_ptr<entry>& e) {
    wait& w = waits_[id];
    w = {e, std::make_unique<asio::cancellation_signal>()};
    return asio::bind_cancellation_slot(w.signal->slot(),
                                        [this, id, e, count = alive_](error_code ec, permit p) {
                                          arrived_.push_back({id, ec, p.weight()});
                                          if (p) held_.push_back({std::move(p), e});
                                        });
  }

  void acquire(int key, std::size_t weight) {
    const int id = ++last_id_;
    did("async_acquire", static_cast<std::size_t>(id));
    const auto e = touch(key);
    auto h = handler(id, e);
    change_model([&] { e->limiter.acquire(id, weight); });
    real_->async_acquire(key, weight, std::move(h));
  }

  /// It refers to the limiter until it is started.
  void defer(int key, std::size_t weight) {
    if (deferred_) return;
    did("defer", static_cast<std::size_t>(key));
    const auto e = touch(key);
    ++e->handles;
    deferred_.emplace(real_->async_acquire(key, weight, asio::deferred));
    deferred_of_ = e;
    deferred_weight_ = weight;
  }

  void start_deferred() {
    if (!deferred_) return;
    const int id = ++last_id_;
    did("start what was deferred", static_cast<std::size_t>(id));
    auto h = handler(id, deferred_of_);
    if (real_)
      change_model([&] { deferred_of_->limiter.acquire(id, deferred_weight_); });
    else
      expected_.push_back({id, asio::error::operation_aborted, 0});
    --deferred_of_->handles;
    auto operation = std::move(*deferred_);
    deferred_.reset();
    std::move(operation)(std::move(h));
  }

  void cancel_any() {
    if (waits_.empty()) return;
    auto at = waits_.begin();
    std::advance(at, any_(std::min<std::size_t>(waits_.size(), 256)));
    did("cancel", static_cast<std::size_t>(at->first));
    change_model([&] { at->second.of->limiter.cancel(at->first); });
    at->second.signal->emit(std::array{asio::cancellation_type::terminal,
                                       asio::cancellation_type::partial,
                                       asio::cancellation_type::total}[any_(3)]);
  }

  void give_back(std::size_t i) {
    did("give back", held_[i].real.weight());
    std::swap(held_[i], held_.back());
    held_permit h = std::move(held_.back());
    held_.pop_back();
    --h.of->permits;
    change_model([&] { h.of->limiter.give_back(h.real.weight()); });
    h.real.release();
  }

  void change() {
    if (handles_.empty()) return;
    const held_handle& h = handles_[any_(handles_.size())];
    const std::size_t n = any_(4);
    did("resize", n);
    change_model([&] { h.of->limiter.resize(n); });
    h.real->resize(n);
  }

  /// Who waits is aborted, in no particular order.
  void end() {
    did("end");
    std::vector<int> expected, found;
    for (auto& [key, e] : entries_) e->limiter.destroy();
    real_.reset();
    io_.restart();
    io_.poll();
    for (auto& c : std::exchange(expected_, {})) expected.push_back(c.id);
    for (auto& c : std::exchange(arrived_, {})) {
      same("the result", error_code(asio::error::operation_aborted), c.code);
      found.push_back(c.id);
    }
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    check("all who wait are aborted", expected == found);
  }

  void poll() {
    io_.restart();
    io_.poll();
    for (const test::acquisition& c : std::exchange(arrived_, {})) {
      check("a completion is due", !expected_.empty());
      same("the next completion", expected_.front(), c);
      expected_.pop_front();
      waits_.erase(c.id);
    }
    if (!expected_.empty()) test::diverge("the next completion", expected_.front(), "none");
  }

  void compare() {
    same("the number of limiters", entries_.size(), real_->size());
    same("how many were made", expected_made_, made_);
    for (const held_handle& h : handles_)
      same("a limiter", h.of->limiter.look(),
           test::units{h.real->limit(), h.real->in_use(), h.real->available(), h.real->waiting()});
  }

  test::choices any_;
  const std::size_t limit_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each handler
  asio::io_context io_;
  long made_ = 0, expected_made_ = 0;
  std::deque<test::acquisition> expected_;
  std::vector<test::acquisition> arrived_;
  std::map<int, wait> waits_;
  std::optional<limits> real_;
  std::map<int, std::shared_ptr<entry>> entries_;
  std::deque<int> turns_; // to be looked at
  std::vector<held_handle> handles_;
  std::vector<held_permit> held_;
  std::optional<deferred_acquire> deferred_;
  std::shared_ptr<entry> deferred_of_;
  std::size_t deferred_weight_ = 0;
  int last_id_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
