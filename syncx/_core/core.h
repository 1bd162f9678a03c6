/* core.h: the interface of the C core.  Nothing below it includes Python.h.
 *
 * Layers, each using only those above it:  layout.h, futex.h  ->  process, participant  ->  wait  ->  mutex
 * ->  heap, names, arena  ->  the binding (py_*.c).  README.md has the argument for each.
 */
#ifndef SYNCX_CORE_H
#define SYNCX_CORE_H

#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#include "futex.h"
#include "layout.h"

#define SX_BELT_NS 100000000    /* how long a wake-up that a death swallowed may stay lost */
#define SX_RESERVATION_US 1000u /* how long a reservation lasts, and how seldom one is made */
#define SX_NOBODY UINT32_MAX

enum sx_status {
    SX_OK,
    SX_OWNER_DIED, /* acquired, and a previous owner died: a success */
    SX_BUSY,       /* a try failed */
    SX_TIMEOUT,
    SX_INTERRUPTED, /* the host's handler asked to stop */
    SX_DEADLOCK,    /* the caller holds it already */
    SX_NOT_OWNER,
    SX_RETIRED, /* the object or its arena was unlinked */
    SX_CLOSED,
    SX_GONE, /* a reference to an object that is no more */
    SX_NOT_FOUND,
    SX_EXISTS,
    SX_WRONG_KIND,
    SX_IN_USE,
    SX_OTHER_VALUE, /* an existing object was made with another value, parties or count */
    SX_TOO_SMALL,   /* the user's memory */
    SX_TOO_MANY,    /* more than can ever be: permits, read locks of a thread, nested waits */
    SX_NOT_HELD,    /* a release of more than there is to release */
    SX_BROKEN,      /* the barrier */
    SX_FULL_PARTICIPANTS,
    SX_FULL_PROCESSES,
    SX_FULL_NAMES,
    SX_FULL_CELLS,
    SX_FULL_REFERENCES,
    SX_NOT_AN_ARENA, /* the file was never one */
    SX_OTHER_VERSION,
    SX_DAMAGED,
    SX_OTHER_ARENA, /* a cell in the user's memory belongs to another arena */
    SX_NEVER_INITIALISED,
    SX_ERRNO, /* errno has the reason */
};

/* A place in the program that the thread is in, of the host's own kind; good while the thread waits. */
struct sx_spot {
    const void *code;
    int at;
};

/* What the host (the Python binding; nothing, in the C tests) does around a wait. */
struct sx_host {
    void *(*block)(void);    /* before spinning or sleeping: give up the GIL */
    void (*unblock)(void *); /* take it back */
    /* a signal came, or (belt) may have come unseen: run handlers; true: give the wait up */
    bool (*interrupted)(void **state, bool belt);
    /* the thread is the victim of a deadlock, sx_deadlock says which, and is to report it; true: give the wait up */
    bool (*report)(void **state);
    bool (*handles)(void);                                          /* may handlers run in this thread on the belt? */
    void (*place)(struct sx_spot *);                                /* before `block`: where in the program is this? */
    void (*where)(const struct sx_spot *, char *text, size_t size); /* ... that in words, cut to fit; after it */
    /* at registration: the thread's name, cut to fit, if that can be told */
    void (*name)(char *text, size_t size);
};
extern struct sx_host sx_host;
/* Set by a thread that must not call the host: it does not hold its lock, or the host is not whole (fork, exit). */
extern _Thread_local bool sx_hostless __attribute__((tls_model("initial-exec")));

/* One attached arena of this process.  Lives until no handle and no registered thread is left. */
struct sx_known;
struct sx_arena {
    struct sx_arena *next;
    atomic_bool open; /* false: every operation is refused */
    char *base;
    size_t size;
    struct sx_header *header;
    struct sx_process *processes;
    struct sx_participant *participants;
    sx_a64 *references;
    char *names;
    char *cells;
    atomic_int fd; /* the witness: its open file description holds this process's byte; see sx_arena_fd */
    dev_t device;
    ino_t inode;
    uint8_t id[16];
    uint64_t lineage;
    pthread_mutex_t local; /* guards what follows, and serialises attaching */
    uint32_t process;      /* our slot, or SX_NOBODY */
    uint32_t process_generation;
    uint64_t self; /* both as a process id; 0 while we have no slot */
    int handles;
    int registered;     /* threads of this process with a slot */
    atomic_int outside; /* locks open in the user's memory */
    struct sx_known *known;
    uint32_t known_size, known_used;
    uint32_t forks;          /* of this process, while it knew anything */
    uint32_t lingering;      /* entries without handles, kept for a forked child that has not registered yet */
    int fork_fd;             /* between the two halves of a fork: see process.c */
    _Atomic bool ordered;    /* lock order is checked here, if not everywhere */
    _Atomic bool order_full; /* that there is no room for more was told */
    bool fork_unseen;        /* a fork could not be followed: keep everything to the end */
    char path[];
};

/* ---- identity: participant.c ------------------------------------------------------------------------ */

/* The thread's identity in the arena it used last.  Initial-exec: one instruction, no call. */
struct sx_self {
    struct sx_arena *arena;
    uint64_t id;
    struct sx_participant *slot;
};
extern _Thread_local struct sx_self sx_self __attribute__((tls_model("initial-exec")));

enum sx_status sx_identity_slow(struct sx_arena *arena, uint64_t *id);

