/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The workers of a stateful_pool: no submission waits for a worker without a state while another one
 * could have it.
 *
 * Models        is_kept(), may_start(), call_warm_one(), state_is_gone() and stand_back() of
 *               impl/scheduler_states.ipp, and start_range(), rob(), any_work() and share_work() as far
 *               as they heed who has a state. The first WARM workers have one; with SPOILS, worker 0 has
 *               claimed all functions, and loses its state by the first of them. A factory succeeds,
 *               or fails (FAILS times in all), or lasts until all other functions have been started
 *               (LASTS times), or all, if WARM workers can run them
 * Left out      what park.pml and watch.pml check: the reactor, the watch, the locks of the queues,
 *               the order of the sleepers but for warmth; signals, births and expiry; the end of a
 *               back-off, but where all stand back
 * Checked       every execution ends with all functions started; and all but submissions that fail
 *               run until all have been started, but with SHORT
 *
 * test/model/run reads what follows: what holds, and the seeded bugs, each of which must be found.
 *
 *   holds -DWORKERS=2 -DWARM=1 -DFUNCTIONS=1 -DLASTS=1 -DFAILS=1 :
 *   holds -DWARM=1 -DFUNCTIONS=1 -DLASTS=2 -DFAILS=1 -DCOARSE :
 *   holds -DWARM=2 -DFUNCTIONS=2 -DLASTS=1 -DFAILS=1 -DCOARSE :
 *   holds -DWARM=0 -DAWAKE=0 -DFUNCTIONS=2 -DLASTS=1 -DFAILS=1 -DCOARSE -DSHORT :
 *   holds -DWORKERS=2 -DWARM=0 -DFUNCTIONS=2 -DFAILS=2 -DSHORT :
 *   holds -DWORKERS=2 -DWARM=1 -DFUNCTIONS=3 -DSPOILS -DCONTINUATION=1 :
 *   holds -DWORKERS=2 -DWARM=1 -DFUNCTIONS=3 -DSPOILS :
 *   bug 301 -DWARM=0 -DAWAKE=0 -DFUNCTIONS=2 -DLASTS=1 -DFAILS=1 -DCOARSE -DSHORT :
 *       who stands back does not share
 *   bug 302 -DWORKERS=2 -DWARM=1 -DFUNCTIONS=3 -DSPOILS :
 *       who has made its state does not share the rest, of which the first was taken for kept
 *   bug 303 -DWORKERS=2 -DWARM=1 -DFUNCTIONS=3 -DSPOILS -DCONTINUATION=1 :
 *       what stands first is kept as long as there is no state, also behind what needs none
 *   bug 304 -DWARM=1 -DFUNCTIONS=1 -DLASTS=1 -DCOARSE :
 *       for what is kept, a warm worker is called only if nobody searches
 *   bug 305 -DWORKERS=2 -DWARM=1 -DFUNCTIONS=1 -DLASTS=1 :
 *       also who has a state does not see what is kept
 *   bug 306 -DWORKERS=2 -DWARM=1 -DFUNCTIONS=1 -DLASTS=1 :
 *       one is called for what is kept before it is claimed
 *   bug 307 -DWARM=2 -DFUNCTIONS=2 -DLASTS=1 -DCOARSE :
 *       who has a state and finds something else calls no other one for what is kept
 */

#ifndef WORKERS
#define WORKERS 3
#endif
#ifndef AWAKE /* how many do not sleep when the model begins */
#define AWAKE WORKERS
#endif
#ifndef LASTS
#define LASTS 0
#endif
#ifndef FAILS
#define FAILS 0
#endif
#ifndef CONTINUATION
#define CONTINUATION 99 /* which function is one */
#endif
#ifndef BUG
#define BUG 0
#endif

#ifdef COARSE /* joins steps, for larger configurations */
#define STEP atomic
#else
#define STEP
#endif

#define NOBODY WORKERS

#define EMPTY 0
#define FULL 1
#define TAKEN 2

byte cells[FUNCTIONS], next_claimed = 0, started = 0;
byte begin[WORKERS], end[WORKERS]; /* claims */
bool keeps_first[WORKERS];

byte sleeping = 0, searching = 0;
bool listed[WORKERS], cold[WORKERS]; /* under the mutex: what is done in one step */
bool needs_state[WORKERS], gone[WORKERS];
byte failures = 0, lasting = 0, stand_back_n = 0;

