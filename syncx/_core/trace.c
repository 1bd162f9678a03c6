/* trace.c: what a thread holds since when, taken where; kept on demand only (SYNCX_TRACE, SYNCX_ORDER).
 *
 * Each thread has a list of its own, which nobody else reads.  What others may read of it lies in the thread's slot, in
 * SX_TRACES records, of which the thread is the only writer:
 *
 *   taking    step to odd, then the fields, then step to even
 *   giving    the key to 0
 *
 * A reader copies a record between two looks at its step: the same even number twice, and the copy is whole.  Killed
 * while it writes, a thread leaves an odd step, and the record is passed over until the slot has its next owner.  Killed
 * between taking a lock and writing the record (or between clearing the record and giving the lock back), it leaves a hold
 * without a trace, or none.  The reverse, a record of what it does not hold, is told by the lock itself: readers show
 * a trace beside a hold, never instead of one.  A forked child has slots of its own, and its list is emptied (sx_held_forget).
 *
 * How long an object was held is added up in the arena when a traced hold ends, in the region `hold_times`: a table by the
 * place of the object, of relaxed counters, each added to in one instruction: a death loses one hold's time at most.  An entry
 * of an object that is no more is taken over by its successor: the key to TAKING_OVER, the counters to 0, the key to
 * the new one.  Killed within, the entry is lost for good: one object in SX_TIMES is not timed then.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "held.h"

_Atomic uint32_t sx_noting_what;
_Atomic uint32_t sx_noting_turn;
_Atomic uint64_t sx_untraced;
_Thread_local struct sx_holds *sx_holds __attribute__((tls_model("initial-exec")));

atomic_bool sx_order_everywhere = true;

static pthread_key_t at_thread_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void leave(void *list)
{
    sx_holds = NULL;
    free(list);
}

static void prepare(void)
{
    pthread_key_create(&at_thread_exit, leave);
}

static struct sx_holds *new_list(void)
{
    pthread_once(&once, prepare);
    sx_holds = calloc(1, sizeof *sx_holds);
    if (sx_holds != NULL)
        pthread_setspecific(at_thread_exit, sx_holds);
    return sx_holds;
}

/* Of the calling thread; NULL: no memory. */
struct sx_holds *sx_held_list(void)
{
    struct sx_holds *list = sx_holds != NULL ? sx_holds : new_list();
    uint32_t turn = atomic_load_explicit(&sx_noting_turn, memory_order_relaxed);
    if (list != NULL && list->turn != turn) {
        list->count = 0;
        list->turn = turn;
    }
    return list;
}

/* What is noted from now on, SX_NOTE_*.  Whoever holds something now is not seen to give it back: the lists begin anew,
 * and what the slots of this process say goes. */
void sx_noting_switch(uint32_t what)
{
    uint32_t before = atomic_exchange(&sx_noting_what, what);
    if (before == what)
        return;
    atomic_fetch_add(&sx_noting_turn, 1);
    if (!(before & SX_NOTE_TRACE))
        return;
    pthread_mutex_lock(&sx_arenas_lock);
    for (struct sx_arena *a = sx_arenas; a != NULL; a = a->next)
        for (uint32_t i = 0; a->process != SX_NOBODY && i < sx_participants_ready(a); i++) {
            struct sx_participant *p = &a->participants[i];
            if (atomic_load_explicit(&p->process, memory_order_acquire) != a->process + 1)
                continue;
            for (uint32_t j = 0; j < SX_TRACES; j++)
                atomic_store_explicit(&p->trace[j].key, 0, memory_order_relaxed);
        }
    pthread_mutex_unlock(&sx_arenas_lock);
}

/* The calling thread is the only one of a forked child, and holds nothing. */
void sx_held_forget(void)
{
    if (sx_holds != NULL)
        sx_holds->count = 0;
}

#define OUTSIDE (UINT64_C(1) << 63)

/* Tells objects of one arena apart: place and generation, or the random key of one in a user's memory. */
uint64_t sx_held_key(struct sx_arena *arena, const struct sx_cell *cell)
{
    uintptr_t at = (uintptr_t)cell - (uintptr_t)arena->cells;
    if (at >= (uintptr_t)SX_MAX_CELL_UNITS * SX_LINE)
        return OUTSIDE | cell->key;
    return (uint64_t)(atomic_load_explicit(&cell->generation, memory_order_relaxed) & INT32_MAX) << 32 |
           (at / SX_LINE + 1);
}

/* The last one that was taken. */
struct sx_held *sx_held_find(struct sx_arena *arena, uint64_t owner, uint64_t what, const void *way)
{
    struct sx_holds *list = sx_held_list();
    for (uint32_t i = list == NULL ? 0 : list->count; i-- > 0;) {
        struct sx_held *h = &list->item[i];
        if (h->what == what && h->way == way && h->arena == arena && h->owner == owner)
            return h;
    }
    return NULL;
}

struct sx_held *sx_held_find_range(struct sx_arena *arena, uint64_t owner, uint64_t what, int64_t first, int64_t last)
{
    struct sx_holds *list = sx_held_list();
    for (uint32_t i = list == NULL ? 0 : list->count; i-- > 0;) {
        struct sx_held *h = &list->item[i];
        if (h->what == what && h->arena == arena && h->owner == owner && h->first == first && h->last == last)
            return h;
    }
    return NULL;
}

/* Those of an arena that the thread has left and joined again: what it held then is lost. */
static void sweep(struct sx_holds *list, struct sx_arena *arena, uint64_t owner)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++)
        if (list->item[i].arena != arena || list->item[i].owner == owner)
            list->item[kept++] = list->item[i];
    list->count = kept;
}

