/* order.c: which locks are taken under which, all over the arena, and the first cycle that becomes possible.
 *
 * After the Linux kernel's lockdep (Documentation/locking/lockdep-design.rst), between processes.  A node is a class of
 * locks, an edge says that somebody asked for a lock of one class, ready to wait, while it held one of another.  Each
 * edge is checked once, when it is seen for the first time: a way back from its end to its beginning is an order that
 * can become a deadlock, whether or not those who took it ever met.
 *
 * A cycle counts if every member could wait for the next one:
 *   - what is asked for excludes what is held: exclusive against anything; shared against exclusive; upgradable against
 *     upgradable and exclusive; an upgrade against shared.  Shared and upgradable against shared count on a readers-writer
 *     lock that was ever written: a writer that waits between the two keeps the second reader out.  (In lockdep's words our readers are
 *     not recursive: other threads' writers go before them.)
 *   - ranges of a file overlap: one that was held there on the one edge, and one that was asked for on the other;
 *   - no two of its edges were always seen under one and the same lock (a gate), which would keep them apart.
 *
 * What is shared lies in the region `order`, made when it is first needed; its memory is fixed, and once it is full what
 * is new is counted (lost) and not checked.
 *
 * Readers need no lock: classes and edges are there once the count includes them, and never change but for `flags`,
 * `next_edge`, `ranges`, which only grow, and `gates`, which only go.  Every number read is checked before it is used,
 * and every walk is bounded.  Writers hold the arena's lock.  In order: the class or edge is written; its number goes
 * into the index; the count steps (release); an edge becomes the head of its class's list.  Killed
 *   - before the index: nothing was said;
 *   - before the count: the index names a number that does not count yet.  A lookup passes it over, as it does later when
 *     that number is somebody else's, for the key differs;
 *   - before it heads the list: the edge is known and no walk comes by it: it is missing;
 *   - while `ranges` or `gates` change: each is one word, and each such word, alone, makes the edge stand for no more than
 *     what was seen: an edge may be missed;
 *   - between the count and the report: the edge is known, and its cycle was not told: as if it had been missed;
 *   - while all is forgotten: the epoch steps first, so nobody takes an old number for a new one.
 * The arena's lock finds its next owner by itself, and what that one rebuilds is not here.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "held.h"

#define PATH_MOST 12u      /* edges of a cycle */
#define STEPS_MOST 100000u /* of a search */
#define PARTS_MOST (SX_ORDER_CLASSES / 2)
#define NONE UINT32_MAX

uint64_t sx_order_hash(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    h ^= UINT64_C(14695981039346656037);
    while (n-- > 0)
        h = (h ^ *p++) * UINT64_C(1099511628211);
    return h == 0 ? 1 : h;
}

/* The table, if it is there, or (make) could be made. */
struct sx_order *sx_order_table(struct sx_arena *arena, bool make)
{
    struct sx_header *h = arena->header;
    if (__builtin_expect(atomic_load_explicit(&h->ready[SX_ORDER], memory_order_acquire) < sizeof(struct sx_order),
                         0) &&
        (!make || sx_ready(arena, SX_ORDER, sizeof(struct sx_order)) != SX_OK))
        return NULL;
    return (struct sx_order *)(arena->base + h->regions[SX_ORDER].offset);
}

static uint32_t classes_of(struct sx_order *o)
{
    uint32_t n = atomic_load_explicit(&o->classes, memory_order_acquire);
    return n < SX_ORDER_CLASSES ? n : SX_ORDER_CLASSES;
}

static uint32_t edges_of(struct sx_order *o)
{
    uint32_t n = atomic_load_explicit(&o->edges, memory_order_acquire);
    return n < SX_ORDER_EDGES ? n : SX_ORDER_EDGES;
}

/* ---- classes ---------------------------------------------------------------------------------------------------- */

/* A class with the epoch it belongs to, as threads and lock objects keep it. */
static uint64_t number_of(struct sx_order *o, uint32_t at)
{
    return (uint64_t)(atomic_load_explicit(&o->epoch, memory_order_relaxed) + 1) << 32 | (at + 1);
}

