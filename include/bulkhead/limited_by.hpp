//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_LIMITED_BY_HPP
#define BULKHEAD_LIMITED_BY_HPP

#include <bulkhead/detail/wait/adaptor.hpp>
#include <bulkhead/detail/wait/handler_wrapper.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/two_stage_cancellation.hpp>
#include <bulkhead/detail/wait/work_until_shutdown.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/limiter.hpp>
#include <bulkhead/permit.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

namespace bulkhead {

/// The completion token that limited_by() returns.
///
/// `Limiter` is a reference, or the type of a handle that is itself the limiter.
template <class Limiter, class Token>
class limited_by_t {
public:
  template <class L, class T>
  limited_by_t(L&& limiter, std::size_t weight, T&& token, const std::source_location& where)
      : limiter_(std::forward<L>(limiter)), weight_(weight), token_(std::forward<T>(token)),
        where_(where) {}

  Limiter limiter_;
  std::size_t weight_;
  Token token_;
  std::source_location where_;
};

/// Adapts a completion token, so that the operation runs under a permit: `weight` units of `limiter`
/// are acquired before it starts, and are back before the token's handler runs.
///
///     co_await socket.async_read_some(buffer, limited_by(reads, use_awaitable));
///
/// While no permit is to be had, the operation waits for it in the limiter's line; it starts as soon
/// as one is granted, inside the initiating function if that is at once. When the limiter refuses, the
/// operation is not started, and completes with the limiter's error and value-initialised results.
/// The permit is completed with the outcome that the operation's error stands for: none is
/// `success`, `operation_aborted` is `ignored`, `deadline_exceeded` is `dropped`, any other is
/// `failure`.
///
/// Adaptors stack. The one written innermost, next to the user's token, wraps the whole:
/// `limited_by(s, timeout(5s, t))` bounds waiting plus operation, `timeout(5s, limited_by(s, t))` only
/// the operation; `limited_by(a, limited_by(b, t))` acquires b, then a, and releases a, then b.
///
/// A limiter that is an lvalue is referred to, and has to live until the operation has begun to wait
/// or has started; a handle that is an rvalue is kept. The I/O object has to live until the operation has
/// started, or has completed without: what waits for its permit is not known to it, so neither its end
/// nor its cancel() or close() ends the wait; the token's cancellation slot does.
///
/// Completion signature  that of the operation, whose first argument has to be an error_code or an
///                       exception_ptr
/// Executor              the handler's, else the I/O object's if its initiation names that, else the
///                       limiter's. Allocator and immediate executor are the handler's as well, the
///                       latter also when the operation need not wait after its permit had to
/// Cancellation          while it waits for the permit: as the limiter's async_acquire; the operation
///                       is not started then, also if the permit was being granted just now, and
///                       completes with operation_aborted. Afterwards: as the operation's
/// Errors                those of the operation, and those of the limiter's async_acquire
/// Exception safety      what the operation's initiation throws leaves the initiating function, with
///                       the permit back; after a wait it arrives where the handler would run
/// Thread safety         that of the operation and of the limiter; a token is safe to copy and to use
///                       again, shared objects are safe for const access
/// Memory                what async_acquire needs. A connected cancellation slot costs one allocation
///                       more, which is not the handler's: the slot may outlive the handler. So does a
///                       wait whose I/O object belongs to another context than the handler's executor
template <class Limiter, class Token>
requires limiter<std::remove_cvref_t<Limiter>>
[[nodiscard]] auto limited_by(Limiter&& l, std::size_t weight, Token&& token,
                              const std::source_location& where = std::source_location::current()) {
  return limited_by_t<Limiter, std::decay_t<Token>>(std::forward<Limiter>(l), weight,
                                                    std::forward<Token>(token), where);
}

/// limited_by(limiter, 1, token)
template <class Limiter, class Token>
requires limiter<std::remove_cvref_t<Limiter>>
[[nodiscard]] auto limited_by(Limiter&& l, Token&& token,
                              const std::source_location& where = std::source_location::current()) {
  return limited_by(std::forward<Limiter>(l), 1, std::forward<Token>(token), where);
}

namespace detail {

/// The handler of the operation itself. It holds the permit.
template <class Handler>
class permitted_handler {
public:
  using wrapped_handler = Handler;
  using cancellation_slot_type = boost::asio::cancellation_slot;

