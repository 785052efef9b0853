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
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using bulkhead::async_for_each;
using bulkhead::async_map;
using bulkhead::error_code;
using test::error_of;
using test::number_of;
using test::outcome_of;
using test::run;

namespace {

using strings = std::vector<std::string>;

asio::awaitable<int> doubled_later(int i) {
  co_await test::yield_turns(1 + i % 3); // so that later elements overtake earlier ones
  co_return 2 * i;
}

/// A result that only its element makes.
struct made_of {
  explicit made_of(int n) : number(n) {}
  made_of() = delete;
  int number;
};

/// An input range that is pulled once, and counts how far it has been.
class counted_input {
public:
  counted_input(int size, std::atomic<int>& dereferenced) : size_(size), count_(&dereferenced) {}

  struct sentinel {};

  class iterator {
  public:
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    iterator() = default;
    explicit iterator(counted_input* r) : range_(r) {}
    iterator(iterator&&) = default;
    iterator& operator=(iterator&&) = default;

    int operator*() const {
      ++*range_->count_;
      return range_->position_;
    }
    iterator& operator++() {
      ++range_->position_;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, sentinel) { return i.range_->at_end(); }

  private:
    counted_input* range_ = nullptr;
  };

  iterator begin() { return iterator(this); }
  sentinel end() { return {}; }
  bool at_end() const { return position_ == size_; }

private:
  int size_;
  int position_ = 0;
  std::atomic<int>* count_;
};

static_assert(std::ranges::input_range<counted_input>);
static_assert(!std::ranges::forward_range<counted_input>);

/// A map over one element that waits until it is let go.
struct waiting_map {
  test::background background;
  test::event go{background.context().get_executor()};
  int elements[2] = {1, 2};

  template <class Token>
  auto initiate(Token&& token) {
    return async_map(
        background.context(), elements, 2,
        [this](int i) -> asio::awaitable<int> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          if (i == 1) co_await go.wait();
          co_return 10 * i;
        },
        std::forward<Token>(token));
  }
  void proceed() { go.set(); }
  void settle() { background.finish(); }
  bool on_own_executor() { return background.context().get_executor().running_in_this_thread(); }
};

struct waiting_for_each : waiting_map {
  template <class Token>
  auto initiate(Token&& token) {
    return async_for_each(
        background.context(), elements, 2,
        [this](int i) -> asio::awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          if (i == 1) co_await go.wait();
        },
        std::forward<Token>(token));
  }
};

const auto expect_results = [](std::exception_ptr e, std::vector<int> v) {
  BOOST_TEST(!e);
  BOOST_TEST((v == std::vector{10, 20}));
};
const auto expect_success = [](std::exception_ptr e) { BOOST_TEST(!e); };

using map_signature = void(std::exception_ptr, std::vector<int>);
using for_each_signature = void(std::exception_ptr);

} // namespace

// --- results ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(results_are_in_the_order_of_the_elements) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(place.executor(), std::views::iota(0, 200), 8, doubled_later, token);
    });
    std::vector<int> expected(200);
    for (int i = 0; i != 200; ++i) expected[i] = 2 * i;
    BOOST_TEST((results.get() == expected));
  });
}

BOOST_AUTO_TEST_CASE(the_limit_is_kept_and_reached) {
  test::on_every_executor([](auto& place) {
    test::occupancy inside;
    auto f = [&](int) -> asio::awaitable<void> {
      test::occupancy::visit here(inside);
      co_await test::yield_turns(5);
    };
    outcome_of(place, [&](auto token) {
      return async_for_each(place.executor(), std::views::iota(0, 300), 7, f, token);
    }).get();
    BOOST_TEST(inside.total() == 300);
    BOOST_TEST(inside.peak() <= 7);
    BOOST_TEST((place.parallel || inside.peak() == 7));
  });
}

BOOST_AUTO_TEST_CASE(f_may_be_a_plain_function) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::vector{3, 1, 2}, 2, [](int i) { return std::to_string(i); },
          token);
    });
    BOOST_TEST((results.get() == strings{"3", "1", "2"}));
  });
}

BOOST_AUTO_TEST_CASE(f_may_return_a_deferred_operation) {
  asio::io_context io;
  std::vector<asio::steady_timer> timers;
  for (int i = 0; i != 3; ++i) timers.emplace_back(io, std::chrono::nanoseconds(i));
  auto done = async_for_each(
      io, timers, 2, [](asio::steady_timer& t) { return t.async_wait(asio::deferred); },
      asio::use_future);
  run(io);
  BOOST_CHECK_NO_THROW(done.get());
}

