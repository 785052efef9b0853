//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_LIMIT_KEYED_HPP
#define BULKHEAD_LIMIT_KEYED_HPP

#include <bulkhead/detail/callable.hpp>
#include <bulkhead/detail/wait/awaits.hpp>
#include <bulkhead/detail/wait/operation.hpp>
#include <bulkhead/error.hpp>
#include <bulkhead/limiter.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/semaphore.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/result.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bulkhead {

struct keyed_options {
  /// Locks among which the keys are divided, from 1 to 65536; a power of two is used, not less than
  /// this.
  std::size_t shards = 16;
};

/// A limiter that can say when it is as good as a new one, so that it may be forgotten. It is an I/O
/// object of Asio: it has an executor, and can be moved. If its functions take a std::source_location
/// as well, as a semaphore's do, they get that of who asks.
template <class L>
concept evictable_limiter = limiter<L> && std::move_constructible<L> && requires(const L& l) {
  typename L::executor_type;
  l.get_executor();
  requires std::same_as<decltype(l.idle()), bool>;
};

namespace detail {

/// It takes the line of the program that asks, as a semaphore does.
template <class L>
concept traced_limiter = requires(L& l, std::size_t weight, const std::source_location& where) {
  l.try_acquire(weight, where);
};

template <class L>
auto try_acquire_from(L& l, std::size_t weight, const std::source_location& where) {
  if constexpr (traced_limiter<L>)
    return l.try_acquire(weight, where);
  else
    return l.try_acquire(weight);
}

template <class L, class Token>
decltype(auto) async_acquire_from(L& l, std::size_t weight, Token&& token,
                                  const std::source_location& where) {
  if constexpr (traced_limiter<L>)
    return l.async_acquire(weight, std::forward<Token>(token), where);
  else
    return l.async_acquire(weight, std::forward<Token>(token));
}

} // namespace detail

/// A limiter for each key: for each host, each tenant.
///
/// The limiter of a key is *made* when it is first asked for, by a function of the user's, and may be
/// *evicted* once it is idle: none of its permits is held, nobody waits for one, no handle refers to
/// it. When a limiter is made, four others of its shard are looked at, in turn, and those that are
/// idle go. So no more than about a third of the limiters that are kept are idle ones, beyond a few
/// per shard, as long as new keys come; evict_idle() does the rest. An evicted limiter is as good as
/// a new one, but for what was changed in it since, its limit for example: let the function know that.
///
///     bulkhead::keyed<std::string, bulkhead::semaphore> per_host(
///         [&](const std::string&) { return bulkhead::semaphore(io, 10); });
///     co_await async_fetch(url, bulkhead::limited_by(per_host[url.host()], use_awaitable));
///
/// Object lifetimes: destroying it destroys the limiters, with what that means for their waiters. No
/// handle may be used afterwards, but permits may outlive it.
///
/// Thread safety: shared objects safe, but for destruction. The function that makes limiters is called
/// under no lock and may be called by several threads at once, for the same key as well: the first
/// that is done wins. What is done with keys, hash and comparison, copies and their end, and idle()
/// run under a shard's lock; limiters end under none.
template <class Key, evictable_limiter Limiter = semaphore, class Hash = std::hash<Key>,
          class KeyEqual = std::equal_to<Key>>
class keyed {
  struct entry {
    std::optional<Limiter> limiter; // empty: the end of all has come
    const typename Limiter::executor_type executor;

    explicit entry(Limiter&& l) : limiter(std::move(l)), executor(limiter->get_executor()) {}
  };

public:
  using key_type = Key;
  using limiter_type = Limiter;

  /// The limiter of one key, which is not evicted as long as this refers to it. A limiter itself, so
  /// that it can be given to limited_by(). Copies refer to the same limiter.
  class handle {
  public:
    using executor_type = typename Limiter::executor_type;

    executor_type get_executor() const noexcept { return entry_->executor; }

    [[nodiscard]] boost::system::result<permit, rejection>
    try_acquire(std::size_t weight = 1,
                const std::source_location& where = std::source_location::current()) const {
      return detail::try_acquire_from(get(), weight, where);
    }

