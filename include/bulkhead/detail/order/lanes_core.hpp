//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_ORDER_LANES_CORE_HPP
#define BULKHEAD_DETAIL_ORDER_LANES_CORE_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/order/fair_queue.hpp>
#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/detail/wait/completion_latch.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/function_node.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/execution_context.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

class lane_core;

/// What stands in a lane.
class lane_task : public list_hook<> {
public:
  enum class kind : unsigned char { continuation, submission, async_submission };

  kind what = kind::continuation;

protected:
  ~lane_task() = default;
};

/// All but an async_submit: see function_node.
class lane_function : public lane_task {
public:
  virtual void run() = 0;
  virtual void destroy() noexcept = 0;

protected:
  ~lane_function() = default;
};

/// A function that takes a stop_token, with one that nobody stops, for nobody can name it; or a pointer,
/// which may be null.
template <class F>
class adapted_function {
public:
  template <class G>
  explicit adapted_function(G&& f) : function_(std::forward<G>(f)) {}

  void operator()() {
    static_cast<void>(invoke_with_stop_token(function_, std::stop_source(std::nostopstate)));
  }

private:
  F function_;
};

template <class F>
using plain_function =
    std::conditional_t<std::invocable<F&, std::stop_token> || std::is_pointer_v<F>,
                       adapted_function<F>, F>;

/// An async_submit of a lane.
class lane_op : public lane_task, public submission {
public:
  enum class state : unsigned char { reserved, waiting, queued, running, doomed };

  state now = state::reserved;
  completion_latch* orphan =
      nullptr; // of who waits for its function, for its handler's context goes

protected:
  lane_op() noexcept { what = kind::async_submission; }
  ~lane_op() = default;
};

/// A set of lanes: whose task is the next, and who runs it.
///
/// A *runner* is a function on its way to, or on, the inner executor; there are at most as many as
/// tasks may be in flight. One is sent off whenever a task may begin for which none is on its way. It
/// runs tasks one after the other, each that of the lane whose turn it is then, until there is none;
/// after `batch` of them it posts itself again, so that others on the inner executor have their turn:
/// as a continuation, for nothing is added that a thread would have to be woken for. (If the set is a
/// strand, it takes as many in one pass of the lock.)
///
/// A lane *waits* in `order_` while it has tasks and fewer in flight than it may. Every path that
/// changes one of the two sees to that in revise(): what comes, what ends, what is cancelled, and new
/// bounds. Whatever may let more tasks begin than there are runners for asks needs_runner() then.
///
/// One lock guards all of a set, its lanes included. Functions run, and handlers complete, under no
/// lock. Submitted functions stand in memory that the set keeps for the next ones; if that is more than
/// most_kept bytes, it is freed once there is nothing to run. A lane with something to do keeps itself
/// alive, and a runner keeps the set.
class lanes_core final : public shutdown_target, public std::enable_shared_from_this<lanes_core> {
public:
  struct settings {
    std::size_t concurrency;
    std::size_t batch;
    double minimum_share;
    bool is_strand; // one lane, one at a time, for good, and no submissions
    std::string name;
    std::function<void(std::exception_ptr)> on_exception;
  };

  lanes_core(const boost::asio::any_io_executor& inner, settings s);

  /// Subscribes with the executor's context.
  void attach();

  const boost::asio::any_io_executor& inner() const noexcept { return inner_; }
  boost::asio::execution_context* context() const noexcept { return context_; }

  std::size_t concurrency() const noexcept;
  void set_concurrency(std::size_t n);

  /// How many lanes there are.
  std::size_t size() const noexcept;

  /// The set is gone: submissions that have not started are aborted. Continuations still run.
  void end() noexcept;

private:
  friend class lane_core;
  class runner;

  /// What a thread is running for lanes.
  struct frame {
    const lane_core* lane;
    const lane_op* op; // null, but while its function runs: afterwards its memory may be another's
    frame* outer;
  };
  static frame*& innermost() noexcept { return per_thread<frame*, lanes_core>::get(); }

  enum class result : unsigned char { none, completed, failed };

  static constexpr std::size_t most_kept = 1 << 20; // of 8192 small functions

  void on_context_shutdown(wait_key) noexcept override;

  bool needs_runner() noexcept;
  bool post_runner(bool goes_on = false);
  bool post_runner_or_lose(bool goes_on = false) noexcept;
  void post_runners() noexcept;
  void free_spare_nodes() noexcept;
  bool runners_lost(std::size_t n) noexcept;
  void work() noexcept;
  result run(lane_core& lane, lane_task& task) noexcept;
  result run_async(lane_core& lane, lane_op& op) noexcept;
  void report_exception(std::exception_ptr error) noexcept;
  template <class F>
  void for_each_lane(F f) noexcept;
  void discard_all() noexcept;

  const boost::asio::any_io_executor inner_;
  const boost::asio::any_io_executor never_blocking_; // the same
  const boost::asio::any_io_executor going_on_;       // the same, for a runner's own continuation
  boost::asio::execution_context* const context_;
  const settings settings_;

  alignas(64) mutable spin_lock mutex_;
  bool ended_ = false;
  bool dead_ = false; // the context is going: nothing starts any more
  std::size_t concurrency_;
  std::size_t active_ = 0;    // runners
  std::size_t in_flight_ = 0; // of them, those that run a task
  std::size_t may_begin_ = 0; // tasks that only wait for a runner
  fair_queue<lane_core> order_;
  intrusive_list<lane_core> lanes_;
  const std::unique_ptr<node_cache> nodes_; // for submissions, if there are any
  shutdown_subscription subscription_;
};

