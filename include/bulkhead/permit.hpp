//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_PERMIT_HPP
#define BULKHEAD_PERMIT_HPP

#include <bulkhead/error.hpp>

#include <boost/throw_exception.hpp>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace bulkhead {

/// How the work that ran under a permit ended.
enum class outcome {
  success,
  failure,
  dropped, // it was refused or timed out downstream: a sign of overload
  ignored  // it says nothing about the resource
};

/// Why a limiter refused, and when it is worth asking again.
struct rejection {
  error_code code;

  /// Zero where the limiter cannot know.
  std::chrono::nanoseconds retry_after{0};

  /// The limiter that refused, by name. Points to static storage.
  std::string_view stage;
};

/// Lets `result<permit, rejection>::value()` throw `system_error(code)`.
[[noreturn]] inline void throw_exception_from_error(const rejection& r,
                                                    const boost::source_location& where) {
  boost::throw_with_location(system_error(r.code, std::string(r.stage)), where);
}

namespace detail {

/// Where a permit gives back. Every limiter is one.
///
/// It has to live until the last of its permits has ended. It counts them itself, for it can do so in
/// the step in which it counts the units.
class permit_source {
public:
  /// A permit ends: takes its `weight` units back. Never throws, and never runs a handler inside the
  /// call.
  virtual void give_back(std::size_t weight, outcome result) noexcept = 0;

  /// A permit ends, and its `weight` units are held without one from now on.
  virtual void forget(std::size_t weight) noexcept = 0;

  /// There is one permit more, which takes `n` of the units of this one. Returns its source.
  virtual permit_source& split(std::size_t n) = 0;

  /// There is one permit less, and this one has the `n` units that it had.
  virtual void merge(permit_source& other, std::size_t n) noexcept = 0;

  /// Permits of one limiter may have different sources.
  virtual const void* limiter() const noexcept { return this; }

protected:
  ~permit_source() = default;
};

} // namespace detail

/// The proof that capacity is held. Whatever hands out capacity in this library hands out this.
///
/// Exactly one permit stands for each granted unit. It gives its units back when it is completed,
/// released or destroyed, from any thread; waiters that now fit are granted, and their handlers
/// posted. It may outlive its limiter and then gives back into nothing.
///
/// An empty permit (default-constructed, moved from, released) holds nothing and is false. A permit
/// of weight 0 is true.
///
/// Thread safety: distinct objects safe, shared objects unsafe.
class [[nodiscard]] permit {
public:
  permit() noexcept = default;

  /// For limiters: a permit for `weight` units that `source` has granted already.
  permit(detail::permit_source& source, std::size_t weight) noexcept
      : source_(&source), weight_(weight) {}

  permit(permit&& other) noexcept
      : source_(std::exchange(other.source_, nullptr)), weight_(std::exchange(other.weight_, 0)) {}

  permit& operator=(permit&& other) noexcept {
    if (this != &other) {
      release();
      source_ = std::exchange(other.source_, nullptr);
      weight_ = std::exchange(other.weight_, 0);
    }
    return *this;
  }

  ~permit() { release(); }

  explicit operator bool() const noexcept { return source_ != nullptr; }

  /// The units held; 0 if empty.
  std::size_t weight() const noexcept { return weight_; }

  /// Gives the units back and says how the work ended. Does nothing if empty.
  void complete(outcome result) noexcept {
    if (auto* source = std::exchange(source_, nullptr))
      source->give_back(std::exchange(weight_, 0), result);
  }

  /// complete(outcome::ignored)
  void release() noexcept { complete(outcome::ignored); }

  /// Takes `n` of the units out into a permit of their own.
  ///
  /// Errors: std::invalid_argument if `n` is more than weight(), bad_alloc if the limiter keeps books;
  /// nothing has changed then.
  permit split(std::size_t n) {
    if (n > weight_)
      throw std::invalid_argument(std::string("permit::split: n must be at most the weight ") +
                                  std::to_string(weight_) + " (got " + std::to_string(n) + ")");
    if (!source_) return {};
    detail::permit_source& source = source_->split(n);
    weight_ -= n;
    return permit(source, n);
  }

  /// Takes over the units of `other`, which is empty afterwards. Either of the two may be empty.
  ///
  /// Errors: std::invalid_argument if they are of different limiters; nothing has changed then.
  void merge(permit&& other) {
    if (this == &other || !other) return;
    if (!source_) {
      *this = std::move(other);
      return;
    }
    if (source_->limiter() != other.source_->limiter())
      throw std::invalid_argument("permit::merge: other must be a permit of the same limiter");
    const std::size_t n = std::exchange(other.weight_, 0);
    weight_ += n;
    source_->merge(*std::exchange(other.source_, nullptr), n);
  }

  /// Leaves the units taken: somebody will give them back through the limiter's `release(n)`.
  void forget() noexcept {
    if (auto* source = std::exchange(source_, nullptr)) source->forget(std::exchange(weight_, 0));
  }

private:
  detail::permit_source* source_ = nullptr;
  std::size_t weight_ = 0;
};

} // namespace bulkhead

#endif
