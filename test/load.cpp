// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// example/load from outside: what it counts is known, as the server that it loads stands here. Each
// case says what that server answers.

#include "../example/http_service/digest.hpp"
#include "support/process.hpp"
#include "support/watchdog.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;
using tcp = asio::ip::tcp;
using test::arguments;

struct reply {
  std::string bytes;
  bool then_close = false;
};

/// A server that sends what `answer` makes of the n-th request's body.
class server {
public:
  using function = std::function<reply(std::uint64_t n, const std::string& body)>;

  explicit server(function answer)
      : answer_(std::move(answer)), acceptor_(io_, {asio::ip::address_v4::loopback(), 0}),
        thread_([this] {
          asio::co_spawn(io_, accept(), asio::detached);
          io_.run();
        }) {}

  ~server() {
    io_.stop();
    thread_.join();
  }

  std::string port() const { return std::to_string(acceptor_.local_endpoint().port()); }

private:
  asio::awaitable<void> accept() {
    for (;;)
      asio::co_spawn(io_, serve(co_await acceptor_.async_accept(asio::use_awaitable)),
                     asio::detached);
  }

  asio::awaitable<void> serve(tcp::socket socket) {
    boost::beast::flat_buffer buffer;
    for (;;) {
      http::request<http::string_body> r;
      co_await http::async_read(socket, buffer, r, asio::use_awaitable);
      const reply answer = answer_(requests_++, r.body());
      co_await asio::async_write(socket, asio::buffer(answer.bytes), asio::use_awaitable);
      if (answer.then_close) co_return;
    }
  }

  const function answer_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::uint64_t requests_ = 0;
  std::thread thread_;
};

reply status(int code, const std::string& body = {}) {
  return {"HTTP/1.1 " + std::to_string(code) +
          " x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body};
}

reply ok(const std::string& body) {
  return status(200, R"({"digests":[")" + http_service::digest(0, body, 100) + R"("]})");
}

struct result {
  int exit_code;
  json::object figures;

  std::uint64_t operator[](std::string_view name) const {
    return figures.at(name).to_number<std::uint64_t>();
  }
};

/// What the program says after a load of requests for one digest each.
result load(const server& s, arguments options) {
  options.insert(options.end(), {"--port", s.port(), "--tasks", "1", "--bytes", "100", "--json",
                                 "--timeout-ms", "100000"});
  test::process p(options);
  const std::string output = p.rest();
  const std::size_t begin = output.rfind("\n{");
  BOOST_TEST_REQUIRE(begin != output.npos, output);
  return {p.wait(), json::parse(std::string_view(output).substr(begin + 1)).as_object()};
}

const arguments some = {"--rate", "200", "--seconds", "1"};

} // namespace

BOOST_AUTO_TEST_SUITE(load_)

BOOST_AUTO_TEST_CASE(counts_each_request_by_its_answer) {
  const server s([](std::uint64_t n, const std::string& body) {
    const int statuses[] = {200, 503, 504, 418};
    return n % 4 == 0 ? ok(body) : status(statuses[n % 4]);
  });
  const result r = load(s, {"--rate", "200", "--seconds", "1", "--deadline-ms", "100000"});
  BOOST_TEST(r.exit_code == 0);
  BOOST_TEST(r.figures.at("in_time_per_second") == r.figures.at("ok_per_second"));
  BOOST_TEST(r["offered"] > 100u);
  BOOST_TEST(r["sent"] == r["offered"]);
  BOOST_TEST(r["answered"] == r["offered"]);
  BOOST_TEST(r["ok"] == (r["offered"] + 3) / 4);
  BOOST_TEST(r["unavailable"] == (r["offered"] + 2) / 4);
  BOOST_TEST(r["timed_out"] == (r["offered"] + 1) / 4);
  BOOST_TEST(r["other"] == r["offered"] / 4);
  BOOST_TEST(r["verified"] > 0u);
  BOOST_TEST(r["wrong"] + r["unasked"] + r["refused"] + r["lost"] == 0u);
}

BOOST_AUTO_TEST_CASE(sends_the_same_in_each_window) {
  const server s([](std::uint64_t, const std::string& body) { return ok(body); });
  const result r = load(s, {"--rate", "200", "--seconds", "3", "--window", "1"});
  BOOST_TEST(r.exit_code == 0);
  const json::array& windows = r.figures.at("windows").as_array();
  BOOST_TEST_REQUIRE(windows.size() == 3u);
  for (const json::value& w : windows) {
    BOOST_TEST(w.at("offered").to_number<std::uint64_t>() * 3 == r["offered"]);
    BOOST_TEST(w.at("ok") == w.at("offered"));
    BOOST_TEST(w.at("p50_ms").as_double() > 0);
    BOOST_TEST(w.at("p50_ms").as_double() <= w.at("p99_ms").as_double());
  }
}

BOOST_AUTO_TEST_CASE(finds_a_wrong_digest) {
  const server s([](std::uint64_t, const std::string& body) { return ok(body + "!"); });
  const result r = load(s, {"--rate", "200", "--seconds", "1", "--verify-every", "10"});
  BOOST_TEST(r.exit_code == 1);
  BOOST_TEST(r["ok"] == r["offered"]);
  BOOST_TEST(r["wrong"] == r["verified"]);
  BOOST_TEST(r["wrong"] == (r["offered"] + 9) / 10);
}

BOOST_AUTO_TEST_CASE(finds_a_second_answer_to_a_request) {
  const server s([](std::uint64_t n, const std::string& body) {
    reply r = ok(body);
    if (n == 7) r.bytes += r.bytes;
    return r;
  });
  const result r = load(s, some);
  BOOST_TEST(r.exit_code == 1);
  BOOST_TEST(r["unasked"] == 1u);
  BOOST_TEST(r["ok"] == r["offered"]);
}

BOOST_AUTO_TEST_CASE(counts_as_lost_what_is_answered_in_part) {
  const server s([](std::uint64_t n, const std::string& body) {
    reply r = ok(body);
    if (n == 7) r = {r.bytes.substr(0, r.bytes.size() / 2), true};
    return r;
  });
  const result r = load(s, some);
  BOOST_TEST(r.exit_code == 1);
  BOOST_TEST(r["lost"] == 1u);
  BOOST_TEST(r["ok"] + 1 == r["offered"]);
}

BOOST_AUTO_TEST_CASE(counts_as_refused_what_is_not_answered_at_all) {
  const server s([](std::uint64_t n, const std::string& body) {
    return n == 7 ? reply{"", true} : ok(body);
  });
  const result r = load(s, some);
  BOOST_TEST(r.exit_code == 0);
  BOOST_TEST(r["refused"] == 1u);
  BOOST_TEST(r["ok"] + 1 == r["offered"]);
  BOOST_TEST(r["lost"] == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
