//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SCHEDULER_IPP
#define BULKHEAD_IMPL_SCHEDULER_IPP

#include <bulkhead/detail/run/scheduler.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <optional>
#include <system_error>

#include <pthread.h>

namespace bulkhead::detail {

BULKHEAD_DECL worker*& scheduler::current() noexcept {
  static thread_local constinit worker* instance = nullptr;
  return instance;
}

BULKHEAD_DECL submit_op*& scheduler::current_op() noexcept {
  static thread_local constinit submit_op* instance = nullptr;
  return instance;
}

BULKHEAD_DECL unsigned scheduler::thread_number() noexcept {
  static constinit std::atomic<unsigned> next{0};
  static thread_local constinit unsigned number = 0; // from 1
  if (number == 0) number = next.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

// --- construction ---

BULKHEAD_DECL scheduler::scheduler(pool& owner, boost::asio::io_context& io, options opts)
    : owner_(owner), io_(io), guard_(io.get_executor()), options_(std::move(opts)),
      first_worker_(new worker(*this, 0, segments_)), threads_(options_.threads),
      min_threads_(options_.min_threads) {
  constexpr std::size_t most_shards = 32;
  const std::size_t shards =
      options_.threads == 1 ? 1 : std::min(std::bit_ceil(2 * options_.threads), most_shards);
  for (std::size_t i = 0; i != shards; ++i) shards_.push_back(std::make_unique<shard>(segments_));
  shard_mask_ = shards - 1;
  drains_->attach(&io_);
}

/// A cancellation that met the end of the pool may have left something behind.
BULKHEAD_DECL scheduler::~scheduler() {
  discard_all();
  for (worker* w = first_worker_; w;) {
    worker* next = w->next.load(std::memory_order_relaxed);
    delete w;
    w = next;
  }
}

BULKHEAD_DECL void scheduler::start() {
  for (std::size_t i = 0; i != min_threads_; ++i) {
    try {
      std::lock_guard lock(thread_mutex_);
      create_worker();
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

// --- submissions ---

BULKHEAD_DECL void scheduler::throw_system_error(errc e) { throw system_error(make_error_code(e)); }

/// Gets a credit for one submission, and some for `s`, which the caller must not have locked.
BULKHEAD_DECL admission scheduler::ask_for_credit(shard& s, when_full policy) {
  std::lock_guard lock(mutex_);
  const bool closed = closed_.load(std::memory_order_relaxed);
  if (!closed && get_credit(s)) {
    std::lock_guard shard_lock(s.mutex);
    return admission::admitted;
  }
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
  const auto free = [this] {
    return options_.queue_limit - static_cast<std::size_t>(granted_ - returned_credits());
  };
  std::size_t n = free();
  if (n == 0) {
    call_in_credits();
    n = free();
    if (n == 0) return false;
  }
  constexpr std::size_t most_in_advance = 1024;
  const std::size_t advance = std::min(n / (2 * shards_.size()), most_in_advance);
  if (advance > 1) {
    n = advance;
    std::lock_guard lock(s.mutex);
    s.credits += n - 1;
  } else {
    n = 1;
  }
  granted_ += n;
  return true;
}

/// Credits whose submission has left the queue.
BULKHEAD_DECL std::uint64_t scheduler::returned_credits() const noexcept {
  std::uint64_t n = withdrawn_;
  for (const worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
    n += w->submissions.started();
  return n;
}

/// Under the mutex. Afterwards, until somebody asks, no submission comes in without asking.
BULKHEAD_DECL void scheduler::call_in_credits() noexcept {
  for (auto& s : shards_) {
    std::lock_guard lock(s->mutex);
    granted_ -= std::exchange(s->credits, 0);
  }
}

/// Under the mutex: submissions admitted and not started.
BULKHEAD_DECL std::size_t scheduler::queued() const noexcept {
  const std::uint64_t returned = returned_credits();
  std::uint64_t held = 0;
  for (auto& s : shards_) {
    std::lock_guard lock(s->mutex);
    held += s->credits;
  }
  return static_cast<std::size_t>(granted_ - held - returned);
}

/// Under the mutex: submissions started and not ended.
BULKHEAD_DECL std::size_t scheduler::running() const noexcept {
  std::size_t n = here_;
  for (const worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
    n += w->submissions.running();
  return n;
}

/// The function could not be moved into its cell: as if it had never been submitted.
BULKHEAD_DECL void scheduler::give_credit_back() noexcept {
  bool call;
  {
    std::lock_guard lock(mutex_);
    ++unsubmitted_;
    ++withdrawn_;
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
  // Under load there is room before a sleep would have begun.
  for (unsigned i = 0; i != yields_in_line && self.now == state::waiting; ++i)
    std::this_thread::yield();
  if (self.now == state::waiting) {
    std::unique_lock lock(mutex_);
    self.asleep = true;
    self.changed.wait(lock, [&] { return self.now != state::waiting; });
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
  has_line_.store(true, std::memory_order_seq_cst);
  return admit_from_line();
}

/// Under the mutex: lets the line of waiting submitters move, which every path that frees a place
/// does. Says whether anything was admitted, and somebody is to be called.
BULKHEAD_DECL bool scheduler::admit_from_line() noexcept {
  bool any = false;
  while (!line_.empty() && granted_ - returned_credits() < options_.queue_limit) {
    in_line& first = line_.pop_front();
    if (!push_from_line(first)) {
      line_.push_front(first);
      break;
    }
    any = true;
  }
  if (line_.empty()) has_line_.store(false, std::memory_order_seq_cst);
  return any;
}

/// Under the mutex: gives `l` a place in its queue. False if there is no memory for that; the line
/// then waits for the next occasion.
BULKHEAD_DECL bool scheduler::push_from_line(in_line& l) noexcept {
  shard& s = *l.where;
  {
    std::lock_guard lock(s.mutex);
    cell* c;
    try {
      c = &s.queue.reserve();
    } catch (...) {
      return false;
    }
    ++granted_;
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
    b->now = blocked_submitter::state::admitted;
    if (asleep) b->changed.notify_one();
  }
  return true;
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
  if (granted_ - returned_credits() < options_.queue_limit) return true;
  call_in_credits();
  return granted_ - returned_credits() < options_.queue_limit;
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
    } else if (line_.empty() && has_room() && push_from_line(op.line)) {
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
  if (ec) {
    op.abort(ec);
    departing_.end(mutex_);
    complete_drains_if_done();
  }
  if (call) published();
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
      ++withdrawn_;
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
  if (submit_op* op = take(key, running)) {
    op->abort(boost::asio::error::operation_aborted);
    departing_.end(mutex_);
    complete_drains_if_done();
  }
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

// --- the executor ---

/// The last unit of work is given back under the mutex, and unlocking that is the last thing done
/// here: join() may return, and the pool end, at once.
BULKHEAD_DECL void scheduler::work_finished() noexcept {
  std::size_t n = work_.load(std::memory_order_relaxed);
  while (n > 1)
    if (work_.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel)) return;
  std::lock_guard lock(mutex_);
  if (work_.fetch_sub(1, std::memory_order_acq_rel) == 1) let_go_if_finished_locked();
}

BULKHEAD_DECL void scheduler::report_exception(std::exception_ptr error) noexcept {
  if (worker* w = this_worker())
    w->exceptions.add();
  else
    exceptions_.fetch_add(1, std::memory_order_relaxed);
  try {
    if (options_.on_exception) return options_.on_exception(std::move(error));
    std::rethrow_exception(std::move(error));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bulkhead: pool \"%s\": uncaught exception in a handler: %s\n",
                 options_.name.c_str(), e.what());
  } catch (...) {
    std::fprintf(stderr, "bulkhead: pool \"%s\": uncaught exception in a handler\n",
                 options_.name.c_str());
  }
}

// --- threads ---

/// Under the thread mutex.
BULKHEAD_DECL void scheduler::create_worker() {
  worker& w = free_worker();
  {
    std::lock_guard lock(parking_.mutex());
    if (signals_.load(std::memory_order_relaxed) & exit) return;
    ++live_;
  }
  w.in_use.store(true, std::memory_order_relaxed);
  w.attached = false;
  w.searching = true; // from its birth, so that no more are called or created for the same work
  parking_.add_search();
  try {
    w.thread = std::thread([this, &w] { run_worker(w); });
  } catch (...) {
    w.searching = false;
    parking_.end_search(); // the caller looks whether somebody else is to be called
    w.in_use.store(false, std::memory_order_relaxed);
    worker_has_ended();
    throw;
  }
}

/// Under the thread mutex: a place for one more worker, perhaps that of one that has ended.
BULKHEAD_DECL worker& scheduler::free_worker() {
  worker* w = first_worker_;
  for (;; w = w->next.load(std::memory_order_relaxed)) {
    if (!w->in_use.load(std::memory_order_acquire)) break;
    if (w->next.load(std::memory_order_relaxed)) continue;
    auto* added = new worker(*this, w->index + 1, segments_);
    w->next.store(added, std::memory_order_release);
    return *added;
  }
  if (w->thread.joinable()) w->thread.join();
  return *w;
}

/// More work than workers: one more, if there may be.
BULKHEAD_DECL void scheduler::grow() noexcept {
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
    create_worker();
  } catch (...) {
    no_growth_before_ = now + std::chrono::milliseconds(100);
    thread_lock.unlock();
    report_missing_worker();
  }
}

BULKHEAD_DECL void scheduler::worker_has_ended() noexcept {
  std::lock_guard lock(parking_.mutex());
  if (--live_ == 0) all_ended_.notify_all();
  if (live_ < threads()) can_grow_.store(true, std::memory_order_relaxed);
}

BULKHEAD_DECL void scheduler::resize(std::size_t threads) {
  std::unique_lock thread_lock(thread_mutex_);
  const bool elastic = options_.min_threads < options_.threads;
  min_threads_ = elastic ? std::min(min_threads_.load(), threads) : threads;
  std::size_t missing = 0;
  {
    std::lock_guard lock(parking_.mutex());
    threads_.store(threads, std::memory_order_relaxed);
    if (live_ < min_threads_) missing = min_threads_ - live_;
    can_grow_.store(live_ < threads, std::memory_order_relaxed);
    if (live_ > threads) {
      signals_.fetch_or(surplus);
      wake_all();
    }
  }
  resizes_.fetch_add(1, std::memory_order_relaxed);
  try {
    for (; missing != 0; --missing) create_worker();
  } catch (...) {
    thread_lock.unlock();
    report_missing_worker();
  }
}

/// In an exception handler: a worker could not be created, and the pool goes on with those it has.
BULKHEAD_DECL void scheduler::report_missing_worker() noexcept {
  report_exception(std::current_exception());
  if (parking_.wants_call() && any_work(nullptr)) call_somebody();
}

BULKHEAD_DECL void scheduler::pause() noexcept { signals_.fetch_or(paused); }

BULKHEAD_DECL void scheduler::resume() noexcept {
  {
    std::lock_guard lock(parking_.mutex());
    signals_.fetch_and(~paused);
    resumed_.notify_all();
  }
  if (wants_hands() && any_work(nullptr)) get_hands();
}

BULKHEAD_DECL void scheduler::attach() {
  worker* w;
  {
    std::lock_guard thread_lock(thread_mutex_);
    w = &free_worker();
    std::lock_guard lock(parking_.mutex());
    if (signals_.load(std::memory_order_relaxed) & exit) return;
    ++live_;
    w->in_use.store(true, std::memory_order_relaxed);
    w->attached = true;
  }
  run_worker(*w);
}

// --- workers ---

BULKHEAD_DECL void scheduler::name_this_thread(std::size_t index) {
  std::string number = "/"; // and no operator+: g++ 12 warns of it at -O3, falsely
  number += std::to_string(index);
  constexpr std::size_t longest_name = 15; // of a thread, in Linux
  const std::string name = options_.name.empty() ? "pool" : options_.name;
  ::pthread_setname_np(::pthread_self(),
                       (name.substr(0, longest_name - number.size()) + number).c_str());
}

BULKHEAD_DECL void scheduler::run_worker(worker& w) noexcept {
  const bool attached = w.attached;
  if (!attached) name_this_thread(w.index);
  worker* const outer = std::exchange(current(), &w);
  call_hook(options_.on_worker_start, w.index);
  const bool counted = host_work_loop(w);
  call_hook(options_.on_worker_stop, w.index);
  current() = outer;
  // An attached thread is not joined, and must not touch the scheduler once nobody is left.
  if (attached) w.in_use.store(false, std::memory_order_release);
  if (counted) worker_has_ended();
  if (!attached) w.in_use.store(false, std::memory_order_release);
}

BULKHEAD_DECL void scheduler::call_hook(const std::function<void(std::size_t)>& hook,
                                        std::size_t index) noexcept {
  try {
    if (hook) hook(index);
  } catch (...) {
    report_exception(std::current_exception());
  }
}

/// Works inside a handler of some io_context: there Asio keeps memory for the frames of coroutines
/// and for operations, which elsewhere comes from the heap each time.
BULKHEAD_DECL bool scheduler::host_work_loop(worker& w) noexcept {
  std::optional<bool> result;
  try {
    boost::asio::io_context host(1);
    boost::asio::post(host.get_executor(), [&] { result = work_loop(w); });
    host.run_one();
  } catch (...) { // no memory for that, so let it come from the heap
  }
  return result ? *result : work_loop(w);
}

/// False if the worker is to leave and is counted no more.
BULKHEAD_DECL bool scheduler::work_loop(worker& w) noexcept {
  for (;;) {
    if (signals_.load(std::memory_order_relaxed) != 0) {
      const verdict v = heed_signals(w);
      if (v != verdict::go_on) return v == verdict::end;
    }
    if (!w.range.empty() || (!w.searching && refill(w)))
      run_range(w);
    else if (!idle(w))
      return false;
  }
}

BULKHEAD_DECL scheduler::verdict scheduler::heed_signals(worker& w) noexcept {
  end_search(w);
  for (;;) {
    const unsigned s = signals_.load(std::memory_order_seq_cst);
    if (s & exit) return verdict::end;
    if (s & paused) {
      std::unique_lock lock(parking_.mutex());
      resumed_.wait(lock, [this] {
        const unsigned now = signals_.load(std::memory_order_relaxed);
        return !(now & paused) || (now & exit);
      });
      continue;
    }
    if ((s & surplus) && w.range.empty() && retire(w)) return verdict::retired;
    return verdict::go_on;
  }
}

/// Whether this worker is one too many. It is not counted any more then.
BULKHEAD_DECL bool scheduler::retire(worker& w) noexcept {
  count_left(w);
  {
    std::lock_guard lock(parking_.mutex());
    const bool leaves = live_ > threads() && !w.attached;
    if (leaves) --live_;
    if (live_ <= threads()) signals_.fetch_and(~surplus);
    if (!leaves) return false;
  }
  // Others find what it leaves in its queue.
  if (wants_hands() && any_work(nullptr)) get_hands();
  return true;
}

/// Claims something to run. External and local work take turns, so that neither starves, and now
/// and then it is work that was left with somebody else, or I/O.
BULKHEAD_DECL bool scheduler::refill(worker& w) noexcept {
  if (options_.lifo && w.newest_run++ != batch) {
    const cell_range r = w.recent.pop();
    if (!r.empty()) {
      start_range(w, r, true);
      return true;
    }
  }
  w.newest_run = 0;
  const unsigned turn = ++w.turn;
  if (turn % turns_between_polls == 0 && !reactor_taken_.load(std::memory_order_relaxed)) poll();
  if (turn % turns_between_robberies == 0 && rob(w, 1)) return true;
  if (turn % 2 == 0) return claim_local(w) || claim_from_shards(w);
  return claim_from_shards(w) || claim_local(w);
}

BULKHEAD_DECL bool scheduler::claim_local(worker& w) noexcept {
  return claim_from(w, w.local, options_.lifo ? 1 : batch);
}

BULKHEAD_DECL bool scheduler::claim_from(worker& w, run_queue& q, unsigned most) noexcept {
  const cell_range r = q.claim(most, threads() > 1);
  if (r.empty()) return false;
  start_range(w, r, &q == &w.local);
  return true;
}

BULKHEAD_DECL bool scheduler::claim_from_shards(worker& w) noexcept {
  for (std::size_t i = 0; i <= shard_mask_; ++i)
    if (claim_from(w, shards_[w.shard++ & shard_mask_]->queue, batch)) return true;
  return false;
}

/// Takes work from one of the next `most` other workers: from its own queue, or of what it has
/// claimed. Those that have ended may have left some, too.
BULKHEAD_DECL bool scheduler::rob(worker& w, std::size_t most) noexcept {
  worker* const last = w.victim;
  do {
    worker* next = w.victim->next.load(std::memory_order_acquire);
    worker& v = *(w.victim = next ? next : first_worker_);
    if (&v == &w) continue;
    if (claim_from(w, v.local, batch)) return true;
    cell_range r = v.claimed.get();
    while (!r.empty() && r.where->cells[r.begin].load() != r.full) ++r.begin;
    if (!r.empty()) {
      r.end = r.begin + (r.end - r.begin + 1) / 2;
      start_range(w, r, false);
      return true;
    }
    --most;
  } while (most != 0 && w.victim != last);
  return false;
}

BULKHEAD_DECL void scheduler::start_range(worker& w, const cell_range& r, bool local) noexcept {
  count_left(w);
  w.unannounced = 0;
  w.range = r;
  w.claimed.set(r);
  // Others may help with the rest; but what a worker has posted itself is most likely small.
  if (!wants_hands()) return;
  if (local && r.end - r.begin < batch && parking_.sleeping() != 0)
    ask_for_watch();
  else if (any_work(&w))
    get_hands();
}

/// Counts the functions that have left the segment of the range.
BULKHEAD_DECL void scheduler::count_left(worker& w) noexcept {
  if (w.left != 0) run_queue::leave(*w.range.where, std::exchange(w.left, 0));
}

BULKHEAD_DECL void scheduler::run_range(worker& w) noexcept {
  cell_range r = w.range;
  while (!r.empty() && !(signals_.load(std::memory_order_relaxed) & (exit | paused))) {
    cell& c = r.where->cells[r.begin++];
    w.claimed.set_begin(r);
    if (!c.take(r.full)) continue;
    ++w.left;
    run(w, c);
  }
  w.range = r;
  count_end(w);
}

BULKHEAD_DECL void scheduler::run(worker& w, cell& c) noexcept {
  const work what = c.what();
  if (what == work::continuation) {
    count_end(w);
    run_function(c);
    return;
  }
  w.submissions.start(); // and the end of the last one
  if (has_line_.load(std::memory_order_seq_cst)) let_line_move();
  if (std::exchange(w.ends, false) && closed_.load(std::memory_order_seq_cst))
    complete_drains_if_done();
  if (what == work::async_submission) return run_async(w, c.op());
  if (!run_function(c)) w.failed.add();
  w.ends = true;
}

/// False if the function has thrown.
BULKHEAD_DECL bool scheduler::run_function(cell& c) noexcept {
  try {
    c.run(stop_);
    return true;
  } catch (...) {
    report_exception(std::current_exception());
    return false;
  }
}

/// The end of a submission is counted with the start of the next, or here if none follows.
BULKHEAD_DECL void scheduler::count_end(worker& w) noexcept {
  if (!std::exchange(w.ends, false)) return;
  w.submissions.end();
  if (closed_.load(std::memory_order_seq_cst)) complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::run_async(worker& w, submit_op& op) noexcept {
  bool ok;
  {
    auto forward = [&op] { op.stop.request_stop(); };
    std::stop_callback<decltype(forward)> on_stop(stop_.get_token(), forward);
    submit_op* const outer = std::exchange(current_op(), &op);
    ok = op.run();
    current_op() = outer;
  }
  bool orphaned;
  bool discard;
  {
    std::lock_guard lock(mutex_);
    forget(op);
    orphaned = op.orphaned;
    if (orphaned) orphaned_.notify_all();
    discard = !orphaned && stopped_ && op.home() == &io_;
    if (!orphaned && !discard) departing_.begin();
    if (!ok) w.failed.add();
    w.submissions.end();
  }
  if (orphaned) return complete_drains_if_done();
  if (discard) {
    op.discard();
  } else {
    // First the handler, then the drain that waits for it: who stops a context when the drain is
    // done must find this completion posted there.
    op.finish();
    departing_.end(mutex_);
  }
  if (closed_.load(std::memory_order_seq_cst)) complete_drains_if_done();
}

// --- workers without work ---

/// False if the worker has been idle for so long that it is to leave; it is counted no more then.
BULKHEAD_DECL bool scheduler::idle(worker& w) noexcept {
  count_left(w);
  if (!w.searching) w.searching = parking_.begin_search();
  if (w.searching && search(w)) return true;
  return sleep(w);
}

/// Looks for work for a while, alone. False if there was none; the worker still searches then.
BULKHEAD_DECL bool scheduler::search(worker& w) noexcept {
  const unsigned turns = w.patience.next();
  for (unsigned turn = 0;; ++turn) {
    if (signals_.load(std::memory_order_relaxed) != 0) return true;
    if (claim_local(w) || claim_from_shards(w) || rob(w, all_workers)) {
      w.patience.found_after(turn);
      end_search(w);
      return true;
    }
    if (turn == turns) break;
    if ((w.io_hot || turn % 16 == 0) && !reactor_taken_.load(std::memory_order_relaxed)) {
      // What it finds there may take long, so somebody else may search meanwhile.
      end_search(w);
      if (poll() != 0) {
        w.patience.found_after(turn);
        w.io_hot = true;
        return true;
      }
      w.searching = parking_.begin_search();
      if (!w.searching) return false;
    }
    if (turn % turns_between_yields == 0) std::this_thread::yield();
  }
  w.patience.found_nothing();
  w.io_hot = false;
  return false;
}

BULKHEAD_DECL void scheduler::end_search(worker& w) noexcept {
  if (!std::exchange(w.searching, false)) return;
  parking_.end_search();
  if (wants_hands() && any_work(&w)) get_hands();
}

/// Sleeps until there is work. False as in idle().
BULKHEAD_DECL bool scheduler::sleep(worker& w) noexcept {
  {
    std::lock_guard lock(parking_.mutex());
    parking_.lie_down(w, std::exchange(w.searching, false));
    take_reactor_if_free(w);
  }
  if (joining_.load(std::memory_order_seq_cst)) let_go_if_finished();
  const bool stays = !may_sleep() || sleep_until_called(w);
  get_up(w);
  return stays;
}

/// Under the parking's mutex.
BULKHEAD_DECL void scheduler::take_reactor_if_free(worker& w) noexcept {
  if (reactor_) return;
  reactor_ = &w;
  reactor_taken_.store(true, std::memory_order_relaxed);
  w.at_reactor = true;
}

BULKHEAD_DECL bool scheduler::may_sleep() noexcept {
  return signals_.load(std::memory_order_seq_cst) == 0 && !any_work(nullptr);
}

/// False if that took too long, and the worker is to leave.
BULKHEAD_DECL bool scheduler::sleep_until_called(worker& w) noexcept {
  watch_period period;
  std::unique_lock lock(parking_.mutex());
  const auto done = [&] { return !w.listed || signals_.load(std::memory_order_relaxed) != 0; };
  while (!done()) {
    const bool watches = w.watches;
    const auto duration = watches ? period.next() : never_expires;
    bool woken;
    if (w.at_reactor) {
      lock.unlock();
      woken = sleep_at_reactor(w, duration);
      if (!std::exchange(w.in_reactor, false)) return true; // it has run something, and left
      lock.lock();
    } else {
      woken = wait_for(w.wake, lock, std::min(duration, options_.idle_expiry),
                       [&] { return done() || w.watches != watches; });
    }
    if (woken) continue;
    if (!watches) {
      if (expire(w)) return false;
      continue;
    }
    do {
      lock.unlock();
      if (!may_sleep()) return true;
      lock.lock();
    } while (w.listed && ends_watch(w, period)); // the last look comes after the end
  }
  return true;
}

/// Under the parking's mutex: leaves a pool that has more workers than it needs.
BULKHEAD_DECL bool scheduler::expire(worker& w) noexcept {
  if (w.attached || w.at_reactor || live_ <= min_threads_.load(std::memory_order_relaxed))
    return false;
  parking_.get_up(w);
  --live_;
  can_grow_.store(true, std::memory_order_relaxed);
  expired_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

/// False if `duration` went by with nothing to run.
BULKHEAD_DECL bool scheduler::sleep_at_reactor(worker& w,
                                               std::chrono::nanoseconds duration) noexcept {
  w.in_reactor = true;
  bool ran = true;
  try {
    ran = (duration == never_expires ? io_.run_one() : io_.run_one_for(duration)) != 0;
  } catch (...) {
    report_exception(std::current_exception());
  }
  restart_io();
  return ran;
}

/// Under the parking's mutex: the worker has watched for a while and has found nothing to do.
/// Says whether it is to watch no more.
BULKHEAD_DECL bool scheduler::ends_watch(worker& w, watch_period& period) noexcept {
  if (!w.watches) return false;
  if (deferred_.exchange(false, std::memory_order_relaxed)) period.restart_quiet();
  // If nobody has looked at I/O for a whole period, nobody may do so soon.
  const unsigned polls = polls_.load(std::memory_order_relaxed);
  if (std::exchange(w.polls_seen, polls) == polls) take_reactor_if_free(w);
  if (!period.is_over() || !reactor_) return false;
  w.watches = false;
  parking_.set_watched(false);
  return true;
}

/// A worker that slept is awake. It may have been called before it slept.
BULKHEAD_DECL void scheduler::get_up(worker& w) noexcept {
  std::unique_lock lock(parking_.mutex());
  parking_.get_up(w);
  if (std::exchange(w.called, false)) w.searching = !w.at_reactor;
  const bool watched = std::exchange(w.watches, false);
  if (watched) parking_.set_watched(false);
  const bool reactor = std::exchange(w.at_reactor, false);
  if (reactor) {
    reactor_ = nullptr;
    reactor_taken_.store(false, std::memory_order_relaxed);
  }
  lock.unlock();
  if (reactor) ask_for_watch();
}

/// The worker that slept at the reactor runs a function of the user's.
BULKHEAD_DECL void scheduler::leave_reactor(worker& w) noexcept {
  w.in_reactor = false;
  get_up(w);
}

/// What follows may be left undone for a while, so somebody who sleeps shall look after it.
BULKHEAD_DECL void scheduler::ask_for_watch() noexcept {
  if (!deferred_.load(std::memory_order_relaxed)) deferred_.store(true, std::memory_order_relaxed);
  if (parking_.watched() || parking_.sleeping() == 0) return;
  std::unique_lock lock(parking_.mutex());
  if (parking_.watched()) return;
  sleeper* s = parking_.next();
  if (!s) return;
  s->watches = true;
  parking_.set_watched(true);
  const bool at_reactor = s->at_reactor;
  lock.unlock();
  if (at_reactor)
    interrupt_reactor();
  else
    s->wake.notify_one();
}

/// Whether a function can be found anywhere that nobody has taken; `self` is going to take the first
/// of its own claim.
BULKHEAD_DECL bool scheduler::any_work(const worker* self) noexcept {
  for (auto& s : shards_) {
    std::lock_guard lock(s->mutex); // see cell::publish_under_lock()
    if (s->queue.has_work()) return true;
  }
  for (worker* v = first_worker_; v; v = v->next.load(std::memory_order_acquire)) {
    if (v->local.has_work()) return true;
    const cell_range r = v->claimed.get();
    for (unsigned i = r.begin + (v == self); i < r.end; ++i)
      if (r.where->cells[i].load_ordered() == r.full) return true;
  }
  return false;
}

/// Runs what is ready in the io_context. Says how much that was.
BULKHEAD_DECL std::size_t scheduler::poll() noexcept {
  std::size_t n = 0;
  try {
    while (n != polled_at_most && io_.poll_one() != 0) ++n;
  } catch (...) {
    ++n;
    report_exception(std::current_exception());
  }
  restart_io();
  polls_.fetch_add(1, std::memory_order_relaxed);
  if (n != 0 && parking_.sleeping() != 0) ask_for_watch();
  return n;
}

/// The base class's stop() is not ours.
BULKHEAD_DECL void scheduler::restart_io() noexcept {
  if (!io_.stopped()) return;
  std::lock_guard lock(parking_.mutex());
  if (!(signals_.load(std::memory_order_relaxed) & exit)) io_.restart();
}

BULKHEAD_DECL void scheduler::call_somebody() noexcept {
  std::unique_lock lock(parking_.mutex());
  if (!parking_.wants_call()) return;
  sleeper* s = parking_.call();
  if (!s) return;
  const bool at_reactor = s->at_reactor;
  lock.unlock(); // first: who wakes up needs it
  if (at_reactor)
    call_at_reactor(static_cast<worker&>(*s));
  else
    s->wake.notify_one();
}

/// Posts a function that does nothing. If another worker runs it, because it polls, the one that
/// was called sleeps on, and stands in the list again.
BULKHEAD_DECL void scheduler::call_at_reactor(worker& w) noexcept {
  try {
    boost::asio::post(io_.get_executor(), [this, &w] {
      if (current() == &w) return;
      {
        std::lock_guard lock(parking_.mutex());
        if (reactor_ != &w || !w.called) return;
        parking_.recall(w);
      }
      if (wants_hands() && any_work(nullptr)) get_hands();
    });
  } catch (...) {
    io_.stop(); // no memory for that: all wake up, and restart the io_context
  }
}

/// Who sleeps there looks at what it is asked for.
BULKHEAD_DECL void scheduler::interrupt_reactor() noexcept {
  try {
    boost::asio::post(io_.get_executor(), [] {});
  } catch (...) {
    io_.stop();
  }
}

/// Under the parking's mutex: all that sleep look at signals_.
BULKHEAD_DECL void scheduler::wake_all() noexcept {
  for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire))
    w->wake.notify_one();
  resumed_.notify_all();
  io_.stop();
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
      if (asleep) l.blocked->changed.notify_one();
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
  while (!all.empty()) {
    submit_op& op = all.pop_front();
    if (stopped && op.home() == &io_)
      own.push_back(op);
    else
      op.abort(ec);
  }
  departing_.end(mutex_, n);
  while (!own.empty()) own.pop_front().discard();
}

BULKHEAD_DECL void scheduler::close() noexcept {
  ops refused;
  {
    std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_seq_cst);
    call_in_credits();
    end_line(refused);
  }
  end_all(refused, errc::closed);
  complete_drains_if_done();
}

BULKHEAD_DECL std::size_t scheduler::stop() noexcept {
  ops refused;
  wait_set<error_code>::list drains;
  {
    std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_seq_cst);
    stopped_ = true;
    {
      std::lock_guard parking_lock(parking_.mutex());
      signals_.fetch_or(exit);
      wake_all();
    }
    call_in_credits(); // and who has published a function since he had a shard's lock sees the signal
    end_line(refused);
    drains = drains_->take_all(); // before a running task, asked to stop, can end them with success
  }
  stop_.request_stop();
  end_all(refused, errc::closed);
  const std::size_t abandoned = drop_submissions();
  drains_->complete_elsewhere(std::move(drains), io_, boost::asio::error::operation_aborted);
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
                    ++withdrawn_;
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
  if (parking_.sleeping() != live_ || queued() != 0 || any_work(nullptr)) return;
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
  std::lock_guard lock(thread_mutex_);
  for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_relaxed))
    if (w->thread.joinable()) w->thread.join();
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
    const std::uint64_t failed = w->failed.load();
    s.completed += w->submissions.ended() - failed;
    s.failed += failed;
    s.continuations += w->posted.load();
    s.exceptions += w->exceptions.load();
  }
  s.submitted = submitted_ - unsubmitted_;
  for (auto& p : shards_) {
    s.submitted += p->submitted.load();
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
