/* laws.c: one function for each law of the core, told by tests/test_laws.py to run on the real core and on twins.
 *
 *     laws LAW DIRECTORY
 *
 * Exit status: 0 the law holds; 1 it is broken, and stderr says how; 77 it cannot be tried here, stdout says why.
 * A hang ends by SIGALRM, a crash by its own signal: both mean broken.  main never attaches to the arena itself; each
 * part is played by a forked child that dies with it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "core.h"

#define REQUEST(what, how) (&(struct sx_request){.kind = (what), .parameter = SX_ANY, .create = (how)})

#define MS INT64_C(1000000)

#define LAW(condition)                                                                                                 \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "broken, line %d: %s\n", __LINE__, #condition);                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    while (0)
#define SETUP(condition)                                                                                               \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "set-up failed, line %d: %s: %s\n", __LINE__, #condition, strerror(errno));                \
            _exit(70);                                                                                                 \
        }                                                                                                              \
    while (0)

static char directory[256], path[300];
static struct sx_arena *arena;
static struct sx_mutex *mutex;

static void attach(void)
{
    struct sx_object object;
    SETUP(sx_arena_open(path, true, false, 0600, &arena) == SX_OK);
    SETUP(sx_object_open(arena, "m", 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object) == SX_OK);
    mutex = (struct sx_mutex *)object.cell;
}

static uint64_t identity(void)
{
    uint64_t id;
    SETUP(sx_identity(arena, &id) == SX_OK);
    return id;
}

static enum sx_status lock_within(int64_t ms)
{
    return sx_mutex_lock(arena, mutex, ms == 0 ? 0 : sx_now() + ms * MS);
}

static enum sx_status unlock(void)
{
    return sx_mutex_unlock(arena, mutex, false);
}

/* ---- children ---------------------------------------------------------------------------------------------- */
struct child {
    pid_t pid;
    int fd;
};

static void say_number(int fd, uint64_t n)
{
    SETUP(write(fd, &n, sizeof n) == sizeof n);
}
static void say(int fd)
{
    say_number(fd, 0);
}
static uint64_t hear(int fd)
{
    uint64_t n;
    if (read(fd, &n, sizeof n) != sizeof n)
        _exit(72); /* the other side has ended, and has said why */
    return n;
}

static struct child start(void (*part)(int fd))
{
    int pair[2];
    SETUP(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    pid_t pid = fork();
    SETUP(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        part(pair[1]);
        _exit(0);
    }
    close(pair[1]);
    return (struct child){pid, pair[0]};
}

static void kill_child(struct child c)
{
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
}

/* Its verdict is ours. */
static void join(struct child c)
{
    int status;
    SETUP(waitpid(c.pid, &status, 0) == c.pid);
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "broken: a child died of signal %d\n", WTERMSIG(status));
        _exit(1);
    }
    if (WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
}

