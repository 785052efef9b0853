//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Cases of "allocation failure": semaphores and what is limited.

#include "memory.hpp"

#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/steady_timer.hpp>

namespace proof::memory {
namespace {

using bulkhead::permit;

// --- semaphore ---

void is_usable(trial& t, asio::io_context& io, bulkhead::semaphore& s) {
  t.defuse();
  t.poll(io);
  t.expect(s.in_use() == 0 && s.waiting() == 0, "permits are lost");
  bool granted = false;
  s.async_acquire(s.limit(), [&](error_code ec, permit) { granted = !ec; });
  t.finish(io);
  t.expect(granted, "the semaphore is of no use any more");
}

MEMORY_CASE(semaphore_made, "semaphore: made") {
  asio::io_context io;
  std::optional<bulkhead::semaphore> s;
  if (t.attempt([&] { s.emplace(io, 3); })) is_usable(t, io, *s);
}

MEMORY_CASE(semaphore_granted, "semaphore: granted at once") {
  asio::io_context io;
  bulkhead::semaphore s(io, 3);
  t.with_handler(io.get_executor(), {},
                 [&](auto h) { t.attempt([&] { s.async_acquire(2, std::move(h)); }); });
  t.poll(io);
  is_usable(t, io, s);
}

MEMORY_CASE(semaphore_refused, "semaphore: refused at once") {
  asio::io_context io;
  bulkhead::semaphore s(io, 3);
  t.with_handler(io.get_executor(), {bulkhead::errc::exceeds_limit},
                 [&](auto h) { t.attempt([&] { s.async_acquire(4, std::move(h)); }); });
  t.poll(io);
  is_usable(t, io, s);
}

template <class End>
void semaphore_wait(trial& t, bulkhead::semaphore_options options, std::vector<error_code> expected,
                    End end) {
  asio::io_context io;
  asio::cancellation_signal signal;
  std::optional<bulkhead::semaphore> s(std::in_place, io, 3, options);
  permit held = std::move(s->try_acquire(3)).value();
  for (std::size_t weight : {1, 2}) {
    t.with_handler(io.get_executor(), expected, [&](auto h) {
      t.attempt([&] {
        s->async_acquire(weight, asio::bind_cancellation_slot(signal.slot(), std::move(h)));
      });
    });
  }
  t.attempt([&] { end(s, held, signal); });
  t.poll(io);
  t.defuse();
  if (s && s->waiting() != 0) { // only the last was cancelled
    held.release();
    t.poll(io);
  }
  held.release();
  const bool is_closed = s && s->try_acquire(0).has_error();
  if (s && !is_closed) is_usable(t, io, *s);
  t.finish(io);
}

MEMORY_CASE(semaphore_waits, "semaphore: waits") {
  semaphore_wait(t, {}, {}, [](auto&, permit& held, auto&) { held.release(); });
}
MEMORY_CASE(semaphore_cancelled, "semaphore: cancelled") {
  semaphore_wait(t, {}, {aborted}, [](auto&, permit&, auto& signal) {
    signal.emit(asio::cancellation_type::partial);
  });
}
MEMORY_CASE(semaphore_closed, "semaphore: closed") {
  semaphore_wait(t, {}, {closed}, [](auto& s, permit&, auto&) { s->close(); });
}
MEMORY_CASE(semaphore_destroyed, "semaphore: destroyed") {
  semaphore_wait(t, {}, {aborted}, [](auto& s, permit&, auto&) { s.reset(); });
}
MEMORY_CASE(semaphore_grows, "semaphore: resized") {
  semaphore_wait(t, {}, {}, [](auto& s, permit&, auto&) { s->resize(6); });
}
MEMORY_CASE(semaphore_shrinks, "semaphore: resized below a weight") {
  semaphore_wait(t, {}, {bulkhead::errc::exceeds_limit}, [](auto& s, permit& held, auto&) {
    s->resize(1);
    held.release();
  });
}
MEMORY_CASE(semaphore_tracks, "semaphore: with holders") {
  semaphore_wait(t, {.track_holders = true}, {}, [](auto& s, permit& held, auto&) {
    const permit part = held.split(1);
    (void)s->waiters();
    (void)s->holders();
    held.release();
  });
}

MEMORY_CASE(semaphore_context_ends, "semaphore: its context ends") {
  std::optional<asio::io_context> io(std::in_place);
  bulkhead::semaphore s(*io, 1);
  const permit held = std::move(s.try_acquire()).value();
  for (int i = 0; i != 2; ++i)
    t.with_handler(io->get_executor(), {},
                   [&](auto h) { t.attempt([&] { s.async_acquire(std::move(h)); }); });
  t.may_be_destroyed(2);
  t.attempt([&] { io.reset(); });
}

MEMORY_CASE(semaphore_try, "semaphore: try_acquire, forget, release") {
  asio::io_context io;
  bulkhead::semaphore s(io, 3, {.track_holders = true});
  t.attempt([&] {
    auto p = s.try_acquire(2);
    (void)s.try_acquire(2);
  });
  t.attempt([&] {
    permit p = std::move(s.try_acquire(2)).value();
    p.forget();
  });
  t.defuse();
  if (s.in_use() != 0) s.release(2);
  is_usable(t, io, s);
}

// --- keyed, limited_by, timeout ---

MEMORY_CASE(keyed, "keyed") {
  asio::io_context io;
  std::optional<bulkhead::keyed<std::string, bulkhead::semaphore>> k;
  const std::string key(100, 'a');
  if (!t.attempt(
          [&] { k.emplace([&](const std::string&) { return bulkhead::semaphore(io, 1); }); }))
    return;
  t.attempt([&] { const permit p = std::move(k->try_acquire(key)).value(); });
  for (int i = 0; i != 2; ++i)
    t.with_handler(io.get_executor(), {},
                   [&](auto h) { t.attempt([&] { k->async_acquire(key, std::move(h)); }); });
  t.poll(io);
  t.attempt([&] { k->for_each([](const std::string&, bulkhead::semaphore&) {}); });
  t.attempt([&] { k->evict_idle(); });
  t.poll(io);
  t.defuse();
  t.expect(k->try_acquire(key).has_value(), "a permit is lost");
  k.reset();
  t.finish(io);
}

template <class Use>
void limited(trial& t, bool waits, std::vector<error_code> expected, Use use) {
  asio::io_context io;
  bulkhead::semaphore s(io, 1);
  asio::cancellation_signal signal;
  asio::steady_timer timer(io, 1h);
  permit held;
  if (waits) held = std::move(s.try_acquire()).value();
  t.with_handler(io.get_executor(), std::move(expected), [&](auto h) {
    t.attempt([&] { use(timer, s, asio::bind_cancellation_slot(signal.slot(), std::move(h))); });
  });
  t.poll(io);
  held.release();
  t.poll(io);
  t.attempt([&] { signal.emit(asio::cancellation_type::terminal); });
  t.poll(io);
  t.defuse();
  signal.emit(asio::cancellation_type::terminal);
  t.poll(io);
  timer.cancel();
  is_usable(t, io, s);
}

const auto under_limit = [](auto& timer, auto& s, auto h) {
  timer.async_wait(bulkhead::limited_by(s, std::move(h)));
};
const auto at_once_under_limit = [](auto& timer, auto& s, auto h) {
  timer.expires_after(-1s);
  timer.async_wait(bulkhead::limited_by(s, std::move(h)));
};
const auto under_deadline = [](auto& timer, auto&, auto h) {
  timer.async_wait(bulkhead::timeout(1h, std::move(h)));
};
const auto over_deadline = [](auto& timer, auto&, auto h) {
  timer.async_wait(bulkhead::timeout(0s, std::move(h)));
};
const auto under_both = [](auto& timer, auto& s, auto h) {
  timer.async_wait(bulkhead::limited_by(s, bulkhead::timeout(1h, std::move(h))));
};
const auto each_under_both = [](auto& timer, auto& s, auto h) {
  timer.async_wait(bulkhead::timeout(1h, bulkhead::limited_by(s, std::move(h))));
};

MEMORY_CASE(limited_now, "limited_by: at once") { limited(t, false, {}, at_once_under_limit); }
MEMORY_CASE(limited_later, "limited_by: after a wait") {
  limited(t, true, {}, at_once_under_limit);
}
MEMORY_CASE(limited_cancelled, "limited_by: cancelled") {
  limited(t, false, {aborted}, under_limit);
}
MEMORY_CASE(limited_cancelled_later, "limited_by: waits and is cancelled") {
  limited(t, true, {aborted}, under_limit);
}
MEMORY_CASE(timeout_cancelled, "timeout: cancelled") {
  limited(t, false, {aborted}, under_deadline);
}
MEMORY_CASE(timeout_missed, "timeout: missed") {
  limited(t, false, {aborted, bulkhead::errc::deadline_exceeded}, over_deadline);
}
MEMORY_CASE(both_cancelled, "limited_by in timeout") { limited(t, true, {aborted}, under_both); }
MEMORY_CASE(both_cancelled_too, "timeout in limited_by") {
  limited(t, true, {aborted}, each_under_both);
}

} // namespace
} // namespace proof::memory
