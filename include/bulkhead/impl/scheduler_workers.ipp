//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SCHEDULER_WORKERS_IPP
#define BULKHEAD_IMPL_SCHEDULER_WORKERS_IPP

// What a worker does, and where and for how long it sleeps.

#include <bulkhead/detail/run/scheduler.hpp>

#include <boost/asio/post.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <pthread.h>

namespace bulkhead::detail {

// --- workers ---

BULKHEAD_DECL void scheduler::name_this_thread(std::size_t index) {
  std::string number = "/"; // and no operator+: g++ 12 warns of it at -O3, falsely
  number += std::to_string(index);
  constexpr std::size_t longest_name = 15; // of a thread, in Linux
  std::string_view name = options_.name;
  if (name.empty()) name = "pool";
  std::string all(name.substr(0, longest_name - number.size())); // so short that it needs no memory
  all += number;
  ::pthread_setname_np(::pthread_self(), all.c_str());
}

BULKHEAD_DECL void scheduler::run_worker(worker& w) noexcept {
  const bool attached = w.attached;
  if (!attached) name_this_thread(w.index);
  worker* const outer = std::exchange(current(), &w);
  if ((options_.on_worker_start || !w.range.empty()) && std::exchange(w.searching, false)) {
    // That may take long, or what its predecessor has left. Who was to be called meanwhile is; who was
    // to be created is this one.
    parking_.end_search();
    if (parking_.wants_call() && any_work()) call_somebody();
  }
  call_hook(options_.on_worker_start, w.index);
  const bool counted = host_work_loop(w);
  if (w.state) end_state(w);
  call_hook(options_.on_worker_stop, w.index);
  current() = outer;
  if (const std::size_t n = std::exchange(w.work_in_hand, 0); n != 0) finish_work(n);
  if (counted) worker_has_ended(w);
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
    if (signals(w) != 0) {
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
    const unsigned s = signals(w);
    if (s & exit) return verdict::end;
    if (s & paused) {
      std::unique_lock lock(parking_.mutex());
      resumed_.wait(lock, [this] {
        const unsigned now = signals_.load(std::memory_order_relaxed);
        return !(now & paused) || (now & exit);
      });
      continue;
    }
    if (s & warmth_wanted) {
      heed_warm_up(w);
      continue;
    }
    if ((s & surplus) && (w.range.empty() || w.needs_state) && retire(w)) return verdict::retired;
    return verdict::go_on;
  }
}

/// Whether this worker is one too many. It is not counted any more then.
BULKHEAD_DECL bool scheduler::retire(worker& w) noexcept {
  count_left(w);
  {
    std::lock_guard lock(parking_.mutex());
    if (spare(w)) return false;
    const bool leaves = live_ > threads();
    if (leaves) {
      w.keeps_first = false; // first: who looks whether all has ended is to see that
      count_out(w);
    }
    if (live_ <= threads() || live_ == attached_) signals_.fetch_and(~surplus);
    if (!leaves) return false;
  }
  if (joining_.load(std::memory_order_seq_cst)) let_go_if_finished();
  // Others find what it leaves in its queue and in its claim.
  share_work(nullptr);
  return true;
}

/// Claims something to run. External and local work take turns, so that neither starves, and now
/// and then it is work that was left with somebody else, or I/O.
BULKHEAD_DECL bool scheduler::refill(worker& w) noexcept {
  if (options_.lifo && w.newest_run++ != batch) {
    const cell_range r = w.recent.pop();
    if (!r.empty()) {
      start_newest(w, r);
      return true;
    }
  }
  w.newest_run = 0;
  const unsigned turn = ++w.turn;
  if (turn % turns_between_polls == 0 && !reactor_taken_.load(std::memory_order_relaxed)) poll();
  if ((turn & robbery_mask_.load(std::memory_order_relaxed)) == 0 && rob(w, 1)) return true;
  if (turn % 2 == 0) return claim_local(w) || claim_from_shards(w);
  return claim_from_shards(w) || claim_local(w);
}

BULKHEAD_DECL bool scheduler::claim_local(worker& w) noexcept {
  return claim_from(w, w.local, options_.lifo ? 1 : batch);
}

BULKHEAD_DECL bool scheduler::claim_from(worker& w, run_queue& q, unsigned most) noexcept {
  if (w.needs_state) most = 1;
  const cell_range r = q.claim(most, threads() > 1);
  if (r.empty()) return false;
  start_range(w, r, &q == &w.local);
  return true;
}

/// Beginning with the one after the last that had work, so that each has its turn; or with just that
/// one, if nobody else wants it, for it is the most likely to have work again.
BULKHEAD_DECL bool scheduler::claim_from_shards(worker& w) noexcept {
  const std::size_t first = w.shard + !w.searching;
  for (std::size_t i = first; i <= first + shard_mask_; ++i) {
    if (!claim_from(w, shards_[i & shard_mask_]->queue, batch)) continue;
    w.shard = i & shard_mask_;
    return true;
  }
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
    cell_range r = rest_of_claim(v, false, &w);
    const bool leaves = w.searching && leaves_alone(v, r);
    if (!leaves && claim_from(w, v.local, batch)) return true;
    if (!r.empty() && !(leaves && v.local.owns(r))) {
      r.end = r.begin + (w.needs_state ? 1 : (r.end - r.begin + 1) / 2);
      start_range(w, r, false);
      return true;
    }
    --most;
  } while (most != 0 && w.victim != last);
  return false;
}

