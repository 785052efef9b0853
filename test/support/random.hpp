//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_RANDOM_HPP
#define BULKHEAD_TEST_SUPPORT_RANDOM_HPP

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>

namespace test {

/// Numbers at random, and the seeds of others: splitmix64.
class dice {
public:
  explicit dice(std::uint64_t seed) noexcept : state_(seed) {}

  /// From 0 to n - 1.
  unsigned operator()(std::size_t n) noexcept { return static_cast<unsigned>((next() >> 33) % n); }
  bool one_in(unsigned n) noexcept { return (*this)(n) == 0; }

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

private:
  std::uint64_t state_;
};

inline std::optional<long> number_from_environment(const char* name) {
  const char* s = std::getenv(name);
  return s ? std::optional(std::strtol(s, nullptr, 10)) : std::nullopt;
}

/// Calls `run` with the seeds from 1 to `rounds`, or with BULKHEAD_SEED only. What fails names its seed.
template <class Run>
void for_each_seed(std::uint64_t rounds, Run run) {
  if (const auto seed = number_from_environment("BULKHEAD_SEED"))
    return run(static_cast<std::uint64_t>(*seed));
  for (std::uint64_t seed = 1; seed <= rounds; ++seed)
    BOOST_TEST_CONTEXT("BULKHEAD_SEED=" << seed) run(seed);
}

} // namespace test

#endif
