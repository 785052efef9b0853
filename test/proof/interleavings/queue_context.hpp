//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_INTERLEAVINGS_QUEUE_CONTEXT_HPP
#define BULKHEAD_TEST_PROOF_INTERLEAVINGS_QUEUE_CONTEXT_HPP

#include "model.hpp"

#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution_context.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

/// The least that an execution context can be: a queue, and threads of the model that run it.
class queue_context : public boost::asio::execution_context {
  using blocking_t = boost::asio::execution::blocking_t;
  using work_t = boost::asio::execution::outstanding_work_t;
  using context_t = boost::asio::execution::context_t;

public:
  class executor_type {
  public:
    explicit executor_type(queue_context& c) noexcept : context_(&c) {}
    executor_type(queue_context* c, bool never, bool tracked) noexcept
        : context_(c), never_(never), tracked_(tracked) {
      if (tracked_) context_->add_work(1);
    }
    executor_type(const executor_type& e) noexcept
        : executor_type(e.context_, e.never_, e.tracked_) {}
    executor_type(executor_type&& e) noexcept
        : context_(e.context_), never_(e.never_), tracked_(std::exchange(e.tracked_, false)) {}
    executor_type& operator=(executor_type e) noexcept {
      std::swap(context_, e.context_);
      std::swap(never_, e.never_);
      std::swap(tracked_, e.tracked_);
      return *this;
    }
    ~executor_type() {
      if (tracked_) context_->add_work(-1);
    }

    template <class F>
    void execute(F&& f) const {
      if (!never_ && running() == context_) {
        std::decay_t<F> copy(std::forward<F>(f));
        copy();
      } else {
        context_->push(std::make_unique<function<std::decay_t<F>>>(std::forward<F>(f)));
      }
    }

    executor_type require(blocking_t::never_t) const { return {context_, true, tracked_}; }
    executor_type require(blocking_t::possibly_t) const { return {context_, false, tracked_}; }
    executor_type require(work_t::tracked_t) const { return {context_, never_, true}; }
    executor_type require(work_t::untracked_t) const { return {context_, never_, false}; }
    blocking_t query(blocking_t) const noexcept {
      return never_ ? blocking_t(blocking_t::never) : blocking_t(blocking_t::possibly);
    }
    work_t query(work_t) const noexcept {
      return tracked_ ? work_t(work_t::tracked) : work_t(work_t::untracked);
    }
    queue_context& query(context_t) const noexcept { return *context_; }

    friend bool operator==(const executor_type& a, const executor_type& b) noexcept {
      return a.context_ == b.context_ && a.never_ == b.never_ && a.tracked_ == b.tracked_;
    }

  private:
    queue_context* context_;
    bool never_ = false;
    bool tracked_ = false;
  };

  ~queue_context() {
    shutdown();
    while (!queue_.empty()) queue_.pop_front();
    destroy();
  }

  executor_type get_executor() noexcept { return executor_type(*this); }

  /// There is no memory for the next function that comes.
  void refuse_one() {
    std::lock_guard lock(mutex_);
    refuses_ = true;
  }

  /// Until there is no work left.
  void run() {
    queue_context* const outer = std::exchange(running(), this);
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !queue_.empty() || work_ == 0; });
      if (queue_.empty()) break;
      auto f = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      f->call();
      f.reset();
      add_work(-1);
    }
    running() = outer;
  }

private:
  struct node {
    virtual ~node() = default;
    virtual void call() = 0;
  };

  template <class F>
  struct function final : node {
    F f;
    template <class G>
    explicit function(G&& g) : f(std::forward<G>(g)) {}
    void call() override {
      F copy(std::move(f));
      std::move(copy)();
    }
  };

  static queue_context*& running() noexcept {
    static thread_local constinit queue_context* instance = nullptr;
    return instance;
  }

  void push(std::unique_ptr<node> n) {
    std::lock_guard lock(mutex_);
    if (std::exchange(refuses_, false)) throw std::bad_alloc();
    ++work_;
    queue_.push_back(std::move(n));
    changed_.notify_one();
  }

  void add_work(int n) noexcept {
    std::lock_guard lock(mutex_);
    if ((work_ += n) == 0) changed_.notify_all();
  }

  bulkhead::detail::sync::mutex mutex_;
  bulkhead::detail::sync::condition_variable changed_;
  std::deque<std::unique_ptr<node>> queue_;
  int work_ = 0;
  bool refuses_ = false;
};

#endif
