//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_WAIT_HPP
#define BULKHEAD_DETAIL_WAIT_WAIT_HPP

#include <bulkhead/detail/wait/operation.hpp>

#include <memory>

namespace bulkhead::detail {

template <class Engine>
inline constexpr bool keys_are_optional = requires {
  requires Engine::keys_are_optional;
};

/// The steps by which every wait of this library begins, in the only order that is free of races:
/// a key, then the cancellation slot and the subscription with the handler's context, both of which
/// name the wait by its key, and only then the queue, where other threads can reach it.
///
/// `Engine` has reserve(Waiter&), unreserve(Waiter&), enqueue(Waiter&), context(), and
/// cancel(wait_key, cancellation_type). With `keys_are_optional` a wait that nobody names gets no key.
template <class Slot, class Engine, class Waiter>
void prepare_wait(Slot slot, Engine& engine, Waiter& op) {
  if (keys_are_optional<Engine> && !slot.is_connected() && !op.is_foreign(engine.context())) return;
  try {
    auto weak = engine.weak_from_this();
    const wait_key key = engine.reserve(op);
    op.watch_handler_context(engine.context(), weak, key);
    if (slot.is_connected()) install_canceller(slot, std::move(weak), key);
  } catch (...) {
    engine.unreserve(op);
    op.destroy();
    throw;
  }
}

template <class Slot, class Engine, class Waiter>
void begin_wait(Slot slot, const std::shared_ptr<Engine>& engine, Waiter& op) {
  prepare_wait(slot, *engine, op);
  engine->enqueue(op);
}

} // namespace bulkhead::detail

#endif
