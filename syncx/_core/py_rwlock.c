/* py_rwlock.c: the base types of RWLock and of its three views.  rwlock.py gives them constructors and names.
 *
 * A view is a handle of its own on the lock's cell: it does not refer to the RWLock, which keeps one of each and makes
 * it when it is first asked for.  The two that lock the mutex are mutexes with ways of their own, see py_mutex.c.
 */
#include "py_common.h"
#include <structmember.h>

enum view { VIEW_READ, VIEW_WRITE, VIEW_UPGRADABLE, VIEWS };

typedef struct {
    HANDLE_HEAD;
    _Atomic(PyObject *) views[VIEWS];
} RWLockObject;

typedef struct {
    HANDLE_HEAD;
    struct sx_rwlock *rw;
    uint32_t key;
} ReadViewObject;

static struct sx_rwlock *lock_of(const void *handle)
{
    return (struct sx_rwlock *)((const HandleObject *)handle)->object.cell;
}

static PyObject *refused(HandleObject *self, enum sx_status s)
{
    if (s == SX_TOO_MANY)
        return PyErr_Format(PyExc_RuntimeError,
                            "this thread reads as many locks as it can: %u at once, each %u times deep", SX_MARKS,
                            MARK_COUNT);
    if (s == SX_TIMEOUT)
        return sx_raise(self->state, s, (PyObject *)self, (long)(self->patience / 1000000));
    return sx_raise(self->state, s, (PyObject *)self, 0);
}

/* ---- who has it ------------------------------------------------------------------------------------------- */
static bool in_this_process(struct sx_arena *arena, uint64_t holder)
{
    struct sx_participant *p = holder == 0 ? NULL : sx_participant(arena, holder);
    return p != NULL && atomic_load_explicit(&p->process, memory_order_acquire) == arena->process + 1;
}

struct search {
    struct sx_arena *arena;
    bool found;
};

static void find_here(void *context, uint64_t id)
{
    struct search *s = context;
    s->found = s->found || in_this_process(s->arena, id);
}

static bool read_here(HandleObject *self)
{
    struct search s = {.arena = self->core};
    sx_rwlock_readers(self->core, lock_of(self), find_here, &s);
    return s.found;
}

static bool has_mutex(HandleObject *self, bool upgradable)
{
    struct sx_rwlock *rw = lock_of(self);
    uint64_t me;
    return identity_of(self, &me) == SX_OK &&
           (atomic_load_explicit(&rw->writer.word, memory_order_relaxed) & SX_ID_MASK) == me &&
           (atomic_load_explicit(&rw->upgradable, memory_order_relaxed) != 0) == upgradable;
}

static bool mutex_here(HandleObject *self)
{
    uint32_t life;
    uint64_t w = atomic_load_explicit(&lock_of(self)->writer.word, memory_order_acquire);
    return !sx_is_free(w) && sx_holder_life(self->core, w, &life) == SX_ALIVE && in_this_process(self->core, w);
}

static PyObject *pid_and_tid(HandleObject *self, uint64_t id)
{
    struct sx_participant *p = id == 0 ? NULL : sx_participant(self->core, id);
    if (p == NULL)
        Py_RETURN_NONE;
    long pid = (long)atomic_load_explicit(&p->pid, memory_order_relaxed);
    return Py_BuildValue("ll", pid, (long)atomic_load_explicit(&p->tid, memory_order_relaxed));
}

/* ---- the lock ----------------------------------------------------------------------------------------------- */

/* The view, made by the method _view(which) when it is first asked for. */
static PyObject *view_of(RWLockObject *self, enum view which)
{
    PyObject *view = atomic_load_explicit(&self->views[which], memory_order_acquire);
    if (__builtin_expect(view == NULL || closed(self), 0)) {
        if (closed(self))
            return sx_raise(self->state, SX_CLOSED, (PyObject *)self, 0);
        PyObject *made = PyObject_CallMethod((PyObject *)self, "_view", "i", (int)which);
        if (made == NULL)
            return NULL;
        if (atomic_compare_exchange_strong(&self->views[which], &view, made))
            view = made;
        else
            Py_DECREF(made);
    }
    Py_INCREF(view);
    return view;
}