/* Until the child sleeps in a futex: there is no event for it. */
static void until_asleep(pid_t pid)
{
    char file[64], text[256];
    snprintf(file, sizeof file, "/proc/%d/syscall", pid);
    for (int number = -1; number != SYS_futex && number != SYS_futex_waitv;) {
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        SETUP(fd >= 0);
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        if (sscanf(text, "%d", &number) != 1)
            number = -1;
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

/* ---- parts that many laws need -------------------------------------------------------------------------------- */
static void part_holder(int fd) /* holds until told, releases, and stays */
{
    attach();
    SETUP(lock_within(1000) == SX_OK);
    say_number(fd, identity());
    hear(fd);
    LAW(unlock() == SX_OK);
    say(fd);
    hear(fd);
}

static void part_waiter_ok(int fd)
{
    attach();
    say(fd);
    LAW(sx_mutex_lock(arena, mutex, SX_NEVER) == SX_OK);
    LAW(unlock() == SX_OK);
}

static void part_waiter_died(int fd)
{
    attach();
    say(fd);
    LAW(sx_mutex_lock(arena, mutex, SX_NEVER) == SX_OWNER_DIED);
    LAW(unlock() == SX_OK);
}

/* ---- the laws -------------------------------------------------------------------------------------------------- */

/* No FUTEX_PRIVATE_FLAG: a release wakes a sleeper of another process, without a belt. */
static void law_shared_futex(void)
{
    sx_belt_off = true;
    struct child holder = start(part_holder);
    hear(holder.fd);
    struct child waiter = start(part_waiter_ok);
    hear(waiter.fd);
    until_asleep(waiter.pid);
    say(holder.fd);
    join(waiter);
}

/* The end of a holder wakes the waiter, without a belt: the kernel must know that somebody may sleep. */
static void law_death_wakes(void)
{
    sx_belt_off = true;
    struct child holder = start(part_holder);
    hear(holder.fd);
    struct child waiter = start(part_waiter_died);
    hear(waiter.fd);
    until_asleep(waiter.pid);
    kill_child(holder);
    join(waiter);
}

/* A waiting thread's record says for what. */
static void law_published(void)
{
    struct child holder = start(part_holder);
    hear(holder.fd);
    attach();
    struct child waiter = start(part_waiter_ok);
    hear(waiter.fd);
    until_asleep(waiter.pid);
    int found = 0;
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++) {
        struct sx_wait *w = &arena->participants[i].wait[0];
        found += sx_wait_state(atomic_load(&w->state)) == SX_WAITING &&
                 atomic_load(&w->cell) == (uint64_t)((char *)mutex - arena->base);
    }
    LAW(found == 1);
    say(holder.fd);
    join(waiter);
}

/* The mapping outlives the last handle while another thread is registered in it. */
static bool mapped(void)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "re");
    SETUP(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        found |= strstr(line, path) != NULL;
    fclose(f);
    return found;
}
static int thread_says[2], thread_hears[2];
static void *registered_thread(void *unused)
{
    char c = 0;
    SETUP(lock_within(1000) == SX_OK && unlock() == SX_OK);
    SETUP(write(thread_says[1], &c, 1) == 1 && read(thread_hears[0], &c, 1) == 1);
    return unused; /* its life lock is released by the thread's own end */
}
static void law_stays_mapped(void)
{
    pthread_t thread;
    char c;
    SETUP(pipe(thread_says) == 0 && pipe(thread_hears) == 0);
    attach();
    SETUP(pthread_create(&thread, NULL, registered_thread, NULL) == 0 && read(thread_says[0], &c, 1) == 1);
    sx_arena_release(arena);
    LAW(mapped());
    SETUP(write(thread_hears[1], &c, 1) == 1 && pthread_join(thread, NULL) == 0);
}

/* A storm of signals neither prolongs nor shortens a timed wait. */
static void nothing(int number)
{
    (void)number;
}
static void law_deadline(void)
{
    struct child holder = start(part_holder);
    hear(holder.fd);
    attach();
    identity();
    struct sigaction action = {.sa_handler = nothing}; /* no SA_RESTART: every system call sees it */
    sigaction(SIGVTALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec each = {.it_interval.tv_nsec = 5 * MS, .it_value.tv_nsec = 5 * MS};
    SETUP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &each, NULL) == 0);
    int64_t start = sx_now();
    enum sx_status s = sx_mutex_lock(arena, mutex, start + 300 * MS);
    int64_t took = sx_now() - start;
    timer_delete(timer);
    LAW(s == SX_TIMEOUT);
    LAW(took >= 300 * MS);
    LAW(took < 5000 * MS); /* a wait begun anew at each signal would not end */
    kill_child(holder);
}

/* A forked child owns nothing, and what it does takes nothing from its parent. */
static void law_fork(void)
{
    int status;
    attach();
    SETUP(lock_within(1000) == SX_OK);
    pid_t pid = fork();
    SETUP(pid >= 0);
    if (pid == 0) {
        LAW(unlock() == SX_NOT_OWNER);
        LAW(lock_within(0) == SX_BUSY);
        LAW(lock_within(50) == SX_TIMEOUT);
        sx_arena_leave_all();
        _exit(0);
    }
    join((struct child){pid, -1});
    LAW((atomic_load(&mutex->word) & SX_ID_MASK) == identity());
    pid = fork();
    SETUP(pid >= 0);
    if (pid == 0)
        _exit(lock_within(0) == SX_BUSY ? 0 : 1);
    SETUP(waitpid(pid, &status, 0) == pid);
    LAW(status == 0);
    LAW(unlock() == SX_OK);
}

