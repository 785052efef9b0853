//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_WORKER_HPP
#define BULKHEAD_DETAIL_RUN_WORKER_HPP

#include <bulkhead/detail/run/cell.hpp>
#include <bulkhead/detail/run/fence.hpp>
#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/run/parking.hpp>
#include <bulkhead/detail/run/run_queue.hpp>
#include <bulkhead/detail/run/worker_state.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace bulkhead::detail {

class scheduler;

/// A count that one thread at a time changes and all may read.
class tally {
public:
  std::uint64_t load() const noexcept { return value_.load(std::memory_order_relaxed); }
  void add() noexcept { value_.store(load() + 1, std::memory_order_relaxed); }
  void subtract() noexcept { value_.store(load() - 1, std::memory_order_relaxed); }

private:
  sync::atomic<std::uint64_t> value_{0};
};

/// A number that changes under a lock, and may be looked at without.
class credits {
public:
  std::size_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
  void add(std::size_t n) noexcept { count_.store(count() + n, std::memory_order_relaxed); }
  void take_one() noexcept { count_.store(count() - 1, std::memory_order_relaxed); }
  std::size_t take_all() noexcept {
    const std::size_t n = count();
    count_.store(0, std::memory_order_relaxed);
    return n;
  }

private:
  sync::atomic<std::size_t> count_{0};
};

/// Credits given out, and whether shards hold some of them in advance: in one word, so that who sees
/// how many there are knows whether all of them belong to submissions. Lent out and called in under
/// the scheduler's mutex, taken one by one by anybody.
class granted_credits {
public:
  struct value {
    std::uint64_t count;
    bool lent;
  };

  value load() const noexcept {
    const std::uint64_t w = word_.load(std::memory_order_seq_cst);
    return {w >> 1, (w & 1) != 0};
  }

  /// One more than `v`, unless it has changed.
  bool take_one(value v) noexcept {
    std::uint64_t w = v.count << 1 | std::uint64_t(v.lent);
    return word_.compare_exchange_strong(w, w + 2, std::memory_order_seq_cst);
  }

  /// `n` at once, which are to stand in some shard's hand.
  bool lend(value v, std::uint64_t n) noexcept {
    std::uint64_t w = v.count << 1 | std::uint64_t(v.lent);
    return word_.compare_exchange_strong(w, (v.count + n) << 1 | 1, std::memory_order_seq_cst);
  }

  /// No shard holds any more, and `n` were left.
  void call_in(std::uint64_t n) noexcept { word_.fetch_sub(n << 1 | 1, std::memory_order_seq_cst); }

private:
  sync::atomic<std::uint64_t> word_{0};
};

/// How many submissions a worker has started, and whether it runs one, in one word, so that the end
/// of one and the start of the next are one step.
class submission_tally {
public:
  std::uint64_t started() const noexcept { return load() >> 1; }
  std::uint64_t running() const noexcept { return load() & 1; }
  std::uint64_t ended() const noexcept {
    const std::uint64_t v = load();
    return (v >> 1) - (v & 1);
  }

  // By the worker. Who reads the tally after asymmetric_fence::wait_for_all() sees this, or the
  // worker sees what that one stored before.
  void start() noexcept { asymmetric_fence::store(value_, (mine() | 1) + 2); }
  void end() noexcept { asymmetric_fence::store(value_, mine() & ~std::uint64_t(1)); }

private:
  std::uint64_t load() const noexcept { return value_.load(std::memory_order_seq_cst); }
  std::uint64_t mine() const noexcept { return value_.load(std::memory_order_relaxed); }

  sync::atomic<std::uint64_t> value_{0};
};

/// What a worker has claimed and not taken yet. The worker changes it, others may rob it.
///
/// What others read here may be out of date and of different claims; it only says where to look,
/// and cell::take() decides. The last store of set() and the first load of rob() are sequentially
/// consistent, as parking requires.
class claim {
public:
  void set(const cell_range& r) noexcept {
    where_.store(r.where, std::memory_order_relaxed);
    full_.store(r.full, std::memory_order_relaxed);
    range_.store(r.begin | r.end << 8, std::memory_order_seq_cst);
  }

  void set_begin(const cell_range& r) noexcept {
    range_.store(r.begin | r.end << 8, std::memory_order_relaxed);
  }

  /// Where somebody else may find cells.
  cell_range get() const noexcept {
    const unsigned r = range_.load(std::memory_order_seq_cst);
    return {where_.load(std::memory_order_relaxed), full_.load(std::memory_order_relaxed), r & 255,
            r >> 8};
  }

private:
  sync::atomic<segment*> where_{nullptr};
  sync::atomic<cell::state> full_{0};
  sync::atomic<unsigned> range_{0};
};

