//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A storm of random operations from several threads at once, where nothing may get lost. (One by one,
// they are compared with a plain scheduler in fuzz/lanes.cpp.)
//
// A failure prints the seed. BULKHEAD_SEED=n runs that seed only, BULKHEAD_STORM=n sets how many
// operations there are.

#include "support/places.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::cancellation_type;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::lanes_options;
using bulkhead::unbounded;
using test::dice;
using test::for_each_seed;
using test::live;
using test::number_from_environment;
using test::occupancy;

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
