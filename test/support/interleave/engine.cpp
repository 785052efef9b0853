//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "engine.hpp"
#include "model.hpp"
#include "schedule.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" {
extern char __data_start; // of the program: what is static in it stands between the two
extern char _end;
int __cxa_thread_atexit_impl(void (*)(void*), void*, void*);
}

namespace interleave {

namespace engine {
bool is_running = false;
}

namespace {

constexpr std::size_t most_steps = 100'000; // of an execution; more is a livelock
constexpr std::size_t stack_size = 256 * 1024;
constexpr int poison = 0xdd;

// --- what belongs to a thread besides its stack ---

/// The thread_local variables of the program: those of the library and of Asio, which are all in it.
struct thread_locals {
  char* where = nullptr;
  const char* image = nullptr;
  std::size_t image_size = 0;
  std::size_t size = 0;

  thread_locals() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* self) {
          auto& me = *static_cast<thread_locals*>(self);
          for (int i = 0; i != info->dlpi_phnum; ++i) {
            const auto& p = info->dlpi_phdr[i];
            if (p.p_type != PT_TLS) continue;
            me.where = static_cast<char*>(info->dlpi_tls_data);
            me.image = reinterpret_cast<const char*>(info->dlpi_addr + p.p_vaddr);
            me.image_size = p.p_filesz;
            me.size = p.p_memsz;
          }
          return 1; // the program itself comes first
        },
        this);
  }
};

const thread_locals& locals() {
  static const thread_locals l;
  return l;
}

/// Exceptions that are being handled, which the runtime keeps for each thread.
struct exception_state {
  void* caught = nullptr;
  unsigned uncaught = 0;

  void swap_in() noexcept { std::memcpy(abi::__cxa_get_globals(), this, sizeof(*this)); }
  void swap_out() noexcept { std::memcpy(this, abi::__cxa_get_globals(), sizeof(*this)); }
};

struct delayed_store {
  void* where;
  std::size_t size;
  std::uint64_t value;
  std::memory_order order;
  timestamp seen;
};

struct at_exit {
  void (*destroy)(void*);
  void* object;
};

struct thread_state {
  boost::context::fiber fiber;
  std::vector<char> locals;
  exception_state exceptions;
  std::function<void()> function;
  std::vector<at_exit> exits;
  std::vector<delayed_store> delayed; // what others do not see yet, the oldest first
  timestamp seen;
  const condition* ready = nullptr; // it waits for that
  bool is_timed = false;
  bool has_timed_out = false;
  bool has_ended = false;
  unsigned after = 0;              // threads that come before it, since it has yielded: a mask
  bool is_overtaken = false;       // another's time was over meanwhile
  const void* last_load = nullptr; // if it has done nothing since
  std::uint64_t last_value = 0;
  unsigned same_loads = 0;
  const char* does = "";
};

// --- memory ---

/// Blocks that were freed in this execution. They are kept, and overwritten, until its end.
class freed_memory {
public:
  void add(void* p) noexcept {
    if (size_ == capacity_) {
      capacity_ = capacity_ * 2 + 1024;
      blocks_ = static_cast<void**>(std::realloc(blocks_, capacity_ * sizeof(void*)));
    }
    std::memset(p, poison, malloc_usable_size(p));
    blocks_[size_++] = p;
  }

  bool contains(const void* p) const noexcept {
    const auto* at = static_cast<const char*>(p);
    return std::any_of(blocks_, blocks_ + size_, [at](void* b) {
      return at >= static_cast<char*>(b) && at < static_cast<char*>(b) + malloc_usable_size(b);
    });
  }

  /// False if somebody has written there.
  bool release() noexcept {
    bool ok = true;
    for (std::size_t i = 0; i != size_; ++i) {
      const auto* p = static_cast<const unsigned char*>(blocks_[i]);
      const std::size_t n = malloc_usable_size(blocks_[i]);
      ok = ok && p[0] == poison && std::memcmp(p, p + 1, n - 1) == 0;
      std::free(blocks_[i]);
    }
    size_ = 0;
    return ok;
  }

private:
  void** blocks_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

freed_memory freed;
long blocks_in_use = 0; // allocated in this execution and not freed, or the other way round

// --- atomics: what was released where ---

struct location {
  const void* where = nullptr;
  std::uint64_t execution = 0;
  timestamp released;
  std::uint64_t before = 0; // if it is static
  std::size_t size = 0;
};

class location_table {
public:
  location& at(const void* p) {
    std::size_t i = reinterpret_cast<std::uintptr_t>(p) * 0x9e3779b97f4a7c15u >> 50;
    for (;; i = (i + 1) % entries_.size()) {
      location& l = entries_[i];
      if (l.execution != execution_) {
        if (++used_ > entries_.size() / 2) engine::fail("too many atomics for this test");
        l = {p, execution_, {}, 0, 0};
        return l;
      }
      if (l.where == p) return l;
    }
  }

