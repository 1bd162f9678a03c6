/* layout.h: the only definition of what lies in shared memory.
 *
 * Every process of every version that maps an arena agrees on this file; a change here is a change of
 * SX_ABI.  An arena is one file:
 *
 *     header | process slots | participant slots | two name indexes | references | names | cells | times | order
 *
 * The header carries the offset, item size and capacity of every region, so that a tool which does not
 * share this header can still read the file.  Units: offsets and sizes in bytes, times in nanoseconds of
 * CLOCK_MONOTONIC unless a name says otherwise.
 */
#ifndef SYNCX_LAYOUT_H
#define SYNCX_LAYOUT_H

#include <features.h>
#if !defined(__linux__) || !defined(__GLIBC__)
#error "syncx needs Linux with the GNU C library: it builds on futexes and on glibc's robust mutexes"
#endif

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic(uint64_t) sx_a64;
typedef _Atomic(uint32_t) sx_a32;
typedef _Atomic(uint16_t) sx_a16;

#define SX_MAGIC UINT64_C(0x314e524178636e79) /* "yncxARN1" in the order of a little-endian machine */
#define SX_ABI 4u
#define SX_PAGE 4096u
#define SX_LINE 64u /* a cache line; the unit of the cell region */

/* ---- holder ids and words --------------------------------------------------------------------------
 *
 * A holder id names one thread that is, or was, attached to the arena: the slot's generation in the high
 * half, slot + 1 in bits 8..23 of the low half.  A mutex word is a holder id or'ed with flags, or, where
 * the slot bits are 0, a free word with flags; its high half is then stale and means nothing.  The low
 * half is the futex.  The flags sit in the lowest bits so that FUTEX_WAKE_OP, whose operand has twelve
 * signed bits, can leave any of them and clear the rest.
 */
#define MUTEX_WAITERS 0x01u    /* a thread may sleep on the word; an error towards 1 costs one system call */
#define MUTEX_RESERVED 0x02u   /* free, but for about a millisecond only threads that have slept may take it */
#define MUTEX_OWNER_DIED 0x04u /* an owner died and nobody has declared the data repaired yet */
#define MUTEX_LATER 0x08u      /* held, and the holder has wakes to send once it is free; nothing to others */
#define MUTEX_RETIRED 0x10u    /* unlinked: never to be taken again; an error towards 1 is not possible */
#define MUTEX_FLAGS 0xffu
#define SX_SLOT_SHIFT 8
#define SX_SLOT_MASK 0x00ffff00u
#define SX_ID_MASK (~(uint64_t)MUTEX_FLAGS)

/* A process id has the same form, with the process slot and its generation. */

/* ---- capacities ------------------------------------------------------------------------------------ */
#define SX_MAX_PROCESSES 4096u
#define SX_MAX_PARTICIPANTS 4096u
#define SX_PARTICIPANTS_STEP 20480u /* bytes: room for four or five at a time */
#define SX_MAX_INDEX_LOG2 18u       /* 262,144 entries, at most half full of live names */
#define SX_MIN_INDEX_LOG2 8u
#define SX_MAX_NAMES (1u << (SX_MAX_INDEX_LOG2 - 1))
#define SX_MAX_REFERENCES (1u << 20)
#define SX_NAME_UNIT 32u
#define SX_MAX_NAME_UNITS (1u << 20)
#define SX_MAX_CELL_UNITS (1u << 20)
#define SX_MAX_NAME 255u       /* bytes of UTF-8 */
#define SX_CLASSES 40u         /* size classes of a heap, see heap.c */
#define SX_WAITS 6u            /* wait records of a thread: a signal handler that waits inside a wait takes the next */
#define SX_MARKS 64u           /* read locks that a thread may hold at once */
#define SX_FILE_HOLDS 12u      /* file ranges of a thread that others are told of */
#define SX_TRACES 16u          /* holds of a thread of which a trace is kept, if it is asked for */
#define SX_WHERE_WORDS 16u     /* a line of a program, as text: words of 8 bytes */
#define SX_NAME_WORDS 4u       /* the name of a thread, likewise */
#define SX_TIMES 4096u         /* objects whose holds are timed, with SYNCX_TRACE */
#define SX_ORDER_CLASSES 1024u /* lock classes whose order is known, with SYNCX_ORDER */
#define SX_ORDER_EDGES 4096u   /* ... and which of them was taken under which */
#define SX_ORDER_OBJECTS 8192u /* nameless objects whose class is known */
#define SX_ORDER_GATES 6u      /* locks under which an order was always seen */
#define SX_FILE_LINES 128u     /* in which threads wait for file ranges, by the file's hash */
#define SX_MAX_UNITS INT32_MAX /* of a Semaphore */
#define SX_MAX_PERMITS (1u << 18)
#define SX_MAX_PARTIES SX_MAX_PARTICIPANTS
#define SX_ONCE_RESULT 768u /* bytes of a pickled result */

