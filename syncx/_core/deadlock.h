/* deadlock.h: the wait-for graph, as those share it who find who can give what (waitfor.c) and who judge (deadlock.c). */
#ifndef SYNCX_DEADLOCK_H
#define SYNCX_DEADLOCK_H

#include "core.h"

#define SX_NO_EDGE UINT32_MAX

struct sx_node { /* a thread */
    uint64_t id;
    struct sx_wait *record; /* NULL: not blocked */
    uint32_t state;         /* of the record */
    struct sx_member wait;  /* what the record said */
    uint32_t out, in;       /* the first of its edges */
    bool stuck;
    bool ahead, behind; /* reached from the thread in question; reaches it */
    bool listed;
    bool hopeless; /* of a deadlock without a victim: nobody of it can give up */
};

struct sx_edge { /* `from` waits for something that `to` has */
    uint16_t from, to;
    uint32_t next_out, next_in;
};

struct sx_graph {
    struct sx_arena *arena;
    uint64_t me; /* the thread that looks: a record of its own that says VICTIM is a wait still; 0: nobody's */
    struct sx_node *node;
    uint32_t count, room;
    uint16_t *at; /* by slot: number of the node + 1 */
    struct sx_edge *edge;
    uint32_t edges, edge_room;
    uint32_t from; /* whose edges are being recorded */
    bool linking;  /* they are */
    bool failed;   /* no memory, or a slot changed hands */
};

/* Called for each thread that could give; true: it will, as far as is known. */
typedef bool (*sx_ask)(struct sx_graph *g, uint64_t id);

struct sx_wait *sx_blocking(struct sx_participant *p, uint32_t *state, bool victim);
void sx_read_wait(struct sx_node *n, struct sx_participant *p, struct sx_wait *w);
bool sx_not_stuck(struct sx_graph *g, uint64_t id);
bool sx_gets_it(struct sx_graph *g, uint32_t number, sx_ask ask);

#endif
