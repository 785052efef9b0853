//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "bad input": header by header, every public entry is given what it should not be given, or the
// least and the most of what it may, or is called when it is too late or twice.

#include "faults.hpp"
#include "proof.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/recycling_stack.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/stats.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <source_location>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::permit;
using bulkhead::unbounded;
using std::chrono::nanoseconds;

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
const error_code aborted = asio::error::operation_aborted;
const std::string negative = std::to_string(std::size_t(-1)); // what becomes of -1

/// Every check is a trial. All of them run on this one thread, but for the pools' workers.
class checks {
public:
  using where = std::source_location;

  explicit checks(proof::tally& t) noexcept : tally_(t) {}

  void good(bool ok, const where& w = where::current()) { tally_.expect(ok, at(w)); }

  /// `f` throws std::invalid_argument that says just this.
  void invalid(const std::string& message, const std::function<void()>& f,
               const where& w = where::current()) {
    std::string said = "nothing";
    try {
      f();
    } catch (const std::invalid_argument& e) {
      said = e.what();
    } catch (const std::exception& e) {
      said = std::string("another exception: ") + e.what();
    }
    tally_.expect(said == message, at(w) + ": said " + said);
  }

  /// `f` throws system_error with this code.
  void fails(error_code ec, const std::function<void()>& f, const where& w = where::current()) {
    error_code thrown;
    try {
      f();
    } catch (const bulkhead::system_error& e) {
      thrown = e.code();
    } catch (...) {
      thrown = error_code(-1, boost::system::generic_category());
    }
    tally_.expect(thrown == ec, at(w) + ": " + thrown.message());
  }

  /// `f` throws nothing.
  void works(const std::function<void()>& f, const where& w = where::current()) {
    try {
      f();
      tally_.add();
    } catch (const std::exception& e) {
      tally_.expect(false, at(w) + ": threw " + e.what());
    }
  }

  /// What an operation on an io_context completes with, or on a pool.
  void completes(error_code ec, error_code with, const where& w = where::current()) {
    tally_.expect(ec == with, at(w) + ": completed with " + with.message());
  }

private:
  static std::string at(const where& w) { return "line " + std::to_string(w.line()); }

  proof::tally& tally_;
};

error_code code_of(const std::exception_ptr& e) {
  try {
    if (e) std::rethrow_exception(e);
    return {};
  } catch (const bulkhead::system_error& error) {
    return error.code();
  } catch (...) {
    return error_code(-1, boost::system::generic_category());
  }
}

bool is_empty_call(const std::exception_ptr& e) {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const std::bad_function_call&) {
    return true;
  } catch (...) {
  }
  return false;
}

std::string invalid_of(const std::exception_ptr& e) {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const std::invalid_argument& error) {
    return error.what();
  } catch (...) {
  }
  return "";
}

/// A handler of anything, and the wait for it.
class result {
public:
  auto handler() {
    return [this](auto first, auto&&...) {
      keep(first);
      done_.add();
    };
  }

  const std::exception_ptr& exception() {
    done_.wait_for(1);
    return exception_;
  }

  error_code code() {
    done_.wait_for(1);
    return exception_ ? code_of(exception_) : code_;
  }

  bool is_done() const { return done_.value() != 0; }

private:
  void keep(error_code ec) { code_ = ec; }
  void keep(const std::exception_ptr& e) { exception_ = e; }

  error_code code_;
  std::exception_ptr exception_;
  proof::counter done_;
};

/// Starts something on `io`, where others may wait meanwhile, and runs it until that is over.
template <class Start>
void run_to_end(asio::io_context& io, result& r, Start start) {
  start(r.handler());
  io.restart();
  while (!r.is_done() && io.run_one() != 0) {
  }
  io.poll();
}

template <class Start>
std::exception_ptr ends(asio::io_context& io, Start start) {
  result r;
  run_to_end(io, r, start);
  return r.is_done() ? r.exception() : std::make_exception_ptr(0);
}

template <class Start>
error_code ends_with(asio::io_context& io, Start start) {
  result r;
  run_to_end(io, r, start);
  return r.is_done() ? r.code() : error_code(-1, boost::system::generic_category());
}

const nanoseconds longest = nanoseconds::max(), shortest = nanoseconds::min();

// --- sizing, stats, error -----------------------------------------------------------------------

