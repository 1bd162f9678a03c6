"""Imports and includes run one way only: the layer maps of syncx/__init__.py and core.h, enforced."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import syncx

SOURCE = Path(__file__).resolve().parent.parent / "syncx"
CORE = SOURCE / "_core"

# each module may import those on lower levels only
LEVELS = {
    "errors": 0,
    "findings": 0,
    "shapes": 0,
    "layers": 1,
    "rings": 2,
    "placing": 3,
    "picture": 2,
    "drawtext": 3,
    "drawing": 4,
    "_core": 1,
    "deadlock": 1,
    "objects": 1,
    "terminal": 1,
    "reduction": 1,
    "proctable": 2,
    "words": 2,
    "descriptor": 1,
    "proclocks": 1,
    "arena": 2,
    "leftovers": 2,
    "machine": 2,
    "joins": 3,
    "append": 3,
    "handle": 3,
    "order": 3,
    "snapshots": 3,
    "tracing": 3,
    "health": 4,
    "lockinfo": 4,
    "foreignlocks": 5,
    "requests": 6,
    "verdicts": 7,
    "waitgraph": 8,
    "lockbar": 5,
    "barrier": 4,
    "bounded": 4,
    "event": 4,
    "filelock": 4,
    "latch": 4,
    "mutex": 4,
    "once": 4,
    "rwlock": 4,
    "condition": 5,
    "records": 5,
    "semaphore": 5,
    "update": 5,
    "hidden": 6,
    "__init__": 9,
    "deadlocks": 10,
    "demo_work": 10,
    "graph": 10,
    "demo_dine": 10,
    "demo_deadlock": 11,
    "doctor": 10,
    "ls": 10,
    "ps": 10,
    "screen": 1,
    "stats": 10,
    "top": 11,
    "run": 10,
    "watch": 11,
    "why": 10,
    "demo": 11,
}

LEVELS |= {
    "testing": 12,
    "pytest_plugin": 13,
    "cli": 13,
    "__main__": 14,
}  # the package syncx.testing, which only the command line asks for

CLI_LEVELS = {
    "arguments": 0,
    "claims": 1,
    "command": 1,
    "completion": 2,
    "demo": 2,
    "looking": 2,
    "run": 2,
    "stress": 2,
    "upkeep": 2,
    "waiting": 2,
    "parser": 3,
    "__init__": 4,
}  # inside the package syncx.cli

LOOKS_UP = {
    ("errors", "_core"): "the names of the statuses, asked for when there is one to tell of",
    ("errors", "deadlock"): "what the core calls for the victim of a deadlock",
}


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST):
    """All that runs."""
    yield node
    for inner in ast.iter_child_nodes(node):
        if not type_checking(inner):
            yield from walk(inner)


def imports_of(path: Path, level: int | None = None) -> set[str]:
    """The modules of the package that a file imports, at its top or inside a function; level: with so many dots."""
    found = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level and level not in (None, node.level):
                continue
            if node.level:
                found |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
            elif node.module and node.module.split(".")[0] == "syncx":
                found |= {node.module.split(".")[1]} if "." in node.module else {"__init__"}
        elif isinstance(node, ast.Import):
            for a in node.names:
                parts = a.name.split(".")
                if parts[0] == "syncx":
                    found.add(parts[1] if len(parts) > 1 else "__init__")
    return found


def misplaced(imports: dict[str, set[str]], levels: dict[str, int] = LEVELS) -> list[str]:
    wrong = []
    for module, imported in imports.items():
        for other in imported:
            other = other if other in levels else "__init__"  # a name, taken from the package itself
            if levels[other] >= levels[module] and (module, other) not in LOOKS_UP:
                wrong.append(f"{module} imports {other}")
    return wrong


@pytest.fixture(scope="module")
def python():
    flat = {p.stem: imports_of(p) for p in SOURCE.glob("*.py")}
    # a file of testing/ says `from ..x` for what is beside it: the layers inside are its own affair
    testing = set().union(*(imports_of(p) for p in SOURCE.glob("testing/**/*.py"))) - {"testing"}
    return {**flat, "testing": testing, "cli": set().union(*(imports_of(p, 2) for p in SOURCE.glob("cli/*.py")))}


@pytest.fixture(scope="module")
def command_line():
    return {p.stem: imports_of(p, 1) for p in SOURCE.glob("cli/*.py")}


def test_every_module_has_a_level(python):
    assert set(python) - set(LEVELS) == set()


def test_python_imports_go_down_only(python):
    assert misplaced(python) == []


def test_imports_inside_the_command_line_go_down_only(command_line):
    assert set(command_line) == set(CLI_LEVELS)
    assert misplaced(command_line, CLI_LEVELS) == []
    assert misplaced({**command_line, "command": {"parser"}}, CLI_LEVELS) == ["command imports parser"]


def test_an_import_that_goes_up_is_found(python):
    assert misplaced({**python, "errors": {"arena", "_core"}}) == ["errors imports arena"]
    assert misplaced({**python, "arena": {"_core", "mutex"}}) == ["arena imports mutex"]


def test_the_package_imports_no_third_party_code():
    import sys

    for path in [*SOURCE.glob("*.py"), *SOURCE.glob("cli/*.py")]:
        top = ast.parse(path.read_text()).body  # at the top of a file; rich is asked for inside functions
        for node in top:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names | {"syncx"}, f"{path.name} imports {name}"


def test_contrib_is_never_imported():
    for path in [*SOURCE.rglob("*.py"), *CORE.glob("*.[ch]")]:
        assert "syncx_contrib" not in path.read_text()


# ---- C ---------------------------------------------------------------------------------------------------------------

BINDING = re.compile(r"py_\w+\.[ch]|module\.c")


def includes(text: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', text, re.M)


@pytest.fixture(scope="module")
def c():
    files = {p.name: p.read_text() for p in CORE.glob("*.[ch]")}
    assert len(files) > 10
    return files


def includes_python(files: dict[str, str]) -> set[str]:
    return {n for n, text in files.items() if {"Python.h", "structmember.h", "py_common.h"} & set(includes(text))}


def test_only_the_binding_includes_python(c):
    assert all(BINDING.fullmatch(n) for n in includes_python(c))


def test_the_binding_is_found_by_its_name(c):
    assert {n for n in c if BINDING.fullmatch(n)} == includes_python(c)


def test_python_in_the_core_is_found(c):
    assert "mutex.c" in includes_python({**c, "mutex.c": c["mutex.c"] + "\n#include <Python.h>\n"})


def test_the_core_names_nothing_of_pythons(c):
    for name, text in c.items():
        if not BINDING.fullmatch(name):
            code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
            assert not re.search(r"\bPy[A-Z_]\w*|\b_Py", code), name


def shared_structs(files: dict[str, str]) -> dict[str, set[str]]:
    """Files that define a struct with fields of the shared memory's own types, but are not layout.h."""
    kept = {  # the kernel's, and of one process
        "sx_futex_waitv", "sx_host", "sx_known", "sx_arena", "sx_self", "sx_pause", "sx_waiter", "sx_object",
        "sx_watch", "sx_attempt", "sx_counts", "sx_request", "sx_look", "sx_death",
        "sx_kind_operations", "sx_arrival", "sx_own_marks", "sx_reader",
        "sx_held", "sx_holds", "sx_order_what", "sx_order_step", "sx_order_told", "sx_order_link",
        "sx_spot", "sx_member", "sx_link", "sx_deadlock", "sx_node", "sx_edge", "sx_graph",
        "sx_segment", "sx_hold", "sx_want", "sx_file", "sx_range",
        "sx_file_want", "sx_wish", "sx_source", "sx_list", "sx_window", "sx_collect", "sx_snapshot", "sx_seen_process",
        "sx_seen_participant",
        "sx_seen_wait", "sx_seen_hold", "sx_seen_object", "sx_seen_problem",
    }  # fmt: skip
    found: dict[str, set[str]] = {}
    for name, text in files.items():
        for struct in re.findall(r"^\s*(?:typedef\s+)?(?:struct|union)\s+(sx_\w+)\s*\{", text, re.M):
            if struct not in kept:
                found.setdefault(name, set()).add(struct)
    return found


