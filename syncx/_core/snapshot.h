/* snapshot.h: a picture of an arena, taken without attaching to it, stopping anybody or changing anything.
 *
 * The arena's bytes are copied piece by piece into private memory and only then looked at, so what is checked is what
 * is used, whatever happens to the arena meanwhile.  snapshot.c collects, snapshot_cells.c says what a cell's words
 * mean, snapshot_life.c who is alive.
 */
#ifndef SYNCX_SNAPSHOT_H
#define SYNCX_SNAPSHOT_H

#include "held.h"

/* Where the bytes come from: the mapping of an arena this process is attached to, or a file, which is read with pread:
 * no page appears where none was, and a file cut short under our eyes is an error, not a SIGBUS. */
struct sx_source {
    const char *base; /* of the mapping, which stays while the source is open; NULL: read the file */
    int fd;           /* read-only, our own; -1: none, and nobody can be asked for the second witness */
    dev_t device;
    ino_t inode;
};

enum sx_status sx_source_open(const char *path, struct sx_source *source);
enum sx_status sx_source_attached(struct sx_arena *arena, struct sx_source *source);
void sx_source_close(struct sx_source *source);
bool sx_source_copy(const struct sx_source *source, uint64_t offset, void *to, size_t n);

/* ---- what is found ----------------------------------------------------------------------------------------- */

struct sx_list {
    void *items;
    uint32_t count, room;
};

struct sx_seen_process {
    uint64_t id;
    uint64_t start_time, pid_namespace, attached_ns;
    uint32_t pid, dead;
    bool alive, here; /* here: its pid means the same process to us */
};

struct sx_seen_participant {
    uint64_t id;
    uint64_t process; /* its id; 0: registering, or impossible */
    uint64_t start_time;
    uint32_t pid, tid;
    uint32_t life; /* the life word */
    char name[SX_NAME_WORDS * 8 + 1];
    bool alive;
    bool stable; /* the slot was the same, byte for byte, before and after everything else was read */
};

/* Which of an object's mutexes is meant. */
enum sx_part { SX_WHOLE, SX_INNER };

struct sx_seen_wait {
    uint64_t cell, address, holder, since_ns, deadline_ns, ticket;
    uint32_t participant; /* index */
    uint32_t object;      /* index; SX_NOBODY: none, or not in the arena */
    uint32_t state, kind, mode, units, level, part;
    char where[SX_WHERE_WORDS * 8 + 1];
    bool granted; /* it has what it waits for, and has not said so yet */
};

#define SX_HOLD_SCOPED 0x01u     /* a permit taken by `with` */
#define SX_HOLD_TENTATIVE 0x02u  /* a permit of a set that is not complete yet */
#define SX_HOLD_LEAVING 0x04u    /* a permit that is being released with others */
#define SX_HOLD_ARRIVED 0x08u    /* a party of the barrier's present phase */
#define SX_HOLD_ENROLLED 0x10u   /* a party of the barrier for good */
#define SX_HOLD_ENTERING 0x20u   /* the writer's turn, while readers are inside still */
#define SX_HOLD_PENDING 0x40u    /* a reader that waits; any writer but the one it waits for counts it */
#define SX_HOLD_DOWNGRADED 0x80u /* one of the read holds was a writer's */
#define SX_HOLD_DROPPED 0x100u   /* nothing after all */

struct sx_seen_hold {
    uint64_t thread;                       /* holder id; 0: not known */
    uint64_t process;                      /* process id, of a permit; 0: that of the thread */
    uint64_t inode, first, last, since_ns; /* of a file range */
    uint32_t object;                       /* index; SX_NOBODY */
    uint32_t kind, mode, part, count, flags;
    uint32_t key;    /* of a read lock */
    uint32_t device; /* of a file range */
    bool alive;
};

struct sx_seen_object {
    uint64_t offset, created_ns;
    int64_t value; /* -1: none */
    uint64_t word; /* the deciding one */
    uint32_t generation, kind, parameter, references, name_unit, name_length;
    uint64_t name_at; /* in `text` */
    uint32_t first_hold, holds;
    uint32_t lock; /* of a condition made with another lock in the arena: its unit + 1 */
    uint32_t key, units;
    uint32_t dead_pid, dead_tid;
    struct sx_counts counts;
    bool owner_died, broken, retired, stable;
};

