/* deadlock.c: who waits for whom, and whether for ever.
 *
 * A thread that is about to sleep without a time limit has written its wait record, and looks whether it has just closed
 * a deadlock.  What closes one otherwise is seen by the scan, which one of those on the belt does for all: a thread that ends
 * while its process has permits that others of its threads could have given back; a member that was awake just when the
 * last one looked, or in a signal handler.
 *
 *   1. Collect: from this thread, the threads that can give what each one waits for, as far as they are blocked themselves.
 *   2. Reduce, and read the words once more for it: a thread that is not blocked goes on and gives back all that it has;
 *      whoever has enough then goes on too; and so on.  Those who are left are stuck.  That is exact for a lock, for
 *      readers and a writer, for any n of k permits, for ranges of files, and for the parties of a barrier.
 *   3. Look again at the records of those who are left.  Each says WAITING (or BEHIND) still, with the number it had in 1.
 *
 * Why that is the truth.  A number is used once by a thread, for one wait, and for it only as long as no signal handler runs
 * in it: so from 1 to 3 each of them was in one wait and ran nothing but that wait's own code.  It says AWAKE or NOTIFIED
 * whenever it looks whether it can have what it waits for, and would not say WAITING again if it could: it has got nothing.
 * (A range is tried for under WAITING; but it is not to be had while those who stand in the way are stuck themselves.)
 * And it has given nothing back.  What says that it has something is written by itself, before the wait or by its release:
 * the word of a mutex, a reader's mark, the thread of a permit (0 before the word is freed, so it is never that of the last
 * holder), the record of a range (taken back after the range was unlocked, and before any next wait).  So each edge read
 * in 2 was there from 1 to 3; all of them together; and nobody in it will ever change one.  Others can, and that is not
 * known here: a signal handler that gives back a lock of the thread it interrupts, another thread that closes the lock object
 * through which a range is held, gives back a permit that was taken by `with`, or unlinks what is waited for.
 *
 * Those who reach each other are one deadlock, whichever of them looks.  They agree on its victim: the lowest priority, then
 * who came last, by the time its wait began, then by slot, among those who can give their wait up.  It is told by a CAS of
 * its record from WAITING to VICTIM, which one thread wins, and which fails if the victim has woken in the meantime.  The
 * victim wakes up, and leaves its wait as if a signal handler had raised; it has lost nothing of what it holds.  Or, if it
 * is to report, it does so and waits on: then those who are in it already are left alone, see victim_of.  Two threads that
 * close one at the same time: their records were both there before either looked (a fence on both sides), so at least one
 * sees all.  Two deadlocks with a member in common: see claim.
 *
 * Never part of one: a wait that ends by itself (a time limit), a thread that was chosen or notified and has not run yet, a
 * dead thread (its locks are to be had), a wait whose end no lock decides (event, latch, condition, plain semaphore, a free
 * place at a barrier), what is held by programs without syncx, or in another arena.  Whoever waits for one of those may go
 * on, as far as can be known here.  A permit that was taken by acquire() may be released by any thread of its process.
 * The word of a mutex in the user's memory cannot be read by everybody: its waiters tell whom it named when they last
 * looked, so such a deadlock is found at the belt (waitfor.c); other locks that lie there are never part of one.  Nor are
 * ranges beyond the twelve of a thread that others are told of.  A thread that sleeps in the kernel for a range, or must have
 * the lock of a condition again, is a member, but nothing of ours could end its wait: it is never the victim.
 *
 * Death of the thread that looks leaves nothing; of the victim before it wakes: its locks come free by that.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "deadlock.h"

_Thread_local struct sx_deadlock sx_deadlock __attribute__((tls_model("initial-exec")));
bool sx_deadlock_off;
void (*sx_deadlock_hook)(void);

/* ---- collect ----------------------------------------------------------------------------------------------------- */

static bool begin(struct sx_graph *g, struct sx_arena *arena, uint64_t me)
{
    *g = (struct sx_graph){.arena = arena, .me = me, .at = calloc(SX_MAX_PARTICIPANTS, sizeof *g->at)};
    return g->at != NULL;
}

static void end(struct sx_graph *g)
{
    free(g->node);
    free(g->at);
    free(g->edge);
}

static struct sx_node *node_of(struct sx_graph *g, uint64_t id)
{
    uint32_t slot = sx_slot_of(id);
    if (slot >= SX_MAX_PARTICIPANTS || g->at[slot] == 0)
        return NULL;
    struct sx_node *n = &g->node[g->at[slot] - 1];
    return n->id == id ? n : NULL;
}

