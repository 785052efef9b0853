/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The run queue: each function runs once or is dropped once, and no page is reused too early.
 *
 * Models        class run_queue (reserve(), claim_locked(), skip_empty(), has_work(), leave(),
 *               move_head(), pass(), take_out()), segment_store (acquire(), release(), sweep()),
 *               cell (publish(), give_up(), take()), class claim, and of the scheduler
 *               run_range(), count_left(), rob(), and as much of sleep() and published() as it
 *               takes to see whether has_work() may be trusted. One producer, workers that claim
 *               and rob, and somebody who takes functions wherever they stand:
 *               drop_submissions(), the cancellation of an async_submit, a lifo worker.
 * Left out      other queues: a segment returns to the same one. looks_empty(): a hint for
 *               claim(), before the lock. A scan over cells under the lock is one step: states
 *               only grow, and a segment in which the head stands is not reused, so a scan that
 *               takes time ends where one would have ended that was made when it met its last
 *               cell.
 * Memory order  sequentially consistent. What the code relies on besides: who sees a new head_
 *               sees that next_ was taken back before, and who sees the new next_ sees the new
 *               head_: see move_head().
 * Checked       a function runs or is dropped when it has been built, once, and all are in the
 *               end; while it runs its cell is not given to another; a segment is free when
 *               nothing stands in it and nobody has uncounted business there; nobody sleeps
 *               while a function waits; when all is over, all segments but the last are free;
 *               one worker runs functions in order
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds -DWORKERS=1 :
 *   holds -DWORKERS=1 -DCANCELS=2 :
 *   holds -DWORKERS=1 -DCANCELS=4 -DFUNCTIONS=5 :
 *   holds -DWORKERS=1 -DCANCELS=3 -DFUNCTIONS=5 -DGIVES_UP :
 *   holds -DWORKERS=2 -DFUNCTIONS=5 :
 *   holds -DWORKERS=2 -DFUNCTIONS=5 -DBATCH=3 :
 *   holds -DWORKERS=2 -DFUNCTIONS=2 -DCANCELS=1 :
 *   bug 301 -DWORKERS=1 : a cell is published and then filled
 *   bug 302 -DWORKERS=2 -DFUNCTIONS=5 : take() loads and then stores
 *   bug 303 -DWORKERS=1 -DCANCELS=4 : a segment that all have left is reused, wherever the head is
 *   bug 304 -DWORKERS=2 -DFUNCTIONS=5 : a function has left when it is taken, not when it has run
 *   bug 305 -DWORKERS=1 -DCANCELS=4 -DFUNCTIONS=5 : take_out() does not look again under the lock
 *   bug 306 -DWORKERS=1 -DCANCELS=2 -DFUNCTIONS=3 : head_ moves to a segment before next_ does
 *   bug 307 -DWORKERS=1 -DCANCELS=4 -DFUNCTIONS=5 : has_work() does not look at the head again
 *   bug 308 -DWORKERS=2 -DFUNCTIONS=4 -DBATCH=3 : the head moves over more than the claim's share
 *   bug 309 -DWORKERS=1 -DCANCELS=4 : a segment is reused and `empty` is as before
 *   bug 310 -DWORKERS=1 -DCANCELS=4 -DFUNCTIONS=7 backwards :
 *       a segment is taken out of the middle, and the next one keeps its `previous`
 *   bug 311 -DWORKERS=1 -DCANCELS=4 : who drops a function does not count that it has left
 *   bug 312 -DWORKERS=1 -DCANCELS=2 -DGIVES_UP : a cell that is given up stays as it is
 *   bug 313 -DWORKERS=1 -DCANCELS=2 : has_work() looks twice at the cell at which it has stopped
 *
 * Claims that overlap are no bug: take() decides. rob() makes such claims.
 */

#ifndef BUG
#define BUG 0
#endif
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef FUNCTIONS
#define FUNCTIONS 6
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef BATCH
#define BATCH 2
#endif

#define SIZE 2                           /* segment::size */
#define SEGMENTS (FUNCTIONS / SIZE + 1) /* as many as there can be without reuse */
#define PASSED 16
#define NONE 255

