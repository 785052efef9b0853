//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What one does with groups, one function for each section of the guide, doc/groups.adoc.

#include <bulkhead/error.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <ranges>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace this_coro = boost::asio::this_coro;
using namespace std::chrono_literals;
using asio::as_tuple;
using asio::use_awaitable;
using bulkhead::async_scope;
using bulkhead::errc;
using bulkhead::group_options;
using bulkhead::on_error;
using bulkhead::task_group;
using bulkhead::timeout;

// Stands for a request: for any operation that takes its time and can be cancelled.
asio::awaitable<void> request(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await this_coro::executor, time);
  co_await timer.async_wait(use_awaitable);
}

// One that fails.
asio::awaitable<void> failing_request(std::chrono::milliseconds time, std::string reason) {
  co_await request(time);
  throw std::runtime_error(reason);
}

// tag::fan_out[]
asio::awaitable<void> fan_out() {
  int sum = 0; // on one thread; on several, let it be an atomic
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    for (int i = 1; i <= 3; ++i)
      g.spawn([&sum, i]() -> asio::awaitable<void> {
        co_await request(1ms);
        sum += i;
      });
    co_return;
  };
  co_await async_scope(group_options(), body, use_awaitable);
  std::cout << "fan out: all children have ended, the sum is " << sum << "\n";
}
// end::fan_out[]

// tag::first_error[]
asio::awaitable<void> first_error() {
  int cancelled = 0;
  auto slow = [&]() -> asio::awaitable<void> {
    try {
      co_await request(1h);
    } catch (const bulkhead::system_error& e) {
      if (e.code() == asio::error::operation_aborted) ++cancelled;
      throw; // no failure, after a cancellation
    }
  };
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    g.spawn(slow);
    g.spawn(slow);
    g.spawn(failing_request(1ms, "no route to b"));
    co_await request(1h); // the body is cancelled too
  };
  try {
    co_await async_scope(group_options(), body, use_awaitable);
  } catch (const std::runtime_error& e) {
    std::cout << "first error: " << e.what() << ", cancelled: " << cancelled << "\n";
  }
}
// end::first_error[]

// tag::collect[]
asio::awaitable<void> collect() {
  int completed = 0;
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    g.spawn(failing_request(10ms, "b is full"));
    g.spawn(failing_request(1ms, "a is down"));
    g.spawn([&]() -> asio::awaitable<void> {
      co_await request(20ms);
      ++completed;
    });
    co_return;
  };
  try {
    co_await async_scope(group_options{.error = on_error::collect}, body, use_awaitable);
  } catch (const bulkhead::multiple_errors& several) { // a single failure arrives as itself
    for (const std::exception_ptr& failure : several.errors()) {
      try {
        std::rethrow_exception(failure);
      } catch (const std::exception& e) {
        std::cout << "collect: " << e.what() << "\n";
      }
    }
  }
  std::cout << "collect: completed in spite of that: " << completed << "\n";
}
// end::collect[]

// tag::limit[]
asio::awaitable<void> limit() {
  auto child = [] { return request(5ms); };
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    for (int i = 0; i != 3; ++i) g.spawn(child); // never waits: the third is pending
    std::cout << "limit: " << g.size() << " in flight, " << g.pending() << " pending\n";

    const bool accepted = g.try_spawn(child); // never waits: no, if it cannot start now
    std::cout << "limit: try_spawn says " << (accepted ? "yes" : "no") << "\n";

    co_await g.async_spawn(child); // waits for its turn
    std::cout << "limit: async_spawn has waited, " << g.size() << " in flight, " << g.pending()
              << " pending\n";
  };
  co_await async_scope(group_options{.limit = 2}, body, use_awaitable);
}
// end::limit[]

// tag::map[]
asio::awaitable<void> in_order() {
  const std::vector<std::string> hosts{"alpha", "b", "gamma"};
  auto length = [](const std::string& host) -> asio::awaitable<std::size_t> {
    co_await request(10ms / host.size()); // the shortest takes longest
    co_return host.size();
  };
  auto lengths = co_await bulkhead::async_map(hosts, 2, length, use_awaitable);
  std::cout << "in order:";
  for (std::size_t n : lengths) std::cout << " " << n;
  std::cout << "\n";
}
// end::map[]