  void begin(std::uint64_t execution) noexcept {
    execution_ = execution;
    used_ = 0;
  }

private:
  std::vector<location> entries_ = std::vector<location>(1 << 14);
  std::uint64_t execution_ = 0;
  std::size_t used_ = 0;
};

bool is_static(const void* p) noexcept {
  const auto* at = static_cast<const char*>(p);
  return at >= &__data_start && at < &_end;
}

// --- stacks ---

/// Keeps those of the last execution for the next.
class kept_stacks {
public:
  boost::context::stack_context allocate() {
    if (free().empty()) return source().allocate();
    const auto s = free().back();
    free().pop_back();
    return s;
  }
  void deallocate(boost::context::stack_context& s) noexcept { free().push_back(s); }

private:
  static boost::context::protected_fixedsize_stack& source() {
    static boost::context::protected_fixedsize_stack s(stack_size);
    return s;
  }
  static std::vector<boost::context::stack_context>& free() {
    static std::vector<boost::context::stack_context> list;
    return list;
  }
};

// --- an execution ---

bool is_traced = false;

class executor {
public:
  const model* what = nullptr;
  schedule* plan = nullptr;
  std::uint64_t number = 0;

  void run() {
    ++number;
    locations_.begin(number);
    statics_.clear();
    plan->begin();
    steps_ = 0;
    points_ = 0;
    count_ = 0;
    outer_.resize(locals().size);
    std::memcpy(outer_.data(), locals().where, outer_.size());
    outer_exceptions_.swap_out();
    blocks_in_use = 0;
    add([this] { what->run(); });
    current_ = 0;
    while (count_ != 0) {
      thread_state& t = threads_[current_];
      std::memcpy(locals().where, t.locals.data(), locals().size);
      t.exceptions.swap_in();
      engine::is_running = true;
      t.fiber = std::move(t.fiber).resume();
      engine::is_running = false;
      t.exceptions.swap_out();
      std::memcpy(t.locals.data(), locals().where, locals().size);
      if (t.has_ended && all_have_ended()) break;
      current_ = next_;
    }
    outer_exceptions_.swap_in();
    std::memcpy(locals().where, outer_.data(), outer_.size());
    for (const location* l : statics_)
      std::memcpy(const_cast<void*>(l->where), &l->before, l->size);
    const bool untouched = freed.release();
    if (!untouched) engine::fail("freed memory was written to");
    // Function-local statics and what the runtime keeps are made once.
    if (blocks_in_use > 0 && number != 1) engine::fail("memory is never freed");
  }

  /// Where somebody else might have gone on.
  std::size_t points() const noexcept { return points_; }

  thread_state& here() noexcept { return threads_[current_]; }
  unsigned current() const noexcept { return current_; }
  thread_state& at(unsigned i) noexcept { return threads_[i]; }

  unsigned add(std::function<void()> f) {
    if (count_ == most_threads) engine::fail("too many threads for this test");
    const unsigned id = count_++;
    thread_state& t = threads_[id];
    const bool ran = std::exchange(engine::is_running, false); // none of this is the model's
    t = thread_state();
    t.function = std::move(f);
    t.locals.assign(locals().size, 0);
    std::memcpy(t.locals.data(), locals().image, locals().image_size);
    if (ran) t.seen = here().seen;
    t.seen.of[id] = 1;
    t.fiber = boost::context::fiber(std::allocator_arg, kept_stacks(),
                                    [this, id](boost::context::fiber&& outer) {
                                      outer_fiber_ = std::move(outer);
                                      body(threads_[id]);
                                      engine::is_running = false;
                                      return std::move(outer_fiber_);
                                    });
    engine::is_running = ran;
    if (ran) ++here().seen.of[current_];
    return id;
  }

