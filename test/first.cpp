//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/places.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/map.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <exception>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::async_first;
using test::error_of;
using test::number_of;
using test::outcome_of;
using test::run;

namespace {

using numbers = std::vector<int>;

/// The numbers of the failures in a multiple_errors, if it is one.
std::optional<numbers> numbers_of(const std::exception_ptr& p) {
  if (!p) return {};
  try {
    std::rethrow_exception(p);
  } catch (const bulkhead::multiple_errors& e) {
    numbers all;
    for (const auto& error : e.errors()) all.push_back(number_of(error));
    return all;
  } catch (...) {
    return {};
  }
}

/// Ends as if nothing had happened when it is cancelled.
asio::awaitable<int> until_cancelled(int result) {
  try {
    co_await test::forever();
  } catch (...) {
  }
  co_return result;
}

/// A result that opens a gate when a copy of it goes.
struct telling {
  test::gate* gate = nullptr;

  telling() = default;
  explicit telling(test::gate& g) : gate(&g) {}
  telling(const telling&) = default;
  ~telling() {
    if (gate) gate->open();
  }
};

/// A result that cannot be moved from if it is odd.
struct fragile {
  int number = 0;

  fragile() = default;
  explicit fragile(int n) : number(n) {}
  fragile(fragile&& other) : number(other.number) {
    if (number % 2 != 0) throw test::failure(number);
  }
};

/// Two calls: one fails at once, the other waits until it is let go.
struct waiting_first {
  test::background background;
  test::event go{background.context().get_executor()};
  int elements[2] = {1, 2};

  asio::awaitable<int> call(int i) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    if (i == 2) throw test::failure(i);
    co_await go.wait();
    co_return 10 * i;
  }

  template <class Token>
  auto initiate(Token&& token) {
    return async_first(
        background.context(), elements, 2, [this](int i) { return call(i); },
        std::forward<Token>(token));
  }
  void proceed() { go.set(); }
  void settle() { background.finish(); }
  bool on_own_executor() { return background.context().get_executor().running_in_this_thread(); }
};

struct waiting_first_of_nothing : waiting_first {
  template <class Token>
  auto initiate(Token&& token) {
    return async_first(
        background.context(), elements, 2,
        [this](int i) -> asio::awaitable<void> { (void)co_await call(i); },
        std::forward<Token>(token));
  }
};

const auto expect_ten = [](std::exception_ptr e, int result) {
  BOOST_TEST(!e);
  BOOST_TEST(result == 10);
};
const auto expect_success = [](std::exception_ptr e) { BOOST_TEST(!e); };

using first_signature = void(std::exception_ptr, int);
using first_of_nothing_signature = void(std::exception_ptr);

} // namespace

// --- the first success --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_first_success_in_time_is_the_result) {
  test::on_every_executor([](auto& place) {
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 100), 8,
          [](int i) -> asio::awaitable<int> {
            if (i != 5) co_await test::forever();
            co_return 10 * i;
          },
          token);
    });
    BOOST_TEST(result.get() == 50);
  });
}

BOOST_AUTO_TEST_CASE(no_call_begins_after_a_success) {
  // On one thread it is known what comes after what. Both calls are on their way when the first one
  // begins.
  asio::io_context io;
  int begun = 0;
  auto plain = async_first(
      io, std::views::iota(0, 100), 2, [&](int) { return ++begun; }, asio::use_future);
  run(io);
  BOOST_TEST(plain.get() == 1);
  BOOST_TEST(begun == 1);
  auto coroutine = async_first(
      io, std::views::iota(0, 100), 2,
      [&](int) -> asio::awaitable<int> {
        ++begun;
        co_return begun;
      },
      asio::use_future);
  run(io);
  BOOST_TEST(coroutine.get() == 2);
  BOOST_TEST(begun == 2);
}

