"""One contestant in its own environment: `python -m peers.driver ADAPTER work|send|probe NUMBER`.

`work` becomes the worker with so many processes. `send` puts so many messages on the queue and says what
each cost; `probe` sends so many, each a while after the one before has run, and says how long that took.
"""

import asyncio
import inspect
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ONE_BY_ONE = 5000  # messages at most whose cost is measured
_AT_ONCE = 500
_FIRST_PROBES = 3  # which also connect
_PATIENCE_S = 30.0


def main() -> None:
    name, act, number = sys.argv[1:]
    adapter = import_module(f"peers.adapters.{name}")
    if act == "work":
        argv = adapter.command(int(number))
        os.execv(argv[0], argv)
    sys.stdout.write(json.dumps(asyncio.run(_act(adapter, act, int(number)))))


async def _act(adapter: ModuleType, act: str, number: int) -> Any:
    send = adapter.connect()
    if inspect.isawaitable(send):
        send = await send
    return await {"send": _send, "probe": _probe}[act](adapter, send, number)


async def _send(adapter: ModuleType, send: Callable[[str], Any], number: int) -> dict[str, float]:
    first, length = int(os.environ["BENCHMARK_FIRST"]), int(os.environ["BENCHMARK_PAYLOAD"])
    messages = [str(first + each).ljust(length, "x") for each in range(number)]
    several = getattr(adapter, "send_many", None)
    single = min(ONE_BY_ONE, number) if several else number
    cpu_s, began_s = _cpu_s(), time.perf_counter()
    if inspect.iscoroutinefunction(send):
        for message in messages[:single]:
            await send(message)
    else:
        for message in messages[:single]:
            send(message)
    took_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
    for start in range(single, number, _AT_ONCE):
        several(messages[start : start + _AT_ONCE])
    return {"sent": single, "seconds": took_s, "cpu_s": cpu_s}


async def _probe(_adapter: ModuleType, send: Callable[[str], Any], number: int) -> list[float]:
    """Return in ms how long after its send each message began to run."""
    took_ms = []
    with Path(os.environ["BENCHMARK_NOTES"]).open() as notes:  # noqa: ASYNC230 - a small local file
        notes.seek(0, os.SEEK_END)
        for _ in range(_FIRST_PROBES + number):
            await asyncio.sleep(random.uniform(0.02, 0.06))
            sent_ns = time.monotonic_ns()
            sending = send("probe")
            if inspect.isawaitable(sending):
                await sending
            took_ms.append((await _next(notes) - sent_ns) / 1e6)
    return took_ms[_FIRST_PROBES:]


async def _next(notes: Any) -> int:
    end_s = time.monotonic() + _PATIENCE_S
    while not (line := notes.readline()):
        if time.monotonic() > end_s:
            msg = f"a message was not run within {_PATIENCE_S:g} s"
            raise SystemExit(msg)
        await asyncio.sleep(0.001)
    return int(line)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
