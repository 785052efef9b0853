//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A lane for each tenant: when one is opened, when it is evicted, and in which order functions run in
// spite of that. What lanes do otherwise is compared in lanes.cpp.

#include "../support/reference_queue.hpp"
#include "../support/stage.hpp"
#include "fuzz.hpp"

#include <bulkhead/tenants.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::lane;
using bulkhead::lane_stats;
using test::check;
using test::did;
using test::same;

namespace {

constexpr std::size_t keys = 10, queue_limit = 3, waiter_limit = 2;

/// All keys are in one shard, so that it can be said which is looked at next.
struct same_hash {
  std::size_t operator()(int) const noexcept { return 1; }
};

bulkhead::lane_options options_of(int key) {
  return {.weight = std::array{1.0, 0.25, 4.0}[static_cast<std::size_t>(key) % 3],
          .priority = key / 6,
          .queue_limit = queue_limit,
          .waiter_limit = waiter_limit,
          .concurrency = key % 2 == 0 ? 1 : bulkhead::unbounded};
}

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), concurrency_(1 + any_(3)),
        real_(std::in_place, stage_.executor(),
              bulkhead::lanes_options{.concurrency = concurrency_, .batch = 1 + any_(4)},
              [this](int key) {
                ++opened_;
                return options_of(key);
              }),
        order_(0) {}

  void play() {
    while (!any_.empty()) operate();
    while (stage_.step()) compare();
    handles_.clear();
    real_.reset();
    tasks_.clear();
    handlers_.poll();
    same("functions that are left", 1, alive_.use_count());
  }

