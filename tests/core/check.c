/* check.c: runs the tests, one process group each, and prints a line for each. */
#include <sys/ptrace.h>

#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define SKIPPED 77
#define LATE 75
#define TIMES 5 /* that a test which comes late is run */

static struct test *first, **last = &first;
static const struct test *current;
const char *test_directory;
bool slow_machine;
static uint64_t random_state;
static sigset_t awaited; /* by the runner: the end of a child, and being told to stop */
static bool stopped;

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

/* ---- checking ------------------------------------------------------------------------------------------ */
_Noreturn void fail(const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "      %s:%d: %s\n", file, line, text);
    _exit(1);
}

_Noreturn void skip(const char *why)
{
    dprintf(STDERR_FILENO, "      %s\n", why);
    _exit(SKIPPED);
}

_Noreturn void late(const char *file, int line, int64_t took, int64_t bound)
{
    dprintf(STDERR_FILENO, "      %s:%d: after %lld ms, not %lld\n", file, line, (long long)(took / MS),
            (long long)(bound / MS));
    _exit(LATE);
}

const char *status_name(enum sx_status status)
{
    static const char *const names[] = {
        "SX_OK",
        "SX_OWNER_DIED",
        "SX_BUSY",
        "SX_TIMEOUT",
        "SX_INTERRUPTED",
        "SX_DEADLOCK",
        "SX_NOT_OWNER",
        "SX_RETIRED",
        "SX_CLOSED",
        "SX_GONE",
        "SX_NOT_FOUND",
        "SX_EXISTS",
        "SX_WRONG_KIND",
        "SX_IN_USE",
        "SX_FULL_PARTICIPANTS",
        "SX_FULL_PROCESSES",
        "SX_FULL_NAMES",
        "SX_FULL_CELLS",
        "SX_FULL_REFERENCES",
        "SX_NOT_AN_ARENA",
        "SX_OTHER_VERSION",
        "SX_DAMAGED",
        "SX_OTHER_ARENA",
        "SX_NEVER_INITIALISED",
        "SX_ERRNO",
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "no status at all";
}

void check_status(const char *file, int line, const char *what, enum sx_status got, enum sx_status want)
{
    if (got != want)
        fail(file, line, "%s gave %s%s%s, not %s", what, status_name(got), got == SX_ERRNO ? ": " : "",
             got == SX_ERRNO ? strerror(errno) : "", status_name(want));
}

int rounds(int native)
{
    return slow_machine ? native / 10 + 1 : native;
}

uint64_t random64(void)
{
    uint64_t x = random_state; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return random_state = x;
}

/* ---- processes and threads ------------------------------------------------------------------------------- */
void *shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

_Noreturn void finish(int code)
{
    sx_arena_leave_all();
    _exit(code);
}

pid_t spawn(void (*body)(void *), void *argument)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        random_state ^= (uint64_t)getpid() << 32;
        body(argument);
        finish(0);
    }
    return pid;
}

int ended(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        CHECK(errno == EINTR);
    return status;
}

