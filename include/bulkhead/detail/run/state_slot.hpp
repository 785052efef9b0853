//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_STATE_SLOT_HPP
#define BULKHEAD_DETAIL_RUN_STATE_SLOT_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/run/scheduler.hpp>
#include <bulkhead/detail/run/worker_state.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/wait_traits.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bulkhead {

template <class State>
class state_handle;

namespace detail {

// --- the factory ---

template <class State, class Result>
concept makes_state = std::same_as<State, Result> || std::constructible_from<State, Result>;

template <class Factory>
struct factory_result {};
template <std::invocable<> Factory>
struct factory_result<Factory> : std::invoke_result<Factory> {};
template <std::invocable<std::size_t> Factory>
struct factory_result<Factory> : std::invoke_result<Factory, std::size_t> {};
template <class Factory>
requires std::invocable<Factory> && std::invocable<Factory, std::size_t>
struct factory_result<Factory> : std::invoke_result<Factory, std::size_t> {
};

template <class Factory, class State>
concept factory_of = makes_state < State,
        typename factory_result < std::decay_t<Factory>
& > ::type > ;

/// Makes a State where it is to be. What the factory returns is not even moved.
template <class State>
class state_maker {
public:
  virtual ~state_maker() = default;
  virtual State* make(void* where, std::size_t worker) = 0;
};

template <class State, class Factory>
class state_maker_by final : public state_maker<State> {
public:
  template <class F>
  explicit state_maker_by(F&& f) : factory_(std::forward<F>(f)) {}

  State* make(void* where, [[maybe_unused]] std::size_t worker) override {
    if constexpr (std::invocable<Factory&, std::size_t>)
      return ::new (where) State(std::invoke(factory_, worker));
    else
      return ::new (where) State(std::invoke(factory_));
  }

private:
  Factory factory_;
};

// --- the places ---

struct state_tallies {
  sync::atomic<std::size_t> states{0};
  sync::atomic<std::uint64_t> built{0};
  sync::atomic<std::uint64_t> rebuilt{0};
  sync::atomic<std::uint64_t> failed_builds{0};
};

/// The place for the state of one worker, and what its submissions find there.
template <class State>
class state_slot : public worker_state {
public:
  /// Of the worker that runs a submission here.
  static state_slot& here() noexcept { return static_cast<state_slot&>(scheduler::state_here()); }

  state_slot(std::size_t worker, state_maker<State>& maker, state_tallies& tallies)
      : worker_(worker), maker_(maker), tallies_(tallies) {}

  /// Null if it could not be made: see failure().
  State* get() const noexcept { return state_; }

  const std::exception_ptr& failure() const noexcept { return failure_; }

  void ask_for_another() noexcept { replace_ = true; }

  /// After a submission has used it.
  void used() noexcept {
    if (!replace_) return;
    destroy();
    scheduler::state_is_gone();
  }

  void destroy() noexcept final {
    std::destroy_at(std::exchange(state_, nullptr));
    tallies_.states.fetch_sub(1, std::memory_order_relaxed);
  }

protected:
  bool try_to_make() noexcept {
    try {
      state_ = maker_.make(storage_, worker_);
    } catch (...) {
      failure_ = std::current_exception();
      tallies_.failed_builds.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    failure_ = nullptr;
    tallies_.states.fetch_add(1, std::memory_order_relaxed);
    tallies_.built.fetch_add(1, std::memory_order_relaxed);
    if (std::exchange(replace_, false)) tallies_.rebuilt.fetch_add(1, std::memory_order_relaxed);
    return true;
  }

private:
  const std::size_t worker_;
  state_maker<State>& maker_;
  state_tallies& tallies_;
  State* state_ = nullptr;
  std::exception_ptr failure_;
  bool replace_ = false;
  alignas(std::max(alignof(State), std::size_t(64))) std::byte storage_[sizeof(State)];
};

/// Says how long to leave a factory alone that has thrown: twice as long each time.
template <class Clock>
class retry_schedule {
public:
  retry_schedule(std::chrono::nanoseconds first, std::chrono::nanoseconds longest)
      : first_(first), longest_(longest) {}

  void succeeded() noexcept { rest_ = {}; }

  void failed() noexcept {
    rest_ = rest_.count() == 0 ? first_ : rest_ < longest_ / 2 ? rest_ * 2 : longest_;
    const auto now = Clock::now();
    using duration = typename Clock::duration;
    const auto most = std::chrono::floor<std::chrono::nanoseconds>(Clock::time_point::max() - now);
    next_ = now + std::chrono::ceil<duration>(std::min(rest_, most));
  }

  /// In real time, from now on.
  std::chrono::nanoseconds wait() const noexcept {
    if (rest_.count() == 0) return {};
    return std::max(std::chrono::nanoseconds(0),
                    std::chrono::duration_cast<std::chrono::nanoseconds>(
                        boost::asio::wait_traits<Clock>::to_wait_duration(next_ - Clock::now())));
  }

private:
  const std::chrono::nanoseconds first_;
  const std::chrono::nanoseconds longest_;
  std::chrono::nanoseconds rest_{0};
  typename Clock::time_point next_{};
};

template <class State, class Clock>
class timed_state_slot final : public state_slot<State> {
public:
  timed_state_slot(std::size_t worker, state_maker<State>& maker, state_tallies& tallies,
                   const retry_schedule<Clock>& schedule)
      : state_slot<State>(worker, maker, tallies), schedule_(schedule) {}

