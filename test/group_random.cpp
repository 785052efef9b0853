//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A storm of groups within groups, with children of all kinds that wait, spawn, throw, cancel and
// close, from inside and from other threads. It has to leave nothing behind.
//
// A failure prints the seed. BULKHEAD_SEED=n runs that seed only, BULKHEAD_STORM=n sets how many
// children are spawned.

#include "support/places.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/map.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <stop_token>
#include <tuple>
#include <utility>

namespace asio = boost::asio;
using asio::awaitable;
using asio::cancellation_type;
using asio::use_awaitable;
using bulkhead::async_scope;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::group_options;
using bulkhead::group_stats;
using bulkhead::on_error;
using bulkhead::task_group;
using test::dice;
using test::failure;
using test::number_from_environment;

namespace {

struct tally {
  std::atomic<long> accepted{0}, refused{0}, aborted{0}, deadlocks{0};            // by spawning
  std::atomic<long> started{0}, ended{0};                                         // by children
  std::atomic<long> made{0}, destroyed{0};                                        // callables
  std::atomic<long> groups{0}, spawned{0}, completed{0}, failed{0}, cancelled{0}; // by stats()
  std::atomic<long> outlived{0};  // a child, or its callable, outlived its scope
  std::atomic<long> unsettled{0}; // figures of a group that did not fit
  std::atomic<long> wrong{0};     // results
};

/// What belongs to one group.
struct account {
  std::atomic<long> inside{0};    // children that have started and not ended
  std::atomic<long> callables{0}; // that exist
};
using account_ptr = std::shared_ptr<account>;

class world {
public:
  world(asio::any_io_executor ex, std::uint64_t seed, long budget)
      : executor_(std::move(ex)), dice_(seed), budget_(budget), semaphore_(executor_, 2) {}

  /// Spawns and runs until that is enough. Call it, then let the executor run.
  void begin() {
    guard_.emplace(executor_);
    roots_ = most_roots;
    for (int i = 0; i != most_roots; ++i) {
      const auto strand = asio::make_strand(executor_);
      asio::co_spawn(strand, root(dice_.next(), strand), [this](std::exception_ptr e) {
        if (e) ++count_.wrong;
        if (--roots_ == 0) guard_.reset();
      });
    }
  }

  /// When the executor has nothing left to do.
  void check() {
    others_.finish();
    BOOST_TEST(count_.outlived == 0);
    BOOST_TEST(count_.unsettled == 0);
    BOOST_TEST(count_.wrong == 0);
    BOOST_TEST(count_.started == count_.ended);
    BOOST_TEST(count_.started <= count_.accepted);
    BOOST_TEST(count_.made == count_.destroyed);
    BOOST_TEST(count_.spawned == count_.completed + count_.failed + count_.cancelled);
    BOOST_TEST(semaphore_.in_use() == 0u);
    BOOST_TEST(semaphore_.waiting() == 0u);
    BOOST_TEST_MESSAGE("accepted " << count_.accepted << ", refused " << count_.refused
                                   << ", aborted " << count_.aborted << ", would deadlock "
                                   << count_.deadlocks << "; started " << count_.started
                                   << ", ended " << count_.ended << "; callables " << count_.made
                                   << ", destroyed " << count_.destroyed << "; in " << count_.groups
                                   << " joined groups: spawned " << count_.spawned << ", completed "
                                   << count_.completed << ", failed " << count_.failed
                                   << ", cancelled " << count_.cancelled);
  }

private:
  static constexpr int most_roots = 6;
  static constexpr int most_depth = 3;

  /// Counts itself as the callable that it is part of.
  class mark {
  public:
    mark(world& w, account_ptr a) : world_(&w), account_(std::move(a)) { count(); }
    mark(const mark& other) : world_(other.world_), account_(other.account_) { count(); }
    mark& operator=(const mark&) = delete;
    ~mark() {
      ++world_->count_.destroyed;
      --account_->callables;
    }

  private:
    void count() {
      ++world_->count_.made;
      ++account_->callables;
    }

    world* world_;
    account_ptr account_;
  };

  /// The time between a child's start and the end of its frame.
  class visit {
  public:
    visit(world& w, account_ptr a) : world_(w), account_(std::move(a)) {
      ++world_.count_.started;
      ++account_->inside;
    }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;
    ~visit() {
      --account_->inside;
      ++world_.count_.ended;
    }

