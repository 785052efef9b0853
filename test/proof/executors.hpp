//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_EXECUTORS_HPP
#define BULKHEAD_TEST_PROOF_EXECUTORS_HPP

#include "../support/tracker_executor.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

// Every asynchronous operation with every token, from every kind of executor. The operation is started
// on the executor that its handler belongs to, and what it waits for is given to it there as well: so a
// handler that was dispatched, and not posted, would run inside one of the two calls.
//
// An operation is a class, made anew for each trial:
//
//   Fixture(where, waits)   the object, on where.object; with `waits`, it is not to complete yet
//   initiate(token)         starts the operation
//   proceed()               lets it complete
//   is_home()               whether this is the object's own executor
//   settle()                returns when nothing of it is left

namespace proof::executors {

namespace asio = boost::asio;

inline constexpr int handler_id = 1; // of tracker_executors
inline constexpr int object_id = 2;

using tracker = test::tracker_executor<asio::any_io_executor>;

/// An executor, with one thread, and how to know it.
struct place {
  std::string_view name;
  asio::any_io_executor executor;
  std::function<bool()> here;
};

/// Where an object is.
struct location {
  const place& object;
  const place& elsewhere;
  const place& spare; // has a thread that may stand still

  asio::any_io_executor executor() const { return tracker(object_id, object.executor); }

  /// For an object of which a function has to stand still until proceed().
  asio::any_io_executor executor_to_be_blocked(bool waits) const {
    return waits ? tracker(object_id, spare.executor) : executor();
  }
};

/// Is this a function of the object's executor?
inline bool at_object() { return test::current_executor() == object_id; }

enum class token {
  callback,
  move_only,
  use_awaitable,
  as_tuple,
  deferred,
  use_future,
  detached,
  yield
};
inline constexpr std::pair<token, std::string_view> tokens[] = {
    {token::callback, "callback"},           {token::move_only, "move-only callback"},
    {token::use_awaitable, "use_awaitable"}, {token::as_tuple, "as_tuple(use_awaitable)"},
    {token::deferred, "deferred"},           {token::use_future, "use_future"},
    {token::detached, "detached"},           {token::yield, "yield_context"}};

/// One of all combinations.
struct setting {
  token with;
  const place& handlers; // where the handler belongs, and where the operation is started
  const place& other;
  bool bound; // the handler says where it belongs; else the object is there
  bool waits;
};

/// What came of a trial. One thread waits for it.
class trial {
public:
  /// A handler runs.
  void arrive(bool succeeded, bool on_right_executor) {
    const bool is_inline = test::in_initiation();
    std::lock_guard lock(mutex_);
    if (++calls_ > 1) wrong_ = "completed twice";
    if (!succeeded) wrong_ = "failed";
    if (!on_right_executor) wrong_ = "on the wrong executor";
    if (is_inline) wrong_ = "inline";
    if (!may_complete_) wrong_ = "completed too early";
    changed_.notify_all();
  }

  void arrive(const std::exception_ptr& e, bool right) { arrive(!e, right); }

  void allow() {
    std::lock_guard lock(mutex_);
    may_complete_ = true;
  }

  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_ != 0; });
  }

  std::string wrong() const {
    std::lock_guard lock(mutex_);
    return wrong_;
  }

private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int calls_ = 0;
  bool may_complete_ = false;
  std::string wrong_;
};

template <class Error>
bool is_success(const Error& e) {
  return !e;
}

/// A callback.
class arrival {
public:
  arrival(trial& t, const std::function<bool()>& right) : trial_(&t), right_(&right) {}

  template <class Error, class... T>
  void operator()(Error e, T...) const {
    trial_->arrive(is_success(e), (*right_)());
  }

private:
  trial* trial_;
  const std::function<bool()>* right_;
};

class move_only_arrival : public arrival {
public:
  using arrival::arrival;

private:
  std::unique_ptr<int> owned_ = std::make_unique<int>(0);
};

template <class Fixture>
class trial_of {
public:
  explicit trial_of(const setting& s)
      : setting_(s), here_(s.handlers),
        fixture_(location{s.bound ? s.other : s.handlers, s.bound ? s.handlers : s.other, s.other},
                 s.waits),
        executor_(handler_id, here_.executor) {}

