// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_SUPPORT_COMMAND_LINE_HPP
#define BULKHEAD_EXAMPLE_SUPPORT_COMMAND_LINE_HPP

#include <boost/algorithm/string/case_conv.hpp>
#include <boost/algorithm/string/replace.hpp>
#include <boost/program_options.hpp>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
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
inline std::uint64_t parse_number(std::string_view name, std::string_view text, std::uint64_t min,
                                  std::uint64_t max) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stopped != end || number < min || number > max)
    throw bad_number(name, text,
                     "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  return number;
}

/// Options whose present values are their defaults.
class command_line {
public:
  explicit command_line(const std::string& about) : description_(about) {
    description_.add_options()("help", "print this and exit");
  }

  /// `--name N` sets `target` to N, which must be in [min, max].
  template <class Integer>
  command_line& number(const std::string& name, Integer& target, std::uint64_t min,
                       std::uint64_t max, const std::string& help) {
    return add(name, min, max, help + " (" + std::to_string(target) + ")",
               [&target](std::uint64_t n) { target = static_cast<Integer>(n); });
  }

  /// `--name N` sets `target` to N milliseconds.
  command_line& number(const std::string& name, std::chrono::milliseconds& target,
                       std::uint64_t min, std::uint64_t max, const std::string& help) {
    return add(name, min, max, help + " (" + std::to_string(target.count()) + ")",
               [&target](std::uint64_t n) { target = std::chrono::milliseconds(n); });
  }

  command_line& flag(const char* name, bool& target, const char* help) {
    description_.add_options()(name, boost::program_options::bool_switch(&target), help);
    return *this;
  }

  /// False if the program was only asked for help. Throws what names the option and its value.
  bool parse(int argc, const char* const* argv, std::ostream& help) {
    namespace po = boost::program_options;
    const int style =
        po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    const po::positional_options_description none;
    po::store(po::command_line_parser(argc, argv)
                  .options(description_)
                  .style(style)
                  .positional(none)
                  .run(),
              given_);
    po::notify(given_);
    if (given_.count("help")) {
      help << description_;
      return false;
    }
    for (const auto& n : numbers_)
      if (given_.count(n.name)) n.read("--" + n.name, given_[n.name].as<std::string>());
    return true;
  }

  /// Takes what was not given on the command line from the environment: `--pool-threads` from
  /// POOL_THREADS.
  void read_environment() const {
    for (const auto& n : numbers_) {
      const std::string variable = boost::to_upper_copy(boost::replace_all_copy(n.name, "-", "_"));
      const char* const value = std::getenv(variable.c_str());
      if (value && !given_.count(n.name)) n.read(variable, value);
    }
  }

private:
  struct number_option {
    std::string name;
    std::uint64_t min;
    std::uint64_t max;
    std::function<void(std::uint64_t)> store;

    void read(const std::string& source, const std::string& text) const {
      store(parse_number(source, text, min, max));
    }
  };

  command_line& add(const std::string& name, std::uint64_t min, std::uint64_t max,
                    const std::string& help, std::function<void(std::uint64_t)> store) {
    const auto as_text = boost::program_options::value<std::string>()->value_name("N");
    description_.add_options()(name.c_str(), as_text, help.c_str());
    numbers_.push_back({name, min, max, std::move(store)});
    return *this;
  }

  boost::program_options::options_description description_;
  boost::program_options::variables_map given_;
  std::vector<number_option> numbers_;
};

} // namespace example

#endif
