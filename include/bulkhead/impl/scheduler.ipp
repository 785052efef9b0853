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

#include <cstdio>
#include <system_error>

#include <pthread.h>

namespace bulkhead::detail {

BULKHEAD_DECL scheduler*& scheduler::current() noexcept {
  static thread_local constinit scheduler* instance = nullptr;
  return instance;
}

BULKHEAD_DECL submit_op*& scheduler::current_op() noexcept {
  static thread_local constinit submit_op* instance = nullptr;
  return instance;
}

// --- construction ---

BULKHEAD_DECL scheduler::scheduler(pool& owner, boost::asio::io_context& io, options opts)
    : owner_(owner), io_(io), guard_(io.get_executor()), options_(std::move(opts)) {
  drains_->attach(&io_);
}

/// A cancellation that met the end of the pool may have left something behind.
BULKHEAD_DECL scheduler::~scheduler() { discard_all(); }

BULKHEAD_DECL void scheduler::start() {
  threads_.reserve(options_.threads);
  for (std::size_t i = 0; i != options_.threads; ++i) {
    {
      std::lock_guard lock(mutex_);
      ++live_;
    }
    try {
      threads_.emplace_back([this, i] { run_worker(i); });
    } catch (...) {
      {
        std::lock_guard lock(mutex_);
        --live_;
      }
      stop();
      join_threads();
      try {
        throw;
      } catch (const std::system_error& e) {
        std::string what = "pool: worker ";
        what += std::to_string(i + 1) + " of " + std::to_string(options_.threads);
        throw system_error(error_code(e.code().value(), boost::system::system_category()),
                           what + " could not be created");
      }
    }
  }
}

// --- submissions ---

BULKHEAD_DECL void scheduler::throw_system_error(errc e) { throw system_error(make_error_code(e)); }

BULKHEAD_DECL admission scheduler::admit(when_full policy) {
  if (closed_) {
    ++submitted_;
    ++rejected_;
    return admission::closed;
  }
  if (queued_ < options_.queue_limit && line_.empty()) return admission::admitted;
  // Whoever is going to wait, or to run the function himself, is counted then.
  if (policy == when_full::wait && running_in_this_thread()) {
    ++submitted_;
    ++rejected_;
    throw_system_error(errc::would_deadlock);
  }
  if (policy == when_full::refuse) {
    ++submitted_;
    ++rejected_;
  }
  return admission::full;
}

BULKHEAD_DECL cell& scheduler::reserve_cell() {
  cell& c = slab_.acquire();
  c.what = cell::kind::submission;
  ++submitted_;
  ++queued_;
  return c;
}

/// Under the mutex. Says whether somebody is to be woken.
BULKHEAD_DECL bool scheduler::link_submission(cell& c) noexcept {
  queue_.push_back(c);
  return claim_wake();
}

BULKHEAD_DECL void scheduler::push_reserved(cell& c) noexcept {
  bool dropped;
  bool wake;
  {
    std::lock_guard lock(mutex_);
    dropped = stopped_;
    wake = !dropped && link_submission(c);
  }
  if (wake) wake_one();
  if (!dropped) return;
  // stop() has come in between: the submission was admitted, and is dropped as all the others were.
  c.reset();
  {
    std::lock_guard lock(mutex_);
    ++cancelled_;
    --queued_;
    slab_.release(c);
  }
  complete_drains_if_done();
}

/// The function could not be moved into its cell: as if it had never been submitted.
BULKHEAD_DECL void scheduler::give_place_back(cell& c) noexcept {
  bool wake;
  {
    std::lock_guard lock(mutex_);
    --submitted_;
    --queued_;
    slab_.release(c);
    wake = admit_waiters() && claim_wake();
    let_go_if_finished();
  }
  if (wake) wake_one();
  complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::stand_in_line(cell& c) {
  c.what = cell::kind::submission;
  blocked_submitter self;
  c.blocked = &self;
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    ++submitted_;
    if (closed_) {
      ++rejected_;
      self.now = blocked_submitter::state::refused;
    } else {
      ++blocked_;
      line_.push_back(c);
      wake = admit_waiters() && claim_wake(); // there may be room by now
    }
  }
  if (wake) wake_one();
  {
    std::unique_lock lock(mutex_);
    self.changed.wait(lock, [&] { return self.now != blocked_submitter::state::waiting; });
  }
  if (self.now == blocked_submitter::state::admitted) return;
  c.reset();
  release_cell(c);
  throw_system_error(errc::closed);
}

BULKHEAD_DECL void scheduler::begin_running() {
  std::lock_guard lock(mutex_);
  ++submitted_;
  if (closed_) {
    ++rejected_;
    throw_system_error(errc::closed);
  }
  ++running_;
}

BULKHEAD_DECL void scheduler::end_running(bool ok) noexcept {
  {
    std::lock_guard lock(mutex_);
    count_end(ok);
  }
  complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::count_end(bool ok) noexcept {
  ++(ok ? completed_ : failed_);
  --running_;
}

/// Lets the line of waiting submitters move. Runs on every path that frees a place, under the
/// mutex; says whether anything was admitted.
BULKHEAD_DECL bool scheduler::admit_waiters() noexcept {
  bool any = false;
  while (!line_.empty() && queued_ < options_.queue_limit) {
    cell& c = line_.pop_front();
    queue_.push_back(c);
    ++queued_;
    any = true;
    if (c.op) {
      c.op->now = submit_op::state::queued;
    } else {
      --blocked_;
      // The submitter may be gone as soon as it sees its new state, so it is told under the mutex.
      blocked_submitter* b = std::exchange(c.blocked, nullptr);
      b->now = blocked_submitter::state::admitted;
      b->changed.notify_one();
    }
  }
  return any;
}

// --- async_submit ---

BULKHEAD_DECL bool scheduler::refuse_now(error_code& ec) noexcept {
  std::lock_guard lock(mutex_);
  if (closed_)
    ec = errc::closed;
  else if (queued_ < options_.queue_limit && line_.empty())
    return false;
  else if (line_.size() - blocked_ >= options_.waiter_limit)
    ec = errc::queue_full;
  else
    return false;
  ++submitted_;
  ++rejected_;
  return true;
}

BULKHEAD_DECL wait_key scheduler::reserve(submit_op& op) {
  std::lock_guard lock(mutex_);
  cell& c = slab_.acquire();
  c.what = cell::kind::async_submission;
  c.op = &op;
  op.place = &c;
  op.key = keys_.insert(op);
  return op.key;
}

BULKHEAD_DECL void scheduler::unreserve(submit_op& op) noexcept {
  std::lock_guard lock(mutex_);
  forget(op);
}

/// Under the mutex: the operation is not to be found any more, and its cell is free.
BULKHEAD_DECL void scheduler::forget(submit_op& op) noexcept {
  keys_.erase(op.key);
  if (op.place) slab_.release(*std::exchange(op.place, nullptr));
}

BULKHEAD_DECL void scheduler::enqueue(submit_op& op) noexcept {
  error_code ec;
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    ++submitted_;
    if (closed_) {
      ec = errc::closed;
    } else if (queued_ < options_.queue_limit && line_.empty()) {
      op.now = submit_op::state::queued;
      ++queued_;
      wake = link_submission(*op.place);
    } else if (line_.size() - blocked_ < options_.waiter_limit) {
      op.now = submit_op::state::waiting;
      line_.push_back(*op.place);
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
  if (wake) wake_one();
}

/// Under the mutex: takes an operation that has not started out of the queue or the line.
BULKHEAD_DECL void scheduler::leave_queue(submit_op& op) noexcept {
  if (op.now == submit_op::state::waiting) {
    line_.erase(*op.place);
  } else {
    queue_.erase(*op.place);
    --queued_;
  }
  forget(op);
}

/// Takes the operation `key` out before it has started. If it runs already, returns its stop
/// source.
BULKHEAD_DECL submit_op* scheduler::take(wait_key key, std::stop_source& running) noexcept {
  bool wake;
  submit_op* op;
  {
    std::lock_guard lock(mutex_);
    op = keys_.find(key);
    if (!op || op->now == submit_op::state::reserved) return nullptr;
    if (op->now == submit_op::state::running) {
      running = op->stop;
      return nullptr;
    }
    leave_queue(*op);
    departing_.begin();
    ++cancelled_;
    wake = admit_waiters() && claim_wake();
  }
  if (wake) wake_one();
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

BULKHEAD_DECL cell* scheduler::acquire_cell() {
  std::lock_guard lock(mutex_);
  cell& c = slab_.acquire();
  c.what = cell::kind::continuation;
  return &c;
}

BULKHEAD_DECL void scheduler::release_cell(cell& c) noexcept {
  std::lock_guard lock(mutex_);
  slab_.release(c);
}

BULKHEAD_DECL void scheduler::link_continuation(cell& c) noexcept {
  count_continuation();
  bool wake;
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(c);
    wake = claim_wake();
  }
  if (wake) wake_one();
}

/// The last unit of work is given back under the mutex, and unlocking that is the last thing done
/// here: join() may return, and the pool end, at once.
BULKHEAD_DECL void scheduler::work_finished() noexcept {
  std::size_t n = work_.load(std::memory_order_relaxed);
  while (n > 1)
    if (work_.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel)) return;
  std::lock_guard lock(mutex_);
  if (work_.fetch_sub(1, std::memory_order_acq_rel) == 1) let_go_if_finished();
}

BULKHEAD_DECL void scheduler::report_exception(std::exception_ptr error) noexcept {
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

// --- workers ---

BULKHEAD_DECL void scheduler::run_worker(std::size_t index) noexcept {
  std::string number = "/"; // and no operator+: g++ 12 warns of it at -O3, falsely
  number += std::to_string(index);
  constexpr std::size_t longest_name = 15; // of a thread, in Linux
  const std::string name = options_.name.empty() ? "pool" : options_.name;
  ::pthread_setname_np(::pthread_self(),
                       (name.substr(0, longest_name - number.size()) + number).c_str());
  current() = this;
  unsigned since_poll = 0;
  unsigned yielded = 0;
  std::unique_lock lock(mutex_);
  while (!exit_) {
    bool wake = false;
    cell* c = next(wake);
    if (!c) {
      if (yielded++ < yields_before_sleep) {
        yield(lock);
      } else {
        sleep(lock);
        yielded = 0;
      }
      continue;
    }
    yielded = 0;
    lock.unlock();
    if (wake) wake_one();
    const bool ok = run(*c);
    if (++since_poll == poll_interval) {
      since_poll = 0;
      poll();
    }
    lock.lock();
    const bool submission = c->what == cell::kind::submission;
    if (submission) count_end(ok);
    slab_.release(*c);
    if (submission && drained()) {
      lock.unlock();
      complete_drains_if_done();
      lock.lock();
    }
  }
  --live_;
  current() = nullptr;
}

/// Under the mutex: takes the next cell. `wake`: somebody else is to be woken for what remains.
BULKHEAD_DECL cell* scheduler::next(bool& wake) noexcept {
  if (queue_.empty()) return nullptr;
  cell& c = queue_.pop_front();
  if (c.what != cell::kind::continuation) {
    --queued_;
    ++running_;
    if (c.op) {
      c.op->now = submit_op::state::running;
      c.op->place = nullptr;
    }
    admit_waiters();
  }
  wake = !queue_.empty() && claim_wake();
  return &c;
}

BULKHEAD_DECL bool scheduler::run(cell& c) noexcept {
  if (c.op) {
    run_async(*c.op);
    return true;
  }
  try {
    c.run(stop_);
    return true;
  } catch (...) {
    report_exception(std::current_exception());
    return false;
  }
}

BULKHEAD_DECL void scheduler::run_async(submit_op& op) noexcept {
  bool ok;
  {
    auto forward = [&op] { op.stop.request_stop(); };
    std::stop_callback<decltype(forward)> on_stop(stop_.get_token(), forward);
    current_op() = &op;
    ok = op.run();
    current_op() = nullptr;
  }
  bool discard;
  {
    std::lock_guard lock(mutex_);
    forget(op);
    count_end(ok);
    if (op.orphaned) return orphaned_.notify_all();
    discard = stopped_ && op.home() == &io_;
    if (!discard) departing_.begin();
  }
  if (discard) {
    op.discard();
  } else {
    // First the handler, then the drain that waits for it: who stops a context when the drain is
    // done must find this completion posted there.
    op.finish();
    departing_.end(mutex_);
  }
  complete_drains_if_done();
}

BULKHEAD_DECL void scheduler::poll() noexcept {
  try {
    for (int i = 0; i != polled_at_most && io_.poll_one() != 0; ++i) {
    }
  } catch (...) {
    report_exception(std::current_exception());
  }
}

BULKHEAD_DECL void scheduler::yield(std::unique_lock<std::mutex>& lock) noexcept {
  lock.unlock();
  std::this_thread::yield();
  lock.lock();
}

BULKHEAD_DECL void scheduler::sleep(std::unique_lock<std::mutex>& lock) noexcept {
  ++sleeping_;
  let_go_if_finished();
  lock.unlock();
  try {
    io_.run_one();
  } catch (...) {
    report_exception(std::current_exception());
  }
  lock.lock();
  --sleeping_;
  if (!exit_ && io_.stopped()) io_.restart();
}

/// Under the mutex: whether a sleeper is to be woken that nobody else is waking.
BULKHEAD_DECL bool scheduler::claim_wake() noexcept {
  if (wakes_ >= sleeping_) return false;
  ++wakes_;
  return true;
}

BULKHEAD_DECL void scheduler::wake_one() noexcept {
  try {
    boost::asio::post(io_.get_executor(), [this] {
      std::lock_guard lock(mutex_);
      --wakes_;
    });
  } catch (...) {
    // No memory for the post: stop() wakes everybody, and they restart the io_context.
    {
      std::lock_guard lock(mutex_);
      --wakes_;
    }
    io_.stop();
  }
}

// --- the end ---

BULKHEAD_DECL bool scheduler::drained() const noexcept {
  return closed_ && queued_ == 0 && running_ == 0 && line_.empty() && departing_.none();
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
    cell& c = line_.pop_front();
    ++rejected_;
    if (submit_op* op = c.op) {
      forget(*op);
      departing_.begin();
      refused.push_back(*op);
    } else {
      --blocked_;
      c.blocked->now = blocked_submitter::state::refused;
      c.blocked->changed.notify_one();
    }
  }
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
    closed_ = true;
    end_line(refused);
  }
  end_all(refused, errc::closed);
  complete_drains_if_done();
}

BULKHEAD_DECL std::size_t scheduler::stop() noexcept {
  ops refused;
  ops aborted;
  cells dropped;
  wait_set<error_code>::list drains;
  {
    std::lock_guard lock(mutex_);
    closed_ = stopped_ = exit_ = true;
    end_line(refused);
    cells continuations;
    while (!queue_.empty()) {
      cell& c = queue_.pop_front();
      if (c.what == cell::kind::continuation) {
        continuations.push_back(c);
        continue;
      }
      --queued_;
      ++cancelled_;
      if (submit_op* op = c.op) {
        forget(*op);
        departing_.begin();
        aborted.push_back(*op);
      } else {
        dropped.push_back(c);
      }
    }
    queue_.append(continuations);
    drains = drains_->take_all(); // before a running task, asked to stop, can end them with success
    io_.stop();
  }
  const std::size_t abandoned = aborted.size() + dropped.size();
  stop_.request_stop();
  end_all(refused, errc::closed);
  end_all(aborted, boost::asio::error::operation_aborted);
  while (!dropped.empty()) {
    cell& c = dropped.pop_front();
    c.reset();
    release_cell(c);
  }
  drains_->complete_elsewhere(std::move(drains), io_, boost::asio::error::operation_aborted);
  complete_drains_if_done();
  return abandoned;
}

/// Under the mutex, whenever the last of something may have ended.
BULKHEAD_DECL void scheduler::let_go_if_finished() noexcept {
  if (exit_ || !joining_ || work_.load(std::memory_order_acquire) != 0) return;
  if (!queue_.empty() || queued_ != 0 || sleeping_ != live_) return;
  exit_ = true;
  io_.stop();
}

BULKHEAD_DECL void scheduler::join() {
  if (running_in_this_thread()) throw_system_error(errc::would_deadlock);
  close();
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = !std::exchange(joining_, true);
  }
  if (first) work_finished();
  join_threads();
}

