/* process.c: one slot for each attached process, and the second witness of its life.
 *
 * The witness is an open-file-description lock on one byte of the arena file, the byte of the process's slot,
 * taken through a close-on-exec descriptor.  The kernel arbitrates the claim and gives the byte back when the
 * last copy of that descriptor is closed: at the death of the process, or at its execve.  Unlike a POSIX record
 * lock it does not vanish when somebody in the process opens the file and closes it again.  A forked child
 * inherits the description, so it replaces its copy before it does anything else (after_fork_child); until then
 * the parent seems alive, which errs in the safe direction.  It is never the description that the file is mapped
 * through, which the inherited mapping would keep.
 *
 * Bytes above the file's end serve as locks: byte 0 of the range orders attaching (shared) against unlinking and
 * the reset after a reboot (exclusive); byte 1 + i belongs to process slot i.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "held.h"

#define LOCK_BASE (INT64_C(1) << 40)

bool sx_is_arena(struct sx_arena *arena, int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == arena->inode && st.st_dev == arena->device;
}

/* The descriptor of the arena's file, or -1.  Programs that become daemons close every descriptor, and the number may
 * be somebody else's file by now: it is looked at before each use (none of which is frequent), and opened again if it
 * is lost, with this process's byte. */
int sx_arena_fd(struct sx_arena *arena)
{
    int fd = atomic_load(&arena->fd);
    if (sx_is_arena(arena, fd))
        return fd;
    int fresh = open(arena->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (!sx_is_arena(arena, fresh)) {
        if (fresh >= 0)
            close(fresh);
        errno = ESTALE;
        return -1;
    }
    if (arena->process != SX_NOBODY) {
        struct flock l = {.l_type = F_WRLCK, .l_start = LOCK_BASE + 1 + arena->process, .l_len = 1};
        fcntl(fresh, F_OFD_SETLK, &l);
    }
    if (!atomic_compare_exchange_strong(&arena->fd, &fd, fresh)) { /* another thread was faster */
        close(fresh);
        fresh = fd;
    }
    return fresh;
}

/* F_OFD_SETLK(W) or F_OFD_GETLK on byte n of the lock range.  0: done; -1: somebody else has it, or errno. */
static int lock_byte(struct sx_arena *arena, int command, int type, int64_t n, struct flock *result)
{
    struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = LOCK_BASE + n, .l_len = 1};
    int fd = sx_arena_fd(arena);
    int r = fd < 0 ? -1 : fcntl(fd, command, &l);
    if (result != NULL)
        *result = l;
    return r;
}

/* The lock that orders attaching against unlinking: F_RDLCK, F_WRLCK or F_UNLCK. */
enum sx_status sx_file_lock(struct sx_arena *arena, int type, bool wait)
{
    for (;;) {
        if (lock_byte(arena, wait ? F_OFD_SETLKW : F_OFD_SETLK, type, 0, NULL) == 0)
            return SX_OK;
        if (errno == EINTR && wait)
            return SX_INTERRUPTED;
        if (errno == EAGAIN || errno == EACCES)
            return SX_BUSY;
        if (errno != EINTR)
            return SX_ERRNO;
    }
}

/* Start of a thread, or of a process when tid is 0, in clock ticks since boot; 0 when there is none. */
uint64_t sx_start_time(int pid, int tid)
{
    char path[64], text[1024];
    if (tid != 0)
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    else
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *p = strrchr(text, ')'); /* the name may hold anything, parentheses too */
    if (p == NULL)
        return 0;
    for (int field = 2; field < 22; field++) { /* field 22 is the start time */
        p = strchr(p + 1, ' ');
        if (p == NULL)
            return 0;
    }
    return strtoull(p + 1, NULL, 10);
}

uint64_t sx_pid_namespace(void)
{
    struct stat pid, time;
    if (stat("/proc/self/ns/pid", &pid) != 0)
        return 0;
    /* start times are told relative to the time namespace: compared only within one */
    return (uint64_t)pid.st_ino << 32 | (stat("/proc/self/ns/time", &time) == 0 ? (uint32_t)time.st_ino : 0);
}