enum sx_region_number {
    SX_PROCESSES,
    SX_PARTICIPANTS,
    SX_INDEX_A,
    SX_INDEX_B,
    SX_REFERENCES,
    SX_NAMES,
    SX_CELLS,
    SX_HOLD_TIMES,
    SX_ORDER,
    SX_REGIONS
};

enum sx_kind {
    SX_KIND_NONE,
    SX_KIND_MUTEX,
    SX_KIND_RLOCK,
    SX_KIND_ARENA_LOCK, /* the one in the header */
    SX_KIND_SEMAPHORE,
    SX_KIND_PERMITS, /* BoundedSemaphore and BinarySemaphore */
    SX_KIND_EVENT,
    SX_KIND_LATCH,
    SX_KIND_CONDITION,
    SX_KIND_BARRIER,
    SX_KIND_ONCE,
    SX_KIND_RWLOCK,
    SX_KIND_GUARD, /* a mutex inside one of the others, never alone */
    SX_KIND_FILE,  /* a range of a file: waits and holds only, no cell */
    SX_KIND_JOIN,  /* the end of a process: waits only, no cell */
    SX_KINDS
};

/* ---- cells: one primitive's shared state ----------------------------------------------------------- */

/* The first line of every cell, in the arena or in memory that the user brought. */
struct sx_cell {
    uint32_t units;      /* size in SX_LINE units, header included; never changes once carved */
    sx_a32 tag;          /* SX_TAG(kind) while the cell is alive, 0 while it is free; written last */
    sx_a32 generation;   /* steps when the cell is freed: a reference to an older one is refused */
    sx_a32 name;         /* unit of its name + 1, or 0: anonymous, or unlinked */
    sx_a32 references;   /* derived: how many processes know the cell */
    sx_a32 next;         /* derived: next in the free list, unit + 1 */
    sx_a64 arena_id[2];  /* the arena whose participants the word names */
    sx_a64 lineage;      /* that arena's place (a hash of its path): survives its re-creation */
    uint64_t created_ns; /* CLOCK_REALTIME */
    uint32_t parameter;  /* the value, parties or count it was made with */
    uint32_t key;        /* random and not 0: tells cells in users' memory apart, see sx_cell_key */
};
#define SX_TAG(kind) (0x53580000u | (SX_ABI << 8) | (uint32_t)(kind))

/* What happened to an object since it was made; at the same place in each of them. */
struct sx_statistics {
    sx_a32 contended;  /* waits that slept, */
    sx_a32 recoveries; /* holds taken over from a dead owner, */
    sx_a32 rescues;    /* wake-ups that only the belt delivered; */
    sx_a32 dead_pid;   /* and the owner that died last */
    sx_a32 dead_tid;
};

/* The rest of it, behind the statistics.  `acquired` and its upper part are changed by the holder of the mutex that has
 * them, with plain stores, and are 0 in what has no single holder. */
struct sx_tally {
    sx_a64 waited_ns;     /* in all waits that slept, from the first sleep to the end of the wait */
    sx_a32 acquired;      /* how often it was taken, modulo 2^32, */
    sx_a16 acquired_high; /* and how often that began anew */
    sx_a16 longest;       /* of those waits: a short float of nanoseconds, sx_short */
};

