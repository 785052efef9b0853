//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "pool": handlers from so many producers on so many workers, by each way that a pool is given
// work. Every handler has a byte of its own, which it counts up.

#include "proof.hpp"

#include <bulkhead/pool.hpp>

#include <boost/asio/post.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;

// Four ways in: posted from outside, posted by a handler, submitted, and submitted with a wait for room.
void produce(bulkhead::pool& pool, std::atomic<std::uint8_t>* runs, std::uint64_t n) {
  for (std::uint64_t i = 0; i + 4 <= n; i += 4) {
    std::atomic<std::uint8_t>* mine = runs + i;
    asio::post(pool, [mine, &pool] {
      ++mine[0];
      asio::post(pool, [mine] { ++mine[1]; });
    });
    pool.submit([mine] { ++mine[2]; });
    while (!pool.try_submit([mine] { ++mine[3]; })) std::this_thread::yield();
  }
}

void shape(std::size_t producers, std::size_t workers, std::uint64_t handlers,
           proof::tally& tally) {
  const std::uint64_t each = (handlers / producers + 3) / 4 * 4;
  const auto runs = std::make_unique<std::atomic<std::uint8_t>[]>(each * producers);
  {
    bulkhead::pool pool(workers);
    std::vector<std::thread> threads;
    for (std::size_t p = 0; p != producers; ++p)
      threads.emplace_back([&, p] { produce(pool, runs.get() + p * each, each); });
    for (auto& t : threads) t.join();
    pool.join();
  }
  const auto wrong = std::count_if(runs.get(), runs.get() + each * producers,
                                   [](auto& times) { return times.load() != 1; });
  tally.add(each * producers);
  if (wrong)
    tally.lose(static_cast<std::uint64_t>(wrong),
               std::to_string(producers) + " producers, " + std::to_string(workers) +
                   " workers: " + std::to_string(wrong) + " handlers did not run once");
}

void run(const proof::load& load, proof::tally& tally) {
  const std::uint64_t all = load.either(100'000'000, 1'000'000'000);
  for (std::size_t producers : {1, 2, 4, 8})
    for (std::size_t workers : {1, 2, 4, 8}) shape(producers, workers, all / 16, tally);
}

const proof::area pool("pool", "each handler runs exactly once", &run);

} // namespace
