"""From a file and an offset in it to the function and the line, where addr2line(1) is installed."""

from __future__ import annotations

import functools
import subprocess

__all__ = ["where_is"]


@functools.cache
def _path_of(name: str) -> str | None:
    """The file that is mapped here under that name."""
    from ... import _core  # noqa: F401 - mapped, then

    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip("\n").partition("/")
            if path[1] and path[2].rpartition("/")[2] == name:
                return path[1] + path[2]
    return None


@functools.cache
def where_is(place: str) -> str:
    """Says which function and line a place such as `_core.so+0x4711` is; the place itself where that is not known."""
    name, _, offset = place.rpartition("+")
    path = _path_of(name) if name else None
    if path is None:
        return place or "?"
    try:
        address = _address(path, int(offset, 16))
        told = subprocess.run(
            ["addr2line", "-f", "-e", path, hex(address)], capture_output=True, text=True, timeout=10, check=True
        ).stdout.split("\n")
    except (OSError, subprocess.SubprocessError, ValueError):
        return place
    function, line = told[0], told[1].rpartition("/")[2]
    if function == "??":
        return place
    return f"{function} ({line}, {place})" if not line.startswith("??") else f"{function} ({place})"


def _address(path: str, offset: int) -> int:
    """The address that the linker gave to a byte of an ELF file (elf(5)): what addr2line wants."""
    with open(path, "rb") as f:
        header = f.read(64)
        if header[:5] != b"\x7fELF\x02":
            raise ValueError("not a 64-bit ELF file")
        where = int.from_bytes(header[32:40], "little")
        size, count = (int.from_bytes(header[i : i + 2], "little") for i in (54, 56))
        f.seek(where)
        for _ in range(count):
            entry = f.read(size)
            kind = int.from_bytes(entry[0:4], "little")
            begins, address, _, length = (int.from_bytes(entry[i : i + 8], "little") for i in (8, 16, 24, 32))
            if kind == 1 and begins <= offset < begins + length:  # PT_LOAD
                return address + offset - begins
    raise ValueError("no segment has that byte")
