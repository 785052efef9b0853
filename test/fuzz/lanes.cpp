//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// Lanes, from the first submission to the end of the set: which function runs next, who is refused,
// and how each submission ends. Functions overlap by running others inside themselves.

#include "../support/reference_queue.hpp"
#include "../support/stage.hpp"
#include "fuzz.hpp"

#include <bulkhead/lanes.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

namespace asio = boost::asio;
using asio::cancellation_type;
using bulkhead::errc;
using bulkhead::error_code;
using bulkhead::lane;
using bulkhead::lane_stats;
using bulkhead::lanes;
using bulkhead::unbounded;
using test::check;
using test::did;
using test::same;

namespace {

error_code code_of(const std::exception_ptr& e) {
  if (!e) return {};
  try {
    std::rethrow_exception(e);
  } catch (const boost::system::system_error& error) {
    return error.code();
  } catch (const std::runtime_error&) {
    return boost::system::errc::make_error_code(boost::system::errc::io_error); // by a function
  }
}

class game {
public:
  game(const std::uint8_t* data, std::size_t size)
      : any_(data, size), share_(any_.one_in(3) ? 0.25 * (1 + any_(3)) : 0),
        concurrency_(1 + any_(4)),
        lanes_(std::in_place, stage_.executor(),
               bulkhead::lanes_options{.concurrency = concurrency_,
                                       .batch = 1 + any_(5),
                                       .minimum_share = share_,
                                       .on_exception = [this](auto) { ++reported_; }}),
        order_(share_) {}

  void play() {
    while (!any_.empty()) operate();
    if (lanes_ && any_.one_in(2)) end_set();
    while (stage_.step()) compare();
    end_handlers();
    for (auto& [id, m] : models_) {
      check("nothing is left", m.queue.empty() && m.waiters.empty() && m.running == 0);
      const lane_stats s = m.handle->stats();
      same("submitted", m.submitted, s.submitted);
      same("completed", m.completed, s.completed);
      same("failed", m.failed, s.failed);
      same("rejected", m.rejected, s.rejected);
      same("cancelled", m.cancelled, s.cancelled);
      same("continuations", m.continuations, s.continuations);
    }
    for (auto& [id, t] : tasks_) check("each handler has run", !t.is_async || t.is_handled);
    same("functions that are left", 1, alive_.use_count());
    same("exceptions that were reported", expected_reports_, reported_);
  }

private:
  struct model {
    std::optional<lane> handle;
    std::size_t limit, waiter_limit, concurrency;
    std::size_t running = 0;
    bool closed = false;
    std::deque<int> queue, waiters;
    std::uint64_t submitted = 0, completed = 0, failed = 0, rejected = 0, cancelled = 0,
                  continuations = 0;
    std::size_t drains = 0;
  };

  struct task {
    int where;
    bool is_continuation, is_async;
    bool is_handled = false;
    error_code result{};
    std::unique_ptr<asio::cancellation_signal> signal{};
  };

  // --- the model

  std::size_t queued(const model& m) const {
    return static_cast<std::size_t>(std::count_if(
        m.queue.begin(), m.queue.end(), [&](int id) { return !tasks_.at(id).is_continuation; }));
  }

  bool has_room(const model& m) const { return m.waiters.empty() && queued(m) < m.limit; }

  std::size_t runners() const { return stage_.size() + in_flight_; }

  std::size_t may_begin(const model& m) const {
    return m.running < m.concurrency ? std::min(m.queue.size(), m.concurrency - m.running) : 0;
  }

  void revise(int id) {
    model& m = models_.at(id);
    while (!m.waiters.empty() && queued(m) < m.limit) {
      m.queue.push_back(m.waiters.front());
      m.waiters.pop_front();
    }
    const bool may = may_begin(m) != 0;
    if (may == order_.waits(id)) return;
    if (may)
      order_.add(id);
    else
      order_.remove(id);
  }

  void started(int id) {
    const int turn = order_.pop();
    check("it is somebody's turn", turn != -1);
    model& m = models_.at(turn);
    same("the task that starts", m.queue.front(), id);
    m.queue.pop_front();
    ++m.running;
    ++in_flight_;
    // The bounds may have been lowered meanwhile, but nothing more begins then.
    check("not too many are in flight", in_flight_ <= most_in_flight_);
    check("not too many of the lane are in flight", m.running <= m.concurrency);
    revise(turn);
  }

