//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_SHUTDOWN_HPP
#define BULKHEAD_DETAIL_WAIT_SHUTDOWN_HPP

#include <bulkhead/detail/per_thread.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>

#include <boost/asio/detail/strand_executor_service.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

// When an execution context shuts down, the handlers that would run on it must be destroyed, not
// invoked. Ours wait in objects that are not the context's own: in a semaphore, a pool, a group.
// So each such object subscribes with its context, and each waiting handler that belongs to
// another context subscribes with that one as well. Contexts may then end in any order.

namespace bulkhead::detail {

/// Something that holds handlers: the engine of a semaphore, a pool, a group.
class shutdown_target {
public:
  /// Destroys the waiting handler `key`, or all of them if the key is empty, without invoking it.
  virtual void on_context_shutdown(wait_key key) noexcept = 0;

protected:
  ~shutdown_target() = default;
};

class shutdown_registry {
public:
  struct node : list_hook<> {
    std::weak_ptr<shutdown_target> target;
    wait_key key;
  };

  void subscribe(node& n) noexcept {
    std::lock_guard lock(mutex_);
    nodes_.push_back(n);
  }

  void unsubscribe(node& n) noexcept {
    std::lock_guard lock(mutex_);
    if (n.is_linked()) nodes_.erase(n);
  }

  /// As unsubscribe(), for a handler that is about to be posted to the context, or to be destroyed.
  /// Until arrived() is called, the context does not end.
  void depart(node& n) noexcept {
    std::lock_guard lock(mutex_);
    if (n.is_linked()) nodes_.erase(n);
    departing_.begin();
  }

  void arrived() noexcept { departing_.end(); }

  /// A thread that brings a departure to its end. What is destroyed on the way may own the context: so
  /// the thread itself need not be waited for there.
  class arrival {
  public:
    explicit arrival(std::shared_ptr<shutdown_registry> to) noexcept
        : to_(std::move(to)), outer_(innermost()) {
      if (to_) innermost() = this;
    }
    arrival(const arrival&) = delete;
    arrival& operator=(const arrival&) = delete;
    ~arrival() {
      innermost() = outer_; // in any case, lest g++ 12 warns at -O3 that this object is left there
      if (to_) to_->arrived();
    }

    /// Those of this thread.
    static std::size_t count(const shutdown_registry& to) noexcept {
      std::size_t n = 0;
      for (const arrival* a = innermost(); a; a = a->outer_) n += a->to_.get() == &to;
      return n;
    }

  private:
    static arrival*& innermost() noexcept { return per_thread<arrival*, arrival>::get(); }

    const std::shared_ptr<shutdown_registry> to_;
    arrival* const outer_;
  };

  void shutdown() noexcept {
    is_shut_down_.store(true, std::memory_order_release);
    end_waits();
    departing_.wait(arrival::count(*this));
  }

  bool is_shut_down() const noexcept { return is_shut_down_.load(std::memory_order_acquire); }

private:
  void end_waits() noexcept {
    for (;;) {
      std::shared_ptr<shutdown_target> target;
      wait_key key;
      {
        std::lock_guard lock(mutex_);
        if (nodes_.empty()) return;
        node& n = nodes_.pop_front();
        target = n.target.lock();
        key = n.key;
      }
      if (target) target->on_context_shutdown(key);
    }
  }

  spin_lock mutex_;
  intrusive_list<node> nodes_;
  light_departures departing_;
  sync::atomic<bool> is_shut_down_{false};
};

class shutdown_service final : public boost::asio::execution_context::service {
public:
  inline static boost::asio::execution_context::id id;

  /// The service of strands must be there before this one, for the latest ends first: until the last
  /// departure has arrived, strands take what is posted to them. (One that takes a function while its
  /// service ends may keep it for ever, see enqueue() in Asio's strand_executor_service.ipp.)
  explicit shutdown_service(boost::asio::execution_context& context)
      : boost::asio::execution_context::service(context) {
    boost::asio::use_service<boost::asio::detail::strand_executor_service>(context);
  }

  /// The registry of `context`. Each thread remembers the last, because to look for a service takes
  /// the context's lock; a registry that is not shut down says that the context is still the same.
  /// Not inlined: see per_thread.
  [[gnu::noinline]] static std::shared_ptr<shutdown_registry>
  registry_of(boost::asio::execution_context& context) {
    static thread_local constinit bool has_ended = false; // the thread, as good as
    struct memory {
      boost::asio::execution_context* context = nullptr;
      std::shared_ptr<shutdown_registry> registry;
      ~memory() { has_ended = true; }
    };
    if (has_ended) return boost::asio::use_service<shutdown_service>(context).registry_;
    static thread_local memory last;
    if (last.context != &context || last.registry->is_shut_down()) {
      last.registry = boost::asio::use_service<shutdown_service>(context).registry_;
      last.context = &context;
    }
    return last.registry;
  }

private:
  void shutdown() override { registry_->shutdown(); }

  std::shared_ptr<shutdown_registry> registry_ = std::make_shared<shutdown_registry>();
};

/// Whether the work of an executor keeps its context from ending. Those of the system_context,
/// which has no end, are known by this: use_future's and the system_executor.
template <class Executor>
concept tracks_work = boost::asio::can_require<
    const Executor&, boost::asio::execution::outstanding_work_t::tracked_t>::value ||
    requires(const Executor& ex) {
  ex.prefer(boost::asio::execution::outstanding_work.tracked);
};

/// The context behind an executor, or nullptr where it has none, or one that never shuts down. The
/// system_context must not even be asked for: that would start its threads.
template <class Executor>
boost::asio::execution_context* context_of([[maybe_unused]] const Executor& ex) noexcept {
  using context = boost::asio::execution::context_t;
  if constexpr (tracks_work<Executor> && boost::asio::can_query<const Executor&, context>::value)
    return std::addressof(
        static_cast<boost::asio::execution_context&>(boost::asio::query(ex, context())));
  else
    return nullptr;
}

/// A subscription with the shutdown of one context. Safe to outlive that context.
class shutdown_subscription {
public:
  shutdown_subscription() = default;
  shutdown_subscription(const shutdown_subscription&) = delete;
  shutdown_subscription& operator=(const shutdown_subscription&) = delete;
  ~shutdown_subscription() { cancel(); }

  /// Must not be called under a lock: the first use in a context creates its service.
  void subscribe(boost::asio::execution_context& context, std::weak_ptr<shutdown_target> target,
                 wait_key key = {}) {
    cancel();
    registry_ = shutdown_service::registry_of(context);
    node_.target = std::move(target);
    node_.key = key;
    departs_ = false;
    registry_->subscribe(node_);
  }

  /// See shutdown_registry::depart(). Null, if there is no subscription.
  std::shared_ptr<shutdown_registry> depart() noexcept {
    begin_departure();
    return std::move(registry_);
  }

  /// The first half of depart(), which has to follow.
  void begin_departure() noexcept {
    if (registry_ && !std::exchange(departs_, true)) registry_->depart(node_);
  }

  void cancel() noexcept {
    if (!registry_) return;
    registry_->unsubscribe(node_);
    registry_.reset();
  }

private:
  std::shared_ptr<shutdown_registry> registry_;
  shutdown_registry::node node_;
  bool departs_ = false;
};

} // namespace bulkhead::detail

#endif
