/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * Admission: the limit of the queue is exact, and each submission ends once.
 *
 * Models        of scheduler: push_submission(), balance_of_credits(), take_single_credit(),
 *               give_credit_back(), ask_for_credit(), get_credit(), call_in_credits(),
 *               stand_in_line(), enqueue(), join_line(), admit_from_line(),
 *               take_credit_for_line(), push_from_line(), call_resting(), take() and cancel(),
 *               close(), stop(), drop_submissions(), drop_late_submissions(), drained(), and
 *               what run(), run_async() and count_end() count; class granted_credits, class
 *               submission_tally and class asymmetric_fence
 * Left out      the queues: a worker, of which there is one, takes any function that stands
 *               there. Whether somebody asks for an advance, how many credits that gives a shard,
 *               and when a rest ends: all chosen. waiter_limit, run_here(), a lack of memory; continuations.
 * Memory order  sequentially consistent but for the worker's tally: what it stores there stays
 *               in a buffer of one place, while the worker goes on, until it is seen at some
 *               time, before the worker's next store or lock, or at somebody's
 *               asymmetric_fence::wait_for_all()
 * Checked       never more than LIMIT submissions that are admitted and not known to be started;
 *               nobody is refused unless that many were, or a line stood there, while he asked;
 *               where a line begins, no shard holds credits with which it would be overtaken;
 *               each submission is run, dropped or refused once, and nobody waits for ever; a
 *               drain is done when, and only when, the pool is closed and nothing is queued or
 *               runs, and nothing is queued afterwards; nobody touches a submitter that has
 *               returned
 *
 * Submissions 0 .. TRIES-1 are try_submit()s, the next BLOCKED are submit()s that wait, the next
 * ASYNC are async_submit()s, each with somebody who cancels it (CANCEL). END is 1 for close(), 2 for
 * stop().
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds -DTRIES=2 -DBLOCKED=1 :
 *   holds -DTRIES=1 -DBLOCKED=2 :
 *   holds -DTRIES=3 -DLIMIT=2 :
 *   holds -DTRIES=2 -DBLOCKED=1 -DLIMIT=2 :
 *   holds -DTRIES=1 -DBLOCKED=1 -DASYNC=1 -DLIMIT=2 :
 *   holds -DTRIES=2 -DASYNC=1 -DLIMIT=2 -DCANCEL :
 *   holds -DASYNC=2 -DCANCEL :
 *   holds -DBLOCKED=1 -DASYNC=1 -DCANCEL -DEND=1 :
 *   holds -DTRIES=1 -DBLOCKED=1 -DEND=1 :
 *   holds -DTRIES=1 -DBLOCKED=1 -DEND=2 :
 *   holds -DTRIES=2 -DLIMIT=2 -DEND=2 :
 *   holds -DASYNC=1 -DCANCEL -DEND=2 :
 *   bug 401 -DTRIES=1 -DBLOCKED=1 : who joins the line does not look for room afterwards
 *   bug 402 -DTRIES=1 -DBLOCKED=1 : who opens the line does not wait for the fence
 *   bug 403 -DTRIES=3 -DBLOCKED=1 -DLIMIT=2 backwards : credits are not called in for a line
 *   bug 404 -DTRIES=3 -DLIMIT=2 : credits are not called in before somebody is refused
 *   bug 405 -DTRIES=3 -DLIMIT=2 : credits are called in without the lock of their shard
 *   bug 406 -DTRIES=1 -DASYNC=1 -DCANCEL : an admitted operation is cancelled without take()
 *   bug 407 -DASYNC=2 -DCANCEL : who cancels a queued operation does not let the line move
 *   bug 408 -DBLOCKED=2 : whether a submitter sleeps is read after it has been told
 *   bug 409 -DTRIES=1 -DBLOCKED=1 -DEND=1 : close() does not wait for the fence
 *   bug 410 -DTRIES=1 -DEND=2 : who publishes after stop() does not drop what he has published
 *   bug 411 -DTRIES=1 -DASYNC=1 -DCANCEL : a submission counts as started before it is taken
 *   bug 412 -DTRIES=3 -DLIMIT=2 : what has come back is read before what was granted
 *   bug 413 -DTRIES=3 -DLIMIT=2 : somebody is refused while shards hold credits
 *   bug 414 -DTRIES=1 -DEND=1 : who takes a credit does not look whether the pool has been closed
 *   bug 415 -DTRIES=3 : a credit is taken although others have been granted meanwhile
 */

