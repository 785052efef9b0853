// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// A pipeline: records are read, transformed and written, with a limit to what each of these stages
// does at one time, and bounded channels between them.
//
//     pipeline --records 5000 --reads 8 --transforms 4 --writes 4 --room 16
//
// Writing is the slowest here. So the channel before it fills, then the transforming stage waits to be
// rid of its records, then the channel before that fills, and in the end reading goes no faster than
// writing: back-pressure, which shows in the end as senders that found a channel full, and as a number
// of records in memory that does not depend on how many there are to be read.
//
// Reading is an async_for_each over the records' numbers; the others are task groups with a limit,
// transforming on a pool of its own, with a std::stop_token. All of it is in one async_scope, on another
// pool, and can be cancelled as a whole: by Ctrl-C, by --cancel-after, by --deadline-ms. Nothing
// is in flight then, and the last line says whether each record that came in has gone out, once, or
// was cancelled, and whether what was written adds up to what the same work gives one by one.
//
// pipeline/pipeline.cpp is the part with the limits in it.
//
// The exit status is 0, also after --cancel-after; 1 if the numbers do not fit, the pipeline failed,
// or was not done at its deadline; 2 for bad options; and 130 after SIGINT or SIGTERM, which end it in
// good order.

#include "pipeline/options.hpp"
#include "pipeline/pipeline.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace {

using pipeline::options;
using end = pipeline::pipeline::end;

void print_stage(const pipeline::stage& s) {
  std::printf("%-10s %8zu handled, %3zu cancelled, at most %zu in flight (limit %zu)\n", s.name,
              s.handled.load(), s.cancelled(), s.records.highest(), s.limit);
}

void print(const pipeline::pipeline& p, const options& o, double seconds) {
  const pipeline::ledger& books = p.books();
  const std::size_t written = books.written;
  std::printf("%zu records written in %.2f s, %.0f per second\n", written, seconds,
              static_cast<double>(written) / seconds);
  if (p.how() == end::cancelled) std::printf("cancelled after %zu\n", o.cancel_after);
  if (p.how() == end::interrupted) std::puts("interrupted");
  if (p.how() == end::late) std::puts("cancelled at the deadline");
  const auto stages = p.stages();
  const auto channels = p.channels();
  for (std::size_t i = 0; i != stages.size(); ++i) {
    print_stage(*stages[i]);
    if (i == channels.size()) break;
    std::printf("  channel  %8zu passed, of which %zu found it full (room for %zu)\n",
                channels[i]->sent(), channels[i]->found_full(), o.room);
  }
  std::printf("at most %zu records at one time (there is room for %zu)\n", books.records.highest(),
              p.most_records());
  std::printf("%zu in = %zu out + %zu cancelled, sum %016jx\n", books.records.all(), written,
              books.cancelled.load(), std::uintmax_t{p.sum()});
}

int run(const options& o) {
  bulkhead::pool io(o.io_threads), cpu(o.threads);
  pipeline::pipeline p(io, cpu, o);
  boost::asio::io_context main;
  boost::asio::co_spawn(main, p.run(main), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  const auto start = std::chrono::steady_clock::now();
  main.run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;

  print(p, o, took.count());
  const std::vector<std::string> faults = p.faults();
  for (const std::string& fault : faults) std::printf("WRONG: %s\n", fault.c_str());
  std::puts(faults.empty() ? "numbers consistent" : "NUMBERS INCONSISTENT");
  if (!faults.empty() || p.how() == end::late) return 1;
  return p.how() == end::interrupted ? 130 : 0;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<options> o;
  try {
    o = pipeline::read_options(argc, argv, std::cout);
  } catch (const std::exception& e) {
    std::cerr << "pipeline: " << e.what() << '\n';
    return 2;
  }
  try {
    return o ? run(*o) : 0;
  } catch (const std::exception& e) {
    std::cerr << "pipeline: " << e.what() << '\n';
    return 1;
  }
}
