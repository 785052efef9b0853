//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TASK_GROUP_HPP
#define BULKHEAD_TASK_GROUP_HPP

#include <bulkhead/detail/group/child_of.hpp>
#include <bulkhead/detail/group/driver.hpp>
#include <bulkhead/detail/group/group_core.hpp>
#include <bulkhead/detail/wait/awaits.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead {

namespace asio = boost::asio;

/// What a group does when a child fails.
enum class on_error {
  cancel_siblings, // cancels the others; the first failure in time is reported
  collect          // lets the others run; all failures are reported
};

struct group_options {
  /// Children in flight at one time, at least 1.
  std::size_t limit = unbounded;

  on_error error = on_error::cancel_siblings;
};

namespace detail {

template <class... R>
class scope;

inline void require_valid(const group_options& o) {
  require_limit("group_options::limit", o.limit);
  if (o.error != on_error::cancel_siblings && o.error != on_error::collect)
    throw std::invalid_argument("group_options::error must be cancel_siblings or collect (got " +
                                std::to_string(static_cast<int>(o.error)) + ")");
}

inline group_core::policy policy_of(const group_options& o) noexcept {
  return o.error == on_error::collect ? group_core::policy::collect
                                      : group_core::policy::cancel_siblings;
}

} // namespace detail

/// Children that run together, at most `limit` at a time, and are waited for together.
///
/// A *child* is an `awaitable<T>`, a deferred Asio operation, a callable that returns either, or a
/// plain callable; a callable that takes a std::stop_token gets one, and one that takes an
/// asio::yield_context is a stackful coroutine. Children run on the group's executor. Each has its
/// own cancellation slot, and whatever concerns it happens on an executor of its own over the
/// group's, one step at a time: on a multi-threaded executor too, cancelling a child never races with
/// the child. `this_coro::executor` of a child is that executor. (A coroutine that binds an operation
/// to another executor, with asio::bind_executor, goes on there: from that operation to its next, a
/// cancellation may race with it, as with asio::co_spawn.)
///
/// A child *fails* by throwing, or, if it is an operation, by completing with an error. One that is
/// empty fails too: an awaitable that was moved from with std::invalid_argument, a null pointer or an
/// empty std::function with std::bad_function_call. With
/// `cancel_siblings` the first failure cancels the other children. After a cancellation,
/// `operation_aborted` from a child (or, from one of Asio's channels, `channel_cancelled`) is no
/// failure, and a child that has not started never will.
///
/// A coroutine is cancelled in a step on the group's executor. If all threads of that are busy with
/// functions that wait to be stopped, and the signal has to pass a coroutine to reach them, as that
/// of an outer scope does, it never arrives: give such functions a pool of their own. (A stop_token
/// of the group's own children is stopped inside the call that cancels.)
///
/// A child that waits for its own group would wait for ever: async_join() from a child completes with
/// `would_deadlock`, and so does async_spawn() if all children in flight would wait for a slot then. It
/// is by its executor that a child is recognised, also from a scope within it.
///
/// Object lifetimes: a group that is destroyed before it was joined cancels its children and leaves
/// them alone; pending joins complete with `operation_aborted`. Only async_scope() guarantees that
/// no child outlives it. Contexts that a group and its waiters use may be destroyed in any order, but
/// not by two threads at one time. One in which a coroutine waits that is a child, for a timer of
/// another context say, must not outlive that of the group, as with asio::co_spawn. And none may be
/// ended by the destructor of a function that never started.
///
/// Thread safety: distinct objects safe, shared objects safe (but for moving and destroying).
class task_group {
  class initiate_spawn;
  class initiate_join;

public:
  using executor_type = asio::any_io_executor;

