//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The queues of a pool, and the memory of what stands in them, for one thread: who claims, takes, robs,
// cancels and sweeps, in any order.

#include "fuzz.hpp"

#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/run/run_queue.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <stop_token>
#include <utility>
#include <vector>

using bulkhead::detail::cell;
using bulkhead::detail::cell_range;
using bulkhead::detail::node_cache;
using bulkhead::detail::run_queue;
using bulkhead::detail::segment;
using bulkhead::detail::segment_store;
using bulkhead::detail::work;
using test::check;
using test::did;
using test::same;

namespace {

const std::stop_source no_stop(std::nostopstate);

class game {
public:
  game(const std::uint8_t* data, std::size_t size) : any_(data, size) {
    for (auto& q : queues_) q.real = std::make_unique<run_queue>(store_);
  }

  void play() {
    while (!any_.empty()) operate();
    for (auto& q : queues_)
      while (!q.reserved.empty()) finish_reserved(q, 0);
    while (!claims_.empty()) take_claim(0);
    for (auto& q : queues_) {
      while (claim(q, 16, false)) take_claim(0);
      check("nothing is left", !q.real->has_work());
    }
    same("functions that are left", 0u, there_.size());
    for (void* p : memory_) node_cache::deallocate(p);
  }

private:
  static constexpr std::size_t most = 500; // functions that stand there at one time, about

  /// A function that is there to be taken.
  struct function {
    cell* where;
    cell::state full;
    bool is_submission;
    bool is_claimed = false;
  };

  /// What stands in a queue, in order: those that were reserved, published or not, until the head has
  /// left them.
  struct queue {
    std::unique_ptr<run_queue> real;
    std::deque<int> order;
    std::vector<std::pair<int, cell*>> reserved; // not published yet
  };

  struct claimed {
    cell_range range;
    std::vector<int> functions;
  };

  queue& any_queue() { return queues_[any_(queues_.size())]; }

  void operate() {
    queue& q = any_queue();
    switch (any_(12)) {
    case 0:
    case 1:
    case 2:
      return push(q);
    case 3:
      for (unsigned n = any_.byte(); n != 0 && there_.size() < most; --n) push(q);
      return;
    case 4: // one producer, who may be interrupted: the next cell is for the next
      if (q.reserved.size() < 3) reserve(q);
      return;
    case 5:
      if (!q.reserved.empty()) finish_reserved(q, any_(q.reserved.size()));
      return;
    case 6:
    case 7:
      claim(q, 1 + any_(16), any_.one_in(2));
      return;
    case 8:
    case 9:
      if (!claims_.empty()) take_claim(any_(std::min<std::size_t>(claims_.size(), 256)));
      return;
    case 10:
      return any_.one_in(8) ? sweep() : cancel_some();
    default:
      return remember();
    }
  }

  std::pair<int, cell*> reserve(queue& q) {
    const int id = ++last_;
    did("reserve", static_cast<std::size_t>(id));
    cell& c = q.real->reserve();
    check("the cell is free", !cell::is_full(c.load()));
    q.order.push_back(id);
    q.reserved.emplace_back(id, &c);
    return q.reserved.back();
  }

  void push(queue& q) {
    reserve(q);
    publish(q, q.reserved.size() - 1);
  }

  void publish(queue& q, std::size_t i) {
    const auto [id, c] = q.reserved[i];
    q.reserved.erase(q.reserved.begin() + static_cast<std::ptrdiff_t>(i));
    did("publish", static_cast<std::size_t>(id));
    const bool is_submission = id % 3 == 0;
    auto run = [this, id = id] { ran_ = id; };
    if (is_submission)
      c->emplace<work::submission, decltype(run)>(run);
    else
      c->emplace<work::continuation, decltype(run)>(run);
    there_[id] = {c, c->load() + 1, is_submission};
    c->publish();
  }

  /// Published, or given up.
  void finish_reserved(queue& q, std::size_t i) {
    if (!any_.one_in(3)) return publish(q, i);
    const auto [id, c] = q.reserved[i];
    did("give up", static_cast<std::size_t>(id));
    q.reserved.erase(q.reserved.begin() + static_cast<std::ptrdiff_t>(i));
    c->give_up();
    run_queue::leave(segment::of(*c), 1);
  }

  static bool is_reserved(const queue& q, int id) {
    return std::any_of(q.reserved.begin(), q.reserved.end(),
                       [&](auto& r) { return r.first == id; });
  }