/* What is known of the wake-ups of a word, see wait.c. */
struct sx_wakes {
    sx_a32 in_flight; /* sent and not yet turned into a hold, a waiters bit or a departure */
    sx_a32 missed;    /* found nobody asleep */
    sx_a32 spin;      /* how much less than the most to spin before sleeping, ns */
};

/* A mutex: two cache lines.  Who may write a field is said in mutex.c. */
struct sx_mutex {
    struct sx_cell cell;
    sx_a64 word;        /* a holder id or free, and flags */
    sx_a32 depth;       /* an RLock's recursion beyond the first hold; the holder's own */
    sx_a32 reserved_us; /* when the word was last left reserved, microseconds, wraps */
    struct sx_wakes wakes;
    struct sx_statistics statistics;
    struct sx_tally tally;
};

/* A classic semaphore, semaphore.c: a count and WAITERS in the high half, which is the futex, and in the low half the
 * rest: RETIRED, and from bit 8 how many sleepers want more than one unit. */
struct sx_semaphore {
    struct sx_cell cell;
    sx_a64 word;
    struct sx_wakes wakes;
    uint32_t reserved[2];
    struct sx_statistics statistics;
    struct sx_tally tally;
};
#define SEMAPHORE_COUNT 0x7fffffffu   /* of the high half */
#define SEMAPHORE_WAITERS 0x80000000u /* of the high half: a thread may sleep; an error towards 1 costs a system call */
#define SEMAPHORE_RETIRED 0x01u       /* of the low half: unlinked, never to be taken again */
#define SEMAPHORE_SEVERAL 0x100u /* of the low half: one sleeper that wants several; an error upwards is as cheap */

/* A semaphore whose permits have owners, permits.c. */
struct sx_permit {
    sx_a64 word;   /* the id of the process that has it, and flags; 0: free */
    sx_a64 thread; /* the holder id of the thread that took it: for people, and to watch its life */
};
struct sx_permits {
    struct sx_cell cell;
    sx_a32 wake; /* PERMITS_* flags, and from bit 8 how often WAITERS or LOOKING was set; futex of those who want one */
    sx_a32 gather; /* steps with every release that meets PERMITS_SEVERAL; futex of those who want more */
    struct sx_wakes wakes;
    uint32_t reserved2[2];
    struct sx_statistics statistics;
    struct sx_tally tally;
    struct sx_mutex several; /* held by whoever takes more than one permit */
    struct sx_permit permit[];
};
#define PERMIT_SCOPED 0x01u    /* taken by `with`: expected back from its own thread */
#define PERMIT_TENTATIVE 0x02u /* of a set that is not complete yet */
#define PERMIT_LEAVING 0x04u   /* held, and one of several that are being released together */
#define PERMITS_WAITERS 0x01u  /* somebody who wants one may sleep */
#define PERMITS_SEVERAL 0x02u  /* somebody who wants more may sleep */
#define PERMITS_LOOKING 0x04u  /* somebody is about to be refused: whoever frees a permit takes this away */
#define PERMITS_RETIRED 0x10u
#define PERMITS_STEP 0x100u

/* An event, event.c. */
struct sx_event {
    struct sx_cell cell;
    sx_a64 word; /* EVENT_* flags, and from bit 8 how often it was cleared; the low half is the futex */
    sx_a32 spin;
    uint32_t reserved[4];
    struct sx_statistics statistics;
    struct sx_tally tally;
};
#define EVENT_WAITERS 0x01u
#define EVENT_SET 0x02u
#define EVENT_RETIRED 0x10u
#define EVENT_STEP 0x100u

/* A latch, latch.c: a count in the high half, which is the futex, and flags in the low half. */
struct sx_latch {
    struct sx_cell cell;
    sx_a64 word;
    struct sx_wakes wakes;
    uint32_t reserved[2];
    struct sx_statistics statistics;
    struct sx_tally tally;
};
#define LATCH_COUNT 0x7fffffffu   /* of the high half */
#define LATCH_RETIRED 0x80000000u /* in the high half */
#define LATCH_WAITERS 0x01u       /* in the low half */

