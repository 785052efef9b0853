//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_ERROR_HPP
#define BULKHEAD_ERROR_HPP

#include <bulkhead/detail/config.hpp>

#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <cstddef>
#include <exception>
#include <limits>
#include <type_traits>
#include <vector>

namespace bulkhead {

using boost::system::error_code;
using boost::system::system_error;

/// A bound that is none. It is never a default for a queue: it must be written out.
inline constexpr std::size_t unbounded = (std::numeric_limits<std::size_t>::max)();

/// Why an admission was refused or a wait ended. `ec == errc::closed` compiles.
///
/// Cancellation is not among them: it is `boost::asio::error::operation_aborted`, as everywhere.
enum class errc {
  /// Admission refused: the queue and the waiting submitters are at their limits.
  queue_full = 1,
  /// The pool, lane, semaphore, group or limiter no longer admits.
  closed,
  /// This weight can never be granted: it is above the limit.
  exceeds_limit,
  /// Waiting here could never end, e.g. a blocking submit from the pool's own worker.
  would_deadlock,
  /// A token bucket has no token now.
  rate_limited,
  /// A circuit breaker is open.
  circuit_open,
  /// Refused because the queue's delay is too long.
  shed,
  /// The deadline passed before the operation completed.
  deadline_exceeded,
  /// A distributed lease could not be kept.
  lease_lost,
  /// The store behind a distributed limit cannot be reached.
  store_unavailable
};

/// The category of `errc`, named "bulkhead".
const boost::system::error_category& error_category() noexcept;

error_code make_error_code(errc e) noexcept;

/// What a group that collects its failures reports when there is more than one, and async_first()
/// when nothing succeeded, with as many as there were: one, or none, too.
///
/// Thread safety: distinct objects safe; a shared object safe for const access.
class multiple_errors : public std::exception {
public:
  explicit multiple_errors(std::vector<std::exception_ptr> errors) noexcept;

  /// The failures, in the order in which they happened.
  const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }

  const char* what() const noexcept override;

private:
  std::vector<std::exception_ptr> errors_;
};

} // namespace bulkhead

template <>
struct boost::system::is_error_code_enum<bulkhead::errc> : std::true_type {};

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/error.ipp>
#endif

#endif
