//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// refused: timeout: this operation completes without an error_code or exception_ptr

#include <bulkhead/timeout.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <chrono>

void start(boost::asio::io_context& io) {
  boost::asio::post(io, bulkhead::timeout(std::chrono::seconds(1), [] {}));
}
