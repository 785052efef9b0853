//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/cancellation.hpp"
#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"
#include "support/sanitizer.hpp"
#include "support/tokens.hpp"

#include <bulkhead/stateful_pool.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/wait_traits.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::use_future;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::factory_backoff;
using bulkhead::on_full;
using bulkhead::pool_options;
using bulkhead::state_handle;
using bulkhead::stateful_pool;
using test::code_of;
using test::failure;
using test::number_of;
using test::wait_until;

namespace {

/// What has become of all states.
struct ledger {
  std::atomic<int> built{0};
  std::atomic<int> destroyed{0};
  std::atomic<int> strays{0}; // destroyed or used by another thread than the one that made them

  int alive() const { return built - destroyed; }
};

/// A state that can neither be moved nor be made from nothing.
class traced {
public:
  explicit traced(ledger& l) : number(++l.built), ledger_(&l) {}
  traced(traced&&) = delete;
  ~traced() {
    touch();
    ++ledger_->destroyed;
  }

  void touch() {
    if (std::this_thread::get_id() != maker_) ++ledger_->strays;
    ++uses; // no atomic: one function at a time
  }

  int get() { return number; }

  const int number; // from 1
  long uses = 0;

private:
  ledger* ledger_;
  std::thread::id maker_ = std::this_thread::get_id();
};

/// A clock that tests move, and that counts how often others look at it.
struct watched_clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<watched_clock>;
  [[maybe_unused]] static constexpr bool is_steady = true;

  static time_point now() noexcept {
    ++looks;
    return time_point(duration(ticks.load()));
  }

  static void advance(duration d) noexcept { ticks += d.count(); }

  /// Returns when somebody who looks at it again and again has seen what time it is.
  static void let_it_be_seen() {
    const long before = looks;
    wait_until([&] { return looks >= before + 3; });
  }

  static inline std::atomic<rep> ticks{0};
  static inline std::atomic<long> looks{0};
};

} // namespace

/// Asio asks how long it has to wait in real time. It looks again soon.
template <>
struct boost::asio::wait_traits<watched_clock> {
  static std::chrono::nanoseconds to_wait_duration(const watched_clock::duration& d) {
    return d.count() > 0 ? std::chrono::nanoseconds(100'000) : std::chrono::nanoseconds(0);
  }
  static std::chrono::nanoseconds to_wait_duration(const watched_clock::time_point& t) {
    return to_wait_duration(t - watched_clock::now());
  }
};

namespace {

/// Whatever stands in a factory.
struct plan {
  ledger l;
  std::atomic<int> calls{0};
  std::atomic<int> failures{0}; // so many of the next calls throw

  explicit plan(int n = 0) : failures(n) {}

  auto factory() {
    return [this] {
      const int call = ++calls;
      int n = failures;
      while (n != 0 && !failures.compare_exchange_weak(n, n - 1)) {
      }
      if (n != 0) throw failure(call);
      return traced(l);
    };
  }
};

constexpr int always = 1'000'000'000;

pool_options workers(std::size_t n) {
  pool_options o;
  o.threads = n;
  o.on_exception = [](std::exception_ptr) {};
  return o;
}

pool_options elastic(std::size_t least, std::size_t most) {
  pool_options o = workers(most);
  o.min_threads = least;
  return o;
}

using traced_pool = stateful_pool<traced>;
using clocked_pool = stateful_pool<traced, watched_clock>;

/// Keeps workers busy until it is opened: with submissions, or with continuations, which need no
/// state. To be declared after the pool.
class hold {
public:
  ~hold() { open(); }

  template <class Pool>
  void with_submissions(Pool& p, int n = 1) {
    for (int i = 0; i != n; ++i) p.submit([s = state_](traced&) { s->stay(); });
    state_->started.wait_for(held_ += n);
  }

  template <class Pool>
  void with_continuations(Pool& p, int n = 1) {
    for (int i = 0; i != n; ++i) asio::post(p.get_executor(), [s = state_] { s->stay(); });
    state_->started.wait_for(held_ += n);
  }

  void open() { state_->g.open(); }

private:
  struct state {
    test::gate g;
    test::counter started;

    void stay() {
      started.add();
      g.wait();
    }
  };

