/* singlestep.c: kills a thread at every machine instruction of an operation and looks at what is left.
 *
 *     singlestep SCENARIO DIRECTORY [--lock=syncx|futex|sem] [--belt-off] [--no-waitv] [--system-calls]
 *                [--stride=N] [--from=N] [--stop-after=N]
 *     singlestep --exec N COMMAND...
 *
 * The driver (main) never attaches to the arena.  It forks
 *   H  an agent that holds the lock first, where the scenario has a first holder,
 *   S  an agent that survives: it waits for the lock, or comes for it after the kill,
 *   V  a victim for each kill: it stops itself before and after the operation; the driver steps it n instructions into
 *      it with PTRACE_SINGLESTEP and kills it there.
 * What the words say at that moment decides what S must find: OWNER_DIED exactly if the word named a dead owner or had
 * the mark, plain success otherwise, always within 250 ms; the canary tells of two holders; names can still be
 * made; no rescue is counted that no death explains.  While V is stepped two laws are watched at every instruction:
 * the host's lock (Python's GIL) is never held at a PAUSE or a futex wait, and at a futex wait the wait record is
 * published.
 *
 * Output: one JSON object a line for each failure, and one with the summary.  x86-64 only (opcodes, registers).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "core.h"

#define REQUEST(what, how) (&(struct sx_request){.kind = (what), .parameter = SX_ANY, .create = (how)})

#define BOUND_NS INT64_C(250000000) /* the promise */
#define HANG_MS 3000                /* beyond any scheduling noise */
#define MAX_STEPS 2000000

#define CHECK(condition)                                                                                               \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: errno %d\n", __FILE__, __LINE__, #condition, errno);                           \
            _exit(70);                                                                                                 \
        }                                                                                                              \
    while (0)

/* Driver and victim share one CPU, which makes a step four times as cheap.  The core must not learn of it, or it would
 * never spin: this takes the place of the library's function in all of them. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid;
    CPU_ZERO_S(size, set);
    CPU_SET_S(0, size, set);
    CPU_SET_S(1, size, set);
    return 0;
}

static void share_one_cpu(bool share)
{
    static cpu_set_t all;
    cpu_set_t one;
    if (!share) {
        sched_setaffinity(0, sizeof all, &all);
        return;
    }
    long size = syscall(SYS_sched_getaffinity, 0, sizeof all, &all);
    int cpu = sched_getcpu();
    if (size <= 0 || cpu < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* ---- what all processes share --------------------------------------------------------------------------- */
enum agent_name { H, S, AGENTS };
static struct control {
    sx_a64 victim_id;
    sx_a64 agent_id[AGENTS];
    sx_a64 cell;       /* offset of the mutex in the arena */
    atomic_int canary; /* who is in the critical section */
    atomic_int host_locked;
    atomic_int victim_status;
    atomic_int naive;
    _Atomic(int64_t) deadline; /* of the victim that leaves by timeout */
    sem_t sem;
    _Alignas(SX_LINE) unsigned char user_memory[2 * SX_LINE];
} *control;

enum lock_kind { SYNCX, FUTEX, SEM };
static enum lock_kind lock_kind;
static char directory[256], path[300];
static char *map; /* the driver's view of the arena file */

/* ---- the locks ------------------------------------------------------------------------------------------ */
static struct sx_arena *arena;
static struct sx_mutex *mutex;

/* Drepper's second mutex: right as long as nobody dies, hence the twin that must be caught. */
static void naive_lock(void)
{
    int c = 0;
    if (atomic_compare_exchange_strong(&control->naive, &c, 1))
        return;
    do {
        int one = 1;
        if (c == 2 || atomic_compare_exchange_strong(&control->naive, &one, 2) || one == 2)
            syscall(SYS_futex, &control->naive, FUTEX_WAIT, 2, NULL, NULL, 0);
        c = 0;
    } while (!atomic_compare_exchange_strong(&control->naive, &c, 2));
}

