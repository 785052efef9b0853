//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_HOLDER_HPP
#define BULKHEAD_DETAIL_WAIT_HOLDER_HPP

#include <bulkhead/detail/wait/gate.hpp>
#include <bulkhead/detail/wait/intrusive_list.hpp>
#include <bulkhead/permit.hpp>
#include <bulkhead/stats.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <source_location>
#include <thread>

namespace bulkhead::detail {

class semaphore_core;

/// Who asked for units of a semaphore, where that is tracked: it stands between the permit and the
/// engine, and goes with the permit.
class holder final : public permit_source, public list_hook<> {
public:
  using clock = std::chrono::steady_clock;

  holder(semaphore_core& core, std::size_t weight, const std::source_location& where, task_id task,
         bool operations) noexcept
      : core_(core), weight_(weight), where_(where), task_(task), operations_(operations) {}

  /// For a part of the units of `whole`.
  holder(const holder& whole, std::size_t weight) noexcept
      : core_(whole.core_), weight_(weight), since_(whole.since_), where_(whole.where_),
        thread_(whole.thread_), task_(whole.task_), operations_(whole.operations_) {}

  std::size_t weight() const noexcept { return weight_; }
  task_id task() const noexcept { return task_; }

  /// Whether the units are back only when its task gives them back. Those of limited_by go with the
  /// operation, which ends also while the task waits.
  bool depends_on(task_id task) const noexcept { return task_ == task && !operations_; }

  permit_user describe(clock::time_point now) const noexcept {
    return {weight_, (std::max)(now - since_, clock::duration(0)), where_, thread_};
  }

  void has_been_granted() noexcept { since_ = clock::now(); }

private:
  void give_back(std::size_t weight, outcome result) noexcept override;
  void forget(std::size_t weight) noexcept override;
  permit_source& split(std::size_t n) override;
  void merge(permit_source& other, std::size_t n) noexcept override;
  const void* limiter() const noexcept override;

  semaphore_core& end() noexcept;

  semaphore_core& core_;
  std::size_t weight_; // changes under the engine's lock
  clock::time_point since_ = clock::now();
  const std::source_location where_;
  const std::thread::id thread_ = std::this_thread::get_id();
  const task_id task_;
  const bool operations_; // limited_by has asked for them
};

} // namespace bulkhead::detail

#endif
