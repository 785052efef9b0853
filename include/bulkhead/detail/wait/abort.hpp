//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_ABORT_HPP
#define BULKHEAD_DETAIL_WAIT_ABORT_HPP

#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel_error.hpp>

#include <exception>

namespace bulkhead::detail {

/// operation_aborted, in the form that a completion signature has for errors.
struct aborted {
  operator error_code() const { return boost::asio::error::operation_aborted; }
  operator std::exception_ptr() const noexcept {
    return to_exception_ptr(boost::asio::error::operation_aborted);
  }
};

/// Whether it says that the operation was cancelled. Asio's channels have a code of their own for that.
inline bool is_abort(const error_code& ec) noexcept {
  return ec == boost::asio::error::operation_aborted ||
         ec == boost::asio::experimental::error::channel_cancelled;
}

inline bool is_abort(const std::exception_ptr& error) noexcept {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const system_error& e) {
    return is_abort(e.code());
  } catch (...) {
    return false;
  }
}

} // namespace bulkhead::detail

#endif
