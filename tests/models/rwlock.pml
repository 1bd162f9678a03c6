/* rwlock.pml: the readers-writer lock, syncx/_core/rwlock.c and marks.c.
 *
 * The phase is a short: the flags, then PRESENT, then the number, into which PRESENT carries.  A mark is 0, ACTIVE, or PENDING
 * with the number.  `writer` is a mutex, here as mutex.pml has shown it to be.  A sleeper queues on all its words at once: every
 * wake of theirs is for all sleepers, but the one of the kernel for a death, which is passed on.
 *
 * Not here: upgradable readers, downgrading, several holds of one reader, signal handlers that read, RETIRED, spinning.
 *
 *   READERS     who reads, a mask; the others write
 *   TIMED       whose waits may be given up at any moment
 *   DEATHS      how many are killed, anywhere; each slot may be used again
 */
#include "kernel.pml"

#ifndef TIMED
#define TIMED 0
#endif
#define WAITERS 1
#define INSIDE 2
#define TORN 4
#define PRESENT 8
#define NUMBER(phase) ((phase) >> 4)
#define ACTIVE 1
#define PENDING(number) (2 + (number))
#define COUNTS(mark) ((mark) != 0 && (mark) != PENDING(number))
#define NO_WRITER 255

short phase;
byte drain;
byte mark[N];
bit marked[N];
short writer;              /* the word of the mutex: an id, or 0 */
bool lost_owner;           /* ... and its OWNER_DIED */
byte on_phase, on_drain;   /* queues */

/* ghosts */
byte reading, writing;
bool hurt;                 /* a writer died inside, and none has left in good order since */


inline take_mutex()
{
    lost_owner = lost_owner || writer != 0;
    writer = ID_OF(me)
}

inline give_mutex(kept)
{
    atomic { lost_owner = lost_owner && kept; writer = 0; blocked = 0 }
}

inline left()
{
    atomic { drain++; wake_all_of(on_drain) } /*@ left rwlock.c:sx_rwlock_left if (sx_futex_wake_op(&rw->drain, FUTEX_OP_ADD, 1, INT_MAX) < 0) { */
}

inline end_phase(kept)
{
    p = phase; /*@ end_read rwlock.c:end_phase uint32_t p = atomic_load_explicit(&rw->phase, memory_order_relaxed); */
    do
    :: !(p & WAITERS) ->
        atomic {
            if
            :: phase == p -> phase = p + PRESENT - (p & INSIDE); hurt = hurt && kept; break /*@ end_alone rwlock.c:end_phase if (atomic_compare_exchange_weak_explicit(&rw->phase, &p, p + step, memory_order_release, memory_order_relaxed)) */
            :: else -> p = phase
            fi
        }
    :: else ->
        atomic {
            phase = phase + PRESENT - (p & INSIDE) - WAITERS; /*@ end_and_wake rwlock.c:end_phase if (sx_futex_wake_op(&rw->phase, FUTEX_OP_ADD, step, INT_MAX) < 0) { */
            hurt = hurt && kept;
            wake_all_of(on_phase);
            break
        }
    od
}

