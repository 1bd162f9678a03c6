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
PATIENCE = 100.0


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


@pytest.fixture(scope="module")
def family() -> tuple[int, dict]:
    """The rest of the family, by few processes."""
    groups = ("family", "pingpong", "notify", "death")
    process = start(
        "--quick", "--rounds", "1", "--crowd", "4", *[f"--group={group}" for group in groups], "--json", "-"
    )
    status, out, err = finish(process)
    assert status == 0, err
    assert err == ""
    return process.pid, json.loads(out)


def test_sections_of_the_family(family: tuple[int, dict]) -> None:
    groups = {group: {s["key"]: s for s in sections} for group, sections in family[1]["groups"].items()}
    alone = len(os.sched_getaffinity(0)) == 1
    played = ["semaphore", "condition", "entered", "event"]
    assert {group: list(sections) for group, sections in groups.items()} == {
        "family": ["kinds", "is_set"] + ([] if alone else ["readers"]),
        "pingpong": [f"{kind}-{cpus}" for kind in played for cpus in (["one"] if alone else ["one", "two"])],
        "notify": ["notify_all"],
        "death": ["death"],
    }


def test_every_row_of_the_family_has_a_value(family: tuple[int, dict]) -> None:
    """A peer that never wakes has none, and says so; syncx has no such row."""
    for sections in family[1]["groups"].values():
        for section in sections:
            kinds = {row["name"]: row["kind"] for row in section["rows"]}
            assert "syncx" in kinds.values()
            if "floors" not in family[1]["about"]["missing"]:
                assert section["baseline"] in kinds
            for row in section["rows"]:
                if row["value"] is None:
                    assert row["kind"] == "peer"
                    assert row["note"].startswith("never")
                else:
                    assert row["value"]["median"] > 0, (section["key"], row)


def test_a_crowd_is_no_larger_than_it_was_told_to_be(family: tuple[int, dict]) -> None:
    (notified,), (died,) = family[1]["groups"]["notify"], family[1]["groups"]["death"]
    assert "with 4 waiting processes" in notified["title"]
    rows = {row["name"] for row in died["rows"] if "BoundedSemaphore" in row["name"] and row["kind"] == "syncx"}
    assert rows == {"syncx.BoundedSemaphore, 1 holder", "syncx.BoundedSemaphore, 2 holders"}


def test_every_limit_finds_its_row(family: tuple[int, dict]) -> None:
    """What this machine and this crowd cannot show is all that was not measured."""
    about, limits = family[1]["about"], family[1]["limits"]
    assert {limit["group"] for limit in limits} == set(family[1]["groups"])
    if "floors" in about["missing"] or "sysv_ipc" in about["missing"] or about["cpus"] == 1:
        pytest.skip("some of the rows need a compiler, sysv_ipc or a second CPU")
    lost = {limit["text"] for limit in limits if limit["median"] is None}
    assert lost == {f"BoundedSemaphore, {n} holders, to a C program" for n in (8, 32, 127)}


def test_the_family_leaves_nothing_behind(family: tuple[int, dict]) -> None:
    assert nothing_left(family[0])


@pytest.fixture(scope="module")
def files() -> tuple[int, dict]:
    process = start("--quick", "--rounds", "1", "--group", "files", "--json", "-")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    return process.pid, json.loads(out)


def test_sections_of_the_files(files: tuple[int, dict]) -> None:
    sections = {s["key"]: s for s in files[1]["groups"]["files"]}
    above = [f"ranges-above-{n}" for n in (10, 100, 1000)]
    alone = ["file-with", "file-release", "file-sigkill", "file-waiting", "file-eight"]
    assert list(sections) == [*alone, *above, "ranges-to-1000", "ranges-back"]
    peers = {"fasteners", "filelock", "portalocker"} - set(files[1]["about"]["missing"])
    for key, section in sections.items():
        rows = {row["name"]: row for row in section["rows"]}
        assert "syncx" in {row["kind"] for row in rows.values()}
        for row in rows.values():  # a peer that looks again may do so later than anybody waits for it
            late = row["kind"] == "peer" and row["value"] is None and row["note"].startswith("never")
            assert late or row["value"]["median"] > 0, (key, row)
        assert rows[section["baseline"]]["ratio"]["median"] == 1.0
        if not key.startswith("ranges"):
            assert {name.partition(".")[0] for name, row in rows.items() if row["kind"] == "peer"} == peers


def test_every_limit_of_the_files_finds_its_row(files: tuple[int, dict]) -> None:
    lost = {limit["text"] for limit in files[1]["limits"] if limit["median"] is None}
    if {"fasteners", "filelock", "portalocker"} <= set(files[1]["about"]["missing"]):
        lost.discard("8 processes, 2 us, to the best that polls")
    assert lost
    assert all("10,000" in text for text in lost), lost


