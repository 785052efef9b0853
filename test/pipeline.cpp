// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// example/pipeline from outside: every case starts the program and reads what it prints.

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

constexpr const char* stages[] = {"read", "transform", "write"};
const std::string a_day = "86400000";

report run(arguments options) {
  options.insert(options.end(), {"--deadline-ms", a_day});
  process p(options);
  report r(p.rest());
  BOOST_TEST(p.wait() == 0);
  BOOST_TEST(r.ends_with("\nnumbers consistent\n"), r.text());
  return r;
}

/// What one stage has done.
report of(const std::string& stage, const report& r) { return r.from('\n' + stage + ' '); }

void check_balance(const report& r) {
  BOOST_TEST(r.before("in = ") == r.before("out + ") + r.before("cancelled, sum"), r.text());
  for (const char* stage : stages)
    BOOST_TEST(of(stage, r).after("at most") <= of(stage, r).after("(limit"), r.text());
  BOOST_TEST(r.before("records at one time") <= r.after("there is room for"), r.text());
}

void check_complete(const report& r, std::uint64_t records) {
  check_balance(r);
  BOOST_TEST(r.before("records written") == records, r.text());
  BOOST_TEST(r.before("in = ") == records, r.text());
  BOOST_TEST(r.before("cancelled, sum") == 0, r.text());
  for (const char* stage : stages) {
    BOOST_TEST(of(stage, r).before("handled") == records, r.text());
    BOOST_TEST(of(stage, r).before("cancelled") == 0, r.text());
  }
}

BOOST_AUTO_TEST_SUITE(pipeline)

BOOST_AUTO_TEST_CASE(every_record_goes_through_all_stages_once) {
  check_complete(run({"--records", "500"}), 500);
  check_complete(run({"--records", "1"}), 1);
  check_complete(run({"--records", "2000", "--read-ms", "0", "--write-ms", "0", "--rounds", "1",
                      "--threads", "4", "--io-threads", "4"}),
                 2000);
}

/// The stages before the slowest come to a halt: they stand at their limits, and the channels are full.
BOOST_AUTO_TEST_CASE(a_slow_stage_holds_up_those_before_it) {
  const report r = run({"--records", "200", "--reads", "3", "--transforms", "2", "--writes", "1",
                        "--room", "5", "--read-ms", "0", "--rounds", "1", "--write-ms", "5"});
  check_complete(r, 200);
  BOOST_TEST(of("read", r).after("at most") == 3);
  BOOST_TEST(of("transform", r).after("at most") == 2);
  BOOST_TEST(of("write", r).after("at most") == 1);
  BOOST_TEST(of("read", r).before("found it full") > 0, r.text());
  BOOST_TEST(of("transform", r).before("found it full") > 0, r.text());
  BOOST_TEST(r.before("records at one time") == 3 + 5 + 1 + 2 + 5 + 1 + 1);
}

BOOST_AUTO_TEST_CASE(each_limit_may_be_one) {
  const report r = run({"--records", "50", "--reads", "1", "--transforms", "1", "--writes", "1",
                        "--room", "1", "--threads", "1", "--io-threads", "1", "--rounds", "100"});
  check_complete(r, 50);
  for (const char* stage : stages) BOOST_TEST(of(stage, r).after("at most") == 1);
}

BOOST_AUTO_TEST_CASE(the_sum_does_not_depend_on_the_limits) {
  const auto sum = [](const char* limit) {
    const report r = run({"--records", "300", "--rounds", "100", "--reads", limit, "--transforms",
                          limit, "--writes", limit, "--threads", limit, "--io-threads", limit});
    return r.from(", sum ").text();
  };
  BOOST_TEST(sum("1") == sum("7"));
}

BOOST_AUTO_TEST_CASE(cancelled_in_the_middle_it_leaves_nothing_in_flight) {
  for (const char* threads : {"1", "4"}) {
    const report r = run({"--records", "1000000", "--cancel-after", "300", "--io-threads", threads,
                          "--rounds", "100"});
    check_balance(r);
    BOOST_TEST(r.after("\ncancelled after") == 300);
    BOOST_TEST(r.before("records written") >= 300, r.text());
    BOOST_TEST(r.before("cancelled, sum") > 0, r.text());
  }
}

/// --cancel-after when all stages stand still but for the last.
BOOST_AUTO_TEST_CASE(a_halt_can_be_cancelled) {
  const report r =
      run({"--records", "1000", "--cancel-after", "30", "--reads", "3", "--transforms", "2",
           "--writes", "1", "--room", "2", "--read-ms", "0", "--rounds", "1", "--write-ms", "5"});
  check_balance(r);
  BOOST_TEST(r.before("records written") >= 30, r.text());
  BOOST_TEST(r.before("cancelled, sum") > 0, r.text());
}

/// It would not end in years.
BOOST_AUTO_TEST_CASE(what_runs_on_the_processors_is_stopped) {
  process p({"--threads", "2", "--rounds", "1000000000000000", "--deadline-ms", "100"});
  const report r(p.rest());
  BOOST_TEST(p.wait() == 1);
  BOOST_TEST(r.ends_with("\nnumbers consistent\n"), r.text());
  check_balance(r);
  BOOST_TEST(r.before("out + ") == 0, r.text());
}

BOOST_AUTO_TEST_CASE(a_signal_ends_it_in_good_order) {
  for (const int signal : {SIGINT, SIGTERM}) {
    process p({"--progress", "--records", "1000000", "--deadline-ms", a_day});
    BOOST_TEST(p.line().ends_with("00 written"));
    p.send(signal);
    const report r(p.rest());
    BOOST_TEST(p.wait() == 130);
    BOOST_TEST(r.ends_with("\nnumbers consistent\n"), r.text());
    check_balance(r);
    BOOST_TEST(r.before("records written") >= 100, r.text());
    BOOST_TEST(r.before("cancelled, sum") > 0, r.text());
  }
}

BOOST_AUTO_TEST_CASE(the_deadline_ends_it_and_is_a_failure) {
  process p({"--write-ms", a_day, "--deadline-ms", "100"});
  const report r(p.rest());
  BOOST_TEST(p.wait() == 1);
  BOOST_TEST(r.ends_with("\nnumbers consistent\n"), r.text());
  check_balance(r);
  BOOST_TEST(r.before("records written") == 0, r.text());
  BOOST_TEST(r.text().find("\ncancelled at the deadline\n") != std::string::npos, r.text());
}

BOOST_AUTO_TEST_CASE(refuses_bad_options_at_its_start) {
  test::check_refuses_numbers("pipeline",
                              {"--records", "--read-ms", "--rounds", "--write-ms", "--threads",
                               "--io-threads", "--reads", "--transforms", "--writes", "--room",
                               "--cancel-after", "--deadline-ms"},
                              {"-1", "junk", "1.5", "18446744073709551616"});
  test::check_refuses_numbers("pipeline",
                              {"--records", "--rounds", "--threads", "--io-threads", "--reads",
                               "--transforms", "--writes", "--room", "--deadline-ms"},
                              {"0"});

  process unknown({"--record", "2"});
  BOOST_TEST(unknown.rest() == "pipeline: unrecognised option '--record'\n");
  BOOST_TEST(unknown.wait() == 2);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
