//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_FUNCTION_NODE_HPP
#define BULKHEAD_DETAIL_WAIT_FUNCTION_NODE_HPP

#include <boost/asio/recycling_allocator.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// A function in a queue. `Base` is what the queue sees of it, with `virtual void run()` and
/// `virtual void destroy() noexcept`, of which one ends it. Where `Allocator` is the default one,
/// Asio's is used, which keeps the blocks that a thread has freed last.
template <class Base, class F, class Allocator = std::allocator<void>>
class function_node final : public Base {
  using rebound = typename std::allocator_traits<Allocator>::template rebind_alloc<function_node>;
  using allocator = std::conditional_t<std::is_same_v<rebound, std::allocator<function_node>>,
                                       boost::asio::recycling_allocator<function_node>, rebound>;

public:
  template <class G>
  static function_node* create(G&& f, const Allocator& a = Allocator()) {
    allocator mine = own(a);
    return create_in(mine.allocate(1), std::forward<G>(f), a);
  }

  /// In memory for one that `a` takes back; if this throws, it has.
  template <class G>
  static function_node* create_in(void* memory, G&& f, const Allocator& a = Allocator()) {
    try {
      return ::new (memory) function_node(std::forward<G>(f), a);
    } catch (...) {
      allocator mine = own(a);
      mine.deallocate(static_cast<function_node*>(memory), 1);
      throw;
    }
  }

  // The memory goes back before the function runs, also if it cannot even be moved.
  void run() override {
    std::unique_ptr<function_node, destroyer> owner(this);
    F f(std::move(function_));
    owner.reset();
    std::move(f)();
  }

  void destroy() noexcept override {
    allocator mine = own(allocator_);
    this->~function_node();
    mine.deallocate(this, 1);
  }

private:
  struct destroyer {
    void operator()(function_node* n) const noexcept { n->destroy(); }
  };

  template <class G>
  function_node(G&& f, const Allocator& a) : function_(std::forward<G>(f)), allocator_(a) {}

  static allocator own([[maybe_unused]] const Allocator& a) noexcept {
    if constexpr (std::is_constructible_v<allocator, const Allocator&>)
      return allocator(a);
    else
      return allocator();
  }

  F function_;
  [[no_unique_address]] Allocator allocator_;
};

} // namespace bulkhead::detail

#endif
