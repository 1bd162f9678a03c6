"""What the documentation says is run: snippets of docs/, README and docstrings, and the programs of examples/.

The rules of a page, which is run from top to bottom in one process of its own, in a directory of its own and with an
arena of its own:

- A ```python block runs.  One whose first line is a comment with a file name (`# counter.py`) is saved under that
  name instead, and a later block of the page must run it.
- In a ```console block the lines that begin with `$ ` run, and must succeed; what follows them is what they print.
- A ```text block right below a python block is what that block prints.
- In expected output `...` stands for anything.
- `<!-- skip: reason -->` on the line above a block exempts it.
- `<!-- needs ptrace -->` anywhere in a page: where processes cannot be stepped it is not run.
- A table with measured times or ratios names the command that measures them, in the paragraph above or below it.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE_TIMEOUT = 300
COMMAND_TIMEOUT = 120

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$", re.M | re.S
)
EXEMPT = re.compile(r"<!-- skip: \S.*?-->\s*\Z", re.S)
FILE_NAME = re.compile(r"# ([\w.-]+\.(?:py|sh))\n")


# ---- from a page to steps ------------------------------------------------------------------------------------------
def steps_of(text: str) -> list[dict]:
    """The steps of a page in order: {"do": "python" | "save" | "shell", "line", "source", "expected", "name"}."""
    steps: list[dict] = []
    end_of_python = -1
    for block in FENCE.finditer(text):
        language = block["language"].strip()
        body = textwrap.dedent(block["body"])
        line = text.count("\n", 0, block.start("body")) + 1
        before = text[: block.start()]
        if (
            language == "text"
            and steps
            and steps[-1]["do"] == "python"
            and not text[end_of_python : block.start()].strip()
        ):
            steps[-1]["expected"] = body
        if EXEMPT.search(before):
            continue
        if language == "python":
            name = FILE_NAME.match(body)
            step = {"do": "save" if name else "python", "line": line, "source": body, "expected": None}
            if name:
                step["name"] = name[1]
            steps.append(step)
            end_of_python = block.end() if not name else -1
        elif language == "console":
            steps.extend(_commands(body, line))
    _check_saved_files_run(steps)
    return steps


def _commands(body: str, line: int) -> list[dict]:
    commands: list[dict] = []
    for i, text in enumerate(body.splitlines()):
        if text.startswith("$ "):
            commands.append({"do": "shell", "line": line + i, "source": text[2:], "expected": None})
        elif commands and commands[-1]["source"].endswith("\\") and commands[-1]["expected"] is None:
            commands[-1]["source"] += "\n" + text
        elif commands:
            commands[-1]["expected"] = (commands[-1]["expected"] or "") + text + "\n"
        else:
            raise ValueError(f"line {line + i}: a console block begins with '$ '")
    return commands


def _check_saved_files_run(steps: list[dict]) -> None:
    for i, step in enumerate(steps):
        if step["do"] == "save":
            stem = Path(step["name"]).stem
            if stem != "conftest" and not any(
                re.search(rf"\b{re.escape(stem)}\b", later["source"]) for later in steps[i + 1 :]
            ):
                raise ValueError(f"line {step['line']}: {step['name']} is shown and never run")


def matches(expected: str, printed: str) -> bool:
    """`...` stands for anything, trailing blanks and blank lines at either end for nothing."""

    def lines(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    pieces = (re.escape(piece) for piece in lines(expected).split("..."))
    return re.fullmatch(".*?".join(pieces), lines(printed), re.S) is not None


# ---- the process of a page (this file run as a program) ------------------------------------------------------------
def run_steps(page: str, steps: list[dict]) -> None:
    """Runs the steps in the current directory; the first that fails raises."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # where pickle looks for what a page defines
    namespace = main.__dict__
    for step in steps:
        where = f"{page}:{step['line']}"
        if step["do"] == "save":
            Path(step["name"]).write_text(step["source"])
            compile(step["source"], where, "exec")
            continue
        with tempfile.TemporaryFile("w+", dir=".") as output:
            if step["do"] == "python":
                # blank lines in front, so that a traceback names the line of the page
                code = compile("\n" * (step["line"] - 1) + step["source"], page, "exec")
                sys.stdout.flush()
                keep = os.dup(1)
                os.dup2(output.fileno(), 1)
                try:
                    exec(code, namespace)
                finally:
                    sys.stdout.flush()
                    os.dup2(keep, 1)
                    os.close(keep)
            else:
                done = subprocess.run(
                    ["bash", "-c", step["source"]],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=COMMAND_TIMEOUT,
                )
                if done.returncode != 0:
                    output.seek(0)
                    raise AssertionError(f"{where}: status {done.returncode}: {step['source']}\n{output.read()}")
            output.seek(0)
            printed = output.read()
        if step["expected"] is not None and not matches(step["expected"], printed):
            raise AssertionError(f"{where}: expected\n{step['expected']}\nand this came:\n{printed}")