bool sx_process_seen(uint64_t namespace)
{
    return namespace != 0 && namespace == sx_pid_namespace();
}

/* Does that process map the arena's file?  After an execve it does not, though pid and start time are the same. */
bool sx_maps_file(dev_t device, ino_t inode, int pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return errno == EACCES || errno == EPERM; /* not ours to see: assume life */
    bool found = false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        unsigned long number;
        unsigned int major, minor;
        if (sscanf(line, "%*s %*s %*s %x:%x %lu", &major, &minor, &number) == 3)
            found = number == inode && major == major(device) && minor == minor(device);
    }
    fclose(f);
    return found;
}

/* A process may have lost its descriptors and live: daemons close them all.  What the byte says is then checked
 * with the pid, where pids mean the same, its start time and its mappings. */
static bool lives_without_byte(struct sx_arena *arena, struct sx_process *p)
{
    uint32_t pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
    uint64_t start = atomic_load_explicit(&p->start_time, memory_order_relaxed);
    if (pid == 0 || pid > INT_MAX || !sx_process_seen(atomic_load_explicit(&p->pid_namespace, memory_order_relaxed)))
        return false;
    return sx_start_time((int)pid, 0) == start && start != 0 && sx_maps_file(arena->device, arena->inode, (int)pid);
}

/* A slot of the table; NULL for one that cannot be, or that has no memory yet. */
struct sx_process *sx_process_at(struct sx_arena *arena, uint32_t slot)
{
    return slot < SX_MAX_PROCESSES &&
                   (uint64_t)(slot + 1) * sizeof(struct sx_process) <=
                       atomic_load_explicit(&arena->header->ready[SX_PROCESSES], memory_order_acquire)
               ? &arena->processes[slot]
               : NULL;
}

/* The slot that an id names. */
struct sx_process *sx_process_of(struct sx_arena *arena, uint64_t process)
{
    return sx_process_at(arena, sx_slot_of(process));
}

/* The slot of a thread's process; NULL also if it has none: 0 less 1 cannot be. */
struct sx_process *sx_process_of_thread(struct sx_arena *arena, const struct sx_participant *p)
{
    return sx_process_at(arena, atomic_load_explicit(&p->process, memory_order_acquire) - 1);
}

bool sx_process_alive(struct sx_arena *arena, uint32_t slot, uint32_t generation)
{
    if (slot >= SX_MAX_PROCESSES)
        return false;
    if (slot == arena->process)
        return generation == arena->process_generation;
    struct sx_process *p = sx_process_at(arena, slot);
    if (p == NULL)
        return false;
    if (atomic_load_explicit(&p->generation, memory_order_acquire) != generation ||
        atomic_load_explicit(&p->pid, memory_order_relaxed) == 0)
        return false;
    struct flock l;
    if (lock_byte(arena, F_OFD_GETLK, F_WRLCK, 1 + slot, &l) != 0)
        return true; /* no witness to ask: assume life */
    bool alive = l.l_type != F_UNLCK || lives_without_byte(arena, p);
    return alive && atomic_load_explicit(&p->generation, memory_order_acquire) == generation;
}

/* ---- by words alone -----------------------------------------------------------------------------------
 *
 * What a process owns (permits) is free when it is dead.  The witness tells late: a dying process gives its memory back
 * before its files.  The kernel's marks on its threads tell at once: a thread that ends by itself gives its slot back
 * unmarked, so a marked one was killed, and a signal kills all threads of a process.  But not at one instant: while one
 * has its mark, another may still be in a system call, writing what the permit was for.  So it takes a mark on one of
 * them, and no other that lives.  `dead` keeps that knowledge when the slot of the last thread is used again.
 */
enum thread_state { OTHER, MARKED, LIVING };

