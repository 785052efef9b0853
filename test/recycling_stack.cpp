//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/fork.hpp"
#include "support/places.hpp"
#include "support/pool.hpp"
#include "support/run.hpp"

#include <bulkhead/recycling_stack.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/context/stack_context.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <alloca.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(BULKHEAD_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace asio = boost::asio;
using asio::yield_context;
using boost::context::stack_context;
using bulkhead::recycling_stack;
using bulkhead::recycling_stack_options;
using bulkhead::recycling_stack_stats;
using test::failure;
using test::number_of;
using test::scaled;

static_assert(std::is_nothrow_copy_constructible_v<recycling_stack>);
static_assert(std::is_nothrow_move_constructible_v<recycling_stack>);
static_assert(std::is_nothrow_copy_assignable_v<recycling_stack>);
static_assert(std::is_nothrow_move_assignable_v<recycling_stack>);
static_assert(!std::is_convertible_v<recycling_stack_options, recycling_stack>);
static_assert(
    noexcept(std::declval<recycling_stack&>().deallocate(std::declval<stack_context&>())));

namespace bulkhead {

static bool operator==(const recycling_stack_stats& a, const recycling_stack_stats& b) {
  return a.in_use == b.in_use && a.cached == b.cached && a.created == b.created &&
         a.reused == b.reused && a.dropped == b.dropped;
}

static std::ostream& operator<<(std::ostream& to, const recycling_stack_stats& s) {
  return to << "in_use " << s.in_use << " cached " << s.cached << " created " << s.created
            << " reused " << s.reused << " dropped " << s.dropped;
}

} // namespace bulkhead

namespace {

std::size_t page() { return recycling_stack::traits_type::page_size(); }

char* lowest(const stack_context& s) { return static_cast<char*>(s.sp) - s.size + page(); }

/// Expects that so many of `all` are there. Not under a sanitizer: what that allocates for itself can
/// take the place of a stack at once.
void expect_mapped(const std::vector<stack_context>& all, std::size_t n) {
  if (test::sanitized) return;
  std::size_t mapped = 0;
  unsigned char resident = 0;
  for (const stack_context& s : all)
    if (::mincore(static_cast<char*>(s.sp) - page(), page(), &resident) == 0) ++mapped;
  BOOST_TEST(mapped == n);
}

void touch(char* p) { *static_cast<volatile char*>(p) = 1; }

std::vector<stack_context> allocate(recycling_stack& stacks, std::size_t n) {
  std::vector<stack_context> all;
  for (std::size_t i = 0; i != n; ++i) all.push_back(stacks.allocate());
  return all;
}

void deallocate(recycling_stack& stacks, std::vector<stack_context>& all) {
  for (stack_context& s : all) stacks.deallocate(s);
  all.clear();
}

bool balanced(const recycling_stack_stats& s) {
  return s.created == s.in_use + s.cached + s.dropped;
}

std::string error_of(std::size_t size) {
  try {
    recycling_stack stacks({.size = size});
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "accepted";
}

void wait_forever(yield_context yield) {
  asio::steady_timer timer(yield.get_executor(), asio::steady_timer::time_point::max());
  timer.async_wait(yield);
}

void give_way(yield_context yield) { asio::post(yield); }

/// Takes so many KiB of the stack, and a little more, in steps that do not miss the guard. What the
/// compiler does not know it cannot leave out, nor can AddressSanitizer move it off the stack.
int descend(std::size_t kib) {
  volatile std::size_t step = 1024;
  auto* const mine = static_cast<char*>(::alloca(step));
  *mine = 1;
  asm volatile("" : : "r"(mine) : "memory");
  const int deeper = kib == 0 ? 0 : descend(kib - 1);
  return deeper + *mine;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_stack_has_the_wanted_size_in_whole_pages_and_a_guard_page) {
  for (std::size_t size : {64 * 1024 + std::size_t(0), 64 * 1024 + std::size_t(1)}) {
    recycling_stack stacks({.size = size});
    stack_context s = stacks.allocate();
    BOOST_TEST(s.size == (size + page() - 1) / page() * page() + page());
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(s.sp) % page() == 0u);
    std::fill(lowest(s), static_cast<char*>(s.sp), 'x');
    stacks.deallocate(s);
  }
}

BOOST_AUTO_TEST_CASE(a_stack_has_the_default_size_of_boost_context_unless_said_otherwise) {
  recycling_stack stacks;
  stack_context s = stacks.allocate();
  BOOST_TEST(s.size - page() >= recycling_stack::traits_type::default_size());
  BOOST_TEST(s.size - page() < recycling_stack::traits_type::default_size() + page());
  stacks.deallocate(s);
}

BOOST_AUTO_TEST_CASE(a_size_that_cannot_be_is_refused_by_name_and_value) {
  const std::size_t least = recycling_stack::traits_type::minimum_size();
  for (std::size_t size : {std::size_t(0), std::size_t(1), least - 1})
    BOOST_TEST(error_of(size) == "recycling_stack_options::size must be at least " +
                                     std::to_string(least) + " (got " + std::to_string(size) + ")");
  BOOST_TEST(error_of(least) == "accepted");
  for (std::size_t size : {SIZE_MAX, SIZE_MAX - page()}) {
    const std::string error = error_of(size);
    BOOST_TEST(error.starts_with("recycling_stack_options::size must be at most "), error);
    BOOST_TEST(error.ends_with(" (got " + std::to_string(size) + ")"), error);
  }
}

BOOST_AUTO_TEST_CASE(a_size_beyond_the_memory_of_the_system_is_refused_when_it_is_allocated) {
  recycling_stack stacks({.size = bulkhead::detail::guarded_stacks::most()});
  BOOST_CHECK_THROW(stacks.allocate(), std::bad_alloc);
  BOOST_TEST(stacks.stats() == recycling_stack_stats());
}

BOOST_AUTO_TEST_CASE(the_stack_that_came_back_last_is_the_next) {
  recycling_stack stacks;
  std::vector<stack_context> three = allocate(stacks, 3);
  stacks.deallocate(three[1]);
  stacks.deallocate(three[0]);
  stacks.deallocate(three[2]);
  for (int i : {2, 0, 1}) {
    const stack_context s = stacks.allocate();
    BOOST_TEST(s.sp == three[i].sp);
    BOOST_TEST(s.size == three[i].size);
  }
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.in_use = 3, .created = 3, .reused = 3}));
  deallocate(stacks, three);
}

