/* files.h: file locks: segments.c (what the process holds), files.c (the files, and the kernel), line.c (what others are told),
 * queue.c (waiting), ranges.c (lock objects); each uses those before it.
 */
#ifndef SYNCX_FILES_H
#define SYNCX_FILES_H

#include <sys/stat.h>

#include "core.h"

#define SX_TO_END INT64_MAX /* the last byte of a range that ends with the file, however far that grows */
#define SX_INHERITED 0u     /* the thread of a hold that came with a fork: any of the child's */

struct sx_range;
struct sx_hold;

/* A range that a hold has: a node in its file's tree. */
struct sx_segment {
    int64_t first, last;
    int64_t reach; /* the highest `last` in the subtree */
    struct sx_segment *child[2];
    uint32_t priority;
    bool shared;
    bool pending;   /* its thread waits for it in the kernel; meanwhile no other thread of the process may have it */
    bool disturbed; /* ... and meanwhile something of it was unlocked: it may not be all there once it is granted */
    struct sx_hold *hold;
    struct sx_segment *next, *previous; /* of the same hold */
    struct sx_file_hold *record;
};

/* What one thread holds through one lock object. */
struct sx_hold {
    struct sx_hold *next; /* of the same lock object */
    struct sx_file *file;
    uint64_t thread;
    uint32_t depth; /* of a reentrant lock: beyond the first */
    uint32_t waits; /* of its thread, for it, on their way: until they are over it stays in memory */
    bool taking;    /* its first range is awaited yet: nobody holds anything */
    bool ended;     /* a signal handler gave it back amid a wait of its thread, which takes it off the list */
    bool keeps_file;
    struct sx_segment *segments;
    struct sx_segment own; /* the first segment; used while own.hold is set */
};

/* A file that this process locks: one open file description for all lock objects on it. */
struct sx_file {
    struct sx_file *next; /* of all */
    struct sx_arena *arena;
    uint32_t device; /* as the kernel has it */
    dev_t st_dev;
    ino_t st_ino;
    enum sx_style style;
    int references; /* guarded by the registry's lock */
    bool writable;
    bool alone;        /* for one lock object: its holds outlive a fork */
    bool joint;        /* a forked process has the same description: unlocking would be for both */
    atomic_int broken; /* errno of a forked child that could not open it anew; EBADF: somebody closed it */
    long system;       /* f_type of statfs, where that is a network file system or one in user space; else 0 */
    atomic_int fd;
    pthread_mutex_t guard; /* of the tree */
    struct sx_segment *root;
    uint32_t random;
    struct sx_file_line *line;
};

/* A lock object: which range of which file. */
struct sx_range {
    struct sx_range *next, **link; /* of all */
    struct sx_arena *arena;
    struct sx_file *file;
    char *path; /* NULL: opened by descriptor */
    int64_t first, last;
    enum sx_style style;
    bool shared, reentrant, create, inherit;
    int64_t looked;          /* when the path was followed last, by the coarse clock */
    struct timespec changed; /* the inode's ctime then; 0: too fresh to be trusted */
    pthread_mutex_t guard;   /* of file and holds; taken before the file's */
    struct sx_hold *holds;
    struct sx_hold own; /* used while own.file is set */
};

/* Is the description still that of the file, and the file that of the path? */
enum sx_place { SX_IN_PLACE, SX_MOVED, SX_LOST };

/* ---- segments.c ---- */
struct sx_segment *sx_tree_overlapping(struct sx_segment *root, int64_t first, int64_t last,
                                       bool (*visit)(struct sx_segment *s, void *what), void *what);
struct sx_segment *sx_tree_conflict(struct sx_file *f, const struct sx_hold *but, int64_t first, int64_t last,
                                    bool shared);
struct sx_segment *sx_tree_of_thread(struct sx_file *f, uint64_t thread, const struct sx_hold *but, int64_t first,
                                     int64_t last, bool shared);
void sx_tree_insert(struct sx_file *f, struct sx_segment *s);
void sx_tree_remove(struct sx_file *f, struct sx_segment *s);
void sx_hold_reshape(struct sx_hold *hold, int64_t first, int64_t last, int mode, struct sx_segment *spare[2]);
void sx_hold_clear(struct sx_hold *hold);

