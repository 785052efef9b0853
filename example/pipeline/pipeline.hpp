// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_PIPELINE_PIPELINE_HPP
#define BULKHEAD_EXAMPLE_PIPELINE_PIPELINE_HPP

#include "channel.hpp"
#include "options.hpp"
#include "record.hpp"

#include <bulkhead/pool.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pipeline {

/// What one stage has done.
struct stage {
  stage(const char* n, std::size_t l) : name(n), limit(l) {}

  const char* const name;
  const std::size_t limit;
  gauge records;
  std::atomic<std::size_t> handled{0};

  std::size_t cancelled() const noexcept { return records.all() - handled; }
};

/// Reads records, transforms them and writes them. Each stage has a limit, and each channel between
/// two of them has one; with that, so has the number of records there are.
///
/// The stages run on the threads of `io`, and only the work of transforming on those of `cpu`. With
/// one pool for both, all its threads could be at work: then there would be none to read and write,
/// and none to cancel the work, for that is done where the children of a group run.
class pipeline {
public:
  enum class end { complete, cancelled, interrupted, late };

  pipeline(bulkhead::pool& io, bulkhead::pool& cpu, const options& o);

  /// Until all records are written, or it is cancelled, or SIGINT or SIGTERM comes, or the deadline.
  /// In any case nothing is in flight then. For a context that one thread runs.
  asio::awaitable<void> run(asio::io_context& caller);

  // When it has run:

  end how() const noexcept { return how_; }
  const ledger& books() const noexcept { return ledger_; }
  std::vector<const stage*> stages() const { return {&read_, &transform_, &write_}; }
  std::vector<const channel*> channels() const { return {&to_transform_, &to_write_}; }
  std::uint64_t sum() const noexcept { return sum_; }

  /// How many records there may be at one time.
  std::size_t most_records() const noexcept;

  /// What is wrong with the books; empty if nothing is.
  std::vector<std::string> faults() const;

private:
  asio::awaitable<void> read_all();
  asio::awaitable<void> read(std::size_t number);
  asio::awaitable<void> transform(record r);
  asio::awaitable<void> write(record r, bulkhead::task_group& all);

  bulkhead::pool& io_;
  bulkhead::pool& cpu_;
  const options options_;
  end how_ = end::complete;

  ledger ledger_;
  stage read_, transform_, write_;
  channel to_transform_, to_write_;

  // What was written.
  std::vector<std::atomic<unsigned>> times_; // each record
  std::atomic<std::uint64_t> sum_{0};
  std::atomic<bool> enough_{false};
};

} // namespace pipeline

#endif
