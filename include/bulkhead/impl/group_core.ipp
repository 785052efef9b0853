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
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/require.hpp>

namespace bulkhead::detail {

// --- starters ---

/// Destroyed uninvoked, it loses what it was to start; unless it has come back.
class group_core::starter {
public:
  explicit starter(std::shared_ptr<group_core> group) noexcept : group_(std::move(group)) {}
  starter(starter&&) noexcept = default;
  ~starter() {
    if (group_ && !posting::takes_back(group_.get())) group_->lose(nullptr);
  }

  void operator()() { start_ready(std::move(group_)); }

private:
  std::shared_ptr<group_core> group_;
};

class group_core::body_starter {
public:
  explicit body_starter(std::shared_ptr<group_core> group) noexcept : group_(std::move(group)) {}
  body_starter(body_starter&&) noexcept = default;
  ~body_starter() {
    if (group_ && !posting::takes_back(&group_->body_)) group_->lose_body();
  }

  void operator()() { start_body_now(std::move(group_)); }

private:
  std::shared_ptr<group_core> group_;
};

/// Under the mutex. If this says so, post_starter() has to follow.
BULKHEAD_DECL bool group_core::needs_starter() noexcept {
  return !ready_.empty() && !std::exchange(starter_is_posted_, true);
}

/// If the executor refuses, by throwing, `accepted` is taken back, and the exception passed on. For
/// others that are ready it is asked again; if it refuses then, they are lost.
BULKHEAD_DECL void group_core::post_starter(child* accepted) {
  posting here(this);
  const auto post = [this] { never_blocking_.execute(starter(shared_from_this())); };
  try {
    post();
  } catch (...) {
    if (!here.is_back()) return;
    const auto [is_taken_back, others] = take_back(accepted);
    if (others) {
      try {
        here.insist(post);
      } catch (...) {
      }
      if (here.is_back()) lose(nullptr);
    }
    if (!is_taken_back) return;
    accepted->destroy();
    end_dropping();
    settle();
    throw;
  }
  if (here.is_back()) lose(nullptr);
}

/// Whether `accepted` was still ready, and whether anything else is. If not, there is no starter any more;
/// else there has to be one, even if all has been given away meanwhile.
BULKHEAD_DECL std::pair<bool, bool> group_core::take_back(child* accepted) noexcept {
  std::lock_guard lock(mutex_);
  bool is_ready = false;
  for (child* c = ready_.empty() ? nullptr : &ready_.front(); c; c = ready_.next(*c))
    is_ready = is_ready || c == accepted;
  if (is_ready) {
    ready_.erase(*accepted);
    --spawned_;
    ++dropping_;
  }
  if (ready_.empty()) starter_is_posted_ = false;
  return {is_ready, starter_is_posted_};
}

BULKHEAD_DECL void group_core::start_ready(std::shared_ptr<group_core> group) {
  bool more = group->starter_begins();
  for (std::size_t turns = runner::most_turns; more; more = turns != 0 && group->has_ready()) {
    gate_ptr<runner> r;
    try {
      r = runner::of(group);
    } catch (...) { // no memory for one
      return group->fail_first(std::current_exception());
    }
    turns = r->run(&group_core::assign_ready, turns).turns_left;
  }
}

/// Whether anything is ready.
BULKHEAD_DECL bool group_core::starter_begins() noexcept {
  std::lock_guard lock(mutex_);
  starter_is_posted_ = false;
  return !ready_.empty();
}

BULKHEAD_DECL bool group_core::has_ready() const noexcept {
  std::lock_guard lock(mutex_);
  return !ready_.empty();
}

/// The first child that is ready has failed before it has begun.
BULKHEAD_DECL void group_core::fail_first(std::exception_ptr error) noexcept {
  child* c;
  bool post;
  {
    std::lock_guard lock(mutex_);
    if (ready_.empty()) return;
    c = &ready_.pop_front();
    running_.push_back(*c);
    post = needs_starter();
  }
  if (post) post_starter();
  c->clear();
  child_ended(*c, std::move(error), nullptr);
}

BULKHEAD_DECL void group_core::assign_ready(runner& r) noexcept {
  bool post;
  {
    std::lock_guard lock(mutex_);
    give_next(r);
    post = needs_starter();
  }
  if (post) post_starter();
}

/// If the executor refuses, and not for want of memory, the body is lost, and the scope completes.
BULKHEAD_DECL void group_core::start_body(child_ptr body) noexcept {
  {
    std::lock_guard lock(mutex_);
    body_ = body.release();
    body_->is_body_ = true;
  }
  posting here(&body_);
  try {
    here.insist([this] { never_blocking_.execute(body_starter(shared_from_this())); });
  } catch (...) {
  }
  if (here.is_back()) lose_body();
}

BULKHEAD_DECL void group_core::lose_body() noexcept {
  body_->clear();
  lose(body_);
}

BULKHEAD_DECL void group_core::start_body_now(std::shared_ptr<group_core> group) {
  group_core& core = *group; // kept here: its driver may go in the midst of child_ended()
  gate_ptr<runner> r;
  std::exception_ptr error;
  try {
    r = runner::of(group);
  } catch (...) {
    error = std::current_exception();
  }
  if (r && r->run(&group_core::assign_body).has_run) return;
  child& body = *core.body_; // which nobody else has seen
  body.clear();
  core.child_ended(body, error ? error : aborted(), nullptr);
}

/// Unless the scope was cancelled before.
BULKHEAD_DECL void group_core::assign_body(runner& r) noexcept {
  std::lock_guard lock(mutex_);
  if (cancels_ == 0) give(*body_, r);
}

/// Under the mutex.
BULKHEAD_DECL void group_core::give(child& c, runner& r) noexcept {
  c.runner_ = &r;
  c.serial_ = r.serial_;
  r.child_ = &c;
  r.id_.store(0, std::memory_order_relaxed);
}

/// Under the mutex: what is ready, if `r` has not had its share.
BULKHEAD_DECL void group_core::give_next(runner& r) noexcept {
  r.child_ = nullptr;
  if (ready_.empty() || r.turns_ == 0) return;
  --r.turns_;
  child& c = ready_.pop_front();
  running_.push_back(c);
  give(c, r);
}

// --- group_core ---

BULKHEAD_DECL group_core::group_core(const boost::asio::any_io_executor& ex, gate_ptr<gate> parent,
                                     std::size_t limit, policy p)
    : executor_(outside_gates(ex)),
      never_blocking_(boost::asio::require(executor_, boost::asio::execution::blocking.never)),
      context_(context_of(executor_)), parent_(std::move(parent)), limit_(limit), policy_(p) {}

BULKHEAD_DECL void group_core::attach(const std::shared_ptr<group_core>& self) {
  self_ = self;
  if (context_) subscription_.subscribe(*context_, self);
}

BULKHEAD_DECL void group_core::drive(std::shared_ptr<group_driver> driver, bool pulls) {
  std::lock_guard lock(mutex_);
  driver_ = std::move(driver);
  pulls_ = pulls;
  body_runs_ = true;
}

BULKHEAD_DECL std::shared_ptr<wait_set<std::exception_ptr>> group_core::joins() {
  {
    std::lock_guard lock(mutex_);
    if (joins_) return joins_;
  }
  auto fresh = std::make_shared<wait_set<std::exception_ptr>>();
  fresh->attach(context_);
  std::lock_guard lock(mutex_);
  if (!joins_) joins_ = std::move(fresh);
  return joins_;
}

/// Why no child is accepted.
BULKHEAD_DECL error_code group_core::refusal() const noexcept {
  if (!closed_) return {};
  if (aborted_) return boost::asio::error::operation_aborted;
  return errc::closed;
}

BULKHEAD_DECL bool group_core::slot_is_free() const noexcept {
  return !dead_ && !aborted_ && in_flight() + reserved_ < limit_;
}

BULKHEAD_DECL error_code group_core::spawn(child_ptr c) {
  child* const accepted = c.get();
  bool post = false;
  {
    std::lock_guard lock(mutex_);
    if (auto ec = refusal()) return ec;
    ++spawned_;
    if (pending_.empty() && slot_is_free()) {
      ready_.push_back(*c.release());
      post = needs_starter();
    } else {
      pending_.push_back(*c.release());
    }
  }
  if (post) post_starter(accepted);
  return {};
}

/// Starts `c`, or refuses it, at once; false if it would have to wait.
BULKHEAD_DECL bool group_core::spawn_now(child_ptr& c, error_code& ec) {
  child* const accepted = c.get();
  bool post;
  {
    std::lock_guard lock(mutex_);
    ec = refusal();
    if (ec) return true;
    if (!pending_.empty() || !slot_is_free()) return false;
    ++spawned_;
    ready_.push_back(*c.release());
    post = needs_starter();
  }
  if (post) post_starter(accepted);
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

BULKHEAD_DECL void group_core::enqueue(spawn_op& op, const gate_ptr<gate>& asker) noexcept {
  const gate_ptr<runner> inside = runner_of(asker);
  error_code ec;
  {
    std::lock_guard lock(mutex_);
    ec = refusal();
    if (!ec && !starts_waiting(op, inside.get())) ec = errc::would_deadlock;
    if (!ec) {
      op.what->waiting_ = &op;
      pending_.push_back(*op.what);
    } else {
      keys_.erase(op.key);
      departing_.begin();
    }
  }
  if (!ec) return settle();
  op.what.reset();
  op.complete(ec);
  end_departure();
}

/// The runner of the child of this group that `task` is, or is part of.
BULKHEAD_DECL gate_ptr<runner> group_core::runner_of(gate_ptr<gate> task) const noexcept {
  while (task) {
    auto& r = static_cast<runner&>(*task); // nothing else stands for a task
    const std::shared_ptr<group_core> group = r.group();
    if (group.get() == this) return gate_ptr<runner>(&r);
    task = group ? group->parent_ : gate_ptr<gate>();
  }
  return {};
}

BULKHEAD_DECL bool group_core::is_within_child(const gate_ptr<gate>& task) noexcept {
  const gate_ptr<runner> r = runner_of(task);
  if (!r) return false;
  std::lock_guard lock(mutex_);
  return r->child_ && !r->child_->is_body_;
}

/// Under the mutex: the child that `asker` runs will wait for a slot. False, if all in flight would:
/// then none would ever be free. (A slot that is only reserved becomes free, or another child.)
BULKHEAD_DECL bool group_core::starts_waiting(spawn_op& op, runner* asker) noexcept {
  child* c = asker ? asker->child_ : nullptr;
  if (!c || c->is_body_) return true;
  if (c->waits_ == 0) {
    if (waiting_inside_ + 1 == in_flight() + reserved_ && !slot_is_free()) return false;
    ++waiting_inside_;
  }
  ++c->waits_;
  op.asker = c;
  return true;
}

/// Under the mutex.
BULKHEAD_DECL void group_core::stop_waiting(spawn_op& op) noexcept {
  if (child* c = std::exchange(op.asker, nullptr))
    if (--c->waits_ == 0) --waiting_inside_;
}

/// Takes the waiting async_spawn `key` out, if it still waits. Its child never starts.
BULKHEAD_DECL spawn_op* group_core::take(wait_key key) noexcept {
  spawn_op* op;
  {
    std::lock_guard lock(mutex_);
    op = keys_.find(key);
    if (!op || !op->what->waiting_) return nullptr;
    pending_.erase(*op->what);
    depart(*op);
    ++dropping_;
  }
  op->what.reset();
  end_dropping();
  return op;
}

/// Under the mutex: nobody finds `op` any more.
BULKHEAD_DECL void group_core::depart(spawn_op& op) noexcept {
  keys_.erase(op.key);
  stop_waiting(op);
  departing_.begin();
}

BULKHEAD_DECL void group_core::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  spawn_op* op = take(key);
  if (!op) return;
  op->complete(boost::asio::error::operation_aborted);
  end_departure();
  settle();
}

BULKHEAD_DECL group_core::slot::slot(group_core& core) noexcept : core_(nullptr) {
  bool post = false;
  {
    std::lock_guard lock(core.mutex_);
    if (core.closed_ || !core.pending_.empty() || !core.slot_is_free()) return;
    ++core.reserved_;
    cancels_ = core.cancels_;
    core_ = &core;
    // To get at the next child may take long, or depend on those before: they must not wait for it.
    post = core.needs_starter();
  }
  if (post) core.post_starter();
}

BULKHEAD_DECL group_core::slot::~slot() {
  if (!core_) return;
  {
    std::lock_guard lock(core_->mutex_);
    --core_->reserved_;
  }
  core_->settle();
}

BULKHEAD_DECL void group_core::slot::fill(child_ptr c) {
  group_core& core = *std::exchange(core_, nullptr);
  child* const accepted = c.get();
  bool post = false;
  {
    std::lock_guard lock(core.mutex_);
    --core.reserved_;
    ++core.spawned_;
    if (core.cancels_ == cancels_ && !core.dead_) {
      core.ready_.push_back(*c.release());
      post = core.takers_ == 0 && core.needs_starter();
    } else {
      ++core.dropped_;
      ++core.dropping_;
    }
  }
  if (post) core.post_starter(accepted);
  is_filled_ = true;
  if (!c) return;
  c.reset();
  core.end_dropping();
  core.settle();
}

/// Under the mutex: keeps a failure. Says whether the others are to be cancelled for it; from this
/// moment on nothing more starts then.
BULKHEAD_DECL bool group_core::record(const std::exception_ptr& error, bool from_body) {
  if (errors_.empty() || policy_ == policy::collect) errors_.add(error);
  if (!from_body && policy_ == policy::collect) return false;
  closed_ = cancelled_ = aborted_ = true;
  return true;
}

/// Keeps the failure of `c`, or of a driver that has no body: while that still keeps the group from
/// ending, because the error may refer to something in its scope.
BULKHEAD_DECL bool group_core::note(child* c, const std::exception_ptr& error) noexcept {
  if (!error) return false;
  const bool was_aborted = is_abort(error);
  const bool from_body = !c || c->is_body_;
  std::lock_guard lock(mutex_);
  const bool was_cancelled = was_aborted && cancelled_;
  if (c) c->has_failed_ = true;
  if (!from_body) ++(was_cancelled ? dropped_ : failed_);
  return !was_cancelled && record(error, from_body);
}

/// Under the mutex: takes `c` out of the group.
BULKHEAD_DECL void group_core::leave(child& c) noexcept {
  if (c.runner_) c.runner_->child_ = nullptr; // also if it is not given another
  if (c.is_body_) {
    body_ = nullptr;
    body_runs_ = false;
    return;
  }
  if (c.undelivered_ != boost::asio::cancellation_type::none) --undelivered_;
  if (c.waits_ != 0) { // its async_spawns still wait, but nobody waits for them in it
    --waiting_inside_;
    for (child* p = pending_.empty() ? nullptr : &pending_.front(); p; p = pending_.next(*p))
      if (p->waiting_ && p->waiting_->asker == &c) p->waiting_->asker = nullptr;
  }
  running_.erase(c);
  if (!c.has_failed_) ++completed_;
}

BULKHEAD_DECL void group_core::child_ended(child& c, std::exception_ptr error, runner* r) noexcept {
  if (!error && r && leave_quietly(c, *r)) return;
  const bool cancels = note(&c, error);
  error = nullptr;
  if (!cancels) return settle(&c, r);
  {
    std::lock_guard lock(mutex_);
    leave(c);
  }
  c.destroy();
  cancel_children(boost::asio::cancellation_type::terminal, true);
  settle(nullptr, r);
}

/// The short way of settle(), if nobody waits for what it brings.
BULKHEAD_DECL bool group_core::leave_quietly(child& c, runner& r) noexcept {
  bool post;
  {
    std::lock_guard lock(mutex_);
    if (pulls_ || !pending_.empty() || in_flight() <= 1 || c.is_body_) return false;
    leave(c);
    give_next(r);
    post = needs_starter();
  }
  c.destroy();
  if (post) post_starter();
  return true;
}

BULKHEAD_DECL void group_core::body_finished(std::exception_ptr error) noexcept {
  const bool cancels = note(nullptr, error);
  error = nullptr;
  {
    std::lock_guard lock(mutex_);
    body_runs_ = false;
  }
  if (cancels) cancel_children(boost::asio::cancellation_type::terminal, true);
  settle();
}

/// A context is going, this one or that of the operation that the child has waited for, and has
/// destroyed what would have taken it further: a failure, but one after which nothing can start.
BULKHEAD_DECL void group_core::lose(child* c) noexcept {
  const std::exception_ptr failure = aborted();
  children dropped;
  bool cancels;
  {
    std::lock_guard lock(mutex_);
    const bool was_cancelled = cancels_ != 0;
    dead_ = closed_ = cancelled_ = true;
    starter_is_posted_ = false;
    drop_unstarted(dropped);
    if (errors_.empty() || (policy_ == policy::collect && !was_cancelled)) errors_.add(failure);
    cancels = policy_ == policy::cancel_siblings && !was_cancelled && !context_ends_;
    if (c) {
      c->has_failed_ = true;
      if (!c->is_body_) ++(was_cancelled ? dropped_ : failed_);
      leave(*c);
    }
  }
  if (c) c->destroy();
  end_dropped(std::move(dropped), boost::asio::error::operation_aborted);
  if (cancels) cancel_children(boost::asio::cancellation_type::terminal, true);
  settle();
}

/// Under the mutex. To be followed by end_dropped(), and settle().
BULKHEAD_DECL void group_core::drop_unstarted(children& dropped) noexcept {
  ++dropping_;
  for (child* c = pending_.empty() ? nullptr : &pending_.front(); c; c = pending_.next(*c))
    if (spawn_op* op = c->waiting_)
      depart(*op);
    else
      ++dropped_;
  dropped_ += ready_.size();
  dropped.append(pending_);
  dropped.append(ready_);
}

BULKHEAD_DECL void group_core::end_dropped(children dropped, error_code ec) noexcept {
  while (!dropped.empty()) {
    child& c = dropped.pop_front();
    if (spawn_op* op = c.waiting_) {
      op->what.reset();
      op->complete(ec);
      end_departure();
    } else {
      c.destroy();
    }
  }
  end_dropping();
}

/// A context is going. The handler may end another as it is destroyed: so this has arrived before.
BULKHEAD_DECL void group_core::destroy_departed(spawn_op& op) noexcept {
  op.retire();
  end_departure();
  op.destroy(); // and the child, if it is still there
}

/// The context is going: destroys the first child that has not started, if there is one. The others are
/// still to be found, for what is destroyed may end the context of one that waits.
BULKHEAD_DECL bool group_core::destroy_first_unstarted() noexcept {
  child* c;
  {
    std::lock_guard lock(mutex_);
    if (pending_.empty()) return false;
    c = &pending_.pop_front();
    if (c->waiting_)
      depart(*c->waiting_);
    else
      ++dropped_;
  }
  if (c->waiting_)
    destroy_departed(*c->waiting_);
  else
    c->destroy();
  return true;
}

/// What was dropped is destroyed: the group may end.
BULKHEAD_DECL void group_core::end_dropping() noexcept {
  std::lock_guard lock(mutex_);
  --dropping_;
}

BULKHEAD_DECL void group_core::cancel_children(boost::asio::cancellation_type type, bool and_body) {
  using boost::asio::cancellation_type;
  const bool for_good = and_body || (type & cancellation_type::terminal) != cancellation_type::none;
  children dropped;
  gate_ptr<runner> body;
  std::uint64_t serial = 0;
  std::stop_source stop_body(std::nostopstate);
  std::shared_ptr<group_driver> driver;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (for_good) closed_ = aborted_ = true;
    ++cancels_;
    drop_unstarted(dropped);
    for (child* c = running_.empty() ? nullptr : &running_.front(); c; c = running_.next(*c)) {
      if (c->undelivered_ == cancellation_type::none) ++undelivered_;
      c->undelivered_ = c->undelivered_ | type;
    }
    if (and_body && body_) {
      body = gate_ptr<runner>(body_->runner_);
      serial = body_->serial_;
      stop_body = body_->stop_;
    }
    if (pulls_) driver = driver_;
  }
  end_dropped(std::move(dropped), boost::asio::error::operation_aborted);
  deliver_cancellations();
  stop_body.request_stop();
  if (body) body->emit(type, serial);
  if (driver) driver->on_progress();
  settle();
}