  permitted_handler(Handler&& handler, permit&& p, std::shared_ptr<two_stage_cancellation>&& c)
      : handler_(std::move(handler)), permit_(std::move(p)), cancellation_(std::move(c)) {}

  cancellation_slot_type get_cancellation_slot() const noexcept {
    return cancellation_ ? cancellation_->second() : cancellation_slot_type();
  }

  const Handler& handler() const noexcept { return handler_; }

  template <class... T>
  void operator()(T&&... results) {
    permit_.complete(outcome_of(results...));
    std::move(handler_)(std::forward<T>(results)...);
  }

private:
  template <class T, class... U>
  static outcome outcome_of(const T& first, const U&...) noexcept {
    if constexpr (is_error<T>) {
      if (!has_failed(first)) return outcome::success;
      const error_code ec = code_of(first);
      if (is_abort(ec)) return outcome::ignored;
      return ec == errc::deadline_exceeded ? outcome::dropped : outcome::failure;
    } else {
      return outcome::success;
    }
  }
  static outcome outcome_of() noexcept { return outcome::success; }

  Handler handler_;
  permit permit_;
  std::shared_ptr<two_stage_cancellation> cancellation_;
};

/// Work on the executor of the I/O object, whose operation is yet to be started.
template <class Initiation>
class io_object_work {
public:
  template <class Handler>
  void begin(const Initiation&, const Handler&) noexcept {}
  void end() noexcept {}
};

template <names_executor Initiation>
class io_object_work<Initiation> {
public:
  /// Unless the handler's executor has work in the same context.
  template <class Handler>
  void begin(const Initiation& i, const Handler& handler) {
    const auto ex = i.get_executor();
    boost::asio::execution_context* const context = context_of(ex);
    if (context && context != context_of(boost::asio::get_associated_executor(handler, ex)))
      work_.begin(ex, *context);
  }

  void end() noexcept { work_.end(); }

private:
  work_until_shutdown<typename Initiation::executor_type> work_;
};

/// The handler of the acquisition, and with it the operation that is yet to be started.
template <class Handler, class Initiation, class Refusal, class... Args>
class permit_waiter;

template <class Handler, class Initiation, class Error, class... Results, class... Args>
class permit_waiter<Handler, Initiation, void(Error, Results...), Args...>
    : public adapted_initiation<Initiation> {
  using base = adapted_initiation<Initiation>;

public:
  using wrapped_handler = Handler;
  using cancellation_slot_type = boost::asio::cancellation_slot;

  template <class I, class... A>
  permit_waiter(Handler&& handler, I&& i, const std::source_location& where, A&&... args)
      : base{std::forward<I>(i)}, handler_(std::move(handler)), where_(where),
        args_(std::forward<A>(args)...),
        cancellation_(two_stage_cancellation::watch(
            boost::asio::get_associated_cancellation_slot(handler_))) {}

  cancellation_slot_type get_cancellation_slot() const noexcept {
    return cancellation_ ? cancellation_->first() : cancellation_slot_type();
  }

  const Handler& handler() const noexcept { return handler_; }

  const std::source_location& where() const noexcept { return where_; }

  /// The acquisition cannot complete at once.
  void begin_wait() { io_work_.begin(this->initiation, handler_); }

  /// The acquisition has completed, on the handler's executor.
  void operator()(error_code ec, permit p) {
    if (may_start(ec)) return start(std::move(p));
    p.release();
    io_work_.end();
    Error error{};
    set_error(error, ec);
    std::move(handler_)(std::move(error), Results()...);
  }

  /// It has completed inside the initiating function, where the handler must not run.
  template <class Executor>
  void complete_at_once(const Executor& ex, error_code ec, permit p) {
    if (may_start(ec)) return start(std::move(p));
    p.release();
    io_work_.end();
    Error error{};
    set_error(error, ec);
    auto own = boost::asio::get_associated_executor(*this, ex);
    complete_immediately(std::move(handler_), own, std::move(error), Results()...);
  }

private:
  /// A cancellation that came between the grant and the start is not lost.
  bool may_start(error_code& ec) noexcept {
    if (!ec && cancellation_ &&
        !cancellation_->begin_second(executor_of_coroutine<Args...>(this->initiation)))
      ec = boost::asio::error::operation_aborted;
    return !ec;
  }

  void start(permit p) {
    [[maybe_unused]] const auto until_started = std::move(io_work_);
    auto cancellation = cancellation_;
    std::apply(
        [&](Args&... args) {
          std::move(this->initiation)(permitted_handler<Handler>(std::move(handler_), std::move(p),
                                                                 std::move(cancellation_)),
                                      std::move(args)...);
        },
        args_);
    if (cancellation) two_stage_cancellation::second_has_begun(std::move(cancellation));
  }

  Handler handler_;
  std::source_location where_;
  std::tuple<Args...> args_;
  std::shared_ptr<two_stage_cancellation> cancellation_;
  io_object_work<Initiation> io_work_;
};

template <class Handler, class Initiation, class Refusal, class... Args>
inline constexpr bool is_permit_waiter<permit_waiter<Handler, Initiation, Refusal, Args...>> = true;

template <class Limiter, class Initiation, class Refusal>
class limited_initiation : public adapted_initiation<Initiation> {
  using base = adapted_initiation<Initiation>;

public:
  template <class L, class I>
  limited_initiation(L&& l, std::size_t weight, const std::source_location& where, I&& i)
      : base{std::forward<I>(i)}, limiter_(std::forward<L>(l)), weight_(weight), where_(where) {}