  void ended(int id, bool throws) {
    task& t = tasks_.at(id);
    model& m = models_.at(t.where);
    --m.running;
    --in_flight_;
    most_in_flight_ = std::max(in_flight_, concurrency_);
    if (throws && !t.is_async) ++expected_reports_;
    if (throws && t.is_async)
      t.result = boost::system::errc::make_error_code(boost::system::errc::io_error);
    if (!t.is_continuation) ++(throws ? m.failed : m.completed);
    revise(t.where);
  }

  void refuse(model& m, int id, error_code ec) {
    ++m.rejected;
    tasks_.at(id).result = ec;
  }

  // --- both

  void compare() {
    std::size_t may = 0;
    for (auto& [id, m] : models_) {
      may += may_begin(m);
      const lane_stats s = m.handle->stats();
      same("queued", queued(m), s.queued);
      same("waiting", m.waiters.size(), s.waiting);
      same("in flight", m.running, s.in_flight);
    }
    const std::size_t free = concurrency_ > in_flight_ ? concurrency_ - in_flight_ : 0;
    check("nobody waits for a runner in vain", stage_.size() >= std::min(free, may));
    check("there are not too many runners", runners() <= most_runners_);
    most_runners_ = std::max(runners(), concurrency_);
  }

  auto function(int id) {
    return [this, id, count = alive_](auto...) {
      started(id);
      compare();
      for (unsigned n = any_(4); n != 0 && depth_ < 4; --n) {
        ++depth_;
        operate();
        --depth_;
      }
      const bool throws = any_.one_in(10);
      did("the task ends", static_cast<std::size_t>(id));
      ended(id, throws);
      if (throws) throw std::runtime_error("from the task");
    };
  }

  int new_task(int where, bool is_continuation, bool is_async) {
    tasks_.emplace(++last_task_, task{where, is_continuation, is_async});
    ++(is_continuation ? models_.at(where).continuations : models_.at(where).submitted);
    return last_task_;
  }

  void operate() {
    if (models_.empty() || (lanes_ && models_.size() < 8 && any_.one_in(20))) return open();
    auto chosen = models_.begin();
    std::advance(chosen, any_(models_.size()));
    const int id = chosen->first;
    model& m = chosen->second;
    const auto lane = static_cast<std::size_t>(id);
    switch (any_(18)) {
    case 0:
    case 1: {
      const int t = new_task(id, false, false);
      did("try_submit", static_cast<std::size_t>(t));
      const bool accepts = !m.closed && has_room(m);
      if (accepts)
        m.queue.push_back(t);
      else
        ++m.rejected;
      revise(id);
      same("whether it is accepted", accepts, m.handle->try_submit(function(t)));
      break;
    }
    case 2:
    case 3:
    case 4:
      submit(id, m);
      break;
    case 5: {
      const int t = new_task(id, true, false);
      did("post", static_cast<std::size_t>(t));
      m.queue.push_back(t);
      revise(id);
      asio::post(m.handle->get_executor(), function(t));
      break;
    }
    case 6:
    case 7:
      cancel();
      break;
    case 8: {
      did("set_weight", lane);
      const double weight = any_weight();
      order_.set_weight(id, weight);
      m.handle->set_weight(weight);
      break;
    }
    case 9: {
      did("set_priority", lane);
      const int priority = static_cast<int>(any_(3));
      order_.set_priority(id, priority);
      m.handle->set_priority(priority);
      break;
    }
    case 10:
      did("set the concurrency of", lane);
      m.concurrency = std::max<std::size_t>(1 + any_(3), m.running);
      revise(id);
      m.handle->set_concurrency(m.concurrency);
      break;
    case 11:
      if (!lanes_) break;
      concurrency_ = 1 + any_(4);
      did("set_concurrency", concurrency_);
      most_in_flight_ = std::max(in_flight_, concurrency_);
      most_runners_ = std::max(runners(), concurrency_);
      lanes_->set_concurrency(concurrency_);
      break;
    case 12:
      if (!any_.one_in(8)) break;
      did("close", lane);
      for (int t : m.waiters) refuse(m, t, errc::closed);
      m.waiters.clear();
      m.closed = true;
      m.handle->close();
      break;
    case 13:
      if (lanes_ && depth_ == 0 && any_.one_in(16)) end_set();
      break;
    default:
      did("run", stage_.size());
      stage_.step();
      break;
    }
    compare();
  }

