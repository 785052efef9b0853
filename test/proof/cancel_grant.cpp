//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "cancel against grant": every operation that waits is cancelled by one thread while another
// gives it what it waits for.

#include "proof.hpp"
#include "race.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::permit;
using proof::finish;
using proof::racer;
using proof::round;

std::string number(std::uint64_t n) { return std::to_string(n); }

// --- permits --------------------------------------------------------------------------------------

/// Acquisitions of several units each. The last but one asks for more than there will be until it is
/// cancelled, and nobody cancels the last: however the races end, it has to be granted.
class acquisitions : public proof::contest {
public:
  using contest::contest;

  void prepare(round& r) override {
    if (!semaphore) make(r);
    whole_ = semaphore->try_acquire(limit).value();
    before_ = semaphore->stats();
    weights_ = 0x9e3779b97f4a7c15u * ++rounds_;
    started_ = 0;
  }

  void start(round& r, racer& e) override {
    ++started_;
    const bool is_lid = started_ + 1 == size, is_last = started_ == size;
    if (is_lid) e.meets = racer::cancelled;
    if (is_last) e.meets = racer::left_alone;
    acquire(r, e, is_lid ? limit : is_last ? 1 : 1 + (weights_ >> started_) % 8);
  }

  /// All but one unit, bit by bit.
  void grant(round&) override {
    for (std::size_t n = 1; whole_.weight() > 1; n = 1 + (n + 4) % 8)
      whole_.split(std::min(n, whole_.weight() - 1)).release();
  }

  std::string settle(round& r) override {
    std::size_t held = whole_.weight();
    for (racer& e : r.racers) held += e.permit.weight();
    if (semaphore->in_use() != held)
      return number(semaphore->in_use()) + " units in use, but " + number(held) + " held";
    for (racer& e : r.racers) e.permit.release();
    whole_.release();
    const auto now = semaphore->stats();
    if (now.in_use != 0 || now.waiting != 0)
      return number(now.in_use) + " units in use, " + number(now.waiting) + " waiting in the end";
    const auto granted = now.granted - before_.granted;
    const auto cancelled = now.cancelled - before_.cancelled;
    if (granted + cancelled != size || now.rejected != before_.rejected)
      return number(granted) + " granted and " + number(cancelled) + " cancelled of " +
             number(size);
    return books(r, granted);
  }

protected:
  static constexpr std::size_t limit =
      512; // 62 of up to 8 units, one for the last, one that is kept

  virtual void make(round& r) { own_.emplace(r.worker, limit), semaphore = &*own_; }
  virtual void acquire(round& r, racer& e, std::size_t weight) {
    semaphore->async_acquire(weight, finish(r, e));
  }
  virtual std::string books(round& r, std::uint64_t granted) {
    if (granted == r.count(racer::success)) return {};
    return number(granted) + " granted, but " + number(r.count(racer::success)) + " delivered";
  }

  bulkhead::semaphore* semaphore = nullptr;

private:
  std::optional<bulkhead::semaphore> own_;
  permit whole_;
  bulkhead::semaphore_stats before_;
  std::uint64_t weights_ = 0, rounds_ = 0;
  std::size_t started_ = 0;
};

class keyed_acquisitions final : public acquisitions {
public:
  keyed_acquisitions() : acquisitions("keyed async_acquire") {}

private:
  void make(round& r) override {
    per_key_.emplace([&r](int) { return bulkhead::semaphore(r.worker, limit); });
    handle_.emplace((*per_key_)[7]);
    semaphore = &handle_->get();
  }
  void acquire(round& r, racer& e, std::size_t weight) override {
    per_key_->async_acquire(7, weight, finish(r, e));
  }

  using semaphores = bulkhead::keyed<int>;
  std::optional<semaphores> per_key_;
  std::optional<semaphores::handle> handle_;
};

