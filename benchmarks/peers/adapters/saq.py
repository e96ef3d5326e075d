"""SAQ: its defaults. https://saq-py.readthedocs.io/ (each process a worker: --workers)"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.handlers import handle_async
from saq import Queue

queue = Queue.from_url(os.environ["BENCHMARK_URL"])


async def run(_context: dict[str, Any], *, message: str) -> None:
    await handle_async(message)


settings = {"queue": queue, "functions": [run]}


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("saq"))
    return [program, "peers.adapters.saq.settings", "--workers", str(processes), "--quiet"]


async def connect() -> Callable[[str], object]:
    await queue.connect()

    async def send(message: str) -> None:
        await queue.enqueue("run", message=message)

    return send
