/* py_barrier.c: the base type of Barrier.  barrier.py gives it its constructor, names and pickling. */
#include "py_common.h"
#include <structmember.h>

typedef struct {
    HANDLE_HEAD;
    PyObject *action; /* NULL: none */
} BarrierObject;

static struct sx_barrier *barrier(BarrierObject *self)
{
    return (struct sx_barrier *)self->object.cell;
}

static enum sx_status usable(BarrierObject *self)
{
    return closed(self) ? SX_CLOSED : outlived(self) ? SX_RETIRED : SX_OK;
}

/* The exception for a status; of a broken barrier with the pid of the party that died, if one did. */
static PyObject *barrier_error(BarrierObject *self, enum sx_status s)
{
    long detail = 0;
    if (s == SX_BROKEN && outlived(self)) /* it was begun anew in another arena */
        s = SX_RETIRED;
    else if (s == SX_BROKEN)
        detail = (long)sx_barrier_victim(barrier(self));
    else if (s == SX_TIMEOUT)
        s = SX_BROKEN, detail = -1;
    return sx_raise(self->state, s, (PyObject *)self, detail);
}

/* Calls of the core that may not be interrupted; an exception that is set stays. */
static enum sx_status complete(BarrierObject *self, const struct sx_arrival *a, bool well)
{
    bool quiet = sx_quiet;
    sx_quiet = true;
    enum sx_status s = sx_barrier_complete(self->core, barrier(self), a, well);
    sx_quiet = quiet;
    return s;
}

static void forget(BarrierObject *self, const struct sx_arrival *a)
{
    bool quiet = sx_quiet;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    sx_quiet = true;
    sx_barrier_forget(self->core, barrier(self), a);
    sx_quiet = quiet;
    PyErr_Restore(type, value, traceback);
}

/* The last one runs the action, and lets all go; or breaks the barrier with the action's exception. */
static PyObject *act(BarrierObject *self, const struct sx_arrival *a)
{
    PyObject *action = self->action;
    Py_INCREF(action);
    PyObject *r = PyObject_CallNoArgs(action);
    Py_DECREF(action);
    if (r == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        complete(self, a, false);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    Py_DECREF(r);
    enum sx_status s = complete(self, a, true);
    return s == SX_OK ? PyLong_FromUnsignedLong(a->index) : barrier_error(self, s);
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /, timeout=None)\n--\n\n"
    "Wait until all parties have called wait(); the last to come runs the action first.\n\n"
    "timeout: seconds, a float, by the monotonic clock; None takes the barrier's own timeout, -1 waits for ever.\n\n"
    "Returns an int from 0 to parties - 1, different for each of the parties; where nobody is enrolled it is the "
    "order\n"
    "of arrival.  Raises BrokenBarrierError when the barrier is or gets broken: by a timeout, abort(), reset(), an\n"
    "action that raised, or the death of a party that had arrived or was enrolled; RuntimeError when all parties are\n"
    "enrolled and this thread is not; Gone if the barrier was unlinked; ValueError for a negative timeout or NaN;\n"
    "DeadlockError if it was chosen to end a deadlock; OverflowError above threading.TIMEOUT_MAX.  What the action "
    "raises goes on in the thread that ran it.  A signal\n"
    "handler that raises takes the arrival back.");

