//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The second half of the area "shutdown": everything is in use, by threads of our own and by handlers that
// go on and on, and in the middle of it pools and contexts are stopped, drained or destroyed.

#include "ends.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::semaphore;
using ends::claim;
using ends::handler;
using ends::task;
using ends::ticket;
using ends::tickets;

using executor = asio::any_io_executor;
using generator = std::mt19937_64;

std::size_t below(generator& random, std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
}

struct nothing {};

bulkhead::pool_options workers(std::size_t n) {
  bulkhead::pool_options o;
  o.threads = n;
  o.queue_limit = 32;
  o.waiter_limit = 64;
  return o;
}

/// One of everything, on a pool and on an io_context with a thread, and a context that nobody runs until
/// the end.
struct world {
  tickets all{20'000};
  tickets must_complete{20'000}; // handlers of a pool's submissions, on the context that survives
  test::memory_balance memory;
  asio::io_context survivor;
  semaphore limiter{survivor, 3};

  std::optional<bulkhead::pool> p;
  std::optional<bulkhead::stateful_pool<nothing>> s;
  std::optional<asio::io_context> io{std::in_place};
  std::optional<semaphore> on_pool, on_io;
  std::optional<bulkhead::lanes> lanes_on_pool, lanes_on_io;
  std::optional<bulkhead::lane> lane_on_pool, lane_on_io;
  std::optional<bulkhead::tenants<int>> tenants;
  std::optional<bulkhead::keyed<int>> keyed;
  std::optional<bulkhead::task_group> group_on_pool, group_on_io;

  explicit world(generator& random) {
    p.emplace(workers(1 + below(random, 3)));
    s.emplace([] { return nothing(); }, workers(1 + below(random, 2)));
    on_pool.emplace(*p, 2);
    on_io.emplace(*io, 2);
    lanes_on_pool.emplace(*p, bulkhead::lanes_options{.concurrency = 2, .batch = 4});
    lanes_on_io.emplace(*io, bulkhead::lanes_options{.concurrency = 2, .batch = 4});
    lane_on_pool.emplace(lanes_on_pool->open({.queue_limit = 16, .waiter_limit = 64}));
    lane_on_io.emplace(lanes_on_io->open({.queue_limit = 16, .waiter_limit = 64}));
    tenants.emplace(*p, bulkhead::lanes_options{.concurrency = 2}, [](int) {
      return bulkhead::lane_options{.queue_limit = 4, .waiter_limit = 8};
    });
    keyed.emplace([this](int) { return semaphore(*io, 1); });
    group_on_pool.emplace(*p, bulkhead::group_options{.limit = 4});
    group_on_io.emplace(*io, bulkhead::group_options{.limit = 4});
  }
};

/// Posts itself again and again.
struct chain {
  claim held;
  world* w;
  executor ex;

  void operator()() {
    held.call(ticket::end::success);
    if (ticket* next = w->all.take()) asio::post(ex, chain{claim(*next), w, ex});
  }
};

/// Does one thing after the other to a world.
class user {
public:
  user(world& w, generator random) : w_(w), random_(std::move(random)) {}

  /// False if there are no tickets left.
  bool act() {
    ticket* const t = w_.all.take();
    ticket* const f = w_.all.take();
    if (!t || !f) {
      if (t) claim unused(*t);
      return false;
    }
    try {
      start(*t, task(*f));
    } catch (const boost::system::system_error& e) {
      // A group or a pool is closed; what was given to it has been destroyed.
    }
    return true;
  }

private:
  void start(ticket& t, task f) {
    switch (below(random_, 16)) {
    case 0:
      return on(t, [&](auto token) { w_.on_pool->async_acquire(some(), std::move(token)); });
    case 1:
      return on(t, [&](auto token) { w_.on_io->async_acquire(some(), std::move(token)); });
    case 2:
      return submit(t, [&](auto token) { w_.p->async_submit(std::move(f), std::move(token)); });
    case 3:
      return submit(t, [&](auto token) {
        w_.s->async_submit([g = std::move(f)](nothing&) mutable { g(); }, std::move(token));
      });
    case 4:
      return without(t, [&] { (void)w_.p->try_submit(std::move(f)); });
    case 5:
      return without(t, [&] { w_.p->submit(std::move(f)); }); // blocks
    case 6:
      return without(t, [&] { asio::post(*w_.p, std::move(f)); });
    case 7:
      return on(t,
                [&](auto token) { w_.lane_on_pool->async_submit(std::move(f), std::move(token)); });
    case 8:
      return on(t,
                [&](auto token) { w_.lane_on_io->async_submit(std::move(f), std::move(token)); });
    case 9:
      return on(t, [&](auto token) {
        w_.tenants->async_submit(int(below(random_, 9)), std::move(f), std::move(token));
      });
    case 10:
      return on(t, [&](auto token) {
        w_.keyed->async_acquire(int(below(random_, 9)), 1, std::move(token));
      });
    case 11:
      return on(t, [&](auto token) {
        a_group().async_spawn(
            [w = &w_, g = std::move(f)]() mutable -> asio::awaitable<void> {
              g();
              co_await w->limiter.async_acquire(1, asio::use_awaitable); // which nobody destroys
            },
            std::move(token));
      });
    case 12:
      return on(t, [&](auto token) {
        w_.on_pool->async_acquire(1, bulkhead::limited_by(w_.limiter, std::move(token)));
      });
    case 13:
      return on(t, [&](auto token) {
        w_.on_io->async_acquire(
            1, bulkhead::timeout(std::chrono::microseconds(below(random_, 200)), std::move(token)));
      });
    case 14:
      if (below(random_, 20) == 0) w_.p->resize(1 + below(random_, 3));
      return asio::post(*w_.io, chain{claim(t), &w_, w_.io->get_executor()});
    default:
      signals_[below(random_, signals_.size())].emit(asio::cancellation_type::terminal);
      return asio::post(*w_.p, chain{claim(t), &w_, w_.p->get_executor()});
    }
  }

  /// There is no handler.
  template <class F>
  void without(ticket& t, F f) {
    const claim unused(t);
    f();
  }

  std::size_t some() { return 1 + below(random_, 2); }

  bulkhead::task_group& a_group() {
    return below(random_, 2) ? *w_.group_on_pool : *w_.group_on_io;
  }

  /// With or without an executor, and a cancellation slot.
  template <class Initiate>
  void on(ticket& t, Initiate initiate) {
    handler h(t, w_.memory);
    const std::size_t which = below(random_, 6);
    if (which == 0) return initiate(std::move(h));
    if (which == 1)
      return initiate(asio::bind_cancellation_slot(signals_[below(random_, signals_.size())].slot(),
                                                   std::move(h)));
    initiate(asio::bind_executor(place(which), std::move(h)));
  }

  executor place(std::size_t which) {
    if (which == 2) return w_.p->get_executor();
    if (which == 3) return w_.io->get_executor();
    if (which == 4) return asio::make_strand(w_.p->get_executor());
    return w_.survivor.get_executor();
  }

  template <class Initiate>
  void submit(ticket& t, Initiate initiate) {
    if (below(random_, 2)) return on(t, initiate);
    without(t, [&] {
      initiate(asio::bind_executor(w_.survivor, handler(*w_.must_complete.take(), w_.memory)));
    });
  }

  world& w_;
  generator random_;
  std::array<asio::cancellation_signal, 16> signals_;
};

/// What happens in the middle, on several threads at one time.
std::vector<std::function<void()>> ends_of(world& w, generator& random) {
  std::vector<std::function<void()>> all{
      [&] { w.p->stop(); },
      [&] { w.s->stop(); },
      [&] { w.io->stop(); },
      [&] { w.on_pool->close(); },
      [&] { w.lane_on_pool->close(); },
      [&] { w.group_on_pool->cancel(); },
      [&] { w.group_on_io->close(); },
      [&] { w.tenants->close(); },
      [&] { (void)w.p->drain_for(std::chrono::microseconds(100)); },
      [&] { w.on_io->resize(0); },
      [&] {
        w.p->pause();
        w.p->stop();
      },
      [&] {
        ticket* const t = w.must_complete.take();
        w.p->async_drain(asio::bind_executor(w.survivor, handler(*t, w.memory)));
        w.p->stop();
      },
  };
  std::shuffle(all.begin(), all.end(), random);
  all.resize(below(random, 5));
  return all;
}

void destroy(world& w, generator& random) {
  std::vector<std::function<void()>> all{
      [&] { w.p.reset(); },           [&] { w.s.reset(); },
      [&] { w.io.reset(); },          [&] { w.on_pool.reset(); },
      [&] { w.on_io.reset(); },       [&] { w.lanes_on_pool.reset(); },
      [&] { w.lanes_on_io.reset(); }, [&] { w.lane_on_pool.reset(); },
      [&] { w.lane_on_io.reset(); },  [&] { w.tenants.reset(); },
      [&] { w.keyed.reset(); },       [&] { w.group_on_pool.reset(); },
      [&] { w.group_on_io.reset(); },
  };
  std::shuffle(all.begin(), all.end(), random);
  for (const auto& f : all) f();
}

void check(const world& w, const std::string& what, proof::tally& tally) {
  const auto lost = [&](std::size_t n, const char* how) {
    if (n) tally.lose(n, std::string(what).append(": ").append(how));
  };
  tally.add(w.all.taken() + w.must_complete.taken());
  lost(w.all.count([](auto& t) { return t.gone != 1 || t.calls > 1; }),
       "handlers and functions did not end once");
  lost(w.must_complete.count([](auto& t) { return t.gone != 1 || t.calls != 1; }),
       "handlers on the context that survives were not completed once");
  lost(static_cast<std::size_t>(std::abs(w.memory.blocks)), "blocks of memory are left");
  lost(w.limiter.in_use(), "permits are lost");
}

void round(std::size_t number, const std::string& what, const proof::load& load,
           proof::tally& tally) {
  generator random = load.generator(1'000'000 + number);
  world w(random);
  auto guard = asio::make_work_guard(*w.io);
  std::jthread io_thread([&w] { w.io->run(); });

  std::atomic<bool> enough{false};
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i != 2; ++i)
    threads.emplace_back([&w, &enough, seed = random()] {
      user u(w, generator(seed));
      while (!enough && u.act()) {
      }
    });
  const std::size_t target = below(random, 10'000);
  while (w.all.taken() < target) std::this_thread::yield();
  {
    std::vector<std::jthread> enders;
    for (auto& f : ends_of(w, random)) enders.emplace_back(std::move(f));
  }
  const std::size_t more = std::min<std::size_t>(w.all.taken() + below(random, 500), 15'000);
  while (w.all.taken() < more) std::this_thread::yield();
  enough = true;
  if (below(random, 4) == 0) w.p->close(); // who is blocked goes, and the rest runs on
  threads.clear();
  guard.reset();
  w.io->stop();
  io_thread.join();
  destroy(w, random);   // the pool's handlers post on and on
  w.survivor.restart(); // it is stopped if nobody's work was left for a moment
  w.survivor.poll();
  check(w, what, tally);
}

} // namespace

void ends::shut_down_in_the_middle(const proof::load& load, proof::tally& tally,
                                   proof::watchdog& dog) {
  const std::size_t rounds = load.either(200, 10'000);
  for (std::size_t i = 0; i != rounds; ++i) {
    const std::string what = std::to_string(i).insert(0, "under load, round ");
    dog.at(what);
    round(i, what, load, tally);
  }
}
