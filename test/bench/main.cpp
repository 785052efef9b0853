//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// bench WORKLOAD CONTENDER [--NAME NUMBER...]   runs one measurement, prints one line of name=value
// bench --list                                  prints all pairs of workload and contender
// bench --turns                                 prints how many turns of spin() take 1 us
// bench --versions                              prints what it was built with

#include "measure.hpp"

#include <boost/version.hpp>

#include <cstdio>
#include <exception>
#include <fstream>

#include <tbb/version.h>

namespace {

using namespace bench;

std::vector<measurement> all_measurements() {
  std::vector<measurement> all;
  for (auto family : {throughput(), latency(), semaphores(), groups(), io(), spawns()})
    all.insert(all.end(), family.begin(), family.end());
  return all;
}

/// Not getrusage(): that begins with the peak of the process that started this one.
double peak_rss_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      double kib = 0;
      status >> kib;
      return kib;
    }
  return 0;
}

int run(const measurement& m, const options& o) {
  report r;
  m.run(o, r);
  r.add("peak_rss_kib", peak_rss_kib());
  std::printf("workload=%s contender=%s", m.workload.data(), m.contender.data());
  for (auto& [name, value] : r.figures()) std::printf(" %s=%.10g", name.c_str(), value);
  std::printf("\n");
  return 0;
}

} // namespace

int main(int argc, char** argv) try {
  std::string_view first = argc > 1 ? argv[1] : "", second = argc > 2 ? argv[2] : "";
  if (first == "--list") {
    for (auto& m : all_measurements())
      std::printf("%s %s\n", m.workload.data(), m.contender.data());
    return 0;
  }
  if (first == "--turns") {
    std::printf("%.10g\n", static_cast<double>(turns_in(1ms)) / 1000);
    return 0;
  }
  if (first == "--versions") {
    std::printf("g++ " __VERSION__ ", Boost " BOOST_LIB_VERSION ", oneTBB " TBB_VERSION_STRING
                "\n");
    return 0;
  }
  for (auto& m : all_measurements())
    if (m.workload == first && m.contender == second)
      return run(m, options({argv + 3, argv + argc}));
  std::fputs(
      "usage: bench WORKLOAD CONTENDER [--NAME NUMBER...]; bench --list says which there are\n",
      stderr);
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench %s %s: %s\n", argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "",
               e.what());
  return 1;
}
