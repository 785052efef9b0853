//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_STATEFUL_POOL_HPP
#define BULKHEAD_STATEFUL_POOL_HPP

#include <bulkhead/detail/run/state_slot.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/async_result.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace bulkhead {

/// For how long a worker leaves the factory alone after it has thrown: `first`, then twice as long each
/// time it throws again, up to `longest`. With `first` 0 there is no such time.
struct factory_backoff {
  std::chrono::nanoseconds first = std::chrono::milliseconds(100);
  std::chrono::nanoseconds longest = std::chrono::seconds(10);
};

/// The state of the worker that runs a function, for one that may want it replaced.
///
/// It is good while that function runs.
template <class State>
class state_handle {
public:
  State& operator*() const noexcept { return *slot_->get(); }
  State* operator->() const noexcept { return slot_->get(); }

  /// The state is of no more use: when the function has ended, however it does, the state is
  /// destroyed, and the worker makes another before its next function.
  void rebuild() const noexcept { slot_->ask_for_another(); }

private:
  template <class, class>
  friend class detail::with_state;

  explicit state_handle(detail::state_slot<State>& slot) noexcept : slot_(&slot) {}

  detail::state_slot<State>* slot_;
};

/// A pool of which every worker owns a State: a connection, a loaded model, an interpreter.
///
/// Such a thing takes long to make, and must not be used by two threads at a time, or only by the
/// one that has made it. Here each worker makes its own, by a *factory*, and hands it to the functions
/// that it runs, one after the other. No lock is needed, and a State never leaves its thread: there
/// it is made, used and destroyed.
///
/// In all other respects it is a pool: what pool.hpp says of submissions, their order, cancellation,
/// size and end is true here.
///
/// **When a state is made.** A worker makes its state when it comes to its first submission, before
/// it takes that out of the queue; or when async_warm_up() asks for it. It is *warm* then, and before
/// that *cold*. Of workers that sleep, a warm one is called before a cold one. The state is
/// destroyed when the worker ends, or when a function asks for another: see state_handle.
/// `on_worker_start` is called before the first state is made, `on_worker_stop` after the last is
/// destroyed. When the pool shrinks, and when idle workers expire, the cold ones go first.
///
/// **When the factory throws.** That is reported to `on_exception`, each time. The worker leaves the
/// factory alone for a while then (see factory_backoff), and tries it again for the next submission it
/// comes to after that. Meanwhile:
///
/// - While any other worker has a state, or is making one, submissions are left to those. They wait in
///   the queue as they do when all workers are busy, and none of them fails.
/// - If there is nobody else, the one submission for which the factory was called fails: async_submit
///   completes with what the factory has thrown. All others wait in the queue until some worker may
///   try again. So one attempt fails at most one submission, each is told of an attempt made for it,
///   and a factory that always throws is not called more often than the back-off allows. Those
///   who would rather not wait so long have a `timeout`; they can be cancelled, as what is queued
///   always can.
///
/// Continuations and I/O of the pool go on in either case, in no particular order while nobody has a
/// state.
///
/// The factory is called as `factory(worker)` with the number of the worker's place if that is
/// possible, else as `factory()`; on several threads at once, so it must be safe to do so. It must
/// not wait for a submission of its pool. What it returns is a State, which need not be movable, or
/// something to construct one from. ~State() must not throw.
///
/// Executor: handlers without an executor of their own run on the workers, as continuations, which
/// have nothing to do with states. So does what is posted to get_executor().
///
/// Object lifetimes: as with pool. ~stateful_pool() waits for a factory that runs, and until all states
/// are destroyed; then the factory is.
///
/// Thread safety: distinct objects safe, shared objects safe (but for destroying).
///
/// `Clock` is for tests: a clock that they move.
template <class State, class Clock = std::chrono::steady_clock>
class stateful_pool {
  static_assert(std::is_object_v<State> && !std::is_array_v<State> && !std::is_const_v<State>);
  static_assert(std::is_nothrow_destructible_v<State>, "~State() must not throw");

public:
  using state_type = State;
  using executor_type = pool::executor_type;

  /// Starts the workers, which are cold.
  ///
  /// Errors: as pool's; std::invalid_argument if `first` is less than 0 or more than `longest`, or if
  /// the factory is an empty std::function or a null pointer; and what copying or moving the factory
  /// throws. The factory is not called.
  template <detail::factory_of<State> Factory>
  explicit stateful_pool(Factory&& factory, pool_options options = {}, factory_backoff backoff = {})
      : states_(std::make_unique<detail::state_maker_by<State, std::decay_t<Factory>>>(
                    (detail::require_not_empty("stateful_pool: factory", factory),
                     std::forward<Factory>(factory))),
                checked(backoff)),
        pool_(std::move(options), &states_) {}

  executor_type get_executor() noexcept { return pool_.get_executor(); }

  /// Submits `f` if there is room and nobody waits for any. Never waits.
  ///
  /// `f` is called as async_submit() says. What it throws goes to `on_exception`. If it fails because
  /// the factory throws, it is destroyed without having been called, and counts as failed.
  ///
  /// On false, `f` is untouched. Errors and complexity: as pool's.
  template <class F>
  [[nodiscard]] bool try_submit(F&& f) {
    return pool_.try_submit(wrap(std::forward<F>(f)));
  }