def test_the_files_leave_nothing_behind(files: tuple[int, dict]) -> None:
    assert nothing_left(files[0])


def test_sections_of_the_deadlocks() -> None:
    """The ring that is closed again and again tells each time of all its members, or the run fails."""
    process = start("--quick", "--rounds", "1", "--group", "deadlocks", "--json", "-")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    data = json.loads(out)
    sections = {s["key"]: {row["name"]: row["value"] for row in s["rows"]} for s in data["groups"]["deadlocks"]}
    assert list(sections) == ["told", "told-crowd", "belt", "detector-with", "detector-2", "detector-8"]
    members = [name for name in sections["told"] if name.endswith("members")]
    assert members == ["2 members", "3 members", "4 members", "8 members"]
    assert len(sections["belt"]) == 6
    assert all(value["median"] > 0 for rows in sections.values() for value in rows.values())
    lost = {limit["text"] for limit in data["limits"] if limit["median"] is None}
    known = {"1,000 members, last block to DeadlockError"}  # a quick run has fewer
    if "floors" in data["about"]["missing"]:
        known |= {limit["text"] for limit in data["limits"] if limit["text"].endswith("to a futex wake")}
    assert lost == known
    assert nothing_left(process.pid)


@pytest.mark.core
def test_views_of_a_crowded_arena() -> None:
    process = start("--quick", "--rounds", "1", "--group", "views", "--json", "-")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    data = json.loads(out)
    sections = {s["key"]: s for s in data["groups"]["views"]}
    assert list(sections) == ["views", "views-cpu"]
    for section in sections.values():
        assert [row["name"] for row in section["rows"]] == ["ps", "ls", "top --once", "stats", "stats --prometheus"]
        assert all(row["value"]["median"] > 0 for row in section["rows"])
    assert len(data["limits"]) == 10
    assert all(limit["verdict"] in ("pass", "FAIL") for limit in data["limits"])
    assert nothing_left(process.pid)


@pytest.mark.core
def test_sections_of_the_order() -> None:
    process = start("--quick", "--rounds", "1", "--group", "order", "--json", "-")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    data = json.loads(out)
    assert [s["key"] for s in data["groups"]["order"]] == ["noted-with", "noted-inside"]
    assert all(len(s["rows"]) == 3 for s in data["groups"]["order"])
    assert all(limit["median"] > 0 for limit in data["limits"])
    assert nothing_left(process.pid)


def test_creation_of_each_kind() -> None:
    process = start("--quick", "--group", "creation", "--json", "-")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    data = json.loads(out)
    sections = {
        s["key"]: {row["name"]: row["value"]["median"] for row in s["rows"]} for s in data["groups"]["creation"]
    }
    assert list(sections) == ["time", "memory", "making", "bytes", "permits"]
    assert all(value > 0 for rows in sections.values() for value in rows.values())
    kinds = {name.removeprefix("syncx.").partition("(")[0] for name in sections["making"] if name.startswith("syncx.")}
    assert kinds == {
        *("Mutex", "BinarySemaphore", "BoundedSemaphore", "Semaphore", "Event", "Latch"),
        *("Condition", "Barrier", "Once", "RWLock"),
    }
    sizes = {limit["text"]: limit["verdict"] for limit in data["limits"] if limit["bound"].startswith("<=")}
    assert sizes["10,000 permits of one semaphore, each"] == "pass"  # bytes do not depend on the machine's load
    assert nothing_left(process.pid)


def test_contended_table_is_plain_when_piped() -> None:
    process = start("--quick", "--group", "contended", "--seconds", "0.02")
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    assert "contended: 8 processes" in out
    assert "min/max" in out
    assert "\x1b" not in out
    assert nothing_left(process.pid)


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        (["--group", "wakeup", "--seconds", "60"], 4),  # in a block of a minute; more than the first holder
        (["--group", "files", "--seconds", "60"], 5),
        (["--group", "pingpong", "--rounds", "999999"], 5),
        (["--group", "notify", "--rounds", "999999", "--crowd", "8"], 12),
        (["--group", "death", "--rounds", "999999", "--crowd", "8"], 12),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_interrupted_leaves_nothing(arguments: list[str], processes: int) -> None:
    """Ctrl-C in the middle of it, with holders and waiters about."""
    process = start(*arguments)
    deadline = time.monotonic() + PATIENCE
    try:
        while len([f for f in left_behind(process.pid) if f.startswith("/proc")]) < processes:
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
        (["--crowd", "-1"], "not a positive number"),
        (["--seconds", "nan"], "not a positive number"),
        (["--against", "/nonexistent"], "--against"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    status, _, err = finish(start(*arguments))
    assert status == 2
    assert message in err
    assert "Traceback" not in err
