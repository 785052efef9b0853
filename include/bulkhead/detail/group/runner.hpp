//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_GROUP_RUNNER_HPP
#define BULKHEAD_DETAIL_GROUP_RUNNER_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/group/suspended_coroutine.hpp>
#include <bulkhead/detail/group/thread_cache.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/gate.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace bulkhead::detail {

class child;
class group_core;

/// Runs children of groups, one after another, each as if it had been spawned by itself.
///
/// To spawn a coroutine costs Asio half a microsecond and eight allocations: a thread of execution
/// with its entry point, its cancellation state and its completion. A runner is such a thread, made
/// once. Its coroutine awaits a child; when that has ended, the next that its group has for it; then
/// it is *parked*, and kept for whatever group needs a runner next.
///
/// A runner is a gate: whatever concerns the child passes through it, its continuations and the
/// signals meant for it, so that a signal never meets the child half-way, on whatever executor.
/// Between two children the thread's cancellation state is made new, and a signal says for which
/// child it is meant, by its serial number; so none gets what was meant for another.
///
/// Parked, it refers to no executor, and counts as work nowhere. Who still has a child's executor when
/// that child has ended keeps the runner from being used for another: it is parked then.
///
/// Its references: those that the thread itself has to its gate (`own_`, as many as there are when it
/// has been made and is parked for the first time) are not counted while it lives, and are again
/// before the thread ends, however it does: by returning, in end() or leave(), or by being destroyed,
/// in lost(). While it has a child it holds one reference to itself. So if none is left, it is either
/// parked, and goes into the cache, or its thread has ended, and it is destroyed.
class runner final : public gate, public cached<runner> {
public:
  /// One that is parked, for `group`.
  static gate_ptr<runner> of(std::shared_ptr<group_core> group);

  /// Children that are begun in one go, before others that wait for the executor have their turn.
  static constexpr std::size_t most_turns = 16;

  /// What came of run().
  struct stint {
    bool has_run = false;       // there was a child
    std::size_t turns_left = 0; // of `turns`, if a child waits for something now
  };

  /// Runs the child that `assign` gives it, if any, inside this call until it waits for something or
  /// ends; then others that the group has for it, `turns` in all. Called once, before anybody else
  /// knows of it.
  stint run(void (group_core::*assign)(runner&) noexcept, std::size_t turns = most_turns);

  /// Sends `type`, and all that was sent before, to the child with this number, in a later step,
  /// unless it has ended by then.
  void emit(boost::asio::cancellation_type type, std::uint64_t serial);

  /// The group whose child it runs now, if any.
  std::shared_ptr<group_core> group() noexcept;

  task_id task() const noexcept override;
  gate* task_gate() noexcept override { return this; }

private:
  friend class group_core;
  class flight;
  class parking;
  class entrance;
  class returning;
  struct completion;
  struct retire {
    void operator()(runner& r) const noexcept { r.end(); }
  };
  using cache = thread_cache<runner, retire>;

  runner() = default;
  ~runner() override = default;

  static gate_ptr<runner> create(const boost::asio::any_io_executor& ex);
  bool is_shared() const noexcept;
  std::shared_ptr<group_core> leave_group() noexcept;
  void unreferenced() noexcept override;
  boost::asio::awaitable<void> loop();
  template <class Handler>
  void park(Handler&& handler);
  void resume();
  void lost() noexcept;
  void leave() noexcept;
  void end_work() noexcept;
  void end() noexcept;

  // Under the group's mutex: what it runs.
  child* child_ = nullptr;
  std::size_t turns_ = 0;
  mutable sync::atomic<task_id> id_{0}; // since somebody asked for it

  // In the gate.
  std::uint64_t serial_ = 1; // of the child
  bool is_parked_ = false;
  sync::atomic<bool> has_work_{false}; // the executor, while the child waits; see lost()
  boost::asio::cancellation_type emitted_ = boost::asio::cancellation_type::none; // to the child
  boost::asio::cancellation_signal signal_;
  suspended_coroutine coroutine_;
  own_part own_;

  std::shared_ptr<group_core> group_; // changes in the gate, under its mutex
};

} // namespace bulkhead::detail

#endif
