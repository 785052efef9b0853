//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A target without a fuzzer: the inputs that were kept, a line of hexadecimal digits each, in the file
// that is named after `--`; and some at random. BULKHEAD_SEED=n has those of that seed.

#include "../support/random.hpp"
#include "../support/run.hpp"
#include "../support/sanitizer.hpp"
#include "fuzz.hpp"

#include <boost/test/unit_test.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

std::vector<std::uint8_t> bytes_of(const std::string& line) {
  std::vector<std::uint8_t> bytes(line.size() / 2);
  const char* digits = line.data();
  for (auto& b : bytes) {
    const auto [end, error] = std::from_chars(digits, digits + 2, b, 16);
    BOOST_REQUIRE(end == digits + 2);
    digits = end;
  }
  return bytes;
}

/// So many inputs of up to `size` bytes.
void try_at_random(int inputs, std::uint32_t size) {
  const auto seed = test::number_from_environment("BULKHEAD_SEED").value_or(1);
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  for (; inputs != 0; --inputs) {
    std::vector<std::uint8_t> bytes(random() % size);
    for (auto& b : bytes) b = static_cast<std::uint8_t>(random());
    BOOST_TEST_CONTEXT("input " << inputs) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
}

} // namespace

BOOST_AUTO_TEST_CASE(the_inputs_that_were_kept_show_no_divergence) {
  const auto& arguments = boost::unit_test::framework::master_test_suite();
  BOOST_REQUIRE_EQUAL(arguments.argc, 2);
  std::ifstream kept(arguments.argv[1]);
  std::size_t n = 0;
  for (std::string line; std::getline(kept, line);) {
    const auto bytes = bytes_of(line);
    BOOST_TEST_CONTEXT("line " << ++n) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  BOOST_TEST(n != 0u);
}

BOOST_AUTO_TEST_CASE(inputs_at_random_show_no_divergence) {
  try_at_random(test::scaled(1000), 1000);
}

BOOST_AUTO_TEST_CASE(long_inputs_at_random_show_no_divergence) {
  try_at_random(test::scaled(10), 50'000);
}
