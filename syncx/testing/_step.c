/* _step.c: a traced child that goes on by single machine instructions, and is killed where its parent likes.
 *
 * The child calls between(operation), which stops it before and after the operation.  The parent makes a Tracee of it,
 * takes it some instructions or some effects further (walk), or to the end (run), and kills it (kill).  An effect is
 * what others can see: a system call, or an instruction after which watched memory is not what it was before.
 *
 * waitpid(2) does not say that a traced child has fallen asleep in a system call.  So a timer interrupts it every half
 * millisecond while it waits, and the state in /proc/PID/stat tells.  ptrace(2) ties the child to the thread that
 * forked it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
#define MAX_HISTORY 4096
#define MAX_TRACE (1 << 20)
#define STORE (-1) /* in the history: not a system call, but a change of watched memory */

enum why { LIMIT, ASLEEP, END, GONE, CALL };
static const char *const why_names[] = {"limit", "asleep", "end", "gone", "call"};

struct watched {
    Py_buffer view;
    char *copy;
};

typedef struct {
    PyObject_HEAD
    pid_t pid;
    bool pending; /* it is under way to its next stop */
    bool in_call; /* it stands at the entry of a system call, or is under way from there */
    bool gone;
    int deliver; /* a signal that it gets with its next step */
    int status;  /* of waitpid, once it is gone */
    long long steps, effects, calls;
    int call; /* the system call that its next instruction makes, where a walk ended before one */
    size_t n_watched;
    struct watched *watched;
    int64_t history[MAX_HISTORY]; /* what the effects were */
    int64_t moments[MAX_HISTORY]; /* after how many steps each of them was */
    size_t n_trace, room;
    uint64_t *trace; /* where each step began, if that is wanted */
} Tracee;

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
static int next_system_call(pid_t pid)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
        return -1;
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)regs.rip, NULL);
    return errno == 0 && (text & 0xffff) == 0x050f ? (int)regs.rax : -1;
}

static bool watched_changed(Tracee *t)
{
    bool changed = false;
    for (size_t i = 0; i < t->n_watched; i++) {
        struct watched *w = &t->watched[i];
        if (memcmp(w->copy, w->view.buf, (size_t)w->view.len) == 0)
            continue;
        memcpy(w->copy, w->view.buf, (size_t)w->view.len);
        changed = true;
    }
    return changed;
}

static void note(Tracee *t, int what)
{
    if (t->effects < MAX_HISTORY) {
        t->history[t->effects] = what;
        t->moments[t->effects] = t->steps;
    }
    t->effects++;
}

/* ---- going on ------------------------------------------------------------------------------------------------------ */
/* Waits for its next stop; ASLEEP after `patience` of sleep.  -1: a Python exception (a signal handler's) or errno. */
static int next_stop(Tracee *t, int64_t patience, PyThreadState **unlocked)
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
        PyEval_RestoreThread(*unlocked);
        int raised = PyErr_CheckSignals();
        *unlocked = PyEval_SaveThread();
        if (raised)
            return -1;
        if (state_of(t->pid) != 'S')
            end = 0;
        else if (end == 0 && patience > 0)
            end = now() + patience;
        else if (now() >= end)
            return ASLEEP;
    }
}

/* The child says that its operation is over by SIGSTOP; seen at the signal, or before the system call that sends it. */
static bool at_the_end(Tracee *t)
{
    return WSTOPSIG(t->status) == SIGSTOP;
}

static bool about_to_stop(Tracee *t)
{
    struct user_regs_struct regs;
    return ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) == 0 && (int)regs.rdi == t->pid && (int)regs.rdx == SIGSTOP;
}

static int go_on(Tracee *t, int how)
{
    if (t->pending)
        return 0;
    if (ptrace(how, t->pid, NULL, (void *)(intptr_t)t->deliver) != 0)
        return -1;
    t->deliver = 0;
    t->pending = true;
    return 0;
}

