"""Celery: prefork pool, results ignored; "early" or "late" acknowledgement by the variant.

Early with worker_prefetch_multiplier=128, as its guide says for many short tasks; late with
task_reject_on_worker_lost and a multiplier of 1. The visibility timeout is the default, one hour.
https://docs.celeryq.dev/en/stable/userguide/optimizing.html
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from celery import Celery
from peers.handlers import handle

_late = os.environ["BENCHMARK_VARIANT"] == "late"
app = Celery("benchmark", broker=os.environ["BENCHMARK_URL"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=_late,
    task_reject_on_worker_lost=_late,
    worker_prefetch_multiplier=1 if _late else 128,
)


@app.task
def run(message: str) -> None:
    handle(message)


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("celery"))
    return [
        program, "--app", "peers.adapters.celery:app", "worker", "--concurrency", str(processes),
        "--loglevel", "ERROR", "--without-gossip", "--without-mingle",
    ]  # fmt: skip


def connect() -> Callable[[str], object]:
    return run.delay
