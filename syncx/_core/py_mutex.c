/* py_mutex.c: the base type of Mutex and RLock.  mutex.py gives it its constructor, names and pickling. */
#include "py_common.h"
#include <structmember.h>

/* ---- acquiring and what follows from a death ---------------------------------------------------------- */

static enum sx_status unlock(MutexObject *self, bool keep_mark)
{
    uint64_t me;
    enum sx_status s = identity_of(self, &me);
    if (s != SX_OK)
        return s;
    if (sx_noting() && is_owned(self)) /* before: it may be another's at once */
        sx_note_given((HandleObject *)self, 1);
    if (self->ways != NULL)
        return self->ways->unlock(self, keep_mark);
    if (self->recursive && sx_rlock_back(self->mutex, me))
        return SX_OK;
    return sx_mutex_give(self->mutex, me) ? SX_OK : sx_mutex_unlock_slow(self->mutex, me, keep_mark);
}

/* One acquisition by the words alone: SX_OK, SX_OWNER_DIED, or why not.  again: given up for a while, by a wait. */
static enum sx_status lock(MutexObject *self, int64_t deadline, uint32_t wish, bool again)
{
    uint64_t me;
    struct note note = {(HandleObject *)self, self->ways == NULL ? SX_EXCLUSIVE_MODE : self->ways->mode, 1,
                        .deadline = deadline};
    enum sx_status s = identity_of(self, &me);
    if (s != SX_OK)
        return s;
    if (outlived(self))
        return SX_RETIRED;
    if (sx_noting() && !again && sx_note_wanted(&note) < 0)
        return SX_INTERRUPTED;
    if (self->ways != NULL) {
        WAIT_BEGIN(self, wish);
        s = self->ways->lock(self, deadline);
        WAIT_END(self);
    } else if (sx_mutex_take(self->mutex, me))
        s = SX_OK;
    else if (self->recursive && sx_rlock_again(self->mutex, me))
        s = SX_OK;
    else {
        WAIT_BEGIN(self, wish);
        s = sx_mutex_lock_slow(self->core, self->mutex, me, deadline);
        WAIT_END(self);
    }
    if ((s == SX_OK || s == SX_OWNER_DIED) && outlived(self)) { /* while we waited */
        unlock(self, true);
        return SX_RETIRED;
    }
    if (sx_noting() && (s == SX_OK || s == SX_OWNER_DIED))
        sx_note_taken(&note);
    return s;
}

/* We hold the lock and a previous owner died.  Returns 0 with the lock held, or -1 with an exception and the lock
 * released, its mark kept. */
