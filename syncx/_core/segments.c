/* segments.c: who in the process holds what of a file: a tree of the segments that are held, ordered by their first byte, each
 * node knowing how far its subtree reaches (a treap, an interval tree: Cormen et al., "Introduction to Algorithms", 14.3;
 * Seidel and Aragon, "Randomized Search Trees").  All of it is guarded by the file's guard.
 *
 * Two holds overlap only if both are shared.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "files.h"

/* ---- the tree --------------------------------------------------------------------------------------------- */
static void measure(struct sx_segment *s)
{
    s->reach = s->last;
    for (int i = 0; i < 2; i++)
        if (s->child[i] != NULL && s->child[i]->reach > s->reach)
            s->reach = s->child[i]->reach;
}

static bool before(const struct sx_segment *a, const struct sx_segment *b)
{
    return a->first != b->first ? a->first < b->first : (uintptr_t)a < (uintptr_t)b;
}

/* All below s are divided into those before `at` and the others. */
static void split(struct sx_segment *s, const struct sx_segment *at, struct sx_segment *parts[2])
{
    if (s == NULL) {
        parts[0] = parts[1] = NULL;
        return;
    }
    int side = !before(s, at);
    struct sx_segment *inner[2];
    split(s->child[!side], at, inner);
    s->child[!side] = inner[side];
    measure(s);
    parts[side] = s;
    parts[!side] = inner[!side];
}

static struct sx_segment *join(struct sx_segment *a, struct sx_segment *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? b : a;
    if (a->priority > b->priority) {
        a->child[1] = join(a->child[1], b);
        measure(a);
        return a;
    }
    b->child[0] = join(a, b->child[0]);
    measure(b);
    return b;
}

static struct sx_segment *inserted(struct sx_segment *root, struct sx_segment *s)
{
    if (root != NULL && root->priority >= s->priority) {
        int side = before(root, s);
        root->child[side] = inserted(root->child[side], s);
        measure(root);
        return root;
    }
    split(root, s, s->child);
    measure(s);
    return s;
}

static struct sx_segment *removed(struct sx_segment *root, struct sx_segment *s)
{
    if (root == s)
        return join(s->child[0], s->child[1]);
    int side = before(root, s);
    root->child[side] = removed(root->child[side], s);
    measure(root);
    return root;
}

void sx_tree_insert(struct sx_file *f, struct sx_segment *s)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 17;
    f->random ^= f->random << 5;
    s->priority = f->random;
    s->child[0] = s->child[1] = NULL;
    f->root = inserted(f->root, s);
}

void sx_tree_remove(struct sx_file *f, struct sx_segment *s)
{
    f->root = removed(f->root, s);
}

/* The segments that overlap a range, by their first bytes, until visit() returns true; that one, or NULL. */
struct sx_segment *sx_tree_overlapping(struct sx_segment *s, int64_t first, int64_t last,
                                       bool (*visit)(struct sx_segment *s, void *what), void *what)
{
    while (s != NULL && s->reach >= first) {
        struct sx_segment *found = sx_tree_overlapping(s->child[0], first, last, visit, what);
        if (found != NULL)
            return found;
        if (s->first > last)
            return NULL;
        if (s->last >= first && visit(s, what))
            return s;
        s = s->child[1];
    }
    return NULL;
}

struct sought {
    const struct sx_hold *but;
    uint64_t thread;
    bool shared;
};

static bool conflicts(struct sx_segment *s, void *what)
{
    struct sought *k = what;
    return s->hold != k->but && !(s->shared && k->shared);
}

/* A segment of another hold than `but` that does not go with that range. */
struct sx_segment *sx_tree_conflict(struct sx_file *f, const struct sx_hold *but, int64_t first, int64_t last,
                                    bool shared)
{
    return sx_tree_overlapping(f->root, first, last, conflicts, &(struct sought){.but = but, .shared = shared});
}

