//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// How long one task waits: W4, a round trip; W8 and the knee, tasks that arrive on a timetable,
// whether or not the earlier ones are done.

#include "contenders.hpp"
#include "measure.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <semaphore>
#include <stdexcept>
#include <thread>
#include <vector>

namespace bench {
namespace {

double ns_between(clock::time_point from, clock::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}

// W4: who waits for the task, and how.

struct spinning {
  void arrive() noexcept { done_.store(true, std::memory_order_release); }
  void wait() noexcept {
    while (!done_.load(std::memory_order_acquire)) pause();
    done_.store(false, std::memory_order_relaxed);
  }
  void rest() const noexcept {}

private:
  std::atomic<bool> done_{false};
};

struct blocking {
  void arrive() { done_.release(); }
  void wait() { done_.acquire(); }
  void rest() const noexcept {}

private:
  std::binary_semaphore done_{0};
};

/// The workers have gone to sleep when the task comes.
struct spinning_after_gap : spinning {
  void rest() const { std::this_thread::sleep_for(200us); }
};

template <class Pool, class Waiter, std::size_t Trips>
void round_trip(const options& o, report& r) {
  const auto trips = task_count<Pool>(o, Trips), warm_up = trips / 10;
  std::vector<double> samples;
  samples.reserve(trips);
  Waiter waiter;
  Pool pool(o.threads());
  stopwatch watch;
  for (std::size_t i = 0; i < warm_up + trips; ++i) {
    if (i == warm_up) watch = stopwatch();
    waiter.rest();
    auto start = clock::now();
    pool.run([&waiter] { waiter.arrive(); });
    if constexpr (requires { pool.help(); }) pool.help();
    waiter.wait();
    if (i >= warm_up) samples.push_back(ns_between(start, clock::now()));
  }
  r.add_per_task(watch.read(), trips);
  r.add_distribution(samples);
}

// W8 and the knee. The generator has a processor of its own, the one worker has another. Delay is
// counted from the moment at which a task should have been queued, so that a queue which holds up
// the generator cannot make its own figures look better.

/// Poisson arrivals, the same for all contenders.
std::vector<clock::duration> timetable(std::size_t tasks, double per_second) {
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(per_second / 1e9);
  std::vector<clock::duration> times;
  times.reserve(tasks);
  for (double t = 0; times.size() < tasks;)
    times.push_back(std::chrono::nanoseconds(static_cast<std::int64_t>(t += gap(random))));
  return times;
}

void run_for(clock::time_point start, clock::duration service) {
  while (clock::now() - start < service) {
  }
}

struct open_loop {
  std::vector<clock::duration> intended;
  clock::duration service;
  std::vector<double> delay_ns = std::vector<double>(intended.size(), -1); // -1: has not run
  clock::time_point zero{};
  std::atomic<std::size_t> over{0}; // run or refused
  double worker_cpu_ns = 0, wall_ns = 0;

  void task(std::size_t i) {
    auto start = clock::now();
    delay_ns[i] = ns_between(zero + intended[i], start);
    run_for(start, service);
    tally::add(over, 1); // there is one worker
  }

  /// `offer(f)` queues f or says that it does not.
  template <class Pool, class Offer>
  void run(Offer offer) {
    auto cpus = processors();
    if (cpus.size() < 2) throw std::runtime_error("the generator needs a processor of its own");
    pin(cpus[1]);
    Pool pool(1);
    pin(cpus[0]);
    std::this_thread::sleep_for(10ms);

    auto process_cpu = process_cpu_ns(), own_cpu = thread_cpu_ns();
    std::size_t refused = 0;
    zero = clock::now() + 1ms;
    for (std::size_t i = 0; i < intended.size(); ++i) {
      while (clock::now() < zero + intended[i]) pause();
      if (!offer(pool, [this, i] { task(i); })) ++refused;
    }
    wait_until([&] { return over + refused == intended.size(); });
    wall_ns = ns_between(zero, clock::now());
    worker_cpu_ns = process_cpu_ns() - process_cpu - (thread_cpu_ns() - own_cpu);
  }

