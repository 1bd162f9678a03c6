/* py_condition.c: the base type of Condition.  condition.py gives it its constructor, its lock and pickling. */
#include "py_common.h"
#include <structmember.h>

typedef struct {
    HANDLE_HEAD;
    struct sx_condition *condition;
    MutexObject *lock; /* NULL until _join */
} ConditionObject;

/* The first exception of a wait, which is raised once the lock is held again. */
struct raised {
    PyObject *type, *value, *traceback;
};

static void keep(ConditionObject *self, struct raised *kept)
{
    if (kept->type == NULL)
        PyErr_Fetch(&kept->type, &kept->value, &kept->traceback);
    else
        PyErr_WriteUnraisable((PyObject *)self);
}

/* An exception that is set already is worth more. */
static void let_go(ConditionObject *self, struct raised *kept)
{
    struct raised better;
    if (kept->type == NULL)
        return;
    PyErr_Fetch(&better.type, &better.value, &better.traceback);
    PyErr_Restore(kept->type, kept->value, kept->traceback);
    PyErr_WriteUnraisable((PyObject *)self);
    PyErr_Restore(better.type, better.value, better.traceback);
}

static PyObject *fail(ConditionObject *self, enum sx_status s)
{
    if (s == SX_TOO_MANY)
        return PyErr_Format(PyExc_RuntimeError, "signal handlers wait within waits, %u deep: no more", SX_WAITS);
    if (s == SX_CLOSED && !closed(self) && self->lock != NULL)
        return sx_raise(self->state, s, (PyObject *)self->lock, 0);
    return sx_raise(self->state, s, (PyObject *)self, s == SX_NOT_OWNER);
}

/* May the calling thread wait and notify? */
static enum sx_status ready(ConditionObject *self)
{
    if (closed(self) || self->lock == NULL || closed(self->lock))
        return SX_CLOSED;
    if (outlived(self) || outlived(self->lock))
        return SX_RETIRED;
    return is_owned(self->lock) ? SX_OK : SX_NOT_OWNER;
}

/* Until the lock is held, whatever handlers raise meanwhile.  A wait that is to raise is over at once: its notification,
 * if it has one, must not wait for the lock. */
static enum sx_status lock_again(ConditionObject *self, struct sx_waiter *w, struct raised *kept)
{
    enum sx_status s;
    while ((s = sx_mutex_lock_again(self->lock)) == SX_INTERRUPTED) {
        keep(self, kept);
        sx_condition_leave(w);
    }
    return s;
}

/* The lock is held.  1: notified; 0: the time is over; -1: an exception. */
static int wait_once(ConditionObject *self, int64_t deadline)
{
    for (;;) {
        struct sx_waiter w;
        struct raised kept = {NULL, NULL, NULL};
        uint32_t depth = 0;
        int told = 0;
        enum sx_status slept = sx_condition_enrol(self->core, self->condition, deadline, &w);
        if (slept != SX_OK) {
            fail(self, slept);
            return -1;
        }
        slept = sx_mutex_release_save(self->lock, &depth, &told);
        if (slept != SX_OK) {
            sx_condition_leave(&w);
            fail(self, slept);
            return -1;
        }
        if (told < 0) /* telling of a dead owner ended so; the lock is released */
            keep(self, &kept);
        else
            slept = sx_condition_sleep(&w);
        if (slept == SX_INTERRUPTED)
            keep(self, &kept);
        if (kept.type != NULL || (slept != SX_OK && slept != SX_TIMEOUT))
            sx_condition_leave(&w);

        enum sx_status locked = lock_again(self, &w, &kept);
        if (sx_mutex_after_restore(self->lock, locked, depth) < 0) {
            sx_condition_leave(&w);
            let_go(self, &kept);
            return -1;
        }
        if (kept.type != NULL) {
            PyErr_Restore(kept.type, kept.value, kept.traceback);
            return -1;
        }
        if (slept == SX_TIMEOUT)
            return 0;
        if (slept != SX_OK && slept != SX_BUSY) {
            fail(self, slept);
            return -1;
        }
        if (slept == SX_OK && sx_condition_mine(&w)) {
            sx_condition_consume(&w);
            return 1;
        }
        /* A handler forked, and we are the child: what was notified is the parent.  We hold the lock as ourselves. */
        sx_condition_leave(&w);
    }
}