/* A stop that is no step: a signal on its way to the child, which gets it when it goes on. */
static bool is_signal(Tracee *t)
{
    int signal_number = WSTOPSIG(t->status);
    if (signal_number == SIGTRAP || signal_number == (SIGTRAP | 0x80))
        return false;
    t->deliver = signal_number;
    return true;
}

/* At full speed, until so many system calls are done. */
static int pass_calls(Tracee *t, long long calls, int64_t patience, PyThreadState **unlocked)
{
    while (t->calls < calls) {
        if (go_on(t, PTRACE_SYSCALL) != 0)
            return -1;
        int why = next_stop(t, patience, unlocked);
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
static int leap(Tracee *t, uint64_t address, long long steps, int64_t patience, PyThreadState **unlocked)
{
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, t->pid, (void *)address, NULL);
    if (errno != 0 || ptrace(PTRACE_POKETEXT, t->pid, (void *)address, (void *)((text & ~0xffL) | 0xcc)) != 0)
        return -1;
    int why;
    for (;;) {
        if (go_on(t, PTRACE_SYSCALL) != 0)
            return -1;
        why = next_stop(t, patience, unlocked);
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
    t->steps = steps;
    return LIMIT;
}

static bool keep_trace(Tracee *t)
{
    struct user_regs_struct regs;
    if (t->n_trace == t->room) {
        size_t room = t->room == 0 ? 4096 : 2 * t->room;
        uint64_t *more = room > MAX_TRACE ? NULL : realloc(t->trace, room * sizeof *more);
        if (more == NULL)
            return false;
        t->trace = more;
        t->room = room;
    }
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) != 0)
        return false;
    t->trace[t->n_trace++] = regs.rip;
    return true;
}

/* By single instructions.  by_calls: no further than the next system call. */
static int walk(Tracee *t, long long steps, long long effects, bool by_calls, bool traced, int64_t patience,
                PyThreadState **unlocked)
{
    bool looks = effects >= 0, slept = false;
    if (looks && t->effects == 0 && t->steps == 0)
        watched_changed(t); /* the copy is of this moment */
    for (;;) {
        int call = STORE;
        if (!t->pending) {
            if (by_calls || looks)
                call = t->call = next_system_call(t->pid);
            if (by_calls && call >= 0)
                return call == SYS_tgkill && about_to_stop(t) ? END : CALL;
            if ((steps >= 0 && t->steps >= steps) || (looks && t->effects >= effects))
                return LIMIT;
            if (traced && !keep_trace(t))
                return LIMIT; /* longer than anything that is worth a step */
            if (go_on(t, PTRACE_SINGLESTEP) != 0)
                return -1;
        } else {
            slept = true; /* what it comes back with is an effect */
        }
        int why = next_stop(t, patience, unlocked);
        if (why != LIMIT)
            return why;
        if (at_the_end(t))
            return END;
        if (is_signal(t))
            continue;
        t->steps++;
        if (!looks)
            continue;
        bool changed = watched_changed(t);
        if (changed || call >= 0 || slept)
            note(t, call);
        slept = false;
    }
}

static int run(Tracee *t, int64_t patience, PyThreadState **unlocked)
{
    for (;;) {
        if (go_on(t, PTRACE_CONT) != 0)
            return -1;
        int why = next_stop(t, patience, unlocked);
        if (why != LIMIT)
            return why;
        if (at_the_end(t))
            return END;
        is_signal(t);
    }
}

/* ---- the type ------------------------------------------------------------------------------------------------------ */
static bool is_there(Tracee *t)
{
    if (!t->gone && t->pid > 0)
        return true;
    PyErr_SetString(PyExc_ValueError, "the child has ended");
    return false;
}

struct way {
    long long calls, steps, effects;
    long long leap; /* to this address at full speed, which is so many steps: */
    long long leapt;
    int64_t patience;
    bool at_full_speed, traced;
};

