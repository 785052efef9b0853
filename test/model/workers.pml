/*
 * Copyright (c) 2026 The Bulkhead authors
 *
 * Distributed under the Boost Software License, Version 1.0. (See accompanying
 * file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
 */

/*
 * The workers of park.pml and watch.pml, with their parking and their reactor: work_loop(), idle(),
 * search(), sleep(), get_up(), any_work(), share_work() of impl/scheduler_workers.ipp and the class
 * parking, line by line; and if somebody may watch, leaves_alone() and see_to_watch().
 *
 * What is left out: signals (exit, paused, surplus), lifo, the robbery by a busy worker, the order
 * in which places are looked at, the number of turns. Where the code goes by a counter (whether a
 * busy worker polls, how long a search takes), the model does either.
 *
 * Functions are cells of one array: 0 .. FROM_OUTSIDE-1 is the shard's queue, the rest is the local
 * queues of those who run functions 0 .. OWNERS-1, of each as much as of the others. They do not get
 * back to them, so they claim nothing of their own, and no owner is so fast that what stands there after
 * a nap is left alone once more. run_queue is modelled in queue.pml; here, a claim and a look are one
 * step each. One function is few, and naps are counted up to NAPS.
 *
 * EVERY FUNCTION AND EVERY HANDLER RUNS UNTIL ALL OF THEM HAVE BEEN STARTED, and there are no more
 * of them than workers. So the model comes to a wrong end, with a worker asleep for ever and others
 * that wait for it, whenever a function or an event is left to a worker that is busy although
 * another one could have it.
 *
 * Sequential consistency. parking::state_, parking::watched_, cell::publish(), cell::load_ordered()
 * and the last store of claim::set() are seq_cst; the rest of a sleeper, the list and reactor_ are
 * guarded by the parking's mutex. Some accesses are weaker. deferred_ and polls_ only say how long
 * a watcher watches. first_of_few() may miss a function, but then has_work() is asked, and may take
 * many for few, which are left for a nap then; who reads naps_ or what was left alone too early takes
 * a function sooner, or sees to it that somebody naps once more. reactor_taken_ is relaxed, but
 * changes under the parking's mutex: a worker that gets up sees who sleeps there, and who sits down
 * there later looks for work himself.
 * cell::publish_under_lock() and the unlocking that follows it are release stores, which may become
 * visible after the producer has read the word: here, the producer may read it before both.
 */

/*
 * COARSE joins steps, for larger configurations, where nobody looks who is woken; AWAKE says how many
 * workers do not sleep when the model begins; ANSWERS makes function 0 wait for what it has posted
 * before it posts more; SHORT lets the functions end at once that were posted inside.
 */

/* Set by the including model: WORKERS, FROM_OUTSIDE, FROM_INSIDE, EVENTS, and OWNERS if it is not 1;
   BUG for a seeded bug. */
#ifndef BUG
#define BUG 0
#endif

#ifndef OWNERS
#define OWNERS 1
#endif
#define FUNCTIONS (FROM_OUTSIDE + FROM_INSIDE)
#define FROM_EACH (FROM_INSIDE / OWNERS)
#ifdef ELASTIC
#define ALL FUNCTIONS /* a pool does not grow for I/O */
#else
#define ALL (FUNCTIONS + EVENTS)
#endif
#define NOBODY WORKERS
#define AT_REACTOR 16 /* added to whom to wake */
#define BATCH 2
#define QUIET 2 /* watch_period::is_over(): times without reliance */
#define NAPS 4

/* --- functions --- */

#define EMPTY 0
#define FULL 1
#define TAKEN 2

byte cells[FUNCTIONS]; /* cell::state_ */
byte started = 0;      /* functions and handlers */

bool shard_mutex = false;
byte shard_used = 0, shard_next = 0; /* tail and head of the shard's queue */
#if FROM_INSIDE
#define local_begin(o) (FROM_OUTSIDE + (o) * FROM_EACH)
#define local_end(o) (FROM_OUTSIDE + (o) * FROM_EACH + FROM_EACH)
byte local_next[OWNERS], posted[OWNERS]; /* head of the local queue, and how many it has ever held */
#endif

byte claimed_begin[WORKERS], claimed_end[WORKERS]; /* worker::claimed */

/* --- parking --- */

#define LOCK(m) atomic { !m -> m = true }
#define UNLOCK(m) m = false

