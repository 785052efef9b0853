//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The program that README.md shows.

// tag::readme[]
#include <bulkhead.hpp>

#include <boost/asio.hpp>

#include <iostream>
#include <ranges>

namespace asio = boost::asio;

asio::awaitable<void> answer(bulkhead::pool& cpu, bulkhead::semaphore& admission, int n) {
  auto admitted = admission.try_acquire(n); // by weight; or async_acquire, which waits in line
  if (!admitted) {
    std::cout << n << " squares refused: " << admitted.error().code.message() << "\n";
    co_return;
  }
  auto square = [&](int i) { return cpu.async_submit([i] { return i * i; }, asio::deferred); };
  auto squares =
      co_await bulkhead::async_map(std::views::iota(0, n), 4, square, asio::use_awaitable);
  std::cout << n << " squares, the last is " << squares.back() << "\n";
} // the permit goes back

int main() {
  asio::io_context io; // the server's own thread
  bulkhead::pool cpu(bulkhead::threads_from_env("POOL_THREADS", bulkhead::available_parallelism()));
  bulkhead::semaphore admission(io, 100);
  asio::co_spawn(io, answer(cpu, admission, 10), asio::detached);
  asio::co_spawn(io, answer(cpu, admission, 1000), asio::detached);
  io.run();
}
// end::readme[]