  location& locate(const void* p, std::size_t size) {
    location& l = locations_.at(p);
    if (l.size == 0 && size != 0) {
      l.size = size;
      if (is_static(p)) {
        std::memcpy(&l.before, p, size);
        const bool ran = std::exchange(engine::is_running, false);
        statics_.push_back(&l);
        engine::is_running = ran;
      }
    }
    return l;
  }

  void step(const char* what, const void* p) {
    here().does = what;
    if (++steps_ > most_steps) engine::fail("livelock: nobody gets on");
    if (count_ != 1) ++points_;
    if (is_traced) std::fprintf(stderr, "%6zu  thread %u  %s %p\n", steps_, current_, what, p);
  }

  /// Somebody else may go on.
  void point() {
    thread_state& t = here();
    t.last_load = nullptr;
    flush_some();
    if (count_ == 1 || !plan->may_spend()) return;
    unsigned others[most_threads];
    const unsigned n = find_others(others);
    if (const unsigned k = ask(n + 1, true)) go_to(others[k - 1]);
  }

  void yield() {
    thread_state& t = here();
    t.last_load = nullptr;
    drain(t);
    unsigned others[most_threads];
    for (unsigned i = 0; i != count_; ++i)
      if (i != current_ && can_run(threads_[i])) t.after |= 1u << i;
    const unsigned n = find_others(others);
    if (n != 0) return go_to(others[ask(n, false)]);
    time_out_one();
  }

  bool wait(const condition& ready, bool timed) {
    thread_state& t = here();
    t.last_load = nullptr;
    t.has_timed_out = false;
    if (holds(ready)) return true;
    drain(t);
    t.ready = &ready;
    t.is_timed = timed;
    t.is_overtaken = false;
    for (;;) {
      unsigned others[most_threads];
      const unsigned n = find_others(others);
      if (n != 0) {
        go_to(others[ask(n, false)]);
      } else if (!can_run(t)) {
        if (!time_out_one()) engine::fail("deadlock: every thread waits");
      }
      if (can_run(t)) break;
    }
    t.ready = nullptr;
    return !t.has_timed_out;
  }

  void drain(thread_state& t) noexcept {
    while (!t.delayed.empty()) commit_first(t);
  }

  void commit(const delayed_store& s) noexcept {
    location& l = locate(s.where, s.size);
    std::memcpy(s.where, &s.value, s.size);
    if (s.order == std::memory_order_relaxed)
      l.released = {};
    else
      l.released = s.seen;
  }

  unsigned count() const noexcept { return count_; }

  unsigned ask(unsigned n, bool costs) {
    const bool ran = std::exchange(engine::is_running, false); // the memory is not the model's
    const unsigned answer = plan->ask(n, costs);
    engine::is_running = ran;
    return answer;
  }

  void describe_threads() noexcept {
    for (unsigned i = 0; i != count_; ++i)
      std::printf("  thread %u: %s%s%s\n", i,
                  threads_[i].has_ended ? "has ended" : threads_[i].does,
                  threads_[i].ready ? " (waits)" : "", i == current_ ? "  <- here" : "");
  }

private:
  void body(thread_state& t) {
    try {
      t.function();
      t.function = nullptr;
      step("end", nullptr);
      point(); // what it has stored may not be seen yet
    } catch (const std::exception& e) {
      engine::fail((std::string("an exception leaves a thread: ") + e.what()).c_str());
    }
    while (!t.exits.empty()) {
      const at_exit e = t.exits.back();
      t.exits.pop_back();
      e.destroy(e.object);
    }
    drain(t);
    t.has_ended = true;
    unsigned others[most_threads];
    for (unsigned n = 0; !all_have_ended();) {
      n = find_others(others);
      if (n == 0) {
        if (!time_out_one()) engine::fail("deadlock: every thread that is left waits");
        continue;
      }
      let_run(others[ask(n, false)]);
      break;
    }
  }

  bool all_have_ended() const noexcept {
    for (unsigned i = 0; i != count_; ++i)
      if (!threads_[i].has_ended) return false;
    return true;
  }

  /// What a condition looks at is not a step of anybody.
  static bool holds(const condition& c) {
    const bool ran = std::exchange(engine::is_running, false);
    const bool result = c();
    engine::is_running = ran;
    return result;
  }

  static bool can_run(const thread_state& t) {
    return !t.has_ended && (!t.ready || t.has_timed_out || holds(*t.ready));
  }

