//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_PER_THREAD_HPP
#define BULKHEAD_DETAIL_PER_THREAD_HPP

namespace bulkhead::detail {

/// An object of each thread, value-initialised. `Tag` tells it from others of its type.
///
/// A coroutine may go on in another thread than the one that it was suspended in, and there the object
/// has another address, which not every compiler knows: Clang before 19 keeps the address over a
/// co_await in a loop (LLVM's issues 47179 and 63022, its pull request 81937), and any compiler may do
/// so in a stackful coroutine, for a switch of stacks is a call like others. So the address is had by
/// a call only, which is not inlined, and, as the statement in it might have effects, is not taken
/// for another call either.
template <class T, class Tag>
class per_thread {
public:
  [[gnu::noinline]] static T& get() noexcept {
    asm volatile("");
    return instance_;
  }

private:
  static inline thread_local constinit T instance_{};
};

} // namespace bulkhead::detail

#endif
