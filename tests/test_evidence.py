"""The page of evidence: its tables are what the commands wrote, and a table that is not is found."""

from __future__ import annotations

import json

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
