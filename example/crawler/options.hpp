// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_CRAWLER_OPTIONS_HPP
#define BULKHEAD_EXAMPLE_CRAWLER_OPTIONS_HPP

#include <chrono>
#include <cstddef>
#include <iosfwd>
#include <optional>

namespace crawler {

struct options {
  // the web
  std::size_t hosts = 200;
  std::size_t pages = 50; // of each host
  std::chrono::milliseconds latency{500};

  // the crawl
  std::size_t in_flight = 1000;
  std::size_t per_host = 10;
  std::chrono::milliseconds timeout{2000};
  bool progress = false;
};

/// The options of the command line. Empty if only help was asked for, which is then written to
/// `help`. Throws an exception that names what it cannot take.
std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help);

} // namespace crawler

#endif
