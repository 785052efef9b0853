//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/post.hpp>

#include <chrono>
#include <utility>

// The whole pool, its workers included: they sleep in the model's futexes and in its epoll.

namespace {

namespace asio = boost::asio;
using bulkhead::pool;
using bulkhead::pool_options;
using interleave::check;
using interleave::shared;
using interleave::together;
using interleave::wait_for_quiet;
namespace sync = bulkhead::detail::sync;

/// Counts what runs.
class jobs {
public:
  auto operator()() {
    return [this] { ran_.fetch_add(1, std::memory_order_relaxed); };
  }
  int ran() const noexcept { return ran_.load(std::memory_order_relaxed); }

private:
  sync::atomic<int> ran_{0};
};

/// No join: that all runs is due to nobody sleeping while there is work.
void submissions() {
  jobs job;
  pool p(1);
  together([&] { p.submit(job()); }, [&] { asio::post(p, job()); });
  interleave::wait_until([&] { return job.ran() == 2; });
}

const interleave::model submits("pool", "what is submitted runs", &submissions);

void two_workers() {
  jobs job;
  pool p(2);
  together([&] { p.submit([&] { asio::post(p, job()); }); }, [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 2; });
}

const interleave::model shares("pool_of_two", "what a worker has posted runs", &two_workers);

/// One worker blocks until what it has posted, or has claimed with it, has run elsewhere.
void blocked_worker() {
  jobs job;
  pool p(2);
  sync::atomic<bool> stays{true};
  p.submit([&] {
    asio::post(p, job());
    interleave::wait_until([&] { return !stays.load(); });
  });
  p.submit(job());
  interleave::wait_until([&] { return job.ran() == 2; });
  stays.store(false);
}

const interleave::model robs("pool_rob", "what a blocked worker keeps is run by another",
                             &blocked_worker);

/// Both sleep when one is asked to block, and the other must come for what is submitted with that.
void busy_worker() {
  jobs job;
  pool p(2);
  wait_for_quiet();
  sync::atomic<bool> stays{true};
  together([&] { p.submit([&] { interleave::wait_until([&] { return !stays.load(); }); }); },
           [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 1; });
  stays.store(false);
}

const interleave::model shares_calls("pool_busy", "a worker that finds work leaves none behind",
                                     &busy_worker);

void join_it() {
  jobs job;
  pool p(1);
  p.submit([&] { asio::post(p, job()); });
  together([&] { p.join(); },
           [&] {
             if (!p.try_submit(job())) job()();
           });
  check(job.ran() == 2, "join() waits for all that was admitted");
}

const interleave::model joins("pool_join", "join() returns, when all has run", &join_it);

/// Counts the functions there are.
class counted {
public:
  explicit counted(sync::atomic<int>& n) : n_(&n) { n_->fetch_add(1); }
  counted(counted&& other) noexcept : n_(std::exchange(other.n_, nullptr)) {}
  ~counted() {
    if (n_) n_->fetch_sub(1);
  }
  void operator()() {}

private:
  sync::atomic<int>* n_;
};

void stop_it(std::size_t queue_limit) {
  sync::atomic<int> functions{0};
  {
    pool_options o(1);
    o.queue_limit = queue_limit;
    pool p(std::move(o));
    together([&] { p.stop(); },
             [&] {
               static_cast<void>(p.try_submit(counted(functions)));
               asio::post(p, counted(functions));
             });
    p.join();
    const auto s = p.stats();
    check(s.submitted == s.completed + s.failed + s.rejected + s.cancelled, "each is counted once");
  }
  check(functions.load() == 0, "each has been destroyed");
}

const interleave::model stops("pool_stop", "what is submitted meanwhile is run or dropped",
                              [] { stop_it(4096); });

const interleave::model stops_small("pool_stop_small", "without credit in advance as well",
                                    [] { stop_it(1); });

void drain_it() {
  jobs job;
  pool p(1);
  p.submit(job());
  sync::atomic<bool> is_drained{false};
  together([&] { p.async_drain([&](bulkhead::error_code) { is_drained.store(true); }); },
           [&] {
             if (!p.try_submit(job())) job()();
           });
  interleave::wait_until([&] { return is_drained.load(); });
  check(job.ran() == 2, "all that was admitted has run");
}

const interleave::model drains("pool_drain", "a drain completes, after all that was admitted",
                               &drain_it);

void drain_last() {
  jobs job;
  pool p(1);
  p.submit(job());
  interleave::wait_until([&] { return job.ran() == 1; });
  sync::atomic<bool> is_drained{false};
  p.async_drain([&](bulkhead::error_code) { is_drained.store(true); });
  interleave::wait_until([&] { return is_drained.load(); });
}

const interleave::model ends("pool_drain_last",
                             "the last to end sees the drain, or the other way round", &drain_last);

/// One place in the queue, one more who waits for it.
void full() {
  jobs job;
  pool_options o(1);
  o.queue_limit = 1;
  pool p(std::move(o));
  together(
      [&] {
        p.submit(job());
        p.submit(job());
      },
      [&] { p.submit(job()); });
  p.join();
  check(job.ran() == 3, "each is admitted in the end");
  const auto s = p.stats();
  check(s.submitted == 3 && s.completed == 3, "and counted once");
}

const interleave::model fills("pool_full", "who waits for room gets it", &full);

/// From one worker to two, which leaves when it has been idle for long.
pool_options up_to_two() {
  pool_options o(2);
  o.min_threads = 1;
  o.idle_expiry = std::chrono::milliseconds(1);
  return o;
}

/// One worker blocks, so that it takes another one; in between it leaves, or is about to.
void elastic() {
  jobs job;
  pool p(up_to_two());
  for (int i = 1; i != 3; ++i) {
    p.submit([&job, i] { interleave::wait_until([&] { return job.ran() == i; }); });
    p.submit(job());
    interleave::wait_until([&] { return job.ran() == i; });
    wait_for_quiet();
  }
}

const interleave::model grows("pool_elastic", "a worker comes where there is none for the work",
                              &elastic);

/// One of two leaves, maybe the one that has just posted something.
void fewer() {
  jobs job;
  pool p(2);
  together([&] { p.resize(1); }, [&] { p.submit([&] { asio::post(p, job()); }); });
  p.submit(job());
  interleave::wait_until([&] { return job.ran() == 2; });
  while (p.stats().threads != 1) sync::this_thread::yield(); // a condition must not lock
}

const interleave::model shrinks("pool_resize_down", "a worker too many leaves, and no work behind",
                                &fewer);

/// The first worker blocks until the second has come.
void more() {
  jobs job;
  pool p(1);
  sync::atomic<bool> stays{true};
  p.submit([&] { interleave::wait_until([&] { return !stays.load(); }); });
  together([&] { p.resize(2); }, [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 1; });
  stays.store(false);
}

const interleave::model widens("pool_resize_up", "a worker that is added finds what waits", &more);

void there_and_back() {
  jobs job;
  pool p(2);
  together(
      [&] {
        p.resize(1);
        p.resize(2);
      },
      [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 1; });
}

const interleave::model resizes("pool_resize", "who leaves and who comes lose nothing",
                                &there_and_back);

void pause_it() {
  jobs job;
  pool p(1);
  together(
      [&] {
        p.pause();
        p.resume();
      },
      [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 1; });
}

const interleave::model pauses("pool_pause", "what came before resume() runs", &pause_it);

/// There is a worker to be created, which a paused pool does not do.
void grow_later() {
  jobs job;
  pool p(up_to_two());
  sync::atomic<bool> stays{true};
  p.submit([&] { interleave::wait_until([&] { return !stays.load(); }); });
  wait_for_quiet();
  together(
      [&] {
        p.pause();
        p.resume();
      },
      [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 1; });
  stays.store(false);
}

const interleave::model pauses_growth("pool_pause_elastic", "nor is a worker missing then",
                                      &grow_later);

/// Nobody resumes it but its end.
void stop_paused() {
  sync::atomic<int> functions{0};
  {
    pool p(1);
    p.pause();
    together([&] { static_cast<void>(p.try_submit(counted(functions))); }, [&] { p.stop(); });
    p.join();
  }
  check(functions.load() == 0, "each has been destroyed");
}

const interleave::model ends_paused("pool_pause_stop", "a paused pool can be stopped",
                                    &stop_paused);

} // namespace
