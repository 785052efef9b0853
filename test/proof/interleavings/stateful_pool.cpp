//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/stateful_pool.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <stdexcept>

#include <unistd.h>

// A pool whose workers have states: who makes one, who waits for it, and what if that is impossible.

namespace {

namespace asio = boost::asio;
using bulkhead::pool_options;
using bulkhead::stateful_pool;
using interleave::check;
using interleave::together;
using interleave::wait_for_quiet;
namespace sync = bulkhead::detail::sync;

/// States that are made and used, some of which cannot be made.
class workshop {
public:
  explicit workshop(int failures = 0) : failures_(failures) {}
  ~workshop() { check(alive_.load() == 0, "each state has been destroyed"); }

  class state {
  public:
    explicit state(workshop& w) : workshop_(w) { workshop_.alive_.fetch_add(1); }
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() { workshop_.alive_.fetch_sub(1); }

    void use() {
      used_.set(used_.get() + 1); // by one worker at a time
      workshop_.used_.fetch_add(1);
    }

  private:
    workshop& workshop_;
    interleave::shared<int> used_{0};
  };

  /// A factory.
  auto operator()() {
    return [this]() -> workshop& {
      if (failures_.fetch_sub(1) > 0) throw std::runtime_error("no state");
      return *this;
    };
  }

  /// With one that will succeed.
  bool has_begun() const { return failures_.load() < 0; }
  int used() const { return used_.load(); }
  int alive() const { return alive_.load(); }

private:
  sync::atomic<int> failures_, alive_{0}, used_{0};
};

using pool_of_states = stateful_pool<workshop::state>;
constexpr bulkhead::factory_backoff no_second_try{bulkhead::never, bulkhead::never};

void use(workshop::state& s) { s.use(); }

/// Cold, warm, or making it: the second may come while the first worker is any of these.
void submissions() {
  workshop w;
  pool_of_states p(w(), pool_options(2));
  together([&] { p.submit(use); }, [&] { p.submit(use); });
  interleave::wait_until([&] { return w.used() == 2; });
}

const interleave::model runs("states", "what is submitted finds a state", &submissions);

void submission() {
  workshop w;
  pool_of_states p(w(), pool_options(2)); // they are born searching
  p.submit(use);
  interleave::wait_until([&] { return w.used() == 1; });
  wait_for_quiet();
  check(w.alive() == 1, "no other worker has made a state for it as well");
}

const interleave::model makes("states_one", "one submission takes one state", &submission);

/// One worker makes a state, and is the only one who can, but is busy with what needs none.
void blocked() {
  workshop w;
  pool_of_states p(w(), pool_options(2));
  sync::atomic<bool> stays{true};
  together(
      [&] {
        asio::post(p.get_executor(),
                   [&] { interleave::wait_until([&] { return !stays.load(); }); });
      },
      [&] { p.submit(use); });
  interleave::wait_until([&] { return w.used() == 1; });
  stays.store(false);
}

const interleave::model robs("states_rob", "what a blocked worker has claimed finds one elsewhere",
                             &blocked);

/// One try fails, and whoever has made it makes no other.
void failure() {
  workshop w(1);
  sync::atomic<int> done{0}, failed{0};
  {
    pool_options o(2);
    o.on_exception = [](std::exception_ptr) {};
    pool_of_states p(w(), std::move(o), no_second_try);
    const auto handler = [&](std::exception_ptr e) { (e ? failed : done).fetch_add(1); };
    together([&] { p.async_submit(use, handler); }, [&] { p.async_submit(use, handler); });
    interleave::wait_until([&] { return done.load() + failed.load() == 2; });
  }
  check(w.used() == done.load(), "who succeeds has had a state");
  check(failed.load() <= 1, "one try fails one submission");
}

const interleave::model fails("states_fail", "who stands back leaves what he has to others",
                              &failure);

/// The same, one by one: whoever has failed may come first the second time.
void second_submission() {
  workshop w(1);
  sync::atomic<int> ended{0};
  pool_options o(2);
  o.on_exception = [](std::exception_ptr) {};
  pool_of_states p(w(), std::move(o), no_second_try);
  const auto handler = [&](std::exception_ptr) { ended.fetch_add(1); };
  p.async_submit(use, handler);
  interleave::wait_until([&] { return ended.load() == 1; }); // with an error, if nobody came for it
  p.async_submit(use, handler);
  interleave::wait_until([&] { return ended.load() == 2; });
  check(w.used() != 0, "one try fails one submission");
}

const interleave::model stands_back("states_stand_back", "others are called for it",
                                    &second_submission);

void warmth() {
  workshop w;
  pool_of_states p(w(), pool_options(2));
  wait_for_quiet();
  sync::atomic<bool> is_warm{false};
  p.submit(use);
  interleave::wait_until([&] { return w.has_begun(); });
  p.async_warm_up([&](std::exception_ptr) {
    check(w.alive() == 2, "each worker has one");
    is_warm.store(true);
  });
  interleave::wait_until([&] { return is_warm.load() && w.used() == 1; });
}

const interleave::model warms("states_warm_up", "all are warm when that is said", &warmth);

/// From a handler that runs at the reactor, where another worker sleeps meanwhile.
void warmth_from_io() {
  workshop w;
  pool_of_states p(w(), pool_options(2));
  int ends[2];
  check(::pipe(ends) == 0, "there is a pipe");
  asio::posix::stream_descriptor from(p.get_executor(), ends[0]), to(p.get_executor(), ends[1]);
  sync::atomic<bool> is_warm{false};
  from.async_wait(asio::posix::stream_descriptor::wait_read, [&](bulkhead::error_code) {
    wait_for_quiet();
    p.async_warm_up([&](std::exception_ptr) { is_warm.store(true); });
  });
  wait_for_quiet();
  to.write_some(asio::buffer("x", 1));
  interleave::wait_until([&] { return is_warm.load(); });
  check(w.alive() == 2, "each worker has one");
}

const interleave::model warms_from_io("states_warm_up_io", "also the one that watches for I/O",
                                      &warmth_from_io);

/// A worker too many looks whether it was the last, and still has something.
void shrink_and_join() {
  workshop w;
  sync::atomic<int> ran{0};
  pool_of_states p(w(), pool_options(2));
  wait_for_quiet();
  asio::post(p.get_executor(), [&] { ran.fetch_add(1); });
  together([&] { p.resize(1); }, [&] { p.join(); });
  check(ran.load() == 1, "join() waits for what was posted before");
}

const interleave::model joins("states_join", "who leaves before the end leaves nothing behind",
                              &shrink_and_join);

/// The one that is warm stays, wherever it sleeps, and a cold one leaves.
void elastic() {
  workshop w;
  pool_options o(2);
  o.min_threads = 1;
  o.idle_expiry = std::chrono::milliseconds(1);
  pool_of_states p(w(), std::move(o));
  sync::atomic<bool> stays{true};
  asio::post(p.get_executor(), [&] { interleave::wait_until([&] { return !stays.load(); }); });
  p.submit(use);
  interleave::wait_until([&] { return w.used() == 1; });
  stays.store(false);
  while (p.stats().threads != 1) sync::this_thread::yield(); // a condition must not lock
  p.submit(use);
  interleave::wait_until([&] { return w.used() == 2; });
}

const interleave::model expires("states_elastic", "a worker too many leaves", &elastic);

} // namespace
