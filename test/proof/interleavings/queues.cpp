//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/detail/run/event.hpp>
#include <bulkhead/detail/run/fence.hpp>
#include <bulkhead/detail/run/parking.hpp>
#include <bulkhead/detail/run/run_queue.hpp>

#include <chrono>
#include <deque>
#include <mutex>
#include <stop_token>
#include <utility>

namespace {

using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

/// Functions in a queue, and how often each has run.
class job {
public:
  explicit job(run_queue& q) : queue_(q) {}

  void fill(cell& c) {
    text_.set(1);
    c.emplace<work::continuation, call>(call{this});
  }
  cell& push() {
    cell& c = queue_.reserve();
    fill(c);
    c.publish();
    return c;
  }
  void push_under(spin_lock& lock) {
    std::lock_guard l(lock);
    cell& c = queue_.reserve();
    fill(c);
    c.publish_under_lock();
  }

  int runs() const noexcept { return runs_.load(std::memory_order_relaxed); }

private:
  struct call {
    job* self;
    void operator()() const {
      check(self->text_.get() == 1, "what was built is seen");
      check(self->runs_.fetch_add(1, std::memory_order_relaxed) == 0, "each runs once");
    }
  };

  run_queue& queue_;
  shared<int> text_{0};
  sync::atomic<int> runs_{0};
};

const std::stop_source no_stop(std::nostopstate);

/// Takes what it can of a range. Says how many.
unsigned run_all(cell_range r) {
  unsigned n = 0;
  for (; !r.empty(); ++r.begin) {
    cell& c = r.where->cells[r.begin];
    if (!c.take(r.full)) continue;
    c.run(no_stop);
    run_queue::leave(*r.where, 1);
    ++n;
  }
  return n;
}

/// Fills the queue and empties it again, so that the next function comes into this cell.
void advance_to(run_queue& q, unsigned cell_number) {
  struct nothing {
    void operator()() const {}
  };
  for (unsigned i = 0; i != cell_number; ++i) {
    cell& c = q.reserve();
    c.emplace<work::continuation, nothing>(nothing());
    c.publish();
  }
  for (cell_range r; !(r = q.claim(segment::size, false)).empty();) run_all(r);
}

// --- the queue ---

/// A producer, and two that claim; it all takes place where one segment ends.
void produce_and_claim() {
  segment_store store;
  run_queue q(store);
  advance_to(q, segment::size - 2);
  job a(q);
  job b(q);
  job c(q);
  auto consume = [&] { run_all(q.claim(2, true)); };
  together(
      [&] {
        a.push();
        b.push();
        c.push();
      },
      consume, consume);
  check(q.has_work() == (a.runs() + b.runs() + c.runs() != 3), "it is known whether there is work");
  for (cell_range r; !(r = q.claim(4, false)).empty();) run_all(r);
  check(a.runs() == 1 && b.runs() == 1 && c.runs() == 1, "all have run");
}

const interleave::model claims("run_queue", "each function runs once, over the ends of segments",
                               &produce_and_claim);

/// Who has claimed is robbed of it, and a third looks at every cell.
void rob() {
  segment_store store;
  run_queue q(store);
  advance_to(q, segment::size - 2);
  job a(q);
  job b(q);
  a.push();
  b.push();
  const cell_range claimed = q.claim(4, false);
  together([&] { run_all(claimed); },
           [&] {
             run_all({claimed.where, claimed.full, claimed.begin + 1, claimed.end});
           },
           [&] { store.sweep([](work) { return true; }, [](cell& c) { c.run(no_stop); }); });
  check(a.runs() == 1 && b.runs() == 1, "both have run");
}

const interleave::model robs("rob", "what is claimed and robbed and swept away runs once", &rob);

/// Segments whose functions leave by the back door, while the head passes, and others use the segment
/// again.
void leave_in_any_order() {
  segment_store store;
  run_queue q(store);
  job a(q);
  job b(q);
  job c(q);
  advance_to(q, segment::size - 1);
  a.push(); // the last of its segment
  const cell_range first = q.claim(1, false);
  together([&] { run_all(first); },
           [&] {
             b.push();
             store.sweep([](work) { return true; }, [](cell& x) { x.run(no_stop); });
           },
           [&] {
             run_all(q.claim(1, false));
             c.push();
           });
  for (cell_range r; !(r = q.claim(4, false)).empty();) run_all(r);
  check(a.runs() == 1 && b.runs() == 1 && c.runs() == 1, "all have run");
  check(!q.has_work(), "nothing is left");
}

/// A segment that is done with in its queue serves another one, while somebody still looks at it.
void recycle() {
  segment_store store;
  run_queue q(store);
  run_queue other(store);
  advance_to(q, segment::size - 1);
  advance_to(other, segment::size - 1);
  job a(q);
  job b(q);
  job x(other);
  job y(other);
  a.push();
  b.push();
  together([&] { run_all(q.claim(1, false)); }, // and the head passes
           [&] {
             x.push(); // for which a segment is needed, perhaps that one
             y.push();
             run_all(other.claim(1, false));
           },
           [&] {
             const bool is_empty = !q.has_work();
             check(!is_empty || a.runs() + b.runs() == 2, "an empty queue is empty");
             run_all(q.claim(1, false));
           });
  for (run_queue* each : {&q, &other})
    for (cell_range r; !(r = each->claim(4, false)).empty();) run_all(r);
  check(a.runs() == 1 && b.runs() == 1 && x.runs() == 1 && y.runs() == 1, "all have run");
}

const interleave::model recycles("recycle", "a segment may change its queue under one that looks",
                                 &recycle);

/// A queue of three segments. Of the second, all functions have left but one, which leaves by the back
/// door, while the head comes.
class three_segments {
public:
  three_segments() {
    advance_to(q, segment::size - 1);
    first.push();
    middle_cell = &middle.push();
    for (unsigned i = 1; i != segment::size; ++i) {
      cell& c = q.reserve();
      c.give_up();
      run_queue::leave(segment::of(c), 1);
    }
    last.push();
  }

