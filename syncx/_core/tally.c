/* tally.c: what happened to an object since it was made, for people: nothing is decided by it.
 *
 * What is counted costs the uncontended path one plain store.  How often a mutex was taken is written by its holder, in
 * the cache line that its CAS has just fetched; the kinds that several threads hold at a time have no such line, and are
 * not counted.  A wait that sleeps has time for more: two atomic additions when it is over.  A thread that is killed
 * between its CAS and its store is missing from the count, and one that is killed while it waits from the times.
 */
#include "core.h"

static struct sx_tally *tally_of(struct sx_cell *cell)
{
    return (struct sx_tally *)((char *)cell + SX_TALLY_AT);
}

uint16_t sx_short(uint64_t ns)
{
    if (ns < 1024)
        return (uint16_t)ns;
    int exponent = 54 - __builtin_clzll(ns); /* 1024: 1 */
    return (uint16_t)(exponent << 10 | (int)(ns >> (exponent - 1) & 1023));
}

uint64_t sx_long(uint16_t value)
{
    int exponent = value >> 10;
    uint64_t mantissa = value & 1023u;
    return exponent == 0 ? mantissa : exponent > 54 ? INT64_MAX : (mantissa | 1024) << (exponent - 1);
}

/* A wait is over that slept so long since it was last counted, and has lasted so long as a whole. */
void sx_tally_wait(struct sx_cell *cell, int64_t slept, int64_t whole)
{
    struct sx_tally *t = tally_of(cell);
    uint16_t mine = sx_short(whole < 0 ? 0 : (uint64_t)whole);
    uint16_t longest = atomic_load_explicit(&t->longest, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->waited_ns, slept < 0 ? 0 : (uint64_t)slept, memory_order_relaxed);
    while (mine > longest && !atomic_compare_exchange_weak_explicit(&t->longest, &longest, mine, memory_order_relaxed,
                                                                    memory_order_relaxed))
        ;
}

static uint64_t acquired(struct sx_tally *t)
{
    uint64_t high, low;
    do { /* the upper part moves once in 2^32 times */
        high = atomic_load_explicit(&t->acquired_high, memory_order_acquire);
        low = atomic_load_explicit(&t->acquired, memory_order_acquire);
    } while (high != atomic_load_explicit(&t->acquired_high, memory_order_relaxed));
    return high << 32 | low;
}

static void add_waits(struct sx_counts *counts, struct sx_cell *cell)
{
    struct sx_tally *t = tally_of(cell);
    uint64_t longest = sx_long(atomic_load_explicit(&t->longest, memory_order_relaxed));
    counts->waited_ns += atomic_load_explicit(&t->waited_ns, memory_order_relaxed);
    counts->longest_ns = longest > counts->longest_ns ? longest : counts->longest_ns;
}

/* Of the mutex inside an object the waits are the object's, where people wait for it when they want the object.  A
 * condition's own lock is taken into account for how often it was taken only: its waits are another matter than the
 * condition's. */
void sx_count(struct sx_cell *cell, enum sx_kind kind, struct sx_counts *counts)
{
    struct sx_statistics *s = sx_statistics(cell);
    struct sx_mutex *inner = NULL;
    *counts = (struct sx_counts){.contended = atomic_load_explicit(&s->contended, memory_order_relaxed),
                                 .recoveries = atomic_load_explicit(&s->recoveries, memory_order_relaxed),
                                 .rescues = atomic_load_explicit(&s->rescues, memory_order_relaxed)};
    add_waits(counts, cell);
    switch (kind) {
    case SX_KIND_MUTEX:
    case SX_KIND_RLOCK:
        inner = (struct sx_mutex *)cell;
        break;
    case SX_KIND_CONDITION: /* made with another lock, it has none of its own in use */
        inner = cell->parameter == 0 ? &((struct sx_condition *)cell)->lock : NULL;
        break;
    case SX_KIND_RWLOCK: /* writers that wait for writers */
        inner = &((struct sx_rwlock *)cell)->writer;
        s = &inner->statistics;
        counts->contended += atomic_load_explicit(&s->contended, memory_order_relaxed);
        counts->rescues += atomic_load_explicit(&s->rescues, memory_order_relaxed);
        add_waits(counts, &inner->cell);
        break;
    case SX_KIND_ONCE:
        add_waits(counts, &((struct sx_once *)cell)->running.cell);
        break;
    default:
        break;
    }
    counts->counted = inner != NULL;
    counts->acquired = inner == NULL ? 0 : acquired(&inner->tally);
}