BOOST_AUTO_TEST_CASE(copies_share_one_store) {
  recycling_stack stacks({.max_cached = 1}), copy(stacks), other;
  stack_context s = stacks.allocate();
  void* const sp = s.sp;
  copy.deallocate(s);
  BOOST_TEST(stacks.stats() == copy.stats());
  other = stacks;
  s = other.allocate();
  BOOST_TEST(s.sp == sp);
  recycling_stack moved(std::move(copy));
  moved.deallocate(s);
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 1, .created = 1, .reused = 1}));
}

BOOST_AUTO_TEST_CASE(no_more_than_max_cached_are_kept) {
  for (std::size_t most : {0, 1, 3}) {
    recycling_stack stacks({.max_cached = most});
    std::vector<stack_context> five = allocate(stacks, 5);
    const std::vector<stack_context> before = five;
    deallocate(stacks, five);
    expect_mapped(before, most);
    BOOST_TEST(stacks.stats() ==
               (recycling_stack_stats{.cached = most, .created = 5, .dropped = 5 - most}));
  }
}

BOOST_AUTO_TEST_CASE(trim_drops_what_is_cached_and_leaves_what_is_in_use) {
  recycling_stack stacks;
  std::vector<stack_context> some = allocate(stacks, 4);
  const stack_context kept = some.back();
  some.pop_back();
  const std::vector<stack_context> before = some;
  deallocate(stacks, some);
  stacks.trim();
  stacks.trim();
  expect_mapped(before, 0);
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.in_use = 1, .created = 4, .dropped = 3}));
  touch(lowest(kept));
  some.push_back(kept);
  deallocate(stacks, some);
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 1, .created = 4, .dropped = 3}));
}

BOOST_AUTO_TEST_CASE(the_last_copy_drops_what_is_cached) {
  std::optional<recycling_stack> stacks(std::in_place), copy(stacks);
  std::vector<stack_context> two = allocate(*stacks, 2);
  const std::vector<stack_context> before = two;
  deallocate(*stacks, two);
  stacks.reset();
  expect_mapped(before, 2);
  copy.reset();
  expect_mapped(before, 0);
}

