/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The semaphore's end: it and its permits, those who are under way with its handlers, those who
 * cancel, and the contexts that shut down, in every order.
 *
 * Models        class users_of_engine, and of semaphore_core: give_back(), end_permit(),
 *               leave_owner(), wake(), complete(), destroy(), arrive(), take(),
 *               take_at_shutdown(), cancel(), resize(), end(), abandon(),
 *               on_context_shutdown(), enqueue(), self_; of operation: complete(), retire(),
 *               destroy(); shutdown_registry; the references of shared_ptr
 * Left out      free_units but for who finds it shut, see semaphore.pml; close(), which ends the
 *               waits as abandon() does; forget(), which ends a permit as give_back() does; what a
 *               handler does that is destroyed inside complete(): see class errand. A registry is
 *               asked in one step, but for the wait at its end.
 * Memory order  all is sequentially consistent
 * Checked       the engine is destroyed once, in every execution, and nobody touches it afterwards;
 *               nothing is posted to a context that has shut down, and no handler outlives its
 *               own; each wait ends once, and none for ever; nothing is granted beyond the limit,
 *               and nobody waits for what is free
 *
 * HOLD permits of one unit are held at first. Requests 0 .. WAIT-1 come, the first for HEAVIEST
 * units, the others for one; then the limit is changed, if RESIZE says so, and the semaphore is
 * destroyed. CANCEL says how many of the first may be cancelled. Request 0 has a context of its own
 * if FOREIGN says so. HOME and FOREIGN shut down at any time after the requests have come.
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds -DHOLD=2 -DWAIT=1 -DCANCEL=1 :
 *   holds -DHOLD=1 -DWAIT=2 -DCANCEL=1 :
 *   holds -DHOLD=2 -DWAIT=2 -DHEAVIEST=1 :
 *   holds -DHOLD=1 -DWAIT=2 -DRESIZE :
 *   holds -DHOLD=1 -DWAIT=2 -DRESIZE -DHOME :
 *   holds -DHOLD=1 -DWAIT=2 -DFOREIGN :
 *   holds -DHOLD=1 -DWAIT=1 -DCANCEL=1 -DHOME -DFOREIGN :
 *   bug 601 -DHOLD=2 -DWAIT=1 -DHEAVIEST=1 -DHOME : who grants departs after the lock is released
 *   bug 602 -DHOLD=1 -DWAIT=1 : the owner leaves under the lock
 *   bug 603 -DHOLD=1 -DWAIT=1 : the last permit ends the engine though somebody is under way
 *   bug 604 -DHOLD=1 -DWAIT=0 : whether permits are left is read after the lock is released
 *   bug 605 -DHOLD=1 -DWAIT=1 -DCANCEL=1 : whether there is an owner is read after the lock is released
 *   bug 606 -DHOLD=1 -DWAIT=2 -DCANCEL=1 : a cancelled head does not grant those behind it
 *   bug 607 -DHOLD=1 -DWAIT=1 -DHOME : a context does not wait for those who are under way
 *   bug 608 -DHOLD=1 -DWAIT=0 : the owner leaves though there are permits
 *   bug 609 -DHOLD=1 -DWAIT=1 -DCANCEL=1 : who ends all waits leaves them in the queue
 *   bug 610 -DHOLD=1 -DWAIT=1 -DFOREIGN : who is under way arrives before he has posted
 *   bug 611 -DHOLD=1 -DWAIT=2 -DCANCEL=1 : who cancels and grants departs once
 *   bug 612 -DHOLD=1 -DWAIT=1 -DFOREIGN : a handler's context forgets it when it is taken out, and
 *       does not ask the engine
 *   bug 613 -DHOLD=1 -DWAIT=0 : who ends the last permit does not tell anybody
 *   bug 614 -DHOLD=1 -DWAIT=1 -DHOME -DFOREIGN : who destroys a handler arrives, and then tells its
 *       context
 */

#ifndef BUG
#define BUG 0
#endif
#ifndef HOLD
#define HOLD 1
#endif
#ifndef WAIT
#define WAIT 1
#endif
#ifndef CANCEL
#define CANCEL 0
#endif
#ifndef HEAVIEST
#define HEAVIEST 2
#endif
#ifdef RESIZE
#define RESIZES true
#else
#define RESIZES false
#endif

#define LIMIT 2
#define weight_of(id) ((id) == 0 -> HEAVIEST : 1)

