// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// example/webhook_fanout from outside: every case starts the program and reads what it prints.
//
// A subscriber that ought to answer and does not within --timeout-ms is no failure of the program. So
// that a machine that is busy with other things does not fail these tests, those that count what is
// delivered try again with a longer timeout; or it is a day, the silent subscriber never ends, and a
// signal does.

#include "support/process.hpp"
#include "support/refusal.hpp"
#include "support/report.hpp"
#include "support/watchdog.hpp"

#include <boost/test/unit_test.hpp>

#include <csignal>
#include <cstdint>
#include <string>

namespace {

using test::arguments;
using test::process;
using test::report;

const std::string a_day = "86400000";

report finish(process& p, int status) {
  report r(p.rest());
  BOOST_TEST(p.wait() == status);
  BOOST_TEST(r.ends_with("\nlimits kept, every delivery accounted for\n"), r.text());
  return r;
}

report deliver(const arguments& options) {
  process p(options);
  return finish(p, 0);
}

/// With a timeout that is long enough for all but the silent one.
report deliver_in_time(const arguments& options, std::uint64_t events) {
  report r{""};
  for (const char* timeout : {"500", "5000", "25000"}) {
    arguments o = options;
    o.insert(o.end(), {"--timeout-ms", timeout});
    r = deliver(o);
    if (r.before("timeouts") == events) break;
  }
  return r;
}

/// What the fan-out says of one kind of subscriber, and what the servers say.
report of(const std::string& kind, const report& r) { return r.from(' ' + kind + ' '); }
report seen_by(const std::string& kind, const report& r) {
  return of(kind, r.from("servers' word"));
}

/// That each subscriber did to each of the events what it is there for.
void check_all(const report& r, std::uint64_t subscribers, std::uint64_t events) {
  BOOST_TEST(r.before("deliveries in") == subscribers * events, r.text());
  BOOST_TEST(r.before("delivered, ") == (subscribers - 3) * events, r.text());
  BOOST_TEST(r.before("failed: ") == 3 * events, r.text());
  BOOST_TEST(r.before("timeouts") == events, r.text());
  BOOST_TEST(r.before("refused") == events, r.text());
  BOOST_TEST(r.before("HTTP errors") == events, r.text());
  BOOST_TEST(r.before("connection errors") == 0, r.text());
  BOOST_TEST(of("ordinary", r).before("delivered") == (subscribers - 4) * events, r.text());
  BOOST_TEST(of("slow", r).before("delivered") == events, r.text());
  for (const char* kind : {"failing", "silent", "absent"})
    BOOST_TEST(of(kind, r).before("failed") == events, r.text());
  BOOST_TEST(seen_by("ordinary", r).before("requests") == (subscribers - 4) * events, r.text());
  for (const char* kind : {"slow", "failing", "silent"})
    BOOST_TEST(seen_by(kind, r).before("requests") == events, r.text());
  BOOST_TEST(seen_by("absent", r).before("requests") == 0, r.text());
}

BOOST_AUTO_TEST_SUITE(webhook_fanout)

BOOST_AUTO_TEST_CASE(delivers_to_all_that_can_be_reached_and_counts_why_the_others_cannot) {
  const report r = deliver_in_time({"--subscribers", "100", "--events", "5", "--in-flight", "20",
                                    "--per-subscriber", "2", "--slow-ms", "100"},
                                   5);
  check_all(r, 100, 5);
}

BOOST_AUTO_TEST_CASE(reaches_both_limits_and_keeps_them) {
  const report r =
      deliver_in_time({"--subscribers", "50", "--events", "4", "--in-flight", "10",
                       "--per-subscriber", "3", "--latency-ms", "100", "--slow-ms", "100"},
                      4);
  check_all(r, 50, 4);
  BOOST_TEST(r.after("highest in flight:") == 10);
  BOOST_TEST(r.after("highest per subscriber:") == 3);
}

BOOST_AUTO_TEST_CASE(each_limit_may_be_one) {
  const arguments options{"--subscribers", "5", "--events", "2", "--slow-ms", "20"};
  const auto highest = [&](const char* in_flight, const char* per_subscriber) {
    arguments o = options;
    o.insert(o.end(), {"--in-flight", in_flight, "--per-subscriber", per_subscriber});
    const report r = deliver_in_time(o, 2);
    check_all(r, 5, 2);
    return r;
  };
  BOOST_TEST(highest("1", "10").after("highest in flight:") == 1);
  BOOST_TEST(highest("100", "1").after("highest per subscriber:") == 1);
}

BOOST_AUTO_TEST_CASE(ten_thousand_subscribers) {
  const report r = deliver_in_time({"--events", "2", "--latency-ms", "1", "--slow-ms", "1"}, 2);
  check_all(r, 10'000, 2);
}

/// The silent one has twelve times as many deliveries as may be in flight over all, and never ends the
/// first. It holds its own share, and all others get what is theirs.
BOOST_AUTO_TEST_CASE(one_that_never_answers_holds_up_nobody_else) {
  process p({"--progress", "--subscribers", "6", "--events", "100", "--in-flight", "8",
             "--per-subscriber", "2", "--latency-ms", "1", "--slow-ms", "1", "--timeout-ms",
             a_day});
  while (!p.line().starts_with("500 of 600 ")) continue;
  p.send(SIGINT);
  const report r = finish(p, 130);
  BOOST_TEST(r.before("deliveries in") == 500, r.text());
  BOOST_TEST(r.before("deliveries were not made") == 100, r.text());
  BOOST_TEST(of("ordinary", r).before("delivered") == 200, r.text());
  BOOST_TEST(of("slow", r).before("delivered") == 100, r.text());
  BOOST_TEST(seen_by("silent", r).before("requests") == 2, r.text());
}

/// The servers would see more than the limits if permits went back before they have noticed.
BOOST_AUTO_TEST_CASE(a_delivery_that_timed_out_counts_until_the_server_has_noticed) {
  const report r =
      deliver({"--subscribers", "60", "--events", "5", "--in-flight", "20", "--per-subscriber", "2",
               "--latency-ms", a_day, "--slow-ms", a_day, "--timeout-ms", "20"});
  BOOST_TEST(r.before("deliveries in") == 300, r.text());
  BOOST_TEST(r.before("delivered, ") == 0, r.text());
  BOOST_TEST(r.before("timeouts") > 0, r.text());
}

BOOST_AUTO_TEST_CASE(a_signal_ends_it_in_good_order) {
  for (const int signal : {SIGINT, SIGTERM}) {
    process p({"--progress", "--subscribers", "2000", "--in-flight", "50", "--timeout-ms", a_day});
    BOOST_TEST(p.line() == "100 of 6000 deliveries made");
    p.send(signal);
    const report r = finish(p, 130);
    BOOST_TEST(r.before("deliveries were not made") > 0, r.text());
    BOOST_TEST(r.before("deliveries in") + r.before("deliveries were not made") == 6000, r.text());
    BOOST_TEST(r.before("timeouts") == 0, r.text());
  }
}

BOOST_AUTO_TEST_CASE(refuses_bad_options_at_its_start) {
  test::check_refuses_numbers("webhook_fanout",
                              {"--subscribers", "--events", "--latency-ms", "--slow-ms",
                               "--in-flight", "--per-subscriber", "--timeout-ms"},
                              {"-1", "junk", "1.5", "18446744073709551616"});
  test::check_refuses_numbers(
      "webhook_fanout",
      {"--subscribers", "--events", "--in-flight", "--per-subscriber", "--timeout-ms"}, {"0"});
  test::check_refuses_numbers("webhook_fanout", {"--subscribers"}, {"4"});

  process too_many({"--subscribers", "100000", "--events", "11"});
  BOOST_TEST(too_many.rest() ==
             "webhook_fanout: --events must be at most 10 with 100000 subscribers (got \"11\")\n");
  BOOST_TEST(too_many.wait() == 2);

  process unknown({"--event", "2"});
  BOOST_TEST(unknown.rest() == "webhook_fanout: unrecognised option '--event'\n");
  BOOST_TEST(unknown.wait() == 2);
}

BOOST_AUTO_TEST_CASE(says_so_where_it_may_not_have_the_descriptors) {
  process p("/bin/sh", {"-c", "ulimit -n 1000 && exec \"$0\" --in-flight 500", test::example()});
  const std::string text = p.rest();
  BOOST_TEST(text.starts_with("webhook_fanout: --in-flight 500 takes 10"), text);
  BOOST_TEST(text.ends_with(" descriptors, of which 1000 are allowed (ulimit -Hn)\n"), text);
  BOOST_TEST(p.wait() == 1);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
