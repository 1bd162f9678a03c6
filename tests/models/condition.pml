/* condition.pml: the condition variable, syncx/_core/condition.c.
 *
 * A wait record is its state, in the low two bits, and above it the number of the wait, or, in PASSING, the slot of the passer.
 * The lock is a mutex, here as mutex.pml has shown it to be.  Each thread has one record.
 *
 * Not here: waits nested in signal handlers, spinning, RETIRED, LOOK_MS (each belt looks), a notifier's batch of 64.
 *
 *   NOTIFIERS   who notifies, each one waiter at a time; the others wait
 *   TIMED       whose waits may be given up at any moment
 *   TURNS       how many waits and notifications there are
 *   DEATHS      how many are killed, anywhere; each slot may be used again
 */
#ifndef TIMED
#define TIMED 0
#endif
#define STATE(r) ((r) & 3)
#define RUNNING 0
#define WAITING 1
#define NOTIFIED 2
#define PASSING 3
#define NUMBER(r) ((r) & ~3)
#define PASSED_BY(slot) (PASSING | ((slot) + 1) << 2)
#define PASSER(r) (((r) >> 2) - 1)
#define NO_END 60
#define LIVES(p) (life[p] == OWNED)

#define IS_PENDING(p) (STATE(record[p]) == NOTIFIED || (STATE(record[p]) == PASSING && !(moved & BIT(p))) -> 1 : 0)
#define PENDING (IS_PENDING(0) + IS_PENDING(1) + IS_PENDING(2))
#define SLEEPS_IN_VAIN(p) ((asleep & BIT(p)) && STATE(record[p]) != WAITING)
/* Where nobody can go on: each notification was used, or is with a dead thread and nobody sleeps whom it could be for. */
#define ALL_IS_WELL (blocked == 0 && sent + twice == used + expired + PENDING && (asleep == 0 || PENDING == 0) && \
                     !SLEEPS_IN_VAIN(0) && !SLEEPS_IN_VAIN(1) && !SLEEPS_IN_VAIN(2))
#ifdef BELT
#define AT_REST (QUIET && (asleep & ~belted) == 0)
#else
#define AT_REST QUIET
#endif
#define NO_NOTIFICATION_IS_LOST (!AT_REST || ALL_IS_WELL)
#define NO_WAKE_UP_IS_LOST NO_NOTIFICATION_IS_LOST
#include "kernel.pml"

byte record[N];
byte ticket[N];
byte units[N];
byte tickets, waiting;
short lock;
byte on_record[N];         /* queues; a record has at most its own thread on it */

/* ghosts */
byte sent, used, expired;  /* notifications; expired: nobody was left for whom it was */
byte twice;                /* passed on once more, since the passer was killed or stopped between its two changes: */
byte moved;                /* records in PASSING whose notification has been moved on already */
byte waits;                /* who has begun to wait, and was neither notified nor has left */

inline give_lock()
{
    atomic { lock = 0; blocked = 0 }
}

/* The longest-waiting live waiter below the horizon: `chosen`, N for none; `present`: how many there are. */
inline choose()
{
    atomic { chosen = N; present = 0; i = 0; chosen_state = 0 }
    do
    :: i < N ->
        r = record[i]; /*@ look condition.c:choose uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire); */
        atomic {
            if
            :: STATE(r) == WAITING && ticket[i] < horizon && LIVES(i) -> /*@ below condition.c:choose if (ticket >= horizon || !sx_slot_alive(arena, i)) */
                present++;
                if
                :: chosen == N || ticket[i] < ticket[chosen] -> chosen = i; chosen_state = r /*@ longest condition.c:choose for (; at > 0 && found[at - 1].ticket > ticket; at--) */
                :: else
                fi
            :: else
            fi;
            r = 0;
            i++
        }
    :: else -> i = 0; break
    od
}

