"""A job that must not overlap with itself, as cron starts it.

    python examples/nightly.py

The second start finds the first at work and leaves; one that is killed leaves no stale lock behind.  For a command that
is not Python there is `syncx run --no-wait --lock nightly -- COMMAND`.
"""

import signal
import subprocess
import sys

import syncx

BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later


def job() -> int:
    lock = syncx.Mutex("nightly-report")
    if not lock.acquire(blocking=False):
        print("the last run is still at work:", lock.holder, flush=True)
        return BUSY
    try:
        if lock.owner_died:
            print("the last run was killed; starting over", flush=True)
        print("working", flush=True)
        sys.stdin.read()  # the work: until the caller closes our input
        return 0
    finally:
        lock.release()


def main() -> None:
    command = [sys.executable, __file__, "job"]

    def start() -> subprocess.Popen:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(process.stdout.readline().strip())
        return process

    first = start()
    second = start()
    assert second.wait(timeout=20) == BUSY
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=20)
    third = start()  # finds the death, and the lock
    assert third.stdout.readline() == "working\n"
    for process in (first, second, third):
        process.stdin.close()  # the third may finish
        process.stdout.close()
    assert third.wait(timeout=20) == 0
    syncx.default_arena().unlink("nightly-report")


if __name__ == "__main__":
    sys.exit(job() if sys.argv[1:] == ["job"] else main())
