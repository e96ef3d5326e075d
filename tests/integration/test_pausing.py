"""A paused queue: nothing more is begun, nothing is lost or moves, until it goes on."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, keys
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.at_most_once import AtMostOnce
from hotqueue.caretaker import Caretaker
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.consumer import Consumer
from hotqueue.delivery import Delivery, Lane, Progress, Unwatched
from hotqueue.errors import ConfigurationError
from hotqueue.execution import Executor
from hotqueue.handler import Handler, Mode
from hotqueue.rota import Rota
from hotqueue.wakeup import Wakeup
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

Q = "q"
DELIVERIES = ["at-least-once", "at-most-once"]


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue(Q, url=redis_url)


@pytest.fixture(params=DELIVERIES)
def delivery(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


@contextmanager
def consuming(handler: Handler[..., Any], times: int = 1) -> Iterator[None]:
    """Loops as `handler.run()` makes them, each in a thread, told to stop after the block."""
    with ExitStack() as stack:
        for _ in range(times):
            caretaker = Caretaker(handler.queue.name, handler.queue.address)
            stack.enter_context(caretaker.caring())
            lane = handler.queue.lane(handler.options.delivery, caretaker)
            stack.enter_context(consumer([handler], [lane], caretaker))
        yield


@contextmanager
def consumer(handlers: list[Handler[..., Any]], lanes: list[Lane], progress: Progress) -> Iterator[None]:
    """One consumer of several queues in a thread, told to stop after the block."""
    executor = Executor([handler.queue.assignment(handler) for handler in handlers])
    with ExitStack() as stack:
        wakeup = Wakeup()
        stack.callback(wakeup.close)
        rota = Rota([handler.queue.name for handler in handlers])
        thread = threading.Thread(target=Consumer(lanes, executor, rota, wakeup, progress).run)
        thread.start()
        stack.callback(thread.join, 60)
        stack.callback(wakeup.set)
        yield


def waiting(client: redis.Redis) -> int:
    return int(client.llen(keys.key_for_name(Q)))  # type: ignore[arg-type]


def blocked(server: LiveServer) -> int:
    return int(server.admin.info("clients")["blocked_clients"])


def test_of_a_paused_queue_nothing_is_run_until_it_goes_on(
    queue: HotQueue, client: redis.Redis, delivery: Mode
) -> None:
    done: list[str] = []
    handler = queue.worker(delivery=delivery)(done.append)
    queue.enqueue("a", "b")
    queue.pause()
    handler.run(block=False)
    handler.run(timeout=0.2)
    assert done == []
    assert waiting(client) == 2
    queue.resume()
    handler.run(block=False)
    assert done == ["a", "b"]


@pytest.mark.parametrize("seconds", [0.3, timedelta(milliseconds=300)], ids=repr)
def test_a_pause_can_end_by_itself(queue: HotQueue, delivery: Mode, seconds: Any) -> None:
    done: list[float] = []
    handler = queue.worker(delivery=delivery)(lambda _message: done.append(time.monotonic()))
    queue.enqueue("a")
    began = time.monotonic()
    queue.pause(seconds)
    with consuming(handler):
        wait_until(lambda: done)
    assert done[0] - began >= 0.29


def test_a_pause_without_an_end_outlives_one_with_an_end(queue: HotQueue, client: redis.Redis) -> None:
    queue.pause(100)
    queue.pause()
    assert client.pttl(keys.paused(Q)) == -1


@pytest.mark.parametrize("seconds", [-1, "10m", float("inf")])
def test_a_pause_of_no_length_is_refused(queue: HotQueue, client: redis.Redis, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds must be seconds or a timedelta"):
        queue.pause(seconds)
    assert client.exists(keys.paused(Q)) == 0


def test_consumers_that_wait_are_called_off_and_then_take_nothing(
    queue: HotQueue, server: LiveServer, client: redis.Redis, delivery: Mode
) -> None:
    done: list[int] = []
    handler = queue.worker(delivery=delivery)(done.append)
    with consuming(handler, times=3):
        wait_until(lambda: blocked(server) == 3)
        queue.pause()
        wait_until(lambda: blocked(server) == 0)
        queue.enqueue(*range(10))
        never = time.monotonic() + 1.2
        wait_until(lambda: time.monotonic() > never or waiting(client) < 10)
        assert client.llen(queue.key) == 10
        assert client.keys("*:inflight:*") == []
        queue.resume()
        wait_until(lambda: sorted(done) == list(range(10)))


def test_a_busy_consumer_ends_what_it_runs_and_begins_nothing_more(
    queue: HotQueue, client: redis.Redis, delivery: Mode
) -> None:
    done: list[int] = []
    paused = threading.Event()

    @queue.worker(delivery=delivery)
    def handle(message: int) -> None:
        if message == 1:
            queue.pause()
            paused.set()
            never = time.monotonic() + 4  # a pause is seen within a second, on a quiet machine
            wait_until(lambda: time.monotonic() > never)
        done.append(message)

    queue.enqueue(0, 1, 2, 3)
    with consuming(handle):
        assert paused.wait(60)
        wait_until(lambda: done == [0, 1])
        never = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > never or len(done) > 2)
        assert done == [0, 1]
        assert waiting(client) == 2
        queue.resume()
        wait_until(lambda: done == [0, 1, 2, 3])


def test_dequeue_and_consume_know_no_pause(queue: HotQueue) -> None:
    queue.enqueue("a", "b", "c")
    queue.pause()
    assert queue.dequeue() == "a"
    assert queue.dequeue(block=True, timeout=5) == "b"
    assert list(queue.consume(timeout=0.01)) == ["c"]


def test_a_loop_of_one_s_own_waits_until_the_queue_goes_on(queue: HotQueue) -> None:
    queue.enqueue("a")
    began = time.monotonic()
    queue.pause(0.5)
    for delivery in queue.deliveries(timeout=5):
        assert time.monotonic() - began >= 0.49
        delivery.ack()
        break
    else:
        pytest.fail("nothing came")


class Paused(Unwatched):
    """A progress that says what a test tells it to."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.began: list[str] = []

    def is_paused(self, queue: str) -> bool:
        return queue in self.queues

    def started(self, delivery: Delivery) -> bool:
        may_run = delivery.queue not in self.queues
        self.began += [delivery.queue] * may_run
        return may_run


