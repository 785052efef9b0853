//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_EACH_HPP
#define BULKHEAD_DETAIL_GROUP_EACH_HPP

#include <bulkhead/detail/group/child_of.hpp>
#include <bulkhead/detail/group/driver.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include <concepts>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead::detail {

/// An element on loan from the range to one call: referred to where it stays what it is, else kept.
template <class View>
class element {
  using reference = std::ranges::range_reference_t<View>;
  static constexpr bool stays =
      std::ranges::forward_range<View> && std::is_lvalue_reference_v<reference>;
  using stored = std::conditional_t<stays, std::remove_reference_t<reference>*,
                                    std::ranges::range_value_t<View>>;

public:
  using type = std::conditional_t<stays, std::remove_reference_t<reference>,
                                  std::ranges::range_value_t<View>>;

  explicit element(std::ranges::iterator_t<View>& it) : stored_(load(it)) {}

  type& get() noexcept {
    if constexpr (stays)
      return *stored_;
    else
      return stored_;
  }

private:
  static stored load(std::ranges::iterator_t<View>& it) {
    if constexpr (stays)
      return std::addressof(*it);
    else
      return stored(*it);
  }

  stored stored_;
};

template <class F, class T>
inline constexpr bool wants_stop_token = std::invocable<F&, T&, std::stop_token> ||
                                         (!std::invocable<F&, T&> &&
                                          std::invocable<F&, T, std::stop_token>);

/// Calls f with an element, as an lvalue where f takes one, so that a coroutine may refer to it;
/// and with a stop_token, if there is one.
template <class F, class T, class... Stop>
decltype(auto) call_with(F& f, T& value, Stop... stop) {
  require_function(f);
  if constexpr (std::invocable<F&, T&, Stop...>)
    return f(value, std::move(stop)...);
  else
    return f(std::move(value), std::move(stop)...);
}

template <class F, class T>
struct call_of : std::type_identity<decltype(call_with(std::declval<F&>(), std::declval<T&>()))> {};
template <class F, class T>
requires wants_stop_token<F, T>
struct call_of<F, T> : std::type_identity<decltype(call_with(std::declval<F&>(), std::declval<T&>(),
                                                             std::stop_token()))> {
};

template <class View, class F>
using call_result = typename call_of<F, typename element<View>::type>::type;

/// The driver behind async_map(), async_for_each() and async_first(): where a scope has its body, this
/// has a pull.
///
/// Whenever a slot may have become free, pull() takes elements until no slot or no element is left.
/// `pulls_` makes it serial without a lock: who finds it 0 pulls, and pulls again for all who came
/// meanwhile. The first pull is posted, so the initiating function touches no element.
///
/// `Results` says what the calls are for. make() returns the sink for the next element's result,
/// complete() gives them to the handler. Once it is decided(), no call begins and none is needed.
template <class View, class F, class Results, class... R>
class each final : public driver<R...> {
public:
  using signature = void(std::exception_ptr, R...);
  using typename driver<R...>::waiter;
  static constexpr group_core::policy policy = Results::policy;

  each(const boost::asio::any_io_executor& ex, gate_ptr<gate> parent, std::size_t limit, View view,
       F f)
      : driver<R...>(ex, std::move(parent), limit, policy), view_(std::in_place, std::move(view)),
        function_(std::in_place, std::move(f)) {}

private:
  using sink = typename Results::sink;

  /// One call of f, with the element it is for.
  class call {
    static constexpr bool stops = wants_stop_token<F, typename element<View>::type>;

  public:
    call(each& e, std::ranges::iterator_t<View>& it) : each_(&e), element_(it) {}
    decltype(auto) operator()() requires(!stops) { return run(); }
    decltype(auto) operator()(std::stop_token stop) requires stops { return run(std::move(stop)); }

  private:
    template <class... Stop>
    decltype(auto) run(Stop... stop) {
      if (each_->results_.decided()) throw system_error(boost::asio::error::operation_aborted);
      return call_with(*each_->function_, element_.get(), std::move(stop)...);
    }

    each* each_;
    element<View> element_;
  };

  struct call_maker {
    each& self;
    std::ranges::iterator_t<View>& it;
    operator call() const { return call(self, it); } // built in place, moved nowhere
  };

  bool pulls() const noexcept override { return true; }

  void begin() override {
    const auto self = std::static_pointer_cast<each>(this->shared_from_this());
    posting here(this);
    try {
      here.insist([&] { boost::asio::post(this->core().executor(), first_pull(self)); });
    } catch (...) {
      return finish(std::current_exception());
    }
    if (here.is_back()) finish(aborted());
  }

  /// Destroyed uninvoked, it ends a group that has not begun.
  class first_pull {
  public:
    explicit first_pull(std::shared_ptr<each> e) noexcept : each_(std::move(e)) {}
    first_pull(first_pull&&) noexcept = default;
    ~first_pull() {
      if (each_ && !posting::takes_back(each_.get())) each_->finish(aborted());
    }
    void operator()() {
      auto e = std::move(each_);
      e->began_ = true;
      e->on_progress();
    }

