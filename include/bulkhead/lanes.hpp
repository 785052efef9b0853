//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_LANES_HPP
#define BULKHEAD_LANES_HPP

#include <bulkhead/detail/order/lane_executor.hpp>
#include <bulkhead/detail/order/lanes_core.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution_context.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace bulkhead {

namespace asio = boost::asio;

struct lanes_options {
  /// Handlers in flight at one time over all lanes, at least 1.
  std::size_t concurrency = available_parallelism();

  /// Handlers that run one after the other before others on the inner executor have their turn, at
  /// least 1.
  std::size_t batch = 16;

  /// 0: a lane runs nothing while one of a higher priority may. Otherwise each priority that has
  /// something to run gets at least this share of the turns, or, if that is more than there is, all
  /// get about as many. At least 0 and less than 1.
  double minimum_share = 0;

  std::string name{};

  /// Gets what a handler of a lane throws that is not an async_submit's function. Must not throw.
  /// Default: one line to stderr.
  std::function<void(std::exception_ptr)> on_exception{};
};

struct lane_options {
  std::string name{};

  /// Its part of the turns, beside other lanes of its priority; from 1e-6 to 1e6.
  double weight = 1;

  /// The higher comes first.
  int priority = 0;

  /// Submissions admitted and not started, at least 1. `unbounded` must be written out.
  std::size_t queue_limit = 4096;

  /// async_submit calls that may wait for room at one time.
  std::size_t waiter_limit = unbounded;

  /// Handlers of this lane in flight at one time, at least 1.
  std::size_t concurrency = unbounded;
};

namespace detail {

void check_lane_number(const char* what, std::size_t n);
void check_lane_weight(const char* what, double weight);
lanes_core::settings checked(lanes_options&& o);
lane_core::settings checked(lane_options&& o);
std::shared_ptr<lanes_core> make_lanes(const asio::any_io_executor& inner, lanes_core::settings s);

} // namespace detail

/// A bounded queue among others over one executor: a handle, which can be copied.
///
/// Work comes in by submission, as into a pool: bounded by `queue_limit`, exactly; refused, or waiting
/// for room, or cancelled. Work that was admitted continues through the lane's executor, which never
/// refuses: `co_spawn(l.get_executor(), ...)`, timers, sockets and handlers that are bound to it
/// stand in the lane's queue in the order in which they come, are counted as continuations, and count
/// towards the lane's concurrency and the set's while they run.
///
/// Object lifetimes: handles, and executors, may outlive the set. Dropping them closes nothing: what is
/// queued runs. When the set is destroyed, submissions that have not started complete with
/// `operation_aborted`, the lane is closed, and what runs is left alone; continuations still run. When
/// the inner executor's context shuts down, all that is queued is destroyed uninvoked. No context may be
/// ended by the destructor of a function that never started.
///
/// Thread safety: distinct objects safe, shared objects safe (but for assigning to the handle).
class lane {
public:
  using executor_type = detail::lane_executor<std::allocator<void>>;

  executor_type get_executor() const noexcept { return executor_type(core_); }

  const std::string& name() const noexcept { return core_->name(); }

  /// Submits `f` if there is room and nobody waits for any. Never waits.
  ///
  /// `f` is called as `f()`, or as `f(std::stop_token)` with a token that nobody stops. What it throws
  /// goes to lanes_options::on_exception: std::bad_function_call, if it is a null pointer or an empty
  /// std::function. On false, `f` is untouched.
  ///
  /// Errors: what moving or copying `f` throws, and bad_alloc; nothing was submitted then. What the
  /// inner executor throws; if nothing of the set runs then, all that was queued in it is lost.
  template <class F>
  [[nodiscard]] bool try_submit(F&& f) const {
    detail::check_submittable<F>();
    return core_->try_submit(std::forward<F>(f));
  }

  /// Submits `f`, waiting for room in FIFO order, and completes with its result: pool::async_submit().
  ///
  /// Completion signature  void(std::exception_ptr e[, R r])   r is what f returned if !e
  /// Executor              the handler's, else the lane's; never from within this call, unless an
  ///                       associated immediate executor lets a refusal
  /// Cancellation          terminal, partial, total. Waiting or queued: f is dropped. Running: stop
  ///                       is requested of f's std::stop_token, and f decides
  /// Errors (system_error) queue_full          queue_limit and waiter_limit are reached
  ///                       closed              close() was called before f was queued
  ///                       operation_aborted   cancelled, or the set was destroyed, before f started
  ///                       and what f throws
  /// Exception safety      strong: if this throws (bad_alloc), nothing was submitted
  /// Complexity            O(log n) in the lanes of its priority
  template <class F, asio::completion_token_for<detail::submit_signature<F>> Token>
  auto async_submit(F&& f, Token&& token) const {
    detail::check_submittable<F>();
    return detail::initiate<detail::submit_signature<F>, Token>(
        detail::initiate_submit<detail::lane_core, executor_type>(get_executor(), core_), token,
        std::forward<F>(f));
  }

  /// Admits no more. Waiting async_submit calls complete with `closed`; queued work still runs.
  void close() const { core_->close(); }

