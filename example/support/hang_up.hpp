// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_SUPPORT_HANG_UP_HPP
#define BULKHEAD_EXAMPLE_SUPPORT_HANG_UP_HPP

#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/error_code.hpp>

#include <chrono>
#include <tuple>

namespace example {

/// Ends a request that came to nothing, and waits until the server has ended it as well. As long as
/// that works on it, the request is in flight and has to keep its permits, whatever we think of it.
///
/// It is what cancelling a request consists of. So the caller switches cancellation off first, with
/// this_coro::reset_cancellation_state(); here it would be too late, as a coroutine that was cancelled
/// cannot call another one.
inline boost::asio::awaitable<void> hang_up(boost::asio::ip::tcp::socket& socket) {
  namespace asio = boost::asio;

  // How long the server may take to notice, before we no longer count on it.
  constexpr auto linger = std::chrono::seconds(10);
  constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

  boost::system::error_code error;
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  char discarded[1024];
  while (!error)
    std::tie(error, std::ignore) = co_await socket.async_read_some(
        asio::buffer(discarded), bulkhead::timeout(linger, use_tuple));
}

} // namespace example

#endif