class timed_acquisitions final : public acquisitions {
public:
  timed_acquisitions() : acquisitions("timeout of async_acquire") {}

private:
  void acquire(round& r, racer& e, std::size_t weight) override {
    semaphore->async_acquire(weight, bulkhead::timeout(std::chrono::hours(1), finish(r, e)));
  }
};

/// It must not begin if it completes with operation_aborted.
template <class Token>
auto async_work(round& r, racer& e, Token&& token) {
  return asio::async_initiate<Token, void(error_code)>(
      [&r, &e](auto handler) {
        ++e.runs;
        asio::post(r.worker, [h = std::move(handler)]() mutable { std::move(h)(error_code()); });
      },
      token);
}

/// Operations under a permit. One that was granted and cancelled gives its permit back unused.
class limited_operations final : public acquisitions {
public:
  limited_operations(const char* n, bool has_timeout)
      : acquisitions(n), has_timeout_(has_timeout) {}

private:
  void acquire(round& r, racer& e, std::size_t weight) override {
    using namespace bulkhead;
    if (has_timeout_)
      async_work(r, e,
                 limited_by(*semaphore, weight, timeout(std::chrono::hours(1), finish(r, e))));
    else
      async_work(r, e, limited_by(*semaphore, weight, finish(r, e)));
  }
  std::string books(round& r, std::uint64_t granted) override {
    const std::size_t successes = r.count(racer::success);
    for (racer& e : r.racers)
      if (e.runs != (e.ended == racer::success)) return "an operation began and was aborted";
    if (granted >= successes) return {};
    return number(granted) + " granted, but " + number(successes) + " operations have run";
  }

  const bool has_timeout_;
};

/// By way of a strand each, for only so may anybody emit at a coroutine.
class awaited_acquisitions final : public acquisitions {
public:
  awaited_acquisitions() : acquisitions("async_acquire in a coroutine") {}

  void prepare(round& r) override {
    strands_.clear();
    acquisitions::prepare(r);
  }

  /// What is on its way through a strand to a signal must arrive before the signal is used again.
  std::string settle(round& r) override {
    std::atomic<std::size_t> passed{0};
    for (auto& s : strands_) asio::post(s, [&passed] { ++passed; });
    r.run_until([&] { return passed == strands_.size(); });
    return acquisitions::settle(r);
  }

private:
  void acquire(round& r, racer& e, std::size_t weight) override {
    if (e.meets == racer::signal_destroyed) e.meets = racer::left_alone; // co_spawn needs it
    strands_.push_back(asio::make_strand(r.executor));
    const std::size_t before = semaphore->waiting();
    asio::co_spawn(strands_.back(), await(*semaphore, r, e, weight),
                   asio::bind_cancellation_slot(e.signal->slot(), [](std::exception_ptr) {}));
    r.run_until([&] { return semaphore->waiting() != before; });
  }

  static asio::awaitable<void> await(bulkhead::semaphore& s, round& r, racer& e,
                                     std::size_t weight) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    auto [ec, p] = co_await s.async_acquire(weight, asio::as_tuple(asio::use_awaitable));
    finish(r, e)(ec, std::move(p));
  }

  std::vector<asio::strand<asio::any_io_executor>> strands_;
};

// --- submissions ----------------------------------------------------------------------------------

/// Submissions that wait for room, or for a worker, behind one that runs.
template <class Queue>
class submissions final : public proof::contest {
public:
  submissions(std::string n, bool wait_for_room)
      : contest(std::move(n) + (wait_for_room ? " waiting for room" : " queued")),
        wait_for_room_(wait_for_room) {}

  void prepare(round& r) override {
    if (!queue_) queue_.emplace(r, wait_for_room_ ? 1 : bulkhead::unbounded);
    before_ = queue_->stats();
    submit(r.plug());
    proof::wait_until([&] { return queue_->stats().running == 1; });
    if (wait_for_room_) submit([] {});
  }

  void start(round& r, racer& e) override {
    queue_->async_submit([&e] { ++e.runs; }, finish(r, e));
  }