static void naive_unlock(void)
{
    if (atomic_fetch_sub(&control->naive, 1) != 1) {
        atomic_store(&control->naive, 0);
        syscall(SYS_futex, &control->naive, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static enum sx_status lock_until(int64_t deadline)
{
    if (lock_kind == SYNCX)
        return sx_mutex_lock(arena, mutex, deadline);
    if (lock_kind == FUTEX)
        naive_lock();
    else
        while (sem_wait(&control->sem) != 0)
            ;
    return SX_OK;
}

static enum sx_status unlock(void)
{
    if (lock_kind == SYNCX)
        return sx_mutex_unlock(arena, mutex, false);
    if (lock_kind == FUTEX)
        naive_unlock();
    else
        sem_post(&control->sem);
    return SX_OK;
}

static void open_arena(void)
{
    CHECK(sx_arena_open(path, true, false, 0600, &arena) == SX_OK);
}

static void open_mutex(void)
{
    struct sx_object object;
    CHECK(sx_object_open(arena, "m", 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object) == SX_OK);
    mutex = (struct sx_mutex *)object.cell;
    atomic_store(&control->cell, (uint64_t)((char *)mutex - arena->base));
}

static uint64_t identity(void)
{
    uint64_t id;
    CHECK(sx_identity(arena, &id) == SX_OK);
    return id;
}

static bool acquired(enum sx_status s)
{
    return s == SX_OK || s == SX_OWNER_DIED;
}

/* ---- agents --------------------------------------------------------------------------------------------- */
enum request { LOCK, UNLOCK, PASS, NAMES, PLACE, QUIT };
struct reply {
    enum sx_status status;
    int canary;        /* whom the agent met in the critical section */
    int depth;         /* of somebody else's recursion */
    int64_t at;        /* when it had the lock, or was done */
    const char *where; /* of NAMES: what went wrong (a literal: the same address in every fork) */
};
static struct agent {
    pid_t pid;
    int fd;
} agents[AGENTS];

/* The arena must be as good as new for others: open, use, unlink and forget the name that the victim dealt with. */
static struct reply try_names(void)
{
    static const char name[] = "victim";
    struct sx_object object;
    struct reply r = {.where = "open"};
    struct sx_mutex *m;
    r.status = sx_object_open(arena, name, sizeof name - 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object);
    if (r.status == SX_OK) {
        m = (struct sx_mutex *)object.cell;
        r.where = "lock";
        r.status = sx_mutex_lock(arena, m, sx_now() + 2 * BOUND_NS);
        if (acquired(r.status))
            sx_mutex_unlock(arena, m, false);
    }
    if (r.status == SX_OK) {
        sx_object_close(arena, &object);
        r.where = "unlink";
        r.status = sx_object_unlink(arena, name, sizeof name - 1, false);
    }
    if (r.status == SX_OK) {
        r.where = "open after unlink";
        r.status = sx_object_open(arena, name, sizeof name - 1, REQUEST(SX_KIND_MUTEX, SX_OPEN), &object);
        r.status = r.status == SX_NOT_FOUND ? SX_OK : SX_DAMAGED;
    }
    if (r.status == SX_OK) {
        r.where = "collect";
        r.status = sx_arena_collect(arena);
    }
    if (r.status == SX_OK && atomic_load(&arena->header->names_live) != 1) {
        r.where = "count of names";
        r.status = SX_DAMAGED;
    }
    r.at = sx_now();
    return r;
}

/* The cell in the user's memory can be opened and used, whatever its maker had got done. */
static struct reply try_place(void)
{
    struct sx_object object;
    struct sx_mutex *m = (struct sx_mutex *)control->user_memory;
    struct reply r = {.where = "open"};
    r.status = sx_object_at(arena, m, sizeof(struct sx_mutex), REQUEST(SX_KIND_MUTEX, SX_CREATE), &object);
    if (r.status == SX_OK) {
        uint64_t w = atomic_load(&m->word);
        r.where = sx_is_free(w) ? "lock" : "lock of the dead";
        r.status = sx_mutex_lock(arena, m, sx_now() + 2 * BOUND_NS);
        if (acquired(r.status))
            sx_mutex_unlock(arena, m, false);
        r.status = r.status == (sx_is_free(w) ? SX_OK : SX_OWNER_DIED) ? SX_OK : SX_DAMAGED;
        sx_object_close(arena, &object);
    }
    r.at = sx_now();
    return r;
}

static _Noreturn void agent(enum agent_name which, int fd)
{
    enum request request;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    open_arena();
    open_mutex();
    atomic_store(&control->agent_id[which], identity());
    CHECK(write(fd, &(struct reply){0}, sizeof(struct reply)) == sizeof(struct reply));
    while (read(fd, &request, sizeof request) == sizeof request) {
        struct reply r = {0};
        enum sx_status s;
        switch (request) {
        case LOCK:
        case PASS:
            r.status = lock_until(SX_NEVER);
            r.at = sx_now();
            r.canary = atomic_exchange(&control->canary, 100 + (int)which);
            if (acquired(r.status) && lock_kind == SYNCX && atomic_load(&mutex->depth) != 0)
                r.depth = (int)atomic_load(&mutex->depth);
            if (request == LOCK)
                break;
            /* fall through */
        case UNLOCK:
            atomic_store(&control->canary, 0);
            s = unlock();
            r.status = s == SX_OK ? r.status : s;
            break;
        case NAMES:
            r = try_names();
            break;
        case PLACE:
            r = try_place();
            break;
        case QUIT:
            sx_arena_leave_all();
            _exit(0);
        }
        CHECK(write(fd, &r, sizeof r) == sizeof r);
    }
    _exit(0);
}

static bool receive(enum agent_name which, struct reply *r)
{
    struct pollfd p = {.fd = agents[which].fd, .events = POLLIN};
    return poll(&p, 1, HANG_MS) == 1 && read(p.fd, r, sizeof *r) == sizeof *r;
}

static void start_agent(enum agent_name which)
{
    int pair[2];
    struct reply r;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        share_one_cpu(false);
        agent(which, pair[1]);
    }
    close(pair[1]);
    agents[which] = (struct agent){pid, pair[0]};
    CHECK(receive(which, &r));
}

static void end_agent(enum agent_name which)
{
    kill(agents[which].pid, SIGKILL);
    waitpid(agents[which].pid, NULL, 0);
    close(agents[which].fd);
}

static void tell(enum agent_name which, enum request request)
{
    CHECK(write(agents[which].fd, &request, sizeof request) == sizeof request);
}

static struct reply ask(enum agent_name which, enum request request)
{
    struct reply r;
    tell(which, request);
    CHECK(receive(which, &r));
    return r;
}

/* ---- looking at others ---------------------------------------------------------------------------------- */
static struct sx_header *header(void)
{
    return (struct sx_header *)map;
}

static uint64_t word(void)
{
    return atomic_load(&((struct sx_mutex *)(map + atomic_load(&control->cell)))->word);
}

static struct sx_wait *wait_record(uint64_t id)
{
    struct sx_participant *all = (struct sx_participant *)(map + header()->regions[SX_PARTICIPANTS].offset);
    return &all[sx_slot_of(id)].wait[0];
}

static bool stopped(pid_t pid)
{
    siginfo_t i = {.si_pid = 0};
    return waitid(P_PID, (id_t)pid, &i, WSTOPPED | WEXITED | WNOHANG | WNOWAIT) == 0 && i.si_pid != 0;
}

static bool in_futex(pid_t pid)
{
    char file[64], text[512];
    int number;
    snprintf(file, sizeof file, "/proc/%d/syscall", pid);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0; /* "running", or the number of the system call and its arguments */
    return sscanf(text, "%d", &number) == 1 && (number == SYS_futex || number == SYS_futex_waitv);
}

/* Until the victim sleeps in a futex.  There is no event for "somebody has fallen asleep", so this looks again and
 * again, and not for long.  false: it has woken again already and stands at its next stop. */
static bool wait_asleep(pid_t pid)
{
    for (int64_t end = sx_now() + HANG_MS * INT64_C(1000000); sx_now() < end;) {
        if (stopped(pid))
            return false;
        if (in_futex(pid))
            return !stopped(pid);
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    CHECK(!"asleep in time");
    return false;
}

/* Until S, which was told to lock, sleeps; or answers, since it may not have had to wait. */
static void wait_for_survivor(void)
{
    struct pollfd p = {.fd = agents[S].fd, .events = POLLIN};
    for (int64_t end = sx_now() + HANG_MS * INT64_C(1000000); sx_now() < end;) {
        if (in_futex(agents[S].pid) || poll(&p, 1, 0) == 1)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    CHECK(!"asleep in time");
}

/* ---- scenarios ------------------------------------------------------------------------------------------ */
struct scenario {
    const char *name;
    void (*before)(void);    /* the victim, before it stops the first time */
    void (*operation)(void); /* what is stepped through */
    bool first_holder;       /* H holds the lock when V begins, and releases it once V sleeps (or is dead) */
    bool last_holder;        /* ... once V is dead */
    bool relay;              /* V runs into H's lock in `before`, with S asleep behind it */
    bool waiter;             /* S sleeps on the victim's hold when V begins */
    bool corpse;             /* a process died holding the lock just before */
    bool may_sleep;          /* look at every instruction */
    bool names;              /* S then uses the names too */
    bool place;              /* ... or rather the cell in the user's memory */
    bool fresh;              /* the victim's arena is its own: it makes it */
};

static void before_nothing(void)
{
}
static void before_register(void)
{
    /* as open_mutex, but without an identity: the offset is known from S */
    open_arena();
    mutex = (struct sx_mutex *)(arena->base + atomic_load(&control->cell));
}
static void before_attached(void)
{
    before_register();
    atomic_store(&control->victim_id, identity());
}
static void before_holding(void)
{
    before_attached();
    CHECK(acquired(lock_until(SX_NEVER)));
    atomic_store(&control->canary, 1);
}

static void enter(int64_t deadline)
{
    enum sx_status s = lock_until(deadline);
    atomic_store(&control->victim_status, (int)s);
    if (acquired(s)) {
        int met = atomic_exchange(&control->canary, 1);
        if (met != 0 && s != SX_OWNER_DIED)
            atomic_store(&control->victim_status, -1);
    }
}
static void operate_unlock(void)
{
    atomic_store(&control->canary, 0);
    CHECK(unlock() == SX_OK);
}
static void operate_pair(void)
{
    enter(SX_NEVER);
    operate_unlock();
}
static void operate_timeout(void)
{
    enter(sx_now() + 30000000);
}
static void operate_register(void)
{
    atomic_store(&control->victim_id, identity());
    operate_pair();
}
static void operate_open(void)
{
    open_arena();
    mutex = (struct sx_mutex *)(arena->base + atomic_load(&control->cell));
}
static void operate_name(void)
{
    struct sx_object object;
    CHECK(sx_object_open(arena, "victim", 6, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object) == SX_OK);
    sx_object_close(arena, &object);
    CHECK(sx_object_unlink(arena, "victim", 6, false) == SX_OK);
}
static void before_name(void)
{
    before_attached();
}
static void operate_anonymous(void)
{
    struct sx_object object;
    CHECK(sx_object_anonymous(arena, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object) == SX_OK);
    sx_object_close(arena, &object);
}
static void operate_recursion(void)
{
    uint64_t me;
    enter(SX_NEVER);
    CHECK(sx_identity(arena, &me) == SX_OK);
    CHECK(sx_rlock_again(mutex, me) && sx_rlock_again(mutex, me));
    CHECK(sx_rlock_back(mutex, me) && sx_rlock_back(mutex, me));
    operate_unlock();
}
static void operate_place(void)
{
    struct sx_object object;
    struct sx_mutex *m = (struct sx_mutex *)control->user_memory;
    CHECK(sx_object_at(arena, m, sizeof(struct sx_mutex), REQUEST(SX_KIND_MUTEX, SX_CREATE), &object) == SX_OK);
    CHECK(sx_mutex_lock(arena, m, SX_NEVER) == SX_OK);
    CHECK(sx_mutex_unlock(arena, m, false) == SX_OK);
    sx_object_close(arena, &object);
}
static void before_unlink(void)
{
    open_arena();
    open_mutex();
}
static void operate_unlink(void)
{
    sx_arena_unlink(arena, true);
}
static void operate_leave(void)
{
    sx_arena_leave_all();
}
static void operate_create(void)
{
    sx_arena_open(path, true, false, 0600, &arena);
}

static const struct scenario scenarios[] = {
    {"free", before_attached, operate_pair, .may_sleep = false},
    {"contended", before_attached, operate_pair, .first_holder = true, .may_sleep = true},
    {"release", before_holding, operate_unlock, .waiter = true},
    {"relay", before_holding, operate_unlock, .first_holder = true, .relay = true},
    {"recover", before_attached, operate_pair, .corpse = true, .may_sleep = true},
    {"timeout", before_attached, operate_timeout, .first_holder = true, .last_holder = true, .may_sleep = true},
    {"register", before_register, operate_register, .names = true},
    {"open", before_nothing, operate_open, .names = true},
    {"name", before_name, operate_name, .names = true},
    {"anonymous", before_name, operate_anonymous, .names = true},
    {"leave", before_holding, operate_leave, .names = true},
    {"recursion", before_attached, operate_recursion},
    {"place", before_attached, operate_place, .names = true, .place = true},
    {"unlink", before_unlink, operate_unlink, .fresh = true},
    {"create", before_nothing, operate_create, .fresh = true},
};
static const struct scenario *scenario;

/* ---- the host that the victim reports to ----------------------------------------------------------------- */
static void *host_block(void)
{
    atomic_store(&control->host_locked, 0);
    return NULL;
}
static void host_unblock(void *state)
{
    (void)state;
    atomic_store(&control->host_locked, 1);
}
static bool host_interrupted(void **state, bool belt)
{
    (void)state, (void)belt;
    return false;
}

/* ---- victims -------------------------------------------------------------------------------------------- */
static _Noreturn void victim(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    scenario->before();
    sx_host.block = host_block;
    sx_host.unblock = host_unblock;
    sx_host.interrupted = host_interrupted;
    atomic_store(&control->host_locked, 1);
    raise(SIGSTOP);
    scenario->operation();
    raise(SIGSTOP);
    _exit(0);
}

static pid_t spawn_victim(void)
{
    atomic_store(&control->victim_id, 0);
    atomic_store(&control->victim_status, -2);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        victim();
    return pid;
}

static void make_corpse(void)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        before_holding();
        raise(SIGKILL);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- failures ------------------------------------------------------------------------------------------- */
static long failures, at_point;
static unsigned long long at_rip;

static void fail(const char *what, const char *detail, long long number)
{
    failures++;
    printf("{\"point\": %ld, \"rip\": \"%#llx\", \"what\": \"%s\", \"detail\": \"%s\", \"number\": %lld}\n", at_point,
           at_rip, what, detail, number);
    fflush(stdout);
}

/* ---- stepping ------------------------------------------------------------------------------------------- */
enum next { PLAIN, PAUSE, FUTEX_WAITS };

static enum next look(pid_t pid)
{
    struct user_regs_struct regs;
    CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0);
    at_rip = regs.rip;
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)regs.rip, NULL);
    if (errno != 0)
        return PLAIN;
    if ((text & 0xffff) == 0x90f3)
        return PAUSE;
    if ((text & 0xffff) != 0x050f)
        return PLAIN;
    if (regs.rax == SYS_futex_waitv)
        return FUTEX_WAITS;
    if (regs.rax == SYS_futex && ((regs.rsi & 0x7f) == FUTEX_WAIT || (regs.rsi & 0x7f) == FUTEX_WAIT_BITSET))
        return FUTEX_WAITS;
    return PLAIN;
}

struct walk {
    long steps;
    bool ended; /* V stands at its second stop */
    bool slept;
    bool h_released, s_waits;
};

static bool by_system_call; /* a step is the way to the next entry into or exit from a system call */

static void step_begins(pid_t pid)
{
    CHECK(ptrace(by_system_call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
}

/* false: the victim stands at its second stop. */
static bool step_ends(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSTOPPED(status));
    if (WSTOPSIG(status) == SIGSTOP)
        return false;
    CHECK(WSTOPSIG(status) == SIGTRAP);
    return true;
}

static void watch(enum next next)
{
    if (next == PLAIN)
        return;
    if (atomic_load(&control->host_locked))
        fail("host lock held", next == PAUSE ? "spinning" : "sleeping", 0);
    if (next == FUTEX_WAITS && lock_kind == SYNCX) {
        struct sx_wait *w = wait_record(atomic_load(&control->victim_id));
        if (sx_wait_state(atomic_load(&w->state)) != SX_WAITING || atomic_load(&w->cell) != atomic_load(&control->cell))
            fail("wait record not published", "", 0);
    }
}

/* Steps up to n instructions.  At the victim's first sleep S goes to sleep behind it and H, if it is to, releases.
 * n may fall on the sleep itself: then the victim is left asleep in the kernel. */
static struct walk walk(pid_t pid, long n)
{
    struct walk w = {0};
    while (w.steps < n && w.steps < MAX_STEPS) {
        enum next next = scenario->may_sleep ? look(pid) : PLAIN;
        watch(next);
        step_begins(pid);
        w.steps++;
        if (next == FUTEX_WAITS && !w.slept) {
            w.slept = true;
            wait_asleep(pid);
            tell(S, PASS);
            w.s_waits = true;
            wait_for_survivor();
            if (w.steps == n)
                return w; /* killed in its sleep */
            if (!scenario->last_holder) {
                ask(H, UNLOCK);
                w.h_released = true;
            }
        }
        if (!step_ends(pid)) {
            w.ended = true;
            break;
        }
    }
    if (!scenario->may_sleep && w.steps == n && !w.ended)
        look(pid); /* for the report */
    return w;
}

/* ---- one kill ------------------------------------------------------------------------------------------- */
static bool survivor_is_late; /* the last point was right, but later than BOUND_NS */

static void kill_victim(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    do
        CHECK(waitpid(pid, &status, 0) == pid);
    while (!WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
}

static void first_stop(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL) == 0);
}

static void restart_survivor(void)
{
    end_agent(S);
    start_agent(S);
}

static void judge(struct reply *r, bool expect_death, int64_t since)
{
    int64_t took = r->at - since;
    if (lock_kind == SYNCX && r->status != (expect_death ? SX_OWNER_DIED : SX_OK))
        fail("status", expect_death ? "the owner's death was not told" : "not plain success", (long long)r->status);
    if (r->canary != 0 && r->status != SX_OWNER_DIED)
        fail("canary", "somebody else is in the critical section", r->canary);
    if (r->depth != 0)
        fail("depth", "a new hold begins with the dead owner's recursion", r->depth);
    if (took > BOUND_NS)
        survivor_is_late = true;
}

static void release_by_holder(void)
{
    struct reply r = ask(H, UNLOCK);
    if (r.status != SX_OK)
        fail("status", "the holder does not hold it any more", (long long)r.status);
}

static bool no_waitv;

/* As on a kernel before 5.16, or in a sandbox: a waiter sleeps on the lock's word alone. */
static void forbid_waitv(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex_waitv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    no_waitv = true;
}

static struct walk kill_at(long n)
{
    bool naive = lock_kind != SYNCX;
    uint64_t rescues = atomic_load(&header()->rescues);
    struct reply r;
    survivor_is_late = false;
    atomic_store(&control->canary, 0);
    memset(control->user_memory, 0, sizeof control->user_memory);
    if (scenario->corpse)
        make_corpse();
    if (scenario->first_holder) {
        r = ask(H, LOCK);
        if (r.status != SX_OK)
            fail("status", "first holder", (long long)r.status);
    }
    pid_t pid = spawn_victim();
    if (scenario->relay) {                            /* V sleeps on H's hold, S behind it; H releases, V takes */
        while (atomic_load(&control->victim_id) == 0) /* until then it may sleep for the arena's own lock */
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        CHECK(wait_asleep(pid));
        tell(S, PASS);
        wait_for_survivor();
        ask(H, UNLOCK);
    }
    first_stop(pid);
    if (scenario->waiter) {
        tell(S, PASS);
        wait_for_survivor();
    }
    struct walk w = walk(pid, n);
    if (atomic_load(&control->victim_status) == -1)
        fail("canary", "the victim met somebody in the critical section", atomic_load(&control->canary));
    bool s_waits = w.s_waits || scenario->waiter || scenario->relay;
    if (s_waits && poll(&(struct pollfd){.fd = agents[S].fd, .events = POLLIN}, 1, 0) == 1) {
        /* S has overtaken the victim, which is stopped for long: it comes again */
        CHECK(receive(S, &r));
        judge(&r, scenario->corpse, sx_now());
        s_waits = w.s_waits = false;
    }
    uint64_t last = word(), id = atomic_load(&control->victim_id), h = atomic_load(&control->agent_id[H]);
    bool held = id != 0 && (last & SX_ID_MASK) == id;
    kill_victim(pid);
    int64_t since = sx_now();
    bool dead_owner = !sx_is_free(last) && !(scenario->first_holder && (last & SX_ID_MASK) == h);
    /* S may have taken the word already; then what it found is what the word said before */
    bool s_has_it = s_waits && (last & SX_ID_MASK) == atomic_load(&control->agent_id[S]);
    bool expect_death = (dead_owner && !s_has_it) || last & MUTEX_OWNER_DIED;

    if (sx_belt_off && no_waitv && held) {
        /* this death is for the belt, and there is none: S is given up, another one cleans up */
        restart_survivor();
        judge((struct reply[]){ask(S, PASS)}, true, since);
        return w;
    }
    if (!s_waits && !scenario->names) {
        tell(S, PASS);
        if (scenario->first_holder && !w.h_released)
            wait_for_survivor();
        s_waits = true;
    }
    if (scenario->first_holder && !scenario->relay && !w.h_released) {
        release_by_holder();
        since = sx_now();
    }
    if (s_waits) {
        if (!receive(S, &r)) {
            fail("hang", "the survivor did not get the lock", (long long)last);
            restart_survivor();
            return w;
        }
        judge(&r, expect_death, since);
    }
    if (scenario->names) {
        bool told = expect_death;
        tell(S, PASS);
        if (!receive(S, &r)) {
            fail("hang", "the survivor did not get the lock", (long long)last);
            restart_survivor();
            return w;
        }
        judge(&r, told, since);
        since = sx_now();
        tell(S, scenario->place ? PLACE : NAMES);
        if (!receive(S, &r)) {
            fail("hang", "the survivor could not use what the victim made", 0);
            restart_survivor();
            return w;
        }
        if (r.status != SX_OK)
            fail(scenario->place ? "place" : "names", r.where, (long long)r.status);
        if (r.at - since > BOUND_NS)
            survivor_is_late = true;
    }
    bool explained = held || w.slept || scenario->relay || scenario->corpse;
    uint64_t counted = atomic_load(&header()->rescues) - rescues;
    if (!naive && counted != 0 && !explained && !scenario->names)
        fail("rescue", "the belt delivered a wake-up that no death had swallowed", (long long)counted);
    return w;
}

/* The victim makes an arena in an empty directory, or unlinks the one there is: afterwards there is a whole one or
 * none. */
static struct walk kill_creator_at(long n)
{
    pid_t pid = spawn_victim();
    first_stop(pid);
    struct walk w = walk(pid, n);
    kill_victim(pid);
    int status, files = 0;
    pid_t checker = fork();
    CHECK(checker >= 0);
    if (checker == 0) {
        share_one_cpu(false);
        alarm(HANG_MS / 1000);
        enum sx_status s = sx_arena_open(path, true, false, 0600, &arena);
        if (s != SX_OK)
            _exit(1);
        int64_t start = sx_now();
        struct sx_object object;
        s = sx_object_open(arena, "m", 1, REQUEST(SX_KIND_MUTEX, SX_CREATE), &object);
        if (s != SX_OK || sx_mutex_lock(arena, (struct sx_mutex *)object.cell, SX_NEVER) != SX_OK)
            _exit(2);
        if (sx_mutex_unlock(arena, (struct sx_mutex *)object.cell, false) != SX_OK)
            _exit(3);
        if (sx_now() - start > BOUND_NS)
            _exit(4);
        _exit(sx_arena_unlink(arena, false) == SX_OK ? 0 : 5);
    }
    CHECK(waitpid(checker, &status, 0) == checker);
    if (status != 0)
        fail("create", "the next to come could not use the arena", status >> 8 ? status >> 8 : -status);
    DIR *d = opendir(directory);
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            files++;
    closedir(d);
    if (files != 0)
        fail("create", "files left behind", files);
    unlink(path);
    return w;
}

/* ---- special: a waiter that leaves by timeout after it consumed a wake ------------------------------------- */
/* H holds; V sleeps with a deadline, S sleeps behind it.  H releases, which wakes V; V is stopped at its first
 * instruction after that.  H takes the lock again.  V's deadline passes, V goes on and leaves.  H releases: S must
 * have the lock, without a belt. */
static void operate_deadline(void)
{
    int64_t deadline = sx_now() + 1500000000; /* it is stepped until it sleeps, which takes its time */
    atomic_store(&control->deadline, deadline);
    enter(deadline);
}
static const struct scenario depart = {"depart", before_attached, operate_deadline, .first_holder = true,
                                       .may_sleep = true};

static void run_depart(void)
{
    struct reply r;
    int status;
    ask(H, LOCK);
    pid_t pid = spawn_victim();
    first_stop(pid);
    for (enum next next = PLAIN; next != FUTEX_WAITS;) {
        next = look(pid);
        step_begins(pid);
        if (next != FUTEX_WAITS)
            CHECK(step_ends(pid));
    }
    CHECK(wait_asleep(pid));
    tell(S, PASS);
    wait_for_survivor();
    ask(H, UNLOCK);
    CHECK(step_ends(pid));                                   /* V was woken */
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* its reservation lapses, or H would sleep for it too */
    ask(H, LOCK);
    while (sx_now() <= atomic_load(&control->deadline))
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    if (atomic_load(&control->victim_status) != SX_TIMEOUT)
        fail("status", "the wait did not time out", atomic_load(&control->victim_status));
    ask(H, UNLOCK);
    if (!receive(S, &r))
        fail("hang", "the wake-up left with the waiter that timed out", (long long)word());
    kill_victim(pid);
}

/* ---- one kill in another program --------------------------------------------------------------------------- */
/* singlestep --exec N COMMAND...: steps N instructions beyond the command's own SIGSTOP and kills it.  Prints "end"
 * if it stopped a second time before that, "killed" otherwise. */
static int step_program(long n, char **command)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        execvp(command[0], command);
        _exit(71);
    }
    int status, deliver = 0;
    for (bool execed = false;;) {
        CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
        if (!execed) {
            CHECK(WSTOPSIG(status) == SIGTRAP);
            CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL) == 0);
            execed = true;
        } else if (WSTOPSIG(status) == SIGSTOP) {
            break;
        } else {
            deliver = WSTOPSIG(status);
        }
        CHECK(ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)deliver) == 0);
        deliver = 0;
    }
    long steps = 0;
    bool ended = false;
    while (steps < n && !ended) {
        step_begins(pid);
        steps++;
        ended = !step_ends(pid);
    }
    kill_victim(pid);
    printf("%s %ld\n", ended ? "end" : "killed", steps);
    return 0;
}

