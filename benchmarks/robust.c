/* robust.c: a C program that waits for a robust pthread mutex in a shared file.
 *
 *   robust FILE    says "ready", takes the mutex at the beginning of FILE and says when it had it (CLOCK_MONOTONIC in
 *                  ns); ends with its standard input
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    if (argc != 2)
        return 2;
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || mutex == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    int e = pthread_mutex_lock(mutex);
    long long had = now_ns();
    if (e == EOWNERDEAD)
        e = pthread_mutex_consistent(mutex);
    if (e != 0 || pthread_mutex_unlock(mutex) != 0)
        return 1;
    printf("%lld\n", had);
    while (getchar() != EOF)
        ;
    return 0;
}
