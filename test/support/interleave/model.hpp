//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_INTERLEAVE_MODEL_HPP
#define BULKHEAD_TEST_SUPPORT_INTERLEAVE_MODEL_HPP

#include "engine.hpp"
#include "sync.hpp"

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

// A model is a function that does with a few threads what a program might do, and checks what became of
// it. It is run again and again, with the same library code each time, but another schedule:
//
//   void run() {
//     detail::spin_lock lock;
//     interleave::shared<int> n(0);
//     auto add = [&] { std::lock_guard l(lock); n.set(n.get() + 1); };
//     interleave::together(add, add);
//     interleave::check(n.get() == 2, "both have counted");
//   }
//   const interleave::model spin_lock("spin_lock", "one at a time", &run);
//
// Every schedule is tried in which a thread is interrupted (*preempted*) at most twice where it could
// have gone on. A store that others may see late, as on x86, counts as one of the two. Left out is what
// has no end: who yields comes after all who can go on then, and who waits for a while again and again
// overtakes once each of those that wait for a while, too. Then come schedules at random, without a bound
// on preemptions.
//
// An execution fails at a check; where all threads wait (deadlock), or none gets on (livelock); where
// freed memory is used as far as that shows, or some is never freed; at a signal or an exception that
// nobody catches; and where two threads use a `shared` without one knowing of the other, as C++ defines
// that: so memory orders that x86 does not need are tried as well.
//
// What the standard library and Asio synchronize inside is one step here: shared_ptr's counts,
// stop_tokens, the locks of an io_context. A condition variable wakes whoever waited longest, and never
// for no reason; compare_exchange_weak() does not fail without one.

namespace interleave {

class model {
public:
  using function = void (*)();

  model(std::string_view name, std::string_view property, function run);

  std::string_view name;
  std::string_view property;
  function run;
};

/// All models of the program.
const std::vector<const model*>& models();

/// Ends the execution as failed unless `good`.
inline void check(bool good, const char* what) noexcept {
  if (!good) engine::fail(what);
}

/// Something that is not atomic. Whoever uses it has to know of all who have changed it, and who
/// changes it of all who have used it.
template <class T>
class shared {
public:
  explicit shared(T value = T()) : value_(std::move(value)) {
    if (!engine::is_running) return;
    execution_ = engine::execution();
    writer_ = engine::this_thread();
    written_ = engine::now();
  }

  const T& get() const noexcept {
    if (engine::is_running) {
      refresh();
      see_writer();
      reads_.of[engine::this_thread()] = engine::now();
    }
    return value_;
  }

  void set(T value) noexcept {
    if (engine::is_running) {
      refresh();
      see_writer();
      for (unsigned i = 0; i != most_threads; ++i)
        if (reads_.of[i] != 0 && !engine::knows(i, reads_.of[i]))
          engine::fail("data race: changed while another thread may read it");
      writer_ = engine::this_thread();
      written_ = engine::now();
    }
    value_ = std::move(value);
  }

private:
  void refresh() const noexcept {
    if (std::exchange(execution_, engine::execution()) == engine::execution()) return;
    reads_ = {};
    written_ = 0;
  }

  void see_writer() const noexcept {
    if (written_ != 0 && !engine::knows(writer_, written_))
      engine::fail("data race: used by a thread that does not know of the last change");
  }

  T value_;
  mutable std::uint64_t execution_ = 0;
  mutable timestamp reads_;
  unsigned writer_ = 0;
  mutable std::uint32_t written_ = 0;
};

/// Runs functions in a thread each, and waits for them. The first runs in this one.
template <class First, class... Others>
void together(First first, Others... others) {
  bulkhead::detail::sync::thread threads[] = {bulkhead::detail::sync::thread(std::move(others))...};
  first();
  for (auto& t : threads) t.join();
}

/// Returns when `ready()` says so, which must not change anything.
template <class Ready>
void wait_until(Ready ready) noexcept {
  engine::point("wait_until");
  engine::wait("wait_until", nullptr, condition(ready));
}

/// Returns when no other thread gets on, so that one that waits for a while goes on; at random, before.
inline void wait_for_quiet() noexcept {
  const auto never = [] { return false; };
  engine::wait("wait_for_quiet", nullptr, condition(never), true);
}

} // namespace interleave

#endif
