/* deadlock.pml: who is the victim of a deadlock, syncx/_core/deadlock.c and wait.c.
 *
 * Each thread takes one lock and then wants another.  RING: mutexes, thread i has number i and wants the next one.  Otherwise a
 * readers-writer lock and a mutex: thread 0 has the mutex and wants to write, the others read and want the mutex; so it may be in
 * a deadlock with each of them, and in both at once.  The locks are taken for granted: here a mutex is its holder's id, a read
 * lock a mark, a release wakes all who sleep on the lock.  A wait record is its state, in the low two bits, and its number.
 *
 * Not here: time limits (such waits are never members), signal handlers that take or give locks, permits, barriers, file ranges, priorities, WAIT_REPORT,
 * locks in a user's memory.  The scan of one thread for all, on the belt, is here a look of each for itself.
 *
 *   INTERRUPTED whose waits a signal handler may end at any moment, by an exception: a mask
 *   ONCE        each takes its locks once: then nobody is awake while the last one looks, and no belt is needed
 *   DEATHS      how many are killed, anywhere; each slot is used again by a thread that wants nothing
 */
#if defined(INTERRUPTED)
#define NO_WAKE_UP_IS_LOST true /* each signal may upset a look; here it is asked for false victims alone */
#endif
#include "kernel.pml"

#ifndef INTERRUPTED
#define INTERRUPTED 0
#endif
#define STATE(r) ((r) & 3)
#define RUNNING 0
#define WAITING 1
#define AWAKE 2
#define VICTIM 3
#define STEP 4
#define READ_LOCK N        /* as a cell: the readers-writer lock */

short lock[N];             /* the words */
byte record[N];            /* wait records: the state, */
byte cell[N];              /* what is waited for, */
byte since[N];             /* when that wait began, */
byte clock;
byte on_lock[N + 1], on_record[N]; /* queues */
bit mark[N];               /* readers */

/* ghosts */
byte second;               /* who has its first lock and wants the second one */
byte given_up;             /* who has raised */
byte ended_by_one;         /* of a ring, its members; otherwise the readers whose deadlock with the writer has had its victim */

#ifdef RING
#define FIRST me
#define SECOND ((me + 1) % N)
#define FIRST_OF_ALL 0
#define TRUE_DEADLOCK(members) ((members) == ALL && second == ALL && given_up == 0)
#else
#define FIRST (me == 0 -> 0 : READ_LOCK)
#define SECOND (me == 0 -> READ_LOCK : 0)
#define FIRST_OF_ALL 1
#define TRUE_DEADLOCK(members) (((members) & ~1) != 0 && (second & (members)) == (members) && !(given_up & 1))
#endif

/* What the kernel compares: the lock, and the lives of those who have it. */
#define STILL (SECOND == READ_LOCK -> (mark[1] && life[1] == OWNED) || (mark[2] && life[2] == OWNED) : (lock[SECOND] == w && !IS_DEAD(w)))

/* A thread that somebody waits for: is it blocked?  `id` names it; `goes_on` is the answer. */
inline add(id)
{
    atomic {
        q = SLOT(id);
        if
        :: known & BIT(q) -> goes_on = !(stuck & BIT(q))
        :: !(known & BIT(q)) && IS_DEAD(id) -> goes_on = true /*@ dead deadlock.c:add if (p == NULL || g->failed || !sx_alive(g->arena, id)) */
        :: else ->
            known = known | BIT(q);
            whom[q] = id;
            state[q] = record[q]; /*@ add deadlock.c:add n->record = sx_blocking(p, &n->state, id == g->me); */
            wanted[q] = cell[q];
            if
            :: STATE(state[q]) == WAITING || (telling && q == me && STATE(state[q]) == VICTIM) -> stuck = stuck | BIT(q); goes_on = false /*@ blocking waitfor.c:sx_blocking if (now != SX_WAITING && now != SX_BEHIND && !(victim && now == SX_VICTIM)) */
            :: else -> goes_on = true
            fi
        fi
    }
}

