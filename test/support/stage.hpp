//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_STAGE_HPP
#define BULKHEAD_TEST_SUPPORT_STAGE_HPP

#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/relationship.hpp>
#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace test {

/// An executor whose functions the test runs one by one, by hand; or that fails, as executors of others
/// may. One thread only.
class stage {
public:
  enum class mood {
    works,
    throws, // in execute()
    drops   // in execute(), as if it had done its work
  };

  class executor_type {
  public:
    explicit executor_type(stage& s) noexcept : stage_(&s) {}

    template <class F>
    void execute(F&& f) const {
      if (continues_) ++stage_->continuations_;
      stage_->take(std::make_shared<std::decay_t<F>>(std::forward<F>(f)));
    }

    boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept {
      return stage_->context_;
    }
    executor_type require(boost::asio::execution::blocking_t::never_t) const noexcept {
      return *this;
    }
    executor_type require(boost::asio::execution::relationship_t::fork_t) const noexcept {
      return executor_type(*stage_);
    }
    executor_type require(boost::asio::execution::relationship_t::continuation_t) const noexcept {
      executor_type e(*stage_);
      e.continues_ = true;
      return e;
    }
    friend bool operator==(const executor_type& a, const executor_type& b) noexcept = default;

  private:
    stage* stage_;
    bool continues_ = false;
  };

  stage() : context_(own_.emplace()) {}

  /// One whose executors are those of `context`. It may outlive it.
  explicit stage(boost::asio::io_context& context) noexcept : context_(context) {}

  executor_type executor() noexcept { return executor_type(*this); }
  boost::asio::io_context& context() noexcept { return context_; }

  mood now = mood::works;

  /// How many functions it was given.
  std::size_t given() const noexcept { return given_; }

  /// How many of them as continuations of who gave them.
  std::size_t continuations() const noexcept { return continuations_; }

  /// How many are there to be run.
  std::size_t size() const noexcept { return functions_.size(); }

  /// Runs the first. False if there is none.
  bool step() {
    if (functions_.empty()) return false;
    const auto f = std::move(functions_.front());
    functions_.pop_front();
    f();
    return true;
  }

  void run() {
    while (step()) {
    }
  }

  /// Destroys the first, without running it.
  void drop_first() { functions_.pop_front(); }
  void drop_all() { functions_.clear(); }

private:
  template <class F>
  void take(const std::shared_ptr<F>& f) {
    ++given_;
    if (now == mood::throws) throw std::bad_alloc();
    if (now == mood::works) functions_.push_back([f] { std::move (*f)(); });
  }

  std::optional<boost::asio::io_context> own_;
  boost::asio::io_context& context_;
  std::deque<std::function<void()>> functions_;
  std::size_t given_ = 0;
  std::size_t continuations_ = 0;
};

} // namespace test

#endif
