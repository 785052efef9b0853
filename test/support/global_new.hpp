//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_GLOBAL_NEW_HPP
#define BULKHEAD_TEST_SUPPORT_GLOBAL_NEW_HPP

#include "allocators.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include <malloc.h>

// Replaces the global allocation functions of a test executable with ones that count, and that can
// be made to fail. To be included by one translation unit of the executable only.

namespace test {

inline memory_balance global_memory;
inline allocation_fuse global_fuse;

/// Whether memory that is aligned to pages can be had, by all threads.
inline std::atomic<bool> global_pages{true};

namespace detail {

/// The fuse blows only for the thread that armed it: the others are not under test, unless it is shared.
inline thread_local bool fuse_is_mine = false;
inline std::atomic<bool> fuse_is_shared{false};

inline void* global_allocate(std::size_t n, std::size_t alignment) {
  if ((fuse_is_mine || fuse_is_shared) && global_fuse.blows()) throw std::bad_alloc();
  if (alignment >= 4096 && !global_pages) throw std::bad_alloc();
  if (n == 0) n = 1;
  void* p = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
                ? std::malloc(n)
                : std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  ++global_memory.blocks;
  ++global_memory.allocations;
  global_memory.bytes += static_cast<long>(malloc_usable_size(p));
  return p;
}

inline void global_deallocate(void* p) noexcept {
  if (!p) return;
  --global_memory.blocks;
  global_memory.bytes -= static_cast<long>(malloc_usable_size(p));
  std::free(p);
}

} // namespace detail

/// Lets `n` allocations pass and the next one fail, for as long as it lives: of this thread, or of all.
class global_fuse_scope {
public:
  explicit global_fuse_scope(long n, bool of_all_threads = false) noexcept {
    global_fuse.arm(n);
    detail::fuse_is_mine = true;
    detail::fuse_is_shared = of_all_threads;
  }
  ~global_fuse_scope() {
    detail::fuse_is_mine = false;
    detail::fuse_is_shared = false;
    global_fuse.disarm();
  }
  global_fuse_scope(const global_fuse_scope&) = delete;
  global_fuse_scope& operator=(const global_fuse_scope&) = delete;
};

} // namespace test

// gcc knows malloc and free and takes their use here for a mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

void* operator new(std::size_t n) { return test::detail::global_allocate(n, 1); }
void* operator new[](std::size_t n) { return test::detail::global_allocate(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return test::detail::global_allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return test::detail::global_allocate(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { test::detail::global_deallocate(p); }
void operator delete[](void* p) noexcept { test::detail::global_deallocate(p); }
void operator delete(void* p, std::size_t) noexcept { test::detail::global_deallocate(p); }
void operator delete[](void* p, std::size_t) noexcept { test::detail::global_deallocate(p); }
void operator delete(void* p, std::align_val_t) noexcept { test::detail::global_deallocate(p); }
void operator delete[](void* p, std::align_val_t) noexcept { test::detail::global_deallocate(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  test::detail::global_deallocate(p);
}
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  test::detail::global_deallocate(p);
}

#endif
