//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_POSTING_HPP
#define BULKHEAD_DETAIL_WAIT_POSTING_HPP

#include <bulkhead/detail/per_thread.hpp>

#include <cstddef>
#include <new>
#include <thread>
#include <utility>

namespace bulkhead::detail {

/// Calls `f`, again and again as long as it throws std::bad_alloc, giving way to other threads in
/// between: for what has to happen, and there is nobody to tell that it has not. After a hundred times
/// it is thrown nevertheless.
template <class F>
void retry(F f) {
  for (int tries = 100;;) {
    try {
      return f();
    } catch (const std::bad_alloc&) {
      if (--tries == 0) throw;
    }
    std::this_thread::yield();
  }
}

/// While this thread gives a function to an executor: tells its destructor whether it has come back,
/// because the executor had no memory for it, refuses it or drops it, or is destroyed later, because
/// the context ends.
class posting {
public:
  /// `what` names the function.
  explicit posting(const void* what) noexcept
      : what_(what), outer_(std::exchange(innermost(), this)) {}
  ~posting() { innermost() = outer_; }
  posting(const posting&) = delete;
  posting& operator=(const posting&) = delete;

  /// For the destructor of a function that was not called. If this says so, all else is up to whoever
  /// is posting it.
  static bool takes_back(const void* what) noexcept {
    for (posting* p = innermost(); p; p = p->outer_)
      if (p->what_ == what) {
        ++p->came_back_;
        return true;
      }
    return false;
  }

  bool is_back() const noexcept { return came_back_ != 0; }

  /// How many are, where several have that name.
  std::size_t came_back() const noexcept { return came_back_; }

  /// Calls `post`, again if there was no memory for it: what waits for the function would wait for ever.
  template <class Post>
  void insist(Post post) {
    retry([&] {
      if (came_back_ != 0) --came_back_;
      try {
        post();
      } catch (const std::bad_alloc&) {
        if (is_back()) throw; // otherwise the executor has it
      }
    });
  }

private:
  static posting*& innermost() noexcept { return per_thread<posting*, posting>::get(); }

  const void* const what_;
  posting* const outer_;
  std::size_t came_back_ = 0;
};

} // namespace bulkhead::detail

#endif
