/* test_ranges.c: file ranges: the account of them against a map of bytes, exclusion of threads and processes, order,
 * deaths, and signal handlers and forks amid a wait.
 *
 * Two oracles judge exclusion: one counts those inside each byte, the other notes who owns it.  Both must condemn the
 * twins: locks that only the kernel knows of (which does not tell threads apart), and locks of different files.
 *
 * HEAVY are all in which a thread may sleep in the kernel for a range: valgrind lets no other run meanwhile.
 */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "../../syncx/_core/files.h"

#define LATE (10 * SECOND)
#define BYTES 64

static int stranger(void) /* another open file description, of somebody without syncx */
{
    int fd = open(path_of("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return fd;
}

static int raw(int fd, int command, int type, int64_t first, int64_t last)
{
    struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = first};
    l.l_len = last == SX_TO_END ? 0 : last - first + 1;
    int r = fcntl(fd, command, &l);
    return command == F_OFD_GETLK && r == 0 ? l.l_type : r;
}

static struct sx_range *range(struct sx_arena *arena, int64_t first, int64_t last, bool is_shared)
{
    struct sx_range *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    *r = (struct sx_range){.arena = arena, .first = first, .last = last, .shared = is_shared, .create = true};
    r->path = strdup(path_of("file"));
    STATUS(sx_range_open(r, -1), SX_OK);
    return r;
}

static void gone(struct sx_range *r)
{
    sx_range_close(r);
    free(r->path);
    free(r);
}

/* How many live threads are in line for ranges, asleep or not. */
static int in_line(struct sx_arena *arena)
{
    int n = 0;
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++) {
        struct sx_participant *p = &arena->participants[i];
        uint64_t id = (uint64_t)atomic_load(&p->generation) << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        uint32_t life;
        if (sx_holder_life(arena, id, &life) != SX_ALIVE)
            continue;
        for (uint32_t j = 0; j < SX_WAITS; j++)
            n += sx_wait_state(atomic_load(&p->wait[j].state)) != SX_RUNNING &&
                 atomic_load(&p->wait[j].kind) == SX_KIND_FILE;
    }
    return n;
}

/* ---- the account of a process against a map of bytes ------------------------------------------------------------ */
#define HOLDS 4
struct model {
    struct sx_file *file;
    struct sx_hold hold[HOLDS];
    char has[HOLDS][BYTES]; /* 0, 's', 'x' */
    int probe;
};

static bool allowed(struct model *m, int h, int first, int last, bool is_shared)
{
    for (int i = 0; i < HOLDS; i++)
        for (int b = first; b <= last && i != h; b++)
            if (m->has[i][b] == 'x' || (m->has[i][b] == 's' && !is_shared))
                return false;
    return true;
}

static void agree(struct model *m)
{
    for (int h = 0; h < HOLDS; h++) {
        char told[BYTES] = {0};
        for (struct sx_segment *s = m->hold[h].segments; s != NULL; s = s->next) {
            CHECK(s->first >= 0 && s->last < BYTES && s->first <= s->last && s->hold == &m->hold[h]);
            for (int64_t b = s->first; b <= s->last; b++) {
                CHECK(told[b] == 0);
                told[b] = s->shared ? 's' : 'x';
            }
            CHECK(s->last + 1 >= BYTES || told[s->last + 1] != told[s->last]); /* neighbours are one */
        }
        CHECK(memcmp(told, m->has[h], BYTES) == 0);
    }
    for (int b = 0; b < BYTES; b++) {
        char most = 0;
        for (int h = 0; h < HOLDS; h++)
            most = m->has[h][b] > most ? m->has[h][b] : most;
        int kernel = raw(m->probe, F_OFD_GETLK, F_WRLCK, b, b);
        CHECK(kernel == (most == 'x' ? F_WRLCK : most == 's' ? F_RDLCK : F_UNLCK));
    }
    int first = (int)(random64() % BYTES), last = first + (int)(random64() % (uint64_t)(BYTES - first));
    int h = (int)(random64() % HOLDS);
    bool is_shared = random64() % 2;
    CHECK((sx_tree_conflict(m->file, &m->hold[h], first, last, is_shared) == NULL) ==
          allowed(m, h, first, last, is_shared));
}

