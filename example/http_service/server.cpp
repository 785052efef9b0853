// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "server.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <tuple>
#include <utility>

namespace http_service {
namespace {

using boost::system::error_code;
using boost::system::system_error;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

/// How long a connection may stay silent that was made just before SIGTERM: long enough for the
/// request that its client is about to send.
constexpr auto first_request_grace = 200ms;

/// How long we wait for the client to close, after we did.
constexpr auto linger = 1s;

/// Bytes of a request that are read before we look at it: the whole of it, mostly.
constexpr std::size_t first_read = 4096;

/// Whether what came is not HTTP, or too long. Otherwise the connection failed or ended.
bool is_malformed(error_code ec) {
  return ec.category() == make_error_code(http::error{}).category() &&
         ec != http::error::end_of_stream && ec != http::error::partial_message;
}

response explain_malformed(error_code ec) {
  http::status status = http::status::bad_request;
  if (ec == http::error::header_limit) status = http::status::request_header_fields_too_large;
  if (ec == http::error::body_limit) status = http::status::payload_too_large;
  response r(status, 11);
  r.set(http::field::content_type, "text/plain");
  r.body() = ec.message() + '\n';
  return r;
}

asio::awaitable<void> invite_body(beast::tcp_stream& stream, const request& r) {
  if (!beast::iequals(r[http::field::expect], "100-continue")) co_return;
  http::response<http::empty_body> invitation(http::status::continue_, 11);
  co_await http::async_write(stream, invitation, asio::use_awaitable);
}

asio::awaitable<void> write(beast::tcp_stream& stream, response& r, const request& to) {
  r.set(http::field::server, "http_service");
  r.prepare_payload();
  if (to.method() == http::verb::head) r.body().clear();
  co_await http::async_write(stream, r, asio::use_awaitable);
}

/// Closes so that the last answer arrives. If unread bytes of the client lay in the socket when it
/// is closed, a reset would follow the answer and could overtake it.
asio::awaitable<void> close_after_answer(beast::tcp_stream& stream) {
  stream.socket().shutdown(tcp::socket::shutdown_send);
  stream.expires_after(linger);
  char discarded[1024];
  for (;;) co_await stream.async_read_some(asio::buffer(discarded), asio::use_awaitable);
}

} // namespace

server::server(asio::io_context& io, const options& o, ledger& requests)
    : options_(o), requests_(requests), service_(io.get_executor(), o, requests_),
      acceptor_(io, tcp::endpoint(asio::ip::address_v4::loopback(), o.port)),
      signals_(io, SIGTERM, SIGINT), drain_timer_(io), connection_slots_(io, o.max_connections),
      sessions_(io, bulkhead::group_options{.error = bulkhead::on_error::collect}) {}

asio::awaitable<void> server::run() {
  co_await (accept_connections() || signals_.async_wait(asio::use_awaitable));
  co_await drain();
}

/// Ends by cancellation.
asio::awaitable<void> server::accept_connections() {
  for (;;) {
    // Too many connections: those that follow wait in the listen backlog.
    bulkhead::permit slot = co_await connection_slots_.async_acquire(asio::use_awaitable);
    auto [error, socket] = co_await acceptor_.async_accept(use_tuple);
    if (!error) {
      start_session(std::move(socket), std::move(slot));
      continue;
    }
    // Most likely out of descriptors. At once, the next attempt would fail as well.
    asio::steady_timer pause(acceptor_.get_executor(), 100ms);
    co_await pause.async_wait(asio::use_awaitable);
  }
}

/// Their clients took us for open, and some have sent their request already: so also beyond
/// --max-connections, which is why they still lie there. What the system will not let us take is
/// reset when the listener closes.
void server::accept_backlog() {
  acceptor_.non_blocking(true);
  for (;;) {
    error_code error;
    tcp::socket socket = acceptor_.accept(error);
    if (error) return;
    start_session(std::move(socket), {});
  }
}

void server::start_session(tcp::socket socket, bulkhead::permit slot) {
  sessions_.spawn(serve(std::move(socket), std::move(slot)));
}

asio::awaitable<void> server::serve(tcp::socket socket, bulkhead::permit) try {
  connection c(std::move(socket));
  c.stream.socket().set_option(tcp::no_delay(true));
  for (bool open = true; open;) {
    if (!co_await request_arrives(c)) co_return;
    open = co_await serve_request(c);
  }
  co_await close_after_answer(c.stream);
} catch (const system_error&) {
  // The client went away or was too slow, or the drain time is over.
} catch (const std::exception& e) {
  std::cerr << "http_service: " << e.what() << std::endl;
}

/// False if the connection is to be closed without.
asio::awaitable<bool> server::request_arrives(connection& c) {
  if (c.buffer.size() != 0) co_return true; // came together with the last one

  if (!draining_ || !c.has_served) {
    c.stream.expires_after(options_.idle_timeout);
    idle_.insert(&c);
    const auto [error, n] =
        co_await c.stream.async_read_some(c.buffer.prepare(first_read), use_tuple);
    idle_.erase(&c);
    c.buffer.commit(n);
    if (error != asio::error::operation_aborted) co_return !error;
  }

  // Draining. What the kernel has received is still served; the client may count on nothing else.
  error_code error;
  co_return c.stream.socket().available(error) > 0;
}

/// False if the connection is to be closed now that the request has its answer.
asio::awaitable<bool> server::serve_request(connection& c) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(options_.header_limit);
  parser.body_limit(options_.body_limit);
  c.stream.expires_after(options_.read_timeout);
  auto [error, size] = co_await http::async_read_header(c.stream, c.buffer, parser, use_tuple);
  if (error && !is_malformed(error)) throw system_error(error);