BOOST_AUTO_TEST_CASE(no_element_is_pulled_after_a_success) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> pulled{0};
    auto range = std::views::iota(0, 100) | std::views::transform([&](int i) {
                   ++pulled;
                   return i;
                 });
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), range, 1, [](int i) { return i; }, token);
    });
    BOOST_TEST(result.get() == 0);
    BOOST_TEST(pulled == 1);
  });
}

BOOST_AUTO_TEST_CASE(the_calls_in_flight_are_cancelled_and_waited_for) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> begun{0};
    std::atomic<int> cancelled{0};
    std::atomic<int> cancelled_at_the_end{-1};
    auto f = [&](int i) -> asio::awaitable<int> {
      if (++begun == 7) co_return i; // all have begun
      try {
        co_await test::forever();
      } catch (...) {
      }
      const asio::cancellation_state state = co_await asio::this_coro::cancellation_state_t();
      const bool was_terminal = state.cancelled() == asio::cancellation_type::terminal;
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      co_await test::yield_turns(20);
      cancelled += was_terminal;
      throw test::failure(i);
    };
    auto body = [&]() -> asio::awaitable<void> {
      (void)co_await async_first(std::views::iota(0, 7), 7, f, asio::use_awaitable);
      cancelled_at_the_end = cancelled.load();
    };
    asio::co_spawn(place.executor(), body(), asio::detached);
    place.finish();
    BOOST_TEST(cancelled_at_the_end == 6);
  });
}

BOOST_AUTO_TEST_CASE(no_call_outlives_it) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> alive{0};
    std::atomic<int> outlived{0};
    std::atomic<int> succeeded{0};
    auto f = [&](int i) -> asio::awaitable<int> {
      test::live here(alive);
      co_await test::yield_turns(i % 4);
      if (i % 3 != 0) throw test::failure(i);
      co_await test::yield_turns(i % 5);
      co_return i;
    };
    auto body = [&]() -> asio::awaitable<void> {
      for (int round = 0; round != 50; ++round) {
        const int i = co_await async_first(std::views::iota(round, 200), 8, f, asio::use_awaitable);
        outlived += alive;
        succeeded += i % 3 == 0;
      }
    };
    asio::co_spawn(place.executor(), body(), asio::detached);
    place.finish();
    BOOST_TEST(outlived == 0);
    BOOST_TEST(succeeded == 50);
    BOOST_TEST(alive == 0);
  });
}

BOOST_AUTO_TEST_CASE(of_many_successes_at_one_time_one_is_the_result) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> wrong{0};
    std::atomic<int> completed{0};
    const int rounds = test::scaled(300);
    for (int round = 0; round != rounds; ++round)
      async_first(
          place.executor(), std::views::iota(0, 8), 8,
          [](int i) -> asio::awaitable<std::string> {
            co_await test::yield_turns();
            co_return std::string(50, char('a' + i));
          },
          asio::bind_executor(place.executor(), [&](std::exception_ptr e, std::string s) {
            ++completed;
            wrong += e || s.size() != 50 || std::ranges::count(s, s[0]) != 50;
          }));
    place.finish();
    BOOST_TEST(completed == rounds);
    BOOST_TEST(wrong == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_success_after_the_first_is_dropped_before_the_end) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> results{0};
    int alive_at_the_end = -1;
    int first = -1;
    auto f = [&](int i) -> asio::awaitable<std::pair<int, std::shared_ptr<test::live>>> {
      auto result = std::make_shared<test::live>(results);
      if (i != 2) (void)co_await until_cancelled(i);
      co_return std::pair(i, std::move(result));
    };
    auto body = [&]() -> asio::awaitable<void> {
      const auto result = co_await async_first(std::views::iota(0, 3), 3, f, asio::use_awaitable);
      alive_at_the_end = results;
      first = result.first;
    };
    asio::co_spawn(place.executor(), body(), asio::detached);
    place.finish();
    BOOST_TEST(first == 2);
    BOOST_TEST(alive_at_the_end == 1);
    BOOST_TEST(results == 0);
  });
}

