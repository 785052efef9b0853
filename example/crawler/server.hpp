// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_CRAWLER_SERVER_HPP
#define BULKHEAD_EXAMPLE_CRAWLER_SERVER_HPP

#include "../support/gauge.hpp"
#include "web.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

namespace crawler {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

/// What the server has seen.
struct testimony {
  example::gauge all;
  std::vector<example::gauge> hosts;
  std::vector<std::uint32_t> visits; // of each page of each host
  std::uint64_t strays = 0;          // requests for what there is not
};

/// Serves a web on a port of 127.0.0.1, and a thread of its own, to whoever comes. Hosts are told
/// apart by the Host header.
///
/// It is the witness of what the crawler does. So nothing here uses Bulkhead: a defect of the
/// library cannot hide behind itself.
class server {
public:
  explicit server(const web& w);
  ~server() { stop(); }

  const tcp::endpoint& endpoint() const noexcept { return endpoint_; }

  /// Ends the thread. Only then there is something to be read.
  const testimony& stop();

private:
  using request = http::request<http::empty_body>;
  using response = http::response<http::string_body>;

  asio::awaitable<void> accept();
  asio::awaitable<void> serve(tcp::socket socket);
  asio::awaitable<std::optional<response>> answer(tcp::socket& socket, const request& r);

  const web& web_;
  testimony seen_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  const tcp::endpoint endpoint_; // for other threads
  std::thread thread_;
};

} // namespace crawler

#endif