/* The thread in that slot: killed, or alive, or neither, or of another process.  `life`: its life word. */
static enum thread_state thread_of(struct sx_participant *t, uint32_t slot, uint32_t generation, uint32_t *life)
{
    uint32_t use = atomic_load_explicit(&t->generation, memory_order_acquire);
    if (atomic_load_explicit(&t->process, memory_order_acquire) != slot + 1 ||
        atomic_load_explicit(&t->process_generation, memory_order_relaxed) != generation)
        return OTHER;
    uint32_t tid = atomic_load_explicit(&t->tid, memory_order_relaxed);
    /* The mark of the thread that the record tells of: not of one that had the slot before it, which the record would
     * follow, nor of one after it, which would have stepped the generation; or which was killed before it came to that,
     * but then the record has gone, and does not come back before the generation has stepped: in this order. */
    *life = atomic_load_explicit(sx_life_word(t), memory_order_acquire);
    if (atomic_load_explicit(&t->process, memory_order_acquire) != slot + 1 ||
        atomic_load_explicit(&t->generation, memory_order_acquire) != use)
        return OTHER;
    if (*life & FUTEX_OWNER_DIED)
        return MARKED;
    /* another thread's number: the slot is being claimed anew, and the record is still its predecessor's */
    return (*life & FUTEX_TID_MASK) != 0 && (*life & FUTEX_TID_MASK) == tid ? LIVING : OTHER;
}

/* The thread in that slot bears the kernel's mark, and the slot has not been used again.  If it was the last of its
 * process, that is dead; if not, those that live still will have marks of their own. */
void sx_process_note_death(struct sx_arena *arena, struct sx_participant *thread)
{
    uint32_t process = atomic_load_explicit(&thread->process, memory_order_acquire);
    uint32_t generation = atomic_load_explicit(&thread->process_generation, memory_order_relaxed);
    struct sx_process *p = sx_process_at(arena, process - 1);
    if (p == NULL || process - 1 == arena->process)
        return;
    uint32_t n = sx_participants_ready(arena), life;
    for (uint32_t i = 0; i < n; i++)
        if (&arena->participants[i] != thread &&
            thread_of(&arena->participants[i], process - 1, generation, &life) == LIVING)
            return;
    if (atomic_load_explicit(&p->generation, memory_order_acquire) == generation)
        atomic_store_explicit(&p->dead, generation, memory_order_release);
}

/* Is the process alive that this id names?  `thread` (0: unknown) is one of its threads, perhaps.  Where `watch` is
 * given it gets a word that changes when the process dies or leaves: the life word of one of its threads, or, if it
 * has none, its pid, of which the kernel knows nothing: then a kill is found by the belt. */
enum sx_life sx_process_life(struct sx_arena *arena, uint64_t process, uint64_t thread, struct sx_watch *watch)
{
    struct sx_process *p = sx_process_of(arena, process);
    if (p == NULL)
        return SX_IMPOSSIBLE;
    uint32_t slot = sx_slot_of(process), generation = (uint32_t)(process >> 32);
    if (watch != NULL)
        *watch = (struct sx_watch){&p->pid, atomic_load_explicit(&p->pid, memory_order_acquire)};
    if (slot == arena->process)
        return generation == arena->process_generation ? SX_ALIVE : SX_DEAD;
    if (atomic_load_explicit(&p->generation, memory_order_acquire) != generation ||
        atomic_load_explicit(&p->dead, memory_order_acquire) == generation ||
        atomic_load_explicit(&p->pid, memory_order_acquire) == 0)
        return SX_DEAD;
    uint32_t n = sx_participants_ready(arena), first = sx_slot_of(thread);
    bool marked = false;
    for (uint32_t i = 0; i <= n; i++) { /* the one we were told of first */
        uint32_t at = i == 0 ? first : i - 1, life;
        if (at >= n)
            continue;
        struct sx_participant *t = &arena->participants[at];
        enum thread_state state = thread_of(t, slot, generation, &life);
        if (state == LIVING) {
            if (watch != NULL)
                *watch = (struct sx_watch){sx_life_word(t), life};
            return SX_ALIVE;
        }
        marked |= state == MARKED;
    }
    if (!marked)
        return SX_ALIVE;
    atomic_store_explicit(&p->dead, generation, memory_order_release);
    return SX_DEAD;
}

