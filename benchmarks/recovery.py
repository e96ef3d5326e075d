"""How long it takes from the death of a child to the moment when its message runs again.

With one child its successor has to be forked first; of two, the other one waits already.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.mortal import queue, times
from support.server import Server, private_server

from hotqueue import HotQueue

RUNS = 200
PATIENCE_S = 60.0


@contextmanager
def worker(server: Server, children: int) -> Iterator[None]:
    command = [sys.executable, "-m", "hotqueue.worker", "support.mortal", f"-c{children}", "-lcritical"]
    process = subprocess.Popen(
        [*command, "-u", server.url], cwd=Path(__file__).parent, stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def wait_until_idle(server: Server, children: int) -> None:
    end_s = time.monotonic() + PATIENCE_S
    with server.client() as client:
        while client.info("clients")["blocked_clients"] != children:
            assert time.monotonic() < end_s, "the children did not come up"
            time.sleep(0.005)


def measure(server: Server, children: int, runs: int) -> list[float]:
    work = HotQueue(queue.name, url=server.url)
    begun: Any = HotQueue(times.name, "json", url=server.url)
    took_ms = []
    with worker(server, children):
        for number in range(runs):
            wait_until_idle(server, children)
            work.enqueue(number)
            attempt, pid, _ = begun.dequeue(block=True, timeout=PATIENCE_S)
            assert attempt == 1
            killed_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            attempt, _, again_s = begun.dequeue(block=True, timeout=PATIENCE_S)
            assert attempt > 1
            took_ms.append(1000 * (again_s - killed_s))
    return sorted(took_ms)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--runs", type=int, default=RUNS)
    runs = options.parse_args().runs
    with private_server() as server:
        print(f"{server.version}, {runs} runs each, milliseconds: p50 / p99 / max")
        for children in (1, 2):
            took = measure(server, children, runs)
            figures = (took[len(took) // 2], took[len(took) * 99 // 100], took[-1])
            print(
                f"{children} child{'ren' * (children > 1):5}" + " / ".join(f"{each:.1f}" for each in figures)
            )


if __name__ == "__main__":
    main()