static int wait_until(ConditionObject *self, int64_t deadline)
{
    enum sx_status s = ready(self);
    if (s != SX_OK) {
        fail(self, s);
        return -1;
    }
    MutexObject *lock = self->lock;
    /* the lock will be asked for again, under all else that the thread holds: an order that must not be is told here */
    if (sx_noting() &&
        sx_note_wanted(&(struct note){(HandleObject *)lock, SX_ORDER_AGAIN, 1, .deadline = SX_NEVER}) < 0)
        return -1;
    HANDLE_BEGIN(self);
    HANDLE_BEGIN(lock);
    int r = wait_once(self, deadline);
    HANDLE_END(lock);
    HANDLE_END(self);
    return r;
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /, timeout=None)\n--\n\n"
    "Release the lock, however deep it is held, sleep until notified, and acquire it again as deep as before.\n\n"
    "timeout: seconds until the wait is given up, a float, by the monotonic clock; None or -1 wait for ever.  "
    "Acquiring\n"
    "the lock again is not part of it.\n\n"
    "Returns True when notified, False when the time is over.  There are no other reasons.  Raises NotOwner, a\n"
    "RuntimeError, unless the calling thread holds the lock; Gone if the condition was unlinked; RuntimeError if "
    "signal\n"
    "handlers wait within waits too deep; ValueError and OverflowError for a bad timeout, like acquire.\n\n"
    "Signal handlers run while it waits.  One that raises ends the wait: the lock is acquired again, then the "
    "exception\n"
    "goes on, and a notification that had come goes to the next in line.  While the lock is being acquired again\n"
    "handlers run too, but the first exception is kept until the lock is held; later ones are reported as unraisable.\n"
    "A handler that forks: the child goes on waiting, as a waiter of its own.  If the lock's owner died meanwhile,\n"
    "owner_died is true on return, and the lock's on_owner_death is heeded; under \"raise\" too the lock is held.");

static PyObject *condition_wait(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int64_t deadline = SX_NEVER;
    if ((n != 0 || names != NULL) && sx_parse_wait(args, n, names, "wait", &deadline) < 0)
        return NULL;
    int r = wait_until((ConditionObject *)op, deadline);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

PyDoc_STRVAR(
    wait_for_doc,
    "wait_for($self, /, predicate, timeout=None)\n--\n\n"
    "Wait until predicate() is true: it is called with the lock held, at first and after each notification.\n\n"
    "predicate: a callable without arguments.\n"
    "timeout: seconds for all of it; None or -1 wait for ever.\n\n"
    "Returns what the predicate returned last: something false means that the time is over.  Raises what it "
    "raises,\n"
    "and what wait() raises.");

static PyObject *condition_wait_for(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    ConditionObject *self = (ConditionObject *)op;
    PyObject *given[2] = {NULL, NULL};
    for (Py_ssize_t i = 0; i < n && i < 2; i++)
        given[i] = args[i];
    bool bad = n > 2;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names) && !bad; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int which = PyUnicode_CompareWithASCIIString(name, "predicate") == 0 ? 0
                    : PyUnicode_CompareWithASCIIString(name, "timeout") == 0 ? 1
                                                                             : -1;
        bad = which < 0 || given[which] != NULL;
        if (!bad)
            given[which] = args[n + i];
    }
    if (bad || given[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "wait_for() takes a predicate and, optionally, a timeout");
        return NULL;
    }
    if (!PyCallable_Check(given[0]))
        return PyErr_Format(PyExc_TypeError, "the predicate must be callable, not %.100s", Py_TYPE(given[0])->tp_name);
    int64_t deadline;
    if (sx_deadline(NULL, given[1], &deadline) < 0)
        return NULL;
    for (bool waited = false;; waited = true) {
        PyObject *result = PyObject_CallNoArgs(given[0]);
        int truth = result == NULL ? -1 : PyObject_IsTrue(result);
        if (truth > 0 || (truth == 0 && waited && deadline != SX_NEVER && deadline <= sx_now()))
            return result;
        Py_XDECREF(result);
        if (truth < 0 || wait_until(self, deadline) < 0)
            return NULL;
    }
}

