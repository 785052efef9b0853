//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_BENCH_MOODYCAMEL_POOL_HPP
#define BULKHEAD_BENCH_MOODYCAMEL_POOL_HPP

#include <cstddef>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include <concurrentqueue/blockingconcurrentqueue.h>

namespace bench {

/// What one writes with a good queue in an afternoon. An empty function ends a worker.
class moodycamel_pool {
public:
  explicit moodycamel_pool(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~moodycamel_pool() {
    for (std::size_t i = 0; i < workers_.size(); ++i) queue_.enqueue(nullptr);
    for (auto& w : workers_) w.join();
  }

  void push(std::function<void()> f) { queue_.enqueue(std::move(f)); }

private:
  void work() {
    moodycamel::ConsumerToken token(queue_);
    std::function<void()> f;
    for (;;) {
      queue_.wait_dequeue(token, f);
      if (!f) return;
      f();
    }
  }

  moodycamel::BlockingConcurrentQueue<std::function<void()>> queue_;
  std::vector<std::thread> workers_;
};

} // namespace bench

#endif
