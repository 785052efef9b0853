//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "throwing handlers": of all functions and handlers that the library calls, by each way in which
// it comes to call them, one in a hundred throws. What is thrown arrives where the reference says, once;
// each function runs once, the statistics add up, and afterwards all workers are alive.

#include "faults.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::permit;

constexpr std::size_t workers = 4;

/// What is counted, and who throws.
struct bench {
  bench(std::uint64_t seed, std::uint64_t amount) noexcept : chance(seed), n(amount) {}

  const proof::dice chance;
  const std::uint64_t n; // functions or handlers that are to be tried

  std::atomic<std::uint64_t> thrown{0};
  std::atomic<std::uint64_t> reported{0};  // to an on_exception
  std::atomic<std::uint64_t> delivered{0}; // to a handler
  std::atomic<std::uint64_t> wrong{0};     // something else, to either
  proof::counter ran;

  /// The function, or the handler, number `i`.
  void act(std::uint64_t i) {
    struct count {
      proof::counter& c;
      ~count() { c.add(); }
    } last{ran};
    if (!chance.throws(i)) return;
    ++thrown;
    throw proof::fault{i};
  }

  void deliver(const std::exception_ptr& e) noexcept {
    if (e) ++(proof::is_fault(e) ? delivered : wrong);
  }

  std::function<void(std::exception_ptr)> on_exception() {
    return [this](const std::exception_ptr& e) { ++(proof::is_fault(e) ? reported : wrong); };
  }

  bulkhead::pool_options options() {
    bulkhead::pool_options o;
    o.threads = workers;
    o.on_exception = on_exception();
    return o;
  }
};

/// What came of it.
struct result {
  bool to_handler = false;  // where what was thrown had to arrive
  std::uint64_t failed = 0; // as the statistics say
  bool counts_failures = true;
  bool balanced = true;
};

template <class Stats>
bool adds_up(const Stats& s) noexcept {
  return s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

template <class Pool>
result end(bench& b, Pool& p, bool to_handler = false) {
  b.ran.wait_for(b.n);
  proof::expect_alive(workers, [&](auto f) { p.submit(f); });
  p.join();
  const auto s = p.stats();
  return {to_handler, s.failed, true, adds_up(s)};
}

/// Where failures are no submissions'.
result end_of_continuations(bench& b, bulkhead::pool& p, bool to_handler = false) {
  result r = end(b, p, to_handler);
  if (r.failed != 0) r.balanced = false;
  r.counts_failures = false;
  return r;
}

// --- pools --------------------------------------------------------------------------------------

result posted(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i) asio::post(p, [&b, i] { b.act(i); });
  result r = end_of_continuations(b, p);
  r.balanced = r.balanced && p.stats().exceptions == b.thrown;
  return r;
}

result posted_from_inside(bench& b) {
  bulkhead::pool p(b.options());
  constexpr std::uint64_t some = 64;
  for (std::uint64_t i = 0; i < b.n; i += some)
    asio::post(p, [&b, &p, i] {
      for (std::uint64_t k = i; k != std::min(i + some, b.n); ++k)
        asio::post(p, [&b, k] { b.act(k); });
    });
  return end_of_continuations(b, p);
}

result on_a_strand(bench& b) {
  bulkhead::pool p(b.options());
  const auto strand = asio::make_strand(p);
  for (std::uint64_t i = 0; i != b.n; ++i) asio::post(strand, [&b, i] { b.act(i); });
  return end_of_continuations(b, p);
}

result of_a_timer(bench& b) {
  bulkhead::pool p(b.options());
  asio::steady_timer timer(p, asio::steady_timer::time_point::min());
  for (std::uint64_t i = 0; i != b.n; ++i) timer.async_wait([&b, i](error_code) { b.act(i); });
  return end_of_continuations(b, p);
}

result tried(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i)
    while (!p.try_submit([&b, i] { b.act(i); })) std::this_thread::yield();
  return end(b, p);
}

result submitted(bench& b, bulkhead::on_full policy) {
  auto o = b.options();
  if (policy != bulkhead::on_full::block) o.queue_limit = 16;
  bulkhead::pool p(std::move(o));
  for (std::uint64_t i = 0; i != b.n; ++i) p.submit([&b, i] { b.act(i); }, policy);
  return end(b, p);
}

result submitted(bench& b) { return submitted(b, bulkhead::on_full::block); }
result run_by_the_caller(bench& b) { return submitted(b, bulkhead::on_full::caller_runs); }

result async_submitted(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i)
    p.async_submit([&b, i] { b.act(i); }, [&b](std::exception_ptr e) { b.deliver(e); });
  return end(b, p, true);
}

result handlers_of_async_submit(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i)
    p.async_submit([] {}, [&b, i](std::exception_ptr) { b.act(i); });
  return end_of_continuations(b, p);
}

