"""What `hotqueue-worker` runs in the benchmark: told by the environment, it writes its measure to a file."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from support.noop import handler, presser
from support.stopwatch import Stopwatch

_url = os.environ["BENCHMARK_URL"]
_watch = Stopwatch(urlsplit(_url).port or 0)
_press = presser(_watch)


def no_op(message: object) -> None:
    if message is not None:
        return
    _press(message)
    if _watch.measure is not None:
        Path(os.environ["BENCHMARK_RESULT"]).write_text(json.dumps(asdict(_watch.measure)))


drain = handler(_url, os.environ["BENCHMARK_DELIVERY"], no_op)  # type: ignore[arg-type]
