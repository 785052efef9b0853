/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The semaphore: grant against cancel against resize, and the units that are taken without a mutex
 * against those who wait.
 *
 * Models        class free_units, and of semaphore_core: acquire_now(), try_acquire(), enqueue(),
 *               give_back(), cancel(), resize(), wake(), shut_units(), open_units()
 * Left out      max_waiters, close(), forgotten units; the number of permits, which changes in the
 *               same steps as the units; how it all ends, and who is under way then: see
 *               semaphore_end.pml. That handlers are completed after the mutex is left: what they do
 *               is a step of their own anyhow.
 * Memory order  the units are one word, which is read and changed in one step; the rest is under the
 *               mutex
 * Checked       nothing is granted that does not fit, or past somebody who waits; nobody waits at
 *               the head for what is free; each request ends once, and none waits for ever; what has
 *               been taken is there again at the end
 *
 * Requests 0 .. ACQUIRE-1 wait, the first for HEAVIEST units, the others for one; TRY more only
 * try. CANCEL says how many of the first may be cancelled. RESIZE changes the limit to 0 and back, or, if it is
 * 2, to a half, up and back. All of that comes at any time.
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds -DACQUIRE=3 -DCANCEL=1 :
 *   holds -DACQUIRE=3 -DTRY=1 -DCANCEL=1 :
 *   holds -DACQUIRE=2 -DTRY=1 -DCANCEL=2 -DRESIZE=1 :
 *   holds -DACQUIRE=3 -DCANCEL=1 -DRESIZE=2 :
 *   holds -DACQUIRE=3 -DTRY=1 -DHEAVIEST=1 -DRESIZE=2 :
 *   bug 501 -DACQUIRE=3 -DCANCEL=1 : a cancelled head does not grant those behind it
 *   bug 502 -DACQUIRE=3 -DRESIZE=2 : resize() grants the difference
 *   bug 503 -DACQUIRE=2 : who waits does not shut the units
 *   bug 504 -DACQUIRE=3 : what was free is read before the units are shut
 *   bug 505 -DACQUIRE=3 -DTRY=1 : the units are opened while somebody waits
 *   bug 506 -DACQUIRE=3 -DCANCEL=1 : who has been granted is cancelled all the same
 *   bug 507 -DACQUIRE=2 -DTRY=1 -DRESIZE=2 : the units are opened below what is in use
 *   bug 508 -DACQUIRE=2 : whether there is room is not asked again by who joins the queue
 */

#ifndef BUG
#define BUG 0
#endif
#ifndef ACQUIRE
#define ACQUIRE 2
#endif
#ifndef TRY
#define TRY 0
#endif
#ifndef CANCEL
#define CANCEL 0
#endif
#ifndef RESIZE
#define RESIZE 0
#endif
#ifndef HEAVIEST
#define HEAVIEST 2
#endif

#define LIMIT 2
#define ALL (ACQUIRE + TRY)
#define weight_of(id) ((id) == 0 -> HEAVIEST : 1)

#define LOCK(m) atomic { !m -> m = true }
#define UNLOCK(m) m = false

/* --- what is checked --- */

short held = 0;
byte over = 0;
#define NONE 0
#define GRANTED 1
#define REFUSED 2
byte result[ALL]; /* of each request */

/* --- the semaphore --- */

bool mutex = false;
bool shut = false;
short free = LIMIT; /* unless it is shut */
byte limit = LIMIT;
short in_use = 0; /* while it is shut */
byte queue[ALL], waiting = 0;

#define fits(weight) (limit > 0 && in_use <= limit && (weight) <= limit - in_use)

inline granted(id) {
  assert(result[id] == NONE);
  result[id] = GRANTED;
  held = held + weight_of(id);
  assert(held <= limit)
}

inline refused(id) {
  assert(result[id] == NONE);
  result[id] = REFUSED
}

/* free_units::take() */
inline take(id, ok) {
  atomic {
    ok = (!shut && weight_of(id) <= free);
    if
    :: ok ->
       assert(waiting == 0);
       free = free - weight_of(id);
       granted(id)
    :: else
    fi
  }
}

inline shut_units(seen) {
#if BUG == 504
  seen = free;
  atomic {
    if
    :: !shut -> in_use = limit - seen; shut = true
    :: else
    fi
  }
#else
  atomic {
    if
    :: !shut -> in_use = limit - free; shut = true
    :: else
    fi
  }
#endif
}

inline open_units() {
  assert(waiting == 0 || !fits(weight_of(queue[0])));
  if
#if BUG == 505
  :: limit > 0 && in_use <= limit
#elif BUG == 507
  :: waiting == 0 && limit > 0
#else
  :: waiting == 0 && limit > 0 && in_use <= limit
#endif
     -> atomic { shut = false; free = (limit - in_use) & 255 } /* unsigned */
  :: else
  fi
}