static PyObject *notify(ConditionObject *self, uint32_t n)
{
    enum sx_status s = ready(self);
    if (s != SX_OK)
        return fail(self, s);
    sx_condition_notify(self->core, self->condition, self->lock->mutex, n);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    notify_doc,
    "notify($self, /, n=1)\n--\n\n"
    "Wake the n threads that have waited longest, or all if there are fewer.\n\n"
    "n: how many, 1 or more (ValueError).  Each wakes once it has the lock again, which the caller still "
    "holds.\n"
    "Threads that died do not count, and if one of the chosen dies before its wait() has returned, the next in "
    "line gets\n"
    "its notification, at the latest about 100 ms later.  Raises NotOwner, a RuntimeError, unless the calling "
    "thread\n"
    "holds the lock.");

static PyObject *condition_notify(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    uint32_t count = 1;
    Py_ssize_t keywords = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (n + keywords > 1 || (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "n") != 0)) {
        PyErr_SetString(PyExc_TypeError, "notify() takes one argument at most: n=1");
        return NULL;
    }
    if (n + keywords == 1 && sx_parse_count(args[0], "n", SX_MAX_UNITS, &count) < 0)
        return NULL;
    return notify((ConditionObject *)op, count);
}

static PyObject *condition_notify_all(PyObject *op, PyObject *unused)
{
    (void)unused;
    return notify((ConditionObject *)op, UINT32_MAX);
}

/* ---- the lock --------------------------------------------------------------------------------------------- */

/* The lock, for a call that is handed to it; NULL with an exception. */
static MutexObject *lock_of(PyObject *op)
{
    ConditionObject *self = (ConditionObject *)op;
    if (!closed(self) && self->lock != NULL)
        return self->lock;
    sx_raise(self->state, SX_CLOSED, op, 0);
    return NULL;
}

/* By the words alone, where that can be: the handle and its lock are open, and in the arena. */
static inline bool quick(ConditionObject *self)
{
    return !sx_noting() && self->lock != NULL && sx_self.arena == self->core && self->lock->core == self->core &&
           self->lock->object.unit != SX_NOBODY;
}

static inline bool take(MutexObject *m)
{
    return sx_mutex_take(m->mutex, sx_self.id) || (m->recursive && sx_rlock_again(m->mutex, sx_self.id));
}

/* A level that is not the outermost, or a word without flags. */
static inline bool give(MutexObject *m)
{
    return (m->recursive && sx_rlock_back(m->mutex, sx_self.id)) || sx_mutex_give(m->mutex, sx_self.id);
}

static PyObject *condition_acquire(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    ConditionObject *self = (ConditionObject *)op;
    if (n == 0 && names == NULL && quick(self) && take(self->lock))
        Py_RETURN_TRUE;
    MutexObject *lock = lock_of(op);
    return lock == NULL ? NULL : sx_mutex_acquire((PyObject *)lock, args, n, names);
}

static PyObject *condition_release(PyObject *op, PyObject *unused)
{
    ConditionObject *self = (ConditionObject *)op;
    if (quick(self) && give(self->lock))
        Py_RETURN_NONE;
    MutexObject *lock = lock_of(op);
    return lock == NULL ? NULL : sx_mutex_release((PyObject *)lock, unused);
}

static PyObject *condition_recover(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    MutexObject *lock = lock_of(op);
    return lock == NULL ? NULL : sx_mutex_recover((PyObject *)lock, args, n, names);
}

static PyObject *condition_locked(PyObject *op, PyObject *unused)
{
    MutexObject *lock = lock_of(op);
    return lock == NULL ? NULL : sx_mutex_locked((PyObject *)lock, unused);
}

