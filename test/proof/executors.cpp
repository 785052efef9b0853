//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "executors": {io_context, strand, pool, lane, another context} x {bound, unbound} x every token x
// every asynchronous operation, when it completes at once and when it has to wait. The operations are in
// executors_*.cpp.

#include "executors.hpp"
#include "proof.hpp"

#include <bulkhead/lanes.hpp>
#include <bulkhead/pool.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <cstdint>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace proof::executors;

/// One thread of each kind.
class places {
public:
  places() {
    const auto add = [this](std::string_view name, auto ex) {
      all_.push_back({name, ex, [ex] { return ex.running_in_this_thread(); }});
    };
    add("io_context", io_.get_executor());
    add("strand", asio::make_strand(under_strand_));
    add("pool", pool_.get_executor());
    add("lane", lane_.get_executor());
    add("another context", another_.get_executor());
  }

  ~places() {
    all_.clear();
    work_.reset();
    thread_.join();
  }

  const std::vector<place>& all() const { return all_; }

  /// Of a thread that none of them uses.
  const place& other() const { return other_; }

private:
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  std::thread thread_{[this] { io_.run(); }};
  asio::thread_pool under_strand_{1}, under_lane_{1}, another_{1}, others_{1};
  bulkhead::pool pool_{1};
  bulkhead::lanes set_{under_lane_, {.concurrency = 1}};
  bulkhead::lane lane_{set_.open()};
  std::vector<place> all_;
  place other_{"other", others_.get_executor(), {}};
};

void run(const proof::load& load, proof::tally& tally) {
  const std::uint64_t times = load.either(1, 100);
  places p;
  proof::watchdog dog(tally);
  for (std::uint64_t i = 0; i != times; ++i)
    for (const operation* op : operation::all())
      for (bool waits : {false, true})
        for (const place& at : p.all())
          for (bool bound : {false, true})
            for (const auto& [token, token_name] : tokens) {
              const std::string what = std::string(op->name) + (waits ? " that waits, " : ", ") +
                                       std::string(token_name) + (bound ? " bound to" : " at") +
                                       " a place of kind " + std::string(at.name);
              dog.at(what);
              const std::string wrong = op->run({token, at, p.other(), bound, waits});
              tally.expect(wrong.empty(), what + ": " + wrong);
            }
  tally.note(std::to_string(tally.tried() / times) + " combinations of " +
             std::to_string(operation::all().size()) + " operations, " +
             std::to_string(std::size(tokens)) + " tokens and " + std::to_string(p.all().size()) +
             " kinds of executor");
}

const proof::area executors("executors", "the right executor every time, never inline", &run);

} // namespace