def test_what_a_wait_still_catches_goes_back_unrun_and_in_order(
    queue: HotQueue, server: LiveServer, client: redis.Redis, delivery: Mode
) -> None:
    progress, done = Paused(), []
    with consumer([queue.worker(done.append)], [queue.lane(delivery, progress)], progress):
        wait_until(lambda: blocked(server) == 1)
        progress.queues.add(Q)
        queue.enqueue("a", "b", "c")
        wait_until(lambda: blocked(server) == 0 and waiting(client) == 3)
        assert done == progress.began == []
        progress.queues.clear()
        wait_until(lambda: done == ["a", "b", "c"])


def test_what_was_claimed_at_once_goes_back_in_order_and_what_is_done_stays_done(
    queue: HotQueue, client: redis.Redis
) -> None:
    progress, done = Paused(), []
    lane = AtLeastOnce(Q, Connection(queue.address, CONSUMER_TIMEOUT_S), progress, prefetch=5)
    queue.enqueue(0, 1, 2, 3, 4)

    def finished(_queue: str, index: int) -> None:
        if index == 1:
            progress.queues.add(Q)

    progress.finished = finished  # type: ignore[method-assign]
    with consumer([queue.worker(done.append)], [lane], progress):
        wait_until(lambda: waiting(client) == 3)
        assert done == [0, 1]
        progress.finished = lambda _queue, _index: None  # type: ignore[method-assign]
        progress.queues.clear()
        wait_until(lambda: done == [0, 1, 2, 3, 4])


def test_other_queues_of_the_same_consumer_go_on(redis_url: str, client: redis.Redis, delivery: Mode) -> None:
    queues = [HotQueue(name, url=redis_url) for name in (Q, "other")]
    progress, done = Paused(), []
    progress.queues.add(Q)
    for queue in queues:
        queue.enqueue(queue.name)
    if delivery == "at-most-once":
        connection = Connection(queues[0].address, CONSUMER_TIMEOUT_S)
        lanes: list[Lane] = [AtMostOnce([Q, "other"], connection, progress)]
    else:
        lanes = [queue.lane(delivery, progress) for queue in queues]
    with consumer([queue.worker(done.append) for queue in queues], lanes, progress):
        wait_until(lambda: done == ["other"])
        queues[1].enqueue("more")
        wait_until(lambda: done == ["other", "more"])
        assert waiting(client) == 1
        progress.queues.clear()
        wait_until(lambda: done == ["other", "more", Q])
