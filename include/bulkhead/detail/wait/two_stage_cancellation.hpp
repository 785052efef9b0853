//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP
#define BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <atomic>
#include <memory>

namespace bulkhead::detail {

/// The cancellation of an operation that waits first and then does something else.
///
/// Each stage has a slot of its own, so that neither touches the user's, where another thread may
/// just be emitting. A signal goes to the stage that runs, and is remembered: one that came when the
/// wait was over, but its handler had not run yet, keeps the second stage from beginning. Both sides
/// store first and look then, sequentially consistent, so that at least one of them sees the other.
class two_stage_cancellation {
public:
  /// Listens to `slot`, if that is connected. Null, if it is not.
  template <class Slot>
  static std::shared_ptr<two_stage_cancellation> watch(Slot slot) {
    if (!slot.is_connected()) return nullptr;
    auto self = std::make_shared<two_stage_cancellation>();
    slot.assign([weak = std::weak_ptr(self)](boost::asio::cancellation_type type) {
      if (const auto c = weak.lock()) c->emit(type); // this closure may be gone when that returns
    });
    return self;
  }

  boost::asio::cancellation_slot first() noexcept { return first_.slot(); }
  boost::asio::cancellation_slot second() noexcept { return second_.slot(); }

  /// False if there was a signal before.
  bool begin_second() noexcept {
    in_second_.store(true, std::memory_order_seq_cst);
    return !signalled_.load(std::memory_order_seq_cst);
  }

private:
  void emit(boost::asio::cancellation_type type) {
    if (type == boost::asio::cancellation_type::none) return;
    signalled_.store(true, std::memory_order_seq_cst);
    (in_second_.load(std::memory_order_seq_cst) ? second_ : first_).emit(type);
  }

  std::atomic<bool> signalled_{false};
  std::atomic<bool> in_second_{false};
  boost::asio::cancellation_signal first_;
  boost::asio::cancellation_signal second_;
};

} // namespace bulkhead::detail

#endif
