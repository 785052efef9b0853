// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/hang_up.hpp"
#include "fanout.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>

#include <csignal>
#include <cstdio>
#include <utility>

namespace webhook_fanout {
namespace {

using boost::system::error_code;
using boost::system::system_error;
using namespace asio::experimental::awaitable_operators;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

} // namespace

fanout::fanout(asio::io_context& io, const options& o, const servers& to)
    : io_(io), options_(o), servers_(to), in_flight_(io, o.in_flight),
      per_subscriber_(
          [this](std::size_t) { return bulkhead::semaphore(io_, options_.per_subscriber); }),
      delivered_(o.events * o.subscribers) {
  for (std::size_t n = 0; n != o.events; ++n)
    events_.push_back({n, R"({"type": "order.paid", "event": )" + std::to_string(n) + "}"});
}

asio::awaitable<void> fanout::run() {
  asio::signal_set signals(io_, SIGINT, SIGTERM);
  start_ = clock::now();
  last_.fill(start_);
  const auto all = [this](bulkhead::task_group& deliveries) -> asio::awaitable<void> {
    for (std::size_t subscriber = 0; subscriber != options_.subscribers; ++subscriber)
      for (const event& e : events_) {
        deliveries.spawn(deliver(e, subscriber));
        ++published_;
      }
    co_return;
  };
  // A signal ends the scope, and with that all deliveries. As tuples, because operator|| would take
  // an exception for a reason to go on waiting.
  const auto first = co_await (bulkhead::async_scope(bulkhead::group_options{}, all, use_tuple) ||
                               signals.async_wait(use_tuple));
  interrupted_ = first.index() == 1;
  if (interrupted_) co_return;
  if (const auto& [failure] = std::get<0>(first); failure) std::rethrow_exception(failure);
}

asio::awaitable<void> fanout::deliver(const event& e, std::size_t subscriber) {
  // The adaptors, from the inside: a permit of the subscriber comes first, then one of all, then the
  // time begins to run. In the other order of the permits, what is meant for one subscriber that is
  // slow or dead could hold all of those for all, and the others would get nothing meanwhile. With
  // the timeout further inside, deliveries would time out in line.
  const auto [error, answer] = co_await asio::co_spawn(
      io_, post(e, subscriber),
      bulkhead::timeout(
          options_.timeout,
          bulkhead::limited_by(in_flight_,
                               bulkhead::limited_by(per_subscriber_[subscriber], use_tuple))));
  count(error, answer, e.number, subscriber);
}

/// Throws what ends the fan-out.
void fanout::count(const std::exception_ptr& error, http::status answer, std::size_t event,
                   std::size_t subscriber) {
  const kind k = kind_of(subscriber);
  tally& t = tallies_[static_cast<std::size_t>(k)];
  try {
    if (error) std::rethrow_exception(error);
    const bool taken = http::to_status_class(answer) == http::status_class::successful;
    ++(taken ? t.delivered : t.http_errors);
    delivered_[event * options_.subscribers + subscriber] = taken;
  } catch (const system_error& e) {
    if (e.code() == asio::error::operation_aborted) throw;
    ++(e.code() == bulkhead::errc::deadline_exceeded ? t.timed_out
       : e.code() == asio::error::connection_refused ? t.refused
                                                     : t.connection_errors);
  }
  last_[static_cast<std::size_t>(k)] = clock::now();
  const std::uint64_t made = result().made();
  if (options_.progress && made % 100 == 0)
    std::fprintf(stderr, "%ju of %ju deliveries made\n", std::uintmax_t{made},
                 std::uintmax_t{published_});
}

asio::awaitable<http::status> fanout::post(const event& e, std::size_t subscriber) {
  const kind k = kind_of(subscriber);
  connection_ptr c = co_await connect(k);
  http::request<http::string_body> request(http::verb::post,
                                           "/subscriber/" + std::to_string(subscriber), 11, e.body);
  request.set(http::field::host, "127.0.0.1:" + std::to_string(servers_.endpoint(k).port()));
  request.set(http::field::user_agent, "bulkhead-webhook-fanout");
  request.set(http::field::content_type, "application/json");
  request.set("Webhook-Id", std::to_string(e.number));
  request.prepare_payload();
  http::response<http::string_body> answer;
  error_code error;
  try {
    co_await http::async_write(c->socket, request, asio::use_awaitable);
    co_await http::async_read(c->socket, c->buffer, answer, asio::use_awaitable);
  } catch (const system_error& s) {
    error = s.code();
  }
  if (error) {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await example::hang_up(c->socket);
    throw system_error(error);
  }
  if (answer.keep_alive()) idle_[static_cast<std::size_t>(k)].push_back(std::move(c));
  co_return answer.result();
}

/// A server keeps an idle connection open for as long as we do. With others, a request that finds its
/// connection closed would have to be sent again on a new one.
asio::awaitable<fanout::connection_ptr> fanout::connect(kind k) {
  auto& idle = idle_[static_cast<std::size_t>(k)];
  connection_ptr c;
  if (!idle.empty()) {
    c = std::move(idle.back());
    idle.pop_back();
  } else {
    c = std::make_unique<connection>(io_);
    co_await c->socket.async_connect(servers_.endpoint(k), asio::use_awaitable);
    c->socket.set_option(tcp::no_delay(true));
  }
  co_return c;
}

tally fanout::result() const {
  tally sum;
  for (const tally& t : tallies_) sum += t;
  return sum;
}

} // namespace webhook_fanout
