//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What a limit and a deadline around an operation mean, in either order.

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::as_tuple;
using asio::use_awaitable;
using bulkhead::limited_by;
using bulkhead::timeout;

// tag::hold[]
asio::awaitable<void> hold(bulkhead::semaphore& s, std::chrono::milliseconds duration) {
  bulkhead::permit p = co_await s.async_acquire(use_awaitable);
  asio::steady_timer timer(co_await asio::this_coro::executor, duration);
  co_await timer.async_wait(use_awaitable);
} // the permit goes back
// end::hold[]

// The operations are waits for a timer, which can stand for any operation of Asio.
asio::awaitable<void> compare(bulkhead::semaphore& s) {
  asio::steady_timer query(co_await asio::this_coro::executor);

  // tag::inside[]
  asio::co_spawn(co_await asio::this_coro::executor, hold(s, 200ms), asio::detached);
  query.expires_after(10ms);
  auto [e1] = co_await query.async_wait(limited_by(s, timeout(100ms, as_tuple(use_awaitable))));
  std::cout << "limited_by(s, timeout(100ms)): " << e1.message() << "\n";
  // end::inside[]

  // tag::around[]
  query.expires_after(10ms);
  auto [e2] = co_await query.async_wait(timeout(100ms, limited_by(s, as_tuple(use_awaitable))));
  std::cout << "timeout(100ms, limited_by(s)): " << e2.message() << "\n";
  // end::around[]
}

// tag::keyed[]
asio::awaitable<void> per_host(asio::io_context& io) {
  bulkhead::keyed<std::string> hosts(
      [&](const std::string&) { return bulkhead::semaphore(io, 10); });
  asio::steady_timer request(io, 1ms);
  co_await request.async_wait(limited_by(hosts["example.com"], use_awaitable));
  std::cout << "hosts that are kept: " << hosts.size() << ", evicted: " << hosts.evict_idle()
            << "\n";
}
// end::keyed[]

int main() {
  asio::io_context io;
  bulkhead::semaphore s(io, 1);
  asio::co_spawn(io, compare(s), asio::detached);
  io.run();
  io.restart();
  asio::co_spawn(io, per_host(io), asio::detached);
  io.run();
}
