//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_BENCH_CONTENDERS_HPP
#define BULKHEAD_BENCH_CONTENDERS_HPP

#include "measure.hpp"
#include "moodycamel_pool.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/shards.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <future>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

// A contender is made with a number of threads and has
//
//   run(f)           queues f, from outside
//   run_inside(f)    the same from a task; where it is missing, so is the row in tables of that kind
//   help()           optional: what a thread does that has no more to queue and waits
//   get_executor()   optional
//
// Its destructor waits for its threads.

namespace bench {

namespace asio = boost::asio;

/// Bounded, as by default: run() waits while the queue is full.
struct bulkhead_submit {
  static constexpr std::string_view name = "bulkhead_submit";

  explicit bulkhead_submit(std::size_t threads) : pool(threads) {}

  template <class F>
  void run(F f) {
    pool.submit(std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    pool.submit(std::move(f), bulkhead::on_full::caller_runs);
  }
  auto get_executor() { return pool.get_executor(); }

  bulkhead::pool pool;
};

/// Bounded, with a caller who yields and tries again. From inside there is nobody to wait for.
struct bulkhead_try_submit {
  static constexpr std::string_view name = "bulkhead_try_submit";

  explicit bulkhead_try_submit(std::size_t threads) : pool(threads) {}

  template <class F>
  void run(F f) {
    while (!pool.try_submit(f)) std::this_thread::yield();
  }

  bulkhead::pool pool;
};

/// Continuations, which nothing bounds.
template <bulkhead::submission_order Order>
struct bulkhead_posting {
  static constexpr std::string_view name =
      Order == bulkhead::submission_order::fifo ? "bulkhead_post" : "bulkhead_post_lifo";

  explicit bulkhead_posting(std::size_t threads) : pool(options(threads)) {}

  static bulkhead::pool_options options(std::size_t threads) {
    bulkhead::pool_options o;
    o.threads = threads;
    o.order = Order;
    return o;
  }

  template <class F>
  void run(F f) {
    asio::post(pool.get_executor(), std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }
  auto get_executor() { return pool.get_executor(); }

  bulkhead::pool pool;
};
using bulkhead_post = bulkhead_posting<bulkhead::submission_order::fifo>;
using bulkhead_post_lifo = bulkhead_posting<bulkhead::submission_order::lifo>;

/// Where coroutines and I/O run, and the question is not how work gets in.
struct bulkhead_pool : bulkhead_post {
  static constexpr std::string_view name = "bulkhead";
  using bulkhead_post::bulkhead_post;
};

struct asio_pool {
  static constexpr std::string_view name = "asio";

  explicit asio_pool(std::size_t threads) : pool(threads) {}
  ~asio_pool() { pool.join(); }

  template <class F>
  void run(F f) {
    asio::post(pool, std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }
  auto get_executor() { return pool.get_executor(); }

  asio::thread_pool pool;
};

/// Asio's best case for whatever does not need two threads: with a concurrency hint of 1 its queue
/// is without contention.
struct asio_pool_1 : asio_pool {
  static constexpr std::string_view name = "asio_1";
  explicit asio_pool_1(std::size_t) : asio_pool(1) {}
};

/// One handler at a time, on the threads of a pool: Asio's strand, and ours.
template <class Pool>
struct strand_on : Pool {
  static constexpr std::string_view name =
      std::string_view(Pool::name) == "asio" ? "strand" : "strand_on_bulkhead";

  explicit strand_on(std::size_t threads) : Pool(threads) {}

  template <class F>
  void run(F f) {
    asio::post(strand, std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }

  asio::strand<decltype(std::declval<Pool&>().get_executor())> strand{this->get_executor()};
};

template <class Pool>
struct lane_on : Pool {
  static constexpr std::string_view name =
      std::string_view(Pool::name) == "asio" ? "lane_on_asio" : "lane";

  explicit lane_on(std::size_t threads) : Pool(threads) {}

  template <class F>
  void run(F f) {
    asio::post(lane, std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }

  bulkhead::lane::executor_type lane = bulkhead::limit_concurrency(this->get_executor(), 1);
};

/// Functions of keys, in the order of each: one queue for all.
struct one_lane : bulkhead_pool {
  static constexpr std::string_view name = "one_lane";

  explicit one_lane(std::size_t threads)
      : bulkhead_pool(threads), set(get_executor(), all(threads)) {}

  static bulkhead::lanes_options all(std::size_t threads) {
    bulkhead::lanes_options o;
    o.concurrency = threads;
    return o;
  }

  template <class F>
  void run(F f) {
    while (!lane.try_submit(f)) std::this_thread::yield();
  }

  bulkhead::lanes set;
  bulkhead::lane lane = set.open();
};

/// A queue for each of some parts of the keys.
struct sharded : bulkhead_pool {
  static constexpr std::string_view name = "shards";

  explicit sharded(std::size_t threads)
      : bulkhead_pool(threads), shards(get_executor(), 16, bounded()) {}

  /// As many in all as one lane.
  static bulkhead::shards_options bounded() {
    bulkhead::shards_options o;
    o.queue_limit = bulkhead::lane_options().queue_limit / 16;
    return o;
  }

  template <class F>
  void run(F f) {
    static thread_local std::uint64_t key = 0;
    ++key;
    while (!shards.try_submit(key, f)) std::this_thread::yield();
  }

  bulkhead::shards shards;
};

/// As many workers as the others have, beside the thread that queues.
struct tbb_enqueue {
  static constexpr std::string_view name = "tbb_enqueue";

  explicit tbb_enqueue(std::size_t threads)
      : workers(tbb::global_control::max_allowed_parallelism, threads + 1),
        arena(static_cast<int>(threads), 0) {}

  template <class F>
  void run(F f) {
    arena.enqueue(std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }

  tbb::global_control workers;
  tbb::task_arena arena;
};

/// Whoever waits for a task_group takes part in its work, so that thread is one of `threads`.
struct tbb_group {
  static constexpr std::string_view name = "tbb_group";

  explicit tbb_group(std::size_t threads)
      : workers(tbb::global_control::max_allowed_parallelism, threads) {}
  ~tbb_group() { group.wait(); }

  template <class F>
  void run(F f) {
    group.run(std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }
  void help() { group.wait(); }

  tbb::global_control workers;
  tbb::task_group group;
};

struct moodycamel_queue {
  static constexpr std::string_view name = "moodycamel";

  explicit moodycamel_queue(std::size_t threads) : pool(threads) {}

  template <class F>
  void run(F f) {
    pool.push(std::move(f));
  }
  template <class F>
  void run_inside(F f) {
    run(std::move(f));
  }

  moodycamel_pool pool;
};

/// A thread for each task, so it gets fewer of them. Each producer waits for its own.
struct std_async {
  static constexpr std::string_view name = "std_async";
  static constexpr std::size_t most_tasks = 5'000;

  explicit std_async(std::size_t) {}

  template <class F>
  void run(F f) {
    futures().push_back(std::async(std::launch::async, std::move(f)));
  }
  void help() { futures().clear(); }

private:
  static std::vector<std::future<void>>& futures() {
    static thread_local std::vector<std::future<void>> own;
    return own;
  }
};

/// How many tasks a contender gets.
template <class Pool>
std::size_t task_count(const options& o, std::size_t otherwise) {
  auto n = o.count("tasks", otherwise);
  if constexpr (requires { Pool::most_tasks; }) n = std::min(n, Pool::most_tasks);
  return n;
}

} // namespace bench

#endif
