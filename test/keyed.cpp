//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"
#include "support/tracker_executor.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::keyed;
using bulkhead::permit;
using bulkhead::semaphore;

namespace {

using test::run;

const error_code aborted = asio::error::operation_aborted;

using limits = keyed<int>;

// A semaphore of `limit` units for each key, and how often one was made.
struct counted {
  asio::io_context io;
  std::atomic<int> made{0};
  limits keys;

  explicit counted(std::size_t limit = 1, bulkhead::keyed_options options = {})
      : keys(
            [this, limit](const int&) {
              ++made;
              return semaphore(io, limit);
            },
            options) {}
};

using acquire_signature = void(error_code, permit);

struct keyed_fixture {
  test::background object;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::optional<limits> keys{std::in_place, [this](const int&) { return semaphore(executor, 3); }};
  permit held;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return keys->async_acquire(17, 2, std::forward<Token>(token));
  }
  void proceed() { held.release(); }
  void settle() { object.finish(); }
  void destroy() { keys.reset(); }
  void restored() {
    BOOST_TEST(keys->evict_idle() == 1u);
    BOOST_TEST(keys->size() == 0u);
  }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }
};

auto free_units = [] { return std::make_unique<keyed_fixture>(); };
auto taken_units = [] {
  auto f = std::make_unique<keyed_fixture>();
  f->held = f->keys->try_acquire(17, 2).value();
  return f;
};
auto expect_two = [](error_code ec, permit p) {
  BOOST_TEST(!ec);
  BOOST_TEST(p.weight() == 2u);
};

} // namespace

// --- tokens, executors, allocators, cancellation ------------------------------------------------

BOOST_AUTO_TEST_CASE(every_token_acquires_by_key) {
  test::token_matrix<acquire_signature>(free_units, expect_two);
  test::token_matrix<acquire_signature>(taken_units, expect_two);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  auto any = [](error_code, permit) {};
  test::executor_matrix(free_units, any);
  test::executor_matrix(taken_units, any);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(what_need_not_wait_completes_on_an_associated_immediate_executor) {
  BOOST_TEST(test::completes_at_once(free_units, expect_two));
  BOOST_TEST(!test::completes_at_once(taken_units, expect_two));
}
#endif

BOOST_AUTO_TEST_CASE(an_acquire_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(taken_units, expect_two);
}

// --- keys ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(each_key_has_a_limiter_of_its_own) {
  counted c;
  permit a = c.keys.try_acquire(1).value();
  permit b = c.keys.try_acquire(2).value();
  BOOST_TEST((c.keys.try_acquire(1).error().code == errc::queue_full));
  BOOST_TEST((c.keys.try_acquire(2, 2).error().code == errc::exceeds_limit));
  BOOST_TEST(c.made == 2);
  BOOST_TEST(c.keys.size() == 2u);
}

BOOST_AUTO_TEST_CASE(the_function_knows_the_key) {
  asio::io_context io;
  keyed<std::string> tiers(
      [&](const std::string& name) { return semaphore(io, name == "premium" ? 10 : 1); });
  BOOST_TEST(tiers["premium"]->limit() == 10u);
  BOOST_TEST(tiers["free"]->limit() == 1u);
}

BOOST_AUTO_TEST_CASE(what_is_idle_is_evicted_and_made_anew) {
  counted c;
  c.keys.try_acquire(1).value().release();
  BOOST_TEST(c.keys.evict_idle() == 1u);
  BOOST_TEST(c.keys.size() == 0u);
  c.keys.try_acquire(1).value().release();
  BOOST_TEST(c.made == 2);
}

BOOST_AUTO_TEST_CASE(what_is_held_waited_for_or_referred_to_is_not_evicted) {
  counted c;
  permit held = c.keys.try_acquire(1).value();
  permit weightless = c.keys.try_acquire(2, 0).value();
  auto handle = c.keys[3];
  auto deferred = c.keys.async_acquire(4, asio::deferred);
  c.keys[5]->resize(0);
  bool granted = false;
  c.keys.async_acquire(5, [&](error_code ec, permit) { granted = !ec; });
  BOOST_TEST(c.keys.evict_idle() == 0u);
  BOOST_TEST(c.keys.size() == 5u);
  c.keys[5]->resize(1);
  run(c.io);
  BOOST_TEST(granted);
  held.release();
  weightless.release();
  BOOST_TEST(c.keys.evict_idle() == 3u);
}

BOOST_AUTO_TEST_CASE(a_forgotten_permit_keeps_its_limiter) {
  counted c;
  c.keys.try_acquire(1).value().forget();
  BOOST_TEST(c.keys.evict_idle() == 0u);
  c.keys[1]->release(1);
  BOOST_TEST(c.keys.evict_idle() == 1u);
}

