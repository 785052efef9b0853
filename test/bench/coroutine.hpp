//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_BENCH_COROUTINE_HPP
#define BULKHEAD_BENCH_COROUTINE_HPP

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>

#include <exception>
#include <future>
#include <utility>

namespace bench {

namespace asio = boost::asio;

/// Runs a coroutine on `ex` and blocks until it has ended. Not by asio::use_future, which would
/// start the threads of Asio's system_context.
template <class Executor>
void run_to_end(const Executor& ex, asio::awaitable<void> coroutine) {
  std::promise<void> promise;
  auto ended = promise.get_future();
  asio::co_spawn(ex, std::move(coroutine),
                 [promise = std::move(promise)](std::exception_ptr e) mutable {
                   if (e)
                     promise.set_exception(e);
                   else
                     promise.set_value();
                 });
  ended.get();
}

} // namespace bench

#endif