  /// One server that costs nothing: what queueing theory takes for granted.
  void run_ideal() {
    clock::duration free_at{};
    for (std::size_t i = 0; i < intended.size(); ++i) {
      auto start = std::max(free_at, intended[i]);
      delay_ns[i] = ns_between({}, clock::time_point(start - intended[i]));
      free_at = start + service;
    }
  }
};

open_loop utilised(const options& o) {
  constexpr auto service = 10us;
  return {timetable(o.count("tasks", 30'000), o.get("load", 0.5) * 1e9 / (service / 1ns)), service};
}

template <class Pool>
void queueing(const options& o, report& r) {
  auto loop = utilised(o);
  loop.template run<Pool>([](Pool& pool, auto f) {
    pool.run(f);
    return true;
  });
  r.add("load", o.get("load", 0.5));
  r.add("cpu_ns", loop.worker_cpu_ns / static_cast<double>(loop.intended.size()));
  r.add_distribution(loop.delay_ns);
}

void ideal_queueing(const options& o, report& r) {
  auto loop = utilised(o);
  loop.run_ideal();
  r.add("load", o.get("load", 0.5));
  r.add_distribution(loop.delay_ns);
}

// The knee. A task that starts more than a millisecond late is of no use to anybody.

constexpr std::size_t knee_limit = 512;

struct offered_to_bulkhead {
  static constexpr std::string_view name = "bulkhead_try_submit";
  explicit offered_to_bulkhead(std::size_t threads) : pool(options(threads)) {}

  static bulkhead::pool_options options(std::size_t threads) {
    bulkhead::pool_options o;
    o.threads = threads;
    o.queue_limit = knee_limit;
    return o;
  }

  template <class F>
  bool offer(F f) {
    return pool.try_submit(f);
  }

  bulkhead::pool pool;
};

struct offered_to_asio : asio_pool {
  using asio_pool::asio_pool;
  template <class F>
  bool offer(F f) {
    run(f);
    return true;
  }
};

/// The bound that one would write around it.
struct offered_to_counted_asio : asio_pool {
  static constexpr std::string_view name = "asio_counted";
  using asio_pool::asio_pool;
  template <class F>
  bool offer(F f) {
    if (queued.fetch_add(1) >= knee_limit) {
      --queued;
      return false;
    }
    run([this, f] {
      --queued;
      f();
    });
    return true;
  }

  std::atomic<std::size_t> queued{0};
};

template <class Pool>
void knee(const options& o, report& r) {
  constexpr double deadline_ns = 1e6;
  auto rate = o.get("rate", 500'000);
  auto seconds = o.get("seconds", 0.2);
  open_loop loop{timetable(static_cast<std::size_t>(rate * seconds), rate), 1us};
  loop.template run<Pool>([](Pool& pool, auto f) { return pool.offer(f); });
  auto in_time = std::count_if(loop.delay_ns.begin(), loop.delay_ns.end(),
                               [](double d) { return d >= 0 && d <= deadline_ns; });
  r.add("rate", rate);
  r.add("goodput", static_cast<double>(in_time) / (loop.wall_ns / 1e9));
  std::erase_if(loop.delay_ns, [](double d) { return d < 0; });
  r.add("run",
        static_cast<double>(loop.delay_ns.size()) / static_cast<double>(loop.intended.size()));
  r.add_distribution(loop.delay_ns);
}

template <class... Pool>
struct contenders {
  static constexpr measurement trips[] = {
      {"W4s", Pool::name, round_trip<Pool, spinning, 20'000>}...,
      {"W4b", Pool::name, round_trip<Pool, blocking, 5'000>}...,
      {"W4g", Pool::name, round_trip<Pool, spinning_after_gap, 2'000>}...};
  static constexpr measurement queues[] = {{"W8", Pool::name, queueing<Pool>}...};
  static constexpr measurement knees[] = {{"knee", Pool::name, knee<Pool>}...};
};

} // namespace

std::vector<measurement> latency() {
  std::vector<measurement> all{{"W8", "ideal", ideal_queueing}};
  append(all, contenders<bulkhead_submit, bulkhead_post, asio_pool, tbb_group, tbb_enqueue,
                         moodycamel_queue, std_async>::trips);
  append(
      all,
      contenders<bulkhead_submit, bulkhead_post, asio_pool, tbb_enqueue, moodycamel_queue>::queues);
  append(all, contenders<offered_to_bulkhead, offered_to_asio, offered_to_counted_asio>::knees);
  return all;
}

} // namespace bench