  void take_middle() {
    if (!middle_cell->take()) return;
    middle_cell->run(no_stop);
    run_queue::leave(segment::of(*middle_cell), 1);
  }

  void claim_all() {
    for (cell_range r; !(r = q.claim(4, false)).empty();) run_all(r);
  }

  void expect_all() {
    claim_all();
    check(first.runs() == 1 && middle.runs() == 1 && last.runs() == 1, "all have run");
    check(!q.has_work(), "nothing is left");
  }

  segment_store store;
  run_queue q{store};
  job first{q};
  job middle{q};
  job last{q};
  cell* middle_cell;
};

void back_door() {
  three_segments s;
  const auto look = [&] { check(s.q.has_work(), "there is the last one"); };
  together([&] { s.take_middle(); },
           [&] {
             run_all(s.q.claim(1, false));
             look();
           },
           look);
  s.expect_all();
}

const interleave::model
    passes_or_leaves("take_out", "a segment leaves its queue once, by either door", &back_door);

/// Meanwhile another queue uses the segment, from its beginning to its end.
void another_life() {
  three_segments s;
  run_queue other(s.store);
  advance_to(other, segment::size - 1);
  together([&] { s.take_middle(); }, [&] { s.claim_all(); },
           [&] {
             for (unsigned i = 0; i != segment::size + 1; ++i) {
               cell& c = other.reserve();
               c.give_up();
               run_queue::leave(segment::of(c), 1);
             }
           });
  s.expect_all();
  job x(other);
  job y(s.q);
  x.push();
  y.push();
  run_all(other.claim(4, false));
  s.claim_all();
  check(x.runs() == 1 && y.runs() == 1, "both queues go on");
  check(s.store.size() <= 7, "no segment is lost");
}

const interleave::model
    lives_again("another_life", "a segment that serves another queue is left alone", &another_life);

// --- the queue and the parking: nobody sleeps while there is work ---

/// The part of the scheduler that lets workers sleep, by the parking's rules.
class workers {
public:
  explicit workers(run_queue& q) : queue_(q) {}

