//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_RACE_HPP
#define BULKHEAD_TEST_PROOF_RACE_HPP

#include "proof.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// Races of a cancellation against what the cancelled operation waits for, or does.
//
// In a round of a contest some tens of operations are started. Then one thread emits at one after the
// other, while another lets them complete, one after the other. So each is a race, which either of the
// two may win; that both do, about as often, is in the table.

namespace proof {

namespace asio = boost::asio;

/// Waits, without a clock, until another thread has brought something about, which is mostly at once.
template <class Predicate>
void wait_until(Predicate done) {
  for (int i = 0; i != 64; ++i)
    if (done()) return;
  while (!done()) std::this_thread::yield();
}

/// One operation of a round.
struct racer {
  enum result { none, success, aborted, late, wrong };
  enum fate { cancelled, signal_destroyed, left_alone };

  std::optional<asio::cancellation_signal> signal;
  fate meets = cancelled;
  std::atomic<int> completions{0};
  std::atomic<int> runs{0};    // of what is started by the operation
  std::atomic<int> inside{0};  // of those, now: none may be left when it completes
  std::atomic<int> stopped{0}; // of those, by the cancellation
  std::atomic<result> ended{none};
  bulkhead::permit permit;

  static result result_of(const boost::system::error_code& ec) {
    return !ec                                       ? success
           : ec == asio::error::operation_aborted    ? aborted
           : ec == bulkhead::errc::deadline_exceeded ? late
                                                     : wrong;
  }
  static result result_of(const std::exception_ptr& e) {
    if (!e) return success;
    try {
      std::rethrow_exception(e);
    } catch (const boost::system::system_error& x) {
      return result_of(x.code());
    } catch (...) {
      return wrong;
    }
  }
};

/// What the operations of a round have in common.
class round {
public:
  /// The thread that emits runs it, when it is done with that.
  asio::io_context context;

  /// A thread that has more to do.
  bulkhead::pool worker{bulkhead::pool_options{.threads = 1, .queue_limit = bulkhead::unbounded}};

  /// Of all handlers: one of these two.
  asio::any_io_executor executor{context.get_executor()};

  std::deque<racer> racers;
  std::atomic<long> missing{0};

  /// Lets functions wait, busily: who has to be woken first comes too late to any race.
  std::atomic<bool> go{false};
  auto plug() {
    return [this] { wait_until([this] { return go.load(); }); };
  }

  std::size_t count(racer::result r) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(racers, [&](const racer& e) { return e.ended == r; }));
  }
  std::size_t runs() const {
    std::size_t n = 0;
    for (const racer& e : racers) n += static_cast<std::size_t>(e.runs.load());
    return n;
  }

  /// Runs handlers until `done`.
  template <class Predicate>
  void run_until(Predicate done) {
    wait_until([&] {
      if (context.stopped()) context.restart();
      return context.poll() == 0 && done();
    });
  }
};

/// The handler of an operation: it has all that can be associated with one.
class finish {
public:
  using executor_type = asio::any_io_executor;
  using cancellation_slot_type = asio::cancellation_slot;

  finish(round& r, racer& e) noexcept : round_(&r), racer_(&e) {}

  executor_type get_executor() const noexcept { return round_->executor; }
  cancellation_slot_type get_cancellation_slot() const noexcept { return racer_->signal->slot(); }

  template <class Error, class... T>
  void operator()(Error error, T... values) const {
    racer::result r = racer::result_of(error);
    (take(r, values), ...);
    if (racer_->inside != 0) r = racer::wrong;
    racer_->ended = r;
    ++racer_->completions;
    --round_->missing;
  }

private:
  /// A permit comes with a success, and only then.
  void take(racer::result& r, bulkhead::permit& p) const {
    if (static_cast<bool>(p) != (r == racer::success)) r = racer::wrong;
    racer_->permit = std::move(p);
  }
  template <class T>
  void take(racer::result&, T&) const {}

