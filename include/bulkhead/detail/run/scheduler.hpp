//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_SCHEDULER_HPP
#define BULKHEAD_DETAIL_RUN_SCHEDULER_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/run/cell.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead {

class pool;

namespace detail {

/// One async_submit, as the scheduler sees it: a function that runs on a worker, and a handler that
/// completes wherever it belongs. It ends with exactly one call of finish(), abort() or destroy().
class submit_op : public list_hook<> {
public:
  enum class state : unsigned char { reserved, waiting, queued, running };

  /// Runs the function, keeps its result and destroys the function. Says whether it did not throw.
  virtual bool run() noexcept = 0;

  /// Completes the handler with what run() kept.
  virtual void finish() noexcept = 0;

  /// Completes the handler with `ec`; the function is destroyed without having run.
  virtual void abort(error_code ec) noexcept = 0;

  /// Destroys both.
  virtual void discard() noexcept = 0;

  /// The context in which the handler would run.
  virtual const boost::asio::execution_context* home() const noexcept = 0;

  wait_key key;
  state now = state::reserved;
  cell* place = nullptr; // until it runs
  std::stop_source stop{std::nostopstate};
  bool orphaned = false; // the handler's context shuts down while the function runs

protected:
  ~submit_op() = default;
};

/// A thread that waits for room in submit().
struct blocked_submitter {
  enum class state { waiting, admitted, refused };

  std::condition_variable changed;
  state now = state::waiting;
};

/// What admission says at once.
enum class admission { admitted, full, closed };

/// What to do with a submission that finds no room.
enum class when_full { refuse, run_here, wait };

/// The engine of a pool: its queue, its workers, and its counters.
///
/// **Queue.** One list of cells under one mutex holds submissions and continuations in the order of
/// their arrival. Submissions are bounded: `queued_` counts those that are admitted and have not
/// started, and whoever cannot be admitted stands in `line_`, first come, first served, threads and
/// asynchronous operations alike. `admit_waiters` is the one function that lets the line move; each
/// path that frees a place calls it. A place is reserved under the mutex first, the user's function
/// is moved into its cell without it, and the cell is linked last, so that no code of the user's
/// runs under the mutex, and no function is touched that was refused. A worker takes one cell at a
/// time: a batch in its hands could hold the very task that the first of them waits for.
///
/// **Reactor.** The pool is an io_context, so Asio finds its reactor there and starts no thread of
/// its own. Workers that find the queue empty sleep in `run_one()`: Asio lets one of them wait for
/// I/O and the others for a signal, and hands the reactor on when that one gets something to do. A
/// push wakes a sleeper by posting an empty function. `wakes_` counts those on their way; at most
/// as many are as workers sleep. Such a function may be eaten by a busy worker that polls for I/O,
/// hence the rule in next(): who takes a cell while others remain wakes the next sleeper. With it
/// no cell waits while a worker sleeps. Waking costs both sides a system call, so a worker yields a
/// few times before it sleeps: under load the next cell is there by then. A busy worker polls once
/// in `poll_interval` cells, so that I/O does not starve.
///
/// **End.** close() refuses, stop() also drops what has not started, join() lets the workers go
/// when no tracked work is left: no cell, no running function and no executor with outstanding_work
/// tracked, which is what Asio's pending operations hold. The base class's stop() merely wakes
/// everybody: a worker that finds the io_context stopped before its time restarts it.
class scheduler final : public shutdown_target, public std::enable_shared_from_this<scheduler> {
public:
  struct options {
    std::size_t threads;
    std::size_t queue_limit;
    std::size_t waiter_limit;
    std::string name;
    std::function<void(std::exception_ptr)> on_exception;
  };

  scheduler(pool& owner, boost::asio::io_context& io, options opts);
  ~scheduler();

  /// Creates the workers, or none: throws system_error when one of them cannot be created.
  void start();