BOOST_AUTO_TEST_CASE(below_a_stack_is_a_page_that_nobody_can_touch) {
  recycling_stack stacks({.max_cached = 1});
  for (bool reused : {false, true}) BOOST_TEST_CONTEXT("reused: " << reused) {
      stack_context s = stacks.allocate();
      BOOST_TEST(test::in_child([&] { return touch(lowest(s)), 0; }) == 0);
      BOOST_TEST(test::in_child([&] { return touch(lowest(s) - 1), 0; }) == -SIGSEGV);
      BOOST_TEST(test::in_child([&] { return touch(lowest(s) - page()), 0; }) == -SIGSEGV);
      stacks.deallocate(s);
    }
}

BOOST_AUTO_TEST_CASE(a_coroutine_that_needs_more_than_its_stack_ends_the_process) {
  const auto run_to_depth = [](std::size_t kib) {
    return test::in_child([&] {
      asio::io_context io;
      recycling_stack stacks({.size = 256 * 1024});
      for (bool reused : {false, true}) {
        asio::spawn(
            io, std::allocator_arg, stacks,
            [kib, reused](yield_context) { descend(reused ? kib : 1); }, asio::detached);
        test::run(io);
      }
      return 0;
    });
  };
  BOOST_TEST(run_to_depth(64) == 0);
  BOOST_TEST(run_to_depth(300) == -SIGSEGV);
}

// Not under a sanitizer, which needs memory of its own from the same system.
BOOST_AUTO_TEST_CASE(nothing_has_changed_when_the_system_has_no_memory) {
  if (test::sanitized) return;
  BOOST_TEST(test::in_child([] {
               recycling_stack stacks;
               std::vector<stack_context> two = allocate(stacks, 2);
               stacks.deallocate(two.back());
               const rlimit none{0, 0};
               if (::setrlimit(RLIMIT_AS, &none) != 0) return 1;
               two.back() = stacks.allocate(); // that needs no memory
               const recycling_stack_stats before = stacks.stats();
               for (int i = 0; i != 3; ++i) try {
                   stacks.allocate();
                   return 2;
                 } catch (const std::bad_alloc&) {
                 }
               if (!(stacks.stats() == before)) return 3;
               deallocate(stacks, two);
               return stacks.stats().cached == 2 ? 0 : 4;
             }) == 0);
}

BOOST_AUTO_TEST_CASE(no_stack_comes_without_its_guard_page_however_many_there_are) {
  if (test::sanitized) return;
  std::size_t most_mappings = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> most_mappings;
  if (most_mappings == 0 || most_mappings > 100'000) return; // too many to fill the table
  BOOST_TEST(test::in_child([&] {
               recycling_stack stacks;
               std::vector<stack_context> all;
               all.reserve(most_mappings);
               try {
                 while (all.size() != most_mappings) all.push_back(stacks.allocate());
                 return 1;
               } catch (const std::bad_alloc&) {
               }
               if (stacks.stats().in_use != all.size() || stacks.stats().created != all.size())
                 return 2;
               int ends[2];
               if (::pipe(ends) != 0) return 3;
               for (const stack_context& s : all)
                 if (::write(ends[1], lowest(s) - 1, 1) != -1 || errno != EFAULT) return 4;
               return 0;
             }) == 0);
}

BOOST_AUTO_TEST_CASE(coroutines_one_after_another_share_one_stack) {
  asio::io_context io;
  recycling_stack stacks;
  for (int i = 0; i != 10; ++i) {
    asio::spawn(io, std::allocator_arg, stacks, give_way, asio::detached);
    test::run(io);
  }
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 1, .created = 1, .reused = 9}));
}

BOOST_AUTO_TEST_CASE(coroutines_find_what_they_left_in_their_frames) {
  test::on_every_executor([](auto& place) {
    recycling_stack stacks({.max_cached = 4});
    const int n = scaled(2000);
    std::atomic<int> right{0};
    for (int i = 0; i != n; ++i)
      asio::spawn(
          place.executor(), std::allocator_arg, stacks,
          [&right, i](yield_context yield) {
            std::array<int, 500> mine;
            mine.fill(i);
            for (int turn = 0; turn != 3; ++turn) give_way(yield);
            if (std::count(mine.begin(), mine.end(), i) == 500) ++right;
          },
          asio::detached);
    place.finish();
    BOOST_TEST(right == n);
    const recycling_stack_stats s = stacks.stats();
    BOOST_TEST(balanced(s), s);
    BOOST_TEST(s.in_use == 0u);
    BOOST_TEST(s.cached <= 4u);
    BOOST_TEST(s.created + s.reused == std::uint64_t(n));
  });
}

