//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP
#define BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <memory>
#include <utility>

namespace bulkhead::detail {

/// The cancellation of an operation that waits first and then does something else.
///
/// Each stage has a slot of its own, so that neither touches the user's, where another thread may
/// just be emitting. A signal goes to the stage that runs, and is remembered: one that came when the
/// wait was over, but its handler had not run yet, keeps the second stage from beginning. Both sides
/// store first and look then, sequentially consistent, so that at least one of them sees the other.
///
/// Asio's co_spawn (1.81) puts something into the second slot that passes a signal on to the executor
/// of the coroutine, as a pointer to itself. So this lives until that executor has had a turn. With
/// other operations nobody may use it: when the signal comes, they may have completed, and its context
/// be gone.
class two_stage_cancellation {
public:
  /// Listens to `slot`, if that is connected. Null, if it is not.
  template <class Slot>
  static std::shared_ptr<two_stage_cancellation> watch(Slot slot) {
    if (!slot.is_connected()) return nullptr;
    auto self = std::make_shared<two_stage_cancellation>();
    slot.assign([weak = std::weak_ptr(self)](boost::asio::cancellation_type type) {
      if (auto c = weak.lock()) emit(std::move(c), type); // this closure may be gone after that
    });
    return self;
  }

  boost::asio::cancellation_slot first() noexcept { return first_.slot(); }
  boost::asio::cancellation_slot second() noexcept { return second_.slot(); }

  /// False if there was a signal before. `coroutine` is the executor of the one that the second stage
  /// starts, or empty.
  bool begin_second(const boost::asio::any_io_executor& coroutine) noexcept {
    coroutine_ = coroutine;
    in_second_.store(true, std::memory_order_seq_cst);
    return !signalled_.load(std::memory_order_seq_cst);
  }

private:
  static void emit(std::shared_ptr<two_stage_cancellation> self,
                   boost::asio::cancellation_type type) {
    if (type == boost::asio::cancellation_type::none) return;
    self->signalled_.store(true, std::memory_order_seq_cst);
    if (!self->in_second_.load(std::memory_order_seq_cst)) return self->first_.emit(type);
    self->second_.emit(type);
    if (const auto ex = self->coroutine_) boost::asio::post(ex, [s = std::move(self)] {});
  }

  std::atomic<bool> signalled_{false};
  std::atomic<bool> in_second_{false};
  boost::asio::cancellation_signal first_;
  boost::asio::cancellation_signal second_;
  boost::asio::any_io_executor coroutine_;
};

} // namespace bulkhead::detail

#endif
