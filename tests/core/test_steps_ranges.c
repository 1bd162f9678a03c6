/* test_steps_ranges.c: SIGKILL after each machine instruction of a range taken and given back, of one given to a waiter,
 * and of a wait that ends in nothing.  Whoever waits meanwhile gets its turn, then two others theirs, and the kernel says
 * that nothing is left.
 */
#include "check.h"

#include <fcntl.h>

#include "../../syncx/_core/files.h"

#define LATE (10 * SECOND)

struct scene {
    struct sx_arena *arena;
    char path[256];
    void (*operate)(struct sx_range *r);
    bool holds; /* the victim, before it is stepped */
    sx_a32 came, leave;
};

static struct scene *scene(void)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    snprintf(s->path, sizeof s->path, "%s", path_of("data"));
    return s;
}

static void open_range(struct scene *s, struct sx_range *r, int64_t first, int64_t last)
{
    *r = (struct sx_range){
        .arena = s->arena, .path = s->path, .first = first, .last = last, .style = SX_OFD_STYLE, .create = true};
    STATUS(sx_range_open(r, -1), SX_OK);
}

/* Does the kernel say that nobody has a byte of the file? */
static bool is_free(struct scene *s)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(s->path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0);
    close(fd);
    return lock.l_type == F_UNLCK;
}

/* How many threads wait for a range. */
static int queue(struct scene *s)
{
    int n = 0;
    for (uint32_t i = 0; i < sx_participants_ready(s->arena); i++) {
        struct sx_wait *w = &s->arena->participants[i].wait[0];
        uint32_t life;
        uint64_t generation = atomic_load(&s->arena->participants[i].generation);
        n += sx_wait_state(atomic_load(&w->state)) != SX_RUNNING && atomic_load(&w->kind) == SX_KIND_FILE &&
             sx_holder_life(s->arena, generation << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT, &life) == SX_ALIVE;
    }
    return n;
}

static void takes_and_stays(void *argument)
{
    struct scene *s = argument;
    struct sx_range r;
    open_range(s, &r, 0, 7);
    STATUS(sx_range_acquire(&r, SX_NEVER), SX_OK);
    atomic_fetch_add(&s->came, 1);
    while (!atomic_load(&s->leave))
        usleep(500);
    STATUS(sx_range_release(&r), SX_OK);
    sx_range_close(&r);
}

static void takes(void *argument)
{
    struct scene *s = argument;
    struct sx_range r;
    open_range(s, &r, 4, 12);
    STATUS(sx_range_acquire(&r, SX_NEVER), SX_OK);
    STATUS(sx_range_release(&r), SX_OK);
    sx_range_close(&r);
}

static void acquires_and_releases(struct sx_range *r)
{
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    STATUS(sx_range_release(r), SX_OK);
}

static void releases(struct sx_range *r)
{
    STATUS(sx_range_release(r), SX_OK);
}

static void waits_in_vain(struct sx_range *r)
{
    STATUS(sx_range_acquire(r, in(MS)), SX_TIMEOUT);
}

static void victim(void *argument)
{
    struct scene *s = argument;
    struct sx_range r;
    my_id(s->arena); /* registered: that is another operation */
    open_range(s, &r, 4, 8);
    if (s->holds)
        STATUS(sx_range_acquire(&r, SX_NEVER), SX_OK);
    atomic_store(&s->came, 1);
    to_be_stepped();
    s->operate(&r);
    stepped_through();
}

/* holder: another process has the range meanwhile; waiter: another waits for it, or for the victim's hold.  Returns what
 * went wrong, or NULL; stays: the twin, in which the holder does not give its range back. */
static const char *stepped_kills(void (*operate)(struct sx_range *), bool holds, bool holder, bool waiter, bool stays)
{
    struct scene *s = scene();
    static char wrong[100];
    long n = 1;
    s->operate = operate;
    s->holds = holds;
    for (bool more = true; more; n += n < 100 ? 1 : holder ? 211 : 67) { /* a wait is long */
        pid_t keeper = 0, waits = 0;
        atomic_store(&s->came, 0);
        atomic_store(&s->leave, 0);
        if (holder) {
            keeper = spawn(takes_and_stays, s);
            UNTIL(atomic_load(&s->came) == 1);
            atomic_store(&s->came, 0);
        }
        pid_t stepping = spawn(victim, s);
        UNTIL(atomic_load(&s->came) == 1);
        if (waiter) {
            waits = spawn(takes, s);
            UNTIL(queue(s) == 1);
        }
        more = stepped(stepping, n);
        atomic_store(&s->leave, !stays);
        snprintf(wrong, sizeof wrong, "after %ld instructions a waiter waits for ever", n);
        if (waiter && !all_end(&waits, 1, stays ? SECOND : LATE))
            return wrong;
        if (holder)
            ended_well(keeper);
        pid_t next[2] = {spawn(takes, s), spawn(takes, s)};
        snprintf(wrong, sizeof wrong, "after %ld instructions nobody gets the range any more", n);
        if (!all_end(next, 2, LATE))
            return wrong;
        CHECK(is_free(s) && queue(s) == 0);
    }
    CHECK(n > 20);
    return NULL;
}

static void survived(const char *wrong)
{
    if (wrong != NULL)
        FAIL("%s", wrong);
}

TEST(killed_at_each_step_of_a_range_alone, FORKS | NATIVE | HEAVY, 300)
{
    survived(stepped_kills(acquires_and_releases, false, false, false, false));
}
TEST(killed_at_each_step_of_a_range_given_to_a_waiter, FORKS | NATIVE | HEAVY, 300)
{
    survived(stepped_kills(releases, true, false, true, false));
}
TEST(killed_at_each_step_of_a_wait_for_a_range, FORKS | NATIVE | HEAVY, 300)
{
    survived(stepped_kills(waits_in_vain, false, true, true, false));
}
TEST(a_range_that_is_never_given_back_is_seen, FORKS | NATIVE | HEAVY, 60)
{
    if (stepped_kills(waits_in_vain, false, true, true, true) == NULL)
        FAIL("the twin passes");
}
