//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_REFERENCE_SEMAPHORE_HPP
#define BULKHEAD_TEST_SUPPORT_REFERENCE_SEMAPHORE_HPP

#include <bulkhead/error.hpp>

#include <boost/asio/error.hpp>

#include <cstddef>
#include <deque>
#include <ostream>

namespace test {

/// How one async_acquire ended.
struct acquisition {
  int id;
  bulkhead::error_code code;
  std::size_t weight; // of the permit

  friend bool operator==(const acquisition&, const acquisition&) = default;
  friend std::ostream& operator<<(std::ostream& out, const acquisition& c) {
    return out << "acquire " << c.id << ": " << c.code.message() << ", weight " << c.weight;
  }
};

/// What can be asked of a semaphore.
struct units {
  std::size_t limit, in_use, available, waiting;

  friend bool operator==(const units&, const units&) = default;
  friend std::ostream& operator<<(std::ostream& out, const units& n) {
    return out << "limit " << n.limit << ", in use " << n.in_use << ", available " << n.available
               << ", waiting " << n.waiting;
  }
};

/// A semaphore for one thread, as plainly as can be: how each wait ends is added to `completions`.
class reference_semaphore {
public:
  reference_semaphore(std::size_t limit, std::size_t max_waiters,
                      std::deque<acquisition>& completions)
      : limit_(limit), max_waiters_(max_waiters), completions_(completions) {}

  bulkhead::error_code try_acquire(std::size_t weight) {
    if (is_lost_) return boost::asio::error::operation_aborted;
    if (closed_) return bulkhead::errc::closed;
    if (limit_ != 0 && weight > limit_) return bulkhead::errc::exceeds_limit;
    if (!waiters_.empty() || !fits(weight)) return bulkhead::errc::queue_full;
    in_use_ += weight;
    return {};
  }

  void acquire(int id, std::size_t weight) {
    const bulkhead::error_code ec = try_acquire(weight);
    if (ec == bulkhead::errc::queue_full && waiters_.size() < max_waiters_)
      waiters_.push_back({id, weight});
    else
      completions_.push_back({id, ec, ec ? 0 : weight});
  }

  void give_back(std::size_t weight) {
    in_use_ -= weight;
    wake();
  }

  void forget(std::size_t weight) { forgotten_ += weight; }

  // False: that is an error.
  bool release(std::size_t n) {
    if (n > forgotten_) return false;
    forgotten_ -= n;
    give_back(n);
    return true;
  }

  void resize(std::size_t limit) {
    limit_ = limit;
    if (limit != 0)
      end_waits(bulkhead::errc::exceeds_limit, [&](auto& w) { return w.weight > limit; });
    wake();
  }

  void cancel(int id) {
    end_waits(boost::asio::error::operation_aborted, [&](auto& w) { return w.id == id; });
    wake();
  }

  void close() {
    closed_ = true;
    end_waits(bulkhead::errc::closed, [](auto&) { return true; });
  }

  /// Its context has ended.
  void end_context() {
    is_lost_ = true;
    waiters_.clear();
  }

  void destroy() {
    end_waits(boost::asio::error::operation_aborted, [](auto&) { return true; });
  }

  units look() const {
    return {limit_, in_use_, in_use_ < limit_ ? limit_ - in_use_ : 0, waiters_.size()};
  }

  std::size_t forgotten() const { return forgotten_; }

private:
  struct waiter {
    int id;
    std::size_t weight;
  };

  bool fits(std::size_t weight) const {
    return limit_ != 0 && in_use_ <= limit_ && weight <= limit_ - in_use_;
  }

  void wake() {
    while (!waiters_.empty() && fits(waiters_.front().weight)) {
      const waiter w = waiters_.front();
      waiters_.pop_front();
      in_use_ += w.weight;
      completions_.push_back({w.id, {}, w.weight});
    }
  }

  void end_waits(bulkhead::error_code ec, auto which) {
    for (auto& w : waiters_)
      if (which(w)) completions_.push_back({w.id, ec, 0});
    std::erase_if(waiters_, which);
  }

  std::size_t limit_;
  const std::size_t max_waiters_;
  std::size_t in_use_ = 0;
  std::size_t forgotten_ = 0;
  bool closed_ = false;
  bool is_lost_ = false;
  std::deque<waiter> waiters_;
  std::deque<acquisition>& completions_;
};

} // namespace test

#endif
