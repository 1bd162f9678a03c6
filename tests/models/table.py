"""The models, what is verified of each, and the mutants that must be refuted."""

from __future__ import annotations

from . import Model, Mutant, Variant

_ALIVE = "the living are not taken for dead"
_NOTIFIED = "no lost notification"

_MUTEX = Model(
    "mutex",
    "the mutex",
    (
        Variant("alive", "3 threads, one with a time limit; nobody dies; no belt", ("N=3", "TIMED=4", "TURNS=4")),
        Variant("four", "4 threads; nobody dies; no belt", ("N=4", "TURNS=4")),
        Variant(
            "holder",
            "3 threads; a holder is killed; no belt",
            ("N=3", "DEATHS=1", "HOLDERS", "TURNS=4"),
        ),
        Variant(
            "giver",
            "3 threads, no futex_waitv; one is killed when it has given the lock; no belt",
            ("N=3", "DEATHS=1", "HOLDERS", "GIVERS", "NO_WAITV", "TURNS=3"),
        ),
        Variant(
            "death",
            "3 threads; one is killed anywhere, its slot is used again; within the belt",
            ("N=3", "DEATHS=1", "BELT", "TURNS=3"),
        ),
        Variant(
            "deaths",
            "2 threads, one with a time limit; two are killed anywhere, the kernel's mark may miss; belts at any time",
            ("N=2", "TIMED=2", "DEATHS=2", "BELT", "EARLY=1", "TURNS=4", "UNMARKED"),
        ),
    ),
    (
        Mutant("M_TAKES_WITHOUT_COMPARING", "a word is taken by a compare-and-swap", "alive", "exclusion"),
        Mutant("M_UNRESERVES_WITHOUT_COMPARING", "a reservation is taken back by a CAS", "alive", "exclusion"),
        Mutant("M_TAKES_WITHOUT_WAITERS", "who has slept takes the word with WAITERS", "alive", "no lost wake-up"),
        Mutant("M_TAKES_WITHOUT_FLAGS", "a taker keeps WAITERS and OWNER_DIED", "deaths", "a death is told"),
        Mutant("M_SLEEPS_WITHOUT_WAITERS", "WAITERS is in the word before one sleeps", "alive", "no lost wake-up"),
        Mutant("M_KERNEL_DOES_NOT_COMPARE", "the kernel compares the word again", "alive", "no lost wake-up"),
        Mutant("M_GIVES_WITHOUT_COMPARING", "a word without WAITERS is given by a CAS", "holder", "no lost wake-up"),
        Mutant("M_LEAVES_SILENTLY", "who leaves passes on the wake that it may have had", "alive", "no lost wake-up"),
        Mutant("M_STORE_THEN_WAKE", "change and wake are one system call", "giver", "no lost wake-up"),
        Mutant("M_NOBODY_WATCHES", "who takes after a sleep wakes one to watch it", "holder", "no lost wake-up"),
        Mutant("M_KERNEL_IS_NOT_TOLD", "FUTEX_WAITERS is in every life word", "holder", "no lost wake-up"),
        Mutant("M_TAKES_FROM_THE_LIVING", "only a dead id is taken over", "deaths", "exclusion or a death is told"),
        Mutant("M_GENERATION_IGNORED", "an id of an older generation is dead", "deaths", "no lost wake-up"),
        Mutant(
            "M_SAME_GENERATION",
            "the generation steps when a slot is used again",
            "deaths",
            "an id is one thread's",
        ),
        Mutant("M_DEATH_NOT_TOLD", "who takes over from the dead is told", "deaths", "a death is told"),
    ),
    also=("mutex.c:wake_one", "wait.c:sx_wake_one", "participant.c:owned"),
)

