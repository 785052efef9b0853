//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_POOL_IPP
#define BULKHEAD_IMPL_POOL_IPP

#include <bulkhead/pool.hpp>

#include <cstdio>
#include <stdexcept>

namespace bulkhead {
namespace detail {

inline void require_at_least_one(const char* option, std::size_t value) {
  if (value == 0)
    throw std::invalid_argument(std::string("pool_options::") + option +
                                " must be at least 1 (got 0)");
}

inline scheduler::options checked(pool_options&& o) {
  require_at_least_one("threads", o.threads);
  require_at_least_one("queue_limit", o.queue_limit);
  scheduler::options s{};
  s.threads = s.min_threads = o.threads;
  s.idle_expiry = std::chrono::nanoseconds::max();
  s.queue_limit = o.queue_limit;
  s.waiter_limit = o.waiter_limit;
  s.name = std::move(o.name);
  s.on_exception = std::move(o.on_exception);
  return s;
}

} // namespace detail

BULKHEAD_DECL pool::pool(pool_options options)
    : scheduler_(
          std::make_shared<detail::scheduler>(*this, *this, detail::checked(std::move(options)))) {
  try {
    scheduler_->start();
  } catch (...) {
    end();
    throw;
  }
}

BULKHEAD_DECL pool::pool(std::size_t threads)
    : pool([&] {
        pool_options o;
        o.threads = threads;
        return o;
      }()) {}

BULKHEAD_DECL pool::~pool() {
  if (scheduler_->running_in_this_thread()) {
    std::fputs("bulkhead: a pool must not be destroyed on one of its own workers\n", stderr);
    std::terminate();
  }
  stop();
  join();
  end();
}

/// The services, and the handlers in them, end before anything that their destructors may need.
BULKHEAD_DECL void pool::end() noexcept {
  scheduler_->discard_all();
  shutdown();
  scheduler_->discard_all();
  scheduler_->let_io_context_go();
  destroy();
}

} // namespace bulkhead

#endif