  /// Those that can go on, the next first; but who has yielded only after those who could then.
  unsigned find_others(unsigned* found) {
    unsigned able = 0;
    for (unsigned i = 0; i != count_; ++i)
      if (i != current_ && can_run(threads_[i])) able |= 1u << i;
    const unsigned here = can_run(threads_[current_]) ? able | 1u << current_ : able;
    unsigned n = 0;
    for (unsigned k = 1; k != count_; ++k) {
      const unsigned i = (current_ + k) % count_;
      if ((able >> i & 1) && !(threads_[i].after & here & ~(1u << i))) found[n++] = i;
    }
    if (n == 0 && !(here >> current_ & 1)) // none may be left out then
      for (unsigned i = 0; i != count_; ++i)
        if (able >> i & 1) found[n++] = i;
    return n;
  }

  void let_run(unsigned i) {
    for (unsigned k = 0; k != count_; ++k) threads_[k].after &= ~(1u << i);
    next_ = i;
  }

  void go_to(unsigned i) {
    let_run(i);
    engine::is_running = false;
    outer_fiber_ = std::move(outer_fiber_).resume();
  }

  /// The time for which somebody would wait is over, if that is what is left. Whoever waits for a while
  /// again and again overtakes the others once.
  bool time_out_one() {
    unsigned timed[most_threads];
    unsigned n = find_timed(true, timed);
    if (n == 0) n = find_timed(false, timed);
    if (n == 0) return false;
    const unsigned first = timed[ask(n, false)];
    for (unsigned i = 0; i != count_; ++i) threads_[i].is_overtaken = true;
    threads_[first].has_timed_out = true;
    return true;
  }

  unsigned find_timed(bool overtaken, unsigned* found) const noexcept {
    unsigned n = 0;
    for (unsigned i = 0; i != count_; ++i) {
      const thread_state& t = threads_[i];
      if (t.ready && t.is_timed && !t.has_timed_out && t.is_overtaken == overtaken) found[n++] = i;
    }
    return n;
  }

  /// At random, others see a store late, or a time is over although there is something to do.
  void flush_some() {
    if (!plan->is_random()) return;
    for (unsigned i = 0; i != count_; ++i)
      if (!threads_[i].delayed.empty() && plan->happens(3)) commit_first(threads_[i]);
    if (plan->happens(7)) time_out_one();
  }

  void commit_first(thread_state& t) noexcept {
    const delayed_store s = t.delayed.front();
    t.delayed.erase(t.delayed.begin());
    commit(s);
  }

  thread_state threads_[most_threads];
  unsigned count_ = 0;
  unsigned current_ = 0;
  unsigned next_ = 0;
  std::size_t steps_ = 0;
  std::size_t points_ = 0;
  boost::context::fiber outer_fiber_;
  std::vector<char> outer_;
  exception_state outer_exceptions_;
  location_table locations_;
  std::vector<location*> statics_;
};

executor& run() {
  static executor& e = *new executor;
  return e;
}

bool is_released(std::memory_order order) noexcept {
  return order != std::memory_order_relaxed && order != std::memory_order_acquire &&
         order != std::memory_order_consume;
}

bool is_acquired(std::memory_order order) noexcept {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}

void look_whether_freed(const void* p, std::size_t size) noexcept {
  const auto* bytes = static_cast<const unsigned char*>(p);
  if (std::all_of(bytes, bytes + size, [](unsigned char b) { return b == poison; }) &&
      freed.contains(p))
    engine::fail("an atomic is used after its memory was freed");
}

const char* program_name = "";

} // namespace

std::vector<const model*>& all_models() {
  static std::vector<const model*> all;
  return all;
}

model::model(std::string_view n, std::string_view p, function f) : name(n), property(p), run(f) {
  all_models().push_back(this);
}

const std::vector<const model*>& models() { return all_models(); }

timestamp& timestamp_here::get() noexcept {
  if (std::exchange(execution_, run().number) != run().number) value_ = {};
  return value_;
}

