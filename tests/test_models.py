"""The Promela models say what the C core says: without SPIN, quickly.  `python -m tests.models` verifies them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import models as promela
import pytest
from models.table import MODELS

pytestmark = pytest.mark.core
EACH = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


def _advice(model: promela.Model, changed: list[str]) -> str:
    return (
        f"{', '.join(changed)}: changed since tests/models/{model.name}.pml was compared with it.  Compare the steps "
        f"that name it with the new text, bring the model up to date, run `python -m tests.models {model.name}` (it "
        f"needs SPIN), then `python -m tests.models --reviewed {model.name}` and `--page`, and commit "
        "tests/models/reviewed.json"
    )


@EACH
def test_model_was_reviewed(model: promela.Model) -> None:
    changed = promela.changed(model)
    assert not changed, _advice(model, changed)


@EACH
def test_steps_quote_the_core(model: promela.Model) -> None:
    assert len(promela.steps(model)) >= 20
    wrong = promela.misquoted(model)
    assert not wrong, [f"line {s.line}, step {s.name}: {s.function} has no {s.text!r}" for s in wrong]


@EACH
def test_mutants_are_those_of_the_model(model: promela.Model) -> None:
    used = set(re.findall(r"\bM_[A-Z_]+\b", model.file.read_text()))
    assert used == {m.macro for m in model.mutants}
    assert {m.variant for m in model.mutants} <= {v.name for v in model.variants}
    assert {p for m in model.mutants for p in m.violates.split(" or ")} <= _properties(model)


def _properties(model: promela.Model) -> set[str]:
    """What is asserted of it: in its own file, and in those parts of kernel.pml that it uses."""
    named = re.compile(r"/\*= (.*?) \*/")
    own = model.file.read_text()
    found = set(named.findall(own))
    for part in re.split(r"^(?=inline )", (promela.HERE / "kernel.pml").read_text(), flags=re.MULTILINE)[1:]:
        if re.search(rf"\b{part[len('inline ') : part.index('(')]}\(", own):
            found |= set(named.findall(part))
    return found


def _violated(mutants: Iterable[promela.Mutant]) -> set[str]:
    """What SPIN is required to refute a mutant by; one that may be refuted by something else proves nothing of it."""
    return {m.violates for m in mutants if " or " not in m.violates}


@EACH
def test_every_property_is_violated_by_a_mutant(model: promela.Model) -> None:
    properties = _properties(model)
    assert len(properties) >= 3
    assert _violated(model.mutants) == properties


@EACH
def test_a_property_without_mutants_is_seen(model: promela.Model) -> None:
    for name in _properties(model):
        assert _violated(m for m in model.mutants if m.violates != name) == _properties(model) - {name}


def test_page_has_the_steps() -> None:
    text = promela.PAGE.read_text()
    assert text == promela.page(text, MODELS), "run python -m tests.models --page"


def test_a_change_of_the_core_is_seen(tmp_path: Path) -> None:
    """And a change of comments or white space is none."""
    model = MODELS[0]
    core = tmp_path / "core"
    shutil.copytree(promela.CORE, core, ignore=shutil.ignore_patterns("*.o", "*.so"))
    source = core / "mutex.c"
    text = source.read_text()
    line = "        mine |= MUTEX_WAITERS;\n"
    assert text.count(line) == 1
    source.write_text(
        text.replace(line, "        /* whoever has slept */\n        mine  |=\n            MUTEX_WAITERS; // so\n")
    )
    assert promela.changed(model, core) == promela.changed(model)
    source.write_text(text.replace(line, "        mine |= MUTEX_RESERVED;\n"))
    assert "mutex.c:take" in promela.changed(model, core)
    assert [s.name for s in promela.misquoted(model, core)] == ["slept"]
    source.write_text(text.replace("static bool take(", "static bool took("))
    assert "mutex.c:take" in promela.changed(model, core)


def test_comments_in_strings_stay() -> None:
    assert promela.without_comments('f("/* no */", 1); /* yes\n * yes */ g();  // yes') == 'f("/* no */", 1); g();'