static PyObject *condition_is_owned(PyObject *op, PyObject *unused)
{
    (void)unused;
    ConditionObject *self = (ConditionObject *)op;
    return PyBool_FromLong(!closed(self) && self->lock != NULL && is_owned(self->lock));
}

static PyObject *condition_owner_died(PyObject *op, void *unused)
{
    (void)unused;
    ConditionObject *self = (ConditionObject *)op;
    uint64_t me;
    return PyBool_FromLong(self->lock != NULL && identity_of(self->lock, &me) == SX_OK &&
                           sx_mutex_mark(self->lock->mutex, me));
}

static PyObject *condition_waiters(PyObject *op, PyObject *unused)
{
    (void)unused;
    ConditionObject *self = (ConditionObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyLong_FromUnsignedLong(sx_condition_waiters(self->core, self->condition));
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

/* A mutex, or the lock of another condition; not the writers' side of a readers-writer lock. */
#define LOCKS (1u << SX_KIND_NONE | 1u << SX_KIND_MUTEX | 1u << SX_KIND_RLOCK | 1u << SX_KIND_CONDITION)

/* _number(lock, arena): what a condition says of a lock that is another object; 0: its own. */
static PyObject *condition_number(PyObject *cls, PyObject *args)
{
    struct module_state *state = sx_state((PyTypeObject *)cls);
    PyObject *lock, *arena;
    if (!PyArg_ParseTuple(args, "OO:_number", &lock, &arena))
        return NULL;
    if (lock == Py_None)
        return PyLong_FromLong(0);
    if (!PyObject_TypeCheck(lock, state->mutex_type) || !(LOCKS >> ((MutexObject *)lock)->kind & 1))
        return PyErr_Format(PyExc_TypeError,
                            "lock must be a syncx.Mutex or a syncx.RLock, not %.100s (a name goes to name=)",
                            Py_TYPE(lock)->tp_name);
    MutexObject *m = (MutexObject *)lock;
    if (closed(m))
        return sx_raise(state, SX_CLOSED, lock, 0);
    if (!PyObject_TypeCheck(arena, state->arena_type) || ((ArenaObject *)arena)->core == m->core) {
        uint32_t key = m->object.cell->key;
        return PyLong_FromUnsignedLong(m->object.unit != SX_NOBODY ? m->object.unit + 1ul
                                       : key == SX_ANY             ? key - 1
                                                                   : key);
    }
    return sx_raise(state, SX_OTHER_ARENA, lock, 1);
}

/* _join(lock): from now on that is the lock. */
static PyObject *condition_join(PyObject *op, PyObject *lock)
{
    ConditionObject *self = (ConditionObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    if (!PyObject_TypeCheck(lock, self->state->mutex_type) || self->lock != NULL) {
        PyErr_SetString(PyExc_TypeError, "a condition has one lock, a syncx.Mutex or a syncx.RLock");
        return NULL;
    }
    MutexObject *m = (MutexObject *)lock;
    if (m->mutex != &self->condition->lock) {
        uint32_t generation = m->object.unit == SX_NOBODY ? m->object.cell->key : m->object.generation, there = 0;
        if (!atomic_compare_exchange_strong(&self->condition->lock_generation, &there, generation) &&
            there != generation)
            return PyErr_Format(PyExc_ValueError,
                                "the condition was made with another lock than %R, one that is no more", lock);
    }
    Py_INCREF(lock);
    self->lock = m;
    Py_RETURN_NONE;
}

/* _place() -> (unit, generation), or None for one in the user's memory */
static PyObject *condition_place(PyObject *op, PyObject *unused)
{
    (void)unused;
    ConditionObject *self = (ConditionObject *)op;
    if (self->object.unit == SX_NOBODY)
        Py_RETURN_NONE;
    return Py_BuildValue("II", self->object.unit, self->object.generation);
}

/* ---- what `with` calls ------------------------------------------------------------------------------------ */
static PyObject *enter(HandleObject *op)
{
    MutexObject *lock = lock_of((PyObject *)op);
    PyObject *r = lock == NULL ? NULL : lock->methods->enter((HandleObject *)lock);
    if (r == NULL)
        return NULL;
    Py_DECREF(r);
    Py_INCREF(op);
    return (PyObject *)op;
}

static PyObject *leave(HandleObject *op, bool raised)
{
    MutexObject *lock = lock_of((PyObject *)op);
    return lock == NULL ? NULL : lock->methods->exit((HandleObject *)lock, raised);
}

static PyObject *enter_gate(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    ConditionObject *self = (ConditionObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (quick(self) && take(self->lock)) {
        Py_INCREF(self);
        return (PyObject *)self;
    }
    return enter((HandleObject *)self);
}

static PyObject *exit_gate(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    ConditionObject *self = (ConditionObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    if (quick(self) && give(self->lock))
        Py_RETURN_NONE;
    return leave((HandleObject *)self, args[0] != Py_None);
}

/* ---- life ------------------------------------------------------------------------------------------------- */
static void opened(HandleObject *op)
{
    ((ConditionObject *)op)->condition = (struct sx_condition *)op->object.cell;
    op->calls[ENTER] = enter_gate;
    op->calls[EXIT] = exit_gate;
}

static bool held(HandleObject *op)
{
    ConditionObject *self = (ConditionObject *)op;
    return self->lock != NULL && is_owned(self->lock);
}

static const struct handle_methods methods = {
    .kinds = 1u << SX_KIND_CONDITION,
    .opened = opened,
    .held = held,
    .enter = enter,
    .exit = leave,
};

static PyObject *condition_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static int condition_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((ConditionObject *)op)->lock);
    return sx_handle_traverse(op, visit, arg);
}

static int condition_clear(PyObject *op)
{
    Py_CLEAR(((ConditionObject *)op)->lock);
    return 0;
}

static PyMethodDef condition_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))condition_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\nAcquire the lock: "
     "lock.acquire()."},
    {"release", condition_release, METH_NOARGS, "release($self, /)\n--\n\nRelease the lock: lock.release()."},
    {"recover", (PyCFunction)(void (*)(void))condition_recover, METH_FASTCALL | METH_KEYWORDS,
     "recover($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\nAcquire the lock after "
     "its owner died: lock.recover()."},
    {"locked", condition_locked, METH_NOARGS,
     "locked($self, /)\n--\n\nTrue while a live thread of any process holds the lock."},
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"wait_for", (PyCFunction)(void (*)(void))condition_wait_for, METH_FASTCALL | METH_KEYWORDS, wait_for_doc},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_FASTCALL | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS,
     "notify_all($self, /)\n--\n\nWake all threads that wait: notify() with no limit."},
    {"_is_owned", condition_is_owned, METH_NOARGS, "_is_owned($self, /)\n--\n\nDoes the calling thread hold the lock?"},
    {"_waiters", condition_waiters, METH_NOARGS, "_waiters($self, /)\n--\n\nHow many live threads wait."},
    {"_number", condition_number, METH_VARARGS | METH_CLASS, NULL},
    {"_join", condition_join, METH_O, NULL},
    {"_place", condition_place, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef condition_getset[] = {
    {"owner_died", condition_owner_died, NULL,
     "True while the calling thread holds the lock and an earlier owner died without the data being repaired since.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef condition_members[] = {
    {"lock", T_OBJECT, offsetof(ConditionObject, lock), READONLY,
     "The Mutex or RLock that goes with it; the condition's own is an RLock."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_new, condition_new},           {Py_tp_dealloc, sx_handle_dealloc}, {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, condition_traverse}, {Py_tp_clear, condition_clear},     {Py_tp_methods, condition_methods},
    {Py_tp_getset, condition_getset},     {Py_tp_members, condition_members}, {0, NULL},
};

PyType_Spec sx_condition_spec = {
    .name = "syncx._core.BaseCondition",
    .basicsize = sizeof(ConditionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = condition_slots,
};
