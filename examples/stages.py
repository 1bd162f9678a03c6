"""Workers that go through the stages of a job together, at most two of them on the disk at a time.

    python examples/stages.py

One of them is killed while it is on the disk.  Its place there is free for the others, and the barrier tells them that
it will not come; they strike it off and go on with one party fewer.
"""

import os
import signal
import subprocess
import sys

import syncx

WORKERS, PLACES = 3, 2
VICTIM = "0"


def work(arena_name: str, who: str) -> None:
    arena = syncx.Arena(arena_name)
    disk = syncx.BoundedSemaphore(PLACES, name="disk", arena=arena)
    first = syncx.Barrier(WORKERS, name="first", arena=arena, timeout=60)
    second = syncx.Barrier(WORKERS - 1, name="second", arena=arena, timeout=60)
    settled = syncx.Latch(WORKERS, name="enrolled", arena=arena)

    first.enroll()
    settled.count_down()
    settled.wait(timeout=60)  # all are enrolled: from here on each death is seen
    with disk:
        if who == VICTIM:
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        first.wait()
    except syncx.BrokenBarrierError:
        print(f"worker {who}: somebody has died; {disk.value} of {disk.capacity} places are free", flush=True)
    second.wait()


def main() -> None:
    with syncx.Arena(f"stages-{os.getpid()}") as arena:
        try:
            workers = [
                subprocess.Popen([sys.executable, __file__, arena.name, str(who)], stdout=subprocess.PIPE, text=True)
                for who in range(WORKERS)
            ]
            said = [worker.communicate(timeout=60)[0] for worker in workers]
            statuses = [worker.returncode for worker in workers]
            print("".join(said), end="")
            print("statuses", statuses)
            assert statuses == [-signal.SIGKILL] + [0] * (WORKERS - 1)
            assert all("somebody has died" in text for text in said[1:])
        finally:
            arena.unlink(force=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        work(sys.argv[1], sys.argv[2])
    else:
        main()