static inline enum sx_status sx_identity(struct sx_arena *arena, uint64_t *id)
{
    if (__builtin_expect(sx_self.arena == arena, 1)) {
        *id = sx_self.id;
        return SX_OK;
    }
    return sx_identity_slow(arena, id);
}

enum sx_life { SX_ALIVE, SX_DEAD, SX_IMPOSSIBLE };

static inline uint32_t sx_slot_of(uint64_t word)
{
    return (((uint32_t)word & SX_SLOT_MASK) >> SX_SLOT_SHIFT) - 1;
}
static inline bool sx_is_free(uint64_t word)
{
    return ((uint32_t)word & SX_SLOT_MASK) == 0;
}

sx_a32 *sx_life_word(struct sx_participant *p);
enum sx_life sx_holder_life(struct sx_arena *arena, uint64_t holder, uint32_t *life_value);
enum sx_life sx_holder_examine(struct sx_arena *arena, uint64_t holder); /* asks the second witness too */
bool sx_examination_due(bool now);                                       /* for tries, which never meet the belt */
struct sx_participant *sx_participant(struct sx_arena *arena, uint64_t holder);
uint32_t sx_participants_ready(struct sx_arena *arena);
void sx_participant_leave(struct sx_arena *arena);           /* the calling thread */
void sx_forget_registrations(void);                          /* in a forked child */
void sx_ranges_abandon(struct sx_arena *arena, uint64_t id); /* a thread ends: its file ranges, ranges.c */
uint32_t sx_life_kind(void);                                 /* the kind word of a life lock in this glibc */

/* The id of the thread that has a slot now, or had it last. */
static inline uint64_t sx_slot_id(struct sx_arena *arena, uint32_t slot)
{
    uint64_t generation = atomic_load_explicit(&arena->participants[slot].generation, memory_order_acquire);
    return generation << 32 | (uint64_t)(slot + 1) << SX_SLOT_SHIFT;
}

static inline bool sx_alive(struct sx_arena *arena, uint64_t id)
{
    uint32_t life;
    return sx_holder_life(arena, id, &life) == SX_ALIVE;
}

static inline bool sx_slot_alive(struct sx_arena *arena, uint32_t slot)
{
    return sx_alive(arena, sx_slot_id(arena, slot));
}

/* ---- processes: process.c --------------------------------------------------------------------------- */
enum sx_status sx_process_attach(struct sx_arena *arena); /* arena->local is held */
void sx_process_detach(struct sx_arena *arena);
bool sx_process_alive(struct sx_arena *arena, uint32_t slot, uint32_t generation);
struct sx_watch;
struct sx_process *sx_process_at(struct sx_arena *arena, uint32_t slot);
struct sx_process *sx_process_of(struct sx_arena *arena, uint64_t process);
struct sx_process *sx_process_of_thread(struct sx_arena *arena, const struct sx_participant *p);
enum sx_life sx_process_life(struct sx_arena *arena, uint64_t process, uint64_t thread, struct sx_watch *watch);
enum sx_life sx_process_examine(struct sx_arena *arena, uint64_t process, uint64_t thread);
void sx_process_note_death(struct sx_arena *arena, struct sx_participant *thread);
bool sx_other_processes(struct sx_arena *arena);
bool sx_witnessed(struct sx_arena *arena);       /* does any process but us hold its byte? */
enum sx_life sx_byte_held(int fd, int64_t slot); /* of a process slot; -1: of any.  SX_IMPOSSIBLE: cannot be asked */
bool sx_maps_file(dev_t device, ino_t inode, int pid);
uint64_t sx_pid_namespace(void);
void sx_process_reap(struct sx_arena *arena); /* arena->local is held */
void sx_process_reset(struct sx_arena *arena);
void sx_participant_reset(struct sx_arena *arena);
bool sx_process_seen(uint64_t pid_namespace); /* ours: pids of that namespace mean something here */
uint64_t sx_start_time(int pid, int tid);
enum sx_status sx_file_lock(struct sx_arena *arena, int type, bool wait);
void sx_install_fork_handlers(void);
void sx_install_file_fork_handlers(void); /* files.c */
int sx_reopen(struct sx_arena *arena);
int sx_arena_fd(struct sx_arena *arena);
bool sx_is_arena(struct sx_arena *arena, int fd);
bool sx_fork_pending(struct sx_arena *arena);

/* ---- waiting: wait.c -------------------------------------------------------------------------------- */
struct sx_pause {
    struct sx_arena *arena;
    int64_t deadline; /* the caller's, absolute; SX_NEVER */
    int64_t reported; /* when the thread told of a deadlock that this wait is part of; 0 */
    int64_t since;    /* when its first record was written: later ones, after handlers ran, are of the same wait */
    uint32_t units;   /* how many it waits for; 0 is 1 */
    uint32_t mode;    /* enum sx_mode */
    bool blocked;     /* the host gave up its lock */
    bool kept;        /* the record is a condition's: it stays while handlers run */
    bool placed;      /* `place` is filled in */
    bool met;         /* it has looked for a deadlock in this wait */
    bool belted;      /* the last sleep ended with the belt */
    int64_t looked;   /* the holder was read after this time; 0: not known */
    void *host_state;
    struct sx_wait *record;
    struct sx_spot place;  /* for those who look */
    struct sx_cell *slept; /* on what it has slept, since the time below; NULL: not since the last sx_pause_end */
    int64_t slept_ns;
};
enum sx_wake { SX_WOKEN, SX_CHANGED, SX_BELT, SX_DEADLINE, SX_STOP };

