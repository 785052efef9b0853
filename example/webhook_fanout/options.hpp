// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_OPTIONS_HPP
#define BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_OPTIONS_HPP

#include <chrono>
#include <cstddef>
#include <iosfwd>
#include <optional>

namespace webhook_fanout {

struct options {
  // what there is to do
  std::size_t subscribers = 10'000;
  std::size_t events = 3;
  std::chrono::milliseconds latency{50}; // of a subscriber without troubles
  std::chrono::milliseconds slow{500};   // of the slow one

  // the limits
  std::size_t in_flight = 500;
  std::size_t per_subscriber = 2;
  std::chrono::milliseconds timeout{2000};

  bool progress = false;
};

/// The options of the command line. Empty if only help was asked for, which is then written to
/// `help`. Throws an exception that names what it cannot take.
std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help);

} // namespace webhook_fanout

#endif