  std::string settle(round& r) override {
    const std::size_t n = size + (wait_for_room_ ? 2 : 1);
    const std::size_t successes = r.count(racer::success);
    proof::wait_until([&] {
      const auto s = queue_->stats();
      return s.running == 0 && s.queued == 0 && s.waiting == 0;
    });
    const auto now = queue_->stats();
    const auto completed = now.completed - before_.completed;
    const auto cancelled = now.cancelled - before_.cancelled;
    if (r.runs() != successes)
      return number(r.runs()) + " have run, but " + number(successes) + " succeeded";
    if (now.submitted - before_.submitted != n || completed != n - size + successes ||
        completed + cancelled != n)
      return number(n) + " submitted, " + number(completed) + " completed, " + number(cancelled) +
             " cancelled";
    return {};
  }

private:
  void submit(auto f) {
    proof::wait_until([&] { return queue_->try_submit(f); });
  }

  const bool wait_for_room_;
  std::optional<Queue> queue_;
  decltype(std::declval<const Queue&>().stats()) before_;
};

struct state {};

// What is submitted to, each with one function at a time.

struct a_pool : bulkhead::pool {
  a_pool(round&, std::size_t limit)
      : bulkhead::pool(bulkhead::pool_options{.threads = 1, .queue_limit = limit}) {}
};

class a_stateful_pool {
public:
  a_stateful_pool(round&, std::size_t limit)
      : pool_([] { return state(); }, bulkhead::pool_options{.threads = 1, .queue_limit = limit}) {}

  template <class F>
  bool try_submit(const F& f) {
    return pool_.try_submit([f](state&) { f(); });
  }
  template <class F>
  void async_submit(F f, finish h) {
    pool_.async_submit([f](state&) { f(); }, std::move(h));
  }
  auto stats() const { return pool_.stats(); }

private:
  bulkhead::stateful_pool<state> pool_;
};

class a_lane {
public:
  a_lane(round& r, std::size_t limit)
      : set_(r.worker, {.concurrency = 1}), lane_(set_.open({.queue_limit = limit})) {}

  bool try_submit(auto& f) { return lane_.try_submit(f); }
  void async_submit(auto f, finish h) { lane_.async_submit(std::move(f), std::move(h)); }
  auto stats() const { return lane_.stats(); }

private:
  bulkhead::lanes set_;
  bulkhead::lane lane_;
};

class a_shard {
public:
  a_shard(round& r, std::size_t limit) : shards_(r.worker, 1, {.queue_limit = limit}) {}

  bool try_submit(auto& f) { return shards_.try_submit(7, f); }
  void async_submit(auto f, finish h) { shards_.async_submit(7, std::move(f), std::move(h)); }
  auto stats() const { return shards_.stats(); }

private:
  bulkhead::shards shards_;
};

class a_tenant {
public:
  a_tenant(round& r, std::size_t limit)
      : tenants_(r.worker, {.concurrency = 1},
                 [=](int) { return bulkhead::lane_options{.queue_limit = limit}; }) {}

  bool try_submit(auto& f) { return tenants_.try_submit(7, f); }
  void async_submit(auto f, finish h) { tenants_.async_submit(7, std::move(f), std::move(h)); }
  auto stats() const { return tenants_.stats(); }

private:
  bulkhead::tenants<int> tenants_;
};

// --- ends -----------------------------------------------------------------------------------------

/// Waits for one and the same event: all of them complete with it, or none does.
template <class Object>
class waits final : public proof::contest {
public:
  explicit waits(std::string n) : contest(std::move(n)) {}

  void prepare(round& r) override { object_.emplace(r); }
  void start(round& r, racer& e) override { object_->wait(finish(r, e)); }
  std::string settle(round&) override {
    object_.reset();
    return {};
  }

private:
  std::optional<Object> object_;
};

class drained_pool {
public:
  explicit drained_pool(round& r) : pool_(1) { pool_.submit(r.plug()); }
  void wait(finish h) { pool_.async_drain(std::move(h)); }

private:
  bulkhead::pool pool_;
};