#define cell(s, i) ((s) * SIZE + (i))
#define is_odd(x) ((x) % 2 == 1)

/* --- cells --- */

byte state_[SEGMENTS * SIZE];
byte function[SEGMENTS * SIZE]; /* what stands there, plus 1 */
bool in_use[SEGMENTS * SIZE];   /* somebody has taken what stands there, and works on it */

bool ended[FUNCTIONS];
byte all_ended = 0;

/* cell::take(full), by r */
#if BUG == 302
inline take(c, meant, r) {
  r = (state_[c] == meant);
  if
  :: r -> state_[c] = meant + 1; in_use[c] = true
  :: else
  fi
}
#else
inline take(c, meant, r) {
  atomic {
    r = (state_[c] == meant);
    if
    :: r -> state_[c] = meant + 1; in_use[c] = true
    :: else
    fi
  }
}
#endif

/* The owner runs or destroys what stands in the cell. */
inline end_function(c) {
  atomic {
    assert(in_use[c]);
    assert(function[c] != 0);
    f = function[c] - 1;
    function[c] = 0;
    in_use[c] = false;
    assert(!ended[f]);
    ended[f] = true;
    all_ended++;
    f = 0
  }
}

/* --- segments --- */

byte fresh[SEGMENTS]; /* segment::empty */
byte done[SEGMENTS];
byte next[SEGMENTS], previous[SEGMENTS];
bool is_free[SEGMENTS];

inline release(s, j) {
  d_step {
    assert(!is_free[s]);
    j = 0;
    do
    :: j < SIZE ->
       assert(state_[cell(s, j)] == fresh[s] + 2);
       assert(!in_use[cell(s, j)]);
       j++
    :: else -> break
    od;
    j = 0
  }
#if BUG != 309
  fresh[s] = fresh[s] + 2;
#endif
  atomic { done[s] = 0; next[s] = NONE; previous[s] = NONE; is_free[s] = true }
}

/* --- the queue --- */

byte tail = 0, used = 0;   /* the producer's */
bool consumers = false;    /* the lock */
byte head = 0, index_ = 0; /* head_ and next_ */

#define LOCK(m) atomic { !m -> m = true }
#define UNLOCK(m) m = false

/* Under the lock. */
inline move_head(to) {
#if BUG != 306
  index_ = SIZE;
#endif
  head = to;
  index_ = 0
}

inline pass(s, j, n) {
  move_head(next[s]);
  atomic { n = done[s]; done[s] = done[s] + PASSED }
  if
  :: n == SIZE -> release(s, j)
  :: else
  fi;
  n = 0
}

inline take_out(s, j) {
  LOCK(consumers);
  if
#if BUG == 305
  :: false
#else
  :: done[s] != SIZE || fresh[s] != life
#endif
  :: else ->
     if
     :: s == head -> move_head(next[s])
     :: else ->
        next[previous[s]] = next[s];
#if BUG != 310
        previous[next[s]] = previous[s]
#endif
     fi;
     release(s, j)
  fi;
  UNLOCK(consumers)
}

inline leave(s, n, j) {
  atomic { life = fresh[s]; done[s] = done[s] + n; n = done[s] }
  if
#if BUG == 303
  :: n == SIZE || n == SIZE + PASSED -> release(s, j)
#else
  :: n == SIZE + PASSED -> release(s, j)
  :: n == SIZE -> take_out(s, j)
#endif
  :: else
  fi;
  atomic { n = 0; life = 0 }
}

/* Under the lock, which guards what it has seen at the cell where it stops. */
byte seen = 0;

inline skip_empty(s, j, n) {
  do
  :: atomic {
       s = head;
       j = index_;
       do
       :: j < SIZE && state_[cell(s, j)] == fresh[s] + 2 -> j++
       :: else -> break
       od;
       if
       :: j != SIZE -> index_ = j; seen = state_[cell(s, j)]; j = 0; break
       :: else -> j = 0
       fi
     }
     pass(s, j, n)
  od
}

