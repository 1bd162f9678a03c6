/* Somebody else's program: takes a lock on a file as it is told, with fcntl(2), lockf(3) or flock(2) and nothing of ours.
 *
 *     locker -c "KIND FILE"        KIND: posix (F_SETLK), ofd (F_OFD_SETLK), lockf, flock
 *
 * Requests are lines on standard input, answers are lines of JSON, [got, CLOCK_MONOTONIC in ns]:
 *     try M START LENGTH           M: x exclusive, s shared; at once or not at all
 *     wait M START LENGTH          a try, and where it is refused (answered with [0, ...]) sleeps until it has it
 *     release                      gives all back; the time is that from before */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static int fd;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void answer(int got, long long at)
{
    printf("[%d, %lld]\n", got, at);
    fflush(stdout);
}

static void fail(const char *what)
{
    fprintf(stderr, "locker: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* mode: x, s, or u to unlock; 0 or -1 with errno, as the call itself */
static int call(const char *kind, char mode, long long start, long long length, int wait)
{
    if (strcmp(kind, "flock") == 0) {
        int how = mode == 'x' ? LOCK_EX : mode == 's' ? LOCK_SH : LOCK_UN;
        return flock(fd, wait ? how : how | LOCK_NB);
    }
    if (strcmp(kind, "lockf") == 0) {
        if (lseek(fd, start, SEEK_SET) < 0)
            fail("lseek");
        return lockf(fd, mode == 'u' ? F_ULOCK : wait ? F_LOCK : F_TLOCK, length);
    }
    struct flock range = {.l_type = mode == 'x'   ? F_WRLCK
                                    : mode == 's' ? F_RDLCK
                                                  : F_UNLCK,
                          .l_whence = SEEK_SET,
                          .l_start = start,
                          .l_len = length};
    if (strcmp(kind, "ofd") == 0)
        return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &range);
    return fcntl(fd, wait ? F_SETLKW : F_SETLK, &range);
}

int main(int argc, char **argv)
{
    char kind[16], path[4096], line[256], word[16], mode;
    long long start, length;
    if (argc < 3 || sscanf(argv[2], "%15s %4095s", kind, path) != 2)
        fail("usage: locker -c 'KIND FILE'");
    if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        fail(path);
    while (fgets(line, sizeof line, stdin)) {
        char *text = line + (line[0] == '"'); /* a JSON string will do */
        if (strncmp(text, "release", 7) == 0) {
            long long at = now();
            if (call(kind, 'u', 0, 0, 0) < 0)
                fail("unlock");
            answer(1, at);
            continue;
        }
        if (sscanf(text, "%15s %c %lld %lld", word, &mode, &start, &length) != 4)
            fail(line);
        if (call(kind, mode, start, length, 0) == 0) {
            answer(1, now());
            continue;
        }
        if (errno != EAGAIN && errno != EACCES)
            fail("lock");
        answer(0, now());
        if (strcmp(word, "wait") == 0) {
            if (call(kind, mode, start, length, 1) < 0)
                fail("lock");
            answer(1, now());
        }
    }
    return 0;
}
