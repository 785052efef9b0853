// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// example/crawler from outside: every case starts the program and reads what it prints.
//
// A page that ought to answer and does not within --timeout-ms is no failure of the crawler. So that
// a machine that is busy with other things does not fail these tests, the timeout is so long that it
// does not matter, or is tried again with a longer one. Of the first three hosts no page is served
// in a bad manner but for errors.

#include "support/process.hpp"
#include "support/refusal.hpp"
#include "support/report.hpp"
#include "support/watchdog.hpp"

#include <boost/test/unit_test.hpp>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

namespace {

using test::arguments;
using test::process;

const std::string a_day = "86400000";

/// What the crawler says in the end.
class report : public test::report {
public:
  using test::report::report;

  std::uint64_t failed() const {
    return before("timeouts") + before("HTTP errors") + before("connection errors");
  }

  /// Requests to a host, and how many of them were in flight at most.
  std::pair<unsigned, unsigned> of_host(int n) const {
    const std::string name = "host-" + std::to_string(n) + ".test ";
    const std::string seen = from(name).text().substr(name.size());
    unsigned requests = 0, highest = 0;
    BOOST_TEST(
        std::sscanf(seen.c_str(), "%u requests, at most %u in flight", &requests, &highest) == 2,
        text());
    return {requests, highest};
  }
};

report crawl(const arguments& options) {
  process p(options);
  report r(p.rest());
  BOOST_TEST(p.wait() == 0);
  BOOST_TEST(r.ends_with("\nlimits kept\n"), r.text());
  return r;
}

/// That `pages` pages were visited once each, both by the crawler's word and by the server's.
void check_visits(const report& r, std::uint64_t pages) {
  BOOST_TEST(r.before("pages visited") == pages, r.text());
  BOOST_TEST(r.before("fetched") + r.failed() == pages, r.text());
  BOOST_TEST(r.before("pages were asked for once") == pages, r.text());
  BOOST_TEST(r.before("more than once") == 0, r.text());
  BOOST_TEST(r.before("requests were for none") == 0, r.text());
}

BOOST_AUTO_TEST_SUITE(crawler)

BOOST_AUTO_TEST_CASE(visits_every_page_once_and_reaches_both_limits_and_keeps_them) {
  const report r = crawl({"--hosts", "3", "--pages", "60", "--in-flight", "10", "--per-host", "4",
                          "--latency-ms", "100", "--timeout-ms", a_day});
  check_visits(r, 3 * 60);
  BOOST_TEST(r.before("can be") + r.before("answer 500") == 3 * 60);
  BOOST_TEST(r.before("fetched") == r.before("can be"));
  BOOST_TEST(r.after("highest in flight:") == 10);
  BOOST_TEST(r.after("highest per host:") == 4);
  for (int host = 0; host != 3; ++host) {
    const auto [requests, highest] = r.of_host(host);
    BOOST_TEST(requests == 60);
    BOOST_TEST(highest <= 4);
  }
}

BOOST_AUTO_TEST_CASE(each_limit_is_kept_where_the_other_does_not_bind) {
  const arguments small{"--hosts",      "3",  "--pages",      "20",
                        "--latency-ms", "20", "--timeout-ms", a_day};
  const auto highest = [&](const char* in_flight, const char* per_host) {
    arguments options = small;
    options.insert(options.end(), {"--in-flight", in_flight, "--per-host", per_host});
    const report r = crawl(options);
    check_visits(r, 3 * 20);
    return std::pair(r.after("highest in flight:"), r.after("highest per host:"));
  };
  BOOST_TEST((highest("1", "10") == std::pair(1ul, 1ul)));
  BOOST_TEST((highest("100", "1") == std::pair(3ul, 1ul)));
}

BOOST_AUTO_TEST_CASE(counts_what_fails_and_goes_on) {
  report r{""};
  for (const char* timeout : {"1000", "5000", "25000"}) {
    r = crawl({"--hosts", "8", "--pages", "40", "--in-flight", "100", "--latency-ms", "20",
               "--timeout-ms", timeout});
    if (r.before("pages visited") == 8 * 40 && r.before("timeouts") == r.before("never answer"))
      break;
  }
  check_visits(r, 8 * 40);
  for (const auto& [counted, there] : {std::pair("fetched", "can be"),
                                       {"timeouts", "never answer"},
                                       {"HTTP errors", "answer 500"},
                                       {"connection errors", "close the connection"}}) {
    BOOST_TEST(r.before(counted) == r.before(there), r.text());
    BOOST_TEST(r.before(counted) > 0, r.text());
  }
}

/// The server would see more than the limit if the permit went back when the crawler hangs up.
BOOST_AUTO_TEST_CASE(a_request_that_timed_out_counts_until_the_server_has_noticed) {
  const report r = crawl({"--hosts", "8", "--pages", "1000", "--in-flight", "40", "--per-host",
                          "20", "--latency-ms", "1", "--timeout-ms", "20"});
  BOOST_TEST(r.before("timeouts") > 0);
}

BOOST_AUTO_TEST_CASE(of_many_hosts_shows_some_and_sums_up_the_rest) {
  const report r =
      crawl({"--hosts", "21", "--pages", "1", "--in-flight", "100", "--latency-ms", "0"});
  check_visits(r, 21);
  BOOST_TEST(r.before("hosts more, at most 1 to 1 in flight") == 11);
}

BOOST_AUTO_TEST_CASE(a_signal_ends_it_in_good_order) {
  for (const int signal : {SIGINT, SIGTERM}) {
    process p({"--progress", "--hosts", "20", "--in-flight", "100", "--latency-ms", "2000",
               "--timeout-ms", a_day});
    while (p.line().starts_with("0 of ")) continue; // until there are others to come
    p.send(signal);
    const report r(p.rest());
    BOOST_TEST(p.wait() == 130);
    BOOST_TEST(r.before("pages visited") > 0);
    BOOST_TEST(r.before("pages were found and not visited") > 0);
    BOOST_TEST(r.before("more than once") == 0);
    BOOST_TEST(r.ends_with("\nlimits kept\n"), r.text());
  }
}

BOOST_AUTO_TEST_CASE(refuses_bad_options_at_its_start) {
  test::check_refuses_numbers(
      "crawler",
      {"--hosts", "--pages", "--latency-ms", "--in-flight", "--per-host", "--timeout-ms"},
      {"-1", "junk", "1.5", "18446744073709551616"});
  test::check_refuses_numbers(
      "crawler", {"--hosts", "--pages", "--in-flight", "--per-host", "--timeout-ms"}, {"0"});

  process unknown({"--host", "2"});
  BOOST_TEST(unknown.rest() == "crawler: unrecognised option '--host'\n");
  BOOST_TEST(unknown.wait() == 2);
}

BOOST_AUTO_TEST_CASE(says_so_where_it_may_not_have_the_descriptors) {
  process p("/bin/sh", {"-c", "ulimit -n 1000 && exec \"$0\" --in-flight 500", test::example()});
  const std::string text = p.rest();
  BOOST_TEST(text.starts_with("crawler: --in-flight 500 takes 10"), text);
  BOOST_TEST(text.ends_with(" descriptors, of which 1000 are allowed (ulimit -Hn)\n"), text);
  BOOST_TEST(p.wait() == 1);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