void try_sizing(checks& c) {
  constexpr const char* name = "BULKHEAD_PROOF_THREADS";
  const auto threads = [&](const char* value) {
    return [=] {
      ::setenv(name, value, 1);
      bulkhead::threads_from_env(name, 3);
    };
  };
  const auto least = [&](const char* value) {
    return std::string(name) + " must be a whole number of at least 1 (got \"" + value + "\")";
  };
  for (const char* value : {"", "0", "-1", "+1", "1.5", "1e3", "0x10", " 1", "1 ", "x", "1x", "--",
                            "nan", "inf", "-9223372036854775808"})
    c.invalid(least(value), threads(value));
  for (const char* value : {"65537", "18446744073709551615", "18446744073709551616",
                            "99999999999999999999999999999999999999"})
    c.invalid(std::string(name) + " must be a whole number of at most 65536 (got \"" + value +
                  "\")",
              threads(value));
  for (const char* value : {"1", "65536", "007"}) c.works(threads(value));
  ::unsetenv(name);
  c.good(bulkhead::threads_from_env(name, 0) == 0);
  c.good(bulkhead::threads_from_env("", 5) == 5);
  c.invalid("threads_from_env: name must not be null",
            [] { bulkhead::threads_from_env(nullptr, 1); });
  c.good(bulkhead::available_parallelism() >= 1);

  bulkhead::duration_histogram h;
  c.good(h.quantile(1) == 0ns && h.mean() == 0ns && h.count() == 0);
  h.add(shortest);
  h.add(longest);
  c.good(h.counts[0] == 1 && h.counts[h.classes - 1] == 1);
  c.good(h.quantile(std::numeric_limits<double>::infinity()) == h.quantile(1));
  c.good(h.quantile(-std::numeric_limits<double>::infinity()) == h.quantile(0));
  (void)h.quantile(std::numeric_limits<double>::quiet_NaN());
  c.good(h.upper_bound(most) == longest);

  for (int value : {0, -1, 11, INT_MAX, INT_MIN})
    c.good(!bulkhead::error_category().message(value).empty());
  c.good(bulkhead::multiple_errors({}).errors().empty() &&
         *bulkhead::multiple_errors({nullptr}).what() != 0);
}

// --- permit and semaphore -----------------------------------------------------------------------

void try_permit(checks& c) {
  asio::io_context io;
  bulkhead::semaphore s(io, 10), other(io, 10);
  permit nothing;
  c.works([&] {
    nothing.release();
    nothing.complete(bulkhead::outcome::failure);
    nothing.complete(static_cast<bulkhead::outcome>(99));
    nothing.forget();
  });
  c.good(!nothing.split(0));
  c.invalid("permit::split: n must be at most the weight 0 (got 1)",
            [&] { (void)nothing.split(1); });
  permit p = s.try_acquire(3).value();
  c.invalid("permit::split: n must be at most the weight 3 (got 4)", [&] { (void)p.split(4); });
  c.invalid("permit::split: n must be at most the weight 3 (got " + negative + ")",
            [&] { (void)p.split(most); });
  c.good(p.weight() == 3 && s.in_use() == 3);
  permit none = p.split(0);
  c.good(none && none.weight() == 0 && p.weight() == 3);
  permit whole = p.split(3);
  c.good(p && p.weight() == 0 && whole.weight() == 3);
  whole.merge(std::move(whole)); // itself
  c.good(whole.weight() == 3);
  whole.merge(permit());
  c.good(whole.weight() == 3);
  permit stranger = other.try_acquire(1).value();
  c.invalid("permit::merge: other must be a permit of the same limiter",
            [&] { whole.merge(std::move(stranger)); });
  c.good(stranger.weight() == 1 && whole.weight() == 3);
  whole.release();
  whole.release();
  whole.complete(bulkhead::outcome::success);
  c.good(s.in_use() == 0 && !whole);
  p.complete(static_cast<bulkhead::outcome>(99));
  none.release();
  c.good(s.idle());
  permit moved = std::move(stranger);
  c.good(!stranger && moved.weight() == 1);
  c.invalid("permit::split: n must be at most the weight 0 (got 1)",
            [&] { (void)stranger.split(1); });
}

