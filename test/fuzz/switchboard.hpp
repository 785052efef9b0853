//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_FUZZ_SWITCHBOARD_HPP
#define BULKHEAD_TEST_FUZZ_SWITCHBOARD_HPP

#include <bulkhead/error.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <map>
#include <memory>
#include <utility>

namespace test {

/// Operations that the input completes, or their cancellation.
class switchboard {
public:
  explicit switchboard(boost::asio::io_context& io) : io_(io) {}

  /// Waits until `id` is called. `heeds` are the types of cancellation that end it.
  auto async_wait(int id, boost::asio::cancellation_type heeds) {
    return boost::asio::async_initiate<const boost::asio::deferred_t, void(bulkhead::error_code)>(
        [this, id, heeds](auto handler) { begin(id, heeds, std::move(handler)); },
        boost::asio::deferred);
  }

  bool waits(int id) const { return calls_.contains(id); }

  void complete(int id, bulkhead::error_code ec) {
    const auto at = calls_.find(id);
    const auto call = std::move(at->second);
    calls_.erase(at);
    call->complete(ec);
  }

  void drop_all() { calls_.clear(); }

private:
  struct call {
    virtual ~call() = default;
    virtual void complete(bulkhead::error_code ec) = 0;
  };

  template <class Handler>
  struct call_of final : call {
    switchboard& board;
    Handler handler;

    call_of(switchboard& b, Handler&& h) : board(b), handler(std::move(h)) {}

    void complete(bulkhead::error_code ec) override {
      auto slot = boost::asio::get_associated_cancellation_slot(handler);
      if (slot.is_connected()) slot.clear();
      // Before the handler moves.
      const auto ex = boost::asio::get_associated_executor(handler, board.io_.get_executor());
      boost::asio::post(ex, [h = std::move(handler), ec]() mutable { std::move(h)(ec); });
    }
  };

  template <class Handler>
  void begin(int id, boost::asio::cancellation_type heeds, Handler handler) {
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    calls_[id] = std::make_unique<call_of<Handler>>(*this, std::move(handler));
    if (slot.is_connected())
      slot.assign([this, id, heeds](boost::asio::cancellation_type type) {
        if ((type & heeds) != boost::asio::cancellation_type::none)
          complete(id, boost::asio::error::operation_aborted);
      });
  }

  boost::asio::io_context& io_;
  std::map<int, std::unique_ptr<call>> calls_;
};

} // namespace test

#endif
