//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// A group: which children start, in which order, what becomes of those that ask for a slot or wait for
// the end, and what the group says of it. Either children do something to their group, or they wait
// for it, but not both in one input: then it would matter in which of two steps that are under way at
// the same time comes first, and no rule says that.

#include "fuzz.hpp"
#include "switchboard.hpp"

#include <bulkhead/task_group.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <stop_token>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::awaitable;
using asio::cancellation_type;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::on_error;
using bulkhead::task_group;
using test::check;
using test::did;
using test::same;

namespace {

constexpr int success = 0, aborted = -1, closed = -2, deadlock = -3;

/// What a child throws.
struct failure {
  int number;
};

/// A failure as a number.
int number_of(error_code ec) {
  if (!ec) return success;
  if (ec == asio::error::operation_aborted) return aborted;
  if (ec == errc::closed) return closed;
  if (ec == errc::would_deadlock) return deadlock;
  return ec.value();
}

int number_of(const std::exception_ptr& e) {
  try {
    if (e) std::rethrow_exception(e);
    return success;
  } catch (const failure& f) {
    return f.number;
  } catch (const bulkhead::system_error& error) {
    return number_of(error.code());
  }
}

/// Failures, as numbers.
struct numbers : std::vector<int> {
  friend std::ostream& operator<<(std::ostream& out, const numbers& all) {
    for (int n : all) out << n << ' ';
    return out << '.';
  }
};

numbers numbers_of(const std::vector<std::exception_ptr>& errors) {
  numbers all;
  for (auto& e : errors) all.push_back(number_of(e));
  return all;
}

numbers outcome_of(const std::exception_ptr& e) {
  if (!e) return {};
  try {
    std::rethrow_exception(e);
  } catch (const bulkhead::multiple_errors& errors) {
    return numbers_of(errors.errors());
  } catch (...) {
    return numbers_of({e});
  }
}

enum class kind {
  nothing,   // a function
  fails,     // a function that throws
  cancels,   // one that cancels the group
  closes,    // one that closes it
  spawns,    // one that spawns another child
  operation, // a deferred operation
  coroutine, // that waits for an operation
  joins,     // a coroutine that waits for its own group
  asks       // a coroutine that waits for a slot of its own group
};

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), limit_(any_(5) == 0 ? bulkhead::unbounded : 1 + any_(4)),
        collects_(any_.one_in(2)), children_act_(any_.one_in(2)), io_(std::in_place), board_(*io_) {
    begin();
  }

  void play() {
    while (!any_.empty() && io_) {
      operate();
      if (io_ && any_.one_in(2)) poll();
      if (io_) compare();
    }
    if (io_) finish();
    same("children and handlers that are left", 1, alive_.use_count());
  }

