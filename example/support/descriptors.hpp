// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_SUPPORT_DESCRIPTORS_HPP
#define BULKHEAD_EXAMPLE_SUPPORT_DESCRIPTORS_HPP

#include <cstdint>
#include <stdexcept>
#include <string>

#include <sys/resource.h>

namespace example {

/// Every connection is a descriptor, and the usual soft limit is 1024. Makes it as high as the hard
/// one, and returns what it is then.
inline std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

/// Throws an exception that says which setting takes more descriptors than are to be had.
inline void ensure_descriptors(const std::string& setting, std::uint64_t needed) {
  const std::uint64_t allowed = raise_descriptor_limit();
  if (allowed < needed)
    throw std::runtime_error(setting + " takes " + std::to_string(needed) +
                             " descriptors, of which " + std::to_string(allowed) +
                             " are allowed (ulimit -Hn)");
}

} // namespace example

#endif
