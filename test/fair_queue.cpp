//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Whose turn it is among lanes, as a plain object. A failure of a random test prints the seed;
// BULKHEAD_SEED=n runs that seed only.

#include "support/global_new.hpp"
#include "support/random.hpp"
#include "support/reference_queue.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"

#include <bulkhead/detail/order/fair_queue.hpp>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <vector>

namespace {

struct tenant : bulkhead::detail::fair_queue<tenant>::entry {
  long tasks = 0; // that wait
  long ran = 0;
};

using fair_queue = bulkhead::detail::fair_queue<tenant>;

static_assert(!std::is_copy_constructible_v<fair_queue>);
static_assert(!std::is_copy_assignable_v<fair_queue>);

/// One server: a queue of tenants with tasks, one of which runs at a time.
class house {
public:
  explicit house(double minimum_share = 0) : queue_(minimum_share) {}

  ~house() {
    for (tenant& t : tenants_) {
      if (t.is_waiting()) queue_.remove(t);
      queue_.leave(t);
    }
  }

  tenant& open(double weight, int priority = 0, long tasks = 0) {
    tenant& t = tenants_.emplace_back();
    queue_.join(t, priority, weight);
    give(t, tasks);
    return t;
  }

  void give(tenant& t, long tasks) {
    t.tasks += tasks;
    if (t.tasks != 0 && !t.is_waiting()) queue_.add(t);
  }

  /// Takes what the tenant has away.
  void take(tenant& t) {
    t.tasks = 0;
    if (t.is_waiting()) queue_.remove(t);
  }

  tenant* serve() {
    tenant* const t = queue_.pop();
    if (!t) return nullptr;
    ++t->ran;
    if (--t->tasks != 0) queue_.add(*t);
    return t;
  }

  void serve(long n) {
    for (long i = 0; i != n; ++i) BOOST_REQUIRE(serve());
  }

  fair_queue& queue() { return queue_; }

private:
  fair_queue queue_;
  std::deque<tenant> tenants_;
};

constexpr long plenty = 100'000'000;

bool is_share(long part, long whole, double wanted, double tolerance = 0.02) {
  const double share = static_cast<double>(part) / static_cast<double>(whole);
  const bool good = share >= wanted * (1 - tolerance) && share <= wanted * (1 + tolerance);
  if (!good) BOOST_TEST_MESSAGE("a share of " << share << " instead of " << wanted);
  return good;
}

} // namespace

// --- order --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(nobody_has_a_turn_in_an_empty_queue) {
  fair_queue q;
  BOOST_TEST(q.empty());
  BOOST_TEST(q.size() == 0u);
  BOOST_TEST(!q.pop());
  tenant t;
  q.join(t, 3, 2.5);
  BOOST_TEST(!t.is_waiting());
  BOOST_TEST(t.priority() == 3);
  BOOST_TEST(t.weight() == 2.5);
  BOOST_TEST(!q.pop());
  q.leave(t);
}

BOOST_AUTO_TEST_CASE(equals_take_turns_in_the_order_in_which_they_came) {
  house h;
  std::array<tenant*, 5> all{};
  for (auto& t : all) t = &h.open(1, 0, plenty);
  for (int round = 0; round != 100; ++round)
    for (tenant* t : all) BOOST_TEST(h.serve() == t);
}

BOOST_AUTO_TEST_CASE(shares_are_as_the_weights) {
  house h;
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(2, 0, plenty);
  tenant& c = h.open(4, 0, plenty);
  constexpr long n = 100'000;
  h.serve(n);
  BOOST_TEST(is_share(a.ran, n, 1 / 7.));
  BOOST_TEST(is_share(b.ran, n, 2 / 7.));
  BOOST_TEST(is_share(c.ran, n, 4 / 7.));
}

