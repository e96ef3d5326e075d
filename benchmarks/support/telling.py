"""Consumers that tell by a pipe when a message began to run: HotQueue's handlers, and a loop of redis-py.

`hotqueue-worker support.telling:NAME` runs a handler, `python -m support.telling` the loop.
"""

import os
import pickle
import time

import redis

from hotqueue import HotQueue

PIPE = "BENCHMARK_BEGAN"  # names the pipe
SIZE = 8  # bytes of one time, in ns of the monotonic clock
BARE = "benchmark-bare"

_pipe = os.open(os.environ[PIPE], os.O_WRONLY)


def _tell(_message: object) -> None:
    os.write(_pipe, time.monotonic_ns().to_bytes(SIZE))


at_least_once = HotQueue("benchmark-alo").worker(_tell)
at_most_once = HotQueue("benchmark-amo").worker(delivery="at-most-once")(_tell)


def _loop() -> None:
    with redis.Redis.from_url(os.environ["HOTQUEUE_URL"], socket_timeout=None) as client:
        while True:
            _, body = client.blpop(BARE)
            _tell(pickle.loads(body))


if __name__ == "__main__":
    _loop()
