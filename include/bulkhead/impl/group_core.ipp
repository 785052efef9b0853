//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_GROUP_CORE_IPP
#define BULKHEAD_IMPL_GROUP_CORE_IPP

#include <bulkhead/detail/group/group_core.hpp>

#include <boost/asio/error.hpp>

namespace bulkhead::detail {

// --- child ---

BULKHEAD_DECL void child::run_start() noexcept {
  if (cancelled_.load(std::memory_order_acquire))
    return done(to_exception_ptr(boost::asio::error::operation_aborted));
  std::exception_ptr error;
  starting_ = true;
  try {
    start();
  } catch (...) {
    error = std::current_exception();
  }
  starting_ = false;
  if (error)
    done(std::move(error)); // also if unwinding has destroyed the completion handler
  else if (lost_)
    lost();
}

BULKHEAD_DECL task_id child::task() const noexcept {
  static constinit std::atomic<task_id> last{0};
  task_id id = id_.load(std::memory_order_relaxed);
  if (id != 0) return id;
  const task_id fresh = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return id_.compare_exchange_strong(id, fresh, std::memory_order_relaxed) ? fresh : id;
}

template <class F>
class child::step {
public:
  step(child& c, F f) : child_(&c), function_(std::move(f)) {}
  step(step&&) noexcept = default;
  ~step() {
    if (child_) child_->lost();
  }

  void operator()() {
    const gate_ptr<child> c = std::move(child_);
    function_(*c);
  }

private:
  gate_ptr<child> child_;
  F function_;
};

BULKHEAD_DECL void child::done(std::exception_ptr error) noexcept {
  push_next(step(*this, [error = std::move(error)](child& c) mutable { c.end(std::move(error)); }));
}

BULKHEAD_DECL void child::end(std::exception_ptr error) noexcept {
  signal_.slot().clear(); // the handlers in it hold this child's executor, hence the child
  clear();
  if (auto group = std::move(group_)) group->child_done(*this, std::move(error));
}

BULKHEAD_DECL void child::lost() noexcept {
  if (starting_) {
    lost_ = true;
    return;
  }
  signal_.slot().clear();
  clear();
  if (auto group = std::move(group_)) group->child_lost(*this);
}

BULKHEAD_DECL void child::emit(boost::asio::cancellation_type type) {
  stop_.request_stop();
  push([self = gate_ptr<child>(this), type] { self->signal_.emit(type); });
}

// --- group_core ---

BULKHEAD_DECL group_core::group_core(boost::asio::any_io_executor ex, std::size_t limit, policy p)
    : executor_(outside_gates(std::move(ex))), context_(context_of(executor_)), limit_(limit),
      policy_(p) {}

BULKHEAD_DECL group_core::~group_core() = default;

BULKHEAD_DECL void group_core::attach() {
  joins_->attach(context_);
  if (context_) subscription_.subscribe(*context_, shared_from_this());
}

BULKHEAD_DECL void group_core::drive(std::shared_ptr<group_driver> driver) {
  std::lock_guard lock(mutex_);
  driver_ = std::move(driver);
  body_runs_ = true;
}

/// Why no child is accepted.
BULKHEAD_DECL error_code group_core::refusal() const noexcept {
  if (!closed_) return {};
  if (aborted_) return boost::asio::error::operation_aborted;
  return errc::closed;
}

BULKHEAD_DECL bool group_core::slot_is_free() const noexcept {
  return !dead_ && !aborted_ && running_.size() + reserved_ < limit_;
}

/// Under the mutex: `c` counts as running.
BULKHEAD_DECL void group_core::adopt(child& c) noexcept {
  c.add_ref();
  c.group_ = shared_from_this();
  running_.push_back(c);
}

/// Posts the start of a child that was adopted.
BULKHEAD_DECL void group_core::launch(child& c) noexcept {
  c.push(child::step(c, [](child& self) { self.run_start(); }));
}

BULKHEAD_DECL error_code group_core::spawn(gate_ptr<child> c) {
  {
    std::lock_guard lock(mutex_);
    if (auto ec = refusal()) return ec;
    if (!pending_.empty() || !slot_is_free()) {
      c->add_ref();
      pending_.push_back(*c);
      return {};
    }
    adopt(*c);
  }
  launch(*c);
  return {};
}

BULKHEAD_DECL bool group_core::try_spawn(gate_ptr<child> c) {
  error_code ec;
  return spawn_now(c, ec) && !ec;
}

/// Starts `c`, or refuses it, at once; false if it would have to wait.
BULKHEAD_DECL bool group_core::spawn_now(const gate_ptr<child>& c, error_code& ec) {
  {
    std::lock_guard lock(mutex_);
    ec = refusal();
    if (ec) return true;
    if (!pending_.empty() || !slot_is_free()) return false;
    adopt(*c);
  }
  launch(*c);
  return true;
}

BULKHEAD_DECL wait_key group_core::reserve(spawn_op& op) {
  std::lock_guard lock(mutex_);
  return op.key = keys_.insert(op);
}

BULKHEAD_DECL void group_core::unreserve(spawn_op& op) noexcept {
  std::lock_guard lock(mutex_);
  keys_.erase(op.key);
}

BULKHEAD_DECL void group_core::enqueue(spawn_op& op) {
  error_code ec;
  {
    std::lock_guard lock(mutex_);
    ec = refusal();
    if (!ec) {
      child& c = *op.what;
      c.add_ref();
      c.waiting_ = &op;
      pending_.push_back(c);
    } else {
      keys_.erase(op.key);
      departing_.begin();
    }
  }
  if (!ec) return settle();
  op.complete(ec);
  departing_.end(mutex_);
}

/// Takes the waiting async_spawn `key` out, if it still waits. Its child never starts.
BULKHEAD_DECL spawn_op* group_core::take(wait_key key) noexcept {
  spawn_op* op;
  {
    std::lock_guard lock(mutex_);
    op = keys_.find(key);
    if (!op || !op->what->waiting_) return nullptr;
    keys_.erase(key);
    pending_.erase(*op->what);
    op->what->waiting_ = nullptr;
    departing_.begin();
  }
  op->what->clear();
  op->what->release(); // the list's; the operation holds another
  return op;
}

BULKHEAD_DECL void group_core::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  spawn_op* op = take(key);
  if (!op) return;
  op->complete(boost::asio::error::operation_aborted);
  departing_.end(mutex_);
  settle();
}