/* Sets of requests. They come in the order of their numbers, so the head is the lowest. */
#define set byte
#define one(id) (1 << (id))
#define first_of(s) (((s) & 1) -> 0 : (((s) & 2) -> 1 : 2))

/* --- what is checked --- */

short held = HOLD;
byte over = 0;
bool all_came = false;
#define NONE 0
#define GRANTED 1
#define ENDED 2
#define DESTROYED 3
byte result[3]; /* of each request */

/* --- the contexts --- */

#ifdef FOREIGN
#define is_foreign(id) ((id) == 0)
#else
#define is_foreign(id) false
#endif
#define context_of(id) (is_foreign(id) -> 1 : 0)
bool gone[2];
bool subscribed = false; /* request 0 with its own context */
byte departed = 0;       /* of that context's registry */

/* --- the engine --- */

bool freed = false;
byte references = 2; /* the semaphore's and self */
bool self = true;
byte users = 1; /* the owner, and 2 for each departure */

bool mutex = false;
bool shut = false;
short free = LIMIT - HOLD; /* unless it is shut */
short in_use = 0;          /* while it is shut */
byte permits = HOLD;       /* in the word, or beside it */
byte limit = LIMIT;
bool ended = false; /* abandoned or shut down */
bool ownerless = false;
set waiting = 0;

#define fits(weight) (limit > 0 && in_use <= limit && (weight) <= limit - in_use)

#define touch() assert(!freed)

inline lock() {
  do
  :: atomic { freed -> assert(false) }
  :: atomic { !freed && !mutex -> mutex = true; break }
  od;
  atomic {
    touch();
    if
    :: !shut -> shut = true; in_use = limit - free; free = 0
    :: else
    fi
  }
}

inline unlock() {
  atomic {
    touch();
    assert(ended || waiting == 0 || !fits(weight_of(first_of(waiting))));
    if
    :: waiting == 0 && !ended && limit > 0 && in_use <= limit ->
       shut = false; free = limit - in_use; in_use = 0
    :: else
    fi
  }
  atomic { touch(); mutex = false }
}

inline drop_reference() {
  atomic {
    assert(references > 0);
    references--;
    if
    :: references == 0 -> touch(); assert(!mutex && permits == 0 && users == 0); freed = true
    :: else
    fi
  }
}

inline drop_self() {
  atomic { touch(); assert(self); self = false }
  drop_reference()
}

inline arrive(last) {
  atomic { touch(); assert(users >= 2); users = users - 2; last = (users == 0) }
  if
  :: last -> drop_self()
  :: else
  fi
}

inline leave_owner(last) {
  atomic { touch(); assert(users & 1); users = users - 1; last = (users == 0) }
#if BUG == 603
  last = true;
#endif
  if
  :: last -> drop_self()
  :: else
  fi
}

#define depart() atomic { touch(); users = users + 2 }

/* operation::complete() */
inline post(id, how) {
  if
  :: is_foreign(id) -> atomic { subscribed = false; departed++ }
  :: else
  fi;
  atomic {
    assert(!gone[context_of(id)]);
    assert(result[id] == NONE);
    result[id] = how
  }
  if
  :: is_foreign(id) -> departed--
  :: else
  fi
}

inline post_all(ops, how, id) {
  do
  :: ops != 0 -> atomic { id = first_of(ops); ops = ops & ~one(id) } post(id, how)
  :: else -> id = 0; break
  od
}

inline arrive_all(last) {
  do
  :: departures != 0 -> departures--; arrive(last); last = false
  :: else -> break
  od
}

/* The two have departed each. */
inline complete(ops, granted, id, last) {
  departures = (ops != 0 -> 1 : 0) + (granted != 0 -> 1 : 0);
#if BUG == 610
  arrive_all(last);
#endif
  post_all(ops, ENDED, id);
  post_all(granted, GRANTED, id);
#if BUG != 610
  arrive_all(last);
#endif
}

/* operation::retire(), where it does anything */
inline retire(ops) {
  if
  :: (ops & 1) && is_foreign(0) ->
     atomic { subscribed = false; departed++ }
     assert(!gone[0]) /* the I/O work ends */
  :: else
  fi
}

