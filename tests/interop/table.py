"""Who excludes whom: measured, and written into the page that tells it.

    python tests/interop/table.py            # prints the tables
    python tests/interop/table.py --write    # writes them into docs/reference/file-lock-interop.md

`measure` has each kind of syncx lock and each neighbour lock the same file, in both orders and every pair of modes, and
takes down who was kept out; `tables` makes tables of that.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import Child

from interop.parties import MODES, NEIGHBOURS, OURS, Kind, Party, locks_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "file-lock-interop.md"

Starter = Callable[..., Party]
"""Starts a party of a kind on a file: `starter(kind, path)`."""


@contextlib.contextmanager
def starting(directory: Path, arena: str) -> Iterator[Starter]:
    """A starter whose processes end with the block."""
    with contextlib.ExitStack() as stack:

        def child(code: str, **names: object) -> Child:
            process = Child(code, **names)  # type: ignore[arg-type]
            stack.callback(process.close)
            return process

        yield lambda kind, path: Party(kind, path, child, directory, arena)


# ---- whole files -------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """What two kinds do to each other: for each pair of modes, first and second, is who comes later kept out?"""

    second_kept_out: dict[str, bool] = field(default_factory=dict)
    first_kept_out: dict[str, bool] = field(default_factory=dict)

    def verdict(self) -> str:
        """One word for the table, or all that was seen where no word fits."""
        expected = {pair: pair != "ss" for pair in self.second_kept_out}
        if self.second_kept_out == self.first_kept_out == expected:
            return "yes"
        if not any(self.second_kept_out.values()) and not any(self.first_kept_out.values()):
            return "no"
        return f"{self.second_kept_out} {self.first_kept_out}"


def kept_out(holder: Party, comer: Party, mode: str, other: str, *range_: int, his: tuple[int, ...] = ()) -> bool:
    """Does the holder in that mode keep the other out?  Leaves nothing held."""
    assert holder.try_(mode, *range_), f"{holder.kind.label}: somebody holds the file already"
    try:
        got = comer.try_(other, *(his or range_))
        if got:
            comer.release()
    finally:
        holder.release()
    return not got


def pair(first: Party, second: Party) -> Pair:
    result = Pair()
    for a in first.kind.modes:
        for b in second.kind.modes:
            result.second_kept_out[a + b] = kept_out(first, second, a, b)
            result.first_kept_out[a + b] = kept_out(second, first, b, a)
    return result


def takes(party: Party) -> str:
    """Which lock of the kernel it is, as /proc tells it while one is held."""
    seen = {}
    for mode in party.kind.modes:
        assert party.try_(mode)
        locks = locks_of(party.pid, party.path)
        party.release()
        (lock,) = locks
        assert lock.mode == {"x": "WRITE", "s": "READ"}[mode], (party.kind.label, lock)
        seen[mode] = {"POSIX": "POSIX record lock", "OFDLCK": "OFD lock", "FLOCK": "flock"}[lock.family]
        if (lock.first, lock.last) != (0, None):
            seen[mode] += f" on bytes {lock.first:#x} to {lock.last:#x}"
    if len(set(seen.values())) == 1:
        return seen["x"]
    return "; ".join(f"{MODES[mode]}: {what}" for mode, what in seen.items())


# ---- ranges ------------------------------------------------------------------------------------------------------

HELD = (100, 50)
RANGES = {
    "the same": (100, 50),
    "one byte in it": (149, 1),
    "its first byte and what is before": (0, 101),
    "its last byte and what follows, to the end of the file": (149, 0),
    "all of the file": (0, 0),
    "what ends right before it": (0, 100),
    "what begins right behind it, to the end of the file": (150, 0),
}


def ranges(first: Party, second: Party) -> dict[str, str]:
    """Who is kept out of which range, where the other has bytes 100 to 149."""
    result = {}
    for name, wanted in RANGES.items():
        ours = kept_out(second, first, "x", "x", *HELD, his=wanted)
        theirs = kept_out(first, second, "x", "x", *HELD, his=wanted)
        shared = kept_out(first, second, "s", "s" if "s" in second.kind.modes else "x", *HELD, his=wanted)
        together = "s" in second.kind.modes
        assert shared == (theirs and not together), (first.kind.label, second.kind.label, name)
        result[name] = {(True, True): "yes", (False, False): "no"}.get((ours, theirs), f"{ours} {theirs}")
    return result


# ---- sqlite3's bytes ---------------------------------------------------------------------------------------------

PENDING, RESERVED, SHARED = 0x40000000, 0x40000001, 0x40000002
"""Where sqlite3 locks a database file, and the number of its SHARED bytes: the head of its os.h tells it."""
SHARED_SIZE = 510
WAL_WRITE = 120
"""The byte of the -shm file that a writer locks in WAL mode (walformat.html)."""


def make_database(path: Path, *, wal: bool = False) -> Path:
    """A thousand accounts of 100 each: some fifty pages."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        if wal:
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER, note TEXT)")
        db.executemany("INSERT INTO account VALUES (?, 100, ?)", [(i, "a" * 200) for i in range(1000)])
    return path


BYTES = {
    "exclusive, the 512 bytes": ("x", PENDING, SHARED_SIZE + 2),
    "shared, the 510 SHARED bytes": ("s", SHARED, SHARED_SIZE),
    "exclusive, the RESERVED byte": ("x", RESERVED, 1),
    "exclusive, the whole file": ("x", 0, 0),
    "shared, the whole file": ("s", 0, 0),
}
STEPS = {"read": "reads", "reserve": "begins to write", "commit": "commits"}
BESIDE = {"read": "to be had beside a reader", "reserve": "a writer", "spill": "a commit"}


