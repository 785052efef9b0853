//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Area "allocation failure": the k-th allocation fails, for k = 0, 1, ... until a case goes through
// without reaching it. A case is an operation from its initiation to its end, whatever ends it. Each
// trial has a process of its own, with cold caches, so that one that terminates or hangs is a trial
// that failed; there it is repeated with warm ones, to see whether memory is lost.

#include "../../support/fork.hpp"
#include "../../support/global_new.hpp"
#include "../proof.hpp"
#include "memory.hpp"

#include <csignal>
#include <cstring>
#include <optional>
#include <string>

#include <sys/mman.h>

namespace proof::memory {

namespace {
std::optional<test::global_fuse_scope> armed;
} // namespace

void arm_global_fuse(long n) noexcept { armed.emplace(n, true); }

long disarm_global_fuse() noexcept {
  const long left = test::global_fuse.remaining;
  armed.reset();
  return left;
}

namespace {

constexpr long no_index = 200'000; // more allocations than any case has

/// Shared with the processes of the trials.
struct board {
  bool was_reached;
  bool has_thrown_in_run;
  char text[200];
};

int try_once(const one_case& c, failing what, long k, board& b) {
  const auto say = [&](const std::string& words) {
    std::strncpy(b.text, words.c_str(), sizeof b.text - 1);
    return 1;
  };
  alarm(60); // what hangs is ended
  {
    trial t(what, k);
    c.run(t);
    if (const std::string& wrong = t.verdict(); !wrong.empty()) return say(wrong);
    b.was_reached = t.was_reached();
    b.has_thrown_in_run = t.has_thrown_in_run();
  }
  // With warm caches, and again: memory that was lost each time is not in a cache.
  constexpr long times = 4;
  long before = 0;
  for (long i = 0; i != 2 * times; ++i) {
    if (i == times) before = test::global_memory.blocks;
    trial t(what, k);
    c.run(t);
    if (const std::string& wrong = t.verdict(); !wrong.empty()) return say(wrong + " (when warm)");
  }
  if (test::global_memory.blocks - before >= times) return say("memory is lost");
  return 0;
}

void run(const proof::load&, proof::tally& tally) {
  auto* const b = static_cast<board*>(
      mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (b == MAP_FAILED) throw std::bad_alloc();
  std::uint64_t thrown_in_run = 0;
  const char* const names[] = {"everything", "everything, bound", "the handler's"};
  for (const one_case& c : cases())
    for (failing what : {failing::everything, failing::everything_bound, failing::handlers})
      for (long k = 0; k != no_index; ++k) {
        *b = {};
        const int code = test::in_child([&] { return try_once(c, what, k, *b); });
        thrown_in_run += b->has_thrown_in_run;
        std::string wrong = b->text;
        if (code == -SIGALRM)
          wrong = "hangs";
        else if (code < 0)
          wrong = "ended by signal " + std::to_string(-code);
        else if (code == 125)
          wrong = "throws";
        tally.expect(code == 0, std::string(c.name) + ", allocation " + std::to_string(k) + " of " +
                                    names[static_cast<int>(what)] + ": " + wrong);
        if (code == 0 && !b->was_reached) break;
        if (code != 0 && k > 400) break;
      }
  munmap(b, sizeof(board));
  tally.note(std::to_string(cases().size()) + " cases; in " + std::to_string(thrown_in_run) +
             " trials run() threw, for what Asio allocates there is its own");
}

const proof::area allocation_failure("allocation failure",
                                     "error or throw, state unchanged, never terminate", &run);

} // namespace
} // namespace proof::memory
