//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_SEMAPHORE_HPP
#define BULKHEAD_SEMAPHORE_HPP

#include <bulkhead/detail/wait/awaits.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/semaphore_core.hpp>
#include <bulkhead/detail/wait/wait.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/system/result.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead {

namespace asio = boost::asio;

struct semaphore_options {
  /// async_acquire calls that may wait at one time; one more is refused with `queue_full`.
  std::size_t max_waiters = unbounded;

  /// For statistics.
  std::string name{};

  /// One wait in so many is timed, beginning with the first; 1: each, 0: none. A wait that is timed
  /// reads the clock twice.
  std::size_t timed_waits = 16;

  /// For debugging: the semaphore knows who holds and who waits, see holders() and waiters(), and
  /// refuses with `would_deadlock` what a child of a task_group would wait for in vain because it holds
  /// too much itself. That takes the child that acquires for the one that holds: not for programs in
  /// which permits are handed on while their first holder waits for more. Costs a lock and an
  /// allocation per permit, and each coroutine a trip through its executor; nothing if it is off.
  bool track_holders = false;
};

/// A weighted, first-in-first-out, asynchronous semaphore: at most `limit()` units are held at
/// once.
///
/// Units are *acquired* and *held* by a `permit`, which gives them back when it ends. Requests that
/// do not fit *wait* in one queue. Nobody is overtaken: a small request behind a large one waits,
/// so that the large one cannot starve, and try_acquire() refuses while anyone waits. A request
/// that is cancelled at the head of the queue grants those behind it that now fit, at once.
///
/// Object lifetimes: destroying the semaphore completes its waiters with `operation_aborted`; when
/// its executor's context shuts down first, their handlers are destroyed uninvoked. Permits may
/// outlive the semaphore, the semaphore may outlive its context, unless its executor is an asio::strand,
/// which must not.
///
/// Thread safety: distinct objects safe, shared objects safe (but for moving and destroying).
template <class Executor = asio::any_io_executor>
class basic_semaphore {
public:
  using executor_type = Executor;

  template <class OtherExecutor>
  struct rebind_executor {
    using other = basic_semaphore<OtherExecutor>;
  };

  /// A semaphore of `limit` units. 0 is a pause: everything waits until resize().
  basic_semaphore(const executor_type& ex, std::size_t limit, semaphore_options options = {})
      : executor_(ex), name_(std::move(options.name)),
        core_(std::make_shared<detail::semaphore_core>(
            limit, detail::semaphore_core::settings{options.max_waiters, options.timed_waits,
                                                    options.track_holders})) {
    core_->attach(detail::context_of(executor_));
  }

  template <class ExecutionContext>
  requires std::derived_from<ExecutionContext, asio::execution_context>
  basic_semaphore(ExecutionContext& context, std::size_t limit, semaphore_options options = {})
      : basic_semaphore(executor_type(context.get_executor()), limit, std::move(options)) {}

  basic_semaphore(basic_semaphore&&) noexcept = default;

  basic_semaphore& operator=(basic_semaphore&& other) noexcept {
    if (this != &other) {
      abandon();
      executor_ = other.executor_;
      name_ = std::move(other.name_);
      core_ = std::move(other.core_);
    }
    return *this;
  }

  ~basic_semaphore() { abandon(); }

  executor_type get_executor() const noexcept { return executor_; }

  const std::string& name() const noexcept { return name_; }

  /// Acquires `weight` units if they are to be had now and nobody waits for any.
  ///
  /// Errors       queue_full      they are not to be had now (retry_after is 0: it is not known)
  ///              exceeds_limit   weight > limit() > 0
  ///              closed          close() was called
  /// Complexity   O(1), no allocation
  [[nodiscard]] boost::system::result<permit, rejection>
  try_acquire(std::size_t weight = 1,
              const std::source_location& where = std::source_location::current()) {
    return core_->try_acquire(weight, where);
  }

  /// Acquires `weight` units, waiting in FIFO order while they are not to be had.
  ///
  /// Weight 0 waits its turn like any other, and its permit is true.
  ///
  /// Completion signature  void(error_code ec, permit p)     p is empty unless !ec
  /// Executor              the handler's, else get_executor(); never from within this call, unless an
  ///                       associated immediate executor lets what need not wait. A coroutine that
  ///                       awaits this with `use_awaitable`, or as_tuple of it, goes on at once,
  ///                       without passing through its executor, if it need not wait and nobody
  ///                       waits when this is called
  /// Cancellation          terminal, partial, total: leaves the queue. A permit that was granted
  ///                       already is delivered, never also reported as aborted
  /// Errors                exceeds_limit   weight > limit() > 0, at once or by a later resize()
  ///                       closed          close() was called
  ///                       queue_full      max_waiters are waiting already
  ///                       would_deadlock  see semaphore_options::track_holders
  ///                       operation_aborted   cancelled, or the semaphore was destroyed
  /// Exception safety      strong: if this throws (bad_alloc), nothing was acquired
  /// Complexity            O(1) to acquire, to join the queue and to leave it
  template <asio::completion_token_for<void(error_code, permit)> Token =
                asio::default_completion_token_t<executor_type>>
  auto async_acquire(std::size_t weight, Token&& token = Token(),
                     const std::source_location& where = std::source_location::current()) {
    if constexpr (detail::awaits<std::decay_t<Token>>)
      return core_->is_crowded()
                 ? wait_in_coroutine(weight, std::decay_t<Token>(std::as_const(token)), where)
                 : acquire_in_coroutine(*this, weight, std::decay_t<Token>(std::as_const(token)),
                                        where);
    else
      return asio::async_initiate<Token, void(error_code, permit)>(
          initiate_acquire<std::shared_ptr<detail::semaphore_core>>(executor_, core_), token,
          weight, where);
  }

