// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "channel.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

#include <utility>

namespace pipeline {
namespace {

using boost::system::error_code;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

void throw_if(error_code error) {
  if (error) throw boost::system::system_error(error);
}

} // namespace

asio::awaitable<void> channel::send(record r) {
  if (!channel_.try_send(error_code(), std::move(r))) { // which leaves r alone then
    const auto [error] = co_await channel_.async_send(error_code(), std::move(r), use_tuple);
    throw_if(error);
    ++found_full_;
  }
  ++sent_;
}

/// By a message that comes last, and not by close(): of Boost 1.81, that takes away what is there.
asio::awaitable<void> channel::send_end() {
  const auto [error] = co_await channel_.async_send(asio::error::eof, record(), use_tuple);
  throw_if(error);
}

asio::awaitable<std::optional<record>> channel::receive() {
  auto [error, r] = co_await channel_.async_receive(use_tuple);
  if (error == asio::error::eof) co_return std::nullopt;
  throw_if(error);
  co_return std::move(r);
}

void channel::discard() {
  while (channel_.try_receive([](error_code, record) {})) continue;
}

} // namespace pipeline
