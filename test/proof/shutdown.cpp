//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "shutdown". First, everything that can wait, with handlers on every kind of place: then what they
// wait for ends, its context, or the handlers' context, one after the other in each order, or two at one
// time. Who owns what decides whether a handler is completed or destroyed uninvoked, and each has a ticket
// on which that is noted. Then the same while everything is in use: pools and contexts are stopped or
// destroyed in the middle of it.

#include "ends.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <random>
#include <ranges>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::unbounded;
using ends::claim;
using ends::handler;
using ends::patient_task;
using ends::task;
using ends::ticket;
using ends::tickets;

using executor = asio::any_io_executor;
using maybe_executor = std::optional<executor>; // of a handler: none is bound otherwise

/// Calls `initiate` with the handler, bound to its executor if there is one.
template <class F>
void start(const maybe_executor& ex, handler&& h, F initiate) {
  if (ex)
    initiate(asio::bind_executor(*ex, std::move(h)));
  else
    initiate(std::move(h));
}

asio::awaitable<void> forever() {
  asio::steady_timer timer(co_await asio::this_coro::executor,
                           asio::steady_timer::time_point::max());
  co_await timer.async_wait(asio::use_awaitable);
}

// --- what can wait --------------------------------------------------------------------------------

/// An object, and a way to start operations that wait for it.
struct object {
  virtual ~object() = default;
  /// `t` is for the function of a submission; the ticket of a function that is none is not used.
  virtual void wait(const maybe_executor& ex, handler h, ticket& t) = 0;
  /// Returns when all of them wait where they should.
  virtual void settle(asio::io_context&) {}
};

struct waiting_for_permit : object {
  explicit waiting_for_permit(const executor& home) : s(home, 3) {
    held = s.try_acquire(3).value();
  }
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h), [&](auto token) { s.async_acquire(1 + n++ % 3, std::move(token)); });
  }
  std::size_t n = 0;
  permit held; // outlives the semaphore, as all of these do
  semaphore s;
};

struct waiting_for_key : object {
  explicit waiting_for_key(const executor& home) : all([home](int) { return semaphore(home, 1); }) {
    for (int key = 0; key != 8; ++key) held.push_back(all.try_acquire(key).value());
  }
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h), [&](auto token) { all.async_acquire(++n % 8, std::move(token)); });
  }
  int n = 0;
  std::vector<permit> held;
  bulkhead::keyed<int> all;
};

/// An acquire that waits for the permit to start, or has it and waits.
template <bool Started>
struct limited_operation : object {
  explicit limited_operation(const executor& home) : limiter(home, unbounded / 2), s(home, 1) {
    held = s.try_acquire().value();
    if (!Started) held_back = limiter.try_acquire(unbounded / 2).value();
  }
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h),
          [&](auto token) { s.async_acquire(1, bulkhead::limited_by(limiter, std::move(token))); });
  }
  permit held, held_back;
  semaphore limiter, s;
};

struct timed_operation : object {
  explicit timed_operation(const executor& home) : s(home, 1) { held = s.try_acquire().value(); }
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h), [&](auto token) {
      s.async_acquire(1, bulkhead::timeout(std::chrono::hours(1), std::move(token)));
    });
  }
  permit held;
  semaphore s;
};

enum class at { waiting, queued, running, draining };

bulkhead::pool_options workers(std::size_t n, std::size_t queue_limit = unbounded) {
  bulkhead::pool_options o;
  o.threads = n;
  o.queue_limit = queue_limit;
  return o;
}

template <at At>
struct submission_to_pool : object {
  submission_to_pool() : p(workers(At == at::running ? 2 : 1, At == at::waiting ? 1 : unbounded)) {
    if (At == at::running) return;
    std::latch busy(1);
    p.submit([&busy](std::stop_token stop) {
      busy.count_down();
      patient_task::wait(stop);
    });
    busy.wait();
    if (At == at::waiting) p.submit([] {});
  }
  void wait(const maybe_executor& ex, handler h, ticket& t) override {
    start(ex, std::move(h), [&](auto token) {
      if constexpr (At == at::draining)
        p.async_drain(std::move(token));
      else if constexpr (At == at::running)
        p.async_submit(patient_task(t), std::move(token));
      else
        p.async_submit(task(t), std::move(token));
    });
    ++n;
  }
  void settle(asio::io_context&) override {
    if constexpr (At == at::running)
      while (p.stats().running != n || p.stats().queued != 0) std::this_thread::yield();
  }
  std::size_t n = 0;
  bulkhead::pool p;
};

