"""Many damaged arenas: starts the workers, watches them, and tells what came of it."""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncx.terminal import Screen, duration

from . import damage, scenes
from .worker import OUTCOMES, Crumbs

PATIENCE = 30.0
"""Seconds that a call may take on a machine that has much else to do."""
LOOK = 0.2
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class _Running:
    number: int
    process: subprocess.Popen[bytes]
    end: int
    """A descriptor that can be read when it has ended."""
    crumbs: Crumbs
    errors: Any
    done_before: int = 0
    seen: tuple[int, int, int, str] = (0, 0, 0, "")
    """What it was at when it was last found to have moved, """
    since: float = 0.0
    """and when that was."""
    hung: bool = False
    late: tuple[int, str] = (0, "")
    """The arena and the call that took too long."""


@dataclass
class Result:
    """What came of a run."""

    seconds: float = 0.0
    arenas: int = 0
    calls: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    table: dict[str, dict[str, int]] = field(default_factory=dict)
    """By kind of damage, how many arenas ended how."""


class Run:
    """One run.

    seed, indices: which arenas.  jobs: how many processes at a time.  planted: a fault to be found.
    package: the directory with the `syncx` and `tests` to be used.  names: the scenes; with others the same seed makes
    other arenas.  seconds: no arena is begun after that time.  everything: each arena meets all calls.
    """

    def __init__(
        self,
        seed: int,
        indices: range,
        jobs: int,
        *,
        planted: str = "",
        patience: float = PATIENCE,
        package: Path = ROOT,
        verbose: bool = False,
        names: Iterable[str] = tuple(scenes.SCENES),
        seconds: float | None = None,
        everything: bool = False,
        most: int = 50,
    ) -> None:
        self._seed, self._indices, self._jobs = seed, indices, jobs
        self._planted, self._patience, self._package, self._verbose = planted, patience, package, verbose
        self._most = most
        self._names = tuple(names)
        self._seconds, self._everything = seconds, everything
        self._result = Result()
        self._directory = Path()
        self._deaths: Counter[str] = Counter()

    def __call__(self, screen: Screen) -> Result:
        """Does it; the screen gets the progress."""
        start = time.monotonic()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._directory = Path(tempfile.mkdtemp(prefix="noise-syncx-", dir=base))
        running: list[_Running] = []
        try:
            with scenes.Stage(self._directory, self._names) as images:
                (self._directory / "images").write_bytes(pickle.dumps(images))
                (self._directory / "findings").touch()
                for number in range(min(self._jobs, len(self._indices))):
                    crumbs = Crumbs(str(self._directory / f"crumbs{number}"), make=True)
                    running.append(self._start(number, crumbs, self._indices[number]))
                everybody = list(running)
                self._watch(running, everybody, screen, start)
                self._collect(everybody)
        finally:
            for r in running:
                r.process.kill()
                r.process.wait()
                os.close(r.end)
            shutil.rmtree(self._directory)
        self._result.seconds = time.monotonic() - start
        return self._result

    def _start(self, number: int, crumbs: Crumbs, first: int, done: int = 0) -> _Running:
        crumbs.at(first, 0, "starting")
        errors = open(self._directory / f"errors{number}", "w+b")  # noqa: SIM115
        step = self._jobs * self._indices.step
        argv = [str(self._directory), str(self._seed), str(number), str(first), str(self._indices.stop), str(step)]
        flags = [str(int(self._everything)), str(int(self._verbose))]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.noise", "worker", *argv, self._planted, *flags],
            stdin=subprocess.DEVNULL,
            stdout=None if self._verbose else subprocess.DEVNULL,
            stderr=errors,
            cwd=self._package,
            env={**os.environ, "PYTHONPATH": str(self._package), "PYTHONHASHSEED": "0"},
        )
        return _Running(number, process, os.pidfd_open(process.pid), crumbs, errors, done)

    def _watch(self, running: list[_Running], everybody: list[_Running], screen: Screen, start: float) -> None:
        total = len(self._indices)
        told = start
        with screen.progress(f"{total} damaged arenas", total) as bar:
            while running:
                ready = select.select([r.end for r in running], [], [], LOOK)[0]
                now = time.monotonic()
                if self._seconds is not None and now - start > self._seconds:
                    for r in running:
                        r.crumbs.stop()
                for r in list(running):
                    if r.end in ready:
                        running.remove(r)
                        again = self._ended(r, screen)
                        if again is not None:
                            running.append(again)
                            everybody[r.number] = again
                    elif r.crumbs.read() != r.seen:
                        r.seen, r.since = r.crumbs.read(), now
                    elif now - r.since > self._patience_with(r) and not r.hung:
                        r.hung, r.late = True, (r.seen[0], r.seen[3])
                        r.process.send_signal(signal.SIGUSR2)  # a traceback of all threads, and the end
                        time.sleep(0.2)
                        r.process.kill()
                done = sum(r.done_before + r.crumbs.read()[2] for r in everybody)
                bar.update(done)
                if not screen.interactive and now - told > 20:
                    told = now
                    screen.say(f"{done} of {total}, {done / (now - start):.0f} a second")

    def _patience_with(self, r: _Running) -> float:
        return max(self._patience, 2 * PATIENCE) if r.seen[3] == "starting" else self._patience

    def _ended(self, r: _Running, screen: Screen) -> _Running | None:
        """A worker has ended: well, or with a finding, behind which another goes on."""
        status = r.process.wait()
        os.close(r.end)
        index, calls, done, call = r.crumbs.read()
        self._result.calls += calls
        r.done_before += done
        r.crumbs.at(index, 0, call)
        if status == 0 and not r.hung:
            return None
        index, call = r.late if r.hung else (index, call)
        what = (
            "hang" if r.hung else f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        )
        self._result.findings.append({"index": index, "call": call, "what": what, "traceback": self._errors(r)})
        self._deaths[what] += 1
        screen.say(f"FOUND in arena {index}, {call}: {what}")
        following = index + self._jobs * self._indices.step
        enough = len(self._result.findings) >= self._most or r.crumbs.stopped
        if enough or call == "starting" or following >= self._indices.stop:
            return None
        return self._start(r.number, r.crumbs, following, r.done_before + 1)

    @staticmethod
    def _errors(r: _Running) -> str:
        r.errors.seek(0)
        text: str = r.errors.read().decode(errors="replace")
        r.errors.close()
        return text[-4000:]

    def _collect(self, everybody: list[_Running]) -> None:
        for line in (self._directory / "findings").read_text().splitlines():
            self._result.findings.append(json.loads(line))
        kinds = list(damage.DAMAGES)
        sums = [[0] * len(OUTCOMES) for _ in kinds]
        for r in everybody:
            for into, row in zip(sums, r.crumbs.table(), strict=True):
                for i, n in enumerate(row):
                    into[i] += n
        self._result.table = {
            kind: dict(zip(OUTCOMES, row, strict=True)) for kind, row in zip(kinds, sums, strict=True)
        }
        self._result.arenas = sum(map(sum, sums)) + sum(self._deaths.values())


