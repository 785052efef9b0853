//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "queue_context.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>

#include <optional>
#include <utility>

namespace {

namespace asio = boost::asio;
using interleave::check;
using interleave::shared;
using interleave::together;
namespace sync = bulkhead::detail::sync;

auto tracked(queue_context& c) {
  return std::optional<asio::any_io_executor>(asio::prefer(
      asio::any_io_executor(c.get_executor()), asio::execution::outstanding_work.tracked));
}

/// One lane, one at a time: a strand.
void one_at_a_time() {
  queue_context context;
  auto work = tracked(context);
  bulkhead::lanes set(context.get_executor(), {.concurrency = 1});
  const auto lane = set.open({});
  shared<int> ran(0);
  const auto job = [&] { return [&] { ran.set(ran.get() + 1); }; };
  sync::atomic<int> left{2};
  const auto done = [&] {
    if (left.fetch_sub(1) == 1) work.reset();
  };
  together(
      [&] {
        check(lane.try_submit(job()), "there is room");
        asio::post(lane.get_executor(), job());
        done();
      },
      [&] {
        check(lane.try_submit(job()), "there is room");
        done();
      },
      [&] { context.run(); }, [&] { context.run(); });
  check(ran.get() == 3, "all have run");
}

const interleave::model strand("lanes", "one at a time, each knows of the last, and all run",
                               &one_at_a_time);

/// Two lanes that share one place.
void two_lanes() {
  queue_context context;
  auto work = tracked(context);
  bulkhead::lanes set(context.get_executor(), {.concurrency = 1});
  const auto a = set.open({});
  const auto b = set.open({.priority = 1});
  sync::atomic<int> inside{0};
  sync::atomic<int> ran{0};
  const auto job = [&] {
    return [&] {
      check(inside.fetch_add(1) == 0, "there is one place");
      ran.fetch_add(1);
      inside.fetch_sub(1);
    };
  };
  sync::atomic<int> left{2};
  const auto done = [&] {
    if (left.fetch_sub(1) == 1) work.reset();
  };
  together(
      [&] {
        check(a.try_submit(job()), "there is room");
        done();
      },
      [&] {
        check(b.try_submit(job()), "there is room");
        done();
      },
      [&] { context.run(); });
  check(ran.load() == 2, "all have run");
}

const interleave::model lanes_("lanes_two", "no more at a time than allowed, and all run",
                               &two_lanes);

/// A lane is closed and drained while somebody submits.
void close_and_drain() {
  queue_context context;
  auto work = tracked(context);
  bulkhead::lanes set(context.get_executor(), {.concurrency = 1});
  const auto lane = set.open({});
  sync::atomic<int> ran{0};
  sync::atomic<int> admitted{0};
  sync::atomic<int> drained{0};
  int ran_before = -1; // the drain completed
  sync::atomic<int> left{2};
  const auto done = [&] {
    if (left.fetch_sub(1) == 1) work.reset();
  };
  together(
      [&] {
        if (lane.try_submit([&] { ran.fetch_add(1); })) admitted.fetch_add(1);
        done();
      },
      [&] {
        lane.async_drain([&](bulkhead::error_code ec) {
          check(!ec, "without an error");
          ran_before = ran.load();
          drained.fetch_add(1);
        });
        done();
      },
      [&] { context.run(); });
  check(ran.load() == admitted.load(), "what was admitted has run");
  check(drained.load() == 1, "the drain completes once");
  check(ran_before == ran.load(), "after what was admitted");
}

const interleave::model drains("lanes_drain", "a drain completes, after what was admitted",
                               &close_and_drain);

} // namespace
