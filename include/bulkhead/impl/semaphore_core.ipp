//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SEMAPHORE_CORE_IPP
#define BULKHEAD_IMPL_SEMAPHORE_CORE_IPP

#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/wait/semaphore_core.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace bulkhead::detail {

BULKHEAD_DECL semaphore_core::semaphore_core(std::size_t limit, const settings& s) noexcept
    : limit_(limit), settings_(s) {
  open_units();
}

BULKHEAD_DECL semaphore_core::~semaphore_core() = default;

BULKHEAD_DECL void semaphore_core::attach(boost::asio::execution_context* context) {
  context_ = context;
  if (context) subscription_.subscribe(*context, shared_from_this());
  self_ = shared_from_this();
}

/// Under the lock.
BULKHEAD_DECL void semaphore_core::shut_units() noexcept {
  if (units_.is_shut()) return;
  const free_units::numbers n = units_.shut();
  in_use_ = limit_ - n.free;
  permits_ = n.permits;
  granted_at_once_ += n.granted;
}

/// Under the lock: if nobody waits, and nothing else has to be decided here.
BULKHEAD_DECL void semaphore_core::open_units() noexcept {
  const bool nobody_waits = waiters_.empty();
  if (nobody_waits && !settings_.track_holders && state_ == state::open && limit_ != 0 &&
      in_use_ <= limit_ && free_units::can_hold({limit_, permits_}))
    units_.open({limit_ - in_use_, permits_});
  else
    units_.stay_shut(!nobody_waits);
}

BULKHEAD_DECL bool semaphore_core::fits(std::size_t weight) const noexcept {
  return limit_ > 0 && in_use_ <= limit_ && weight <= limit_ - in_use_;
}

BULKHEAD_DECL bool semaphore_core::may_proceed(std::size_t weight) const noexcept {
  return waiters_.empty() && fits(weight);
}

BULKHEAD_DECL error_code semaphore_core::end_of_waits() const noexcept {
  if (state_ == state::open) return {};
  if (state_ == state::closed) return errc::closed;
  return boost::asio::error::operation_aborted;
}

/// Why `weight` units cannot even be waited for.
BULKHEAD_DECL error_code semaphore_core::refusal(std::size_t weight) const noexcept {
  if (state_ != state::open) return end_of_waits();
  if (limit_ > 0 && weight > limit_) return errc::exceeds_limit;
  return {};
}

/// Under the lock: what the permit of units that have just been granted is to point to.
BULKHEAD_DECL permit_source& semaphore_core::source_for(std::unique_ptr<holder>& who) noexcept {
  if (!who) return *this;
  who->has_been_granted();
  holders_.push_back(*who);
  return *who.release();
}

/// Under the lock: grants or refuses what need not, or cannot, wait. False: it has to wait.
BULKHEAD_DECL bool semaphore_core::decide(std::size_t weight, std::unique_ptr<holder>& who,
                                          error_code& ec, permit& p) noexcept {
  ec = refusal(weight);
  if (!ec && may_proceed(weight)) {
    in_use_ += weight;
    ++permits_;
    ++granted_at_once_;
    p = permit(source_for(who), weight);
    return true;
  }
  if (!ec && waiters_.size() >= settings_.max_waiters) ec = errc::queue_full;
  if (!ec) return false;
  ++rejected_;
  return true;
}

BULKHEAD_DECL boost::system::result<permit, rejection>
semaphore_core::try_acquire_locked(std::size_t weight, const std::source_location& where) {
  std::unique_ptr<holder> who;
  if (settings_.track_holders) who = std::make_unique<holder>(*this, weight, where, 0, false);
  error_code ec;
  permit p;
  {
    locked lock(*this);
    if (!decide(weight, who, ec, p)) {
      ec = errc::queue_full;
      ++rejected_;
    }
  }
  if (ec) return rejection{ec, {}, "semaphore"};
  return p;
}

