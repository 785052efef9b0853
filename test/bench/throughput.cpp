//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// How many tasks go through: W1 and W2 from outside, W3 from inside, W5 tasks of 10 us; and what a
// pool costs that has nothing to do.

#include "contenders.hpp"
#include "measure.hpp"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bench {
namespace {

// What a task does. A job is called with the task's id, and knows how many tasks have run.

/// Counts in the thread's own tally, which leaves the pool alone to be measured.
struct count_apart {
  explicit count_apart(const options&) {}
  void operator()(std::uint64_t id) const noexcept { count_task(id); }
  std::uint64_t done() const noexcept { return sum(&tally::tasks); }
  std::uint64_t id_sum() const noexcept { return sum(&tally::id_sum); }
};

/// Counts in one place for all, as a careless program does.
struct count_together {
  explicit count_together(const options&) {}
  void operator()(std::uint64_t id) noexcept {
    ids_.fetch_add(id, std::memory_order_relaxed);
    tasks_.fetch_add(1, std::memory_order_release);
  }
  std::uint64_t done() const noexcept { return tasks_.load(std::memory_order_acquire); }
  std::uint64_t id_sum() const noexcept { return ids_.load(std::memory_order_relaxed); }

private:
  alignas(128) std::atomic<std::uint64_t> tasks_{0};
  alignas(128) std::atomic<std::uint64_t> ids_{0};
};

/// Works, by default for 10 us.
struct work : count_apart {
  explicit work(const options& o) : count_apart(o), turns_(o.count("turns", turns_in(10us))) {}
  void operator()(std::uint64_t id) const noexcept {
    spin(turns_);
    count_task(id);
  }

private:
  std::uint64_t turns_;
};

template <class Pool>
void help(Pool& pool) {
  if constexpr (requires { pool.help(); }) pool.help();
}

/// Tasks have the ids 1 to n: if their number and their sum are right, each has run once.
template <class Job>
void check(const Job& job, std::uint64_t tasks) {
  if (job.done() != tasks || job.id_sum() != tasks * (tasks + 1) / 2)
    throw std::runtime_error(std::to_string(job.done()) + " of " + std::to_string(tasks) +
                             " tasks have run, or some have run twice");
}

/// Producers queue tasks that are ready when they are made. A tenth more goes before, to warm up.
template <class Pool, class Job, std::size_t Producers, std::size_t Tasks>
void from_outside(const options& o, report& r) {
  const auto each = task_count<Pool>(o, Tasks) / Producers, warm_up = each / 10;
  Job job(o);
  {
    Pool pool(o.threads());
    std::barrier phase(Producers + 1);
    std::vector<std::thread> producers;
    for (std::size_t p = 0; p < Producers; ++p)
      producers.emplace_back([&, id = p * (warm_up + each)]() mutable {
        for (auto n : {warm_up, each}) {
          phase.arrive_and_wait();
          for (; n != 0; --n) pool.run([&job, id = ++id] { job(id); });
          help(pool);
        }
      });
    phase.arrive_and_wait();
    wait_until([&] { return job.done() >= Producers * warm_up; });
    stopwatch watch;
    phase.arrive_and_wait();
    wait_until([&] { return job.done() >= Producers * (warm_up + each); });
    r.add_per_task(watch.read(), Producers * each);
    for (auto& p : producers) p.join();
  }
  check(job, Producers * (warm_up + each));
}

/// Node i of a heap posts its children 2i and 2i+1, down to the last.
template <class Pool, class Job>
struct tree {
  Pool& pool;
  Job& job;
  std::uint64_t last;

  void node(std::uint64_t id) {
    job(id);
    for (auto child : {2 * id, 2 * id + 1})
      if (child <= last) pool.run_inside([this, child] { node(child); });
  }