static int go(Tracee *t, const struct way *way, PyThreadState **unlocked)
{
    if (way->at_full_speed)
        return run(t, way->patience, unlocked);
    if (way->calls >= 0) {
        int why = pass_calls(t, way->calls, way->patience, unlocked);
        if (why != LIMIT)
            return why;
    }
    if (way->leap != 0 && t->steps == 0 && !t->pending) {
        int why = leap(t, (uint64_t)way->leap, way->leapt, way->patience, unlocked);
        if (why != LIMIT)
            return why;
    }
    return walk(t, way->steps, way->effects, way->calls >= 0, way->traced, way->patience, unlocked);
}

static PyObject *went(Tracee *t, const struct way *way)
{
    timer_t timer;
    if (!is_there(t))
        return NULL;
    if (ticks_begin(&timer) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyThreadState *unlocked = PyEval_SaveThread();
    int why = go(t, way, &unlocked);
    int error = errno;
    timer_delete(timer);
    PyEval_RestoreThread(unlocked);
    if (why >= 0)
        return PyUnicode_FromString(why_names[why]);
    errno = error;
    return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static bool patience_from(double seconds, int64_t *ns)
{
    if (!(seconds >= 0 && seconds <= 1e6)) {
        PyErr_SetString(PyExc_ValueError, "patience is a number of seconds from 0 to a million");
        return false;
    }
    *ns = (int64_t)(seconds * 1e9);
    return true;
}

static PyObject *Tracee_walk(Tracee *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"steps", "effects", "patience", "calls", "leap", "leapt", "traced", NULL};
    struct way way = {.calls = -1, .steps = -1, .effects = -1};
    double patience = 0;
    int traced = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|LLdLLLp:walk", names, &way.steps, &way.effects, &patience,
                                     &way.calls, &way.leap, &way.leapt, &traced) ||
        !patience_from(patience, &way.patience))
        return NULL;
    way.traced = traced;
    return went(self, &way);
}

static PyObject *Tracee_run(Tracee *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"patience", NULL};
    struct way way = {.at_full_speed = true};
    double patience = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|d:run", names, &patience) ||
        !patience_from(patience, &way.patience))
        return NULL;
    return went(self, &way);
}

static void reap(Tracee *t)
{
    int status = 0;
    if (t->gone || t->pid <= 0)
        return;
    kill(t->pid, SIGKILL);
    for (;;) {
        pid_t r = waitpid(t->pid, &status, __WALL);
        if ((r < 0 && errno != EINTR) || (r == t->pid && (WIFEXITED(status) || WIFSIGNALED(status))))
            break;
    }
    t->gone = true;
    t->pending = false;
    t->status = status;
}

static PyObject *Tracee_kill(Tracee *self, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS reap(self);
    Py_END_ALLOW_THREADS return PyLong_FromLong(self->status);
}