  std::exception_ptr make() noexcept override {
    if (this->try_to_make())
      schedule_.succeeded();
    else
      schedule_.failed();
    return this->failure();
  }

  std::chrono::nanoseconds rest() const noexcept override { return schedule_.wait(); }

private:
  retry_schedule<Clock> schedule_;
};

/// What all workers of a stateful_pool have in common.
template <class State, class Clock>
class states final : public state_source {
public:
  states(std::unique_ptr<state_maker<State>> maker, const retry_schedule<Clock>& schedule)
      : maker_(std::move(maker)), schedule_(schedule) {}

  std::unique_ptr<worker_state> place_for(std::size_t worker) override {
    return std::make_unique<timed_state_slot<State, Clock>>(worker, *maker_, tallies_, schedule_);
  }

  const state_tallies& tallies() const noexcept { return tallies_; }

private:
  const std::unique_ptr<state_maker<State>> maker_;
  const retry_schedule<Clock> schedule_;
  state_tallies tallies_;
};

// --- the submissions ---

/// How an F is called with the state: as it is, or with a handle of it.
template <class State, class F>
inline constexpr bool takes_state =
    std::invocable<F&, State&> || std::invocable<F&, State&, std::stop_token>;
template <class State, class F>
inline constexpr bool takes_handle = std::invocable<F&, state_handle<State>> ||
                                     std::invocable<F&, state_handle<State>, std::stop_token>;

template <class State, class F>
using state_argument = std::conditional_t<takes_state<State, F>, State&, state_handle<State>>;

/// A function that is called with the state of the worker on which it runs.
template <class State, class F>
class with_state {
public:
  template <class G>
  requires std::constructible_from<F, G>
  explicit with_state(std::in_place_t, G&& g) : function_(std::forward<G>(g)) {}

  decltype(auto) operator()() requires std::invocable<F&, state_argument<State, F>> &&
      (!std::invocable<F&, state_argument<State, F>, std::stop_token>) {
    return call();
  }

  decltype(auto) operator()(
      std::stop_token stop) requires std::invocable<F&, state_argument<State, F>, std::stop_token> {
    return call(std::move(stop));
  }

private:
  template <class... Stop>
  decltype(auto) call(Stop... stop) {
    using slot = state_slot<State>;
    struct use {
      slot& s = slot::here();
      ~use() {
        if (s.get()) s.used();
      }
    } here;
    if (!here.s.get()) std::rethrow_exception(here.s.failure());
    require_function(function_);
    if constexpr (takes_state<State, F>)
      return std::invoke(function_, *here.s.get(), std::move(stop)...);
    else
      return std::invoke(function_, state_handle<State>(here.s), std::move(stop)...);
  }

  F function_;
};

template <class State, class F>
struct stateful_function;

/// The same in a submission without a handler. That there is no state is reported by then.
template <class State, class F>
class plain_with_state : with_state<State, F> {
  using base = with_state<State, F>;
  static constexpr bool takes_stop_token = std::invocable<base&, std::stop_token>;

public:
  template <class G>
  plain_with_state(stateful_function<State, G>&& f)
      : base(std::in_place, std::forward<G>(f.function)) {}

  void operator()() requires(!takes_stop_token) {
    if (has_state()) static_cast<void>(base::operator()());
  }

  void operator()(std::stop_token stop) requires takes_stop_token {
    if (has_state()) static_cast<void>(base::operator()(std::move(stop)));
  }

private:
  static bool has_state() noexcept {
    if (state_slot<State>::here().get()) return true;
    scheduler::count_failure();
    return false;
  }
};

/// An F, on its way to where it is kept: see detail::kept.
template <class State, class F>
struct stateful_function {
  using kept_function = plain_with_state<State, std::decay_t<F>>;

  F&& function;
};

template <class State, class F>
constexpr void check_stateful() {
  using function = std::decay_t<F>;
  static_assert(takes_state<State, function> || takes_handle<State, function>,
                "a stateful_pool runs functions that can be called with a State& or a "
                "state_handle<State>, and perhaps a std::stop_token");
  static_assert(!is_coroutine<callable_result<with_state<State, function>>>,
                "a stateful_pool runs functions, not coroutines: one would go on with a state that "
                "other functions use meanwhile");
}

// --- async_warm_up ---

template <class Executor>
class initiate_warm_up {
public:
  using executor_type = Executor;

  initiate_warm_up(const Executor& ex, std::shared_ptr<scheduler> s)
      : executor_(ex), scheduler_(std::move(s)) {}

  executor_type get_executor() const noexcept { return executor_; }

  template <class Handler>
  void operator()(Handler&& handler) const {
    using handler_type = std::decay_t<Handler>;
    using op = waiting_operation<wait_set<std::exception_ptr>::waiter, handler_type, Executor,
                                 void(std::exception_ptr)>;
    if (scheduler_->is_closed()) {
      complete_immediately(handler_type(std::move(handler)), executor_,
                           to_exception_ptr(errc::closed));
      return;
    }
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    auto engine = scheduler_;
    auto& waiter = *op::create(handler_type(std::move(handler)), executor_);
    prepare_wait(slot, *engine->warm_up_waiters(), waiter);
    engine->begin_warm_up();
    engine->warm_up_waiters()->enqueue(waiter);
    engine->warm_up();
  }

private:
  Executor executor_;
  std::shared_ptr<scheduler> scheduler_;
};

} // namespace detail
} // namespace bulkhead

#endif
