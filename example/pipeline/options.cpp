// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "options.hpp"

namespace pipeline {

std::optional<options> read_options(int argc, const char* const* argv, std::ostream& help) {
  constexpr std::uint64_t million = 1'000'000;
  constexpr std::uint64_t day = 24 * 3600 * 1000;

  options o;
  example::command_line line("pipeline [options]: reads, transforms and writes records");
  line.number("records", o.records, 1, 10 * million, "records to be read")
      .number("read-ms", o.read_time, 0, day, "time that reading a record takes")
      .number("rounds", o.rounds, 1, 1000 * million * million, "work to transform a record")
      .number("write-ms", o.write_time, 0, day, "time that writing a record takes")
      .number("threads", o.threads, 1, 1024, "threads that transform")
      .number("io-threads", o.io_threads, 1, 1024, "threads for all else")
      .number("reads", o.reads, 1, million, "records being read at one time")
      .number("transforms", o.transforms, 1, million, "records being transformed at one time")
      .number("writes", o.writes, 1, million, "records being written at one time")
      .number("room", o.room, 1, million, "records that wait in each channel")
      .number("cancel-after", o.cancel_after, 0, 10 * million,
              "cancels all when so many are written, 0: never")
      .number("deadline-ms", o.deadline, 1, day, "time for all of it")
      .flag("progress", o.progress, "say after each 100 records how many are written");
  if (!line.parse(argc, argv, help)) return std::nullopt;
  return o;
}

} // namespace pipeline