  std::shared_ptr<state> state_ = std::make_shared<state>();
  long held_ = 0;
};

template <class Pool>
void wait_until_idle(Pool& p, std::size_t n) {
  wait_until([&] { return p.stats().idle == n; });
}

/// The exception of a future, or null.
template <class T>
std::exception_ptr error_of(std::future<T> f) {
  try {
    f.get();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

std::string why_invalid(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no exception";
}

const auto use = [](traced& t) { t.touch(); };

} // namespace

static_assert(!std::is_copy_constructible_v<traced_pool>);
static_assert(!std::is_move_constructible_v<traced_pool>);
static_assert(!std::is_default_constructible_v<traced_pool>);
static_assert(std::is_nothrow_destructible_v<traced_pool>);
static_assert(noexcept(std::declval<traced_pool&>().get_executor()));
static_assert(noexcept(std::declval<const traced_pool&>().stats()));
static_assert(std::is_constructible_v<stateful_pool<int>, int (*)()>);
static_assert(std::is_constructible_v<stateful_pool<int>, int (*)(std::size_t)>);
static_assert(!std::is_constructible_v<stateful_pool<int>, std::string (*)()>);
static_assert(!std::is_constructible_v<stateful_pool<int>, int (*)(std::string)>);
static_assert(std::is_trivially_copyable_v<state_handle<traced>>);

// --- how a state is made, used and destroyed -----------------------------------------------------

BOOST_AUTO_TEST_CASE(a_state_is_made_at_a_workers_first_submission_and_not_before) {
  plan made;
  traced_pool p(made.factory(), workers(2));
  wait_until_idle(p, 2);
  BOOST_TEST(made.calls == 0);
  test::slot<void> ran;
  asio::post(p.get_executor(), [&] { ran.set_value(); });
  ran.get();
  BOOST_TEST(made.calls == 0); // a continuation needs none
  p.async_submit(use, use_future).get();
  BOOST_TEST(made.calls == 1);
  BOOST_TEST(p.stats().states == 1u);
}

BOOST_AUTO_TEST_CASE(every_worker_has_a_state_of_its_own) {
  plan made;
  std::mutex mutex;
  std::map<std::thread::id, std::set<int>> seen;
  {
    traced_pool p(made.factory(), workers(3));
    hold busy;
    busy.with_submissions(p, 3);
    BOOST_TEST(p.stats().states == 3u);
    busy.open();
    for (int i = 0; i != 1000; ++i)
      p.submit([&](traced& t) {
        t.touch();
        std::lock_guard lock(mutex);
        seen[std::this_thread::get_id()].insert(t.number);
      });
    p.join();
    BOOST_TEST(made.l.alive() == 0);
    BOOST_TEST(p.stats().built == 3u);
    BOOST_TEST(p.stats().states == 0u);
  }
  for (const auto& [thread, numbers] : seen) BOOST_TEST(numbers.size() == 1u);
  BOOST_TEST(made.calls == 3);
  BOOST_TEST(made.l.strays == 0);
}

BOOST_AUTO_TEST_CASE(a_factory_may_be_move_only_and_may_ask_which_worker_it_works_for) {
  std::mutex mutex;
  std::set<std::size_t> numbers;
  auto factory = [&, owned = std::make_unique<int>(7)](std::size_t worker) {
    std::lock_guard lock(mutex);
    numbers.insert(worker);
    return *owned;
  };
  stateful_pool<long> p(std::move(factory), workers(3)); // an int makes a long
  p.async_warm_up(use_future).get();
  BOOST_TEST((numbers == std::set<std::size_t>{0, 1, 2}));
  BOOST_TEST(p.async_submit([](long& n) { return n; }, use_future).get() == 7);
}

BOOST_AUTO_TEST_CASE(a_factory_is_destroyed_when_the_pool_is_and_after_all_states) {
  ledger l;
  std::atomic<int> alive{0};
  std::atomic<int> left_behind{-1};
  {
    struct last {
      ledger& l;
      std::atomic<int>& left_behind;
      ~last() { left_behind = l.alive(); }
    };
    auto factory = [&l, counted = test::live(alive), end = std::make_unique<last>(l, left_behind)] {
      return traced(l);
    };
    traced_pool p(std::move(factory), workers(2));
    p.async_warm_up(use_future).get();
    BOOST_TEST(l.alive() == 2);
    BOOST_TEST(alive == 1);
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(left_behind == 0);
}

BOOST_AUTO_TEST_CASE(a_function_takes_the_state_or_a_handle_and_perhaps_a_stop_token) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  BOOST_TEST(p.async_submit([](traced& t) { return t.number; }, use_future).get() == 1);
  const auto with_token = [](traced& t, std::stop_token s) {
    return t.number + s.stop_requested();
  };
  BOOST_TEST(p.async_submit(with_token, use_future).get() == 1);
  BOOST_TEST(p.async_submit([](state_handle<traced> h) { return h->number; }, use_future).get() ==
             1);
  auto with_both = [](state_handle<traced> h, std::stop_token s) {
    return (*h).number + s.stop_requested();
  };
  BOOST_TEST(p.async_submit(with_both, use_future).get() == 1);
  auto owner = [u = std::make_unique<int>(5)](auto& t) {
    return std::make_unique<int>(*u + t.number);
  };
  BOOST_TEST(*p.async_submit(std::move(owner), use_future).get() == 6);
  BOOST_TEST(p.async_submit(&traced::get, use_future).get() == 1);
  test::counter ran;
  const auto count = [&](const traced&) { ran.add(); };
  BOOST_TEST(p.try_submit(count));
  p.submit([&](state_handle<traced>) { ran.add(); });
  p.submit([&](traced&, std::stop_token) { ran.add(); }, on_full::reject);
  p.submit([&](state_handle<traced>, std::stop_token) { ran.add(); });
  p.join();
  BOOST_TEST(ran.value() == 4);
}

BOOST_AUTO_TEST_CASE(a_function_of_any_size_is_carried) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  test::counter sum;
  std::array<char, 48> small{};
  struct alignas(64) wide {
    std::array<char, 1000> bytes{};
  } large;
  small.back() = 1;
  large.bytes.back() = 2;
  p.submit([&, small](traced&) { sum.add(small.back()); });
  p.submit([&sum, large](traced&) {
    if (reinterpret_cast<std::uintptr_t>(&large) % alignof(wide) == 0) sum.add(large.bytes.back());
  });
  p.join();
  BOOST_TEST(sum.value() == 3);
}

BOOST_AUTO_TEST_CASE(a_state_is_made_after_on_worker_start_and_destroyed_before_on_worker_stop) {
  std::mutex mutex;
  std::map<std::thread::id, std::string> events;
  const auto note = [&](char c) {
    std::lock_guard lock(mutex);
    events[std::this_thread::get_id()] += c;
  };
  struct noted {
    decltype(note)& n;
    explicit noted(decltype(note)& to) : n(to) { n('('); }
    ~noted() { n(')'); }
  };
  pool_options o = workers(2);
  o.on_worker_start = [&](std::size_t) { note('<'); };
  o.on_worker_stop = [&](std::size_t) { note('>'); };
  {
    stateful_pool<noted> p([&] { return noted(note); }, o);
    p.async_warm_up(use_future).get();
    p.resize(1);
    wait_until([&] { return p.stats().states == 1; });
  }
  BOOST_TEST(events.size() == 2u);
  for (const auto& [thread, e] : events) BOOST_TEST(e == "<()>");
}

BOOST_AUTO_TEST_CASE(what_a_function_throws_leaves_the_state_as_it_is) {
  plan made;
  std::atomic<int> reported{0};
  pool_options o = workers(1);
  o.on_exception = [&](std::exception_ptr e) { reported += number_of(e); };
  traced_pool p(made.factory(), o);
  p.submit([](traced&) { throw failure(3); });
  const auto fails = [](traced&) -> int { throw failure(4); };
  BOOST_TEST(number_of(error_of(p.async_submit(fails, use_future))) == 4);
  p.async_submit(use, use_future).get();
  BOOST_TEST(made.calls == 1);
  BOOST_TEST(reported == 3);
  BOOST_TEST(p.stats().failed == 2u);
}

BOOST_AUTO_TEST_CASE(impossible_back_offs_are_invalid_arguments_that_say_so) {
  plan made;
  const auto make = [&](factory_backoff b) { traced_pool p(made.factory(), workers(1), b); };
  BOOST_TEST(why_invalid([&] {
               make({-1ns, 1s});
             }) == "factory_backoff::first must be at least 0 ns (got -1)");
  BOOST_TEST(why_invalid([&] {
               make({10ns, 9ns});
             }) == "factory_backoff::longest must be at least first, 10 ns (got 9)");
  BOOST_TEST(why_invalid([&] { traced_pool p(made.factory(), workers(0)); }) ==
             "pool_options::threads must be at least 1 (got 0)");
}

// --- it is a pool ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_refused_function_is_untouched) {
  plan made;
  pool_options o = workers(1);
  o.queue_limit = 1;
  traced_pool p(made.factory(), o);
  hold busy;
  busy.with_submissions(p);
  BOOST_TEST(p.try_submit(use));
  struct task {
    std::unique_ptr<int> owned = std::make_unique<int>(7);
    void operator()(traced&) {}
  } t;
  const auto submit = [&](on_full policy) { p.submit(std::move(t), policy); };
  BOOST_TEST(!p.try_submit(std::move(t)));
  BOOST_CHECK_EXCEPTION(submit(on_full::reject), bulkhead::system_error,
                        [](const auto& e) { return e.code() == errc::queue_full; });
  BOOST_TEST(why_invalid([&] { submit(on_full::caller_runs); }) ==
             "stateful_pool::submit: policy must not be caller_runs: the calling thread has no "
             "state");
  p.close();
  BOOST_CHECK_EXCEPTION(submit(on_full::block), bulkhead::system_error,
                        [](const auto& e) { return e.code() == errc::closed; });
  BOOST_REQUIRE(t.owned);
  BOOST_TEST(*t.owned == 7);
}

BOOST_AUTO_TEST_CASE(submit_blocks_until_there_is_room) {
  plan made;
  pool_options o = workers(2);
  o.queue_limit = 2;
  traced_pool p(made.factory(), o);
  for (int i = 0; i != test::scaled(1000); ++i) p.submit(use);
  p.join();
  BOOST_TEST(p.stats().completed == std::uint64_t(test::scaled(1000)));
}

namespace {

// async_submit to a pool that is held until proceed().
struct submit_fixture {
  ledger l;
  std::optional<traced_pool> p;
  hold busy;
  bool throws = false;