struct nothing {};

template <bool WarmUp>
struct submission_with_state : object {
  submission_with_state() : p([] { return nothing(); }, workers(1)) { p.pause(); }
  void wait(const maybe_executor& ex, handler h, ticket& t) override {
    start(ex, std::move(h), [&](auto token) {
      if constexpr (WarmUp)
        p.async_warm_up(std::move(token));
      else
        p.async_submit([f = task(t)](nothing&) mutable { f(); }, std::move(token));
    });
  }
  bulkhead::stateful_pool<nothing> p;
};

template <at At>
struct submission_to_lane : object {
  explicit submission_to_lane(const executor& home)
      : set(home, {.concurrency = 2}),
        l(set.open({.queue_limit = At == at::waiting ? 1 : unbounded})) {
    if (At != at::queued) (void)l.try_submit([] {}); // nobody runs it
  }
  void wait(const maybe_executor& ex, handler h, ticket& t) override {
    start(ex, std::move(h), [&](auto token) {
      if constexpr (At == at::draining)
        l.async_drain(std::move(token));
      else
        l.async_submit(task(t), std::move(token));
    });
  }
  bulkhead::lanes set;
  bulkhead::lane l;
};

struct submission_to_tenant : object {
  explicit submission_to_tenant(const executor& home)
      : all(home, {.concurrency = 2},
            [](int) { return bulkhead::lane_options{.queue_limit = unbounded}; }) {}
  void wait(const maybe_executor& ex, handler h, ticket& t) override {
    start(ex, std::move(h),
          [&](auto token) { all.async_submit(++n % 8, task(t), std::move(token)); });
  }
  int n = 0;
  bulkhead::tenants<int> all;
};

template <bool Join>
struct waiting_for_group : object {
  explicit waiting_for_group(const executor& home) : g(home, {.limit = 1}) { g.spawn(forever); }
  void wait(const maybe_executor& ex, handler h, ticket& t) override {
    start(ex, std::move(h), [&](auto token) {
      if constexpr (Join)
        g.async_join(std::move(token));
      else
        g.async_spawn(task(t), std::move(token));
    });
  }
  void settle(asio::io_context& home) override { home.poll(); }
  bulkhead::task_group g;
};

struct waiting_for_scope : object {
  explicit waiting_for_scope(const executor& home) : home(home) {}
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h), [&](auto token) {
      bulkhead::async_scope(
          home, {},
          [](bulkhead::task_group& g) -> asio::awaitable<void> {
            g.spawn(forever);
            co_await forever();
          },
          std::move(token));
    });
  }
  void settle(asio::io_context& c) override { c.poll(); }
  executor home;
};

struct waiting_for_each : object {
  explicit waiting_for_each(const executor& home) : home(home) {}
  void wait(const maybe_executor& ex, handler h, ticket&) override {
    start(ex, std::move(h), [&](auto token) {
      bulkhead::async_for_each(
          home, std::views::iota(0, 3), 2, [](int) { return forever(); }, std::move(token));
    });
  }
  void settle(asio::io_context& c) override { c.poll(); }
  executor home;
};

template <class Object>
std::unique_ptr<object> make(const executor& home) {
  if constexpr (std::is_constructible_v<Object, const executor&>)
    return std::make_unique<Object>(home);
  else
    return std::make_unique<Object>();
}

using end = ticket::end;

struct kind {
  std::string_view name;
  std::unique_ptr<object> (*make)(const executor&);
  bool is_context;                     // the object is an execution context itself: it has no other
  std::array<end, 2> when_object_ends; // how a handler completes then; none: it has no such object
  std::size_t most = unbounded;
  bool runs_children = false; // then no two of what it uses may be destroyed at one time
};

const std::array<end, 2> aborted{end::aborted, end::aborted};
const std::array<end, 2> aborted_or_done{end::aborted, end::success};
const std::array<end, 2> refused{end::aborted, end::closed};
const std::array<end, 2> done{end::success, end::success};
const std::array<end, 2> no_object{end::none, end::none};

