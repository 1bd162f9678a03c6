"""python -m tests.refleaks"""

import sys

from .run import main

sys.exit(main())