#ifndef BUG
#define BUG 0
#endif
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef TRIES
#define TRIES 0
#endif
#ifndef BLOCKED
#define BLOCKED 0
#endif
#ifndef ASYNC
#define ASYNC 0
#endif
#ifndef END
#define END 0
#endif

#define ALL (TRIES + BLOCKED + ASYNC) /* 4 at most: they are 0, 1 % ALL, ALL / 2 and ALL - 1 */
#define SHARDS 2
#define is_blocked(id) (id >= TRIES && id < TRIES + BLOCKED)
#define is_async(id) (id >= TRIES + BLOCKED)
#define where(id) ((id) % SHARDS) /* the shard of who submits it */

#define LOCK(m) atomic { !m -> m = true }
#define UNLOCK(m) m = false

/* --- what is checked --- */

byte inside = 0;     /* admitted and not known to be started */
byte unfinished = 0; /* taken by a worker and not ended */
bool over[ALL];      /* it was run, dropped or refused */
byte all_over = 0;
bool saw_full[ALL];

#define is_full (inside >= LIMIT || line_n != 0)

inline note_full() {
  if
  :: is_full ->
     saw_full[0] = true;
     saw_full[1 % ALL] = true;
     saw_full[ALL / 2] = true;
     saw_full[ALL - 1] = true
  :: else
  fi
}

inline is_over(id) {
  atomic { assert(!over[id]); over[id] = true; all_over++ }
}

/* --- the scheduler --- */

bool mutex = false, shard_mutex[SHARDS];
byte in_hand[SHARDS];
byte granted = 0, withdrawn = 0;
bool lent = false; /* in one word with `granted` */
bool closed = false, exit_signal = false, has_line = false;
bool drained = false;
byte departing = 0;
byte line[ALL], line_n = 0;

#define NONE 0
#define WAITING 1
#define ADMITTED 2
#define REFUSED 3

byte now[ALL];
bool asleep[ALL], called[ALL], impatient[ALL], resting[ALL], gone[ALL]; /* of blocked submitters */
bool has_key[ALL];                                                     /* of operations */

#define EMPTY 0
#define FULL 1
#define TAKEN 2

byte cells[ALL]; /* where a submission stands */

#define stands(id) (cells[id] == FULL)

/* --- the worker's tally, and the fence --- */

byte started_ = 0; /* submission_tally::value_, as it is seen */
bool running_ = false;
bool buffered = false, buffered_start = false, buffered_running = false;

inline flush() {
  if
  :: buffered ->
     buffered = false;
     if
     :: buffered_start -> started_++; assert(inside != 0); inside--; buffered_start = false
     :: else
     fi;
     running_ = buffered_running;
     buffered_running = false
  :: else
  fi
}

/* asymmetric_fence::store() */
inline store(start, running) {
  atomic { flush(); buffered = true; buffered_start = start; buffered_running = running }
}

inline wait_for_all() {
  atomic { flush() }
}

active proctype memory() {
end_memory:
  do
  :: atomic { buffered -> flush() }
  od
}

/* --- under the mutex --- */

inline returned_credits(n) {
  n = withdrawn;
  n = n + started_
}

/* balance_of_credits(): what was granted, g, whether any were lent, and how many are taken, n. */
inline balance(g, is_lent, n) {
  do
  ::
#if BUG == 412
     returned_credits(n);
     atomic { g = granted; is_lent = lent }
#else
     atomic { g = granted; is_lent = lent }
     returned_credits(n);
#endif
     if
     :: g >= n && g - n <= LIMIT -> n = g - n; break
     :: else
     fi
  od
}

/* One more credit, if as many are granted as before. */
inline take_one(g, is_lent, ok) {
  atomic {
    if
#if BUG != 415
    :: granted != g || lent != is_lent -> ok = 0
#endif
    :: else ->
       granted++;
       inside++;
       assert(inside <= LIMIT);
       note_full();
       ok = 1
    fi
  }
}

