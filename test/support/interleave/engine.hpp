//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_INTERLEAVE_ENGINE_HPP
#define BULKHEAD_TEST_SUPPORT_INTERLEAVE_ENGINE_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

// What stands behind the atomics, mutexes and threads of a model: see model.hpp.
//
// The threads of a model are fibers on one thread of the system. Each step on something shared is a
// *point*, at which another of them may go on. Which one does is asked of a schedule: the next in a
// search of all schedules, or one that follows from a seed.

namespace interleave {

inline constexpr unsigned most_threads = 12;

/// How far a thread has seen the others come: a vector clock.
struct timestamp {
  std::uint32_t of[most_threads] = {};

  void join(const timestamp& other) noexcept {
    for (unsigned i = 0; i != most_threads; ++i)
      if (of[i] < other.of[i]) of[i] = other.of[i];
  }
};

/// A timestamp that is forgotten when an execution of the model ends.
class timestamp_here {
public:
  timestamp& get() noexcept;

private:
  std::uint64_t execution_ = 0;
  timestamp value_;
};

/// The condition for which a thread waits. It must not change anything.
class condition {
public:
  template <class F>
  explicit condition(const F& f) noexcept
      : context_(&f), call_([](const void* c) { return (*static_cast<const F*>(c))(); }) {}

  bool operator()() const { return call_(context_); }

private:
  const void* context_;
  bool (*call_)(const void*);
};

namespace engine {

/// Whether a thread of a model runs now. Otherwise everything is as if there were one thread only.
extern bool is_running;

/// Says what went wrong and by which schedule, and ends the process.
[[noreturn]] void fail(const char* what) noexcept;

// --- atomics of up to eight bytes, as numbers ---

/// Something new stands at `p`.
void created(const void* p) noexcept;

std::uint64_t load(const void* p, std::size_t size, std::memory_order order) noexcept;
void store(void* p, std::size_t size, std::uint64_t value, std::memory_order order) noexcept;

/// Around a read-modify-write, which takes place at once and for all to see.
void begin_update(void* p, std::size_t size) noexcept;
void end_update(void* p, std::size_t size, std::memory_order order, bool has_stored) noexcept;

/// What has been stored is for all to see; by every thread, if so said.
void drain(bool all) noexcept;

// --- threads ---

/// Others may go on here.
void point(const char* what, const void* p = nullptr) noexcept;

/// Others go on here, if any can.
void yield() noexcept;

/// Returns when `ready()`; or false, which only happens if it is `timed`.
bool wait(const char* what, const void* p, condition ready, bool timed = false) noexcept;

/// The threads of a model have the numbers from 0.
unsigned start(std::function<void()> f);
bool has_ended(unsigned thread) noexcept;
void join(unsigned thread) noexcept;
unsigned this_thread() noexcept;

/// Whether what happened at `then` to `thread` is known to this one.
bool knows(unsigned thread, std::uint32_t then) noexcept;
std::uint32_t now() noexcept;

/// What this thread knows, those will who acquire `t` later.
void release(timestamp& t) noexcept;
void acquire(const timestamp& t) noexcept;

/// Numbers the executions.
std::uint64_t execution() noexcept;

} // namespace engine
} // namespace interleave

#endif
