//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_GROUP_CORE_HPP
#define BULKHEAD_DETAIL_GROUP_GROUP_CORE_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace bulkhead::detail {

class group_core;
class child;

/// One async_spawn that waits for its child to start.
class spawn_op : public operation<void(error_code)> {
public:
  wait_key key;
  gate_ptr<child> what;

protected:
  spawn_op(const vtable& table, boost::asio::execution_context* handler_context,
           gate_ptr<child> c) noexcept
      : operation(table, handler_context), what(std::move(c)) {}
  ~spawn_op() = default;
};

/// One unit of work in a group: its gate, and what the group keeps with it.
class child : public gate, public list_hook<> {
public:
  using gate::gate;

  /// Begins, inside the gate. What it starts ends in done(), once.
  virtual void start() = 0;

  /// The end of the work, however it ended. Callable from anywhere: the rest follows in a later
  /// step of the gate, when the frames that are on the stack now, and what they captured, are gone.
  void done(std::exception_ptr error) noexcept;

  /// The work was destroyed, not completed: its context is going.
  void lost() noexcept;

  task_id task() const noexcept final;

  gate_executor get_executor() noexcept { return gate_executor(*this); }
  boost::asio::cancellation_slot slot() noexcept { return signal_.slot(); }
  const std::stop_source& stop_source() const noexcept { return stop_; }

protected:
  /// Destroys the callable and all it holds.
  virtual void clear() noexcept = 0;

private:
  friend class group_core;

  /// A step of the gate that takes the child further. Destroyed uninvoked, it loses the child.
  template <class F>
  class step;

  void run_start() noexcept;
  void end(std::exception_ptr error) noexcept;
  void emit(boost::asio::cancellation_type type);

  std::shared_ptr<group_core> group_; // while it is in the group
  boost::asio::cancellation_signal signal_;
  std::stop_source stop_;
  std::atomic<bool> cancelled_{false};
  spawn_op* waiting_ = nullptr;
  boost::asio::cancellation_type undelivered_ = boost::asio::cancellation_type::none;
  bool is_body_ = false;
  bool starting_ = false;              // start() is on the stack
  bool lost_ = false;                  // meanwhile
  mutable std::atomic<task_id> id_{0}; // since somebody asked for it
};

/// What runs a group from its beginning to its end, where there is such: a scope, a map.
class group_driver {
public:
  /// A child has ended, or the group was cancelled.
  virtual void on_progress() noexcept = 0;

  /// All is over: `result` is the group's. Called once.
  virtual void on_finished(std::exception_ptr result) noexcept = 0;

protected:
  ~group_driver() = default;
};

/// The children of one group: how many may run, who waits, what failed, and when it is over.
///
/// Children are `running_` (posted to their gates) or `pending_` (accepted, in the order in which
/// they came, some with an async_spawn that waits). `settle` is the one function that lets pending
/// children start and that notices the end; every path that ends a child, cancels or closes runs
/// it. All of it happens under one mutex; starting, emitting, completing and destroying happen
/// after it.
///
/// A driver's own part (the body of a scope, the pulling of a map) counts as `body`: it keeps the
/// group from finishing, and takes no slot.
class group_core final : public shutdown_target, public std::enable_shared_from_this<group_core> {
public:
  enum class policy { cancel_siblings, collect };

  group_core(boost::asio::any_io_executor ex, std::size_t limit, policy p);
  ~group_core();

  /// Subscribes with the executor's context.
  void attach();

  /// Makes `driver` responsible, with a body that is running from now on.
  void drive(std::shared_ptr<group_driver> driver);

  const boost::asio::any_io_executor& executor() const noexcept { return executor_; }
  boost::asio::execution_context* context() const noexcept { return context_; }

  // --- children ---

  /// Starts `c` now or when a slot frees. closed: not accepted.
  error_code spawn(gate_ptr<child> c);

  /// Starts `c` if a slot is free and nobody waits for one.
  bool try_spawn(gate_ptr<child> c);

