// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// Webhooks: events are delivered over HTTP to 10,000 subscribers each, with at most so many deliveries
// in flight over all, at most so many to each subscriber, and a timeout for each.
//
//     webhook_fanout --subscribers 10000 --events 3 --in-flight 500 --per-subscriber 2
//
// It starts the subscribers itself, as servers on a thread of their own. One of them is slow, one
// always fails, one accepts connections and never answers, and one refuses them. What is meant for
// those waits for them in their own lines: it holds no more than their share of the deliveries in
// flight, and the others have all theirs long before.
//
// In the end the servers say what they have seen: so whether the limits were kept, and what was said
// to be delivered has arrived, once, is not the fan-out's own word.
//
// webhook_fanout/fanout.cpp is the part with the limits in it.
//
// The exit status is 0, also with subscribers that fail; 1 if a limit was broken, a delivery is not
// accounted for or the fan-out failed; 2 for bad options; and 130 after SIGINT or SIGTERM, which end
// it in good order.

#include "support/descriptors.hpp"
#include "webhook_fanout/fanout.hpp"
#include "webhook_fanout/options.hpp"
#include "webhook_fanout/servers.hpp"
#include "webhook_fanout/subscribers.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace {

using std::uintmax_t;
using webhook_fanout::all_kinds;
using webhook_fanout::count_of;
using webhook_fanout::fanout;
using webhook_fanout::kind;
using webhook_fanout::kind_of;
using webhook_fanout::name_of;
using webhook_fanout::options;
using webhook_fanout::tally;
using webhook_fanout::testimony;

/// Both ends of every connection are ours. Idle ones are kept for each server: for that of the
/// ordinary subscribers as many as are in flight, for the others as many as one subscriber may have.
void ensure_descriptors(const options& o) {
  constexpr std::uint64_t others = 32;
  const std::uint64_t needed =
      2 * (o.in_flight + (webhook_fanout::kinds - 1) * o.per_subscriber) + others;
  example::ensure_descriptors("--in-flight " + std::to_string(o.in_flight), needed);
}

void print_deliveries(const fanout& f, const options& o, double seconds) {
  const tally sum = f.result();
  std::printf("%zu events to %zu subscribers: %ju deliveries in %.2f s, %.0f per second\n",
              o.events, o.subscribers, uintmax_t{sum.made()}, seconds,
              static_cast<double>(sum.made()) / seconds);
  std::printf("%ju delivered, %ju failed: %ju timeouts, %ju refused, %ju HTTP errors, "
              "%ju connection errors\n",
              uintmax_t{sum.delivered}, uintmax_t{sum.failed()}, uintmax_t{sum.timed_out},
              uintmax_t{sum.refused}, uintmax_t{sum.http_errors}, uintmax_t{sum.connection_errors});
  for (const kind k : all_kinds)
    std::printf("%8zu %-8s %8ju delivered, %3ju failed, the last after %.2f s\n",
                count_of(k, o.subscribers), name_of(k), uintmax_t{f.result(k).delivered},
                uintmax_t{f.result(k).failed()}, f.last(k).count());
  if (f.interrupted())
    std::printf("interrupted: %ju deliveries were not made\n",
                uintmax_t{f.published() - sum.made()});
}

/// What the subscribers of one kind have seen: all requests, and the highest number in flight to one.
example::gauge seen_by(kind k, const testimony& seen) {
  example::gauge sum;
  for (std::size_t i = 0; i != seen.subscribers.size(); ++i) {
    if (kind_of(i) != k) continue;
    sum.requests += seen.subscribers[i].requests;
    sum.highest = std::max(sum.highest, seen.subscribers[i].highest);
  }
  return sum;
}

/// Prints what the servers have seen, and says whether the limits were kept.
bool print_testimony(const testimony& seen, const options& o) {
  std::printf("\nThe servers' word:\n");
  std::size_t highest = 0;
  for (const kind k : all_kinds) {
    const example::gauge g = seen_by(k, seen);
    highest = std::max(highest, g.highest);
    std::printf("%8zu %-8s %8ju requests, at most %zu to one in flight\n",
                count_of(k, o.subscribers), name_of(k), uintmax_t{g.requests}, g.highest);
  }
  std::printf("highest in flight: %zu (allowed %zu)\n", seen.all.highest, o.in_flight);
  std::printf("highest per subscriber: %zu (allowed %zu)\n", highest, o.per_subscriber);
  return seen.all.highest <= o.in_flight && highest <= o.per_subscriber;
}

/// What the two have said that does not fit together; empty if all does.
std::vector<std::string> contradictions(const fanout& f, const testimony& seen, const options& o) {
  std::vector<std::string> result;
  const auto expect = [&](std::uint64_t actual, std::uint64_t expected, const std::string& what) {
    if (actual != expected)
      result.push_back(what + ": " + std::to_string(actual) + ", not " + std::to_string(expected));
  };
  std::uint64_t delivered = 0, not_arrived = 0, repeated = 0;
  for (std::size_t event = 0; event != o.events; ++event)
    for (std::size_t subscriber = 0; subscriber != o.subscribers; ++subscriber) {
      const std::uint32_t visits = seen.visits[event * o.subscribers + subscriber];
      const bool claimed = f.has_delivered(event, subscriber);
      delivered += claimed;
      not_arrived += claimed && visits == 0;
      repeated += visits > 1;
    }
  if (!f.interrupted()) {
    expect(f.published(), o.events * o.subscribers, "published");
    expect(f.result().made(), f.published(), "delivered or failed");
  }
  expect(delivered, f.result().delivered, "marked as delivered");
  expect(not_arrived, 0, "delivered and never arrived");
  expect(repeated, 0, "arrived more than once");
  expect(seen.strays, 0, "requests for nobody");
  expect(f.result(kind::failing).delivered, 0, "delivered to the failing subscriber");
  expect(f.result(kind::silent).delivered, 0, "delivered to the silent subscriber");
  expect(f.result(kind::absent).delivered, 0, "delivered to the absent subscriber");
  expect(f.in_flight(), 0, "left in flight");
  expect(seen.all.now, 0, "left in flight at the servers");
  return result;
}

int deliver(const options& o) {
  ensure_descriptors(o);
  webhook_fanout::servers servers(o);
  boost::asio::io_context io;
  fanout f(io, o, servers);
  boost::asio::co_spawn(io, f.run(), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  const auto start = std::chrono::steady_clock::now();
  io.run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;

  const testimony& seen = servers.stop();
  print_deliveries(f, o, took.count());
  const bool kept = print_testimony(seen, o);
  const std::vector<std::string> wrong = contradictions(f, seen, o);
  for (const std::string& w : wrong) std::printf("WRONG: %s\n", w.c_str());
  std::printf("%s, %s\n", kept ? "limits kept" : "LIMITS BROKEN",
              wrong.empty() ? "every delivery accounted for" : "DELIVERIES NOT ACCOUNTED FOR");
  if (!kept || !wrong.empty()) return 1;
  return f.interrupted() ? 130 : 0;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<options> o;
  try {
    o = webhook_fanout::read_options(argc, argv, std::cout);
  } catch (const std::exception& e) {
    std::cerr << "webhook_fanout: " << e.what() << '\n';
    return 2;
  }
  try {
    return o ? deliver(*o) : 0;
  } catch (const std::exception& e) {
    std::cerr << "webhook_fanout: " << e.what() << '\n';
    return 1;
  }
}