class drained_stateful_pool {
public:
  explicit drained_stateful_pool(round& r) : pool_([] { return state(); }, {.threads = 1}) {
    pool_.submit([f = r.plug()](state&) { f(); });
  }
  void wait(finish h) { pool_.async_drain(std::move(h)); }

private:
  bulkhead::stateful_pool<state> pool_;
};

class warmed_up_pool {
public:
  explicit warmed_up_pool(round& r)
      : pool_(
            [f = r.plug()] {
              f();
              return state();
            },
            {.threads = 1}) {}
  void wait(finish h) { pool_.async_warm_up(std::move(h)); }

private:
  bulkhead::stateful_pool<state> pool_;
};

class drained_lane {
public:
  explicit drained_lane(round& r) : set_(r.worker, {.concurrency = 1}), lane_(set_.open()) {
    if (!lane_.try_submit(r.plug())) throw std::runtime_error("an empty lane has no room");
  }
  void wait(finish h) { lane_.async_drain(std::move(h)); }

private:
  bulkhead::lanes set_;
  bulkhead::lane lane_;
};

class joined_group {
public:
  explicit joined_group(round& r) : group_(r.worker) { group_.spawn(r.plug()); }
  void wait(finish h) { group_.async_join(std::move(h)); }

private:
  bulkhead::task_group group_;
};

// --- slots ----------------------------------------------------------------------------------------

/// Children that wait for a slot of their group.
class children final : public proof::contest {
public:
  children() : contest("async_spawn") {}

  void prepare(round& r) override {
    if (!group_) group_.emplace(r.worker, bulkhead::group_options{.limit = 1});
    group_->spawn(r.plug());
  }
  void start(round& r, racer& e) override {
    group_->async_spawn([&e] { ++e.runs; }, finish(r, e));
  }
  std::string settle(round& r) override {
    r.run_until([&] { return group_->size() == 0 && group_->pending() == 0; });
    if (r.runs() == r.count(racer::success)) return {};
    return number(r.runs()) + " have run, but " + number(r.count(racer::success)) + " succeeded";
  }

private:
  std::optional<bulkhead::task_group> group_;
};

std::vector<std::unique_ptr<proof::contest>> contests() {
  std::vector<std::unique_ptr<proof::contest>> all;
  const auto add = [&]<class C>(std::type_identity<C>, auto... args) {
    all.push_back(std::make_unique<C>(args...));
  };
  add(std::type_identity<acquisitions>(), "async_acquire");
  add(std::type_identity<awaited_acquisitions>());
  add(std::type_identity<keyed_acquisitions>());
  add(std::type_identity<timed_acquisitions>());
  add(std::type_identity<limited_operations>(), "limited_by", false);
  add(std::type_identity<limited_operations>(), "limited_by with timeout", true);
  for (bool room : {false, true}) {
    add(std::type_identity<submissions<a_pool>>(), "pool async_submit", room);
    add(std::type_identity<submissions<a_stateful_pool>>(), "stateful_pool async_submit", room);
    add(std::type_identity<submissions<a_lane>>(), "lane async_submit", room);
    add(std::type_identity<submissions<a_shard>>(), "shards async_submit", room);
    add(std::type_identity<submissions<a_tenant>>(), "tenants async_submit", room);
  }
  add(std::type_identity<waits<drained_pool>>(), "pool async_drain");
  add(std::type_identity<waits<drained_stateful_pool>>(), "stateful_pool async_drain");
  add(std::type_identity<waits<drained_lane>>(), "lane async_drain");
  add(std::type_identity<waits<warmed_up_pool>>(), "async_warm_up");
  add(std::type_identity<children>());
  add(std::type_identity<waits<joined_group>>(), "async_join");
  return all;
}

void run(const proof::load& load, proof::tally& tally) {
  proof::run_all(&contests, load.either(20'000, 1'000'000), load, tally);
}

const proof::area
    cancel_against_grant("cancel against grant",
                         "exactly one completion, never both granted and aborted, capacity whole",
                         &run);

} // namespace
