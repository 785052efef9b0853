//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "thread creation": the system has no more threads, from the k-th on, or just then, for every k.
// This program's pthread_create says so, while it is armed: limits of the system do not hold for root.

#include "faults.hpp"
#include "proof.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/stateful_pool.hpp>

#include <boost/asio/thread_pool.hpp>
#include <boost/system/system_error.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <pthread.h>

namespace {

namespace asio = boost::asio;

// Threads are numbered from 0 since it was armed; those from `first` to before `last` are refused.
struct refusal {
  std::uint64_t first;
  std::uint64_t last;
};

std::atomic<bool> armed{false};
std::atomic<std::uint64_t> first{0}, last{0}, asked{0}, refused{0};

class refusing {
public:
  explicit refusing(refusal r) {
    first = r.first;
    last = r.last;
    asked = refused = 0;
    armed = true;
  }
  ~refusing() { armed = false; }
};

} // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) {
  if (armed) {
    const std::uint64_t number = asked++;
    if (first <= number && number < last) {
      ++refused;
      return EAGAIN;
    }
  }
  using create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<create>(dlsym(RTLD_NEXT, "pthread_create"));
  return real(thread, attributes, start, argument);
}

namespace {

long thread_count() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
}

/// A thread that was joined may remain visible for a moment.
bool threads_become(long n) {
  for (int i = 0; i != 100'000; ++i) {
    if (thread_count() == n) return true;
    std::this_thread::yield();
  }
  return false;
}

bool is_eagain(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const boost::system::system_error& error) {
    return error.code() == boost::system::errc::resource_unavailable_try_again;
  } catch (const std::system_error& error) {
    return error.code() == std::errc::resource_unavailable_try_again;
  } catch (...) {
    return false;
  }
}

/// What on_exception has got.
struct reports {
  std::atomic<std::uint64_t> eagain{0}, others{0};

  std::function<void(std::exception_ptr)> function() {
    return [this](const std::exception_ptr& e) { ++(is_eagain(e) ? eagain : others); };
  }
};

struct shape {
  std::size_t threads;
  std::size_t min_threads;

  std::size_t at_start() const noexcept { return min_threads == 0 ? threads : min_threads; }

  bulkhead::pool_options options(reports& r) const {
    bulkhead::pool_options o;
    o.threads = threads;
    o.min_threads = min_threads;
    o.on_exception = r.function();
    return o;
  }
};

using stateful = bulkhead::stateful_pool<int>;

struct plain_kind {
  static constexpr const char* name = "pool";
  using pool = bulkhead::pool;
  template <class F>
  static auto task(F f) {
    return f;
  }
};

struct stateful_kind {
  static constexpr const char* name = "stateful_pool";
  struct pool : stateful {
    explicit pool(bulkhead::pool_options o) : stateful([] { return 1; }, std::move(o)) {}
  };
  template <class F>
  static auto task(F f) {
    return [f](int&) { f(); };
  }
};

class trials {
public:
  trials(const proof::load& load, proof::tally& tally)
      : tally_(tally), random_(load.generator()), at_rest_(thread_count()) {}

  void run(std::size_t most, std::uint64_t rounds) {
    // With `first` from 0 to the number of threads: the last refuses nothing that is asked for.
    for (std::uint64_t round = 0; round != rounds; ++round)
      for (std::size_t n = 1; n <= most; ++n)
        for (std::size_t k = 0; k <= n; ++k)
          for (bool once : {false, true}) {
            const refusal r{k, once ? k + 1 : ~std::uint64_t(0)};
            both(r, {n, 0});
            both(r, {n, (n + 1) / 2});
            both(r, {n, 1});
          }
    tally_.note(std::to_string(refusals_) + " threads refused, " + std::to_string(thrown_) +
                " constructors threw");
  }

private:
  void both(refusal r, const shape& s) {
    start<plain_kind>(r, s);
    start<stateful_kind>(r, s);
    grow<plain_kind>(r, s);
    grow<stateful_kind>(r, s);
    resize<plain_kind>(r, s);
    resize<stateful_kind>(r, s);
    load<plain_kind>(r, s);
    load<stateful_kind>(r, s);
    warm_up(r, s);
  }

