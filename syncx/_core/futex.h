/* futex.h: the system calls under every wait, and the clocks.  Nothing here knows of arenas.
 *
 * No call carries FUTEX_PRIVATE_FLAG: every word may be shared between processes.  Deadlines are absolute
 * times of CLOCK_MONOTONIC in nanoseconds; SX_NEVER means none.
 */
#ifndef SYNCX_FUTEX_H
#define SYNCX_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

#define SX_NEVER INT64_MAX

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on every architecture; Linux 5.16 */
#endif
#ifndef FUTEX_32
#define FUTEX_32 2
#endif

/* struct futex_waitv of <linux/futex.h>, spelled out for kernel headers before 5.16 */
struct sx_futex_waitv {
    uint64_t val;
    uint64_t uaddr;
    uint32_t flags;
    uint32_t reserved;
};

static inline int64_t sx_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The time ns from now, 0 for none; below SX_NEVER however long that is. */
static inline int64_t sx_after(int64_t ns)
{
    int64_t now = sx_now();
    return ns == 0 ? 0 : ns < SX_NEVER - now ? now + ns : SX_NEVER - 1;
}

static inline int64_t sx_realtime(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline struct timespec sx_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* The futex of a 64-bit word is its low half. */
static inline sx_a32 *sx_low_half(sx_a64 *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (sx_a32 *)word;
#else
    return (sx_a32 *)word + 1;
#endif
}

/* Another word that a sleeper watches, and the value it must have. */
struct sx_watch {
    sx_a32 *word;
    uint32_t value;
};
#define SX_MAX_WATCH 127 /* futex_waitv takes 128 words */

extern atomic_bool sx_no_waitv; /* seen by an earlier sleep; wait.c */

/* Sleeps while *word == value, and all that is watched has its value.  0: woken on the word, or on it and others; 1:
 * woken on another alone; or a negative errno: -EAGAIN (a value had changed), -ETIMEDOUT, -EINTR.  Where the kernel has
 * no futex_waitv, or a sandbox forbids it, the others are not watched: the caller bounds its deadline (the belt). */
static inline int sx_futex_wait(sx_a32 *word, uint32_t value, const struct sx_watch *watch, int watched,
                                int64_t deadline)
{
    struct timespec t = sx_timespec(deadline);
    struct timespec *limit = deadline == SX_NEVER ? NULL : &t;

    if (watched > 0 && !atomic_load_explicit(&sx_no_waitv, memory_order_relaxed)) {
        struct sx_futex_waitv v[SX_MAX_WATCH + 1];
        if (watched > SX_MAX_WATCH)
            watched = SX_MAX_WATCH;
        for (int i = 0; i < watched; i++)
            v[i] = (struct sx_futex_waitv){.val = watch[i].value, .uaddr = (uintptr_t)watch[i].word, .flags = FUTEX_32};
        /* the kernel names the last of those that were woken: the word comes last, so that a wake of it is never
         * hidden by one of another */
        v[watched] = (struct sx_futex_waitv){.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32};
        long r = syscall(SYS_futex_waitv, v, watched + 1, 0, limit, CLOCK_MONOTONIC);
        if (r >= 0)
            return r != watched;
        if (errno != ENOSYS && errno != EPERM && errno != EINVAL)
            return -errno;
        atomic_store_explicit(&sx_no_waitv, true, memory_order_relaxed);
    }
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, limit, NULL, FUTEX_BITSET_MATCH_ANY);
    return r == 0 ? 0 : -errno;
}

static inline int sx_futex_wake(sx_a32 *word, int count)
{
    long r = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return r < 0 ? 0 : (int)r;
}

/* *word op= operand and a wake of up to count sleepers, in one system call: no death can fall between them.
 * op: FUTEX_OP_ANDN, FUTEX_OP_OR, FUTEX_OP_ADD (operand: twelve bits with a sign), or one of them with
 * FUTEX_OP_OPARG_SHIFT (the operand is 1 << operand).  The kernel's access orders as a full barrier on x86-64 and as a release on
 * arm64; the fence makes it a release everywhere.  Returns how many were woken, or -1 when the kernel could
 * not reach the word. */
static inline int sx_futex_wake_op(sx_a32 *word, int op, uint32_t operand, int count)
{
    atomic_thread_fence(memory_order_release);
#ifdef __SANITIZE_THREAD__
    void __tsan_release(void *); /* the store happens in the kernel, unseen by the sanitizer */
    __tsan_release((char *)word);
    __tsan_release((char *)((uintptr_t)word & ~(uintptr_t)7));
#endif
    /* the comparison is of no interest: no second wake is asked for */
    uint32_t code = ((uint32_t)op << 28) | ((uint32_t)FUTEX_OP_CMP_EQ << 24) | ((operand & 0xfffu) << 12);
    long r = syscall(SYS_futex, word, FUTEX_WAKE_OP, count, (void *)0, word, code);
    return (int)r;
}

/* The other half, the futex of words that count in it. */
static inline sx_a32 *sx_high_half(sx_a64 *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (sx_a32 *)word + 1;
#else
    return (sx_a32 *)word;
#endif
}

static inline void sx_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

#endif
