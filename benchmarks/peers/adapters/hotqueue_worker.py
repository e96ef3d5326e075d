"""HotQueue: hotqueue-worker with its defaults, but for the level of the log. The variant is the mode."""

import os
import sys
from collections.abc import Callable

from peers.handlers import handle

from hotqueue import HotQueue

_mode, _, _logged = os.environ["BENCHMARK_VARIANT"].partition(" ")
queue = HotQueue("messages", url=os.environ["BENCHMARK_URL"])


@queue.worker(delivery=_mode)
def run(message: str) -> None:
    handle(message)


def command(processes: int) -> list[str]:
    level = "info" if _logged else "error"
    return [
        *(sys.executable, "-m", "hotqueue.worker", "peers.adapters.hotqueue_worker:run"),
        *("--concurrency", str(processes), "--log-level", level, "--log-format", "json"),
    ]  # fmt: skip


def connect() -> Callable[[str], object]:
    return queue.enqueue


def send_many(messages: list[str]) -> None:
    queue.enqueue(*messages)
