/* participants.pml: slots of threads and of processes, syncx/_core/participant.c and process.c.
 *
 * N processes with one thread each share SLOTS slots.  A life word is the owner's tid with TOLD (FUTEX_WAITERS), or DIED, or 0.
 * Each process has a slot of its own, with a generation, and a byte that the kernel gives back some time after its death.  A
 * thread ends by leaving, or is killed; a new process comes then, with a tid that nobody had before (see M_TID_COMES_AGAIN).
 *
 * Not here: processes of several threads (whoever looks for a process's other threads finds none), fork, what a namespace hides, reboots, who sleeps on a life word (mutex.pml).
 *
 *   SLOTS       1 or 2
 *   TURNS       how often somebody registers
 *   EXAMINERS   who asks the second witness when there is no slot; JUDGES: who asks for a process then
 *   DEATHS      how many are killed, anywhere
 *   UNMARKED    the kernel may leave the mark of a death out
 */
#include "kernel.pml"

#ifndef EXAMINERS
#define EXAMINERS 0
#endif
#ifndef JUDGES
#define JUDGES 0
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#define NOT_A_SLOT SLOTS
#define TID 7
#define TOLD 8
#define DIED_FLAG 16
#define OWNED_BY_ONE(word) (((word) & TID) != 0 && !((word) & DIED_FLAG))

byte word[SLOTS];          /* the life words */
byte uses[SLOTS] = 1;      /* generations */
byte record[SLOTS];        /* of whom it tells: process + 1 */
byte record_generation[SLOTS];
byte record_tid[SLOTS];
byte process_generation[N] = 1;
byte process_dead[N];      /* the last generation that was seen dead */
byte process_there = ALL;  /* pid is not 0 */
byte bytes = ALL;          /* who holds its byte */

/* ghosts */
byte living = ALL;         /* processes */
byte owner[SLOTS] = N;     /* who has the life lock, if it lives */
byte reaper[SLOTS] = N;    /* who passes on what the dead have left */
byte issued[SLOTS] = 1;    /* the last generation that was given to a thread */
byte tids = N;
byte closing;              /* the dead whose files are still open */

