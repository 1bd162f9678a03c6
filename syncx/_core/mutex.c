/* mutex.c: the slow paths of the mutex.  The fast paths are in core.h.
 *
 *   word                    meaning                                  leaves it by
 *   free, no flags          nobody holds it, nobody sleeps           take: CAS by anyone
 *   free | RESERVED         left to a thread that has slept          take: CAS by one that slept, or by anyone
 *                                                                    once RESERVATION_US have passed
 *   free | OWNER_DIED       the data may be torn                     take: CAS, the mark stays in the word
 *   id                      held                                     give: CAS by the holder
 *   id | WAITERS            held, somebody may sleep                 give: FUTEX_WAKE_OP by the holder, which takes away
 *                                                                    all bits but those that stay (RETIRED may come late)
 *   id | WAITERS | RESERVED held, and being given back               the same
 *   dead id | any           its holder died                          take: CAS by anyone, adds OWNER_DIED
 *   any | RETIRED           unlinked                                 never
 *
 * Only the holder changes the slot bits of a word with a live holder; others only add WAITERS or RETIRED.
 *
 * Exclusion: a word gets an id only by a CAS from a word that was free or named a dead id, and a dead id never lives
 * again (participant.c).  No lost wake-up: a thread sleeps only on a word it saw with WAITERS, and the kernel compares
 * again; whoever frees a word with WAITERS wakes one sleeper in the same system call.  That one, and every thread
 * that has slept, takes the word with WAITERS set, since others may sleep still; or sets the bit and sleeps again;
 * or, when it leaves without the lock, sees to it (leave).  So while anybody sleeps either the word has WAITERS, or a
 * woken thread is on its way.  Death: of the holder, the kernel wakes a sleeper of its life word, which passes it on,
 * and the id in the word is dead from then on (somebody does watch the holder's life: whoever takes the word after a
 * sleep, and whoever leaves, wakes one sleeper more, who sees the new holder; after any other taking the woken thread
 * that lost the race is that one); of a woken thread on its way, the wake dies with it and the belt of
 * the next sleeper makes it good (counted in rescues).  A death anywhere else leaves a word from the table above.
 * in_flight counts wakes on their way; a belt that finds work while it is 0 has rescued somebody.
 *
 * Orderings: every taking CAS is an acquire and every giving store a release, so holders see each other's writes.
 * The CAS that sets WAITERS may be relaxed: the kernel's comparison under its bucket lock decides.
 */
#define _GNU_SOURCE
#include <string.h>

#include "core.h"

#define SPIN_MAX 50000u /* ns: about the price of a sleep and a wake between two CPUs */
#define SPIN_MIN 2000u

static uint32_t now_us(void)
{
    return (uint32_t)(sx_now() / 1000);
}

static uint32_t reservation_left(struct sx_mutex *m)
{
    uint32_t age = now_us() - atomic_load_explicit(&m->reserved_us, memory_order_relaxed);
    return age < SX_RESERVATION_US ? SX_RESERVATION_US - age : 0; /* a time from the future has lapsed */
}

/* Spins until the word looks free for us.  Returns the word last seen.
 *
 * How long is the cell's own experience, m->spin, in ns below SPIN_MAX: each success brings it a quarter of the way
 * towards SPIN_MAX, each failure takes an eighth, down to SPIN_MIN; every 32nd time it is SPIN_MAX all the same, or a
 * lock whose sections have grown shorter would never find out. */
static uint64_t spin(struct sx_mutex *m, uint64_t w)
{
    uint32_t less = atomic_load_explicit(&m->spin, memory_order_relaxed); /* 0 in a fresh cell: the most */
    uint32_t budget = less < SPIN_MAX - SPIN_MIN ? SPIN_MAX - less : SPIN_MIN, limit = budget;
    bool free = false;
    if (atomic_load_explicit(&m->contended, memory_order_relaxed) % 32 == 0)
        limit = SPIN_MAX;
    int64_t end = sx_now() + limit;
    do
        for (int i = 0; i < 16 && !free; i++) {
            w = atomic_load_explicit(&m->word, memory_order_relaxed);
            free = sx_is_free(w) && !(w & MUTEX_RESERVED);
            if (!free)
                sx_cpu_relax();
        }
    while (!free && sx_now() < end);
    budget = free ? budget + (SPIN_MAX - budget) / 4 : budget - budget / 8;
    if (SPIN_MAX - budget != less)
        atomic_store_explicit(&m->spin, SPIN_MAX - budget, memory_order_relaxed);
    return w;
}

