//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_MANUAL_CLOCK_HPP
#define BULKHEAD_TEST_SUPPORT_MANUAL_CLOCK_HPP

#include <boost/asio/wait_traits.hpp>

#include <atomic>
#include <chrono>

namespace test {

/// A clock that stands still until a test moves it. One for the whole process.
struct manual_clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<manual_clock>;
  static constexpr bool is_steady = true;

  static time_point now() noexcept { return time_point(duration(ticks())); }
  static void advance(duration d) noexcept { ticks() += d.count(); }

private:
  static std::atomic<rep>& ticks() noexcept {
    static std::atomic<rep> instance{0};
    return instance;
  }
};

} // namespace test

/// Asio asks how long it has to wait in real time. It looks again soon.
template <>
struct boost::asio::wait_traits<test::manual_clock> {
  static std::chrono::nanoseconds to_wait_duration(const test::manual_clock::duration& d) {
    return d.count() > 0 ? std::chrono::nanoseconds(100'000) : std::chrono::nanoseconds(0);
  }
  static std::chrono::nanoseconds to_wait_duration(const test::manual_clock::time_point& t) {
    return to_wait_duration(t - test::manual_clock::now());
  }
};

#endif