  /// close(); completes when no submission is queued or running. Continuations are not waited for.
  ///
  /// Completion signature  void(error_code)
  /// Executor              the handler's, else the lane's; never from within this call
  /// Cancellation          terminal, partial, total: abandons the wait; the lane remains closed
  /// Errors                operation_aborted   cancelled, or the set was destroyed
  /// Exception safety      strong: if this throws (bad_alloc), the lane is not closed
  template <asio::completion_token_for<void(error_code)> Token>
  auto async_drain(Token&& token) const {
    return asio::async_initiate<Token, void(error_code)>(
        detail::initiate_drain<detail::lane_core, executor_type>(get_executor(), core_), token);
  }

  /// From its next turn on. Errors: std::invalid_argument unless it is from 1e-6 to 1e6.
  void set_weight(double weight) const {
    detail::check_lane_weight("lane::set_weight: weight", weight);
    core_->set_weight(weight);
  }

  /// At once, for what is queued too. Errors: bad_alloc, with nothing changed.
  void set_priority(int priority) const { core_->set_priority(priority); }

  /// Lowered, it takes nothing back. Errors: std::invalid_argument if it is 0.
  void set_concurrency(std::size_t n) const {
    detail::check_lane_number("lane::set_concurrency: n", n);
    core_->set_concurrency(n);
  }

  lane_stats stats() const noexcept { return core_->stats(); }

  friend bool operator==(const lane& a, const lane& b) noexcept = default;

private:
  template <class>
  friend class basic_lanes;
  template <class, class, class>
  friend class tenants;

  explicit lane(std::shared_ptr<detail::lane_core> core) noexcept : core_(std::move(core)) {}

  std::shared_ptr<detail::lane_core> core_;
};

/// Bounded, weighted, prioritised queues over any executor, with a bounded number of handlers in flight:
/// bulkheads.
///
/// At most `concurrency` handlers are in flight over all lanes, and at most lane_options::concurrency
/// of each. Whenever one may start, it is of the highest priority that has any; within a priority,
/// lanes have turns in proportion to their weights (start-time fair queueing), and one with a single
/// task waits behind at most one of each other, however many they have queued. An idle lane banks no
/// credit. Within a lane, handlers start in the order in which they came; they end in that order too if
/// the lane's concurrency is 1: it is a strand then.
///
/// On the inner executor there are at most `concurrency` functions of a set at one time. Each runs up to
/// `batch` handlers, and then stands in line again behind the others there.
///
/// Object lifetimes: see lane.
///
/// Thread safety: distinct objects safe, shared objects safe (but for moving and destroying).
template <class Executor = asio::any_io_executor>
class basic_lanes {
public:
  using executor_type = Executor;

  template <class OtherExecutor>
  struct rebind_executor {
    using other = basic_lanes<OtherExecutor>;
  };

  /// Errors: std::invalid_argument naming the option and its value.
  explicit basic_lanes(const executor_type& ex, lanes_options options = {})
      : executor_(ex), core_(detail::make_lanes(ex, detail::checked(std::move(options)))) {}

  template <class ExecutionContext>
  requires std::derived_from<ExecutionContext, asio::execution_context>
  explicit basic_lanes(ExecutionContext& context, lanes_options options = {})
      : basic_lanes(executor_type(context.get_executor()), std::move(options)) {}

  basic_lanes(basic_lanes&&) noexcept = default;

  basic_lanes& operator=(basic_lanes&& other) noexcept {
    if (this != &other) {
      end();
      executor_ = std::move(other.executor_);
      core_ = std::move(other.core_);
    }
    return *this;
  }

  ~basic_lanes() { end(); }

  /// The inner executor.
  executor_type get_executor() const noexcept { return executor_; }

  /// Opens a lane. It lives until the last handle, executor and task of it is gone.
  ///
  /// Errors: std::invalid_argument naming the option and its value.
  /// Complexity: O(1), but for one step per priority.
  lane open(lane_options options = {}) {
    return lane(detail::lane_core::open(core_, detail::checked(std::move(options))));
  }

  /// Lanes that are open or still in use.
  std::size_t size() const noexcept { return core_->size(); }

  std::size_t concurrency() const noexcept { return core_->concurrency(); }

  /// Lowered, it takes nothing back. Errors: std::invalid_argument if it is 0.
  void set_concurrency(std::size_t n) {
    detail::check_lane_number("lanes::set_concurrency: n", n);
    core_->set_concurrency(n);
  }

private:
  void end() noexcept {
    if (core_) core_->end();
  }

  executor_type executor_;
  std::shared_ptr<detail::lanes_core> core_;
};

template <class ExecutionContext>
requires std::derived_from<ExecutionContext, asio::execution_context>
explicit basic_lanes(ExecutionContext&, lanes_options = {})
    ->basic_lanes<typename ExecutionContext::executor_type>;

using lanes = basic_lanes<>;

/// An executor over `ex` with at most `n` handlers in flight, which start in the order in which they came:
/// a set of one lane. With n = 1 it is a strand.
///
/// Errors: std::invalid_argument if `n` is 0.
lane::executor_type limit_concurrency(const asio::any_io_executor& ex, std::size_t n);

} // namespace bulkhead

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/lanes.ipp>
#endif

#endif