void try_semaphore(checks& c) {
  asio::io_context io;
  const auto acquired = [&](bulkhead::semaphore& s, std::size_t weight) {
    return ends_with(io, [&](auto h) { s.async_acquire(weight, h); });
  };
  const auto refusal = [](bulkhead::semaphore& s, std::size_t weight) {
    const auto r = s.try_acquire(weight);
    return r ? error_code() : r.error().code;
  };
  bulkhead::semaphore s(io, 4);
  for (std::size_t weight : {std::size_t(5), most / 2, most / 2 + 1, most - 1, most}) {
    c.completes(errc::exceeds_limit, refusal(s, weight));
    c.completes(errc::exceeds_limit, acquired(s, weight));
  }
  c.completes({}, refusal(s, 0));
  c.completes({}, acquired(s, 0));
  c.completes({}, acquired(s, 4));
  c.good(s.idle());
  for (std::size_t n : {std::size_t(1), most / 2 + 1, most})
    c.invalid("semaphore::release: n must be at most the 0 units held by forgotten permits (got " +
                  std::to_string(n) + ")",
              [&] { s.release(n); });
  c.works([&] { s.release(0); });
  s.try_acquire(2).value().forget();
  c.invalid("semaphore::release: n must be at most the 2 units held by forgotten permits (got 3)",
            [&] { s.release(3); });
  s.release(2);
  c.invalid("semaphore::release: n must be at most the 0 units held by forgotten permits (got 2)",
            [&] { s.release(2); });
  c.good(s.idle() && s.available() == 4);

  {
    // Sums of weights never overflow, however large they are.
    bulkhead::semaphore huge(io, most);
    permit half = huge.try_acquire(most / 2 + 1).value();
    c.completes(errc::queue_full, refusal(huge, most / 2 + 1));
    permit rest = huge.try_acquire(most / 2).value();
    c.good(huge.in_use() == most && huge.available() == 0);
    c.completes(errc::queue_full, refusal(huge, 1));
    half.merge(std::move(rest));
    c.good(half.weight() == most);
    half.forget();
    huge.release(most);
    c.good(huge.idle() && huge.available() == most);
    half = huge.try_acquire(most).value();
    huge.resize(1);
    c.good(huge.available() == 0 && huge.in_use() == most);
    result waits;
    huge.async_acquire(1, waits.handler());
    c.good(huge.waiting() == 1);
    half.release();
    io.restart();
    io.run();
    c.completes({}, waits.code());
    c.good(huge.idle());
  }
  {
    bulkhead::semaphore paused(io, 0, {.max_waiters = 2});
    c.completes(errc::queue_full, refusal(paused, 0));
    c.completes(errc::queue_full, refusal(paused, most));
    result heavy, light;
    paused.async_acquire(most, heavy.handler());
    paused.async_acquire(0, light.handler());
    c.completes(errc::queue_full, acquired(paused, 1));
    paused.resize(most - 1);
    io.restart();
    io.run();
    c.completes(errc::exceeds_limit, heavy.code());
    c.completes({}, light.code());
  }
  {
    bulkhead::semaphore none(io, 1, {.max_waiters = 0, .timed_waits = most, .track_holders = true});
    const permit held = none.try_acquire(1).value();
    c.completes(errc::queue_full, acquired(none, 1));
    c.good(none.holders().size() == 1);
  }
  s.close();
  s.close();
  c.completes(errc::closed, refusal(s, 1));
  c.completes(errc::closed, refusal(s, most));
  c.completes(errc::closed, acquired(s, 1));
  c.works([&] { s.resize(0), s.resize(most), s.release(0); });
  c.completes(errc::closed, refusal(s, 0));
  c.fails(errc::closed, [&] { (void)s.try_acquire().value(); });
}

void try_keyed(checks& c) {
  asio::io_context io;
  using keyed = bulkhead::keyed<std::string>;
  const auto make = [&](const std::string&) { return bulkhead::semaphore(io, 1); };
  for (std::size_t n : {std::size_t(0), std::size_t(65537), most / 2 + 2, most})
    c.invalid("keyed_options::shards must be at least 1 and at most 65536 (got " +
                  std::to_string(n) + ")",
              [&] { keyed k(make, {.shards = n}); });
  for (std::size_t n : {1, 3, 65536}) c.works([&] { keyed k(make, {.shards = n}); });
  c.invalid("keyed: make must not be empty",
            [] { keyed k{std::function<bulkhead::semaphore(const std::string&)>()}; });
  c.invalid("keyed: make must not be empty",
            [] { keyed k{static_cast<bulkhead::semaphore (*)(const std::string&)>(nullptr)}; });
  keyed k(make);
  c.good(k.try_acquire("", 1).has_value());
  c.good(k.try_acquire("a", most).error().code == errc::exceeds_limit);
  c.completes(errc::exceeds_limit, ends_with(io, [&](auto h) { k.async_acquire("a", most, h); }));
  c.good(k.evict_idle() == k.evict_idle() + 2 && k.size() == 0);
}

void try_adaptors(checks& c) {
  asio::io_context io;
  const auto after = [&](auto duration, std::chrono::minutes wait = 0min) {
    asio::steady_timer t(io, wait);
    return ends_with(io, [&](auto h) { t.async_wait(bulkhead::timeout(duration, h)); });
  };
  c.completes({}, after(longest));
  c.completes({}, after(std::chrono::steady_clock::duration::max()));
  c.completes({}, after(std::chrono::hours::max()));
  c.completes({}, after(std::chrono::years::max()));
  c.completes({}, after(std::chrono::duration<double>(1e300)));
  c.completes({}, after(std::chrono::duration<double>(std::numeric_limits<double>::infinity())));
  c.completes({}, after(std::chrono::duration<float>(1e30f)));
  c.completes(errc::deadline_exceeded, after(shortest, 1min));
  c.completes(errc::deadline_exceeded, after(std::chrono::hours::min(), 1min));
  c.completes(errc::deadline_exceeded, after(0ns, 1min));
  c.completes(errc::deadline_exceeded, after(-1ns, 1min));
  c.completes(errc::deadline_exceeded,
              after(std::chrono::duration<double>(-std::numeric_limits<double>::infinity()), 1min));
  c.invalid("timeout: duration must be a number", [&] {
    after(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN()));
  });
  bulkhead::semaphore s(io, 2);
  const auto limited = [&](std::size_t weight) {
    asio::steady_timer t(io, 1ms);
    return ends_with(io, [&](auto h) { t.async_wait(bulkhead::limited_by(s, weight, h)); });
  };
  c.completes({}, limited(0));
  c.completes({}, limited(2));
  c.completes(errc::exceeds_limit, limited(3));
  c.completes(errc::exceeds_limit, limited(most));
  s.close();
  c.completes(errc::closed, limited(1));
  c.good(s.idle());
}

