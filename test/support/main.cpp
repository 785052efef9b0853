//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The main() of every test, compiled once.

#define BOOST_TEST_NO_MAIN
#if defined(BULKHEAD_TEST_FROM_HEADERS)
#include <boost/test/included/unit_test.hpp>
#else
#include <boost/test/unit_test.hpp>
#endif

#include <filesystem>

namespace {

bool name_suite_after_program() {
  auto& suite = boost::unit_test::framework::master_test_suite();
  suite.p_name.value = std::filesystem::path(suite.argv[0]).stem().string();
  return true;
}

} // namespace

int main(int argc, char* argv[]) {
  return boost::unit_test::unit_test_main(name_suite_after_program, argc, argv);
}
