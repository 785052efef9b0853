//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_CHILD_OF_HPP
#define BULKHEAD_DETAIL_GROUP_CHILD_OF_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/group/group_core.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>

#include <concepts>
#include <exception>
#include <optional>
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

struct ignore_result {
  template <class... T>
  void operator()(T&&...) const noexcept {}
};

// --- how it ends ---

/// The completion handler of a child's work: on its gate, under its cancellation slot. Destroyed
/// uninvoked, it loses the child.
template <class Sink>
class child_completion {
public:
  using executor_type = gate_executor;
  using cancellation_slot_type = boost::asio::cancellation_slot;

  child_completion(child& c, Sink& sink) noexcept : child_(&c), sink_(&sink) {}
  child_completion(child_completion&&) noexcept = default;
  ~child_completion() {
    if (child_) child_->lost();
  }

  executor_type get_executor() const noexcept { return child_->get_executor(); }
  cancellation_slot_type get_cancellation_slot() const noexcept { return child_->slot(); }

  void operator()() { finish(nullptr); }

  template <class... T>
  void operator()(std::exception_ptr error, T&&... value) {
    finish(std::move(error), std::forward<T>(value)...);
  }

  template <class... T>
  void operator()(error_code ec, T&&... value) {
    finish(ec ? to_exception_ptr(ec) : nullptr, std::forward<T>(value)...);
  }

  template <class T, class... U>
  requires(!std::convertible_to<T, std::exception_ptr> && !std::convertible_to<T, error_code>) void
  operator()(T&& value, U&&... more) {
    finish(nullptr, std::forward<T>(value), std::forward<U>(more)...);
  }

private:
  template <class... T>
  void finish(std::exception_ptr error, T&&... value) {
    const gate_ptr<child> c = std::move(child_);
    if (!error) {
      try {
        (*sink_)(std::forward<T>(value)...);
      } catch (...) {
        error = std::current_exception();
      }
    }
    c->done(std::move(error));
  }

  gate_ptr<child> child_;
  Sink* sink_;
};

// --- the child ---

/// A child made of a callable. `Sink` gets its result, in the child's gate.
template <class F, class Sink>
class child_of final : public child {
public:
  template <class G>
  child_of(const boost::asio::any_io_executor& ex, G&& f, Sink sink)
      : child(ex), function_(std::in_place, std::forward<G>(f)), sink_(std::move(sink)) {}

private:
  using result = callable_result<F>;

  void start() override {
    if constexpr (is_coroutine<std::remove_cvref_t<result>>) {
      start_coroutine(invoke());
    } else if constexpr (is_deferred_operation<result>) {
      auto operation = invoke();
      std::move(operation)(child_completion<Sink>(*this, sink_));
    } else {
      if constexpr (std::is_void_v<result>) {
        invoke();
        sink_();
      } else {
        sink_(invoke());
      }
      done(nullptr);
    }
  }

  void clear() noexcept override { function_.reset(); }

  decltype(auto) invoke() { return invoke_with_stop_token(*function_, stop_source()); }

  template <class T, class Executor>
  void start_coroutine(boost::asio::awaitable<T, Executor> a) {
    if constexpr (std::is_void_v<T>)
      boost::asio::co_spawn(get_executor(), std::move(a), child_completion<Sink>(*this, sink_));
    else // co_spawn would ask T to be default-constructible
      boost::asio::co_spawn(get_executor(), sink_result(std::move(a), &sink_),
                            child_completion<ignore_result>(*this, ignore_));
  }

  template <class T, class Executor>
  static boost::asio::awaitable<void, Executor> sink_result(boost::asio::awaitable<T, Executor> a,
                                                            Sink* sink) {
    (*sink)(co_await std::move(a));
  }

  std::optional<F> function_;
  Sink sink_;
  [[no_unique_address]] ignore_result ignore_;
};

/// Something that is itself the work (a coroutine, a deferred operation) as a callable.
template <class T>
struct returns {
  T value;
  T operator()() { return std::move(value); }
};

template <class C>
gate_ptr<child> make_child(const boost::asio::any_io_executor& ex, C&& c) {
  using type = std::decay_t<C>;
  if constexpr (is_coroutine<type> || is_deferred_operation<type>) {
    return gate_ptr<child>(new child_of<returns<type>, ignore_result>(
        ex, returns<type>{std::forward<C>(c)}, ignore_result()));
  } else {
    static_assert(std::invocable<type&> || std::invocable<type&, std::stop_token>,
                  "a child is an awaitable, a deferred operation, or a callable, with nothing or a "
                  "std::stop_token as its argument");
    return gate_ptr<child>(
        new child_of<type, ignore_result>(ex, std::forward<C>(c), ignore_result()));
  }
}

/// A child on its way into a group. It can be started once, so it cannot be copied.
struct new_child {
  gate_ptr<child> ptr;

  explicit new_child(gate_ptr<child> c) noexcept : ptr(std::move(c)) {}
  new_child(new_child&&) noexcept = default;
};

} // namespace bulkhead::detail

template <class Signature>
struct boost::asio::async_result<bulkhead::detail::signature_probe, Signature> {
  template <class... Args>
  static std::type_identity<Signature> initiate(Args&&...);
};

#endif