static PyObject *view_within(PyObject *op, enum view which, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    static const char *const functions[VIEWS] = {"read", "write", "upgradable"};
    static const char *const keywords[] = {"timeout", "deadlock", "priority"};
    PyObject *given[3] = {Py_None, Py_None, Py_None};
    bool good = n <= 1, plain = true;
    if (n == 1)
        given[0] = args[0];
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names) && good; i++) {
        int at = 0;
        while (at < 3 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), keywords[at]) != 0)
            at++;
        good = at < 3 && (at > 0 || n == 0);
        if (good)
            given[at] = args[n + i];
    }
    if (!good)
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes timeout=None, and by keyword deadlock= and priority=", functions[which]);
    for (int i = 0; i < 3; i++)
        plain = plain && given[i] == Py_None;
    PyObject *view = view_of((RWLockObject *)op, which);
    if (plain || view == NULL)
        return view;
    PyObject *timed = PyObject_CallMethod(op, "_timed", "OOOO", view, given[0], given[1], given[2]);
    Py_DECREF(view);
    return timed;
}

#define VIEW_METHOD(name, which)                                                                                       \
    static PyObject *name(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)                          \
    {                                                                                                                  \
        return n == 0 && names == NULL ? view_of((RWLockObject *)op, which) : view_within(op, which, args, n, names);  \
    }
VIEW_METHOD(rwlock_read, VIEW_READ)
VIEW_METHOD(rwlock_write, VIEW_WRITE)
VIEW_METHOD(rwlock_upgradable, VIEW_UPGRADABLE)

/* _views() -> those that were made */
static PyObject *rwlock_views(PyObject *op, PyObject *unused)
{
    (void)unused;
    PyObject *list = PyList_New(0);
    for (int i = 0; i < VIEWS && list != NULL; i++) {
        PyObject *view = atomic_load(&((RWLockObject *)op)->views[i]);
        if (view != NULL && PyList_Append(list, view) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* _place() -> (unit, generation): where to open it once more */
static PyObject *rwlock_place(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    return Py_BuildValue("II", self->object.unit, self->object.generation);
}

struct list_of_holders {
    HandleObject *self;
    PyObject *list;
};

static void append_holder(void *context, uint64_t id)
{
    struct list_of_holders *h = context;
    PyObject *holder = h->list == NULL ? NULL : pid_and_tid(h->self, id);
    if (holder == NULL || PyList_Append(h->list, holder) < 0)
        Py_CLEAR(h->list);
    Py_XDECREF(holder);
}

/* _holders() -> ([(pid, tid) of each reader], that of the writer or None, that of the upgradable reader or None) */
static PyObject *rwlock_holders(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    struct list_of_holders readers = {self, PyList_New(0)};
    sx_rwlock_readers(self->core, lock_of(self), append_holder, &readers);
    if (readers.list == NULL)
        return NULL;
    PyObject *writer = pid_and_tid(self, sx_rwlock_writer(self->core, lock_of(self)));
    PyObject *upgradable =
        writer == NULL ? NULL : pid_and_tid(self, sx_rwlock_upgradable_reader(self->core, lock_of(self)));
    if (upgradable == NULL) {
        Py_DECREF(readers.list);
        Py_XDECREF(writer);
        return NULL;
    }
    return Py_BuildValue("NNN", readers.list, writer, upgradable);
}

static PyObject *rwlock_owner_died(PyObject *op, void *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_rwlock_torn(self->core, lock_of(self)));
}

static bool rwlock_held(HandleObject *self)
{
    struct sx_rwlock *rw = lock_of(self);
    return sx_rwlock_read_by_me(self->core, rw, false) || sx_rwlock_read_by_me(self->core, rw, true) ||
           has_mutex(self, false) || has_mutex(self, true);
}

static bool rwlock_held_here(HandleObject *self)
{
    for (int i = 0; i < VIEWS; i++) {
        HandleObject *view = (HandleObject *)atomic_load(&((RWLockObject *)self)->views[i]);
        if (view != NULL && view->waiting != 0)
            return true;
    }
    return read_here(self) || mutex_here(self);
}

static const struct handle_methods rwlock_handle = {
    .kinds = 1u << SX_KIND_RWLOCK, .held = rwlock_held, .held_here = rwlock_held_here};

static PyObject *rwlock_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &rwlock_handle);
}

static int rwlock_traverse(PyObject *op, visitproc visit, void *arg)
{
    for (int i = 0; i < VIEWS; i++)
        Py_VISIT(atomic_load(&((RWLockObject *)op)->views[i]));
    return sx_handle_traverse(op, visit, arg);
}

static int rwlock_clear(PyObject *op)
{
    for (int i = 0; i < VIEWS; i++)
        Py_XDECREF(atomic_exchange(&((RWLockObject *)op)->views[i], NULL));
    return 0;
}

