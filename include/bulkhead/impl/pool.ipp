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

/// What a number of threads must be and is not; else null. A number below 0 that has become a size_t
/// is among those.
inline const char* wrong_threads(std::size_t n) noexcept {
  if (n == 0) return "at least 1";
  return n > 65536 ? "at most 65536" : nullptr;
}

inline scheduler::options checked(pool_options&& o, state_source* states) {
  if (const char* must = wrong_threads(o.threads))
    invalid_option("threads", must, std::to_string(o.threads));
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

BULKHEAD_DECL detail::when_full pool::caller_runs(on_full policy) {
  if (policy != on_full::caller_runs)
    throw std::invalid_argument(
        "pool::submit: policy must be block, caller_runs or reject (got " +
        std::to_string(static_cast<int>(policy)) + ")");
  return detail::when_full::run_here;
}

BULKHEAD_DECL void pool::resize(std::size_t threads) {
  if (const char* must = detail::wrong_threads(threads))
    throw std::invalid_argument(std::string("pool::resize: threads must be ") + must + " (got " +
                                std::to_string(threads) + ")");
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
