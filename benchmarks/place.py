"""Where a run keeps what it shares: an arena and a directory of its own, and nothing of it is left at the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx
from syncx.arena import arena_paths

from .children import undisturbed


class Place:
    """A context manager; `on_end` registers what else has to be undone."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Place:
        self.prefix = f"bench-{os.getpid()}"
        with undisturbed():
            self.directory = Path(tempfile.mkdtemp(prefix="syncx-bench-"))
            self.on_end(shutil.rmtree, self.directory, ignore_errors=True)
            self.on_end(self.unlink_arenas)
            self.arena = syncx.Arena(self.prefix)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def on_end(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        self._stack.callback(function, *arguments, **keywords)

    def name(self) -> str:
        """A new one at each call."""
        return f"{self.prefix}-{next(self._numbers)}"

    def file(self) -> Path:
        """The path of a new file, not made yet."""
        return self.directory / self.name()

    def unlink_arenas(self, name: str | None = None) -> None:
        """The arena of that name, or all of this run, those of killed children too."""
        own = f"syncx-{os.geteuid()}-{name or self.prefix}"
        for path in arena_paths():
            found = os.path.basename(path)
            if found == own or (name is None and found.startswith(own + "-")):
                with contextlib.suppress(FileNotFoundError):
                    syncx.Arena(path, create=False).unlink(force=True)