inline call_in_credits() {
  atomic { /* the shards' locks, one after the other, in the code */
#if BUG != 405
    !shard_mutex[0] && !shard_mutex[1] ->
#endif
    if
    :: lent ->
       granted = granted - in_hand[0] - in_hand[1];
       in_hand[0] = 0;
       in_hand[1] = 0;
       lent = false
    :: else
    fi
  }
}

inline call_submitter(id) {
  assert(!gone[id]);
  called[id] = true
}

/* Under the mutex; what stands in a queue then may be taken at once. */
inline push_from_line(id) {
  atomic {
    !shard_mutex[where(id)];
    if
    :: is_async(id) -> now[id] = ADMITTED
    :: else
    fi;
    assert(!drained);
    cells[id] = FULL
  }
  if
  :: is_blocked(id) ->
#if BUG == 408
     now[id] = ADMITTED;
     if
     :: asleep[id] -> assert(!gone[id]); called[id] = true
     :: else -> assert(!gone[id])
     fi
#else
     if
     :: asleep[id] && !impatient[id] -> /* rests */
        atomic { now[id] = ADMITTED; resting[id] = true }
     :: asleep[id] -> now[id] = ADMITTED; call_submitter(id)
     :: !asleep[id] -> now[id] = ADMITTED
     fi
#endif
  :: else
  fi
}

inline pop_line(id, i) {
  d_step {
    id = line[0];
    i = 0;
    do
    :: i + 1 < line_n -> line[i] = line[i + 1]; i++
    :: else -> break
    od;
    line_n--;
    line[line_n] = 0;
    i = 0
  }
}

inline erase_from_line(id, i) {
  d_step {
    i = 0;
    do
    :: line[i] == id -> break
    :: else -> i++
    od;
    do
    :: i + 1 < line_n -> line[i] = line[i + 1]; i++
    :: else -> break
    od;
    line_n--;
    line[line_n] = 0;
    i = 0
  }
}

/* Says in n whether there was one. */
inline take_credit_for_line(n, g, is_lent) {
  do
  :: balance(g, is_lent, n);
     if
     :: n == LIMIT -> n = 0; break
     :: else ->
        take_one(g, is_lent, n);
        if
        :: n == 1 -> break
        :: else
        fi
     fi
  od;
  atomic { g = 0; is_lent = false }
}

inline admit_from_line(first, i, n, g, is_lent) {
  do
  :: line_n == 0 -> break
  :: else ->
     take_credit_for_line(n, g, is_lent);
     if
     :: n == 1 -> pop_line(first, i); push_from_line(first); first = 0
     :: else -> break
     fi
  od;
  atomic {
    n = 0;
    if
    :: line_n == 0 -> has_line = false
    :: else
    fi
  }
}

inline join_line(id, first, i, n, g, is_lent) {
#if BUG != 403
  if
  :: line_n == 0 -> call_in_credits()
  :: else
  fi;
#endif
  atomic {
    line[line_n] = id;
    line_n++;
    note_full();
    assert(in_hand[0] == 0 && in_hand[1] == 0)
  }
  if
  :: !has_line ->
     has_line = true;
#if BUG != 402
     wait_for_all()
#endif
  :: else
  fi;
#if BUG != 401
  admit_from_line(first, i, n, g, is_lent)
#endif
}

/* Takes one credit, and perhaps some for the shard; ok says whether. */
inline get_credit(s, n, g, is_lent, ok) {
  ok = 0;
  do
  :: line_n != 0 -> break
  :: else ->
     balance(g, is_lent, n);
     if
     :: n == LIMIT && is_lent ->
#if BUG == 404
        break
#else
        call_in_credits()
#endif
     :: n == LIMIT && !is_lent -> break
     :: n < LIMIT -> take_one(g, is_lent, ok)
     :: n + 1 < LIMIT ->
        atomic {
          if
          :: granted == g && lent == is_lent ->
             lent = true;
             granted = granted + LIMIT - n;
             inside++;
             assert(inside <= LIMIT);
             note_full();
             ok = 1
          :: else
          fi
        }
        if
        :: ok == 1 -> atomic { !shard_mutex[s] -> in_hand[s] = in_hand[s] + LIMIT - n - 1 }
        :: else
        fi
     fi;
     if
     :: ok == 1 -> break
     :: else
     fi
  od;
  atomic { n = 0; g = 0; is_lent = false }
}

