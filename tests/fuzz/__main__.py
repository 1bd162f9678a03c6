"""Runs the fuzzers.

    python -m tests.fuzz [TARGET...] [--seconds N] [--json FILE]
    python -m tests.fuzz --twins

Each target runs for N seconds (600), from the inputs in corpus/ and regressions/.  An input that ends it is written to
regressions/, told of, and the target goes on for the rest of its time.  --twins shows that they can find something:
each of the twins, a core with one check taken out, must be found.

The exit status is 1 if anything was found (with --twins: if a twin was not), 2 for a wrong usage or without clang.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from syncx.terminal import Screen
from tests.fuzz import CORPUS, HERE, LONGEST, REGRESSIONS, TARGETS, build, compiler, kept, pack, unpack
from tests.fuzz.twins import TWINS, write_core

MEMORY_MB, ALLOCATION_MB, PATIENCE = 2048, 64, 25
"""What a target may use in all and ask for at once, and how many seconds an input may take."""
FINDINGS = 10
"""After so many a target is given up."""
KEPT = 150
"""Inputs of a corpus that are kept, at most."""


@dataclass
class Run:
    """What came of one target."""

    target: str
    executions: int = 0
    coverage: int = 0
    features: int = 0
    corpus: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory, which goes with all that a killed fuzzer left in it."""
    with tempfile.TemporaryDirectory(prefix="syncx-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as d:
        yield Path(d)


def processor_time() -> float:
    """Seconds that children which have ended had a processor: on a busy machine far less than those that passed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def what_ended(text: str) -> str:
    """The line that says why a fuzzer ended."""
    for pattern in (
        r"^.*not so: .*$",
        r"^a wait that .*$",
        r"^.*runtime error: .*$",
        r"^SUMMARY: .*$",
        r"^==\d+== ?ERROR: .*$",
    ):
        line = re.search(pattern, text, re.MULTILINE)
        if line is not None:
            return line[0].replace(str(HERE.parents[1]) + "/", "")
    return "it ended without a word: " + text[-300:]


def once(program: Path, target: str, seconds: float, corpus: Path, room: Path, run: Run) -> bytes | None:
    """One run of libFuzzer; the input that ended it, or None."""
    artifact = room / "artifact"
    artifact.unlink(missing_ok=True)
    command = [
        str(program),
        f"-max_total_time={max(1, int(seconds))}",
        f"-max_len={LONGEST}",
        "-len_control=0",
        "-entropic=0",  # its book-keeping took longer than the inputs
        f"-rss_limit_mb={MEMORY_MB}",
        f"-malloc_limit_mb={ALLOCATION_MB}",
        f"-timeout={PATIENCE}",
        f"-exact_artifact_path={artifact}",
        "-print_final_stats=1",
        str(corpus),
    ]
    environment = {
        **os.environ,
        "SYNCX_FUZZ_TARGET": target,
        "SYNCX_FUZZ_DIRECTORY": str(room),
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:quarantine_size_mb=16",
    }
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + 120,
    )
    for line in re.finditer(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stdout):
        run.coverage, run.features, run.corpus = max(run.coverage, int(line[1])), int(line[2]), int(line[3])
    number = re.search(r"number_of_executed_units: *(\d+)", done.stdout) or re.search(
        r"(?s).*^#(\d+)", done.stdout, re.MULTILINE
    )
    run.executions += int(number[1]) if number is not None else 0
    if done.returncode == 0:
        return None
    run.found.append(what_ended(done.stdout))
    return artifact.read_bytes() if artifact.exists() else b""


def fuzz(program: Path, target: str, seconds: float, room: Path, most: int = FINDINGS) -> tuple[Run, list[bytes]]:
    """A target for that long."""
    run, inputs = Run(target), []
    corpus = room / f"{target}-corpus"
    corpus.mkdir(exist_ok=True)
    for file in kept(target):
        for data in unpack(file) if file.suffix == ".pack" else [file.read_bytes()]:
            (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    begin = time.monotonic()
    while len(run.found) < most and (left := seconds - (time.monotonic() - begin)) > 0:
        data = once(program, target, left, corpus, room, run)
        if data is not None:
            inputs.append(data)
    run.seconds = time.monotonic() - begin
    return run, inputs


def keep_corpus(program: Path, target: str, room: Path) -> int:
    """Keeps the shortest inputs of what was reached; how many."""
    small = room / f"{target}-small"
    small.mkdir()
    environment = {**os.environ, "SYNCX_FUZZ_TARGET": target, "SYNCX_FUZZ_DIRECTORY": str(room)}
    command = [str(program), "-merge=1", "-use_value_profile=0", str(small), str(room / f"{target}-corpus")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    inputs = sorted((f.read_bytes() for f in small.iterdir()), key=len)
    step = max(1, -(-len(inputs) // KEPT))
    CORPUS.mkdir(exist_ok=True)
    pack(CORPUS / f"{target}.pack", inputs[::step])
    return len(inputs[::step])


def show_twins(screen: Screen, seconds: float) -> tuple[dict[str, float], int]:
    """How many twins there are, how many were found, after how many seconds each; and how many were not."""
    figures: dict[str, float] = {"twins": len(TWINS), "caught": 0}
    missed = 0
    build("all")
    for target, twin in TWINS.items():
        with scratch() as room:
            core = write_core(twin, room / "core")
            shutil.copytree(HERE / "build" / "clang", room / "build" / "clang")
            program = build("all", CORE=core, BUILD=room / "build")
            run, _ = fuzz(program, target, seconds, room, most=1)
        if run.found:
            screen.say(f"{target}: {twin}: found after {run.seconds:.1f} s: {run.found[0]}")
            figures["caught"] += 1
            figures[f"{target}_found_after_s"] = round(run.seconds, 1)
        else:
            screen.say(f"{target}: {twin}: not found in {run.seconds:.0f} s", "bold red")
            missed += 1
    return figures, missed


def run_all(
    screen: Screen, targets: Sequence[str], seconds: float, jobs: int, keep: bool
) -> tuple[dict[str, float], list[dict[str, object]], int]:
    program = build("all")
    begin = processor_time()
    runs: list[Run] = []

    def one(target: str) -> tuple[Run, list[bytes], int]:
        with scratch() as room:
            run, inputs = fuzz(program, target, seconds, room)
            return run, inputs, keep_corpus(program, target, room) if keep and not run.found else 0

    with screen.progress(f"{len(targets)} targets", len(targets)) as bar, ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(one, target) for target in targets]):
            run, inputs, remain = done.result()
            runs.append(run)
            screen.say(
                f"{run.target}: {run.executions} executions in {run.seconds:.0f} s, {run.coverage} edges, "
                f"{run.features} features, {run.corpus} inputs, {len(run.found)} findings",
                "bold red" if run.found else "",
            )
            for why, data in zip(run.found, inputs, strict=True):
                REGRESSIONS.mkdir(exist_ok=True)
                file = REGRESSIONS / f"{run.target}-{hashlib.sha1(data).hexdigest()[:12]}"
                file.write_bytes(data)
                screen.say(f"  {why}\n  kept as {file.relative_to(HERE.parents[1])}", "bold red")
            if remain:
                screen.say(f"  {remain} inputs are kept")
            bar.update(len(runs))
    figures: dict[str, float] = {"targets": len(runs), "seconds_each": seconds}
    for run in runs:
        figures[f"{run.target}_executions"] = run.executions
        figures[f"{run.target}_edges"] = run.coverage
        figures[f"{run.target}_features"] = run.features
    figures["executions"] = sum(r.executions for r in runs)
    figures["cpu_seconds"] = round(processor_time() - begin, 1)
    found: list[dict[str, object]] = [{"target": r.target, "found": r.found} for r in runs if r.found]
    return figures, found, sum(len(r.found) for r in runs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them if none is named"
    )
    parser.add_argument("--seconds", type=float, help="for each target (600); with --twins at most, for each (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="targets at a time (1)")
    parser.add_argument("--twins", action="store_true", help="show that twins with a check taken out are found")
    parser.add_argument("--keep", action="store_true", help="keep a small corpus of what was reached")
    options = parser.parse_args(arguments)
    for target in options.targets:
        if target not in TARGETS:
            parser.error(f"no target is called {target!r}; expected one of {', '.join(TARGETS)}")
    if options.seconds is not None and options.seconds < 1:
        parser.error(f"--seconds: expected 1 or more, got {options.seconds:g}")
    if options.jobs < 1:
        parser.error(f"--jobs: expected 1 or more, got {options.jobs}")
    if compiler() is None:
        print("the fuzzers need clang with libFuzzer: apt-get install clang libclang-rt-14-dev", file=sys.stderr)
        return 2
    screen, begin = Screen(sys.stdout), time.monotonic()
    found: list[dict[str, object]] = []
    if options.twins:
        figures, failures = show_twins(screen, options.seconds or 60)
    else:
        figures, found, failures = run_all(
            screen, options.targets or TARGETS, options.seconds or 600, options.jobs, options.keep
        )
    if options.json is not None:
        command = "python -m tests.fuzz " + " ".join(arguments if arguments is not None else sys.argv[1:])
        seconds = round(time.monotonic() - begin, 1)
        result = {"command": command, "seconds": seconds, "figures": figures, "failures": failures, "found": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    screen.say(f"{failures} {'twins not found' if options.twins else 'findings'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