#define TIMEOUT_DOC                                                                                                    \
    "\n\ntimeout: seconds that `with` waits at most before it raises Timeout; -1 waits for ever; None: the lock's "    \
    "own timeout.\ndeadlock, priority: of this `with`, as the lock's own; None: the lock's.\nOnly a plain view, "      \
    "asked for without arguments, has acquire and release."

static PyMethodDef rwlock_methods[] = {
    {"read", (PyCFunction)(void (*)(void))rwlock_read, METH_FASTCALL | METH_KEYWORDS,
     "read($self, /, timeout=None, *, deadlock=None, priority=None)\n--\n\nThe lock for reading: a ReadView, always "
     "the same one." TIMEOUT_DOC},
    {"write", (PyCFunction)(void (*)(void))rwlock_write, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, timeout=None, *, deadlock=None, priority=None)\n--\n\nThe lock for writing: a WriteView, always "
     "the same one." TIMEOUT_DOC},
    {"upgradable", (PyCFunction)(void (*)(void))rwlock_upgradable, METH_FASTCALL | METH_KEYWORDS,
     "upgradable($self, /, timeout=None, *, deadlock=None, priority=None)\n--\n\nThe lock for reading with a view to "
     "writing: an UpgradableView, always "
     "the same one." TIMEOUT_DOC},
    {"_views", rwlock_views, METH_NOARGS, NULL},
    {"_place", rwlock_place, METH_NOARGS, NULL},
    {"_holders", rwlock_holders, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rwlock_getset[] = {
    {"owner_died", rwlock_owner_died, NULL,
     "True while the data may be torn: a writer died inside, and no writer has left in good order since.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot rwlock_slots[] = {
    {Py_tp_new, rwlock_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_traverse, rwlock_traverse},
    {Py_tp_clear, rwlock_clear},
    {Py_tp_methods, rwlock_methods},
    {Py_tp_getset, rwlock_getset},
    {0, NULL},
};

PyType_Spec sx_rwlock_spec = {
    .name = "syncx._core.BaseRWLock",
    .basicsize = sizeof(RWLockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = rwlock_slots,
};

/* ---- reading ------------------------------------------------------------------------------------------------ */
static enum sx_status read_lock(ReadViewObject *self, int64_t deadline, uint32_t wish)
{
    struct note note = {(HandleObject *)self, SX_SHARED_MODE, 1, .deadline = deadline};
    if (closed(self))
        return SX_CLOSED;
    if (outlived(self))
        return SX_RETIRED;
    if (sx_noting() && sx_note_wanted(&note) < 0)
        return SX_INTERRUPTED;
    WAIT_BEGIN(self, wish);
    enum sx_status s = sx_rwlock_read(self->core, self->rw, deadline);
    WAIT_END(self);
    if (s == SX_OK && outlived(self)) { /* while we waited */
        sx_rwlock_read_end(self->core, self->rw);
        return SX_RETIRED;
    }
    if (s == SX_OK && sx_noting())
        sx_note_taken(&note);
    return s;
}

static enum sx_status read_unlock(ReadViewObject *self)
{
    enum sx_status s = closed(self) ? SX_CLOSED : sx_rwlock_read_end(self->core, self->rw);
    if (s == SX_OK && sx_noting())
        sx_note_given((HandleObject *)self, 1);
    return s;
}

static PyObject *read_enter(HandleObject *op)
{
    enum sx_status s =
        read_lock((ReadViewObject *)op, op->patience == SX_NEVER ? SX_NEVER : sx_after(op->patience), OWN_WISH);
    if (s != SX_OK)
        return refused(op, s == SX_BUSY ? SX_TIMEOUT : s);
    Py_INCREF(op);
    return (PyObject *)op;
}

static PyObject *read_exit(HandleObject *op, bool raised)
{
    enum sx_status s = read_unlock((ReadViewObject *)op);
    /* the exception of the body is worth more, see py_mutex.c */
    if (s == SX_OK || (s == SX_NOT_OWNER && raised))
        Py_RETURN_NONE;
    return refused(op, s);
}

static PyObject *gate_read(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    ReadViewObject *v = (ReadViewObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == v->core && sx_rwlock_read_fast(sx_self.slot, v->rw, v->key)) {
        Py_INCREF(v);
        return (PyObject *)v;
    }
    return read_enter((HandleObject *)v);
}

/* In the user's memory: whether its arena is still the one is asked each time. */
static PyObject *gate_read_outside(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    return gate_enter_ok(nargsf, keywords) ? read_enter(((GateObject *)gate)->handle) : NULL;
}

static PyObject *gate_read_end(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    ReadViewObject *v = (ReadViewObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == v->core && sx_rwlock_read_end_fast(sx_self.slot, v->rw, v->key))
        Py_RETURN_NONE;
    return read_exit((HandleObject *)v, args[0] != Py_None);
}

static PyObject *read_acquire(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    ReadViewObject *self = (ReadViewObject *)op;
    int64_t deadline = SX_NEVER;
    uint32_t wish = OWN_WISH;
    if ((n != 0 || names != NULL) && sx_parse_acquire((HandleObject *)self, args, n, names, &deadline, NULL, &wish) < 0)
        return NULL;
    if (!sx_noting() && sx_self.arena == self->core && self->object.unit != SX_NOBODY &&
        sx_rwlock_read_fast(sx_self.slot, self->rw, self->key))
        Py_RETURN_TRUE;
    enum sx_status s = read_lock(self, deadline, wish);
    if (s == SX_OK)
        Py_RETURN_TRUE;
    if (s == SX_BUSY || s == SX_TIMEOUT)
        Py_RETURN_FALSE;
    return refused((HandleObject *)self, s);
}

static PyObject *read_release(PyObject *op, PyObject *unused)
{
    (void)unused;
    ReadViewObject *self = (ReadViewObject *)op;
    if (!sx_noting() && sx_self.arena == self->core && sx_rwlock_read_end_fast(sx_self.slot, self->rw, self->key))
        Py_RETURN_NONE;
    enum sx_status s = read_unlock(self);
    if (s != SX_OK)
        return refused((HandleObject *)self, s);
    Py_RETURN_NONE;
}

static PyObject *read_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_rwlock_readers(self->core, lock_of(self), NULL, NULL) != 0);
}

static bool read_held(HandleObject *self)
{
    return sx_rwlock_read_by_me(self->core, lock_of(self), false);
}

static PyObject *read_is_owned(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(!closed(op) && read_held((HandleObject *)op));
}

static PyObject *read_upgrade(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)op, (void)args, (void)n, (void)names;
    PyErr_SetString(PyExc_RuntimeError,
                    "a reader cannot become a writer: two that tried would wait for each other for ever; take the lock "
                    "by upgradable(), which one thread at a time may have beside the readers, and upgrade() that");
    return NULL;
}