private:
  struct child {
    kind what;
    cancellation_type heeds = cancellation_type::none;
    cancellation_type type = cancellation_type::none; // that it cancels the group with
    bool swallows = false;                            // a coroutine to which an abort is none
    bool is_aborting = false;
    bool is_orphan = false;
    int asked_for = 0; // the child that an async_spawn of this one waits with
  };

  struct spawning {
    int child;
    bool waits = false;
    std::optional<int> expected{}, found{};
    std::unique_ptr<asio::cancellation_signal> signal{};
  };

  struct join {
    bool waits = true;
    numbers expected{}, found{};
    bool is_done = false;
    std::unique_ptr<asio::cancellation_signal> signal{};
  };

  // --- the model

  std::size_t in_flight() const { return ready_.size() + running_.size(); }
  bool slot_is_free() const { return !aborted_ && in_flight() < limit_; }
  int refusal() const { return !closed_ ? success : aborted_ ? aborted : closed; }

  /// Who waits for a slot with an async_spawn of this very group.
  std::size_t waiting_inside() const {
    return static_cast<std::size_t>(std::count_if(
        running_.begin(), running_.end(), [&](int c) { return children_.at(c).asked_for != 0; }));
  }

  /// The end of the async_spawn with this child, if there is one.
  bool end_spawning(int c, int result) {
    for (auto& [id, s] : spawnings_)
      if (s.child == c && s.waits) {
        s.waits = false;
        s.expected = result;
        return true;
      }
    for (int asker : running_)
      if (children_.at(asker).asked_for == c) {
        children_.at(asker).asked_for = 0;
        to_end_.push_back(asker);
        return true;
      }
    return false;
  }

  void settle() {
    while (!pending_.empty() && slot_is_free()) {
      const int c = pending_.front();
      pending_.pop_front();
      ready_.push_back(c);
      if (end_spawning(c, success)) ++spawned_;
    }
    if (in_flight() != 0 || !pending_.empty()) return;
    for (auto& [id, j] : joins_)
      if (std::exchange(j.waits, false)) {
        j.expected = errors_;
        j.is_done = true;
      }
  }

  int model_spawn(int c) {
    if (const int refused = refusal()) return refused;
    ++spawned_;
    (pending_.empty() && slot_is_free() ? ready_ : pending_).push_back(c);
    return success;
  }

  void model_cancel(cancellation_type type, bool for_good = false) {
    did("  (it is cancelled)");
    cancelled_ = true;
    if (for_good || (type & cancellation_type::terminal) != cancellation_type::none)
      closed_ = aborted_ = true;
    for (int c : std::exchange(pending_, {}))
      if (!end_spawning(c, aborted)) ++dropped_;
    dropped_ += std::exchange(ready_, {}).size();
    // Those that heed it end in the next steps.
    for (int c : running_)
      if (child& self = children_.at(c);
          (self.heeds & type) != cancellation_type::none && !std::exchange(self.is_aborting, true))
        to_abort_.push_back(c);
    settle();
  }

  void model_close() {
    closed_ = true;
    for (int c : std::exchange(pending_, {}))
      if (!end_spawning(c, closed)) pending_.push_back(c);
    settle();
  }

  void model_end(int c, int result) {
    if (children_.at(c).is_orphan) return;
    std::erase(running_, c);
    if (result == aborted && cancelled_) {
      ++dropped_;
    } else if (result != success) {
      ++failed_;
      if (errors_.empty() || collects_) errors_.push_back(result);
      if (!collects_) return model_cancel(cancellation_type::terminal, true);
    } else {
      ++completed_;
    }
    settle();
  }

  void abort_some() {
    for (int c : std::exchange(to_abort_, {}))
      model_end(c, children_.at(c).swallows ? success : aborted);
  }

  /// What the model does in a poll.
  void run_model() {
    for (;;) {
      if (!to_abort_.empty()) {
        abort_some();
      } else if (!to_end_.empty()) {
        for (int c : std::exchange(to_end_, {})) model_end(c, success);
      } else if (!ready_.empty()) {
        const int c = ready_.front();
        ready_.pop_front();
        start(c);
      } else {
        return;
      }
    }
  }

  void start(int c) {
    expected_starts_.push_back(c);
    running_.push_back(c);
    child& self = children_.at(c);
    switch (self.what) {
    case kind::nothing:
      return model_end(c, success);
    case kind::fails:
      return model_end(c, c);
    case kind::cancels:
      model_cancel(self.type);
      return model_end(c, success);
    case kind::closes:
      model_close();
      return model_end(c, success);
    case kind::spawns: {
      const int other = other_of(c);
      children_[other] = {kind::nothing};
      const int refused = model_spawn(other);
      return model_end(c, refused == aborted && !cancelled_ ? aborted : success);
    }
    case kind::joins:
      to_end_.push_back(c);
      return;
    case kind::asks: {
      const int other = other_of(c);
      children_[other] = {kind::nothing};
      if (refusal() != success) {
        to_end_.push_back(c);
      } else if (pending_.empty() && slot_is_free()) {
        ++spawned_;
        ready_.push_back(other);
        to_end_.push_back(c);
      } else if (waiting_inside() + 1 == in_flight() && !slot_is_free()) {
        to_end_.push_back(c);
      } else {
        self.asked_for = other;
        pending_.push_back(other);
        settle();
      }
      return;
    }
    default:
      return;
    }
  }

  // --- both

  /// The child that a child spawns.
  static int other_of(int c) { return c + 10'000; }

  void begin() {
    did("begin", limit_);
    closed_ = cancelled_ = aborted_ = false;
    spawned_ = completed_ = failed_ = dropped_ = 0;
    errors_.clear();
    group_.emplace(*io_, bulkhead::group_options{.limit = limit_,
                                                 .error = collects_ ? on_error::collect
                                                                    : on_error::cancel_siblings});
  }

  cancellation_type any_type() {
    return std::array{cancellation_type::terminal, cancellation_type::partial,
                      cancellation_type::total}[any_(3)];
  }

  int new_child() {
    const int c = ++last_child_;
    child& made = children_[c];
    if (children_act_) {
      made.what = std::array{kind::nothing, kind::fails,     kind::cancels,  kind::closes,
                             kind::spawns,  kind::operation, kind::coroutine}[any_(7)];
    } else {
      made.what = std::array{kind::nothing, kind::operation, kind::coroutine, kind::joins,
                             kind::asks}[any_(5)];
    }
    if (made.what == kind::cancels) made.type = any_type();
    if (made.what == kind::operation || made.what == kind::coroutine)
      made.heeds = std::array{cancellation_type::all, cancellation_type::none,
                              cancellation_type::terminal}[any_(3)];
    if (made.what == kind::coroutine) {
      // It asks for no other type than what a coroutine has by default.
      made.heeds = made.heeds & cancellation_type::terminal;
      made.swallows = any_.one_in(3);
    }
    return c;
  }

  void note_start(int c) { starts_.push_back(c); }

  awaitable<void> run_coroutine(int c, std::shared_ptr<int> count) {
    note_start(c);
    const bool swallows = children_.at(c).swallows;
    const auto heeds = children_.at(c).heeds;
    auto [ec] = co_await board_.async_wait(c, heeds)(asio::as_tuple(asio::use_awaitable));
    if (ec && !(swallows && ec == asio::error::operation_aborted)) throw bulkhead::system_error(ec);
    (void)count;
  }

  awaitable<void> run_join(int c, std::shared_ptr<int> count) {
    note_start(c);
    auto [e] = co_await group_->async_join(asio::as_tuple(asio::use_awaitable));
    same("a child's join of its own group", deadlock, number_of(e));
    (void)count;
  }

  awaitable<void> run_asking(int c, std::shared_ptr<int> count) {
    note_start(c);
    auto other = [this, o = other_of(c), n = alive_] { note_start(o); };
    auto [ec] = co_await group_->async_spawn(other, asio::as_tuple(asio::use_awaitable));
    (void)ec;
    (void)count;
  }

  /// Calls `f` with the child.
  template <class F>
  void with_child(int c, F f) {
    switch (children_.at(c).what) {
    case kind::operation:
      return f([this, c, n = alive_] {
        note_start(c);
        return board_.async_wait(c, children_.at(c).heeds);
      });
    case kind::coroutine:
      return f(run_coroutine(c, alive_));
    case kind::joins:
      return f(run_join(c, alive_));
    case kind::asks:
      return f([this, c, n = alive_] { return run_asking(c, n); });
    default:
      return f([this, c, n = alive_](std::stop_token) { act(c); });
    }
  }

  void act(int c) {
    note_start(c);
    const child self = children_.at(c);
    switch (self.what) {
    case kind::fails:
      throw failure{c};
    case kind::cancels:
      return group_->cancel(self.type);
    case kind::closes:
      return group_->close();
    case kind::spawns:
      try {
        group_->spawn([this, o = other_of(c), n = alive_] { note_start(o); });
      } catch (const bulkhead::system_error& e) {
        if (e.code() != errc::closed) throw;
      }
      return;
    default:
      return;
    }
  }

  void operate() {
    switch (any_(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return spawn();
    case 4:
      return try_spawn();
    case 5:
    case 6:
    case 7:
      return async_spawn();
    case 8:
    case 9:
    case 10:
      return complete_child();
    case 11:
      return async_join();
    case 12:
      return cancel_wait();
    case 13:
      if (!any_.one_in(3)) return;
      cancel(any_type());
      return;
    case 14:
      if (!any_.one_in(4)) return;
      did("close");
      model_close();
      return group_->close();
    default:
      switch (any_(8)) {
      case 0:
        end();
        return begin();
      case 1:
        return end_context();
      default:
        return;
      }
    }
  }

  void spawn() {
    const int c = new_child();
    did("spawn", static_cast<std::size_t>(c));
    const int expected = model_spawn(c);
    int found = success;
    try {
      with_child(c, [&](auto&& what) { group_->spawn(std::forward<decltype(what)>(what)); });
    } catch (const bulkhead::system_error& e) {
      found = number_of(e.code());
    }
    same("the result", expected, found);
  }

  void try_spawn() {
    const int c = new_child();
    did("try_spawn", static_cast<std::size_t>(c));
    const bool expected = !closed_ && pending_.empty() && slot_is_free();
    if (expected) model_spawn(c);
    bool found = false;
    with_child(c,
               [&](auto&& what) { found = group_->try_spawn(std::forward<decltype(what)>(what)); });
    same("whether it is accepted", expected, found);
  }

  void async_spawn() {
    const int c = new_child();
    did("async_spawn", static_cast<std::size_t>(c));
    spawning& s = spawnings_[c];
    s.child = c;
    s.signal = std::make_unique<asio::cancellation_signal>();
    if (const int refused = refusal()) {
      s.expected = refused;
    } else if (pending_.empty() && slot_is_free()) {
      s.expected = model_spawn(c);
    } else {
      s.waits = true;
      pending_.push_back(c);
    }
    with_child(c, [&](auto&& what) {
      group_->async_spawn(
          std::forward<decltype(what)>(what),
          asio::bind_cancellation_slot(s.signal->slot(), [this, c, n = alive_](error_code ec) {
            check("an async_spawn completes once", !spawnings_.at(c).found);
            spawnings_.at(c).found = number_of(ec);
          }));
    });
  }

  void async_join() {
    const int id = ++last_join_;
    did("async_join", static_cast<std::size_t>(id));
    join& j = joins_[id];
    j.signal = std::make_unique<asio::cancellation_signal>();
    group_->async_join(asio::bind_cancellation_slot(
        j.signal->slot(), [this, id, n = alive_](std::exception_ptr e) {
          join& done = joins_.at(id);
          check("a join completes when it may", std::exchange(done.is_done, false));
          same("the result of the join", done.expected, outcome_of(e));
          joins_.erase(id);
        }));
    settle();
  }

  void cancel_wait() {
    if (any_.one_in(2)) {
      if (joins_.empty()) return;
      auto at = joins_.begin();
      std::advance(at, any_(std::min<std::size_t>(joins_.size(), 256)));
      did("cancel join", static_cast<std::size_t>(at->first));
      if (std::exchange(at->second.waits, false)) {
        at->second.expected.push_back(aborted);
        at->second.is_done = true;
      }
      at->second.signal->emit(any_type());
    } else {
      if (spawnings_.empty()) return;
      auto at = spawnings_.begin();
      std::advance(at, any_(std::min<std::size_t>(spawnings_.size(), 256)));
      did("cancel async_spawn", static_cast<std::size_t>(at->first));
      if (std::erase(pending_, at->second.waits ? at->first : 0) != 0) {
        end_spawning(at->first, aborted);
        settle();
      }
      at->second.signal->emit(any_type());
    }
  }

  void cancel(cancellation_type type) {
    did("cancel", static_cast<std::size_t>(type));
    model_cancel(type);
    group_->cancel(type);
    poll();
  }

  /// One that waits, with an error or without.
  void complete_child() {
    poll();
    std::vector<int> waiting;
    for (auto& [c, what] : children_)
      if (board_.waits(c)) waiting.push_back(c);
    if (waiting.empty()) return;
    const int c = waiting[any_(std::min<std::size_t>(waiting.size(), 256))];
    const unsigned how = any_(4);
    did("complete", static_cast<std::size_t>(c));
    error_code ec;
    int result = success;
    if (how == 1 && children_act_) {
      ec = error_code(c, boost::system::generic_category());
      result = c;
    } else if (how == 2 && (cancelled_ || children_act_)) {
      ec = asio::error::operation_aborted;
      result = children_.at(c).swallows ? success : aborted;
    }
    board_.complete(c, ec);
    model_end(c, result);
    poll();
  }

  /// The group; its children go on, unless they heed the signal.
  void end() {
    poll();
    did("end");
    closed_ = true;
    for (auto& [id, j] : joins_)
      if (std::exchange(j.waits, false)) {
        j.expected = {};
        j.expected.push_back(aborted);
        j.is_done = true;
      }
    if (in_flight() + pending_.size() != 0) model_cancel(cancellation_type::terminal);
    for (auto& [id, c] : children_) c.is_orphan = true;
    running_.clear();
    to_abort_.clear();
    to_end_.clear();
    group_.reset();
    poll();
  }

  /// Nothing runs any more.
  void end_context() {
    did("end the context");
    for (auto& [id, s] : spawnings_) s.signal.reset();
    for (auto& [id, j] : joins_) j.signal.reset();
    board_.drop_all();
    if (any_.one_in(2)) group_.reset();
    io_.reset();
    group_.reset();
  }

  void finish() {
    did("finish");
    end();
    for (auto& [c, what] : children_)
      if (board_.waits(c)) board_.complete(c, {});
    poll();
    compare_waits();
    check("each join has completed", joins_.empty());
  }

  void poll() {
    run_model();
    io_->restart();
    io_->poll();
    same("the children that have started", static_cast<const numbers&>(expected_starts_),
         static_cast<const numbers&>(starts_));
    expected_starts_.clear();
    starts_.clear();
    compare_waits();
  }

  void compare_waits() {
    for (auto at = spawnings_.begin(); at != spawnings_.end();) {
      const spawning& s = at->second;
      did("  (async_spawn)", static_cast<std::size_t>(at->first));
      same("whether it has completed", s.expected.has_value(), s.found.has_value());
      if (s.expected) same("its result", *s.expected, *s.found);
      at = s.expected ? spawnings_.erase(at) : std::next(at);
    }
    for (auto& [id, j] : joins_) check("a join that is due has completed", !j.is_done);
  }

  void compare() {
    same("the number in flight", in_flight(), group_->size());
    same("the number that are pending", pending_.size(), group_->pending());
    const bulkhead::group_stats s = group_->stats();
    same("spawned", spawned_, s.spawned);
    same("completed", completed_, s.completed);
    same("failed", failed_, s.failed);
    same("cancelled", dropped_, s.cancelled);
    same("the errors", errors_, numbers_of(group_->errors()));
  }

  test::choices any_;
  const std::size_t limit_;
  const bool collects_;
  const bool children_act_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each child and handler
  std::optional<asio::io_context> io_;
  test::switchboard board_;
  std::optional<task_group> group_;

  bool closed_ = false, cancelled_ = false, aborted_ = false;
  std::uint64_t spawned_ = 0, completed_ = 0, failed_ = 0, dropped_ = 0;
  numbers errors_;
  std::deque<int> pending_, ready_;
  std::vector<int> running_;
  std::vector<int> to_abort_, to_end_; // that end in the next steps

  std::map<int, child> children_;
  std::map<int, spawning> spawnings_; // by child
  std::map<int, join> joins_;
  numbers starts_, expected_starts_;
  int last_child_ = 0, last_join_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