BOOST_AUTO_TEST_CASE(a_pool_is_named_itself_and_coroutines_spawn_others) {
  bulkhead::pool pool(4);
  recycling_stack stacks;
  std::atomic<int> ended{0};
  auto leaf = [&](yield_context yield) {
    give_way(yield);
    ++ended;
  };
  auto parent = [&](yield_context yield) {
    for (int i = 0; i != 3; ++i)
      asio::spawn(yield, std::allocator_arg, stacks, leaf, asio::detached);
    give_way(yield);
    return ++ended;
  };
  const int n = scaled(200);
  for (int i = 0; i != n; ++i)
    asio::spawn(pool, std::allocator_arg, stacks, parent, [](std::exception_ptr, int) {});
  pool.join();
  BOOST_TEST(ended == 4 * n);
  BOOST_TEST(stacks.stats().in_use == 0u);
  BOOST_TEST(stacks.stats().created + stacks.stats().reused == std::uint64_t(4 * n));
}

BOOST_AUTO_TEST_CASE(what_a_coroutine_throws_leaves_its_stack_clean) {
  asio::io_context io;
  recycling_stack stacks;
  for (int i = 1; i != 10; ++i) {
    auto f = asio::spawn(
        io, std::allocator_arg, stacks,
        [i](yield_context yield) {
          std::array<char, 1000> some;
          some.fill(static_cast<char>(i));
          give_way(yield);
          throw failure(i + some.back() - i);
        },
        asio::use_future);
    test::run(io);
    int number = 0;
    try {
      f.get();
    } catch (...) {
      number = number_of(std::current_exception());
    }
    BOOST_TEST(number == i);
  }
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 1, .created = 1, .reused = 8}));
}

BOOST_AUTO_TEST_CASE(a_coroutine_that_is_cancelled_gives_its_stack_back) {
  asio::io_context io;
  recycling_stack stacks;
  asio::cancellation_signal cancel;
  std::exception_ptr error;
  asio::spawn(
      io, std::allocator_arg, stacks, wait_forever,
      asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr e) { error = e; }));
  test::poll(io);
  BOOST_TEST(stacks.stats().in_use == 1u);
  cancel.emit(asio::cancellation_type::terminal);
  test::run(io);
  BOOST_TEST(number_of(error) == -1);
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 1, .created = 1}));
}

BOOST_AUTO_TEST_CASE(a_coroutine_may_end_after_the_last_copy_that_the_user_holds) {
  asio::io_context io;
  std::atomic<int> ended{0};
  {
    recycling_stack stacks;
    for (int i = 0; i != 3; ++i)
      asio::spawn(
          io, std::allocator_arg, stacks,
          [&](yield_context yield) {
            give_way(yield);
            descend(3);
            ++ended;
          },
          asio::detached);
    io.run_one();
  }
  test::run(io);
  BOOST_TEST(ended == 3);
}

BOOST_AUTO_TEST_CASE(a_context_that_ends_unwinds_its_coroutines_and_their_stacks_go_back) {
  recycling_stack stacks;
  std::atomic<int> alive{0};
  for (bool user_holds_one : {true, false}) {
    asio::io_context io;
    recycling_stack copy = user_holds_one ? stacks : recycling_stack();
    for (int i = 0; i != 3; ++i)
      asio::spawn(
          io, std::allocator_arg, recycling_stack(copy),
          [&](yield_context yield) {
            const test::live here(alive);
            wait_forever(yield);
          },
          asio::detached);
    test::poll(io);
    BOOST_TEST(alive == 3);
    BOOST_TEST(copy.stats().in_use == 3u);
    copy = stacks;
  }
  BOOST_TEST(alive == 0);
  BOOST_TEST(stacks.stats() == (recycling_stack_stats{.cached = 3, .created = 3}));
}