  void grow() {
    auto all = job.done() + last;
    pool.run([this] { node(1); });
    help(pool);
    wait_until([&] { return job.done() >= all; });
  }
};

template <class Pool, class Job>
void from_inside(const options& o, report& r) {
  const auto tasks = o.count("tasks", 1'000'000);
  Job job(o);
  std::uint64_t warmed_up = 0, ids_before = 0;
  {
    Pool pool(o.threads());
    tree<Pool, Job> warm_up{pool, job, tasks / 10};
    warm_up.grow();
    warmed_up = job.done(), ids_before = job.id_sum();
    tree<Pool, Job> measured{pool, job, tasks};
    stopwatch watch;
    measured.grow();
    r.add_per_task(watch.read(), tasks);
  }
  if (job.done() - warmed_up != tasks || job.id_sum() - ids_before != tasks * (tasks + 1) / 2)
    throw std::runtime_error("tasks were lost, or have run twice");
}

/// The same work in a bare loop on each of the threads.
void ideal_work(const options& o, report& r) {
  const auto each = o.count("tasks", 100'000) / o.threads();
  work job(o);
  std::barrier start(static_cast<std::ptrdiff_t>(o.threads() + 1));
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < o.threads(); ++t)
    threads.emplace_back([&] {
      start.arrive_and_wait();
      for (std::size_t i = 0; i < each; ++i) job(i);
    });
  start.arrive_and_wait();
  stopwatch watch;
  for (auto& t : threads) t.join();
  r.add_per_task(watch.read(), each * o.threads());
}

/// What a pool that has worked and is now out of work uses, in percent of a core.
template <class Pool>
void idle(const options& o, report& r) {
  Pool pool(o.threads());
  std::atomic<int> done{0};
  for (int i = 0; i < 1000; ++i) pool.run([&] { ++done; });
  help(pool);
  wait_until([&] { return done == 1000; });
  std::this_thread::sleep_for(500ms); // what it does on its way to sleep is not the question
  stopwatch watch;
  std::this_thread::sleep_for(std::chrono::duration<double>(o.get("seconds", 2)));
  auto used = watch.read();
  r.add("cpu_percent", 100 * used.cpu_ns / used.wall_ns);
}

template <class... Pool>
struct contenders {
  static constexpr measurement outside[] = {
      {"W1p", Pool::name, from_outside<Pool, count_apart, 1, 1'000'000>}...,
      {"W2p", Pool::name, from_outside<Pool, count_apart, 4, 1'000'000>}...,
      {"W1", Pool::name, from_outside<Pool, count_together, 1, 1'000'000>}...,
      {"W2", Pool::name, from_outside<Pool, count_together, 4, 1'000'000>}...};
  static constexpr measurement inside[] = {
      {"W3p", Pool::name, from_inside<Pool, count_apart>}...,
      {"W3", Pool::name, from_inside<Pool, count_together>}...};
  static constexpr measurement working[] = {
      {"W5", Pool::name, from_outside<Pool, work, 1, 100'000>}...};
  static constexpr measurement one_at_a_time[] = {
      {"W9o", Pool::name, from_outside<Pool, count_apart, 1, 1'000'000>}...,
      {"W9i", Pool::name, from_inside<Pool, count_apart>}...};
  static constexpr measurement in_lanes[] = {
      {"W2k", Pool::name, from_outside<Pool, count_apart, 4, 1'000'000>}...};
  static constexpr measurement idling[] = {{"idle", Pool::name, idle<Pool>}...};
};

} // namespace

std::vector<measurement> throughput() {
  std::vector<measurement> all{{"W5", "ideal", ideal_work}};
  append(all, contenders<bulkhead_submit, bulkhead_try_submit, bulkhead_post, asio_pool, tbb_group,
                         tbb_enqueue, moodycamel_queue, std_async>::outside);
  append(all, contenders<bulkhead_submit, bulkhead_post, bulkhead_post_lifo, asio_pool, tbb_group,
                         tbb_enqueue, moodycamel_queue>::inside);
  append(all, contenders<bulkhead_submit, asio_pool, tbb_group, tbb_enqueue, moodycamel_queue,
                         std_async>::working);
  append(all, contenders<bulkhead_submit, asio_pool, tbb_enqueue, moodycamel_queue>::idling);
  append(all, contenders<one_lane, sharded>::in_lanes);
  append(all, contenders<lane_on<bulkhead_pool>, lane_on<asio_pool>, strand_on<bulkhead_pool>,
                         strand_on<asio_pool>>::one_at_a_time);
  return all;
}

} // namespace bench
