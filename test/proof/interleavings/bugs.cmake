# Mistakes that are made in the library on purpose, one at a time, and the model that must find each.
#
#   bug(NAME in SOURCE MODEL HEADER [[what stands there]] [[what is to stand there]])

# --- locks and events ---

bug(unlock_relaxed primitives spin_lock detail/wait/spin_lock.hpp
  [[taken_.store(false, std::memory_order_release)]]
  [[taken_.store(false, std::memory_order_relaxed)]])
bug(lock_in_two_steps primitives spin_lock detail/wait/spin_lock.hpp
  [[if (taken_.exchange(true, std::memory_order_seq_cst)) lock_taken();]]
  [[if (taken_.load(std::memory_order_seq_cst)) lock_taken();
    taken_.store(true, std::memory_order_seq_cst);]])
bug(holder_not_waited_for primitives synchronize detail/wait/spin_lock.hpp
  [[    if (!taken_.load(std::memory_order_seq_cst)) return;
    lock();
    unlock();]]
  [[    static_cast<void>(taken_.load(std::memory_order_seq_cst));]])
bug(sleeper_not_woken primitives event detail/run/event.hpp
  [[== awaited) sync::futex_wake]]
  [[== is_set) sync::futex_wake]])
bug(wait_not_acquired primitives event detail/run/event.hpp
  [[state_.exchange(idle, std::memory_order_acquire)]]
  [[state_.exchange(idle, std::memory_order_relaxed)]])
bug(event_overwritten primitives event detail/run/event.hpp
  [[if (state_.compare_exchange_strong(seen, awaited, std::memory_order_relaxed)) {]]
  [[if (seen = state_.load(std::memory_order_relaxed); seen == idle) {
      state_.store(awaited, std::memory_order_relaxed);]])
bug(notify_after_unlock primitives completion_latch detail/wait/completion_latch.hpp
  [[    std::lock_guard lock(mutex_);
    done_ = true;
    changed_]]
  [[    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_]])
bug(departure_not_announced primitives departures detail/wait/departures.hpp
  [[none_.notify_all();]]
  [[]])
bug(departure_not_released primitives light_departures detail/wait/departures.hpp
  [[count_.fetch_sub(n, std::memory_order_release)]]
  [[count_.fetch_sub(n, std::memory_order_relaxed)]])
bug(departure_not_waited_for primitives light_departures detail/wait/departures.hpp
  [[while (count_.load(std::memory_order_acquire) > others) sync]]
  [[if (count_.load(std::memory_order_acquire) > others) sync]])

# --- queues ---

bug(publish_without_fence queues parking detail/run/cell.hpp
  [[+ 1, std::memory_order_seq_cst);]]
  [[+ 1, std::memory_order_release);]])
bug(take_in_two_steps queues rob detail/run/cell.hpp
  [[return state_.compare_exchange_strong(s, s + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed);]]
  [[if (state_.load(std::memory_order_acquire) != s) return false;
    state_.store(s + 1, std::memory_order_release);
    return true;]])
bug(publish_not_released queues parking_by_lock detail/run/cell.hpp
  [[+ 1, std::memory_order_release);]]
  [[+ 1, std::memory_order_relaxed);]])
bug(index_of_another_segment queues recycle impl/run_queue.ipp
  [[  next_.store(segment::size, std::memory_order_relaxed);
  head_]]
  [[  head_]])
bug(segment_taken_out_twice queues another_life impl/run_queue.ipp
  [[  if (s.done.load(std::memory_order_acquire) != segment::size ||
      s.empty.load(std::memory_order_relaxed) != life)
    return;]]
  [[  static_cast<void>(life);]])
bug(head_not_looked_at_again queues recycle detail/run/run_queue.hpp
  [[ &&
        first == head_.load(std::memory_order_relaxed))]]
  [[)]])
bug(search_never_ends queues parking detail/run/parking.hpp
  [[state_.fetch_add(searching ? std::uint64_t(1) - one_search : 1);]]
  [[state_.fetch_add(searching ? std::uint64_t(1) : 1);]])
bug(no_fence_for_all queues fence detail/run/fence.hpp
  [[sync::barrier_for_all();]]
  [[]])

# --- memory ---