/* By whoever has just got the mutex: ends the phase of a dead writer. */
inline settle()
{
    p = phase; /*@ settle_read rwlock.c:settle uint32_t p = atomic_load_explicit(&rw->phase, memory_order_acquire); */
    told = (p & TORN) != 0;
    if
#ifdef M_TORN_IS_NOT_KEPT
    :: p & INSIDE -> told = true
#else
    :: p & INSIDE -> atomic { phase = phase | TORN; told = true } /*@ torn rwlock.c:settle p |= atomic_fetch_or_explicit(&rw->phase, RWLOCK_TORN, memory_order_relaxed) | RWLOCK_TORN; */
#endif
    :: else
    fi;
    if
#ifdef M_DEAD_PHASE_STAYS
    :: false -> skip
#else
    :: p & PRESENT -> end_phase(true) /*@ end_of_dead rwlock.c:settle if (p & RWLOCK_PRESENT) */
#endif
    :: else
    fi;
    lost_owner = told /*@ mark_of_mutex rwlock.c:settle sx_mutex_clear_mark(&rw->writer, me); */
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
        fi
    }
    atomic {
        if
        :: !(queue & ME) || WOKEN_BY_LIFE(lives)
        :: (ME & TIMED) && (queue & ME) -> final = true /*@ deadline wait.c:sx_after_sleep a->final = wake == SX_DEADLINE; */
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
    byte me = _pid, number, of_writer = NO_WRITER, i, lives, counted, seen;
    short p, holder;
    bool final, told, someone;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;
        if
        :: READERS & ME
        :: else -> goto write
        fi;

        /* ---- read: the fast path -------------------------------------------------------------------------------------- */
#ifdef M_LOOKS_BEFORE_IT_MARKS
        p = phase;
#endif
        marked[me] = 1; /*@ raise core.h:sx_rwlock_read_fast atomic_store_explicit(&self->marked, 1, memory_order_relaxed); */
        mark[me] = ACTIVE; /*@ mark core.h:sx_rwlock_read_fast sx_mark(&self->marks[0], (uint64_t)key << 32 | 1); */
        atomic {
#ifndef M_LOOKS_BEFORE_IT_MARKS
            p = phase;
#endif
            if
            :: !(p & PRESENT) -> p = 0; goto inside /*@ look core.h:sx_rwlock_read_fast if (!(atomic_load_explicit(&rw->phase, memory_order_seq_cst) & (RWLOCK_PRESENT | RWLOCK_RETIRED))) */
            :: else
            fi
        }
        mark[me] = 0; /*@ unmark core.h:sx_rwlock_read_fast sx_mark(&self->marks[0], 0); */
        marked[me] = 0; /*@ lower core.h:sx_rwlock_read_fast atomic_store_explicit(&self->marked, 0, memory_order_release); */
#ifndef M_WRITER_NOT_TOLD
        left(); /*@ tell core.h:sx_rwlock_read_fast sx_rwlock_left(rw); */
#endif

        /* ---- read: the slow path -------------------------------------------------------------------------------------- */
        marked[me] = 1; /*@ raise_slow marks.c:sx_mark_add atomic_store_explicit(&self->marked, marked + 1, memory_order_relaxed); */
        mark[me] = ACTIVE; /*@ mark_slow marks.c:sx_mark_add sx_mark(mark, value); */
look:
        p = phase; /*@ look_slow rwlock.c:sx_rwlock_read uint32_t life_value = 0, p = phase_of(rw); */
        if
        :: !(p & PRESENT) || (of_writer != NO_WRITER && NUMBER(p) != of_writer) -> /*@ may_enter rwlock.c:sx_rwlock_read if (!(p & RWLOCK_PRESENT) || (writer != SX_NO_WRITER && number_of(p) != writer)) { */
            mark[me] = ACTIVE; /*@ active rwlock.c:sx_rwlock_read atomic_store_explicit(own.unused, active, memory_order_release); */
            goto inside
        :: else
        fi;
        if
        :: of_writer == NO_WRITER ->
            of_writer = NUMBER(p); /*@ which_writer rwlock.c:sx_rwlock_read writer = number_of(p); */
#ifdef M_PENDING_BY_WAY_OF_NOTHING
            mark[me] = 0;
#endif
#ifndef M_NEVER_PENDING
            mark[me] = PENDING(of_writer); /*@ pending rwlock.c:sx_rwlock_read sx_mark(own.unused, (uint64_t)key << 32 | MARK_PENDING | writer); */
#endif
#ifndef M_WRITER_NOT_TOLD
            left(); /*@ tell_slow rwlock.c:sx_rwlock_read sx_rwlock_left(rw); */
#endif
            goto look
        :: else
        fi;
        holder = writer; /*@ holder rwlock.c:holder_of uint64_t w = atomic_load_explicit(&rw->writer.word, memory_order_acquire); */
        if
        :: holder == 0 || IS_DEAD(holder) -> /*@ dead_holder rwlock.c:sx_rwlock_read enum sx_life seen = holder == 0 ? SX_DEAD : sx_holder_life(arena, holder, &life_value); */
            if
            :: phase != p -> goto look /*@ just_left rwlock.c:sx_rwlock_read if (phase_of(rw) != p) */
            :: else
            fi;
#ifndef M_READERS_DO_NOT_MEND
            atomic {
                if
                :: TO_BE_HAD(writer) -> take_mutex() /*@ mend rwlock.c:mend enum sx_status s = sx_mutex_lock(arena, &rw->writer, 0); */
                :: else -> goto not_mended
                fi
            }
            settle(); /*@ mend_settle rwlock.c:mend settle(rw, me); */
            give_mutex(true); /*@ mend_give rwlock.c:mend sx_mutex_unlock(arena, &rw->writer, true); */
            told = false;
            goto look;
not_mended:
            if
            :: writer != holder -> goto look /*@ others_mend rwlock.c:sx_rwlock_read if (mend(arena, rw, me, &status) || holder_of(rw) != holder) */
            :: else /* somebody had it for a moment: the phase has changed then, as the kernel will see */
            fi
#endif
        :: else -> lives = BIT(SLOT(holder))
        fi;
        if
        :: final -> final = false; lives = 0; goto give_up /*@ too_late rwlock.c:sx_rwlock_read status = deadline == 0 ? SX_BUSY : SX_TIMEOUT; */
        :: else
        fi;
        if
        :: p & WAITERS
#ifdef M_SLEEPS_WITHOUT_WAITERS
        :: true
#endif
        :: !(p & WAITERS) ->
            atomic {
                if
                :: phase == p -> phase = p | WAITERS; p = phase /*@ set_waiters rwlock.c:rest if (!atomic_compare_exchange_strong_explicit(c->word, &c->value, c->value | RWLOCK_WAITERS, */
                :: else -> lives = 0; goto look
                fi
            }
        fi;
        sleep(on_phase, phase == p); /*@ sleep_phase rwlock.c:rest enum sx_wake wake = sx_pause_sleep(pause, &rw->cell, c->word, c->value, watch, watched, holder, SX_NEVER); */
        goto look;

inside:
        atomic {
            p = 0; holder = 0; of_writer = NO_WRITER; final = false;
            assert(writing == 0); /*= exclusion */
            reading = reading | ME;
            got_on()
        }
        reading = reading & ~ME;
give_up:
        mark[me] = 0; /*@ leave core.h:sx_rwlock_read_end_fast sx_mark(&self->marks[0], 0); */
        marked[me] = 0; /*@ leave_lower core.h:sx_rwlock_read_end_fast atomic_store_explicit(&self->marked, 0, memory_order_release); */
        if
        :: phase & PRESENT -> /*@ leave_look core.h:sx_rwlock_read_end_fast if (atomic_load_explicit(&rw->phase, memory_order_seq_cst) & RWLOCK_PRESENT) */
#ifndef M_WRITER_NOT_TOLD
            left() /*@ leave_tell core.h:sx_rwlock_read_end_fast sx_rwlock_left(rw); */
#endif
            ;
            skip
        :: else
        fi;
        atomic { p = 0; holder = 0; of_writer = NO_WRITER; got_on(); goto idle };

        /* ---- write ---------------------------------------------------------------------------------------------------- */
write:
        do
        :: atomic { TO_BE_HAD(writer) -> take_mutex(); blocked = blocked & ~ME; break } /*@ lock rwlock.c:sx_rwlock_write s = sx_mutex_lock(arena, &rw->writer, deadline); */
        :: atomic { !TO_BE_HAD(writer) && !(blocked & ME) -> blocked = blocked | ME; assert(NO_WAKE_UP_IS_LOST) } /*= no lost wake-up */
        od;
        settle(); /*@ settle rwlock.c:sx_rwlock_write s = settle(rw, me); */
        atomic { number = NUMBER(phase); phase = phase + PRESENT } /*@ present rwlock.c:enter uint32_t number = number_of(atomic_fetch_add_explicit(&rw->phase, RWLOCK_PRESENT, memory_order_seq_cst)); */
drained:
        counted = drain; /*@ drain rwlock.c:enter struct change step = {&rw->drain, atomic_load_explicit(&rw->drain, memory_order_seq_cst), UINT32_MAX}; */
        i = 0;
        do
        :: i == N -> break
        :: i < N && i == me -> i++
        :: i < N && i != me ->
            if
            :: !marked[i] -> goto next /*@ pass_over marks.c:sx_next_reader if (atomic_load_explicit(&p->marked, memory_order_seq_cst) == 0) */
            :: else
            fi;
            if
            :: !COUNTS(mark[i]) -> goto next /*@ counts marks.c:sx_next_reader if (!counts(atomic_load_explicit(m, memory_order_seq_cst), key, number)) */
            :: else
            fi;
            seen = generation[i]; /*@ whose marks.c:sx_next_reader uint64_t generation = atomic_load_explicit(&p->generation, memory_order_acquire); */
            if
            :: life[i] == DIED || generation[i] != seen -> goto next /*@ dead_reader marks.c:sx_next_reader if (seen != SX_ALIVE || sx_holder_life(arena, c->id, &c->life.value) != SX_ALIVE) */
            :: else
            fi;
            if
            :: COUNTS(mark[i]) -> lives = lives | BIT(i); someone = true /*@ look_again marks.c:sx_next_reader else if (counts(atomic_load_explicit(m, memory_order_seq_cst), key, number)) */
            :: else
            fi;
next:
            atomic { seen = 0; i++ }
        od;
        atomic {
            i = 0;
            if
            :: someone -> someone = false
            :: else -> counted = 0; goto enter
            fi
        }
        if
        :: final -> /*@ writer_too_late rwlock.c:enter status = deadline == 0 ? SX_BUSY : SX_TIMEOUT; */
            atomic { final = false; lives = 0; counted = 0 }
            end_phase(true); /*@ give_up rwlock.c:enter end_phase(rw); */
            give_mutex(true); /*@ give_up_mutex rwlock.c:sx_rwlock_write sx_mutex_unlock(arena, &rw->writer, true); */
            atomic { p = 0; told = false; number = 0; got_on(); goto idle }
        :: else
        fi;
        sleep(on_drain, drain == counted); /*@ sleep_drain rwlock.c:enter status = rest(&pause, rw, &a, &step, watch, watched, first, !ours); */
        goto drained;
enter:
        phase = phase | INSIDE; /*@ inside rwlock.c:enter atomic_fetch_or_explicit(&rw->phase, RWLOCK_INSIDE, memory_order_seq_cst); */
        atomic {
            p = 0; number = 0; final = false;
            assert(reading == 0 && writing == 0); /*= exclusion */
            assert(told == hurt); /*= a death is told */
            writing = ME;
            got_on()
        }
        atomic {
            writing = 0;
            if
            :: told = false
            :: told /* keep_mark */
            fi
        }
        if
        :: told
        :: !told && (phase & TORN) -> phase = phase & ~TORN /*@ mended rwlock.c:clear_torn atomic_fetch_and_explicit(&rw->phase, ~RWLOCK_TORN, memory_order_relaxed); */
        :: else
        fi;
        end_phase(told); /*@ end rwlock.c:finish end_phase(rw); */
        give_mutex(told); /*@ give rwlock.c:sx_rwlock_write_end return sx_mutex_unlock(arena, &rw->writer, finish(rw, me, keep_mark)); */
        atomic { p = 0; told = false; goto idle }
    }
