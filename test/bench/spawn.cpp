//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Stackful coroutines that start and end, one after another in each of some chains, all on our pool:
// what differs is where their stacks come from.

#include "contenders.hpp"
#include "measure.hpp"

#include <bulkhead/recycling_stack.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <latch>
#include <memory>
#include <stdexcept>

namespace bench {
namespace {

/// Starts `coroutines` coroutines, at most `chains` at a time. Each posts its successor at its end: in
/// the same step that would run on top of it.
template <class Stack>
class chained {
public:
  chained(bulkhead::pool& pool, const Stack& stack, std::uint64_t coroutines, std::size_t chains)
      : pool_(&pool), stack_(stack), coroutines_(coroutines),
        chains_(static_cast<std::ptrdiff_t>(chains)) {
    for (std::size_t i = 0; i < chains; ++i) post_next();
  }

  void wait() { chains_.wait(); }

private:
  void post_next() {
    asio::post(*pool_, [this] { start_next(); });
  }

  void start_next() {
    const auto id = next_id_.fetch_add(1, std::memory_order_relaxed);
    if (id > coroutines_) return chains_.count_down();
    asio::spawn(
        *pool_, std::allocator_arg, stack_,
        [id](asio::yield_context yield) {
          asio::post(yield);
          count_task(id);
        },
        [this](std::exception_ptr) { post_next(); });
  }

  bulkhead::pool* pool_;
  Stack stack_;
  std::uint64_t coroutines_;
  std::atomic<std::uint64_t> next_id_{1};
  std::latch chains_;
};

template <class Stack>
void spawn(const options& o, std::size_t threads, report& r) {
  const std::uint64_t n = o.count("tasks", 200'000), few = n / 10;
  const auto chains = o.count("chains", 1);
  {
    const Stack stack;
    bulkhead::pool pool(threads);
    chained warm_up(pool, stack, few, chains);
    warm_up.wait();
    stopwatch watch;
    chained measured(pool, stack, n, chains);
    measured.wait();
    r.add_per_task(watch.read(), n);
    pool.join(); // somebody may still be on the way out of what is about to end
  }
  if (sum(&tally::tasks) != few + n || sum(&tally::id_sum) != (few * (few + 1) + n * (n + 1)) / 2)
    throw std::runtime_error("coroutines were lost, or have run twice");
}

template <class Stack>
void on_some_threads(const options& o, report& r) {
  spawn<Stack>(o, o.threads(), r);
}

template <class Stack>
void on_one_thread(const options& o, report& r) {
  spawn<Stack>(o, 1, r);
}

} // namespace

std::vector<measurement> spawns() {
  using namespace boost::context;
  using bulkhead::recycling_stack;
  return {
      {"spawn", "recycling_stack", on_some_threads<recycling_stack>},
      {"spawn", "fixedsize", on_some_threads<fixedsize_stack>},
      {"spawn", "protected_fixedsize", on_some_threads<protected_fixedsize_stack>},
      {"spawn", "recycling_stack_1", on_one_thread<recycling_stack>},
      {"spawn", "fixedsize_1", on_one_thread<fixedsize_stack>},
      {"spawn", "pooled_fixedsize_1", on_one_thread<pooled_fixedsize_stack>},
  };
}

} // namespace bench
