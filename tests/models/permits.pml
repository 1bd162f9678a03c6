/* permits.pml: a semaphore whose permits have owners, syncx/_core/permits.c.
 *
 * Each thread is a process of its own: its id stands for the process's, its life word for the one that is watched.  `wake` is a
 * short: the flags, then the step.  `several` is a mutex, here as mutex.pml has shown it to be.  A sleeper queues on all its words
 * at once; the kernel's wake for a death is passed on to all who watch that life.
 *
 * Not here: hints and the thread of a permit, spinning, statistics, RETIRED, several threads of one process (their releases
 * compete by the same CAS), collectors that do not wait for ever, a process without a thread, the time limit of 10 ms for `several`.
 *
 *   PERMITS     how many there are
 *   COLLECTORS  who takes all of them at once; the others take one
 *   TRIERS      who does not wait
 *   TIMED       whose waits may be given up at any moment
 *   DEATHS      how many are killed, anywhere; HOLDERS: only while they hold, until their release is over, and for good
 */
#include "kernel.pml"

#ifndef PERMITS
#define PERMITS 2
#endif
#ifndef COLLECTORS
#define COLLECTORS 0
#endif
#ifndef TRIERS
#define TRIERS 0
#endif
#ifndef TIMED
#define TIMED 0
#endif
#define TENTATIVE 8
#define LEAVING 16
#define WAITERS 1
#define SEVERAL 2
#define LOOKING 4
#define STEP 8
#define FREE(w) (((w) & 7) == 0)
#if defined(M_PERMITS_OF_THE_DEAD_STAY)
#define DEAD_PERMIT(w) false
#elif defined(M_GENERATION_IGNORED)
#define DEAD_PERMIT(w) (life[SLOT(w)] == DIED)
#else
#define DEAD_PERMIT(w) IS_DEAD(w)
#endif

short permit[PERMITS];
short wake;
byte gather;
short several;             /* the word of the mutex: an id, or 0 */
byte on_wake, on_gather;   /* queues */

/* ghosts */
byte user[PERMITS] = NOBODY; /* who has it for good */
byte holders;
byte once_held;            /* permits that somebody had for good, at some time during the try */

inline give_several()
{
    atomic { several = 0; blocked = 0 }
}

/* One look at the permit `at`; lives and tentative tell what was seen. */
inline see_busy()
{
    if
    :: SLOT(v) != me -> lives = lives | BIT(SLOT(v)) /*@ watch permits.c:look_at s->watch[s->watched++] = watch; */
    :: else
    fi;
    if
    :: v & TENTATIVE -> tentative = true /*@ seen_tentative permits.c:look_at s->tentative = true; */
    :: else
    fi
}

/* Takes the permit `at` if it is to be had: `got`. */
inline take(flag)
{
    v = permit[at]; /*@ take_read permits.c:take uint64_t word = atomic_load_explicit(&permit->word, memory_order_seq_cst); */
    do
    :: !FREE(v) && !DEAD_PERMIT(v) -> see_busy(); break
    :: FREE(v) || DEAD_PERMIT(v) -> /*@ to_be_had permits.c:look_at life == SX_DEAD ? SX_OK : SX_DAMAGED; */
        atomic {
            if
#ifdef M_TAKES_WITHOUT_COMPARING
            :: true ->
#else
            :: permit[at] == v -> /*@ take permits.c:take if (atomic_compare_exchange_strong_explicit(&permit->word, &word, mine, memory_order_seq_cst, */
#endif
                permit[at] = ID_OF(me) | flag;
                assert(user[at] == NOBODY); /*= no doubled permit */
                if
                :: flag == 0 -> has_it()
                :: else
                fi;
                got = true;
                break
            :: else -> v = permit[at]
            fi
        }
    od;
    v = 0
}

inline has_it()
{
    user[at] = me;
    once_held = once_held | BIT(at);
    got_on()
}