BOOST_AUTO_TEST_CASE(f_and_the_range_are_gone_before_the_handler_can_run) {
  for (const int succeeds : {1, 9}) {
    std::atomic<int> alive{0};
    int alive_at_the_end = -1;
    bool failed = false;
    asio::io_context io;
    async_first(
        io, std::views::iota(0, 3) | std::views::transform([keep = test::live(alive)](int i) {
              return i;
            }),
        2,
        [keep = test::live(alive), succeeds](int i) {
          if (i != succeeds) throw test::failure(i);
        },
        asio::bind_executor(test::at_once(), [&](std::exception_ptr e) {
          alive_at_the_end = alive;
          failed = e != nullptr;
        }));
    BOOST_TEST(alive == 2);
    run(io);
    BOOST_TEST(alive_at_the_end == 0);
    BOOST_TEST(failed == (succeeds == 9));
  }
}

BOOST_AUTO_TEST_CASE(a_stop_token_is_asked_to_stop) {
  test::on_every_executor([](auto& place) {
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 3), 3,
          [](int i, std::stop_token stop) -> asio::awaitable<int> {
            while (i != 2 && !stop.stop_requested()) co_await test::yield_turns();
            co_return i;
          },
          token);
    });
    BOOST_TEST(result.get() == 2);
  });
}

// --- results and functions ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(f_may_be_a_plain_function) {
  test::on_every_executor([](auto& place) {
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::vector{3, 1, 2}, 1,
          [](int i) {
            if (i == 3) throw test::failure(i);
            return std::to_string(i);
          },
          token);
    });
    BOOST_TEST(result.get() == "1");
  });
}

BOOST_AUTO_TEST_CASE(f_may_return_nothing) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> tried{0};
    auto done = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 100), 1,
          [&](int i) {
            ++tried;
            if (i < 9) throw test::failure(i);
          },
          token);
    });
    BOOST_CHECK_NO_THROW(done.get());
    BOOST_TEST(tried == 10);
  });
}

BOOST_AUTO_TEST_CASE(f_may_return_a_deferred_operation) {
  asio::io_context io;
  std::vector<asio::steady_timer> timers;
  for (int i = 0; i != 3; ++i) timers.emplace_back(io, asio::steady_timer::time_point::max());
  timers.emplace_back(io, asio::steady_timer::time_point::min());
  auto done = async_first(
      io, timers, 4, [](asio::steady_timer& t) { return t.async_wait(asio::deferred); },
      asio::use_future);
  run(io);
  BOOST_CHECK_NO_THROW(done.get());
}

BOOST_AUTO_TEST_CASE(what_a_deferred_operation_brings_later_is_given_back) {
  asio::io_context io;
  bulkhead::semaphore s(io, 1);
  auto first = async_first(
      io, std::views::iota(0, 10), 10, [&](int) { return s.async_acquire(1, asio::deferred); },
      asio::use_future);
  run(io);
  const bulkhead::permit p = first.get();
  BOOST_TEST(p.weight() == 1u);
  BOOST_TEST(s.in_use() == 1u);
  BOOST_TEST(s.waiting() == 0u);
}

BOOST_AUTO_TEST_CASE(a_result_may_be_move_only) {
  test::on_every_executor([](auto& place) {
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 50), 4,
          [](int i) -> asio::awaitable<std::unique_ptr<int>> {
            co_await test::yield_turns();
            if (i < 20) throw test::failure(i);
            co_return std::make_unique<int>(7);
          },
          token);
    });
    BOOST_TEST(*result.get() == 7);
  });
}

BOOST_AUTO_TEST_CASE(a_call_whose_result_cannot_be_moved_has_failed) {
  test::on_every_executor([](auto& place) {
    int completed = 0;
    int number = 0;
    async_first(
        place.executor(), std::vector{1, 3, 4}, 1, [](int i) { return fragile(i); },
        asio::bind_executor(place.executor(), [&](std::exception_ptr e, const fragile& result) {
          completed += !e;
          number = result.number;
        }));
    place.finish();
    BOOST_TEST(completed == 1);
    BOOST_TEST(number == 4);
  });
}

