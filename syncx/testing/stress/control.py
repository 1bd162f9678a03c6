"""The judge of a storm: it starts the processes, strikes as they wish, starts those anew that died, and watches.

It sleeps in one place, select(), and is woken by a wish, a complaint, the end of a process (SIGCHLD), or the time of
the next thing to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import json
import logging
import os
import random
import select
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import syncx

from .actor import WISH, Actor, Wishes
from .board import CONTINUED, KILLED, STOPPED, Board, read_journal
from .counts import Bounded, Latches
from .dice import OUTSIDE, STOP
from .figures import Histogram, Outcome
from .meetings import Barriers
from .replay import Facts, judge
from .scenes import Kit, Stage, words
from .worker import SCENES, Plan, die_with_parent, open_scenes, run

__all__ = ["Storm"]

ROUND = 2.0
"""Seconds of a round at most, before it is judged."""
CYCLE = 5
"""Rounds in which every topic is played: a few at a time, so that many meet at each object; and in the last one all of
them, and nobody dies."""
HANG = 15.0
"""Seconds after which a wait has lasted too long: nobody holds anything for more than a few milliseconds, but for those
that are stopped, for 60 ms at most."""
_PR_SET_CHILD_SUBREAPER = 36


class Storm:
    """One run of `syncx stress`.

    topics, seconds, processes, kill, seed: as on the command line.
    kit: what makes the objects of a topic instead of syncx; for those who want to see the judges at work.
    tell: called now and then with the outcome so far.
    """

    def __init__(
        self,
        topics: Sequence[str],
        seconds: float,
        processes: int,
        kill: float,
        seed: int,
        kit: Kit | None = None,
        tell: Callable[[Outcome], None] = lambda outcome: None,
        threads: int = 2,
    ) -> None:
        self.outcome = Outcome(seed, processes, threads, kill, list(topics), seconds)
        self._seconds, self._kit, self._tell = seconds, kit or {}, tell
        self._plan = Plan(tuple(topics), kill, seed, 0, threads)
        self._processes = processes
        slots = processes * (threads + 1) + 1
        self._board = Board(slots, words(slots) * len(SCENES))
        self._judge_slot = self._board.slots - 1
        self._stop = False

    # ---- the whole of it --------------------------------------------------------------------------------------------
    def run(self) -> Outcome:
        """Plays round after round until the time is over, something is wrong, or Ctrl-C."""
        start = time.monotonic()
        with self._scene() as stage, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside the thread of a progress bar
            scenes = open_scenes(stage, self._plan.topics)
            for number in itertools.count():
                left = start + self._seconds - time.monotonic()
                if self._stop or self.outcome.violations or (number and left < 0.3):
                    break
                calm, topics = self._programme(number)
                self._plan = self._plan._replace(
                    round=number, kill=0.0 if calm else self.outcome.kill, topics=tuple(topics)
                )
                length = min(ROUND, left, 0.7 * self._seconds / CYCLE)
                self._round(stage, {t: scenes[t] for t in topics}, max(0.1, length), calm)
                self.outcome.seconds = time.monotonic() - start
                self.outcome.timeline.append((self.outcome.seconds, self.outcome.operations, self.outcome.deaths))
        self.outcome.seconds = time.monotonic() - start
        return self.outcome

    def _programme(self, number: int) -> tuple[bool, list[str]]:
        """Is it a round in which nobody dies, and what is played in it?"""
        cycle, place = divmod(number, CYCLE)
        topics = list(self.outcome.topics)
        if place == CYCLE - 1:
            return True, topics
        if len(topics) > 3:
            random.Random(f"{self.outcome.seed} {cycle}").shuffle(topics)
            topics = topics[place :: CYCLE - 1]
        return False, topics

    @contextlib.contextmanager
    def _scene(self) -> Iterator[Stage]:
        """Where it is played; all of it goes in the end, also if this process is killed."""
        name = f"stress-{os.getpid()}"
        directory = tempfile.mkdtemp(prefix="syncx-stress-")
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        end_of_us, self._ours = os.pipe()
        janitor = os.fork()
        if janitor == 0:
            _be_janitor(end_of_us, self._ours, name, directory)
        os.close(end_of_us)
        self._wishes_in, wishes_out = os.pipe()
        self._complaints_in, complaints_out = os.pipe()
        self._woken, waker = os.pipe()
        for fd in (waker, self._woken, self._wishes_in, self._complaints_in):
            os.set_blocking(fd, False)
        self._wishes = Wishes(wishes_out, complaints_out)
        self._fds = [wishes_out, complaints_out, self._wishes_in, self._complaints_in, self._woken, waker]
        old_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        old = [signal.signal(signal.SIGCHLD, _nothing), signal.signal(signal.SIGINT, self._on_interrupt)]
        old.append(signal.signal(signal.SIGTERM, self._on_interrupt))
        self._arena = syncx.Arena(name)
        log = logging.getLogger("syncx")
        log_was, log.disabled = log.disabled, True  # of each recovery: there are thousands
        try:
            yield Stage(self._arena, directory, self._board, self._kit)
        finally:
            log.disabled = log_was
            signal.set_wakeup_fd(old_waker)
            for number, handler in zip((signal.SIGCHLD, signal.SIGINT, signal.SIGTERM), old, strict=True):
                signal.signal(number, handler)
            shutil.rmtree(directory, ignore_errors=True)
            self._arena.unlink(force=True)
            os.close(self._ours)
            os.waitpid(janitor, 0)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            for fd in self._fds:
                os.close(fd)

    def _on_interrupt(self, number: int, frame: object) -> None:
        self._stop = self.outcome.interrupted = True

    # ---- a round ----------------------------------------------------------------------------------------------------
    def _round(self, stage: Stage, scenes: dict[str, Any], seconds: float, calm: bool) -> None:
        board = self._board
        board.begin_round()
        judge_actor = Actor(board, self._wishes, self._judge_slot)
        for scene in scenes.values():
            scene.prepare()
        facts = self._facts_before(scenes)
        rescues = self._arena.statistics()["rescues"]
        self._journal = judge_actor.journal
        self._stage = stage
        self._workers: dict[int, tuple[int, int]] = {}
        self._incarnations = dict.fromkeys(range(self._processes), 0)
        self._stopped: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting_to_start: set[int] = set()
        self._children: set[int] = set()
        self._base = self.outcome.operations
        for process in range(self._processes):
            self._start(process)
        now = time.monotonic()
        self._at(now + 0.2, self._tick)
        self._at(now + 0.5, self._look_for_hangs)
        end = now + seconds
        while time.monotonic() < end and not (self._stop or self.outcome.violations or board.full()):
            self._once(end)
        self._end_round()
        self._drain()
        if self._workers:  # nothing more can be said: they hang
            self._kill_all()
        self.outcome.operations = self._base + board.operations()
        self.outcome.rounds += 1
        self.outcome.calm_rounds += calm
        rescued = self._arena.statistics()["rescues"] - rescues
        self.outcome.rescues += rescued
        if self.outcome.watched:
            return
        if (calm or self.outcome.kill == 0) and rescued:
            objects = [(o.kind, o.name, o.rescues) for o in self._arena.objects() if o.rescues]
            self.outcome.watched.append(
                f"round {self._plan.round}: {rescued} wake-ups were lost though nobody died, and came by the belt; "
                f"so far {objects}"
            )
        self._settle(judge_actor, scenes)
        self._replay(facts, scenes)

    def _settle(self, actor: Actor, scenes: dict[str, Any]) -> None:
        actor.act_here()
        for scene in scenes.values():
            try:
                scene.settle(actor)
            except Exception as e:
                actor.complain(f"{scene.topic}: after the round {type(e).__name__} came: {e}")
            self._drain()

    def _facts_before(self, scenes: dict[str, Any]) -> Facts:
        semaphores = scenes["semaphore"].semaphores if "semaphore" in scenes else []
        events = scenes["event"].events if "event" in scenes else []
        return Facts(
            capacities=dict(enumerate(Bounded.CAPACITY)),
            before={i: s.value for i, s in enumerate(semaphores)},
            after={},
            count=Latches.COUNT,
            parties=Barriers.PARTIES,
            events={i: e.is_set() for i, e in enumerate(events)},
            lines=b"",
            number=0,
        )

    def _replay(self, facts: Facts, scenes: dict[str, Any]) -> None:
        if "semaphore" in scenes:
            facts.after = {i: s.value for i, s in enumerate(scenes["semaphore"].semaphores)}
        if "files" in scenes:
            with open(os.path.join(self._stage.directory, "lines"), "rb") as f:
                facts.lines = f.read()
        if "update" in scenes:
            with open(os.path.join(self._stage.directory, "number")) as number:
                facts.number = int(number.read()[:20])
        journals = [list(read_journal(self._board.raw(slot))) for slot in range(self._board.slots)]
        verdict = judge(journals, facts)
        o = self.outcome
        o.replayed += [f"round {self._plan.round}: {text}" for text in verdict.wrong]
        o.records += sum(map(len, journals))
        o.told += verdict.told
        o.deadlocks += verdict.deadlocks
        o.forks += verdict.forks
        o.deaths += verdict.ended
        o.progress.extend(verdict.progress)
        for topic, ns in verdict.waits:
            o.waits.setdefault(topic, Histogram()).add(ns)

    # ---- waiting, and what wakes ------------------------------------------------------------------------------------
    def _at(self, t: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (t, next(self._numbers), what))

    def _once(self, end: float) -> None:
        """Sleeps until something happens, and sees to it."""
        now = time.monotonic()
        until = min(end, self._timers[0][0]) if self._timers else end
        select.select([self._wishes_in, self._complaints_in, self._woken], [], [], max(0.0, until - now))
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        self._reap()
        self._drain()
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._wishes_in, WISH.size * 200)
            for slot, what, pid, delay in WISH.iter_unpack(data):
                self._grant(slot, what, pid, delay)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in os.read(self._complaints_in, 65536).splitlines():
                    told = json.loads(line)
                    self.outcome.live.append(
                        f"round {self._plan.round}, process {told['pid']}, at {told['t']}: {told['what']}"
                    )

    def _tick(self) -> None:
        self.outcome.operations = self._base + self._board.operations()
        self._tell(self.outcome)
        self._at(time.monotonic() + 0.2, self._tick)

    # ---- starting, striking, reaping --------------------------------------------------------------------------------
    def _start(self, process: int) -> None:
        incarnation = self._incarnations[process]
        self._incarnations[process] += 1
        judge_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                die_with_parent(judge_pid)
                os.close(self._ours)
                status = run(self._plan, self._stage, self._wishes, process, incarnation)
            except BaseException as e:
                self._wishes.complain(0, f"a process failed: {type(e).__name__}: {e}")
            finally:
                os._exit(status)
        self._workers[pid] = (process, incarnation)

    def _grant(self, slot: int, what: int, pid: int, delay: int) -> None:
        """What a thread wished for its process."""
        if pid not in self._workers and not self._is_child(slot, pid):
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._at(time.monotonic() + delay / 1e6 * (what != STOP), lambda: self._strike(pid, handle, what, delay))

    def _is_child(self, slot: int, pid: int) -> bool:
        return slot < self._judge_slot and self._board.token(slot) != 0 and self._board.who(slot)[0] == pid

    def _strike(self, pid: int, handle: int, what: int, delay: int) -> None:
        """handle: says that it is the same process still."""
        with contextlib.suppress(ProcessLookupError):
            if what == OUTSIDE:
                self._board.dies(self._judge_slot)
                self._journal.write(KILLED, 0, 0, 0, pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            elif what == STOP:
                self._journal.write(STOPPED, 0, 0, 0, pid)
                signal.pidfd_send_signal(handle, signal.SIGSTOP)
                self.outcome.stops += 1
                again = os.dup(handle)
                self._at(time.monotonic() + delay / 1e6, lambda: self._go_on(pid, again))
            else:
                signal.pidfd_send_signal(handle, signal.SIGUSR1)
                self.outcome.signals += 1
        os.close(handle)

    def _go_on(self, pid: int, handle: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            self._journal.write(CONTINUED, 0, 0, 0, pid)
        os.close(handle)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            code = os.waitstatus_to_exitcode(status)
            who = self._workers.pop(pid, None)
            if code == -signal.SIGKILL:
                self.outcome.deaths += 1
            elif code != 0:
                how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
                self.outcome.watched.append(f"round {self._plan.round}: process {pid} ended {how}")
            if who is not None:
                for thread in range(self._plan.threads):
                    self._board.leave(self._plan.slot(who[0], thread))
                self._waiting_to_start.add(who[0])
        for process in list(self._waiting_to_start):
            if self._board.over:
                self._waiting_to_start.clear()
            elif not self._has_child(process):
                self._waiting_to_start.remove(process)
                self._start(process)

    def _has_child(self, process: int) -> bool:
        """One that a dead process left: it is dying too, and its slot is not free before."""
        slot = self._plan.slot(process, self._plan.threads)
        if self._board.token(slot) == 0:
            return False
        pid = self._board.who(slot)[0]
        if os.path.exists(f"/proc/{pid}"):
            return True
        self._board.leave(slot)
        return False

    # ---- the end of a round -----------------------------------------------------------------------------------------
    def _end_round(self) -> None:
        """All finish what they are at, and end; whoever has not after a while hangs."""
        self._board.end_round()
        end = time.monotonic() + HANG
        while self._workers or self._timers_to_run():
            if time.monotonic() > end or (self.outcome.watched and not self._timers_to_run()):
                break
            self._once(end)
        if self._workers and not self.outcome.watched:
            who = ", ".join(map(str, sorted(self._workers)))
            self._hang(f"the round is over, and processes {who} did not end within {HANG:g} s", self._late(HANG / 2))
        self._reap_orphans()

    def _timers_to_run(self) -> bool:
        """Somebody may be stopped still."""
        return len(self._timers) > 2

    def _reap_orphans(self) -> None:
        """Children whose process was killed: they die with it, and come to us."""
        for process in range(self._processes):
            slot = self._plan.slot(process, self._plan.threads)
            token, (pid, _) = self._board.token(slot), self._board.who(slot)
            if token and pid not in self._workers:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        self._reap()

    def _kill_all(self) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in list(self._workers):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._workers.clear()

    def _late(self, seconds: float) -> list[tuple[int, float, int]]:
        """Who is in a call for so long: the slot, for how long, and the object."""
        now, late = time.monotonic_ns(), []
        for slot in range(self._judge_slot):
            since, obj = self._board.waiting(slot)
            if since and now - since > seconds * 1e9 and self._board.token(slot):
                late.append((slot, (now - since) / 1e9, obj))
        return late

    def _look_for_hangs(self) -> None:
        late = self._late(HANG)
        if late:
            self._hang(f"{len(late)} threads wait for more than {HANG:g} s", late)
        self._at(time.monotonic() + 0.5, self._look_for_hangs)

    def _hang(self, what: str, late: list[tuple[int, float, int]]) -> None:
        """With all that can be told of it."""
        names = [*SCENES]
        for slot, seconds, obj in late:
            pid, tid = self._board.who(slot)
            name = f"{names[obj >> 4]} {obj & 15}" if obj else "its child"
            what += f"\n    process {pid}, thread {tid}: {name}, for {seconds:.1f} s"
        self.outcome.watched.append(f"round {self._plan.round}: {what}")
        try:
            self.outcome.evidence.append(str(syncx.wait_graph(self._arena)))
            self.outcome.evidence.append(repr(syncx.snapshot(self._arena)))
        except Exception as e:
            self.outcome.evidence.append(f"the arena could not be read: {type(e).__name__}: {e}")


def _nothing(number: int, frame: object) -> None:
    """SIGCHLD is to wake, no more."""


def _be_janitor(end_of_us: int, ours: int, name: str, directory: str) -> None:
    """Waits until the storm has gone, and removes what it left, if it was killed."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(ours)
        os.read(end_of_us, 1)
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError), syncx.Arena(name, create=False) as arena:
            arena.unlink(force=True)
    finally:
        os._exit(0)
