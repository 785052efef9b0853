//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_RUN_QUEUE_HPP
#define BULKHEAD_DETAIL_RUN_RUN_QUEUE_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/run/cell.hpp>
#include <bulkhead/detail/run/spin_lock.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace bulkhead::detail {

class run_queue;

/// 64 cells in a row. A queue is a list of segments; a segment that is done with is used again.
struct segment {
  static constexpr unsigned size = 64;

  /// Added to `done` when the queue's head has left the segment.
  static constexpr std::uint32_t passed = 1u << 16;

  segment() noexcept {
    for (unsigned i = 0; i != size; ++i) cells[i].set_index(static_cast<unsigned char>(i));
  }

  static segment& of(cell& c) noexcept { return *reinterpret_cast<segment*>(&c - c.index()); }

  cell cells[size]; // first: see of()

  std::atomic<std::uint32_t> done{0};     // functions that have left it, and `passed`
  std::atomic<run_queue*> queue{nullptr}; // in which it stands
  std::atomic<cell::state> empty{0};      // the state of its cells before they are filled
  std::atomic<segment*> next{nullptr};
  segment* previous = nullptr; // of the consumers
  segment* next_free = nullptr;
};

/// All segments of a pool. They live as long as the pool, because whoever looks for work may look
/// at a segment that has moved on; so the memory of a burst stays with its pool.
class segment_store {
public:
  segment& acquire() {
    {
      std::lock_guard lock(mutex_);
      if (segment* s = free_) {
        free_ = s->next_free;
        return *s;
      }
    }
    auto s = std::make_unique<segment>();
    std::lock_guard lock(mutex_);
    all_.push_back(std::move(s));
    return *all_.back();
  }

  /// All its cells are empty, and no queue holds it.
  void release(segment& s) noexcept {
    s.empty.store(s.empty.load(std::memory_order_relaxed) + 2, std::memory_order_relaxed);
    s.done.store(0, std::memory_order_relaxed);
    s.queue.store(nullptr, std::memory_order_relaxed);
    s.next.store(nullptr, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    s.next_free = free_;
    free_ = &s;
  }

  /// Takes from wherever it stands every function of which `wanted(work)` says so, and calls
  /// `f(cell&)` with it, which must end it.
  template <class Wanted, class F>
  void sweep(Wanted wanted, F f);

  std::size_t size() const noexcept {
    std::lock_guard lock(mutex_);
    return all_.size();
  }

private:
  mutable spin_lock mutex_;
  std::vector<std::unique_ptr<segment>> all_;
  segment* free_ = nullptr;
};

/// Some cells of one segment, to be taken.
struct cell_range {
  segment* where = nullptr;
  cell::state full = 0; // the state of those cells that are meant
  unsigned begin = 0;
  unsigned end = 0;

  bool empty() const noexcept { return begin == end; }

  /// The cell `c`, which the caller is about to publish.
  static cell_range of(cell& c) noexcept {
    return {&segment::of(c), c.load() + 1, c.index(), c.index() + 1};
  }
};

/// A queue of functions: one producer at a time, any number of consumers, unbounded.
///
/// **Producer.** reserve() hands out the next cell, in which the caller builds his function and
/// publishes it, or gives up. Between the two nobody holds a lock, so that is the place for code of
/// the user's. Whoever uses the queue sees to it that one thread at a time reserves.
///
/// **Consumers.** claim() moves the head over up to `most` cells and hands them out. Each of these
/// is still to be taken (cell::take): a claim can be robbed, hence work that was claimed behind a
/// function that blocks is not lost to other workers. The head stops at a cell that is reserved and
/// not published; its producer will call for somebody when it is.
///
/// **Segments.** A segment is done with when its 64 functions have left it and the head has passed
/// it; `done` counts both, and whoever completes the count gives it back. Functions may leave in
/// any order, by cancellation or from the other end. Where all have left before the head came, the
/// segment is taken out of the middle of the list, so that a queue holds at most one segment for
/// each function in it, however many were cancelled.
///
/// Complexity: O(1), but for the walk over empty cells, of which each is passed once.
class run_queue {
public:
  explicit run_queue(segment_store& store) : store_(store), tail_(&open()), head_(tail_) {}

  run_queue(const run_queue&) = delete;
  run_queue& operator=(const run_queue&) = delete;

  /// By the producer. Throws bad_alloc, with nothing changed.
  cell& reserve() {
    segment& s = *tail_;
    if (used_ == segment::size - 1) {
      segment& next = open();
      next.previous = &s;
      s.next.store(&next, std::memory_order_release);
      tail_ = &next;
      used_ = 0;
      return s.cells[segment::size - 1];
    }
    cell& c = s.cells[used_++];
    __builtin_prefetch(&c + cells_ahead, 1);
    return c;
  }

  /// Claims up to `most` cells that hold a function, but only half of them (at least one) if there
  /// are fewer than `most` and `share` says so, for the sake of other consumers.
  cell_range claim(unsigned most, bool share) noexcept {
    if (looks_empty()) return {};
    std::lock_guard lock(consumers_);
    return claim_locked(most, share);
  }

  /// Whether a function stands at the head. What was published before this call is seen.
  bool has_work() noexcept {
    std::lock_guard lock(consumers_);
    skip_empty();
    segment* s = head_.load(std::memory_order_relaxed);
    return cell::is_full(s->cells[next_.load(std::memory_order_relaxed)].load_ordered());
  }

  /// `n` functions have left `s`.
  static void leave(segment& s, unsigned n) noexcept {
    run_queue* q = s.queue.load(std::memory_order_relaxed); // those n hold it there
    const std::uint32_t done = s.done.fetch_add(n, std::memory_order_acq_rel) + n;
    if (done == (segment::size | segment::passed))
      q->store_.release(s);
    else if (done == segment::size)
      q->take_out(s);
  }

private:
  static constexpr unsigned cells_ahead = 4;

  segment& open() {
    segment& s = store_.acquire();
    s.queue.store(this, std::memory_order_relaxed);
    return s;
  }

  // A hint, without the lock.
  bool looks_empty() const noexcept {
    const segment* s = head_.load(std::memory_order_acquire);
    const unsigned i = next_.load(std::memory_order_relaxed);
    return i < segment::size && s->cells[i].load() == s->empty.load(std::memory_order_relaxed);
  }

  cell_range claim_locked(unsigned most, bool share) noexcept;
  void skip_empty() noexcept;
  void pass(segment& s) noexcept;
  void take_out(segment& s) noexcept;

  segment_store& store_;

  // The producer's.
  alignas(64) segment* tail_;
  unsigned used_ = 0; // cells of tail_

  // The consumers'.
  alignas(64) spin_lock consumers_;
  std::atomic<segment*> head_;
  std::atomic<unsigned> next_{0}; // the cell of head_ at the head
};

template <class Wanted, class F>
void segment_store::sweep(Wanted wanted, F f) {
  for (std::size_t i = 0;; ++i) {
    segment* s;
    {
      std::lock_guard lock(mutex_);
      if (i == all_.size()) return;
      s = all_[i].get();
    }
    for (cell& c : s->cells) {
      const cell::state seen = c.load();
      if (!cell::is_full(seen) || !wanted(c.what()) || !c.take(seen)) continue;
      f(c);
      run_queue::leave(*s, 1);
    }
  }
}

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/run_queue.ipp>
#endif

#endif