/* A condition, condition.c.  Its waiters are found by their wait records.  Its parameter is the lock, if that is another
 * object: the unit of one in the arena + 1, or the key of one in a user's memory. */
struct sx_condition {
    struct sx_cell cell;
    sx_a64 tickets; /* how many waits began; changed by the holder of the lock only */
    sx_a32 waiting; /* at least how many wait; changed by the holder of the lock only */
    sx_a32 retired;
    sx_a32 lock_generation; /* of that other lock; set by the first who opens the condition */
    sx_a32 spin;
    sx_a32 looked_ms; /* when a sleeper last looked for dead ones; wraps */
    struct sx_statistics statistics;
    struct sx_tally tally;
    struct sx_mutex lock; /* its own, an RLock, unless it was made with another */
};

/* A barrier, barrier.c. */
struct sx_barrier {
    struct sx_cell cell;
    sx_a64 word;     /* high half: the phase; low half, the futex: BARRIER_* flags, and from bit 8 a count of changes */
    sx_a64 outcomes; /* bit n % 64: phase n was cut short by a reset */
    sx_a32 spin;
    sx_a32 resets; /* how many phases were cut short */
    sx_a32 newest; /* who arrived last: an index of party */
    struct sx_statistics statistics;
    struct sx_tally tally;
    struct sx_mutex guard;
    sx_a64 party[]; /* a holder id and PARTY_* flags, or 0; changed by the holder of the guard only */
};
#define BARRIER_WAITERS 0x01u
#define BARRIER_BROKEN 0x02u
#define BARRIER_COMPLETE 0x04u /* the phase has ended well; not all may have been told yet */
#define BARRIER_RETIRED 0x10u
#define BARRIER_STEP 0x100u
#define PARTY_ARRIVED 0x01u
#define PARTY_ENROLLED 0x02u
#define PARTY_ODD 0x04u /* arrived in a phase with an odd number */

/* An initialisation that happens once, once.c. */
struct sx_once {
    struct sx_cell cell;
    sx_a64 word;   /* ONCE_* flags */
    sx_a32 length; /* of the result */
    sx_a32 check;  /* of its bytes */
    uint32_t reserved[3];
    struct sx_statistics statistics;
    struct sx_tally tally;
    struct sx_mutex running; /* held by the thread that runs the initialiser */
    unsigned char result[SX_ONCE_RESULT];
};
#define ONCE_DONE 0x01u
#define ONCE_RETIRED 0x10u

/* A readers-writer lock, rwlock.c.  Its readers are found by the marks in their slots. */
struct sx_rwlock {
    struct sx_cell cell;
    sx_a32 phase;      /* the readers' futex: RWLOCK_* flags, and from bit 9 how many writers have left, modulo 2^23 */
    sx_a32 drain;      /* steps when a reader leaves while a writer is present; the writer's futex */
    sx_a32 spin_read;  /* as in struct sx_wakes, for readers */
    sx_a32 spin_drain; /* ... and for the writer that waits for them */
    sx_a32 upgradable; /* 1: `writer` is held by an upgradable reader; the holder's own */
    uint32_t reserved[2];
    struct sx_statistics statistics;
    struct sx_tally tally;
    struct sx_mutex writer; /* held by the writer, or the upgradable reader */
};
#define RWLOCK_WAITERS 0x01u /* a reader may sleep */
#define RWLOCK_TORN 0x02u    /* a writer died inside, and nobody has declared the data repaired yet */
#define RWLOCK_INSIDE 0x04u  /* the writer that is present has waited for the readers */
#define RWLOCK_RETIRED 0x10u
#define RWLOCK_PRESENT 0x100u /* a writer is inside, or waits for the readers to leave */
#define RWLOCK_NUMBER_SHIFT 9
/* A mark: the key of the lock in the high half; in the low half how often it is held, or, waiting, the number of the
 * writer that it waits for. */