void sx_text_store(sx_a64 *to, const char *text, uint32_t words);
void sx_text_load(char *to, sx_a64 *text, uint32_t words);
void sx_pause_block(struct sx_pause *pause);
void sx_pause_end(struct sx_pause *pause);
enum sx_wake sx_pause_sleep(struct sx_pause *pause, struct sx_cell *cell, sx_a32 *word, uint32_t value,
                            const struct sx_watch *watch, int watched, uint64_t holder, int64_t bound);
bool sx_pause_interrupted(struct sx_pause *pause, bool belt);
enum sx_wake sx_be_victim(struct sx_pause *pause);
bool sx_pause_enrol(struct sx_pause *pause, struct sx_cell *cell, uint64_t place, uint64_t mark);
void sx_pause_withdraw(struct sx_pause *pause);
struct sx_wait *sx_pause_enrol_join(struct sx_pause *pause, uint32_t pid, uint64_t start_time);
uint32_t sx_wait_number(void);
struct sx_file_want { /* of what file which range, and how */
    uint32_t device;
    uint32_t mode; /* with the style, as in struct sx_file_hold */
    uint64_t inode;
    int64_t first, last;
    uint64_t ticket;
};
struct sx_wait *sx_pause_enrol_file(struct sx_pause *pause, const struct sx_file_want *want);
void sx_wake_later(sx_a32 *word);
void sx_wake_now(void);
void sx_forget_wakes(bool send);
bool sx_dead_waiter(struct sx_arena *arena, struct sx_cell *cell);
void sx_note_death(struct sx_arena *arena, struct sx_cell *cell, uint64_t holder);
bool sx_spinning_pays(void);
bool sx_spin(sx_a32 *less, sx_a32 *contended, bool (*ready)(void *), void *what);
/* Set by a thread that runs no signal handlers while it waits, and by one whose wait must not be given up. */
extern _Thread_local bool sx_quiet __attribute__((tls_model("initial-exec")));
extern _Thread_local bool sx_unwilling __attribute__((tls_model("initial-exec")));
/* What the thread wants of its waits until it says otherwise: WAIT_OFF, WAIT_REPORT and a priority; and the host's object
 * that it waits for. */
struct sx_wish {
    uint32_t mode;
    void *what;
};
extern _Thread_local struct sx_wish sx_wish __attribute__((tls_model("initial-exec")));
extern bool sx_belt_off;    /* tests: no belt, so that a lost wake-up hangs */
extern bool sx_spin_always; /* tests: also where there is one CPU, as a stepped process has */

/* What one acquire knows beside the word. */
struct sx_attempt {
    bool slept;      /* others may sleep too: take with the waiters bit, and a reservation is for us */
    bool spun;       /* since the last sleep */
    bool woken;      /* a wake is ours to hand on: in_flight counts it */
    bool belted;     /* the last sleep ended at the belt */
    bool final;      /* the deadline has passed: one look more */
    bool lost;       /* ... and then no wake was on its way to anybody, and none had found nobody asleep */
    uint32_t missed; /* wakes that found nobody, before the last sleep */
};
void sx_missed(struct sx_wakes *wakes);
void sx_wake_one(sx_a32 *word, struct sx_wakes *wakes);
bool sx_nothing_in_flight(struct sx_wakes *wakes, struct sx_attempt *a);
void sx_count_rescue(struct sx_arena *arena, struct sx_cell *cell, struct sx_wakes *wakes, struct sx_attempt *a,
                     bool died);
void sx_landed(struct sx_wakes *wakes, struct sx_attempt *a);
void sx_before_sleep(struct sx_wakes *wakes, struct sx_statistics *statistics, struct sx_attempt *a);
enum sx_status sx_after_sleep(struct sx_pause *pause, enum sx_wake wake, struct sx_attempt *a, uint64_t *me);

static inline struct sx_statistics *sx_statistics(struct sx_cell *cell)
{
    return (struct sx_statistics *)((char *)cell + SX_STATISTICS_AT);
}

/* ---- what happened to an object: tally.c ----------------------------------------------------------------- */
struct sx_counts {
    uint64_t contended, recoveries, rescues;
    uint64_t acquired, waited_ns, longest_ns;
    bool counted; /* `acquired` means something: the object is taken by one thread at a time */
};
uint16_t
sx_short(uint64_t ns); /* a float of 6 and 10 bits: exact below 1024, and else up to a part in 1024 too small */
uint64_t sx_long(uint16_t value);
void sx_tally_wait(struct sx_cell *cell, int64_t slept, int64_t whole);
void sx_count(struct sx_cell *cell, enum sx_kind kind, struct sx_counts *counts); /* with the mutex inside */

/* By the holder, who alone writes it: no atomic operation, and no cache line but the word's own. */
static inline void sx_tally_take(struct sx_tally *t)
{
    uint32_t n = atomic_load_explicit(&t->acquired, memory_order_relaxed) + 1;
    atomic_store_explicit(&t->acquired, n, memory_order_relaxed);
    if (__builtin_expect(n == 0, 0)) {
        uint16_t high = atomic_load_explicit(&t->acquired_high, memory_order_relaxed);
        atomic_store_explicit(&t->acquired_high, (uint16_t)(high + 1), memory_order_relaxed);
    }
}

