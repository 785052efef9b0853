//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// instructions WORKLOAD N   does something N times, to be counted under callgrind
// instructions --list       prints the workloads
//
// Reproducible counts need threads that do not race. A pool has one worker, which is held at a gate
// while main() fills the queue, and runs it when main() sleeps. Work from inside runs on that worker
// alone. What remains, start, end and bounded spinning, is the same for each N.

#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <latch>
#include <string_view>
#include <utility>

namespace {

namespace asio = boost::asio;

using asio::awaitable;
using asio::use_awaitable;

bulkhead::pool_options one_worker() {
  bulkhead::pool_options o;
  o.threads = 1;
  o.queue_limit = 1 << 20;
  return o;
}

/// A pool whose worker does nothing before open().
class gated_pool {
public:
  gated_pool() : pool(one_worker()) {
    asio::post(pool, [this] {
      closed_.count_down();
      open_.wait();
    });
    closed_.wait();
  }

  void open() { open_.count_down(); }

private:
  std::latch closed_{1}, open_{1};

public:
  bulkhead::pool pool;
};

/// Calls `queue(pool, i)` for each i, and then lets the worker run what is queued.
template <class Queue>
void from_outside(std::size_t n, Queue queue) {
  gated_pool gated;
  std::size_t done = 0; // the worker's
  std::latch ended(1);
  for (std::size_t i = 0; i < n; ++i)
    queue(gated.pool, [&done, &ended, n] {
      if (++done == n) ended.count_down();
    });
  gated.open();
  ended.wait();
}

void post(std::size_t n) {
  from_outside(n, [](bulkhead::pool& p, auto f) { asio::post(p, f); });
}

void try_submit(std::size_t n) {
  from_outside(n, [](bulkhead::pool& p, auto f) {
    if (!p.try_submit(f)) std::abort();
  });
}

void submit(std::size_t n) {
  from_outside(n, [](bulkhead::pool& p, auto f) { p.submit(f); });
}

void async_submit(std::size_t n) {
  from_outside(n, [](bulkhead::pool& p, auto f) {
    p.async_submit([] {}, [f](std::exception_ptr) { f(); });
  });
}

void co_spawn(std::size_t n) {
  auto trivial = []() -> awaitable<void> { co_return; };
  from_outside(n, [&](bulkhead::pool& p, auto f) {
    asio::co_spawn(p, trivial, [f](std::exception_ptr) { f(); });
  });
}

/// A chain in which each handler posts the next, beside a second one: the queue is never empty.
struct chain {
  bulkhead::pool& pool;
  std::latch& ended;

  void step(std::size_t left) {
    if (left == 0)
      ended.count_down();
    else
      asio::post(pool, [this, left] { step(left - 1); });
  }
};

void post_inside(std::size_t n) {
  gated_pool gated;
  std::latch ended(2);
  chain c{gated.pool, ended};
  for (int i = 0; i < 2; ++i) asio::post(gated.pool, [&c, n] { c.step(n / 2); });
  gated.open();
  ended.wait();
}

template <class Body>
void on_worker(Body body) {
  gated_pool gated;
  std::latch ended(1);
  asio::co_spawn(gated.pool, body(gated.pool.get_executor()),
                 [&ended](std::exception_ptr) { ended.count_down(); });
  gated.open();
  ended.wait();
}

void semaphore(std::size_t n) {
  auto body = [n](auto ex) -> awaitable<void> {
    bulkhead::semaphore s(ex, 1);
    for (std::size_t i = 0; i < n; ++i) {
      auto held = co_await s.async_acquire(use_awaitable);
      held.release();
    }
  };
  on_worker(body);
}

awaitable<void> child() { co_return; }

void group_of_ten(std::size_t n) {
  auto scope = [](bulkhead::task_group& g) -> awaitable<void> {
    for (int i = 0; i < 10; ++i) g.spawn(child());
    co_return;
  };
  auto body = [n, scope](auto ex) -> awaitable<void> {
    for (std::size_t i = 0; i < n; ++i)
      co_await bulkhead::async_scope(ex, {}, scope, use_awaitable);
  };
  on_worker(body);
}

constexpr std::pair<std::string_view, void (*)(std::size_t)> workloads[] = {
    {"post", post},
    {"try_submit", try_submit},
    {"submit", submit},
    {"post_inside", post_inside},
    {"async_submit", async_submit},
    {"co_spawn", co_spawn},
    {"semaphore", semaphore},
    {"group_of_ten", group_of_ten},
};

} // namespace

int main(int argc, char** argv) {
  if (argc == 2 && argv[1] == std::string_view("--list")) {
    for (auto& [name, run] : workloads) std::printf("%s\n", name.data());
    return 0;
  }
  if (argc == 3)
    for (auto& [name, run] : workloads)
      if (name == argv[1]) {
        run(std::strtoul(argv[2], nullptr, 10));
        return 0;
      }
  std::fputs("usage: instructions WORKLOAD N; instructions --list says which there are\n", stderr);
  return 2;
}
