"""What one child does in a second whose handler waits for 10 ms: one at a time, in threads, as tasks."""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from support.options import positive
from support.processes import cpu_s, family
from support.report import machine
from support.server import Server, private_server

from hotqueue import HotQueue

SECONDS = 3.0  # that a run takes at best
LEAST_MS = 10
_FOLDER = Path(__file__).resolve().parent
_PATIENCE_S = 60.0
# Name → queue, handler, how many at once, options.
_CONTENDERS = {
    "one at a time": ("plain", 1, ()),
    "--threads 8": ("plain", 8, ("--threads", "8")),
    "--threads 50": ("plain", 50, ("--threads", "50")),
    "--tasks 8": ("coroutines", 8, ("--tasks", "8")),
    "--tasks 50": ("coroutines", 50, ("--tasks", "50")),
    "--tasks 100": ("coroutines", 100, ("--tasks", "100")),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=positive, default=3, help="runs of each")
    rounds = options.parse_args().rounds
    with private_server() as server:
        print(machine())
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in _CONTENDERS}
        for _ in range(rounds):
            for name, (queue, at_once, more) in _CONTENDERS.items():
                found[name].append(_run(server, queue, at_once, more))
    print(f"{'':14} {'msg/s':>8} {'of ideal':>9} {'CPU, us a message':>18}")
    for name, runs in found.items():
        rate, cpu = (median(values) for values in zip(*runs, strict=True))
        ideal = _CONTENDERS[name][1] * 1000 / LEAST_MS
        print(f"{name:14} {rate:8,.0f} {100 * rate / ideal:7.0f} % {cpu * 1e6:18,.0f}")


def _run(server: Server, name: str, at_once: int, more: tuple[str, ...]) -> tuple[float, float]:
    """Return messages a second, and seconds of CPU that the worker used for each."""
    queue = HotQueue(f"benchmark-{name}", url=server.url)
    count = round(at_once * SECONDS * 1000 / LEAST_MS)
    command = (sys.executable, "-m", "hotqueue.worker", "support.waiting", "-c1", "-lerror", "-u", server.url)
    worker = subprocess.Popen((*command, *more), cwd=_FOLDER, stdin=subprocess.DEVNULL)
    try:
        queue.enqueue(*range(at_once))  # warms up
        before = _wait_until_done(queue, at_once)
        spent_s, begun_s = cpu_s(family(worker.pid)), time.monotonic()
        queue.enqueue(*range(count))
        _wait_until_done(queue, before + count)
        elapsed_s = time.monotonic() - begun_s
        return count / elapsed_s, (cpu_s(family(worker.pid)) - spent_s) / count
    finally:
        worker.terminate()
        worker.wait(_PATIENCE_S)
        queue.clear()


def _wait_until_done(queue: HotQueue, count: int) -> int:
    """Wait until the queue is empty, and nothing of it in flight; return `count`."""
    end_s = time.monotonic() + _PATIENCE_S
    while (stats := queue.stats()).total or stats.done < count:
        if time.monotonic() > end_s:
            msg = f"{stats.total} messages are left"
            raise SystemExit(msg)
        time.sleep(0.01)
    return stats.done


if __name__ == "__main__":
    main()
