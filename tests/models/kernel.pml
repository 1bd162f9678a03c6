/* kernel.pml: what the models have in common: futex queues, time, and death.
 *
 * A queue is a mask of the threads on it.  A wake takes any sleeper, which is more than the kernel's order (first come, first
 * served, real-time threads before): what holds for any order holds for that one.  `asleep` are those whom nothing but a wake
 * can wake: neither a time limit, nor a reservation that lapses, nor a signal.
 *
 * Time.  A time limit may come at any moment.  The belt is long, so it comes last: when every thread is asleep or has ended
 * (QUIET), each sleeper's belt ends once, in any order; `belted` are those whose belt has ended since somebody got on.  If all
 * of them have looked and nobody got on, a wake-up is lost: STUCK.  After a death some belts (EARLY) may end at any moment too,
 * to race with everything else.  `blocked` are those who wait for a mutex inside the object, which is verified by itself in
 * mutex.pml and taken for granted elsewhere: whoever wants it gets it once it is free or its holder is dead.
 *
 * Death.  `dead` are those who were killed and have not been succeeded; each thread's code stands in `{ } unless { DEAD }`, so
 * it can die before every statement that is not inside `atomic`.  What is inside one `atomic` is one access to shared memory (or
 * one system call), with what the thread does for itself and with what is written down for the properties alone ("ghosts"): a
 * death between two such things is the same as one before or after them.
 */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef EARLY
#define EARLY 0
#endif
#define BIT(p) (1 << (p))
#define ALL ((1 << N) - 1)
#define ME BIT(me)
#define DEAD (dead & ME)

byte dead, asleep, blocked, ended, belted, deaths;
#if EARLY
byte early = EARLY;
#endif

#define QUIET ((asleep | blocked | ended) == ALL)
#ifdef BELT
#define STUCK (QUIET && (asleep | blocked) != 0 && (asleep & ~belted) == 0)
#else
#define STUCK (QUIET && (asleep | blocked) != 0)
#endif
/* To be asserted wherever a thread falls asleep or ends: nothing else makes STUCK true. */
#ifndef NO_WAKE_UP_IS_LOST
#define NO_WAKE_UP_IS_LOST !STUCK
#endif

inline got_on() { belted = 0 }

inline wake_one_of(queue, woken)
{
    if
    :: queue & 1 -> queue = queue & 14; asleep = asleep & 14; woken = 1
    :: queue & 2 -> queue = queue & 13; asleep = asleep & 13; woken = 1
#if N > 2
    :: queue & 4 -> queue = queue & 11; asleep = asleep & 11; woken = 1
#endif
#if N > 3
    :: queue & 8 -> queue = queue & 7; asleep = asleep & 7; woken = 1
#endif
    :: queue == 0 -> woken = 0
    fi
}

inline wake_all_of(queue)
{
    asleep = asleep & ~queue;
    queue = 0
}

/* Any one of the threads of a mask that is not empty. */
inline any_of(mask, p)
{
    if
    :: mask & 1 -> p = 0
    :: mask & 2 -> p = 1
#if N > 2
    :: mask & 4 -> p = 2
#endif
#if N > 3
    :: mask & 8 -> p = 3
#endif
    fi
}

/* How many operations all threads begin together; without TURNS there is no limit.  Each may end after any of its own. */
#ifdef TURNS
byte turns;
#define ANOTHER_TURN atomic { turns < TURNS -> turns++ }
#else
#define ANOTHER_TURN true
#endif

/* A participant's slot, and ids: slot + 1 in the low three bits, the generation in the high byte.  A life word is OWNED or DIED:
 * two threads that own it one after the other have the same value in it, as if thread ids came again at once, so the comparison
 * of the kernel is of the least use. */
#define OWNED 0
#define DIED 1
#define NOBODY N
#define ID_OF(p) ((generation[p] << 8) | ((p) + 1))
#define SLOT(w) (((w) & 7) - 1)
#define GENERATION(w) ((w) >> 8)
#define IS_DEAD(id) (life[SLOT(id)] == DIED || generation[SLOT(id)] != GENERATION(id))

