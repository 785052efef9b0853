//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_HANDLER_WRAPPER_HPP
#define BULKHEAD_DETAIL_WAIT_HANDLER_WRAPPER_HPP

#include <boost/asio/associator.hpp>

namespace bulkhead::detail {

/// A completion handler that stands for another one: it has that one's executor, allocator, slot and
/// whatever else Asio associates with handlers, but for those that it names itself.
template <class T>
concept handler_wrapper = requires(const T& t) {
  typename T::wrapped_handler;
  t.handler();
};

} // namespace bulkhead::detail

template <template <class, class> class Associator, bulkhead::detail::handler_wrapper Wrapper,
          class Candidate>
struct boost::asio::associator<Associator, Wrapper, Candidate>
    : Associator<typename Wrapper::wrapped_handler, Candidate> {
  using associated = Associator<typename Wrapper::wrapped_handler, Candidate>;

  static typename associated::type get(const Wrapper& w) noexcept {
    return associated::get(w.handler());
  }

  static decltype(auto) get(const Wrapper& w, const Candidate& c) noexcept {
    return associated::get(w.handler(), c);
  }
};

#endif
