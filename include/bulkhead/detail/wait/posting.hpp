//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_POSTING_HPP
#define BULKHEAD_DETAIL_WAIT_POSTING_HPP

#include <new>
#include <thread>

namespace bulkhead::detail {

/// While this thread gives a function to an executor: tells its destructor whether it has come back,
/// because the executor had no memory for it, or is destroyed later, because the context ends.
class posting {
public:
  /// `what` names the function.
  explicit posting(const void* what) noexcept : what_(what), outer_(innermost) { innermost = this; }
  ~posting() { innermost = outer_; }
  posting(const posting&) = delete;
  posting& operator=(const posting&) = delete;

  /// For the destructor of a function that was not called. If this says so, all else is up to whoever
  /// is posting it.
  static bool takes_back(const void* what) noexcept {
    for (posting* p = innermost; p; p = p->outer_)
      if (p->what_ == what) return p->is_back_ = true;
    return false;
  }

  bool is_back() const noexcept { return is_back_; }

  /// How often a thread that cannot do without memory asks for it, giving way to others in between.
  static constexpr int most_tries = 100;

  /// Calls `post` until it does not fail for want of memory, most_tries times, or the executor has the
  /// function nevertheless. What waits for the function would wait for ever.
  template <class Post>
  void insist(Post post) {
    for (int tries = most_tries;;) {
      is_back_ = false;
      try {
        return post();
      } catch (const std::bad_alloc&) {
        if (!is_back_) return;
        if (--tries == 0) throw;
      }
      std::this_thread::yield();
    }
  }

private:
  static inline thread_local constinit posting* innermost = nullptr;

  const void* const what_;
  posting* const outer_;
  bool is_back_ = false;
};

} // namespace bulkhead::detail

#endif
