//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_MEMORY_HPP
#define BULKHEAD_TEST_PROOF_MEMORY_HPP

#include "../../support/allocators.hpp"

#include <bulkhead/error.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// What the cases of the area "allocation failure" are made with: see memory.cpp.

namespace proof::memory {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bulkhead::error_code;

/// Arms the fuse of global operator new, of all threads, and disarms it.
void arm_global_fuse(long n) noexcept;
long disarm_global_fuse() noexcept; // what was left of n; or allocation_fuse::disarmed, if it blew

/// What fails, and what the handlers are like.
enum class failing {
  everything,       // one allocation of all; handlers have neither executor nor allocator
  everything_bound, // likewise; handlers have both
  handlers          // all of the handler's allocator from one on; handlers have both
};

/// What became of one handler.
struct fate {
  std::atomic<int> calls{0};
  std::shared_ptr<void> token = std::make_shared<int>(); // shared by all copies of it
  bool is_excused = false;  // the function that it was given to has thrown
  bool was_aborted = false; // where the case does not expect that
  std::string error;        // if that is none which the case expects
};

/// What an exception says.
enum class complaint { memory, abort, other };

inline complaint complaint_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::bad_alloc&) {
    return complaint::memory;
  } catch (const bulkhead::system_error& s) {
    return s.code() == asio::error::operation_aborted ? complaint::abort : complaint::other;
  } catch (const bulkhead::multiple_errors& m) {
    complaint worst = complaint::memory;
    for (const auto& each : m.errors()) worst = std::max(worst, complaint_of(each));
    return worst;
  } catch (...) {
    return complaint::other;
  }
}

/// A handler that takes whatever comes.
class probe {
public:
  probe(fate& f, std::vector<error_code> expected)
      : token_(f.token), fate_(&f), expected_(std::move(expected)) {}

  void operator()() { ++fate_->calls; }

  template <class E, class... T>
  void operator()(E error, T...) {
    ++fate_->calls;
    if constexpr (std::is_same_v<E, error_code>) {
      if (error && !expects(error)) fate_->error = error.message();
    } else if constexpr (std::is_same_v<E, std::exception_ptr>) {
      if (error) look_at(error);
    }
  }

private:
  bool expects(const error_code& ec) const {
    return std::find(expected_.begin(), expected_.end(), ec) != expected_.end();
  }

  void look_at(const std::exception_ptr& error) {
    const complaint c = complaint_of(error);
    if (c == complaint::memory ||
        (c == complaint::abort && expects(asio::error::operation_aborted)))
      return;
    if (c == complaint::abort) {
      fate_->was_aborted = true;
      return;
    }
    try {
      std::rethrow_exception(error);
    } catch (const bulkhead::system_error& e) {
      if (!expects(e.code())) fate_->error = e.code().message();
    } catch (const std::exception& e) {
      fate_->error = e.what();
    }
  }

  std::shared_ptr<void> token_;
  fate* fate_;
  std::vector<error_code> expected_;
};

/// What one case is tried with, and what it reports to.
class trial {
public:
  trial(failing what, long k) : what_(what), k_(k) {}

  // --- for cases ---

  /// Calls `f` with the fuse armed. Whether it did not throw.
  template <class F>
  bool attempt(F f) {
    try {
      armed([&] { f(); });
      return true;
    } catch (...) {
      if (complaint_of(std::current_exception()) != complaint::memory)
        wrong("throws something else");
    }
    if (current_) current_->is_excused = true;
    return false;
  }

  /// Runs one function that is ready on `io`, with the fuse armed. What it throws is not lost. Whether
  /// there was one.
  bool poll_one(asio::io_context& io) {
    bool more = true;
    try {
      io.restart();
      armed([&] { more = io.poll_one() != 0; });
    } catch (...) {
      if (complaint_of(std::current_exception()) != complaint::memory)
        wrong("run() throws something else");
      ++thrown_by_run_;
    }
    return more;
  }

  /// Runs what is ready.
  void poll(asio::io_context& io) {
    while (poll_one(io)) {
    }
  }

  /// Likewise, with the fuse disarmed, and says whether no work is left.
  void finish(asio::io_context& io) {
    defuse();
    poll(io);
    expect(io.stopped(), "work is left behind");
  }

