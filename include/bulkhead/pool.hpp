//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_POOL_HPP
#define BULKHEAD_POOL_HPP

#include <bulkhead/detail/run/executor.hpp>
#include <bulkhead/detail/run/scheduler.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace bulkhead {

namespace asio = boost::asio;

template <class State, class Clock>
class stateful_pool;

/// The order in which a worker runs what its handlers have posted to the pool.
enum class submission_order {
  fifo, // the oldest first
  lifo  // the newest first, while its data is in the cache; now and then the oldest
};

/// An idle_expiry: idle workers stay.
inline constexpr std::chrono::nanoseconds never = std::chrono::nanoseconds::max();

struct pool_options {
  /// Worker threads, from 1 to 65536: so many, or, when the pool is elastic, at most so many.
  std::size_t threads = available_parallelism();

  /// 0 means `threads`: the pool has a fixed size. If it is less, the pool is elastic: it starts
  /// with so many workers, and one more is created whenever a function comes and all are busy. (I/O
  /// that is ready meanwhile does not show; it waits for the first that has done with its function.)
  std::size_t min_threads = 0;

  /// A worker of an elastic pool that was idle for so long ends, unless `min_threads` are left.
  std::chrono::nanoseconds idle_expiry = never;

  /// Submissions admitted and not started, at least 1. `unbounded` must be written out.
  std::size_t queue_limit = 4096;

  /// async_submit calls that may wait for room at one time.
  std::size_t waiter_limit = unbounded;

  /// Of work that is posted from inside the pool. Submissions are always taken in FIFO order.
  submission_order order = submission_order::fifo;

  /// The workers' threads are called after it, `name/0` and so on, as far as Linux's 15 characters
  /// go; `pool/0` if it is empty.
  std::string name{};

  /// Gets what a posted handler or a plain submission throws, where that ran: on a worker, which lives
  /// on, or on the thread whose submission it was, with on_full::caller_runs. And what is thrown because
  /// a worker cannot be created later on, by the thread that would have one. Must not throw. Default:
  /// one line to stderr.
  std::function<void(std::exception_ptr)> on_exception{};

  /// Called on each worker before its first handler, and after its last, with the number of its
  /// place in the pool, which a later worker may take. What they throw goes to `on_exception`.
  std::function<void(std::size_t worker)> on_worker_start{};
  std::function<void(std::size_t worker)> on_worker_stop{};
};

/// What pool::submit() does when the queue is full.
enum class on_full {
  block,       // waits for room, in one line with async_submit
  caller_runs, // runs the function on the calling thread
  reject       // throws system_error(errc::queue_full)
};

/// An execution context that owns worker threads, and admits work to them in bounded number.
///
/// Work comes in by *submission*: try_submit(), submit(), async_submit(). Submissions are bounded
/// by `queue_limit`, exactly, and can be refused, can wait for room and can be cancelled. Work that
/// was admitted *continues* through the executor, which never refuses, because a coroutine that is
/// half-way would be lost: `asio::post(pool, f)` is unbounded, and counted in the statistics.
///
/// Order: workers take what one thread submits in the order of its calls, up to 16 functions at a
/// time; in a pool that was made with one worker and has one, so they do what all threads submit and
/// post, once it stands in the queue. What a worker's handlers post goes to a queue of its own, in the
/// order of pool_options::order. Idle workers help themselves from the queues of busy ones, and from
/// what these have taken and not started, if it is worth it: see below.
///
/// Fairness: a worker takes at most 16 functions at a time from one place, its own queue and what
/// comes from outside by turns, and looks for I/O every fourth time. So what stands first in its
/// queue, or is ready in the reactor, starts after at most 80 others in a pool of one worker. One that
/// is made with more has more queues for work from outside, two per worker and no more than 32, and a
/// worker runs at most 48 others for each of them before it comes to a given one. What a worker has taken
/// and cannot start, because a function before it lasts, is left to the others as well: one that is busy
/// looks at one of its colleagues after each 256 functions, and takes half of what it finds. (If the
/// order is lifo, up to 16 of the newest come before each time that a worker takes something, so these
/// are 144, 65 and 512.)
///
/// No work waits while a worker sleeps: for what comes from outside, one is woken at once. To wake a
/// thread for each of the small functions that a handler posts would cost more than to run them, so
/// that is done when 16 have gathered; with less, and with I/O while handlers of I/O run, a sleeping
/// worker looks for itself within a millisecond. Nor are up to four taken at once from the worker that
/// has posted them, who mostly runs them sooner, with what they use in its cache. They are left to it
/// for about two milliseconds, or for as long as it posts more than one a microsecond: so coroutines
/// that take turns with less work than that gather on one worker, and with more they spread. A pool
/// without work uses no processor: one worker at a time searches a little while, if that has paid
/// lately, and then all sleep.
///
/// Memory: functions of up to 48 bytes stand in the queue itself, larger ones in memory that is used
/// again, unless they have an allocator of their own, take more than 896 bytes or are over-aligned. A
/// pool keeps the memory of its longest queue.
///
/// Timers, sockets, strands, co_spawn and spawn work on the pool. Its own workers poll for I/O; it
/// starts no other thread. (A future of asio::use_future is set on Asio's own system_context, which
/// has threads.) A handler whose executor is another one that runs it where it stands, such as the
/// system_executor, is part of that polling: while it blocks, no I/O goes on. The pool is an io_context
/// for that purpose only: whoever calls that base's run(), poll() or stop() through a reference is on
/// his own, though the pool survives a stop().
///
/// What a submission or a posted handler throws goes to `on_exception`; what the function of an
/// async_submit throws goes to its handler. An empty std::function and a null pointer are functions that
/// throw std::bad_function_call. A function that can be called with a std::stop_token
/// gets one: stop() requests its stop, as does the cancellation of its async_submit.
///
/// Object lifetimes: ~pool() is stop() and join(); on one of its own workers it terminates the
/// program with a message. Handlers that wait in the pool and belong to another execution context
/// complete at stop(), those in line for room with `closed` and all others with `operation_aborted`;
/// those that would run on the pool are destroyed uninvoked. When such another context shuts down
/// first, its handlers are destroyed uninvoked; a function that runs for one of them is asked to stop
/// and waited for. No context may be ended by the destructor of a function that never started.
///
/// Thread safety: distinct objects safe, shared objects safe (but for destroying).
class pool : public asio::io_context {
public:
  using executor_type = detail::pool_executor<std::allocator<void>>;