/// Emits what cancel_children() has marked: one child at a time, under no lock and without memory
/// for a list of them. Several threads may do it together; each goes on until nothing is marked.
BULKHEAD_DECL void group_core::deliver_cancellations() {
  using boost::asio::cancellation_type;
  for (;;) {
    gate_ptr<runner> to;
    std::uint64_t serial;
    std::stop_source stop(std::nostopstate);
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
      to = gate_ptr<runner>(c->runner_);
      serial = c->serial_;
      stop = c->stop_;
    }
    stop.request_stop();
    if (to) to->emit(type, serial);
  }
}

BULKHEAD_DECL void group_core::close() noexcept {
  children released;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    ++dropping_;
    // Accepted children stay, but nobody waits for room any more.
    for (child* c = pending_.empty() ? nullptr : &pending_.front(); c;) {
      child* next = pending_.next(*c);
      if (spawn_op* op = c->waiting_) {
        depart(*op);
        pending_.erase(*c);
        released.push_back(*c);
      }
      c = next;
    }
  }
  end_dropped(std::move(released), errc::closed);
  settle();
}

BULKHEAD_DECL std::size_t group_core::abandon() noexcept {
  std::size_t left;
  std::shared_ptr<wait_set<std::exception_ptr>> joins;
  {
    std::lock_guard lock(mutex_);
    left = in_flight() + pending_.size();
    closed_ = true;
    joins = joins_;
  }
  if (joins) joins->complete(joins->take_all(), aborted());
  if (left != 0) cancel_children(boost::asio::cancellation_type::terminal);
  return left;
}

