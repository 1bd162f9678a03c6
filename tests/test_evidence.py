"""The page of evidence: its tables are what the commands wrote, and a table that is not is found."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import signal
import subprocess
from types import SimpleNamespace

import evidence
import pytest
import storm_twins

from syncx.testing.stress import Outcome
from tests.fuzz import __main__ as fuzz
from tests.noise import __main__ as noise
from tests.noise import twins as noise_twins
from tests.refleaks import twins as refleaks_twins

pytestmark = pytest.mark.core


def data() -> dict:
    return json.loads(evidence.DATA.read_text()) if evidence.DATA.exists() else {}


def test_the_tables_are_what_was_written():
    assert evidence.page_with(evidence.PAGE.read_text(), data()) == evidence.PAGE.read_text()


def test_every_part_has_its_table():
    assert [m["part"] for m in evidence.BLOCK.finditer(evidence.PAGE.read_text())] == [p.name for p in evidence.PARTS]


def test_another_figure_is_found():
    text = evidence.PAGE.read_text()
    part = {"machine": "a machine", "command": "python -m x", "seconds": 1.0, "figures": {"points": 7}, "failures": 0}
    assert evidence.page_with(text, {**data(), "crash": part}) != text
    assert "| points | 7 |" in evidence.page_with(text, {"crash": part})


def test_a_failure_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "models.json").write_text('{"command": "x", "seconds": 1, "figures": {}, "failures": 3}')
    monkeypatch.setattr(evidence, "DATA", tmp_path / "evidence.json")
    monkeypatch.setattr(evidence, "PAGE", tmp_path / "evidence.md")
    (tmp_path / "evidence.md").write_text("<!-- figures: models -->\n<!-- end -->\n")
    monkeypatch.setattr("sys.argv", ["evidence", "--collect", str(tmp_path)])
    assert evidence.main() == 1
    assert "failed: models" in capsys.readouterr().out
    assert "| failures | 3 |" in (tmp_path / "evidence.md").read_text()


PEER = {
    "command": "python -m syncx.testing.crash --from x",
    "seconds": 2.0,
    "figures": {"points": 122, "scenarios": 1, "hangs": 53},
    "failures": 54,
    "failed": {},
    "primitives": {
        "peer: their_module Lock": {
            "scenarios": 1,
            "points": 122,
            "hangs": 53,
            "lost_permits": 1,
            "late": 0,
            "other": 0,
        }
    },
}


def collected(tmp_path, monkeypatch, name: str, found: dict, *options: str) -> tuple[int, str, dict]:
    """Exit status, page and data of a page that has one block."""
    (tmp_path / f"{name}.json").write_text(json.dumps(found))
    monkeypatch.setattr(evidence, "DATA", tmp_path / "evidence.data")
    monkeypatch.setattr(evidence, "PAGE", tmp_path / "evidence.md")
    (tmp_path / "evidence.md").write_text(f"<!-- figures: {name} -->\n<!-- end -->\n")
    monkeypatch.setattr("sys.argv", ["evidence", "--collect", str(tmp_path), *options])
    status = evidence.main()
    return status, (tmp_path / "evidence.md").read_text(), json.loads((tmp_path / "evidence.data").read_text())


def test_what_others_do_is_a_figure_and_no_failure(tmp_path, monkeypatch):
    status, page, kept = collected(tmp_path, monkeypatch, "crash-peers", PEER)
    assert status == 0
    assert "| their_module Lock, hangs of points | 53 of 122 |" in page
    assert "| their_module Lock, lost or doubled permits | 1 |" in page
    assert "late" not in page
    assert evidence.page_with(page, kept) == page


@pytest.mark.parametrize("more", [{"failed": {"peer: x": "it said nothing"}}, {"interrupted": True}])
def test_a_comparison_that_failed_itself_is_told(tmp_path, monkeypatch, more):
    assert collected(tmp_path, monkeypatch, "crash-peers", {**PEER, **more})[0] == 1


def test_an_interrupted_run_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    found = {"command": "x", "seconds": 1, "figures": {"points": 3}, "failures": 0}
    assert collected(tmp_path, monkeypatch, "crash", found)[0] == 0
    status, page, kept = collected(tmp_path, monkeypatch, "crash", {**found, "interrupted": True})
    assert status == 1
    assert "| interrupted, not all was run | yes |" in page
    assert evidence.page_with(page, kept) == page


def test_where_a_table_was_made_is_told_if_it_is_known():
    part = {"machine": "a machine", "command": "x", "seconds": 1.0, "figures": {}, "failures": 0}
    text = "<!-- figures: crash -->\n<!-- end -->\n"
    assert "a machine" not in evidence.page_with(text, {"crash": part})
    page = evidence.page_with(text, {"crash": {**part, "python": "3.12.1", "revision": "abc123-dirty"}})
    assert "| failures | 0 |\n\na machine, Python 3.12.1, revision abc123-dirty.\n\n<!-- end -->" in page


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"machine": "Linux 6.1.0-9-amd64, Python 3.11.7"}, "Linux 6.1.0, Python 3.11.7, revision abc123."),
        (
            {"machine": "x86_64", "kernel": "6.1.0-9", "cpus": 4, "python": "3.13.0"},
            "Linux 6.1.0, x86_64, 4 CPUs, Python 3.13.0, revision abc123.",
        ),
        ({"python": "3.13.0"}, f"{evidence.machine()}, Python 3.13.0, revision abc123."),
        ({}, f"{evidence.machine()}, revision abc123."),
    ],
)
def test_whatever_form_a_command_has_for_its_machine(tmp_path, monkeypatch, told, shown):
    found = {"command": "x", "seconds": 1, "figures": {}, "failures": 0, **told}
    _, page, _ = collected(tmp_path, monkeypatch, "crash", found, "--revision", "abc123")
    assert f"\n\n{shown}\n\n" in page


def test_a_run_tells_where_and_of_what_it_was_made(tmp_path, monkeypatch):
    told = {"seconds": 1, "figures": {}, "failures": 0, "machine": "x86_64", "kernel": "6.1.0-9", "cpus": 99}
    program = f"import sys; open(sys.argv[2], 'w').write({json.dumps(told)!r}); sys.exit(3)"
    monkeypatch.setattr(evidence, "revision", lambda: "abc123")
    part = evidence.Part("stress", shlex.join(["python", "-c", program]), "")
    found = evidence.run(part, False, tmp_path)
    assert found is not None
    where = {"machine": evidence.machine(), "python": platform.python_version(), "revision": "abc123"}
    assert where.items() <= found.items()
    assert found["status"] == 3
    assert evidence.failed(found, part)


def test_a_run_knows_its_own_revision(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evidence", "--revision", "abc123"])
    with pytest.raises(SystemExit, match="2"):
        evidence.main()
    assert "a run knows its own" in capsys.readouterr().err


def git(directory, *words: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@x")
    done = subprocess.run(["git", *names, *words], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_revision_is_that_of_the_files_that_were_run(tmp_path, monkeypatch):
    for name, file in (("ROOT", tmp_path), ("PAGE", tmp_path / "page.md"), ("DATA", tmp_path / "page.json")):
        monkeypatch.setattr(evidence, name, file)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert evidence.revision() is None
    git(tmp_path, "init", "-q")
    for name in ("page.md", "page.json", "run.py"):
        (tmp_path / name).write_text("x\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert evidence.revision() == commit
    (tmp_path / "page.md").write_text("its figures\n")
    assert evidence.revision() == commit
    (tmp_path / "run.py").write_text("y\n")
    assert evidence.revision() == commit + "-dirty"


def noise_run(found: list[dict]):
    """What stands for a run of the noise."""
    return lambda *_, **__: lambda screen: SimpleNamespace(findings=found, arenas=7, seconds=0.1)


def miss_one_of_noise(patch) -> list[str]:
    patch.setattr(noise_twins, "build", lambda twin, directory: directory)
    patch.setattr(noise_twins, "TWINS", noise_twins.TWINS[:2])
    runs = iter([noise_run([{"call": "acquire", "what": "hangs"}]), noise_run([])])
    patch.setattr(noise_twins, "Run", lambda *a, **o: next(runs)(*a, **o))
    return ["twins"]


def miss_one_of_refleaks(patch) -> list[str]:
    patch.setattr(refleaks_twins, "IN_C", refleaks_twins.IN_C[:2])
    first = refleaks_twins.IN_C[0]
    patch.setattr(refleaks_twins, "seen", lambda leak, scene: (1, leak.meter) if leak is first else (0, "0 leaks"))
    return []


def miss_one_of_storms(patch) -> list[str]:
    said = ["two holders at once"], ["two of them hold it at once"]

    def seen(name: str, seconds: float, seed: int) -> Outcome:
        live, replayed = said if name == "loose" else ([], [])
        return Outcome(seed, 4, 2, 4.0, [name], seconds, live=live, replayed=replayed)

    patch.setattr(storm_twins, "seen", seen)
    return ["--twin", "loose", "--twin", "leak"]


def miss_one_of_fuzzers(patch) -> list[str]:
    patch.setattr(fuzz, "TWINS", {name: fuzz.TWINS[name] for name in ("arena", "names")})
    patch.setattr(fuzz, "compiler", lambda: "clang")
    patch.setattr(fuzz, "build", lambda *_, **__: None)
    patch.setattr(fuzz, "write_core", lambda twin, directory: directory)
    patch.setattr(fuzz.shutil, "copytree", lambda *_: None)
    found = {"arena": ["SUMMARY: x"], "names": []}
    patch.setattr(fuzz, "fuzz", lambda program, target, *_, **__: (fuzz.Run(target, found=found[target]), []))
    return ["--twins"]


@pytest.mark.parametrize(
    ("program", "command", "miss_one"),
    [
        (noise.main, "python -m tests.noise twins", miss_one_of_noise),
        (refleaks_twins.main, "python -m tests.refleaks.twins", miss_one_of_refleaks),
        (storm_twins.main, "python -m tests.storm_twins --twin loose --twin leak", miss_one_of_storms),
        (fuzz.main, "python -m tests.fuzz --twins", miss_one_of_fuzzers),
    ],
)
def test_a_twin_that_is_missed_is_a_failure_of_its_run(tmp_path, monkeypatch, capsys, program, command, miss_one):
    arguments = [*miss_one(monkeypatch), "--json", str(tmp_path / "told.json")]
    monkeypatch.setattr("sys.argv", ["program", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert (program(arguments) if program is noise.main else program()) == 1, capsys.readouterr()
    finally:
        signal.signal(signal.SIGTERM, before)
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["figures"]["twins"], told["figures"]["caught"], told["failures"]) == (2, 1, 1)
    part = evidence.PARTS[0]
    assert f"`{command}`, 0 seconds:" in evidence.table(told, part)
    assert evidence.failed(told, part)
