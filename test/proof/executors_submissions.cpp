//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The operations of area "executors" of what functions are submitted to.

#include "executors.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/tenants.hpp>

#include <latch>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

namespace {

using namespace proof::executors;

/// Keeps a worker busy until it is opened.
class gate {
public:
  auto plug() {
    return [s = state_] {
      s->begun.count_down();
      s->open.wait();
    };
  }

  /// Returns when the plug is in.
  void wait_for_plug() { state_->begun.wait(); }
  void open() { state_->open.count_down(); }

private:
  struct state {
    std::latch begun{1}, open{1};
  };
  std::shared_ptr<state> state_ = std::make_shared<state>();
};

/// What an object's tasks wait for.
struct plugged {
  gate g;
  void proceed() { g.open(); }
};

inline int task() { return 42; }

template <class Object>
void wait_until_idle(const Object& o) {
  for (auto s = o.stats(); s.running + s.queued + s.waiting != 0; s = o.stats())
    std::this_thread::yield();
}

// --- pools ----------------------------------------------------------------------------------------

struct with_pool : plugged {
  bulkhead::pool p;

  explicit with_pool(bool waits, std::size_t queue_limit = bulkhead::unbounded)
      : p(bulkhead::pool_options{.threads = 1, .queue_limit = queue_limit}) {
    if (!waits) return;
    p.submit(g.plug());
    g.wait_for_plug();
  }

  bool is_home() { return p.get_executor().running_in_this_thread(); }
  void settle() { wait_until_idle(p); }
};

struct submit_to_pool : with_pool {
  submit_to_pool(const location&, bool waits) : with_pool(waits) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_submit(&task, std::forward<Token>(token));
  }
};

struct wait_for_room : with_pool {
  wait_for_room(const location&, bool waits) : with_pool(waits, 1) {
    if (waits) p.submit(&task);
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_submit([] {}, std::forward<Token>(token));
  }
};

struct drain_pool : with_pool {
  drain_pool(const location&, bool waits) : with_pool(waits) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_drain(std::forward<Token>(token));
  }
};

struct state {};

struct with_stateful_pool : plugged {
  bulkhead::stateful_pool<state> p;

  explicit with_stateful_pool(bool waits)
      : p([] { return state(); }, bulkhead::pool_options{.threads = 1}) {
    if (!waits) return;
    p.submit([f = g.plug()](state&) { f(); });
    g.wait_for_plug();
  }

  bool is_home() { return p.get_executor().running_in_this_thread(); }
  void settle() { wait_until_idle(p); }
};

struct submit_to_stateful_pool : with_stateful_pool {
  submit_to_stateful_pool(const location&, bool waits) : with_stateful_pool(waits) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_submit([](state&) { return 42; }, std::forward<Token>(token));
  }
};

struct drain_stateful_pool : with_stateful_pool {
  drain_stateful_pool(const location&, bool waits) : with_stateful_pool(waits) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_drain(std::forward<Token>(token));
  }
};

/// It waits for the factory.
struct warm_up : plugged {
  bulkhead::stateful_pool<state> p;

  warm_up(const location&, bool waits)
      : p(
            [waits, plug = g.plug()] {
              if (waits) plug();
              return state();
            },
            bulkhead::pool_options{.threads = 1}) {}

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p.async_warm_up(std::forward<Token>(token));
  }

  bool is_home() { return p.get_executor().running_in_this_thread(); }
  void settle() const {
    while (p.stats().states == 0) std::this_thread::yield();
  }
};

// --- lanes ----------------------------------------------------------------------------------------

struct with_lane : plugged {
  bulkhead::lanes set;
  bulkhead::lane l;

  with_lane(const location& where, bool waits)
      : set(where.executor_to_be_blocked(waits), {.concurrency = 1}), l(set.open()) {
    if (waits && l.try_submit(g.plug())) g.wait_for_plug();
  }

  bool is_home() const { return at_object() && l.get_executor().running_in_this_thread(); }
  void settle() { wait_until_idle(l); }
};

struct submit_to_lane : with_lane {
  using with_lane::with_lane;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return l.async_submit(&task, std::forward<Token>(token));
  }
};

struct drain_lane : with_lane {
  using with_lane::with_lane;

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return l.async_drain(std::forward<Token>(token));
  }
};

struct submit_to_shard : plugged {
  bulkhead::shards shards;

  submit_to_shard(const location& where, bool waits)
      : shards(where.executor_to_be_blocked(waits), 1) {
    if (waits && shards.try_submit(7, g.plug())) g.wait_for_plug();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return shards.async_submit(7, &task, std::forward<Token>(token));
  }

  bool is_home() const { return at_object() && shards.get_executor(7).running_in_this_thread(); }
  void settle() { wait_until_idle(shards); }
};

struct submit_to_tenant : plugged {
  bulkhead::tenants<int> tenants;

  submit_to_tenant(const location& where, bool waits)
      : tenants(where.executor_to_be_blocked(waits), {.concurrency = 1},
                [](int) { return bulkhead::lane_options(); }) {
    if (waits && tenants.try_submit(7, g.plug())) g.wait_for_plug();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return tenants.async_submit(7, &task, std::forward<Token>(token));
  }

  bool is_home() { return at_object() && tenants.get_executor(7).running_in_this_thread(); }
  void settle() { wait_until_idle(tenants); }
};

const operation operations[] = {
    {"pool async_submit", std::type_identity<submit_to_pool>()},
    {"pool async_submit waiting for room", std::type_identity<wait_for_room>()},
    {"pool async_drain", std::type_identity<drain_pool>()},
    {"stateful_pool async_submit", std::type_identity<submit_to_stateful_pool>()},
    {"stateful_pool async_drain", std::type_identity<drain_stateful_pool>()},
    {"async_warm_up", std::type_identity<warm_up>()},
    {"lane async_submit", std::type_identity<submit_to_lane>()},
    {"lane async_drain", std::type_identity<drain_lane>()},
    {"shards async_submit", std::type_identity<submit_to_shard>()},
    {"tenants async_submit", std::type_identity<submit_to_tenant>()}};

} // namespace
