/* py_common.h: what the binding files share.  Only py_*.c and module.c include Python.h. */
#ifndef SYNCX_PY_COMMON_H
#define SYNCX_PY_COMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

struct module_state {
    PyTypeObject *arena_type;
    PyTypeObject *mutex_type;
    PyTypeObject *gate_type;
    PyTypeObject *descriptor_type;
    PyObject *translate;          /* syncx.errors.translate(status, errno, what, detail) -> exception */
    PyObject *owner_died;         /* syncx.errors.report_owner_death(lock, pid, tid) */
    PyObject *blocking, *timeout; /* interned names */
};

extern struct PyModuleDef sx_module;

/* The module's state from one of its types, or a subclass of one. */
struct module_state *sx_state(PyTypeObject *type);

/* Raises what the status says; `what` is the object for the message, `detail` an int with a meaning of the
 * status's own.  Returns NULL. */
PyObject *sx_raise(struct module_state *state, enum sx_status status, PyObject *what, long detail);

/* threading's rules: None and -1 are for ever, other negative numbers are refused, blocking=False takes no
 * timeout.  The deadline: 0 for a try, SX_NEVER, or a time.  -1 with an exception. */
int sx_deadline(PyObject *blocking, PyObject *timeout, int64_t *deadline);
/* Seconds (a float or an int, not negative) to ns; -1 with an exception. */
int64_t sx_nanoseconds(PyObject *seconds);

/* Around a call that may wait and must not run signal handlers (deallocation). */
extern _Thread_local bool sx_quiet;

typedef struct {
    PyObject_HEAD
    struct sx_arena *core; /* NULL once closed */
    PyObject *weak;
} ArenaObject;

typedef struct GateObject GateObject;

typedef struct {
    PyObject_HEAD
    struct sx_arena *core; /* &sx_closed_arena once closed */
    struct sx_mutex *mutex;
    GateObject *gates[2]; /* what `with` calls: made once, see py_gate.c */
    struct module_state *state;
    struct sx_object object;
    int64_t patience;   /* of a plain `with`, ns; SX_NEVER */
    ArenaObject *arena; /* keeps the mapping */
    Py_buffer buffer;   /* of a mutex in the user's memory */
    PyObject *on_owner_death;
    PyObject *weak;
    enum sx_kind kind;
    int policy;
    _Atomic int waiting;     /* threads in a slow acquire through this object */
    long dead_pid, dead_tid; /* with untold: whom to name when the hold ends */
    bool untold;
    bool recursive;
    bool plain; /* hand out ordinary bound methods from now on */
} MutexObject;

enum policy { POLICY_RECOVER, POLICY_RAISE, POLICY_IGNORE, POLICY_CALL };

extern PyType_Spec sx_arena_spec, sx_mutex_spec, sx_gate_spec, sx_descriptor_spec;

/* what several files ask of a lock object */
static inline bool closed(MutexObject *self)
{
    return self->core == &sx_closed_arena;
}

static inline enum sx_status identity_of(MutexObject *self, uint64_t *me)
{
    return closed(self) ? SX_CLOSED : sx_identity(self->core, me);
}

/* The id in the word, or 0 when it is free or names a dead thread. */
static inline uint64_t live_holder(MutexObject *self)
{
    uint32_t life;
    uint64_t w = atomic_load_explicit(&self->mutex->word, memory_order_acquire);
    return sx_is_free(w) || sx_holder_life(self->core, w, &life) != SX_ALIVE ? 0 : w & SX_ID_MASK;
}

static inline bool is_owned(MutexObject *self)
{
    uint64_t me;
    return identity_of(self, &me) == SX_OK &&
           (atomic_load_explicit(&self->mutex->word, memory_order_relaxed) & SX_ID_MASK) == me;
}

/* mutex <-> gate */
PyObject *sx_mutex_enter(MutexObject *self);
PyObject *sx_mutex_exit(MutexObject *self, bool raised);
PyObject *sx_mutex_open(PyObject *op, PyObject *args);
PyObject *sx_mutex_open_reference(PyObject *op, PyObject *args);
PyObject *sx_mutex_open_at(PyObject *op, PyObject *args);
PyObject *sx_mutex_close(PyObject *op, PyObject *unused);
PyObject *sx_mutex_pin(PyObject *op, PyObject *unused);
PyObject *sx_mutex_configure(PyObject *op, PyObject *args);
void sx_mutex_drop(MutexObject *self);
PyObject *sx_mutex_own_methods(PyObject *module, PyObject *cls);
int sx_gates_add_to_type(struct module_state *state, PyTypeObject *type);
void sx_gates_finalize(PyObject *self);
void sx_gates_clear(MutexObject *self);

#endif
