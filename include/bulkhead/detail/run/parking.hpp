//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_PARKING_HPP
#define BULKHEAD_DETAIL_RUN_PARKING_HPP

#include <bulkhead/detail/run/event.hpp>
#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>

#include <cstddef>
#include <cstdint>

namespace bulkhead::detail {

/// What a worker of a stateful_pool has. In other pools it is none.
enum class warmth : unsigned char {
  none,
  cold,   // no state
  making, // one soon, or not
  warm    // its state
};

/// A worker, as the parking sees it. What follows `wake` is guarded by the parking's mutex.
struct sleeper : list_hook<> {
  event wake;
  bool listed = false;     // sleeps, or is about to, and may be called
  bool called = false;     // has been called and has not seen it
  bool at_reactor = false; // sleeps in the io_context and not on `wake`
  bool watches = false;    // sleeps for short times only
  warmth heat = warmth::none;
};

/// Where workers sleep, and who wakes them.
///
/// Waking a thread costs more than a hundred small functions, so it is done for as few as will do:
/// whoever brings work calls a sleeper only if no worker is *searching*, for that one will find it.
/// At most one worker that has run out of work searches at a time; a sleeper that is called, or gets
/// up for something it has seen, begins with a search besides.
///
/// **No work is left behind.** One word holds both counts. A producer publishes its function and
/// then reads the word. A worker first changes the word, when it lies down or ends its search, and
/// then looks once more at every place where functions may be. All four steps are sequentially
/// consistent, so one of the two sees the other: either the producer reads the change, finds that
/// somebody sleeps and nobody searches, and calls; or the worker sees the function, and gets up or
/// calls another. A worker that finds work and stops searching looks once more as well, for what
/// it leaves to others. What the producer reads can only be a search that has not ended, which is
/// to be followed by such a look, or no sleeper, in which case whoever lies down later looks.
class parking {
public:
  sync::mutex& mutex() noexcept { return mutex_; }

  /// Whether somebody should be called for new work.
  bool wants_call() const noexcept {
    const std::uint64_t s = state_.load(std::memory_order_seq_cst);
    return s != 0 && s < one_search;
  }

  /// Whether nobody sleeps and nobody searches.
  bool all_busy() const noexcept { return state_.load(std::memory_order_seq_cst) == 0; }

  std::size_t sleeping() const noexcept {
    return static_cast<std::size_t>(state_.load(std::memory_order_seq_cst) & (one_search - 1));
  }

  /// Starts a search unless somebody else searches.
  bool begin_search() noexcept {
    std::uint64_t s = state_.load(std::memory_order_relaxed);
    return s < one_search && state_.compare_exchange_strong(s, s + one_search);
  }

  /// Starts a search although somebody else may search.
  void add_search() noexcept { state_.fetch_add(one_search); }

  /// The caller has to look for work afterwards, and to call somebody if it leaves any.
  void end_search() noexcept { state_.fetch_sub(one_search); }

  /// Under the mutex. The caller has to look for work once more before it sleeps.
  void lie_down(sleeper& s, bool searching) noexcept {
    s.listed = true;
    if (s.heat == warmth::cold)
      list_.push_back(s);
    else
      list_.push_front(s);
    state_.fetch_add(searching ? std::uint64_t(1) - one_search : 1);
  }

  /// Under the mutex: back to work without having been called. False if `s` has been.
  bool get_up(sleeper& s) noexcept {
    if (!s.listed) return false;
    unlist(s);
    state_.fetch_sub(1);
    return true;
  }

  /// Under the mutex: the sleeper to wake, if there is one: the one that lay down last, because its
  /// cache is warm, and the one at the reactor only if it is the last. One that is cold comes after all
  /// that are not.
  sleeper* next() noexcept {
    if (list_.empty()) return nullptr;
    sleeper* s = &list_.front();
    if (s->at_reactor)
      if (sleeper* other = list_.next(*s);
          other && (other->heat != warmth::cold || s->heat == other->heat))
        s = other;
    return s;
  }

  /// Under the mutex: `s`, which is listed, is to be woken.
  ///
  /// It searches from now on; but the one at the reactor begins that itself, since a function that
  /// does not come through the pool may keep it there.
  void call(sleeper& s) noexcept {
    unlist(s);
    s.called = true;
    state_.fetch_add(s.at_reactor ? ~std::uint64_t(0) : one_search - 1);
  }

  /// Whether one of the sleepers looks for work from time to time.
  bool watched() const noexcept { return watched_.load(std::memory_order_seq_cst); }
  void set_watched(bool b) noexcept { watched_.store(b, std::memory_order_seq_cst); }

  /// Under the mutex: a call for `s` was lost on its way.
  void recall(sleeper& s) noexcept {
    s.called = false;
    lie_down(s, false);
  }

private:
  static constexpr std::uint64_t one_search = std::uint64_t(1) << 32;

  void unlist(sleeper& s) noexcept {
    s.listed = false;
    list_.erase(s);
  }

  sync::mutex mutex_;
  intrusive_list<sleeper> list_;
  alignas(64) sync::atomic<std::uint64_t> state_{0}; // how many sleep, and how many search
  sync::atomic<bool> watched_{false};
};

} // namespace bulkhead::detail

#endif
