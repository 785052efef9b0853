// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_FANOUT_HPP
#define BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_FANOUT_HPP

#include "options.hpp"
#include "servers.hpp"
#include "subscribers.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/task_group.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/status.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace webhook_fanout {

/// What became of deliveries.
struct tally {
  std::uint64_t delivered = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t refused = 0;
  std::uint64_t http_errors = 0;
  std::uint64_t connection_errors = 0; // other ones

  std::uint64_t failed() const { return timed_out + refused + http_errors + connection_errors; }
  std::uint64_t made() const { return delivered + failed(); }

  tally& operator+=(const tally& other) {
    delivered += other.delivered;
    timed_out += other.timed_out;
    refused += other.refused;
    http_errors += other.http_errors;
    connection_errors += other.connection_errors;
    return *this;
  }
};

/// Delivers events, each to all subscribers.
///
/// It bounds what it asks of others twice: the deliveries in flight over all, and those to one
/// subscriber. As every delivery has a coroutine at once, which waits in line for its permits, those
/// lines are the queues of the subscribers, and there are no others.
class fanout {
public:
  using clock = std::chrono::steady_clock;

  /// `io` must be run by one thread.
  fanout(asio::io_context& io, const options& o, const servers& to);

  /// Until every delivery was made or has failed, or SIGINT or SIGTERM comes. None is in flight then.
  asio::awaitable<void> run();

  bool interrupted() const noexcept { return interrupted_; }
  std::uint64_t published() const noexcept { return published_; }
  std::size_t in_flight() const noexcept { return in_flight_.in_use(); }
  const tally& result(kind k) const { return tallies_[static_cast<std::size_t>(k)]; }
  tally result() const;

  /// When the last delivery to a subscriber of this kind was made or had failed.
  std::chrono::duration<double> last(kind k) const {
    return last_[static_cast<std::size_t>(k)] - start_;
  }

  bool has_delivered(std::size_t event, std::size_t subscriber) const {
    return delivered_[event * options_.subscribers + subscriber];
  }

private:
  struct event {
    std::size_t number;
    std::string body;
  };

  struct connection {
    explicit connection(asio::io_context& io) : socket(io) {}

    tcp::socket socket;
    boost::beast::flat_buffer buffer;
  };

  using connection_ptr = std::unique_ptr<connection>;

  asio::awaitable<void> deliver(const event& e, std::size_t subscriber);
  asio::awaitable<http::status> post(const event& e, std::size_t subscriber);
  asio::awaitable<connection_ptr> connect(kind k);
  void count(const std::exception_ptr& error, http::status answer, std::size_t event,
             std::size_t subscriber);

  asio::io_context& io_;
  const options options_;
  const servers& servers_;
  bulkhead::semaphore in_flight_;
  bulkhead::keyed<std::size_t, bulkhead::semaphore> per_subscriber_;
  std::vector<event> events_;
  std::array<std::vector<connection_ptr>, kinds> idle_;

  std::uint64_t published_ = 0;
  std::array<tally, kinds> tallies_{};
  std::vector<bool> delivered_; // of each event to each subscriber
  clock::time_point start_{};
  std::array<clock::time_point, kinds> last_{};
  bool interrupted_ = false;
};

} // namespace webhook_fanout

#endif