  void announce() {
    if (!parking_.wants_call()) return;
    std::unique_lock lock(parking_.mutex());
    if (!parking_.wants_call()) return;
    sleeper* const s = parking_.next();
    if (!s) return;
    parking_.call(*s);
    lock.unlock();
    s->wake.set();
  }

  /// Works until `n` functions have run, by whomever.
  void work(sleeper& me, int n) {
    bool searching = false;
    for (;;) {
      if (done_.load() >= n) break;
      if (!searching) searching = parking_.begin_search();
      const cell_range r = queue_.claim(1, false);
      if (!r.empty()) {
        if (std::exchange(searching, false)) {
          parking_.end_search();
          if (parking_.wants_call() && queue_.has_work()) announce();
        }
        if (done_.fetch_add(static_cast<int>(run_all(r))) + 1 == n) wake_all();
        continue;
      }
      {
        std::lock_guard lock(parking_.mutex());
        parking_.lie_down(me, std::exchange(searching, false));
      }
      before_look();
      if (!queue_.has_work() && done_.load() < n) me.wake.wait_for(std::chrono::nanoseconds::max());
      std::lock_guard lock(parking_.mutex());
      parking_.get_up(me);
      if (std::exchange(me.called, false)) searching = true;
    }
    if (searching) parking_.end_search();
  }

  spin_lock producers;
  sleeper first;
  sleeper second;

private:
  void wake_all() {
    first.wake.set();
    second.wake.set();
  }
  void before_look() { producers.synchronize(); }

  run_queue& queue_;
  parking parking_;
  sync::atomic<int> done_{0};
};

template <bool UnderLock>
void sleep_and_call() {
  segment_store store;
  run_queue q(store);
  workers w(q);
  job a(q);
  job b(q);
  const auto push = [&](job& j) {
    if (UnderLock)
      j.push_under(w.producers);
    else
      j.push();
    w.announce();
  };
  together(
      [&] {
        push(a);
        push(b);
      },
      [&] { w.work(w.first, 2); });
  check(a.runs() == 1 && b.runs() == 1, "both have run");
}

const interleave::model parks("parking", "nobody sleeps while there is work",
                              &sleep_and_call<false>);
const interleave::model parks_by_lock("parking_by_lock",
                                      "nor if it is published by the lock's leave",
                                      &sleep_and_call<true>);

void two_sleep() {
  segment_store store;
  run_queue q(store);
  workers w(q);
  job a(q);
  job b(q);
  together(
      [&] {
        a.push();
        w.announce();
        b.push();
        w.announce();
      },
      [&] { w.work(w.first, 2); }, [&] { w.work(w.second, 2); });
  check(a.runs() == 1 && b.runs() == 1, "both have run");
}

const interleave::model two_park("parking_of_two", "one that searches finds what is left to it",
                                 &two_sleep);

// --- asymmetric_fence ---

/// Submissions end all the time, the pool is closed once: one of the two sees to it that a drain ends.
void end_and_close() {
  asymmetric_fence::prepare();
  sync::atomic<int> running{1};
  sync::atomic<bool> is_closed{false};
  sync::atomic<int> drained{0};
  together(
      [&] {
        asymmetric_fence::store(running, 0);
        if (is_closed.load(std::memory_order_seq_cst)) drained.fetch_add(1);
      },
      [&] {
        is_closed.store(true, std::memory_order_seq_cst);
        asymmetric_fence::wait_for_all();
        if (running.load(std::memory_order_seq_cst) == 0) drained.fetch_add(1);
      });
  check(drained.load() != 0, "somebody has seen that all is over");
}

const interleave::model fences("fence", "the end of a submission and close() see each other",
                               &end_and_close);

const interleave::model leaves("leave", "a segment goes back once, whoever leaves it last",
                               &leave_in_any_order);

} // namespace