BOOST_AUTO_TEST_CASE(a_limit_of_zero_is_refused_before_anything_begins) {
  asio::io_context io;
  int calls = 0;
  const auto f = [&](int i) { return calls += i; };
  const auto nothing = [](auto...) { BOOST_ERROR("completed"); };
  BOOST_CHECK_EXCEPTION(
      async_first(io, std::vector{1}, 0, f, nothing), std::invalid_argument, [](const auto& e) {
        return std::string(e.what()) == "async_first: limit must be at least 1 (got 0)";
      });
  run(io);
  BOOST_TEST(calls == 0);
}

// --- ranges -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_lvalue_range_is_referred_to) {
  test::on_every_executor([](auto& place) {
    std::vector<int> elements{1, 2, 3, 4};
    outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), elements, 1,
          [](int& i) {
            i *= 10;
            if (i != 30) throw test::failure(i);
          },
          token);
    }).get();
    BOOST_TEST((elements == numbers{10, 20, 30, 4}));
  });
}

BOOST_AUTO_TEST_CASE(an_rvalue_range_is_kept_until_the_end) {
  test::on_every_executor([](auto& place) {
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::vector<std::string>{"a", "bb", "ccc"}, 3,
          [](const std::string& s) -> asio::awaitable<std::size_t> {
            co_await test::yield_turns(3);
            if (s.size() != 2) throw test::failure(1);
            co_return s.size();
          },
          token);
    });
    BOOST_TEST(result.get() == 2u);
  });
}

BOOST_AUTO_TEST_CASE(an_element_that_a_view_makes_is_kept_until_its_call_has_ended) {
  test::on_every_executor([](auto& place) {
    auto made = std::views::iota(0, 30) |
                std::views::transform([](int i) { return std::string(40, char('a' + i % 26)); });
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), made, 4,
          [](const std::string& s) -> asio::awaitable<char> {
            co_await test::yield_turns(3);
            if (s.at(39) != 'z') throw test::failure(1);
            co_return s.at(0);
          },
          token);
    });
    BOOST_TEST(result.get() == 'z');
  });
}

BOOST_AUTO_TEST_CASE(a_range_of_move_only_elements_can_be_consumed) {
  test::on_every_executor([](auto& place) {
    auto made = std::views::iota(0, 10) |
                std::views::transform([](int i) { return std::make_unique<int>(i); });
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), made, 3,
          [](std::unique_ptr<int> p) {
            if (*p != 8) throw test::failure(*p);
            return *p;
          },
          token);
    });
    BOOST_TEST(result.get() == 8);
  });
}

BOOST_AUTO_TEST_CASE(an_input_range_is_pulled_once) {
  test::on_every_executor([](auto& place) {
    std::istringstream in("5 6 7 8 9");
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::istream<int>(in), 1,
          [](int i) -> asio::awaitable<int> {
            co_await test::yield_turns(2);
            if (i < 8) throw test::failure(i);
            co_return i;
          },
          token);
    });
    BOOST_TEST(result.get() == 8);
    int next = 0;
    in >> next;
    BOOST_TEST(next == 9);
  });
}

BOOST_AUTO_TEST_CASE(the_range_is_pulled_lazily_and_each_element_dereferenced_once) {
  test::on_every_executor([](auto& place) {
    constexpr int limit = 5;
    std::atomic<int> pulled{0};
    std::atomic<int> ended{0};
    std::atomic<bool> too_far{false};
    auto range = std::views::iota(0, 200) | std::views::transform([&](int i) {
                   if (pulled++ - ended >= limit) too_far = true;
                   return i;
                 });
    auto error = error_of(outcome_of(place, [&](auto token) {
      auto done = async_first(
          place.executor(), range, limit,
          [&](int i) -> asio::awaitable<void> {
            co_await test::yield_turns(2);
            ++ended;
            throw test::failure(i);
          },
          token);
      return done;
    }));
    BOOST_TEST(numbers_of(error).value().size() == 200u);
    BOOST_TEST(pulled == 200);
    BOOST_TEST(!too_far);
  });
}

