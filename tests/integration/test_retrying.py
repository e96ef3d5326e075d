"""What becomes of a message whose handler fails: again later, and in the end dead with the reason."""

import json
import logging
import threading
import time
from contextlib import closing
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent, OutcomeUnknown, Reject, Retry, current, keys
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Unwatched
from hotqueue.ending import TRACEBACK_CHARACTERS
from hotqueue.envelope import trail_of
from hotqueue.frame import is_frame, unpack
from hotqueue.handler import Handler
from hotqueue.trail import Trail
from hotqueue.upkeep import Upkeep
from tests.support.faulty import Fault, Faulty, Kind
from tests.support.servers import LiveServer

Q = "q"
# The first command makes that it may be run on a full server.
HOUR_PASSES = """
    redis.call('LTRIM', 'nothing', 0, -1)
    for _, frame in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
        redis.call('ZINCRBY', KEYS[1], -3600000, frame)
    end
"""


class Bench:
    """A queue, what its handler was called with, and who looks after it."""

    def __init__(self, url: str, client: redis.Redis, **options: Any) -> None:
        self.url = url
        self.client = client
        self.queue = HotQueue(Q, url=url, **options)
        self.ran: list[Any] = []
        self._upkeep = Upkeep(Q, Connection(Address.from_url(url), CONSUMER_TIMEOUT_S))

    def run(self, handler: Handler[..., Any]) -> None:
        """Handle all that waits."""
        handler.run(block=False)

    def make_due(self) -> None:
        """Let the time pass that delayed messages have to wait."""
        self.client.eval(HOUR_PASSES, 1, keys.delayed(Q))
        self._upkeep.tend()

    @property
    def delayed(self) -> list[tuple[bytes, float]]:
        return self.client.zrange(keys.delayed(Q), 0, -1, withscores=True)

    @property
    def dead(self) -> list[Trail]:
        return [trail_of(raw) for raw in self.client.zrange(keys.dead(Q), 0, -1)]


@pytest.fixture
def bench(redis_url: str, client: redis.Redis) -> Bench:
    return Bench(redis_url, client)


def test_a_failed_message_waits_for_its_time_and_runs_again_as_a_later_attempt(bench: Bench) -> None:
    @bench.queue.worker(retries=2, backoff=[100, 200])
    def handle(message: str) -> None:
        delivery = current()
        assert delivery is not None
        bench.ran.append((message, delivery.id, delivery.attempt, dict(delivery.headers)))
        raise ValueError(message)

    sent = bench.queue.send("a", headers={"trace": "7f"})
    for delay_s in (100, 200):
        before_ms = time.time() * 1000
        bench.run(handle)
        ((frame, due_ms),) = bench.delayed
        assert before_ms + delay_s * 1000 <= due_ms <= time.time() * 1000 + delay_s * 1000 + 1
        assert trail_of(frame).reason["error"] == "ValueError: a"
        assert bench.dead == []
        bench.make_due()
    bench.run(handle)
    assert bench.ran == [("a", sent, attempt, {"trace": "7f"}) for attempt in (1, 2, 3)]
    assert bench.delayed == []
    (trail,) = bench.dead
    assert trail.failures == 3


def test_after_the_last_failure_the_reason_says_what_where_and_when(bench: Bench) -> None:
    @bench.queue.worker(retries=0)
    def handle(message: str) -> None:
        raise OSError(message)

    bench.queue.enqueue("disk full " * 10_000)
    before_ms = time.time() * 1000
    bench.run(handle)
    (trail,) = bench.dead
    reason = trail.reason
    assert (reason["kind"], reason["handler"]) == ("failed", "handle")
    assert str(reason["error"]).startswith("OSError: disk full disk full")
    assert before_ms - 1 <= reason["at"] <= time.time() * 1000  # type: ignore[operator]
    assert "disk full" in str(reason["traceback"])
    assert len(str(reason["traceback"])) <= TRACEBACK_CHARACTERS


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_is_no_exception_is_retried_too_and_then_buried(bench: Bench, error: BaseException) -> None:
    @bench.queue.worker(retries=1, backoff=0)
    def handle(message: str) -> None:
        bench.ran.append(message)
        raise error

    bench.queue.enqueue("a")
    bench.run(handle)
    assert bench.ran == ["a", "a"]
    assert len(bench.dead) == 1


def test_what_does_not_fail_keeps_its_order(bench: Bench) -> None:
    @bench.queue.worker(backoff=0)
    def handle(message: int) -> None:
        delivery = current()
        assert delivery is not None
        if message % 3 == 0 and delivery.attempt == 1:
            raise ValueError
        bench.ran.append(message)

    bench.queue.enqueue(*range(10))
    bench.run(handle)
    assert bench.ran == [1, 2, 4, 5, 7, 8, 0, 3, 6, 9]