bool sx_order_valid(struct sx_order *o, uint64_t number)
{
    return (uint32_t)(number >> 32) == atomic_load_explicit(&o->epoch, memory_order_relaxed) + 1;
}

static uint32_t index_of(uint64_t number)
{
    return (uint32_t)number - 1;
}

const struct sx_order_class *sx_order_at(struct sx_order *o, uint64_t number)
{
    return index_of(number) < classes_of(o) ? &o->class[index_of(number)] : NULL;
}

/* 0: not there. */
uint64_t sx_order_find(struct sx_order *o, const struct sx_order_what *what)
{
    uint32_t n = classes_of(o), size = 2 * SX_ORDER_CLASSES;
    for (uint32_t i = (uint32_t)(what->key >> 20) % size, tries = 0; tries < size; i = (i + 1) % size, tries++) {
        uint32_t at = atomic_load_explicit(&o->class_index[i], memory_order_acquire);
        if (at == 0)
            return 0;
        if (at <= n && o->class[at - 1].key == what->key)
            return number_of(o, at - 1);
    }
    return 0;
}

/* Writes a number where a lookup will come by; false: no room. */
static bool enter(sx_a32 *index, uint32_t size, uint64_t key, uint32_t number)
{
    for (uint32_t i = (uint32_t)(key >> 20) % size, tries = 0; tries < size; i = (i + 1) % size, tries++) {
        uint32_t at = atomic_load_explicit(&index[i], memory_order_relaxed);
        if (at != 0 && at != number)
            continue;
        atomic_store_explicit(&index[i], number, memory_order_release);
        return true;
    }
    return false;
}

static enum sx_status lock(struct sx_arena *arena)
{
    bool quiet = sx_quiet;
    sx_quiet = true; /* no signal handlers while the list of this thread is looked at */
    enum sx_status s = sx_arena_lock(arena);
    sx_quiet = quiet;
    return s;
}

/* The class, which is made if it is not there; 0: no room. */
uint64_t sx_order_class(struct sx_arena *arena, const struct sx_order_what *what)
{
    struct sx_order *o = sx_order_table(arena, true);
    uint64_t number = o == NULL ? 0 : sx_order_find(o, what);
    if (o == NULL || number != 0 || lock(arena) != SX_OK)
        return number;
    uint32_t n = classes_of(o);
    number = sx_order_find(o, what);
    if (number == 0 && n < (what->part ? PARTS_MOST : SX_ORDER_CLASSES)) {
        struct sx_order_class *c = &o->class[n];
        uint32_t length = what->length < sizeof c->text ? what->length : (uint32_t)sizeof c->text;
        c->key = what->key;
        c->file = what->file;
        c->range_first = what->first;
        c->range_last = what->last;
        c->kind = what->kind;
        c->length = length;
        memcpy(c->text, what->text, length);
        atomic_store_explicit(&c->flags, what->unique ? ORDER_UNIQUE : 0, memory_order_relaxed);
        atomic_store_explicit(&c->first_edge, 0, memory_order_relaxed);
        if (enter(o->class_index, 2 * SX_ORDER_CLASSES, what->key, n + 1)) {
            atomic_store_explicit(&o->classes, n + 1, memory_order_release);
            number = number_of(o, n);
        }
    }
    if (number == 0)
        atomic_fetch_add_explicit(&o->lost, 1, memory_order_relaxed);
    sx_arena_unlock(arena);
    return number;
}

#define PROBES 16u

uint64_t sx_order_of_object(struct sx_order *o, uint64_t key)
{
    uint32_t epoch = atomic_load_explicit(&o->epoch, memory_order_relaxed) + 1;
    for (uint32_t i = 0; i < PROBES; i++) {
        struct sx_order_object *object = &o->object[((uint32_t)key * 2654435761u + i) % SX_ORDER_OBJECTS];
        if (atomic_load_explicit(&object->key, memory_order_acquire) != key ||
            atomic_load_explicit(&object->epoch, memory_order_relaxed) != epoch)
            continue;
        uint32_t number = atomic_load_explicit(&object->number, memory_order_relaxed);
        return number == 0 || number > classes_of(o) ? 0 : (uint64_t)epoch << 32 | number;
    }
    return 0;
}