// --- pools --------------------------------------------------------------------------------------

template <class Pool, class Make, class Task>
void try_size(checks& c, Make make, Task task) {
  const auto with = [&](auto set) {
    return [&make, set] {
      bulkhead::pool_options o;
      o.threads = 1;
      set(o);
      const std::unique_ptr<Pool> p = make(std::move(o));
      p->join();
    };
  };
  using options = bulkhead::pool_options;
  c.invalid("pool_options::threads must be at least 1 (got 0)",
            with([](options& o) { o.threads = 0; }));
  for (std::size_t n : {std::size_t(65537), most / 2 + 1, most - 1, most})
    for (std::size_t least : {std::size_t(0), std::size_t(1), n})
      c.invalid("pool_options::threads must be at most 65536 (got " + std::to_string(n) + ")",
                with([=](options& o) { o.threads = n, o.min_threads = least; }));
  for (std::size_t n : {std::size_t(2), most})
    c.invalid("pool_options::min_threads must be at most threads, 1 (got " + std::to_string(n) +
                  ")",
              with([=](options& o) { o.min_threads = n; }));
  c.invalid("pool_options::queue_limit must be at least 1 (got 0)",
            with([](options& o) { o.queue_limit = 0; }));
  for (nanoseconds d : {0ns, -1ns, shortest})
    c.invalid("pool_options::idle_expiry must be more than 0 ns (got " + std::to_string(d.count()) +
                  ")",
              with([=](options& o) { o.idle_expiry = d; }));
  for (int n : {-1, 2})
    c.invalid("pool_options::order must be fifo or lifo (got " + std::to_string(n) + ")",
              with([=](options& o) { o.order = static_cast<bulkhead::submission_order>(n); }));
  c.works(with([](options& o) { o.threads = 65536, o.min_threads = 1; }));
  c.works(with([](options& o) { o.name = std::string(1000, 'x'); }));
  c.works(with([](options& o) { o.name = std::string(3, '\0'); }));

  // What is large, but allowed, also works.
  for (nanoseconds d : {1ns, longest - 1ns, longest}) {
    options o;
    o.threads = 2, o.min_threads = 1, o.idle_expiry = d;
    const auto p = make(std::move(o));
    result r;
    p->async_submit(task([] {}), r.handler());
    c.completes({}, r.code());
    c.invalid("pool::resize: threads must be at least 1 (got 0)", [&] { p->resize(0); });
    c.invalid("pool::resize: threads must be at most 65536 (got " + negative + ")",
              [&] { p->resize(most); });
    c.invalid("pool::resize: threads must be at most 65536 (got 65537)", [&] { p->resize(65537); });
    c.works([&] { p->resize(65536), p->resize(1); });
  }
  for (std::size_t limit : {std::size_t(1), most / 2 + 1, most - 1, most})
    for (std::size_t waiters : {std::size_t(0), most - 1, most}) {
      options o;
      o.threads = 1, o.queue_limit = limit, o.waiter_limit = waiters;
      const auto p = make(std::move(o));
      p->pause();
      c.good(p->try_submit(task([] {})) && p->try_submit(task([] {})) == (limit != 1));
      result r;
      p->async_submit(task([] {}), r.handler());
      p->resume();
      c.completes(limit == 1 && waiters == 0 ? error_code(errc::queue_full) : error_code(),
                  r.code());
      p->join();
      const auto s = p->stats();
      c.good(s.submitted == 3 && s.submitted == s.completed + s.failed + s.rejected + s.cancelled);
    }
}

template <class Pool, class Make, class Task>
void try_end(checks& c, Make make, Task task) {
  const auto one = [&] {
    bulkhead::pool_options o;
    o.threads = 1;
    return make(std::move(o));
  };
  const auto is_over = [&](Pool& p) {
    c.good(!p.try_submit(task([] {})));
    c.fails(errc::closed, [&] { p.submit(task([] {})); });
    c.fails(errc::closed, [&] { p.submit(task([] {}), bulkhead::on_full::reject); });
  };
  {
    const auto p = one();
    p->close();
    p->close();
    is_over(*p);
    result r;
    p->async_submit(task([] {}), r.handler());
    c.completes(errc::closed, r.code());
    result drained, again;
    p->async_drain(drained.handler());
    c.completes({}, drained.code());
    p->async_drain(again.handler());
    c.completes({}, again.code());
    c.works([&] { p->resize(2), p->pause(), p->resume(), p->resume(); });
    p->join();
    p->join();
    is_over(*p);
    c.works([&] { p->stop(), p->stop(), p->join(), p->close(); });
    c.works([&] { p->resize(3), p->pause(), p->resume(); });
    c.good(p->stats().threads == 0);
    c.works([&] { c.good(p->drain_for(longest).abandoned == 0); });
    is_over(*p);
  }
  for (nanoseconds d : {shortest, -1ns, 0ns, longest}) {
    const auto p = one();
    const bulkhead::drain_report r = p->drain_for(d);
    c.good(r.completed == 0 && r.abandoned == 0);
    c.good(p->drain_for(d).abandoned == 0);
  }
  {
    const auto p = one();
    const auto on_worker = [&](auto f) {
      result r;
      p->async_submit(task(f), r.handler());
      return r.code();
    };
    Pool& pool = *p;
    c.completes(errc::would_deadlock, on_worker([&pool] { pool.join(); }));
    c.completes(errc::would_deadlock, on_worker([&pool] { pool.drain_for(1ns); }));
    c.completes({}, on_worker([&pool] { pool.resize(2), pool.resize(1), pool.close(); }));
  }
}

