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
 *               interrupt_reactor(), ends_watch(), the reactor in poll() and sleep_at_reactor(), what
 *               is left alone, and all that workers.pml names. Function 0 runs already and posts
 *               FROM_INSIDE others; EVENTS handlers come from the reactor. With OWNERS=2, functions 0
 *               and 1 run already, and each posts half of them. With OTHERS, handlers of others run at
 *               the reactor as well, without end, and do not keep who runs them.
 * Left out      see workers.pml; how long a period is; that a watch ends after eight periods and not
 *               after two; that four functions are few, and not just one
 * Checked       every execution ends with all functions and handlers running at once: none is left
 *               to a worker that is busy while another one sleeps. Where it says fairly: it does end,
 *               so nobody leaves alone for ever what its owner never gets back to
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds :
 *   holds -DEVENTS=1 -DFROM_INSIDE=0 :
 *   holds -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 :
 *   holds -DEVENTS=2 -DWORKERS=3 -DAWAKE=0 -DFROM_INSIDE=0 :
 *   holds -DFROM_INSIDE=2 -DANSWERS -DWORKERS=3 -DAWAKE=1 :
 *   holds -DFROM_INSIDE=2 -DWORKERS=3 -DAWAKE=1 :
 *   holds -DFROM_OUTSIDE=2 -DWORKERS=3 -DAWAKE=1 :
 *   holds -DOWNERS=2 -DFROM_OUTSIDE=2 -DFROM_INSIDE=2 -DWORKERS=3 -DAWAKE=2 -DSHORT :
 *   holds fairly :
 *   holds -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 fairly :
 *   holds -DFROM_INSIDE=2 -DWORKERS=3 -DAWAKE=1 fairly :
 *   holds -DWORKERS=3 -DAWAKE=2 -DCOARSE fairly :
 *   holds -DOWNERS=2 -DFROM_OUTSIDE=2 -DFROM_INSIDE=2 -DWORKERS=3 -DAWAKE=2 -DSHORT -DCOARSE fairly :
 *   holds -DOTHERS fairly :
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
 *   bug 208 : who leaves something alone lies down and does not see to a watch
 *   bug 209 fairly : naps are not counted, so the watcher leaves the same thing alone again
 *   bug 210 -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 :
 *       the look after the end of a watch leaves something alone, and nobody watches
 *   bug 211 -DOWNERS=2 -DFROM_OUTSIDE=2 -DFROM_INSIDE=2 -DWORKERS=3 -DAWAKE=2 -DSHORT -DCOARSE fairly :
 *       who searches remembers one thing that was left alone, and not one for each owner
 *   bug 212 -DFROM_OUTSIDE=2 -DWORKERS=3 -DAWAKE=1 :
 *       who looks for others after a search leaves something alone, and asks nobody to watch
 *   bug 213 -DEVENTS=1 -DWORKERS=3 -DAWAKE=1 fairly :
 *       who leaves something alone does not say so, and a watch ends again and again without a nap
 *   bug 214 -DWORKERS=3 -DAWAKE=2 -DCOARSE fairly :
 *       who looks for others leaves nothing alone, so two free workers call each other for what both
 *       leave alone, and no nap ends
 *   bug 215 -DOTHERS fairly : a watcher that handlers of others wake again and again does not look
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

#ifdef OTHERS
proctype others() {
  do
  :: atomic { started < ALL && empty(io) -> io!of_others, 0 }
  :: started >= ALL -> break
  od
}
#endif

init {
  byte i = 0;
#if FROM_OUTSIDE > 1 || !FROM_INSIDE
  byte s = 0;
#endif
  atomic {
#if FROM_INSIDE
    do
    :: i < OWNERS -> /* worker i runs function i already */
       cells[i] = FULL;
       claimed_begin[i] = i;
       claimed_end[i] = i + 1;
       local_next[i] = local_begin(i);
       i++
    :: else -> break
    od;
    i = 0;
    shard_next = OWNERS;
    shard_used = OWNERS;
#endif
    fall_asleep(i);
    do
    :: i < WORKERS -> run worker(i); i++
    :: else -> break
    od;
#if EVENTS
    run device(EVENTS);
#endif
#ifdef OTHERS
    run others();
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