BULKHEAD_DECL void failures::add(const std::exception_ptr& error) noexcept {
  if (!first_) {
    first_ = error;
  } else {
    try {
      others_.push_back(error);
    } catch (...) {
    }
  }
}

BULKHEAD_DECL std::vector<std::exception_ptr> failures::all() const {
  std::vector<std::exception_ptr> all;
  if (!first_) return all;
  all.reserve(1 + others_.size());
  all.push_back(first_);
  all.insert(all.end(), others_.begin(), others_.end());
  return all;
}

BULKHEAD_DECL std::exception_ptr failures::outcome() const noexcept {
  if (others_.empty()) return first_;
  try {
    return std::make_exception_ptr(multiple_errors(all()));
  } catch (...) {
    return std::current_exception();
  }
}

BULKHEAD_DECL void group_core::settle() noexcept { settle(nullptr, nullptr); }

/// Takes `ended` out first, and gives `r` a child last, if they are not null.
BULKHEAD_DECL void group_core::settle(child* ended, runner* r) noexcept {
  spawns started;
  bool post;
  std::exception_ptr outcome;
  std::shared_ptr<wait_set<std::exception_ptr>> joins;
  wait_set<std::exception_ptr>::list joined;
  std::shared_ptr<group_driver> finished;
  std::shared_ptr<group_driver> pulling;
  bool is_dead = false;
  {
    std::lock_guard lock(mutex_);
    if (ended) leave(*ended);
    while (!pending_.empty() && slot_is_free()) {
      child& c = pending_.pop_front();
      if (spawn_op* op = std::exchange(c.waiting_, nullptr)) {
        depart(*op);
        op->what.release();
        started.push_back(*op);
        ++spawned_;
      }
      ready_.push_back(c);
    }
    if (pulls_) pulling = driver_;
    if (r && !pulling) give_next(*r);
    if (r && pulling) ++takers_;
    post = takers_ == 0 && needs_starter();
    if (in_flight() == 0 && pending_.empty() && reserved_ == 0 && dropping_ == 0) {
      joins = joins_;
      if (joins) joined = joins->take_all();
      if (driver_ && !body_runs_) {
        closed_ = true;
        is_dead = context_ends_;
        finished = std::move(driver_);
        departing_.begin();
      }
      if (!joined.empty() || finished) outcome = errors_.outcome();
    }
  }
  if (ended) ended->destroy();
  if (post) post_starter();
  while (!started.empty()) {
    started.pop_front().complete(error_code());
    end_departure();
  }
  if (joins) joins->complete(std::move(joined), outcome);
  if (finished) {
    finished->on_finished(outcome, is_dead);
  } else if (pulling) {
    pulling->on_progress();
  }
  if (r && pulling) give_pulled(*r);
}

