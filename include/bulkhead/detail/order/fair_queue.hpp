//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_ORDER_FAIR_QUEUE_HPP
#define BULKHEAD_DETAIL_ORDER_FAIR_QUEUE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace bulkhead::detail {

/// Whose turn it is among queues, each with a priority and a weight.
///
/// The higher priority first; within one, start-time fair queueing (P. Goyal, H. Vin, H. Cheng, 1996).
/// Each priority has a virtual time, the start tag of the task that was begun last. A queue that has
/// something to do *waits* with a start tag: the virtual time if it was idle, else the end of its last
/// task, which is 1/weight after that one's start. The least start tag has its turn. So a queue that
/// was idle banks no credit and owes nothing, and one with a single task waits behind at most one task
/// of each other.
///
/// Virtual time is counted from a base that follows it, for one that grew for ever would some day be
/// too great to add the inverse of a great weight to.
///
/// With a minimum share, each priority that has something to do gains this share of a turn at every
/// turn, pays one for each that it has, and comes before higher ones when it is owed a whole one. If
/// the shares of those that wait come to more than 1, each gains an equal part instead: what is owed
/// may not grow, or one that comes back would wait until it is owed as much.
///
/// `T` derives from `fair_queue<T>::entry`. A plain object: its user has the lock.
///
/// Complexity: add, remove and pop O(log n) in the entries of the priority; pop also looks at each
/// priority, and join at each to find its own.
template <class T>
class fair_queue {
  struct level;

public:
  class entry {
  public:
    bool is_waiting() const noexcept { return index_ != none; }
    double weight() const noexcept { return weight_; }
    int priority() const noexcept { return level_->priority; }

  private:
    friend class fair_queue;
    static constexpr std::size_t none = std::size_t(-1);

    level* level_ = nullptr;
    double weight_ = 1;
    double start_ = 0;
    double finish_ = 0; // counted from base_
    std::uint64_t base_ = 0;
    std::uint64_t order_ = 0;  // of those with the same start
    std::size_t index_ = none; // in the heap
  };

  explicit fair_queue(double minimum_share = 0) noexcept : minimum_share_(minimum_share) {}
  fair_queue(const fair_queue&) = delete;
  fair_queue& operator=(const fair_queue&) = delete;

  /// Makes `e` known. What can fail fails here (bad_alloc, with nothing changed), not in add().
  void join(entry& e, int priority, double weight) {
    e.level_ = &member_of(priority);
    e.weight_ = weight;
    set_finish(e, e.level_->now);
  }

  /// Forgets `e`, which does not wait.
  void leave(entry& e) noexcept { member_left(*std::exchange(e.level_, nullptr)); }

  /// From its next turn on.
  void set_weight(entry& e, double weight) noexcept { e.weight_ = weight; }

  /// At once. Errors: bad_alloc, with nothing changed.
  void set_priority(entry& e, int priority) {
    if (priority == e.priority()) return;
    level& to = member_of(priority);
    const bool waits = e.is_waiting();
    if (waits) remove(e);
    member_left(*e.level_);
    e.level_ = &to;
    set_finish(e, to.now);
    if (waits) add(e);
  }

  /// Whether `e`, which does not wait, owes nothing, so that one that joins in its place would have the
  /// same turns. What it may owe is a part of its last task, the end of which is ahead of the virtual
  /// time. While nobody of its priority waits, all debts are forgiven: virtual time goes on to the
  /// last of these ends.
  bool settle(const entry& e) noexcept {
    level& l = *e.level_;
    if (l.heap.empty()) l.now = l.latest;
    return finish_of(e) <= l.now;
  }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }

  /// `e` has something to do.
  void add(entry& e) noexcept {
    level& l = *e.level_;
    e.start_ = (std::max)(l.now, finish_of(e));
    e.order_ = ++l.last_order;
    e.index_ = l.heap.size();
    l.heap.push_back(&e); // there is room since join()
    rise(l, e);
    ++size_;
  }

  /// `e` has nothing to do any more, or may not.
  void remove(entry& e) noexcept {
    level& l = *e.level_;
    const std::size_t hole = std::exchange(e.index_, entry::none);
    entry* last = l.heap.back();
    l.heap.pop_back();
    if (last != &e) {
      place(l, hole, *last);
      rise(l, *last);
      sink(l, *last);
    }
    --size_;
  }

  /// Takes out the one whose turn it is, and counts one task as begun; null if nobody waits. If it has
  /// more to do, it is to be added again.
  T* pop() noexcept {
    level* l = next_level();
    if (!l) return nullptr;
    entry& e = *l->heap.front();
    l->now = e.start_;
    set_finish(e, e.start_ + 1 / e.weight_);
    l->latest = (std::max)(l->latest, e.finish_);
    remove(e);
    if (l->now >= furthest) move_base(*l);
    return static_cast<T*>(&e);
  }