void try_pool(checks& c) {
  using pool = bulkhead::pool;
  const auto make = [](bulkhead::pool_options o) { return std::make_unique<pool>(std::move(o)); };
  const auto task = [](auto f) { return f; };
  try_size<pool>(c, make, task);
  try_end<pool>(c, make, task);
  c.invalid("pool_options::threads must be at least 1 (got 0)", [] { pool p(0); });
  c.invalid("pool_options::threads must be at most 65536 (got " + negative + ")",
            [] { pool p(std::size_t(-1)); });
  std::atomic<int> empty{0};
  bulkhead::pool_options o;
  o.threads = 1, o.queue_limit = 1;
  o.on_exception = [&](const std::exception_ptr& e) { empty += is_empty_call(e); };
  pool p(o);
  for (int policy : {-1, 3, INT_MAX})
    c.invalid("pool::submit: policy must be block, caller_runs or reject (got " +
                  std::to_string(policy) + ")",
              [&] { p.submit([] {}, static_cast<bulkhead::on_full>(policy)); });
  p.submit(std::function<void()>());
  p.submit(static_cast<void (*)()>(nullptr));
  p.submit(static_cast<void (*)(std::stop_token)>(nullptr));
  p.submit(static_cast<int (*)()>(nullptr), bulkhead::on_full::caller_runs);
  for (int i = 0; i != 2; ++i) {
    result r;
    if (i == 0)
      p.async_submit(std::function<int()>(), r.handler());
    else
      p.async_submit(static_cast<int (*)()>(nullptr), r.handler());
    c.good(is_empty_call(r.exception()));
  }
  result r;
  p.async_submit([&] { p.attach(); }, r.handler());
  c.completes(errc::would_deadlock, r.code());
  p.pause();
  p.submit([] {});
  c.fails(errc::queue_full, [&] { p.submit([] {}, bulkhead::on_full::reject); });
  p.resume();
  p.wait();
  p.wait();
  c.good(empty == 4 && p.stats().exceptions == 4);
  c.works([&] { p.attach(); }); // has ended, so it returns
}

void try_stateful_pool(checks& c) {
  using states = bulkhead::stateful_pool<int>;
  const auto factory = [] { return 1; };
  const auto make = [&](bulkhead::pool_options o) {
    return std::make_unique<states>(factory, std::move(o));
  };
  const auto task = [](auto f) { return [f](int&) { f(); }; };
  try_size<states>(c, make, task);
  try_end<states>(c, make, task);
  bulkhead::pool_options o;
  o.threads = 1;
  const auto with = [&](nanoseconds first, nanoseconds last) {
    return [=] { states s(factory, o, {first, last}); };
  };
  const std::string ns = std::to_string(shortest.count());
  c.invalid("factory_backoff::first must be at least 0 ns (got -1)", with(-1ns, 1s));
  c.invalid("factory_backoff::first must be at least 0 ns (got " + ns + ")", with(shortest, 1s));
  c.invalid("factory_backoff::longest must be at least first, 2 ns (got 1)", with(2ns, 1ns));
  c.invalid("factory_backoff::longest must be at least first, 0 ns (got " + ns + ")",
            with(0ns, shortest));
  c.works(with(0ns, 0ns));
  c.works(with(longest, longest));
  c.invalid("stateful_pool: factory must not be empty", [] { states s{std::function<int()>()}; });
  c.invalid("stateful_pool: factory must not be empty",
            [] { states s{static_cast<int (*)()>(nullptr)}; });
  o.on_exception = [](const std::exception_ptr&) {};
  {
    states s([]() -> int { throw proof::fault{0}; }, o, {longest, longest});
    result r;
    s.async_submit([](int&) {}, r.handler());
    c.good(proof::is_fault(r.exception()));
    result warm;
    s.async_warm_up(warm.handler());
    c.good(proof::is_fault(warm.exception()));
  }
  states s(factory, o);
  c.invalid(
      "stateful_pool::submit: policy must not be caller_runs: the calling thread has no state",
      [&] { s.submit([](int&) {}, bulkhead::on_full::caller_runs); });
  result empty;
  s.async_submit(static_cast<void (*)(int&)>(nullptr), empty.handler());
  c.good(is_empty_call(empty.exception()));
  s.close();
  result warm;
  s.async_warm_up(warm.handler());
  c.completes(errc::closed, warm.code());
}

// --- lanes --------------------------------------------------------------------------------------

