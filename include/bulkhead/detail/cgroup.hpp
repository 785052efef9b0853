//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_CGROUP_HPP
#define BULKHEAD_DETAIL_CGROUP_HPP

#include <bulkhead/detail/config.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>

namespace bulkhead::detail {

/// The CPU quota of this process in whole CPUs, rounded up; nothing where no quota is set.
///
/// Linux accounts for CPU time in one hierarchy of cgroups, of version 1 or 2. Hybrid systems mount
/// both, each with other controllers, so what counts is where the `cpu` controller is, not which
/// version is mounted. A quota binds all descendants: the answer is the smallest from the cgroup of
/// this process up to the mount point.
///
/// Files are read below `root`, which is "/" but in tests. One that is absent or makes no sense
/// sets no quota.
std::optional<std::size_t> cgroup_cpu_quota(const std::filesystem::path& root);

} // namespace bulkhead::detail

#if defined(BULKHEAD_HEADER_ONLY)
#include <bulkhead/impl/cgroup.ipp>
#endif

#endif
