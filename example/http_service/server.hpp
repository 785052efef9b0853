// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_HTTP_SERVICE_SERVER_HPP
#define BULKHEAD_EXAMPLE_HTTP_SERVICE_SERVER_HPP

#include "ledger.hpp"
#include "options.hpp"
#include "service.hpp"

#include <bulkhead/permit.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include <chrono>
#include <cstdint>
#include <unordered_set>
#include <utility>

namespace http_service {

namespace beast = boost::beast;
using clock = std::chrono::steady_clock;
using tcp = asio::ip::tcp;

/// The connections. A request is *accepted* once its header has been read, and every accepted
/// request is answered, unless its client goes away or the drain time is over.
///
/// At SIGTERM, connections that lie in the listen backlog are taken as well before the listener
/// closes, idle ones are closed, and the others close with their next answer. A connection that is
/// closed may have received a request that was not read; its client then gets a reset, or the end
/// of the stream, before any byte of an answer, and knows that it was not accepted.
class server {
public:
  /// Listens. `io` must be run by one thread; `requests` must outlive it.
  server(asio::io_context& io, const options& o, ledger& requests);

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  /// Serves until SIGTERM or SIGINT, then drains. A second signal ends the drain time.
  asio::awaitable<void> run();

  /// From the signal to the end of run().
  clock::duration drain_time() const noexcept { return drain_time_; }

private:
  struct connection {
    explicit connection(tcp::socket&& socket) : stream(std::move(socket)) {}

    beast::tcp_stream stream;
    beast::flat_buffer buffer;
    bool has_served = false;
  };

  asio::awaitable<void> accept_connections();
  void accept_backlog();
  void start_session(tcp::socket socket, bulkhead::permit slot);
  asio::awaitable<void> serve(tcp::socket socket, bulkhead::permit slot);
  asio::awaitable<bool> request_arrives(connection& c);
  asio::awaitable<bool> serve_request(connection& c);
  asio::awaitable<void> drain();
  asio::awaitable<bool> sessions_end_by(clock::time_point end);
  void close_idle_connections(bool fresh_ones_too);

  const options options_;
  ledger& requests_;
  service service_;
  tcp::acceptor acceptor_;
  asio::signal_set signals_;
  asio::steady_timer drain_timer_;
  bulkhead::semaphore connection_slots_;
  bulkhead::task_group sessions_;
  std::unordered_set<connection*> idle_; // wait for a request
  bool draining_ = false;
  clock::time_point drain_end_;
  clock::duration drain_time_{};
};

} // namespace http_service

#endif
