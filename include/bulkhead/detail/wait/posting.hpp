//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_POSTING_HPP
#define BULKHEAD_DETAIL_WAIT_POSTING_HPP

namespace bulkhead::detail {

/// While this thread gives a function to an executor: tells the function's destructor whether it has
/// come back, because the executor had no memory for it, or is destroyed later, because its context
/// ends.
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

  /// It is given away once more.
  void again() noexcept { is_back_ = false; }

private:
  static inline thread_local constinit posting* innermost = nullptr;

  const void* const what_;
  posting* const outer_;
  bool is_back_ = false;
};

} // namespace bulkhead::detail

#endif
