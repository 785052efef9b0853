//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_UNCAUGHT_HPP
#define BULKHEAD_DETAIL_RUN_UNCAUGHT_HPP

#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>

namespace bulkhead::detail {

/// Gives `error` to `on_exception`; if there is none, or that throws as well, it is a line on stderr.
inline void report_uncaught(const char* where, const std::string& name,
                            const std::function<void(std::exception_ptr)>& on_exception,
                            std::exception_ptr error) noexcept {
  try {
    if (on_exception) return on_exception(std::move(error));
    std::rethrow_exception(std::move(error));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bulkhead: %s \"%s\": uncaught exception in a handler: %s\n", where,
                 name.c_str(), e.what());
  } catch (...) {
    std::fprintf(stderr, "bulkhead: %s \"%s\": uncaught exception in a handler\n", where,
                 name.c_str());
  }
}

} // namespace bulkhead::detail

#endif