  /// A group on `ex`.
  ///
  /// Errors: std::invalid_argument naming the option and its value.
  explicit task_group(const executor_type& ex, group_options options = {})
      : core_((detail::require_valid(options),
               std::allocate_shared<detail::group_core>(
                   detail::block_allocator<detail::group_core>(), ex, detail::task_gate_of(ex),
                   options.limit, detail::policy_of(options)))) {
    core_->attach(core_);
  }

  template <class ExecutionContext>
  requires std::derived_from<ExecutionContext, asio::execution_context>
  explicit task_group(ExecutionContext& context, group_options options = {})
      : task_group(executor_type(context.get_executor()), options) {}

  task_group(task_group&& other) noexcept
      : core_(other.core_ ? other.core_->shared_from_this() : nullptr) {
    other.core_.reset();
  }
  task_group& operator=(task_group&&) = delete;

  /// Says so on stderr, in debug builds, if children are cancelled by this.
  ~task_group() {
    if (!core_) return;
    [[maybe_unused]] const std::size_t cancelled = core_->abandon();
#if !defined(NDEBUG)
    if (cancelled != 0)
      std::fprintf(stderr, "bulkhead: a task_group is destroyed, %zu children are cancelled\n",
                   cancelled);
#endif
  }

  executor_type get_executor() const noexcept { return core_->executor(); }

  /// Accepts a child, which starts as soon as fewer than `limit` are in flight, in the order of
  /// spawning. It never starts within this call.
  ///
  /// Errors (system_error)  closed              close() was called
  ///                        operation_aborted   the group was cancelled for good: by cancel(), with
  ///                                            its scope, or, with cancel_siblings, by a failure;
  ///                                            leaving a child or a scope's body, it is no further
  ///                                            failure
  /// Exception safety       strong: if this throws (bad_alloc, or what the executor throws), the child
  ///                        was not accepted
  template <class Child>
  void spawn(Child&& c) {
    if (auto ec = core_->spawn(detail::make_child(std::forward<Child>(c)))) throw system_error(ec);
  }

  /// Accepts a child if it can start now, and nobody waits; else, and when closed, returns false and
  /// leaves it alone.
  template <class Child>
  [[nodiscard]] bool try_spawn(Child&& c) {
    detail::group_core::slot slot(*core_);
    if (slot) slot.fill(detail::make_child(std::forward<Child>(c)));
    return slot.is_filled();
  }

  /// Accepts a child, waiting until it can start.
  ///
  /// Completion signature  void(error_code ec)     the child starts, or has started, if !ec
  /// Executor              the handler's, else get_executor(); never from within this call, unless an
  ///                       associated immediate executor lets what need not wait. A coroutine that
  ///                       awaits this with `use_awaitable`, or as_tuple of it, goes on at once,
  ///                       without passing through its executor, if it need not wait
  /// Cancellation          terminal, partial, total: the child is destroyed, not started
  /// Errors                closed              close() was called
  ///                       would_deadlock      a child asks, and all children in flight would wait
  ///                                           for a slot of this group then
  ///                       operation_aborted   this wait, or the group, was cancelled
  /// Exception safety      strong: if this throws (bad_alloc), the child was not accepted; but where
  ///                       there was a slot, it was if there is no memory to post the handler
  /// Complexity            O(1)
  template <class Child,
            asio::completion_token_for<void(error_code)> Token = asio::use_awaitable_t<>>
  auto async_spawn(Child&& c, Token&& token = Token()) {
    detail::new_child child(detail::make_child(std::forward<Child>(c)));
    if constexpr (detail::awaits<std::decay_t<Token>>)
      return spawn_in_coroutine(core(), std::move(child),
                                std::decay_t<Token>(std::as_const(token)));
    else
      return wait_for_slot<Token>(core(), std::move(child), token);
  }

