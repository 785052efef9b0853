//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/watchdog.hpp"

#include <bulkhead/error.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>
#include <boost/test/unit_test.hpp>

#include <exception>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using bulkhead::errc;

static_assert(boost::system::is_error_code_enum<errc>::value);
static_assert(std::is_convertible_v<errc, boost::system::error_code>);
static_assert(noexcept(make_error_code(errc::closed)));
static_assert(noexcept(bulkhead::error_category()));
static_assert(std::is_same_v<bulkhead::error_code, boost::system::error_code>);
static_assert(std::is_same_v<bulkhead::system_error, boost::system::system_error>);

static_assert(std::is_base_of_v<std::exception, bulkhead::multiple_errors>);
static_assert(std::is_copy_constructible_v<bulkhead::multiple_errors>);
static_assert(
    std::is_nothrow_constructible_v<bulkhead::multiple_errors, std::vector<std::exception_ptr>>);
static_assert(!std::is_convertible_v<std::vector<std::exception_ptr>, bulkhead::multiple_errors>);

namespace {

constexpr errc all[] = {
    errc::queue_full,   errc::closed,           errc::exceeds_limit, errc::would_deadlock,
    errc::rate_limited, errc::circuit_open,     errc::shed,          errc::deadline_exceeded,
    errc::lease_lost,   errc::store_unavailable};

} // namespace

BOOST_AUTO_TEST_CASE(an_errc_is_an_error_code) {
  boost::system::error_code ec = errc::closed;
  BOOST_TEST((ec == errc::closed));
  BOOST_TEST((ec != errc::queue_full));
  BOOST_TEST((ec.category() == bulkhead::error_category()));
  BOOST_TEST(ec.failed());
}

BOOST_AUTO_TEST_CASE(no_errc_is_success) {
  BOOST_TEST(static_cast<int>(errc::queue_full) == 1);
  for (errc e : all) BOOST_TEST(make_error_code(e).failed());
}

BOOST_AUTO_TEST_CASE(the_category_is_one_object_with_a_name) {
  BOOST_TEST(bulkhead::error_category().name() == std::string("bulkhead"));
  BOOST_TEST((bulkhead::error_category() == bulkhead::error_category()));
  BOOST_TEST((bulkhead::error_category() != boost::system::generic_category()));
}

BOOST_AUTO_TEST_CASE(every_error_has_a_message_of_its_own) {
  std::set<std::string> messages;
  for (errc e : all) {
    const std::string message = make_error_code(e).message();
    BOOST_TEST(!message.empty());
    BOOST_TEST(message.find("unknown") == std::string::npos);
    messages.insert(message);
  }
  BOOST_TEST(messages.size() == std::size(all));
}

BOOST_AUTO_TEST_CASE(an_unknown_value_has_a_message_too) {
  BOOST_TEST(!bulkhead::error_category().message(0).empty());
  BOOST_TEST(bulkhead::error_category().message(4711).find("4711") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_system_error_carries_the_code_and_its_message) {
  try {
    throw bulkhead::system_error(errc::would_deadlock);
  } catch (const boost::system::system_error& e) {
    BOOST_TEST((e.code() == errc::would_deadlock));
    BOOST_TEST(std::string(e.what()).find(make_error_code(errc::would_deadlock).message()) !=
               std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(a_code_converts_to_the_standard_library) {
  const std::error_code ec = make_error_code(errc::shed);
  BOOST_TEST(ec.value() == static_cast<int>(errc::shed));
  BOOST_TEST(ec.category().name() == std::string("bulkhead"));
}

BOOST_AUTO_TEST_CASE(multiple_errors_keep_their_order) {
  std::vector<std::exception_ptr> errors{std::make_exception_ptr(std::runtime_error("first")),
                                         std::make_exception_ptr(std::runtime_error("second"))};
  const bulkhead::multiple_errors e(errors);
  BOOST_TEST((e.errors() == errors));
  const bulkhead::multiple_errors copy = e;
  BOOST_TEST((copy.errors() == errors));
  BOOST_TEST(std::string(e.what()).size() > 0u);
  BOOST_TEST(e.what() == std::string("several operations failed"));
  BOOST_TEST(bulkhead::multiple_errors({nullptr}).what() == std::string("an operation failed"));
  BOOST_TEST(std::string(bulkhead::multiple_errors({}).what()).size() > 0u);
}

BOOST_AUTO_TEST_CASE(multiple_errors_are_caught_as_an_exception) {
  BOOST_CHECK_THROW(throw bulkhead::multiple_errors({}), std::exception);
}