const kind kinds[] = {
    {"acquire", make<waiting_for_permit>, false, aborted},
    {"keyed acquire", make<waiting_for_key>, false, aborted},
    {"limited_by, waiting", make<limited_operation<false>>, false, aborted},
    {"limited_by, started", make<limited_operation<true>>, false, aborted},
    {"timeout", make<timed_operation>, false, aborted},
    {"pool, waiting for room", make<submission_to_pool<at::waiting>>, true, refused},
    {"pool, queued", make<submission_to_pool<at::queued>>, true, aborted},
    {"pool, running", make<submission_to_pool<at::running>>, true, done, 2},
    {"pool, drain", make<submission_to_pool<at::draining>>, true, aborted},
    {"stateful pool, queued", make<submission_with_state<false>>, true, aborted},
    // A worker that was awake when the pool was paused may make its state still.
    {"stateful pool, warm-up", make<submission_with_state<true>>, true, aborted_or_done},
    {"lane, waiting for room", make<submission_to_lane<at::waiting>>, false, aborted},
    {"lane, queued", make<submission_to_lane<at::queued>>, false, aborted},
    {"lane, drain", make<submission_to_lane<at::draining>>, false, aborted},
    {"tenants, queued", make<submission_to_tenant>, false, aborted},
    {"group, spawn", make<waiting_for_group<false>>, false, aborted, unbounded, true},
    {"group, join", make<waiting_for_group<true>>, false, aborted, unbounded, true},
    {"scope", make<waiting_for_scope>, false, no_object, unbounded, true},
    {"for_each", make<waiting_for_each>, false, no_object, unbounded, true},
};

// --- where handlers run ---------------------------------------------------------------------------

enum class where { home, io_context, pool, strand };
const char* const where_names[] = {"its own context", "an io_context", "a pool",
                                   "a strand of a pool"};

class place {
public:
  explicit place(where w) {
    if (w == where::io_context) {
      io_.emplace();
      executor_ = io_->get_executor();
    } else if (w != where::home) {
      pool_.emplace(2);
      executor_ = pool_->get_executor();
      if (w == where::strand) executor_ = asio::make_strand(*executor_);
    }
  }

  const maybe_executor& handler_executor() const { return executor_; }

  /// Runs what has been posted there. If something still waits, this hangs.
  void run() {
    if (io_) io_->run();
    if (pool_) pool_->join();
  }

  void end() {
    executor_.reset();
    io_.reset();
    pool_.reset();
  }

private:
  std::optional<asio::io_context> io_;
  std::optional<bulkhead::pool> pool_;
  maybe_executor executor_;
};

// --- how it all ends ------------------------------------------------------------------------------

enum class first {
  object,
  home,
  handlers,
  object_and_home,
  object_and_handlers,
  home_and_handlers
};
const char* const first_names[] = {"the object first",
                                   "its context first",
                                   "the handlers' context first",
                                   "the object and its context at one time",
                                   "the object and the handlers' context at one time",
                                   "both contexts at one time"};

bool is_possible(const kind& k, where w, first f) {
  const bool no_object_ends = k.when_object_ends == no_object;
  if (k.runs_children && f >= first::object_and_home) return false;
  switch (f) {
  case first::object:
    return !no_object_ends;
  case first::home:
    return !k.is_context;
  case first::handlers:
    return w != where::home;
  case first::object_and_home:
    return !k.is_context && !no_object_ends;
  case first::object_and_handlers:
    return w != where::home && !no_object_ends;
  case first::home_and_handlers:
    return w != where::home && !k.is_context;
  }
  return false;
}

template <class F, class G>
void at_one_time(F f, G g) {
  std::latch go(2);
  std::thread other([&] {
    go.arrive_and_wait();
    g();
  });
  go.arrive_and_wait();
  f();
  other.join();
}

class trial {
public:
  trial(const kind& k, where w, first f, std::size_t n, proof::tally& tally)
      : kind_(k), where_(w), first_(f), n_(std::min(n, k.most)), tally_(tally), handlers_(n_),
        functions_(n_) {}

  void run() {
    home_ = std::make_unique<asio::io_context>();
    place_.emplace(where_);
    object_ = kind_.make(home_->get_executor());
    for (std::size_t i = 0; i != n_; ++i)
      object_->wait(place_->handler_executor(), handler(*handlers_.take(), memory_),
                    *functions_.take());
    object_->settle(*home_);
    const bool early = handlers_.count([](auto& t) { return t.calls != 0 || t.gone != 0; });
    tally_.expect(!early, what() + ": does not wait");
    end();
    check();
  }