  private:
    world& world_;
    account_ptr account_;
  };

  /// What a child knows of where it is.
  struct place {
    account_ptr account;
    task_group* own = nullptr;   // null: it may outlive the group
    task_group* outer = nullptr; // that its group is in a child of
    int depth = 0;
  };

  bool may_spawn() { return --budget_ >= 0; }

  group_options options(dice& d) {
    return {.limit = d.one_in(4) ? bulkhead::unbounded : 1 + d(4),
            .error = d.one_in(2) ? on_error::collect : on_error::cancel_siblings};
  }

  static cancellation_type any_type(dice& d) {
    constexpr std::array types{cancellation_type::terminal, cancellation_type::partial,
                               cancellation_type::total};
    return types[d(3)];
  }

  // --- waiting ---

  /// Runs `job` on another thread.
  awaitable<void> elsewhere(std::function<void()> job) {
    auto initiation = [this, &job](auto handler) {
      auto ex = asio::get_associated_executor(handler);
      asio::post(others_.context(),
                 [job = std::move(job), ex, handler = std::move(handler)]() mutable {
                   job();
                   job = nullptr;
                   asio::post(ex, std::move(handler));
                 });
    };
    co_await asio::async_initiate<decltype(use_awaitable), void()>(initiation, use_awaitable);
  }

  awaitable<void> wait(dice& d) {
    switch (d(6)) {
    case 0: {
      asio::steady_timer timer(co_await asio::this_coro::executor,
                               std::chrono::microseconds(d(200)));
      co_await timer.async_wait(use_awaitable);
      break;
    }
    case 1: {
      auto permit = co_await semaphore_.async_acquire(1 + d(2), use_awaitable);
      if (d.one_in(2)) co_await test::yield_turns();
      break;
    }
    case 2:
      if (d.one_in(4)) co_await elsewhere([] {});
      break;
    case 3:
      co_await test::yield_turns(static_cast<int>(1 + d(3)));
      break;
    default:
      co_await test::yield_turns();
      break;
    }
  }

  // --- children ---

  awaitable<void> run(std::uint64_t seed, place at) {
    visit v(*this, at.account);
    dice d(seed);
    if (d.one_in(8)) co_await asio::this_coro::throw_if_cancelled(false);
    if (d.one_in(8))
      co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    for (unsigned steps = d(4); steps != 0; --steps) {
      if (d.one_in(2)) {
        co_await wait(d);
        continue;
      }
      switch (d(16)) {
      case 0:
        throw failure(1);
      case 1:
        if (at.own) at.own->cancel(any_type(d));
        break;
      case 2:
        if (at.own && d.one_in(2)) at.own->close();
        break;
      case 3:
        if (at.own) {
          auto [e] = co_await at.own->async_join(asio::as_tuple(use_awaitable));
          const int n = test::number_of(e);
          if (n != -1 && n != -2) ++count_.wrong; // would_deadlock, or aborted
        }
        break;
      case 4: { // its executor outlives it
        auto ex = co_await asio::this_coro::executor;
        asio::post(others_.context(), [ex] { asio::post(ex, [] {}); });
        break;
      }
      case 5: {
        auto signal = std::make_shared<asio::cancellation_signal>();
        auto ex = co_await asio::this_coro::executor;
        auto coroutine = wait_twice(d.next());
        asio::co_spawn(
            ex, std::move(coroutine),
            asio::bind_cancellation_slot(signal->slot(), [signal](std::exception_ptr) {}));
        asio::post(ex, [signal] { signal->emit(cancellation_type::terminal); });
        break;
      }
      case 6:
      case 7:
      case 8:
      case 9:
        if (at.depth < most_depth) co_await nest(d, at);
        break;
      default:
        if (at.own) co_await spawn_one(*at.own, d, at);
        break;
      }
      if (at.outer && d.one_in(8) && may_spawn()) { // a wait for a slot, from within a child
        auto [ec] = co_await at.outer->async_spawn(asio::post(executor_, asio::deferred),
                                                   asio::as_tuple(use_awaitable));
        count_spawn(ec);
      }
    }
  }

  awaitable<void> wait_twice(std::uint64_t seed) {
    dice d(seed);
    co_await wait(d);
    co_await wait(d);
  }

