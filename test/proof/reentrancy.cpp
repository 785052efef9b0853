//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "re-entrancy". Every handler, every function, every hook and the destructor of everything that is
// captured does something at random to any object there is, the one that has called it included: acquires,
// releases, cancels, resizes, closes, destroys it, submits, spawns, joins. Some handlers are bound to an
// executor that runs them where they are posted, which is inside of the library's own functions.

#include "ends.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/version.hpp>
#if BOOST_ASIO_VERSION >= 102800
#include <boost/asio/bind_immediate_executor.hpp>
#endif

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using bulkhead::permit;
using bulkhead::semaphore;

using executor = asio::any_io_executor;
using generator = std::mt19937_64;

/// Runs a function as soon as it is posted: the earliest moment at which some other thread could.
struct at_once {
  asio::io_context* context;

  template <class F>
  void execute(F f) const {
    std::move(f)();
  }
  asio::execution_context& query(asio::execution::context_t) const noexcept { return *context; }
  at_once require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
  friend bool operator==(const at_once&, const at_once&) noexcept = default;
};

/// An object that may be replaced or destroyed while others use it: with one thread at once, inside its own
/// functions; with several when the last of them has done with it.
template <class T>
class cell {
public:
  explicit cell(bool several) : several_(several) {}

  std::shared_ptr<T> get() const {
    std::lock_guard lock(mutex_);
    return several_ ? object_ : std::shared_ptr<T>(std::shared_ptr<void>(), object_.get());
  }

  void set(std::shared_ptr<T> other = nullptr) {
    std::unique_lock lock(mutex_);
    object_.swap(other);
    lock.unlock(); // what was there ends now
  }

private:
  bool several_;
  mutable std::mutex mutex_;
  std::shared_ptr<T> object_;
};

class world;

/// A handler, or a function, that does something when it is called and when it is destroyed.
class meddler {
public:
  meddler(world& w, bool may_throw) noexcept;
  meddler(meddler&& other) noexcept
      : world_(std::exchange(other.world_, nullptr)), may_throw_(other.may_throw_) {}
  meddler& operator=(meddler&&) = delete;
  ~meddler();

  template <class... T>
  void operator()(T&&...);

private:
  world* world_;
  bool may_throw_;
};

struct state {
  explicit state(world& w);
  ~state();
  world& w;
};

class world {
public:
  /// On one thread, or on pools.
  world(generator random, bool several, long budget)
      : several_(several), random_(std::move(random)), budget_(budget) {
    if (several) {
      make_pools();
    } else {
      home_ = std::make_unique<asio::io_context>();
      executor_ = home_->get_executor();
    }
    other_ = std::make_unique<asio::io_context>();
    for (auto& s : signals_) s.set(std::make_shared<asio::cancellation_signal>());
    for (int i = 0; i != 9; ++i) make_anew(i);
    is_ready_ = true; // the pools' first hooks have been called before
  }

  void run() {
    for (int i = 0; i != 20; ++i) act(false);
    if (several_) {
      while (budget_ > 0) act(false);
    } else {
      while (budget_ > 0 && home_->poll() + other_->poll() != 0) {
        home_->restart();
        other_->restart();
        act(false);
        if (below(20) == 0) end_other_context();
      }
    }
  }

  /// Everything ends, in any order. Returns how many handlers and functions are left then.
  long end() {
    ending_ = true;
    budget_ = 1000; // for the destructors
    std::vector<std::function<void()>> all;
    for (int i = 0; i != 9; ++i) all.push_back([this, i] { unmake(i); });
    all.push_back([this] { home_.reset(); });
    all.push_back([this] { end_pools(); });
    if (!several_) all.push_back([this] { other_.reset(); });
    all.push_back([this] { return_permits(); });
    {
      std::lock_guard lock(mutex_);
      std::shuffle(all.begin(), all.end(), random_);
    }
    for (const auto& f : all) f();
    other_.reset(); // not before the pools, where somebody may just be about to wait there
    return_permits();
    for (auto& s : signals_) s.set();
    return alive_;
  }

  /// One thing, whatever it comes to.
  void act(bool dying) noexcept {
    static thread_local int depth = 0;
    if (depth == 8 || !is_ready_ || budget_-- <= 0) return;
    ++depth;
    try {
      if (dying || ending_)
        do_without_waiting();
      else
        do_anything();
    } catch (
        const boost::system::system_error&) { // closed, would_deadlock: they say so and that is all
    }
    --depth;
  }

  std::size_t below(std::size_t n) {
    std::lock_guard lock(mutex_);
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_);
  }

  void born() { ++alive_; }
  void died() { --alive_; }

