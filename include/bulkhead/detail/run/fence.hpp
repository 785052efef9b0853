//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_FENCE_HPP
#define BULKHEAD_DETAIL_RUN_FENCE_HPP

#include <bulkhead/detail/sync.hpp>

#include <atomic>

namespace bulkhead::detail {

/// Where thread A stores x and then reads y, and thread B stores y and then reads x, at least one of
/// them shall see the other's store. Ordinarily both pay for that, with a sequentially consistent
/// store. If A does it all the time and B hardly ever, B can pay for both: A stores as if it were
/// alone, in the order of its program as far as the compiler goes, and B, between its two steps,
/// makes the system run a fence on every processor that runs a thread of this process. What A has
/// stored before that fence, B sees; if A has not come so far, its read comes after, and A sees what B
/// has stored.
///
/// Source: P1202, Asymmetric thread fences; membarrier(2). Where the system has no such thing, A's
/// store is sequentially consistent after all.
class asymmetric_fence {
public:
  /// To be called before there are any threads that store().
  static void prepare() noexcept {
    if (!available() && sync::register_barrier()) flag().store(true, std::memory_order_relaxed);
  }

  /// A's part. Its reads afterwards are to be sequentially consistent.
  template <class T>
  static void store(sync::atomic<T>& x, T value) noexcept {
    if (available()) [[likely]] {
      x.store(value, std::memory_order_release);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      x.store(value, std::memory_order_seq_cst);
    }
  }

  /// B's part, between a sequentially consistent store and such reads. Fails, and does nothing, where
  /// nobody relies on it.
  static void wait_for_all() noexcept { sync::barrier_for_all(); }

private:
  static bool available() noexcept { return flag().load(std::memory_order_relaxed); }

  static sync::atomic<bool>& flag() noexcept {
    static constinit sync::atomic<bool> f{false};
    return f;
  }
};

} // namespace bulkhead::detail

#endif
