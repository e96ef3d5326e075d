"""arq: it polls; every 20 ms here instead of 500, and 100 jobs at once instead of 10. No results are kept.

https://arq-docs.helpmanual.io/ (one process a command: several are started for several)
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from peers.handlers import handle_async

LOGGING = {"version": 1, "loggers": {"arq": {"level": "ERROR"}}}


async def run(_context: dict[Any, Any], message: str) -> None:
    await handle_async(message)


class WorkerSettings:
    functions: ClassVar = [run]
    redis_settings = RedisSettings.from_dsn(os.environ["BENCHMARK_URL"])
    keep_result = 0
    max_jobs = 100
    poll_delay = 0.02


def command(_processes: int) -> list[str]:
    program = str(Path(sys.executable).with_name("arq"))
    return [program, "peers.adapters.arq.WorkerSettings", "--custom-log-dict", "peers.adapters.arq.LOGGING"]


async def connect() -> Callable[[str], object]:
    return partial((await create_pool(WorkerSettings.redis_settings)).enqueue_job, "run")
