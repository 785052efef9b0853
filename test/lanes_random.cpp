//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Lanes under random operations: against a plain scheduler, task by task, and from several threads at
// once, where nothing may get lost.
//
// A failure prints the seed. BULKHEAD_SEED=n runs that seed only, BULKHEAD_STORM=n sets how many
// operations there are.

#include "support/places.hpp"
#include "support/reference_queue.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/stage.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::cancellation_type;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_options;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::code_of;
using test::live;
using test::occupancy;

namespace {

std::optional<long> number_from_environment(const char* name) {
  const char* s = std::getenv(name);
  return s ? std::optional(std::strtol(s, nullptr, 10)) : std::nullopt;
}

class dice {
public:
  explicit dice(std::uint64_t seed) noexcept : state_(seed) {}

  unsigned operator()(std::size_t n) noexcept { return static_cast<unsigned>(next() >> 33) % n; }
  bool one_in(unsigned n) noexcept { return (*this)(n) == 0; }

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

private:
  std::uint64_t state_;
};

/// A power of two, which the reference can reckon with.
double any_weight(dice& d) { return std::ldexp(1.0, static_cast<int>(d(9)) - 4); }

template <class Run>
void for_each_seed(unsigned rounds, Run run) {
  if (auto seed = number_from_environment("BULKHEAD_SEED")) {
    run(static_cast<std::uint64_t>(*seed));
    return;
  }
  for (std::uint64_t seed = 1; seed <= rounds; ++seed)
    BOOST_TEST_CONTEXT("BULKHEAD_SEED=" << seed) run(seed);
}

// --- against a plain scheduler ------------------------------------------------------------------

/// Does everything twice: to the lanes, and to a model of them in which all is looked up anew. A task
/// that starts has to be the one that the model starts. Tasks overlap by running other runners inside
/// themselves.
class comparison {
public:
  explicit comparison(std::uint64_t seed)
      : dice_(seed), share_(dice_.one_in(3) ? 0.25 * (1 + dice_(3)) : 0),
        concurrency_(1 + dice_(4)),
        lanes_(std::in_place, stage_.executor(),
               lanes_options{.concurrency = concurrency_,
                             .batch = 1 + dice_(5),
                             .minimum_share = share_,
                             .on_exception = [](std::exception_ptr) {}}),
        order_(share_) {}

  void run(long steps) {
    for (long i = 0; i != steps && good_; ++i) operate();
    if (dice_.one_in(2)) end_set();
    while (good_ && stage_.step()) check();
    if (!good_) return;
    for (auto& [id, m] : models_) {
      BOOST_REQUIRE(m.queue.empty());
      BOOST_REQUIRE(m.waiters.empty());
      const lane_stats s = m.handle->stats();
      BOOST_REQUIRE_EQUAL(s.submitted, s.completed + s.failed + s.rejected + s.cancelled);
    }
    test::run(handlers_);
    BOOST_REQUIRE_EQUAL(alive_, 0);
    BOOST_REQUIRE_EQUAL(begun_, handled_);
    BOOST_REQUIRE(started_ != 0);
  }

private:
  struct model {
    std::optional<lane> handle;
    std::size_t limit, waiter_limit, concurrency;
    std::size_t running = 0;
    bool closed = false;
    std::deque<int> queue, waiters;
  };

  struct entry {
    int where;
    bool continuation;
    std::shared_ptr<asio::cancellation_signal> signal;
  };

  // The model.

  std::size_t queued(const model& m) const {
    return static_cast<std::size_t>(std::count_if(
        m.queue.begin(), m.queue.end(), [&](int task) { return !tasks_.at(task).continuation; }));
  }

  bool has_room(const model& m) const { return m.waiters.empty() && queued(m) < m.limit; }

  std::size_t runners() const { return stage_.size() + in_flight_; }

  std::size_t may_begin(const model& m) const {
    return m.running < m.concurrency ? std::min(m.queue.size(), m.concurrency - m.running) : 0;
  }