private:
  struct tenant {
    int key;
    int id; // in the order
    std::size_t concurrency;
    bool closed;
    std::size_t handles = 0, running = 0;
    std::deque<int> queue{}, waiters{};
  };
  using tenant_ptr = std::shared_ptr<tenant>;

  struct task {
    tenant_ptr of;
    bool is_continuation;
    std::unique_ptr<asio::cancellation_signal> signal{};
  };

  struct handle {
    lane real;
    tenant_ptr of;
  };

  // --- the model

  std::size_t queued(const tenant& t) const {
    return static_cast<std::size_t>(std::count_if(
        t.queue.begin(), t.queue.end(), [&](int id) { return !tasks_.at(id).is_continuation; }));
  }

  void revise(tenant& t) {
    while (!t.waiters.empty() && queued(t) < queue_limit) {
      t.queue.push_back(t.waiters.front());
      t.waiters.pop_front();
    }
    const bool may = !t.queue.empty() && t.running < t.concurrency;
    if (may == order_.waits(t.id)) return;
    if (may)
      order_.add(t.id);
    else
      order_.remove(t.id);
  }

  /// Looks at the next in turn.
  void evict_next(std::vector<tenant_ptr>& evicted) {
    if (next_ >= turns_.size()) next_ = 0;
    const tenant_ptr t = turns_[next_];
    const bool is_idle = t->queue.empty() && t->waiters.empty() && t->running == 0;
    if (t->handles == 0 && is_idle && order_.settle(t->id)) {
      evicted.push_back(t);
      tenants_.erase(t->key);
      turns_[next_] = turns_.back();
      turns_.pop_back();
    } else {
      ++next_;
    }
  }

  std::size_t leave(const std::vector<tenant_ptr>& evicted) {
    for (auto& t : evicted) order_.leave(t->id);
    return evicted.size();
  }

  tenant_ptr touch(int key) {
    if (const auto at = tenants_.find(key); at != tenants_.end()) return at->second;
    ++expected_opened_;
    const bulkhead::lane_options o = options_of(key);
    const auto t = std::make_shared<tenant>(tenant{key, ++last_id_, o.concurrency, closed_});
    order_.join(t->id, o.priority, o.weight);
    std::vector<tenant_ptr> evicted;
    for (std::size_t looks = 4; looks != 0 && !turns_.empty(); --looks) evict_next(evicted);
    turns_.push_back(t);
    tenants_[key] = t;
    leave(evicted);
    return t;
  }

  void started(int id) {
    const int turn = order_.pop();
    tenant& t = *tasks_.at(id).of;
    same("whose turn it is", turn, t.id);
    same("the function that starts", t.queue.front(), id);
    t.queue.pop_front();
    ++t.running;
    if (tasks_.at(id).is_continuation) ++sum_.continuations;
    revise(t);
  }

  void ended(int id) {
    task& done = tasks_.at(id);
    --done.of->running;
    if (!done.is_continuation) ++sum_.completed;
    revise(*done.of);
  }

  // --- both

  auto function(int id) {
    return [this, id, count = alive_](auto...) {
      started(id);
      compare();
      for (unsigned n = any_(3); n != 0 && depth_ < 3; --n) {
        ++depth_;
        operate();
        --depth_;
      }
      did("the function ends", static_cast<std::size_t>(id));
      ended(id);
    };
  }

  int new_task(const tenant_ptr& t, bool is_continuation) {
    tasks_.emplace(++last_task_, task{t, is_continuation});
    if (!is_continuation) ++sum_.submitted;
    return last_task_;
  }

  void operate() {
    const int key = static_cast<int>(any_(keys));
    switch (any_(16)) {
    case 0:
    case 1:
    case 2:
      try_submit(key);
      break;
    case 3:
    case 4:
      submit(key);
      break;
    case 5: {
      const auto t = touch(key);
      const int id = new_task(t, true);
      did("post", static_cast<std::size_t>(id));
      t->queue.push_back(id);
      revise(*t);
      asio::post(real_->get_executor(key), function(id));
      break;
    }
    case 6:
      if (handles_.size() > 10) break;
      did("a handle of", static_cast<std::size_t>(key));
      ++touch(key)->handles;
      handles_.push_back({(*real_)[key], tenants_.at(key)});
      break;
    case 7:
    case 8: {
      if (handles_.empty()) break;
      const std::size_t i = any_(handles_.size());
      did("drop a handle", i);
      --handles_[i].of->handles;
      handles_.erase(handles_.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    case 9:
      cancel();
      break;
    case 10: {
      did("evict_idle", tenants_.size());
      std::vector<tenant_ptr> evicted;
      for (std::size_t n = turns_.size(); n != 0; --n) evict_next(evicted);
      same("the number that was evicted", leave(evicted), real_->evict_idle());
      break;
    }
    case 11:
      if (!any_.one_in(16)) break;
      did("close");
      closed_ = true;
      for (auto& [k, t] : tenants_) {
        t->closed = true;
        sum_.rejected += std::exchange(t->waiters, {}).size();
      }
      real_->close();
      break;
    default:
      did("run", stage_.size());
      stage_.step();
      break;
    }
    compare();
  }

  void try_submit(int key) {
    const auto t = touch(key);
    const int id = new_task(t, false);
    did("try_submit", static_cast<std::size_t>(id));
    const bool accepts = !t->closed && t->waiters.empty() && queued(*t) < queue_limit;
    if (accepts)
      t->queue.push_back(id);
    else
      ++sum_.rejected;
    revise(*t);
    same("whether it is accepted", accepts, real_->try_submit(key, function(id)));
  }

  void submit(int key) {
    const auto t = touch(key);
    const int id = new_task(t, false);
    did("async_submit", static_cast<std::size_t>(id));
    if (!t->closed && t->waiters.empty() && queued(*t) < queue_limit)
      t->queue.push_back(id);
    else if (!t->closed && t->waiters.size() < waiter_limit)
      t->waiters.push_back(id);
    else
      ++sum_.rejected;
    revise(*t);
    auto& signal = tasks_.at(id).signal = std::make_unique<asio::cancellation_signal>();
    real_->async_submit(
        key, function(id),
        asio::bind_cancellation_slot(
            signal->slot(), asio::bind_executor(handlers_, [n = alive_](std::exception_ptr) {})));
  }

  void cancel() {
    const auto at = tasks_.find(1 + static_cast<int>(any_(256)));
    if (at == tasks_.end() || !at->second.signal) return;
    const auto [id, what] = std::pair(at->first, at->second.of);
    did("cancel", static_cast<std::size_t>(id));
    sum_.cancelled += std::erase(what->queue, id) + std::erase(what->waiters, id);
    if (tenants_.contains(what->key) && tenants_.at(what->key) == what) revise(*what);
    at->second.signal->emit(asio::cancellation_type::total);
  }

  void compare() {
    same("the number of lanes", tenants_.size(), real_->size());
    same("how many were opened", expected_opened_, opened_);
    const lane_stats s = real_->stats();
    std::size_t all_queued = 0, waiting = 0, running = 0;
    for (auto& [key, t] : tenants_) {
      all_queued += queued(*t);
      waiting += t->waiters.size();
      running += t->running;
    }
    same("queued", all_queued, s.queued);
    same("waiting", waiting, s.waiting);
    same("in flight", running, s.in_flight);
    same("submitted", sum_.submitted, s.submitted);
    same("completed", sum_.completed, s.completed);
    same("rejected", sum_.rejected, s.rejected);
    same("cancelled", sum_.cancelled, s.cancelled);
    same("continuations", sum_.continuations, s.continuations);
  }

  test::choices any_;
  const std::size_t concurrency_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each function and handler
  long opened_ = 0, expected_opened_ = 0;
  test::stage stage_;
  asio::io_context handlers_;
  std::optional<bulkhead::tenants<int, same_hash>> real_;
  test::reference_queue order_;
  std::map<int, tenant_ptr> tenants_; // that have a lane
  std::vector<tenant_ptr> turns_;     // of them, to be looked at
  std::size_t next_ = 0;
  std::map<int, task> tasks_;
  std::vector<handle> handles_;
  lane_stats sum_;
  bool closed_ = false;
  int last_id_ = 0, last_task_ = 0, depth_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
