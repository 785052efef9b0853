//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_AWAITS_HPP
#define BULKHEAD_DETAIL_WAIT_AWAITS_HPP

#include <bulkhead/error.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <tuple>
#include <utility>

namespace bulkhead::detail {

/// What a coroutine gets that waits for a void(error_code[, T]) with such a token.
template <class Token>
struct awaiting {
  static constexpr bool value = false;
};

template <class Executor>
struct awaiting<boost::asio::use_awaitable_t<Executor>> {
  static constexpr bool value = true;

  template <class T = void>
  using awaitable = boost::asio::awaitable<T, Executor>;

  static void result(error_code ec) {
    if (ec) throw system_error(ec);
  }

  template <class T>
  static T result(error_code ec, T&& t) {
    result(ec);
    return std::forward<T>(t);
  }
};

template <class Executor>
struct awaiting<boost::asio::as_tuple_t<boost::asio::use_awaitable_t<Executor>>> {
  static constexpr bool value = true;

  template <class... T>
  using awaitable = boost::asio::awaitable<std::tuple<error_code, T...>, Executor>;

  template <class... T>
  static std::tuple<error_code, T...> result(error_code ec, T&&... t) {
    return {ec, std::forward<T>(t)...};
  }
};

template <class Token>
concept awaits = awaiting<Token>::value;

template <awaits Token, class... T>
using awaitable_of = typename awaiting<Token>::template awaitable<T...>;

template <awaits Token, class... T>
auto result_of_wait(error_code ec, T&&... t) {
  return awaiting<Token>::result(ec, std::forward<T>(t)...);
}

} // namespace bulkhead::detail

#endif