static bool is_of_thread(struct sx_segment *s, void *what)
{
    struct sought *k = what;
    return s->hold != k->but && s->hold->thread == k->thread && !s->pending && !(s->shared && k->shared);
}

/* The same, of holds of that thread only. */
struct sx_segment *sx_tree_of_thread(struct sx_file *f, uint64_t thread, const struct sx_hold *but, int64_t first,
                                     int64_t last, bool shared)
{
    return sx_tree_overlapping(f->root, first, last, is_of_thread,
                               &(struct sought){.but = but, .thread = thread, .shared = shared});
}

/* ---- holds -------------------------------------------------------------------------------------------------- */
static void add_segment(struct sx_hold *hold, struct sx_segment *spare[2], int64_t first, int64_t last, bool shared)
{
    struct sx_segment *s = &hold->own;
    if (s->hold != NULL) {
        int i = spare[0] == NULL;
        s = spare[i];
        spare[i] = NULL;
    }
    *s = (struct sx_segment){.first = first, .last = last, .shared = shared, .hold = hold, .next = hold->segments};
    if (s->next != NULL)
        s->next->previous = s;
    hold->segments = s;
    sx_tree_insert(hold->file, s);
    sx_publish(s);
}

static void drop_segment(struct sx_hold *hold, struct sx_segment *s)
{
    *(s->previous != NULL ? &s->previous->next : &hold->segments) = s->next;
    if (s->next != NULL)
        s->next->previous = s->previous;
    sx_tree_remove(hold->file, s);
    sx_unpublish(s);
    if (s == &hold->own)
        s->hold = NULL;
    else
        free(s);
}

static void resize(struct sx_segment *s, int64_t first, int64_t last)
{
    sx_tree_remove(s->hold->file, s);
    sx_unpublish(s);
    s->first = first;
    s->last = last;
    sx_tree_insert(s->hold->file, s);
    sx_publish(s);
}

struct shape {
    const struct sx_hold *hold;
    int64_t first, last;
    int mode;
};

/* Is it ours, and of another shape once the kernel has done that? */
static bool is_reshaped(struct sx_segment *s, void *what)
{
    struct shape *k = what;
    return s->hold == k->hold && !s->pending &&
           ((k->mode >= 0 && s->shared == (k->mode == SX_SHARED_MODE)) || (s->first <= k->last && s->last >= k->first));
}

/* What the kernel has done to a range, for our own account: mode < 0: unlocked; else enum sx_mode.  The last word on each
 * byte counts, and neighbours of one mode are one.  Two spare segments are enough: one to split, one to add. */
void sx_hold_reshape(struct sx_hold *hold, int64_t first, int64_t last, int mode, struct sx_segment *spare[2])
{
    struct shape k = {hold, first, last, mode};
    int64_t before = first - (first > 0), behind = last + (last < SX_TO_END); /* neighbours grow into one */
    struct sx_segment *s;
    while ((s = sx_tree_overlapping(hold->file->root, before, behind, is_reshaped, &k)) != NULL) {
        if (mode >= 0 && s->shared == (mode == SX_SHARED_MODE)) {
            first = s->first < first ? s->first : first;
            last = s->last > last ? s->last : last;
            drop_segment(hold, s);
        } else if (s->first < k.first && s->last > k.last) {
            int64_t end = s->last;
            resize(s, s->first, k.first - 1);
            add_segment(hold, spare, k.last + 1, end, s->shared);
        } else if (s->first < k.first) {
            resize(s, s->first, k.first - 1);
        } else if (s->last > k.last) {
            resize(s, k.last + 1, s->last);
        } else {
            drop_segment(hold, s);
        }
    }
    if (mode >= 0)
        add_segment(hold, spare, first, last, mode == SX_SHARED_MODE);
}

void sx_hold_clear(struct sx_hold *hold)
{
    while (hold->segments != NULL)
        drop_segment(hold, hold->segments);
}