/* WAITING to NOTIFIED: `notified`. */
inline notify_one(end, passing)
{
    if
    :: units[chosen] < horizon - ticket[chosen] -> units[chosen] = horizon - ticket[chosen] /*@ span condition.c:notify_one while (told < span && !atomic_compare_exchange_weak_explicit(&c->record->units, &told, (uint32_t)span, */
    :: else
    fi;
    atomic {
        if
#ifdef M_NOTIFIES_WITHOUT_COMPARING
        :: true ->
#else
        :: record[chosen] == chosen_state -> /*@ notify_one condition.c:notify_one return atomic_compare_exchange_strong_explicit(&c->record->state, &state, NOTIFIED(state & ~0xffu), */
#endif
            waits = waits & ~BIT(chosen);
            record[chosen] = NUMBER(chosen_state) | NOTIFIED;
            assert(ticket[chosen] < end); /*= who began to wait later is not notified */
            sent = sent + (passing -> 0 : 1);
            twice = twice + (passing && record[from] != PASSED_BY(me) -> 1 : 0);
            moved = moved | (passing && record[from] == PASSED_BY(me) -> BIT(from) : 0);
            notified = true
        :: else
        fi
    }
}

/* The record `from` is in PASSING, and names us or a slot that we inherit. */
inline pass_on(slot)
{
#ifdef M_PASSES_ON_TO_ANYBODY
    horizon = NO_END;
#else
    horizon = ticket[from] + units[from]; /*@ horizon condition.c:pass_on atomic_load_explicit(&w->ticket, memory_order_relaxed) + atomic_load_explicit(&w->units, memory_order_relaxed); */
#endif
    notified = false;
    do
    :: !notified ->
        choose();
        if
        :: chosen == N -> break /*@ nobody condition.c:pass_on while (!passed && choose(arena, &which, horizon, &next, 1, &present) == 1) */
        :: else -> notify_one(ticket[from] + units[from], true)
        fi
    :: else -> break
    od;
    if
    :: notified -> atomic { wake_all_of(on_record[chosen]) } /*@ pass_wake condition.c:pass_on sx_futex_wake(&next.record->state, INT_MAX); */
    :: else
    fi;
    atomic {
        if
        :: record[from] == PASSED_BY(slot) -> /*@ passed condition.c:pass_on atomic_compare_exchange_strong_explicit(&w->state, &passing, SX_RUNNING, memory_order_release, */
            record[from] = RUNNING;
            moved = moved & ~BIT(from);
            if
            :: notified
            :: else -> expired++
            fi
        :: else
        fi;
        notified = false; chosen = 0; chosen_state = 0; present = 0; horizon = 0; from = 0
    }
}

inline take_over(was, slot)
{
    atomic {
        if
#ifdef M_TAKES_OVER_WITHOUT_COMPARING
        :: true ->
#else
        :: record[from] == was ->
#endif
            twice = twice + (moved & BIT(from) -> 1 : 0);
            moved = moved & ~BIT(from);
            record[from] = PASSED_BY(slot);
            mine = true /*@ take_over condition.c:take_over return atomic_compare_exchange_strong_explicit(&w->state, &state, PASSING(slot), memory_order_acq_rel, */
        :: else
        fi
    }
    if
    :: mine -> mine = false; pass_on(slot)
    :: else -> from = 0
    fi
}

