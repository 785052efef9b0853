/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The watch: what is put off because a wake-up costs so much is not forgotten.
 *
 * Models        scheduler::published_inside() below the limit of a batch, ask_for_watch(),
 *               interrupt_reactor(), ends_watch(), the reactor in poll() and sleep_at_reactor(), and
 *               all that workers.pml names. Function 0 runs already and posts FROM_INSIDE others;
 *               EVENTS handlers come from the reactor.
 * Left out      see workers.pml; how long a period is; that a watch ends after eight periods and not
 *               after two
 * Checked       every execution ends with all functions and handlers running at once: none is left
 *               to a worker that is busy while another one sleeps
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds :
 *   holds -DEVENTS=1 -DFROM_INSIDE=0 :
 *   holds -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 :
 *   holds -DEVENTS=2 -DWORKERS=3 -DAWAKE=0 -DFROM_INSIDE=0 :
 *   holds -DFROM_INSIDE=2 -DANSWERS -DWORKERS=3 -DAWAKE=1 :
 *   bug 107 -DEVENTS=1 -DFROM_INSIDE=0 : a call is taken back, and nobody looks
 *   bug 109 -DEVENTS=1 -DFROM_INSIDE=0 : a worker polls while it counts as searching
 *   bug 201 : the watcher does not look
 *   bug 202 -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 : nobody looks after the end of a watch
 *   bug 203 -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 : a watcher gets up and is still said to watch
 *   bug 204 -DEVENTS=1 -DFROM_INSIDE=0 : the reactor is left and nobody watches
 *   bug 205 -DEVENTS=1 -DWORKERS=3 -DAWAKE=2 -DPOLLING -DCOARSE breadth-first :
 *       an interruption of the watcher at the reactor that another worker runs is lost
 *   bug 206 -DEVENTS=2 -DWORKERS=3 -DAWAKE=0 -DFROM_INSIDE=0 :
 *       a watcher that is called has no successor, though nobody sits at the reactor
 *   bug 207 : who posts asks for a watch and then publishes
 */

#define WATCH
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef FROM_OUTSIDE
#define FROM_OUTSIDE 1
#endif
#ifndef FROM_INSIDE
#define FROM_INSIDE 1
#endif
#ifndef EVENTS
#define EVENTS 0
#endif
#define IO_CAPACITY 4

#include "workers.pml"

/* I/O completes, at any time. */
proctype device(byte n) {
  do
  :: n == 0 -> break
  :: else -> atomic { post(event, 0); n-- }
  od
}

init {
  byte i = 0;
#if FROM_OUTSIDE > 1 || !FROM_INSIDE
  byte s = 0;
#endif
  atomic {
#if FROM_INSIDE
    cells[0] = FULL; /* worker 0 runs function 0 already */
    shard_next = 1;
    shard_used = 1;
    claimed_end[0] = 1;
#endif
    fall_asleep(i);
    do
    :: i < WORKERS -> run worker(i); i++
    :: else -> break
    od;
#if EVENTS
    run device(EVENTS);
#endif
    i = 0
  }
#if FROM_OUTSIDE > 1 || !FROM_INSIDE
  do
  :: shard_used < FROM_OUTSIDE ->
     atomic { !shard_mutex -> cells[shard_used] = FULL; shard_used++ }
     if
     :: wants_hands -> get_hands(s, i); wake(call, s)
     :: else
     fi
  :: else -> break
  od;
#endif
  started >= ALL /* or else the model does not end */
}