// tag::for_each[]
asio::awaitable<void> side_effects() {
  std::size_t sent = 0, now = 0, most = 0;
  auto send = [&](int) -> asio::awaitable<void> {
    most = std::max(most, ++now);
    co_await request(1ms);
    --now;
    ++sent;
  };
  co_await bulkhead::async_for_each(std::views::iota(0, 100), 8, send, use_awaitable);
  std::cout << "for each: " << sent << " sent, at most " << most << " at a time\n";
}
// end::for_each[]

// tag::first[]
asio::awaitable<void> first_success() {
  const std::vector<std::string> mirrors{"broken", "slow", "fast"};
  auto fetch = [](const std::string& mirror) -> asio::awaitable<std::string> {
    if (mirror == "broken") co_await failing_request(1ms, "404");
    co_await request(mirror == "slow" ? 1h : 5ms);
    co_return "the page, from " + mirror;
  };
  std::cout << "first: " << co_await bulkhead::async_first(mirrors, 2, fetch, use_awaitable)
            << "\n";
}
// end::first[]

// tag::deadline[]
asio::awaitable<void> deadline() {
  int now = 0;
  auto child = [&]() -> asio::awaitable<void> {
    ++now;
    try {
      co_await request(1h);
    } catch (const bulkhead::system_error&) { // cancelled
    }
    --now;
  };
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    for (int i = 0; i != 3; ++i) g.spawn(child);
    co_return;
  };
  try {
    co_await async_scope(group_options(), body, timeout(20ms, use_awaitable));
  } catch (const bulkhead::system_error& e) {
    std::cout << "deadline: " << e.code().message() << ", children left: " << now << "\n";
  }
}
// end::deadline[]

// tag::shutdown[]
// Asked to stop, it saves what it has. It hears of a total cancellation because it says so.
asio::awaitable<void> polite() {
  co_await this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  asio::steady_timer next_job(co_await this_coro::executor, 1h);
  co_await next_job.async_wait(as_tuple(use_awaitable));
  co_await this_coro::reset_cancellation_state(); // or all that follows would throw
  co_await request(1ms);
  std::cout << "shutdown: the polite one has saved its work\n";
}

// A coroutine hears of terminal cancellations only, unless it says otherwise.
asio::awaitable<void> busy() { co_await request(1h); }

asio::awaitable<void> shut_down(task_group& g, std::chrono::milliseconds patience) {
  g.close();                                // no more children
  g.cancel(asio::cancellation_type::total); // who can, leaves in good order
  co_await g.async_join(timeout(patience, as_tuple(use_awaitable)));
  std::cout << "shutdown: " << g.size() << " left\n";
  g.cancel(); // terminal: leaves at once
  co_await g.async_join();
  std::cout << "shutdown: " << g.size() << " left\n";
}
// end::shutdown[]

asio::awaitable<void> graceful_shutdown() {
  task_group g(co_await this_coro::executor);
  g.spawn(polite());
  g.spawn(busy());
  co_await request(1ms); // they have begun
  co_await shut_down(g, 50ms);
}

// tag::nested[]
// All pages of one host, two at a time.
asio::awaitable<void> visit(std::string host, bool is_up) {
  int pages = 0;
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    for (int i = 0; i != 4; ++i)
      co_await g.async_spawn([&]() -> asio::awaitable<void> {
        co_await request(is_up ? 10ms : 1ms);
        if (!is_up) throw std::runtime_error("is down");
        ++pages;
      });
  };
  try {
    co_await async_scope(group_options{.limit = 2}, body, use_awaitable);
  } catch (const std::runtime_error& e) { // as far as this host is concerned
    std::cout << "nested: " << host << " " << e.what() << "\n";
    co_return;
  }
  std::cout << "nested: " << host << " has " << pages << " pages\n";
}

asio::awaitable<void> nested() {
  auto body = [](task_group& hosts) -> asio::awaitable<void> {
    hosts.spawn(visit("a", true));
    hosts.spawn(visit("b", false));
    co_return;
  };
  co_await async_scope(group_options(), body, use_awaitable);
}
// end::nested[]