active [N] proctype Thread()
{
    byte me = _pid, number, i, r, chosen, chosen_state, present, horizon, from, was;
    bool notified, late, mine;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;
        lock_inside(lock);
        if
        :: NOTIFIERS & ME
        :: else -> goto wait
        fi;

        /* ---- notify --------------------------------------------------------------------------------------------------------- */
        if
        :: waiting == 0 -> goto notified_none /*@ none condition.c:sx_condition_notify if (atomic_load_explicit(&c->waiting, memory_order_relaxed) == 0) */
        :: else
        fi;
        horizon = tickets; /*@ tickets condition.c:sx_condition_notify uint64_t horizon = atomic_load_explicit(&c->tickets, memory_order_relaxed); */
        do
        :: true ->
            choose(); /*@ choose condition.c:sx_condition_notify count = choose(arena, &which, horizon, found, n - done < BATCH ? n - done : BATCH, &present); */
            if
            :: chosen == N -> waiting = 0; break
            :: else -> notify_one(tickets, false)
            fi;
            waiting = present - 1; /*@ lower condition.c:sx_condition_notify atomic_store_explicit(&c->waiting, present - count, memory_order_relaxed); */
            if
            :: notified || present == 1 -> break /*@ next_in_line condition.c:sx_condition_notify } while (done < n && present > count); */
            :: else
            fi
        od;
notified_none:
        assert(notified || !(waits & alive)); /*= a notification is sent to those who wait */
        give_lock();
        if
        :: notified -> atomic { wake_all_of(on_record[chosen]) } /*@ wake_later condition.c:sx_condition_notify sx_wake_later(&found[i].record->state); */
        :: else
        fi;
        atomic { notified = false; chosen = 0; chosen_state = 0; present = 0; horizon = 0; got_on(); goto idle };

        /* ---- wait ------------------------------------------------------------------------------------------------------------- */
wait:
        waits = waits | ME;
#ifdef M_GIVES_THE_LOCK_UP_FIRST
        give_lock();
#endif
        atomic { ticket[me] = tickets; tickets++ } /*@ ticket condition.c:sx_condition_enrol atomic_store_explicit(&c->tickets, ticket + 1, memory_order_relaxed); */
        waiting++; /*@ raise condition.c:sx_condition_enrol atomic_store_explicit(&c->waiting, waiting + 1, memory_order_relaxed); */
        units[me] = 0; /*@ no_units wait.c:sx_pause_enrol atomic_store_explicit(&w->units, 0, memory_order_relaxed); */
        atomic {
            number = number + 4;
            record[me] = number | WAITING /*@ enrol wait.c:sx_pause_enrol keep(pause, w, SX_WAITING); */
        }
#if !defined(M_GIVES_THE_LOCK_UP_FIRST) && !defined(M_KEEPS_THE_LOCK)
        give_lock();
#endif
sleep:
        atomic {
            if
            :: record[me] == (number | WAITING) -> /*@ sleep condition.c:sx_condition_sleep wake = sx_pause_sleep(&w->pause, &c->cell, &w->record->state, state, NULL, 0, mark_of(c), SX_NEVER); */
                on_record[me] = ME;
                if
                :: ME & TIMED
                :: else -> asleep = asleep | ME; assert(NO_NOTIFICATION_IS_LOST) /*= no lost notification */
                fi
            :: else -> goto told
            fi
        }
end_asleep: /* nobody may come to notify: that is no fault */
        atomic {
            if
            :: !(on_record[me] & ME)
            :: (ME & TIMED) && (on_record[me] & ME) -> late = true /*@ deadline condition.c:sx_condition_sleep if (wake == SX_DEADLINE) { */
            :: (ME & TIMED) && (on_record[me] & ME) -> on_record[me] = 0; goto give_up /*@ stop condition.c:sx_condition_sleep if (wake == SX_STOP) { */
#ifdef BELT
            :: (asleep & ME) && QUIET && !(belted & ME) -> belted = belted | ME; asleep = asleep & ~ME; on_record[me] = 0; goto relieve /*@ belt condition.c:sx_condition_sleep if (wake == SX_BELT) */
#endif
            fi;
            asleep = asleep & ~ME;
            on_record[me] = 0
        }
        if
        :: late ->
            late = false;
            atomic {
                if
#ifdef M_LEAVES_WITHOUT_COMPARING
                :: true ->
#else
                :: record[me] == (number | WAITING) -> /*@ timeout condition.c:sx_condition_sleep if (!atomic_compare_exchange_strong_explicit(&w->record->state, &state, SX_RUNNING, memory_order_acq_rel, */
#endif
                    record[me] = RUNNING;
                    waits = waits & ~ME;
                    goto without
                :: else
                fi
            }
        :: else
        fi;
        goto sleep;
told:
        /* it is consumed when the lock is held again, or given up before */
#ifdef M_CONSUMES_BEFORE_THE_LOCK
        record[me] = RUNNING;
#endif
        if
        :: true
        :: ME & TIMED -> goto give_up
        fi;
        lock_inside(lock);
        atomic {
            record[me] = RUNNING; /*@ consume condition.c:sx_condition_consume atomic_store_explicit(&w->record->state, SX_RUNNING, memory_order_release); */
            waits = waits & ~ME;
            used++;
            assert(used + expired <= sent + twice); /*= no notification is used twice */
            got_on()
        }
        give_lock();
        goto idle;
give_up:
        atomic {
            if
            :: record[me] == (number | WAITING) -> record[me] = RUNNING; waits = waits & ~ME; goto without /*@ leave condition.c:sx_condition_leave if (sx_condition_mine(w) && !atomic_compare_exchange_strong_explicit(&w->record->state, &state, SX_RUNNING, */
            :: else -> waits = waits & ~ME; from = me; was = record[me]
            fi
        }
#ifdef M_LEAVES_SILENTLY
        record[me] = RUNNING;
        from = 0;
#else
        take_over(was, me); /*@ leave_pass condition.c:sx_condition_leave take_over(w->pause.arena, w->record, state, sx_slot_of(w->me)); */
#endif
        was = 0;
without:
        lock_inside(lock);
        got_on();
        give_lock();
        goto idle;

#ifdef BELT
        /* ---- what the dead were given and did not use --------------------------------------------------------------------------- */
relieve:
#ifndef M_NOBODY_RELIEVES
        do
        :: from < N ->
            was = record[from]; /*@ relieve condition.c:relieve uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire); */
            if
            :: (STATE(was) == NOTIFIED && life[from] == DIED) || (STATE(was) == PASSING && life[PASSER(was)] == DIED) -> /*@ of_the_dead condition.c:relieve sx_holder_examine(arena, sx_slot_id(arena, whose)) != SX_DEAD) */
                take_over(was, me); /*@ relieve_one condition.c:relieve if (take_over(arena, w, state, sx_slot_of(me))) { */
                break /* one at a time is enough here */
            :: else -> from++
            fi
        :: else -> break
        od;
#endif
        atomic { from = 0; was = 0; r = 0 }
        goto sleep
#endif
    }