  /// At start: it throws exactly if one of its threads is refused, and those that started are gone.
  template <class Kind>
  void start(refusal r, const shape& s) {
    const std::string what = describe<Kind>("start", r, s);
    reports seen;
    const bool expected = r.first < s.at_start();
    bool threw = false;
    {
      refusing now(r);
      try {
        typename Kind::pool p(s.options(seen));
        check(p.stats().threads == s.at_start(), what, "not all workers are there");
        run_all<Kind>(p, 2 * s.threads);
      } catch (const boost::system::system_error&) {
        threw = is_eagain(std::current_exception());
        ++thrown_;
      }
      refusals_ += refused;
    }
    check(threw == expected, what, expected ? "it did not throw" : "it threw");
    check(seen.others == 0, what, "something else was reported");
    ended(what);
  }

  /// An elastic pool whose workers are all busy: it goes on with those it has, and all that comes is run.
  template <class Kind>
  void grow(refusal r, const shape& s) {
    if (s.min_threads == 0 || s.min_threads == s.threads) return;
    const std::string what = describe<Kind>("growth", r, s);
    reports seen;
    {
      typename Kind::pool p(s.options(seen));
      const auto open = std::make_shared<proof::counter>();
      std::atomic<std::size_t> ran{0};
      const std::size_t n = 4 * s.threads;
      {
        refusing now(r);
        for (std::size_t i = 0; i != n; ++i)
          p.submit(Kind::task([&ran, open] {
            open->wait_for(1);
            ++ran;
          }));
        // Who sees a refusal asks no more for a while, so there need not be more than the one.
        check(each_reported(seen), what, "a refusal was not reported, or twice");
        check(p.stats().threads >= s.min_threads && p.stats().threads <= s.threads, what,
              "there are too few workers, or too many");
        // Where only the first is refused, the pool asks again if this takes long.
        if (r.first == 0 && r.last != 1)
          check(p.stats().threads == s.min_threads, what, "whence the worker?");
        refusals_ += refused;
      }
      open->add();
      p.join();
      check(ran == n, what, "functions were lost");
      check(seen.others == 0, what, "something else was reported");
    }
    ended(what);
  }

  /// Made larger: it reports the refusal, goes on with fewer, and gets the others when they are to be had.
  template <class Kind>
  void resize(refusal r, const shape& s) {
    if (s.min_threads != 0) return;
    const std::string what = describe<Kind>("resize", r, s);
    reports seen;
    {
      typename Kind::pool p(shape{1, 0}.options(seen));
      {
        refusing now(r);
        p.resize(s.threads + 1);
        check(each_reported(seen), what, "the refusal was not reported once");
        check(refused == (r.first < s.threads ? 1u : 0u), what, "asked again after a refusal");
        check(p.stats().threads == 1 + (r.first < s.threads ? r.first : s.threads), what,
              "not as many workers as were to be had");
        run_all<Kind>(p, 2 * s.threads);
        refusals_ += refused;
      }
      p.resize(s.threads + 1);
      check(p.stats().threads == s.threads + 1, what, "not as many workers as it should have");
      run_all<Kind>(p, 2 * s.threads);
      check(seen.others == 0, what, "something else was reported");
    }
    ended(what);
  }

