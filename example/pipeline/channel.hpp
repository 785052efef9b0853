// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_PIPELINE_CHANNEL_HPP
#define BULKHEAD_EXAMPLE_PIPELINE_CHANNEL_HPP

#include "record.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/system/error_code.hpp>

#include <atomic>
#include <cstddef>
#include <optional>

namespace pipeline {

namespace asio = boost::asio;

/// The way from one stage to the next, with room for so many records. Who sends into a full one waits,
/// and that is all there is to back-pressure: a stage that waits here takes nothing from the channel
/// before it, which is full soon as well.
class channel {
public:
  channel(bulkhead::pool& io, std::size_t room) : channel_(io, room) {}

  asio::awaitable<void> send(record r);

  /// Nothing follows what was sent so far.
  asio::awaitable<void> send_end();

  /// The next record; empty at the end.
  asio::awaitable<std::optional<record>> receive();

  /// Ends what nobody has received.
  void discard();

  std::size_t sent() const noexcept { return sent_; }
  std::size_t found_full() const noexcept { return found_full_; }

private:
  using signature = void(boost::system::error_code, record);

  asio::experimental::concurrent_channel<signature> channel_;
  std::atomic<std::size_t> sent_{0};
  std::atomic<std::size_t> found_full_{0};
};

} // namespace pipeline

#endif