  submit_fixture() {
    pool_options o = workers(1);
    o.name = "fixture";
    p.emplace([this] { return traced(l); }, o);
    busy.with_continuations(*p); // so that the first submission makes the state as well
  }

  ~submit_fixture() { busy.open(); }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    auto task = [fail = throws](traced& t) {
      if (fail) throw failure(9);
      return t.number;
    };
    return p->async_submit(std::move(task), std::forward<Token>(token));
  }

  void proceed() { busy.open(); }
  void settle() { p->join(); }
  void destroy() { p.reset(); }
  void restored() {
    BOOST_TEST(test::balanced(p->stats()));
    BOOST_TEST(l.alive() == 0);
    BOOST_TEST(l.strays == 0);
  }
  bool on_own_executor() const { return test::thread_name().rfind("fixture", 0) == 0; }
};

// async_warm_up, with a factory that waits until proceed().
struct warm_up_fixture {
  std::shared_ptr<test::gate> open = std::make_shared<test::gate>();
  ledger l;
  std::optional<traced_pool> p;

  explicit warm_up_fixture(bool throws = false) {
    pool_options o = workers(2);
    o.name = "fixture";
    auto factory = [this, throws, g = open](std::size_t worker) {
      g->wait();
      if (throws && worker == 1) throw failure(9);
      return traced(l);
    };
    p.emplace(factory, o);
  }

  ~warm_up_fixture() { open->open(); }

  template <class Token>
  decltype(auto) initiate(Token&& token) {
    return p->async_warm_up(std::forward<Token>(token));
  }

  void proceed() { open->open(); }
  void settle() { p->join(); }
  void destroy() { p.reset(); }
  void restored() {
    BOOST_TEST(l.alive() == 0);
    BOOST_TEST(l.strays == 0);
  }
  bool on_own_executor() const { return test::thread_name().rfind("fixture", 0) == 0; }
};

const auto make_submit = [] { return std::make_unique<submit_fixture>(); };
const auto make_warm_up = [] { return std::make_unique<warm_up_fixture>(); };

const auto expect_1 = [](std::exception_ptr e, int n) {
  BOOST_TEST(!e);
  BOOST_TEST(n == 1);
};
const auto expect_success = [](std::exception_ptr e) { BOOST_TEST(!e); };

using submit_signature = void(std::exception_ptr, int);
using warm_up_signature = void(std::exception_ptr);

} // namespace

BOOST_AUTO_TEST_CASE(every_token_gets_the_result_of_a_function) {
  test::token_matrix<submit_signature>(make_submit, expect_1);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_exception_of_a_function) {
  auto make = [] {
    auto f = std::make_unique<submit_fixture>();
    f->throws = true;
    return f;
  };
  test::token_matrix<submit_signature>(
      make, [](std::exception_ptr e, int) { BOOST_TEST(number_of(e) == 9); });
}

BOOST_AUTO_TEST_CASE(handlers_of_async_submit_run_on_their_executor) {
  test::executor_matrix(make_submit, expect_1);
}

BOOST_AUTO_TEST_CASE(a_queued_function_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_submit, expect_1);
}

BOOST_AUTO_TEST_CASE(a_start_and_a_cancellation_exclude_each_other) {
  test::cancellation_race(make_submit, expect_1, test::scaled(200));
}

BOOST_AUTO_TEST_CASE(cancelling_a_running_function_requests_stop) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  asio::cancellation_signal signal;
  test::slot<void> started;
  auto result = p.async_submit(
      [&](traced&, std::stop_token stop) {
        started.set_value();
        wait_until([&] { return stop.stop_requested(); });
        return 3;
      },
      asio::bind_cancellation_slot(signal.slot(), use_future));
  started.get();
  signal.emit(asio::cancellation_type::terminal);
  BOOST_TEST(result.get() == 3);
}

BOOST_AUTO_TEST_CASE(a_submission_can_be_cancelled_while_a_state_is_made_for_it) {
  test::gate open;
  test::counter begun;
  ledger l;
  stateful_pool<traced> p(
      [&] {
        begun.add();
        open.wait();
        return traced(l);
      },
      workers(1));
  asio::cancellation_signal signal;
  auto first =
      p.async_submit([](traced&) {}, asio::bind_cancellation_slot(signal.slot(), use_future));
  begun.wait_for(1);
  BOOST_TEST(p.stats().queued == 1u);
  BOOST_TEST(p.stats().running == 0u);
  signal.emit(asio::cancellation_type::total);
  BOOST_TEST((code_of(error_of(std::move(first))) == asio::error::operation_aborted));
  open.open();
  p.async_submit(use, use_future).get();
  BOOST_TEST(l.built == 1);
}

BOOST_AUTO_TEST_CASE(a_coroutine_of_another_context_hops_to_the_pool_and_back) {
  plan made;
  traced_pool p(made.factory(), workers(2));
  asio::io_context io;
  const auto here = std::this_thread::get_id();
  auto body = [&]() -> asio::awaitable<int> {
    co_await p.async_warm_up(asio::use_awaitable);
    const auto get = [](traced& t) { return t.number; };
    const int n = co_await p.async_submit(get, asio::use_awaitable);
    BOOST_TEST((std::this_thread::get_id() == here));
    co_return n;
  };
  int n = 0;
  asio::co_spawn(io, body, [&](std::exception_ptr e, int result) {
    BOOST_TEST(!e);
    n = result;
  });
  test::run(io);
  BOOST_TEST((n == 1 || n == 2));
}

BOOST_AUTO_TEST_CASE(draining_and_stopping_work_as_in_a_pool) {
  plan made;
  std::optional<traced_pool> p(std::in_place, made.factory(), workers(1));
  hold busy;
  busy.with_submissions(*p);
  auto queued = p->async_submit(use, use_future);
  auto drained = p->async_drain(use_future);
  BOOST_TEST(!p->try_submit(use));
  p->pause();
  p->resume();
  std::thread opener([&] { busy.open(); });
  const auto report = p->drain_for(1h);
  opener.join();
  BOOST_TEST(report.abandoned == 0u);
  queued.get();
  drained.get();
  p->stop();
  p.reset();
  BOOST_TEST(made.l.alive() == 0);

  p.emplace(made.factory(), workers(1));
  hold again;
  again.with_submissions(*p);
  queued = p->async_submit(use, use_future);
  p->stop();
  BOOST_TEST((code_of(error_of(std::move(queued))) == asio::error::operation_aborted));
  again.open();
  p.reset();
  BOOST_TEST(made.l.alive() == 0);
  BOOST_TEST(made.l.strays == 0);
}