inline destroy(ops, id, last) {
  if
  :: ops != 0 ->
#if BUG != 614
     retire(ops);
#endif
     arrive(last);
#if BUG == 614
     retire(ops);
#endif
     do
     :: ops != 0 ->
        atomic {
          id = first_of(ops);
          ops = ops & ~one(id);
          assert(!gone[context_of(id)]);
          assert(result[id] == NONE);
          result[id] = DESTROYED;
          if
          :: is_foreign(id) -> departed--
          :: else
          fi
        }
     :: else -> break
     od;
     atomic { id = 0; last = false }
  :: else
  fi
}

/* Under the lock. */
inline wake(granted, id) {
  do
  :: !ended && waiting != 0 && fits(weight_of(first_of(waiting))) ->
     atomic {
       touch();
       id = first_of(waiting);
       waiting = waiting & ~one(id);
       in_use = in_use + weight_of(id);
       permits++;
       held = held + weight_of(id);
       assert(held <= limit);
       granted = granted | one(id);
#if BUG == 612
       if
       :: is_foreign(id) -> subscribed = false
       :: else
       fi;
#endif
       id = 0
     }
  :: else -> break
  od;
#if BUG != 601
  if
  :: granted != 0 -> depart()
  :: else
  fi
#endif
}

inline depart_late(granted) {
#if BUG == 601
  if
  :: granted != 0 -> depart()
  :: else
  fi
#else
  skip
#endif
}

inline give_back(weight, ok, granted, id, last) {
  atomic {
    touch();
    held = held - (weight);
    ok = !shut;
    if
    :: ok -> free = free + (weight); permits--
    :: else
    fi
  }
  if
  :: ok
  :: else ->
     lock();
     atomic { touch(); in_use = in_use - (weight) }
     wake(granted, id);
     atomic { touch(); permits--; ok = (permits == 0 && ownerless) }
#if BUG == 602
     if
     :: ok -> atomic { touch(); users = users - 1; last = (users == 0) }
     :: else
     fi;
     unlock();
     depart_late(granted);
     complete(nothing, granted, id, last);
     if
     :: last -> drop_self()
     :: else
     fi
#else
#if BUG == 605
     ok = (permits == 0);
     unlock();
     if
     :: ok -> atomic { touch(); ok = ownerless }
     :: else
     fi;
#else
     unlock();
#endif
     depart_late(granted);
     complete(nothing, granted, id, last);
#if BUG != 613
     if
     :: ok -> leave_owner(last)
     :: else
     fi
#endif
#endif
  fi
}

/* Under the lock: all waits end. */
inline end_waits(ops) {
  atomic { touch(); ended = true; ops = waiting }
#if BUG != 609
  waiting = 0;
#endif
  if
  :: ops != 0 -> depart()
  :: else
  fi
}

/* Takes one request out of the queue. */
inline take(which, taken, granted, id) {
  lock();
  if
  :: waiting & one(which) ->
     atomic { touch(); waiting = waiting & ~one(which); taken = one(which) }
#if BUG != 611
     depart();
#endif
#if BUG != 606
     wake(granted, id)
#endif
  :: else
  fi;
  unlock();
  depart_late(granted)
}

/* A weak_ptr's lock(). */
inline refer(ok) {
  atomic {
    if
    :: references > 0 -> references++; ok = true
    :: else -> ok = false
    fi
  }
}

/* --- who uses it --- */

proctype holder() {
  bool ok = false, last = false;
  byte departures = 0;
  set nothing = 0;
  set granted = 0;
  byte id = 0;
  give_back(1, ok, granted, id, last);
  over++
}

/* What has been posted to a context ends its permit, run or destroyed with the context. */
proctype handler(byte which) {
  bool ok = false, last = false;
  byte departures = 0;
  set nothing = 0;
  set granted = 0;
  byte id = 0;
  result[which] != NONE;
  if
  :: result[which] == GRANTED -> give_back(weight_of(which), ok, granted, id, last)
  :: else
  fi;
  over++
}

proctype cancel(byte which) {
  bool ok = false, last = false;
  byte departures = 0;
  set nothing = 0;
  set taken = 0, granted = 0;
  byte id = 0;
  refer(ok);
  if
  :: ok ->
     take(which, taken, granted, id);
     complete(taken, granted, id, last);
     drop_reference()
  :: else
  fi;
  over++
}

