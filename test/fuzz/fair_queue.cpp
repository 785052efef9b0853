//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Whose turn it is: the fair queue as a plain object, without lanes around it.

#include "../support/reference_queue.hpp"
#include "fuzz.hpp"

#include <bulkhead/detail/order/fair_queue.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

using test::check;
using test::did;
using test::same;

namespace {

struct member : bulkhead::detail::fair_queue<member>::entry {
  int id = 0;
};

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), share_(any_.one_in(2) ? 0.125 * (1 + any_(8)) : 0), real_(share_),
        reference_(share_) {
    for (unsigned n = any_(32); n != 0; --n) add(join());
  }

  ~game() {
    for (auto& [id, m] : members_) {
      if (m.is_waiting()) real_.remove(m);
      real_.leave(m);
    }
  }

  void play() {
    while (!any_.empty()) {
      operate();
      compare();
    }
    while (pop()) compare();
  }

private:
  // Powers of two, which the reference can reckon with.
  double any_weight() { return std::ldexp(1.0, static_cast<int>(any_(21)) - 12); }
  int any_priority() { return std::array{0, 0, 0, 1, -1, 2}[any_(6)]; }

  void operate() {
    const unsigned what = any_(12);
    if (members_.empty() || (what == 0 && members_.size() < 40)) {
      join();
      return;
    }
    auto at = members_.begin();
    std::advance(at, any_(members_.size()));
    const int id = at->first;
    member& m = at->second;
    switch (what) {
    case 1:
      if (m.is_waiting()) return;
      did("leave", static_cast<std::size_t>(id));
      real_.leave(m);
      reference_.leave(id);
      members_.erase(at);
      return;
    case 2: {
      const double weight = any_weight();
      did("set_weight", static_cast<std::size_t>(id));
      real_.set_weight(m, weight);
      reference_.set_weight(id, weight);
      return same("the weight", weight, m.weight());
    }
    case 3: {
      const int priority = any_priority();
      did("set_priority", static_cast<std::size_t>(id));
      real_.set_priority(m, priority);
      reference_.set_priority(id, priority);
      return same("the priority", priority, m.priority());
    }
    case 4:
      if (!m.is_waiting()) return;
      did("remove", static_cast<std::size_t>(id));
      real_.remove(m);
      return reference_.remove(id);
    case 5:
      if (m.is_waiting()) return;
      did("settle", static_cast<std::size_t>(id));
      return same("whether it owes nothing", reference_.settle(id), real_.settle(m));
    case 6:
    case 7:
    case 8:
      if (m.is_waiting()) return;
      return add(m);
    case 9: // until virtual time has gone far
      for (unsigned n = any_.byte(); n != 0; --n)
        if (member* next = pop()) add(*next);
      return;
    default:
      if (member* next = pop())
        if (any_(4) != 0) add(*next);
      return;
    }
  }

  member& join() {
    const int priority = any_priority();
    const double weight = any_weight();
    member& m = members_[++last_id_];
    m.id = last_id_;
    did("join", static_cast<std::size_t>(m.id));
    real_.join(m, priority, weight);
    reference_.join(m.id, priority, weight);
    return m;
  }

  void add(member& m) {
    did("add", static_cast<std::size_t>(m.id));
    real_.add(m);
    reference_.add(m.id);
  }

  member* pop() {
    did("pop");
    member* const next = real_.pop();
    same("whose turn it is", reference_.pop(), next ? next->id : -1);
    return next;
  }

  void compare() {
    std::size_t waiting = 0;
    for (auto& [id, m] : members_) {
      waiting += m.is_waiting();
      same("whether it waits", reference_.waits(id), m.is_waiting());
    }
    same("the size", waiting, real_.size());
    same("whether it is empty", waiting == 0, real_.empty());
  }

  test::choices any_;
  const double share_;
  bulkhead::detail::fair_queue<member> real_;
  test::reference_queue reference_;
  std::map<int, member> members_;
  int last_id_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
