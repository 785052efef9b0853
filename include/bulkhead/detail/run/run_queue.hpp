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
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

namespace bulkhead::detail {

class run_queue;

/// A page of cells, and what is to be known of them. A queue is a list of segments; a segment that
/// is done with is used again.
struct alignas(4096) segment {
  static constexpr unsigned size = 63;

  /// Added to `done` when the queue's head has left the segment.
  static constexpr std::uint32_t passed = 1u << 16;

  static segment& of(cell& c) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&c);
    return *reinterpret_cast<segment*>(address & ~std::uintptr_t(sizeof(segment) - 1));
  }

  unsigned index_of(const cell& c) const noexcept { return static_cast<unsigned>(&c - cells); }

  sync::atomic<std::uint32_t> done{0};     // functions that have left it, and `passed`
  sync::atomic<cell::state> empty{0};      // the state of its cells before they are filled
  sync::atomic<run_queue*> queue{nullptr}; // in which it stands
  sync::atomic<segment*> next{nullptr};
  segment* previous = nullptr; // of the consumers, once the one before has its `next`
  segment* next_free = nullptr;
  segment* next_of_all = nullptr;

  cell cells[size];
};

static_assert(sizeof(segment) == 4096);

/// All segments of a pool. They live as long as the pool, because whoever looks for work may look
/// at a segment that has moved on; so the memory of a burst stays with its pool.
///
/// They come in chunks, each twice as large as the last, up to a large page of the processor: a
/// queue that grows by a page for every 63 functions would spend more on page faults than on these.
class segment_store {
public:
  segment_store() = default;
  segment_store(const segment_store&) = delete;
  segment_store& operator=(const segment_store&) = delete;
  ~segment_store();

  segment& acquire() {
    {
      std::lock_guard lock(mutex_);
      if (segment* s = free_) {
        free_ = s->next_free;
        return *s;
      }
    }
    return create();
  }

  /// All its cells are empty, and no queue holds it.
  void release(segment& s) noexcept {
    s.empty.store(s.empty.load(std::memory_order_relaxed) + 2, std::memory_order_release);
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

  /// How many there are.
  std::size_t size() const noexcept {
    std::lock_guard lock(mutex_);
    return size_;
  }

private:
  static constexpr std::size_t first_chunk = 8;
  static constexpr std::size_t large_page = std::size_t(2) << 20;
  static constexpr std::size_t largest_chunk = large_page / sizeof(segment);

  struct chunk {
    segment* memory;
    std::size_t size;
    std::size_t used;
  };

  segment& create();
  static std::align_val_t alignment(std::size_t segments) noexcept {
    return std::align_val_t(segments == largest_chunk ? large_page : sizeof(segment));
  }

  mutable spin_lock mutex_;
  std::vector<chunk> chunks_;
  segment* free_ = nullptr;
  segment* all_ = nullptr; // grows at this end only
  std::size_t size_ = 0;
};

/// Some cells of one segment, to be taken.
struct cell_range {
  segment* where = nullptr;
  cell::state full = 0; // the state of those cells that are meant
  unsigned begin = 0;
  unsigned end = 0;

  bool empty() const noexcept { return begin == end; }

  /// Leaves out those at the beginning that somebody has taken.
  void skip_taken() noexcept {
    while (!empty() && where->cells[begin].load() != full) ++begin;
  }

  bool operator==(const cell_range&) const = default;

  /// The cell `c`, which the caller is about to publish.
  static cell_range of(cell& c) noexcept {
    segment& s = segment::of(c);
    return {&s, c.load() + 1, s.index_of(c), s.index_of(c) + 1};
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
/// **Segments.** A segment is done with when all its functions have left it and the head has passed
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
  ///
  /// An empty queue shows without the lock: the cell at its head has not been filled, and the head
  /// has not left that segment meanwhile, so segment and cell belong together: see move_head().
  bool has_work() noexcept {
    const segment* first = head_.load(std::memory_order_seq_cst);
    const unsigned i = next_.load(std::memory_order_acquire);
    if (i < segment::size &&
        first->cells[i].load_ordered() == first->empty.load(std::memory_order_acquire) &&
        first == head_.load(std::memory_order_relaxed))
      return false;
    std::lock_guard lock(consumers_);
    return cell::is_full(skip_empty());
  }

  /// The function at the head, if there are at most `n`. It is a hint, taken without the lock.
  cell_range first_of_few(unsigned n) const noexcept {
    segment* s = head_.load(std::memory_order_acquire);
    const unsigned i = next_.load(std::memory_order_relaxed);
    const cell::state empty = s->empty.load(std::memory_order_relaxed);
    if (i == segment::size || s->cells[i].load() == empty || !has_at_most(n, *s, i)) return {};
    return {s, empty + 1, i, i + 1};
  }

  /// Whether there are at most `n`, which is less than a segment holds: a hint as well.
  bool has_at_most(unsigned n) const noexcept {
    return has_at_most(n, *head_.load(std::memory_order_acquire),
                       next_.load(std::memory_order_relaxed));
  }

  /// Whether these cells are of this queue, as far as one knows.
  bool owns(const cell_range& r) const noexcept {
    return r.where->queue.load(std::memory_order_relaxed) == this;
  }

  /// `n` functions have left `s`.
  static void leave(segment& s, unsigned n) noexcept {
    run_queue* q = s.queue.load(std::memory_order_relaxed); // those n hold it there
    const cell::state life = s.empty.load(std::memory_order_relaxed);
    const std::uint32_t done = s.done.fetch_add(n, std::memory_order_acq_rel) + n;
    if (done == (segment::size | segment::passed))
      q->store_.release(s);
    else if (done == segment::size)
      q->take_out(s, life);
  }

private:
  static constexpr unsigned cells_ahead = 4;

  segment& open() {
    segment& s = store_.acquire();
    s.queue.store(this, std::memory_order_relaxed);
    return s;
  }

  /// Looks at the cell `n` behind number `i` of `s`, which may be in the segment that follows.
  static bool has_at_most(unsigned n, const segment& s, unsigned i) noexcept {
    const bool is_here = i + n < segment::size;
    const segment* where = is_here ? &s : s.next.load(std::memory_order_acquire);
    return !where || where->cells[is_here ? i + n : i + n - segment::size].load() ==
                         where->empty.load(std::memory_order_relaxed);
  }

  // A hint, without the lock.
  bool looks_empty() const noexcept {
    const segment* s = head_.load(std::memory_order_acquire);
    const unsigned i = next_.load(std::memory_order_relaxed);
    return i < segment::size && s->cells[i].load() == s->empty.load(std::memory_order_relaxed);
  }

  cell_range claim_locked(unsigned most, bool share) noexcept;
  cell::state skip_empty() noexcept;
  void move_head(segment& to) noexcept;
  void pass(segment& s) noexcept;
  void take_out(segment& s, cell::state life) noexcept;

  segment_store& store_;

  // The producer's.
  alignas(64) segment* tail_;
  unsigned used_ = 0; // cells of tail_

  // The consumers'.
  alignas(64) spin_lock consumers_;
  sync::atomic<segment*> head_;
  sync::atomic<unsigned> next_{0}; // the cell of head_ at the head
};

template <class Wanted, class F>
void segment_store::sweep(Wanted wanted, F f) {
  segment* s;
  {
    std::lock_guard lock(mutex_);
    s = all_;
  }
  for (; s; s = s->next_of_all) {
    for (cell& c : s->cells) {
      const cell::state seen = c.load_ordered();
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
