// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_SUBSCRIBERS_HPP
#define BULKHEAD_EXAMPLE_WEBHOOK_FANOUT_SUBSCRIBERS_HPP

#include <cstddef>

namespace webhook_fanout {

/// How a subscriber takes what is delivered to it. One of each kind comes first, and all others are
/// ordinary.
enum class kind : std::size_t {
  ordinary, // 204 after the latency
  slow,     // 204 after a longer one
  failing,  // 500
  silent,   // accepts the connection, and never answers
  absent    // refuses the connection
};

inline constexpr std::size_t kinds = 5;

inline constexpr kind all_kinds[kinds] = {kind::ordinary, kind::slow, kind::failing, kind::silent,
                                          kind::absent};

inline const char* name_of(kind k) {
  constexpr const char* names[kinds] = {"ordinary", "slow", "failing", "silent", "absent"};
  return names[static_cast<std::size_t>(k)];
}

inline kind kind_of(std::size_t subscriber) {
  return subscriber < kinds ? all_kinds[subscriber] : kind::ordinary;
}

inline std::size_t count_of(kind k, std::size_t subscribers) {
  return k == kind::ordinary ? subscribers - (kinds - 1) : 1;
}

} // namespace webhook_fanout

#endif