/* After some were freed. */
inline wake_sleepers(freed)
{
#ifndef M_LOOKS_BEFORE_IT_FREES
    flags = wake & (WAITERS | SEVERAL | LOOKING); /*@ wake_read permits.c:sx_permits_wake uint32_t flags = atomic_load_explicit(&p->wake, memory_order_seq_cst), token = counted; */
#endif
    if
    :: flags & LOOKING -> wake = wake & ~LOOKING /*@ not_looking permits.c:sx_permits_wake atomic_fetch_and_explicit(&p->wake, ~PERMITS_LOOKING, memory_order_seq_cst); */
    :: else
    fi;
    if
    :: (flags & SEVERAL) && freed != 0 ->
        wake = wake & ~SEVERAL; /*@ no_several permits.c:sx_permits_wake atomic_fetch_and_explicit(&p->wake, ~PERMITS_SEVERAL, memory_order_seq_cst); */
        atomic { gather++; wake_all_of(on_gather) } /*@ wake_gather permits.c:sx_permits_wake if (sx_futex_wake_op(&p->gather, FUTEX_OP_ADD, 1, INT_MAX) < 0) { */
    :: else
    fi;
    if
    :: flags & WAITERS ->
        atomic {
            wake = wake & ~WAITERS; /*@ wake_one permits.c:sx_permits_wake int woken = sx_futex_wake_op(&p->wake, FUTEX_OP_ANDN, PERMITS_WAITERS, (int)most); */
            wake_one_of(on_wake, woken);
            if
            :: freed == 2 -> wake_one_of(on_wake, woken)
            :: else
            fi;
            woken = false;
            flags = 0
        }
    :: else -> flags = 0
    fi
}

/* Sleeps on a queue and on the lives in the mask `lives`, while `still` holds. */
inline sleep(queue, still)
{
    atomic {
        if
        :: still && !ONE_HAS_DIED(lives) ->
            queue = queue | ME;
            watch(lives);
            if
            :: ME & TIMED
            :: else -> asleep = asleep | ME; assert(NO_WAKE_UP_IS_LOST) /*= no lost wake-up */
            fi
        :: else
        fi;
        slept = true
    }
    atomic {
        if
        :: !(queue & ME) || WOKEN_BY_LIFE(lives)
        :: (ME & TIMED) && (queue & ME) -> final = true /*@ deadline wait.c:sx_after_sleep a->final = wake == SX_DEADLINE; */
        :: (ME & TIMED) && (queue & ME) -> stop = true /*@ stop wait.c:sx_after_sleep if (wake == SX_STOP) */
#ifdef BELT
        :: (asleep & ME) && QUIET && !(belted & ME) -> belted = belted | ME /*@ belt wait.c:sx_pause_sleep return sx_pause_interrupted(pause, true) ? SX_STOP : SX_BELT; */
#endif
        fi;
        asleep = asleep & ~ME;
        queue = queue & ~ME;
        unwatch_all()
    }
    if
    :: ONE_HAS_DIED(lives) -> atomic { pass_on_deaths(lives) } /*@ pass_on wait.c:sx_pause_sleep sx_futex_wake(watch[i].word, INT_MAX); */
    :: else
    fi;
    lives = 0
}