/// Where holders are tracked, it takes an operation to know who asks, but none to be refused: there
/// may be no context any more in which one could wait.
BULKHEAD_DECL bool semaphore_core::acquire_now_locked(std::size_t weight, error_code& ec,
                                                      permit& p) {
  std::unique_ptr<holder> nobody;
  locked lock(*this);
  if (!settings_.track_holders) return decide(weight, nobody, ec, p);
  ec = refusal(weight);
  if (!ec) return false;
  ++rejected_;
  return true;
}

/// Under the lock: whether `op` would wait for units that its own task holds, or behind somebody who
/// does. While it waits, those do not come back.
BULKHEAD_DECL bool semaphore_core::would_deadlock(acquire_op& op) noexcept {
  if (!op.who || op.who->task() == 0 || limit_ == 0) return false;
  std::size_t own = 0;
  for (holder* h = holders_.empty() ? nullptr : &holders_.front(); h; h = holders_.next(*h))
    if (h->depends_on(op.who->task())) own += h->weight();
  if (own == 0) return false;
  const std::size_t others = own < limit_ ? limit_ - own : 0; // what can become free at most
  if (op.weight > others) return true;
  for (acquire_op* w = waiters_.empty() ? nullptr : &waiters_.front(); w; w = waiters_.next(*w))
    if (w->weight > others) return true;
  return false;
}

BULKHEAD_DECL wait_key semaphore_core::reserve(acquire_op& op) {
  std::lock_guard lock(mutex_);
  return op.key = keys_.insert(op);
}

BULKHEAD_DECL void semaphore_core::unreserve(acquire_op& op) noexcept {
  std::lock_guard lock(mutex_);
  keys_.erase(op.key);
}

BULKHEAD_DECL bool semaphore_core::enqueue(acquire_op& op, error_code& ec, permit& p) noexcept {
  locked lock(*this);
  bool decided = decide(op.weight, op.who, ec, p);
  if (!decided && would_deadlock(op)) {
    ec = errc::would_deadlock;
    ++rejected_;
    decided = true;
  }
  if (decided) {
    keys_.erase(op.key);
    return true;
  }
  const std::size_t n = settings_.timed_waits;
  if (n != 0 && (waited_ + waiters_.size()) % n == 0) op.since = acquire_op::clock::now();
  waiters_.push_back(op);
  return false;
}

BULKHEAD_DECL void semaphore_core::leave_queue(acquire_op& op) noexcept {
  waiters_.erase(op);
  keys_.erase(op.key);
}

/// Under the lock. What it returns is under way.
BULKHEAD_DECL semaphore_core::queue semaphore_core::wake() noexcept {
  queue granted;
  while (state_ == state::open && !waiters_.empty() && fits(waiters_.front().weight)) {
    acquire_op& op = waiters_.front();
    leave_queue(op);
    in_use_ += op.weight;
    ++permits_;
    ++waited_;
    op.source = &source_for(op.who);
    granted.push_back(op);
  }
  if (!granted.empty()) users_.depart();
  return granted;
}

/// What a thread has taken out and is completing.
///
/// An executor whose context has shut down may destroy what is posted to it, and with that the handler,
/// inside complete(). So anything may happen there. Handlers give back their permits: a thread that is
/// completing already only adds those who are granted them, lest it recurse once for each. They end
/// contexts: what is left here is completed first then, for a context that ends must not find its own
/// here, and does not wait for the thread that ends it.
class semaphore_core::errand {
public:
  errand(semaphore_core& core, queue& ended, error_code ec, queue& granted, unsigned departures)
      : core_(core), ended_(ended), ec_(ec), granted_(granted), departures_(departures),
        outer_(std::exchange(innermost(), this)) {}
  errand(const errand&) = delete;
  errand& operator=(const errand&) = delete;
  ~errand() { innermost() = outer_; }

  void finish() noexcept {
    while (!ended_.empty()) ended_.pop_front().complete(ec_, permit());
    while (!granted_.empty()) core_.complete_granted(granted_.pop_front());
  }

  // Those of this thread.