/* complete_drains_if_done(); its look at the counts takes time */
inline complete_drains_if_done(n) {
  LOCK(mutex);
  if
  :: closed && line_n == 0 && departing == 0 ->
     returned_credits(n);
     if
     :: granted - in_hand[0] - in_hand[1] == n ->
        if
        :: !running_ ->
           assert(!stands(0) && !stands(1 % ALL) && !stands(ALL / 2) && !stands(ALL - 1));
           assert(unfinished == 0);
           drained = true
        :: else
        fi
     :: else
     fi
  :: else
  fi;
  atomic { n = 0; UNLOCK(mutex) }
}

/* After stop(): sweep(), of what stands in the queues. */
inline drop_submissions(i) {
  i = 0;
  do
  :: i < ALL ->
     if
     :: atomic { cells[i] == FULL -> cells[i] = TAKEN }
        atomic { !mutex -> withdrawn++; inside--; has_key[i] = false }
        is_over(i)
     :: cells[i] != FULL
     fi;
     i++
  :: else -> i = 0; break
  od
}

/* --- who submits --- */

/* give_credit_back(), of a submission that has been refused after all */
inline give_credit_back(first, i, n, g, is_lent) {
  atomic { !mutex -> mutex = true; withdrawn++; inside-- }
  admit_from_line(first, i, n, g, is_lent);
  UNLOCK(mutex);
  published();
  complete_drains_if_done(n)
}

/* By ok: 0 refused, 1 admitted, 2 closed. */
inline push_submission(id, waits, first, i, n, g, is_lent, ok) {
  atomic { saw_full[id] = false; note_full() }
  ok = 3; /* not known yet */
  if
  :: in_hand[where(id)] == 0 ->
     balance(g, is_lent, n);
     if
#if BUG == 413
     :: !waits && n == LIMIT && !closed -> ok = 0
#else
     :: !waits && n == LIMIT && !is_lent && !closed -> ok = 0
#endif
     :: n < LIMIT -> /* take_single_credit() */
        if
        :: !has_line ->
           take_one(g, is_lent, ok);
           if
#if BUG != 414
           :: ok == 1 && closed -> ok = 3; give_credit_back(first, i, n, g, is_lent)
#endif
           :: ok == 0 -> ok = 3
           :: else
           fi
        :: true
        fi
     :: else
     fi;
     atomic { n = 0; g = 0; is_lent = false }
  :: else
  fi;
  if
  :: ok == 1 -> LOCK(shard_mutex[where(id)])
  :: ok == 3 ->
     LOCK(shard_mutex[where(id)]);
     n = in_hand[where(id)];
     if
     :: n != 0 ->
        atomic {
          in_hand[where(id)] = n - 1;
          inside++;
          assert(inside <= LIMIT);
          note_full();
          ok = 1;
          n = 0
        }
     :: else ->
        UNLOCK(shard_mutex[where(id)]);
        LOCK(mutex);
        if
        :: closed -> ok = 2
        :: else -> get_credit(where(id), n, g, is_lent, ok)
        fi;
        UNLOCK(mutex);
        if
        :: ok == 1 -> LOCK(shard_mutex[where(id)])
        :: else
        fi
     fi
  :: else
  fi;
  if
  :: ok == 1 ->
     atomic { assert(!drained); cells[id] = FULL; UNLOCK(shard_mutex[where(id)]) }
     published()
  :: else
  fi
}

inline published() {
  if
#if BUG != 410
  :: exit_signal -> /* drop_late_submissions() */
     LOCK(mutex);
     UNLOCK(mutex);
     drop_submissions(i);
     complete_drains_if_done(n)
#endif
  :: else
  fi
}