byte sleeping = 0, searching = 0; /* state_: one word, changed and read in one step */
bool parking_mutex = false;
byte list[WORKERS], listed_n = 0; /* the last one lay down last */
bool listed[WORKERS], called[WORKERS], at_reactor[WORKERS], waits[WORKERS];
byte reactor_ = NOBODY;
#ifdef WATCH
bool watches[WORKERS], watched = false, deferred = false, polled[WORKERS];
#if FROM_INSIDE
byte naps = 0, left_alone_at[WORKERS]; /* of the owner: 1 + a number of naps */
#endif
#endif
#ifdef ELASTIC
bool born[WORKERS], can_grow = true, thread_mutex = false;
byte live = 0;
#define slot_is_free (!born[0] || !born[WORKERS / 2] || !born[WORKERS - 1])
#endif

#define wants_call (sleeping != 0 && searching == 0)
#define all_busy (sleeping == 0 && searching == 0)
#ifdef ELASTIC
#define wants_hands (wants_call || (can_grow && all_busy))
#else
#define wants_hands wants_call
#endif

/* parking::next(): index in the list */
#define next_at (at_reactor[list[listed_n - 1]] && listed_n > 1 -> listed_n - 2 : listed_n - 1)

inline unlist(s, i) {
  i = 0;
  do
  :: list[i] == s -> break
  :: else -> i++
  od;
  do
  :: i + 1 < listed_n -> list[i] = list[i + 1]; i++
  :: else -> break
  od;
  listed_n--;
  list[listed_n] = 0;
  listed[s] = false;
  i = 0
}

/* Who sleeps when the model begins: for larger configurations. */
#ifndef AWAKE
#define AWAKE WORKERS
#endif