def test_layout_is_defined_in_one_place(c):
    assert set(shared_structs(c)) == {"layout.h"}
    assert {"sx_header", "sx_cell", "sx_mutex", "sx_participant", "sx_process", "sx_wait", "sx_name"} <= shared_structs(
        c
    )["layout.h"]


def test_a_shared_struct_elsewhere_is_found(c):
    assert "mutex.c" in shared_structs({**c, "mutex.c": "struct sx_other {\n    sx_a64 word;\n};\n"})


def test_futexes_are_never_private(c):
    """A private futex is one process's own: others would never be woken."""
    for name, text in c.items():
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
        assert "PRIVATE" not in code, name


def test_headers_go_down_only(c):
    order = ["layout.h", "futex.h", "core.h", "held.h", "deadlock.h", "files.h", "snapshot.h", "py_common.h"]
    for name in order:
        own = [i for i in includes(c[name]) if i in order]
        assert all(order.index(i) < order.index(name) for i in own), name
    assert set(order) == {n for n in c if n.endswith(".h")}


def test_a_name_survives_all_layers():
    for name in ("mutex", "arena"):
        for path in (SOURCE / f"{name}.py", CORE / f"py_{name}.c", CORE / f"{name}.c"):
            assert path.exists(), path
        assert (Path(__file__).parent / f"test_{name}.py").exists()


def test_the_source_is_what_runs():
    """These tests read the sources: they are worth something only if the package is of the same version."""
    text = (SOURCE / "__init__.py").read_text()
    assert f'__version__ = "{syncx.__version__}"' in text
