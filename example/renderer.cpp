//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Draws pictures with renderers that take four times as long to construct as to draw one: once on a
// stateful_pool, where every worker has its own, and once with one for each picture.

#include "support/command_line.hpp"

#include <bulkhead/map.hpp>
#include <bulkhead/pool.hpp>
#include <bulkhead/stateful_pool.hpp>
#include <bulkhead/timeout.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::use_awaitable;
using bulkhead::timeout;
using clock_type = std::chrono::steady_clock;

struct options {
  std::size_t pictures = 100;
  std::size_t workers = 4;
  std::chrono::milliseconds construction{200};
  std::chrono::milliseconds drawing{50};
  std::chrono::milliseconds limit{60'000};
};

/// Does something over and over until `duration` has gone by, and at least once: how long it takes is
/// the same on every machine that has a processor for each worker, and about so on others.
template <class F>
void work_for(std::chrono::milliseconds duration, F f) {
  const auto end = clock_type::now() + duration;
  do f();
  while (clock_type::now() < end);
}

struct malformed_scene : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What is to be drawn. A few are malformed, and some leave the renderer with so many textures that one
/// would rather have another.
struct scene {
  std::size_t number;

  bool is_malformed() const { return number % 50 == 17; }
  bool is_huge() const { return number % 50 == 33; }
};

// tag::state[]
/// Can be used on the thread that has made it only, as renderers can. What takes so long in reality,
/// reading fonts and compiling shaders, is a table here that is computed again and again.
class renderer {
public:
  explicit renderer(const options& o) : drawing_(o.drawing) {
    work_for(o.construction, [this] { compute_glyphs(); });
  }

  renderer(const renderer&) = delete; // nor can it be moved

  std::uint64_t draw(const scene& s) const;
  // end::state[]

private:
  static constexpr std::size_t size = 48;
  using glyph = std::array<std::uint32_t, size * size>;

  // For each pixel, how far away the letter is.
  void compute_glyphs() {
    for (std::size_t g = 0; g != glyphs_.size(); ++g)
      for (std::size_t i = 0; i != size * size; ++i) {
        const std::size_t x = i % size, y = i / size;
        std::uint32_t nearest = ~std::uint32_t(0);
        for (std::size_t dot = 0; dot != 16; ++dot) {
          const std::size_t dx = x - (dot * (g + 3)) % size, dy = y - (dot * (g + 7)) % size;
          nearest = std::min(nearest, static_cast<std::uint32_t>(dx * dx + dy * dy));
        }
        glyphs_[g][i] = nearest;
      }
  }

