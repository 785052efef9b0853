//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//
// The parts of the pool's engine that can be looked at alone.

#include "support/global_new.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/detail/run/event.hpp>
#include <bulkhead/detail/run/fence.hpp>
#include <bulkhead/detail/run/node_cache.hpp>
#include <bulkhead/detail/run/parking.hpp>
#include <bulkhead/detail/run/run_queue.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

using bulkhead::detail::asymmetric_fence;
using bulkhead::detail::cell;
using bulkhead::detail::cell_range;
using bulkhead::detail::event;
using bulkhead::detail::node_cache;
using bulkhead::detail::parking;
using bulkhead::detail::run_queue;
using bulkhead::detail::segment;
using bulkhead::detail::segment_store;
using bulkhead::detail::sleeper;
using bulkhead::detail::spin_lock;
using bulkhead::detail::work;

static_assert(sizeof(cell) == 64);
static_assert(alignof(cell) == 64);

namespace {

const std::stop_source no_stop(std::nostopstate);

struct append {
  std::vector<int>* to;
  int value;
  void operator()() const { to->push_back(value); }
};

// One queue, and what has come out of it.
struct fixture {
  segment_store store;
  run_queue queue{store};
  std::vector<int> ran;

  std::pair<cell*, cell::state> push(int value) {
    cell& c = queue.reserve();
    const cell::state full = c.load() + 1;
    c.emplace<work::continuation, append>(append{&ran, value});
    c.publish();
    return {&c, full};
  }

  static bool leave(cell& c, cell::state full) {
    if (!c.take(full)) return false;
    c.run(no_stop);
    run_queue::leave(segment::of(c), 1);
    return true;
  }

  // Claims once, and runs what it can take. Says how much that was.
  unsigned consume(unsigned most = 16, bool share = false) {
    const cell_range r = queue.claim(most, share);
    unsigned n = 0;
    for (unsigned i = r.begin; i != r.end; ++i) n += leave(r.where->cells[i], r.full);
    return n;
  }

  void consume_all() {
    while (consume() != 0) {
    }
  }
};

std::vector<int> numbers(int from, int to) {
  std::vector<int> v;
  for (int i = from; i != to; ++i) v.push_back(i);
  return v;
}

} // namespace

BOOST_AUTO_TEST_CASE(functions_leave_a_queue_in_the_order_of_their_arrival) {
  fixture f;
  for (int i = 0; i != 1000; ++i) f.push(i);
  f.consume_all();
  BOOST_TEST((f.ran == numbers(0, 1000)));
  BOOST_TEST(!f.queue.has_work());
}

BOOST_AUTO_TEST_CASE(a_claim_is_as_large_as_asked_for_or_leaves_half_to_others) {
  fixture f;
  for (int i = 0; i != 20; ++i) f.push(i);
  BOOST_TEST(f.consume(16, true) == 16u);
  BOOST_TEST(f.consume(16, true) == 2u);
  BOOST_TEST(f.consume(16, true) == 1u);
  BOOST_TEST(f.consume(16, true) == 1u);
  BOOST_TEST(f.consume(16, true) == 0u);
}

BOOST_AUTO_TEST_CASE(a_claim_can_be_robbed_and_each_function_still_runs_once) {
  fixture f;
  for (int i = 0; i != 10; ++i) f.push(i);
  const cell_range mine = f.queue.claim(16, false);
  BOOST_REQUIRE(mine.end - mine.begin == 10u);
  for (unsigned i = mine.end; i != mine.begin + 4;)
    BOOST_TEST(f.leave(mine.where->cells[--i], mine.full)); // somebody else
  unsigned left = 0;
  for (unsigned i = mine.begin; i != mine.end; ++i)
    left += f.leave(mine.where->cells[i], mine.full);
  BOOST_TEST(left == 4u);
  BOOST_TEST(f.ran.size() == 10u);
}

BOOST_AUTO_TEST_CASE(the_head_waits_for_a_cell_that_is_reserved_and_not_published) {
  fixture f;
  cell& slow = f.queue.reserve();
  f.push(1);
  BOOST_TEST(f.consume() == 0u);
  BOOST_TEST(!f.queue.has_work());
  slow.emplace<work::continuation, append>(append{&f.ran, 0});
  slow.publish();
  BOOST_TEST(f.queue.has_work());
  f.consume_all();
  BOOST_TEST((f.ran == numbers(0, 2)));
}

BOOST_AUTO_TEST_CASE(a_cell_that_was_given_up_is_passed_over) {
  fixture f;
  for (int i = 0; i != 200; ++i) {
    cell& c = f.queue.reserve();
    c.give_up();
    run_queue::leave(segment::of(c), 1);
    f.push(i);
  }
  f.consume_all();
  BOOST_TEST((f.ran == numbers(0, 200)));
}

