//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_HPP
#define BULKHEAD_HPP

// All of Bulkhead that needs nothing but Boost's headers.

#include <bulkhead/error.hpp>
#include <bulkhead/lanes.hpp>
#include <bulkhead/limit/keyed.hpp>
#include <bulkhead/limited_by.hpp>
#include <bulkhead/limiter.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/semaphore.hpp>
#include <bulkhead/shards.hpp>
#include <bulkhead/sizing.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/stats.hpp>
#include <bulkhead/task_group.hpp>
#include <bulkhead/tenants.hpp>
#include <bulkhead/timeout.hpp>
#include <bulkhead/version.hpp>

#endif