bug(block_not_released memory node_cache detail/run/node_cache.hpp
  [[compare_exchange_weak(b->next, b, std::memory_order_release,]]
  [[compare_exchange_weak(b->next, b, std::memory_order_relaxed,]])
bug(blocks_lost memory node_cache detail/run/node_cache.hpp
  [[if (!c.mine) c.mine = c.returned.exchange(nullptr, std::memory_order_acquire);]]
  [[if (!c.mine) {
      c.mine = c.returned.load(std::memory_order_acquire);
      c.returned.store(nullptr, std::memory_order_relaxed);
    }]])
bug(blocks_popped_one_by_one memory node_cache detail/run/node_cache.hpp
  [[while (!c->returned.compare_exchange_weak(b->next, b, std::memory_order_release,
                                              std::memory_order_relaxed)) {
    }]]
  [[c->returned.store(b, std::memory_order_release);]])

# --- waiting ---

bug(cancel_wakes_nobody semaphore semaphore_head impl/semaphore_core.ipp
  [[  granted = wake();
  return op;]]
  [[  static_cast<void>(granted);
  return op;]])
bug(key_outlives_wait semaphore semaphore_cancel impl/semaphore_core.ipp
  [[    leave_queue(op);
    in_use_ += op.weight;]]
  [[    waiters_.erase(op);
    in_use_ += op.weight;]])
bug(grant_does_not_depart semaphore semaphore_end impl/semaphore_core.ipp
  [[  if (!granted.empty()) users_.depart();
  return granted;]]
  [[  return granted;]])
bug(unit_not_released semaphore semaphore_try detail/wait/semaphore_core.hpp
  [[word_.compare_exchange_weak(w, n, std::memory_order_acq_rel, std::memory_order_relaxed)]]
  [[word_.compare_exchange_weak(w, n, std::memory_order_acquire, std::memory_order_relaxed)]])
bug(open_while_somebody_waits semaphore semaphore impl/semaphore_core.ipp
  [[if (nobody_waits && !settings_]]
  [[if (!settings_]])
bug(no_look_before_waiting semaphore semaphore impl/semaphore_core.ipp
  [[bool decided = decide(op.weight, op.who, ec, p);]]
  [[static_cast<void>(p);
  bool decided = false;]])
bug(give_back_wakes_nobody semaphore semaphore impl/semaphore_core.ipp
  [[    granted = wake();
    was_last = end_permit();]]
  [[    was_last = end_permit();]])
bug(resize_wakes_nobody semaphore semaphore_grow impl/semaphore_core.ipp
  [[    granted = wake();
  }
  complete(std::move(refused), errc::exceeds_limit, std::move(granted));]]
  [[  }
  complete(std::move(refused), errc::exceeds_limit, std::move(granted));]])
bug(arrivals_not_waited_for semaphore semaphore_home impl/semaphore_core.ipp
  [[  users_.wait_for_arrivals(errand::departures(*this));]]
  [[]])
bug(set_not_waited_for wait_set wait_set_home detail/wait/wait_set.hpp
  [[    departing_.wait();]]
  [[]])
bug(registry_not_waited_for wait_set wait_set detail/wait/shutdown.hpp
  [[    end_waits();
    departing_.wait(arrival::count(*this));]]
  [[    end_waits();]])
bug(arrives_before_it_is_posted wait_set wait_set detail/wait/operation.hpp
  [[    const shutdown_registry::arrival foreign(foreign_.depart());
    vtable_.complete(]]
  [[    { const shutdown_registry::arrival foreign(foreign_.depart()); }
    vtable_.complete(]])

# --- what is made of all that ---

bug(delivers_before_it_stores gate two_stage_cancellation detail/wait/two_stage_cancellation.hpp
  [[    self->stage_.store(stage::second, std::memory_order_seq_cst);
    deliver(std::move(self));]]
  [[    deliver(self);
    self->stage_.store(stage::second, std::memory_order_seq_cst);]])
bug(line_not_cut gate deadline detail/wait/deadline.hpp
  [[    if (line_) line_->cut();]]
  [[]])

# --- groups ---

bug(ready_asked_for_twice group group_refused impl/group_core.ipp
  [[    if (others) {]]
  [[    if (has_ready()) {]])
bug(others_not_asked_for group group_refused impl/group_core.ipp
  [[  return {is_ready, starter_is_posted_};]]
  [[  return {is_ready, false};]])
bug(join_looks_once group group_join impl/group_core.ipp
  [[      if (joins) joined = joins->take_all();]]
  [[      if (joins && !ended) joined = joins->take_all();]])

# --- pools ---

bug(no_look_before_sleeping pool pool impl/scheduler_workers.ipp
  [[if (signals(w) != 0 || any_work(nullptr, leaves, &w)) return false;]]
  [[static_cast<void>(leaves);
  if (signals(w) != 0) return false;]])
bug(no_look_after_search pool pool_busy impl/scheduler_workers.ipp
  [[  parking_.end_search();
  share_work(&w);]]
  [[  parking_.end_search();]])
bug(left_alone_for_ever pool pool_rob impl/scheduler_workers.ipp
  [[    naps_.fetch_add(woken ? 1 : static_cast<std::uint64_t>(duration / watch_period::shortest),
                    std::memory_order_relaxed);]]
  [[]])
bug(end_tells_no_drain pool pool_drain impl/scheduler_workers.ipp
  [[  w.submissions.end();
  if (closed_.load(std::memory_order_seq_cst)) complete_drains_if_done();]]
  [[  w.submissions.end();]])
bug(closes_without_fence pool pool_drain_last impl/scheduler.ipp
  [[    asymmetric_fence::wait_for_all(); // for the ends of submissions
    call_in_credits();
    end_line(refused);
  }]]
  [[    call_in_credits();
    end_line(refused);
  }]])
bug(last_work_tells_no_join pool pool_join impl/scheduler_workers.ipp
  [[  if (joining_.load(std::memory_order_seq_cst)) let_go_if_finished();
  const awakening]]
  [[  const awakening]])
bug(line_does_not_look pool pool_full impl/scheduler_admission.ipp
  [[    asymmetric_fence::wait_for_all(); // for the starts of submissions
  }
  return admit_from_line();]]
  [[    asymmetric_fence::wait_for_all(); // for the starts of submissions
  }
  return false;]])
bug(admitted_and_not_called pool pool_full impl/scheduler_admission.ipp
  [[    } else if (asleep) {
      call(*b);
    }]]
  [[    }]])