BOOST_AUTO_TEST_CASE(the_limit_is_kept_and_reached) {
  test::on_every_executor([](auto& place) {
    test::occupancy inside;
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 300), 7,
          [&](int i) -> asio::awaitable<int> {
            test::occupancy::visit here(inside);
            co_await test::yield_turns(5);
            if (i < 290) throw test::failure(i);
            co_return i;
          },
          token);
    });
    BOOST_TEST(result.get() >= 290);
    BOOST_TEST(inside.peak() <= 7);
    BOOST_TEST((place.parallel || inside.peak() == 7));
  });
}

BOOST_AUTO_TEST_CASE(an_unbounded_limit_is_allowed) {
  asio::io_context io;
  auto result = async_first(
      io, std::views::iota(0, 100), bulkhead::unbounded,
      [](int i) -> asio::awaitable<int> {
        if (i != 99) co_await test::forever();
        co_return i;
      },
      asio::use_future);
  run(io);
  BOOST_TEST(result.get() == 99);
}

BOOST_AUTO_TEST_CASE(many_elements_do_not_recurse) {
  asio::io_context io;
  const int n = test::scaled(50'000);
  auto result = async_first(
      io, std::views::iota(0, n), 1,
      [&](int i) {
        if (i != n - 1) throw test::failure(i);
        return i;
      },
      asio::use_future);
  run(io);
  BOOST_TEST(result.get() == n - 1);
}

// --- failures -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_failing_call_does_not_cancel_the_others) {
  test::on_every_executor([](auto& place) {
    test::event go(place.executor());
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::views::iota(0, 20), 2,
          [&](int i) -> asio::awaitable<int> {
            if (i == 19) go.set();
            if (i != 0) throw test::failure(i);
            co_await go.wait();
            co_return 77;
          },
          token);
    });
    BOOST_TEST(result.get() == 77);
  });
}

BOOST_AUTO_TEST_CASE(when_all_fail_every_failure_is_reported_in_the_order_in_time) {
  asio::io_context io;
  auto one_by_one = error_of([&] {
    auto done = async_first(
        io, std::views::iota(1, 6), 1, [](int i) { throw test::failure(i); }, asio::use_future);
    run(io);
    return done;
  }());
  BOOST_TEST((numbers_of(one_by_one).value() == numbers{1, 2, 3, 4, 5}));
  std::vector<std::unique_ptr<test::event>> turn;
  for (int i = 0; i != 4; ++i) turn.push_back(std::make_unique<test::event>(io.get_executor()));
  auto backwards = error_of([&] {
    auto done = async_first(
        io, std::views::iota(0, 4), 4,
        [&](int i) -> asio::awaitable<void> {
          if (i != 3) co_await turn[i]->wait();
          if (i != 0) asio::post(io, [&, i] { turn[i - 1]->set(); });
          throw test::failure(10 + i);
        },
        asio::use_future);
    run(io);
    return done;
  }());
  BOOST_TEST((numbers_of(backwards).value() == numbers{13, 12, 11, 10}));
}

BOOST_AUTO_TEST_CASE(no_failure_is_lost_when_many_fail_at_one_time) {
  test::on_every_executor([](auto& place) {
    auto error = error_of(outcome_of(place, [&](auto token) {
      auto done = async_first(
          place.executor(), std::views::iota(1, 501), 16,
          [](int i) -> asio::awaitable<int> {
            co_await test::yield_turns(i % 3);
            throw test::failure(i);
          },
          token);
      return done;
    }));
    auto all = numbers_of(error).value();
    std::ranges::sort(all);
    BOOST_TEST(std::ranges::equal(all, std::views::iota(1, 501)));
  });
}