BOOST_AUTO_TEST_CASE(the_value_of_a_deferred_operation_is_the_result) {
  asio::io_context io;
  bulkhead::semaphore s(io, 10);
  auto weights = async_map(
      io, std::views::iota(1u, 4u), 3,
      [&](unsigned w) { return s.async_acquire(w, asio::deferred); }, asio::use_future);
  run(io);
  const std::vector<bulkhead::permit> permits = weights.get();
  BOOST_TEST(permits.size() == 3u);
  BOOST_TEST(permits[2].weight() == 3u);
  BOOST_TEST(s.in_use() == 6u);
}

BOOST_AUTO_TEST_CASE(results_may_be_move_only) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::iota(0, 50), 4,
          [](int i) -> asio::awaitable<std::unique_ptr<int>> {
            co_await test::yield_turns();
            co_return std::make_unique<int>(i);
          },
          token);
    });
    const auto v = results.get();
    BOOST_TEST(v.size() == 50u);
    BOOST_TEST(*v[49] == 49);
  });
}

BOOST_AUTO_TEST_CASE(results_need_no_default_constructor) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::iota(0, 20), 4,
          [](int i) -> asio::awaitable<made_of> { co_return made_of(i); }, token);
    });
    BOOST_TEST(results.get().back().number == 19);
  });
}

BOOST_AUTO_TEST_CASE(results_may_be_bool) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::iota(0, 1000), 16, [](int i) { return i % 3 == 0; }, token);
    });
    const std::vector<bool> v = results.get();
    BOOST_TEST(v.size() == 1000u);
    BOOST_TEST(std::ranges::count(v, true) == 334);
  });
}

BOOST_AUTO_TEST_CASE(an_empty_range_completes_with_nothing) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(place.executor(), std::vector<int>(), 1, doubled_later, token);
    });
    BOOST_TEST(results.get().empty());
  });
}

BOOST_AUTO_TEST_CASE(an_unbounded_limit_is_allowed) {
  asio::io_context io;
  auto results =
      async_map(io, std::views::iota(0, 100), bulkhead::unbounded, doubled_later, asio::use_future);
  run(io);
  BOOST_TEST(results.get().size() == 100u);
}

BOOST_AUTO_TEST_CASE(a_limit_of_zero_is_refused_before_anything_begins) {
  asio::io_context io;
  int calls = 0;
  const auto f = [&](int i) { return calls += i; };
  const auto nothing = [](auto...) { BOOST_ERROR("completed"); };
  const auto says = [](const char* text) {
    return [text](const std::invalid_argument& e) { return std::string(e.what()) == text; };
  };
  BOOST_CHECK_EXCEPTION(async_map(io, std::vector{1}, 0, f, nothing), std::invalid_argument,
                        says("async_map: limit must be at least 1 (got 0)"));
  BOOST_CHECK_EXCEPTION(async_for_each(io, std::vector{1}, 0, f, nothing), std::invalid_argument,
                        says("async_for_each: limit must be at least 1 (got 0)"));
  run(io);
  BOOST_TEST(calls == 0);
}

// --- ranges -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_lvalue_range_is_referred_to) {
  test::on_every_executor([](auto& place) {
    std::vector<int> elements{1, 2, 3};
    outcome_of(place, [&](auto token) {
      return async_for_each(
          place.executor(), elements, 3, [](int& i) { i *= 10; }, token);
    }).get();
    BOOST_TEST((elements == std::vector{10, 20, 30}));
  });
}

BOOST_AUTO_TEST_CASE(an_rvalue_range_is_kept_until_the_end) {
  test::on_every_executor([](auto& place) {
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), strings{"a", "bb", "ccc"}, 3,
          [](const std::string& s) -> asio::awaitable<std::size_t> {
            co_await test::yield_turns(3);
            co_return s.size();
          },
          token);
    });
    BOOST_TEST((results.get() == std::vector<std::size_t>{1, 2, 3}));
  });
}

BOOST_AUTO_TEST_CASE(an_element_that_a_view_makes_is_kept_until_its_call_has_ended) {
  test::on_every_executor([](auto& place) {
    auto made = std::views::iota(0, 30) |
                std::views::transform([](int i) { return std::string(40, char('a' + i % 26)); });
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), made, 4,
          [](const std::string& s) -> asio::awaitable<char> {
            co_await test::yield_turns(3);
            co_return s.at(39);
          },
          token);
    });
    BOOST_TEST(results.get().at(27) == 'b');
  });
}