#if DEATHS
    unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            number = 0; of_writer = NO_WRITER; i = 0; lives = 0; counted = 0; seen = 0; p = 0; holder = 0;
            final = false; told = false; someone = false
        }
    };
    /* ---- a new thread takes the slot, or nobody does ---------------------------------------------------------------------- */
    {
        if
        :: goto done
        :: true
        fi;
        atomic { alive = alive | ME; life[me] = OWNED } /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
#ifndef M_MARKS_ARE_LEFT
        mark[me] = 0; /*@ clear_marks participant.c:clear_records atomic_store_explicit(&p->marks[i], 0, memory_order_relaxed); */
        marked[me] = 0; /*@ clear_marked participant.c:clear_records atomic_store_explicit(&p->marked, 0, memory_order_relaxed); */
#endif
        atomic { generation[me]++; blocked = 0 } /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
        atomic { wake_all_of(watching[me]); goto idle } /*@ tell_sleepers participant.c:register_thread sx_futex_wake(sx_life_word(p), INT_MAX); */
    } unless { atomic { DEAD -> dead = dead & ~ME } };
#endif
    ;
done:
    atomic { ended = ended | ME; assert(NO_WAKE_UP_IS_LOST) } /*= no lost wake-up */
}

#if DEATHS
active proctype Killer()
{
    byte p;
    bool woken;
end:
    do
    :: atomic {
        deaths < DEATHS && (alive & ~ended) ->
        any_of((alive & ~ended), p);
        hurt = hurt || (writer == ID_OF(p) && (phase & INSIDE));
        kill(p, woken);
        reading = reading & ~BIT(p);
        writing = writing & ~BIT(p);
        on_phase = on_phase & ~BIT(p);
        on_drain = on_drain & ~BIT(p);
        life[p] = DIED;
        wake_one_of(watching[p], woken); /*@ tell_kernel participant.c:register_thread atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst); */
        p = 0;
        woken = false
    }
    od
}
#endif
