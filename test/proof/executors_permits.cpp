//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The operations of area "executors" that acquire permits.

#include "executors.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/timeout.hpp>

#include <chrono>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

using namespace proof::executors;
using bulkhead::limited_by;
using bulkhead::permit;
using bulkhead::semaphore;

struct acquire {
  semaphore s;
  permit held;

  acquire(const location& where, bool waits) : s(where.executor(), 1) {
    if (waits) held = s.try_acquire().value();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s.async_acquire(1, std::forward<Token>(token));
  }

  void proceed() { held.release(); }
  bool is_home() const { return at_object(); }
  void settle() const {
    while (!s.idle()) std::this_thread::yield();
  }
};

struct acquire_by_key {
  bulkhead::keyed<int> per_key;
  permit held;

  acquire_by_key(const location& where, bool waits)
      : per_key([ex = where.executor()](int) { return semaphore(ex, 1); }) {
    if (waits) held = per_key.try_acquire(7).value();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return per_key.async_acquire(7, std::forward<Token>(token));
  }

  void proceed() { held.release(); }
  bool is_home() const { return at_object(); }
  void settle() {
    while (!per_key[7]->idle()) std::this_thread::yield();
  }
};

struct acquire_within_time : acquire {
  using acquire::acquire;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s.async_acquire(1, bulkhead::timeout(std::chrono::hours(1), std::forward<Token>(token)));
  }
};

/// The limiter is elsewhere.
struct acquire_under_permit : acquire {
  semaphore limiter;

  acquire_under_permit(const location& where, bool waits)
      : acquire(where, false), limiter(where.elsewhere.executor, 1) {
    if (waits) held = limiter.try_acquire().value();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s.async_acquire(1, limited_by(limiter, std::forward<Token>(token)));
  }
};

struct acquire_under_permit_within_time : acquire_under_permit {
  using acquire_under_permit::acquire_under_permit;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s.async_acquire(1, limited_by(limiter, bulkhead::timeout(std::chrono::hours(1),
                                                                    std::forward<Token>(token))));
  }
};

const operation operations[] = {
    {"async_acquire", std::type_identity<acquire>()},
    {"keyed async_acquire", std::type_identity<acquire_by_key>()},
    {"timeout", std::type_identity<acquire_within_time>()},
    {"limited_by", std::type_identity<acquire_under_permit>()},
    {"limited_by with timeout", std::type_identity<acquire_under_permit_within_time>()}};

} // namespace
