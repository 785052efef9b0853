//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_SIZING_IPP
#define BULKHEAD_IMPL_SIZING_IPP

#include <bulkhead/detail/cgroup.hpp>
#include <bulkhead/sizing.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#if defined(__linux__)
#include <cerrno>
#include <vector>

#include <sched.h>
#endif

namespace bulkhead {
namespace detail {

/// CPUs in the affinity mask of the calling thread, 0 where that cannot be told.
inline std::size_t cpus_in_affinity_mask() {
#if defined(__linux__)
  // The kernel refuses a buffer that is smaller than its own mask, and tells nobody how large that
  // is.
  for (std::size_t sets = 1; sets <= 64; sets *= 2) {
    std::vector<cpu_set_t> mask(sets);
    auto bytes = sets * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) == 0)
      return static_cast<std::size_t>(CPU_COUNT_S(bytes, mask.data()));
    if (errno != EINVAL) break;
  }
#endif
  return 0;
}

} // namespace detail

BULKHEAD_DECL std::size_t available_parallelism() {
  std::size_t cpus = detail::cpus_in_affinity_mask();
  if (cpus == 0) cpus = std::thread::hardware_concurrency();
  if (auto quota = detail::cgroup_cpu_quota("/")) cpus = (std::min)(cpus, *quota);
  return (std::max)(cpus, std::size_t(1));
}

BULKHEAD_DECL std::size_t threads_from_env(const char* name, std::size_t fallback) {
  constexpr std::size_t most = 65536;
  if (!name) throw std::invalid_argument("threads_from_env: name must not be null");
  const char* set = std::getenv(name);
  if (!set) return fallback;
  std::string_view value = set;
  std::size_t threads = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), threads);
  bool number = error != std::errc::invalid_argument && end == value.data() + value.size();
  bool too_large = number && (error == std::errc::result_out_of_range || threads > most);
  if (number && !too_large && threads >= 1) return threads;
  throw std::invalid_argument(
      std::string(name) + " must be a whole number of at " +
      (too_large ? std::string("most ") + std::to_string(most) : "least 1") + " (got \"" + set +
      "\")");
}

} // namespace bulkhead

#endif
