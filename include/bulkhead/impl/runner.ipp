//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_RUNNER_IPP
#define BULKHEAD_IMPL_RUNNER_IPP

#include <bulkhead/detail/group/group_core.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <mutex>
#include <type_traits>

namespace bulkhead::detail {

/// The child in hand. Destroyed with the coroutine's frames, because the context is going, it loses it.
class runner::flight {
public:
  explicit flight(runner& r) noexcept : runner_(&r) {}
  flight(const flight&) = delete;
  flight& operator=(const flight&) = delete;
  ~flight() {
    if (runner_) runner_->lost();
  }

  void landed() noexcept { runner_ = nullptr; }

private:
  runner* runner_;
};

class runner::parking {
public:
  explicit parking(runner& r) noexcept : runner_(&r) {}

  template <class Handler>
  void operator()(Handler&& handler) const {
    runner_->park(std::forward<Handler>(handler)); // this object may be gone when it returns
  }

private:
  runner* runner_;
};

/// Takes the coroutine back into the gate. Destroyed uninvoked, it destroys the coroutine.
class runner::entrance {
public:
  explicit entrance(runner& r) noexcept : runner_(&r) {}
  entrance(entrance&&) noexcept = default;
  ~entrance() {
    if (runner_ && !posting::takes_back(&runner_->coroutine_)) runner_->coroutine_.destroy();
  }

  void operator()() {
    const gate_ptr<runner> r = std::move(runner_);
    r->coroutine_.resume();
  }

private:
  gate_ptr<runner> runner_;
};

class runner::returning {
public:
  explicit returning(runner& r) noexcept : runner_(&r) {}

  template <class Handler>
  void operator()(Handler&& handler) const {
    const gate_ptr<runner> r(runner_); // this object may be gone then
    r->coroutine_.hold(std::forward<Handler>(handler));
    posting here(&r->coroutine_);
    try {
      here.insist([&r] { r->push(entrance(*r)); });
    } catch (...) {
    }
    if (here.is_back()) r->coroutine_.destroy();
  }

private:
  runner* runner_;
};

/// Without an executor of its own: so Asio emits what the slot gets at once, and we see to it that
/// this is in the gate.
struct runner::completion {
  using cancellation_slot_type = boost::asio::cancellation_slot;

  cancellation_slot_type slot;

