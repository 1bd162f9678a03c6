/* py_handle.c: the base type of all shared objects: opening one in its three placements, and closing it. */
#include "py_common.h"
#include <structmember.h>

static int ready_to_open(HandleObject *self, PyObject *arena, int kind)
{
    struct module_state *state = self->state;
    if (self->methods == NULL || kind < 0 || kind >= SX_KINDS || !(self->methods->kinds >> kind & 1)) {
        PyErr_Format(PyExc_TypeError, "%.100s is no type of such objects", Py_TYPE(self)->tp_name);
        return -1;
    }
    if (self->arena != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the object is open already; make a new one instead of calling __init__");
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
    self->kind = kind;
    return 0;
}

/* The end of opening, with the handle that sx_arena_keep took before it: the Arena object may be closed while we wait
 * for the arena's lock (by another thread, or a signal handler), and before us afterwards. */
static void opened(HandleObject *self, PyObject *arena, struct sx_arena *core)
{
    Py_INCREF(arena);
    self->arena = (ArenaObject *)arena;
    self->core = core;
    if (self->methods->opened != NULL)
        self->methods->opened(self);
    if (sx_noting())
        sx_note_made(self);
}

static PyObject *not_opened(HandleObject *self, enum sx_status s, PyObject *arena, struct sx_arena *core,
                            const struct sx_request *request)
{
    if (s == SX_OTHER_VALUE && request->kind == SX_KIND_CONDITION)
        PyErr_SetString(PyExc_ValueError,
                        "it exists already and was made with another lock; give that one as lock=, or "
                        "none if it has its own");
    else if (s == SX_OTHER_VALUE)
        PyErr_Format(PyExc_ValueError,
                     "it exists already with the value %u, and %u was asked for; leave the value away "
                     "to open it as it is",
                     request->found_parameter, request->parameter);
    else
        sx_raise(self->state, s, arena, request == NULL ? 0 : (long)request->found);
    sx_arena_release(core);
    return NULL;
}

/* None: not given. */
static int parameter_of(PyObject *value, uint32_t *parameter)
{
    *parameter = SX_ANY;
    if (value == Py_None)
        return 0;
    unsigned long v = PyLong_AsUnsignedLong(value);
    if (v == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    *parameter = v < SX_ANY ? (uint32_t)v : SX_ANY - 1;
    return 0;
}

/* _open(arena, name or None, create, kind, parameter or None) -> was it made? */
static PyObject *handle_open(PyObject *op, PyObject *args)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *arena, *parameter;
    const char *name;
    Py_ssize_t length;
    int create, kind;
    struct sx_request request = {0};
    if (!PyArg_ParseTuple(args, "Oz#iiO:_open", &arena, &name, &length, &create, &kind, &parameter) ||
        parameter_of(parameter, &request.parameter) < 0 || ready_to_open(self, arena, kind) < 0)
        return NULL;
    request.kind = self->kind;
    request.create = (enum sx_create)create;
    struct sx_arena *core = ((ArenaObject *)arena)->core;
    sx_arena_keep(core);
    enum sx_status s = name == NULL ? sx_object_anonymous(core, &request, &self->object)
                                    : sx_object_open(core, name, (uint32_t)length, &request, &self->object);
    if (s != SX_OK)
        return not_opened(self, s, arena, core, &request);
    opened(self, arena, core);
    return PyBool_FromLong(self->object.created);
}

/* _open_reference(arena, unit, generation, kind) */
static PyObject *handle_open_reference(PyObject *op, PyObject *args)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *arena;
    unsigned int unit, generation;
    int kind;
    if (!PyArg_ParseTuple(args, "OIIi:_open_reference", &arena, &unit, &generation, &kind) ||
        ready_to_open(self, arena, kind) < 0)
        return NULL;
    struct sx_arena *core = ((ArenaObject *)arena)->core;
    sx_arena_keep(core);
    enum sx_status s = sx_object_reference(core, unit, generation, self->kind, &self->object);
    if (s != SX_OK)
        return not_opened(self, s, arena, core, NULL);
    opened(self, arena, core);
    Py_RETURN_NONE;
}

