//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_OPERATION_HPP
#define BULKHEAD_DETAIL_WAIT_OPERATION_HPP

#include <bulkhead/detail/wait/handler_wrapper.hpp>
#include <bulkhead/detail/wait/posting.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>

#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/execution/allocator.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/recycling_allocator.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/version.hpp>
#if BOOST_ASIO_VERSION >= 102800
#include <boost/asio/associated_immediate_executor.hpp>
#include <boost/asio/dispatch.hpp>
#endif

#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

// A handler that waits, with everything Asio asks of such a one: memory from its associated
// allocator, given back before it is invoked; outstanding work on its own executor and on the I/O
// object's; completion on its own executor, posted. `operation<Signature>` is what an engine sees
// of it, `waiting_operation` is the rest.

namespace bulkhead::detail {

template <class Executor>
using tracked_executor = std::decay_t<decltype(boost::asio::prefer(
    std::declval<const Executor&>(), boost::asio::execution::outstanding_work.tracked))>;

template <class Executor>
tracked_executor<Executor> track(const Executor& ex) {
  return boost::asio::prefer(ex, boost::asio::execution::outstanding_work.tracked);
}

/// An executor that one function will be posted to, and that has work until then. What Asio's post()
/// would ask of it each time has been asked.
template <class Executor>
class pending_post {
  using never = boost::asio::execution::blocking_t::never_t;
  static constexpr bool can_never = boost::asio::can_require<const Executor&, never>::value;

  static auto prepare(const Executor& ex) {
    if constexpr (can_never)
      return track(boost::asio::require(ex, never()));
    else
      return track(ex);
  }

public:
  explicit pending_post(const Executor& ex) : executor_(prepare(ex)) {}

  /// Strong: if this throws, it may be called again.
  template <class F>
  void post(F f) const {
    if constexpr (can_never) {
      const auto a = boost::asio::get_associated_allocator(f);
      boost::asio::prefer(executor_, boost::asio::execution::allocator(a)).execute(std::move(f));
    } else {
      boost::asio::post(executor_, std::move(f));
    }
  }

private:
  std::decay_t<decltype(prepare(std::declval<const Executor&>()))> executor_;
};

/// The allocator of an operation: its handler's. Where that is the default one, Asio's, which keeps
/// the blocks that a thread has freed last.
template <class T, class Handler>
auto operation_allocator(const Handler& handler) noexcept {
  using associated = boost::asio::associated_allocator_t<Handler>;
  using traits = std::allocator_traits<associated>;
  if constexpr (std::is_same_v<associated, std::allocator<typename traits::value_type>>)
    return boost::asio::recycling_allocator<T>();
  else
    return
        typename traits::template rebind_alloc<T>(boost::asio::get_associated_allocator(handler));
}

/// A handler with its arguments, to be posted straight to its executor: it carries the handler's
/// allocator, but not its executor, so that it needs no second hop.
template <class Handler, class... Args>
class bound_handler {
public:
  using allocator_type = boost::asio::associated_allocator_t<Handler>;

  bound_handler(Handler&& handler, Args&&... args)
      : handler_(std::move(handler)), args_(std::move(args)...) {}

  allocator_type get_allocator() const noexcept {
    return boost::asio::get_associated_allocator(handler_);
  }

  const Handler& handler() const noexcept { return handler_; }

  void operator()() { std::apply(std::move(handler_), std::move(args_)); }

private:
  Handler handler_;
  std::tuple<Args...> args_;
};

#if BOOST_ASIO_VERSION >= 102800
/// One that has to find its executor itself.
template <class Handler, class... Args>
class wandering_handler : public bound_handler<Handler, Args...> {
public:
  using wrapped_handler = Handler;
  using bound_handler<Handler, Args...>::bound_handler;
};
#endif

/// Whether a handler is that of limited_by's acquisition, which goes on with another operation. It has
/// complete_at_once(), begin_wait() and where(), which may mean something else in a user's handler.
template <class Handler>
inline constexpr bool is_permit_waiter = false;

/// Completes a handler whose operation never had to wait, but not inside the initiating function
/// unless an associated immediate executor allows it. One that goes on with another operation sees to
/// that itself.
template <class Handler, class Executor, class... Args>
void complete_immediately(Handler handler, const Executor& ex, Args... args) {
  if constexpr (is_permit_waiter<Handler>) {
    handler.complete_at_once(ex, std::move(args)...);
  } else {
    auto handler_ex = boost::asio::get_associated_executor(handler, ex);
#if BOOST_ASIO_VERSION >= 102800
    auto immediate_ex = boost::asio::get_associated_immediate_executor(handler, handler_ex);
    boost::asio::dispatch(
        immediate_ex, wandering_handler<Handler, Args...>(std::move(handler), std::move(args)...));
#else
    boost::asio::post(handler_ex,
                      bound_handler<Handler, Args...>(std::move(handler), std::move(args)...));
#endif
  }
}

template <class Signature>
class operation;

/// A type-erased handler that waits. An engine links it into its lists through a derived class,
/// and ends its life with exactly one call of complete() or destroy(), under no lock.
template <class... Args>
class operation<void(Args...)> {
public:
  operation(const operation&) = delete;
  operation& operator=(const operation&) = delete;

