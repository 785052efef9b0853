//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_SYNC_HPP
#define BULKHEAD_DETAIL_SYNC_HPP

// The only names under which the library uses atomics, mutexes, threads and what the system offers to
// sleep on. They are the standard library's, but for tests that try how threads may interleave: those
// define BULKHEAD_TEST_SYNC as the header that stands in.

#ifdef BULKHEAD_TEST_SYNC
#include BULKHEAD_TEST_SYNC
#else

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#ifdef __linux__
#include <cerrno>
#include <cstdint>
#include <ctime>

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__linux__) && defined(__LP64__)
#define BULKHEAD_HAS_FUTEX
#endif

namespace bulkhead::detail::sync {

template <class T>
using atomic = std::atomic<T>;
using condition_variable = std::condition_variable;
using mutex = std::mutex;
using thread = std::thread;
namespace this_thread = std::this_thread;

#ifdef BULKHEAD_HAS_FUTEX

inline bool futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
                  const std::timespec* deadline) noexcept {
  static_assert(sizeof(word) == sizeof(std::uint32_t));
  const int e = errno;
  const bool failed = ::syscall(SYS_futex, &word, operation, value, deadline, nullptr,
                                FUTEX_BITSET_MATCH_ANY) == -1;
  const bool timed_out = failed && errno == ETIMEDOUT;
  errno = e;
  return !timed_out;
}

/// Sleeps if `value` stands there still, until futex_wake(), or for no reason. False if it has timed
/// out. The deadline is one of CLOCK_MONOTONIC, which is steady_clock; null, there is none.
inline bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value,
                       const std::timespec* deadline) noexcept {
  return futex(word, FUTEX_WAIT_BITSET_PRIVATE, value, deadline);
}

/// Wakes one thread that sleeps there.
inline void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
  futex(word, FUTEX_WAKE_PRIVATE, 1, nullptr);
}

#endif

/// Whether barrier_for_all() will do anything. To be called before.
inline bool register_barrier() noexcept {
#ifdef __linux__
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
#else
  return false;
#endif
}

/// Runs a fence on every processor that runs a thread of this process.
inline void barrier_for_all() noexcept {
#ifdef __linux__
  ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
#endif
}

} // namespace bulkhead::detail::sync

#endif
#endif