// --- a factory that throws ------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_submission_that_met_it_completes_with_what_the_factory_has_thrown) {
  plan made(1);
  std::atomic<int> reported{0};
  pool_options o = workers(1);
  o.on_exception = [&](std::exception_ptr e) { reported += number_of(e); };
  clocked_pool p(made.factory(), o, {1s, 1s});
  std::atomic<int> alive{0};
  auto task = [counted = test::live(alive)](traced& t) { return t.number; };
  BOOST_TEST(number_of(error_of(p.async_submit(std::move(task), use_future))) == 1);
  BOOST_TEST(alive == 0);
  BOOST_TEST(reported == 1);
  BOOST_TEST(p.stats().failed_builds == 1u);
  BOOST_TEST(p.stats().failed == 1u);
}

BOOST_AUTO_TEST_CASE(
    the_factory_is_tried_again_at_the_next_submission_but_not_before_the_back_off) {
  plan made(1);
  clocked_pool p(made.factory(), workers(1), {1s, 1s});
  BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == 1);
  auto next = p.async_submit([](traced& t) { return t.number; }, use_future);
  watched_clock::let_it_be_seen();
  watched_clock::advance(1s - 1ns);
  watched_clock::let_it_be_seen();
  BOOST_TEST(made.calls == 1);
  BOOST_TEST(p.stats().queued == 1u); // neither lost nor failed
  BOOST_TEST(p.stats().running == 0u);
  watched_clock::advance(1ns);
  BOOST_TEST(next.get() == 1);
  BOOST_TEST(made.calls == 2);
}

BOOST_AUTO_TEST_CASE(the_back_off_doubles_up_to_its_longest_and_ends_with_a_success) {
  plan made(always);
  clocked_pool p(made.factory(), workers(1), {1s, 5s});
  const auto fail = [&] { return number_of(error_of(p.async_submit(use, use_future))); };
  BOOST_TEST(fail() == 1);
  int call = 1;
  const auto expect_rest_of = [&](std::chrono::seconds rest) {
    auto next = p.async_submit(use, use_future);
    watched_clock::let_it_be_seen();
    watched_clock::advance(rest - 1ns);
    watched_clock::let_it_be_seen();
    BOOST_TEST(made.calls == call);
    watched_clock::advance(1ns);
    BOOST_TEST(number_of(error_of(std::move(next))) == (made.failures == 0 ? 0 : call + 1));
    BOOST_TEST(made.calls == ++call);
  };
  for (auto rest : {1s, 2s, 4s, 5s, 5s}) expect_rest_of(rest);
  made.failures = 0;
  expect_rest_of(5s);
  made.failures = always;
  const auto spoil = [](state_handle<traced> h) { h.rebuild(); };
  p.async_submit(spoil, use_future).get();
  BOOST_TEST(fail() == ++call); // at once
  expect_rest_of(1s);
}

BOOST_AUTO_TEST_CASE(without_a_back_off_each_submission_has_its_own_try) {
  plan made(3);
  traced_pool p(made.factory(), workers(1), {0ns, 0ns});
  for (int i = 1; i <= 3; ++i)
    BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == i);
  p.async_submit(use, use_future).get();
  BOOST_TEST(made.calls == 4);
}

BOOST_AUTO_TEST_CASE(a_back_off_for_ever_does_not_overflow) {
  plan made(1);
  {
    traced_pool p(made.factory(), workers(1), {bulkhead::never, bulkhead::never});
    BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == 1);
    BOOST_TEST(p.try_submit(use));
    wait_until([&] { return p.stats().queued == 1; });
  }
  BOOST_TEST(made.calls == 1);
}

BOOST_AUTO_TEST_CASE(a_plain_submission_that_met_it_is_dropped_and_reported_once) {
  plan made(1);
  test::slot<int> reported;
  std::atomic<int> reports{0};
  pool_options o = workers(1);
  o.on_exception = [&](std::exception_ptr e) {
    ++reports;
    reported.set_value(number_of(e));
  };
  std::atomic<bool> ran{false};
  clocked_pool p(made.factory(), o, {1s, 1s});
  p.submit([&](traced&) { ran = true; });
  BOOST_TEST(reported.get() == 1);
  wait_until([&] { return p.stats().failed == 1; });
  watched_clock::advance(1s);
  p.submit([](traced&, std::stop_token) {});
  p.join();
  BOOST_TEST(!ran);
  BOOST_TEST(reports == 1);
  BOOST_TEST(p.stats().exceptions == 1u);
  BOOST_TEST(p.stats().completed == 1u);
  BOOST_TEST(test::balanced(p.stats()));
}

BOOST_AUTO_TEST_CASE(a_worker_that_cannot_make_its_state_leaves_submissions_to_those_who_have_one) {
  plan made;
  std::atomic<int> reported{0};
  pool_options o = workers(2);
  o.on_exception = [&](std::exception_ptr e) { reported += number_of(e); };
  clocked_pool p(made.factory(), o, {1h, 1h});
  hold busy;
  busy.with_submissions(p);
  made.failures = always;
  std::vector<std::future<int>> left;
  for (int i = 0; i != 100; ++i)
    left.push_back(p.async_submit([](traced& t) { return t.number; }, use_future));
  wait_until([&] { return reported == 2; }); // the second call
  BOOST_TEST(p.stats().queued == 100u);
  BOOST_TEST(p.stats().running == 1u);
  busy.open();
  for (auto& f : left) BOOST_TEST(f.get() == 1);
  p.join();
  BOOST_TEST(p.stats().failed == 0u);
  BOOST_TEST(p.stats().failed_builds == 1u);
}

BOOST_AUTO_TEST_CASE(submissions_are_left_to_a_worker_that_is_making_its_state) {
  ledger l;
  test::gate open;
  std::atomic<int> calls{0};
  stateful_pool<traced, watched_clock> p(
      [&] {
        if (++calls != 1) throw failure(2);
        open.wait();
        return traced(l);
      },
      workers(2), {1h, 1h});
  auto first = p.async_submit(use, use_future);
  wait_until([&] { return calls == 1; });
  auto second = p.async_submit(use, use_future);
  wait_until([&] { return p.stats().failed_builds == 1; });
  BOOST_TEST(p.stats().queued == 2u);
  open.open();
  first.get();
  second.get();
  BOOST_TEST(calls == 2);
}

BOOST_AUTO_TEST_CASE(what_was_left_to_others_fails_when_the_last_of_them_cannot_do_it_either) {
  plan made;
  test::gate open;
  test::slot<void> started;
  clocked_pool p(made.factory(), workers(2), {1h, 1h});
  p.submit([&](state_handle<traced> h) {
    started.set_value();
    open.wait();
    h.rebuild();
  });
  started.get();
  made.failures = always;
  auto left = p.async_submit(use, use_future);
  wait_until([&] { return p.stats().failed_builds == 1; });
  watched_clock::let_it_be_seen(); // it stands back
  open.open();
  BOOST_TEST(number_of(error_of(std::move(left))) == 3); // the other one's own try
  BOOST_TEST(p.stats().failed_builds == 2u);
}