    /// As the limiter's. A deferred operation that is started after the end of the `keyed` completes
    /// with `operation_aborted`.
    template <boost::asio::completion_token_for<void(error_code, permit)> Token>
    auto async_acquire(std::size_t weight, Token&& token,
                       const std::source_location& where = std::source_location::current()) const {
      if constexpr (detail::awaits<std::decay_t<Token>>)
        return acquire_in_coroutine(entry_, weight, std::decay_t<Token>(std::as_const(token)),
                                    where);
      else
        return boost::asio::async_initiate<Token, void(error_code, permit)>(
            initiate_acquire{entry_}, token, weight, where);
    }

    template <boost::asio::completion_token_for<void(error_code, permit)> Token>
    auto async_acquire(Token&& token,
                       const std::source_location& where = std::source_location::current()) const {
      return async_acquire(1, std::forward<Token>(token), where);
    }

    /// The limiter itself.
    Limiter& get() const noexcept { return *entry_->limiter; }
    Limiter* operator->() const noexcept { return &get(); }

  private:
    friend class keyed;

    struct initiate_acquire {
      using executor_type = typename Limiter::executor_type;

      std::shared_ptr<entry> target;

      executor_type get_executor() const noexcept { return target->executor; }

      template <class Handler>
      void operator()(Handler&& handler, std::size_t weight,
                      const std::source_location& where) const {
        using handler_type = std::decay_t<Handler>;
        if (target->limiter)
          detail::async_acquire_from(*target->limiter, weight,
                                     handler_type(std::forward<Handler>(handler)), where);
        else
          detail::complete_immediately(handler_type(std::forward<Handler>(handler)),
                                       target->executor,
                                       error_code(boost::asio::error::operation_aborted), permit());
      }
    };

    explicit handle(std::shared_ptr<entry> e) noexcept : entry_(std::move(e)) {}

    template <class Token, class Awaitable = detail::awaitable_of<Token, permit>>
    static Awaitable acquire_in_coroutine(std::shared_ptr<entry> e, std::size_t weight, Token token,
                                          std::source_location where) {
      if (!e->limiter)
        co_return detail::result_of_wait<Token>(error_code(boost::asio::error::operation_aborted),
                                                permit());
      co_return co_await detail::async_acquire_from(*e->limiter, weight, std::move(token), where);
    }

    std::shared_ptr<entry> entry_;
  };

  /// `make(key)` returns the limiter for a key.
  ///
  /// Errors: std::invalid_argument if options.shards is 0 or above 65536, or if `make` is an empty
  /// std::function or a null pointer.
  template <class F>
  requires std::is_invocable_r_v<Limiter, F&, const Key&>
  explicit keyed(F make, keyed_options options = {})
      : make_(std::move(make)), shards_(checked(options).shards) {
    detail::require_not_empty("keyed: make", make_);
  }

  keyed(const keyed&) = delete;
  keyed& operator=(const keyed&) = delete;

  ~keyed() {
    for (shard& s : shards_)
      for (auto& [key, e] : s.entries) e->limiter.reset();
  }

  /// The limiter of `key`, made if there is none.
  ///
  /// Complexity        O(1) amortised, and one lock
  /// Exception safety  strong: bad_alloc, and what making a limiter throws
  handle operator[](const Key& key) {
    shard& s = shard_of(key);
    {
      std::lock_guard lock(s.mutex);
      if (const auto it = s.entries.find(key); it != s.entries.end()) return handle(it->second);
    }
    // Both end after the lock, for the limiters that are not needed end with them.
    const auto made = std::make_shared<entry>(make_(key));
    std::vector<std::shared_ptr<entry>> evicted;
    evicted.reserve(looks);
    std::lock_guard lock(s.mutex);
    s.evict_some(evicted);
    return handle(s.insert(key, made));
  }

  /// (*this)[key].try_acquire(weight)
  [[nodiscard]] boost::system::result<permit, rejection>
  try_acquire(const Key& key, std::size_t weight = 1,
              const std::source_location& where = std::source_location::current()) {
    return (*this)[key].try_acquire(weight, where);
  }