result handlers_of_async_drain(bench& b) {
  bulkhead::pool p(b.options());
  for (std::uint64_t i = 0; i != b.n; ++i) p.async_drain([&b, i](error_code) { b.act(i); });
  b.ran.wait_for(b.n);
  p.join();
  return {false, 0, false, p.stats().exceptions == b.thrown};
}

/// An io_context lets through what its handlers throw: run() is called again.
result handlers_elsewhere(bench& b) {
  bulkhead::pool p(b.options());
  asio::io_context io;
  for (std::uint64_t i = 0; i != b.n; ++i)
    p.async_submit([] {}, asio::bind_executor(io, [&b, i](std::exception_ptr) { b.act(i); }));
  for (;;) {
    try {
      io.run();
      break;
    } catch (const proof::fault&) {
      ++b.delivered;
    }
  }
  result r = end_of_continuations(b, p, true);
  return r;
}

// --- stateful pools -----------------------------------------------------------------------------

result with_a_state(bench& b) {
  bulkhead::stateful_pool<int> p([] { return 1; }, b.options());
  for (std::uint64_t i = 0; i != b.n; ++i) {
    if (i % 2 == 0)
      while (!p.try_submit([&b, i](int&) { b.act(i); })) std::this_thread::yield();
    else
      p.submit([&b, i](bulkhead::state_handle<int> h) {
        if (b.chance.throws(i)) h.rebuild();
        b.act(i);
      });
  }
  b.ran.wait_for(b.n);
  proof::expect_alive(workers, [&](auto f) { p.submit([f](int&) { f(); }); });
  p.join();
  return {false, p.stats().failed, true, adds_up(p.stats())};
}

result async_with_a_state(bench& b) {
  bulkhead::stateful_pool<int> p([] { return 1; }, b.options());
  for (std::uint64_t i = 0; i != b.n; ++i)
    p.async_submit([&b, i](int&) { b.act(i); }, [&b](std::exception_ptr e) { b.deliver(e); });
  b.ran.wait_for(b.n);
  p.join();
  return {true, p.stats().failed, true, adds_up(p.stats())};
}

result handlers_of_async_warm_up(bench& b) {
  bulkhead::stateful_pool<int> p([] { return 1; }, b.options());
  for (std::uint64_t i = 0; i != b.n; ++i)
    p.async_warm_up([&b, i](std::exception_ptr) { b.act(i); });
  b.ran.wait_for(b.n);
  proof::expect_alive(workers, [&](auto f) { p.submit([f](int&) { f(); }); });
  p.join();
  return {false, 0, false, p.stats().failed == 0};
}

// --- lanes --------------------------------------------------------------------------------------

/// Over a pool whose on_exception must not be called for them.
struct lanes_bench {
  bulkhead::pool pool{workers};
  bulkhead::lanes set;
  bulkhead::lane lane;

  explicit lanes_bench(bench& b)
      : set(pool, {.concurrency = workers, .on_exception = b.on_exception()}), lane(set.open()) {}

  result end(bench& b, bool to_handler, bool of_submissions = true) {
    b.ran.wait_for(b.n);
    proof::expect_alive(workers, [&](auto f) {
      while (!lane.try_submit(f)) std::this_thread::yield();
    });
    proof::counter drained;
    lane.async_drain([&](error_code) { drained.add(); });
    drained.wait_for(1);
    pool.join();
    const auto s = lane.stats();
    return {to_handler, s.failed, of_submissions,
            adds_up(s) && (of_submissions || s.failed == 0) && pool.stats().exceptions == 0};
  }
};

result tried_in_a_lane(bench& b) {
  lanes_bench l(b);
  for (std::uint64_t i = 0; i != b.n; ++i)
    while (!l.lane.try_submit([&b, i] { b.act(i); })) std::this_thread::yield();
  return l.end(b, false);
}

result async_submitted_to_a_lane(bench& b) {
  lanes_bench l(b);
  for (std::uint64_t i = 0; i != b.n; ++i)
    l.lane.async_submit([&b, i] { b.act(i); }, [&b](std::exception_ptr e) { b.deliver(e); });
  return l.end(b, true);
}

result handlers_of_a_lane(bench& b) {
  lanes_bench l(b);
  for (std::uint64_t i = 0; i != b.n; ++i)
    l.lane.async_submit([] {}, [&b, i](std::exception_ptr) { b.act(i); });
  return l.end(b, false, false);
}

result posted_to_a_lane(bench& b) {
  lanes_bench l(b);
  for (std::uint64_t i = 0; i != b.n; ++i) asio::post(l.lane.get_executor(), [&b, i] { b.act(i); });
  return l.end(b, false, false);
}

