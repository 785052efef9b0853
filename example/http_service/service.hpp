// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_HTTP_SERVICE_SERVICE_HPP
#define BULKHEAD_EXAMPLE_HTTP_SERVICE_SERVICE_HPP

#include "ledger.hpp"
#include "options.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <chrono>
#include <exception>
#include <string_view>

namespace http_service {

namespace asio = boost::asio;
namespace http = boost::beast::http;

using request = http::request<http::string_body>;
using response = http::response<http::string_body>;

/// Answers requests; knows nothing of connections. All of it runs on one executor that is a strand
/// or single-threaded, except the hashing, which runs on the pool.
///
/// Work is bounded three times. The semaphore bounds the tasks of all requests in progress and
/// refuses at once what does not fit, so that overload costs next to nothing. async_map bounds how
/// much of the pool one request may hold. The pool's own queue is the last line, if the two are
/// configured to let more through than it takes.
class service {
public:
  service(const asio::any_io_executor& ex, const options& o, const ledger& requests);

  asio::awaitable<response> answer(const request& r);

  /// From now on the service is not ready, but goes on to answer.
  void begin_drain() noexcept { draining_ = true; }

  /// Completes when the pool has nothing left to do. No request may be in progress.
  asio::awaitable<void> end_drain();

private:
  struct job {
    std::size_t tasks;
    std::uint64_t bytes;
  };

  job parse_job(std::string_view query) const;
  asio::awaitable<response> process(const request& r, std::string_view query);
  response ready() const;
  response stats() const;

  const options options_;
  const ledger& requests_;
  asio::any_io_executor executor_;
  bulkhead::semaphore admission_;
  bulkhead::pool pool_;
  bool draining_ = false;
};

} // namespace http_service

#endif