  void revise(int id) {
    model& m = models_.at(id);
    while (!m.waiters.empty() && queued(m) < m.limit) {
      m.queue.push_back(m.waiters.front());
      m.waiters.pop_front();
    }
    const bool may = may_begin(m) != 0;
    if (may == order_.waits(id)) return;
    if (may)
      order_.add(id);
    else
      order_.remove(id);
  }

  void started(int task) {
    ++started_;
    const int id = order_.pop();
    if (id == -1 || models_.at(id).queue.front() != task) {
      good_ = false;
      BOOST_ERROR("task " << task << " started, of lane " << tasks_.at(task).where
                          << ", but it was the turn of lane " << id);
      return;
    }
    model& m = models_.at(id);
    m.queue.pop_front();
    ++m.running;
    ++in_flight_;
    if (in_flight_ > most_in_flight_ || m.running > m.concurrency) { // the latter may be lowered
      good_ = false;
      BOOST_ERROR("too many in flight");
    }
    revise(id);
  }

  void ended(int task) {
    const int id = tasks_.at(task).where;
    --models_.at(id).running;
    --in_flight_;
    most_in_flight_ = std::max(in_flight_, concurrency_);
    revise(id);
  }

  // Both.

  void check() {
    if (!good_) return;
    std::size_t may = 0;
    for (auto& [id, m] : models_) {
      may += may_begin(m);
      const lane_stats s = m.handle->stats();
      BOOST_REQUIRE_EQUAL(s.queued, queued(m));
      BOOST_REQUIRE_EQUAL(s.waiting, m.waiters.size());
      BOOST_REQUIRE_EQUAL(s.in_flight, m.running);
    }
    const std::size_t free = concurrency_ > in_flight_ ? concurrency_ - in_flight_ : 0;
    BOOST_REQUIRE(stage_.size() >= std::min(free, may)); // nobody waits for a runner in vain
    // Lowered, the bound takes nothing back, but lets nothing more begin.
    BOOST_REQUIRE(runners() <= most_runners_);
    most_runners_ = std::max(runners(), concurrency_);
  }

  auto function(int task) {
    return [this, task, l = live(alive_)](auto...) {
      started(task);
      if (!good_) return;
      check();
      for (unsigned n = dice_(4); n != 0 && depth_ < 4; --n) {
        ++depth_;
        operate();
        --depth_;
      }
      ended(task);
      if (dice_.one_in(10)) throw std::runtime_error("from the task");
    };
  }

  int new_task(int where, bool continuation) {
    const int task = ++last_task_;
    tasks_[task] = {where, continuation, nullptr};
    return task;
  }

  void operate() {
    if (!good_) return;
    if (models_.empty() || (models_.size() < 8 && dice_.one_in(20))) return open();
    auto chosen = models_.begin();
    std::advance(chosen, dice_(models_.size()));
    const int id = chosen->first;
    model& m = chosen->second;
    switch (dice_(16)) {
    case 0:
    case 1:
    case 2: {
      const int task = new_task(id, false);
      const bool accepts = !m.closed && has_room(m);
      if (accepts) {
        m.queue.push_back(task);
        revise(id);
      }
      BOOST_REQUIRE_EQUAL(m.handle->try_submit(function(task)), accepts);
      break;
    }
    case 3:
    case 4:
    case 5: {
      const int task = new_task(id, false);
      if (!m.closed && has_room(m))
        m.queue.push_back(task);
      else if (!m.closed && m.waiters.size() < m.waiter_limit)
        m.waiters.push_back(task);
      revise(id);
      auto signal = tasks_[task].signal = std::make_shared<asio::cancellation_signal>();
      ++begun_;
      m.handle->async_submit(
          function(task),
          asio::bind_cancellation_slot(
              signal->slot(),
              asio::bind_executor(handlers_, [this](std::exception_ptr) { ++handled_; })));
      break;
    }
    case 6: {
      const int task = new_task(id, true);
      m.queue.push_back(task);
      revise(id);
      asio::post(m.handle->get_executor(), function(task));
      break;
    }
    case 7: {
      const int task = 1 + static_cast<int>(dice_(static_cast<std::size_t>(last_task_) + 1));
      const auto at = tasks_.find(task);
      if (at == tasks_.end() || !at->second.signal) break;
      model& where = models_.at(at->second.where);
      std::erase(where.queue, task);
      std::erase(where.waiters, task);
      revise(at->second.where);
      at->second.signal->emit(test_types[dice_(3)]);
      break;
    }
    case 8: {
      const double weight = any_weight(dice_);
      order_.set_weight(id, weight);
      m.handle->set_weight(weight);
      break;
    }
    case 9: {
      const int priority = static_cast<int>(dice_(3));
      order_.set_priority(id, priority);
      m.handle->set_priority(priority);
      break;
    }
    case 10:
      m.concurrency = std::max<std::size_t>(1 + dice_(3), m.running);
      revise(id);
      m.handle->set_concurrency(m.concurrency);
      break;
    case 11:
      concurrency_ = 1 + dice_(4);
      most_in_flight_ = std::max(in_flight_, concurrency_);
      most_runners_ = std::max(runners(), concurrency_);
      lanes_->set_concurrency(concurrency_);
      break;
    case 12:
      if (!dice_.one_in(8)) break;
      m.closed = true;
      m.waiters.clear();
      m.handle->close();
      break;
    default:
      stage_.step();
      break;
    }
    check();
  }

