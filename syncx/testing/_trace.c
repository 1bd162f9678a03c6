/* _trace.c: how a traced child goes on: by single instructions, from system call to system call, or at full speed.
 *
 * An effect is what others can see: a system call, or an instruction after which watched memory is not what it was
 * before.
 *
 * waitpid(2) does not say that a traced child has fallen asleep in a system call.  So a timer interrupts it every half
 * millisecond while it waits, and the state in /proc/PID/stat tells.  ptrace(2) ties the child to the thread that
 * forked it.
 */
#define _GNU_SOURCE
#include "_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define TICK_NS 500000
#define TICK_SIGNAL (SIGRTMAX - 3)
#define MAX_TRACE (1 << 20)
#define STORE (-1) /* in the history: not a system call, but a change of watched memory */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- the ticks -------------------------------------------------------------------------------------------------- */
static void on_tick(int signal_number)
{
    (void)signal_number; /* it is there to interrupt waitpid */
}

int ticks_prepare(void)
{
    struct sigaction action = {.sa_handler = on_tick};
    return sigaction(TICK_SIGNAL, &action, NULL);
}

static int ticks_begin(timer_t *timer)
{
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    e.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &e, timer) != 0)
        return -1;
    struct itimerspec every = {{0, TICK_NS}, {0, TICK_NS}};
    return timer_settime(*timer, 0, &every, NULL);
}

/* ---- looking at the child ------------------------------------------------------------------------------------------ */
/* 'S' asleep, 't' stopped by us, 'R' under way, 0: not known. */
static char state_of(pid_t pid)
{
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *end = strrchr(text, ')'); /* the command may contain anything */
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

/* The system call that its next instruction makes; -1: none. */
static int next_system_call(pid_t pid, const struct user_regs_struct *regs)
{
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)regs->rip, NULL);
    return errno == 0 && (text & 0xffff) == 0x050f ? (int)regs->rax : -1;
}

static bool in_range(const struct range *range, uint64_t address)
{
    return address >= range->begin && address < range->end;
}

static bool watched_changed(struct child *t)
{
    bool changed = false;
    for (size_t i = 0; i < t->n_watched; i++) {
        struct watched *w = &t->watched[i];
        if (memcmp(w->copy, w->memory, w->size) == 0)
            continue;
        memcpy(w->copy, w->memory, w->size);
        changed = true;
    }
    return changed;
}

static void note(struct child *t, int what)
{
    if (t->effects < MAX_HISTORY) {
        t->history[t->effects] = what;
        t->moments[t->effects] = t->steps;
    }
    t->effects++;
}

/* ---- going on ------------------------------------------------------------------------------------------------------ */
/* Waits for its next stop; ASLEEP after `patience` of sleep.  -1: interrupted, or errno. */
static int next_stop(struct child *t, const struct way *way)
{
    for (int64_t end = 0;;) {
        int status;
        pid_t r = waitpid(t->pid, &status, __WALL);
        if (r == t->pid) {
            t->pending = false;
            t->gone = WIFEXITED(status) || WIFSIGNALED(status);
            t->status = status;
            return t->gone ? GONE : LIMIT;
        }
        if (errno != EINTR)
            return -1;
        if (way->interrupted(way->context))
            return -1;
        if (state_of(t->pid) != 'S')
            end = 0;
        else if (end == 0 && way->patience > 0)
            end = now() + way->patience;
        else if (now() >= end)
            return ASLEEP;
    }
}

/* The child says that its operation is over by SIGSTOP; seen at the signal, or before the system call that sends it. */
static bool at_the_end(struct child *t)
{
    return WSTOPSIG(t->status) == SIGSTOP;
}

static bool about_to_stop(struct child *t)
{
    struct user_regs_struct regs;
    return ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) == 0 && (int)regs.rdi == t->process && (int)regs.rdx == SIGSTOP;
}

static int go_on(struct child *t, int how)
{
    if (t->pending)
        return 0;
    if (ptrace(how, t->pid, NULL, (void *)(intptr_t)t->deliver) != 0)
        return -1;
    t->deliver = 0;
    t->pending = true;
    return 0;
}

