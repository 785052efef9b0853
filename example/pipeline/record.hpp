// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_PIPELINE_RECORD_HPP
#define BULKHEAD_EXAMPLE_PIPELINE_RECORD_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace pipeline {

/// How much of something there is, was in all, and was at most at one time.
///
/// These are the pipeline's books. Nothing here uses Bulkhead: a defect of the library cannot hide
/// behind itself.
class gauge {
public:
  void enter() noexcept {
    ++all_;
    const std::size_t now = ++now_;
    std::size_t highest = highest_;
    while (highest < now && !highest_.compare_exchange_weak(highest, now)) continue;
  }

  void leave() noexcept { --now_; }

  std::size_t all() const noexcept { return all_; }
  std::size_t now() const noexcept { return now_; }
  std::size_t highest() const noexcept { return highest_; }

private:
  std::atomic<std::size_t> all_{0};
  std::atomic<std::size_t> now_{0};
  std::atomic<std::size_t> highest_{0};
};

/// Where the records went.
struct ledger {
  gauge records; // that there were, from the begin of their reading on
  std::atomic<std::size_t> written{0};
  std::atomic<std::size_t> cancelled{0};
};

/// A record's entry in the ledger: one that ends without having been written was cancelled, wherever
/// it was.
class entry {
public:
  entry() = default;
  explicit entry(ledger& l) noexcept : ledger_(&l) { ledger_->records.enter(); }
  entry(entry&& other) noexcept : ledger_(std::exchange(other.ledger_, nullptr)) {}

  entry& operator=(entry&& other) noexcept {
    if (this != &other) {
      close(&ledger::cancelled);
      ledger_ = std::exchange(other.ledger_, nullptr);
    }
    return *this;
  }

  ~entry() { close(&ledger::cancelled); }

  void written() noexcept { close(&ledger::written); }

private:
  void close(std::atomic<std::size_t> ledger::*account) noexcept {
    if (!ledger_) return;
    ++(ledger_->*account);
    ledger_->records.leave();
    ledger_ = nullptr;
  }

  ledger* ledger_ = nullptr;
};

struct record {
  std::size_t number = 0;
  std::uint64_t value = 0;
  entry place;
};

} // namespace pipeline

#endif