namespace engine {

void fail(const char* what) noexcept {
  is_running = false;
  executor& e = ::interleave::run();
  const std::string name(e.what ? e.what->name : "?");
  const std::string how = e.plan ? e.plan->describe() : "?";
  std::printf("FAILED %s: %s\n  in execution %llu; again: %s --replay %s %s\n", name.c_str(), what,
              static_cast<unsigned long long>(e.number), program_name, name.c_str(), how.c_str());
  e.describe_threads();
  std::printf("{\"model\": \"%s\", \"failed\": true, \"schedule\": \"%s\", \"executions\": %llu}\n",
              name.c_str(), how.c_str(), static_cast<unsigned long long>(e.number));
  std::fflush(stdout);
  ::_exit(1);
}

void created(const void* p) noexcept { ::interleave::run().locate(p, 0).released = {}; }

std::uint64_t load(const void* p, std::size_t size, std::memory_order order) noexcept {
  executor& e = ::interleave::run();
  thread_state& t = e.here();
  e.step("load", p);
  const bool again = t.last_load == p; // and nothing in between
  const std::uint64_t before = t.last_value;
  e.point();
  std::uint64_t value = 0;
  const auto read = [&] {
    look_whether_freed(p, size);
    for (auto s = t.delayed.rbegin(); s != t.delayed.rend(); ++s)
      if (s->where == p) {
        value = s->value;
        return;
      }
    std::memcpy(&value, p, size);
  };
  read();
  t.same_loads = again && value == before ? t.same_loads + 1 : 1;
  if (t.same_loads == 3) { // it waits for others; twice, it has only forgotten
    e.yield();
    value = 0;
    read();
    t.same_loads = 2;
  }
  location& l = e.locate(p, size);
  if (is_acquired(order)) t.seen.join(l.released);
  t.last_load = p;
  t.last_value = value;
  return value;
}

void store(void* p, std::size_t size, std::uint64_t value, std::memory_order order) noexcept {
  executor& e = ::interleave::run();
  thread_state& t = e.here();
  e.step("store", p);
  e.point();
  look_whether_freed(p, size);
  const delayed_store s{p, size, value, order, t.seen};
  if (order == std::memory_order_seq_cst) {
    e.drain(t);
    e.commit(s);
  } else if (!t.delayed.empty() || (e.count() != 1 && e.plan->delays_stores() &&
                                    e.plan->may_spend() && e.ask(2, true) == 1)) {
    const bool ran = std::exchange(is_running, false);
    t.delayed.push_back(s);
    is_running = ran;
  } else {
    e.commit(s);
  }
  if (is_released(order)) ++t.seen.of[e.current()];
}

void begin_update(void* p, std::size_t size) noexcept {
  executor& e = ::interleave::run();
  e.step("update", p);
  e.point();
  look_whether_freed(p, size);
  e.drain(e.here());
  e.locate(p, size);
}

void end_update(void* p, std::size_t size, std::memory_order order, bool has_stored) noexcept {
  executor& e = ::interleave::run();
  thread_state& t = e.here();
  location& l = e.locate(p, size);
  if (is_acquired(order)) t.seen.join(l.released);
  if (has_stored && is_released(order)) release(l.released);
}

void drain(bool all) noexcept {
  executor& e = ::interleave::run();
  if (!all) return e.drain(e.here());
  for (unsigned i = 0; i != e.count(); ++i) e.drain(e.at(i));
}

void point(const char* what, const void* p) noexcept {
  ::interleave::run().step(what, p);
  ::interleave::run().point();
}

void yield() noexcept {
  ::interleave::run().step("yield", nullptr);
  ::interleave::run().yield();
}

bool wait(const char* what, const void* p, condition ready, bool timed) noexcept {
  ::interleave::run().step(what, p);
  return ::interleave::run().wait(ready, timed);
}

unsigned start(std::function<void()> f) {
  if (!is_running) fail("a thread is started outside of a model");
  const unsigned id = ::interleave::run().add(std::move(f));
  point("start");
  return id;
}

bool has_ended(unsigned thread) noexcept { return ::interleave::run().at(thread).has_ended; }

void join(unsigned thread) noexcept {
  point("join");
  wait("join", nullptr, condition([thread] { return has_ended(thread); }));
  acquire(::interleave::run().at(thread).seen);
}

unsigned this_thread() noexcept {
  return is_running ? ::interleave::run().current() : most_threads;
}

bool knows(unsigned thread, std::uint32_t then) noexcept {
  return ::interleave::run().here().seen.of[thread] >= then;
}

std::uint32_t now() noexcept {
  return ::interleave::run().here().seen.of[::interleave::run().current()];
}

void release(timestamp& t) noexcept {
  thread_state& self = ::interleave::run().here();
  t.join(self.seen);
  ++self.seen.of[::interleave::run().current()];
}

void acquire(const timestamp& t) noexcept { ::interleave::run().here().seen.join(t); }

std::uint64_t execution() noexcept { return ::interleave::run().number; }

} // namespace engine

