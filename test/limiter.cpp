//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limiter.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/result.hpp>
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <string>

namespace asio = boost::asio;
using bulkhead::error_code;
using bulkhead::permit;
using bulkhead::rejection;

namespace {

using result = boost::system::result<permit, rejection>;

struct waits_only {
  template <class Token>
  auto async_acquire(std::size_t, Token&&);
  template <class Token>
  auto async_acquire(Token&&);
};

struct tries_only {
  result try_acquire(std::size_t = 1);
};

struct hands_out_something_else : waits_only {
  bool try_acquire(std::size_t = 1);
};

struct knows_no_weight {
  result try_acquire();
  template <class Token>
  auto async_acquire(Token&&);
};

struct complete {
  result try_acquire(std::size_t = 1) { return permit(); }
  template <class Token>
  auto async_acquire(std::size_t, Token&& token) {
    return asio::async_initiate<Token, void(error_code, permit)>([](auto&&) {}, token);
  }
  template <class Token>
  auto async_acquire(Token&& token) {
    return async_acquire(1, std::forward<Token>(token));
  }
};

} // namespace

static_assert(bulkhead::limiter<bulkhead::semaphore>);
static_assert(bulkhead::limiter<bulkhead::basic_semaphore<asio::io_context::executor_type>>);
static_assert(bulkhead::limiter<bulkhead::keyed<std::string>::handle>);
static_assert(bulkhead::limiter<complete>);

static_assert(!bulkhead::limiter<int>);
static_assert(!bulkhead::limiter<permit>);
static_assert(!bulkhead::limiter<bulkhead::pool>);
static_assert(!bulkhead::limiter<bulkhead::keyed<std::string>>); // it wants a key
static_assert(!bulkhead::limiter<waits_only>);
static_assert(!bulkhead::limiter<tries_only>);
static_assert(!bulkhead::limiter<hands_out_something_else>);
static_assert(!bulkhead::limiter<knows_no_weight>);

static_assert(bulkhead::evictable_limiter<bulkhead::semaphore>);
static_assert(!bulkhead::evictable_limiter<complete>); // it cannot say when it is idle

BOOST_AUTO_TEST_CASE(what_satisfies_the_concept_is_seen_by_the_compiler) { BOOST_TEST(true); }