static PyObject *barrier_wait(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    BarrierObject *self = (BarrierObject *)op;
    int64_t deadline;
    if (sx_parse_wait(args, n, names, "wait", &deadline) < 0)
        return NULL;
    bool given = n + (names == NULL ? 0 : PyTuple_GET_SIZE(names)) != 0 && args[0] != Py_None;
    if (!given && self->patience != SX_NEVER)
        deadline = sx_after(self->patience);
    struct sx_arrival a;
    PyObject *result = NULL;
    enum sx_status s = usable(self);
    if (s != SX_OK)
        return barrier_error(self, s);
    enum sx_barrier_use use = self->action == NULL ? SX_BARRIER_WAIT : SX_BARRIER_ACT;
    HANDLE_BEGIN(self);
    struct sx_wish outer_wish = sx_wish;
    sx_wish = (struct sx_wish){wish_of(self), self};
    s = sx_barrier_wait(self->core, barrier(self), deadline, use, &a);
    sx_wish = outer_wish;
    if (s == SX_INTERRUPTED)
        forget(self, &a);
    if (s == SX_OK && a.last && use == SX_BARRIER_ACT)
        result = act(self, &a);
    else if (s == SX_OK)
        result = PyLong_FromUnsignedLong(a.index);
    else if (s == SX_TOO_MANY)
        PyErr_Format(PyExc_RuntimeError,
                     "all %u parties of %R are enrolled, and this thread is none of them; make the barrier for more "
                     "parties, or let one withdraw()",
                     self->object.cell->parameter, op);
    else
        barrier_error(self, s);
    HANDLE_END(self);
    return result;
}

/* _enroll() */
static PyObject *barrier_enroll(PyObject *op, PyObject *unused)
{
    (void)unused;
    BarrierObject *self = (BarrierObject *)op;
    struct sx_arrival a;
    enum sx_status s = usable(self);
    if (s == SX_OK) {
        HANDLE_BEGIN(self);
        s = sx_barrier_wait(self->core, barrier(self), SX_NEVER, SX_BARRIER_ENROL, &a);
        HANDLE_END(self);
    }
    if (s == SX_EXISTS)
        return PyErr_Format(PyExc_RuntimeError, "this thread is enrolled in %R already; withdraw() first", op);
    if (s == SX_TOO_MANY)
        return PyErr_Format(PyExc_RuntimeError,
                            "all %u parties of %R are enrolled; make the barrier for more parties, or let one "
                            "withdraw()",
                            self->object.cell->parameter, op);
    if (s != SX_OK)
        return barrier_error(self, s);
    Py_RETURN_NONE;
}

static enum sx_status withdraw(BarrierObject *self)
{
    enum sx_status s = usable(self);
    if (s == SX_OK) {
        HANDLE_BEGIN(self);
        s = sx_barrier_withdraw(self->core, barrier(self));
        HANDLE_END(self);
    }
    return s;
}

PyDoc_STRVAR(withdraw_doc,
             "withdraw($self, /)\n--\n\n"
             "End the calling thread's enrolment: its place is anybody's again.\n\n"
             "RuntimeError when it is not enrolled (a forked child is not); Gone if the barrier was unlinked.");

static PyObject *barrier_withdraw(PyObject *op, PyObject *unused)
{
    (void)unused;
    enum sx_status s = withdraw((BarrierObject *)op);
    if (s == SX_NOT_HELD)
        return PyErr_Format(PyExc_RuntimeError,
                            "this thread is not enrolled in %R; only the thread that called enroll() withdraws (a "
                            "forked child is not enrolled)",
                            op);
    if (s != SX_OK)
        return barrier_error((BarrierObject *)op, s);
    Py_RETURN_NONE;
}

/* _leave(): the end of `with barrier.enroll():`; nothing to do where the thread has withdrawn, or is a forked child, or
 * where the barrier was unlinked or closed. */
static PyObject *barrier_leave(PyObject *op, PyObject *unused)
{
    (void)unused;
    bool quiet = sx_quiet;
    sx_quiet = true;
    enum sx_status s = withdraw((BarrierObject *)op);
    sx_quiet = quiet;
    if (s != SX_OK && s != SX_NOT_HELD && s != SX_RETIRED && s != SX_CLOSED)
        return barrier_error((BarrierObject *)op, s);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc,
             "abort($self, /)\n--\n\n"
             "Break the barrier: all who wait, and all who come until a reset(), get BrokenBarrierError.\n\n"
             "Waits for nobody, and may be called by anybody, also in a signal handler.  Gone if the barrier was "
             "unlinked.");

