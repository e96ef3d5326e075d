"""`queue.stats()` counts each message once, wherever it lies."""

import time
from datetime import timedelta
from math import inf

import pytest
import redis

from hotqueue import HotQueue, keys, scripts
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.scripts import NO_CLAIM
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

Q = "q"
ONE, TWO = "00000000000000a1", "00000000000000a2"


@pytest.fixture
def client(any_server: LiveServer) -> redis.Redis:
    return any_server.admin


@pytest.fixture
def queue(any_server: LiveServer, client: redis.Redis) -> HotQueue:
    return HotQueue(Q, url=any_server.url)


@pytest.fixture
def connection(any_server: LiveServer) -> Connection:
    return Connection(Address.from_url(any_server.url), CONSUMER_TIMEOUT_S)


def take(connection: Connection, incarnation: str, claim: int, *, done: int = 0, count: int = 1) -> None:
    assert scripts.take(connection, Q, incarnation, claim, done=done, count=count, max_bytes=1 << 20)


def test_an_empty_queue_has_nothing(queue: HotQueue) -> None:
    stats = queue.stats()
    assert (stats.waiting, stats.in_flight, stats.delayed, stats.dead, stats.done, stats.total) == (0,) * 6
    assert (stats.consumers, stats.oldest_s, stats.paused_s) == (0, None, None)


def test_each_message_is_counted_where_it_lies(
    queue: HotQueue, client: redis.Redis, connection: Connection
) -> None:
    queue.enqueue(*range(10))
    queue.send("later", delay=timedelta(hours=1))
    client.zadd(keys.dead(Q), {b"dead": 1})
    for incarnation in (ONE, TWO):
        scripts.register(connection, Q, incarnation, 60_000, "{}")
    take(connection, ONE, 0, count=3)
    take(connection, ONE, 1, done=3, count=2)
    take(connection, TWO, 0, count=1)
    stats = queue.stats()
    assert (stats.waiting, stats.in_flight, stats.delayed, stats.dead) == (4, 3, 1, 1)
    assert (stats.done, stats.consumers, stats.total) == (3, 2, 9)


def test_what_lies_on_the_list_of_a_retired_consumer_is_in_flight(
    queue: HotQueue, client: redis.Redis, connection: Connection
) -> None:
    scripts.register(connection, Q, ONE, 60_000, "{}")
    scripts.retire(connection, Q, ONE, NO_CLAIM, sweep_ms=60_000)
    client.rpush(keys.inflight(Q, ONE), b"a late command put it there")
    assert (queue.stats().in_flight, queue.stats().consumers) == (1, 0)


def test_the_age_is_that_of_the_next_message(queue: HotQueue) -> None:
    queue.enqueue("a")
    wait_until(lambda: (queue.stats().oldest_s or 0) > 0.05, what="it has aged")
    queue.send("b", front=True)
    young = queue.stats().oldest_s
    assert young is not None
    assert young < time.time()
    queue.dequeue()
    oldest = queue.stats().oldest_s
    assert oldest is not None
    assert oldest > young


def test_a_bare_message_has_no_age(queue: HotQueue, client: redis.Redis) -> None:
    client.rpush(queue.key, "bare")
    assert queue.stats().waiting == 1
    assert queue.stats().oldest_s is None


def test_a_pause_is_seen_with_its_end(queue: HotQueue) -> None:
    queue.pause(60)
    paused_s = queue.stats().paused_s
    assert paused_s is not None
    assert 0 < paused_s <= 60
    queue.pause()
    assert queue.stats().paused_s == inf
    queue.resume()
    assert queue.stats().paused_s is None


def test_thousands_of_consumers_are_counted(
    queue: HotQueue, client: redis.Redis, connection: Connection
) -> None:
    names = [f"{n:016x}" for n in range(1, 2501)]
    client.zadd(keys.consumers(Q), dict.fromkeys(names, time.time() * 1000 + 60_000))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.rpush(keys.inflight(Q, name), "frame")
        pipe.execute()
    assert (queue.stats().consumers, queue.stats().in_flight) == (2500, 2500)
