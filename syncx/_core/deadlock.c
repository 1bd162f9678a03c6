/* deadlock.c: who waits for whom, and whether for ever.
 *
 * A thread that is about to sleep without a time limit has written its wait record, and looks whether it has just closed
 * a deadlock.  Nothing else closes one, for whoever runs may still give back what he holds.
 *
 *   1. Collect: from this thread, the threads that can give what each one waits for, as far as they are blocked themselves.
 *   2. Reduce: a thread that is not blocked goes on and gives back all that it has; whoever has enough then goes on too;
 *      and so on.  Those who are left are stuck.  That is exact for a lock, for readers and a writer, for any n of k permits,
 *      and for ranges of files.
 *   3. Collect again what was read of those who are left.  Nothing has changed: then all of them slept throughout, and as
 *      what they hold only they can give back, the edges read between the two looks were all there at one instant, and
 *      are for ever.  (A signal handler that gives back a lock of the thread it interrupts is the exception.)
 *
 * Those who reach each other are one deadlock, whichever of them looks.  They agree on its victim: who came last, by the
 * time its wait began, then by slot, among those who can give their wait up.  It is told by a CAS of its record from
 * WAITING to VICTIM, which one thread wins, and which fails if the victim has woken in the meantime.  The victim wakes
 * up, and leaves its wait as if a signal handler had raised; it has lost nothing of what it holds.  Two threads that close one
 * at the same time: their records were both there before either looked (a fence on both sides), so at least one sees all.
 *
 * Never part of one: a wait that ends by itself (a time limit), a thread that was chosen or notified and has not run yet, a
 * dead thread (its locks are to be had), a wait whose end no lock decides (event, latch, condition, plain semaphore, barrier),
 * a lock in the user's memory, which not everybody can read, and what is held by programs without syncx.  Whoever waits
 * for one of those may go on, as far as can be known here.  A permit that was taken by acquire() may be released by any
 * thread of its process.
 *
 * Death of the thread that looks leaves nothing; of the victim before it wakes: its locks come free by that.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "core.h"

_Thread_local struct sx_deadlock sx_deadlock __attribute__((tls_model("initial-exec")));
bool sx_deadlock_off;

struct node {
    uint64_t id;
    struct sx_wait *record; /* NULL: not blocked */
    uint32_t state;
    struct sx_member wait; /* what the record said */
    bool stuck;
    bool ahead, behind; /* reached from the thread that looks; reaches it */
};

struct graph {
    struct sx_arena *arena;
    struct node *node;
    uint32_t count, room;
    uint16_t *at; /* by slot: number of the node + 1 */
    struct edge {
        uint16_t from, to;
    } *edge;
    uint32_t edges, edge_room;
    bool failed;   /* no memory, or somebody new */
    uint32_t from; /* whose edges are being recorded */
};