  /// Waits until no child is in flight or pending. Any number of joins may wait; an empty group
  /// completes them. Afterwards the group can be used again, unless it is closed; what has failed
  /// before is reported again then.
  ///
  /// Completion signature  void(std::exception_ptr e)   the first failure, or, with collect and if
  ///                                                    there were several, multiple_errors
  /// Executor              the handler's, else get_executor(); never from within this call, unless an
  ///                       associated immediate executor lets a refusal
  /// Cancellation          terminal, partial, total: abandons this wait, not the children
  /// Errors                system_error(operation_aborted)   cancelled, or the group was destroyed
  ///                       system_error(would_deadlock)      a child of this group asks
  /// Exception safety      strong: if this throws (bad_alloc), nothing waits
  template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
  auto async_join(Token&& token = Token()) {
    return detail::initiate<void(std::exception_ptr), Token>(initiate_join(core()), token);
  }

  /// Cancels the children: those in flight get `type` through their slots, with the types that they
  /// got before, and a stop_token is stopped whatever the type; those that have not started never
  /// will. A terminal cancellation also closes the group. From now on `operation_aborted` from a
  /// child is no failure.
  void cancel(asio::cancellation_type type = asio::cancellation_type::terminal) {
    core_->cancel_children(type);
  }

  /// Accepts no more. Children that spawn() accepted still run; waiting async_spawn calls complete
  /// with `closed`.
  void close() { core_->close(); }

  /// Children in flight.
  std::size_t size() const noexcept { return core_->size(); }

  /// Children accepted, or waiting to be, that have not started.
  std::size_t pending() const noexcept { return core_->pending(); }

  /// Complexity: O(1), and the group's lock.
  group_stats stats() const noexcept { return core_->stats(); }

  /// The failures so far, in the order in which they happened: at most one with cancel_siblings. Of
  /// further ones, those are left out for which there was no memory.
  std::vector<std::exception_ptr> errors() const { return core_->errors(); }

private:
  template <class...>
  friend class detail::scope;

  /// The group of a scope, of which both are parts.
  explicit task_group(detail::group_core& core) noexcept : core_(std::shared_ptr<void>(), &core) {}

  /// For an operation, which may outlive this object.
  std::shared_ptr<detail::group_core> core() const noexcept { return core_->shared_from_this(); }

  class initiate_spawn {
  public:
    using executor_type = asio::any_io_executor;

    explicit initiate_spawn(std::shared_ptr<detail::group_core> core) : core_(std::move(core)) {}

    executor_type get_executor() const noexcept { return core_->executor(); }

    template <class Handler>
    void operator()(Handler&& handler, detail::new_child&& what) const {
      using handler_type = std::decay_t<Handler>;
      using op = detail::waiting_operation<detail::spawn_op, handler_type, executor_type,
                                           void(error_code)>;
      detail::child_ptr c = std::move(what.ptr);
      error_code ec;
      if (core_->spawn_now(c, ec)) {
        c.reset(); // what was refused goes before the handler runs
        detail::complete_immediately(handler_type(std::forward<Handler>(handler)),
                                     core_->executor(), ec);
        return;
      }
      auto slot = asio::get_associated_cancellation_slot(handler);
      auto core = core_; // once the operation is queued, this object may be gone
      const auto asker =
          detail::task_gate_of(asio::get_associated_executor(handler, core->executor()));
      op& waiter =
          *op::create(handler_type(std::forward<Handler>(handler)), core->executor(), std::move(c));
      detail::prepare_wait(slot, *core, waiter);
      core->enqueue(waiter, asker);
    }

  private:
    std::shared_ptr<detail::group_core> core_;
  };

  /// An operation's awaitable passes through the executor even if the result is there at once. So
  /// that is looked for before there is an operation.
  template <class Token, class Awaitable = detail::awaitable_of<Token>>
  static Awaitable spawn_in_coroutine(std::shared_ptr<detail::group_core> core,
                                      detail::new_child what, Token token) {
    error_code ec;
    if (core->spawn_now(what.ptr, ec)) co_return detail::result_of_wait<Token>(ec);
    co_return co_await wait_for_slot<Token>(std::move(core), std::move(what), token);
  }