  /// Posts the handler: it never runs inside the call.
  void complete(Args... args) noexcept {
    const shutdown_registry::arrival foreign(foreign_.depart());
    vtable_.complete(this, std::tuple<Args...>(std::move(args)...));
  }

  /// To be called before destroy() by an engine whose context, or the handler's, may end meanwhile,
  /// and that does not wait for destroy(): then the handler's does, and the engine's need not.
  void retire() noexcept {
    foreign_.begin_departure();
    vtable_.end_io_work(this);
  }

  void destroy() noexcept {
    const shutdown_registry::arrival foreign(foreign_.depart());
    vtable_.destroy(this);
  }

  boost::asio::execution_context* handler_context() const noexcept { return handler_context_; }

  /// Whether the handler belongs to another context than `home`.
  bool is_foreign(const boost::asio::execution_context* home) const noexcept {
    return handler_context_ && handler_context_ != home;
  }

  /// Has `target` told when the handler's own context shuts down, if that is not `home`.
  template <class Engine>
  void watch_handler_context(boost::asio::execution_context* home,
                             const std::weak_ptr<Engine>& target, wait_key key) {
    if (is_foreign(home)) foreign_.subscribe(*handler_context_, target, key);
  }

protected:
  struct vtable {
    void (*complete)(operation*, std::tuple<Args...>&&) noexcept;
    void (*destroy)(operation*) noexcept;
    void (*end_io_work)(operation*) noexcept;
  };

  operation(const vtable& table, boost::asio::execution_context* handler_context) noexcept
      : vtable_(table), handler_context_(handler_context) {}
  ~operation() = default;

private:
  const vtable& vtable_;
  boost::asio::execution_context* handler_context_;
  shutdown_subscription foreign_;
};

/// `Waiter` derives from operation<void(Args...)> and adds what its engine keeps with each wait.
template <class Waiter, class Handler, class Executor, class Signature>
class waiting_operation;

template <class Waiter, class Handler, class Executor, class... Args>
class waiting_operation<Waiter, Handler, Executor, void(Args...)> final : public Waiter {
  using base = operation<void(Args...)>;
  using handler_executor = boost::asio::associated_executor_t<Handler, Executor>;

  static auto allocator_of(const Handler& handler) noexcept {
    return operation_allocator<waiting_operation>(handler);
  }

  // Owns an operation that has been given its results and is on its way to its executor.
  class carrier {
  public:
    explicit carrier(waiting_operation* op) noexcept : op_(op) {}
    carrier(carrier&& other) noexcept : op_(std::exchange(other.op_, nullptr)) {}
    ~carrier() {
      if (op_ && !posting::takes_back(op_)) op_->free();
    }

    void operator()() { std::exchange(op_, nullptr)->invoke(); }

  protected:
    waiting_operation* op_;
  };

  // With the handler's allocator.
  class allocating_carrier : public carrier {
  public:
    using allocator_type = boost::asio::associated_allocator_t<Handler>;
    using carrier::carrier;

    allocator_type get_allocator() const noexcept {
      return boost::asio::get_associated_allocator(this->op_->handler_);
    }
  };

public:
  template <class... WaiterArgs>
  static waiting_operation* create(Handler&& handler, const Executor& ex, WaiterArgs&&... args) {
    auto a = allocator_of(handler);
    waiting_operation* op = a.allocate(1);
    try {
      ::new (static_cast<void*>(op))
          waiting_operation(std::move(handler), ex, std::forward<WaiterArgs>(args)...);
    } catch (...) {
      a.deallocate(op, 1);
      throw;
    }
    try {
      op->begin_work(ex);
    } catch (...) {
      op->free();
      throw;
    }
    return op;
  }

