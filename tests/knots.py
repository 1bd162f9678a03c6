"""Plays deadlocks between processes and judges what the detector made of them.

`python knots.py REPETITIONS [SCENE...]` in the default arena prints a line for each scene and how it is played; exit
status 1 if one went wrong.  The tests call `play`, in a process of their own, since it forks.

The stage forks the members before any thread is started and directs them by messages; what it says about who waits it
sees in syncx.snapshot() and in /proc.  Nothing here goes by time, but for the bound after which all is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from knot_scenes import SCENES, Place, Scene, self_locks

import syncx
from syncx import _core

PATIENCE = 30.0
_BELTS = 3
"""How many looks on the belt a knot gets, beyond which it is taken to stand where the detector is expected to fail."""

TWINS = ("off", "two", "loses", "cycle", "false")
"""Ways to be wrong, which `judge` must see: no detector; two are told; the victim has lost what it held; a member is
missing in `.cycle`; somebody is told who waits for a live holder."""


class Wrong(Exception):
    """What happened is not what must happen."""


class Line:
    """Messages in JSON lines over one end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._buffer = b""

    def say(self, what: str, **more: Any) -> None:
        self.end.sendall(json.dumps({"what": what, **more}).encode() + b"\n")

    def ready(self) -> bool:
        """Whether `hear` would return at once."""
        return b"\n" in self._buffer or bool(select.select([self.end], [], [], 0)[0])

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if seconds is not None and not select.select([self.end], [], [], seconds)[0]:
                raise Wrong("a member says nothing")
            data = self.end.recv(65536)
            if not data:
                raise EOFError("the other side has gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)  # type: ignore[no-any-return]


# ---- a member -----------------------------------------------------------------------------------------------------


def _cycle(error: syncx.DeadlockError, twin: str) -> list[dict[str, Any]]:
    rows = [{"pid": w.pid, "tid": w.tid, "kind": w.kind, "name": w.name} for w in error.cycle]
    return rows[1:] if twin == "cycle" else rows


def _act(scene: Scene, me: int, line: Line, gun: mmap.mmap, twin: str) -> None:
    """One repetition: take, report, ask when told to, report, give back when told to."""
    member = scene.members[me]

    def inside() -> None:
        line.say("holds")
        order = line.hear()
        if order["what"] == "live":
            return
        if order["what"] == "spin":
            line.say("spins")
            while gun[0] == order["empty"]:
                os.sched_yield()
        try:
            member.wants.inside(lambda: None)
        except syncx.DeadlockError as e:
            if twin == "loses":
                syncx.Mutex(member.holds.name).release()
            line.say("told", cycle=_cycle(e, twin))
            line.hear()  # until we may give back what we hold
            if twin == "loses":
                syncx.Mutex(member.holds.name).acquire()
        else:
            fakes = twin == "two" or (twin == "false" and me == len(scene.members) - 1)
            line.say("told" if fakes else "got", cycle=[])
            if fakes:
                line.hear()

    member.holds.inside(inside)
    line.say("done")


def _serve(me: int, line: Line, gun: mmap.mmap) -> None:
    """A member's thread, for as long as the stage lasts."""
    line.say("here", pid=os.getpid(), tid=threading.get_native_id())
    with contextlib.suppress(EOFError):
        while True:
            order = line.hear()
            _core._set_deadlock(order["twin"] != "off")
            place = Place(order["file"], order["number"])
            _act(SCENES[order["scene"]](place), me, line, gun, order["twin"])


def _process(members: list[int], lines: list[Line], gun: mmap.mmap) -> None:
    threads = [threading.Thread(target=_serve, args=(m, lines[m], gun)) for m in members[1:]]
    for t in threads:
        t.start()
    _serve(members[0], lines[members[0]], gun)
    for t in threads:
        t.join()


# ---- the stage ----------------------------------------------------------------------------------------------------

_CLONE_NEWPID = 0x20000000


def namespaces_allowed() -> bool:
    """Whether this process may make a pid namespace."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(_CLONE_NEWPID) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


@dataclass
class Actor:
    line: Line
    process: int
    """Of the process that is our child; in another namespace that is its parent."""
    pid: int = 0
    tid: int = 0
    """As the member itself sees them."""
    proc: tuple[int, int] = (0, 0)
    """As we see them."""


@dataclass
class Record:
    """What happened in one repetition."""

    live: int | None = None
    outcome: dict[int, str] = field(default_factory=dict)
    cycle: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    kept: dict[int, bool] = field(default_factory=dict)
    """Of who was told: did it hold what it had held, and could nobody else take it?"""
    stands: bool = False
    dead: set[int] = field(default_factory=set)


class Stage:
    """The members of a scene, as processes that wait for orders.  A context manager: kills and reaps them."""

    def __init__(self, name: str, file: str, twin: str = "") -> None:
        self.name, self.twin = name, twin
        self._place = Place(file)
        scene = SCENES[name](self._place)
        self._gun = mmap.mmap(-1, mmap.PAGESIZE)
        self.actors: list[Actor] = []
        groups = scene.processes or [[m] for m in range(len(scene.members))]
        self.pids: list[int] = []
        try:
            self._fork(groups, scene)
            for actor in self.actors:
                here = actor.line.hear(PATIENCE)
                actor.pid, actor.tid = here["pid"], here["tid"]
                if actor.proc == (0, 0):
                    actor.proc = actor.pid, actor.tid
        except BaseException:
            self.close()
            raise

    def _fork(self, groups: list[list[int]], scene: Scene) -> None:
        actors: dict[int, Actor] = {}
        for group in groups:
            pairs = {m: socket.socketpair() for m in group}
            foreign = bool(scene.namespaces & set(group))
            inner, told = os.pipe() if foreign else (-1, -1)
            pid = os.fork()
            if pid == 0:
                self._child(group, pairs, foreign, told, [*actors.values()])
            self.pids.append(pid)
            for m in group:
                pairs[m][1].close()
                actors[m] = Actor(Line(pairs[m][0]), pid)
            if foreign:
                os.close(told)
                host = int(os.read(inner, 20))
                os.close(inner)
                actors[group[0]].proc = host, host
        self.actors = [actors[m] for m in sorted(actors)]

    def _child(self, group: list[int], pairs: Any, foreign: bool, told: int, others: list[Actor]) -> None:
        code = 1
        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            for actor in others:
                actor.line.end.close()
            for pair in pairs.values():
                pair[0].close()
            if foreign:
                assert ctypes.CDLL(None).unshare(_CLONE_NEWPID) == 0
                inner = os.fork()
                if inner:
                    os.write(told, b"%d" % inner)
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            _process(group, {m: Line(pairs[m][1]) for m in group}, self._gun)  # type: ignore[arg-type]
            code = 0
        finally:
            os._exit(code)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids = []
        for actor in self.actors:
            actor.line.end.close()

    # ---- what it sees

    def _row(self, picture: syncx.Snapshot, member: int) -> int | None:
        actor = self.actors[member]
        found = [p.id for p in picture.participants if p.alive and (p.pid, p.tid) == (actor.pid, actor.tid)]
        return found[-1] if found else None

    def holds(self, member: int) -> set[tuple[Any, ...]]:
        """What the arena says that it holds."""
        picture = syncx.snapshot()
        row = self._row(picture, member)
        held = picture.held_by(row) if row is not None else ()
        return {(h.kind, h.object, h.part, h.mode, h.units, h.range) for h in held}

    def asleep(self, members: set[int]) -> dict[int, int]:
        """Who of them waits, has looked for a deadlock and sleeps; with how often it has fallen asleep."""
        picture, found = syncx.snapshot(), {}
        for m in members:
            row = self._row(picture, m)
            waits = [w for w in picture.awaited_by(row) if w.state in ("waiting", "behind")] if row is not None else []
            pid, tid = self.actors[m].proc
            with open(f"/proc/{pid}/task/{tid}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
            if waits and state in "STt":
                found[m] = -1 if waits[-1].range is not None else waits[-1].ticket  # those have a place in line
        return found

    # ---- directing

    def prepare(self, live: int | None = None) -> tuple[Scene, Record]:
        """All take what they hold."""
        self._place.number += 1
        self.scene = SCENES[self.name](self._place)
        self.record = Record(live)
        for actor in self.actors:
            actor.line.say("take", scene=self.name, file=self._place.file, number=self._place.number, twin=self.twin)
        for actor in self.actors:
            assert actor.line.hear(PATIENCE)["what"] == "holds"
        self._held = {m: self.holds(m) for m in range(len(self.actors))} if len(self.actors) < 10 else {}
        self.out: set[int] = set()
        """Who has been let go and has not said what became of it."""
        return self.scene, self.record

    def go(self, members: list[int]) -> None:
        """Those ask for what they want."""
        members = [m for m in members if m != self.record.live and m not in self.record.dead]
        self.out |= set(members)
        empty = self._gun[0]
        for m in members:
            self.actors[m].line.say("spin" if self.scene.instant else "go", empty=empty)
        if self.scene.instant:
            for m in members:
                assert self.actors[m].line.hear(PATIENCE)["what"] == "spins"
            self._gun[0] = (empty + 1) % 256

    def listen(self) -> bool:
        """What has been said: was there anything?"""
        heard = False
        for m in sorted(self.out):
            if self.actors[m].line.ready():
                what = self.actors[m].line.hear()
                self.out.discard(m)
                self.record.outcome[m] = what["what"]
                self.record.cycle[m] = what["cycle"]
                heard = True
        return heard

    def settle(self, belts: int = 0) -> None:
        """Until all who have said nothing sleep, and have fallen asleep so many times more."""
        end, first = time.monotonic() + PATIENCE, {}
        while True:
            heard = self.listen()
            now = self.asleep(self.out)
            for m, ticket in now.items():
                first.setdefault(m, ticket)
            rested = all(now[m] < 0 or now[m] - first[m] >= belts for m in now)
            if set(now) == self.out and not heard and rested and not self.listen():
                return
            if time.monotonic() > end:
                raise Wrong(f"{sorted(self.out - set(now))} neither sleep nor say anything")
            select.select([self.actors[m].line.end for m in self.out], [], [], 0.001)

    def until_told(self, knots: int) -> None:
        """Until so many have been told, or nobody will be any more."""
        end = time.monotonic() + PATIENCE
        while len(self.victims()) < knots and time.monotonic() < end:
            if not self.listen():
                if self.twin == "off":
                    self.settle(_BELTS)
                    break
                select.select([self.actors[m].line.end for m in self.out], [], [], 1.0)
        self.record.stands = len(self.victims()) < knots

    def victims(self) -> list[int]:
        return [m for m, what in self.record.outcome.items() if what == "told"]

    def look_at_victims(self) -> None:
        """They wait for our word before they give anything back."""
        for m in self.victims():
            refused = self.scene.members[m].holds.refused
            same = not self._held or self.holds(m) == self._held[m]
            self.record.kept[m] = same and (refused is None or refused())

    def finish(self, alone: bool = False) -> None:
        """All give back what they hold; the live member first."""
        waiting = set(range(len(self.actors))) - self.record.dead
        if self.record.live is not None:
            self.actors[self.record.live].line.say("live")
        for m in self.victims():
            self.actors[m].line.say("release")
        end = time.monotonic() + PATIENCE
        seen = set(self.victims())
        while waiting and time.monotonic() < end:
            self.listen()
            for m in set(self.victims()) - seen:  # more than should be
                self.actors[m].line.say("release")
                seen.add(m)
            for m in sorted(waiting - self.out):
                if self.actors[m].line.ready():
                    assert self.actors[m].line.hear()["what"] == "done"
                    waiting.discard(m)
            if waiting and not any(self.actors[m].line.ready() for m in waiting):
                select.select([self.actors[m].line.end for m in waiting], [], [], 1.0)
        if waiting:
            raise Wrong(f"{sorted(waiting)} do not end, {sorted(self.out)} of them wait in vain")

    def kill(self, member: int) -> None:
        """SIGKILL, and it is reaped."""
        actor = self.actors[member]
        os.kill(actor.process, signal.SIGKILL)
        os.waitpid(actor.process, 0)
        self.pids.remove(actor.process)
        self.out.discard(member)
        self.record.dead.add(member)

    def state_of(self, member: int) -> str:
        pid, tid = self.actors[member].proc
        with open(f"/proc/{pid}/task/{tid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    def until_state(self, member: int, states: str) -> None:
        end = time.monotonic() + PATIENCE
        while self.state_of(member) not in states:
            if time.monotonic() > end:
                raise Wrong(f"{member} does not come to {states}")
            time.sleep(0.001)


# ---- plays --------------------------------------------------------------------------------------------------------


def repetition(stage: Stage, live: int | None = None, belts: int = 0) -> Record:
    """All ask, in the scene's order; live: one holds on and asks for nothing, until the others sleep."""
    scene, record = stage.prepare(live)
    order = scene.order or [list(range(len(scene.members)))]
    for step in order[:-1]:
        stage.go(step)
        stage.settle()
    stage.go(order[-1])
    knots = [k for k in scene.knots if live not in k]
    if knots:
        stage.until_told(len(knots))
    if not record.stands:
        stage.settle(belts)  # nobody else is told
    if record.stands:
        return record
    stage.look_at_victims()
    stage.finish()
    return record


def judge(stage: Stage, record: Record) -> list[str]:
    """What was wrong."""
    scene, wrong = stage.scene, []
    knots = [k for k in scene.knots if record.live not in k and not k & record.dead]
    told = stage.victims()
    if record.stands:
        wrong.append("a deadlock stands, and nobody is told")
    for knot in knots:
        if not record.stands and len(knot & set(told)) != 1:
            wrong.append(f"{len(knot & set(told))} of {sorted(knot)} were told")
    for m in told:
        of = [k for k in knots if m in k]
        if not of:
            wrong.append(f"{m} was told, which is in no deadlock")
            continue
        if not record.kept.get(m, False):
            wrong.append(f"{m} was told and has lost what it held")
        wrong += _judge_cycle(stage, m, of[0], record.cycle[m])
    for m in set(range(len(scene.members))) - set(told) - {record.live} - record.dead:
        if not record.stands and record.outcome.get(m) != "got":
            wrong.append(f"{m} did not get what it wants")
    return wrong


def _judge_cycle(stage: Stage, victim: int, knot: set[int], cycle: list[dict[str, Any]]) -> list[str]:
    who = {(a.pid, a.tid): m for m, a in enumerate(stage.actors)}
    members = [who.get((row["pid"], row["tid"]), -1) for row in cycle]
    if sorted(members) != sorted(knot):
        return [f"{victim} was told of {members} instead of {sorted(knot)}"]
    wrong = []
    if members[0] != victim:
        wrong.append(f"{victim} was told of {members}, and is not the first of them")
    if stage.scene.ring and members != [(victim + i) % len(members) for i in range(len(members))]:
        wrong.append(f"{victim} was told of {members}, who do not wait for each other in this order")
    for m, row in zip(members, cycle, strict=True):
        wants = stage.scene.members[m].wants
        if not row["kind"].startswith(wants.kind) or (wants.name is not None and row["name"] != wants.name):
            wrong.append(f"{victim} was told that {m} wants {row['kind']} {row['name']}, not {wants.kind} {wants.name}")
    return wrong


@dataclass
class Result:
    played: int = 0
    told: int = 0
    played_live: int = 0
    told_live: int = 0
    """More than the deadlocks beside the live one."""
    graph: list[list[int]] = field(default_factory=list)
    """The deadlocks that syncx.wait_graph() sees where the detector is off."""
    wrong: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return self.__dict__


@contextlib.contextmanager
def empty_file() -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        yield file.name


def play(name: str, times: int = 1, twin: str = "") -> dict[str, Any]:
    """A scene so many times as a deadlock, and so many times with a live holder in it, each member in turn."""
    result = Result()
    with empty_file() as file, Stage(name, file, twin) as stage:
        scene = SCENES[name](Place(file))
        for i in range(times):
            record = repetition(stage)
            result.played += 1
            result.told += len(stage.victims())
            result.wrong += [f"{i}: {w}" for w in judge(stage, record)]
            if record.stands:
                return result.to_dict()  # they stand there for ever
        lively = [m for m, member in enumerate(scene.members) if member.essential and scene.knots]
        for i in range(times if lively else 0):
            live = lively[i % len(lively)]
            record = repetition(stage, live, belts=2 if i == 0 and twin != "off" else 0)
            result.played_live += 1
            result.told_live += len(stage.victims()) - len([k for k in stage.scene.knots if live not in k])
            result.wrong += [f"{i}, {live} being alive: {w}" for w in judge(stage, record)]
        if scene.knots and not twin and not scene.without:
            result.graph = _seen_by_graph(stage)  # and there they stand until they are killed
            if result.graph != sorted(sorted(k) for k in scene.knots):
                result.wrong.append(f"the graph shows {result.graph}")
    return result.to_dict()


def _seen_by_graph(stage: Stage) -> list[list[int]]:
    """All ask, nobody is told: what does syncx.wait_graph() say, which shares no code with the detector?"""
    stage.twin = "off"
    scene, _ = stage.prepare()
    for step in scene.order or [list(range(len(scene.members)))]:
        stage.go(step)
        stage.settle()
    who = {(a.pid, a.tid): m for m, a in enumerate(stage.actors)}
    knots = [k for k in syncx.wait_graph().knots if k.verdict == "deadlock"]
    return sorted(sorted(who[b.pid, b.tid] for b in k.members) for k in knots)


def stopped(times: int = 1) -> dict[str, Any]:
    """One is stopped by a signal while it waits; the other closes the deadlock."""

    def before(stage: Stage) -> Callable[[], None]:
        os.kill(stage.actors[0].process, signal.SIGSTOP)
        stage.until_state(0, "T")
        return lambda: os.kill(stage.actors[0].process, signal.SIGCONT)

    return _halted(times, before)


_ATTACH, _DETACH = 16, 17
_WALL = 0x40000000


def traced(times: int = 1) -> dict[str, Any]:
    """As `stopped`, by a debugger."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(request: int, pid: int) -> None:
        if libc.ptrace(request, pid, None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace: {os.strerror(number)}")

    def before(stage: Stage) -> Callable[[], None]:
        pid = stage.actors[0].process
        ptrace(_ATTACH, pid)
        os.waitpid(pid, _WALL)
        return lambda: ptrace(_DETACH, pid)

    return _halted(times, before)


def _halted(times: int, before: Callable[[Stage], Callable[[], None]]) -> dict[str, Any]:
    result = Result()
    with empty_file() as file, Stage("two mutexes", file) as stage:
        for i in range(times):
            _, record = stage.prepare()
            stage.go([0])
            stage.settle()
            go_on = before(stage)
            stage.go([1])
            stage.until_told(1)
            stage.look_at_victims()
            go_on()
            stage.settle()
            stage.look_at_victims()
            stage.finish()
            result.played += 1
            result.told += len(stage.victims())
            result.wrong += [f"{i}: {w}" for w in judge(stage, record)]
    return result.to_dict()


def killed(times: int = 1, standing: bool = False) -> dict[str, Any]:
    """One of three is killed while it waits, before the last one asks; or in a deadlock that stands, as nobody looks
    for it.  Nobody is told; the others get what they want."""
    result = Result()
    for i in range(times):
        with empty_file() as file, Stage("ring of 3", file, "off" if standing else "") as stage:
            _, record = stage.prepare()
            stage.go([0, 1])
            stage.settle()
            if standing:
                stage.go([2])
                stage.settle(_BELTS)
            stage.kill(0)
            if not standing:
                stage.go([2])
            stage.finish()
            result.played += 1
            result.told += len(stage.victims())
            result.wrong += [f"{i}: {w}" for w in judge(stage, record)]
            if stage.victims():
                result.wrong.append(f"{i}: {stage.victims()} were told though a member had died")
    return result.to_dict()


def killed_together(times: int = 1) -> dict[str, Any]:
    """All but one die in a deadlock that stands."""
    result = Result()
    for i in range(times):
        with empty_file() as file, Stage("ring of 3", file, "off") as stage:
            _, record = stage.prepare()
            stage.go([0, 1, 2])
            stage.settle(1)
            stage.kill(1)
            stage.kill(2)
            stage.finish()
            result.played += 1
            result.wrong += [f"{i}: {w}" for w in judge(stage, record)]
    return result.to_dict()


PLAYS: dict[str, Callable[[int], dict[str, Any]]] = {
    **{name: lambda times, name=name: play(name, times) for name in SCENES},  # type: ignore[misc]
    "a member stopped": stopped,
    "a member traced": traced,
    "a member killed": killed,
    "a member killed in a deadlock that stands": lambda times: killed(times, standing=True),
    "all but one killed": killed_together,
}
__all__ = ["PLAYS", "TWINS", "judge", "namespaces_allowed", "play", "self_locks"]


def main() -> int:
    times, chosen = int(sys.argv[1]), sys.argv[2:] or list(PLAYS)
    status = 0
    for name in chosen:
        start = time.monotonic()
        r = PLAYS[name](times)
        print(
            f"{name}: {r['played']} played, {r['told']} told; {r['played_live']} with a live holder, "
            f"{r['told_live']} told; {len(r['wrong'])} wrong; {time.monotonic() - start:.1f} s",
            flush=True,
        )
        for line in r["wrong"][:5]:
            print(f"  {line}", flush=True)
        status = status or int(bool(r["wrong"]))
    return status


if __name__ == "__main__":
    sys.exit(main())
