// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// An open-loop load generator for http_service.
//
// Requests arrive as a Poisson process, whether or not earlier ones have been answered, and each
// latency counts from the moment at which its request was due. A closed loop, which sends when it
// got an answer, would slow down together with a server that stalls, and so never see the stall.
// --closed-loop is there all the same: it is the way to find out what the server can do at most.
//
// Nothing here uses Bulkhead, so that a defect of the library cannot hide behind itself.

#include "http_service/digest.hpp"
#include "support/command_line.hpp"
#include "support/descriptors.hpp"

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using boost::system::error_code;
using clock_type = std::chrono::steady_clock;
using tcp = asio::ip::tcp;

constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

struct options {
  std::uint16_t port = 8080;
  std::uint64_t rate = 100;
  std::uint64_t closed_loop = 0;
  std::uint64_t seconds = 10;
  std::uint64_t window = 0;
  std::uint64_t tasks = 8;
  std::uint64_t bytes = 64 * 1024;
  std::uint64_t max_connections = 4000;
  std::uint64_t verify_every = 100;
  std::uint64_t seed = 1;
  std::chrono::milliseconds deadline{1000};
  std::chrono::milliseconds timeout{10'000};
  bool json = false;
};

/// What became of a request. `refused` and `lost` differ in what the server knows of it: a refused
/// one found no listener, or a connection that was closed before the first byte of an answer. A
/// server that closes a connection on which it has read a request loses that request; whether ours
/// does shows when its own count of accepted requests is compared with the answers counted here.
enum class fate { ok, unavailable, timed_out, other, refused, lost };

fate fate_of(http::status answer) {
  switch (answer) {
  case http::status::ok:
    return fate::ok;
  case http::status::service_unavailable:
    return fate::unavailable;
  case http::status::gateway_timeout:
    return fate::timed_out;
  default:
    return fate::other;
  }
}

/// How often each latency was seen, to within half a per cent: a run of hours takes no more memory
/// than one of seconds.
class latencies {
public:
  void add(clock_type::duration d) {
    const std::chrono::duration<double, std::milli> ms = std::max(d, clock_type::duration(1));
    ++seen_[static_cast<int>(std::ceil(std::log(ms.count()) / std::log(step)))];
    ++count_;
  }

  /// The latency that the fraction `q` of the requests did not exceed; 0 without requests.
  double quantile(double q) const {
    const double rank = std::ceil(q * static_cast<double>(count_));
    std::uint64_t below = 0;
    for (const auto& [exponent, n] : seen_)
      if (static_cast<double>(below += n) >= rank) return std::pow(step, exponent);
    return 0;
  }

private:
  static constexpr double step = 1.005;
  std::map<int, std::uint64_t> seen_; // latencies in (step^(key-1), step^key] ms
  std::uint64_t count_ = 0;
};

/// The requests that were due in some seconds of a run.
struct window {
  std::uint64_t offered = 0;
  std::uint64_t ok = 0;
  latencies of_ok;
};

struct tally {
  std::uint64_t offered = 0;
  std::uint64_t sent = 0;   // written in full
  std::uint64_t capped = 0; // waited for one of --max-connections
  std::uint64_t fates[6] = {};
  std::uint64_t in_time = 0; // answered 200 before the deadline
  std::uint64_t unasked = 0; // connections on which more came than the answer
  std::uint64_t verified = 0;
  std::uint64_t wrong = 0;
  latencies of_ok;
  latencies of_unavailable;
  latencies of_all; // answers
  std::vector<window> windows;
  double seconds = 0;

  std::uint64_t operator[](fate f) const { return fates[static_cast<int>(f)]; }

  std::uint64_t answered() const {
    return (*this)[fate::ok] + (*this)[fate::unavailable] + (*this)[fate::timed_out] +
           (*this)[fate::other];
  }

  std::uint64_t in_flight() const {
    return offered - answered() - (*this)[fate::refused] - (*this)[fate::lost];
  }
};

class load_generator {
public:
  load_generator(asio::io_context& io, const options& o)
      : io_(io), options_(o), server_(asio::ip::address_v4::loopback(), o.port), freed_(io),
        target_("/process?tasks=" + std::to_string(o.tasks) + "&bytes=" + std::to_string(o.bytes)) {
    freed_.expires_at(clock_type::time_point::max());
  }

