/* py_open.c: opening a lock in its three placements, and closing it. */
#include "py_common.h"

static int ready_to_open(MutexObject *self, PyObject *arena, int recursive)
{
    struct module_state *state = self->state;
    if (self->arena != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lock is open already; make a new object instead of calling __init__");
        return -1;
    }
    if (!PyObject_TypeCheck(arena, state->arena_type)) {
        PyErr_Format(PyExc_TypeError, "arena must be a syncx.Arena, not %.100s", Py_TYPE(arena)->tp_name);
        return -1;
    }
    if (((ArenaObject *)arena)->core == NULL) {
        sx_raise(state, SX_CLOSED, arena, 0);
        return -1;
    }
    self->recursive = recursive;
    self->kind = recursive ? SX_KIND_RLOCK : SX_KIND_MUTEX;
    return 0;
}

/* The end of opening, with the handle that sx_arena_keep took before it: the Arena object may be closed while we wait
 * for the arena's lock (by another thread, or a signal handler), and before us afterwards. */
static void opened(MutexObject *self, PyObject *arena, struct sx_arena *core)
{
    Py_INCREF(arena);
    self->arena = (ArenaObject *)arena;
    self->mutex = (struct sx_mutex *)self->object.cell;
    self->core = core;
}

static PyObject *not_opened(MutexObject *self, enum sx_status s, PyObject *arena, struct sx_arena *core, long found)
{
    sx_raise(self->state, s, arena, found);
    sx_arena_release(core);
    return NULL;
}

PyObject *sx_mutex_open(PyObject *op, PyObject *args)
{
    MutexObject *self = (MutexObject *)op;
    PyObject *arena;
    const char *name;
    Py_ssize_t length;
    int create, recursive;
    enum sx_kind found = SX_KIND_NONE;
    if (!PyArg_ParseTuple(args, "Oz#ip:_open", &arena, &name, &length, &create, &recursive) ||
        ready_to_open(self, arena, recursive) < 0)
        return NULL;
    struct sx_arena *core = ((ArenaObject *)arena)->core;
    sx_arena_keep(core);
    enum sx_status s = name == NULL ? sx_object_anonymous(core, self->kind, &self->object)
                                    : sx_object_open(core, name, (uint32_t)length, self->kind, (enum sx_create)create,
                                                     &self->object, &found);
    if (s != SX_OK)
        return not_opened(self, s, arena, core, found);
    opened(self, arena, core);
    return PyBool_FromLong(self->object.created);
}

PyObject *sx_mutex_open_reference(PyObject *op, PyObject *args)
{
    MutexObject *self = (MutexObject *)op;
    PyObject *arena;
    unsigned int unit, generation;
    int recursive;
    if (!PyArg_ParseTuple(args, "OIIp:_open_reference", &arena, &unit, &generation, &recursive) ||
        ready_to_open(self, arena, recursive) < 0)
        return NULL;
    struct sx_arena *core = ((ArenaObject *)arena)->core;
    sx_arena_keep(core);
    enum sx_status s = sx_object_reference(core, unit, generation, self->kind, &self->object);
    if (s != SX_OK)
        return not_opened(self, s, arena, core, 0);
    opened(self, arena, core);
    Py_RETURN_NONE;
}

