"""The consumers that `drain.py` compares; `HOTQUEUE_URL` says where.

`hotqueue-worker support.application:NAME` runs a handler, `python -m support.application NAME` a loop.
"""

import pickle
import sys
from contextlib import closing

import redis
from support.noop import QUEUE, no_op

from hotqueue import HotQueue, identity, scripts
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.frame import unpack
from hotqueue.keys import inflight, key_for_name
from hotqueue.pace import MOST
from hotqueue.upkeep import LEASE_MS

WAIT_S = 1
queue = HotQueue(QUEUE)


@queue.worker(delivery="at-most-once")
def at_most_once(message: object) -> None:
    no_op(message)


@queue.worker
def at_least_once(message: object) -> None:
    no_op(message)


def bare() -> None:
    """As one would write it by hand: pop, unpickle, call."""
    with redis.Redis(port=queue.address.port) as client:
        while True:
            _, body = client.blpop(key_for_name(QUEUE))
            no_op(pickle.loads(body))


def claim() -> None:
    """The least that at-least-once can cost: the claim script, and nothing around it."""
    with closing(Connection(queue.address, CONSUMER_TIMEOUT_S)) as connection:
        name = identity.text(identity.new_incarnation())
        scripts.register(connection, QUEUE, name, LEASE_MS, identity.owner())
        waiting, own = key_for_name(QUEUE), inflight(QUEUE, name)
        number = done = 0
        while True:
            reply = scripts.take(connection, QUEUE, name, number, done=done, count=MOST, max_bytes=1 << 20)
            assert reply is not None
            number, *frames = reply
            if not frames:
                caught = connection.call("BLMOVE", waiting, own, "LEFT", "RIGHT", WAIT_S)
                frames = [] if caught is None else [caught]
            done = len(frames)
            for raw in frames:
                no_op(pickle.loads(unpack(raw).body))


def consume() -> None:
    for message in queue.consume():
        no_op(message)


if __name__ == "__main__":
    {"bare": bare, "claim": claim, "consume": consume, "run": at_least_once.run}[sys.argv[1]]()
