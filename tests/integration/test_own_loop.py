"""The loop in the caller's own process and thread: `handler()` and `handler.run()`."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent
from hotqueue.errors import Refused
from tests.support.commands import Running, app, start
from tests.support.servers import LiveServer, free_port, fresh_server
from tests.support.waiting import wait_until

DELIVERIES = ["at-least-once", "at-most-once"]


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("myqueue", url=redis_url)


def in_flight(client: redis.Redis) -> list[bytes]:
    return client.keys("*:inflight:*")


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_loop_without_block_ends_when_the_queue_is_empty(
    queue: HotQueue, client: redis.Redis, delivery: Any
) -> None:
    done: list[int] = []
    handler = queue.worker(delivery=delivery, block=False)(done.append)
    handler()
    queue.enqueue(*range(20))
    handler()
    assert done == list(range(20))
    assert len(queue) == 0
    assert in_flight(client) == []
    assert client.zcard("{hotqueue:myqueue}:consumers") == 0


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_loop_with_a_timeout_ends_after_so_many_idle_seconds(queue: HotQueue, delivery: Any) -> None:
    done: list[int] = []
    handler = queue.worker(delivery=delivery, timeout=0.05)(done.append)
    queue.enqueue(1, 2)
    handler()
    assert done == [1, 2]
    handler.run(timeout=0.01)
    assert done == [1, 2]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_what_is_there_is_handled_however_short_the_timeout(queue: HotQueue, delivery: Any) -> None:
    """As on a machine so slow that the time is over before Redis was asked."""
    done: list[int] = []
    queue.enqueue(1, 2)
    queue.worker(delivery=delivery)(done.append).run(timeout=1e-9)
    assert done == [1, 2]


def test_arguments_before_the_message_are_handed_on(queue: HotQueue) -> None:
    saved: list[Any] = []

    @queue.worker(block=False)
    def save(db: list[Any], message: str) -> None:
        db.append(message)

    queue.enqueue("a")
    save(saved)  # type: ignore[call-arg]
    queue.enqueue("b")
    save.run(saved)
    assert saved == ["a", "b"]


def test_a_method_consumes_with_its_object(redis_url: str) -> None:
    class Mailer:
        queue = HotQueue("mails", url=redis_url)

        def __init__(self) -> None:
            self.delivered: list[str] = []

        @queue.worker(block=False)
        def deliver(self, mail: str) -> None:
            self.delivered.append(mail)

    mailer = Mailer()
    mailer.deliver.send("hello")
    mailer.deliver()
    assert mailer.delivered == ["hello"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_handler_that_raises_ends_its_message_and_not_the_loop(
    queue: HotQueue, client: redis.Redis, error: BaseException, delivery: Any
) -> None:
    done: list[str] = []

    @queue.worker(delivery=delivery, block=False, retries=0)
    def handle(message: str) -> None:
        if message == "bad":
            raise error
        done.append(message)

    queue.enqueue("good", "bad", "fine")
    handle()
    assert done == ["good", "fine"]
    (dead,) = client.zrange("{hotqueue:myqueue}:dead", 0, -1)
    assert type(error).__name__.encode() in dead


def test_an_async_handler_runs_on_one_event_loop_to_its_end(queue: HotQueue) -> None:
    seen: list[Any] = []

    @queue.worker(block=False)
    async def handle(message: str) -> None:
        await asyncio.sleep(0)
        seen.append((message, asyncio.get_running_loop()))

    queue.enqueue("a", "b")
    handle()
    assert [message for message, _ in seen] == ["a", "b"]
    assert len({loop for _, loop in seen}) == 1
    assert seen[0][1].is_closed()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_loop_in_another_thread_leaves_signals_alone(queue: HotQueue, delivery: Any) -> None:
    done: list[str] = []
    handler = queue.worker(delivery=delivery)(done.append)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    thread = threading.Thread(target=lambda: handler.run(timeout=0.5))
    queue.enqueue("a")
    thread.start()
    wait_until(lambda: done == ["a"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    thread.join(60)
    assert not thread.is_alive()


def test_two_loops_in_two_threads_share_the_messages(queue: HotQueue) -> None:
    done: list[int] = []
    handler = queue.worker(done.append)
    threads = [threading.Thread(target=lambda: handler.run(timeout=0.3)) for _ in range(2)]
    queue.enqueue(*range(200))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(200))


def test_a_server_that_cannot_be_reached_ends_the_loop_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(NotSent, match="nothing was sent"):
        HotQueue("myqueue", port=free_port()).worker(print).run()
    with fresh_server(tmp_path, requirepass="right") as server, pytest.raises(Refused, match="NOAUTH"):
        HotQueue("myqueue", port=server.port).worker(print).run()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_loop_outlives_a_restart_of_the_server(tmp_path: Path, delivery: Any) -> None:
    done: list[str] = []
    with fresh_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        queue = HotQueue("myqueue", port=server.port)
        handler = queue.worker(delivery=delivery)(done.append)
        thread = threading.Thread(target=lambda: handler.run(timeout=6))
        thread.start()
        queue.enqueue("before")
        wait_until(lambda: done == ["before"])
        server.restart()
        queue.enqueue("after")
        wait_until(lambda: done == ["before", "after"])
        thread.join(30)


SCRIPT = """
    import signal, sys, threading
    from hotqueue import HotQueue

    queue = HotQueue("myqueue")
    gate = HotQueue("gate")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    @queue.worker(delivery="{delivery}")
    def handle(message):
        print("begun", message, flush=True)
        if message == "slow":
            gate.dequeue(block=True)
        print("done", message, flush=True)

    handle()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    print("returned", flush=True)
