//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "fate.hpp"

#include <bulkhead/detail/wait/wait_set.hpp>

#include <boost/asio/cancellation_type.hpp>

#include <memory>
#include <tuple>
#include <utility>

namespace {

namespace asio = boost::asio;
using bulkhead::error_code;
using interleave::check;
using interleave::shared;
using interleave::together;
using namespace bulkhead::detail;

using context = ending_context;
using waits = wait_set<error_code>;

class waiting final : public waits::waiter {
  using base = operation<void(error_code)>;

public:
  waiting(fate& f, context& c) : waiter(table, &c), fate_(f), context_(c) {}

private:
  static void do_complete(base* b, std::tuple<error_code>&&) noexcept {
    auto* const op = static_cast<waiting*>(b);
    op->context_.touch();
    fate& f = op->fate_;
    delete op;
    f.end(f.completed);
  }
  static void do_destroy(base* b) noexcept {
    auto* const op = static_cast<waiting*>(b);
    op->context_.touch();
    fate& f = op->fate_;
    delete op;
    f.end(f.destroyed);
  }
  static void do_end_io_work(base*) noexcept {}

  static constexpr vtable table{&do_complete, &do_destroy, &do_end_io_work};

  fate& fate_;
  context& context_;
};

wait_key wait(const std::shared_ptr<waits>& set, context& home, context& mine, fate& f) {
  auto* const op = new waiting(f, mine);
  const wait_key key = set->reserve(*op);
  op->watch_handler_context(&home, std::weak_ptr(set), key);
  set->enqueue(*op);
  return key;
}

/// Completion, cancellation and the end of the handler's context at once.
void foreign_context() {
  context home;
  auto other = std::make_unique<context>();
  const auto set = std::make_shared<waits>();
  set->attach(&home);
  fate f;
  const wait_key key = wait(set, home, *other, f);
  together([&] { other.reset(); }, [&] { set->complete(set->take_all(), error_code()); },
           [&] { set->cancel(key, asio::cancellation_type::terminal); });
  check(f.is_over(), "completed or destroyed");
}

const interleave::model foreign("wait_set", "each ends once, and not after its context",
                                &foreign_context);

/// The set's own context ends, with one waiter that belongs there and one that does not.
void own_context() {
  context other;
  auto home = std::make_unique<context>();
  const auto set = std::make_shared<waits>();
  set->attach(home.get());
  fate a;
  fate b;
  wait(set, *home, *home, a);
  const wait_key key = wait(set, *home, other, b);
  together([&] { home.reset(); }, [&] { set->complete(set->take_all(), error_code()); },
           [&] { set->cancel(key, asio::cancellation_type::terminal); });
  check(a.is_over() && b.is_over(), "completed or destroyed");
}

const interleave::model own("wait_set_home", "the same for the set's own context", &own_context);

/// The condition becomes true while somebody comes to wait for it.
void condition() {
  context home;
  const auto set = std::make_shared<waits>();
  set->attach(&home);
  sync::atomic<bool> is_done{false};
  fate f;
  const auto look = [&] {
    if (is_done.load()) set->complete(set->take_all(), error_code());
  };
  together(
      [&] {
        is_done.store(true);
        look();
      },
      [&] {
        wait(set, home, home, f);
        look();
      });
  check(f.completed.load() == 1, "none is missed");
}

const interleave::model comes_true("wait_set_condition", "who waits for what has come true is told",
                                   &condition);

/// Both contexts end.
void both() {
  auto home = std::make_unique<context>();
  auto other = std::make_unique<context>();
  const auto set = std::make_shared<waits>();
  set->attach(home.get());
  fate f;
  wait(set, *home, *other, f);
  together([&] { home.reset(); }, [&] { other.reset(); });
  check(f.destroyed.load() == 1, "destroyed");
}

const interleave::model both_end("shutdown",
                                 "two contexts that end at once destroy what waits once", &both);

} // namespace