/* So that other processes that come to know the object find its class.  An entry of a former epoch, or of a former object
 * of the same place, is overwritten; where there is no room the others' processes make up their own. */
void sx_order_set_object(struct sx_arena *arena, uint64_t key, uint64_t number)
{
    struct sx_order *o = sx_order_table(arena, true);
    if (o == NULL || lock(arena) != SX_OK)
        return;
    for (uint32_t i = 0; i < PROBES && sx_order_valid(o, number); i++) {
        struct sx_order_object *object = &o->object[((uint32_t)key * 2654435761u + i) % SX_ORDER_OBJECTS];
        uint64_t there = atomic_load_explicit(&object->key, memory_order_relaxed);
        if (there != 0 && (uint32_t)there != (uint32_t)key &&
            atomic_load_explicit(&object->epoch, memory_order_relaxed) == (uint32_t)(number >> 32))
            continue;
        atomic_store_explicit(&object->key, 0, memory_order_release);
        atomic_store_explicit(&object->epoch, (uint32_t)(number >> 32), memory_order_relaxed);
        atomic_store_explicit(&object->number, (uint32_t)number, memory_order_relaxed);
        atomic_store_explicit(&object->key, key, memory_order_release);
        break;
    }
    sx_arena_unlock(arena);
}

bool sx_order_written(struct sx_order *o, uint64_t number)
{
    return index_of(number) < classes_of(o) &&
           atomic_load_explicit(&o->class[index_of(number)].flags, memory_order_relaxed) & ORDER_WRITTEN;
}

/* ---- edges ------------------------------------------------------------------------------------------------------- */
#define KEY_USED (UINT64_C(1) << 63)

#define VARIANTS 16u

static uint64_t key_of(const struct sx_order_step *s, uint32_t variant)
{
    return KEY_USED | (uint64_t)variant << 44 | (uint64_t)(s->held & 3) << 42 | (uint64_t)(s->wanted & 3) << 40 |
           (uint64_t)(index_of(s->from) & 0xfffff) << 20 | (index_of(s->to) & 0xfffff);
}
static uint32_t from_of(const struct sx_order_edge *e)
{
    return (uint32_t)(e->key >> 20) & 0xfffff;
}
static uint32_t to_of(const struct sx_order_edge *e)
{
    return (uint32_t)e->key & 0xfffff;
}
static uint32_t held_of(const struct sx_order_edge *e)
{
    return (uint32_t)(e->key >> 42) & 3;
}
static uint32_t wanted_of(const struct sx_order_edge *e)
{
    return (uint32_t)(e->key >> 40) & 3;
}

static uint64_t spread(uint64_t key)
{
    return key * UINT64_C(0x9e3779b97f4a7c15) >> 8;
}

static uint32_t find_edge(struct sx_order *o, uint64_t key)
{
    uint32_t n = edges_of(o), size = 2 * SX_ORDER_EDGES;
    for (uint32_t i = (uint32_t)(spread(key) >> 20) % size, tries = 0; tries < size; i = (i + 1) % size, tries++) {
        uint32_t at = atomic_load_explicit(&o->edge_index[i], memory_order_acquire);
        if (at == 0)
            return NONE;
        if (at <= n && o->edge[at - 1].key == key)
            return at - 1;
    }
    return NONE;
}

static bool is_gate(const struct sx_order_step *s, uint32_t gate)
{
    for (uint32_t i = 0; i < SX_ORDER_GATES; i++)
        if (s->gate[i] == gate)
            return true;
    return false;
}

static int64_t range_of(const struct sx_order_edge *e, uint32_t i)
{
    return (int64_t)atomic_load_explicit(&e->ranges[i], memory_order_relaxed);
}