  /// Adds to one of them. False if there is none.
  static bool add(semaphore_core& core, queue& granted) noexcept {
    errand* const e = next_of(core, innermost());
    if (e) e->granted_.append(granted);
    return e != nullptr;
  }

  static void finish_all(const semaphore_core& core) noexcept {
    for (errand* e = next_of(core, innermost()); e; e = next_of(core, e->outer_)) e->finish();
  }

  static std::uint32_t departures(const semaphore_core& core) noexcept {
    std::uint32_t n = 0;
    for (errand* e = next_of(core, innermost()); e; e = next_of(core, e->outer_))
      n += e->departures_;
    return n;
  }

private:
  static errand* next_of(const semaphore_core& core, errand* e) noexcept {
    while (e && &e->core_ != &core) e = e->outer_;
    return e;
  }

  static errand*& innermost() noexcept { return per_thread<errand*, errand>::get(); }

  semaphore_core& core_;
  queue& ended_;
  const error_code ec_;
  queue& granted_;
  const unsigned departures_;
  errand* const outer_;
};

BULKHEAD_DECL void semaphore_core::complete_granted(acquire_op& op) noexcept {
  if (op.since != acquire_op::clock::time_point())
    wait_time_.add(acquire_op::clock::now() - op.since);
  op.complete({}, permit(*op.source, op.weight));
}

/// Completes what is under way, each of the two with a departure of its own.
BULKHEAD_DECL void semaphore_core::complete(queue&& ended, error_code ec,
                                            queue&& granted) noexcept {
  unsigned departures = !ended.empty() + !granted.empty();
  if (departures == 0) return;
  if (!ended.empty() || !errand::add(*this, granted))
    errand(*this, ended, ec, granted, departures).finish();
  while (departures-- != 0) arrive();
}

/// A handler that is destroyed may end any context: this one's, which waits here for arrivals, or that of
/// another handler, which is to find it in the queue. So one at a time is taken out, and has arrived.
BULKHEAD_DECL void semaphore_core::destroy(acquire_op& op) noexcept {
  op.retire();
  arrive();
  op.destroy();
}

/// The last thing that a thread does here which was under way.
BULKHEAD_DECL void semaphore_core::arrive() noexcept {
  if (users_.arrive()) const auto last = std::move(self_);
}

/// Takes the wait `key` out of the queue, if it is still there, and grants those behind it.
BULKHEAD_DECL acquire_op* semaphore_core::take(wait_key key, queue& granted) noexcept {
  locked lock(*this);
  acquire_op* op = keys_.find(key);
  if (!op || !op->is_linked()) return nullptr;
  take(*op);
  granted = wake();
  return op;
}

/// Takes the first wait out, after which nothing is granted any more.
BULKHEAD_DECL acquire_op* semaphore_core::take_at_shutdown() noexcept {
  locked lock(*this);
  state_ = state::shut_down;
  if (waiters_.empty()) return nullptr;
  acquire_op& op = waiters_.front();
  take(op);
  return &op;
}

/// Under the lock. `op` is under way.
BULKHEAD_DECL void semaphore_core::take(acquire_op& op) noexcept {
  leave_queue(op);
  ++cancelled_;
  users_.depart();
}

BULKHEAD_DECL void semaphore_core::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  queue cancelled, granted;
  if (acquire_op* op = take(key, granted)) cancelled.push_back(*op);
  complete(std::move(cancelled), boost::asio::error::operation_aborted, std::move(granted));
}

/// Once there is no semaphore and no permit any more. Not under the lock: if somebody is under way,
/// it is over with this object when he arrives, and he does not wait for the lock.
BULKHEAD_DECL void semaphore_core::leave_owner() noexcept {
  if (users_.owner_leaves()) const auto last = std::move(self_);
}

/// Under the lock: a permit has ended. True: it was the last one, and leave_owner() has to follow.
BULKHEAD_DECL bool semaphore_core::end_permit() noexcept { return --permits_ == 0 && ownerless_; }

