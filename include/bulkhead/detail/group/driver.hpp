//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_DRIVER_HPP
#define BULKHEAD_DETAIL_GROUP_DRIVER_HPP

#include <bulkhead/detail/group/group_core.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/system_executor.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <mutex>
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

  boost::asio::execution_context* context() const noexcept { return core_->context(); }

  wait_key reserve(waiter&) {
    core_->attach();
    return the_only_wait;
  }

  void unreserve(waiter&) noexcept {}

  void enqueue(waiter& op) {
    {
      std::lock_guard lock(mutex_);
      op_ = &op;
    }
    const auto keep = this->shared_from_this();
    core_->drive(keep, pulls());
    begin();
  }

  void cancel(wait_key, boost::asio::cancellation_type type) noexcept {
    {
      std::lock_guard lock(mutex_);
      if (!op_) return;
      cancelled_ = true;
    }
    on_cancel();
    core_->cancel_children(type, true);
  }

protected:
  explicit driver(std::shared_ptr<group_core> core) noexcept : core_(std::move(core)) {}
  virtual ~driver() = default;

  /// Whether on_progress() is of use.
  virtual bool pulls() const noexcept { return false; }

  /// Starts the body, or whatever stands for it.
  virtual void begin() = 0;

  /// The token's slot was emitted at; the children have not heard of it yet.
  virtual void on_cancel() noexcept {}

  /// What to report when all has ended, or null: then succeed() follows. `error` is the group's.
  virtual std::exception_ptr conclude(std::exception_ptr error, bool cancelled) noexcept {
    return !error && cancelled ? aborted() : error;
  }

  /// Completes `op` with the result of a group in which nothing failed.
  virtual void succeed(waiter& op) noexcept = 0;

  const std::shared_ptr<group_core>& core() const noexcept { return core_; }

private:
  static constexpr wait_key the_only_wait{0, 0};

  void on_finished(std::exception_ptr error, bool is_dead) noexcept final {
    waiter* op;
    bool cancelled;
    {
      std::lock_guard lock(mutex_);
      op = std::exchange(op_, nullptr);
      cancelled = cancelled_;
    }
    if (op && is_dead) {
      op->retire();
    } else if (op) {
      error = conclude(std::move(error), cancelled);
      if (error)
        op->complete(std::move(error), R()...);
      else
        succeed(*op);
    }
    core_->end_departure();
    if (op && is_dead) op->destroy();
  }

  /// The handler's own context goes, which is another one.
  void on_context_shutdown(wait_key) noexcept final {
    waiter* op;
    {
      std::lock_guard lock(mutex_);
      op = std::exchange(op_, nullptr);
    }
    if (!op) return;
    core_->begin_departure();
    op->retire();
    core_->end_departure();
    core_->cancel_children(boost::asio::cancellation_type::terminal, true);
    op->destroy();
  }

  const std::shared_ptr<group_core> core_;
  spin_lock mutex_;
  waiter* op_ = nullptr;
  bool cancelled_ = false; // through the token's slot
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
  begin_wait(slot, d, *op::create(std::move(handler), ex));
}

} // namespace bulkhead::detail

#endif
