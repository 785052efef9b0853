//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_DEPARTURES_HPP
#define BULKHEAD_DETAIL_WAIT_DEPARTURES_HPP

#include <bulkhead/detail/sync.hpp>

#include <cstddef>
#include <mutex>

namespace bulkhead::detail {

/// Operations that have left their engine's tables and whose handlers are not posted yet.
///
/// Completing happens under no lock, so between the two a handler's context could shut down, find
/// nothing of its own in the engine, and be gone when the handler is posted there. So an engine
/// counts its operations out, and a context that shuts down waits until none is on its way. (From
/// operation::complete() on, the registry of a foreign context counts as well: there the operation
/// is no longer subscribed, so that such a context would not ask the engine.) Little happens on
/// that way: handlers are posted, not destroyed, and functions that never ran end.
class departures {
public:
  /// Under the engine's mutex, in one step with taking `n` operations out.
  void begin(std::size_t n = 1) noexcept { count_ += n; }

  /// When they are posted.
  void end(sync::mutex& engine, std::size_t n = 1) noexcept {
    if (n == 0) return;
    std::lock_guard lock(engine);
    count_ -= n;
    none_.notify_all();
  }

  bool none() const noexcept { return count_ == 0; }

  /// Under the engine's mutex, which is released meanwhile: until no more than `others` are on their
  /// way.
  void wait(std::unique_lock<sync::mutex>& engine, std::size_t others = 0) noexcept {
    none_.wait(engine, [&] { return count_ <= others; });
  }

private:
  std::size_t count_ = 0;
  sync::condition_variable none_;
};

/// The same for an engine whose lock is a spin_lock: whoever waits for the last gives way meanwhile.
/// What those on their way did is seen by who has waited for them.
class light_departures {
public:
  /// Under the engine's lock, in one step with taking `n` operations out.
  void begin(std::size_t n = 1) noexcept { count_.fetch_add(n, std::memory_order_relaxed); }

  /// When they are posted.
  void end(std::size_t n = 1) noexcept { count_.fetch_sub(n, std::memory_order_release); }

  bool none() const noexcept { return count_.load(std::memory_order_acquire) == 0; }

  /// Not under the lock: until no more than `others` are on their way.
  void wait(std::size_t others = 0) const noexcept {
    while (count_.load(std::memory_order_acquire) > others) sync::this_thread::yield();
  }

private:
  sync::atomic<std::size_t> count_{0};
};

} // namespace bulkhead::detail

#endif
