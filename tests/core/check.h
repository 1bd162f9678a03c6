/* check.h: the harness of the C tests, and the few helpers that most of them share.
 *
 * A test is a function that returns when it is content and never returns when it is not.  Each runs in a process
 * group of its own, which is killed when the test ends or is late, so that a hang is a failure of one test and
 * nothing of it is left.
 */
#ifndef SYNCX_CHECK_H
#define SYNCX_CHECK_H

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../syncx/_core/core.h"

/* ---- registering ------------------------------------------------------------------------------------- */
enum {
    FORKS = 1,  /* starts processes: not under TSan, which sees one process at a time */
    NATIVE = 2, /* kills, traces or confuses its own threads: without sanitizers and valgrind only */
    HEAVY = 4,  /* too slow, or too strange, for valgrind */
    WAITV = 8,  /* a death must be noticed without the belt: where the kernel, or valgrind, has futex_waitv */
};
struct test {
    const char *name;
    void (*run)(void);
    int flags, seconds;
    struct test *next;
};
void test_register(struct test *test);

#define TEST(title, bits, limit)                                                                                       \
    static void title(void);                                                                                           \
    static struct test test_##title = {.name = #title, .run = title, .flags = (bits), .seconds = (limit)};             \
    __attribute__((constructor)) static void register_##title(void)                                                    \
    {                                                                                                                  \
        test_register(&test_##title);                                                                                  \
    }                                                                                                                  \
    static void title(void)

/* ---- checking: a failure ends the process, and with it the test ---------------------------------------- */
_Noreturn void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void skip(const char *why);
_Noreturn void late(const char *file, int line, int64_t took, int64_t bound);
const char *status_name(enum sx_status status);
void check_status(const char *file, int line, const char *what, enum sx_status got, enum sx_status want);

#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition) ((condition) ? (void)0 : FAIL("%s", #condition))
/* An upper bound on time.  Where it is not kept the whole test runs again: a busy machine is late now and then, a
 * defect every time. */
#define IN_TIME(ns, bound) (slow_machine || (ns) < (bound) ? (void)0 : late(__FILE__, __LINE__, (ns), (bound)))
#define STATUS(call, want) check_status(__FILE__, __LINE__, #call, (call), (want))

/* Waits for something that other threads bring about and that cannot be slept for: for seconds at most. */
#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        int64_t give_up_ = sx_now() + 20 * SECOND;                                                                     \
        while (!(condition)) {                                                                                         \
            if (sx_now() > give_up_)                                                                                   \
                FAIL("never came about: %s", #condition);                                                              \
            usleep(200);                                                                                               \
        }                                                                                                              \
    } while (0)

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define BOUND (250 * MS) /* the promise: whoever is left goes on within this */

static inline int64_t in(int64_t ns)
{
    return sx_now() + ns;
}

extern bool slow_machine; /* a sanitizer or valgrind: no upper bounds on time, fewer rounds */
int rounds(int native);   /* that many, fewer where each is slow */
uint64_t random64(void);  /* reproducible: seeded from the test's name */

/* ---- processes and threads ----------------------------------------------------------------------------- */
void *shared(size_t size); /* zero memory that children share */
pid_t spawn(void (*body)(void *), void *argument);
_Noreturn void finish(int code);                    /* ends a child, which leaves its arenas in good order */
int ended(pid_t pid);                               /* waits; the wait status */
void ended_well(pid_t pid);                         /* waits; exit status 0 or the test fails */
void killed(pid_t pid);                             /* SIGKILL, and waits */
bool all_end(const pid_t *pids, int n, int64_t ns); /* false: late, and all of them killed */
pthread_t thread(void *(*body)(void *), void *argument);
void joined(pthread_t thread);

/* SIGKILL after so many machine instructions.  A victim, started by spawn, calls the first before its operation and the
 * second after it; stepped() takes it n instructions into the operation and kills it there: false if that is its end. */
void to_be_stepped(void);
_Noreturn void stepped_through(void);
bool stepped(pid_t pid, long n);
/* The same, but it is left standing there, and may go on to the end, where it stands until it is killed. */
bool walked(pid_t pid, long n);
void walked_to_the_end(pid_t pid);

/* A gate in shared memory: those who pass wait until it is opened. */
void gate_open(sx_a32 *gate);
void gate_pass(sx_a32 *gate);

/* ---- arenas and cells ------------------------------------------------------------------------------------ */
extern const char *test_directory; /* in /dev/shm, gone after the test */
const char *path_of(const char *name);
struct sx_arena *arena_new(void); /* a fresh one, or the same again in a child */
enum sx_status open_named(struct sx_arena *arena, const char *name, uint32_t length, enum sx_kind kind,
                          enum sx_create create, struct sx_object *object, enum sx_kind *found);
enum sx_status open_nameless(struct sx_arena *arena, enum sx_kind kind, struct sx_object *object);
enum sx_status open_at(struct sx_arena *arena, void *memory, enum sx_kind kind, enum sx_create create,
                       struct sx_object *object, enum sx_kind *found);
struct sx_mutex *named(struct sx_arena *arena, const char *name, struct sx_object *object);
struct sx_mutex *anonymous(struct sx_arena *arena);
struct sx_mutex *in_user_memory(struct sx_arena *arena);
uint64_t my_id(struct sx_arena *arena);
int sleepers(struct sx_arena *arena, const void *object); /* how many threads sleep for it in the kernel */
bool usable(struct sx_arena *arena, struct sx_mutex *m);  /* lock and unlock in bounded time */

#endif
