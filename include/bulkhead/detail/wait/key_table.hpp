//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_KEY_TABLE_HPP
#define BULKHEAD_DETAIL_WAIT_KEY_TABLE_HPP

#include <cstdint>
#include <vector>

namespace bulkhead::detail {

/// Names one wait. It stays harmless for ever after that wait has ended.
struct wait_key {
  std::uint32_t index = none;
  std::uint32_t generation = 0;

  static constexpr std::uint32_t none = 0xffffffff;
  explicit operator bool() const noexcept { return index != none; }
};

/// Finds a waiting operation by a key that may be stale.
///
/// A cancellation slot may outlive the operation it was given to, and the object the operation
/// waited on, so its handler must not hold a pointer to either. It holds a key instead: an index
/// into this table and the generation of the entry, which changes whenever the entry is freed.
/// insert, find and erase are O(1); entries are recycled and never given back. Not synchronised:
/// the table lives under its owner's mutex.
template <class T>
class key_table {
public:
  wait_key insert(T& waiter) {
    if (free_ == wait_key::none) {
      entries_.emplace_back();
      free_ = static_cast<std::uint32_t>(entries_.size() - 1);
    }
    const std::uint32_t index = free_;
    entry& e = entries_[index];
    free_ = e.next_free;
    e.waiter = &waiter;
    return {index, e.generation};
  }

  T* find(wait_key key) const noexcept {
    if (key.index >= entries_.size()) return nullptr;
    const entry& e = entries_[key.index];
    return e.generation == key.generation ? e.waiter : nullptr;
  }

  void erase(wait_key key) noexcept {
    if (!find(key)) return;
    entry& e = entries_[key.index];
    e.waiter = nullptr;
    ++e.generation;
    e.next_free = free_;
    free_ = key.index;
  }

private:
  struct entry {
    T* waiter = nullptr;
    std::uint32_t generation = 0;
    std::uint32_t next_free = wait_key::none;
  };

  std::vector<entry> entries_;
  std::uint32_t free_ = wait_key::none;
};

} // namespace bulkhead::detail

#endif
