//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_GROUP_CORE_HPP
#define BULKHEAD_DETAIL_GROUP_GROUP_CORE_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/group/runner.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/abort.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/posting.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/detail/wait/wait_set.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <stop_token>
#include <utility>
#include <vector>

namespace bulkhead::detail {

class spawn_op;

/// One unit of work in a group, and what the group keeps with it.
class child : public list_hook<> {
public:
  /// The work: a coroutine that is it, or, if it is done when this returns, none.
  virtual boost::asio::awaitable<void> start() = 0;

  /// Destroys the callable and all it holds.
  virtual void clear() noexcept = 0;

  /// Destroys the child.
  virtual void destroy() noexcept = 0;

protected:
  child() = default;
  ~child() = default;

  /// For a callable that takes a token.
  std::stop_source stop_{std::nostopstate};

private:
  friend class group_core;

  bool is_body_ = false;
  bool has_failed_ = false;
  boost::asio::cancellation_type undelivered_ = boost::asio::cancellation_type::none;
  runner* runner_ = nullptr; // that runs it; it has not ended as long as this is so
  std::uint64_t serial_ = 0; // with that
  spawn_op* waiting_ = nullptr;
  std::size_t waits_ = 0; // async_spawns in its own group that wait
};

struct destroy_child {
  void operator()(child* c) const noexcept { c->destroy(); }
};

using child_ptr = std::unique_ptr<child, destroy_child>;

/// One async_spawn that waits for its child to start.
class spawn_op : public list_hook<>, public operation<void(error_code)> {
public:
  wait_key key;
  child_ptr what;
  child* asker = nullptr; // the child of the same group that waits

protected:
  spawn_op(const vtable& table, boost::asio::execution_context* handler_context,
           child_ptr c) noexcept
      : operation(table, handler_context), what(std::move(c)) {}
  ~spawn_op() = default;
};

/// What has failed, in the order in which it happened. The first needs no memory; of others, those are
/// left out for which there is none.
class failures {
public:
  bool empty() const noexcept { return !first_; }
  void add(const std::exception_ptr& error) noexcept;
  std::vector<std::exception_ptr> all() const;

  /// What they amount to.
  std::exception_ptr outcome() const noexcept;

private:
  std::exception_ptr first_;
  std::vector<std::exception_ptr> others_;
};

/// What runs a group from its beginning to its end, where there is such: a scope, a map.
class group_driver {
public:
  /// A child has ended, or the group was cancelled. For those who pull.
  virtual void on_progress() noexcept {}

  /// All is over: `result` is the group's. `is_dead`: because its context is going. Called once, to
  /// be answered by end_departure() as soon as the group's context may go.
  virtual void on_finished(std::exception_ptr result, bool is_dead) noexcept = 0;

protected:
  ~group_driver() = default;
};

/// The children of one group: how many may run, who waits, what failed, and when it is over.
///
/// A child is `pending_` (accepted, in the order in which they came, some with an async_spawn that
/// waits), then `ready_` (it has a slot), then `running_` (a runner has it); the last two are in
/// flight. `settle` is the one function that moves children on and that notices the end; every path
/// that ends a child, cancels or closes runs it. All of it happens under one mutex; starting,
/// emitting, completing and destroying happen after it.
///
/// Whenever a child is ready, a *starter* is on its way to the executor: a posted function that
/// takes a runner and has it run what is ready, and another runner if the child waits for something.
/// It posts the next starter before it begins with the first child, if more are ready; so as many
/// threads as the executor has for it take part, and a child that takes long delays nobody. But it
/// does not count on that: a runner whose child has ended goes on with the next, at once, so that a
/// child which ends soon costs no step of the executor. (And if a driver pulls when a child has ended,
/// the first that it pulls is for that child's runner.)
///
/// A driver's own part (the body of a scope, the pulling of a map) counts as `body`: it keeps the
/// group from finishing, and takes no slot.
class group_core final : public shutdown_target {
public:
  enum class policy { cancel_siblings, collect };

  /// A group whose children run on `ex`, and are part of the task of `parent`, if that is not null.
  group_core(const boost::asio::any_io_executor& ex, gate_ptr<gate> parent, std::size_t limit,
             policy p);

  /// Says what keeps this group alive: it owns itself, or is a part of another object. Subscribes with
  /// the executor's context. To be called before anything else.
  void attach(const std::shared_ptr<group_core>& self);

  std::shared_ptr<group_core> shared_from_this() const noexcept { return self_.lock(); }
  const std::weak_ptr<group_core>& weak_from_this() const noexcept { return self_; }

  /// Makes `driver` responsible, with a body that is running from now on.
  void drive(std::shared_ptr<group_driver> driver, bool pulls);

  const boost::asio::any_io_executor& executor() const noexcept { return executor_; }
  boost::asio::execution_context* context() const noexcept { return context_; }

  // --- children ---

  /// Starts `c` now or when a slot frees. closed: not accepted.
  error_code spawn(child_ptr c);

  /// async_spawn: see begin_wait().
  bool spawn_now(child_ptr& c, error_code& ec);
  wait_key reserve(spawn_op& op);
  void unreserve(spawn_op& op) noexcept;
  void enqueue(spawn_op& op, const gate_ptr<gate>& asker) noexcept; // in whose task this is
  void cancel(wait_key key, boost::asio::cancellation_type) noexcept;

  /// A slot for a child that is yet to be made. Given up unused, it may be for others.
  class slot {
  public:
    explicit slot(group_core& core) noexcept;
    slot(const slot&) = delete;
    slot& operator=(const slot&) = delete;
    ~slot();

