"""The command: which scenarios are swept, in which mode, by how many workers at a time."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from ...terminal import Screen
from ..stepping import why_not
from .catalogue import chosen, scenarios
from .files import remove_files
from .pairs import WAITING_STRIDE, takes_pairs
from .report import Report
from .scenario import Scenario
from .sweep import MODES, Finding, Point, Sweep
from .worker import Job

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_GRACE = 30.0
"""Seconds that a worker has beyond its budget: a hang is waited for."""
_STARTS = 60.0
"""Seconds in which a worker must say something."""

EPILOG = f"""\
A child process does one operation, one machine instruction after the other, and is killed with SIGKILL.  A survivor
must get on within a quarter of a second, alone, and be told of the death exactly when it should be.  Then the next
child is killed one instruction later.

--mode full     after each instruction
--mode classes  where others could see a difference: at each system call, after each change of shared memory
--mode stop     stopped at the points of classes, and let go on: nobody may take it for dead
--mode pairs    killed at each point of classes, and whoever recovers from that too: at each instruction of its recovery
                if it comes afterwards, at every {WAITING_STRIDE}th of its way to the lock if it waits already

exit status: 0 nothing found, 1 something found, 2 wrong usage, or ptrace(2) is forbidden here, 130 interrupted (Ctrl-C
or SIGTERM), whatever was found until then.  What --seconds leaves out is told, and is no failure.

