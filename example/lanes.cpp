//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What one does with lanes, one function for each section of the guide, doc/lanes.adoc.

#include <bulkhead/error.hpp>
#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <future>
#include <iostream>
#include <latch>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::use_awaitable;
using asio::use_future;
using bulkhead::lane;
using bulkhead::lane_options;
using bulkhead::lanes;

// tag::first[]
void first() {
  asio::io_context io;
  lanes all(io, {.concurrency = 1});
  lane mail = all.open({.name = "mail", .queue_limit = 100});
  lane search = all.open({.name = "search", .queue_limit = 100});

  std::size_t sent = 0, refused = 0;
  for (int i = 0; i != 1000; ++i)
    if (!mail.try_submit([&] { ++sent; })) ++refused; // the queue is full
  const bool accepted = search.try_submit([&] {       // that of another lane is not
    std::cout << "first: search has its turn when " << sent << " mails are sent\n";
  });
  io.run();
  std::cout << "first: " << sent << " mails sent, " << refused << " refused, search "
            << (accepted ? "accepted" : "refused") << "\n";
}
// end::first[]

// tag::weights[]
void weights() {
  asio::io_context io;
  lanes all(io, {.concurrency = 1});
  lane paying = all.open({.weight = 2}), trial = all.open({.weight = 1});

  std::string order;
  for (int i = 0; i != 100; ++i) asio::post(trial.get_executor(), [&] { order += 't'; });
  for (int i = 0; i != 100; ++i) asio::post(paying.get_executor(), [&] { order += 'p'; });
  io.run();
  std::cout << "weights: " << order.substr(0, 12) << "...\n";
}
// end::weights[]

// tag::waiting[]
asio::awaitable<void> waiting(lane l) {
  // Waits for room if the queue is full, then for its turn, and then for the result.
  int answer = co_await l.async_submit([] { return 6 * 7; }, use_awaitable);
  std::cout << "waiting: the answer is " << answer << "\n";

  // What has not started in time never does.
  std::promise<void> over;
  if (!l.try_submit([over = over.get_future().share()] { over.wait(); })) co_return;
  try {
    co_await l.async_submit([] { return 0; }, bulkhead::timeout(10ms, use_awaitable));
  } catch (const bulkhead::system_error& e) {
    std::cout << "waiting: " << e.code().message() << "\n";
  }
  over.set_value();
}
// end::waiting[]

void wait_for_turns() {
  bulkhead::pool pool(1);
  lanes all(pool, {.concurrency = 1});
  lane l = all.open();
  asio::io_context io;
  asio::co_spawn(io, waiting(l), asio::detached);
  io.run();
}

// tag::bulkheads[]
void bulkheads() {
  bulkhead::pool pool(4);
  lanes all(pool, {.concurrency = 4});
  lane database = all.open({.name = "database", .concurrency = 2});
  lane cache = all.open({.name = "cache"});

  std::latch is_down(2), is_up(1);
  for (int i = 0; i != 10; ++i)
    database.get_executor().execute([&, i] {
      if (i < 2) is_down.count_down();
      is_up.wait(); // the database hangs, and so does each thread that asks it
    });
  is_down.wait();

  int answers = 0;
  for (int i = 0; i != 100; ++i) answers += cache.async_submit([] { return 1; }, use_future).get();
  std::cout << "bulkheads: " << database.stats().in_flight << " threads hang, the cache has given "
            << answers << " answers\n";
  is_up.count_down();
  pool.join();
}
// end::bulkheads[]

// tag::priorities[]
std::size_t turns_of_low(double minimum_share) {
  asio::io_context io;
  lanes all(io, {.concurrency = 1, .minimum_share = minimum_share});
  lane high = all.open({.priority = 1}), low = all.open({.priority = 0});

  std::size_t turns = 0, had = 0;
  for (int i = 0; i != 1000; ++i) {
    asio::post(high.get_executor(), [&] { ++turns; });
    asio::post(low.get_executor(), [&] {
      if (++turns <= 1000) ++had;
    });
  }
  io.run();
  return had;
}