/* The same, asking the second witness too. */
enum sx_life sx_process_examine(struct sx_arena *arena, uint64_t process, uint64_t thread)
{
    enum sx_life seen = sx_process_life(arena, process, thread, NULL);
    if (seen != SX_ALIVE || sx_process_alive(arena, sx_slot_of(process), (uint32_t)(process >> 32)))
        return seen;
    struct sx_process *p = sx_process_of(arena, process);
    if (atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(process >> 32))
        atomic_store_explicit(&p->dead, (uint32_t)(process >> 32), memory_order_release);
    return SX_DEAD;
}

/* Is anybody but us attached?  For unlinking; the caller holds the file lock exclusively, so nobody comes. */
bool sx_other_processes(struct sx_arena *arena)
{
    uint32_t n = (uint32_t)(atomic_load_explicit(&arena->header->ready[SX_PROCESSES], memory_order_acquire) /
                            sizeof(struct sx_process));
    for (uint32_t i = 0; i < n && i < SX_MAX_PROCESSES; i++)
        if (i != arena->process &&
            sx_process_alive(arena, i, atomic_load_explicit(&arena->processes[i].generation, memory_order_acquire)))
            return true;
    return false;
}

/* By anybody but the description that fd is of, which may be read-only. */
enum sx_life sx_byte_held(int fd, int64_t slot)
{
    struct flock l = {
        .l_type = F_WRLCK, .l_start = LOCK_BASE + 1 + (slot < 0 ? 0 : slot), .l_len = slot < 0 ? SX_MAX_PROCESSES : 1};
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &l) != 0)
        return SX_IMPOSSIBLE;
    return l.l_type == F_UNLCK ? SX_DEAD : SX_ALIVE;
}

bool sx_witnessed(struct sx_arena *arena)
{
    return sx_byte_held(sx_arena_fd(arena), -1) != SX_DEAD;
}

static uint32_t next_generation(uint32_t old)
{
    if (old == 0) { /* never used: start anywhere, so that ids of different arenas do not look alike */
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        old = (uint32_t)t.tv_nsec * 2654435761u ^ (uint32_t)getpid() * 40503u;
    }
    return old + 1 == 0 ? 1 : old + 1;
}

/* Claims a slot: the byte first, which the kernel gives to one process only, then the record.  Dying between the
 * two leaves the old record under a byte nobody holds, which is what any dead process leaves.  The caller holds
 * arena->local and, against unlinking, the file lock. */
