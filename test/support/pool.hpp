//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_POOL_HPP
#define BULKHEAD_TEST_SUPPORT_POOL_HPP

#include "run.hpp"

#include <bulkhead/pool.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <thread>

#include <pthread.h>

namespace test {

/// Keeps workers of a pool busy until it is opened. To be declared after the pool.
class plug {
public:
  plug() = default;

  explicit plug(bulkhead::pool& p, std::size_t workers = 1) { hold(p, workers); }

  ~plug() { open(); }
  plug(const plug&) = delete;
  plug& operator=(const plug&) = delete;

  /// Returns when `workers` workers of `p` do nothing but wait.
  void hold(bulkhead::pool& p, std::size_t workers = 1) {
    for (std::size_t i = 0; i != workers; ++i)
      p.submit([s = state_] {
        s->started.add();
        s->g.wait();
      });
    held_ += static_cast<long>(workers);
    state_->started.wait_for(held_);
  }

  void open() { state_->g.open(); }

private:
  struct state {
    gate g;
    counter started;
  };

  std::shared_ptr<state> state_ = std::make_shared<state>();
  long held_ = 0;
};

/// Waits, without a clock, until another thread has brought something about.
template <class Predicate>
void wait_until(Predicate done) {
  while (!done()) std::this_thread::yield();
}

inline std::string thread_name() {
  char name[32] = {};
  pthread_getname_np(pthread_self(), name, sizeof name);
  return name;
}

/// Expects `n` threads beside those of the test itself. A thread that was joined may remain visible
/// for a moment.
inline void expect_threads(long n) {
  wait_until([n] { return thread_count() == threads_at_rest + n; });
}

inline bool balanced(const bulkhead::pool_stats& s) {
  return s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

} // namespace test

#endif
