//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TENANTS_HPP
#define BULKHEAD_TENANTS_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/lanes.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution_context.hpp>

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bulkhead {

/// A lane for each key, for each tenant, all in one set.
///
/// The lane of a tenant is *opened* when it is first asked for, with options from a function of the
/// user's: weight, priority and bounds by tier. It may be *evicted* once it is idle: nothing is queued
/// in it, waits for room or runs, no handle or executor refers to it, and it owes nothing. When a lane
/// is opened, four others of its shard of the table are looked at, in turn, and those that are idle go.
/// So no more than about a quarter of the lanes that are kept are idle ones, beyond a few per shard, as
/// long as new tenants come; evict_idle() does the rest.
///
/// An evicted lane is as good as a new one, but for what was changed in it since: its weight, or that it
/// was closed, for example. Keep a handle, or let the function know that. Nobody gains by it over one
/// that stays: a tenant that has just had its turn while others wait is kept until it would have no
/// sooner turn if it came anew. Once nobody of its priority waits, what all of them owe is forgiven. And
/// as nothing of a tenant runs when it goes, its tasks start in the order in which they came, and
/// keep its bounds, whether it was evicted between them or not.
///
///     bulkhead::tenants<std::string> t(pool, {.concurrency = 8}, [&](const std::string& name) {
///       return bulkhead::lane_options{.weight = is_premium(name) ? 10.0 : 1.0, .queue_limit = 100};
///     });
///     if (!t.try_submit(name, work)) refuse();
///
/// Object lifetimes: as with lanes, handles and executors may outlive it, and its end is the end of
/// the set: submissions that have not started complete with `operation_aborted`.
///
/// Thread safety: shared objects safe, but for destruction. The function that has the options, hash, and
/// copies of keys are called under no lock, the function possibly by several threads at once, for the
/// same tenant as well: the first that is done wins. Comparing keys, and moving one into the table, is
/// done under a shard's lock; keys and lanes end under none.
template <class Key, class Hash = std::hash<Key>, class KeyEqual = std::equal_to<Key>>
class tenants {
public:
  using key_type = Key;
  using executor_type = lane::executor_type;

  /// `open(key)` returns the options of a tenant's lane.
  ///
  /// Errors: std::invalid_argument naming the option of the set and its value, or if `open` is an empty
  /// std::function or a null pointer.
  template <class F>
  requires std::is_invocable_r_v<lane_options, F&, const Key&>
  tenants(const asio::any_io_executor& ex, lanes_options options, F open)
      : open_(std::move(open)), set_(ex, std::move(options)) {
    detail::require_not_empty("tenants: open", open_);
  }

  template <class ExecutionContext, class F>
  requires std::derived_from<ExecutionContext, asio::execution_context> &&
      std::is_invocable_r_v<lane_options, F&, const Key&>
      tenants(ExecutionContext& context, lanes_options options, F open)
      : tenants(asio::any_io_executor(context.get_executor()), std::move(options),
                std::move(open)) {}

  tenants(const tenants&) = delete;
  tenants& operator=(const tenants&) = delete;

  /// The lane of `key`, opened if there is none. It is not evicted as long as the handle, a copy of it,
  /// or an executor refers to it.
  ///
  /// Complexity        O(1) amortised, and one lock
  /// Errors            what the function throws; std::invalid_argument naming the lane's option and its
  ///                   value; bad_alloc
  /// Exception safety  strong
  lane operator[](const Key& key) {
    const std::size_t hash = Hash()(key);
    shard& s = shard_of(hash);
    {
      std::lock_guard lock(s.mutex);
      if (const auto it = s.lanes.find(key_ref{key, hash}); it != s.lanes.end()) return it->second;
    }
    // All of these end after the lock.
    stored_key stored{key, hash};
    const lane opened = set_.open(open_(key));
    std::vector<node> evicted;
    evicted.reserve(looks);
    std::lock_guard lock(s.mutex);
    if (is_closed_) opened.close(); // nobody is told: nobody has it yet
    s.evict_some(evicted);
    return s.insert(std::move(stored), opened);
  }

  /// (*this)[key].try_submit(f): O(log n) in the tenants of its priority that have something queued.
  template <class F>
  [[nodiscard]] bool try_submit(const Key& key, F&& f) {
    return (*this)[key].try_submit(std::forward<F>(f));
  }

  /// (*this)[key].async_submit(f, token)
  template <class F, asio::completion_token_for<detail::submit_signature<F>> Token>
  auto async_submit(const Key& key, F&& f, Token&& token) {
    return (*this)[key].async_submit(std::forward<F>(f), std::forward<Token>(token));
  }

  /// (*this)[key].get_executor(). The lane is kept as long as a copy of it is.
  executor_type get_executor(const Key& key) { return (*this)[key].get_executor(); }

  /// Handlers in flight at one time over all tenants.
  std::size_t concurrency() const noexcept { return set_.concurrency(); }

  /// Lowered, it takes nothing back. Errors: std::invalid_argument if it is 0.
  void set_concurrency(std::size_t n) { set_.set_concurrency(n); }

  /// Admits no more, from nobody. Waiting async_submit calls complete with `closed`; queued work still
  /// runs. O(size()).
  void close() {
    is_closed_ = true;
    for_each([](const Key&, const lane& l) { l.close(); });
  }

  /// Evicts what is idle now, and says how many that were. O(size()).
  std::size_t evict_idle() {
    std::vector<node> evicted;
    std::size_t n = 0;
    for (shard& s : shards_) {
      {
        std::lock_guard lock(s.mutex);
        evicted.reserve(s.turns.size());
        for (std::size_t i = s.turns.size(); i != 0; --i) s.evict_next(evicted);
      }
      n += evicted.size();
      evicted.clear();
    }
    return n;
  }

  /// How many lanes there are.
  std::size_t size() const {
    std::size_t n = 0;
    for (const shard& s : shards_) {
      std::lock_guard lock(s.mutex);
      n += s.lanes.size();
    }
    return n;
  }

  /// The sum over all tenants, those that were evicted included. Each lane is looked at by itself, so
  /// this is no snapshot of one moment unless nothing happens meanwhile. O(size()).
  lane_stats stats() const {
    lane_stats sum;
    for (const shard& s : shards_) {
      std::lock_guard lock(s.mutex);
      sum += s.of_evicted;
      for (const auto& [key, l] : s.lanes) sum += l.stats();
    }
    return sum;
  }

  /// Calls `f(key, lane)` for each tenant that has a lane, with copies. One that is opened or evicted
  /// meanwhile is visited or not. Keys are copied under a shard's lock, `f` is called under none.
  template <class F>
  requires std::invocable<F&, const Key&, const lane&>
  void for_each(F f) {
    std::vector<std::pair<Key, lane>> there;
    for (shard& s : shards_) {
      {
        std::lock_guard lock(s.mutex);
        there.reserve(s.lanes.size());
        for (const auto& [key, l] : s.lanes) there.emplace_back(key.key, l);
      }
      for (const auto& [key, l] : there) f(key, l);
      there.clear();
    }
  }

private:
  static constexpr std::size_t looks = 4;
  static constexpr std::size_t shard_count = 16; // a power of two

  // A key and its hash, which is computed once, under no lock.
  struct stored_key {
    Key key;
    std::size_t hash;
  };
  struct key_ref {
    const Key& key;
    std::size_t hash;
  };
  struct stored_hash {
    using is_transparent = void;

    std::size_t operator()(const stored_key& k) const noexcept { return k.hash; }
    std::size_t operator()(const key_ref& k) const noexcept { return k.hash; }
  };
  struct same_key {
    using is_transparent = void;

    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return &a.key == &b.key || (a.hash == b.hash && KeyEqual()(a.key, b.key));
    }
  };

  using map = std::unordered_map<stored_key, lane, stored_hash, same_key>;
  using node = typename map::node_type;

  struct shard {
    mutable std::mutex mutex;
    map lanes;
    std::vector<typename map::value_type*> turns; // of those in `lanes`, to be looked at
    std::size_t next = 0;                         // whose turn it is
    lane_stats of_evicted;

    const lane& insert(stored_key&& key, const lane& opened) {
      turns.push_back(nullptr);
      try {
        const auto [it, is_new] = lanes.try_emplace(std::move(key), opened);
        if (is_new)
          turns.back() = &*it;
        else
          turns.pop_back();
        return it->second;
      } catch (...) {
        turns.pop_back();
        throw;
      }
    }

    void evict_some(std::vector<node>& evicted) {
      for (std::size_t i = 0; i != looks && !turns.empty(); ++i) evict_next(evicted);
    }

    /// Handles are made under the lock. So if there is none now, nobody comes before it is released who
    /// could find this lane, and one that is settled stays so.
    void evict_next(std::vector<node>& evicted) {
      if (next >= turns.size()) next = 0;
      auto& [key, l] = *turns[next];
      if (l.core_.use_count() == 1 && l.core_->settle()) {
        of_evicted += l.stats();
        evicted.push_back(lanes.extract(lanes.find(key)));
        turns[next] = turns.back();
        turns.pop_back();
      } else {
        ++next;
      }
    }
  };

  /// By the upper bits of a product, for a hash may vary in its lower bits only, and the map uses those.
  shard& shard_of(std::size_t hash) noexcept {
    const std::uint64_t h = std::uint64_t(hash) * 0x9e3779b97f4a7c15u;
    return shards_[(h >> 32) & (shard_count - 1)];
  }

  const std::function<lane_options(const Key&)> open_;
  std::atomic<bool> is_closed_{false};
  std::array<shard, shard_count> shards_;
  lanes set_; // last, so that it ends first
};

} // namespace bulkhead

#endif