/* A copy of it in the list, or NULL: no room. */
struct sx_held *sx_held_add(const struct sx_held *held)
{
    struct sx_holds *list = sx_held_list();
    if (list == NULL)
        return NULL;
    if (list->count == SX_HELD_MOST)
        sweep(list, held->arena, held->owner);
    if (list->count == SX_HELD_MOST) {
        atomic_fetch_add_explicit(&sx_untraced, 1, memory_order_relaxed);
        return NULL;
    }
    struct sx_held *h = &list->item[list->count++];
    *h = *held;
    return h;
}

/* In place: those after it move down. */
void sx_held_drop(struct sx_held *held)
{
    struct sx_holds *list = sx_holds;
    uint32_t at = (uint32_t)(held - list->item);
    list->count--;
    if (at < list->count)
        memmove(held, held + 1, (list->count - at) * sizeof *held);
}

/* ---- for others ---------------------------------------------------------------------------------------------- */

/* The words are relaxed, the fences order them: what is read between the same even step is of one writing. */
void sx_trace_publish(struct sx_participant *self, struct sx_held *held, const char *where)
{
    held->record = -1;
    if (held->key == 0)
        return;
    for (uint32_t i = 0; i < SX_TRACES; i++) {
        struct sx_trace *t = &self->trace[i];
        if (atomic_load_explicit(&t->key, memory_order_relaxed) != 0)
            continue;
        uint32_t step = atomic_load_explicit(&t->step, memory_order_relaxed) | 1;
        atomic_store_explicit(&t->step, step, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&t->since_ns, (uint64_t)held->since_ns, memory_order_relaxed);
        atomic_store_explicit(&t->device, held->device, memory_order_relaxed);
        sx_text_store(t->where, where, SX_WHERE_WORDS - 3);
        atomic_store_explicit(&t->key, held->key, memory_order_relaxed);
        atomic_store_explicit(&t->step, step + 1, memory_order_release);
        held->record = (int8_t)i;
        return;
    }
    atomic_fetch_add_explicit(&sx_untraced, 1, memory_order_relaxed);
}

void sx_trace_withdraw(struct sx_participant *self, struct sx_held *held)
{
    if (held->record >= 0)
        atomic_store_explicit(&self->trace[held->record].key, 0, memory_order_release);
    held->record = -1;
}

/* A whole copy of a record that is in use. */
bool sx_trace_read(const struct sx_trace *trace, struct sx_trace *copy)
{
    uint32_t step = atomic_load_explicit(&trace->step, memory_order_acquire);
    if (step & 1 || atomic_load_explicit(&trace->key, memory_order_relaxed) == 0)
        return false;
    const sx_a64 *from = (const sx_a64 *)trace;
    for (size_t i = 0; i < sizeof *trace / sizeof *from; i++) {
        uint64_t word = atomic_load_explicit(&from[i], memory_order_relaxed);
        memcpy((char *)copy + i * sizeof word, &word, sizeof word);
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&trace->step, memory_order_relaxed) == step && *(uint64_t *)copy != 0;
}

/* ---- how long ------------------------------------------------------------------------------------------------- */
#define TAKING_OVER UINT64_MAX
#define PROBES 16u

static uint32_t home(uint64_t key)
{
    return (uint32_t)key * 2654435761u % SX_TIMES;
}

static struct sx_hold_time *time_of(struct sx_arena *arena, uint64_t key)
{
    if (sx_ready(arena, SX_HOLD_TIMES, sizeof(struct sx_hold_time) * SX_TIMES) != SX_OK)
        return NULL;
    struct sx_hold_time *times = (struct sx_hold_time *)(arena->base + arena->header->regions[SX_HOLD_TIMES].offset);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct sx_hold_time *t = &times[(home(key) + i) % SX_TIMES];
        uint64_t there = atomic_load_explicit(&t->key, memory_order_acquire);
        if (there == key)
            return t;
        if (there != 0 && (there == TAKING_OVER || (uint32_t)there != (uint32_t)key))
            continue;
        if (!atomic_compare_exchange_strong(&t->key, &there, TAKING_OVER))
            return there == key ? t : NULL;
        atomic_store_explicit(&t->total_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&t->longest_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&t->holds, 0, memory_order_relaxed);
        atomic_store_explicit(&t->key, key, memory_order_release);
        return t;
    }
    return NULL;
}

/* A hold of an object in the arena is over. */
void sx_trace_time(struct sx_arena *arena, const struct sx_held *held, int64_t now)
{
    struct sx_hold_time *t = held->since_ns == 0 || held->what & OUTSIDE ? NULL : time_of(arena, held->what);
    if (t == NULL)
        return;
    uint64_t ns = now > held->since_ns ? (uint64_t)now - (uint64_t)held->since_ns : 0;
    uint64_t longest = atomic_load_explicit(&t->longest_ns, memory_order_relaxed);
    while (ns > longest && !atomic_compare_exchange_weak_explicit(&t->longest_ns, &longest, ns, memory_order_relaxed,
                                                                  memory_order_relaxed))
        ;
    atomic_fetch_add_explicit(&t->total_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->holds, 1, memory_order_relaxed);
}

/* In a copy of the region. */
bool sx_times_find(const struct sx_hold_time *times, uint64_t key, uint64_t *total, uint64_t *longest, uint64_t *holds)
{
    for (uint32_t i = 0; i < PROBES; i++) {
        const struct sx_hold_time *t = &times[(home(key) + i) % SX_TIMES];
        if (atomic_load_explicit(&t->key, memory_order_relaxed) != key)
            continue;
        *total = atomic_load_explicit(&t->total_ns, memory_order_relaxed);
        *longest = atomic_load_explicit(&t->longest_ns, memory_order_relaxed);
        *holds = atomic_load_explicit(&t->holds, memory_order_relaxed);
        return true;
    }
    return false;
}
