/* _step.c: the module syncx.testing._step: a child that its parent takes on by single machine instructions.
 *
 * The child calls between(operation), which stops it before and after the operation.  The parent makes a Tracee of it,
 * takes it some instructions or some effects further (walk), or to the end (run), and kills it (kill).  How it goes on
 * is in _trace.c.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_trace.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const why_names[] = {"limit", "asleep", "end", "gone", "call"};

typedef struct {
    PyObject_HEAD
    struct child child;
    size_t n_views;
    Py_buffer *views; /* of what child.watched is */
} Tracee;

/* ---- the type ------------------------------------------------------------------------------------------------------ */
static bool is_there(Tracee *t)
{
    if (!t->child.gone && t->child.pid > 0)
        return true;
    PyErr_SetString(PyExc_ValueError, "the child has ended");
    return false;
}

/* Runs Python's signal handlers; context: the thread's state, while others have the interpreter. */
static bool interrupted(void *context)
{
    PyThreadState **unlocked = context;
    PyEval_RestoreThread(*unlocked);
    int raised = PyErr_CheckSignals();
    *unlocked = PyEval_SaveThread();
    return raised != 0;
}

static PyObject *went(Tracee *t, struct way *way)
{
    if (!is_there(t))
        return NULL;
    PyThreadState *unlocked = PyEval_SaveThread();
    way->interrupted = interrupted;
    way->context = &unlocked;
    int why = child_go(&t->child, way);
    int error = errno;
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

static PyObject *Tracee_kill(Tracee *self, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS child_kill(&self->child);
    Py_END_ALLOW_THREADS return PyLong_FromLong(self->child.status);
}

static PyObject *Tracee_signal(Tracee *self, PyObject *number)
{
    int n = (int)PyLong_AsLong(number);
    if (PyErr_Occurred() || !is_there(self))
        return NULL;
    if (syscall(SYS_tgkill, self->child.process, self->child.pid, n) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *Tracee_end_thread(Tracee *self, PyObject *unused)
{
    (void)unused;
    int r;
    if (!is_there(self))
        return NULL;
    if (self->child.process == self->child.pid) {
        PyErr_SetString(PyExc_ValueError, "the traced thread is the first one of its process: kill() ends both");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS r = child_end_thread(&self->child);
    Py_END_ALLOW_THREADS if (r != 0) return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *Tracee_pc(Tracee *self, void *unused)
{
    (void)unused;
    uint64_t pc;
    if (!child_pc(&self->child, &pc))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(pc);
}

/* One number for each effect that is remembered. */
static PyObject *of_effects(const struct child *t, const int64_t *numbers)
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
    return of_effects(&self->child, self->child.history);
}

static PyObject *Tracee_moments(Tracee *self, void *unused)
{
    (void)unused;
    return of_effects(&self->child, self->child.moments);
}

static PyObject *Tracee_trace(Tracee *self, void *unused)
{
    (void)unused;
    PyObject *result = PyTuple_New((Py_ssize_t)self->child.n_trace);
    for (size_t i = 0; result != NULL && i < self->child.n_trace; i++) {
        PyObject *item = PyLong_FromUnsignedLongLong(self->child.trace[i]);
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
        return PyLong_FromLongLong(self->child.field);                                                                 \
    }
NUMBER(pid)
NUMBER(steps)
NUMBER(effects)
NUMBER(calls)
NUMBER(call)

static PyObject *Tracee_gone(Tracee *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->child.gone);
}

static PyObject *Tracee_status(Tracee *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(self->child.gone ? self->child.status : 0);
}

static void Tracee_dealloc(Tracee *self)
{
    PyTypeObject *type = Py_TYPE(self);
    child_kill(&self->child);
    for (size_t i = 0; i < self->n_views; i++) {
        PyBuffer_Release(&self->views[i]);
        PyMem_Free(self->child.watched[i].copy);
    }
    PyMem_Free(self->views);
    PyMem_Free(self->child.watched);
    free(self->child.trace);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool watch_all(Tracee *t, PyObject *buffers)
{
    PyObject *all = PySequence_Fast(buffers, "watched is a sequence of buffers");
    if (all == NULL)
        return false;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(all);
    struct child *c = &t->child;
    c->watched = PyMem_Calloc((size_t)n + 1, sizeof *c->watched);
    t->views = PyMem_Calloc((size_t)n + 1, sizeof *t->views);
    bool ok = c->watched != NULL && t->views != NULL;
    for (Py_ssize_t i = 0; ok && i < n; i++) {
        Py_buffer *view = &t->views[i];
        ok = PyObject_GetBuffer(PySequence_Fast_GET_ITEM(all, i), view, PyBUF_SIMPLE) == 0;
        if (!ok)
            break;
        t->n_views++;
        char *copy = PyMem_Malloc((size_t)view->len + 1);
        c->watched[i] = (struct watched){.memory = view->buf, .size = (size_t)view->len, .copy = copy};
        ok = copy != NULL;
        c->n_watched += ok;
    }
    if (!ok && !PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(all);
    return ok;
}

static PyObject *Tracee_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", "watched", "thread", "aside", NULL};
    int process, pid = 0, status;
    PyObject *watched = NULL;
    unsigned long long begin = 0, end = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|Oi(KK):Tracee", names, &process, &watched, &pid, &begin, &end))
        return NULL;
    if (process <= 0 || pid < 0) {
        PyErr_Format(PyExc_ValueError, "the pid of a child is positive, not %d", process <= 0 ? process : pid);
        return NULL;
    }
    if (pid == 0)
        pid = process;
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
    self->child.pid = pid;
    self->child.process = process;
    self->child.aside = (struct range){begin, end};
    self->child.status = status;
    self->child.gone = !WIFSTOPPED(status);
    if (self->child.gone) {
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
     "walk($self, /, steps=-1, effects=-1, patience=0.0, calls=-1, leap=0, leapt=0, traced=False)\n--\n\n"
     "Goes on at full speed until it has done `calls` system calls, then by single instructions until it has done\n"
     "`steps` of them or `effects`, counted from there, and not beyond the next system call.  Without `calls`: from "
     "the\n"
     "start, system calls or not.  leap: goes to that address at full speed, which are `leapt` steps.  traced: keeps\n"
     "the address of each step.\n\n"
     "Returns \"limit\"; \"call\": it stands before a system call; \"asleep\": it has slept in one for `patience` "
     "seconds,\n"
     "and a further walk goes on waiting for it; \"end\": the operation is over; \"gone\": it has ended."},
    {"run", (PyCFunction)(void *)Tracee_run, METH_VARARGS | METH_KEYWORDS,
     "run($self, /, patience=0.0)\n--\n\nGoes on at full speed to the end of the operation; returns as `walk` does."},
    {"kill", (PyCFunction)Tracee_kill, METH_NOARGS,
     "kill($self, /)\n--\n\nSIGKILL, and waits for its end.  Returns the wait status."},
    {"end_thread", (PyCFunction)Tracee_end_thread, METH_NOARGS,
     "end_thread($self, /)\n--\n\nEnds the traced thread where it is, by exit(2); its process lives on."},
    {"signal", (PyCFunction)Tracee_signal, METH_O,
     "signal($self, number, /)\n--\n\nSends it a signal, which it gets when it goes on."},
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
    {"status", (getter)Tracee_status, NULL, "Its wait status, once it has ended; 0 before.", NULL},
    {"pc", (getter)Tracee_pc, NULL, "The address of its next instruction; None while it is under way.", NULL},
    {"history", (getter)Tracee_history, NULL,
     "What the effects were: numbers of system calls, -1 for a change of watched memory or a sleep that is over.",
     NULL},
    {"moments", (getter)Tracee_moments, NULL, "After how many steps each of the effects was.", NULL},
    {"trace", (getter)Tracee_trace, NULL, "The addresses at which the steps of traced walks began.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Tracee_slots[] = {
    {Py_tp_doc,
     "Tracee(pid, watched=(), thread=0, aside=(0, 0))\n--\n\nA child of this thread that has called `between`, waited "
     "for.\n\n"
     "watched: buffers whose changes are effects.  thread: its thread that has called `in_thread`.  aside: addresses\n"
     "of code that changes none of them, from the first to behind the last.\n"
     "Dropping it kills the child."},
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
static PyObject *stepped(PyObject *operation, bool stops, int tells)
{
    long pid = getpid(), tid = syscall(SYS_gettid);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (tells >= 0 && write(tells, &tid, sizeof tid) != sizeof tid)
        return PyErr_SetFromErrno(PyExc_OSError);
    syscall(SYS_tgkill, pid, tid, SIGSTOP); /* raise(3) would be three effects more */
    PyObject *result = PyObject_CallNoArgs(operation);
    if (stops)
        syscall(SYS_tgkill, pid, tid, SIGSTOP);
    return result;
}

static PyObject *between(PyObject *module, PyObject *operation)
{
    (void)module;
    return stepped(operation, true, -1);
}

static PyObject *in_thread(PyObject *module, PyObject *args)
{
    (void)module;
    int tells, stops;
    PyObject *operation;
    if (!PyArg_ParseTuple(args, "ipO:in_thread", &tells, &stops, &operation))
        return NULL;
    return stepped(operation, stops, tells);
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
    {"in_thread", in_thread, METH_VARARGS,
     "in_thread(tells, stops, operation, /)\n--\n\nIn a thread of a child: as `between`.\n\n"
     "tells: a descriptor to which the thread's id is written, eight bytes, when its parent traces it.  stops: False:\n"
     "without the second stop, so that the end to step to is the thread's."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    if (ticks_prepare() != 0) {
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
