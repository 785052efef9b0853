//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_STACK_STORE_HPP
#define BULKHEAD_DETAIL_STACK_STORE_HPP

#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/stats.hpp>

#include <boost/context/stack_context.hpp>
#include <boost/context/stack_traits.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#include <sys/mman.h>

#if defined(BOOST_USE_VALGRIND)
#include <valgrind/valgrind.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define BULKHEAD_DETAIL_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BULKHEAD_DETAIL_ASAN
#endif
#endif
#if defined(BULKHEAD_DETAIL_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace bulkhead::detail {

/// Where stacks come from and go to: pages of their own, the lowest of which nobody may touch.
///
/// Not Boost.Context's protected_fixedsize_stack: when the system refuses to protect the page, for
/// want of room in its table of mappings, that stops at an assertion, or without assertions goes on to
/// hand out stacks that overflow into whatever lies below.
class guarded_stacks {
public:
  using traits = boost::context::stack_traits;
  using stack_context = boost::context::stack_context;

  /// `size` bytes each, in whole pages, beside the guard.
  explicit guarded_stacks(std::size_t size) noexcept
      : guard_(traits::page_size()), size_((size + guard_ - 1) / guard_ * guard_ + guard_) {}

  /// The largest size for which that can be reckoned.
  static std::size_t most() noexcept { return SIZE_MAX / 2 - traits::page_size(); }

  stack_context map() const {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#if defined(__linux__) || defined(BOOST_CONTEXT_USE_MAP_STACK)
    flags |= MAP_STACK; // newer kernels of Linux then leave huge pages out of it
#endif
    void* const lowest = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (lowest == MAP_FAILED) throw std::bad_alloc();
    if (::mprotect(lowest, guard_, PROT_NONE) != 0) {
      ::munmap(lowest, size_);
      throw std::bad_alloc();
    }
    stack_context s;
    s.size = size_;
    s.sp = static_cast<char*>(lowest) + size_;
#if defined(BOOST_USE_VALGRIND)
    s.valgrind_stack_id = VALGRIND_STACK_REGISTER(s.sp, lowest);
#endif
    return s;
  }

  static void unmap(const stack_context& s) noexcept {
#if defined(BOOST_USE_VALGRIND)
    VALGRIND_STACK_DEREGISTER(s.valgrind_stack_id);
#endif
    ::munmap(static_cast<char*>(s.sp) - s.size, s.size);
  }

private:
  std::size_t guard_;
  std::size_t size_;
};

/// A stack that nobody uses, at its own top: so to keep one takes no memory, and cannot fail.
class free_stack {
public:
  /// AddressSanitizer reports whoever touches the rest of the stack before it is used again.
  static free_stack& lay(const boost::context::stack_context& s) noexcept {
    void* const place = static_cast<char*>(s.sp) - sizeof(free_stack);
#if defined(BULKHEAD_DETAIL_ASAN)
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(s.sp) - s.size, s.size);
    ASAN_UNPOISON_MEMORY_REGION(place, sizeof(free_stack));
#endif
    return *::new (place) free_stack(s);
  }

  /// Frames that never returned have left AddressSanitizer's marks; the next user gets none of them.
  boost::context::stack_context lift() noexcept {
    const boost::context::stack_context s = stack_;
#if defined(BULKHEAD_DETAIL_ASAN)
    ASAN_UNPOISON_MEMORY_REGION(static_cast<char*>(s.sp) - s.size, s.size);
#endif
    return s;
  }

  free_stack* below = nullptr;

private:
  explicit free_stack(const boost::context::stack_context& s) noexcept : stack_(s) {}

  boost::context::stack_context stack_;
};

/// Stacks of one size, for whoever needs one next: a pile under one lock, with the last that came
/// back on top, since the processor's cache still has some of it. A stack is mapped and unmapped
/// outside the lock.
///
/// A pile for each thread was measured and gains nothing. The lock is two times 5 ns of a coroutine's
/// 250 where one thread spawns. Where two do, they contend for the number of the allocator's copies
/// just as much, which nobody can do without who may be outlived by a coroutine.
class stack_store {
public:
  stack_store(std::size_t size, std::size_t max_cached) noexcept
      : source_(size), max_cached_(max_cached) {}

  stack_store(const stack_store&) = delete;
  stack_store& operator=(const stack_store&) = delete;
  ~stack_store() { trim(); }

  boost::context::stack_context take() {
    if (free_stack* f = pop()) return f->lift();
    const auto s = source_.map();
    std::lock_guard lock(mutex_);
    ++created_;
    return s;
  }

  void put(const boost::context::stack_context& s) noexcept {
    free_stack& f = free_stack::lay(s);
    if (!push(f)) source_.unmap(f.lift());
  }

  void trim() noexcept {
    for (free_stack* f = pop_all(); f;) {
      free_stack* const next = f->below;
      source_.unmap(f->lift());
      f = next;
    }
  }

  recycling_stack_stats stats() const noexcept {
    std::lock_guard lock(mutex_);
    recycling_stack_stats s;
    s.in_use = static_cast<std::size_t>(created_ - dropped_) - cached_;
    s.cached = cached_;
    s.created = created_;
    s.reused = reused_;
    s.dropped = dropped_;
    return s;
  }

private:
  free_stack* pop() noexcept {
    std::lock_guard lock(mutex_);
    free_stack* const f = top_;
    if (!f) return nullptr;
    top_ = f->below;
    --cached_;
    ++reused_;
    return f;
  }

  bool push(free_stack& f) noexcept {
    std::lock_guard lock(mutex_);
    if (cached_ == max_cached_) {
      ++dropped_;
      return false;
    }
    f.below = std::exchange(top_, &f);
    ++cached_;
    return true;
  }

  free_stack* pop_all() noexcept {
    std::lock_guard lock(mutex_);
    dropped_ += std::exchange(cached_, 0);
    return std::exchange(top_, nullptr);
  }

  const guarded_stacks source_;
  const std::size_t max_cached_;

  mutable spin_lock mutex_;
  free_stack* top_ = nullptr;
  std::size_t cached_ = 0;
  std::uint64_t created_ = 0;
  std::uint64_t reused_ = 0;
  std::uint64_t dropped_ = 0;
};

} // namespace bulkhead::detail

#undef BULKHEAD_DETAIL_ASAN

#endif