"""


@pytest.fixture(params=DELIVERIES)
def loop(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Running]:
    """A process that consumes with one handler; "slow" is done when the queue `gate` has a message."""
    script = app(tmp_path, SCRIPT.replace("{delivery}", request.param))
    with start(sys.executable, str(script), env={"HOTQUEUE_URL": redis_url}) as running:
        yield running


def said(loop: Running, line: str) -> Callable[[], bool]:
    return lambda: line in loop.stdout_text().splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_running_message_finish_and_the_loop_returns(
    loop: Running, queue: HotQueue, redis_url: str, client: redis.Redis, number: int
) -> None:
    queue.enqueue("quick", "slow", "not any more")
    wait_until(said(loop, "begun slow"))
    loop.signal(number)
    HotQueue("gate", url=redis_url).enqueue("open")
    assert loop.wait() == 0
    assert loop.stdout_text().split("\n")[-3:] == ["done slow", "returned", ""]
    assert list(queue.consume(block=False)) == ["not any more"]
    assert in_flight(client) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_loop_that_waits(
    loop: Running, server: LiveServer, queue: HotQueue, client: redis.Redis, number: int
) -> None:
    wait_until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
    loop.signal(number)
    assert loop.wait() == 0
    assert loop.stdout_text() == "returned\n"
    queue.enqueue("still there")
    assert len(queue) == 1
    assert in_flight(client) == []


def test_a_second_ctrl_c_leaves_at_once_and_under_at_least_once_the_message_goes_back(
    loop: Running, queue: HotQueue, client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    at_least_once = "at-least-once" in request.node.name.partition("[")[2]
    queue.enqueue("slow", "second")
    wait_until(said(loop, "begun slow"))
    # Again and again: two signals that come too close together are one.
    wait_until(lambda: loop.process.poll() is not None or loop.signal(signal.SIGINT))
    assert loop.process.returncode == -signal.SIGINT
    assert "done slow" not in loop.stdout_text()
    assert list(queue.consume(block=False)) == (["slow", "second"] if at_least_once else ["second"])
    assert in_flight(client) == []