void ended_well(pid_t pid)
{
    int status = ended(pid);
    if (status != 0)
        FAIL("a process ended with %s %d", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

void killed(pid_t pid)
{
    kill(pid, SIGKILL);
    ended(pid);
}

bool all_end(const pid_t *pids, int n, int64_t ns)
{
    int64_t limit = in(ns);
    for (int i = 0; i < n; i++) {
        int status;
        pid_t r;
        while ((r = waitpid(pids[i], &status, WNOHANG)) == 0 && sx_now() < limit)
            usleep(1000);
        if (r == 0) {
            for (int j = i; j < n; j++)
                kill(pids[j], SIGKILL);
            for (int j = i; j < n; j++)
                ended(pids[j]);
            return false;
        }
        CHECK(r == pids[i]);
        if (status != 0)
            FAIL("process %d of %d ended with wait status %#x", i, n, (unsigned)status);
    }
    return true;
}

pthread_t thread(void *(*body)(void *), void *argument)
{
    pthread_t t;
    CHECK(pthread_create(&t, NULL, body, argument) == 0);
    return t;
}

void joined(pthread_t t)
{
    CHECK(pthread_join(t, NULL) == 0);
}

void gate_open(sx_a32 *gate)
{
    atomic_store(gate, 1);
    sx_futex_wake(gate, INT_MAX);
}

void gate_pass(sx_a32 *gate)
{
    int64_t limit = in(20 * SECOND);
    while (atomic_load(gate) == 0) {
        sx_futex_wait(gate, 0, NULL, 0, limit);
        if (sx_now() > limit)
            FAIL("a gate stayed shut");
    }
}

/* ---- arenas and cells -------------------------------------------------------------------------------------- */
const char *path_of(const char *name)
{
    static _Thread_local char path[512];
    snprintf(path, sizeof path, "%s/%s", test_directory, name);
    return path;
}

struct sx_arena *arena_new(void)
{
    struct sx_arena *arena;
    STATUS(sx_arena_open(path_of("arena"), true, false, 0600, &arena), SX_OK);
    return arena;
}

/* As the core's functions of that name, without a parameter: the shape of most calls. */
enum sx_status open_named(struct sx_arena *arena, const char *name, uint32_t length, enum sx_kind kind,
                          enum sx_create create, struct sx_object *object, enum sx_kind *found)
{
    struct sx_request request = {.kind = kind, .parameter = SX_ANY, .create = create};
    enum sx_status s = sx_object_open(arena, name, length, &request, object);
    *found = request.found;
    return s;
}

enum sx_status open_nameless(struct sx_arena *arena, enum sx_kind kind, struct sx_object *object)
{
    struct sx_request request = {.kind = kind, .parameter = SX_ANY, .create = SX_CREATE};
    return sx_object_anonymous(arena, &request, object);
}

enum sx_status open_at(struct sx_arena *arena, void *memory, enum sx_kind kind, enum sx_create create,
                       struct sx_object *object, enum sx_kind *found)
{
    struct sx_request request = {.kind = kind, .parameter = SX_ANY, .create = create};
    enum sx_status s = sx_object_at(arena, memory, sx_kind_size(kind, 1), &request, object);
    *found = request.found;
    return s;
}

struct sx_mutex *named(struct sx_arena *arena, const char *name, struct sx_object *object)
{
    struct sx_object unused;
    enum sx_kind found;
    if (object == NULL)
        object = &unused;
    STATUS(open_named(arena, name, (uint32_t)strlen(name), SX_KIND_MUTEX, SX_CREATE, object, &found), SX_OK);
    return (struct sx_mutex *)object->cell;
}

struct sx_mutex *anonymous(struct sx_arena *arena)
{
    struct sx_object object;
    STATUS(open_nameless(arena, SX_KIND_MUTEX, &object), SX_OK);
    return (struct sx_mutex *)object.cell;
}

struct sx_mutex *in_user_memory(struct sx_arena *arena)
{
    struct sx_object object;
    enum sx_kind found;
    void *memory = shared(sizeof(struct sx_mutex));
    STATUS(open_at(arena, memory, SX_KIND_MUTEX, SX_CREATE, &object, &found), SX_OK);
    return memory;
}

uint64_t my_id(struct sx_arena *arena)
{
    uint64_t id;
    STATUS(sx_identity(arena, &id), SX_OK);
    return id;
}

static char thread_state(uint32_t tid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%u/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    char *end = strrchr(text, ')');
    return end != NULL && end[1] != 0 ? end[2] : '?';
}

int sleepers(struct sx_arena *arena, const void *object)
{
    uint64_t at = (uint64_t)((const char *)object - arena->base);
    int n = 0;
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++) {
        struct sx_participant *p = &arena->participants[i];
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            uint64_t cell = atomic_load(&p->wait[j].cell);
            if (sx_wait_state(atomic_load(&p->wait[j].state)) == SX_WAITING && (cell == at || cell == 0) &&
                thread_state(atomic_load(&p->tid)) == 'S')
                n++;
        }
    }
    return n;
}

bool usable(struct sx_arena *arena, struct sx_mutex *m)
{
    enum sx_status s = sx_mutex_lock(arena, m, in(5 * SECOND));
    if (s != SX_OK && s != SX_OWNER_DIED)
        return false;
    return sx_mutex_unlock(arena, m, false) == SX_OK;
}

