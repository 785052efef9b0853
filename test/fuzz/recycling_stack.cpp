//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Stacks that are used again and again: which one is next, and how many there are.

#include "fuzz.hpp"

#include <bulkhead/recycling_stack.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

using boost::context::stack_context;
using bulkhead::recycling_stack;
using test::check;
using test::did;
using test::same;

namespace {

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), size_(recycling_stack::traits_type::minimum_size() + 1000 * any_(16)),
        max_cached_(any_(6)), stacks_{recycling_stack({.size = size_, .max_cached = max_cached_})} {
  }

  void play() {
    while (!any_.empty()) {
      operate();
      compare();
    }
    while (!in_use_.empty()) give_back(in_use_.size() - 1);
    compare();
  }

private:
  // One of the copies, which are all the same store.
  recycling_stack& any_copy() { return stacks_[any_(stacks_.size())]; }

  void operate() {
    switch (any_(8)) {
    case 0:
    case 1:
    case 2:
      return take();
    case 3:
    case 4:
    case 5:
      if (!in_use_.empty()) give_back(any_(in_use_.size()));
      return;
    case 6:
      did("trim", cached_.size());
      any_copy().trim();
      dropped_ += std::exchange(cached_, {}).size();
      return;
    default:
      did("copy", stacks_.size());
      if (any_.one_in(2) && stacks_.size() > 1)
        stacks_.erase(stacks_.begin() + any_(stacks_.size()));
      else if (stacks_.size() < 5)
        stacks_.push_back(recycling_stack(any_copy()));
      return;
    }
  }

  void take() {
    if (in_use_.size() == 20) return;
    did("allocate", in_use_.size());
    const stack_context s = any_copy().allocate();
    if (cached_.empty()) {
      ++created_;
    } else {
      ++reused_;
      check("the stack is the last that came back", s.sp == cached_.back());
      cached_.pop_back();
    }
    for (const stack_context& other : in_use_) check("nobody else has it", s.sp != other.sp);
    check("it is as large as asked for", s.size >= size_);
    // All of it but the guard page.
    const std::size_t usable = s.size - recycling_stack::traits_type::page_size();
    std::memset(static_cast<char*>(s.sp) - usable, static_cast<int>(in_use_.size()), usable);
    in_use_.push_back(s);
  }

  void give_back(std::size_t i) {
    did("deallocate", i);
    std::swap(in_use_[i], in_use_.back());
    stack_context s = in_use_.back();
    in_use_.pop_back();
    if (cached_.size() < max_cached_)
      cached_.push_back(s.sp);
    else
      ++dropped_;
    any_copy().deallocate(s);
  }

  void compare() {
    const bulkhead::recycling_stack_stats s = stacks_.front().stats();
    same("in_use", in_use_.size(), s.in_use);
    same("cached", cached_.size(), s.cached);
    same("created", created_, s.created);
    same("reused", reused_, s.reused);
    same("dropped", dropped_, s.dropped);
  }

  test::choices any_;
  const std::size_t size_;
  const std::size_t max_cached_;
  std::vector<recycling_stack> stacks_;
  std::vector<stack_context> in_use_;
  std::vector<void*> cached_;
  std::uint64_t created_ = 0, reused_ = 0, dropped_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
