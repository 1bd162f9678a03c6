/* kinds.c: what object.c must know of each kind of cell. */
#include "core.h"

extern const struct sx_kind_operations sx_mutex_kind;
extern const struct sx_kind_operations sx_event_kind;
extern const struct sx_kind_operations sx_once_kind;
extern const struct sx_kind_operations sx_semaphore_kind;
extern const struct sx_kind_operations sx_latch_kind;
extern const struct sx_kind_operations sx_permits_kind;
extern const struct sx_kind_operations sx_rwlock_kind;
extern const struct sx_kind_operations sx_condition_kind;
extern const struct sx_kind_operations sx_barrier_kind;

static const struct sx_kind_operations *const kinds[SX_KINDS] = {
    [SX_KIND_MUTEX] = &sx_mutex_kind,         [SX_KIND_RLOCK] = &sx_mutex_kind,
    [SX_KIND_EVENT] = &sx_event_kind,         [SX_KIND_ONCE] = &sx_once_kind,
    [SX_KIND_SEMAPHORE] = &sx_semaphore_kind, [SX_KIND_LATCH] = &sx_latch_kind,
    [SX_KIND_PERMITS] = &sx_permits_kind,     [SX_KIND_RWLOCK] = &sx_rwlock_kind,
    [SX_KIND_CONDITION] = &sx_condition_kind, [SX_KIND_BARRIER] = &sx_barrier_kind,
};

/* NULL: no kind of object of its own. */
const struct sx_kind_operations *sx_kind_operations(enum sx_kind kind)
{
    return (unsigned)kind < SX_KINDS ? kinds[kind] : NULL;
}

size_t sx_kind_size(enum sx_kind kind, uint32_t parameter)
{
    const struct sx_kind_operations *operations = sx_kind_operations(kind);
    return operations == NULL || (operations->parameter_max != 0 && parameter > operations->parameter_max)
               ? 0
               : operations->size(parameter);
}