BOOST_AUTO_TEST_CASE(one_try_fails_one_submission_and_the_others_wait) {
  plan made(always);
  clocked_pool p(made.factory(), workers(3), {1s, 1s});
  std::atomic<int> failed{0}, done{0};
  for (int i = 0; i != 50; ++i)
    p.async_submit(use, [&](std::exception_ptr e) { ++(e ? failed : done); });
  wait_until([&] { return p.stats().failed_builds == 3; });
  watched_clock::let_it_be_seen();
  BOOST_TEST(p.stats().queued >= 47u);
  BOOST_TEST(made.calls == 3);
  made.failures = 0;
  watched_clock::advance(1s);
  wait_until([&] { return done + failed == 50; });
  BOOST_TEST(failed >= 1); // by the last who has tried; the others had hope
  BOOST_TEST(failed <= 3);
}

BOOST_AUTO_TEST_CASE(what_waits_for_the_back_off_can_be_cancelled) {
  plan made(1);
  clocked_pool p(made.factory(), workers(1), {1h, 1h});
  BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == 1);
  asio::cancellation_signal signal;
  auto waits = p.async_submit(use, asio::bind_cancellation_slot(signal.slot(), use_future));
  watched_clock::let_it_be_seen();
  signal.emit(asio::cancellation_type::partial);
  BOOST_TEST((code_of(error_of(std::move(waits))) == asio::error::operation_aborted));
  BOOST_TEST(p.stats().queued == 0u);
  BOOST_TEST(p.stats().cancelled == 1u);
}

BOOST_AUTO_TEST_CASE(continuations_and_io_go_on_while_no_worker_can_make_its_state) {
  plan made(always);
  clocked_pool p(made.factory(), workers(2), {1h, 1h});
  test::slot<int> told; // by a handler that runs on the pool
  p.async_submit(use, [&](std::exception_ptr e) { told.set_value(number_of(e)); });
  BOOST_TEST(told.get() == 1);
  for (int i = 0; i != 10; ++i) p.submit(use); // the other worker's turn, and what waits
  wait_until([&] { return made.calls == 2 && p.stats().queued == 9; });
  watched_clock::let_it_be_seen();
  for (int i = 0; i != 10; ++i) {
    test::slot<void> posted, fired;
    asio::steady_timer timer(p.get_executor(), 1ms);
    timer.async_wait([&](error_code) { fired.set_value(); });
    asio::post(p.get_executor(),
               [&] { asio::post(p.get_executor(), [&] { posted.set_value(); }); });
    posted.get();
    fired.get();
  }
  BOOST_TEST(p.stats().queued == 9u);
  p.stop();
}

BOOST_AUTO_TEST_CASE(continuations_and_io_go_on_while_some_stand_back_and_all_others_are_busy) {
  plan made;
  clocked_pool p(made.factory(), workers(2), {1h, 1h});
  hold busy;
  busy.with_submissions(p);
  made.failures = always;
  auto left = p.async_submit(use, use_future);
  wait_until([&] { return p.stats().failed_builds == 1; });
  test::slot<void> posted, fired;
  asio::steady_timer timer(p.get_executor(), 1ms);
  timer.async_wait([&](error_code) { fired.set_value(); });
  asio::post(p.get_executor(), [&] { posted.set_value(); });
  posted.get();
  fired.get();
  BOOST_TEST(p.stats().running == 1u);
  busy.open();
  left.get();
}

BOOST_AUTO_TEST_CASE(a_pause_holds_where_no_worker_can_make_its_state) {
  plan made(1);
  test::gate open;
  test::slot<void> started;
  std::atomic<bool> ended{false}, second{false};
  clocked_pool p(made.factory(), workers(1), {1h, 1h});
  BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == 1);
  p.submit(use);
  watched_clock::let_it_be_seen(); // it stands back
  asio::post(p.get_executor(), [&] {
    started.set_value();
    open.wait();
    ended = true;
  });
  started.get();
  asio::post(p.get_executor(), [&] { second = true; }); // would be the next
  p.pause();
  open.open();
  wait_until([&] {
    const long before = watched_clock::looks;
    for (int i = 0; i != 1000; ++i) std::this_thread::yield();
    return ended && watched_clock::looks == before;
  });
  BOOST_TEST(!second);
  p.resume();
  wait_until([&] { return second.load(); });
  p.stop();
}

BOOST_AUTO_TEST_CASE(a_pool_that_waits_for_a_back_off_can_be_ended) {
  for (auto end : {0, 1, 2, 3}) {
    plan made(always);
    std::optional<clocked_pool> p(std::in_place, made.factory(), workers(2),
                                  factory_backoff{1h, 1h});
    std::vector<std::future<void>> all;
    for (int i = 0; i != 5; ++i) all.push_back(p->async_submit(use, use_future));
    wait_until([&] { return made.calls == 2; });
    if (end == 0) p->stop();
    if (end == 1) BOOST_TEST(p->drain_for(0s).abandoned >= 3u);
    if (end == 2) p->close();
    p.reset();
    int failed = 0, aborted = 0;
    for (auto& f : all) ++(number_of(error_of(std::move(f))) == -1 ? aborted : failed);
    BOOST_TEST(failed <= 2); // one for each try
    BOOST_TEST(failed + aborted == 5);
  }
}

BOOST_AUTO_TEST_CASE(a_paused_pool_does_not_try_again) {
  plan made(1);
  clocked_pool p(made.factory(), workers(1), {1s, 1s});
  BOOST_TEST(number_of(error_of(p.async_submit(use, use_future))) == 1);
  auto waits = p.async_submit(use, use_future);
  watched_clock::let_it_be_seen();
  p.pause();
  std::atomic<bool> posted{false};
  wait_until([&] { // it has seen that
    const long before = watched_clock::looks;
    for (int i = 0; i != 1000; ++i) std::this_thread::yield();
    return watched_clock::looks == before;
  });
  asio::post(p.get_executor(), [&] { posted = true; });
  watched_clock::advance(1s);
  BOOST_TEST(made.calls == 1);
  BOOST_TEST(!posted);
  p.resume();
  waits.get();
  wait_until([&] { return posted.load(); });
}

BOOST_AUTO_TEST_CASE(a_worker_that_waits_for_its_back_off_leaves_when_the_pool_shrinks) {
  plan made;
  clocked_pool p(made.factory(), workers(3), {1h, 1h});
  hold busy;
  busy.with_submissions(p);
  made.failures = always;
  std::vector<std::future<void>> left;
  for (int i = 0; i != 3; ++i) left.push_back(p.async_submit(use, use_future));
  wait_until([&] { return p.stats().failed_builds == 2; });
  p.resize(1);
  wait_until([&] { return p.stats().threads == 1; });
  BOOST_TEST(p.stats().queued == 3u);
  busy.open();
  for (auto& f : left) f.get();
  BOOST_TEST(p.stats().states == 1u);
}

// --- warming up -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(who_takes_over_what_another_has_left_leaves_new_work_to_those_who_sleep) {
  ledger l;
  test::gate open;
  std::atomic<int> calls{0};
  clocked_pool p(
      [&] {
        const int call = ++calls;
        if (call == 2) throw failure(2);
        if (call == 3) open.wait();
        return traced(l);
      },
      workers(2), {1s, 1s});
  hold busy;
  busy.with_submissions(p);
  const auto number = [](traced& t) { return t.number; };
  auto left = p.async_submit(number, use_future);
  wait_until([&] { return p.stats().failed_builds == 1; });
  p.resize(1); // it leaves
  wait_until([&] { return p.stats().threads == 1; });
  watched_clock::advance(1s);
  p.resize(2); // and another one makes its state for that function
  wait_until([&] { return calls == 3; });
  busy.open();
  BOOST_TEST(left.get() == 1);
  wait_until_idle(p, 1);
  auto next = p.async_submit(number, use_future);
  wait_until([&] { return next.wait_for(0s) == std::future_status::ready; });
  BOOST_TEST(next.get() == 1);
  open.open();
}