BOOST_AUTO_TEST_CASE(segments_are_used_again) {
  fixture f;
  for (int round = 0; round != 1000; ++round) {
    for (int i = 0; i != 100; ++i) f.push(i);
    f.consume_all();
  }
  BOOST_TEST(f.store.size() <= 4u);
}

BOOST_AUTO_TEST_CASE(functions_that_leave_before_the_head_comes_take_their_segments_with_them) {
  fixture f;
  f.push(-1); // stays at the head
  for (int i = 0; i != 100'000; ++i) {
    const auto [c, full] = f.push(i);
    BOOST_TEST_REQUIRE(f.leave(*c, full));
  }
  BOOST_TEST(f.store.size() <= 4u);
  f.ran.clear();
  f.push(1);
  f.consume_all();
  BOOST_TEST((f.ran == std::vector<int>{-1, 1}));
}

BOOST_AUTO_TEST_CASE(functions_may_leave_in_any_order) {
  std::mt19937 random(7);
  fixture f;
  std::deque<std::pair<cell*, cell::state>> inside;
  std::size_t pushed = 0;
  for (int step = 0; step != test::scaled(200'000); ++step) {
    switch (random() % 4) {
    case 0:
    case 1:
      inside.push_back(f.push(0));
      ++pushed;
      break;
    case 2:
      if (!inside.empty()) {
        auto& any = inside[random() % inside.size()];
        f.leave(*any.first, any.second);
        any = inside.back();
        inside.pop_back();
      }
      break;
    default:
      f.consume(random() % 20 + 1, random() % 2);
    }
  }
  f.consume_all();
  BOOST_TEST(f.ran.size() == pushed);
}

BOOST_AUTO_TEST_CASE(who_looks_sees_a_function_though_the_segment_before_it_is_just_taken_out) {
  fixture f;
  std::vector<std::pair<cell*, cell::state>> before;
  std::atomic<int> published{0}, left{0}, seen{0};
  const int rounds = test::scaled(20'000);
  std::atomic<long> overlooked{0};
  std::thread looks([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (published != round) std::this_thread::yield();
      do overlooked += !f.queue.has_work();
      while (left != round);
      seen = round;
    }
  });
  for (int round = 1; round <= rounds; ++round) {
    before.clear();
    for (unsigned i = 0; i != segment::size; ++i) before.push_back(f.push(0));
    f.consume(5);
    f.push(1); // the first of the next segment
    published = round;
    for (auto& [c, full] : before) f.leave(*c, full);
    left = round;
    while (seen != round) std::this_thread::yield();
    for (unsigned i = 1; i != segment::size; ++i) f.push(0);
    f.consume_all();
  }
  looks.join();
  BOOST_TEST(overlooked == 0);
  BOOST_TEST(f.ran.size() == 2u * segment::size * static_cast<unsigned>(rounds));
}

BOOST_AUTO_TEST_CASE(a_sweep_finds_what_is_wanted_wherever_it_stands) {
  fixture f;
  std::vector<int> other;
  for (int i = 0; i != 300; ++i) {
    f.push(i);
    cell& c = f.queue.reserve();
    c.emplace<work::submission, append>(append{&other, i});
    c.publish();
  }
  const cell_range claimed = f.queue.claim(16, false);
  int n = 0;
  f.store.sweep([](work w) { return w == work::submission; },
                [&](cell& c) {
                  ++n;
                  c.destroy();
                });
  BOOST_TEST(n == 300);
  for (unsigned i = claimed.begin; i != claimed.end; ++i)
    f.leave(claimed.where->cells[i], claimed.full);
  f.consume_all();
  BOOST_TEST((f.ran == numbers(0, 300)));
  BOOST_TEST(other.empty());
}

BOOST_AUTO_TEST_CASE(without_memory_for_a_segment_nothing_is_changed) {
  fixture f;
  constexpr int last = static_cast<int>(segment::size) - 1;
  int n = 0;
  for (; f.store.size() < 9; ++n) { // the first chunk has eight
    if (n % (last + 1) == last && f.store.size() == 8) {
      test::global_fuse_scope none(0);
      BOOST_CHECK_THROW(f.queue.reserve(), std::bad_alloc);
    }
    f.push(n);
  }
  f.consume_all();
  BOOST_TEST((f.ran == numbers(0, n)));
}

BOOST_AUTO_TEST_CASE(
    each_function_runs_once_with_many_producers_consumers_thieves_and_cancellations) {
  segment_store store;
  run_queue queues[2]{run_queue(store), run_queue(store)}; // segments move between them
  spin_lock producers[2];
  constexpr int threads = 2;
  const int n = test::scaled(200'000);
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(threads * n));
  std::atomic<int> left{0};
  struct run_once {
    std::atomic<int>* count;
    void operator()() const { ++*count; }
  };
  const auto leave = [&](cell& c, cell::state full) {
    if (!c.take(full)) return;
    c.run(no_stop);
    run_queue::leave(segment::of(c), 1);
    ++left;
  };
  // Of the last claim, for thieves.
  std::mutex last_mutex;
  cell_range last;

  std::vector<std::thread> all;
  for (int t = 0; t != threads; ++t) {
    all.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i != n; ++i) {
        const unsigned q = random() % 2;
        cell* c;
        cell::state full;
        {
          std::lock_guard lock(producers[q]);
          c = &queues[q].reserve();
          full = c->load() + 1;
        }
        c->emplace<work::continuation, run_once>(
            run_once{&runs[static_cast<std::size_t>(t * n + i)]});
        c->publish();
        if (random() % 4 == 0) leave(*c, full); // a cancellation
      }
    });
    all.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(100 + t));
      while (left != threads * n) {
        cell_range r = queues[random() % 2].claim(random() % 16 + 1, random() % 2);
        {
          std::lock_guard lock(last_mutex);
          std::swap(r, last);
        }
        if (r.empty()) std::this_thread::yield();
        for (unsigned i = r.begin; i != r.end; ++i) leave(r.where->cells[i], r.full);
      }
    });
  }
  for (auto& t : all) t.join();
  for (auto& r : runs) BOOST_TEST_REQUIRE(r == 1);
}