def test_an_error_that_is_not_to_be_retried_buries_at_once(bench: Bench) -> None:
    @bench.queue.worker(retry_on=OSError, backoff=100)
    def handle(message: str) -> None:
        raise {"disk": OSError, "key": KeyError}[message](message)

    bench.queue.enqueue("disk", "key")
    bench.run(handle)
    assert [trail.reason["error"] for trail in bench.dead] == ["KeyError: 'key'"]
    assert len(bench.delayed) == 1


def test_a_handler_can_ask_for_another_time_but_not_for_ever(bench: Bench) -> None:
    busy = Retry("busy", delay=0)

    @bench.queue.worker(retries=1, retry_on=OSError)
    def handle(message: str) -> None:
        bench.ran.append(message)
        raise busy

    bench.queue.enqueue("a")
    bench.run(handle)
    assert bench.ran == ["a", "a"]
    assert [trail.reason["error"] for trail in bench.dead] == ["Retry: busy"]


def test_a_handler_can_reject_a_message_with_a_reason(bench: Bench) -> None:
    rejection = Reject("no such user")

    @bench.queue.worker
    def handle(message: str) -> None:
        raise rejection

    bench.queue.enqueue("a")
    bench.run(handle)
    (trail,) = bench.dead
    assert (trail.reason["kind"], trail.reason["error"]) == ("rejected", "no such user")
    assert bench.delayed == []


def test_at_most_once_buries_what_fails_also_when_it_asks_for_another_time(bench: Bench) -> None:
    @bench.queue.worker(delivery="at-most-once")
    def handle(message: BaseException) -> None:
        raise message

    bench.queue.enqueue(Retry(delay=0), ValueError())
    bench.run(handle)
    assert [trail.reason["error"] for trail in bench.dead] == [
        "Retry: the handler asked for it",
        "ValueError",
    ]
    assert bench.delayed == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(1)], ids=repr)
