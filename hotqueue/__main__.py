"""``python -m hotqueue`` is ``hotqueue``."""

import sys

from hotqueue.cli import main

sys.exit(main())
