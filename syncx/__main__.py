"""`python -m syncx`: the command line."""

import sys

from .cli import main

if __name__ == "__main__":  # the worker processes of the demo import this module again, under another name
    sys.exit(main())
