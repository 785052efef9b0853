//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_AWAIT_OPERATION_HPP
#define BULKHEAD_DETAIL_GROUP_AWAIT_OPERATION_HPP

#include <bulkhead/detail/group/suspended_coroutine.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/detail/wait/posting.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <concepts>
#include <exception>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// An operation that a coroutine waits for, and the coroutine meanwhile.
///
/// With use_awaitable the coroutine would belong to the operation's handler. An initiation that
/// throws would destroy it, and with it the only place that could catch what it threw.
template <class Operation, class Sink>
class awaited_operation {
public:
  /// Awaits `operation`, which is deferred, and gives its result to `sink`. It gets cancellations of
  /// every type.
  static boost::asio::awaitable<void> await(Operation operation, Sink* sink) {
    namespace this_coro = boost::asio::this_coro;
    awaited_operation self(*sink);
    co_await this_coro::reset_cancellation_state(boost::asio::enable_total_cancellation());
    const boost::asio::any_io_executor erased = co_await this_coro::executor;
    const gate_executor ex = *erased.target<gate_executor>(); // of whoever runs the child
    const boost::asio::cancellation_state cancellation = co_await this_coro::cancellation_state;
    auto start = [&](auto&& coroutine) {
      self.start(operation, std::forward<decltype(coroutine)>(coroutine), ex, cancellation.slot());
    };
    co_await boost::asio::async_initiate<const boost::asio::deferred_t, void()>(
        start, boost::asio::deferred);
    if (self.error_) std::rethrow_exception(std::move(self.error_));
  }

private:
  explicit awaited_operation(Sink& sink) noexcept : sink_(sink) {}

  template <class Handler>
  void start(Operation& operation, Handler&& coroutine, const gate_executor& ex,
             boost::asio::cancellation_slot slot) {
    coroutine_.hold(std::forward<Handler>(coroutine));
    is_starting_ = true;
    try {
      std::move(operation)(completion(*this, ex, slot));
    } catch (...) {
      error_ = std::current_exception();
      has_thrown_ = true;
    }
    is_starting_ = false;
    if (has_ended_ || (has_thrown_ && is_lost_))
      resume_later(ex);
    else if (is_lost_)
      coroutine_.destroy();
  }

  /// Not inside of what has thrown.
  void resume_later(gate_executor ex) {
    posting here(this);
    try {
      here.insist([&] { boost::asio::post(ex, resumption(*this)); });
    } catch (...) {
    }
    if (here.is_back()) coroutine_.destroy();
  }

  class completion {
  public:
    using executor_type = gate_executor;
    using cancellation_slot_type = boost::asio::cancellation_slot;

    completion(awaited_operation& o, const executor_type& ex, cancellation_slot_type slot) noexcept
        : operation_(&o), executor_(ex), slot_(slot) {}
    completion(completion&& other) noexcept
        : operation_(std::exchange(other.operation_, nullptr)),
          executor_(std::move(other.executor_)), slot_(other.slot_) {}
    ~completion() {
      if (operation_) operation_->lose(executor_);
    }

    executor_type get_executor() const noexcept { return executor_; }
    cancellation_slot_type get_cancellation_slot() const noexcept { return slot_; }

    void operator()() { finish(nullptr); }

    template <class... T>
    void operator()(std::exception_ptr error, T&&... value) {
      finish(std::move(error), std::forward<T>(value)...);
    }

    template <class... T>
    void operator()(error_code ec, T&&... value) {
      finish(ec ? to_exception_ptr(ec) : nullptr, std::forward<T>(value)...);
    }

    template <class T, class... U>
    requires(!std::convertible_to<T, std::exception_ptr> &&
             !std::convertible_to<T, error_code>) void
    operator()(T&& value, U&&... more) {
      finish(nullptr, std::forward<T>(value), std::forward<U>(more)...);
    }

  private:
    // Asio's spawn (1.81) calls its handler once more, which is moved from, if the first call throws.
    template <class... T>
    void finish(std::exception_ptr error, T&&... value) {
      if (auto* const operation = std::exchange(operation_, nullptr))
        operation->finish(std::move(error), std::forward<T>(value)...);
    }

    awaited_operation* operation_;
    executor_type executor_;
    cancellation_slot_type slot_;
  };

  /// Destroyed uninvoked, it destroys the coroutine.
  class resumption {
  public:
    explicit resumption(awaited_operation& o) noexcept : operation_(&o) {}
    resumption(resumption&& other) noexcept
        : operation_(std::exchange(other.operation_, nullptr)) {}
    ~resumption() {
      if (operation_ && !posting::takes_back(operation_)) operation_->coroutine_.destroy();
    }

    void operator()() { std::exchange(operation_, nullptr)->coroutine_.resume(); }

  private:
    awaited_operation* operation_;
  };

  template <class... T>
  void finish(std::exception_ptr error, T&&... value) {
    if (!has_thrown_) error_ = std::move(error);
    if (!error_) {
      try {
        sink_(std::forward<T>(value)...);
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    has_ended_ = true;
    if (!is_starting_) coroutine_.resume();
  }

  /// An initiation that throws need not have destroyed the handler by then: Asio's spawn (1.81) does it
  /// later.
  void lose(const gate_executor& ex) {
    if (is_starting_)
      is_lost_ = true;
    else if (has_thrown_)
      resume_later(ex);
    else
      coroutine_.destroy();
  }

  Sink& sink_;
  suspended_coroutine coroutine_;
  std::exception_ptr error_;
  bool is_starting_ = false;
  bool has_ended_ = false; // while it starts
  bool is_lost_ = false;   // likewise
  bool has_thrown_ = false;
};

} // namespace bulkhead::detail

#endif
