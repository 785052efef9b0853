//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SEMAPHORE_CORE_IPP
#define BULKHEAD_IMPL_SEMAPHORE_CORE_IPP

#include <bulkhead/detail/wait/semaphore_core.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace bulkhead::detail {

BULKHEAD_DECL semaphore_core::semaphore_core(std::size_t limit, std::size_t max_waiters) noexcept
    : limit_(limit), max_waiters_(max_waiters) {
  open_units();
}

BULKHEAD_DECL semaphore_core::~semaphore_core() = default;

BULKHEAD_DECL void semaphore_core::attach(boost::asio::execution_context* context) {
  context_ = context;
  if (context) subscription_.subscribe(*context, shared_from_this());
}

/// Under the mutex.
BULKHEAD_DECL void semaphore_core::shut_units() noexcept {
  if (units_.is_shut()) return;
  const free_units::numbers n = units_.shut();
  in_use_ = limit_ - n.free;
  permits_ = n.permits;
}

/// Under the mutex: if nobody waits, and nothing else has to be decided here.
BULKHEAD_DECL void semaphore_core::open_units() noexcept {
  if (state_ != state::open || !waiters_.empty() || limit_ == 0 || in_use_ > limit_) return;
  const free_units::numbers n{limit_ - in_use_, permits_};
  if (free_units::can_hold({limit_, permits_})) units_.open(n);
}

BULKHEAD_DECL bool semaphore_core::fits(std::size_t weight) const noexcept {
  return limit_ > 0 && in_use_ <= limit_ && weight <= limit_ - in_use_;
}

BULKHEAD_DECL bool semaphore_core::may_proceed(std::size_t weight) const noexcept {
  return waiters_.empty() && fits(weight);
}

BULKHEAD_DECL error_code semaphore_core::end_of_waits() const noexcept {
  if (state_ == state::open) return {};
  if (state_ == state::closed) return errc::closed;
  return boost::asio::error::operation_aborted;
}

/// Why `weight` units cannot even be waited for.
BULKHEAD_DECL error_code semaphore_core::refusal(std::size_t weight) const noexcept {
  if (state_ != state::open) return end_of_waits();
  if (limit_ > 0 && weight > limit_) return errc::exceeds_limit;
  return {};
}

/// Under the mutex: grants or refuses what need not, or cannot, wait. False: it has to wait.
BULKHEAD_DECL bool semaphore_core::decide(std::size_t weight, error_code& ec, permit& p) {
  ec = refusal(weight);
  if (!ec && may_proceed(weight)) {
    in_use_ += weight;
    ++permits_;
    p = permit(*this, weight);
    return true;
  }
  if (!ec && waiters_.size() >= max_waiters_) ec = errc::queue_full;
  return static_cast<bool>(ec);
}

BULKHEAD_DECL boost::system::result<permit, rejection>
semaphore_core::try_acquire_locked(std::size_t weight) {
  error_code ec;
  permit p;
  {
    locked lock(*this);
    if (!decide(weight, ec, p)) ec = errc::queue_full;
  }
  if (ec) return rejection{ec, {}, "semaphore"};
  return p;
}

BULKHEAD_DECL bool semaphore_core::acquire_now_locked(std::size_t weight, error_code& ec,
                                                      permit& p) {
  locked lock(*this);
  return decide(weight, ec, p);
}

BULKHEAD_DECL wait_key semaphore_core::reserve(acquire_op& op) {
  std::lock_guard lock(mutex_);
  return op.key = keys_.insert(op);
}

BULKHEAD_DECL void semaphore_core::unreserve(acquire_op& op) noexcept {
  std::lock_guard lock(mutex_);
  keys_.erase(op.key);
}

BULKHEAD_DECL void semaphore_core::enqueue(acquire_op& op) noexcept {
  error_code ec;
  permit p;
  {
    locked lock(*this);
    if (!decide(op.weight, ec, p)) {
      waiters_.push_back(op);
      return;
    }
    keys_.erase(op.key);
    departing_.begin();
  }
  op.complete(ec, std::move(p));
  departing_.end(mutex_);
}

BULKHEAD_DECL void semaphore_core::leave_queue(acquire_op& op) noexcept {
  waiters_.erase(op);
  keys_.erase(op.key);
  departing_.begin();
}

BULKHEAD_DECL semaphore_core::queue semaphore_core::wake() noexcept {
  queue granted;
  while (!waiters_.empty() && fits(waiters_.front().weight)) {
    acquire_op& op = waiters_.front();
    leave_queue(op);
    in_use_ += op.weight;
    ++permits_;
    granted.push_back(op);
  }
  return granted;
}

BULKHEAD_DECL void semaphore_core::complete_granted(queue granted) noexcept {
  const std::size_t n = granted.size();
  while (!granted.empty()) {
    acquire_op& op = granted.pop_front();
    op.complete({}, permit(*this, op.weight));
  }
  departing_.end(mutex_, n);
}

BULKHEAD_DECL void semaphore_core::complete_all(queue ops, error_code ec) noexcept {
  const std::size_t n = ops.size();
  while (!ops.empty()) ops.pop_front().complete(ec, permit());
  departing_.end(mutex_, n);
}

