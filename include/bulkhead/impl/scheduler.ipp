//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SCHEDULER_IPP
#define BULKHEAD_IMPL_SCHEDULER_IPP

// The beginning and the end of a pool, its threads and its statistics.

#include <bulkhead/detail/run/scheduler.hpp>
#include <bulkhead/detail/run/uncaught.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <system_error>
#include <utility>

namespace bulkhead::detail {

BULKHEAD_DECL unsigned scheduler::thread_number() noexcept {
  static constinit sync::atomic<unsigned> next{0};
  unsigned& number = per_thread<unsigned, scheduler>::get(); // from 1
  if (number == 0) number = next.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

// --- construction ---

BULKHEAD_DECL scheduler::scheduler(pool& owner, boost::asio::io_context& io, options opts)
    : owner_(owner), io_(io), guard_(io.get_executor()), options_(std::move(opts)),
      owned_first_worker_(make_place(0)), threads_(options_.threads),
      min_threads_(options_.min_threads) {
  constexpr std::size_t most_shards = 32;
  const std::size_t shards =
      options_.threads == 1 ? 1 : std::min(std::bit_ceil(2 * options_.threads), most_shards);
  for (std::size_t i = 0; i != shards; ++i) shards_.push_back(std::make_unique<shard>(segments_));
  shard_mask_ = shards - 1;
  asymmetric_fence::prepare();
  drains_->attach(&io_);
  if (!options_.states) return;
  warm_ups_ = std::make_shared<wait_set<std::exception_ptr>>();
  warm_ups_->attach(&io_);
}

/// A cancellation that met the end of the pool may have left something behind.
BULKHEAD_DECL scheduler::~scheduler() {
  discard_all();
  for (worker* w = first_worker_->next.load(std::memory_order_relaxed); w;) {
    worker* next = w->next.load(std::memory_order_relaxed);
    delete w;
    w = next;
  }
}

BULKHEAD_DECL void scheduler::start() {
  for (std::size_t i = 0; i != min_threads_; ++i) {
    try {
      std::unique_lock lock(thread_mutex_);
      sync::thread before = create_worker();
      lock.unlock();
      join(std::move(before));
    } catch (const std::system_error& e) {
      stop();
      join_threads();
      std::string what = "pool: worker ";
      what += std::to_string(i + 1);
      what += " of ";
      what += std::to_string(min_threads_);
      throw system_error(error_code(e.code().value(), boost::system::system_category()),
                         what + " could not be created");
    } catch (...) {
      stop();
      join_threads();
      throw;
    }
  }
  can_grow_.store(min_threads_ < options_.threads, std::memory_order_relaxed);
}

// --- the executor ---

/// The last unit of work is given back under the mutex, and unlocking that is the last thing done
/// here: join() may return, and the pool end, at once.
BULKHEAD_DECL void scheduler::finish_work(std::size_t n) noexcept {
  std::size_t all = work_.load(std::memory_order_relaxed);
  while (all > n)
    if (work_.compare_exchange_weak(all, all - n, std::memory_order_acq_rel)) return;
  std::lock_guard lock(mutex_);
  if (work_.fetch_sub(n, std::memory_order_acq_rel) == n) let_go_if_finished_locked();
}

BULKHEAD_DECL void scheduler::report_exception(std::exception_ptr error) noexcept {
  if (worker* w = this_worker())
    w->exceptions.add();
  else
    exceptions_.fetch_add(1, std::memory_order_relaxed);
  report_uncaught("pool", options_.name, options_.on_exception, std::move(error));
}

// --- threads ---

/// Under the thread mutex. Returns the thread that had the place before, if any, to be joined without
/// the mutex: the last thing it does may be to destroy thread_local objects that use the pool.
BULKHEAD_DECL sync::thread scheduler::create_worker() {
  worker& w = free_worker();
  {
    std::lock_guard lock(parking_.mutex());
    if (signals_.load(std::memory_order_relaxed) & exit) return {};
    ++live_;
    w.attached = false;
    will_need_state(w);
    w.heeds.store(exit | paused | surplus, std::memory_order_relaxed);
  }
  w.in_use.store(true, std::memory_order_relaxed);
  w.searching = true; // from its birth, so that no more are called or created for the same work
  parking_.add_search();
  try {
    return std::exchange(w.thread, sync::thread([this, &w] { run_worker(w); }));
  } catch (...) {
    w.searching = false;
    parking_.end_search(); // the caller looks whether somebody else is to be called
    w.in_use.store(false, std::memory_order_relaxed);
    if (w.state) has_tried(w, nullptr);
    worker_has_ended(w);
    throw;
  }
}

/// Under the thread mutex: a place for one more worker, perhaps that of one that has ended, but not
/// of the caller, who may be just about to end.
BULKHEAD_DECL worker& scheduler::free_worker() {
  worker* w = first_worker_;
  for (;; w = w->next.load(std::memory_order_relaxed)) {
    if (!w->in_use.load(std::memory_order_acquire) &&
        w->thread.get_id() != sync::this_thread::get_id())
      return *w;
    if (w->next.load(std::memory_order_relaxed)) continue;
    worker* added = make_place(w->index + 1).release();
    w->next.store(added, std::memory_order_release);
    return *added;
  }
}

BULKHEAD_DECL std::unique_ptr<worker> scheduler::make_place(std::size_t index) {
  return std::make_unique<worker>(*this, index, segments_,
                                  options_.states ? options_.states->place_for(index) : nullptr);
}

BULKHEAD_DECL void scheduler::join(sync::thread t) {
  if (t.joinable()) t.join();
}

/// More work than workers: one more, if there may be. A paused pool does not need any.
BULKHEAD_DECL void scheduler::grow() noexcept {
  if (signals_.load(std::memory_order_relaxed) & (exit | paused)) return;
  std::unique_lock thread_lock(thread_mutex_);
  if (!parking_.all_busy()) return; // somebody else has seen to it
  const auto now = std::chrono::steady_clock::now();
  if (now < no_growth_before_) return;
  {
    std::lock_guard lock(parking_.mutex());
    if (live_ >= threads()) {
      can_grow_.store(false, std::memory_order_relaxed);
      return;
    }
  }
  try {
    sync::thread before = create_worker();
    thread_lock.unlock();
    join(std::move(before));
  } catch (...) {
    no_growth_before_ = now + std::chrono::milliseconds(100);
    thread_lock.unlock();
    report_missing_worker();
  }
}

/// An attached thread is not joined, and must not touch the scheduler after this.
BULKHEAD_DECL void scheduler::worker_has_ended(worker& w) noexcept {
  std::lock_guard lock(parking_.mutex());
  if (w.state) set_heat(w, warmth::none);
  if (w.attached) {
    --attached_;
    w.in_use.store(false, std::memory_order_release);
  }
  if (--live_ == 0) all_ended_.notify_all();
  if (live_ < threads()) can_grow_.store(true, std::memory_order_relaxed);
}

BULKHEAD_DECL void scheduler::resize(std::size_t threads) {
  std::unique_lock thread_lock(thread_mutex_);
  const bool elastic = options_.min_threads < options_.threads;
  min_threads_ = elastic ? std::min(min_threads_.load(), threads) : threads;
  {
    std::lock_guard lock(parking_.mutex());
    threads_.store(threads, std::memory_order_relaxed);
    can_grow_.store(live_ < threads, std::memory_order_relaxed);
    if (live_ > threads && live_ != attached_) {
      for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
        if (!w->attached) w->heeds.fetch_or(surplus, std::memory_order_relaxed);
      signals_.fetch_or(surplus);
      wake_all();
    }
  }
  resizes_.fetch_add(1, std::memory_order_relaxed);
  try {
    create_workers(thread_lock, min_threads_);
    thread_lock.unlock();
  } catch (...) {
    thread_lock.unlock();
    report_missing_worker();
  }
  share_work(nullptr); // an elastic pool may grow again
}

/// Until there are so many as are wanted by then. The thread mutex is released now and then.
BULKHEAD_DECL void scheduler::create_workers(std::unique_lock<sync::mutex>& thread_lock,
                                             const sync::atomic<std::size_t>& wanted) {
  while (lacks_workers(wanted)) {
    sync::thread before = create_worker();
    thread_lock.unlock();
    join(std::move(before));
    thread_lock.lock();
  }
}

BULKHEAD_DECL bool scheduler::lacks_workers(const sync::atomic<std::size_t>& wanted) noexcept {
  std::lock_guard lock(parking_.mutex());
  return live_ < wanted.load(std::memory_order_relaxed) &&
         !(signals_.load(std::memory_order_relaxed) & exit);
}

/// In an exception handler: a worker could not be created, and the pool goes on with those it has.
BULKHEAD_DECL void scheduler::report_missing_worker() noexcept {
  report_exception(std::current_exception());
  if (parking_.wants_call() && any_work()) call_somebody();
  if (options_.states) complete_warm_ups_if_done(); // for it was counted a while
  if (joining_.load(std::memory_order_seq_cst)) let_go_if_finished();
}

BULKHEAD_DECL void scheduler::pause() noexcept { signals_.fetch_or(paused); }

BULKHEAD_DECL void scheduler::resume() noexcept {
  {
    std::lock_guard lock(parking_.mutex());
    signals_.fetch_and(~paused);
    resumed_.notify_all();
  }
  share_work(nullptr);
}

BULKHEAD_DECL void scheduler::attach() {
  if (running_in_this_thread()) throw_system_error(errc::would_deadlock);
  worker* w;
  sync::thread before;
  {
    std::lock_guard thread_lock(thread_mutex_);
    w = &free_worker();
    std::lock_guard lock(parking_.mutex());
    if (signals_.load(std::memory_order_relaxed) & exit) return;
    ++live_;
    ++attached_;
    w->attached = true;
    will_need_state(*w);
    w->in_use.store(true, std::memory_order_relaxed);
    w->heeds.store(exit | paused, std::memory_order_relaxed);
    before = std::move(w->thread);
  }
  join(std::move(before));
  run_worker(*w);
}

// --- the end ---

/// Under the mutex.
BULKHEAD_DECL bool scheduler::drained() const noexcept {
  return closed_.load(std::memory_order_relaxed) && line_.empty() && departing_.none() &&
         queued() == 0 && running() == 0;
}

BULKHEAD_DECL void scheduler::complete_drains_if_done() noexcept {
  wait_set<error_code>::list waiters;
  {
    std::lock_guard lock(mutex_);
    if (!drained()) return;
    drained_.notify_all();
    waiters = drains_->take_all();
  }
  drains_->complete(std::move(waiters), error_code());
}

/// Under the mutex: refuses those who wait for room. The operations among them are to be aborted.
BULKHEAD_DECL void scheduler::end_line(ops& refused) noexcept {
  while (!line_.empty()) {
    in_line& l = line_.pop_front();
    ++rejected_;
    if (submit_op* op = l.op) {
      forget(*op);
      departing_.begin();
      refused.push_back(*op);
    } else {
      --blocked_;
      const bool asleep = l.blocked->asleep;
      l.blocked->now = blocked_submitter::state::refused;
      if (asleep) call(*l.blocked);
    }
  }
  has_line_.store(false, std::memory_order_seq_cst);
}

/// Aborts what has departed; but after stop(), discards handlers that would run on the pool.
BULKHEAD_DECL void scheduler::end_all(ops& all, error_code ec) noexcept {
  bool stopped;
  {
    std::lock_guard lock(mutex_);
    stopped = stopped_;
  }
  const std::size_t n = all.size();
  ops own;
  {
    completing these(*this, n);
    while (!all.empty()) {
      submit_op& op = all.pop_front();
      if (stopped && op.home() == &io_)
        own.push_back(op);
      else
        op.abort(ec);
    }
  }
  departing_.end(mutex_, n);
  while (!own.empty()) own.pop_front().discard();
}

BULKHEAD_DECL void scheduler::close() noexcept {
  ops refused;
  {
    std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_seq_cst);
    asymmetric_fence::wait_for_all(); // for the ends of submissions
    call_in_credits();
    end_line(refused);
  }
  end_all(refused, errc::closed);
  complete_drains_if_done();
}

BULKHEAD_DECL std::size_t scheduler::stop() noexcept {
  ops refused;
  wait_set<error_code>::list drains;
  wait_set<std::exception_ptr>::list warm_ups;
  {
    std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_seq_cst);
    asymmetric_fence::wait_for_all(); // for the ends of submissions
    stopped_ = true;
    {
      std::lock_guard parking_lock(parking_.mutex());
      signals_.fetch_or(exit);
      wake_all();
    }
    call_in_credits();
    // Who publishes a function from now on, not having had the shard's lock yet, sees the signal.
    for (auto& s : shards_) s->mutex.synchronize();
    end_line(refused);
    drains = drains_->take_all(); // before a running task, asked to stop, can end them with success
    if (warm_ups_) warm_ups = warm_ups_->take_all();
  }
  stop_.request_stop();
  end_all(refused, errc::closed);
  const std::size_t abandoned = drop_submissions();
  drains_->complete_elsewhere(std::move(drains), io_, aborted());
  if (warm_ups_) warm_ups_->complete_elsewhere(std::move(warm_ups), io_, aborted());
  complete_drains_if_done();
  return abandoned;
}

