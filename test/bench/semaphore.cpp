//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// W6: a semaphore that coroutines wait for. Ours, and Asio's channel filled with tokens.

#include "contenders.hpp"
#include "coroutine.hpp"
#include "measure.hpp"

#include <bulkhead/semaphore.hpp>

#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace bench {
namespace {

using asio::use_awaitable;

class our_semaphore {
public:
  template <class Executor>
  our_semaphore(const Executor& ex, std::size_t limit) : semaphore_(ex, limit) {}

  auto async_acquire() { return semaphore_.async_acquire(use_awaitable); }
  static void release(bulkhead::permit& p) { p.release(); }

private:
  bulkhead::semaphore semaphore_;
};

class channel_of_tokens {
public:
  template <class Executor>
  channel_of_tokens(const Executor& ex, std::size_t limit) : channel_(ex, limit) {
    for (std::size_t i = 0; i < limit; ++i) channel_.try_send(boost::system::error_code(), 0);
  }

  auto async_acquire() { return channel_.async_receive(use_awaitable); }
  void release(int token) { channel_.try_send(boost::system::error_code(), token); }

private:
  asio::experimental::concurrent_channel<void(boost::system::error_code, int)> channel_;
};

template <class Semaphore>
asio::awaitable<void> acquire_and_release(Semaphore& s, std::size_t times) {
  for (; times != 0; --times) {
    auto held = co_await s.async_acquire();
    s.release(held);
  }
}

template <class Semaphore>
asio::awaitable<void> measure_uncontended(Semaphore& s, std::size_t times, report& r) {
  co_await acquire_and_release(s, times / 10);
  stopwatch watch;
  co_await acquire_and_release(s, times);
  r.add_per_task(watch.read(), times);
}

template <class Pool, class Semaphore>
void uncontended(const options& o, report& r) {
  Pool pool(o.threads());
  Semaphore s(pool.get_executor(), 1);
  run_to_end(pool.get_executor(), measure_uncontended(s, o.count("tasks", 1'000'000), r));
}

/// What coroutines do that want more than there is: the holder gives way to others once. That no
/// more than the limit hold it is checked in a round that is not measured: two steps on a line of
/// memory that all share take longer than what is to be measured.
template <class Executor, class Semaphore>
struct contest {
  Executor ex;
  Semaphore semaphore;
  std::size_t limit;
  std::atomic<std::size_t> holders{0};
  std::atomic<std::size_t> rounds{0};
  std::atomic<bool> exceeded{false};

  template <bool Checked>
  asio::awaitable<void> contend(std::size_t times) {
    for (; times != 0; --times) {
      auto held = co_await semaphore.async_acquire();
      if (Checked && ++holders > limit) exceeded = true;
      co_await asio::post(ex, use_awaitable);
      if (Checked) --holders;
      semaphore.release(held);
    }
    ++rounds;
  }

  template <bool Checked>
  void run(std::size_t coroutines, std::size_t times_each) {
    rounds = 0;
    for (std::size_t i = 0; i < coroutines; ++i)
      asio::co_spawn(ex, contend<Checked>(times_each), [](std::exception_ptr) {});
    wait_until([&] { return rounds == coroutines; });
    if (exceeded) throw std::runtime_error("more than the limit held the semaphore");
  }
};

template <class Pool, class Semaphore>
void contended(const options& o, report& r) {
  const auto coroutines = o.count("coroutines", 64), limit = o.count("limit", 4);
  const auto each = o.count("tasks", 300'000) / coroutines;
  Pool pool(o.threads());
  auto ex = pool.get_executor();
  contest<decltype(ex), Semaphore> c{ex, Semaphore(ex, limit), limit};
  c.template run<true>(coroutines, each / 10);
  stopwatch watch;
  c.template run<false>(coroutines, each);
  r.add_per_task(watch.read(), each * coroutines);
}

} // namespace

std::vector<measurement> semaphores() {
  return {
      {"W6u", "bulkhead", uncontended<bulkhead_pool, our_semaphore>},
      {"W6u", "bulkhead_on_asio", uncontended<asio_pool, our_semaphore>},
      {"W6u", "channel", uncontended<asio_pool, channel_of_tokens>},
      {"W6u", "channel_1", uncontended<asio_pool_1, channel_of_tokens>},
      {"W6c", "bulkhead", contended<bulkhead_pool, our_semaphore>},
      {"W6c", "bulkhead_on_asio", contended<asio_pool, our_semaphore>},
      {"W6c", "channel", contended<asio_pool, channel_of_tokens>},
      {"W6c", "channel_1", contended<asio_pool_1, channel_of_tokens>},
      {"W6c", "channel_on_bulkhead", contended<bulkhead_pool, channel_of_tokens>},
  };
}

} // namespace bench
