//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Cases of "allocation failure": groups, scopes and maps.

#include "memory.hpp"

#include <bulkhead/map.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <functional>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <utility>

namespace proof::memory {
namespace {

using bulkhead::on_error;

// --- groups ---

void is_usable(trial& t, asio::io_context& io, bulkhead::task_group& g) {
  t.defuse();
  t.poll(io);
  const auto s = g.stats();
  t.expect(g.size() == 0 && g.pending() == 0, "a child is left behind");
  t.expect(s.spawned == s.completed + s.failed + s.cancelled, "counts of a group are wrong");
  bool joined = false;
  g.async_join([&](std::exception_ptr) { joined = true; });
  t.finish(io);
  t.expect(joined, "a group is of no use any more");
}

MEMORY_CASE(group_made, "task_group: made") {
  asio::io_context io;
  std::optional<bulkhead::task_group> g;
  if (t.attempt([&] { g.emplace(io); })) is_usable(t, io, *g);
  t.finish(io);
}

/// One for which any_io_executor allocates, and nothing else does. (Asio's strand is locked for good if
/// its own executor throws.)
template <class Inner>
class large_executor {
public:
  explicit large_executor(const Inner& inner) noexcept : inner_(inner) {}

  template <class F>
  void execute(F&& f) const {
    inner_.execute(std::forward<F>(f));
  }

  template <class Property>
  requires asio::can_require<const Inner&, Property>::value auto require(const Property& p) const {
    return large_executor<std::decay_t<decltype(asio::require(inner_, p))>>(
        asio::require(inner_, p));
  }

  template <class Property>
  requires asio::can_query<const Inner&, Property>::value decltype(auto)
  query(const Property& p) const {
    return asio::query(inner_, p);
  }