#if DEATHS
    unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            number = 0; i = 0; r = 0; chosen = 0; chosen_state = 0; present = 0; horizon = 0; from = 0; was = 0;
            notified = false; late = false; mine = false
        }
    };
    /* ---- a new thread takes the slot, or nobody does ------------------------------------------------------------------------------ */
    {
        if
        :: goto done
        :: true
        fi;
        atomic { alive = alive | ME; life[me] = OWNED } /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
#ifndef M_NOTHING_IS_INHERITED
inherit:
        was = record[me]; /*@ inherit condition.c:sx_condition_inherit uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire), s = sx_wait_state(state); */
        if
        :: STATE(was) == RUNNING
        :: STATE(was) == WAITING ->
            atomic {
                if
                :: record[me] == was -> record[me] = RUNNING /*@ not_chosen condition.c:sx_condition_inherit atomic_compare_exchange_strong_explicit(&w->state, &state, SX_RUNNING, memory_order_acq_rel, */
                :: else
                fi
            }
            goto inherit
        :: STATE(was) == PASSING && PASSER(was) != me && life[PASSER(was)] == OWNED ->
            if
            :: record[me] != was -> goto inherit /*@ patience condition.c:sx_condition_inherit if (sx_now() < patience) { */
            :: goto take_it /* it has been stopped for too long */
            fi
        :: else ->
take_it:
            from = me;
            take_over(was, me); /*@ inherit_one condition.c:sx_condition_inherit take_over(arena, w, state, slot); */
            goto inherit
        fi;
        do
        :: number < N ->
            if
            :: record[number] == PASSED_BY(me) -> from = number; twice = twice + (moved & BIT(number) -> 1 : 0); moved = moved & ~BIT(number); pass_on(me) /*@ inherit_passing condition.c:sx_condition_inherit pass_on(arena, w, PASSING(slot), sx_slot_id(arena, slot)); */
            :: else
            fi;
            number++
        :: else -> number = 0; break
        od;
#endif
        record[me] = RUNNING; /*@ clear participant.c:clear_records atomic_store_explicit(&p->wait[i].state, SX_RUNNING, memory_order_relaxed); */
        atomic { generation[me]++; blocked = 0 } /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
        atomic { number = generation[me] * 16; was = 0; goto idle }
    } unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            number = 0; i = 0; r = 0; chosen = 0; chosen_state = 0; present = 0; horizon = 0; from = 0; was = 0;
            notified = false; late = false; mine = false
        }
    };
#endif
done:
    atomic {
        ended = ended | ME;
        assert(NO_NOTIFICATION_IS_LOST) /*= no lost notification */
    }
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
        kill(p, woken);
        waits = waits & ~BIT(p);
        on_record[p] = 0;
        life[p] = DIED;
        p = 0
    }
    od
}
#endif
