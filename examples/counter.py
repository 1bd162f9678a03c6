"""Four processes count together, in a counter that lies in a mapped file right behind its lock.

    python examples/counter.py

One of them is killed on the way, inside a `with`.  The others go on, and what was counted is counted.
"""

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile

import syncx

WORKERS, ROUNDS = 4, 10_000
FATAL = 5_000  # the round in which the victim is killed
COUNTER = syncx.Mutex.SIZE  # the counter's offset: right behind the lock
SIZE = COUNTER + 8


def work(path: str, victim: bool) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), SIZE) as memory:
        lock = syncx.Mutex.at(memory, create=False)
        for i in range(ROUNDS):
            with lock:
                (count,) = struct.unpack_from("q", memory, COUNTER)
                struct.pack_into("q", memory, COUNTER, count + 1)
                if victim and i + 1 == FATAL:
                    os.kill(os.getpid(), signal.SIGKILL)
        lock.close()


def main() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(SIZE)  # all zero: "no lock here yet"
        with mmap.mmap(file.fileno(), SIZE) as memory:
            lock = syncx.Mutex.at(memory)
            workers = [
                subprocess.Popen([sys.executable, __file__, file.name, "victim" if i == 0 else "worker"])
                for i in range(WORKERS)
            ]
            statuses = [worker.wait(timeout=60) for worker in workers]
            (count,) = struct.unpack_from("q", memory, COUNTER)
            print(f"statuses {statuses}, counted {count:,}, holds taken over: {lock.statistics()['recoveries']}")
            lock.close()
    expected = (WORKERS - 1) * ROUNDS + FATAL
    assert count == expected, f"{expected:,} were expected"


if __name__ == "__main__":
    if len(sys.argv) == 3:
        work(sys.argv[1], sys.argv[2] == "victim")
    else:
        main()
