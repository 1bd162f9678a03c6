"""The processes behind `kill_everywhere`: where the target holds locks is found out, and there it is killed.

One walk goes from system call to system call at full speed and looks what is held after each; a second one goes through
the stretches around a hold by single instructions and counts them.  The points are spread over these.  A point is
told as system calls and instructions since, which lead there again as far as the target does the same again.

So that it does, each victim is forked from the same state, down to what malloc has free: the *template* imports the
target and then only forks, for each walk a *tracer* (tracer.py), which forks the victim before all else.  The *planner*
(planner.py), its other child, asks for the walks and keeps the report.  walks.py is what they say to each other.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from multiprocessing import spawn
from multiprocessing.connection import Connection
from typing import Any

from . import stepping
from .killing import Order
from .planner import Planner
from .tracer import Tracer
from .walks import Refused, Walks, die_with_parent, send

__all__ = ["main"]


def main() -> None:
    """What the process does: one order, answers on the way, a report.  Its arguments are those of killing.CODE."""
    descriptor, name = sys.argv[2:]
    pipe = Connection(int(descriptor))
    os.environ["SYNCX_ARENA"] = name  # before anything of the target's is imported
    logger = logging.getLogger("syncx")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False  # a line for every death is what the figures are for
    reason = stepping.why_not()
    if reason is not None:
        pipe.send(("unable", reason))
        return
    try:
        spawn.prepare(pipe.recv())
        order: Order = pickle.loads(pipe.recv_bytes())
        tracer = Tracer(order)
        tracer.rehearse()
        _template(tracer, pipe)
    except Refused as e:
        pipe.send(("error", str(e)))
    except Exception:
        pipe.send(("error", traceback.format_exc()))


def _template(tracer: Tracer, pipe: Any) -> None:
    """Forks a tracer for each byte that the planner writes, until it ends."""
    asks, (answers, result) = os.pipe(), os.pipe()
    planner = os.fork()
    if planner == 0:
        die_with_parent()
        os.close(asks[0])
        os.close(result)
        Planner(tracer.order, pipe, Walks(asks[1], answers)).report_to(pipe)
        os._exit(0)
    os.close(asks[1])
    os.close(answers)
    while os.read(asks[0], 1):
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            tracer.serve(asks[0], result)
        status = os.waitpid(pid, 0)[1]
        if status != 0:
            send(result, ("error", f"a process that steps the target ended with {os.waitstatus_to_exitcode(status)}"))
    os.waitpid(planner, 0)