  template <class Handler, class... Args>
  void operator()(Handler&& handler, Args&&... args) && {
    begin(std::move(this->initiation), std::forward<Handler>(handler), std::forward<Args>(args)...);
  }

  template <class Handler, class... Args>
  void operator()(Handler&& handler, Args&&... args) const& {
    begin(this->initiation, std::forward<Handler>(handler), std::forward<Args>(args)...);
  }

private:
  template <class I, class Handler, class... Args>
  void begin(I&& i, Handler&& handler, Args&&... args) const {
    using waiter = permit_waiter<std::decay_t<Handler>, Initiation, Refusal, std::decay_t<Args>...>;
    auto l = limiter_; // it may go with the operation
    l.get().async_acquire(weight_, waiter(std::decay_t<Handler>(std::forward<Handler>(handler)),
                                          std::forward<I>(i), where_, std::forward<Args>(args)...));
  }

  Limiter limiter_;
  std::size_t weight_;
  std::source_location where_;
};

/// How an initiation keeps its limiter.
template <class Limiter>
class kept_limiter {
public:
  explicit kept_limiter(const Limiter& l) : limiter_(l) {}
  Limiter& get() noexcept { return limiter_; }

private:
  Limiter limiter_;
};

template <class Limiter>
class kept_limiter<Limiter&> {
public:
  explicit kept_limiter(Limiter& l) noexcept : limiter_(&l) {}
  Limiter& get() noexcept { return *limiter_; }

private:
  Limiter* limiter_;
};

} // namespace detail
} // namespace bulkhead

/// Its own executor, else that of the I/O object, and only then what the limiter offers.
template <class Handler, bulkhead::detail::names_executor Initiation, class Refusal, class... Args,
          class Candidate>
struct boost::asio::associated_executor<
    bulkhead::detail::permit_waiter<Handler, Initiation, Refusal, Args...>, Candidate> {
  using waiter = bulkhead::detail::permit_waiter<Handler, Initiation, Refusal, Args...>;
  using type = associated_executor_t<Handler, typename Initiation::executor_type>;

  static type get(const waiter& w) noexcept {
    return get_associated_executor(w.handler(), w.get_executor());
  }

  static type get(const waiter& w, const Candidate&) noexcept { return get(w); }
};

template <class Limiter, class Token, class... Signatures>
struct boost::asio::async_result<bulkhead::limited_by_t<Limiter, Token>, Signatures...> {
  static_assert(
      (bulkhead::detail::carries_error<Signatures> || ...),
      "limited_by: this operation completes without an error_code or exception_ptr, so it "
      "could not say that the limiter refused");

  template <class Initiation, class T, class... Args>
  static decltype(auto) initiate(Initiation&& initiation, T&& token, Args&&... args) {
    using refusal = typename bulkhead::detail::error_signature<Signatures...>::type;
    using kept = bulkhead::detail::kept_limiter<Limiter>;
    return bulkhead::detail::adapted_initiate<Signatures...>::call(
        bulkhead::detail::limited_initiation<kept, std::decay_t<Initiation>, refusal>(
            kept(token.limiter_), token.weight_, token.where_,
            std::forward<Initiation>(initiation)),
        std::forward<T>(token).token_, std::forward<Args>(args)...);
  }
};

#endif
