//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_TOKENS_HPP
#define BULKHEAD_TEST_SUPPORT_TOKENS_HPP

#include "allocators.hpp"
#include "run.hpp"
#include "tracker_executor.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#if __has_include(<boost/asio/bind_immediate_executor.hpp>) // since Boost 1.82
#define BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS
#include <boost/asio/bind_immediate_executor.hpp>
#include <boost/asio/system_executor.hpp>
#endif

#if defined(BULKHEAD_TEST_HAS_SPAWN)
#include <boost/asio/spawn.hpp>
#endif

#include <boost/test/unit_test.hpp>

#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

// Runs one operation with every completion token, and checks of each what holds for all operations:
// the handler runs exactly once, not inside the initiating function, on its associated executor,
// after the operation's memory is back, and its executor has work until then.
//
// An operation is given as a fixture, made afresh for every token by a callable `make`:
//
//   initiate(token)  starts the operation
//   proceed()        lets it complete if it waits for something; called after initiate()
//   settle()         returns when nothing of it is left on the object's own executor
//   goes_on()        if there: whether proceed() does not complete it, but lets it go on with something
//                    else
//
// A `check(error, values...)` sees the completion's arguments; tokens that throw are translated
// back, with value-initialised values.

namespace test {

namespace asio = boost::asio;

inline constexpr int handler_id = 1; // the executor that handlers are bound to
inline constexpr int object_id = 2;  // for fixtures: the executor of the object itself

using handler_executor = tracker_executor<asio::io_context::executor_type>;

namespace detail {

template <class Fixture>
bool goes_on(const Fixture& f) {
  if constexpr (requires { f.goes_on(); }) return f.goes_on();
  return false;
}

} // namespace detail

inline void translate(std::exception_ptr p, boost::system::error_code& error) {
  try {
    std::rethrow_exception(p);
  } catch (const boost::system::system_error& e) {
    error = e.code();
  }
}

inline void translate(std::exception_ptr p, std::exception_ptr& error) { error = p; }

/// The error_code of a failure: `operation_aborted` and others arrive in either form.
inline boost::system::error_code code_of(const boost::system::error_code& ec) { return ec; }
inline boost::system::error_code code_of(const std::exception_ptr& p) {
  if (!p) return {};
  try {
    std::rethrow_exception(p);
  } catch (const boost::system::system_error& e) {
    return e.code();
  }
}

/// What a handler reports to the matrix.
struct probe {
  asio::io_context context;
  memory_balance memory;
  int calls = 0;

  handler_executor executor() { return {handler_id, context.get_executor()}; }

  void enter() {
    ++calls;
    BOOST_TEST(!in_initiation(), "the handler ran inside the initiating function");
    BOOST_TEST(current_executor() == handler_id, "the handler ran on the wrong executor");
    BOOST_TEST(memory.blocks == 0, "the operation held " << memory.blocks << " blocks");
  }

  void finish() {
    run(context);
    BOOST_TEST(calls == 1, "the handler ran " << calls << " times");
    BOOST_TEST(memory.blocks == 0, "memory was lost");
    BOOST_TEST(memory.bytes == 0);
  }
};

/// A callback with all associators.
template <class Check>
class probe_handler {
public:
  using executor_type = handler_executor;
  using allocator_type = counting_allocator<std::byte>;

  probe_handler(probe& p, const Check& check) : probe_(&p), check_(check) {}

  executor_type get_executor() const noexcept { return probe_->executor(); }
  allocator_type get_allocator() const noexcept { return allocator_type(probe_->memory); }

  template <class... Args>
  void operator()(Args&&... args) {
    probe_->enter();
    check_(std::forward<Args>(args)...);
  }

protected:
  probe* probe_;
  Check check_;
};

template <class Check>
class move_only_probe_handler : public probe_handler<Check> {
public:
  using probe_handler<Check>::probe_handler;

private:
  std::unique_ptr<int> owned_ = std::make_unique<int>(0);
};

namespace detail {

template <class Signature>
struct token_matrix;

template <class Error, class... T>
struct token_matrix<void(Error, T...)> {
  static constexpr bool has_error_code = std::is_same_v<Error, boost::system::error_code>;

  template <class Make, class Check>
  struct runner {
    Make& make;
    Check& check;

    template <class Handler>
    void callback() {
      auto f = make();
      probe p;
      {
        initiation_scope scope;
        f->initiate(Handler(p, check));
      }
      f->proceed();
      p.finish();
      f->settle();
    }

    // The handler is not reached before `proceed`, and an operation that is merely stored in a
    // deferred object has not started.
    void deferred() {
      auto f = make();
      probe p;
      {
        auto op = f->initiate(asio::deferred);
        initiation_scope scope;
        std::move(op)(probe_handler<Check>(p, check));
      }
      f->proceed();
      p.finish();
      f->settle();
    }