std::string lane_weight(const char* what, const char* got) {
  return std::string(what) + " must be from 1e-6 to 1e6 (got " + got + ")";
}

void try_lanes(checks& c) {
  asio::io_context io;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::pair<double, const char*> weights[] = {
      {0, "0"},       {-1, "-1"},        {nan, "nan"},       {5e-7, "5e-07"},
      {2e6, "2e+06"}, {infinity, "inf"}, {-infinity, "-inf"}};
  c.invalid("lanes_options::concurrency must be at least 1 (got 0)",
            [&] { bulkhead::lanes l(io, {.concurrency = 0}); });
  c.invalid("lanes_options::batch must be at least 1 (got 0)",
            [&] { bulkhead::lanes l(io, {.batch = 0}); });
  for (const auto& [share, got] : {std::pair(-0.1, "-0.1"), std::pair(1.0, "1"),
                                   std::pair(nan, "nan"), std::pair(infinity, "inf")})
    c.invalid(std::string("lanes_options::minimum_share must be at least 0 and less than 1 (got ") +
                  got + ")",
              [&, v = share] { bulkhead::lanes l(io, {.minimum_share = v}); });
  std::atomic<int> empty{0};
  bulkhead::lanes set(io, {.concurrency = most, .batch = most, .on_exception = [&](auto e) {
                             empty += is_empty_call(e);
                           }});
  for (const auto& [weight, got] : weights)
    c.invalid(lane_weight("lane_options::weight", got),
              [&, v = weight] { (void)set.open({.weight = v}); });
  c.invalid("lane_options::queue_limit must be at least 1 (got 0)",
            [&] { (void)set.open({.queue_limit = 0}); });
  c.invalid("lane_options::concurrency must be at least 1 (got 0)",
            [&] { (void)set.open({.concurrency = 0}); });
  c.good(set.size() == 0);
  c.invalid("lanes::set_concurrency: n must be at least 1 (got 0)",
            [&] { set.set_concurrency(0); });
  c.good(set.concurrency() == most);
  c.works([&] { set.set_concurrency(1), set.set_concurrency(most); });

  // The extremes together, and all of them have their turns.
  const bulkhead::lane low =
      set.open({.weight = 1e-6, .priority = INT_MIN, .queue_limit = most, .waiter_limit = most});
  const bulkhead::lane high = set.open(
      {.weight = 1e6, .priority = INT_MAX, .queue_limit = 1, .waiter_limit = 0, .concurrency = 1});
  std::string order;
  for (int i = 0; i != 3; ++i) c.good(low.try_submit([&] { order += 'l'; }));
  c.good(high.try_submit([&] { order += 'h'; }));
  c.good(!high.try_submit([] {}));
  c.completes(errc::queue_full, ends_with(io, [&](auto h) { high.async_submit([] {}, h); }));
  c.good(order == "hlll");
  for (const auto& [weight, got] : weights)
    c.invalid(lane_weight("lane::set_weight: weight", got), [&, v = weight] { low.set_weight(v); });
  c.invalid("lane::set_concurrency: n must be at least 1 (got 0)", [&] { low.set_concurrency(0); });
  c.works([&] { low.set_concurrency(most), low.set_weight(1e6), low.set_priority(INT_MAX); });
  c.works([&] { high.set_priority(INT_MIN), high.set_weight(1e-6); });
  c.good(low.try_submit(std::function<void()>()));
  c.good(low.try_submit(static_cast<void (*)()>(nullptr)));
  c.good(low.try_submit(static_cast<void (*)(std::stop_token)>(nullptr)));
  c.good(is_empty_call(
      ends(io, [&](auto h) { low.async_submit(static_cast<int (*)()>(nullptr), h); })));
  c.good(empty == 3);
  low.close();
  low.close();
  c.good(!low.try_submit([] {}));
  c.completes(errc::closed, ends_with(io, [&](auto h) { low.async_submit([] {}, h); }));
  c.completes({}, ends_with(io, [&](auto h) { low.async_drain(h); }));
  c.completes({}, ends_with(io, [&](auto h) { low.async_drain(h); }));
  c.works([&] { low.set_weight(1), low.set_priority(0), low.set_concurrency(1); });
  const auto s = low.stats();
  c.good(s.submitted == s.completed + s.failed + s.rejected + s.cancelled);
  set = bulkhead::lanes(io); // the end of the set
  c.good(!high.try_submit([] {}));
  c.completes(errc::closed, ends_with(io, [&](auto h) { high.async_submit([] {}, h); }));
  c.works([&] { high.close(), high.set_weight(1), high.set_priority(1), high.set_concurrency(2); });
  bool ran = false;
  asio::post(high.get_executor(), [&] { ran = true; }); // a continuation is not refused
  io.restart();
  io.run();
  c.good(ran);

  c.invalid("limit_concurrency: n must be at least 1 (got 0)",
            [&] { (void)bulkhead::limit_concurrency(io.get_executor(), 0); });
  c.works([&] { (void)bulkhead::limit_concurrency(io.get_executor(), most); });
}

