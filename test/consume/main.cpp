//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What every consumer under test/consume builds.

#include <bulkhead.hpp>

#include <iostream>

int main() {
  std::cout << "Bulkhead " BULKHEAD_VERSION_STRING " on " << bulkhead::available_parallelism()
            << " threads: " << make_error_code(bulkhead::errc::closed).message() << "\n";
}
