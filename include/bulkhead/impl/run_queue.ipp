//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_RUN_QUEUE_IPP
#define BULKHEAD_IMPL_RUN_QUEUE_IPP

#include <bulkhead/detail/run/run_queue.hpp>

#include <algorithm>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace bulkhead::detail {

// --- segments ---

BULKHEAD_DECL segment_store::~segment_store() {
  while (all_) {
    segment* s = all_;
    all_ = s->next_of_all;
    s->~segment();
  }
  for (const chunk& c : chunks_) ::operator delete(c.memory, alignment(c.size));
}

BULKHEAD_DECL segment& segment_store::create() {
  segment* memory;
  {
    std::lock_guard lock(mutex_);
    if (chunks_.empty() || chunks_.back().used == chunks_.back().size) {
      const std::size_t n =
          chunks_.empty() ? first_chunk : std::min(2 * chunks_.back().size, largest_chunk);
      chunks_.reserve(chunks_.size() + 1);
      void* p = ::operator new(n * sizeof(segment), alignment(n));
#ifdef __linux__
      if (n == largest_chunk) ::madvise(p, large_page, MADV_HUGEPAGE); // or else without
#endif
      chunks_.push_back({static_cast<segment*>(p), n, 0});
    }
    chunk& c = chunks_.back();
    memory = c.memory + c.used++;
  }
  segment& s = *::new (memory) segment; // the first to touch the page, hence without the lock
  std::lock_guard lock(mutex_);
  s.next_of_all = all_;
  all_ = &s;
  ++size_;
  return s;
}

// --- queues ---

BULKHEAD_DECL cell_range run_queue::claim_locked(unsigned most, bool share) noexcept {
  skip_empty();
  segment& s = *head_.load(std::memory_order_relaxed);
  const cell::state empty = s.empty.load(std::memory_order_relaxed);
  const unsigned begin = next_.load(std::memory_order_relaxed);
  // Where there are as many as one wants, one is going to take them all: then their cells shall come
  // from the producer's cache at once, and for writing.
  const unsigned last = std::min(begin + most, segment::size) - 1;
  if (cell::is_full(s.cells[last].load()))
    for (unsigned i = begin; i <= last; ++i) __builtin_prefetch(&s.cells[i], 1);
  unsigned ends[segment::size]; // where to end, for each number of functions
  unsigned found = 0;
  for (unsigned i = begin; i != segment::size && found != most; ++i) {
    const cell::state state = s.cells[i].load();
    if (state == empty) break;
    if (cell::is_full(state)) ends[found++] = i + 1;
  }
  if (found == 0) return {};
  if (share && found != most) found = (found + 1) / 2;
  const unsigned end = ends[found - 1];
  if (end == segment::size)
    pass(s);
  else
    next_.store(end, std::memory_order_release);
  return {&s, empty + 1, begin, end};
}

/// Moves the head to the first cell that is not known to be empty for good. Says what it saw there,
/// for by now that may have left, and others stand behind it.
BULKHEAD_DECL cell::state run_queue::skip_empty() noexcept {
  for (;;) {
    segment& s = *head_.load(std::memory_order_relaxed);
    const cell::state left = s.empty.load(std::memory_order_relaxed) + 2;
    for (unsigned i = next_.load(std::memory_order_relaxed); i != segment::size; ++i) {
      const cell::state state = s.cells[i].load_ordered();
      if (state == left) continue;
      next_.store(i, std::memory_order_release);
      return state;
    }
    pass(s);
  }
}

/// Who reads both without the lock never takes the index of one segment for that of the next: with
/// the new segment he sees no index at all until it is the new one, and with the new index the new
/// segment.
BULKHEAD_DECL void run_queue::move_head(segment& to) noexcept {
  next_.store(segment::size, std::memory_order_relaxed);
  head_.store(&to, std::memory_order_seq_cst);
  next_.store(0, std::memory_order_release);
}

/// The head leaves `s`, all cells of which have been published, hence there is a next one.
BULKHEAD_DECL void run_queue::pass(segment& s) noexcept {
  move_head(*s.next.load(std::memory_order_acquire));
  const std::uint32_t done = s.done.fetch_add(segment::passed, std::memory_order_acq_rel);
  if (done == segment::size) store_.release(s);
}

/// All functions have left `s`, and the head had not passed it, as far as the caller knows. If that
/// is so still, nobody else can move it while we hold the lock. It may have been given back meanwhile
/// and serve another queue, or this one again; release() changes `empty` before all else, so what
/// was read of `done` before it was found unchanged is of this life.
BULKHEAD_DECL void run_queue::take_out(segment& s, cell::state life) noexcept {
  std::lock_guard lock(consumers_);
  if (s.done.load(std::memory_order_acquire) != segment::size ||
      s.empty.load(std::memory_order_relaxed) != life)
    return;
  segment& next = *s.next.load(std::memory_order_acquire);
  if (&s == head_.load(std::memory_order_relaxed)) {
    move_head(next);
  } else {
    s.previous->next.store(&next, std::memory_order_release);
    next.previous = s.previous;
  }
  store_.release(s);
}

} // namespace bulkhead::detail

#endif
