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
#include <type_traits>
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

template <class F>
struct kept_of {
  using type = std::decay_t<F>;
};
template <class F>
requires requires { typename std::remove_cvref_t<F>::kept_function; }
struct kept_of<F> {
  using type = typename std::remove_cvref_t<F>::kept_function;
};

/// What a pool keeps of a function that it is given as an F: a copy, or what F says it makes of it. So
/// what a function is wrapped in is made where it is kept, and not before there is room for it.
template <class F>
using kept = typename kept_of<F>::type;

} // namespace bulkhead::detail

#endif
