/* mutex.pml: the mutex, syncx/_core/mutex.c.
 *
 * The word is a short: its low byte stands for the low half, which is the futex, with the holder (slot + 1, or 0) and the flags;
 * its high byte for the high half, the generation.
 *
 * Not here: spinning, which only reads; statistics; RETIRED; LATER (condition.pml); the detector's claim on a wait record
 * (deadlock.pml); who may claim a slot (participants.pml; here each thread claims the slot of the one before it).
 *
 *   TIMED       threads whose acquires have a time limit, and which signal handlers interrupt: a mask
 *   DEATHS      how many threads are killed, anywhere
 *   HOLDERS     only those that hold the lock are, from the end of acquire to the end of release, and nobody comes after them
 *   GIVERS      not before they have given it, in that case
 *   UNMARKED    the kernel may leave the mark of a death out
 *   NO_WAITV    the kernel has no futex_waitv: nobody watches a life word
 */
#include "kernel.pml"

#ifndef TIMED
#define TIMED 0
#endif
#define WAITERS 8
#define RESERVED 16
#define OWNER_DIED 32
#define LOW(w) ((w) & 255)
#define ID(w) ((w) & ~(WAITERS | RESERVED | OWNER_DIED))
#define FREE(w) (((w) & 7) == 0)

short word;
byte waiting;          /* the queue of the word */

/* ghosts */
byte inside;           /* who is in the section */
byte section;          /* who is between the end of acquire and the end of release */
bool torn;             /* one died while the word named it, and nobody yet was told of it and gave back in good order */
byte unmarked;         /* the dead without the kernel's mark */

inline unwatch()
{
    if
    :: owner != NOBODY -> watching[owner] = watching[owner] & ~ME
    :: else
    fi
}

inline forget() { owner = NOBODY; life_seen = 0 }

