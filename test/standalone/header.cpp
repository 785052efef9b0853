//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// For b2, which names the header on the command line. CMake writes a file for each.

#include BULKHEAD_TEST_HEADER
#include BULKHEAD_TEST_HEADER