/* A parent's death is seen although its child lives: the witness is not inherited. */
static void part_parent(int fd)
{
    attach();
    identity();
    pid_t pid = fork();
    SETUP(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        say_number(fd, (uint64_t)arena->process); /* SX_NOBODY, or a slot of its own */
        hear(fd);                                 /* lives on */
        _exit(0);
    }
    say_number(fd, (uint64_t)arena->process_generation << 32 | arena->process);
    for (;;)
        pause();
}
static void law_witness_not_inherited(void)
{
    struct child parent = start(part_parent); /* before we attach, or it would be a forked child itself */
    uint64_t a = hear(parent.fd), b = hear(parent.fd), who = a >> 32 != 0 ? a : b;
    attach();
    SETUP(sx_process_alive(arena, (uint32_t)who, (uint32_t)(who >> 32)));
    kill_child(parent);
    bool alive = sx_process_alive(arena, (uint32_t)who, (uint32_t)(who >> 32));
    say(parent.fd); /* the orphan ends */
    LAW(!alive);
}

/* Unlinked and made anew is never two locks of one name. */
static void part_unlinker(int fd)
{
    attach();
    struct sx_mutex *old = mutex;
    LAW(sx_object_unlink(arena, "m", 1, true) == SX_OK);
    attach(); /* the name again */
    LAW(mutex != old);
    LAW(lock_within(0) == SX_OK);
    say(fd);
    hear(fd);
}
static void law_retired(void)
{
    attach();
    LAW(lock_within(0) == SX_OK && unlock() == SX_OK);
    struct child unlinker = start(part_unlinker);
    hear(unlinker.fd);
    LAW(lock_within(100) == SX_RETIRED);
    kill_child(unlinker);
}

/* ---- bytes of any kind in the tables --------------------------------------------------------------------------- */
static uint32_t seed;
static uint32_t next_random(void)
{
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return seed;
}

/* Everything that reads tables.  Any status will do; a crash or a hang will not. */
static void part_reader(int fd)
{
    struct sx_object o;
    (void)fd;
    alarm(10);
    if (sx_arena_open(path, false, false, 0600, &arena) != SX_OK)
        return;
    for (char name[] = "a"; name[0] < 'h'; name[0]++)
        if (sx_object_open(arena, name, 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &o) == SX_OK) {
            mutex = (struct sx_mutex *)o.cell;
            enum sx_status s = lock_within(1);
            if (s == SX_OK || s == SX_OWNER_DIED)
                unlock();
            sx_object_close(arena, &o);
        }
    sx_object_unlink(arena, "b", 1, false);
    sx_object_unlink(arena, "c", 1, true);
    sx_object_anonymous(arena, REQUEST(SX_KIND_RLOCK, SX_CREATE), &o);
    sx_object_reference(arena, next_random(), next_random(), SX_KIND_MUTEX, &o);
    sx_arena_collect(arena);
    sx_arena_leave_all();
}

static void part_author(int fd)
{
    struct sx_object o;
    (void)fd;
    attach();
    identity();
    for (char name[] = "a"; name[0] < 'f'; name[0]++)
        SETUP(sx_object_open(arena, name, 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &o) == SX_OK);
    sx_arena_leave_all(); /* in good order, or the reader would begin by mending everything */
}

static unsigned char page[8][SX_PAGE]; /* the header, and the first page of each region, as they should be */
static off_t offsets[8];

