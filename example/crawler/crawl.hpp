// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_CRAWLER_CRAWL_HPP
#define BULKHEAD_EXAMPLE_CRAWLER_CRAWL_HPP

#include "options.hpp"
#include "url.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace crawler {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

/// What became of the pages that were found.
struct tally {
  std::uint64_t found = 0;
  std::uint64_t fetched = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t http_errors = 0;
  std::uint64_t connection_errors = 0;

  std::uint64_t visited() const { return fetched + timed_out + http_errors + connection_errors; }
};

/// One crawl: from a page along all links, to each page once.
///
/// It bounds what it asks of others twice: the requests in flight over all, and those to one host. As
/// every page that is found has a coroutine at once, which waits in line for its permits, those lines
/// are the list of what is still to do, and there is no other.
class crawl {
public:
  /// `io` must be run by one thread. All hosts are taken to be at `server`.
  crawl(asio::io_context& io, const options& o, tcp::endpoint server);

  /// Until there is nothing left to visit, or SIGINT or SIGTERM comes. No request is in flight then.
  asio::awaitable<void> run(url start);

  bool interrupted() const noexcept { return interrupted_; }
  const tally& result() const noexcept { return tally_; }

private:
  struct connection {
    explicit connection(asio::io_context& io) : socket(io) {}

    tcp::socket socket;
    boost::beast::flat_buffer buffer;
  };

  using connection_ptr = std::unique_ptr<connection>;
  using response = http::response<http::string_body>;

  void visit_once(url page, bulkhead::task_group& visits);
  asio::awaitable<void> visit(url page, bulkhead::task_group& visits);
  asio::awaitable<response> fetch(url page);
  asio::awaitable<connection_ptr> connect();
  std::uint64_t& entry_for(const std::exception_ptr& error, http::status status);
  asio::awaitable<void> show_progress() const;

  asio::io_context& io_;
  const options options_;
  const tcp::endpoint server_;
  bulkhead::semaphore in_flight_;
  bulkhead::keyed<std::string, bulkhead::semaphore> per_host_;
  std::set<url> found_;
  std::vector<connection_ptr> idle_;
  tally tally_;
  bool interrupted_ = false;
};

} // namespace crawler

#endif