private:
  static asio::awaitable<void> coroutine(world& w, meddler m) {
    m();
    switch (w.below(3)) {
    case 0:
      if (auto s = w.semaphore_.get()) {
        auto acquisition = s->async_acquire(1, asio::deferred);
        s.reset();
        const permit p = co_await std::move(acquisition)(asio::use_awaitable);
        m();
      }
      break;
    case 1:
      co_await asio::post(asio::use_awaitable);
      break;
    default:
      break;
    }
    m();
  }

  meddler one() { return meddler(*this, false); }
  meddler function() { return meddler(*this, true); }

  bulkhead::pool_options options() {
    bulkhead::pool_options o;
    o.threads = 3;
    if (below(2)) {
      o.min_threads = 1;
      o.idle_expiry = std::chrono::microseconds(below(200) + 1);
    }
    o.queue_limit = 8;
    o.waiter_limit = 16;
    o.on_exception = [this](std::exception_ptr) { act(false); };
    o.on_worker_start = [this](std::size_t) { act(false); };
    o.on_worker_stop = [this](std::size_t) { act(true); };
    return o;
  }

  void make_pools() {
    auto p = std::make_unique<bulkhead::pool>(options());
    executor_ = p->get_executor();
    auto s = std::make_unique<bulkhead::stateful_pool<state>>([this]() -> world& { return *this; },
                                                              options());
    pool_ = std::move(p);
    with_state_ = std::move(s);
    pools_are_there_ = true;
  }

  void end_pools() {
    if (!pool_) return;
    pools_are_there_ = false;
    // Nobody else may use a pool that is being destroyed, and what is left runs on either.
    pool_->stop();
    with_state_->stop();
    pool_->join();
    with_state_->join();
    pool_.reset();
    with_state_.reset();
  }

  void make_anew(int i) {
    switch (i) {
    case 0:
      return semaphore_.set(std::make_shared<semaphore>(executor_, 2));
    case 1:
      return limiter_.set(std::make_shared<semaphore>(executor_, 2));
    case 2: {
      auto set = std::make_shared<bulkhead::lanes>(
          executor_, bulkhead::lanes_options{.concurrency = 2,
                                             .batch = 2,
                                             .on_exception = [this](auto) { act(false); }});
      auto l = std::make_shared<bulkhead::lane>(set->open({.queue_limit = 4, .waiter_limit = 4}));
      lanes_.set(std::move(set));
      return lane_.set(std::move(l));
    }
    case 3:
      return group_.set(
          std::make_shared<bulkhead::task_group>(executor_, bulkhead::group_options{.limit = 2}));
    case 4:
      return keyed_.set(
          std::make_shared<bulkhead::keyed<int>>([ex = executor_](int) { return semaphore(ex, 1); },
                                                 bulkhead::keyed_options{.shards = 2}));
    case 5:
      return tenants_.set(std::make_shared<bulkhead::tenants<int>>(
          executor_, bulkhead::lanes_options{.concurrency = 1},
          [](int) { return bulkhead::lane_options{.queue_limit = 2, .waiter_limit = 2}; }));
    default:
      return signals_[i - 6].set(std::make_shared<asio::cancellation_signal>());
    }
  }

  void unmake(int i) {
    switch (i) {
    case 0:
      return semaphore_.set();
    case 1:
      return limiter_.set();
    case 2:
      return lanes_.set();
    case 3:
      return group_.set();
    case 4:
      return keyed_.set();
    case 5:
      return tenants_.set();
    case 6:
      return lane_.set();
    default:
      return signals_[i - 7].set();
    }
  }

  /// Each of them may end a wait, and its handler may take another.
  void return_permits() {
    for (;;) {
      std::vector<permit> held;
      std::lock_guard lock(mutex_);
      held.swap(permits_);
      if (held.empty()) return;
    }
  }

  /// A context ends in which handlers wait, while none of its runs.
  void end_other_context() {
    ending_ = true; // nothing new may wait there
    other_.reset();
    other_ = std::make_unique<asio::io_context>();
    ending_ = false;
  }

  /// With or without an executor and a slot.
  template <class F>
  void start(F f) {
    switch (below(several_ ? 4 : 5)) {
    case 0:
      return f(one());
    case 1:
      return f(asio::bind_executor(at_once{other_.get()}, one()));
    case 2: {
#if BOOST_ASIO_VERSION >= 102800
      return f(asio::bind_immediate_executor(at_once{other_.get()}, one()));
#else
      return f(asio::bind_executor(executor_, one()));
#endif
    }
    case 3: { // a signal is for one thread at a time
      if (several_) return f(one());
      const auto signal = signals_[below(3)].get();
      return signal ? f(asio::bind_cancellation_slot(signal->slot(), one())) : f(one());
    }
    default:
      return f(asio::bind_executor(*other_, one()));
    }
  }

  void do_anything() {
    const int key = static_cast<int>(below(4));
    switch (below(36)) {
    case 0:
    case 1:
    case 2:
      if (const auto s = semaphore_.get())
        start([&](auto t) { s->async_acquire(1 + below(3), std::move(t)); });
      return;
    case 3:
    case 4:
      if (const auto l = lane_.get())
        start([&](auto t) { l->async_submit(function(), std::move(t)); });
      return;
    case 5:
      if (const auto l = lane_.get())
        if (below(10) == 0) start([&](auto t) { l->async_drain(std::move(t)); });
      return;
    case 6:
      if (const auto g = group_.get())
        start([&](auto t) { g->async_spawn(function(), std::move(t)); });
      return;
    case 7:
      if (const auto g = group_.get()) start([&](auto t) { g->async_join(std::move(t)); });
      return;
    case 8:
      if (const auto k = keyed_.get())
        start([&](auto t) { k->async_acquire(key, 1, std::move(t)); });
      return;
    case 9:
      if (const auto x = tenants_.get())
        start([&](auto t) { x->async_submit(key, function(), std::move(t)); });
      return;
    case 10: {
      const auto s = semaphore_.get();
      const auto l = limiter_.get();
      if (s && l)
        start([&](auto t) { s->async_acquire(1, bulkhead::limited_by(*l, std::move(t))); });
      return;
    }
    case 11:
      if (const auto s = semaphore_.get(); s && !several_)
        s->async_acquire(1, bulkhead::timeout(std::chrono::nanoseconds(below(2)), one()));
      return;
    case 12:
      return asio::post(executor_, one());
    case 13:
    case 14:
      if (pools_are_there_) start([&](auto t) { pool_->async_submit(function(), std::move(t)); });
      return;
    case 15:
      if (pools_are_there_)
        start([&](auto t) {
          with_state_->async_submit([m = function()](state&) mutable { m(); }, std::move(t));
        });
      return;
    case 16:
      if (pools_are_there_)
        pool_->submit(function()); // from a worker it throws if the queue is full
      return;
    case 17:
      return make_anew(static_cast<int>(below(9)));
    case 18:
      if (const auto g = group_.get()) g->spawn(coroutine(*this, function()));
      return;
    case 19:
      if (const auto g = group_.get())
        start([&](auto t) { g->async_spawn(coroutine(*this, function()), std::move(t)); });
      return;
    case 20:
      return start([&](auto t) {
        bulkhead::async_for_each(
            executor_, std::vector<int>(below(4)), 1 + below(2),
            [m = function()](int) mutable { m(); }, std::move(t));
      });
    case 21:
      return start([&](auto t) {
        bulkhead::async_first(
            executor_, std::vector<int>(below(4)), 1 + below(2),
            [this](int) { return coroutine(*this, function()); }, std::move(t));
      });
    case 22:
      return start([&](auto t) {
        bulkhead::async_scope(
            executor_, bulkhead::group_options{.limit = 2},
            [this](bulkhead::task_group& g) -> asio::awaitable<void> {
              g.spawn(function());
              g.spawn(coroutine(*this, function()));
              co_await coroutine(*this, function());
            },
            std::move(t));
      });
    case 23:
      if (const auto l = limiter_.get()) {
        const auto timer = std::make_shared<asio::steady_timer>(executor_, std::chrono::seconds(0));
        timer->async_wait(
            bulkhead::limited_by(*l, [timer, m = one()](bulkhead::error_code) mutable { m(); }));
      }
      return;
    case 24:
      if (pools_are_there_) start([&](auto t) { with_state_->async_warm_up(std::move(t)); });
      return;
    case 25:
      if (pools_are_there_ && below(4) == 0)
        start([&](auto t) { pool_->async_drain(std::move(t)); });
      return;
    case 26:
      if (const auto l = lane_.get()) asio::post(l->get_executor(), one());
      return;
    case 27:
      if (const auto l = lane_.get()) asio::defer(l->get_executor(), one());
      return;
    default:
      return do_without_waiting();
    }
  }

  void do_without_waiting() {
    const auto s = semaphore_.get();
    using refusal = boost::system::result<permit, bulkhead::rejection>;
    switch (below(16)) {
    case 0:
    case 1: {
      permit p;
      {
        std::lock_guard lock(mutex_);
        if (!permits_.empty()) {
          p = std::move(permits_.back());
          permits_.pop_back();
        }
      }
      return p.release();
    }
    case 2:
      if (auto p = s ? s->try_acquire() : refusal(bulkhead::rejection())) {
        std::lock_guard lock(mutex_);
        if (permits_.size() < 8) permits_.push_back(std::move(*p));
      }
      return;
    case 3:
    case 4:
      if (const auto signal = signals_[below(3)].get(); signal && !several_)
        signal->emit(asio::cancellation_type::terminal);
      return;
    case 5:
      if (s) s->resize(below(4));
      return;
    case 6:
      if (s && below(4) == 0) s->close();
      return;
    case 7:
      if (const auto l = lane_.get()) (void)l->try_submit(function());
      return;
    case 8:
      if (const auto l = lane_.get()) l->set_priority(static_cast<int>(below(3)));
      if (const auto l = lane_.get(); l && below(8) == 0) l->close();
      return;
    case 9: // cancel() destroys functions, which may destroy the group
      if (const auto g = group_.get(); g && below(2)) g->cancel();
      if (const auto g = group_.get(); g && below(8) == 0) g->close();
      return;
    case 10:
      if (const auto k = keyed_.get()) k->evict_idle();
      if (const auto x = tenants_.get()) x->evict_idle();
      return;
    case 11:
      if (const auto x = lanes_.get()) x->set_concurrency(1 + below(3));
      return;
    case 12:
      return unmake(static_cast<int>(below(10)));
    case 13:
      if (!pools_are_there_) return;
      if (below(4) == 0) pool_->resize(1 + below(3));
      if (below(4) == 0) with_state_->resize(1 + below(3));
      if (below(8) == 0) {
        pool_->pause();
        pool_->resume();
      }
      return;
    case 14:
      if (!pools_are_there_) return;
      (void)pool_->try_submit(function());
      if (below(50) == 0) pool_->close();
      return;
    default:
      if (pools_are_there_ && pool_->get_executor().running_in_this_thread())
        pool_->join(); // throws
    }
  }

  const bool several_;
  std::mutex mutex_; // of these two
  generator random_;
  std::vector<permit> permits_;
  std::atomic<long> budget_;
  std::atomic<long> alive_{0};
  std::atomic<bool> is_ready_{false};
  std::atomic<bool> ending_{false};
  std::atomic<bool> pools_are_there_{false};

  std::unique_ptr<asio::io_context> home_, other_;
  std::unique_ptr<bulkhead::pool> pool_;
  std::unique_ptr<bulkhead::stateful_pool<state>> with_state_;
  executor executor_;

  cell<semaphore> semaphore_{several_}, limiter_{several_};
  cell<bulkhead::lanes> lanes_{several_};
  cell<bulkhead::lane> lane_{several_};
  cell<bulkhead::task_group> group_{several_};
  cell<bulkhead::keyed<int>> keyed_{several_};
  cell<bulkhead::tenants<int>> tenants_{several_};
  std::array<cell<asio::cancellation_signal>, 3> signals_{
      cell<asio::cancellation_signal>(several_), cell<asio::cancellation_signal>(several_),
      cell<asio::cancellation_signal>(several_)};
};

