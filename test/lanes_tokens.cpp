//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// async_submit and async_drain of a lane with every token.

#include "support/lanes.hpp"
#include "support/run.hpp"
#include "support/tokens.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lanes;
using test::code_of;
using test::expect_42;
using test::expect_no_error;
using test::make_drain;
using test::make_submit;
using test::submit_fixture;
using where = test::submit_fixture::where;
using submit_signature = void(std::exception_ptr, int);

namespace {

const auto nothing = [] {};

struct void_submit_fixture : submit_fixture {
  using submit_fixture::submit_fixture;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open] { g->wait(); };
    return l->async_submit(std::move(task), std::forward<Token>(token));
  }
};

struct move_only_submit_fixture : submit_fixture {
  using submit_fixture::submit_fixture;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open] {
      g->wait();
      return std::make_unique<int>(5);
    };
    return l->async_submit(std::move(task), std::forward<Token>(token));
  }
};

void expect_the_tasks_error(std::exception_ptr e, int) {
  BOOST_REQUIRE(e);
  BOOST_CHECK_EXCEPTION(std::rethrow_exception(e), std::runtime_error,
                        [](const auto& x) { return x.what() == std::string("from the task"); });
}

template <errc Wanted>
void expect_code(std::exception_ptr e, int) {
  BOOST_TEST(code_of(e) == error_code(Wanted));
}

} // namespace

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_task) {
  test::token_matrix<submit_signature>(make_submit(where::running), expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_queued_task) {
  test::token_matrix<submit_signature>(make_submit(where::queued), expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_after_waiting_for_room) {
  test::token_matrix<submit_signature>(make_submit(where::waiting), expect_42);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_exception_of_a_task) {
  test::token_matrix<submit_signature>(
      make_submit(where::running, [](submit_fixture& f) { f.throws = true; }),
      expect_the_tasks_error);
}

BOOST_AUTO_TEST_CASE(every_token_reports_queue_full) {
  const auto fill = [](submit_fixture& f) {
    f.l = f.set->open({.queue_limit = 1, .waiter_limit = 0});
    f.hold();
    BOOST_TEST(f.l->try_submit(nothing));
  };
  test::token_matrix<submit_signature>(make_submit(where::running, fill),
                                       expect_code<errc::queue_full>);
}

BOOST_AUTO_TEST_CASE(every_token_reports_closed) {
  const auto close = [](submit_fixture& f) { f.l->close(); };
  test::token_matrix<submit_signature>(make_submit(where::running, close),
                                       expect_code<errc::closed>);
}

BOOST_AUTO_TEST_CASE(every_token_completes_without_a_result) {
  test::token_matrix<void(std::exception_ptr)>(
      [] { return std::make_unique<void_submit_fixture>(where::running); },
      [](std::exception_ptr e) { BOOST_TEST(!e); });
}

BOOST_AUTO_TEST_CASE(every_token_gets_a_move_only_result) {
  test::token_matrix<void(std::exception_ptr, std::unique_ptr<int>)>(
      [] { return std::make_unique<move_only_submit_fixture>(where::queued); },
      [](std::exception_ptr e, std::unique_ptr<int> v) {
        BOOST_TEST(!e);
        BOOST_REQUIRE(v);
        BOOST_TEST(*v == 5);
      });
}

BOOST_AUTO_TEST_CASE(every_token_awaits_a_drain) {
  test::token_matrix<void(error_code)>(make_drain(true), expect_no_error);
}

BOOST_AUTO_TEST_CASE(every_token_awaits_the_drain_of_an_idle_lane) {
  test::token_matrix<void(error_code)>(make_drain(false), expect_no_error);
}

BOOST_AUTO_TEST_CASE(a_handler_that_is_an_lvalue_is_copied) {
  asio::io_context io;
  lanes l(io);
  const lane a = l.open();
  int calls = 0;
  auto handler = [&calls, owned = std::make_shared<int>(1)](auto...) { calls += *owned; };
  const auto constant = handler;
  for (int i = 0; i != 2; ++i) {
    a.async_submit(nothing, handler);
    a.async_submit(nothing, constant);
  }
  test::run(io);
  for (int i = 0; i != 2; ++i) {
    a.async_drain(handler);
    a.async_drain(constant);
    a.async_submit(nothing, handler); // refused
    a.async_submit(nothing, constant);
  }
  test::run(io);
  BOOST_TEST(calls == 12);
}
