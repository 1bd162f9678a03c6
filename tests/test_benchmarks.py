"""The benchmarks run, and say what they measured.  How fast anything is, is not tested here."""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, out, err


def nothing_left(pid: int) -> bool:
    """Of a run that has ended.  A helper of multiprocessing ends a moment after the one it helped."""
    deadline = time.monotonic() + 10
    while left_behind(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left_behind(pid) == []


def left_behind(pid: int) -> list[str]:
    """What a run with that pid has in shared memory, and who lives on in its session."""
    found = glob.glob(f"/dev/shm/*bench-{pid}*")
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = Path(stat).read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(pid) and fields[0] != "Z":
            found.append(stat)
    return found


@pytest.fixture(scope="module")
def run() -> tuple[int, dict]:
    process = start("--quick", "--group", "uncontended", "--group", "import", "--rounds", "2", "--json", "-")
    status, out, err = finish(process)
    assert status == 0, err
    assert err == ""
    return process.pid, json.loads(out)


def test_sections_and_rows(run: tuple[int, dict]) -> None:
    _, data = run
    assert list(data["groups"]) == ["uncontended", "import"]
    assert [s["key"] for s in data["groups"]["uncontended"]] == ["with", "pair", "failing"]
    for section in data["groups"]["uncontended"] + data["groups"]["import"]:
        rows = {row["name"]: row for row in section["rows"]}
        assert section["baseline"] in rows
        assert "syncx" in {row["kind"] for row in rows.values()}
        for row in rows.values():
            assert len(row["samples"]) == 2
            value = row["value"]
            assert 0 < value["q1"] <= value["median"] <= value["q3"]
            assert value["n"] == 2
            assert row["ratio"]["median"] > 0
        assert rows[section["baseline"]]["ratio"]["median"] == 1.0
        if section["unit"] == "ns":
            assert {"an empty loop", "syncx.Mutex", "syncx.RLock", "multiprocessing.Lock"} <= set(rows)
            floors = {name for name, row in rows.items() if row["kind"] == "floor"}
            assert ("floors" in data["about"]["missing"]) == (floors == {"an empty loop"})


def test_every_peer_is_measured_or_missing_with_a_reason(run: tuple[int, dict]) -> None:
    about = run[1]["about"]
    packages = {"python-posixipc", "posix_ipc", "sysv_ipc", "fasteners", "filelock", "portalocker"}
    assert packages <= set(about["peers"]) | set(about["missing"])
    assert not set(about["peers"]) & set(about["missing"])
    assert all(about["missing"].values())


def test_limits_are_judged_for_the_groups_that_ran(run: tuple[int, dict]) -> None:
    limits = run[1]["limits"]
    assert {limit["group"] for limit in limits} == {"uncontended", "import"}
    assert all(limit["verdict"] in ("pass", "FAIL", "for 3.11", "NOT MEASURED") for limit in limits)
    assert all(limit["median"] > 0 for limit in limits if limit["verdict"] != "NOT MEASURED")


def test_nothing_is_left_behind(run: tuple[int, dict]) -> None:
    assert nothing_left(run[0])


def test_contended_table_is_plain_when_piped() -> None:
    process = start("--quick", "--group", "contended", "--seconds", "0.02")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    assert "contended: 8 processes" in out
    assert "min/max" in out
    assert "\x1b" not in out
    assert nothing_left(process.pid)


def test_interrupted_leaves_nothing() -> None:
    """Ctrl-C in the middle of a block of a minute, with holders and waiters about."""
    process = start("--group", "wakeup", "--seconds", "60")
    deadline = time.monotonic() + PATIENCE
    try:
        # the arena is there, and so is a waiter: more processes than the first holder
        while len([f for f in left_behind(process.pid) if f.startswith("/proc")]) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [f for f in left_behind(process.pid) if f.startswith("/dev/shm")]
        process.send_signal(signal.SIGINT)
    finally:
        status, _, err = finish(process)
    assert status == 130, err
    assert "Traceback" not in err
    assert nothing_left(process.pid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "nothing"], "invalid choice"),
        (["--rounds", "0"], "not a positive number"),
        (["--seconds", "nan"], "not a positive number"),
        (["--against", "/nonexistent"], "--against"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    status, _, err = finish(start(*arguments))
    assert status == 2
    assert message in err
    assert "Traceback" not in err