/// After stop(): ends the submissions that have not started. Says how many those were.
BULKHEAD_DECL std::size_t scheduler::drop_submissions() noexcept {
  ops aborted;
  std::size_t n = 0;
  segments_.sweep([](work what) { return what != work::continuation; },
                  [&](cell& c) {
                    ++n;
                    if (c.what() == work::submission) c.destroy();
                    std::lock_guard lock(mutex_);
                    withdrawn_.fetch_add(1, std::memory_order_seq_cst);
                    ++cancelled_;
                    if (c.what() == work::submission) return;
                    submit_op& op = c.op();
                    forget(op);
                    if (op.orphaned) return orphaned_.notify_all();
                    departing_.begin();
                    aborted.push_back(op);
                  });
  end_all(aborted, boost::asio::error::operation_aborted);
  return n;
}

/// A submission was admitted before stop() and published after it.
BULKHEAD_DECL void scheduler::drop_late_submissions() noexcept {
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) return;
  }
  drop_submissions();
  complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::let_go_if_finished() noexcept {
  std::lock_guard lock(mutex_);
  let_go_if_finished_locked();
}

/// Under the mutex, whenever the last of something may have ended.
BULKHEAD_DECL void scheduler::let_go_if_finished_locked() noexcept {
  if (!joining_.load(std::memory_order_seq_cst) || work_.load(std::memory_order_acquire) != 0)
    return;
  std::lock_guard lock(parking_.mutex());
  if (signals_.load(std::memory_order_relaxed) & exit) return;
  if (parking_.sleeping() != live_ || queued() != 0 || any_work()) return;
  signals_.fetch_or(exit);
  wake_all();
}

