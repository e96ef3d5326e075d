"""taskiq with taskiq-redis: a list (no acknowledgement) or a stream (acknowledged) by the variant.

https://taskiq-python.github.io/ and https://github.com/taskiq-python/taskiq-redis
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from peers.handlers import handle_async
from taskiq_redis import ListQueueBroker, RedisStreamBroker

_URL = os.environ["BENCHMARK_URL"]
broker = (
    ListQueueBroker(_URL)
    if os.environ["BENCHMARK_VARIANT"] == "list"
    else RedisStreamBroker(_URL, consumer_id="0")  # also what was sent before the first worker came
)


@broker.task
async def run(message: str) -> None:
    await handle_async(message)


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("taskiq"))
    return [
        program, "worker", "peers.adapters.taskiq:broker", "--workers", str(processes),
        "--log-level", "ERROR", "--no-parse",
    ]  # fmt: skip


async def connect() -> Callable[[str], object]:
    await broker.startup()
    return run.kiq