BULKHEAD_DECL bool group_core::reserve_slot() noexcept {
  std::lock_guard lock(mutex_);
  if (closed_ || !pending_.empty() || !slot_is_free()) return false;
  ++reserved_;
  reserved_at_ = cancels_;
  return true;
}

BULKHEAD_DECL void group_core::spawn_reserved(gate_ptr<child> c) {
  {
    std::lock_guard lock(mutex_);
    --reserved_;
    adopt(*c);
    if (cancels_ != reserved_at_) c->cancelled_.store(true, std::memory_order_release);
  }
  launch(*c);
}

BULKHEAD_DECL void group_core::unreserve_slot() noexcept {
  std::lock_guard lock(mutex_);
  --reserved_;
}

BULKHEAD_DECL void group_core::start_body(gate_ptr<child> body) {
  {
    std::lock_guard lock(mutex_);
    body->is_body_ = true;
    body->group_ = shared_from_this();
    body_ = body;
    if (cancels_ != 0) body->cancelled_.store(true, std::memory_order_release);
  }
  launch(*body);
}

inline bool is_operation_aborted(const std::exception_ptr& error) noexcept {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const system_error& e) {
    return e.code() == boost::asio::error::operation_aborted;
  } catch (...) {
    return false;
  }
}

/// Under the mutex: keeps a failure. Says whether the others are to be cancelled for it; from this
/// moment on nothing more starts then.
BULKHEAD_DECL bool group_core::record(const std::exception_ptr& error, bool was_aborted,
                                      bool from_body) {
  if (!error || (was_aborted && cancelled_)) return false;
  if (errors_.empty() || policy_ == policy::collect) errors_.push_back(error);
  if (!from_body && policy_ == policy::collect) return false;
  closed_ = cancelled_ = aborted_ = true;
  return true;
}

