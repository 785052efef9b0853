//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_BENCH_MEASURE_HPP
#define BULKHEAD_BENCH_MEASURE_HPP

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// What one thread has done. Only that thread writes it, so counting costs a store to a line that
/// no other core owns.
struct alignas(128) tally {
  std::atomic<std::uint64_t> tasks{0};
  std::atomic<std::uint64_t> id_sum{0};
  std::atomic<std::uint64_t> mallocs{0};

  static void add(std::atomic<std::uint64_t>& to, std::uint64_t n) noexcept {
    to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_release);
  }
};

/// The tallies of all threads so far, ended ones included.
std::span<const tally> tallies() noexcept;

tally& enlist_this_thread() noexcept;

inline constinit thread_local tally* own_tally = nullptr;

inline tally& this_thread() noexcept {
  if (!own_tally) [[unlikely]]
    own_tally = &enlist_this_thread();
  return *own_tally;
}

/// Called by each task, or by its shared counterpart, with an id of its own.
inline void count_task(std::uint64_t id) noexcept {
  tally& t = this_thread();
  tally::add(t.id_sum, id);
  tally::add(t.tasks, 1);
}

std::uint64_t sum(std::atomic<std::uint64_t> tally::*what) noexcept;

/// Wall time, CPU time of the process and calls of malloc since it was made.
class stopwatch {
public:
  struct reading {
    double wall_ns, cpu_ns, mallocs;
  };

  stopwatch();
  reading read() const;

private:
  clock::time_point wall_;
  double cpu_;
  std::uint64_t mallocs_;
};

double process_cpu_ns();
double thread_cpu_ns();

/// What `--name value` said on the command line.
class options {
public:
  explicit options(std::span<char*> arguments);
  double get(const std::string& name, double otherwise) const;
  std::size_t count(const std::string& name, std::size_t otherwise) const;
  std::size_t threads() const { return count("threads", 2); }

private:
  std::map<std::string, double> values_;
};

/// The figures of one measurement, in the order in which they are printed.
class report {
public:
  void add(std::string name, double value) { figures_.emplace_back(std::move(name), value); }

  /// Wall and CPU ns and mallocs, per task.
  void add_per_task(const stopwatch::reading& r, std::size_t tasks);

  /// Median, 99th percentile and mean, as `p50_ns`, `p99_ns`, `mean_ns`. Sorts the samples.
  void add_distribution(std::vector<double>& samples_ns);

  std::span<const std::pair<std::string, double>> figures() const { return figures_; }

private:
  std::vector<std::pair<std::string, double>> figures_;
};

/// One row of a family: what `bench WORKLOAD CONTENDER` runs.
struct measurement {
  std::string_view workload, contender;
  void (*run)(const options&, report&);
};

inline void append(std::vector<measurement>& to, std::span<const measurement> rows) {
  to.insert(to.end(), rows.begin(), rows.end());
}

std::vector<measurement> throughput();
std::vector<measurement> latency();
std::vector<measurement> semaphores();
std::vector<measurement> groups();
std::vector<measurement> io();
std::vector<measurement> spawns();

/// Sleeps until `done`, or throws after two minutes. Polling is rare, to leave the cores to the pool.
void wait_until(const std::function<bool()>& done);

/// Keeps the core busy. A fixed number of turns is a fixed amount of work, whoever else runs.
inline void spin(std::uint64_t turns) noexcept {
  for (; turns != 0; --turns) asm volatile("" : "+r"(turns));
}

/// How many turns of spin() take that long.
std::uint64_t turns_in(std::chrono::nanoseconds duration);

inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// The processors that this process may run on.
std::vector<int> processors();

/// Binds this thread, and those that it will start, to one processor.
void pin(int processor);

} // namespace bench

#endif