  /// (*this)[key].async_acquire(weight, token)
  template <boost::asio::completion_token_for<void(error_code, permit)> Token>
  auto async_acquire(const Key& key, std::size_t weight, Token&& token,
                     const std::source_location& where = std::source_location::current()) {
    return (*this)[key].async_acquire(weight, std::forward<Token>(token), where);
  }

  template <boost::asio::completion_token_for<void(error_code, permit)> Token>
  auto async_acquire(const Key& key, Token&& token,
                     const std::source_location& where = std::source_location::current()) {
    return (*this)[key].async_acquire(1, std::forward<Token>(token), where);
  }

  /// Evicts what is idle now, and says how many that were. O(size()).
  std::size_t evict_idle() {
    std::vector<std::shared_ptr<entry>> evicted;
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

  /// How many limiters there are. O(shards).
  std::size_t size() const {
    std::size_t n = 0;
    for (const shard& s : shards_) {
      std::lock_guard lock(s.mutex);
      n += s.entries.size();
    }
    return n;
  }

  /// Calls `f(key, limiter)` for each key, a copy of it. A limiter that is made or evicted meanwhile
  /// is visited or not.
  template <class F>
  requires std::invocable<F&, const Key&, Limiter&>
  void for_each(F f) {
    std::vector<std::pair<Key, std::shared_ptr<entry>>> there;
    for (shard& s : shards_) {
      {
        std::lock_guard lock(s.mutex);
        there.assign(s.entries.begin(), s.entries.end());
      }
      for (auto& [key, e] : there) f(std::as_const(key), *e->limiter);
      there.clear();
    }
  }

private:
  static constexpr std::size_t looks = 4;
  static constexpr std::size_t most_shards = 65536;

  struct shard {
    using map = std::unordered_map<Key, std::shared_ptr<entry>, Hash, KeyEqual>;

    mutable std::mutex mutex;
    map entries;
    std::deque<const Key*> turns; // of the keys in `entries`, to be looked at

    const std::shared_ptr<entry>& insert(const Key& key, const std::shared_ptr<entry>& made) {
      turns.push_back(nullptr);
      try {
        const auto [it, is_new] = entries.try_emplace(key, made);
        if (is_new)
          turns.back() = &it->first;
        else
          turns.pop_back();
        return it->second;
      } catch (...) {
        turns.pop_back();
        throw;
      }
    }

    void evict_some(std::vector<std::shared_ptr<entry>>& evicted) {
      for (std::size_t i = 0; i != looks && !turns.empty(); ++i) evict_next(evicted);
    }

    /// Whether there is no other pointer to it. What was done over others happened before, which
    /// use_count() alone does not say: it takes part in no synchronisation, but ending a copy does.
    static bool is_only(const std::shared_ptr<entry>& p) noexcept {
      if (p.use_count() != 1) return false;
      std::shared_ptr<entry>(p).reset();
      return true;
    }

    /// Handles are made under the lock. So if there is none now, nobody comes before it is released
    /// who could find this limiter, and one that is idle stays so.
    void evict_next(std::vector<std::shared_ptr<entry>>& evicted) {
      const Key* const key = turns.front();
      const auto it = entries.find(*key);
      if (is_only(it->second) && it->second->limiter->idle()) {
        evicted.push_back(std::move(it->second));
        entries.erase(it);
      } else {
        turns.push_back(key);
      }
      turns.pop_front();
    }
  };

  static keyed_options checked(keyed_options o) {
    if (o.shards == 0 || o.shards > most_shards)
      throw std::invalid_argument("keyed_options::shards must be at least 1 and at most " +
                                  std::to_string(most_shards) + " (got " +
                                  std::to_string(o.shards) + ")");
    o.shards = std::bit_ceil(o.shards);
    return o;
  }

  /// By the upper bits of a product, for a hash may vary in its lower bits only, and the map uses those.
  shard& shard_of(const Key& key) {
    const std::uint64_t h = std::uint64_t(Hash()(key)) * 0x9e3779b97f4a7c15u;
    return shards_[(h >> 32) & (shards_.size() - 1)];
  }

  const std::function<Limiter(const Key&)> make_;
  std::vector<shard> shards_;
};

} // namespace bulkhead

#endif
