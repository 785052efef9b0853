//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_CELL_HPP
#define BULKHEAD_DETAIL_RUN_CELL_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/sync.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

class submit_op;

/// What stands in a queue.
enum class work : unsigned char {
  continuation,    // was admitted before
  submission,      // try_submit, submit
  async_submission // async_submit: the function is in a submit_op
};

/// How to run and to destroy a function of some type that is kept in some storage.
struct stored_function {
  work what;
  void (*run)(void* storage, const std::stop_source& stop);
  void (*destroy)(void* storage) noexcept;
};

template <class F>
inline constexpr bool fits_cell = sizeof(F) <= 48 && alignof(F) <= 16;

/// A function that is run and destroyed where it stands. When it throws, it is destroyed as well.
template <work What, class F>
inline constexpr stored_function function_in_place = {
    What,
    [](void* storage, const std::stop_source& stop) {
      F* f = std::launder(static_cast<F*>(storage));
      struct guard {
        F* f;
        ~guard() { std::destroy_at(f); }
      } g{f};
      static_cast<void>(invoke_with_stop_token(*f, stop));
    },
    [](void* storage) noexcept { std::destroy_at(std::launder(static_cast<F*>(storage))); }};

/// A function in memory of its own, to which the storage points. The memory goes back before the
/// function runs. Node is a type with a `function`, and a `free()`.
template <work What, class Node>
inline constexpr stored_function function_in_node = {
    What,
    [](void* storage, const std::stop_source& stop) {
      Node* n = static_cast<Node*>(*std::launder(static_cast<void**>(storage)));
      auto f = [n] {
        struct guard {
          Node* n;
          ~guard() { n->free(); }
        } g{n};
        return std::move(n->function);
      }();
      static_cast<void>(invoke_with_stop_token(f, stop));
    },
    [](void* storage) noexcept {
      static_cast<Node*>(*std::launder(static_cast<void**>(storage)))->free();
    }};

/// A function in memory from the caller's allocator.
template <class F, class Allocator>
struct allocated_function {
  using allocator =
      typename std::allocator_traits<Allocator>::template rebind_alloc<allocated_function>;
  using traits = std::allocator_traits<allocator>;

  F function;
  [[no_unique_address]] allocator alloc;

  template <class G>
  static allocated_function* create(G&& f, const Allocator& a) {
    allocator alloc(a);
    allocated_function* n = traits::allocate(alloc, 1);
    try {
      return ::new (static_cast<void*>(n)) allocated_function{std::forward<G>(f), alloc};
    } catch (...) {
      traits::deallocate(alloc, n, 1);
      throw;
    }
  }

  void free() noexcept {
    allocator a(alloc);
    this->~allocated_function();
    traits::deallocate(a, this, 1);
  }
};

/// A function in memory from a node_cache.
template <class F>
struct cached_function {
  F function;

  template <class G>
  static cached_function* create(void* memory, G&& f) {
    try {
      return ::new (memory) cached_function{std::forward<G>(f)};
    } catch (...) {
      node_cache::deallocate(memory);
      throw;
    }
  }

  void free() noexcept {
    this->~cached_function();
    node_cache::deallocate(this);
  }
};

/// A place in a queue, one cache line, and the function that stands there.
///
/// **Who runs it.** `state_` counts up: even, the place is free or being filled; odd, a function
/// stands there. A function belongs to whoever moves the state on from odd, which is one atomic
/// step on one variable, so exactly one does. Nothing else decides that: not the queue's head, nor
/// a worker's claim, which only say where functions are likely to be found. One may hence try to
/// take any cell of the pool, at any time, and on the word of data that is out of date.
///
/// Memory order: publish() releases what was built, take() acquires it.
class alignas(64) cell {
public:
  using state = std::uint32_t;

  static constexpr bool is_full(state s) noexcept { return (s & 1) != 0; }

  state load() const noexcept { return state_.load(std::memory_order_acquire); }

  /// What the pool's idle workers look at before they sleep: see parking.
  state load_ordered() const noexcept { return state_.load(std::memory_order_seq_cst); }

  /// Lets the function be taken. Only by who reserved the cell. What the caller reads afterwards is
  /// read after others can see this.
  void publish() noexcept {
    state_.store(state_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  }

  /// The same under a spin_lock with which whoever looks for work before he sleeps synchronizes: the
  /// lock brings about what publish() pays for.
  void publish_under_lock() noexcept {
    state_.store(state_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  /// There will be no function after all: as if it had been taken. Only by who reserved the cell.
  void give_up() noexcept {
    state_.store(state_.load(std::memory_order_relaxed) + 2, std::memory_order_seq_cst);
  }

  /// Whether the caller may have the function that stands here.
  bool take() noexcept {
    const state s = state_.load(std::memory_order_relaxed);
    return is_full(s) && take(s);
  }

  /// The same for the function that stood here when the state was `s`.
  bool take(state s) noexcept {
    return state_.compare_exchange_strong(s, s + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }

  /// May be asked by others than the owner; the answer is good if take(s) succeeds afterwards, with
  /// the state from before.
  work what() const noexcept { return function_.load(std::memory_order_relaxed)->what; }

  // --- for the owner: who has reserved the cell, or has taken it ---

  template <work What, class F, class G>
  void emplace(G&& f) {
    ::new (static_cast<void*>(storage_)) F(std::forward<G>(f));
    set(function_in_place<What, F>);
  }

  void emplace_pointer(const stored_function& function, void* p) noexcept {
    ::new (static_cast<void*>(storage_)) void*(p);
    set(function);
  }

  void emplace(submit_op& op) noexcept {
    static constexpr stored_function async = {work::async_submission, nullptr, nullptr};
    emplace_pointer(async, &op);
  }

  submit_op& op() noexcept {
    return *static_cast<submit_op*>(*std::launder(reinterpret_cast<void**>(storage_)));
  }

  void run(const std::stop_source& stop) {
    function_.load(std::memory_order_relaxed)->run(storage_, stop);
  }

  void destroy() noexcept { function_.load(std::memory_order_relaxed)->destroy(storage_); }

private:
  void set(const stored_function& f) noexcept { function_.store(&f, std::memory_order_relaxed); }

  alignas(16) std::byte storage_[48]; // uninitialised
  sync::atomic<const stored_function*> function_{nullptr};
  sync::atomic<state> state_{0};
};

static_assert(sizeof(cell) == 64);

} // namespace bulkhead::detail

#endif
