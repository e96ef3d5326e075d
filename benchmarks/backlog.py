"""What a backlog costs a worker: the same messages are drained in front of a small one and of a large one.

The handler does nothing, and there are four children. Linux.
"""

import argparse
import os
import re
import select
import tempfile
from pathlib import Path
from statistics import median

from support.noop import ENDED, QUEUE
from support.options import positive
from support.processes import cpu_s, family
from support.report import machine
from support.running import wait_until_idle, worker
from support.server import Server, private_server
from support.stopwatch import Stopwatch

from hotqueue import HotQueue
from hotqueue.keys import key_for_name

_PATIENCE_S = 60.0
_AT_ONCE = 1000  # messages enqueued in one call
_PAYLOAD = b"x" * 100
_STAGED = "benchmark-staged"
_HEADS = ("CPU, us", "of Redis, us", "round trips", "commands", "PSS, MB")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=positive, default=100_000, help="that are drained")
    options.add_argument("--rounds", type=positive, default=3, help="runs of each, in turn")
    options.add_argument("--backlogs", type=positive, nargs="+", default=[1000, 1_000_000])
    told = options.parse_args()
    found: dict[int, list[tuple[float, ...]]] = {backlog: [] for backlog in told.backlogs}
    with private_server() as server, tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder:
        print(f"{server.version}, {machine()} before")
        pipe = Path(folder, "ended")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDWR)
        os.environ |= {"HOTQUEUE_URL": server.url, ENDED: str(pipe)}
        for _ in range(told.rounds):
            for backlog, runs in found.items():
                runs.append(_drained(server, reader, told.messages, backlog))
    print(f"{'of a message, before':>22} {' '.join(f'{head:>12}' for head in _HEADS)}")
    for backlog, runs in found.items():
        values = (median(each) for each in zip(*runs, strict=True))
        print(f"{backlog:22,} {' '.join(f'{value:12.3f}' for value in values)}")


def _drained(server: Server, reader: int, messages: int, backlog: int) -> tuple[float, ...]:
    """Return what a message cost, and how much memory the worker had at the end of them."""
    with server.client() as client:
        client.flushall()
        staged = HotQueue(_STAGED, url=server.url)
        _fill(staged, messages)
        staged.enqueue(None)  # the handler tells when it sees it
        _fill(staged, backlog)
        with worker(server, target="support.application:at_least_once") as one:
            wait_until_idle(server)
            watch = Stopwatch(server.port, lambda: cpu_s(family(one.process.pid)))
            watch.press()
            client.rename(key_for_name(_STAGED), key_for_name(QUEUE))
            if not select.select([reader], [], [], _PATIENCE_S)[0]:
                msg = f"after {_PATIENCE_S:g} s nobody has come to the last message"
                raise SystemExit(msg)
            done = messages + backlog - client.llen(key_for_name(QUEUE))
            watch.press()
            os.read(reader, 1)
            pss_mb = sum(map(_pss_mb, one.members().values()))
            client.delete(key_for_name(QUEUE))
    measure = watch.measure
    assert measure is not None
    costs = (
        measure.client_cpu * 1e6,
        measure.server_cpu * 1e6,
        measure.round_trips,
        sum(measure.commands.values()),
    )
    return (*(cost / done for cost in costs), pss_mb)


def _fill(queue: HotQueue, count: int) -> None:
    for start in range(0, count, _AT_ONCE):
        queue.enqueue(*[_PAYLOAD] * min(_AT_ONCE, count - start))


def _pss_mb(pid: int) -> float:
    said = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(said[1]) / 1024 if said else 0.0


if __name__ == "__main__":
    main()
