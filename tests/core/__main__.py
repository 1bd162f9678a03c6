"""Runs the C tests in all variants and writes down what came of it: python -m tests.core [--json FILE]."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
VARIANTS = {"plain": "plain", "asan": "AddressSanitizer, UBSan", "tsan": "ThreadSanitizer", "valgrind": "valgrind"}


def figures_of(output: str) -> dict[str, int]:
    """How many tests passed, by variant, from what `make check` prints."""
    found = {}
    for name, text in re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", output, re.M | re.S):
        passed = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M)
        found[f"tests passed, {VARIANTS[name]}"] = int(passed[0][0]) if passed else 0
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.core", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file")
    options = parser.parse_args()
    began = time.monotonic()
    done = subprocess.run(["make", "-s", "-C", str(HERE), "check"], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    last = re.findall(r"^(\d+) passed, (\d+) failed$", done.stdout, re.M)
    failures = int(last[-1][1]) if last else 1
    if options.json:
        found = {
            "command": "python -m tests.core",
            "seconds": round(time.monotonic() - began, 1),
            "figures": figures_of(done.stdout),
            "failures": failures or int(done.returncode != 0),
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failures or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
