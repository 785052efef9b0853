//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_CGROUP_IPP
#define BULKHEAD_IMPL_CGROUP_IPP

#include <bulkhead/detail/cgroup.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace bulkhead::detail {

inline bool lists(std::string_view comma_separated, std::string_view item) {
  const auto enclosed = [](std::string_view s) { return std::string(",").append(s).append(","); };
  return enclosed(comma_separated).find(enclosed(item)) != std::string::npos;
}

/// The cgroup of this process in the hierarchy of the cpu controller.
struct cpu_cgroup {
  bool v1 = false;
  std::filesystem::path path{}; // empty: no cgroups
};

/// `file` is /proc/self/cgroup. Its lines are `number:controllers:path`; version 2 names none.
inline cpu_cgroup find_cpu_cgroup(std::istream& file) {
  cpu_cgroup found;
  for (std::string line; std::getline(file, line);) {
    auto first = line.find(':');
    auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    auto controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (lists(controllers, "cpu")) return {true, line.substr(second + 1)};
    if (controllers.empty()) found.path = line.substr(second + 1);
  }
  return found;
}

/// Undoes mountinfo's octal escapes: `\040` is a space.
inline std::string unescape(std::string_view text) {
  std::string plain;
  auto octal = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      plain +=
          static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// The way from `root` down to `cgroup`; nothing where there is none. In a namespace of cgroups, the
/// ancestors of its root are called `/..`, `/../..` and so on: from there the way is not known.
inline std::optional<std::filesystem::path> way_down(const std::filesystem::path& root,
                                                     const std::filesystem::path& cgroup) {
  const auto leads_up = [](const std::filesystem::path& name) { return name == ".."; };
  if (!cgroup.is_absolute()) return std::nullopt;
  auto [from, to] = std::mismatch(root.begin(), root.end(), cgroup.begin(), cgroup.end());
  std::filesystem::path below;
  if (from != root.end()) {
    const auto names = root.relative_path();
    if (!std::all_of(names.begin(), names.end(), leads_up)) return std::nullopt;
  } else {
    if (std::any_of(to, cgroup.end(), leads_up)) return std::nullopt;
    for (; to != cgroup.end(); ++to) below /= *to;
  }
  return below;
}

/// A directory of cgroups from its mount point down to the cgroup of this process.
struct cgroup_branch {
  std::filesystem::path mount_point;
  std::filesystem::path below;
};

/// `file` is /proc/self/mountinfo. A line is `id parent device root mount_point options [tag...] -
/// type source super_options`. In a container the root of a mount is often the container's own
/// cgroup. A mount that shows other cgroups only is passed over.
inline std::vector<cgroup_branch> find_branches(std::istream& file, const cpu_cgroup& cgroup) {
  std::vector<cgroup_branch> found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string skipped, root, mount_point, type, super_options;
    fields >> skipped >> skipped >> skipped >> root >> mount_point;
    while (fields >> skipped && skipped != "-") {
    }
    if (!(fields >> type >> skipped >> super_options)) continue;
    if (cgroup.v1 ? type != "cgroup" || !lists(super_options, "cpu") : type != "cgroup2") continue;
    if (auto below = way_down(unescape(root), cgroup.path))
      found.push_back({unescape(mount_point), std::move(*below)});
  }
  return found;
}

/// A number above zero, if that is all that `text` says; otherwise 0.
inline std::int64_t positive_number(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() && n > 0 ? n : 0;
}

/// Rounded up. Where no quota is set, `quota` is `-1` or `max`.
inline std::optional<std::size_t> whole_cpus(std::string_view quota, std::string_view period) {
  const auto q = positive_number(quota), p = positive_number(period);
  if (q == 0 || p == 0) return std::nullopt;
  return static_cast<std::size_t>(q / p + (q % p != 0));
}

inline std::string first_line_of(const std::filesystem::path& name) {
  std::ifstream file(name);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The quota that `directory` itself sets, in CPUs.
inline std::optional<std::size_t> quota_of(const std::filesystem::path& directory, bool v1) {
  if (v1)
    return whole_cpus(first_line_of(directory / "cpu.cfs_quota_us"),
                      first_line_of(directory / "cpu.cfs_period_us"));
  const std::string line = first_line_of(directory / "cpu.max"); // both, with a space between them
  const auto quota = std::string_view(line).substr(0, line.find(' '));
  return whole_cpus(quota, std::string_view(line).substr(std::min(quota.size() + 1, line.size())));
}

BULKHEAD_DECL std::optional<std::size_t> cgroup_cpu_quota(const std::filesystem::path& root) {
  std::ifstream cgroups(root / "proc/self/cgroup");
  std::ifstream mounts(root / "proc/self/mountinfo");
  auto cgroup = find_cpu_cgroup(cgroups);
  std::optional<std::size_t> smallest;
  for (const auto& [mount_point, below] : find_branches(mounts, cgroup)) {
    auto directory = root / mount_point.relative_path();
    auto look = [&] {
      auto quota = quota_of(directory, cgroup.v1);
      if (quota) smallest = (std::min)(smallest.value_or(*quota), *quota);
    };
    look();
    for (const auto& name : below) {
      directory /= name;
      look();
    }
  }
  return smallest;
}

} // namespace bulkhead::detail

#endif
