/* participant.c: one slot for each attached thread, and whether the thread a word names is alive.
 *
 * The life lock is a robust, process-shared pthread mutex that the thread takes at registration and keeps.  The
 * kernel walks the thread's robust list when it ends, for whatever reason, writes FUTEX_OWNER_DIED into the life
 * word and wakes one sleeper (FUTEX_WAITERS is set from the start, or it would wake nobody).
 *
 *   life word                     meaning                       who changes it
 *   0                             free, or left in good order   trylock of a claimer
 *   tid | FUTEX_WAITERS           alive                         the owner (unlock), the kernel (death)
 *   ... | FUTEX_OWNER_DIED        dead, not yet reused          trylock of a claimer (EOWNERDEAD)
 *
 * A claim is pthread_mutex_trylock: one winner, and should the winner die at any instruction after it, the word says
 * so again.  The generation steps right after the claim; an id with another generation is dead.  So a holder id is
 * alive exactly while (generation equal) and (life word has an owner) and (no FUTEX_OWNER_DIED), and once dead it
 * never lives again.  Between claim and step the old id seems alive for a moment; whoever fell asleep on it then is
 * woken by the claimer after the step, and one who looked before the step and sleeps after that wake is the belt's.
 *
 * The mark can be missing (execve from a thread that is not the main one, a robust list the kernel could not
 * walk).  sx_holder_examine asks the second witness, process.c, and the thread's tid; the belt calls it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

_Thread_local struct sx_self sx_self __attribute__((tls_model("initial-exec")));

/* The thread's slots, one for each arena it has used. */
struct registration {
    struct registration *next;
    struct sx_arena *arena;
    uint64_t id;
};
static _Thread_local struct registration *registrations __attribute__((tls_model("initial-exec")));
static pthread_key_t at_thread_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t life_image; /* what a fresh life lock looks like */

static void leave_all(void *unused);

static void prepare(void)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&life_image, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_key_create(&at_thread_exit, leave_all);
}

uint32_t sx_life_kind(void)
{
    pthread_once(&once, prepare);
    return (uint32_t)life_image.__data.__kind;
}

sx_a32 *sx_life_word(struct sx_participant *p)
{
    return (sx_a32 *)&p->life.mutex.__data.__lock;
}

static sx_a32 *life_kind(struct sx_participant *p)
{
    return (sx_a32 *)&p->life.mutex.__data.__kind;
}

uint32_t sx_participants_ready(struct sx_arena *arena)
{
    uint64_t n = atomic_load_explicit(&arena->header->ready[SX_PARTICIPANTS], memory_order_acquire) /
                 sizeof(struct sx_participant);
    return n < SX_MAX_PARTICIPANTS ? (uint32_t)n : SX_MAX_PARTICIPANTS;
}

/* The slot a word names; NULL for a slot that cannot be. */
struct sx_participant *sx_participant(struct sx_arena *arena, uint64_t holder)
{
    uint32_t slot = sx_slot_of(holder);
    return slot < sx_participants_ready(arena) ? &arena->participants[slot] : NULL;
}

static bool owned(uint32_t life)
{
    return (life & FUTEX_TID_MASK) != 0 && (life & FUTEX_OWNER_DIED) == 0;
}

/* By the words alone.  *life_value is what to expect when going to sleep on the life word. */
enum sx_life sx_holder_life(struct sx_arena *arena, uint64_t holder, uint32_t *life_value)
{
    struct sx_participant *p = sx_participant(arena, holder);
    if (p == NULL)
        return SX_IMPOSSIBLE;
    /* acquire: whoever sees the mark or the new generation also sees what the dead thread wrote before */
    uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_acquire);
    uint32_t generation = atomic_load_explicit(&p->generation, memory_order_acquire);
    *life_value = life;
    return generation == (uint32_t)(holder >> 32) && owned(life) ? SX_ALIVE : SX_DEAD;
}

