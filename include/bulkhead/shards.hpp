//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_SHARDS_HPP
#define BULKHEAD_SHARDS_HPP

#include <bulkhead/detail/run/submission.hpp>
#include <bulkhead/lanes.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stats.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution_context.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace bulkhead {

/// All of them are meant for each shard.
struct shards_options {
  /// Handlers in flight at one time, at least 1. With 1, those of one key also end in order, and no two
  /// of them run at one time.
  std::size_t concurrency = 1;

  /// lanes_options::batch
  std::size_t batch = 16;

  /// Submissions admitted and not started, at least 1. `unbounded` must be written out.
  std::size_t queue_limit = 4096;

  /// async_submit calls that may wait for room at one time.
  std::size_t waiter_limit = unbounded;

  /// That of shard 2 is "name/2".
  std::string name{};

  /// lanes_options::on_exception. Several shards may call it at one time.
  std::function<void(std::exception_ptr)> on_exception{};
};

namespace detail {

/// Strings of all kinds by what they say.
template <class Key>
using shard_hash = std::conditional_t<std::is_convertible_v<const Key&, std::string_view>,
                                      std::hash<std::string_view>, std::hash<Key>>;

/// From 0 to n - 1.
std::size_t shard_index(std::size_t hash, std::size_t n) noexcept;

} // namespace detail

/// Same key, same order: a fixed number of lanes, of which each key has one, by its hash.
///
/// Tasks of one key start in the order in which they were submitted, however many threads there are, and
/// with a concurrency of 1 each ends before the next one starts. Tasks of different keys run in parallel,
/// unless they share a shard: with n shards, two keys do so with a probability of 1/n. There is nothing
/// to be kept per key.
///
/// Each shard is a set of lanes of its own, so that those who submit to different shards share no lock.
/// They know nothing of each other: between them, order and fairness are the inner executor's.
///
///     bulkhead::shards orders(pool, 64);
///     if (!orders.try_submit(order.id, [order] { book(order); })) refuse();
///
/// Object lifetimes: as with lanes. Lanes and executors may outlive it; at its end, submissions that
/// have not started complete with `operation_aborted`.
///
/// Thread safety: distinct objects safe, shared objects safe (but for moving and destroying).
class shards {
public:
  using executor_type = lane::executor_type;

  /// Errors: std::invalid_argument naming what is wrong: `n` must be at least 1 and at most 65536.
  shards(const asio::any_io_executor& ex, std::size_t n, shards_options options = {});

  template <class ExecutionContext>
  requires std::derived_from<ExecutionContext, asio::execution_context>
  shards(ExecutionContext& context, std::size_t n, shards_options options = {})
      : shards(asio::any_io_executor(context.get_executor()), n, std::move(options)) {}

  shards(shards&&) noexcept = default;
  shards& operator=(shards&&) noexcept = default;

  std::size_t size() const noexcept { return lanes_.size(); }

  /// Shard `i` of size().
  const lane& operator[](std::size_t i) const noexcept { return lanes_[i]; }

  /// The shard of a key: the same as long as this lives, for all that are equal and have the same hash.
  /// Everything that is a string counts as one, a literal too.
  ///
  /// The hash may be a poor one, such as that of an integer, which is the number itself: its bits are
  /// mixed. `shard(key, hash)` takes another than std::hash.
  template <class Key, class Hash = detail::shard_hash<Key>>
  requires std::is_invocable_r_v<std::size_t, const Hash&, const Key&>
  const lane& shard(const Key& key, const Hash& hash = Hash()) const {
    return lanes_[detail::shard_index(hash(key), lanes_.size())];
  }

  /// shard(key).try_submit(f)
  template <class Key, class F>
  [[nodiscard]] bool try_submit(const Key& key, F&& f) const {
    return shard(key).try_submit(std::forward<F>(f));
  }

  /// shard(key).async_submit(f, token). A call that waits for room keeps its place in the order.
  template <class Key, class F, asio::completion_token_for<detail::submit_signature<F>> Token>
  auto async_submit(const Key& key, F&& f, Token&& token) const {
    return shard(key).async_submit(std::forward<F>(f), std::forward<Token>(token));
  }

  /// shard(key).get_executor(): with a concurrency of 1, a strand for the key.
  template <class Key>
  executor_type get_executor(const Key& key) const {
    return shard(key).get_executor();
  }

  /// close() of each.
  void close() const;

  /// The sum over the shards, each at a moment of its own.
  lane_stats stats() const noexcept;

private:
  std::vector<lane> lanes_;
  std::vector<lanes> sets_;
};

} // namespace bulkhead

#ifdef BULKHEAD_HEADER_ONLY
#include <bulkhead/impl/shards.ipp>
#endif

#endif