/* A thread that somebody waits for, or that waits: is it blocked? */
static bool add(struct sx_graph *g, uint64_t id)
{
    struct sx_participant *p = sx_participant(g->arena, id);
    struct sx_node *n = node_of(g, id);
    if (n != NULL)
        return !n->stuck;
    if (p == NULL || g->failed || !sx_alive(g->arena, id))
        return true;
    if (g->at[sx_slot_of(id)] != 0) {
        g->failed = true; /* the slot has changed hands */
        return true;
    }
    if (g->count == g->room) {
        uint32_t room = g->room == 0 ? 16 : 2 * g->room;
        struct sx_node *node = realloc(g->node, room * sizeof *node);
        if (node == NULL) {
            g->failed = true;
            return true;
        }
        g->node = node;
        g->room = room;
    }
    n = &g->node[g->count++];
    *n = (struct sx_node){.id = id, .out = SX_NO_EDGE, .in = SX_NO_EDGE};
    g->at[sx_slot_of(id)] = (uint16_t)g->count;
    n->record = sx_blocking(p, &n->state, id == g->me);
    if (n->record != NULL)
        sx_read_wait(n, p, n->record);
    n->stuck = n->record != NULL;
    return !n->stuck;
}

/* All whom those that are there wait for, and so on.  false: the first one has what it waits for. */
static bool collect(struct sx_graph *g)
{
    for (uint32_t i = 0; i < g->count && !g->failed; i++)
        if (g->node[i].stuck && sx_gets_it(g, i, add) && i == 0)
            return false; /* the usual case: whoever holds it runs */
    return !g->failed;
}

/* ---- reduce ------------------------------------------------------------------------------------------------------- */

/* Of one who was not there when we collected nothing is known: he goes on. */
bool sx_not_stuck(struct sx_graph *g, uint64_t id)
{
    struct sx_node *n = node_of(g, id);
    return n == NULL || !n->stuck;
}

static bool link_to(struct sx_graph *g, uint64_t id)
{
    struct sx_node *n = node_of(g, id);
    if (n == NULL || !n->stuck)
        return true;
    if (g->edges == g->edge_room) {
        uint32_t room = g->edge_room == 0 ? 64 : 2 * g->edge_room;
        struct sx_edge *edge = realloc(g->edge, room * sizeof *edge);
        if (edge == NULL) {
            g->failed = true;
            return true;
        }
        g->edge = edge;
        g->edge_room = room;
    }
    struct sx_node *from = &g->node[g->from];
    g->edge[g->edges] = (struct sx_edge){(uint16_t)g->from, (uint16_t)(n - g->node), from->out, n->in};
    from->out = n->in = g->edges++;
    return false;
}

static bool reduce(struct sx_graph *g)
{
    uint16_t *freed = malloc((g->count + 1) * sizeof *freed);
    uint32_t count = 0;
    if (freed == NULL)
        return false;
    g->linking = true;
    for (g->from = 0; g->from < g->count; g->from++)
        if (g->node[g->from].stuck && sx_gets_it(g, g->from, link_to)) {
            g->node[g->from].stuck = false;
            freed[count++] = (uint16_t)g->from;
        }
    g->linking = false;
    while (count > 0) {
        struct sx_node *n = &g->node[freed[--count]];
        for (uint32_t e = n->in; e != SX_NO_EDGE; e = g->edge[e].next_in) {
            uint32_t from = g->edge[e].from;
            if (g->node[from].stuck && sx_gets_it(g, from, sx_not_stuck)) {
                g->node[from].stuck = false;
                freed[count++] = (uint16_t)from;
            }
        }
    }
    free(freed);
    return !g->failed;
}

/* Marks who is reached from a node, along edges or against them, among those that are stuck. */
static bool reach(struct sx_graph *g, uint32_t start, bool forward)
{
    uint16_t *stack = malloc((g->count + 1) * sizeof *stack);
    uint32_t depth = 0;
    if (stack == NULL)
        return false;
    stack[depth++] = (uint16_t)start;
    *(forward ? &g->node[start].ahead : &g->node[start].behind) = true;
    while (depth > 0) {
        struct sx_node *n = &g->node[stack[--depth]];
        for (uint32_t e = forward ? n->out : n->in; e != SX_NO_EDGE;
             e = forward ? g->edge[e].next_out : g->edge[e].next_in) {
            uint16_t next = forward ? g->edge[e].to : g->edge[e].from;
            bool *mark = forward ? &g->node[next].ahead : &g->node[next].behind;
            if (!g->node[next].stuck || *mark)
                continue;
            *mark = true;
            stack[depth++] = next;
        }
    }
    free(stack);
    return true;
}

