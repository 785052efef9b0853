//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What every consumer under test/consume builds: a permit, a map over the pool, completion tokens.

#include <bulkhead.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <vector>

namespace asio = boost::asio;

int main() {
  bulkhead::pool pool(2);
  bulkhead::semaphore semaphore(pool, 1);
  bulkhead::permit permit = semaphore.async_acquire(asio::use_future).get();

  const std::vector<int> numbers{1, 2, 3};
  auto doubled = [&](int n) { return pool.async_submit([n] { return 2 * n; }, asio::deferred); };
  auto result = bulkhead::async_map(pool, numbers, 2, doubled, asio::use_future).get();

  bulkhead::keyed<std::string> hosts(
      [&](const std::string&) { return bulkhead::semaphore(pool, 1); });
  asio::steady_timer timer(pool, std::chrono::milliseconds(1));
  timer
      .async_wait(bulkhead::limited_by(hosts["a"],
                                       bulkhead::timeout(std::chrono::hours(1), asio::use_future)))
      .get();

  std::cout << "Bulkhead " BULKHEAD_VERSION_STRING "\n";
  return permit && result == std::vector<int>{2, 4, 6} ? 0 : 1;
}
