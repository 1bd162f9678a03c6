"""`syncx completion`: the whole command line, told to a shell."""

from __future__ import annotations

import argparse

from .command import OK, add, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .command import Commands, Parser

_NAMES = {
    "bash": """\
_syncx_names() {
  local IFS=$'\\n'
  compgen -W "$(syncx ls --quiet 2>/dev/null)" -- "$1"
}
""",
    "zsh": """\
_syncx_names() {
  local -a names
  names=("${(@f)$(syncx ls --quiet 2>/dev/null)}")
  compadd -a names
}
""",
}


def add_completion(commands: Commands, root: Parser) -> None:
    new = add(
        commands,
        "completion",
        _completion,
        "print the completion script of a shell",
        """\
Needs shtab, which the extra `cli` installs: pip install 'syncx[cli]'

examples:
  eval "$(syncx completion bash)"
  syncx completion zsh > ~/.zfunc/_syncx""",
    )
    new.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    new.set_defaults(root=root)


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        return fail("completion needs shtab; install it with: pip install 'syncx[cli]'")
    parser: Parser = options.root
    names = {"bash": "_syncx_names", "zsh": "_syncx_names"}
    for action in _all_actions(parser):
        complete = {
            "NAME": names,
            "NAME=N": names,
            "WHAT": names,
            "DIR": shtab.DIRECTORY,
            "PATH": shtab.FILE,
            "ARENA": shtab.FILE,
            "-- COMMAND": shtab.FILE,
        }.get(str(action.metavar))
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell, preamble=_NAMES.get(options.shell, "")))
    return OK


def _all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += _all_actions(sub)
    return found