  /// async_spawn: see begin_wait().
  bool spawn_now(const gate_ptr<child>& c, error_code& ec);
  wait_key reserve(spawn_op& op);
  void unreserve(spawn_op& op) noexcept;
  void enqueue(spawn_op& op);
  void cancel(wait_key key, boost::asio::cancellation_type) noexcept;

  /// A slot for a child that is yet to be made: to be followed by spawn_reserved() or unreserve().
  bool reserve_slot() noexcept; // at most one at a time
  void spawn_reserved(gate_ptr<child> c);
  void unreserve_slot() noexcept;

  /// Starts the body.
  void start_body(gate_ptr<child> body);
  void body_finished(std::exception_ptr error) noexcept;

  // --- the end ---

  /// Children that have not started never will. `and_body`: the whole scope, which is for good
  /// whatever the type.
  ///
  /// It must be: a signal reaches the body, or a child that spawns others, only after the step of
  /// its gate that runs now, and what that step still spawns would come too late to be cancelled
  /// with the rest. The body would be told, and leave; a child that nobody told would wait for
  /// ever, and the scope with it. So marking what runs and refusing what comes are one step under
  /// the mutex: a child is in before that step, and gets the signal, or it never gets in. No result
  /// is lost: a cancelled scope has none, whatever its body does.
  void cancel_children(boost::asio::cancellation_type type, bool and_body = false);
  void close() noexcept;

  /// The group is gone: its children are cancelled and on their own.
  void abandon() noexcept;

  const std::shared_ptr<wait_set<std::exception_ptr>>& joins() const noexcept { return joins_; }

  /// Lets pending children start, and completes who waits for the end if this is it.
  void settle() noexcept;

  std::size_t size() const noexcept;
  std::size_t pending() const noexcept;
  std::vector<std::exception_ptr> errors() const;
  bool ended() const noexcept;

private:
  friend class child;

  using children = intrusive_list<child>;

  void child_done(child& c, std::exception_ptr error) noexcept;
  void child_lost(child& c) noexcept;
  void on_context_shutdown(wait_key key) noexcept override;

  error_code refusal() const noexcept;
  bool slot_is_free() const noexcept;
  void adopt(child& c) noexcept;
  void leave(child& c) noexcept;
  void launch(child& c) noexcept;
  bool note(std::exception_ptr error, bool from_body) noexcept;
  bool record(const std::exception_ptr& error, bool was_aborted, bool from_body);
  std::exception_ptr result() const;
  void drop_pending(children& dropped) noexcept;
  void end_dropped(children dropped, error_code ec) noexcept;
  spawn_op* take(wait_key key) noexcept;
  void deliver_cancellations();

  const boost::asio::any_io_executor executor_;
  boost::asio::execution_context* context_ = nullptr;
  const std::size_t limit_;
  const policy policy_;

  mutable std::mutex mutex_;
  children running_;
  children pending_;
  key_table<spawn_op> keys_;
  departures departing_; // spawn operations that were taken out of keys_
  std::size_t reserved_ = 0;
  std::uint64_t reserved_at_ = 0; // cancels_ then
  std::size_t undelivered_ = 0;   // children with a cancellation that is to be emitted
  gate_ptr<child> body_;
  bool body_runs_ = false;
  bool closed_ = false;       // nothing more is accepted
  bool cancelled_ = false;    // an aborted child is no failure any more
  bool aborted_ = false;      // cancelled for good: nothing more starts
  bool dead_ = false;         // the context is going, nothing starts any more
  std::uint64_t cancels_ = 0; // how often
  std::vector<std::exception_ptr> errors_;
  std::shared_ptr<group_driver> driver_;
  std::shared_ptr<wait_set<std::exception_ptr>> joins_ =
      std::make_shared<wait_set<std::exception_ptr>>();
  shutdown_subscription subscription_;
};

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/group_core.ipp>
#endif

#endif
