/* herd.c: many processes that one futex call wakes, each of which bumps one shared counter: what waking so many costs
 * at least.
 *
 *   herd N    for each line on its standard input: wakes N processes, and says how many ns later the last of them had
 *             bumped the counter.  Ends with its standard input.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct shared {
    _Alignas(64) _Atomic(uint32_t) round;
    _Alignas(64) _Atomic(uint32_t) passed;
    _Alignas(64) _Atomic(uint32_t) done;
    _Atomic(long long) last;
};

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_while(_Atomic(uint32_t) *word, uint32_t value)
{
    while (atomic_load_explicit(word, memory_order_acquire) == value)
        syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void step_and_wake(_Atomic(uint32_t) *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_acq_rel);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void run(struct shared *s, uint32_t n)
{
    for (uint32_t round = 0;; round++) {
        sleep_while(&s->round, round);
        if (atomic_fetch_add_explicit(&s->passed, 1, memory_order_acq_rel) + 1 == n) {
            atomic_store_explicit(&s->last, now_ns(), memory_order_relaxed);
            step_and_wake(&s->done);
        }
    }
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    int n = argc == 2 ? atoi(argv[1]) : 0;
    if (n <= 0)
        return 2;
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) {
        perror("herd");
        return 1;
    }
    pid_t parent = getpid();
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 1;
        }
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            run(s, (uint32_t)n);
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    int c;
    for (uint32_t done = 0; (c = getchar()) != EOF;)
        if (c == '\n') {
            atomic_store_explicit(&s->passed, 0, memory_order_relaxed);
            long long start = now_ns();
            step_and_wake(&s->round);
            sleep_while(&s->done, done++);
            printf("%lld\n", atomic_load_explicit(&s->last, memory_order_relaxed) - start);
        }
    return 0;
}