  /// Blocks until every request has met its fate.
  tally run() {
    start_ = clock_type::now();
    end_ = start_ + std::chrono::seconds(options_.seconds);
    asio::co_spawn(io_, show_progress(), asio::detached);
    if (options_.closed_loop == 0) start(send_as_they_arrive());
    for (std::uint64_t i = 0; i < options_.closed_loop; ++i) start(send_back_to_back());
    io_.run();
    if (terminal_) std::fputs("\r\033[K", stderr);
    if (failure_) std::rethrow_exception(failure_);
    for (const connection_ptr& c : idle_) is_silent(*c);
    tally_.seconds = std::chrono::duration<double>(clock_type::now() - start_).count();
    verify_samples();
    return std::move(tally_);
  }

private:
  struct connection {
    explicit connection(asio::io_context& io) : stream(io) {}

    beast::tcp_stream stream;
    beast::flat_buffer buffer;
  };

  using connection_ptr = std::unique_ptr<connection>;

  /// An answer that is verified after the run, when that costs no request its time.
  struct sample {
    std::string request;
    std::string answer;
  };

  /// Runs `work`; the last one to end ends the run.
  void start(asio::awaitable<void> work) {
    ++running_;
    asio::co_spawn(io_, std::move(work), [this](std::exception_ptr e) {
      if (e) failure_ = e;
      if (--running_ == 0 || e) io_.stop();
    });
  }

  asio::awaitable<void> send_as_they_arrive() {
    const std::chrono::seconds length(options_.window ? options_.window : options_.seconds);
    for (auto begin = start_; begin < end_; begin += length)
      co_await send_as_they_arrive(begin, std::min(begin + length, end_));
  }

  /// The same arrivals in every window, so that what differs between two of them is the server.
  asio::awaitable<void> send_as_they_arrive(clock_type::time_point begin,
                                            clock_type::time_point end) {
    std::mt19937_64 random(options_.seed);
    std::exponential_distribution<double> gap(static_cast<double>(options_.rate));
    asio::steady_timer timer(io_);
    for (auto due = begin;;) {
      due += std::chrono::duration_cast<clock_type::duration>(
          std::chrono::duration<double>(gap(random)));
      if (due >= end) break;
      timer.expires_at(due);
      co_await timer.async_wait(asio::use_awaitable);
      start(send(due));
    }
  }

  asio::awaitable<void> send_back_to_back() {
    for (auto now = start_; now < end_; now = clock_type::now()) co_await send(now);
  }

  asio::awaitable<void> send(clock_type::time_point due) {
    const std::string body = "request " + std::to_string(++tally_.offered);
    if (window* w = window_of(due)) ++w->offered;
    if (in_use_ == options_.max_connections) {
      ++tally_.capped;
      while (in_use_ == options_.max_connections) co_await freed_.async_wait(use_tuple);
    }
    ++in_use_;
    const fate f = co_await exchange(body, due);
    --in_use_;
    freed_.cancel_one();
    ++tally_.fates[static_cast<int>(f)];
  }

  asio::awaitable<fate> exchange(const std::string& body, clock_type::time_point due) {
    connection_ptr c = take_idle_connection();
    if (!c) {
      c = std::make_unique<connection>(io_);
      c->stream.expires_after(options_.timeout);
      const auto [error] = co_await c->stream.async_connect(server_, use_tuple);
      if (error) co_return fate::refused;
      c->stream.socket().set_option(tcp::no_delay(true));
      c->stream.socket().non_blocking(true);
    }

    http::request<http::string_body> request(http::verb::post, target_, 11, body);
    request.set(http::field::host, "127.0.0.1");
    request.prepare_payload();
    c->stream.expires_after(options_.timeout);
    const auto [not_sent, written] = co_await http::async_write(c->stream, request, use_tuple);
    if (not_sent) co_return not_sent == beast::error::timeout ? fate::lost : fate::refused;
    ++tally_.sent;

    http::response_parser<http::string_body> parser;
    const auto [no_answer, read] =
        co_await http::async_read(c->stream, c->buffer, parser, use_tuple);
    if (no_answer) {
      const bool silent = !parser.got_some() && no_answer != beast::error::timeout;
      co_return silent ? fate::refused : fate::lost;
    }

    const auto latency = clock_type::now() - due;
    const fate f = fate_of(parser.get().result());
    tally_.of_all.add(latency);
    if (f == fate::unavailable) tally_.of_unavailable.add(latency);
    if (f == fate::ok) {
      tally_.of_ok.add(latency);
      if (latency <= options_.deadline) ++tally_.in_time;
      if (window* w = window_of(due)) {
        ++w->ok;
        w->of_ok.add(latency);
      }
      if (tally_[fate::ok] % options_.verify_every == 0)
        samples_.push_back({body, std::move(parser.get().body())});
    }
    if (parser.keep_alive()) idle_.push_back(std::move(c));
    co_return f;
  }

