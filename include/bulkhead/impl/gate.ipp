//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_GATE_IPP
#define BULKHEAD_IMPL_GATE_IPP

#include <bulkhead/detail/wait/gate.hpp>

namespace bulkhead::detail {

class gate::drain_op {
public:
  explicit drain_op(gate& g) noexcept : gate_(&g) {}
  drain_op(drain_op&&) noexcept = default;
  ~drain_op() {
    if (gate_ && !posting::takes_back(gate_.get())) gate_->discard();
  }

  void operator()() {
    const gate_ptr<gate> g = std::move(gate_);
    g->drain();
  }

private:
  gate_ptr<gate> gate_;
};

BULKHEAD_DECL gate::gate(const boost::asio::any_io_executor& inner) : inner_(inner) {}

BULKHEAD_DECL gate::~gate() { discard(); }

BULKHEAD_DECL task_id gate::task() const noexcept { return task_of(inner_); }

BULKHEAD_DECL gate* gate::task_gate() noexcept { return task_gate_of(inner_).get(); }

BULKHEAD_DECL bool gate::running_in_this_thread() const noexcept {
  for (const frame* f = innermost(); f; f = f->outer)
    if (f->running == this) return true;
  return false;
}

BULKHEAD_DECL void gate::enter(node& n, bool may_block) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(n);
    if (std::exchange(busy_, true)) return;
  }
  posting here(this);
  try {
    post_drain(may_block);
  } catch (const std::bad_alloc&) {
    if (!here.is_back()) throw; // one of those that have passed
    bool others;
    {
      std::lock_guard lock(mutex_);
      queue_.erase(n);
      others = busy_ = !queue_.empty();
    }
    n.destroy();
    if (others) reschedule();
    throw;
  } catch (...) {
    if (here.is_back()) discard();
    throw;
  }
  if (here.is_back()) discard();
}

BULKHEAD_DECL void gate::post_drain(bool may_block) {
  namespace execution = boost::asio::execution;
  drain_op drain(*this);
  if (may_block)
    inner_.execute(std::move(drain));
  else
    boost::asio::require(inner_, execution::blocking.never).execute(std::move(drain));
}

/// For what is queued already. When the inner executor refuses, by throwing, that is discarded.
BULKHEAD_DECL void gate::reschedule() {
  posting here(this);
  try {
    here.insist([this] { post_drain(false); });
  } catch (...) {
    if (here.is_back()) discard();
    throw;
  }
  if (here.is_back()) discard();
}

BULKHEAD_DECL void gate::drain() {
  const running_here here(*this);
  std::size_t turns;
  {
    std::lock_guard lock(mutex_);
    turns = queue_.size();
  }
  for (; turns != 0; --turns) {
    node* n;
    {
      std::lock_guard lock(mutex_);
      n = &queue_.pop_front();
    }
    n->run();
  }
}

BULKHEAD_DECL void gate::leave_or_reschedule() {
  {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) {
      busy_ = false;
      return;
    }
  }
  reschedule();
}

BULKHEAD_DECL void gate::discard() noexcept {
  for (;;) {
    node* n;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) {
        busy_ = false;
        return;
      }
      n = &queue_.pop_front();
    }
    n->destroy();
  }
}

BULKHEAD_DECL void gate::disregard(own_part own) noexcept {
  refs_.fetch_sub(own.refs, std::memory_order_relaxed);
  std::optional<boost::asio::any_io_executor> last; // ends after the lock
  std::lock_guard lock(mutex_);
  work_ -= own.work;
  if (work_ == 0) last.swap(tracked_);
}

BULKHEAD_DECL void gate::regard(own_part own) noexcept {
  refs_.fetch_add(own.refs, std::memory_order_relaxed);
  std::lock_guard lock(mutex_);
  work_ += own.work;
}

BULKHEAD_DECL void gate::work_started() {
  {
    std::lock_guard lock(mutex_);
    if (work_ != 0) {
      ++work_;
      return;
    }
  }
  std::optional<boost::asio::any_io_executor> tracked;
  retry([&] { // where Asio asks for this, nothing may be thrown
    tracked.emplace(boost::asio::prefer(inner_, boost::asio::execution::outstanding_work.tracked));
  });
  std::lock_guard lock(mutex_); // `tracked` ends after it, if it is too late
  if (work_++ == 0) tracked_.swap(tracked);
}

BULKHEAD_DECL void gate::work_finished() noexcept {
  std::optional<boost::asio::any_io_executor> last;
  std::lock_guard lock(mutex_);
  if (--work_ == 0) {
    last = std::move(tracked_);
    tracked_.reset();
  }
}

} // namespace bulkhead::detail

#endif
