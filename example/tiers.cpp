// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// Tenants of three tiers on one pool: premium, standard and free ones, with a weight and a cap for each
// tier. All send queries at a steady rate that the pool can bear, but for one tenant of the free tier,
// which sends many times that.
//
//     tiers --seconds 3 --threads 4 --query-ms 2 --flood 10000
//
// Each tenant has a lane of its own, made when it first comes, with a bounded queue. So the one that
// floods fills its own queue, and is refused; the others wait behind one of its queries at most, and
// get what they ask for. With --one-queue all of them share one lane, as they would share the queue
// of a pool: then all of them wait behind the flood, or are refused because of it.
//
// A query is a function that blocks its thread for some time, as a call to a database does.
//
// In the end the program checks that no tenant had more in flight than its cap, and that what the
// tenants have counted (sent, refused, answered) is what the lanes have counted.
//
// The exit status is 0; 1 if the numbers do not fit or the program failed; 2 for bad options; and 130
// after SIGINT or SIGTERM, which end it in good order.

#include "support/command_line.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <iostream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using clock_type = std::chrono::steady_clock;
using std::uintmax_t;

struct options {
  std::chrono::seconds duration{3};
  std::size_t threads = 4;
  std::chrono::milliseconds query{2};
  std::size_t queue = 64;     // of each tenant
  std::size_t flood = 10'000; // queries per second of the tenant that floods
  bool one_queue = false;
};

std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help) {
  options o;
  std::uint64_t seconds = static_cast<std::uint64_t>(o.duration.count());
  example::command_line line("tiers [options]: tenants of three tiers share a pool");
  line.number("seconds", seconds, 1, 3600, "how long queries are sent")
      .number("threads", o.threads, 1, 1000, "threads of the pool")
      .number("query-ms", o.query, 1, 1000, "a query takes this long")
      .number("queue", o.queue, 1, 1'000'000, "queries that wait, of each tenant")
      .number("flood", o.flood, 1, 1'000'000, "queries per second of the tenant that floods")
      .flag("one-queue", o.one_queue, "one lane for all, instead of one for each tenant");
  if (!line.parse(argc, argv, help)) return std::nullopt;
  o.duration = std::chrono::seconds(seconds);
  return o;
}

// tag::tiers[]
struct tier {
  const char* name;
  double weight;
  std::size_t cap; // queries of one tenant in flight at one time
  std::size_t tenants;
  std::size_t rate; // queries per second of each of them
};

constexpr tier tiers[] = {
    {.name = "premium", .weight = 8, .cap = 4, .tenants = 2, .rate = 200},
    {.name = "standard", .weight = 4, .cap = 3, .tenants = 4, .rate = 100},
    {.name = "free", .weight = 1, .cap = 2, .tenants = 8, .rate = 50},
};

bulkhead::lane_options lane_for(const tier& t, std::size_t queue_limit) {
  return {.name = t.name, .weight = t.weight, .queue_limit = queue_limit, .concurrency = t.cap};
}
// end::tiers[]

/// What is seen of queries from where they come from.
class journal {
public:
  void sent() { ++sent_; }
  void refused() { ++refused_; }

  void started() {
    const std::size_t now = ++now_;
    std::size_t seen = highest_;
    while (seen < now && !highest_.compare_exchange_weak(seen, now)) {
    }
  }

  void answered(clock_type::duration latency) {
    --now_;
    std::lock_guard lock(mutex_);
    milliseconds_.push_back(std::chrono::duration<double, std::milli>(latency).count());
  }

  // When all is over.

  void add(const journal& other) {
    sent_ += other.sent_;
    refused_ += other.refused_;
    highest_ = std::max(highest_.load(), other.highest_.load());
    milliseconds_.insert(milliseconds_.end(), other.milliseconds_.begin(),
                         other.milliseconds_.end());
  }

  std::uint64_t count_sent() const { return sent_; }
  std::uint64_t count_refused() const { return refused_; }
  std::uint64_t count_answered() const { return milliseconds_.size(); }
  std::size_t highest() const { return highest_; }

