//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_CELL_HPP
#define BULKHEAD_DETAIL_RUN_CELL_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead::detail {

class submit_op;
struct blocked_submitter;

/// A place in the pool's queue, and the function that stands there.
///
/// Cells never move, so a function of up to `inline_size` bytes is built in its cell and run there,
/// whatever its type, without a lock held; a larger one lives in a node from its own allocator.
class cell : public list_hook<> {
public:
  static constexpr std::size_t inline_size = 40;

  enum class kind : unsigned char {
    continuation,    // work that was admitted before
    submission,      // try_submit, submit
    async_submission // async_submit: the function is in `op`
  };

  template <class F>
  static constexpr bool fits_inline = sizeof(F) <= inline_size &&
                                      alignof(F) <= alignof(std::max_align_t);

  /// Whether building F here runs no code of the user's, so that it may be done under a lock.
  template <class F>
  static constexpr bool is_plain =
      fits_inline<F>&& std::is_trivially_copyable_v<F>&& std::is_trivially_destructible_v<F>;

  kind what = kind::continuation;
  submit_op* op = nullptr;
  blocked_submitter* blocked = nullptr;

  template <class F, class G, class Allocator>
  void emplace(G&& f, const Allocator& a) {
    if constexpr (fits_inline<F>) {
      ::new (static_cast<void*>(storage_)) F(std::forward<G>(f));
      functions_ = &inline_functions<F>;
    } else {
      using node = heap_node<F, Allocator>;
      ::new (static_cast<void*>(storage_)) node*(node::create(std::forward<G>(f), a));
      functions_ = &heap_functions<node>;
    }
  }

  bool has_function() const noexcept { return functions_ != nullptr; }

  /// Runs the function and destroys it. When it throws, it has been destroyed as well.
  void run(const std::stop_source& stop) {
    std::exchange(functions_, nullptr)->run(storage_, stop);
  }

  /// Destroys the function without running it.
  void reset() noexcept {
    if (functions_) std::exchange(functions_, nullptr)->destroy(storage_);
  }

private:
  struct functions {
    void (*run)(void* storage, const std::stop_source& stop);
    void (*destroy)(void* storage) noexcept;
  };

  template <class F>
  static constexpr functions inline_functions = {
      [](void* storage, const std::stop_source& stop) {
        F* f = std::launder(static_cast<F*>(storage));
        struct guard {
          F* f;
          ~guard() { std::destroy_at(f); }
        } g{f};
        static_cast<void>(invoke_with_stop_token(*f, stop));
      },
      [](void* storage) noexcept { std::destroy_at(std::launder(static_cast<F*>(storage))); }};

  template <class F, class Allocator>
  struct heap_node {
    using allocator = typename std::allocator_traits<Allocator>::template rebind_alloc<heap_node>;
    using traits = std::allocator_traits<allocator>;

    F function;
    [[no_unique_address]] allocator alloc;

    template <class G>
    static heap_node* create(G&& f, const Allocator& a) {
      allocator alloc(a);
      heap_node* n = traits::allocate(alloc, 1);
      try {
        return ::new (static_cast<void*>(n)) heap_node{std::forward<G>(f), alloc};
      } catch (...) {
        traits::deallocate(alloc, n, 1);
        throw;
      }
    }

    void free() noexcept {
      allocator a(alloc);
      this->~heap_node();
      traits::deallocate(a, this, 1);
    }

    // The memory goes back before the function runs.
    void run(const std::stop_source& stop) {
      struct guard {
        heap_node* n;
        ~guard() { n->free(); }
      };
      F f = [&] {
        guard g{this};
        return F(std::move(function));
      }();
      static_cast<void>(invoke_with_stop_token(f, stop));
    }
  };

  template <class Node>
  static constexpr functions heap_functions = {
      [](void* storage, const std::stop_source& stop) {
        (*std::launder(static_cast<Node**>(storage)))->run(stop);
      },
      [](void* storage) noexcept { (*std::launder(static_cast<Node**>(storage)))->free(); }};

  const functions* functions_ = nullptr;
  alignas(std::max_align_t) std::byte storage_[inline_size];
};

/// Cells for one queue. Recycled, never given back before the slab ends; not synchronised.
class cell_slab {
public:
  cell& acquire() {
    if (free_.empty()) grow();
    return free_.pop_front();
  }

  void release(cell& c) noexcept {
    c.op = nullptr;
    c.blocked = nullptr;
    free_.push_front(c);
  }

private:
  static constexpr std::size_t chunk_size = 64;

  void grow() {
    chunks_.push_back(std::make_unique<cell[]>(chunk_size));
    for (std::size_t i = 0; i != chunk_size; ++i) free_.push_back(chunks_.back()[i]);
  }

  std::vector<std::unique_ptr<cell[]>> chunks_;
  intrusive_list<cell> free_;
};

} // namespace bulkhead::detail

#endif
