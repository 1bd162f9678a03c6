"""Two balances that must always add up to 100, and a writer that is killed between the two.

    python examples/repair.py

Whoever gets the lock next is told, and a function of ours mends the data before anybody sees them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import syncx

TOTAL = 100


def save(path: Path, balance: int) -> None:
    path.write_text(json.dumps(balance))


def load(path: Path) -> int:
    return json.loads(path.read_text())


def transfer(directory: Path, amount: int, die: bool = False) -> None:
    with syncx.Mutex("accounts", on_owner_death=lambda lock: mend(directory)):
        alice, bob = directory / "alice", directory / "bob"
        save(alice, load(alice) - amount)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        save(bob, load(bob) + amount)


def mend(directory: Path) -> None:
    """Runs with the lock held.  Alice's side is written first, so hers is the truth."""
    alice, bob = directory / "alice", directory / "bob"
    print(f"found {load(alice)} and {load(bob)}: the owner died half-way")
    save(bob, TOTAL - load(alice))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        save(directory / "alice", TOTAL)
        save(directory / "bob", 0)
        victim = subprocess.run([sys.executable, __file__, name], timeout=20)
        assert victim.returncode == -signal.SIGKILL
        transfer(directory, 10)
        balances = load(directory / "alice"), load(directory / "bob")
    print("afterwards:", *balances)
    assert balances == (60, 40)
    syncx.default_arena().unlink("accounts")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        transfer(Path(sys.argv[1]), 30, die=True)
    else:
        main()