def tell(result: Result, screen: Screen) -> None:
    """Prints the table and the findings."""
    width = max(map(len, damage.DAMAGES))
    screen.say(f"{'damage':{width}}" + "".join(f"{o:>12}" for o in OUTCOMES))
    for kind, row in result.table.items():
        if any(row.values()):
            screen.say(f"{kind:{width}}" + "".join(f"{row[o]:12}" for o in OUTCOMES))
    total = {o: sum(row[o] for row in result.table.values()) for o in OUTCOMES}
    screen.say(f"{'all':{width}}" + "".join(f"{total[o]:12}" for o in OUTCOMES))
    alike: dict[tuple[str, str], list[int]] = {}
    for finding in result.findings:
        alike.setdefault((finding["call"], finding["what"]), []).append(finding["index"])
    for (call, what), where in list(alike.items())[:40]:
        screen.say(f"FOUND in {len(where)} arenas ({', '.join(map(str, where[:4]))}), {call}: {what}")
    for finding in [f for f in result.findings if f.get("traceback")][:4]:
        screen.say(f"arena {finding['index']}: {finding['traceback']}")
    rate = result.arenas / max(result.seconds, 1e-9)
    screen.say(
        f"{result.arenas} arenas and {result.calls} calls in {duration(result.seconds)}, {rate:.0f} arenas a second: "
        f"{len(result.findings)} findings"
    )
