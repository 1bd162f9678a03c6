"""What the command line shows: tables, a progress bar, and the words for a process, an age, a duration.

With rich (the extra `cli`) on a terminal there are colours and a drawn bar.  Without it a terminal gets a bar of
plain characters, and a pipe or file gets plain aligned text and no bar.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Progress", "Screen", "command_line", "duration", "paint", "printable"]

_MANY = 300
"""Rows, of a table that rich would take too long over."""
_NARROW = 10
"""No column of a table becomes narrower: numbers and times are never cut."""


def printable(text: str) -> str:
    """The text with everything that could upset a terminal, or an encoding, replaced by a question mark."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def command_line(pid: int, tid: int = 0) -> str:
    """The command of a process as a shell would show it; "" where it cannot be seen.

    tid: a thread it must have, or the pid means another process here than where it was written down.
    """
    try:
        with open(f"/proc/{pid}/task/{tid or pid}/cmdline", "rb") as f:
            arguments = f.read().rstrip(b"\0")
    except OSError:
        return ""
    return printable(" ".join(os.fsdecode(arguments).split("\0")))


def duration(seconds: float) -> str:
    """A time in the unit that suits it, in at most three figures."""
    for unit, length, more in (("us", 1e-6, 1e-3), ("ms", 1e-3, 1.0), ("s", 1.0, 120.0)):
        if seconds < more:
            number = seconds / length
            return f"{number:.0f} {unit}" if number >= 100 or number == 0 else f"{number:.3g} {unit}"
    for unit, length, more in (("min", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if seconds < more:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


class Screen:
    """Where a command writes: lines, tables, and a progress bar below them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._console = _console(stream) if self.interactive else None
        self._bar: Progress | None = None

    def say(self, text: str = "", style: str = "") -> None:
        """One line, above the progress bar if there is one.  style: of rich, such as "bold red"."""
        text = text.encode(self.stream.encoding or "utf-8", "replace").decode(self.stream.encoding or "utf-8")
        if self._console is not None:
            self._console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)
            return
        if self._bar is not None:
            self._bar.erase()
        print(text, file=self.stream, flush=True)
        if self._bar is not None:
            self._bar.draw()

    def say_spans(self, spans: Sequence[tuple[str, str]]) -> None:
        """One line of pieces, each a text and its style."""
        if self._console is None:
            self.say("".join(text for text, _ in spans))
            return
        from rich.text import Text

        self._console.print(Text.assemble(*spans), soft_wrap=True)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), *, cut: bool = False
    ) -> None:
        """Aligned columns.

        right: the numbers of columns that are set flush right.
        cut: on a terminal, the last column is cut where the line ends instead of being wrapped.
        """
        if self._console is not None and len(rows) > _MANY:
            paint(self.stream, headings, rows, [""] * len(rows), right)
            return
        cells = [[printable(c) for c in row] for row in rows]
        if self._console is not None:
            from rich.table import Table
            from rich.text import Text

            table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
            for i, heading in enumerate(headings):
                last = i == len(headings) - 1
                table.add_column(
                    heading,
                    justify="right" if i in right else "left",
                    no_wrap=not last,  # the others keep their widths
                    overflow="fold" if last else "ellipsis",
                )
            for *row, last_cell in cells:
                ending = Text(last_cell, no_wrap=cut, overflow="ellipsis" if cut else "fold")
                table.add_row(*map(Text, row), ending)
            self._console.print(table)
            return
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        for row in [list(headings), *cells]:
            aligned = (
                c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            text = "  ".join(aligned).rstrip()
            width = shutil.get_terminal_size().columns if cut and self.interactive else len(text)
            self.say(text if len(text) <= width else text[: max(width - 3, 0)] + "...")

    def progress(self, label: str, total: int) -> Progress:
        """A progress bar while a `with` lasts; nothing unless this is a terminal."""
        if self._console is not None:
            return _RichProgress(self, label, total, self._console)
        return Progress(self, label, total)


class Progress(AbstractContextManager["Progress"]):
    """A bar of plain characters, on a terminal only."""

    WIDTH = 40

    def __init__(self, screen: Screen, label: str, total: int) -> None:
        self._screen = screen
        self._label = label
        self._total = max(total, 1)
        self._done = 0
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        self._screen._bar = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._screen._bar = None
        self.erase()

    def update(self, done: int, label: str | None = None) -> None:
        """So many of the total are done; draws ten times a second at most.  label: what is said beside it now."""
        self._done = done
        self._label = self._label if label is None else label
        if time.monotonic() - self._drawn >= 0.1:
            self.draw()

    def draw(self) -> None:
        if self._screen.interactive:
            self._drawn = time.monotonic()
            part = min(self._done / self._total, 1.0)
            bar = ("#" * round(part * self.WIDTH)).ljust(self.WIDTH, ".")
            self._screen.stream.write(f"\r\x1b[K{self._label} [{bar}] {part:4.0%}")
            self._screen.stream.flush()

    def erase(self) -> None:
        if self._screen.interactive:
            self._screen.stream.write("\r\x1b[K")
            self._screen.stream.flush()


class _RichProgress(Progress):
    """The same, drawn by rich."""

    def __init__(self, screen: Screen, label: str, total: int, console: Console) -> None:
        super().__init__(screen, label, total)
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Drawn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._drawing = Drawn(*columns, console=console, transient=True)
        self._task = self._drawing.add_task(label, total=self._total)

    def __enter__(self) -> Progress:
        self._drawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._drawing.stop()

    def update(self, done: int, label: str | None = None) -> None:
        if label is None:
            self._drawing.update(self._task, completed=done)
        else:
            self._drawing.update(self._task, completed=done, description=label)


_COLOURS = {"": "", "bold": "\x1b[1m", "red": "\x1b[31m", "yellow": "\x1b[33m"}


def paint(
    stream: TextIO,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str],
    right: Sequence[int] = (),
) -> None:
    """A table of thousands of rows at once: on a terminal coloured and cut to its width, elsewhere plain and whole.

    styles: of each row "", "bold", "red" or "yellow".  right: the numbers of columns that are set flush right.
    """
    interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
    coloured = interactive and not os.environ.get("NO_COLOR")
    cells = [list(headings), *([printable(c) for c in row] for row in rows)]
    width = shutil.get_terminal_size().columns if interactive else None
    widths = _fitted(cells, width)
    lines = []
    for row, style in zip(cells, ["bold", *styles], strict=True):
        aligned = []
        for i, (c, w) in enumerate(zip(row, widths, strict=True)):
            if len(c) > w:
                c = c[: w - 1] + "\u2026"
            aligned.append(c.rjust(w) if i in right else c.ljust(w))
        text = "  ".join(aligned).rstrip()[:width]
        lines.append(f"{_COLOURS[style]}{text}\x1b[0m\n" if coloured and style else f"{text}\n")
    encoding = stream.encoding or "utf-8"
    stream.write("".join(lines).encode(encoding, "replace").decode(encoding))
    stream.flush()


def _fitted(rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """The widths of columns with two blanks between them: the last one gives way first, then the widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = 0 if width is None else sum(widths) + 2 * (len(widths) - 1) - width
    last = max(0, min(over, widths[-1] - _NARROW))
    widths[-1] -= last
    for _ in range(over - last):
        if max(widths) > _NARROW:
            widths[widths.index(max(widths))] -= 1
    return widths


def _console(stream: TextIO) -> Any:
    """rich's console for a terminal, or None where rich is not installed."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream)
