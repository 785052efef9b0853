//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_NODE_CACHE_HPP
#define BULKHEAD_DETAIL_RUN_NODE_CACHE_HPP

#include <bulkhead/detail/sync.hpp>

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace bulkhead::detail {

/// Memory for functions in queues, used again and again.
///
/// One thread at a time allocates, any thread gives back: blocks return to the cache they came from
/// over a stack that is pushed one by one and taken as a whole, so that no block can come back
/// while somebody still compares with its old place (no ABA). What is larger than the largest class
/// comes from operator new each time.
///
/// Memory order: a block is pushed with release and the stack is taken with acquire, hence what its
/// last user did with it happens before its next use.
class node_cache {
public:
  node_cache() = default;
  node_cache(const node_cache&) = delete;
  node_cache& operator=(const node_cache&) = delete;

  /// All blocks must have been given back.
  ~node_cache() {
    for (size_class& c : classes_) {
      free_all(c.mine);
      free_all(c.returned.load(std::memory_order_acquire));
    }
  }

  /// Storage for `size` bytes of fundamental alignment.
  void* allocate(std::size_t size) {
    std::size_t index = 0;
    while (index != class_count && size > capacity(index)) ++index;
    if (index == class_count) return finish(::operator new(sizeof(block) + size), nullptr);
    size_class& c = classes_[index];
    if (!c.mine) c.mine = c.returned.exchange(nullptr, std::memory_order_acquire);
    if (block* b = c.mine) {
      c.mine = b->next;
      return b + 1;
    }
    void* fresh = ::operator new(sizeof(block) + capacity(index));
    asked_for_ += sizeof(block) + capacity(index);
    return finish(fresh, &c);
  }

  static void deallocate(void* storage) noexcept {
    block* b = static_cast<block*>(storage) - 1;
    size_class* c = b->origin;
    if (!c) return free(b);
    b->next = c->returned.load(std::memory_order_relaxed);
    while (!c->returned.compare_exchange_weak(b->next, b, std::memory_order_release,
                                              std::memory_order_relaxed)) {
    }
  }

  /// How many bytes it has asked for to use them again, since it last gave up what it had.
  std::size_t asked_for() const noexcept { return asked_for_; }

  class surplus;

  /// Gives up what is not in use now. Only by who may allocate.
  void give_up(surplus& to) noexcept;

private:
  static constexpr std::size_t class_count = 4;
  static constexpr std::size_t capacity(std::size_t index) { return std::size_t(112) << index; }

  struct block;
  struct size_class {
    block* mine = nullptr;
    alignas(64) sync::atomic<block*> returned{nullptr};
  };
  struct alignas(std::max_align_t) block {
    size_class* origin;
    block* next;
  };

  static void* finish(void* memory, size_class* origin) {
    return ::new (memory) block{origin, nullptr} + 1;
  }

  static void free(block* b) noexcept { ::operator delete(b); }

  static void free_all(block* b) noexcept {
    while (b) {
      block* next = b->next;
      free(b);
      b = next;
    }
  }

  std::array<size_class, class_count> classes_;
  std::size_t asked_for_ = 0;
};

/// Blocks that a cache has given up, and that end with this.
class node_cache::surplus {
public:
  surplus() = default;
  surplus(const surplus&) = delete;
  surplus& operator=(const surplus&) = delete;

  ~surplus() {
    for (const auto& of_class : lists_)
      for (block* list : of_class) free_all(list);
  }

private:
  friend class node_cache;

  block* lists_[class_count][2] = {};
};

inline void node_cache::give_up(surplus& to) noexcept {
  asked_for_ = 0;
  for (std::size_t i = 0; i != class_count; ++i) {
    to.lists_[i][0] = std::exchange(classes_[i].mine, nullptr);
    to.lists_[i][1] = classes_[i].returned.exchange(nullptr, std::memory_order_acquire);
  }
}

/// The part of an allocator that what stands in a node_cache's memory needs of it: to give it back.
template <class T>
class node_cache_returner {
public:
  using value_type = T;

  node_cache_returner() = default;
  template <class U>
  explicit node_cache_returner(const node_cache_returner<U>&) noexcept {}

  void deallocate(T* p, std::size_t) noexcept { node_cache::deallocate(p); }
};

} // namespace bulkhead::detail

#endif
