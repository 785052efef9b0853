// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

// example/http_service from outside: every case starts the program and talks to it over TCP.
//
// Where a case has to know that the service got somewhere, it asks /stats until that is so. A
// request can be held in progress for as long as a case likes: with half of its body unsent, or
// with so many bytes to hash that only a cancellation ends it.

#include "support/process.hpp"
#include "support/watchdog.hpp"

#include <boost/algorithm/hex.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <openssl/evp.h>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using response = http::response<http::string_body>;
using test::arguments;
using test::process;

const std::string endless = "4611686018427387904"; // bytes of a task that only a cancellation ends
const std::string a_day = "86400000";

/// One connection.
class client {
public:
  explicit client(std::uint16_t port) : socket_(io_) {
    socket_.connect({asio::ip::address_v4::loopback(), port});
  }

  void send(std::string_view bytes) { asio::write(socket_, asio::buffer(bytes)); }

  response receive() {
    response r;
    http::read(socket_, buffer_, r);
    return r;
  }

  response get(std::string_view target) {
    send("GET " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n\r\n");
    return receive();
  }

  void begin_post(std::string_view target, std::string_view body = {}) {
    send("POST " + std::string(target) + " HTTP/1.1\r\nHost: test\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
  }

  response post(std::string_view target, std::string_view body = {}) {
    begin_post(target, body);
    return receive();
  }

  /// Whether the server closes the connection without another byte. We then close it as well.
  bool is_closed() {
    error_code ec;
    char byte;
    const std::size_t n = socket_.read_some(asio::buffer(&byte, 1), ec);
    socket_.close();
    return n == 0 && buffer_.size() == 0 &&
           (ec == asio::error::eof || ec == asio::error::connection_reset);
  }

private:
  asio::io_context io_;
  tcp::socket socket_;
  beast::flat_buffer buffer_;
};

json::value body_of(const response& r) { return json::parse(r.body()); }

/// The program as a service that has begun to listen.
class service {
public:
  explicit service(arguments options = {}) : process_(with_defaults(std::move(options))) {
    const std::string prefix = "listening on 127.0.0.1:";
    const std::string line = process_.line();
    BOOST_TEST_REQUIRE(line.starts_with(prefix), line);
    port_ = static_cast<std::uint16_t>(std::stoi(line.substr(prefix.size())));
  }

  std::uint16_t port() const { return port_; }

  client connect() const { return client(port_); }

  /// The figure at `pointer`, as "/pool/running".
  std::int64_t stat(std::string_view pointer) {
    if (!statistics_) statistics_.emplace(port_);
    const json::value all = body_of(statistics_->get("/stats"));
    ++stats_asked_;
    return all.at_pointer(pointer).to_number<std::int64_t>();
  }

  void await(std::string_view pointer, std::int64_t value) {
    while (stat(pointer) != value) continue;
  }

  /// Until `n` requests were accepted, those of stat() not counted.
  void await_accepted(std::int64_t n) {
    while (stat("/requests/accepted") - stats_asked_ != n) continue;
  }

  void terminate() { process_.send(SIGTERM); }

  /// Until nobody can connect any more: the service drains.
  void await_closed_listener() const {
    for (;;) {
      try {
        client probe(port_);
      } catch (const boost::system::system_error&) {
        return;
      }
    }
  }

  struct end {
    int exit_code;
    std::string report; // "3 accepted, 3 answered, 0 abandoned"; requests of stat() not counted
  };

  end wait() {
    std::string line = process_.line();
    const std::size_t colon = line.find(": ");
    BOOST_TEST_REQUIRE(line.starts_with("drained in "), line);
    long accepted = 0, answered = 0, abandoned = 0;
    BOOST_TEST(std::sscanf(line.c_str() + colon, ": %ld accepted, %ld answered, %ld abandoned",
                           &accepted, &answered, &abandoned) == 3,
               line);
    return {process_.wait(), std::to_string(accepted - stats_asked_) + " accepted, " +
                                 std::to_string(answered - stats_asked_) + " answered, " +
                                 std::to_string(abandoned) + " abandoned"};
  }

private:
  /// A free port; and no answer is late where a test says nothing of that, however slow the machine.
  static arguments with_defaults(arguments options) {
    options.insert(options.end(), {"--port", "0"});
    if (std::ranges::find(options, "--deadline-ms") == options.end())
      options.insert(options.end(), {"--deadline-ms", a_day});
    return options;
  }

  process process_;
  std::uint16_t port_ = 0;
  std::optional<client> statistics_;
  std::int64_t stats_asked_ = 0;
};

/// What task `index` answers, computed the straightforward way.
std::string expected_digest(std::size_t index, const std::string& body, std::size_t bytes) {
  std::string input;
  while (input.size() < bytes) input += std::to_string(index) + ':' + body;
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw;
  unsigned int size = 0;
  EVP_Digest(input.data(), bytes, raw.data(), &size, EVP_sha512(), nullptr);
  std::string hex;
  boost::algorithm::hex_lower(raw.data(), raw.data() + size, std::back_inserter(hex));
  return hex;
}

json::array expected_digests(std::size_t tasks, const std::string& body, std::size_t bytes) {
  json::array result;
  for (std::size_t i = 0; i != tasks; ++i) result.emplace_back(expected_digest(i, body, bytes));
  return result;
}

void check_digests(const response& r, const json::array& expected) {
  BOOST_TEST_REQUIRE(r.result_int() == 200, r.body());
  BOOST_TEST(body_of(r).at("digests") == expected);
}

void check_digests(const response& r, std::size_t tasks, const std::string& body,
                   std::size_t bytes) {
  check_digests(r, expected_digests(tasks, body, bytes));
}

std::string process_target(std::string_view tasks, std::string_view bytes) {
  return "/process?tasks=" + std::string(tasks) + "&bytes=" + std::string(bytes);
}

/// A POST of which the last byte of the body is missing.
class half_sent_request {
public:
  explicit half_sent_request(const service& s) : client_(s.connect()) {
    client_.send("POST /process?tasks=2&bytes=10 HTTP/1.1\r\nHost: test\r\n"
                 "Content-Length: 4\r\n\r\nabc");
  }

  void check_answered_when_complete() {
    client_.send("d");
    const response r = client_.receive();
    check_digests(r, 2, "abcd", 10);
    BOOST_TEST(!r.keep_alive());
    BOOST_TEST(client_.is_closed());
  }

  bool is_closed() { return client_.is_closed(); }

private:
  client client_;
};

BOOST_AUTO_TEST_SUITE(http_service)

BOOST_AUTO_TEST_CASE(answers_the_digests_in_order) {
  service s;
  client c = s.connect();
  check_digests(c.post(process_target("1", "1")), 1, "", 1);
  check_digests(c.post(process_target("64", "1000")), 64, "", 1000);
  check_digests(c.post(process_target("3", "65537"), "hello"), 3, "hello", 65537);
  check_digests(c.post(process_target("3", "10"), std::string(1000, 'x')), 3,
                std::string(1000, 'x'), 10);
  check_digests(c.post(process_target("2", "1000000"), std::string(100'000, 'y')), 2,
                std::string(100'000, 'y'), 1'000'000);
  s.await("/pool/completed", 1 + 64 + 3 + 3 + 2);
}

BOOST_AUTO_TEST_CASE(names_the_bad_parameter_and_its_value) {
  service s({"--max-tasks", "8", "--max-bytes", "1000"});
  client c = s.connect();

  const auto check = [&](std::string_view query, std::string_view parameter,
                         std::string_view value) {
    BOOST_TEST_CONTEXT(query) {
      const response r = c.post("/process" + std::string(query));
      BOOST_TEST_REQUIRE(r.result_int() == 400);
      const json::value answer = body_of(r);
      BOOST_TEST(answer.at("parameter").as_string() == parameter);
      BOOST_TEST(answer.at("value").as_string() == value);
      const std::string_view error = answer.at("error").as_string();
      BOOST_TEST(error.starts_with(parameter));
      BOOST_TEST(error.ends_with("(got \"" + std::string(value) + "\")"));
    }
  };
  check("", "tasks", "");
  check("?", "tasks", "");
  check("?tasks", "tasks", "");
  check("?bytes=1", "tasks", "");
  check("?task=1&bytes=1", "tasks", "");
  check("?tasks=1", "bytes", "");
  for (const char* value : {"", "0", "-1", "+1", "junk", "1x", "0x1", "1.5", "%31", "9",
                            "18446744073709551616", "99999999999999999999999999"})
    check("?bytes=1&tasks=" + std::string(value), "tasks", value);
  for (const char* value : {"", "0", "-1", "+1", "junk", "1x", "0x1", "1.5", "%31", "1001",
                            "18446744073709551616", "99999999999999999999999999"})
    check("?tasks=1&bytes=" + std::string(value), "bytes", value);

  check_digests(c.post(process_target("8", "1000")), 8, "", 1000);
  s.await("/requests/bad", 6 + 12 + 12);
  BOOST_TEST(s.stat("/pool/submitted") == 8);
}

BOOST_AUTO_TEST_CASE(knows_its_targets_and_their_methods) {
  service s;
  client c = s.connect();
  BOOST_TEST(c.get("/").result_int() == 404);
  BOOST_TEST(c.get("/stats/").result_int() == 404);
  BOOST_TEST(c.post("/nothing").result_int() == 404);

  const response wrong_get = c.get(process_target("1", "1"));
  BOOST_TEST(wrong_get.result_int() == 405);
  BOOST_TEST(wrong_get[http::field::allow] == "POST");
  for (const char* target : {"/stats", "/health/ready"}) {
    const response wrong_post = c.post(target);
    BOOST_TEST(wrong_post.result_int() == 405);
    BOOST_TEST(wrong_post[http::field::allow] == "GET");
  }
  BOOST_TEST(c.get("/health/ready").result_int() == 200);
}

BOOST_AUTO_TEST_CASE(reports_its_statistics) {
  service s({"--pool-threads", "3", "--capacity", "77"});
  BOOST_TEST(s.stat("/pool/threads") == 3);
  BOOST_TEST(s.stat("/admission/limit") == 77);
  BOOST_TEST(s.stat("/admission/available") == 77);
  BOOST_TEST(s.stat("/admission/in_use") == 0);
  BOOST_TEST(s.stat("/requests/accepted") == 5); // this one as well
  BOOST_TEST(s.stat("/requests/ok") == 5);
}

BOOST_AUTO_TEST_CASE(speaks_http) {
  service s({"--header-limit", "1000", "--body-limit", "1000"});
  const std::string host = " HTTP/1.1\r\nHost: test\r\n";

  client pipelining = s.connect();
  pipelining.send("GET /stats" + host + "\r\nGET /nothing" + host + "\r\n");
  BOOST_TEST(pipelining.receive().result_int() == 200);
  BOOST_TEST(pipelining.receive().result_int() == 404);

  client polite = s.connect();
  polite.send("POST /process?tasks=1&bytes=9" + host +
              "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  BOOST_TEST(polite.receive().result_int() == 100);
  polite.send("abc");
  check_digests(polite.receive(), 1, "abc", 9);

  const auto answer_and_close = [&](const std::string& message) {
    client c = s.connect();
    c.send(message);
    const response r = c.receive();
    BOOST_TEST(!r.keep_alive());
    BOOST_TEST(c.is_closed());
    return r.result_int();
  };
  BOOST_TEST(answer_and_close("junk\r\n\r\n") == 400);
  BOOST_TEST(answer_and_close("GET /stats" + host + "Connection: close\r\n\r\n") == 200);
  BOOST_TEST(answer_and_close("GET /stats HTTP/1.0\r\n\r\n") == 200);
  BOOST_TEST(answer_and_close("GET /stats" + host + "X: " + std::string(1000, 'x') + "\r\n\r\n") ==
             431);
  BOOST_TEST(answer_and_close("POST /process" + host + "Content-Length: 1001\r\n\r\n") == 413);
}

BOOST_AUTO_TEST_CASE(refuses_at_once_what_is_over_capacity) {
  service s({"--capacity", "4", "--max-tasks", "4", "--max-bytes", endless, "--drain-ms", "1"});
  client first = s.connect();
  first.begin_post(process_target("3", endless));
  s.await("/admission/in_use", 3);

  client second = s.connect();
  const response refused = second.post(process_target("2", "1"));
  BOOST_TEST(refused.result_int() == 503);
  BOOST_TEST(std::stoi(std::string(refused[http::field::retry_after])) >= 1);
  BOOST_TEST(refused.keep_alive());
  s.await("/requests/refused", 1);
  BOOST_TEST(s.stat("/admission/in_use") == 3);
  BOOST_TEST(s.stat("/admission/waiting") == 0);
  BOOST_TEST(second.get("/health/ready").result_int() == 200);
}

BOOST_AUTO_TEST_CASE(what_still_fits_is_admitted_and_the_capacity_comes_back) {
  service s({"--capacity", "4", "--max-tasks", "4"});
  client c = s.connect();
  for (int i = 0; i != 10; ++i) check_digests(c.post(process_target("4", "100")), 4, "", 100);
  BOOST_TEST(s.stat("/admission/in_use") == 0);
}

BOOST_AUTO_TEST_CASE(a_full_pool_refuses_and_cancels_the_rest_of_the_request) {
  service s({"--pool-threads", "1", "--pool-queue", "1", "--pool-waiters", "1",
             "--request-parallelism", "8", "--max-bytes", endless});
  client c = s.connect();
  const response refused = c.post(process_target("8", endless));
  BOOST_TEST(refused.result_int() == 503);
  BOOST_TEST(std::stoi(std::string(refused[http::field::retry_after])) >= 1);
  s.await("/pool/running", 0);
  BOOST_TEST(s.stat("/pool/queued") == 0);
  BOOST_TEST(s.stat("/pool/waiting") == 0);
  BOOST_TEST(s.stat("/pool/completed") == 0);
  BOOST_TEST(s.stat("/admission/in_use") == 0);
  check_digests(c.post(process_target("1", "10")), 1, "", 10);
}

BOOST_AUTO_TEST_CASE(past_the_deadline_the_tasks_are_cancelled) {
  service s({"--pool-threads", "2", "--request-parallelism", "4", "--max-bytes", endless,
             "--deadline-ms", "1"});
  client c = s.connect();
  BOOST_TEST(c.post(process_target("8", endless)).result_int() == 504);
  s.await("/pool/running", 0); // endless tasks: only a stop request ends them
  BOOST_TEST(s.stat("/pool/queued") == 0);
  BOOST_TEST(s.stat("/pool/waiting") == 0);
  BOOST_TEST(s.stat("/pool/completed") == 0);
  BOOST_TEST(s.stat("/pool/submitted") <= 4); // the other half never got there
  while (s.stat("/pool/failed") + s.stat("/pool/cancelled") != s.stat("/pool/submitted")) continue;
  s.await("/requests/timed_out", 1);
  BOOST_TEST(s.stat("/admission/in_use") == 0);
}

BOOST_AUTO_TEST_CASE(refuses_bad_options_at_its_start) {
  const auto check = [](const arguments& options, const std::string& name,
                        const std::string& value) {
    BOOST_TEST_CONTEXT(name << ' ' << value) {
      process p(options);
      const std::string line = p.line();
      BOOST_TEST(line.starts_with("http_service: " + name + " must be "), line);
      BOOST_TEST(line.ends_with("(got \"" + value + "\")"), line);
      BOOST_TEST(p.wait() == 2);
    }
  };
  for (const std::string name :
       {"--drain-ms", "--pool-threads", "--pool-queue", "--pool-waiters", "--capacity",
        "--max-tasks", "--max-bytes", "--request-parallelism", "--deadline-ms", "--max-connections",
        "--header-limit", "--body-limit", "--read-timeout-ms", "--idle-timeout-ms"})
    for (const std::string value : {"0", "-1", "junk", "18446744073709551616"}) {
      check({name, value}, name, value);
      check({name + '=' + value}, name, value);
    }
  for (const std::string value : {"-1", "65536", "junk"}) check({"--port", value}, "--port", value);
  check({"--capacity", "10", "--max-tasks", "11"}, "--max-tasks", "11");

  for (const char* value : {"0", "-1", "junk", ""}) {
    setenv("POOL_THREADS", value, 1);
    check({}, "POOL_THREADS", value);
  }
  setenv("POOL_THREADS", "5", 1);
  BOOST_TEST(service().stat("/pool/threads") == 5);
  BOOST_TEST(service({"--pool-threads", "3"}).stat("/pool/threads") == 3);
  unsetenv("POOL_THREADS");

  process unknown({"--pool-thread", "2"});
  BOOST_TEST(unknown.line() == "http_service: unrecognised option '--pool-thread'");
  BOOST_TEST(unknown.wait() == 2);
}

BOOST_AUTO_TEST_CASE(sigterm_closes_the_idle_and_finishes_the_accepted) {
  service s({"--drain-ms", a_day, "--read-timeout-ms", a_day});
  client idle = s.connect();
  BOOST_TEST(idle.get("/health/ready").result_int() == 200);
  client prober = s.connect();
  BOOST_TEST(prober.get("/health/ready").keep_alive());
  prober.send("GET /health/ready HTTP/1.1\r\nHost:");
  half_sent_request half(s);
  s.await_accepted(3);

  s.terminate();
  s.await_closed_listener();
  BOOST_TEST(idle.is_closed());
  prober.send(" test\r\n\r\n");
  const response draining = prober.receive();
  BOOST_TEST(draining.result_int() == 503);
  BOOST_TEST(!draining.keep_alive());
  BOOST_TEST(prober.is_closed());
  half.check_answered_when_complete();

  const auto [exit_code, report] = s.wait();
  BOOST_TEST(exit_code == 0);
  BOOST_TEST(report == "4 accepted, 4 answered, 0 abandoned");
}

BOOST_AUTO_TEST_CASE(sigterm_in_mid_load_loses_nothing) {
  constexpr std::size_t bytes = 1 << 20;
  service s({"--drain-ms", a_day});
  std::list<client> clients;
  for (int i = 0; i != 16; ++i)
    clients.emplace_back(s.port()).begin_post(process_target("8", std::to_string(bytes)));
  s.await_accepted(16);
  s.terminate();

  const json::array expected = expected_digests(8, "", bytes);
  while (!clients.empty()) {
    check_digests(clients.front().receive(), expected);
    clients.pop_front();
  }
  const auto [exit_code, report] = s.wait();
  BOOST_TEST(exit_code == 0);
  BOOST_TEST(report == "16 accepted, 16 answered, 0 abandoned");
}

BOOST_AUTO_TEST_CASE(sigterm_does_not_lose_the_listen_backlog) {
  service s({"--max-connections", "1", "--drain-ms", a_day, "--read-timeout-ms", a_day});
  half_sent_request half(s); // has the only connection; who comes now is not accepted
  client second = s.connect();
  second.begin_post(process_target("1", "10"));
  client third = s.connect();
  third.begin_post(process_target("2", "20"));

  s.terminate();
  check_digests(second.receive(), 1, "", 10);
  BOOST_TEST(second.is_closed());
  check_digests(third.receive(), 2, "", 20);
  BOOST_TEST(third.is_closed());
  half.check_answered_when_complete();
  const auto [exit_code, report] = s.wait();
  BOOST_TEST(exit_code == 0);
  BOOST_TEST(report == "3 accepted, 3 answered, 0 abandoned");
}

BOOST_AUTO_TEST_CASE(reports_what_it_abandons_when_the_drain_time_is_over) {
  service s({"--drain-ms", "1", "--max-bytes", endless, "--read-timeout-ms", a_day});
  half_sent_request half(s);
  client endless_one = s.connect();
  endless_one.begin_post(process_target("4", endless));
  s.await("/admission/in_use", 4);
  s.await_accepted(2);

  s.terminate();
  BOOST_TEST(half.is_closed());
  BOOST_TEST(endless_one.is_closed());
  const auto [exit_code, report] = s.wait();
  BOOST_TEST(exit_code == 0);
  BOOST_TEST(report == "2 accepted, 0 answered, 2 abandoned");
}

BOOST_AUTO_TEST_CASE(a_second_signal_ends_the_drain_time) {
  service s({"--drain-ms", a_day, "--read-timeout-ms", a_day});
  half_sent_request half(s);
  s.await_accepted(1);
  s.terminate();
  s.await_closed_listener();
  s.terminate();
  BOOST_TEST(half.is_closed());
  const auto [exit_code, report] = s.wait();
  BOOST_TEST(exit_code == 0);
  BOOST_TEST(report == "1 accepted, 0 answered, 1 abandoned");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