/// The last cells that a worker has filled itself, the newest first. It forgets older ones, which
/// are found at the head of the worker's queue.
class recent_cells {
public:
  void push(const cell_range& r) noexcept {
    ranges_[++top_ % size] = r;
    if (count_ != size) ++count_;
  }

  /// The newest that nobody has taken, or nothing.
  cell_range pop() noexcept {
    while (count_ != 0) {
      --count_;
      const cell_range r = ranges_[top_-- % size];
      if (r.where->cells[r.begin].load() == r.full) return r;
    }
    return {};
  }

private:
  static constexpr unsigned size = 256;

  cell_range ranges_[size];
  unsigned top_ = 0;
  unsigned count_ = 0;
};

/// For how many turns a worker searches before it sleeps, after a first look.
///
/// A search that finds something saves two threads a wake-up; one that does not costs processor
/// time, and with it the worker's good standing with the operating system, which is slower to let it
/// run the next time. So a worker searches as long as one search in three finds something, and
/// otherwise only looks. Lest it never be found out that searches pay again, one is tried once in a
/// while, less and less often.
class search_patience {
public:
  unsigned next() noexcept {
    tries_ = score_ == 0 && ++looks_ == interval_;
    if (tries_) looks_ = 0;
    return score_ != 0 || tries_ ? longest : 0;
  }

  void found_after(unsigned turns) noexcept {
    if (turns == 0) return; // it was there at once: no merit of patience
    score_ = std::min(score_ + 2, best_score);
    interval_ = shortest_interval;
    looks_ = 0;
  }

  void found_nothing() noexcept {
    if (score_ != 0)
      --score_;
    else if (tries_ && interval_ != longest_interval)
      interval_ *= 2;
  }

private:
  static constexpr unsigned longest = 128;
  static constexpr unsigned best_score = 8;
  static constexpr unsigned shortest_interval = 16;
  static constexpr unsigned longest_interval = 256;

  unsigned score_ = 2;
  unsigned looks_ = 0; // since the last try
  unsigned interval_ = shortest_interval;
  bool tries_ = false;
};

/// What a worker thread works with. Lives as long as the pool: when a thread ends, the next one
/// takes its place over, with what is left in it.
struct alignas(128) worker : sleeper {
  worker(scheduler& pool, std::size_t number, segment_store& segments,
         std::unique_ptr<worker_state> s)
      : owner(pool), index(number), state(std::move(s)), local(segments) {}

  scheduler& owner;
  const std::size_t index;
  const std::unique_ptr<worker_state> state; // if the pool is stateful
  sync::atomic<worker*> next{nullptr};
  sync::atomic<bool> in_use{false}; // by a thread, which may have been
  sync::thread thread;              // started for it; guarded by the thread mutex
  bool attached = false;
  sync::atomic<unsigned> heeds{0}; // of scheduler::signals_

  // Its own.
  alignas(64) cell_range range; // the part of its claim that is still to be run
  unsigned left = 0; // functions that have left range.where and are not counted there yet
  unsigned turn = 0;
  std::size_t shard = 0; // that had work last
  worker* victim = this; // looked at last
  bool searching = false;
  bool awake = true;
  bool needs_state = false;     // the pool is stateful, and it has none
  std::size_t work_in_hand = 0; // see scheduler::work_started()
  bool ends = false;            // a submission that has ended and is not counted so yet
  bool in_reactor = false;      // sleeps there, and has not run a function since
  search_patience patience;
  bool io_hot = false;
  unsigned unannounced = 0; // functions posted since somebody was told
  unsigned polls_seen = 0;
  unsigned newest_run = 0; // functions of `recent`, one after the other
  recent_cells recent;     // if the pool is lifo
  node_cache nodes;
  tally nested; // submissions that it runs inside of another, as caller_runs does
  tally nested_ended;

  // Others read it.
  alignas(64) claim claimed;
  sync::atomic<bool> keeps_first{false}; // of its claim: see scheduler::is_kept()
  submission_tally submissions;
  tally failed;     // of them, and of the nested
  tally posted;     // continuations from inside
  tally run_inline; // and those that were not queued
  tally exceptions;

  run_queue local; // continuations that it has posted itself

  // Who looks for work keeps here what he has left alone: see scheduler::leaves_alone().
  alignas(64) claim left_alone;
  sync::atomic<std::uint64_t> left_alone_at{0};    // in naps; 0 if nothing was
  sync::atomic<std::uint64_t> left_alone_after{0}; // how many were `posted`
};

/// One of the queues through which work comes in from outside: a producer always uses the same.
struct alignas(128) shard {
  explicit shard(segment_store& segments) : queue(segments) {}

  spin_lock mutex; // of the producers, and of what follows
  credits in_hand; // submissions that may come in without asking: see scheduler
  tally submitted; // that came in, or were refused without asking
  tally rejected;  // of them
  tally posted;    // continuations
  node_cache nodes;
  run_queue queue;
};

} // namespace bulkhead::detail

#endif