BOOST_AUTO_TEST_CASE(a_single_failure_is_reported_as_one_of_many) {
  test::on_every_executor([](auto& place) {
    auto error = error_of(outcome_of(place, [&](auto token) {
      auto done = async_first(
          place.executor(), std::vector{4}, 3, [](int i) { throw test::failure(i); }, token);
      return done;
    }));
    BOOST_TEST((numbers_of(error).value() == numbers{4}));
  });
}

BOOST_AUTO_TEST_CASE(an_empty_range_is_a_failure_with_no_errors) {
  test::on_every_executor([](auto& place) {
    auto error = error_of(outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), std::vector<int>(), 1, [](int i) { return i; }, token);
    }));
    BOOST_TEST(numbers_of(error).value().empty());
  });
}

BOOST_AUTO_TEST_CASE(an_aborted_call_is_a_failure_when_nothing_was_cancelled) {
  test::on_every_executor([](auto& place) {
    auto error = error_of(outcome_of(place, [&](auto token) {
      auto done = async_first(
          place.executor(), std::vector{1, 2, 3}, 1,
          [](int i) {
            if (i == 2) throw bulkhead::system_error(asio::error::operation_aborted);
            throw test::failure(i);
          },
          token);
      return done;
    }));
    BOOST_TEST((numbers_of(error).value() == numbers{1, -1, 3}));
  });
}

BOOST_AUTO_TEST_CASE(an_exception_of_the_range_cancels_what_runs_and_is_reported) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> begun{0};
    auto range = std::views::iota(0, 100) | std::views::transform([](int i) {
                   if (i == 3) throw test::failure(5);
                   return i;
                 });
    auto result = outcome_of(place, [&](auto token) {
      return async_first(
          place.executor(), range, 10,
          [&](int i) -> asio::awaitable<int> {
            ++begun;
            if (i == 0) throw test::failure(6);
            co_await test::forever();
            co_return i;
          },
          token);
    });
    BOOST_TEST(number_of(error_of(std::move(result))) == 5);
    BOOST_TEST(begun <= 3);
  });
}

BOOST_AUTO_TEST_CASE(a_success_after_an_exception_of_the_range_is_dropped) {
  test::on_every_executor([](auto& place) {
    auto range = std::views::iota(0, 100) | std::views::transform([&](int i) {
                   if (i == 1) throw test::failure(5);
                   return i;
                 });
    auto result = outcome_of(place, [&](auto token) {
      return async_first(place.executor(), range, 2, until_cancelled, token);
    });
    BOOST_TEST(number_of(error_of(std::move(result))) == 5);
  });
}

BOOST_AUTO_TEST_CASE(a_success_before_an_exception_of_the_range_is_delivered) {
  test::on_pool place;
  test::gate succeeded;
  auto range = std::views::iota(0, 100) | std::views::transform([&](int i) {
                 if (i == 0) return i;
                 succeeded.wait();
                 throw test::failure(5);
               });
  bool failed = true;
  bool same = false;
  async_first(
      place.executor(), range, 2, [&](int) { return telling(succeeded); },
      asio::bind_executor(place.executor(), [&](std::exception_ptr e, const telling& result) {
        failed = e != nullptr;
        same = result.gate == &succeeded;
      }));
  place.finish();
  BOOST_TEST(!failed);
  BOOST_TEST(same);
}

// --- cancellation -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(cancellation_stops_the_calls_and_the_pulling) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    asio::cancellation_signal signal;
    int pulled = 0;
    int code = 0;
    int stops = 0;
    async_first(
        io, std::views::iota(0, 100) | std::views::transform([&](int) { return ++pulled; }), 4,
        [&](int i) -> asio::awaitable<void> {
          if (i == 1) throw test::failure(i);
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          try {
            co_await test::forever();
          } catch (...) {
          }
          const asio::cancellation_state state = co_await asio::this_coro::cancellation_state_t();
          stops += state.cancelled() == type;
          throw test::failure(i);
        },
        asio::bind_cancellation_slot(signal.slot(),
                                     [&](std::exception_ptr e) { code = number_of(e); }));
    test::poll(io);
    signal.emit(type);
    run(io);
    BOOST_TEST(code == -1);
    BOOST_TEST(pulled == 5);
    BOOST_TEST(stops == 4);
  }
}

