//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include "support/watchdog.hpp"

#include <bulkhead/permit.hpp>

#include <boost/system/result.hpp>
#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using bulkhead::outcome;
using bulkhead::permit;
using bulkhead::rejection;

static_assert(std::is_nothrow_default_constructible_v<permit>);
static_assert(std::is_nothrow_move_constructible_v<permit>);
static_assert(std::is_nothrow_move_assignable_v<permit>);
static_assert(std::is_nothrow_destructible_v<permit>);
static_assert(std::is_nothrow_swappable_v<permit>);
static_assert(!std::is_copy_constructible_v<permit>);
static_assert(!std::is_copy_assignable_v<permit>);
static_assert(!std::is_convertible_v<permit, bool>);
static_assert(std::is_constructible_v<bool, const permit&>);
static_assert(noexcept(std::declval<permit&>().release()));
static_assert(noexcept(std::declval<permit&>().complete(outcome::success)));
static_assert(noexcept(std::declval<permit&>().forget()));
static_assert(noexcept(std::declval<const permit&>().weight()));

static_assert(std::is_nothrow_move_constructible_v<rejection>);
static_assert(std::is_copy_constructible_v<rejection>);

namespace {

// A limiter that writes down what comes back.
struct ledger final : bulkhead::detail::permit_source {
  struct entry {
    std::size_t weight;
    outcome result;
    bool operator==(const entry&) const = default;
  };

  std::vector<entry> given_back;
  std::vector<std::size_t> forgotten;
  int split_and_not_merged = 0;

  void give_back(std::size_t weight, outcome result) noexcept override {
    given_back.push_back({weight, result});
  }
  void forget(std::size_t weight) noexcept override { forgotten.push_back(weight); }
  permit_source& split(std::size_t) override {
    ++split_and_not_merged;
    return *this;
  }
  void merge(permit_source&, std::size_t) noexcept override { --split_and_not_merged; }
};

std::string message_of(auto f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no std::invalid_argument";
}

using entries = std::vector<ledger::entry>;

} // namespace

BOOST_AUTO_TEST_CASE(an_empty_permit_is_false_and_harmless) {
  permit p;
  BOOST_TEST(!p);
  BOOST_TEST(p.weight() == 0u);
  p.release();
  p.complete(outcome::failure);
  p.forget();
  BOOST_TEST(!p);
}

BOOST_AUTO_TEST_CASE(destruction_gives_back_and_ignores_the_outcome) {
  ledger source;
  {
    permit p(source, 3);
    BOOST_TEST(static_cast<bool>(p));
    BOOST_TEST(p.weight() == 3u);
    BOOST_TEST(source.given_back.empty());
  }
  BOOST_TEST((source.given_back == entries{{3, outcome::ignored}}));
}

BOOST_AUTO_TEST_CASE(release_gives_back_once) {
  ledger source;
  permit p(source, 2);
  p.release();
  BOOST_TEST(!p);
  BOOST_TEST(p.weight() == 0u);
  p.release();
  BOOST_TEST((source.given_back == entries{{2, outcome::ignored}}));
}

BOOST_AUTO_TEST_CASE(complete_reports_each_outcome_once) {
  ledger source;
  for (auto o : {outcome::success, outcome::failure, outcome::dropped, outcome::ignored}) {
    permit p(source, 1);
    p.complete(o);
    BOOST_TEST(!p);
  }
  BOOST_TEST((source.given_back == entries{{1, outcome::success},
                                           {1, outcome::failure},
                                           {1, outcome::dropped},
                                           {1, outcome::ignored}}));
}

BOOST_AUTO_TEST_CASE(a_permit_of_weight_zero_is_true_and_given_back) {
  ledger source;
  permit p(source, 0);
  BOOST_TEST(static_cast<bool>(p));
  p.release();
  BOOST_TEST((source.given_back == entries{{0, outcome::ignored}}));
}