void try_shards_and_tenants(checks& c) {
  asio::io_context io;
  for (std::size_t n : {std::size_t(0), std::size_t(65537), most})
    c.invalid("shards: n must be at least 1 and at most 65536 (got " + std::to_string(n) + ")",
              [&] { bulkhead::shards s(io, n); });
  const auto with = [&](auto set) {
    return [&io, set] {
      bulkhead::shards_options o;
      set(o);
      bulkhead::shards s(io, 2, o);
    };
  };
  c.invalid("shards_options::concurrency must be at least 1 (got 0)",
            with([](auto& o) { o.concurrency = 0; }));
  c.invalid("shards_options::batch must be at least 1 (got 0)", with([](auto& o) { o.batch = 0; }));
  c.invalid("shards_options::queue_limit must be at least 1 (got 0)",
            with([](auto& o) { o.queue_limit = 0; }));
  c.works(with([](auto& o) { o.concurrency = o.batch = o.queue_limit = o.waiter_limit = most; }));
  bulkhead::shards s(io, 3);
  for (std::size_t hash : {std::size_t(0), most / 2, most}) {
    const auto constant = [hash](int) { return hash; };
    const bulkhead::lane& l = s.shard(1, constant);
    c.good(l == s[0] || l == s[1] || l == s[2]);
  }
  s.close();
  s.close();
  c.good(!s.try_submit(1, [] {}));
  c.completes(errc::closed, ends_with(io, [&](auto h) {
                s.async_submit(
                    1, [] {}, h);
              }));

  using tenants = bulkhead::tenants<int>;
  c.invalid("tenants: open must not be empty",
            [&] { tenants t(io, {}, std::function<bulkhead::lane_options(const int&)>()); });
  c.invalid("tenants: open must not be empty", [&] {
    tenants t(io, {}, static_cast<bulkhead::lane_options (*)(const int&)>(nullptr));
  });
  const auto open = [](int key) {
    bulkhead::lane_options o;
    if (key < 0) o.weight = key;
    if (key == 0) o.queue_limit = 0;
    return o;
  };
  c.invalid("lanes_options::concurrency must be at least 1 (got 0)",
            [&] { tenants t(io, {.concurrency = 0}, open); });
  tenants t(io, {}, open);
  c.invalid(lane_weight("lane_options::weight", "-1"), [&] { (void)t[-1]; });
  c.invalid(lane_weight("lane_options::weight", "-1"), [&] { (void)t.try_submit(-1, [] {}); });
  c.invalid("lane_options::queue_limit must be at least 1 (got 0)", [&] {
    t.async_submit(
        0, [] {}, [](std::exception_ptr) {});
  });
  c.invalid("lane_options::queue_limit must be at least 1 (got 0)",
            [&] { (void)t.get_executor(0); });
  c.good(t.size() == 0);
  c.invalid("lanes::set_concurrency: n must be at least 1 (got 0)", [&] { t.set_concurrency(0); });
  t.close();
  t.close();
  c.good(!t.try_submit(1, [] {}) && !t[2].try_submit([] {}));
  c.completes(errc::closed, ends_with(io, [&](auto h) {
                t.async_submit(
                    3, [] {}, h);
              }));
}

// --- groups -------------------------------------------------------------------------------------

