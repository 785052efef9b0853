//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_SUBMISSION_HPP
#define BULKHEAD_DETAIL_RUN_SUBMISSION_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/execution_context.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// One async_submit, as an engine that runs functions sees it: a function that runs on a thread of the
/// engine's, and a handler that completes wherever it belongs. It ends with exactly one call of
/// finish(), abort() or discard().
class submission {
public:
  /// Runs the function, keeps its result and destroys the function. Says whether it did not throw.
  virtual bool run() noexcept = 0;

  /// Completes the handler with what run() kept.
  virtual void finish() noexcept = 0;

  /// Completes the handler with `ec`; the function is destroyed without having run.
  virtual void abort(error_code ec) noexcept = 0;

  /// See operation::retire().
  virtual void retire() noexcept = 0;

  /// Destroys both.
  virtual void discard() noexcept = 0;

  /// The context in which the handler would run.
  virtual const boost::asio::execution_context* home() const noexcept = 0;

  wait_key key;
  std::stop_source stop{std::nostopstate};

protected:
  ~submission() = default;
};

template <class R>
struct submit_signature_of {
  using type = void(std::exception_ptr, R);
};
template <>
struct submit_signature_of<void> {
  using type = void(std::exception_ptr);
};

template <class F>
using submit_signature = typename submit_signature_of<callable_result<std::decay_t<F>>>::type;

template <class F>
constexpr void check_submittable() {
  using function = kept<F>;
  static_assert(
      std::invocable<function&> || std::invocable<function&, std::stop_token>,
      "pools and lanes run functions that can be called with nothing or with a std::stop_token");
  static_assert(
      !is_coroutine<callable_result<function>>,
      "pools and lanes run functions, not coroutines: give this one to a bulkhead::task_group or "
      "to asio::co_spawn");
}

/// An async_submit: the function, its result, and (in waiting_operation) the handler. `Op` is the
/// engine's submission.
template <class Op, class F, class... R>
class submit_waiter : public Op, public operation<void(std::exception_ptr, R...)> {
  using base = operation<void(std::exception_ptr, R...)>;

protected:
  template <class G>
  submit_waiter(const typename base::vtable& table, boost::asio::execution_context* handler_context,
                G&& f)
      : base(table, handler_context), function_(std::in_place, std::forward<G>(f)) {
    if constexpr (std::invocable<F&, std::stop_token>) this->stop = std::stop_source();
  }
  ~submit_waiter() = default;

private:
  bool run() noexcept override {
    try {
      result_.emplace(call());
    } catch (...) {
      error_ = std::current_exception();
    }
    function_.reset();
    return !error_;
  }

  std::tuple<R...> call() {
    if constexpr (sizeof...(R) == 0) {
      invoke_with_stop_token(*function_, this->stop);
      return {};
    } else {
      return std::tuple<R...>(invoke_with_stop_token(*function_, this->stop));
    }
  }

  void finish() noexcept override {
    if (!result_) return base::complete(std::move(error_), R()...);
    std::apply(
        [this](R&... value) {
          // complete() ends this object, so the values leave it first.
          std::tuple<R...> values(std::move(value)...);
          std::apply([this](R&... v) { base::complete(nullptr, std::move(v)...); }, values);
        },
        *result_);
  }

  void abort(error_code ec) noexcept override {
    function_.reset();
    base::complete(to_exception_ptr(ec), R()...);
  }

  void retire() noexcept override { base::retire(); }
  void discard() noexcept override { base::destroy(); }

  const boost::asio::execution_context* home() const noexcept override {
    return base::handler_context();
  }

  std::optional<F> function_;
  std::optional<std::tuple<R...>> result_;
  std::exception_ptr error_;
};

template <class Op, class F, class Signature>
struct submit_waiter_for;
template <class Op, class F, class... R>
struct submit_waiter_for<Op, F, void(std::exception_ptr, R...)> {
  using type = submit_waiter<Op, F, R...>;

  static_assert((!std::is_reference_v<R> && ...), "the result of f must not be a reference");
  static_assert(
      (std::default_initializable<R> && ...),
      "the result of f must be default-constructible: it is what arrives beside an error");
  static_assert((std::move_constructible<R> && ...), "the result of f must be movable");
};

/// `Engine` has what begin_wait() asks for, `submission_type`, and refuse_now().
template <class Engine, class Executor>
class initiate_submit {
public:
  using executor_type = Executor;

  initiate_submit(const Executor& ex, std::shared_ptr<Engine> engine)
      : executor_(ex), engine_(std::move(engine)) {}

  executor_type get_executor() const noexcept { return executor_; }

  template <class Handler, class F>
  void operator()(Handler&& handler, F&& f) const {
    using handler_type = std::decay_t<Handler>;
    using function = std::decay_t<F>;
    using signature = submit_signature<function>;
    handler_type mine(std::forward<Handler>(handler));
    start<handler_type, function>(static_cast<signature*>(nullptr), mine, std::forward<F>(f));
  }

private:
  template <class Handler, class Function, class F, class... R>
  void start(void (*)(std::exception_ptr, R...), Handler& handler, F&& f) const {
    using signature = void(std::exception_ptr, R...);
    using waiter =
        typename submit_waiter_for<typename Engine::submission_type, Function, signature>::type;
    using op = waiting_operation<waiter, Handler, Executor, signature>;
    error_code ec;
    if (engine_->refuse_now(ec)) {
      complete_immediately(Handler(std::move(handler)), executor_, to_exception_ptr(ec), R()...);
      return;
    }
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    auto engine = engine_; // once the operation is queued, this object may be gone
    begin_wait(slot, engine, *op::create(std::move(handler), executor_, std::forward<F>(f)));
  }

  Executor executor_;
  std::shared_ptr<Engine> engine_;
};

template <class Engine, class Executor>
class initiate_drain {
public:
  using executor_type = Executor;

  initiate_drain(const Executor& ex, std::shared_ptr<Engine> engine)
      : executor_(ex), engine_(std::move(engine)) {}

  executor_type get_executor() const noexcept { return executor_; }

  template <class Handler>
  void operator()(Handler&& handler) const {
    using handler_type = std::decay_t<Handler>;
    using op =
        waiting_operation<wait_set<error_code>::waiter, handler_type, Executor, void(error_code)>;
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    auto engine = engine_;
    const auto waiters = engine->drain_waiters(); // which may throw, before there is an operation
    begin_wait(slot, waiters, *op::create(handler_type(std::forward<Handler>(handler)), executor_));
    engine->close();
  }

private:
  Executor executor_;
  std::shared_ptr<Engine> engine_;
};

} // namespace bulkhead::detail

#endif
