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
 *   id | any | LATER        held; the release sends wakes to     as without it; only the holder sets it
 *                           others too, see wait.c
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

static uint32_t now_us(void)
{
    return (uint32_t)(sx_now() / 1000);
}

static uint32_t reservation_left(struct sx_mutex *m)
{
    uint32_t age = now_us() - atomic_load_explicit(&m->reserved_us, memory_order_relaxed);
    return age < SX_RESERVATION_US ? SX_RESERVATION_US - age : 0; /* a time from the future has lapsed */
}

static bool looks_free(void *mutex)
{
    uint64_t w = atomic_load_explicit(&((struct sx_mutex *)mutex)->word, memory_order_relaxed);
    return sx_is_free(w) && !(w & MUTEX_RESERVED);
}

static void wake_one(struct sx_mutex *m)
{
    sx_wake_one(sx_low_half(&m->word), &m->wakes);
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

/* One CAS from w, which is free or names a dead id, to us. */
static bool take(struct sx_arena *arena, struct sx_mutex *m, uint64_t *w, uint64_t me, struct sx_attempt *a, bool died)
{
    uint64_t old = *w, mine = me | (old & (MUTEX_WAITERS | MUTEX_OWNER_DIED));
    if (a->slept)
        mine |= MUTEX_WAITERS;
    if (died)
        mine |= MUTEX_OWNER_DIED | MUTEX_WAITERS; /* the dead may have swallowed the bit */
    if (!atomic_compare_exchange_strong_explicit(&m->word, w, mine, memory_order_acquire, memory_order_relaxed))
        return false;
    atomic_store_explicit(&m->depth, 0, memory_order_relaxed);
    sx_tally_take(&m->tally);
    if (died)
        sx_note_death(arena, &m->cell, old & SX_ID_MASK);
    if (a->belted)
        sx_count_rescue(arena, &m->cell, &m->wakes, a, died);
    sx_landed(&m->wakes, a);
    if (a->slept) /* those who still sleep watch the life of the one before us: let one look again and watch ours */
        wake_one(m);
    return true;
}

enum sx_status sx_mutex_lock_slow(struct sx_arena *arena, struct sx_mutex *m, uint64_t me, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline};
    struct sx_attempt a = {0};
    enum sx_status status;
    /* acquire: what the word names was in place before (a slot's pages, for one) */
    uint64_t w = atomic_load_explicit(&m->word, memory_order_acquire);

    for (;;) {
        uint64_t holder = w & SX_ID_MASK;
        uint32_t life_value = 0;
        sx_a32 *life = NULL;
        int64_t bound = SX_NEVER;

        if (a.belted)
            a.lost = sx_nothing_in_flight(&m->wakes, &a);
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
            if ((a.belted && sx_examines(arena, w)) || a.final || (deadline == 0 && sx_examination_due(true)))
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
            sx_spin(&m->wakes.spin, &m->statistics.contended, looks_free, m);
            w = atomic_load_explicit(&m->word, memory_order_acquire);
            continue;
        }
        if (!(w & MUTEX_WAITERS)) {
            if (!atomic_compare_exchange_strong_explicit(&m->word, &w, w | MUTEX_WAITERS, memory_order_relaxed,
                                                         memory_order_relaxed))
                continue;
            w |= MUTEX_WAITERS;
            if (a.belted)
                sx_count_rescue(arena, &m->cell, &m->wakes, &a, false);
        }
        sx_landed(&m->wakes, &a);
        struct sx_watch watch = {life, life_value};
        sx_before_sleep(&m->wakes, &m->statistics, &a);
        enum sx_wake wake =
            sx_pause_sleep(&pause, &m->cell, sx_low_half(&m->word), (uint32_t)w, &watch, life != NULL, holder, bound);
        status = sx_after_sleep(&pause, wake, &a, &me);
        if (status != SX_OK)
            break;
        w = atomic_load_explicit(&m->word, memory_order_acquire);
    }
    if (status != SX_OK && status != SX_OWNER_DIED && a.slept) {
        leave(m);
        sx_landed(&m->wakes, &a);
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
            if (!atomic_compare_exchange_weak_explicit(&m->word, &w, flags, memory_order_release, memory_order_relaxed))
                continue;
            if (w & MUTEX_LATER)
                sx_wake_now();
            return SX_OK;
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
        atomic_fetch_add_explicit(&m->wakes.in_flight, 1, memory_order_relaxed);
        int woken = sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_ANDN, ~keep, count);
        if (woken < 0) { /* the kernel could not: two steps then, and the belt in between */
            atomic_fetch_and_explicit(sx_low_half(&m->word), keep, memory_order_release);
            woken = sx_futex_wake(sx_low_half(&m->word), count);
        }
        if (woken == 0)
            sx_missed(&m->wakes);
        if (woken == 0 && reserve) { /* for nobody: newcomers need not stand back */
            uint32_t reserved = flags | MUTEX_RESERVED;
            atomic_compare_exchange_strong_explicit(sx_low_half(&m->word), &reserved, flags, memory_order_relaxed,
                                                    memory_order_relaxed);
        }
        if (w & MUTEX_LATER)
            sx_wake_now();
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
        atomic_fetch_add_explicit(&m->statistics.recoveries, 1, memory_order_relaxed);
        atomic_store_explicit(&m->statistics.dead_pid, 0, memory_order_relaxed);
        atomic_store_explicit(&m->statistics.dead_tid, 0, memory_order_relaxed);
    }
    atomic_store(&m->word, free_word);
    atomic_store(&m->depth, 0);
    atomic_store(&m->wakes.in_flight, 0);
}

