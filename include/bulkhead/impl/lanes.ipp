//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_LANES_IPP
#define BULKHEAD_IMPL_LANES_IPP

#include <bulkhead/lanes.hpp>

#include <sstream>
#include <stdexcept>

namespace bulkhead {
namespace detail {

BULKHEAD_DECL void check_lane_number(const char* what, std::size_t n) {
  if (n == 0) throw std::invalid_argument(std::string(what) + " must be at least 1 (got 0)");
}

[[noreturn]] inline void invalid_lane_number(const char* what, const char* must, double value) {
  std::ostringstream message;
  message << what << " must be " << must << " (got " << value << ")";
  throw std::invalid_argument(message.str());
}

/// Beyond these, a turn of one would be too little, or too much, for the virtual time to tell.
BULKHEAD_DECL void check_lane_weight(const char* what, double weight) {
  if (!(weight >= 1e-6 && weight <= 1e6)) invalid_lane_number(what, "from 1e-6 to 1e6", weight);
}

BULKHEAD_DECL lanes_core::settings checked(lanes_options&& o) {
  check_lane_number("lanes_options::concurrency", o.concurrency);
  check_lane_number("lanes_options::batch", o.batch);
  if (!(o.minimum_share >= 0 && o.minimum_share < 1))
    invalid_lane_number("lanes_options::minimum_share", "at least 0 and less than 1",
                        o.minimum_share);
  return {o.concurrency, o.batch,           o.minimum_share,
          false,         std::move(o.name), std::move(o.on_exception)};
}

BULKHEAD_DECL lane_core::settings checked(lane_options&& o) {
  check_lane_weight("lane_options::weight", o.weight);
  check_lane_number("lane_options::queue_limit", o.queue_limit);
  check_lane_number("lane_options::concurrency", o.concurrency);
  return {std::move(o.name), o.weight, o.priority, o.queue_limit, o.waiter_limit, o.concurrency};
}

BULKHEAD_DECL std::shared_ptr<lanes_core> make_lanes(const asio::any_io_executor& inner,
                                                     lanes_core::settings s) {
  auto core = std::make_shared<lanes_core>(inner, std::move(s));
  core->attach();
  return core;
}

} // namespace detail

BULKHEAD_DECL lane::executor_type limit_concurrency(const asio::any_io_executor& ex,
                                                    std::size_t n) {
  detail::check_lane_number("limit_concurrency: n", n);
  lanes_options all;
  all.concurrency = n;
  detail::lanes_core::settings set = detail::checked(std::move(all));
  set.is_strand = n == 1;
  lane_options one;
  one.concurrency = n;
  return lane::executor_type(detail::lane_core::open(detail::make_lanes(ex, std::move(set)),
                                                     detail::checked(std::move(one))));
}

} // namespace bulkhead

#endif
