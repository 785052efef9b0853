//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_DRIVER_HPP
#define BULKHEAD_DETAIL_GROUP_DRIVER_HPP

#include <bulkhead/detail/group/group_core.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/system_executor.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// An operation that is a whole group: it starts children, and completes when all have ended.
///
/// Its handler waits in `op_` until on_finished(), which the group calls when nothing runs any
/// more. When the group's own context shuts down, the handler is destroyed in its turn, after the
/// children that may use what it owns; only when the handler's context is another one and goes
/// first, the handler must go at once.
///
/// The group is a part of it: so there is one object to keep, and what keeps the group, a posted
/// function that finds nothing to do any more, keeps all of it for a while. What came from the caller
/// is not to wait for that: conclude() lets it go.
template <class... R>
class driver : public group_driver,
               public shutdown_target,
               public std::enable_shared_from_this<driver<R...>> {
public:
  class waiter : public operation<void(std::exception_ptr, R...)> {
  protected:
    using operation<void(std::exception_ptr, R...)>::operation;
    ~waiter() = default;
  };

  driver(const driver&) = delete;
  driver& operator=(const driver&) = delete;

  boost::asio::execution_context* context() const noexcept { return core_.context(); }

  group_core& core() noexcept { return core_; }

  wait_key reserve(waiter&) noexcept { return the_only_wait; }
  void unreserve(waiter&) noexcept {}

  /// The caller keeps this object meanwhile: all may be over before begin() returns.
  void enqueue(waiter& op) {
    op_.store(&op, std::memory_order_release);
    core_.drive(this->shared_from_this(), pulls());
    begin();
  }

  void cancel(wait_key, boost::asio::cancellation_type type) noexcept {
    if (!op_.load(std::memory_order_acquire)) return;
    cancelled_.store(true, std::memory_order_relaxed);
    on_cancel();
    core_.cancel_children(type, true);
  }

protected:
  driver(const boost::asio::any_io_executor& ex, gate_ptr<gate> parent, std::size_t limit,
         group_core::policy policy)
      : core_(ex, std::move(parent), limit, policy) {}
  virtual ~driver() = default;

  /// Whether on_progress() is of use.
  virtual bool pulls() const noexcept { return false; }

  /// Starts the body, or whatever stands for it.
  virtual void begin() = 0;

  /// The token's slot was emitted at; the children have not heard of it yet.
  virtual void on_cancel() noexcept {}

  /// What to report when all has ended, or null: then succeed() follows, if anybody still waits. `error`
  /// is the group's. What the caller gave, and results that nobody gets, are destroyed here.
  virtual std::exception_ptr conclude(std::exception_ptr error, bool cancelled) noexcept {
    return !error && cancelled ? aborted() : error;
  }

  /// Completes `op` with the result of a group in which nothing failed.
  virtual void succeed(waiter& op) noexcept = 0;

private:
  static constexpr wait_key the_only_wait{0, 0};

  /// What conclude() lets go may end the handler's context, which is to find the handler then.
  void on_finished(std::exception_ptr error, bool is_dead) noexcept final {
    error = conclude(std::move(error), cancelled_.load(std::memory_order_relaxed));
    waiter* const op = op_.exchange(nullptr, std::memory_order_acq_rel);
    if (op && is_dead) {
      op->retire();
    } else if (op) {
      if (error)
        op->complete(std::move(error), R()...);
      else
        succeed(*op);
    }
    core_.end_departure();
    if (op && is_dead) op->destroy();
  }

  /// The handler's own context goes, which is another one.
  void on_context_shutdown(wait_key) noexcept final {
    waiter* const op = op_.exchange(nullptr, std::memory_order_acq_rel);
    if (!op) return core_.wait_for_departures(); // it may be on its way there
    core_.begin_departure();
    op->retire();
    core_.end_departure();
    core_.cancel_children(boost::asio::cancellation_type::terminal, true);
    op->destroy();
  }

  group_core core_;
  sync::atomic<waiter*> op_{nullptr};
  sync::atomic<bool> cancelled_{false}; // through the token's slot
};

inline void require_limit(const char* name, std::size_t limit) {
  if (limit == 0) throw std::invalid_argument(std::string(name) + " must be at least 1 (got 0)");
}

/// Where a group runs: an executor that was named, or that of the handler. An initiation derives
/// from one of them, and so has an executor of its own exactly if one was named.
struct handlers_executor {
  template <class Handler>
  static boost::asio::any_io_executor of(const Handler& handler) {
    // Two candidates tell a handler that has an executor of its own from one that has none.
    static_assert(
        std::is_same_v<boost::asio::associated_executor_t<Handler, boost::asio::system_executor>,
                       boost::asio::associated_executor_t<Handler, boost::asio::any_io_executor>>,
        "the completion handler has no associated executor: pass one as the first argument, or "
        "bind "
        "one to the token with asio::bind_executor");
    return boost::asio::any_io_executor(
        boost::asio::get_associated_executor(handler, boost::asio::system_executor()));
  }
};

struct named_executor {
  using executor_type = boost::asio::any_io_executor;

  executor_type executor;

  executor_type get_executor() const noexcept { return executor; }

  template <class Handler>
  boost::asio::any_io_executor of(const Handler&) const {
    return executor;
  }
};

template <class ExecutorOrContext>
boost::asio::any_io_executor to_executor(ExecutorOrContext& e) {
  if constexpr (std::derived_from<std::remove_cvref_t<ExecutorOrContext>,
                                  boost::asio::execution_context>)
    return e.get_executor();
  else
    return e;
}

/// Makes the driver for a handler and has it begin. `make(executor, parent)` returns a
/// shared_ptr to it; the parent is the task that the handler is part of.
template <class Where, class Handler, class Make>
void begin_driver(const Where& where, Handler&& handler, Make&& make) {
  using handler_type = std::decay_t<Handler>;
  const boost::asio::any_io_executor ex = where.of(handler);
  auto parent = task_gate_of(boost::asio::get_associated_executor(handler, ex));
  auto d = std::forward<Make>(make)(ex, std::move(parent));
  auto slot = boost::asio::get_associated_cancellation_slot(handler);
  start_driver(std::move(d), slot, handler_type(std::forward<Handler>(handler)), ex);
}

template <class Driver, class Slot, class Handler>
void start_driver(std::shared_ptr<Driver> d, Slot slot, Handler&& handler,
                  const boost::asio::any_io_executor& ex) {
  using op = waiting_operation<typename Driver::waiter, Handler, boost::asio::any_io_executor,
                               typename Driver::signature>;
  d->core().attach({d, &d->core()});
  begin_wait(slot, d, *op::create(std::move(handler), ex));
}

} // namespace bulkhead::detail

#endif
