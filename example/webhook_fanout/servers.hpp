// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_SERVERS_HPP
#define BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_SERVERS_HPP

#include "../support/gauge.hpp"
#include "options.hpp"
#include "subscribers.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

namespace webhook_fanout {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

/// What the servers have seen.
struct testimony {
  example::gauge all;
  std::vector<example::gauge> subscribers;
  std::vector<std::uint32_t> visits; // of each event to each subscriber
  std::uint64_t strays = 0;          // requests for what there is not, or not at that port
};

/// The subscribers: a server for those of each kind, on ports of 127.0.0.1 and a thread of their own.
/// One of many is told from the others by its path. At the port of the absent one nobody listens.
///
/// They are the witnesses of what the fan-out does. So nothing here uses Bulkhead: a defect of the
/// library cannot hide behind itself.
class servers {
public:
  explicit servers(const options& o);
  ~servers() { stop(); }

  const tcp::endpoint& endpoint(kind k) const { return endpoints_[static_cast<std::size_t>(k)]; }

  /// Ends the thread. Only then there is something to be read.
  const testimony& stop();

private:
  using request = http::request<http::string_body>;
  using response = http::response<http::string_body>;

  struct delivery {
    std::size_t event;
    std::size_t subscriber;
  };

  asio::awaitable<void> accept(kind k);
  asio::awaitable<void> serve(kind k, tcp::socket socket);
  asio::awaitable<std::optional<response>> answer(kind k, tcp::socket& socket, const request& r);
  std::optional<delivery> find(kind k, const request& r) const;

  const options options_;
  testimony seen_;
  asio::io_context io_;
  std::vector<tcp::acceptor> acceptors_;
  std::array<tcp::endpoint, kinds> endpoints_; // for other threads
  std::thread thread_;
};

} // namespace webhook_fanout

#endif
