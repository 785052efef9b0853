//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_TRACKER_EXECUTOR_HPP
#define BULKHEAD_TEST_SUPPORT_TRACKER_EXECUTOR_HPP

#include <boost/asio/execution.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <atomic>
#include <type_traits>
#include <utility>

namespace test {

namespace detail {
inline thread_local int executor_id = 0;
inline thread_local int initiations = 0;
inline std::atomic<long> functions_run[4];
} // namespace detail

/// The id of the tracker_executor that runs the current function, or 0.
inline int current_executor() noexcept { return detail::executor_id; }

/// How many functions tracker_executors have started that have this id, 3 at most: for handlers that
/// leave no other trace.
inline long functions_run(int id) noexcept { return detail::functions_run[id]; }

/// Is an initiating function on this thread's stack? To be asked by handlers, which must not be
/// called from there.
inline bool in_initiation() noexcept { return detail::initiations > 0; }

/// Stands around the call of an initiating function.
class initiation_scope {
public:
  initiation_scope() noexcept { ++detail::initiations; }
  ~initiation_scope() { --detail::initiations; }
  initiation_scope(const initiation_scope&) = delete;
  initiation_scope& operator=(const initiation_scope&) = delete;
};

/// Any executor, plus an id that the functions it runs can ask for.
///
/// It satisfies Asio's executor requirements as far as the executor inside does, and goes into
/// any_io_executor, bind_executor and co_spawn like any other.
template <class Inner>
class tracker_executor {
public:
  tracker_executor(int id, const Inner& inner) noexcept : id_(id), inner_(inner) {}

  int id() const noexcept { return id_; }

  template <class F>
  void execute(F&& f) const {
    inner_.execute(tracked<std::decay_t<F>>{std::forward<F>(f), id_});
  }

  template <class P>
  requires(boost::asio::can_query<const Inner&, P>::value) decltype(auto) query(const P& p) const
      noexcept(noexcept(boost::asio::query(std::declval<const Inner&>(), p))) {
    return boost::asio::query(inner_, p);
  }

  template <class P>
  requires(boost::asio::can_require<const Inner&, P>::value) auto require(const P& p) const {
    return wrap(boost::asio::require(inner_, p));
  }

  template <class P>
  requires(boost::asio::can_prefer<const Inner&, P>::value &&
           !boost::asio::can_require<const Inner&, P>::value) auto prefer(const P& p) const {
    return wrap(boost::asio::prefer(inner_, p));
  }

  friend bool operator==(const tracker_executor& a, const tracker_executor& b) noexcept {
    return a.id_ == b.id_ && a.inner_ == b.inner_;
  }
  friend bool operator!=(const tracker_executor& a, const tracker_executor& b) noexcept {
    return !(a == b);
  }

private:
  template <class F>
  struct tracked {
    F f;
    int id;

    void operator()() {
      struct scope {
        explicit scope(int id) noexcept : before(std::exchange(detail::executor_id, id)) {}
        ~scope() { detail::executor_id = before; }
        int before;
      } s(id);
      if (id < 4) ++detail::functions_run[id];
      std::move(f)();
    }
  };

  template <class Other>
  tracker_executor<Other> wrap(const Other& other) const noexcept {
    return {id_, other};
  }

  int id_;
  Inner inner_;
};

} // namespace test

#endif
