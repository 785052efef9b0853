//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/post.hpp>

#include <chrono>
#include <exception>
#include <utility>

// The whole pool, its workers included: they sleep in the model's futexes and in its epoll.

namespace {

namespace asio = boost::asio;
using bulkhead::pool;
using bulkhead::pool_options;
using interleave::check;
using interleave::shared;
using interleave::together;
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

void stop_it() {
  pool p(1);
  sync::atomic<int> ended{0};
  const auto handler = [&](std::exception_ptr) { ended.fetch_add(1); };
  struct counted {
    sync::atomic<int>* n;
    explicit counted(sync::atomic<int>& x) : n(&x) { n->fetch_add(1); }
    counted(counted&& other) noexcept : n(std::exchange(other.n, nullptr)) {}
    ~counted() {
      if (n) n->fetch_sub(1);
    }
    void operator()() {}
  };
  sync::atomic<int> kept{0};
  together([&] { p.stop(); },
           [&] {
             static_cast<void>(p.try_submit(counted(kept)));
             asio::post(p, counted(kept));
           });
  static_cast<void>(handler);
  p.join();
  const auto s = p.stats();
  check(s.submitted == s.completed + s.failed + s.rejected + s.cancelled, "each is counted once");
}

const interleave::model stops("pool_stop", "what is submitted meanwhile is run or dropped",
                              &stop_it);

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

/// Elastic: workers come with the work and leave when there is none.
void elastic() {
  jobs job;
  pool_options o(2);
  o.min_threads = 0;
  o.idle_expiry = std::chrono::milliseconds(1);
  pool p(std::move(o));
  together([&] { p.submit(job()); }, [&] { p.submit(job()); });
  interleave::wait_until([&] { return job.ran() == 2; });
  p.submit(job());
  interleave::wait_until([&] { return job.ran() == 3; });
}

const interleave::model grows("pool_elastic", "a worker that leaves leaves no work behind",
                              &elastic);

} // namespace
