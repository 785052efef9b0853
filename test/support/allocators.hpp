//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_ALLOCATORS_HPP
#define BULKHEAD_TEST_SUPPORT_ALLOCATORS_HPP

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>

namespace test {

/// What a counting_allocator counts. It must outlive the allocator's users.
struct memory_balance {
  std::atomic<long> blocks{0};
  std::atomic<long> bytes{0};
  std::atomic<long> allocations{0};
};

/// Counts live memory. As the allocator associated with a handler its balance must be zero when the
/// handler is entered: operations give their memory back first.
template <class T>
class counting_allocator {
public:
  using value_type = T;

  explicit counting_allocator(memory_balance& balance) noexcept : balance_(&balance) {}

  template <class U>
  counting_allocator(const counting_allocator<U>& other) noexcept : balance_(other.balance_) {}

  T* allocate(std::size_t n) {
    T* p = std::allocator<T>().allocate(n);
    ++balance_->blocks;
    ++balance_->allocations;
    balance_->bytes += static_cast<long>(n * sizeof(T));
    return p;
  }

  void deallocate(T* p, std::size_t n) noexcept {
    --balance_->blocks;
    balance_->bytes -= static_cast<long>(n * sizeof(T));
    std::allocator<T>().deallocate(p, n);
  }

  friend bool operator==(const counting_allocator& a, const counting_allocator& b) noexcept {
    return a.balance_ == b.balance_;
  }

private:
  template <class>
  friend class counting_allocator;

  memory_balance* balance_;
};

/// Counts allocations down and says when one has to fail. Not armed until told.
struct allocation_fuse {
  static constexpr long disarmed = -1;

  std::atomic<long> remaining{disarmed};
  std::atomic<long> failures{0};
  std::atomic<bool> stays_blown{false};

  /// Lets `n` allocations pass; the one after them fails. Those behind it succeed again, unless it is
  /// `for_good`.
  void arm(long n, bool for_good = false) noexcept {
    stays_blown = for_good;
    remaining = n;
  }
  void disarm() noexcept { remaining = disarmed; }

  bool blows() noexcept {
    long n = remaining;
    while (n != disarmed) {
      if (remaining.compare_exchange_weak(n, n != 0 ? n - 1 : stays_blown ? 0 : disarmed)) {
        if (n != 0) return false;
        ++failures;
        return true;
      }
    }
    return false;
  }

  void pass() {
    if (blows()) throw std::bad_alloc();
  }
};

/// Throws where its fuse does, and keeps the balance otherwise.
template <class T, class Fuse = allocation_fuse>
class throwing_allocator {
public:
  using value_type = T;

  throwing_allocator(Fuse& fuse, memory_balance& balance) noexcept
      : fuse_(&fuse), inner_(balance) {}

  template <class U>
  throwing_allocator(const throwing_allocator<U, Fuse>& other) noexcept
      : fuse_(other.fuse_), inner_(other.inner_) {}

  T* allocate(std::size_t n) {
    fuse_->pass();
    return inner_.allocate(n);
  }

  void deallocate(T* p, std::size_t n) noexcept { inner_.deallocate(p, n); }

  friend bool operator==(const throwing_allocator& a, const throwing_allocator& b) noexcept {
    return a.fuse_ == b.fuse_ && a.inner_ == b.inner_;
  }

private:
  template <class, class>
  friend class throwing_allocator;

  Fuse* fuse_;
  counting_allocator<T> inner_;
};

} // namespace test

#endif