  void open() {
    const int id = ++last_lane_;
    const double weight = any_weight(dice_);
    const int priority = static_cast<int>(dice_(3));
    model& m = models_[id];
    m.limit = 1 + dice_(6);
    m.waiter_limit = dice_.one_in(2) ? unbounded : dice_(3);
    m.concurrency = dice_.one_in(2) ? unbounded : 1 + dice_(3);
    order_.join(id, priority, weight);
    m.handle.emplace(lanes_->open({.weight = weight,
                                   .priority = priority,
                                   .queue_limit = m.limit,
                                   .waiter_limit = m.waiter_limit,
                                   .concurrency = m.concurrency}));
  }

  void end_set() {
    for (auto& [id, m] : models_) {
      std::erase_if(m.queue, [&](int task) { return !tasks_.at(task).continuation; });
      m.waiters.clear();
      m.closed = true;
      revise(id);
    }
    lanes_.reset();
    check();
  }

  static constexpr cancellation_type test_types[] = {
      cancellation_type::terminal, cancellation_type::partial, cancellation_type::total};

  dice dice_;
  const double share_;
  std::size_t concurrency_;
  std::size_t most_in_flight_ = concurrency_, most_runners_ = concurrency_;
  std::atomic<int> alive_{0};
  test::stage stage_;
  asio::io_context handlers_;
  std::optional<lanes> lanes_;
  test::reference_queue order_;
  std::map<int, model> models_;
  std::map<int, entry> tasks_;
  std::size_t in_flight_ = 0;
  int last_lane_ = 0, last_task_ = 0, depth_ = 0;
  long started_ = 0, begun_ = 0, handled_ = 0;
  bool good_ = true;
};

} // namespace

BOOST_AUTO_TEST_CASE(tasks_start_in_the_order_of_a_plain_scheduler) {
  const long all = number_from_environment("BULKHEAD_STORM").value_or(0) / 20;
  const long steps = all != 0 ? all : 2000;
  for_each_seed(test::sanitized ? 10 : 40, [&](std::uint64_t seed) {
    comparison c(seed);
    c.run(steps);
  });
}

// --- from several threads -----------------------------------------------------------------------

namespace {

class storm {
public:
  storm(asio::any_io_executor ex, std::uint64_t seed)
      : dice_(seed), concurrency_(1 + dice_(3)),
        lanes_(std::in_place, ex,
               lanes_options{.concurrency = concurrency_,
                             .batch = 1 + dice_(20),
                             .minimum_share = dice_.one_in(2) ? 0 : 0.2,
                             .on_exception = [this](std::exception_ptr) { ++reported_; }}) {}

