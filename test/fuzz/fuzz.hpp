//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_FUZZ_FUZZ_HPP
#define BULKHEAD_TEST_FUZZ_FUZZ_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>

// What the targets of this folder share. Each reads an input as a sequence of operations, does them
// to a part of the library and to a model that is too simple to be wrong, and compares what comes of
// it. There is one thread, and nothing depends on time, on memory addresses or on earlier inputs.

/// One input. Ends the process if library and model diverge. Defined by each target; libFuzzer's name
/// for it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace test {

/// The bytes of an input, read as choices. When they are used up, each is the first there is.
class choices {
public:
  choices(const std::uint8_t* data, std::size_t size) noexcept : next_(data), end_(data + size) {}

  bool empty() const noexcept { return next_ == end_; }

  unsigned byte() noexcept { return empty() ? 0 : *next_++; }

  /// From 0 to n - 1, for n up to 256.
  unsigned operator()(std::size_t n) noexcept { return byte() % static_cast<unsigned>(n); }

  bool one_in(unsigned n) noexcept { return (*this)(n) == n - 1; }

private:
  const std::uint8_t* next_;
  const std::uint8_t* end_;
};

/// The operation that was done last, for the message of a divergence. With BULKHEAD_TRACE in the
/// environment, all of them are printed.
class story {
public:
  void begin() noexcept { step_ = 0; }

  void operator()(const char* what, std::size_t argument = 0) {
    static const bool traced = std::getenv("BULKHEAD_TRACE") != nullptr;
    ++step_;
    what_ = what;
    argument_ = argument;
    if (traced) std::cerr << *this << '\n';
  }

  friend std::ostream& operator<<(std::ostream& out, const story& s) {
    return out << s.step_ << ": " << s.what_ << ' ' << s.argument_;
  }

private:
  long step_ = 0;
  const char* what_ = "begin";
  std::size_t argument_ = 0;
};

inline story did;

template <class Expected, class Found>
[[noreturn]] void diverge(const char* of, const Expected& expected, const Found& found) {
  std::cerr << "divergence after operation " << did << ": " << of << " is " << found
            << " instead of " << expected << std::endl;
  std::abort();
}

/// Library and model have to say the same.
template <class Expected, class Found>
void same(const char* of, const Expected& expected, const Found& found) {
  if (expected == found) return;
  diverge(of, expected, found);
}

inline void check(const char* what, bool holds) { same(what, true, holds); }

} // namespace test

#endif
