// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_PIPELINE_OPTIONS_HPP
#define BULKHEAD_EXAMPLE_PIPELINE_OPTIONS_HPP

#include <bulkhead/sizing.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>

namespace pipeline {

struct options {
  // the work
  std::size_t records = 5000;
  std::chrono::milliseconds read_time{1};
  std::uint64_t rounds = 20'000;
  std::chrono::milliseconds write_time{2};

  // its limits
  std::size_t threads = bulkhead::available_parallelism(); // that transform
  std::size_t io_threads = 2;                              // that do all else
  std::size_t reads = 8;
  std::size_t transforms = 4;
  std::size_t writes = 4;
  std::size_t room = 16; // in each channel

  // its end
  std::size_t cancel_after = 0; // records; 0: never
  std::chrono::milliseconds deadline{60'000};

  bool progress = false;
};

/// The options of the command line. Empty if only help was asked for, which is then written to
/// `help`. Throws an exception that names what it cannot take.
std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help);

} // namespace pipeline

#endif