TEST(the_account_is_that_of_a_map_of_bytes, 0, 60)
{
    struct sx_arena *arena = arena_new();
    my_id(arena);
    struct model m = {.probe = stranger()};
    struct sx_range *r = range(arena, 0, 0, false);
    m.file = r->file;
    for (int h = 0; h < HOLDS; h++)
        m.hold[h] = (struct sx_hold){.file = m.file, .thread = (uint64_t)h + 1};
    int taken = 0, refused = 0;
    for (int i = 0; i < rounds(6000); i++) {
        int first = (int)(random64() % BYTES), h = (int)(random64() % HOLDS);
        int last = first + (int)(random64() % (random64() % 4 == 0 ? (uint64_t)(BYTES - first) : 6));
        last = last < BYTES ? last : BYTES - 1;
        int mode = (int)(random64() % 5) - 2;
        bool is_shared = mode != SX_EXCLUSIVE_MODE;
        struct sx_segment *spare[2] = {malloc(sizeof **spare), malloc(sizeof **spare)};
        CHECK(spare[0] != NULL && spare[1] != NULL);
        if (mode < 0) {
            CHECK(sx_file_give(m.file, &m.hold[h], first, last) == 0);
            sx_hold_reshape(&m.hold[h], first, last, -1, spare);
            memset(m.has[h] + first, 0, (size_t)(last - first + 1));
        } else if (allowed(&m, h, first, last, is_shared)) {
            CHECK(sx_tree_conflict(m.file, &m.hold[h], first, last, is_shared) == NULL);
            CHECK(sx_file_ask(m.file, is_shared, first, last, false) == 0);
            sx_hold_reshape(&m.hold[h], first, last, is_shared ? SX_SHARED_MODE : SX_EXCLUSIVE_MODE, spare);
            memset(m.has[h] + first, is_shared ? 's' : 'x', (size_t)(last - first + 1));
            taken++;
        } else {
            CHECK(sx_tree_conflict(m.file, &m.hold[h], first, last, is_shared) != NULL);
            refused++;
        }
        free(spare[0]);
        free(spare[1]);
        agree(&m);
    }
    CHECK(taken > 50 && refused > 50);
    for (int h = 0; h < HOLDS; h++) {
        sx_file_give(m.file, &m.hold[h], 0, BYTES - 1);
        sx_hold_clear(&m.hold[h]);
        memset(m.has[h], 0, BYTES);
        agree(&m);
    }
    CHECK(m.file->root == NULL);
    close(m.probe);
    gone(r);
}

/* ---- exclusion --------------------------------------------------------------------------------------------------- */
struct oracle {
    sx_a32 writers[BYTES], readers[BYTES], overlaps;
    sx_a64 entries, missed;
};

struct contest {
    struct sx_arena *arena;
    struct oracle *oracle;
    struct sx_range *common; /* all threads of a process go through it, too */
    int threads, each;
    bool only_kernel; /* the twin */
    uint64_t seed;
};