active [N] proctype Thread()
{
    byte me = _pid, tid = _pid + 1, slot = NOT_A_SLOT, i, seen, use, whose, whose_generation, tried;
    bool is_dead, again;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;

        /* ---- find a slot and claim it --------------------------------------------------------------------------------- */
        atomic {
            tried = 0;
            if
            :: slot = 0 /*@ rotating participant.c:find_slot uint32_t first = ready == 0 ? 0 : atomic_fetch_add_explicit(&h->next_participant, 1, memory_order_relaxed); */
#if SLOTS > 1
            :: slot = 1
#endif
            fi
        }
try:
        seen = word[slot]; /*@ read_life participant.c:claim uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_relaxed); */
#ifdef M_REAPS_BEFORE_IT_CLAIMS
        if
        :: seen & DIED_FLAG ->
            atomic {
                assert(reaper[slot] == N); /*= one reaper */
                reaper[slot] = me
            }
            reaper[slot] = N
        :: else
        fi;
#endif
#ifndef M_CLAIMS_THE_OWNED
        if
        :: OWNED_BY_ONE(seen) -> seen = 0; goto next
        :: else
        fi;
#endif
        atomic {
            if
#ifdef M_CLAIMS_THE_OWNED
            :: true ->
#else
            :: !OWNED_BY_ONE(word[slot]) -> /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
#endif
                assert(owner[slot] == N); /*= one owner */
                is_dead = (word[slot] & DIED_FLAG) != 0;
                word[slot] = tid | (word[slot] & TOLD);
                owner[slot] = me;
                seen = 0
            :: else -> seen = 0; goto next
            fi
        }
        if
        :: !is_dead
        :: is_dead ->
            atomic {
                assert(reaper[slot] == N); /*= one reaper */
                reaper[slot] = me;
                whose = record[slot] /*@ whose participant.c:claim sx_process_note_death(arena, p); */
            }
            whose_generation = record_generation[slot]; /*@ note_read process.c:sx_process_note_death uint32_t generation = atomic_load_explicit(&thread->process_generation, memory_order_relaxed); */
            if
            :: whose == 0 || whose - 1 == me /*@ note_nobody process.c:sx_process_note_death if (p == NULL || process - 1 == arena->process) */
            :: else ->
                if
                :: process_generation[whose - 1] == whose_generation -> /*@ note process.c:sx_process_note_death atomic_store_explicit(&p->dead, generation, memory_order_release); */
                    atomic {
                        process_dead[whose - 1] = whose_generation;
                        assert(!(living & BIT(whose - 1)) || process_generation[whose - 1] != whose_generation) /*= the living are not taken for dead */
                    }
                :: else
                fi
            fi;
            atomic { whose = 0; whose_generation = 0; reaper[slot] = N; is_dead = false } /*@ inherit participant.c:claim sx_condition_inherit(arena, p, true); */
        fi;
#ifndef M_OLD_RECORD_STAYS
        record[slot] = 0; /*@ unrecord participant.c:claim atomic_store_explicit(&p->process, 0, memory_order_seq_cst); */
#endif

        /* ---- register ----------------------------------------------------------------------------------------------------- */
#ifdef M_SAME_GENERATION
        use = (word[slot] & TOLD -> uses[slot] : uses[slot] + 1);
#else
        use = uses[slot] + 1; /*@ next_generation participant.c:register_thread uint32_t generation = old + 1 == 0 ? 1 : old + 1; */
#endif
        atomic {
            uses[slot] = use; /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
            assert(issued[slot] < use); /*= an id is one thread's */
            issued[slot] = use;
            use = 0
        }
        word[slot] = word[slot] | TOLD; /*@ told participant.c:register_thread atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst); */
        record_tid[slot] = tid; /*@ tid participant.c:register_thread atomic_store_explicit(&p->tid, (uint32_t)tid, memory_order_relaxed); */
        record_generation[slot] = process_generation[me]; /*@ record_generation participant.c:register_thread atomic_store_explicit(&p->process_generation, arena->process_generation, memory_order_relaxed); */
        record[slot] = me + 1; /*@ record participant.c:register_thread atomic_store_explicit(&p->process, arena->process + 1, memory_order_release); */

        /* ---- registered: nobody takes us for dead; leave in good order, at any time ----------------------------------------- */
        assert(owner[slot] == me && issued[slot] == uses[slot]); /*= one owner */
#ifndef M_LEAVES_ITS_RECORD
        record[slot] = 0; /*@ leave_record participant.c:give_back atomic_store_explicit(&p->process, 0, memory_order_release); */
#endif
        atomic {
            assert(word[slot] == (tid | TOLD)); /*= the living are not taken for dead */
            word[slot] = 0; /*@ leave participant.c:give_back pthread_mutex_unlock(&p->life.mutex); */
            owner[slot] = N;
            slot = NOT_A_SLOT;
            goto idle
        };

        /* ---- the slot is another's ------------------------------------------------------------------------------------------ */
next:
        atomic {
            slot = (slot + 1) % SLOTS;
            tried++;
            if
            :: tried < SLOTS -> goto try
            :: else -> tried = 0; slot = NOT_A_SLOT; i = 0
            fi
        }
        /* full: is one of them dead without the mark?  Or: is that process dead? */
        if
        :: JUDGES & ME -> goto judge
        :: EXAMINERS & ME
        :: !((JUDGES | EXAMINERS) & ME) -> goto idle
        fi;
examine:
        atomic {
            if
            :: i = 0
#if SLOTS > 1
            :: i = 1
#endif
            fi
        }
        use = uses[i]; /*@ slot_id core.h:sx_slot_id uint64_t generation = atomic_load_explicit(&arena->participants[slot].generation, memory_order_acquire); */
        seen = word[i]; /*@ seen participant.c:sx_holder_life uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_acquire); */
        if
        :: uses[i] != use || !OWNED_BY_ONE(seen) -> goto examined /*@ not_alive participant.c:sx_holder_examine if (seen != SX_ALIVE) */
        :: else
        fi;
        whose = record[i]; /*@ process participant.c:sx_holder_examine uint32_t process = atomic_load_explicit(&p->process, memory_order_acquire); */
        if
#ifndef M_PREDECESSORS_RECORD
        :: (seen & TID) != record_tid[i] -> goto examined /*@ other_tid participant.c:thread_gone if ((life & FUTEX_TID_MASK) != atomic_load_explicit(&p->tid, memory_order_acquire)) */
#endif
        :: whose == 0 -> goto examined /*@ registering participant.c:thread_gone return false; */
        :: else
        fi;
        whose_generation = record_generation[i]; /*@ process_alive participant.c:thread_gone if (!sx_process_alive(arena, process, atomic_load_explicit(&p->process_generation, memory_order_relaxed))) */
        if
        :: whose - 1 != me && process_generation[whose - 1] != whose_generation /*@ other_process process.c:sx_process_alive if (atomic_load_explicit(&p->generation, memory_order_acquire) != generation || */
        :: whose - 1 != me && process_generation[whose - 1] == whose_generation && !(bytes & BIT(whose - 1)) /*@ byte process.c:sx_process_alive if (lock_byte(arena, F_OFD_GETLK, F_WRLCK, 1 + slot, &l) != 0) */
        :: else -> goto examined
        fi;
        if
#ifdef M_VERDICT_ON_ANOTHER
        :: true
#else
        :: uses[i] == use && record[i] == whose /*@ same participant.c:sx_holder_examine if (atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(holder >> 32) && */
        :: else -> goto examined
#endif
        fi;
        atomic {
            if
#ifdef M_MARKS_WITHOUT_COMPARING
            :: true ->
#else
            :: word[i] == seen -> /*@ mark participant.c:mark_dead if (atomic_compare_exchange_strong(sx_life_word(p), &life, dead)) */
#endif
                word[i] = (seen & TOLD) | DIED_FLAG;
                assert(owner[i] == N) /*= the living are not taken for dead */
            :: else
            fi
        }
examined:
        atomic { i = 0; use = 0; seen = 0; whose = 0; whose_generation = 0; goto idle };

        /* ---- a process, by words alone -------------------------------------------------------------------------------------- */
judge:
        atomic {
            if
            :: whose = (me + 1) % N + 1
            :: whose = (me + 2) % N + 1
            fi;
            whose_generation = process_generation[whose - 1]; /* what a permit's word says */
            i = 0
        }
        if
        :: process_dead[whose - 1] == whose_generation -> is_dead = true; goto judged /*@ known_dead process.c:sx_process_life atomic_load_explicit(&p->dead, memory_order_acquire) == generation || */
        :: else
        fi;
thread_of:
        use = uses[i]; /*@ use process.c:thread_of uint32_t use = atomic_load_explicit(&t->generation, memory_order_acquire); */
        if
        :: record[i] != whose -> goto next_thread /*@ its_thread process.c:thread_of if (atomic_load_explicit(&t->process, memory_order_acquire) != slot + 1 || */
        :: else
        fi;
        if
        :: record_generation[i] != whose_generation -> goto next_thread /*@ its_generation process.c:thread_of atomic_load_explicit(&t->process_generation, memory_order_relaxed) != generation) */
        :: else
        fi;
        tried = record_tid[i]; /*@ its_tid process.c:thread_of uint32_t tid = atomic_load_explicit(&t->tid, memory_order_relaxed); */
        seen = word[i]; /*@ its_life process.c:thread_of *life = atomic_load_explicit(sx_life_word(t), memory_order_acquire); */
#ifndef M_RECORD_NOT_LOOKED_AT_AGAIN
        if
        :: record[i] != whose -> goto next_thread /*@ same_record process.c:thread_of if (atomic_load_explicit(&t->process, memory_order_acquire) != slot + 1 || */
        :: else
        fi;
#endif
#ifndef M_SLOT_NOT_LOOKED_AT_AGAIN
        if
        :: uses[i] != use -> goto next_thread /*@ same_use process.c:thread_of atomic_load_explicit(&t->generation, memory_order_acquire) != use) */
        :: else
        fi;
#endif
        if
        :: seen & DIED_FLAG -> is_dead = true /*@ its_mark process.c:sx_process_life marked |= state == MARKED; */
        :: !(seen & DIED_FLAG) && (seen & TID) != 0 && (seen & TID) == tried -> is_dead = false; goto judged /*@ its_owner process.c:sx_process_life if (state == LIVING) { */
        :: else
        fi;
next_thread:
        if
        :: i + 1 < SLOTS -> i++; goto thread_of
        :: i + 1 == SLOTS && is_dead -> process_dead[whose - 1] = whose_generation /*@ marked process.c:sx_process_life atomic_store_explicit(&p->dead, generation, memory_order_release); */
        :: else
        fi;
judged:
        atomic {
            assert(!is_dead || !(living & BIT(whose - 1)) || process_generation[whose - 1] != whose_generation); /*= the living are not taken for dead */
            i = 0; use = 0; seen = 0; whose = 0; whose_generation = 0; tried = 0; is_dead = false;
            goto idle
        }
    } unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            slot = NOT_A_SLOT; i = 0; seen = 0; use = 0; whose = 0; whose_generation = 0; tried = 0; is_dead = false
        }
    };

    /* ---- a new process attaches, or none ---------------------------------------------------------------------------------- */
    if
    :: goto done
    :: atomic {
        !(closing & ME) -> /*@ attach process.c:sx_process_attach if (lock_byte(arena, F_OFD_SETLK, F_WRLCK, 1 + slot, NULL) != 0) { */
        process_generation[me]++; /*@ attach_step process.c:sx_process_attach atomic_store_explicit(&p->generation, generation, memory_order_release); */
        bytes = bytes | ME;
        living = living | ME;
        alive = alive | ME;
#ifndef M_TID_COMES_AGAIN
        tids++;
        tid = tids;
#endif
        goto idle
    }
    fi;
done:
    ended = ended | ME
}

active proctype Killer()
{
    byte p;
end:
    do
    :: atomic {
        deaths < DEATHS && (alive & ~ended) ->
        any_of((alive & ~ended), p);
        deaths++;
        alive = alive & ~BIT(p);
        living = living & ~BIT(p);
        dead = dead | BIT(p);
        closing = closing | BIT(p);
        if
#ifdef UNMARKED
        :: true
#endif
        :: true ->
            if
            :: owner[0] == p -> word[0] = (word[0] & TOLD) | DIED_FLAG
            :: else
            fi
#if SLOTS > 1
            ;
            if
            :: owner[1] == p -> word[1] = (word[1] & TOLD) | DIED_FLAG
            :: else
            fi
#endif
        fi;
        if
        :: owner[0] == p -> owner[0] = N; reaper[0] = N
        :: else
        fi;
#if SLOTS > 1
        if
        :: owner[1] == p -> owner[1] = N; reaper[1] = N
        :: else
        fi;
#endif
        p = 0
    }
    :: atomic {
        closing != 0 -> /* its files, and with them its byte */
        any_of(closing, p);
        closing = closing & ~BIT(p);
        bytes = bytes & ~BIT(p);
        p = 0
    }
    od
}