active [N] proctype Thread()
{
    byte me = _pid, owner = NOBODY;
    short w, mine;
    bit life_seen;
    bool slept, final, died, reserve, limited, told, woken, stop, examine;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;

        /* ---- acquire ---------------------------------------------------------------------------------------------- */
        atomic {
            if
            :: LOW(word) == 0 ->
                word = ID_OF(me); /*@ fast_take core.h:sx_mutex_take atomic_compare_exchange_strong_explicit(&m->word, &w, me, memory_order_acquire */
                assert(!torn); /*= a death is told */
                goto taken
            :: true
            fi
        }
        w = word; /*@ read mutex.c:sx_mutex_lock_slow uint64_t w = atomic_load_explicit(&m->word, memory_order_acquire) */
look:
        atomic {
            assert(ID(w) != ID_OF(me)); /*= an id is one thread's */
            if
            :: FREE(w) ->
                if
                :: (w & RESERVED) && !slept -> limited = true; goto prepare /*@ stand_back mutex.c:sx_mutex_lock_slow bound = sx_now() + (int64_t)left * 1000; */
                :: true -> goto take /* not reserved; or reserved for us, or no longer: */ /*@ lapsed mutex.c:sx_mutex_lock_slow uint32_t left = w & MUTEX_RESERVED && !a.slept ? reservation_left(m) : 0; */
                fi
            :: else -> owner = SLOT(w)
            fi
        }
#ifdef UNMARKED
        atomic {
            if
            :: examine && (unmarked & BIT(owner)) && generation[owner] == GENERATION(w) ->
                unmarked = unmarked & ~BIT(owner);
                life[owner] = DIED; /*@ examine mutex.c:sx_mutex_lock_slow sx_holder_examine(arena, w); */
                wake_all_of(watching[owner])
            :: else
            fi;
            examine = false
        }
#endif
        life_seen = life[owner]; /*@ read_life participant.c:sx_holder_life uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_acquire); */
        atomic {
            if
            :: life_seen == DIED -> died = true; forget(); goto take /*@ dead participant.c:sx_holder_life return generation == (uint32_t)(holder >> 32) && owned(life) ? SX_ALIVE : SX_DEAD; */
#ifndef M_GENERATION_IGNORED
            :: generation[owner] != GENERATION(w) -> died = true; forget(); goto take /*@ read_generation participant.c:sx_holder_life uint32_t generation = atomic_load_explicit(&p->generation, memory_order_acquire); */
#endif
#ifdef M_TAKES_FROM_THE_LIVING
            :: true -> died = true; forget(); goto take
#endif
            :: else -> goto prepare
            fi
        }
take:
        atomic {
            if
#ifdef M_TAKES_WITHOUT_COMPARING
            :: true ->
#else
            :: word == w -> /*@ take mutex.c:take if (!atomic_compare_exchange_strong_explicit(&m->word, w, mine, memory_order_acquire, memory_order_relaxed)) */
#endif
                mine = ID_OF(me);
#ifndef M_TAKES_WITHOUT_FLAGS
                mine = mine | (w & (WAITERS | OWNER_DIED)); /*@ keep_flags mutex.c:take mine = me | (old & (MUTEX_WAITERS | MUTEX_OWNER_DIED)); */
#endif
#ifndef M_TAKES_WITHOUT_WAITERS
                mine = mine | (slept -> WAITERS : 0); /*@ slept mutex.c:take mine |= MUTEX_WAITERS; */
#endif
                mine = mine | (died -> (OWNER_DIED | WAITERS) : 0); /*@ died mutex.c:take mine |= MUTEX_OWNER_DIED | MUTEX_WAITERS; */
                word = mine;
#ifdef M_DEATH_NOT_TOLD
                told = (w & OWNER_DIED) != 0;
#else
                told = died || (w & OWNER_DIED) != 0; /*@ tell mutex.c:sx_mutex_lock_slow status = w & MUTEX_OWNER_DIED ? SX_OWNER_DIED : SX_OK; */
#endif
                assert(told == torn); /*= a death is told */ /* and nothing is told where there was none */
                mine = 0;
                w = 0;
                died = false;
                got_on()
            :: else -> w = word; died = false; goto look
            fi
        }
        if
#if !defined(M_NOBODY_WATCHES) && !defined(M_TAKES_WITHOUT_WAITERS)
        :: slept -> atomic { wake_one_of(waiting, woken); woken = false; goto taken } /*@ next_watches mutex.c:take if (a->slept) */
        :: !slept -> goto taken
#else
        :: goto taken
#endif
        fi;

prepare:
        atomic {
            if
            :: final -> forget(); limited = false; goto leave /*@ too_late mutex.c:sx_mutex_lock_slow if (deadline == 0 || a.final) { */
            :: !final && (w & WAITERS)
#ifdef M_SLEEPS_WITHOUT_WAITERS
            :: true
#endif
            :: !final && !(w & WAITERS) ->
                if
                :: word == w -> word = word | WAITERS; w = word /*@ set_waiters mutex.c:sx_mutex_lock_slow if (!atomic_compare_exchange_strong_explicit(&m->word, &w, w | MUTEX_WAITERS, memory_order_relaxed, */
                :: else -> w = word; forget(); limited = false; goto look
                fi
            fi
        }

        /* ---- sleep: futex_waitv queues on one word after the other, the life first ---------------------------------- */
        atomic {
            slept = true; /*@ has_slept wait.c:sx_after_sleep a->slept = true; */
#ifdef NO_WAITV
            forget();
#endif
            if
            :: owner != NOBODY ->
                if
                :: life[owner] == life_seen -> watching[owner] = watching[owner] | ME /*@ queue_life futex.h:sx_futex_wait v[i] = (struct sx_futex_waitv){.val = watch[i].value, .uaddr = (uintptr_t)watch[i].word, .flags = FUTEX_32}; */
                :: else -> goto awake
                fi
            :: else
            fi
        }
        atomic {
            if
#ifdef M_KERNEL_DOES_NOT_COMPARE
            :: true ->
#else
            :: LOW(word) == LOW(w) -> /*@ queue_word futex.h:sx_futex_wait v[watched] = (struct sx_futex_waitv){.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32}; */
#endif
                waiting = waiting | ME;
                if
                :: owner != NOBODY && !(watching[owner] & ME) -> goto awake /* woken between the two */
                :: else
                fi;
                if
                :: (ME & TIMED) || limited
                :: else -> asleep = asleep | ME; assert(NO_WAKE_UP_IS_LOST) /*= no lost wake-up */
                fi
            :: else -> goto awake
            fi
        }
        atomic {
            if
            :: !(waiting & ME) || (owner != NOBODY && !(watching[owner] & ME)) -> goto awake
            :: limited -> goto awake /*@ lapses wait.c:sx_pause_sleep return until == bound ? SX_CHANGED : SX_DEADLINE; */
            :: ME & TIMED -> final = true; goto awake /*@ deadline wait.c:sx_after_sleep a->final = wake == SX_DEADLINE; */
            :: ME & TIMED -> goto awake /*@ signal wait.c:sx_pause_sleep return sx_pause_interrupted(pause, false) ? SX_STOP : SX_CHANGED; */
            :: ME & TIMED -> stop = true; goto awake /*@ stop wait.c:sx_after_sleep if (wake == SX_STOP) */
#ifdef BELT
            :: (asleep & ME) && QUIET && !(belted & ME) -> belted = belted | ME; examine = true; goto awake /*@ belt wait.c:sx_pause_sleep return sx_pause_interrupted(pause, true) ? SX_STOP : SX_BELT; */
#endif
#if EARLY
            :: (asleep & ME) && deaths > 0 && early > 0 -> early--; examine = true; goto awake /* the same, at any moment */
#endif
            fi
        }
awake:
        atomic {
            asleep = asleep & ~ME;
            waiting = waiting & ~ME;
            limited = false;
            unwatch();
            if
            :: owner == NOBODY || life[owner] == life_seen -> forget()
            :: else
            fi
        }
        if
        :: owner != NOBODY -> atomic { wake_all_of(watching[owner]); forget() } /*@ pass_on wait.c:sx_pause_sleep sx_futex_wake(watch[i].word, INT_MAX); */
        :: else
        fi;
        if
        :: stop -> stop = false; goto leave
        :: else
        fi;
        w = word; /*@ read_again mutex.c:sx_mutex_lock_slow w = atomic_load_explicit(&m->word, memory_order_acquire); */
        goto look;

        /* ---- leaving without the lock ---------------------------------------------------------------------------------- */
leave:
#ifndef M_LEAVES_SILENTLY
        w = word; /*@ leave_read mutex.c:leave uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed); */
        do
        :: FREE(w) || (w & WAITERS) -> break /*@ leave_enough mutex.c:leave while (!sx_is_free(w) && !(w & MUTEX_WAITERS) && */
        :: else ->
            atomic {
                if
                :: word == w -> word = word | WAITERS; w = word /*@ leave_mark mutex.c:leave !atomic_compare_exchange_weak_explicit(&m->word, &w, w | MUTEX_WAITERS, memory_order_relaxed, */
                :: else -> w = word
                fi
            }
        od;
        atomic { wake_one_of(waiting, woken); woken = false }; /*@ leave_wake mutex.c:leave wake_one(m); */
#endif
        atomic { w = 0; slept = false; final = false; got_on(); goto idle };

        /* ---- the section ------------------------------------------------------------------------------------------------- */
taken:
        atomic {
            slept = false;
            final = false;
            assert(inside == 0); /*= exclusion */
            inside = ME;
#ifndef GIVERS
            section = ME
#endif
        }

        /* ---- release: what was told of a death is dropped, or kept for the next one ------------------------------------ */
        atomic {
            inside = inside & ~ME;
            if
            :: told = false
            :: told /* keep_mark */
            fi
        }
        atomic {
            if
            :: word == ID_OF(me) -> word = 0; torn = false; goto given /*@ fast_give core.h:sx_mutex_give return atomic_compare_exchange_strong_explicit(&m->word, &me, 0, memory_order_release, memory_order_relaxed); */
            :: word != ID_OF(me)
            fi
        }
        atomic { w = word; assert(ID(w) == ID_OF(me)) } /*= exclusion */ /*@ give_read mutex.c:sx_mutex_unlock_slow uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed); */
give:
        if
        :: !(w & WAITERS) ->
            atomic {
                if
#ifdef M_GIVES_WITHOUT_COMPARING
                :: true ->
#else
                :: word == w -> /*@ give mutex.c:sx_mutex_unlock_slow if (!atomic_compare_exchange_weak_explicit(&m->word, &w, flags, memory_order_release, memory_order_relaxed)) */
#endif
                    word = (told -> w & OWNER_DIED : 0); /*@ keep_mark mutex.c:sx_mutex_unlock_slow uint32_t flags = (uint32_t)w & (MUTEX_RETIRED | (keep_mark ? MUTEX_OWNER_DIED : 0)); */
                    torn = torn && told;
                    goto given
                :: else -> w = word; goto give
                fi
            }
        :: else
        fi;
        if
        :: atomic { reserve = true; word = word | RESERVED } /*@ reserve mutex.c:sx_mutex_unlock_slow atomic_fetch_or_explicit(sx_low_half(&m->word), MUTEX_RESERVED, memory_order_relaxed); */
        :: true /* there has been a reservation in the last millisecond */
        fi;
        atomic { /* one system call, which leaves the generation in the high half */
            word = (word & ~255) | (reserve -> RESERVED : 0) | (told -> word & OWNER_DIED : 0); /*@ give_and_wake mutex.c:sx_mutex_unlock_slow int woken = sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_ANDN, ~keep, count); */
            section = ME;
            torn = torn && told;
#ifdef M_STORE_THEN_WAKE
        }
        atomic {
#endif
            wake_one_of(waiting, woken);
            w = (told -> w & OWNER_DIED : 0)
        }
        if
        :: reserve && !woken ->
            atomic {
                if
#ifdef M_UNRESERVES_WITHOUT_COMPARING
                :: true ->
#else
                :: LOW(word) == (w | RESERVED) -> /*@ unreserve mutex.c:sx_mutex_unlock_slow atomic_compare_exchange_strong_explicit(sx_low_half(&m->word), &reserved, flags, memory_order_relaxed, */
#endif
                    word = (word & ~255) | w
                :: else
                fi
            }
        :: else
        fi;
given:
        atomic { section = section & ~ME; w = 0; reserve = false; woken = false; told = false; got_on(); goto idle }
    }
