//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_WORK_UNTIL_SHUTDOWN_HPP
#define BULKHEAD_DETAIL_WAIT_WORK_UNTIL_SHUTDOWN_HPP

#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>

#include <boost/asio/execution_context.hpp>

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace bulkhead::detail {

/// Outstanding work on an executor, for somebody of whom its context knows nothing: so it ends with the
/// context, if not before.
template <class Executor>
class work_until_shutdown {
  class state final : public shutdown_target {
  public:
    explicit state(const Executor& ex) : work_(track(ex)) {}

    void subscribe(boost::asio::execution_context& context, const std::shared_ptr<state>& self) {
      subscription_.subscribe(context, self);
    }

    void on_context_shutdown(wait_key) noexcept override {
      std::optional<tracked_executor<Executor>> last;
      std::lock_guard lock(mutex_);
      std::swap(last, work_);
    }

    /// The context does not end meanwhile: it finds this here, or waits for the departure.
    void end() noexcept {
      std::optional<tracked_executor<Executor>> last;
      std::unique_lock lock(mutex_);
      const shutdown_registry::arrival ends(subscription_.depart());
      std::swap(last, work_);
      lock.unlock();
      last.reset();
    }

  private:
    sync::mutex mutex_;
    std::optional<tracked_executor<Executor>> work_;
    shutdown_subscription subscription_;
  };

public:
  work_until_shutdown() = default;
  work_until_shutdown(work_until_shutdown&&) = default;
  ~work_until_shutdown() { end(); }

  /// Once. `context` is that of `ex`.
  void begin(const Executor& ex, boost::asio::execution_context& context) {
    state_ = std::make_shared<state>(ex);
    state_->subscribe(context, state_);
  }

  void end() noexcept {
    if (const auto s = std::move(state_)) s->end();
  }

private:
  std::shared_ptr<state> state_;
};

} // namespace bulkhead::detail

#endif
