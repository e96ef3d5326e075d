"""The claim script of HotQueue and nothing around it: the least that at-least-once can cost."""

import os
import pickle
import sys
from collections.abc import Callable
from contextlib import closing

from peers.handlers import handle

from hotqueue import HotQueue, identity, scripts
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.frame import unpack
from hotqueue.keys import inflight
from hotqueue.pace import MOST
from hotqueue.upkeep import LEASE_MS

_WAIT_S = 1
_queue = HotQueue("claims", url=os.environ["BENCHMARK_URL"])


def command(_processes: int) -> list[str]:
    return [sys.executable, "-m", "peers.adapters.claims"]


def connect() -> Callable[[str], object]:
    return _queue.enqueue


def send_many(messages: list[str]) -> None:
    _queue.enqueue(*messages)


def loop() -> None:
    with closing(Connection(_queue.address, CONSUMER_TIMEOUT_S)) as connection:
        name = identity.text(identity.new_incarnation())
        scripts.register(connection, _queue.name, name, LEASE_MS, identity.owner())
        own = inflight(_queue.name, name)
        number = done = 0
        while True:
            reply = scripts.take(
                connection, _queue.name, name, number, done=done, count=MOST, max_bytes=1 << 20
            )
            assert reply is not None
            number, *frames = reply
            if not frames:
                caught = connection.call("BLMOVE", _queue.key, own, "LEFT", "RIGHT", _WAIT_S)
                frames = [] if caught is None else [caught]
            done = len(frames)
            for raw in frames:
                handle(pickle.loads(unpack(raw).body))


if __name__ == "__main__":
    loop()
