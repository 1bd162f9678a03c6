"""Promela models of the core's protocols, and what they are tied to: the C functions that they say the same as.

A model is a file `NAME.pml` beside this one.  A comment `/*@ step FILE:FUNCTION text */` behind a line says which text
of which C function that line stands for.  `reviewed.json` has a hash of each function, as it was when somebody last
compared the two.  `python -m tests.models` verifies the models, see there and README.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "syncx" / "_core"
REVIEWED = HERE / "reviewed.json"
PAGE = HERE.parents[1] / "docs" / "explanation" / "models.md"


@dataclass(frozen=True)
class Variant:
    """One verification of a model: how many threads, who dies, whether there is a belt."""

    name: str
    says: str
    defines: tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """A model with one law taken out, by the macro `M_...`; in that variant SPIN must find that property violated.

    violates: where what is found first may be one of several, they stand with " or " between them.
    """

    macro: str
    law: str
    variant: str
    violates: str

    @property
    def name(self) -> str:
        """As it is printed."""
        return self.macro[2:].lower().replace("_", " ")


@dataclass(frozen=True)
class Model:
    """A model, its true variants and its mutants."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    mutants: tuple[Mutant, ...]
    # C functions that it rests on beside those that its steps name, as FILE:FUNCTION
    also: tuple[str, ...] = ()
    # statements that no variant reaches, each with the reason: what is to be false for ever
    never: tuple[tuple[str, str], ...] = ()

    @property
    def file(self) -> Path:
        """Its source."""
        return HERE / f"{self.name}.pml"


@dataclass(frozen=True)
class Step:
    """A line of a model and the text of the C function that it stands for."""

    line: int
    name: str
    function: str
    text: str


_STEP = re.compile(r"/\*@ (\w+) ([\w.]+:\w+) (.*?) \*/")


def steps(model: Model) -> list[Step]:
    """All that the model says it takes from the core."""
    found = []
    for number, line in enumerate(model.file.read_text().splitlines(), 1):
        found += [Step(number, *match.groups()) for match in _STEP.finditer(line)]
        if "/*@" in _STEP.sub("", line):
            raise ValueError(
                f"{model.file.name}:{number}: expected /*@ step FILE:FUNCTION text */, got {line.strip()!r}"
            )
    return found


def functions(model: Model) -> list[str]:
    """The C functions that it is a model of, as FILE:FUNCTION."""
    return sorted({step.function for step in steps(model)} | set(model.also))


def without_comments(text: str) -> str:
    """C source without comments and with every run of white space one blank: what has to be reviewed if it changes."""
    text = re.sub(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', lambda m: m.group(1) or " ", text, flags=re.DOTALL)
    return " ".join(text.split())


@lru_cache(maxsize=64)
def _definitions(source: str) -> dict[str, str]:
    """The functions that a C source file defines, without comments, by name."""
    lines = source.splitlines()
    found = {}
    for at, line in enumerate(lines):
        if (match := re.match(r"(?:[A-Za-z_][\w *]*[ *])?(\w+)\(", line)) is None:
            continue
        head = at
        while head < len(lines) and not lines[head].rstrip().endswith((";", "{", "}")):
            head += 1
        if head == len(lines) or lines[head] != "{":
            continue  # a declaration, or a call
        end = next(i for i in range(head, len(lines)) if lines[i].startswith("}"))
        start = at - 1 if at and re.fullmatch(r"[a-z]\w*( \w+)* ?\*?", lines[at - 1]) else at
        found[match.group(1)] = without_comments("\n".join(lines[start : end + 1]))
    return found


def c_function(function: str, core: Path = CORE) -> str:
    """The definition of a C function, named FILE:FUNCTION, without comments.

    Raises LookupError where the file has none of that name.
    """
    file, name = function.split(":")
    try:
        return _definitions((core / file).read_text())[name]
    except (KeyError, FileNotFoundError):
        raise LookupError(f"{file} defines no function {name}") from None


def fingerprint(text: str) -> str:
    """What is kept of a function that was compared with its model."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reviewed() -> dict[str, dict[str, str]]:
    """By model and function: the fingerprint at the last review."""
    kept: dict[str, dict[str, str]] = json.loads(REVIEWED.read_text())
    return kept


def present(model: Model, core: Path = CORE) -> dict[str, str]:
    """By function: the fingerprint now; "" for one that is gone."""
    now = {}
    for function in functions(model):
        try:
            now[function] = fingerprint(c_function(function, core))
        except LookupError:
            now[function] = ""
    return now


def changed(model: Model, core: Path = CORE) -> list[str]:
    """The functions that are not what they were when the model was compared with them."""
    then, now = reviewed().get(model.name, {}), present(model, core)
    return sorted(f for f in {*then, *now} if then.get(f) != now.get(f))


def misquoted(model: Model, core: Path = CORE) -> list[Step]:
    """The steps whose text their function has not."""
    wrong = []
    for step in steps(model):
        try:
            text = c_function(step.function, core)
        except LookupError:
            text = ""
        if " ".join(step.text.split()) not in text:
            wrong.append(step)
    return wrong


def review(model: Model) -> None:
    """Somebody has compared the model with the C functions: these are the fingerprints from now on."""
    kept = reviewed() if REVIEWED.exists() else {}
    kept[model.name] = present(model)
    REVIEWED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def steps_table(model: Model) -> str:
    """The table of a model's steps for the page."""
    rows = ["| step | C function | line |", "|---|---|---|"]
    for step in steps(model):
        file, name = step.function.split(":")
        text = step.text.replace("|", "\\|")
        rows.append(f"| {step.name} | `{name}`, {file} | `{text}` |")
    return "\n".join(rows)


def page(text: str, models: tuple[Model, ...]) -> str:
    """The page with every table between its markers brought up to date."""
    for model in models:
        begin, end = f"<!-- steps of {model.name} -->\n", f"<!-- end of {model.name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"{PAGE.name} has no place for the steps of {model.name}: write {begin.strip()} and {end}")
        before, rest = text.split(begin)
        text = before + begin + "\n" + steps_table(model) + "\n\n" + end + rest.split(end, 1)[1]
    return text