#define wants_call (sleeping != 0 && searching == 0)
#define all_started (started == FUNCTIONS)
#define can_end (WARM >= FUNCTIONS -> all_started : started >= FUNCTIONS - 1) /* a factory that lasts */
#define at(i) cells[(i < FUNCTIONS -> i : 0)]
#define is_full(i, e) (i < e && at(i) == FULL)

#if BUG == 305
#define is_kept(v, looker) (keeps_first[v])
#elif BUG == 303
#define is_kept(v, looker) ((keeps_first[v] || gone[v]) && !(looker != NOBODY && !needs_state[looker]))
#else
#define is_kept(v, looker) (keeps_first[v] && !(looker != NOBODY && !needs_state[looker]))
#endif
#define sees(b, e) (is_full(b, e) || is_full(b + 1, e) || is_full(b + 2, e))

/* any_work(): whether the first is kept is read before the claim, and after it */
inline any_work(self, looker) {
  STEP {
    r = (next_claimed < FUNCTIONS && cells[next_claimed] == FULL);
    v = 0;
    do
    :: atomic { !r && v < WORKERS -> kept = (v == self || is_kept(v, looker)) };
       atomic { b = begin[v]; e = end[v] };
       atomic { b = b + (kept || is_kept(v, looker)); r = sees(b, e); b = 0; e = 0; v++ }
    :: atomic { else -> v = 0; kept = false }; break
    od
  }
}

/* Under the mutex: parking::call() */
inline call(s) {
  listed[s] = false;
  sleeping--;
  searching++
}

#define is_callable(s) (s < WORKERS && listed[(s < WORKERS -> s : 0)])

/* call_somebody(): parking::next(), and call() */
inline call_somebody() {
  atomic {
    if
    :: wants_call && listed[0] && !cold[0] -> call(0)
    :: wants_call && listed[1] && !cold[1] -> call(1)
    :: wants_call && listed[WORKERS - 1] && !cold[WORKERS - 1] -> call(WORKERS - 1)
    :: else ->
       if
       :: wants_call && listed[0] -> call(0)
       :: wants_call && listed[1] -> call(1)
       :: wants_call && listed[WORKERS - 1] -> call(WORKERS - 1)
       :: else
       fi
    fi
  }
}

inline call_warm_one() {
#if BUG == 304
  call_somebody()
#else
  atomic {
    if
    :: listed[0] && !cold[0] -> call(0)
    :: listed[1] && !cold[1] -> call(1)
    :: listed[WORKERS - 1] && !cold[WORKERS - 1] -> call(WORKERS - 1)
    :: else
    fi
  }
#endif
}

inline share_work(self) {
  STEP {
    if
    :: wants_call ->
       any_work(self, NOBODY);
       if
       :: r -> r = false; call_somebody()
       :: else
       fi
    :: else
    fi
  }
}

#if WORKERS == 3
#define is_last_hope_gone (cold[0] && cold[1] && cold[2])
#else
#define is_last_hope_gone (cold[0] && cold[1])
#endif