result drains_of_a_lane(bench& b) {
  lanes_bench l(b);
  for (std::uint64_t i = 0; i != b.n; ++i) l.lane.async_drain([&b, i](error_code) { b.act(i); });
  b.ran.wait_for(b.n);
  l.pool.join();
  return {false, 0, false, l.pool.stats().exceptions == 0};
}

result of_tenants_and_shards(bench& b) {
  bulkhead::pool p(workers);
  bulkhead::tenants<std::uint64_t> t(p, {.on_exception = b.on_exception()},
                                     [](std::uint64_t) { return bulkhead::lane_options(); });
  bulkhead::shards_options o;
  o.on_exception = b.on_exception();
  bulkhead::shards s(p, 8, o);
  for (std::uint64_t i = 0; i != b.n; ++i) {
    if (i % 2 == 0)
      while (!t.try_submit(i % 1000, [&b, i] { b.act(i); })) std::this_thread::yield();
    else
      while (!s.try_submit(i, [&b, i] { b.act(i); })) std::this_thread::yield();
  }
  b.ran.wait_for(b.n);
  p.join();
  const auto of_shards = s.stats();
  const auto of_tenants = t.stats();
  return {false, of_shards.failed + of_tenants.failed, true,
          adds_up(of_shards) && adds_up(of_tenants) && p.stats().exceptions == 0};
}

// --- groups -------------------------------------------------------------------------------------

/// What all children of a group have thrown is in its errors(); the join says so.
template <class Child>
result children(bench& b, Child child) {
  bulkhead::pool p(b.options());
  bulkhead::task_group g(p, {.limit = 64, .error = bulkhead::on_error::collect});
  for (std::uint64_t i = 0; i != b.n; ++i) g.spawn(child(b, i));
  proof::counter joined;
  std::uint64_t in_join = 0;
  g.async_join([&](std::exception_ptr e) {
    try {
      if (e) std::rethrow_exception(e);
    } catch (const bulkhead::multiple_errors& all) {
      in_join = all.errors().size();
    } catch (const proof::fault&) {
      in_join = 1;
    } catch (...) {
    }
    joined.add();
  });
  joined.wait_for(1);
  for (const auto& e : g.errors()) b.deliver(e);
  const auto s = g.stats();
  result r = end_of_continuations(b, p, true);
  r.counts_failures = true;
  r.failed = s.failed;
  r.balanced = r.balanced && in_join == b.thrown && s.spawned == b.n && s.cancelled == 0 &&
               s.completed + s.failed == b.n && s.running == 0 && s.pending == 0;
  return r;
}

asio::awaitable<void> coroutine(bench& b, std::uint64_t i) {
  if (i % 4 == 0) co_await asio::post(asio::use_awaitable);
  b.act(i);
}

result functions_of_a_group(bench& b) {
  return children(b, [](bench& t, std::uint64_t i) { return [&t, i] { t.act(i); }; });
}

result coroutines_of_a_group(bench& b) { return children(b, &coroutine); }

/// The handlers of a group's own operations.
result handlers_of_groups(bench& b) {
  bulkhead::pool p(b.options());
  std::vector<int> none;
  {
    bulkhead::task_group g(p);
    for (std::uint64_t i = 0; i != b.n; ++i) {
      switch (i % 6) {
      case 0:
        g.async_spawn([] {}, [&b, i](error_code) { b.act(i); });
        break;
      case 1:
        g.async_join([&b, i](std::exception_ptr) { b.act(i); });
        break;
      case 2:
        bulkhead::async_scope(
            p, {}, [](bulkhead::task_group&) -> asio::awaitable<void> { co_return; },
            [&b, i](std::exception_ptr) { b.act(i); });
        break;
      case 3:
        bulkhead::async_map(
            p, none, 1, [](int k) { return k; },
            [&b, i](std::exception_ptr, std::vector<int>) { b.act(i); });
        break;
      case 4:
        bulkhead::async_for_each(
            p, none, 1, [](int) {}, [&b, i](std::exception_ptr) { b.act(i); });
        break;
      case 5:
        bulkhead::async_first(
            p, none, 1, [](int) {}, [&b, i](std::exception_ptr) { b.act(i); });
        break;
      }
    }
    b.ran.wait_for(b.n);
  }
  return end_of_continuations(b, p);
}

// --- limiters -----------------------------------------------------------------------------------

/// The permit that a handler gets is back when it has thrown.
result handlers_of_acquire(bench& b) {
  bulkhead::pool p(b.options());
  bulkhead::semaphore s(p, 3);
  bulkhead::keyed<std::uint64_t> k([&](std::uint64_t) { return bulkhead::semaphore(p, 1); });
  for (std::uint64_t i = 0; i != b.n; ++i) {
    const auto handler = [&b, i](error_code, permit) { b.act(i); };
    if (i % 2 == 0)
      s.async_acquire(1 + i % 3, handler);
    else
      k.async_acquire(i % 100, handler);
  }
  result r = end_of_continuations(b, p);
  k.for_each([&](std::uint64_t, bulkhead::semaphore& one) {
    r.balanced = r.balanced && one.available() == 1 && one.waiting() == 0;
  });
  r.balanced = r.balanced && s.available() == 3 && s.waiting() == 0;
  return r;
}

