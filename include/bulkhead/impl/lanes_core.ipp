//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_IMPL_LANES_CORE_IPP
#define BULKHEAD_IMPL_LANES_CORE_IPP

#include <bulkhead/detail/order/lanes_core.hpp>
#include <bulkhead/detail/run/uncaught.hpp>
#include <bulkhead/detail/wait/posting.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution/relationship.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/require.hpp>

#include <algorithm>
#include <cstdio>

namespace bulkhead::detail {

// --- runners ---

/// Destroyed uninvoked, because the context is going, or the executor drops it, it is lost. If that is
/// inside post_runner(), then that one looks after it.
class lanes_core::runner {
public:
  explicit runner(std::shared_ptr<lanes_core> set) noexcept : set_(std::move(set)) {}
  runner(runner&&) noexcept = default;
  ~runner() {
    if (!set_ || posting::takes_back(set_.get())) return;
    if (set_->runners_lost(1)) set_->discard_all();
  }

  void operator()() {
    const std::shared_ptr<lanes_core> set = std::move(set_);
    set->work();
  }

private:
  std::shared_ptr<lanes_core> set_;
};

/// Under the mutex: whether there is a task that no runner is on its way to. If this says so,
/// post_runner() has to follow.
BULKHEAD_DECL bool lanes_core::needs_runner() noexcept {
  if (active_ >= concurrency_ || active_ - in_flight_ >= may_begin_) return false;
  ++active_;
  return true;
}

/// One more, or the one that calls this and `goes_on` once others on the executor have had their turn.
/// False if the executor refuses, by throwing, or drops it; without memory it is asked again. If no
/// other runner is left then, all that is queued is lost, and what it threw is thrown; otherwise the
/// others do the work.
BULKHEAD_DECL bool lanes_core::post_runner(bool goes_on) {
  posting here(this);
  std::exception_ptr error;
  try {
    here.insist(
        [&] { (goes_on ? going_on_ : never_blocking_).execute(runner(shared_from_this())); });
  } catch (...) {
    error = std::current_exception();
  }
  if (!here.is_back()) return true;
  if (runners_lost(here.came_back())) {
    discard_all();
    if (error) std::rethrow_exception(std::move(error));
  }
  return false;
}

/// For those who have nobody to tell.
BULKHEAD_DECL bool lanes_core::post_runner_or_lose(bool goes_on) noexcept {
  try {
    return post_runner(goes_on);
  } catch (...) {
    return false;
  }
}

BULKHEAD_DECL void lanes_core::post_runners() noexcept {
  do {
    std::lock_guard lock(mutex_);
    if (!needs_runner()) return;
  } while (post_runner_or_lose());
}

/// Whether they were the last: nobody is left then to run what is queued.
BULKHEAD_DECL bool lanes_core::runners_lost(std::size_t n) noexcept {
  std::lock_guard lock(mutex_);
  active_ -= n;
  return active_ == 0;
}

BULKHEAD_DECL void lanes_core::work() noexcept {
  lane_core* lane = nullptr;
  result last = result::none;
  for (std::size_t turns = settings_.batch;;) {
    lane_task* task = nullptr;
    bool goes_on = false;
    bool needs_another = false;
    bool keeps_much = false;
    intrusive_list<lane_task> more;
    std::shared_ptr<lane_core> ended; // a lane to look after, once the lock is released
    {
      std::lock_guard lock(mutex_);
      if (lane) {
        lane->count_end(last);
        if (lane->is_drained()) ended = lane->shared_from_this();
        if (auto idle = lane->let_go_if_idle()) ended = std::move(idle);
        lane = nullptr;
      }
      if (active_ <= concurrency_ && turns != 0) {
        lane = order_.pop();
        if (lane) {
          task = &lane->start_next();
          needs_another = needs_runner(); // for who had waited for the room
          if (settings_.is_strand) lane->claim(more, turns - 1);
        }
      } else {
        goes_on = active_ <= concurrency_ && !order_.empty();
      }
      if (!task && !goes_on)
        keeps_much = --active_ == 0 && nodes_ && nodes_->asked_for() > most_kept;
    }
    if (ended) {
      ended->complete_drains_if_done();
      ended.reset(); // the next task may take long
    }
    if (keeps_much) free_spare_nodes();
    if (needs_another || goes_on) post_runner_or_lose(goes_on);
    if (!task) return;
    last = run(*lane, *task);
    --turns;
    for (; !more.empty(); --turns) run(*lane, more.pop_front());
  }
}

BULKHEAD_DECL void lanes_core::free_spare_nodes() noexcept {
  node_cache::surplus spare; // ends after the lock
  std::lock_guard lock(mutex_);
  nodes_->give_up(spare);
}

BULKHEAD_DECL lanes_core::result lanes_core::run(lane_core& lane, lane_task& task) noexcept {
  frame here{&lane, nullptr, innermost()};
  innermost() = &here;
  const lane_task::kind what = task.what;
  result r = what == lane_task::kind::continuation ? result::none : result::completed;
  if (what == lane_task::kind::async_submission) {
    r = run_async(lane, static_cast<lane_op&>(task));
  } else {
    try {
      static_cast<lane_function&>(task).run();
    } catch (...) {
      if (r == result::completed) r = result::failed;
      report_exception(std::current_exception());
    }
  }
  innermost() = here.outer;
  return r;
}

BULKHEAD_DECL lanes_core::result lanes_core::run_async(lane_core& lane, lane_op& op) noexcept {
  frame& here = *innermost();
  here.op = &op;
  const bool ok = op.run();
  here.op = nullptr;
  completion_latch* orphan;
  {
    std::lock_guard lock(mutex_);
    lane.keys_.erase(op.key);
    orphan = op.orphan;
    if (!orphan) lane.departing_.begin();
  }
  if (orphan) {
    op.retire(); // who waits for it needs nothing of ours
    orphan->release();
  } else {
    op.finish();
    lane.departing_.end();
  }
  return ok ? result::completed : result::failed;
}

BULKHEAD_DECL void lanes_core::report_exception(std::exception_ptr error) noexcept {
  report_uncaught("lanes", settings_.name, settings_.on_exception, std::move(error));
}

// --- lanes_core ---

BULKHEAD_DECL lanes_core::lanes_core(const boost::asio::any_io_executor& inner, settings s)
    : inner_(inner),
      never_blocking_(boost::asio::require(inner_, boost::asio::execution::blocking.never)),
      going_on_(
          boost::asio::prefer(never_blocking_, boost::asio::execution::relationship.continuation)),
      context_(context_of(inner_)), settings_(std::move(s)), concurrency_(settings_.concurrency),
      order_(settings_.minimum_share),
      nodes_(settings_.is_strand ? nullptr : std::make_unique<node_cache>()) {}

BULKHEAD_DECL void lanes_core::attach() {
  if (context_) subscription_.subscribe(*context_, shared_from_this());
}

BULKHEAD_DECL std::size_t lanes_core::concurrency() const noexcept {
  std::lock_guard lock(mutex_);
  return concurrency_;
}

BULKHEAD_DECL void lanes_core::set_concurrency(std::size_t n) {
  {
    std::lock_guard lock(mutex_);
    concurrency_ = n;
  }
  post_runners();
}

BULKHEAD_DECL std::size_t lanes_core::size() const noexcept {
  std::lock_guard lock(mutex_);
  return lanes_.size();
}

/// A lane that is alive stands in the list, so the one behind it can be found after `f`.
template <class F>
void lanes_core::for_each_lane(F f) noexcept {
  std::shared_ptr<lane_core> at;
  do {
    std::shared_ptr<lane_core> next;
    {
      std::lock_guard lock(mutex_);
      lane_core* l = at ? lanes_.next(*at) : lanes_.empty() ? nullptr : &lanes_.front();
      while (l && !(next = l->weak_from_this().lock())) l = lanes_.next(*l);
    }
    at = std::move(next);
    if (at) f(*at);
  } while (at);
}

BULKHEAD_DECL void lanes_core::end() noexcept {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  for_each_lane([](lane_core& l) { l.end(); });
}

BULKHEAD_DECL void lanes_core::discard_all() noexcept {
  for_each_lane([](lane_core& l) { l.discard_all(); });
}

BULKHEAD_DECL void lanes_core::on_context_shutdown(wait_key) noexcept {
  {
    std::lock_guard lock(mutex_);
    dead_ = true;
  }
  discard_all();
  for_each_lane([](lane_core& l) { l.departing_.wait(); });
}

// --- lane_core ---

BULKHEAD_DECL std::shared_ptr<lane_core> lane_core::open(std::shared_ptr<lanes_core> set,
                                                         settings s) {
  const double weight = s.weight;
  const int priority = s.priority;
  auto lane = std::make_shared<lane_core>(std::move(set), std::move(s));
  lanes_core& core = *lane->set_;
  std::lock_guard lock(core.mutex_);
  core.order_.join(*lane, priority, weight);
  core.lanes_.push_back(*lane);
  lane->closed_ = core.ended_;
  return lane;
}

BULKHEAD_DECL lane_core::lane_core(std::shared_ptr<lanes_core> set, settings s)
    : set_(std::move(set)), name_(std::move(s.name)), queue_limit_(s.queue_limit),
      waiter_limit_(s.waiter_limit), concurrency_(s.concurrency) {}

BULKHEAD_DECL lane_core::~lane_core() {
  std::lock_guard lock(set_->mutex_);
  if (!is_linked()) return;
  set_->lanes_.erase(*this);
  set_->order_.leave(*this);
}

// Under the mutex.

BULKHEAD_DECL bool lane_core::has_room() const noexcept {
  return waiters_.empty() && queued_ + reserved_ < queue_limit_;
}

BULKHEAD_DECL std::size_t lane_core::may_begin() const noexcept {
  return running_ < concurrency_ ? (std::min)(queue_.size(), concurrency_ - running_) : 0;
}

/// After whatever may have changed may_begin().
BULKHEAD_DECL void lane_core::revise() noexcept {
  const std::size_t before = std::exchange(may_begin_, may_begin());
  set_->may_begin_ += may_begin_ - before;
  if (is_waiting() == (may_begin_ != 0)) return;
  if (may_begin_ != 0)
    set_->order_.add(*this);
  else
    set_->order_.remove(*this);
}

BULKHEAD_DECL void lane_core::queue(lane_task& t) noexcept {
  if (t.what != lane_task::kind::continuation) ++queued_;
  queue_.push_back(t);
  if (!self_) self_ = shared_from_this();
  revise();
}

BULKHEAD_DECL void lane_core::leave_queue(lane_task& t) noexcept {
  queue_.erase(t);
  if (t.what != lane_task::kind::continuation) --queued_;
  admit_waiters();
  revise();
}

BULKHEAD_DECL void lane_core::admit_waiters() noexcept {
  while (!waiters_.empty() && queued_ + reserved_ < queue_limit_) {
    lane_task& t = waiters_.pop_front();
    static_cast<lane_op&>(t).now = lane_op::state::queued;
    ++queued_;
    queue_.push_back(t);
  }
}

/// It has been taken out of `order_`, for its turn has come.
BULKHEAD_DECL lane_task& lane_core::start_next() noexcept {
  lane_task& t = queue_.front();
  ++running_;
  ++set_->in_flight_;
  if (t.what == lane_task::kind::continuation)
    ++continuations_;
  else
    ++running_submissions_;
  if (t.what == lane_task::kind::async_submission)
    static_cast<lane_op&>(t).now = lane_op::state::running;
  leave_queue(t);
  return t;
}

/// In a set that is a strand: takes up to `most` more, which come next whatever happens.
BULKHEAD_DECL void lane_core::claim(tasks& claimed, std::size_t most) noexcept {
  for (; most != 0 && !queue_.empty(); --most) {
    claimed.push_back(queue_.pop_front());
    ++continuations_;
  }
}

BULKHEAD_DECL void lane_core::count_end(lanes_core::result r) noexcept {
  --running_;
  --set_->in_flight_;
  if (r != lanes_core::result::none) {
    --running_submissions_;
    ++(r == lanes_core::result::completed ? completed_ : failed_);
  }
  revise();
}

BULKHEAD_DECL bool lane_core::is_idle_locked() const noexcept {
  return queue_.empty() && running_ == 0 && reserved_ == 0 && waiters_.empty();
}

BULKHEAD_DECL bool lane_core::is_drained() const noexcept {
  return drains_ && closed_ && queued_ == 0 && reserved_ == 0 && running_submissions_ == 0 &&
         doomed_.empty() && !set_->dead_; // or they go with the context
}

/// What this returns has to be released under no lock.
BULKHEAD_DECL std::shared_ptr<lane_core> lane_core::let_go_if_idle() noexcept {
  return is_idle_locked() ? std::move(self_) : nullptr;
}

BULKHEAD_DECL void lane_core::take_waiters(ops& taken) noexcept {
  for (lane_task* t = waiters_.empty() ? nullptr : &waiters_.front(); t; t = waiters_.next(*t))
    keys_.erase(static_cast<lane_op*>(t)->key);
  departing_.begin(waiters_.size());
  taken.append(waiters_);
}

BULKHEAD_DECL void lane_core::take_submissions(tasks& taken) noexcept {
  for (lane_task* t = queue_.empty() ? nullptr : &queue_.front(); t;) {
    lane_task* const next = queue_.next(*t);
    if (t->what != lane_task::kind::continuation) {
      queue_.erase(*t);
      --queued_;
      taken.push_back(*t);
      if (t->what == lane_task::kind::async_submission) {
        keys_.erase(static_cast<lane_op*>(t)->key);
        departing_.begin();
      }
    }
    t = next;
  }
}

// --- submissions ---

/// Gets memory of that size as well, unless it is 0.
BULKHEAD_DECL bool lane_core::reserve_place(std::size_t size, void*& memory) {
  std::lock_guard lock(set_->mutex_);
  if (closed_ || set_->dead_ || !has_room()) {
    ++submitted_;
    ++rejected_;
    return false;
  }
  if (size != 0) memory = set_->nodes_->allocate(size);
  ++submitted_;
  ++reserved_;
  return true;
}

BULKHEAD_DECL void lane_core::give_place_up() noexcept {
  bool post;
  std::shared_ptr<lane_core> idle;
  {
    std::lock_guard lock(set_->mutex_);
    --reserved_;
    --submitted_;
    admit_waiters();
    revise();
    post = set_->needs_runner();
    idle = let_go_if_idle();
  }
  if (post) set_->post_runner_or_lose();
  complete_drains_if_done();
}

/// The set may have ended meanwhile.
BULKHEAD_DECL void lane_core::fill_place(lane_function& n) {
  bool post = false;
  bool is_late;
  std::shared_ptr<lane_core> idle;
  {
    std::lock_guard lock(set_->mutex_);
    --reserved_;
    is_late = set_->ended_ || set_->dead_;
    if (is_late) {
      ++cancelled_;
      idle = let_go_if_idle();
    } else {
      queue(n);
      post = set_->needs_runner();
    }
  }
  if (post) set_->post_runner();
  if (!is_late) return;
  n.destroy();
  complete_drains_if_done();
}

BULKHEAD_DECL void lane_core::push(lane_function& n) {
  bool post = false;
  bool is_dead;
  {
    std::lock_guard lock(set_->mutex_);
    is_dead = set_->dead_;
    if (!is_dead) {
      queue(n);
      post = set_->needs_runner();
    }
  }
  if (is_dead) return n.destroy();
  if (post) set_->post_runner();
}

BULKHEAD_DECL bool lane_core::refuse_now(error_code& ec) noexcept {
  std::lock_guard lock(set_->mutex_);
  if (closed_ || set_->dead_)
    ec = errc::closed;
  else if (has_room() || waiters_.size() < waiter_limit_)
    return false;
  else
    ec = errc::queue_full;
  ++submitted_;
  ++rejected_;
  return true;
}

BULKHEAD_DECL wait_key lane_core::reserve(lane_op& op) {
  std::lock_guard lock(set_->mutex_);
  return op.key = keys_.insert(op);
}

BULKHEAD_DECL void lane_core::unreserve(lane_op& op) noexcept {
  std::lock_guard lock(set_->mutex_);
  keys_.erase(op.key);
}

BULKHEAD_DECL void lane_core::enqueue(lane_op& op) {
  error_code ec;
  bool post = false;
  {
    std::lock_guard lock(set_->mutex_);
    ++submitted_;
    if (closed_ || set_->dead_) {
      ec = errc::closed;
    } else if (has_room()) {
      op.now = lane_op::state::queued;
      queue(op);
      post = set_->needs_runner();
    } else if (waiters_.size() < waiter_limit_) {
      op.now = lane_op::state::waiting;
      waiters_.push_back(op);
      if (!self_) self_ = shared_from_this();
    } else {
      ec = errc::queue_full;
    }
    if (ec) {
      ++rejected_;
      keys_.erase(op.key);
      departing_.begin();
    }
  }
  if (post) set_->post_runner();
  if (!ec) return;
  op.abort(ec);
  departing_.end();
  complete_drains_if_done();
}

/// Takes the operation `key` out before it has started. If it has, gets its stop source.
BULKHEAD_DECL lane_op* lane_core::take(wait_key key, std::stop_source& running) noexcept {
  lane_op* op;
  std::shared_ptr<lane_core> idle;
  bool post;
  {
    std::lock_guard lock(set_->mutex_);
    op = keys_.find(key);
    if (!op || op->now == lane_op::state::reserved) return nullptr;
    if (op->now == lane_op::state::running) {
      running = op->stop;
      return nullptr;
    }
    if (op->now != lane_op::state::doomed) ++cancelled_;
    if (op->now == lane_op::state::doomed)
      doomed_.erase(*op);
    else if (op->now == lane_op::state::waiting)
      waiters_.erase(*op);
    else
      leave_queue(*op);
    keys_.erase(key);
    departing_.begin();
    post = set_->needs_runner();
    idle = let_go_if_idle();
  }
  if (post) set_->post_runner_or_lose();
  return op;
}

BULKHEAD_DECL void lane_core::cancel(wait_key key, boost::asio::cancellation_type) noexcept {
  std::stop_source running(std::nostopstate);
  if (lane_op* op = take(key, running)) {
    op->abort(boost::asio::error::operation_aborted);
    departing_.end();
    complete_drains_if_done();
  }
  running.request_stop();
}

/// The context of a foreign handler shuts down. A function that runs for it is asked to stop and
/// waited for; then its handler goes, in time, uninvoked.
BULKHEAD_DECL void lane_core::on_context_shutdown(wait_key key) noexcept {
  std::stop_source running(std::nostopstate);
  if (lane_op* op = take(key, running)) {
    op->retire();
    departing_.end();
    op->discard();
    return complete_drains_if_done();
  }
  completion_latch ended;
  lane_op* op;
  {
    std::lock_guard lock(set_->mutex_);
    op = keys_.find(key);
    if (op) op->orphan = &ended;
  }
  for (const lanes_core::frame* f = lanes_core::innermost(); op && f; f = f->outer)
    if (f->op == op) {
      std::fputs("bulkhead: the context of a handler must not be destroyed by the function that it "
                 "waits for\n",
                 stderr);
      std::terminate();
    }
  running.request_stop();
  if (op) {
    ended.wait();
    op->discard();
  }
  departing_.wait();
}

BULKHEAD_DECL bool lane_core::running_in_this_thread() const noexcept {
  for (const lanes_core::frame* f = lanes_core::innermost(); f; f = f->outer)
    if (f->lane == this) return true;
  return false;
}

BULKHEAD_DECL void lane_core::work_started() {
  {
    std::lock_guard lock(set_->mutex_);
    if (work_ != 0) {
      ++work_;
      return;
    }
  }
  std::optional<boost::asio::any_io_executor> tracked(
      boost::asio::prefer(set_->inner(), boost::asio::execution::outstanding_work.tracked));
  std::lock_guard lock(set_->mutex_); // `tracked` ends after it, if it is too late
  if (work_++ == 0) tracked_.swap(tracked);
}

BULKHEAD_DECL void lane_core::work_finished() noexcept {
  std::optional<boost::asio::any_io_executor> last;
  std::lock_guard lock(set_->mutex_);
  if (--work_ == 0) {
    last = std::move(tracked_);
    tracked_.reset();
  }
}

// --- the rest ---

BULKHEAD_DECL void lane_core::set_weight(double weight) noexcept {
  std::lock_guard lock(set_->mutex_);
  set_->order_.set_weight(*this, weight);
}

BULKHEAD_DECL void lane_core::set_priority(int priority) {
  std::lock_guard lock(set_->mutex_);
  set_->order_.set_priority(*this, priority);
}

BULKHEAD_DECL void lane_core::set_concurrency(std::size_t n) {
  {
    std::lock_guard lock(set_->mutex_);
    concurrency_ = n;
    revise();
  }
  set_->post_runners();
}

BULKHEAD_DECL std::size_t lane_core::most_in_flight() const noexcept {
  std::lock_guard lock(set_->mutex_);
  return (std::min)(concurrency_, set_->concurrency_);
}

BULKHEAD_DECL std::shared_ptr<wait_set<error_code>> lane_core::drain_waiters() {
  {
    std::lock_guard lock(set_->mutex_);
    if (drains_) return drains_;
  }
  auto fresh = std::make_shared<wait_set<error_code>>();
  fresh->attach(set_->context());
  std::lock_guard lock(set_->mutex_);
  if (!drains_) drains_ = std::move(fresh);
  return drains_;
}

BULKHEAD_DECL void lane_core::complete_drains_if_done() noexcept {
  std::shared_ptr<wait_set<error_code>> drains;
  wait_set<error_code>::list waiters;
  {
    std::lock_guard lock(set_->mutex_);
    if (!is_drained() || !departing_.none()) return;
    drains = drains_;
    waiters = drains->take_all();
  }
  drains->complete(std::move(waiters), error_code());
}

BULKHEAD_DECL void lane_core::close() noexcept {
  ops refused;
  {
    std::lock_guard lock(set_->mutex_);
    closed_ = true;
    rejected_ += waiters_.size();
    take_waiters(refused);
  }
  abort_all(std::move(refused), errc::closed);
  complete_drains_if_done();
}

/// The set has ended.
BULKHEAD_DECL void lane_core::end() noexcept {
  tasks aborted;
  std::shared_ptr<wait_set<error_code>> drains;
  std::shared_ptr<lane_core> idle;
  {
    std::lock_guard lock(set_->mutex_);
    closed_ = true;
    take_submissions(aborted);
    take_waiters(aborted);
    cancelled_ += aborted.size();
    revise();
    drains = drains_;
    idle = let_go_if_idle();
  }
  abort_all(std::move(aborted), boost::asio::error::operation_aborted);
  if (drains) drains->complete(drains->take_all(), boost::asio::error::operation_aborted);
  complete_drains_if_done(); // those that have begun meanwhile
}

/// Ends what has been taken out and never started.
BULKHEAD_DECL void lane_core::abort_all(tasks all, error_code ec) noexcept {
  while (!all.empty()) {
    lane_task& t = all.pop_front();
    if (t.what == lane_task::kind::async_submission) {
      static_cast<lane_op&>(t).abort(ec);
      departing_.end();
    } else {
      static_cast<lane_function&>(t).destroy();
    }
  }
}

/// Destroys what stands in the lane, because nobody will run it.
BULKHEAD_DECL void lane_core::discard_all() noexcept {
  std::shared_ptr<lane_core> idle;
  {
    std::lock_guard lock(set_->mutex_);
    cancelled_ += std::exchange(queued_, 0) + waiters_.size();
    for (tasks* all : {&queue_, &waiters_}) {
      for (lane_task* t = all->empty() ? nullptr : &all->front(); t; t = all->next(*t))
        if (t->what == lane_task::kind::async_submission)
          static_cast<lane_op*>(t)->now = lane_op::state::doomed;
      doomed_.append(*all);
    }
    revise();
    idle = let_go_if_idle();
  }
  while (discard_one()) {
  }
  complete_drains_if_done();
}

/// False if nothing is doomed. What is destroyed may end the context of another handler, which is to
/// find that still here.
BULKHEAD_DECL bool lane_core::discard_one() noexcept {
  lane_task* t;
  {
    std::lock_guard lock(set_->mutex_);
    if (doomed_.empty()) return false;
    t = &doomed_.pop_front();
    if (t->what == lane_task::kind::async_submission) {
      keys_.erase(static_cast<lane_op*>(t)->key);
      departing_.begin();
    }
  }
  if (t->what == lane_task::kind::async_submission) {
    auto& op = static_cast<lane_op&>(*t);
    op.retire();
    departing_.end();
    op.discard();
  } else {
    static_cast<lane_function*>(t)->destroy();
  }
  return true;
}

BULKHEAD_DECL lane_stats lane_core::stats() const noexcept {
  std::lock_guard lock(set_->mutex_);
  return {running_,   running_submissions_, queued_, waiters_.size(),
          submitted_, completed_,           failed_, rejected_,
          cancelled_, continuations_};
}

BULKHEAD_DECL bool lane_core::is_idle() const noexcept {
  std::lock_guard lock(set_->mutex_);
  return is_idle_locked();
}

BULKHEAD_DECL bool lane_core::settle() noexcept {
  std::lock_guard lock(set_->mutex_);
  return is_idle_locked() && set_->order_.settle(*this);
}

} // namespace bulkhead::detail

#endif