/* LIMIT: it stands; -1: ptrace(2) failed; else why it does not. */
static int to_next_stop(struct child *t, int how, const struct way *way)
{
    return go_on(t, how) == 0 ? next_stop(t, way) : -1;
}

/* A stop that is no step: a signal on its way to the child, which gets it when it goes on. */
static bool is_signal(struct child *t)
{
    int signal_number = WSTOPSIG(t->status);
    if (signal_number == SIGTRAP || signal_number == (SIGTRAP | 0x80))
        return false;
    t->deliver = signal_number;
    return true;
}

/* At full speed, until so many system calls are done. */
static int pass_calls(struct child *t, const struct way *way)
{
    while (t->calls < way->calls) {
        int why = to_next_stop(t, PTRACE_SYSCALL, way);
        if (why != LIMIT)
            return why;
        if (at_the_end(t))
            return END;
        if (is_signal(t) || WSTOPSIG(t->status) == SIGTRAP)
            continue;
        t->in_call = !t->in_call;
        if (t->in_call)
            continue;
        t->calls++;
        t->steps = t->effects = 0;
    }
    return LIMIT;
}

/* At full speed to an instruction; CALL: a system call comes first, and it stands at its entry.
 *
 * A breakpoint in the child's own copy of the page does it.  By itself the child would come by there in so many steps. */
static int leap(struct child *t, const struct way *way)
{
    uint64_t address = (uint64_t)way->leap;
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, t->pid, (void *)address, NULL);
    if (errno != 0 || ptrace(PTRACE_POKETEXT, t->pid, (void *)address, (void *)((text & ~0xffL) | 0xcc)) != 0)
        return -1;
    int why;
    for (;;) {
        why = to_next_stop(t, PTRACE_SYSCALL, way);
        if (why != LIMIT)
            return why; /* gone: there is nothing to be mended */
        if (at_the_end(t) || !is_signal(t))
            break;
    }
    if (ptrace(PTRACE_POKETEXT, t->pid, (void *)address, (void *)text) != 0)
        return -1;
    if (at_the_end(t))
        return END;
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) != 0)
        return -1;
    if (WSTOPSIG(t->status) == (SIGTRAP | 0x80)) {
        t->in_call = true;
        t->call = (int)regs.orig_rax;
        return t->call == SYS_tgkill && about_to_stop(t) ? END : CALL;
    }
    regs.rip = address;
    if (ptrace(PTRACE_SETREGS, t->pid, NULL, &regs) != 0)
        return -1;
    t->steps = way->leapt;
    return LIMIT;
}

static bool keep_trace(struct child *t, uint64_t address)
{
    if (t->n_trace == t->room) {
        size_t room = t->room == 0 ? 4096 : 2 * t->room;
        uint64_t *more = room > MAX_TRACE ? NULL : realloc(t->trace, room * sizeof *more);
        if (more == NULL)
            return false;
        t->trace = more;
        t->room = room;
    }
    t->trace[t->n_trace++] = address;
    return true;
}

/* By single instructions; with a limit of calls no further than the next system call.
 *
 * Where `aside` is, what changes is another's doing, and is taken for granted when the child leaves it; no system call
 * is looked for there. */
static int walk(struct child *t, const struct way *way)
{
    bool by_calls = way->calls >= 0, looks = way->effects >= 0, slept = false;
    if (looks && t->effects == 0 && t->steps == 0)
        watched_changed(t); /* the copy is of this moment */
    for (;;) {
        int call = STORE;
        if (!t->pending) {
            struct user_regs_struct regs = {0};
            if ((by_calls || looks || way->traced) && ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) != 0)
                return -1;
            bool was_aside = t->stands_aside;
            t->stands_aside = in_range(&t->aside, regs.rip);
            if (looks && was_aside && !t->stands_aside)
                watched_changed(t);
            if ((by_calls || looks) && !t->stands_aside)
                call = t->call = next_system_call(t->pid, &regs);
            if (by_calls && call >= 0)
                return call == SYS_tgkill && about_to_stop(t) ? END : CALL;
            if ((way->steps >= 0 && t->steps >= way->steps) || (looks && t->effects >= way->effects))
                return LIMIT;
            if (way->traced && !keep_trace(t, regs.rip))
                return LIMIT; /* longer than anything that is worth a step */
            if (go_on(t, PTRACE_SINGLESTEP) != 0)
                return -1;
        } else {
            slept = true; /* what it comes back with is an effect */
        }
        int why = next_stop(t, way);
        if (why != LIMIT)
            return why;
        if (at_the_end(t))
            return END;
        if (is_signal(t))
            continue;
        t->steps++;
        if (!looks)
            continue;
        bool changed = !t->stands_aside && watched_changed(t);
        if (changed || call >= 0 || slept)
            note(t, call);
        slept = false;
    }
}