/* Was the edge never seen without a lock that is held now as well? */
static bool gates_cover(const struct sx_order_edge *e, const struct sx_order_step *s)
{
    for (uint32_t i = 0; i < SX_ORDER_GATES; i++) {
        uint32_t gate = atomic_load_explicit(&e->gates[i], memory_order_relaxed);
        if (gate != 0 && !is_gate(s, gate))
            return false;
    }
    return true;
}

/* Does what is known of the edge cover what is seen now? */
static bool covers(const struct sx_order_edge *e, const struct sx_order_step *s)
{
    for (uint32_t i = 0; i < 4; i += 2)
        if (range_of(e, i) > s->ranges[i] || range_of(e, i + 1) < s->ranges[i + 1])
            return false;
    return gates_cover(e, s);
}

static bool same_range(const struct sx_order_edge *e, const struct sx_order_step *s, uint32_t i)
{
    return range_of(e, i) == s->ranges[i] && range_of(e, i + 1) == s->ranges[i + 1];
}

/* They overlap, or one begins where the other ends. */
static bool touches(const struct sx_order_edge *e, const struct sx_order_step *s, uint32_t i)
{
    return (range_of(e, i) == 0 || s->ranges[i + 1] >= range_of(e, i) - 1) &&
           (s->ranges[i] == 0 || range_of(e, i + 1) >= s->ranges[i] - 1);
}

/* Can the edge stand for what is seen now too, and for nothing else?  Then it does. */
static bool widen(struct sx_order_edge *e, const struct sx_order_step *s)
{
    if (same_range(e, s, 0) && same_range(e, s, 2)) {
        for (uint32_t i = 0; i < SX_ORDER_GATES; i++) {
            uint32_t gate = atomic_load_explicit(&e->gates[i], memory_order_relaxed);
            if (gate != 0 && !is_gate(s, gate))
                atomic_store_explicit(&e->gates[i], 0, memory_order_relaxed);
        }
        return true;
    }
    uint32_t other = same_range(e, s, 0) ? 2 : 0;
    if (!same_range(e, s, 2 - other) || !touches(e, s, other) || !gates_cover(e, s))
        return false;
    if (s->ranges[other] < range_of(e, other))
        atomic_store_explicit(&e->ranges[other], (uint64_t)s->ranges[other], memory_order_relaxed);
    if (s->ranges[other + 1] > range_of(e, other + 1))
        atomic_store_explicit(&e->ranges[other + 1], (uint64_t)s->ranges[other + 1], memory_order_relaxed);
    return true;
}

/* Ranges of a file that do not touch have edges of their own, as many as there are variants; those beyond are passed over.
 * The edge that covers the step, or NONE; *unused: the first variant that is not there. */
static uint32_t covering(struct sx_order *o, const struct sx_order_step *step, uint32_t *unused)
{
    for (*unused = 0; *unused < VARIANTS; ++*unused) {
        uint32_t at = find_edge(o, key_of(step, *unused));
        if (at == NONE || covers(&o->edge[at], step))
            return at;
    }
    return NONE;
}

bool sx_order_known(struct sx_order *o, const struct sx_order_step *step)
{
    uint32_t unused;
    return covering(o, step, &unused) != NONE || unused == VARIANTS;
}

/* ---- cycles -------------------------------------------------------------------------------------------------------- */
struct search {
    struct sx_order *o;
    uint32_t classes, edges, steps;
    uint32_t path[PATH_MOST], length, deepest;
    uint8_t seen[SX_ORDER_CLASSES];
};

/* The edges away from a class: bounded by how many there are, and each one is looked at by its key. */
static uint32_t first_edge(const struct search *s, uint32_t class)
{
    return atomic_load_explicit(&s->o->class[class].first_edge, memory_order_relaxed) - 1;
}
static uint32_t next_edge(const struct search *s, uint32_t edge)
{
    return atomic_load_explicit(&s->o->edge[edge].next_edge, memory_order_relaxed) - 1;
}

