"""The algorithm of semaphore.c, every interleaving of a few threads: nobody stays asleep while there is enough for it.

A model: a word (count, WAITERS, several), a queue of sleepers, and threads that take one atomic step at a time, as the
CPU and the kernel do.  Nobody dies in it and there is no belt.  Where a rule of the algorithm is left out the search
must find a wake-up that is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

pytestmark = pytest.mark.core

ALL = 1 << 30


class Word(NamedTuple):
    count: int
    waiters: bool = False
    several: int = 0


class Acquire(NamedTuple):
    n: int = 1
    gives_up: bool = False  # may time out


class Release(NamedTuple):
    n: int = 1


class Thread(NamedTuple):
    """Where a thread is in its program, and the locals of the operation under way."""

    item: int
    at: str = "begin"
    word: Word | None = None  # what it saw
    slept: bool = False
    woken: bool = False
    counted: bool = False  # in `several`
    final: bool = False  # its time is over
    woke: int = 0
    woke_all: bool = False


class State(NamedTuple):
    word: Word
    queue: tuple[int, ...]
    threads: tuple[Thread, ...]

    def wake(self, count: int) -> State:
        """FUTEX_WAKE: the first so many."""
        threads = list(self.threads)
        for t in self.queue[:count]:
            threads[t] = threads[t]._replace(at="look", slept=True, woken=True)
        return self._replace(queue=self.queue[count:], threads=tuple(threads))

    def then(self, t: int, at: str, word: Word | None = None, **changes) -> State:
        """The thread goes on to there, and the word is this one now."""
        me = self.threads[t]
        me = Thread(me.item + 1) if at == "done" else me._replace(at=at, **changes)
        threads = (*self.threads[:t], me, *self.threads[t + 1 :])
        return self._replace(word=self.word if word is None else word, threads=threads)


def acquire(s: State, t: int, op: Acquire, without: str) -> State | None:
    """The next step of the thread; None: it sleeps."""
    w, me = s.word, s.threads[t]
    if me.at in ("begin", "look"):
        return look(s, t)
    if me.at == "decide":
        seen = me.word
        if seen.count >= op.n:
            left = Word(seen.count - op.n, seen.waiters or me.slept, seen.several - me.counted)
            if w != seen:
                return look(s, t)
            return s.then(t, "pass on", left) if me.slept and left.count else s.then(t, "done", left)
        if me.final:
            left = Word(w.count, w.waiters or me.woken, w.several - me.counted)
            return s.then(t, "pass on", left) if me.woken or left.count else s.then(t, "done", left)
        counts = op.n > 1 and not me.counted
        prepared = Word(seen.count, True, seen.several + counts)
        if prepared != seen and w != seen:
            return look(s, t)
        s = s.then(t, "sleep", w if prepared == seen else prepared, counted=me.counted or counts, woken=False)
        return see(s, t, prepared)
    if me.at == "sleep":  # the kernel compares
        if w.count != me.word.count or not (w.waiters or without == "WAITERS in the futex"):
            return s.then(t, "look", slept=True)
        return s._replace(queue=(*s.queue, t)).then(t, "asleep")
    if me.at == "asleep":
        if not op.gives_up:
            return None
        s = s._replace(queue=tuple(x for x in s.queue if x != t))
        return s.then(t, "look", slept=True, final=True)
    if me.at == "pass on":
        return s.wake(ALL if w.several else 1).then(t, "look again", woke_all=w.several > 0)
    again = w.several and not me.woke_all and without != "another look after the wake"
    return (s.wake(ALL) if again else s).then(t, "done")


def release(s: State, t: int, op: Release, without: str) -> State:
    w, me = s.word, s.threads[t]
    if me.at == "begin":
        return look(s, t)
    if me.at == "decide":
        added = w._replace(count=w.count + op.n)
        if not me.word.waiters:
            return s.then(t, "done", added) if w == me.word else look(s, t)
        every = me.word.several > 0  # FUTEX_WAKE_OP
        after = s.wake(ALL if every else op.n)
        return after.then(t, "look again", added, woke=len(s.queue) - len(after.queue), woke_all=every)
    if me.at == "look again":
        again = w.several and not me.woke_all and without != "another look after the wake"
        return (s.wake(ALL) if again else s).then(t, "done" if me.woke else "clear?")
    if me.at == "clear?":
        return see(s.then(t, "clear"), t, w)
    clears = (
        me.word.waiters
        and (me.word.count > 0 or without == "clearing above 0 only")
        and (me.word.several == 0 or without == "no clearing for several")
    )
    return s.then(t, "done", w._replace(waiters=False) if clears and w == me.word else w)


def see(s: State, t: int, word: Word) -> State:
    return s._replace(threads=(*s.threads[:t], s.threads[t]._replace(word=word), *s.threads[t + 1 :]))


def look(s: State, t: int) -> State:
    """A load of the word, or a compare-and-swap that failed."""
    return see(s.then(t, "decide"), t, s.word)


def search(value: int, programs, without: str = "") -> tuple[int, list[str]]:
    """How many states there are, and what is wrong with one of the last, those in which nobody can go on."""
    start = State(Word(value), (), tuple(Thread(0) for _ in programs))
    seen, todo, wrong = {start}, [start], []
    while todo and not wrong:
        s = todo.pop()
        asleep = []
        ended = True
        for t, thread in enumerate(s.threads):
            if thread.item == len(programs[t]):
                continue
            op = programs[t][thread.item]
            after = (acquire if isinstance(op, Acquire) else release)(s, t, op, without)
            if thread.at == "asleep":
                asleep.append(op.n)
            if after is None:
                continue
            ended = False
            if after not in seen:
                seen.add(after)
                todo.append(after)
        if ended:
            if any(n <= s.word.count for n in asleep):
                wrong.append(f"asleep for {asleep} units with {s.word}")
            if s.word.several != sum(n > 1 for n in asleep):
                wrong.append(f"counted wrongly: {s.word}, asleep for {asleep}")
    return len(seen), wrong


A, R = Acquire, Release
PROGRAMS = {
    "two and two": (0, [[A()], [A()], [R()], [R()]]),
    "there and back": (0, [[A()], [R(), A(), R()], [A(), R()]]),
    "one of several": (1, [[A(3)], [A(), R()], [R(), R()]]),
    "several and one": (2, [[A(2), R(2)], [A(), R()], [A(2), R(), R()]]),
    "both may give up": (0, [[A(2, True)], [A(1, True)], [R(), R()]]),
    "one may give up": (0, [[A(3, True)], [A()], [R(), R()]]),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_no_wake_up_is_lost(program):
    states, wrong = search(*program)
    assert states > 500
    assert wrong == []


@pytest.mark.parametrize(
    ("without", "program"),
    [
        ("WAITERS in the futex", "there and back"),
        ("clearing above 0 only", "two and two"),
        ("no clearing for several", "one of several"),
        ("another look after the wake", "one who gets it and cannot use it"),
    ],
)
def test_every_rule_is_needed(without, program):
    programs = {**PROGRAMS, "one who gets it and cannot use it": (0, [[A(3)], [A()], [A()], [R(), R()]])}
    _, wrong = search(*programs[program], without)
    assert wrong