/* relaxed throughout: the oracle must not order what the lock ought to order */
static void visit(struct oracle *o, int64_t first, int64_t last, bool is_shared)
{
    sx_a32 *mine = is_shared ? o->readers : o->writers;
    for (int64_t b = first; b <= last; b++) {
        uint32_t before = atomic_fetch_add_explicit(&mine[b], 1, memory_order_relaxed);
        if ((!is_shared && before != 0) ||
            atomic_load_explicit(is_shared ? &o->writers[b] : &o->readers[b], memory_order_relaxed) != 0)
            atomic_fetch_add_explicit(&o->overlaps, 1, memory_order_relaxed);
    }
    sched_yield();
    for (int64_t b = first; b <= last; b++)
        atomic_fetch_sub_explicit(&mine[b], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->entries, 1, memory_order_relaxed);
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void *contend(void *argument)
{
    struct contest *c = argument;
    uint64_t x = c->seed + (uint64_t)(uintptr_t)&x + (uint64_t)getpid() * 7919;
    for (int i = 0; i < c->each; i++) {
        uint64_t n = next_random(&x);
        int64_t first = (int64_t)(n % 8) * 4, last = first + (int64_t)(n >> 8) % 16;
        bool is_shared = (n >> 16) % 2 == 0;
        struct sx_range *own = (n >> 20) % 4 == 0 && !c->only_kernel ? NULL : range(c->arena, first, last, is_shared);
        struct sx_range *r = own == NULL ? c->common : own;
        int64_t deadline = (n >> 24) % 4 == 0 ? in(2 * MS) : (n >> 24) % 16 == 1 ? 0 : SX_NEVER;
        if (c->only_kernel) {
            while (sx_file_ask(r->file, is_shared, first, last, false) != 0)
                sched_yield();
            visit(c->oracle, first, last, is_shared);
            sx_file_give(r->file, NULL, first, last);
            gone(own);
            continue;
        }
        enum sx_status s = sx_range_acquire(r, deadline);
        if (s == SX_OK) {
            visit(c->oracle, r->first, r->last, r->shared);
            if (r->shared && (n >> 32) % 4 == 0) {
                s = sx_range_upgrade(r, (n >> 36) % 2 == 0 ? SX_NEVER : in(MS));
                if (s == SX_OK)
                    visit(c->oracle, r->first, r->last, false);
                else if (s != SX_DEADLOCK && s != SX_INTERRUPTED) /* the victim of a deadlock */
                    STATUS(s, SX_TIMEOUT);
                if (s == SX_OK && (n >> 37) % 2 == 0) {
                    STATUS(sx_range_downgrade(r), SX_OK);
                    visit(c->oracle, r->first, r->last, true);
                }
            } else if ((n >> 32) % 4 == 1) { /* a part less, and one more: a try, or two might wait for each other */
                STATUS(sx_range_remove(r, r->first + 1, r->first + 2), SX_OK);
                visit(c->oracle, r->first, r->first, r->shared);
                if (sx_range_add(r, 48, 49, false, 0) == SX_OK)
                    visit(c->oracle, 48, 49, false);
            }
            STATUS(sx_range_release(r), SX_OK);
        } else {
            if (s != SX_BUSY)
                STATUS(s, SX_TIMEOUT);
            atomic_fetch_add_explicit(&c->oracle->missed, 1, memory_order_relaxed);
        }
        if (own != NULL)
            gone(own);
    }
    return NULL;
}

static void contend_in_threads(void *argument)
{
    struct contest c = *(struct contest *)argument;
    pthread_t threads[8];
    c.common = range(c.arena, 10, 20, false);
    for (int i = 0; i < c.threads; i++)
        threads[i] = thread(contend, &c);
    for (int i = 0; i < c.threads; i++)
        joined(threads[i]);
    gone(c.common);
}

static struct contest contest(int threads, int each)
{
    sx_belt_off = true;
    return (struct contest){.arena = arena_new(),
                            .oracle = shared(sizeof(struct oracle)),
                            .threads = threads,
                            .each = each,
                            .seed = random64()};
}

static void compete(struct contest *c, int processes)
{
    pid_t pids[8];
    for (int i = 0; i < processes; i++)
        pids[i] = spawn(contend_in_threads, c);
    CHECK(all_end(pids, processes, 60 * SECOND));
    CHECK(in_line(c->arena) == 0);
}

TEST(ranges_exclude_threads, HEAVY, 100)
{
    struct contest c = contest(4, rounds(4000));
    contend_in_threads(&c);
    CHECK(c.oracle->overlaps == 0 && c.oracle->entries > c.oracle->missed);
    CHECK(in_line(c.arena) == 0);
}

TEST(ranges_exclude_processes, FORKS | HEAVY, 100)
{
    struct contest c = contest(1, rounds(3000));
    compete(&c, 4);
    CHECK(c.oracle->overlaps == 0 && c.oracle->entries > c.oracle->missed);
}

TEST(ranges_exclude_threads_of_processes, FORKS | HEAVY, 100)
{
    struct contest c = contest(3, rounds(1000));
    compete(&c, 3);
    CHECK(c.oracle->overlaps == 0 && c.oracle->entries > c.oracle->missed);
}

TEST(ranges_twin_that_only_the_kernel_knows, HEAVY, 100)
{
    struct contest c = contest(4, rounds(4000));
    c.only_kernel = true;
    for (int i = 0; i < 50 && c.oracle->overlaps == 0; i++)
        contend_in_threads(&c);
    CHECK(c.oracle->overlaps != 0);
}

static void own_file(void *argument)
{
    struct contest *c = argument;
    struct sx_range *r = range(c->arena, 0, 0, false);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    for (int i = 0; i < 2000; i++)
        visit(c->oracle, 0, 0, false);
    STATUS(sx_range_release(r), SX_OK);
}
static void other_file(void *argument)
{
    char name[64];
    snprintf(name, sizeof name, "/dev/shm/syncx-core-tests-twin-%d", getpid());
    CHECK(mkdir(name, 0700) == 0);
    test_directory = name;
    own_file(argument);
    unlink(path_of("file"));
    rmdir(name);
}

TEST(ranges_twin_of_two_files, FORKS | HEAVY, 100)
{
    struct contest c = contest(1, 0);
    for (int i = 0; i < 50 && c.oracle->overlaps == 0; i++) {
        pid_t pids[2] = {spawn(own_file, &c), spawn(other_file, &c)};
        CHECK(all_end(pids, 2, LATE));
    }
    CHECK(c.oracle->overlaps != 0);
}

/* ---- order -------------------------------------------------------------------------------------------------------- */
struct order {
    struct sx_arena *arena;
    int64_t first, last;
    int number;
    bool shared;
    sx_a32 *turns, *done;
};

static void waits_its_turn(void *argument)
{
    struct order *o = argument;
    struct sx_range *r = range(o->arena, o->first, o->last, o->shared);
    STATUS(sx_range_acquire(r, o->number % 2 == 0 ? SX_NEVER : in(2 * LATE)), SX_OK);
    CHECK(atomic_fetch_add(o->turns, 1) == (uint32_t)o->number);
    STATUS(sx_range_release(r), SX_OK);
}

TEST(ranges_are_had_in_the_order_of_coming, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    struct order o = {.arena = arena_new(), .last = SX_TO_END, .turns = shared(4)};
    struct sx_range *r = range(o.arena, 0, 20, false);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    pid_t pids[8];
    for (int i = 0; i < 8; i++) { /* each overlaps the one before it */
        o.number = i;
        o.first = 5 * (i % 3);
        o.last = i % 2 == 0 ? SX_TO_END : 20;
        pids[i] = spawn(waits_its_turn, &o);
        UNTIL(in_line(o.arena) == i + 1);
    }
    usleep(2300000); /* beyond the first two looks for a gap */
    CHECK(atomic_load(o.turns) == 0);
    STATUS(sx_range_release(r), SX_OK);
    CHECK(all_end(pids, 8, LATE));
}

/* A wide one waits for [0, 20], of which 0 is held; a narrow one, which would get its range, waits behind it.  The holder
 * may wait for the narrow one: so that gets by, later. */
TEST(ranges_nobody_stands_behind_a_wide_one_for_ever, FORKS | HEAVY, 60)
{
    struct order wide = {.arena = arena_new(), .last = 20, .number = 1, .turns = shared(4)};
    struct order narrow = wide;
    struct sx_range *r = range(wide.arena, 0, 0, false);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    pid_t first = spawn(waits_its_turn, &wide);
    UNTIL(in_line(wide.arena) == 1);
    narrow.first = narrow.last = 10;
    narrow.number = 0;
    pid_t second = spawn(waits_its_turn, &narrow);
    CHECK(all_end(&second, 1, LATE));
    STATUS(sx_range_release(r), SX_OK);
    ended_well(first);
}

/* ---- upgrades ------------------------------------------------------------------------------------------------------ */
static void *upgrades(void *argument)
{
    struct contest *c = argument;
    struct sx_range *r = range(c->arena, 0, 9, true);
    for (int i = 0; i < c->each; i++) {
        STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
        visit(c->oracle, 0, 9, true);
        enum sx_status s = sx_range_upgrade(r, SX_NEVER);
        if (s != SX_INTERRUPTED) /* the victim of a deadlock */
            STATUS(s, SX_OK);
        visit(c->oracle, 0, 9, s != SX_OK);
        atomic_fetch_add(&c->oracle->missed, s != SX_OK);
        STATUS(sx_range_release(r), SX_OK);
    }
    gone(r);
    return NULL;
}

static void upgrades_alone(void *argument)
{
    upgrades(argument);
}

TEST(ranges_one_of_two_upgrades_is_refused, HEAVY, 100)
{
    struct contest c = contest(2, rounds(4000));
    pthread_t other = thread(upgrades, &c);
    upgrades(&c);
    joined(other);
    CHECK(c.oracle->overlaps == 0);
}

TEST(ranges_one_of_three_processes_upgrades, FORKS | HEAVY, 100)
{
    struct contest c = contest(1, rounds(2000));
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(upgrades_alone, &c);
    CHECK(all_end(pids, 3, 60 * SECOND));
    CHECK(c.oracle->overlaps == 0);
}

/* ---- deaths --------------------------------------------------------------------------------------------------------- */
struct deaths {
    struct sx_arena *arena;
    sx_a32 owner[BYTES];
    atomic_bool killed[1 << 22]; /* by pid */
    sx_a64 rounds;
    sx_a32 stop;
};

static void owns_for_a_while(void *argument)
{
    struct deaths *d = argument;
    uint64_t x = (uint64_t)getpid() * UINT64_C(88172645463325252);
    while (atomic_load(&d->stop) == 0) {
        uint64_t n = next_random(&x);
        int64_t first = (int64_t)(n % 8) * 4, last = first + (int64_t)(n >> 8) % 16;
        struct sx_range *r = range(d->arena, first, last, false);
        STATUS(sx_range_acquire(r, n >> 40 & 1 ? SX_NEVER : in(LATE)), SX_OK);
        for (int64_t b = first; b <= last; b++) {
            uint32_t before = atomic_exchange(&d->owner[b], (uint32_t)getpid());
            CHECK(before == 0 || atomic_load(&d->killed[before]));
        }
        for (int64_t b = first; b <= last; b++)
            CHECK(atomic_exchange(&d->owner[b], 0) == (uint32_t)getpid());
        STATUS(sx_range_release(r), SX_OK);
        gone(r);
        atomic_fetch_add(&d->rounds, 1);
    }
}

TEST(ranges_of_the_killed_are_free, FORKS | HEAVY, 100)
{
    struct deaths *d = shared(sizeof *d);
    d->arena = arena_new();
    pid_t pids[5];
    for (int i = 0; i < 5; i++)
        pids[i] = spawn(owns_for_a_while, d);
    for (int i = 0; i < rounds(300); i++) {
        int victim = (int)(random64() % 5);
        uint64_t before = atomic_load(&d->rounds);
        UNTIL(atomic_load(&d->rounds) > before + 2); /* the others go on */
        atomic_store(&d->killed[pids[victim]], true);
        killed(pids[victim]);
        pids[victim] = spawn(owns_for_a_while, d);
    }
    atomic_store(&d->stop, 1);
    CHECK(all_end(pids, 5, LATE));
}

static void holds_and_waits_to_be_killed(void *argument)
{
    struct order *o = argument;
    struct sx_range *r = range(o->arena, 0, 9, false);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    gate_open(o->done);
    pause();
}

TEST(ranges_a_death_wakes_the_first_in_line, FORKS | HEAVY | WAITV, 60)
{
    sx_belt_off = true;
    struct order o = {.arena = arena_new(), .last = 9, .turns = shared(4), .done = shared(4)};
    pid_t holder = spawn(holds_and_waits_to_be_killed, &o), pids[4];
    gate_pass(o.done);
    for (int i = 0; i < 4; i++) {
        o.number = i < 3 ? i : 2;
        pids[i] = spawn(waits_its_turn, &o);
        UNTIL(in_line(o.arena) == i + 1);
    }
    killed(pids[2]); /* the fourth is third then */
    int64_t start = sx_now();
    killed(holder);
    ended_well(pids[0]);
    ended_well(pids[1]);
    ended_well(pids[3]);
    IN_TIME(sx_now() - start, BOUND);
}

/* ---- beside other programs ------------------------------------------------------------------------------------------ */
struct pair {
    struct sx_arena *arena;
    struct sx_range *range;
    enum sx_status status;
    int64_t deadline;
    sx_a32 inside, gate;
};

static void *takes(void *argument)
{
    struct pair *p = argument;
    p->status = sx_range_acquire(p->range, p->deadline);
    atomic_store(&p->inside, 1);
    gate_pass(&p->gate);
    if (p->status == SX_OK)
        STATUS(sx_range_release(p->range), SX_OK);
    return NULL;
}

static bool is_pending(struct sx_file *f)
{
    pthread_mutex_lock(&f->guard);
    bool found = false;
    struct sx_segment *s = f->root;
    for (; s != NULL && !found; s = s->child[0] != NULL ? s->child[0] : s->child[1])
        found = s->pending;
    pthread_mutex_unlock(&f->guard);
    return found;
}

/* A thread sleeps in the kernel for [0, 10] to read, of which another program has the end; another thread reads its
 * beginning and stops: that part must be free then, and the sleeper not be given what is no longer all its own. */
TEST(ranges_what_a_sleeper_awaits_is_unlocked_by_others, HEAVY, 60)
{
    struct sx_arena *arena = arena_new();
    int other = stranger(), third = stranger();
    struct sx_range *a = range(arena, 0, 5, true);
    struct pair p = {.arena = arena, .range = range(arena, 0, 10, true), .deadline = SX_NEVER};
    STATUS(sx_range_acquire(a, SX_NEVER), SX_OK);
    CHECK(raw(other, F_OFD_SETLK, F_WRLCK, 8, 10) == 0);
    pthread_t sleeper = thread(takes, &p);
    UNTIL(is_pending(a->file));
    STATUS(sx_range_release(a), SX_OK);
    CHECK(raw(third, F_OFD_SETLK, F_WRLCK, 0, 5) == 0);
    CHECK(raw(other, F_OFD_SETLK, F_UNLCK, 8, 10) == 0);
    usleep(20000);
    CHECK(atomic_load(&p.inside) == 0);
    CHECK(raw(third, F_OFD_SETLK, F_UNLCK, 0, 5) == 0);
    UNTIL(atomic_load(&p.inside) == 1);
    STATUS(p.status, SX_OK);
    CHECK(raw(other, F_OFD_GETLK, F_WRLCK, 0, 5) == F_RDLCK && raw(other, F_OFD_GETLK, F_WRLCK, 6, 10) == F_RDLCK);
    gate_open(&p.gate);
    joined(sleeper);
    CHECK(raw(other, F_OFD_GETLK, F_WRLCK, 0, 10) == F_UNLCK);
    gone(a);
    gone(p.range);
    close(other);
    close(third);
}

/* The first time the descriptor is closed; the second time its number is another file's. */
TEST(ranges_of_a_descriptor_that_somebody_closed, 0, 60)
{
    struct sx_arena *arena = arena_new();
    struct sx_range *r = range(arena, 0, 9, false);
    int probe = stranger();
    for (int i = 0; i < 2; i++) {
        int fd = r->file->fd;
        if (i == 0) {
            close(fd);
        } else {
            int elsewhere = open(path_of("elsewhere"), O_RDWR | O_CREAT, 0600);
            CHECK(dup2(elsewhere, fd) == fd);
            close(elsewhere);
        }
        STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
        CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 9) == F_WRLCK);
        if (i == 1) { /* nothing of ours stays on the other file */
            int look = open(path_of("elsewhere"), O_RDWR);
            CHECK(raw(look, F_OFD_GETLK, F_WRLCK, 0, SX_TO_END) == F_UNLCK);
            close(look);
            close(fd);
        }
        STATUS(sx_range_release(r), SX_OK);
        CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 9) == F_UNLCK);
    }
    close(probe);
    gone(r);
}

