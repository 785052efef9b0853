//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_RECYCLING_STACK_HPP
#define BULKHEAD_RECYCLING_STACK_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/stack_store.hpp>
#include <bulkhead/stats.hpp>

#include <boost/context/stack_context.hpp>
#include <boost/context/stack_traits.hpp>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

namespace bulkhead {

struct recycling_stack_options {
  /// Bytes of each stack, rounded up to whole pages; the guard page comes on top of that. At least
  /// `recycling_stack::traits_type::minimum_size()`.
  std::size_t size = boost::context::stack_traits::default_size();

  /// How many stacks that are not in use are kept at most; 0: none, so that no stack is used again.
  ///
  /// What is missing is made at the price of some system calls and page faults, so the cap should
  /// cover by how much the number of coroutines wavers, not how many there are. The default does that
  /// for most servers, and keeps 32 MiB in the worst case: stacks of the default size, each of which
  /// some coroutine has used to its end. A program that starts and ends its coroutines in waves sets
  /// it to the size of a wave.
  std::size_t max_cached = 256;
};

/// Stacks for stackful coroutines that are used again and again: a stack allocator of Boost.Context,
/// for asio::spawn().
///
/// A stack with a guard page costs some system calls and page faults each time, many times what all
/// the rest of a short coroutine does. One without is as cheap as malloc(), until a coroutine needs
/// more than it has and writes into memory that belongs to somebody else. Here stacks have the guard,
/// and the price is paid once: what a coroutine gives back at its end is kept for those that follow.
///
///     bulkhead::recycling_stack stack;
///     asio::spawn(pool, std::allocator_arg, stack, f, token); // as often as you like
///
/// Copies are the same *store* of stacks; Asio puts one into each coroutine. A stack is *in use* from
/// allocate() to deallocate(), and then *cached*, or *dropped* if there are `max_cached` already. The
/// last that was cached is the next to be used, also if that is on another thread: of all it is the
/// most likely to be in the processor's cache.
///
/// Each stack is a multiple of pages, with a page below it that cannot be touched: a coroutine that
/// needs more than it has ends the process (SIGSEGV), unless one frame is so large as to reach over
/// that page. There is no stack without its guard. On Linux each takes two mappings, of which a
/// process may have 65530 by default (`vm.max_map_count`): at about 32,000 stacks, allocate() throws.
///
/// asio::spawn() allocates within the call, which throws what allocate() throws; the completion handler
/// is destroyed then without being called. The stack goes back when the coroutine has returned from that
/// handler, which it calls itself where it may: so what the handler spawns gets another one.
///
/// Memory                a cached stack keeps what its users have touched of it, until it is dropped;
///                       nothing is given back in part. Keeping one allocates nothing
/// Object lifetimes      the store lives as long as any copy. Coroutines have one each, so they may
///                       outlive all others. What was moved from can be destroyed or assigned to
/// Thread safety         distinct objects safe, shared objects safe; a stack may be given back on
///                       another thread than the one that it was allocated on
/// Complexity            one short lock for each allocate(), deallocate() and stats(), which all
///                       copies share; the system is called outside of it
/// Sanitizers            AddressSanitizer reports who touches a stack that is cached. A stack that is
///                       used again bears no traces of frames that never returned
///
/// Needs Boost.Context's compiled library, so `<bulkhead.hpp>` does not include this header; and POSIX.
class recycling_stack {
public:
  using traits_type = boost::context::stack_traits;

  /// A store of its own, with no stack in it.
  ///
  /// Errors              throws `std::invalid_argument` for a size that is too small, or too large to
  ///                     be rounded up: `recycling_stack_options::size must be at least 13504 (got 1)`
  /// Exception safety    throws `std::bad_alloc` as well
  explicit recycling_stack(recycling_stack_options options = {})
      : store_(std::make_shared<detail::stack_store>(checked(options.size), options.max_cached)) {}

  /// A stack: of those that are cached the one that came last, else a new one. Its contents are
  /// undefined. `size` counts the guard page, as with Boost.Context's protected_fixedsize_stack.
  ///
  /// Errors              throws `std::bad_alloc` if none is cached, and the system has no memory, or
  ///                     no room in its table of mappings
  /// Exception safety    strong
  boost::context::stack_context allocate() { return store_->take(); }

  /// Gives a stack back, which is cached or dropped.
  ///
  /// Preconditions       it came from allocate() of this object or of a copy
  void deallocate(boost::context::stack_context& stack) noexcept { store_->put(stack); }

  /// Drops all stacks that are cached now.
  void trim() noexcept { store_->trim(); }

  recycling_stack_stats stats() const noexcept { return store_->stats(); }

private:
  static std::size_t checked(std::size_t size) {
    const std::size_t least = traits_type::minimum_size(), most = detail::guarded_stacks::most();
    if (size < least) invalid_size("at least ", least, size);
    if (size > most) invalid_size("at most ", most, size);
    return size;
  }

  [[noreturn]] static void invalid_size(const char* must, std::size_t bound, std::size_t got) {
    throw std::invalid_argument(std::string("recycling_stack_options::size must be ") + must +
                                std::to_string(bound) + " (got " + std::to_string(got) + ")");
  }

  std::shared_ptr<detail::stack_store> store_;
};

} // namespace bulkhead

#endif