BOOST_AUTO_TEST_CASE(shares_are_as_the_weights_at_any_moment_to_a_task_each) {
  house h;
  const std::array<double, 4> weights{1, 3, 0.5, 7};
  std::vector<tenant*> all;
  double sum = 0;
  for (double w : weights) {
    all.push_back(&h.open(w, 0, plenty));
    sum += w;
  }
  for (long n = 1; n != 20'000; ++n) {
    h.serve(1);
    for (std::size_t i = 0; i != weights.size(); ++i) {
      const double ideal = static_cast<double>(n) * weights[i] / sum;
      BOOST_REQUIRE(std::abs(static_cast<double>(all[i]->ran) - ideal) <=
                    static_cast<double>(weights.size()));
    }
  }
}

BOOST_AUTO_TEST_CASE(one_task_waits_behind_at_most_one_of_each_other) {
  std::mt19937_64 random(1);
  for (int round = 0; round != 1000; ++round) {
    house h;
    std::vector<tenant*> others;
    const std::size_t n = 1 + random() % 20;
    for (std::size_t i = 0; i != n; ++i)
      others.push_back(&h.open(1. / static_cast<double>(1 + random() % 8), 0, 1000));
    tenant& single = h.open(1, 0, 0);
    h.serve(static_cast<long>(random() % 200));
    for (tenant* t : others) t->ran = 0;
    h.give(single, 1);
    while (h.serve() != &single) {
    }
    for (tenant* t : others) BOOST_TEST(t->ran <= 1);
  }
}

BOOST_AUTO_TEST_CASE(one_task_at_a_time_again_and_again_waits_behind_at_most_one_of_each_other) {
  house h;
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(1, 0, plenty);
  tenant& single = h.open(1);
  for (int i = 0; i != 1000; ++i) {
    h.give(single, 1);
    a.ran = b.ran = 0;
    while (h.serve() != &single) {
    }
    BOOST_TEST(a.ran <= 1);
    BOOST_TEST(b.ran <= 1);
  }
}

