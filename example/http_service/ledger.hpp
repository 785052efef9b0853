// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_HTTP_SERVICE_LEDGER_HPP
#define BULKHEAD_EXAMPLE_HTTP_SERVICE_LEDGER_HPP

#include <boost/beast/http/status.hpp>

#include <cstdint>

namespace http_service {

/// What became of the requests. Once none is in progress, accepted == answered() + abandoned.
struct ledger {
  std::uint64_t accepted = 0;
  std::uint64_t ok = 0;        // 200
  std::uint64_t refused = 0;   // 503
  std::uint64_t timed_out = 0; // 504
  std::uint64_t bad = 0;       // 4xx
  std::uint64_t failed = 0;    // anything else
  std::uint64_t abandoned = 0; // the client went away, or the drain time was over

  std::uint64_t answered() const { return ok + refused + timed_out + bad + failed; }

  std::uint64_t& entry(boost::beast::http::status s) {
    using boost::beast::http::status;
    if (s == status::ok) return ok;
    if (s == status::service_unavailable) return refused;
    if (s == status::gateway_timeout) return timed_out;
    if (to_status_class(s) == boost::beast::http::status_class::client_error) return bad;
    return failed;
  }
};

/// A request that the server has read and now owes an answer. It ends up in exactly one entry.
class accepted_request {
public:
  explicit accepted_request(ledger& l) : ledger_(l) { ++ledger_.accepted; }
  accepted_request(const accepted_request&) = delete;
  accepted_request& operator=(const accepted_request&) = delete;

  ~accepted_request() {
    if (!answered_) ++ledger_.abandoned;
  }

  void answered(boost::beast::http::status s) {
    answered_ = true;
    ++ledger_.entry(s);
  }

private:
  ledger& ledger_;
  bool answered_ = false;
};

} // namespace http_service

#endif