static void read_opened(HandleObject *op)
{
    ReadViewObject *self = (ReadViewObject *)op;
    self->rw = lock_of(self);
    self->key = sx_cell_key(self->core, self->object.cell);
    self->calls[ENTER] = self->object.unit == SX_NOBODY ? gate_read_outside : gate_read;
    self->calls[EXIT] = gate_read_end;
}

static const struct handle_methods read_handle = {.kinds = 1u << SX_KIND_RWLOCK,
                                                  .opened = read_opened,
                                                  .held = read_held,
                                                  .held_here = read_here,
                                                  .enter = read_enter,
                                                  .exit = read_exit};

static PyObject *read_view_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &read_handle);
}

static PyMethodDef read_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))read_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
     "Acquire the lock for reading: at once unless a writer is inside or waits.  A thread that reads may do so again,\n"
     "and releases as often.\n\n"
     "blocking: False tries once and returns at once.\n"
     "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever.\n"
     "deadlock, priority: of this call, as the lock's own; None: the lock's.\n\n"
     "Returns True when the lock is held, False when it was not to be had in time.  Raises DeadlockError if the\n"
     "calling thread writes and would wait for ever, or was chosen to end a deadlock; RuntimeError if it reads 64 "
     "other locks of the arena; Gone if "
     "the\n"
     "lock was unlinked; ValueError and OverflowError for timeouts as Mutex.acquire does."},
    {"release", read_release, METH_NOARGS,
     "release($self, /)\n--\n\nEnd one read of the calling thread.  Raises NotOwner if it does not read."},
    {"locked", read_locked, METH_NOARGS, "locked($self, /)\n--\n\nTrue while a live thread of any process reads."},
    {"upgrade", (PyCFunction)(void (*)(void))read_upgrade, METH_FASTCALL | METH_KEYWORDS,
     "upgrade($self, /, *args, **kwargs)\n--\n\nRaises RuntimeError: a reader cannot become a writer, see "
     "upgradable()."},
    {"_is_owned", read_is_owned, METH_NOARGS, "_is_owned($self, /)\n--\n\nDoes the calling thread read?"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot read_slots[] = {
    {Py_tp_new, read_view_new},           {Py_tp_dealloc, sx_handle_dealloc}, {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, sx_handle_traverse}, {Py_tp_methods, read_methods},      {0, NULL},
};

PyType_Spec sx_read_view_spec = {
    .name = "syncx._core.BaseReadView",
    .basicsize = sizeof(ReadViewObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = read_slots,
};

/* ---- writing ------------------------------------------------------------------------------------------------ */
static enum sx_status write_lock(MutexObject *self, int64_t deadline)
{
    return sx_rwlock_write(self->core, lock_of(self), deadline);
}

static enum sx_status write_unlock(MutexObject *self, bool keep_mark)
{
    return sx_rwlock_write_end(self->core, lock_of(self), keep_mark);
}

/* as a writer, or as a reader that was one */
static bool write_owned(MutexObject *self)
{
    return has_mutex((HandleObject *)self, false) || sx_rwlock_read_by_me(self->core, lock_of(self), true);
}

static enum sx_status upgradable_lock(MutexObject *self, int64_t deadline)
{
    return sx_rwlock_upgradable(self->core, lock_of(self), deadline);
}

static enum sx_status upgradable_unlock(MutexObject *self, bool keep_mark)
{
    return sx_rwlock_upgradable_end(self->core, lock_of(self), keep_mark);
}

static bool upgradable_owned(MutexObject *self)
{
    return has_mutex((HandleObject *)self, true);
}

static const struct mutex_ways write_ways = {write_lock, write_unlock, SX_EXCLUSIVE_MODE, write_owned};
static const struct mutex_ways upgradable_ways = {upgradable_lock, upgradable_unlock, SX_UPGRADE_MODE,
                                                  upgradable_owned};

static void write_opened(HandleObject *op)
{
    sx_mutex_opened_with((MutexObject *)op, &lock_of(op)->writer, &write_ways);
}

static void upgradable_opened(HandleObject *op)
{
    sx_mutex_opened_with((MutexObject *)op, &lock_of(op)->writer, &upgradable_ways);
}

static bool view_held(HandleObject *op)
{
    return ((MutexObject *)op)->ways->owned((MutexObject *)op);
}

static const struct handle_methods write_handle = {.kinds = 1u << SX_KIND_RWLOCK,
                                                   .opened = write_opened,
                                                   .held = view_held,
                                                   .held_here = mutex_here,
                                                   .enter = sx_mutex_enter,
                                                   .exit = sx_mutex_exit};
static const struct handle_methods upgradable_handle = {.kinds = 1u << SX_KIND_RWLOCK,
                                                        .opened = upgradable_opened,
                                                        .held = view_held,
                                                        .held_here = mutex_here,
                                                        .enter = sx_mutex_enter,
                                                        .exit = sx_mutex_exit};

static PyObject *write_view_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &write_handle);
}