  /// Size, growth and expiry, while others submit and now this, now that thread is refused.
  template <class Kind>
  void load(refusal r, const shape& s) {
    const std::string what = describe<Kind>("load", r, s);
    reports seen;
    bulkhead::pool_options o = s.options(seen);
    if (s.min_threads != 0) o.idle_expiry = std::chrono::microseconds(50);
    constexpr std::size_t producers = 2, each = 200;
    std::vector<std::size_t> sizes;
    for (int i = 0; i != 8; ++i) sizes.push_back(1 + random_() % s.threads);
    {
      typename Kind::pool p(std::move(o));
      std::atomic<std::size_t> ran{0};
      std::vector<std::thread> threads;
      std::atomic<bool> go{false};
      for (std::size_t t = 0; t != producers; ++t)
        threads.emplace_back([&] {
          while (!go) std::this_thread::yield();
          for (std::size_t i = 0; i != each; ++i) p.submit(Kind::task([&ran] { ++ran; }));
        });
      {
        refusing now(r);
        go = true;
        for (std::size_t n : sizes) p.resize(n);
        for (auto& t : threads) t.join();
        p.join();
        check(each_reported(seen), what, "a refusal was not reported, or twice");
        refusals_ += refused;
      }
      check(ran == producers * each, what, "functions were lost");
      check(seen.others == 0, what, "something else was reported");
    }
    ended(what);
  }

  /// It wants all workers of an elastic pool, and completes with what is in the way of that.
  void warm_up(refusal r, const shape& s) {
    if (s.min_threads == 0) return;
    const std::string what = describe<stateful_kind>("warm-up", r, s);
    reports seen;
    {
      stateful_kind::pool p(s.options(seen));
      std::exception_ptr e;
      proof::counter done;
      {
        refusing now(r);
        p.async_warm_up([&](std::exception_ptr error) {
          e = error;
          done.add();
        });
        done.wait_for(1);
        const bool expected = r.first < s.threads - s.min_threads;
        check(expected ? e && is_eagain(e) : !e, what, "it did not say what happened");
        check(each_reported(seen), what, "the refusal was not reported once");
        refusals_ += refused;
      }
      run_all<stateful_kind>(p, 2 * s.threads);
    }
    ended(what);
  }

  /// Who is refused a thread reports it a moment later, and another may be refused meanwhile.
  static bool each_reported(const reports& seen) {
    for (;;) {
      const std::uint64_t before = refused;
      const std::uint64_t reported = seen.eagain;
      if (reported >= before && before == refused) return reported == before;
      std::this_thread::yield();
    }
  }

  template <class Kind>
  static void run_all(typename Kind::pool& p, std::size_t n) {
    proof::counter ran;
    for (std::size_t i = 0; i != n; ++i) p.submit(Kind::task([&ran] { ran.add(); }));
    ran.wait_for(n); // or else the row says that it hangs
  }

  void ended(const std::string& what) {
    tally_.expect(threads_become(at_rest_), what + ": a thread was left behind");
  }

  void check(bool good, const std::string& what, const char* wrong) {
    if (!good) tally_.lose(1, what + ": " + wrong);
  }

  template <class Kind>
  static std::string describe(const char* when, refusal r, const shape& s) {
    return std::string(Kind::name) + " of " + std::to_string(s.at_start()) + " to " +
           std::to_string(s.threads) + ", " + when + ", refused " +
           (r.last == r.first + 1 ? "just number " : "from number ") + std::to_string(r.first);
  }

  proof::tally& tally_;
  std::mt19937_64 random_;
  const long at_rest_;
  std::uint64_t refusals_ = 0;
  std::uint64_t thrown_ = 0;
};

bool is_in_place() {
  refusing now({0, 1});
  try {
    std::thread([] {}).join();
  } catch (const std::system_error&) {
  }
  return refused == 1;
}

void run(const proof::load& load, proof::tally& tally) {
  if (!is_in_place()) throw std::runtime_error("pthread_create cannot be replaced in this build");
  trials(load, tally).run(load.either(6, 12), load.either(8, 100));
}

const proof::area creation("thread creation", "throws or goes on, nothing hangs", &run);

/// The third of four threads is refused.
void try_thread_pool() {
  refusing now({2, 3});
  try {
    asio::thread_pool p(4);
    std::puts("started");
  } catch (const std::exception&) {
    std::puts("throws");
  }
}

const proof::peer thread_pool("thread creation", "asio::thread_pool", &try_thread_pool);

} // namespace