  /// Starts the workers.
  ///
  /// Errors: std::invalid_argument naming the option and its value; system_error if a thread cannot
  /// be created, with none left behind.
  explicit pool(pool_options options = {});

  /// `threads` workers, all other options as by default.
  explicit pool(std::size_t threads);

  ~pool();

  executor_type get_executor() noexcept { return executor_type(scheduler_.get(), {}, {}); }

  // The base's own ways to run and stop it. The workers do that.
  void run() = delete;
  void run_one() = delete;
  void run_for() = delete;
  void run_until() = delete;
  void run_one_for() = delete;
  void run_one_until() = delete;
  void poll() = delete;
  void poll_one() = delete;
  void restart() = delete;

  /// Submits `f` if there is room and nobody waits for any. Never waits.
  ///
  /// On false, `f` is untouched. Errors: what moving or copying `f` throws, and bad_alloc; nothing
  /// was submitted then. Complexity: O(1), without an allocation in steady state: see Memory.
  template <class F>
  [[nodiscard]] bool try_submit(F&& f) {
    check_function<F>();
    return scheduler_->try_submit(std::forward<F>(f));
  }

  /// Submits `f`; when the queue is full, does as `policy` says.
  ///
  /// A blocked call stands in one line with waiting async_submit calls, first come, first served.
  /// It returns when `f` is queued; but a thread that has fallen asleep, and is to be woken before a
  /// quarter of the queue is free, may sleep on until it has slept for a millisecond.
  /// On throwing `closed` or `would_deadlock` at once, and `queue_full`, `f` is untouched. A policy that
  /// is none of them is a std::invalid_argument.
  ///
  /// Errors (system_error)  closed          close() or stop() was called, also while waiting
  ///                        queue_full      policy is reject
  ///                        would_deadlock  policy is block, the queue is full, and the caller is a
  ///                                        worker of this pool
  template <class F>
  void submit(F&& f, on_full policy = on_full::block) {
    check_function<F>();
    scheduler_->submit(std::forward<F>(f), policy == on_full::block    ? detail::when_full::wait
                                           : policy == on_full::reject ? detail::when_full::refuse
                                                                       : caller_runs(policy));
  }

