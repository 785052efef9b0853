// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "pipeline.hpp"

#include <bulkhead/error.hpp>
#include <bulkhead/map.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <ranges>
#include <stop_token>
#include <utility>

namespace pipeline {
namespace {

using boost::system::system_error;
using namespace asio::experimental::awaitable_operators;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

/// A record in the hands of a stage; cancelled there unless it is passed on.
class visit {
public:
  explicit visit(stage& s) noexcept : stage_(s) { stage_.records.enter(); }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  ~visit() { stage_.records.leave(); }

  void handled() noexcept { ++stage_.handled; }

private:
  stage& stage_;
};

/// Stands for the time that a disk or a database takes.
asio::awaitable<void> wait_for(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

/// Stands for work: a number that looks like chance, and is found by taking all steps.
std::uint64_t transformed(std::uint64_t value, std::uint64_t rounds, std::stop_token stop) {
  for (std::uint64_t i = 0; i != rounds; ++i) {
    if (i % 1024 == 0 && stop.stop_requested()) throw system_error(asio::error::operation_aborted);
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value ^= value >> 31;
  }
  return value;
}

std::uint64_t value_of(std::size_t number) { return number + 1; }

/// Starts f(record) for each record that comes out of `from`, with at most `limit` of them in flight,
/// and waits for all.
template <class F>
asio::awaitable<void> for_each_received(channel& from, std::size_t limit, F f) {
  const auto body = [&](bulkhead::task_group& group) -> asio::awaitable<void> {
    // Nothing more is received while `limit` are in flight.
    while (auto r = co_await from.receive()) co_await group.async_spawn(f(std::move(*r)));
  };
  co_await bulkhead::async_scope(bulkhead::group_options{.limit = limit}, body,
                                 asio::use_awaitable);
}

} // namespace

pipeline::pipeline(bulkhead::pool& io, bulkhead::pool& cpu, const options& o)
    : io_(io), cpu_(cpu), options_(o), read_("read", o.reads),
      transform_("transform", o.transforms), write_("write", o.writes), to_transform_(io, o.room),
      to_write_(io, o.room), times_(o.records) {}

/// One scope is around all stages, and each stage is one in it. So whatever ends it, a failure or a
/// cancellation, ends all of them, and it has not ended before the last of their children has.
asio::awaitable<void> pipeline::run(asio::io_context& caller) {
  asio::signal_set signals(caller, SIGINT, SIGTERM);
  const auto stages = [this](bulkhead::task_group& all) -> asio::awaitable<void> {
    const auto transform = [this](record r) { return this->transform(std::move(r)); };
    const auto write = [this, &all](record r) { return this->write(std::move(r), all); };
    const auto transform_all = [this, transform]() -> asio::awaitable<void> {
      co_await for_each_received(to_transform_, options_.transforms, transform);
      co_await to_write_.send_end();
    };
    all.spawn(read_all());
    all.spawn(transform_all);
    all.spawn(for_each_received(to_write_, options_.writes, write));
    co_return;
  };
  // The scope is on a pool; we are on a context with one thread, as operator|| demands. As tuples,
  // because it would take an exception for a reason to go on waiting.
  const auto first =
      co_await (bulkhead::async_scope(io_, bulkhead::group_options{}, stages,
                                      bulkhead::timeout(options_.deadline, use_tuple)) ||
                signals.async_wait(use_tuple));
  to_transform_.discard();
  to_write_.discard();

  if (first.index() == 1) {
    how_ = end::interrupted;
    co_return;
  }
  if (enough_) how_ = end::cancelled;
  const auto& [failure] = std::get<0>(first);
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const system_error& e) {
    if (e.code() != bulkhead::errc::deadline_exceeded) throw;
    how_ = end::late;
  }
}

asio::awaitable<void> pipeline::read_all() {
  const auto numbers = std::views::iota(std::size_t{0}, options_.records);
  const auto read = [this](std::size_t number) { return this->read(number); };
  co_await bulkhead::async_for_each(numbers, options_.reads, read, asio::use_awaitable);
  co_await to_transform_.send_end();
}

asio::awaitable<void> pipeline::read(std::size_t number) {
  visit here(read_);
  record r{number, value_of(number), entry(ledger_)};
  co_await wait_for(options_.read_time);
  co_await to_transform_.send(std::move(r));
  here.handled();
}

asio::awaitable<void> pipeline::transform(record r) {
  visit here(transform_);
  const auto work = [value = r.value, rounds = options_.rounds](std::stop_token stop) {
    return transformed(value, rounds, std::move(stop));
  };
  r.value = co_await cpu_.async_submit(work, asio::use_awaitable);
  co_await to_write_.send(std::move(r));
  here.handled();
}

asio::awaitable<void> pipeline::write(record r, bulkhead::task_group& all) {
  visit here(write_);
  co_await wait_for(options_.write_time);
  ++times_[r.number];
  sum_ += r.value;
  r.place.written();
  const std::size_t n = ++write_.handled;
  if (options_.progress && n % 100 == 0) std::fprintf(stderr, "%zu written\n", n);
  if (n == options_.cancel_after) {
    enough_ = true;
    all.cancel(); // also the group that this is a child of
  }
}

/// Every stage's, the channels', and one in the hands of each stage that takes from a channel.
std::size_t pipeline::most_records() const noexcept {
  return options_.reads + options_.transforms + options_.writes + 2 * (options_.room + 1);
}

std::vector<std::string> pipeline::faults() const {
  std::vector<std::string> result;
  const auto expect = [&](bool holds, const std::string& what) {
    if (!holds) result.push_back(what);
  };
  const auto equal = [&](std::size_t a, std::size_t b, const std::string& what) {
    expect(a == b, what + " (" + std::to_string(a) + " against " + std::to_string(b) + ")");
  };

  const std::size_t in = ledger_.records.all();
  equal(in, ledger_.written + ledger_.cancelled, "records in are not those out and cancelled");
  equal(ledger_.records.now(), 0, "records are left");
  equal(read_.records.all(), in, "records came in by another way than by reading");
  equal(write_.handled, ledger_.written, "records went out by another way than by writing");
  expect(ledger_.records.highest() <= most_records(), "there were too many records at one time");
  for (const stage* s : stages()) {
    equal(s->records.now(), 0, std::string(s->name) + " is not done");
    expect(s->records.highest() <= s->limit, std::string(s->name) + " broke its limit");
  }
  equal(to_transform_.sent(), read_.handled, "the first channel got other records than were read");
  equal(to_write_.sent(), transform_.handled,
        "the second one got other ones than were transformed");
  expect(transform_.records.all() <= read_.handled, "more were transformed than read");
  expect(write_.records.all() <= transform_.handled, "more were written than transformed");
  if (how_ == end::complete) equal(ledger_.written, options_.records, "not all were written");

  std::uint64_t sum = 0;
  std::size_t written = 0, more_than_once = 0;
  for (std::size_t number = 0; number != times_.size(); ++number) {
    if (times_[number] == 0) continue;
    ++written;
    more_than_once += times_[number] > 1;
    sum += transformed(value_of(number), options_.rounds, {});
  }
  equal(more_than_once, 0, "records were written more than once");
  equal(written, ledger_.written, "other records were written than are counted");
  expect(sum == sum_, "the sum is wrong");
  return result;
}

} // namespace pipeline