  private:
    std::shared_ptr<each> each_;
  };

  void on_progress() noexcept override {
    if (!began_.load(std::memory_order_acquire)) return;
    const auto keep = this->shared_from_this();
    if (pulls_.fetch_add(1, std::memory_order_acq_rel) != 0) return;
    std::size_t served = 1;
    do {
      if (!exhausted_) pull();
      if (results_.succeeded() && !std::exchange(stopped_, true))
        this->core().cancel_children(boost::asio::cancellation_type::terminal, true);
      served = pulls_.fetch_sub(served, std::memory_order_acq_rel) - served;
    } while (served != 0);
  }

  void pull() noexcept {
    try {
      while (!results_.decided()) {
        group_core::slot slot(this->core());
        if (!slot) break;
        if (!fill(slot)) {
          tried_all_ = true;
          return finish(nullptr);
        }
      }
      if (this->core().ended()) finish(nullptr);
    } catch (...) {
      results_.range_failed(std::current_exception());
      finish(std::current_exception());
    }
  }

  /// Starts a call for the next element; false if there is none.
  bool fill(group_core::slot& slot) {
    if (!position_)
      position_.emplace(std::ranges::begin(*view_));
    else
      ++*position_;
    if (*position_ == std::ranges::end(*view_)) return false;
    slot.fill(child_of<call, sink>::create(call_maker{*this, *position_}, results_.make()));
    return true;
  }

  void finish(std::exception_ptr error) noexcept {
    if (std::exchange(exhausted_, true)) return;
    this->core().body_finished(std::move(error));
  }

  void on_cancel() noexcept override { results_.cancelled(); }

  /// What the caller gave goes before the handler can run: it may refer to what ends then.
  std::exception_ptr conclude(std::exception_ptr error, bool cancelled) noexcept override {
    position_.reset();
    view_.reset();
    function_.reset();
    error = driver<R...>::conclude(std::move(error), cancelled);
    return results_.conclude(std::move(error), this->core(), tried_all_);
  }

  void succeed(waiter& op) noexcept override { results_.complete(op); }

  std::optional<View> view_;
  std::optional<std::ranges::iterator_t<View>> position_;
  std::optional<F> function_;
  Results results_;
  sync::atomic<std::size_t> pulls_{0};
  sync::atomic<bool> began_{false};
  bool exhausted_ = false;
  bool tried_all_ = false; // the range has come to its end
  bool stopped_ = false;   // the calls that a success has made needless are cancelled
};

/// What async_map() and async_for_each() have in common: nothing is decided before all have ended.
struct needs_all {
  static constexpr group_core::policy policy = group_core::policy::cancel_siblings;
  static constexpr bool decided() noexcept { return false; }
  static constexpr bool succeeded() noexcept { return false; }
  static void range_failed(const std::exception_ptr&) noexcept {}
  static void cancelled() noexcept {}
  static std::exception_ptr conclude(std::exception_ptr error, const group_core&, bool) noexcept {
    return error;
  }
};

struct no_results : needs_all {
  using sink = ignore_result;
  sink make() noexcept { return {}; }

  template <class Op>
  void complete(Op& op) noexcept {
    op.complete(nullptr);
  }
};

/// Results in the order of the elements. A deque grows without moving what the calls write to.
template <class R>
class results : public needs_all {
public:
  class sink {
  public:
    explicit sink(std::optional<R>& place) noexcept : place_(&place) {}
    template <class T>
    void operator()(T&& value) {
      place_->emplace(std::forward<T>(value));
    }

  private:
    std::optional<R>* place_;
  };

  sink make() { return sink(places_.emplace_back()); }

  std::exception_ptr conclude(std::exception_ptr error, const group_core&, bool) noexcept {
    try {
      if (!error) collect();
    } catch (...) {
      error = std::current_exception();
      all_.clear();
    }
    places_.clear();
    return error;
  }

  template <class Op>
  void complete(Op& op) noexcept {
    op.complete(nullptr, std::move(all_));
  }

private:
  void collect() {
    all_.reserve(places_.size());
    for (auto& place : places_) all_.push_back(std::move(*place));
  }

  std::deque<std::optional<R>> places_;
  std::vector<R> all_;
};

/// How an async_first() ends: by a success, an exception of the range, or a cancellation, whichever
/// comes first in time, or else when all calls have failed. What comes later changes nothing.
class first_verdict {
  enum class verdict { none, success, range_failed, cancelled };

public:
  static constexpr group_core::policy policy = group_core::policy::collect;

  bool decided() const noexcept {
    return verdict_.load(std::memory_order_acquire) != verdict::none;
  }
  bool succeeded() const noexcept {
    return verdict_.load(std::memory_order_acquire) == verdict::success;
  }

  void range_failed(std::exception_ptr error) noexcept {
    if (decide(verdict::range_failed)) range_error_ = std::move(error);
  }
  void cancelled() noexcept { decide(verdict::cancelled); }

