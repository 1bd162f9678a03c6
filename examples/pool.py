"""An anonymous lock sent to the workers of a pool, as an ordinary argument.

python examples/pool.py
"""

import concurrent.futures
import multiprocessing
import tempfile
from pathlib import Path

import syncx

TASKS = 200


def add_one(lock: syncx.Mutex, path: str) -> None:
    with lock:
        file = Path(path)
        file.write_text(str(int(file.read_text()) + 1))


def main() -> None:
    lock = syncx.Mutex()
    for method in ("spawn", "forkserver"):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "count")
            path.write_text("0")
            context = multiprocessing.get_context(method)
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                for done in [pool.submit(add_one, lock, str(path)) for _ in range(TASKS)]:
                    done.result(timeout=60)
            print(f"{method}: {path.read_text()} of {TASKS}")
            assert path.read_text() == str(TASKS)


if __name__ == "__main__":
    main()
