// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "options.hpp"

#include <limits>
#include <string>

namespace http_service {

std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help) {
  constexpr std::uint64_t million = 1'000'000;
  constexpr std::uint64_t day = 24 * 3600 * 1000;

  options o;
  example::command_line line(
      "http_service [options], or PORT, POOL_THREADS, ... in the environment");
  line.number("port", o.port, 0, 65535, "port on 127.0.0.1; 0 picks a free one")
      .number("drain-ms", o.drain, 1, day, "time for accepted requests after SIGTERM")
      .number("pool-threads", o.pool_threads, 1, 1024, "threads that hash")
      .number("pool-queue", o.pool_queue, 1, million, "tasks that may be queued")
      .number("pool-waiters", o.pool_waiters, 1, million, "tasks that may wait for the queue")
      .number("capacity", o.capacity, 1, million, "tasks of all requests in progress")
      .number("max-tasks", o.max_tasks, 1, million, "tasks of one request")
      .number("max-bytes", o.max_bytes, 1, std::numeric_limits<std::int64_t>::max(),
              "bytes of one task")
      .number("request-parallelism", o.request_parallelism, 1, million,
              "tasks of one request in the pool at one time")
      .number("deadline-ms", o.deadline, 1, day, "time to process one request")
      .number("max-connections", o.max_connections, 1, million, "connections at one time")
      .number("header-limit", o.header_limit, 1, million, "bytes of a request's header")
      .number("body-limit", o.body_limit, 1, 1000 * million, "bytes of a request's body")
      .number("read-timeout-ms", o.read_timeout, 1, day, "time to send a request")
      .number("idle-timeout-ms", o.idle_timeout, 1, day, "time between two requests");
  if (!line.parse(argc, argv, help)) return std::nullopt;
  line.read_environment();

  // The semaphore would never grant such a request.
  if (o.max_tasks > o.capacity)
    throw example::bad_number("--max-tasks", std::to_string(o.max_tasks),
                              "at most --capacity, " + std::to_string(o.capacity));
  return o;
}

} // namespace http_service
