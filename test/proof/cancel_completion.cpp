//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "cancel against completion": what runs already is cancelled by one thread while it ends on
// another.

#include "proof.hpp"
#include "race.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::task_group;
using proof::finish;
using proof::racer;
using proof::round;

std::string number(std::uint64_t n) { return std::to_string(n); }

/// Stands in everything that runs for an operation.
class visit {
public:
  explicit visit(racer& e) : racer_(e) {
    ++e.runs;
    ++e.inside;
  }
  ~visit() {
    if (std::uncaught_exceptions() != 0) ++racer_.stopped;
    --racer_.inside;
  }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;

private:
  racer& racer_;
};

/// Runs for a while, unless it is stopped.
struct task {
  racer* e;

  int operator()(std::stop_token stop) const {
    visit v(*e);
    int steps = 0;
    while (steps != 100 && !stop.stop_requested()) ++steps;
    e->stopped += stop.stop_requested();
    return steps;
  }
};

asio::awaitable<int> turns(racer& e) {
  visit v(e);
  co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  for (int i = 0; i != 2; ++i) co_await asio::post(asio::use_awaitable);
  co_return 1;
}

// --- submissions that run ---------------------------------------------------------------------------

/// Tasks that run, and can be stopped, one after the other.
template <class Queue>
class running_tasks final : public proof::contest {
public:
  using contest::contest;

  void prepare(round& r) override {
    if (!queue_) queue_.emplace(r);
    queue_->plug(r);
  }
  void start(round& r, racer& e) override { queue_->async_submit(task{&e}, finish(r, e)); }

  bool was_cancelled(const racer& e) const override { return e.runs == 0 || e.stopped != 0; }

  std::string settle(round& r) override {
    for (racer& e : r.racers)
      if (e.runs != (e.ended == racer::success)) return "a task ran and was reported as aborted";
    proof::wait_until([&] {
      const auto s = queue_->stats();
      return s.running == 0 && s.queued == 0 && s.waiting == 0;
    });
    const auto s = queue_->stats();
    if (s.submitted == s.completed + s.cancelled) return {};
    return number(s.submitted) + " submitted, " + number(s.completed) + " completed, " +
           number(s.cancelled) + " cancelled";
  }

private:
  std::optional<Queue> queue_;
};

struct state {};

class a_pool {
public:
  explicit a_pool(round&) {}
  void plug(round& r) { pool_.submit(r.plug()); }
  void async_submit(task f, finish h) { pool_.async_submit(f, std::move(h)); }
  auto stats() const { return pool_.stats(); }

protected:
  bulkhead::pool pool_{1};
};

struct a_pool_with_timeout : a_pool {
  using a_pool::a_pool;
  void async_submit(task f, finish h) {
    pool_.async_submit(f, bulkhead::timeout(std::chrono::hours(1), std::move(h)));
  }
};

class a_limited_pool : public a_pool {
public:
  explicit a_limited_pool(round& r) : a_pool(r), limiter_(r.worker, 64) {}
  void async_submit(task f, finish h) {
    pool_.async_submit(f, bulkhead::limited_by(limiter_, std::move(h)));
  }

private:
  bulkhead::semaphore limiter_;
};

class a_stateful_pool {
public:
  explicit a_stateful_pool(round&) {}
  void plug(round& r) {
    pool_.submit([f = r.plug()](state&) { f(); });
  }
  void async_submit(task f, finish h) {
    pool_.async_submit([f](state&, std::stop_token stop) { return f(std::move(stop)); },
                       std::move(h));
  }
  auto stats() const { return pool_.stats(); }

private:
  bulkhead::stateful_pool<state> pool_{[] { return state(); }, {.threads = 1}};
};

class a_lane {
public:
  explicit a_lane(round& r) : set_(r.worker, {.concurrency = 1}), lane_(set_.open()) {}
  void plug(round& r) {
    if (!lane_.try_submit(r.plug())) throw std::runtime_error("an idle lane has no room");
  }
  void async_submit(task f, finish h) { lane_.async_submit(f, std::move(h)); }
  auto stats() const { return lane_.stats(); }

private:
  bulkhead::lanes set_;
  bulkhead::lane lane_;
};

// --- groups -----------------------------------------------------------------------------------------

/// Operations that have several coroutines each, on the worker, where they are held back until all are
/// started.
class coroutines : public proof::contest {
public:
  explicit coroutines(std::string n) : contest(std::move(n), 32) {}

  void prepare(round& r) override { asio::post(r.worker, r.plug()); }

protected:
  static constexpr auto two = std::views::iota(0, 2);
};

class maps final : public coroutines {
public:
  maps() : coroutines("async_map") {}
  void start(round& r, racer& e) override {
    bulkhead::async_map(
        r.worker, two, 2, [&e](int) { return turns(e); }, finish(r, e));
  }
};

