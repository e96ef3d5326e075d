"""streaQ: its defaults, but that it logs errors only. https://streaq.readthedocs.io/"""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from peers.handlers import handle_async
from streaq import Worker


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    logging.getLogger("streaq").setLevel(logging.ERROR)  # `streaq run` has set it to INFO before
    yield


worker = Worker(redis_url=os.environ["BENCHMARK_URL"], lifespan=quiet)


@worker.task
async def run(message: str) -> None:
    await handle_async(message)


def command(processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("streaq"))
    return [program, "run", "peers.adapters.streaq:worker", "--workers", str(processes)]


async def connect() -> Callable[[str], object]:
    await worker.__aenter__()

    async def send(message: str) -> None:
        await run.enqueue(message)

    return send
