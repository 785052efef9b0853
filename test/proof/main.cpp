//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// proof AREA [--full] [--seed N]   tries one area; the last line that it prints is JSON
// proof --peer AREA NAME           does the same to a peer
// proof --list                     prints all areas and peers, as JSON

#include "proof.hpp"

#include <boost/json.hpp>
#include <boost/version.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace proof {

namespace {

namespace json = boost::json;

// In functions, as areas and peers are constants of other translation units.
std::vector<const area*>& areas() {
  static std::vector<const area*> all;
  return all;
}

std::vector<const peer*>& peers() {
  static std::vector<const peer*> all;
  return all;
}

json::object list() {
  json::array a, p;
  for (const area* each : areas())
    a.push_back(json::object{{"name", each->name}, {"passes_when", each->passes_when}});
  for (const peer* each : peers())
    p.push_back(json::object{{"area", each->area_name}, {"name", each->name}});
  return {
    {"areas", std::move(a)}, {"peers", std::move(p)},
#if defined(__clang__)
    {
      "built_with", "clang++ " __clang_version__ ", Boost " BOOST_LIB_VERSION
    }
  };
#else
    {
      "built_with", "g++ " __VERSION__ ", Boost " BOOST_LIB_VERSION
    }
  };
#endif
}

void print(const tally& t) {
  std::cout << json::object{{"tried", t.tried()}, {"lost", t.lost()}, {"note", t.notes()}}
            << std::endl;
}

int try_area(const area& a, const load& l) {
  tally t;
  try {
    a.run(l, t);
  } catch (const std::exception& e) {
    t.lose(1, std::string("the area itself failed: ") + e.what());
  }
  if (t.tried() == 0) t.lose(1, "nothing was tried");
  print(t);
  return t.lost() == 0 ? 0 : 1;
}

/// AREA [--full] [--seed N], or nothing where that is not what the words say.
std::optional<std::pair<const area*, load>> parse(std::span<const std::string_view> words) {
  if (words.empty()) return std::nullopt;
  const auto a = std::ranges::find(areas(), words[0], &area::name);
  if (a == areas().end()) return std::nullopt;
  load l{.full = false, .seed = 1};
  for (std::size_t i = 1; i != words.size(); ++i) {
    if (words[i] == "--full") {
      l.full = true;
    } else if (words[i] == "--seed" && i + 1 != words.size()) {
      const std::string_view n = words[++i];
      const auto [end, error] = std::from_chars(n.data(), n.data() + n.size(), l.seed);
      if (error != std::errc() || end != n.data() + n.size()) return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  return std::pair(*a, l);
}

} // namespace

void tally::lose(std::uint64_t n, const std::string& what) {
  lost_.fetch_add(n);
  std::lock_guard lock(mutex_);
  if (++printed_ <= 10) std::fprintf(stderr, "lost: %s\n", what.c_str());
}

void tally::note(std::string words) {
  std::lock_guard lock(mutex_);
  if (!notes_.empty()) notes_ += "; ";
  notes_ += std::move(words);
}

std::string tally::notes() const {
  std::lock_guard lock(mutex_);
  return notes_;
}

watchdog::watchdog(tally& t) : tally_(t), thread_([this] { watch(); }) {}

watchdog::~watchdog() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void watchdog::at(std::string what) {
  std::lock_guard lock(mutex_);
  what_ = std::move(what);
  ++steps_;
}

void watchdog::watch() {
  using clock = std::chrono::steady_clock;
  std::uint64_t seen = 0;
  auto since = clock::now();
  for (std::unique_lock lock(mutex_); !over_; changed_.wait_for(lock, std::chrono::seconds(1))) {
    const std::uint64_t now = steps_ + tally_.tried();
    if (now != std::exchange(seen, now)) since = clock::now();
    if (clock::now() - since < std::chrono::minutes(1)) continue;
    tally_.lose(1, "hangs: " + what_);
    tally_.note("hangs: " + what_);
    print(tally_);
    std::_Exit(1);
  }
}

area::area(std::string_view n, std::string_view when, function f)
    : name(n), passes_when(when), run(f) {
  areas().push_back(this);
}

peer::peer(std::string_view a, std::string_view n, function f) : area_name(a), name(n), run(f) {
  peers().push_back(this);
}

} // namespace proof

int main(int argc, char** argv) {
  using namespace proof;
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  if (words.size() == 1 && words[0] == "--list") {
    std::cout << list() << std::endl;
    return 0;
  }
  if (words.size() == 3 && words[0] == "--peer") {
    for (const peer* p : peers())
      if (p->area_name == words[1] && p->name == words[2]) {
        p->run();
        return 0;
      }
  }
  if (const auto job = parse(words)) return try_area(*job->first, job->second);
  std::cerr << "usage: proof AREA [--full] [--seed N]; proof --peer AREA NAME; proof --list\n";
  return 2;
}