bug(grows_no_more pool pool_elastic impl/scheduler_workers.ipp
  [[  can_grow_.store(true); // first: who finds nobody to call any more is to see this
  parking_.get_up(w);]]
  [[  parking_.get_up(w);]])
bug(retires_before_it_locks pool pool_resize_down impl/scheduler_workers.ipp
  [[  count_left(w);
  {
    std::lock_guard lock(parking_.mutex());
    if (spare(w)) return false;
    const bool leaves = live_ > threads();]]
  [[  count_left(w);
  const bool leaves = live_ > threads();
  {
    std::lock_guard lock(parking_.mutex());
    if (spare(w)) return false;]])
bug(resumes_before_it_locks pool pool_pause impl/scheduler.ipp
  [[    std::lock_guard lock(parking_.mutex());
    signals_.fetch_and(~paused);
    resumed_.notify_all();]]
  [[    signals_.fetch_and(~paused);
    resumed_.notify_all();]])
bug(resumes_and_does_not_look pool pool_pause_elastic impl/scheduler.ipp
  [[    resumed_.notify_all();
  }
  share_work(nullptr);]]
  [[    resumed_.notify_all();
  }]])
bug(stands_back_silently stateful_pool states_stand_back impl/scheduler_states.ipp
  [[  w.keeps_first = false;
  share_work(nullptr);
  const cell& c]]
  [[  w.keeps_first = false;
  const cell& c]])
bug(kept_too_briefly stateful_pool states_one impl/scheduler_states.ipp
  [[  const bool made = make_state(w);]]
  [[  w.keeps_first = false;
  const bool made = make_state(w);]])
bug(warm_but_for_who_is_at_it stateful_pool states_warm_up impl/scheduler_states.ipp
  [[if (w->heat != warmth::cold && w->heat != warmth::making) continue;]]
  [[if (w->heat != warmth::cold) continue;]])
bug(warm_but_for_who_watches_io stateful_pool states_warm_up_io impl/scheduler_states.ipp
  [[      signals_.fetch_or(warmth_wanted);
      wake_all();]]
  [[      signals_.fetch_or(warmth_wanted);
      for (worker* w = first_worker_; w; w = w->next.load(std::memory_order_acquire)) w->wake.set();]])
bug(keeps_what_it_leaves stateful_pool states_join impl/scheduler_workers.ipp
  [[      w.keeps_first = false; // first: who looks whether all has ended is to see that
      count_out(w);]]
  [[      count_out(w);]])
bug(nobody_makes_way stateful_pool states_elastic impl/scheduler_states.ipp
  [[    makes_way_ = reactor_;
    parking_.call(*reactor_);
    call_at_reactor(*reactor_);]]
  [[]])

# --- lanes ---

bug(runner_leaves_in_two_steps lanes lanes impl/lanes_core.ipp
  [[      if (!task && !goes_on)
        keeps_much]]
  [[    }
    if (!task && !goes_on) {
      std::lock_guard lock(mutex_);
      keeps_much]])
bug(drain_forgets_who_is_coming lanes lanes_drain impl/lanes_core.ipp
  [[queued_ == 0 && reserved_ == 0 && running_submissions_ == 0]]
  [[queued_ == 0 && running_submissions_ == 0]])
bug(runner_tells_no_drain lanes lanes_drain impl/lanes_core.ipp
  [[      ended->complete_drains_if_done();
      ended.reset();]]
  [[      ended.reset();]])