  round* round_;
  racer* racer_;
};

/// An operation, and how it can be made to wait for something, and go on.
class contest {
public:
  explicit contest(std::string n, std::size_t size = 64) : name(std::move(n)), size(size) {}
  virtual ~contest() = default;

  /// Begins a round: whatever the operations need is taken.
  virtual void prepare(round&) {}

  /// Starts an operation, which ends in a call of `finish`.
  virtual void start(round& r, racer& e) = 0;

  /// Cancels it.
  virtual void cancel(racer& e, asio::cancellation_type type) { e.signal->emit(type); }

  /// Lets all operations complete. Called on another thread than the one that emits.
  virtual void grant(round& r) { r.go = true; }

  /// All have completed. Returns when nothing is under way any more; says what was lost.
  virtual std::string settle(round&) { return {}; }

  /// Whether the cancellation came in time.
  virtual bool was_cancelled(const racer& e) const { return e.ended == racer::aborted; }

  /// Whether an operation may complete with deadline_exceeded.
  virtual bool has_deadline() const { return false; }

  const std::string name;
  const std::size_t size;
};

/// A thread that does its part of each round as soon as it is asked to.
class opponent {
public:
  opponent() : thread_([this] { run(); }) {}
  ~opponent() {
    ask(nullptr);
    thread_.join();
  }

  template <class Mine, class Theirs>
  void together(Mine mine, Theirs theirs) {
    struct call {
      Theirs& f;
      static void run(void* self) { static_cast<call*>(self)->f(); }
    } c{theirs};
    argument_ = &c;
    ask(&call::run);
    wait_until([&] { return begun_ == asked_; });
    mine();
    wait_until([&] { return done_ == asked_; });
  }

private:
  void ask(void (*f)(void*)) {
    function_ = f;
    ++asked_;
  }

  void run() {
    for (std::uint64_t n = 1;; ++n) {
      wait_until([&] { return asked_ == n; });
      if (!function_) return;
      begun_ = n;
      function_(argument_);
      done_ = n;
    }
  }

  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::atomic<std::uint64_t> asked_{0}, begun_{0}, done_{0};
  std::thread thread_;
};

/// Holds back the one of the two that has won more often: for a random number of steps before each
/// signal, or before anything is granted.
class handicap {
public:
  explicit handicap(std::mt19937_64 random) : random_(random()) {}

  /// Before the next signal.
  void before_emit() {
    if (steps_ > 0) walk(random_(), steps_);
  }

  /// Before granting to so many. The same for the other thread, with a random number.
  void before_grant(std::uint64_t random, std::size_t n) const {
    walk(random, 32);
    if (steps_ < 0) walk(random >> 32, -steps_ * static_cast<long>(n));
  }

  std::uint64_t random() { return random_(); }

  /// By twice as much as the last time, as long as the same one wins; then by half as much.
  void adjust(bool cancelled_more) {
    change_ = cancelled_more == (change_ > 0) ? 2 * change_ : -change_ / 2;
    if (std::abs(change_) < 2) change_ = cancelled_more ? 2 : -2;
    change_ = std::clamp(change_, -1024L, 1024L);
    steps_ = std::clamp(steps_ + change_, -10000L, 10000L);
  }

private:
  /// Twice `steps` at most, and that many on average.
  static void walk(std::uint64_t random, long steps) {
    for (std::atomic<std::uint64_t> i = random % (2 * static_cast<std::uint64_t>(steps)); i != 0;
         --i) {
    }
  }

  std::mt19937_64 random_;
  long steps_ = 0, change_ = 2;
};

/// How the races went.
struct share {
  std::uint64_t cancelled = 0, all = 0;
};

