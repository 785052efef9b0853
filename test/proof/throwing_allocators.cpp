//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "throwing allocators": one of a hundred allocations of a handler's allocator throws. Either the
// function that was given the handler throws, and nothing was started; or the handler is invoked, once,
// without an error. A completion that its handler's allocator has nothing for takes its memory
// elsewhere.

#include "../support/allocators.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

namespace asio = boost::asio;
using bulkhead::error_code;

struct no_luck : std::exception {
  const char* what() const noexcept override { return "an allocator had no luck"; }
};

/// Which allocations throw: it follows from the seed and their number.
class luck {
public:
  explicit luck(std::uint64_t seed) noexcept : next_(seed << 32) {}

  void pass() {
    std::uint64_t x = next_.fetch_add(1, std::memory_order_relaxed);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    if ((x ^ (x >> 31)) % 100 != 0) return;
    thrown_.fetch_add(1, std::memory_order_relaxed);
    throw no_luck();
  }

  std::uint64_t thrown() const noexcept { return thrown_; }

  test::memory_balance memory;

private:
  std::atomic<std::uint64_t> next_;
  std::atomic<std::uint64_t> thrown_{0};
};

/// Starts operations and counts what becomes of them.
class counted {
public:
  counted(luck& l, std::uint64_t most_in_flight) : luck_(l), most_(most_in_flight) {}

  /// `start` gets a handler.
  template <class Start>
  void begin(Start start) {
    while (in_flight() >= most_) std::this_thread::yield();
    ++begun_;
    auto handler = [this](auto... results) {
      if (has_failed(results...)) ++failed_;
      ++invoked_;
    };
    try {
      start(
          asio::bind_allocator(test::throwing_allocator<char, luck>(luck_, luck_.memory), handler));
    } catch (const no_luck&) {
      ++thrown_;
    }
  }

  void wait() const {
    while (in_flight() != 0) std::this_thread::yield();
  }

  void report(proof::tally& tally, const std::string& where) const {
    tally.add(begun_);
    if (invoked_ + thrown_ != begun_)
      tally.lose(begun_ - invoked_ - thrown_, where + ": handlers were not invoked once");
    if (failed_ != 0) tally.lose(failed_, where + ": handlers got an error");
  }

private:
  std::uint64_t in_flight() const noexcept { return begun_ - invoked_ - thrown_; }

  static bool has_failed() { return false; }
  template <class E, class... T>
  static bool has_failed(const E& e, const T&...) {
    if constexpr (std::is_same_v<E, error_code> || std::is_same_v<E, std::exception_ptr>)
      return static_cast<bool>(e);
    else
      return false;
  }

  luck& luck_;
  const std::uint64_t most_;
  std::uint64_t begun_ = 0;
  std::uint64_t thrown_ = 0;
  std::atomic<std::uint64_t> invoked_{0};
  std::atomic<std::uint64_t> failed_{0};
};

constexpr std::size_t workers = 2;
constexpr std::uint64_t most_in_flight = 500;