/* ---- running ------------------------------------------------------------------------------------------------ */
static void remove_directory(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_type != DT_DIR)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static int run(const struct test *t)
{
    char directory[256];
    snprintf(directory, sizeof directory, "/dev/shm/syncx-core-tests-%d", (int)getpid());
    CHECK(mkdir(directory, 0700) == 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0);
        current = t;
        test_directory = directory;
        random_state = UINT64_C(88172645463325252) ^ ((uint64_t)sx_name_hash(t->name, (uint32_t)strlen(t->name)) << 8);
        t->run();
        exit(0); /* with the exit handlers: the arenas are left in good order, and leaks are looked for */
    }
    setpgid(pid, pid);

    int64_t limit = in((int64_t)t->seconds * SECOND);
    int status = 0, result = -1;
    while (result < 0) {
        pid_t r = waitpid(pid, &status, WNOHANG);
        int64_t left = limit - sx_now();
        if (r == pid) {
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            if (WIFSIGNALED(status))
                dprintf(STDERR_FILENO, "      ended by signal %d\n", WTERMSIG(status));
        } else if (left <= 0) {
            dprintf(STDERR_FILENO, "      late: still running after %d s\n", t->seconds);
            result = 1;
        } else {
            struct timespec wait = sx_timespec(left);
            int signal = sigtimedwait(&awaited, NULL, &wait);
            stopped = signal == SIGTERM || signal == SIGINT;
            if (stopped)
                result = 1;
        }
    }
    kill(-pid, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) /* orphans too: we are their reaper */
        ;
    remove_directory(directory);
    return result;
}

static bool chosen(const struct test *t, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(t->name, argv[i]) != NULL)
            return true;
    return argc <= 1;
}

int main(int argc, char **argv)
{
    int without = 0, passed = 0, failed = 0, skipped = 0;
    if (argc == 2 && strcmp(argv[1], "--pause") == 0) /* what a test executes in place of itself */
        return sleep(30) != 0;
#if defined(__SANITIZE_THREAD__)
    without = FORKS | NATIVE;
#elif defined(__SANITIZE_ADDRESS__)
    without = NATIVE;
#endif
    if (getenv("CORE_TESTS_VALGRIND") != NULL)
        without = NATIVE | HEAVY;
    slow_machine = without != 0;
    if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) < 0 && errno != EINVAL) {
        printf("no futex_waitv here: without the tests that need it\n");
        without |= WAITV;
    }

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    for (struct test *t = first; t != NULL && !stopped; t = t->next) {
        if (t->flags & without || !chosen(t, argc, argv))
            continue;
        int64_t start = sx_now();
        int result = run(t);
        for (int times = 1; result == LATE && times < TIMES && !stopped; times++)
            result = run(t);
        const char *word = result == 0 ? "ok" : result == SKIPPED ? "skip" : "FAIL";
        *(result == 0 ? &passed : result == SKIPPED ? &skipped : &failed) += 1;
        printf("%-4s  %s (%.2f s)\n", word, t->name, (double)(sx_now() - start) / 1e9);
        fflush(stdout);
    }
    if (skipped != 0)
        printf("%d skipped\n", skipped);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

/* ---- stepping ------------------------------------------------------------------------------------------------ */
void to_be_stepped(void)
{
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
        skip("ptrace is not allowed here");
    raise(SIGSTOP);
}

void stepped_through(void)
{
    raise(SIGSTOP);
    for (;;)
        pause();
}

bool walked(pid_t pid, long n)
{
    int status;
    bool ended_first = false;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status))
        skip("ptrace is not allowed here");
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    for (long taken = 0; taken < n && !ended_first; taken++) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        CHECK(waitpid(pid, &status, 0) == pid);
        if (!WIFSTOPPED(status))
            FAIL("the victim ended by itself, %#x", (unsigned)status);
        ended_first = WSTOPSIG(status) == SIGSTOP;
    }
    return !ended_first;
}

void walked_to_the_end(pid_t pid)
{
    int status;
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

bool stepped(pid_t pid, long n)
{
    bool more = walked(pid, n);
    killed(pid);
    return more;
}