_PARTICIPANTS = Model(
    "participants",
    "registration, reaping, who is alive",
    (
        Variant(
            "marks",
            "3 threads, 1 slot; one is killed, with or without the kernel's mark; 2 ask the second witness",
            ("N=3", "SLOTS=1", "TURNS=4", "DEATHS=1", "UNMARKED", "EXAMINERS=6"),
        ),
        Variant(
            "processes",
            "3 threads, 1 slot; one is killed, with the kernel's mark; one asks which processes live",
            ("N=3", "SLOTS=1", "TURNS=4", "DEATHS=1", "JUDGES=4"),
        ),
        Variant(
            "four",
            "4 threads, 1 slot; one is killed, with the kernel's mark; one asks the second witness",
            ("N=4", "SLOTS=1", "TURNS=3", "DEATHS=1", "EXAMINERS=2"),
        ),
        Variant("slots", "2 threads, 2 slots; two are killed", ("N=2", "TURNS=4", "DEATHS=2")),
    ),
    (
        Mutant("M_REAPS_BEFORE_IT_CLAIMS", "who reaps has claimed the slot", "marks", "one reaper"),
        Mutant("M_CLAIMS_THE_OWNED", "a slot is claimed by trylock of its life lock", "processes", "one owner"),
        Mutant("M_SAME_GENERATION", "the generation steps at each claim", "processes", "an id is one thread's"),
        Mutant("M_LEAVES_ITS_RECORD", "who leaves takes its record away", "processes", _ALIVE),
        Mutant("M_OLD_RECORD_STAYS", "a claimer takes the old record away", "marks", _ALIVE),
        Mutant("M_RECORD_NOT_LOOKED_AT_AGAIN", "... and while its record is there", "processes", _ALIVE),
        Mutant(
            "M_SLOT_NOT_LOOKED_AT_AGAIN", "a mark counts for the use of the slot that was read", "processes", _ALIVE
        ),
        Mutant("M_PREDECESSORS_RECORD", "a record counts for the tid that it names", "marks", _ALIVE),
        Mutant("M_VERDICT_ON_ANOTHER", "a verdict counts for the generation that was judged", "marks", _ALIVE),
        Mutant("M_MARKS_WITHOUT_COMPARING", "a death is marked by a CAS of what was judged", "marks", _ALIVE),
        Mutant("M_TID_COMES_AGAIN", "no tid comes back to its slot while somebody marks it", "marks", _ALIVE),
    ),
    also=(
        "participant.c:owned",
        "participant.c:sx_life_word",
        "process.c:lock_byte",
        "process.c:next_generation",
        "process.c:sx_process_at",
        "process.c:sx_process_of",
        "process.c:sx_process_of_thread",
    ),
)

_PERMITS = Model(
    "permits",
    "the semaphore with permits that have owners",
    (
        Variant("one", "3 processes want 1 permit, one with a time limit", ("N=3", "PERMITS=1", "TURNS=4", "TIMED=1")),
        Variant(
            "try",
            "2 permits; one process takes both at once, one waits, one tries",
            ("N=3", "TURNS=3", "TRIERS=1", "COLLECTORS=4"),
        ),
        Variant(
            "several", "2 permits; two processes take both at once, one takes one", ("N=3", "TURNS=3", "COLLECTORS=6")
        ),
        Variant("four", "4 processes want 1 permit; nobody dies; no belt", ("N=4", "PERMITS=1", "TURNS=4")),
        Variant(
            "holder",
            "3 processes want 1 permit; who has it is killed; no belt",
            ("N=3", "PERMITS=1", "TURNS=3", "DEATHS=1", "HOLDERS"),
        ),
        Variant(
            "death",
            "3 processes want 1 permit; one is killed anywhere, its slot is used again; within the belt",
            ("N=3", "PERMITS=1", "TURNS=3", "DEATHS=1", "BELT"),
        ),
        Variant(
            "deaths",
            "2 processes want 1 permit; two are killed anywhere, their slots are used again; within the belt",
            ("N=2", "PERMITS=1", "TURNS=4", "DEATHS=2", "BELT"),
        ),
        Variant(
            "collector",
            "2 processes, 2 permits: one takes both; one is killed anywhere; within the belt",
            ("N=2", "TURNS=3", "DEATHS=1", "BELT", "COLLECTORS=2"),
        ),
    ),
    (
        Mutant("M_TAKES_WITHOUT_COMPARING", "a permit is taken by a CAS", "one", "no doubled permit"),
        Mutant("M_DOES_NOT_LOOK_AGAIN", "who has set WAITERS looks again", "one", "no lost wake-up"),
        Mutant("M_LOOKS_BEFORE_IT_FREES", "sleepers are looked for after the permit is free", "one", "no lost wake-up"),
        Mutant("M_NEXT_IS_NOT_WOKEN", "who takes after a sleep wakes one more", "holder", "no lost wake-up"),
        Mutant(
            "M_TENTATIVE_IS_HELD", "a try waits for a set to be decided", "try", "a set in the making is no failure"
        ),
        Mutant("M_GIVES_UP_WITHOUT_COMPARING", "a set is given up by a CAS of each", "several", "no doubled permit"),
        Mutant("M_COLLECTORS_TOGETHER", "one process at a time takes several", "several", "no lost wake-up"),
        Mutant("M_PERMITS_OF_THE_DEAD_STAY", "a permit of the dead is free", "death", "no lost permit"),
        Mutant("M_GENERATION_IGNORED", "a permit of an older generation is free", "deaths", "no lost permit"),
        Mutant("M_KERNEL_IS_NOT_TOLD", "FUTEX_WAITERS is in every life word", "holder", "no lost wake-up"),
    ),
    also=(
        "permits.c:look_at",
        "permits.c:lock_several",
        "process.c:sx_process_life",
        "process.c:sx_process_at",
        "process.c:sx_process_of",
    ),
)

