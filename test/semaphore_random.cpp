//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The edges of the word that counts, and a storm of acquisitions from all sides, which has to leave
// everything as it was. (Operation by operation, a reference that is too simple to be wrong is followed
// in fuzz/semaphore.cpp.) BULKHEAD_STORM=n sets how many acquisitions the storm has.

#include "support/random.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/detail/wait/semaphore_core.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::permit;
using bulkhead::semaphore;
using bulkhead::unbounded;

namespace {

const error_code aborted = asio::error::operation_aborted;

} // namespace

// --- the edges of the word ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(grants_without_end_and_without_waiters_lose_nothing) {
  // 13 bits of the word count them, and only these operations never take them out of it.
  constexpr std::size_t limit = 7;
  asio::io_context io;
  semaphore s(io, limit);
  std::mt19937 random(1);
  std::deque<permit> held;
  std::size_t in_use = 0, granted = 0, wrong = 0;
  while (granted != 5 * 8192 + 3) {
    const std::size_t weight = random() % 4;
    if (in_use + weight <= limit && held.size() < 10) {
      auto r = s.try_acquire(weight);
      if (!r || r->weight() != weight) {
        ++wrong;
        break;
      }
      if (weight > 1 && random() % 4 == 0) held.push_back(r->split(1));
      held.push_back(std::move(*r));
      in_use += weight;
      ++granted;
    } else {
      in_use -= held.front().weight();
      held.pop_front();
    }
    if (s.in_use() != in_use) ++wrong;
  }
  BOOST_TEST(wrong == 0u);
  BOOST_TEST(s.available() == limit - in_use);
  BOOST_TEST(!s.try_acquire(limit - in_use + 1));
  held.clear();
  BOOST_TEST(s.in_use() == 0u);
  BOOST_TEST(s.try_acquire(limit).has_value());
}

