//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_EVENT_HPP
#define BULKHEAD_DETAIL_RUN_EVENT_HPP

#include <bulkhead/detail/sync.hpp>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <utility>

namespace bulkhead::detail {

/// What one thread sleeps on until any other wakes it: an auto-reset event. If it is set before
/// anybody waits, the next wait ends at once; set twice, it still ends one wait only. The one that
/// waits sees what was done before each set() so far.
///
/// Thread safety: set() by anybody, the rest by one thread at a time.
class event {
public:
  using clock = std::chrono::steady_clock;

#ifdef BULKHEAD_HAS_FUTEX
  // A condition variable would need a mutex, and half a microsecond more to wake somebody.
  //
  // `awaited` is only ever stored by the thread that waits, over `idle`; the kernel puts it to sleep
  // if that stands there still. Whoever stores `set` and finds `awaited` wakes it. Nobody but the
  // thread that waits takes `set` away, and it does so with an exchange, which reads the last one.

  event() = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  void set() noexcept {
    if (state_.exchange(is_set, std::memory_order_release) == awaited) sync::futex_wake(state_);
  }

  /// False if it was not set for so long, which may be as long as one likes.
  bool wait_for(std::chrono::nanoseconds duration) noexcept {
    if (duration == duration.max()) return wait(nullptr);
    const auto now = clock::now();
    if (duration >= clock::time_point::max() - now) return wait(nullptr);
    const auto deadline = (now + duration).time_since_epoch();
    const auto s = std::chrono::floor<std::chrono::seconds>(deadline);
    const std::timespec t{static_cast<std::time_t>(s.count()),
                          static_cast<long>(std::chrono::nanoseconds(deadline - s).count())};
    return wait(&t);
  }

private:
  static constexpr std::uint32_t idle = 0;
  static constexpr std::uint32_t awaited = 1;
  static constexpr std::uint32_t is_set = 2;

  bool wait(const std::timespec* deadline) noexcept {
    std::uint32_t seen = idle;
    if (state_.compare_exchange_strong(seen, awaited, std::memory_order_relaxed)) {
      bool in_time = true;
      do in_time = sync::futex_wait(state_, awaited, deadline);
      while (in_time && state_.load(std::memory_order_relaxed) == awaited);
    }
    return state_.exchange(idle, std::memory_order_acquire) == is_set;
  }

  sync::atomic<std::uint32_t> state_{idle};
#else
  void set() noexcept {
    std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_one();
  }

  bool wait_for(std::chrono::nanoseconds duration) noexcept {
    std::unique_lock lock(mutex_);
    const auto now = clock::now();
    if (duration >= clock::time_point::max() - now)
      changed_.wait(lock, [this] { return set_; });
    else
      changed_.wait_until(lock, now + duration, [this] { return set_; });
    return std::exchange(set_, false);
  }

private:
  sync::mutex mutex_;
  sync::condition_variable changed_;
  bool set_ = false;
#endif
};

} // namespace bulkhead::detail

#endif
