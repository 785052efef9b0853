//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Optimised in every build, as what is looked for is an address that the compiler keeps.

#include <bulkhead/detail/per_thread.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <exception>
#include <memory>

namespace asio = boost::asio;

namespace {

/// Two threads, which know their numbers.
struct two_threads {
  two_threads() {
    for (int i : {0, 1}) asio::post(threads[i], asio::use_future([i] { number() = i; })).get();
  }

  /// The other may still be about to leave the post() that woke it, as ThreadSanitizer saw.
  ~two_threads() {
    for (auto& thread : threads) thread.join();
  }

  static int& number() noexcept { return bulkhead::detail::per_thread<int, two_threads>::get(); }

  std::array<asio::thread_pool, 2> threads{asio::thread_pool(1), asio::thread_pool(1)};
};

constexpr int steps = 10;

} // namespace

BOOST_AUTO_TEST_CASE(a_coroutine_finds_what_is_of_the_thread_in_which_it_goes_on) {
  two_threads t;
  const int strays =
      asio::co_spawn(
          t.threads[0],
          [&]() -> asio::awaitable<int> {
            int n = 0;
            for (int i = 0; i != steps; ++i) {
              co_await asio::post(asio::bind_executor(t.threads[i % 2], asio::use_awaitable_t<>()));
              n += t.number() != i % 2;
            }
            co_return n;
          },
          asio::use_future)
          .get();
  BOOST_TEST(strays == 0);
}

BOOST_AUTO_TEST_CASE(so_does_a_stackful_coroutine) {
  two_threads t;
  int strays = 0;
  asio::spawn(
      t.threads[0], std::allocator_arg, boost::context::fixedsize_stack(),
      [&](asio::yield_context yield) {
        for (int i = 0; i != steps; ++i) {
          asio::post(asio::bind_executor(t.threads[i % 2], yield));
          strays += t.number() != i % 2;
        }
      },
      asio::use_future)
      .get();
  BOOST_TEST(strays == 0);
}
