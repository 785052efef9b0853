//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// refused: limited_by: this operation completes without an error_code or exception_ptr

#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

void start(boost::asio::io_context& io, bulkhead::semaphore& s) {
  boost::asio::post(io, bulkhead::limited_by(s, [] {}));
}