  /// `n` operations from each of some threads, while the executor runs. Then the set ends; it may end
  /// in the middle.
  void blow(long n) {
    const bool ends_early = dice_.one_in(2);
    std::vector<std::thread> threads;
    test::counter half_way;
    constexpr int count = 3;
    for (int t = 0; t != count; ++t)
      threads.emplace_back([this, n, &half_way, seed = dice_.next()] {
        blower b(*this, seed);
        for (long i = 0; i != n; ++i) {
          if (i == n / 2) half_way.add();
          b.operate(i < n / 2);
        }
      });
    half_way.wait_for(count);
    // No lane is opened any more, so the set may end while all else goes on.
    if (ends_early) lanes_.reset();
    for (auto& t : threads) t.join();
  }

  void end() { lanes_.reset(); }

  /// When the executor has done all.
  void check() {
    lane_stats sum;
    for (const lane& l : opened_) {
      const lane_stats s = l.stats();
      BOOST_TEST(s.in_flight + s.running + s.queued + s.waiting == 0u);
      BOOST_TEST(s.submitted == s.completed + s.failed + s.rejected + s.cancelled);
      sum.submitted += s.submitted;
      sum.completed += s.completed;
      sum.failed += s.failed;
      sum.rejected += s.rejected;
      sum.cancelled += s.cancelled;
      sum.continuations += s.continuations;
    }
    const auto same = [](std::uint64_t a, const std::atomic<long>& b) {
      return a == static_cast<std::uint64_t>(b.load());
    };
    BOOST_TEST(same(sum.submitted, tried_));
    BOOST_TEST(same(sum.completed + sum.failed, ran_));
    BOOST_TEST(same(sum.failed, threw_));
    BOOST_TEST(same(sum.continuations, continued_));
    BOOST_TEST(posted_ + handlers_posted_ == continued_);
    BOOST_TEST(begun_ == handled_);
    BOOST_TEST(drains_ == drained_);
    BOOST_TEST(alive_ == 0);
    BOOST_TEST(inside_.peak() <= static_cast<int>(concurrency_));
    BOOST_TEST(overfull_ == 0);
    BOOST_TEST(ran_ > 0);
    opened_.clear();
    BOOST_TEST(last_.expired());
  }

private:
  struct one_lane {
    lane handle;
    std::size_t concurrency;
    std::atomic<int> inside{0};
    one_lane(lane l, std::size_t c) : handle(std::move(l)), concurrency(c) {}
  };
  using lane_ptr = std::shared_ptr<one_lane>;

  struct visit {
    storm& s;
    one_lane& l;
    occupancy::visit v;
    visit(storm& of, one_lane& in) : s(of), l(in), v(of.inside_) {
      if (static_cast<std::size_t>(++l.inside) > l.concurrency) ++s.overfull_;
    }
    ~visit() { --l.inside; }
  };

  /// One thread's part.
  class blower {
  public:
    blower(storm& s, std::uint64_t seed) : s_(s), dice_(seed) {}

    auto function(const lane_ptr& l) {
      const bool throws = dice_.one_in(10);
      return [&s = s_, l, throws, x = live(s_.alive_)](std::stop_token t) {
        visit v(s, *l);
        ++s.ran_;
        if (t.stop_requested()) std::this_thread::yield();
        if (!throws) return;
        ++s.threw_;
        throw test::failure(1);
      };
    }

    void operate(bool may_open) {
      if (mine_.empty() || (may_open && dice_.one_in(50))) {
        if (may_open) open();
        if (mine_.empty()) return;
      }
      const lane_ptr& l = mine_[dice_(mine_.size())];
      const lane& h = l->handle;
      switch (dice_(12)) {
      case 0:
      case 1:
      case 2:
        ++s_.tried_;
        (void)h.try_submit(function(l));
        break;
      case 3:
      case 4:
      case 5:
        submit(l);
        break;
      case 6:
        ++s_.posted_;
        asio::post(h.get_executor(), [&s = s_, l, x = live(s_.alive_)] {
          visit v(s, *l);
          ++s.continued_;
        });
        break;
      case 7:
      case 8:
        if (signals_.empty()) break;
        signals_[dice_(signals_.size())]->emit(cancellation_type::total);
        break;
      case 9:
        h.set_weight(std::ldexp(1.0, static_cast<int>(dice_(20)) - 10));
        h.set_priority(static_cast<int>(dice_(4)));
        break;
      case 10:
        (void)h.stats();
        if (dice_.one_in(10)) h.close();
        if (dice_.one_in(10)) drain(h);
        break;
      default:
        if (dice_.one_in(20)) mine_.erase(mine_.begin() + dice_(mine_.size()));
        std::this_thread::yield();
        break;
      }
    }