  /// The latency that the fraction `q` of the answers did not exceed; 0 without answers.
  double quantile(double q) {
    if (milliseconds_.empty()) return 0;
    const double rank = std::ceil(q * static_cast<double>(milliseconds_.size()));
    const auto nth = milliseconds_.begin() + static_cast<std::ptrdiff_t>(rank) - 1;
    std::nth_element(milliseconds_.begin(), nth, milliseconds_.end());
    return *nth;
  }

private:
  std::uint64_t sent_ = 0; // by the one thread that sends
  std::uint64_t refused_ = 0;
  std::atomic<std::size_t> now_{0};
  std::atomic<std::size_t> highest_{0};
  std::mutex mutex_;
  std::vector<double> milliseconds_;
};

struct tenant {
  explicit tenant(const tier& t) : of(t), rate(t.rate) {}

  const tier& of;
  std::size_t rate;
  bool floods = false;
  journal seen;
};

class service {
public:
  service(const options& o, const std::deque<tenant>& tenants)
      : options_(o), pool_(o.threads),
        lanes_(pool_, {.concurrency = o.threads},
               [&, all = tenants.size()](const std::size_t& id) -> bulkhead::lane_options {
                 if (o.one_queue) return {.queue_limit = o.queue * all};
                 return lane_for(tenants[id].of, o.queue);
               }) {}

  /// False if it takes no more of this tenant now.
  // tag::query[]
  bool query(std::size_t id, journal& seen) {
    auto work = [this, &seen, sent = clock_type::now()] {
      seen.started();
      std::this_thread::sleep_for(options_.query);
      seen.answered(clock_type::now() - sent);
    };
    return lanes_.try_submit(options_.one_queue ? 0 : id, work);
  }
  // end::query[]

  // tag::drain[]
  /// Takes no more, and returns when all that was taken has been done.
  asio::awaitable<void> drain() {
    lanes_.close();
    std::vector<bulkhead::lane> open;
    lanes_.for_each([&](std::size_t, const bulkhead::lane& l) { open.push_back(l); });
    for (const bulkhead::lane& l : open) co_await l.async_drain(use_awaitable);
  }
  // end::drain[]

  /// What the lanes have counted, those that are gone included.
  bulkhead::lane_stats stats() const { return lanes_.stats(); }

  /// How many lanes are left when all is done and those that are idle have been evicted.
  std::size_t lanes_in_use() {
    pool_.join(); // a thread may still be on its way out of a lane
    lanes_.evict_idle();
    return lanes_.size();
  }

private:
  const options options_;
  bulkhead::pool pool_;
  bulkhead::tenants<std::size_t> lanes_;
};

/// Sends at a steady rate, whether or not there are answers, a few at a time if the rate is high.
asio::awaitable<void> send(service& s, std::size_t id, tenant& t) {
  const std::size_t at_once = (t.rate + 999) / 1000;
  const auto pause = std::chrono::nanoseconds(std::chrono::seconds(at_once)) / t.rate;
  asio::steady_timer next(co_await asio::this_coro::executor, clock_type::now());
  for (;;) {
    next.expires_at(next.expiry() + pause);
    co_await next.async_wait(use_awaitable);
    for (std::size_t i = 0; i != at_once; ++i) {
      t.seen.sent();
      if (!s.query(id, t.seen)) t.seen.refused();
    }
  }
}

/// All tenants, until the time is over. Says whether it was.
asio::awaitable<bool> send_all(service& s, std::deque<tenant>& tenants, const options& o) {
  auto body = [&](bulkhead::task_group& g) -> asio::awaitable<void> {
    for (std::size_t id = 0; id != tenants.size(); ++id)
      g.spawn([&s, &tenants, id] { return send(s, id, tenants[id]); });
    co_return;
  };
  bool over = false;
  try {
    co_await bulkhead::async_scope(bulkhead::group_options(), body,
                                   bulkhead::timeout(o.duration, use_awaitable));
  } catch (const bulkhead::system_error& e) {
    over = e.code() == bulkhead::errc::deadline_exceeded;
    if (!over && e.code() != asio::error::operation_aborted) throw;
  }
  co_await asio::this_coro::reset_cancellation_state(); // an interrupted program drains as well
  co_await s.drain();
  co_return over;
}

