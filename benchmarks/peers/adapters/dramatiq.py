"""Dramatiq: one thread in each process, and dramatiq_queue_prefetch=256 for messages that take no time.

https://dramatiq.io/guide.html and the variables in https://dramatiq.io/reference.html
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from peers.handlers import handle

broker = RedisBroker(url=os.environ["BENCHMARK_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def run(message: str) -> None:
    handle(message)


def command(processes: int) -> list[str]:
    os.environ["dramatiq_queue_prefetch"] = "256"  # noqa: SIM112 - its name
    program = str(Path(sys.executable).with_name("dramatiq"))
    return [
        program, "peers.adapters.dramatiq:broker", "--processes", str(processes), "--threads", "1",
        "--skip-logging",
    ]  # fmt: skip


def connect() -> Callable[[str], object]:
    return run.send