inline resize(to, refused, granted, id, last) {
  lock();
  atomic { touch(); limit = to }
  if
  :: limit != 0 && (waiting & 1) && weight_of(0) > limit ->
     atomic { touch(); waiting = waiting & ~1; refused = 1 }
     depart()
  :: else
  fi;
  wake(granted, id);
  unlock();
  depart_late(granted);
  complete(refused, granted, id, last)
}

proctype semaphore() {
  bool last = false, was_last = false;
  byte departures = 0;
  set nothing = 0;
  set ops = 0, granted = 0;
  byte id = 0, i = 0;
  do
  :: i < WAIT -> /* enqueue() */
     atomic {
       if
       :: is_foreign(i) -> subscribed = true
       :: else
       fi
     }
     lock();
     atomic {
       touch();
       if
       :: weight_of(i) > limit -> result[i] = ENDED; subscribed = false
       :: weight_of(i) <= limit && waiting == 0 && fits(weight_of(i)) ->
          in_use = in_use + weight_of(i);
          permits++;
          held = held + weight_of(i);
          assert(held <= limit);
          result[i] = GRANTED;
          if
          :: is_foreign(i) -> subscribed = false
          :: else
          fi
       :: else -> waiting = waiting | one(i)
       fi;
       i++
     }
     unlock()
  :: else -> break
  od;
  atomic { i = 0; all_came = true }
  if
  :: RESIZES ->
     resize(0, ops, granted, id, last);
     resize(1, ops, granted, id, last);
     resize(LIMIT, ops, granted, id, last)
  :: else
  fi;
  lock(); /* abandon() */
  end_waits(ops);
  atomic { touch(); ownerless = true; was_last = (permits == 0) }
#if BUG == 608
  was_last = true;
#endif
  unlock();
#if BUG == 604
  atomic { touch(); was_last = (permits == 0) }
#endif
  complete(ops, nothing, id, last);
  if
  :: was_last -> leave_owner(last)
  :: else
  fi;
  drop_reference();
  over++
}

inline wait_for_arrivals() {
  do
  :: atomic { freed -> assert(false) }
  :: atomic { !freed && users < 2 -> break }
  od
}

proctype home() {
  bool ok = false, last = false;
  byte departures = 0;
  set nothing = 0;
  set ops = 0;
  byte id = 0;
  all_came;
  refer(ok);
  if
  :: ok ->
     do
     :: lock(); /* take_at_shutdown() */
        atomic {
          touch();
          ended = true;
          if
          :: waiting != 0 -> ops = one(first_of(waiting)); waiting = waiting & ~ops
          :: else
          fi
        }
        if
        :: ops != 0 -> depart()
        :: else
        fi;
        unlock();
        if
        :: ops == 0 -> break
        :: else
        fi;
        destroy(ops, id, last)
     od;
#if BUG != 607
     wait_for_arrivals();
#endif
     drop_reference()
  :: else
  fi;
  atomic { gone[0] = true; over++ }
}

proctype foreign() {
  bool ok = false, last = false;
  byte departures = 0;
  set nothing = 0;
  set taken = 0, granted = 0;
  byte id = 0;
  all_came;
  atomic { /* the registry */
    if
    :: subscribed ->
       subscribed = false;
       refer(ok)
    :: else
    fi
  }
  if
  :: ok ->
     take(0, taken, granted, id);
     complete(nothing, granted, id, last);
     destroy(taken, id, last);
     wait_for_arrivals();
     drop_reference()
  :: else
  fi;
  departed == 0;
  atomic { gone[1] = true; over++ }
}

#ifdef HOME
#define HOMES 1
#else
#define HOMES 0
#endif
#ifdef FOREIGN
#define FOREIGNS 1
#else
#define FOREIGNS 0
#endif

init {
  byte id = 0;
  atomic {
    run semaphore();
    do
    :: id < HOLD -> run holder(); id++
    :: else -> break
    od;
    id = 0;
    do
    :: id < WAIT -> run handler(id); id++
    :: else -> break
    od;
    id = 0;
    do
    :: id < CANCEL -> run cancel(id); id++
    :: else -> break
    od;
    id = 0;
#ifdef HOME
    run home();
#endif
#ifdef FOREIGN
    run foreign()
#endif
  }
  /* or else the model does not end */
  over == 1 + HOLD + WAIT + CANCEL + HOMES + FOREIGNS;
  assert(freed && references == 0 && users == 0 && held == 0 && in_use == 0);
  assert(departed == 0)
}