/* Writes the mark that the kernel did not, and wakes whoever sleeps on it. */
static void mark_dead(struct sx_participant *p, uint32_t life)
{
    uint32_t dead = (life & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (atomic_compare_exchange_strong(sx_life_word(p), &life, dead))
        sx_futex_wake(sx_life_word(p), INT_MAX);
}

static bool thread_gone(struct sx_arena *arena, struct sx_participant *p, uint32_t life)
{
    uint32_t process = atomic_load_explicit(&p->process, memory_order_acquire);
    /* claimed anew, and the record is still the predecessor's: its death says nothing of the owner of the life lock */
    if ((life & FUTEX_TID_MASK) != atomic_load_explicit(&p->tid, memory_order_acquire))
        return false;
    if (process == 0)
        return false; /* registering */
    process--;
    if (!sx_process_alive(arena, process, atomic_load_explicit(&p->process_generation, memory_order_relaxed)))
        return true;
    struct sx_process *owner = &arena->processes[process];
    if (!sx_process_seen(atomic_load_explicit(&owner->pid_namespace, memory_order_relaxed)))
        return false;
    int pid = (int)atomic_load_explicit(&owner->pid, memory_order_relaxed);
    int tid = (int)atomic_load_explicit(&p->tid, memory_order_relaxed);
    uint64_t start = atomic_load_explicit(&p->start_time, memory_order_relaxed);
    if (pid <= 0 || tid <= 0 || start == 0)
        return false;
    if (syscall(SYS_tgkill, pid, tid, 0) != 0)
        return errno == ESRCH;
    uint64_t now = sx_start_time(pid, tid);
    return now != 0 && now != start;
}

enum sx_life sx_holder_examine(struct sx_arena *arena, uint64_t holder)
{
    uint32_t life;
    enum sx_life seen = sx_holder_life(arena, holder, &life);
    if (seen != SX_ALIVE)
        return seen;
    struct sx_participant *p = sx_participant(arena, holder);
    uint32_t process = atomic_load_explicit(&p->process, memory_order_acquire);
    if (!thread_gone(arena, p, life))
        return SX_ALIVE;
    /* the slot may have changed hands while we asked: the verdict counts only for the id and the life we saw */
    if (atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(holder >> 32) &&
        atomic_load_explicit(&p->process, memory_order_acquire) == process)
        mark_dead(p, life);
    return sx_holder_life(arena, holder, &life);
}

/* Asking the second witness takes system calls.  A thread that only ever tries does so once in a belt's time: when
 * this is true; `now` starts the next period. */
bool sx_examination_due(bool now)
{
    static _Thread_local int64_t last __attribute__((tls_model("initial-exec")));
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    int64_t time = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (time - last < SX_BELT_NS)
        return false;
    if (now)
        last = time;
    return true;
}

/* Takes the life lock if the slot is free or its thread dead.  What lies in the mutex decides what glibc does, so
 * it is looked at before every call: zero memory is made a mutex (the kind is the only field of a fresh one that
 * is not zero, and writing it twice does no harm); any other kind is damage and the slot is passed over. */
static bool claim(struct sx_arena *arena, struct sx_participant *p)
{
    uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_relaxed);
    if (owned(life))
        return false;
    uint32_t kind = 0, expected = (uint32_t)life_image.__data.__kind;
    if (!atomic_compare_exchange_strong(life_kind(p), &kind, expected) && kind != expected)
        return false;
    int r = pthread_mutex_trylock(&p->life.mutex);
    if (r != 0 && r != EOWNERDEAD)
        return false;
    if (r == EOWNERDEAD) { /* whoever dies here leaves all of this to the next */
        sx_process_note_death(arena, p);
        sx_condition_inherit(arena, p, true);
    }
    /* soon: from here to the new generation nobody may judge us by the old record */
    atomic_store_explicit(&p->process, 0, memory_order_seq_cst);
    return r == 0 || pthread_mutex_consistent(&p->life.mutex) == 0;
}

