/* snapshot_cells.c: what the words of a cell mean, for a snapshot: who holds it and in which way, and its value.
 *
 * Works on private copies only, see snapshot.h.  What follows from who is alive comes last, in sx_settle_cells.
 */
#include <string.h>

#include "snapshot.h"

#define BATCH (SX_WINDOW / sizeof(struct sx_permit) / 2)
#define GROUPS 64u /* of permits of one process and thread, among which a further one is looked for */

/* The object that is being read. */
struct reading {
    struct sx_collect *c;
    struct sx_seen_object *o;
    uint64_t offset;
    uint32_t index;
};

static struct sx_seen_hold *hold(struct reading *r, uint64_t thread, uint64_t process, uint32_t mode, uint32_t flags)
{
    bool by_process = process != 0;
    if (!sx_possible(r->c, by_process ? process : thread, by_process)) {
        sx_note(r->c->s, SX_BAD_WORD, r->offset, by_process ? process : thread);
        return NULL;
    }
    if (by_process && !sx_is_free(thread) && !sx_possible(r->c, thread, false))
        thread = 0; /* a hint, not worth a note */
    struct sx_seen_hold *h = sx_note_hold(r->c, r->index, (enum sx_kind)r->o->kind, thread, process);
    if (h != NULL) {
        h->mode = mode;
        h->flags = flags;
    }
    return h;
}

/* A mutex, alone or inside another object. */
static void mutex(struct reading *r, const struct sx_mutex *m, enum sx_part part)
{
    uint64_t w = m->word;
    if (sx_is_free(w))
        return;
    struct sx_seen_hold *h = hold(r, w, 0, SX_EXCLUSIVE_MODE, 0);
    if (h == NULL)
        return;
    h->part = part;
    h->count = (uint32_t)m->depth == UINT32_MAX ? UINT32_MAX : m->depth + 1;
}

static void plain_mutex(struct reading *r, const void *cell)
{
    const struct sx_mutex *m = cell;
    r->o->word = m->word;
    r->o->owner_died = m->word & MUTEX_OWNER_DIED;
    r->o->retired = m->word & MUTEX_RETIRED;
    mutex(r, m, SX_WHOLE);
}

static void semaphore(struct reading *r, const void *cell)
{
    uint64_t w = ((const struct sx_semaphore *)cell)->word;
    r->o->word = w;
    r->o->value = sx_semaphore_count(w);
    r->o->retired = w & SEMAPHORE_RETIRED;
}

static void event(struct reading *r, const void *cell)
{
    uint64_t w = ((const struct sx_event *)cell)->word;
    r->o->word = w;
    r->o->value = (w & EVENT_SET) != 0;
    r->o->retired = w & EVENT_RETIRED;
}

static void latch(struct reading *r, const void *cell)
{
    uint64_t w = ((const struct sx_latch *)cell)->word;
    r->o->word = w;
    r->o->value = (uint32_t)(w >> 32) & LATCH_COUNT;
    r->o->retired = w >> 32 & LATCH_RETIRED;
}

static void once(struct reading *r, const void *cell)
{
    const struct sx_once *o = cell;
    r->o->word = o->word;
    r->o->value = (o->word & ONCE_DONE) != 0;
    r->o->retired = o->word & ONCE_RETIRED;
    r->o->owner_died = !(o->word & ONCE_DONE) && o->running.word & MUTEX_OWNER_DIED;
    mutex(r, &o->running, SX_INNER);
}

static void condition(struct reading *r, const void *cell)
{
    const struct sx_condition *k = cell;
    r->o->word = k->tickets;
    r->o->retired = k->retired != 0;
    r->o->owner_died = k->lock.word & MUTEX_OWNER_DIED;
    if (r->o->parameter != 0 && !(r->o->parameter & 0x80000000u))
        r->o->lock = r->o->parameter;
    r->o->parameter = 0;
    mutex(r, &k->lock, SX_INNER);
}

/* The readers are found by their marks. */
static void rwlock(struct reading *r, const void *cell)
{
    const struct sx_rwlock *rw = cell;
    uint32_t phase = rw->phase;
    uint64_t w = rw->writer.word;
    r->o->word = phase;
    r->o->retired = phase & RWLOCK_RETIRED;
    r->o->owner_died = phase & RWLOCK_TORN;
    if (sx_is_free(w))
        return;
    bool inside = phase & RWLOCK_INSIDE, upgradable = rw->upgradable != 0;
    struct sx_seen_hold *h = hold(r, w, 0, inside || !upgradable ? SX_EXCLUSIVE_MODE : SX_UPGRADE_MODE,
                                  inside || upgradable ? 0 : SX_HOLD_ENTERING);
    if (h != NULL)
        h->part = SX_INNER;
}