  /// Whether a claim has found something.
  bool claim(queue& q, unsigned wanted, bool share) {
    did("claim", wanted);
    // The head stops where somebody has reserved and not published.
    std::vector<int> may;
    for (int id : q.order) {
      if (is_reserved(q, id) || may.size() == 2 * segment::size) break;
      if (there_.contains(id) && !there_.at(id).is_claimed) may.push_back(id);
    }
    same("whether there is work", !may.empty(), q.real->has_work());
    claimed c{q.real->claim(wanted, share), {}};
    for (unsigned i = c.range.begin; i != c.range.end; ++i) {
      const cell& at = c.range.where->cells[i];
      for (int id : may)
        if (there_.at(id).where == &at && at.load() == c.range.full) c.functions.push_back(id);
    }
    const std::size_t n = c.functions.size();
    same("whether something is claimed", !may.empty(), n != 0);
    check("not more than wanted is claimed", n <= wanted);
    if (n == 0) return false;
    for (std::size_t i = 0; i != n; ++i) {
      same("the next that is claimed", may[i], c.functions[i]);
      there_.at(may[i]).is_claimed = true;
    }
    // A claim ends with its segment. Else it is as large as wanted, or leaves half, if it shares.
    const bool ends_segment = c.range.end == segment::size;
    const std::size_t all = std::min<std::size_t>(may.size(), wanted);
    if (!share && !ends_segment)
      check("it is as large as it may be",
            n == all || &segment::of(*there_.at(may[n]).where) != c.range.where);
    if (share && all < wanted) check("it leaves half", n <= (all + 1) / 2);
    while (!q.order.empty() && q.order.front() <= c.functions.back()) q.order.pop_front();
    claims_.push_back(std::move(c));
    return true;
  }

  /// One's own claim, front to back. Some of it may have been robbed.
  void take_claim(std::size_t i) {
    claimed c = std::move(claims_[i]);
    claims_.erase(claims_.begin() + static_cast<std::ptrdiff_t>(i));
    did("take what was claimed", c.functions.size());
    std::vector<int> left;
    for (int id : c.functions)
      if (there_.contains(id)) left.push_back(id);
    std::size_t taken = 0;
    for (unsigned k = c.range.begin; k != c.range.end; ++k) {
      cell& at = c.range.where->cells[k];
      if (!at.take(c.range.full)) continue;
      at.run(no_stop);
      check("what is there to be taken was not robbed", taken != left.size());
      same("the function that runs", left[taken++], ran_);
      there_.erase(ran_);
    }
    same("the number of functions that ran", left.size(), taken);
    if (taken != 0) run_queue::leave(*c.range.where, static_cast<unsigned>(taken));
  }

  /// Any that is there, claimed or not; as a thief does, or a cancellation.
  void cancel_some() {
    if (there_.empty()) return;
    unsigned n = 1 + any_.byte() / 4;
    auto at = there_.lower_bound(1 + static_cast<int>(any_.byte()) * last_ / 256);
    for (; n != 0 && at != there_.end(); --n) {
      did("cancel", static_cast<std::size_t>(at->first));
      const function f = at->second;
      at = there_.erase(at);
      check("it can be taken", f.where->take(f.full));
      f.where->destroy();
      run_queue::leave(segment::of(*f.where), 1);
    }
  }

  /// All submissions, wherever they stand.
  void sweep() {
    did("sweep", there_.size());
    std::size_t expected = 0, found = 0;
    for (auto& [id, f] : there_) expected += f.is_submission;
    store_.sweep([](work w) { return w == work::submission; },
                 [&](cell& c) {
                   ++found;
                   c.run(no_stop);
                   check("it was there", there_.erase(ran_) == 1);
                   same("what it is", 0, ran_ % 3);
                 });
    same("the number of submissions", expected, found);
  }

  /// Memory for what is too large for a cell.
  void remember() {
    if (!memory_.empty() && any_.one_in(2)) {
      did("deallocate", memory_.size());
      std::swap(memory_[any_(std::min<std::size_t>(memory_.size(), 256))], memory_.back());
      node_cache::deallocate(memory_.back());
      memory_.pop_back();
    } else if (any_.one_in(8)) {
      did("give up what is not in use");
      node_cache::surplus spare;
      cache_.give_up(spare);
      same("what was asked for since", 0u, cache_.asked_for());
    } else {
      const std::size_t size = std::size_t(1 + any_.byte()) * 5;
      did("allocate", size);
      void* const p = cache_.allocate(size);
      check("nobody else has it", std::find(memory_.begin(), memory_.end(), p) == memory_.end());
      std::memset(p, 1, size);
      memory_.push_back(p);
    }
  }

  test::choices any_;
  segment_store store_;
  std::array<queue, 2> queues_;
  std::map<int, function> there_; // published, and not taken
  std::vector<claimed> claims_;
  node_cache cache_;
  std::vector<void*> memory_;
  int last_ = 0, ran_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
