//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_STATS_HPP
#define BULKHEAD_STATS_HPP

#include <cstddef>
#include <cstdint>

namespace bulkhead {

/// A snapshot of a pool, taken at one moment.
///
/// Once nothing is queued, waiting or running:
/// `submitted == completed + failed + rejected + cancelled`.
struct pool_stats {
  std::size_t threads = 0; // worker threads alive
  std::size_t idle = 0;    // of them, waiting for work or for I/O
  std::size_t running = 0; // submissions that have started and not ended
  std::size_t queued = 0;  // submissions admitted and not started
  std::size_t waiting = 0; // submitters waiting for room

  std::uint64_t submitted = 0; // attempts, refused ones included
  std::uint64_t completed = 0; // ended without an exception
  std::uint64_t failed = 0;    // ended with one
  std::uint64_t rejected = 0;  // never admitted, for lack of room or because the pool closed
  std::uint64_t cancelled = 0; // ended before they started, by cancellation or stop()

  std::uint64_t continuations = 0; // functions that came through the executor
  std::uint64_t exceptions = 0;    // exceptions handed to on_exception

  std::uint64_t expired_workers = 0; // threads that ended because they were idle for idle_expiry
  std::uint64_t resizes = 0;         // calls of resize()
};

/// What pool::drain_for() found.
struct drain_report {
  std::size_t completed = 0; // submissions that ended during the drain, however they ended
  std::size_t abandoned = 0; // admitted submissions that never started
};

} // namespace bulkhead

#endif
