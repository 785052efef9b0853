//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The operations of area "executors" that have children.

#include "executors.hpp"

#include <bulkhead/map.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/use_awaitable.hpp>

#include <memory>
#include <ranges>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

using namespace proof::executors;
using bulkhead::task_group;

constexpr auto two = std::views::iota(0, 2);

/// What children wait for. It is theirs as well: nobody knows when the first of them begins if nobody
/// waits for the operation.
struct with_children {
  using semaphore = std::shared_ptr<bulkhead::semaphore>;

  asio::any_io_executor ex;
  semaphore s;
  bulkhead::permit held;

  with_children(const location& where, bool waits)
      : ex(where.executor()), s(std::make_shared<bulkhead::semaphore>(ex, 1)) {
    if (waits) held = s->try_acquire().value();
  }

  static asio::awaitable<int> child(semaphore s) {
    const auto p = co_await s->async_acquire(1, asio::use_awaitable);
    co_return static_cast<int>(p.weight());
  }

  void proceed() { held.release(); }
  bool is_home() const { return at_object(); }
  void settle() {
    while (!s->idle()) std::this_thread::yield();
  }
};

struct with_group : with_children {
  task_group g;

  with_group(const location& where, bool waits)
      : with_children(where, waits), g(ex, bulkhead::group_options{.limit = 1}) {
    if (waits) g.spawn(child(s));
  }

  void settle() {
    while (g.size() + g.pending() != 0) std::this_thread::yield();
    with_children::settle();
  }
};

struct spawn : with_group {
  using with_group::with_group;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return g.async_spawn([] {}, std::forward<Token>(token));
  }
};

struct join : with_group {
  using with_group::with_group;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return g.async_join(std::forward<Token>(token));
  }
};

struct scope : with_children {
  using with_children::with_children;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return bulkhead::async_scope(
        ex, {},
        [s = s](task_group& g) -> asio::awaitable<int> {
          g.spawn(child(s));
          co_return 42;
        },
        std::forward<Token>(token));
  }
};

struct map : with_children {
  using with_children::with_children;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return bulkhead::async_map(
        ex, two, 2, [s = s](int) { return child(s); }, std::forward<Token>(token));
  }
};

struct for_each : with_children {
  using with_children::with_children;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return bulkhead::async_for_each(
        ex, two, 1, [s = s](int) { return child(s); }, std::forward<Token>(token));
  }
};

struct first : with_children {
  using with_children::with_children;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return bulkhead::async_first(
        ex, two, 2, [s = s](int) { return child(s); }, std::forward<Token>(token));
  }
};

const operation operations[] = {{"async_spawn", std::type_identity<spawn>()},
                                {"async_join", std::type_identity<join>()},
                                {"async_scope", std::type_identity<scope>()},
                                {"async_map", std::type_identity<map>()},
                                {"async_for_each", std::type_identity<for_each>()},
                                {"async_first", std::type_identity<first>()}};

} // namespace
