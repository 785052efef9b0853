//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What is read of text that others write: environment variables, and the kernel's files on cgroups.

#include "fuzz.hpp"

#include <bulkhead/detail/cgroup.hpp>
#include <bulkhead/impl/cgroup.ipp>
#include <bulkhead/sizing.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace detail = bulkhead::detail;
using test::check;
using test::did;
using test::same;

namespace {

using strings = std::vector<std::string>;

strings split(const std::string& text, char at) {
  strings parts(1);
  for (char c : text)
    if (c == at)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

/// A number of digits and nothing else, without its leading zeros.
std::optional<std::string> digits_of(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return {};
  return text.substr(std::min(text.find_first_not_of('0'), text.size()));
}

void threads_from_env(const std::string& text) {
  did("threads_from_env");
  const std::string value = text.c_str(); // a variable ends with the first zero
  const auto digits = digits_of(value);
  const bool too_large = digits && (digits->size() > 5 || std::atol(digits->c_str()) > 65536);
  std::size_t expected = 0;
  std::string refused;
  if (digits && !digits->empty() && !too_large)
    expected = static_cast<std::size_t>(std::atol(digits->c_str()));
  else
    refused = std::string("BULKHEAD_FUZZ must be a whole number of at ") +
              (too_large ? "most 65536" : "least 1") + " (got \"" + value + "\")";
  ::setenv("BULKHEAD_FUZZ", value.c_str(), 1);
  std::size_t found = 0;
  std::string error;
  try {
    found = bulkhead::threads_from_env("BULKHEAD_FUZZ", 7);
  } catch (const std::invalid_argument& e) {
    error = e.what();
  }
  same("the number", expected, found);
  same("the error", refused, error);
}

/// Up to 18 digits are a number for sure, and 20 or more are none.
std::optional<std::optional<std::int64_t>> positive_number(const std::string& text) {
  const auto digits = digits_of(text);
  if (!digits || digits->empty() || digits->size() > 19) return std::optional<std::int64_t>();
  if (digits->size() == 19) return {};
  return std::optional<std::int64_t>(std::atoll(digits->c_str()));
}

void whole_cpus(const std::string& text) {
  did("whole_cpus");
  const strings parts = split(text, '\n');
  const std::string quota = parts[0], period = parts.size() > 1 ? parts[1] : "";
  const auto found = detail::whole_cpus(quota, period);
  const auto q = positive_number(quota), p = positive_number(period);
  if (!q || !p) return;
  std::size_t expected = 0;
  if (*q && *p) {
    expected = static_cast<std::size_t>(**q / **p);
    if (static_cast<std::int64_t>(expected) * **p < **q) ++expected;
  }
  same("the number of processors", expected, found.value_or(0));
  check("a quota is at least one processor", found != std::optional<std::size_t>(0));
}

void find_cpu_cgroup(const std::string& text) {
  did("find_cpu_cgroup");
  std::string path;
  bool v1 = false;
  for (const std::string& line : split(text, '\n')) {
    const strings fields = split(line, ':');
    if (fields.size() < 3 || v1) continue;
    const strings controllers = split(fields[1], ',');
    const std::string rest = line.substr(fields[0].size() + fields[1].size() + 2);
    v1 = std::find(controllers.begin(), controllers.end(), "cpu") != controllers.end();
    if (v1 || fields[1].empty()) path = rest;
  }
  std::istringstream file(text);
  const auto found = detail::find_cpu_cgroup(file);
  same("the path", path, found.path.native());
  same("whether it is of version 1", v1, found.v1);
}

void unescape(const std::string& text) {
  did("unescape");
  std::string escaped;
  for (char c : text) {
    static constexpr char digit[] = "01234567";
    const auto u = static_cast<unsigned char>(c);
    if (std::string_view(" \t\n\\").find(c) == std::string_view::npos)
      escaped += c;
    else
      escaped += {'\\', digit[u >> 6], digit[(u >> 3) & 7], digit[u & 7]};
  }
  same("the text", text, detail::unescape(escaped));
}

/// A line of mountinfo that can be anything. What is found must lead down.
void find_branches(const std::string& text) {
  did("find_branches");
  for (bool v1 : {false, true}) {
    std::istringstream file(text);
    for (const auto& branch : detail::find_branches(file, {v1, "/a/b"}))
      for (const auto& name : branch.below) check("the way leads down", name != "..");
  }
}

strings any_path(test::choices& any) {
  strings names;
  for (unsigned n = any(4); n != 0; --n)
    names.push_back(std::array{"a", "b", "my app", ".."}[any(4)]);
  return names;
}

std::string text_of(const strings& names, const std::string& space) {
  std::string text;
  for (const auto& name : names) text += '/' + (name == "my app" ? "my" + space + "app" : name);
  return text.empty() ? "/" : text;
}

/// Mounts as the kernel describes them: which of them show this process' cgroup, and where.
void branches(test::choices& any) {
  did("branches");
  const bool v1 = any(2) != 0;
  const strings own = any_path(any);
  std::string mountinfo;
  strings expected;
  for (unsigned n = any(5); n != 0; --n) {
    const strings root = any_path(any);
    const bool of_v1 = any(2) != 0, has_cpu = any(3) != 0;
    const std::string place = "/m" + std::to_string(n);
    mountinfo += "31 23 0:28 " + text_of(root, "\\040") + ' ' + place + " rw,relatime " +
                 (any(2) != 0 ? "shared:9 master:1 " : "") + "- " + (of_v1 ? "cgroup" : "cgroup2") +
                 " cgroup rw" + (has_cpu ? ",cpu,cpuacct" : ",cpuset") + '\n';
    if (of_v1 != v1 || (v1 && !has_cpu)) continue;
    const auto leads_up = [](const std::string& name) { return name == ".."; };
    if (root.size() <= own.size() && std::equal(root.begin(), root.end(), own.begin())) {
      const strings rest(own.begin() + static_cast<std::ptrdiff_t>(root.size()), own.end());
      if (std::none_of(rest.begin(), rest.end(), leads_up))
        expected.push_back(place + ':' + (rest.empty() ? "" : text_of(rest, " ").substr(1)));
    } else if (std::all_of(root.begin(), root.end(), leads_up)) {
      expected.push_back(place + ':');
    }
  }
  std::istringstream file(mountinfo);
  strings found;
  for (const auto& b : detail::find_branches(file, {v1, text_of(own, " ")}))
    found.push_back(b.mount_point.native() + ':' + b.below.native());
  check("the branches are those of this process", found == expected);
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  test::choices any(data, size);
  const unsigned what = any(6);
  if (what == 5) {
    branches(any);
    return 0;
  }
  std::string text;
  while (!any.empty()) text += static_cast<char>(any.byte());
  std::array{threads_from_env, whole_cpus, find_cpu_cgroup, unescape, find_branches}[what](text);
  return 0;
}
