//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SHARDS_IPP
#define BULKHEAD_IMPL_SHARDS_IPP

#include <bulkhead/shards.hpp>

#include <cstdint>
#include <stdexcept>

namespace bulkhead {
namespace detail {

/// Every bit of the hash has a say in the upper ones, which choose (the finalizer of splitmix64, by
/// S. Vigna).
BULKHEAD_DECL std::size_t shard_index(std::size_t hash, std::size_t n) noexcept {
  std::uint64_t h = hash;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return static_cast<std::size_t>(((h ^ (h >> 31)) >> 32) * n >> 32);
}

} // namespace detail

BULKHEAD_DECL shards::shards(const asio::any_io_executor& ex, std::size_t n,
                             shards_options options) {
  constexpr std::size_t most = 65536;
  if (n == 0 || n > most)
    throw std::invalid_argument("shards: n must be at least 1 and at most " + std::to_string(most) +
                                " (got " + std::to_string(n) + ")");
  detail::check_lane_number("shards_options::concurrency", options.concurrency);
  detail::check_lane_number("shards_options::batch", options.batch);
  detail::check_lane_number("shards_options::queue_limit", options.queue_limit);
  lanes_.reserve(n);
  sets_.reserve(n);
  for (std::size_t i = 0; i != n; ++i) {
    lanes_options all;
    all.concurrency = options.concurrency;
    all.batch = options.batch;
    if (!options.name.empty()) all.name = options.name + "/" + std::to_string(i);
    all.on_exception = options.on_exception;
    lane_options one;
    one.name = all.name;
    one.queue_limit = options.queue_limit;
    one.waiter_limit = options.waiter_limit;
    lanes_.push_back(sets_.emplace_back(ex, std::move(all)).open(std::move(one)));
  }
}

BULKHEAD_DECL void shards::close() const {
  for (const lane& l : lanes_) l.close();
}

BULKHEAD_DECL lane_stats shards::stats() const noexcept {
  lane_stats sum;
  for (const lane& l : lanes_) sum += l.stats();
  return sum;
}

} // namespace bulkhead

#endif
