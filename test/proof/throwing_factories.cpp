//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "throwing factories": of what users give to have something made (states, limiters, lanes,
// coroutines, elements, copies of functions), one in a hundred throws, and so do the hooks of workers.

#include "faults.hpp"
#include "proof.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::permit;
using namespace std::chrono_literals;

constexpr std::size_t workers = 4;

/// What one way has to work with, and says.
class bench {
public:
  bench(std::uint64_t seed, std::uint64_t amount, const char* name, proof::tally& t) noexcept
      : n(amount), chance_(seed), name_(name), tally_(t) {}

  const std::uint64_t n; // how often something is to be made

  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> thrown{0};
  std::atomic<std::uint64_t> reported{0};
  std::atomic<std::uint64_t> others{0}; // exceptions that are not ours, wherever they come to

  bool throws(std::uint64_t which) const noexcept { return chance_.throws(which); }

  /// In a factory, number `which`.
  void make(std::uint64_t which) {
    ++made;
    if (!throws(which)) return;
    ++thrown;
    throw proof::fault{which};
  }

  /// The next number, for factories that are called on several threads.
  std::uint64_t next() noexcept { return next_++; }

  void check(bool good, const std::string& wrong) {
    if (!good) tally_.lose(1, std::string(name_) + ": " + wrong);
  }

  void equal(std::uint64_t is, std::uint64_t should, const char* what) {
    check(is == should,
          std::string(what) + ": " + std::to_string(is) + " instead of " + std::to_string(should));
  }

  bulkhead::pool_options options(std::size_t threads = workers) {
    bulkhead::pool_options o;
    o.threads = threads;
    o.on_exception = [this](const std::exception_ptr& e) {
      ++(proof::is_fault(e) ? reported : others);
    };
    return o;
  }

private:
  const proof::dice chance_;
  std::atomic<std::uint64_t> next_{0};
  const char* const name_;
  proof::tally& tally_;
};

