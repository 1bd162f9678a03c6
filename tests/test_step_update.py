"""SIGKILL at every instruction of `syncx.update`: the file is the old one or the new one, nobody is kept out, and
nothing is left behind by the next update.

What is to be seen of a file changes in system calls alone, so a kill after each of them shows every state that a kill
at any instruction can leave.  What the lock has in shared memory changes between them: there a kill after every n-th
instruction, SYNCX_KILL_STRIDE, shows that it lets the next one in.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import singlestep
from support import PATIENCE, Child

import syncx

pytestmark = [pytest.mark.core, pytest.mark.death]

NURSERY = """
import updates
updates.on(system)
update = syncx.update if twin is None else getattr(updates, twin)

def prepare():
    with syncx.update(warm, arena=arena) as f: f.write("registered, and all caches are warm")

def work():
    with update(path, arena=arena) as f: f.write("new")

while (point := hear()) is not None:
    say(updates.killed_after(*point, prepare, work))
"""


class Bench:
    """A file that victims update, and what is found in it when they are dead."""

    def __init__(self, directory: Path, arena: syncx.Arena, before: str | None) -> None:
        self.directory, self.arena, self.before = directory / "d", arena, before
        self.directory.mkdir()
        self.path = self.directory / "state"
        self.told: list[str | None] = []
        self.put_back()

    def nursery(self, child: Any, system: str = "plain", twin: str | None = None) -> Child:
        """Forks the victims."""
        warm = str(self.directory.parent / "warm")
        return child(NURSERY, path=str(self.path), warm=warm, system=system, twin=twin)

    def kill(self, nursery: Child, calls: int, steps: int = 0) -> int | None:
        """Kills one there and judges; the number of calls if it had ended before."""
        nursery.say([calls, steps])
        done = nursery.hear()
        self.judge()
        return done

    def put_back(self) -> None:
        if self.before is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_text(self.before)

    def judge(self) -> None:
        """After a kill."""
        self.told.append(self.path.read_text() if self.path.exists() else None)
        assert self.told[-1] in (self.before, "new"), f"neither old nor new after kill {len(self.told)}"
        with syncx.update(self.path, timeout=PATIENCE, arena=self.arena) as f:
            f.write("of the next one")
        assert self.path.read_text() == "of the next one"
        assert os.listdir(self.directory) == ["state"], f"left behind after kill {len(self.told)}"
        self.put_back()

    def verdict(self) -> None:
        """After the last: first always the old one, and then always the new one."""
        old = self.told.count(self.before)
        assert self.told == [self.before] * old + ["new"] * (len(self.told) - old)
        assert 0 < old < len(self.told)


def after_every_call(child, directory, arena, before, system="plain", twin=None):
    bench = Bench(directory, arena, before)
    c = bench.nursery(child, system, twin)
    n = 0
    while bench.kill(c, n) is None:
        n += 1
    c.say(None)
    c.finish()
    bench.verdict()
    return n


@pytest.mark.parametrize("system", ["plain", "no O_TMPFILE", "one name"])
@pytest.mark.parametrize("before", ["old", None], ids=["there", "new"])
def test_kill_after_every_system_call(child, arena, before, system):
    with singlestep.shared_directory() as directory:
        assert after_every_call(child, directory, arena, before, system) > 10


@pytest.mark.parametrize(("twin", "what"), [("in_place", "neither old nor new"), ("unlocked", "left behind")])
def test_a_kill_that_leaves_something_else_is_found(child, arena, twin, what):
    with singlestep.shared_directory() as directory, pytest.raises(AssertionError, match=what):
        after_every_call(child, directory, arena, "old", twin=twin)


LONGEST = 2000
"""Instructions after a system call that are looked at; most are followed by another one sooner."""


@pytest.mark.timeout(36000)
@pytest.mark.parametrize("before", ["old", None], ids=["there", "new"])
def test_kill_at_instructions_between(child, arena, before):
    """The next one gets in at once wherever the lock was left."""
    stride = singlestep.stride(LONGEST)
    with singlestep.shared_directory() as directory:
        bench = Bench(directory, arena, before)
        c = bench.nursery(child)
        for calls in itertools.count():
            for steps in range(calls * 997 % stride, LONGEST, stride):
                done = bench.kill(c, calls, steps)
            if done is not None and done < calls:
                break
        c.say(None)
        c.finish()
        assert {before, "new"} == set(bench.told)