  void submit(int id, model& m) {
    const int t = new_task(id, false, true);
    did("async_submit", static_cast<std::size_t>(t));
    if (m.closed)
      refuse(m, t, errc::closed);
    else if (has_room(m))
      m.queue.push_back(t);
    else if (m.waiters.size() < m.waiter_limit)
      m.waiters.push_back(t);
    else
      refuse(m, t, errc::queue_full);
    revise(id);
    auto& signal = tasks_.at(t).signal = std::make_unique<asio::cancellation_signal>();
    m.handle->async_submit(
        function(t),
        asio::bind_cancellation_slot(
            signal->slot(),
            asio::bind_executor(handlers_, [this, t, count = alive_](std::exception_ptr e) {
              task& done = tasks_.at(t);
              did("the handler runs", static_cast<std::size_t>(t));
              check("the handler runs once", !std::exchange(done.is_handled, true));
              same("the result", done.result, code_of(e));
            })));
  }

  // It waits for room, for its turn, runs, or has ended.
  void cancel() {
    const int id = 1 + static_cast<int>(any_(std::min(last_task_ + 1, 256)));
    const auto at = tasks_.find(id);
    if (at == tasks_.end() || !at->second.signal) return;
    did("cancel", static_cast<std::size_t>(id));
    task& t = at->second;
    model& m = models_.at(t.where);
    if (std::erase(m.queue, id) + std::erase(m.waiters, id) != 0) {
      ++m.cancelled;
      t.result = asio::error::operation_aborted;
    }
    revise(t.where);
    t.signal->emit(std::array{cancellation_type::terminal, cancellation_type::partial,
                              cancellation_type::total}[any_(3)]);
  }

  double any_weight() { return std::ldexp(1.0, static_cast<int>(any_(9)) - 4); }

  void open() {
    if (!lanes_) return;
    const int id = ++last_lane_;
    did("open", static_cast<std::size_t>(id));
    const double weight = any_weight();
    const int priority = static_cast<int>(any_(3));
    model& m = models_[id];
    m.limit = 1 + any_(6);
    m.waiter_limit = any_.one_in(2) ? unbounded : any_(3);
    m.concurrency = any_.one_in(2) ? unbounded : 1 + any_(3);
    order_.join(id, priority, weight);
    m.handle.emplace(lanes_->open({.weight = weight,
                                   .priority = priority,
                                   .queue_limit = m.limit,
                                   .waiter_limit = m.waiter_limit,
                                   .concurrency = m.concurrency}));
  }

  // Continuations still run.
  void end_set() {
    did("end the set");
    for (auto& [id, m] : models_) {
      auto abort = [&](int t) {
        if (tasks_.at(t).is_continuation) return false;
        ++m.cancelled;
        tasks_.at(t).result = asio::error::operation_aborted;
        return true;
      };
      std::erase_if(m.queue, abort);
      std::erase_if(m.waiters, abort);
      m.closed = true;
      revise(id);
    }
    lanes_.reset();
    compare();
  }

  void end_handlers() {
    handlers_.restart();
    handlers_.poll();
  }

  test::choices any_;
  const double share_;
  std::size_t concurrency_;
  std::size_t most_in_flight_ = concurrency_, most_runners_ = concurrency_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(); // one use by each function and handler
  long reported_ = 0, expected_reports_ = 0;
  test::stage stage_;
  asio::io_context handlers_;
  std::optional<lanes> lanes_;
  test::reference_queue order_;
  std::map<int, model> models_;
  std::map<int, task> tasks_;
  std::size_t in_flight_ = 0;
  int last_lane_ = 0, last_task_ = 0, depth_ = 0;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  did.begin();
  game(data, size).play();
  return 0;
}