#define MARK_PENDING 0x80000000u
#define MARK_DOWNGRADED 0x40000000u /* one of the holds was a writer's */
#define MARK_COUNT 0x3fffffffu

/* ---- participants ---------------------------------------------------------------------------------- */

/* In the low 8 bits of a state; those above number the waits of conditions and file ranges, whose the later ones are:
 * condition.c, queue.c. */
enum sx_wait_state {
    SX_RUNNING,
    SX_WAITING,
    SX_NOTIFIED,
    SX_PASSING,
    SX_BEHIND, /* a file range's: not first in line */
    SX_AWAKE,  /* about to look again, or to sleep again */
    SX_VICTIM  /* chosen to give its wait up, deadlock.c */
};
static inline uint32_t sx_wait_state(uint32_t state)
{
    return state & 0xffu;
}

/* What a thread is about to sleep for; written by that thread before it sleeps.  The state of a wait for a condition or a
 * file range is its futex, and others change it, see condition.c and queue.c. */
struct sx_wait {
    sx_a32 state;
    sx_a32 kind;     /* enum sx_kind */
    sx_a64 cell;     /* file offset of the cell, or 0 where it lies in the user's memory; of a range: the inode */
    sx_a64 address;  /* its address in the waiter's process; of a condition: who notified it; of a range: last byte */
    sx_a64 holder;   /* the word's holder at the time; of a condition: which one it is; of a range: first byte */
    sx_a64 since_ns; /* start of the wait */
    sx_a64 deadline_ns; /* INT64_MAX: none */
    sx_a32 units; /* how many it asks for; of a condition: how many tickets later it was notified; of a range: device */
    sx_a32 mode;  /* enum sx_mode, WAIT_* flags; of a range with its style, as in sx_file_hold, and FILE_TURN */
    sx_a64 ticket; /* steps with every sleep, so that a reader sees what moved; of a condition, a range: its place; of a
                    * lock in the user's memory: a time, the holder was read after it, or 0 */
};
enum sx_mode { SX_EXCLUSIVE_MODE, SX_SHARED_MODE, SX_UPGRADE_MODE };
#define WAIT_MODE 0x0fu        /* of a mode, enum sx_mode; the rest is flags: of a file range, FILE_*, and for all: */
#define WAIT_UNWILLING 0x100u  /* a wait that cannot be given up */
#define WAIT_OFF 0x200u        /* ... or that its program wants left alone */
#define WAIT_REPORT 0x400u     /* the victim is to tell of the deadlock and to wait on */
#define WAIT_REPORTED 0x800u   /* which it has done, at `reported_ns` of its slot */
#define WAIT_PRIORITY_SHIFT 16 /* eight bits, signed: the lowest of a deadlock is its victim */
static inline int sx_wait_priority(uint32_t mode)
{
    return (int8_t)(mode >> WAIT_PRIORITY_SHIFT & 0xffu);
}

/* A file range that a thread holds, for those who want it and for people, see line.c. */
struct sx_file_hold {
    sx_a32 state;  /* FILE_* flags, and from bit 16 how often the record was used; 0 in the flags: not in use */
    sx_a32 device; /* as in struct sx_wait */
    sx_a64 inode;
    sx_a64 first;
    sx_a64 last; /* INT64_MAX: to the end, however far */
    sx_a64 since_ns;
};
#define FILE_MODE 0x0fu    /* enum sx_mode */
#define FILE_STYLE_SHIFT 4 /* enum sx_style, two bits */
#define FILE_STYLE 0x30u
#define FILE_TURN 0x40u /* of a wait: newcomers stand back */
#define FILE_HELD 0x100u
#define FILE_STEP 0x10000u
enum sx_style { SX_OFD_STYLE, SX_FLOCK_STYLE, SX_POSIX_STYLE };

/* What a thread holds since when, and where in the program it took it; written by that thread, with SYNCX_TRACE only. */
struct sx_trace {
    sx_a64 key;      /* file offset of the cell; of a file range: the inode; 0: not in use */
    sx_a64 since_ns; /* CLOCK_MONOTONIC */
    sx_a32 step;     /* odd while the record is being written */
    sx_a32 device;   /* of a file range */
    sx_a64 where[SX_WHERE_WORDS - 3];
};