_RWLOCK = Model(
    "rwlock",
    "the readers-writer lock",
    (
        Variant(
            "readers",
            "2 readers and a writer, one reader with a time limit",
            ("N=3", "READERS=3", "TURNS=4", "TIMED=1"),
        ),
        Variant(
            "writers",
            "a reader and 2 writers, one writer with a time limit",
            ("N=3", "READERS=1", "TURNS=3", "TIMED=4"),
        ),
        Variant("four", "2 readers and 2 writers; nobody dies; no belt", ("N=4", "READERS=5", "TURNS=4")),
        Variant(
            "death",
            "a reader and 2 writers; one is killed anywhere, its slot is used again; within the belt",
            ("N=3", "READERS=1", "TURNS=3", "DEATHS=1", "BELT"),
        ),
        Variant(
            "deaths",
            "a reader and a writer; two are killed anywhere, their slots are used again; within the belt",
            ("N=2", "READERS=1", "TURNS=4", "DEATHS=2", "BELT"),
        ),
    ),
    (
        Mutant("M_LOOKS_BEFORE_IT_MARKS", "a reader marks itself, then looks for a writer", "readers", "exclusion"),
        Mutant("M_PENDING_BY_WAY_OF_NOTHING", "a mark becomes PENDING without going", "writers", "exclusion"),
        Mutant("M_NEVER_PENDING", "a reader that waits for a writer does not hold it up", "readers", "no lost wake-up"),
        Mutant("M_WRITER_NOT_TOLD", "a reader that leaves steps `drain` and wakes", "readers", "no lost wake-up"),
        Mutant(
            "M_SLEEPS_WITHOUT_WAITERS", "WAITERS is in the phase before a reader sleeps", "readers", "no lost wake-up"
        ),
        Mutant("M_READERS_DO_NOT_MEND", "a reader ends the phase of a dead writer", "deaths", "no lost wake-up"),
        Mutant(
            "M_DEAD_PHASE_STAYS",
            "who gets the mutex from the dead ends their phase",
            "deaths",
            "exclusion or a death is told",
        ),
        Mutant(
            "M_TORN_IS_NOT_KEPT", "what a writer left torn is marked until it is mended", "deaths", "a death is told"
        ),
        Mutant(
            "M_MARKS_ARE_LEFT",
            "the marks of the dead go before the slot's generation steps",
            "deaths",
            "no lost wake-up",
        ),
    ),
    also=("rwlock.c:sx_rwlock_write", "marks.c:counts", "marks.c:sx_mark_remove", "core.h:sx_mark"),
)

