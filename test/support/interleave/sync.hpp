//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_INTERLEAVE_SYNC_HPP
#define BULKHEAD_TEST_SUPPORT_INTERLEAVE_SYNC_HPP

// To be named by BULKHEAD_TEST_SYNC: see <bulkhead/detail/sync.hpp>.

#include "engine.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <exception>
#include <functional>
#include <mutex>
#include <type_traits>
#include <utility>

#define BULKHEAD_HAS_FUTEX

namespace bulkhead::detail::sync {

namespace engine = interleave::engine;

/// As large as T, for there are types whose size matters.
template <class T>
class atomic {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));

  static constexpr std::memory_order seq_cst = std::memory_order_seq_cst;

public:
  using value_type = T;

  constexpr atomic() noexcept : atomic(T()) {}
  constexpr atomic(T value) noexcept : value_(value) {
    if (!std::is_constant_evaluated() && engine::is_running) engine::created(this);
  }
  constexpr ~atomic() {
    if (!std::is_constant_evaluated() && engine::is_running) engine::drain(false);
  }
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

  T load(std::memory_order order = seq_cst) const noexcept {
    if (!engine::is_running) return value_;
    return from_number(engine::load(&value_, sizeof(T), order));
  }

  void store(T value, std::memory_order order = seq_cst) noexcept {
    if (!engine::is_running)
      value_ = value;
    else
      engine::store(&value_, sizeof(T), to_number(value), order);
  }

  operator T() const noexcept { return load(); }
  T operator=(T value) noexcept {
    store(value);
    return value;
  }

  T exchange(T value, std::memory_order order = seq_cst) noexcept {
    return update(order, [value](T) { return value; });
  }
  template <class U>
  T fetch_add(U n, std::memory_order order = seq_cst) noexcept {
    return update(order, [n](T old) { return static_cast<T>(old + n); });
  }
  template <class U>
  T fetch_sub(U n, std::memory_order order = seq_cst) noexcept {
    return update(order, [n](T old) { return static_cast<T>(old - n); });
  }
  T fetch_or(T n, std::memory_order order = seq_cst) noexcept {
    return update(order, [n](T old) { return static_cast<T>(old | n); });
  }
  T fetch_and(T n, std::memory_order order = seq_cst) noexcept {
    return update(order, [n](T old) { return static_cast<T>(old & n); });
  }

  bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) noexcept {
    if (engine::is_running) engine::begin_update(&value_, sizeof(T));
    const bool same = to_number(value_) == to_number(expected);
    if (same)
      value_ = desired;
    else
      expected = value_;
    if (engine::is_running) engine::end_update(&value_, sizeof(T), same ? success : failure, same);
    return same;
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order order = seq_cst) noexcept {
    return compare_exchange_strong(expected, desired, order, on_failure(order));
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                             std::memory_order failure) noexcept {
    return compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order order = seq_cst) noexcept {
    return compare_exchange_strong(expected, desired, order);
  }

private:
  static constexpr std::memory_order on_failure(std::memory_order order) noexcept {
    if (order == std::memory_order_acq_rel) return std::memory_order_acquire;
    if (order == std::memory_order_release) return std::memory_order_relaxed;
    return order;
  }

  static std::uint64_t to_number(const T& value) noexcept {
    std::uint64_t n = 0;
    std::memcpy(&n, &value, sizeof(T));
    return n;
  }
  static T from_number(std::uint64_t n) noexcept {
    T value;
    std::memcpy(&value, &n, sizeof(T));
    return value;
  }

  template <class F>
  T update(std::memory_order order, F f) noexcept {
    if (engine::is_running) engine::begin_update(&value_, sizeof(T));
    const T old = value_;
    value_ = f(old);
    if (engine::is_running) engine::end_update(&value_, sizeof(T), order, true);
    return old;
  }

  alignas(sizeof(T)) T value_;
};

class mutex {
public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;
  ~mutex() {
    if (engine::is_running && is_locked_) engine::fail("a mutex is destroyed while it is locked");
    state_ = dead;
  }

  void lock() noexcept {
    if (engine::is_running) {
      look();
      engine::point("lock", this);
      engine::drain(false);
      engine::wait("lock", this, interleave::condition([this] { return !is_locked_; }));
      look();
      engine::acquire(seen_.get());
    }
    is_locked_ = true;
  }

  bool try_lock() noexcept {
    if (engine::is_running) {
      engine::point("try_lock", this);
      engine::drain(false);
      look();
      if (!is_locked_) engine::acquire(seen_.get());
    }
    return !std::exchange(is_locked_, true);
  }

  void unlock() noexcept {
    if (engine::is_running) {
      look();
      if (!is_locked_) engine::fail("a mutex is unlocked that is not locked");
      engine::drain(false);
      engine::release(seen_.get());
    }
    is_locked_ = false;
  }

private:
  static constexpr std::uint32_t alive = 0x5afe5afe;
  static constexpr std::uint32_t dead = 0xdeadbeef;

  void look() const noexcept {
    if (state_ != alive) engine::fail("a mutex is used after its end");
  }

  std::uint32_t state_ = alive;
  bool is_locked_ = false;
  interleave::timestamp_here seen_;
};

