//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_CALLABLE_HPP
#define BULKHEAD_DETAIL_CALLABLE_HPP

#include <concepts>
#include <stop_token>
#include <utility>

namespace boost::asio {
template <class T, class Executor>
class awaitable;
}

namespace bulkhead::detail {

template <class T>
inline constexpr bool is_coroutine = false;
template <class T, class Executor>
inline constexpr bool is_coroutine<boost::asio::awaitable<T, Executor>> = true;

/// Calls `f`, with a std::stop_token if it takes one. `source` is asked for it only then.
template <class F, class StopSource>
decltype(auto) invoke_with_stop_token(F& f, [[maybe_unused]] const StopSource& source) {
  if constexpr (std::invocable<F&, std::stop_token>)
    return f(source.get_token());
  else
    return f();
}

template <class F>
using callable_result =
    decltype(invoke_with_stop_token(std::declval<F&>(), std::declval<const std::stop_source&>()));

} // namespace bulkhead::detail

#endif
