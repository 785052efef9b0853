// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "../support/command_line.hpp"
#include "digest.hpp"
#include "service.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/map.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>

#include <algorithm>
#include <iostream>
#include <ranges>
#include <stop_token>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace http_service {
namespace {

namespace json = boost::json;
using boost::system::system_error;
using namespace asio::experimental::awaitable_operators;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

response reply(http::status status, const json::value& body) {
  response r(status, 11);
  r.set(http::field::content_type, "application/json");
  r.body() = json::serialize(body) + '\n';
  return r;
}

response reply(http::status status, const char* error) {
  return reply(status, json::object{{"error", error}});
}

response bad_parameter(const example::bad_number& e) {
  return reply(http::status::bad_request,
               json::object{{"error", e.what()}, {"parameter", e.name()}, {"value", e.value()}});
}

response method_not_allowed(const char* allowed) {
  response r = reply(http::status::method_not_allowed, "this target has another method");
  r.set(http::field::allow, allowed);
  return r;
}

response over_capacity(std::chrono::nanoseconds retry_after) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(retry_after).count();
  response r = reply(http::status::service_unavailable, "over capacity");
  r.set(http::field::retry_after, std::to_string(std::max<std::int64_t>(seconds, 1)));
  return r;
}

response failed(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const system_error& e) {
    if (e.code() == bulkhead::errc::queue_full) return over_capacity({});
  } catch (const std::exception& e) {
    std::cerr << "http_service: " << e.what() << std::endl;
  }
  return reply(http::status::internal_server_error, "the request could not be processed");
}

json::object figures(const bulkhead::pool_stats& p) {
  return {{"threads", p.threads},
          {"idle", p.idle},
          {"running", p.running},
          {"queued", p.queued},
          {"waiting", p.waiting},
          {"submitted", p.submitted},
          {"completed", p.completed},
          {"failed", p.failed},
          {"rejected", p.rejected},
          {"cancelled", p.cancelled},
          {"continuations", p.continuations}};
}

json::object figures(const bulkhead::semaphore& s) {
  return {{"limit", s.limit()},
          {"in_use", s.in_use()},
          {"available", s.available()},
          {"waiting", s.waiting()}};
}

json::object figures(const ledger& l) {
  return {{"accepted", l.accepted},   {"ok", l.ok},   {"refused", l.refused},
          {"timed_out", l.timed_out}, {"bad", l.bad}, {"failed", l.failed},
          {"abandoned", l.abandoned}};
}

/// What is before the first `mark` and what is behind it.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char mark) {
  const std::size_t at = text.find(mark);
  if (at == text.npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

/// The value of `name` in `query`, empty if there is none. Numbers need no percent-decoding.
std::string_view parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const auto [item, rest] = cut(query, '&');
    const auto [key, value] = cut(item, '=');
    if (key == name) return value;
    query = rest;
  }
  return {};
}

} // namespace

service::service(const asio::any_io_executor& ex, const options& o, const ledger& requests)
    : options_(o), requests_(requests), executor_(ex), admission_(ex, o.capacity),
      pool_(bulkhead::pool_options{.threads = o.pool_threads,
                                   .queue_limit = o.pool_queue,
                                   .waiter_limit = o.pool_waiters,
                                   .name = "hash"}) {}

asio::awaitable<response> service::answer(const request& r) {
  const auto [path, query] = cut(r.target(), '?');

  if (path == "/process") {
    if (r.method() != http::verb::post) co_return method_not_allowed("POST");
    co_return co_await process(r, query);
  }
  if (path != "/health/ready" && path != "/stats")
    co_return reply(http::status::not_found, "there is no such target");
  if (r.method() != http::verb::get) co_return method_not_allowed("GET");
  co_return path == "/stats" ? stats() : ready();
}

service::job service::parse_job(std::string_view query) const {
  return {example::parse_number("tasks", parameter(query, "tasks"), 1, options_.max_tasks),
          example::parse_number("bytes", parameter(query, "bytes"), 1, options_.max_bytes)};
}

asio::awaitable<response> service::process(const request& r, std::string_view query) {
  job work;
  try {
    work = parse_job(query);
  } catch (const example::bad_number& e) {
    co_return bad_parameter(e);
  }

  // Held to the end of this function. A caller that is refused is told so before any work is done.
  const auto admitted = admission_.try_acquire(work.tasks);
  if (!admitted) co_return over_capacity(admitted.error().retry_after);

  const auto hash = [&](std::size_t index) {
    const auto task = [&r, &work, index](std::stop_token stop) {
      return digest(index, r.body(), work.bytes, stop);
    };
    return pool_.async_submit(task, asio::deferred);
  };

  // Whichever ends first cancels the other and waits for it: past the deadline, tasks that are
  // queued leave the queue, and those that run see their stop_token. As tuples, because operator||
  // would take an exception for a reason to go on waiting.
  asio::steady_timer deadline(executor_, options_.deadline);
  const auto indices = std::views::iota(std::size_t{0}, work.tasks);
  auto first =
      co_await (bulkhead::async_map(indices, options_.request_parallelism, hash, use_tuple) ||
                deadline.async_wait(use_tuple));
  if (first.index() == 1) co_return reply(http::status::gateway_timeout, "deadline exceeded");

  const auto& [error, digests] = std::get<0>(first);
  if (error) co_return failed(error);
  co_return reply(http::status::ok, json::object{{"tasks", work.tasks},
                                                 {"bytes", work.bytes},
                                                 {"digests", json::value_from(digests)}});
}

response service::ready() const {
  if (draining_)
    return reply(http::status::service_unavailable, json::object{{"status", "draining"}});
  return reply(http::status::ok, json::object{{"status", "ready"}});
}

response service::stats() const {
  return reply(http::status::ok, json::object{{"pool", figures(pool_.stats())},
                                              {"admission", figures(admission_)},
                                              {"requests", figures(requests_)}});
}

asio::awaitable<void> service::end_drain() { co_await pool_.async_drain(asio::use_awaitable); }

} // namespace http_service
