//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_VERSION_HPP
#define BULKHEAD_VERSION_HPP

/// The version as one number, for the preprocessor: major * 10000 + minor * 100 + patch.
#define BULKHEAD_VERSION 100

/// The same for people, and for CMakeLists.txt, which reads it from here.
#define BULKHEAD_VERSION_STRING "0.1.0"

#endif