BULKHEAD_DECL void scheduler::start_range(worker& w, const cell_range& r, bool local) noexcept {
  set_range(w, r);
  if (w.needs_state) w.keeps_first = true; // first: see is_kept()
  w.claimed.set(r);
  if (!local && has_resting_.load(std::memory_order_relaxed)) call_resting(false);
  // Others may help with the rest; but what a worker has posted itself is most likely small.
  if (!wants_hands()) return;
  if (local && r.end - r.begin < batch && ask_for_watch()) return;
  share_work(&w);
}

/// The newest function of its own queue, where others may still find it, so it needs no claim.
BULKHEAD_DECL void scheduler::start_newest(worker& w, const cell_range& r) noexcept {
  set_range(w, r);
  if (wants_hands() && !ask_for_watch()) share_work(&w);
}

BULKHEAD_DECL void scheduler::set_range(worker& w, const cell_range& r) noexcept {
  if (r.where != w.range.where) count_left(w);
  w.unannounced = 0;
  w.range = r;
}

/// Counts the functions that have left the segment of the range.
BULKHEAD_DECL void scheduler::count_left(worker& w) noexcept {
  if (w.left != 0) run_queue::leave(*w.range.where, std::exchange(w.left, 0));
}

BULKHEAD_DECL void scheduler::run_range(worker& w) noexcept {
  cell_range r = w.range;
  while (!r.empty() && !(signals_.load(std::memory_order_relaxed) & (exit | paused))) {
    if (w.needs_state) [[unlikely]] {
      w.range = r;
      if (!may_start(w)) return;
    }
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
  if (has_resting_.load(std::memory_order_relaxed)) call_resting(true);
  if (!w.searching) w.searching = parking_.begin_search();
  if (w.searching && search(w)) return true;
  return sleep(w);
}

/// Looks for work for a while, alone. False if there was none; the worker still searches then, unless
/// somebody else began while it polled.
BULKHEAD_DECL bool scheduler::search(worker& w) noexcept {
  unsigned turns = 0;
  for (unsigned turn = 0;; ++turn) {
    if (signals(w) != 0) return true;
    if (claim_local(w) || claim_from_shards(w) || rob(w, all_workers)) {
      w.patience.found_after(turn);
      end_search(w);
      return true;
    }
    if (turn == 0) turns = w.patience.next();
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
    if (turn >= turns_before_yield && turn % turns_between_yields == 0) sync::this_thread::yield();
  }
  w.patience.found_nothing();
  w.io_hot = false;
  return false;
}

BULKHEAD_DECL void scheduler::end_search(worker& w) noexcept {
  if (!std::exchange(w.searching, false)) return;
  parking_.end_search();
  share_work(&w);
  if (w.state && !w.needs_state) share_kept(w);
}

/// Sleeps until there is work. False as in idle().
BULKHEAD_DECL bool scheduler::sleep(worker& w) noexcept {
  w.awake = false;
  if (const std::size_t n = std::exchange(w.work_in_hand, 0); n != 0)
    work_.fetch_sub(n, std::memory_order_acq_rel); // if these are the last, that is seen below
  {
    std::lock_guard lock(parking_.mutex());
    parking_.lie_down(w, std::exchange(w.searching, false));
    take_reactor_if_free(w);
  }
  if (joining_.load(std::memory_order_seq_cst)) let_go_if_finished();
  const awakening a = may_sleep(w) ? sleep_until_called(w) : awakening::to_search;
  get_up(w);
  if (a == awakening::to_search && !w.searching) { // and nothing else before
    w.searching = true;
    parking_.add_search();
  }
  return a != awakening::to_leave;
}

/// Under the parking's mutex.
BULKHEAD_DECL void scheduler::take_reactor_if_free(worker& w) noexcept {
  if (reactor_ || (makes_way_ == &w && parking_.sleeping() != 1)) return; // the others watch
  reactor_ = &w;
  reactor_taken_.store(true, std::memory_order_relaxed);
  w.at_reactor = true;
}

/// What `v` has claimed and nobody has taken, but for the first if `leaves_first`, or if it was kept
/// before or is after: who begins to keep it says so first, and who ends that says so last.
BULKHEAD_DECL cell_range scheduler::rest_of_claim(const worker& v, bool leaves_first,
                                                  const worker* looker) noexcept {
  leaves_first |= is_kept(v, looker);
  cell_range r = v.claimed.get();
  leaves_first |= is_kept(v, looker);
  if (leaves_first && !r.empty()) ++r.begin;
  r.skip_taken();
  return r;
}

/// The first of what stands in the queue or is claimed from it, if that is little.
BULKHEAD_DECL cell_range scheduler::first_of_few(const run_queue& q,
                                                 const cell_range& claimed) noexcept {
  if (claimed.empty() || !q.owns(claimed)) return q.first_of_few(few);
  const unsigned n = claimed.end - claimed.begin;
  if (n > few || !q.has_at_most(few - n)) return {};
  return {claimed.where, claimed.full, claimed.begin, claimed.begin + 1};
}

/// Whether what `owner` has posted itself and not begun, `claimed` or not, is so little that it is left
/// there: see Watch. A worker that has ended runs nothing any more.
BULKHEAD_DECL bool scheduler::leaves_alone(worker& owner, const cell_range& claimed) noexcept {
  const cell_range first = first_of_few(owner.local, claimed);
  const std::uint64_t at = owner.left_alone_at.load(std::memory_order_relaxed);
  if (first.empty() || !owner.in_use.load(std::memory_order_acquire)) {
    if (at != 0) owner.left_alone_at.store(0, std::memory_order_relaxed);
    return false;
  }
  const std::uint64_t now = naps_.load(std::memory_order_relaxed);
  if (at == now) return true;
  const std::uint64_t posted = owner.posted.load();
  if (at != 0) {
    const std::uint64_t before = owner.left_alone_after.load(std::memory_order_relaxed);
    if (owner.left_alone.get() == first || posted - before < least_per_nap * (now - at))
      return false;
  }
  owner.left_alone.set(first);
  owner.left_alone_after.store(posted, std::memory_order_relaxed);
  owner.left_alone_at.store(now, std::memory_order_relaxed);
  return true;
}

/// What it leaves alone does not keep it awake, but then somebody watches.
BULKHEAD_DECL bool scheduler::may_sleep(worker& w) noexcept {
  if (has_line_.load(std::memory_order_seq_cst)) let_line_move();
  bool left_some = false;
  const auto leaves = [&](worker& v, const cell_range& claimed) {
    return &v != &w && leaves_alone(v, claimed) && (left_some = true);
  };
  if (signals(w) != 0 || any_work(nullptr, leaves, &w)) return false;
  if (left_some) see_to_watch(w);
  return true;
}

/// A watch that is about to end looks again afterwards, and sees what `w` has seen.
BULKHEAD_DECL void scheduler::see_to_watch(worker& w) noexcept {
  deferred_.store(true, std::memory_order_relaxed);
  if (parking_.watched()) return;
  std::lock_guard lock(parking_.mutex());
  if (parking_.watched() || !w.listed) return;
  w.watches = true;
  parking_.set_watched(true);
}

BULKHEAD_DECL scheduler::awakening scheduler::sleep_until_called(worker& w) noexcept {
  watch_period period;
  std::chrono::nanoseconds napped{}; // at most, since it has looked: I/O may wake it all the time
  bool stays = false; // was to expire and might not: more workers come only when it has got up, too
  std::unique_lock lock(parking_.mutex());
  const auto done = [&] { return !w.listed || signals(w) != 0; };
  if (makes_way(w) && !done() && !w.watches && expire(w)) return awakening::to_leave;
  while (!done()) {
    const bool watches = w.watches;
    const auto duration = watches ? period.next() : never_expires;
    bool woken;
    lock.unlock();
    if (w.at_reactor) {
      woken = sleep_at_reactor(w, duration);
      if (!std::exchange(w.in_reactor, false)) return awakening::has_worked;
    } else {
      woken = w.wake.wait_for(stays ? duration : std::min(duration, options_.idle_expiry));
    }
    lock.lock();
    if (done() || w.watches != watches) continue;
    if (!watches) {
      if (woken) continue;
      if (expire(w)) return awakening::to_leave;
      stays = !may_expire(w);
      continue;
    }
    napped += duration;
    if (woken && napped < watch_period::longest) continue;
    napped = {};
    naps_.fetch_add(woken ? 1 : static_cast<std::uint64_t>(duration / watch_period::shortest),
                    std::memory_order_relaxed);
    do {
      lock.unlock();
      if (!may_sleep(w)) return awakening::to_search;
      lock.lock();
    } while (w.listed && ends_watch(w, period)); // the last look comes after the end
  }
  return awakening::to_search;
}

/// Under the parking's mutex: whether the pool has more workers than it needs, and this may be the one
/// that leaves.
BULKHEAD_DECL bool scheduler::may_expire(const worker& w) const noexcept {
  return !w.attached && !w.at_reactor && live_ > min_threads_.load(std::memory_order_relaxed);
}

/// Under the parking's mutex: leaves.
BULKHEAD_DECL bool scheduler::expire(worker& w) noexcept {
  if (!may_expire(w) || another_expires(w)) return false;
  can_grow_.store(true); // first: who finds nobody to call any more is to see this
  parking_.get_up(w);
  count_out(w);
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
  if (deferred_.exchange(false, std::memory_order_relaxed) ||
      has_line_.load(std::memory_order_relaxed))
    period.restart_quiet();
  // If nobody has looked at I/O for a whole period, nobody may do so soon.
  const unsigned polls = polls_.load(std::memory_order_relaxed);
  if (std::exchange(w.polls_seen, polls) == polls) take_reactor_if_free(w);
  if (!period.is_over() || !reactor_) return false;
  w.watches = false;
  parking_.set_watched(false);
  return true;
}

/// A worker that slept is awake. It may have been called before it slept. Says whether something is
/// left undone, if it does not search now: it was called at the reactor, or nobody else watches.
BULKHEAD_DECL bool scheduler::get_up(worker& w) noexcept {
  w.awake = true;
  std::unique_lock lock(parking_.mutex());
  parking_.get_up(w);
  const bool called = std::exchange(w.called, false);
  if (called) w.searching = !w.at_reactor;
  const bool watched = std::exchange(w.watches, false);
  if (watched) parking_.set_watched(false);
  const bool reactor = std::exchange(w.at_reactor, false);
  if (reactor) {
    reactor_ = nullptr;
    reactor_taken_.store(false, std::memory_order_relaxed);
  }
  const bool unattended = (reactor || watched) && !reactor_;
  lock.unlock();
  const bool handed_on = !unattended || ask_for_watch();
  return (called && reactor) || !handed_on;
}

/// The worker that slept at the reactor runs a function of the user's. What it was there for is left
/// to others.
BULKHEAD_DECL void scheduler::leave_reactor(worker& w) noexcept {
  w.in_reactor = false;
  if (get_up(w)) share_work(nullptr);
}

/// What follows may be left undone for a while, so somebody who sleeps shall look after it. False if
/// nobody sleeps.
BULKHEAD_DECL bool scheduler::ask_for_watch() noexcept {
  if (!deferred_.load(std::memory_order_relaxed)) deferred_.store(true, std::memory_order_relaxed);
  if (parking_.watched()) return true;
  if (parking_.sleeping() == 0) return false;
  std::unique_lock lock(parking_.mutex());
  if (parking_.watched()) return true;
  sleeper* s = parking_.next();
  if (!s) return false;
  s->watches = true;
  parking_.set_watched(true);
  const bool at_reactor = s->at_reactor;
  lock.unlock();
  if (at_reactor)
    interrupt_reactor(static_cast<worker&>(*s));
  else
    s->wake.set();
  return true;
}

/// Whether a function can be found anywhere that nobody has taken, and that `leaves(owner, claimed)`
/// does not leave to the worker that has posted it; `self` is going to take the first of its own claim.
template <class Leaves>
bool scheduler::any_work(const worker* self, Leaves leaves, const worker* sleeper) noexcept {
  for (auto& s : shards_) {
    s->mutex.synchronize(); // see cell::publish_under_lock()
    if (s->queue.has_work()) return true;
  }
  for (worker* v = first_worker_; v; v = v->next.load(std::memory_order_acquire)) {
    const cell_range r = rest_of_claim(*v, v == self, sleeper);
    const bool left = leaves(*v, r);
    if (!left && v->local.has_work()) return true;
    if (!r.empty() && !(left && v->local.owns(r))) return true;
  }
  return false;
}

BULKHEAD_DECL bool scheduler::any_work() noexcept {
  return any_work(nullptr, [](const worker&, const cell_range&) { return false; });
}

/// Has somebody come for what nobody has taken; or watch, if it is so little that he would leave it
/// alone.
BULKHEAD_DECL void scheduler::share_work(const worker* self) noexcept {
  if (!wants_hands()) return;
  bool left_some = false;
  const auto leaves = [&](worker& v, const cell_range& claimed) {
    return leaves_alone(v, claimed) && (left_some = true);
  };
  if (any_work(self, leaves) || (left_some && !ask_for_watch())) get_hands();
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

/// The base class's stop() is not ours. Who sleeps at the reactor was to wake up, and may not have seen
/// yet that the io_context was stopped.
BULKHEAD_DECL void scheduler::restart_io() noexcept {
  if (!io_.stopped()) return;
  worker* sleeper;
  {
    std::lock_guard lock(parking_.mutex());
    if (signals_.load(std::memory_order_relaxed) & exit) return;
    io_.restart();
    sleeper = reactor_;
  }
  if (sleeper && sleeper != this_worker()) interrupt_reactor(*sleeper);
}

/// False if nobody sleeps, or somebody searches.
BULKHEAD_DECL bool scheduler::call_somebody() noexcept {
  std::unique_lock lock(parking_.mutex());
  if (!parking_.wants_call()) return false;
  sleeper* s = parking_.next();
  if (s) call(*s, lock);
  return s != nullptr;
}

BULKHEAD_DECL void scheduler::call(sleeper& s, std::unique_lock<sync::mutex>& lock) noexcept {
  parking_.call(s);
  const bool at_reactor = s.at_reactor;
  lock.unlock(); // first: who wakes up needs it
  if (at_reactor)
    call_at_reactor(static_cast<worker&>(s));
  else
    s.wake.set();
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
      share_work(nullptr);
      if (options_.states) call_warm_one();
    });
  } catch (...) {
    io_.stop(); // no memory for that: all wake up, and restart the io_context
  }
}

/// Lets `w`, which sleeps there, look at what it is asked for. If another worker runs the function,
/// because it polls, it is posted again.
BULKHEAD_DECL void scheduler::interrupt_reactor(worker& w) noexcept {
  try {
    boost::asio::post(io_.get_executor(), [this, &w] {
      if (current() == &w) return;
      {
        std::lock_guard lock(parking_.mutex());
        if (reactor_ != &w || (w.listed && !w.watches && signals(w) == 0)) return;
      }
      interrupt_reactor(w);
    });
  } catch (...) {
    io_.stop();
  }
}

/// Under the parking's mutex: all that sleep look at signals_.
BULKHEAD_DECL void scheduler::wake_all() noexcept {
  for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire)) w->wake.set();
  resumed_.notify_all();
  io_.stop();
}

} // namespace bulkhead::detail

#endif