BULKHEAD_DECL void scheduler::join_threads() {
  std::lock_guard lock(join_mutex_);
  for (std::thread& t : threads_)
    if (t.joinable()) t.join();
}

BULKHEAD_DECL drain_report scheduler::drain_for(std::chrono::nanoseconds duration) {
  if (running_in_this_thread()) throw_system_error(errc::would_deadlock);
  using clock = std::chrono::steady_clock;
  std::uint64_t ended;
  {
    std::lock_guard lock(mutex_);
    ended = completed_ + failed_;
  }
  close();
  drain_report report;
  bool done;
  {
    std::unique_lock lock(mutex_);
    const auto is_done = [this] { return drained(); };
    const auto now = clock::now();
    if (duration >= clock::time_point::max() - now) {
      drained_.wait(lock, is_done);
      done = true;
    } else {
      done = drained_.wait_until(lock, now + duration, is_done);
    }
  }
  if (!done) report.abandoned = stop();
  std::lock_guard lock(mutex_);
  report.completed = static_cast<std::size_t>(completed_ + failed_ - ended);
  return report;
}

BULKHEAD_DECL void scheduler::discard_all() noexcept {
  for (;;) {
    cell* c;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      c = &queue_.pop_front();
    }
    c->reset();
    release_cell(*c);
  }
}

BULKHEAD_DECL void scheduler::let_io_context_go() noexcept { guard_.reset(); }

BULKHEAD_DECL pool_stats scheduler::stats() const noexcept {
  std::lock_guard lock(mutex_);
  pool_stats s;
  s.threads = live_;
  s.idle = sleeping_;
  s.running = running_;
  s.queued = queued_;
  s.waiting = line_.size();
  s.submitted = submitted_;
  s.completed = completed_;
  s.failed = failed_;
  s.rejected = rejected_;
  s.cancelled = cancelled_;
  s.continuations = continuations_.load(std::memory_order_relaxed);
  s.exceptions = exceptions_.load(std::memory_order_relaxed);
  return s;
}

} // namespace bulkhead::detail

#endif
