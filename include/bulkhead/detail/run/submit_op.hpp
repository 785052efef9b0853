//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_SUBMIT_OP_HPP
#define BULKHEAD_DETAIL_RUN_SUBMIT_OP_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/run/scheduler.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

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
  using function = std::decay_t<F>;
  static_assert(std::invocable<function&> || std::invocable<function&, std::stop_token>,
                "a pool runs functions that can be called with nothing or with a std::stop_token");
  static_assert(!is_coroutine<callable_result<function>>,
                "a pool runs functions, not coroutines: give this one to a bulkhead::task_group or "
                "to asio::co_spawn");
}

/// An async_submit: the function, its result, and (in waiting_operation) the handler.
template <class F, class... R>
class submit_waiter : public submit_op, public operation<void(std::exception_ptr, R...)> {
  using base = operation<void(std::exception_ptr, R...)>;

protected:
  template <class G>
  submit_waiter(const typename base::vtable& table, boost::asio::execution_context* handler_context,
                G&& f)
      : base(table, handler_context), function_(std::in_place, std::forward<G>(f)) {
    if constexpr (std::invocable<F&, std::stop_token>) stop = std::stop_source();
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
      invoke_with_stop_token(*function_, stop);
      return {};
    } else {
      return std::tuple<R...>(invoke_with_stop_token(*function_, stop));
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

  void discard() noexcept override { base::destroy(); }

  const boost::asio::execution_context* home() const noexcept override {
    return base::handler_context();
  }

  std::optional<F> function_;
  std::optional<std::tuple<R...>> result_;
  std::exception_ptr error_;
};

template <class F, class Signature>
struct submit_waiter_for;
template <class F, class... R>
struct submit_waiter_for<F, void(std::exception_ptr, R...)> {
  using type = submit_waiter<F, R...>;

  static_assert((!std::is_reference_v<R> && ...), "the result of f must not be a reference");
  static_assert(
      (std::default_initializable<R> && ...),
      "the result of f must be default-constructible: it is what arrives beside an error");
  static_assert((std::move_constructible<R> && ...), "the result of f must be movable");
};

template <class Executor>
class initiate_submit {
public:
  using executor_type = Executor;

  initiate_submit(const Executor& ex, std::shared_ptr<scheduler> s)
      : executor_(ex), scheduler_(std::move(s)) {}

  executor_type get_executor() const noexcept { return executor_; }

  template <class Handler, class F>
  void operator()(Handler&& handler, F&& f) const {
    using handler_type = std::decay_t<Handler>;
    using function = std::decay_t<F>;
    using signature = submit_signature<function>;
    start<handler_type, function>(static_cast<signature*>(nullptr), handler, std::forward<F>(f));
  }

private:
  template <class Handler, class Function, class F, class... R>
  void start(void (*)(std::exception_ptr, R...), Handler& handler, F&& f) const {
    using signature = void(std::exception_ptr, R...);
    using waiter = typename submit_waiter_for<Function, signature>::type;
    using op = waiting_operation<waiter, Handler, Executor, signature>;
    error_code ec;
    if (scheduler_->refuse_now(ec)) {
      complete_immediately(Handler(std::move(handler)), executor_, to_exception_ptr(ec), R()...);
      return;
    }
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    auto engine = scheduler_; // once the operation is queued, this object may be gone
    begin_wait(slot, engine, *op::create(std::move(handler), executor_, std::forward<F>(f)));
  }

  Executor executor_;
  std::shared_ptr<scheduler> scheduler_;
};

template <class Executor>
class initiate_drain {
public:
  using executor_type = Executor;

  initiate_drain(const Executor& ex, std::shared_ptr<scheduler> s)
      : executor_(ex), scheduler_(std::move(s)) {}

  executor_type get_executor() const noexcept { return executor_; }

  template <class Handler>
  void operator()(Handler&& handler) const {
    using handler_type = std::decay_t<Handler>;
    using op =
        waiting_operation<wait_set<error_code>::waiter, handler_type, Executor, void(error_code)>;
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    auto engine = scheduler_;
    begin_wait(slot, engine->drain_waiters(),
               *op::create(handler_type(std::move(handler)), executor_));
    engine->close();
  }

private:
  Executor executor_;
  std::shared_ptr<scheduler> scheduler_;
};

} // namespace bulkhead::detail

#endif
