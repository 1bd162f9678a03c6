"""What all shared objects have in common: names, the three placements, pickling, the frame of a repr."""

from __future__ import annotations

from . import _core
from .arena import default_arena, name_to_bytes
from .errors import KIND_NAMES, Gone, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Literal, Protocol, TypeAlias, TypeVar

    from .arena import Arena

    Create: TypeAlias = bool | Literal["exclusive"]
    OnDeadlock: TypeAlias = Literal["raise", "report", "off"]
    S = TypeVar("S", bound="Shared")

    class Lockable(Protocol):
        """What `with lock.within(seconds):` needs of a lock."""

        def acquire(self, *, timeout: float | None) -> bool: ...
        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
        ) -> None: ...

    L = TypeVar("L", bound=Lockable)
    _Typed = _core.Handle
else:
    _Typed = object

__all__ = ["UNSET", "Locking", "Shared", "checked_number", "told_of_deadlock"]

_CREATE: dict[object, int] = {True: _core.CREATE, False: _core.OPEN, "exclusive": _core.EXCLUSIVE}


def _create_code(create: object) -> int:
    try:
        return _CREATE[create]
    except (KeyError, TypeError):
        raise ValueError(f'create must be True, False or "exclusive", not {create!r}') from None


class _Unset:
    """The default of a value, parties or count: what an existing object has, or 1."""

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Any = _Unset()


def checked_number(value: int, what: str, least: int, most: int) -> int | None:
    """A value, parties or count that an object is made with: an int in that range, or None for UNSET."""
    if value is UNSET:
        return None
    if isinstance(value, str):
        raise TypeError(f"{what} must be an int, not a str; a name is given as name={value!r}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be from {least} to {most}, not {value}")
    return value


def told_of_deadlock(handle: Any) -> str:
    """What a repr says of its options for deadlocks: nothing, if it has none of its own."""
    deadlock, priority = handle._on_deadlock
    its = "" if deadlock in (None, _core.deadlock_default()) else f", deadlock={deadlock!r}"
    return f"{its}, priority={priority}" if priority else its


class Shared(_Typed):
    """Mixed into every class of shared objects, all of which are handles: the name, the placement, the pickling.

    A subclass names the kind of its cells in `_kind`, and keeps what its handles have of their own (a timeout, a
    policy) in what `_options` returns and `_set_options` takes.
    """

    __slots__ = ()

    ALIGNMENT = _core.ALIGNMENT
    """In the user's memory, an object's address must be a multiple of this many bytes."""

    _kind = 0
    _inside: tuple[int, ...] = ()
    """Kinds of cells that have one inside."""

    name: str | None
    """None for an anonymous object and for one in the user's memory."""

    def _options(self) -> tuple[Any, ...]:
        return ()

    def _set_options(self, *options: Any) -> None:
        """Takes what `_options` returned."""

    def _open_named(self, name: str | None, arena: Arena | None, create: Create, parameter: int | None = None) -> bool:
        """Opens or makes the object of that name, or makes a nameless one; was it made?"""
        self.name = name
        if name is None:
            if create is not True:
                raise ValueError(f"create={create!r} needs a name: an anonymous object is always a new one")
            return self._open(default_arena() if arena is None else arena, None, _core.CREATE, self._kind, parameter)
        code, text = _create_code(create), name_to_bytes(name).decode()
        try:
            return self._open(default_arena() if arena is None else arena, text, code, self._kind, parameter)
        except (FileNotFoundError, FileExistsError) as e:
            e.filename = name
            raise
        except ValueError as e:
            e.args = (f"{type(self).__name__} {name!r}: {e}",)
            raise

    def _open_in(
        self, buffer: Any, offset: int, arena: Arena | None, create: Create, parameter: int | None = None
    ) -> bool:
        """Opens or makes the object in the caller's memory; was it made?"""
        self.name = None
        if isinstance(offset, bool) or not isinstance(offset, int):
            raise TypeError(f"offset must be an int, not {type(offset).__name__}")
        code = _create_code(create)
        return self._open_at(default_arena() if arena is None else arena, buffer, offset, code, self._kind, parameter)

    def _title(self) -> str:
        """The class, and the name if it has one: how a repr begins."""
        kind = f"{type(self).__module__.partition('.')[0]}.{type(self).__qualname__}"
        return kind if getattr(self, "name", None) is None else f"{kind} {self.name!r}"

    def _state(self) -> str:
        """What a repr says of an open object."""
        return ""

    def __repr__(self) -> str:
        if self.arena is None:
            return f"<{self._title()} never opened>"
        return (
            f"<{self._title()} closed>" if self.closed else f"<{self._title()} {self._state()}{told_of_deadlock(self)}>"
        )

    def __reduce__(self) -> tuple[object, ...]:
        unit, generation, kind = self._pin()
        return _from_reference, (type(self), self.arena, unit, generation, kind, self.name, self._options())


def _from_reference(
    cls: type[S], arena: Arena, unit: int, generation: int, kind: int, name: str | None, options: tuple[Any, ...]
) -> S:
    """Unpickles a reference to an object; Gone if it is no more."""
    if kind != cls._kind and kind not in cls._inside:
        raise Gone(f"the reference is to a {KIND_NAMES.get(kind, kind)}, not to a {cls.__name__}")
    self = cls.__new__(cls)
    self._set_options(*options)
    self.name = name
    self._open_reference(arena, unit, generation, kind)
    return self


class _Within:
    """`with lock.within(seconds):`"""

    __slots__ = ("_lock", "_options", "_timeout")

    def __init__(self, lock: Any, timeout: float | None, deadlock: Any = None, priority: Any = None) -> None:
        self._lock = lock
        self._timeout = timeout
        options = {"deadlock": deadlock, "priority": priority}
        self._options = {name: value for name, value in options.items() if value is not None}

    def __enter__(self) -> Any:
        if not self._lock.acquire(timeout=self._timeout, **self._options):
            raise Timeout(f"{self._lock!r} was not to be had within {self._timeout:g} s")
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, traceback)


class Locking:
    """What everything that `with` acquires has beside `acquire` and `release`."""

    __slots__ = ()

    def within(
        self: L, timeout: float | None, *, deadlock: OnDeadlock | None = None, priority: int | None = None
    ) -> AbstractContextManager[L]:
        """A context manager that waits `timeout` seconds at most: `with lock.within(2.0):`.

        timeout: seconds; None, for ever, only together with one of the others.
        deadlock, priority: of this `with`, as the object's own; None: the object's.

        It yields the lock and raises `Timeout`, without running the body, when the time is over.
        """
        if isinstance(timeout, str) or (timeout is None and deadlock is None and priority is None):
            raise TypeError(f"within() takes a number of seconds, not {timeout!r}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"within() takes a number of seconds that is not negative, not {timeout!r}")
        return _Within(self, timeout, deadlock, priority)
