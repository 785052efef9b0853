//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SCHEDULER_STATES_IPP
#define BULKHEAD_IMPL_SCHEDULER_STATES_IPP

// What the workers of a stateful_pool do besides.

#include <bulkhead/detail/run/scheduler.hpp>

#include <algorithm>
#include <utility>

namespace bulkhead::detail {

/// Under the parking's mutex.
BULKHEAD_DECL void scheduler::set_heat(worker& w, warmth heat) noexcept {
  cold_ -= w.heat == warmth::cold;
  attached_cold_ -= w.heat == warmth::cold && w.attached;
  w.heat = heat;
  cold_ += heat == warmth::cold;
  attached_cold_ += heat == warmth::cold && w.attached;
}

/// Under the parking's mutex, for a worker that begins.
BULKHEAD_DECL void scheduler::will_need_state(worker& w) noexcept {
  w.needs_state = w.state != nullptr;
  if (w.state) set_heat(w, warmth::cold);
}

/// Under the parking's mutex: a worker leaves that could have stayed.
BULKHEAD_DECL void scheduler::count_out(worker& w) noexcept {
  --live_;
  if (makes_way_ == &w) makes_way_ = nullptr;
  if (w.state) set_heat(w, warmth::none);
}

/// Whether what stands first in the claim of `v` is kept for it, which has no state and is about to
/// look at it, or makes its state for it. It is kept from others that have none; who has one takes it.
/// Nobody is called for it, but see call_warm_one().
BULKHEAD_DECL bool scheduler::is_kept(const worker& v, const worker* looker) noexcept {
  return v.keeps_first && !(looker && !looker->needs_state);
}

/// Whether `w`, which has no state, may take what stands first in its range: if that is a submission, it
/// has one then, or is the one that the submission fails for.
BULKHEAD_DECL bool scheduler::may_start(worker& w) noexcept {
  const cell_range r = w.range;
  const cell& c = r.where->cells[r.begin];
  if (c.load() != r.full || c.what() == work::continuation) return true;
  count_end(w);
  if (w.state->rest().count() > 0) {
    stand_back(w);
    return false;
  }
  w.keeps_first = true;
  call_warm_one();
  const bool made = make_state(w);
  // That took its time.
  const bool halted = (signals_.load(std::memory_order_relaxed) & (exit | paused)) != 0;
  if (made && !halted) w.claimed.set_begin({r.where, r.full, r.begin + 1, r.end});
  w.keeps_first = false; // not before, lest others make a state for the submission as well
  if (made) {
    w.needs_state = false;
    share_work(nullptr); // the second was taken for the first for a moment
    return !halted;
  }
  if (halted) return false;
  if (is_last_hope_gone()) return true;
  stand_back(w);
  return false;
}

/// Whether nobody has a state or is making one.
BULKHEAD_DECL bool scheduler::is_last_hope_gone() noexcept {
  std::lock_guard lock(parking_.mutex());
  return cold_ == live_;
}

/// Who sleeps and has a state is called for what is kept from the others, whoever searches.
BULKHEAD_DECL void scheduler::call_warm_one() noexcept {
  if (parking_.sleeping() == 0) return;
  std::unique_lock lock(parking_.mutex());
  if (sleeper* s = parking_.next(); s && s->heat == warmth::warm) call(*s, lock);
}

/// `w`, which has a state, may have been called for what is kept from the others, and has found
/// something else.
BULKHEAD_DECL void scheduler::share_kept(worker& w) noexcept {
  if (parking_.sleeping() == 0) return;
  const auto leaves = [](const worker&, const cell_range&) { return true; };
  if (any_work(&w, leaves, &w)) call_warm_one();
}

/// The caller lets it be known that there is one.
BULKHEAD_DECL bool scheduler::make_state(worker& w) noexcept {
  const auto set = [&](warmth heat) {
    std::lock_guard lock(parking_.mutex());
    set_heat(w, heat);
  };
  set(warmth::making);
  const std::exception_ptr failure = w.state->make();
  set(failure ? warmth::cold : warmth::warm);
  if (failure) report_exception(failure);
  has_tried(w, failure);
  complete_warm_ups_if_done();
  return !failure;
}

BULKHEAD_DECL void scheduler::state_is_gone() noexcept {
  worker& w = *current();
  w.needs_state = true;
  std::lock_guard lock(w.owner.parking_.mutex());
  w.owner.set_heat(w, warmth::cold);
  if (!w.attached) w.heeds.fetch_or(surplus, std::memory_order_relaxed); // for it is spared no more
}

/// The worker does nothing after this but to leave.
BULKHEAD_DECL void scheduler::end_state(worker& w) noexcept {
  if (!std::exchange(w.needs_state, true)) w.state->destroy();
  has_tried(w, nullptr);
  complete_warm_ups_if_done();
}

/// Leaves what it has come to, to others, until somebody has taken it, or it may try again to make its
/// state. If nobody sleeps, there may be nobody either for the rest of what pools do.
BULKHEAD_DECL void scheduler::stand_back(worker& w) noexcept {
  w.keeps_first = false;
  share_work(nullptr);
  const cell& c = w.range.where->cells[w.range.begin];
  std::unique_lock lock(parking_.mutex());
  if (stand_back_++ == 0) robbery_mask_.store(0, std::memory_order_relaxed);
  while (signals(w) == 0 && c.load() == w.range.full) {
    resumed_.wait_for(lock, longest_rest); // first, lest it try again and again without a back-off
    if (signals(w) != 0 || w.state->rest().count() <= 0) break;
    if (parking_.sleeping() != 0) continue;
    lock.unlock();
    tend(w);
    lock.lock();
  }
  if (--stand_back_ == 0)
    robbery_mask_.store(turns_between_robberies - 1, std::memory_order_relaxed);
}

/// Runs what needs no state: I/O, and all continuations that are queued by now.
BULKHEAD_DECL void scheduler::tend(worker& w) noexcept {
  poll();
  segments_.sweep([&](work what) { return what == work::continuation && signals(w) == 0; },
                  [this](cell& c) { run_function(c); });
}

/// Under the parking's mutex: whether there are more workers than should, but enough that are cold and
/// may leave, so that `w`, which is warm, stays.
BULKHEAD_DECL bool scheduler::spare(worker& w) noexcept {
  if (w.heat != warmth::warm || live_ <= threads()) return false;
  if (cold_ - attached_cold_ < live_ - threads()) return false;
  w.heeds.fetch_and(~surplus, std::memory_order_relaxed);
  return true;
}

/// Under the parking's mutex: whether `w`, which is to expire, stays because it is warm and others are
/// not. Those expire in their own time; but as nobody does who sleeps at the reactor, from there a cold
/// one is called, and expires when it has found nothing to do.
BULKHEAD_DECL bool scheduler::another_expires(worker& w) noexcept {
  if (w.heat != warmth::warm || cold_ == attached_cold_) return false;
  if (reactor_ && reactor_->listed && reactor_->heat == warmth::cold && !reactor_->attached) {
    makes_way_ = reactor_;
    parking_.call(*reactor_);
    call_at_reactor(*reactor_);
  }
  return true;
}

/// Under the parking's mutex, once. It may have become warm meanwhile.
BULKHEAD_DECL bool scheduler::makes_way(const worker& w) noexcept {
  if (makes_way_ != &w) return false;
  makes_way_ = nullptr;
  return w.heat == warmth::cold;
}

BULKHEAD_DECL void scheduler::begin_warm_up() noexcept {
  std::lock_guard lock(parking_.mutex());
  ++warming_;
}

/// Lets all workers make their states, also those that an elastic pool has not got yet.
BULKHEAD_DECL void scheduler::warm_up() noexcept {
  std::exception_ptr missing;
  {
    std::unique_lock thread_lock(thread_mutex_);
    try {
      create_workers(thread_lock, threads_);
      thread_lock.unlock();
    } catch (...) {
      thread_lock.unlock();
      missing = std::current_exception();
      report_missing_worker();
    }
  }
  bool ended;
  wait_set<std::exception_ptr>::list late;
  {
    std::lock_guard lock(parking_.mutex());
    if (!first_failure_) first_failure_ = missing;
    for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire)) {
      if (w->heat != warmth::cold && w->heat != warmth::making) continue;
      const unsigned before = w->heeds.fetch_or(warmth_wanted, std::memory_order_relaxed);
      warming_ += !(before & warmth_wanted);
    }
    --warming_;
    ended = (signals_.load(std::memory_order_relaxed) & exit) != 0;
    if (ended) late = warm_ups_->take_all(); // stop() has not seen
    if (warming_ != 0) {
      signals_.fetch_or(warmth_wanted);
      wake_all();
    }
  }
  if (ended) return warm_ups_->complete_elsewhere(std::move(late), io_, aborted());
  complete_warm_ups_if_done();
}

BULKHEAD_DECL void scheduler::heed_warm_up(worker& w) noexcept {
  if (!w.range.empty()) call_warm_one(); // for that is kept meanwhile
  if (!make_state(w)) return;
  w.needs_state = false;
  w.keeps_first = false; // that is what it runs next
}

/// Nobody waits any more for `w` to make its state.
BULKHEAD_DECL void scheduler::has_tried(worker& w, const std::exception_ptr& failure) noexcept {
  std::lock_guard lock(parking_.mutex());
  const unsigned before = w.heeds.fetch_and(~warmth_wanted, std::memory_order_relaxed);
  if (!(before & warmth_wanted)) return;
  if (!first_failure_) first_failure_ = failure;
  --warming_;
}

BULKHEAD_DECL void scheduler::complete_warm_ups_if_done() noexcept {
  wait_set<std::exception_ptr>::list done;
  std::exception_ptr failure;
  {
    std::lock_guard lock(parking_.mutex());
    if (warming_ != 0) return;
    done = warm_ups_->take_all();
    failure = std::exchange(first_failure_, nullptr);
  }
  warm_ups_->complete(std::move(done), failure);
}

} // namespace bulkhead::detail

#endif