BULKHEAD_DECL void scheduler::join() {
  if (running_in_this_thread()) throw_system_error(errc::would_deadlock);
  close();
  if (!joining_.exchange(true)) work_finished();
  join_threads();
}

BULKHEAD_DECL void scheduler::join_threads() {
  {
    std::unique_lock lock(parking_.mutex());
    all_ended_.wait(lock, [this] { return live_ == 0; });
  }
  std::unique_lock lock(thread_mutex_);
  for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_relaxed)) {
    if (!w->thread.joinable()) continue;
    sync::thread t = std::move(w->thread);
    ++joining_threads_;
    lock.unlock();
    t.join();
    lock.lock();
    if (--joining_threads_ == 0) joined_.notify_all();
  }
  joined_.wait(lock, [this] { return joining_threads_ == 0; }); // by others who join as well
}

BULKHEAD_DECL drain_report scheduler::drain_for(std::chrono::nanoseconds duration) {
  if (running_in_this_thread()) throw_system_error(errc::would_deadlock);
  const std::uint64_t before = ended();
  close();
  drain_report report;
  bool done;
  {
    std::unique_lock lock(mutex_);
    done = wait_for(drained_, lock, duration, [this] { return drained(); });
  }
  if (!done) report.abandoned = stop();
  report.completed = static_cast<std::size_t>(ended() - before);
  return report;
}