BOOST_AUTO_TEST_CASE(new_keys_evict_idle_ones_so_that_their_number_stays_in_proportion) {
  counted c(1, {.shards = 1});
  std::vector<permit> in_use;
  for (int i = 0; i != 300; ++i) in_use.push_back(c.keys.try_acquire(-1 - i).value());
  std::size_t most = 0;
  for (int i = 0; i != 100'000; ++i) {
    c.keys.try_acquire(i).value().release();
    most = std::max(most, c.keys.size());
  }
  BOOST_TEST(most >= 300u);
  BOOST_TEST(most <= 300u * 4 / 3 + 8);
}

BOOST_AUTO_TEST_CASE(all_idle_limiters_are_soon_gone_when_keys_come_and_go) {
  counted c(1, {.shards = 1});
  for (int i = 0; i != 10'000; ++i) c.keys.try_acquire(i).value().release();
  BOOST_TEST(c.keys.size() <= 4u);
}

BOOST_AUTO_TEST_CASE(all_keys_can_be_visited) {
  counted c;
  permit a = c.keys.try_acquire(1).value();
  permit b = c.keys.try_acquire(2).value();
  int keys = 0;
  std::size_t units = 0;
  c.keys.for_each([&](const int& key, semaphore& s) {
    keys += key;
    units += s.in_use();
  });
  BOOST_TEST(keys == 3);
  BOOST_TEST(units == 2u);
}

BOOST_AUTO_TEST_CASE(a_handle_stays_with_its_limiter) {
  counted c;
  auto one = c.keys[1];
  auto same = one;
  permit p = one.try_acquire().value();
  BOOST_TEST((same.try_acquire().error().code == errc::queue_full));
  BOOST_TEST(&one.get() == &c.keys[1].get());
}

BOOST_AUTO_TEST_CASE(a_key_can_limit_any_operation) {
  counted c;
  asio::steady_timer timer(c.io, 0s);
  bool done = false;
  timer.async_wait(limited_by(c.keys[1], [&](error_code ec) {
    BOOST_TEST(!ec);
    BOOST_TEST(c.keys[1]->in_use() == 0u);
    done = true;
  }));
  BOOST_TEST(c.keys[1]->in_use() == 1u);
  run(c.io);
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(a_coroutine_that_need_not_wait_goes_on_at_once) {
  counted c;
  int done = 0;
  auto body = [&]() -> asio::awaitable<void> {
    permit p = co_await c.keys.async_acquire(1, asio::use_awaitable);
    BOOST_TEST(p.weight() == 1u);
    auto [ec, q] = co_await c.keys.async_acquire(1, 2, asio::as_tuple(asio::use_awaitable));
    BOOST_TEST((ec == errc::exceeds_limit));
    ++done;
  };
  asio::co_spawn(c.io, body, asio::detached);
  c.io.run_one();
  BOOST_TEST(done == 1);
}

// --- the end -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(whoever_tracks_holders_knows_the_line_that_asked) {
  asio::io_context io;
  bulkhead::semaphore_options options;
  options.track_holders = true;
  limits keys([&](const int&) { return semaphore(io, 4, options); });
  std::vector<permit> held;
  std::vector<unsigned> lines;
  const auto keep = [&](error_code ec, permit p) {
    BOOST_TEST(!ec);
    held.push_back(std::move(p));
  };
  const auto is_here = [&](std::source_location here = std::source_location::current()) {
    lines.push_back(here.line());
  };
  const auto key = keys[1];

  is_here(), held.push_back(keys.try_acquire(1).value());
  is_here(), held.push_back(key.try_acquire().value());
  is_here(), keys.async_acquire(1, keep);
  auto coroutine = [&]() -> asio::awaitable<void> {
    is_here(), held.push_back(co_await key.async_acquire(asio::use_awaitable));
    // Those that wait:
    is_here(), keys.async_acquire(1, 2, keep);
    is_here(), key.async_acquire(2, keep);
    is_here(), key.async_acquire(keep);
    is_here(), key.async_acquire(asio::deferred)(keep);
    is_here(), held.push_back(co_await keys.async_acquire(1, asio::use_awaitable));
  };
  asio::co_spawn(io, coroutine(), asio::detached);
  test::poll(io);

  auto users = key->holders();
  BOOST_TEST(users.size() == 4u);
  for (auto& w : key->waiters()) users.push_back(std::move(w));
  BOOST_REQUIRE(users.size() == lines.size());
  for (std::size_t i = 0; i != users.size(); ++i) {
    BOOST_TEST(users[i].where.line() == lines[i]);
    BOOST_TEST(std::string(users[i].where.file_name()).ends_with("keyed.cpp"));
  }
  for (std::size_t i = 0; i != users.size(); ++i) {
    BOOST_REQUIRE(i < held.size());
    held[i].release();
    test::poll(io);
  }
  BOOST_TEST(key->idle());
}

BOOST_AUTO_TEST_CASE(destruction_aborts_the_waiters_and_leaves_permits_alone) {
  asio::io_context io;
  std::optional<limits> keys(std::in_place, [&](const int&) { return semaphore(io, 1); });
  permit held = keys->try_acquire(1).value();
  error_code callback, coroutine, deferred;
  keys->async_acquire(1, [&](error_code ec, permit) { callback = ec; });
  auto body = [&]() -> asio::awaitable<void> {
    auto [ec, p] = co_await keys->async_acquire(1, asio::as_tuple(asio::use_awaitable));
    coroutine = ec;
  };
  asio::co_spawn(io, body, asio::detached);
  auto operation = keys->async_acquire(1, asio::deferred);
  test::poll(io);
  keys.reset();
  std::move(operation)([&](error_code ec, permit) { deferred = ec; });
  run(io);
  BOOST_TEST(callback == aborted);
  BOOST_TEST(coroutine == aborted);
  BOOST_TEST(deferred == aborted);
  held.release();
}

BOOST_AUTO_TEST_CASE(wrong_numbers_of_shards_are_an_error_that_names_the_field) {
  asio::io_context io;
  for (std::size_t n : {std::size_t(0), std::size_t(65537), bulkhead::unbounded}) {
    try {
      limits keys([&](const int&) { return semaphore(io, 1); }, {.shards = n});
      BOOST_TEST(false);
    } catch (const std::invalid_argument& e) {
      BOOST_TEST(e.what() == "keyed_options::shards must be at least 1 and at most 65536 (got " +
                                 std::to_string(n) + ")");
    }
  }
}

BOOST_AUTO_TEST_CASE(an_exception_while_a_limiter_is_made_changes_nothing) {
  asio::io_context io;
  bool broken = true;
  limits keys([&](const int&) {
    if (broken) throw std::runtime_error("no");
    return semaphore(io, 1);
  });
  BOOST_CHECK_THROW((void)keys.try_acquire(1), std::runtime_error);
  BOOST_CHECK_THROW(keys.async_acquire(1, asio::detached), std::runtime_error);
  BOOST_TEST(keys.size() == 0u);
  broken = false;
  BOOST_TEST(keys.try_acquire(1).has_value());
}

namespace {

struct noticed : semaphore {
  std::function<void()> at_end;

  noticed(asio::io_context& io, std::function<void()> f) : semaphore(io, 1), at_end(std::move(f)) {}
  noticed(noticed&&) = default;
  ~noticed() {
    if (at_end) at_end();
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(limiters_end_under_no_lock) {
  asio::io_context io;
  int made = 0;
  int ended = 0;
  std::optional<keyed<int, noticed>> keys;
  std::optional<keyed<int, noticed>::handle> first;
  keys.emplace([&](const int& key) {
    if (made++ == 0) first = (*keys)[key]; // as if another thread had been faster
    return noticed(io, [&] {
      (void)keys->size();
      ++ended;
    });
  });
  permit p = (*keys)[1].try_acquire().value();
  BOOST_TEST(made == 2);
  BOOST_TEST(ended == 1);
  BOOST_TEST((*first)->in_use() == 1u);
  p.release();
  first.reset();
  BOOST_TEST(keys->evict_idle() == 1u);
  BOOST_TEST(ended == 2);
}

// --- under load ----------------------------------------------------------------------------------

// Never two permits of one key at once, although limiters are made and evicted all the time.
BOOST_AUTO_TEST_CASE(the_limit_of_a_key_holds_while_limiters_come_and_go) {
  asio::thread_pool threads(3);
  limits keys([&](const int&) { return semaphore(threads, 1); }, {.shards = 2});
  constexpr int key_count = 8;
  std::array<std::atomic<int>, key_count> holders{};
  std::atomic<int> exceeded{0}, completed{0};
  const int per_thread = test::scaled(20'000);
  const auto enter = [&](int key) {
    if (++holders[static_cast<std::size_t>(key)] > 1) ++exceeded;
    --holders[static_cast<std::size_t>(key)];
    ++completed;
  };
  std::vector<std::thread> producers;
  for (int t = 0; t != 3; ++t)
    producers.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i != per_thread; ++i) {
        const int key = static_cast<int>(random() % key_count);
        keys.async_acquire(key, [&, key](error_code ec, permit) {
          if (!ec) enter(key);
        });
        if (i % 16 == 0) keys.evict_idle();
      }
    });
  for (auto& p : producers) p.join();
  threads.join();
  BOOST_TEST(completed == 3 * per_thread);
  BOOST_TEST(exceeded == 0);
  keys.evict_idle();
  BOOST_TEST(keys.size() == 0u);
}