/// Under the mutex: takes `c` out of the group.
BULKHEAD_DECL void group_core::leave(child& c) noexcept {
  if (c.is_body_) {
    body_ = {};
    body_runs_ = false;
  } else {
    if (c.undelivered_ != boost::asio::cancellation_type::none) --undelivered_;
    running_.erase(c);
    c.release(); // whoever calls this holds another reference
  }
}

/// Keeps a failure, or ends it: under no lock, and while the child that failed still keeps the scope
/// from ending, because the error may refer to something in that scope.
BULKHEAD_DECL bool group_core::note(std::exception_ptr error, bool from_body) noexcept {
  if (!error) return false;
  const bool was_aborted = is_operation_aborted(error);
  std::lock_guard lock(mutex_);
  return record(error, was_aborted, from_body);
}

BULKHEAD_DECL void group_core::child_done(child& c, std::exception_ptr error) noexcept {
  const gate_ptr<child> keep(&c);
  const bool cancels = note(std::move(error), c.is_body_);
  {
    std::lock_guard lock(mutex_);
    leave(c);
  }
  if (cancels) cancel_children(boost::asio::cancellation_type::terminal, true);
  settle();
}

BULKHEAD_DECL void group_core::body_finished(std::exception_ptr error) noexcept {
  const bool cancels = note(std::move(error), true);
  {
    std::lock_guard lock(mutex_);
    body_runs_ = false;
  }
  if (cancels) cancel_children(boost::asio::cancellation_type::terminal, true);
  settle();
}

BULKHEAD_DECL void group_core::child_lost(child& c) noexcept {
  const gate_ptr<child> keep(&c);
  children dropped;
  {
    std::lock_guard lock(mutex_);
    dead_ = closed_ = cancelled_ = true;
    drop_pending(dropped);
    if (errors_.empty()) errors_.push_back(to_exception_ptr(boost::asio::error::operation_aborted));
    leave(c);
  }
  end_dropped(std::move(dropped), boost::asio::error::operation_aborted);
  settle();
}

/// Under the mutex.
BULKHEAD_DECL void group_core::drop_pending(children& dropped) noexcept {
  for (child* c = pending_.empty() ? nullptr : &pending_.front(); c; c = pending_.next(*c))
    if (c->waiting_) {
      keys_.erase(c->waiting_->key);
      departing_.begin();
    }
  dropped.append(pending_);
}

BULKHEAD_DECL void group_core::end_dropped(children dropped, error_code ec) noexcept {
  while (!dropped.empty()) {
    child& c = dropped.pop_front();
    spawn_op* op = std::exchange(c.waiting_, nullptr);
    c.clear();
    c.release();
    if (!op) continue;
    op->complete(ec);
    departing_.end(mutex_);
  }
}

BULKHEAD_DECL void group_core::cancel_children(boost::asio::cancellation_type type, bool and_body) {
  using boost::asio::cancellation_type;
  const bool for_good = and_body || (type & cancellation_type::terminal) != cancellation_type::none;
  children dropped;
  gate_ptr<child> body;
  std::shared_ptr<group_driver> driver;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (for_good) closed_ = aborted_ = true;
    ++cancels_;
    drop_pending(dropped);
    for (child* c = running_.empty() ? nullptr : &running_.front(); c; c = running_.next(*c)) {
      if (c->undelivered_ == cancellation_type::none) ++undelivered_;
      c->undelivered_ = c->undelivered_ | type;
      c->cancelled_.store(true, std::memory_order_release);
    }
    if (and_body) body = body_;
    driver = driver_;
  }
  end_dropped(std::move(dropped), boost::asio::error::operation_aborted);
  deliver_cancellations();
  if (body) {
    body->cancelled_.store(true, std::memory_order_release);
    body->emit(type);
  }
  if (driver) driver->on_progress();
  settle();
}

/// Emits what cancel_children() has marked: one child at a time, under no lock and without memory
/// for a list of them. Several threads may do it together; each goes on until nothing is marked.
BULKHEAD_DECL void group_core::deliver_cancellations() {
  using boost::asio::cancellation_type;
  for (;;) {
    gate_ptr<child> next;
    cancellation_type type;
    {
      std::lock_guard lock(mutex_);
      if (undelivered_ == 0) return;
      child* c;
      do { // who has been looked at goes to the end
        c = &running_.pop_front();
        running_.push_back(*c);
      } while (c->undelivered_ == cancellation_type::none);
      type = std::exchange(c->undelivered_, cancellation_type::none);
      --undelivered_;
      next = gate_ptr<child>(c);
    }
    next->emit(type);
  }
}

