// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_SUPPORT_GAUGE_HPP
#define BULKHEAD_EXAMPLE_SUPPORT_GAUGE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace example {

/// Requests in progress, as a server sees them: those that were read, and whose answer is not ready to
/// be sent.
///
/// When it begins to send, the server is done with a request: as soon as the client has the answer,
/// it may have sent the next request.
struct gauge {
  std::uint64_t requests = 0;
  std::size_t now = 0;
  std::size_t highest = 0;
};

/// One request in progress, as long as this lives.
class in_progress {
public:
  explicit in_progress(gauge& g) : gauge_(g) {
    ++gauge_.requests;
    gauge_.highest = std::max(gauge_.highest, ++gauge_.now);
  }
  in_progress(const in_progress&) = delete;
  in_progress& operator=(const in_progress&) = delete;
  ~in_progress() { --gauge_.now; }

private:
  gauge& gauge_;
};

} // namespace example

#endif