/* ---- deadlocks: deadlock.c --------------------------------------------------------------------------- */
/* A thread of a deadlock, and what it waits for: the fields of its wait record. */
struct sx_member {
    uint64_t id;
    uint32_t pid, tid, kind, units, mode;
    uint64_t cell, address, holder, since_ns, ticket, reported_ns;
    char where[SX_WHERE_WORDS * 8 + 1], name[SX_NAME_WORDS * 8 + 1];
    bool here; /* its pid means the same process to us */
};
struct sx_link {
    uint16_t from, to; /* `from` waits for something that `to` has */
};
/* What the victim of a deadlock, which its thread has just been, consisted of; it comes first. */
struct sx_deadlock {
    uint32_t count, links;
    struct sx_member *member;
    struct sx_link *link;
};
extern _Thread_local struct sx_deadlock sx_deadlock __attribute__((tls_model("initial-exec")));
extern bool sx_deadlock_off;
bool sx_may_be_for_ever(uint32_t kind); /* waitfor.c */
extern void (*sx_deadlock_hook)(void);  /* tests: between a verdict and its delivery */
int64_t sx_belt_of(struct sx_arena *arena, uint64_t me, struct sx_wait *w, int64_t now);
uint64_t sx_scan_interval(struct sx_arena *arena);
bool sx_examines(struct sx_arena *arena, uint64_t holder);
bool sx_nudged(struct sx_arena *arena, uint64_t me);
void sx_look_for_all(struct sx_arena *arena);
bool sx_deadlock_closed(struct sx_arena *arena, uint64_t me, bool first);
bool sx_deadlock_scan(struct sx_arena *arena, uint64_t me);
bool sx_deadlock_tell(struct sx_arena *arena, uint64_t me);
bool sx_deadlock_behind(struct sx_arena *arena, uint64_t me, uint64_t other);
void sx_deadlock_forget(void);

/* ---- the end of a process: join.c --------------------------------------------------------------------- */
enum sx_status sx_join(struct sx_arena *arena, int pidfd, uint32_t pid, uint64_t start_time, int64_t deadline);

struct sx_look;

/* ---- mutex: mutex.c --------------------------------------------------------------------------------- */
enum sx_status sx_mutex_lock_slow(struct sx_arena *arena, struct sx_mutex *m, uint64_t me, int64_t deadline);
enum sx_status sx_mutex_unlock_slow(struct sx_mutex *m, uint64_t me, bool keep_mark);
void sx_mutex_retire(struct sx_mutex *m);
void sx_mutex_adopt(struct sx_mutex *m);
bool sx_mutex_held(struct sx_arena *arena, struct sx_mutex *m); /* by a live thread; asks the second witness */
void sx_mutex_make_inside(struct sx_cell *outer, struct sx_mutex *m, enum sx_kind kind);
void sx_mutex_look(struct sx_arena *arena, struct sx_mutex *m, struct sx_look *look);
void sx_mutex_adopt_inside(struct sx_arena *arena, struct sx_mutex *m);

/* Takes a word that is free and without flags: the only transition of an uncontended acquire.  Acquire: what
 * the last holder wrote is seen. */
static inline bool sx_mutex_take(struct sx_mutex *m, uint64_t me)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    if ((uint32_t)w != 0 ||
        !atomic_compare_exchange_strong_explicit(&m->word, &w, me, memory_order_acquire, memory_order_relaxed))
        return false;
    sx_tally_take(&m->tally);
    return true;
}

/* Gives back a word that names us without flags.  Release: what we wrote is seen by the next holder. */
static inline bool sx_mutex_give(struct sx_mutex *m, uint64_t me)
{
    return atomic_compare_exchange_strong_explicit(&m->word, &me, 0, memory_order_release, memory_order_relaxed);
}

/* deadline: 0 tries only; SX_NEVER waits for ever. */
static inline enum sx_status sx_mutex_lock(struct sx_arena *arena, struct sx_mutex *m, int64_t deadline)
{
    uint64_t me;
    enum sx_status s = sx_identity(arena, &me);
    if (s != SX_OK)
        return s;
    return sx_mutex_take(m, me) ? SX_OK : sx_mutex_lock_slow(arena, m, me, deadline);
}

/* keep_mark: leave an owner-died mark for the next holder. */
static inline enum sx_status sx_mutex_unlock(struct sx_arena *arena, struct sx_mutex *m, bool keep_mark)
{
    if (sx_self.arena == arena && sx_mutex_give(m, sx_self.id))
        return SX_OK;
    uint64_t me;
    enum sx_status s = sx_identity(arena, &me);
    return s == SX_OK ? sx_mutex_unlock_slow(m, me, keep_mark) : s;
}

bool sx_mutex_mark(struct sx_mutex *m, uint64_t me); /* the owner-died mark of our own hold */
void sx_mutex_clear_mark(struct sx_mutex *m, uint64_t me);

/* A reentrant lock is a mutex and a count that its holder keeps beside the word.  The count is 0 while the word is
 * free and is set to 0 by whoever takes the word from a dead holder, so it needs no recovery of its own. */
static inline bool sx_rlock_again(struct sx_mutex *m, uint64_t me)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    uint32_t depth = atomic_load_explicit(&m->depth, memory_order_relaxed);
    if ((w & SX_ID_MASK) != me || depth == UINT32_MAX)
        return false;
    atomic_store_explicit(&m->depth, depth + 1, memory_order_relaxed);
    return true;
}

