//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//
#include <bulkhead.hpp>

#include <string>

std::string message_in_one() { return make_error_code(bulkhead::errc::closed).message(); }