template <class Stats>
bool adds_up(const Stats& s) noexcept {
  return s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

/// Whether this throws a fault, and nothing else.
bool throws_fault(auto f) {
  try {
    f();
  } catch (const proof::fault&) {
    return true;
  }
  return false;
}

// --- states and workers -------------------------------------------------------------------------

/// A new state for each function. The submission for which a factory has thrown fails only if nobody
/// else has a state; what was thrown is reported each time.
void states(bench& b, std::size_t threads, bulkhead::factory_backoff backoff) {
  std::atomic<std::uint64_t> ran{0}, told{0};
  bulkhead::stateful_pool<int> p(
      [&b] {
        b.make(b.next());
        return 1;
      },
      b.options(threads), backoff);
  for (std::uint64_t i = 0; i != b.n; ++i) {
    auto f = [&ran](bulkhead::state_handle<int> h) {
      h.rebuild();
      ++ran;
    };
    if (i % 2 == 0)
      p.submit(f);
    else
      p.async_submit(f, [&](std::exception_ptr e) {
        if (e) ++(proof::is_fault(e) ? told : b.others);
      });
  }
  p.join();
  const auto s = p.stats();
  b.check(adds_up(s), "the statistics do not add up");
  b.equal(s.completed, ran, "completed");
  b.equal(ran + s.failed, b.n, "functions");
  b.equal(b.reported, b.thrown, "reported");
  b.equal(s.failed_builds, b.thrown, "failed_builds");
  b.equal(s.built, b.made - b.thrown, "built");
  b.check(told <= s.failed && s.failed <= b.thrown, "more have failed than factories have thrown");
  if (threads == 1) b.equal(s.failed, b.thrown, "failed");
  b.equal(s.states, 0, "states left");
}

void states_of_one(bench& b) { states(b, 1, {0ns, 0ns}); }
void states_of_some(bench& b) { states(b, workers, {0ns, 0ns}); }
void states_with_rests(bench& b) { states(b, workers, {1us, 10us}); }

/// Hooks that throw are reported, and the workers work.
void hooks(bench& b) {
  std::atomic<std::uint64_t> ran{0};
  auto o = b.options();
  o.min_threads = 1;
  o.on_worker_start = o.on_worker_stop = [&b](std::size_t) { b.make(b.next()); };
  while (b.made < b.n) {
    bulkhead::pool p(o);
    const std::uint64_t before = ran;
    constexpr std::uint64_t some = 20;
    for (std::uint64_t i = 0; i != some; ++i) p.submit([&ran] { ++ran; });
    proof::expect_alive(workers, [&](auto f) { p.submit(f); });
    p.join();
    b.equal(ran - before, some, "functions");
    b.check(adds_up(p.stats()) && p.stats().failed == 0, "the statistics do not add up");
  }
  b.equal(b.reported, b.thrown, "reported");
}

// --- limiters and lanes -------------------------------------------------------------------------

/// What throws is thrown to the caller; there is no entry then, and the next call tries again.
void limiters(bench& b) {
  asio::io_context io;
  std::uint64_t seen = 0, granted = 0;
  bulkhead::keyed<std::uint64_t> k([&](std::uint64_t key) {
    b.make(key);
    return bulkhead::semaphore(io, 1);
  });
  for (std::uint64_t key = 0; key != b.n; ++key) {
    bool threw = false;
    switch (key % 3) {
    case 0:
      threw = throws_fault([&] { granted += k.try_acquire(key).has_value(); });
      break;
    case 1:
      threw = throws_fault(
          [&] { k.async_acquire(key, [&](error_code ec, permit) { granted += !ec; }); });
      break;
    case 2:
      threw = throws_fault([&] { granted += k[key].try_acquire().has_value(); });
      break;
    }
    seen += threw;
    b.check(threw == b.throws(key), "it threw, or did not, for another key");
    if (key % 1000 == 0) io.restart(), io.poll();
  }
  io.restart();
  io.run();
  b.equal(seen, b.thrown, "thrown to the caller");
  b.equal(granted, b.n - b.thrown, "granted");
  k.evict_idle();
  b.equal(k.size(), 0, "limiters left");
}

void lanes(bench& b) {
  bulkhead::pool p(b.options());
  std::atomic<std::uint64_t> ran{0};
  std::uint64_t seen = 0;
  bulkhead::tenants<std::uint64_t> t(p, {.concurrency = workers}, [&](std::uint64_t key) {
    b.make(key);
    return bulkhead::lane_options();
  });
  for (std::uint64_t key = 0; key != b.n; ++key) {
    const bool threw = throws_fault([&] {
      if (key % 2 == 0)
        b.check(t.try_submit(key, [&ran] { ++ran; }), "a new lane is full");
      else
        t.async_submit(
            key, [&ran] { ++ran; }, [](std::exception_ptr) {});
    });
    seen += threw;
    b.check(threw == b.throws(key), "it threw, or did not, for another key");
  }
  p.join();
  b.equal(seen, b.thrown, "thrown to the caller");
  b.equal(ran, b.n - b.thrown, "functions");
  b.check(adds_up(t.stats()) && t.stats().submitted == b.n - b.thrown,
          "the statistics do not add up");
}

// --- children -----------------------------------------------------------------------------------

/// Functions that throw before there is a coroutine are children that have failed.
void coroutines(bench& b) {
  bulkhead::pool p(b.options());
  std::atomic<std::uint64_t> ran{0};
  bulkhead::task_group g(p, {.limit = 16, .error = bulkhead::on_error::collect});
  for (std::uint64_t i = 0; i != b.n; ++i)
    g.spawn([&b, &ran, i] {
      b.make(i);
      return [](std::atomic<std::uint64_t>& count) -> asio::awaitable<void> {
        ++count;
        co_return;
      }(ran);
    });
  proof::counter joined;
  g.async_join([&](std::exception_ptr) { joined.add(); });
  joined.wait_for(1);
  std::uint64_t faults = 0;
  for (const auto& e : g.errors()) faults += proof::is_fault(e);
  b.equal(faults, b.thrown, "errors()");
  b.equal(ran, b.n - b.thrown, "coroutines");
  b.equal(g.stats().failed, b.thrown, "failed");
  b.equal(g.stats().completed, ran, "completed");
  proof::expect_alive(workers, [&](auto f) { p.submit(f); });
}

/// An operation over a hundred elements, as often as it takes, each of which may throw once in a hundred.
/// `start(first number, handler)` starts one; the handler says how it ended.
template <class Start>
void operations(bench& b, Start start) {
  constexpr std::uint64_t elements = 100;
  for (std::uint64_t first = 0; first < b.n; first += elements) {
    proof::counter done;
    const std::uint64_t before = b.thrown;
    std::exception_ptr error;
    start(first, [&](std::exception_ptr e, auto&&...) {
      error = e;
      done.add();
    });
    done.wait_for(1);
    const bool threw = b.thrown != before;
    b.check(threw ? proof::is_fault(error) : !error, "it did not say what was thrown, or that");
  }
}

/// Whatever it begins, it also ends: checked when the operation has completed.
struct calls {
  std::atomic<std::uint64_t> begun{0}, ended{0};

  asio::awaitable<int> call() {
    ++begun;
    return body(*this);
  }

private:
  static asio::awaitable<int> body(calls& c) {
    ++c.ended;
    co_return 1;
  }
};

/// Its functions throw before they return an awaitable.
void functions_of_map(bench& b) {
  bulkhead::pool p(b.options());
  std::atomic<std::uint64_t> ran{0};
  operations(b, [&](std::uint64_t first, auto handler) {
    bulkhead::async_map(
        p, std::views::iota(first, first + 100), 4,
        [&](std::uint64_t i) {
          b.make(i);
          return [](std::atomic<std::uint64_t>& count) -> asio::awaitable<int> {
            ++count;
            co_return 1;
          }(ran);
        },
        handler);
  });
  p.join();
  b.equal(b.made - b.thrown, ran, "coroutines");
  b.equal(b.reported + b.others, 0, "reported");
}

/// The first success is what counts, so what throws before it only costs its turn.
void functions_of_first(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i) {
    proof::counter done;
    std::exception_ptr error;
    const bool all_throw = b.throws(2 * i) && b.throws(2 * i + 1);
    bulkhead::async_first(
        p, std::views::iota(2 * i, 2 * i + 2), 1,
        [&](std::uint64_t k) {
          b.make(k);
          return [](std::uint64_t value) -> asio::awaitable<std::uint64_t> { co_return value; }(k);
        },
        [&](std::exception_ptr e, std::uint64_t) {
          error = e;
          done.add();
        });
    done.wait_for(1);
    b.check(all_throw == bool(error), "it failed, or did not, for no reason");
  }
  p.join();
}

