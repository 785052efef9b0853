//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/shards.hpp>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_stats;
using bulkhead::pool;
using bulkhead::pool_options;
using bulkhead::shards;
using bulkhead::shards_options;
using bulkhead::unbounded;
using test::run;

static_assert(!std::is_copy_constructible_v<shards>);
static_assert(std::is_nothrow_move_constructible_v<shards>);

namespace {

const error_code aborted = asio::error::operation_aborted;

constexpr auto nothing = [] {};

bool balanced(const lane_stats& s) {
  return s.in_flight == 0 && s.running == 0 && s.queued == 0 && s.waiting == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

/// Two keys that do not share a shard.
std::pair<int, int> two_keys_of(const shards& s) {
  int other = 1;
  while (s.shard(other) == s.shard(0)) ++other;
  return {0, other};
}

// --- async_submit ---

using submit_signature = void(std::exception_ptr, int);

template <bool Waits>
struct submit_fixture {
  std::optional<pool> p{std::in_place, pool_options{.threads = 1, .name = "fixture"}};
  test::plug busy{*p};
  std::optional<shards> s{std::in_place, *p, 4, shards_options{.queue_limit = 1}};

  submit_fixture() {
    if (Waits) BOOST_TEST(s->try_submit("key", nothing));
  }
  ~submit_fixture() { busy.open(); }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return s->async_submit(
        "key", [] { return 42; }, std::forward<Token>(token));
  }
  void proceed() { busy.open(); }
  void settle() { p->join(); }
  void destroy() { s.reset(); }
  void restored() { BOOST_TEST(balanced(s->stats())); }
  bool on_own_executor() const { return test::thread_name().rfind("fixture", 0) == 0; }
};

auto queued = [] { return std::make_unique<submit_fixture<false>>(); };
auto waiting = [] { return std::make_unique<submit_fixture<true>>(); };
auto expect_42 = [](std::exception_ptr e, int n) {
  BOOST_TEST(!e);
  BOOST_TEST(n == 42);
};

} // namespace

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_task_by_its_key) {
  test::token_matrix<submit_signature>(queued, expect_42);
  test::token_matrix<submit_signature>(waiting, expect_42);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  auto any = [](std::exception_ptr, int) {};
  test::executor_matrix(queued, any);
  test::executor_matrix(waiting, any);
}

BOOST_AUTO_TEST_CASE(a_task_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(queued, expect_42);
  test::cancellation_matrix(waiting, expect_42);
}

// --- keys ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_key_has_always_the_same_shard) {
  asio::io_context io;
  const shards s(io, 7), other(io, 7);
  for (int key = -1000; key != 1000; ++key) {
    BOOST_TEST((s.shard(key) == s.shard(key)));
    const auto index = [key](const shards& of) {
      std::size_t i = 0;
      while (of[i] != of.shard(key)) ++i;
      return i;
    };
    BOOST_TEST(index(s) == index(other));
  }
}

BOOST_AUTO_TEST_CASE(strings_are_the_same_key_whatever_their_type) {
  asio::io_context io;
  const shards s(io, 1000);
  const std::string text = "customer 17";
  const std::string copy = text;
  const char* const pointer = copy.c_str();
  for (const lane* l : {&s.shard(copy), &s.shard(pointer), &s.shard("customer 17"),
                        &s.shard(std::string_view(copy))})
    BOOST_TEST((*l == s.shard(text)));
}