BOOST_AUTO_TEST_CASE(a_range_of_move_only_elements_can_be_consumed) {
  test::on_every_executor([](auto& place) {
    auto made = std::views::iota(0, 10) |
                std::views::transform([](int i) { return std::make_unique<int>(i); });
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), made, 3, [](std::unique_ptr<int> p) { return *p; }, token);
    });
    const auto v = results.get();
    BOOST_TEST(std::accumulate(v.begin(), v.end(), 0) == 45);
  });
}

BOOST_AUTO_TEST_CASE(an_input_range_is_pulled_once) {
  test::on_every_executor([](auto& place) {
    std::istringstream in("5 6 7 8");
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::istream<int>(in), 2,
          [](int i) -> asio::awaitable<int> {
            co_await test::yield_turns(2);
            co_return i;
          },
          token);
    });
    BOOST_TEST((results.get() == std::vector{5, 6, 7, 8}));
  });
}

BOOST_AUTO_TEST_CASE(the_range_is_pulled_no_further_than_the_limit_ahead) {
  test::on_every_executor([](auto& place) {
    constexpr int limit = 5;
    std::atomic<int> pulled{0};
    std::atomic<int> ended{0};
    std::atomic<bool> too_far{false};
    counted_input range(200, pulled);
    outcome_of(place, [&](auto token) {
      return async_for_each(
          place.executor(), range, limit,
          [&](int) -> asio::awaitable<void> {
            const int before = ended; // read first: it only grows
            if (pulled - before > limit && pulled - ended > limit) too_far = true;
            co_await test::yield_turns(2);
            ++ended;
          },
          token);
    }).get();
    BOOST_TEST(pulled == 200, "each element is dereferenced once");
    BOOST_TEST(!too_far);
  });
}

BOOST_AUTO_TEST_CASE(the_range_is_pulled_lazily) {
  asio::io_context io;
  std::atomic<int> pulled{0};
  counted_input range(100, pulled);
  test::event go(io.get_executor());
  bool done = false;
  async_for_each(
      io, range, 3, [&](int) -> asio::awaitable<void> { co_await go.wait(); },
      [&](std::exception_ptr e) { done = !e; });
  BOOST_TEST(pulled == 0, "the initiating function touches no element");
  test::poll(io);
  BOOST_TEST(pulled == 3);
  BOOST_TEST(!done);
  // The event lets one through at a time, each of which lets the next one through.
  go.set();
  run(io);
  BOOST_TEST(pulled == 100);
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(elements_are_pulled_by_one_thread_at_a_time) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> inside{0};
    std::atomic<bool> overlapped{false};
    auto range = std::views::iota(0, 2000) | std::views::transform([&](int i) {
                   if (++inside != 1) overlapped = true;
                   --inside;
                   return i;
                 });
    outcome_of(place, [&](auto token) {
      return async_for_each(
          place.executor(), range, 16, [](int) {}, token);
    }).get();
    BOOST_TEST(!overlapped);
  });
}

BOOST_AUTO_TEST_CASE(many_elements_do_not_recurse) {
  asio::io_context io;
  long sum = 0;
  const int n = test::scaled(200'000);
  auto done = async_for_each(
      io, std::views::iota(0, n), 1, [&](int) { ++sum; }, asio::use_future);
  run(io);
  done.get();
  BOOST_TEST(sum == n);
}

// --- failures -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_first_failure_is_reported_and_cancels_the_rest) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> begun{0};
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::iota(0, 1000), 4,
          [&](int i) -> asio::awaitable<int> {
            ++begun;
            if (i == 2) throw test::failure(7);
            co_await test::forever(); // ends because it is cancelled
            co_return i;
          },
          token);
    });
    BOOST_TEST(number_of(error_of(std::move(results))) == 7);
    BOOST_TEST(begun <= 4);
  });
}

BOOST_AUTO_TEST_CASE(a_failing_plain_function_ends_the_map) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> begun{0};
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), std::views::iota(0, 100000), 2,
          [&](int i) {
            ++begun;
            if (i >= 10) throw test::failure(3);
            return i;
          },
          token);
    });
    BOOST_TEST(number_of(error_of(std::move(results))) == 3);
    BOOST_TEST(begun <= 12);
  });
}

BOOST_AUTO_TEST_CASE(a_range_that_throws_fails_the_map_and_cancels_what_runs) {
  test::on_every_executor([](auto& place) {
    auto range = std::views::iota(0, 100) | std::views::transform([](int i) {
                   if (i == 3) throw test::failure(5);
                   return i;
                 });
    auto results = outcome_of(place, [&](auto token) {
      return async_map(
          place.executor(), range, 10,
          [](int i) -> asio::awaitable<int> {
            co_await test::forever();
            co_return i;
          },
          token);
    });
    BOOST_TEST(number_of(error_of(std::move(results))) == 5);
  });
}