static uint64_t load(sx_a64 *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static bool alive(struct sx_arena *arena, uint64_t id)
{
    uint32_t life;
    return sx_holder_life(arena, id, &life) == SX_ALIVE;
}

/* ---- what a thread waits for ---------------------------------------------------------------------------------- */

/* Its last record in use, if it is one that can be for ever. */
static struct sx_wait *blocking_record(struct sx_participant *p, uint32_t *state)
{
    struct sx_wait *last = NULL;
    for (uint32_t i = 0; i < SX_WAITS; i++) {
        uint32_t s = atomic_load_explicit(&p->wait[i].state, memory_order_acquire);
        if (sx_wait_state(s) == SX_RUNNING)
            break;
        last = &p->wait[i];
        *state = s;
    }
    if (last == NULL || (sx_wait_state(*state) != SX_WAITING && sx_wait_state(*state) != SX_BEHIND) ||
        atomic_load_explicit(&last->deadline_ns, memory_order_relaxed) != (uint64_t)SX_NEVER)
        return NULL;
    switch (atomic_load_explicit(&last->kind, memory_order_relaxed)) {
    case SX_KIND_MUTEX:
    case SX_KIND_RLOCK:
    case SX_KIND_GUARD:
    case SX_KIND_PERMITS:
    case SX_KIND_RWLOCK:
        return load(&last->cell) != 0 ? last : NULL;
    case SX_KIND_FILE:
        return last;
    default:
        return NULL;
    }
}

static void read_record(struct node *n, struct sx_participant *p, struct sx_wait *w)
{
    n->wait = (struct sx_member){.id = n->id,
                                 .pid = atomic_load_explicit(&p->pid, memory_order_relaxed),
                                 .tid = atomic_load_explicit(&p->tid, memory_order_relaxed),
                                 .kind = atomic_load_explicit(&w->kind, memory_order_relaxed),
                                 .units = atomic_load_explicit(&w->units, memory_order_relaxed),
                                 .mode = atomic_load_explicit(&w->mode, memory_order_relaxed),
                                 .cell = atomic_load_explicit(&w->cell, memory_order_relaxed),
                                 .address = atomic_load_explicit(&w->address, memory_order_relaxed),
                                 .holder = atomic_load_explicit(&w->holder, memory_order_relaxed),
                                 .since_ns = atomic_load_explicit(&w->since_ns, memory_order_relaxed)};
}

/* The cell a record names, if it lies in the arena as a whole; noise names none. */
static void *cell_of(struct graph *g, const struct node *n, size_t size)
{
    uint64_t at = n->wait.cell;
    if (at % SX_LINE != 0 || at >= g->arena->size || g->arena->size - at < size)
        return NULL;
    struct sx_cell *cell = (struct sx_cell *)(g->arena->base + at);
    return sx_cell_kind(cell) == n->wait.kind ? cell : NULL;
}

/* ---- the graph -------------------------------------------------------------------------------------------------- */

/* Called for each thread that could give; true: it will, as far as is known. */
typedef bool (*ask)(struct graph *g, uint64_t id);

static struct node *node_of(struct graph *g, uint64_t id)
{
    uint32_t slot = sx_slot_of(id);
    if (slot >= SX_MAX_PARTICIPANTS || g->at[slot] == 0)
        return NULL;
    struct node *n = &g->node[g->at[slot] - 1];
    return n->id == id ? n : NULL;
}

static bool add(struct graph *g, uint64_t id)
{
    struct sx_participant *p = sx_participant(g->arena, id);
    if (p == NULL || g->failed || !alive(g->arena, id))
        return true;
    if (g->at[sx_slot_of(id)] != 0) {
        g->failed = node_of(g, id) == NULL; /* the slot has changed hands */
        return false;
    }
    if (g->count == g->room) {
        uint32_t room = g->room == 0 ? 16 : 2 * g->room;
        struct node *node = realloc(g->node, room * sizeof *node);
        if (node == NULL) {
            g->failed = true;
            return false;
        }
        g->node = node;
        g->room = room;
    }
    struct node *n = &g->node[g->count++];
    *n = (struct node){.id = id};
    g->at[sx_slot_of(id)] = (uint16_t)g->count;
    n->record = blocking_record(p, &n->state);
    if (n->record != NULL)
        read_record(n, p, n->record);
    n->stuck = n->record != NULL;
    return !n->stuck;
}

static bool judge(struct graph *g, uint64_t id)
{
    struct node *n = node_of(g, id);
    if (n == NULL) { /* a holder who was not one before: not stuck, as far as we know */
        return true;
    }
    return !n->stuck;
}

static bool link_to(struct graph *g, uint64_t id)
{
    struct node *n = node_of(g, id);
    if (n == NULL || !n->stuck)
        return true;
    if (g->edges == g->edge_room) {
        uint32_t room = g->edge_room == 0 ? 64 : 2 * g->edge_room;
        struct edge *edge = realloc(g->edge, room * sizeof *edge);
        if (edge == NULL) {
            g->failed = true;
            return true;
        }
        g->edge = edge;
        g->edge_room = room;
    }
    g->edge[g->edges++] = (struct edge){(uint16_t)g->from, (uint16_t)(n - g->node)};
    return false;
}

static bool ask_holder(struct graph *g, struct sx_mutex *m, uint64_t me, ask ask)
{
    uint64_t w = load(&m->word);
    if (sx_is_free(w) || w & MUTEX_RETIRED || (w & SX_ID_MASK) == me || !alive(g->arena, w))
        return true;
    return ask(g, w & SX_ID_MASK);
}

/* Any thread of a process that is attached. */
static bool ask_process(struct graph *g, uint64_t process, ask ask)
{
    bool any = false, found = false;
    uint32_t n = sx_participants_ready(g->arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &g->arena->participants[i];
        uint64_t id = (uint64_t)atomic_load_explicit(&p->generation, memory_order_acquire) << 32 | (uint64_t)(i + 1)
                                                                                                       << SX_SLOT_SHIFT;
        if (atomic_load_explicit(&p->process, memory_order_acquire) != sx_slot_of(process) + 1 ||
            atomic_load_explicit(&p->process_generation, memory_order_relaxed) != (uint32_t)(process >> 32) ||
            !alive(g->arena, id))
            continue;
        found = true;
        any = ask(g, id) || any;
    }
    return any || !found;
}

static bool ask_permits(struct graph *g, const struct node *n, ask ask)
{
    struct sx_permits *p = cell_of(g, n, sizeof *p);
    if (p == NULL || atomic_load_explicit(&p->wake, memory_order_acquire) & PERMITS_RETIRED)
        return true;
    uint64_t room = (g->arena->size - n->wait.cell - sizeof *p) / sizeof p->permit[0];
    uint32_t capacity = p->cell.parameter, come = 0;
    if (capacity > room)
        return true;
    for (uint32_t i = 0; i < capacity; i++) {
        uint64_t word = load(&p->permit[i].word), process = word & SX_ID_MASK, thread = load(&p->permit[i].thread);
        struct sx_watch watch;
        if (sx_is_free(word) || word & (PERMIT_TENTATIVE | PERMIT_LEAVING) ||
            sx_process_life(g->arena, process, thread, &watch) != SX_ALIVE)
            come++;
        else if (word & PERMIT_SCOPED && alive(g->arena, thread))
            come += ask(g, thread);
        else
            come += ask_process(g, process, ask);
    }
    return come >= n->wait.units;
}

static bool ask_readers(struct graph *g, const struct node *n, struct sx_rwlock *rw, ask ask)
{
    bool all = true;
    struct sx_reader reader = {0};
    uint32_t phase = atomic_load_explicit(&rw->phase, memory_order_acquire);
    while (sx_next_reader(g->arena, sx_cell_key(g->arena, &rw->cell), phase >> RWLOCK_NUMBER_SHIFT, false, &reader))
        if (reader.id != n->id)
            all = ask(g, reader.id) && all;
    return all;
}

static bool ask_rwlock(struct graph *g, const struct node *n, ask ask)
{
    struct sx_rwlock *rw = cell_of(g, n, sizeof *rw);
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

/* All who hold what is in the way. */
static bool ask_file(struct graph *g, const struct node *n, ask ask)
{
    bool all = true;
    uint32_t ready = sx_participants_ready(g->arena), style = n->wait.mode & FILE_STYLE;
    bool shared = (n->wait.mode & FILE_MODE) == SX_SHARED_MODE, flock = style >> FILE_STYLE_SHIFT == SX_FLOCK_STYLE;
    for (uint32_t i = 0; i < ready; i++) {
        struct sx_participant *p = &g->arena->participants[i];
        if (atomic_load_explicit(&p->filed, memory_order_acquire) == 0 || i == sx_slot_of(n->id))
            continue;
        uint64_t id = (uint64_t)atomic_load_explicit(&p->generation, memory_order_acquire) << 32 | (uint64_t)(i + 1)
                                                                                                       << SX_SLOT_SHIFT;
        for (uint32_t j = 0; j < SX_FILE_HOLDS; j++) {
            struct sx_file_hold *h = &p->files[j];
            uint32_t state = atomic_load_explicit(&h->state, memory_order_acquire);
            if (!(state & FILE_HELD) || (shared && (state & FILE_MODE) == SX_SHARED_MODE) ||
                flock != ((state & FILE_STYLE) >> FILE_STYLE_SHIFT == SX_FLOCK_STYLE) ||
                atomic_load_explicit(&h->device, memory_order_relaxed) != n->wait.units ||
                load(&h->inode) != n->wait.cell || (int64_t)load(&h->first) > (int64_t)n->wait.address ||
                (int64_t)load(&h->last) < (int64_t)n->wait.holder ||
                atomic_load_explicit(&h->state, memory_order_acquire) != state || !alive(g->arena, id))
                continue;
            all = ask(g, id) && all;
            break;
        }
    }
    return all;
}

/* Will the thread get what it waits for, if those do as they are asked? */
static bool goes_on(struct graph *g, uint32_t number, ask ask)
{
    struct node copy = g->node[number], *n = &copy; /* the array may move */
    switch (n->wait.kind) {
    case SX_KIND_PERMITS:
        return ask_permits(g, n, ask);
    case SX_KIND_RWLOCK:
        return ask_rwlock(g, n, ask);
    case SX_KIND_FILE:
        return ask_file(g, n, ask);
    default: {
        struct sx_mutex *m = cell_of(g, n, sizeof *m);
        return m == NULL || ask_holder(g, m, n->id, ask);
    }
    }
}

static bool unchanged(struct graph *g, const struct node *n)
{
    uint32_t state = 0;
    struct sx_participant *p = sx_participant(g->arena, n->id);
    return p != NULL && alive(g->arena, n->id) && blocking_record(p, &state) == n->record && state == n->state;
}

/* The deadlock that this thread is in: its members are those marked ahead and behind.  false: there is none. */
static bool find(struct graph *g, uint64_t me)
{
    add(g, me);
    if (g->count == 0 || g->failed)
        return false;
    for (uint32_t i = 0; i < g->count && !g->failed; i++)
        if (g->node[i].stuck && goes_on(g, i, add) && i == 0)
            return false; /* the usual case: whoever holds it runs */
    for (bool again = true; again && !g->failed && g->node[0].stuck;) {
        again = false;
        for (uint32_t i = g->count; i-- > 0;)
            if (g->node[i].stuck && goes_on(g, i, judge)) {
                g->node[i].stuck = false;
                again = true;
            }
    }
    if (g->failed || !g->node[0].stuck)
        return false;
    for (g->from = 0; g->from < g->count; g->from++)
        if (g->node[g->from].stuck && goes_on(g, g->from, link_to))
            return false;
    g->node[0].ahead = g->node[0].behind = true;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < g->edges; i++) {
            struct node *from = &g->node[g->edge[i].from], *to = &g->node[g->edge[i].to];
            again = again || (from->ahead && !to->ahead) || (to->behind && !from->behind);
            to->ahead = to->ahead || from->ahead;
            from->behind = from->behind || to->behind;
        }
    }
    for (uint32_t i = 0; i < g->count; i++)
        if (g->node[i].stuck && !unchanged(g, &g->node[i]))
            return false;
    bool closed = false; /* does a way lead back here? */
    for (uint32_t i = 0; i < g->edges; i++)
        closed = closed || (g->edge[i].to == 0 && g->node[g->edge[i].from].ahead);
    return !g->failed && closed;
}