BOOST_AUTO_TEST_CASE(warming_up_makes_the_state_of_every_worker) {
  plan made;
  traced_pool p(made.factory(), workers(4));
  p.async_warm_up(use_future).get();
  BOOST_TEST(p.stats().states == 4u);
  BOOST_TEST(made.calls == 4);
  p.async_warm_up(use_future).get();
  BOOST_TEST(made.calls == 4);
}

BOOST_AUTO_TEST_CASE(every_token_awaits_warmth) {
  test::token_matrix<warm_up_signature>(make_warm_up, expect_success);
}

BOOST_AUTO_TEST_CASE(every_token_gets_the_first_failure_of_a_factory) {
  test::token_matrix<warm_up_signature>(
      [] { return std::make_unique<warm_up_fixture>(true); },
      [](std::exception_ptr e) { BOOST_TEST(number_of(e) == 9); });
}

BOOST_AUTO_TEST_CASE(handlers_of_async_warm_up_run_on_their_executor) {
  test::executor_matrix(make_warm_up, expect_success);
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
BOOST_AUTO_TEST_CASE(a_refused_warm_up_completes_on_an_associated_immediate_executor) {
  auto closed = [] {
    auto f = make_warm_up();
    f->p->close();
    return f;
  };
  BOOST_TEST(test::completes_at_once(
      closed, [](std::exception_ptr e) { BOOST_TEST((code_of(e) == errc::closed)); }));
}
#endif

BOOST_AUTO_TEST_CASE(a_wait_for_warmth_can_be_cancelled_at_any_time) {
  test::cancellation_matrix(make_warm_up, expect_success);
}

BOOST_AUTO_TEST_CASE(a_cancellation_and_the_end_of_a_warm_up_exclude_each_other) {
  test::cancellation_race(make_warm_up, expect_success, test::scaled(200));
}

BOOST_AUTO_TEST_CASE(a_warm_up_completes_with_the_first_failure_when_all_have_tried) {
  plan made(2);
  std::atomic<int> reported{0};
  pool_options o = workers(4);
  o.on_exception = [&](std::exception_ptr) { ++reported; };
  clocked_pool p(made.factory(), o, {1s, 1s});
  const int n = number_of(error_of(p.async_warm_up(use_future)));
  BOOST_TEST((n == 1 || n == 2));
  BOOST_TEST(made.calls == 4);
  BOOST_TEST(reported == 2);
  BOOST_TEST(p.stats().states == 2u);
  p.async_submit(use, use_future).get(); // no submission fails for it
  p.async_warm_up(use_future).get();     // does not wait for the back-off
  BOOST_TEST(p.stats().states == 4u);
}

BOOST_AUTO_TEST_CASE(after_a_failed_warm_up_the_factory_is_tried_again_at_the_next_submission) {
  plan made(1);
  traced_pool p(made.factory(), workers(1), {1us, 1us});
  BOOST_TEST(number_of(error_of(p.async_warm_up(use_future))) == 1);
  p.async_submit(use, use_future).get();
  BOOST_TEST(made.calls == 2);
}

BOOST_AUTO_TEST_CASE(a_warm_up_starts_what_workers_an_elastic_pool_lacks) {
  plan made;
  traced_pool p(made.factory(), elastic(1, 4));
  BOOST_TEST(p.stats().threads == 1u);
  p.async_warm_up(use_future).get();
  BOOST_TEST(p.stats().threads == 4u);
  BOOST_TEST(p.stats().states == 4u);
}

BOOST_AUTO_TEST_CASE(a_warm_up_waits_for_busy_workers_and_for_resume) {
  plan made;
  traced_pool p(made.factory(), workers(2));
  hold busy;
  busy.with_continuations(p);
  auto warm = p.async_warm_up(use_future);
  wait_until([&] { return p.stats().states == 1; });
  BOOST_TEST((warm.wait_for(0s) == std::future_status::timeout));
  busy.open();
  warm.get();
  p.resize(3);
  wait_until_idle(p, 3);
  p.pause();
  warm = p.async_warm_up(use_future);
  wait_until_idle(p, 0); // they are up, and wait
  BOOST_TEST((warm.wait_for(0s) == std::future_status::timeout));
  p.resume();
  warm.get();
  BOOST_TEST(p.stats().states == 3u);
}

BOOST_AUTO_TEST_CASE(joining_waits_for_warmth) {
  for (int round = 0; round != test::scaled(100); ++round) {
    plan made;
    traced_pool p(made.factory(), workers(1));
    wait_until_idle(p, 1);
    asio::io_context io;
    auto warm = p.async_warm_up(asio::bind_executor(io.get_executor(), use_future));
    p.join();
    test::run(io);
    warm.get();
    BOOST_TEST(made.calls == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_warm_up_after_the_end_of_a_pool_is_refused) {
  plan made;
  traced_pool p(made.factory(), workers(2));
  p.close();
  BOOST_TEST((code_of(error_of(p.async_warm_up(use_future))) == errc::closed));
  p.stop();
  BOOST_TEST((code_of(error_of(p.async_warm_up(use_future))) == errc::closed));
  BOOST_TEST(made.calls == 0);
}

BOOST_AUTO_TEST_CASE(a_warm_up_that_stop_overtakes_is_aborted) {
  warm_up_fixture f;
  auto elsewhere = f.initiate(use_future);
  std::atomic<bool> called{false};
  f.initiate([&](std::exception_ptr) { called = true; }); // on the pool: destroyed
  f.p->stop();
  BOOST_TEST((code_of(error_of(std::move(elsewhere))) == asio::error::operation_aborted));
  f.proceed();
  f.destroy();
  BOOST_TEST(!called);
  BOOST_TEST(f.l.alive() == 0);
}

BOOST_AUTO_TEST_CASE(many_warm_ups_complete_together) {
  warm_up_fixture f;
  std::vector<std::future<void>> all;
  for (int i = 0; i != 10; ++i) all.push_back(f.initiate(use_future));
  f.proceed();
  for (auto& one : all) one.get();
  BOOST_TEST(f.p->stats().built == 2u);
}

BOOST_AUTO_TEST_CASE(a_warm_up_does_not_wait_for_workers_that_leave) {
  plan made;
  traced_pool p(made.factory(), workers(3));
  hold busy;
  busy.with_continuations(p, 3);
  auto warm = p.async_warm_up(use_future);
  p.resize(1);
  busy.open();
  warm.get();
  wait_until([&] { return p.stats().threads == 1; });
  p.async_submit(use, use_future).get();
  p.join();
  BOOST_TEST(made.l.alive() == 0);
}

// --- rebuilding -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_function_may_ask_for_another_state) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  int alive_inside = -1;
  auto spoil = [&](state_handle<traced> h) {
    h.rebuild();
    alive_inside = made.l.alive();
    return h->number; // still there
  };
  BOOST_TEST(p.async_submit(spoil, use_future).get() == 1);
  BOOST_TEST(alive_inside == 1);
  BOOST_TEST(made.l.alive() == 0); // destroyed by then, and made again only when it is needed
  BOOST_TEST(p.stats().states == 0u);
  BOOST_TEST(p.async_submit([](traced& t) { return t.number; }, use_future).get() == 2);
  BOOST_TEST(p.stats().built == 2u);
  BOOST_TEST(p.stats().rebuilt == 1u);
  BOOST_TEST(p.stats().states == 1u);
}

BOOST_AUTO_TEST_CASE(a_state_is_replaced_also_when_the_function_throws) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  const auto fail = [](state_handle<traced> h) -> int {
    h.rebuild();
    throw failure(5);
  };
  BOOST_TEST(number_of(error_of(p.async_submit(fail, use_future))) == 5);
  p.submit(fail);
  BOOST_TEST(p.async_submit([](traced& t) { return t.number; }, use_future).get() == 3);
  BOOST_TEST(made.l.strays == 0);
}

BOOST_AUTO_TEST_CASE(functions_queued_behind_one_that_spoils_the_state_find_a_new_one) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  hold busy;
  busy.with_submissions(p);
  std::vector<int> seen;
  for (int i = 0; i != 40; ++i)
    p.submit([&, i](state_handle<traced> h) {
      seen.push_back(h->number);
      if (i % 10 == 9) h.rebuild();
    });
  busy.open();
  p.join();
  for (int i = 0; i != 40; ++i) BOOST_TEST(seen[std::size_t(i)] == 1 + i / 10);
  BOOST_TEST(made.l.built == 4);
  BOOST_TEST(made.l.alive() == 0);
}