static bool is_member(const struct sx_node *n)
{
    return n->stuck && n->ahead && n->behind;
}

/* The deadlock that a thread is in: it waits for itself, by way of others.  Then its members are marked.  Others may wait
 * for another deadlock on top of that: they have to wait until that one is over, and may go on then, unless it is hopeless. */
static bool closed(struct sx_graph *g, uint32_t i)
{
    if (!g->node[i].stuck)
        return false;
    for (uint32_t j = 0; j < g->count; j++)
        g->node[j].ahead = g->node[j].behind = false;
    if (!reach(g, i, true) || !reach(g, i, false))
        return false;
    bool back = false;
    for (uint32_t e = g->node[i].in; e != SX_NO_EDGE; e = g->edge[e].next_in)
        back = back || is_member(&g->node[g->edge[e].from]);
    for (uint32_t j = 0; j < g->count && back; j++)
        back = !g->node[j].ahead || is_member(&g->node[j]) || g->node[j].hopeless;
    return back;
}

/* ---- and look again ------------------------------------------------------------------------------------------------ */

static bool unchanged(struct sx_graph *g, const struct sx_node *n)
{
    uint32_t state = 0;
    struct sx_participant *p = sx_participant(g->arena, n->id);
    return p != NULL && sx_alive(g->arena, n->id) && sx_blocking(p, &state, n->id == g->me) == n->record &&
           state == n->state;
}

/* All that the verdict rests upon; but for `me`, which has been claimed, if that is not 0. */
static bool holds(struct sx_graph *g, uint64_t me)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < g->count; i++)
        if (g->node[i].stuck && g->node[i].ahead && g->node[i].id != me && !unchanged(g, &g->node[i]))
            return false;
    return true;
}

/* A process may have died without the kernel's mark (participant.c): then the deadlock is over, and this says so to all. */
static bool all_live(struct sx_graph *g)
{
    uint8_t asked[SX_MAX_PROCESSES / 8] = {0};
    for (uint32_t i = 0; i < g->count; i++) {
        if (!g->node[i].stuck || !g->node[i].ahead)
            continue;
        struct sx_participant *p = sx_participant(g->arena, g->node[i].id);
        uint32_t process = atomic_load_explicit(&p->process, memory_order_acquire);
        uint32_t generation = atomic_load_explicit(&p->process_generation, memory_order_relaxed);
        if (process == 0 || process > SX_MAX_PROCESSES || asked[(process - 1) / 8] & 1u << (process - 1) % 8)
            continue;
        asked[(process - 1) / 8] |= (uint8_t)(1u << (process - 1) % 8);
        if (!sx_process_alive(g->arena, process - 1, generation) &&
            sx_holder_examine(g->arena, g->node[i].id) != SX_ALIVE)
            return false;
    }
    return true;
}

/* The whole of it, for one thread of a graph that is empty yet. */
static bool in_deadlock(struct sx_graph *g, uint64_t me)
{
    add(g, me);
    return g->count == 1 && collect(g) && reduce(g) && closed(g, 0) && holds(g, 0);
}

static bool rather(const struct sx_node *n, const struct sx_node *than)
{
    int a = sx_wait_priority(n->wait.mode), b = sx_wait_priority(than->wait.mode);
    if (a != b)
        return a < b;
    if (n->wait.since_ns != than->wait.since_ns)
        return n->wait.since_ns > than->wait.since_ns;
    return sx_slot_of(n->id) > sx_slot_of(than->id);
}

/* Of those who can give it up and wait since later than that: the lowest priority, then the latest to wait. */
static struct sx_node *victim_since(struct sx_graph *g, uint64_t later_than)
{
    struct sx_node *victim = NULL;
    for (uint32_t i = 0; i < g->count; i++) {
        struct sx_node *n = &g->node[i];
        if (is_member(n) && !(n->wait.mode & (WAIT_UNWILLING | WAIT_OFF)) && n->wait.since_ns > later_than &&
            (victim == NULL || rather(n, victim)))
            victim = n;
    }
    return victim;
}

/* NULL: nobody, or all who are in it know: one who only tells has told those who were there.  Who came later makes it
 * another deadlock, of which one of them is the victim; or the one who tells once more, if none of them can be. */
static struct sx_node *victim_of(struct sx_graph *g)
{
    struct sx_node *victim = victim_since(g, 0), *told = NULL;
    uint64_t told_at = 0; /* when its wait began at the least: noise does not keep us here */
    while (victim != NULL && victim->wait.mode & WAIT_REPORTED) {
        told = victim;
        told_at = told->wait.reported_ns > told->wait.since_ns ? told->wait.reported_ns : told->wait.since_ns;
        victim = victim_since(g, told_at);
    }
    for (uint32_t i = 0; victim == NULL && told != NULL && i < g->count; i++)
        if (is_member(&g->node[i]) && g->node[i].wait.since_ns > told_at)
            victim = told;
    return victim;
}