/* ---- signal handlers amid a wait ------------------------------------------------------------------------------------ */
static void *no_block(void)
{
    return NULL;
}
static void no_unblock(void *state)
{
    (void)state;
}
static void (*handler)(void);
static _Atomic(pthread_t) signalled;
static sx_a32 handled;
static bool run_handler(void **state, bool belt)
{
    (void)state;
    if (!belt && handler != NULL && pthread_equal(pthread_self(), atomic_load(&signalled))) {
        void (*now)(void) = handler;
        handler = NULL;
        now();
        atomic_store(&handled, 1);
    }
    return false;
}
static void nothing(int signal)
{
    (void)signal;
}

static void handlers_run(void)
{
    sx_host.block = no_block;
    sx_host.unblock = no_unblock;
    sx_host.interrupted = run_handler;
    struct sigaction action = {.sa_handler = nothing}; /* without SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&handled, 0);
}

static void interrupts(pthread_t t, void (*what)(void))
{
    atomic_store(&signalled, t);
    handler = what;
    UNTIL(atomic_load(&handled) == 1 || (pthread_kill(t, SIGUSR1), false));
}

static struct sx_range *in_hand;
static enum sx_status seen[3];

static void uses_what_is_awaited(void)
{
    seen[0] = sx_range_release(in_hand);
    seen[1] = sx_range_acquire(in_hand, 0);
    seen[2] = sx_range_upgrade(in_hand, SX_NEVER);
}

TEST(ranges_a_handler_uses_the_range_that_its_thread_awaits, NATIVE, 60)
{
    for (int reentrant = 0; reentrant < 2; reentrant++) {
        handlers_run();
        struct sx_arena *arena = arena_new();
        struct sx_range *a = range(arena, 0, 9, false);
        struct pair p = {.arena = arena, .range = range(arena, 0, 9, true), .deadline = SX_NEVER};
        p.range->reentrant = reentrant;
        in_hand = p.range;
        STATUS(sx_range_acquire(a, SX_NEVER), SX_OK);
        pthread_t waiter = thread(takes, &p);
        UNTIL(in_line(arena) == 1);
        interrupts(waiter, uses_what_is_awaited);
        STATUS(seen[0], SX_NOT_OWNER);
        STATUS(seen[1], SX_BUSY);
        STATUS(seen[2], SX_NOT_OWNER);
        CHECK(atomic_load(&p.inside) == 0);
        STATUS(sx_range_release(a), SX_OK);
        gate_open(&p.gate);
        joined(waiter);
        STATUS(p.status, SX_OK);
        gone(a);
        gone(p.range);
    }
}

static void *upgrades_once(void *argument)
{
    struct pair *p = argument;
    STATUS(sx_range_acquire(p->range, SX_NEVER), SX_OK);
    atomic_store(&p->inside, 1);
    p->status = sx_range_upgrade(p->range, p->deadline);
    return NULL;
}

static void gives_it_back(void)
{
    seen[0] = sx_range_release(in_hand);
}

TEST(ranges_a_handler_gives_back_what_its_thread_upgrades, NATIVE, 60)
{
    for (int foreign = 0; foreign < 2; foreign++) {
        handlers_run();
        struct sx_arena *arena = arena_new();
        struct sx_range *a = range(arena, 0, 9, true);
        struct pair p = {.arena = arena, .range = range(arena, 0, 9, true), .deadline = SX_NEVER};
        int other = stranger();
        in_hand = p.range;
        if (foreign)
            CHECK(raw(other, F_OFD_SETLK, F_RDLCK, 0, 9) == 0);
        else
            STATUS(sx_range_acquire(a, SX_NEVER), SX_OK);
        pthread_t waiter = thread(upgrades_once, &p);
        UNTIL(in_line(arena) == 1);
        if (foreign)
            UNTIL(is_pending(a->file));
        interrupts(waiter, gives_it_back);
        joined(waiter);
        STATUS(seen[0], SX_OK);
        STATUS(p.status, SX_NOT_OWNER);
        CHECK(p.range->holds == NULL);
        if (foreign) {
            CHECK(raw(other, F_OFD_SETLK, F_WRLCK, 0, 9) == 0);
        } else {
            STATUS(sx_range_upgrade(a, 0), SX_OK);
            STATUS(sx_range_release(a), SX_OK);
        }
        close(other);
        gone(a);
        gone(p.range);
    }
}

static pid_t forked;
static void forks(void)
{
    forked = fork();
    CHECK(forked >= 0);
}

static void *takes_in_both(void *argument)
{
    struct pair *p = argument;
    pid_t us = getpid();
    p->status = sx_range_acquire(p->range, p->deadline);
    bool child = getpid() != us;
    if (child)
        finish(p->status == SX_OK && sx_range_release(p->range) == SX_OK ? 0 : 1);
    STATUS(p->status, SX_OK);
    STATUS(sx_range_release(p->range), SX_OK);
    return NULL;
}

/* Asleep first in line, behind another, and in the kernel. */
TEST(ranges_a_handler_forks_amid_a_wait, FORKS | NATIVE, 60)
{
    for (int situation = 0; situation < 3; situation++) {
        handlers_run();
        struct sx_arena *arena = arena_new();
        struct sx_range *a = range(arena, 0, 9, false);
        struct pair p = {.arena = arena, .range = range(arena, 0, 9, false), .deadline = SX_NEVER}, before = p;
        before.range = range(arena, 0, 9, false);
        int other = stranger();
        pthread_t first = 0;
        if (situation == 2)
            CHECK(raw(other, F_OFD_SETLK, F_WRLCK, 0, 9) == 0);
        else
            STATUS(sx_range_acquire(a, SX_NEVER), SX_OK);
        if (situation == 1) {
            gate_open(&before.gate);
            first = thread(takes, &before);
            UNTIL(in_line(arena) == 1);
        }
        pthread_t waiter = thread(takes_in_both, &p);
        UNTIL(in_line(arena) == 1 + (situation == 1));
        if (situation == 2)
            UNTIL(is_pending(a->file));
        interrupts(waiter, forks);
        UNTIL(in_line(arena) == 2 + (situation == 1)); /* the child waits for itself */
        if (situation == 2)
            CHECK(raw(other, F_OFD_SETLK, F_UNLCK, 0, 9) == 0);
        else
            STATUS(sx_range_release(a), SX_OK);
        joined(waiter);
        if (situation == 1)
            joined(first);
        ended_well(forked);
        close(other);
        gone(a);
        gone(p.range);
        gone(before.range);
    }
}

/* ---- fork, threads, and their ends ----------------------------------------------------------------------------------- */
static struct sx_range *inherited(struct sx_arena *arena, bool is_shared)
{
    struct sx_range *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    *r = (struct sx_range){.arena = arena, .last = 9, .shared = is_shared, .create = true, .inherit = true};
    r->path = strdup(path_of("file"));
    STATUS(sx_range_open(r, -1), SX_OK);
    return r;
}

struct joint {
    struct sx_range *range;
    sx_a32 *go, *done;
};

static void releases_what_it_inherited(void *argument)
{
    struct joint *j = argument;
    STATUS(sx_range_acquire(j->range, 0), SX_BUSY); /* it is held, by this thread too */
    STATUS(sx_range_add(j->range, 20, 29, false, SX_NEVER), SX_DEADLOCK);
    gate_pass(j->go);
    STATUS(sx_range_release(j->range), SX_OK);
    STATUS(sx_range_release(j->range), SX_NOT_OWNER);
    gate_open(j->done);
    pause();
}

TEST(ranges_that_are_inherited_are_held_by_both, FORKS, 60)
{
    struct sx_arena *arena = arena_new();
    int probe = stranger();
    for (int several = 0; several < 2; several++) { /* threads that read through the object when it forks */
        struct joint j = {.range = inherited(arena, several), .go = shared(4), .done = shared(4)};
        struct pair p = {.arena = arena, .range = j.range, .deadline = SX_NEVER};
        pthread_t reader = 0;
        if (several) {
            reader = thread(takes, &p);
            UNTIL(atomic_load(&p.inside) == 1);
        }
        STATUS(sx_range_acquire(j.range, SX_NEVER), SX_OK);
        pid_t child = spawn(releases_what_it_inherited, &j);
        if (several) {
            gate_open(&p.gate);
            joined(reader);
        }
        STATUS(sx_range_release(j.range), SX_OK);
        STATUS(sx_range_acquire(j.range, several ? 0 : in(20 * MS)), several ? SX_OK : SX_TIMEOUT); /* the child's */
        if (several)
            STATUS(sx_range_release(j.range), SX_OK);
        CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 9) != F_UNLCK);
        gate_open(j.go);
        gate_pass(j.done);
        CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 9) == F_UNLCK);
        STATUS(sx_range_acquire(j.range, 0), SX_OK);
        STATUS(sx_range_release(j.range), SX_OK);
        killed(child);
        gone(j.range);
    }
    close(probe);
}

