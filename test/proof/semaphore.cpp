//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "semaphore": a crowd acquires units of one semaphore in every way, gives them back in every
// way, and is cancelled, while the limit changes. In the end the books have to balance: the crowd's,
// and the semaphore's own.

#include "proof.hpp"

#include <bulkhead/limited_by.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

namespace {

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::permit;

constexpr std::size_t most_weight = 64;
constexpr std::array<std::size_t, 6> limits{256, 100, most_weight, 0, 300, 17};
constexpr std::size_t most_units = 300;

/// What became of some attempts.
struct outcomes {
  std::uint64_t started = 0, completed = 0, cancelled = 0, refused = 0, wrong = 0;

  std::uint64_t ended() const { return completed + cancelled + refused; }

  void operator+=(const outcomes& o) {
    started += o.started;
    completed += o.completed;
    cancelled += o.cancelled;
    refused += o.refused;
    wrong += o.wrong;
  }
};

/// What all of the crowd have in common.
class crowd {
public:
  explicit crowd(proof::tally& t) : tally(t) {}

  /// The units that are held now, as the crowd sees it.
  void hold(std::size_t n) {
    const std::size_t now = held_.fetch_add(n) + n;
    for (std::size_t seen = peak_; now > seen && !peak_.compare_exchange_weak(seen, now);) {
    }
  }
  void let_go(std::size_t n) { held_ -= n; }

  std::size_t held() const { return held_; }
  std::size_t peak() const { return peak_; }

  /// Calls `start(handler)` with a handler that 2 in 5 times can be cancelled, and that is, by another
  /// thread, at once or some turns later: while it waits, while it is granted, or too late.
  void start_with_cancellation(std::uint64_t random, auto handler, auto start) {
    if (random % 5 >= 2) return start(std::move(handler));
    auto signal = std::make_shared<asio::cancellation_signal>();
    start(asio::bind_cancellation_slot(signal->slot(), std::move(handler)));
    // From here on nobody but this touches the signal.
    cancel_later(std::move(signal), random / 5);
  }

  /// In one of the ways in which units may be given back. Half of it is done by another thread.
  void give_back(permit p, std::uint64_t random) {
    if (!p) return;
    switch (random % 6) {
    case 0: // a part of it later
      later([this, part = p.split(p.weight() / 2)]() mutable { release(std::move(part)); });
      release(std::move(p));
      break;
    case 1: // in two parts that are one again
      later([this, part = p.split(1 + p.weight() / 3), rest = std::move(p)]() mutable {
        part.merge(std::move(rest));
        release(std::move(part));
      });
      break;
    case 2: // without the permit
      later([this, n = forget(std::move(p))] { release(n); });
      break;
    case 3: {
      permit part = p.split(p.weight() / 4);
      release(forget(std::move(part)));
      release(std::move(p));
      break;
    }
    case 4:
      later([this, p = std::move(p)]() mutable { release(std::move(p)); });
      break;
    default:
      release(std::move(p));
    }
  }

  /// One in 2^12 times. A limit of 0, with which nobody goes on, does not last.
  void resize_perhaps(std::uint64_t random) {
    if (random % 4096 != 0) return;
    const std::size_t limit = limits[random / 4096 % limits.size()];
    semaphore.resize(limit);
    ++resizes;
    if (limit == 0) later([this] { semaphore.resize(limits.front()); });
  }

  proof::tally& tally;
  bulkhead::pool workers{bulkhead::pool_options{.threads = 3}};
  bulkhead::semaphore semaphore{workers, limits.front(), {.max_waiters = 40}};
  std::atomic<std::uint64_t> resizes{0};

private:
  void later(auto f) { asio::post(workers, std::move(f)); }

  void cancel_later(std::shared_ptr<asio::cancellation_signal> signal, std::uint64_t random) {
    later([this, signal = std::move(signal), random]() mutable {
      using asio::cancellation_type;
      constexpr std::array types{cancellation_type::terminal, cancellation_type::partial,
                                 cancellation_type::total};
      if (random % 4 != 0)
        cancel_later(std::move(signal), random - 1);
      else
        signal->emit(types[random / 4 % types.size()]);
    });
  }

