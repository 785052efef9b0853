// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "options.hpp"
#include "subscribers.hpp"

#include <string>

namespace webhook_fanout {

std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help) {
  constexpr std::uint64_t day = 24 * 3600 * 1000;
  constexpr std::size_t most_deliveries = 1'000'000; // some kilobytes each

  options o;
  example::command_line line(
      "webhook_fanout [options]: delivers events to subscribers that it starts itself");
  line.number("subscribers", o.subscribers, kinds, 100'000, "subscribers to each event")
      .number("events", o.events, 1, 1000, "events, all published at once")
      .number("latency-ms", o.latency, 0, day, "a subscriber answers after this")
      .number("slow-ms", o.slow, 0, day, "the slow subscriber answers after this")
      .number("in-flight", o.in_flight, 1, 20'000, "deliveries in flight at one time")
      .number("per-subscriber", o.per_subscriber, 1, 1000,
              "deliveries to one subscriber at one time")
      .number("timeout-ms", o.timeout, 1, day, "time for one delivery")
      .flag("progress", o.progress, "say after each 100 deliveries how many were made");
  if (!line.parse(argc, argv, help)) return std::nullopt;
  if (o.events > most_deliveries / o.subscribers)
    throw example::bad_number("--events", std::to_string(o.events),
                              "at most " + std::to_string(most_deliveries / o.subscribers) +
                                  " with " + std::to_string(o.subscribers) + " subscribers");
  return o;
}

} // namespace webhook_fanout
