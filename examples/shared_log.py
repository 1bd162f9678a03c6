"""Several processes append to one log; one is killed in the middle of a record, and no record is torn or lost.

    python examples/shared_log.py

A writer says which records `append()` has returned for.  At the end the log has exactly those, each once and whole.
What the killed one had written of its last record, the next writer has cut off.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import syncx

WRITERS, RECORDS = "abcd", 200


def write(path: str, who: str) -> None:
    log = syncx.RangeLock(path)
    for number in range(RECORDS):
        if (who, number) == ("d", RECORDS // 2):
            die_half_way(log, f"{who} {number}")
        log.append(f"{who} {number} " + "x" * number)
        print(who, number)
    log.close()


def die_half_way(log: syncx.RangeLock, record: str) -> None:
    """What a kill in the middle of `append()` leaves: half of a record, and a lock whose holder is gone."""
    with log:
        log.file.seek(0, 2)
        log.file.write(record[: len(record) // 2].encode())
        log.file.flush()
        print("half", flush=True)
        sys.stdin.read()  # until the kill


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        command = [sys.executable, __file__, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        victim = subprocess.Popen([*command, WRITERS[-1]], **pipes)
        said = list(iter(victim.stdout.readline, "half\n"))  # it stands in the middle of a record
        writers = [subprocess.Popen([*command, who], **pipes) for who in WRITERS[:-1]]
        victim.kill()
        for writer in [*writers, victim]:
            output, _ = writer.communicate(timeout=60)
            said += output.splitlines(keepends=True)
        assert [w.returncode for w in writers] == [0] * len(writers)
        text = path.read_text()
    acknowledged = {tuple(line.split()) for line in said}
    assert text.endswith("\n")
    found = Counter()
    for line in text.splitlines():
        who, number, filling = line.split(" ")
        assert filling == "x" * int(number), f"torn: {line}"
        found[who, number] += 1
    assert set(found.values()) == {1}
    assert acknowledged == set(found), "a record is missing, or was never acknowledged"
    print(f"{len(found)} records, all that were acknowledged, each once and whole; one writer was killed")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], sys.argv[2])
    else:
        main()
