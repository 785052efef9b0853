//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_DEADLINE_HPP
#define BULKHEAD_DETAIL_WAIT_DEADLINE_HPP

#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/keep_for_a_turn.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace bulkhead::detail {

/// A duration in units of another type, or the longest or shortest of that.
template <class To, class Rep, class Period>
constexpr To saturated(std::chrono::duration<Rep, Period> d) noexcept {
  using seconds = std::chrono::duration<long double>;
  if (seconds(d) >= seconds(To::max())) return To::max();
  if (seconds(d) <= seconds(To::min())) return To::min();
  return std::chrono::duration_cast<To>(d);
}

/// One operation with a deadline, and the gate through which all that concerns it passes: its start,
/// what it runs in between, the deadline, the signals of the user, its end. So the signal that ends
/// the operation never meets it half-way, on whatever executor.
///
/// The timer and the user's slot hold what may outlive the operation: the one this object, until it
/// is told that the wait was cancelled; the other a reference that finish() cuts.
template <class Clock>
class deadline final : public gate {
  using timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>,
                                                  boost::asio::any_io_executor>;

public:
  /// All passes on `ex`; `coroutine` is the executor of the coroutine that the operation starts, or
  /// empty.
  deadline(const boost::asio::any_io_executor& ex, boost::asio::any_io_executor coroutine)
      : gate(ex), coroutine_(std::move(coroutine)) {}

  boost::asio::cancellation_slot slot() noexcept { return signal_.slot(); }

  /// Passes the user's signals on. Before the start.
  template <class Slot>
  void listen(Slot slot) {
    if (!slot.is_connected()) return;
    line_ = std::make_shared<line>(*this);
    slot.assign([weak = std::weak_ptr(line_)](boost::asio::cancellation_type type) {
      const auto l = weak.lock(); // this closure may be gone when what follows returns
      if (!l) return;
      if (const auto self = l->get()) self->push([self, type] { self->cancel(type); }, true);
    });
  }

  // In the gate.

  void start(typename Clock::duration duration) {
    timer_.emplace(this->inner());
    timer_->expires_after(duration);
    timer_->async_wait(boost::asio::bind_executor(
        gate_executor(*this), [self = gate_ptr<deadline>(this)](error_code) { self->expire(); }));
  }

  /// The operation has completed. Says whether it was the deadline that cancelled it, if anything.
  bool finish() noexcept {
    finished_ = true;
    timer_.reset();
    if (line_) line_->cut();
    return expired_;
  }

  /// From anywhere: the operation was destroyed, not completed.
  static void drop(gate_ptr<deadline> self) noexcept {
    posting here(&self->finished_);
    here.insist([&] { self->push(dropping(self)); });
    if (here.is_back()) self->finish();
  }

private:
  /// What the user's slot knows.
  class line {
  public:
    explicit line(deadline& d) noexcept : deadline_(&d) {}

    gate_ptr<deadline> get() noexcept {
      std::lock_guard lock(mutex_);
      return gate_ptr<deadline>(deadline_);
    }

    void cut() noexcept {
      std::lock_guard lock(mutex_);
      deadline_ = nullptr;
    }

  private:
    spin_lock mutex_;
    deadline* deadline_;
  };

  /// Runs when the gate is passed; or, when the executor is no more, as it is destroyed.
  class dropping {
  public:
    explicit dropping(gate_ptr<deadline> d) noexcept : deadline_(std::move(d)) {}
    dropping(dropping&&) noexcept = default;
    ~dropping() {
      if (deadline_ && !posting::takes_back(&deadline_->finished_)) deadline_->finish();
    }
    void operator()() {}

  private:
    gate_ptr<deadline> deadline_;
  };

  void expire() {
    if (finished_ || cancelled_) return;
    expired_ = true;
    emit(boost::asio::cancellation_type::terminal);
  }

  void cancel(boost::asio::cancellation_type type) {
    if (finished_) return;
    const auto terminal = boost::asio::cancellation_type::terminal;
    if (!expired_ && (type & terminal) != boost::asio::cancellation_type::none) cancelled_ = true;
    emit(type);
  }

  /// Asio's co_spawn (1.81) puts something into the slot that passes the signal on to the executor of
  /// the coroutine, as a pointer to itself. So this lives until that executor has had a turn. With
  /// other operations nobody may use it: they may have completed, and its context be gone, while the
  /// signal waited for its turn here.
  void emit(boost::asio::cancellation_type type) {
    signal_.emit(type);
    if (coroutine_) keep_for_a_turn(gate_ptr<deadline>(this), coroutine_);
  }

  const boost::asio::any_io_executor coroutine_;
  boost::asio::cancellation_signal signal_;
  std::optional<timer> timer_;
  std::shared_ptr<line> line_;
  bool finished_ = false;
  bool expired_ = false;
  bool cancelled_ = false; // for good, by the user
};

} // namespace bulkhead::detail

#endif
