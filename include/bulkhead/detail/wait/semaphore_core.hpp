//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_SEMAPHORE_CORE_HPP
#define BULKHEAD_DETAIL_WAIT_SEMAPHORE_CORE_HPP

#include <bulkhead/detail/sync.hpp>
#include <bulkhead/detail/wait/holder.hpp>
#include <bulkhead/detail/wait/key_table.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/detail/wait/shutdown.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/stats.hpp>

#include <boost/system/result.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <source_location>
#include <vector>

namespace bulkhead::detail {

/// One waiting async_acquire.
class acquire_op : public list_hook<>, public operation<void(error_code, permit)> {
public:
  using clock = std::chrono::steady_clock;

  const std::size_t weight;
  wait_key key;
  clock::time_point since{};       // if it is timed
  std::unique_ptr<holder> who;     // if that is tracked
  permit_source* source = nullptr; // of its permit, once that is granted

protected:
  acquire_op(const vtable& table, boost::asio::execution_context* handler_context,
             std::size_t w) noexcept
      : operation(table, handler_context), weight(w) {}
  ~acquire_op() = default;
};

/// The units of a semaphore that are free, the number of its permits and how many have been granted,
/// in one word, as long as nobody waits for any: then to take and to give back is one atomic step
/// each, and who takes sees what was done before those units were given back. Otherwise, and when a
/// number grows too large for its part, the word is *shut*: every attempt fails, and the numbers are
/// with whoever has shut it.
class free_units {
public:
  struct numbers {
    std::size_t free;
    std::size_t permits;
    std::size_t granted = 0; // since it was opened
  };

  static constexpr bool can_hold(numbers n) noexcept {
    return n.free <= most_free && n.permits < most_permits;
  }

  bool take(std::size_t weight) noexcept {
    return change([weight](std::uint64_t w) {
      const numbers n = numbers_of(w);
      return weight <= n.free && n.permits != most_permits && n.granted != most_granted
                 ? w - one_unit * weight + one_permit + one_granted
                 : shut_word;
    });
  }

  bool give_back(std::size_t weight) noexcept {
    return change([weight](std::uint64_t w) { return w + one_unit * weight - one_permit; });
  }

  bool split() noexcept {
    return change([](std::uint64_t w) {
      return numbers_of(w).permits != most_permits ? w + one_permit : shut_word;
    });
  }

  bool merge() noexcept {
    return change([](std::uint64_t w) { return w - one_permit; });
  }

  /// Whether it is shut because somebody waits, as far as one knows.
  bool is_crowded() const noexcept {
    return word_.load(std::memory_order_relaxed) == (shut_word | crowded);
  }

  // By one thread at a time.

  bool is_shut() const noexcept { return is_shut(word_.load(std::memory_order_relaxed)); }

  numbers load() const noexcept { return numbers_of(word_.load(std::memory_order_relaxed)); }

  numbers shut() noexcept {
    return numbers_of(word_.exchange(shut_word, std::memory_order_acq_rel));
  }

  void stay_shut(bool is_crowded) noexcept {
    const std::uint64_t w = is_crowded ? shut_word | crowded : shut_word;
    if (word_.load(std::memory_order_relaxed) != w) word_.store(w, std::memory_order_relaxed);
  }

  void open(numbers n) noexcept {
    word_.store(one_unit * n.free + one_permit * n.permits, std::memory_order_release);
  }

private:
  static constexpr std::uint64_t shut_word = 1;
  static constexpr std::uint64_t crowded = 2;
  static constexpr std::uint64_t one_granted = 2; // 13 bits
  static constexpr std::uint64_t one_permit = std::uint64_t(1) << 14;
  static constexpr std::uint64_t one_unit = std::uint64_t(1) << 32;
  static constexpr std::size_t most_granted = (one_permit - one_granted) / one_granted;
  static constexpr std::size_t most_permits = (one_unit - one_permit) / one_permit;
  static constexpr std::size_t most_free = 0xffffffff;

  static constexpr bool is_shut(std::uint64_t w) noexcept { return (w & shut_word) != 0; }

  static constexpr numbers numbers_of(std::uint64_t w) noexcept {
    return {static_cast<std::size_t>(w / one_unit),
            static_cast<std::size_t>(w / one_permit & most_permits),
            static_cast<std::size_t>(w / one_granted & most_granted)};
  }

