/* py_gate.c: what `with lock:` finds and calls.
 *
 * The interpreter looks up __enter__ and __exit__ on the type at every `with` and, for ordinary methods, makes and
 * drops two bound methods, which takes longer than locking.  Here the lookup meets a descriptor that hands out a
 * callable made once for each lock, a gate.
 *
 * Ownership without a cycle: a lock owns its gates, a gate only points back.  When a lock is about to die while a
 * gate is out (as in `with Mutex("jobs"):`, where nothing else refers to the lock), the ownership turns round in
 * tp_finalize: the gate now owns the lock, the lock no longer owns the gate, and the lock lives until the gate is
 * dropped, or until the collector finds that only the lock itself keeps the gate.  A lock to which that happened hands
 * out ordinary bound methods from then on, and so does one whose class brings a finalizer of its own, and every lock of
 * a build without the GIL, where another thread may take a gate at any time.
 */
#include "py_common.h"
#include <structmember.h>

bool sx_too_many(const char *name, Py_ssize_t count, PyObject *keywords, Py_ssize_t want)
{
    if (count == want && (keywords == NULL || PyTuple_GET_SIZE(keywords) == 0))
        return false;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd positional arguments and no keywords (%zd given)", name, want, count);
    return true;
}

/* ---- gates ------------------------------------------------------------------------------------------- */
static PyObject *call_of_the_dead(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)gate, (void)args, (void)nargsf, (void)keywords;
    PyErr_SetString(PyExc_ReferenceError, "the lock of this method no longer exists");
    return NULL;
}