void print_row(const char* name, std::size_t tenants, const tier& t, journal& seen,
               double seconds) {
  std::printf("%-9s %7zu %6.0f %4zu %9ju %9ju %8ju %7.0f %8.1f %8.1f\n", name, tenants, t.weight,
              t.cap, uintmax_t{seen.count_sent()}, uintmax_t{seen.count_answered()},
              uintmax_t{seen.count_refused()}, static_cast<double>(seen.count_answered()) / seconds,
              seen.quantile(.5), seen.quantile(.99));
}

/// Prints a line for each tier, and one for the tenant that floods.
void print_table(const std::deque<tenant>& tenants, double seconds) {
  std::printf("%-9s %7s %6s %4s %9s %9s %8s %7s %8s %8s\n", "tier", "tenants", "weight", "cap",
              "sent", "answered", "refused", "per s", "p50 ms", "p99 ms");
  for (const bool flood : {false, true})
    for (const tier& t : tiers) {
      journal sum;
      std::size_t n = 0;
      for (const tenant& one : tenants) {
        if (&one.of != &t || one.floods != flood) continue;
        sum.add(one.seen);
        ++n;
      }
      if (n != 0) print_row(flood ? "flooding" : t.name, n, t, sum, seconds);
    }
}

/// Prints whether what the lanes have counted is what the tenants have.
bool print_books(service& s, const std::deque<tenant>& tenants, const options& o) {
  journal sum;
  bool kept = true;
  for (const tenant& t : tenants) {
    sum.add(t.seen);
    kept = kept && (o.one_queue || t.seen.highest() <= t.of.cap);
  }
  const bulkhead::lane_stats l = s.stats();
  const std::size_t left = s.lanes_in_use();
  const bool fit = l.submitted == sum.count_sent() && l.rejected == sum.count_refused() &&
                   l.completed == sum.count_answered() && l.failed == 0 && l.cancelled == 0 &&
                   l.submitted == l.completed + l.rejected && left == 0;
  std::printf("the lanes have counted: %ju sent = %ju answered + %ju refused, %zu lanes left\n",
              uintmax_t{l.submitted}, uintmax_t{l.completed}, uintmax_t{l.rejected}, left);
  std::printf("%s, %s\n",
              o.one_queue ? "no caps"
              : kept      ? "caps kept"
                          : "CAPS BROKEN",
              fit ? "every query accounted for" : "QUERIES NOT ACCOUNTED FOR");
  return kept && fit;
}

int run(const options& o) {
  std::deque<tenant> tenants; // which cannot be moved
  for (const tier& t : tiers)
    for (std::size_t i = 0; i != t.tenants; ++i) tenants.emplace_back(t);
  tenants.back().rate = o.flood;
  tenants.back().floods = true;

  service s(o, tenants);
  asio::io_context io;
  asio::cancellation_signal interrupt;
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](const bulkhead::error_code& ec, int) {
    if (!ec) interrupt.emit(asio::cancellation_type::terminal);
  });
  bool over = false;
  const auto start = clock_type::now();
  asio::co_spawn(
      io, send_all(s, tenants, o),
      asio::bind_cancellation_slot(interrupt.slot(), [&](std::exception_ptr e, bool was) {
        signals.cancel();
        if (e) std::rethrow_exception(e);
        over = was;
      }));
  io.run();
  const std::chrono::duration<double> took = clock_type::now() - start;

  std::printf("%zu tenants, %zu threads, queries of %ju ms, %s\n", tenants.size(), o.threads,
              uintmax_t(o.query.count()), o.one_queue ? "one lane for all" : "a lane for each");
  print_table(tenants, took.count());
  const bool fit = print_books(s, tenants, o);
  if (!over) std::puts("interrupted");
  if (!fit) return 1;
  return over ? 0 : 130;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<options> o;
  try {
    o = read_options(argc, argv, std::cout);
  } catch (const std::exception& e) {
    std::cerr << "tiers: " << e.what() << '\n';
    return 2;
  }
  try {
    return o ? run(*o) : 0;
  } catch (const std::exception& e) {
    std::cerr << "tiers: " << e.what() << '\n';
    return 1;
  }
}