/// One lane: what it is bounded by, what stands in it, and who waits for room. All of it is guarded by
/// the set's mutex.
class lane_core final : public list_hook<>,
                        public fair_queue<lane_core>::entry,
                        public shutdown_target,
                        public std::enable_shared_from_this<lane_core> {
public:
  struct settings {
    std::string name;
    double weight;
    int priority;
    std::size_t queue_limit;
    std::size_t waiter_limit;
    std::size_t concurrency;
  };

  /// Null if the set has ended.
  static std::shared_ptr<lane_core> open(std::shared_ptr<lanes_core> set, settings s);

  lane_core(std::shared_ptr<lanes_core> set, settings s);
  ~lane_core();

  const std::string& name() const noexcept { return name_; }
  const std::shared_ptr<lanes_core>& set() const noexcept { return set_; }

  // --- submissions ---

  template <class F>
  bool try_submit(F&& f) {
    using function = plain_function<std::decay_t<F>>;
    using node = function_node<lane_function, function, node_cache_returner<void>>;
    using overaligned_node = function_node<lane_function, function>;
    constexpr bool may_use_cache = alignof(node) <= alignof(std::max_align_t);
    void* memory = nullptr;
    if (!reserve_place(may_use_cache ? sizeof(node) : 0, memory)) return false;
    lane_function* n;
    try {
      if constexpr (may_use_cache)
        n = node::create_in(memory, std::forward<F>(f));
      else
        n = overaligned_node::create(std::forward<F>(f));
    } catch (...) {
      give_place_up();
      throw;
    }
    n->what = lane_task::kind::submission;
    fill_place(*n);
    return true;
  }

  // async_submit: see begin_wait() and initiate_submit.

  using submission_type = lane_op;
  bool refuse_now(error_code& ec) noexcept;
  wait_key reserve(lane_op& op);
  void unreserve(lane_op& op) noexcept;
  void enqueue(lane_op& op);
  void cancel(wait_key key, boost::asio::cancellation_type) noexcept;
  boost::asio::execution_context* context() const noexcept { return set_->context(); }

  // --- the executor ---

  template <class F, class Allocator>
  void push_continuation(F&& f, const Allocator& a) {
    push(*function_node<lane_function, std::decay_t<F>, Allocator>::create(std::forward<F>(f), a));
  }

  bool running_in_this_thread() const noexcept;

  /// Work that keeps the inner executor's context from ending.
  void work_started();
  void work_finished() noexcept;

  // --- the rest ---

  void set_weight(double weight) noexcept;
  void set_priority(int priority);
  void set_concurrency(std::size_t n);

  std::size_t most_in_flight() const noexcept;
  void close() noexcept;
  std::shared_ptr<wait_set<error_code>> drain_waiters();
  lane_stats stats() const noexcept;

  /// Whether nothing is queued, waits, runs, or is about to be queued.
  bool is_idle() const noexcept;

  /// Whether it is idle and owes nothing: then one that is opened instead has no advantage over it.
  bool settle() noexcept;

private:
  friend class lanes_core;
  using tasks = intrusive_list<lane_task>;
  using ops = intrusive_list<lane_task>; // async_submits only

  void on_context_shutdown(wait_key key) noexcept override;

  bool reserve_place(std::size_t size, void*& memory);
  void give_place_up() noexcept;
  void fill_place(lane_function& n);
  void push(lane_function& n);

  // Under the mutex.
  bool has_room() const noexcept;
  std::size_t may_begin() const noexcept;
  void revise() noexcept;
  void queue(lane_task& t) noexcept;
  void leave_queue(lane_task& t) noexcept;
  void admit_waiters() noexcept;
  lane_task& start_next() noexcept;
  void claim(tasks& claimed, std::size_t most) noexcept;
  void count_end(lanes_core::result r) noexcept;
  bool is_idle_locked() const noexcept;
  bool is_drained() const noexcept;
  std::shared_ptr<lane_core> let_go_if_idle() noexcept;
  void take_waiters(ops& taken) noexcept;
  void take_submissions(tasks& taken) noexcept;

  lane_op* take(wait_key key, std::stop_source& running) noexcept;
  void abort_all(ops all, error_code ec) noexcept;
  void discard_all() noexcept;
  bool discard_one() noexcept;
  void complete_drains_if_done() noexcept;
  void end() noexcept;

  const std::shared_ptr<lanes_core> set_;
  const std::string name_;
  const std::size_t queue_limit_;
  const std::size_t waiter_limit_;
  std::size_t concurrency_;

  bool closed_ = false;
  std::size_t may_begin_ = 0;           // its part of the set's
  std::size_t running_ = 0;             // in flight
  std::size_t running_submissions_ = 0; // of them
  std::size_t queued_ = 0;              // submissions in queue_
  std::size_t reserved_ = 0;            // places for submissions that are being made
  tasks queue_;
  ops waiters_;  // in order of arrival
  tasks doomed_; // nobody will run them
  key_table<lane_op> keys_;
  light_departures departing_;      // operations that are in no list any more and not posted yet
  std::shared_ptr<lane_core> self_; // while there is something to do

  std::uint64_t submitted_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t rejected_ = 0;
  std::uint64_t cancelled_ = 0;
  std::uint64_t continuations_ = 0;

  std::size_t work_ = 0;
  std::optional<boost::asio::any_io_executor> tracked_;
  std::shared_ptr<wait_set<error_code>> drains_; // since the first
};

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/lanes_core.ipp>
#endif

#endif
