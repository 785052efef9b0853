//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// I/O on the pool's own executor: a TCP echo over loopback, and a timer.

#include "contenders.hpp"
#include "coroutine.hpp"
#include "measure.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <vector>

namespace bench {
namespace {

using asio::use_awaitable;
using asio::ip::tcp;
using message = std::array<char, 64>;

asio::awaitable<void> echo(tcp::socket& socket, std::size_t messages) {
  message m{};
  for (std::size_t i = 0; i < messages; ++i) {
    co_await asio::async_read(socket, asio::buffer(m), use_awaitable);
    co_await asio::async_write(socket, asio::buffer(m), use_awaitable);
  }
}

/// Warms up with a tenth more, and then measures.
template <class Step>
asio::awaitable<void> repeat(std::size_t times, report& r, Step step) {
  for (std::size_t i = 0; i < times / 10; ++i) co_await step();
  std::vector<double> samples;
  samples.reserve(times);
  stopwatch watch;
  for (std::size_t i = 0; i < times; ++i) {
    auto start = clock::now();
    co_await step();
    samples.push_back(std::chrono::duration<double, std::nano>(clock::now() - start).count());
  }
  r.add_per_task(watch.read(), times);
  r.add_distribution(samples);
}

template <class Pool>
void tcp_echo(const options& o, report& r) {
  const auto trips = o.count("tasks", 20'000);
  Pool pool(o.threads());
  auto ex = pool.get_executor();
  tcp::acceptor acceptor(ex, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  tcp::socket client(ex), server(ex);
  client.connect(acceptor.local_endpoint());
  acceptor.accept(server);
  for (auto* s : {&client, &server}) s->set_option(tcp::no_delay(true));

  asio::co_spawn(ex, echo(server, trips / 10 + trips), [](std::exception_ptr) {});
  auto round_trip = [&client, m = message{}]() mutable -> asio::awaitable<void> {
    co_await asio::async_write(client, asio::buffer(m), use_awaitable);
    co_await asio::async_read(client, asio::buffer(m), use_awaitable);
  };
  run_to_end(ex, repeat(trips, r, round_trip));
}

template <class Pool>
void timer(const options& o, report& r) {
  Pool pool(o.threads());
  asio::steady_timer t(pool.get_executor());
  auto expire = [&t]() -> asio::awaitable<void> {
    t.expires_after(1us);
    co_await t.async_wait(use_awaitable);
  };
  run_to_end(pool.get_executor(), repeat(o.count("tasks", 10'000), r, expire));
}

template <class... Pool>
struct contenders {
  static constexpr measurement rows[] = {{"echo", Pool::name, tcp_echo<Pool>}...,
                                         {"timer", Pool::name, timer<Pool>}...};
};

} // namespace

std::vector<measurement> io() {
  std::vector<measurement> all;
  append(all, contenders<bulkhead_pool, asio_pool, asio_pool_1>::rows);
  return all;
}

} // namespace bench
