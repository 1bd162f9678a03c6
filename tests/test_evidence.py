"""The page of evidence: its tables are what the commands wrote, and a table that is not is found."""

from __future__ import annotations

import json
import shutil
import subprocess

import evidence
import pytest

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


def collected(tmp_path, monkeypatch, name: str, found: dict) -> tuple[int, str, dict]:
    """Exit status, page and data of a page that has one block."""
    (tmp_path / f"{name}.json").write_text(json.dumps(found))
    monkeypatch.setattr(evidence, "DATA", tmp_path / "evidence.data")
    monkeypatch.setattr(evidence, "PAGE", tmp_path / "evidence.md")
    (tmp_path / "evidence.md").write_text(f"<!-- figures: {name} -->\n<!-- end -->\n")
    monkeypatch.setattr("sys.argv", ["evidence", "--collect", str(tmp_path)])
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
