//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_CHILD_OF_HPP
#define BULKHEAD_DETAIL_GROUP_CHILD_OF_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/group/await_operation.hpp>
#include <bulkhead/detail/group/group_core.hpp>
#include <bulkhead/detail/group/thread_cache.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <concepts>
#include <exception>
#include <new>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

// --- what a child is made of ---

template <class T>
inline constexpr bool is_deferred_operation =
    boost::asio::is_deferred<std::remove_cvref_t<T>>::value;

/// A token that initiates nothing: with it an operation returns its completion signature.
struct signature_probe {};

template <class Signature>
struct value_of_signature;
template <>
struct value_of_signature<void()> : std::type_identity<void> {};
template <class E>
struct value_of_signature<void(E)>
    : std::conditional<std::is_same_v<E, std::exception_ptr> || std::is_same_v<E, error_code>, void,
                       E> {};
template <class E, class T>
struct value_of_signature<void(E, T)> : std::type_identity<T> {};

/// What comes out of a child in the end, whatever it is made of.
template <class R>
struct value_of : std::type_identity<R> {};
template <class T, class Executor>
struct value_of<boost::asio::awaitable<T, Executor>> : std::type_identity<T> {};
template <class R>
requires is_deferred_operation<R>
struct value_of<R>
    : value_of_signature<typename decltype(std::declval<R>()(signature_probe()))::type> {
};

/// What a stackful coroutine gets: a complete type where <boost/asio/spawn.hpp> is included, and only
/// there can a callable take it.
using yield_context = boost::asio::basic_yield_context<boost::asio::any_io_executor>;

template <class F>
concept stackful = !std::invocable<F&> && !std::invocable<F&, std::stop_token> &&
                   requires(F & f, yield_context& yield) {
  f(yield);
};

/// What a callable returns, called as the child that it makes.
template <class F>
struct work_of : std::remove_cvref<callable_result<F>> {};
template <stackful F>
struct work_of<F>
    : std::remove_cvref<decltype(std::declval<F&>()(std::declval<yield_context&>()))> {};

struct ignore_result {
  template <class... T>
  void operator()(T&&...) const noexcept {}
};

// --- the child ---

/// A child made of a callable. `Sink` gets its result, in the child's gate.
template <class F, class Sink>
class child_of final : public child {
  using result = typename work_of<F>::type;

public:
  template <class G>
  static child_ptr create(G&& f, Sink sink) {
    child_of* c = allocator().allocate(1);
    try {
      return child_ptr(::new (static_cast<void*>(c)) child_of(std::forward<G>(f), std::move(sink)));
    } catch (...) {
      allocator().deallocate(c, 1);
      throw;
    }
  }

private:
  using allocator = block_allocator<child_of>;

  template <class G>
  child_of(G&& f, Sink sink)
      : function_(std::in_place, std::forward<G>(f)), sink_(std::move(sink)) {
    if constexpr (std::invocable<F&, std::stop_token>) stop_ = std::stop_source();
  }
  ~child_of() = default;

  boost::asio::awaitable<void> start() override {
    if constexpr (stackful<F>) {
      require_function(*function_);
      return await_stackful(&*function_, &sink_);
    } else if constexpr (std::is_same_v<result, boost::asio::awaitable<void>> &&
                         std::is_same_v<Sink, ignore_result>) {
      return not_empty(invoke());
    } else if constexpr (is_coroutine<result>) {
      return await_coroutine(not_empty(invoke()), &sink_);
    } else if constexpr (is_deferred_operation<result>) {
      return awaited_operation<result, Sink>::await(invoke(), &sink_);
    } else if constexpr (std::is_void_v<result>) {
      invoke();
      sink_();
      return {};
    } else {
      sink_(invoke());
      return {};
    }
  }

  void clear() noexcept override { function_.reset(); }

  void destroy() noexcept override {
    this->~child_of();
    allocator().deallocate(this, 1);
  }

  decltype(auto) invoke() { return invoke_with_stop_token(*function_, stop_); }

  template <class Awaitable>
  static Awaitable not_empty(Awaitable&& a) {
    if (!a.valid()) throw std::invalid_argument("task_group: an awaitable must not be empty");
    return std::move(a);
  }

  template <class T>
  static boost::asio::awaitable<void> await_coroutine(boost::asio::awaitable<T> a, Sink* sink) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(a);
      (*sink)();
    } else {
      (*sink)(co_await std::move(a));
    }
  }

  /// A coroutine for another type of executor is a thread of its own, on the same gate.
  template <class T, class Executor>
  static boost::asio::awaitable<void> await_coroutine(boost::asio::awaitable<T, Executor> a,
                                                      Sink* sink) {
    static_assert(std::convertible_to<boost::asio::any_io_executor, Executor>,
                  "a child's executor is an any_io_executor: make it an asio::awaitable<T>");
    const Executor ex = co_await boost::asio::this_coro::executor;
    auto operation = boost::asio::co_spawn(ex, std::move(a), boost::asio::deferred);
    co_await awaited_operation<decltype(operation), Sink>::await(std::move(operation), sink);
  }

  /// A stackful coroutine is a thread of its own too.
  template <class Yield = yield_context>
  static boost::asio::awaitable<void> await_stackful(F* f, Sink* sink) {
    const boost::asio::any_io_executor ex = co_await boost::asio::this_coro::executor;
    auto function = [f](Yield yield) { return (*f)(yield); };
    auto operation = spawn(ex, function, boost::asio::deferred); // Asio's: see yield_context
    co_await awaited_operation<decltype(operation), Sink>::await(std::move(operation), sink);
  }

  std::optional<F> function_;
  [[no_unique_address]] Sink sink_;
};

/// Something that is itself the work (a coroutine, a deferred operation) as a callable.
template <class T>
struct returns {
  T value;
  T operator()() { return std::move(value); }
};

template <class C>
child_ptr make_child(C&& c) {
  using type = std::decay_t<C>;
  if constexpr (is_coroutine<type> || is_deferred_operation<type>) {
    return child_of<returns<type>, ignore_result>::create(returns<type>{std::forward<C>(c)},
                                                          ignore_result());
  } else {
    static_assert(
        std::invocable<type&> || std::invocable<type&, std::stop_token> || stackful<type>,
        "a child is an awaitable, a deferred operation, or a callable that takes nothing, a "
        "std::stop_token, or an asio::yield_context");
    return child_of<type, ignore_result>::create(std::forward<C>(c), ignore_result());
  }
}

/// A child on its way into a group. It can be started once, so it cannot be copied.
struct new_child {
  child_ptr ptr;

  explicit new_child(child_ptr c) noexcept : ptr(std::move(c)) {}
  new_child(new_child&&) noexcept = default;
};

} // namespace bulkhead::detail

template <class Signature>
struct boost::asio::async_result<bulkhead::detail::signature_probe, Signature> {
  template <class... Args>
  static std::type_identity<Signature> initiate(Args&&...);
};

#endif