inline erase(i, n) { /* the i-th of the queue */
  d_step {
    n = i;
    do
    :: n + 1 < waiting -> queue[n] = queue[n + 1]; n++
    :: else -> break
    od;
    waiting--;
    queue[waiting] = 0;
    n = 0
  }
}

inline wake(head, n) {
  do
  :: waiting != 0 && fits(weight_of(queue[0])) ->
     head = queue[0];
     erase(0, n);
     atomic { in_use = in_use + weight_of(head); granted(head); head = 0 }
  :: else -> break
  od
}

/* --- who uses it --- */

/* A first look without the mutex, a second with it. */
inline acquire_now(id, seen, ok) {
  take(id, ok);
  if
  :: ok
  :: else ->
     LOCK(mutex);
     shut_units(seen);
     decide(id, ok);
     open_units();
     UNLOCK(mutex)
  fi
}

/* Under the mutex. */
inline decide(id, ok) {
  atomic {
    ok = true;
    if
    :: limit > 0 && weight_of(id) > limit -> refused(id)
    :: waiting == 0 && fits(weight_of(id)) -> in_use = in_use + weight_of(id); granted(id)
    :: else -> ok = false
    fi
  }
}

inline give_back(id, seen, head, n, ok) {
  atomic {
    held = held - weight_of(id);
    ok = !shut;
    if
    :: ok -> free = free + weight_of(id)
    :: else
    fi
  }
  if
  :: ok
  :: else ->
     LOCK(mutex);
     shut_units(seen);
     in_use = in_use - weight_of(id);
     wake(head, n);
     open_units();
     UNLOCK(mutex)
  fi
}

proctype acquire(byte id) {
  bool ok = false;
  byte head = 0, n = 0;
  short seen = 0;
  acquire_now(id, seen, ok);
  if
  :: ok
  :: else ->
     LOCK(mutex); /* enqueue() */
#if BUG != 503
     shut_units(seen);
#endif
#if BUG == 508
     ok = false;
#else
     decide(id, ok);
#endif
     if
     :: ok
     :: else -> queue[waiting] = id; waiting++
     fi;
     open_units();
     UNLOCK(mutex)
  fi;
  ok = false;
  seen = 0;
  result[id] != NONE;
  if
  :: result[id] == GRANTED -> give_back(id, seen, head, n, ok)
  :: else
  fi;
  over++
}

proctype try(byte id) {
  bool ok = false;
  byte head = 0, n = 0;
  short seen = 0;
  acquire_now(id, seen, ok);
  if
  :: result[id] == GRANTED -> give_back(id, seen, head, n, ok)
  :: else
  fi;
  over++
}

proctype cancel(byte id) {
  byte i = 0, head = 0, n = 0;
  short seen = 0;
  LOCK(mutex);
  shut_units(seen);
  do
  :: i < waiting && queue[i] != id -> i++
  :: else -> break
  od;
#if BUG == 506
  if
  :: result[id] == GRANTED -> refused(id)
  :: else
  fi;
#endif
  if
  :: i < waiting ->
     erase(i, n);
     refused(id);
#if BUG != 501
     wake(head, n)
#endif
  :: else
  fi;
  open_units();
  atomic { UNLOCK(mutex); over++ }
}

inline resize(to, i, seen, head, n) {
  LOCK(mutex);
  shut_units(seen);
#if BUG == 502
  in_use = (to > limit -> in_use - (to - limit) : in_use); /* as if they had been given back */
  if
  :: in_use < 0 -> in_use = 0
  :: else
  fi;
#endif
  limit = to;
  i = 0;
  do
  :: limit != 0 && i < waiting && weight_of(queue[i]) > limit ->
     head = queue[i];
     erase(i, n);
     refused(head)
  :: i < waiting && !(limit != 0 && weight_of(queue[i]) > limit) -> i++
  :: i >= waiting -> break
  od;
  atomic { i = 0; head = 0 }
  wake(head, n);
  open_units();
  UNLOCK(mutex)
}

proctype resizing() {
  byte i = 0, head = 0, n = 0;
  short seen = 0;
#if RESIZE == 1
  resize(0, i, seen, head, n);
#else
  resize(1, i, seen, head, n);
  resize(3, i, seen, head, n);
#endif
  resize(LIMIT, i, seen, head, n);
  over++
}

init {
  byte id = 0;
  atomic {
    do
    :: id < ACQUIRE -> run acquire(id); id++
    :: id >= ACQUIRE && id < ALL -> run try(id); id++
    :: else -> break
    od;
    id = 0;
    do
    :: id < CANCEL -> run cancel(id); id++
    :: else -> break
    od;
    id = 0;
#if RESIZE
    run resizing()
#endif
  }
  /* or else the model does not end */
  over == ALL + CANCEL + (RESIZE != 0) && !mutex;
  assert(held == 0 && waiting == 0 && limit == LIMIT);
  assert((shut -> in_use == 0 : free == LIMIT))
}
