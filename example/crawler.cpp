// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// A crawler: an HTTP client of Boost.Beast and coroutines that follows all links of a web of many
// hosts, with at most so many requests in flight over all, and at most so many to each host.
//
//     crawler --hosts 200 --pages 50 --in-flight 1000 --per-host 10
//
// It serves that web itself, from a thread of its own, and the server says in the end what it has
// seen: so whether the limits were kept is not the crawler's own word. Some pages never answer, some
// answer 500, and some hosts close the connection instead.
//
// crawl.cpp is the part with the limits in it.
//
// The exit status is 0; 1 if a limit was broken or the crawl failed; 2 for bad options; and 130
// after SIGINT or SIGTERM, which end the crawl in good order.

#include "crawler/crawl.hpp"
#include "crawler/options.hpp"
#include "crawler/server.hpp"
#include "crawler/web.hpp"
#include "support/descriptors.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

namespace {

using std::uintmax_t;

/// Both ends of every connection are ours.
void ensure_descriptors(const crawler::options& o) {
  constexpr std::uint64_t others = 32;
  const std::uint64_t needed = 2 * o.in_flight + others;
  example::ensure_descriptors("--in-flight " + std::to_string(o.in_flight), needed);
}

void print_pages(const crawler::crawl& c, const crawler::web& web, double seconds) {
  using crawler::manner;
  const crawler::tally& t = c.result();
  auto census = web.census();
  std::printf("%ju pages visited in %.2f s, %.0f per second\n", uintmax_t{t.visited()}, seconds,
              static_cast<double>(t.visited()) / seconds);
  std::printf("%9ju fetched             (%ju can be)\n", uintmax_t{t.fetched},
              uintmax_t{census[manner::answers]});
  std::printf("%9ju timeouts            (%ju never answer)\n", uintmax_t{t.timed_out},
              uintmax_t{census[manner::never_answers]});
  std::printf("%9ju HTTP errors         (%ju answer 500)\n", uintmax_t{t.http_errors},
              uintmax_t{census[manner::fails]});
  std::printf("%9ju connection errors   (%ju close the connection)\n",
              uintmax_t{t.connection_errors}, uintmax_t{census[manner::hangs_up]});
  if (c.interrupted())
    std::printf("interrupted: %ju pages were found and not visited\n",
                uintmax_t{t.found - t.visited()});
}

void print_host(const crawler::testimony& seen, std::size_t host) {
  std::printf("  %-16s %8ju requests, at most %zu in flight\n", crawler::web::name_of(host).c_str(),
              uintmax_t{seen.hosts[host].requests}, seen.hosts[host].highest);
}

/// Prints what the server has seen, and says whether the limits were kept.
bool print_testimony(const crawler::testimony& seen, const crawler::options& o) {
  constexpr std::size_t most = 20, shown = 10; // hosts; of too many, those that come first

  std::printf("\nThe server's word:\n");
  std::vector<std::size_t> hosts(seen.hosts.size());
  std::iota(hosts.begin(), hosts.end(), std::size_t{0});
  const auto highest = [&](std::size_t host) { return seen.hosts[host].highest; };
  std::ranges::stable_sort(hosts, std::greater<>(), highest);
  const std::size_t n = hosts.size() > most ? shown : hosts.size();
  for (std::size_t i = 0; i != n; ++i) print_host(seen, hosts[i]);
  if (n != hosts.size())
    std::printf("  and %zu hosts more, at most %zu to %zu in flight\n", hosts.size() - n,
                highest(hosts.back()), highest(hosts[n]));

  const auto twice = std::ranges::count_if(seen.visits, [](auto visits) { return visits > 1; });
  const auto once = std::ranges::count(seen.visits, 1u);
  std::printf("%zd pages were asked for once, %zd more than once; %ju requests were for none\n",
              once, twice, uintmax_t{seen.strays});
  std::printf("highest in flight: %zu (allowed %zu)\n", seen.all.highest, o.in_flight);
  std::printf("highest per host: %zu (allowed %zu)\n", highest(hosts.front()), o.per_host);
  return seen.all.highest <= o.in_flight && highest(hosts.front()) <= o.per_host;
}

int crawl(const crawler::options& o) {
  ensure_descriptors(o);
  const crawler::web web(o);
  crawler::server server(web);
  boost::asio::io_context io;
  crawler::crawl crawl(io, o, server.endpoint());
  boost::asio::co_spawn(io, crawl.run({crawler::web::name_of(0), "/"}), [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  const auto start = std::chrono::steady_clock::now();
  io.run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;

  print_pages(crawl, web, took.count());
  const bool kept = print_testimony(server.stop(), o);
  std::puts(kept ? "limits kept" : "LIMITS BROKEN");
  if (!kept) return 1;
  return crawl.interrupted() ? 130 : 0;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<crawler::options> o;
  try {
    o = crawler::read_options(argc, argv, std::cout);
  } catch (const std::exception& e) {
    std::cerr << "crawler: " << e.what() << '\n';
    return 2;
  }
  try {
    return o ? crawl(*o) : 0;
  } catch (const std::exception& e) {
    std::cerr << "crawler: " << e.what() << '\n';
    return 1;
  }
}