BOOST_AUTO_TEST_CASE(no_call_outlives_its_map) {
  test::on_every_executor([](auto& place) {
    std::atomic<int> alive{0};
    auto body = [&]() -> asio::awaitable<void> {
      auto f = [&](int i) -> asio::awaitable<void> {
        test::live here(alive);
        co_await test::yield_turns(i % 4);
        if (i == 30) throw test::failure(1);
        co_await test::yield_turns(i % 5);
      };
      try {
        co_await async_for_each(std::views::iota(0, 64), 8, f, asio::use_awaitable);
      } catch (const test::failure&) {
      }
      BOOST_CHECK(alive == 0);
    };
    asio::co_spawn(place.executor(), body(), asio::detached);
    place.finish();
    BOOST_TEST(alive == 0);
  });
}

BOOST_AUTO_TEST_CASE(what_it_was_given_and_has_made_is_gone_before_the_handler_can_run) {
  for (const int fails : {1, 9}) {
    std::atomic<int> alive{0};
    int alive_at_the_end = -1;
    std::size_t results = 0;
    asio::io_context io;
    async_map(
        io, std::views::iota(0, 3) | std::views::transform([keep = test::live(alive)](int i) {
              return i;
            }),
        2,
        [keep = test::live(alive), &alive, fails](int i) {
          if (i == fails) throw test::failure(i);
          return std::make_shared<test::live>(alive);
        },
        asio::bind_executor(test::at_once(), [&](std::exception_ptr, auto v) {
          alive_at_the_end = alive;
          results = v.size();
        }));
    BOOST_TEST(alive == 2);
    run(io);
    BOOST_TEST(results == (fails == 9 ? 3u : 0u));
    BOOST_TEST(alive_at_the_end == static_cast<int>(results));
  }
}

BOOST_AUTO_TEST_CASE(cancellation_stops_the_calls_and_the_pulling) {
  for (auto type : test::all_cancellation_types) {
    asio::io_context io;
    asio::cancellation_signal signal;
    std::atomic<int> pulled{0};
    counted_input range(100, pulled);
    int code = 0;
    int stops = 0;
    async_for_each(
        io, range, 4,
        [&](int) -> asio::awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          try {
            co_await test::forever();
          } catch (...) {
            ++stops;
            throw;
          }
        },
        asio::bind_cancellation_slot(signal.slot(),
                                     [&](std::exception_ptr e) { code = number_of(e); }));
    test::poll(io);
    signal.emit(type);
    run(io);
    BOOST_TEST(code == -1);
    BOOST_TEST(pulled == 4);
    BOOST_TEST(stops == 4);
  }
}

BOOST_AUTO_TEST_CASE(no_call_begins_that_a_cancellation_has_missed) {
  test::background object;
  test::background handlers;
  const int limit = 24; // bounds what a round costs when this thread does not get its turn
  for (int round = 0; round != test::scaled(3000); ++round) {
    asio::cancellation_signal signal;
    std::atomic<int> pulled{0};
    test::slot<int> code;
    async_for_each(
        object.context(),
        std::views::iota(0) | std::views::transform([&](int) { return ++pulled; }), limit,
        [&](int) -> asio::awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          co_await test::forever();
        },
        asio::bind_cancellation_slot(
            signal.slot(), asio::bind_executor(handlers.context(), [&](std::exception_ptr e) {
              code.set_value(number_of(e));
            })));
    while (pulled <= round % (limit - 4)) std::this_thread::yield();
    signal.emit(test::all_cancellation_types[round % 3]);
    BOOST_TEST(code.get() == -1); // a hang: a call waits that was not told
  }
}

BOOST_AUTO_TEST_CASE(a_stop_token_is_asked_to_stop) {
  test::background background;
  asio::cancellation_signal signal;
  test::counter begun;
  std::promise<int> code;
  bulkhead::pool pool(2);
  async_for_each(
      pool, std::views::iota(0, 100), 2,
      [&](int, std::stop_token stop) {
        begun.add();
        test::gate stopped;
        std::stop_callback open(stop, [&] { stopped.open(); });
        stopped.wait();
      },
      asio::bind_cancellation_slot(
          signal.slot(), asio::bind_executor(background.context(), [&](std::exception_ptr e) {
            code.set_value(number_of(e));
          })));
  begun.wait_for(2);
  signal.emit(asio::cancellation_type::terminal);
  BOOST_TEST(code.get_future().get() == -1);
  BOOST_TEST(begun.value() == 2);
}