BULKHEAD_DECL void scheduler::wait_for_departures() noexcept {
  std::unique_lock lock(mutex_);
  departing_.wait(lock, completing::count(*this));
}

BULKHEAD_DECL void scheduler::discard_all() noexcept {
  std::size_t n;
  do {
    n = 0;
    segments_.sweep([](work) { return true; },
                    [&n](cell& c) {
                      ++n;
                      c.destroy();
                    });
  } while (n != 0);
}

BULKHEAD_DECL void scheduler::let_io_context_go() noexcept { guard_.reset(); }

// --- statistics ---

/// Submissions that have ended after they were started.
BULKHEAD_DECL std::uint64_t scheduler::ended() const noexcept {
  const pool_stats s = stats();
  return s.completed + s.failed;
}

BULKHEAD_DECL pool_stats scheduler::stats() const noexcept {
  pool_stats s;
  std::lock_guard lock(mutex_);
  s.queued = queued();
  s.running = running();
  s.waiting = line_.size();
  s.completed = completed_;
  s.failed = failed_;
  s.rejected = rejected_;
  s.cancelled = cancelled_;
  s.exceptions = exceptions_.load(std::memory_order_relaxed);
  for (const worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire)) {
    const std::uint64_t nested_ended = w->nested_ended.load();
    const std::uint64_t ended = w->submissions.ended() + nested_ended;
    const std::uint64_t failed = std::min(w->failed.load(), ended); // it may not have ended yet
    s.submitted += nested_ended + w->nested.load();
    s.completed += ended - failed;
    s.failed += failed;
    s.continuations += w->posted.load() + w->run_inline.load();
    s.exceptions += w->exceptions.load();
  }
  s.submitted += submitted_ - unsubmitted_;
  for (auto& p : shards_) {
    s.submitted += p->submitted.load();
    s.rejected += p->rejected.load();
    s.continuations += p->posted.load();
  }
  s.expired_workers = expired_.load(std::memory_order_relaxed);
  s.resizes = resizes_.load(std::memory_order_relaxed);
  std::lock_guard parking_lock(parking_.mutex());
  s.threads = live_;
  s.idle = parking_.sleeping();
  return s;
}

} // namespace bulkhead::detail

#endif