proctype try_submit(byte id) {
  byte n = 0, ok = 0, i = 0, first = 0, g = 0;
  bool is_lent = false;
  push_submission(id, false, first, i, n, g, is_lent, ok);
  if
  :: ok == 0 -> assert(saw_full[id]); is_over(id)
  :: ok == 2 -> is_over(id)
  :: else
  fi
}

proctype submit(byte id) {
  byte n = 0, ok = 0, i = 0, first = 0, g = 0;
  bool is_lent = false;
  push_submission(id, true, first, i, n, g, is_lent, ok);
  if
  :: ok == 1 -> goto done
  :: ok == 2 -> is_over(id); goto done
  :: ok == 0
  fi;
  LOCK(mutex); /* stand_in_line() */
  if
  :: closed -> now[id] = REFUSED
  :: else -> now[id] = WAITING; join_line(id, first, i, n, g, is_lent)
  fi;
  UNLOCK(mutex);
  if
  :: exit_signal -> published()
  :: else
  fi;
  if
  :: now[id] != WAITING
  :: now[id] == WAITING ->
     LOCK(mutex);
     asleep[id] = (now[id] == WAITING);
     UNLOCK(mutex);
     if
     :: atomic { !mutex && (called[id] || !asleep[id]) -> skip }
     :: LOCK(mutex); /* it has taken too long */
        if
        :: called[id] || !asleep[id] -> UNLOCK(mutex)
        :: else ->
           impatient[id] = true;
           if
           :: now[id] == ADMITTED -> assert(resting[id]); resting[id] = false; UNLOCK(mutex)
           :: else -> UNLOCK(mutex); atomic { !mutex && called[id] -> skip }
           fi
        fi
     fi
  fi;
  if
  :: now[id] == REFUSED -> is_over(id)
  :: else -> assert(now[id] == ADMITTED)
  fi;
done:
  atomic { assert(!resting[id]); gone[id] = true }
}

proctype async_submit(byte id) {
  byte n = 0, i = 0, first = 0, g = 0;
  bool ended = false, is_lent = false;
  LOCK(mutex); /* enqueue() */
  has_key[id] = true;
  if
  :: closed -> has_key[id] = false; departing++; ended = true
  :: else ->
     if
     :: line_n == 0 -> /* has_room() */
        balance(g, is_lent, n);
        if
        :: n == LIMIT -> call_in_credits()
        :: else
        fi;
        take_credit_for_line(n, g, is_lent)
     :: else
     fi;
     if
     :: n == 1 -> n = 0; push_from_line(id)
     :: else -> now[id] = WAITING; join_line(id, first, i, n, g, is_lent)
     fi
  fi;
  UNLOCK(mutex);
  if
  :: ended ->
     is_over(id);
     atomic { !mutex -> departing-- }
     complete_drains_if_done(n)
  :: else -> published()
  fi
}

#ifdef CANCEL
proctype cancel(byte id) {
  byte n = 0, i = 0, first = 0, g = 0;
  bool mine = false, is_lent = false;
  LOCK(mutex); /* take() */
  if
  :: !has_key[id]
  :: else ->
     if
     :: now[id] == WAITING -> erase_from_line(id, i); mine = true
     :: else ->
        atomic {
          if
#if BUG == 406
          :: cells[id] != EMPTY -> cells[id] = TAKEN; withdrawn++; inside--; mine = true
#else
          :: cells[id] == FULL -> cells[id] = TAKEN; withdrawn++; inside--; mine = true
#endif
          :: else
          fi
        }
     fi;
     if
     :: mine ->
        has_key[id] = false;
        departing++;
#if BUG != 407
        admit_from_line(first, i, n, g, is_lent)
#endif
     :: else
     fi
  fi;
  UNLOCK(mutex);
  if
  :: mine ->
     published();
     is_over(id);
     atomic { !mutex -> departing-- }
     complete_drains_if_done(n)
  :: else
  fi
}
#endif

/* --- who runs it --- */

#define FLUSH_AND_LOCK atomic { !mutex -> mutex = true; flush() }