void priorities() {
  std::cout << "priorities: the low one had " << turns_of_low(0) << " of 1000 turns, and with 5 % "
            << turns_of_low(0.05) << "\n";
}
// end::priorities[]

// tag::tenants[]
void many_tenants() {
  asio::io_context io;
  bulkhead::tenants<std::string> tenants(io, {.concurrency = 1}, [](const std::string& name) {
    return lane_options{.weight = name == "acme" ? 4.0 : 1.0, .queue_limit = 10};
  });

  std::size_t refused = 0;
  for (int i = 0; i != 1000; ++i)
    if (!tenants.try_submit("greedy", [] {})) ++refused;
  for (int i = 0; i != 100; ++i)
    if (!tenants.try_submit("guest " + std::to_string(i), [] {})) ++refused;
  std::cout << "tenants: " << tenants.size() << " lanes, " << refused << " refused\n";
  io.run();
  tenants.evict_idle(); // new tenants do that too, a few at a time
  std::cout << "tenants: " << tenants.size() << " lanes left, " << tenants.stats().completed
            << " completed\n";
}
// end::tenants[]

// tag::shards[]
void sharding() {
  bulkhead::pool pool(4);
  bulkhead::shards accounts(pool, 64);

  std::array<long, 1000> balance{}; // each of one account, whose tasks never overlap
  for (int i = 0; i != 100'000; ++i) {
    const int account = i % 1000;
    asio::post(accounts.get_executor(account),
               [&b = balance[static_cast<std::size_t>(account)], i] { b = 3 * b % 1009 + i; });
  }
  pool.join();

  std::array<long, 1000> expected{};
  for (int i = 0; i != 100'000; ++i) {
    long& b = expected[static_cast<std::size_t>(i % 1000)];
    b = 3 * b % 1009 + i;
  }
  std::cout << "shards: " << (balance == expected ? "as if one by one" : "out of order") << "\n";
}
// end::shards[]

// tag::strand[]
void strand() {
  bulkhead::pool pool(4);
  auto ex = bulkhead::limit_concurrency(pool.get_executor(), 1);

  int steps = 0; // guarded by the executor, which runs one handler at a time
  auto walker = [&]() -> asio::awaitable<void> {
    asio::steady_timer pause(co_await asio::this_coro::executor);
    for (int i = 0; i != 50; ++i) {
      pause.expires_after(0ms);
      co_await pause.async_wait(use_awaitable);
      ++steps;
    }
  };
  for (int i = 0; i != 20; ++i) asio::co_spawn(ex, walker, asio::detached);
  pool.join();
  std::cout << "strand: " << steps << " steps\n";
}
// end::strand[]

// tag::drain[]
asio::awaitable<void> drain(lane l) {
  co_await l.async_drain(use_awaitable); // closes it, and waits for what was admitted
  std::cout << "drain: " << l.stats().completed << " completed, takes more: " << l.try_submit([] {})
            << "\n";
}
// end::drain[]

void drain_one() {
  asio::io_context io;
  lanes all(io, {.concurrency = 1});
  lane l = all.open();
  for (int i = 0; i != 10; ++i)
    if (!l.try_submit([] {})) throw std::runtime_error("no room");
  asio::co_spawn(io, drain(l), asio::detached);
  io.run();
}

// tag::coroutines[]
// A coroutine that waits for something else is not in flight: here all five are where one may run.
void coroutines() {
  asio::io_context io;
  lanes all(io, {.concurrency = 1});
  lane l = all.open();
  int inside = 0, most = 0;
  auto request = [&]() -> asio::awaitable<void> {
    most = std::max(most, ++inside);
    asio::steady_timer answer(co_await asio::this_coro::executor, 1ms);
    co_await answer.async_wait(use_awaitable);
    --inside;
  };
  for (int i = 0; i != 5; ++i) asio::co_spawn(l.get_executor(), request, asio::detached);
  io.run();
  std::cout << "coroutines: " << most << " requests at one time\n";
}
// end::coroutines[]

int main() {
  first();
  weights();
  wait_for_turns();
  bulkheads();
  priorities();
  many_tenants();
  sharding();
  strand();
  drain_one();
  coroutines();
}
