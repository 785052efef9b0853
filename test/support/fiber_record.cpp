//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// The part of libboost_context that is missing where a sanitizer watches: Debian builds the library
// for the assembler variant of fibers, and only the ucontext variant tells the sanitizers when the
// stack changes.

#if defined(BOOST_USE_UCONTEXT)

#include <boost/context/fiber.hpp>

namespace boost::context::detail {

fiber_activation_record*& fiber_activation_record::current() noexcept {
  thread_local fiber_activation_record of_thread;
  thread_local fiber_activation_record* current = &of_thread;
  return current;
}

} // namespace boost::context::detail

#endif
