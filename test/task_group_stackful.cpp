//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Groups whose children and bodies are stackful coroutines.

#include "support/cancellation.hpp"
#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"

#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <vector>

namespace asio = boost::asio;
using asio::awaitable;
using asio::yield_context;
using bulkhead::async_scope;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::group_options;
using bulkhead::on_error;
using bulkhead::task_group;
using test::ended_with;
using test::failure;
using test::live;
using test::number_of;
using test::occupancy;
using test::on_every_executor;

namespace {

void wait_forever(yield_context yield) {
  asio::steady_timer timer(yield.get_executor(), asio::steady_timer::time_point::max());
  timer.async_wait(yield);
}

void yield_turns(yield_context yield, int n = 1) {
  for (; n != 0; --n) asio::post(yield);
}

} // namespace

BOOST_AUTO_TEST_CASE(stackful_children_keep_the_limit_beside_others) {
  on_every_executor([](auto& place) {
    constexpr int n = 30, limit = 4;
    occupancy inside;
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != n; ++i) {
        g.spawn([&inside](yield_context yield) {
          occupancy::visit v(inside);
          yield_turns(yield, 3);
        });
        co_await g.async_spawn([&inside]() -> awaitable<void> {
          occupancy::visit v(inside);
          co_await test::yield_turns(2);
        });
      }
    };
    auto f = async_scope(place.executor(), group_options{.limit = limit}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.total() == 2 * n);
    BOOST_TEST(inside.now() == 0);
    BOOST_TEST(inside.peak() <= limit);
  });
}

BOOST_AUTO_TEST_CASE(a_stackful_child_that_throws_cancels_the_others) {
  on_every_executor([](auto& place) {
    occupancy inside;
    std::atomic<int> aborted{0};
    auto body = [&](task_group& g) -> awaitable<void> {
      for (int i = 0; i != 3; ++i)
        g.spawn([&](yield_context yield) {
          occupancy::visit v(inside);
          try {
            wait_forever(yield);
          } catch (const bulkhead::system_error& e) {
            if (e.code() == asio::error::operation_aborted) ++aborted;
            throw;
          }
        });
      while (inside.total() != 3) co_await test::yield_turns();
      g.spawn([](yield_context yield) {
        yield_turns(yield);
        throw failure(7);
      });
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 7);
    BOOST_TEST(aborted == 3);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_stackful_body_spawns_waits_joins_and_returns_a_result) {
  on_every_executor([](auto& place) {
    std::atomic<int> ended{0};
    auto body = [&](task_group& g, yield_context yield) -> std::string {
      for (int i = 0; i != 10; ++i)
        g.async_spawn(
            [&ended](yield_context y) {
              yield_turns(y, 2);
              ++ended;
            },
            yield);
      g.async_join(yield);
      return std::to_string(ended);
    };
    auto f = async_scope(place.executor(), group_options{.limit = 3}, body, asio::use_future);
    place.finish();
    BOOST_TEST(f.get() == "10");
  });
}

BOOST_AUTO_TEST_CASE(a_failing_child_cancels_a_stackful_body) {
  on_every_executor([](auto& place) {
    auto body = [](task_group& g, yield_context yield) {
      g.spawn([](yield_context y) {
        yield_turns(y);
        throw failure(3);
      });
      wait_forever(yield);
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 3);
  });
}

BOOST_AUTO_TEST_CASE(a_stackful_body_that_throws_cancels_its_children) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto body = [&](task_group& g, yield_context yield) {
      g.spawn([&](yield_context y) {
        occupancy::visit v(inside);
        wait_forever(y);
      });
      while (inside.total() != 1) yield_turns(yield);
      throw failure(5);
    };
    auto f = async_scope(place.executor(), group_options{bulkhead::unbounded, on_error::collect},
                         body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 5);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(cancelling_the_scope_cancels_a_stackful_body_and_children) {
  on_every_executor([](auto& place) {
    occupancy inside;
    asio::cancellation_signal cancel;
    std::promise<std::exception_ptr> ended;
    auto body = [&](task_group& g, yield_context yield) {
      g.spawn([&](yield_context y) {
        occupancy::visit v(inside);
        wait_forever(y);
      });
      while (inside.total() != 1) yield_turns(yield);
      occupancy::visit v(inside);
      asio::post(place.executor(), [&] { cancel.emit(asio::cancellation_type::terminal); });
      wait_forever(yield);
    };
    async_scope(place.executor(), group_options(), body,
                asio::bind_cancellation_slot(cancel.slot(),
                                             [&](std::exception_ptr e) { ended.set_value(e); }));
    place.finish();
    BOOST_TEST(number_of(ended.get_future().get()) == -1);
    BOOST_TEST(inside.total() == 2);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_stackful_child_may_ask_for_cancellations_of_every_type) {
  on_every_executor([](auto& place) {
    occupancy inside;
    auto body = [&](task_group& g) -> awaitable<void> {
      g.spawn([&](yield_context y) {
        y.reset_cancellation_state(asio::enable_total_cancellation());
        occupancy::visit v(inside);
        wait_forever(y);
      });
      while (inside.total() != 1) co_await test::yield_turns();
      co_await test::yield_turns(2);
      g.cancel(asio::cancellation_type::total);
    };
    auto f = async_scope(place.executor(), group_options(), body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(inside.now() == 0);
  });
}

BOOST_AUTO_TEST_CASE(scopes_nest_in_stackful_coroutines) {
  on_every_executor([](auto& place) {
    std::atomic<int> ended{0};
    auto inner = [&](task_group& g, yield_context) {
      for (int i = 0; i != 4; ++i)
        g.spawn([&ended](yield_context y) {
          yield_turns(y);
          ++ended;
        });
    };
    auto outer = [&](task_group& g, yield_context) {
      for (int i = 0; i != 4; ++i)
        g.spawn([&](yield_context y) {
          const int before = ended;
          async_scope(group_options(), inner, y);
          if (ended < before + 4) throw failure(1);
        });
    };
    auto f = async_scope(place.executor(), group_options(), outer, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(ended == 16);
  });
}

BOOST_AUTO_TEST_CASE(a_stackful_child_that_waits_in_vain_for_its_own_group_is_told) {
  on_every_executor([](auto& place) {
    std::atomic<int> told{0};
    auto body = [&](task_group& g, yield_context) {
      g.spawn([&](yield_context y) {
        error_code ec;
        g.async_spawn([] {}, y[ec]);
        if (ec == errc::would_deadlock) ++told;
        try {
          g.async_join(y);
        } catch (const bulkhead::system_error& e) {
          if (e.code() == errc::would_deadlock) ++told;
        }
      });
    };
    auto f = async_scope(place.executor(), group_options{.limit = 1}, body, asio::use_future);
    place.finish();
    BOOST_TEST(ended_with(f) == 0);
    BOOST_TEST(told == 2);
  });
}

BOOST_AUTO_TEST_CASE(shutdown_of_the_context_unwinds_stackful_children) {
  std::atomic<int> alive{0};
  {
    asio::io_context io;
    task_group g(io, group_options{.limit = 2});
    for (int i = 0; i != 4; ++i)
      g.spawn([l = live(alive), &alive](yield_context yield) {
        const live here(alive);
        wait_forever(yield);
      });
    test::poll(io);
    BOOST_TEST(alive == 6);
  }
  BOOST_TEST(alive == 0);
}
