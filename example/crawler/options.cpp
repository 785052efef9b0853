// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "options.hpp"

namespace crawler {

std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help) {
  constexpr std::uint64_t day = 24 * 3600 * 1000;

  options o;
  example::command_line line("crawler [options]: crawls a web that it serves itself");
  line.number("hosts", o.hosts, 1, 10'000, "hosts of that web")
      .number("pages", o.pages, 1, 1000, "pages of each host")
      .number("latency-ms", o.latency, 0, day, "the slowest page answers after this")
      .number("in-flight", o.in_flight, 1, 20'000, "requests in flight at one time")
      .number("per-host", o.per_host, 1, 20'000, "requests to one host at one time")
      .number("timeout-ms", o.timeout, 1, day, "time for one request")
      .flag("progress", o.progress, "show the progress, even where stderr is no terminal");
  if (!line.parse(argc, argv, help)) return std::nullopt;
  return o;
}

} // namespace crawler