  /// async_acquire(1, token)
  template <asio::completion_token_for<void(error_code, permit)> Token =
                asio::default_completion_token_t<executor_type>>
  auto async_acquire(Token&& token = Token(),
                     const std::source_location& where = std::source_location::current()) {
    return async_acquire(1, std::forward<Token>(token), where);
  }

  /// Gives back `n` units of permits that were forgotten with permit::forget().
  ///
  /// Errors: std::invalid_argument if fewer are; nothing has changed then. What it grants is posted.
  void release(std::size_t n) { core_->release(n); }

  /// Changes the limit. Below in_use() nothing is taken back, and nothing granted until it fits;
  /// 0 pauses. With `limit` > 0, waiters heavier than that complete with `exceeds_limit`.
  void resize(std::size_t limit) { core_->resize(limit); }

  /// Grants nothing more: waiters complete with `closed`, as do later calls. Held permits stay
  /// valid.
  void close() { core_->close(); }

  std::size_t limit() const noexcept { return core_->limit(); }
  std::size_t in_use() const noexcept { return core_->in_use(); }
  std::size_t available() const noexcept { return core_->available(); }
  std::size_t waiting() const noexcept { return core_->waiting(); }

  /// Whether nothing is in use and nobody waits, at one moment.
  bool idle() const noexcept { return core_->idle(); }

  /// Complexity: O(1), and the lock that waits take.
  semaphore_stats stats() const noexcept { return core_->stats(); }

  /// Who holds units, the first grant first, if that is tracked; else nobody. O(n).
  std::vector<permit_user> holders() const { return core_->holders(); }

  /// Who waits, in line, if that is tracked; else nobody. O(n).
  std::vector<permit_user> waiters() const { return core_->waiters(); }

private:
  /// `Core` is a pointer to the engine: an owning one, if the operation may be started later.
  template <class Core>
  class initiate_acquire {
  public:
    using executor_type = Executor;

    initiate_acquire(const Executor& ex, Core core) : executor_(ex), core_(std::move(core)) {}

    executor_type get_executor() const noexcept { return executor_; }

    template <class Handler>
    void operator()(Handler&& handler, std::size_t weight, std::source_location where) const {
      using handler_type = std::decay_t<Handler>;
      using op = detail::waiting_operation<detail::acquire_op, handler_type, Executor,
                                           void(error_code, permit)>;
      error_code ec;
      permit p;
      if (core_->acquire_now(weight, ec, p)) {
        detail::complete_immediately(handler_type(std::forward<Handler>(handler)), executor_, ec,
                                     std::move(p));
        return;
      }
      auto slot = asio::get_associated_cancellation_slot(handler);
      std::unique_ptr<detail::holder> who;
      if (core_->tracks_holders()) {
        constexpr bool is_operations = detail::is_permit_waiter<handler_type>;
        if constexpr (is_operations) where = handler.where();
        const detail::task_id task =
            detail::task_of(asio::get_associated_executor(handler, executor_));
        who = std::make_unique<detail::holder>(*core_, weight, where, task, is_operations);
      }
      op& waiter = *op::create(handler_type(std::forward<Handler>(handler)), executor_, weight);
      waiter.who = std::move(who);
      detail::prepare_wait(slot, *core_, waiter);
      // Once the operation is queued, this object may be gone, and the engine with it.
      if (core_->enqueue(waiter, ec, p)) waiter.complete_at_once(executor_, ec, std::move(p));
    }

  private:
    Executor executor_;
    Core core_;
  };

  /// An operation's awaitable passes through the executor even if the result is there at once. So
  /// that is looked for before there is an operation; unless somebody waits already, for it takes a
  /// second coroutine.
  template <class Token, class Awaitable = detail::awaitable_of<Token, permit>>
  static Awaitable acquire_in_coroutine(basic_semaphore& self, std::size_t weight, Token token,
                                        std::source_location where) {
    error_code ec;
    permit p;
    if (self.core_->acquire_now(weight, ec, p))
      co_return detail::result_of_wait<Token>(ec, std::move(p));
    co_return co_await self.wait_in_coroutine(weight, std::move(token), where);
  }

  template <class Token>
  auto wait_in_coroutine(std::size_t weight, Token token, const std::source_location& where) {
    return asio::async_initiate<Token, void(error_code, permit)>(
        initiate_acquire<detail::semaphore_core*>(executor_, core_.get()), token, weight, where);
  }

  void abandon() noexcept {
    if (core_) core_->abandon();
  }

  Executor executor_;
  std::string name_;
  std::shared_ptr<detail::semaphore_core> core_;
};

using semaphore = basic_semaphore<>;

} // namespace bulkhead

#endif
