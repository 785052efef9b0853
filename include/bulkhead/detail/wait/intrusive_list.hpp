//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_DETAIL_WAIT_INTRUSIVE_LIST_HPP
#define BULKHEAD_DETAIL_WAIT_INTRUSIVE_LIST_HPP

#include <cstddef>
#include <utility>

namespace bulkhead::detail {

/// What an element of an intrusive_list derives from. `Tag` tells two lists of one element apart.
template <class Tag = void>
class list_hook {
public:
  list_hook() = default;
  list_hook(const list_hook&) = delete;
  list_hook& operator=(const list_hook&) = delete;

  bool is_linked() const noexcept { return next_ != nullptr; }

private:
  template <class, class>
  friend class intrusive_list;

  list_hook* next_ = nullptr;
  list_hook* prev_ = nullptr;
};

/// A doubly linked list that owns nothing and allocates nothing; every operation is O(1).
template <class T, class Tag = void>
class intrusive_list {
  using hook = list_hook<Tag>;

public:
  intrusive_list() noexcept { reset(); }

  intrusive_list(intrusive_list&& other) noexcept {
    reset();
    append(other);
  }

  intrusive_list& operator=(intrusive_list&& other) noexcept {
    reset();
    size_ = 0;
    append(other);
    return *this;
  }

  bool empty() const noexcept { return head_.next_ == &head_; }
  std::size_t size() const noexcept { return size_; }

  T& front() noexcept { return static_cast<T&>(*head_.next_); }

  void push_back(T& element) noexcept { insert_before(head_, element); }
  void push_front(T& element) noexcept { insert_before(*head_.next_, element); }

  void erase(T& element) noexcept {
    hook& h = element;
    h.prev_->next_ = h.next_;
    h.next_->prev_ = h.prev_;
    h.next_ = h.prev_ = nullptr;
    --size_;
  }

  T& pop_front() noexcept {
    T& element = front();
    erase(element);
    return element;
  }

  /// Moves all elements of `other` to the end of this list.
  void append(intrusive_list& other) noexcept {
    if (other.empty()) return;
    hook* first = other.head_.next_;
    hook* last = other.head_.prev_;
    first->prev_ = head_.prev_;
    head_.prev_->next_ = first;
    last->next_ = &head_;
    head_.prev_ = last;
    size_ += std::exchange(other.size_, 0);
    other.reset();
  }

  /// The element behind `element`, or nullptr.
  T* next(T& element) noexcept {
    hook* n = static_cast<hook&>(element).next_;
    return n == &head_ ? nullptr : static_cast<T*>(n);
  }

private:
  void reset() noexcept { head_.next_ = head_.prev_ = &head_; }

  void insert_before(hook& position, T& element) noexcept {
    hook& h = element;
    h.next_ = &position;
    h.prev_ = position.prev_;
    position.prev_->next_ = &h;
    position.prev_ = &h;
    ++size_;
  }

  hook head_;
  std::size_t size_ = 0;
};

} // namespace bulkhead::detail

#endif