BOOST_AUTO_TEST_CASE(a_success_after_a_cancellation_is_dropped) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    asio::cancellation_signal signal;
    test::event go(io.get_executor());
    int code = 0;
    async_first(
        io, std::views::iota(0, 2), 2,
        [&](int i) -> asio::awaitable<int> {
          co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
          co_await go.wait();
          co_return i;
        },
        asio::bind_cancellation_slot(signal.slot(),
                                     [&](std::exception_ptr e, int) { code = number_of(e); }));
    test::poll(io);
    signal.emit(type);
    test::poll(io);
    BOOST_TEST(code == 0, "the calls are waited for");
    go.set();
    run(io);
    BOOST_TEST(code == -1);
  }
}

BOOST_AUTO_TEST_CASE(a_success_before_a_cancellation_is_delivered_when_all_have_ended) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    asio::cancellation_signal signal;
    test::event go(io.get_executor());
    int result = 0;
    async_first(
        io, std::views::iota(0, 2), 2,
        [&](int i) -> asio::awaitable<int> {
          if (i == 1) co_return 10;
          co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
          co_await go.wait();
          co_return 20;
        },
        asio::bind_cancellation_slot(signal.slot(),
                                     [&](std::exception_ptr e, int r) { result = e ? -1 : r; }));
    test::poll(io);
    BOOST_TEST(result == 0, "the other call is waited for");
    signal.emit(type);
    test::poll(io);
    BOOST_TEST(result == 0);
    go.set();
    run(io);
    BOOST_TEST(result == 10);
  }
}

BOOST_AUTO_TEST_CASE(no_call_begins_that_a_success_or_a_cancellation_has_missed) {
  test::background object(2);
  test::background handlers;
  const int limit = 24; // bounds what a round costs when this thread does not get its turn
  for (int round = 0; round != test::scaled(2000); ++round) {
    asio::cancellation_signal signal;
    std::atomic<int> pulled{0};
    test::slot<int> code;
    async_first(
        object.context(),
        std::views::iota(0) | std::views::transform([&](int) { return ++pulled; }), limit,
        [&](int i) -> asio::awaitable<int> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          if (i != 1 + round % limit) co_await test::forever();
          co_return i;
        },
        asio::bind_cancellation_slot(
            signal.slot(),
            asio::bind_executor(handlers.context(), [&](std::exception_ptr e, int i) {
              code.set_value(e ? number_of(e) : i);
            })));
    while (pulled <= round % (limit / 2)) std::this_thread::yield();
    signal.emit(test::all_cancellation_types[round % 3]);
    const int got = code.get(); // a hang: a call waits that was not told
    BOOST_TEST((got == -1 || got == 1 + round % limit));
  }
}

// --- tokens, executors, lifetimes ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_token_gets_the_result) {
  test::token_matrix<first_signature>([] { return std::make_unique<waiting_first>(); }, expect_ten);
}

BOOST_AUTO_TEST_CASE(every_token_awaits_a_success_without_a_value) {
  test::token_matrix<first_of_nothing_signature>(
      [] { return std::make_unique<waiting_first_of_nothing>(); }, expect_success);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  test::executor_matrix([] { return std::make_unique<waiting_first>(); }, expect_ten);
}

BOOST_AUTO_TEST_CASE(every_cancellation_type_is_honoured_at_every_moment) {
  test::cancellation_matrix([] { return std::make_unique<waiting_first>(); }, expect_ten);
}

BOOST_AUTO_TEST_CASE(it_can_be_cancelled_at_any_time) {
  test::cancellation_race([] { return std::make_unique<waiting_first>(); }, expect_ten,
                          test::scaled(300));
}

