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

_FIELD = re.compile(r"([a-z_]+): (.*)")


def parameters_as_fields(app, what, name, obj, options, lines):
    """Our docstrings list arguments as `name: text`, continued by indented lines.  For Sphinx that is `:param name:`.

    A paragraph counts as such a list when its first line has that form and every line has it or is indented, as a
    whole docstring would in `help()`.
    """
    out, paragraph = [], []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
            continue
        listed = bool(paragraph) and all(_FIELD.match(text) or text.startswith(" ") for text in paragraph)
        if listed and _FIELD.match(paragraph[0]):
            for text in paragraph:
                field = _FIELD.match(text)
                out.append(f":param {field[1]}: {field[2]}" if field else text)
        else:
            out.extend(paragraph)
        out.append("")
        paragraph = []
    lines[:] = out


def setup(app):
    app.connect("autodoc-process-docstring", parameters_as_fields)
