"""`python -m syncx.testing.crash`."""

import sys

from .runner import main

sys.exit(main())