static PyMemberDef gate_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(GateObject, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void gate_dealloc(PyObject *self)
{
    GateObject *gate = (GateObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject *owned = gate->owns ? (PyObject *)gate->handle : NULL;
    PyObject_GC_UnTrack(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
    Py_XDECREF(owned);
}

/* A lock may keep its own gate (`self.enter = self.__enter__`): once the gate owns the lock, that is a cycle. */
static int gate_traverse(PyObject *self, visitproc visit, void *arg)
{
    GateObject *gate = (GateObject *)self;
    if (gate->owns)
        Py_VISIT(gate->handle);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int gate_clear(PyObject *self)
{
    GateObject *gate = (GateObject *)self;
    if (gate->owns) {
        PyObject *owned = (PyObject *)gate->handle;
        gate->owns = false;
        gate->handle = NULL;
        gate->call = call_of_the_dead;
        Py_DECREF(owned);
    }
    return 0;
}

static PyObject *gate_repr(PyObject *self)
{
    GateObject *gate = (GateObject *)self;
    if (gate->handle == NULL)
        return PyUnicode_FromString("<bound method of a lock that no longer exists>");
    const char *name = gate->call == gate->handle->calls[EXIT] ? "__exit__" : "__enter__";
    return PyUnicode_FromFormat("<bound method %s of %R>", name, gate->handle);
}

static PyObject *gate_self(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *handle = (PyObject *)((GateObject *)self)->handle;
    handle = handle == NULL ? Py_None : handle;
    Py_INCREF(handle);
    return handle;
}

static PyGetSetDef gate_getset[] = {
    {"__self__", gate_self, NULL, "The lock.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot gate_slots[] = {
    {Py_tp_dealloc, gate_dealloc},   {Py_tp_repr, gate_repr},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_traverse, gate_traverse},
    {Py_tp_clear, gate_clear},       {Py_tp_members, gate_members},
    {Py_tp_getset, gate_getset},     {0, NULL},
};

PyType_Spec sx_gate_spec = {
    .name = "syncx._core.Gate",
    .basicsize = sizeof(GateObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC
#ifdef Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_DISALLOW_INSTANTIATION
#endif
    ,
    .slots = gate_slots,
};

static GateObject *gate_new(struct module_state *state, HandleObject *handle, enum which which)
{
    GateObject *gate = PyObject_GC_New(GateObject, state->gate_type);
    if (gate == NULL)
        return NULL;
    gate->handle = handle;
    gate->owns = false;
    gate->call = handle->calls[which];
    PyObject_GC_Track((PyObject *)gate);
    return gate;
}

/* tp_finalize of the lock: see the head of the file. */
void sx_gates_finalize(PyObject *self)
{
    HandleObject *m = (HandleObject *)self;
    for (int i = 0; i < 2; i++) {
        GateObject *gate = m->gates[i];
        if (gate != NULL && Py_REFCNT(gate) > 1) {
            m->gates[i] = NULL;
            m->plain = true;
            gate->owns = true;
            Py_INCREF(self);
            Py_DECREF(gate);
        }
    }
    if (m->plain)
        sx_gates_clear(m); /* this is called once: the other one must not be handed out again */
}

void sx_gates_clear(HandleObject *m)
{
    for (int i = 0; i < 2; i++) {
        GateObject *gate = m->gates[i];
        m->gates[i] = NULL;
        if (gate != NULL && Py_REFCNT(gate) > 1) { /* the class got a __del__ of its own after the gate was made */
            gate->call = call_of_the_dead;
            gate->handle = NULL;
        }
        Py_XDECREF(gate);
    }
}

/* ---- the descriptors __enter__ and __exit__ ---------------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    struct module_state *state; /* the type that holds us keeps the module */
    PyObject *method;           /* the same as an ordinary method descriptor */
    enum which which;
} DescriptorObject;

/* Everything but the usual case: access on the class, the first use of a lock, one that hands out bound methods. */
__attribute__((noinline)) static PyObject *descriptor_get_slow(DescriptorObject *d, PyObject *object, PyObject *type)
{
    if (object == NULL || object == Py_None) {
        Py_INCREF(d);
        return (PyObject *)d;
    }
    if (!PyObject_TypeCheck(object, d->state->handle_type)) {
        PyErr_Format(PyExc_TypeError, "%s requires a syncx lock, not %R", d->which == ENTER ? "__enter__" : "__exit__",
                     object);
        return NULL;
    }
#ifndef Py_GIL_DISABLED
    HandleObject *m = (HandleObject *)object;
    if (!m->plain && m->calls[d->which] != NULL && Py_TYPE(object)->tp_finalize == sx_gates_finalize) {
        GateObject *gate = gate_new(d->state, m, d->which);
        if (gate != NULL && m->gates[d->which] != NULL) { /* its making ran a collection, and a finalizer used us */
            Py_DECREF(gate);
            gate = m->gates[d->which];
        }
        m->gates[d->which] = gate;
        Py_XINCREF(gate);
        return (PyObject *)gate;
    }
#endif
    return Py_TYPE(d->method)->tp_descr_get(d->method, object, type);
}

static PyObject *descriptor_get(PyObject *self, PyObject *object, PyObject *type)
{
    DescriptorObject *d = (DescriptorObject *)self;
#ifndef Py_GIL_DISABLED
    /* only our type and its subclasses have this finalizer: cheaper to ask for than the type */
    if (object != NULL && Py_TYPE(object)->tp_finalize == sx_gates_finalize) {
        GateObject *gate = ((HandleObject *)object)->gates[d->which];
        if (gate != NULL) {
            Py_INCREF(gate);
            return (PyObject *)gate;
        }
    }
#endif
    return descriptor_get_slow(d, object, type);
}

/* Mutex.__enter__(lock), as contextlib.ExitStack calls it */
static PyObject *descriptor_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    return PyObject_Vectorcall(((DescriptorObject *)self)->method, args, PyVectorcall_NARGS(nargsf), keywords);
}

static int descriptor_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((DescriptorObject *)self)->method);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int descriptor_clear(PyObject *self)
{
    Py_CLEAR(((DescriptorObject *)self)->method);
    return 0;
}

static void descriptor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    descriptor_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *descriptor_attribute(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((DescriptorObject *)self)->method, name);
}

static PyMemberDef descriptor_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(DescriptorObject, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef descriptor_getset[] = {
    {"__name__", descriptor_attribute, NULL, NULL, "__name__"},
    {"__qualname__", descriptor_attribute, NULL, NULL, "__qualname__"},
    {"__doc__", descriptor_attribute, NULL, NULL, "__doc__"},
    {"__text_signature__", descriptor_attribute, NULL, NULL, "__text_signature__"},
    {"__objclass__", descriptor_attribute, NULL, NULL, "__objclass__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot descriptor_slots[] = {
    {Py_tp_descr_get, descriptor_get},   {Py_tp_call, PyVectorcall_Call},
    {Py_tp_dealloc, descriptor_dealloc}, {Py_tp_traverse, descriptor_traverse},
    {Py_tp_clear, descriptor_clear},     {Py_tp_members, descriptor_members},
    {Py_tp_getset, descriptor_getset},   {0, NULL},
};

PyType_Spec sx_descriptor_spec = {
    .name = "syncx._core.with_method",
    .basicsize = sizeof(DescriptorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC
#ifdef Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_DISALLOW_INSTANTIATION
#endif
    ,
    .slots = descriptor_slots,
};

static PyObject *plain_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return ((HandleObject *)self)->methods->enter((HandleObject *)self);
}

static PyObject *plain_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (sx_too_many("__exit__", n, NULL, 3))
        return NULL;
    return ((HandleObject *)self)->methods->exit((HandleObject *)self, args[0] != Py_None);
}

static PyMethodDef plain_methods[2] = {
    [ENTER] =
        {"__enter__", plain_enter, METH_NOARGS,
         "__enter__($self, /)\n--\n\nAcquires; waits as long as the lock's timeout says, and raises Timeout then."},
    [EXIT] = {"__exit__", (PyCFunction)(void (*)(void))plain_exit, METH_FASTCALL,
              "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\n"
              "Releases; an owner-died mark stays if the body raised."},
};

/* Puts the two descriptors into the type's dictionary. */
int sx_gates_add_to_type(struct module_state *state, PyTypeObject *type)
{
    for (int i = 0; i < 2; i++) {
        PyObject *method = PyDescr_NewMethod(type, &plain_methods[i]);
        if (method == NULL)
            return -1;
        DescriptorObject *d = PyObject_GC_New(DescriptorObject, state->descriptor_type);
        if (d == NULL) {
            Py_DECREF(method);
            return -1;
        }
        d->call = descriptor_call;
        d->state = state;
        d->method = method;
        d->which = i;
        PyObject_GC_Track((PyObject *)d);
        int r = PyObject_SetAttrString((PyObject *)type, plain_methods[i].ml_name, (PyObject *)d);
        Py_DECREF(d);
        if (r < 0)
            return -1;
    }
    return 0;
}
