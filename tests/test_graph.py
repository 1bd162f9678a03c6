"""`syncx graph`: the drawing is right, readable whatever its size, and says what the arena says."""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest

from syncx.drawing import draw, svg
from syncx.drawtext import drawn
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


@functools.cache
def drawing_of(name):
    return draw(picture(*PICTURES[name]))


@pytest.fixture(params=PICTURES)
def any_picture(request):
    return picture(*PICTURES[request.param])


@pytest.fixture
def any_drawing(request, any_picture):
    return drawing_of(request.node.callspec.params["any_picture"])


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


def test_nothing_overlaps(any_picture, any_drawing):
    drawing = any_drawing
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


def test_text_is_in_its_box(any_picture, any_drawing):
    drawing = any_drawing
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


def test_lines_go_from_box_to_box_and_through_no_other(any_picture, any_drawing):
    drawing = any_drawing
    through = 0
    for number, edge in enumerate(any_picture.edges):
        route = drawing.routes[number]
        for end, key in ((route[0], edge.source), (route[-1], edge.target)):
            box = drawing.boxes[key]
            assert Box(box.x - 1, box.y - 1, box.w + 2, box.h + 2).contains(end), edge
        others = [box for key, box in drawing.boxes.items() if key not in (edge.source, edge.target)]
        through += hits(route, others, 0.0)
    # where everything is entangled with everything a line may have no way around
    assert through <= (len(any_picture.edges) // 50 if len(any_picture.nodes) == 200 else 0)


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


def test_a_large_picture_is_not_a_desert():
    """At most so many times the room that the boxes take."""
    for name, (nodes, _) in PICTURES.items():
        if len(nodes) >= 60 and "random" not in name:
            drawing = drawing_of(name)
            room = sum(b.w * b.h for b in drawing.boxes.values())
            assert drawing.width * drawing.height < 9 * room, name


def test_what_is_waited_for_stands_to_the_right():
    drawing = draw(picture(*permits(4, 3)))
    right = {key: box.x for key, box in drawing.boxes.items()}
    assert max(right[f"t{i}"] for i in (4, 5, 6)) < right["o0"] < min(right[f"t{i}"] for i in range(4))


def test_deep_chains_do_not_recurse():
    nodes, edges = chain(1500)
    text = drawn(picture(nodes, edges))
    assert text.count("\n") == 3 + 2 * 1500 - 1
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
