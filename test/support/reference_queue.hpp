//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_REFERENCE_QUEUE_HPP
#define BULKHEAD_TEST_SUPPORT_REFERENCE_QUEUE_HPP

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace test {

/// The rules of lanes, priorities and weights, as plainly as can be: it looks at everybody at each turn, and counts in whole
/// numbers, which no sum of can be inexact. Weights are powers of two.
class reference_queue {
public:
  explicit reference_queue(double minimum_share) : share_(minimum_share) {}

  void join(int id, int priority, double weight) {
    level& l = levels_[priority];
    ++l.members;
    entries_[id] = {priority, weight, 0, l.now, 0, false};
  }

  void leave(int id) {
    member_left(entries_.at(id).priority);
    entries_.erase(id);
  }

  void set_weight(int id, double weight) { entries_.at(id).weight = weight; }

  void set_priority(int id, int priority) {
    entry& e = entries_.at(id);
    if (priority == e.priority) return;
    ++levels_[priority].members;
    const bool waits = e.waits;
    e.waits = false;
    member_left(e.priority);
    e.priority = priority;
    e.finish = levels_[priority].now;
    if (waits) add(id);
  }

  void add(int id) {
    entry& e = entries_.at(id);
    level& l = levels_.at(e.priority);
    e.start = std::max(l.now, e.finish);
    e.order = ++l.last_order;
    e.waits = true;
  }

  void remove(int id) { entries_.at(id).waits = false; }

  bool waits(int id) const { return entries_.at(id).waits; }

  /// Whether one that joined in its place would have the same turns. While nobody of its priority
  /// waits, what all of them owe is forgiven.
  bool settle(int id) {
    const entry& e = entries_.at(id);
    level& l = levels_.at(e.priority);
    if (std::none_of(entries_.begin(), entries_.end(), [&](const auto& o) {
          return o.second.waits && o.second.priority == e.priority;
        }))
      l.now = std::max(l.now, l.latest);
    return e.finish <= l.now;
  }

  int pop() {
    level* const l = next_level();
    if (!l) return -1;
    int best = -1;
    for (auto& [id, e] : entries_)
      if (e.waits && &levels_.at(e.priority) == l && (best == -1 || before(e, entries_.at(best))))
        best = id;
    entry& e = entries_.at(best);
    l->now = e.start;
    e.finish = e.start + static_cast<std::int64_t>(unit / e.weight);
    l->latest = std::max(l->latest, e.finish);
    e.waits = false;
    return best;
  }

private:
  static constexpr double unit = 1 << 20;

  struct level {
    std::int64_t now = 0;
    std::int64_t latest = 0; // end of the tasks that were begun
    double owed = 0;
    int members = 0;
    std::uint64_t last_order = 0;
  };

  struct entry {
    int priority;
    double weight;
    std::int64_t start;
    std::int64_t finish;
    std::uint64_t order;
    bool waits;
  };

  static bool before(const entry& a, const entry& b) {
    return a.start != b.start ? a.start < b.start : a.order < b.order;
  }

  void member_left(int priority) {
    if (--levels_.at(priority).members == 0) levels_.erase(priority);
  }

  level* next_level() {
    std::vector<level*> waiting; // the highest priority first
    for (auto l = levels_.rbegin(); l != levels_.rend(); ++l)
      if (std::any_of(entries_.begin(), entries_.end(), [&](const auto& e) {
            return e.second.waits && e.second.priority == l->first;
          }))
        waiting.push_back(&l->second);
    if (waiting.empty()) return nullptr;
    if (share_ == 0) return waiting.front();
    const double gain = std::min(share_, 1 / static_cast<double>(waiting.size()));
    for (level* l : waiting) l->owed += gain;
    level* next = waiting.front();
    for (level* l : waiting)
      if (l->owed >= 1 && l->owed > next->owed) next = l;
    next->owed = std::max(0.0, next->owed - 1);
    return next;
  }

  const double share_;
  std::map<int, level> levels_;
  std::map<int, entry> entries_;
};

} // namespace test

#endif
