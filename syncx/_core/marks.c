/* marks.c: the read locks that threads hold, each in its own slot, see rwlock.c.
 *
 * A mark is written by its own thread only.  `marked` counts those in use: it is raised before a mark is set and
 * lowered after it is cleared, so that a writer may pass over a slot where it is 0.  Marks of a dead thread mean nothing; they
 * are cleared when the slot is taken anew, before its generation steps (participant.c).
 */
#include "core.h"

struct sx_own_marks sx_own_marks(struct sx_participant *self, uint32_t key)
{
    struct sx_own_marks own = {0};
    uint32_t left = atomic_load_explicit(&self->marked, memory_order_relaxed);
    for (sx_a64 *m = self->marks; m < self->marks + SX_MARKS && (left != 0 || own.unused == NULL); m++) {
        uint64_t v = atomic_load_explicit(m, memory_order_relaxed);
        if (v == 0) {
            own.unused = own.unused == NULL ? m : own.unused;
            continue;
        }
        left--;
        if (v >> 32 != key)
            continue;
        if (v & MARK_PENDING) {
            own.pending = m;
            own.number = (uint32_t)v & ~MARK_PENDING;
        } else {
            own.active = m;
        }
    }
    return own;
}

void sx_mark_add(struct sx_participant *self, sx_a64 *mark, uint64_t value)
{
    uint32_t marked = atomic_load_explicit(&self->marked, memory_order_relaxed);
    atomic_store_explicit(&self->marked, marked + 1, memory_order_relaxed);
    sx_mark(mark, value);
}

/* The caller then tells the writer, if there is one. */
void sx_mark_remove(struct sx_participant *self, sx_a64 *mark)
{
    uint32_t marked = atomic_load_explicit(&self->marked, memory_order_relaxed);
    sx_mark(mark, 0);
    /* a release: a writer that passes us over is ordered after what we have read */
    atomic_store_explicit(&self->marked, marked - 1, memory_order_release);
}

static bool counts(uint64_t mark, uint32_t key, uint32_t number)
{
    return mark >> 32 == key && (uint32_t)mark != 0 && (uint32_t)mark != (MARK_PENDING | number);
}

/* The next live thread with a mark that keeps writer `number` out; SX_NO_WRITER: any.  examine: ask the second
 * witness. */
bool sx_next_reader(struct sx_arena *arena, uint32_t key, uint32_t number, bool examine, struct sx_reader *c)
{
    uint32_t ready = sx_participants_ready(arena);
    while (c->slot < ready) {
        struct sx_participant *p = &arena->participants[c->slot++];
        if (atomic_load_explicit(&p->marked, memory_order_seq_cst) == 0)
            continue;
        for (sx_a64 *m = p->marks; m < p->marks + SX_MARKS; m++) {
            /* acquire: who sees that a reader has left is ordered after what it read */
            if (!counts(atomic_load_explicit(m, memory_order_seq_cst), key, number))
                continue;
            uint64_t generation = atomic_load_explicit(&p->generation, memory_order_acquire);
            c->id = generation << 32 | (uint64_t)c->slot << SX_SLOT_SHIFT;
            c->life.word = sx_life_word(p);
            enum sx_life seen = examine ? sx_holder_examine(arena, c->id) : SX_ALIVE;
            if (seen != SX_ALIVE || sx_holder_life(arena, c->id, &c->life.value) != SX_ALIVE)
                c->dead++;
            else if (counts(atomic_load_explicit(m, memory_order_seq_cst), key, number))
                return true; /* looked at again: the slot's marks were cleared before its generation stepped */
        }
    }
    return false;
}
