"""Arenas that were damaged before they are opened, used by every public call: a small part of `python -m tests.noise`.

That faults of every kind are found is shown with planted ones.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Child

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.core


def noise(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Runs the command in a process of its own; its exit status and its figures."""
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.noise", *arguments, "--json", str(out)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert out.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(out.read_text())


def test_damaged_arenas(tmp_path: Path) -> None:
    status, figures = noise(tmp_path, "--arenas", "30", "--seed", "20", "--jobs", "2")
    assert (status, figures["failures"]) == (0, 0), figures["findings"]
    assert figures["figures"]["arenas"] == 30
    for outcome in ("worked", "refused", "exceptions"):
        assert figures["figures"][outcome] > 0, figures["outcomes"]


FAULTS = {
    "crash": ("planted", "ended by SIGSEGV"),
    "hang": ("planted", "hang"),
    "memory": ("planted", "MemoryError()"),
    "outside": ("planted", "ended by SIGSEGV"),
    "exception": ("planted", "KeyError('a bug')"),
    "header": ("all", "the part of the header that is written once was changed"),
}


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """One in each arena.  With so little patience, what takes long on a busy machine may be found beside them."""
    status, figures = noise(
        tmp_path, "--arenas", str(len(FAULTS)), "--planted", "all", "--scene", "free", "--patience", "5"
    )
    assert status == 1
    found = {(f["index"], f["call"], f["what"]) for f in figures["findings"]}
    assert {(i, *fault) for i, fault in enumerate(FAULTS.values())} - found == set()


def test_the_twins_fit_the_core() -> None:
    """That each is caught is for `python -m tests.noise twins`, which has to build them."""
    from noise import twins

    assert twins.TWINS
    assert all(twins.apply(twin, twins.sources()) != twins.sources() for twin in twins.TWINS)


_ALL = """
    import pickle
    from pathlib import Path
    from noise.battery import others
    from noise import battery, damage, inventory, scenes, worker
    import random
    found = []
    battery = battery.Battery(data, lambda call: None, lambda *what: found.append(what))
    Path(data).write_bytes(bytes(4096)); Path(data + ".log").touch(); Path(data + ".new").touch()
    with scenes.Stage(Path(directory), ("free", "busy")) as images:
        for name, image in images.items():
            damage.Canvas(image).save(path)
            with open(path, "r+b") as file:
                worker.bear_witness(file, image.living)
                battery.run(path, image.pid, random.Random(1))
    say([sorted(battery.used | battery.returned), sorted(inventory.calls()), dict(others()), found])
    """


def test_every_public_call_is_made(child: Any, tmp_path: Path) -> None:
    """What is new is missed here until tests/noise/battery.py calls it, or says why not."""
    c: Child = child(_ALL, data=f"{tmp_path}/data", path=f"{tmp_path}/arena", directory=str(tmp_path))
    used, calls, others, found = c.hear(2 * PATIENCE)
    c.finish()
    assert found == []
    used += [call.split(".")[0] for call in used]
    missing = {call for call in calls if call not in used and call.split(".")[0] not in others}
    assert missing == set()
    assert {other for other in others if other in used} == set(), "no reason is needed"


def test_damage_is_the_same_for_the_same_seed() -> None:
    from noise import damage, scenes

    page = random.Random(1).randbytes(4096)
    regions = {name: (4096 * (i + 1), 64, 64, 4096) for i, name in enumerate(damage.REGIONS)}
    extents = [(4096 * i, page) for i in range(10)]
    image = scenes.Image("free", 40960, extents, regions, [0], 1, 0, (1, 2), [("Mutex", 28672)])
    images = dict.fromkeys(scenes.SCENES, image)
    one, again = ([damage.case(5, i, images) for i in range(200)] for _ in range(2))
    assert [(c.damage, c.canvas.pages, c.canvas.size) for c in one] == [
        (c.damage, c.canvas.pages, c.canvas.size) for c in again
    ]
    other = [damage.case(6, i, images) for i in range(200)]
    assert [c.canvas.pages for c in one] != [c.canvas.pages for c in other]
    assert {c.damage for c in one} == set(damage.DAMAGES)
    untouched = {i: bytearray(page) for i in range(10)}
    assert all(c.canvas.pages == untouched for c in one if c.damage == "none")
    changed = [c for c in one if c.canvas.pages != untouched or c.canvas.size != 40960]
    assert len(changed) > 180


def test_what_close_says_of_damaged_words_is_no_excuse_for_whole_ones() -> None:
    from tests.noise.battery import allowed

    said = RuntimeError("<syncx.Mutex 'jobs' locked> is in use by another thread of this process: close it afterwards")
    assert allowed("Mutex.close", said, damaged=True)
    assert not allowed("Mutex.close", said, damaged=False)
    assert not allowed("Mutex.close", RuntimeError("something else"), damaged=True)