class loops final : public coroutines {
public:
  loops() : coroutines("async_for_each") {}
  void start(round& r, racer& e) override {
    bulkhead::async_for_each(
        r.worker, two, 1, [&e](int, std::stop_token stop) { task{&e}(std::move(stop)); },
        finish(r, e));
  }
};

class firsts final : public coroutines {
public:
  firsts() : coroutines("async_first") {}
  void start(round& r, racer& e) override {
    bulkhead::async_first(
        r.worker, two, 2, [&e](int) { return turns(e); }, finish(r, e));
  }
};

class scopes final : public coroutines {
public:
  scopes() : coroutines("async_scope") {}
  void start(round& r, racer& e) override {
    bulkhead::async_scope(
        r.worker, {},
        [&e](task_group& g) -> asio::awaitable<int> {
          g.spawn(turns(e));
          co_return co_await turns(e);
        },
        finish(r, e));
  }
};

/// The children are cancelled by their group, which is no error.
class children final : public coroutines {
public:
  children() : coroutines("task_group::cancel") {}

  void prepare(round& r) override {
    groups_.clear();
    coroutines::prepare(r);
  }
  void start(round& r, racer& e) override {
    e.meets = racer::cancelled; // its signal is that of async_join
    task_group& g = *groups_.emplace_back(&e, std::make_unique<task_group>(r.worker)).second;
    g.spawn(turns(e));
    g.spawn(task{&e});
    g.async_join(finish(r, e));
  }
  bool was_cancelled(const racer& e) const override { return e.runs != 2 || e.stopped != 0; }
  void cancel(racer& e, asio::cancellation_type type) override {
    std::ranges::find(groups_, &e, &entry::first)->second->cancel(type);
  }

private:
  using entry = std::pair<racer*, std::unique_ptr<task_group>>;
  std::vector<entry> groups_;
};

// --- timeout ----------------------------------------------------------------------------------------

/// Three that race: the signals, the ends of the operations, and the deadlines. These come while the
/// other two are on their way, slowly, from one operation to the next.
class deadlines final : public proof::contest {
public:
  deadlines() : contest("timeout that expires") {}

  void prepare(round& r) override {
    if (!semaphore_) semaphore_.emplace(r.worker, size);
    held_ = semaphore_->try_acquire(size).value();
    r.executor = r.worker.get_executor(); // which looks after the time of all of them meanwhile
    deadline_ = clock::now() + soon_;
  }
  void start(round& r, racer& e) override {
    deadline_ += gap;
    semaphore_->async_acquire(1, bulkhead::timeout(deadline_ - clock::now(), finish(r, e)));
  }
  void cancel(racer& e, asio::cancellation_type type) override {
    linger();
    contest::cancel(e, type);
  }
  void grant(round&) override {
    while (held_.weight() != 0) {
      linger();
      held_.split(1).release();
    }
  }
  std::string settle(round& r) override {
    held_.release();
    for (racer& e : r.racers) e.permit.release();
    // So that a third of the operations come too late.
    const std::size_t late = r.count(racer::late);
    soon_ = std::clamp(3 * late > size ? soon_ + soon_ / 8 : soon_ - soon_ / 8, shortest, longest);
    if (semaphore_->idle()) return {};
    return number(semaphore_->in_use()) + " units in use in the end";
  }
  bool has_deadline() const override { return true; }

private:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds gap{4};
  static constexpr std::chrono::nanoseconds shortest{1'000}, longest{100'000'000};

  static void linger() {
    for (const auto end = clock::now() + gap; clock::now() < end;) {
    }
  }

  std::optional<bulkhead::semaphore> semaphore_;
  bulkhead::permit held_;
  clock::time_point deadline_;             // of the last one started
  std::chrono::nanoseconds soon_{100'000}; // from the beginning to the first deadline
};

std::vector<std::unique_ptr<proof::contest>> contests() {
  std::vector<std::unique_ptr<proof::contest>> all;
  const auto add = [&](auto c) { all.push_back(std::move(c)); };
  add(std::make_unique<running_tasks<a_pool>>("pool async_submit"));
  add(std::make_unique<running_tasks<a_pool_with_timeout>>("timeout of pool async_submit"));
  add(std::make_unique<running_tasks<a_limited_pool>>("pool async_submit, limited_by"));
  add(std::make_unique<running_tasks<a_stateful_pool>>("stateful_pool async_submit"));
  add(std::make_unique<running_tasks<a_lane>>("lane async_submit"));
  add(std::make_unique<maps>());
  add(std::make_unique<loops>());
  add(std::make_unique<firsts>());
  add(std::make_unique<scopes>());
  add(std::make_unique<children>());
  add(std::make_unique<deadlines>());
  return all;
}

void run(const proof::load& load, proof::tally& tally) {
  proof::run_all(&contests, load.either(20'000, 1'000'000), load, tally);
}

const proof::area cancel_against_completion("cancel against completion",
                                            "exactly one completion, nothing outlives it", &run);

} // namespace