/* A wake that found nobody asleep.  First told, then taken out of flight: a belt that ended meanwhile sees one of
 * the two. */
static void missed(struct sx_mutex *m)
{
    atomic_fetch_add_explicit(&m->missed, 1, memory_order_release);
    atomic_fetch_sub_explicit(&m->in_flight, 1, memory_order_release);
}

static void wake_one(struct sx_mutex *m)
{
    atomic_fetch_add_explicit(&m->in_flight, 1, memory_order_relaxed);
    if (sx_futex_wake(sx_low_half(&m->word), 1) == 0)
        missed(m);
}

/* Leaving without the lock.  We may have consumed a wake meant for another sleeper, and we may be the one who watched
 * the holder's life: see that the word tells of sleepers and wake the next, who takes the lock or watches. */
static void leave(struct sx_mutex *m)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    while (!sx_is_free(w) && !(w & MUTEX_WAITERS) &&
           !atomic_compare_exchange_weak_explicit(&m->word, &w, w | MUTEX_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
    wake_one(m);
}

/* What one acquire knows beside the word. */
struct attempt {
    bool slept;      /* others may sleep too: take with WAITERS, and a reservation is for us */
    bool spun;       /* since the last sleep */
    bool woken;      /* a wake is ours to hand on: in_flight counts it */
    bool belted;     /* the last sleep ended at the belt */
    bool final;      /* the deadline has passed: one look more */
    bool lost;       /* ... and then no wake was on its way to anybody, and none had found nobody asleep */
    uint32_t missed; /* wakes that found nobody, before the last sleep */
};

/* After the belt ended a sleep the word was free, or held without WAITERS.  Had a wake-up been lost?  Not if one is
 * on its way to somebody, and not if one found nobody asleep because we had just woken by ourselves.  Looked at
 * between reading the word and changing it: later a wake may have landed. */
static bool nothing_in_flight(struct sx_mutex *m, struct attempt *a)
{
    return (int32_t)atomic_load_explicit(&m->in_flight, memory_order_acquire) <= 0 &&
           atomic_load_explicit(&m->missed, memory_order_relaxed) == a->missed;
}

static void count_rescue(struct sx_arena *arena, struct sx_mutex *m, struct attempt *a, bool died)
{
    died = died || sx_dead_waiter(arena, &m->cell);
    if (!died && !a->lost)
        return;
    if (died)
        atomic_store_explicit(&m->in_flight, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->rescues, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&arena->header->rescues, 1, memory_order_relaxed);
}

static void landed(struct sx_mutex *m, struct attempt *a)
{
    if (a->woken)
        atomic_fetch_sub_explicit(&m->in_flight, 1, memory_order_relaxed);
    a->woken = false;
}

static void note_death(struct sx_arena *arena, struct sx_mutex *m, uint64_t holder)
{
    struct sx_participant *p = sx_participant(arena, holder);
    uint32_t pid = 0, tid = 0;
    if (p != NULL && atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(holder >> 32)) {
        pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
        tid = atomic_load_explicit(&p->tid, memory_order_relaxed);
    }
    atomic_store_explicit(&m->dead_pid, pid, memory_order_relaxed);
    atomic_store_explicit(&m->dead_tid, tid, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->recoveries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&arena->header->recoveries, 1, memory_order_relaxed);
}

/* One CAS from w, which is free or names a dead id, to us. */
static bool take(struct sx_arena *arena, struct sx_mutex *m, uint64_t *w, uint64_t me, struct attempt *a, bool died)
{
    uint64_t old = *w, mine = me | (old & (MUTEX_WAITERS | MUTEX_OWNER_DIED));
    if (a->slept)
        mine |= MUTEX_WAITERS;
    if (died)
        mine |= MUTEX_OWNER_DIED | MUTEX_WAITERS; /* the dead may have swallowed the bit */
    if (!atomic_compare_exchange_strong_explicit(&m->word, w, mine, memory_order_acquire, memory_order_relaxed))
        return false;
    atomic_store_explicit(&m->depth, 0, memory_order_relaxed);
    if (died)
        note_death(arena, m, old & SX_ID_MASK);
    if (a->belted)
        count_rescue(arena, m, a, died);
    landed(m, a);
    if (a->slept) /* those who still sleep watch the life of the one before us: let one look again and watch ours */
        wake_one(m);
    return true;
}

enum sx_status sx_mutex_lock_slow(struct sx_arena *arena, struct sx_mutex *m, uint64_t me, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline};
    struct attempt a = {0};
    enum sx_status status;
    /* acquire: what the word names was in place before (a slot's pages, for one) */
    uint64_t w = atomic_load_explicit(&m->word, memory_order_acquire);

    for (;;) {
        uint64_t holder = w & SX_ID_MASK;
        uint32_t life_value = 0;
        sx_a32 *life = NULL;
        int64_t bound = SX_NEVER;

        if (a.belted)
            a.lost = nothing_in_flight(m, &a);
        if (w & MUTEX_RETIRED && holder != me) {
            status = SX_RETIRED;
            break;
        }
        if (sx_is_free(w)) {
            uint32_t left = w & MUTEX_RESERVED && !a.slept ? reservation_left(m) : 0;
            if (left == 0) {
                if (!take(arena, m, &w, me, &a, false))
                    continue;
                status = w & MUTEX_OWNER_DIED ? SX_OWNER_DIED : SX_OK;
                break;
            }
            bound = sx_now() + (int64_t)left * 1000;
        } else {
            if (holder == me && deadline == SX_NEVER) {
                status = SX_DEADLOCK;
                break;
            }
            if (a.belted || a.final || (deadline == 0 && sx_examination_due(true)))
                sx_holder_examine(arena, w);
            enum sx_life seen = sx_holder_life(arena, w, &life_value);
            if (seen != SX_ALIVE &&
                !sx_cell_is_ours(arena, &m->cell)) { /* the id is another arena's: it says nothing here */
                status = SX_RETIRED;
                break;
            }
            if (seen == SX_DEAD) {
                if (!take(arena, m, &w, me, &a, true))
                    continue;
                status = SX_OWNER_DIED;
                break;
            }
            if (seen == SX_IMPOSSIBLE) {
                status = SX_DAMAGED;
                break;
            }
            life = sx_life_word(sx_participant(arena, w));
        }
        if (deadline == 0 || a.final) {
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
            break;
        }
        if (!a.spun && holder != me && sx_spinning_pays()) {
            a.spun = true;
            sx_pause_block(&pause);
            w = spin(m, w);
            continue;
        }
        if (!(w & MUTEX_WAITERS)) {
            if (!atomic_compare_exchange_strong_explicit(&m->word, &w, w | MUTEX_WAITERS, memory_order_relaxed,
                                                         memory_order_relaxed))
                continue;
            w |= MUTEX_WAITERS;
            if (a.belted)
                count_rescue(arena, m, &a, false);
        }
        landed(m, &a);
        if (!a.slept)
            atomic_fetch_add_explicit(&m->contended, 1, memory_order_relaxed);
        a.belted = false;
        a.missed = atomic_load_explicit(&m->missed, memory_order_relaxed);
        enum sx_wake wake =
            sx_pause_sleep(&pause, &m->cell, sx_low_half(&m->word), (uint32_t)w, life, life_value, holder, bound);
        a.slept = true;
        a.spun = false;
        a.woken = wake == SX_WOKEN;
        a.belted = wake == SX_BELT;
        a.final = wake == SX_DEADLINE;
        status = wake == SX_STOP ? SX_INTERRUPTED : SX_OK;
        if (status != SX_OK)
            break;
        if (pause.me == NULL) { /* handlers ran: we may be a forked child by now */
            status = sx_identity(arena, &me);
            if (status != SX_OK)
                break;
        }
        w = atomic_load_explicit(&m->word, memory_order_acquire);
    }
    if (status != SX_OK && status != SX_OWNER_DIED && a.slept) {
        leave(m);
        landed(m, &a);
    }
    sx_pause_end(&pause);
    return status;
}