void try_groups(checks& c) {
  using bulkhead::task_group;
  using child = asio::awaitable<void>;
  asio::io_context io;
  const std::string limit = "group_options::limit must be at least 1 (got 0)";
  const auto body = [](task_group&) -> child { co_return; };
  const auto ignore = [](std::exception_ptr, auto&&...) {};
  c.invalid(limit, [&] { task_group g(io, {.limit = 0}); });
  c.invalid(limit, [&] { bulkhead::async_scope(io, {.limit = 0}, body, ignore); });
  for (int n : {-1, 2}) {
    const bulkhead::group_options o{.error = static_cast<bulkhead::on_error>(n)};
    const std::string what =
        "group_options::error must be cancel_siblings or collect (got " + std::to_string(n) + ")";
    c.invalid(what, [&] { task_group g(io, o); });
    c.invalid(what, [&] { bulkhead::async_scope(io, o, body, ignore); });
  }
  const std::vector<int> two{1, 2}, none;
  const auto f = [](int i) { return i; };
  c.invalid("async_map: limit must be at least 1 (got 0)",
            [&] { bulkhead::async_map(io, two, 0, f, ignore); });
  c.invalid("async_for_each: limit must be at least 1 (got 0)",
            [&] { bulkhead::async_for_each(io, two, 0, f, ignore); });
  c.invalid("async_first: limit must be at least 1 (got 0)",
            [&] { bulkhead::async_first(io, two, 0, f, ignore); });
  c.good(!ends(io, [&](auto h) { bulkhead::async_map(io, two, most, f, h); }));
  c.good(!ends(io, [&](auto h) { bulkhead::async_for_each(io, two, most, f, h); }));
  c.good(!ends(io, [&](auto h) { bulkhead::async_first(io, two, most, f, h); }));
  c.good(!ends(io, [&](auto h) { bulkhead::async_map(io, none, most, f, h); }));
  c.good(!ends(io, [&](auto h) { bulkhead::async_for_each(io, none, 1, f, h); }));
  try {
    std::rethrow_exception(ends(io, [&](auto h) { bulkhead::async_first(io, none, 1, f, h); }));
  } catch (const bulkhead::multiple_errors& e) {
    c.good(e.errors().empty());
  }
  int (*const nothing)(int) = nullptr;
  c.good(is_empty_call(ends(io, [&](auto h) { bulkhead::async_map(io, two, 1, nothing, h); })));
  c.good(
      is_empty_call(ends(io, [&](auto h) { bulkhead::async_for_each(io, two, 1, nothing, h); })));
  c.good(is_empty_call(ends(io, [&](auto h) {
    bulkhead::async_scope(io, {}, static_cast<child (*)(task_group&)>(nullptr), h);
  })));
  const std::string empty = "task_group: an awaitable must not be empty";
  c.good(invalid_of(ends(io, [&](auto h) {
           bulkhead::async_scope(
               io, {}, [](task_group&) { return child(); }, h);
         })) == empty);
  c.good(invalid_of(ends(io, [&](auto h) {
           bulkhead::async_map(
               io, two, 1, [](int) { return asio::awaitable<int>(); }, h);
         })) == empty);
  const auto with = [&](auto spawn) {
    task_group g(io, {.limit = most});
    spawn(g);
    return ends(io, [&](auto h) { g.async_join(h); });
  };
  c.good(!with([](task_group&) {}));
  c.good(is_empty_call(with([](task_group& g) { g.spawn(static_cast<void (*)()>(nullptr)); })));
  c.good(is_empty_call(with([](task_group& g) { g.spawn(std::function<void()>()); })));
  c.good(is_empty_call(
      with([](task_group& g) { (void)g.try_spawn(static_cast<child (*)()>(nullptr)); })));
  c.good(invalid_of(with([](task_group& g) { g.spawn(child()); })) == empty);
  c.good(invalid_of(with([](task_group& g) { g.spawn(asio::awaitable<int>()); })) == empty);

  task_group g(io);
  c.works(
      [&] { g.cancel(asio::cancellation_type::none), g.cancel(asio::cancellation_type::total); });
  g.spawn([] {});
  c.good(!ends(io, [&](auto h) { g.async_join(h); }));
  c.good(!ends(io, [&](auto h) { g.async_join(h); }));
  result in_child;
  g.spawn([&]() -> child {
    g.async_join(asio::bind_executor(co_await asio::this_coro::executor, in_child.handler()));
  });
  io.restart();
  io.run();
  c.completes(errc::would_deadlock, in_child.code());
  g.close();
  g.close();
  c.fails(errc::closed, [&] { g.spawn([] {}); });
  c.good(!g.try_spawn([] {}));
  c.completes(errc::closed, ends_with(io, [&](auto h) { g.async_spawn([] {}, h); }));
  c.good(!ends(io, [&](auto h) { g.async_join(h); }));
  g.cancel();
  g.cancel();
  c.good(!g.try_spawn([] {}) && g.size() == 0 && g.pending() == 0);
  task_group cancelled(io);
  cancelled.cancel();
  c.fails(aborted, [&] { cancelled.spawn([] {}); });
}

// --- stacks -------------------------------------------------------------------------------------

void try_recycling_stack(checks& c) {
  using stacks = bulkhead::recycling_stack;
  const std::size_t least = stacks::traits_type::minimum_size();
  for (std::size_t n : {std::size_t(0), std::size_t(1), least - 1})
    c.invalid("recycling_stack_options::size must be at least " + std::to_string(least) + " (got " +
                  std::to_string(n) + ")",
              [&] { stacks s({.size = n}); });
  try {
    stacks s({.size = most});
    c.good(false);
  } catch (const std::invalid_argument& e) {
    c.good(std::string(e.what()).starts_with("recycling_stack_options::size must be at most "));
  }
  // What the options allow and the system does not have, it says when asked.
  stacks huge({.size = most / 4});
  try {
    (void)huge.allocate();
    c.good(false);
  } catch (const std::bad_alloc&) {
    c.good(huge.stats().in_use == 0);
  }
  for (std::size_t cached : {std::size_t(0), most}) {
    stacks s({.size = least, .max_cached = cached});
    auto one = s.allocate();
    s.deallocate(one);
    c.good(s.stats().cached == (cached != 0));
    s.trim();
    s.trim();
    c.good(s.stats().cached == 0 && s.stats().in_use == 0);
  }
}

// --- all ----------------------------------------------------------------------------------------

void run(const proof::load&, proof::tally& tally) {
  checks c(tally);
  try_sizing(c);
  try_permit(c);
  try_semaphore(c);
  try_keyed(c);
  try_adaptors(c);
  try_pool(c);
  try_stateful_pool(c);
  try_lanes(c);
  try_shards_and_tenants(c);
  try_groups(c);
  try_recycling_stack(c);
}

const proof::area input("bad input", "the documented error for each", &run);

} // namespace
