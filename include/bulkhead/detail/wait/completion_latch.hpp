//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_COMPLETION_LATCH_HPP
#define BULKHEAD_DETAIL_WAIT_COMPLETION_LATCH_HPP

#include <bulkhead/detail/sync.hpp>

#include <mutex>

namespace bulkhead::detail {

/// One thread waits for one event, and destroys this as soon as it has waited.
class completion_latch {
public:
  void release() {
    std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_one(); // under the mutex: the waiter destroys the latch
  }

  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
  }

private:
  sync::mutex mutex_;
  sync::condition_variable changed_;
  bool done_ = false;
};

} // namespace bulkhead::detail

#endif