/* One more permit of that process and thread. */
static void permit(struct reading *r, uint64_t word, uint64_t thread)
{
    struct sx_snapshot *s = r->c->s;
    uint32_t flags = 0, n = s->holds.count - r->o->first_hold;
    flags |= word & PERMIT_SCOPED ? SX_HOLD_SCOPED : 0;
    flags |= word & PERMIT_TENTATIVE ? SX_HOLD_TENTATIVE : 0;
    flags |= word & PERMIT_LEAVING ? SX_HOLD_LEAVING : 0;
    for (uint32_t i = 0; i < n && i < GROUPS; i++) {
        struct sx_seen_hold *h = sx_seen_hold(s, s->holds.count - 1 - i);
        if (h->process == (word & SX_ID_MASK) && h->thread == (thread & SX_ID_MASK) && h->flags == flags) {
            h->count++;
            return;
        }
    }
    hold(r, thread, word & SX_ID_MASK, SX_EXCLUSIVE_MODE, flags);
}

static void permits(struct reading *r, const void *cell)
{
    const struct sx_permits *p = cell;
    uint32_t capacity = r->o->parameter;
    r->o->retired = p->wake & PERMITS_RETIRED;
    for (uint32_t at = 0; at < capacity;) {
        uint32_t n = capacity - at < BATCH ? capacity - at : (uint32_t)BATCH;
        const struct sx_permit *permits =
            sx_window_at(r->c, r->offset + offsetof(struct sx_permits, permit) + (uint64_t)at * sizeof *permits,
                         n * sizeof *permits);
        if (permits == NULL)
            return;
        for (uint32_t i = 0; i < n; i++)
            if (!sx_is_free(permits[i].word))
                permit(r, permits[i].word, permits[i].thread);
        at += n;
    }
    p = sx_window_at(r->c, r->offset, sizeof *p);
    if (p != NULL)
        mutex(r, &p->several, SX_INNER);
}

/* A party counts if it is enrolled or has arrived in the present phase; an arrival may have lost its name. */
static void barrier(struct reading *r, const void *cell)
{
    const struct sx_barrier *b = cell;
    uint64_t w = b->word;
    struct sx_mutex guard;
    memcpy((void *)&guard, (const void *)&b->guard, sizeof guard);
    r->o->word = w & ~(uint64_t)BARRIER_WAITERS;
    r->o->retired = w & BARRIER_RETIRED;
    r->o->broken = w & BARRIER_BROKEN;
    r->o->value = 0;
    for (uint32_t at = 0; at < r->o->parameter; at++) {
        const sx_a64 *there = sx_window_at(r->c, r->offset + offsetof(struct sx_barrier, party) + 8ull * at, 8);
        if (there == NULL)
            return;
        uint64_t party = *there;
        bool arrived = party & PARTY_ARRIVED && !(party & PARTY_ODD) == !(w >> 32 & 1);
        uint32_t flags = (arrived ? SX_HOLD_ARRIVED : 0) | (party & PARTY_ENROLLED ? SX_HOLD_ENROLLED : 0);
        r->o->value += arrived;
        if (flags != 0 && !sx_is_free(party))
            hold(r, party, 0, SX_EXCLUSIVE_MODE, flags);
    }
    if (w & (BARRIER_COMPLETE | BARRIER_BROKEN)) /* over: nobody is waited for */
        r->o->value = 0;
    mutex(r, &guard, SX_INNER);
}

static const struct {
    void (*read)(struct reading *r, const void *cell);
    size_t size; /* of what is read at once */
} readers[SX_KINDS] = {
    [SX_KIND_MUTEX] = {plain_mutex, sizeof(struct sx_mutex)},
    [SX_KIND_RLOCK] = {plain_mutex, sizeof(struct sx_mutex)},
    [SX_KIND_SEMAPHORE] = {semaphore, sizeof(struct sx_semaphore)},
    [SX_KIND_PERMITS] = {permits, sizeof(struct sx_permits)},
    [SX_KIND_EVENT] = {event, sizeof(struct sx_event)},
    [SX_KIND_LATCH] = {latch, sizeof(struct sx_latch)},
    [SX_KIND_CONDITION] = {condition, sizeof(struct sx_condition)},
    [SX_KIND_BARRIER] = {barrier, sizeof(struct sx_barrier)},
    [SX_KIND_ONCE] = {once, sizeof(struct sx_once)},
    [SX_KIND_RWLOCK] = {rwlock, sizeof(struct sx_rwlock)},
};