BOOST_AUTO_TEST_CASE(without_an_executor_it_runs_where_the_handler_belongs) {
  asio::io_context io;
  int here = 0;
  auto body = [&]() -> asio::awaitable<void> {
    auto f = [&](int i) {
      here += io.get_executor().running_in_this_thread();
      if (i != 4) throw test::failure(i);
    };
    co_await async_first(std::views::iota(0, 100), 2, f, asio::use_awaitable);
  };
  asio::co_spawn(io, body(), asio::detached);
  run(io);
  BOOST_TEST(here == 5);
}

BOOST_AUTO_TEST_CASE(a_context_destroyed_in_the_middle_destroys_everything_uninvoked) {
  for (const bool after_a_success : {false, true}) {
    std::atomic<int> alive{0};
    bool invoked = false;
    {
      asio::io_context io;
      async_first(
          io, std::views::iota(0, 100), 10,
          [keep = test::live(alive), &alive,
           after_a_success](int i) -> asio::awaitable<std::shared_ptr<test::live>> {
            test::live here(alive);
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
            if (i != 9 || !after_a_success) co_await test::forever();
            co_return std::make_shared<test::live>(alive);
          },
          [keep = test::live(alive), &invoked](std::exception_ptr, std::shared_ptr<test::live>) {
            invoked = true;
          });
      test::poll(io);
      BOOST_TEST(alive > 10);
    }
    BOOST_TEST(alive == 0);
    BOOST_TEST(!invoked);
  }
}

BOOST_AUTO_TEST_CASE(a_call_lost_with_its_own_context_ends_it_unless_another_succeeds) {
  for (const bool another : {false, true}) {
    asio::io_context io;
    test::event go(io.get_executor());
    auto elsewhere = std::make_unique<asio::io_context>();
    std::optional<asio::steady_timer> timer(std::in_place, *elsewhere,
                                            asio::steady_timer::time_point::max());
    int begun = 0;
    auto f = [&](int i) -> asio::awaitable<int> {
      ++begun;
      if (i == 0)
        co_await timer->async_wait(asio::use_awaitable);
      else
        co_await go.wait();
      co_return 10 * i;
    };
    auto result = async_first(io, std::views::iota(0, 100), another ? 2 : 1, f, asio::use_future);
    test::poll(io);
    timer.reset();
    elsewhere.reset();
    go.set();
    run(io);
    if (another)
      BOOST_TEST(result.get() == 10);
    else
      BOOST_TEST(number_of(error_of(std::move(result))) == -1);
    BOOST_TEST(begun == (another ? 2 : 1));
  }
}

BOOST_AUTO_TEST_CASE(they_nest) {
  test::on_every_executor([](auto& place) {
    auto inner = [](int i) -> asio::awaitable<int> {
      co_await test::yield_turns(i % 3);
      if (i % 10 != 7) throw test::failure(i);
      co_return i;
    };
    auto outer = [&](int n) -> asio::awaitable<int> {
      co_return co_await async_first(std::views::iota(n, n + 10), 4, inner, asio::use_awaitable);
    };
    auto results = outcome_of(place, [&](auto token) {
      return bulkhead::async_map(place.executor(), std::views::iota(0, 40), 4, outer, token);
    });
    const auto v = results.get();
    for (int n = 0; n != 40; ++n) BOOST_TEST(v[n] == (n + 2) / 10 * 10 + 7);
  });
}

BOOST_AUTO_TEST_CASE(failures_of_a_nested_one_are_one_failure) {
  asio::io_context io;
  auto inner = [](int i) { throw test::failure(i); };
  auto outer = [&](int n) -> asio::awaitable<void> {
    co_await async_first(std::views::iota(0, n), 4, inner, asio::use_awaitable);
  };
  auto error = error_of([&] {
    auto done = async_first(io, std::views::iota(2, 3), 1, outer, asio::use_future);
    run(io);
    return done;
  }());
  BOOST_TEST((numbers_of(error).value() == numbers{-2}));
}
