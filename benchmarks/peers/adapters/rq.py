"""RQ: `rq worker`, which forks for each job, or with rq.SimpleWorker, which does not; `worker-pool` for four.

Results are not kept. https://python-rq.org/docs/workers/ and https://python-rq.org/docs/results/
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from peers import handlers
from redis import Redis
from rq import Queue

_URL = os.environ["BENCHMARK_URL"]
_queue = Queue(connection=Redis.from_url(_URL))


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("rq"))
    kind = ("--worker-class", os.environ["BENCHMARK_VARIANT"])
    if processes == 1:
        return [program, "worker", "--url", _URL, "--quiet", *kind]
    return [program, "worker-pool", "--url", _URL, "-n", str(processes), "--logging-level", "ERROR", *kind]


def connect() -> Callable[[str], object]:
    return partial(_queue.enqueue, handlers.handle, result_ttl=0)
