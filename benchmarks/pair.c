/* pair.c: two processes that wake each other by a futex, in turn: what a round trip costs at least.
 *
 *   pair plain|deadline CPUS CPUS   the CPUs of each of the two, as in 0,1; a wait has no deadline, or one 100 ms away,
 *                                   as the waits of a lock that looks after the dead have
 *
 * For each number on its standard input it makes so many round trips and says how many ns they took.  It ends with
 * its standard input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct shared {
    _Alignas(64) _Atomic(uint32_t) there;
    _Alignas(64) _Atomic(uint32_t) back;
};

static bool with_deadline;

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void post(_Atomic(uint32_t) *word)
{
    atomic_store_explicit(word, 1, memory_order_release);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void take(_Atomic(uint32_t) *word)
{
    while (atomic_exchange_explicit(word, 0, memory_order_acquire) == 0) {
        struct timespec end, *deadline = NULL;
        if (with_deadline) {
            long long at = now_ns() + 100000000;
            end = (struct timespec){.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
            deadline = &end;
        }
        syscall(SYS_futex, word, FUTEX_WAIT_BITSET, 0, deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    }
}

static void stay_on(const char *cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const char *c = cpus; c != NULL; c = strchr(c, ',') ? strchr(c, ',') + 1 : NULL)
        CPU_SET(atoi(c), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror(cpus);
        exit(1);
    }
}

static void answer(struct shared *s, int orders)
{
    long long n;
    while (read(orders, &n, sizeof n) == sizeof n)
        for (long long i = 0; i < n; i++) {
            take(&s->there);
            post(&s->back);
        }
    _exit(0);
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    if (argc != 4 || (strcmp(argv[1], "plain") != 0 && strcmp(argv[1], "deadline") != 0))
        return 2;
    with_deadline = strcmp(argv[1], "deadline") == 0;
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int orders[2];
    if (s == MAP_FAILED || pipe(orders) != 0) {
        perror("pair");
        return 1;
    }
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(orders[1]);
        if (getppid() != parent)
            _exit(1);
        stay_on(argv[3]);
        answer(s, orders[0]);
    }
    stay_on(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    long long n;
    while (child > 0 && scanf("%lld", &n) == 1) {
        if (write(orders[1], &n, sizeof n) != sizeof n)
            return 1;
        long long start = now_ns();
        for (long long i = 0; i < n; i++) {
            post(&s->there);
            take(&s->back);
        }
        printf("%lld\n", now_ns() - start);
    }
    return 0;
}
