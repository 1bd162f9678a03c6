/* crowd.c: the belt where many threads wait.
 *
 * A waiter looks around every tenth of a second, for the sake of wake-ups that a death swallowed.  A thousand of them would
 * be busy with that.  But one can look for all: whoever's belt ends looks at what each waits for, as it would itself, and
 * ends the belt of those who would find something (a nudge).  So where more than SX_CROWD threads wait, each sleeps longer
 * the more there are, up to seconds, by chance of different length, and some belt still ends every few milliseconds.
 *
 * It takes part who waits for a mutex of the arena for ever, and runs no signal handlers; all others keep their own belts.
 * What the kernel left unmarked (participant.c) is asked for by process, of 64 processes at a time; each holder by itself
 * seldom.  If a crowd dies all at once, those who are left have their long belts still: a wake-up that died with it comes
 * up to SX_LONG_BELT_NS late.
 */
#define _GNU_SOURCE
#include <string.h>

#include "deadlock.h"

#define SX_CROWD 32u
#define SX_LONG_BELT_NS 4000000000LL
#define SX_SELDOM_MS 20000u /* a holder is examined at each belt where there is no crowd */
#define SX_ASKED 64u        /* processes at a time */
#define SX_NUDGES 8

static uint32_t crowd(struct sx_arena *arena, int64_t now)
{
    uint64_t counted = atomic_load_explicit(&arena->header->scanned_ns, memory_order_relaxed);
    /* nobody has counted for a while: they are few; nor has anybody who says that he did it later than now */
    if ((uint64_t)now - counted > 5 * SX_BELT_NS)
        return 0;
    return atomic_load_explicit(&arena->header->crowd, memory_order_relaxed);
}

static bool takes_part(struct sx_wait *w)
{
    uint32_t kind = atomic_load_explicit(&w->kind, memory_order_relaxed);
    return (kind == SX_KIND_MUTEX || kind == SX_KIND_RLOCK || kind == SX_KIND_GUARD) &&
           atomic_load_explicit(&w->cell, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&w->deadline_ns, memory_order_relaxed) == (uint64_t)SX_NEVER;
}

/* How long the belt of a thread is that is about to sleep. */
int64_t sx_belt_of(struct sx_arena *arena, uint64_t me, struct sx_wait *w, int64_t now)
{
    uint32_t many = crowd(arena, now);
    if (many <= SX_CROWD || atomic_load_explicit(&sx_no_waitv, memory_order_relaxed) || sx_hostless || !takes_part(w) ||
        sx_host.handles())
        return SX_BELT_NS;
    int64_t mean = (int64_t)SX_BELT_NS * many / SX_CROWD;
    if (mean > SX_LONG_BELT_NS * 2 / 3)
        mean = SX_LONG_BELT_NS * 2 / 3;
    uint32_t chance = ((uint32_t)(now >> 8) ^ (uint32_t)me) * 2654435761u >> 16; /* from 0 to 65535 */
    return mean / 2 + mean * chance / 65536;
}

/* So often one looks for all: in a crowd some belt ends all the time. */
uint64_t sx_scan_interval(struct sx_arena *arena)
{
    return atomic_load_explicit(&arena->header->crowd, memory_order_relaxed) > SX_CROWD ? 2 * SX_BELT_NS
                                                                                        : SX_BELT_NS / 2;
}

/* At the end of its belt: should a thread ask the second witness whether that holder lives? */
bool sx_examines(struct sx_arena *arena, uint64_t holder)
{
    int64_t now = sx_now();
    struct sx_participant *p = sx_participant(arena, holder);
    if (p == NULL || crowd(arena, now) <= SX_CROWD)
        return true;
    uint32_t ms = (uint32_t)(now / 1000000), last = atomic_load_explicit(&p->examined_ms, memory_order_relaxed);
    if (ms - last < SX_SELDOM_MS)
        return false;
    atomic_store_explicit(&p->examined_ms, ms, memory_order_relaxed);
    return true;
}

