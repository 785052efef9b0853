// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_CRAWLER_URL_HPP
#define BULKHEAD_EXAMPLE_CRAWLER_URL_HPP

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crawler {

/// "http://host-1.test/2". As much of URLs as links need that have neither port nor user, and as
/// much of HTML as it takes to find them.
struct url {
  std::string host;
  std::string target; // from the first slash on

  auto operator<=>(const url&) const = default;
};

/// What `link` means on the page `base`. Empty if that is nothing that could be fetched.
std::optional<url> resolve(const url& base, std::string_view link);

/// What a page links to, in its order.
std::vector<url> links_in(std::string_view html, const url& base);

} // namespace crawler

#endif