/* has_work(), by r. */
inline has_work(s, i, j, n, r) {
  s = head;
  i = index_;
  r = true;
  if
  :: i < SIZE ->
     n = state_[cell(s, i)];
     if
     :: n == fresh[s] ->
#if BUG == 307
        r = false
#else
        r = (s != head)
#endif
     :: else
     fi;
     n = 0
  :: else
  fi;
  i = 0;
  if
  :: r ->
     LOCK(consumers);
#if BUG == 313
     skip_empty(s, j, n);
     r = is_odd(state_[cell(head, index_)]); /* which may have left meanwhile */
#else
     skip_empty(s, j, n);
     r = is_odd(seen);
#endif
     atomic { seen = 0; UNLOCK(consumers) }
  :: else
  fi;
  s = 0
}

/* --- who brings functions --- */

bool asleep[WORKERS];
bool produced = false, cancels = false;

inline published() {
  atomic {
    if
    :: asleep[0] -> asleep[0] = false
    :: !asleep[0] && asleep[WORKERS - 1] -> asleep[WORKERS - 1] = false
    :: else
    fi
  }
}

proctype producer() {
  byte i = 0, c = 0, s = 0, j = 0, n = 0, life = 0;
  do
  :: i < FUNCTIONS ->
     atomic { /* reserve() */
       s = tail;
       c = cell(s, used);
       assert(state_[c] == fresh[s] && !in_use[c] && function[c] == 0);
       used++;
       if
       :: used == SIZE -> /* open(): one that was used before, if there is one */
          j = 0;
          do
          :: is_free[j] -> break
          :: else -> j++
          od;
          is_free[j] = false;
          previous[j] = s;
          used = 0
       :: else
       fi
     }
     if
     :: used == 0 -> atomic { next[s] = j; tail = j; j = 0 }
     :: else
     fi;
#ifdef GIVES_UP
     if
     :: i == 1 -> /* build() throws */
#if BUG != 312
        state_[c] = state_[c] + 2;
#endif
        atomic { ended[i] = true; all_ended++ }
        n = 1;
        leave(s, n, j);
        published();
        goto given_up
     :: else
     fi;
#endif
#if BUG == 301
     state_[c] = state_[c] + 1;
     function[c] = i + 1;
#else
     function[c] = i + 1;
     state_[c] = state_[c] + 1; /* publish() */
#endif
     published();
#ifdef GIVES_UP
given_up:
#endif
     atomic { i++; c = 0; s = 0 }
  :: else -> break
  od;
  produced = true
}

/* --- who takes them --- */

/* worker::claimed: three words, which others may see in part */
byte claimed_where[WORKERS], claimed_full[WORKERS], claimed_begin[WORKERS], claimed_end[WORKERS];