namespace {

// --- the program ---

struct amounts {
  std::uint64_t points = 0; // of the search, in all
  std::uint64_t random = 0;
  std::uint64_t seed = 1;
};

/// All schedules within the budget, as long as there are points left. False if those were not all.
bool search(unsigned budget, std::uint64_t& points_left, std::uint64_t& tried) {
  schedule s = schedule::search(budget);
  run().plan = &s;
  for (;;) {
    run().run();
    ++tried;
    if (run().points() >= points_left) return false;
    points_left -= run().points();
    if (!s.advance()) return true;
  }
}

int explore(const model& m, const amounts& a) {
  constexpr unsigned most_preemptions = 2;
  run().what = &m;
  std::uint64_t points_left = a.points;
  std::uint64_t tried = 0;
  unsigned whole = 0; // numbers of preemptions with which all was tried
  for (; whole <= most_preemptions; ++whole) {
    std::uint64_t n = 0; // those with fewer are among them
    const bool ok = search(whole, points_left, n);
    tried = std::max(tried, n);
    if (!ok) break;
  }
  for (std::uint64_t i = 0; i != a.random; ++i) {
    schedule s = schedule::random(a.seed * 1'000'000'007u + i);
    run().plan = &s;
    run().run();
  }
  run().plan = nullptr;
  std::printf("{\"model\": \"%s\", \"failed\": false, \"searched\": %llu, \"preemptions\": %d, "
              "\"random\": %llu}\n",
              std::string(m.name).c_str(), static_cast<unsigned long long>(tried),
              static_cast<int>(whole) - 1, static_cast<unsigned long long>(a.random));
  return 0;
}

int replay(const model& m, const char* text) {
  run().what = &m;
  schedule usual = schedule::search(0); // what is made once and never freed is made now
  run().plan = &usual;
  run().run();
  schedule s = schedule::parse(text);
  run().plan = &s;
  is_traced = std::getenv("INTERLEAVE_TRACE") != nullptr;
  run().run();
  std::printf("%s: nothing went wrong\n", std::string(m.name).c_str());
  return 0;
}

extern "C" void on_signal(int number) {
  std::signal(number, SIG_DFL);
  engine::fail(number == SIGSEGV  ? "SIGSEGV"
               : number == SIGBUS ? "SIGBUS"
               : number == SIGFPE ? "SIGFPE"
                                  : "SIGABRT");
}

/// Somebody blocks the one thread that there is.
extern "C" void on_alarm(int) {
  static std::uint64_t last = 0;
  if (std::exchange(last, run().number) == run().number) engine::fail("hangs");
  ::alarm(60);
}

void catch_signals() {
  static char stack[64 * 1024];
  stack_t s{};
  s.ss_sp = stack;
  s.ss_size = sizeof(stack);
  ::sigaltstack(&s, nullptr);
  struct sigaction action {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (int n : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) ::sigaction(n, &action, nullptr);
  std::signal(SIGALRM, &on_alarm);
  ::alarm(60);
}

const model& find(const char* name) {
  for (const model* m : models())
    if (m->name == name) return *m;
  std::fprintf(stderr, "no model has the name %s\n", name);
  std::exit(2);
}

int usage() {
  std::fprintf(stderr,
               "usage: %s --list\n"
               "       %s MODEL POINTS RANDOM SEED\n"
               "       %s --replay MODEL SCHEDULE    (INTERLEAVE_TRACE=1 shows each step)\n",
               program_name, program_name, program_name);
  return 2;
}

} // namespace
} // namespace interleave

int main(int argc, char** argv) {
  using namespace interleave;
  program_name = argv[0];
  const std::vector<std::string> args(argv + 1, argv + argc);
  std::set_terminate([] { engine::fail("std::terminate"); });
  catch_signals();
  if (args.size() == 1 && args[0] == "--list") {
    for (const model* m : models())
      std::printf("%s: %s\n", std::string(m->name).c_str(), std::string(m->property).c_str());
    return 0;
  }
  if (args.size() == 3 && args[0] == "--replay")
    return replay(find(args[1].c_str()), args[2].c_str());
  if (args.size() != 4) return usage();
  return explore(find(args[0].c_str()), {std::strtoull(args[1].c_str(), nullptr, 10),
                                         std::strtoull(args[2].c_str(), nullptr, 10),
                                         std::strtoull(args[3].c_str(), nullptr, 10)});
}

// --- what a model's threads get from the system: memory, destructors of thread_locals, epoll ---

void* operator new(std::size_t size) {
  void* const p = std::malloc(size ? size : 1);
  if (!p) throw std::bad_alloc();
  if (interleave::engine::is_running) ++interleave::blocks_in_use;
  return p;
}

void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto a = static_cast<std::size_t>(alignment);
  void* const p = std::aligned_alloc(a, (size + a - 1) / a * a);
  if (!p) throw std::bad_alloc();
  if (interleave::engine::is_running) ++interleave::blocks_in_use;
  return p;
}

