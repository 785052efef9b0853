//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_PROOF_HPP
#define BULKHEAD_TEST_PROOF_PROOF_HPP

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>

// What test/reliability tries. Every area is a row of its table and a run of `proof` of its own, so
// that one which crashes or hangs is a row that failed. Beside some of them stands a peer, to which the
// same is done, also in a process of its own.
//
// An area is a function and one object that names it:
//
//   void run(const proof::load& load, proof::tally& tally) { ... }
//   const proof::area pool("pool", "each handler runs exactly once", &run);

namespace proof {

/// How much is to be tried, and from which seed.
struct load {
  bool full;
  std::uint64_t seed;

  /// One of two amounts: what CI has time for, or what the area is meant to stand.
  std::uint64_t either(std::uint64_t quick_amount, std::uint64_t full_amount) const noexcept {
    return full ? full_amount : quick_amount;
  }

  /// A generator whose numbers follow from the seed and `which`.
  std::mt19937_64 generator(std::uint64_t which = 0) const {
    return std::mt19937_64(seed * 0x9e3779b97f4a7c15u + which);
  }
};

/// What was tried and what went wrong. Several threads may count at a time.
class tally {
public:
  /// Counts what has been tried.
  void add(std::uint64_t n = 1) noexcept { tried_.fetch_add(n, std::memory_order_relaxed); }

  /// `n` things were lost, doubled, or otherwise not as they ought to be. The first few are printed.
  void lose(std::uint64_t n, const std::string& what);

  /// Counts one trial, and a loss unless `good`.
  bool expect(bool good, const std::string& what) {
    add();
    if (!good) lose(1, what);
    return good;
  }

  /// Words for the table: figures of this area only.
  void note(std::string words);

  std::uint64_t tried() const noexcept { return tried_.load(); }
  std::uint64_t lost() const noexcept { return lost_.load(); }
  std::string notes() const;

private:
  std::atomic<std::uint64_t> tried_{0};
  std::atomic<std::uint64_t> lost_{0};
  mutable std::mutex mutex_;
  std::string notes_;
  int printed_ = 0;
};

/// While it lives, a process in which nothing has been counted for a minute is one that hangs: it ends,
/// with a row that has failed and says what was being tried.
class watchdog {
public:
  explicit watchdog(tally& t);
  ~watchdog();
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;

  /// What is being tried from now on.
  void at(std::string what);

private:
  void watch();

  tally& tally_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string what_;
  std::uint64_t steps_ = 0;
  bool over_ = false;
  std::thread thread_;
};

/// A row of the table. To be defined as a constant at namespace scope.
class area {
public:
  using function = void (*)(const load&, tally&);

  area(std::string_view name, std::string_view passes_when, function run);

  std::string_view name;
  std::string_view passes_when;
  function run;
};

/// The same load or fault on something else, which says on stdout in a few words what came of it. If
/// it does not come to that, the table says what became of its process.
class peer {
public:
  using function = void (*)();

  /// `area_name` is the row in which it stands.
  peer(std::string_view area_name, std::string_view name, function run);

  std::string_view area_name;
  std::string_view name;
  function run;
};

} // namespace proof

#endif
