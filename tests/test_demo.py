"""`syncx demo`: that it counts right, kills and recovers, cleans up, and would notice if the locks were broken."""

from __future__ import annotations

import array
import contextlib
import io
import json
import mmap
import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support import PATIENCE, until

import syncx
from syncx import demo, demo_work
from syncx.terminal import Screen

FILES = 160


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text files of several kinds, some of them odd."""
    root = tmp_path_factory.mktemp("tree")
    for i in range(FILES):
        directory = root / f"part {i % 7}"
        directory.mkdir(exist_ok=True)
        (directory / f"file{i}.py").write_text(f"x = {i}\n" + "for a in b:\n    pass\n" * (i * 37 % 400))
    (root / "latin.txt").write_bytes(b"caf\xe9 na\xefve\n\xff\xfe\x00\n")
    (root / "empty.md").write_bytes(b"")
    (root / "no newline.toml").write_text("a = 1\r\nb = 2")
    (root / os.fsdecode(b"odd\n\xff.txt")).write_text("odd name\n")
    (root / "binary.bin").write_bytes(bytes(range(256)))
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "skipped.py").write_text("skipped\n")
    os.mkfifo(root / "pipe.txt")
    return root


def counted(tree: Path) -> dict[str, int]:
    """Counts in a way of its own."""
    files = [p for p in tree.rglob("*") if p.is_file() and p.suffix != ".bin" and p.parent.name != "__pycache__"]
    texts = [p.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n") for p in files]
    return {
        "files": len(files),
        "lines": sum(t.count("\n") for t in texts),
        "words": sum(len(re.findall(r"\w+", t)) for t in texts),
        "characters": sum(map(len, texts)),
    }


def arenas() -> list[str]:
    prefix = f"syncx-{os.geteuid()}-demo-"
    return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncx", "demo", *arguments]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a demo with its temporary files in a directory; what a failed test leaves of it is removed."""
    started: list[subprocess.Popen[str]] = []

    def call(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        started.append(process)
        return process

    yield call
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/dev/shm/syncx-{os.geteuid()}-demo-{process.pid}")


def assert_nothing_left(process: subprocess.Popen[str], tmp_path: Path) -> None:
    # tempfile tries a directory with a file of its own, named so; whoever is killed at that moment leaves it
    probe = re.compile("[a-z0-9_]{8}")
    assert not [p for p in tmp_path.iterdir() if p.is_dir() or not probe.fullmatch(p.name)]
    assert f"syncx-{os.geteuid()}-demo-{process.pid}" not in arenas()
    until(lambda: not members(process.pid), "its processes end")  # multiprocessing's own helper a moment after us


def members(group: int) -> list[str]:
    """The processes of a group, but for dead ones that nobody has reaped yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


def starting(group: int) -> list[str]:
    """What /proc says of the status of the worker processes."""
    found = []
    for pid in members(group):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(status)
    return found


# ---- the whole -----------------------------------------------------------------------------------------------------


def test_two_are_killed_and_nothing_is_lost(tree: Path, start: Start, tmp_path: Path) -> None:
    process = start(tmp_path, str(tree), "--json")
    out, err = process.communicate(timeout=3 * PATIENCE)
    assert process.returncode == 0, err
    outcome = json.loads(out)
    assert outcome["agree"] is True
    assert outcome["problems"] == []
    assert outcome["counted"] == outcome["expected"] == counted(tree)
    at_random, inside = outcome["deaths"]
    assert at_random["where"] == "at random"
    assert inside["where"] == "inside `with results:`"
    assert at_random["worker"] != inside["worker"]
    repairs = [r for r in inside["recoveries"] if r["lock"] == "results"]
    assert re.fullmatch(r"cuts off [1-9]\d* bytes of a torn record", repairs[0]["action"])
    redone = [r for r in inside["recoveries"] if r["lock"] == f"worker-{inside['worker']}"]
    assert redone[0]["action"].startswith("finishes ")
    assert outcome["permits"] == {"there": 2, "free": 2}
    assert f"the permit of `disk` that worker {inside['worker']} held is back" in err
    killed = {at_random["worker"], inside["worker"]}
    for death in outcome["deaths"]:
        assert all(0 < r["seconds"] < 5 for r in death["recoveries"])
        # the last heir lives, or had nothing to do before it was killed too
        *_, last = death["recoveries"] or [{"by": None}]
        assert last["by"] not in killed or last["action"] == "finds nothing begun"
    assert "kill -9" in err  # the story
    assert_nothing_left(process, tmp_path)


def test_somebody_else_kills_one_more(start: Start, tmp_path: Path) -> None:
    directory, scratch = tmp_path / "tree", tmp_path / "scratch"
    directory.mkdir()
    scratch.mkdir()
    for i in range(150):  # enough work to be met at it
        (directory / f"{i}.txt").write_text("some words for each of them to count\n" * 1000)
    process = start(scratch, str(directory), "--workers", "5", "--json")
    with syncx.Arena(f"demo-{process.pid}") as arena:  # before it is there itself
        disk = syncx.BoundedSemaphore(2, name="disk", arena=arena)
        disk.acquire(n=2)  # so that nobody can read a file before we are ready

        def holders() -> dict[str | None, int]:
            return {o.name: o.holder.pid for o in arena.objects() if o.holder is not None}

        def waiting(what: str) -> list[syncx.Holder]:
            return [w for o in arena.objects() if o.name is not None and o.name.startswith(what) for w in o.waiters]

        def appending(state: str) -> list[tuple[int, int]]:
            """Process and thread of those who hold the file of results, or wait for it."""
            return [(pid, tid) for told, pid, tid, *_ in arena._file_locks() if told == state]

        workers = {f"worker-{n}" for n in range(1, 6)}
        # they begin together with their starter, which from now on only watches, and kills
        until(lambda: len(waiting("worker-")) == 5 * 4, "all are at work, and watch each other")
        os.kill(process.pid, signal.SIGSTOP)  # so that it kills nobody before we do
        disk.release(2)
        disk.close()
        (memory,) = scratch.glob("syncx-demo-*/memory")
        ledger = demo_work.Shared(memory, 5).results
        until(lambda: ledger.read()[2] == demo_work.NEVER, "one stands inside its `with`")
        until(lambda: len(appending("waiting")) == 4, "the others have something to enter")
        held = holders()
        assert held.keys() >= workers
        ((stands, _),) = appending("held")
        os.kill(next(held[name] for name in sorted(workers) if held[name] != stands), signal.SIGKILL)
        # else the one who kills might choose the same, before it hears of the death
        until(
            lambda: any(pid != tid for pid, tid in appending("waiting")),
            "a watching thread has told, and finishes the work",
        )
        os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=3 * PATIENCE)
    assert process.returncode == 0, err
    outcome = json.loads(out)
    assert outcome["agree"] is True
    assert [d["where"] for d in outcome["deaths"]].count("by somebody else") == 1
    assert len(outcome["deaths"]) == 3
    assert_nothing_left(process, scratch)


@pytest.mark.parametrize("files", [1, 2, 5])
def test_few_files(files: int, start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "tree"
    directory.mkdir()
    for i in range(files):
        (directory / f"{i}.txt").write_text("one two\n" * i)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = start(scratch, str(directory), "--workers", "3")
    out, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, out + err
    assert out.count("kill -9") == 2
    assert out.splitlines()[-1] == "2 workers were killed; the totals and all records agree."
    assert "\x1b" not in out
    assert "\r" not in out
    assert err == ""
    assert_nothing_left(process, scratch)


def test_no_files(tmp_path: Path) -> None:
    for directory, message in ((tmp_path, "no text or source file"), (tmp_path / "none", "not a directory")):
        done = subprocess.run(command(str(directory)), capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("syncx: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_stopped_while_the_workers_start(tree: Path, start: Start, tmp_path: Path) -> None:
    """Ctrl-C goes to all of them, half started as they are."""
    process = start(tmp_path, str(tree))
    until(lambda: starting(process.pid), "a worker is there")
    for status in starting(process.pid):
        (blocked,) = re.findall(r"^SigBlk:\s*(\w+)", status, re.M)
        assert int(blocked, 16) & 1 << (signal.SIGINT - 1)  # it could not print a traceback if it would
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    assert_nothing_left(process, tmp_path)


@pytest.mark.parametrize("moment", ["half-way, two", "half-way worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(tree: Path, start: Start, tmp_path: Path, moment: str, number: signal.Signals) -> None:
    """While the workers start, and while one of them stands inside its `with`."""
    process = start(tmp_path, str(tree))
    assert process.stdout is not None
    seen = b""
    while moment.encode() not in seen:
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert ready
        piece = os.read(process.stdout.fileno(), 65536)  # all there is: a buffer would keep lines from select
        assert piece, process.communicate(timeout=PATIENCE)[1]
        seen += piece
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert_nothing_left(process, tmp_path)


# ---- killed before the start: nobody waits for those -----------------------------------------------------------------


class OneComesLate(demo_work.Locks):
    """The second worker is killed before it goes to the start."""

    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        if worker.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class OneDiesThere(demo_work.Locks):
    """The second worker is killed at the start, enrolled, when it should wait."""

    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        if worker.number == 1:
            self.start = DyingParty(worker.job.parties, name="start", arena=arena)


class DyingParty(syncx.Barrier):
    def wait(self, timeout: float | None = None) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


@pytest.mark.parametrize("locks", [OneComesLate, OneDiesThere])
def test_one_is_killed_before_the_start(tree: Path, locks: type[demo_work.Locks]) -> None:
    began = time.monotonic()
    outcome = outcome_of(tree, locks, kill=True)
    assert time.monotonic() - began < demo.PATIENCE  # the barrier broke: nobody waited for the dead one
    assert outcome.agree, outcome.problems
    assert sorted(d.where for d in outcome.deaths) == ["at random", "by somebody else", "inside `with results:`"]


# ---- broken locks: each must be noticed ------------------------------------------------------------------------------


class NoLock:
    """Excludes nobody.  And it makes whoever is inside dawdle at every call, so that two are sure to meet there."""

    owner_died = False

    def __enter__(self) -> NoLock:
        sys.setprofile(_dawdle)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def _dawdle(frame: FrameType, event: str, argument: Any) -> None:
    sys.setprofile(None)
    time.sleep(0.0005)
    sys.setprofile(_dawdle)


class NoLockForTotals(demo_work.Locks):
    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        self.totals = NoLock()  # type: ignore[assignment]


class NoLockForWork(demo_work.Locks):
    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        self.work = NoLock()  # type: ignore[assignment]


class NoFileLock(NoLock):
    """Appends all the same."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_APPEND)

    def fileno(self) -> int:
        return self.descriptor

    def append(self, record: bytes) -> int:
        os.write(self.descriptor, record + b"\n")
        return os.fstat(self.descriptor).st_size - len(record) - 1


class NoLockForResults(demo_work.Locks):
    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        self.results = NoFileLock(worker.job.results)  # type: ignore[assignment]


class NobodyCuts(demo_work.Locks):
    """Writes on where a dead worker stopped, in the middle of its line."""

    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        self.results = NeverCuts(worker.job.results, arena=arena)


class NeverCuts(syncx.RangeLock):
    def append(self, record: bytes | str, **_: Any) -> int:
        assert isinstance(record, bytes)
        offset = self.file.seek(0, os.SEEK_END)
        self.file.write(record + b"\n")
        return offset


class NobodyOwnsPermits(demo_work.Locks):
    """What a dead worker had of these is lost.  Two more, so that the others need not wait for ever."""

    def permits(self, number: int, arena: syncx.Arena) -> Any:
        return syncx.Semaphore(number + 2, name="disk", arena=arena)


class NobodyTakesOver(demo_work.Locks):
    """Each process has locks of its own: nobody notices that a worker died."""

    def __init__(self, arena: syncx.Arena, shared: demo_work.Shared, worker: demo_work.Worker) -> None:
        super().__init__(arena, shared, worker)
        self.lives = [syncx.Mutex(arena=arena) for _ in self.lives]


def outcome_of(tree: Path, locks: type[demo_work.Locks], kill: bool) -> demo.Outcome:
    before = set(arenas())
    outcome = demo.run(tree, Screen(io.StringIO()), workers=4, kill=kill, locks=locks)
    assert f"syncx-{os.geteuid()}-demo-{os.getpid()}" not in set(arenas()) - before
    return outcome


def test_sound_locks_without_deaths(tree: Path) -> None:
    outcome = outcome_of(tree, demo_work.Locks, kill=False)
    assert outcome.agree, outcome.problems
    assert outcome.deaths == []


@pytest.mark.parametrize(
    ("locks", "problem"),
    [
        (NoLockForTotals, "the totals differ"),
        (NoLockForWork, "the totals differ"),
        (NoLockForResults, "the ledger of results"),
    ],
)
def test_no_exclusion_is_noticed(tree: Path, locks: type[demo_work.Locks], problem: str) -> None:
    outcome = outcome_of(tree, locks, kill=False)
    assert not outcome.agree
    assert any(problem in p for p in outcome.problems), outcome.problems


@pytest.mark.parametrize(
    ("locks", "problem"),
    [
        (NobodyCuts, "missing, doubled or torn"),
        (NobodyTakesOver, "the totals differ"),
        (NobodyOwnsPermits, "permits of `disk` are left"),
    ],
)
def test_no_recovery_is_noticed(tree: Path, locks: type[demo_work.Locks], problem: str) -> None:
    outcome = outcome_of(tree, locks, kill=True)
    assert len(outcome.deaths) == 2
    assert not outcome.agree
    assert any(problem in p for p in outcome.problems), outcome.problems


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_a_ledger_changes_all_at_once() -> None:
    """A writer that dies while it writes leaves the old numbers, whatever it has written of the new."""
    memory = memoryview(mmap.mmap(-1, 4096))
    ledger, other = demo_work.Ledger(memory, 5), demo_work.Ledger(memory, 5)
    for numbers in ([1, 2, 3, 4, 5], [2**64 - 1] * 5, [0] * 5):
        ledger.write(numbers)
        assert other.read() == numbers
        for done in range(1, 5):
            spare = other._copies[1 - other._switch[0]]
            spare[:done] = memoryview(array.array("Q", [77] * done))
            assert ledger.read() == numbers


class Died(Exception):
    pass


@pytest.mark.parametrize("step", range(5))
def test_an_heir_counts_nothing_twice(arena: syncx.Arena, tmp_path: Path, step: int) -> None:
    """A worker that dies at any step of entering a file has it entered once, by its heir."""
    files = ["a.txt", "b.txt"]
    for name in files:
        (tmp_path / name).write_text("one two\n")
    job = demo_work.Job(arena.name, tmp_path, files, 3, tmp_path, demo_work.Locks)
    shared = demo_work.Shared(job.memory, job.workers)
    shared.results.write([0, 0, demo_work.NEVER, 0, 0, 0])
    job.results.touch()
    ours, theirs = multiprocessing.Pipe()
    worker, heir = demo_work.Worker(job, 0, theirs), demo_work.Worker(job, 1, theirs)
    assert worker.take() == 0
    worker.finish(0, 0)
    index = worker.take()
    assert index == 1

    steps = iter(range(5))

    def die_at(method: Callable[..., Any]) -> Callable[..., Any]:
        """Before the call, or right after it."""

        def call(*arguments: Any) -> Any:
            if next(steps, None) == step:
                raise Died
            result = method(*arguments)
            if next(steps, None) == step:
                raise Died
            return result

        return call

    for ledger in (worker.shared.results, worker.shared.totals):
        ledger.write = die_at(ledger.write)  # type: ignore[method-assign]
    with contextlib.suppress(Died):
        worker.finish(0, index)
    for _ in range(2):
        heir.finish(0, index)
    assert shared.totals.read()[:4] == [2, 2, 4, 16]
    assert [json.loads(line)["file"] for line in job.results.read_text().splitlines()] == files
    assert shared.results.read()[:2] == [job.results.stat().st_size, 2]
    for w in (worker, heir):
        w.locks.results.close()
    ours.close()
    theirs.close()


def test_which_files(tree: Path) -> None:
    found = demo_work.find_files(tree)
    assert len(found) == len(set(found)) == counted(tree)["files"] == FILES + 4
    assert not [f for f in found if "skipped" in f or "pipe" in f or f.endswith(".bin")]