active [N] proctype Thread()
{
    byte me = _pid, at, lives, flags, found, seen_gather;
    short v, w, looked;
    bool got, tentative, final, stop, slept, woken;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;
        atomic {
            if
            :: ME & TRIERS -> once_held = (user[0] != NOBODY -> 1 : 0) | (PERMITS == 2 && user[PERMITS - 1] != NOBODY -> 2 : 0)
            :: else
            fi
        }
again:
        seen_gather = (ME & COLLECTORS -> gather : 0); /*@ gather permits.c:sx_permits_acquire uint32_t gather = atomic_load_explicit(&p->gather, memory_order_seq_cst); */
        w = wake; /*@ flags permits.c:sx_permits_acquire uint32_t wake = atomic_load_explicit(&p->wake, memory_order_seq_cst); */
        if
        :: ME & COLLECTORS -> goto collect
        :: else
        fi;

        /* ---- any one ------------------------------------------------------------------------------------------------------ */
look:
        do
        :: at < PERMITS && !got ->
            take(0); /*@ take_one permits.c:take_one enum sx_status status = take(s, at, mine, me); */
            if
            :: got -> at = PERMITS
            :: else -> at++
            fi
        :: else -> at = 0; break
        od;
        if
        :: got -> got = false; lives = 0; tentative = false; goto taken
        :: else
        fi;
        if
        :: several == ID_OF(me) -> give_several(); goto confirm /*@ unsettled permits.c:take_settled unlock_several(s); */
        :: several != ID_OF(me) && ((ME & TRIERS) || final) ->
            if
            :: looked == 0 && (tentative || PERMITS > 1) -> goto looking /*@ refused permits.c:sx_permits_acquire if (status == SX_BUSY && last && (s.tentative || capacity_of(p) > 1)) { */
            :: looked == 0 && !(tentative || PERMITS > 1) -> goto fail
#ifndef M_TENTATIVE_IS_HELD
            :: looked != 0 && tentative -> tentative = false; lives = 0; goto settle /*@ settle permits.c:take_one_or_none status = take_settled(s, scoped, me, hint); */
            :: looked != 0 && !tentative -> goto confirm
#else
            :: looked != 0 -> goto confirm
#endif
            fi
        :: else
        fi;
        tentative = false;
        if
        :: !(w & WAITERS) ->
            atomic {
                lives = 0;
                if
                :: wake == w ->
                    wake = (w | WAITERS) + STEP /*@ set_waiters permits.c:sx_permits_acquire uint32_t with = n == 1 ? (wake | flag) + PERMITS_STEP : wake | flag; */
                :: else
                fi
            }
#ifdef M_DOES_NOT_LOOK_AGAIN
            if
            :: wake == (w | WAITERS) + STEP -> w = wake
            :: else -> goto again
            fi
#else
            goto again
#endif
        :: else
        fi;
        sleep(on_wake, wake == w); /*@ sleep permits.c:sx_permits_acquire enum sx_wake woken = sx_pause_sleep(&pause, &p->cell, n == 1 ? &p->wake : &p->gather, n == 1 ? wake : gather, */
        if
        :: stop -> stop = false; goto fail
        :: else -> goto again
        fi;
looking:
        atomic { tentative = false; lives = 0; looked = wake } /*@ looking permits.c:look_again uint32_t wake = atomic_load_explicit(&p->wake, memory_order_seq_cst); */
        do
        :: looked & LOOKING -> goto look
        :: else ->
            atomic {
                if
                :: wake == looked -> wake = (looked | LOOKING) + STEP; looked = wake /*@ set_looking permits.c:look_again if (atomic_compare_exchange_weak_explicit(&p->wake, &wake, with, memory_order_seq_cst, memory_order_seq_cst)) */
                :: else -> looked = wake
                fi
            }
        od;
confirm:
        if
        :: wake == looked -> goto fail /*@ confirmed permits.c:confirmed return atomic_load_explicit(&p->wake, memory_order_seq_cst) == wake; */
        :: else -> goto looking
        fi;
settle:
        lock_inside(several); /*@ settle_lock permits.c:take_settled enum sx_status status = lock_several(s, sx_now() + SETTLE_NS, me); */
        goto look;

        /* ---- all of them -------------------------------------------------------------------------------------------------- */
collect:
#ifndef M_COLLECTORS_TOGETHER
        lock_inside(several); /*@ lock_several permits.c:sx_permits_acquire status = lock_several(&s, last ? sx_now() + SETTLE_NS : deadline, &me); */
#endif
        do
        :: at < PERMITS ->
            v = permit[at]; /*@ count permits.c:take_several status = look_at(s, at, atomic_load_explicit(&p->permit[at].word, memory_order_seq_cst)); */
            if
            :: FREE(v) || DEAD_PERMIT(v) -> found++
            :: else -> see_busy()
            fi;
            atomic { v = 0; at++ }
        :: else -> atomic { at = 0; tentative = false; break }
        od;
        if
        :: found < PERMITS -> found = 0; goto not_all /*@ too_few permits.c:take_several if (found < n) */
        :: else -> found = 0
        fi;
        do
        :: at < PERMITS ->
            take(TENTATIVE); /*@ take_tentative permits.c:take_several status = take(s, at, s->arena->self | PERMIT_TENTATIVE, me); */
            atomic {
                if
                :: got -> got = false; found++
                :: else
                fi;
                at++
            }
        :: else -> atomic { at = 0; tentative = false; break }
        od;
        do
        :: at < PERMITS ->
            atomic {
                if
#ifdef M_GIVES_UP_WITHOUT_COMPARING
                :: permit[at] == (ID_OF(me) | TENTATIVE) || found < PERMITS ->
#else
                :: permit[at] == (ID_OF(me) | TENTATIVE) ->
#endif
                    if
                    :: found == PERMITS -> permit[at] = ID_OF(me); has_it() /*@ keep permits.c:decide keep ? word & ~(uint64_t)PERMIT_TENTATIVE : 0, memory_order_seq_cst, */
                    :: else -> permit[at] = 0 /*@ give_up permits.c:decide if (!(word & PERMIT_TENTATIVE) || ((word & SX_ID_MASK) != s->arena->self && look_at(s, at, word) != SX_BUSY)) */
                    fi
                :: else
                fi;
                at++
            }
        :: else -> at = 0; break
        od;
        if
        :: found == PERMITS -> found = 0; lives = 0;
#ifndef M_COLLECTORS_TOGETHER
            give_several(); /*@ unlock permits.c:sx_permits_acquire unlock_several(&s); */
#endif
            goto taken
        :: else -> found = 0
        fi;
        wake_sleepers(0); /*@ give_up_wake permits.c:decide sx_permits_wake(p, 0, counted); */
not_all:
#ifndef M_COLLECTORS_TOGETHER
        give_several(); /*@ unlock_none permits.c:unlock_several sx_mutex_unlock(s->arena, &s->permits->several, false); */
#endif
        if
        :: !(w & SEVERAL) ->
            atomic {
                lives = 0;
                if
                :: wake == w -> wake = w | SEVERAL /*@ set_several permits.c:sx_permits_acquire if (atomic_compare_exchange_strong_explicit(&p->wake, &wake, with, memory_order_seq_cst, */
                :: else
                fi;
                goto again
            }
        :: else
        fi;
        sleep(on_gather, gather == seen_gather); /*@ sleep_gather permits.c:sx_permits_acquire enum sx_wake woken = sx_pause_sleep(&pause, &p->cell, n == 1 ? &p->wake : &p->gather, n == 1 ? wake : gather, */
        goto again;

        /* ---- done: held, or not --------------------------------------------------------------------------------------------- */
taken:
        if
        :: several == ID_OF(me) -> give_several() /*@ settled permits.c:take_settled status = take_one(s, s->arena->self | scoped, *me, hint); */
        :: else
        fi;
        if
#ifndef M_NEXT_IS_NOT_WOKEN
        :: slept && !(ME & COLLECTORS) -> atomic { wake_one_of(on_wake, woken); woken = false } /*@ hand_on permits.c:sx_permits_acquire sx_wake_one(&p->wake, &p->wakes); */
#endif
        :: else
        fi;
        atomic { slept = false; final = false; seen_gather = 0; w = 0; looked = 0; holders = holders | ME; got_on() }
        if
        :: ME & COLLECTORS -> goto release_all
        :: else
        fi;
        do
        :: user[at] == me -> break
        :: else -> at++
        od;
#ifdef M_LOOKS_BEFORE_IT_FREES
        flags = wake & (WAITERS | SEVERAL | LOOKING);
#endif
        atomic {
            assert(permit[at] == ID_OF(me)); /*= no lost permit */
            permit[at] = 0; /*@ free permits.c:let_go if (atomic_compare_exchange_strong_explicit(&permit->word, &word, n == 1 ? 0 : word | PERMIT_LEAVING, */
            user[at] = NOBODY;
            at = 0
        }
        wake_sleepers(1); /*@ release permits.c:sx_permits_release sx_permits_wake(p, n, counted); */
        atomic { holders = holders & ~ME; goto idle };
release_all:
        do
        :: at < PERMITS ->
            atomic {
                assert(permit[at] == ID_OF(me)); /*= no lost permit */
                permit[at] = permit[at] | LEAVING; /*@ leaving permits.c:let_go if (atomic_compare_exchange_strong_explicit(&permit->word, &word, n == 1 ? 0 : word | PERMIT_LEAVING, */
                at++
            }
        :: else -> at = 0; break
        od;
        do
        :: at < PERMITS ->
            atomic { permit[at] = 0; user[at] = NOBODY; at++ } /*@ left permits.c:settle_leaving atomic_store_explicit(&p->permit[at].word, leave ? 0 : word & ~(uint64_t)PERMIT_LEAVING, memory_order_seq_cst); */
        :: else -> at = 0; break
        od;
        wake_sleepers(PERMITS); /*@ release_all permits.c:sx_permits_release enough = let_go(arena, p, n, scoped, me) == n; */
        atomic { holders = holders & ~ME; goto idle };
fail:
        atomic {
            assert(!(ME & TRIERS) || once_held == (1 << PERMITS) - 1); /*= a set in the making is no failure */
            lives = 0; tentative = false
        }
        if
        :: slept && !(ME & COLLECTORS) -> atomic { wake_one_of(on_wake, woken); woken = false } /*@ hand_back permits.c:sx_permits_acquire if (n == 1 && a.slept && status != SX_RETIRED) */
        :: else
        fi;
        atomic { slept = false; final = false; seen_gather = 0; w = 0; looked = 0; got_on(); goto idle }
    }