/* _open_at(arena, buffer, offset, create, kind, parameter or None) -> was it made? */
static PyObject *handle_open_at(PyObject *op, PyObject *args)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *arena, *buffer, *parameter;
    Py_ssize_t offset;
    int create, kind;
    struct sx_request request = {0};
    if (!PyArg_ParseTuple(args, "OOniiO:_open_at", &arena, &buffer, &offset, &create, &kind, &parameter) ||
        parameter_of(parameter, &request.parameter) < 0 || ready_to_open(self, arena, kind) < 0)
        return NULL;
    request.kind = self->kind;
    request.create = (enum sx_create)create;
    if (PyObject_GetBuffer(buffer, &self->buffer, PyBUF_WRITABLE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError,
                         "a shared object needs writable, contiguous, shared memory (mmap, SharedMemory.buf, "
                         "memoryview), not this %.100s",
                         Py_TYPE(buffer)->tp_name);
        return NULL;
    }
    char *at = (char *)self->buffer.buf + offset;
    size_t needed = sx_kind_size(self->kind, request.parameter == SX_ANY ? 1 : request.parameter);
    enum sx_status s = SX_TOO_SMALL;
    struct sx_arena *core = NULL;
    if (needed != 0 && offset >= 0 && offset <= self->buffer.len &&
        (size_t)(self->buffer.len - offset) >= sizeof(struct sx_cell)) {
        if ((uintptr_t)at % SX_LINE != 0) {
            PyErr_Format(PyExc_ValueError,
                         "a shared object must start at a multiple of %d bytes; offset %zd of this buffer is %d bytes "
                         "past one",
                         SX_LINE, offset, (int)((uintptr_t)at % SX_LINE));
            PyBuffer_Release(&self->buffer);
            return NULL;
        }
        core = ((ArenaObject *)arena)->core;
        sx_arena_keep(core);
        s = sx_object_at(core, at, (size_t)(self->buffer.len - offset), &request, &self->object);
        needed = request.needed != 0 ? request.needed : needed;
    }
    if (s == SX_OK) {
        opened(self, arena, core);
        return PyBool_FromLong(self->object.created);
    }
    if (s == SX_TOO_SMALL)
        PyErr_Format(PyExc_ValueError, "%zu bytes are needed at offset %zd, but the buffer has %zd", needed, offset,
                     self->buffer.len);
    else if (s == SX_DAMAGED)
        PyErr_Format(PyExc_ValueError,
                     "the %zu bytes at offset %zd are neither zero nor an object of this version; fill them with zeros "
                     "before the first use",
                     needed, offset);
    if (core != NULL && PyErr_Occurred())
        sx_arena_release(core);
    else if (core != NULL)
        not_opened(self, s, arena, core, &request);
    PyBuffer_Release(&self->buffer);
    return NULL;
}

static void drop(HandleObject *self)
{
    if (!closed(self)) {
        struct sx_arena *core = self->core;
        bool quiet = sx_quiet;
        self->core = &sx_closed_arena;
        sx_quiet = true; /* no signal handlers from here, and so no exceptions; they run a moment later */
        if (self->methods->closing != NULL)
            self->methods->closing(self);
        else
            sx_object_close(core, &self->object);
        sx_quiet = quiet;
        sx_arena_release(core);
    }
    if (self->buffer.obj != NULL)
        PyBuffer_Release(&self->buffer);
}

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Give this handle up; using it afterwards raises ValueError.  The object itself stays (a named one until "
             "it is\n"
             "unlinked).  Releases the buffer of an object in the user's memory.  RuntimeError while a thread of this "
             "process\n"
             "holds it or waits for it.");

static PyObject *handle_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (self->methods != NULL && self->methods->held != NULL && !closed(self) && self->methods->held(self)) {
        PyErr_Format(PyExc_RuntimeError, "%R is held by this thread: release it before closing it", op);
        return NULL;
    }
    if (self->waiting != 0 || (self->methods != NULL && self->methods->held_here != NULL && !closed(self) &&
                               self->methods->held_here(self))) {
        PyErr_Format(PyExc_RuntimeError, "%R is in use by another thread of this process: close it afterwards", op);
        return NULL;
    }
    drop(self);
    Py_RETURN_NONE;
}

static PyObject *not_shared(PyObject *op)
{
    return PyErr_Format(PyExc_TypeError,
                        "a %.100s is no object of the arena: it has neither statistics nor a reference",
                        Py_TYPE(op)->tp_name);
}

