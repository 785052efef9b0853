/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
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
    i = 0
  }
  do
  :: i < EVENTS -> atomic { post(event, 0); i++ }
  :: else -> break
  od;
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