/* A range of a file stands for all that overlap it. */
static bool meets(const struct search *s, uint32_t a, uint32_t b)
{
    const struct sx_order_class *x = &s->o->class[a], *y = &s->o->class[b];
    return a == b ||
           (x->file != 0 && x->file == y->file && x->range_first <= y->range_last && y->range_first <= x->range_last);
}

/* Would whoever asks on `in` wait for whoever holds on `out`? */
static bool waits_for(const struct search *s, const struct sx_order_edge *in, const struct sx_order_edge *out)
{
    const struct sx_order_class *c = &s->o->class[to_of(in)];
    uint32_t held = held_of(out);
    if (!meets(s, to_of(in), from_of(out)))
        return false;
    if (c->file != 0 && ((int64_t)atomic_load_explicit(&in->ranges[2], memory_order_relaxed) >
                             (int64_t)atomic_load_explicit(&out->ranges[1], memory_order_relaxed) ||
                         (int64_t)atomic_load_explicit(&in->ranges[3], memory_order_relaxed) <
                             (int64_t)atomic_load_explicit(&out->ranges[0], memory_order_relaxed)))
        return false;
    /* behind a writer that has its turn and waits for the readers */
    bool behind = held == SX_SHARED_MODE && c->kind == SX_KIND_RWLOCK &&
                  atomic_load_explicit(&c->flags, memory_order_relaxed) & ORDER_WRITTEN;
    switch (wanted_of(in)) {
    case SX_EXCLUSIVE_MODE:
        return true;
    case SX_SHARED_MODE:
        return held == SX_EXCLUSIVE_MODE || behind;
    case SX_UPGRADE_MODE:
        return held != SX_SHARED_MODE || behind;
    default:
        return held == SX_SHARED_MODE;
    }
}

static bool apart(const struct sx_order_edge *a, const struct sx_order_edge *b)
{
    for (uint32_t i = 0; i < SX_ORDER_GATES; i++) {
        uint32_t gate = atomic_load_explicit(&a->gates[i], memory_order_relaxed);
        for (uint32_t j = 0; gate != 0 && j < SX_ORDER_GATES; j++)
            if (atomic_load_explicit(&b->gates[j], memory_order_relaxed) == gate)
                return true;
    }
    return false;
}

/* Is there any way from one class to another?  Whatever counts on it: no is the usual answer, and exact. */
static bool reaches(struct search *s, uint32_t from, uint32_t to)
{
    uint32_t queue[SX_ORDER_CLASSES], head = 0, tail = 0;
    memset(s->seen, 0, sizeof s->seen);
    for (uint32_t i = 0; i < s->classes; i++)
        if (meets(s, from, i)) {
            s->seen[i] = 1;
            queue[tail++] = i;
        }
    while (head < tail) {
        uint32_t at = queue[head++], n = s->edges;
        if (meets(s, at, to))
            return true;
        for (uint32_t e = first_edge(s, at); e < s->edges && n-- > 0; e = next_edge(s, e)) {
            uint32_t there = to_of(&s->o->edge[e]);
            if (from_of(&s->o->edge[e]) != at || there >= s->classes || s->seen[there])
                continue;
            for (uint32_t i = s->o->class[there].file == 0 ? there : 0; i < s->classes; i++) {
                if (!s->seen[i] && meets(s, there, i)) {
                    s->seen[i] = 1;
                    queue[tail++] = i;
                }
                if (s->o->class[there].file == 0)
                    break;
            }
        }
    }
    return false;
}