/* _pin() -> (unit, generation, kind), what a pickle says */
static PyObject *handle_pin(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    if (self->object.cell == NULL)
        return not_shared(op);
    if (self->object.unit == SX_NOBODY)
        return PyErr_Format(PyExc_TypeError,
                            "%R lies in memory that you brought: send that memory (its SharedMemory, its file) to "
                            "the other process and call %s.at there",
                            op, Py_TYPE(op)->tp_name);
    sx_object_pin(self->core, &self->object);
    return Py_BuildValue("IIi", self->object.unit, self->object.generation, (int)self->kind);
}

/* _configure(timeout[, deadlock, priority]): those that are left away stay as they are */
static PyObject *handle_configure(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    HandleObject *self = (HandleObject *)op;
    int64_t patience = SX_NEVER;
    signed char deadlock = DEADLOCK_DEFAULT, priority = 0;
    if (n != 1 && n != 3)
        return PyErr_Format(PyExc_TypeError, "_configure() takes a timeout, or timeout, deadlock and priority");
    if (args[0] != Py_None && (patience = sx_nanoseconds(args[0])) < 0)
        return NULL;
    if (n == 3 && sx_parse_deadlock(args[1], args[2], &deadlock, &priority) < 0)
        return NULL;
    self->patience = patience;
    if (n == 3) {
        self->deadlock = deadlock;
        self->priority = priority;
    }
    Py_RETURN_NONE;
}

/* "raise", "report" or "off": what is in force now */
static PyObject *handle_deadlock(PyObject *op, void *unused)
{
    (void)unused;
    int which = ((HandleObject *)op)->deadlock;
    return sx_py_deadlock_name(which == DEADLOCK_DEFAULT ? atomic_load(&sx_deadlock_default) : which);
}

/* _given: (deadlock or None, priority) as the object was made with */
static PyObject *handle_given(PyObject *op, void *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    return Py_BuildValue("Ni", sx_py_deadlock_name(self->deadlock), (int)self->priority);
}

static PyObject *handle_statistics(PyObject *op, PyObject *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    if (self->object.cell == NULL)
        return not_shared(op);
    struct sx_counts c;
    sx_count(self->object.cell, (enum sx_kind)self->kind, &c);
    PyObject *acquired = Py_None;
    if (c.counted)
        acquired = PyLong_FromUnsignedLongLong(c.acquired);
    else
        Py_INCREF(acquired);
    return acquired == NULL ? NULL
                            : Py_BuildValue("{sNsKsdsdsKsK}", "acquisitions", acquired, "contended",
                                            (unsigned long long)c.contended, "waited", (double)c.waited_ns / 1e9,
                                            "longest_wait", (double)c.longest_ns / 1e9, "recoveries",
                                            (unsigned long long)c.recoveries, "rescues", (unsigned long long)c.rescues);
}

/* ---- life ---------------------------------------------------------------------------------------------- */
PyObject *sx_handle_new(PyTypeObject *type, const struct handle_methods *methods)
{
    HandleObject *self = (HandleObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = sx_state(type);
        self->core = &sx_closed_arena;
        self->methods = methods;
        self->patience = SX_NEVER;
        self->deadlock = DEADLOCK_DEFAULT;
        self->object.unit = SX_NOBODY;
    }
    return (PyObject *)self;
}

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, NULL);
}

int sx_handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((HandleObject *)op)->arena);
    Py_VISIT(((HandleObject *)op)->gates[ENTER]);
    Py_VISIT(((HandleObject *)op)->gates[EXIT]);
    Py_VISIT(Py_TYPE(op));
    return 0;
}

void sx_handle_dealloc(PyObject *op)
{
    HandleObject *self = (HandleObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (type->tp_finalize != NULL && PyObject_CallFinalizerFromDealloc(op) < 0)
        return; /* a gate is out and owns us now */
    PyObject_GC_UnTrack(op);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(op);
    PyObject *et, *ev, *tb;
    PyErr_Fetch(&et, &ev, &tb);
    drop(self);
    PyErr_Restore(et, ev, tb);
    sx_gates_clear(self);
    if (type->tp_clear != NULL)
        type->tp_clear(op);
    Py_CLEAR(self->arena);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *handle_arena(PyObject *op, void *unused)
{
    (void)unused;
    PyObject *arena = (PyObject *)((HandleObject *)op)->arena;
    arena = arena == NULL ? Py_None : arena;
    Py_INCREF(arena);
    return arena;
}

static PyObject *handle_closed(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(closed(op));
}

static PyObject *handle_timeout(PyObject *op, void *unused)
{
    (void)unused;
    int64_t patience = ((HandleObject *)op)->patience;
    if (patience == SX_NEVER)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)patience / 1e9);
}