struct sx_participant {
    union {
        pthread_mutex_t mutex; /* robust and process-shared; locked from registration to death */
        unsigned char bytes[SX_LINE];
    } life;
    sx_a32 generation; /* never 0 once used; the first one is random */
    sx_a32 process;    /* slot + 1, or 0 for a moment during registration */
    sx_a32 process_generation;
    sx_a32 tid;
    sx_a64 start_time;  /* of the thread, clock ticks since boot */
    sx_a32 pid;         /* for people, and kept until the slot is used again: the process slot goes earlier */
    sx_a32 marked;      /* how many of the marks are in use; the thread's own, and 0 only while none is */
    sx_a32 filed;       /* the same of `files` */
    sx_a32 nudged;      /* its belt was ended by another, crowd.c */
    sx_a64 reported_ns; /* when it told of the deadlock that it waits in, see WAIT_REPORTED */
    sx_a32 examined_ms; /* when it was last examined as a holder, in a crowd */
    unsigned char pad[SX_LINE - 52];
    struct sx_wait wait[SX_WAITS]; /* the first ones in use; the last of them is what the thread does now */
    sx_a64 marks[SX_MARKS];        /* the read locks it holds, rwlock.c */
    struct sx_file_hold files[SX_FILE_HOLDS];
    sx_a64 name[SX_NAME_WORDS];              /* UTF-8, 0-padded; empty: not known */
    sx_a64 where[SX_WAITS * SX_WHERE_WORDS]; /* of each wait record: the line where the thread waits, likewise */
    struct sx_trace trace[SX_TRACES];
};

struct sx_process {
    sx_a32 generation;
    sx_a32 pid;        /* in its own pid namespace; 0: free */
    sx_a64 start_time; /* clock ticks since boot */
    sx_a64 pid_namespace;
    sx_a64 attached_ns; /* CLOCK_REALTIME */
    sx_a32 dead;        /* the last generation that was seen dead, by the kernel's mark on the last of its threads */
    unsigned char pad[28];
};

/* ---- names, references, heaps ---------------------------------------------------------------------- */

struct sx_name {
    uint32_t units;
    sx_a32 used; /* length in bytes, or 0 while free; written last: the commit of a creation */
    uint32_t hash;
    sx_a32 cell; /* unit of the cell + 1; next in the free list while free */
    unsigned char bytes[];
};

/* "Process p knows cell c", one word: cell unit + 1 in the low half, process slot in bits 32..47 and the low half
 * of that slot's generation above.  0, or SX_REFERENCE_FREE with a link, while free. */
#define SX_REFERENCE_FREE (UINT64_C(1) << 31)

struct sx_heap {
    sx_a64 cursor;           /* units carved so far */
    sx_a32 free[SX_CLASSES]; /* derived: heads of the free lists, unit + 1 */
};

/* ---- what is noted on demand only: these regions have no pages before ---------------------------------- */

/* How long an object was held, trace.c. */
struct sx_hold_time {
    sx_a64 key;        /* its unit + 1 in the low half, its generation in the high half; 0: not in use */
    sx_a64 total_ns;   /* of all holds that are over */
    sx_a64 longest_ns; /* of one of them */
    sx_a64 holds;      /* how many */
};

/* A set of locks that are taken in one order, order.c. */
struct sx_order_class {
    uint64_t key;  /* a hash of what it is */
    uint64_t file; /* of a range of a file, and of a file: a hash of that; else 0 */
    int64_t range_first, range_last;
    uint32_t kind;     /* enum sx_kind */
    uint32_t length;   /* of the text */
    sx_a32 flags;      /* ORDER_* */
    sx_a32 first_edge; /* of those that lead away from it: number + 1 */
    char text[208];
};
#define ORDER_WRITTEN 0x01u /* of a readers-writer lock: somebody wrote */
#define ORDER_UNIQUE 0x02u  /* it is one object */