/* One edge more on the path, which ends in `last`; true: it is closed. */
static bool extend(struct search *s)
{
    struct sx_order_edge *edges = s->o->edge;
    const struct sx_order_edge *first = &edges[s->path[0]], *last = &edges[s->path[s->length - 1]];
    if (s->length > 1 && waits_for(s, last, first))
        return true;
    if (s->length == s->deepest)
        return false;
    bool file = s->o->class[to_of(last)].file != 0;
    for (uint32_t at = file ? 0 : to_of(last); at < (file ? s->classes : to_of(last) + 1); at++) {
        uint32_t n = s->edges;
        for (uint32_t e = first_edge(s, at); e < s->edges && n-- > 0; e = next_edge(s, e)) {
            if (s->steps++ > STEPS_MOST)
                return false;
            bool fits = from_of(&edges[e]) == at && to_of(&edges[e]) < s->classes && waits_for(s, last, &edges[e]);
            for (uint32_t i = 0; fits && i < s->length; i++)
                fits = s->path[i] != e && !apart(&edges[s->path[i]], &edges[e]) &&
                       (i == 0 || from_of(&edges[s->path[i]]) != at);
            if (!fits)
                continue;
            s->path[s->length++] = e;
            if (extend(s))
                return true;
            s->length--;
        }
    }
    return false;
}

/* A cycle with that edge, the shortest; its edges are the path then. */
static bool closes(struct search *s, uint32_t edge)
{
    s->classes = classes_of(s->o);
    s->edges = edges_of(s->o);
    s->steps = 0;
    if (from_of(&s->o->edge[edge]) >= s->classes || to_of(&s->o->edge[edge]) >= s->classes ||
        !reaches(s, to_of(&s->o->edge[edge]), from_of(&s->o->edge[edge])))
        return false;
    for (s->deepest = 2; s->deepest <= PATH_MOST; s->deepest++) {
        s->path[0] = edge;
        s->length = 1;
        if (extend(s))
            return true;
    }
    return false;
}

/* Was an order between the same two classes part of a cycle that was told? */
static bool told_before(const struct search *s, uint32_t edge)
{
    uint32_t n = s->edges, from = from_of(&s->o->edge[edge]);
    for (uint32_t e = first_edge(s, from); e < s->edges && n-- > 0; e = next_edge(s, e))
        if (from_of(&s->o->edge[e]) == from && to_of(&s->o->edge[e]) == to_of(&s->o->edge[edge]) &&
            atomic_load_explicit(&s->o->edge[e].flags, memory_order_relaxed) & ORDER_TOLD)
            return true;
    return false;
}

static struct sx_order_told *tell(struct search *s)
{
    struct sx_order_told *told = malloc(sizeof *told + s->length * sizeof told->link[0]);
    if (told == NULL)
        return NULL;
    told->count = s->length;
    for (uint32_t i = 0; i < s->length; i++) {
        struct sx_order_edge *e = &s->o->edge[s->path[i]];
        atomic_fetch_or_explicit(&e->flags, ORDER_TOLD, memory_order_relaxed);
        memcpy((void *)&told->link[i].edge, (const void *)e, sizeof *e);
        memcpy((void *)&told->link[i].from, (const void *)&s->o->class[from_of(e)], sizeof told->link[i].from);
        memcpy((void *)&told->link[i].to, (const void *)&s->o->class[to_of(e)], sizeof told->link[i].to);
    }
    return told;
}

static void copy_text(char *to, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    memset(to, 0, size);
    memcpy(to, text, n);
}