/* The value, parties or count that the object was made with. */
static PyObject *handle_parameter(PyObject *op, void *unused)
{
    (void)unused;
    HandleObject *self = (HandleObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return self->object.cell == NULL ? not_shared(op) : PyLong_FromUnsignedLong(self->object.cell->parameter);
}

static PyMethodDef handle_function_table[] = {
    {"close", handle_close, METH_NOARGS, close_doc},
    {"statistics", handle_statistics, METH_NOARGS,
     "statistics($self, /)\n--\n\nA dict, syncx.Statistics, of what happened to the object since it was made, in all "
     "processes:\nacquisitions, contended, waited, longest_wait, recoveries, rescues.  Waits for nobody."},
    {"_open", handle_open, METH_VARARGS, NULL},
    {"_open_reference", handle_open_reference, METH_VARARGS, NULL},
    {"_open_at", handle_open_at, METH_VARARGS, NULL},
    {"_pin", handle_pin, METH_NOARGS, NULL},
    {"_configure", (PyCFunction)(void (*)(void))handle_configure, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"arena", handle_arena, NULL, "The Arena the object belongs to.", NULL},
    {"closed", handle_closed, NULL, "True once close() was called.", NULL},
    {"timeout", handle_timeout, NULL, "How long a plain `with` waits, in seconds; None: for ever.", NULL},
    {"deadlock", handle_deadlock, NULL,
     "What becomes of a wait that is chosen to end a deadlock: \"raise\", \"report\" or \"off\".", NULL},
    {"_on_deadlock", handle_given, NULL, NULL, NULL},
    {"_parameter", handle_parameter, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
    {"priority", T_BYTE, offsetof(HandleObject, priority), READONLY,
     "Of its waits: the member of a deadlock with the lowest is chosen."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(HandleObject, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_new, handle_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_traverse, sx_handle_traverse},
    {Py_tp_methods, handle_function_table},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

PyType_Spec sx_handle_spec = {
    .name = "syncx._core.Handle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = handle_slots,
};

/* The interpreter's fast call of a method descriptor wants the very type that the descriptor was made for, not a
 * subclass, and costs half.  So each Python class gets descriptors of its own for the methods of its C types, but for
 * those that a Python class in between has replaced. */
PyObject *sx_own_methods(PyObject *module, PyObject *cls)
{
    struct module_state *state = PyModule_GetState(module);
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, state->handle_type))
        return PyErr_Format(PyExc_TypeError, "own_methods takes a class of shared objects, not %R", cls);
    PyObject *mro = ((PyTypeObject *)cls)->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (!PyType_IsSubtype(base, state->handle_type) || base->tp_methods == NULL)
            continue;
        for (PyMethodDef *d = base->tp_methods; d->ml_name != NULL; d++) {
            PyObject *found = PyObject_GetAttrString(cls, d->ml_name);
            bool is_its_own = found != NULL && PyObject_TypeCheck(found, &PyMethodDescr_Type) &&
                              ((PyMethodDescrObject *)found)->d_method == d;
            Py_XDECREF(found);
            if (found == NULL)
                return NULL;
            if (!is_its_own)
                continue;
            PyObject *method = PyDescr_NewMethod((PyTypeObject *)cls, d);
            int r = method == NULL ? -1 : PyObject_SetAttrString(cls, d->ml_name, method);
            Py_XDECREF(method);
            if (r < 0)
                return NULL;
        }
    }
    Py_INCREF(cls);
    return cls;
}

/* ---- arguments ------------------------------------------------------------------------------------------- */
int sx_parse_count(PyObject *value, const char *name, uint32_t most, uint32_t *count)
{
    if (PyBool_Check(value) || !PyLong_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", name, Py_TYPE(value)->tp_name);
        return -1;
    }
    int overflow;
    long v = PyLong_AsLongAndOverflow(value, &overflow);
    if (overflow != 0 || v < 1 || (unsigned long)v > most) {
        PyErr_Format(PyExc_ValueError, "%s must be from 1 to %u, not %R", name, most, value);
        return -1;
    }
    *count = (uint32_t)v;
    return 0;
}

int sx_parse_units(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *function, uint32_t most,
                   uint32_t *count)
{
    Py_ssize_t keywords = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    *count = 1;
    if (n + keywords > 1 || (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "n") != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes one argument at most: n=1", function);
        return -1;
    }
    return n + keywords == 0 ? 0 : sx_parse_count(args[0], "n", most, count);
}

enum acquire_argument { BLOCKING, TIMEOUT, COUNT, ON_DEADLOCK, PRIORITY, ARGUMENTS };

static int which_argument(struct module_state *state, PyObject *name, bool count, bool wish)
{
    static const char *const names[ARGUMENTS] = {"blocking", "timeout", "n", "deadlock", "priority"};
    if (name == state->blocking)
        return BLOCKING;
    if (name == state->timeout)
        return TIMEOUT;
    for (int i = 0; i < ARGUMENTS; i++)
        if ((i != COUNT || count) && (i < ON_DEADLOCK || wish) && PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return i;
    return -1;
}

static int wish_given(const HandleObject *self, PyObject *deadlock, PyObject *priority, uint32_t *wish)
{
    signed char which = self->deadlock, number = self->priority;
    if (sx_parse_deadlock(deadlock, priority, &which, &number) < 0)
        return -1;
    *wish = sx_wish_bits(which, number);
    return 0;
}

int sx_parse_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names, int64_t *deadline,
                     uint32_t *count, uint32_t *wish)
{
    PyObject *given[ARGUMENTS] = {NULL};
    if (n > 2) {
        PyErr_Format(PyExc_TypeError,
                     "acquire() takes at most 2 positional arguments: blocking=True, timeout=None (%zd given)", n);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        given[i] = args[i];
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int which = which_argument(self->state, name, count != NULL, wish != NULL);
        if (which < 0 || given[which] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         which >= 0      ? "acquire() got multiple values for argument '%U'"
                         : count == NULL ? "acquire() got an unexpected keyword argument '%U'; it takes blocking, "
                                           "timeout%s"
                                         : "acquire() got an unexpected keyword argument '%U'; it takes blocking, "
                                           "timeout, n%s",
                         name, wish != NULL ? ", deadlock and priority" : "");
            return -1;
        }
        given[which] = args[n + i];
    }
    if (given[COUNT] != NULL && sx_parse_count(given[COUNT], "n", SX_MAX_UNITS, count) < 0)
        return -1;
    if ((given[ON_DEADLOCK] != NULL || given[PRIORITY] != NULL) &&
        wish_given(self, given[ON_DEADLOCK], given[PRIORITY], wish) < 0)
        return -1;
    if (given[BLOCKING] == Py_False && given[TIMEOUT] == NULL) { /* the usual try */
        *deadline = 0;
        return 0;
    }
    return sx_deadline(given[BLOCKING], given[TIMEOUT], deadline);
}

