//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_FAULTS_HPP
#define BULKHEAD_TEST_PROOF_FAULTS_HPP

// What the areas share in which something throws.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

namespace proof {

/// A number that threads wait for, all for the same. It may be destroyed as soon as the wait is
/// over: they notify under the lock, and then never touch it again.
class counter {
public:
  void add(std::uint64_t n = 1) {
    std::lock_guard lock(mutex_);
    value_ += n;
    if (value_ >= wanted_) changed_.notify_all();
  }

  void wait_for(std::uint64_t n) {
    std::unique_lock lock(mutex_);
    wanted_ = n;
    changed_.wait(lock, [&] { return value_ >= n; });
  }

  std::uint64_t value() const {
    std::lock_guard lock(mutex_);
    return value_;
  }

private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t value_ = 0;
  std::uint64_t wanted_ = 0;
};

/// What is thrown here, and by nobody else.
struct fault {
  std::uint64_t which;
};

inline bool is_fault(const std::exception_ptr& e) noexcept {
  if (!e) return false;
  try {
    std::rethrow_exception(e);
  } catch (const fault&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// Which of many throw: one in a hundred, by the seed.
class dice {
public:
  explicit dice(std::uint64_t seed) noexcept : seed_(seed) {}

  bool throws(std::uint64_t which) const noexcept {
    std::uint64_t h = (seed_ + which) * 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 31)) * 0xbf58476d1ce4e5b9u;
    return ((h >> 32) * 100 >> 32) == 0;
  }

private:
  std::uint64_t seed_;
};

/// Whether `n` functions can run at one time on an executor: as many of its threads are alive.
template <class Post>
void expect_alive(std::size_t n, Post post) {
  struct meeting {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t missing;
  };
  const auto m = std::make_shared<meeting>();
  m->missing = n + 1;
  const auto come = [m] {
    std::unique_lock lock(m->mutex);
    if (--m->missing == 0) m->changed.notify_all();
    m->changed.wait(lock, [&] { return m->missing == 0; });
  };
  for (std::size_t i = 0; i != n; ++i) post(come);
  come();
}

} // namespace proof

#endif