/// A range of numbers of which the step, the comparison or the element may throw.
class range {
public:
  enum class at { begin, element, step, comparison };

  class iterator {
  public:
    using value_type = std::uint64_t;
    using difference_type = std::ptrdiff_t;

    iterator() = default;
    iterator(const range& r, std::uint64_t i) noexcept : range_(&r), i_(i) {}

    std::uint64_t operator*() const {
      if (range_->at_ == at::element) range_->bench_->make(i_);
      return i_;
    }
    iterator& operator++() {
      if (range_->at_ == at::step) range_->bench_->make(i_);
      ++i_;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const {
      if (range_->at_ == at::comparison) range_->bench_->make(i_);
      return i_ == range_->end_;
    }

  private:
    const range* range_ = nullptr;
    std::uint64_t i_ = 0;
  };

  range(bench& b, at where, std::uint64_t first, std::uint64_t end) noexcept
      : bench_(&b), at_(where), first_(first), end_(end) {}

  iterator begin() const {
    if (at_ == at::begin)
      for (std::uint64_t i = first_; i != end_; ++i) bench_->make(i);
    return iterator(*this, first_);
  }
  std::default_sentinel_t end() const noexcept { return {}; }

private:
  bench* bench_;
  at at_;
  std::uint64_t first_;
  std::uint64_t end_;
};

/// The calls that had begun have ended, and no more begin.
void ranges(bench& b, range::at where) {
  bulkhead::pool p(b.options());
  calls c;
  operations(b, [&](std::uint64_t first, auto handler) {
    range numbers(b, where, first, first + 100);
    const auto call = [&c](std::uint64_t) { return c.call(); };
    // It completes before `numbers` ends, and says so with all calls over.
    proof::counter done;
    std::exception_ptr error;
    const auto note = [&](std::exception_ptr e, auto&&...) {
      if (c.begun != c.ended) ++b.others;
      error = e;
      done.add();
    };
    if (first / 100 % 2 == 0)
      bulkhead::async_for_each(p, numbers, 4, call, note);
    else
      bulkhead::async_map(p, numbers, 4, call, note);
    done.wait_for(1);
    handler(error);
  });
  p.join();
  b.equal(c.begun, c.ended, "calls that have ended");
  b.equal(b.reported + b.others, 0, "reported, or completed too early");
}

void beginnings(bench& b) { ranges(b, range::at::begin); }
void elements(bench& b) { ranges(b, range::at::element); }
void steps(bench& b) { ranges(b, range::at::step); }
void comparisons(bench& b) { ranges(b, range::at::comparison); }

// --- copies -------------------------------------------------------------------------------------

/// A function whose copies throw.
struct copied {
  bench* b;
  std::uint64_t which;
  std::atomic<std::uint64_t>* ran;