/* One level back; false: it is the outermost, or not ours. */
static inline bool sx_rlock_back(struct sx_mutex *m, uint64_t me)
{
    uint64_t w = atomic_load_explicit(&m->word, memory_order_relaxed);
    uint32_t depth = atomic_load_explicit(&m->depth, memory_order_relaxed);
    if ((w & SX_ID_MASK) != me || depth == 0)
        return false;
    atomic_store_explicit(&m->depth, depth - 1, memory_order_relaxed);
    return true;
}

/* ---- event: event.c ---------------------------------------------------------------------------------- */
enum sx_status sx_event_set(struct sx_event *e);
enum sx_status sx_event_clear(struct sx_event *e);
enum sx_status sx_event_wait(struct sx_arena *arena, struct sx_event *e, int64_t deadline);

/* Acquire: what was written before it was set is seen. */
static inline bool sx_event_is_set(struct sx_event *e)
{
    return atomic_load_explicit(&e->word, memory_order_acquire) & EVENT_SET;
}

/* ---- semaphore: semaphore.c --------------------------------------------------------------------------- */
enum sx_status sx_semaphore_acquire(struct sx_arena *arena, struct sx_semaphore *s, uint32_t n, int64_t deadline);
enum sx_status sx_semaphore_release(struct sx_semaphore *s, uint32_t n);

static inline uint32_t sx_semaphore_count(uint64_t word)
{
    return (uint32_t)(word >> 32) & SEMAPHORE_COUNT;
}

/* n units, if they are there: the only transition of an uncontended acquire.  Acquire: what was written before they
 * were released is seen. */
