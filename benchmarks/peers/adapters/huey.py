"""Huey: `huey_consumer -k process`, blocking reads, no periodic tasks, quiet.

https://huey.readthedocs.io/en/latest/consumer.html
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from huey import RedisHuey
from peers.handlers import handle

huey = RedisHuey("benchmark", url=os.environ["BENCHMARK_URL"])


@huey.task()
def run(message: str) -> None:
    handle(message)


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("huey_consumer"))
    return [program, "peers.adapters.huey.huey", "-k", "process", "-w", str(processes), "-q", "-n"]


def connect() -> Callable[[str], object]:
    return run