  accepted_request accepted(requests_);
  c.has_served = true;
  if (!error) {
    co_await invite_body(c.stream, parser.get());
    std::tie(error, size) = co_await http::async_read(c.stream, c.buffer, parser, use_tuple);
    if (error && !is_malformed(error)) throw system_error(error);
  }

  response answer;
  if (error)
    answer = explain_malformed(error);
  else
    answer = co_await service_.answer(parser.get());
  answer.version(parser.get().version());
  answer.keep_alive(!error && parser.keep_alive() && !draining_);
  c.stream.expires_after(options_.read_timeout);
  co_await write(c.stream, answer, parser.get());
  accepted.answered(answer.result());
  co_return answer.keep_alive();
}

asio::awaitable<void> server::drain() {
  const auto start = clock::now();
  drain_end_ = start + options_.drain;
  draining_ = true;
  service_.begin_drain();
  accept_backlog();
  acceptor_.close();

  // A second signal ends the time that is left, whatever is waited for when it comes.
  signals_.async_wait([this](error_code error, int) {
    if (error) return;
    drain_end_ = clock::now();
    drain_timer_.cancel();
  });

  // Connections first: until the last request is answered, it may still send tasks to the pool.
  close_idle_connections(false);
  bool ended = co_await sessions_end_by(start + first_request_grace);
  close_idle_connections(true);
  if (!ended) ended = co_await sessions_end_by(drain_end_);
  if (!ended) sessions_.cancel();
  co_await sessions_.async_join(asio::use_awaitable);
  signals_.cancel();
  co_await service_.end_drain();
  drain_time_ = clock::now() - start;
}

asio::awaitable<bool> server::sessions_end_by(clock::time_point end) {
  drain_timer_.expires_at(std::min(end, drain_end_));
  const auto first =
      co_await (sessions_.async_join(use_tuple) || drain_timer_.async_wait(use_tuple));
  co_return first.index() == 0;
}

void server::close_idle_connections(bool fresh_ones_too) {
  for (connection* c : idle_)
    if (c->has_served || fresh_ones_too) c->stream.cancel();
}

} // namespace http_service