class condition_variable {
  struct waiter {
    waiter* next = nullptr;
    bool is_notified = false;
  };

public:
  condition_variable() = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;
  ~condition_variable() {
    if (engine::is_running && first_)
      engine::fail("a condition variable is destroyed while somebody waits for it");
    is_alive_ = 0;
  }

  void wait(std::unique_lock<mutex>& lock) noexcept { wait(lock, false); }

  template <class Done>
  void wait(std::unique_lock<mutex>& lock, Done done) {
    while (!done()) wait(lock);
  }

  template <class Time, class Done>
  bool wait_until(std::unique_lock<mutex>& lock, const Time&, Done done) {
    while (!done())
      if (!wait(lock, true)) return done();
    return true;
  }

  template <class Duration>
  std::cv_status wait_for(std::unique_lock<mutex>& lock, const Duration&) {
    return wait(lock, true) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }

  template <class Duration, class Done>
  bool wait_for(std::unique_lock<mutex>& lock, const Duration& d, Done done) {
    return wait_until(lock, d, std::move(done));
  }

  void notify_one() noexcept {
    look();
    if (first_) take_first()->is_notified = true;
  }

  void notify_all() noexcept {
    look();
    while (first_) take_first()->is_notified = true;
  }

private:
  static constexpr std::uint32_t alive = 0x5afe5afe;

  void look() const noexcept {
    if (!engine::is_running) return;
    engine::point("notify", this);
    if (is_alive_ != alive) engine::fail("a condition variable is used after its end");
  }

  waiter* take_first() noexcept {
    waiter* const w = first_;
    first_ = w->next;
    return w;
  }

  bool wait(std::unique_lock<mutex>& lock, bool timed) noexcept {
    if (engine::is_running) engine::point("wait", this); // for who notifies without the lock
    waiter self;
    waiter** last = &first_;
    while (*last) last = &(*last)->next;
    *last = &self;
    lock.unlock();
    const bool woken =
        engine::wait("wait", this, interleave::condition([&] { return self.is_notified; }), timed);
    if (!self.is_notified)
      for (waiter** p = &first_; *p; p = &(*p)->next)
        if (*p == &self) {
          *p = self.next;
          break;
        }
    lock.lock();
    return woken;
  }

  std::uint32_t is_alive_ = alive;
  waiter* first_ = nullptr;
};

class thread {
public:
  class id {
  public:
    id() = default;
    explicit id(unsigned number) noexcept : number_(number) {}
    friend bool operator==(id, id) = default;

  private:
    unsigned number_ = unsigned(-1);
  };

  thread() = default;
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, thread>>>
  explicit thread(F&& f) : id_(number_ = engine::start(std::forward<F>(f))) {}
  thread(thread&& other) noexcept : number_(other.number_), id_(std::exchange(other.id_, id())) {}
  thread& operator=(thread&& other) noexcept {
    if (joinable()) std::terminate();
    number_ = other.number_;
    id_ = std::exchange(other.id_, id());
    return *this;
  }
  ~thread() {
    if (joinable()) std::terminate();
  }

  bool joinable() const noexcept { return id_ != id(); }
  id get_id() const noexcept { return id_; }
  void join() {
    engine::join(number_);
    id_ = id();
  }

private:
  unsigned number_ = 0;
  id id_;
};

namespace this_thread {

inline void yield() noexcept {
  if (engine::is_running) engine::yield();
}

inline thread::id get_id() noexcept { return thread::id(engine::this_thread()); }

} // namespace this_thread

/// The threads that sleep in futex_wait().
class futex_sleepers {
public:
  static bool wait(const void* word, std::uint32_t value, const std::uint32_t& now,
                   bool timed) noexcept {
    engine::point("futex_wait", word);
    engine::drain(false);
    if (now != value) return true;
    sleeper self{word, first()};
    first() = &self;
    const bool woken =
        engine::wait("sleep", word, interleave::condition([&] { return self.is_woken; }), timed);
    for (sleeper** p = &first(); *p; p = &(*p)->next)
      if (*p == &self) {
        *p = self.next;
        break;
      }
    return woken;
  }

  static void wake(const void* word) noexcept {
    engine::point("futex_wake", word);
    engine::drain(false);
    for (sleeper* s = first(); s; s = s->next)
      if (s->word == word && !std::exchange(s->is_woken, true)) return;
  }

private:
  struct sleeper {
    const void* word;
    sleeper* next;
    bool is_woken = false;
  };

  static sleeper*& first() noexcept {
    static sleeper* list = nullptr;
    return list;
  }
};

inline bool futex_wait(atomic<std::uint32_t>& word, std::uint32_t value,
                       const std::timespec* deadline) noexcept {
  return futex_sleepers::wait(&word, value, reinterpret_cast<const std::uint32_t&>(word),
                              deadline != nullptr);
}

inline void futex_wake(atomic<std::uint32_t>& word) noexcept { futex_sleepers::wake(&word); }

inline bool register_barrier() noexcept { return true; }

inline void barrier_for_all() noexcept {
  if (!engine::is_running) return;
  engine::point("barrier_for_all");
  engine::drain(true);
}

} // namespace bulkhead::detail::sync

#endif