  /// The window in which a request was due; none if the run is not divided into windows.
  window* window_of(clock_type::time_point due) {
    if (options_.window == 0) return nullptr;
    const auto n = static_cast<std::size_t>((due - start_) / std::chrono::seconds(options_.window));
    if (n >= tally_.windows.size()) tally_.windows.resize(n + 1);
    return &tally_.windows[n];
  }

  connection_ptr take_idle_connection() {
    while (!idle_.empty()) {
      connection_ptr c = std::move(idle_.back());
      idle_.pop_back();
      if (is_silent(*c)) return c;
    }
    return nullptr;
  }

  /// Whether an idle connection is as we left it. The server may have closed it; but bytes can only
  /// be an answer to nothing, or a second one to the same request.
  bool is_silent(connection& c) {
    error_code ec;
    char byte;
    const bool more =
        c.buffer.size() != 0 || c.stream.socket().read_some(asio::buffer(&byte, 1), ec) != 0;
    if (more) ++tally_.unasked;
    return !more && ec == asio::error::would_block;
  }

  void verify_samples() {
    for (const sample& s : samples_) {
      ++tally_.verified;
      if (!is_right(s)) ++tally_.wrong;
    }
  }

  bool is_right(const sample& s) const {
    json::array expected;
    for (std::size_t i = 0; i < options_.tasks; ++i)
      expected.emplace_back(http_service::digest(i, s.request, options_.bytes));
    error_code ec;
    const json::value answer = json::parse(s.answer, ec);
    const json::object* const object = answer.if_object();
    const json::value* const digests = object ? object->if_contains("digests") : nullptr;
    return !ec && digests && *digests == expected;
  }

  asio::awaitable<void> show_progress() {
    asio::steady_timer timer(io_);
    for (unsigned second = 1; second <= options_.seconds; ++second) {
      timer.expires_at(start_ + std::chrono::seconds(second));
      co_await timer.async_wait(asio::use_awaitable);
      std::fprintf(
          stderr, "%s  %3u s: offered %ju, 200 %ju, 503 %ju, 504 %ju, refused %ju, in flight %ju%s",
          terminal_ ? "\r\033[K" : "", second, std::uintmax_t{tally_.offered},
          std::uintmax_t{tally_[fate::ok]}, std::uintmax_t{tally_[fate::unavailable]},
          std::uintmax_t{tally_[fate::timed_out]}, std::uintmax_t{tally_[fate::refused]},
          std::uintmax_t{tally_.in_flight()}, terminal_ ? "" : "\n");
    }
  }

