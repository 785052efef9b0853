//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_RUN_WORKER_STATE_HPP
#define BULKHEAD_DETAIL_RUN_WORKER_STATE_HPP

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>

namespace bulkhead::detail {

/// The place for the state of one worker of a stateful_pool, as the scheduler sees it. All its
/// functions are called on that worker's thread.
class worker_state {
public:
  virtual ~worker_state() = default;

  /// Makes the state where there is none. Says why not, if that fails.
  virtual std::exception_ptr make() noexcept = 0;

  /// Destroys it.
  virtual void destroy() noexcept = 0;

  /// For how long it is not to be made, because that has failed. Time may go by faster than it says.
  virtual std::chrono::nanoseconds rest() const noexcept = 0;
};

/// Where the workers of a stateful_pool get theirs.
class state_source {
public:
  virtual std::unique_ptr<worker_state> place_for(std::size_t worker) = 0;

protected:
  ~state_source() = default;
};

} // namespace bulkhead::detail

#endif