  friend bool operator==(const large_executor& a, const large_executor& b) noexcept {
    return a.inner_ == b.inner_;
  }

private:
  Inner inner_;
  std::array<void*, 8> words_{};
};

/// Spawns children of all kinds, and ends them by `end`.
template <class End, class On = std::identity>
void group_case(trial& t, bulkhead::group_options options, bool one_fails,
                std::vector<error_code> expected, End end, On on = {}) {
  asio::io_context io;
  std::optional<bulkhead::task_group> g(std::in_place, on(io.get_executor()), options);
  asio::steady_timer timer(io, 1h);
  asio::cancellation_signal signal;
  const auto live = std::make_shared<int>();
  bool was_refused = false;
  const auto spawn = [&](auto make) {
    t.attempt([&] {
      try {
        g->spawn(make());
      } catch (const bulkhead::system_error&) { // cancelled by a failure
        was_refused = true;
      }
    });
  };
  spawn([&] { return [live] {}; });
  spawn([&] { return [live]() -> asio::awaitable<void> { co_await asio::post(asio::deferred); }; });
  spawn([&] {
    return [live, &timer]() -> asio::awaitable<int> {
      timer.expires_after(-1s);
      co_await timer.async_wait(asio::deferred);
      co_return 1;
    };
  });
  spawn([&] { return [live](std::stop_token) {}; });
  spawn([&] { return [live, &io] { return asio::post(io, asio::deferred); }; });
  spawn([&] { return [live](asio::yield_context yield) { asio::post(yield); }; });
  if (one_fails)
    for (int i = 0; i != 3; ++i) spawn([&] { return [live] { throw std::bad_alloc(); }; });
  t.attempt([&] { (void)g->try_spawn([live] {}); });
  for (int i = 0; i != 3; ++i)
    t.with_handler(io.get_executor(), {aborted, closed}, [&](auto h) {
      t.attempt([&] {
        g->async_spawn([live]() -> asio::awaitable<void> { co_await asio::post(asio::deferred); },
                       asio::bind_cancellation_slot(signal.slot(), std::move(h)));
      });
    });
  for (int i = 0; i != 2; ++i)
    t.with_handler(io.get_executor(), expected,
                   [&](auto h) { t.attempt([&] { g->async_join(std::move(h)); }); });
  t.attempt([&] { end(io, g, signal); });
  t.poll(io);
  if (g) is_usable(t, io, *g);
  g.reset();
  t.finish(io);
  t.expect(live.use_count() == 1, "a child is left behind");
}

MEMORY_CASE(group_runs, "task_group: runs") {
  group_case(t, {}, false, {}, [](auto&&...) {});
}
MEMORY_CASE(group_on_a_large_executor, "task_group: on an executor that has to be allocated") {
  group_case(
      t, {.limit = 2}, true, {}, [](auto&&...) {},
      [](const auto& ex) { return large_executor(ex); });
}
/// And with it what it keeps for the next group.
MEMORY_CASE(group_thread_ends, "task_group: its thread ends") {
  asio::io_context io;
  bulkhead::task_group g(io);
  const auto child = []() -> asio::awaitable<void> { co_await asio::post(asio::deferred); };
  for (int i = 0; i != 3; ++i) t.attempt([&] { g.spawn(child); });
  t.attempt([&] {
    std::thread([&] {
      while (g.size() != 0) {
        try {
          io.restart();
          io.run();
        } catch (const std::bad_alloc&) { // Asio's own
        }
      }
    }).join();
  });
  is_usable(t, io, g);
}
MEMORY_CASE(group_waits, "task_group: one after the other") {
  group_case(t, {.limit = 1}, false, {}, [](auto&&...) {});
}
MEMORY_CASE(group_fails, "task_group: fails") {
  group_case(t, {.limit = 2}, true, {}, [](auto&&...) {});
}
MEMORY_CASE(group_collects, "task_group: collects failures") {
  group_case(t, {.error = on_error::collect}, true, {}, [](auto&&...) {});
}
MEMORY_CASE(group_cancelled, "task_group: cancelled") {
  group_case(t, {.limit = 2}, false, {}, [&](auto& io, auto& g, auto&) {
    t.poll_one(io);
    g->cancel();
  });
}
MEMORY_CASE(group_spawn_cancelled, "task_group: async_spawn is cancelled") {
  group_case(t, {.limit = 2}, false, {},
             [](auto&, auto&, auto& signal) { signal.emit(asio::cancellation_type::partial); });
}
MEMORY_CASE(group_closed, "task_group: closed") {
  group_case(t, {.limit = 2}, false, {}, [](auto&, auto& g, auto&) { g->close(); });
}
MEMORY_CASE(group_destroyed, "task_group: destroyed") {
  group_case(t, {.limit = 2}, false, {aborted}, [&](auto& io, auto& g, auto&) {
    t.poll_one(io);
    g.reset();
  });
}

/// Starts something, and cancels it unless it has ended by itself.
template <class Start>
void operation_case(trial& t, std::vector<error_code> expected, Start start) {
  asio::io_context io;
  asio::cancellation_signal signal;
  const auto live = std::make_shared<int>();
  t.with_handler(io.get_executor(), std::move(expected), [&](auto h) {
    t.attempt([&] { start(io, live, asio::bind_cancellation_slot(signal.slot(), std::move(h))); });
  });
  t.poll(io);
  t.attempt([&] { signal.emit(asio::cancellation_type::terminal); });
  t.poll(io);
  t.defuse();
  signal.emit(asio::cancellation_type::terminal);
  t.finish(io);
  t.expect(live.use_count() == 1, "the function is left behind");
}

template <class Body>
void scope_case(trial& t, std::vector<error_code> expected, Body body) {
  operation_case(t, std::move(expected), [body](auto& io, auto live, auto h) {
    bulkhead::async_scope(
        io, {.limit = 2}, [live, body](bulkhead::task_group& g) { return body(g); }, std::move(h));
  });
}

MEMORY_CASE(scope_runs, "async_scope: runs") {
  scope_case(t, {}, [](bulkhead::task_group& g) -> asio::awaitable<int> {
    for (int i = 0; i != 3; ++i)
      co_await g.async_spawn(
          []() -> asio::awaitable<void> { co_await asio::post(asio::deferred); });
    co_await g.async_join();
    co_return 1;
  });
}
MEMORY_CASE(scope_fails, "async_scope: fails") {
  scope_case(t, {}, [](bulkhead::task_group& g) -> asio::awaitable<void> {
    g.spawn([] { throw std::bad_alloc(); });
    co_await asio::post(asio::deferred);
    throw std::bad_alloc();
  });
}
MEMORY_CASE(scope_cancelled, "async_scope: cancelled") {
  scope_case(t, {aborted}, [](bulkhead::task_group& g) -> asio::awaitable<void> {
    auto forever = []() -> asio::awaitable<void> {
      asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
      co_await timer.async_wait(asio::deferred);
    };
    g.spawn(forever);
    g.spawn(forever);
    g.spawn(forever);
    co_await forever();
  });
}
MEMORY_CASE(scope_within, "async_scope: in a scope") {
  scope_case(t, {}, [](bulkhead::task_group&) -> asio::awaitable<int> {
    auto body = [](bulkhead::task_group& g) -> asio::awaitable<int> {
      g.spawn([] {});
      co_return 1;
    };
    co_return co_await bulkhead::async_scope({.limit = 1}, body, asio::use_awaitable);
  });
}

const std::vector<int> numbers{1, 2, 3, 4, 5, 6, 7};

MEMORY_CASE(map_runs, "async_map") {
  operation_case(t, {}, [](auto& io, auto live, auto h) {
    bulkhead::async_map(
        io, numbers, 2,
        [live](int n) -> asio::awaitable<int> {
          co_await asio::post(asio::deferred);
          co_return n;
        },
        std::move(h));
  });
}
MEMORY_CASE(for_each_runs, "async_for_each") {
  operation_case(t, {}, [](auto& io, auto live, auto h) {
    bulkhead::async_for_each(
        io, numbers, 3, [live, &io](int) { return asio::post(io, asio::deferred); }, std::move(h));
  });
}
MEMORY_CASE(for_each_cancelled, "async_for_each: cancelled") {
  operation_case(t, {aborted}, [](auto& io, auto live, auto h) {
    bulkhead::async_for_each(
        io, numbers, 3,
        [live](int) -> asio::awaitable<void> {
          asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
          co_await timer.async_wait(asio::deferred);
        },
        std::move(h));
  });
}
MEMORY_CASE(first_runs, "async_first") {
  operation_case(t, {}, [](auto& io, auto live, auto h) {
    bulkhead::async_first(
        io, numbers, 2,
        [live](int n) -> asio::awaitable<int> {
          co_await asio::post(asio::deferred);
          if (n < 3) throw std::bad_alloc();
          co_return n;
        },
        std::move(h));
  });
}
MEMORY_CASE(first_fails, "async_first: nothing succeeds") {
  operation_case(t, {}, [](auto& io, auto live, auto h) {
    bulkhead::async_first(
        io, numbers, 2, [live](int) { throw std::bad_alloc(); }, std::move(h));
  });
}

} // namespace
} // namespace proof::memory
