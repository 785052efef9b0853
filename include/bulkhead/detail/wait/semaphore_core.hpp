//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_SEMAPHORE_CORE_HPP
#define BULKHEAD_DETAIL_WAIT_SEMAPHORE_CORE_HPP

#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/permit.hpp>

#include <boost/system/result.hpp>

#include <cstddef>
#include <memory>
#include <mutex>

namespace bulkhead::detail {

/// One waiting async_acquire.
class acquire_op : public list_hook<>, public operation<void(error_code, permit)> {
public:
  const std::size_t weight;
  wait_key key;

protected:
  acquire_op(const vtable& table, boost::asio::execution_context* handler_context,
             std::size_t w) noexcept
      : operation(table, handler_context), weight(w) {}
  ~acquire_op() = default;
};

/// A weighted semaphore without tokens and executors: who may proceed, and in which order.
///
/// One mutex, one queue, one predicate and one wake function. The predicate `may_proceed` is shared
/// by those who try and those who wait, so nobody is overtaken: while anyone waits, only the head
/// of the queue can be granted. `wake` runs on every path that may have freed the head,
/// cancellation of a waiter included, and grants from the head on for as long as it fits. What it
/// grants is collected under the lock and completed after it; a permit that was granted is never
/// reported as aborted, because granting takes the wait out of `keys_`, where cancel() looks.
class semaphore_core final : public permit_source,
                             public shutdown_target,
                             public std::enable_shared_from_this<semaphore_core> {
public:
  semaphore_core(std::size_t limit, std::size_t max_waiters) noexcept
      : limit_(limit), max_waiters_(max_waiters) {}

  ~semaphore_core();

  /// Subscribes with the context whose shutdown ends all waits.
  void attach(boost::asio::execution_context* context);

  boost::system::result<permit, rejection> try_acquire(std::size_t weight);

  /// The first step of a wait: grants or refuses at once (then `ec` and `p` are the result), or
  /// returns false.
  bool acquire_now(std::size_t weight, error_code& ec, permit& p);

  /// The second: makes a key for `op`, which is not yet reachable.
  wait_key reserve(acquire_op& op);

  /// Undoes it.
  void unreserve(acquire_op& op) noexcept;

  /// The third: queues `op`, unless it can be completed now. Consumes it.
  void enqueue(acquire_op& op) noexcept;

  void cancel(wait_key key, boost::asio::cancellation_type) noexcept;

  void release(std::size_t n);
  void resize(std::size_t limit);
  void close() noexcept;

  /// The semaphore is gone: waiters complete `operation_aborted`.
  void abandon() noexcept;

  std::size_t limit() const noexcept;
  std::size_t in_use() const noexcept;
  std::size_t available() const noexcept;
  std::size_t waiting() const noexcept;

  boost::asio::execution_context* context() const noexcept { return context_; }

private:
  using queue = intrusive_list<acquire_op>;
  enum class state { open, closed, abandoned, shut_down };

  void give_back(std::size_t weight, outcome) noexcept override;
  void forget(std::size_t weight) noexcept override;
  void on_context_shutdown(wait_key key) noexcept override;

  bool fits(std::size_t weight) const noexcept;
  bool may_proceed(std::size_t weight) const noexcept;
  error_code refusal(std::size_t weight) const noexcept;
  error_code end_of_waits() const noexcept;
  bool decide(std::size_t weight, error_code& ec, permit& p);
  void leave_queue(acquire_op& op) noexcept;
  acquire_op* take(wait_key key, queue& granted) noexcept;
  queue wake() noexcept;
  void complete_granted(queue granted) noexcept;
  void end(state s) noexcept;
  void complete_all(queue ops, error_code ec) noexcept;

  mutable std::mutex mutex_;
  std::size_t limit_;
  const std::size_t max_waiters_;
  std::size_t in_use_ = 0;
  std::size_t forgotten_ = 0;
  state state_ = state::open;
  queue waiters_;
  key_table<acquire_op> keys_;
  departures departing_; // what leave_queue() took out
  boost::asio::execution_context* context_ = nullptr;
  shutdown_subscription subscription_;
};

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/semaphore_core.ipp>
#endif

#endif