  template <class F>
  bool change(F next) noexcept {
    std::uint64_t w = word_.load(std::memory_order_relaxed);
    for (;;) {
      const std::uint64_t n = is_shut(w) ? shut_word : next(w);
      if (n == shut_word) return false;
      if (word_.compare_exchange_weak(w, n, std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    }
  }

  sync::atomic<std::uint64_t> word_{shut_word};
};

/// Who still needs an engine that its users may leave at any time: its owner, and every thread that
/// has taken operations out of it and has not posted their handlers yet. A context that shuts down
/// waits for the latter, for between the two it would find nothing of its own in the engine, and be
/// gone when the handler is posted there.
///
/// Whoever is told that he was the last ends the engine; nobody else touches it any more.
class users_of_engine {
public:
  /// Under the engine's lock, in one step with taking operations out.
  void depart() noexcept { word_.fetch_add(one_departure, std::memory_order_relaxed); }

  /// When they are posted. True: the owner has left, and this was the last.
  [[nodiscard]] bool arrive() noexcept {
    return word_.fetch_sub(one_departure, std::memory_order_acq_rel) == one_departure;
  }

  /// Outside the lock, for those who arrive do not take it. True: nobody is under way.
  [[nodiscard]] bool owner_leaves() noexcept {
    return word_.fetch_sub(owned, std::memory_order_acq_rel) == owned;
  }

  /// Until no more than `own` are left, those of the thread that waits. Little happens on that way:
  /// handlers are posted.
  void wait_for_arrivals(std::uint32_t own) const noexcept {
    while (word_.load(std::memory_order_acquire) >= one_departure * (own + 1))
      sync::this_thread::yield();
  }

private:
  static constexpr std::uint32_t owned = 1;
  static constexpr std::uint32_t one_departure = 2; // of a thread

  sync::atomic<std::uint32_t> word_{owned};
};

/// A histogram that threads may add to and read at once.
class shared_histogram {
public:
  void add(std::chrono::nanoseconds d) noexcept {
    counts_[duration_histogram::class_of(d)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(d.count(), std::memory_order_relaxed);
  }

  duration_histogram load() const noexcept {
    duration_histogram h;
    for (std::size_t i = 0; i != h.classes; ++i)
      h.counts[i] = counts_[i].load(std::memory_order_relaxed);
    h.sum = std::chrono::nanoseconds(sum_.load(std::memory_order_relaxed));
    return h;
  }

private:
  sync::atomic<std::uint64_t> counts_[duration_histogram::classes]{};
  sync::atomic<std::int64_t> sum_{0};
};

/// A weighted semaphore without tokens and executors: who may proceed, and in which order.
///
/// While it is open and nobody waits, `units_` is all there is to it. Whoever finds no room there
/// goes on under the lock and shuts it, so that nobody passes him; it is opened again when the last
/// of the waiters is gone.
///
/// Then: one lock, one queue, one predicate and one wake function. The predicate `may_proceed` is shared
/// by those who try and those who wait, so nobody is overtaken: while anyone waits, only the head
/// of the queue can be granted. `wake` runs on every path that may have freed the head,
/// cancellation of a waiter included, and grants from the head on for as long as it fits. What it
/// grants is collected under the lock and completed after it; a permit that was granted is never
/// reported as aborted, because granting takes the wait out of `keys_`, where cancel() looks.
///
/// Where holders are tracked, the word stays shut, and each permit points to a `holder` that points here.
///
/// Permits point here and own nothing. It keeps itself alive until the semaphore is gone, the last of
/// the permits has ended, and every handler that was granted one is posted.
class semaphore_core final : public permit_source,
                             public shutdown_target,
                             public std::enable_shared_from_this<semaphore_core> {
public:
  struct settings {
    std::size_t max_waiters;
    std::size_t timed_waits;
    bool track_holders;
  };

  semaphore_core(std::size_t limit, const settings& s) noexcept;
  ~semaphore_core();

  /// Subscribes with the context whose shutdown ends all waits.
  void attach(boost::asio::execution_context* context);

  boost::system::result<permit, rejection> try_acquire(std::size_t weight,
                                                       const std::source_location& where) {
    if (units_.take(weight)) [[likely]]
      return permit(*this, weight);
    return try_acquire_locked(weight, where);
  }

  /// Whether somebody waits, as far as one knows.
  bool is_crowded() const noexcept { return units_.is_crowded(); }

  /// Then each operation has to say who asks.
  bool tracks_holders() const noexcept { return settings_.track_holders; }

  /// The first step of a wait: grants or refuses at once (then `ec` and `p` are the result), or
  /// returns false.
  bool acquire_now(std::size_t weight, error_code& ec, permit& p) {
    if (units_.take(weight)) [[likely]] {
      p = permit(*this, weight);
      return true;
    }
    return !units_.is_crowded() && acquire_now_locked(weight, ec, p);
  }

  /// The second: makes a key for `op`, which is not yet reachable. Not needed for an operation that
  /// nobody will name.
  wait_key reserve(acquire_op& op);
  static constexpr bool keys_are_optional = true;

  /// Undoes it.
  void unreserve(acquire_op& op) noexcept;

  /// The third: queues `op`, or is as acquire_now().
  bool enqueue(acquire_op& op, error_code& ec, permit& p) noexcept;

  void cancel(wait_key key, boost::asio::cancellation_type) noexcept;

  void release(std::size_t n);
  void resize(std::size_t limit);
  void close() noexcept;

  /// The semaphore is gone: waiters complete `operation_aborted`.
  void abandon() noexcept;

  std::size_t limit() const noexcept;
  std::size_t in_use() const noexcept;
  std::size_t available() const noexcept;
  std::size_t waiting() const noexcept;
  bool idle() const noexcept;
  semaphore_stats stats() const noexcept;
  std::vector<permit_user> holders() const;
  std::vector<permit_user> waiters() const;

  boost::asio::execution_context* context() const noexcept { return context_; }

private:
  friend class holder;
  class errand;
  using queue = intrusive_list<acquire_op>;
  enum class state : std::uint8_t { open, closed, abandoned, shut_down };

  /// The lock, with `units_` shut.
  class locked {
  public:
    explicit locked(semaphore_core& core) noexcept : core_(core), lock_(core.mutex_) {
      core_.shut_units();
    }
    ~locked() { core_.open_units(); }
    locked(const locked&) = delete;
    locked& operator=(const locked&) = delete;

  private:
    semaphore_core& core_;
    std::lock_guard<spin_lock> lock_;
  };

  void give_back(std::size_t weight, outcome) noexcept override;
  void forget(std::size_t weight) noexcept override;
  permit_source& split(std::size_t n) noexcept override;
  void merge(permit_source& other, std::size_t n) noexcept override;
  void on_context_shutdown(wait_key key) noexcept override;

  boost::system::result<permit, rejection> try_acquire_locked(std::size_t weight,
                                                              const std::source_location& where);
  bool acquire_now_locked(std::size_t weight, error_code& ec, permit& p);
  void shut_units() noexcept;
  void open_units() noexcept;
  [[nodiscard]] bool end_permit() noexcept;
  void leave_owner() noexcept;
  bool fits(std::size_t weight) const noexcept;
  bool may_proceed(std::size_t weight) const noexcept;
  error_code refusal(std::size_t weight) const noexcept;
  error_code end_of_waits() const noexcept;
  bool decide(std::size_t weight, std::unique_ptr<holder>& who, error_code& ec, permit& p) noexcept;
  bool would_deadlock(acquire_op& op) noexcept;
  permit_source& source_for(std::unique_ptr<holder>& who) noexcept;
  void leave_queue(acquire_op& op) noexcept;
  acquire_op* take(wait_key key, queue& granted) noexcept;
  acquire_op* take_at_shutdown() noexcept;
  void take(acquire_op& op) noexcept;
  queue wake() noexcept;
  void complete_granted(acquire_op& op) noexcept;
  void complete(queue&& ended, error_code ec, queue&& granted) noexcept;
  void destroy(acquire_op& op) noexcept;
  void arrive() noexcept;
  queue end(state s) noexcept;
  template <class List, class Describe>
  std::vector<permit_user> describe(List& list, Describe f) const;

  // Three lines of memory: what those change who need not wait; what a wait changes; the rest.

  alignas(64) free_units units_;

  alignas(64) mutable spin_lock mutex_;
  bool ownerless_ = false; // the semaphore is gone
  state state_ = state::open;
  users_of_engine users_;
  std::size_t limit_;
  std::size_t in_use_ = 0;  // while units_ is shut
  std::size_t permits_ = 0; // likewise
  std::uint64_t waited_ = 0;
  mutable queue waiters_;

  alignas(64) const settings settings_;
  boost::asio::execution_context* context_ = nullptr;
  std::size_t forgotten_ = 0;
  std::uint64_t granted_at_once_ = 0; // but for those in units_
  std::uint64_t rejected_ = 0;
  std::uint64_t cancelled_ = 0;
  mutable intrusive_list<holder> holders_;
  key_table<acquire_op> keys_;
  shutdown_subscription subscription_;
  shared_histogram wait_time_;
  std::shared_ptr<semaphore_core> self_; // as long as it has users
};

} // namespace bulkhead::detail

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/semaphore_core.ipp>
#endif

#endif