static inline bool sx_semaphore_take(struct sx_semaphore *s, uint32_t n)
{
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed);
    while (sx_semaphore_count(w) >= n && !(w & SEMAPHORE_RETIRED))
        if (atomic_compare_exchange_weak_explicit(&s->word, &w, w - ((uint64_t)n << 32), memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* n units more, where nobody sleeps.  Release: what we wrote is seen by whoever takes them. */
static inline bool sx_semaphore_give(struct sx_semaphore *s, uint32_t n)
{
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed);
    while ((w >> 32) + n <= SEMAPHORE_COUNT && !(w & SEMAPHORE_RETIRED)) /* with WAITERS the sum is larger */
        if (atomic_compare_exchange_weak_explicit(&s->word, &w, w + ((uint64_t)n << 32), memory_order_release,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* ---- latch: latch.c -------------------------------------------------------------------------------------- */
enum sx_status sx_latch_wait(struct sx_arena *arena, struct sx_latch *l, int64_t deadline);
enum sx_status sx_latch_count_down(struct sx_latch *l, uint32_t n); /* SX_NOT_HELD: more than is left */

static inline uint32_t sx_latch_count(struct sx_latch *l)
{
    return (uint32_t)(atomic_load_explicit(&l->word, memory_order_acquire) >> 32) & LATCH_COUNT;
}

/* ---- permits: permits.c ------------------------------------------------------------------------------------ */
struct sx_death {
    bool met;
    uint32_t pid, tid; /* of the last dead holder whose permit was taken */
};
enum sx_status sx_permits_acquire(struct sx_arena *arena, struct sx_permits *p, uint32_t n, uint32_t scoped,
                                  int64_t deadline, uint32_t *hint, struct sx_death *death);
enum sx_status sx_permits_release(struct sx_arena *arena, struct sx_permits *p, uint32_t n, uint32_t scoped);
void sx_permits_wake(struct sx_permits *p, uint32_t freed, bool counted);
uint32_t sx_permits_free(struct sx_arena *arena, struct sx_permits *p, uint32_t enough);
uint32_t sx_permits_held(struct sx_arena *arena, struct sx_permits *p, uint64_t thread);

/* Takes a permit that is free, while nothing was unlinked: the only transition of an uncontended acquire.  Acquire: what
 * its last holder wrote is seen. */
static inline bool sx_permit_take(struct sx_permits *p, uint32_t at, uint64_t word, uint64_t thread)
{
    struct sx_permit *permit = &p->permit[at];
    uint64_t none = 0;
    if (atomic_load_explicit(&p->wake, memory_order_relaxed) & PERMITS_RETIRED ||
        atomic_load_explicit(&permit->word, memory_order_relaxed) != 0 ||
        !atomic_compare_exchange_strong_explicit(&permit->word, &none, word, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    atomic_store_explicit(&permit->thread, thread, memory_order_relaxed);
    return true;
}

/* Before it is given back: until the next taker has said which thread it is, nobody is named for it. */
static inline void sx_permit_forget(struct sx_permit *permit)
{
    atomic_store_explicit(&permit->thread, 0, memory_order_relaxed);
}

/* Gives back the permit that this thread took with that word, if nobody sleeps.  Looks for sleepers again after it: the
 * exchange and that load are in the one order of all that is seq_cst, see permits.c. */
static inline bool sx_permit_give(struct sx_permits *p, uint32_t at, uint64_t word, uint64_t thread)
{
    struct sx_permit *permit = &p->permit[at];
    if (atomic_load_explicit(&permit->thread, memory_order_relaxed) != thread ||
        atomic_load_explicit(&p->wake, memory_order_relaxed) & (PERMITS_WAITERS | PERMITS_SEVERAL) ||
        atomic_load_explicit(&permit->word, memory_order_relaxed) != word)
        return false;
    sx_permit_forget(permit);
    if (!atomic_compare_exchange_strong_explicit(&permit->word, &word, 0, memory_order_seq_cst, memory_order_relaxed))
        return false;
    if (__builtin_expect(atomic_load_explicit(&p->wake, memory_order_seq_cst) &
                             (PERMITS_WAITERS | PERMITS_SEVERAL | PERMITS_LOOKING),
                         0))
        sx_permits_wake(p, 1, false);
    return true;
}

/* ---- once: once.c ------------------------------------------------------------------------------------ */
enum sx_status sx_once_begin(struct sx_arena *arena, struct sx_once *o, int64_t deadline, bool *done);
enum sx_status sx_once_finish(struct sx_arena *arena, struct sx_once *o, const void *result, uint32_t length);
enum sx_status sx_once_abandon(struct sx_arena *arena, struct sx_once *o);
enum sx_status sx_once_read(struct sx_once *o, void *result, uint32_t *length);

/* Acquire: what the initialiser wrote is seen. */
static inline bool sx_once_done(struct sx_once *o)
{
    return atomic_load_explicit(&o->word, memory_order_acquire) & ONCE_DONE;
}

/* ---- condition: condition.c --------------------------------------------------------------------------- */
/* One wait.  In order: enrol (holding the lock), give the lock up, sleep, take the lock, consume or leave. */
struct sx_waiter {
    struct sx_pause pause;
    struct sx_condition *condition;
    struct sx_wait *record; /* NULL: given up */
    uint64_t me;
    uint32_t state; /* of the record, while nobody has notified us */
    bool belted;    /* the last sleep ended at the belt */
};
enum sx_status sx_condition_enrol(struct sx_arena *arena, struct sx_condition *c, int64_t deadline,
                                  struct sx_waiter *w);
enum sx_status sx_condition_sleep(struct sx_waiter *w);
bool sx_condition_mine(struct sx_waiter *w);
void sx_condition_consume(struct sx_waiter *w);
void sx_condition_leave(struct sx_waiter *w);
uint32_t sx_condition_notify(struct sx_arena *arena, struct sx_condition *c, struct sx_mutex *lock, uint32_t n);
uint32_t sx_condition_waiters(struct sx_arena *arena, struct sx_condition *c);
/* participant.c calls this one, of a slot whose life lock it has: passes its notifications on */
void sx_condition_inherit(struct sx_arena *arena, struct sx_participant *p, bool died);
void sx_condition_dismiss(struct sx_arena *arena, struct sx_cell *cell); /* after retiring it; NULL: all */

/* ---- marks: marks.c ------------------------------------------------------------------------------------------ */
/* Ours that is active, or NULL.  *unused: a place for one more; *pending: one that waits, for the writer *number. */
struct sx_own_marks {
    sx_a64 *active, *unused, *pending;
    uint32_t number;
};

struct sx_own_marks sx_own_marks(struct sx_participant *self, uint32_t key);
void sx_mark_add(struct sx_participant *self, sx_a64 *mark, uint64_t value);
void sx_mark_remove(struct sx_participant *self, sx_a64 *mark);

#define SX_NO_WRITER UINT32_MAX
/* Where a search for readers is; begins as zero. */
struct sx_reader {
    uint32_t slot; /* the next to look at */
    uint64_t id;   /* the live reader found */
    struct sx_watch life;
    uint32_t dead; /* marks of dead threads that were passed over */
};

bool sx_next_reader(struct sx_arena *arena, uint32_t key, uint32_t number, bool examine, struct sx_reader *r);

/* ---- readers-writer lock: rwlock.c -------------------------------------------------------------------------- */
enum sx_status sx_rwlock_read(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline);
enum sx_status sx_rwlock_read_end(struct sx_arena *arena, struct sx_rwlock *rw);
enum sx_status sx_rwlock_write(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline);
enum sx_status sx_rwlock_write_end(struct sx_arena *arena, struct sx_rwlock *rw, bool keep_mark);
enum sx_status sx_rwlock_upgradable(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline);
enum sx_status sx_rwlock_upgradable_end(struct sx_arena *arena, struct sx_rwlock *rw, bool keep_mark);
enum sx_status sx_rwlock_upgrade(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline);
enum sx_status sx_rwlock_downgrade(struct sx_arena *arena, struct sx_rwlock *rw); /* a writer becomes a reader */
enum sx_status sx_rwlock_downgrade_upgraded(struct sx_arena *arena, struct sx_rwlock *rw);
void sx_rwlock_left(struct sx_rwlock *rw); /* a reader has left and must tell the writer, if there is one */
bool sx_rwlock_read_by_me(struct sx_arena *arena, struct sx_rwlock *rw, bool downgraded);
/* The live thread that writes, or is the upgradable reader, or 0. */
uint64_t sx_rwlock_writer(struct sx_arena *arena, struct sx_rwlock *rw);
uint64_t sx_rwlock_upgradable_reader(struct sx_arena *arena, struct sx_rwlock *rw);
bool sx_rwlock_torn(struct sx_arena *arena, struct sx_rwlock *rw);
/* Calls back for each live thread that reads; how many there are. */
uint32_t sx_rwlock_readers(struct sx_arena *arena, struct sx_rwlock *rw, void (*reader)(void *, uint64_t),
                           void *context);

/* A store, and a full fence: what the thread loads next it loads after everybody can see the mark. */
static inline void sx_mark(sx_a64 *mark, uint64_t value)
{
    atomic_exchange_explicit(mark, value, memory_order_seq_cst);
#if !defined(__x86_64__) && !defined(__i386__)
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* The usual case: the thread, whose slot in the lock's arena this is, reads nothing else, and no writer is present. */
static inline bool sx_rwlock_read_fast(struct sx_participant *self, struct sx_rwlock *rw, uint32_t key)
{
    if (atomic_load_explicit(&self->marked, memory_order_relaxed) != 0)
        return false;
    atomic_store_explicit(&self->marked, 1, memory_order_relaxed);
    sx_mark(&self->marks[0], (uint64_t)key << 32 | 1);
    /* acquire: what the last writer wrote is seen */
    if (!(atomic_load_explicit(&rw->phase, memory_order_seq_cst) & (RWLOCK_PRESENT | RWLOCK_RETIRED)))
        return true;
    sx_mark(&self->marks[0], 0); /* the slow path starts afresh */
    atomic_store_explicit(&self->marked, 0, memory_order_release);
    sx_rwlock_left(rw);
    return false;
}

static inline bool sx_rwlock_read_end_fast(struct sx_participant *self, struct sx_rwlock *rw, uint32_t key)
{
    if (atomic_load_explicit(&self->marked, memory_order_relaxed) != 1 ||
        atomic_load_explicit(&self->marks[0], memory_order_relaxed) != ((uint64_t)key << 32 | 1))
        return false;
    /* both a release: a writer that sees either is ordered after what we have read */
    sx_mark(&self->marks[0], 0);
    atomic_store_explicit(&self->marked, 0, memory_order_release);
    if (atomic_load_explicit(&rw->phase, memory_order_seq_cst) & RWLOCK_PRESENT)
        sx_rwlock_left(rw);
    return true;
}

/* ---- barrier: barrier.c ------------------------------------------------------------------------------ */
enum sx_barrier_use { SX_BARRIER_WAIT, SX_BARRIER_ACT, SX_BARRIER_ENROL };
struct sx_arrival {
    uint64_t me;     /* who arrived */
    uint32_t phase;  /* in which phase, */
    uint32_t index;  /* and where */
    uint32_t resets; /* how many there had been */
    uint32_t seen;   /* the word when there was no place */
    bool last;       /* all are there now */
    bool done;       /* nothing to wait for */
};
enum sx_status sx_barrier_wait(struct sx_arena *arena, struct sx_barrier *b, int64_t deadline, enum sx_barrier_use use,
                               struct sx_arrival *a);
enum sx_status sx_barrier_complete(struct sx_arena *arena, struct sx_barrier *b, const struct sx_arrival *a, bool well);
enum sx_status sx_barrier_forget(struct sx_arena *arena, struct sx_barrier *b, const struct sx_arrival *a);
enum sx_status sx_barrier_withdraw(struct sx_arena *arena, struct sx_barrier *b);
enum sx_status sx_barrier_abort(struct sx_arena *arena, struct sx_barrier *b);
enum sx_status sx_barrier_reset(struct sx_arena *arena, struct sx_barrier *b);
uint32_t sx_barrier_state(struct sx_arena *arena, struct sx_barrier *b, bool *broken);
uint32_t sx_barrier_victim(struct sx_barrier *b);

/* ---- heap and names: heap.c, names.c.  All but sx_ready need the arena's lock. ---------------------- */
enum sx_status sx_ready(struct sx_arena *arena, enum sx_region_number region, uint64_t bytes);
enum sx_status sx_heap_allocate(struct sx_arena *arena, bool cell, uint32_t units, uint32_t *unit);
void sx_heap_free(struct sx_arena *arena, bool cell, uint32_t unit);
uint32_t sx_heap_rounded(uint32_t units);
struct sx_cell *sx_cell_at(struct sx_arena *arena, uint32_t unit);
struct sx_name *sx_name_at(struct sx_arena *arena, uint32_t unit);
struct sx_cell *sx_cell_waited_for(struct sx_arena *arena, uint64_t offset, size_t size, uint64_t *room);

enum sx_status sx_name_find(struct sx_arena *arena, const char *name, uint32_t length, uint32_t *unit);
enum sx_status sx_name_room(struct sx_arena *arena);
void sx_name_insert(struct sx_arena *arena, uint32_t unit);
uint32_t sx_name_hash(const char *name, uint32_t length);
void sx_name_remove(struct sx_arena *arena, uint32_t unit);
enum sx_status sx_arena_rebuild(struct sx_arena *arena);

/* ---- objects: object.c ------------------------------------------------------------------------------- */
enum sx_create { SX_OPEN, SX_CREATE, SX_EXCLUSIVE };
#define SX_ANY UINT32_MAX /* no value was named: what is there, or 1 */
struct sx_object {
    struct sx_cell *cell;
    uint32_t unit; /* SX_NOBODY: in the user's memory */
    uint32_t generation;
    bool created;
};
/* What is asked for, and, where that cannot be had, what is there instead. */
struct sx_request {
    enum sx_kind kind;
    uint32_t parameter; /* value, parties or count; SX_ANY */
    enum sx_create create;
    enum sx_kind found;
    uint32_t found_parameter;
    size_t needed; /* with SX_TOO_SMALL */
};
enum sx_status sx_object_open(struct sx_arena *arena, const char *name, uint32_t length, struct sx_request *request,
                              struct sx_object *object);
enum sx_status sx_object_anonymous(struct sx_arena *arena, struct sx_request *request, struct sx_object *object);
enum sx_status sx_object_reference(struct sx_arena *arena, uint32_t unit, uint32_t generation, enum sx_kind kind,
                                   struct sx_object *object);
enum sx_status sx_object_at(struct sx_arena *arena, void *memory, size_t size, struct sx_request *request,
                            struct sx_object *object);
void sx_object_close(struct sx_arena *arena, struct sx_object *object); /* never waits */
void sx_known_sweep(struct sx_arena *arena);
void sx_object_pin(struct sx_arena *arena, struct sx_object *object);
enum sx_status sx_object_unlink(struct sx_arena *arena, const char *name, uint32_t length, bool force);
enum sx_kind sx_cell_kind(struct sx_cell *cell);

/* A look at an object that changes nothing. */
struct sx_look {
    int64_t value; /* free units or permits, how many have arrived, ...; -1: there is none, or a broken barrier */
    bool owner_died;
    /* called for each live holder: a process id or 0, a thread's holder id or 0, enum sx_mode */
    void (*holder)(void *context, uint64_t process, uint64_t thread, uint32_t mode);
    void *context;
};

/* What object.c must know of a kind; kinds.c has the table. */
struct sx_kind_operations {
    uint32_t parameter_max;                                     /* 0: there is none */
    size_t (*size)(uint32_t parameter);                         /* bytes, header included */
    void (*make)(struct sx_cell *cell, uint32_t parameter);     /* the body is zero; all but the tag is there */
    bool (*held)(struct sx_arena *arena, struct sx_cell *cell); /* may a live thread or process hold it? */
    void (*retire)(struct sx_cell *cell);                       /* refuse from now on, and wake all to be told */
    bool (*retired)(struct sx_cell *cell);
    /* in the user's memory: its arena is gone, and all holders with it; this is the new one */
    void (*adopt)(struct sx_arena *arena, struct sx_cell *cell);
    void (*look)(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look);
};
const struct sx_kind_operations *sx_kind_operations(enum sx_kind kind);
size_t sx_kind_size(enum sx_kind kind, uint32_t parameter); /* 0: no such kind, or too large */

/* Tells cells apart that may be in use at one time: their place and ten bits of the generation, so that what a thread
 * says of a cell is not taken for one of its successor; in users' memory random bits and the top one. */
static inline uint32_t sx_cell_key(struct sx_arena *arena, struct sx_cell *cell)
{
    uintptr_t at = (uintptr_t)cell - (uintptr_t)arena->cells;
    if (at >= (uintptr_t)SX_MAX_CELL_UNITS * SX_LINE)
        return cell->key;
    uint32_t generation = atomic_load_explicit(&cell->generation, memory_order_relaxed);
    return (generation & 0x3ffu) << 21 | ((uint32_t)(at / SX_LINE) + 1);
}

/* Is the cell bound to this arena?  One in the user's memory may have been adopted by another. */
static inline bool sx_cell_is_ours(struct sx_arena *arena, struct sx_cell *cell)
{
    uint64_t id[2];
    memcpy(id, arena->id, sizeof id);
    return atomic_load_explicit(&cell->arena_id[0], memory_order_acquire) == id[0] &&
           atomic_load_explicit(&cell->arena_id[1], memory_order_acquire) == id[1];
}

/* A cell in the user's memory outlives its arena, and nobody marks its word then. */
static inline bool sx_cell_outlived(struct sx_arena *arena, struct sx_cell *cell)
{
    return atomic_load_explicit(&arena->header->retired, memory_order_acquire) != 0 || !sx_cell_is_ours(arena, cell);
}

/* what a process keeps of its own about the cells it knows */
void sx_known_drop_all(struct sx_arena *arena);        /* the arena's lock is held */
enum sx_status sx_known_again(struct sx_arena *arena); /* in a forked child */

/* ---- arena: arena.c ---------------------------------------------------------------------------------- */
enum sx_status sx_arena_open(const char *path, bool create, bool named, mode_t mode, struct sx_arena **out);
void sx_arena_keep(struct sx_arena *arena); /* one handle more: the mapping stays */
void sx_arena_release(struct sx_arena *arena);
enum sx_status sx_arena_lock(struct sx_arena *arena);
enum sx_status sx_arena_trylock(struct sx_arena *arena);
void sx_arena_unlock(struct sx_arena *arena);
enum sx_status sx_arena_collect(struct sx_arena *arena); /* takes back what dead processes knew */
enum sx_status sx_arena_unlink(struct sx_arena *arena, bool force);
void sx_arena_leave_all(void); /* at exit */
bool sx_boot_id(uint8_t id[16]);
enum sx_status sx_header_examine(const struct sx_header *h);
struct stat;
enum sx_status sx_arena_examine(int fd, struct sx_header *h, const struct stat *st);
extern pthread_mutex_t sx_arenas_lock;
extern struct sx_arena *sx_arenas;

extern struct sx_arena sx_closed_arena; /* stands where a closed handle's arena stood */

#endif
