/* held.h: what a thread holds, kept beside the locks themselves while tracing or the check of lock order is on: trace.c
 * (the list of a thread, and what of it others can read) and order.c (which locks are taken under which).
 */
#ifndef SYNCX_HELD_H
#define SYNCX_HELD_H

#include "core.h"

#define SX_NOTE_TRACE 1u
#define SX_NOTE_ORDER 2u
extern _Atomic uint32_t sx_noting_what; /* SX_NOTE_* */
extern atomic_bool sx_order_everywhere; /* not in some arenas only */
extern _Atomic uint32_t sx_noting_turn; /* steps when it is switched: what was noted before counts no more */
extern _Atomic uint64_t sx_untraced;    /* holds of this process for which there was no room */

/* Asked by every acquire and release: one load and one branch, which is never taken while both are off. */
static inline bool sx_noting(void)
{
    return __builtin_expect(atomic_load_explicit(&sx_noting_what, memory_order_relaxed) != 0, 0);
}
static inline bool sx_noting_order(void)
{
    return atomic_load_explicit(&sx_noting_what, memory_order_relaxed) & SX_NOTE_ORDER;
}

/* ---- the list of a thread: trace.c ------------------------------------------------------------------------ */
#define SX_HELD_MOST 64u /* what a thread holds beyond that is neither traced nor ordered */
#define SX_ALL UINT32_MAX
#define SX_CLASSES_KEPT 64u

/* One thing that a thread holds. */
struct sx_held {
    struct sx_arena *arena;
    uint64_t
        owner; /* the holder id of the thread: that of a forked child, or of an arena left and joined again, differs */
    uint64_t what;       /* which object: as sx_held_key has it, or a number of its lock object, of a range */
    const void *way;     /* by which of its sides: read, write, ... */
    int64_t first, last; /* of a range */
    int64_t since_ns;    /* 0: not timed */
    uint64_t order;      /* its lock class, as sx_order_class returns it */
    uint64_t key;        /* of the trace; 0: others cannot be told */
    uint32_t device;
    uint32_t kind;  /* enum sx_kind */
    uint32_t depth; /* how often, or how many permits */
    uint32_t mode;  /* enum sx_mode */
    uint32_t spot;  /* where in the program, as the host numbers it */
    bool loose;     /* perhaps it is given back by another thread */
    int8_t record;  /* of the slot's traces; -1: none */
};
struct sx_holds {
    uint32_t count;
    uint32_t turn; /* sx_noting_turn of the time */
    struct sx_held item[SX_HELD_MOST];
    struct { /* the classes of objects that were asked for last, by their keys */
        uint64_t arena, what, order;
    } classes[SX_CLASSES_KEPT];
};
extern _Thread_local struct sx_holds *sx_holds __attribute__((tls_model("initial-exec")));

uint64_t sx_held_key(struct sx_arena *arena, const struct sx_cell *cell);
struct sx_held *sx_held_find(struct sx_arena *arena, uint64_t owner, uint64_t what, const void *way);
struct sx_held *sx_held_find_range(struct sx_arena *arena, uint64_t owner, uint64_t what, int64_t first, int64_t last);
void sx_noting_switch(uint32_t what);
struct sx_holds *sx_held_list(void);
struct sx_held *sx_held_add(const struct sx_held *held);
void sx_held_drop(struct sx_held *held);
void sx_held_forget(void); /* in a forked child */

void sx_trace_publish(struct sx_participant *self, struct sx_held *held, const char *where);
void sx_trace_withdraw(struct sx_participant *self, struct sx_held *held);
void sx_trace_time(struct sx_arena *arena, const struct sx_held *held, int64_t now);
bool sx_trace_read(const struct sx_trace *trace, struct sx_trace *copy);
bool sx_times_find(const struct sx_hold_time *times, uint64_t key, uint64_t *total, uint64_t *longest, uint64_t *holds);

/* ---- lock order: order.c ------------------------------------------------------------------------------------ */
#define SX_ORDER_AGAIN 4u   /* of a condition's lock, which the thread has and will ask for again */
#define SX_ORDER_UPGRADE 3u /* beside enum sx_mode, of a wait: from shared, or upgradable, to exclusive */

/* What a class is told by; `text` is for people. */
struct sx_order_what {
    uint64_t key;
    uint64_t file;
    int64_t first, last;
    uint32_t kind;
    bool unique, part; /* part: of a class, told apart inside it; such ones leave room for others */
    const char *text;
    uint32_t length;
};
/* That somebody asks for a lock while holding another. */
struct sx_order_step {
    uint64_t from, to;     /* classes, as sx_order_class returns them */
    uint32_t held, wanted; /* enum sx_mode, or SX_ORDER_UPGRADE */
    int64_t ranges[4];
    uint32_t gate[SX_ORDER_GATES]; /* class + 1, or 0 */
};
/* A cycle that has become possible: each member's `to` is the next one's `from`; the first one is new. */
struct sx_order_told {
    uint32_t count;
    struct sx_order_link {
        struct sx_order_edge edge;
        struct sx_order_class from, to;
    } link[];
};

uint64_t sx_order_hash(uint64_t start, const void *data, size_t n);
struct sx_order *sx_order_table(struct sx_arena *arena, bool make);
uint64_t sx_order_find(struct sx_order *table, const struct sx_order_what *what);
uint64_t sx_order_class(struct sx_arena *arena, const struct sx_order_what *what);
uint64_t sx_order_of_object(struct sx_order *table, uint64_t key);
void sx_order_set_object(struct sx_arena *arena, uint64_t key, uint64_t number);
bool sx_order_valid(struct sx_order *table, uint64_t number);
const struct sx_order_class *sx_order_at(struct sx_order *table, uint64_t number);
bool sx_order_known(struct sx_order *table, const struct sx_order_step *step);
bool sx_order_written(struct sx_order *table, uint64_t number);
enum sx_status sx_order_note(struct sx_arena *arena, const struct sx_order_step *step, const char *held,
                             const char *stack, struct sx_order_told **told);
enum sx_status sx_order_note_writer(struct sx_arena *arena, uint64_t number, struct sx_order_told **told);
void sx_order_clear(struct sx_arena *arena);

#endif
