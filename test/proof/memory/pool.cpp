//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Cases of "allocation failure": pools.

#include "memory.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/stateful_pool.hpp>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <latch>
#include <stop_token>
#include <string>
#include <thread>

namespace proof::memory {
namespace {

// --- pool ---

bool is_balanced(const bulkhead::pool_stats& s) {
  return s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

MEMORY_CASE(pool_made, "pool: made") {
  std::optional<bulkhead::pool> p;
  if (!t.attempt([&] {
        p.emplace(bulkhead::pool_options{.threads = 2, .name = std::string(100, 'n')});
        std::latch done(1);
        p->submit([&] { done.count_down(); });
        done.wait();
      }))
    return;
  t.attempt([&] { p.reset(); });
}

/// One worker, which waits until all has been given to the pool.
template <class End>
void pool_case(trial& t, bulkhead::pool_options options, std::vector<error_code> expected,
               End end) {
  std::atomic<std::size_t> ran{0};
  std::size_t accepted = 0;
  std::atomic<int> exceptions{0};
  options.threads = 1;
  options.on_exception = [&](std::exception_ptr) { ++exceptions; };
  asio::cancellation_signal signal;
  bulkhead::pool p(options);
  const auto ex = p.get_executor();
  std::latch g(1), started(1);
  p.submit([&] {
    started.count_down();
    g.wait();
  });
  started.wait();
  for (int i = 0; i != 4; ++i) {
    t.attempt([&] { accepted += p.try_submit([&] { ++ran; }); });
    t.with_handler(ex, expected, [&](auto h) {
      t.attempt([&] {
        p.async_submit([](std::stop_token) { return 1; },
                       asio::bind_cancellation_slot(signal.slot(), std::move(h)));
      });
    });
    t.attempt([&] { asio::post(p, [&] { ++ran; }), ++accepted; });
    t.attempt([&] { asio::dispatch(asio::bind_executor(p, [&] { ++ran; })), ++accepted; });
  }
  t.with_handler(ex, {aborted}, [&](auto h) { t.attempt([&] { end(p, signal, std::move(h)); }); });
  t.attempt([&] {
    g.count_down();
    for (auto s = p.stats(); s.queued + s.waiting + s.running != 0; s = p.stats())
      std::this_thread::yield();
    p.join();
  });
  t.defuse();
  p.join();
  t.expect(is_balanced(p.stats()), "counts of a pool are wrong");
  t.expect(ran == accepted, "a function is lost");
  t.expect(exceptions == 0 || p.stats().resizes != 0, "a function of ours throws");
}

MEMORY_CASE(pool_runs, "pool: runs") {
  pool_case(t, {}, {}, [](auto& p, auto&, auto h) { asio::post(p, std::move(h)); });
}
MEMORY_CASE(pool_waits, "pool: waits for room") {
  pool_case(t, {.queue_limit = 3}, {}, [](auto& p, auto&, auto h) { asio::post(p, std::move(h)); });
}
MEMORY_CASE(pool_refuses, "pool: refuses") {
  pool_case(t, {.queue_limit = 3, .waiter_limit = 1}, {bulkhead::errc::queue_full},
            [](auto& p, auto&, auto h) { asio::post(p, std::move(h)); });
}
MEMORY_CASE(pool_cancelled, "pool: cancelled") {
  pool_case(t, {.queue_limit = 3}, {aborted}, [](auto& p, auto& signal, auto h) {
    asio::post(p, std::move(h));
    signal.emit(asio::cancellation_type::terminal);
  });
}
MEMORY_CASE(pool_closed, "pool: closed") {
  pool_case(t, {.queue_limit = 3}, {closed}, [](auto& p, auto&, auto h) {
    asio::post(p, std::move(h));
    p.close();
  });
}
MEMORY_CASE(pool_drained, "pool: drained") {
  pool_case(t, {.queue_limit = 3}, {closed},
            [](auto& p, auto&, auto h) { p.async_drain(std::move(h)); });
}
MEMORY_CASE(pool_resized, "pool: resized") {
  pool_case(t, {}, {}, [](auto& p, auto&, auto h) {
    asio::post(p, std::move(h));
    p.resize(3);
  });
}

/// Handlers belong to another context, so that they are completed and not destroyed.
MEMORY_CASE(pool_stopped, "pool: stopped") {
  asio::io_context io;
  std::optional<bulkhead::pool> p(std::in_place,
                                  bulkhead::pool_options{.threads = 1, .queue_limit = 3});
  std::latch g(1), started(1);
  p->submit([&] {
    started.count_down();
    g.wait();
  });
  started.wait();
  for (int i = 0; i != 5; ++i)
    t.with_handler(io.get_executor(), {aborted, closed}, [&](auto h) {
      t.attempt([&] { p->async_submit([] {}, asio::bind_executor(io, std::move(h))); });
    });
  t.with_handler(io.get_executor(), {aborted}, [&](auto h) {
    t.attempt([&] { p->async_drain(asio::bind_executor(io, std::move(h))); });
  });
  t.attempt([&] { p->stop(); });
  g.count_down();
  t.attempt([&] { p.reset(); });
  t.poll(io);
  t.finish(io);
}

MEMORY_CASE(pool_drain_for, "pool: drain_for") {
  asio::io_context io;
  bulkhead::pool p({.threads = 1, .queue_limit = 3});
  for (int i = 0; i != 5; ++i)
    t.with_handler(io.get_executor(), {aborted, closed}, [&](auto h) {
      t.attempt([&] { p.async_submit([] {}, asio::bind_executor(io, std::move(h))); });
    });
  t.attempt([&] { p.drain_for(0s); });
  t.attempt([&] { p.join(); });
  t.finish(io);
  t.expect(is_balanced(p.stats()), "counts of a pool are wrong");
}

MEMORY_CASE(stateful_pool, "stateful_pool") {
  struct state {
    std::string text = std::string(100, 's');
  };
  std::optional<bulkhead::stateful_pool<state>> p;
  if (!t.attempt([&] {
        p.emplace([] { return state(); },
                  bulkhead::pool_options{.threads = 2, .on_exception = [](std::exception_ptr) {}},
                  bulkhead::factory_backoff{.first = 0ns, .longest = 0ns});
      }))
    return;
  const auto ex = p->get_executor();
  t.with_handler(ex, {}, [&](auto h) { t.attempt([&] { p->async_warm_up(std::move(h)); }); });
  for (int i = 0; i != 3; ++i)
    t.with_handler(ex, {}, [&](auto h) {
      t.attempt([&] { p->async_submit([](state& s) { return s.text.size(); }, std::move(h)); });
    });
  t.attempt([&] { p->join(); });
  t.defuse();
  p->join();
  t.expect(is_balanced(p->stats()), "counts of a pool are wrong");
}

} // namespace
} // namespace proof::memory