/// What settle() has left open for a group whose driver pulls: its first new child is for `r`.
BULKHEAD_DECL void group_core::give_pulled(runner& r) noexcept {
  bool post;
  {
    std::lock_guard lock(mutex_);
    --takers_;
    give_next(r);
    post = needs_starter();
  }
  if (post) post_starter();
}

BULKHEAD_DECL void group_core::on_context_shutdown(wait_key key) noexcept {
  if (key) {
    if (spawn_op* op = take(key)) destroy_departed(*op);
  } else {
    const std::exception_ptr failure = aborted();
    {
      std::lock_guard lock(mutex_);
      context_ends_ = dead_ = closed_ = cancelled_ = true;
      pending_.append(ready_);
      if (errors_.empty() && !pending_.empty()) errors_.add(failure);
      ++dropping_;
    }
    while (destroy_first_unstarted()) {
    }
    end_dropping();
  }
  departing_.wait();
  settle();
}

BULKHEAD_DECL void group_core::begin_departure() noexcept {
  std::lock_guard lock(mutex_);
  departing_.begin();
}

BULKHEAD_DECL void group_core::end_departure() noexcept { departing_.end(); }

BULKHEAD_DECL void group_core::wait_for_departures() const noexcept { departing_.wait(); }

BULKHEAD_DECL std::size_t group_core::size() const noexcept {
  std::lock_guard lock(mutex_);
  return in_flight();
}

BULKHEAD_DECL std::size_t group_core::pending() const noexcept {
  std::lock_guard lock(mutex_);
  return pending_.size();
}

BULKHEAD_DECL group_stats group_core::stats() const noexcept {
  std::lock_guard lock(mutex_);
  return {in_flight(), pending_.size(), spawned_, completed_, failed_, dropped_};
}

BULKHEAD_DECL std::vector<std::exception_ptr> group_core::errors() const {
  std::lock_guard lock(mutex_);
  return errors_.all();
}

BULKHEAD_DECL bool group_core::ended() const noexcept {
  std::lock_guard lock(mutex_);
  return closed_;
}

} // namespace bulkhead::detail

#endif
