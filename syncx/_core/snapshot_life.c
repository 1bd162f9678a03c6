/* snapshot_life.c: who of those in a snapshot is alive.
 *
 * By the words first: the kernel marks the life lock of a thread that died (participant.c).  The mark may be missing,
 * and the file may be a copy, or of a machine that was switched off; so the second witness is asked as well: the byte
 * of each process (process.c), by F_OFD_GETLK, which changes nothing and needs no more than a read-only descriptor, and
 * where pids mean the same here, the thread's number and start time.  Nothing is marked: others find out by themselves.
 */
#include <signal.h>
#include <string.h>

#include "snapshot.h"

/* Has the machine been running since the arena was used?  A container may have a boot id of its own: who holds a byte
 * lives all the same. */
static bool this_boot(const struct sx_source *source, const struct sx_snapshot *s)
{
    uint8_t id[16];
    return !sx_boot_id(id) || memcmp(id, s->header.boot_id, sizeof id) == 0 || sx_byte_held(source->fd, -1) == SX_ALIVE;
}

static bool process_lives(const struct sx_source *source, const struct sx_seen_process *p)
{
    if (p->dead == (uint32_t)(p->id >> 32))
        return false;
    enum sx_life byte = sx_byte_held(source->fd, sx_slot_of(p->id));
    if (byte != SX_DEAD)
        return true; /* also where nobody can be asked */
    /* one that lost its descriptors may live */
    return p->here && p->pid <= INT_MAX && p->start_time != 0 && sx_start_time((int)p->pid, 0) == p->start_time &&
           sx_maps_file(source->device, source->inode, (int)p->pid);
}

/* The words say that it lives: does everything else? */
static bool thread_lives(const struct sx_snapshot *s, const struct sx_seen_participant *p)
{
    if (p->process == 0 || (p->life & FUTEX_TID_MASK) != p->tid)
        return true; /* registering: the record is its predecessor's, or half its own */
    const struct sx_seen_process *owner = sx_seen_owner(s, p->process);
    if (owner == NULL || !owner->alive)
        return false;
    if (!owner->here || owner->pid > INT_MAX || p->tid > INT_MAX || p->tid == 0 || p->start_time == 0)
        return true;
    if (syscall(SYS_tgkill, (int)owner->pid, (int)p->tid, 0) != 0)
        return errno != ESRCH;
    uint64_t start = sx_start_time((int)owner->pid, (int)p->tid);
    return start == 0 || start == p->start_time;
}

void sx_snapshot_judge(const struct sx_source *source, struct sx_snapshot *s)
{
    uint64_t ours = sx_pid_namespace();
    s->this_boot = this_boot(source, s);
    s->witnessed = sx_byte_held(source->fd, -1) != SX_IMPOSSIBLE;
    for (uint32_t i = 0; i < s->processes.count; i++) {
        struct sx_seen_process *p = sx_seen_process(s, i);
        p->here = s->this_boot && ours != 0 && p->pid_namespace == ours;
        p->alive = s->this_boot && process_lives(source, p);
    }
    for (uint32_t i = 0; i < s->participants.count; i++) {
        struct sx_seen_participant *p = sx_seen_participant(s, i);
        p->alive =
            s->this_boot && (p->life & FUTEX_TID_MASK) != 0 && !(p->life & FUTEX_OWNER_DIED) && thread_lives(s, p);
        /* the kernel's mark on one thread is the death of its process, see process.c */
        struct sx_seen_process *owner = sx_seen_owner(s, p->process);
        if (owner != NULL && p->life & FUTEX_OWNER_DIED)
            owner->alive = false;
    }
    for (uint32_t i = 0; i < s->participants.count; i++) {
        struct sx_seen_participant *p = sx_seen_participant(s, i);
        const struct sx_seen_process *owner = sx_seen_owner(s, p->process);
        p->alive = p->alive && (owner == NULL || owner->alive);
    }
    for (uint32_t i = 0; i < s->holds.count; i++) {
        struct sx_seen_hold *h = sx_seen_hold(s, i);
        if (h->process != 0) {
            const struct sx_seen_process *p = sx_seen_owner(s, h->process);
            h->alive = p != NULL && p->alive;
        } else {
            const struct sx_seen_participant *p = sx_seen_thread(s, h->thread);
            h->alive = p != NULL && p->alive;
        }
    }
    sx_settle_cells(s);
    sx_settle_waits(s);
}