/// Unless it was the last permit, or grants anything, it may be over with this object as soon as the
/// lock is released.
BULKHEAD_DECL void semaphore_core::give_back(std::size_t weight, outcome) noexcept {
  if (units_.give_back(weight)) return;
  queue granted;
  bool was_last;
  {
    locked lock(*this);
    in_use_ -= weight;
    granted = wake();
    was_last = end_permit();
  }
  complete({}, {}, std::move(granted));
  if (was_last) leave_owner();
}

BULKHEAD_DECL void semaphore_core::forget(std::size_t weight) noexcept {
  bool was_last;
  {
    locked lock(*this);
    forgotten_ += weight;
    was_last = end_permit();
  }
  if (was_last) leave_owner();
}

BULKHEAD_DECL permit_source& semaphore_core::split(std::size_t) noexcept {
  if (units_.split()) return *this;
  locked lock(*this);
  ++permits_;
  return *this;
}

/// The other permit keeps this object alive.
BULKHEAD_DECL void semaphore_core::merge(permit_source&, std::size_t) noexcept {
  if (units_.merge()) return;
  locked lock(*this);
  --permits_;
}

BULKHEAD_DECL void semaphore_core::release(std::size_t n) {
  queue granted;
  std::size_t forgotten;
  {
    locked lock(*this);
    forgotten = forgotten_;
    if (n <= forgotten) {
      forgotten_ -= n;
      in_use_ -= n;
      granted = wake();
    }
  }
  if (n > forgotten)
    throw std::invalid_argument("semaphore::release: n must be at most the " +
                                std::to_string(forgotten) +
                                " units held by forgotten permits (got " + std::to_string(n) + ")");
  complete({}, {}, std::move(granted));
}

BULKHEAD_DECL void semaphore_core::resize(std::size_t limit) {
  queue granted;
  queue refused;
  {
    locked lock(*this);
    limit_ = limit;
    for (acquire_op* op = limit && !waiters_.empty() ? &waiters_.front() : nullptr; op;) {
      acquire_op* next = waiters_.next(*op);
      if (op->weight > limit) {
        leave_queue(*op);
        ++rejected_;
        refused.push_back(*op);
      }
      op = next;
    }
    if (!refused.empty()) users_.depart();
    granted = wake();
  }
  complete(std::move(refused), errc::exceeds_limit, std::move(granted));
}

/// Under the lock: nothing is granted any more. Returns those who waited.
BULKHEAD_DECL semaphore_core::queue semaphore_core::end(state s) noexcept {
  state_ = (std::max)(state_, s);
  for (acquire_op* op = waiters_.empty() ? nullptr : &waiters_.front(); op; op = waiters_.next(*op))
    keys_.erase(op->key);
  (s == state::closed ? rejected_ : cancelled_) += waiters_.size();
  if (!waiters_.empty()) users_.depart();
  return std::move(waiters_);
}

BULKHEAD_DECL void semaphore_core::close() noexcept {
  queue ended;
  {
    locked lock(*this);
    ended = end(state::closed);
  }
  complete(std::move(ended), errc::closed, {});
}

BULKHEAD_DECL void semaphore_core::abandon() noexcept {
  queue ended;
  bool was_last;
  {
    locked lock(*this);
    ended = end(state::abandoned);
    ownerless_ = true;
    was_last = permits_ == 0;
  }
  complete(std::move(ended), boost::asio::error::operation_aborted, {});
  if (was_last) leave_owner();
}

BULKHEAD_DECL void semaphore_core::on_context_shutdown(wait_key key) noexcept {
  queue granted;
  acquire_op* const op = key ? take(key, granted) : nullptr;
  complete({}, {}, std::move(granted));
  errand::finish_all(*this); // first: a handler that is destroyed may wait for that
  if (op) destroy(*op);
  while (acquire_op* waiter = key ? nullptr : take_at_shutdown()) destroy(*waiter);
  users_.wait_for_arrivals(errand::departures(*this));
}