static PyObject *upgradable_view_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &upgradable_handle);
}

static PyObject *write_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_rwlock_writer(self->core, lock_of(self)) != 0);
}

static PyObject *write_holder(PyObject *op, void *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    return pid_and_tid(self, closed(self) ? 0 : sx_rwlock_writer(self->core, lock_of(self)));
}

static PyObject *write_downgrade(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    enum sx_status s = closed(self) ? SX_CLOSED : sx_rwlock_downgrade(self->core, lock_of(self));
    if (s != SX_OK)
        return refused(self, s);
    if (sx_noting())
        sx_note_mode(self, SX_SHARED_MODE);
    Py_RETURN_NONE;
}

static PyMethodDef write_methods[] = {
    {"locked", write_locked, METH_NOARGS, "locked($self, /)\n--\n\nTrue while a live thread of any process writes."},
    {"downgrade", write_downgrade, METH_NOARGS,
     "downgrade($self, /)\n--\n\n"
     "The writer becomes a reader, without a moment in which another writer could get in; the data are declared "
     "whole.\n"
     "What ended the write (the end of the `with`, or release()) ends that read.  Raises NotOwner unless the calling\n"
     "thread writes; RuntimeError if it reads 64 other locks of the arena (it writes still)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef write_getset[] = {
    {"holder", write_holder, NULL, "(pid, tid) of the live writer, each in its own pid namespace, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static uint64_t upgradable_holder_id(HandleObject *self)
{
    struct sx_rwlock *rw = lock_of(self);
    uint64_t id = sx_rwlock_upgradable_reader(self->core, rw);
    if (id == 0 && atomic_load_explicit(&rw->upgradable, memory_order_relaxed) != 0)
        id = sx_rwlock_writer(self->core, rw);
    return id;
}

static PyObject *upgradable_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(upgradable_holder_id(self) != 0);
}

static PyObject *upgradable_holder(PyObject *op, void *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    return pid_and_tid(self, closed(self) ? 0 : upgradable_holder_id(self));
}

static PyObject *upgradable_upgrade(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    HandleObject *self = (HandleObject *)op;
    int64_t deadline;
    uint32_t wish;
    if (sx_parse_upgrade(self, args, n, names, &deadline, &wish) < 0)
        return NULL;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    struct note note = {self, SX_ORDER_UPGRADE, 1, .deadline = deadline};
    if (sx_noting() && sx_note_wanted(&note) < 0)
        return NULL;
    WAIT_BEGIN(self, wish);
    enum sx_status s = sx_rwlock_upgrade(self->core, lock_of(self), deadline);
    WAIT_END(self);
    if (s == SX_OK && sx_noting())
        sx_note_mode(self, SX_EXCLUSIVE_MODE);
    if (s == SX_OK)
        Py_RETURN_TRUE;
    if (s == SX_BUSY || s == SX_TIMEOUT)
        Py_RETURN_FALSE;
    return refused(self, s);
}

static PyObject *upgradable_downgrade(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    enum sx_status s = closed(self) ? SX_CLOSED : sx_rwlock_downgrade_upgraded(self->core, lock_of(self));
    if (s == SX_NOT_HELD)
        return PyErr_Format(PyExc_RuntimeError, "%R is not upgraded: there is nothing to downgrade", op);
    if (s != SX_OK)
        return refused(self, s);
    if (sx_noting())
        sx_note_mode(self, SX_UPGRADE_MODE);
    Py_RETURN_NONE;
}

static PyMethodDef upgradable_methods[] = {
    {"locked", upgradable_locked, METH_NOARGS,
     "locked($self, /)\n--\n\nTrue while a live thread of any process is the upgradable reader, upgraded or not."},
    {"upgrade", (PyCFunction)(void (*)(void))upgradable_upgrade, METH_FASTCALL | METH_KEYWORDS,
     "upgrade($self, /, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
     "The upgradable reader becomes the writer: no other writer comes in between, and what it has read stays true.\n\n"
     "timeout: seconds to wait for the readers to leave; None or -1 wait for ever, 0 tries.\n"
     "deadlock, priority: of this call, as the lock's own; None: the lock's.\n\n"
     "Returns True when the thread writes, False when the time was over: it is an upgradable reader still.  Raises\n"
     "NotOwner unless the calling thread is the upgradable reader, DeadlockError if it reads the lock as well or was "
     "chosen\nto end a deadlock."},
    {"downgrade", upgradable_downgrade, METH_NOARGS,
     "downgrade($self, /)\n--\n\n"
     "Back from writing to upgradable reading; the data are declared whole.  Raises NotOwner unless the calling "
     "thread\n"
     "is the upgradable reader, RuntimeError if it is not upgraded."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef upgradable_getset[] = {
    {"holder", upgradable_holder, NULL,
     "(pid, tid) of the live upgradable reader, each in its own pid namespace, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define VIEW_SLOTS(name, new_function, methods_table, getset_table)                                                    \
    static PyType_Slot name[] = {                                                                                      \
        {Py_tp_new, new_function},           {Py_tp_dealloc, sx_handle_dealloc},                                       \
        {Py_tp_finalize, sx_gates_finalize}, {Py_tp_traverse, sx_mutex_traverse},                                      \
        {Py_tp_clear, sx_mutex_clear},       {Py_tp_methods, methods_table},                                           \
        {Py_tp_getset, getset_table},        {0, NULL},                                                                \
    }
VIEW_SLOTS(write_slots, write_view_new, write_methods, write_getset);
VIEW_SLOTS(upgradable_slots, upgradable_view_new, upgradable_methods, upgradable_getset);

PyType_Spec sx_write_view_spec = {
    .name = "syncx._core.BaseWriteView",
    .basicsize = sizeof(MutexObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = write_slots,
};
PyType_Spec sx_upgradable_view_spec = {
    .name = "syncx._core.BaseUpgradableView",
    .basicsize = sizeof(MutexObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = upgradable_slots,
};