static PyObject *barrier_abort(PyObject *op, PyObject *unused)
{
    (void)unused;
    BarrierObject *self = (BarrierObject *)op;
    enum sx_status s = usable(self);
    if (s == SX_OK)
        s = sx_barrier_abort(self->core, barrier(self));
    if (s != SX_OK)
        return barrier_error(self, s);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    reset_doc,
    "reset($self, /)\n--\n\n"
    "Make the barrier whole and empty: those who wait get BrokenBarrierError, and the next to come begin anew.\n\n"
    "Living threads stay enrolled; dead ones are struck off.  Gone if the barrier was unlinked.");

static PyObject *barrier_reset(PyObject *op, PyObject *unused)
{
    (void)unused;
    BarrierObject *self = (BarrierObject *)op;
    enum sx_status s = usable(self);
    if (s == SX_OK) {
        HANDLE_BEGIN(self);
        s = sx_barrier_reset(self->core, barrier(self));
        HANDLE_END(self);
    }
    if (s != SX_OK)
        return barrier_error(self, s);
    Py_RETURN_NONE;
}

static PyObject *barrier_n_waiting(PyObject *op, void *unused)
{
    (void)unused;
    BarrierObject *self = (BarrierObject *)op;
    bool broken;
    if (closed(self))
        return barrier_error(self, SX_CLOSED);
    return PyLong_FromUnsignedLong(sx_barrier_state(self->core, barrier(self), &broken));
}

static PyObject *barrier_broken(PyObject *op, void *unused)
{
    (void)unused;
    BarrierObject *self = (BarrierObject *)op;
    bool broken;
    if (closed(self))
        return barrier_error(self, SX_CLOSED);
    sx_barrier_state(self->core, barrier(self), &broken);
    return PyBool_FromLong(broken);
}

static PyObject *barrier_action(PyObject *op, void *unused)
{
    (void)unused;
    PyObject *action = ((BarrierObject *)op)->action;
    action = action == NULL ? Py_None : action;
    Py_INCREF(action);
    return action;
}

/* _set_action(callable or None) */
static PyObject *barrier_set_action(PyObject *op, PyObject *action)
{
    BarrierObject *self = (BarrierObject *)op;
    if (action != Py_None && !PyCallable_Check(action))
        return PyErr_Format(PyExc_TypeError, "action must be a callable without arguments, or None, not %.100s",
                            Py_TYPE(action)->tp_name);
    if (action == Py_None)
        action = NULL;
    Py_XINCREF(action);
    Py_XSETREF(self->action, action);
    Py_RETURN_NONE;
}

static const struct handle_methods methods = {.kinds = 1u << SX_KIND_BARRIER};

static PyObject *barrier_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static int barrier_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((BarrierObject *)op)->action);
    return sx_handle_traverse(op, visit, arg);
}

static int barrier_clear(PyObject *op)
{
    Py_CLEAR(((BarrierObject *)op)->action);
    return 0;
}

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"withdraw", barrier_withdraw, METH_NOARGS, withdraw_doc},
    {"abort", barrier_abort, METH_NOARGS, abort_doc},
    {"reset", barrier_reset, METH_NOARGS, reset_doc},
    {"_enroll", barrier_enroll, METH_NOARGS, NULL},
    {"_leave", barrier_leave, METH_NOARGS, NULL},
    {"_set_action", barrier_set_action, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    {"n_waiting", barrier_n_waiting, NULL, "How many parties wait now; 0 while the barrier is broken.", NULL},
    {"broken", barrier_broken, NULL,
     "True while wait() would raise BrokenBarrierError: since a timeout, an abort(), or a party's death, until "
     "reset().",
     NULL},
    {"action", barrier_action, NULL, "What this handle's wait() calls when it is the last to come, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot barrier_slots[] = {
    {Py_tp_new, barrier_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {0, NULL},
};

PyType_Spec sx_barrier_spec = {
    .name = "syncx._core.BaseBarrier",
    .basicsize = sizeof(BarrierObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = barrier_slots,
};
