"""Calls that block, out of the way of an event loop."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

THREADS = 8
R = TypeVar("R")


async def run(call: Callable[[], R]) -> R:
    """Return what `call` returns, from a thread.

    Not one of the loop's own: while Redis is away, those are needed to look up names and for the
    application's calls. If the caller is cancelled, a call that has begun goes on.
    """
    return await asyncio.get_running_loop().run_in_executor(_threads(), call)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="hotqueue-asend")


os.register_at_fork(after_in_child=_threads.cache_clear)  # no thread survives a fork