enum sx_status sx_mutex_unlock_slow(struct sx_mutex *m, uint64_t me, bool keep_mark)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    for (;;) {
        if ((w & SX_ID_MASK) != me)
            return SX_NOT_OWNER;
        uint32_t flags = (uint32_t)w & (MUTEX_RETIRED | (keep_mark ? MUTEX_OWNER_DIED : 0));
        if (!(w & MUTEX_WAITERS)) {
            if (atomic_compare_exchange_weak_explicit(&m->word, &w, flags, memory_order_release, memory_order_relaxed))
                return SX_OK;
            continue;
        }
        int count = flags & MUTEX_RETIRED ? INT_MAX : 1;
        uint32_t now = now_us();
        bool reserve =
            count == 1 && now - atomic_load_explicit(&m->reserved_us, memory_order_relaxed) >= SX_RESERVATION_US;
        if (reserve) { /* in the held word already, where it means nothing yet */
            atomic_store_explicit(&m->reserved_us, now, memory_order_relaxed);
            atomic_fetch_or_explicit(sx_low_half(&m->word), MUTEX_RESERVED, memory_order_relaxed);
        }
        /* Keeps RETIRED, which may have come since we looked, and takes everything else away but what was said. */
        uint32_t keep = MUTEX_RETIRED | (reserve ? MUTEX_RESERVED : 0) | (keep_mark ? MUTEX_OWNER_DIED : 0);
        atomic_fetch_add_explicit(&m->in_flight, 1, memory_order_relaxed);
        int woken = sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_ANDN, ~keep, count);
        if (woken < 0) { /* the kernel could not: two steps then, and the belt in between */
            atomic_fetch_and_explicit(sx_low_half(&m->word), keep, memory_order_release);
            woken = sx_futex_wake(sx_low_half(&m->word), count);
        }
        if (woken == 0)
            missed(m);
        if (woken == 0 && reserve) { /* for nobody: newcomers need not stand back */
            uint32_t reserved = flags | MUTEX_RESERVED;
            atomic_compare_exchange_strong_explicit(sx_low_half(&m->word), &reserved, flags, memory_order_relaxed,
                                                    memory_order_relaxed);
        }
        return SX_OK;
    }
}

