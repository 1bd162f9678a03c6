"""Every view of the command line on an arena that is missing, empty, busy, cut short, full of noise, flipped here and
there, of another version, closed to us, or of before a reboot: clear messages, documented exit statuses, no traceback,
no hang, no memory without end.

All views are run in one child, one after the other, each on a fresh copy of the arena's file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from support import PATIENCE, Child, until, until_waiting
from test_snapshot import copy_sparse

import syncx
from syncx.cli import parser

# of each command the ways it is run, behind them the arena; FILE and PID stand for those of the scene
VIEWS: dict[str, list[list[str]]] = {
    "ls": [["--all"], ["--all", "--json"], ["--quiet"]],
    "ps": [[], ["--all"], ["--json"]],
    "locks": [["FILE"], ["--json", "FILE"]],
    "doctor": [[], ["--json"]],
    "stats": [["--all"], ["--json"], ["--prometheus"]],
    "graph": [[], ["--dot"], ["--svg"], ["--json"]],
    "why": [["PID"], ["m"], ["FILE"], ["s"], ["no such name"]],
    "deadlocks": [[], ["--json"]],
    "watch": [["--once", "--all", "--longer", "0"], ["--once", "--json", "--longer", "0"]],
    "top": [["--once"]],
}
OTHERS = {"demo", "run", "rm", "stress", "completion"}
"""Commands that are no views."""
STATUSES = {"doctor": {0, 1, 3}, "deadlocks": {0, 1, 3, 4}, "watch": {0, 1, 3, 4}}
"""What docs/reference/command-line.md promises, where that is more than 0 and 1."""
MEMORY = 600 << 20
"""A view may map an arena, some 120 MB, or read of it what is filled; what a damaged number asks for is more."""


def commands() -> set[str]:
    (sub,) = (a for a in parser.build()._actions if isinstance(a, argparse._SubParsersAction))
    return set(sub.choices)


def test_every_view_is_covered():
    assert commands() - set(VIEWS) - OTHERS == set()
    assert not set(VIEWS) & OTHERS


# ---- running them ----------------------------------------------------------------------------------------------------

RUNNER = """
    import faulthandler, fcntl, gc, io, resource, struct
    from test_snapshot import copy_sparse
    from syncx import cli
    pipe = os.dup(1)
    mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)

    def run(argv):
        with open(os.memfd_create("out"), "rb") as out, open(os.memfd_create("err"), "rb") as err:
            saved = sys.stdout, sys.stderr, os.dup(2)
            os.dup2(out.fileno(), 1); os.dup2(err.fileno(), 2)
            sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-8")
            sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), encoding="utf-8", write_through=True)
            try:
                status = cli.main(argv)
            except SystemExit as e:
                status = f"SystemExit {e.code}"
            except BaseException:
                import traceback
                status = traceback.format_exc()
            finally:
                sys.stdout.flush()
                sys.stdout, sys.stderr = saved[:2]
                os.dup2(pipe, 1); os.dup2(saved[2], 2); os.close(saved[2])
            data = [os.pread(f.fileno(), 32 << 20, 0).decode() for f in (out, err)]
            return [status, *data]

    while True:
        job = hear()
        if job is None:
            break
        if "user" in job:
            for argv in job["before"]:
                run(argv)
            os.setgroups([]); os.setresgid(job["user"], job["user"], job["user"])
            os.setresuid(job["user"], job["user"], job["user"])
            say(); continue
        if job["image"] is not None:
            copy_sparse(job["image"], job["arena"])
            witness = open(job["arena"], "r+b")
            for slot in job["living"]:  # their bytes, which say that they live; see process.c
                where = (1 << 40) + 1 + slot
                fcntl.fcntl(witness, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, where, 1, 0))  # OFD_SETLK
        faulthandler.dump_traceback_later(30, exit=True)
        said = run(job["argv"])
        faulthandler.cancel_dump_traceback_later()
        gc.collect()
        os.write(1, json.dumps(said).encode() + b"\\n")
    """


def check(command: str, argv: list[str], said: list[Any]) -> None:
    """The rules for whatever a view meets."""
    status, out, err = said
    what = f"syncx {' '.join(argv)}: status {status}\n{err[:2000]}"
    assert status in STATUSES.get(command, {0, 1}), what
    assert "Traceback" not in out + err, what
    assert all(line.startswith("syncx: ") for line in err.splitlines()), what
    assert status != 1 or err, f"{what}: no word of why"
    assert all(c.isprintable() or c == "\n" for c in out), what
    if "--json" in argv and status != 1:
        for text in out.splitlines() if command == "watch" else [out]:
            json.loads(text)


class Runner:
    """All views on one file."""

    def __init__(self, child: Any, directory: Any) -> None:
        self._child: Child = child(RUNNER, memory=MEMORY)
        self.arena = str(directory / "arena")
        self.file = str(directory / "data")
        self.pid = os.getpid()

    def argv(self, command: str, way: list[str], arena: str) -> list[str]:
        places = [arena] if command == "doctor" else ["--arena", arena]
        stand = {"FILE": self.file, "PID": str(self.pid)}
        return [command, *(stand.get(word, word) for word in way), *places]

    def all(
        self, arena: str | None = None, image: str | None = None, living: Sequence[int] = (), only: str | None = None
    ) -> Iterator[tuple[str, list[str], list[Any]]]:
        """Each view with how it was called, and its status, output and messages.

        arena: which one; by default a copy of `image`, made anew for each view, in which the processes of the slots
        `living` are alive.  only: this command.
        """
        there = commands()
        for command, ways in VIEWS.items():
            for way in ways if command in there and only in (None, command) else ():
                argv = self.argv(command, way, arena or self.arena)
                self._child.say({"argv": argv, "image": image, "arena": self.arena, "living": list(living)})
                said = self._child.hear(PATIENCE + 30)
                check(command, argv, said)
                yield command, argv, said

    def become(self, user: int, arena: str) -> None:
        """Runs the rest as another user, who may not be able to import what is not imported by then."""
        before = [self.argv(c, w, arena) for c in VIEWS if c in commands() for w in VIEWS[c]]
        self._child.say({"user": user, "before": before})
        self._child.hear()

    def finish(self) -> None:
        self._child.say(None)
        self._child.finish()


@pytest.fixture
def runner(arena, child, tmp_path):
    os.chmod(tmp_path, 0o755)
    made = Runner(child, tmp_path)
    with open(made.file, "wb"):
        pass
    yield made
    made.finish()


BUSY = """
    m = syncx.Mutex("m", arena=arena); m.acquire()
    s = syncx.BoundedSemaphore(5, name="s", arena=arena); s.acquire(n=2)
    rw = syncx.RWLock("rw", arena=arena); rw.read().acquire()
    b = syncx.Barrier(3, name="b", arena=arena); b.enroll().__enter__()
    f = syncx.RangeLock(path, 4, 6, arena=arena); f.acquire()
    others = [syncx.Event("e", arena=arena), syncx.Latch(3, name="l", arena=arena), syncx.Once("o", arena=arena),
              syncx.Condition(name="c", arena=arena), syncx.Semaphore(2, name="u", arena=arena),
              syncx.Mutex(arena=arena)]
    def work(wait):
        try:
            wait()
        except syncx.SyncxError:
            return
    e, c = others[0], others[3]
    w = syncx.RWLock("rw", arena=arena).write()
    g = syncx.RangeLock(path, 0, 10, arena=arena)
    def signalled():
        with c:
            c.wait()
    for wait in (e.wait, signalled, w.acquire, g.acquire):
        threading.Thread(target=work, args=(wait,), daemon=True).start()
    say(); hear()
    """
WAITS = 'm = syncx.Mutex("m", arena=arena); say(); m.acquire(timeout=600)'


def make_busy(arena, child, path):
    """Holders and waiters of most kinds; returns the first process."""
    a = child(BUSY, path=path)
    a.hear()
    b = child(WAITS)
    b.hear()
    until_waiting(arena, 5)
    return a


class Image(NamedTuple):
    """A copy of the file of an arena that is in use."""

    path: str
    regions: dict[str, tuple[int, int, int, int]]
    living: list[int]
    """The process slots in use."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """One whose processes live as long as the tests here."""
    directory = tmp_path_factory.mktemp("image")
    path, data = str(directory / "arena"), str(directory / "data")
    with open(data, "wb"):
        pass
    arena = syncx.Arena(str(directory / "live"))
    children: list[Child] = []

    def child(code: str, **names: Any) -> Child:
        children.append(Child(code, ARENA=arena.path, **names))
        return children[-1]

    try:
        make_busy(arena, child, data)
        until(lambda: copy_sparse(arena.path, path) and len(syncx.snapshot(path).waits) >= 5, "all wait in the copy")
        living = [(p.id >> 8 & 0xFFFF) - 1 for p in syncx.snapshot(arena).processes if p.alive]
        yield Image(path, arena._description()["regions"], living)
    finally:
        for c in children:
            c.close()
        arena.unlink(force=True)
        arena.close()


# ---- whole arenas ----------------------------------------------------------------------------------------------------


def test_no_arena_at_all(runner, tmp_path):
    for place in (f"{tmp_path}/none", f"{os.path.basename(runner.arena)}-of-nobody"):
        for command, argv, (status, _, err) in runner.all(place):
            if command not in ("ls", "doctor", "watch"):
                assert status == 1, argv
                assert "no arena" in err or "no such" in err or command == "why", err


def test_an_empty_arena(runner, arena):
    for command, argv, (status, _, err) in runner.all(arena.path):
        assert status == 0 or command == "why", (argv, err)


def test_a_busy_arena(runner, arena, child):
    a = make_busy(arena, child, runner.file)
    runner.pid = a.pid
    shown = {}
    for command, argv, (status, out, err) in runner.all(arena.path):
        assert status == (1 if "no such name" in argv else 4 if command in ("deadlocks", "watch") and status else 0), (
            argv
        )
        assert not err or "no such name" in argv, (argv, err)
        shown[command] = shown.get(command, "") + out
    for command in ("ls", "ps", "doctor"):
        assert "m" in shown[command]
    assert str(a.pid) in shown["ps"]
    assert str(a.pid) in shown["locks"]


# ---- damaged ones ----------------------------------------------------------------------------------------------------


def syncx_magic(path):
    with open(path, "rb") as f:
        return f.read(8) == b"yncxARN1"


def refused(runner, image, words):
    """Every view says what is wrong with the file, and shows nothing."""
    for command, argv, (status, out, err) in runner.all(image=image):
        if command == "doctor":
            assert status == (3 if syncx_magic(image) else 0), argv  # without, it may be any file
            assert words in out or "no arena" in out, out
        elif command != "watch":
            assert status == 1, (argv, out)
            assert words in err, (argv, err)
            assert "--prometheus" in argv or not out, (argv, out)


@pytest.mark.core
@pytest.mark.parametrize("size", [0, 100, 4096, 1 << 20])
def test_a_truncated_arena(runner, image, tmp_path, size):
    path = copy_sparse(image.path, f"{tmp_path}/image")
    os.truncate(path, size)
    refused(runner, path, "not a syncx arena" if size < 4096 else "damaged")


@pytest.mark.core
def test_an_arena_of_another_version(runner, image, tmp_path):
    path = copy_sparse(image.path, f"{tmp_path}/image")
    with open(path, "r+b") as f:
        f.seek(8)
        f.write((99).to_bytes(4, "little"))
    refused(runner, path, "another version")


@pytest.mark.core
def test_an_arena_of_before_a_reboot(runner, image, tmp_path):
    path = copy_sparse(image.path, f"{tmp_path}/image")
    with open(path, "r+b") as f:
        f.seek(boot_id(image.regions))
        f.write(b"another boot id.")
    for command, argv, (status, out, err) in runner.all(image=path):
        assert status == 0 or command == "why", (argv, err)
        if argv[:2] == ["ps", "--json"]:
            assert not any(p["alive"] for p in json.loads(out)["participants"])


def flip(f, rng, areas):
    for _ in range(rng.choice((1, 4, 64, 256))):
        lo, hi = rng.choice(areas)
        at = rng.randrange(lo, hi)
        byte = os.pread(f.fileno(), 1, at)[0]
        os.pwrite(f.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), at)


def boot_id(regions):
    """Where the part of the header begins that changes, see docs/reference/layout.md."""
    return 80 + 16 * len(regions)


def filled(regions):
    """Where something lies that changes, and is looked at."""
    areas = [(boot_id(regions), 768)]
    for offset, size, _, ready in regions.values():
        if ready:
            areas.append((offset, offset + min(ready, max(4096, 4 * size))))
    return areas


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.core) for s in range(2, 5))])
def test_flipped_bits(runner, image, tmp_path, seed):
    """While those who use it live, and after their end."""
    rng = random.Random(seed)
    path = copy_sparse(image.path, f"{tmp_path}/image")
    with open(path, "r+b") as f:
        flip(f, rng, filled(image.regions))
    for _ in runner.all(image=path, living=image.living if seed % 4 else ()):
        continue


@pytest.mark.core
@pytest.mark.parametrize("seed", [1, 2])
def test_noise_behind_a_valid_header(runner, image, tmp_path, seed):
    rng = random.Random(seed)
    path = copy_sparse(image.path, f"{tmp_path}/image")
    with open(path, "r+b") as f:
        for lo, hi in filled(image.regions):
            lo = (
                lo if seed % 2 else max(lo, boot_id(image.regions) + 24 + 8 * len(image.regions))
            )  # now and then the sizes stay right, and all is looked at
            os.pwrite(f.fileno(), rng.randbytes(hi - lo), lo)
    for _ in runner.all(image=path, living=image.living if seed % 4 else ()):
        continue


@pytest.mark.core
def test_the_copy_lives_where_it_should(runner, image):
    """What the tests above stand on."""
    for living in (image.living, ()):
        views = runner.all(image=image.path, living=living, only="ps")
        shown = {tuple(argv[:2]): out for _, argv, (_, out, _) in views}
        participants = json.loads(shown["ps", "--json"])["participants"]
        assert sum(p["alive"] for p in participants) >= (6 if living else 0)
        assert living or not any(p["alive"] for p in participants)


@pytest.mark.core
def test_an_arena_that_may_not_be_read(runner, arena, child):
    make_busy(arena, child, runner.file)
    os.chmod(runner.file, 0o644)
    path = arena.path
    if os.geteuid() == 0:
        runner.become(54321, path)
    else:
        pytest.skip("only root can make an arena that others may not read, and become one of them")
    for command, argv, (status, out, err) in runner.all(path):
        if command != "watch":
            assert status == 1, (argv, out)
            assert "ermission denied" in err, (argv, err)


# ---- the rules themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        [2, "", ""],
        [3, "", ""],
        ["Traceback ...", "", ""],
        [0, "", "Traceback (most recent call last):\n"],
        [1, "", ""],
        [1, "", "what?\n"],
        [0, "\x1b[31m", ""],
        [0, "{", ""],
    ],
)
def test_a_view_that_breaks_a_rule_is_condemned(said):
    check("ps", ["ps", "--json"], [0, "{}", ""])
    with pytest.raises((AssertionError, ValueError)):
        check("ps", ["ps", "--json"], said)