/// Takes the wait `key` out of the queue, if it is still there, and grants those behind it.
BULKHEAD_DECL acquire_op* semaphore_core::take(wait_key key, queue& granted) noexcept {
  locked lock(*this);
  acquire_op* op = keys_.find(key);
  if (!op || !op->is_linked()) return nullptr;
  leave_queue(*op);
  granted = wake();
  return op;
}

BULKHEAD_DECL void semaphore_core::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  queue granted;
  if (acquire_op* op = take(key, granted)) {
    op->complete(boost::asio::error::operation_aborted, permit());
    departing_.end(mutex_);
  }
  complete_granted(std::move(granted));
}

/// Under the mutex: a permit has ended. The semaphore may be gone, so what is returned has to be kept
/// for as long as this object is used.
BULKHEAD_DECL std::shared_ptr<semaphore_core> semaphore_core::end_permit() noexcept {
  return --permits_ == 0 && self_ ? std::move(self_) : shared_from_this();
}

BULKHEAD_DECL void semaphore_core::give_back(std::size_t weight, outcome) noexcept {
  if (units_.give_back(weight)) return;
  std::shared_ptr<semaphore_core> self; // outlives the lock
  queue granted;
  {
    locked lock(*this);
    self = end_permit();
    in_use_ -= weight;
    granted = wake();
  }
  complete_granted(std::move(granted));
}

BULKHEAD_DECL void semaphore_core::forget(std::size_t weight) noexcept {
  std::shared_ptr<semaphore_core> self;
  locked lock(*this);
  self = end_permit();
  forgotten_ += weight;
}

BULKHEAD_DECL void semaphore_core::split() noexcept {
  if (units_.split()) return;
  locked lock(*this);
  ++permits_;
}

/// The other permit keeps this object alive.
BULKHEAD_DECL void semaphore_core::merge() noexcept {
  if (units_.merge()) return;
  locked lock(*this);
  --permits_;
}

BULKHEAD_DECL void semaphore_core::release(std::size_t n) {
  queue granted;
  {
    locked lock(*this);
    if (n > forgotten_)
      throw std::invalid_argument(
          "semaphore::release: n must be at most the " + std::to_string(forgotten_) +
          " units held by forgotten permits (got " + std::to_string(n) + ")");
    forgotten_ -= n;
    in_use_ -= n;
    granted = wake();
  }
  complete_granted(std::move(granted));
}

BULKHEAD_DECL void semaphore_core::resize(std::size_t limit) {
  queue granted;
  queue refused;
  {
    locked lock(*this);
    limit_ = limit;
    for (acquire_op* op = limit && !waiters_.empty() ? &waiters_.front() : nullptr; op;) {
      acquire_op* next = waiters_.next(*op);
      if (op->weight > limit) {
        leave_queue(*op);
        refused.push_back(*op);
      }
      op = next;
    }
    granted = wake();
  }
  complete_all(std::move(refused), errc::exceeds_limit);
  complete_granted(std::move(granted));
}

/// Ends all waits, each with the error that `s` stands for.
BULKHEAD_DECL void semaphore_core::end(state s) noexcept {
  queue ended;
  error_code ec;
  {
    locked lock(*this);
    state_ = (std::max)(state_, s);
    ec = end_of_waits();
    if (s == state::abandoned && permits_ != 0) self_ = shared_from_this();
    while (!waiters_.empty()) {
      acquire_op& op = waiters_.front();
      leave_queue(op);
      ended.push_back(op);
    }
  }
  if (s != state::shut_down) return complete_all(std::move(ended), ec);
  departing_.end(mutex_, ended.size());
  while (!ended.empty()) ended.pop_front().destroy();
  std::unique_lock lock(mutex_);
  departing_.wait(lock);
}

BULKHEAD_DECL void semaphore_core::close() noexcept { end(state::closed); }

BULKHEAD_DECL void semaphore_core::abandon() noexcept { end(state::abandoned); }

BULKHEAD_DECL void semaphore_core::on_context_shutdown(wait_key key) noexcept {
  if (!key) return end(state::shut_down);
  queue granted;
  if (acquire_op* op = take(key, granted)) {
    departing_.end(mutex_);
    op->destroy();
  }
  complete_granted(std::move(granted));
  std::unique_lock lock(mutex_);
  departing_.wait(lock);
}

BULKHEAD_DECL std::size_t semaphore_core::limit() const noexcept {
  std::lock_guard lock(mutex_);
  return limit_;
}

BULKHEAD_DECL std::size_t semaphore_core::in_use() const noexcept {
  std::lock_guard lock(mutex_);
  return units_.is_shut() ? in_use_ : limit_ - units_.load().free;
}

BULKHEAD_DECL std::size_t semaphore_core::available() const noexcept {
  std::lock_guard lock(mutex_);
  if (!units_.is_shut()) return units_.load().free;
  return in_use_ < limit_ ? limit_ - in_use_ : 0;
}

BULKHEAD_DECL std::size_t semaphore_core::waiting() const noexcept {
  std::lock_guard lock(mutex_);
  return waiters_.size();
}

} // namespace bulkhead::detail

#endif
