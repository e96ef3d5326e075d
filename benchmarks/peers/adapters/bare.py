"""What one would write by hand: a BLPOP loop of redis-py, at-most-once, one process each."""

import os
import pickle
import sys
from collections.abc import Callable

import redis
from peers.handlers import handle

KEY = "bare"
_client = redis.Redis.from_url(os.environ["BENCHMARK_URL"], socket_timeout=None)  # or an idle BLPOP ends


def command(_processes: int) -> list[str]:
    return [sys.executable, "-m", "peers.adapters.bare"]


def connect() -> Callable[[str], object]:
    return lambda message: _client.rpush(KEY, pickle.dumps(message))


def send_many(messages: list[str]) -> None:
    _client.rpush(KEY, *map(pickle.dumps, messages))


def loop() -> None:
    while True:
        _, body = _client.blpop([KEY])
        handle(pickle.loads(body))


if __name__ == "__main__":
    loop()