BOOST_AUTO_TEST_CASE(keys_are_spread_evenly_however_poor_their_hash) {
  constexpr int keys = 64'000;
  asio::io_context io;
  for (std::size_t n : {2u, 7u, 64u, 100u}) {
    const shards s(io, n);
    const auto check = [&](const char* what, auto key) {
      std::vector<double> had(n);
      for (int i = 0; i != keys; ++i)
        ++had[static_cast<std::size_t>(std::find_if(had.begin(), had.end(),
                                                    [&, at = std::size_t(0)](double) mutable {
                                                      return s[at++] ==
                                                             s.shard(key(std::uint64_t(i)));
                                                    }) -
                                       had.begin())];
      // Chi squared with n - 1 degrees of freedom: above this once in a billion times, by chance.
      double chi = 0;
      for (double h : had)
        chi += (h - keys / double(n)) * (h - keys / double(n)) * double(n) / keys;
      BOOST_TEST(chi < double(n) + 9 * std::sqrt(2.0 * double(n)) + 20,
                 what << ", " << n << " shards");
    };
    check("numbers", [](std::uint64_t i) { return i; });
    check("multiples of 64", [](std::uint64_t i) { return 64 * i; });
    check("multiples of a page", [](std::uint64_t i) { return 4096 * i; });
    check("in the upper half", [](std::uint64_t i) { return i << 32; });
    check("strings", [](std::uint64_t i) { return std::to_string(i); });
  }
}

namespace {

struct point {
  int x, y;
};

} // namespace

BOOST_AUTO_TEST_CASE(a_key_can_have_a_hash_of_its_own) {
  asio::io_context io;
  const shards s(io, 50);
  const auto by_x = [](const point& p) { return std::hash<int>()(p.x); };
  for (int x = 0; x != 50; ++x)
    BOOST_TEST((s.shard(point{x, 1}, by_x) == s.shard(point{x, 2}, by_x)));
  BOOST_TEST(s.shard(point{1, 2}, by_x).try_submit(nothing));
  run(io);
  BOOST_TEST(s.stats().completed == 1u);
}

// --- order ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(tasks_of_one_key_run_in_the_order_of_their_submission) {
  pool p(4);
  const shards s(p, 8);
  std::string order;
  for (char c = 'a'; c <= 'z'; ++c) {
    if (c % 3 == 0)
      BOOST_TEST(s.try_submit("key", [&order, c] { order += c; }));
    else if (c % 3 == 1)
      s.async_submit(
          "key", [&order, c] { order += c; }, asio::detached);
    else
      asio::post(s.get_executor("key"), [&order, c] { order += c; });
  }
  p.join();
  BOOST_TEST(order == "abcdefghijklmnopqrstuvwxyz");
}

BOOST_AUTO_TEST_CASE(who_waits_for_room_keeps_its_place_in_the_order) {
  asio::io_context io;
  const shards s(io, 2, {.queue_limit = 1});
  std::string order;
  for (char c = 'a'; c <= 'h'; ++c)
    s.async_submit(
        "key", [&order, c] { order += c; }, asio::detached);
  BOOST_TEST(s.shard("key").stats().waiting == 7u);
  run(io);
  BOOST_TEST(order == "abcdefgh");
}

BOOST_AUTO_TEST_CASE(different_keys_run_in_parallel) {
  test::gate first, second;
  pool p(2);
  const shards s(p, 16);
  const auto [a, b] = two_keys_of(s);
  bool met = false;
  BOOST_TEST(s.try_submit(a, [&] {
    first.open();
    second.wait();
  }));
  BOOST_TEST(s.try_submit(b, [&] {
    first.wait();
    met = true;
    second.open();
  }));
  p.join();
  BOOST_TEST(met);
}

BOOST_AUTO_TEST_CASE(a_key_that_is_stuck_stops_only_those_of_its_shard) {
  test::gate stuck;
  pool p(2);
  const shards s(p, 16);
  const auto [a, b] = two_keys_of(s);
  test::slot<void> started, other;
  BOOST_TEST(s.try_submit(a, [&] {
    started.set_value();
    stuck.wait();
  }));
  int behind = 0;
  BOOST_TEST(s.try_submit(a, [&] { ++behind; }));
  BOOST_TEST(s.try_submit(b, [&] { other.set_value(); }));
  started.get();
  other.get();
  BOOST_TEST(s.shard(a).stats().queued == 1u);
  stuck.open();
  p.join();
  BOOST_TEST(behind == 1);
}