  cancellation_slot_type get_cancellation_slot() const noexcept { return slot; }
  void operator()(std::exception_ptr) const noexcept {}
};

BULKHEAD_DECL gate_ptr<runner> runner::of(std::shared_ptr<group_core> group) {
  runner* cached = cache::take();
  gate_ptr<runner> r(cached);
  if (r)
    r->set_inner(group->executor());
  else
    r = create(group->executor());
  r->group_ = std::move(group); // under no lock, for nobody else has the runner
  return r;
}

/// Its coroutine runs until it is parked, inside this call.
BULKHEAD_DECL gate_ptr<runner> runner::create(const boost::asio::any_io_executor& ex) {
  gate_ptr<runner> r(new runner);
  r->set_inner(ex); // where the coroutine is destroyed, should it not get so far
  r->pass_alone(
      [&r] { boost::asio::co_spawn(gate_executor(*r), r->loop(), completion{r->signal_.slot()}); });
  own_part own = r->counted();
  own.refs -= 1; // `r`
  r->disregard(own);
  r->own_ = own;
  return r;
}

BULKHEAD_DECL void runner::unreferenced() noexcept {
  if (!is_parked_) {
    delete this;
  } else {
    set_inner({});
    cache::put(*this);
  }
}

BULKHEAD_DECL runner::stint runner::run(void (group_core::*assign)(runner&) noexcept,
                                        std::size_t turns) {
  add_ref(); // its own
  stint s;
  pass_alone([&] {
    child_ = nullptr;
    turns_ = turns;
    (group_.get()->*assign)(*this);
    if (!child_) {
      leave_group();
      return release();
    }
    s.has_run = true;
    resume();
    if (!child_) return; // it is parked, or has left
    s.turns_left = std::exchange(turns_, most_turns);
    work_started();
    has_work_.store(true, std::memory_order_relaxed);
  });
  return s;
}

BULKHEAD_DECL void runner::emit(boost::asio::cancellation_type type, std::uint64_t serial) {
  retry([&] {
    push([self = gate_ptr<runner>(this), type, serial] {
      if (self->serial_ != serial) return;
      self->emitted_ = self->emitted_ | type; // Asio forgets the first for the second
      self->signal_.emit(self->emitted_);
    });
  });
}

/// Whether somebody has the child's executor, apart from the runner and who has it pass just now.
BULKHEAD_DECL bool runner::is_shared() const noexcept { return references() > 2; }

BULKHEAD_DECL std::shared_ptr<group_core> runner::group() noexcept {
  std::lock_guard lock(mutex_);
  return group_;
}

BULKHEAD_DECL std::shared_ptr<group_core> runner::leave_group() noexcept {
  std::lock_guard lock(mutex_);
  return std::move(group_);
}

BULKHEAD_DECL task_id runner::task() const noexcept {
  static constinit sync::atomic<task_id> last{0};
  task_id id = id_.load(std::memory_order_relaxed);
  if (id != 0) return id;
  const task_id fresh = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return id_.compare_exchange_strong(id, fresh, std::memory_order_relaxed) ? fresh : id;
}

BULKHEAD_DECL boost::asio::awaitable<void> runner::loop() {
  namespace this_coro = boost::asio::this_coro;
  for (;;) {
    co_await boost::asio::async_initiate<const boost::asio::deferred_t, void()>(
        parking(*this), boost::asio::deferred);
    if (!child_) co_return;
    bool is_reusable = true;
    do {
      std::exception_ptr error;
      bool has_awaited = false;
      {
        flight in_flight(*this);
        try {
          if (auto coroutine = child_->start(); coroutine.valid()) {
            has_awaited = true;
            co_await std::move(coroutine);
          }
        } catch (...) {
          error = std::current_exception();
        }
        if (has_awaited && !running_in_this_thread()) { // the child has left for another executor
          co_await this_coro::throw_if_cancelled(false);
          co_await boost::asio::async_initiate<const boost::asio::deferred_t, void()>(
              returning(*this), boost::asio::deferred);
        }
        in_flight.landed();
      }
      ++serial_;
      emitted_ = boost::asio::cancellation_type::none;
      if (has_awaited) {
        co_await this_coro::throw_if_cancelled(true);
        try {
          co_await this_coro::reset_cancellation_state();
        } catch (...) { // no memory for one: nothing may ask for it any more
          is_reusable = false;
        }
      }
      child_->clear(); // while the group still waits for it
      if (is_shared() || !is_reusable) turns_ = 0;
      group_->child_ended(*child_, std::move(error), this);
    } while (child_);
    if (!is_reusable) co_return leave();
  }
}

template <class Handler>
void runner::park(Handler&& handler) {
  coroutine_.hold(std::forward<Handler>(handler));
  end_work();
  const std::shared_ptr<group_core> group = leave_group();
  is_parked_ = true;
  if (group) release(); // its own, of run()
}

BULKHEAD_DECL void runner::resume() {
  is_parked_ = false;
  coroutine_.resume();
}

/// The coroutine's frames are being destroyed: by whoever has its handler, in any thread, and maybe
/// before the step that has made the coroutine wait is over.
BULKHEAD_DECL void runner::lost() noexcept {
  regard(own_);
  end_work();
  signal_.slot().clear(); // what an operation has left there may refer to this gate
  child_->clear();
  leave_group()->lose(child_);
  release(); // its own, of run(); the frames still have some
}

BULKHEAD_DECL void runner::end_work() noexcept {
  if (!has_work_.load(std::memory_order_relaxed)) return;
  has_work_.store(false, std::memory_order_relaxed);
  work_finished();
}

/// The coroutine returns, and is not to be used again.
BULKHEAD_DECL void runner::leave() noexcept {
  regard(own_);
  end_work();
  leave_group();
  release(); // its own, of run(); the frames still have some
}

/// Parked, and used by nobody: lets the coroutine return.
BULKHEAD_DECL void runner::end() noexcept {
  const gate_ptr<runner> keep(this);
  regard(own_);
  child_ = nullptr;
  try {
    pass_alone([this] { resume(); });
  } catch (...) { // Asio had no memory to call the handler of the coroutine, which has returned
  }
}

} // namespace bulkhead::detail

#endif