enum sx_status sx_process_attach(struct sx_arena *arena)
{
    struct sx_header *h = arena->header;
    if (arena->process != SX_NOBODY)
        return SX_OK;
    uint64_t start = sx_start_time(getpid(), 0), namespace = sx_pid_namespace();
    uint32_t ready =
        (uint32_t)(atomic_load_explicit(&h->ready[SX_PROCESSES], memory_order_acquire) / sizeof(struct sx_process));
    uint32_t first = atomic_fetch_add_explicit(&h->next_process, 1, memory_order_relaxed);
    for (uint32_t i = 0;; i++) {
        if (i >= ready) { /* all taken: make room for a page more */
            if (ready >= SX_MAX_PROCESSES)
                return SX_FULL_PROCESSES;
            enum sx_status s = sx_ready(arena, SX_PROCESSES, (uint64_t)ready * sizeof(struct sx_process) + SX_PAGE);
            if (s != SX_OK)
                return s;
            first = ready;
            i = 0;
            ready += SX_PAGE / sizeof(struct sx_process);
        }
        uint32_t slot = (first + i) % ready;
        struct sx_process *p = &arena->processes[slot];
        if (lock_byte(arena, F_OFD_SETLK, F_WRLCK, 1 + slot, NULL) != 0) {
            if (errno == EAGAIN || errno == EACCES || errno == EINTR)
                continue;
            return SX_ERRNO;
        }
        if (lives_without_byte(arena, p)) {
            lock_byte(arena, F_OFD_SETLK, F_UNLCK, 1 + slot, NULL);
            continue;
        }
        if (atomic_load_explicit(&p->pid, memory_order_relaxed) != 0)
            atomic_store_explicit(&h->orphans, 1, memory_order_relaxed);
        uint32_t generation = next_generation(atomic_load_explicit(&p->generation, memory_order_relaxed));
        atomic_store_explicit(&p->pid, 0, memory_order_relaxed);
        atomic_store_explicit(&p->generation, generation, memory_order_release);
        atomic_store_explicit(&p->start_time, start, memory_order_relaxed);
        atomic_store_explicit(&p->pid_namespace, namespace, memory_order_relaxed);
        atomic_store_explicit(&p->attached_ns, (uint64_t)sx_realtime(), memory_order_relaxed);
        atomic_store_explicit(&p->pid, (uint32_t)getpid(), memory_order_release);
        arena->process_generation = generation;
        arena->process = slot;
        arena->self = (uint64_t)generation << 32 | (uint64_t)(slot + 1) << SX_SLOT_SHIFT;
        return SX_OK;
    }
}

/* Gives the slot back.  The references are gone already (sx_known_forget_all). */
void sx_process_detach(struct sx_arena *arena)
{
    if (arena->process == SX_NOBODY)
        return;
    uint32_t slot = arena->process;
    atomic_store_explicit(&arena->processes[slot].pid, 0, memory_order_seq_cst);
    sx_futex_wake(&arena->processes[slot].pid, INT_MAX); /* who waits for what we owned */
    arena->process = SX_NOBODY;
    arena->self = 0;
    lock_byte(arena, F_OFD_SETLK, F_UNLCK, 1 + slot, NULL);
}

/* Marks the slots of dead processes free.  What they knew is orphaned: the next rebuild collects it. */
void sx_process_reap(struct sx_arena *arena)
{
    uint32_t n = (uint32_t)(atomic_load_explicit(&arena->header->ready[SX_PROCESSES], memory_order_acquire) /
                            sizeof(struct sx_process));
    for (uint32_t i = 0; i < n && i < SX_MAX_PROCESSES; i++) {
        struct sx_process *p = &arena->processes[i];
        if (i == arena->process || atomic_load_explicit(&p->pid, memory_order_relaxed) == 0 ||
            lock_byte(arena, F_OFD_SETLK, F_WRLCK, 1 + i, NULL) != 0)
            continue;
        if (!lives_without_byte(arena, p)) {
            uint32_t generation = next_generation(atomic_load_explicit(&p->generation, memory_order_relaxed));
            atomic_store_explicit(&arena->header->orphans, 1, memory_order_relaxed);
            atomic_store_explicit(&p->generation, generation, memory_order_release);
            atomic_store_explicit(&p->pid, 0, memory_order_release);
        }
        lock_byte(arena, F_OFD_SETLK, F_UNLCK, 1 + i, NULL);
    }
}

/* After a reboot every process of before is dead, whatever the bytes and pids say. */
void sx_process_reset(struct sx_arena *arena)
{
    uint32_t n = (uint32_t)(atomic_load(&arena->header->ready[SX_PROCESSES]) / sizeof(struct sx_process));
    for (uint32_t i = 0; i < n && i < SX_MAX_PROCESSES; i++) {
        struct sx_process *p = &arena->processes[i];
        atomic_store(&p->generation, next_generation(atomic_load(&p->generation)));
        atomic_store(&p->pid, 0);
    }
    atomic_store(&arena->header->orphans, 1);
}

