//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A program of its own, built with AddressSanitizer. A wait is cancelled after what it waited for has been
// destroyed: `proof_peer_channel channel` or `proof_peer_channel semaphore`.

#include <bulkhead/semaphore.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <string_view>

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

void wait_for_channel() {
  asio::io_context io;
  asio::cancellation_signal signal;
  auto channel = std::make_unique<asio::experimental::concurrent_channel<void(error_code)>>(io);
  channel->async_receive(asio::bind_cancellation_slot(signal.slot(), [](error_code) {}));
  channel.reset(); // completes it
  io.run();
  signal.emit(asio::cancellation_type::terminal);
}

void wait_for_semaphore() {
  asio::io_context io;
  asio::cancellation_signal signal;
  auto semaphore = std::make_unique<bulkhead::semaphore>(io, 0);
  semaphore->async_acquire(
      1, asio::bind_cancellation_slot(signal.slot(), [](error_code, bulkhead::permit) {}));
  semaphore.reset(); // completes it
  io.run();
  signal.emit(asio::cancellation_type::terminal);
}

} // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 2 ? argv[1] : "";
  if (what == "channel")
    wait_for_channel();
  else if (what == "semaphore")
    wait_for_semaphore();
  else
    return 2;
}