  private:
    void open() {
      const std::size_t concurrency = dice_.one_in(2) ? 1 : 1 + dice_(3);
      auto l = std::make_shared<one_lane>(
          s_.lanes_->open({.weight = std::ldexp(1.0, static_cast<int>(dice_(8))),
                           .priority = static_cast<int>(dice_(3)),
                           .queue_limit = 1 + dice_(8),
                           .waiter_limit = dice_.one_in(2) ? unbounded : dice_(5),
                           .concurrency = concurrency}),
          concurrency);
      mine_.push_back(l);
      std::lock_guard lock(s_.mutex_);
      s_.opened_.push_back(l->handle);
      s_.last_ = l;
    }

    void submit(const lane_ptr& l) {
      auto signal = std::make_unique<asio::cancellation_signal>();
      ++s_.tried_;
      ++s_.begun_;
      if (dice_.one_in(2))
        l->handle.async_submit(
            function(l),
            asio::bind_cancellation_slot(
                signal->slot(), asio::bind_executor(s_.others_.context(),
                                                    [&s = s_, x = live(s_.alive_)](
                                                        std::exception_ptr) { ++s.handled_; })));
      else
        l->handle.async_submit(
            function(l), asio::bind_cancellation_slot(
                             signal->slot(), [&s = s_, l, x = live(s_.alive_)](std::exception_ptr) {
                               visit v(s, *l);
                               ++s.handled_;
                               ++s.handlers_posted_;
                               ++s.continued_;
                             }));
      if (signals_.size() < 20)
        signals_.push_back(std::move(signal));
      else
        signals_[dice_(20)] = std::move(signal);
    }

    void drain(const lane& h) {
      ++s_.drains_;
      h.async_drain(asio::bind_executor(
          s_.others_.context(), [&s = s_, x = live(s_.alive_)](error_code) { ++s.drained_; }));
    }

    storm& s_;
    dice dice_;
    std::vector<lane_ptr> mine_;
    std::vector<std::unique_ptr<asio::cancellation_signal>> signals_;
  };

public:
  void finish_others() { others_.finish(); }

private:
  dice dice_;
  const std::size_t concurrency_;
  std::optional<lanes> lanes_;
  std::mutex mutex_;
  std::vector<lane> opened_;
  std::weak_ptr<one_lane> last_;
  occupancy inside_;
  std::atomic<int> alive_{0};
  std::atomic<long> tried_{0}, ran_{0}, threw_{0}, posted_{0}, continued_{0}, handlers_posted_{0},
      begun_{0}, handled_{0}, drains_{0}, drained_{0}, overfull_{0}, reported_{0};
  test::background others_{1};
};

template <class Place>
void storms() {
  const long all =
      number_from_environment("BULKHEAD_STORM").value_or(test::sanitized ? 20'000 : 200'000);
  constexpr unsigned rounds = 6;
  for_each_seed(rounds, [&](std::uint64_t seed) {
    Place place;
    auto guard = std::optional(asio::make_work_guard(place.executor()));
    storm s(place.executor(), seed);
    std::thread runner([&] { place.finish(); });
    s.blow(all / 3 / rounds);
    s.end();
    guard.reset();
    runner.join();
    s.finish_others();
    s.check();
  });
}

} // namespace

BOOST_AUTO_TEST_CASE(a_storm_on_an_io_context_leaves_nothing_behind) {
  storms<test::on_io_context>();
}

BOOST_AUTO_TEST_CASE(a_storm_on_a_thread_pool_leaves_nothing_behind) {
  storms<test::on_thread_pool>();
}

BOOST_AUTO_TEST_CASE(a_storm_on_a_pool_leaves_nothing_behind) { storms<test::on_pool>(); }
