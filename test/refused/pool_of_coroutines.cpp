//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// refused: pools and lanes run functions, not coroutines: give this one to a bulkhead::task_group

#include <bulkhead/pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/detached.hpp>

boost::asio::awaitable<void> coroutine();

void start(bulkhead::pool& p) { p.async_submit([] { return coroutine(); }, boost::asio::detached); }
