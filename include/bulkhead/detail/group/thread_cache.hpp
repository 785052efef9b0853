//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_THREAD_CACHE_HPP
#define BULKHEAD_DETAIL_GROUP_THREAD_CACHE_HPP

#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/sync.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace bulkhead::detail {

/// What can be kept in a thread_cache.
template <class T>
class cached {
  template <class, class>
  friend class thread_cache;

  T* next_ = nullptr;
};

/// Objects that nobody uses now, for whoever needs one next.
///
/// Each thread keeps some, without a lock. What one thread has too many of goes to the depot that
/// all share, and comes from there to the thread that has none: always `batch` at a time, so that
/// the depot's lock costs little. (The magazines of Bonwick and Adams, "Magazines and Vmem", 2001.)
/// Nothing is kept beyond that, or by a thread that has ended: `Drop` ends an object.
template <class T, class Drop>
class thread_cache {
public:
  /// Null, if there is none.
  static T* take() noexcept {
    stack& s = mine();
    if (!s.top && !refill(s)) return nullptr;
    --s.size;
    return std::exchange(s.top, std::exchange(next(*s.top), nullptr));
  }

  static void put(T& object) noexcept {
    stack& s = mine();
    if (s.ended) return Drop()(object);
    if (s.size == 0) at_thread_end();
    next(object) = std::exchange(s.top, &object);
    if (++s.size == 2 * batch) unload(s);
  }

private:
  static constexpr std::size_t batch = 32;
  static constexpr std::size_t most_batches = 32;

  struct stack {
    T* top = nullptr;
    std::size_t size = 0;
    bool ended = false;
  };

  struct depot {
    sync::mutex mutex;
    std::vector<T*> batches;
  };

  static T*& next(T& object) noexcept { return static_cast<cached<T>&>(object).next_; }

  static stack& mine() noexcept { return per_thread<stack, thread_cache>::get(); }

  // Never destroyed: threads may outlive what is static.
  static depot& shared() noexcept {
    union storage {
      depot instance;
      storage() noexcept : instance() {}
      ~storage() {}
    };
    static storage s;
    return s.instance;
  }

  /// Not inlined: see per_thread.
  [[gnu::noinline]] static void at_thread_end() {
    struct guard {
      ~guard() {
        mine().ended = true;
        drop(std::exchange(mine().top, nullptr));
      }
      void touch() noexcept {}
    };
    static thread_local guard instance;
    instance.touch();
  }

  static void drop(T* first) noexcept {
    while (T* object = first) {
      first = std::exchange(next(*object), nullptr);
      Drop()(*object);
    }
  }

  static bool refill(stack& s) noexcept {
    if (s.ended) return false;
    at_thread_end();
    depot& d = shared();
    std::lock_guard lock(d.mutex);
    if (d.batches.empty()) return false;
    s.top = d.batches.back();
    s.size = batch;
    d.batches.pop_back();
    return true;
  }

  /// Half of what is there.
  static void unload(stack& s) noexcept {
    T* const first = s.top;
    T* last = first;
    for (std::size_t i = 1; i != batch; ++i) last = next(*last);
    s.top = std::exchange(next(*last), nullptr);
    s.size -= batch;
    if (!hand_over(first)) drop(first);
  }

  static bool hand_over(T* first) noexcept {
    depot& d = shared();
    std::lock_guard lock(d.mutex);
    if (d.batches.size() == most_batches) return false;
    try {
      d.batches.push_back(first);
    } catch (...) {
      return false;
    }
    return true;
  }
};

template <std::size_t Size>
struct memory_block : cached<memory_block<Size>> {};

inline constexpr std::size_t cache_line = 64;

struct free_memory_block {
  void operator()(auto& b) const noexcept {
    ::operator delete(static_cast<void*>(&b), std::align_val_t(cache_line));
  }
};

/// Memory for short-lived objects, used again and again, in whole lines.
template <class T>
class block_allocator {
  static constexpr std::size_t size = (sizeof(T) + cache_line - 1) / cache_line * cache_line;
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool is_cached = false; // who uses memory that was freed is to be found
#else
  static constexpr bool is_cached = size <= 1024 && alignof(T) <= cache_line;
#endif

  using block = memory_block<size>;
  using cache = thread_cache<block, free_memory_block>;

public:
  using value_type = T;

  block_allocator() = default;
  template <class U>
  block_allocator(const block_allocator<U>&) noexcept {}

  T* allocate(std::size_t n) {
    if constexpr (is_cached)
      if (n == 1) {
        if (auto* b = cache::take()) return static_cast<T*>(static_cast<void*>(b));
        return static_cast<T*>(::operator new(size, std::align_val_t(cache_line)));
      }
    return std::allocator<T>().allocate(n);
  }

  void deallocate(T* p, std::size_t n) noexcept {
    if constexpr (is_cached)
      if (n == 1) return cache::put(*::new (static_cast<void*>(p)) block);
    std::allocator<T>().deallocate(p, n);
  }

  friend bool operator==(const block_allocator&, const block_allocator&) noexcept { return true; }
};

} // namespace bulkhead::detail

#endif