static PyObject *Tracee_signal(Tracee *self, PyObject *number)
{
    int n = (int)PyLong_AsLong(number);
    if (PyErr_Occurred() || !is_there(self))
        return NULL;
    if (kill(self->pid, n) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *Tracee_pc(Tracee *self, void *unused)
{
    (void)unused;
    struct user_regs_struct regs;
    if (self->gone || self->pending || ptrace(PTRACE_GETREGS, self->pid, NULL, &regs) != 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(regs.rip);
}

/* One number for each effect that is remembered. */
static PyObject *of_effects(Tracee *t, const int64_t *numbers)
{
    Py_ssize_t n = t->effects < MAX_HISTORY ? (Py_ssize_t)t->effects : MAX_HISTORY;
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; result != NULL && i < n; i++) {
        PyObject *item = PyLong_FromLongLong(numbers[i]);
        if (item == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyTuple_SET_ITEM(result, i, item);
    }
    return result;
}

static PyObject *Tracee_history(Tracee *self, void *unused)
{
    (void)unused;
    return of_effects(self, self->history);
}

static PyObject *Tracee_moments(Tracee *self, void *unused)
{
    (void)unused;
    return of_effects(self, self->moments);
}

static PyObject *Tracee_trace(Tracee *self, void *unused)
{
    (void)unused;
    PyObject *result = PyTuple_New((Py_ssize_t)self->n_trace);
    for (size_t i = 0; result != NULL && i < self->n_trace; i++) {
        PyObject *item = PyLong_FromUnsignedLongLong(self->trace[i]);
        if (item == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyTuple_SET_ITEM(result, (Py_ssize_t)i, item);
    }
    return result;
}

#define NUMBER(field)                                                                                                  \
    static PyObject *Tracee_##field(Tracee *self, void *unused)                                                        \
    {                                                                                                                  \
        (void)unused;                                                                                                  \
        return PyLong_FromLongLong(self->field);                                                                       \
    }
NUMBER(pid)
NUMBER(steps)
NUMBER(effects)
NUMBER(calls)
NUMBER(call)

static PyObject *Tracee_gone(Tracee *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->gone);
}

static void Tracee_dealloc(Tracee *self)
{
    PyTypeObject *type = Py_TYPE(self);
    reap(self);
    for (size_t i = 0; i < self->n_watched; i++) {
        PyBuffer_Release(&self->watched[i].view);
        PyMem_Free(self->watched[i].copy);
    }
    PyMem_Free(self->watched);
    free(self->trace);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool watch_all(Tracee *t, PyObject *buffers)
{
    PyObject *all = PySequence_Fast(buffers, "watched is a sequence of buffers");
    if (all == NULL)
        return false;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(all);
    t->watched = PyMem_Calloc((size_t)n + 1, sizeof *t->watched);
    bool ok = t->watched != NULL;
    for (Py_ssize_t i = 0; ok && i < n; i++) {
        struct watched *w = &t->watched[i];
        ok = PyObject_GetBuffer(PySequence_Fast_GET_ITEM(all, i), &w->view, PyBUF_SIMPLE) == 0;
        if (!ok)
            break;
        t->n_watched++;
        ok = (w->copy = PyMem_Malloc((size_t)w->view.len + 1)) != NULL;
    }
    if (!ok && !PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(all);
    return ok;
}

static PyObject *Tracee_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", "watched", NULL};
    int pid, status;
    PyObject *watched = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|O:Tracee", names, &pid, &watched))
        return NULL;
    if (pid <= 0) {
        PyErr_Format(PyExc_ValueError, "the pid of a child is positive, not %d", pid);
        return NULL;
    }
    Tracee *self = (Tracee *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    pid_t r;
    do {
        Py_BEGIN_ALLOW_THREADS r = waitpid(pid, &status, __WALL);
        Py_END_ALLOW_THREADS
    } while (r < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (r < 0) {
        if (!PyErr_Occurred())
            PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    self->pid = pid;
    self->status = status;
    self->gone = !WIFSTOPPED(status);
    if (self->gone) {
        PyErr_Format(PyExc_RuntimeError, "the child ended before its operation (wait status %#x)", status);
    } else if (WSTOPSIG(status) != SIGSTOP) {
        PyErr_Format(PyExc_RuntimeError, "the child stopped by signal %d before its operation", WSTOPSIG(status));
    } else if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) !=
               0) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else if (watched == NULL || watch_all(self, watched)) {
        return (PyObject *)self;
    }
    Py_DECREF(self);
    return NULL;
}

static PyMethodDef Tracee_methods[] = {
    {"walk", (PyCFunction)(void *)Tracee_walk, METH_VARARGS | METH_KEYWORDS,
     "walk(steps=-1, effects=-1, patience=0.0, calls=-1, leap=0, leapt=0, traced=False)\n--\n\n"
     "Goes on at full speed until it has done `calls` system calls, then by single instructions until it has done\n"
     "`steps` of them or `effects`, counted from there, and not beyond the next system call.  Without `calls`: from "
     "the\n"
     "start, system calls or not.  leap: goes to that address at full speed, which are `leapt` steps.  traced: keeps\n"
     "the address of each step.\n\n"
     "Returns \"limit\"; \"call\": it stands before a system call; \"asleep\": it has slept in one for `patience` "
     "seconds,\n"
     "and a further walk goes on waiting for it; \"end\": the operation is over; \"gone\": it has ended."},
    {"run", (PyCFunction)(void *)Tracee_run, METH_VARARGS | METH_KEYWORDS,
     "run(patience=0.0)\n--\n\nGoes on at full speed to the end of the operation; returns as `walk` does."},
    {"kill", (PyCFunction)Tracee_kill, METH_NOARGS,
     "kill()\n--\n\nSIGKILL, and waits for its end.  Returns the wait status."},
    {"signal", (PyCFunction)Tracee_signal, METH_O,
     "signal(number, /)\n--\n\nSends it a signal, which it gets when it goes on."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Tracee_getset[] = {
    {"pid", (getter)Tracee_pid, NULL, "Of the child.", NULL},
    {"steps", (getter)Tracee_steps, NULL, "Instructions done since the operation began, or since the last of `calls`.",
     NULL},
    {"effects", (getter)Tracee_effects, NULL, "Effects counted since then.", NULL},
    {"calls", (getter)Tracee_calls, NULL, "System calls done, where a walk counted them.", NULL},
    {"call", (getter)Tracee_call, NULL, "The number of the system call before which a walk ended; -1: none.", NULL},
    {"gone", (getter)Tracee_gone, NULL, "Whether it has ended.", NULL},
    {"pc", (getter)Tracee_pc, NULL, "The address of its next instruction; None while it is under way.", NULL},
    {"history", (getter)Tracee_history, NULL,
     "What the effects were: numbers of system calls, -1 for a change of watched memory or a sleep that is over.",
     NULL},
    {"moments", (getter)Tracee_moments, NULL, "After how many steps each of the effects was.", NULL},
    {"trace", (getter)Tracee_trace, NULL, "The addresses at which the steps of traced walks began.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Tracee_slots[] = {
    {Py_tp_doc, "Tracee(pid, watched=())\n--\n\nA child of this thread that has called `between`, waited for.\n\n"
                "watched: buffers whose changes are effects.  Dropping it kills the child."},
    {Py_tp_new, Tracee_new},
    {Py_tp_dealloc, Tracee_dealloc},
    {Py_tp_methods, Tracee_methods},
    {Py_tp_getset, Tracee_getset},
    {0, NULL},
};

static PyType_Spec Tracee_spec = {
    .name = "syncx.testing._step.Tracee",
    .basicsize = sizeof(Tracee),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Tracee_slots,
};

/* ---- the child's side ------------------------------------------------------------------------------------------------ */
static PyObject *between(PyObject *module, PyObject *operation)
{
    (void)module;
    long pid = getpid(), tid = syscall(SYS_gettid);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    syscall(SYS_tgkill, pid, tid, SIGSTOP); /* raise(3) would be three effects more */
    PyObject *result = PyObject_CallNoArgs(operation);
    syscall(SYS_tgkill, pid, tid, SIGSTOP);
    return result;
}

/* Its death is the child's, also if it has died already: PTRACE_TRACEME would make the next parent the tracer. */
static PyObject *die_with(PyObject *module, PyObject *parent)
{
    (void)module;
    long pid = PyLong_AsLong(parent);
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != pid)
        kill(getpid(), SIGKILL);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"die_with", die_with, METH_O,
     "die_with(parent, /)\n--\n\nIn a child: SIGKILL when that process ends, or now if it has ended."},
    {"between", between, METH_O,
     "between(operation, /)\n--\n\nIn a child: has the parent trace it, and calls `operation` between two stops."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    struct sigaction action = {.sa_handler = on_tick};
    if (sigaction(TICK_SIGNAL, &action, NULL) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    PyObject *type = PyType_FromSpec(&Tracee_spec);
    if (type == NULL)
        return -1;
    int r = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return r;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_step",
    .m_doc = "A traced child, one machine instruction at a time.  Use syncx.testing.stepping.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__step(void)
{
    return PyModuleDef_Init(&definition);
}
