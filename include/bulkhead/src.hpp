//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_SRC_HPP
#define BULKHEAD_SRC_HPP

// The non-template half of the library, for the one translation unit of a program that is built
// with BULKHEAD_SEPARATE_COMPILATION. A header-only program does not include this.

#if !defined(BULKHEAD_SEPARATE_COMPILATION)
#error "<bulkhead/src.hpp> is for programs built with BULKHEAD_SEPARATE_COMPILATION"
#endif

#include <bulkhead/impl/cgroup.ipp>
#include <bulkhead/impl/error.ipp>
#include <bulkhead/impl/gate.ipp>
#include <bulkhead/impl/group_core.ipp>
#include <bulkhead/impl/lanes.ipp>
#include <bulkhead/impl/lanes_core.ipp>
#include <bulkhead/impl/pool.ipp>
#include <bulkhead/impl/run_queue.ipp>
#include <bulkhead/impl/runner.ipp>
#include <bulkhead/impl/scheduler.ipp>
#include <bulkhead/impl/scheduler_admission.ipp>
#include <bulkhead/impl/scheduler_states.ipp>
#include <bulkhead/impl/scheduler_workers.ipp>
#include <bulkhead/impl/semaphore_core.ipp>
#include <bulkhead/impl/shards.ipp>
#include <bulkhead/impl/sizing.ipp>

#endif