static void waits_to_be_killed(void *argument)
{
    (void)argument;
    pause();
}

/* A process that was forked while its parent waited holds nothing, and keeps nothing. */
TEST(ranges_that_are_only_awaited_are_not_inherited, FORKS | HEAVY, 60)
{
    struct sx_arena *arena = arena_new();
    int other = stranger();
    struct pair p = {.arena = arena, .range = inherited(arena, false), .deadline = SX_NEVER};
    CHECK(raw(other, F_OFD_SETLK, F_WRLCK, 0, 9) == 0);
    pthread_t sleeper = thread(takes, &p);
    UNTIL(is_pending(p.range->file));
    pid_t child = spawn(waits_to_be_killed, NULL);
    CHECK(raw(other, F_OFD_SETLK, F_UNLCK, 0, 9) == 0);
    UNTIL(atomic_load(&p.inside) == 1);
    CHECK(raw(other, F_OFD_GETLK, F_WRLCK, 0, 9) == F_WRLCK);
    gate_open(&p.gate);
    joined(sleeper);
    UNTIL(raw(other, F_OFD_GETLK, F_WRLCK, 0, 9) == F_UNLCK);
    killed(child);
    close(other);
    gone(p.range);
}

static struct sx_range *two[2];
static void *ends_holding(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++)
        STATUS(sx_range_acquire(two[i], SX_NEVER), SX_OK);
    return NULL;
}