BOOST_AUTO_TEST_CASE(a_shard_runs_as_many_at_a_time_as_it_may) {
  test::counter started;
  test::gate both;
  pool p(3);
  const shards s(p, 2, {.concurrency = 2});
  std::atomic<int> now{0}, exceeded{0};
  for (int i = 0; i != 100; ++i)
    BOOST_TEST(s.try_submit("key", [&, i] {
      if (++now > 2) ++exceeded;
      if (i < 2) {
        started.add();
        both.wait();
      }
      --now;
    }));
  started.wait_for(2);
  both.open();
  p.join();
  BOOST_TEST(exceeded == 0);
  BOOST_TEST(s.stats().completed == 100u);
}

// Each producer counts its tasks of each key; no two of a key run at one time.
BOOST_AUTO_TEST_CASE(same_key_same_order_under_many_producers_and_workers) {
  constexpr std::size_t key_count = 40, producer_count = 4;
  pool p(4);
  const shards s(p, 8, {.queue_limit = unbounded});
  struct state {
    std::atomic<int> running{0};
    std::array<int, producer_count> last{};
  };
  std::vector<state> keys(key_count);
  std::atomic<int> overlapping{0}, disordered{0}, ran{0};
  const int per_producer = test::scaled(40'000);
  std::vector<std::thread> producers;
  for (std::size_t producer = 0; producer != producer_count; ++producer)
    producers.emplace_back([&, producer] {
      std::mt19937 random(static_cast<unsigned>(producer));
      for (int i = 1; i <= per_producer; ++i) {
        const std::size_t key = random() % key_count;
        auto task = [&, producer, key, i] {
          state& k = keys[key];
          if (++k.running != 1) ++overlapping;
          if (std::exchange(k.last[producer], i) >= i) ++disordered;
          --k.running;
          ++ran;
        };
        switch (random() % 3) {
        case 0:
          if (!s.try_submit(key, task)) --ran;
          break;
        case 1:
          s.async_submit(key, task, asio::detached);
          break;
        default:
          asio::post(s.get_executor(key), task);
        }
      }
    });
  for (auto& t : producers) t.join();
  p.join();
  BOOST_TEST(overlapping == 0);
  BOOST_TEST(disordered == 0);
  BOOST_TEST(ran == per_producer * static_cast<int>(producer_count));
  BOOST_TEST(balanced(s.stats()));
}

BOOST_AUTO_TEST_CASE(the_executor_of_a_key_is_a_strand) {
  pool p(4);
  const shards s(p, 4);
  int unguarded = 0;
  const auto ex = s.get_executor(17);
  BOOST_TEST((ex == s.get_executor(17)));
  for (int i = 0; i != test::scaled(20'000); ++i) asio::post(ex, [&] { ++unguarded; });
  p.join();
  BOOST_TEST(unguarded == test::scaled(20'000));
}

// --- bounds, the end, errors ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_full_shard_refuses_and_the_others_do_not) {
  asio::io_context io;
  const shards s(io, 4, {.queue_limit = 2, .waiter_limit = 1});
  const auto [a, b] = two_keys_of(s);
  BOOST_TEST(s.try_submit(a, nothing));
  BOOST_TEST(s.try_submit(a, nothing));
  BOOST_TEST(!s.try_submit(a, nothing));
  BOOST_TEST(s.try_submit(b, nothing));
  error_code waited, refused;
  s.async_submit(a, nothing, [&](std::exception_ptr e) { waited = test::code_of(e); });
  s.async_submit(a, nothing, [&](std::exception_ptr e) { refused = test::code_of(e); });
  run(io);
  BOOST_TEST(!waited);
  BOOST_TEST((refused == errc::queue_full));
  const lane_stats sum = s.stats();
  BOOST_TEST(sum.submitted == 6u);
  BOOST_TEST(sum.completed == 4u);
  BOOST_TEST(sum.rejected == 2u);
}

BOOST_AUTO_TEST_CASE(what_a_task_throws_goes_to_on_exception_and_its_shard_goes_on) {
  asio::io_context io;
  int reported = 0, ran = 0;
  const shards s(io, 3, {.on_exception = [&](std::exception_ptr) { ++reported; }});
  for (int key = 0; key != 20; ++key) {
    BOOST_TEST(s.try_submit(key, [] { throw std::runtime_error("no"); }));
    BOOST_TEST(s.try_submit(key, [&] { ++ran; }));
  }
  run(io);
  BOOST_TEST(reported == 20);
  BOOST_TEST(ran == 20);
}

BOOST_AUTO_TEST_CASE(shards_have_names) {
  asio::io_context io;
  const shards s(io, 3, {.name = "orders"}), nameless(io, 3);
  BOOST_TEST(s.size() == 3u);
  BOOST_TEST(s[2].name() == "orders/2");
  BOOST_TEST(nameless[2].name() == "");
}

BOOST_AUTO_TEST_CASE(destruction_aborts_what_has_not_started_and_lanes_outlive_it) {
  asio::io_context io;
  std::optional<shards> s(std::in_place, io, 4);
  error_code ec[2];
  int ran = 0;
  for (int key : {1, 2})
    s->async_submit(
        key, [&] { ++ran; }, [&, key](std::exception_ptr e) { ec[key - 1] = test::code_of(e); });
  const lane kept = s->shard(1);
  asio::post(kept.get_executor(), [&] { ran += 10; });
  s.reset();
  BOOST_TEST(!kept.try_submit(nothing));
  run(io);
  BOOST_TEST(ec[0] == aborted);
  BOOST_TEST(ec[1] == aborted);
  BOOST_TEST(ran == 10);
}

BOOST_AUTO_TEST_CASE(moving_it_changes_nothing) {
  asio::io_context io;
  shards s(io, 4), target(io, 2);
  int ran = 0;
  error_code ec;
  BOOST_TEST(s.try_submit(1, [&] { ++ran; }));
  target.async_submit(1, nothing, [&](std::exception_ptr e) { ec = test::code_of(e); });
  const lane one = s.shard(1);
  target = std::move(s);
  BOOST_TEST((one == target.shard(1)));
  run(io);
  BOOST_TEST(ran == 1);
  BOOST_TEST(ec == aborted);
}

BOOST_AUTO_TEST_CASE(once_closed_no_shard_admits_and_what_was_admitted_runs) {
  asio::io_context io;
  const shards s(io, 4);
  int ran = 0;
  for (int key = 0; key != 10; ++key) BOOST_TEST(s.try_submit(key, [&] { ++ran; }));
  s.close();
  for (int key = 0; key != 10; ++key) BOOST_TEST(!s.try_submit(key, nothing));
  int drained = 0;
  for (std::size_t i = 0; i != s.size(); ++i)
    s[i].async_drain([&](error_code ec) {
      BOOST_TEST(!ec);
      ++drained;
    });
  run(io);
  BOOST_TEST(ran == 10);
  BOOST_TEST(drained == 4);
}

BOOST_AUTO_TEST_CASE(wrong_options_are_an_error_that_names_them) {
  asio::io_context io;
  const auto expect = [&](std::size_t n, shards_options options, const std::string& what) {
    BOOST_CHECK_EXCEPTION(shards(io, n, options), std::invalid_argument, [&](const auto& e) {
      BOOST_TEST(e.what() == what);
      return true;
    });
  };
  expect(0, {}, "shards: n must be at least 1 and at most 65536 (got 0)");
  expect(65537, {}, "shards: n must be at least 1 and at most 65536 (got 65537)");
  expect(1, {.concurrency = 0}, "shards_options::concurrency must be at least 1 (got 0)");
  expect(1, {.batch = 0}, "shards_options::batch must be at least 1 (got 0)");
  expect(1, {.queue_limit = 0}, "shards_options::queue_limit must be at least 1 (got 0)");
}
