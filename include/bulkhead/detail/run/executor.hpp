//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_EXECUTOR_HPP
#define BULKHEAD_DETAIL_RUN_EXECUTOR_HPP

#include <bulkhead/detail/run/scheduler.hpp>
#include <bulkhead/detail/wait/completion_latch.hpp>

#include <boost/asio/execution/allocator.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/mapping.hpp>
#include <boost/asio/execution/occupancy.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution/relationship.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// A function that somebody waits for. Whoever ends it, by running it or by dropping it, lets go.
template <class F>
class awaited_function {
public:
  awaited_function(F& f, completion_latch& l) noexcept : f_(&f), latch_(&l) {}
  awaited_function(awaited_function&& other) noexcept
      : f_(other.f_), latch_(std::exchange(other.latch_, nullptr)) {}
  ~awaited_function() {
    if (latch_) latch_->release();
  }

  void operator()() { std::move (*f_)(); }

private:
  F* f_;
  completion_latch* latch_;
};

/// The executor of a pool. It carries continuations, so it never refuses.
///
/// Its properties are values of one type, so requiring one makes no new type of executor. With the
/// default allocator it takes 16 bytes and fits the small buffer of `any_io_executor`.
///
/// Supports blocking (possibly: runs inside the caller on a worker of the pool; never; always),
/// relationship, outstanding_work, allocator, context, mapping (thread) and occupancy.
///
/// Thread safety: distinct objects safe, shared objects safe for const access.
template <class Allocator>
class pool_executor {
  using blocking_t = boost::asio::execution::blocking_t;
  using relationship_t = boost::asio::execution::relationship_t;
  using outstanding_work_t = boost::asio::execution::outstanding_work_t;
  using mapping_t = boost::asio::execution::mapping_t;
  using occupancy_t = boost::asio::execution::occupancy_t;
  using context_t = boost::asio::execution::context_t;
  template <class A>
  using allocator_t = boost::asio::execution::allocator_t<A>;

public:
  pool_executor(const pool_executor& other) noexcept
      : pool_executor(other.scheduler_, other.bits_, other.allocator_) {}

  pool_executor(pool_executor&& other) noexcept
      : scheduler_(other.scheduler_), bits_(other.bits_), allocator_(other.allocator_) {
    other.bits_.tracked = false;
  }

  pool_executor& operator=(const pool_executor& other) noexcept {
    pool_executor copy(other);
    swap(copy);
    return *this;
  }

  pool_executor& operator=(pool_executor&& other) noexcept {
    pool_executor moved(std::move(other));
    swap(moved);
    return *this;
  }

  ~pool_executor() {
    if (bits_.tracked) scheduler_->work_finished();
  }

  /// Whether this thread is a worker of the pool.
  bool running_in_this_thread() const noexcept { return scheduler_->running_in_this_thread(); }

  template <class F>
  void execute(F&& f) const {
    using function = std::decay_t<F>;
    const bool runs_inline = bits_.blocking == always
                                 ? scheduler_->running_in_this_thread()
                                 : bits_.blocking != never && scheduler_->may_run_inline();
    if (runs_inline) {
      function copy(std::forward<F>(f));
      scheduler_->run_inline(std::move(copy));
    } else if (bits_.blocking == always) {
      function copy(std::forward<F>(f));
      completion_latch done;
      scheduler_->push_continuation(awaited_function<function>(copy, done), allocator_);
      done.wait();
    } else {
      scheduler_->push_continuation(std::forward<F>(f), allocator_);
    }
  }

  pool_executor require(blocking_t::possibly_t) const { return with(&bits::blocking, possibly); }
  pool_executor require(blocking_t::never_t) const { return with(&bits::blocking, never); }
  pool_executor require(blocking_t::always_t) const { return with(&bits::blocking, always); }
  pool_executor require(relationship_t::fork_t) const { return with(&bits::continuation, false); }
  pool_executor require(relationship_t::continuation_t) const {
    return with(&bits::continuation, true);
  }
  pool_executor require(outstanding_work_t::untracked_t) const {
    return with(&bits::tracked, false);
  }
  pool_executor require(outstanding_work_t::tracked_t) const { return with(&bits::tracked, true); }
  template <class A>
  pool_executor<A> require(allocator_t<A> a) const {
    return pool_executor<A>(scheduler_, {bits_.blocking, bits_.continuation, bits_.tracked},
                            a.value());
  }
  pool_executor<std::allocator<void>> require(allocator_t<void>) const {
    return pool_executor<std::allocator<void>>(
        scheduler_, {bits_.blocking, bits_.continuation, bits_.tracked}, {});
  }

  blocking_t query(blocking_t) const noexcept {
    switch (bits_.blocking) {
    case never:
      return blocking_t::never_t();
    case always:
      return blocking_t::always_t();
    default:
      return blocking_t::possibly_t();
    }
  }
  relationship_t query(relationship_t) const noexcept {
    if (bits_.continuation) return relationship_t::continuation_t();
    return relationship_t::fork_t();
  }
  outstanding_work_t query(outstanding_work_t) const noexcept {
    if (bits_.tracked) return outstanding_work_t::tracked_t();
    return outstanding_work_t::untracked_t();
  }
  static constexpr mapping_t query(mapping_t) noexcept { return mapping_t::thread_t(); }
  std::size_t query(occupancy_t) const noexcept { return scheduler_->threads(); }
  pool& query(context_t) const noexcept { return scheduler_->owner(); }
  template <class A>
  Allocator query(allocator_t<A>) const noexcept {
    return allocator_;
  }

  friend bool operator==(const pool_executor& a, const pool_executor& b) noexcept {
    return a.scheduler_ == b.scheduler_ && a.bits_ == b.bits_ && a.allocator_ == b.allocator_;
  }

private:
  template <class>
  friend class pool_executor;
  friend class bulkhead::pool;

  enum blocking_mode : unsigned char { possibly, never, always };

  struct bits {
    unsigned char blocking = possibly;
    bool continuation = false;
    bool tracked = false;

    bool operator==(const bits&) const = default;
  };

  pool_executor(scheduler* s, bits b, const Allocator& a) noexcept
      : scheduler_(s), bits_(b), allocator_(a) {
    if (bits_.tracked) scheduler_->work_started();
  }

  template <class T, class U>
  pool_executor with(T bits::*member, U value) const noexcept {
    bits b = bits_;
    b.*member = value;
    return pool_executor(scheduler_, b, allocator_);
  }

  void swap(pool_executor& other) noexcept {
    std::swap(scheduler_, other.scheduler_);
    std::swap(bits_, other.bits_);
    std::swap(allocator_, other.allocator_);
  }

  scheduler* scheduler_;
  bits bits_;
  [[no_unique_address]] Allocator allocator_;
};

} // namespace bulkhead::detail

#endif