/* A description of our own in place of the one inherited: through /proc, since the path may be unlinked. */
int sx_reopen(struct sx_arena *arena)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", arena->fd);
    int fd = sx_is_arena(arena, arena->fd) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        fd = open(arena->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && !sx_is_arena(arena, fd)) {
        close(fd);
        errno = ESTALE;
        fd = -1;
    }
    if (fd >= 0 && fd < 3) { /* not where a program expects its standard streams */
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        close(fd);
        fd = higher;
    }
    return fd;
}

/* ---- fork -------------------------------------------------------------------------------------------
 *
 * The child owns nothing: no slot, no thread identity, no byte.  What it does inherit is knowledge: its copies of
 * handles must go on meaning the same objects.  So it adds references of its own, and until it has, the parent must
 * not drop any (it may well drop its handles at once, as multiprocessing does, or end).  The kernel keeps the account:
 * before the fork the parent takes a shared lock on its fork byte through a fresh description, and closes its copy
 * after the fork; the child's copy holds the lock until the child has registered, or has died.  Should the parent
 * itself end meanwhile, the child's copy of the parent's witness keeps the parent's slot, and the references with it.
 */
#define FORK_BYTE(slot) (1 + (int64_t)SX_MAX_PROCESSES + (slot))

/* Is there a child that has inherited our handles and has no references yet? */
bool sx_fork_pending(struct sx_arena *arena)
{
    struct flock l;
    if (arena->process == SX_NOBODY)
        return false;
    return arena->fork_unseen || lock_byte(arena, F_OFD_GETLK, F_WRLCK, FORK_BYTE(arena->process), &l) != 0 ||
           l.l_type != F_UNLCK;
}

static void before_fork(void)
{
    pthread_mutex_lock(&sx_arenas_lock);
    for (struct sx_arena *a = sx_arenas; a != NULL; a = a->next) {
        pthread_mutex_lock(&a->local);
        a->fork_fd = -1;
        if (a->known_used == 0 || a->process == SX_NOBODY)
            continue;
        struct flock l = {.l_type = F_RDLCK, .l_start = LOCK_BASE + FORK_BYTE(a->process), .l_len = 1};
        a->forks++;
        a->fork_fd = sx_reopen(a);
        if (a->fork_fd < 0 || fcntl(a->fork_fd, F_OFD_SETLK, &l) != 0)
            a->fork_unseen = true;
    }
}

static void after_fork_parent(void)
{
    for (struct sx_arena *a = sx_arenas; a != NULL; a = a->next) {
        if (a->fork_fd >= 0)
            close(a->fork_fd);
        pthread_mutex_unlock(&a->local);
    }
    pthread_mutex_unlock(&sx_arenas_lock);
}

static void after_fork_child(void)
{
    sx_forget_registrations();
    sx_held_forget();
    sx_hostless = true; /* the interpreter mends its own locks later */
    for (struct sx_arena *a = sx_arenas; a != NULL; a = a->next) {
        int inherited = sx_is_arena(a, a->fd) ? a->fd : -1;
        int fd = sx_reopen(a);
        a->process = SX_NOBODY;
        a->self = 0;
        a->registered = 0;
        a->fork_unseen = false;
        if (fd >= 0)
            a->fd = fd;
        else
            atomic_store(&a->open, false);
        pthread_mutex_unlock(&a->local);
        if (fd >= 0)
            sx_known_again(a); /* on failure the objects are refused later, with a reason */
        if (a->fork_fd >= 0)
            close(a->fork_fd);
        if (inherited >= 0 && fd >= 0)
            close(inherited);
    }
    sx_hostless = false;
    pthread_mutex_unlock(&sx_arenas_lock);
}

static void install(void)
{
    /* first, so that its locks are taken last: a thread that leaves has ours when it gives its ranges back */
    sx_install_file_fork_handlers();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void sx_install_fork_handlers(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
}