  template <class Token>
  static auto wait_for_slot(std::shared_ptr<detail::group_core> core, detail::new_child what,
                            std::remove_reference_t<Token>& token) {
    return asio::async_initiate<Token, void(error_code)>(initiate_spawn(std::move(core)), token,
                                                         std::move(what));
  }

  class initiate_join {
  public:
    using executor_type = asio::any_io_executor;

    explicit initiate_join(std::shared_ptr<detail::group_core> core) : core_(std::move(core)) {}

    executor_type get_executor() const noexcept { return core_->executor(); }

    template <class Handler>
    void operator()(Handler&& handler) const {
      using handler_type = std::decay_t<Handler>;
      using op = detail::waiting_operation<detail::wait_set<std::exception_ptr>::waiter,
                                           handler_type, executor_type, void(std::exception_ptr)>;
      auto slot = asio::get_associated_cancellation_slot(handler);
      auto core = core_;
      if (core->is_within_child(
              detail::task_gate_of(asio::get_associated_executor(handler, core->executor())))) {
        detail::complete_immediately(handler_type(std::forward<Handler>(handler)), core->executor(),
                                     detail::to_exception_ptr(errc::would_deadlock));
        return;
      }
      const auto joins = core->joins(); // which may throw, before there is an operation
      detail::begin_wait(
          slot, joins, *op::create(handler_type(std::forward<Handler>(handler)), core->executor()));
      core->settle();
    }

  private:
    std::shared_ptr<detail::group_core> core_;
  };

  std::shared_ptr<detail::group_core> core_; // in a scope it keeps nothing
};

namespace detail {

template <class Body>
concept stackful_body = !std::invocable<Body&, task_group&> &&
                        requires(Body & body, task_group& group, yield_context& yield) {
  body(group, yield);
};

/// The driver behind async_scope(): the body is a coroutine, in a gate of its own.
template <class... R>
class scope final : public driver<R...> {
public:
  using signature = void(std::exception_ptr, R...);
  using typename driver<R...>::waiter;

  template <class Body>
  static std::shared_ptr<scope> create(const asio::any_io_executor& ex, gate_ptr<gate> parent,
                                       const group_options& o, Body&& body) {
    auto s = std::allocate_shared<scope>(block_allocator<scope>(), ex, std::move(parent), o.limit,
                                         policy_of(o));
    s->make_body(std::forward<Body>(body));
    return s;
  }

  scope(const asio::any_io_executor& ex, gate_ptr<gate> parent, std::size_t limit,
        group_core::policy policy)
      : driver<R...>(ex, std::move(parent), limit, policy), group_(this->core()) {}

private:
  template <class Body>
  struct body_of {
    Body body;
    task_group* group;
    auto operator()() requires std::invocable<Body&, task_group&> {
      require_function(body);
      return body(*group);
    }
    auto operator()(yield_context& yield) requires stackful_body<Body> {
      require_function(body);
      return body(*group, yield);
    }
  };

  struct keep_result {
    scope* self = nullptr;
    template <class... T>
    void operator()(T&&... value) {
      self->result_.emplace(std::forward<T>(value)...);
    }
  };

  template <class Body>
  void make_body(Body&& body) {
    using callable = body_of<std::decay_t<Body>>;
    using sink = std::conditional_t<sizeof...(R) == 0, ignore_result, keep_result>;
    sink s;
    if constexpr (sizeof...(R) != 0) s.self = this;
    body_ = child_of<callable, sink>::create(callable{std::forward<Body>(body), &group_}, s);
  }

  void begin() override { this->core().start_body(std::move(body_)); }

  std::exception_ptr conclude(std::exception_ptr error, bool cancelled) noexcept override {
    error = driver<R...>::conclude(std::move(error), cancelled);
    if (error) result_.reset();
    return error;
  }

