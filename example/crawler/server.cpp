// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "server.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <exception>
#include <utility>

namespace crawler {
namespace {

using namespace asio::experimental::awaitable_operators;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

} // namespace

server::server(const web& w)
    : web_(w), acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
      endpoint_(acceptor_.local_endpoint()) {
  seen_.hosts.resize(w.hosts());
  seen_.visits.resize(w.hosts() * w.pages());
  asio::co_spawn(io_, accept(), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  thread_ = std::thread([this] { io_.run(); });
}

const testimony& server::stop() {
  io_.stop();
  if (thread_.joinable()) thread_.join();
  return seen_;
}

asio::awaitable<void> server::accept() {
  for (;;) {
    tcp::socket socket = co_await acceptor_.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(io_, serve(std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> server::serve(tcp::socket socket) {
  boost::beast::flat_buffer buffer;
  for (;;) {
    request r;
    const auto [not_read, read] = co_await http::async_read(socket, buffer, r, use_tuple);
    if (not_read) co_return;
    auto a = co_await answer(socket, r);
    if (!a) co_return;
    a->prepare_payload();
    const auto [not_sent, sent] = co_await http::async_write(socket, *a, use_tuple);
    if (not_sent || !a->keep_alive()) co_return;
  }
}

/// Empty if the connection is to be closed without.
asio::awaitable<std::optional<server::response>> server::answer(tcp::socket& socket,
                                                                const request& r) {
  const auto place = web_.find(r[http::field::host], r.target());
  if (!place) {
    ++seen_.strays;
    co_return response(http::status::not_found, r.version());
  }
  const example::in_progress one_of_all(seen_.all);
  const example::in_progress one_of_host(seen_.hosts[place->host]);
  ++seen_.visits[place->host * web_.pages() + place->page];

  const manner how = web_.manner_of(*place);
  asio::steady_timer timer(io_, web_.latency_of(*place));
  if (how == manner::never_answers) timer.expires_at(asio::steady_timer::time_point::max());
  // A client that waits for its answer sends nothing: what can be read before that is its end.
  const auto first = co_await (timer.async_wait(use_tuple) ||
                               socket.async_wait(tcp::socket::wait_read, use_tuple));
  if (first.index() == 1 || how == manner::hangs_up) co_return std::nullopt;

  if (how == manner::fails) co_return response(http::status::internal_server_error, r.version());
  response page(http::status::ok, r.version());
  page.set(http::field::content_type, "text/html");
  page.body() = web_.body_of(*place);
  co_return page;
}

} // namespace crawler