BOOST_AUTO_TEST_CASE(a_spawn_for_which_there_is_no_stack_throws_and_takes_nothing) {
  test::on_every_executor([](auto& place) {
    recycling_stack none({.size = bulkhead::detail::guarded_stacks::most()});
    std::atomic<int> alive{0};
    BOOST_CHECK_THROW(asio::spawn(
                          place.executor(), std::allocator_arg, none,
                          [l = test::live(alive)](yield_context) {},
                          [l = test::live(alive)](std::exception_ptr) { BOOST_ERROR("called"); }),
                      std::bad_alloc);
    place.finish();
    BOOST_TEST(alive == 0);
    BOOST_TEST(none.stats() == recycling_stack_stats());
  });
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_and_nothing_given_twice_between_many_threads) {
  constexpr std::size_t threads = 4, most_cached = 8, most_held = 16;
  const int steps = scaled(40'000);
  recycling_stack stacks({.size = 16 * page(), .max_cached = most_cached});
  std::mutex mutex;
  std::vector<stack_context> shelf; // from one thread to another
  std::atomic<std::uint64_t> allocations{0};
  std::atomic<int> wrong{0};

  const auto work = [&](std::size_t id) {
    recycling_stack mine(stacks);
    std::minstd_rand random(static_cast<unsigned>(id + 1));
    for (int i = 0; i != steps; ++i) {
      const recycling_stack copy(mine);
      std::optional<stack_context> s;
      {
        std::lock_guard lock(mutex);
        if (!shelf.empty() && (shelf.size() >= most_held || random() % 2 == 0)) {
          s = shelf.back();
          shelf.pop_back();
        }
      }
      if (s) {
        if (*static_cast<std::size_t*>(static_cast<void*>(lowest(*s))) == 0) ++wrong;
        mine.deallocate(*s);
      } else {
        s = mine.allocate();
        ++allocations;
        // Whoever else has the same one would write there as well.
        *static_cast<std::size_t*>(static_cast<void*>(lowest(*s))) = id + 1;
        touch(static_cast<char*>(s->sp) - 1);
        if (*static_cast<std::size_t*>(static_cast<void*>(lowest(*s))) != id + 1) ++wrong;
        std::lock_guard lock(mutex);
        shelf.push_back(*s);
      }
      if (random() % 64 == 0) mine.trim();
      const recycling_stack_stats now = mine.stats();
      if (!balanced(now) || now.cached > most_cached || now.in_use > most_held + 2 * threads)
        ++wrong;
    }
  };
  std::vector<std::thread> all;
  for (std::size_t id = 0; id != threads; ++id) all.emplace_back(work, id);
  for (std::thread& t : all) t.join();

  BOOST_TEST(wrong == 0);
  const recycling_stack_stats s = stacks.stats();
  BOOST_TEST(balanced(s), s);
  BOOST_TEST(s.in_use == shelf.size());
  BOOST_TEST(s.created + s.reused == allocations);
  std::vector<void*> tops;
  for (const stack_context& held : shelf) tops.push_back(held.sp);
  std::sort(tops.begin(), tops.end());
  BOOST_TEST((std::adjacent_find(tops.begin(), tops.end()) == tops.end()));
  deallocate(stacks, shelf);
  stacks.trim();
  BOOST_TEST(stacks.stats().created == stacks.stats().dropped);
}

#if defined(BULKHEAD_TEST_ASAN)
BOOST_AUTO_TEST_CASE(address_sanitizer_sees_who_touches_a_cached_stack_and_nobody_else) {
  recycling_stack stacks({.max_cached = 1});
  std::vector<stack_context> two = allocate(stacks, 2);
  const auto is_clean = [](const stack_context& s) {
    return !__asan_region_is_poisoned(lowest(s), s.size - page());
  };
  for (stack_context& s : two) {
    BOOST_TEST(is_clean(s));
    __asan_poison_memory_region(lowest(s) + 2 * page(), 64); // a frame that will never return
  }
  const std::vector<stack_context> before = two;
  deallocate(stacks, two); // one cached, one dropped
  BOOST_TEST(__asan_address_is_poisoned(lowest(before[0])));
  BOOST_TEST(is_clean(before[1]));
  BOOST_TEST(stacks.allocate().sp == before[0].sp);
  BOOST_TEST(is_clean(before[0]));
  two.push_back(before[0]);
  deallocate(stacks, two);
  stacks.trim();
  BOOST_TEST(is_clean(before[0]));
}
#endif
