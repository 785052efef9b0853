// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// Boost.JSON itself: Debian 12 has its headers, but no library to link.
#include <boost/json/src.hpp>