BULKHEAD_DECL void group_core::close() noexcept {
  children released;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    // Accepted children stay, but nobody waits for room any more.
    for (child* c = pending_.empty() ? nullptr : &pending_.front(); c;) {
      child* next = pending_.next(*c);
      if (c->waiting_) {
        keys_.erase(c->waiting_->key);
        departing_.begin();
        pending_.erase(*c);
        released.push_back(*c);
      }
      c = next;
    }
  }
  end_dropped(std::move(released), errc::closed);
  settle();
}

BULKHEAD_DECL void group_core::abandon() noexcept {
  joins_->complete(joins_->take_all(), aborted());
  cancel_children(boost::asio::cancellation_type::terminal);
}

BULKHEAD_DECL std::exception_ptr group_core::result() const {
  if (errors_.size() > 1) return std::make_exception_ptr(multiple_errors(errors_));
  return errors_.empty() ? nullptr : errors_.front();
}

BULKHEAD_DECL void group_core::settle() noexcept {
  for (;;) {
    gate_ptr<child> next;
    spawn_op* op = nullptr;
    {
      std::lock_guard lock(mutex_);
      if (pending_.empty() || !slot_is_free()) break;
      child& c = pending_.pop_front();
      next = gate_ptr<child>(&c);
      op = std::exchange(c.waiting_, nullptr);
      if (op) {
        keys_.erase(op->key);
        departing_.begin();
      }
      adopt(c);
      c.release(); // pending_'s; adopt() took one for running_
    }
    launch(*next);
    if (!op) continue;
    op->complete(error_code());
    departing_.end(mutex_);
  }
  std::exception_ptr r;
  wait_set<std::exception_ptr>::list joined;
  std::shared_ptr<group_driver> finished;
  std::shared_ptr<group_driver> driver;
  {
    std::lock_guard lock(mutex_);
    if (running_.empty() && pending_.empty() && reserved_ == 0) {
      joined = joins_->take_all();
      if (driver_ && !body_runs_) {
        closed_ = true;
        finished = std::move(driver_);
      }
      if (!joined.empty() || finished) r = result();
    }
    driver = driver_;
  }
  joins_->complete(std::move(joined), r);
  if (finished)
    finished->on_finished(std::move(r));
  else if (driver)
    driver->on_progress();
}

BULKHEAD_DECL void group_core::on_context_shutdown(wait_key key) noexcept {
  if (key) {
    if (spawn_op* op = take(key)) {
      op->retire();
      departing_.end(mutex_);
      op->destroy();
    }
  } else {
    children dropped;
    {
      std::lock_guard lock(mutex_);
      dead_ = closed_ = cancelled_ = true;
      drop_pending(dropped);
      if (!dropped.empty() && errors_.empty())
        errors_.push_back(to_exception_ptr(boost::asio::error::operation_aborted));
    }
    while (!dropped.empty()) {
      child& c = dropped.pop_front();
      if (spawn_op* waiting = std::exchange(c.waiting_, nullptr)) {
        waiting->retire();
        departing_.end(mutex_);
        waiting->destroy();
      }
      c.clear();
      c.release();
    }
  }
  {
    std::unique_lock lock(mutex_);
    departing_.wait(lock);
  }
  settle();
}

BULKHEAD_DECL std::size_t group_core::size() const noexcept {
  std::lock_guard lock(mutex_);
  return running_.size();
}

BULKHEAD_DECL std::size_t group_core::pending() const noexcept {
  std::lock_guard lock(mutex_);
  return pending_.size();
}

BULKHEAD_DECL std::vector<std::exception_ptr> group_core::errors() const {
  std::lock_guard lock(mutex_);
  return errors_;
}

BULKHEAD_DECL bool group_core::ended() const noexcept {
  std::lock_guard lock(mutex_);
  return closed_;
}

} // namespace bulkhead::detail

#endif