#define MARKED(j) ((j) < N && (j) != i && mark[j])

/* Is this thread in a deadlock?  `members` are those who are. */
inline in_deadlock()
{
    atomic { known = 0; stuck = 0; asked = 0; members = 0; whole = true }
    add(ID_OF(me));
    do
    :: atomic {
        whole && (stuck & ~asked) ->
        any_of((stuck & ~asked), i);
        asked = asked | BIT(i);
        if
        :: wanted[i] == READ_LOCK -> j = 0
        :: else ->
            j = N + 1;
            holder = lock[wanted[i]]; /*@ ask_holder waitfor.c:ask_holder uint64_t w = load(&m->word); */
            if
            :: holder == 0 || SLOT(holder) == i || IS_DEAD(holder) -> holder = 0; whole = (i != me)
            :: else
            fi
        fi
    }
        if
        :: j > N ->
            if
            :: holder != 0 ->
                add(holder);
                atomic {
                    holder = 0;
                    if
                    :: goes_on && i == me -> whole = false /*@ usual deadlock.c:collect return false; */
                    :: else
                    fi
                }
            :: else
            fi
        :: else ->
            do
            :: j < N ->
                if
                :: MARKED(j) -> add(ID_OF(j)) /*@ ask_readers waitfor.c:ask_readers all = ask(g, reader.id) && all; */
                :: else
                fi;
                j++
            :: else -> break
            od;
            whole = !(i == me && (stuck & ~ME) == 0)
        fi;
        j = 0
    :: else -> break
    od;
    /* reduce: the words once more */
    atomic { out[0] = 0; out[1] = 0; out[2] = 0; i = 0; j = 0 }
    do
    :: atomic {
        whole && i < N ->
        if
        :: (stuck & BIT(i)) && wanted[i] == READ_LOCK ->
            if
            :: MARKED(j) && (stuck & BIT(j)) && whom[j] == ID_OF(j) -> out[i] = out[i] | BIT(j) /*@ link deadlock.c:link_to from->out = n->in = g->edges++; */
            :: else
            fi;
            j++;
            if
            :: j == N -> j = 0; i++
            :: else
            fi
        :: (stuck & BIT(i)) && wanted[i] != READ_LOCK ->
            holder = lock[wanted[i]]; /*@ reduce deadlock.c:reduce if (g->node[g->from].stuck && sx_gets_it(g, g->from, link_to)) { */
            if
            :: holder != 0 && SLOT(holder) != i && !IS_DEAD(holder) && (stuck & BIT(SLOT(holder))) && whom[SLOT(holder)] == holder ->
                out[i] = out[i] | BIT(SLOT(holder))
            :: else
            fi;
            holder = 0;
            i++
        :: else -> i++
        fi
    }
    :: else -> break
    od;
    atomic {
        i = 0;
        if
        :: whole ->
            /* whoever waits for nobody that is stuck goes on, and then those who wait for it; N times is enough */
            do
            :: i < N ->
                if
                :: (stuck & 1) && !(out[0] & stuck) -> stuck = stuck & ~1 /*@ not_stuck deadlock.c:reduce if (g->node[from].stuck && sx_gets_it(g, from, sx_not_stuck)) { */
                :: else
                fi;
                if
                :: (stuck & 2) && !(out[1] & stuck) -> stuck = stuck & ~2
                :: else
                fi;
                if
                :: (stuck & 4) && !(out[2] & stuck) -> stuck = stuck & ~4
                :: else
                fi;
                i++
            :: else -> i = 0; break
            od;
            /* all who are ahead of this thread wait for it in turn, or it waits for another deadlock */
            if
            :: stuck & ME ->
                ahead = ME;
                do
                :: i < N ->
                    ahead = ahead | (ahead & 1 -> out[0] & stuck : 0) | (ahead & 2 -> out[1] & stuck : 0) | (ahead & 4 -> out[2] & stuck : 0);
                    i++
                :: else -> i = 0; break
                od;
                behind = ME;
                do
                :: i < N ->
                    behind = behind | ((stuck & 1) && (out[0] & behind) -> 1 : 0) | ((stuck & 2) && (out[1] & behind) -> 2 : 0) | ((stuck & 4) && (out[2] & behind) -> 4 : 0);
                    i++
                :: else -> i = 0; break
                od;
                members = (ahead & ~behind -> 0 : ahead & behind); /*@ closed deadlock.c:closed back = !g->node[j].ahead || is_member(&g->node[j]) || g->node[j].hopeless; */
                members = (members == ME -> 0 : members)
            :: else
            fi
        :: else
        fi;
        ahead = 0; behind = 0; asked = 0; known = 0; stuck = 0; goes_on = false; whole = false;
        out[0] = 0; out[1] = 0; out[2] = 0;
        wanted[0] = 0; wanted[1] = 0; wanted[2] = 0;
        q = 0
    }
}