def test_a_backoff_that_raises_costs_no_message(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def backoff(failures: int) -> float:
        raise error

    @bench.queue.worker(backoff=backoff)
    def handle(message: str) -> None:
        raise ValueError

    bench.queue.enqueue("a")
    before_ms = time.time() * 1000
    with caplog.at_level(logging.ERROR, "hotqueue"):
        bench.run(handle)
    ((_, due_ms),) = bench.delayed
    assert before_ms + 7_500 <= due_ms <= time.time() * 1000 + 15_001
    assert [record.getMessage() for record in caplog.records] == ["backoff.failed handler=handle"]


def test_each_retry_is_a_warning_that_says_when_and_the_last_failure_an_error(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    @bench.queue.worker(retries=1, backoff=[0.0])
    def handle(message: str) -> None:
        raise ValueError

    bench.queue.enqueue("a")
    with caplog.at_level(logging.INFO, "hotqueue"):
        bench.run(handle)
    lines = [(record.levelname, record.getMessage().split()[0]) for record in caplog.records]
    assert lines == [("WARNING", "message.retried"), ("ERROR", "message.buried")]
    assert "again_in_s=0.0" in caplog.records[0].getMessage()


@pytest.mark.parametrize("serializer", ["json", "text"])
def test_a_bare_body_is_wrapped_keeps_its_count_and_is_bare_again_after_the_dead_list(
    redis_url: str, client: redis.Redis, serializer: str
) -> None:
    bench = Bench(redis_url, client, serializer=serializer)
    bodies = {"json": b'"a"', "text": b"a"}

    @bench.queue.worker(retries=1, backoff=1)
    def handle(message: str) -> None:
        delivery = current()
        assert delivery is not None
        bench.ran.append((message, delivery.id, delivery.attempt))
        raise ValueError

    client.rpush(bench.queue.key, bodies[serializer], bodies[serializer])  # equal, and yet two
    bench.run(handle)
    assert len(bench.delayed) == 2
    assert all(is_frame(frame) for frame, _ in bench.delayed)
    bench.make_due()
    bench.run(handle)
    assert bench.ran == [("a", None, 1), ("a", None, 1), ("a", None, 2), ("a", None, 2)]
    assert [trail.failures for trail in bench.dead] == [2, 2]
    assert bench.queue.dead.retry() == 2
    assert client.lrange(bench.queue.key, 0, -1) == [bodies[serializer]] * 2


def test_a_retried_frame_keeps_its_signature(redis_url: str, client: redis.Redis) -> None:
    bench = Bench(redis_url, client, secret="correct horse battery staple", strict=True)

    @bench.queue.worker(backoff=1)
    def handle(message: str) -> None:
        bench.ran.append(message)
        if len(bench.ran) == 1:
            raise ValueError

    bench.queue.enqueue("a")
    bench.run(handle)
    bench.make_due()
    bench.run(handle)
    assert bench.ran == ["a", "a"]
    assert bench.dead == []


def test_a_message_older_than_it_may_be_is_buried_unrun(bench: Bench) -> None:
    @bench.queue.worker(max_age=100)
    def handle(message: str) -> None:
        bench.ran.append(message)

    bench.queue.send("young", expires=99)
    bench.client.rpush(
        bench.queue.key,
        aged(bench, "old", by_s=60, expires_s=50),
        aged(bench, "older", by_s=101),
        aged(bench, "not that old", by_s=90),
        b"\x80\x04N.",  # a bare None: nobody knows its age
    )
    bench.run(handle)
    assert bench.ran == ["young", "not that old", None]
    assert [trail.reason["kind"] for trail in bench.dead] == ["expired", "expired"]
    assert [trail.failures for trail in bench.dead] == [0, 0]
    why = sorted(str(trail.reason["error"]).partition("within ")[2] for trail in bench.dead)
    assert why == ["100 s", "50 s"]


def test_what_expires_while_it_waits_to_be_run_again_is_not_run_again(bench: Bench) -> None:
    @bench.queue.worker(backoff=0)
    def handle(message: str) -> None:
        bench.ran.append(message)
        time.sleep(2.1)
        raise ValueError

    bench.queue.send("a", expires=2)
    bench.run(handle)
    assert bench.ran == ["a"]
    assert [trail.reason["kind"] for trail in bench.dead] == ["expired"]


def test_a_message_from_a_clock_that_is_ahead_is_not_too_old(bench: Bench) -> None:
    @bench.queue.worker(max_age=0)
    def handle(message: str) -> None:
        bench.ran.append(message)

    bench.client.rpush(bench.queue.key, aged(bench, "from tomorrow", by_s=-86_400))
    bench.run(handle)
    assert bench.ran == ["from tomorrow"]


def test_the_header_that_says_when_it_expires_is_json_for_others(bench: Bench) -> None:
    bench.queue.send("a", expires=1.5, headers={"trace": 1})
    (raw,) = bench.client.lrange(bench.queue.key, 0, -1)
    assert json.loads(unpack(raw).headers) == {"trace": 1, "hotqueue-expires": 1.5}


def aged(bench: Bench, message: str, by_s: float, expires_s: float | None = None) -> bytes:
    """The frame of a message that was enqueued so long ago."""
    _, raw = bench.queue._envelope.seal_with_id(message, None, expires_s)
    ms = int((time.time() - by_s) * 1000)
    return raw[:8] + ms.to_bytes(6, "big") + raw[14:]


@pytest.mark.parametrize("delay_s", [0.0, 100.0])
@pytest.mark.parametrize("kind", ["not sent", "refused", "request lost", "reply lost", "late"])
def test_whatever_becomes_of_a_retry_the_message_is_in_one_place_with_its_count(
    server: LiveServer, client: redis.Redis, kind: Kind, delay_s: float
) -> None:
    client.rpush(keys.key_for_name(Q), "a", "b", "c")
    connection = Faulty(Address.from_url(server.url))
    with closing(AtLeastOnce(Q, connection, Unwatched(), prefetch=3)) as lane:
        for _ in range(2):
            delivery = lane.take(Q)
            assert delivery is not None
            lane.begin(delivery)
            if delivery.raw == b"a":
                lane.ack(delivery)
        connection.faults[len(connection.sent)] = Fault(kind, len(connection.sent), late_by=3)
        with pytest.raises((NotSent, OutcomeUnknown)):
            lane.retry(delivery, b"b, again", delay_s)
    connection.deliver_late()
    delayed = client.zrange(keys.delayed(Q), 0, -1)
    assert sorted(delayed + client.lrange(keys.key_for_name(Q), 0, -1)) == [b"b, again", b"c"]
    assert client.keys("*:inflight:*") == []
    assert client.hget(keys.counters(Q), "done") == b"1"


def test_a_full_server_takes_retries(server: LiveServer, client: redis.Redis) -> None:
    bench = Bench(server.url, client)

    @bench.queue.worker(backoff=1, retries=1)
    def handle(message: str) -> None:
        bench.ran.append(message)
        raise ValueError

    bench.queue.enqueue("a", "b")
    client.config_set("maxmemory", 1)
    try:
        bench.run(handle)
        bench.make_due()
        bench.run(handle)
    finally:
        client.config_set("maxmemory", 0)
    assert bench.ran == ["a", "b", "a", "b"]
    assert len(bench.dead) == 2


def test_a_server_that_forgets_its_scripts_all_the_time_is_no_error(
    server: LiveServer, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    @bench.queue.worker(retries=1, backoff=0, retry_on=OSError)
    def handle(message: int) -> None:
        bench.ran.append(message)
        if message % 3 == 0:
            raise OSError if message % 2 else ValueError

    ended = threading.Event()

    def forget() -> None:
        with server.client() as own:
            while not ended.is_set():
                own.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        for number in range(300):
            bench.queue.send(number, unique=str(number))
        with caplog.at_level(logging.WARNING, "hotqueue"):
            bench.run(handle)
    finally:
        ended.set()
        thread.join(60)
    assert set(bench.ran) == set(range(300))
    assert len(bench.dead) == 100
    assert {record.getMessage().split()[0] for record in caplog.records} == {
        "message.retried",
        "message.buried",
    }
