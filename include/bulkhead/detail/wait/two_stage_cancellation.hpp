//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP
#define BULKHEAD_DETAIL_WAIT_TWO_STAGE_CANCELLATION_HPP

#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/keep_for_a_turn.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// The cancellation of an operation that waits first and then does something else.
///
/// Each stage has a slot of its own, so that neither touches the user's, where another thread may
/// just be emitting. A signal goes to the stage that runs, and is remembered: one that came when the
/// wait was over, but its handler had not run yet, keeps the second stage from beginning. Both sides
/// store first and look then, sequentially consistent, so that at least one of them sees the other.
///
/// While the second stage is being started, the operation puts something into its slot, which nobody
/// else may look at then. A signal that comes meanwhile is delivered by whoever starts it.
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
    stage_.store(stage::starts, std::memory_order_seq_cst);
    return pending_.load(std::memory_order_seq_cst) == none;
  }

  /// The second stage has been started, and may be over already.
  static void second_has_begun(std::shared_ptr<two_stage_cancellation> self) {
    self->stage_.store(stage::second, std::memory_order_seq_cst);
    deliver(std::move(self));
  }

private:
  enum class stage { first, starts, second };
  using types = std::underlying_type_t<boost::asio::cancellation_type>;

  static constexpr types none = 0;

  static void emit(std::shared_ptr<two_stage_cancellation> self,
                   boost::asio::cancellation_type type) {
    if (type == boost::asio::cancellation_type::none) return;
    self->pending_.fetch_or(static_cast<types>(type), std::memory_order_seq_cst);
    switch (self->stage_.load(std::memory_order_seq_cst)) {
    case stage::first:
      return self->first_.emit(type);
    case stage::starts:
      return;
    case stage::second:
      return deliver(std::move(self));
    }
  }

  /// To the second stage, unless somebody else does.
  static void deliver(std::shared_ptr<two_stage_cancellation> self) {
    const types t = self->pending_.exchange(none, std::memory_order_seq_cst);
    if (t == none) return;
    self->second_.emit(static_cast<boost::asio::cancellation_type>(t));
    if (self->coroutine_) keep_for_a_turn(self, self->coroutine_);
  }

  sync::atomic<types> pending_{none};
  sync::atomic<stage> stage_{stage::first};
  boost::asio::cancellation_signal first_;
  boost::asio::cancellation_signal second_;
  boost::asio::any_io_executor coroutine_;
};

} // namespace bulkhead::detail

#endif