private:
  struct level {
    explicit level(int p) noexcept : priority(p) {}

    const int priority;
    double now = 0; // virtual time, counted from base
    std::uint64_t base = 0;
    double latest = 0; // end of the tasks that were begun, counted from base
    double owed = 0;   // turns, if there is a minimum share
    std::size_t members = 0;
    std::uint64_t last_order = 0;
    std::vector<entry*> heap;
  };

  level& member_of(int priority) {
    const auto at =
        std::lower_bound(levels_.begin(), levels_.end(), priority,
                         [](const std::unique_ptr<level>& l, int p) { return l->priority > p; });
    if (at != levels_.end() && (*at)->priority == priority) {
      level& l = **at;
      if (l.heap.capacity() == l.members) l.heap.reserve(2 * l.members);
      ++l.members;
      return l;
    }
    auto fresh = std::make_unique<level>(priority);
    fresh->heap.reserve(4);
    fresh->members = 1;
    return **levels_.insert(at, std::move(fresh));
  }

  void member_left(level& l) noexcept {
    if (--l.members != 0) return;
    levels_.erase(std::find_if(levels_.begin(), levels_.end(),
                               [&l](const std::unique_ptr<level>& p) { return p.get() == &l; }));
  }

  /// What is added to it must not get lost, and moving the base, which looks at each that waits, must
  /// be rare.
  static constexpr double furthest = 1 << 20;

  static double finish_of(const entry& e) noexcept {
    return e.finish_ - static_cast<double>(e.level_->base - e.base_);
  }

  static void set_finish(entry& e, double finish) noexcept {
    e.finish_ = finish;
    e.base_ = e.level_->base;
  }

  /// By a whole number: no start tag loses anything.
  static void move_base(level& l) noexcept {
    const double by = std::floor(l.now);
    l.base += static_cast<std::uint64_t>(by);
    l.now -= by;
    l.latest -= by;
    for (entry* e : l.heap) e->start_ -= by;
  }

  level* next_level() noexcept {
    std::size_t waiting = 0;
    for (auto& p : levels_) {
      if (p->heap.empty()) continue;
      if (minimum_share_ == 0) return p.get();
      ++waiting;
    }
    level* next = nullptr;
    for (auto& p : levels_) {
      level& l = *p;
      if (l.heap.empty()) continue;
      l.owed += (std::min)(minimum_share_, 1 / static_cast<double>(waiting));
      if (!next || (l.owed >= 1 && l.owed > next->owed)) next = &l;
    }
    if (next) next->owed = (std::max)(0.0, next->owed - 1);
    return next;
  }

  static bool before(const entry& a, const entry& b) noexcept {
    return a.start_ != b.start_ ? a.start_ < b.start_ : a.order_ < b.order_;
  }

  static void place(level& l, std::size_t i, entry& e) noexcept {
    l.heap[i] = &e;
    e.index_ = i;
  }

  static void rise(level& l, entry& e) noexcept {
    std::size_t i = e.index_;
    for (; i != 0 && before(e, *l.heap[(i - 1) / 2]); i = (i - 1) / 2)
      place(l, i, *l.heap[(i - 1) / 2]);
    place(l, i, e);
  }

  static void sink(level& l, entry& e) noexcept {
    const std::size_t n = l.heap.size();
    std::size_t i = e.index_;
    for (std::size_t child; (child = 2 * i + 1) < n; i = child) {
      if (child + 1 < n && before(*l.heap[child + 1], *l.heap[child])) ++child;
      if (!before(*l.heap[child], e)) break;
      place(l, i, *l.heap[child]);
    }
    place(l, i, e);
  }

  const double minimum_share_;
  std::size_t size_ = 0;
  std::vector<std::unique_ptr<level>> levels_; // the highest priority first
};

} // namespace bulkhead::detail

#endif
