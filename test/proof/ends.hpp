//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_PROOF_ENDS_HPP
#define BULKHEAD_TEST_PROOF_ENDS_HPP

#include "../support/allocators.hpp"
#include "proof.hpp"

#include <bulkhead/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

// What the areas that end things share: functions and handlers that are counted, and somebody who says
// what hangs.

namespace ends {

namespace asio = boost::asio;

/// What became of one function or handler.
struct ticket {
  enum class end : std::uint8_t { none, success, aborted, closed, other };

  std::atomic<std::uint8_t> calls{0};
  std::atomic<std::uint8_t> gone{0};
  std::atomic<end> how{end::none};
};

inline ticket::end end_of(const boost::system::error_code& ec) {
  if (!ec) return ticket::end::success;
  if (ec == asio::error::operation_aborted) return ticket::end::aborted;
  return ec == bulkhead::errc::closed ? ticket::end::closed : ticket::end::other;
}

inline ticket::end end_of(const std::exception_ptr& error) {
  if (!error) return ticket::end::success;
  try {
    std::rethrow_exception(error);
  } catch (const boost::system::system_error& e) {
    return end_of(e.code());
  } catch (...) {
    return ticket::end::other;
  }
}

/// What holds it has not been destroyed yet; that is counted when it is.
class claim {
public:
  explicit claim(ticket& t) noexcept : ticket_(&t) {}
  claim(claim&& other) noexcept : ticket_(std::exchange(other.ticket_, nullptr)) {}
  claim& operator=(claim&&) = delete;
  ~claim() {
    if (ticket_) ++ticket_->gone;
  }

  void call(ticket::end how) noexcept {
    ticket_->how = how;
    ++ticket_->calls;
  }

private:
  ticket* ticket_;
};

/// A completion handler of any signature, with memory that is counted.
class handler {
public:
  using allocator_type = test::counting_allocator<char>;

  handler(ticket& t, test::memory_balance& memory, std::shared_ptr<void> keep = {}) noexcept
      : claim_(t), memory_(&memory), keep_(std::move(keep)) {}

  allocator_type get_allocator() const noexcept { return allocator_type(*memory_); }

  template <class Error, class... T>
  void operator()(const Error& e, T&&...) {
    claim_.call(end_of(e));
  }

private:
  claim claim_;
  test::memory_balance* memory_;
  std::shared_ptr<void> keep_;
};

/// A function without a result.
class task {
public:
  explicit task(ticket& t) noexcept : claim_(t) {}
  void operator()() { claim_.call(ticket::end::success); }

private:
  claim claim_;
};

/// Runs until it is asked to stop.
class patient_task {
public:
  explicit patient_task(ticket& t) noexcept : claim_(t) {}

  void operator()(std::stop_token stop) {
    claim_.call(ticket::end::success);
    wait(stop);
  }

  static void wait(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    changed.wait(lock, stop, [] { return false; });
  }

private:
  claim claim_;
};

/// Tickets for so many.
class tickets {
public:
  explicit tickets(std::size_t most) : all_(std::make_unique<ticket[]>(most)), most_(most) {}

  /// The next one; several threads may ask. Null if there are no more.
  ticket* take() noexcept {
    const std::size_t i = taken_.fetch_add(1);
    return i < most_ ? &all_[i] : nullptr;
  }

  std::size_t taken() const noexcept { return std::min(taken_.load(), most_); }

  template <class F>
  std::size_t count(F f) const {
    std::size_t n = 0;
    for (std::size_t i = 0; i != taken(); ++i) n += f(std::as_const(all_[i]));
    return n;
  }

private:
  std::unique_ptr<ticket[]> all_;
  std::size_t most_;
  std::atomic<std::size_t> taken_{0};
};

/// The half of the area "shutdown" that is under load.
void shut_down_in_the_middle(const proof::load& load, proof::tally& tally, proof::watchdog& dog);

inline long thread_count() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
}

/// Waits until no more threads than these are left: one that has been joined is listed a moment longer.
inline bool threads_are(long n) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (thread_count() > n) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

} // namespace ends

#endif