  std::array<glyph, 16> glyphs_;
  const std::chrono::milliseconds drawing_;
  const std::thread::id maker_ = std::this_thread::get_id();
};

/// The picture, as far as we are concerned: a hash of it.
std::uint64_t renderer::draw(const scene& s) const {
  if (std::this_thread::get_id() != maker_) throw std::logic_error("drawn on another's thread");
  if (s.is_malformed()) throw malformed_scene("scene " + std::to_string(s.number));
  std::uint64_t hash = 0;
  work_for(drawing_, [&] {
    hash = s.number;
    for (const glyph& g : glyphs_)
      for (std::uint32_t distance : g) hash = (hash ^ distance) * 1'099'511'628'211u;
  });
  return hash;
}

/// All pictures, those of malformed scenes being none.
using pictures = std::vector<std::optional<std::uint64_t>>;

// Calls `draw(scene)`, which is an awaitable, for all scenes, as many at a time as can be under way,
// and some more that wait for a worker.
template <class Draw>
asio::awaitable<pictures> draw_all(const options& o, Draw draw) {
  auto one = [&](std::size_t i) -> asio::awaitable<std::optional<std::uint64_t>> {
    try {
      co_return co_await draw(scene{i});
    } catch (const malformed_scene&) {
      co_return std::nullopt;
    }
  };
  co_return co_await bulkhead::async_map(std::views::iota(std::size_t(0), o.pictures),
                                         2 * o.workers, one, use_awaitable);
}

struct report {
  pictures drawn;
  std::uint64_t constructed = 0;
  std::chrono::duration<double> took{0};
};

// tag::pool[]
asio::awaitable<report> with_a_renderer_per_worker(const options& o) {
  auto make = [&o] { return renderer(o); }; // is called on each worker
  bulkhead::pool_options size;
  size.threads = o.workers;
  size.name = "render";
  bulkhead::stateful_pool<renderer> pool(make, size);

  report r;
  const auto start = clock_type::now();
  co_await pool.async_warm_up(timeout(o.limit, use_awaitable)); // throws what `make` throws
  auto draw = [&](scene s) -> asio::awaitable<std::uint64_t> {
    auto task = [s](bulkhead::state_handle<renderer> mine) {
      if (s.is_huge()) mine.rebuild(); // after this picture
      return mine->draw(s);
    };
    co_return co_await pool.async_submit(task, timeout(o.limit, use_awaitable));
  };
  r.drawn = co_await draw_all(o, draw);
  r.took = clock_type::now() - start;
  r.constructed = pool.stats().built;
  co_return r;
}
// end::pool[]

asio::awaitable<report> with_a_renderer_per_picture(const options& o) {
  bulkhead::pool pool(o.workers);
  report r;
  const auto start = clock_type::now();
  auto draw = [&](scene s) -> asio::awaitable<std::uint64_t> {
    ++r.constructed;
    auto task = [s, &o] { return renderer(o).draw(s); };
    co_return co_await pool.async_submit(task, timeout(o.limit, use_awaitable));
  };
  r.drawn = co_await draw_all(o, draw);
  r.took = clock_type::now() - start;
  co_return r;
}

void print(const char* what, const report& r) {
  const auto malformed = static_cast<std::size_t>(
      std::ranges::count_if(r.drawn, [](const auto& picture) { return !picture; }));
  std::printf("a renderer per %-8s %zu pictures in %.2f s, renderers: %ju, malformed scenes: %zu\n",
              what, r.drawn.size() - malformed, r.took.count(), std::uintmax_t{r.constructed},
              malformed);
}

asio::awaitable<bool> compare(const options& o) {
  const report per_worker = co_await with_a_renderer_per_worker(o);
  print("worker:", per_worker);
  const report per_picture = co_await with_a_renderer_per_picture(o);
  print("picture:", per_picture);
  const bool same = per_worker.drawn == per_picture.drawn;
  std::printf("%.1f times as fast, %s\n", per_picture.took / per_worker.took,
              same ? "the same pictures" : "BUT OTHER PICTURES");
  co_return same;
}

std::optional<options> read_options(int argc, const char* const* argv) {
  options o;
  example::command_line line("renderer [options]: draws with long-lived and with short-lived "
                             "renderers, and compares");
  line.number("pictures", o.pictures, 1, 100'000, "pictures to draw")
      .number("workers", o.workers, 1, 1000, "threads that draw")
      .number("construction-ms", o.construction, 0, 60'000, "time to construct a renderer")
      .number("drawing-ms", o.drawing, 0, 60'000, "time to draw a picture")
      .number("limit-ms", o.limit, 1, 3'600'000, "time that a picture may take, with all waiting");
  if (!line.parse(argc, argv, std::cout)) return std::nullopt;
  return o;
}

} // namespace

int main(int argc, char* argv[]) {
  std::optional<options> o;
  try {
    o = read_options(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "renderer: " << e.what() << '\n';
    return 2;
  }
  if (!o) return 0;
  bool same = false;
  try {
    asio::io_context io;
    asio::co_spawn(io, compare(*o), [&](std::exception_ptr e, bool result) {
      if (e) std::rethrow_exception(e);
      same = result;
    });
    io.run();
  } catch (const std::exception& e) {
    std::cerr << "renderer: " << e.what() << '\n';
    return 1;
  }
  return same ? 0 : 1;
}