BOOST_AUTO_TEST_CASE(who_was_idle_has_its_share_at_once_and_no_burst) {
  house h;
  tenant& busy = h.open(1, 0, plenty);
  tenant& other = h.open(1, 0, 10);
  h.serve(20);
  BOOST_TEST(other.ran == 10);
  h.serve(100'000); // `other` is idle
  busy.ran = other.ran = 0;
  h.give(other, plenty);
  for (int i = 0; i != 1000; ++i) {
    h.serve(1);
    BOOST_REQUIRE(std::abs(busy.ran - other.ran) <= 1);
  }
}

BOOST_AUTO_TEST_CASE(who_opens_late_has_its_share_at_once_and_no_burst) {
  house h;
  tenant& busy = h.open(1, 0, plenty);
  h.serve(100'000);
  busy.ran = 0;
  tenant& late = h.open(1, 0, plenty);
  for (int i = 0; i != 1000; ++i) {
    h.serve(1);
    BOOST_REQUIRE(std::abs(busy.ran - late.ran) <= 1);
  }
}

BOOST_AUTO_TEST_CASE(a_pause_gains_nothing) {
  // It has what it could do at once; stopping and coming back makes it no earlier.
  house h;
  tenant& steady = h.open(1, 0, plenty);
  tenant& nervous = h.open(1, 0, plenty);
  for (int i = 0; i != 10'000; ++i) {
    if (h.serve() == &nervous) {
      h.take(nervous);
      h.give(nervous, plenty);
    }
  }
  BOOST_TEST(is_share(nervous.ran, 10'000, 0.5));
  BOOST_TEST(is_share(steady.ran, 10'000, 0.5));
}

BOOST_AUTO_TEST_CASE(a_new_weight_holds_from_the_next_turn_on) {
  house h;
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(1, 0, plenty);
  h.serve(1000);
  h.queue().set_weight(a, 3);
  BOOST_TEST(a.weight() == 3);
  h.serve(2);
  a.ran = b.ran = 0;
  h.serve(40'000);
  BOOST_TEST(is_share(a.ran, 40'000, 0.75));
  h.queue().set_weight(a, 1);
  h.serve(4);
  a.ran = b.ran = 0;
  h.serve(40'000);
  BOOST_TEST(is_share(a.ran, 40'000, 0.5));
}

BOOST_AUTO_TEST_CASE(weights_far_apart_are_kept_however_long_the_least_of_them_was_alone) {
  house h;
  tenant& least = h.open(1e-6, 0, plenty);
  h.serve(1'000'000);
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(2, 0, plenty);
  tenant& c = h.open(1000, 0, plenty);
  tenant& d = h.open(2000, 0, plenty);
  const long n = 600'600;
  least.ran = 0;
  h.serve(n);
  BOOST_TEST(is_share(a.ran, n, 1 / 3003.));
  BOOST_TEST(is_share(b.ran, n, 2 / 3003.));
  BOOST_TEST(is_share(c.ran, n, 1000 / 3003.));
  BOOST_TEST(is_share(d.ran, n, 2000 / 3003.));
  BOOST_TEST(least.ran <= 2);
}

BOOST_AUTO_TEST_CASE(the_greatest_weights_are_told_apart_and_keep_nobody_out) {
  house h;
  tenant& least = h.open(1, 0, plenty);
  h.queue().set_weight(least, 1e-6);
  h.serve(100'000);
  h.queue().set_weight(least, 0.01);
  h.serve(10'480); // nearly as far as it counts
  h.queue().set_weight(least, 1);
  h.serve(1);
  tenant& a = h.open(50'000, 0, plenty);
  tenant& b = h.open(100'000, 0, plenty);
  least.ran = 0;
  const long n = 600'004;
  h.serve(n);
  BOOST_TEST(is_share(a.ran, n, 1 / 3.));
  BOOST_TEST(is_share(b.ran, n, 2 / 3.));
  BOOST_TEST(least.ran >= 3);
  BOOST_TEST(least.ran <= 5);
}

// --- priorities ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_higher_priority_comes_first_whatever_the_weights) {
  house h;
  tenant& low = h.open(1000, -1, 100);
  tenant& middle = h.open(1, 0, 100);
  tenant& high = h.open(0.001, 1, 100);
  for (int i = 0; i != 100; ++i) BOOST_TEST(h.serve() == &high);
  for (int i = 0; i != 50; ++i) BOOST_TEST(h.serve() == &middle);
  h.give(high, 1);
  BOOST_TEST(h.serve() == &high);
  for (int i = 0; i != 50; ++i) BOOST_TEST(h.serve() == &middle);
  for (int i = 0; i != 100; ++i) BOOST_TEST(h.serve() == &low);
  BOOST_TEST(!h.serve());
}

BOOST_AUTO_TEST_CASE(the_ends_of_int_are_priorities) {
  house h;
  constexpr int least = std::numeric_limits<int>::min(), most = std::numeric_limits<int>::max();
  tenant& a = h.open(1, least, 1);
  tenant& b = h.open(1, 0, 1);
  tenant& c = h.open(1, most, 1);
  BOOST_TEST(h.serve() == &c);
  BOOST_TEST(h.serve() == &b);
  BOOST_TEST(h.serve() == &a);
}

BOOST_AUTO_TEST_CASE(a_priority_that_was_starved_for_long_is_fair_inside) {
  house h;
  tenant& high = h.open(1, 1, 200'000);
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(3, 0, plenty);
  h.serve(100'000);
  tenant& late = h.open(4, 0, plenty);
  h.serve(100'000);
  BOOST_TEST(high.ran == 200'000);
  BOOST_TEST(a.ran + b.ran + late.ran == 0);
  h.serve(8'000);
  BOOST_TEST(is_share(a.ran, 8'000, 1 / 8.));
  BOOST_TEST(is_share(b.ran, 8'000, 3 / 8.));
  BOOST_TEST(is_share(late.ran, 8'000, 4 / 8.));
}

BOOST_AUTO_TEST_CASE(a_new_priority_holds_at_once) {
  house h;
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(1, 0, plenty);
  h.serve(10);
  h.queue().set_priority(b, 5);
  BOOST_TEST(b.priority() == 5);
  for (int i = 0; i != 10; ++i) BOOST_TEST(h.serve() == &b);
  h.queue().set_priority(b, -5);
  for (int i = 0; i != 10; ++i) BOOST_TEST(h.serve() == &a);
  h.queue().set_priority(b, 0); // beside `a` again, and no earlier for the turns that it missed
  a.ran = b.ran = 0;
  h.serve(100);
  BOOST_TEST(std::abs(a.ran - b.ran) <= 2);
}

BOOST_AUTO_TEST_CASE(who_leaves_is_forgotten_and_its_priority_with_it) {
  fair_queue q;
  const long blocks = test::global_memory.blocks;
  for (int i = 0; i != 1000; ++i) {
    tenant t;
    q.join(t, i, 1);
    q.add(t);
    BOOST_TEST(q.pop() == &t);
    q.leave(t);
  }
  BOOST_TEST(q.empty());
  BOOST_TEST(test::global_memory.blocks <= blocks + 1); // the table of priorities
}

// --- the minimum share --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_minimum_share_is_kept_by_a_priority_with_one_tenant) {
  for (double share : {0.01, 0.1, 0.25, 0.3, 0.4, 0.5}) BOOST_TEST_CONTEXT("a share of " << share) {
      house h(share);
      tenant& high = h.open(1, 1, plenty);
      tenant& low = h.open(1, 0, plenty);
      const long n = 100'000;
      h.serve(n);
      BOOST_TEST(is_share(low.ran, n, share));
      BOOST_TEST(is_share(high.ran, n, 1 - share));
    }
}

BOOST_AUTO_TEST_CASE(a_minimum_share_is_the_priorities_and_not_each_tenants) {
  house h(0.3);
  tenant& high = h.open(1, 1, plenty);
  tenant& a = h.open(1, 0, plenty);
  tenant& b = h.open(2, 0, plenty);
  tenant& lowest = h.open(1, -1, plenty);
  const long n = 100'000;
  h.serve(n);
  BOOST_TEST(is_share(high.ran, n, 0.4));
  BOOST_TEST(is_share(a.ran, n, 0.1));
  BOOST_TEST(is_share(b.ran, n, 0.2));
  BOOST_TEST(is_share(lowest.ran, n, 0.3));
}

BOOST_AUTO_TEST_CASE(minimum_shares_of_more_than_there_is_become_equal_parts) {
  for (double share : {0.4, 0.5, 0.9, 0.999}) BOOST_TEST_CONTEXT("a share of " << share) {
      house h(share);
      std::array<tenant*, 3> all{};
      for (int p = 0; p != 3; ++p) all[static_cast<std::size_t>(p)] = &h.open(1, p, plenty);
      const long n = 99'999;
      h.serve(n);
      for (tenant* t : all) BOOST_TEST(is_share(t->ran, n, 1 / 3.));
    }
}

BOOST_AUTO_TEST_CASE(a_priority_that_was_idle_has_its_minimum_share_at_once_and_no_burst) {
  for (double share : {0.1, 0.4, 0.5, 0.9}) BOOST_TEST_CONTEXT("a share of " << share) {
      house h(share);
      tenant& high = h.open(1, 2, plenty);
      tenant& middle = h.open(1, 1, plenty);
      tenant& low = h.open(1, 0, 5);
      h.serve(100'000); // more than the shares come to, for long
      BOOST_TEST(low.ran == 5);
      const double fair = std::min(share, 1 / 3.);
      for (int again = 0; again != 3; ++again) {
        high.ran = middle.ran = low.ran = 0;
        h.give(low, plenty);
        for (long n = 1; n != 1000; ++n) {
          h.serve(1);
          BOOST_REQUIRE(std::abs(static_cast<double>(low.ran) - fair * static_cast<double>(n)) <=
                        3);
        }
        h.take(low);
        h.serve(10'000);
      }
      BOOST_TEST(high.ran >= middle.ran - 3);
    }
}

BOOST_AUTO_TEST_CASE(what_a_priority_does_not_use_of_its_share_goes_to_the_highest) {
  house h(0.25);
  tenant& high = h.open(1, 2, plenty);
  tenant& middle = h.open(1, 1, plenty);
  h.open(1, 0);
  h.serve(100'000);
  BOOST_TEST(is_share(high.ran, 100'000, 0.75));
  BOOST_TEST(is_share(middle.ran, 100'000, 0.25));
}

// --- memory -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_join_that_fails_changes_nothing) {
  for (std::size_t members : {0u, 1u, 4u, 8u}) { // of the same priority
    for (int priority : {0, 1}) {
      bool joined = false;
      long failures = 0;
      for (long n = 0; !joined; ++n) {
        house h;
        for (std::size_t i = 0; i != members; ++i) h.open(1, 0, 2);
        const long blocks = test::global_memory.blocks;
        tenant t;
        try {
          const test::global_fuse_scope fuse(n);
          h.queue().join(t, priority, 1);
          joined = true;
        } catch (const std::bad_alloc&) {
          ++failures;
          // An array of pointers may have grown.
          BOOST_TEST(test::global_memory.blocks <= blocks + 1);
          BOOST_TEST(h.queue().size() == members);
          h.queue().join(t, priority, 1);
        }
        h.queue().add(t);
        for (std::size_t i = 0; i != 2 * members; ++i) {
          tenant* const next = h.queue().pop();
          BOOST_REQUIRE(next);
          if (--next->tasks > 0) h.queue().add(*next);
          if (next == &t) break;
        }
        if (t.is_waiting()) h.queue().remove(t);
        h.queue().leave(t);
      }
      if (members == 0 || priority == 1 || members >= 4) BOOST_TEST(failures > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_change_of_priority_that_fails_changes_nothing) {
  for (bool waits : {false, true}) {
    long failures = 0;
    bool changed = false;
    for (long n = 0; !changed; ++n) {
      house h;
      tenant& t = h.open(1, 0, waits ? 1 : 0);
      tenant& other = h.open(1, 0, 1);
      for (int i = 0; i != 4; ++i) h.open(1, 7);
      try {
        const test::global_fuse_scope fuse(n);
        h.queue().set_priority(t, n % 2 == 0 ? 7 : -7);
        changed = n % 2 != 0;
      } catch (const std::bad_alloc&) {
        ++failures;
        BOOST_TEST(t.priority() == 0);
        BOOST_TEST(t.is_waiting() == waits);
        if (waits) BOOST_TEST(h.serve() == &t);
        BOOST_TEST(h.serve() == &other);
        BOOST_TEST(!h.serve());
      }
    }
    BOOST_TEST(failures > 0);
  }
}

BOOST_AUTO_TEST_CASE(a_turn_allocates_nothing) {
  house h(0.1);
  std::vector<tenant*> all;
  for (int i = 0; i != 40; ++i) all.push_back(&h.open(1 + i % 3, i % 4, 10));
  const long allocations = test::global_memory.allocations;
  while (h.serve()) {
  }
  for (tenant* t : all) h.give(*t, 10);
  for (tenant* t : all) h.take(*t);
  BOOST_TEST(test::global_memory.allocations == allocations);
}

// --- against a reference ------------------------------------------------------------------------

namespace {

void compare_with_reference(std::uint64_t seed, double minimum_share) {
  std::mt19937_64 random(seed);
  const auto dice = [&](std::uint64_t n) { return static_cast<int>(random() % n); };
  const auto any_weight = [&] {
    return dice(10) == 0 ? (dice(2) ? 0x1p-19 : 0x1p19) : std::ldexp(1.0, dice(9) - 4);
  };
  fair_queue q(minimum_share);
  test::reference_queue r(minimum_share);
  std::map<int, tenant> tenants;
  std::map<const tenant*, int> names;
  int last_name = 0;
  for (int step = 0; step != 20'000; ++step) {
    const int what = tenants.empty() ? 0 : dice(100);
    auto chosen = tenants.begin();
    if (!tenants.empty()) std::advance(chosen, dice(tenants.size()));
    if (what < 2 && tenants.size() < 40) {
      const int name = ++last_name, priority = dice(3) - 1;
      const double weight = any_weight();
      tenant& t = tenants[name];
      names[&t] = name;
      q.join(t, priority, weight);
      r.join(name, priority, weight);
    } else if (what < 3) {
      if (chosen->second.is_waiting()) continue;
      q.leave(chosen->second);
      r.leave(chosen->first);
      tenants.erase(chosen);
    } else if (what < 5) {
      const double weight = any_weight();
      q.set_weight(chosen->second, weight);
      r.set_weight(chosen->first, weight);
    } else if (what < 7) {
      const int priority = dice(3) - 1;
      q.set_priority(chosen->second, priority);
      r.set_priority(chosen->first, priority);
    } else if (what < 10) {
      if (!chosen->second.is_waiting()) continue;
      q.remove(chosen->second);
      r.remove(chosen->first);
    } else if (what < 40) {
      if (chosen->second.is_waiting()) continue;
      q.add(chosen->second);
      r.add(chosen->first);
    } else {
      tenant* const t = q.pop();
      const int name = t ? names.at(t) : -1;
      BOOST_REQUIRE_EQUAL(name, r.pop());
      if (t && dice(4) != 0) {
        q.add(*t);
        r.add(name);
      }
    }
    std::size_t waiting = 0;
    for (auto& [name, t] : tenants) waiting += t.is_waiting();
    BOOST_REQUIRE_EQUAL(q.size(), waiting);
    BOOST_REQUIRE_EQUAL(q.empty(), waiting == 0);
  }
  for (auto& [name, t] : tenants) {
    if (t.is_waiting()) q.remove(t);
    q.leave(t);
  }
}

void compare_many_with_reference(double minimum_share) {
  test::for_each_seed(test::sanitized ? 1 : 6,
                      [&](std::uint64_t seed) { compare_with_reference(seed, minimum_share); });
}

} // namespace

BOOST_AUTO_TEST_CASE(turns_are_those_of_a_plain_scheduler) { compare_many_with_reference(0); }

BOOST_AUTO_TEST_CASE(turns_with_a_minimum_share_are_those_of_a_plain_scheduler) {
  for (double share : {0.1, 0.25, 0.4, 0.9}) compare_many_with_reference(share);
}

// --- who owes nothing ---------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(who_has_just_had_its_turn_owes_while_others_wait) {
  house h;
  tenant& once = h.open(0.25, 0, 1); // its turn counts as four
  h.open(1, 0, plenty);
  tenant& fresh = h.open(1);
  h.serve(1);
  BOOST_TEST(once.ran == 1);
  BOOST_TEST(h.queue().settle(fresh));
  h.serve(4);
  BOOST_TEST(!h.queue().settle(once));
  h.serve(1);
  BOOST_TEST(h.queue().settle(once));
}

BOOST_AUTO_TEST_CASE(when_nobody_of_its_priority_waits_all_debts_are_forgiven) {
  house h;
  tenant& a = h.open(0.001, 0, 1);
  tenant& b = h.open(1000, 0, 1);
  h.open(1, -1, plenty); // is no matter of theirs
  h.serve(2);
  BOOST_TEST(h.queue().settle(b));
  BOOST_TEST(h.queue().settle(a));
  h.give(a, 1);
  h.give(b, 1);
  BOOST_TEST(h.serve() == &a); // they are equals again
}

// By turns that count as a million each, virtual time is soon counted from another base.
BOOST_AUTO_TEST_CASE(debts_are_told_however_long_a_queue_is_in_use) {
  house h;
  tenant& light = h.open(1e-6);
  tenant& other = h.open(1);
  for (int i = 0; i != 100; ++i) {
    h.give(light, 1);
    h.give(other, 1);
    h.serve(1);
    tenant& had = light.tasks == 0 ? light : other;
    BOOST_TEST(!h.queue().settle(had));
    h.serve(1);
    BOOST_TEST(h.queue().settle(light));
    BOOST_TEST(h.queue().settle(other));
  }
  tenant& busy = h.open(0.001, 0, plenty);
  h.give(light, 1);
  while (light.tasks != 0) h.serve(1);
  BOOST_TEST(!h.queue().settle(light));
  const long before = busy.ran;
  while (!h.queue().settle(light)) h.serve(1);
  BOOST_TEST(busy.ran - before >= 999);
  BOOST_TEST(busy.ran - before <= 1002);
}