if __name__ == "__main__":
    _page = json.load(sys.stdin)
    sys.argv = [_page["name"]]
    sys.path[0] = os.getcwd()
    run_steps(_page["name"], _page["steps"])
    sys.exit(0)


# ---- pytest ---------------------------------------------------------------------------------------------------------
import pytest  # noqa: E402  the process of a page does without
from support import cannot_be_stepped  # noqa: E402

import syncx  # noqa: E402


def pages() -> list[Path]:
    found = sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
    return found + [p for p in [ROOT / "README.md"] if p.exists()]


def programs() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.py"))


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def play(tmp_path):
    """Runs a command in a fresh directory with a fresh arena, and unlinks the arena."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, start in {"python": "", "python3": "", "syncx": " -m syncx"}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{start} "$@"\n')
        (tools / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    arena = f"test-docs-{os.getpid()}-{time.monotonic_ns()}"
    env = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},  # it tears lines of two processes apart
        "SYNCX_ARENA": arena,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }

    def run(command: list[str], text: str = "") -> subprocess.CompletedProcess:
        # a session of its own: whatever a snippet leaves running goes with it
        process = subprocess.Popen(
            command,
            cwd=work,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(text, timeout=PAGE_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"{command} took more than {PAGE_TIMEOUT} s:\n{output}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, output)

    yield run
    try:
        with syncx.Arena(arena, create=False) as left:
            left.unlink(force=True)
    except FileNotFoundError:
        pass


def run_page(play, name: str, text: str) -> subprocess.CompletedProcess:
    return play([sys.executable, __file__], json.dumps({"name": name, "steps": steps_of(text)}))


@pytest.mark.timeout(PAGE_TIMEOUT + 10)
@pytest.mark.parametrize("path", pages(), ids=page_id)
def test_page(path, play):
    if "<!-- needs ptrace -->" in path.read_text() and (reason := cannot_be_stepped()):
        pytest.skip(reason)
    done = run_page(play, page_id(path), path.read_text())
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(PAGE_TIMEOUT + 10)
@pytest.mark.parametrize("path", programs(), ids=page_id)
def test_example(path, play):
    done = play([sys.executable, str(path)])
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip(), "an example says what it did"


BROKEN = {
    "an exception": "```python\n1 / 0\n```\n",
    "a syntax error": "```python\nwith\n```\n",
    "another output": "```python\nprint(1)\n```\n\n```text\n2\n```\n",
    "a line missing at the end": "```python\nprint(1)\nprint(2)\n```\n\n```text\n1\n```\n",
    "an earlier block left nothing": "```python\nx = 1\n```\n\n```python\nassert y\n```\n",
    "a command that fails": "```console\n$ false\n```\n",
    "a command with another output": "```console\n$ echo one\ntwo\n```\n",
    "the second command": "```console\n$ echo one\none\n$ echo two\nthree\n```\n",
    "a saved program": "```python\n# broken.py\nraise SystemExit(3)\n```\n```console\n$ python broken.py\n```\n",
    "a block in a list": "- like this:\n\n  ```python\n  assert False\n  ```\n",
}


@pytest.mark.timeout(PAGE_TIMEOUT + 10)
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_page_fails(text, play):
    """The twins: pages with one fault each, which the runner must find."""
    assert run_page(play, "broken.md", text).returncode != 0


def test_a_right_page_passes(play):
    text = (
        "```python\n# right.py\nprint('pid', 7)\n```\n\n```console\n$ python right.py\npid ...\n$ true\n```\n"
        "```python\nimport syncx\nwith syncx.Mutex('jobs') as m:\n    print(m.owner_died)\n```\n\n```text\nFalse\n```\n"
        "<!-- skip: it is wrong on purpose -->\n```python\n1 / 0\n```\n"
    )
    done = run_page(play, "right.md", text)
    assert done.returncode == 0, done.stdout


def test_a_program_that_is_never_run_is_found():
    with pytest.raises(ValueError, match="never run"):
        steps_of("```python\n# alone.py\nprint()\n```\n")


def test_every_block_has_a_language():
    """A block without one would be skipped in silence."""
    for path in pages():
        for block in FENCE.finditer(path.read_text()):
            assert block["language"].strip(), f"{page_id(path)}: a block without a language:\n{block['body'][:80]}"


# ---- docstrings -----------------------------------------------------------------------------------------------------
def modules() -> list:
    names = [m.name for m in pkgutil.iter_modules(syncx.__path__, "syncx.") if not m.name.endswith("__main__")]
    return [syncx] + [importlib.import_module(name) for name in names if not name.startswith("syncx._core")]


def indented_example(docstring: str) -> str | None:
    """The indented block of a docstring that begins with `import syncx`."""
    block = re.search(r"^    import syncx\n(?:(?:    .*)?\n)*", textwrap.dedent(docstring) + "\n", re.M)
    return textwrap.dedent(block[0]) if block else None


def test_docstring_examples(play):
    finder, blocks = doctest.DocTestFinder(), []
    for module in modules():
        for test in finder.find(module, module.__name__):
            if test.examples:
                blocks.append(doctest.script_from_examples(test.docstring))
            elif (example := indented_example(test.docstring or "")) is not None:
                blocks.append(example)
    assert blocks, "the package's docstring shows how it is used"
    for block in blocks:
        done = play([sys.executable, "-c", block])
        assert done.returncode == 0, f"{block}\n{done.stdout}"


# ---- figures --------------------------------------------------------------------------------------------------------
FIGURE = re.compile(r"\d\s*(?:ns|µs|us|ms|s|min|KB|MB)\b|\d\s*[\u00d7x](?:\s|$)|\d\s*%")
SOURCE = re.compile(r"`[^`]*(?:python|syncx|\.[ch]\b|\.py\b|\(\))[^`]*`")


def unsourced_tables(text: str) -> list[str]:
    """Tables with figures whose neighbouring paragraphs name no command and no place in the code."""
    paragraphs = re.split(r"\n\s*\n", FENCE.sub("", text))
    found = []
    for i, paragraph in enumerate(paragraphs):
        if paragraph.lstrip().startswith("|") and FIGURE.search(paragraph):
            around = paragraphs[max(0, i - 1) : i] + paragraphs[i + 1 : i + 2]
            if not any(SOURCE.search(text) for text in around):
                found.append(paragraph)
    return found


@pytest.mark.parametrize("path", pages(), ids=page_id)
def test_figures_name_their_source(path):
    assert not unsourced_tables(path.read_text())


def test_a_table_without_source_is_found():
    table = "| lock | time |\n|---|---|\n| ours | 12 ms |"
    assert unsourced_tables(f"Fast.\n\n{table}\n\nVery.")
    assert not unsourced_tables(f"From `python -m benchmarks`:\n\n{table}\n")


# ---- what the reference says of the shared layout -----------------------------------------------------------------
def test_layout_page_tells_the_real_layout(tmp_path):
    """Every region of `Arena._description()`: its row in docs/reference/layout.md has the same numbers."""
    text = (ROOT / "docs/reference/layout.md").read_text()
    arena = syncx.Arena(tmp_path / "layout.arena")
    try:
        description = arena._description()
    finally:
        arena.unlink()
        arena.close()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", text, re.M)
    told = {name: tuple(int(n.replace(",", "")) for n in numbers) for name, *numbers in rows}
    assert told == {name: region[:3] for name, region in description["regions"].items()}
    for what in (description["total_size"], description["header_size"]):
        assert f"{what:,}" in text
    assert f"ABI version is {description['abi']}" in text


SIZES = {"uint8_t": 1, "unsigned char": 1, "sx_a16": 2, "uint32_t": 4, "sx_a32": 4, "uint64_t": 8, "sx_a64": 8}
SIZES |= {"int64_t": 8, "char": 1}


def fields_of(header: str, struct: str, known: dict[str, tuple[int, int]]) -> tuple[list[tuple[int, str]], int, int]:
    """(offset, name) of each field of a struct of layout.h, its size and alignment, by the C rules for what is there.

    known: size and alignment of the structs that it has inside.
    """
    constants = {name: int(value) for name, value in re.findall(r"#define (SX_\w+) (\d+)u", header)}
    constants["SX_REGIONS"] = 9
    body = re.search(rf"struct {struct} \{{\n(.*?)\n\}};", header, re.S)[1]
    body = re.sub(r"union \{.*?\} (\w+);", r"unsigned char \1[SX_LINE];", body, flags=re.S)
    offset, widest, fields = 0, 1, []
    for line in re.findall(r"([^;]+);", body):
        aligned, kind, names = re.match(r"\s*(_Alignas\(SX_LINE\) )?((?:struct |unsigned )?\w+) (.+)", line).groups()
        plain = {k: (n, n) for k, n in SIZES.items()}
        size, align = (known | plain)[kind.removeprefix("struct ")]
        align = constants["SX_LINE"] if aligned else align
        for name, count in re.findall(r"(\w+)(?:\[(.*?)\])?(?:,|$)", names):
            offset = -(-offset // align) * align
            fields.append((offset, name))
            offset += size * (eval(count, {}, constants) if count else 1)
            widest = max(widest, align)
    return fields, -(-offset // widest) * widest, widest


def test_layout_page_tells_the_real_fields():
    """Every field of layout.h's structs stands in the table of its struct, in order and at its offset."""
    text = (ROOT / "docs/reference/layout.md").read_text() + "\n## end"
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "syncx/_core/layout.h").read_text(), flags=re.S)
    header = re.sub(r"(\w+)\[\];", r"\1[0];", header)
    structs = re.findall(r"^struct sx_(\w+) \{", header, re.M)
    assert {"mutex", "permits", "rwlock", "participant", "header"} < set(structs)
    sizes: dict[str, tuple[int, int]] = {}
    for struct in structs:
        fields, *sizes[f"sx_{struct}"] = fields_of(header, f"sx_{struct}", sizes)
        if struct == "region":
            continue
        section = re.search(rf"^### `struct sx_{struct}`(.*?)(?=^##)", text, re.M | re.S)[1]
        told = [(int(o), name) for o, name in re.findall(r"^\| (\d+) \| `(\w+)`", section, re.M)]
        assert told == [(o, name) for o, name in fields if not name.startswith("pad")], struct
        size = sizes[f"sx_{struct}"][0]
        assert f"{size:,} bytes" in section, (struct, size)
    assert sizes["sx_mutex"][0] == syncx.Mutex.SIZE
