"""`await queue.asend(...)`: what `send` does, without holding up the event loop."""

import asyncio
import inspect
import os
import threading
import time
from typing import Any

import pytest

from hotqueue import HotQueue, NotSent, OutcomeUnknown, keys
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.offload import THREADS
from tests.support.proxy import HARMLESS, Proxy
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("q", url=redis_url)


def test_asend_returns_the_id_and_takes_what_send_takes(queue: HotQueue) -> None:
    async def produce() -> list[str]:
        return [
            await queue.asend("a", headers={"tenant": 7}, expires=60),
            await queue.asend("b", unique="key", unique_for=60),
            await queue.asend("c", unique="key"),
            await queue.asend("d", delay=1000),
            await queue.asend("e", front=True),
        ]

    ids = asyncio.run(produce())
    assert ids[1] == ids[2]
    assert len(set(ids)) == 4
    assert (queue.stats().delayed, list(queue.consume(block=False))) == (1, ["e", "a", "b"])


def test_asend_is_declared_as_send_is() -> None:
    """Both are written out, for editors and the reference."""
    ways = [inspect.signature(way) for way in (HotQueue.send, HotQueue.asend)]
    assert ways[0] == ways[1]


def test_a_handler_sends_so_too(queue: HotQueue) -> None:
    handler = queue.worker(print)
    assert asyncio.run(handler.asend("a", unique="key")) == handler.send("a", unique="key")
    assert queue.dequeue() == "a"


@pytest.mark.parametrize(
    ("message", "terms", "error"),
    [(lambda: None, {}, BadMessage), ("a", {"delay": 1, "front": True}, ConfigurationError)],
    ids=["no pickle", "contradiction"],
)
def test_what_send_refuses_is_refused(queue: HotQueue, message: Any, terms: Any, error: type) -> None:
    with pytest.raises(error):
        asyncio.run(queue.asend(message, **terms))
    assert len(queue) == 0


def test_many_at_once_are_all_sent_by_few_connections(queue: HotQueue, server: LiveServer) -> None:
    async def produce() -> list[str]:
        return await asyncio.gather(*(queue.asend(number) for number in range(500)))

    before = server.info["total_connections_received"]
    assert len(set(asyncio.run(produce()))) == 500
    assert server.info["total_connections_received"] - before <= THREADS
    assert sorted(queue.consume(block=False)) == list(range(500))


def test_the_loop_goes_on_while_redis_is_frozen(proxy: Proxy, queue: HotQueue) -> None:
    sender = HotQueue("q", port=proxy.port, socket_timeout=60)
    ticks = 0

    async def produce() -> str:
        nonlocal ticks
        await sender.asend("warm up")
        proxy.harm("freeze", on=keys.key_for_name("q").encode())
        sending = asyncio.create_task(sender.asend("frozen"))
        while ticks < 50:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not sending.done()
        proxy.thaw()
        return await sending

    assert asyncio.run(produce())
    assert ticks == 50
    assert list(queue.consume(block=False)) == ["warm up", "frozen"]


def test_other_calls_of_the_loop_find_threads_while_redis_is_frozen(proxy: Proxy) -> None:
    sender = HotQueue("q", port=proxy.port, socket_timeout=60)

    async def produce() -> None:
        await sender.asend("warm up")
        proxy.harm("freeze", on=keys.key_for_name("q").encode())
        frozen = asyncio.create_task(sender.asend("frozen"))
        waiting = [asyncio.create_task(sender.asend(number)) for number in range(3 * THREADS)]
        assert await asyncio.to_thread(lambda: "served") == "served"
        proxy.thaw()
        await asyncio.gather(frozen, *waiting)

    asyncio.run(produce())


def test_it_raises_not_sent_where_redis_is_away() -> None:
    with pytest.raises(NotSent):
        asyncio.run(HotQueue("q", port=1).asend("a"))


def test_a_lost_reply_is_raised_and_nothing_is_sent_again(proxy: Proxy, queue: HotQueue) -> None:
    sender = HotQueue("q", url=proxy.url)
    sender.send("warm up")
    proxy.harm("before the reply", on=keys.key_for_name("q").encode())
    with pytest.raises(OutcomeUnknown):
        asyncio.run(sender.asend("a"))
    assert list(queue.consume(block=False)) == ["warm up", "a"]


def test_who_is_cancelled_cannot_know_and_with_a_key_can_repeat(proxy: Proxy, queue: HotQueue) -> None:
    sender = HotQueue("q", port=proxy.port, socket_timeout=60)
    sender.send("warm up", unique="other")

    async def produce() -> str:
        proxy.harm("freeze", on=b"unique:key")
        sending = asyncio.create_task(sender.asend("a", unique="key"))
        while proxy._on != HARMLESS:  # noqa: ASYNC110 - until Redis would have it, as the proxy knows
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        proxy.thaw()
        return await sender.asend("a", unique="key")

    assert asyncio.run(produce())
    wait_until(lambda: len(queue) == 2)
    assert list(queue.consume(block=False)) == ["warm up", "a"]


def test_a_loop_that_ended_leaves_connections_that_the_next_one_uses(
    queue: HotQueue, server: LiveServer
) -> None:
    asyncio.run(queue.asend("a"))
    before = server.info["total_connections_received"]
    asyncio.run(queue.asend("b"))
    assert server.info["total_connections_received"] == before
    assert list(queue.consume(block=False)) == ["a", "b"]


def test_it_works_after_a_fork(queue: HotQueue) -> None:
    asyncio.run(queue.asend("parent"))
    child = os.fork()
    if not child:
        try:
            asyncio.run(queue.asend("child"))
            os._exit(0)
        finally:
            os._exit(1)
    deadline_s = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert ended[1] == 0
    assert list(queue.consume(block=False)) == ["parent", "child"]


def test_no_more_threads_than_are_told(queue: HotQueue) -> None:
    async def produce() -> None:
        await asyncio.gather(*(queue.asend(number) for number in range(100)))

    asyncio.run(produce())
    own = [thread for thread in threading.enumerate() if thread.name.startswith("hotqueue-asend")]
    assert 1 <= len(own) <= THREADS