static int run(struct child *t, const struct way *way)
{
    for (;;) {
        int why = to_next_stop(t, PTRACE_CONT, way);
        if (why != LIMIT)
            return why;
        if (at_the_end(t))
            return END;
        is_signal(t);
    }
}

static int go(struct child *t, const struct way *way)
{
    if (way->at_full_speed)
        return run(t, way);
    if (way->calls >= 0) {
        int why = pass_calls(t, way);
        if (why != LIMIT)
            return why;
    }
    if (way->leap != 0 && t->steps == 0 && !t->pending) {
        int why = leap(t, way);
        if (why != LIMIT)
            return why;
    }
    return walk(t, way);
}

int child_go(struct child *t, const struct way *way)
{
    timer_t timer;
    if (ticks_begin(&timer) != 0)
        return -1;
    int why = go(t, way);
    int error = errno;
    timer_delete(timer);
    errno = error;
    return why;
}

/* ---- its end, and where it stands ---------------------------------------------------------------------------------- */
static int wait_for_end(pid_t pid)
{
    int status = 0;
    for (;;) {
        pid_t r = waitpid(pid, &status, __WALL);
        if ((r < 0 && errno != EINTR) || (r == pid && (WIFEXITED(status) || WIFSIGNALED(status))))
            return status;
    }
}

void child_kill(struct child *t)
{
    bool has_more = t->process != t->pid; /* threads, which its own end has not ended */
    if (t->pid <= 0 || t->over || (t->gone && !has_more))
        return;
    kill(t->process, SIGKILL);
    if (!t->gone)
        t->status = wait_for_end(t->pid);
    if (has_more)
        wait_for_end(t->process);
    t->gone = t->over = true;
    t->pending = false;
}

/* Its next instruction is exit(2). */
static int exits_next(struct child *t)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) != 0)
        return -1;
    regs.rdi = 0;
    if (t->in_call) { /* it stands at the entry of another */
        regs.orig_rax = SYS_exit;
        return (int)ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
    }
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, t->pid, (void *)regs.rip, NULL);
    if (errno != 0 || ptrace(PTRACE_POKETEXT, t->pid, (void *)regs.rip, (void *)((text & ~0xffffL) | 0x050f)) != 0)
        return -1;
    regs.rax = SYS_exit;
    regs.orig_rax = (unsigned long long)-1; /* what it sleeps in is not begun again */
    return (int)ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
}

/* From its sleep to a stop. */
static int stop(struct child *t)
{
    if (syscall(SYS_tgkill, t->process, t->pid, SIGSTOP) != 0)
        return -1;
    for (;;) {
        if (waitpid(t->pid, &t->status, __WALL) != t->pid) {
            if (errno != EINTR)
                return -1;
            continue;
        }
        t->gone = !WIFSTOPPED(t->status);
        if (t->gone || at_the_end(t))
            break;
        if (ptrace(PTRACE_CONT, t->pid, NULL, NULL) != 0)
            return -1;
    }
    t->in_call = t->pending = false;
    return 0;
}

int child_end_thread(struct child *t)
{
    if (t->pending && stop(t) != 0)
        return -1;
    if (t->gone)
        return 0;
    if (exits_next(t) != 0 || ptrace(PTRACE_CONT, t->pid, NULL, NULL) != 0)
        return -1;
    t->status = wait_for_end(t->pid);
    t->gone = true;
    return 0;
}

bool child_pc(const struct child *t, uint64_t *pc)
{
    struct user_regs_struct regs;
    if (t->gone || t->pending || ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) != 0)
        return false;
    *pc = regs.rip;
    return true;
}
