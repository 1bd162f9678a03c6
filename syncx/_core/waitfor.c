/* waitfor.c: what a thread is blocked for, and who can give it that.
 *
 * Reads words, marks and records that change at any time, for deadlock.c, which reads twice and so knows whether they did.
 * Noise in the arena is met with "he goes on": it makes no deadlock.
 */
#define _GNU_SOURCE
#include <string.h>

#include "deadlock.h"

static uint64_t load(sx_a64 *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

/* ---- what a thread waits for ---------------------------------------------------------------------------------- */

/* A wait for something that known threads have, or can have. */
bool sx_may_be_for_ever(uint32_t kind)
{
    return kind != SX_KIND_NONE && kind != SX_KIND_ARENA_LOCK && kind != SX_KIND_SEMAPHORE && kind != SX_KIND_EVENT &&
           kind != SX_KIND_LATCH && kind != SX_KIND_CONDITION;
}

/* Its last record in use, if it is one that can be for ever.  victim: one that says VICTIM too. */
struct sx_wait *sx_blocking(struct sx_participant *p, uint32_t *state, bool victim)
{
    struct sx_wait *last = NULL;
    for (uint32_t i = 0; i < SX_WAITS; i++) {
        uint32_t s = atomic_load_explicit(&p->wait[i].state, memory_order_acquire);
        if (sx_wait_state(s) == SX_RUNNING)
            break;
        last = &p->wait[i];
        *state = s;
    }
    if (last == NULL || atomic_load_explicit(&last->deadline_ns, memory_order_relaxed) != (uint64_t)SX_NEVER)
        return NULL;
    uint32_t now = sx_wait_state(*state);
    if (now != SX_WAITING && now != SX_BEHIND && !(victim && now == SX_VICTIM))
        return NULL;
    switch (atomic_load_explicit(&last->kind, memory_order_relaxed)) {
    case SX_KIND_MUTEX:
    case SX_KIND_RLOCK:
    case SX_KIND_GUARD:
        return load(&last->cell) != 0 || load(&last->ticket) != 0 ? last : NULL;
    case SX_KIND_PERMITS:
    case SX_KIND_RWLOCK:
    case SX_KIND_BARRIER:
        return load(&last->cell) != 0 ? last : NULL;
    case SX_KIND_FILE:
    case SX_KIND_JOIN:
        return last;
    default:
        return NULL;
    }
}

/* What is told of it if it is in a deadlock. */
void sx_read_wait(struct sx_node *n, struct sx_participant *p, struct sx_wait *w)
{
    struct sx_member *m = &n->wait;
    *m = (struct sx_member){.id = n->id,
                            .pid = atomic_load_explicit(&p->pid, memory_order_relaxed),
                            .tid = atomic_load_explicit(&p->tid, memory_order_relaxed),
                            .kind = atomic_load_explicit(&w->kind, memory_order_relaxed),
                            .units = atomic_load_explicit(&w->units, memory_order_relaxed),
                            .mode = atomic_load_explicit(&w->mode, memory_order_relaxed),
                            .cell = load(&w->cell),
                            .address = load(&w->address),
                            .holder = load(&w->holder),
                            .since_ns = load(&w->since_ns),
                            .ticket = load(&w->ticket),
                            .reported_ns = load(&p->reported_ns)};
}

/* The cell a record names, if it lies in the arena as a whole; noise names none.  *room: how much there is behind it. */
static void *cell_of(struct sx_graph *g, const struct sx_node *n, size_t size, uint64_t *room)
{
    struct sx_cell *cell = sx_cell_waited_for(g->arena, n->wait.cell, size, room);
    return cell != NULL && sx_cell_kind(cell) == n->wait.kind ? cell : NULL;
}

/* The clock of another time namespace is another one. */
static bool one_clock(struct sx_graph *g, uint64_t a, uint64_t b)
{
    uint64_t of[2], id[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        struct sx_process *p = sx_process_of_thread(g->arena, sx_participant(g->arena, id[i]));
        if (p == NULL)
            return false;
        of[i] = load(&p->pid_namespace);
    }
    return (uint32_t)of[0] == (uint32_t)of[1];
}

/* ---- who can give it ----------------------------------------------------------------------------------------- */

static bool ask_holder(struct sx_graph *g, struct sx_mutex *m, uint64_t me, sx_ask ask)
{
    uint64_t w = load(&m->word);
    if (sx_is_free(w) || w & MUTEX_RETIRED || (w & SX_ID_MASK) == me || !sx_alive(g->arena, w))
        return true;
    return ask(g, w & SX_ID_MASK);
}

/* Of a lock that lies in a user's memory the word cannot be read here, but the waiter has told whom it named, and a time
 * before it read that.  Whoever has slept in one wait since then has it still. */
static bool ask_seen_holder(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    uint64_t holder = n->wait.holder & SX_ID_MASK;
    uint32_t state;
    if (sx_is_free(holder) || holder == n->id || !sx_alive(g->arena, holder) || ask(g, holder))
        return true;
    struct sx_participant *p = sx_participant(g->arena, holder);
    struct sx_wait *w = sx_blocking(p, &state, holder == g->me);
    return w == NULL || load(&w->since_ns) >= n->wait.ticket || !one_clock(g, n->id, holder);
}

/* Any thread of a process that is attached. */
static bool ask_process(struct sx_graph *g, uint64_t process, sx_ask ask)
{
    bool found = false;
    uint32_t n = sx_participants_ready(g->arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &g->arena->participants[i];
        uint64_t id = sx_slot_id(g->arena, i);
        if (atomic_load_explicit(&p->process, memory_order_acquire) != sx_slot_of(process) + 1 ||
            atomic_load_explicit(&p->process_generation, memory_order_relaxed) != (uint32_t)(process >> 32) ||
            !sx_alive(g->arena, id))
            continue;
        found = true;
        if (ask(g, id))
            return true;
    }
    return !found;
}

/* The thread that took a permit of that process; 0, or one of a dead process, while a taker has not said yet who it is. */
static bool is_thread_of(struct sx_graph *g, uint64_t process, uint64_t thread)
{
    struct sx_participant *p = sx_participant(g->arena, thread);
    return p != NULL && atomic_load_explicit(&p->process, memory_order_acquire) == sx_slot_of(process) + 1 &&
           atomic_load_explicit(&p->process_generation, memory_order_relaxed) == (uint32_t)(process >> 32) &&
           sx_alive(g->arena, thread);
}

enum { KNOWN_ALIVE = 1, KNOWN_STUCK, KNOWN_GIVES };

/* Does the process live that has a permit? */
static bool lives(struct sx_graph *g, uint64_t process, uint64_t thread, uint8_t *known)
{
    struct sx_watch watch;
    uint32_t slot = sx_slot_of(process);
    struct sx_process *p = sx_process_of(g->arena, process);
    if (p != NULL && known[slot] != 0 &&
        atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(process >> 32))
        return true;
    if (sx_process_life(g->arena, process, thread, &watch) != SX_ALIVE)
        return false;
    known[slot] = KNOWN_ALIVE;
    return true;
}

static bool any_of(struct sx_graph *g, uint64_t process, uint8_t *known, sx_ask ask)
{
    uint8_t *answer = &known[sx_slot_of(process)];
    if (*answer == KNOWN_ALIVE)
        *answer = ask_process(g, process & SX_ID_MASK, ask) ? KNOWN_GIVES : KNOWN_STUCK;
    return *answer == KNOWN_GIVES;
}

static bool ask_permits(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    uint64_t room;
    struct sx_permits *p = cell_of(g, n, sizeof *p, &room);
    if (p == NULL || atomic_load_explicit(&p->wake, memory_order_acquire) & PERMITS_RETIRED)
        return true;
    uint32_t capacity = p->cell.parameter, come = 0;
    if (capacity > room / sizeof p->permit[0])
        return true;
    uint8_t known[SX_MAX_PROCESSES] = {0}; /* of their present generations: each is asked once */
    for (uint32_t i = 0; i < capacity && come < n->wait.units; i++) {
        uint64_t word = load(&p->permit[i].word), thread = load(&p->permit[i].thread);
        if (sx_is_free(word) || word & (PERMIT_TENTATIVE | PERMIT_LEAVING) || !lives(g, word, thread, known))
            come++;
        else if (word & PERMIT_SCOPED && is_thread_of(g, word, thread))
            come += ask(g, thread);
        else
            come += any_of(g, word, known, ask);
    }
    return come >= n->wait.units;
}

static bool ask_readers(struct sx_graph *g, const struct sx_node *n, struct sx_rwlock *rw, sx_ask ask)
{
    bool all = true;
    struct sx_reader reader = {0};
    uint32_t phase = atomic_load_explicit(&rw->phase, memory_order_acquire);
    while (sx_next_reader(g->arena, sx_cell_key(g->arena, &rw->cell), phase >> RWLOCK_NUMBER_SHIFT, false, &reader))
        if (reader.id != n->id)
            all = ask(g, reader.id) && all;
    return all;
}

static bool ask_rwlock(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    uint64_t room;
    struct sx_rwlock *rw = cell_of(g, n, sizeof *rw, &room);
    if (rw == NULL)
        return true;
    uint32_t phase = atomic_load_explicit(&rw->phase, memory_order_acquire);
    if (phase & RWLOCK_RETIRED)
        return true;
    if ((n->wait.mode & WAIT_MODE) != SX_SHARED_MODE)
        return ask_readers(g, n, rw, ask);
    /* a reader waits for one writer only: the one that its mark names */
    struct sx_own_marks own = sx_own_marks(sx_participant(g->arena, n->id), sx_cell_key(g->arena, &rw->cell));
    if (!(phase & RWLOCK_PRESENT) || own.pending == NULL || own.number != phase >> RWLOCK_NUMBER_SHIFT)
        return true;
    return ask_holder(g, &rw->writer, n->id, ask);
}

static bool is_hold_of(struct sx_file_hold *h, uint32_t state, const struct sx_node *n)
{
    bool flock = (n->wait.mode & FILE_STYLE) >> FILE_STYLE_SHIFT == SX_FLOCK_STYLE;
    return state & FILE_HELD && flock == ((state & FILE_STYLE) >> FILE_STYLE_SHIFT == SX_FLOCK_STYLE) &&
           atomic_load_explicit(&h->device, memory_order_relaxed) == n->wait.units && load(&h->inode) == n->wait.cell;
}

/* Does that part of the file concern it?  Of an upgrade the record has the first byte and the last one of what the
 * thread has, and others may have what lies between. */
static bool wants_of_it(struct sx_graph *g, const struct sx_node *n, int64_t first, int64_t last)
{
    if (first > (int64_t)n->wait.address || last < (int64_t)n->wait.holder)
        return false;
    if ((n->wait.mode & FILE_MODE) != SX_UPGRADE_MODE)
        return true;
    struct sx_participant *p = sx_participant(g->arena, n->id);
    for (uint32_t i = 0; p != NULL && i < SX_FILE_HOLDS; i++) {
        struct sx_file_hold *own = &p->files[i];
        uint32_t state = atomic_load_explicit(&own->state, memory_order_acquire);
        if (is_hold_of(own, state, n) && (int64_t)load(&own->first) <= last && (int64_t)load(&own->last) >= first)
            return true;
    }
    return false;
}

/* All who hold what is in the way. */
static bool ask_file(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    bool all = true;
    uint32_t ready = sx_participants_ready(g->arena);
    bool shared = (n->wait.mode & FILE_MODE) == SX_SHARED_MODE;
    for (uint32_t i = 0; i < ready; i++) {
        struct sx_participant *p = &g->arena->participants[i];
        if (atomic_load_explicit(&p->filed, memory_order_acquire) == 0 || i == sx_slot_of(n->id))
            continue;
        uint64_t id = sx_slot_id(g->arena, i);
        for (uint32_t j = 0; j < SX_FILE_HOLDS; j++) {
            struct sx_file_hold *h = &p->files[j];
            uint32_t state = atomic_load_explicit(&h->state, memory_order_acquire);
            if (!is_hold_of(h, state, n) || (shared && (state & FILE_MODE) == SX_SHARED_MODE) ||
                !wants_of_it(g, n, (int64_t)load(&h->first), (int64_t)load(&h->last)) ||
                atomic_load_explicit(&h->state, memory_order_acquire) != state || !sx_alive(g->arena, id))
                continue;
            all = ask(g, id) && all;
            break;
        }
    }
    return all;
}

/* Its phase ends when all parties are there.  Somebody may come to a place that is free; to one where a thread is enrolled,
 * only that thread.  A party that is there, and is not stuck, may break it, for it has a time limit. */
static bool ask_barrier(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    uint64_t room;
    struct sx_barrier *b = cell_of(g, n, sizeof *b, &room);
    if (b == NULL)
        return true;
    uint64_t word = load(&b->word);
    uint32_t parties = b->cell.parameter, odd = word >> 32 & 1 ? PARTY_ODD : 0;
    if (parties > room / sizeof b->party[0] || word & (BARRIER_BROKEN | BARRIER_COMPLETE | BARRIER_RETIRED))
        return true;
    bool all = true, present = false;
    for (uint32_t i = 0; i < parties; i++) {
        uint64_t party = load(&b->party[i]);
        bool there = party & PARTY_ARRIVED && (party & PARTY_ODD) == odd;
        present = present || (there && (party & SX_ID_MASK) == n->id);
        if (sx_is_free(party) || (party & SX_ID_MASK) == n->id)
            continue;
        if (!there && !(party & PARTY_ENROLLED))
            continue;
        if (!sx_alive(g->arena, party))
            return true; /* whoever sees that breaks the phase */
        if (!there)
            all = ask(g, party & SX_ID_MASK) && all;
        else if ((g->linking ? sx_not_stuck : ask)(g, party & SX_ID_MASK)) /* not waited for: no edge */
            return true;
    }
    return all || !present; /* the phase that it waited for is over, and it has not run yet; or it waits for a place */
}

/* It ends when its threads have come to an end, or one of them ends it. */
static bool ask_end(struct sx_graph *g, const struct sx_node *n, sx_ask ask)
{
    uint64_t ready = atomic_load_explicit(&g->arena->header->ready[SX_PROCESSES], memory_order_acquire);
    for (uint32_t slot = 0; slot < SX_MAX_PROCESSES && (slot + 1) * sizeof(struct sx_process) <= ready; slot++) {
        struct sx_process *p = &g->arena->processes[slot];
        uint64_t id = (uint64_t)atomic_load_explicit(&p->generation, memory_order_acquire) << 32 | (uint64_t)(slot + 1)
                                                                                                       << SX_SLOT_SHIFT;
        if (atomic_load_explicit(&p->pid, memory_order_relaxed) == n->wait.units &&
            load(&p->start_time) == n->wait.cell && load(&p->pid_namespace) == n->wait.holder)
            return ask_process(g, id, ask);
    }
    return true;
}

/* Will the thread get what it waits for, if those do as they are asked? */
bool sx_gets_it(struct sx_graph *g, uint32_t number, sx_ask ask)
{
    struct sx_node copy = g->node[number], *n = &copy; /* the array may move */
    switch (n->wait.kind) {
    case SX_KIND_PERMITS:
        return ask_permits(g, n, ask);
    case SX_KIND_RWLOCK:
        return ask_rwlock(g, n, ask);
    case SX_KIND_FILE:
        return ask_file(g, n, ask);
    case SX_KIND_BARRIER:
        return ask_barrier(g, n, ask);
    case SX_KIND_JOIN:
        return ask_end(g, n, ask);
    default: {
        if (n->wait.cell == 0)
            return ask_seen_holder(g, n, ask);
        uint64_t room;
        struct sx_mutex *m = cell_of(g, n, sizeof *m, &room);
        return m == NULL || ask_holder(g, m, n->id, ask);
    }
    }
}
