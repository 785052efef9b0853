// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_TEST_SUPPORT_REFUSAL_HPP
#define BULKHEAD_TEST_SUPPORT_REFUSAL_HPP

#include "process.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

namespace test {

/// That the example, which calls itself `program`, does not start with any of `values` for any of the
/// options `names`, and says which of them it could not take.
inline void check_refuses_numbers(const std::string& program, const std::vector<std::string>& names,
                                  const std::vector<std::string>& values) {
  for (const std::string& name : names)
    for (const std::string& value : values) BOOST_TEST_CONTEXT(name << ' ' << value) {
        for (const arguments& options : {arguments{name, value}, arguments{name + '=' + value}}) {
          process p(options);
          const std::string text = p.rest();
          BOOST_TEST(text.starts_with(program + ": " + name + " must be a whole number from "),
                     text);
          BOOST_TEST(text.ends_with(" (got \"" + value + "\")\n"), text);
          BOOST_TEST(p.wait() == 2);
        }
      }
}

} // namespace test

#endif
