//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_STATS_HPP
#define BULKHEAD_STATS_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <thread>

namespace bulkhead {

/// How often durations fell into classes that double in width: below 1 us, below 2 us, below 4 us,
/// and so on to about 18 minutes, and above that.
struct duration_histogram {
  static constexpr std::size_t classes = 32;

  std::array<std::uint64_t, classes> counts{};
  std::chrono::nanoseconds sum{0};

  /// The least duration that is too long for class `i`.
  static constexpr std::chrono::nanoseconds upper_bound(std::size_t i) noexcept {
    if (i >= classes - 1) return std::chrono::nanoseconds::max();
    return std::chrono::microseconds(std::int64_t(1) << i);
  }

  static constexpr std::size_t class_of(std::chrono::nanoseconds d) noexcept {
    if (d.count() < 1000) return 0;
    const auto us = static_cast<std::uint64_t>(d.count() / 1000);
    return (std::min)(static_cast<std::size_t>(std::bit_width(us)), classes - 1);
  }

  constexpr void add(std::chrono::nanoseconds d) noexcept {
    ++counts[class_of(d)];
    sum += d;
  }

  constexpr std::uint64_t count() const noexcept {
    std::uint64_t n = 0;
    for (std::uint64_t c : counts) n += c;
    return n;
  }

  /// 0 if there is nothing.
  constexpr std::chrono::nanoseconds mean() const noexcept {
    const auto n = static_cast<std::int64_t>(count());
    return n == 0 ? std::chrono::nanoseconds(0) : sum / n;
  }

  /// The upper bound of the class in which the share `q` of all is reached, for q from 0 to 1, and above
  /// that as for 1; 0 if there is nothing.
  constexpr std::chrono::nanoseconds quantile(double q) const noexcept {
    const auto wanted = (std::min)(q, 1.0) * static_cast<double>(count());
    std::uint64_t n = 0;
    for (std::size_t i = 0; i != classes; ++i) {
      n += counts[i];
      if (n != 0 && static_cast<double>(n) >= wanted) return upper_bound(i);
    }
    return std::chrono::nanoseconds(0);
  }
};

/// A snapshot of a pool. While that works, each figure is read a moment after the one before.
///
/// Once nothing is queued, waiting or running:
/// `submitted == completed + failed + rejected + cancelled`.
struct pool_stats {
  std::size_t threads = 0; // worker threads alive
  std::size_t idle = 0;    // of them, waiting for work or for I/O
  std::size_t running = 0; // submissions that have started and not ended
  std::size_t queued = 0;  // submissions admitted and not started
  std::size_t waiting = 0; // submitters waiting for room

  std::uint64_t submitted = 0; // attempts, refused ones included
  std::uint64_t completed = 0; // ended without an exception
  std::uint64_t failed = 0;    // ended with one
  std::uint64_t rejected = 0;  // never admitted, for lack of room or because the pool closed
  std::uint64_t cancelled = 0; // ended before they started, by cancellation or stop()

  std::uint64_t continuations = 0; // functions that came through the executor
  std::uint64_t exceptions = 0;    // exceptions handed to on_exception

  std::uint64_t expired_workers = 0; // threads that ended because they were idle for idle_expiry
  std::uint64_t resizes = 0;         // calls of resize()
};

/// A snapshot of a lane, taken at one moment.
///
/// Once nothing is queued, waiting or running:
/// `submitted == completed + failed + rejected + cancelled`.
struct lane_stats {
  std::size_t in_flight = 0; // submissions and continuations that have started and not ended
  std::size_t running = 0;   // of them, submissions
  std::size_t queued = 0;    // submissions admitted and not started
  std::size_t waiting = 0;   // async_submit calls waiting for room

  std::uint64_t submitted = 0; // attempts, refused ones included
  std::uint64_t completed = 0; // ended without an exception
  std::uint64_t failed = 0;    // ended with one
  std::uint64_t rejected = 0;  // never admitted, for lack of room or because the lane closed
  std::uint64_t cancelled = 0; // ended before they started, by cancellation or with the set

  std::uint64_t continuations = 0; // functions that came through the executor, and have started

  /// Of several lanes.
  lane_stats& operator+=(const lane_stats& other) noexcept {
    in_flight += other.in_flight;
    running += other.running;
    queued += other.queued;
    waiting += other.waiting;
    submitted += other.submitted;
    completed += other.completed;
    failed += other.failed;
    rejected += other.rejected;
    cancelled += other.cancelled;
    continuations += other.continuations;
    return *this;
  }
};

/// A snapshot of a stateful_pool: of a pool, and of its states a moment later.
struct stateful_pool_stats : pool_stats {
  std::size_t states = 0; // alive

  std::uint64_t built = 0;         // by the factory
  std::uint64_t rebuilt = 0;       // of them, in place of one that a task has asked to be replaced
  std::uint64_t failed_builds = 0; // the factory has thrown
};

/// What pool::drain_for() found.
struct drain_report {
  std::size_t completed = 0; // submissions that ended during the drain, however they ended
  std::size_t abandoned = 0; // admitted submissions that never started
};

/// Who holds units of a limiter, or waits for some.
struct permit_user {
  std::size_t weight = 0;
  std::chrono::nanoseconds since{0}; // for how long it has held them, or waits
  std::source_location where{};      // of the call that asked for them
  std::thread::id thread{};          // that made it
};

/// A snapshot of a group, taken at one moment.
///
/// `spawned == running + pending + completed + failed + cancelled`, but for those pending with an
/// async_spawn that waits: they are counted as spawned when they start.
struct group_stats {
  std::size_t running = 0; // children in flight
  std::size_t pending = 0; // that wait for their turn

  std::uint64_t spawned = 0;   // accepted
  std::uint64_t completed = 0; // ended without an error
  std::uint64_t failed = 0;    // ended with one
  std::uint64_t cancelled =
      0; // ended with operation_aborted after a cancellation, or never started
};

/// A snapshot of a semaphore, taken at one moment, but for `wait_time`, which may be a little late.
///
/// Every acquisition that was tried or begun is in one of them:
/// `granted + rejected + cancelled + waiting`.
struct semaphore_stats {
  std::size_t limit = 0;
  std::size_t in_use = 0;  // units
  std::size_t waiting = 0; // acquisitions

  std::uint64_t granted = 0;  // permits
  std::uint64_t waited = 0;   // of them, those that had to wait
  std::uint64_t rejected = 0; // for lack of room in the queue, for their weight, by close()
  std::uint64_t cancelled =
      0; // waits that were, and those that ended with the semaphore or a context

  duration_histogram wait_time; // of those that waited: see semaphore_options::timed_waits
};

/// A snapshot of a recycling_stack and all its copies, taken at one moment.
///
/// `created == in_use + cached + dropped`, and `created + reused` is the number of all allocations.
struct recycling_stack_stats {
  std::size_t in_use = 0; // stacks that are allocated now
  std::size_t cached = 0; // that are kept for later

  std::uint64_t created = 0; // made of fresh memory
  std::uint64_t reused = 0;  // allocations that took one that was cached
  std::uint64_t dropped = 0; // given back to the system
};

} // namespace bulkhead

#endif