  pool& owner() const noexcept { return owner_; }
  std::size_t threads() const noexcept { return options_.threads; }
  bool running_in_this_thread() const noexcept { return current() == this; }

  // --- submissions ---

  template <class F>
  bool try_submit(F&& f) {
    admission a;
    if (cell* c = reserve_or_push(std::forward<F>(f), a, when_full::refuse))
      build_and_push(*c, std::forward<F>(f));
    return a == admission::admitted;
  }

  template <class F>
  void submit(F&& f, when_full policy) {
    admission a;
    if (cell* c = reserve_or_push(std::forward<F>(f), a, policy))
      build_and_push(*c, std::forward<F>(f));
    if (a == admission::admitted) return;
    if (a == admission::closed) throw_system_error(errc::closed);
    if (policy == when_full::refuse) throw_system_error(errc::queue_full);
    if (policy == when_full::run_here) return run_here(std::forward<F>(f));
    wait_in_line(std::forward<F>(f));
  }

  // --- async_submit: see begin_wait() ---

  /// Whether a submission would be refused at once, and counts it if so.
  bool refuse_now(error_code& ec) noexcept;

  wait_key reserve(submit_op& op);
  void unreserve(submit_op& op) noexcept;
  void enqueue(submit_op& op) noexcept;
  void cancel(wait_key key, boost::asio::cancellation_type type) noexcept;
  boost::asio::execution_context* context() const noexcept { return &io_; }

  // --- the executor ---

  template <class F, class Allocator>
  void push_continuation(F&& f, const Allocator& a) {
    using function = std::decay_t<F>;
    cell* c = acquire_cell();
    try {
      c->emplace<function>(std::forward<F>(f), a);
    } catch (...) {
      release_cell(*c);
      throw;
    }
    link_continuation(*c);
  }

  /// Runs a continuation on this worker, inside the caller.
  template <class F>
  void run_inline(F&& f) noexcept {
    count_continuation();
    try {
      static_cast<F&&>(f)();
    } catch (...) {
      report_exception(std::current_exception());
    }
  }

  void work_started() noexcept { work_.fetch_add(1, std::memory_order_relaxed); }
  void work_finished() noexcept;

  // --- the end ---

  void close() noexcept;
  std::size_t stop() noexcept;
  void join();
  drain_report drain_for(std::chrono::nanoseconds duration);
  const std::shared_ptr<wait_set<error_code>>& drain_waiters() const noexcept { return drains_; }
  void complete_drains_if_done() noexcept;

  /// After the workers are gone: destroys what they left, uninvoked.
  void discard_all() noexcept;

  /// Touches the io_context no more.
  void let_io_context_go() noexcept;

  pool_stats stats() const noexcept;

private:
  using cells = intrusive_list<cell>;
  using ops = intrusive_list<submit_op>;

  static constexpr unsigned poll_interval = 61;
  static constexpr unsigned yields_before_sleep = 8;

  static constexpr int polled_at_most = 16;

  static scheduler*& current() noexcept;    // whose worker this thread is
  static submit_op*& current_op() noexcept; // what it runs

  // Reserves a place for `f`, or, where that runs no code of the user's, puts it there at once.
  // Returns the reserved cell, which the caller has to fill and push.
  template <class F>
  cell* reserve_or_push(F&& f, admission& a, when_full policy) {
    using function = std::decay_t<F>;
    bool wake;
    {
      std::lock_guard lock(mutex_);
      a = admit(policy);
      if (a != admission::admitted) return nullptr;
      cell& c = reserve_cell();
      if constexpr (cell::is_plain<function>) {
        c.emplace<function>(std::forward<F>(f), std::allocator<void>());
        wake = link_submission(c);
      } else {
        return &c;
      }
    }
    if (wake) wake_one();
    return nullptr;
  }

  template <class F>
  void build_and_push(cell& c, F&& f) {
    using function = std::decay_t<F>;
    try {
      c.emplace<function>(std::forward<F>(f), std::allocator<void>());
    } catch (...) {
      give_place_back(c);
      throw;
    }
    push_reserved(c);
  }