  /// Submits `f`; when the queue is full, waits for room, or throws, as `policy` says.
  ///
  /// Errors: as pool's; std::invalid_argument for on_full::caller_runs, because the caller has no
  /// state. On throwing, `f` is untouched.
  template <class F>
  void submit(F&& f, on_full policy = on_full::block) {
    if (policy == on_full::caller_runs)
      throw std::invalid_argument("stateful_pool::submit: policy must not be caller_runs: the "
                                  "calling thread has no state");
    pool_.submit(wrap(std::forward<F>(f)), policy);
  }

  /// Submits `f`, waiting for room in FIFO order, and completes with its result.
  ///
  /// `f` is called once, on a worker, as the first of these that is possible: `f(State&,
  /// std::stop_token)`, `f(State&)`, `f(state_handle<State>, std::stop_token)`,
  /// `f(state_handle<State>)`. It is destroyed before the handler is invoked. Its result must be
  /// movable and default-constructible and no reference. A coroutine is no function of this kind: it
  /// would use the state where it is resumed, and when another function does.
  ///
  /// Completion signature  void(std::exception_ptr e[, R r])   r is what f returned if !e
  /// Executor              the handler's, else the pool's; never from within this call, unless an
  ///                       associated immediate executor lets a refusal
  /// Cancellation          terminal, partial, total. Waiting or queued, also while a state is made
  ///                       for it: f is dropped. Running: stop is requested of f's std::stop_token
  /// Errors (system_error) queue_full          queue_limit and waiter_limit are reached
  ///                       closed              close() or stop() was called before f was queued
  ///                       operation_aborted   cancelled, or stop() was called, before f started
  ///                       what the factory throws, if no worker has a state or is making one
  ///                       and what f throws
  /// Exception safety      strong: if this throws (bad_alloc), nothing was submitted
  /// Complexity            O(1), also to cancel
  template <class F, asio::completion_token_for<
                         detail::submit_signature<detail::with_state<State, std::decay_t<F>>>>
                         Token>
  auto async_submit(F&& f, Token&& token) {
    detail::check_stateful<State, F>();
    using function = detail::with_state<State, std::decay_t<F>>;
    return pool_.async_submit(function(std::in_place, std::forward<F>(f)),
                              std::forward<Token>(token));
  }

  /// Completes when every worker is warm, or has tried: with the first failure, if there was one.
  ///
  /// An elastic pool gets all its `threads` workers for it. A worker that is busy makes its state when
  /// its function has ended; that of a paused pool after resume(). A factory that has thrown is called
  /// at once, whatever the back-off says. Whoever is cold afterwards tries again at its next
  /// submission, after the back-off.
  ///
  /// Completion signature  void(std::exception_ptr e)
  /// Executor              the handler's, else the pool's; never from within this call, unless an
  ///                       associated immediate executor lets a refusal
  /// Cancellation          terminal, partial, total: abandons the wait; the workers go on
  /// Errors                closed              (system_error) close() or stop() was called before
  ///                       operation_aborted   (system_error) cancelled, or overtaken by stop()
  ///                       what the factory throws first
  ///                       std::system_error   a worker cannot be created
  /// Exception safety      strong
  /// Complexity            O(threads)
  template <asio::completion_token_for<void(std::exception_ptr)> Token>
  auto async_warm_up(Token&& token) {
    return detail::initiate<void(std::exception_ptr), Token>(
        detail::initiate_warm_up<executor_type>(get_executor(), pool_.scheduler_), token);
  }

  /// Changes the number of workers, while they work: see pool. Cold workers leave first.
  ///
  /// Errors: std::invalid_argument if `threads` is 0 or above 65536.
  void resize(std::size_t threads) { pool_.resize(threads); }

  // As those of pool.

  void pause() { pool_.pause(); }
  void resume() { pool_.resume(); }
  void close() { pool_.close(); }

  template <asio::completion_token_for<void(error_code)> Token>
  auto async_drain(Token&& token) {
    return pool_.async_drain(std::forward<Token>(token));
  }

  drain_report drain_for(std::chrono::nanoseconds duration) { return pool_.drain_for(duration); }

  void stop() { pool_.stop(); }
  void join() { pool_.join(); }

  stateful_pool_stats stats() const noexcept {
    stateful_pool_stats s{pool_.stats()};
    const detail::state_tallies& t = states_.tallies();
    s.states = t.states.load(std::memory_order_relaxed);
    s.built = t.built.load(std::memory_order_relaxed);
    s.rebuilt = t.rebuilt.load(std::memory_order_relaxed);
    s.failed_builds = t.failed_builds.load(std::memory_order_relaxed);
    return s;
  }

private:
  template <class F>
  static detail::stateful_function<State, F> wrap(F&& f) noexcept {
    detail::check_stateful<State, F>();
    return {std::forward<F>(f)};
  }

  static detail::retry_schedule<Clock> checked(const factory_backoff& b) {
    const auto ns = [](std::chrono::nanoseconds d) { return std::to_string(d.count()); };
    if (b.first.count() < 0)
      throw std::invalid_argument("factory_backoff::first must be at least 0 ns (got " +
                                  ns(b.first) + ")");
    if (b.longest < b.first)
      throw std::invalid_argument("factory_backoff::longest must be at least first, " +
                                  ns(b.first) + " ns (got " + ns(b.longest) + ")");
    return {b.first, b.longest};
  }

  detail::states<State, Clock> states_;
  pool pool_; // ends before the states' factory does
};

} // namespace bulkhead

#endif