BOOST_AUTO_TEST_CASE(functions_behind_one_that_spoils_the_state_do_not_wait_for_what_needs_none) {
  plan made;
  test::gate open;
  test::slot<void> started;
  traced_pool p(made.factory(), workers(2));
  hold first, second;
  first.with_submissions(p);
  second.with_continuations(p);
  p.submit([](state_handle<traced> h) { h.rebuild(); });
  asio::post(p.get_executor(), [&] {
    started.set_value();
    open.wait();
  });
  auto next = p.async_submit(use, use_future);
  // Of six, one claims half.
  for (int i = 0; i != 3; ++i) asio::post(p.get_executor(), [] {});
  first.open();
  started.get();
  second.open(); // who has no state either
  wait_until([&] { return next.wait_for(0s) == std::future_status::ready; });
  next.get();
  BOOST_TEST(made.calls == 2);
  open.open();
}

BOOST_AUTO_TEST_CASE(functions_queued_behind_one_that_spoils_the_state_fail_only_one_by_one) {
  plan made;
  clocked_pool p(made.factory(), workers(1), {1s, 1s});
  hold busy;
  busy.with_submissions(p);
  p.submit([](state_handle<traced> h) { h.rebuild(); });
  std::vector<std::future<void>> all;
  for (int i = 0; i != 20; ++i) all.push_back(p.async_submit(use, use_future));
  made.failures = 1;
  busy.open();
  BOOST_TEST(number_of(error_of(std::move(all[0]))) == 2);
  watched_clock::let_it_be_seen();
  BOOST_TEST(p.stats().queued == 19u);
  watched_clock::advance(1s);
  for (std::size_t i = 1; i != all.size(); ++i) all[i].get();
}

// --- who is called first, and who leaves first ----------------------------------------------------

BOOST_AUTO_TEST_CASE(a_sleeping_worker_that_is_warm_is_called_before_one_that_is_cold) {
  plan made;
  traced_pool p(made.factory(), workers(4));
  for (int i = 0; i != test::scaled(300); ++i) {
    wait_until_idle(p, 4);
    p.async_submit(use, use_future).get();
  }
  BOOST_TEST(made.calls == 1);
}