bit life[N];
byte generation[N] = 1;
byte watching[N];      /* the queues of the life words */
byte alive = ALL;      /* ghost: who has its life lock */

/* Of the kernel, when a thread has been killed: it is on no queue, its life word is marked, and one who sleeps on that wakes. */
inline kill(p, woken)
{
    deaths++;
    alive = alive & ~BIT(p);
    dead = dead | BIT(p);
    asleep = asleep & ~BIT(p);
    blocked = 0; /* who waits for a mutex inside looks again */
    watching[0] = watching[0] & ~BIT(p);
    watching[1] = watching[1] & ~BIT(p);
#if N > 2
    watching[2] = watching[2] & ~BIT(p);
#endif
#if N > 3
    watching[3] = watching[3] & ~BIT(p);
#endif
    belted = 0
}

/* Several lives at once: `lives` is a mask. */
#define ONE_HAS_DIED(lives) (((lives) & 1) && life[0] == DIED || ((lives) & 2) && life[1] == DIED || MORE_HAVE_DIED(lives))
#if N == 2
#define MORE_HAVE_DIED(lives) false
#elif N == 3
#define MORE_HAVE_DIED(lives) (((lives) & 4) && life[2] == DIED)
#else
#define MORE_HAVE_DIED(lives) (((lives) & 4) && life[2] == DIED || ((lives) & 8) && life[3] == DIED)
#endif
#define WOKEN_BY(p, lives) (((lives) & BIT(p)) && !(watching[p] & ME))
#if N == 2
#define WOKEN_BY_LIFE(lives) (WOKEN_BY(0, lives) || WOKEN_BY(1, lives))
#elif N == 3
#define WOKEN_BY_LIFE(lives) (WOKEN_BY(0, lives) || WOKEN_BY(1, lives) || WOKEN_BY(2, lives))
#else
#define WOKEN_BY_LIFE(lives) (WOKEN_BY(0, lives) || WOKEN_BY(1, lives) || WOKEN_BY(2, lives) || WOKEN_BY(3, lives))
#endif
#define WATCH_ONE(p, lives) watching[p] = watching[p] | (((lives) & BIT(p)) != 0 -> ME : 0)
#define UNWATCH_ONE(p) watching[p] = watching[p] & ~ME
#define PASS_ON_ONE(p, lives) if :: ((lives) & BIT(p)) && life[p] == DIED -> wake_all_of(watching[p]) :: else fi

inline watch(lives)
{
    WATCH_ONE(0, lives);
    WATCH_ONE(1, lives);
#if N > 2
    WATCH_ONE(2, lives);
#endif
#if N > 3
    WATCH_ONE(3, lives);
#endif
    skip
}

inline unwatch_all()
{
    UNWATCH_ONE(0);
    UNWATCH_ONE(1);
#if N > 2
    UNWATCH_ONE(2);
#endif
#if N > 3
    UNWATCH_ONE(3);
#endif
    skip
}

inline pass_on_deaths(lives)
{
    PASS_ON_ONE(0, lives);
    PASS_ON_ONE(1, lives);
#if N > 2
    PASS_ON_ONE(2, lives);
#endif
#if N > 3
    PASS_ON_ONE(3, lives);
#endif
    skip
}

/* A sleep on a word and on lives is over: `why` it may be. */
#ifdef BELT
#define BELT_ENDS ((asleep & ME) && QUIET && !(belted & ME))
#endif

/* A mutex inside an object, as mutex.pml has shown it to be: the word is its holder's id, or 0. */
#define TO_BE_HAD(word) ((word) == 0 || IS_DEAD(word))

inline lock_inside(word)
{
    do
    :: atomic { TO_BE_HAD(word) -> word = ID_OF(me); blocked = blocked & ~ME; break }
    :: atomic { !TO_BE_HAD(word) && !(blocked & ME) -> blocked = blocked | ME; assert(NO_WAKE_UP_IS_LOST) } /*= no lost wake-up */
    od
}
