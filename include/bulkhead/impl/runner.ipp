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
#include <boost/asio/post.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <mutex>
#include <new>
#include <thread>
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
  gate_ptr<runner> r = cached ? gate_ptr<runner>(cached) : create();
  r->set_inner(group->executor());
  r->group_ = std::move(group); // under no lock, for nobody else has the runner
  return r;
}

/// Its coroutine runs until it is parked, inside this call.
BULKHEAD_DECL gate_ptr<runner> runner::create() {
  gate_ptr<runner> r(new runner);
  r->set_inner(boost::asio::system_executor());
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
    if (is_parked_) return;
    s.turns_left = std::exchange(turns_, most_turns);
    work_started();
    has_work_.store(true, std::memory_order_relaxed);
  });
  return s;
}

BULKHEAD_DECL void runner::emit(boost::asio::cancellation_type type, std::uint64_t serial) {
  class delivery {
  public:
    delivery(runner& r, boost::asio::cancellation_type t, std::uint64_t s) noexcept
        : runner_(&r), type_(t), serial_(s) {}
    delivery(delivery&&) noexcept = default;
    ~delivery() {
      if (runner_) posting::takes_back(&runner_->signal_);
    }
    void operator()() {
      if (runner_->serial_ == serial_) runner_->signal_.emit(type_);
    }

  private:
    gate_ptr<runner> runner_;
    boost::asio::cancellation_type type_;
    std::uint64_t serial_;
  };
  posting here(&signal_);
  here.insist([&] { push(delivery(*this, type, serial)); });
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
  static constinit std::atomic<task_id> last{0};
  task_id id = id_.load(std::memory_order_relaxed);
  if (id != 0) return id;
  const task_id fresh = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return id_.compare_exchange_strong(id, fresh, std::memory_order_relaxed) ? fresh : id;
}

BULKHEAD_DECL boost::asio::awaitable<void> runner::loop() {
  namespace this_coro = boost::asio::this_coro;
  for (;;) {
    for (bool is_asked = false; !is_asked;) {
      try { // for Asio allocates to suspend, and who gives up here is never seen again
        co_await boost::asio::async_initiate<const boost::asio::deferred_t, void()>(
            parking(*this), boost::asio::deferred);
        is_asked = true;
      } catch (const std::bad_alloc&) {
        std::this_thread::yield();
      }
    }
    if (!child_) co_return;
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
          const boost::asio::any_io_executor here = co_await this_coro::executor;
          co_await boost::asio::post(here, boost::asio::deferred);
        }
        in_flight.landed();
      }
      ++serial_;
      if (has_awaited) {
        co_await this_coro::throw_if_cancelled(true);
        for (bool is_new = false; !is_new;) {
          try {
            co_await this_coro::reset_cancellation_state();
            is_new = true;
          } catch (const std::bad_alloc&) {
            std::this_thread::yield();
          }
        }
      }
      child_->clear(); // while the group still waits for it
      if (is_shared()) turns_ = 0;
      group_->child_ended(*child_, std::move(error), this);
    } while (child_);
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

/// Parked, and used by nobody: lets the coroutine return.
BULKHEAD_DECL void runner::end() noexcept {
  const gate_ptr<runner> keep(this);
  regard(own_);
  child_ = nullptr;
  pass_alone([this] { resume(); });
}

} // namespace bulkhead::detail

#endif