  template <class F>
  void wait_in_line(F&& f) {
    cell* c = acquire_cell();
    try {
      c->emplace<std::decay_t<F>>(std::forward<F>(f), std::allocator<void>());
    } catch (...) {
      release_cell(*c);
      throw;
    }
    stand_in_line(*c);
  }

  template <class F>
  void run_here(F&& f) {
    begin_running();
    bool ok = true;
    try {
      std::decay_t<F> function(std::forward<F>(f));
      static_cast<void>(invoke_with_stop_token(function, stop_));
    } catch (...) {
      ok = false;
      report_exception(std::current_exception());
    }
    end_running(ok);
  }

  admission admit(when_full policy);
  cell& reserve_cell();
  bool link_submission(cell& c) noexcept;
  void push_reserved(cell& c) noexcept;
  void give_place_back(cell& c) noexcept;
  void stand_in_line(cell& c);
  void begin_running();
  void end_running(bool ok) noexcept;
  [[noreturn]] static void throw_system_error(errc e);

  cell* acquire_cell();
  void release_cell(cell& c) noexcept;
  void link_continuation(cell& c) noexcept;
  void count_continuation() noexcept { continuations_.fetch_add(1, std::memory_order_relaxed); }
  void report_exception(std::exception_ptr error) noexcept;

  void on_context_shutdown(wait_key key) noexcept override;

  void run_worker(std::size_t index) noexcept;
  cell* next(bool& wake) noexcept;
  bool run(cell& c) noexcept;
  void run_async(submit_op& op) noexcept;
  void count_end(bool ok) noexcept;
  void yield(std::unique_lock<std::mutex>& lock) noexcept;
  void sleep(std::unique_lock<std::mutex>& lock) noexcept;
  void poll() noexcept;
  bool claim_wake() noexcept;
  void wake_one() noexcept;
  bool admit_waiters() noexcept;
  bool drained() const noexcept;
  void let_go_if_finished() noexcept;
  void join_threads();
  void end_line(ops& refused) noexcept;
  void forget(submit_op& op) noexcept;
  void end_all(ops& all, error_code ec) noexcept;
  submit_op* take(wait_key key, std::stop_source& running) noexcept;
  void leave_queue(submit_op& op) noexcept;

  pool& owner_;
  boost::asio::io_context& io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  const options options_;

  mutable std::mutex mutex_;
  cell_slab slab_;
  cells queue_; // what may run, in order of arrival
  cells line_;  // submissions waiting for room, in order of arrival
  key_table<submit_op> keys_;
  departures departing_;   // operations that are in no list any more and not posted yet
  std::size_t queued_ = 0; // admitted submissions that have not started; some not linked yet
  std::size_t running_ = 0;
  std::size_t blocked_ = 0; // threads in line_
  std::size_t live_ = 0;
  std::size_t sleeping_ = 0;
  std::size_t wakes_ = 0;
  bool closed_ = false;
  bool stopped_ = false;
  bool joining_ = false;
  bool exit_ = false;
  std::uint64_t submitted_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t rejected_ = 0;
  std::uint64_t cancelled_ = 0;
  std::condition_variable drained_;  // notified when the last submission has ended
  std::condition_variable orphaned_; // notified when an orphaned operation has been discarded

  std::atomic<std::uint64_t> continuations_{0};
  std::atomic<std::uint64_t> exceptions_{0};
  std::atomic<std::size_t> work_{1}; // tracked executors; one unit is the pool's own, until join()
  std::stop_source stop_;
  std::shared_ptr<wait_set<error_code>> drains_ = std::make_shared<wait_set<error_code>>();

  std::mutex join_mutex_;
  std::vector<std::thread> threads_;
};

} // namespace detail
} // namespace bulkhead

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/scheduler.ipp>
#endif

#endif
