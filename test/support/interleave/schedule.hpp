//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_INTERLEAVE_SCHEDULE_HPP
#define BULKHEAD_TEST_SUPPORT_INTERLEAVE_SCHEDULE_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace interleave {

/// Answers the questions of an execution, one after the other: which of `n` things is to happen?
/// Number 0 is what happens if nothing special does.
class schedule {
public:
  /// All that differ from the usual course at most `budget` times. The first is the usual course.
  static schedule search(unsigned budget) {
    schedule s;
    s.budget_ = budget;
    return s;
  }

  /// One that follows from a seed.
  static schedule random(std::uint64_t seed) {
    schedule s;
    s.is_random_ = true;
    s.seed_ = seed;
    s.begin();
    return s;
  }

  /// The one that described itself so.
  static schedule parse(const std::string& text) {
    if (text.starts_with("r")) return random(std::strtoull(text.c_str() + 1, nullptr, 10));
    char* at;
    schedule s = search(static_cast<unsigned>(std::strtoul(text.c_str() + 1, &at, 10)));
    while (*at) {
      const std::size_t place = std::strtoul(at + 1, &at, 10);
      const auto answer = static_cast<unsigned>(std::strtoul(at + 1, &at, 10));
      s.questions_.resize(place + 1);
      s.questions_[place] = {answer, answer + 1};
    }
    return s;
  }

  std::string describe() const {
    std::string text(1, is_random_ ? 'r' : 'x');
    text += std::to_string(is_random_ ? seed_ : budget_);
    if (is_random_) return text;
    for (std::size_t i = 0; i != asked_; ++i) {
      if (questions_[i].answer == 0) continue;
      text += ',';
      text += std::to_string(i);
      text += '.';
      text += std::to_string(questions_[i].answer);
    }
    return text;
  }

  void begin() {
    asked_ = 0;
    spent_ = 0;
    if (!is_random_) return;
    state_ = seed_;
    rarity_ = 1 + next_number() % 6;
    delays_ = next_number() % 2 == 0;
  }

  /// To the next of a search. False if that was the last.
  bool advance() {
    questions_.resize(asked_);
    while (!questions_.empty() && questions_.back().answer + 1 == questions_.back().n)
      questions_.pop_back();
    if (questions_.empty()) return false;
    ++questions_.back().answer;
    return true;
  }

  /// Whether there is any point in asking a question whose answers but 0 cost something.
  bool may_spend() {
    if (is_random_) return next_number() % (std::uint64_t(1) << rarity_) == 0;
    return spent_ != budget_;
  }

  /// `costs`: if it is not 0, it counts. Only if may_spend().
  unsigned ask(unsigned n, bool costs) {
    if (n <= 1) return 0;
    if (is_random_) return static_cast<unsigned>(next_number() % n);
    if (asked_ == questions_.size()) questions_.push_back({0, n});
    question& q = questions_[asked_++];
    if (q.n == 0) q.n = n; // from parse()
    if (q.answer >= n) return 0; // the model has not done the same as before
    if (costs && q.answer != 0) ++spent_;
    return q.answer;
  }

  bool is_random() const noexcept { return is_random_; }

  /// Whether something happens, in one of 2^`rare` cases, that a search leaves out.
  bool happens(unsigned rare) {
    return is_random_ && next_number() % (std::uint64_t(1) << rare) == 0;
  }
  bool delays_stores() const noexcept { return !is_random_ || delays_; }

private:
  struct question {
    unsigned answer = 0;
    unsigned n = 0;
  };

  std::uint64_t next_number() noexcept { // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  bool is_random_ = false;
  unsigned budget_ = 0;
  unsigned spent_ = 0;
  std::size_t asked_ = 0;
  std::vector<question> questions_;
  std::uint64_t seed_ = 0;
  std::uint64_t state_ = 0;
  unsigned rarity_ = 1;
  bool delays_ = true;
};

} // namespace interleave

#endif
