//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_MAP_HPP
#define BULKHEAD_MAP_HPP

#include <bulkhead/detail/group/driver.hpp>
#include <bulkhead/detail/group/each.hpp>
#include <bulkhead/detail/wait/initiate.hpp>
#include <bulkhead/task_group.hpp>

#include <cstddef>
#include <ranges>
#include <utility>

namespace bulkhead {

/// Calls `f` for each element of `range`, with at most `limit` calls in flight, and completes with
/// the results in the order of the elements.
///
/// `f(element)` or `f(element, std::stop_token)` may return what a child of a task_group may be: an
/// `awaitable<R>`, a deferred operation, or a plain R. Calls may happen on several threads at one
/// time if the executor has several. The first failure cancels the calls in flight, and no more
/// begin.
///
/// The range is taken as by std::views::all: an lvalue is referred to and must live until
/// completion, an rvalue is moved in. It is pulled as slots get free, never further than `limit`
/// elements ahead of what has ended, one element at a time, each dereferenced once and kept until
/// its call has ended. `f` and the range, where it was moved in, are gone before the handler runs.
///
/// Runs on `ex` (an executor or an execution context), or, without it, on the handler's associated
/// executor (which must exist).
///
/// Completion signature  void(std::exception_ptr e, std::vector<R> results)   empty if e
/// Executor              the handler's, else `ex`; never from within this call
/// Cancellation          terminal, partial, total: forwarded to the calls in flight, no more begin;
///                       completes with operation_aborted when all have ended
/// Errors                the first failure in time, of f or of the range;
///                       system_error(operation_aborted)
///                       std::invalid_argument, thrown by the call itself: limit is 0
/// Exception safety      strong: if this throws (bad_alloc), no call has begun
template <class ExecutorOrContext, std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_map(ExecutorOrContext&& ex, Range&& range, std::size_t limit, F&& f, Token&& token) {
  return detail::start_map(detail::named_executor{detail::to_executor(ex)}, "async_map: limit",
                           std::views::all(std::forward<Range>(range)), limit, std::forward<F>(f),
                           token);
}

template <std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_map(Range&& range, std::size_t limit, F&& f, Token&& token) {
  return detail::start_map(detail::handlers_executor(), "async_map: limit",
                           std::views::all(std::forward<Range>(range)), limit, std::forward<F>(f),
                           token);
}

/// async_map() without results, in O(limit) memory.
///
/// Completion signature  void(std::exception_ptr e)
template <class ExecutorOrContext, std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_for_each(ExecutorOrContext&& ex, Range&& range, std::size_t limit, F&& f,
                    Token&& token) {
  return detail::start_for_each(
      detail::named_executor{detail::to_executor(ex)}, "async_for_each: limit",
      std::views::all(std::forward<Range>(range)), limit, std::forward<F>(f), token);
}

template <std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_for_each(Range&& range, std::size_t limit, F&& f, Token&& token) {
  return detail::start_for_each(detail::handlers_executor(), "async_for_each: limit",
                                std::views::all(std::forward<Range>(range)), limit,
                                std::forward<F>(f), token);
}

/// Calls `f` for one element of `range` after the other, with at most `limit` calls in flight, until
/// one succeeds, and completes with that result: the first success in time, whichever element it is
/// for.
///
/// A call that fails does not trouble the others: the next element takes its slot. With the first
/// success no more calls begin; those in flight get a terminal cancellation and are waited for, and
/// what comes of them is dropped. So no call outlives the operation, and one that takes no notice of
/// its cancellation delays the completion.
///
/// `f`, `range` and the executor are as with async_map(). `f` returns nothing, or what makes an R that
/// is default-constructible and movable.
///
/// A success, an exception of the range and a cancellation exclude one another: the first of them in
/// time is what is reported. A success that comes first is delivered, even if a cancellation arrives
/// while the other calls are being waited for; one that comes after a cancellation is dropped.
///
/// Completion signature  void(std::exception_ptr e[, R result])   R() if e
/// Executor              the handler's, else `ex`; never from within this call
/// Cancellation          terminal, partial, total: forwarded to the calls in flight, no more begin;
///                       completes with operation_aborted when all have ended
/// Errors                multiple_errors   all calls failed: every failure, in the order in which they
///                                         happened; with one element one, with an empty range none
///                       what the range throws; the calls in flight are cancelled
///                       system_error(operation_aborted)   cancelled, or a call was destroyed with
///                                                         the context that it waited on
///                       std::invalid_argument, thrown by the call itself: limit is 0
/// Exception safety      strong: if this throws (bad_alloc), no call has begun
/// Memory                O(limit), and the failures
template <class ExecutorOrContext, std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_first(ExecutorOrContext&& ex, Range&& range, std::size_t limit, F&& f, Token&& token) {
  return detail::start_first(detail::named_executor{detail::to_executor(ex)}, "async_first: limit",
                             std::views::all(std::forward<Range>(range)), limit, std::forward<F>(f),
                             token);
}

template <std::ranges::input_range Range, class F, class Token>
requires std::ranges::viewable_range<Range>
auto async_first(Range&& range, std::size_t limit, F&& f, Token&& token) {
  return detail::start_first(detail::handlers_executor(), "async_first: limit",
                             std::views::all(std::forward<Range>(range)), limit, std::forward<F>(f),
                             token);
}

} // namespace bulkhead

#endif
