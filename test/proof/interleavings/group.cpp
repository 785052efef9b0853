//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "queue_context.hpp"

#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <exception>
#include <new>
#include <optional>
#include <utility>

namespace {

namespace asio = boost::asio;
using bulkhead::task_group;
using interleave::check;
using interleave::together;
namespace sync = bulkhead::detail::sync;

/// Children that count how often they began and ended.
struct children {
  sync::atomic<int> began{0};
  sync::atomic<int> ended{0};

  auto child() {
    return [this] {
      began.fetch_add(1, std::memory_order_relaxed);
      ended.fetch_add(1, std::memory_order_relaxed);
    };
  }

  asio::awaitable<void> coroutine() {
    began.fetch_add(1, std::memory_order_relaxed);
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    ended.fetch_add(1, std::memory_order_relaxed);
  }

  void expect(int n) const {
    check(began.load() == n && ended.load() == n, "each child that was accepted runs once");
  }
};

auto tracked(queue_context& c) {
  return std::optional<asio::any_io_executor>(asio::prefer(
      asio::any_io_executor(c.get_executor()), asio::execution::outstanding_work.tracked));
}

/// Two spawn, two run.
void spawn_and_join() {
  queue_context context;
  auto work = tracked(context);
  children c;
  sync::atomic<int> joined{0};
  {
    task_group group(context);
    sync::atomic<int> left{2};
    const auto done = [&] {
      if (left.fetch_sub(1) == 1) work.reset();
    };
    together(
        [&] {
          group.spawn(c.child());
          done();
        },
        [&] {
          group.spawn([&] { return c.coroutine(); });
          done();
        },
        [&] { context.run(); });
    group.async_join([&](std::exception_ptr e) {
      check(!e, "without an error");
      joined.fetch_add(1);
    });
    context.run();
  }
  c.expect(2);
  check(joined.load() == 1, "join completes once");
}

const interleave::model spawns("group", "each child runs once, and join completes",
                               &spawn_and_join);

/// Somebody joins while the children end.
void join_meanwhile() {
  queue_context context;
  children c;
  sync::atomic<int> joined{0};
  task_group group(context, {.limit = 1});
  group.spawn(c.child());
  group.spawn(c.child());
  together([&] { context.run(); },
           [&] {
             group.async_join([&](std::exception_ptr) {
               c.expect(2);
               joined.fetch_add(1);
             });
           });
  context.run();
  check(joined.load() == 1, "join completes once");
}

const interleave::model
    joins("group_join", "join completes after the last child, whenever asked for", &join_meanwhile);

/// Close and cancel while children are spawned.
void close_or_cancel(bool cancel) {
  queue_context context;
  children c;
  sync::atomic<int> accepted{0};
  sync::atomic<int> joined{0};
  {
    task_group group(context, {.limit = 1});
    const auto spawn = [&] {
      try {
        group.spawn(c.child());
        accepted.fetch_add(1);
      } catch (const bulkhead::system_error&) {
      }
    };
    together(
        [&] {
          spawn();
          spawn();
        },
        [&] {
          if (cancel)
            group.cancel();
          else
            group.close();
        });
    group.async_join([&](std::exception_ptr) { joined.fetch_add(1); });
    together([&] { context.run(); }, [&] { context.run(); });
  }
  check(c.began.load() == c.ended.load(), "who began has ended");
  check(cancel ? c.ended.load() <= accepted.load() : c.ended.load() == accepted.load(),
        "who was accepted runs, unless cancelled");
  check(joined.load() == 1, "join completes once");
}

const interleave::model closes("group_close", "who was accepted runs, and the group ends",
                               [] { close_or_cancel(false); });
const interleave::model cancels("group_cancel", "who is cancelled ends, and the group with him",
                                [] { close_or_cancel(true); });

/// async_spawn waits for the slot of a child that is just ending.
void wait_for_slot() {
  queue_context context;
  children c;
  sync::atomic<int> started{0};
  task_group group(context, {.limit = 1});
  group.spawn(c.child());
  together([&] { context.run(); },
           [&] {
             group.async_spawn(c.child(), [&](bulkhead::error_code ec) {
               check(!ec, "there was a slot");
               started.fetch_add(1);
             });
           });
  context.run();
  c.expect(2);
  check(started.load() == 1, "it completes once");
}

/// There is no memory for the starter of one of two that are spawned, while a runner takes what is ready.
void starter_refused() {
  queue_context context;
  children c;
  sync::atomic<int> accepted{2};
  bool joined = false;
  task_group group(context);
  group.spawn(c.child());
  context.refuse_one();
  const auto spawn = [&] {
    try {
      group.spawn(c.child());
      accepted.fetch_add(1);
    } catch (const std::bad_alloc&) {
    }
  };
  together(spawn, spawn, [&] { context.run(); });
  group.spawn(c.child());
  group.async_join([&](std::exception_ptr) { joined = true; });
  context.run();
  c.expect(accepted.load());
  check(joined, "join completes");
}

const interleave::model
    refuses("group_refused", "who is accepted runs, also after one that was not", &starter_refused);

const interleave::model waits("group_slot", "who waits for a slot gets it", &wait_for_slot);

} // namespace