static bool is_member(const struct node *n)
{
    return n->stuck && n->ahead && n->behind;
}

/* The latest to wait of those who can give it up. */
static struct node *victim_of(struct graph *g)
{
    struct node *victim = NULL;
    for (uint32_t i = 0; i < g->count; i++) {
        struct node *n = &g->node[i];
        if (!is_member(n) || n->wait.mode & WAIT_UNWILLING)
            continue;
        if (victim == NULL || n->wait.since_ns > victim->wait.since_ns ||
            (n->wait.since_ns == victim->wait.since_ns && sx_slot_of(n->id) > sx_slot_of(victim->id)))
            victim = n;
    }
    return victim;
}

/* Who the members are, along the way from one to the next, for the victim to tell. */
static void remember(struct graph *g, uint64_t me)
{
    struct sx_member *list = malloc(g->count * sizeof *list);
    struct node *n = node_of(g, me);
    sx_deadlock_forget();
    if (list == NULL || n == NULL) {
        free(list);
        return;
    }
    uint32_t count = 0;
    while (n != NULL) {
        list[count++] = n->wait;
        n->ahead = false; /* told */
        struct node *next = NULL;
        for (uint32_t i = 0; i < g->edges && next == NULL; i++)
            if (&g->node[g->edge[i].from] == n && is_member(&g->node[g->edge[i].to]))
                next = &g->node[g->edge[i].to];
        for (uint32_t i = 0; i < g->count && next == NULL; i++)
            if (is_member(&g->node[i]))
                next = &g->node[i];
        n = next;
    }
    sx_deadlock = (struct sx_deadlock){count, list};
}