  /// Nothing fails any more.
  void defuse() noexcept { is_over_ = true; }

  void expect(bool good, const char* what) {
    if (!good) wrong(what);
  }

  /// A handler on `ex`, made without trouble. `f` gets it.
  template <class Executor, class F>
  void with_handler(const Executor& ex, std::vector<error_code> expected, F f) {
    fate& mine = fates_.emplace_back();
    probe p(mine, std::move(expected));
    fate* const outer = std::exchange(current_, &mine);
    if (what_ == failing::everything)
      f(std::move(p));
    else
      f(asio::bind_executor(
          ex, asio::bind_allocator(test::throwing_allocator<char>(own_fuse_, own_memory_),
                                   std::move(p))));
    current_ = outer;
  }

  // --- for who tries ---

  long k() const noexcept { return k_; }
  bool was_reached() const noexcept { return was_reached_; }

  /// Whether an exception has left run(): of an operation that was started after a wait, or of Asio
  /// itself, on the way of one of its own handlers.
  bool has_thrown_in_run() const noexcept { return thrown_by_run_ != 0; }

  const std::string& verdict() {
    std::size_t lost = 0;
    for (fate& f : fates_) {
      if (f.calls > 1) wrong("a handler is invoked twice");
      if (f.token.use_count() != 1) wrong("a handler is left behind");
      if (!f.error.empty()) wrong("a handler gets: " + f.error);
      // A child that Asio has destroyed when it threw out of run() counts as aborted.
      if (f.was_aborted && thrown_by_run_ == 0) wrong("a handler gets operation_aborted");
      if (f.is_excused && f.calls != 0) wrong("a handler is invoked, and its initiation throws");
      if (!f.is_excused && f.calls == 0) ++lost;
    }
    if (lost > may_be_destroyed_ + thrown_by_run_) wrong("a handler is not invoked");
    if (own_memory_.blocks != 0) wrong("the handler's memory is lost");
    return wrong_;
  }

  /// So many handlers are to be destroyed uninvoked: their context ends.
  void may_be_destroyed(std::size_t n) noexcept { may_be_destroyed_ += n; }

private:
  template <class F>
  void armed(F f) {
    if (is_over_ || is_armed_ || own_fuse_.remaining != test::allocation_fuse::disarmed) return f();
    struct guard {
      trial& t;
      explicit guard(trial& self) : t(self) {
        if (t.what_ == failing::handlers) {
          if (!t.was_reached_) t.own_fuse_.arm(t.left_, true);
        } else if (!t.was_reached_) {
          arm_global_fuse(t.left_);
          t.is_armed_ = true;
        }
      }
      ~guard() {
        if (t.what_ == failing::handlers) {
          t.was_reached_ = t.own_fuse_.failures != 0;
          if (!t.was_reached_) t.left_ = t.own_fuse_.remaining;
          if (!t.was_reached_) t.own_fuse_.disarm();
        } else if (t.is_armed_) {
          t.is_armed_ = false;
          t.left_ = disarm_global_fuse();
          t.was_reached_ = t.left_ == test::allocation_fuse::disarmed;
        }
      }
    } g(*this);
    f();
  }

  void wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  const failing what_;
  const long k_;
  long left_ = k_;
  bool is_over_ = false;
  bool is_armed_ = false;
  bool was_reached_ = false;
  std::size_t may_be_destroyed_ = 0;
  std::size_t thrown_by_run_ = 0;
  test::allocation_fuse own_fuse_;
  test::memory_balance own_memory_;
  std::list<fate> fates_;
  fate* current_ = nullptr; // of the handler that is being given away
  std::string wrong_;
};

struct one_case {
  const char* name;
  void (*run)(trial&);
};

inline std::vector<one_case>& cases() {
  static std::vector<one_case> all;
  return all;
}

struct add_case {
  add_case(const char* name, void (*run)(trial&)) { cases().push_back({name, run}); }
};

// A case, with the trial `t`.
#define MEMORY_CASE(id, name)                                                                      \
  void id(trial& t);                                                                               \
  const add_case add_##id(name, &id);                                                              \
  void id(trial& t)

inline const error_code aborted = asio::error::operation_aborted;
inline const error_code closed = bulkhead::errc::closed;

} // namespace proof::memory

#endif
