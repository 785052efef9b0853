//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SCHEDULER_ADMISSION_IPP
#define BULKHEAD_IMPL_SCHEDULER_ADMISSION_IPP

// How submissions come in: credits, the line of those who wait for room, and async_submit.

#include <bulkhead/detail/run/scheduler.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <utility>

namespace bulkhead::detail {

// --- submissions ---

BULKHEAD_DECL void scheduler::throw_system_error(errc e) { throw system_error(make_error_code(e)); }

/// Gets a credit for one submission, and some for `s`, which the caller must not have locked.
BULKHEAD_DECL admission scheduler::ask_for_credit(shard& s, when_full policy) {
  // Others ask as well and will be done soon, sooner than a thread falls asleep.
  std::unique_lock lock(mutex_, std::try_to_lock);
  for (unsigned i = 0; !lock.owns_lock() && i != tries_before_sleep; ++i) {
    relax();
    lock.try_lock();
  }
  if (!lock.owns_lock()) lock.lock();
  const bool closed = closed_.load(std::memory_order_relaxed);
  if (!closed && get_credit(s)) return admission::admitted;
  // Whoever is going to wait, or to run the function himself, is counted then.
  const bool deadlock = policy == when_full::wait && running_in_this_thread();
  if (closed || deadlock || policy == when_full::refuse) {
    ++submitted_;
    ++rejected_;
  }
  if (closed) return admission::closed;
  if (deadlock) throw_system_error(errc::would_deadlock);
  return admission::full;
}

/// Under the mutex.
BULKHEAD_DECL bool scheduler::get_credit(shard& s) noexcept {
  if (!line_.empty()) return false;
  constexpr std::uint64_t most_in_advance = 1024;
  for (;;) {
    const balance now = balance_of_credits();
    if (now.room == 0) {
      if (!now.granted.lent) return false;
      call_in_credits();
    } else if (now.room < least_for_advance) {
      if (granted_.take_one(now.granted)) return true;
    } else {
      const std::uint64_t n = std::min(now.room / 2, most_in_advance);
      if (!granted_.lend(now.granted, n)) continue;
      std::lock_guard lock(s.mutex);
      s.in_hand.add(static_cast<std::size_t>(n - 1));
      return true;
    }
  }
}

/// Under the mutex. Afterwards, until somebody asks, no submission comes in without asking.
BULKHEAD_DECL void scheduler::call_in_credits() noexcept {
  if (!granted_.load().lent) return;
  std::size_t n = 0;
  for (auto& s : shards_) {
    std::lock_guard lock(s->mutex);
    n += s->in_hand.take_all();
  }
  granted_.call_in(n);
}

/// Under the mutex: submissions admitted and not started. What has come back is read first, and what
/// was granted last, so those that move on meanwhile are counted, and there may seem to be too many.
BULKHEAD_DECL std::size_t scheduler::queued() const noexcept {
  const std::uint64_t returned = returned_credits();
  std::uint64_t held = 0;
  for (auto& s : shards_) {
    std::lock_guard lock(s->mutex);
    held += s->in_hand.count();
  }
  return std::min(static_cast<std::size_t>(granted_.load().count - held - returned),
                  options_.queue_limit);
}

/// Under the mutex: a credit for who stands in line.
BULKHEAD_DECL bool scheduler::take_credit_for_line() noexcept {
  for (;;) {
    const balance now = balance_of_credits();
    if (now.room == 0) return false;
    if (granted_.take_one(now.granted)) return true;
  }
}

/// Under the mutex: submissions started and not ended.
BULKHEAD_DECL std::size_t scheduler::running() const noexcept {
  std::size_t n = here_;
  for (const worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
    n += w->submissions.running() + w->nested.load();
  return n;
}

/// There is no function for it after all, as if none had been submitted; `counted` if it was counted
/// as submitted.
BULKHEAD_DECL void scheduler::give_credit_back(bool counted) noexcept {
  bool call;
  {
    std::lock_guard lock(mutex_);
    unsubmitted_ += counted;
    withdrawn_.fetch_add(1, std::memory_order_seq_cst);
    call = admit_from_line();
  }
  if (call) published();
  let_go_if_finished();
  complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::stand_in_line(blocked_submitter& self) {
  using state = blocked_submitter::state;
  bool call = false;
  {
    std::lock_guard lock(mutex_);
    ++submitted_;
    if (closed_.load(std::memory_order_relaxed)) {
      ++rejected_;
      self.now = state::refused;
    } else {
      ++blocked_;
      call = join_line(self.line);
    }
  }
  if (call) published();
  if (self.now == state::waiting) {
    std::unique_lock lock(mutex_);
    self.asleep = self.now == state::waiting;
    const auto called = [&] { return self.called || !self.asleep; };
    if (!self.changed.wait_for(lock, longest_rest, called)) {
      self.patient = false;
      if (self.now == state::admitted)
        resting_.erase(self.line);
      else
        self.changed.wait(lock, called);
    }
  }
  if (self.now == state::admitted) return;
  self.function->destroy(&self.node);
  throw_system_error(errc::closed);
}

BULKHEAD_DECL void scheduler::begin_running_here() {
  std::lock_guard lock(mutex_);
  ++submitted_;
  if (closed_.load(std::memory_order_relaxed)) {
    ++rejected_;
    throw_system_error(errc::closed);
  }
  ++here_;
}

BULKHEAD_DECL void scheduler::end_running_here(bool ok) noexcept {
  {
    std::lock_guard lock(mutex_);
    ++(ok ? completed_ : failed_);
    --here_;
  }
  complete_drains_if_done();
}

/// Under the mutex: stands `l` in line, and lets the line move, for there may be room by now. Says
/// whether anything was admitted.
BULKHEAD_DECL bool scheduler::join_line(in_line& l) noexcept {
  if (line_.empty()) call_in_credits();
  line_.push_back(l);
  if (!has_line_.load(std::memory_order_relaxed)) {
    has_line_.store(true, std::memory_order_seq_cst);
    asymmetric_fence::wait_for_all(); // for the starts of submissions
  }
  return admit_from_line();
}

/// Under the mutex: lets the line of waiting submitters move, which every path that frees a place
/// does. Says whether anything was admitted, and somebody is to be called. If there is no memory for
/// a place in a queue, a watcher tries again until there is.
BULKHEAD_DECL bool scheduler::admit_from_line() noexcept {
  bool any = false;
  while (!line_.empty() && take_credit_for_line()) {
    in_line& first = line_.pop_front();
    if (!push_from_line(first)) {
      line_.push_front(first);
      ask_for_watch();
      break;
    }
    any = true;
  }
  if (line_.empty()) has_line_.store(false, std::memory_order_seq_cst);
  return any;
}

/// Under the mutex: gives `l`, for which there is a credit, a place in its queue. False if there is no
/// memory for that; the credit goes back then.
BULKHEAD_DECL bool scheduler::push_from_line(in_line& l) noexcept {
  shard& s = *l.where;
  {
    std::lock_guard lock(s.mutex);
    cell* c;
    try {
      c = &s.queue.reserve();
    } catch (...) {
      withdrawn_.fetch_add(1, std::memory_order_seq_cst);
      return false;
    }
    if (submit_op* op = l.op) {
      op->now = submit_op::state::queued;
      op->place = c;
      op->full = c->load() + 1;
      c->emplace(*op);
    } else {
      c->emplace_pointer(*l.blocked->function, l.blocked->node);
    }
    c->publish();
  }
  if (blocked_submitter* b = l.blocked) {
    --blocked_;
    // The submitter is gone as soon as it sees its new state, unless it sleeps: then it needs the
    // mutex first.
    const bool asleep = b->asleep;
    const bool rests = asleep && b->patient && !has_room_for_many();
    b->now = blocked_submitter::state::admitted;
    if (rests) {
      resting_.push_back(l);
      has_resting_.store(true, std::memory_order_relaxed);
    } else if (asleep) {
      call(*b);
    }
  }
  return true;
}

/// Under the mutex: wakes a thread that sleeps in submit().
BULKHEAD_DECL void scheduler::call(blocked_submitter& b) noexcept {
  b.called = true;
  b.changed.notify_one();
}

/// Under the mutex: whether so much of the queue is free that it is worth a thread's waking.
BULKHEAD_DECL bool scheduler::has_room_for_many() const noexcept {
  return balance_of_credits().room >= options_.queue_limit / 4;
}

/// To wake a thread costs a worker more than many functions, and if a submitter were woken for each
/// place that becomes free, it would cost so much for each. So one that sleeps when it is admitted
/// sleeps on until a quarter of the queue is free, or no worker has anything else to do, or a
/// millisecond has gone by since it lay down.
BULKHEAD_DECL void scheduler::call_resting(bool in_any_case) noexcept {
  std::lock_guard lock(mutex_);
  if (!resting_.empty() && (in_any_case || has_room_for_many()))
    call(*resting_.pop_front().blocked);
  if (resting_.empty()) has_resting_.store(false, std::memory_order_relaxed);
}

/// A place has become free.
BULKHEAD_DECL void scheduler::let_line_move() noexcept {
  bool call;
  {
    std::lock_guard lock(mutex_);
    call = admit_from_line();
  }
  if (call) published();
}

// --- async_submit ---

BULKHEAD_DECL bool scheduler::refuse_now(error_code& ec) noexcept {
  std::lock_guard lock(mutex_);
  if (closed_.load(std::memory_order_relaxed))
    ec = errc::closed;
  else if (line_.size() - blocked_ < options_.waiter_limit)
    return false;
  else if (line_.empty() && has_room())
    return false;
  else
    ec = errc::queue_full;
  ++submitted_;
  ++rejected_;
  return true;
}

/// Under the mutex.
BULKHEAD_DECL bool scheduler::has_room() noexcept {
  if (balance_of_credits().room != 0) return true;
  call_in_credits();
  return balance_of_credits().room != 0;
}

BULKHEAD_DECL wait_key scheduler::reserve(submit_op& op) {
  op.line.where = &this_shard();
  std::lock_guard lock(mutex_);
  op.key = keys_.insert(op);
  return op.key;
}

BULKHEAD_DECL void scheduler::unreserve(submit_op& op) noexcept {
  std::lock_guard lock(mutex_);
  forget(op);
}

/// Under the mutex: the operation is not to be found any more.
BULKHEAD_DECL void scheduler::forget(submit_op& op) noexcept { keys_.erase(op.key); }

BULKHEAD_DECL void scheduler::enqueue(submit_op& op) noexcept {
  error_code ec;
  bool call = false;
  {
    std::lock_guard lock(mutex_);
    ++submitted_;
    if (closed_.load(std::memory_order_relaxed)) {
      ec = errc::closed;
    } else if (line_.empty() && has_room() && take_credit_for_line() && push_from_line(op.line)) {
      call = true;
    } else if (line_.size() - blocked_ < options_.waiter_limit) {
      op.now = submit_op::state::waiting;
      call = join_line(op.line);
    } else {
      ec = errc::queue_full;
    }
    if (ec) {
      ++rejected_;
      forget(op);
      departing_.begin();
    }
  }
  if (ec) abort(op, ec);
  if (call) published();
}

/// Completes an operation that has departed.
BULKHEAD_DECL void scheduler::abort(submit_op& op, error_code ec) noexcept {
  {
    completing one(*this, 1);
    op.abort(ec);
  }
  departing_.end(mutex_);
  complete_drains_if_done();
}

/// Takes the operation `key` out before it has started. If it has, returns its stop source.
BULKHEAD_DECL submit_op* scheduler::take(wait_key key, std::stop_source& running) noexcept {
  bool call = false;
  submit_op* op;
  cell* left = nullptr;
  {
    std::lock_guard lock(mutex_);
    op = keys_.find(key);
    if (!op || op->now == submit_op::state::reserved) return nullptr;
    if (op->now == submit_op::state::waiting) {
      line_.erase(op->line);
    } else if (op->place->take(op->full)) {
      left = op->place;
      withdrawn_.fetch_add(1, std::memory_order_seq_cst);
    } else {
      running = op->stop;
      return nullptr;
    }
    forget(*op);
    departing_.begin();
    ++cancelled_;
    call = admit_from_line();
  }
  if (left) run_queue::leave(segment::of(*left), 1);
  if (call) published();
  return op;
}

BULKHEAD_DECL void scheduler::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  std::stop_source running(std::nostopstate);
  if (submit_op* op = take(key, running)) abort(*op, boost::asio::error::operation_aborted);
  running.request_stop();
}

/// The context of a foreign handler shuts down. A function that runs for it is asked to stop and
/// waited for; then its handler goes, in time, uninvoked.
BULKHEAD_DECL void scheduler::on_context_shutdown(wait_key key) noexcept {
  std::stop_source running(std::nostopstate);
  submit_op* op = take(key, running);
  if (op) {
    departing_.end(mutex_);
  } else {
    {
      std::lock_guard lock(mutex_);
      op = keys_.find(key);
      if (op) op->orphaned = true;
    }
    if (op && op == current_op()) {
      std::fputs("bulkhead: the context of a handler must not be destroyed by the function that it "
                 "waits for\n",
                 stderr);
      std::terminate();
    }
    running.request_stop();
    std::unique_lock lock(mutex_);
    if (op) orphaned_.wait(lock, [&] { return !keys_.find(key); });
    departing_.wait(lock);
  }
  if (op) op->discard();
  complete_drains_if_done();
}

} // namespace bulkhead::detail

#endif