BULKHEAD_DECL std::size_t semaphore_core::limit() const noexcept {
  std::lock_guard lock(mutex_);
  return limit_;
}

BULKHEAD_DECL std::size_t semaphore_core::in_use() const noexcept {
  std::lock_guard lock(mutex_);
  return units_.is_shut() ? in_use_ : limit_ - units_.load().free;
}

BULKHEAD_DECL std::size_t semaphore_core::available() const noexcept {
  std::lock_guard lock(mutex_);
  if (!units_.is_shut()) return units_.load().free;
  return in_use_ < limit_ ? limit_ - in_use_ : 0;
}

BULKHEAD_DECL std::size_t semaphore_core::waiting() const noexcept {
  std::lock_guard lock(mutex_);
  return waiters_.size();
}

BULKHEAD_DECL semaphore_stats semaphore_core::stats() const noexcept {
  semaphore_stats s;
  {
    std::lock_guard lock(mutex_);
    const bool shut = units_.is_shut();
    const free_units::numbers n = units_.load();
    s.limit = limit_;
    s.in_use = shut ? in_use_ : limit_ - n.free;
    s.waiting = waiters_.size();
    s.granted = granted_at_once_ + (shut ? 0 : n.granted) + waited_;
    s.waited = waited_;
    s.rejected = rejected_;
    s.cancelled = cancelled_;
  }
  s.wait_time = wait_time_.load();
  return s;
}

BULKHEAD_DECL bool semaphore_core::idle() const noexcept {
  std::lock_guard lock(mutex_);
  if (units_.is_shut()) return in_use_ == 0 && permits_ == 0 && waiters_.empty();
  const free_units::numbers n = units_.load();
  return n.permits == 0 && n.free == limit_;
}

/// Describes what `list` holds. Memory for that is not asked for under the lock.
template <class List, class Describe>
std::vector<permit_user> semaphore_core::describe(List& list, Describe f) const {
  std::vector<permit_user> all;
  std::size_t n = 0;
  do {
    all.clear();
    all.reserve(n);
    const auto now = holder::clock::now();
    std::lock_guard lock(mutex_);
    n = list.size();
    if (n > all.capacity()) continue;
    for (auto* e = list.empty() ? nullptr : &list.front(); e; e = list.next(*e))
      if (const holder* h = f(*e)) all.push_back(h->describe(now));
  } while (n > all.capacity());
  return all;
}

BULKHEAD_DECL std::vector<permit_user> semaphore_core::holders() const {
  return describe(holders_, [](const holder& h) { return &h; });
}

BULKHEAD_DECL std::vector<permit_user> semaphore_core::waiters() const {
  return describe(waiters_, [](const acquire_op& op) { return op.who.get(); });
}

// --- holders ---

/// Its permit ends, and so does this. The engine lives on until it knows of that.
BULKHEAD_DECL semaphore_core& holder::end() noexcept {
  semaphore_core& core = core_;
  {
    std::lock_guard lock(core.mutex_);
    core.holders_.erase(*this);
  }
  delete this;
  return core;
}

BULKHEAD_DECL void holder::give_back(std::size_t weight, outcome result) noexcept {
  end().give_back(weight, result);
}

BULKHEAD_DECL void holder::forget(std::size_t weight) noexcept { end().forget(weight); }

BULKHEAD_DECL permit_source& holder::split(std::size_t n) {
  auto other = std::make_unique<holder>(*this, n);
  core_.split(n);
  std::lock_guard lock(core_.mutex_);
  weight_ -= n;
  core_.holders_.push_back(*other);
  return *other.release();
}

BULKHEAD_DECL void holder::merge(permit_source& other, std::size_t n) noexcept {
  static_cast<holder&>(other).end().merge(*this, n);
  std::lock_guard lock(core_.mutex_);
  weight_ += n;
}

BULKHEAD_DECL const void* holder::limiter() const noexcept { return &core_; }

} // namespace bulkhead::detail

#endif