proctype worker(byte w) {
  byte where = 0, meant = 0, begin = 0, end = 0; /* worker::range; meant is its `full` */
  byte left = 0;
  byte to = 0, s = 0, i = 0, j = 0, n = 0, f = 0, life = 0;
  bool r = false;
#if WORKERS == 1
  byte newest = 0;
#endif

refill:
  if /* count_left() */
  :: left != 0 -> leave(where, left, j)
  :: else
  fi;
  LOCK(consumers); /* claim() */
  skip_empty(s, j, n);
  atomic {
    s = head;
    begin = index_;
    meant = fresh[s] + 1;
    j = begin;
    n = 0;
    do
    :: j < SIZE && n != BATCH && state_[cell(s, j)] != fresh[s] ->
       if
       :: is_odd(state_[cell(s, j)]) -> n++
       :: else
       fi;
       j++
    :: else -> break
    od;
#if BUG == 308
    to = j;
#endif
    if
    :: n == 0 -> begin = 0; end = 0
    :: n != 0 && n != BATCH -> /* share */
       n = (n + 1) / 2;
       j = begin;
       do
       :: n != 0 ->
          if
          :: is_odd(state_[cell(s, j)]) -> n--
          :: else
          fi;
          j++
       :: else -> break
       od;
       end = j
    :: else -> end = j
    fi;
#if BUG != 308
    to = end;
#endif
    j = 0;
    n = 0;
    where = s
  }
  if
  :: begin == end
  :: else ->
     if
     :: to == SIZE -> pass(s, j, n)
     :: else -> index_ = to
     fi
  fi;
  atomic { seen = 0; UNLOCK(consumers); s = 0; to = 0 }
  if
  :: begin != end -> goto run_range
  :: else
  fi;
#if WORKERS > 1
  atomic { begin = claimed_begin[1 - w]; end = claimed_end[1 - w] } /* rob() */
  if
  :: begin < end ->
     where = claimed_where[1 - w];
     meant = claimed_full[1 - w];
     atomic {
       do
       :: begin < end && state_[cell(where, begin)] != meant -> begin++
       :: else -> break
       od;
       end = begin + (end - begin + 1) / 2
     }
     if
     :: begin < end -> goto run_range
     :: else
     fi
  :: else
  fi;
  atomic { begin = 0; end = 0 }
#endif
  atomic { where = 0; meant = 0 }

  asleep[w] = true; /* lie_down() */
  has_work(s, i, j, n, r); /* any_work() */
#if WORKERS > 1
  if
  :: !r -> /* a claim is read before its cells are */
     atomic { begin = claimed_begin[1 - w]; end = claimed_end[1 - w] }
     where = claimed_where[1 - w];
     meant = claimed_full[1 - w];
     atomic {
       do
       :: begin < end && state_[cell(where, begin)] != meant -> begin++
       :: else -> break
       od;
       r = (begin < end);
       begin = 0;
       end = 0;
       where = 0;
       meant = 0
     }
  :: else
  fi;
#endif
  if
  :: r -> atomic { asleep[w] = false; r = false }
  :: else
  fi;
end_asleep:
  !asleep[w];
  goto refill;

run_range: /* start_range() */
#if WORKERS > 1
  claimed_where[w] = where;
  claimed_full[w] = meant;
  atomic { claimed_begin[w] = begin; claimed_end[w] = end }
#endif
  do
  :: begin < end ->
     atomic {
       i = cell(where, begin);
       begin++;
#if WORKERS > 1
       claimed_begin[w] = begin
#endif
     }
     take(i, meant, r);
     if
     :: r ->
        left++;
#if BUG == 304
        leave(where, left, j);
#endif
#if WORKERS == 1
        atomic { assert(function[i] > newest); newest = function[i] }
#endif
        end_function(i)
     :: else
     fi
  :: else -> break
  od;
  atomic { begin = 0; end = 0; i = 0; meant = 0; r = false; goto refill }
}

/* Takes functions from wherever they stand. */
proctype canceller() {
  byte c = 0, was = 0, i = 0, s = 0, j = 0, n = 0, f = 0, life = 0;
  bool r = false;
  do
  :: i < CANCELS ->
end_cancel:
     atomic {
       if
       :: is_odd(state_[0]) -> c = 0
       :: is_odd(state_[1]) -> c = 1
       :: is_odd(state_[2]) -> c = 2
       :: is_odd(state_[3]) -> c = 3
#if FUNCTIONS > 3 /* two segments at least */
       :: is_odd(state_[4]) -> c = 4
       :: is_odd(state_[5]) -> c = 5
#endif
#if FUNCTIONS > 5
       :: is_odd(state_[6]) -> c = 6
       :: is_odd(state_[7]) -> c = 7
#endif
       fi;
       was = state_[c];
       cancels = true
     }
     take(c, was, r);
     if
     :: r ->
        end_function(c);
#if BUG != 311
        n = 1;
        s = c / SIZE;
        leave(s, n, j)
#endif
     :: else
     fi;
     atomic { i++; s = 0; c = 0; was = 0; r = false; cancels = false }
  :: else -> break
  od
}

init {
  byte i = 0, n = 0;
  atomic {
    i = 0;
    do
    :: i < SEGMENTS -> is_free[i] = (i != 0); next[i] = NONE; previous[i] = NONE; i++
    :: else -> break
    od;
    run producer();
    i = 0;
    do
    :: i < WORKERS -> run worker(i); i++
    :: else -> break
    od;
#if CANCELS
    run canceller();
#endif
    i = 0
  }
  /* or else the model does not end */
  atomic {
    all_ended == FUNCTIONS && produced && !cancels && asleep[0] && asleep[WORKERS - 1];
    do
    :: i < SEGMENTS ->
       if
       :: !is_free[i] -> n++
       :: else
       fi;
       i++
    :: else -> break
    od;
    assert(n == 1)
  }
}
