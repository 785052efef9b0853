//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/detail/group/thread_cache.hpp>
#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/stack_store.hpp>

#include <new>
#include <vector>

namespace {

using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

/// What stands in memory that is used again and again: it must belong to one user at a time, who
/// knows of the last.
class block {
public:
  void use() {
    check(users_.fetch_add(1, std::memory_order_relaxed) == 0, "it belongs to one at a time");
    times_.set(times_.get() + 1);
  }
  void give_up() {
    times_.set(times_.get() + 1);
    check(users_.fetch_sub(1, std::memory_order_relaxed) == 1, "and to nobody else");
  }

private:
  sync::atomic<int> users_{0};
  shared<int> times_{0};
};

// --- node_cache ---

/// One thread allocates, all give back. The blocks are told apart by what is known of each, aside.
void one_allocates() {
  node_cache cache;
  std::vector<std::pair<void*, block*>> known;
  std::vector<std::unique_ptr<block>> blocks;
  auto allocate = [&] {
    void* const p = cache.allocate(100);
    for (auto& [place, b] : known)
      if (place == p) {
        b->use();
        return known.front().first == p ? std::size_t(0)
                                        : std::size_t(&b - &known.front().second) / 2;
      }
    blocks.push_back(std::make_unique<block>());
    known.emplace_back(p, blocks.back().get());
    blocks.back()->use();
    return known.size() - 1;
  };
  known.reserve(8);
  auto give_back = [&](std::size_t i) {
    void* const p = known[i].first;
    known[i].second->give_up();
    node_cache::deallocate(p);
  };
  const std::size_t a = allocate();
  const std::size_t b = allocate();
  sync::atomic<std::size_t> c{0};
  sync::atomic<bool> has_c{false};
  together(
      [&] {
        const std::size_t first = allocate();
        c.store(allocate(), std::memory_order_relaxed);
        has_c.store(true, std::memory_order_release);
        give_back(first);
        const std::size_t again = allocate();
        give_back(again);
      },
      [&] { give_back(a); },
      [&] {
        give_back(b);
        while (!has_c.load(std::memory_order_acquire)) sync::this_thread::yield();
        give_back(c.load(std::memory_order_relaxed));
      });
}

const interleave::model caches("node_cache", "a block belongs to one user, who knows of the last",
                               &one_allocates);

// --- stack_store ---

void take_and_put() {
  stack_store store(4096, 1);
  // What was written to a stack by the last user is known to the next.
  auto use = [&] {
    const auto s = store.take();
    auto& users = *::new (static_cast<char*>(s.sp) - 256) sync::atomic<int>(0);
    check(users.fetch_add(1) == 0, "it belongs to one at a time");
    sync::this_thread::yield();
    check(users.fetch_sub(1) == 1, "and to nobody else");
    store.put(s);
  };
  together(use, use, [&] { store.trim(); });
  const auto s = store.stats();
  check(s.in_use == 0 && s.created == s.cached + s.dropped, "each is cached or gone");
}

const interleave::model stacks("stack_store", "a stack belongs to one; what is kept is counted",
                               &take_and_put);

// --- thread_cache ---

struct object : cached<object> {
  static inline int live = 0;
  block state;
  object() { ++live; }
  ~object() { --live; }
};

struct drop {
  void operator()(object& o) const noexcept { delete &o; }
};

using objects = thread_cache<object, drop>;

object& take() {
  object* const o = objects::take();
  object& result = o ? *o : *new object;
  result.state.use();
  return result;
}

void put(object& o) {
  o.state.give_up();
  objects::put(o);
}

/// More than one thread keeps: what is too much goes through the depot; threads end meanwhile.
void take_from_others() {
  auto fill = [] {
    std::vector<object*> mine;
    for (int i = 0; i != 64; ++i) mine.push_back(&take());
    for (object* o : mine) put(*o);
  };
  auto use = [] {
    object& a = take();
    object& b = take();
    put(a);
    put(b);
  };
  together([] {}, fill, use, use);
  while (object* o = objects::take()) delete o;
  check(object::live == 0, "those of threads that have ended are gone");
}

const interleave::model threads("thread_cache",
                                "an object belongs to one, and ends with its threads",
                                &take_from_others);

} // namespace
