//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "model.hpp"

#include <bulkhead/detail/run/event.hpp>
#include <bulkhead/detail/wait/completion_latch.hpp>
#include <bulkhead/detail/wait/departures.hpp>
#include <bulkhead/detail/wait/spin_lock.hpp>

#include <chrono>
#include <memory>
#include <mutex>

namespace {

using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

// --- spin_lock ---

void spin() {
  spin_lock lock;
  shared<int> n(0);
  auto add = [&] {
    std::lock_guard l(lock);
    n.set(n.get() + 1);
  };
  together(add, add, add);
  check(n.get() == 3, "all have counted");
}

const interleave::model spin_lock_("spin_lock", "one at a time, and each sees what was done before",
                                   &spin);

/// What any_work() relies on: a function is published under the lock without a fence, by a producer
/// that looks afterwards whether somebody is to be called; who lies down looks at the lock first.
void synchronized() {
  spin_lock lock;
  shared<int> text(0);
  sync::atomic<bool> has_work{false};
  sync::atomic<int> sleeping{0};
  bool calls = false;
  bool finds = false;
  together(
      [&] {
        {
          std::lock_guard l(lock);
          text.set(1);
          has_work.store(true, std::memory_order_release);
        }
        calls = sleeping.load(std::memory_order_seq_cst) != 0;
      },
      [&] {
        sleeping.fetch_add(1, std::memory_order_seq_cst);
        lock.synchronize();
        finds = has_work.load(std::memory_order_seq_cst);
        if (finds) check(text.get() == 1, "what was published is seen");
      });
  check(calls || finds, "no work is left behind");
}

const interleave::model synchronize("synchronize",
                                    "who waited for the holder sees his work, or is seen",
                                    &synchronized);

// --- event ---

constexpr auto for_ever = std::chrono::nanoseconds::max();

void set_and_wait() {
  event e;
  shared<int> text(0);
  together([&] { check(e.wait_for(for_ever) && text.get() == 1, "woken, and sees why"); },
           [&] {
             text.set(1);
             e.set();
           });
}

const interleave::model event_wait("event", "the one that waits wakes up and sees what was done",
                                   &set_and_wait);

/// Two that set it, each after an addition; the waiter goes on until it has seen both.
void set_twice() {
  event e;
  sync::atomic<int> n{0};
  auto add = [&] {
    n.fetch_add(1, std::memory_order_relaxed);
    e.set();
  };
  together(
      [&] {
        while (n.load(std::memory_order_relaxed) != 2)
          check(e.wait_for(for_ever), "no time is over");
      },
      add, add);
}

const interleave::model event_twice("event_twice", "no set() is lost", &set_twice);

/// The deadline may come at any moment; what was set then is not lost either.
void set_or_timeout() {
  event e;
  sync::atomic<bool> done{false};
  together(
      [&] {
        if (e.wait_for(std::chrono::seconds(1))) return;
        while (!done.load(std::memory_order_relaxed)) sync::this_thread::yield();
        check(e.wait_for(for_ever), "set meanwhile");
      },
      [&] {
        e.set();
        done.store(true, std::memory_order_relaxed);
      });
}

const interleave::model event_timeout("event_timeout", "set() ends one wait, in time or not",
                                      &set_or_timeout);

// --- completion_latch, departures ---

void destroy_after_wait() {
  auto latch = std::make_unique<completion_latch>();
  auto* const l = latch.get();
  together(
      [&] {
        latch->wait();
        latch.reset();
      },
      [l] { l->release(); });
}

const interleave::model latch("completion_latch", "whoever has waited may destroy it",
                              &destroy_after_wait);

/// Operations leave an engine, and a context that shuts down waits until they are posted.
void leave_and_wait() {
  sync::mutex engine;
  departures on_their_way;
  shared<bool> context_lives(true);
  bool is_taken = false;
  auto complete = [&] {
    {
      std::lock_guard lock(engine);
      if (is_taken) return;
      is_taken = true;
      on_their_way.begin();
    }
    check(context_lives.get(), "nothing is posted to a context that has ended");
    on_their_way.end(engine);
  };
  together(complete, complete, [&] {
    {
      std::unique_lock lock(engine);
      is_taken = true;
      on_their_way.wait(lock);
    }
    context_lives.set(false);
  });
}

const interleave::model departing("departures", "a context waits for what is on its way to it",
                                  &leave_and_wait);

void leave_and_wait_lightly() {
  spin_lock engine;
  light_departures on_their_way;
  shared<bool> context_lives(true);
  bool is_taken = false;
  auto complete = [&] {
    {
      std::lock_guard lock(engine);
      if (is_taken) return;
      is_taken = true;
      on_their_way.begin();
    }
    check(context_lives.get(), "nothing is posted to a context that has ended");
    on_their_way.end();
  };
  together(complete, complete, [&] {
    {
      std::lock_guard lock(engine);
      is_taken = true;
    }
    on_their_way.wait();
    context_lives.set(false);
  });
}

const interleave::model departing_lightly("light_departures", "the same without a mutex",
                                          &leave_and_wait_lightly);

} // namespace
