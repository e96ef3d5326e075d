"""What a long dead list costs: how long each use of it takes, and how long one call holds up Redis."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import redis
from support.options import positive
from support.report import machine
from support.server import KINDS, Server, private_server

from hotqueue import HotQueue, keys
from hotqueue.frame import new_id, pack
from hotqueue.serializers import RAW
from hotqueue.trail import Trail

QUEUE = "benchmark"
AT_ONCE = 1000
SOME = 100
SLOW_US = 100  # below that no call is looked at: the slow log has those inside of scripts, too
SLOW_CALLS = 100_000
OWN = (b"INFO", b"SLOWLOG")  # the commands of this benchmark


def fill(client: redis.Redis, messages: int, size: int) -> None:
    """A burial each millisecond, each with a traceback as an exception leaves it."""
    reason = {"kind": "failed", "error": "ValueError: no", "traceback": "x" * size}
    trail = Trail(failures=11).with_reason(**reason).dump()
    for start in range(0, messages, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, messages))
        client.zadd(
            keys.dead(QUEUE), {pack(b"x" * 100, RAW, message_id=new_id()) + trail: n for n in numbers}
        )


def measure(server: Server, messages: int, size: int) -> None:
    queue: HotQueue = HotQueue(QUEUE, url=server.url)
    client, dead = server.client(), queue.dead
    client.config_set("slowlog-log-slower-than", SLOW_US)
    client.config_set("slowlog-max-len", SLOW_CALLS)
    fill(client, messages, size)
    oldest, newest = next(iter(dead)), next(reversed(dead))
    some = list(islice(dead, SOME))
    acts: dict[str, Callable[[], object]] = {
        "len(dead)": lambda: len(dead),
        f"the newest {SOME}": lambda: list(islice(reversed(dead), SOME)),
        "get(id), the newest": lambda: dead.get(newest.id),
        "get(id), the oldest": lambda: dead.get(oldest.id),
        "all, oldest first": lambda: sum(1 for _ in dead),
        f"drop {SOME}": lambda: dead.drop(some),
        "retry() of all": dead.retry,
        "drop() of all": dead.drop,
    }
    for name, act in acts.items():
        if not dead:
            fill(client, messages, size)
        with timed(client, name):
            act()


@contextmanager
def timed(client: redis.Redis, name: str) -> Iterator[None]:
    client.slowlog_reset()
    trips, began_s = _trips(client), time.perf_counter()
    yield
    took_ms = 1000 * (time.perf_counter() - began_s)
    trips = _trips(client) - trips - 1
    slow = [
        each["duration"] for each in client.slowlog_get(SLOW_CALLS) if each["command"].split()[0] not in OWN
    ]
    longest = f"{max(slow) / 1000:.1f}" if slow else f"< {SLOW_US / 1000:.1f}"
    print(f"{name:22} {took_ms:10,.1f} {trips:11} {longest:>10}")


def _trips(client: redis.Redis) -> int:
    trips: int = client.info("stats")["total_reads_processed"]
    return trips


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=positive, default=200_000)
    options.add_argument("--traceback", type=positive, default=500, help="bytes of each one's traceback")
    options.add_argument("--server", choices=KINDS, default="valkey")
    chosen = options.parse_args()
    with private_server(chosen.server) as server:
        print(f"{server.version}, {chosen.messages} dead messages")
        print(machine())
        print(f"{'':22} {'ms':>10} {'round trips':>11} {'longest ms':>10}")
        measure(server, chosen.messages, chosen.traceback)


if __name__ == "__main__":
    main()