proctype worker(byte w) {
  byte v = 0;
  bool r = false, kept = false, is_searching = false, made = false, rests = false, fails = false;
  byte b = 0, c = 0, e = 0;

#ifdef SPOILS
  if
  :: w == 0 -> share_work(w); goto run_range
  :: else
  fi;
#endif

  if
  :: w >= AWAKE -> goto asleep
  :: else
  fi;

work_loop:
  if
  :: begin[w] != end[w] -> goto run_range
  :: else
  fi;

  /* claim_from(), start_range() */
#if BUG == 306
  if
  :: needs_state[w] -> keeps_first[w] = true; call_warm_one()
  :: else
  fi;
#endif
  atomic {
    if
    :: next_claimed < FUNCTIONS && cells[next_claimed] == FULL ->
       if
       :: needs_state[w] -> keeps_first[w] = true
       :: else
       fi;
       begin[w] = next_claimed;
       next_claimed++;
       end[w] = next_claimed;
       goto found
    :: else
    fi
  }
  if
  :: is_searching -> goto rob
  :: else ->
     atomic {
       if
       :: searching == 0 -> searching++; is_searching = true; goto work_loop
       :: else -> goto sleep
       fi
     }
  fi;

rob:
  STEP {
    v = 0;
    do
    :: v < WORKERS && v != w ->
       kept = is_kept(v, w);
       atomic { c = begin[v]; e = end[v] };
       atomic {
         c = c + (kept || is_kept(v, w));
         do
         :: c < e && at(c) != FULL -> c++
         :: else -> break
         od;
         if
         :: is_full(c, e) ->
            if
            :: needs_state[w] -> keeps_first[w] = true
            :: else
            fi;
            begin[w] = c;
            end[w] = c + 1;
            v = 0;
            c = 0;
            e = 0;
            kept = false;
            goto found
         :: else -> c = 0; e = 0
         fi
       };
       v++
    :: v < WORKERS && v == w -> v++
    :: else -> break
    od;
    v = 0;
    kept = false
  };
  goto sleep;

found:
  if
  :: is_searching ->
     atomic { searching--; is_searching = false };
     share_work(w);
#if BUG != 307
     if
     :: !needs_state[w] ->
        any_work(w, w);
        if
        :: r -> r = false; call_warm_one()
        :: else
        fi
     :: else
     fi
#endif
  :: else -> share_work(w)
  fi;

run_range:
  if
  :: begin[w] == end[w] -> goto work_loop
  :: else -> c = begin[w]
  fi;
  fails = false;
  if
  :: !needs_state[w] || at(c) != FULL || c == CONTINUATION -> goto take
  :: else
  fi;

  /* may_start() */
  if
  :: rests -> goto stand_back
  :: else
  fi;
  keeps_first[w] = true;
#if BUG != 306
  call_warm_one();
#endif
  cold[w] = false; /* making */
  if
  :: made = true
  :: atomic { failures < FAILS -> failures++ }; made = false
  :: atomic { lasting < LASTS -> lasting++ }; can_end -> made = true
  fi;
  if
  :: made ->
     STEP {
       made = false;
       begin[w] = c + 1;
       keeps_first[w] = false;
       gone[w] = false;
       needs_state[w] = false
     };
#if BUG != 302
     share_work(NOBODY)
#endif
  :: else ->
     STEP {
       atomic { cold[w] = true; rests = true };
       keeps_first[w] = false;
       if
       :: is_last_hope_gone -> fails = true
       :: else -> goto stand_back
       fi
     }
  fi;

take:
  begin[w] = c + 1;
  atomic {
    if
    :: cells[c] == FULL -> cells[c] = TAKEN; started++
    :: else -> c = 0; goto run_range
    fi
  }
#ifdef SPOILS
  if
  :: c == 0 ->
     atomic { needs_state[w] = true; gone[w] = true; cold[w] = true };
     fails = true /* it does not last */
  :: else
  fi;
#endif
  c = 0;
#ifndef SHORT
  if
  :: fails
  :: all_started
  fi;
#endif
  fails = false;
  goto run_range;

stand_back:
  keeps_first[w] = false;
  gone[w] = false;
#if BUG != 301
  share_work(NOBODY);
#endif
  stand_back_n++;
  if
  :: cells[c] != FULL
  :: stand_back_n == WORKERS && cells[c] == FULL -> rests = false
  fi;
  stand_back_n--;
  c = 0;
  goto work_loop;

sleep:
  atomic { /* parking::lie_down() */
    listed[w] = true;
    sleeping++;
    if
    :: is_searching -> searching--; is_searching = false
    :: else
    fi
  };
  any_work(NOBODY, w); /* may_sleep() */

asleep:
  if
  :: r -> r = false
  :: else ->
     if
     :: !listed[w]
     :: all_started -> goto over
     fi
  fi;
  atomic { /* get_up() */
    if
    :: listed[w] -> listed[w] = false; sleeping--; searching++
    :: else
    fi;
    is_searching = true
  };
  goto work_loop;

over:
  skip
}

proctype producer() {
  byte v = 0, n = 0;
  bool r = false, kept = false;
  do
  :: n < FUNCTIONS ->
     cells[n] = FULL;
     call_somebody();
     n++
  :: else -> break
  od
}

init {
  atomic {
    byte i = 0;
    do
    :: i < WORKERS ->
       cold[i] = (i >= WARM);
       needs_state[i] = (i >= WARM);
       listed[i] = (i >= AWAKE);
       sleeping = sleeping + listed[i];
       run worker(i);
       i++
    :: else -> break
    od;
    i = 0;
#ifdef SPOILS
    do
    :: i < FUNCTIONS -> cells[i] = FULL; i++
    :: else -> break
    od;
    i = 0;
    begin[0] = 0;
    end[0] = FUNCTIONS;
    next_claimed = FUNCTIONS
#else
    run producer()
#endif
  }
}
