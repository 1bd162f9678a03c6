"""What is done to an image before it is opened, all of it decided by a seed.

`Canvas` is the image as a sparse file in memory.  Each kind of damage is a function of a random generator and a canvas,
and says which bytes it had in mind by where it draws them from: the fields of the header that are written once, those
that change, and the part of each region that is in use.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from .scenes import Image

PAGE = 4096
REGIONS = (
    "processes", "participants", "index_a", "index_b", "references", "names", "cells", "hold_times", "order",
)  # fmt: skip
"""In the order of the header."""
MAGIC_AT, ABI_AT, SIZES_AT, REGIONS_AT, CHECKSUM_AT, BOOT_AT, ALIVE_AT = 0, 8, 12, 72, 216, 224, 224
RETIRED_AT, READY_AT, CURSORS_AT, LOCK_AT, HEADER_END = 240, 248, 320, 768, 3008
WORD_AT = LOCK_AT + 64
"""Offsets in the header, see docs/reference/layout.md."""
SLOT, WAITS, MARKS, FILES, TEXTS, TRACES = 4352, 128, 512, 1024, 1504, 2304
"""Of a participant: its size, and where its records begin."""
EXTREMES = (
    0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0xFFFE, 0xFFFF, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 31) - 1, 1 << 31,
    (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 4095, 4096, 4097,
)  # fmt: skip


def fnv64(data: bytes) -> int:
    """The checksum of the header, as arena.c has it."""
    h = 14695981039346656037
    for byte in data:
        h = (h ^ byte) * 1099511628211 & (1 << 64) - 1
    return h


class Canvas:
    """A sparse file in memory."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.size = image.size
        self.pages: dict[int, bytearray] = {}
        for at, data in image.extents:
            for i in range(0, len(data), PAGE):
                self.pages[(at + i) // PAGE] = bytearray(data[i : i + PAGE])

    def read(self, at: int, n: int) -> bytes:
        """The n bytes from there on; holes are zeros."""
        out = bytearray()
        while n > 0:
            page, start = divmod(at, PAGE)
            part = min(n, PAGE - start)
            have = self.pages.get(page)
            out += have[start : start + part] if have is not None else bytes(part)
            at, n = at + part, n - part
        return bytes(out)

    def write(self, at: int, data: bytes) -> None:
        """Puts the bytes there."""
        while data:
            page, start = divmod(at, PAGE)
            part = min(len(data), PAGE - start)
            self.pages.setdefault(page, bytearray(PAGE))[start : start + part] = data[:part]
            at, data = at + part, data[part:]

    def number(self, at: int, width: int) -> int:
        """The number of so many bytes that is there."""
        return int.from_bytes(self.read(at, width), "little")

    def put(self, at: int, width: int, value: int) -> None:
        """Puts a number there, cut to the width."""
        self.write(at, (value & (1 << 8 * width) - 1).to_bytes(width, "little"))

    def used(self, region: str) -> tuple[int, int]:
        """The first and the last byte + 1 of the part of a region that matters."""
        offset, item, items, ready = self.image.regions[region]
        most = {"participants": 4 * SLOT, "order": 3 << 20, "processes": 512, "hold_times": 8192}.get(region, 8192)
        return offset, offset + max(64, min(ready or 4096, most, item * items))

    def areas(self) -> list[tuple[int, int]]:
        """All that matters."""
        return [(ALIVE_AT, 768), (LOCK_AT, 1216), *map(self.used, self.image.regions)]

    def checksum(self) -> None:
        """Makes the part of the header that is written once look whole."""
        self.put(CHECKSUM_AT, 8, fnv64(self.read(0, CHECKSUM_AT)))

    def save(self, path: str) -> None:
        """Writes it as a file that was not there."""
        with open(path, "xb", buffering=0) as f:
            f.truncate(self.size)
            for page, data in self.pages.items():
                at = page * PAGE
                if at < self.size:
                    f.seek(at)
                    f.write(data[: self.size - at])


def _spot(rng: random.Random, c: Canvas, width: int = 1) -> int:
    """A place for so many bytes; rather one that is not zero, since holes are many."""
    at = 0
    for _ in range(8):
        lo, hi = rng.choice(c.areas())
        at = rng.randrange(lo, max(lo + 1, hi - width)) // width * width
        if any(c.read(at, width)):
            break
    return at


def _value(rng: random.Random, c: Canvas, old: int) -> int:
    """An extreme, or a neighbour of what is there, or of a size, or what another field has."""
    how = rng.randrange(5)
    if how == 0:
        return old + rng.choice((-2, -1, 1, 2, 64, -64, 4096, 1 << 16))
    if how == 1:
        return rng.choice((old * 2, old // 2, ~old, -old, old | 1 << 31, old | 1 << 63))
    if how == 2:
        offset, item, items, ready = rng.choice(list(c.image.regions.values()))
        return rng.choice((offset, item, items, ready, offset + ready, item * items)) + rng.choice((-1, 0, 0, 1))
    if how == 3:
        return c.number(_spot(rng, c, 8), 8)
    return rng.choice(EXTREMES)


def flips(rng: random.Random, c: Canvas) -> None:
    """Bits flipped here and there."""
    for _ in range(rng.choice((1, 1, 4, 32, 256))):
        at = _spot(rng, c)
        c.put(at, 1, c.number(at, 1) ^ 1 << rng.randrange(8))


def runs(rng: random.Random, c: Canvas) -> None:
    """Runs of bytes overwritten."""
    for _ in range(rng.choice((1, 2, 5))):
        n = rng.choice((3, 16, 64, 200, 1000, 5000))
        at = _spot(rng, c)
        c.write(at, rng.choice((rng.randbytes(n), b"\xff" * n, bytes(n), b"\x01" * n, c.read(_spot(rng, c), n))))


def fields(rng: random.Random, c: Canvas) -> None:
    """Fields set to extremes, and to neighbours of sizes."""
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        width = rng.choice((2, 4, 4, 8, 8))
        at = _spot(rng, c, width)
        c.put(at, width, _value(rng, c, c.number(at, width)))


def region(rng: random.Random, c: Canvas) -> None:
    """A whole region of random bytes, or of small numbers."""
    lo, hi = c.used(rng.choice(list(c.image.regions)))
    hi = min(hi, lo + rng.choice((512, 8192, 65536)))
    if rng.randrange(2):
        c.write(lo, rng.randbytes(hi - lo))
    else:
        c.write(lo, b"".join(rng.choice(EXTREMES[:12]).to_bytes(4, "little") for _ in range((hi - lo) // 4)))


def alive_header(rng: random.Random, c: Canvas) -> None:
    """What changes in the header, all of it random."""
    keep = c.read(READY_AT, 72)
    c.write(ALIVE_AT, rng.randbytes(LOCK_AT - ALIVE_AT))
    if rng.randrange(4):
        c.write(READY_AT, keep)
        c.put(RETIRED_AT, 4, 0)


def truncated(rng: random.Random, c: Canvas) -> None:
    """Cut short, by a byte or by nearly all."""
    c.size = rng.choice((0, 1, 7, 215, 216, 3007, 3008, 4095, 4096, c.size - 1, c.size - 4096, rng.randrange(c.size)))


def grown(rng: random.Random, c: Canvas) -> None:
    """Longer than it says."""
    more = rng.choice((1, 63, 4096, 1 << 20, 1 << 30))
    c.write(c.size, rng.randbytes(64))
    c.size += more
    if rng.randrange(2):
        fields(rng, c)


def header(rng: random.Random, c: Canvas) -> None:
    """A header whose magic is right and whose sizes or offsets are not; the checksum says that all is well."""
    for _ in range(rng.choice((1, 1, 3))):
        width, at = rng.choice(((4, 12), (8, 16), (4, 56), (4, 60), (4, 64), (4, 68), (0, 0), (0, 0)))
        if width == 0:
            at, width = rng.choice(((REGIONS_AT, 8), (REGIONS_AT + 8, 4), (REGIONS_AT + 12, 4)))
            at += 16 * rng.randrange(9)
        c.put(at, width, _value(rng, c, c.number(at, width)))
    if rng.randrange(8):
        c.checksum()


def version(rng: random.Random, c: Canvas) -> None:
    """Another version, or no arena at all."""
    how = rng.randrange(4)
    if how == 0:
        c.put(MAGIC_AT, 8, rng.choice((0, c.number(0, 8) ^ 1, c.number(0, 8) + (1 << 56))))
    else:
        c.put(ABI_AT, 4, rng.choice((0, 1, 2, 3, 5, 99, (1 << 32) - 1)))
    if rng.randrange(2):
        c.checksum()


def zeroed(rng: random.Random, c: Canvas) -> None:
    """Pages of zeros, as after a crash of a file system."""
    pages = sorted(c.pages)[rng.randrange(2) :] or sorted(c.pages)
    for page in rng.sample(pages, min(len(pages), rng.choice((1, 1, 2, 5)))):
        c.pages[page] = bytearray(PAGE)


def whole(rng: random.Random, c: Canvas) -> None:
    """Every byte that was used is random; now and then the header describes it all the same."""
    keep = c.read(0, 224) if rng.randrange(4) else b""
    for page in c.pages:
        c.pages[page] = bytearray(rng.randbytes(PAGE))
    if keep:
        c.write(0, keep)
        if rng.randrange(3):  # as far as attaching goes
            c.write(RETIRED_AT, bytes(8))
            for i, name in enumerate(REGIONS):
                c.put(READY_AT + 8 * i, 8, c.image.regions[name][3])


def life(rng: random.Random, c: Canvas) -> None:
    """The robust mutexes by which threads live, and who they say they belong to."""
    base = c.image.regions["participants"][0]
    for _ in range(rng.choice((1, 2, 8))):
        at = base + SLOT * rng.randrange(5)
        how = rng.randrange(4)
        if how == 0:
            c.write(at, rng.randbytes(rng.choice((4, 16, 40, 64))))
        elif how == 1:
            c.put(at + rng.choice((0, 4, 8, 12, 16, 24, 32)), 4, _value(rng, c, c.number(at, 4)))
        elif how == 2:  # ours, by its number: no robust mutex that is not in the list of the thread looks like that
            c.put(at, 4, rng.choice((1, 2, 0x40000000, 0x80000000, 0xC0000000, 0x3FFFFFFF, 0xBFFFFFFF, 0x7FFFFFFF)))
        else:
            c.put(at + 64 + 4 * rng.randrange(14), 4, _value(rng, c, c.number(at + 64, 4)))


def records(rng: random.Random, c: Canvas) -> None:
    """What threads wait for, read, hold of files, are called, and were seen doing."""
    base = c.image.regions["participants"][0]
    for _ in range(rng.choice((1, 3, 20))):
        at = base + SLOT * rng.randrange(5)
        start, end = rng.choice(
            ((WAITS, MARKS), (WAITS, MARKS), (WAITS, WAITS + 64), (MARKS, FILES), (FILES, TEXTS), (TEXTS, SLOT))
        )
        if rng.randrange(3) == 0:
            n = min(end - start, rng.choice((16, 64, 384)))
            c.write(at + start, rng.randbytes(n))
        else:
            width = rng.choice((4, 8))
            spot = at + rng.randrange(start, end) // width * width
            c.put(spot, width, _value(rng, c, c.number(spot, width)))
            if start == WAITS:  # that somebody waits at all
                c.put(at + WAITS, 4, rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 255, c.number(at + WAITS, 4))))


def cells(rng: random.Random, c: Canvas) -> None:
    """The words of objects: of each kind, in its header, its words, its permits and parties."""
    base = c.image.regions["cells"][0]
    for _ in range(rng.choice((1, 2, 6))):
        at, size = base, 256
        if c.image.objects:
            _, at = rng.choice(c.image.objects)
            size = max(128, min(64 * c.number(at, 4), 2048))
        for _ in range(rng.choice((1, 1, 3, 10))):
            width = rng.choice((4, 4, 8))
            # the first line describes, the second has the words
            spot = at + (rng.randrange(0, 64) if rng.randrange(3) == 0 else rng.randrange(64, size)) // width * width
            c.put(spot, width, _value(rng, c, c.number(spot, width)))


def kinds(rng: random.Random, c: Canvas) -> None:
    """Objects that say that they are of another kind, or of another size."""
    for _, at in rng.sample(c.image.objects, min(len(c.image.objects), rng.choice((1, 3, 10)))):
        how = rng.randrange(3)
        if how == 0:
            c.put(at + 4, 4, 0x53580000 | 4 << 8 | rng.randrange(16))
        elif how == 1:
            c.put(at, 4, _value(rng, c, c.number(at, 4)))
        else:
            c.put(at + 56, 4, _value(rng, c, c.number(at + 56, 4)))


def holders(rng: random.Random, c: Canvas) -> None:
    """Words that name holders which cannot be, were once, or are somebody else."""
    base = c.image.regions["cells"][0]
    places = [at for _, at in c.image.objects] or [base]
    for _ in range(rng.choice((1, 2, 6))):
        at = rng.choice(places) + 64 + 8 * rng.choice((0, 0, 8, 16, 17, 18, 24, 25))
        slot = rng.choice((0, 1, 2, 3, 4, 5, 6, 200, 4095, 4096, 4097, 0xFFFF))
        generation = rng.choice((0, 1, rng.getrandbits(32), c.number(c.image.regions["participants"][0] + 64, 4)))
        c.put(at, 8, generation << 32 | slot << 8 | rng.choice((0, 1, 2, 4, 8, 0x10, 0x15, 0xFF)))


def names(rng: random.Random, c: Canvas) -> None:
    """The entries of names, the index, the references, and what links them."""
    for _ in range(rng.choice((1, 2, 8))):
        lo, hi = c.used(rng.choice(("names", "names", "index_a", "index_b", "references")))
        at = lo + rng.randrange(0, min(hi - lo, 2048)) // 4 * 4
        how = rng.randrange(4)
        if how == 0:
            c.put(at, 4, rng.randrange(200))
        elif how == 1:
            c.write(at, rng.randbytes(rng.choice((1, 4, 12, 40))))
        else:
            c.put(at, 4, _value(rng, c, c.number(at, 4)))


def links(rng: random.Random, c: Canvas) -> None:
    """Cursors, free lists, fills: numbers that lead somewhere."""
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.choice((CURSORS_AT + 4 * rng.randrange(8), 352 + 4 * rng.randrange(42), 520 + 4 * rng.randrange(42)))
        value = rng.choice((rng.randrange(400), rng.randrange(1 << 20), _value(rng, c, c.number(at, 4))))
        c.put(at, 4, value)


def noted(rng: random.Random, c: Canvas) -> None:
    """The times of holds and the order of locks."""
    for _ in range(rng.choice((1, 5, 30))):
        lo, hi = c.used(rng.choice(("order", "order", "hold_times")))
        spots = [p * PAGE for p in c.pages if lo <= p * PAGE < hi] or [lo]
        at = rng.choice((lo, rng.choice(spots))) + rng.randrange(PAGE) // 4 * 4
        if rng.randrange(4):
            c.put(at, 4, rng.choice((rng.randrange(64), _value(rng, c, c.number(at, 4)))))
        else:
            c.write(at, rng.randbytes(rng.choice((4, 64, 900))))


def torn(rng: random.Random, c: Canvas) -> None:
    """The arena's own lock was held by one who is dead: everything is built anew, from what is damaged too."""
    who = c.image.dead_thread or rng.getrandbits(32) << 32 | rng.randrange(1, 6) << 8
    c.put(WORD_AT, 8, who | rng.choice((0, 1, 4)))
    rng.choice((names, links, cells, kinds, fields, flips))(rng, c)


def boot(rng: random.Random, c: Canvas) -> None:
    """From before a reboot, and damaged."""
    c.write(BOOT_AT, rng.randbytes(16))
    rng.choice((life, records, fields, holders, flips))(rng, c)


def moved(rng: random.Random, c: Canvas) -> None:
    """Pieces that lie where other pieces should."""
    for _ in range(rng.choice((1, 3))):
        n = rng.choice((8, 64, 128, 512, 4096))
        a, b = _spot(rng, c, 8), _spot(rng, c, 8)
        one, other = c.read(a, n), c.read(b, n)
        c.write(a, other)
        if rng.randrange(2):
            c.write(b, one)


def none(rng: random.Random, c: Canvas) -> None:
    """Nothing: that the calls work at all."""


DAMAGES: dict[str, tuple[Callable[[random.Random, Canvas], None], int]] = {
    "bits flipped": (flips, 12), "runs overwritten": (runs, 8), "fields at extremes": (fields, 14),
    "region random": (region, 6), "header's counters random": (alive_header, 4), "truncated": (truncated, 3),
    "grown": (grown, 3), "header wrong": (header, 4), "another version": (version, 2), "pages zeroed": (zeroed, 5),
    "all random": (whole, 4), "life locks": (life, 8), "thread records": (records, 10), "cells": (cells, 12),
    "kinds and sizes": (kinds, 6), "holders": (holders, 8), "names and index": (names, 8), "links": (links, 6),
    "times and order": (noted, 6), "arena lock torn": (torn, 8), "before a reboot": (boot, 4), "moved": (moved, 5),
    "none": (none, 1),
}  # fmt: skip
"""Each with how often it comes."""


@dataclass
class Case:
    """One arena: what it was, what was done to it, and who is taken for alive in it."""

    index: int
    scene: str
    damage: str
    canvas: Canvas
    living: list[int] = field(default_factory=list)
    rng: random.Random = field(default_factory=random.Random)
    """For what else is to be decided; it goes on where the damage ended."""


def case(seed: int, index: int, images: dict[str, Image]) -> Case:
    """The arena of that number, the same for the same seed."""
    rng = random.Random(f"noise {seed} {index}")
    often = ("busy", "busy", "dead", "dead", "free", "crowd", "noted", "noted", "knot", "empty")
    scene = rng.choice([name for name in often if name in images])
    canvas = Canvas(images[scene])
    name = rng.choices(list(DAMAGES), [weight for _, weight in DAMAGES.values()])[0]
    living = images[scene].living if rng.randrange(3) == 0 and name != "arena lock torn" else []
    lock = canvas.read(LOCK_AT, 128)
    DAMAGES[name][0](rng, canvas)
    if name != "none" and rng.randrange(4) == 0:
        rng.choice((fields, flips, names, cells, records))(rng, canvas)
    if living and canvas.read(LOCK_AT, 128) != lock:
        # an arena's lock that a living thread has is waited for as long as it lives: that is no damage
        canvas.write(LOCK_AT, lock)
    return Case(index, scene, name, canvas, living, rng)