TEST(ranges_of_a_thread_that_ends_are_free, 0, 60)
{
    struct sx_arena *arena = arena_new(), *second;
    STATUS(sx_arena_open(path_of("another"), true, false, 0600, &second), SX_OK);
    int probe = stranger();
    two[0] = range(arena, 0, 9, false);
    two[1] = range(second, 20, 29, false);
    joined(thread(ends_holding, NULL));
    CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 29) == F_UNLCK);
    CHECK(two[0]->holds == NULL && two[1]->holds == NULL);
    gone(two[0]);
    gone(two[1]);
    close(probe);
    sx_arena_release(second);
}

/* Threads that end, holding, while another one drops the lock objects. */
struct dropped {
    struct sx_range *range;
    sx_a32 got;
};
static void *ends_with(void *argument)
{
    struct dropped *d = argument;
    STATUS(sx_range_acquire(d->range, SX_NEVER), SX_OK);
    atomic_store(&d->got, 1);
    return NULL;
}

TEST(ranges_are_dropped_while_their_threads_end, 0, 60)
{
    struct sx_arena *arena = arena_new();
    for (int i = 0; i < rounds(500); i++) {
        struct dropped d = {.range = range(arena, 0, 9, false)};
        pthread_t t = thread(ends_with, &d);
        while (atomic_load(&d.got) == 0)
            sched_yield();
        gone(d.range);
        joined(t);
    }
    struct sx_range *r = range(arena, 0, 9, false);
    STATUS(sx_range_acquire(r, 0), SX_OK);
    STATUS(sx_range_acquire(r, in(5 * MS)), SX_TIMEOUT);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_DEADLOCK);
    STATUS(sx_range_release(r), SX_OK);
    gone(r);
}

/* A path that changes again and again while threads lock it through one object. */
static void *locks_by_path(void *argument)
{
    struct dropped *d = argument;
    while (atomic_load(&d->got) == 0) {
        STATUS(sx_range_acquire(d->range, SX_NEVER), SX_OK);
        STATUS(sx_range_release(d->range), SX_OK);
    }
    return NULL;
}

TEST(ranges_follow_a_path_in_several_threads, HEAVY, 60)
{
    struct sx_arena *arena = arena_new();
    struct dropped d = {.range = range(arena, 0, 9, false)};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread(locks_by_path, &d);
    char *to = strdup(path_of("file"));
    for (int i = 0; i < rounds(2000); i++) {
        int fd = open(path_of("new"), O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0 && close(fd) == 0 && rename(path_of("new"), to) == 0);
    }
    atomic_store(&d.got, 1);
    for (int i = 0; i < 3; i++)
        joined(threads[i]);
    STATUS(sx_range_acquire(d.range, 0), SX_OK);
    int probe = stranger();
    CHECK(raw(probe, F_OFD_GETLK, F_WRLCK, 0, 9) == F_WRLCK);
    close(probe);
    STATUS(sx_range_release(d.range), SX_OK);
    gone(d.range);
    free(to);
}