enum sx_problem {
    SX_BAD_READY,     /* the region's mark of pages: where: its number */
    SX_BAD_CURSOR,    /* where: the region's number; what: the cursor */
    SX_BAD_BLOCK,     /* a block of cells or names: where: its offset; what: bytes passed over */
    SX_BAD_TAG,       /* where: the cell's offset; what: the tag */
    SX_BAD_PARAMETER, /* the same with the parameter */
    SX_BAD_OWNER,     /* a cell of another arena */
    SX_BAD_WORD,      /* a word names a slot that cannot be: where: the cell's offset; what: the word */
    SX_BAD_NAME,      /* a name and its cell do not agree: where: the name's offset */
    SX_BAD_LIFE,      /* a participant's life lock: where: slot; what: the kind word */
    SX_BAD_PROCESS,   /* a participant of a process that cannot be: where: slot; what: the number */
    SX_BAD_WAIT,      /* a wait record: where: slot; what: what it says it waits for */
    SX_BAD_MARK,      /* a read lock of what is none: where: slot; what: the mark */
    SX_BAD_RANGE,     /* a file range that ends before it begins: where: slot */
    SX_UNREADABLE,    /* the file could not be read, or is too short: where: offset */
    SX_TOO_MUCH,      /* more than is looked at */
    SX_PROBLEMS
};

struct sx_seen_problem {
    uint64_t where, what;
    uint32_t problem;
};

struct sx_snapshot {
    struct sx_header header;
    int64_t taken_ns, realtime_ns;
    bool this_boot; /* else everybody is dead */
    bool witnessed; /* the second witness could be asked */
    bool no_memory;
    struct sx_list processes, participants, waits, holds, objects, problems, text, slots;
    uint32_t *process_at, *participant_at; /* slot -> index + 1; 0: nobody */
    uint32_t passed_over;                  /* problems that were not kept */
    uint32_t names;                        /* found in the table of names */
    struct sx_hold_time *times;            /* SX_TIMES of them; NULL: nobody has traced */
};

static inline struct sx_seen_process *sx_seen_process(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_process *)s->processes.items + i;
}
static inline struct sx_seen_participant *sx_seen_participant(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_participant *)s->participants.items + i;
}
static inline struct sx_seen_wait *sx_seen_wait(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_wait *)s->waits.items + i;
}
static inline struct sx_seen_hold *sx_seen_hold(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_hold *)s->holds.items + i;
}
static inline struct sx_seen_object *sx_seen_object(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_object *)s->objects.items + i;
}
static inline struct sx_seen_problem *sx_seen_problem(const struct sx_snapshot *s, uint32_t i)
{
    return (struct sx_seen_problem *)s->problems.items + i;
}

/* Who is that: by slot and generation; NULL: nobody that was seen. */
struct sx_seen_participant *sx_seen_thread(const struct sx_snapshot *s, uint64_t id);
struct sx_seen_process *sx_seen_owner(const struct sx_snapshot *s, uint64_t id);

/* Since when and where, of a hold whose thread has traced it, or NULL. */
const struct sx_trace *sx_seen_trace(const struct sx_snapshot *s, const struct sx_seen_hold *h);

/* ---- taking it ----------------------------------------------------------------------------------------------- */

/* The whole: two collects, compared, and judged.  SX_OK, SX_ERRNO, or why the file is no arena. */
enum sx_status sx_snapshot_take(const struct sx_source *source, struct sx_snapshot *s);
void sx_snapshot_free(struct sx_snapshot *s);

/* Its parts.  One pass over everything; nobody is judged, nothing is stable. */
enum sx_status sx_snapshot_collect(const struct sx_source *source, struct sx_snapshot *s);
/* `stable` of `later`: what it has in common with an earlier collect; of the problems only those of both stay. */
void sx_snapshot_compare(const struct sx_snapshot *earlier, struct sx_snapshot *later);
/* Who is alive, and what follows from it for values and owners. */
void sx_snapshot_judge(const struct sx_source *source, struct sx_snapshot *s);

/* ---- inside ---------------------------------------------------------------------------------------------------- */

#define SX_WINDOW 65536u

/* A part of the arena, copied. */
struct sx_window {
    const struct sx_source *source;
    uint64_t from, end; /* what is in it; */
    uint64_t limit;     /* nothing beyond is read */
    unsigned char *bytes;
};

struct sx_collect {
    const struct sx_source *source;
    struct sx_snapshot *s;
    struct sx_window window;
    uint32_t processes, participants; /* slots that have pages */
};

const void *sx_window_at(struct sx_collect *c, uint64_t offset, size_t n); /* valid until the next; at most SX_WINDOW */
void *sx_list_add(struct sx_snapshot *s, struct sx_list *list, size_t size);
void sx_note(struct sx_snapshot *s, enum sx_problem problem, uint64_t where, uint64_t what);
struct sx_seen_hold *sx_note_hold(struct sx_collect *c, uint32_t object, enum sx_kind kind, uint64_t thread,
                                  uint64_t process);
bool sx_possible(struct sx_collect *c, uint64_t word, bool process);
/* Adds a live cell whose header is given; false: it cannot be one. */
void sx_collect_cell(struct sx_collect *c, uint64_t offset, const struct sx_cell *cell);
void sx_settle_cells(struct sx_snapshot *s); /* after the judgement */
void sx_settle_waits(struct sx_snapshot *s);

#endif