static enum sx_status find_slot(struct sx_arena *arena, uint32_t *slot)
{
    struct sx_header *h = arena->header;
    for (bool examined = false;;) {
        /* a rotating start: slots are reused oldest first, so generations last */
        uint32_t ready = sx_participants_ready(arena);
        uint32_t first = ready == 0 ? 0 : atomic_fetch_add_explicit(&h->next_participant, 1, memory_order_relaxed);
        for (uint32_t i = 0; i < ready; i++) {
            *slot = (first + i) % ready;
            if (claim(arena, &arena->participants[*slot]))
                return SX_OK;
        }
        if (ready < SX_MAX_PARTICIPANTS) {
            uint64_t bytes = (uint64_t)ready * sizeof(struct sx_participant) + SX_PARTICIPANTS_STEP;
            enum sx_status s = sx_ready(arena, SX_PARTICIPANTS, bytes);
            if (s != SX_OK)
                return s;
            continue;
        }
        if (examined)
            return SX_FULL_PARTICIPANTS;
        for (uint32_t i = 0; i < ready; i++) { /* full: is one of them dead without the mark? */
            sx_holder_examine(arena, sx_slot_id(arena, i));
        }
        examined = true;
    }
}

/* What a predecessor left: it waits for nothing and holds no read lock any more. */
static void clear_records(struct sx_participant *p)
{
    for (uint32_t i = 0; i < SX_WAITS; i++)
        atomic_store_explicit(&p->wait[i].state, SX_RUNNING, memory_order_relaxed);
    for (uint32_t i = 0; i < SX_MARKS; i++)
        atomic_store_explicit(&p->marks[i], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < SX_TRACES; i++)
        atomic_store_explicit(&p->trace[i].key, 0, memory_order_relaxed);
    atomic_store_explicit(&p->marked, 0, memory_order_relaxed);
    atomic_store_explicit(&p->filed, 0, memory_order_relaxed);
    atomic_store_explicit(&p->nudged, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < SX_FILE_HOLDS; i++)
        atomic_fetch_and_explicit(&p->files[i].state, ~(FILE_STEP - 1), memory_order_relaxed);
}

static enum sx_status register_thread(struct sx_arena *arena, uint64_t *id)
{
    uint32_t slot;
    pid_t tid = (pid_t)syscall(SYS_gettid);
    struct registration *r = malloc(sizeof *r);
    if (r == NULL) {
        errno = ENOMEM;
        return SX_ERRNO;
    }
    pthread_mutex_lock(&arena->local);
    enum sx_status s = SX_OK;
    if (arena->process == SX_NOBODY) { /* a forked child's first use: not while somebody unlinks */
        do
            s = sx_file_lock(arena, F_RDLCK, true);
        while (s == SX_INTERRUPTED);
        if (s == SX_OK) {
            s = sx_process_attach(arena);
            sx_file_lock(arena, F_UNLCK, false);
        }
    }
    if (s == SX_OK)
        arena->registered++;
    pthread_mutex_unlock(&arena->local);
    if (s == SX_OK && (s = find_slot(arena, &slot)) != SX_OK) {
        pthread_mutex_lock(&arena->local);
        arena->registered--;
        pthread_mutex_unlock(&arena->local);
    }
    if (s != SX_OK) {
        free(r);
        return s;
    }
    struct sx_participant *p = &arena->participants[slot];
    uint32_t old = atomic_load_explicit(&p->generation, memory_order_relaxed);
    if (old == 0)
        old = (uint32_t)sx_now() * 2654435761u ^ (uint32_t)tid * 40503u ^ slot;
    uint32_t generation = old + 1 == 0 ? 1 : old + 1;
    atomic_store_explicit(&p->process, 0, memory_order_relaxed);
    clear_records(p);
    atomic_store_explicit(&p->generation, generation, memory_order_seq_cst);
    atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst);
    sx_futex_wake(sx_life_word(p), INT_MAX);
    atomic_store_explicit(&p->tid, (uint32_t)tid, memory_order_relaxed);
    atomic_store_explicit(&p->pid, (uint32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&p->start_time, sx_start_time(getpid(), tid), memory_order_relaxed);
    atomic_store_explicit(&p->process_generation, arena->process_generation, memory_order_relaxed);
    char name[SX_NAME_WORDS * 8] = {0};
    if (!sx_hostless)
        sx_host.name(name, sizeof name);
    sx_text_store(p->name, name, SX_NAME_WORDS);
    atomic_store_explicit(&p->process, arena->process + 1, memory_order_release);

    *r = (struct registration){.next = registrations, .arena = arena};
    r->id = (uint64_t)generation << 32 | (uint64_t)(slot + 1) << SX_SLOT_SHIFT;
    registrations = r;
    pthread_setspecific(at_thread_exit, r);
    *id = r->id;
    return SX_OK;
}