/* Tells the victim of the deadlock whose members are marked; of several who see it one does.  Is it this thread?
 *
 * Two who look at the same time may see different deadlocks with a member in common (a writer waits for two readers, and the
 * second of those has just begun to wait), so two victims may be claimed.  Each victim looks once more, behind a fence: who
 * finds another of the members chosen takes his own claim back.  If both do, the next scan finds what is left. */
static bool claim(struct sx_graph *g, uint64_t me)
{
    struct sx_node *victim = victim_of(g);
    if (victim == NULL || !all_live(g))
        return false;
    if (sx_deadlock_hook != NULL)
        sx_deadlock_hook();
    uint32_t state = victim->state;
    if (!atomic_compare_exchange_strong_explicit(&victim->record->state, &state, (state & ~0xffu) | SX_VICTIM,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    if (victim->id == me) {
        if (holds(g, me))
            return true;
        /* a range may have been given back meanwhile, and nobody was told who is a victim: that wait looks again */
        state = victim->wait.kind == SX_KIND_FILE ? (victim->state & ~0xffu) | SX_NOTIFIED : victim->state;
        atomic_store_explicit(&victim->record->state, state, memory_order_seq_cst);
        return false;
    }
    sx_futex_wake(&victim->record->state, INT_MAX);
    return false;
}

/* Who the members are, along the way from one to the next, for the victim to tell. */
static void remember(struct sx_graph *g, uint64_t me)
{
    struct sx_node *n = node_of(g, me);
    uint32_t members = 0, links = 0, listed = 0;
    sx_deadlock_forget();
    for (uint32_t i = 0; i < g->count; i++)
        members += is_member(&g->node[i]);
    struct sx_deadlock told = {.member = calloc(members + 1, sizeof *told.member),
                               .link = calloc((size_t)g->edges + 1, sizeof *told.link)};
    uint16_t *place = calloc(g->count + 1, sizeof *place);
    if (told.member == NULL || told.link == NULL || place == NULL || n == NULL || members == 0) {
        free(told.member);
        free(told.link);
        free(place);
        return;
    }
    uint64_t here = sx_pid_namespace();
    for (uint32_t first = 0; n != NULL;) {
        struct sx_member *m = &told.member[listed];
        struct sx_participant *p = sx_participant(g->arena, n->id);
        *m = n->wait;
        sx_text_load(m->where, p->where + (n->record - p->wait) * SX_WHERE_WORDS, SX_WHERE_WORDS);
        sx_text_load(m->name, p->name, SX_NAME_WORDS);
        struct sx_process *process = sx_process_of_thread(g->arena, p);
        m->here = process != NULL && atomic_load_explicit(&process->pid_namespace, memory_order_relaxed) == here;
        n->listed = true;
        place[n - g->node] = (uint16_t)listed++;
        struct sx_node *next = NULL;
        for (uint32_t e = n->out; e != SX_NO_EDGE && next == NULL; e = g->edge[e].next_out)
            if (is_member(&g->node[g->edge[e].to]) && !g->node[g->edge[e].to].listed)
                next = &g->node[g->edge[e].to];
        for (; first < g->count && next == NULL; first++)
            if (is_member(&g->node[first]) && !g->node[first].listed)
                next = &g->node[first];
        n = next;
    }
    for (uint32_t e = 0; e < g->edges; e++) {
        struct sx_node *from = &g->node[g->edge[e].from], *to = &g->node[g->edge[e].to];
        if (is_member(from) && is_member(to))
            told.link[links++] = (struct sx_link){place[from - g->node], place[to - g->node]};
    }
    free(place);
    told.count = listed;
    told.links = links;
    sx_deadlock = told;
}

/* ---- who calls ------------------------------------------------------------------------------------------------------ */

static bool runs(struct sx_graph *g, uint64_t id)
{
    uint32_t state;
    struct sx_participant *p = sx_participant(g->arena, id);
    return p == NULL || sx_blocking(p, &state, false) == NULL;
}

/* The usual case, before anything is allocated: whoever has it is not blocked. */
static bool plainly_runs(struct sx_arena *arena, uint64_t me)
{
    struct sx_participant *p = sx_participant(arena, me);
    struct sx_node node = {.id = me};
    struct sx_graph g = {.arena = arena, .node = &node, .count = 1};
    if (p == NULL || (node.record = sx_blocking(p, &node.state, false)) == NULL)
        return true;
    sx_read_wait(&node, p, node.record);
    return sx_gets_it(&g, 0, runs);
}

/* A thread is about to sleep: does that close a deadlock, and is this thread its victim? */
bool sx_deadlock_closed(struct sx_arena *arena, uint64_t me, bool first)
{
    struct sx_graph g;
    bool ours = false;
    if (plainly_runs(arena, me) || !begin(&g, arena, 0))
        return false;
    if (in_deadlock(&g, me)) {
        ours = claim(&g, me);
        if (ours)
            remember(&g, me);
        ours = ours && sx_deadlock.count != 0; /* no memory: the record says so still, and the wait does not begin */
    }
    /* Whoever stands behind somebody whom we keep waiting from now on: let him look again.  Once a wait: two of them would
     * wake each other for ever. */
    for (uint32_t i = 1; i < g.count && first; i++)
        if (g.node[i].record != NULL && sx_wait_state(g.node[i].state) == SX_BEHIND)
            sx_futex_wake(&g.node[i].record->state, INT_MAX);
    end(&g);
    return ours;
}

/* On the belt: if nobody has done it lately, all who wait are looked at.  true: this thread is a victim. */
bool sx_deadlock_scan(struct sx_arena *arena, uint64_t me)
{
    struct sx_graph g;
    uint64_t now = (uint64_t)sx_now(), last = atomic_load_explicit(&arena->header->scanned_ns, memory_order_relaxed);
    if ((now > last && now - last < sx_scan_interval(arena)) ||
        !atomic_compare_exchange_strong_explicit(&arena->header->scanned_ns, &last, now, memory_order_relaxed,
                                                 memory_order_relaxed) ||
        !begin(&g, arena, 0))
        return false;
    sx_look_for_all(arena);
    uint32_t ready = sx_participants_ready(arena), state;
    for (uint32_t i = 0; i < ready; i++)
        if (sx_blocking(&arena->participants[i], &state, false) != NULL)
            add(&g, sx_slot_id(arena, i));
    bool ours = false;
    for (uint32_t i = 0; i < g.count && !g.failed; i++)
        if (g.node[i].stuck)
            sx_gets_it(&g, i, add);
    bool again = !g.failed && reduce(&g);
    while (again) { /* once more if some are hopeless: now those that wait for them on top of their own deadlock */
        again = false;
        for (uint32_t i = 0; i < g.count; i++) {
            if (!g.node[i].stuck || g.node[i].listed || g.node[i].in == SX_NO_EDGE || !closed(&g, i))
                continue;
            bool hopeless = victim_of(&g) == NULL;
            again = again || hopeless;
            for (uint32_t j = 0; j < g.count; j++)
                if (is_member(&g.node[j])) {
                    g.node[j].listed = true;
                    g.node[j].hopeless = hopeless;
                }
            ours = (!hopeless && holds(&g, 0) && claim(&g, me)) || ours;
        }
    }
    end(&g);
    return ours && sx_deadlock_tell(arena, me);
}

/* This thread is next in a line behind another, for order's sake alone.  Would that one wait for this one? */
bool sx_deadlock_behind(struct sx_arena *arena, uint64_t me, uint64_t other)
{
    struct sx_graph g;
    if (sx_deadlock_off || !begin(&g, arena, 0))
        return false;
    add(&g, me);
    add(&g, other);
    bool stuck = g.count == 2 && !g.failed && g.node[1].stuck;
    if (stuck)
        g.node[0].stuck = true; /* if it stands back */
    for (uint32_t i = 1; i < g.count && stuck && !g.failed; i++)
        if (g.node[i].stuck)
            sx_gets_it(&g, i, add);
    for (bool again = stuck && !g.failed; again;) {
        again = false;
        for (uint32_t i = g.count; i-- > 1;)
            if (g.node[i].stuck && sx_gets_it(&g, i, sx_not_stuck)) {
                g.node[i].stuck = false;
                again = true;
            }
    }
    stuck = stuck && !g.failed && g.node[1].stuck;
    end(&g);
    return stuck;
}

/* This thread's record says VICTIM.  false: that is over, somebody in it was killed or has gone on. */
bool sx_deadlock_tell(struct sx_arena *arena, uint64_t me)
{
    struct sx_graph g;
    bool told = false;
    if (!begin(&g, arena, me))
        return false;
    if (in_deadlock(&g, me)) {
        remember(&g, me);
        told = sx_deadlock.count != 0;
    }
    end(&g);
    return told;
}

void sx_deadlock_forget(void)
{
    free(sx_deadlock.member);
    free(sx_deadlock.link);
    sx_deadlock = (struct sx_deadlock){0};
}
