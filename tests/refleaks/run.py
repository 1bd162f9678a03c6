"""The command: all scenes, the crowd, the sub-interpreters, and what they left."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from . import crowd, errors, interpreters, objects
from .meters import COUNTED, Found, watch
from .objects import own_name, world


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m tests.refleaks", description="Counts what is left behind.")
    p.add_argument("--rounds", type=int, default=10_000, help="creations of every type (10000)")
    p.add_argument("--threads", type=int, default=64, help="threads that share the same objects (64)")
    p.add_argument("--only", default="", metavar="WORD", help="only scenes whose name contains it; several with a +")
    p.add_argument("--parts", default="scenes,crowd,interpreters", help="which of: scenes,crowd,interpreters")
    p.add_argument("--plant", default="", metavar="SCENE", help="a twin: that scene keeps an object of every round")
    p.add_argument("--json", metavar="FILE", help="write the figures there")
    return p


def all_scenes() -> dict[str, objects.Scene]:
    return {**objects.scenes(), **errors.scenes()}


def run_scenes(rounds: int, only: str, plant: str = "", name: str | None = None) -> list[Found]:
    """Every scene whose name contains `only`, or one of its words that + joins; `plant` names one that is to leak."""
    found = []
    with world(name or own_name()) as w:
        for title, scene in all_scenes().items():
            if not any(word in title for word in only.split("+")):
                continue
            once = scene(w)
            if title == plant:
                kept: list[Any] = []
                once = leaking(once, kept)
            found.append(watch(title, once, max(40, rounds // errors.SLOW.get(scene, 1)), w.arena))
            print(f"{found[-1].seconds:7.1f} s  {found[-1]}", flush=True)
    return found


def leaking(once: Any, kept: list[Any]) -> Any:
    """A scene with a twin's fault: every round leaves an object behind."""

    def again() -> None:
        once()
        kept.append([object()])

    return again


def main() -> int:
    options = parser().parse_args()
    parts = options.parts.split(",")
    if options.rounds < 2 or options.threads < 1 or not set(parts) <= {"scenes", "crowd", "interpreters"}:
        parser().error("--rounds must be 2 or more, --threads 1 or more, --parts of scenes,crowd,interpreters")
    began = time.monotonic()
    figures: dict[str, float | str] = {}
    leaks: list[str] = []
    if "scenes" in parts:
        found = run_scenes(options.rounds, options.only, options.plant)
        if not found:
            parser().error(f"no scene has {options.only!r} in its name")
        figures |= {"scenes": len(found), "rounds": sum(f.rounds for f in found)}
        leaks += [str(f) for f in found if f.grew]
    if "crowd" in parts:
        said = crowd.run(options.threads, max(1, options.rounds // 200))
        figures |= said.figures
        leaks += said.leaks
    if "interpreters" in parts:
        said = interpreters.run(options.rounds, max(6, options.rounds // 100))
        figures |= said.figures
        leaks += said.leaks
    figures["references counted, as only a debug build can"] = "yes" if COUNTED else "no"
    for leak in leaks:
        print(f"LEAK: {leak}")
    print(f"{len(leaks)} leaks; " + ", ".join(f"{name} {n}" for name, n in figures.items()))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(
                {
                    "command": "python -m tests.refleaks " + " ".join(sys.argv[1:]),
                    "seconds": round(time.monotonic() - began, 1),
                    "python": sys.version.split()[0],
                    "figures": figures,
                    "failures": len(leaks),
                    "leaks": leaks,
                },
                f,
                indent=1,
            )
            f.write("\n")
    return 1 if leaks else 0
