//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_SPIN_LOCK_HPP
#define BULKHEAD_DETAIL_WAIT_SPIN_LOCK_HPP

#include <bulkhead/detail/sync.hpp>

namespace bulkhead::detail {

/// Tells the processor that the caller waits for another one.
inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// A lock of one byte for short sections, in which no code of the user's runs.
///
/// Taking it is one atomic step, giving it back none, half the price of a mutex. Who finds it taken
/// yields before long: its holder may have lost its processor to just this thread.
class spin_lock {
public:
  void lock() noexcept {
    if (taken_.exchange(true, std::memory_order_seq_cst)) lock_taken();
  }

  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

  /// Waits for whoever has the lock now. What he did with it is seen afterwards; and whoever takes
  /// it later sees what the caller did before, if both is sequentially consistent.
  void synchronize() noexcept {
    if (!taken_.load(std::memory_order_seq_cst)) return;
    lock();
    unlock();
  }

private:
  static constexpr int turns_before_yield = 64;

  [[gnu::noinline]] void lock_taken() noexcept {
    do
      for (int turns = 0; taken_.load(std::memory_order_relaxed); ++turns)
        if (turns > turns_before_yield) sync::this_thread::yield();
    while (taken_.exchange(true, std::memory_order_seq_cst));
  }

  sync::atomic<bool> taken_{false};
};

} // namespace bulkhead::detail

#endif
