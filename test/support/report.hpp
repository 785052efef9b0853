// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_TEST_SUPPORT_REPORT_HPP
#define BULKHEAD_TEST_SUPPORT_REPORT_HPP

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace test {

/// What an example says in the end, from which numbers are picked by the words beside them.
class report {
public:
  explicit report(std::string text) : text_(std::move(text)) {}

  /// The number that stands before `words`, the first time that these come.
  std::uint64_t before(std::string_view words) const {
    const std::size_t end = find(' ' + std::string(words));
    return std::stoull(text_.substr(text_.find_last_not_of("0123456789", end - 1) + 1));
  }

  /// The number that follows `words`.
  std::uint64_t after(std::string_view words) const {
    return std::stoull(text_.substr(find(std::string(words) + ' ') + words.size() + 1));
  }

  /// The lines from `words` on.
  report from(const std::string& words) const { return report(text_.substr(find(words))); }

  bool ends_with(std::string_view words) const { return text_.ends_with(words); }
  const std::string& text() const noexcept { return text_; }

private:
  std::size_t find(const std::string& words) const {
    const std::size_t at = text_.find(words);
    BOOST_TEST_REQUIRE(at != text_.npos, "\"" << words << "\" is not in:\n" << text_);
    return at;
  }

  std::string text_;
};

} // namespace test

#endif
