"""Handlers that take their time: what share of it is theirs, and whether a message ever waits in vain.

The first handler computes for 1 ms, the second waits for 100 ms in four children, with messages coming one at
a time and in bursts. In vain is a wait while another child idles.
"""

import argparse
import os
import random
import select
import tempfile
import time
from pathlib import Path
from statistics import median

from support.options import positive
from support.report import machine
from support.running import CHILDREN, wait_until_idle, worker
from support.server import Server, private_server
from support.taking import COMPUTES_MS, RECORD, TOLD, WAITS_MS, computing, waiting

from hotqueue import HotQueue

_PATIENCE_S = 60.0
_NS_MS = 1_000_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=positive, default=3, help="runs of the first")
    options.add_argument("--seconds", type=float, default=3.0, help="that a run of the first takes at best")
    options.add_argument("--messages", type=positive, default=200, help="for the second")
    told = options.parse_args()
    with private_server() as server, tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder:
        print(f"{server.version}, {machine()} before")
        pipe = Path(folder, "told")
        os.mkfifo(pipe)
        os.environ[TOLD] = str(pipe)
        reader = os.open(pipe, os.O_RDWR)
        rates = _rates(server, reader, told.rounds, told.seconds)
        share = 100 * median(rates) * COMPUTES_MS / 1000
        print(f"{COMPUTES_MS} ms, one child: {median(rates):,.0f} messages/s, {share:.1f} % of the time")
        in_vain = _waited_in_vain(server, reader, told.messages)
        print(f"{WAITS_MS} ms, {CHILDREN} children, {told.messages} messages: waited while a child idled, ms")
        for name, value in (("median", median(in_vain)), ("most", max(in_vain))):
            print(f"{name:8} {value / _NS_MS:.2f}")


def _rates(server: Server, reader: int, rounds: int, seconds: float) -> list[float]:
    """Return how many messages were run in a second; the first round only warms up."""
    queue = HotQueue(computing.name, url=server.url)
    count = round(seconds * 1000 / COMPUTES_MS)
    rates = []
    with worker(server, target="support.taking:compute", children=1):
        wait_until_idle(server, 1)
        for _ in range(1 + rounds):
            began_ns = time.monotonic_ns()
            queue.enqueue(*range(count - 1, -1, -1))
            ((_, _, _, ended_ns),) = _read(reader, 1)
            rates.append(count / (ended_ns - began_ns) * 1000 * _NS_MS)
    return rates[1:]


def _waited_in_vain(server: Server, reader: int, messages: int) -> list[int]:
    """Return for each message how many ns of its wait some child was idle."""
    queue = HotQueue(waiting.name, url=server.url)
    sent_ns: list[int] = []
    with worker(server, target="support.taking:wait"):
        wait_until_idle(server)
        while len(sent_ns) < messages:
            burst = min(random.choice([1, 1, 1, 2, 6, 20]), messages - len(sent_ns))
            sent_ns += [time.monotonic_ns()] * burst
            queue.enqueue(*range(len(sent_ns) - burst, len(sent_ns)))
            time.sleep(burst * random.uniform(0.5, 1.5) * WAITS_MS / 1000 / CHILDREN)
        ran = _read(reader, messages)
    busy = {pid: [(began, ended) for _, by, began, ended in ran if by == pid] for _, pid, _, _ in ran}
    return [_idle_ns(busy, sent_ns[number], began) for number, _, began, _ in ran]


def _idle_ns(busy: dict[int, list[tuple[int, int]]], since_ns: int, until_ns: int) -> int:
    """Return for how long at most one of the children was idle without a break in that time."""
    longest = 0
    for spans in busy.values():
        at = since_ns
        for began, ended in [*sorted(spans), (until_ns, until_ns)]:
            if ended < since_ns or began > until_ns:
                continue
            longest = max(longest, min(began, until_ns) - at)
            at = max(at, ended)
    return longest


def _read(reader: int, messages: int) -> list[tuple[int, int, int, int]]:
    found: list[tuple[int, int, int, int]] = []
    while len(found) < messages:
        if not select.select([reader], [], [], _PATIENCE_S)[0]:
            msg = f"{messages - len(found)} messages are left"
            raise SystemExit(msg)
        found += RECORD.iter_unpack(os.read(reader, RECORD.size * 100))
    return found


if __name__ == "__main__":
    main()