  /// After all has ended. A call that was lost with its context ends the group before all are tried.
  std::exception_ptr conclude(std::exception_ptr, const group_core& group,
                              bool tried_all) noexcept {
    switch (verdict_.load(std::memory_order_acquire)) {
    case verdict::success:
      return nullptr;
    case verdict::range_failed:
      return std::move(range_error_);
    case verdict::cancelled:
      return aborted();
    case verdict::none:
      break;
    }
    if (!tried_all) return aborted();
    try {
      return std::make_exception_ptr(multiple_errors(group.errors()));
    } catch (...) {
      return std::current_exception();
    }
  }

protected:
  /// Says whether this was the first success. What it is, its caller may then write down: nobody
  /// reads it before that call has ended.
  bool succeed() noexcept { return decide(verdict::success); }

private:
  bool decide(verdict v) noexcept {
    verdict none = verdict::none;
    return verdict_.compare_exchange_strong(none, v, std::memory_order_acq_rel);
  }

  sync::atomic<verdict> verdict_{verdict::none};
  std::exception_ptr range_error_;
};

/// The first result. It is made before it counts: a call whose result cannot be moved has failed.
template <class R>
class first_result : public first_verdict {
public:
  class sink {
  public:
    explicit sink(first_result& result) noexcept : result_(&result) {}
    template <class T>
    void operator()(T&& value) {
      if (result_->decided()) return;
      auto made = std::make_unique<R>(std::forward<T>(value));
      if (result_->succeed()) result_->value_ = std::move(made);
    }

  private:
    first_result* result_;
  };

  sink make() noexcept { return sink(*this); }

  template <class Op>
  void complete(Op& op) noexcept {
    const std::unique_ptr<R> first = std::move(value_);
    try {
      op.complete(nullptr, std::move(*first));
    } catch (...) { // by moving it
      op.complete(std::current_exception(), R());
    }
  }

private:
  std::unique_ptr<R> value_;
};

template <>
class first_result<void> : public first_verdict {
public:
  class sink {
  public:
    explicit sink(first_result& result) noexcept : result_(&result) {}
    void operator()() noexcept { result_->succeed(); }

  private:
    first_result* result_;
  };

  sink make() noexcept { return sink(*this); }

  template <class Op>
  void complete(Op& op) noexcept {
    op.complete(nullptr);
  }
};

template <class View, class F>
using map_value =
    std::remove_cvref_t<typename value_of<std::remove_cvref_t<call_result<View, F>>>::type>;

template <class View, class F>
struct each_for : std::type_identity<each<View, F, no_results>> {};

template <class View, class F>
struct map_for {
  using value = map_value<View, F>;
  static_assert(!std::is_void_v<value>, "f returns nothing: use async_for_each");
  using type = each<View, F, results<value>, std::vector<value>>;
};

template <class View, class F, class R = map_value<View, F>>
struct first_for {
  static_assert(std::is_default_constructible_v<R> && std::is_move_constructible_v<R>,
                "what f returns must be default-constructible and movable");
  using type = each<View, F, first_result<R>, R>;
};
template <class View, class F>
struct first_for<View, F, void> : std::type_identity<each<View, F, first_result<void>>> {};

template <class Each, class Where>
struct initiate_each : Where {
  template <class Handler, class View, class F>
  void operator()(Handler&& handler, View&& view, std::size_t limit, F&& f) const {
    begin_driver(static_cast<const Where&>(*this), std::forward<Handler>(handler),
                 [&](const boost::asio::any_io_executor& ex, gate_ptr<gate> parent) {
                   return std::make_shared<Each>(ex, std::move(parent), limit, std::move(view),
                                                 std::forward<F>(f));
                 });
  }
};

template <class Each, class Where, class View, class F, class Token>
auto start_each(Where where, const char* name, View view, std::size_t limit, F&& f, Token& token) {
  require_limit(name, limit);
  return initiate<typename Each::signature, Token>(initiate_each<Each, Where>{std::move(where)},
                                                   token, std::move(view), limit,
                                                   std::forward<F>(f));
}

template <class Where, class View, class F, class Token>
auto start_map(Where where, const char* name, View view, std::size_t limit, F&& f, Token& token) {
  using type = typename map_for<View, std::decay_t<F>>::type;
  return start_each<type>(std::move(where), name, std::move(view), limit, std::forward<F>(f),
                          token);
}

template <class Where, class View, class F, class Token>
auto start_for_each(Where where, const char* name, View view, std::size_t limit, F&& f,
                    Token& token) {
  using type = typename each_for<View, std::decay_t<F>>::type;
  return start_each<type>(std::move(where), name, std::move(view), limit, std::forward<F>(f),
                          token);
}

template <class Where, class View, class F, class Token>
auto start_first(Where where, const char* name, View view, std::size_t limit, F&& f, Token& token) {
  using type = typename first_for<View, std::decay_t<F>>::type;
  return start_each<type>(std::move(where), name, std::move(view), limit, std::forward<F>(f),
                          token);
}

} // namespace bulkhead::detail

#endif