  void succeed(waiter& op) noexcept override {
    if constexpr (sizeof...(R) == 0) {
      op.complete(nullptr);
    } else if (result_) {
      std::tuple<R...> result = std::move(*result_);
      result_.reset();
      op.complete(nullptr, std::move(std::get<R>(result))...);
    } else { // the body was aborted
      op.complete(aborted(), R()...);
    }
  }

  task_group group_;
  child_ptr body_;
  std::optional<std::tuple<R...>> result_;
};

template <class T>
struct scope_for : std::type_identity<scope<T>> {};
template <>
struct scope_for<void> : std::type_identity<scope<>> {};

template <class Body>
struct scope_of_body {
  using result = std::invoke_result_t<Body&, task_group&>;
  static_assert(
      is_coroutine<result>,
      "the body of a scope is a callable that takes a task_group& and returns an awaitable, "
      "or takes an asio::yield_context as well");
  using type = typename scope_for<typename value_of<result>::type>::type;
};
template <stackful_body Body>
struct scope_of_body<Body> : scope_for<decltype(std::declval<Body&>()(
                                 std::declval<task_group&>(), std::declval<yield_context&>()))> {};

template <class Body>
using scope_type = typename scope_of_body<std::decay_t<Body>>::type;

template <class Where>
struct initiate_scope : Where {
  template <class Handler, class Body>
  void operator()(Handler&& handler, const group_options& options, Body&& body) const {
    begin_driver(static_cast<const Where&>(*this), std::forward<Handler>(handler),
                 [&](const asio::any_io_executor& ex, gate_ptr<gate> parent) {
                   return scope_type<Body>::create(ex, std::move(parent), options,
                                                   std::forward<Body>(body));
                 });
  }
};

template <class Where, class Body, class Token>
auto start_scope(Where where, const group_options& options, Body&& body, Token& token) {
  require_valid(options);
  return initiate<typename scope_type<Body>::signature, Token>(
      initiate_scope<Where>{std::move(where)}, token, options, std::forward<Body>(body));
}

} // namespace detail

/// Runs `body(task_group&)`, waits for every child that it spawned, and completes with its result.
///
/// No child outlives the scope, whatever throws and whenever it is cancelled. A failing body
/// cancels the children; with cancel_siblings, a failing child cancels the body. Cancelling the
/// scope cancels body and children. The group's own cancel() cancels the children only, and is no
/// error. Children may outlive the body's variables, whatever the body does: what they refer to
/// belongs outside of it.
///
/// `body` returns an `awaitable<T>`, T void or default-constructible; or it is a stackful coroutine,
/// `T body(task_group&, asio::yield_context)`. The scope runs on `ex`, or,
/// in the overload without it, on the handler's associated executor (which must exist): in a
/// coroutine, where the coroutine runs. In a scope within a child, children run beside that child.
///
/// Completion signature  void(std::exception_ptr e[, T result])
/// Executor              the handler's, else `ex`; never from within this call
/// Cancellation          terminal, partial, total: forwarded to body and children, no more are
///                       accepted; completes with operation_aborted when all have ended
/// Errors                the first failure in time of a child or the body; with collect, if there
///                       were several, multiple_errors. Also one that came after a cancellation
///                       system_error(operation_aborted)   cancelled; or the body has left a result
///                                                         out, because the group was
///                       std::invalid_argument, thrown by the call itself, naming the option and its
///                                              value
/// Exception safety      strong: if this throws (bad_alloc), neither body nor child has begun
template <class ExecutorOrContext, class Body, class Token>
auto async_scope(ExecutorOrContext&& ex, group_options options, Body&& body, Token&& token) {
  return detail::start_scope(detail::named_executor{detail::to_executor(ex)}, options,
                             std::forward<Body>(body), token);
}

template <class Body, class Token>
auto async_scope(group_options options, Body&& body, Token&& token) {
  return detail::start_scope(detail::handlers_executor(), options, std::forward<Body>(body), token);
}

} // namespace bulkhead

#endif
