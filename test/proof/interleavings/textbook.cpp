//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Mistakes from textbooks, and the same without them: what the scheduler itself must find and let pass.

#include "model.hpp"

#include <mutex>
#include <utility>

namespace {

using interleave::check;
using interleave::together;
using namespace bulkhead::detail;

// --- each stores, then looks at the other's ---

template <std::memory_order Store>
void dekker() {
  sync::atomic<int> a{0};
  sync::atomic<int> b{0};
  int seen_a = 1;
  int seen_b = 1;
  together(
      [&] {
        a.store(1, Store);
        seen_b = b.load(std::memory_order_seq_cst);
      },
      [&] {
        b.store(1, Store);
        seen_a = a.load(std::memory_order_seq_cst);
      });
  check(seen_a == 1 || seen_b == 1, "neither has seen the other");
}

const interleave::model dekker_ok("dekker", "one sees the other",
                                  &dekker<std::memory_order_seq_cst>);
const interleave::model dekker_wrong("wrong_dekker", "a store that is not sequentially consistent",
                                     &dekker<std::memory_order_release>);

/// The same where one side pays for both.
template <bool Fence>
void asymmetric() {
  sync::atomic<int> a{0};
  sync::atomic<int> b{0};
  int seen_a = 1;
  int seen_b = 1;
  together(
      [&] {
        a.store(1, std::memory_order_release);
        seen_b = b.load(std::memory_order_seq_cst);
      },
      [&] {
        b.store(1, std::memory_order_seq_cst);
        if (Fence) sync::barrier_for_all();
        seen_a = a.load(std::memory_order_seq_cst);
      });
  check(seen_a == 1 || seen_b == 1, "neither has seen the other");
}

const interleave::model asymmetric_ok("asymmetric_fence", "one sees the other", &asymmetric<true>);
const interleave::model asymmetric_wrong("wrong_asymmetric_fence", "without the fence",
                                         &asymmetric<false>);

// --- a flag says that something has been written ---

template <std::memory_order Store, std::memory_order Load>
void message() {
  interleave::shared<int> text(0);
  sync::atomic<bool> ready{false};
  together(
      [&] {
        text.set(42);
        ready.store(true, Store);
      },
      [&] {
        while (!ready.load(Load)) sync::this_thread::yield();
        check(text.get() == 42, "it has been written");
      });
}

const interleave::model message_ok("message", "who sees the flag sees the rest",
                                   &message<std::memory_order_release, std::memory_order_acquire>);
const interleave::model
    message_wrong("wrong_message_store", "not released",
                  &message<std::memory_order_relaxed, std::memory_order_acquire>);
const interleave::model
    message_wrong_too("wrong_message_load", "not acquired",
                      &message<std::memory_order_release, std::memory_order_relaxed>);

// --- counting ---

void counter() {
  sync::mutex mutex;
  interleave::shared<int> n(0);
  auto add = [&] {
    std::lock_guard lock(mutex);
    n.set(n.get() + 1);
  };
  together(add, add, add);
  check(n.get() == 3, "all have counted");
}

const interleave::model counter_ok("counter", "under a mutex", &counter);

void lost_update() {
  sync::atomic<int> n{0};
  auto add = [&] { n.store(n.load() + 1); };
  together(add, add);
  check(n.load() == 2, "both have counted");
}

const interleave::model lost_update_wrong("wrong_lost_update", "a step made of two", &lost_update);

// --- waiting ---

template <bool Checked>
void wake_up() {
  sync::mutex mutex;
  sync::condition_variable changed;
  bool ready = false;
  together(
      [&] {
        std::unique_lock lock(mutex);
        if (Checked)
          changed.wait(lock, [&] { return ready; });
        else
          changed.wait(lock);
      },
      [&] {
        std::lock_guard lock(mutex);
        ready = true;
        changed.notify_one();
      });
}

const interleave::model wake_up_ok("wake_up", "the waiter wakes up", &wake_up<true>);
const interleave::model wake_up_wrong("wrong_wake_up", "it waits for what is past",
                                      &wake_up<false>);

void deadlock() {
  sync::mutex a;
  sync::mutex b;
  together(
      [&] {
        std::lock_guard first(a);
        std::lock_guard second(b);
      },
      [&] {
        std::lock_guard first(b);
        std::lock_guard second(a);
      });
}

const interleave::model deadlock_wrong("wrong_deadlock", "two mutexes, either way round",
                                       &deadlock);

void livelock() {
  sync::atomic<bool> never{false};
  together(
      [&] {
        while (!never.load()) sync::this_thread::yield();
      },
      [] {});
}

const interleave::model livelock_wrong("wrong_livelock", "waits for nobody", &livelock);

// --- memory ---

template <bool Shared>
void last_user() {
  struct object {
    sync::atomic<int> users{2};
    sync::atomic<int> used{0};
  };
  auto* o = new object;
  auto use = [o] {
    o->used.fetch_add(1);
    const bool is_last = o->users.fetch_sub(1) == 1;
    if (Shared ? is_last : o->used.load() == 2) delete o;
  };
  together(use, use);
}

const interleave::model last_user_ok("last_user", "the last user deletes it", &last_user<true>);
const interleave::model last_user_wrong("wrong_last_user", "looks at it after it has left",
                                        &last_user<false>);

int* volatile forgotten;

void leak() {
  sync::atomic<int> turn{0};
  together(
      [&] {
        if (turn.exchange(1) == 0) forgotten = new int(0);
      },
      [&] { turn.exchange(1); });
}

const interleave::model leak_wrong("wrong_leak", "memory that nobody frees", &leak);

/// A stack whose top is compared with a place that may have been popped and pushed again.
void aba() {
  struct node {
    sync::atomic<node*> next{nullptr};
    sync::atomic<bool> is_out{false};
  };
  node nodes[2];
  nodes[0].next.store(&nodes[1]);
  sync::atomic<node*> top{&nodes[0]};
  auto pop = [&] {
    node* n = top.load();
    while (n && !top.compare_exchange_strong(n, n->next.load())) {
    }
    if (n) check(!n->is_out.exchange(true), "it is popped once");
    return n;
  };
  auto push = [&](node* n) {
    n->is_out.store(false);
    node* first = top.load();
    do n->next.store(first);
    while (!top.compare_exchange_strong(first, n));
  };
  together([&] { pop(); },
           [&] {
             node* const a = pop();
             static_cast<void>(pop());
             if (a) push(a);
           });
  static_cast<void>(pop());
}

const interleave::model aba_wrong("wrong_aba", "the same place is not the same state", &aba);

} // namespace
