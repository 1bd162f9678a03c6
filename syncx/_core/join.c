/* join.c: waiting for the end of a process, where the detector of deadlocks sees it.
 *
 * The kernel tells the end by the process's pidfd, pidfd_open(2), so it is nobody's to lose.  The wait record says for whom
 * the thread waits: pid, start time and pid namespace, and stays WAITING throughout.  Whoever chooses this thread as the
 * victim of a deadlock changes it to VICTIM; a poll(2) does not watch that word, so it is looked at on the belt, ten times
 * a second.  (By default the victim is who came last, and that one sees by itself that it closes a deadlock.)
 * Death of the waiter: its record goes with its slot.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "core.h"

/* Anew each time: while handlers ran it said something else. */
static bool told(struct sx_arena *arena, struct sx_wait *w, uint64_t me, bool first)
{
    uint32_t now = atomic_load_explicit(&w->state, memory_order_acquire);
    if (sx_wait_state(now) != SX_WAITING && sx_wait_state(now) != SX_VICTIM)
        atomic_store_explicit(&w->state, sx_wait_number() | SX_WAITING, memory_order_seq_cst);
    if (first ? sx_deadlock_closed(arena, me, true) : sx_deadlock_scan(arena, me))
        return true;
    uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
    if (sx_wait_state(state) != SX_VICTIM)
        return false;
    if (sx_deadlock_tell(arena, me))
        return true;
    atomic_store_explicit(&w->state, (state & ~0xffu) | SX_WAITING, memory_order_seq_cst);
    return false;
}

/* SX_OK: it has ended; SX_TIMEOUT; SX_INTERRUPTED: a handler raised, or the thread is the victim of a deadlock. */
enum sx_status sx_join(struct sx_arena *arena, int pidfd, uint32_t pid, uint64_t start_time, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline};
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    uint64_t me;
    enum sx_status status = sx_identity(arena, &me);
    if (status != SX_OK)
        return status;
    if (poll(&ended, 1, 0) == 1)
        return SX_OK;
    if (deadline == 0)
        return SX_TIMEOUT;
    sx_pause_block(&pause);
    sx_deadlock_forget();
    struct sx_wait *w =
        sx_pause_enrol_join(&pause, pid, start_time); /* NULL, waits nested too deep: one that nobody sees */
    atomic_thread_fence(memory_order_seq_cst);
    for (bool first = true;; first = false) {
        if (w != NULL && deadline == SX_NEVER && !sx_deadlock_off && !(sx_wish.mode & WAIT_OFF) &&
            told(arena, w, me, first)) {
            if (sx_be_victim(&pause) == SX_STOP) {
                status = SX_INTERRUPTED;
                break;
            }
            uint32_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
            atomic_store_explicit(&w->state, (state & ~0xffu) | SX_WAITING, memory_order_seq_cst);
        }
        int64_t now = sx_now(), left = deadline - now < SX_BELT_NS ? deadline - now : SX_BELT_NS;
        struct timespec limit = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        int r = ppoll(&ended, 1, &limit, NULL), error = errno;
        if (r == 1) {
            status = SX_OK;
            break;
        }
        if (r < 0 && error != EINTR) {
            status = SX_ERRNO;
            errno = error;
            break;
        }
        if (sx_pause_interrupted(&pause, r == 0)) {
            status = SX_INTERRUPTED;
            break;
        }
        if (sx_now() >= deadline) {
            status = SX_TIMEOUT;
            break;
        }
        uint64_t now_me;
        if ((status = sx_identity(arena, &now_me)) != SX_OK ||
            now_me != me) { /* a handler forked, and this is the child */
            w = NULL;
            me = now_me;
            sx_pause_withdraw(&pause);
            if (status != SX_OK)
                break;
        }
        if (w != NULL) { /* handlers may have run */
            uint32_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
            atomic_store_explicit(&w->state, (state & ~0xffu) | SX_WAITING, memory_order_seq_cst);
            atomic_thread_fence(memory_order_seq_cst);
        }
    }
    int error = errno;
    if (w != NULL)
        atomic_store_explicit(&w->state, SX_RUNNING, memory_order_release);
    sx_pause_withdraw(&pause);
    sx_pause_end(&pause);
    errno = error;
    return status;
}