static bool begin(struct graph *g, struct sx_arena *arena)
{
    *g = (struct graph){.arena = arena, .at = calloc(SX_MAX_PARTICIPANTS, sizeof *g->at)};
    return g->at != NULL;
}

static void end(struct graph *g)
{
    free(g->node);
    free(g->at);
    free(g->edge);
}

/* Before anything is allocated: a lock whose holder is not blocked. */
static bool plainly_runs(struct sx_arena *arena, uint64_t me)
{
    struct sx_participant *p = sx_participant(arena, me);
    uint32_t state;
    struct sx_wait *w = p == NULL ? NULL : blocking_record(p, &state);
    if (w == NULL)
        return true;
    uint32_t kind = atomic_load_explicit(&w->kind, memory_order_relaxed);
    if (kind != SX_KIND_MUTEX && kind != SX_KIND_RLOCK && kind != SX_KIND_GUARD)
        return false;
    uint64_t holder = load(&w->holder);
    struct sx_participant *other = sx_participant(arena, holder);
    return other == NULL || blocking_record(other, &state) == NULL;
}

bool sx_deadlock_closed(struct sx_arena *arena, uint64_t me)
{
    struct graph g;
    bool ours = false;
    if (plainly_runs(arena, me) || !begin(&g, arena))
        return false;
    if (find(&g, me)) {
        struct node *victim = victim_of(&g);
        if (victim != NULL) {
            uint32_t state = victim->state;
            bool won =
                atomic_compare_exchange_strong_explicit(&victim->record->state, &state, (state & ~0xffu) | SX_VICTIM,
                                                        memory_order_acq_rel, memory_order_relaxed);
            ours = won && victim->id == me;
            if (won && !ours)
                sx_futex_wake(&victim->record->state, INT_MAX);
            if (ours)
                remember(&g, me);
        }
    }
    for (uint32_t i = 1; i < g.count; i++) /* it may stand behind somebody whom we keep waiting: let it look again */
        if (g.node[i].record != NULL && sx_wait_state(g.node[i].state) == SX_BEHIND)
            sx_futex_wake(&g.node[i].record->state, INT_MAX);
    end(&g);
    return ours;
}

