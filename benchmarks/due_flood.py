"""How long Redis is held up while very many delayed messages become due at once.

Meanwhile another client sends PINGs, one after the other.
"""

import argparse
import threading
import time
from contextlib import closing

import redis
from support.server import KINDS, private_server

from hotqueue import keys
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.upkeep import Upkeep

QUEUE = "due_flood"
BATCH = 1000


def fill(client: redis.Redis, messages: int, size: int) -> None:
    """All due, each at a time of its own."""
    client.delete(keys.delayed(QUEUE), keys.key_for_name(QUEUE))
    for start in range(0, messages, BATCH):
        numbers = range(start, min(start + BATCH, messages))
        client.zadd(keys.delayed(QUEUE), {b"%0*d" % (size, number): number + 1 for number in numbers})


def ping(client: redis.Redis, ended: threading.Event, took_ms: list[float]) -> None:
    while not ended.is_set():
        begun = time.perf_counter()
        client.ping()
        took_ms.append((time.perf_counter() - begun) * 1000)


def measure(url: str, messages: int, size: int) -> None:
    client = redis.Redis.from_url(url)
    fill(client, messages, size)
    client.config_set("slowlog-log-slower-than", 200)
    client.config_set("slowlog-max-len", 10_000)
    client.slowlog_reset()
    ended, pings = threading.Event(), [0.0]
    pinging = threading.Thread(target=ping, args=(redis.Redis.from_url(url), ended, pings))
    with closing(Connection(Address.from_url(url), CONSUMER_TIMEOUT_S)) as connection:
        upkeep = Upkeep(QUEUE, connection)
        pinging.start()
        begun, steps = time.perf_counter(), 1
        while upkeep.tend() == 0.0:
            steps += 1
        took_s = time.perf_counter() - begun
    ended.set()
    pinging.join()
    slow = sorted(entry["duration"] / 1000 for entry in client.slowlog_get(10_000))
    moved = client.lrange(keys.key_for_name(QUEUE), 0, -1)
    ordered = moved == sorted(moved) and len(moved) == messages
    print(
        f"{messages} messages of {size} bytes moved in {took_s:.2f} s and {steps} steps, in order: {ordered}"
    )
    median, longest = slow[len(slow) // 2], slow[-1]
    print(f"by SLOWLOG a step took {median:.1f} ms (median) and {longest:.1f} ms at most")
    print(f"longest of {len(pings)} PINGs meanwhile: {max(pings):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--server", choices=KINDS, default="valkey")
    chosen = parser.parse_args()
    with private_server(chosen.server) as server:
        print(server.version)
        measure(server.url, chosen.messages, chosen.bytes)


if __name__ == "__main__":
    main()
