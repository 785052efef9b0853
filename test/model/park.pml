/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
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
    i = 0
  }
  do
  :: i < EVENTS -> atomic { post(event, 0); i++ }
  :: else -> break
  od;
  started >= ALL /* or else the model does not end */
}