  /// Submits `f`, waiting for room in FIFO order, and completes with its result.
  ///
  /// `f` is called as `f(std::stop_token)` if that is possible, else as `f()`, once, on a worker,
  /// and destroyed before the handler is invoked. Its result must be movable and
  /// default-constructible and no reference. A coroutine is no function of this kind: give it to a
  /// task_group. (With Boost 1.81, Asio does not compile the co_await of what asio::deferred returns
  /// where there is an r, here or elsewhere; asio::use_awaitable does the same.)
  ///
  /// Completion signature  void(std::exception_ptr e[, R r])   r is what f returned if !e
  /// Executor              the handler's, else the pool's; never from within this call, unless an
  ///                       associated immediate executor lets a refusal
  /// Cancellation          terminal, partial, total. Waiting or queued: f is dropped. Running: stop
  ///                       is requested of f's std::stop_token, and f decides
  /// Errors (system_error) queue_full          queue_limit and waiter_limit are reached
  ///                       closed              close() or stop() was called before f was queued
  ///                       operation_aborted   cancelled, or stop() was called, before f started
  ///                       and what f throws
  /// Exception safety      strong: if this throws (bad_alloc), nothing was submitted
  /// Complexity            O(1), also to cancel
  template <class F, asio::completion_token_for<detail::submit_signature<F>> Token>
  auto async_submit(F&& f, Token&& token) {
    check_function<F>();
    return detail::initiate<detail::submit_signature<F>, Token>(
        detail::initiate_submit<detail::scheduler, executor_type>(get_executor(), scheduler_),
        token, std::forward<F>(f));
  }

  /// Changes the number of workers, while they work.
  ///
  /// A pool of fixed size has `threads` workers afterwards; an elastic one at most so many, and
  /// `min_threads` becomes at most `threads`. Surplus workers end when they have run what they had
  /// claimed. A worker that cannot be created is reported to `on_exception`, and the pool goes on
  /// with those it has. May be called on a worker.
  ///
  /// Errors: std::invalid_argument if `threads` is 0 or above 65536.
  void resize(std::size_t threads);

  /// Workers finish what they run and take no more until resume(): submissions, continuations and
  /// I/O wait. (A handler of a socket or timer of this pool that is bound to an executor which runs
  /// it where it stands, as asio::system_executor does, may still run; and so does what a worker
  /// executes with blocking.always.) Draining and joining a
  /// paused pool waits for resume(); stop() overrides a pause. May be called on a worker.
  void pause() { scheduler_->pause(); }
  void resume() { scheduler_->resume(); }

  /// Admits no more. Waiting submitters complete with `closed`; queued work still runs.
  void close() { scheduler_->close(); }

  /// close(); completes when no submission is queued or running. Continuations are not waited for.
  ///
  /// Completion signature  void(error_code)
  /// Executor              the handler's, else the pool's; never from within this call
  /// Cancellation          terminal, partial, total: abandons the wait; the pool remains closed
  /// Errors                operation_aborted   cancelled, or overtaken by stop()
  /// Exception safety      strong: if this throws (bad_alloc), the pool is not closed
  template <asio::completion_token_for<void(error_code)> Token>
  auto async_drain(Token&& token) {
    return asio::async_initiate<Token, void(error_code)>(
        detail::initiate_drain<detail::scheduler, executor_type>(get_executor(), scheduler_),
        token);
  }

  /// close(), waits until no submission is queued or running, and calls stop() if that takes longer
  /// than `duration`.
  ///
  /// Errors: system_error(would_deadlock) on a worker of this pool.
  drain_report drain_for(std::chrono::nanoseconds duration) {
    return scheduler_->drain_for(duration);
  }

  /// close(); queued submissions complete with `operation_aborted` (but handlers that would run on the
  /// pool are destroyed), running ones are asked to stop, and the workers end when what they run has
  /// ended. Does not wait.
  void stop() { scheduler_->stop(); }

  /// close(), waits until no work is left, as asio::thread_pool::join() does: no submission, no
  /// continuation, no pending asynchronous operation and no executor with outstanding_work tracked.
  /// (For submissions that on_full::caller_runs runs on other threads, async_drain() waits.) After
  /// stop(), waits only for what runs. Idempotent.
  ///
  /// Errors: system_error(would_deadlock) on a worker of this pool.
  void join() { scheduler_->join(); }

  pool_stats stats() const noexcept { return scheduler_->stats(); }

  // --- what else asio::thread_pool has ---

  /// Makes the calling thread one more worker until the pool ends, by stop() or join().
  ///
  /// Errors: system_error(would_deadlock) on a worker of this pool.
  void attach() { scheduler_->attach(); }

  /// The same as join().
  void wait() { join(); }

  /// The same as get_executor().
  executor_type executor() noexcept { return get_executor(); }

private:
  template <class State, class Clock>
  friend class stateful_pool;

  pool(pool_options options, detail::state_source* states);

  template <class F>
  static void check_function() {
    detail::check_submittable<F>();
  }

  static detail::when_full caller_runs(on_full policy);

  void end() noexcept;

  std::shared_ptr<detail::scheduler> scheduler_;
};

} // namespace bulkhead

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/pool.ipp>
#endif

#endif
