/* _trace.h: a traced child: where it stands, and how it goes on.  Nothing of Python here.
 *
 * The numbers of ways and effects are those of syncx.testing.stepping.Victim; errors are left in errno.
 */
#ifndef SYNCX_TESTING_TRACE_H
#define SYNCX_TESTING_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_HISTORY 4096

/* Why it stands again. */
enum why { LIMIT, ASLEEP, END, GONE, CALL };

/* Memory that the child shares, as it was after its last step. */
struct watched {
    const char *memory;
    size_t size;
    char *copy;
};

/* Of addresses. */
struct range {
    uint64_t begin, end;
};

struct child {
    pid_t pid;     /* of the traced thread */
    pid_t process; /* whose thread it is: the same, if that is its first one */
    bool over;     /* the process has been waited for */
    bool pending;  /* it is under way to its next stop */
    bool in_call;  /* it stands at the entry of a system call, or is under way from there */
    bool gone;
    int deliver; /* a signal that it gets with its next step */
    int status;  /* of waitpid, once it is gone */
    long long steps, effects, calls;
    int call; /* the system call that its next instruction makes, where a walk ended before one */
    size_t n_watched;
    struct watched *watched;
    struct range aside;           /* code that changes nothing that is watched, and makes no system call itself */
    bool stands_aside;            /* its last step began there */
    int64_t history[MAX_HISTORY]; /* what the effects were */
    int64_t moments[MAX_HISTORY]; /* after how many steps each of them was */
    size_t n_trace, room;
    uint64_t *trace; /* where each step began, if that is wanted */
};

struct way {
    long long calls, steps, effects; /* as far as that; negative: without that limit */
    long long leap;                  /* to this address at full speed, which is so many steps: */
    long long leapt;
    int64_t patience; /* how long it may sleep, in ns */
    bool at_full_speed, traced;
    bool (*interrupted)(void *); /* asked after each signal and tick: is the walk to end? */
    void *context;               /* of interrupted */
};

/* Makes the ticks a signal that does nothing; once in a process.  -1: errno. */
int ticks_prepare(void);

/* On, as far as the way says; an enum why, or -1: errno, or it was interrupted. */
int child_go(struct child *t, const struct way *way);

/* SIGKILL, and waits for its end; nothing if it has ended. */
void child_kill(struct child *t);

/* The traced thread, which is not the first of its process, ends where it stands or sleeps, by exit(2): no code of its
 * own runs, and the process lives on.  -1: errno. */
int child_end_thread(struct child *t);

/* The address of its next instruction; false: it is under way, or has ended. */
bool child_pc(const struct child *t, uint64_t *pc);

#endif