  void count_spawn(error_code ec) {
    if (!ec) {
      ++count_.accepted;
      return;
    }
    ++budget_;
    if (ec == asio::error::operation_aborted)
      ++count_.aborted;
    else if (ec == errc::would_deadlock)
      ++count_.deadlocks;
    else if (ec == errc::closed)
      ++count_.refused;
    else
      ++count_.wrong;
  }

  /// Calls f with a child of some kind.
  template <class F>
  void with_child(dice& d, const place& at, F f) {
    const std::uint64_t seed = d.next();
    const mark m(*this, at.account);
    switch (d(8)) {
    case 0:
      return f(run(seed, at));
    case 1:
    case 2:
      return f([this, m, seed, at] { return run(seed, at); });
    case 3:
      return f([this, m, seed, at](std::stop_token stop) {
        return stop.stop_requested() ? run(1, at) : run(seed, at);
      });
    case 4:
      return f([this, m, seed, at] {
        visit v(*this, at.account);
        dice own(seed);
        if (own.one_in(12)) throw failure(2);
        if (at.own && own.one_in(3)) try_one(*at.own, own, at);
      });
    case 5:
      return f([this, m, at](std::stop_token) {
        visit v(*this, at.account);
        return 5;
      });
    case 6: {
      auto timer =
          std::make_shared<asio::steady_timer>(executor_, std::chrono::microseconds(d(200)));
      return f([m, timer] { return timer->async_wait(asio::deferred); });
    }
    default:
      return f(asio::post(executor_, asio::deferred));
    }
  }

  void spawn_throwing(task_group& g, dice& d, const place& at) {
    try {
      with_child(d, at, [&](auto&& child) { g.spawn(std::forward<decltype(child)>(child)); });
      count_spawn({});
    } catch (const bulkhead::system_error& e) {
      count_spawn(e.code());
    }
  }

  void try_one(task_group& g, dice& d, const place& at) {
    if (!may_spawn()) return;
    bool done = false;
    with_child(d, at,
               [&](auto&& child) { done = g.try_spawn(std::forward<decltype(child)>(child)); });
    count_spawn(done ? error_code() : error_code(errc::closed));
  }

  awaitable<void> spawn_one(task_group& g, dice& d, const place& at) {
    if (!may_spawn()) co_return;
    switch (d(6)) {
    case 0:
    case 1:
      spawn_throwing(g, d, at);
      break;
    case 2:
      try_one(g, d, at);
      break;
    case 3: { // a callback, sometimes cancelled
      auto signal = std::make_shared<asio::cancellation_signal>();
      with_child(d, at, [&](auto&& child) {
        g.async_spawn(std::forward<decltype(child)>(child),
                      asio::bind_cancellation_slot(
                          signal->slot(), [this, signal](error_code ec) { count_spawn(ec); }));
      });
      if (d.one_in(2))
        asio::post(others_.context(), [signal, type = any_type(d)] { signal->emit(type); });
      break;
    }
    default: {
      using result = awaitable<std::tuple<error_code>>;
      std::optional<result> spawning;
      with_child(d, at, [&](auto&& child) {
        spawning.emplace(
            g.async_spawn(std::forward<decltype(child)>(child), asio::as_tuple(use_awaitable)));
      });
      auto [ec] = co_await std::move(*spawning);
      count_spawn(ec);
      break;
    }
    }
  }

  // --- groups ---

  /// The body of a scope, or what fills a group.
  awaitable<void> fill(task_group& g, std::uint64_t seed, place at) {
    dice d(seed);
    for (unsigned n = 1 + d(8); n != 0; --n) {
      co_await spawn_one(g, d, at);
      if (d.one_in(6)) co_await wait(d);
      if (d.one_in(32)) throw failure(3);
      if (d.one_in(24)) g.cancel(any_type(d));
      if (d.one_in(24)) g.close();
      if (d.one_in(12)) {
        std::function<void()> job;
        if (d.one_in(2))
          job = [this, &g, at, seed = d.next()] {
            dice own(seed);
            if (may_spawn()) spawn_throwing(g, own, at);
            try_one(g, own, at);
          };
        else
          job = [&g, type = any_type(d)] { g.cancel(type); };
        // Not to be left by a cancellation: the job refers to the group.
        co_await elsewhere(std::move(job));
      }
    }
    if (d.one_in(4) && may_spawn()) {
      // One that ends when it is cancelled, and not before.
      auto child = [this, m = mark(*this, at.account), a = at.account]() -> awaitable<void> {
        visit v(*this, a);
        co_await test::forever();
      };
      try {
        g.spawn(child);
        count_spawn({});
      } catch (const bulkhead::system_error& e) {
        count_spawn(e.code());
      }
      co_await test::yield_turns(static_cast<int>(d(4)));
      g.cancel();
    }
    if (d.one_in(6)) g.cancel();
  }

