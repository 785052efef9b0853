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
#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/run/cell.hpp>
#include <bulkhead/detail/run/parking.hpp>
#include <bulkhead/detail/run/run_queue.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/detail/run/worker.hpp>
#include <bulkhead/detail/sync.hpp>
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

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead {

class pool;

namespace detail {

struct shard;
struct blocked_submitter;

/// A submission that waits for room: one of two kinds.
struct in_line : list_hook<> {
  explicit in_line(submit_op* o) noexcept : op(o) {}
  explicit in_line(blocked_submitter* b) noexcept : blocked(b) {}

  submit_op* op = nullptr;
  blocked_submitter* blocked = nullptr;
  shard* where = nullptr; // the queue of who submitted it
};

/// An async_submit of a pool.
class submit_op : public list_hook<>, public submission {
public:
  enum class state : unsigned char { reserved, waiting, queued };

  state now = state::reserved;
  in_line line{this};
  cell* place = nullptr; // since it is queued
  cell::state full = 0;  // the state of that cell until it is taken
  bool orphaned = false; // the handler's context shuts down while the function runs

protected:
  ~submit_op() = default;
};

/// A thread that waits for room in submit(), and its function, in a node. What follows `now` is
/// guarded by the scheduler's mutex.
struct blocked_submitter {
  enum class state : unsigned char { waiting, admitted, refused };

  in_line line{this};
  const stored_function* function = nullptr;
  void* node = nullptr;
  sync::atomic<state> now{state::waiting};
  bool asleep = false;
  bool called = false;
  bool patient = true; // may sleep on although it is admitted
  sync::condition_variable changed;
};

/// What admission says at once.
enum class admission { admitted, full, closed };

/// What to do with a submission that finds no room.
enum class when_full { refuse, run_here, wait };

/// The engine of a pool: its queues, its workers, and its counters.
///
/// **Queues.** What comes from outside, and all submissions, enter through one of a few *shards*;
/// each thread keeps to one, so that what it submits is taken in order. What a worker posts itself
/// goes to a queue of its own. All are run_queues: a worker claims up to `batch` functions at a
/// time, from its own queue and from a shard by turns, and what it has claimed or posted can be
/// robbed by a worker that has nothing to do, and once in a while by one that has.
///
/// **Admission.** Submissions are bounded by credits. `granted_` counts those ever given out, each
/// worker counts those it has started, and the difference never exceeds `queue_limit`. A shard
/// holds some credits in advance, so that its producers need not ask, under the shard's lock, which
/// they take anyhow. Who finds none there, and only a few left, takes one from `granted_`, which does
/// not need the mutex; otherwise he asks under the mutex for an advance. Before anybody is refused,
/// the credits of all other shards are called in; `granted_` says whether there are any, so that
/// without the mutex it is seen as well that the queue is full. Therefore the limit is exact in both
/// directions. Who finds no room may stand in `line_`, threads and asynchronous operations alike,
/// first come, first served; while somebody stands there, no shard holds credits. A worker that
/// starts a submission counts it and then looks whether there is a line; who opens a line waits for
/// an asymmetric_fence and looks for room afterwards: one of the two sees the other. The same goes
/// for a submission that ends and close(); and who has taken a credit without the mutex looks
/// whether the pool has been closed.
///
/// **Reactor.** The pool is an io_context, so Asio finds its reactor there and starts no thread of
/// its own. One idle worker sleeps in `run_one()`, the others each on an event: see parking.
/// While nobody sleeps there, a worker that searches polls for I/O, and so does a busy one, every
/// few claims.
///
/// **Watch.** Three things are put off. Two, because a wake-up costs so much: to call somebody for the
/// few functions that a handler has posted itself, and to see that I/O is looked at while the worker
/// that slept at the reactor runs a handler. The third is to take from a worker that is awake a few
/// functions that it has posted itself, claimed or not: most likely it is about to run them, and they
/// find there all that they use. So what passes a little work on and on, as coroutines do that wait
/// for one another, gathers on one worker. Who searches *leaves them alone*; but where some were left
/// so, and a nap of the watcher's later there are still some, he takes them if the first is the same,
/// or if the worker has posted so few meanwhile that its functions must be long. None, or many, and
/// what was left is forgotten. Whoever puts such a thing off sees to it that one of
/// the sleepers *watches*. That one sleeps for 50 us, for 100 us and so on up to a millisecond, looks
/// for work each time, and sits down at the reactor if nobody has polled since the last time. It
/// sleeps for good after eight times at which nobody had relied on it, if somebody sits at the
/// reactor. Before, it takes `watched` back and looks once more; a function is published before
/// `watched` is read; so one of the two sees the other, as with parking.
///
/// **State.** Each worker of a stateful_pool has a place for a state: see worker_state. One that has
/// none, and is hence *cold*, looks at what it has claimed, one function at a time, before it takes
/// it, and makes its state for a submission. Meanwhile that stands in its claim for the warm ones to
/// take, of whom one is called if he sleeps; other cold ones leave it alone. If the state cannot be
/// made, there are two cases. Where others are warm, or making a state, it *stands back*: it waits with
/// its claim, as if a function before it lasted, until somebody has helped himself to it, or it may try
/// again. Where there are none, it takes that one submission to fail it, and stands back with the next.
/// Who stands back while nobody sleeps polls, and runs the continuations that are queued, from
/// wherever they stand. Cold workers lie at the end of the sleepers' list, so that they
/// are called last, and leave first when the pool shrinks. As nobody expires at the reactor, a cold one
/// there is called when a warm one is about to expire, and does so in its place. In other pools nobody
/// needs a state, and there is nothing more to it than to look at that.
///
/// **End.** close() calls in all credits, stop() also drops what has not started, join() lets the
/// workers go when no tracked work is left: no function, nobody awake, and no executor with
/// outstanding_work tracked, which is what Asio's pending operations hold. The base class's stop()
/// merely wakes who sleeps there: a worker that finds the io_context stopped before its time
/// restarts it.
///
/// Locks are taken in the order thread_mutex_, mutex_, parking, shard, queue.
class scheduler final : public shutdown_target, public std::enable_shared_from_this<scheduler> {
public:
  struct options {
    std::size_t threads;
    std::size_t min_threads;
    std::chrono::nanoseconds idle_expiry;
    std::size_t queue_limit;
    std::size_t waiter_limit;
    bool lifo;
    std::string name;
    std::function<void(std::exception_ptr)> on_exception;
    std::function<void(std::size_t)> on_worker_start;
    std::function<void(std::size_t)> on_worker_stop;
    state_source* states; // null unless the pool is stateful
  };

  scheduler(pool& owner, boost::asio::io_context& io, options opts);
  ~scheduler();

  /// Creates the workers, or none: throws system_error when one of them cannot be created.
  void start();

  pool& owner() const noexcept { return owner_; }
  std::size_t threads() const noexcept { return threads_.load(std::memory_order_relaxed); }
  bool running_in_this_thread() const noexcept { return this_worker() != nullptr; }

  // --- submissions ---

  template <class F>
  bool try_submit(F&& f) {
    return push_submission(std::forward<F>(f), when_full::refuse) == admission::admitted;
  }

  template <class F>
  void submit(F&& f, when_full policy) {
    admission a = push_submission(std::forward<F>(f), policy);
    if (policy == when_full::wait) {
      // Under load there is room again before a thread would have fallen asleep.
      for (unsigned i = 0; a == admission::full && i != yields_before_line; ++i) {
        sync::this_thread::yield();
        if (!has_line_.load(std::memory_order_relaxed) && balance_of_credits().room != 0)
          a = push_submission(std::forward<F>(f), policy);
      }
    }
    if (a == admission::admitted) return;
    if (a == admission::closed) throw_system_error(errc::closed);
    if (policy == when_full::refuse) throw_system_error(errc::queue_full);
    if (policy == when_full::run_here) return run_here(std::forward<F>(f));
    wait_in_line(std::forward<F>(f));
  }

  // --- async_submit: see begin_wait() ---

  using submission_type = submit_op;

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
    if (worker* w = this_worker()) {
      cell& c = w->local.reserve();
      try {
        build<work::continuation>(c, std::forward<F>(f), a, w->nodes);
      } catch (...) {
        published_inside(*w);
        throw;
      }
      w->posted.add();
      if (options_.lifo) w->recent.push(cell_range::of(c));
      c.publish();
      published_inside(*w);
      return;
    }
    shard& s = this_shard();
    std::unique_lock lock(s.mutex);
    push<work::continuation>(s, lock, std::forward<F>(f), a);
  }

  /// Runs a continuation on this worker, inside the caller. On a paused pool, only where the caller
  /// would wait for it: what runs there is to end.
  template <class F>
  void run_inline(F&& f) noexcept {
    worker& w = *this_worker();
    w.run_inline.add();
    if (w.in_reactor) leave_reactor(w);
    try {
      static_cast<void>(invoke_with_stop_token(f, stop_));
    } catch (...) {
      report_exception(std::current_exception());
    }
  }

  bool may_run_inline() const noexcept {
    return this_worker() && !(signals_.load(std::memory_order_relaxed) & paused);
  }

  /// One tracked executor more or less. A worker keeps units of work in hand that are counted in
  /// `work_` and that nobody does, so that here it seldom changes what all workers share. It has none
  /// in hand while it sleeps: see let_go_if_finished().
  void work_started() noexcept {
    if (worker* w = this_worker(); w && w->awake) {
      if (w->work_in_hand == 0) {
        work_.fetch_add(work_at_once, std::memory_order_relaxed);
        w->work_in_hand = work_at_once;
      }
      --w->work_in_hand;
    } else {
      work_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  void work_finished() noexcept {
    worker* w = this_worker();
    if (!w || !w->awake) return finish_work(1);
    if (++w->work_in_hand == 2 * work_at_once) {
      work_.fetch_sub(work_at_once, std::memory_order_acq_rel);
      w->work_in_hand = work_at_once;
    }
  }

  // --- states: see scheduler_states.ipp ---

  /// Of the worker that this thread is; it runs a submission of a stateful pool.
  static worker_state& state_here() noexcept { return *current()->state; }

  /// That has destroyed it itself.
  static void state_is_gone() noexcept;

  /// The submission that this worker runs has failed, and that is reported already.
  static void count_failure() noexcept { current()->failed.add(); }

  /// Between the two, who waits for warmth comes in.
  void begin_warm_up() noexcept;
  void warm_up() noexcept;
  const std::shared_ptr<wait_set<std::exception_ptr>>& warm_up_waiters() const noexcept {
    return warm_ups_;
  }

  // --- size ---

  void resize(std::size_t threads);
  void pause() noexcept;
  void resume() noexcept;
  void attach();

  // --- the end ---

  void close() noexcept;
  bool is_closed() const noexcept { return closed_.load(std::memory_order_seq_cst); }
  std::size_t stop() noexcept;
  void join();
  drain_report drain_for(std::chrono::nanoseconds duration);
  const std::shared_ptr<wait_set<error_code>>& drain_waiters() const noexcept { return drains_; }
  void complete_drains_if_done() noexcept;

  /// Waits until no operation is on its way to its handler's context, which may be this one; but for
  /// those of the caller, of which one may end the pool.
  void wait_for_departures() noexcept;

  /// After the workers are gone: destroys what they left, uninvoked.
  void discard_all() noexcept;

  /// Touches the io_context no more.
  void let_io_context_go() noexcept;

  pool_stats stats() const noexcept;

private:
  using ops = intrusive_list<submit_op>;

  static constexpr unsigned batch = 16;              // functions in one claim
  static constexpr unsigned turns_between_polls = 4; // claims between two looks at I/O
  static constexpr unsigned turns_between_robberies = 16;
  static constexpr std::size_t all_workers = std::size_t(-1);
  static constexpr unsigned turns_before_yield = 8; // a yield takes longer than an answer
  static constexpr unsigned turns_between_yields = 4;
  static constexpr unsigned polled_at_most = 16;
  static constexpr unsigned tries_before_sleep = 64;
  static constexpr std::uint64_t least_for_advance = 4;
  static constexpr unsigned yields_before_line = 16;
  static constexpr unsigned few = 4;              // functions that are left to who has posted them
  static constexpr unsigned least_per_nap = 50;   // short ones that he posts in the shortest nap
  static constexpr std::size_t work_at_once = 16; // units that a worker takes or gives back
  static_assert(few < segment::size);
  static constexpr std::chrono::milliseconds longest_rest{1};

  // Bits of signals_.
  static constexpr unsigned exit = 1; // stop(), or join() has found the end
  static constexpr unsigned paused = 2;
  static constexpr unsigned surplus = 4; // more workers live than should
  static constexpr unsigned warmth_wanted = 8;

  /// Departed operations that this thread is completing.
  class completing {
  public:
    completing(const scheduler& of, std::size_t n) noexcept
        : of_(of), n_(n), outer_(std::exchange(innermost(), this)) {}
    ~completing() { innermost() = outer_; }
    completing(const completing&) = delete;
    completing& operator=(const completing&) = delete;

    static std::size_t count(const scheduler& of) noexcept {
      std::size_t n = 0;
      for (const completing* c = innermost(); c; c = c->outer_)
        if (&c->of_ == &of) n += c->n_;
      return n;
    }

  private:
    static completing*& innermost() noexcept { return per_thread<completing*, completing>::get(); }

    const scheduler& of_;
    const std::size_t n_;
    completing* const outer_;
  };

  static constexpr std::chrono::nanoseconds never_expires = std::chrono::nanoseconds::max();

  /// How long a watcher sleeps, and how often it has found nothing to watch.
  class watch_period {
  public:
    static constexpr std::chrono::nanoseconds shortest = std::chrono::microseconds(50);
    static constexpr std::chrono::nanoseconds longest = std::chrono::milliseconds(1);

    std::chrono::nanoseconds next() noexcept {
      return std::exchange(period_, std::min(period_ * 2, longest));
    }
    void restart_quiet() noexcept { quiet_ = 0; }
    bool is_over() noexcept { return ++quiet_ >= 8; }

  private:
    std::chrono::nanoseconds period_ = shortest;
    int quiet_ = 0;
  };

  void finish_work(std::size_t n) noexcept;

  /// What this thread is, and what it runs.
  static worker*& current() noexcept { return per_thread<worker*, scheduler>::get(); }
  static submit_op*& current_op() noexcept { return per_thread<submit_op*, scheduler>::get(); }

  static unsigned thread_number() noexcept;

  /// What this worker is to heed: a surplus is none of an attached one's business.
  unsigned signals(const worker& w) const noexcept {
    return signals_.load(std::memory_order_seq_cst) & w.heeds.load(std::memory_order_relaxed);
  }

  worker* this_worker() const noexcept {
    worker* w = current();
    return w && &w->owner == this ? w : nullptr;
  }

  shard& this_shard() const noexcept { return *shards_[thread_number() & shard_mask_]; }

  // --- pushing ---

  template <class F, class Allocator>
  static constexpr bool may_use_cache =
      alignof(F) <= alignof(std::max_align_t) && std::is_same_v<Allocator, std::allocator<void>>;

  /// Whether F can be built in its cell under a lock: nothing of the user's runs.
  template <class F, class From>
  static constexpr bool is_plain = fits_cell<F>&& std::is_trivially_constructible_v<F, From>&&
      std::is_trivially_copyable_v<F>&& std::is_trivially_destructible_v<F>;

  /// Builds `f` in a reserved cell, or gives the cell up and throws.
  template <work What, class F, class Allocator>
  static void build(cell& c, F&& f, const Allocator& a, node_cache& nodes) {
    void* memory = nullptr;
    using function = kept<F>;
    if constexpr (!fits_cell<function> && may_use_cache<function, Allocator>) {
      try {
        memory = nodes.allocate(sizeof(cached_function<function>));
      } catch (...) {
        give_up(c);
        throw;
      }
    }
    build<What>(c, std::forward<F>(f), a, memory);
  }

  template <work What, class F, class Allocator>
  static void build(cell& c, F&& f, const Allocator& a, void* memory) {
    using function = kept<F>;
    try {
      if constexpr (fits_cell<function>) {
        c.emplace<What, function>(std::forward<F>(f));
      } else if constexpr (may_use_cache<function, Allocator>) {
        using node = cached_function<function>;
        c.emplace_pointer(function_in_node<What, node>, node::create(memory, std::forward<F>(f)));
      } else {
        using node = allocated_function<function, Allocator>;
        c.emplace_pointer(function_in_node<What, node>, node::create(std::forward<F>(f), a));
      }
    } catch (...) {
      give_up(c);
      throw;
    }
  }

  static void give_up(cell& c) noexcept {
    c.give_up();
    run_queue::leave(segment::of(c), 1);
  }

  /// With the shard locked. Gives `memory` back if there is none for a cell.
  static cell& reserve(shard& s, void* memory) {
    try {
      return s.queue.reserve();
    } catch (...) {
      if (memory) node_cache::deallocate(memory);
      throw;
    }
  }

  /// Pushes into a shard, of which the caller has the lock, and for a submission the credit.
  template <work What, class F, class Allocator>
  void push(shard& s, std::unique_lock<spin_lock>& lock, F&& f, const Allocator& a) {
    using function = kept<F>;
    void* memory = nullptr;
    if constexpr (!fits_cell<function> && may_use_cache<function, Allocator>)
      memory = s.nodes.allocate(sizeof(cached_function<function>));
    cell& c = reserve(s, memory);
    if constexpr (What == work::continuation) s.posted.add();
    if constexpr (is_plain<function, F&&>) {
      c.emplace<What, function>(std::forward<F>(f));
      c.publish_under_lock();
      lock.unlock();
    } else {
      lock.unlock();
      try {
        build<What>(c, std::forward<F>(f), a, memory);
      } catch (...) {
        published(); // others stand behind it
        throw;
      }
      c.publish();
    }
    published();
  }

  template <class F>
  admission push_submission(F&& f, when_full policy) {
    shard& s = this_shard();
    bool has_credit = false;
    if (s.in_hand.count() == 0) {
      const balance now = balance_of_credits();
      if (policy != when_full::wait && now.room == 0 && !now.granted.lent &&
          !closed_.load(std::memory_order_seq_cst)) {
        if (policy == when_full::refuse) {
          std::lock_guard lock(s.mutex);
          s.submitted.add();
          s.rejected.add();
        }
        return admission::full;
      }
      has_credit = take_single_credit(now);
    }
    std::unique_lock lock(s.mutex);
    if (!has_credit && s.in_hand.count() != 0) [[likely]] {
      s.in_hand.take_one();
    } else if (!has_credit) {
      lock.unlock();
      const admission a = ask_for_credit(s, policy);
      if (a != admission::admitted) return a;
      lock.lock();
    }
    s.submitted.add();
    try {
      push<work::submission>(s, lock, std::forward<F>(f), std::allocator<void>());
    } catch (...) {
      if (lock.owns_lock()) lock.unlock();
      give_credit_back(true);
      throw;
    }
    return admission::admitted;
  }

  template <class F>
  void wait_in_line(F&& f) {
    using function = kept<F>;
    shard& s = this_shard();
    blocked_submitter self;
    self.line.where = &s;
    if constexpr (may_use_cache<function, std::allocator<void>>) {
      using node = cached_function<function>;
      void* memory;
      {
        std::lock_guard lock(s.mutex);
        memory = s.nodes.allocate(sizeof(node));
      }
      self.node = node::create(memory, std::forward<F>(f));
      self.function = &function_in_node<work::submission, node>;
    } else {
      using node = allocated_function<function, std::allocator<void>>;
      self.node = node::create(std::forward<F>(f), std::allocator<void>());
      self.function = &function_in_node<work::submission, node>;
    }
    stand_in_line(self);
  }

  /// Inside a submission that a worker runs it is only counted: no drain is done before the outer
  /// one has ended.
  template <class F>
  void run_here(F&& f) {
    worker* const w = this_worker();
    const bool nested = w && w->submissions.running() != 0;
    if (nested)
      w->nested.add();
    else
      begin_running_here();
    bool ok = true;
    try {
      kept<F> function(std::forward<F>(f));
      static_cast<void>(invoke_with_stop_token(function, stop_));
    } catch (...) {
      ok = false;
      report_exception(std::current_exception());
    }
    if (!nested) return end_running_here(ok);
    if (!ok) w->failed.add();
    w->nested.subtract();
    w->nested_ended.add();
  }

  /// After a cell of a shard was published.
  void published() noexcept {
    if (wants_hands()) get_hands();
    if (signals_.load(std::memory_order_seq_cst) & exit) drop_late_submissions();
  }

  /// After a worker has filled a cell of its own queue. To call somebody costs more than a few small
  /// functions, so that is left until there are many; meanwhile somebody who sleeps watches.
  void published_inside(worker& w) noexcept {
    if (w.in_reactor) leave_reactor(w); // a function runs there that has not come through the pool
    if (!wants_hands()) return;
    if (++w.unannounced != batch && ask_for_watch()) return;
    w.unannounced = 0;
    get_hands();
  }

  /// Whether a worker could be had for more work, that does not look for some already.
  bool wants_hands() const noexcept {
    return parking_.wants_call() ||
           (can_grow_.load(std::memory_order_relaxed) && parking_.all_busy());
  }

  void get_hands() noexcept {
    if (parking_.wants_call() && call_somebody()) return;
    if (parking_.all_busy() && can_grow_.load(std::memory_order_relaxed)) grow();
  }

  // --- admission ---

  /// Credits given out, and for how many more there is room.
  struct balance {
    granted_credits::value granted;
    std::uint64_t room;
  };

  /// What has come back is read last. If there seems to be no room, there is none at that moment:
  /// more may have been granted meanwhile, but never beyond the limit. If there seems to be room, it
  /// can be taken if `granted_` has not changed. If more has come back than had been granted, that was
  /// in between.
  balance balance_of_credits() const noexcept {
    for (;;) {
      const auto granted = granted_.load();
      const std::uint64_t taken = granted.count - returned_credits();
      if (taken <= options_.queue_limit) return {granted, options_.queue_limit - taken};
    }
  }

  /// Takes a credit without the mutex, if there are too few for an advance and nobody waits for them.
  /// If one could be had after all, ask_for_credit() finds it.
  bool take_single_credit(const balance& now) noexcept {
    if (now.room == 0 || now.room >= least_for_advance ||
        has_line_.load(std::memory_order_seq_cst) || !granted_.take_one(now.granted))
      return false;
    if (!closed_.load(std::memory_order_seq_cst)) [[likely]]
      return true;
    give_credit_back(false);
    return false;
  }

  admission ask_for_credit(shard& s, when_full policy);
  bool get_credit(shard& s) noexcept;

  /// Credits whose submission has left the queue.
  std::uint64_t returned_credits() const noexcept {
    std::uint64_t n = withdrawn_.load(std::memory_order_relaxed);
    for (const worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
      n += w->submissions.started();
    return n;
  }

  void call_in_credits() noexcept;
  void give_credit_back(bool counted) noexcept;
  bool has_room() noexcept;
  bool take_credit_for_line() noexcept;
  std::size_t queued() const noexcept;
  std::size_t running() const noexcept;
  void stand_in_line(blocked_submitter& self);
  bool join_line(in_line& l) noexcept;
  bool admit_from_line() noexcept;
  bool push_from_line(in_line& l) noexcept;
  void call(blocked_submitter& b) noexcept;
  bool has_room_for_many() const noexcept;
  void call_resting(bool in_any_case) noexcept;
  void let_line_move() noexcept;
  void begin_running_here();
  void end_running_here(bool ok) noexcept;
  [[noreturn]] static void throw_system_error(errc e);

  // --- async_submit ---

  void forget(submit_op& op) noexcept;
  submit_op* take(wait_key key, std::stop_source& running) noexcept;
  void abort(submit_op& op, error_code ec) noexcept;
  void end_line(ops& refused) noexcept;
  void end_all(ops& all, error_code ec) noexcept;
  void on_context_shutdown(wait_key key) noexcept override;

  // --- threads ---

  sync::thread create_worker();
  worker& free_worker();
  void grow() noexcept;
  void create_workers(std::unique_lock<sync::mutex>& thread_lock,
                      const sync::atomic<std::size_t>& wanted);
  bool lacks_workers(const sync::atomic<std::size_t>& wanted) noexcept;
  std::unique_ptr<worker> make_place(std::size_t index);
  void worker_has_ended(worker& w) noexcept;
  void report_missing_worker() noexcept;
  void name_this_thread(std::size_t index);
  void run_worker(worker& w) noexcept;
  void call_hook(const std::function<void(std::size_t)>& hook, std::size_t index) noexcept;

  // --- workers ---

  enum class verdict { go_on, end, retired };
  enum class awakening { to_search, has_worked, to_leave };

  bool host_work_loop(worker& w) noexcept;
  bool work_loop(worker& w) noexcept;
  verdict heed_signals(worker& w) noexcept;
  bool retire(worker& w) noexcept;
  bool refill(worker& w) noexcept;
  bool claim_local(worker& w) noexcept;
  bool claim_from(worker& w, run_queue& q, unsigned most) noexcept;
  bool claim_from_shards(worker& w) noexcept;
  bool rob(worker& w, std::size_t most) noexcept;
  void start_range(worker& w, const cell_range& r, bool local) noexcept;
  void start_newest(worker& w, const cell_range& r) noexcept;
  void set_range(worker& w, const cell_range& r) noexcept;
  void count_left(worker& w) noexcept;
  void run_range(worker& w) noexcept;
  void run(worker& w, cell& c) noexcept;
  bool run_function(cell& c) noexcept;
  void count_end(worker& w) noexcept;
  void run_async(worker& w, submit_op& op) noexcept;
  void report_exception(std::exception_ptr error) noexcept;

  bool idle(worker& w) noexcept;
  bool search(worker& w) noexcept;
  void end_search(worker& w) noexcept;
  bool sleep(worker& w) noexcept;
  void take_reactor_if_free(worker& w) noexcept;
  static cell_range rest_of_claim(const worker& v, bool leaves_first,
                                  const worker* looker) noexcept;
  static cell_range first_of_few(const run_queue& q, const cell_range& claimed) noexcept;
  bool leaves_alone(worker& owner, const cell_range& claimed) noexcept;
  bool may_sleep(worker& w) noexcept;
  void see_to_watch(worker& w) noexcept;
  awakening sleep_until_called(worker& w) noexcept;
  bool may_expire(const worker& w) const noexcept;
  bool expire(worker& w) noexcept;
  bool sleep_at_reactor(worker& w, std::chrono::nanoseconds duration) noexcept;
  bool ends_watch(worker& w, watch_period& period) noexcept;
  bool ask_for_watch() noexcept;
  void interrupt_reactor(worker& w) noexcept;
  bool get_up(worker& w) noexcept;
  void leave_reactor(worker& w) noexcept;
  template <class Leaves>
  bool any_work(const worker* self, Leaves leaves, const worker* sleeper = nullptr) noexcept;
  bool any_work() noexcept;
  void share_work(const worker* self) noexcept;
  std::size_t poll() noexcept;
  void restart_io() noexcept;
  bool call_somebody() noexcept;
  void call(sleeper& s, std::unique_lock<sync::mutex>& lock) noexcept;
  void call_at_reactor(worker& w) noexcept;
  void wake_all() noexcept;

  // --- states ---

  void set_heat(worker& w, warmth heat) noexcept;
  void will_need_state(worker& w) noexcept;
  bool is_last_hope_gone() noexcept;
  static bool is_kept(const worker& v, const worker* looker) noexcept;
  [[gnu::cold]] bool may_start(worker& w) noexcept; // else others are inlined less well
  bool make_state(worker& w) noexcept;
  void end_state(worker& w) noexcept;
  [[gnu::cold]] void stand_back(worker& w) noexcept;
  void call_warm_one() noexcept;
  void share_kept(worker& w) noexcept;
  void tend(worker& w) noexcept;
  bool spare(worker& w) noexcept;
  bool another_expires(worker& w) noexcept;
  bool makes_way(const worker& w) noexcept;
  void count_out(worker& w) noexcept;
  void heed_warm_up(worker& w) noexcept;
  void has_tried(worker& w, const std::exception_ptr& failure) noexcept;
  void complete_warm_ups_if_done() noexcept;

  // --- the end ---

  std::size_t drop_submissions() noexcept;
  void drop_late_submissions() noexcept;
  bool drained() const noexcept;
  void let_go_if_finished() noexcept;
  void let_go_if_finished_locked() noexcept;
  void join_threads();
  static void join(sync::thread t);
  std::uint64_t ended() const noexcept;

  /// False if `done()` is not true after `duration`, which may be as long as one likes.
  template <class Done>
  static bool wait_for(sync::condition_variable& changed, std::unique_lock<sync::mutex>& lock,
                       std::chrono::nanoseconds duration, Done done) {
    using clock = std::chrono::steady_clock;
    const auto now = clock::now();
    if (duration < clock::time_point::max() - now)
      return changed.wait_until(lock, now + duration, done);
    changed.wait(lock, done);
    return true;
  }

  pool& owner_;
  boost::asio::io_context& io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  const options options_;

  segment_store segments_;
  std::size_t shard_mask_;
  std::vector<std::unique_ptr<shard>> shards_;
  std::unique_ptr<worker> owned_first_worker_;
  worker* const first_worker_ = owned_first_worker_.get(); // the list only grows

  alignas(64) sync::atomic<unsigned> signals_{0};
  sync::atomic<bool> closed_{false};      // set under mutex_
  sync::atomic<bool> has_line_{false};    // set under mutex_
  sync::atomic<bool> has_resting_{false}; // set under mutex_
  sync::atomic<bool> joining_{false};
  sync::atomic<bool> can_grow_{false};
  sync::atomic<unsigned> robbery_mask_{turns_between_robberies - 1}; // 0 while somebody stands back
  sync::atomic<std::size_t> threads_;

  alignas(64) granted_credits granted_;
  sync::atomic<std::uint64_t> withdrawn_{0}; // credits of what left the queue before it started

  alignas(64) mutable parking parking_;
  worker* reactor_ = nullptr; // who sleeps there; guarded by the parking's mutex
  sync::atomic<bool> reactor_taken_{false};
  sync::atomic<bool> deferred_{false}; // since the watcher looked last, somebody relied on it
  sync::atomic<unsigned> polls_{0};
  sync::atomic<std::uint64_t> naps_{1}; // of watchers, in units of the shortest
  const worker* makes_way_ = nullptr;   // is to expire for another; guarded by the parking's mutex
  std::size_t live_ = 0;                // guarded by the parking's mutex
  std::size_t attached_ = 0;            // of live_; guarded by the parking's mutex
  std::size_t cold_ = 0;                // of live_; guarded by the parking's mutex
  std::size_t attached_cold_ = 0;       // of both; guarded by the parking's mutex
  std::size_t warming_ = 0;            // that heed warmth_wanted, and warm-ups that begin; likewise
  std::size_t stand_back_ = 0;         // workers that do; guarded by the parking's mutex
  std::exception_ptr first_failure_;   // of those that are warming; guarded by the parking's mutex
  sync::condition_variable all_ended_; // live_ is 0
  sync::condition_variable resumed_;   // or something else that a worker waits for

  alignas(64) mutable sync::mutex mutex_;
  intrusive_list<in_line> line_;    // submissions waiting for room, in order of arrival
  std::size_t blocked_ = 0;         // threads in line_
  intrusive_list<in_line> resting_; // threads that were admitted and sleep on
  key_table<submit_op> keys_;
  departures departing_; // operations that are in no list any more and not posted yet
  std::size_t here_ = 0; // submissions that run on the caller's thread
  bool stopped_ = false;
  std::uint64_t submitted_ = 0; // those that are counted nowhere else
  std::uint64_t unsubmitted_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t rejected_ = 0;
  std::uint64_t cancelled_ = 0;
  sync::condition_variable drained_;  // notified when the last submission has ended
  sync::condition_variable orphaned_; // notified when an orphaned operation has been discarded

  sync::atomic<std::uint64_t> exceptions_{0}; // outside of workers
  sync::atomic<std::uint64_t> expired_{0};
  sync::atomic<std::uint64_t> resizes_{0};
  alignas(64) sync::atomic<std::size_t> work_{
      1}; // tracked executors; one is the pool's, until join()
  std::stop_source stop_;
  std::shared_ptr<wait_set<error_code>> drains_ = std::make_shared<wait_set<error_code>>();
  std::shared_ptr<wait_set<std::exception_ptr>> warm_ups_; // if the pool is stateful

  sync::mutex thread_mutex_; // for creating threads, and those to join
  std::size_t joining_threads_ = 0;
  sync::condition_variable joined_; // joining_threads_ is 0
  sync::atomic<std::size_t> min_threads_;
  std::chrono::steady_clock::time_point no_growth_before_{};
};

} // namespace detail
} // namespace bulkhead

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/scheduler.ipp>
#include <bulkhead/impl/scheduler_admission.ipp>
#include <bulkhead/impl/scheduler_states.ipp>
#include <bulkhead/impl/scheduler_workers.ipp>
#endif

#endif