namespace {

[[gnu::noinline]] void give_back(void* p) noexcept {
  if (!p) return;
  if (!interleave::engine::is_running) return std::free(p);
  --interleave::blocks_in_use;
  interleave::engine::drain(false); // perhaps into that block
  interleave::freed.add(p);
}

} // namespace

void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }

extern "C" int __cxa_thread_atexit(void (*destroy)(void*), void* object, void* dso) noexcept {
  if (!interleave::engine::is_running) return __cxa_thread_atexit_impl(destroy, object, dso);
  const bool ran = std::exchange(interleave::engine::is_running, false);
  interleave::run().here().exits.push_back({destroy, object});
  interleave::engine::is_running = ran;
  return 0;
}

extern "C" int epoll_wait(int fd, epoll_event* events, int most, int timeout) {
  const auto now = [=] {
    return static_cast<int>(::syscall(SYS_epoll_pwait, fd, events, most, 0, nullptr, 8));
  };
  if (!interleave::engine::is_running)
    return static_cast<int>(::syscall(SYS_epoll_pwait, fd, events, most, timeout, nullptr, 8));
  int n = now();
  if (n != 0 || timeout == 0) return n;
  interleave::engine::wait("epoll_wait", nullptr,
                           interleave::condition([&] { return n != 0 || (n = now()) != 0; }),
                           timeout > 0);
  return n;
}

// Asio's condition variables, in an io_context in which somebody else waits for I/O already. It calls
// these with its own mutex, which is never locked where another thread of the model goes on.

namespace {

struct sleeper {
  const void* where;
  bool is_awake = false;
  sleeper* next = nullptr;
};

sleeper* sleepers = nullptr;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

int sleep_on(pthread_cond_t* c, pthread_mutex_t* m, bool timed) {
  sleeper self{c, false, sleepers};
  sleepers = &self;
  ::pthread_mutex_unlock(m);
  const bool woken = interleave::engine::wait(
      "pthread_cond_wait", c, interleave::condition([&self] { return self.is_awake; }), timed);
  ::pthread_mutex_lock(m);
  for (sleeper** p = &sleepers; *p; p = &(*p)->next)
    if (*p == &self) {
      *p = self.next;
      break;
    }
  return woken ? 0 : ETIMEDOUT;
}

/// Whoever is woken for nothing looks again.
void wake_all(pthread_cond_t* c) noexcept {
  for (sleeper* s = sleepers; s; s = s->next)
    if (s->where == c) s->is_awake = true;
}

} // namespace

extern "C" int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  if (interleave::engine::is_running) return sleep_on(c, m, false);
  return real<decltype(pthread_cond_wait)>("pthread_cond_wait")(c, m);
}

extern "C" int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const timespec* t) {
  if (interleave::engine::is_running) return sleep_on(c, m, true);
  return real<decltype(pthread_cond_timedwait)>("pthread_cond_timedwait")(c, m, t);
}

extern "C" int pthread_cond_signal(pthread_cond_t* c) noexcept {
  if (!interleave::engine::is_running)
    return real<decltype(pthread_cond_signal)>("pthread_cond_signal")(c);
  wake_all(c);
  return 0;
}

extern "C" int pthread_cond_broadcast(pthread_cond_t* c) noexcept {
  if (!interleave::engine::is_running)
    return real<decltype(pthread_cond_broadcast)>("pthread_cond_broadcast")(c);
  wake_all(c);
  return 0;
}
