/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * Parking: no function waits while a worker that could have it sleeps.
 *
 * Models        producers against workers: scheduler::push(), published(), get_hands(), grow(),
 *               expire(), and all that workers.pml names. ELASTIC is a pool with min_threads of 1.
 * Left out      see workers.pml; and the watch, so there are I/O events only where a pool may grow
 * Checked       every execution ends with all functions running at once: no worker sleeps, and a
 *               pool that may grow has grown, while a function waits
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds :
 *   holds -DELASTIC :
 *   holds -DELASTIC -DEVENTS=1 -DFROM_OUTSIDE=1 -DPRODUCERS=1 :
 *   bug 101 : nobody looks after the end of a search
 *   bug 102 : a worker looks for work and then lies down
 *   bug 103 : a producer reads the word and then publishes
 *   bug 104 : a worker that has found work runs it while it still counts as searching
 *   bug 105 : a shard is looked at without waiting for who has its lock
 *   bug 106 : a call for the worker at the reactor that another one runs is lost
 *   bug 108 : who is called at the reactor counts as searching at once, and may run a handler
 *   bug 110 : who is called does not know that it counts as searching
 *   bug 112 -DELASTIC -DEVENTS=1 -DFROM_OUTSIDE=1 -DPRODUCERS=1 :
 *       who is called at the reactor and runs a handler instead does not look
 *   bug 113 -DELASTIC : an expiring worker leaves the list before the pool may grow
 *   bug 114 -DELASTIC : where the worker to be called has got up meanwhile, the pool does not grow
 *   bug 115 -DELASTIC -DEVENTS=1 -DFROM_OUTSIDE=1 -DPRODUCERS=1 :
 *       who gets up for a function that it has seen polls first, and nobody searches
 */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef FROM_OUTSIDE
#define FROM_OUTSIDE 2
#endif
#define FROM_INSIDE 0
#ifndef EVENTS
#define EVENTS 0
#endif
#define IO_CAPACITY 4

#include "workers.pml"

/* push() into a shard, then published(). */
proctype producer(bool plain; byte n) {
  bool wants = false;
  byte c = 0, s = 0, i = 0;
  do
  :: n == 0 -> break
  :: else ->
     n--;
#if BUG == 103 /* reads the word, then publishes */
     atomic { !shard_mutex -> c = shard_used; shard_used++ } /* reserve() */
     wants = wants_hands;
     cells[c] = FULL;
#else
     if
     :: plain -> /* publish_under_lock(), which is seen before the word is read */
        atomic { !shard_mutex -> c = shard_used; shard_used++; cells[c] = FULL }
        wants = wants_hands
     :: plain -> /* or afterwards, and so is the end of the lock */
        atomic { !shard_mutex -> shard_mutex = true; c = shard_used; shard_used++ }
        wants = wants_hands;
        atomic { cells[c] = FULL; shard_mutex = false }
     :: !plain ->
        atomic { !shard_mutex -> c = shard_used; shard_used++ }
        cells[c] = FULL; /* publish() */
        wants = wants_hands
     fi;
#endif
     c = 0;
     if
     :: wants -> wants = false; get_hands(s, i); wake(call, s)
     :: else
     fi
  od
}

/* I/O completes, at any time. */
proctype device(byte n) {
  do
  :: n == 0 -> break
  :: else -> atomic { post(event, 0); n-- }
  od
}

init {
  byte i = 0;
  atomic {
#ifdef ELASTIC
    born[0] = true;
    live = 1;
    searching = 1;
#endif
    do
    :: i < WORKERS -> run worker(i); i++
    :: else -> break
    od;
#if PRODUCERS == 1
    run producer(true, FROM_OUTSIDE);
#else
    run producer(true, FROM_OUTSIDE - 1);
    run producer(false, 1);
#endif
#if EVENTS
    run device(EVENTS);
#endif
    i = 0
  }
  started >= ALL /* or else the model does not end */
}