  copied(bench& bench, std::uint64_t i, std::atomic<std::uint64_t>& count) noexcept
      : b(&bench), which(i), ran(&count) {}
  copied(const copied& other) : b(other.b), which(other.which), ran(other.ran) { b->make(which); }
  copied(copied&&) noexcept = default;
  void operator()() const { ++*ran; }
};

/// Nothing was submitted or spawned then.
void copies(bench& b) {
  bulkhead::pool p(b.options());
  bulkhead::lanes set(p);
  const bulkhead::lane l = set.open();
  bulkhead::task_group g(p, {.limit = 16});
  std::atomic<std::uint64_t> ran{0};
  std::uint64_t seen = 0, accepted = 0;
  const auto insist = [](auto submit) {
    while (!submit()) std::this_thread::yield();
  };
  for (std::uint64_t i = 0; i != b.n; ++i) {
    const copied f(b, i, ran);
    const bool threw = throws_fault([&] {
      switch (i % 6) {
      case 0:
        return insist([&] { return p.try_submit(f); });
      case 1:
        return p.submit(f);
      case 2:
        return p.async_submit(f, [](std::exception_ptr) {});
      case 3:
        return insist([&] { return l.try_submit(f); });
      case 4:
        return l.async_submit(f, [](std::exception_ptr) {});
      case 5:
        return g.spawn(f);
      }
    });
    ++(threw ? seen : accepted);
    b.check(threw == b.throws(i), "it threw, or did not, for another");
  }
  proof::counter joined;
  g.async_join([&](std::exception_ptr) { joined.add(); });
  joined.wait_for(1);
  p.join();
  b.equal(seen, b.thrown, "thrown to the caller");
  b.equal(ran, accepted, "functions");
  b.check(adds_up(p.stats()) && adds_up(l.stats()), "the statistics do not add up");
  b.equal(p.stats().failed + l.stats().failed + g.stats().failed, 0, "failed");
  b.equal(p.stats().completed + l.stats().completed + g.stats().completed, accepted, "completed");
  b.equal(b.reported + b.others, 0, "reported");
}

// --- all ----------------------------------------------------------------------------------------

struct way {
  const char* name;
  void (*run)(bench&);
  std::uint64_t part = 1; // of the amount: for those that take longer
};

constexpr way ways[] = {
    {"states of one worker", &states_of_one},
    {"states of some workers", &states_of_some},
    {"states with a back-off", &states_with_rests},
    {"hooks of workers", &hooks, 4},
    {"limiters of keys", &limiters},
    {"lanes of tenants", &lanes},
    {"functions that make coroutines", &coroutines},
    {"functions of async_map", &functions_of_map},
    {"functions of async_first", &functions_of_first, 4},
    {"beginnings of ranges", &beginnings},
    {"elements of ranges", &elements},
    {"steps of ranges", &steps},
    {"comparisons in ranges", &comparisons},
    {"copies of functions", &copies},
};

void run(const proof::load& load, proof::tally& tally) {
  const std::uint64_t all = load.either(3'000'000, 14'000'000);
  std::uint64_t thrown = 0;
  for (std::uint64_t which = 0; which != std::size(ways); ++which) {
    const way& w = ways[which];
    bench b(load.generator(which)(), all / std::size(ways) / w.part, w.name, tally);
    w.run(b);
    b.check(b.thrown != 0, "nothing was thrown");
    b.equal(b.others, 0, "other exceptions");
    tally.add(b.made);
    thrown += b.thrown;
  }
  tally.note(std::to_string(std::size(ways)) + " ways, " + std::to_string(thrown) + " thrown");
}

const proof::area factories("throwing factories", "documented policy, workers alive", &run);

} // namespace
