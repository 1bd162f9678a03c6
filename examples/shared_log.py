"""Several processes write records of many lines to one file, and no record is torn.

python examples/shared_log.py
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import syncx

WRITERS, RECORDS, LINES = 3, 200, 5


def write(path: str, who: str) -> None:
    lock = syncx.Mutex("shared-log")
    for number in range(RECORDS):
        with lock, open(path, "a") as file:
            for line in range(LINES):
                file.write(f"{who} {number} {line}\n")
                file.flush()  # one system call a line: without the lock the lines would mix


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        writers = [subprocess.Popen([sys.executable, __file__, str(path), who]) for who in "abc"[:WRITERS]]
        for writer in writers:
            assert writer.wait(timeout=60) == 0
        lines = path.read_text().splitlines()
    whole = Counter()
    for i in range(0, len(lines), LINES):
        who, number, _ = lines[i].split()
        assert lines[i : i + LINES] == [f"{who} {number} {line}" for line in range(LINES)], f"torn at line {i}"
        whole[who] += 1
    print(f"{sum(whole.values())} records, none torn: {dict(sorted(whole.items()))}")
    syncx.default_arena().unlink("shared-log")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], sys.argv[2])
    else:
        main()
