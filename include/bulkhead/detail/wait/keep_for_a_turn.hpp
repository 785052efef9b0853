//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_KEEP_FOR_A_TURN_HPP
#define BULKHEAD_DETAIL_WAIT_KEEP_FOR_A_TURN_HPP

#include <bulkhead/detail/wait/posting.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>

namespace bulkhead::detail {

/// Keeps what `owner` owns until `ex`, which may be part of that, has come to what it was given before.
template <class Owner>
void keep_for_a_turn(const Owner& owner, const boost::asio::any_io_executor& ex) {
  retry([&] { boost::asio::post(ex, [owner] {}); });
}

} // namespace bulkhead::detail

#endif