proctype worker() {
  byte f = 0, i = 0, n = 0, first = 0, g = 0;
  bool ends = false, is_lent = false;
end_worker:
  do
  :: exit_signal && !ends -> break
  :: ends -> /* count_end() */
     store(false, false);
     ends = false;
     if
     :: closed -> atomic { !mutex -> flush() } complete_drains_if_done(n)
     :: else
     fi
#if BLOCKED
  :: atomic { !mutex && resting[TRIES] -> resting[TRIES] = false; flush(); call_submitter(TRIES) }
  :: atomic {
       !mutex && resting[TRIES + BLOCKED - 1] ->
       resting[TRIES + BLOCKED - 1] = false;
       flush();
       call_submitter(TRIES + BLOCKED - 1)
     }
#endif
  :: atomic {
       !exit_signal && (stands(0) || stands(1 % ALL) || stands(ALL / 2) || stands(ALL - 1)) ->
       if
       :: stands(0) -> f = 0
       :: stands(1 % ALL) -> f = 1 % ALL
       :: stands(ALL / 2) -> f = ALL / 2
       :: stands(ALL - 1) -> f = ALL - 1
       fi;
#if BUG != 411
       cells[f] = TAKEN;
#endif
       unfinished++
     }
     store(true, true); /* start(), and the end of the last one */
#if BUG == 411
     if
     :: atomic { cells[f] == FULL -> cells[f] = TAKEN }
     :: cells[f] != FULL -> atomic { unfinished--; goto next }
     fi;
#endif
     if
     :: has_line -> /* let_line_move() */
        FLUSH_AND_LOCK;
        admit_from_line(first, i, n, g, is_lent);
        UNLOCK(mutex)
     :: else
     fi;
     if
     :: ends ->
        ends = false;
        if
        :: closed -> atomic { !mutex -> flush() } complete_drains_if_done(n)
        :: else
        fi
     :: else
     fi;
     if
     :: is_async(f) -> /* run_async() */
        FLUSH_AND_LOCK;
        has_key[f] = false;
        departing++;
        store(false, false);
        atomic { flush(); unfinished--; UNLOCK(mutex) }
        is_over(f);
        atomic { !mutex -> departing-- }
        if
        :: closed -> complete_drains_if_done(n)
        :: else
        fi
     :: else -> is_over(f); atomic { unfinished--; ends = true }
     fi;
#if BUG == 411
next:
#endif
     f = 0
  od
}

#if END
/* close() or stop() */
proctype ending() {
  byte id = 0, i = 0, n = 0, refused = 0;
  bool is_refused[ALL];
  LOCK(mutex);
  closed = true;
#if BUG != 409
  wait_for_all();
#endif
#if END == 2
  exit_signal = true;
#endif
  call_in_credits();
#if END == 2
  !shard_mutex[0]; /* synchronize() */
  !shard_mutex[1];
#endif
  do /* end_line() */
  :: line_n == 0 -> break
  :: else ->
     pop_line(id, i);
     if
     :: is_async(id) ->
        atomic { has_key[id] = false; departing++; refused++; is_refused[id] = true }
     :: else ->
        if
        :: asleep[id] -> now[id] = REFUSED; call_submitter(id)
        :: else -> now[id] = REFUSED
        fi
     fi
  od;
  has_line = false;
  UNLOCK(mutex);
  id = 0;
  do
  :: id < ALL ->
     if
     :: is_refused[id] -> is_over(id)
     :: else
     fi;
     id++
  :: else -> break
  od;
  atomic { !mutex -> departing = departing - refused; refused = 0 }
#if END == 2
  drop_submissions(i);
#endif
  complete_drains_if_done(n)
}
#endif

init {
  byte id = 0;
  atomic {
    run worker();
    do
    :: id < TRIES -> run try_submit(id); id++
    :: id >= TRIES && id < TRIES + BLOCKED -> run submit(id); id++
    :: id >= TRIES + BLOCKED && id < ALL ->
       run async_submit(id);
#ifdef CANCEL
       run cancel(id);
#endif
       id++
    :: id == ALL -> break
    od;
#if END
    run ending();
#endif
    id = 0
  }
  /* or else the model does not end */
  all_over == ALL && (drained || END == 0)
}