  /// Waits for the children, and looks at the figures. Not to be cancelled.
  awaitable<void> join(task_group& g, const account& a) {
    (void)co_await g.async_join(asio::as_tuple(use_awaitable));
    if (a.inside != 0 || a.callables != 0) ++count_.outlived;
    const group_stats s = g.stats();
    if (s.running != 0 || s.pending != 0 || g.size() != 0 || g.pending() != 0) ++count_.unsettled;
    if (s.spawned != s.completed + s.failed + s.cancelled) ++count_.unsettled;
    ++count_.groups;
    count_.spawned += static_cast<long>(s.spawned);
    count_.completed += static_cast<long>(s.completed);
    count_.failed += static_cast<long>(s.failed);
    count_.cancelled += static_cast<long>(s.cancelled);
  }

  struct body {
    world* w;
    std::uint64_t seed;
    place at;
    bool joins;

    awaitable<int> operator()(task_group& g) const { return w->run_body(g, seed, at, joins); }
  };

  awaitable<int> run_body(task_group& g, std::uint64_t seed, place at, bool joins) {
    at.own = &g;
    std::exception_ptr error;
    try {
      co_await fill(g, seed, at);
    } catch (...) {
      error = std::current_exception();
    }
    if (error) g.cancel();
    if (joins) {
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await join(g, *at.account);
    }
    if (error) std::rethrow_exception(error);
    co_return 1;
  }

  /// A group in a coroutine, of any sort.
  awaitable<void> nest(dice& d, const place& around) {
    const auto a = std::make_shared<account>();
    place at{a, nullptr, around.own, around.depth + 1};
    std::exception_ptr error;
    switch (d(8)) {
    case 0: {
      auto ex = co_await asio::this_coro::executor;
      task_group g(ex, options(d)); // joined in any case
      at.own = &g;
      try {
        co_await fill(g, d.next(), at);
      } catch (...) {
        error = std::current_exception();
      }
      if (error || d.one_in(4)) g.cancel();
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await join(g, *a);
      break;
    }
    case 1: {
      task_group g(executor_, options(d)); // its children may be left alone: they do not know it
      at.outer = nullptr;
      for (unsigned n = d(4); n != 0; --n) {
        if (!may_spawn()) break;
        spawn_throwing(g, d, at);
        if (d.one_in(2)) co_await test::yield_turns();
      }
      if (d.one_in(16)) co_return; // it says so on stderr
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await join(g, *a);
      break;
    }
    case 2: {
      at.outer = nullptr;
      auto f = [this, at, seed = d.next()](int i) -> awaitable<long> {
        ++count_.accepted;
        co_await run(seed + static_cast<unsigned>(i), at);
        co_return i;
      };
      const int n = static_cast<int>(d(6));
      budget_ -= n;
      auto [e, all] = co_await bulkhead::async_map(std::views::iota(0, n), 1 + d(3), f,
                                                   asio::as_tuple(use_awaitable));
      error = e;
      bool right = all.size() == (e ? 0u : static_cast<std::size_t>(n));
      for (std::size_t i = 0; i != all.size(); ++i) right = right && all[i] == static_cast<long>(i);
      if (!right) ++count_.wrong;
      break;
    }
    case 3: {
      at.outer = nullptr;
      auto f = [this, at](int i, std::stop_token) {
        ++count_.accepted;
        visit v(*this, at.account);
        if (i == 100) throw failure(4);
      };
      const int first = d.one_in(4) ? 97 : 0, n = static_cast<int>(d(6));
      budget_ -= n;
      auto [e] = co_await bulkhead::async_for_each(std::views::iota(first, first + n), 1 + d(3), f,
                                                   asio::as_tuple(use_awaitable));
      error = e;
      break;
    }
    default: {
      const body b{this, d.next(), at, d.one_in(2)};
      if (d.one_in(4)) { // on other threads
        auto [e, n] =
            co_await async_scope(others_.context(), options(d), b, asio::as_tuple(use_awaitable));
        error = e;
      } else {
        auto [e, n] = co_await async_scope(options(d), b, asio::as_tuple(use_awaitable));
        error = e;
      }
      break;
    }
    }
    // No child outlives its scope.
    if (a->inside != 0 || a->callables != 0) ++count_.outlived;
    if (error && d.one_in(3)) std::rethrow_exception(error);
  }

