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

[[noreturn]] inline void invalid_option(const char* option, const char* must, std::string got) {
  std::string what = "pool_options::";
  what.append(option).append(" must be ").append(must).append(" (got ").append(got).append(")");
  throw std::invalid_argument(what);
}

inline scheduler::options checked(pool_options&& o, state_source* states) {
  if (o.threads == 0) invalid_option("threads", "at least 1", "0");
  if (o.queue_limit == 0) invalid_option("queue_limit", "at least 1", "0");
  if (o.min_threads > o.threads)
    invalid_option("min_threads", ("at most threads, " + std::to_string(o.threads)).c_str(),
                   std::to_string(o.min_threads));
  if (o.idle_expiry.count() <= 0)
    invalid_option("idle_expiry", "more than 0 ns", std::to_string(o.idle_expiry.count()));
  if (o.order != submission_order::fifo && o.order != submission_order::lifo)
    invalid_option("order", "fifo or lifo", std::to_string(static_cast<int>(o.order)));
  return {o.threads,
          o.min_threads == 0 ? o.threads : o.min_threads,
          o.idle_expiry,
          o.queue_limit,
          o.waiter_limit,
          o.order == submission_order::lifo,
          std::move(o.name),
          std::move(o.on_exception),
          std::move(o.on_worker_start),
          std::move(o.on_worker_stop),
          states};
}

} // namespace detail

BULKHEAD_DECL pool::pool(pool_options options) : pool(std::move(options), nullptr) {}

BULKHEAD_DECL pool::pool(pool_options options, detail::state_source* states)
    : scheduler_(std::make_shared<detail::scheduler>(*this, *this,
                                                     detail::checked(std::move(options), states))) {
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

BULKHEAD_DECL void pool::resize(std::size_t threads) {
  if (threads == 0) throw std::invalid_argument("pool::resize: threads must be at least 1 (got 0)");
  scheduler_->resize(threads);
}

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
  scheduler_->wait_for_departures();
  scheduler_->discard_all();
  shutdown();
  scheduler_->discard_all();
  scheduler_->let_io_context_go();
  destroy();
}

} // namespace bulkhead

#endif
