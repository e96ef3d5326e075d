"""``python -m hotqueue.cli`` is ``hotqueue``."""

import sys

from hotqueue.cli import main

sys.exit(main())
