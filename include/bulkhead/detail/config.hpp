//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_CONFIG_HPP
#define BULKHEAD_DETAIL_CONFIG_HPP

#include <boost/version.hpp>

#if BOOST_VERSION < 108100
#error "Bulkhead needs Boost 1.81 or newer (Debian 12: libboost1.81-all-dev)"
#endif

#if !(__cplusplus >= 202002L || (defined(_MSVC_LANG) && _MSVC_LANG >= 202002L))
#error "Bulkhead needs C++20 (g++ and clang++: -std=c++20)"
#endif

// Non-template functions live in impl/*.ipp. By default every header includes its own, as inline
// functions. With BULKHEAD_SEPARATE_COMPILATION they are only declared, and exactly one translation
// unit of the program includes <bulkhead/src.hpp> (bulkhead::compiled in CMake is that unit).
#if defined(BULKHEAD_SEPARATE_COMPILATION)
#define BULKHEAD_DECL
#else
#define BULKHEAD_HEADER_ONLY
#define BULKHEAD_DECL inline
#endif

#endif