  static std::size_t forget(permit p) {
    const std::size_t n = p.weight();
    p.forget();
    return n;
  }

  void release(std::size_t n) {
    let_go(n);
    semaphore.release(n);
  }

  void release(permit p) {
    let_go(p.weight());
    p.release();
  }

  std::atomic<std::size_t> held_{0}, peak_{0};
};

void count(outcomes& o, error_code ec, bool well_formed) {
  if (!well_formed)
    ++o.wrong;
  else if (!ec)
    ++o.completed;
  else if (ec == asio::error::operation_aborted)
    ++o.cancelled;
  else if (ec == errc::exceeds_limit || ec == errc::queue_full)
    ++o.refused;
  else
    ++o.wrong;
}

void count(crowd& c, outcomes& o, std::size_t weight, error_code ec, const permit& p) {
  if (p) c.hold(p.weight());
  count(o, ec, p.weight() == (ec ? 0 : weight) && static_cast<bool>(p) == !ec);
}

/// An operation that holds `weight` units while it is under way, by way of limited_by.
template <class Token>
auto async_work(crowd& c, std::size_t weight, Token&& token) {
  return asio::async_initiate<Token, void(error_code)>(
      [&c, weight](auto handler) {
        c.hold(weight);
        asio::post(c.workers, [&c, weight, h = std::move(handler)]() mutable {
          c.let_go(weight);
          std::move(h)(error_code());
        });
      },
      token);
}

/// Acquires one time after the other, in handlers.
class chain {
public:
  chain(crowd& c, std::mt19937_64 random, std::uint64_t attempts)
      : crowd_(c), random_(random()), attempts_(attempts) {}

  void next() {
    while (outcomes_.started != attempts_) {
      ++outcomes_.started;
      crowd_.tally.add();
      const std::uint64_t random = random_();
      const std::size_t weight = 1 + random % most_weight;
      crowd_.resize_perhaps(random >> 6);
      const std::uint64_t way = random >> 24;
      if (way % 16 < 4) {
        try_acquire(weight, way);
      } else if (way % 16 < 13) {
        return acquire(weight, way / 16);
      } else {
        return work(weight, way / 16);
      }
    }
  }

  const outcomes& result() const { return outcomes_; }

private:
  void try_acquire(std::size_t weight, std::uint64_t random) {
    auto p = crowd_.semaphore.try_acquire(weight);
    if (!p) return count(outcomes_, p.error().code, true);
    count(crowd_, outcomes_, weight, error_code(), *p);
    crowd_.give_back(std::move(*p), random / 16);
  }

  void acquire(std::size_t weight, std::uint64_t random) {
    auto handler = [this, weight, way = random >> 8](error_code ec, permit p) {
      count(crowd_, outcomes_, weight, ec, p);
      if (way % 2 == 0) return go_on(std::move(p), way / 2);
      asio::post(crowd_.workers,
                 [this, way, p = std::move(p)]() mutable { go_on(std::move(p), way / 2); });
    };
    crowd_.start_with_cancellation(random, std::move(handler), [&](auto h) {
      crowd_.semaphore.async_acquire(weight, std::move(h));
    });
  }

  void go_on(permit p, std::uint64_t random) {
    crowd_.give_back(std::move(p), random);
    next();
  }

  void work(std::size_t weight, std::uint64_t random) {
    auto handler = [this](error_code ec) {
      count(outcomes_, ec, true);
      next();
    };
    crowd_.start_with_cancellation(random, std::move(handler), [&](auto h) {
      async_work(crowd_, weight, bulkhead::limited_by(crowd_.semaphore, weight, std::move(h)));
    });
  }

