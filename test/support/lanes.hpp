//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_LANES_HPP
#define BULKHEAD_TEST_SUPPORT_LANES_HPP

#include "pool.hpp"
#include "run.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

// The operations of a lane as fixtures of the matrices in tokens.hpp and cancellation.hpp, and what
// these then check.

namespace test {

inline bool balanced(const bulkhead::lane_stats& s) {
  return s.in_flight == 0 && s.queued == 0 && s.waiting == 0 && s.running == 0 &&
         s.submitted == s.completed + s.failed + s.rejected + s.cancelled;
}

// async_submit of a task that runs until proceed(). With `queued`, the task does not even start
// until then; with `waiting`, it waits for room until then.
struct submit_fixture {
  enum class where { running, queued, waiting };

  std::shared_ptr<gate> open = std::make_shared<gate>();
  std::shared_ptr<std::atomic<int>> alive = std::make_shared<std::atomic<int>>(0);
  boost::asio::thread_pool threads{1};
  std::optional<bulkhead::lanes> set;
  std::optional<bulkhead::lane> l;
  where w;
  bool throws = false;

  explicit submit_fixture(where at) : w(at) {
    set.emplace(threads, bulkhead::lanes_options{.concurrency = 1});
    l.emplace(set->open({.queue_limit = 1}));
    if (w == where::running) return;
    hold();
    if (w == where::waiting) BOOST_TEST(l->try_submit([] {}));
  }

  ~submit_fixture() { open->open(); }

  void hold() {
    auto started = std::make_shared<counter>();
    BOOST_TEST(l->try_submit([g = open, started] {
      started->add();
      g->wait();
    }));
    started->wait_for(1);
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [g = open, counted = live(*alive), keep = alive, fail = throws] {
      g->wait();
      if (fail) throw std::runtime_error("from the task");
      return 42;
    };
    return l->async_submit(std::move(task), std::forward<Token>(token));
  }

  void proceed() { open->open(); }

  void settle() {
    if (!l) return;
    wait_until([&] { return l->stats().waiting == 0; });
    l->async_drain(boost::asio::use_future).get();
    wait_until([&] { return l->stats().in_flight == 0; });
  }
  void destroy() {
    set.reset();
    l.reset();
  }
  void restored() {
    BOOST_TEST(*alive == 0);
    BOOST_TEST(balanced(l->stats()));
  }
  bool on_own_executor() const { return l->get_executor().running_in_this_thread(); }
};

// async_drain of a lane, `busy` with a task until proceed().
struct drain_fixture : submit_fixture {
  explicit drain_fixture(bool busy) : submit_fixture(where::running) {
    if (busy) hold();
  }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return l->async_drain(std::forward<Token>(token));
  }
};

// Whatever is made or checked, its type is the same: each matrix is instantiated once.
inline auto make_submit(submit_fixture::where at, void (*prepare)(submit_fixture&) = nullptr) {
  return [=] {
    auto f = std::make_unique<submit_fixture>(at);
    if (prepare) prepare(*f);
    return f;
  };
}

inline auto make_drain(bool busy) {
  return [=] { return std::make_unique<drain_fixture>(busy); };
}

inline void expect_42(std::exception_ptr e, int n) {
  BOOST_TEST(!e);
  BOOST_TEST(n == 42);
}

inline void expect_no_error(bulkhead::error_code ec) { BOOST_TEST(!ec); }

} // namespace test

#endif