  /// Ends an operation that nobody else has reached, as complete_immediately() does.
  void complete_at_once(const Executor& ex, Args... args) {
    complete_immediately(release(), ex, std::move(args)...);
  }

private:
  template <class... WaiterArgs>
  waiting_operation(Handler&& handler, const Executor& ex, WaiterArgs&&... args)
      : Waiter(table, context_of(boost::asio::get_associated_executor(handler, ex)),
               std::forward<WaiterArgs>(args)...),
        handler_work_(handler_executor(boost::asio::get_associated_executor(handler, ex))),
        handler_(std::move(handler)) {}

  /// Outstanding work beside the handler's: on the I/O object's executor, if that is another, and on
  /// what limited_by's operation is to start on.
  void begin_work(const Executor& ex) {
    if (!is_handlers(ex)) io_work_.emplace(track(ex));
    if constexpr (is_permit_waiter<Handler>) handler_.begin_wait();
  }

  /// Whether `ex` is the handler's executor: then that has work already.
  bool is_handlers(const Executor& ex) const noexcept {
    if constexpr (std::is_same_v<handler_executor, Executor>)
      return boost::asio::get_associated_executor(handler_, ex) == ex;
    else
      return false;
  }

  /// The handler goes last, for it may own what the rest needs: its context, its allocator's memory.
  void free() noexcept { [[maybe_unused]] const Handler last = release(); }

  /// Frees all but the handler.
  Handler release() {
    Handler handler(std::move(handler_));
    auto a = allocator_of(handler);
    this->~waiting_operation();
    a.deallocate(this, 1);
    return handler;
  }

  void invoke() {
    std::tuple<Args...> results(std::move(*results_));
    std::apply(release(), std::move(results));
  }

  static void do_complete(base* b, std::tuple<Args...>&& results) noexcept {
    auto* op = static_cast<waiting_operation*>(b);
    op->results_.emplace(std::move(results));
    // The operation may be gone before post() returns. The I/O object's executor has done its part
    // by then: whoever joins that one must not have to wait until the handler's gets a turn. If the
    // handler's allocator has nothing for the way there, the heap has.
    bool is_back;
    {
      auto handler_work = std::move(op->handler_work_);
      [[maybe_unused]] const std::optional<tracked_executor<Executor>> io_work =
          std::move(op->io_work_);
      op->io_work_.reset();
      posting here(op);
      try {
        handler_work.post(allocating_carrier(op));
      } catch (...) {
        if (here.is_back()) here.insist([&] { handler_work.post(carrier(op)); });
      }
      is_back = here.is_back();
    }
    if (is_back) op->free();
  }

  static void do_destroy(base* b) noexcept { static_cast<waiting_operation*>(b)->free(); }

  static void do_end_io_work(base* b) noexcept {
    static_cast<waiting_operation*>(b)->io_work_.reset();
  }

  static constexpr typename base::vtable table{&do_complete, &do_destroy, &do_end_io_work};

  std::optional<tracked_executor<Executor>> io_work_;
  pending_post<handler_executor> handler_work_;
  Handler handler_;
  std::optional<std::tuple<Args...>> results_;
};

/// Puts a handler into the associated cancellation slot that tells `engine` to cancel the wait
/// `key`. To be called before the wait can be completed by another thread; nobody touches the slot
/// afterwards. The handler holds nothing that a later emit could find dead.
template <class Slot, class Engine>
void install_canceller(Slot slot, std::weak_ptr<Engine> engine, wait_key key) {
  slot.assign([engine = std::move(engine), key](boost::asio::cancellation_type type) {
    using boost::asio::cancellation_type;
    constexpr auto any =
        cancellation_type::terminal | cancellation_type::partial | cancellation_type::total;
    if ((type & any) == cancellation_type::none) return;
    const wait_key k = key; // cancel() may destroy the signal, and this closure with it
    if (auto e = engine.lock()) e->cancel(k, type);
  });
}

} // namespace bulkhead::detail

#endif