enum sx_status sx_identity_slow(struct sx_arena *arena, uint64_t *id)
{
    pthread_once(&once, prepare);
    if (!atomic_load_explicit(&arena->open, memory_order_relaxed))
        return SX_CLOSED;
    struct registration *r = registrations;
    while (r != NULL && r->arena != arena)
        r = r->next;
    if (r != NULL) {
        *id = r->id;
    } else {
        enum sx_status s = register_thread(arena, id);
        if (s != SX_OK)
            return s;
    }
    sx_self = (struct sx_self){arena, *id, &arena->participants[sx_slot_of(*id)]};
    return SX_OK;
}

/* Gives the slot back in good order.  What the thread still holds has lost its owner from here on: the life word
 * is 0.  All sleepers are told. */
static void give_back(struct registration *r)
{
    struct sx_participant *p = &r->arena->participants[sx_slot_of(r->id)];
    sx_condition_inherit(r->arena, p, false); /* a thread that the interpreter ended amid a wait */
    sx_ranges_abandon(r->arena, r->id);
    for (uint32_t i = 0; i < SX_WAITS; i++)
        atomic_store_explicit(&p->wait[i].state, SX_RUNNING, memory_order_relaxed);
    /* the mark of a claimer that dies before it has written anything must not be taken for one of our process's */
    atomic_store_explicit(&p->process, 0, memory_order_release);
    pthread_mutex_unlock(&p->life.mutex);
    sx_futex_wake(sx_life_word(p), INT_MAX);
    pthread_mutex_lock(&r->arena->local);
    r->arena->registered--;
    pthread_mutex_unlock(&r->arena->local);
    free(r);
}

static void leave_all(void *unused)
{
    (void)unused;
    sx_self = (struct sx_self){0};
    sx_forget_wakes(true);
    sx_deadlock_forget();
    while (registrations != NULL) {
        struct registration *r = registrations;
        registrations = r->next;
        give_back(r);
    }
}

void sx_participant_leave(struct sx_arena *arena)
{
    if (sx_self.arena == arena)
        sx_self = (struct sx_self){0};
    for (struct registration **link = &registrations; *link != NULL; link = &(*link)->next)
        if ((*link)->arena == arena) {
            struct registration *r = *link;
            *link = r->next;
            sx_wake_now();
            give_back(r);
            return;
        }
}

/* After a reboot: no slot has an owner, and no id of before lives. */
void sx_participant_reset(struct sx_arena *arena)
{
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &arena->participants[i];
        atomic_fetch_add(&p->generation, 1);
        clear_records(p);
        memset(p->life.bytes, 0, sizeof p->life.bytes);
    }
}

/* In a forked child: the slots are the parent's. */
void sx_forget_registrations(void)
{
    sx_self = (struct sx_self){0};
    sx_forget_wakes(false);
    while (registrations != NULL) {
        struct registration *r = registrations;
        registrations = r->next;
        free(r);
    }
}
