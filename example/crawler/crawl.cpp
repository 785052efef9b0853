// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/hang_up.hpp"
#include "crawl.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <tuple>
#include <utility>

#include <unistd.h>

namespace crawler {
namespace {

using boost::system::error_code;
using boost::system::system_error;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

} // namespace

crawl::crawl(asio::io_context& io, const options& o, tcp::endpoint server)
    : io_(io), options_(o), server_(server), in_flight_(io, o.in_flight),
      per_host_(
          [this](const std::string&) { return bulkhead::semaphore(io_, options_.per_host); }) {}

asio::awaitable<void> crawl::run(url start) {
  asio::signal_set signals(io_, SIGINT, SIGTERM);
  const auto all = [&](bulkhead::task_group& visits) -> asio::awaitable<void> {
    visit_once(start, visits);
    co_return;
  };
  // What ends first cancels the rest, and waits for it: a signal ends the scope, and with that all
  // visits. As tuples, because operator|| would take an exception for a reason to go on waiting.
  const auto first = co_await (bulkhead::async_scope(bulkhead::group_options{}, all, use_tuple) ||
                               signals.async_wait(use_tuple) || show_progress());
  interrupted_ = first.index() != 0;
  if (interrupted_) co_return;
  if (const auto& [failure] = std::get<0>(first); failure) std::rethrow_exception(failure);
}

void crawl::visit_once(url page, bulkhead::task_group& visits) {
  if (!found_.insert(page).second) return;
  ++tally_.found;
  visits.spawn(visit(std::move(page), visits));
}

asio::awaitable<void> crawl::visit(url page, bulkhead::task_group& visits) {
  // The adaptors, from the inside: a permit of the host comes first, then one of all, then the time
  // begins to run. In the other order of the permits, the pages of one slow host could hold all of
  // those for all while they wait for their host. With the timeout further inside, pages would time
  // out in line.
  const auto [error, answer] = co_await asio::co_spawn(
      io_, fetch(page),
      bulkhead::timeout(
          options_.timeout,
          bulkhead::limited_by(in_flight_, bulkhead::limited_by(per_host_[page.host], use_tuple))));

  ++entry_for(error, answer.result());
  if (error || answer.result() != http::status::ok) co_return;
  for (url& link : links_in(answer.body(), page)) visit_once(std::move(link), visits);
}

/// Where a visit is counted. Throws what ends the crawl.
std::uint64_t& crawl::entry_for(const std::exception_ptr& error, http::status status) try {
  if (error) std::rethrow_exception(error);
  return status == http::status::ok ? tally_.fetched : tally_.http_errors;
} catch (const system_error& e) {
  if (e.code() == asio::error::operation_aborted) throw;
  if (e.code() == bulkhead::errc::deadline_exceeded) return tally_.timed_out;
  return tally_.connection_errors;
}

asio::awaitable<crawl::response> crawl::fetch(url page) {
  connection_ptr c = co_await connect();
  http::request<http::empty_body> request(http::verb::get, page.target, 11);
  request.set(http::field::host, page.host);
  request.set(http::field::user_agent, "bulkhead-crawler");
  response answer;
  error_code error;
  try {
    co_await http::async_write(c->socket, request, asio::use_awaitable);
    co_await http::async_read(c->socket, c->buffer, answer, asio::use_awaitable);
  } catch (const system_error& e) {
    error = e.code();
  }
  if (error) {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await example::hang_up(c->socket);
    throw system_error(error);
  }
  if (answer.keep_alive()) idle_.push_back(std::move(c));
  co_return answer;
}

/// All hosts are at one address, so that a connection serves any of them, and there are never more
/// than requests in flight. This server keeps an idle one open for as long as we do; with another,
/// a request that finds its connection closed would have to be sent again on a new one.
asio::awaitable<crawl::connection_ptr> crawl::connect() {
  connection_ptr c;
  if (!idle_.empty()) {
    c = std::move(idle_.back());
    idle_.pop_back();
  } else {
    c = std::make_unique<connection>(io_);
    co_await c->socket.async_connect(server_, asio::use_awaitable);
    c->socket.set_option(tcp::no_delay(true));
  }
  co_return c;
}

/// On a line that is overwritten, and in the end erased; a log gets one line after the other. Ends
/// by cancellation.
asio::awaitable<void> crawl::show_progress() const {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  asio::steady_timer timer(io_);
  error_code cancelled;
  while (!cancelled) {
    timer.expires_after(200ms);
    std::tie(cancelled) = co_await timer.async_wait(use_tuple);
    if (cancelled || !(terminal || options_.progress)) continue;
    std::fprintf(stderr, "%s%ju of %ju pages visited, %zu in flight%s", terminal ? "\r\033[K" : "",
                 std::uintmax_t{tally_.visited()}, std::uintmax_t{tally_.found},
                 in_flight_.in_use(), terminal ? "" : "\n");
  }
  if (terminal) std::fputs("\r\033[K", stderr);
}

} // namespace crawler