static void read_with(int fd, int which, const unsigned char *noise, const char *what, uint32_t number)
{
    int status;
    for (int i = 0; i < 8; i++)
        SETUP(pwrite(fd, i == which ? noise : page[i], SX_PAGE, offsets[i]) == SX_PAGE);
    struct child reader = start(part_reader);
    SETUP(waitpid(reader.pid, &status, 0) == reader.pid);
    close(reader.fd);
    if (status != 0) {
        fprintf(stderr, "broken: noise in page %d, %s %u: %s %d\n", which, what, number,
                WIFSIGNALED(status) ? "signal" : "status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        _exit(1);
    }
}

static void law_indexes(void)
{
    static const uint32_t values[] = {UINT32_MAX, INT32_MAX, 0x00ffff00, 12345678};
    unsigned char noise[SX_PAGE];
    struct sx_header h;
    join(start(part_author));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    SETUP(fd >= 0 && pread(fd, &h, sizeof h, 0) == sizeof h);
    for (int i = 0; i < SX_REGIONS; i++)
        offsets[i + 1] = (off_t)h.regions[i].offset;
    for (int i = 0; i < 8; i++)
        SETUP(pread(fd, page[i], SX_PAGE, offsets[i]) == SX_PAGE);
    /* one word of the living part of the header at a time */
    for (uint32_t at = offsetof(struct sx_header, ready); at + 4 <= sizeof h; at += 4)
        for (int i = 0; i < 4; i++) {
            memcpy(noise, page[0], SX_PAGE);
            memcpy(noise + at, &values[i], 4);
            seed = 1;
            read_with(fd, 0, noise, "offset", at);
        }
    /* little, some and nothing but noise in the first page of each region */
    for (uint32_t round = 1; round <= 210; round++) {
        int which = 1 + (int)(round % 7);
        seed = round * 2654435761u;
        memcpy(noise, page[which], SX_PAGE);
        uint32_t sparse = (uint32_t[]){64, 4, 1}[round % 3];
        for (uint32_t at = 0; at < SX_PAGE; at += 4) {
            uint32_t v = next_random() % 2 ? next_random() : next_random() % 300;
            if (next_random() % sparse == 0)
                memcpy(noise + at, &v, 4);
        }
        read_with(fd, which, noise, "round", round);
    }
}

/* ---- a full file system ----------------------------------------------------------------------------------------- */
static void part_filler(int fd)
{
    struct sx_object o;
    (void)fd;
    enum sx_status s = sx_arena_open(path, true, false, 0600, &arena);
    char name[16];
    for (int i = 0; i < 3000 && s == SX_OK; i++) {
        snprintf(name, sizeof name, "name %d", i);
        s = sx_object_open(arena, name, (uint32_t)strlen(name), REQUEST(SX_KIND_MUTEX, SX_CREATE), &o);
    }
    LAW(s == SX_ERRNO && errno == ENOSPC);
}
static void law_pages_first(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        printf("no mounts here: %s\n", strerror(errno));
        _exit(77);
    }
    for (int pages = 2; pages < 40; pages++) {
        char options[32];
        snprintf(options, sizeof options, "size=%d", pages * 4096);
        if (mount("none", directory, "tmpfs", 0, options) != 0) {
            printf("no tmpfs here: %s\n", strerror(errno));
            _exit(77);
        }
        join(start(part_filler));
        SETUP(umount2(directory, MNT_DETACH) == 0);
    }
}

/* ---- deaths that the kernel does not mark -------------------------------------------------------------------------- */
static void *exec_holding(void *fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* each thread has its own */
    SETUP(lock_within(1000) == SX_OK);
    say((int)(intptr_t)fd);
    hear((int)(intptr_t)fd);
    execl("/bin/sleep", "sleep", "30", NULL);
    return NULL;
}
static void part_exec(int fd)
{
    pthread_t thread;
    attach();
    identity(); /* the main thread is registered too */
    SETUP(pthread_create(&thread, NULL, exec_holding, (void *)(intptr_t)fd) == 0);
    pthread_join(thread, NULL);
}

static pthread_mutex_t *foreign_mutexes(int n)
{
    pthread_mutexattr_t attr;
    pthread_mutex_t *all =
        mmap(NULL, (size_t)n * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SETUP(all != MAP_FAILED);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < n; i++)
        SETUP(pthread_mutex_init(&all[i], &attr) == 0 && pthread_mutex_lock(&all[i]) == 0);
    return all;
}
static void part_unmapped(int fd) /* the kernel's walk of the robust list ends at the hole */
{
    attach();
    SETUP(lock_within(1000) == SX_OK);
    pthread_mutex_t *m = foreign_mutexes(1);
    munmap(m, sizeof *m);
    say(fd);
    hear(fd);
    raise(SIGKILL);
}
static void part_many(int fd) /* ... or after 2,048 entries */
{
    attach();
    SETUP(lock_within(1000) == SX_OK);
    foreign_mutexes(2100);
    say(fd);
    hear(fd);
    raise(SIGKILL);
}
/* The holder ends in one of these ways while somebody waits: told within the promise. */
static void part_impatient(int fd)
{
    attach();
    say(fd);
    int64_t start = sx_now();
    LAW(sx_mutex_lock(arena, mutex, start + 2000 * MS) == SX_OWNER_DIED);
    LAW(sx_now() - start < 1000 * MS);
}
static void unmarked_death(void (*part)(int))
{
    struct child holder = start(part);
    hear(holder.fd);
    struct child waiter = start(part_impatient);
    hear(waiter.fd);
    until_asleep(waiter.pid);
    say(holder.fd);
    join(waiter);
    kill_child(holder);
}
static void law_exec(void)
{
    unmarked_death(part_exec);
}
static void law_robust_unmapped(void)
{
    unmarked_death(part_unmapped);
}
static void law_robust_many(void)
{
    unmarked_death(part_many);
}