#if DEATHS
    unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            w = 0; mine = 0; owner = NOBODY; life_seen = 0;
            slept = false; final = false; died = false; reserve = false; limited = false; told = false; woken = false; stop = false; examine = false
        }
    }
#endif
    ;
#if DEATHS && !defined(HOLDERS)
    /* ---- a new thread takes the slot, or nobody does ------------------------------------------------------------------------ */
    {
        do
        :: goto done
        :: break
        od;
#ifdef UNMARKED
        atomic {
            if
            :: life[me] == OWNED -> unmarked = unmarked & ~ME; life[me] = DIED; wake_all_of(watching[me]) /*@ mark participant.c:find_slot sx_holder_examine(arena, sx_slot_id(arena, i)); */
            :: else
            fi
        }
#endif
        atomic { alive = alive | ME; life[me] = OWNED } /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
#ifndef M_SAME_GENERATION
        generation[me]++; /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
#endif
        atomic { wake_all_of(watching[me]); goto idle } /*@ tell_sleepers participant.c:register_thread sx_futex_wake(sx_life_word(p), INT_MAX); */
    } unless { atomic { DEAD -> dead = dead & ~ME } };
#endif
done:
    atomic { ended = ended | ME; assert(NO_WAKE_UP_IS_LOST) } /*= no lost wake-up */
}

#if DEATHS
#ifdef HOLDERS
#define VICTIMS (section & alive)
#else
#define VICTIMS (alive & ~ended)
#endif
/* The one who kills; and the kernel, which marks the life word and wakes one of those that sleep on it. */
active proctype Killer()
{
    byte p;
    bool woken;
end:
    do
    :: atomic {
        deaths < DEATHS && VICTIMS != 0 ->
        any_of(VICTIMS, p);
        torn = torn || ID(word) == ID_OF(p);
        kill(p, woken);
        inside = inside & ~BIT(p);
        section = section & ~BIT(p);
        waiting = waiting & ~BIT(p);
        if
#ifdef UNMARKED
        :: unmarked = unmarked | BIT(p)
#endif
        :: true ->
            life[p] = DIED;
#ifndef M_KERNEL_IS_NOT_TOLD
            wake_one_of(watching[p], woken) /*@ tell_kernel participant.c:register_thread atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst); */
#endif
        fi;
        p = 0;
        woken = false
    }
    od
}
#endif
