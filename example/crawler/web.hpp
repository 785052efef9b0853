// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_CRAWLER_WEB_HPP
#define BULKHEAD_EXAMPLE_CRAWLER_WEB_HPP

#include "options.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace crawler {

/// How a page is served.
enum class manner {
  answers,       // 200, with links
  fails,         // 500
  hangs_up,      // the connection closes without an answer
  never_answers, // until the client has gone
};

/// The web that is crawled: which pages there are, what they link to, and how they are served. A
/// function of the options, so that every crawl finds the same.
///
/// Page p of a host links to 4p+1 ... 4p+4 of that host, and the first page of a host to the first
/// ones of other hosts in the same manner. So from the first page of the first host there is a way to
/// all. In addition every page links to some that are known from elsewhere. Only a page at the end
/// of all ways is served in a bad manner, so that nothing becomes invisible with it.
class web {
public:
  struct place {
    std::size_t host;
    std::size_t page;
  };

  explicit web(const options& o) : hosts_(o.hosts), pages_(o.pages), latency_(o.latency) {}

  std::size_t hosts() const noexcept { return hosts_; }
  std::size_t pages() const noexcept { return pages_; }

  static std::string name_of(std::size_t host);
  std::optional<place> find(std::string_view host, std::string_view target) const;

  manner manner_of(place p) const;
  std::chrono::milliseconds latency_of(place p) const;
  std::string body_of(place p) const;

  /// How many pages are served in each manner.
  std::map<manner, std::uint64_t> census() const;

private:
  const std::size_t hosts_;
  const std::size_t pages_; // of each host
  const std::chrono::milliseconds latency_;
};

} // namespace crawler

#endif