    template <class... Values>
    static void expect_here(probe& p) {
      BOOST_TEST(current_executor() == handler_id, "resumed on the wrong executor");
      ++p.calls;
    }

    // Clang 14 and g++ 12 both want the coroutine's state in parameters, not in captures.
    template <class Fixture>
    static asio::awaitable<void> await_plain(Fixture& f, probe& p, Check& check) {
      Error error{};
      std::exception_ptr thrown;
      std::optional<std::tuple<T...>> values;
      try {
        if constexpr (sizeof...(T) == 0) {
          co_await f.initiate(asio::use_awaitable);
          values.emplace();
        } else {
          auto v = co_await f.initiate(asio::use_awaitable);
          values.emplace(std::move(v));
        }
      } catch (...) {
        thrown = std::current_exception();
      }
      expect_here(p);
      if (thrown) {
        translate(thrown, error);
        check(error, T{}...);
      } else {
        std::apply([&](T&... v) { check(Error{}, std::move(v)...); }, *values);
      }
    }

    template <class Fixture>
    static asio::awaitable<void> await_tuple(Fixture& f, probe& p, Check& check) {
      auto result = co_await f.initiate(asio::as_tuple(asio::use_awaitable));
      expect_here(p);
      std::apply([&](Error e, auto&... v) { check(e, std::move(v)...); }, result);
    }

    template <class Fixture>
    static asio::awaitable<void> await_redirected(Fixture& f, probe& p, Check& check) {
      boost::system::error_code error;
      if constexpr (sizeof...(T) == 0) {
        co_await f.initiate(asio::redirect_error(asio::use_awaitable, error));
        expect_here(p);
        check(error);
      } else {
        auto value = co_await f.initiate(asio::redirect_error(asio::use_awaitable, error));
        expect_here(p);
        check(error, std::move(value));
      }
    }

    template <class Coroutine>
    void coroutine(Coroutine body) {
      auto f = make();
      probe p;
      int completions = 0;
      asio::co_spawn(p.executor(), body(*f, p, check), [&](std::exception_ptr e) {
        ++completions;
        BOOST_TEST(!e);
      });
      poll(p.context);
      f->proceed();
      p.finish();
      BOOST_TEST(completions == 1);
      f->settle();
    }

    void future() {
      auto f = make();
      auto future = f->initiate(asio::use_future);
      f->proceed();
      Error error{};
      std::exception_ptr thrown;
      std::optional<std::tuple<T...>> values;
      try {
        if constexpr (sizeof...(T) == 0) {
          future.get();
          values.emplace();
        } else {
          auto v = future.get();
          values.emplace(std::move(v));
        }
      } catch (...) {
        thrown = std::current_exception();
      }
      if (thrown) {
        translate(thrown, error);
        check(error, T{}...);
      } else {
        std::apply([&](T&... v) { check(Error{}, std::move(v)...); }, *values);
      }
      f->settle();
    }

    void detached() {
      auto f = make();
      f->initiate(asio::detached);
      f->proceed();
      f->settle();
    }

#if defined(BULKHEAD_TEST_HAS_SPAWN)
    template <class SpawnExecutor>
    void yield(bool with_code) {
      auto f = make();
      probe p;
      int completions = 0;
      asio::spawn(
          SpawnExecutor(p.executor()),
          [&](asio::basic_yield_context<SpawnExecutor> yield) {
            Error error{};
            std::exception_ptr thrown;
            std::optional<std::tuple<T...>> values;
            try {
              [[maybe_unused]] boost::system::error_code ec;
              auto start = [&]() -> decltype(auto) {
                if constexpr (has_error_code) {
                  if (with_code) return f->initiate(yield[ec]);
                }
                return f->initiate(yield);
              };
              if constexpr (sizeof...(T) == 0) {
                start();
                values.emplace();
              } else {
                auto v = start();
                values.emplace(std::move(v));
              }
              if constexpr (has_error_code) error = ec;
            } catch (const boost::system::system_error&) {
              thrown = std::current_exception();
            } catch (const std::exception&) {
              thrown = std::current_exception();
            }
            expect_here(p);
            if (thrown) {
              translate(thrown, error);
              check(error, T{}...);
            } else {
              std::apply([&](T&... v) { check(error, std::move(v)...); }, *values);
            }
          },
          [&](std::exception_ptr e) {
            ++completions;
            BOOST_TEST(!e);
          });
      poll(p.context);
      f->proceed();
      p.finish();
      BOOST_TEST(completions == 1);
      f->settle();
    }
#endif

