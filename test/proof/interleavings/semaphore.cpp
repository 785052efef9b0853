//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "fate.hpp"

#include <bulkhead/detail/wait/semaphore_core.hpp>

#include <boost/asio/cancellation_type.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

namespace {

namespace asio = boost::asio;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::permit;
using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

// --- handlers without executors: they say what became of them ---

using context = ending_context;

struct wait_fate : fate {
  error_code error{};
  permit granted{};
};

class acquiring final : public acquire_op {
  using base = operation<void(error_code, permit)>;

public:
  static acquiring* create(wait_fate& f, std::size_t weight, context* c) {
    return new acquiring(f, weight, c);
  }
  void free() { delete this; }

private:
  acquiring(wait_fate& f, std::size_t w, context* c)
      : acquire_op(table, c, w), fate_(f), context_(c) {}

  static void do_complete(base* b, std::tuple<error_code, permit>&& results) noexcept {
    auto* const op = static_cast<acquiring*>(b);
    if (op->context_) op->context_->touch();
    wait_fate& f = op->fate_;
    f.error = std::get<0>(results);
    f.granted = std::move(std::get<1>(results));
    delete op;
    f.end(f.completed);
  }
  static void do_destroy(base* b) noexcept {
    auto* const op = static_cast<acquiring*>(b);
    if (op->context_) op->context_->touch();
    wait_fate& f = op->fate_;
    delete op;
    f.end(f.destroyed);
  }
  static void do_end_io_work(base*) noexcept {}

  static constexpr vtable table{&do_complete, &do_destroy, &do_end_io_work};

