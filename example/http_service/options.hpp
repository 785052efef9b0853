// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_HTTP_SERVICE_OPTIONS_HPP
#define BULKHEAD_EXAMPLE_HTTP_SERVICE_OPTIONS_HPP

#include <bulkhead/sizing.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>

namespace http_service {

struct options {
  std::uint16_t port = 8080;
  std::chrono::milliseconds drain{10'000};

  // the pool
  std::size_t pool_threads = bulkhead::available_parallelism();
  std::size_t pool_queue = 4096;
  std::size_t pool_waiters = 4096;

  // requests
  std::size_t capacity = 256; // tasks of all requests in progress
  std::size_t max_tasks = 64; // tasks of one request
  std::uint64_t max_bytes = 64 * 1024 * 1024;
  std::size_t request_parallelism = 8;
  std::chrono::milliseconds deadline{1000};

  // connections
  std::size_t max_connections = 900;
  std::uint32_t header_limit = 8 * 1024;
  std::uint64_t body_limit = 1024 * 1024;
  std::chrono::milliseconds read_timeout{10'000};
  std::chrono::milliseconds idle_timeout{60'000};
};

/// The options of the command line, else of the environment. Empty if only help was asked for,
/// which is then written to `help`. Throws an exception that names what it cannot take.
std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help);

} // namespace http_service

#endif
