"""A screen that is drawn anew: modes, keys, size and signals of the terminal, and its old state at the end.

Plain escape sequences of ECMA-48, and three that every emulator took over from xterm and the VT220: the alternate
screen, the cursor's visibility, and the keys' names.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import sys
import termios
import unicodedata
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

__all__ = ["Ended", "FullScreen", "colours", "cut", "width_of"]

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
_KEYS = {
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\x1b[A": "up",
    "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "\x1b[1~": "home", "\x1bOH": "home",
}  # fmt: skip
_PIECE = 256
"""Bytes: a terminal that says it can take some takes so many without making us wait."""
_REST_OF_KEY = 0.05
"""Seconds in which the rest of a key's sequence has come; what has none is the key Escape."""
_FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SIGNALS = (*_FATAL, signal.SIGINT, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Ended(BaseException):
    """A signal that ends the process has come; leaving the screen sends it on."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


# ---- text ------------------------------------------------------------------------------------------------------------


def colours() -> Mapping[str, str]:
    """The sequences of the styles "bold", "red", "yellow" and "inverse"; without colours if NO_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return {"": "", "bold": "\x1b[1m", "red": "\x1b[1m", "yellow": "", "inverse": "\x1b[7m"}
    return {"": "", "bold": "\x1b[1m", "red": "\x1b[1;31m", "yellow": "\x1b[33m", "inverse": "\x1b[7m"}


def _cell(c: str) -> int:
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def cut(text: str, width: int) -> str:
    """As much of it as the columns hold, with an ellipsis where something is missing."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    left, kept = width - 1, []
    for c in text:
        left -= _cell(c)
        if left < 0:
            break
        kept.append(c)
    return "".join(kept) + "\u2026"


# ---- the terminal ----------------------------------------------------------------------------------------------------


def _nothing(signum: int, frame: FrameType | None) -> None:
    """The byte in the pipe says it all."""


class FullScreen:
    """The terminal of standard output, and the keys of standard input if that is one too; a context manager.

    To be used by the main thread.  Signals are only noted when they come, and acted upon in `show` and `keys`, so that
    none can fall between two steps of what is done to the terminal: Ctrl-C raises KeyboardInterrupt there, what ends
    the process raises Ended, Ctrl-Z suspends and redraws.  A terminal that takes nothing (Ctrl-S, a connection that
    hangs) makes nobody wait for ever: signals are heard meanwhile.  SIGKILL and SIGSTOP alone leave it as it is; after
    a SIGCONT it is set up anew.
    """

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self._keys: int | None = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._handlers: dict[int, object] = {}
        self._modes: list[object] | None = None
        self._inside = False

    def __enter__(self) -> FullScreen:
        self._wake, self._woken = os.pipe()
        for fd in (self._wake, self._woken):
            os.set_blocking(fd, False)
        self._before = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, _nothing)
        try:
            if self._keys is not None:
                self._modes = termios.tcgetattr(self._keys)
            self._set_up()
        except BaseException:
            self._undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo()
        if isinstance(value, Ended):
            signal.signal(value.signum, signal.SIG_DFL)
            os.kill(os.getpid(), value.signum)

    def _undo(self) -> None:
        try:
            self._restore()
        finally:
            signal.set_wakeup_fd(self._before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
            os.close(self._wake)
            os.close(self._woken)

    def _set_up(self) -> None:
        if self._keys is not None and self._modes is not None:
            modes = [*self._modes]
            assert isinstance(modes[3], int)
            modes[3] &= ~(termios.ICANON | termios.ECHO)  # keys at once; Ctrl-C and Ctrl-Z stay signals
            termios.tcsetattr(self._keys, termios.TCSANOW, modes)  # type: ignore[arg-type]  # with one number changed
        self._inside = True
        self._write(_ENTER)

    def _restore(self) -> None:
        """As it was before; a terminal that is gone, or takes nothing for a second, does not keep us."""
        if not self._inside:
            return
        self._inside = False
        try:
            if self._keys is not None and self._modes is not None:
                how = termios.TCSADRAIN if self._ready(1.0) else termios.TCSANOW
                termios.tcsetattr(self._keys, how, self._modes)  # type: ignore[arg-type]  # as tcgetattr gave them
            if self._ready(1.0):
                os.write(self._out, _LEAVE.encode())
        except (OSError, termios.error):
            return

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([], [self._out], [], seconds)[1])

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            columns = lines = 0
        return columns or 80, lines or 24

    def show(self, lines: Sequence[tuple[str, str]], shades: Mapping[str, str]) -> None:
        """Draws lines, each a text that fits and a style, from the upper left corner on; the rest is blank."""
        drawn = (f"{shades[style]}{text}\x1b[0m" if shades[style] else text for text, style in lines)
        self._write("\x1b[H" + "\x1b[K\r\n".join(drawn) + "\x1b[K\x1b[J")

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "replace")
        try:
            while data:
                woken, ready, _ = select.select([self._wake], [self._out], [])
                if woken:
                    self._heed()
                if ready:
                    data = data[os.write(self._out, data[:_PIECE]) :]
        except OSError:  # the terminal is gone
            raise Ended(signal.SIGHUP) from None

    # ---- what comes in

    def keys(self, timeout: float | None) -> list[str]:
        """What was pressed: characters, "enter", "escape", "backspace", "up", "down", "page up", "page down", "home".

        Waits for it, for a signal (a new size is one), or so many seconds; None: for ever.
        """
        sources = [self._wake] if self._keys is None else [self._wake, self._keys]
        ready = select.select(sources, [], [], timeout)[0]
        if self._wake in ready:
            self._heed()
        return self._read() if self._keys in ready else []

    def _read(self) -> list[str]:
        text = self._some()
        while text.endswith(("\x1b", "\x1b[", "\x1bO")) or (text[-3:-1] == "\x1b[" and text[-1].isdigit()):
            if not select.select([self._keys], [], [], _REST_OF_KEY)[0]:
                break
            text += self._some()
        found = []
        while text:
            known = max((k for k in _KEYS if text.startswith(k)), key=len, default=text[0])
            found.append(_KEYS.get(known, known))
            text = text[len(known) :]
        return found

    def _some(self) -> str:
        assert self._keys is not None
        try:
            data = os.read(self._keys, 1024)
        except OSError:
            data = b""
        if not data:  # nobody will ever press anything again
            raise Ended(signal.SIGHUP)
        return self._decoder.decode(data)

    def _heed(self) -> None:
        """Does what the signals that have come are for."""
        try:
            numbers = set(os.read(self._wake, 4096))
        except BlockingIOError:
            return
        for number in _FATAL:
            if number in numbers:
                raise Ended(number)
        if signal.SIGINT in numbers:
            raise KeyboardInterrupt
        if signal.SIGTSTP in numbers:
            self._suspend()
        elif signal.SIGCONT in numbers and self._inside:
            self._set_up()

    def _suspend(self) -> None:
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # and here we are again when somebody says so
        signal.signal(signal.SIGTSTP, _nothing)
        self._set_up()