  std::string run() {
    switch (setting_.with) {
    case token::callback:
      start_callback<arrival>();
      break;
    case token::move_only:
      start_callback<move_only_arrival>();
      break;
    case token::deferred:
      start([this] {
        auto op = fixture_.initiate(asio::deferred);
        with_handler<arrival>([&](auto h) { std::move(op)(std::move(h)); });
      });
      break;
    case token::use_awaitable:
      start_coroutine([](trial_of& self) { return self.await(); });
      break;
    case token::as_tuple:
      start_coroutine([](trial_of& self) { return self.await_tuple(); });
      break;
    case token::yield:
      asio::spawn(
          coroutines(), [this](asio::yield_context y) { arrive(in_stackful(y)); }, asio::detached);
      break;
    case token::use_future:
      start_future();
      break;
    case token::detached:
      start_detached();
      break;
    }
    go_on();
    if (setting_.with == token::detached) {
      wait_for_detached();
    } else {
      trial_.wait();
    }
    fixture_.settle();
    for (int steps = 0; steps != 2; ++steps) start([] {}); // the last of a coroutine
    return trial_.wrong();
  }

private:
  // --- the handler's side

  /// That of a coroutine is the object's own where the handler is not to be bound to another.
  asio::any_io_executor coroutines() const {
    return tracker(setting_.bound ? handler_id : object_id, here_.executor);
  }

  bool at_handlers() const {
    return test::current_executor() == (setting_.bound ? handler_id : object_id) && here_.here();
  }

  void arrive(bool succeeded) { trial_.arrive(succeeded, at_handlers()); }

  template <class Handler>
  void with_handler(auto f) {
    if (setting_.bound)
      f(asio::bind_executor(executor_, Handler(trial_, is_right_)));
    else
      f(Handler(trial_, is_right_));
  }

  // --- the start

  /// On the handler's thread. Returns when it is done.
  void start(auto f) {
    std::atomic<bool> done{false};
    asio::post(here_.executor, [&] {
      {
        test::initiation_scope scope;
        if (!setting_.waits) trial_.allow();
        f();
      }
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }

  template <class Handler>
  void start_callback() {
    start([this] { with_handler<Handler>([this](auto h) { fixture_.initiate(std::move(h)); }); });
  }

  void start_coroutine(auto body) {
    if (!setting_.waits) trial_.allow();
    asio::co_spawn(coroutines(), body(*this), asio::detached);
  }

  // Asio sets the future of a token without an executor on one of its own.
  void start_future() {
    const auto when_done = [this](auto error, auto&&...) {
      trial_.arrive(is_success(error), !setting_.bound || at_handlers());
    };
    start([&] {
      if (setting_.bound)
        fixture_.initiate(asio::bind_executor(executor_, asio::use_future(when_done)));
      else
        fixture_.initiate(asio::use_future(when_done));
    });
  }

  // Its handler cannot be seen, but the executor on which it runs.
  void start_detached() {
    start([&] {
      if (setting_.bound)
        fixture_.initiate(asio::bind_executor(executor_, asio::detached));
      else
        fixture_.initiate(asio::detached);
    });
  }

  void wait_for_detached() {
    if (!setting_.bound) return;
    while (test::functions_run(handler_id) == run_before_) std::this_thread::yield();
  }

  asio::awaitable<void> await() {
    bool good = true;
    try {
      (void)co_await fixture_.initiate(asio::use_awaitable);
    } catch (const std::exception&) {
      good = false;
    }
    arrive(good);
  }

  asio::awaitable<void> await_tuple() {
    auto result = co_await fixture_.initiate(asio::as_tuple(asio::use_awaitable));
    arrive(is_success(std::get<0>(result)));
  }

  bool in_stackful(asio::yield_context& y) {
    if (!setting_.waits) trial_.allow();
    try {
      (void)fixture_.initiate(y);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  /// After what has been posted there before, which is the start.
  void go_on() {
    if (!setting_.waits) return;
    std::atomic<bool> done{false};
    asio::post(here_.executor, [&] {
      {
        test::initiation_scope scope;
        trial_.allow();
        fixture_.proceed();
      }
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }

  const setting setting_;
  const place& here_;
  trial trial_;
  Fixture fixture_;
  tracker executor_;
  const long run_before_ = test::functions_run(handler_id);
  const std::function<bool()> is_right_ = [this] {
    return setting_.bound ? at_handlers() : fixture_.is_home();
  };
};

/// An operation, to be tried in all settings. To be defined as a constant at namespace scope.
class operation {
public:
  template <class Fixture>
  operation(std::string_view n, std::type_identity<Fixture>)
      : name(n), run([](const setting& s) { return trial_of<Fixture>(s).run(); }) {
    all().push_back(this);
  }

  static std::vector<const operation*>& all() {
    static std::vector<const operation*> instance;
    return instance;
  }

  const std::string_view name;
  std::string (*const run)(const setting&); // what went wrong, or nothing
};

} // namespace proof::executors

#endif
