"""How long a worker of four children takes from its start to the first message, and from TERM to its end."""

import argparse
from statistics import median

from support.running import CHILDREN, wait_until_idle, worker
from support.server import Server, private_server
from support.timed import queue, times

RUNS = 20
BUSY_S = 0.3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=RUNS)
    runs = options.parse_args().runs
    with private_server() as server:
        print(f"{server.version}, {CHILDREN} children, {runs} runs each, milliseconds: p50 / max")
        starts, idle = zip(*(_idle(server) for _ in range(runs)), strict=True)
        _print("start to the first message", starts)
        _print("TERM to the end, idle", idle)
        _print("end of the last message to the end, busy", [_busy(server) for _ in range(runs)])


def _idle(server: Server) -> tuple[float, float]:
    _queues(server)[0].enqueue(0.0)
    with worker(server) as one:
        began_s = _next(server, "began")
        wait_until_idle(server)
        sent_s, ended_s = one.stop()
    _queues(server)[1].clear()
    return began_s - one.started_s, ended_s - sent_s


def _busy(server: Server) -> float:
    with worker(server) as one:
        wait_until_idle(server)
        _queues(server)[0].enqueue(*[BUSY_S] * CHILDREN)
        for _ in range(CHILDREN):
            _next(server, "began")
        _, ended_s = one.stop()
    return ended_s - max(_next(server, "ended") for _ in range(CHILDREN))


def _queues(server: Server) -> tuple[type(queue), type(queue)]:
    return type(queue)(queue.name, url=server.url), type(queue)(times.name, "json", url=server.url)


def _next(server: Server, wanted: str) -> float:
    while True:
        what, when_s = _queues(server)[1].dequeue(block=True, timeout=60)
        if what == wanted:
            return float(when_s)


def _print(what: str, seconds: object) -> None:
    values = [1000 * each for each in seconds]
    print(f"{what:42} {median(values):8.1f} / {max(values):.1f}")


if __name__ == "__main__":
    main()