int sx_parse_upgrade(HandleObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names, int64_t *deadline,
                     uint32_t *wish)
{
    PyObject *given[ARGUMENTS] = {NULL};
    Py_ssize_t keywords = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    bool good = n <= 1;
    if (n == 1)
        given[TIMEOUT] = args[0];
    for (Py_ssize_t i = 0; i < keywords && good; i++) {
        int which = which_argument(self->state, PyTuple_GET_ITEM(names, i), false, true);
        good = which > BLOCKING && given[which] == NULL;
        if (good)
            given[which] = args[n + i];
    }
    if (!good) {
        PyErr_SetString(PyExc_TypeError, "upgrade() takes timeout=None, and by keyword deadlock= and priority=");
        return -1;
    }
    *deadline = SX_NEVER;
    *wish = wish_of(self);
    return wish_given(self, given[ON_DEADLOCK], given[PRIORITY], wish) < 0
               ? -1
               : sx_deadline(NULL, given[TIMEOUT], deadline);
}

int sx_parse_wait(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *function, int64_t *deadline)
{
    Py_ssize_t keywords = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (n + keywords > 1 ||
        (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes one argument at most: timeout=None", function);
        return -1;
    }
    *deadline = SX_NEVER;
    return n + keywords == 0 ? 0 : sx_deadline(NULL, args[0], deadline);
}