_CONDITION = Model(
    "condition",
    "the condition variable",
    (
        Variant(
            "alive",
            "2 waiters, one with a time limit, and a notifier; nobody dies; no belt",
            ("N=3", "NOTIFIERS=1", "TIMED=2", "TURNS=5"),
        ),
        Variant("four", "3 waiters and a notifier; nobody dies; no belt", ("N=4", "NOTIFIERS=1", "TURNS=6")),
        Variant(
            "death",
            "2 waiters and a notifier; one is killed anywhere, its slot is used again; within the belt",
            ("N=3", "NOTIFIERS=1", "TURNS=4", "DEATHS=1", "BELT"),
        ),
        Variant(
            "deaths",
            "2 waiters and a notifier; two are killed anywhere, their slots are used again; within the belt",
            ("N=3", "NOTIFIERS=1", "TURNS=3", "DEATHS=2", "BELT"),
        ),
    ),
    (
        Mutant("M_NOTIFIES_WITHOUT_COMPARING", "a waiter is notified by a CAS", "alive", _NOTIFIED),
        Mutant("M_LEAVES_WITHOUT_COMPARING", "a waiter whose time is over leaves by a CAS", "alive", _NOTIFIED),
        Mutant("M_LEAVES_SILENTLY", "who gives up passes its notification on", "alive", _NOTIFIED),
        Mutant(
            "M_PASSES_ON_TO_ANYBODY",
            "it is passed on to those who waited when it was sent",
            "alive",
            "who began to wait later is not notified",
        ),
        Mutant(
            "M_GIVES_THE_LOCK_UP_FIRST",
            "a waiter enrols before it gives the lock up",
            "alive",
            "a notification is sent to those who wait",
        ),
        Mutant("M_KEEPS_THE_LOCK", "who waits has given the lock up", "four", "no lost wake-up"),
        Mutant(
            "M_CONSUMES_BEFORE_THE_LOCK", "a notification is consumed when the lock is held again", "death", _NOTIFIED
        ),
        Mutant("M_NOBODY_RELIEVES", "on the belt, what the dead were given is passed on", "death", _NOTIFIED),
        Mutant(
            "M_TAKES_OVER_WITHOUT_COMPARING",
            "a notification is taken over by a CAS",
            "deaths",
            "no notification is used twice",
        ),
        Mutant("M_NOTHING_IS_INHERITED", "who claims a slot passes on what lies in it", "death", _NOTIFIED),
    ),
    also=("condition.c:sx_condition_leave", "condition.c:waits_for", "wait.c:keep"),
)

_DEADLOCK = Model(
    "deadlock",
    "the victim of a deadlock",
    (
        Variant("ring", "3 threads in a ring of 3 mutexes, once each; no belt", ("N=3", "RING", "ONCE")),
        Variant("again", "the ring, again and again; within the belt", ("N=3", "RING", "TURNS=4", "BELT")),
        Variant(
            "interrupted",
            "the ring; handlers interrupt one thread, and may end its wait: no false victim",
            ("N=3", "RING", "TURNS=3", "INTERRUPTED=2"),
        ),
        Variant(
            "overlap", "a writer and 2 readers: two deadlocks with one member in common", ("N=3", "BELT", "TURNS=3")
        ),
        Variant("death", "the ring, once; one is killed anywhere", ("N=3", "RING", "ONCE", "DEATHS=1", "BELT")),
    ),
    (
        Mutant("M_DOES_NOT_LOOK", "who is about to sleep looks for a deadlock", "ring", "no lost wake-up"),
        Mutant(
            "M_DOES_NOT_LOOK_AGAIN",
            "the records of the members are read again",
            "interrupted",
            "no victim without a deadlock",
        ),
        Mutant(
            "M_DOES_NOT_LOOK_ONCE_MORE",
            "who has claimed itself reads the records of the others once more",
            "overlap",
            "one victim of each deadlock",
        ),
        Mutant("M_VICTIM_IS_WHO_LOOKS", "all who see it compute the same victim", "ring", "no lost wake-up"),
        Mutant(
            "M_VICTIM_DOES_NOT_ASK", "a victim asks whether it is one still", "overlap", "no victim without a deadlock"
        ),
    ),
    also=(
        "deadlock.c:victim_of",
        "deadlock.c:victim_since",
        "deadlock.c:holds",
        "deadlock.c:reach",
    ),
)

MODELS = (_MUTEX, _PARTICIPANTS, _PERMITS, _RWLOCK, _CONDITION, _DEADLOCK)