/* Has somebody ended this thread's belt? */
bool sx_nudged(struct sx_arena *arena, uint64_t me)
{
    struct sx_participant *p = sx_participant(arena, me);
    return p != NULL && atomic_load_explicit(&p->nudged, memory_order_relaxed) != 0 &&
           atomic_exchange_explicit(&p->nudged, 0, memory_order_relaxed) != 0;
}

/* ---- the look for all ------------------------------------------------------------------------------------------- */

struct round {
    struct sx_arena *arena;
    uint32_t stride, turn; /* which processes are asked this time */
    uint8_t asked[SX_MAX_PROCESSES / 8];
};

static bool holder_lives(struct round *r, uint64_t holder)
{
    uint32_t life;
    if (sx_holder_life(r->arena, holder, &life) != SX_ALIVE)
        return false;
    struct sx_participant *p = sx_participant(r->arena, holder);
    uint32_t process = atomic_load_explicit(&p->process, memory_order_acquire);
    uint32_t generation = atomic_load_explicit(&p->process_generation, memory_order_relaxed);
    if (process == 0 || process > SX_MAX_PROCESSES || (process + r->turn) % r->stride != 0 ||
        r->asked[(process - 1) / 8] & 1u << (process - 1) % 8)
        return true;
    if (sx_process_alive(r->arena, process - 1, generation)) {
        r->asked[(process - 1) / 8] |= (uint8_t)(1u << (process - 1) % 8);
        return true;
    }
    return sx_holder_examine(r->arena, holder) == SX_ALIVE;
}

/* Would its own belt find something? */
static bool due(struct round *r, struct sx_wait *w)
{
    uint64_t room;
    struct sx_cell *cell = sx_cell_waited_for(r->arena, atomic_load_explicit(&w->cell, memory_order_relaxed),
                                              sizeof(struct sx_mutex), &room);
    struct sx_mutex *m = (struct sx_mutex *)cell;
    if (cell == NULL)
        return false;
    if (sx_cell_kind(cell) != atomic_load_explicit(&w->kind, memory_order_relaxed))
        return false;
    uint64_t word = atomic_load_explicit(&m->word, memory_order_acquire);
    return sx_is_free(word) || !holder_lives(r, word & SX_ID_MASK);
}

/* By one thread at a time, on the belt: counts those who take part, and nudges one for each mutex that is to be had. */
void sx_look_for_all(struct sx_arena *arena)
{
    uint32_t ready = sx_participants_ready(arena), many = 0, nudges = 0;
    uint64_t cells[SX_NUDGES];
    uint32_t processes = (uint32_t)(atomic_load_explicit(&arena->header->ready[SX_PROCESSES], memory_order_acquire) /
                                    sizeof(struct sx_process));
    struct round r = {.arena = arena, .stride = processes / SX_ASKED + 1};
    r.turn = (uint32_t)(sx_now() / SX_BELT_NS) % r.stride;
    bool crowded = atomic_load_explicit(&arena->header->crowd, memory_order_relaxed) > SX_CROWD;
    for (uint32_t i = 0; i < ready; i++) {
        struct sx_participant *p = &arena->participants[i];
        uint32_t state;
        struct sx_wait *w = sx_blocking(p, &state, false);
        if (w == NULL || !takes_part(w) || !sx_slot_alive(arena, i))
            continue;
        many++;
        if (!crowded || nudges == SX_NUDGES || !due(&r, w))
            continue;
        uint64_t cell = atomic_load_explicit(&w->cell, memory_order_relaxed);
        bool done = false;
        for (uint32_t j = 0; j < nudges; j++)
            done = done || cells[j] == cell;
        if (done)
            continue;
        cells[nudges++] = cell;
        atomic_store_explicit(&p->nudged, 1, memory_order_relaxed);
        sx_futex_wake(&w->state, INT_MAX);
    }
    atomic_store_explicit(&arena->header->crowd, many, memory_order_relaxed);
}