  wait_fate& fate_;
  context* context_;
};

constexpr auto unlimited = std::size_t(-1);

std::shared_ptr<semaphore_core> make_semaphore(std::size_t limit, context* home = nullptr,
                                               bool track = false) {
  auto core =
      std::make_shared<semaphore_core>(limit, semaphore_core::settings{unlimited, 0, track});
  core->attach(home);
  return core;
}

/// The first three steps of async_acquire. The key names the wait, if it came to that.
wait_key acquire(const std::shared_ptr<semaphore_core>& core, wait_fate& f, std::size_t weight = 1,
                 context* home = nullptr, context* foreign = nullptr) {
  error_code ec;
  permit p;
  if (!core->tracks_holders() && core->acquire_now(weight, ec, p)) {
    f.error = ec;
    f.granted = std::move(p);
    f.end(f.completed);
    return {};
  }
  acquiring* const op = acquiring::create(f, weight, foreign ? foreign : home);
  if (core->tracks_holders())
    op->who = std::make_unique<holder>(*core, weight, std::source_location::current(), 0, false);
  const wait_key key = core->reserve(*op);
  op->watch_handler_context(home, std::weak_ptr(core), key);
  if (core->enqueue(*op, ec, p)) {
    op->free();
    f.error = ec;
    f.granted = std::move(p);
    f.end(f.completed);
  }
  return key;
}

void wait_for(const fate& f) {
  interleave::wait_until([&f] { return f.is_over(); });
}

void expect_unused(const semaphore_core& core, std::size_t limit) {
  check(core.waiting() == 0, "nobody waits");
  check(core.in_use() == 0 && core.available() == limit, "all units are back");
  check(core.idle(), "and all permits");
}

// --- semaphore_core ---

/// Three that each want the one unit there is.
void take_turns(bool track) {
  const auto core = make_semaphore(1, nullptr, track);
  int inside = 0;
  auto use = [&] {
    wait_fate f;
    acquire(core, f);
    wait_for(f);
    check(!f.error && f.granted, "it is granted");
    check(++inside == 1, "to one at a time");
    sync::this_thread::yield();
    --inside;
    f.granted.release();
  };
  together(use, use, use);
  expect_unused(*core, 1);
  core->abandon();
}

const interleave::model turns("semaphore",
                              "one unit goes to one at a time, and nobody is left waiting",
                              [] { take_turns(false); });
const interleave::model tracked("semaphore_tracked", "the same where holders are tracked",
                                [] { take_turns(true); });

/// What one did with a unit, the next who has it knows.
void pass_on() {
  const auto core = make_semaphore(1);
  shared<int> text(0);
  auto use = [&] {
    const auto p = core->try_acquire(1, std::source_location::current());
    if (p) text.set(text.get() + 1);
  };
  together(use, use, use);
  check(text.get() != 0, "at least one got it");
  expect_unused(*core, 1);
  core->abandon();
}

const interleave::model passes("semaphore_try", "who takes a unit knows of its last holder",
                               &pass_on);

/// A cancellation while the unit comes back, and somebody behind who wants it.
void cancel_or_grant() {
  const auto core = make_semaphore(1);
  wait_fate holds;
  wait_fate cancelled;
  wait_fate behind;
  acquire(core, holds);
  const wait_key key = acquire(core, cancelled);
  acquire(core, behind);
  together([&] { holds.granted.release(); },
           [&] { core->cancel(key, asio::cancellation_type::terminal); },
           [&] {
             wait_for(cancelled);
             check(!cancelled.error == bool(cancelled.granted), "granted or aborted");
             cancelled.granted.release();
           });
  wait_for(behind);
  check(!behind.error && behind.granted, "whoever is behind gets it");
  behind.granted.release();
  expect_unused(*core, 1);
  core->cancel(key, asio::cancellation_type::terminal); // harmless
  core->abandon();
}

const interleave::model cancels("semaphore_cancel", "granted or aborted, once, and no unit is lost",
                                &cancel_or_grant);

/// A heavy one in front that is cancelled lets the light ones behind it in.
void heavy_head() {
  const auto core = make_semaphore(2);
  wait_fate held;
  wait_fate heavy;
  wait_fate light;
  acquire(core, held);
  const wait_key key = acquire(core, heavy, 2);
  together([&] { core->cancel(key, asio::cancellation_type::terminal); },
           [&] {
             acquire(core, light);
             wait_for(light);
             check(bool(light.granted), "it fits");
             light.granted.release();
           });
  check(heavy.completed.load() == 1, "cancelled, or granted after all"); // held is not given back
  check(bool(heavy.error), "it never fits");
  held.granted.release();
  expect_unused(*core, 2);
  core->abandon();
}

const interleave::model heavy("semaphore_head", "who is cancelled makes way", &heavy_head);

void close_it() {
  const auto core = make_semaphore(1);
  wait_fate holds;
  wait_fate a;
  wait_fate b;
  acquire(core, holds);
  together([&] { core->close(); }, [&] { acquire(core, a); },
           [&] {
             holds.granted.release();
             acquire(core, b);
           });
  for (wait_fate* f : {&a, &b}) {
    wait_for(*f);
    check(f->error == errc::closed || (!f->error && f->granted), "granted or closed");
    f->granted.release();
  }
  check(core->in_use() == 0 && core->waiting() == 0, "nothing is left");
  core->abandon();
}

const interleave::model closes("semaphore_close", "everybody is granted or told", &close_it);

void resize_it() {
  const auto core = make_semaphore(1);
  wait_fate holds;
  wait_fate two;
  wait_fate one;
  acquire(core, holds);
  together([&] { core->resize(2); },
           [&] {
             acquire(core, two, 2);
             acquire(core, one);
           },
           [&] { holds.granted.release(); });
  wait_for(two);
  check(two.error == errc::exceeds_limit || bool(two.granted), "too heavy, or granted");
  two.granted.release();
  wait_for(one);
  check(bool(one.granted), "granted");
  one.granted.release();
  expect_unused(*core, 2);
  core->abandon();
}

const interleave::model resizes("semaphore_resize", "who fits now is granted", &resize_it);

/// There is a second unit, and nobody gives the first one back.
void grow_it() {
  const auto core = make_semaphore(1);
  wait_fate holds;
  wait_fate waits;
  acquire(core, holds);
  together([&] { core->resize(2); },
           [&] {
             acquire(core, waits);
             wait_for(waits);
             check(bool(waits.granted), "granted");
             waits.granted.release();
           });
  holds.granted.release();
  expect_unused(*core, 2);
  core->abandon();
}

const interleave::model grows("semaphore_grow", "a new unit goes to who waits", &grow_it);

/// The last permit, the last waiter and the owner leave at once; then it is gone.
void leave_it() {
  auto core = make_semaphore(1);
  const std::weak_ptr<semaphore_core> watch(core);
  wait_fate holds;
  wait_fate waits;
  acquire(core, holds);
  const wait_key key = acquire(core, waits);
  const std::weak_ptr<semaphore_core> slot(core);
  together(
      [&] {
        core->abandon();
        core.reset();
      },
      [&] { holds.granted.release(); },
      [&] {
        if (const auto c = slot.lock()) c->cancel(key, asio::cancellation_type::terminal);
      });
  wait_for(waits);
  check(waits.completed.load() == 1, "it completes");
  waits.granted.release();
  check(watch.expired(), "the engine is gone");
}

const interleave::model leaves("semaphore_end",
                               "it lives as long as anybody needs it, and no longer", &leave_it);

/// The waiting handler's context ends, the semaphore's lives on.
void foreign_context() {
  context home;
  const auto core = make_semaphore(1, &home);
  auto other = std::make_unique<context>();
  wait_fate holds;
  wait_fate waits;
  wait_fate behind;
  acquire(core, holds, 1, &home);
  acquire(core, waits, 1, &home, other.get());
  acquire(core, behind, 1, &home);
  together([&] { other.reset(); }, [&] { holds.granted.release(); });
  wait_for(waits);
  check(waits.completed.load() == 0 || !waits.error, "granted or destroyed");
  waits.granted.release();
  wait_for(behind);
  check(bool(behind.granted), "granted");
  behind.granted.release();
  expect_unused(*core, 1);
  core->abandon();
}

const interleave::model foreign("semaphore_context", "a context that ends takes its waiters along",
                                &foreign_context);

/// Its own context ends.
void own_context() {
  auto home = std::make_unique<context>();
  const auto core = make_semaphore(1, home.get());
  wait_fate holds;
  wait_fate waits;
  acquire(core, holds, 1, home.get());
  const wait_key key = acquire(core, waits, 1, home.get());
  together([&] { home.reset(); }, [&] { holds.granted.release(); },
           [&] { core->cancel(key, asio::cancellation_type::terminal); });
  check(waits.is_over(), "completed or destroyed");
  waits.granted.release();
  core->abandon();
}

const interleave::model own("semaphore_home", "so does the semaphore's own", &own_context);

} // namespace