PyObject *sx_mutex_open_at(PyObject *op, PyObject *args)
{
    MutexObject *self = (MutexObject *)op;
    PyObject *arena, *buffer;
    Py_ssize_t offset;
    int create, recursive;
    enum sx_kind found = SX_KIND_NONE;
    if (!PyArg_ParseTuple(args, "OOnip:_open_at", &arena, &buffer, &offset, &create, &recursive) ||
        ready_to_open(self, arena, recursive) < 0)
        return NULL;
    if (PyObject_GetBuffer(buffer, &self->buffer, PyBUF_WRITABLE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError,
                         "a lock needs writable, contiguous, shared memory (mmap, SharedMemory.buf, memoryview), "
                         "not this %.100s",
                         Py_TYPE(buffer)->tp_name);
        return NULL;
    }
    char *at = (char *)self->buffer.buf + offset;
    Py_ssize_t size = (Py_ssize_t)sizeof(struct sx_mutex);
    if (offset < 0 || self->buffer.len < size || offset > self->buffer.len - size)
        PyErr_Format(PyExc_ValueError, "%zd bytes are needed at offset %zd, but the buffer has %zd", size, offset,
                     self->buffer.len);
    else if ((uintptr_t)at % SX_LINE != 0)
        PyErr_Format(PyExc_ValueError,
                     "the lock must start at a multiple of %d bytes; offset %zd of this buffer is %d bytes past one",
                     SX_LINE, offset, (int)((uintptr_t)at % SX_LINE));
    if (!PyErr_Occurred()) {
        struct sx_arena *core = ((ArenaObject *)arena)->core;
        sx_arena_keep(core);
        enum sx_status s = sx_object_at(core, at, self->kind, (enum sx_create)create, &self->object, &found);
        if (s == SX_OK) {
            opened(self, arena, core);
            return PyBool_FromLong(self->object.created);
        }
        if (s == SX_DAMAGED)
            PyErr_Format(PyExc_ValueError,
                         "the %zd bytes at offset %zd are neither zero nor a lock of this version; fill them with "
                         "zeros before the first use",
                         size, offset);
        else
            sx_raise(((MutexObject *)op)->state, s, arena, found);
        sx_arena_release(core);
    }
    PyBuffer_Release(&self->buffer);
    return NULL;
}

void sx_mutex_drop(MutexObject *self)
{
    if (!closed(self)) {
        struct sx_arena *core = self->core;
        bool quiet = sx_quiet;
        self->core = &sx_closed_arena;
        sx_quiet = true; /* no signal handlers from here, and so no exceptions; they run a moment later */
        sx_object_close(core, &self->object);
        sx_quiet = quiet;
        sx_arena_release(core);
    }
    if (self->buffer.obj != NULL)
        PyBuffer_Release(&self->buffer);
}

/* Does any thread of this process hold it?  It could not release what has been closed. */
static bool held_here(MutexObject *self)
{
    uint64_t holder = closed(self) ? 0 : live_holder(self);
    struct sx_participant *p = holder == 0 ? NULL : sx_participant(self->core, holder);
    return p != NULL && atomic_load_explicit(&p->process, memory_order_acquire) == self->core->process + 1;
}

PyObject *sx_mutex_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (is_owned(self)) {
        PyErr_Format(PyExc_RuntimeError, "%R is held by this thread: release it before closing it", op);
        return NULL;
    }
    if (self->waiting != 0 || held_here(self)) {
        PyErr_Format(PyExc_RuntimeError, "%R is in use by another thread of this process: close it afterwards", op);
        return NULL;
    }
    sx_mutex_drop(self);
    Py_RETURN_NONE;
}

PyObject *sx_mutex_pin(PyObject *op, PyObject *unused)
{
    (void)unused;
    MutexObject *self = (MutexObject *)op;
    if (closed(self))
        return sx_raise(((MutexObject *)op)->state, SX_CLOSED, op, 0);
    if (self->object.unit == SX_NOBODY)
        return PyErr_Format(PyExc_TypeError,
                            "%R lies in memory that you brought: send that memory (its SharedMemory, its file) to "
                            "the other process and call %s.at there",
                            op, Py_TYPE(op)->tp_name);
    sx_object_pin(self->core, &self->object);
    return Py_BuildValue("II", self->object.unit, self->object.generation);
}

PyObject *sx_mutex_configure(PyObject *op, PyObject *args)
{
    MutexObject *self = (MutexObject *)op;
    PyObject *timeout, *policy;
    if (!PyArg_ParseTuple(args, "OO:_configure", &timeout, &policy))
        return NULL;
    int64_t patience = SX_NEVER;
    if (timeout != Py_None && (patience = sx_nanoseconds(timeout)) < 0)
        return NULL;
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
    self->patience = patience;
    Py_INCREF(policy);
    Py_XSETREF(self->on_owner_death, policy);
    Py_RETURN_NONE;
}