/* ---- main ------------------------------------------------------------------------------------------------- */
static void set_up(void)
{
    int fd, status;
    pid_t pid = fork(); /* the driver itself stays out of the arena, or its victims would be forks of a participant */
    CHECK(pid >= 0);
    if (pid == 0) {
        open_arena();
        open_mutex();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    struct stat st;
    CHECK((fd = open(path, O_RDWR | O_CLOEXEC)) >= 0 && fstat(fd, &st) == 0);
    map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    close(fd);
    start_agent(H);
    start_agent(S);
}

int main(int argc, char **argv)
{
    long stride = 1, from = 0, stop_after = 5, points = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 4 && strcmp(argv[1], "--exec") == 0)
        return step_program(atol(argv[2]), argv + 3);
    CHECK(argc >= 3);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(argv[1], scenarios[i].name) == 0)
            scenario = &scenarios[i];
    if (strcmp(argv[1], "depart") == 0)
        scenario = &depart;
    CHECK(scenario != NULL);
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--belt-off") == 0)
            sx_belt_off = true;
        else if (strcmp(argv[i], "--no-waitv") == 0)
            forbid_waitv();
        else if (strcmp(argv[i], "--system-calls") == 0)
            by_system_call = true;
        else if (strcmp(argv[i], "--lock=futex") == 0)
            lock_kind = FUTEX;
        else if (strcmp(argv[i], "--lock=sem") == 0)
            lock_kind = SEM;
        else if (sscanf(argv[i], "--stride=%ld", &stride) != 1 && sscanf(argv[i], "--from=%ld", &from) != 1)
            CHECK(sscanf(argv[i], "--stop-after=%ld", &stop_after) == 1);
    }
    snprintf(directory, sizeof directory, "%s", argv[2]);
    snprintf(path, sizeof path, "%s/arena", directory);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(control != MAP_FAILED && sem_init(&control->sem, 1, 1) == 0);
    unlink(path);
    share_one_cpu(true);
    if (!scenario->fresh)
        set_up();
    if (scenario == &depart) {
        run_depart();
        printf("{\"scenario\": \"depart\", \"points\": 1, \"steps\": 0, \"failures\": %ld}\n", failures);
        unlink(path);
        return failures != 0;
    }

    struct walk (*kill_one)(long) = scenario->fresh ? kill_creator_at : kill_at;
    at_point = MAX_STEPS;
    long total = kill_one(MAX_STEPS).steps; /* the whole operation once */
    CHECK(total > 0);
    uint64_t cells = scenario->fresh ? 0 : atomic_load(&header()->cells.cursor);
    for (long n = from; failures < stop_after; n += stride) {
        at_point = n;
        struct walk w = kill_one(n);
        points++;
        if (survivor_is_late && failures == 0) { /* once more: the machine may have been busy, the lock never is */
            w = kill_one(n);
            if (survivor_is_late)
                fail("late", "the survivor waited for more than 250 ms", BOUND_NS);
        }
        if (w.ended)
            break;
    }
    if (!scenario->fresh) {
        uint64_t now = atomic_load(&header()->cells.cursor);
        if (now > cells + 64)
            fail("leak", "units of the cell heap", (long long)(now - cells));
        uint64_t slots = atomic_load(&header()->ready[SX_PARTICIPANTS]) / sizeof(struct sx_participant);
        if (slots > 64)
            fail("leak", "participant slots", (long long)slots);
        end_agent(H);
        end_agent(S);
    }
    unlink(path);
    printf("{\"scenario\": \"%s\", \"points\": %ld, \"steps\": %ld, \"failures\": %ld}\n", scenario->name, points,
           total, failures);
    return failures != 0;
}