/* A new edge; NONE: no room. */
static uint32_t make_edge(struct sx_order *o, const struct sx_order_step *step, uint32_t variant, const char *held,
                          const char *stack)
{
    uint32_t at = edges_of(o);
    if (at == SX_ORDER_EDGES)
        return NONE;
    struct sx_order_edge *e = &o->edge[at];
    e->key = key_of(step, variant);
    e->pid = (uint32_t)getpid();
    e->tid = (uint32_t)syscall(SYS_gettid);
    e->seen_ns = (uint64_t)sx_realtime();
    copy_text(e->held, sizeof e->held, held);
    copy_text(e->stack, sizeof e->stack, stack);
    atomic_store_explicit(&e->flags, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < 4; i++)
        atomic_store_explicit(&e->ranges[i], (uint64_t)step->ranges[i], memory_order_relaxed);
    for (uint32_t i = 0; i < SX_ORDER_GATES; i++)
        atomic_store_explicit(&e->gates[i], step->gate[i], memory_order_relaxed);
    if (!enter(o->edge_index, 2 * SX_ORDER_EDGES, spread(e->key), at + 1))
        return NONE;
    struct sx_order_class *from = &o->class[index_of(step->from)];
    atomic_store_explicit(&e->next_edge, atomic_load_explicit(&from->first_edge, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&o->edges, at + 1, memory_order_release);
    atomic_store_explicit(&from->first_edge, at + 1, memory_order_release);
    return at;
}

/* Adds what was seen; *told: the cycle that it makes possible, to be freed, or NULL. */
enum sx_status sx_order_note(struct sx_arena *arena, const struct sx_order_step *step, const char *held,
                             const char *stack, struct sx_order_told **told)
{
    *told = NULL;
    struct sx_order *o = sx_order_table(arena, true);
    struct search *s = o == NULL ? NULL : malloc(sizeof *s);
    enum sx_status status = s == NULL ? SX_ERRNO : lock(arena);
    if (status != SX_OK) {
        free(s);
        return status;
    }
    s->o = o;
    uint32_t n = classes_of(o), variant, at = covering(o, step, &variant);
    if (!sx_order_valid(o, step->from) || !sx_order_valid(o, step->to) || index_of(step->from) >= n ||
        index_of(step->to) >= n)
        status = SX_NOT_FOUND; /* all was forgotten since */
    else if (at != NONE || variant == VARIANTS)
        status = SX_OK; /* somebody was faster */
    else {
        for (uint32_t v = 0; v < variant && at == NONE; v++) {
            uint32_t there = find_edge(o, key_of(step, v));
            if (there != NONE && widen(&o->edge[there], step))
                at = there;
        }
        if (at == NONE)
            at = make_edge(o, step, variant, held, stack);
        if (at == NONE) {
            atomic_fetch_add_explicit(&o->lost, 1, memory_order_relaxed);
            status = SX_FULL_CELLS;
        } else if (closes(s, at) && !told_before(s, at)) {
            *told = tell(s);
        }
    }
    sx_arena_unlock(arena);
    free(s);
    return status;
}

/* For the first time somebody writes a lock of the class: orders among its readers may matter from now on. */
enum sx_status sx_order_note_writer(struct sx_arena *arena, uint64_t number, struct sx_order_told **told)
{
    *told = NULL;
    struct sx_order *o = sx_order_table(arena, true);
    struct search *s = o == NULL ? NULL : malloc(sizeof *s);
    enum sx_status status = s == NULL ? SX_ERRNO : lock(arena);
    if (status != SX_OK) {
        free(s);
        return status;
    }
    s->o = o;
    uint32_t class = index_of(number), n = edges_of(o);
    if (sx_order_valid(o, number) && class < classes_of(o)) {
        atomic_fetch_or_explicit(&o->class[class].flags, ORDER_WRITTEN, memory_order_relaxed);
        for (uint32_t e = first_edge(s, class); e < edges_of(o) && n-- > 0 && *told == NULL; e = next_edge(s, e))
            if (from_of(&o->edge[e]) == class && held_of(&o->edge[e]) == SX_SHARED_MODE && closes(s, e) &&
                !told_before(s, e))
                *told = tell(s);
    }
    sx_arena_unlock(arena);
    free(s);
    return status;
}

/* Forgets all. */
void sx_order_clear(struct sx_arena *arena)
{
    struct sx_order *o = sx_order_table(arena, false);
    if (o == NULL || lock(arena) != SX_OK)
        return;
    atomic_fetch_add_explicit(&o->epoch, 1, memory_order_seq_cst);
    atomic_store_explicit(&o->edges, 0, memory_order_release);
    atomic_store_explicit(&o->classes, 0, memory_order_release);
    atomic_store_explicit(&o->lost, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < 2 * SX_ORDER_CLASSES; i++)
        atomic_store_explicit(&o->class_index[i], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < 2 * SX_ORDER_EDGES; i++)
        atomic_store_explicit(&o->edge_index[i], 0, memory_order_relaxed);
    sx_arena_unlock(arena);
}
