//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_ADAPTOR_HPP
#define BULKHEAD_DETAIL_WAIT_ADAPTOR_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/wait/abort.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/error.hpp>

#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>

// What completion-token adaptors share: they stand between an operation and the handler of the token
// that they adapt, and look at the error with which the operation completes.

namespace bulkhead::detail {

// --- errors ---

template <class T>
inline constexpr bool is_error = false;
template <>
inline constexpr bool is_error<error_code> = true;
template <>
inline constexpr bool is_error<std::exception_ptr> = true;
template <class T, class... U>
inline constexpr bool is_error<std::tuple<T, U...>> = is_error<T>; // as_tuple has been there

template <class Signature>
inline constexpr bool carries_error = false;
template <class T, class... U>
inline constexpr bool carries_error<void(T, U...)> = is_error<std::decay_t<T>>;

/// The first of the signatures that carries an error.
template <class... Signatures>
struct error_signature;
template <class Signature, class... More>
struct error_signature<Signature, More...>
    : std::conditional_t<carries_error<Signature>, std::type_identity<Signature>,
                         error_signature<More...>> {};
template <>
struct error_signature<> {};

inline void set_error(error_code& e, error_code code) noexcept { e = code; }
inline void set_error(std::exception_ptr& e, error_code code) noexcept {
  e = to_exception_ptr(code);
}
template <class... T>
void set_error(std::tuple<T...>& t, error_code code) {
  set_error(std::get<0>(t), code);
}

inline bool has_failed(const error_code& e) noexcept { return e.failed(); }
inline bool has_failed(const std::exception_ptr& e) noexcept { return e != nullptr; }
template <class... T>
bool has_failed(const std::tuple<T...>& t) noexcept {
  return has_failed(std::get<0>(t));
}

/// The error's code, if it has one.
inline error_code code_of(const error_code& e) noexcept { return e; }
inline error_code code_of(const std::exception_ptr& e) noexcept {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const system_error& s) {
    return s.code();
  } catch (...) {
  }
  return {};
}
template <class... T>
error_code code_of(const std::tuple<T...>& t) noexcept {
  return code_of(std::get<0>(t));
}

// --- executors ---

/// The executor of the I/O object behind an initiation, where that names one.
template <class Initiation>
concept names_executor = requires(const Initiation& i) {
  typename Initiation::executor_type;
  i.get_executor();
};

/// An initiation made of another one. It names an executor exactly if that does.
template <class Initiation>
struct adapted_initiation {
  Initiation initiation;
};

template <names_executor Initiation>
struct adapted_initiation<Initiation> {
  using executor_type = typename Initiation::executor_type;

  Initiation initiation;

  executor_type get_executor() const noexcept { return initiation.get_executor(); }
};

/// Whether an operation with such arguments starts a coroutine, as Asio's co_spawn does.
template <class... Args>
inline constexpr bool starts_coroutine = false;
template <class F>
requires(std::is_invocable_v<std::decay_t<F>&>) inline constexpr bool starts_coroutine<F> =
    is_coroutine<std::invoke_result_t<std::decay_t<F>&>>;

/// The executor of the coroutine that an operation with such arguments starts; empty, if it starts
/// none. Of the executor of any other operation it is not known how long it lives.
template <class... Args, class Initiation>
boost::asio::any_io_executor executor_of_coroutine([[maybe_unused]] const Initiation& i) {
  if constexpr (starts_coroutine<Args...> && names_executor<Initiation>) {
    if constexpr (std::is_convertible_v<typename Initiation::executor_type,
                                        boost::asio::any_io_executor>)
      return i.get_executor();
  }
  return {};
}

// --- initiating ---

/// Initiates an adapted operation with the token that was adapted, or a copy.
template <class... Signatures>
struct adapted_initiate {
  template <class Initiation, class Token, class... Args>
  static decltype(auto) call(Initiation&& initiation, Token token, Args&&... args) {
    return boost::asio::async_initiate<Token, Signatures...>(std::forward<Initiation>(initiation),
                                                             token, std::forward<Args>(args)...);
  }
};

template <class... T>
struct adapted_initiate<void(std::exception_ptr, T...)> {
  template <class Initiation, class Token, class... Args>
  static decltype(auto) call(Initiation&& initiation, Token token, Args&&... args) {
    return detail::initiate<void(std::exception_ptr, T...), Token>(
        std::forward<Initiation>(initiation), token, std::forward<Args>(args)...);
  }
};

} // namespace bulkhead::detail

#endif