def sqlite_steps(ours: Party, theirs: Party) -> dict[str, list[str]]:
    """For each lock of ours: what sqlite3 can do beside it, and beside which of its transactions we get it."""
    result = {}
    for name, (mode, start, length) in BYTES.items():
        assert ours.try_(mode, start, length)
        row = []
        for step in STEPS:
            row.append("yes" if theirs.ask(step) else "SQLITE_BUSY")
            theirs.release()
        ours.release()
        for step in BESIDE:
            assert theirs.ask(step)
            got = ours.try_(mode, start, length)
            if got:
                ours.release()
            theirs.release()
            row.append("yes" if got else "no")
        result[name] = row
    return result


def wal_steps(start: Starter, path: Path) -> dict[str, list[str]]:
    """The same for a database in WAL mode, that some connection has open."""
    open_, theirs = start(NEIGHBOURS["sqlite3"], path), start(NEIGHBOURS["sqlite3"], path)
    assert open_.ask("read")
    open_.release()
    ours, beside = start(OURS["ofd"], path), start(OURS["ofd"], Path(f"{path}-shm"))
    result = {}
    for name, (party, mode, first, length) in {
        "exclusive, the 512 bytes": (ours, "x", PENDING, SHARED_SIZE + 2),
        "shared, the 510 SHARED bytes": (ours, "s", SHARED, SHARED_SIZE),
        f"exclusive, byte {WAL_WRITE} of the file `-shm`": (beside, "x", WAL_WRITE, 1),
    }.items():
        if not party.try_(mode, first, length):
            result[name] = ["not to be had"] * len(STEPS)
            continue
        result[name] = []
        for step in STEPS:
            result[name].append("yes" if theirs.ask(step) else "SQLITE_BUSY")
            theirs.release()
        party.release()
    return result


# ---- all of it ---------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    takes: dict[str, str]
    whole: dict[tuple[str, str], Pair]
    families: dict[tuple[str, str], Pair]
    ranges: dict[tuple[str, str], dict[str, str]]
    sqlite: dict[str, list[str]]
    wal: dict[str, list[str]]


FAMILIES = {"POSIX record lock": "C fcntl", "OFD lock": "C ofd", "flock": "C flock"}
WITH_RANGES = [name for name, kind in NEIGHBOURS.items() if kind.ranges]


def measure(start: Starter, directory: Path) -> Measured:
    path = directory / "file"
    path.touch()
    ours = {name: start(kind, path) for name, kind in OURS.items()}
    theirs = {name: start(kind, path) for name, kind in NEIGHBOURS.items()}
    twins = {family: start(NEIGHBOURS[name], path) for family, name in FAMILIES.items()}
    database = make_database(directory / "database")
    return Measured(
        takes={name: takes(party) for name, party in {**ours, **theirs}.items()},
        whole={(a, b): pair(ours[a], theirs[b]) for a in ours for b in theirs},
        families={(a, b): pair(theirs[name], twins[b]) for a, name in FAMILIES.items() for b in FAMILIES},
        ranges={(a, b): ranges(ours[a], theirs[b]) for a in ours if OURS[a].ranges for b in WITH_RANGES},
        sqlite=sqlite_steps(start(OURS["ofd"], database), start(NEIGHBOURS["sqlite3"], database)),
        wal=wal_steps(start, make_database(directory / "wal", wal=True)),
    )


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(m: Measured) -> dict[str, str]:
    """The tables of the page by their names."""

    def label(kind: Kind, name: str) -> list[str]:
        return [kind.label, m.takes[name]]

    whole = [[*label(NEIGHBOURS[b], b), *(m.whole[a, b].verdict() for a in OURS)] for b in NEIGHBOURS]
    families = [[a, *(m.families[a, b].verdict() for b in FAMILIES)] for a in FAMILIES]
    columns = [b for b in WITH_RANGES if b != "C ofd"]
    same = [m.ranges["ofd", b] == m.ranges["ofd", "C ofd"] for b in columns]
    assert all(same), "the table has one column for each style, since all neighbours do the same"
    by_range = [[name, *(m.ranges[a, "C fcntl"][name] for a in ("ofd", "posix"))] for name in RANGES]
    return {
        "ours": markdown(["", "lock of the kernel"], [label(kind, name) for name, kind in OURS.items()]),
        "whole": markdown(["neighbour", "lock of the kernel", *(kind.label for kind in OURS.values())], whole),
        "families": markdown(["", *FAMILIES], families),
        "ranges": markdown(["wanted", OURS["ofd"].label, OURS["posix"].label], by_range),
        "sqlite": markdown(
            [
                "our lock",
                *(f"sqlite3 {s}" for s in STEPS.values()),
                *BESIDE.values(),
            ],
            [[name, *row] for name, row in m.sqlite.items()],
        ),
        "wal": markdown(["our lock", *(f"sqlite3 {s}" for s in STEPS.values())], [[k, *v] for k, v in m.wal.items()]),
    }


REGION = re.compile(r"(<!-- measured: (\w+) -->\n\n)(.*?)(?=\n\n)", re.S)


def on_page(text: str) -> dict[str, str]:
    """The tables that a page has."""
    return {name: body for _, name, body in REGION.findall(text)}


def put(text: str, fresh: dict[str, str]) -> str:
    """The page with these tables."""
    return REGION.sub(lambda found: found[1] + fresh[found[2]], text)


def main() -> None:
    import syncx

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with syncx.Arena(str(directory / "arena")) as arena, starting(directory, arena.path) as start:
            fresh = tables(measure(start, directory))
    if "--write" in sys.argv[1:]:
        PAGE.write_text(put(PAGE.read_text(), fresh))
    else:
        print("\n\n".join(fresh.values()))


if __name__ == "__main__":
    main()