  std::string what() const {
    return std::string(kind_.name) + ", handlers on " + where_names[int(where_)] + ", " +
           first_names[int(first_)] + ", " + std::to_string(n_) + " of them";
  }

private:
  void end() {
    const auto object_ends = [this] { object_.reset(); };
    const auto home_ends = [this] { home_.reset(); };
    const auto handlers_end = [this] { place_->end(); };
    switch (first_) {
    case first::object:
      object_ends();
      if (where_ == where::home)
        home_->poll();
      else
        place_->run();
      break;
    case first::home:
      home_ends();
      break;
    case first::handlers:
      handlers_end();
      break;
    case first::object_and_home:
      at_one_time(object_ends, home_ends);
      break;
    case first::object_and_handlers:
      at_one_time(object_ends, handlers_end);
      break;
    case first::home_and_handlers:
      at_one_time(home_ends, handlers_end);
      break;
    }
    if (first_ == first::home || first_ == first::handlers) {
      const std::size_t left = handlers_.count([](auto& t) { return t.gone == 0; });
      if (left) tally_.lose(left, what() + ": are left when that has ended");
    }
    if (first_ == first::handlers) object_ends();
    handlers_end();
    if (first_ != first::home) home_ends();
    object_ends();
  }

  void check() {
    const auto how = kind_.when_object_ends;
    const bool own_pool = kind_.is_context && where_ == where::home;
    const bool completes = first_ == first::object && !own_pool;
    const bool either = first_ != first::object && first_ != first::home &&
                        first_ != first::handlers && first_ != first::home_and_handlers;
    const auto is_wrong = [&](const ticket& t) {
      if (t.gone != 1 || t.calls > 1) return true;
      if (either) return false;
      return completes ? t.calls != 1 || (t.how != how[0] && t.how != how[1]) : t.calls != 0;
    };
    tally_.add(n_);
    if (const std::size_t wrong = handlers_.count(is_wrong)) {
      ticket::end one{};
      int calls = 0, gone = 0;
      handlers_.count([&](const ticket& t) {
        if (is_wrong(t)) one = t.how, calls = t.calls, gone = t.gone;
        return false;
      });
      tally_.lose(wrong, what() + ": " + std::to_string(wrong) +
                             " handlers did not end as they should; one was called " +
                             std::to_string(calls) + " times (" + std::to_string(int(one)) +
                             ") and destroyed " + std::to_string(gone) + " times");
    }
    const std::size_t functions = functions_.count(
        [](const ticket& t) { return t.gone > 1 || t.calls > 1 || t.calls > t.gone; });
    if (functions) tally_.lose(functions, what() + ": functions did not end once");
    if (memory_.blocks != 0)
      tally_.lose(static_cast<std::uint64_t>(std::abs(memory_.blocks)),
                  what() + ": memory is left");
  }

  const kind& kind_;
  where where_;
  first first_;
  std::size_t n_;
  proof::tally& tally_;
  tickets handlers_, functions_;
  test::memory_balance memory_;
  std::unique_ptr<asio::io_context> home_;
  std::optional<place> place_;
  std::unique_ptr<object> object_;
};

// --- the areas ------------------------------------------------------------------------------------

struct combination {
  const kind& k;
  where w;
  first f;
};

std::vector<combination> combinations() {
  std::vector<combination> all;
  for (const kind& k : kinds)
    for (where w : {where::home, where::io_context, where::pool, where::strand})
      for (first f : {first::object, first::home, first::handlers, first::object_and_home,
                      first::object_and_handlers, first::home_and_handlers})
        if (is_possible(k, w, f)) all.push_back({k, w, f});
  return all;
}

void run(const proof::load& load, proof::tally& tally) {
  const long threads = ends::thread_count();
  proof::watchdog dog(tally);
  const auto all = combinations();
  auto random = load.generator();
  const auto attempt = [&](const combination& c, std::size_t n) {
    trial t(c.k, c.w, c.f, n, tally);
    dog.at(t.what());
    t.run();
  };
  const std::uint64_t rounds = load.either(3'000, 100'000);
  for (std::uint64_t i = 0; i != rounds; ++i)
    attempt(all[i % all.size()], std::uniform_int_distribution<std::size_t>(1, 40)(random));
  const std::uint64_t large_rounds =
      load.either(all.size(), std::max<std::size_t>(1000, 2 * all.size()));
  const std::size_t many = load.either(10'000, 100'000);
  for (std::uint64_t i = 0; i != large_rounds; ++i) attempt(all[i % all.size()], many);
  ends::shut_down_in_the_middle(load, tally, dog);
  tally.expect(ends::threads_are(threads + 1), "threads are left");
  tally.note(std::to_string(all.size()) + " combinations");
}

const proof::area shutdown("shutdown", "each handler is destroyed or completed exactly once", &run);

} // namespace
