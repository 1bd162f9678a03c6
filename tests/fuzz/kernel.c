/* kernel.c: what the core asks of the kernel, answered so that a fuzzer can work.
 *
 * Time.  The clock is a count that every look at it moves, and a sleep moves to its end: waits of seconds take no time, every
 * belt is reached, and an input does the same each time.  How the first sleeps of an input end (woken, interrupted, too late,
 * the word has changed) the input says.
 *
 * Nobody waits for ever, by construction.  A damaged word may say that a living thread holds it, and then to wait is right.
 * So after `patience` sleeps everybody else dies (others_die), and after `given_up` a signal handler ends the waits that are
 * left.  Who still sleeps after that is a finding: a wait that neither the death of all others nor a handler ends.
 *
 * Memory.  The arena is mapped with its pages beyond `ready` out of reach, and so is what lies behind its end: to touch what
 * was not allocated (a SIGBUS on a full file system), or what is another's, ends the run.  That is in disk.c.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "../../syncx/_core/core.h"
#include "kernel.h"

struct kernel kernel;

/* The linker takes the one for the core's, and for ours (--wrap), and the other is the one of the C library. */
#define WRAPPED(type, name, ...)                                                                                       \
    type __wrap_##name(__VA_ARGS__);                                                                                   \
    type __real_##name(__VA_ARGS__)
WRAPPED(long, syscall, long number, ...);
WRAPPED(int, clock_gettime, clockid_t clock, struct timespec *t);
WRAPPED(int, sched_yield, void);
WRAPPED(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *limit, const sigset_t *mask);
WRAPPED(ssize_t, getrandom, void *to, size_t n, unsigned flags);
WRAPPED(int, flock, int fd, int operation);

void kernel_begin(void)
{
    kernel.virtual = true;
    kernel.now += 1000000000;
    kernel.sleeps = kernel.in_a_row = 0;
    kernel.arena = NULL;
}

/* ---- time ------------------------------------------------------------------------------------------------- */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    if (!kernel.virtual) {
        int r = __real_clock_gettime(clock, t);
        kernel.now = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
        return r;
    }
    int64_t now = kernel.now += 1000;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now += INT64_C(1700000000000000000);
    *t = (struct timespec){.tv_sec = now / 1000000000, .tv_nsec = now % 1000000000};
    return 0;
}

void kernel_count_sleep(void)
{
    kernel.sleeps++;
    if (kernel.sleeps == kernel.patience)
        kernel.others_die();
    if (++kernel.in_a_row > 2000) {
        fprintf(stderr, "a wait that nothing ends: neither the death of all others nor a signal handler\n");
        abort();
    }
}

/* 0: woken; else errno. */
static int sleep_until(const struct timespec *limit)
{
    int64_t end = limit == NULL ? kernel.now + 1000000000 : (int64_t)limit->tv_sec * 1000000000 + limit->tv_nsec;
    int how = 0;
    if (kernel.script_left > 0) {
        how = *kernel.script++ % 5;
        kernel.script_left--;
    }
    kernel_count_sleep();
    kernel.now += 50000;
    switch (how) {
    case 1:
        return 0;
    case 2:
        return EINTR;
    case 3:
        return EAGAIN;
    default:
        if (end > kernel.now)
            kernel.now = end;
        return limit == NULL ? 0 : ETIMEDOUT;
    }
}

static long ended(int error)
{
    errno = error;
    return error == 0 ? 0 : -1;
}

static long change(sx_a32 *word, uint32_t code)
{
    uint32_t operation = code >> 28, operand = code >> 12 & 0xfffu;
    if (operation & FUTEX_OP_OPARG_SHIFT) {
        operation &= ~(uint32_t)FUTEX_OP_OPARG_SHIFT;
        operand = 1u << (operand & 31);
    } else if (operand & 0x800u) {
        operand |= 0xfffff000u;
    }
    switch (operation) {
    case FUTEX_OP_ANDN:
        atomic_fetch_and(word, ~operand);
        break;
    case FUTEX_OP_OR:
        atomic_fetch_or(word, operand);
        break;
    case FUTEX_OP_ADD:
        atomic_fetch_add(word, operand);
        break;
    default:
        abort(); /* the core uses no other */
    }
    return kernel.wakes;
}

long __wrap_syscall(long number, ...)
{
    unsigned long a[6];
    va_list list;
    va_start(list, number);
    int given = number == SYS_gettid ? 0 : number == SYS_tgkill ? 3 : number == SYS_futex_waitv ? 5 : 6;
    for (int i = 0; i < given; i++)
        a[i] = va_arg(list, unsigned long);
    va_end(list);
    if (number == SYS_gettid)
        return __real_syscall(SYS_gettid);
    if (number == SYS_tgkill) { /* is that thread there? */
        if ((int)a[2] != 0)
            abort();
        bool there = kernel.sleeps < kernel.patience || (long)a[1] == __real_syscall(SYS_gettid);
        return ended(there ? 0 : ESRCH);
    }
    if (!kernel.virtual)
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_futex_waitv) {
        struct sx_futex_waitv *v = (struct sx_futex_waitv *)a[0];
        if (a[1] == 0 || a[1] > 128)
            return ended(EINVAL);
        for (unsigned long i = 0; i < a[1]; i++)
            if (atomic_load((sx_a32 *)v[i].uaddr) != (uint32_t)v[i].val)
                return ended(EAGAIN);
        int error = sleep_until((const struct timespec *)a[3]);
        return error != 0 ? ended(error) : (long)(kernel.now % (int64_t)a[1]);
    }
    if (number != SYS_futex)
        abort(); /* the core asks for no other */
    sx_a32 *word = (sx_a32 *)a[0];
    switch ((int)a[1]) {
    case FUTEX_WAIT_BITSET:
        return atomic_load(word) != (uint32_t)a[2] ? ended(EAGAIN) : ended(sleep_until((const struct timespec *)a[3]));
    case FUTEX_WAKE:
        (void)atomic_load(word);
        return kernel.wakes;
    case FUTEX_WAKE_OP:
        return change(word, (uint32_t)a[5]);
    default:
        abort();
    }
}

int __wrap_sched_yield(void)
{
    if (!kernel.virtual)
        return __real_sched_yield();
    kernel.now += 100000;
    return 0;
}

int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *limit, const sigset_t *mask)
{
    if (!kernel.virtual)
        return __real_ppoll(fds, n, limit, mask);
    int error = sleep_until(&(struct timespec){0});
    kernel.now += (int64_t)limit->tv_sec * 1000000000 + limit->tv_nsec;
    return error == EINTR ? (int)ended(EINTR) : 0;
}

ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags)
{
    static uint64_t state = UINT64_C(88172645463325252);
    (void)flags;
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((unsigned char *)to)[i] = (unsigned char)(state >> 32);
    }
    return (ssize_t)n;
}

/* ---- file locks: a sleep for one is interrupted; see disk.c too ------------------------------------------------ */
int __wrap_flock(int fd, int operation)
{
    int r = __real_flock(fd, kernel.virtual ? operation | LOCK_NB : operation);
    if (!kernel.virtual || r == 0 || errno != EWOULDBLOCK || operation & LOCK_NB)
        return r;
    kernel_count_sleep();
    return (int)ended(EINTR);
}
