// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "url.hpp"

#include <utility>

namespace crawler {

std::optional<url> resolve(const url& base, std::string_view link) {
  constexpr std::string_view scheme = "http://";

  link = link.substr(0, link.find('#')); // another place on the same page
  if (link.starts_with('/')) return url{base.host, std::string(link)};
  if (!link.starts_with(scheme)) return std::nullopt;
  link.remove_prefix(scheme.size());
  const std::size_t slash = link.find('/');
  const std::string_view host = link.substr(0, slash);
  if (host.empty()) return std::nullopt;
  return url{std::string(host), slash == link.npos ? "/" : std::string(link.substr(slash))};
}

std::vector<url> links_in(std::string_view html, const url& base) {
  constexpr std::string_view mark = "href=\"";

  std::vector<url> result;
  for (;;) {
    const std::size_t begin = html.find(mark);
    if (begin == html.npos) return result;
    html.remove_prefix(begin + mark.size());
    const std::size_t end = html.find('"');
    if (end == html.npos) return result;
    if (auto target = resolve(base, html.substr(0, end))) result.push_back(std::move(*target));
  }
}

} // namespace crawler