  using strand = asio::strand<asio::any_io_executor>;

  awaitable<void> root(std::uint64_t seed, strand ex) {
    dice d(seed);
    while (budget_ > 0) {
      const place nowhere{nullptr, nullptr, nullptr, 0};
      const auto a = std::make_shared<account>();
      const body b{this, d.next(), {a, nullptr, nullptr, 1}, d.one_in(2)};
      const group_options o = options(d);
      const unsigned what = d(4);
      if (what == 0) { // here
        try {
          co_await nest(d, nowhere);
        } catch (...) {
        }
      } else if (what == 1) { // a coroutine on a strand, cancelled there
        auto signal = std::make_shared<asio::cancellation_signal>();
        auto coroutine = [](world& w, body b, group_options o) -> awaitable<void> {
          (void)co_await async_scope(w.executor_, o, b, asio::as_tuple(use_awaitable));
          if (b.at.account->inside != 0 || b.at.account->callables != 0) ++w.count_.outlived;
        };
        auto spawned = asio::co_spawn(ex, coroutine(*this, b, o), asio::deferred);
        auto initiation = [&](auto handler) {
          std::move(spawned)(asio::bind_cancellation_slot(
              signal->slot(),
              asio::bind_executor(ex, [signal, h = std::move(handler)](std::exception_ptr) mutable {
                std::move(h)();
              })));
          if (d.one_in(2)) emit_later(ex, signal, d(40), any_type(d));
        };
        co_await asio::async_initiate<decltype(use_awaitable), void()>(initiation, use_awaitable);
      } else { // cancelled through the slot, by another thread
        auto signal = std::make_shared<asio::cancellation_signal>();
        auto initiation = [&](auto handler) {
          async_scope(
              executor_, o, b,
              asio::bind_cancellation_slot(
                  signal->slot(), asio::bind_executor(ex, [this, a, h = std::move(handler)](
                                                              std::exception_ptr, int) mutable {
                    if (a->inside != 0 || a->callables != 0) ++count_.outlived;
                    std::move(h)();
                  })));
          if (d.one_in(2))
            asio::post(others_.context(), [signal, type = any_type(d)] { signal->emit(type); });
        };
        co_await asio::async_initiate<decltype(use_awaitable), void()>(initiation, use_awaitable);
      }
    }
  }

  void emit_later(strand ex, std::shared_ptr<asio::cancellation_signal> signal, unsigned turns,
                  cancellation_type type) {
    asio::post(ex, [=, this] {
      if (turns == 0)
        signal->emit(type);
      else
        emit_later(ex, signal, turns - 1, type);
    });
  }

  asio::any_io_executor executor_;
  dice dice_;
  std::atomic<long> budget_;
  bulkhead::semaphore semaphore_;
  test::background others_{2};
  tally count_;
  std::atomic<int> roots_{0};
  std::optional<asio::executor_work_guard<asio::any_io_executor>> guard_;
};

template <class Place>
void storm() {
  const long all =
      number_from_environment("BULKHEAD_STORM").value_or(test::sanitized ? 30'000 : 150'000);
  constexpr long rounds = 3;
  test::for_each_seed(rounds, [&](std::uint64_t seed) {
    Place place;
    world w(place.executor(), seed, all / 3 / rounds);
    w.begin();
    place.finish();
    w.check();
  });
}

} // namespace

BOOST_AUTO_TEST_CASE(a_storm_of_groups_on_an_io_context_leaves_nothing_behind) {
  storm<test::on_io_context>();
}

BOOST_AUTO_TEST_CASE(a_storm_of_groups_on_a_thread_pool_leaves_nothing_behind) {
  storm<test::on_thread_pool>();
}

BOOST_AUTO_TEST_CASE(a_storm_of_groups_on_a_pool_leaves_nothing_behind) { storm<test::on_pool>(); }