/* A mutex inside another cell: a cell of its own in all but its allocation, so that waits for it tell what it is. */
void sx_mutex_make_inside(struct sx_cell *outer, struct sx_mutex *m, enum sx_kind kind)
{
    m->cell.units = sizeof *m / SX_LINE;
    m->cell.key = outer->key;
    m->cell.created_ns = outer->created_ns;
    for (int i = 0; i < 2; i++)
        atomic_store(&m->cell.arena_id[i], atomic_load(&outer->arena_id[i]));
    atomic_store(&m->cell.lineage, atomic_load(&outer->lineage));
    atomic_store(&m->cell.tag, SX_TAG(kind));
}

/* The outer cell is bound to another arena now. */
void sx_mutex_adopt_inside(struct sx_arena *arena, struct sx_mutex *m)
{
    sx_mutex_adopt(m);
    for (int i = 0; i < 2; i++) {
        uint64_t half;
        memcpy(&half, arena->id + 8 * i, sizeof half);
        atomic_store(&m->cell.arena_id[i], half);
    }
}

bool sx_mutex_held(struct sx_arena *arena, struct sx_mutex *m)
{
    uint64_t w = atomic_load(&m->word);
    return !sx_is_free(w) && sx_holder_examine(arena, w) == SX_ALIVE;
}

void sx_mutex_look(struct sx_arena *arena, struct sx_mutex *m, struct sx_look *look)
{
    uint32_t life;
    uint64_t w = atomic_load_explicit(&m->word, memory_order_acquire);
    bool alive = !sx_is_free(w) && sx_holder_life(arena, w, &life) == SX_ALIVE;
    look->owner_died = w & MUTEX_OWNER_DIED || (!sx_is_free(w) && !alive);
    if (alive)
        look->holder(look->context, 0, w & SX_ID_MASK, SX_EXCLUSIVE_MODE);
}

/* ---- as a kind of object ------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_mutex);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)cell, (void)parameter; /* zero is a free mutex */
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    return sx_mutex_held(arena, (struct sx_mutex *)cell);
}

static void retire(struct sx_cell *cell)
{
    sx_mutex_retire((struct sx_mutex *)cell);
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_mutex *)cell)->word) & MUTEX_RETIRED;
}

static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena;
    sx_mutex_adopt((struct sx_mutex *)cell);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    sx_mutex_look(arena, (struct sx_mutex *)cell, look);
}

const struct sx_kind_operations sx_mutex_kind = {
    .size = size, .make = make, .held = held, .retire = retire, .retired = retired, .adopt = adopt, .look = look};