inline fall_asleep(i) {
  i = AWAKE;
  do
  :: i < WORKERS ->
     push_front(i);
     sleeping++;
     if
     :: reactor_ == NOBODY -> reactor_ = i; at_reactor[i] = true
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

inline push_front(s) {
  list[listed_n] = s;
  listed_n++;
  listed[s] = true
}

/* --- the io_context: functions that call or interrupt who sleeps there, and handlers --- */

mtype = { call, interrupt, event, of_others };
chan io = [IO_CAPACITY] of { mtype, byte };

/* Worker after worker may be called and get up by itself, so calls that nobody has run yet may add
   up. The model follows that as far as IO_CAPACITY, and then ends. */
inline post(what, s) {
  if
  :: nfull(io) -> io!what, s
  :: full(io) -> started = ALL + 100
  fi
}

/* --- waking --- */

#define cells_at(i) cells[(i < FUNCTIONS -> i : 0)]

#define may_poll (reactor_ == NOBODY) /* !reactor_taken_ */

#define is_claimed(v, i) \
  (claimed_begin[v] + i < claimed_end[v] && cells_at(claimed_begin[v] + i) == FULL)
#define is_full(i, end) (i < end && cells_at(i) == FULL)

inline skip_empty(next, end) {
  do
  :: next < end && cells_at(next) == TAKEN -> next++
  :: else -> break
  od
}

inline skip_taken(b, e, now) {
  do
  :: now && b < e && cells_at(b) != FULL -> b++
  :: else -> break
  od
}

#ifdef COARSE
#define STEP atomic
#else
#define STEP
#endif

#if FROM_INSIDE
#if BUG == 211 /* who searches remembers one thing, and not one for each owner */
#define kept(o) w
#else
#define kept(o) o
#endif

/* leaves_alone() of the owner o */
inline leaves_alone(o, yes, now) {
  atomic {
    skip_empty(local_next[o], local_end(o));
    if /* first_of_few(1) */
    :: is_full(local_next[o], local_end(o)) && !is_full(local_next[o] + 1, local_end(o)) ->
       now = naps + 1
    :: else
    fi
  }
  if
  :: now == 0 -> left_alone_at[kept(o)] = 0
  :: now != 0 && left_alone_at[kept(o)] == 0 -> left_alone_at[kept(o)] = now; yes = true
  :: now != 0 && left_alone_at[kept(o)] != 0 -> yes = (left_alone_at[kept(o)] == now)
  fi;
  now = 0
}

/* What any_work() sees in the local queues; if it `leaves` something alone, the rest of it. */
inline any_local(leaves, r) {
  o = 0;
  do
  :: !r && o < OWNERS ->
     if
     :: leaves -> leaves_alone(o, yes, now)
     :: else
     fi;
     if
     :: yes -> yes = false; left_some = true
     :: else ->
        atomic { skip_empty(local_next[o], local_end(o)); r = is_full(local_next[o], local_end(o)) }
     fi;
     o++
  :: else -> break
  od;
  o = 0
}
#endif

/* any_work(): r says whether there is a function that nobody has taken, nor, if it `leaves` something
   alone, left to its owner; `me` (or NOBODY) is going to take the first of its own claim. A claim is
   read before its cells are. */
#ifdef COARSE
#define sees(v, me) (is_claimed(v, 0) && v != me || is_claimed(v, 1))

inline any_work(me, leaves, r, v, b, e) {
  atomic {
#if BUG != 105
    !shard_mutex ->
#endif
    skip_empty(shard_next, FROM_OUTSIDE);
    r = is_full(shard_next, FROM_OUTSIDE);
#if FROM_INSIDE
    any_local(leaves, r);
#endif
    r = r || sees(0, me) || sees(1, me) || WORKERS > 2 && sees(WORKERS - 1, me) ||
        WORKERS > 3 && sees(WORKERS - 2, me)
  }
}
#else
inline any_work(me, leaves, r, v, b, e) {
  atomic {
#if BUG == 105 /* does not wait for who has the lock: spin_lock::synchronize() */
    true ->
#else
    !shard_mutex ->
#endif
    skip_empty(shard_next, FROM_OUTSIDE);
    r = is_full(shard_next, FROM_OUTSIDE)
  }
#if FROM_INSIDE
  any_local(leaves, r);
#endif
  v = 0;
  do
  :: !r && v < WORKERS ->
     d_step {
       b = claimed_begin[v] + (v == me -> 1 : 0);
       e = claimed_end[v];
       skip_taken(b, e, (v == me || v == w));
       if
       :: b >= e -> b = 0; e = 0
       :: else
       fi
     }
     if
     :: b != e -> d_step { skip_taken(b, e, true); r = (b < e); b = 0; e = 0 }
     :: else
     fi;
     v++
  :: else -> break
  od;
  v = 0
}
#endif

/* may_sleep(): r says no */
inline may_sleep(sees_to_watch, r, v, b, e) {
  STEP {
    any_work(NOBODY, true, r, v, b, e);
#if FROM_INSIDE
    if
    :: left_some && !r && sees_to_watch -> /* see_to_watch() */
       left_some = false;
#if BUG != 213 /* the watch is not said to be relied on */
       deferred = true;
#endif
       if
       :: watched
       :: else ->
          atomic {
            !parking_mutex ->
            if
            :: !watched && listed[w] -> watches[w] = true; watched = true
            :: else
            fi
          }
       fi
    :: else -> left_some = false
    fi
#endif
  }
}

/* call_somebody(): s is whom, or NOBODY */
inline call_somebody(s, i) {
  /* who reads twice that a call is wanted, with and without the lock, is spared the first time */
  atomic {
    if
    :: !wants_call -> s = NOBODY
    :: wants_call && !parking_mutex -> parking_mutex = true; s = WORKERS + 1
    fi
  }
  if
  :: s == NOBODY
  :: else ->
     atomic { /* parking::call() */
       s = list[next_at];
       unlist(s, i);
       called[s] = true;
       sleeping--;
#if BUG == 108 /* who sleeps at the reactor counts as searching from the call on */
       searching++;
#else
       if
       :: at_reactor[s]
       :: else -> searching++
       fi;
#endif
       if
       :: at_reactor[s] -> s = s + AT_REACTOR
       :: else
       fi;
       parking_mutex = false
     }
  fi
}

/* What follows without a lock: call_at_reactor(), interrupt_reactor(), notify_one(). */

inline wake(how, s) {
  atomic {
    if
    :: s == NOBODY
    :: s >= AT_REACTOR -> post(how, s - AT_REACTOR)
    :: s < NOBODY -> waits[s] = false
    fi;
    s = 0
  }
}

#ifdef ELASTIC
/* grow(), with create_worker() and free_worker() */
inline grow(s) {
  LOCK(thread_mutex);
  if
  :: !all_busy -> UNLOCK(thread_mutex)
  :: else ->
     LOCK(parking_mutex);
     if
     :: live >= WORKERS -> can_grow = false; UNLOCK(parking_mutex); UNLOCK(thread_mutex)
     :: else ->
        live++;
        UNLOCK(parking_mutex);
        searching++; /* add_search() */
        atomic {
          slot_is_free -> /* in the code, there is always one more */
          s = 0;
          do
          :: born[s] -> s++
          :: else -> break
          od;
          born[s] = true;
          s = NOBODY
        }
        UNLOCK(thread_mutex)
     fi
  fi
}

inline get_hands(s, i) {
#if BUG == 114 /* if the one to be called has got up meanwhile, that is all */
  if
  :: wants_call -> call_somebody(s, i)
  :: else ->
     s = NOBODY;
     if
     :: all_busy -> grow(s)
     :: else
     fi
  fi
#else
  call_somebody(s, i);
  if
  :: s == NOBODY && can_grow ->
     if
     :: all_busy -> grow(s)
     :: else
     fi
  :: else
  fi
#endif
}
#else
inline get_hands(s, i) {
  call_somebody(s, i)
}
#endif

#ifdef WATCH
/* ask_for_watch(); ok says whether anybody watches */
inline ask_for_watch(s, ok) {
  STEP {
    s = NOBODY;
    deferred = true;
    ok = true;
    if
    :: watched
    :: else ->
       if
       :: sleeping == 0 -> ok = false
       :: else ->
          atomic {
            !parking_mutex ->
            if
            :: watched
            :: !watched && listed_n == 0 -> ok = false
            :: else ->
               s = list[next_at];
               watches[s] = true;
               watched = true;
               if
               :: at_reactor[s] -> s = s + AT_REACTOR
               :: else
               fi
            fi
          }
       fi
    fi;
    wake(interrupt, s)
  }
}
#endif

/* share_work() */
inline share_work(me, r, v, b, e, s, i) {
  STEP {
    s = NOBODY;
    if
    :: wants_hands ->
       any_work(me, (BUG != 214), r, v, b, e); /* 214: leaves nothing alone */
       if
       :: r ->
          r = false;
#if FROM_INSIDE
          left_some = false;
#endif
          get_hands(s, i)
#if FROM_INSIDE
       :: !r && left_some ->
          left_some = false;
#if BUG != 212 /* does not ask for a watch */
          ask_for_watch(s, r);
          if
          :: r -> r = false; s = NOBODY
          :: else -> get_hands(s, i)
          fi
#endif
#endif
       :: else
       fi
    :: else
    fi;
    wake(call, s)
  }
}

#ifdef WATCH
/* published_inside(), below the limit of a batch */
inline published_inside(s, i) {
  if
  :: !wants_hands
  :: else ->
     ask_for_watch(s, r);
     if
     :: !r -> get_hands(s, i); wake(call, s)
     :: r -> r = false
     fi
  fi
}
#endif

/* --- workers --- */

#define has_work(next, limit) \
  (is_full(next, limit) || is_full(next + 1, limit) && cells_at(next) == TAKEN)
#define can_rob(v) (is_claimed(v, 0) || is_claimed(v, 1))

inline rob(v) {
  begin = claimed_begin[v];
  if
  :: !is_claimed(v, 0) -> begin++
  :: else
  fi;
  end = begin + (claimed_end[v] - begin + 1) / 2
}

/* run_queue::claim(BATCH, true) */
inline claim(next, limit, b, e) {
  skip_empty(next, limit);
  b = next;
  e = next;
  do
  :: e - b < BATCH && is_full(e, limit) -> e++
  :: else -> break
  od;
  if
  :: e != b && e - b < BATCH -> e = b + (e - b + 1) / 2; next = e
  :: e != b && e - b == BATCH -> next = e
  :: e == b -> b = 0; e = 0
  fi
}

#define still_watches (timed && listed[w] && watches[w])

proctype worker(byte w) {
  byte begin = 0, end = 0; /* worker::range */
  bool is_searching = false, in_reactor = false, r = false, in_search = false, in_poll = false;
  byte v = 0, b = 0, e = 0, s = 0, i = 0, n = 0, who = 0;
  mtype what = 0;
#if FROM_INSIDE
  bool alone[OWNERS], yes = false, left_some = false;
  byte o = 0, now = 0;
#endif
#ifdef WATCH
  bool timed = false, woken = false, napped = false;
  byte quiet = 0;
#endif

  bool undone = false;

#if FROM_INSIDE
  if
  :: w < OWNERS -> begin = w; end = w + 1
  :: else
  fi;
#endif
  if
  :: w >= AWAKE -> goto sleep_until_called
  :: else
  fi;
#ifdef POLLING /* worker 1 has seen that nobody sleeps at the reactor, when the model begins */
  if
  :: w == 1 -> in_search = true; goto poll
  :: else
  fi;
#endif
#ifdef ELASTIC

end_unborn:
  born[w];
  is_searching = true;
#endif

work_loop:
  atomic {
    if
    :: begin != end -> goto run_range
    :: begin == end -> begin = 0; end = 0
    fi;
    if
    :: is_searching -> goto search
#ifndef COARSE
    :: !is_searching && may_poll -> goto poll /* refill() */
#endif
    :: !is_searching
    fi
  }
after_poll:
  atomic { /* one place after the other, in the code */
    if
    :: has_work(shard_next, FROM_OUTSIDE) ->
       claim(shard_next, FROM_OUTSIDE, begin, end);
       goto start_range
    :: else
    fi
  }
  /* idle(): begin_search(), which a change of the word may make fail */
  atomic {
    if
    :: searching == 0 -> searching++; is_searching = true
    :: true -> goto sleep
    fi
  }

search:
  STEP {
#if FROM_INSIDE
    do
    :: o < OWNERS -> leaves_alone(o, yes, now); alone[o] = yes; yes = false; o++
    :: else -> o = 0; break
    od;
#endif
    atomic {
      if
      :: has_work(shard_next, FROM_OUTSIDE) -> claim(shard_next, FROM_OUTSIDE, begin, end)
#if FROM_INSIDE
      :: !alone[0] && has_work(local_next[0], local_end(0)) ->
         claim(local_next[0], local_end(0), begin, end)
#if OWNERS > 1
      :: !alone[1] && has_work(local_next[1], local_end(1)) ->
         claim(local_next[1], local_end(1), begin, end)
#endif
#endif
      :: w != 0 && can_rob(0) -> rob(0)
      :: w != 1 && can_rob(1) -> rob(1)
#if WORKERS > 2
      :: w != 2 && can_rob(2) -> rob(2)
#endif
#if WORKERS > 3
      :: w != 3 && can_rob(3) -> rob(3)
#endif
      :: else
      fi;
#if FROM_INSIDE
      alone[0] = false;
      alone[OWNERS - 1] = false;
#endif
      in_search = (begin != end);
      if
      :: begin != end -> goto start_range
      :: else
      fi
    }
  }
  atomic {
    if
    :: may_poll -> in_search = true
    :: true -> goto sleep
    fi;
#if BUG == 109 /* the search goes on during poll() */
    goto poll
#endif
  }
  goto end_search;

start_range:
  atomic { claimed_begin[w] = begin; claimed_end[w] = end } /* claim::set() */
  share_work(w, r, v, b, e, s, i);
#if BUG == 104 /* the search is not ended before functions run */
  if
  :: in_search -> in_search = false; goto run_range
  :: else -> goto run_range
  fi;
#endif
  if
  :: !in_search -> goto run_range
  :: else
  fi;

end_search:
  atomic { searching--; is_searching = false }
#if BUG != 101 /* no second look when a search ends */
  share_work(w, r, v, b, e, s, i);
#endif
  if
  :: begin == end -> goto poll
  :: else -> in_search = false
  fi;

run_range:
  atomic {
    i = begin;
    begin++;
    claimed_begin[w] = begin; /* claim::set_begin() */
    if
    :: begin == end -> begin = 0; end = 0; claimed_begin[w] = 0; claimed_end[w] = 0
    :: else
    fi;
    if
    :: cells[i] == FULL -> cells[i] = TAKEN; started++ /* cell::take(), run() */
    :: else -> i = 0; goto work_loop
    fi
  }
#if FROM_INSIDE
  if
  :: i < OWNERS ->
     o = i;
     i = 0;
     do
     :: posted[o] < FROM_EACH ->
#ifdef ANSWERS
        started > posted[o]; /* it has waited for what it posted before */
#endif
        posted[o]++; /* reserve() */
#if BUG == 207       /* asks for a watch, then publishes */
        published_inside(s, i);
        cells[local_begin(o) + posted[o] - 1] = FULL;
#else
        cells[local_begin(o) + posted[o] - 1] = FULL; /* publish() */
        published_inside(s, i);
#endif
     :: else -> break
     od;
     o = 0
#ifdef SHORT
  :: i >= FROM_OUTSIDE -> i = 0; goto work_loop
#endif
  :: else -> i = 0
  fi;
#else
  i = 0;
#endif
  started >= ALL; /* every function runs that long */
  goto over;

poll:
  n = 0;
  in_poll = true;
  do
  :: n < 2 ->
     atomic {
       if
       :: nempty(io) -> io?what, who
       :: empty(io) -> break
       fi
     }
     n++;
     goto handler;
handled:
     skip
  :: else -> break
  od;
  in_poll = false;
#ifdef WATCH
  d_step {
    i = 0;
    do
    :: i < WORKERS -> polled[i] = true; i++
    :: else -> break
    od;
    i = 0
  }
  if
  :: n != 0 && sleeping != 0 -> ask_for_watch(s, r); r = false
  :: else
  fi;
#endif
  if
  :: in_search && n == 0 ->
     in_search = false;
#if BUG == 109
     goto search;
#endif
progress_turn: /* the code counts them */
     atomic {
       if
       :: searching == 0 -> searching++; is_searching = true; goto search
       :: true -> goto sleep
       fi
     }
  :: !in_search -> n = 0; goto after_poll
  :: else ->
#ifdef OTHERS
progress_io: /* the code counts these turns, too, and robs after so many */
#endif
     n = 0;
     in_search = false;
     goto work_loop
  fi;

/* What the io_context runs, on a worker that polls or that sleeps there. */
handler:
  if
  :: what == event ->
     if
     :: in_reactor -> goto get_up /* leave_reactor() */
     :: else
     fi;
runs_handler:
#ifndef ELASTIC
     started++;
#endif
     started >= ALL;
     goto over
  :: what == call && who != w -> /* call_at_reactor() */
#if BUG != 106 /* a call that another worker has run is lost */
     atomic {
       !parking_mutex ->
       if
       :: reactor_ == who && called[who] ->
          called[who] = false; /* parking::recall() */
          push_front(who);
          sleeping++;
          r = true
       :: else -> r = false
       fi
     }
#if BUG != 107 /* a call is taken back, and nobody looks */
     if
     :: r -> r = false; share_work(NOBODY, r, v, b, e, s, i)
     :: else
     fi
#else
     r = false
#endif
#else
     skip
#endif
  :: what == interrupt && who != w ->
#ifdef WATCH
#if BUG != 205 /* an interruption that another worker has run is lost */
     atomic {
       !parking_mutex ->
       if
       :: reactor_ == who && watches[who] -> post(interrupt, who)
       :: else
       fi
     }
#endif
#endif
     skip
  :: else
  fi;
  what = 0;
  who = 0;
  if
  :: in_poll -> goto handled
  :: else -> goto slept_at_reactor
  fi;

sleep:
#if BUG == 102 /* looks first, then lies down */
  may_sleep(true, r, v, b, e);
#endif
  atomic { /* parking::lie_down(), take_reactor_if_free() */
    !parking_mutex ->
    push_front(w);
    sleeping++;
    if
    :: is_searching -> searching--; is_searching = false
    :: else
    fi;
    if
    :: reactor_ == NOBODY -> reactor_ = w; at_reactor[w] = true
    :: else
    fi
  }
#if BUG != 102
  may_sleep((BUG != 208), r, v, b, e); /* 208: who lies down does not see to a watch */
#endif
  if
  :: r -> r = false; goto get_up
  :: else
  fi;

sleep_until_called:
  atomic {
    !parking_mutex ->
    if
    :: !listed[w] -> goto get_up
    :: else
    fi;
#ifdef WATCH
    timed = watches[w];
    woken = true;
#endif
    if
    :: at_reactor[w] -> in_reactor = true
    :: else -> waits[w] = true
    fi
  }
  if
  :: in_reactor ->
end_reactor:
     if
     :: atomic { io?what, who; goto handler } /* run_one() */
#ifdef WATCH
     :: timed && empty(io) -> woken = false
#endif
     fi;
slept_at_reactor:
     in_reactor = false
  :: else ->
end_waits:
     if
     :: !waits[w]
#ifdef WATCH
     :: timed -> atomic { !parking_mutex -> waits[w] = false; woken = !listed[w] || !watches[w] }
#endif
#ifdef ELASTIC
     :: live > 1 ->
        LOCK(parking_mutex);
        if
        :: !waits[w] || !listed[w] || live == 1 -> /* woken, or expire() says no */
           UNLOCK(parking_mutex)
        :: else ->
           waits[w] = false;
           goto expire
        fi
#endif
     fi
  fi;
#ifdef WATCH
  if
#if BUG == 215 || defined(COARSE) /* who is woken does not look, however long it has napped */
  :: woken -> woken = false
  :: !woken ->
#else
  :: woken && !(still_watches && napped) -> woken = false; napped = timed /* but not for long yet */
  :: !woken || still_watches ->
     woken = false;
     napped = false;
#endif
#if FROM_INSIDE && BUG != 209 /* naps are not counted */
     naps = (naps + 1) % NAPS;
#endif
looks:
#if BUG == 201
     r = false; /* the watcher does not look */
#else
     may_sleep((BUG != 210), r, v, b, e); /* 210: who watched does not see to a watch */
#endif
     if
     :: r -> r = false; goto get_up
     :: else
     fi;
     atomic {
       !parking_mutex ->
       if
       :: !(listed[w] && watches[w]) -> goto sleep_until_called
       :: else -> /* ends_watch() */
          parking_mutex = true;
          if
          :: deferred -> quiet = 0; deferred = false
          :: else
          fi
       fi
     }
     atomic {
          if
          :: !polled[w] && reactor_ == NOBODY -> reactor_ = w; at_reactor[w] = true
          :: else
          fi;
          polled[w] = false;
          quiet = (quiet < QUIET -> quiet + 1 : QUIET);
          if
          :: quiet >= QUIET && reactor_ != NOBODY ->
             watches[w] = false;
             watched = false;
             parking_mutex = false;
#if BUG != 202 /* no look after the end of the watch */
             goto looks
#endif
          :: else -> parking_mutex = false
          fi
     }
  fi;
#endif
  goto sleep_until_called;

#ifdef ELASTIC
expire: /* under the parking's mutex */
#if BUG == 113 /* can_grow is set after the word was changed */
  atomic { unlist(w, i); sleeping-- }
  live--;
  can_grow = true;
#else
  can_grow = true;
  d_step { unlist(w, i); sleeping-- }
  live--;
#endif
  UNLOCK(parking_mutex);
  born[w] = false; /* in_use */
  goto end_unborn;
#endif

get_up:
  atomic { /* parking::get_up() */
    !parking_mutex ->
#if defined(WATCH) && !defined(COARSE)
    parking_mutex = true;
#endif
    if
    :: listed[w] -> unlist(w, i); sleeping--
    :: else
    fi;
    undone = called[w] && at_reactor[w];
    if
    :: called[w] ->
       called[w] = false;
#if BUG != 110 /* who was called does not know that it counts as searching */
       is_searching = !at_reactor[w]
#endif
    :: else
    fi;
    waits[w] = false;
#if defined(WATCH) && !defined(COARSE)
  }
  atomic {
#endif
#ifdef WATCH
    if
    :: watches[w] ->
#if BUG != 203 /* a watch goes on without a watcher */
       watched = false;
#endif
#if BUG != 206 /* a watcher that was called goes without a successor */
       r = true;
#endif
       watches[w] = false
    :: else
    fi;
    timed = false;
    napped = false;
    quiet = 0;
    parking_mutex = false;
#endif
    if
    :: at_reactor[w] ->
       at_reactor[w] = false;
       reactor_ = NOBODY;
#if BUG != 204 /* the reactor is left without a watcher */
       r = true
#endif
    :: else
    fi;
    r = r && reactor_ == NOBODY /* unattended */
  }
#ifdef WATCH
  if
  :: r -> r = false; ask_for_watch(s, r); undone = undone || !r
  :: else
  fi;
#endif
  r = false;
  if
  :: what == event ->
     in_reactor = false;
#if BUG != 112 /* who was called and runs a handler instead does not look */
     if
     :: undone -> undone = false; share_work(NOBODY, r, v, b, e, s, i)
     :: else
     fi;
#endif
     goto runs_handler
  :: else
  fi;
  undone = false;
#if BUG != 115 /* who gets up for what it has seen does not count as searching */
  if
  :: !is_searching -> atomic { searching++; is_searching = true } /* add_search() */
  :: else
  fi;
#endif
  goto work_loop

over:
  skip
}
