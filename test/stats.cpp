//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include <bulkhead/stats.hpp>

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <cstddef>

using namespace std::chrono_literals;
using bulkhead::duration_histogram;

BOOST_AUTO_TEST_CASE(classes_of_durations_double_in_width) {
  static_assert(duration_histogram::class_of(0ns) == 0);
  static_assert(duration_histogram::class_of(999ns) == 0);
  static_assert(duration_histogram::class_of(1us) == 1);
  static_assert(duration_histogram::class_of(1999ns) == 1);
  static_assert(duration_histogram::class_of(2us) == 2);
  static_assert(duration_histogram::class_of(-1s) == 0);
  static_assert(duration_histogram::class_of(std::chrono::nanoseconds::max()) == 31);
  for (std::size_t i = 0; i + 1 != duration_histogram::classes; ++i) {
    const auto bound = duration_histogram::upper_bound(i);
    BOOST_TEST(duration_histogram::class_of(bound - 1ns) == i);
    BOOST_TEST(duration_histogram::class_of(bound) == i + 1);
  }
  BOOST_TEST((duration_histogram::upper_bound(31) == std::chrono::nanoseconds::max()));
}

BOOST_AUTO_TEST_CASE(an_empty_histogram_has_zeros) {
  duration_histogram h;
  BOOST_TEST(h.count() == 0u);
  BOOST_TEST((h.mean() == 0ns));
  BOOST_TEST((h.quantile(0.5) == 0ns));
}

BOOST_AUTO_TEST_CASE(a_quantile_is_the_bound_of_the_class_in_which_it_lies) {
  duration_histogram h;
  for (int i = 0; i != 90; ++i) h.add(3us);
  for (int i = 0; i != 10; ++i) h.add(1ms);
  BOOST_TEST(h.count() == 100u);
  BOOST_TEST((h.mean() == 102700ns));
  BOOST_TEST((h.quantile(0) == 4us));
  BOOST_TEST((h.quantile(0.9) == 4us));
  BOOST_TEST((h.quantile(0.91) == 1024us));
  BOOST_TEST((h.quantile(1) == 1024us));
}
