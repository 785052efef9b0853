//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "measure.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <thread>

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <time.h>

namespace bench {
namespace {

// std::async starts a thread for each task. Untouched pages of this array cost nothing.
constexpr std::size_t most_threads = 1 << 16;
constinit tally all_tallies[most_threads];
constinit std::atomic<std::size_t> threads_so_far{0};

double cpu_ns(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

double ns(clock::duration d) { return std::chrono::duration<double, std::nano>(d).count(); }

} // namespace

tally& enlist_this_thread() noexcept {
  auto index = threads_so_far.fetch_add(1);
  if (index >= most_threads) {
    std::fputs("bench: more threads than it can count\n", stderr);
    std::abort();
  }
  return all_tallies[index];
}

std::span<const tally> tallies() noexcept { return {all_tallies, threads_so_far.load()}; }

std::uint64_t sum(std::atomic<std::uint64_t> tally::*what) noexcept {
  auto all = tallies();
  return std::accumulate(all.begin(), all.end(), std::uint64_t(0),
                         [what](std::uint64_t n, const tally& t) {
                           return n + (t.*what).load(std::memory_order_acquire);
                         });
}

double process_cpu_ns() { return cpu_ns(CLOCK_PROCESS_CPUTIME_ID); }
double thread_cpu_ns() { return cpu_ns(CLOCK_THREAD_CPUTIME_ID); }

stopwatch::stopwatch()
    : wall_(clock::now()), cpu_(process_cpu_ns()), mallocs_(sum(&tally::mallocs)) {}

stopwatch::reading stopwatch::read() const {
  auto wall = ns(clock::now() - wall_);
  return {wall, process_cpu_ns() - cpu_, static_cast<double>(sum(&tally::mallocs) - mallocs_)};
}

options::options(std::span<char*> arguments) {
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    std::string name = arguments[i];
    char* end = nullptr;
    auto value = i + 1 < arguments.size() ? std::strtod(arguments[i + 1], &end) : 0;
    if (!name.starts_with("--") || !end || *end || end == arguments[i + 1])
      throw std::invalid_argument("not of the form --name number: " + name);
    values_[name.substr(2)] = value;
  }
}

double options::get(const std::string& name, double otherwise) const {
  auto it = values_.find(name);
  return it == values_.end() ? otherwise : it->second;
}

std::size_t options::count(const std::string& name, std::size_t otherwise) const {
  return static_cast<std::size_t>(get(name, static_cast<double>(otherwise)));
}

void report::add_per_task(const stopwatch::reading& r, std::size_t tasks) {
  auto n = static_cast<double>(tasks);
  add("tasks", n);
  add("wall_ns", r.wall_ns / n);
  add("cpu_ns", r.cpu_ns / n);
  add("mallocs", r.mallocs / n);
}

void report::add_distribution(std::vector<double>& samples_ns) {
  std::sort(samples_ns.begin(), samples_ns.end());
  auto nearest_rank = [&](double q) {
    return samples_ns[static_cast<std::size_t>(q * static_cast<double>(samples_ns.size() - 1))];
  };
  add("p50_ns", nearest_rank(0.5));
  add("p99_ns", nearest_rank(0.99));
  add("mean_ns", std::accumulate(samples_ns.begin(), samples_ns.end(), 0.0) /
                     static_cast<double>(samples_ns.size()));
}

void wait_until(const std::function<bool()>& done) {
  auto deadline = clock::now() + 2min;
  while (!done()) {
    if (clock::now() > deadline) throw std::runtime_error("not done after two minutes");
    std::this_thread::sleep_for(200us);
  }
}

std::uint64_t turns_in(std::chrono::nanoseconds duration) {
  constexpr std::uint64_t turns = 1'000'000;
  auto fastest = clock::duration::max();
  for (int i = 0; i < 10; ++i) {
    auto start = clock::now();
    spin(turns);
    fastest = std::min(fastest, clock::now() - start);
  }
  return static_cast<std::uint64_t>(ns(duration) * turns / ns(fastest));
}

std::vector<int> processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> all;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) all.push_back(i);
  return all;
}

void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    throw std::runtime_error("cannot bind a thread to a processor");
}

} // namespace bench

// Everything that allocates comes through here: operator new, Asio, other libraries. What is freed
// need not be counted.

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

static void count_malloc() noexcept { bench::tally::add(bench::this_thread().mallocs, 1); }

void* malloc(std::size_t n) noexcept {
  count_malloc();
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) noexcept {
  count_malloc();
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) noexcept {
  count_malloc();
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) noexcept {
  count_malloc();
  return __libc_memalign(alignment, n);
}
void* memalign(std::size_t alignment, std::size_t n) noexcept {
  return aligned_alloc(alignment, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) noexcept {
  *p = aligned_alloc(alignment, n);
  return *p ? 0 : ENOMEM;
}
}
