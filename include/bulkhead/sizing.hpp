//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_SIZING_HPP
#define BULKHEAD_SIZING_HPP

#include <bulkhead/detail/config.hpp>

#include <cstddef>

namespace bulkhead {

/// How many threads of this process can run at the same time, at least 1.
///
/// A container's share is not the machine's: `std::thread::hardware_concurrency()` knows neither
/// the affinity mask nor the CPU quota, and a pool sized by it is throttled. On Linux this is the
/// number of CPUs in the calling thread's affinity mask, or the CPU quota of the process where that
/// is less: the smallest of its cgroup and all ancestors in sight, rounded up to whole CPUs,
/// version 1 or 2. Elsewhere it is `hardware_concurrency()`.
///
/// Nothing is cached: a quota or mask that changes is seen by the next call.
///
/// Exception safety      throws `std::bad_alloc` only. A system without /proc or /sys has no quota
/// Thread safety         safe
/// Complexity            reads a few small files; call it at start, not per request
std::size_t available_parallelism();

/// The number of threads that the environment variable `name` asks for, `fallback` where it is
/// unset.
///
///     bulkhead::pool pool(bulkhead::threads_from_env("POOL_THREADS", 8));
///
/// A value that is set must be a whole decimal number from 1 to 65536 and nothing else: a typing
/// error stops the program at its start rather than give it a size that nobody chose.
///
/// Errors                throws `std::invalid_argument` that names the variable and its value:
///                       `POOL_THREADS must be a whole number of at least 1 (got "-3")`; or if there
///                       is no name. `fallback` is returned as it is
/// Thread safety         safe, as long as no other thread changes the environment
std::size_t threads_from_env(const char* name, std::size_t fallback);

} // namespace bulkhead

#if defined(BULKHEAD_HEADER_ONLY)
#include <bulkhead/impl/sizing.ipp>
#endif

#endif
