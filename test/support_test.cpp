//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The test support, tried on Asio's own operations.

#include "support/allocators.hpp"
#include "support/run.hpp"
#include "support/tokens.hpp"
#include "support/tracker_executor.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/test/unit_test.hpp>

#include <memory>
#include <new>
#include <vector>

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

struct channel_fixture {
  using channel = asio::experimental::concurrent_channel<void(error_code, int)>;

  test::background object;
  test::tracker_executor<asio::io_context::executor_type> executor{test::object_id,
                                                                   object.context().get_executor()};
  std::unique_ptr<channel> c = std::make_unique<channel>(executor, 1);

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return c->async_receive(std::forward<Token>(token));
  }

  void proceed() { c->try_send(error_code(), 42); }
  void settle() { object.finish(); }
  bool on_own_executor() const { return test::current_executor() == test::object_id; }
};

auto make_channel = [] { return std::make_unique<channel_fixture>(); };
auto expect_42 = [](error_code ec, int n) {
  BOOST_TEST(!ec);
  BOOST_TEST(n == 42);
};

struct timer_fixture {
  test::background object;
  asio::steady_timer timer{object.context(), asio::steady_timer::time_point::min()};

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return timer.async_wait(std::forward<Token>(token));
  }

  void proceed() {}
  void settle() { object.finish(); }
};

} // namespace

BOOST_AUTO_TEST_CASE(a_tracker_executor_is_an_executor) {
  using tracker = test::tracker_executor<asio::io_context::executor_type>;
  static_assert(asio::execution::is_executor_v<tracker>);
  static_assert(std::is_convertible_v<tracker, asio::any_io_executor>);
  static_assert(asio::can_require_v<tracker, asio::execution::blocking_t::never_t>);
  static_assert(asio::can_require_v<tracker, asio::execution::outstanding_work_t::tracked_t>);

  asio::io_context context;
  tracker a(1, context.get_executor());
  BOOST_TEST((a == a));
  BOOST_TEST((a != tracker(2, context.get_executor())));
  BOOST_TEST((&asio::query(a, asio::execution::context) == &context));

  // prefer() on an executor whose properties can only be preferred
  test::tracker_executor<asio::any_io_executor> erased(1, context.get_executor());
  auto work = asio::prefer(erased, asio::execution::outstanding_work.tracked);
  BOOST_TEST(context.poll() == 0u);
  BOOST_TEST(!context.stopped());
  BOOST_TEST(work.id() == 1);
}

BOOST_AUTO_TEST_CASE(a_function_knows_its_executor) {
  asio::io_context context;
  test::tracker_executor one(1, context.get_executor());
  test::tracker_executor two(2, context.get_executor());
  std::vector<int> seen;
  asio::post(one, [&] {
    seen.push_back(test::current_executor());
    asio::dispatch(two, [&] { seen.push_back(test::current_executor()); });
    seen.push_back(test::current_executor());
  });
  asio::post(asio::any_io_executor(two), [&] { seen.push_back(test::current_executor()); });
  BOOST_TEST(test::current_executor() == 0);
  test::run(context);
  BOOST_TEST(seen == (std::vector<int>{1, 2, 1, 2}));
}

BOOST_AUTO_TEST_CASE(a_function_called_by_its_initiation_knows_it) {
  asio::io_context context;
  test::tracker_executor one(1, context.get_executor());
  int inside = 0;
  asio::post(context, [&] {
    test::initiation_scope scope;
    asio::dispatch(one, [&] { inside += test::in_initiation(); });
    asio::post(one, [&] { inside += 10 * test::in_initiation(); });
  });
  test::run(context);
  BOOST_TEST(inside == 1);
}

BOOST_AUTO_TEST_CASE(a_counting_allocator_sees_the_memory_of_an_operation) {
  asio::io_context context;
  test::memory_balance memory;
  long at_entry = -1;
  asio::post(context, asio::bind_allocator(test::counting_allocator<int>(memory),
                                           [&] { at_entry = memory.blocks; }));
  BOOST_TEST(memory.blocks == 1);
  test::run(context);
  BOOST_TEST(at_entry == 0);
  BOOST_TEST(memory.allocations == 1);
  BOOST_TEST(memory.bytes == 0);
}

BOOST_AUTO_TEST_CASE(a_throwing_allocator_throws_where_it_is_told) {
  test::allocation_fuse fuse;
  test::memory_balance memory;
  test::throwing_allocator<int> a(fuse, memory);
  fuse.arm(1);
  std::vector<int, test::throwing_allocator<int>> v(a);
  v.push_back(1);
  BOOST_CHECK_THROW(v.push_back(2), std::bad_alloc);
  v.push_back(2);
  BOOST_TEST(fuse.failures == 1);
}

BOOST_AUTO_TEST_CASE(the_token_matrix_runs_a_channel) {
  test::token_matrix<void(error_code, int)>(make_channel, expect_42);
}

BOOST_AUTO_TEST_CASE(the_token_matrix_runs_a_timer) {
  test::token_matrix<void(error_code)>([] { return std::make_unique<timer_fixture>(); },
                                       [](error_code ec) { BOOST_TEST(!ec); });
}

BOOST_AUTO_TEST_CASE(the_executor_matrix_runs_a_channel) {
  test::executor_matrix(make_channel, [](error_code, int) {});
}
