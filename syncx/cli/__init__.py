"""The command line: `syncx demo`, `run`, `ls`, `ps`, `top`, `stats`, `graph`, `why`, `watch` and the others.

Each command is added to the parser by a module of this package, with its options and its help.  What it does is in a
module of syncx (syncx.ls for `syncx ls`), which is imported when the command is run: `syncx --help` and the completion
of a shell are quick.  Imports going down only:

    __init__  ->  parser  ->  demo, run, looking, waiting, upkeep, ...  ->  claims, command  ->  arguments
"""

from __future__ import annotations

import os
import sys

from ..errors import SyncxError
from . import parser, run, stress
from .command import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    arguments, command = run.split(list(sys.argv[1:] if argv is None else argv))
    if arguments[:1] == ["stress"] and stress.KILL_EVERYWHERE in arguments:
        return stress.kill_everywhere([a for a in arguments[1:] if a != stress.KILL_EVERYWHERE])
    options = parser.build().parse_args(arguments)
    if command:  # of `syncx run`; one that is given without `--` may have one among its arguments
        options.command += ["--", *command] if options.command else command
    try:
        status: int = options.action(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # nobody reads us: as if SIGPIPE had ended us, and nothing more to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SyncxError, OSError) as e:
        return fail(_words(e))


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return what + error.strerror
    return str(error)