// --- tokens, executors, cancellation
// --------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_token_gets_the_results) {
  test::token_matrix<map_signature>([] { return std::make_unique<waiting_map>(); }, expect_results);
}

BOOST_AUTO_TEST_CASE(every_token_awaits_a_for_each) {
  test::token_matrix<for_each_signature>([] { return std::make_unique<waiting_for_each>(); },
                                         expect_success);
}

BOOST_AUTO_TEST_CASE(handlers_run_on_their_executor) {
  test::executor_matrix([] { return std::make_unique<waiting_map>(); }, expect_results);
}

BOOST_AUTO_TEST_CASE(a_map_can_be_cancelled_at_any_time) {
  test::cancellation_race([] { return std::make_unique<waiting_map>(); }, expect_results,
                          test::scaled(300));
}

BOOST_AUTO_TEST_CASE(without_an_executor_it_runs_where_the_handler_belongs) {
  asio::io_context io;
  int here = 0;
  auto body = [&]() -> asio::awaitable<void> {
    auto f = [&](int) { here += io.get_executor().running_in_this_thread(); };
    co_await async_for_each(std::views::iota(0, 5), 2, f, asio::use_awaitable);
  };
  asio::co_spawn(io, body(), asio::detached);
  run(io);
  BOOST_TEST(here == 5);
}

BOOST_AUTO_TEST_CASE(a_context_destroyed_in_the_middle_destroys_everything_uninvoked) {
  std::atomic<int> alive{0};
  bool invoked = false;
  {
    asio::io_context io;
    async_map(
        io, std::views::iota(0, 100), 10,
        [keep = test::live(alive), &alive](int i) -> asio::awaitable<int> {
          test::live here(alive);
          co_await test::forever();
          co_return i;
        },
        [keep = test::live(alive), &invoked](std::exception_ptr, std::vector<int>) {
          invoked = true;
        });
    test::poll(io);
    BOOST_TEST(alive > 10);
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(!invoked);
}

BOOST_AUTO_TEST_CASE(what_it_was_given_may_own_the_context_of_its_handler) {
  asio::io_context io;
  auto handlers = std::make_shared<asio::io_context>();
  const std::weak_ptr<asio::io_context> watch = handlers;
  int calls = 0, completed = 0;
  async_for_each(
      io, std::views::iota(0, 3), 1, [&calls, handlers](int) { ++calls; },
      asio::bind_executor(*handlers, [&](std::exception_ptr) { ++completed; }));
  handlers.reset();
  test::run(io);
  BOOST_TEST(calls == 3);
  BOOST_TEST(completed == 0);
  BOOST_TEST(watch.expired());
}

BOOST_AUTO_TEST_CASE(results_that_nobody_gets_may_own_the_context_of_their_handler) {
  asio::io_context io;
  auto handlers = std::make_shared<asio::io_context>();
  const std::weak_ptr<asio::io_context> watch = handlers;
  int completed = 0;
  async_map(
      io, std::views::iota(0, 2), 1,
      [&](int i) {
        if (i == 1) throw test::failure(i);
        return std::exchange(handlers, nullptr);
      },
      asio::bind_executor(*handlers, [&](std::exception_ptr, auto) { ++completed; }));
  test::run(io);
  BOOST_TEST(completed == 0);
  BOOST_TEST(watch.expired());
}

BOOST_AUTO_TEST_CASE(maps_nest_without_passing_through_one_another) {
  test::on_every_executor([](auto& place) {
    auto inner = [](int i) -> asio::awaitable<int> {
      co_await test::yield_turns(i % 3);
      co_return i;
    };
    auto outer = [&](int n) -> asio::awaitable<int> {
      auto v = co_await async_map(std::views::iota(0, n), 4, inner, asio::use_awaitable);
      co_return std::accumulate(v.begin(), v.end(), 0);
    };
    auto results = outcome_of(place, [&](auto token) {
      return async_map(place.executor(), std::views::iota(0, 40), 4, outer, token);
    });
    const auto v = results.get();
    for (int n = 0; n != 40; ++n) BOOST_TEST(v[n] == n * (n - 1) / 2);
  });
}

BOOST_AUTO_TEST_CASE(many_maps_at_one_time_lose_nothing) {
  test::on_every_executor([](auto& place) {
    std::atomic<long> sum{0};
    const int n = test::scaled(200);
    for (int m = 0; m != n; ++m)
      async_for_each(
          place.executor(), std::views::iota(0, 100), 5,
          [&](int i) -> asio::awaitable<void> {
            co_await test::yield_turns(i % 2);
            sum += i;
          },
          asio::detached);
    place.finish();
    BOOST_TEST(sum == n * 4950L);
  });
}