meddler::meddler(world& w, bool may_throw) noexcept : world_(&w), may_throw_(may_throw) {
  w.born();
}

meddler::~meddler() {
  if (!world_) return;
  world_->act(true);
  world_->died();
}

template <class... T>
void meddler::operator()(T&&...) {
  world_->act(false);
  if (may_throw_ && world_->below(16) == 0) throw std::runtime_error("from a function");
}

state::state(world& x) : w(x) { w.act(false); }
state::~state() { w.act(true); }

void run(const proof::load& load, proof::tally& tally) {
  const long threads = ends::thread_count();
  proof::watchdog dog(tally);
  const auto attempt = [&](const char* what, std::uint64_t i, bool several, long budget) {
    const std::string name = what + std::to_string(i);
    dog.at(name);
    world w(load.generator(i * 2 + several), several, budget);
    w.run();
    const long left = w.end();
    tally.add();
    if (left != 0) tally.lose(1, name + ": " + std::to_string(left) + " functions are left");
  };
  constexpr std::uint64_t on_one_thread = 100'000;
  for (std::uint64_t i = 0; i != on_one_thread; ++i) attempt("on one thread, run ", i, false, 60);
  const std::uint64_t on_pools = load.either(1'000, 100'000);
  for (std::uint64_t i = 0; i != on_pools; ++i) attempt("on pools, run ", i, true, 600);
  tally.expect(ends::threads_are(threads + 1), "threads are left");
  tally.note(std::to_string(on_one_thread) + " runs on one thread, " + std::to_string(on_pools) +
             " on pools");
}

const proof::area reentrancy("re-entrancy", "no deadlock, and nothing is left", &run);

} // namespace