template <class S>
bool is_balanced(const S& s) {
  return s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

/// Where the handlers run: a pool, and an io_context with a thread of its own, on the way to which every
/// handler needs memory.
struct places {
  bulkhead::pool& pool;
  asio::io_context& io;

  /// Calls `start` with `h` on one of the two. (An any_io_executor would not use the allocator.)
  template <class Handler, class Start>
  void on_one(std::uint64_t i, Handler h, Start start) const {
    if (i % 2 == 0)
      start(asio::bind_executor(pool, std::move(h)));
    else
      start(asio::bind_executor(io, std::move(h)));
  }
};

/// Calls `use(places, counted, i)` so often, and sees that the pool's workers survive.
template <class Use, class Check>
void part(const std::string& name, luck& l, std::uint64_t n, proof::tally& tally, Use use,
          Check check) {
  std::atomic<std::uint64_t> exceptions{0};
  bulkhead::pool pool({.threads = workers,
                       .queue_limit = 100,
                       .on_exception = [&](std::exception_ptr) { ++exceptions; }});
  asio::io_context io;
  std::optional guard(asio::make_work_guard(io));
  std::thread thread([&] { io.run(); });
  counted c(l, most_in_flight);
  for (std::uint64_t i = 0; i != n; ++i) use(places{pool, io}, c, i);
  c.wait();
  std::barrier all_here(workers + 1);
  for (std::size_t i = 0; i != workers; ++i) pool.submit([&] { all_here.arrive_and_wait(); });
  all_here.arrive_and_wait();
  pool.join();
  guard.reset();
  thread.join();
  check(); // the last handler may have been counted before what it belongs to was
  c.report(tally, name);
  tally.expect(exceptions == 0, name + ": exceptions reach the workers");
  tally.expect(is_balanced(pool.stats()), name + ": counts of the pool are wrong");
  tally.expect(l.memory.blocks == 0, name + ": memory is lost");
}

void on_pool(luck& l, std::uint64_t n, proof::tally& tally) {
  part(
      "pool", l, n, tally,
      [](const places& p, counted& c, std::uint64_t i) {
        c.begin([&](auto h) {
          switch (i % 4) {
          case 0:
            return asio::post(p.pool, std::move(h));
          case 1:
            return asio::dispatch(p.pool, std::move(h));
          case 2:
            return p.pool.async_submit([] { return 1; }, std::move(h));
          default:
            return p.pool.async_submit([] {}, asio::bind_executor(p.io, std::move(h)));
          }
        });
      },
      [] {});
}

void on_semaphore(luck& l, std::uint64_t n, proof::tally& tally) {
  asio::io_context nowhere;
  bulkhead::semaphore s(nowhere, 7);
  part(
      "semaphore", l, n, tally,
      [&](const places& p, counted& c, std::uint64_t i) {
        c.begin([&](auto h) {
          p.on_one(i, std::move(h),
                   [&](auto bound) { s.async_acquire(1 + i % 7, std::move(bound)); });
        });
      },
      [&] { tally.expect(s.idle() && s.available() == 7, "semaphore: permits are lost"); });
}

void on_lanes(luck& l, std::uint64_t n, proof::tally& tally) {
  std::unique_ptr<bulkhead::lanes> set;
  std::unique_ptr<bulkhead::lane> lane;
  part(
      "lanes", l, n, tally,
      [&](const places& p, counted& c, std::uint64_t i) {
        if (!set) {
          set =
              std::make_unique<bulkhead::lanes>(p.pool, bulkhead::lanes_options{.concurrency = 2});
          lane = std::make_unique<bulkhead::lane>(set->open({.queue_limit = 50}));
        }
        c.begin([&](auto h) {
          switch (i % 3) {
          case 0:
            return asio::post(lane->get_executor(), std::move(h));
          case 1:
            return lane->async_submit([] {}, asio::bind_executor(p.io, std::move(h)));
          default:
            return lane->async_submit([] { return 1; }, std::move(h));
          }
        });
      },
      [&] {
        tally.expect(is_balanced(lane->stats()), "lanes: counts of a lane are wrong");
        lane.reset();
        set.reset();
      });
}

void on_group(luck& l, std::uint64_t n, proof::tally& tally) {
  std::unique_ptr<bulkhead::task_group> group;
  part(
      "task_group", l, n, tally,
      [&](const places& p, counted& c, std::uint64_t i) {
        if (!group)
          group =
              std::make_unique<bulkhead::task_group>(p.pool, bulkhead::group_options{.limit = 8});
        c.begin([&](auto h) {
          auto child = []() -> asio::awaitable<void> { co_await asio::post(asio::deferred); };
          p.on_one(i, std::move(h), [&](auto bound) {
            if (i % 8 < 2)
              group->async_join(std::move(bound));
            else
              group->async_spawn(child, std::move(bound));
          });
        });
      },
      [&] {
        while (group->size() != 0) std::this_thread::yield();
        const auto s = group->stats();
        tally.expect(s.spawned == s.completed && s.pending == 0, "task_group: children are lost");
        group.reset();
      });
}

void run(const proof::load& load, proof::tally& tally) {
  luck l(load.seed);
  const std::uint64_t each = load.either(50'000, 1'000'000);
  on_pool(l, each, tally);
  on_semaphore(l, each, tally);
  on_lanes(l, each, tally);
  on_group(l, each, tally);
  tally.note(std::to_string(l.thrown()) + " allocations threw");
}

const proof::area throwing_allocators("throwing allocators",
                                      "documented policy, workers alive, nothing lost", &run);

} // namespace