void sx_collect_cell(struct sx_collect *c, uint64_t offset, const struct sx_cell *cell)
{
    struct sx_snapshot *s = c->s;
    enum sx_kind kind = sx_cell_kind((struct sx_cell *)(uintptr_t)cell);
    size_t size = sx_kind_size(kind, cell->parameter);
    if (size == 0 || size > (uint64_t)cell->units * SX_LINE || readers[kind].read == NULL) {
        sx_note(s, SX_BAD_PARAMETER, offset, cell->parameter);
        return;
    }
    if (memcmp((const void *)cell->arena_id, s->header.id, sizeof s->header.id) != 0)
        sx_note(s, SX_BAD_OWNER, offset, 0);
    struct reading r = {c, NULL, offset, s->objects.count};
    const void *there = sx_window_at(c, offset, readers[kind].size);
    struct sx_seen_object *o = there == NULL ? NULL : sx_list_add(s, &s->objects, sizeof *o);
    if (o == NULL)
        return;
    struct sx_statistics *counts = sx_statistics((struct sx_cell *)(uintptr_t)there);
    *o = (struct sx_seen_object){.offset = offset,
                                 .created_ns = cell->created_ns,
                                 .value = -1,
                                 .generation = cell->generation,
                                 .kind = kind,
                                 .parameter = cell->parameter,
                                 .references = cell->references,
                                 .name_unit = cell->name,
                                 .first_hold = s->holds.count,
                                 .key = cell->key,
                                 .units = cell->units,
                                 .dead_pid = counts->dead_pid,
                                 .dead_tid = counts->dead_tid};
    sx_count((struct sx_cell *)(uintptr_t)there, kind, &o->counts);
    r.o = o;
    readers[kind].read(&r, there);
    o->holds = s->holds.count - o->first_hold;
}

/* Who is alive is known now. */
void sx_settle_cells(struct sx_snapshot *s)
{
    for (uint32_t i = 0; i < s->objects.count; i++) {
        struct sx_seen_object *o = sx_seen_object(s, i);
        uint32_t taken = 0;
        bool dead_owner = false, dead_party = false;
        for (uint32_t j = o->first_hold; j < o->first_hold + o->holds; j++) {
            const struct sx_seen_hold *h = sx_seen_hold(s, j);
            bool party = h->flags & (SX_HOLD_ARRIVED | SX_HOLD_ENROLLED);
            dead_party |= party && !h->alive;
            dead_owner |=
                !party && !h->alive && (h->part == SX_INNER) == (o->kind != SX_KIND_MUTEX && o->kind != SX_KIND_RLOCK);
            if (h->process != 0 && h->alive && !(h->flags & SX_HOLD_TENTATIVE))
                taken += h->count;
        }
        switch (o->kind) {
        case SX_KIND_MUTEX:
        case SX_KIND_RLOCK:
        case SX_KIND_CONDITION:
            o->owner_died |= dead_owner;
            break;
        case SX_KIND_ONCE:
            o->owner_died |= dead_owner && o->value == 0;
            break;
        case SX_KIND_RWLOCK: /* one that died while it waited, or read, has torn nothing */
            o->owner_died |= dead_owner && o->word & RWLOCK_INSIDE;
            break;
        case SX_KIND_PERMITS:
            o->value = taken < o->parameter ? o->parameter - taken : 0;
            break;
        case SX_KIND_BARRIER:
            o->broken |= dead_party && !(o->word & BARRIER_COMPLETE);
            if (o->broken)
                o->value = -1;
            break;
        default:
            break;
        }
    }
}

/* Who got a lock takes its wait record back a moment later.  (Whom the record names as the holder it waits for is not
 * that: it waits for itself, until its time is over.) */
static bool has_it(const struct sx_snapshot *s, const struct sx_seen_wait *w, uint64_t me)
{
    const struct sx_seen_object *o = sx_seen_object(s, w->object);
    if (w->holder == me)
        return false;
    for (uint32_t i = o->first_hold; i < o->first_hold + o->holds; i++) {
        const struct sx_seen_hold *h = sx_seen_hold(s, i);
        if (h->thread != me || h->process != 0)
            continue;
        if (o->kind == SX_KIND_RWLOCK && w->part == SX_WHOLE)
            return (w->mode & WAIT_MODE) != SX_SHARED_MODE && h->mode == SX_EXCLUSIVE_MODE &&
                   !(h->flags & SX_HOLD_ENTERING);
        if (h->part == w->part && (o->kind != SX_KIND_BARRIER || w->part == SX_INNER))
            return true;
    }
    return false;
}

void sx_settle_waits(struct sx_snapshot *s)
{
    for (uint32_t i = 0; i < s->waits.count; i++) {
        struct sx_seen_wait *w = sx_seen_wait(s, i);
        w->granted = w->object != SX_NOBODY && (w->state == SX_WAITING || w->state == SX_AWAKE) &&
                     has_it(s, w, sx_seen_participant(s, w->participant)->id);
    }
}
