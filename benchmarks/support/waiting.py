"""Handlers that wait 10 ms for nothing, as for an answer from elsewhere."""

import asyncio
import time

from hotqueue import HotQueue

WAIT_S = 0.010

plain = HotQueue("benchmark-plain")
coroutines = HotQueue("benchmark-coroutines")


@plain.worker
def sleep(_number: int) -> None:
    time.sleep(WAIT_S)


@coroutines.worker
async def sleep_async(_number: int) -> None:
    await asyncio.sleep(WAIT_S)
