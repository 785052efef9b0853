// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "servers.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <exception>
#include <string_view>
#include <utility>

namespace webhook_fanout {
namespace {

using namespace asio::experimental::awaitable_operators;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

} // namespace

servers::servers(const options& o) : options_(o) {
  seen_.subscribers.resize(o.subscribers);
  seen_.visits.resize(o.events * o.subscribers);
  for (const kind k : all_kinds) {
    tcp::acceptor& a = acceptors_.emplace_back(io_, tcp::v4());
    a.bind(tcp::endpoint(asio::ip::address_v4::loopback(), 0)); // the port is ours from here on
    endpoints_[static_cast<std::size_t>(k)] = a.local_endpoint();
    if (k != kind::absent) a.listen();
  }
  for (const kind k : all_kinds) {
    if (k == kind::absent) continue;
    asio::co_spawn(io_, accept(k), [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    });
  }
  thread_ = std::thread([this] { io_.run(); });
}

const testimony& servers::stop() {
  io_.stop();
  if (thread_.joinable()) thread_.join();
  return seen_;
}

asio::awaitable<void> servers::accept(kind k) {
  for (;;) {
    tcp::acceptor& acceptor = acceptors_[static_cast<std::size_t>(k)];
    tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(io_, serve(k, std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> servers::serve(kind k, tcp::socket socket) {
  boost::beast::flat_buffer buffer;
  for (;;) {
    request r;
    const auto [not_read, read] = co_await http::async_read(socket, buffer, r, use_tuple);
    if (not_read) co_return;
    auto a = co_await answer(k, socket, r);
    if (!a) co_return;
    a->prepare_payload();
    const auto [not_sent, sent] = co_await http::async_write(socket, *a, use_tuple);
    if (not_sent || !a->keep_alive()) co_return;
  }
}

/// Empty if the connection is to be closed without.
asio::awaitable<std::optional<servers::response>> servers::answer(kind k, tcp::socket& socket,
                                                                  const request& r) {
  const auto d = find(k, r);
  if (!d) {
    ++seen_.strays;
    co_return response(http::status::not_found, r.version());
  }
  const example::in_progress one_of_all(seen_.all);
  const example::in_progress one_of_subscriber(seen_.subscribers[d->subscriber]);
  ++seen_.visits[d->event * options_.subscribers + d->subscriber];

  asio::steady_timer timer(io_, k == kind::slow ? options_.slow : options_.latency);
  if (k == kind::silent) timer.expires_at(asio::steady_timer::time_point::max());
  // A client that waits for its answer sends nothing: what can be read before that is its end.
  const auto first = co_await (timer.async_wait(use_tuple) ||
                               socket.async_wait(tcp::socket::wait_read, use_tuple));
  if (first.index() == 1) co_return std::nullopt;
  const bool fails = k == kind::failing;
  co_return response(fails ? http::status::internal_server_error : http::status::no_content,
                     r.version());
}

/// What is delivered: "POST /subscriber/17", with "Webhook-Id: 2".
std::optional<servers::delivery> servers::find(kind k, const request& r) const try {
  constexpr std::string_view prefix = "/subscriber/";
  const std::string_view target(r.target().data(), r.target().size());
  if (r.method() != http::verb::post || !target.starts_with(prefix)) return std::nullopt;
  const std::size_t subscriber = example::parse_number("subscriber", target.substr(prefix.size()),
                                                       0, options_.subscribers - 1);
  const auto id = r["Webhook-Id"];
  const std::size_t event =
      example::parse_number("event", {id.data(), id.size()}, 0, options_.events - 1);
  if (kind_of(subscriber) != k) return std::nullopt;
  return delivery{event, subscriber};
} catch (const example::bad_number&) {
  return std::nullopt;
}

} // namespace webhook_fanout