BOOST_AUTO_TEST_CASE(one_submission_makes_one_state_however_many_workers_are_awake) {
  for (int round = 0; round != test::scaled(100); ++round) {
    plan made;
    traced_pool p(made.factory(), workers(4)); // they are born searching
    p.async_submit(use, use_future).get();
    wait_until_idle(p, 4);
    BOOST_TEST(made.calls == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_submission_does_not_wait_for_a_state_when_a_warm_worker_has_nothing_to_do) {
  ledger l;
  test::gate open;
  std::atomic<int> calls{0};
  stateful_pool<traced> p(
      [&] {
        if (++calls == 2) open.wait();
        return traced(l);
      },
      workers(2));
  hold busy;
  busy.with_submissions(p);
  auto next = p.async_submit([](traced& t) { return t.number; }, use_future);
  wait_until([&] { return calls == 2; });
  busy.open();
  BOOST_TEST(next.get() == 1);
  BOOST_TEST(l.built == 1);
  open.open();
  wait_until([&] { return p.stats().states == 2; }); // for the next one
}

BOOST_AUTO_TEST_CASE(a_pool_that_shrinks_keeps_the_warm_workers) {
  for (int round = 0; round != test::scaled(60); ++round) {
    plan made;
    traced_pool p(made.factory(), workers(5));
    hold busy;
    busy.with_submissions(p, 2);
    BOOST_TEST(p.stats().states == 2u);
    if (round % 2 == 0) {
      busy.open();
      wait_until_idle(p, 5);
    }
    p.resize(2);
    busy.open();
    wait_until([&] { return p.stats().threads == 2; });
    BOOST_TEST(p.stats().states == 2u);
    BOOST_TEST(made.l.destroyed == 0);
    p.resize(1); // now one of them has to go
    wait_until([&] { return p.stats().threads == 1 && made.l.alive() == 1; });
    p.async_submit(use, use_future).get();
    BOOST_TEST(made.calls == 2);
    p.resize(3);
    wait_until_idle(p, 3);
    p.resize(1);
    wait_until([&] { return p.stats().threads == 1; });
    p.async_submit(use, use_future).get();
    BOOST_TEST(made.calls == 2);
    BOOST_TEST(made.l.strays == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_warm_worker_leaves_when_there_are_too_few_cold_ones) {
  plan made;
  traced_pool p(made.factory(), workers(4));
  hold busy;
  busy.with_submissions(p, 3);
  busy.open();
  p.resize(2); // the cold one, and one more
  wait_until([&] { return p.stats().threads == 2 && made.l.alive() == 2; });
  p.join();
  BOOST_TEST(made.l.strays == 0);
}

BOOST_AUTO_TEST_CASE(a_thread_attached_to_its_context_has_a_state_of_its_own) {
  plan made;
  traced_pool p(made.factory(), workers(1));
  hold own;
  own.with_continuations(p);
  std::thread attached([&] { asio::query(p.get_executor(), asio::execution::context).attach(); });
  std::thread::id ran_on;
  p.async_submit(
       [&](traced& t) {
         t.touch();
         ran_on = std::this_thread::get_id();
       },
       use_future)
      .get();
  BOOST_TEST((ran_on == attached.get_id()));
  BOOST_TEST(p.stats().states == 1u);
  p.async_submit([](state_handle<traced> h) { h.rebuild(); }, use_future).get();
  p.async_submit(use, use_future).get(); // it is not one too many without its state
  BOOST_TEST(p.stats().threads == 2u);
  own.open();
  p.stop();
  attached.join();
  BOOST_TEST(made.l.alive() == 0);
  BOOST_TEST(made.l.strays == 0);
}

BOOST_AUTO_TEST_CASE(an_attached_thread_without_a_state_keeps_no_worker_from_leaving) {
  for (const bool by_itself : {true, false}) {
    BOOST_TEST_CONTEXT((by_itself ? "idle_expiry" : "resize()")) {
      plan made;
      pool_options o = by_itself ? elastic(1, 3) : workers(3);
      o.idle_expiry = 50ms;
      traced_pool p(made.factory(), o);
      p.async_warm_up(use_future).get();
      std::thread attached(
          [&] { asio::query(p.get_executor(), asio::execution::context).attach(); });
      if (!by_itself) {
        wait_until([&] { return p.stats().threads == 4; });
        p.resize(1);
      }
      wait_until([&] { return made.l.alive() <= 1; }); // for the states end with the workers
      p.stop();
      attached.join();
    }
  }
}

BOOST_AUTO_TEST_CASE(a_worker_that_stayed_for_its_state_leaves_when_it_has_lost_that) {
  plan made;
  traced_pool p(made.factory(), workers(2));
  hold warm, cold;
  warm.with_submissions(p);
  cold.with_continuations(p);
  p.resize(1);
  warm.open(); // that one stays, because the other has no state
  p.async_submit([](state_handle<traced> h) { h.rebuild(); }, use_future).get();
  wait_until([&] { return p.stats().threads == 1; });
  BOOST_TEST(made.l.alive() == 0);
}

BOOST_AUTO_TEST_CASE(
    a_warm_worker_stays_when_idle_ones_expire_also_if_the_cold_one_has_the_reactor) {
  for (int round = 0; round != test::scaled(100); ++round) {
    plan made;
    pool_options o = elastic(1, 2);
    o.idle_expiry = 1ms;
    traced_pool p(made.factory(), o);
    wait_until_idle(p, 1);
    hold cold, warm;
    cold.with_continuations(p); // on the first worker
    warm.with_submissions(p);   // on the second, therefore
    cold.open();
    wait_until_idle(p, 1); // who sleeps alone does so at the reactor
    BOOST_TEST(p.stats().threads == 2u);
    warm.open();
    wait_until([&] { return p.stats().threads == 1; });
    BOOST_TEST(p.stats().states == 1u);
    p.async_submit(use, use_future).get();
    BOOST_TEST(made.calls == 1);
    BOOST_TEST(p.stats().expired_workers == 1u);

    asio::steady_timer timer(p.get_executor(), 0ms); // who is left attends to I/O
    timer.async_wait(use_future).get();
  }
}

BOOST_AUTO_TEST_CASE(warm_workers_expire_where_there_is_nobody_else) {
  plan made;
  pool_options o = elastic(1, 3);
  o.idle_expiry = 1ms;
  traced_pool p(made.factory(), o);
  hold busy;
  busy.with_submissions(p, 3);
  busy.open();
  wait_until([&] { return p.stats().threads == 1 && made.l.alive() == 1; });
  BOOST_TEST(made.l.destroyed == 2);
  BOOST_TEST(made.l.strays == 0);
}

// --- nothing is lost ------------------------------------------------------------------------------

namespace {

// Everything at once. What was submitted ends in exactly one way, and every state that was built is
// destroyed, on its own thread.
void storm(pool_options o, bool stops) {
  constexpr int producers = 3;
  const int n = test::scaled(6000);
  ledger l;
  std::atomic<int> calls{0}, thrown{0};
  std::atomic<int> ran{0}, completed{0}, failed{0}, aborted{0}, refused{0}, surprises{0};
  o.on_exception = [&](std::exception_ptr) {};
  {
    auto factory = [&] {
      if (++calls % 3 == 0) {
        ++thrown;
        throw failure(1);
      }
      return traced(l);
    };
    traced_pool p(factory, o, {1us, 50us});
    std::atomic<bool> done{false};
    std::thread sizes([&] {
      for (std::size_t i = 0; !done; ++i) {
        p.resize(1 + i % 4);
        if (i % 16 == 0) p.async_warm_up(asio::detached);
        std::this_thread::yield();
      }
    });
    std::vector<std::thread> threads;
    asio::io_context io;
    for (int t = 0; t != producers; ++t)
      threads.emplace_back([&, t] {
        std::minstd_rand random(unsigned(t) + 1);
        for (int i = 0; i != n; ++i) {
          const bool spoils = random() % 8 == 0;
          auto work = [&, spoils](state_handle<traced> h) {
            h->touch();
            ++ran;
            if (spoils) h.rebuild();
          };
          if (stops && i == n / 2 && t == 0) p.stop();
          try {
            switch (random() % 3) {
            case 0:
              if (!p.try_submit(work)) ++refused;
              break;
            case 1:
              p.submit(work);
              break;
            default: {
              asio::cancellation_signal signal;
              p.async_submit(work,
                             asio::bind_cancellation_slot(
                                 signal.slot(), asio::bind_executor(io, [&](std::exception_ptr e) {
                                   if (!e)
                                     ++completed;
                                   else
                                     ++(number_of(e) == 1 ? failed : aborted);
                                 })));
              if (random() % 4 == 0) signal.emit(asio::cancellation_type::total);
            }
            }
          } catch (const bulkhead::system_error& e) {
            if (e.code() != errc::closed) ++surprises;
          }
        }
      });
    for (auto& t : threads) t.join();
    done = true;
    sizes.join();
    p.join();
    test::run(io);
    const auto s = p.stats();
    BOOST_TEST(surprises == 0);
    BOOST_TEST(s.rejected >= std::uint64_t(refused));
    BOOST_TEST(test::balanced(s));
    BOOST_TEST(s.completed == std::uint64_t(ran));
    BOOST_TEST(s.submitted == std::uint64_t(producers * n));
    BOOST_TEST(s.failed <= std::uint64_t(thrown));
    BOOST_TEST(s.failed >= std::uint64_t(failed));
    BOOST_TEST(s.failed_builds == std::uint64_t(thrown));
    BOOST_TEST(s.built == std::uint64_t(l.built));
    BOOST_TEST(s.states == 0u);
    BOOST_TEST(l.alive() == 0);
  }
  BOOST_TEST(l.strays == 0);
  BOOST_TEST(l.built + thrown == calls);
}

} // namespace

BOOST_AUTO_TEST_CASE(
    nothing_is_lost_while_factories_throw_and_states_are_spoiled_and_sizes_change) {
  pool_options o = workers(3);
  o.queue_limit = 64;
  storm(o, false);
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_in_an_elastic_pool_whose_workers_expire) {
  pool_options o = elastic(1, 4);
  o.queue_limit = 64;
  o.idle_expiry = 20us;
  storm(o, false);
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_when_a_pool_stops_in_the_middle) {
  pool_options o = workers(3);
  o.queue_limit = 64;
  storm(o, true);
}