/* Unlinked: from now on every acquire is refused, and whoever sleeps is woken to be told.  One system call, so a
 * death leaves either nothing done or all of it. */
void sx_mutex_retire(struct sx_mutex *m)
{
    if (sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_OR, MUTEX_RETIRED, INT_MAX) < 0) {
        atomic_fetch_or(&m->word, MUTEX_RETIRED);
        sx_futex_wake(sx_low_half(&m->word), INT_MAX);
    }
}

bool sx_mutex_mark(struct sx_mutex *m, uint64_t me)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    return (w & SX_ID_MASK) == me && w & MUTEX_OWNER_DIED;
}

/* By the holder, who has repaired the data or does not care. */
void sx_mutex_clear_mark(struct sx_mutex *m, uint64_t me)
{
    if (sx_mutex_mark(m, me))
        atomic_fetch_and_explicit(&m->word, ~(uint64_t)MUTEX_OWNER_DIED, memory_order_relaxed);
}

/* The arena that a cell in the user's memory named is gone: so is its holder, if it had one.  Runs under the lock
 * of the new arena, before the cell is bound to it; repeated if it is cut short. */
void sx_mutex_adopt(struct sx_mutex *m)
{
    uint64_t w = atomic_load(&m->word), free_word = w & MUTEX_OWNER_DIED;
    if (!sx_is_free(w)) {
        free_word |= MUTEX_OWNER_DIED;
        atomic_fetch_add_explicit(&m->recoveries, 1, memory_order_relaxed);
        atomic_store_explicit(&m->dead_pid, 0, memory_order_relaxed);
        atomic_store_explicit(&m->dead_tid, 0, memory_order_relaxed);
    }
    atomic_store(&m->word, free_word);
    atomic_store(&m->depth, 0);
    atomic_store(&m->in_flight, 0);
}