BOOST_AUTO_TEST_CASE(moving_passes_the_units_on) {
  ledger source;
  permit a(source, 2);
  permit b(std::move(a));
  BOOST_TEST(!a);
  BOOST_TEST(a.weight() == 0u);
  BOOST_TEST(b.weight() == 2u);
  BOOST_TEST(source.given_back.empty());
}

BOOST_AUTO_TEST_CASE(move_assignment_gives_the_old_units_back) {
  ledger source;
  permit a(source, 2);
  permit b(source, 5);
  b = std::move(a);
  BOOST_TEST((source.given_back == entries{{5, outcome::ignored}}));
  BOOST_TEST(b.weight() == 2u);
  BOOST_TEST(!a);
}

BOOST_AUTO_TEST_CASE(self_assignment_keeps_the_units) {
  ledger source;
  permit p(source, 2);
  permit& alias = p;
  p = std::move(alias);
  BOOST_TEST(p.weight() == 2u);
  BOOST_TEST(source.given_back.empty());
}

BOOST_AUTO_TEST_CASE(swapping_gives_nothing_back) {
  ledger source;
  permit a(source, 1), b(source, 2);
  std::swap(a, b);
  BOOST_TEST(a.weight() == 2u);
  BOOST_TEST(b.weight() == 1u);
  BOOST_TEST(source.given_back.empty());
}

BOOST_AUTO_TEST_CASE(forgotten_units_stay_taken) {
  ledger source;
  permit p(source, 4);
  p.forget();
  BOOST_TEST(!p);
  BOOST_TEST(source.given_back.empty());
  BOOST_TEST((source.forgotten == std::vector<std::size_t>{4}));
}

BOOST_AUTO_TEST_CASE(split_and_merge_keep_the_sum) {
  ledger source;
  permit a(source, 5);
  permit b = a.split(2);
  BOOST_TEST(a.weight() == 3u);
  BOOST_TEST(b.weight() == 2u);
  BOOST_TEST(source.split_and_not_merged == 1);
  a.merge(std::move(b));
  BOOST_TEST(source.split_and_not_merged == 0);
  BOOST_TEST(a.weight() == 5u);
  BOOST_TEST(!b);
  BOOST_TEST(source.given_back.empty());
}

BOOST_AUTO_TEST_CASE(splitting_more_than_the_weight_changes_nothing) {
  ledger source;
  permit p(source, 2);
  const std::string message = message_of([&] { (void)p.split(3); });
  BOOST_TEST(message.find("got 3") != std::string::npos, message);
  BOOST_TEST(p.weight() == 2u);
  BOOST_TEST(source.split_and_not_merged == 0);
  BOOST_TEST(source.given_back.empty());
}

BOOST_AUTO_TEST_CASE(merging_from_another_limiter_changes_nothing) {
  ledger one, two;
  permit a(one, 2), b(two, 3);
  BOOST_CHECK_THROW(a.merge(std::move(b)), std::invalid_argument);
  BOOST_TEST(a.weight() == 2u);
  BOOST_TEST(b.weight() == 3u);
  BOOST_TEST(one.given_back.empty());
  BOOST_TEST(two.given_back.empty());
}

BOOST_AUTO_TEST_CASE(the_value_of_a_rejection_throws_its_code) {
  const boost::system::result<permit, rejection> r =
      rejection{bulkhead::errc::queue_full, std::chrono::nanoseconds(0), "semaphore"};
  BOOST_TEST(r.has_error());
  BOOST_CHECK_EXCEPTION((void)r.value(), bulkhead::system_error,
                        [](const auto& e) { return e.code() == bulkhead::errc::queue_full; });
}

BOOST_AUTO_TEST_CASE(a_rejection_says_nothing_until_told) {
  const rejection r;
  BOOST_TEST(!r.code);
  BOOST_TEST((r.retry_after == std::chrono::nanoseconds(0)));
  BOOST_TEST(r.stage.empty());
}