BOOST_AUTO_TEST_CASE(a_waiter_after_any_number_of_grants_is_served) {
  // The word is shut by the wait, or was a moment before, because its count was full.
  for (std::size_t before : {8189u, 8190u, 8191u, 8192u, 8193u, 16'383u}) {
    asio::io_context io;
    semaphore s(io, 2);
    for (std::size_t i = 0; i != before; ++i) (void)s.try_acquire(1);
    permit p = s.try_acquire(1).value();
    permit got;
    s.async_acquire(2, [&](error_code ec, permit q) {
      BOOST_TEST(!ec);
      got = std::move(q);
    });
    BOOST_TEST(s.waiting() == 1u);
    BOOST_TEST(s.in_use() == 1u);
    p.release();
    test::poll(io);
    BOOST_TEST(got.weight() == 2u);
    got.release();
    BOOST_TEST(s.available() == 2u);
  }
}

BOOST_AUTO_TEST_CASE(more_permits_than_the_word_counts_are_exact) {
  constexpr std::size_t most = (1u << 18) - 1;
  for (bool splits : {false, true}) {
    asio::io_context io;
    semaphore s(io, 2 * most);
    std::vector<permit> held;
    held.push_back(s.try_acquire(splits ? most + 10 : 1).value());
    std::size_t refused = 0;
    while (held.size() != most + 10) {
      if (splits) {
        held.push_back(held.front().split(1));
      } else if (auto r = s.try_acquire(1)) {
        held.push_back(std::move(*r));
      } else {
        ++refused;
        break;
      }
    }
    BOOST_TEST(refused == 0u);
    BOOST_TEST(s.in_use() == most + 10);
    // Over the edge, and back, and over it.
    for (int i = 0; i != 3; ++i) {
      while (held.size() != most - 5) {
        if (splits) held.front().merge(std::move(held.back()));
        held.pop_back();
      }
      BOOST_TEST(s.in_use() == (splits ? most + 10 : most - 5));
      while (held.size() != most + 5)
        held.push_back(splits ? held.front().split(1) : s.try_acquire(1).value());
      BOOST_TEST(s.in_use() == (splits ? most + 10 : most + 5));
    }
    held.clear();
    BOOST_TEST(s.in_use() == 0u);
    BOOST_TEST(s.try_acquire(2 * most).has_value());
  }
}

BOOST_AUTO_TEST_CASE(the_engine_ends_with_the_last_of_its_permits) {
  // However they came to be, in the word and beside it. One too many, and it leaks.
  using bulkhead::detail::semaphore_core;
  constexpr std::size_t limit = 12;
  for (unsigned seed = 1; seed != 9; ++seed) BOOST_TEST_CONTEXT("seed " << seed) {
      auto core =
          std::make_shared<semaphore_core>(limit, semaphore_core::settings{unbounded, 0, false});
      core->attach(nullptr);
      const std::weak_ptr<semaphore_core> engine = core;
      std::mt19937 random(seed);
      std::vector<permit> held;
      auto any = [&]() -> permit& { return held[random() % held.size()]; };
      for (int i = 50'000; i != 0; --i) {
        const unsigned what = held.empty() ? 0 : random() % 32;
        if (what < 15) {
          // With an odd seed nothing is refused, for that would begin a new count of grants.
          if (auto r = core->try_acquire(seed % 2 ? 0 : random() % 3, {}))
            held.push_back(std::move(*r));
        } else if (what < 20) {
          permit part = any().split(0);
          held.push_back(std::move(part));
        } else if (what < 23 && held.size() > 1) {
          permit last = std::move(held.back());
          held.pop_back();
          any().merge(std::move(last));
        } else if (seed % 2 == 0 && random() % 64 == 0) {
          const std::size_t n = held.back().weight();
          held.back().forget();
          held.pop_back();
          core->release(n);
          core->resize(random() % 2 ? limit : limit / 2);
        } else {
          std::swap(any(), held.back());
          held.pop_back();
        }
      }
      core->resize(limit);
      held.push_back(core->try_acquire(0, {}).value());
      core->abandon();
      core.reset();
      bool too_early = false;
      while (!held.empty()) {
        if (engine.expired()) too_early = true;
        if (random() % 2) held.back().forget();
        held.pop_back();
      }
      BOOST_TEST(!too_early);
      BOOST_TEST(engine.expired());
    }
}

// --- the storm ----------------------------------------------------------------------------------

namespace {

constexpr std::array<std::size_t, 6> storm_limits{100, 64, 150, 0, 100, 50};
constexpr std::size_t most_units = 150;

struct tally {
  long started = 0, granted = 0, cancelled = 0, refused = 0, other = 0;

  void operator+=(const tally& t) {
    started += t.started;
    granted += t.granted;
    cancelled += t.cancelled;
    refused += t.refused;
    other += t.other;
  }
};

// What all that acquire have in common.
class storm {
public:
  explicit storm(std::size_t limit)
      : threads_(3), semaphore_(threads_, limit, {.max_waiters = 31, .name = {}}) {}

  bulkhead::semaphore& semaphore() { return semaphore_; }
  asio::thread_pool& threads() { return threads_; }

  /// Acquires, and has that cancelled by another thread, maybe, and maybe too late.
  void acquire(std::size_t weight, unsigned random, auto handler) {
    if (random % 16 >= 6) {
      semaphore_.async_acquire(weight, std::move(handler));
      return;
    }
    auto signal = std::make_shared<asio::cancellation_signal>();
    semaphore_.async_acquire(weight,
                             asio::bind_cancellation_slot(signal->slot(), std::move(handler)));
    // From here on nobody but this touches the signal.
    cancel_later(std::move(signal), random / 16 % 4);
  }

  void count(tally& t, std::size_t weight, error_code ec, const permit& p) {
    if (!ec && p && p.weight() == weight) {
      ++t.granted;
      const std::size_t now = held_.fetch_add(weight) + weight;
      for (std::size_t seen = peak_; now > seen && !peak_.compare_exchange_weak(seen, now);) {
      }
    } else if (ec == aborted && !p) {
      ++t.cancelled;
    } else if ((ec == errc::exceeds_limit || ec == errc::queue_full) && !p) {
      ++t.refused;
    } else {
      ++t.other;
    }
  }

  void give_back(permit p) {
    held_ -= p.weight();
    p.release();
  }

  /// Some of it here, some of it on another thread.
  void give_back(permit p, unsigned random) {
    if (!p) return;
    if (random % 4 == 0 && p.weight() > 1) give_back_later(p.split(p.weight() / 2));
    if (random / 4 % 4 == 0)
      give_back_later(std::move(p));
    else
      give_back(std::move(p));
  }

  std::size_t peak() const { return peak_; }

private:
  void give_back_later(permit p) {
    asio::post(threads_, [this, p = std::move(p)]() mutable { give_back(std::move(p)); });
  }

  void cancel_later(std::shared_ptr<asio::cancellation_signal> signal, unsigned turns) {
    asio::post(threads_, [this, signal = std::move(signal), turns]() mutable {
      if (turns != 0)
        cancel_later(std::move(signal), turns - 1);
      else
        signal->emit(asio::cancellation_type::total);
    });
  }

  std::atomic<std::size_t> held_{0}, peak_{0};
  asio::thread_pool threads_;
  bulkhead::semaphore semaphore_;
};

// Acquires one time after the other, in handlers.
class chain {
public:
  chain(storm& s, unsigned seed, long rounds) : storm_(s), random_(seed), rounds_(rounds) {}

  void next() {
    if (tally_.started == rounds_) return;
    ++tally_.started;
    const std::size_t weight = 1 + random_() % 64;
    storm_.acquire(weight, random_(), [this, weight](error_code ec, permit p) {
      storm_.count(tally_, weight, ec, p);
      if (random_() % 2 == 0) {
        storm_.give_back(std::move(p), random_());
        next();
      } else {
        asio::post(storm_.threads(), [this, p = std::move(p)]() mutable {
          storm_.give_back(std::move(p), random_());
          next();
        });
      }
    });
  }

  const tally& result() const { return tally_; }

private:
  storm& storm_;
  std::minstd_rand random_;
  const long rounds_;
  tally tally_;
};

// The same, as a coroutine.
asio::awaitable<void> acquire_in_coroutine(storm& s, unsigned seed, long rounds, tally& result) {
  std::minstd_rand random(seed);
  for (tally t; t.started != rounds; result = t) {
    ++t.started;
    const std::size_t weight = 1 + random() % 64;
    const unsigned choice = random();
    auto token = asio::as_tuple(asio::use_awaitable);
    error_code ec;
    permit p;
    if (choice % 4 == 0) {
      std::tie(ec, p) = co_await s.semaphore().async_acquire(weight, token);
    } else {
      // An emit before the slot is assigned to would be a race, so it follows in the initiation.
      auto initiation = [&s, weight, choice](auto handler) {
        s.acquire(weight, choice / 4, std::move(handler));
      };
      std::tie(ec, p) = co_await asio::async_initiate<decltype(token), void(error_code, permit)>(
          initiation, token);
    }
    s.count(t, weight, ec, p);
    if (random() % 2 == 0) co_await asio::post(s.threads(), asio::use_awaitable);
    s.give_back(std::move(p), random());
  }
}

} // namespace

BOOST_AUTO_TEST_CASE(a_storm_of_acquisitions_cancellations_and_resizes_loses_nothing) {
  constexpr std::size_t limit = storm_limits.front();
  constexpr int chains = 16, coroutines = 16;
  const long all_of_them =
      test::number_from_environment("BULKHEAD_STORM").value_or(test::scaled(1'000'000));
  const long each = all_of_them / (chains + coroutines);

  storm all(limit);
  std::deque<chain> in_handlers;
  for (unsigned i = 0; i != chains; ++i) in_handlers.emplace_back(all, 1 + i, each);
  std::array<tally, coroutines> in_coroutines;

  for (auto& c : in_handlers) asio::post(all.threads(), [&c] { c.next(); });
  for (unsigned i = 0; i != coroutines; ++i)
    asio::co_spawn(all.threads(), acquire_in_coroutine(all, 101 + i, each, in_coroutines[i]),
                   asio::detached);
  std::atomic<bool> over{false};
  std::thread resizing([&] {
    for (std::size_t i = 1; !over; ++i) {
      all.semaphore().resize(storm_limits[i % storm_limits.size()]);
      for (std::size_t turns = i % 3 * 100; turns != 0; --turns) std::this_thread::yield();
    }
    all.semaphore().resize(limit);
  });
  all.threads().join(); // what waits is work
  over = true;
  resizing.join();

  tally sum;
  for (auto& c : in_handlers) sum += c.result();
  for (auto& t : in_coroutines) sum += t;
  BOOST_TEST_MESSAGE("started " << sum.started << ", granted " << sum.granted << ", cancelled "
                                << sum.cancelled << ", refused " << sum.refused << ", at most "
                                << all.peak() << " units at a time");
  BOOST_TEST(sum.started == each * (chains + coroutines));
  BOOST_TEST(sum.started == sum.granted + sum.cancelled + sum.refused);
  BOOST_TEST(sum.other == 0);
  BOOST_TEST(sum.granted > 0);
  BOOST_TEST(sum.cancelled > 0);
  BOOST_TEST(all.peak() <= most_units);
  BOOST_TEST(all.semaphore().waiting() == 0u);
  BOOST_TEST(all.semaphore().in_use() == 0u);
  auto whole = all.semaphore().try_acquire(limit);
  BOOST_TEST_REQUIRE(whole.has_value());
  BOOST_TEST(whole->weight() == limit);
}