/* ---- identities --------------------------------------------------------------------------------------------------- */
/* The slot of a dead holder goes to somebody else, who is not taken for the holder. */
static void part_heir(int fd)
{
    attach();
    say_number(fd, identity());
    LAW(unlock() == SX_NOT_OWNER);
    LAW(lock_within(500) == SX_OWNER_DIED);
}
static void law_recycled_slot(void)
{
    attach();
    struct child holder = start(part_holder);
    uint64_t dead = hear(holder.fd);
    kill_child(holder);
    atomic_store(&arena->header->next_participant, sx_slot_of(dead)); /* slots go round: have that one next */
    struct child heir = start(part_heir);
    uint64_t its = hear(heir.fd);
    SETUP(sx_slot_of(its) == sx_slot_of(dead));
    LAW(its != dead);
    join(heir);
}

/* Another process has the dead one's pid, uses the same arena, and the kernel did not mark the death. */
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
static pid_t fork_as(pid_t pid)
{
    struct clone_arguments a = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    return (pid_t)syscall(SYS_clone3, &a, sizeof a);
}
static void law_reused_pid(void)
{
    struct child holder = start(part_unmapped);
    hear(holder.fd);
    nanosleep(&(struct timespec){.tv_nsec = 30 * MS}, NULL); /* start times count in 10 ms */
    say(holder.fd);
    waitpid(holder.pid, NULL, 0);
    int pair[2];
    SETUP(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    pid_t pid = fork_as(holder.pid);
    if (pid < 0) {
        printf("a pid cannot be chosen here: %s\n", strerror(errno));
        _exit(77);
    }
    if (pid == 0) { /* a child of clone3 itself: glibc's idea of the thread id is the parent's, so it only maps */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) != 0 || mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
            _exit(70);
        say(pair[1]);
        for (;;)
            pause();
    }
    SETUP(pid == holder.pid);
    hear(pair[0]);
    struct child waiter = start(part_impatient);
    hear(waiter.fd);
    join(waiter);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Ids of hundreds of threads, and the first ids of several arenas, differ; slots are used in turn. */
static void *first_use(void *id)
{
    *(uint64_t *)id = identity();
    return NULL;
}
static void law_ids(void)
{
    enum { THREADS = 200, FILES = 6 };
    static uint64_t ids[THREADS + FILES];
    char own[sizeof path];
    attach();
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        SETUP(pthread_create(&thread, NULL, first_use, &ids[i]) == 0 && pthread_join(thread, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) { /* slots go round: in turn, and four at least, one of them taken */
        int uses = 0;
        for (int j = 0; j < THREADS; j++)
            uses += sx_slot_of(ids[i]) == sx_slot_of(ids[j]);
        LAW(uses <= THREADS / 2);
    }
    strcpy(own, path);
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/other %d", directory, i);
        attach();
        ids[THREADS + i] = identity();
    }
    strcpy(path, own);
    for (int i = 0; i < THREADS + FILES; i++)
        for (int j = 0; j < i; j++)
            LAW(ids[i] != ids[j]);
    for (int i = 0; i < FILES; i++) /* of arenas: not even the generations */
        for (int j = 0; j < i; j++)
            LAW(ids[THREADS + i] >> 32 != ids[THREADS + j] >> 32);
}

/* ---- memory of the user's whose arena is gone ------------------------------------------------------------------------ */
static struct sx_mutex *user_memory;
static void *sleep_for_ever(void *unused)
{
    char c = 0;
    identity();
    SETUP(write(thread_says[1], &c, 1) == 1);
    for (;;)
        pause();
    return unused;
}
static void *hold_user_memory(void *fd)
{
    struct sx_object o;
    SETUP(sx_object_at(arena, user_memory, sizeof(struct sx_mutex), REQUEST(SX_KIND_MUTEX, SX_CREATE), &o) == SX_OK);
    SETUP(sx_mutex_lock(arena, user_memory, 0) == SX_OK);
    say_number((int)(intptr_t)fd, identity());
    return sleep_for_ever(NULL);
}
static void part_user_memory(int fd)
{
    SETUP(pipe(thread_says) == 0);
    attach();
    /* in a slot that a fresh arena does not even have */
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        char c;
        SETUP(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0 && read(thread_says[0], &c, 1) == 1);
    }
    pthread_t holder;
    SETUP(pthread_create(&holder, NULL, hold_user_memory, (void *)(intptr_t)fd) == 0);
    hear(fd);
}
static void law_arena_gone(void)
{
    struct sx_object o;
    user_memory = mmap(NULL, SX_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SETUP(user_memory != MAP_FAILED);
    struct child holder = start(part_user_memory);
    SETUP(sx_slot_of(hear(holder.fd)) >= 16);
    kill_child(holder);
    SETUP(unlink(path) == 0); /* as a reboot does */
    attach();
    LAW(sx_object_at(arena, user_memory, sizeof(struct sx_mutex), REQUEST(SX_KIND_MUTEX, SX_CREATE), &o) == SX_OK);
    LAW(sx_mutex_lock(arena, user_memory, sx_now() + 500 * MS) == SX_OWNER_DIED);
    LAW(sx_mutex_unlock(arena, user_memory, false) == SX_OK);
    /* and another arena than the one of that path is refused */
    snprintf(path, sizeof path, "%s/other", directory);
    attach();
    LAW(sx_object_at(arena, user_memory, sizeof(struct sx_mutex), REQUEST(SX_KIND_MUTEX, SX_CREATE), &o) ==
        SX_OTHER_ARENA);
}

/* A reservation for a thread that does not come holds nobody up. */
static void law_reservation_lapses(void)
{
    attach();
    identity();
    int64_t start = sx_now();
    atomic_store(&mutex->reserved_us, (uint32_t)(start / 1000));
    atomic_store(&mutex->word, MUTEX_RESERVED);
    LAW(lock_within(1000) == SX_OK);
    LAW(unlock() == SX_OK);
}

/* ---- main ------------------------------------------------------------------------------------------------------------- */
static const struct {
    const char *name;
    void (*law)(void);
    unsigned seconds;
} laws[] = {
    {"shared-futex", law_shared_futex, 2},
    {"death-wakes", law_death_wakes, 2},
    {"published", law_published, 2},
    {"stays-mapped", law_stays_mapped, 2},
    {"deadline", law_deadline, 2},
    {"fork", law_fork, 4},
    {"witness-not-inherited", law_witness_not_inherited, 4},
    {"retired", law_retired, 4},
    {"indexes", law_indexes, 60},
    {"pages-first", law_pages_first, 20},
    {"exec", law_exec, 4},
    {"robust-unmapped", law_robust_unmapped, 4},
    {"robust-many", law_robust_many, 4},
    {"recycled-slot", law_recycled_slot, 4},
    {"reused-pid", law_reused_pid, 4},
    {"ids", law_ids, 10},
    {"arena-gone", law_arena_gone, 4},
    {"reservation-lapses", law_reservation_lapses, 2},
};

/* The law itself runs in a child, so that main outlives it and takes everybody with it. */
static void (*the_law)(void);
static void part_law(int fd)
{
    (void)fd;
    the_law();
}

int main(int argc, char **argv)
{
    unsigned seconds = 0;
    SETUP(argc == 4); /* a law, a directory, and how much longer than usual it may take */
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
        if (strcmp(argv[1], laws[i].name) == 0)
            the_law = laws[i].law, seconds = laws[i].seconds;
    SETUP(the_law != NULL);
    snprintf(directory, sizeof directory, "%s", argv[2]);
    snprintf(path, sizeof path, "%s/arena", directory);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come to us, and go with us */
    alarm(seconds * (unsigned)atoi(argv[3]));
    join(start(part_law));
    return 0;
}