/* Somebody asked for a lock of the class `to` while it held one of the class `from`. */
struct sx_order_edge {
    uint64_t key;     /* enum sx_mode of the hold, and of what was asked for, and both classes: see order.c */
    sx_a32 next_edge; /* of those that lead away from the same class: number + 1 */
    sx_a32 flags;
    sx_a64 ranges[4]; /* of files: the first and last byte that were held, and those that were asked for, all told */
    sx_a32 gates[SX_ORDER_GATES]; /* class + 1: of locks that were held each time */
    uint32_t pid, tid;
    uint64_t seen_ns; /* CLOCK_REALTIME */
    char held[128];   /* the line of the program where the one was taken */
    char stack[552];  /* ... and the lines of the stack, innermost first, where the other was asked for */
};
#define ORDER_TOLD 0x01u /* part of a cycle that was told */

struct sx_order_object {
    sx_a64 key;    /* as in struct sx_hold_time, or the key of a cell in a user's memory */
    sx_a32 number; /* of its class, + 1 */
    sx_a32 epoch;
};

struct sx_order {
    sx_a32 epoch;   /* steps when all is forgotten */
    sx_a32 classes; /* how many there are; a class or an edge is there once it counts */
    sx_a32 edges;
    sx_a32 lost;                              /* that found no room */
    sx_a32 class_index[2 * SX_ORDER_CLASSES]; /* number + 1, by hash */
    sx_a32 edge_index[2 * SX_ORDER_EDGES];
    struct sx_order_object object[SX_ORDER_OBJECTS];
    struct sx_order_class class[SX_ORDER_CLASSES];
    struct sx_order_edge edge[SX_ORDER_EDGES];
};

/* ---- the header ------------------------------------------------------------------------------------- */

struct sx_region {
    uint64_t offset;
    uint32_t item_size;
    uint32_t capacity;
};

/* Where the waiters for the ranges of some files meet, line.c. */
struct sx_file_line {
    sx_a32 waiters;   /* FILE_WAITERS, and from bit 1 how often it was set */
    sx_a32 handed_us; /* when a waiter got its range last, microseconds, wraps */
    sx_a32 spin;
    sx_a32 contended; /* waits that slept */
};
#define FILE_WAITERS 0x01u
#define FILE_WAITERS_STEP 0x02u

struct sx_header {
    /* written once, before the file has a name; covered by the checksum */
    uint64_t magic;
    uint32_t abi;
    uint32_t header_size;
    uint64_t total_size;
    uint8_t id[16];
    uint64_t lineage;
    uint64_t created_ns; /* CLOCK_REALTIME */
    uint32_t pointer_size;
    uint32_t mutex_kind; /* the kind word of a robust process-shared mutex in the glibc that made the file */
    uint32_t transient;  /* the file goes when the last process leaves and no name is left */
    uint32_t reserved;
    struct sx_region regions[SX_REGIONS];
    uint64_t checksum;
    /* alive */
    uint8_t boot_id[16];
    sx_a32 retired;           /* 1: unlinked, attach to the new file of that path instead */
    sx_a32 orphans;           /* a dead process left references: the next to come collects */
    sx_a64 ready[SX_REGIONS]; /* bytes of each region that have pages */
    sx_a32 next_participant;
    sx_a32 next_process;
    sx_a32 index_shape; /* log2 of the entries, or'ed with 0x100 while region B is in force */
    sx_a32 index_fill;  /* derived: entries used, tombstones included */
    sx_a32 names_live;  /* derived */
    sx_a32 references_cursor;
    sx_a32 references_free; /* derived */
    sx_a32 damaged;
    struct sx_heap names;
    struct sx_heap cells;
    sx_a64 rescues; /* of the belt, over all cells */
    sx_a64 recoveries;
    sx_a64 deaths;     /* participants found dead */
    sx_a64 scanned_ns; /* when a thread last looked for deadlocks all over the arena */
    sx_a32 crowd;      /* how many waited for a mutex for ever by then, crowd.c */
    /* guards names, cells, references */
    _Alignas(SX_LINE) struct sx_mutex lock;
    sx_a64 file_tickets; /* places in line for file ranges */
    _Alignas(SX_LINE) struct sx_file_line lines[SX_FILE_LINES];
};

