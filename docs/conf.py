"""Sphinx: the reference comes from the docstrings, everything else from Markdown.

sphinx-build -W -b html docs docs/_build/html
"""

import re

import syncx

project = "syncx"
author = "the syncx contributors"
copyright = author
release = version = syncx.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"syncx {release}"
html_show_sphinx = False
default_role = "code"
nitpicky = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
suppress_warnings = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"

_FIELD = re.compile(r"([a-z_]+(?:, [a-z_]+)*): (.*)")
_QUOTED = re.compile(r"(`[^`]*`)")


def plain(text):
    """An asterisk in our docstrings is an asterisk."""
    return "".join(part if part.startswith("`") else part.replace("*", r"\*") for part in _QUOTED.split(text))


def fields(paragraph):
    """`one, another: text` and its continuation, as one `:param` for each name."""
    out, names, text = [], [], []
    for line in [*paragraph, "end: "]:
        field = _FIELD.match(line)
        if field is None:
            text.append(plain(line))
            continue
        for name in names:
            out += [f":param {name}: {text[0]}", *text[1:]]
        names, text = field[1].split(", "), [plain(field[2])]
    return out


def as_sphinx_wants_it(app, what, name, obj, options, lines):
    """Our docstrings list arguments as `name: text`, continued by indented lines.  For Sphinx that is `:param name:`.

    A paragraph counts as such a list when its first line has that form and every line has it or is indented, as a
    whole docstring would in `help()`.  One that is indented throughout is code.
    """
    out, paragraph, code = [], [], False
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
            continue
        indented = bool(paragraph) and all(text.startswith("    ") for text in paragraph)
        if indented:
            out.extend(([] if code else ["::", ""]) + paragraph)
        elif paragraph and _FIELD.match(paragraph[0]) and all(_FIELD.match(t) or t.startswith(" ") for t in paragraph):
            out.extend(fields(paragraph))
        else:
            out.extend(plain(text) for text in paragraph)
        out.append("")
        code = indented or (code and not paragraph)
        paragraph = []
    lines[:] = out


def setup(app):
    app.connect("autodoc-process-docstring", as_sphinx_wants_it)