/* ---- files.c ---- */
extern uint32_t sx_file_forks; /* how many forks this process is away from the first: what was before is the parent's */
enum sx_status sx_range_open(struct sx_range *r, int fd);                        /* by r->path, or of that descriptor */
enum sx_status sx_range_open_beside(struct sx_range *r, struct sx_range *other); /* of the same file */
void sx_range_close(struct sx_range *r); /* gives all back that is held through it */
enum sx_status sx_range_follow(struct sx_range *r, struct sx_file *f);
void sx_file_drop(struct sx_file *f);
int sx_file_ask(struct sx_file *f, bool shared, int64_t first, int64_t last, bool wait); /* 0 or errno */
int sx_file_give(struct sx_file *f, const struct sx_hold *hold, int64_t first, int64_t last);
enum sx_place sx_range_place(struct sx_range *r, struct sx_file *f, bool slept);
int sx_file_downgrade(struct sx_file *f, int64_t first, int64_t last);
bool sx_file_free(struct sx_file *f, bool shared, int64_t first, int64_t last);
struct sx_file_line *sx_file_line(struct sx_arena *arena, uint32_t device, uint64_t inode);
void sx_ranges_each(bool (*visit)(struct sx_range *r, void *what), void *what);
int sx_file_renew(struct sx_file *f);
bool sx_file_is_lost(struct sx_file *f);

/* One request: a range for a hold, on its way. */
struct sx_want {
    struct sx_range *range;
    struct sx_file *file;
    struct sx_hold *hold;
    uint64_t me;
    int64_t first, last;
    enum sx_mode mode;
    uint32_t forks; /* as of now: sx_file_forks */
    struct sx_segment *spare[2];
    uint64_t blocker; /* of this process, where that is in the way */
    bool slept;
    bool lost; /* of a flock that should become exclusive: not even the shared one is there now */
};

static inline bool sx_wants_shared(const struct sx_want *w)
{
    return w->mode == SX_SHARED_MODE;
}

/* ---- line.c ---- */
#define SX_OVERTAKE_US 1000u /* how long newcomers overtake after a hand-off */
static inline uint32_t sx_microseconds(void)
{
    return (uint32_t)(sx_now() / 1000);
}
void sx_publish(struct sx_segment *s);
void sx_unpublish(struct sx_segment *s);
bool sx_is_of_file(const struct sx_file *f, uint32_t device, uint64_t inode, uint32_t mode);
bool sx_record_is_of(const struct sx_file *f, struct sx_wait *w);
bool sx_record_overlaps(struct sx_wait *w, int64_t first, int64_t last);
struct sx_wait *sx_line_before(const struct sx_want *w, uint64_t *ticket, bool turn, struct sx_participant **whose);
bool sx_line_is_ahead(const struct sx_want *w);
uint32_t sx_us_in_a_row(struct sx_file_line *line);
bool sx_in_our_own_way(const struct sx_want *w);
bool sx_in_our_way_in_another_style(const struct sx_want *w);
void sx_line_wake(struct sx_file *f, int64_t first, int64_t last);
struct sx_file_hold *sx_line_holder(const struct sx_want *w, uint64_t *holder, uint32_t *state);

/* ---- queue.c ---- */
enum sx_status sx_range_obtain(struct sx_want *w, int64_t deadline);
bool sx_goes_on(const struct sx_want *w);
void *sx_give_host_up(struct sx_file *f);
void sx_take_host_back(struct sx_file *f, void *state);

/* ---- ranges.c ---- */
enum sx_status sx_range_acquire(struct sx_range *r, int64_t deadline);
enum sx_status sx_range_release(struct sx_range *r);
enum sx_status sx_range_upgrade(struct sx_range *r, int64_t deadline);
enum sx_status sx_range_downgrade(struct sx_range *r);
enum sx_status sx_range_add(struct sx_range *r, int64_t first, int64_t last, bool shared, int64_t deadline);
enum sx_status sx_range_remove(struct sx_range *r, int64_t first, int64_t last);
bool sx_range_locked(struct sx_range *r);
struct sx_hold *sx_range_hold(struct sx_range *r, uint64_t me); /* r->guard is held */
void sx_range_give_all(struct sx_range *r);

#endif
