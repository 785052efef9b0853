//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_INITIATE_HPP
#define BULKHEAD_DETAIL_WAIT_INITIATE_HPP

#include <bulkhead/detail/wait/handler_wrapper.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/async_result.hpp>

#include <exception>
#include <type_traits>
#include <utility>

// asio::async_initiate for signatures that begin with an exception_ptr. It differs for one token:
// Asio's yield_context rethrows whatever exception_ptr arrives, the null pointer of a success
// included (Boost 1.81 and 1.83), so there the pair travels as one value and is taken apart here.

namespace boost::asio {
template <class Executor>
class basic_yield_context; // <boost/asio/spawn.hpp> would pull in Boost.Context
}

namespace bulkhead::detail {

/// A system_error; or bad_alloc, if there is no memory for one.
inline std::exception_ptr to_exception_ptr(error_code ec) noexcept {
  try {
    return std::make_exception_ptr(system_error(ec));
  } catch (...) {
    return std::current_exception();
  }
}

template <class Token>
inline constexpr bool is_yield_context = false;
template <class Executor>
inline constexpr bool is_yield_context<boost::asio::basic_yield_context<Executor>> = true;

template <class... T>
struct attempt;

template <>
struct attempt<> {
  std::exception_ptr error;

  void get() && {
    if (error) std::rethrow_exception(error);
  }
};

template <class T>
struct attempt<T> {
  std::exception_ptr error;
  T value;

  T get() && {
    if (error) std::rethrow_exception(error);
    return std::move(value);
  }
};

template <class Handler, class... T>
class attempt_handler {
public:
  using wrapped_handler = Handler;

  explicit attempt_handler(Handler&& handler) : handler_(std::move(handler)) {}

  const Handler& handler() const noexcept { return handler_; }

  void operator()(std::exception_ptr error, T... value) {
    std::move(handler_)(attempt<T...>{std::move(error), std::move(value)...});
  }

private:
  Handler handler_;
};

template <class Initiation, class... T>
struct attempt_initiation {
  Initiation initiation;

  template <class Handler, class... Args>
  void operator()(Handler&& handler, Args&&... args) {
    std::move(initiation)(attempt_handler<std::decay_t<Handler>, T...>(std::move(handler)),
                          std::forward<Args>(args)...);
  }
};

template <class Signature>
struct exception_initiate;

template <class... T>
struct exception_initiate<void(std::exception_ptr, T...)> {
  template <class Initiation, class Token, class... Args>
  static decltype(auto) call(Initiation&& initiation, Token& token, Args&&... args) {
    if constexpr (is_yield_context<std::remove_cvref_t<Token>>) {
      using adapted = attempt_initiation<std::decay_t<Initiation>, T...>;
      return boost::asio::async_initiate<Token, void(attempt<T...>)>(
                 adapted{std::forward<Initiation>(initiation)}, token, std::forward<Args>(args)...)
          .get();
    } else {
      return boost::asio::async_initiate<Token, void(std::exception_ptr, T...)>(
          std::forward<Initiation>(initiation), token, std::forward<Args>(args)...);
    }
  }
};

/// Initiates an operation whose completion signature is `void(std::exception_ptr, T...)`.
/// `Token` as it was deduced for a forwarding reference: a token that is an lvalue is copied.
template <class Signature, class Token, class Initiation, class... Args>
decltype(auto) initiate(Initiation&& initiation, std::type_identity_t<Token>& token,
                        Args&&... args) {
  return exception_initiate<Signature>::template call<Initiation, Token>(
      std::forward<Initiation>(initiation), token, std::forward<Args>(args)...);
}

} // namespace bulkhead::detail

#endif