// tag::server[]
class server {
public:
  explicit server(asio::any_io_executor ex) : sessions_(ex, group_options{.limit = 2}) {}

  // Whoever comes while two are served is refused.
  bool accept(int client) {
    return sessions_.try_spawn([this, client] { return serve(client); });
  }

  // To be awaited before the server is destroyed: the sessions use it.
  asio::awaitable<void> stop() {
    sessions_.close();
    co_await sessions_.async_join();
  }

  int served() const { return served_; }

private:
  // A failure is the client's own. One that left this function would cancel all sessions.
  asio::awaitable<void> serve(int client) {
    try {
      if (client == 1) throw std::runtime_error("client 1 has hung up");
      co_await request(5ms);
      ++served_;
    } catch (const std::runtime_error& e) {
      std::cout << "server: " << e.what() << "\n";
    }
  }

  int served_ = 0;
  task_group sessions_; // last, so that it goes first
};
// end::server[]

asio::awaitable<void> serve_clients() {
  server s(co_await this_coro::executor);
  for (int client = 1; client <= 3; ++client)
    std::cout << "server: client " << client << (s.accept(client) ? " accepted" : " refused")
              << "\n";
  co_await s.stop();
  std::cout << "server: stopped, served " << s.served() << ", accepts more: " << s.accept(4)
            << "\n";
}

// tag::functions[]
asio::awaitable<void> plain_functions() {
  bulkhead::pool cpu(2); // threads of their own: see "Traps"
  std::atomic<int> searching = 0, stopped = 0;
  auto search = [&](std::stop_token stop) {
    ++searching;
    while (!stop.stop_requested()) { // work, and look up now and then
    }
    ++stopped;
  };
  auto body = [&](task_group& g) -> asio::awaitable<void> {
    g.spawn(search);
    while (searching == 0) co_await request(1ms);
    g.spawn([] { throw std::runtime_error("found elsewhere"); });
  };
  try {
    co_await async_scope(cpu, group_options(), body, use_awaitable);
  } catch (const std::runtime_error& e) {
    std::cout << "functions: " << e.what() << ", " << stopped << " search was stopped\n";
  }
}
// end::functions[]

// tag::stackful[]
asio::awaitable<void> stackful() {
  int sum = 0; // here, and not in the body: children may go on after it
  auto body = [&](task_group& g, asio::yield_context yield) -> std::string {
    for (int i = 1; i <= 3; ++i)
      g.spawn([&sum, i](asio::yield_context y) {
        asio::steady_timer timer(y.get_executor(), 1ms);
        timer.async_wait(y);
        sum += i;
      });
    g.async_join(yield);
    return "the sum is " + std::to_string(sum);
  };
  std::string answer = co_await async_scope(group_options(), body, use_awaitable);
  std::cout << "stackful: " << answer << "\n";
}
// end::stackful[]

// tag::deadlock[]
asio::awaitable<void> deadlock() {
  auto body = [](task_group& g) -> asio::awaitable<void> {
    g.spawn([&g]() -> asio::awaitable<void> {
      // The only slot is its own, and would have to get free for this to go on.
      auto [ec] = co_await g.async_spawn([] {}, as_tuple(use_awaitable));
      std::cout << "deadlock: async_spawn: " << (ec == errc::would_deadlock) << "\n";
      try {
        co_await g.async_join(); // waits for itself
      } catch (const bulkhead::system_error& e) {
        std::cout << "deadlock: async_join: " << (e.code() == errc::would_deadlock) << "\n";
      }
    });
    co_return;
  };
  co_await async_scope(group_options{.limit = 1}, body, use_awaitable);
}
// end::deadlock[]

void run(asio::awaitable<void> (*section)()) {
  asio::io_context io;
  asio::co_spawn(io, section(), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  io.run();
}

int main() {
  std::cout << std::boolalpha;
  for (auto section :
       {fan_out, first_error, collect, limit, in_order, side_effects, first_success, deadline,
        graceful_shutdown, nested, serve_clients, plain_functions, stackful, deadlock})
    run(section);
}
