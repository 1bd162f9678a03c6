"""A log to which many processes append while some of them are killed: benchmarks/appends.py, small, and its oracle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "every acknowledged record is there, once and whole"

pytestmark = pytest.mark.core

UNCUT = """
import random, sys
from benchmarks import appends, filepeers
from benchmarks.children import end_all
from benchmarks.place import Place

def open_it(path, place):
    lock = filepeers.Raw(path)

    def append(data):  # at the end, whatever there is: under the lock, but what is torn stays
        with lock, open(path, "ab") as file:
            file.write(data + b"\\n")

    return lock, append

with Place() as place:
    try:
        outcome = appends.run(place, appends.Plan.of(4, 20, 1, random.Random(1)), open_it)
    finally:
        end_all()
assert outcome.torn == 0
print(*outcome.faults, sep="\\n")
"""


def finish(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def appends(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import appends

    return appends


def log_of(plan, *writers_and_numbers: tuple[int, int]) -> bytes:
    return b"".join(plan.record(writer, number) + b"\n" for writer, number in writers_and_numbers)


def test_no_acknowledged_record_is_lost_doubled_or_torn() -> None:
    """The full size is `python -m benchmarks.appends`."""
    status, out, err = finish("-m", "benchmarks.appends", "--processes", "20", "--records", "100", "--kills", "6")
    assert (status, err) == (0, ""), out
    assert out.endswith(f"{WHOLE}\n")
    assert "6 processes killed" in out


def test_a_twin_that_leaves_torn_records_is_found_out() -> None:
    status, out, err = finish("-c", UNCUT)
    assert (status, err) == (0, "")
    assert out.startswith("line 1 is no whole record: b'0 0 a record that somebody was writing when")


@pytest.mark.parametrize(
    ("written", "acknowledged", "killed", "fault"),
    [
        ([(0, 0), (1, 0), (0, 1)], [2, 1], [], None),
        ([(0, 0), (1, 0), (0, 1)], [1, 1], [0], None),  # killed between the writing and the acknowledging
        ([(0, 0), (1, 0), (0, 1)], [1, 1], [1], "writer 0 has 2 records in the log and acknowledged 1"),
        ([(0, 0), (0, 1), (0, 2)], [1, 0], [0], "writer 0 has 3 records in the log and acknowledged 1"),
        ([(0, 0), (1, 0)], [2, 1], [0], "record 1 of writer 0 is missing"),
        ([(0, 0), (0, 2)], [3, 0], [], "record 1 of writer 0 is missing"),
        ([(0, 0), (0, 1), (0, 0)], [2, 0], [], "line 3: record 0 of writer 0 was there before"),
        ([(0, 1), (0, 0)], [2, 0], [], "line 2: record 0 of writer 0 was there before"),  # in the wrong order
        ([(0, 0), (2, 0)], [1, 0], [], "line 2 is no whole record"),  # there is no writer 2
    ],
)
def test_the_oracle_reads_the_log(appends: ModuleType, written, acknowledged, killed, fault: str | None) -> None:
    plan = appends.Plan(2, 10, dict.fromkeys(killed, 0))
    found = appends.faults(log_of(plan, *written), acknowledged, plan)
    assert (found == []) if fault is None else (found and any(f.startswith(fault) for f in found)), found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: log[:-1],
        lambda log: log[: len(log) // 2],
        lambda log: log[:10] + b"?" + log[11:],
        lambda log: b"\n" + log,
        lambda log: log.replace(b"\n", b"", 1),
    ],
    ids=["no end", "cut off", "a wrong byte", "an empty line", "two in a line"],
)
def test_the_oracle_sees_every_torn_record(appends: ModuleType, spoil) -> None:
    plan = appends.Plan(1, 10, {})
    log = log_of(plan, (0, 0), (0, 1), (0, 2))
    assert appends.faults(log, [3], plan) == []
    assert appends.faults(spoil(log), [3], plan) != []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "1"], "1 is less than 2"),
        (["--processes", "many"], "invalid"),
        (["--processes", "3", "--kills", "3"], "somebody must be left"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    status, _, err = finish("-m", "benchmarks.appends", *arguments)
    assert status == 2
    assert message in err