#if DEATHS
    unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            at = 0; lives = 0; flags = 0; found = 0; seen_gather = 0; v = 0; w = 0; looked = 0;
            got = false; tentative = false; final = false; stop = false; slept = false; woken = false
        }
    }
#ifndef HOLDERS
    ;
    /* ---- a new process takes the slot, or nobody does ----------------------------------------------------------------------- */
    {
        if
        :: goto done
        :: true
        fi;
        atomic { alive = alive | ME; life[me] = OWNED } /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
        atomic { generation[me]++; blocked = 0 } /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
        atomic { wake_all_of(watching[me]); goto idle } /*@ tell_sleepers participant.c:register_thread sx_futex_wake(sx_life_word(p), INT_MAX); */
    } unless { atomic { DEAD -> dead = dead & ~ME } }
#endif
#endif
    ;
done:
    atomic {
        ended = ended | ME;
        assert(NO_WAKE_UP_IS_LOST); /*= no lost wake-up */
        assert(ended != ALL || ((FREE(permit[0]) || DEAD_PERMIT(permit[0])) && (FREE(permit[PERMITS - 1]) || DEAD_PERMIT(permit[PERMITS - 1])))) /*= no lost permit */
    }
}

#if DEATHS
#ifdef HOLDERS
#define VICTIMS (holders & alive)
#else
#define VICTIMS (alive & ~ended)
#endif
active proctype Killer()
{
    byte p;
    bool woken;
end:
    do
    :: atomic {
        deaths < DEATHS && VICTIMS != 0 ->
        any_of(VICTIMS, p);
        kill(p, woken);
        holders = holders & ~BIT(p);
        on_wake = on_wake & ~BIT(p);
        on_gather = on_gather & ~BIT(p);
        if
        :: user[0] == p -> user[0] = NOBODY
        :: else
        fi;
#if PERMITS > 1
        if
        :: user[1] == p -> user[1] = NOBODY
        :: else
        fi;
#endif
        life[p] = DIED;
#ifndef M_KERNEL_IS_NOT_TOLD
        wake_one_of(watching[p], woken); /*@ tell_kernel participant.c:register_thread atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst); */
#endif
        p = 0;
        woken = false
    }
    od
}
#endif