static int after_death(MutexObject *self)
{
    struct module_state *state = self->state;
    uint64_t me;
    if (identity_of(self, &me) != SX_OK)
        return 0;
    long pid = (long)atomic_load_explicit(&self->mutex->statistics.dead_pid, memory_order_relaxed);
    long tid = (long)atomic_load_explicit(&self->mutex->statistics.dead_tid, memory_order_relaxed);
    PyObject *r = NULL;
    switch (self->policy) {
    case POLICY_IGNORE:
        sx_mutex_clear_mark(self->mutex, me);
        return 0;
    case POLICY_RAISE:
        unlock(self, true);
        sx_raise(state, SX_OWNER_DIED, (PyObject *)self, pid);
        return -1;
    case POLICY_CALL:
        r = PyObject_CallOneArg(self->on_owner_death, (PyObject *)self);
        if (r != NULL && identity_of(self, &me) == SX_OK)
            sx_mutex_clear_mark(self->mutex, me);
        break;
    default:
        /* the line is written when the hold ends: a log may be slow, or wait for something, and others wait for us */
        self->dead_pid = pid;
        self->dead_tid = tid;
        self->untold = true;
        return 0;
    }
    if (r == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        unlock(self, true);
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    Py_DECREF(r);
    return 0;
}

/* unlock, and then the line about a dead owner if this was the hold that met it.  An exception of a log handler is
 * reported and dropped, for the lock is released; what is no Exception (Ctrl-C) goes on: -1. */
static enum sx_status unlock_and_tell(MutexObject *self, bool keep_mark, int *told)
{
    bool tell = self->untold && is_owned(self) && atomic_load_explicit(&self->mutex->depth, memory_order_relaxed) == 0;
    long pid = self->dead_pid, tid = self->dead_tid;
    if (tell)
        self->untold = false;
    enum sx_status s = unlock(self, keep_mark);
    *told = 0;
    if (!tell || s != SX_OK)
        return s;
    PyObject *r = PyObject_CallFunction(self->state->owner_died, "Oll", self, pid, tid);
    if (r == NULL && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_WriteUnraisable((PyObject *)self);
    else if (r == NULL)
        *told = -1;
    Py_XDECREF(r);
    return s;
}

/* 1: held; 0: not within the time; -1: an exception. */
static int acquire(MutexObject *self, int64_t deadline, uint32_t wish)
{
    enum sx_status s = lock(self, deadline, wish, false);
    switch (s) {
    case SX_OK:
        return 1;
    case SX_BUSY:
    case SX_TIMEOUT:
        return 0;
    case SX_OWNER_DIED:
        return after_death(self) == 0 ? 1 : -1;
    default:
        sx_raise(self->state, s, (PyObject *)self, 0);
        return -1;
    }
}

static int64_t within(int64_t patience)
{
    return patience == SX_NEVER ? SX_NEVER : sx_after(patience);
}

/* The slow half of `with`. */
PyObject *sx_mutex_enter(HandleObject *op)
{
    MutexObject *self = (MutexObject *)op;
    int r = acquire(self, within(self->patience), OWN_WISH);
    if (r < 0)
        return NULL;
    if (r == 0) {
        long ms = (long)(self->patience / 1000000);
        return sx_raise(self->state, SX_TIMEOUT, (PyObject *)self, ms);
    }
    Py_INCREF(self);
    return (PyObject *)self;
}

/* raised: the body raised.  Its exception is worth more than our telling that the hold was not ours any more (as in
 * a child that was forked inside the `with` and leaves it by sys.exit). */
PyObject *sx_mutex_exit(HandleObject *op, bool raised)
{
    MutexObject *self = (MutexObject *)op;
    int told;
    enum sx_status s = unlock_and_tell(self, raised, &told);
    if (told < 0)
        return NULL;
    if (s == SX_OK || (s == SX_NOT_OWNER && raised))
        Py_RETURN_NONE;
    return sx_raise(self->state, s, (PyObject *)self, 0);
}

PyDoc_STRVAR(
    acquire_doc,
    "acquire($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
    "Acquire the lock.\n\n"
    "blocking: False tries once and returns at once.\n"
    "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever.\n"
    "deadlock, priority: of this call, as the constructor's; None: the object's.\n\n"
    "Returns True when the lock is held, False when it was not to be had in time.  Raises DeadlockError if the "
    "calling\n"
    "thread holds a Mutex already and would wait for ever, or was chosen to end a deadlock; OwnerDiedError under "
    "on_owner_death=\"raise\"; Gone if the\n"
    "lock was unlinked; ValueError for a negative timeout or NaN, or a timeout with blocking=False; OverflowError "
    "above\n"
    "threading.TIMEOUT_MAX.  A signal handler that raises ends the wait and leaves the lock as it was.");

PyObject *sx_mutex_acquire(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    MutexObject *self = (MutexObject *)op;
    int64_t deadline = SX_NEVER;
    uint32_t wish = OWN_WISH;
    if (n != 0 || names != NULL)
        if (sx_parse_acquire((HandleObject *)self, args, n, names, &deadline, NULL, &wish) < 0)
            return NULL;
    if (!sx_noting() && sx_self.arena == self->core && self->object.unit != SX_NOBODY &&
        self->ways == NULL) { /* answers that need no more than the word */
        if (sx_mutex_take(self->mutex, sx_self.id))
            Py_RETURN_TRUE;
        if (deadline == 0 && !self->recursive && live_holder(self) != 0 && !sx_examination_due(false))
            Py_RETURN_FALSE;
    }
    int r = acquire(self, deadline, wish);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

PyDoc_STRVAR(release_doc, "release($self, /)\n--\n\n"
                          "Release the lock, and with it an owner-died mark: the data are declared whole.\n\n"
                          "Raises NotOwner, a RuntimeError, unless the calling thread holds it.  A forked child does "
                          "not hold what its parent\n"
                          "held.");

PyObject *sx_mutex_release(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (!sx_noting() && sx_self.arena == self->core && !self->recursive && self->ways == NULL &&
        sx_mutex_give(self->mutex, sx_self.id))
        Py_RETURN_NONE;
    int told;
    enum sx_status s = unlock_and_tell(self, false, &told);
    if (s != SX_OK)
        return sx_raise(self->state, s, op, 0);
    if (told < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    recover_doc,
    "recover($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
    "Acquire the lock whatever on_owner_death says, and clear the owner-died mark: the caller answers for the data.\n\n"
    "Arguments, result and exceptions are acquire's, but for OwnerDiedError.  Returns True holding the lock.");

PyObject *sx_mutex_recover(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    MutexObject *self = (MutexObject *)op;
    int64_t deadline = SX_NEVER;
    uint64_t me;
    uint32_t wish = OWN_WISH;
    if (sx_parse_acquire((HandleObject *)self, args, n, names, &deadline, NULL, &wish) < 0)
        return NULL;
    enum sx_status s = lock(self, deadline, wish, false);
    if (s == SX_BUSY || s == SX_TIMEOUT)
        Py_RETURN_FALSE;
    if (s != SX_OK && s != SX_OWNER_DIED)
        return sx_raise(((MutexObject *)op)->state, s, op, 0);
    if (identity_of(self, &me) == SX_OK)
        sx_mutex_clear_mark(self->mutex, me);
    Py_RETURN_TRUE;
}

/* ---- looking ------------------------------------------------------------------------------------------ */
PyObject *sx_mutex_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (closed(self))
        return sx_raise(((MutexObject *)op)->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(live_holder(self) != 0);
}

static PyObject *mutex_is_owned(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(is_owned((MutexObject *)op));
}

static PyObject *mutex_owner_died(PyObject *op, void *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    uint64_t me;
    return PyBool_FromLong(identity_of(self, &me) == SX_OK && sx_mutex_mark(self->mutex, me));
}

static PyObject *mutex_holder(PyObject *op, void *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    uint64_t holder = closed(self) ? 0 : live_holder(self);
    struct sx_participant *p = holder == 0 ? NULL : sx_participant(self->core, holder);
    if (p == NULL)
        Py_RETURN_NONE;
    long pid = (long)atomic_load_explicit(&p->pid, memory_order_relaxed);
    return Py_BuildValue("ll", pid, (long)atomic_load_explicit(&p->tid, memory_order_relaxed));
}

static PyObject *mutex_depth(PyObject *op, void *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (!is_owned(self))
        return PyLong_FromLong(0);
    return PyLong_FromUnsignedLong(1ul + atomic_load_explicit(&self->mutex->depth, memory_order_relaxed));
}

static PyObject *mutex_recursion_count(PyObject *op, PyObject *unused)
{
    return mutex_depth(op, unused);
}

/* ---- what the standard library asks of a lock ---------------------------------------------------------- */
/* Gives the lock up however deep it is held: for a Condition's wait. */
enum sx_status sx_mutex_release_save(MutexObject *self, uint32_t *depth, int *told)
{
    uint64_t me;
    *told = 0;
    enum sx_status s = identity_of(self, &me);
    if (s != SX_OK || !is_owned(self))
        return s == SX_OK ? SX_NOT_OWNER : s;
    if (sx_noting())
        sx_note_given((HandleObject *)self, SX_ALL);
    *depth = atomic_exchange_explicit(&self->mutex->depth, 0, memory_order_relaxed);
    return unlock_and_tell(self, true, told); /* a mark stays: nobody has said that the data are whole */
}

/* A wait that is no deadlock's victim: the caller must hold the lock on return. */
enum sx_status sx_mutex_lock_again(MutexObject *self)
{
    bool unwilling = sx_unwilling;
    sx_unwilling = true;
    enum sx_status s = lock(self, SX_NEVER, 0, true);
    sx_unwilling = unwilling;
    return s;
}

/* The lock was acquired again, with that status: as deep as before, and what the policy says of a dead owner.  Under
 * "raise" too the caller of wait() must hold it on return; the mark tells.  -1: an exception, and it is not held. */
int sx_mutex_after_restore(MutexObject *self, enum sx_status status, uint32_t depth)
{
    if (status != SX_OK && status != SX_OWNER_DIED) {
        sx_raise(self->state, status, (PyObject *)self, 0);
        return -1;
    }
    if (status == SX_OWNER_DIED && self->policy != POLICY_RAISE && after_death(self) < 0)
        return -1;
    /* on top of what a signal handler in the wait has taken and not given back */
    atomic_fetch_add_explicit(&self->mutex->depth, depth, memory_order_relaxed);
    if (sx_noting() && depth != 0)
        sx_note_taken(&(struct note){(HandleObject *)self, SX_EXCLUSIVE_MODE, depth});
    return 0;
}

static PyObject *mutex_release_save(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    uint32_t depth = 0;
    int told;
    enum sx_status s = sx_mutex_release_save(self, &depth, &told);
    if (told < 0)
        return NULL;
    return s == SX_OK ? PyLong_FromUnsignedLong(depth) : sx_raise(self->state, s, op, 0);
}

static PyObject *mutex_acquire_restore(PyObject *op, PyObject *saved)
{
    MutexObject *self = (MutexObject *)op;
    unsigned long depth = PyLong_AsUnsignedLong(saved);
    if (depth == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (sx_mutex_after_restore(self, sx_mutex_lock_again(self), (uint32_t)depth) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    at_fork_reinit_doc,
    "_at_fork_reinit($self, /)\n--\n\n"
    "Give up the calling thread's own hold, however deep.  A forked child holds nothing, so there it changes nothing:\n"
    "the lock is shared, and what the parent holds stays held.");

static PyObject *mutex_at_fork_reinit(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (is_owned(self)) {
        if (sx_noting())
            sx_note_given((HandleObject *)self, SX_ALL);
        atomic_store_explicit(&self->mutex->depth, 0, memory_order_relaxed);
        unlock(self, false);
    }
    Py_RETURN_NONE;
}

/* ---- the policy after an owner's death ------------------------------------------------------------------- */
static PyObject *mutex_set_policy(PyObject *op, PyObject *policy)
{
    MutexObject *self = (MutexObject *)op;
    if (PyUnicode_Check(policy)) {
        static const char *const names[] = {"recover", "raise", "ignore"};
        int which = -1;
        for (int i = 0; i < 3; i++)
            if (PyUnicode_CompareWithASCIIString(policy, names[i]) == 0)
                which = i;
        if (which < 0)
            return PyErr_Format(PyExc_ValueError,
                                "on_owner_death must be \"recover\", \"raise\", \"ignore\" or a callable, not %R",
                                policy);
        self->policy = which;
    } else if (PyCallable_Check(policy)) {
        self->policy = POLICY_CALL;
    } else {
        return PyErr_Format(PyExc_TypeError,
                            "on_owner_death must be \"recover\", \"raise\", \"ignore\" or a callable, not %.100s",
                            Py_TYPE(policy)->tp_name);
    }
    Py_INCREF(policy);
    Py_XSETREF(self->on_owner_death, policy);
    Py_RETURN_NONE;
}

/* ---- what `with` calls ------------------------------------------------------------------------------------- */
static PyObject *enter_mutex(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    MutexObject *m = (MutexObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == m->core && sx_mutex_take(m->mutex, sx_self.id)) {
        Py_INCREF(m);
        return (PyObject *)m;
    }
    return sx_mutex_enter((HandleObject *)m);
}

static PyObject *exit_mutex(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    MutexObject *m = (MutexObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    /* the fast path gives back words without a mark only, so it need not know whether the body raised */
    if (!sx_noting() && sx_self.arena == m->core && sx_mutex_give(m->mutex, sx_self.id))
        Py_RETURN_NONE;
    return sx_mutex_exit((HandleObject *)m, args[0] != Py_None);
}

static PyObject *enter_rlock(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    MutexObject *m = (MutexObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == m->core &&
        (sx_mutex_take(m->mutex, sx_self.id) || sx_rlock_again(m->mutex, sx_self.id))) {
        Py_INCREF(m);
        return (PyObject *)m;
    }
    return sx_mutex_enter((HandleObject *)m);
}

static PyObject *exit_rlock(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    MutexObject *m = (MutexObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == m->core &&
        (sx_rlock_back(m->mutex, sx_self.id) || sx_mutex_give(m->mutex, sx_self.id)))
        Py_RETURN_NONE;
    return sx_mutex_exit((HandleObject *)m, args[0] != Py_None);
}

/* A lock in the user's memory: whether its arena is still the one is asked at each acquire. */
static PyObject *enter_outside(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    return sx_mutex_enter(((GateObject *)gate)->handle);
}

/* A lock with ways of its own: no fast path. */
static PyObject *exit_by_ways(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    return sx_mutex_exit(((GateObject *)gate)->handle, args[0] != Py_None);
}

void sx_mutex_opened_with(MutexObject *self, struct sx_mutex *mutex, const struct mutex_ways *ways)
{
    self->mutex = mutex;
    self->ways = ways;
    self->calls[ENTER] = enter_outside;
    self->calls[EXIT] = exit_by_ways;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */
static void mutex_opened(HandleObject *op)
{
    MutexObject *self = (MutexObject *)op;
    self->recursive = op->kind != SX_KIND_MUTEX;
    self->mutex = op->kind == SX_KIND_CONDITION ? &((struct sx_condition *)op->object.cell)->lock
                                                : (struct sx_mutex *)op->object.cell;
    self->calls[ENTER] = op->object.unit == SX_NOBODY ? enter_outside : self->recursive ? enter_rlock : enter_mutex;
    self->calls[EXIT] = self->recursive ? exit_rlock : exit_mutex;
}

static bool held(HandleObject *op)
{
    return is_owned((MutexObject *)op);
}

/* Does any thread of this process hold it?  It could not release what has been closed. */
static bool held_here(HandleObject *op)
{
    uint64_t holder = live_holder((MutexObject *)op);
    struct sx_participant *p = holder == 0 ? NULL : sx_participant(op->core, holder);
    return p != NULL && atomic_load_explicit(&p->process, memory_order_acquire) == op->core->process + 1;
}

static const struct handle_methods methods = {
    .kinds = 1u << SX_KIND_MUTEX | 1u << SX_KIND_RLOCK | 1u << SX_KIND_CONDITION, /* the lock inside a condition */
    .opened = mutex_opened,
    .held = held,
    .held_here = held_here,
    .enter = sx_mutex_enter,
    .exit = sx_mutex_exit,
};

static PyObject *mutex_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

int sx_mutex_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((MutexObject *)op)->on_owner_death);
    return sx_handle_traverse(op, visit, arg);
}

int sx_mutex_clear(PyObject *op)
{
    Py_CLEAR(((MutexObject *)op)->on_owner_death);
    return 0;
}

static PyMethodDef mutex_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))sx_mutex_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", sx_mutex_release, METH_NOARGS, release_doc},
    {"recover", (PyCFunction)(void (*)(void))sx_mutex_recover, METH_FASTCALL | METH_KEYWORDS, recover_doc},
    {"locked", sx_mutex_locked, METH_NOARGS,
     "locked($self, /)\n--\n\nTrue while a live thread of any process holds the lock."},
    {"_is_owned", mutex_is_owned, METH_NOARGS, "_is_owned($self, /)\n--\n\nDoes the calling thread hold it?"},
    {"_recursion_count", mutex_recursion_count, METH_NOARGS,
     "_recursion_count($self, /)\n--\n\nHow many times the calling thread holds it."},
    {"_release_save", mutex_release_save, METH_NOARGS,
     "_release_save($self, /)\n--\n\nRelease however deep; the result is for _acquire_restore."},
    {"_acquire_restore", mutex_acquire_restore, METH_O,
     "_acquire_restore($self, saved, /)\n--\n\nAcquire as deep as _release_save found it."},
    {"_at_fork_reinit", mutex_at_fork_reinit, METH_NOARGS, at_fork_reinit_doc},
    {"_set_policy", mutex_set_policy, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef mutex_getset[] = {
    {"owner_died", mutex_owner_died, NULL,
     "True while the calling thread holds the lock and an earlier owner died without the data being repaired since.",
     NULL},
    {"holder", mutex_holder, NULL, "(pid, tid) of the live holder, each in its own pid namespace, or None.", NULL},
    {"depth", mutex_depth, NULL, "How many times the calling thread holds the lock: 0, 1, or more for an RLock.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef mutex_members[] = {
    {"on_owner_death", T_OBJECT, offsetof(MutexObject, on_owner_death), READONLY, "The policy given at construction."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot mutex_slots[] = {
    {Py_tp_new, mutex_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, sx_mutex_traverse},
    {Py_tp_clear, sx_mutex_clear},
    {Py_tp_methods, mutex_methods},
    {Py_tp_getset, mutex_getset},
    {Py_tp_members, mutex_members},
    {0, NULL},
};

PyType_Spec sx_mutex_spec = {
    .name = "syncx._core.BaseMutex",
    .basicsize = sizeof(MutexObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = mutex_slots,
};
