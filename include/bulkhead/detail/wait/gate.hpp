//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_GATE_HPP
#define BULKHEAD_DETAIL_WAIT_GATE_HPP

#include <bulkhead/detail/config.hpp>
#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/function_node.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/posting.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/mapping.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

class gate;

/// Names a task for ever, for its address may soon be that of another one. 0: not known.
using task_id = std::uint64_t;

/// Keeps a gate alive.
template <class Gate>
class gate_ptr {
public:
  gate_ptr() = default;
  explicit gate_ptr(Gate* g) noexcept : gate_(g) {
    if (gate_) gate_->add_ref();
  }
  gate_ptr(const gate_ptr& other) noexcept : gate_ptr(other.gate_) {}
  gate_ptr(gate_ptr&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
  gate_ptr& operator=(gate_ptr other) noexcept {
    std::swap(gate_, other.gate_);
    return *this;
  }
  ~gate_ptr() {
    if (gate_) gate_->release();
  }

  Gate* get() const noexcept { return gate_; }
  Gate* operator->() const noexcept { return gate_; }
  Gate& operator*() const noexcept { return *gate_; }
  explicit operator bool() const noexcept { return gate_ != nullptr; }

private:
  Gate* gate_ = nullptr;
};

/// Lets one function at a time pass, in order of arrival, on an inner executor: a lean strand.
///
/// Whoever runs a child of a group is a gate, and all that concerns the child passes through it: its
/// start, its continuations, the cancellation signals meant for it, its end. So a signal never meets
/// the child half-way, on whatever executor, and nobody else pays for it: the children do not wait
/// for one another.
///
/// A lock guards the queue; `busy_` says that a drain is running or on its way to the inner
/// executor. A drain runs what was queued when it began, and posts itself again for what came
/// meanwhile, so that a function that posts lets others on the inner executor have their turn first.
/// When the inner context is destroyed, the drain is destroyed uninvoked and takes the queue with it.
class gate {
public:
  explicit gate(const boost::asio::any_io_executor& inner);
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;

  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) unreferenced();
  }

  const boost::asio::any_io_executor& inner() const noexcept { return inner_; }
  bool running_in_this_thread() const noexcept;

  /// Queues `f`, or throws. With `may_block`, the inner executor may run it inside this call.
  template <class F>
  void push(F&& f, bool may_block = false) {
    enter(*function_node<node, std::decay_t<F>>::create(std::forward<F>(f)), may_block);
  }

  /// Runs the first function of all, inside this call; what it causes to pass comes after it.
  template <class F>
  void run_first(F&& f) {
    busy_ = true; // nobody else knows of this gate yet
    struct guard {
      gate& g;
      ~guard() noexcept(false) { g.leave_or_reschedule(); }
    } const running{*this};
    std::forward<F>(f)();
  }

  /// The task that all of this is part of.
  virtual task_id task() const noexcept;

  /// The gate that stands for that task, if one does.
  virtual gate* task_gate() noexcept;

  void work_started();
  void work_finished() noexcept;

protected:
  /// A gate that is used again and again, each time on another executor, and for now on none.
  gate() = default;

  virtual ~gate();

  /// Nobody refers to it any more.
  virtual void unreferenced() noexcept { delete this; }

  /// Runs `f` inside this call, as the one that is passing. For those who know that nobody else does.
  template <class F>
  void pass_alone(F&& f) {
    busy_ = true;
    const running_here here(*this);
    std::forward<F>(f)();
  }

  // While nobody else refers to it.

  void set_inner(const boost::asio::any_io_executor& ex) { inner_ = ex; }

  /// Whoever has given one back since has done so before this.
  std::size_t references() const noexcept { return refs_.load(std::memory_order_acquire); }

  /// References, and work, that belong to the gate itself. They are not counted while it lives.
  struct own_part {
    std::size_t refs = 0;
    std::size_t work = 0;
  };
  own_part counted() const noexcept { return {references(), work_}; } // nobody else has it
  void disregard(own_part own) noexcept;
  void regard(own_part own) noexcept;

  // Guards the queue, and what a derived class would have guarded with it.
  spin_lock mutex_;

private:
  class node : public list_hook<> {
  public:
    virtual void run() = 0;
    virtual void destroy() noexcept = 0;

  protected:
    ~node() = default;
  };

  struct frame {
    const gate* running;
    frame* outer;
  };

  class drain_op;

  static frame*& innermost() noexcept { return per_thread<frame*, gate>::get(); }

  /// While a function is passing in this thread.
  class running_here {
  public:
    explicit running_here(gate& g) noexcept
        : gate_(g), here_{&g, std::exchange(innermost(), &here_)} {}
    ~running_here() noexcept(false) {
      innermost() = here_.outer;
      gate_.leave_or_reschedule();
    }
    running_here(const running_here&) = delete;
    running_here& operator=(const running_here&) = delete;

  private:
    gate& gate_;
    frame here_;
  };

  void enter(node& n, bool may_block);
  void post_drain(bool may_block);
  void reschedule();
  void drain();
  void leave_or_reschedule();
  void discard() noexcept;

  sync::atomic<std::size_t> refs_{0};
  boost::asio::any_io_executor inner_;
  intrusive_list<node> queue_;
  bool busy_ = false;
  std::size_t work_ = 0;
  std::optional<boost::asio::any_io_executor> tracked_;
};