// --- node_cache ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_node_cache_allocates_nothing_in_steady_state) {
  node_cache cache;
  for (std::size_t size : {1u, 112u, 113u, 500u, 896u}) {
    node_cache::deallocate(cache.allocate(size));
    const long before = test::global_memory.allocations;
    for (int i = 0; i != 100; ++i) node_cache::deallocate(cache.allocate(size));
    BOOST_TEST(test::global_memory.allocations == before);
  }
  node_cache::deallocate(cache.allocate(100'000));
}

BOOST_AUTO_TEST_CASE(a_node_cache_gives_up_what_is_not_in_use) {
  const long before = test::global_memory.blocks;
  {
    node_cache cache;
    void* const in_use = cache.allocate(10);
    for (std::size_t size : {10u, 300u}) {
      void* const mine = cache.allocate(size);
      void* const returned = cache.allocate(size);
      node_cache::deallocate(mine);
      node_cache::deallocate(cache.allocate(size)); // now it has taken what came back
      node_cache::deallocate(returned);
    }
    BOOST_TEST(cache.asked_for() > 620u);
    BOOST_TEST(test::global_memory.blocks == before + 5);
    {
      node_cache::surplus spare;
      cache.give_up(spare);
      BOOST_TEST(test::global_memory.blocks == before + 5);
    }
    BOOST_TEST(test::global_memory.blocks == before + 1);
    BOOST_TEST(cache.asked_for() == 0u);
    node_cache::deallocate(in_use);
    node_cache::deallocate(cache.allocate(10)); // the same
    BOOST_TEST(test::global_memory.blocks == before + 1);
  }
  BOOST_TEST(test::global_memory.blocks == before);
}

BOOST_AUTO_TEST_CASE(nodes_come_back_from_other_threads) {
  node_cache cache;
  std::mutex mutex;
  std::vector<void*> passed;
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  for (int t = 0; t != 2; ++t)
    others.emplace_back([&] {
      for (;;) {
        const bool last = done;
        std::vector<void*> mine;
        {
          std::lock_guard lock(mutex);
          mine.swap(passed);
        }
        for (void* p : mine) node_cache::deallocate(p);
        if (last && mine.empty()) return;
      }
    });
  for (int i = 0; i != test::scaled(100'000); ++i) {
    void* p = cache.allocate(200);
    *static_cast<int*>(p) = i;
    std::lock_guard lock(mutex);
    passed.push_back(p);
  }
  done = true;
  for (auto& t : others) t.join();
  for (void* p : passed) node_cache::deallocate(p);
}

// --- parking ------------------------------------------------------------------------------------

namespace {

sleeper* call_next(parking& p) {
  sleeper* const s = p.next();
  if (s) p.call(*s);
  return s;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_call_is_wanted_when_somebody_sleeps_and_nobody_searches) {
  parking p;
  sleeper a, b;
  BOOST_TEST(p.all_busy());
  BOOST_TEST(!p.wants_call());
  BOOST_TEST(p.begin_search());
  BOOST_TEST(!p.begin_search());
  std::lock_guard lock(p.mutex());
  p.lie_down(a, true);
  BOOST_TEST(p.wants_call());
  BOOST_TEST(p.begin_search());
  BOOST_TEST(!p.wants_call());
  p.lie_down(b, true);
  BOOST_TEST(p.sleeping() == 2u);
  BOOST_TEST(call_next(p) == &b); // the last is the warmest
  BOOST_TEST(b.called);
  BOOST_TEST(!p.wants_call()); // b searches
  BOOST_TEST(!p.get_up(b));
  p.end_search();
  BOOST_TEST(p.wants_call());
  BOOST_TEST(p.get_up(a));
  BOOST_TEST(p.all_busy());
  BOOST_TEST(call_next(p) == nullptr);
}

BOOST_AUTO_TEST_CASE(a_sleeper_that_is_cold_is_called_after_all_that_are_not) {
  parking p;
  sleeper warm, cold, at_reactor;
  warm.heat = at_reactor.heat = bulkhead::detail::warmth::warm;
  cold.heat = bulkhead::detail::warmth::cold;
  at_reactor.at_reactor = true;
  std::lock_guard lock(p.mutex());
  p.lie_down(at_reactor, false);
  p.lie_down(warm, false);
  p.lie_down(cold, false);
  BOOST_TEST(call_next(p) == &warm);
  p.end_search();
  BOOST_TEST(call_next(p) == &at_reactor);
  BOOST_TEST(call_next(p) == &cold);
  BOOST_TEST(call_next(p) == nullptr);
}

BOOST_AUTO_TEST_CASE(the_sleeper_at_the_reactor_is_called_last_and_does_not_search_yet) {
  parking p;
  sleeper a, b;
  std::lock_guard lock(p.mutex());
  p.lie_down(a, false);
  b.at_reactor = true;
  p.lie_down(b, false);
  BOOST_TEST(call_next(p) == &a);
  p.end_search();
  BOOST_TEST(call_next(p) == &b);
  BOOST_TEST(p.all_busy());
  p.recall(b);
  BOOST_TEST(!b.called);
  BOOST_TEST(p.wants_call());
  BOOST_TEST(p.get_up(b));
}

BOOST_AUTO_TEST_CASE(of_two_threads_that_store_and_then_read_one_sees_the_other) {
  asymmetric_fence::prepare();
  std::atomic<int> x{0}, y{0}, turn{0};
  int seen_y = 0;
  const int rounds = test::scaled(50'000);
  std::thread often([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (turn != 2 * round - 1) std::this_thread::yield();
      asymmetric_fence::store(x, round);
      seen_y = y.load();
      ++turn;
    }
  });
  long blind = 0;
  for (int round = 1; round <= rounds; ++round) {
    ++turn;
    y = round;
    asymmetric_fence::wait_for_all();
    const int seen_x = x.load();
    while (turn != 2 * round) std::this_thread::yield();
    blind += seen_x != round && seen_y != round;
  }
  often.join();
  BOOST_TEST(blind == 0);
}

BOOST_AUTO_TEST_CASE(an_event_set_before_the_wait_ends_one_wait_at_once_however_often_it_was_set) {
  event e;
  e.set();
  e.set();
  BOOST_TEST(e.wait_for(std::chrono::nanoseconds::max()));
  BOOST_TEST(!e.wait_for(std::chrono::nanoseconds(0)));
  BOOST_TEST(!e.wait_for(std::chrono::microseconds(10)));
}

BOOST_AUTO_TEST_CASE(who_waits_for_an_event_sees_what_was_done_before_each_set_so_far) {
  event there, back;
  int rounds_there = 0, rounds_back = 0; // not atomic
  int wrong_there = 0, wrong_back = 0;
  const int rounds = test::scaled(20'000);
  std::thread other([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (!there.wait_for(std::chrono::microseconds(round % 64))) {
      }
      wrong_there += rounds_there != round;
      rounds_back = round;
      back.set();
    }
  });
  for (int round = 1; round <= rounds; ++round) {
    rounds_there = round;
    there.set();
    if (!back.wait_for(std::chrono::nanoseconds::max())) ++wrong_back;
    wrong_back += rounds_back != round;
  }
  other.join();
  BOOST_TEST(wrong_there == 0);
  BOOST_TEST(wrong_back == 0);
}

BOOST_AUTO_TEST_CASE(no_event_is_lost_to_one_who_is_about_to_wait_or_to_give_up) {
  event e;
  std::atomic<int> sent{0};
  const int last = test::scaled(50'000);
  std::thread sender([&] {
    while (sent != last) {
      ++sent;
      e.set();
    }
  });
  // Whoever is woken or has given up looks at `sent`; the last event must not be slept through.
  for (int turn = 0; sent != last; ++turn)
    e.wait_for(turn % 2 ? std::chrono::nanoseconds::max() : std::chrono::nanoseconds(turn % 1000));
  sender.join();
}
