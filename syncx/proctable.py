"""What /proc says of a process or a thread: its state, its command, how many threads it has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .terminal import command_line

if TYPE_CHECKING:
    from .snapshots import Participant

__all__ = ["command_of", "process_state", "state_of", "stopped", "thread_numbers"]


def _fields(path: str) -> list[bytes]:
    """The fields of a `stat` file behind the command's name: state first."""
    try:
        with open(path, "rb") as f:
            return f.read().rpartition(b")")[2].split()
    except OSError:
        return []


def state_of(who: Participant) -> str:
    """The letter of a thread's state, see proc_pid_stat(5); "" if it is not to be seen, or another by that number."""
    fields = _fields(f"/proc/{who.pid}/task/{who.tid}/stat")
    if len(fields) < 20 or int(fields[19]) != who.start_time:
        return ""
    return fields[0].decode()


def process_state(pid: int) -> str:
    """The same of a process's main thread."""
    fields = _fields(f"/proc/{pid}/stat")
    return fields[0].decode() if fields else ""


def stopped(state: str) -> bool:
    """By a signal, or by a debugger."""
    return state in ("T", "t")


def command_of(who: Participant) -> str:
    """The command line of a thread's process; "" if it is not to be seen."""
    return command_line(who.pid, who.tid)


def thread_numbers(pid: int) -> list[int]:
    """The threads of a process; none if they are not to be seen."""
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
