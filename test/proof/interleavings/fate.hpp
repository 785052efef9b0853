//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_INTERLEAVINGS_FATE_HPP
#define BULKHEAD_TEST_PROOF_INTERLEAVINGS_FATE_HPP

#include "model.hpp"

#include <boost/asio/execution_context.hpp>

/// A context that knows whether it may still be used.
class ending_context : public boost::asio::execution_context {
public:
  ~ending_context() {
    shutdown();
    lives_.set(false);
    destroy();
  }

  /// A handler is posted there, or destroyed that belongs there.
  void touch() const {
    interleave::check(lives_.get(), "nothing reaches a context that has ended");
  }

private:
  interleave::shared<bool> lives_{true};
};

/// What became of one operation.
struct fate {
  bulkhead::detail::sync::atomic<int> completed{0};
  bulkhead::detail::sync::atomic<int> destroyed{0};

  bool is_over() const noexcept { return completed.load() + destroyed.load() != 0; }
  void end(bulkhead::detail::sync::atomic<int>& how) {
    interleave::check(!is_over(), "it ends once");
    how.fetch_add(1);
  }
};

#endif