/// The executor that a child sees: two words, so that it fits any_io_executor's small buffer.
class gate_executor {
  using blocking_t = boost::asio::execution::blocking_t;
  using outstanding_work_t = boost::asio::execution::outstanding_work_t;
  using context_t = boost::asio::execution::context_t;
  using mapping_t = boost::asio::execution::mapping_t;

public:
  explicit gate_executor(gate& g) noexcept : gate_(&g) {}
  gate_executor(const gate_executor& other) noexcept
      : gate_executor(other.gate_, other.never_, other.tracked_) {}
  gate_executor(gate_executor&& other) noexcept
      : gate_(std::move(other.gate_)), never_(other.never_),
        tracked_(std::exchange(other.tracked_, false)) {}
  gate_executor& operator=(gate_executor other) noexcept {
    std::swap(gate_, other.gate_);
    std::swap(never_, other.never_);
    std::swap(tracked_, other.tracked_);
    return *this;
  }
  ~gate_executor() {
    if (tracked_) gate_->work_finished();
  }

  const boost::asio::any_io_executor& inner() const noexcept { return gate_->inner(); }
  gate* task_gate() const noexcept { return gate_->task_gate(); }
  task_id task() const noexcept { return gate_->task(); }
  bool running_in_this_thread() const noexcept { return gate_->running_in_this_thread(); }

  template <class F>
  void execute(F&& f) const {
    if (!never_ && running_in_this_thread()) {
      std::decay_t<F> copy(std::forward<F>(f));
      std::move(copy)();
    } else {
      gate_->push(std::forward<F>(f), !never_);
    }
  }

  gate_executor require(blocking_t::possibly_t) const { return {gate_, false, tracked_}; }
  gate_executor require(blocking_t::never_t) const { return {gate_, true, tracked_}; }
  gate_executor require(outstanding_work_t::tracked_t) const { return {gate_, never_, true}; }
  gate_executor require(outstanding_work_t::untracked_t) const { return {gate_, never_, false}; }

  blocking_t query(blocking_t) const noexcept {
    if (never_) return blocking_t::never_t();
    return blocking_t::possibly_t();
  }
  outstanding_work_t query(outstanding_work_t) const noexcept {
    if (tracked_) return outstanding_work_t::tracked_t();
    return outstanding_work_t::untracked_t();
  }
  boost::asio::execution_context& query(context_t) const noexcept {
    return boost::asio::query(inner(), boost::asio::execution::context);
  }
  static constexpr mapping_t query(mapping_t) noexcept { return mapping_t::thread_t(); }

  friend bool operator==(const gate_executor& a, const gate_executor& b) noexcept {
    return a.gate_.get() == b.gate_.get() && a.never_ == b.never_ && a.tracked_ == b.tracked_;
  }

private:
  gate_executor(const gate_ptr<gate>& g, bool never, bool tracked) noexcept
      : gate_(g), never_(never), tracked_(tracked) {
    if (tracked_) gate_->work_started();
  }

  gate_ptr<gate> gate_;
  bool never_ = false;
  bool tracked_ = false;
};

/// The task whose functions an executor runs, if that is known: the child of a group.
template <class Executor>
task_id task_of([[maybe_unused]] const Executor& ex) noexcept {
  if constexpr (std::is_same_v<Executor, gate_executor>) {
    return ex.task();
  } else if constexpr (std::is_same_v<Executor, boost::asio::any_io_executor>) {
    const auto* g = ex.template target<gate_executor>();
    return g ? g->task() : 0;
  } else {
    return 0;
  }
}

/// The gate of that task, or null.
template <class Executor>
gate_ptr<gate> task_gate_of([[maybe_unused]] const Executor& ex) noexcept {
  if constexpr (std::is_same_v<Executor, gate_executor>) {
    return gate_ptr<gate>(ex.task_gate());
  } else if constexpr (std::is_same_v<Executor, boost::asio::any_io_executor>) {
    const auto* g = ex.template target<gate_executor>();
    return gate_ptr<gate>(g ? g->task_gate() : nullptr);
  } else {
    return {};
  }
}

/// The executor under all gates. A scope nested in a child runs its own children there; through the
/// child's gate, all of them would have to pass one by one.
inline boost::asio::any_io_executor outside_gates(boost::asio::any_io_executor ex) {
  while (const auto* g = ex.target<gate_executor>()) {
    boost::asio::any_io_executor inner = g->inner();
    ex = std::move(inner);
  }
  return ex;
}

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/gate.ipp>
#endif

#endif
