//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_SUSPENDED_COROUTINE_HPP
#define BULKHEAD_DETAIL_GROUP_SUSPENDED_COROUTINE_HPP

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// What a coroutine has left behind when it suspended itself: the handler that lets it go on.
class suspended_coroutine {
public:
  suspended_coroutine() = default;
  suspended_coroutine(const suspended_coroutine&) = delete;
  suspended_coroutine& operator=(const suspended_coroutine&) = delete;

  /// Nothing is held before.
  template <class Handler>
  void hold(Handler&& handler) {
    using type = std::decay_t<Handler>;
    static_assert(sizeof(type) <= sizeof(storage_) && alignof(type) <= alignof(void*));
    ::new (static_cast<void*>(storage_)) type(std::forward<Handler>(handler));
    end_ = &end<type>;
  }

  /// Lets it go on, inside this call. This object may be gone when it returns.
  void resume() { end_(storage_, true); }

  /// Destroys the coroutine.
  void destroy() { end_(storage_, false); }

private:
  template <class Handler>
  static void end(void* storage, bool invoke) {
    Handler& held = *std::launder(static_cast<Handler*>(storage));
    Handler handler(std::move(held));
    held.~Handler();
    if (invoke) std::move(handler)();
  }

  void (*end_)(void*, bool) = nullptr;
  alignas(void*) unsigned char storage_[4 * sizeof(void*)];
};

} // namespace bulkhead::detail

#endif