_Static_assert(sizeof(struct sx_cell) == SX_LINE, "a cell's header is one cache line");
_Static_assert(sizeof(struct sx_mutex) == 2 * SX_LINE, "a mutex is two cache lines");
_Static_assert(offsetof(struct sx_mutex, word) == SX_LINE, "the word leads the second line");
_Static_assert(sizeof(struct sx_semaphore) == 2 * SX_LINE && sizeof(struct sx_event) == 2 * SX_LINE &&
                   sizeof(struct sx_latch) == 2 * SX_LINE,
               "the small ones are two cache lines");
_Static_assert(offsetof(struct sx_permits, several) == 2 * SX_LINE &&
                   offsetof(struct sx_permits, permit) == 4 * SX_LINE,
               "permits begin at a cache line");
_Static_assert(sizeof(struct sx_condition) == 4 * SX_LINE && offsetof(struct sx_condition, lock) == 2 * SX_LINE, "");
_Static_assert(offsetof(struct sx_barrier, guard) == 2 * SX_LINE && offsetof(struct sx_barrier, party) == 4 * SX_LINE,
               "");
_Static_assert(sizeof(struct sx_once) == 16 * SX_LINE && offsetof(struct sx_once, running) == 2 * SX_LINE &&
                   offsetof(struct sx_once, result) % 8 == 0 && SX_ONCE_RESULT % 8 == 0,
               "a result is written by words");
_Static_assert(sizeof(struct sx_rwlock) == 4 * SX_LINE && offsetof(struct sx_rwlock, writer) == 2 * SX_LINE, "");
#define SX_STATISTICS_AT offsetof(struct sx_mutex, statistics)
_Static_assert(offsetof(struct sx_semaphore, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_permits, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_event, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_latch, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_condition, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_barrier, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_once, statistics) == SX_STATISTICS_AT &&
                   offsetof(struct sx_rwlock, statistics) == SX_STATISTICS_AT,
               "statistics lie at one place");
_Static_assert(sizeof(struct sx_participant) == 68 * SX_LINE, "a participant is 68 cache lines");
_Static_assert(SX_PARTICIPANTS_STEP % SX_PAGE == 0 && SX_PARTICIPANTS_STEP > 4 * sizeof(struct sx_participant), "");
_Static_assert(sizeof(struct sx_trace) == 2 * SX_LINE, "a trace is two cache lines");
#define SX_TALLY_AT offsetof(struct sx_mutex, tally)
_Static_assert(offsetof(struct sx_semaphore, tally) == SX_TALLY_AT &&
                   offsetof(struct sx_permits, tally) == SX_TALLY_AT &&
                   offsetof(struct sx_event, tally) == SX_TALLY_AT && offsetof(struct sx_latch, tally) == SX_TALLY_AT &&
                   offsetof(struct sx_condition, tally) == SX_TALLY_AT &&
                   offsetof(struct sx_barrier, tally) == SX_TALLY_AT &&
                   offsetof(struct sx_once, tally) == SX_TALLY_AT && offsetof(struct sx_rwlock, tally) == SX_TALLY_AT,
               "and so does what follows them");
_Static_assert(sizeof(struct sx_process) == SX_LINE, "a process is one cache line");
_Static_assert(sizeof(struct sx_wait) == SX_LINE, "a wait record is one cache line");
_Static_assert(sizeof(struct sx_order_class) == 4 * SX_LINE && sizeof(struct sx_order_edge) == 12 * SX_LINE, "");
_Static_assert(sizeof(struct sx_name) == 16, "a name's header");
_Static_assert(sizeof(struct sx_header) <= SX_PAGE, "the header is one page");
_Static_assert(sizeof(pthread_mutex_t) <= SX_LINE, "a life lock fits in a line");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "lock-free 64-bit atomics");

#endif
