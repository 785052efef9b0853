//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_LIMITER_HPP
#define BULKHEAD_LIMITER_HPP

#include <bulkhead/error.hpp>
#include <bulkhead/permit.hpp>

#include <boost/system/result.hpp>

#include <concepts>
#include <cstddef>
#include <memory>

namespace bulkhead {

namespace detail {

/// A completion handler as limiters have to take them: it can only be moved.
struct permit_handler {
  std::unique_ptr<int> owned;
  void operator()(error_code, permit) const noexcept {}
};

} // namespace detail

/// What hands out permits: `static_assert(bulkhead::limiter<bulkhead::semaphore>)`.
///
/// A limiter `l` is asked for `weight` units, or for 1, in two ways:
///
/// * `l.try_acquire(weight)` never waits: `result<permit, rejection>`.
/// * `l.async_acquire(weight, token)` waits where waiting helps, and refuses where it does not:
///   `void(error_code, permit)`. The permit is empty exactly if there is an error. Cancelling the
///   wait leaves it, and a permit that was granted is delivered, never also reported as aborted.
///
/// What it cannot say in types, but its users rely on: a permit may outlive its limiter; it is given
/// back from any thread, without throwing and without running a handler inside the call; refusals are
/// error codes, exceptions mean a lack of memory or wrong arguments, and acquire nothing.
template <class L>
concept limiter = requires(L& l, std::size_t weight, detail::permit_handler handler) {
  { l.try_acquire() } -> std::same_as<boost::system::result<permit, rejection>>;
  { l.try_acquire(weight) } -> std::same_as<boost::system::result<permit, rejection>>;
  l.async_acquire(std::move(handler));
  l.async_acquire(weight, std::move(handler));
};

} // namespace bulkhead

#endif