/// Runs rounds until `races` operations have been raced for, with one type of cancellation.
inline share run_races(std::unique_ptr<contest> given, asio::cancellation_type type,
                       std::uint64_t races, std::mt19937_64 random, tally& t) {
  opponent other;
  round r;
  auto owner = std::move(given); // ends before the round does
  contest& c = *owner;
  const std::string name = c.name;
  const std::size_t size = c.size;
  for (std::size_t i = 0; i != size; ++i) r.racers.emplace_back();

  const auto emit_too_late = [&] {
    for (racer& e : r.racers)
      if (e.signal) e.signal->emit(type);
  };
  const auto expect_one_completion = [&] {
    for (racer& e : r.racers)
      if (e.completions != 1)
        t.lose(1, name + ": " + std::to_string(e.completions) + " completions");
  };

  share result;
  handicap pace(random);
  for (bool on_worker = false; result.all < races; on_worker = !on_worker) {
    r.executor = on_worker ? asio::any_io_executor(r.worker.get_executor())
                           : asio::any_io_executor(r.context.get_executor());
    r.go = false;
    r.missing = static_cast<long>(size);
    c.prepare(r);
    for (racer& e : r.racers) {
      if (!e.signal) e.signal.emplace();
      e.meets = pace.random() % 16 == 0 ? racer::signal_destroyed : racer::cancelled;
      e.completions = e.runs = e.stopped = 0;
      e.ended = racer::none;
      c.start(r, e);
    }
    const std::uint64_t delay = pace.random();
    other.together(
        [&] {
          for (racer& e : r.racers) {
            pace.before_emit();
            if (e.meets == racer::cancelled) c.cancel(e, type);
            if (e.meets == racer::signal_destroyed) e.signal.reset();
          }
        },
        [&] {
          pace.before_grant(delay, size);
          c.grant(r);
        });
    r.run_until([&] { return r.missing <= 0; });
    emit_too_late();
    if (const std::string lost = c.settle(r); !lost.empty()) t.lose(1, name + ": " + lost);
    expect_one_completion();
    std::size_t raced = 0, in_time = 0;
    for (racer& e : r.racers) {
      if (e.ended == racer::wrong || (e.ended == racer::late && !c.has_deadline()))
        t.lose(1, name + ": an end that is neither success nor operation_aborted");
      if (e.ended == racer::aborted && e.meets != racer::cancelled)
        t.lose(1, name + ": operation_aborted, though nobody cancelled it");
      raced += e.meets == racer::cancelled;
      in_time += c.was_cancelled(e);
    }
    result.all += raced;
    result.cancelled += in_time;
    pace.adjust(2 * in_time > raced);
    t.add(size);
  }
  owner.reset();
  emit_too_late();
  r.worker.join();
  r.run_until([] { return true; });
  expect_one_completion();
  return result;
}

/// All of them with all types of cancellation, `races` each. A contest belongs to its rounds, so it is
/// made anew for each type.
inline void run_all(std::vector<std::unique_ptr<contest>> (*make)(), std::uint64_t races,
                    const load& l, tally& t) {
  using asio::cancellation_type;
  constexpr std::pair<cancellation_type, const char*> types[] = {
      {cancellation_type::terminal, "terminal"},
      {cancellation_type::partial, "partial"},
      {cancellation_type::total, "total"}};
  watchdog dog(t);
  std::map<double, std::string> shares;
  std::uint64_t which = 0;
  for (const auto& [type, type_name] : types) {
    for (auto& c : make()) {
      const std::string name = c->name + ", " + type_name;
      dog.at(name);
      const share s = run_races(std::move(c), type, races, l.generator(++which), t);
      shares.emplace(100.0 * static_cast<double>(s.cancelled) / static_cast<double>(s.all), name);
    }
  }
  const auto describe = [](const auto& s) {
    return std::to_string(std::lround(s.first)) + " % (" + s.second + ")";
  };
  t.note(std::to_string(which / std::size(types)) + " operations, " + std::to_string(races) +
         " races for each type of cancellation; cancelled were from " + describe(*shares.begin()) +
         " to " + describe(*shares.rbegin()));
}

} // namespace proof

#endif
