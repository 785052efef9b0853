// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "command_line.hpp"

#include <boost/algorithm/string/case_conv.hpp>
#include <boost/algorithm/string/replace.hpp>
#include <boost/program_options.hpp>

#include <charconv>
#include <cstdlib>

namespace example {

std::uint64_t parse_number(std::string_view name, std::string_view text, std::uint64_t min,
                           std::uint64_t max) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stopped != end || number < min || number > max)
    throw bad_number(name, text,
                     "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  return number;
}

bool command_line::parse(int argc, const char* const* argv, std::ostream& help) {
  namespace po = boost::program_options;
  po::options_description description(about_);
  description.add_options()("help", "print this and exit");
  for (const option& o : options_) {
    const po::value_semantic* const value =
        o.flag ? static_cast<const po::value_semantic*>(po::bool_switch(o.flag))
               : po::value<std::string>()->value_name("N");
    description.add_options()(o.name.c_str(), value, o.help.c_str());
  }

  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  const po::positional_options_description none;
  po::variables_map given;
  po::store(
      po::command_line_parser(argc, argv).options(description).style(style).positional(none).run(),
      given);
  po::notify(given);
  if (given.count("help")) {
    help << description;
    return false;
  }
  for (option& o : options_) {
    o.is_given = given.count(o.name) != 0;
    if (o.is_given && o.store) o.read("--" + o.name, given[o.name].as<std::string>());
  }
  return true;
}

void command_line::read_environment() const {
  for (const option& o : options_) {
    const std::string variable = boost::to_upper_copy(boost::replace_all_copy(o.name, "-", "_"));
    const char* const value = std::getenv(variable.c_str());
    if (value && o.store && !o.is_given) o.read(variable, value);
  }
}

} // namespace example
