//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_ERROR_IPP
#define BULKHEAD_IMPL_ERROR_IPP

#include <bulkhead/error.hpp>

#include <string>
#include <utility>

namespace bulkhead {
namespace detail {

class category final : public boost::system::error_category {
public:
  // An identity of its own, so that two shared objects that both hold this header agree.
  constexpr category() noexcept : boost::system::error_category(0x62756c6b68656164) {}

  const char* name() const noexcept override { return "bulkhead"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
    case errc::queue_full:
      return "the queue is full";
    case errc::closed:
      return "closed: no further work is admitted";
    case errc::exceeds_limit:
      return "the weight exceeds the limit and can never be granted";
    case errc::would_deadlock:
      return "waiting here could never end";
    case errc::rate_limited:
      return "the rate limit is exhausted";
    case errc::circuit_open:
      return "the circuit is open";
    case errc::shed:
      return "shed: the queueing delay is too long";
    case errc::deadline_exceeded:
      return "the deadline was exceeded";
    case errc::lease_lost:
      return "the lease was lost";
    case errc::store_unavailable:
      return "the store is unavailable";
    }
    return std::string("unknown bulkhead error ") + std::to_string(value);
  }
};

} // namespace detail

BULKHEAD_DECL const boost::system::error_category& error_category() noexcept {
  static constexpr detail::category instance;
  return instance;
}

BULKHEAD_DECL error_code make_error_code(errc e) noexcept {
  return error_code(static_cast<int>(e), error_category());
}

BULKHEAD_DECL multiple_errors::multiple_errors(std::vector<std::exception_ptr> errors) noexcept
    : errors_(std::move(errors)) {}

BULKHEAD_DECL const char* multiple_errors::what() const noexcept {
  switch (errors_.size()) {
  case 0:
    return "nothing succeeded, and nothing failed";
  case 1:
    return "an operation failed";
  default:
    return "several operations failed";
  }
}

} // namespace bulkhead

#endif