    void all() {
      BOOST_TEST_CONTEXT("callback") callback<probe_handler<Check>>();
      BOOST_TEST_CONTEXT("move-only callback") callback<move_only_probe_handler<Check>>();
      BOOST_TEST_CONTEXT("deferred") deferred();
      BOOST_TEST_CONTEXT("use_awaitable")
      coroutine([](auto& f, probe& p, Check& c) { return await_plain(f, p, c); });
      BOOST_TEST_CONTEXT("as_tuple(use_awaitable)")
      coroutine([](auto& f, probe& p, Check& c) { return await_tuple(f, p, c); });
      if constexpr (has_error_code) {
        BOOST_TEST_CONTEXT("redirect_error(use_awaitable)")
        coroutine([](auto& f, probe& p, Check& c) { return await_redirected(f, p, c); });
      }
      BOOST_TEST_CONTEXT("use_future") future();
      BOOST_TEST_CONTEXT("detached") detached();
#if defined(BULKHEAD_TEST_HAS_SPAWN)
      BOOST_TEST_CONTEXT("yield_context") yield<asio::any_io_executor>(false);
      BOOST_TEST_CONTEXT("basic_yield_context") yield<handler_executor>(false);
      if constexpr (has_error_code)
        BOOST_TEST_CONTEXT("yield_context[ec]") yield<asio::any_io_executor>(true);
#else
      BOOST_TEST_MESSAGE("yield_context: skipped, Boost.Context cannot run under TSan here");
#endif
    }
  };
};

} // namespace detail

/// See the top of this file.
template <class Signature, class Make, class Check>
void token_matrix(Make make, Check check) {
  using matrix = detail::token_matrix<Signature>;
  typename matrix::template runner<Make, Check>{make, check}.all();
}

#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
/// Runs the operation with a handler that has an immediate executor, and says whether it was called
/// there: if so, within the initiating function, or what it went on with completed at once; else as if
/// there was none. `make` as below.
template <class Make, class Check>
bool completes_at_once(Make make, Check check) {
  constexpr int immediate_id = 3;
  struct call {
    bool at_once;
    bool good;
  };
  auto f = make();
  auto done = std::make_shared<std::promise<call>>();
  {
    initiation_scope scope;
    f->initiate(asio::bind_immediate_executor(
        tracker_executor(immediate_id, asio::system_executor()),
        [done, raw = f.get(), check](auto... args) mutable {
          const bool at_once = current_executor() == immediate_id;
          const bool good = at_once ? in_initiation() != detail::goes_on(*raw)
                                    : !in_initiation() && raw->on_own_executor();
          check(std::move(args)...);
          done->set_value({at_once, good});
        }));
  }
  f->proceed();
  const call c = done->get_future().get(); // no assertion may run on this thread meanwhile
  BOOST_TEST(c.good, "expected the immediate executor at once, or later the object's own");
  f->settle();
  return c.at_once;
}
#endif

/// Runs the operation with handlers on all kinds of executors. `make` as above; handlers without an
/// executor of their own are expected on one that `Fixture::on_own_executor()` recognises.
template <class Make, class Check>
void executor_matrix(Make make, Check check) {
  BOOST_TEST_CONTEXT("no bound executor") {
    auto f = make();
    auto done = std::make_shared<std::promise<bool>>();
    {
      initiation_scope scope;
      f->initiate([done, raw = f.get(), check](auto... args) mutable {
        const bool good = raw->on_own_executor() && !in_initiation();
        check(std::move(args)...);
        done->set_value(good);
      });
    }
    f->proceed();
    const bool good = done->get_future().get(); // no assertion may run on this thread meanwhile
    BOOST_TEST(good, "expected the object's own executor");
    f->settle();
  }
  BOOST_TEST_CONTEXT("a strand of another context") {
    auto f = make();
    asio::io_context context;
    auto strand = asio::make_strand(context);
    int calls = 0;
    {
      initiation_scope scope;
      f->initiate(asio::bind_executor(strand, [&](auto... args) {
        ++calls;
        BOOST_TEST(strand.running_in_this_thread());
        BOOST_TEST(!in_initiation());
        check(std::move(args)...);
      }));
    }
    f->proceed();
    run(context);
    BOOST_TEST(calls == 1);
    f->settle();
  }
  BOOST_TEST_CONTEXT("any_io_executor") {
    auto f = make();
    probe p;
    {
      initiation_scope scope;
      f->initiate(asio::bind_executor(asio::any_io_executor(p.executor()), [&](auto... args) {
        p.enter();
        check(std::move(args)...);
      }));
    }
    f->proceed();
    p.finish();
    f->settle();
  }
#if defined(BULKHEAD_TEST_HAS_IMMEDIATE_EXECUTORS)
  BOOST_TEST_CONTEXT("an immediate executor") { completes_at_once(make, check); }
#endif
}

} // namespace test

#endif
