//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_CALLABLE_HPP
#define BULKHEAD_DETAIL_CALLABLE_HPP

#include <concepts>
#include <functional>
#include <stdexcept>
#include <stop_token>
#include <string>
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

template <class F>
inline constexpr bool is_std_function = false;
template <class Signature>
inline constexpr bool is_std_function<std::function<Signature>> = true;

/// Whether there is nothing to be called, for one that can say so.
template <class F>
constexpr bool is_empty_function([[maybe_unused]] const F& f) noexcept {
  if constexpr (std::is_pointer_v<F> || is_std_function<F>)
    return !f;
  else
    return false;
}

/// A null pointer does what an empty std::function does: it throws when it is called.
template <class F>
constexpr void require_function([[maybe_unused]] const F& f) {
  if constexpr (std::is_pointer_v<F>)
    if (is_empty_function(f)) throw std::bad_function_call();
}

/// For what is called later, and would fail each time.
template <class F>
void require_not_empty(const char* what, const F& f) {
  if (is_empty_function(f)) throw std::invalid_argument(std::string(what) + " must not be empty");
}

/// Calls `f`, with a std::stop_token if it takes one. `source` is asked for it only then.
template <class F, class StopSource>
decltype(auto) invoke_with_stop_token(F& f, [[maybe_unused]] const StopSource& source) {
  require_function(f);
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
