//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_SANITIZER_HPP
#define BULKHEAD_TEST_SUPPORT_SANITIZER_HPP

// What watches a test, and how much work it should then do. BULKHEAD_TEST_VALGRIND is defined by the
// leg of test/matrix that has valgrind watch.

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BULKHEAD_TEST_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define BULKHEAD_TEST_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define BULKHEAD_TEST_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define BULKHEAD_TEST_ASAN 1
#endif

// asio::spawn crashes under TSan with the Boost.Context of the system; a build that brings a
// context TSan understands (BOOST_USE_TSAN) has it again.
#if !defined(BULKHEAD_TEST_TSAN) || defined(BOOST_USE_TSAN)
#define BULKHEAD_TEST_HAS_SPAWN 1
#endif

namespace test {

#if defined(BULKHEAD_TEST_TSAN) || defined(BULKHEAD_TEST_ASAN) || defined(BULKHEAD_TEST_VALGRIND)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// A number of repetitions: `n` in a plain build, fewer where every step is expensive.
constexpr int scaled(int n) { return sanitized ? (n > 20 ? n / 20 : 1) : n; }

} // namespace test

#endif
