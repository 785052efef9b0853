// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_SUPPORT_COMMAND_LINE_HPP
#define BULKHEAD_EXAMPLE_SUPPORT_COMMAND_LINE_HPP

#include <chrono>
#include <cstdint>
#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace example {

/// A setting or a request parameter that cannot be taken; what() names it and its value.
class bad_number : public std::invalid_argument {
public:
  bad_number(std::string_view name, std::string_view value, const std::string& expected)
      : std::invalid_argument(std::string(name) + " must be " + expected + " (got \"" +
                              std::string(value) + "\")"),
        name_(name), value_(value) {}

  const std::string& name() const noexcept { return name_; }
  const std::string& value() const noexcept { return value_; }

private:
  std::string name_;
  std::string value_;
};

/// The whole of `text` as a number in [min, max].
///
/// Neither lexical_cast nor program_options' own conversion will do: both read "-1" as 2^64 - 1.
std::uint64_t parse_number(std::string_view name, std::string_view text, std::uint64_t min,
                           std::uint64_t max);

/// Options whose present values are their defaults.
class command_line {
public:
  explicit command_line(std::string about) : about_(std::move(about)) {}

  /// `--name N` sets `target` to N, which must be in [min, max].
  template <class Integer>
  command_line& number(std::string name, Integer& target, std::uint64_t min, std::uint64_t max,
                       const std::string& help) {
    options_.push_back({std::move(name), help + " (" + std::to_string(target) + ")", min, max,
                        [&target](std::uint64_t n) { target = static_cast<Integer>(n); }});
    return *this;
  }

  /// `--name N` sets `target` to N milliseconds.
  command_line& number(std::string name, std::chrono::milliseconds& target, std::uint64_t min,
                       std::uint64_t max, const std::string& help) {
    options_.push_back({std::move(name), help + " (" + std::to_string(target.count()) + ")", min,
                        max,
                        [&target](std::uint64_t n) { target = std::chrono::milliseconds(n); }});
    return *this;
  }

  /// `--name` sets `target`.
  command_line& flag(std::string name, bool& target, std::string help) {
    options_.push_back({std::move(name), std::move(help), 0, 0, {}, &target});
    return *this;
  }

  /// False if the program was only asked for help. Throws what names the option and its value.
  bool parse(int argc, const char* const* argv, std::ostream& help);

  /// Takes what was not given on the command line from the environment: `--pool-threads` from
  /// POOL_THREADS.
  void read_environment() const;

private:
  struct option {
    std::string name;
    std::string help;
    std::uint64_t min;
    std::uint64_t max;
    std::function<void(std::uint64_t)> store; // if it is a number
    bool* flag = nullptr;                     // otherwise
    bool is_given = false;

    void read(const std::string& source, const std::string& text) const {
      store(parse_number(source, text, min, max));
    }
  };

  std::string about_;
  std::vector<option> options_;
};

} // namespace example

#endif
