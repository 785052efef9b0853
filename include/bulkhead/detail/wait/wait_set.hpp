//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_WAIT_SET_HPP
#define BULKHEAD_DETAIL_WAIT_WAIT_SET_HPP

#include <bulkhead/detail/wait/abort.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/cancellation_type.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>

namespace bulkhead::detail {

/// Operations that wait for one event and complete together: a drain, a join.
///
/// The set knows nothing of the condition. Its owner adds a waiter first and looks at the condition
/// afterwards, and takes all waiters in one step with finding the condition true; so none is
/// missed, and none completes too early.
///
/// `Result` is error_code or exception_ptr; the completion signature is `void(Result)`.
template <class Result>
class wait_set final : public shutdown_target,
                       public std::enable_shared_from_this<wait_set<Result>> {
public:
  class waiter : public list_hook<>, public operation<void(Result)> {
  public:
    wait_key key;

  protected:
    using operation<void(Result)>::operation;
    ~waiter() = default;
  };

  /// Subscribes with the context whose shutdown ends all waits.
  void attach(boost::asio::execution_context* context) {
    context_ = context;
    if (context) subscription_.subscribe(*context, this->shared_from_this());
  }

  boost::asio::execution_context* context() const noexcept { return context_; }

  wait_key reserve(waiter& op) {
    std::lock_guard lock(mutex_);
    return op.key = keys_.insert(op);
  }

  void unreserve(waiter& op) noexcept {
    std::lock_guard lock(mutex_);
    keys_.erase(op.key);
  }

  void enqueue(waiter& op) noexcept {
    std::lock_guard lock(mutex_);
    waiters_.push_back(op);
  }

  void cancel(wait_key key, boost::asio::cancellation_type) noexcept {
    if (waiter* op = take(key)) {
      op->complete(aborted());
      departing_.end();
    }
  }

  using list = intrusive_list<waiter>;

  /// Takes the waiters out, to be given to complete() under no lock.
  list take_all() noexcept {
    std::lock_guard lock(mutex_);
    list all(std::move(waiters_));
    for (waiter* op = all.empty() ? nullptr : &all.front(); op; op = all.next(*op))
      keys_.erase(op->key);
    departing_.begin(all.size());
    return all;
  }

  void complete(list all, const Result& result) noexcept {
    const std::size_t n = all.size();
    while (!all.empty()) all.pop_front().complete(result);
    departing_.end(n);
  }

  /// As complete(), but handlers that would run on `own` are destroyed instead.
  void complete_elsewhere(list all, const boost::asio::execution_context& own,
                          const Result& result) noexcept {
    list here;
    list elsewhere;
    while (!all.empty()) {
      waiter& op = all.pop_front();
      (op.handler_context() == &own ? here : elsewhere).push_back(op);
    }
    complete(std::move(elsewhere), result);
    for (waiter* op = here.empty() ? nullptr : &here.front(); op; op = here.next(*op)) op->retire();
    departing_.end(here.size());
    while (!here.empty()) here.pop_front().destroy();
  }

private:
  waiter* take(wait_key key) noexcept {
    std::lock_guard lock(mutex_);
    waiter* op = keys_.find(key);
    return op && op->is_linked() ? &take(*op) : nullptr;
  }

  /// A handler that is destroyed may end any context: so it has arrived before, and those that still
  /// wait are in the list.
  void destroy(waiter& op) noexcept {
    op.retire();
    departing_.end();
    op.destroy();
  }

  waiter* take_first() noexcept {
    std::lock_guard lock(mutex_);
    return waiters_.empty() ? nullptr : &take(waiters_.front());
  }

  /// Under the mutex.
  waiter& take(waiter& op) noexcept {
    waiters_.erase(op);
    keys_.erase(op.key);
    departing_.begin();
    return op;
  }

  void on_context_shutdown(wait_key key) noexcept override {
    if (key) {
      if (waiter* op = take(key)) destroy(*op);
    } else {
      while (waiter* op = take_first()) destroy(*op);
    }
    departing_.wait();
  }

  spin_lock mutex_;
  list waiters_;
  key_table<waiter> keys_;
  light_departures departing_;
  boost::asio::execution_context* context_ = nullptr;
  shutdown_subscription subscription_;
};

} // namespace bulkhead::detail

#endif