/* Do the records of the members say what they said?  Then there was a deadlock when this began: it is to end with one victim. */
inline holds(but)
{
    atomic { justly = TRUE_DEADLOCK(members); i = 0 }
#ifndef M_DOES_NOT_LOOK_AGAIN
    do
    :: atomic {
        i < N && members != 0 ->
            if
            :: (members & BIT(i)) && i != but && (record[i] != state[i] || IS_DEAD(whom[i])) -> members = 0 /*@ unchanged deadlock.c:unchanged state == n->state; */
            :: else
            fi;
            i++
    }
    :: else -> break
    od
#else
    skip
#endif
}

active [N] proctype Thread()
{
    byte me = _pid, i, j, q, known, stuck, asked, ahead, behind, members, victim;
    byte state[N], wanted[N], out[N];
    short whom[N], holder, w;
    bool goes_on, whole, telling, justly;

idle:
    {
        if
        :: goto done
        :: ANOTHER_TURN
        fi;
        atomic {
            if
            :: FIRST == READ_LOCK -> mark[me] = 1
            :: FIRST != READ_LOCK && lock[FIRST] == 0 -> lock[FIRST] = ID_OF(me)
            :: FIRST != READ_LOCK && lock[FIRST] != 0 -> goto idle /* the thread before it was faster: it has both by now, or it is gone */
            fi;
            second = second | ME
        }

        /* ---- wait for the second one ---------------------------------------------------------------------------------------- */
look:
        atomic {
            if
            :: SECOND == READ_LOCK ->
                if
                :: (mark[1] && life[1] == OWNED) || (mark[2] && life[2] == OWNED) -> w = 1
                :: else -> goto got
                fi
            :: else ->
                w = lock[SECOND];
                if
                :: w == 0 || IS_DEAD(w) -> lock[SECOND] = ID_OF(me); goto got
                :: else
                fi
            fi
        }
        atomic {
            if
            :: STATE(record[me]) == RUNNING ->
                cell[me] = SECOND; /*@ describe wait.c:publish describe(pause, w, cell); */
                clock++;
                since[me] = clock;
                record[me] = record[me] + STEP + WAITING /*@ publish wait.c:publish uint32_t number = pause->record == NULL ? sx_wait_number() : atomic_load(&w->state) & ~0xffu; */
            :: else -> record[me] = (record[me] & ~3) | WAITING /*@ publish_again wait.c:publish atomic_store_explicit(&w->state, SX_WAITING | number, memory_order_seq_cst); */
            fi
        }
#ifndef M_DOES_NOT_LOOK
        in_deadlock(); /*@ look deadlock.c:sx_deadlock_closed if (in_deadlock(&g, me)) { */
        holds(N); /*@ holds deadlock.c:in_deadlock return g->count == 1 && collect(g) && reduce(g) && closed(g, 0) && holds(g, 0); */
#endif
        if
        :: members == 0
        :: else ->
            /* the victim: who came last */
            atomic {
#ifdef M_VICTIM_IS_WHO_LOOKS
                victim = me;
#else
                victim = N;
                i = 0;
                do
                :: i < N ->
                    if
                    :: (members & BIT(i)) && (victim == N || since[i] > since[victim]) -> victim = i /*@ rather deadlock.c:rather return n->wait.since_ns > than->wait.since_ns; */
                    :: else
                    fi;
                    i++
                :: else -> i = 0; break
                od
#endif
            }
            atomic {
                if
                :: record[victim] == state[victim] -> /*@ claim deadlock.c:claim if (!atomic_compare_exchange_strong_explicit(&victim->record->state, &state, (state & ~0xffu) | SX_VICTIM, */
                    record[victim] = (record[victim] & ~3) | VICTIM
                :: else -> victim = N
                fi
            }
            if
            :: victim == N
            :: victim == me ->
#ifndef M_DOES_NOT_LOOK_ONCE_MORE
                holds(me); /*@ once_more deadlock.c:claim if (holds(g, me)) */
#endif
                if
                :: members != 0 -> victim = 0; goto raise
                :: else -> record[me] = state[me] /*@ take_back deadlock.c:claim atomic_store_explicit(&victim->record->state, state, memory_order_seq_cst); */
                fi
            :: else -> atomic { wake_all_of(on_record[victim]) } /*@ tell deadlock.c:claim sx_futex_wake(&victim->record->state, INT_MAX); */
            fi
        fi;
        atomic {
            members = 0; victim = 0; justly = false;
            state[0] = 0; state[1] = 0; state[2] = 0;
            whom[0] = 0; whom[1] = 0; whom[2] = 0
        }

        /* ---- sleep on the lock, the life of its holder, and the record ---------------------------------------------------------- */
        atomic {
            if
            :: STATE(record[me]) == WAITING && STILL -> /*@ sleep wait.c:sx_pause_sleep all[watched] = (struct sx_watch){&pause->record->state, (state & ~0xffu) | SX_WAITING}; */
                on_lock[SECOND] = on_lock[SECOND] | ME;
                on_record[me] = ME;
                asleep = asleep | ME;
                assert(NO_WAKE_UP_IS_LOST) /*= no lost wake-up */
            :: else
            fi
        }
        atomic {
            if
            :: !(asleep & ME) || (INTERRUPTED & ME)
#ifdef BELT
            :: (asleep & ME) && QUIET && !(belted & ME) -> belted = belted | ME /*@ belt wait.c:sx_pause_sleep if (looks && (pause->belted ? sx_deadlock_scan(pause->arena, me) : sx_deadlock_closed(pause->arena, me, first))) { */
#endif
            fi;
            asleep = asleep & ~ME;
            on_lock[SECOND] = on_lock[SECOND] & ~ME;
            on_record[me] = 0
        }
        atomic {
            if
            :: STATE(record[me]) == WAITING -> record[me] = (record[me] & ~3) | AWAKE; goto awake /*@ awake wait.c:awake !atomic_compare_exchange_weak_explicit(&w->state, &state, (state & ~0xffu) | SX_AWAKE, */
            :: else
            fi
        }
        goto victim_of_one;
awake:
        if
        :: goto look
        :: INTERRUPTED & ME -> atomic { record[me] = record[me] & ~3; got_on(); goto release } /*@ interrupted wait.c:sx_pause_interrupted atomic_store_explicit(&w->state, SX_RUNNING, memory_order_release); */
        fi;
victim_of_one:
        telling = true;
        in_deadlock(); /*@ still deadlock.c:sx_deadlock_tell if (in_deadlock(&g, me)) { */
        holds(N);
        telling = false;
#ifdef M_VICTIM_DOES_NOT_ASK
        goto raise;
#endif
        if
        :: members != 0 -> goto raise
        :: else -> record[me] = (record[me] & ~3) | AWAKE /*@ revive wait.c:revive state = pause->kept ? sx_wait_number() | SX_NOTIFIED : (state & ~0xffu) | SX_AWAKE; */
        fi;
        atomic {
            state[0] = 0; state[1] = 0; state[2] = 0;
            whom[0] = 0; whom[1] = 0; whom[2] = 0;
            goto look
        }

        /* ---- the victim gives its wait up, and with that, what it has ----------------------------------------------------------- */
raise:
        atomic {
            assert(deaths > 0 || justly); /*= no victim without a deadlock */
            members = (me == 0 || FIRST_OF_ALL == 0 -> members & ~FIRST_OF_ALL : ME); /* a reader ends its own deadlock with the writer only */
            assert(deaths > 0 || (ended_by_one & members) == 0); /*= one victim of each deadlock */
            ended_by_one = ended_by_one | members;
            given_up = given_up | ME;
            justly = false;
            members = 0; state[0] = 0; state[1] = 0; state[2] = 0; whom[0] = 0; whom[1] = 0; whom[2] = 0;
            got_on()
        }
        record[me] = record[me] & ~3; /*@ stop wait.c:sx_pause_end atomic_store_explicit(&pause->record->state, SX_RUNNING, memory_order_release); */
        goto release;
got:
        atomic {
            w = 0;
            record[me] = record[me] & ~3;
            if
            :: SECOND != READ_LOCK -> lock[SECOND] = 0; wake_all_of(on_lock[SECOND])
            :: else
            fi;
            got_on()
        }
release:
        atomic {
            second = second & ~ME;
            if
            :: FIRST == READ_LOCK -> mark[me] = 0; wake_all_of(on_lock[READ_LOCK])
            :: else -> lock[FIRST] = 0; wake_all_of(on_lock[FIRST])
            fi;
            w = 0;
            if
            :: given_up & ME -> goto done
#ifdef ONCE
            :: else -> goto done
#else
            :: else -> goto idle
#endif
            fi
        }
    }
#if DEATHS
    unless {
        atomic {
            DEAD ->
            dead = dead & ~ME;
            i = 0; j = 0; q = 0; known = 0; stuck = 0; asked = 0; ahead = 0; behind = 0; members = 0; victim = 0; holder = 0; w = 0;
            goes_on = false; whole = false; telling = false; justly = false;
            state[0] = 0; state[1] = 0; state[2] = 0;
            wanted[0] = 0; wanted[1] = 0; wanted[2] = 0;
            out[0] = 0; out[1] = 0; out[2] = 0;
            whom[0] = 0; whom[1] = 0; whom[2] = 0
        }
    };
    /* ---- a new thread takes the slot, or nobody does --------------------------------------------------------------------------- */
    if
    :: goto done
    :: true
    fi;
    life[me] = OWNED; /*@ claim participant.c:claim int r = pthread_mutex_trylock(&p->life.mutex); */
    atomic { record[me] = record[me] & ~3; mark[me] = 0 } /*@ clear participant.c:clear_records atomic_store_explicit(&p->wait[i].state, SX_RUNNING, memory_order_relaxed); */
    generation[me]++ /*@ step participant.c:register_thread atomic_store_explicit(&p->generation, generation, memory_order_seq_cst); */
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
        kill(p, woken);
        life[p] = DIED;
        on_lock[0] = on_lock[0] & ~BIT(p);
        on_lock[1] = on_lock[1] & ~BIT(p);
        on_lock[2] = on_lock[2] & ~BIT(p);
        on_lock[N] = on_lock[N] & ~BIT(p);
        on_record[p] = 0;
        second = second & ~BIT(p);
        /* who waits for it watches its life */
        if
        :: lock[0] == ID_OF(p) -> wake_all_of(on_lock[0])
        :: else
        fi;
        if
        :: lock[1] == ID_OF(p) -> wake_all_of(on_lock[1])
        :: else
        fi;
        if
        :: lock[2] == ID_OF(p) -> wake_all_of(on_lock[2])
        :: else
        fi;
        if
        :: mark[p] -> wake_all_of(on_lock[READ_LOCK])
        :: else
        fi;
        p = 0
    }
    od
}
#endif
