//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Cases of "allocation failure": lanes, tenants and shards.

#include "memory.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/tenants.hpp>

#include <boost/asio/defer.hpp>
#include <boost/asio/post.hpp>

namespace proof::memory {
namespace {

// --- lanes ---

void is_usable(trial& t, asio::io_context& io, const bulkhead::lane& l) {
  t.finish(io);
  const auto s = l.stats();
  t.expect(s.queued == 0 && s.waiting == 0 && s.running == 0 &&
               s.submitted == s.completed + s.failed + s.rejected + s.cancelled,
           "counts of a lane are wrong");
  bool ran = false;
  t.expect(l.try_submit([&] { ran = true; }), "a lane has no room any more");
  t.finish(io);
  t.expect(ran, "a lane is of no use any more");
}

MEMORY_CASE(lanes_made, "lanes: made, and a lane opened") {
  asio::io_context io;
  std::optional<bulkhead::lanes> set;
  if (!t.attempt([&] { set.emplace(io, bulkhead::lanes_options{.concurrency = 2}); })) return;
  std::vector<bulkhead::lane> all;
  all.reserve(6);
  for (int i = 0; i != 6; ++i)
    t.attempt([&] { all.push_back(set->open({.name = std::string(50, 'x'), .priority = i % 3})); });
  t.defuse();
  for (const auto& l : all) is_usable(t, io, l);
}

template <class End>
void lane_case(trial& t, bulkhead::lane_options options, std::vector<error_code> expected, End end,
               std::size_t batch = 2) {
  asio::io_context io;
  asio::cancellation_signal signal;
  std::optional<bulkhead::lanes> set(std::in_place, io,
                                     bulkhead::lanes_options{.concurrency = 1, .batch = batch});
  std::optional<bulkhead::lane> l(set->open(options));
  std::size_t ran = 0, accepted = 0;
  for (int i = 0; i != 5; ++i) {
    t.attempt([&] { accepted += l->try_submit([&] { ++ran; }); });
    t.with_handler(io.get_executor(), expected, [&](auto h) {
      t.attempt([&] {
        l->async_submit([] { return 1; },
                        asio::bind_cancellation_slot(signal.slot(), std::move(h)));
      });
    });
    t.attempt([&] { asio::post(l->get_executor(), [&] { ++ran; }), ++accepted; });
  }
  t.attempt([&] { end(io, set, *l, signal); });
  t.poll(io);
  if (set && l->try_submit([] {})) {
    is_usable(t, io, *l);
    t.expect(ran == accepted, "a function of a lane is lost");
  }
  t.finish(io);
}

MEMORY_CASE(lane_runs, "lane: runs") {
  lane_case(t, {}, {}, [](auto&&...) {});
}
MEMORY_CASE(lane_waits, "lane: waits for room") {
  lane_case(t, {.queue_limit = 2}, {}, [](auto&&...) {});
}
MEMORY_CASE(lane_cancelled, "lane: cancelled") {
  lane_case(t, {.queue_limit = 8}, {aborted},
            [](auto&, auto&, auto&, auto& signal) { signal.emit(asio::cancellation_type::total); });
}
MEMORY_CASE(lane_closed, "lane: closed") {
  lane_case(t, {.queue_limit = 8}, {closed}, [](auto&, auto&, auto& l, auto&) { l.close(); });
}
MEMORY_CASE(lane_refuses, "lane: refuses") {
  lane_case(t, {.queue_limit = 3, .waiter_limit = 0}, {bulkhead::errc::queue_full},
            [](auto&&...) {});
}
MEMORY_CASE(lane_set_ends, "lane: its set ends") {
  lane_case(t, {.queue_limit = 8}, {aborted}, [](auto&, auto& set, auto&, auto&) { set.reset(); });
}
MEMORY_CASE(lane_tuned, "lane: set anew") {
  lane_case(t, {}, {}, [](auto&, auto& set, auto& l, auto&) {
    l.set_weight(2);
    l.set_priority(5);
    l.set_concurrency(2);
    set->set_concurrency(3);
  });
}
MEMORY_CASE(lane_drained, "lane: drained") {
  lane_case(t, {.queue_limit = 8}, {closed}, [&](auto& io, auto&, auto& l, auto&) {
    t.with_handler(io.get_executor(), {},
                   [&](auto h) { t.attempt([&] { l.async_drain(std::move(h)); }); });
  });
}
MEMORY_CASE(lane_cut, "lane: with an executor on the way") {
  asio::io_context io;
  const auto strand = bulkhead::limit_concurrency(io.get_executor(), 1);
  int ran = 0, given = 0;
  for (int i = 0; i != 20; ++i) {
    t.attempt([&] { asio::post(strand, [&] { ++ran; }), ++given; });
    t.attempt([&] { asio::defer(strand, [&] { ++ran; }), ++given; });
  }
  t.poll(io);
  t.finish(io);
  t.expect(ran == given, "a handler is lost");
}

/// One function whose end nobody hears of, and one with a handler.
template <class Set, class Key>
void submit_for(trial& t, asio::io_context& io, Set& set, const Key& key, std::size_t& accepted,
                std::size_t& ran) {
  t.attempt([&] { accepted += set.try_submit(key, [&] { ++ran; }); });
  t.with_handler(io.get_executor(), {}, [&](auto h) {
    t.attempt([&] {
      set.async_submit(
          key, [] {}, std::move(h));
    });
  });
}

MEMORY_CASE(tenants, "tenants") {
  asio::io_context io;
  std::optional<bulkhead::tenants<std::string>> all;
  if (!t.attempt([&] {
        all.emplace(io, bulkhead::lanes_options{.concurrency = 1},
                    [](const std::string& n) { return bulkhead::lane_options{.name = n}; });
      }))
    return;
  std::size_t ran = 0, accepted = 0;
  for (char c = 'a'; c != 'f'; ++c) submit_for(t, io, *all, std::string(50, c), accepted, ran);
  t.poll(io);
  t.attempt([&] { all->for_each([](const std::string&, const bulkhead::lane&) {}); });
  t.attempt([&] { all->evict_idle(); });
  t.finish(io);
  t.expect(ran == accepted, "a function is lost");
  const auto s = all->stats();
  t.expect(s.submitted == s.completed, "counts of tenants are wrong");
  is_usable(t, io, (*all)["x"]);
}

MEMORY_CASE(shards, "shards") {
  asio::io_context io;
  std::optional<bulkhead::shards> all;
  if (!t.attempt([&] { all.emplace(io, 3, bulkhead::shards_options{.name = "shards"}); })) return;
  std::size_t ran = 0, accepted = 0;
  for (int key = 0; key != 5; ++key) submit_for(t, io, *all, key, accepted, ran);
  t.poll(io);
  t.finish(io);
  t.expect(ran == accepted, "a function is lost");
  is_usable(t, io, (*all)[0]);
}

} // namespace
} // namespace proof::memory
