// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// An HTTP server as they are written with Boost.Beast today, coroutines on an io_context, with a
// pool, two semaphores and task groups of Bulkhead embedded in it:
//
//     http_service --port 8080 --pool-threads 2 &
//     curl --data-binary hello 'http://127.0.0.1:8080/process?tasks=4&bytes=1000000'
//
// service.cpp is the part with the work in it, server.cpp the one with the connections.

#include "http_service/options.hpp"
#include "http_service/server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <iomanip>
#include <iostream>
#include <optional>

namespace {

void serve(const http_service::options& o) {
  http_service::ledger requests;
  boost::asio::io_context io;
  http_service::server server(io, o, requests);
  std::cout << "listening on 127.0.0.1:" << server.port() << std::endl;
  boost::asio::co_spawn(io, server.run(), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  io.run();

  const std::chrono::duration<double> drained = server.drain_time();
  std::cout << "drained in " << std::fixed << std::setprecision(3) << drained.count()
            << " s: " << requests.accepted << " accepted, " << requests.answered() << " answered, "
            << requests.abandoned << " abandoned" << std::endl;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<http_service::options> o;
  try {
    o = http_service::read_options(argc, argv, std::cout);
  } catch (const std::exception& e) {
    std::cerr << "http_service: " << e.what() << '\n';
    return 2;
  }
  try {
    if (o) serve(*o);
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "http_service: " << e.what() << '\n';
    return 1;
  }
}