/* This thread is next in a line behind another, for order's sake alone.  Would that one wait for this one? */
bool sx_deadlock_behind(struct sx_arena *arena, uint64_t me, uint64_t other)
{
    struct graph g;
    if (sx_deadlock_off || !begin(&g, arena))
        return false;
    add(&g, me);
    add(&g, other);
    bool stuck = g.count == 2 && !g.failed;
    if (stuck)
        g.node[0].stuck = true; /* if it stands back */
    for (uint32_t i = 1; i < g.count && stuck; i++)
        if (g.node[i].stuck)
            goes_on(&g, i, add);
    for (bool again = stuck; again;) {
        again = false;
        for (uint32_t i = g.count; i-- > 1;)
            if (g.node[i].stuck && goes_on(&g, i, judge)) {
                g.node[i].stuck = false;
                again = true;
            }
    }
    stuck = stuck && !g.failed && g.node[1].stuck;
    end(&g);
    return stuck;
}

void sx_deadlock_tell(struct sx_arena *arena, uint64_t me)
{
    struct graph g;
    struct sx_participant *p = sx_participant(arena, me);
    if (p == NULL || !begin(&g, arena))
        return;
    /* for this look we wait still: nobody else does anything about a record that says so to us alone */
    struct sx_wait *w = NULL;
    for (uint32_t i = 0; i < SX_WAITS; i++) {
        uint32_t state = atomic_load_explicit(&p->wait[i].state, memory_order_relaxed);
        w = sx_wait_state(state) == SX_VICTIM ? &p->wait[i] : w;
    }
    if (w != NULL) {
        uint32_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
        (void)state;
        struct node first = {.id = me, .record = w, .stuck = true, .state = state};
        read_record(&first, p, w);
        g.node = malloc(16 * sizeof *g.node);
        if (g.node != NULL) {
            g.room = 16;
            g.node[g.count++] = first;
            g.at[sx_slot_of(me)] = 1;
            g.node[0] = first;
            for (uint32_t i = 0; i < g.count && !g.failed; i++)
                if (g.node[i].stuck)
                    goes_on(&g, i, add);
            for (g.from = 0; g.from < g.count; g.from++)
                if (g.node[g.from].stuck)
                    goes_on(&g, g.from, link_to);
            g.node[0].ahead = g.node[0].behind = true;
            for (bool again = true; again;) {
                again = false;
                for (uint32_t i = 0; i < g.edges; i++) {
                    struct node *from = &g.node[g.edge[i].from], *to = &g.node[g.edge[i].to];
                    again = again || (from->ahead && !to->ahead) || (to->behind && !from->behind);
                    to->ahead = to->ahead || from->ahead;
                    from->behind = from->behind || to->behind;
                }
            }
            remember(&g, me);
        }
    }
    end(&g);
}

void sx_deadlock_forget(void)
{
    if (sx_deadlock.member != NULL)
        free(sx_deadlock.member);
    sx_deadlock = (struct sx_deadlock){0};
}
