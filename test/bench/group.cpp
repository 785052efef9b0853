//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// W7: a coroutine starts children and waits for them. a: ten at a time. b: many, 64 in flight.
// c: ten that are not done when they have been started.

#include "contenders.hpp"
#include "coroutine.hpp"
#include "measure.hpp"

#include <bulkhead/task_group.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <vector>

namespace bench {
namespace {

using asio::awaitable;
using asio::use_awaitable;

constexpr std::size_t group_size = 10;
constexpr std::size_t in_flight = 64;

awaitable<void> child(std::uint64_t id) {
  count_task(id);
  co_return;
}

/// A child that has something to wait for, so that it cannot end before its parent goes on.
awaitable<void> waiting_child(std::uint64_t id) {
  co_await asio::post(co_await asio::this_coro::executor, use_awaitable);
  count_task(id);
}

/// The plain function beside them.
auto function_child(std::uint64_t id) {
  return [id] { count_task(id); };
}

// A way to run children: a function of the executor and of the first child's id, that returns a
// coroutine. It ends when they have ended.

template <auto make_child>
struct scope_of_ten {
  template <class Executor>
  static awaitable<void> run(Executor ex, std::uint64_t id) {
    auto body = [id](bulkhead::task_group& g) -> awaitable<void> {
      for (std::size_t i = 0; i < group_size; ++i) g.spawn(make_child(id + i));
      co_return;
    };
    co_await bulkhead::async_scope(ex, {}, body, use_awaitable);
  }
};

template <auto make_child>
struct parallel_group_of_ten {
  template <class Executor>
  static awaitable<void> run(Executor ex, std::uint64_t id) {
    using operation = decltype(asio::co_spawn(ex, make_child(id), asio::deferred));
    std::vector<operation> children;
    children.reserve(group_size);
    for (std::size_t i = 0; i < group_size; ++i)
      children.push_back(asio::co_spawn(ex, make_child(id + i), asio::deferred));
    auto group = asio::experimental::make_parallel_group(std::move(children));
    co_await group.async_wait(asio::experimental::wait_for_all(), use_awaitable);
  }
};

using channel = asio::experimental::concurrent_channel<void(boost::system::error_code)>;

/// Sends when a child has ended. The channel has room, so that never waits.
struct send_to {
  channel* ended;
  void operator()(std::exception_ptr) const { ended->try_send(boost::system::error_code()); }
};

template <auto make_child>
struct channel_of_ten {
  template <class Executor>
  static awaitable<void> run(Executor ex, std::uint64_t id) {
    channel ended(ex, group_size);
    for (std::size_t i = 0; i < group_size; ++i)
      asio::co_spawn(ex, make_child(id + i), send_to{&ended});
    for (std::size_t i = 0; i < group_size; ++i) co_await ended.async_receive(use_awaitable);
  }
};

template <class Way, class Executor>
awaitable<void> repeat(Executor ex, std::size_t groups, std::uint64_t& id) {
  for (; groups != 0; --groups, id += group_size) co_await Way::run(ex, id);
}

template <class Way, class Executor>
awaitable<void> measure_groups(Executor ex, std::size_t groups, std::uint64_t& id, report& r) {
  co_await repeat<Way>(ex, groups / 10, id);
  stopwatch watch;
  co_await repeat<Way>(ex, groups, id);
  r.add_per_task(watch.read(), groups);
}

/// Ids are given from 1 on, so their sum says whether each child has run once.
void check(std::uint64_t next_id) {
  auto children = next_id - 1;
  if (sum(&tally::tasks) != children || sum(&tally::id_sum) != children * next_id / 2)
    throw std::runtime_error("children were lost, or have run twice");
}

template <class Pool, class Way>
void groups_of_ten(const options& o, report& r) {
  std::uint64_t id = 1;
  {
    Pool pool(o.threads());
    run_to_end(pool.get_executor(),
               measure_groups<Way>(pool.get_executor(), o.count("tasks", 30'000), id, r));
  }
  check(id);
}

template <auto make_child>
struct limited_group {
  template <class Executor>
  static awaitable<void> run(Executor ex, std::uint64_t& id, std::size_t children) {
    bulkhead::group_options o;
    o.limit = in_flight;
    auto body = [&id, children](bulkhead::task_group& g) -> awaitable<void> {
      for (std::size_t i = 0; i < children; ++i) co_await g.async_spawn(make_child(id++));
    };
    co_await bulkhead::async_scope(ex, o, body, use_awaitable);
  }
};

struct limited_by_channel {
  template <class Executor>
  static awaitable<void> run(Executor ex, std::uint64_t& id, std::size_t children) {
    channel slots(ex, in_flight);
    for (std::size_t i = 0; i < in_flight; ++i) slots.try_send(boost::system::error_code());
    for (std::size_t i = 0; i < children; ++i) {
      co_await slots.async_receive(use_awaitable);
      asio::co_spawn(ex, child(id++), send_to{&slots});
    }
    for (std::size_t i = 0; i < in_flight; ++i) co_await slots.async_receive(use_awaitable);
  }
};

template <class Way, class Executor>
awaitable<void> measure_children(Executor ex, std::size_t children, std::uint64_t& id, report& r) {
  co_await Way::run(ex, id, children / 10);
  stopwatch watch;
  co_await Way::run(ex, id, children);
  r.add_per_task(watch.read(), children);
}

template <class Pool, class Way>
void many_children(const options& o, report& r) {
  std::uint64_t id = 1;
  {
    Pool pool(o.threads());
    run_to_end(pool.get_executor(),
               measure_children<Way>(pool.get_executor(), o.count("tasks", 100'000), id, r));
  }
  check(id);
}

} // namespace

std::vector<measurement> groups() {
  return {
      {"W7a", "bulkhead", groups_of_ten<bulkhead_pool, scope_of_ten<child>>},
      {"W7a", "bulkhead_functions", groups_of_ten<bulkhead_pool, scope_of_ten<function_child>>},
      {"W7a", "bulkhead_on_asio", groups_of_ten<asio_pool, scope_of_ten<child>>},
      {"W7a", "parallel_group", groups_of_ten<asio_pool, parallel_group_of_ten<child>>},
      {"W7a", "parallel_group_1", groups_of_ten<asio_pool_1, parallel_group_of_ten<child>>},
      {"W7a", "channel", groups_of_ten<asio_pool, channel_of_ten<child>>},
      {"W7a", "channel_1", groups_of_ten<asio_pool_1, channel_of_ten<child>>},
      {"W7c", "bulkhead", groups_of_ten<bulkhead_pool, scope_of_ten<waiting_child>>},
      {"W7c", "bulkhead_on_asio", groups_of_ten<asio_pool, scope_of_ten<waiting_child>>},
      {"W7c", "parallel_group", groups_of_ten<asio_pool, parallel_group_of_ten<waiting_child>>},
      {"W7c", "parallel_group_1", groups_of_ten<asio_pool_1, parallel_group_of_ten<waiting_child>>},
      {"W7c", "channel", groups_of_ten<asio_pool, channel_of_ten<waiting_child>>},
      {"W7c", "channel_1", groups_of_ten<asio_pool_1, channel_of_ten<waiting_child>>},
      {"W7b", "bulkhead", many_children<bulkhead_pool, limited_group<child>>},
      {"W7b", "bulkhead_functions", many_children<bulkhead_pool, limited_group<function_child>>},
      {"W7b", "bulkhead_on_asio", many_children<asio_pool, limited_group<child>>},
      {"W7b", "channel", many_children<asio_pool, limited_by_channel>},
      {"W7b", "channel_1", many_children<asio_pool_1, limited_by_channel>},
  };
}

} // namespace bench