    explicit operator bool() const noexcept { return core_ != nullptr; }

    /// Has the child start, unless the children were cancelled meanwhile.
    void fill(child_ptr c);
    bool is_filled() const noexcept { return is_filled_; }

  private:
    group_core* core_; // null: there is none, or no more
    std::uint64_t cancels_ = 0;
    bool is_filled_ = false;
  };

  /// Starts the body.
  void start_body(child_ptr body) noexcept;
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

  /// The group is gone: its children are cancelled and on their own. Returns how many there were.
  std::size_t abandon() noexcept;

  /// Who waits for the end.
  std::shared_ptr<wait_set<std::exception_ptr>> joins();

  /// Whether a task is a child of this group, or part of one.
  bool is_within_child(const gate_ptr<gate>& task) noexcept;

  /// Lets pending children start, and completes who waits for the end if this is it.
  void settle() noexcept;

  /// Between taking a handler out and posting it, or destroying it.
  void begin_departure() noexcept;
  void end_departure() noexcept;
  void wait_for_departures() const noexcept;

  std::size_t size() const noexcept;
  std::size_t pending() const noexcept;
  group_stats stats() const noexcept;
  std::vector<std::exception_ptr> errors() const;
  bool ended() const noexcept;

  // --- for runners ---

  /// The child of `r` has ended, and has nothing left of what it was made of. Gives `r` the next, if
  /// there is one and it is its turn.
  void child_ended(child& c, std::exception_ptr error, runner* r) noexcept;

  /// `c`, or what was ready if that is null, can never end.
  void lose(child* c) noexcept;
  void lose_body() noexcept;

  /// Gives `r` its first child, if there is still one: one that is ready, or the body.
  void assign_ready(runner& r) noexcept;
  void assign_body(runner& r) noexcept;

private:
  using children = intrusive_list<child>;
  using spawns = intrusive_list<spawn_op>;
  class starter;
  class body_starter;

  void on_context_shutdown(wait_key key) noexcept override;

  error_code refusal() const noexcept;
  std::size_t in_flight() const noexcept { return ready_.size() + running_.size(); }
  bool slot_is_free() const noexcept;
  bool needs_starter() noexcept;
  void post_starter(child* accepted = nullptr);
  std::pair<bool, bool> take_back(child* accepted) noexcept;
  bool starter_begins() noexcept;
  bool has_ready() const noexcept;
  static void start_ready(std::shared_ptr<group_core> group);
  static void start_body_now(std::shared_ptr<group_core> group);
  void fail_first(std::exception_ptr error) noexcept;
  void give(child& c, runner& r) noexcept;
  void give_next(runner& r) noexcept;
  void give_pulled(runner& r) noexcept;
  void leave(child& c) noexcept;
  bool leave_quietly(child& c, runner& r) noexcept;
  bool starts_waiting(spawn_op& op, runner* asker) noexcept;
  void stop_waiting(spawn_op& op) noexcept;
  bool note(child* c, const std::exception_ptr& error) noexcept;
  bool record(const std::exception_ptr& error, bool from_body);
  void settle(child* ended, runner* r) noexcept;
  void drop_unstarted(children& dropped) noexcept;
  void end_dropped(children dropped, error_code ec) noexcept;
  void depart(spawn_op& op) noexcept;
  void destroy_departed(spawn_op& op) noexcept;
  bool destroy_first_unstarted() noexcept;
  void end_dropping() noexcept;
  spawn_op* take(wait_key key) noexcept;
  void deliver_cancellations();
  gate_ptr<runner> runner_of(gate_ptr<gate> task) const noexcept;

  const boost::asio::any_io_executor executor_;
  const boost::asio::any_io_executor never_blocking_; // the same
  boost::asio::execution_context* const context_;
  const gate_ptr<gate> parent_; // the child that this group is part of
  const std::size_t limit_;
  const policy policy_;

  // What every child changes that is spawned, begins or ends: two lines of memory.

  alignas(64) mutable spin_lock mutex_;
  bool starter_is_posted_ = false;
  bool pulls_ = false;     // the driver does
  bool closed_ = false;    // nothing more is accepted
  bool cancelled_ = false; // an aborted child is no failure any more
  bool aborted_ = false;   // cancelled for good: nothing more starts
  bool dead_ = false;      // a child was lost, or the context is going: nothing starts any more
  bool body_runs_ = false;
  std::size_t reserved_ = 0;
  std::size_t takers_ = 0;   // runners that will look for a child once the driver has pulled
  std::size_t dropping_ = 0; // who destroys children that never started: the group waits for that
  children ready_;
  children running_;
  children pending_;
  std::uint64_t spawned_ = 0;
  std::uint64_t completed_ = 0;

  // The rest.

  alignas(64) child* body_ = nullptr;
  std::size_t undelivered_ = 0;    // children with a cancellation that is to be emitted
  std::size_t waiting_inside_ = 0; // children in flight that wait for a slot of this very group
  std::uint64_t cancels_ = 0;      // how often
  std::uint64_t failed_ = 0;
  std::uint64_t dropped_ = 0; // the cancelled
  bool context_ends_ = false;
  light_departures departing_; // operations that were taken out
  key_table<spawn_op> keys_;
  failures errors_;
  std::weak_ptr<group_core> self_;
  std::shared_ptr<group_driver> driver_;
  std::shared_ptr<wait_set<std::exception_ptr>> joins_; // since the first
  shutdown_subscription subscription_;
};

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/group_core.ipp>
#include <bulkhead/impl/runner.ipp>
#endif

#endif
