//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What doc/stackful.adoc shows: stackful coroutines that use each other's stacks again.

#include <bulkhead/recycling_stack.hpp>

#include <boost/asio.hpp>
#include <boost/asio/spawn.hpp>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

void visit(asio::yield_context yield) {
  asio::steady_timer timer(yield.get_executor(), 1ms);
  timer.async_wait(yield);
}

void report(std::exception_ptr e) {
  if (e) std::rethrow_exception(e);
}

} // namespace

int main() try {
  // tag::spawn[]
  bulkhead::recycling_stack stack({.size = 64 * 1024, .max_cached = 50});
  asio::io_context io;
  for (int wave = 0; wave != 10; ++wave) {
    for (int i = 0; i != 100; ++i) asio::spawn(io, std::allocator_arg, stack, visit, report);
    io.run();
    io.restart();
  }
  const auto s = stack.stats();
  std::cout << s.created + s.reused << " coroutines, " << s.created << " stacks made, " << s.reused
            << " times one used again, " << s.cached << " kept\n";
  stack.trim(); // and now none
  // end::spawn[]
} catch (const std::exception& e) {
  std::cerr << "stackful: " << e.what() << "\n";
  return EXIT_FAILURE;
}