  asio::io_context& io_;
  const options options_;
  const tcp::endpoint server_;
  asio::steady_timer freed_; // never expires: cancel_one() wakes who waits longest for a connection
  const std::string target_;
  // Where the progress line is overwritten, and in the end erased; a log gets one every second.
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  clock_type::time_point start_;
  clock_type::time_point end_;
  std::vector<connection_ptr> idle_;
  std::uint64_t in_use_ = 0;
  std::uint64_t running_ = 0;
  std::exception_ptr failure_;
  std::vector<sample> samples_;
  tally tally_;
};

void print_table(const tally& t) {
  const auto count = [&](fate f) { return std::uintmax_t{t[f]}; };
  std::printf("%9s %9s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "offered", "sent", "200", "503",
              "504", "other", "refused", "lost", "p50 ms", "p99 ms", "p99.9 ms");
  std::printf("%9ju %9ju %9ju %9ju %9ju %9ju %9ju %9ju %9.2f %9.2f %9.2f  of 200\n",
              std::uintmax_t{t.offered}, std::uintmax_t{t.sent}, count(fate::ok),
              count(fate::unavailable), count(fate::timed_out), count(fate::other),
              count(fate::refused), count(fate::lost), t.of_ok.quantile(.5), t.of_ok.quantile(.99),
              t.of_ok.quantile(.999));
  std::printf("%80s%9.2f %9.2f %9.2f  of all answers\n", "", t.of_all.quantile(.5),
              t.of_all.quantile(.99), t.of_all.quantile(.999));
  std::printf("%.1f answered 200 per second; %ju of %ju verified digests wrong; %ju answers too "
              "many; %ju waited for a connection\n",
              static_cast<double>(t[fate::ok]) / t.seconds, std::uintmax_t{t.wrong},
              std::uintmax_t{t.verified}, std::uintmax_t{t.unasked}, std::uintmax_t{t.capped});
}

void print_json(const tally& t) {
  json::array windows;
  for (const window& w : t.windows)
    windows.push_back(json::object{{"offered", w.offered},
                                   {"ok", w.ok},
                                   {"p50_ms", w.of_ok.quantile(.5)},
                                   {"p99_ms", w.of_ok.quantile(.99)}});
  const json::object line{{"offered", t.offered},
                          {"sent", t.sent},
                          {"answered", t.answered()},
                          {"ok", t[fate::ok]},
                          {"unavailable", t[fate::unavailable]},
                          {"timed_out", t[fate::timed_out]},
                          {"other", t[fate::other]},
                          {"refused", t[fate::refused]},
                          {"lost", t[fate::lost]},
                          {"capped", t.capped},
                          {"verified", t.verified},
                          {"wrong", t.wrong},
                          {"unasked", t.unasked},
                          {"seconds", t.seconds},
                          {"in_time_per_second", static_cast<double>(t.in_time) / t.seconds},
                          {"ok_per_second", static_cast<double>(t[fate::ok]) / t.seconds},
                          {"p50_ms", t.of_ok.quantile(.5)},
                          {"p99_ms", t.of_ok.quantile(.99)},
                          {"p999_ms", t.of_ok.quantile(.999)},
                          {"unavailable_p50_ms", t.of_unavailable.quantile(.5)},
                          {"unavailable_p99_ms", t.of_unavailable.quantile(.99)},
                          {"all_p50_ms", t.of_all.quantile(.5)},
                          {"all_p99_ms", t.of_all.quantile(.99)},
                          {"all_p999_ms", t.of_all.quantile(.999)},
                          {"windows", std::move(windows)}};
  std::cout << line << std::endl;
}

} // namespace

int main(int argc, char* argv[]) {
  try {
    options o;
    example::command_line line("load [options]: loads the http_service on 127.0.0.1");
    constexpr auto any = UINT32_MAX;
    line.number("port", o.port, 1, 65535, "where it listens")
        .number("rate", o.rate, 1, 1'000'000, "requests per second, Poisson arrivals")
        .number("closed-loop", o.closed_loop, 1, 10'000,
                "instead of --rate: connections that send back to back")
        .number("seconds", o.seconds, 1, 86'400, "how long requests arrive")
        .number("window", o.window, 0, 86'400,
                "seconds of a window: each has the same arrivals, and figures of its own in --json")
        .number("tasks", o.tasks, 1, any, "tasks per request")
        .number("bytes", o.bytes, 1, any, "bytes per task")
        .number("max-connections", o.max_connections, 1, 60'000, "connections at one time")
        .number("verify-every", o.verify_every, 1, any, "one in N answers is recomputed")
        .number("seed", o.seed, 0, any, "of the arrivals")
        .number("deadline-ms", o.deadline, 1, any, "an answer after this is no longer in time")
        .number("timeout-ms", o.timeout, 1, any, "a request without an answer is lost after this")
        .flag("json", o.json, "print the result as one line of JSON as well");
    if (!line.parse(argc, argv, std::cout)) return 0;

    example::raise_descriptor_limit();
    asio::io_context io;
    const tally t = load_generator(io, o).run();
    print_table(t);
    if (o.json) print_json(t);
    return t.wrong == 0 && t.unasked == 0 && t[fate::lost] == 0 ? 0 : 1;
  } catch (const std::exception& e) {
    std::cerr << "load: " << e.what() << '\n';
    return 2;
  }
}
