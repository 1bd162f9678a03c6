"""`syncx graph`: the drawing is right, readable whatever its size, and says what the arena says."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree

import pytest
from support import PATIENCE, on_a_terminal, until, until_waiting

import syncx
from syncx import cli
from syncx.drawing import draw, svg
from syncx.drawtext import drawn
from syncx.graph import _place, _short
from syncx.layers import spread
from syncx.picture import Edge, Node, Picture, columns, cut, dot
from syncx.placing import place
from syncx.shapes import Box, crosses, hits

SVG = "{http://www.w3.org/2000/svg}"


# ---- pictures of many shapes and sizes -------------------------------------------------------------------------------


def thread(number, state="waiting", title=None):
    lines = ("python transfer.py --all", "transfer.py:17 in pay", "for 3.2 s, gives up in 2.6 s")
    return Node(f"t{number}", "thread", title or f"{4711 + number} worker {number}", lines, state, "python transfer.py")


def thing(number, state="plain", title=None):
    return Node(f"o{number}", "object", title or f"account {number}", ("Mutex",), state, "Mutex")


def picture(nodes, edges):
    return Picture("a title", tuple(nodes), tuple(edges), ("a sentence",))


def ring(size, state="deadlocked", first=0):
    numbers = range(first, first + size)
    nodes = [node for i in numbers for node in (thread(i, state), thing(i, state))]
    edges = []
    for i in numbers:
        edges.append(Edge(f"t{i}", f"o{i}", "wants", state))
        edges.append(Edge(f"o{i}", f"t{first + (i - first + 1) % size}", "held by", state))
    return nodes, edges


def chain(size, first=0):
    nodes = [thread(first + i, "waiting" if i else "running") for i in range(size)]
    nodes += [thing(first + i) for i in range(size - 1)]
    edges = []
    for i in range(size - 1):
        edges.append(Edge(f"t{first + i + 1}", f"o{first + i}", "wants", "timed"))
        edges.append(Edge(f"o{first + i}", f"t{first + i}", "held by"))
    return nodes, edges


def queue(size, first=0, on=None):
    """So many that wait for one thing."""
    nodes, edges = (
        ([], []) if on else ([thread(first, "running"), thing(first)], [Edge(f"o{first}", f"t{first}", "held by")])
    )
    for i in range(first + 1, first + size + 1):
        nodes.append(thread(i))
        edges.append(Edge(f"t{i}", on or f"o{first}", "wants", "timed" if i % 3 == 0 else "plain"))
    return nodes, edges


def permits(holders, waiters, first=0):
    states = itertools.cycle(["running", "foreign", "dead"])
    nodes = [thing(first)]
    edges = []
    for i in range(holders):
        nodes.append(thread(first + i, next(states)))
        edges.append(Edge(f"o{first}", nodes[-1].key, "held by", "plain", "2 permits"))
    for i in range(holders, holders + waiters):
        nodes.append(thread(first + i))
        edges.append(Edge(nodes[-1].key, f"o{first}", "wants"))
    return nodes, edges


def hanging(size, more, first=0, seed=1):
    """A ring, and chains that wait for it."""
    nodes, edges = ring(size, first=first)
    chance = random.Random(seed)
    for i in range(first + size, first + size + more):
        nodes += [thread(i), thing(i), thread(i + 1000)]
        edges.append(Edge(f"t{i}", f"o{first + chance.randrange(size)}", "wants"))
        edges.append(Edge(f"o{i}", f"t{i}", "held by"))
        edges.append(Edge(f"t{i + 1000}", f"o{i}", "wants", "timed"))
    return nodes, edges


def anything(size, seed):
    """Threads and objects at random."""
    chance = random.Random(seed)
    states = ["waiting", "running", "suspected", "dead", "foreign"]
    count = size // 2
    nodes = [thread(i, chance.choice(states)) for i in range(count)] + [thing(i) for i in range(size - count)]
    edges = []
    for i in range(size - count):
        for holder in chance.sample(range(count), chance.choice([1, 1, 1, 2])):
            edges.append(Edge(f"o{i}", f"t{holder}", "held by", "plain", chance.choice(["", "2 permits"])))
    for i in range(count):
        if chance.random() < 0.8:
            edges.append(
                Edge(f"t{i}", f"o{chance.randrange(size - count)}", "wants", chance.choice(["plain", "timed"]))
            )
    return nodes, edges


def both(*parts):
    return [n for part in parts for n in part[0]], [e for part in parts for e in part[1]]


PICTURES = {
    "itself": ring(1),
    "two": ring(2),
    "3 nodes": chain(2),
    "8 nodes": ring(4),
    "16 nodes": ring(8),
    "60 nodes in a ring": ring(30),
    "60 nodes in a chain": chain(30),
    "60 nodes in a queue": queue(58),
    "60 nodes around a ring": hanging(6, 16),
    "60 nodes at random": anything(60, 2),
    "200 nodes in a ring": ring(100),
    "200 nodes in a queue": queue(198),
    "200 nodes around a ring": hanging(10, 60),
    "200 nodes at random": anything(200, 3),
    "200 nodes in many parts": both(*(ring(2 + i % 3, first=10 * i) for i in range(34))),
    "permits": permits(4, 3),
    "a queue at a ring": both(ring(3), queue(20, first=50, on="o1")),
    "nobody": ([], []),
    "all sorts": both(
        hanging(3, 2), ring(2, "suspected", 100), chain(4, 200), queue(12, 300), permits(3, 3, 400), ([thread(500)], [])
    ),
    **{f"8 nodes at random, {seed}": anything(8, seed) for seed in range(6)},
}  # fmt: skip


ENTANGLED = [picture(*PICTURES[name]) for name in ("60 nodes at random", "200 nodes at random")]


@pytest.fixture(params=PICTURES)
def any_picture(request):
    return picture(*PICTURES[request.param])


def overlapping(boxes):
    """Pairs of boxes that have a point in common."""
    by_left = sorted(boxes, key=lambda b: b[1].x)
    found = []
    for i, (name, box) in enumerate(by_left):
        for other, its in by_left[i + 1 :]:
            if its.x >= box.x + box.w:
                break
            if its.near(box, 0.0):
                found.append((name, other))
    return found


def all_boxes(drawing):
    """Everything that must be free: nodes, labels, captions, the legend."""
    found = [(key, box) for key, box in drawing.boxes.items()]
    found += [(f"label {n}", t.box) for n, t in drawing.labels.items()]
    found += [(f"caption {t.text}", t.box) for t in drawing.captions]
    found += [(f"legend {t.text}", t.box) for _, _, _, t in drawing.legend]
    return found + [(f"sample {shape} {state}", box) for shape, state, box, _ in drawing.legend]


@pytest.mark.core
def test_a_drawing(any_picture):
    """Of every shape and size; pure geometry, so it is the same under every Python."""
    drawing = draw(any_picture)
    nothing_overlaps(any_picture, drawing)
    text_is_in_its_box(any_picture, drawing)
    lines_go_from_box_to_box_and_through_no_other(any_picture, drawing)
    if len(any_picture.nodes) >= 60 and any_picture not in ENTANGLED:  # it is no desert
        room = sum(b.w * b.h for b in drawing.boxes.values())
        assert drawing.width * drawing.height < 9 * room


def nothing_overlaps(any_picture, drawing):
    assert len(drawing.boxes) == len(any_picture.nodes)
    assert overlapping(all_boxes(drawing)) == []
    for name, box in all_boxes(drawing):
        assert box.x >= 0, name
        assert box.y >= 0, name
        assert box.x + box.w <= drawing.width, name
        assert box.y + box.h <= drawing.height, name


def test_overlapping_boxes_are_found():
    a, b, c = Box(0, 0, 10, 10), Box(9, 9, 10, 10), Box(30, 0, 5, 5)
    assert overlapping([("a", a), ("b", b), ("c", c)]) == [("a", "b")]
    assert overlapping([("a", a), ("b", b._replace(x=10)), ("c", c)]) == []


def text_is_in_its_box(any_picture, drawing):
    for node in any_picture.nodes:
        box = drawing.boxes[node.key]
        texts = drawing.texts[node.key]
        assert [t.text for t in texts] == [node.title, *node.lines]
        for t in texts:
            assert box.x <= t.box.x
            assert t.box.x + t.box.w <= box.x + box.w
            assert box.y <= t.box.y
            assert t.box.y + t.box.h <= box.y + box.h
        assert overlapping([(t.text, t.box) for t in texts]) == []


def lines_go_from_box_to_box_and_through_no_other(any_picture, drawing):
    through = 0
    for number, edge in enumerate(any_picture.edges):
        route = drawing.routes[number]
        for end, key in ((route[0], edge.source), (route[-1], edge.target)):
            box = drawing.boxes[key]
            assert Box(box.x - 1, box.y - 1, box.w + 2, box.h + 2).contains(end), edge
        others = [box for key, box in drawing.boxes.items() if key not in (edge.source, edge.target)]
        through += hits(route, others, 0.0)
    # where everything is entangled with everything a line may have no way around
    assert through <= (len(any_picture.edges) // 50 if any_picture in ENTANGLED else 0)


def test_a_line_through_a_box_is_found():
    assert hits([(0, 5), (100, 5)], [Box(40, 0, 10, 10)], 0.0) == 1
    assert hits([(0, 5), (30, 5), (30, 50), (100, 50)], [Box(40, 0, 10, 10)], 0.0) == 0
    assert crosses([(0, 12), (100, 12)], Box(40, 0, 10, 10), 3.0)


@pytest.mark.parametrize("name", ["all sorts", "60 nodes at random"])
def test_the_same_picture_gives_the_same_drawing(name):
    assert svg(picture(*PICTURES[name])) == svg(picture(*PICTURES[name]))


def test_a_ring_is_a_circle():
    drawing = draw(picture(*ring(6)))
    centres = [box.centre for box in drawing.boxes.values()]
    middle = [sum(c) / len(centres) for c in zip(*centres, strict=True)]
    radii = [((x - middle[0]) ** 2 + (y - middle[1]) ** 2) ** 0.5 for x, y in centres]
    assert max(radii) - min(radii) < 1
    assert [t.text for t in drawing.captions if t.style == "caption"] == ["deadlock"]


def test_what_is_waited_for_stands_to_the_right():
    drawing = draw(picture(*permits(4, 3)))
    right = {key: box.x for key, box in drawing.boxes.items()}
    assert max(right[f"t{i}"] for i in (4, 5, 6)) < right["o0"] < min(right[f"t{i}"] for i in range(4))


def test_deep_chains_do_not_recurse():
    nodes, edges = chain(550)
    text = drawn(picture(nodes, edges))
    assert text.count("\n") == 3 + 2 * 550 - 1
    nodes, edges = chain(150)
    boxes = place({n.key: (50.0, 20.0) for n in nodes}, [(e.source, e.target) for e in edges]).boxes
    assert overlapping(list(boxes.items())) == []


def test_positions_are_spread_as_little_as_can_be():
    assert spread([0, 10, 20], [5, 5]) == [0, 10, 20]
    assert spread([7, 7, 7], [4, 4]) == [3, 7, 11]
    assert spread([0, 100, 90], [10, 10]) == [0, 90, 100]
    assert spread([], []) == []


# ---- colour, shape and words -----------------------------------------------------------------------------------------


def rules(document):
    """The style sheet: selector to declarations, of light and of dark."""
    style = ElementTree.fromstring(document).find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark) {")
    return tuple({s.strip(): b for s, b in re.findall(r"([^{}]+)\{([^{}]*)\}", part)} for part in (light, dark))


def test_shape_tells_what_colour_tells():
    document = svg(picture(*PICTURES["all sorts"]))
    light, dark = rules(document)
    frames = re.findall(r'<g class="(\w+)"><title>.*?</title>\n(.*?)</g>', document, re.S)
    assert {state for state, _ in frames} == {
        "deadlocked",
        "suspected",
        "waiting",
        "running",
        "foreign",
        "dead",
        "plain",
    }
    for state, frame in frames:
        assert ('class="bar"' in frame) == (state == "deadlocked" and "bar-text" in frame)
        assert ('class="second"' in frame) == (state == "foreign")
    without_colour = {
        state: (light.get(f".{state} .frame", ""), light.get(f".{state} .title", "")) for state, _ in frames
    }
    styles = re.findall(
        r"\.(\w+) \.(?:frame|title)\{((?:stroke-width|stroke-dasharray|text-decoration)[^}]*)\}", document
    )
    assert {state for state, _ in styles} == {"deadlocked", "suspected", "dead"}
    assert len(without_colour) == 7
    assert ".line.timed{stroke-dasharray" in document
    assert ".line.suspected{stroke-width:2.5;stroke-dasharray:2 4}" in document
    assert set(dark) <= set(light), "what dark mode changes is there in light mode"


def luminance(colour):
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["_LIGHT", "_DARK"])
def test_contrast(mode):
    """As WCAG 2.2 wants it: 4.5 for text, 3 for lines."""
    from syncx import drawing

    colours = getattr(drawing, mode)
    states = ["deadlocked", "suspected", "waiting", "running", "foreign", "dead", "plain"]
    for state in states:
        assert contrast(colours["ink"], colours[f"{state}-fill"]) >= 7, state
        assert contrast(colours[state], colours["paper"]) >= 3, state
    assert contrast(colours["ink"], colours["paper"]) >= 7
    assert contrast(colours["soft"], colours["paper"]) >= 4.5
    assert contrast(colours["on-title"], colours["deadlocked"]) >= 4.5
    assert contrast("#777777", "#888888") < 3


def test_legend_tells_what_is_there():
    words = {t.text for _, _, _, t in draw(picture(*ring(2))).legend}
    assert words == {"deadlocked, waits for ever", "what is waited for", "waits for ever"}
    assert "gives up at its time limit" in {t.text for _, _, _, t in draw(picture(*chain(3))).legend}


HOSTILE = [
    '"]; evil [label="',
    "<script>alert(1)</script>",
    "a\nb\r\tc",
    "back\\slash\\",
    "end\\",
    "&amp; &lt; ]]> <!--",
    "\x1b[31mred\x07",
    "\u202eright to left",
    "\udcff lone",
    "日本語の名前",
    "\x00\x01\ufffe",
    "e\u0301" * 3,
    "{a|b} \\N \\G \\l",
    "'" * 3 + '"' * 3,
]


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def hostile(request):
    name = request.param
    nodes = [
        Node("t1", "thread", cut(name, 30), (cut(name, 30),), "deadlocked", name, (name, name), {"command": name}),
        Node("o2", "object", cut(name, 30), (cut(name, 30),), "deadlocked", name, (name,), {"name": name}),
    ]
    edges = [Edge("t1", "o2", "wants", "deadlocked", cut(name, 30), name), Edge("o2", "t1", "held by", "deadlocked")]
    return Picture(name, tuple(nodes), tuple(edges), (name,))


def test_hostile_names_in_svg(hostile):
    document = svg(hostile)
    document.encode()
    tree = ElementTree.fromstring(document)
    allowed = {"svg", "title", "desc", "style", "rect", "path", "g", "text"}
    assert {e.tag.removeprefix(SVG) for e in tree.iter()} <= allowed
    shown = "".join(c if c.isprintable() else "?" for c in hostile.title)
    assert tree.find(f"{SVG}title").text == shown
    assert shown in {e.text for e in tree.iter(f"{SVG}text")}


def dot_tokens(text):
    """What a dot file is made of, by the grammar of the language; fails where it is not valid."""
    found, at = [], 0
    token = re.compile(
        r'\s+|(?P<string>"(?:[^"\\]|\\.)*")|(?P<id>[A-Za-z_]\w*|-?\d+(?:\.\d+)?)|(?P<sign>->|[{}\[\];,=])'
    )
    while at < len(text):
        match = token.match(text, at)
        assert match, f"not the language of dot: {text[at : at + 40]!r}"
        at = match.end()
        if match.lastgroup:
            found.append((match.lastgroup, match[0]))
    return found


def statements(text):
    tokens = dot_tokens(text)
    assert [t for _, t in tokens[:3]] == ["digraph", "syncx", "{"]
    assert tokens[-1] == ("sign", "}")
    found = [[]]
    for kind, value in tokens[3:-1]:
        if (kind, value) == ("sign", ";"):
            found.append([])
        else:
            found[-1].append(value)
    assert found.pop() == []
    return found


def test_hostile_names_in_dot(hostile):
    found = statements(dot(hostile))
    assert [s[:3] for s in found if "->" in s] == [['"t1"', "->", '"o2"'], ['"o2"', "->", '"t1"']]
    (node,) = (s for s in found if s[0] == '"o2"' and "->" not in s)
    label = node[node.index("label") + 2]
    pieces = re.findall(r"\\.|[^\\]", label[1:-1])
    first = pieces[: pieces.index("\\n")]  # the title ends where the next line begins
    plain = "".join(piece[-1] for piece in first)
    assert plain == hostile.nodes[1].title
    assert dot(hostile).isprintable() is False  # newlines between the statements
    assert all(line.isprintable() for line in dot(hostile).split("\n"))


def test_a_broken_dot_file_is_found():
    assert statements('digraph syncx {\n  "a" -> "b" [label="x"];\n}\n') == [
        ['"a"', "->", '"b"', "[", "label", "=", '"x"', "]"]
    ]
    with pytest.raises(AssertionError):
        statements('digraph syncx {\n  "a" [label="x"y"];\n}\n')


def test_hostile_names_in_text(hostile):
    for line in drawn(hostile, width=40).split("\n"):
        assert line.isprintable()
        assert columns(line) <= 40


def test_hostile_names_in_json(hostile):
    again = json.loads(json.dumps(hostile.to_dict()))
    assert again["nodes"][1]["name"] == hostile.nodes[1].data["name"]


def test_cut():
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("/a/b/c/d.py", 6, end=True) == "…/d.py"
    assert columns(cut("日本語の名前", 7)) <= 7
    assert cut("a\nb", 9) == "a?b"


# ---- in text ---------------------------------------------------------------------------------------------------------


def test_a_ring_in_text():
    nodes, edges = ring(2)
    assert drawn(picture(nodes, edges), plain=True).splitlines()[2:] == [
        "",
        "+-> 4711 worker 0  python transfer.py",
        "|     wants account 0 (Mutex)",
        "|   held by",
        "|   4712 worker 1  python transfer.py",
        "|     wants account 1 (Mutex)",
        "+-- held by 4711 worker 0",
    ]


def test_everybody_is_told_in_text(any_picture):
    text = drawn(any_picture)
    for node in any_picture.nodes:
        assert re.search(rf"\b{re.escape(node.title)}\b", text), node.title
    assert text.isascii() is (not any_picture.edges)
    assert drawn(any_picture, plain=True).isascii()
    assert "\x1b" not in text
    assert max(map(len, drawn(any_picture, width=80).splitlines())) <= 80


def test_a_tree_in_text():
    nodes, edges = permits(2, 2)
    assert drawn(picture(nodes, edges), plain=True).splitlines()[2:] == [
        "",
        "4711 worker 0 (does not wait)  python transfer.py",
        "`- holds account 0 (Mutex): 2 permits",
        "   |- 4713 worker 2  python transfer.py",
        "   `- 4714 worker 3  python transfer.py",
        "",
        "4712 worker 1 (does not use syncx)  python transfer.py",
        "`- holds account 0 (Mutex): 2 permits, see above",
    ]


# ---- of an arena -----------------------------------------------------------------------------------------------------


def graph(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "syncx", "graph", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, **options,
    )  # fmt: skip


SCENE = """
    import subprocess
    from syncx import _core
    _core._set_deadlock(False)  # it is to stand
    mutexes = [syncx.Mutex(f"m{i}", arena=arena) for i in range(3)]
    permits = syncx.BoundedSemaphore(4, name="permits", arena=arena)
    table = syncx.RWLock("table", arena=arena)
    together, holds = threading.Barrier(3), threading.Event()

    def ring(i):
        with mutexes[i]:
            together.wait()
            mutexes[(i + 1) % 3].acquire()

    def hold():
        with permits, table.read():
            permits.acquire(n=2)
            holds.set()
            threading.Event().wait()

    def thread(target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True, name=target.__name__.replace("_", " ")).start()

    def take_many():
        permits.acquire(n=3, timeout=1000)

    def write_it():
        table.write().acquire()

    def see_it():
        syncx.Event("<&>", arena=arena).wait()

    def join_it():
        syncx.join(other, arena=arena)

    def get_file():
        syncx.FileLock(path, arena=arena).acquire()

    for i in range(3):
        thread(ring, i)
    thread(hold)
    holds.wait()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for what in (take_many, write_it, see_it, get_file, join_it):
        thread(what)
    say(other.pid); hear()
    """
FOREIGN = """
    import fcntl, os, sys
    file = open(sys.argv[1], "w")
    fcntl.lockf(file, fcntl.LOCK_EX)
    os.write(1, b"0\\n"); os.read(0, 1)
    """


@pytest.fixture
def scene(arena, child, tmp_path):
    """Threads that wait in every way, and what a program without syncx holds."""
    path = str(tmp_path / "data file")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(FOREIGN))
    foreign = subprocess.Popen([sys.executable, str(program), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert foreign.stdout.readline() == b"0\n"
    here = child(SCENE, path=path)
    other = here.hear()
    until_waiting(arena, 8)
    yield here, foreign, other
    foreign.communicate(timeout=PATIENCE)


def told(arena):
    """The graph as JSON, once everybody was seen waiting: at the belt a thread is awake for a moment."""
    seen = {}

    def complete():
        done = graph("--json", arena.path)
        assert (done.returncode, done.stderr) == (0, "")
        seen.update(json.loads(done.stdout))
        states = sorted(n["state"] for n in seen["nodes"] if n["type"] == "thread")
        return states == ["deadlocked"] * 3 + ["foreign"] * 2 + ["running"] + ["waiting"] * 5

    until(complete, "all is told")
    return seen


def test_the_scene(arena, scene, tmp_path):
    here, foreign, other = scene
    seen = told(arena)
    nodes = {n["id"]: n for n in seen["nodes"]}
    threads = [n for n in nodes.values() if n["type"] == "thread"]
    by_name = {n.get("name"): n for n in threads if n.get("name") != "ring"}
    assert {n["pid"] for n in threads if n["state"] != "foreign"} == {here.pid}
    assert sorted(n["pid"] for n in threads if n["state"] == "foreign") == sorted([foreign.pid, other])
    edges = {(e["from"], e["to"]): e for e in seen["edges"]}

    def wants(name):
        ((_, what),) = (pair for pair in edges if pair[0] == by_name[name]["id"])
        return nodes[what], edges[by_name[name]["id"], what]

    def holders(what):
        return {(nodes[b].get("name"), e["label"]) for (a, b), e in edges.items() if a == what["id"]}

    what, edge = wants("take many")
    assert (what["name"], what["kind"], edge["state"], edge["label"]) == (
        "permits",
        "BoundedSemaphore",
        "timed",
        "3 at once",
    )
    assert 900 < by_name["take many"]["remaining"] < 1000
    assert re.search(r"gives up in \d+ min", edge["details"])
    assert holders(what) == {("hold", "3 permits")}
    what, edge = wants("write it")
    assert (what["name"], edge["state"], holders(what)) == ("table", "plain", {("hold", "reads")})
    what, edge = wants("see it")
    assert (what["name"], what["about"], holders(what)) == ("<&>", "Event, not set", set())
    assert re.search(r"in \S+:\d+ in see_it$", edge["details"])
    what, edge = wants("get file")
    assert (what["label"], what["kind"], holders(what)) == ("data file", "file range", {(None, "")})
    what, edge = wants("join it")
    assert (what["label"], what["about"], holders(what)) == (f"process {other}", "its end", {(None, "")})
    ring = [n for n in threads if n.get("name") == "ring"]
    assert {n["state"] for n in ring} == {"deadlocked"}
    around = {pair for pair, e in edges.items() if e["state"] == "deadlocked"}
    assert len(around) == 6
    assert {nodes[b]["name"] for a, b in around if nodes[b]["type"] == "object"} == {"m0", "m1", "m2"}
    assert re.fullmatch(r"1 deadlock, 8 threads wait in .+", seen["title"])
    assert seen["summary"] == ["deadlock of 3 threads"]


def test_the_scene_in_other_forms(arena, scene, tmp_path):
    _, foreign, _ = scene
    words = ["m0 (Mutex)", "wants 3 at once", "table (RWLock): reads", f"{foreign.pid} (does not use syncx)"]

    def complete(*begin, **options):
        """Whoever waits looks around every 100 ms, and waits for nothing in that moment."""
        done = graph(arena.path, **options)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        return all(word in done.stdout for word in [*begin, *words]) and done.stdout

    until(lambda: complete("\n┏━▶ "), "all is told")
    ascii = {"env": {**os.environ, "PYTHONIOENCODING": "ascii"}}
    until(lambda: complete("\n+-> ", **ascii), "all is told")
    assert graph(arena.path, **ascii).stdout.isascii()

    until(lambda: "\x1b[31m┏━▶ " in on_a_terminal("graph", arena.path), "the ring is red")
    text = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal("graph", arena.path))
    assert max(len(line.rstrip("\r")) for line in text.split("\n")) <= 80

    for name, begin in (("x.svg", "<svg "), ("x.DOT", "digraph "), ("x.json", "{")):
        done = graph(arena.path, "-o", str(tmp_path / name))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / name).read_text().startswith(begin)
    ElementTree.parse(tmp_path / "x.svg")
    statements((tmp_path / "x.DOT").read_text())


def test_nobody_waits(arena, capsys):
    assert cli.main(["graph", arena.path]) == 0
    out, err = capsys.readouterr()
    assert (out.startswith("nobody waits in "), out.count("\n"), err) == (True, 1, "")
    assert cli.main(["graph", "--svg", arena.path]) == 0
    assert "nobody waits" in ElementTree.fromstring(capsys.readouterr().out).find(f"{SVG}title").text
    assert cli.main(["graph", "--dot", arena.path]) == 0
    assert statements(capsys.readouterr().out)
    assert cli.main(["graph", "--json", arena.path]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == []


def test_what_cannot_be(arena, tmp_path, capsys):
    def status(*arguments):
        try:
            return cli.main(["graph", *arguments])
        except SystemExit as e:
            return e.code

    for arguments, expected, message in (
        ([str(tmp_path / "none")], 1, "there is no arena"),
        ([arena.path, "--arena", arena.path], 2, "one arena"),
        ([arena.path, "-o", "x.png"], 2, "'x.png' does not tell"),
        ([arena.path, "--svg", "--dot"], 2, "not allowed with"),
        ([arena.path, "-o", str(tmp_path / "none" / "x.svg")], 1, "none/x.svg: No such file"),
        ([arena.path, "-o", ""], 2, "must not be empty"),
    ):
        assert status(*arguments) == expected
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert "Traceback" not in err
    # the option says more than the name
    assert status(arena.path, "--svg", "-o", str(tmp_path / "x.png")) == 0
    assert (tmp_path / "x.png").read_text().startswith("<svg ")


def test_damage_is_told(arena, tmp_path, capsys):
    for name in ("a", "b", "c"):
        syncx.Mutex(name, arena=arena)
    path = tmp_path / "copy"
    shutil.copyfile(arena.path, path)
    found = syncx.snapshot(path).named("b")
    with open(path, "r+b") as f:
        f.seek(found.id)
        f.write(bytes(4))
    assert cli.main(["graph", str(path)]) == 0
    assert "list of blocks is broken" in capsys.readouterr().err
    with open(path, "r+b") as f:
        f.write(b"Dear Sir")
    assert cli.main(["graph", str(path)]) == 1
    assert "is not a syncx arena" in capsys.readouterr().err


def test_commands_are_short():
    assert _short("/usr/bin/python3 /srv/app/run.py --all /etc/x") == "python3 run.py --all /etc/x"
    assert _short("/usr/bin/python3 -m app") == "python3 -m app"
    assert _short("") == ""
    spawned = "/usr/bin/python -c from multiprocessing.spawn import spawn_main; spawn_main(1) --multiprocessing-fork"
    assert _short(spawned) == "python (multiprocessing)"
    assert _place("/srv/app/run.py:17 in work") == "run.py:17 in work"
    assert _place("…app/run.py:17 in <lambda>") == "run.py:17 in <lambda>"
