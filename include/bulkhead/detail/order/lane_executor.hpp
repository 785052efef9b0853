//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_ORDER_LANE_EXECUTOR_HPP
#define BULKHEAD_DETAIL_ORDER_LANE_EXECUTOR_HPP

#include <bulkhead/detail/order/lanes_core.hpp>

#include <boost/asio/execution/allocator.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/mapping.hpp>
#include <boost/asio/execution/occupancy.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution/relationship.hpp>
#include <boost/asio/query.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace bulkhead::detail {

/// The properties of a lane_executor that are values.
struct lane_property_bits {
  using blocking_t = boost::asio::execution::blocking_t;
  using relationship_t = boost::asio::execution::relationship_t;
  using outstanding_work_t = boost::asio::execution::outstanding_work_t;

  bool never = false; // blocking
  bool continuation = false;
  bool tracked = false;

  void set(blocking_t::possibly_t) noexcept { never = false; }
  void set(blocking_t::never_t) noexcept { never = true; }
  void set(relationship_t::fork_t) noexcept { continuation = false; }
  void set(relationship_t::continuation_t) noexcept { continuation = true; }
  void set(outstanding_work_t::untracked_t) noexcept { tracked = false; }
  void set(outstanding_work_t::tracked_t) noexcept { tracked = true; }

  bool operator==(const lane_property_bits&) const = default;
};

/// The executor of a lane. It carries continuations, which stand in the lane's queue, in the order in
/// which they come, and are never refused.
///
/// Supports blocking (possibly: runs inside the caller if that is a handler of this lane; never),
/// relationship, outstanding_work, allocator, context (the inner executor's), mapping (thread) and
/// occupancy (how many may be in flight). With the default allocator it fits the small buffer of
/// `any_io_executor`.
///
/// Thread safety: distinct objects safe, shared objects safe for const access.
template <class Allocator>
class lane_executor {
  using blocking_t = boost::asio::execution::blocking_t;
  using relationship_t = boost::asio::execution::relationship_t;
  using outstanding_work_t = boost::asio::execution::outstanding_work_t;
  using mapping_t = boost::asio::execution::mapping_t;
  using occupancy_t = boost::asio::execution::occupancy_t;
  using context_t = boost::asio::execution::context_t;
  template <class A>
  using allocator_t = boost::asio::execution::allocator_t<A>;

  template <class Property>
  static constexpr bool is_settable = requires(lane_property_bits b, Property p) {
    b.set(p);
  };

public:
  explicit lane_executor(std::shared_ptr<lane_core> lane) noexcept : lane_(std::move(lane)) {}

  // Where one has tracked work, a copy only counts it.
  lane_executor(const lane_executor& other) noexcept
      : lane_(other.lane_), bits_(other.bits_), allocator_(other.allocator_) {
    if (bits_.tracked) lane_->work_started();
  }

  lane_executor(lane_executor&& other) noexcept
      : lane_(std::move(other.lane_)), bits_(other.bits_), allocator_(other.allocator_) {
    other.bits_.tracked = false;
  }

  lane_executor& operator=(lane_executor other) noexcept {
    std::swap(lane_, other.lane_);
    std::swap(bits_, other.bits_);
    std::swap(allocator_, other.allocator_);
    return *this;
  }

  ~lane_executor() {
    if (bits_.tracked) lane_->work_finished();
  }

  /// Whether this thread is inside a handler of the lane.
  bool running_in_this_thread() const noexcept { return lane_->running_in_this_thread(); }

  template <class F>
  void execute(F&& f) const {
    if (!bits_.never && running_in_this_thread()) {
      std::decay_t<F> copy(std::forward<F>(f));
      std::move(copy)();
    } else {
      lane_->push_continuation(std::forward<F>(f), allocator_);
    }
  }

  // Asio requires one property after another, each of what the last one gave; those need not copy.

  template <class Property, class = std::enable_if_t<is_settable<Property>>>
  lane_executor require(Property p) const& {
    return lane_executor(*this).require(p);
  }
  template <class Property, class = std::enable_if_t<is_settable<Property>>>
  lane_executor require(Property p) && {
    lane_property_bits b = bits_;
    b.set(p);
    if (b.tracked && !bits_.tracked) lane_->work_started();
    if (!b.tracked && bits_.tracked) lane_->work_finished();
    bits_ = b;
    return std::move(*this);
  }
  template <class A>
  lane_executor<A> require(allocator_t<A> a) const& {
    return lane_executor(*this).require(a);
  }
  template <class A>
  lane_executor<A> require(allocator_t<A> a) && {
    return {std::move(lane_), std::exchange(bits_, {}), a.value()};
  }
  lane_executor<std::allocator<void>> require(allocator_t<void>) const& {
    return lane_executor(*this).require(allocator_t<void>());
  }
  lane_executor<std::allocator<void>> require(allocator_t<void>) && {
    return {std::move(lane_), std::exchange(bits_, {}), {}};
  }

  blocking_t query(blocking_t) const noexcept {
    if (bits_.never) return blocking_t::never_t();
    return blocking_t::possibly_t();
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
  std::size_t query(occupancy_t) const noexcept { return lane_->most_in_flight(); }
  boost::asio::execution_context& query(context_t) const noexcept {
    return boost::asio::query(lane_->set()->inner(), boost::asio::execution::context);
  }
  template <class A>
  Allocator query(allocator_t<A>) const noexcept {
    return allocator_;
  }

  friend bool operator==(const lane_executor& a, const lane_executor& b) noexcept {
    return a.lane_ == b.lane_ && a.bits_ == b.bits_ && a.allocator_ == b.allocator_;
  }

private:
  template <class>
  friend class lane_executor;

  /// Takes over what `b` says is tracked.
  lane_executor(std::shared_ptr<lane_core>&& lane, lane_property_bits b,
                const Allocator& a) noexcept
      : lane_(std::move(lane)), bits_(b), allocator_(a) {}

  std::shared_ptr<lane_core> lane_;
  lane_property_bits bits_;
  [[no_unique_address]] Allocator allocator_;
};

} // namespace bulkhead::detail

#endif