result handlers_of_adaptors(bench& b) {
  using namespace std::chrono_literals;
  bulkhead::pool p(b.options());
  bulkhead::semaphore s(p, 3);
  asio::steady_timer timer(p, asio::steady_timer::time_point::min());
  for (std::uint64_t i = 0; i != b.n; ++i) {
    const auto handler = [&b, i](error_code) { b.act(i); };
    if (i % 3 == 0)
      timer.async_wait(bulkhead::limited_by(s, handler));
    else if (i % 3 == 1)
      timer.async_wait(bulkhead::timeout(1h, asio::bind_executor(p, handler)));
    else
      timer.async_wait(
          bulkhead::limited_by(s, bulkhead::timeout(1h, asio::bind_executor(p, handler))));
  }
  result r = end_of_continuations(b, p);
  r.balanced = r.balanced && s.available() == 3 && s.waiting() == 0;
  return r;
}

// --- all ----------------------------------------------------------------------------------------

struct way {
  const char* name;
  result (*run)(bench&);
  std::uint64_t part = 1; // of the amount: some take longer, or keep all of it at one time
};

constexpr way ways[] = {
    {"posted", &posted},
    {"posted from inside", &posted_from_inside},
    {"on a strand", &on_a_strand},
    {"of a timer", &of_a_timer, 4},
    {"try_submit", &tried},
    {"submit", &submitted},
    {"submit, the caller runs it", &run_by_the_caller},
    {"async_submit", &async_submitted},
    {"handlers of async_submit", &handlers_of_async_submit},
    {"handlers of async_drain", &handlers_of_async_drain, 4},
    {"handlers on another context", &handlers_elsewhere},
    {"with a state", &with_a_state},
    {"async_submit with a state", &async_with_a_state},
    {"handlers of async_warm_up", &handlers_of_async_warm_up, 10},
    {"try_submit of a lane", &tried_in_a_lane},
    {"async_submit of a lane", &async_submitted_to_a_lane},
    {"handlers of a lane's async_submit", &handlers_of_a_lane},
    {"posted to a lane", &posted_to_a_lane},
    {"handlers of a lane's async_drain", &drains_of_a_lane, 4},
    {"tenants and shards", &of_tenants_and_shards},
    {"functions in a group", &functions_of_a_group},
    {"coroutines in a group", &coroutines_of_a_group},
    {"handlers of groups", &handlers_of_groups, 4},
    {"handlers of async_acquire", &handlers_of_acquire},
    {"handlers of adaptors", &handlers_of_adaptors, 4},
};

void run(const proof::load& load, proof::tally& tally) {
  const std::uint64_t all = load.either(8'000'000, 25'000'000);
  std::uint64_t thrown = 0;
  for (std::uint64_t which = 0; which != std::size(ways); ++which) {
    const way& w = ways[which];
    bench b(load.generator(which)(), all / std::size(ways) / w.part);
    const result r = w.run(b);
    const auto check = [&](bool good, const std::string& wrong) {
      if (!good) tally.lose(1, std::string(w.name) + ": " + wrong);
    };
    const auto numbers = [](std::uint64_t is, std::uint64_t should) {
      return std::to_string(is) + " instead of " + std::to_string(should);
    };
    check(b.ran.value() == b.n, "calls: " + numbers(b.ran.value(), b.n));
    check(b.thrown != 0, "nothing was thrown");
    check(b.reported == (r.to_handler ? 0 : b.thrown.load()),
          "to on_exception: " + numbers(b.reported, r.to_handler ? 0 : b.thrown.load()));
    check(b.delivered == (r.to_handler ? b.thrown.load() : 0),
          "to a handler: " + numbers(b.delivered, r.to_handler ? b.thrown.load() : 0));
    check(b.wrong == 0, "other exceptions: " + numbers(b.wrong, 0));
    if (r.counts_failures) check(r.failed == b.thrown, "failed: " + numbers(r.failed, b.thrown));
    check(r.balanced, "the statistics do not add up");
    tally.add(b.n);
    thrown += b.thrown;
  }
  tally.note(std::to_string(std::size(ways)) + " ways, " + std::to_string(thrown) + " thrown");
}

const proof::area handlers("throwing handlers", "documented policy, workers alive", &run);

void try_thread_pool() {
  asio::thread_pool p(workers);
  asio::post(p, [] { throw std::runtime_error("of a handler"); });
  p.join();
  std::puts("goes on");
}

const proof::peer thread_pool("throwing handlers", "asio::thread_pool", &try_thread_pool);

} // namespace