  crowd& crowd_;
  std::mt19937_64 random_;
  const std::uint64_t attempts_;
  outcomes outcomes_;
};

/// The same, as a coroutine.
asio::awaitable<void> acquire_in_coroutine(crowd& c, std::mt19937_64 random, std::uint64_t attempts,
                                           outcomes& result) {
  for (outcomes o; o.started != attempts; result = o) {
    ++o.started;
    c.tally.add();
    const std::uint64_t way = random();
    const std::size_t weight = 1 + way % most_weight;
    auto token = asio::as_tuple(asio::use_awaitable);
    error_code ec;
    permit p;
    if (way / 64 % 4 == 0) {
      std::tie(ec, p) = co_await c.semaphore.async_acquire(weight, token);
    } else {
      // An emit before the slot is assigned to would be a race, so it follows in the initiation.
      auto initiation = [&c, weight, way](auto handler) {
        c.start_with_cancellation(way >> 8, std::move(handler),
                                  [&](auto h) { c.semaphore.async_acquire(weight, std::move(h)); });
      };
      std::tie(ec, p) = co_await asio::async_initiate<decltype(token), void(error_code, permit)>(
          initiation, token);
    }
    count(c, o, weight, ec, p);
    if (way >> 63) co_await asio::post(c.workers, asio::use_awaitable);
    c.give_back(std::move(p), way >> 32);
  }
}

void run(const proof::load& load, proof::tally& tally) {
  constexpr std::size_t chains = 24, coroutines = 8;
  const std::uint64_t each = load.either(10'000'000, 100'000'000) / (chains + coroutines);

  crowd all(tally);
  proof::watchdog dog(tally);
  dog.at("all to have acquired");
  std::deque<chain> in_handlers;
  std::array<outcomes, coroutines> in_coroutines;
  for (std::size_t i = 0; i != chains; ++i) in_handlers.emplace_back(all, load.generator(i), each);
  for (chain& c : in_handlers) asio::post(all.workers, [&c] { c.next(); });
  for (std::size_t i = 0; i != coroutines; ++i)
    asio::co_spawn(all.workers,
                   acquire_in_coroutine(all, load.generator(chains + i), each, in_coroutines[i]),
                   asio::detached);
  all.workers.join(); // what waits is work

  outcomes sum;
  for (chain& c : in_handlers) sum += c.result();
  for (const outcomes& o : in_coroutines) sum += o;
  const auto number = [](auto n) { return std::to_string(n); };
  const auto balance = [&](bool good, const std::string& what) {
    if (!good) tally.lose(1, what);
  };
  balance(sum.started == each * (chains + coroutines), "some of the crowd have stopped");
  if (sum.started != sum.ended())
    tally.lose(1 + sum.wrong, number(sum.started) + " started, " + number(sum.completed) +
                                  " completed, " + number(sum.cancelled) + " cancelled, " +
                                  number(sum.refused) + " refused, " + number(sum.wrong) +
                                  " ended otherwise");
  balance(sum.completed != 0 && sum.cancelled != 0 && sum.refused != 0, "one kind never happened");
  balance(all.peak() <= most_units, "as many as " + number(all.peak()) + " units held at one time");
  balance(all.held() == 0, number(all.held()) + " units held in the end");

  all.semaphore.resize(limits.front());
  const auto books = all.semaphore.stats();
  balance(books.waiting == 0, number(books.waiting) + " wait in the end");
  balance(books.in_use == 0, number(books.in_use) + " units in use in the end");
  balance(books.granted + books.cancelled + books.rejected == sum.started,
          "the semaphore counts " + number(books.granted) + " granted, " + number(books.cancelled) +
              " cancelled, " + number(books.rejected) + " rejected");
  const auto whole = all.semaphore.try_acquire(limits.front());
  balance(whole && whole->weight() == limits.front(), "not all units are to be had in the end");

  tally.note(number(sum.completed) + " completed, " + number(sum.cancelled) + " cancelled, " +
             number(sum.refused) + " refused, " + number(all.resizes.load()) + " resizes");
}

const proof::area
    semaphore("semaphore",
              "permits restored, queue empty, started = completed + cancelled + refused", &run);

} // namespace