examples:
  syncx stress --kill-every-instruction
  syncx stress --kill-every-instruction --mode full --only mutex --stride 10
  syncx stress --kill-every-instruction --mode full --only mutex.release/free --point 0.57"""


def parser() -> argparse.ArgumentParser:
    new = argparse.ArgumentParser(
        "syncx stress --kill-every-instruction",
        description="Every operation of every primitive, killed at every instruction.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = new.add_argument
    add("--mode", "-m", choices=[*MODES, "pairs"], default="classes", help="where it dies, default classes")
    only = "the scenario of that name, or, if none has it, all whose name contains it; several: any of these"
    add("--only", "-o", metavar="PATTERN", nargs="+", default=[], help=only)
    add("--stride", metavar="N", type=_positive, default=1, help="every N-th instruction (full, pairs)")
    add("--most", metavar="N", type=_positive, help="N points at most between two system calls, spread evenly")
    add("--point", metavar="POINT", help="that point of one scenario alone, as a finding names it: 3.17, 3.z, 2.1+0.17")
    # two for each CPU: who waits for a time limit, or for the belt, needs none
    jobs = 2 * len(os.sched_getaffinity(0))
    add("--jobs", "-j", metavar="N", type=_positive, default=jobs, help="how many at a time; default two for each CPU")
    budget = "a budget: afterwards no scenario is begun, and one that is under way ends after its point; both are told"
    add("--seconds", "-s", metavar="S", type=_seconds, help=budget)
    add(
        "--findings",
        metavar="N",
        type=_positive,
        default=5,
        help="of one scenario, after which it is given up; default 5",
    )
    add("--from", metavar="MODULE", dest="modules", action="append", default=[], help="scenarios of a module too")
    add("--json", metavar="FILE", help="write the figures there")
    add("--list", action="store_true", help="the names of the scenarios")
    return new


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is wanted, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e7:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0 is wanted, not {text!r}")
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse_args(arguments)
    try:
        wanted = _wanted(options)
    except (ImportError, ValueError) as e:
        return _usage(str(e))
    if options.list:
        print(*(s.name() for s in wanted), sep="\n")
        return OK
    reason = why_not()
    if reason is not None:
        return _usage(reason)
    report = Report(options.mode, arguments, options.modules, [s.name() for s in wanted])
    screen = Screen(sys.stdout)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with _Crew(options, report, screen) as crew:
            crew.sweep_all(wanted)
    except KeyboardInterrupt:
        report.interrupted = True
    report.tell(screen)
    if options.json is not None:
        with open(options.json, "w") as f:
            json.dump(report.figures(), f, indent=1)
    return INTERRUPTED if report.interrupted else FAILED if report.failures else OK


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _usage(message: str) -> int:
    print(f"syncx: {message}", file=sys.stderr)
    return USAGE


def _wanted(options: argparse.Namespace) -> list[type[Scenario]]:
    wanted = chosen(scenarios(options.modules), options.only)
    if options.mode == "stop":
        wanted = [s for s in wanted if s.stoppable]
    elif options.mode == "pairs":
        wanted = [s for s in wanted if takes_pairs(s)]
    if not wanted:
        raise ValueError(f"no scenario of mode {options.mode} is chosen by {' '.join(options.only)}; see --list")
    if options.point is not None:
        if len(wanted) != 1:
            raise ValueError(f"--point wants one scenario, and --only chooses {len(wanted)}")
        if options.mode != "pairs":
            Point.parse(options.point)
    return wanted


class _Worker:
    """A process that sweeps one scenario."""

    def __init__(self, job: Job, errors: IO[bytes]) -> None:
        self.job = job
        self.points = 0
        self.result: dict[str, Any] | None = None
        self.late = False
        """Whether it was ended since the budget is used up."""
        self.said = time.monotonic()
        self.errors = errors
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", json.dumps(dataclasses.asdict(job))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is this process's affair
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._text = b""

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> bool:
        """What it says; False at its end."""
        data = os.read(self.fileno(), 1 << 20)
        self.said = time.monotonic()
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            self.points = told.get("points", self.points)
            self.result = told.get("result", self.result)
        return bool(data)

    def end(self) -> None:
        """Its children end with it, for they are traced, or ask for that (PR_SET_PDEATHSIG)."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.job.arena)
        remove_files(self.job.arena)

    def complaint(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or f"exit status {self.process.returncode}"


class _Crew:
    """As many workers as there may be at a time."""

    def __init__(self, options: argparse.Namespace, report: Report, screen: Screen) -> None:
        self.options = options
        self.report = report
        self.screen = screen
        self.workers: set[_Worker] = set()
        self.selector = selectors.DefaultSelector()
        self.end = None if options.seconds is None else time.monotonic() + options.seconds
        self.number = 0

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()
        self.selector.close()

    def sweep_all(self, wanted: Sequence[type[Scenario]]) -> None:
        waiting = iter(wanted)
        with self.screen.progress(f"crash, {self.options.mode}", len(wanted)) as bar:
            while self.start_some(waiting) or self.workers:
                for key, _ in self.selector.select(0.5):
                    worker: _Worker = key.data
                    if not worker.read():
                        self.done(worker)
                self.check_silence()
                bar.update(len(self.report.sweeps) + len(self.report.failed))

    def start_some(self, waiting: Iterator[type[Scenario]]) -> bool:
        """Whether one was started."""
        started = False
        while len(self.workers) < self.options.jobs and (self.end is None or time.monotonic() < self.end):
            scenario = next(waiting, None)
            if scenario is None:
                break
            self.number += 1
            arena = f"/dev/shm/syncx-{os.getuid()}-crash-{os.getpid()}-{self.number}"
            job = Job(
                scenario.name(),
                arena,
                self.options.mode,
                self.options.stride,
                self.options.most,
                self.options.point,
                self.options.findings,
                None if self.end is None else self.end - time.monotonic(),
                tuple(self.options.modules),
            )
            worker = _Worker(job, tempfile.TemporaryFile())  # noqa: SIM115 - closed by end()
            self.workers.add(worker)
            self.selector.register(worker, selectors.EVENT_READ, worker)
            started = True
        return started

    def done(self, worker: _Worker) -> None:
        self.selector.unregister(worker)
        self.workers.discard(worker)
        worker.process.wait()
        if worker.result is None and not worker.late:  # one that is late is left out
            self.report.failed[worker.job.scenario] = worker.complaint()
        elif worker.result is not None:
            findings = [Finding(**f) for f in worker.result.pop("findings")]
            swept = Sweep(**worker.result, findings=findings)
            self.report.add(swept)
            for finding in findings:
                self.report.tell_finding(self.screen, finding)
        worker.end()

    def check_silence(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers):
            late = self.end is not None and now > self.end + _GRACE
            if late or now - worker.said > _STARTS:
                worker.late = late
                worker.errors.write(b"\nit said nothing for too long\n")
                worker.process.kill()  # its end is read like any other
