//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TIMEOUT_HPP
#define BULKHEAD_TIMEOUT_HPP

#include <bulkhead/detail/wait/adaptor.hpp>
#include <bulkhead/detail/wait/deadline.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/handler_wrapper.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>

#include <chrono>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace bulkhead {

/// The completion token that timeout() returns.
template <class Clock, class Token>
class timeout_t {
public:
  template <class T>
  timeout_t(typename Clock::duration duration, T&& token)
      : duration_(duration), token_(std::forward<T>(token)) {}

  typename Clock::duration duration_;
  Token token_;
};

/// Adapts a completion token, so that the operation is cancelled (`terminal`) when it has not
/// completed `duration` after its start, and then completes with `deadline_exceeded`.
///
///     auto n = co_await socket.async_read_some(buffer, timeout(5s, use_awaitable));
///
/// A success stays one, also if it comes late, and so does any error other than `operation_aborted`;
/// that one stays if the operation had been cancelled (`terminal`) from outside before the deadline.
/// An operation that cannot be cancelled is waited for. A duration of zero or less cancels the
/// operation as soon as it has started; one that is longer than the clock can tell never does. One that
/// is no number (NaN) throws std::invalid_argument, here.
///
/// Adaptors stack: the one written innermost, next to the user's token, wraps the whole.
/// `limited_by(s, timeout(5s, t))` bounds waiting for the permit plus the operation;
/// `timeout(5s, limited_by(s, t))` starts to count when the permit is there.
///
/// Completion signature  that of the operation, whose first argument has to be an error_code or an
///                       exception_ptr
/// Executor              the handler's, else the I/O object's if its initiation names that, else the
///                       system executor; it has to convert to any_io_executor. What the operation
///                       runs between its start and its completion, the deadline and the signals of
///                       the user pass one by one, on that executor, whatever its number of threads:
///                       so a signal may be emitted from any thread. A result that is there at once
///                       passes as well, so an immediate executor is not used. The allocator is the
///                       handler's
/// Cancellation          as the operation's. A signal that is emitted where that executor does not run
///                       reaches the operation on its way there, after emit(): the I/O object has to
///                       live until then
/// Errors                deadline_exceeded, and those of the operation
/// Thread safety         that of the operation; a token is safe to copy and to use again, shared
///                       objects are safe for const access
/// Memory                one allocation for the deadline, what Asio needs for a timer, and one more if a
///                       cancellation slot is connected; none of it is the handler's
///
/// `Clock` is for tests: a clock that they move.
template <class Clock = std::chrono::steady_clock, class Rep, class Period, class Token>
[[nodiscard]] auto timeout(std::chrono::duration<Rep, Period> duration, Token&& token) {
  if (duration != duration) throw std::invalid_argument("timeout: duration must be a number");
  return timeout_t<Clock, std::decay_t<Token>>(
      detail::saturated<typename Clock::duration>(duration), std::forward<Token>(token));
}

namespace detail {

/// The handler of the operation: it completes in the deadline's gate.
template <class Clock, class Handler>
class timed_handler {
public:
  using wrapped_handler = Handler;
  using executor_type = gate_executor;
  using cancellation_slot_type = boost::asio::cancellation_slot;

  timed_handler(Handler&& handler, gate_ptr<deadline<Clock>> d)
      : handler_(std::move(handler)), deadline_(std::move(d)) {}
  timed_handler(timed_handler&&) noexcept = default;
  ~timed_handler() {
    if (deadline_) deadline<Clock>::drop(std::move(deadline_));
  }

  executor_type get_executor() const noexcept { return gate_executor(*deadline_); }
  cancellation_slot_type get_cancellation_slot() const noexcept { return deadline_->slot(); }
  const Handler& handler() const noexcept { return handler_; }

  template <class T, class... U>
  void operator()(T&& first, U&&... more) {
    const bool missed = deadline_->finish();
    deadline_ = {};
    if constexpr (is_error<std::decay_t<T>>) {
      if (missed && is_abort(code_of(first))) {
        std::decay_t<T> error(std::forward<T>(first));
        set_error(error, errc::deadline_exceeded);
        return std::move(handler_)(std::move(error), std::forward<U>(more)...);
      }
    }
    std::move(handler_)(std::forward<T>(first), std::forward<U>(more)...);
  }

  void operator()() {
    deadline_->finish();
    deadline_ = {};
    std::move(handler_)();
  }

private:
  Handler handler_;
  gate_ptr<deadline<Clock>> deadline_;
};

template <class Clock, class Initiation>
class timed_initiation : public adapted_initiation<Initiation> {
  using base = adapted_initiation<Initiation>;

public:
  template <class I>
  timed_initiation(typename Clock::duration duration, I&& i)
      : base{std::forward<I>(i)}, duration_(duration) {}

  template <class Handler, class... Args>
  void operator()(Handler&& handler, Args&&... args) && {
    begin(std::move(this->initiation), std::forward<Handler>(handler), std::forward<Args>(args)...);
  }

  template <class Handler, class... Args>
  void operator()(Handler&& handler, Args&&... args) const& {
    begin(Initiation(this->initiation), std::forward<Handler>(handler),
          std::forward<Args>(args)...);
  }

private:
  template <class Handler, class... Args>
  void begin(Initiation&& i, Handler&& handler, Args&&... args) const {
    using handler_type = std::decay_t<Handler>;
    const gate_ptr<deadline<Clock>> d(
        new deadline<Clock>(executor_for(i, handler), executor_of_coroutine<Args...>(i)));
    d->run_first([&] {
      handler_type own(std::forward<Handler>(handler)); // first, for it may throw
      d->listen(boost::asio::get_associated_cancellation_slot(own));
      d->start(duration_);
      std::move(i)(timed_handler<Clock, handler_type>(std::move(own), d),
                   std::forward<Args>(args)...);
    });
  }

  template <class Handler>
  static boost::asio::any_io_executor executor_for(const Initiation& initiation,
                                                   const Handler& handler) {
    if constexpr (names_executor<Initiation>)
      return boost::asio::get_associated_executor(handler, initiation.get_executor());
    else
      return boost::asio::get_associated_executor(handler);
  }

  typename Clock::duration duration_;
};

} // namespace detail
} // namespace bulkhead

template <class Clock, class Token, class... Signatures>
struct boost::asio::async_result<bulkhead::timeout_t<Clock, Token>, Signatures...> {
  static_assert(
      (bulkhead::detail::carries_error<Signatures> || ...),
      "timeout: this operation completes without an error_code or exception_ptr, so it could "
      "not say that the deadline was exceeded");

  template <class Initiation, class T, class... Args>
  static decltype(auto) initiate(Initiation&& initiation, T&& token, Args&&... args) {
    return bulkhead::detail::adapted_initiate<Signatures...>::call(
        bulkhead::detail::timed_initiation<Clock, std::decay_t<Initiation>>(
            token.duration_, std::forward<Initiation>(initiation)),
        std::forward<T>(token).token_, std::forward<Args>(args)...);
  }
};

#endif
