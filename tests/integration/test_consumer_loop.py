"""The loop: what it costs, what it outlives, and that whatever ends it nothing is lost."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent, consumer, keys
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.at_most_once import AtMostOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.consumer import Consumer
from hotqueue.delivery import Delivery, Lane, Unwatched
from hotqueue.events import Event
from hotqueue.execution import Executor
from hotqueue.pace import Pace
from hotqueue.rota import Rota
from hotqueue.wakeup import Wakeup
from tests.support.faulty import Fault, Faulty
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

NAMES = ["a", "b", "c"]
Act = Callable[[Any], Any]


class Words(logging.Handler):
    """The events of the library, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.msg, Event)
        self.events.append(record.msg)

    def count(self, name: str) -> int:
        return sum(event.name == name for event in self.events)


@pytest.fixture(autouse=True)
def words() -> Iterator[Words]:
    logger, words = logging.getLogger("hotqueue"), Words()
    before = logger.level
    logger.addHandler(words)
    logger.setLevel(logging.INFO)
    yield words
    logger.removeHandler(words)
    logger.setLevel(before)


class Loop:
    """A consumer of some queues with one handler; `run` in this thread, or `started` in another."""

    def __init__(self, url: str, act: Act, *, lanes: Sequence[Lane] = (), strict: bool = False) -> None:
        self.address = Address.from_url(url)
        self.lanes = list(lanes) or [self.lane(name) for name in NAMES]
        names = [name for lane in self.lanes for name in lane.queues]
        self.queues = {name: HotQueue(name, serializer=None, url=url) for name in names}
        assignments = [queue.assignment(queue.worker(retries=0)(act)) for queue in self.queues.values()]
        self.wakeup = Wakeup()
        self.progress = Unwatched()
        self.executor = Executor(assignments)
        self.rota = Rota(names, strict=strict)

    def lane(self, name: str) -> AtLeastOnce:
        return AtLeastOnce(name, Connection(self.address, CONSUMER_TIMEOUT_S), Unwatched())

    def run(self, idle_s: float | None = 0) -> None:
        try:
            Consumer(self.lanes, self.executor, self.rota, self.wakeup, self.progress).run(idle_s)
        finally:
            self.wakeup.close()

    @contextmanager
    def started(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: self.run(None))
        thread.start()
        try:
            yield
        finally:
            self.wakeup.set()
            thread.join(60)
            assert not thread.is_alive()


def blocked(server: LiveServer, number: int) -> Callable[[], bool]:
    def some() -> bool:
        with suppress(redis.exceptions.ConnectionError):
            return int(server.admin.info("clients")["blocked_clients"]) == number
        return False

    return some


def in_flight(client: redis.Redis) -> list[Any]:
    return list(client.scan_iter("*:inflight:*"))


def calls(client: redis.Redis) -> Counter[str]:
    """How often each command was run, alone or by a script, or refused, since `config_resetstat`."""
    return Counter(
        {
            name.removeprefix("cmdstat_"): each["calls"] + each["rejected_calls"]
            for name, each in client.info("commandstats").items()
        }
    )


def at_most_once(url: str, *names: str) -> AtMostOnce:
    return AtMostOnce(names, Connection(Address.from_url(url), CONSUMER_TIMEOUT_S), Unwatched())


def at_least_once(url: str, name: str, prefetch: int | None = 1) -> AtLeastOnce:
    connection = Connection(Address.from_url(url), CONSUMER_TIMEOUT_S)
    return AtLeastOnce(name, connection, Unwatched(), prefetch)


def test_queues_that_are_empty_are_not_asked_before_each_message_of_another(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "EMPTY_S", 60.0)
    ran: list[str] = []
    loop = Loop(
        redis_url, ran.append, lanes=[at_least_once(redis_url, name, 10) for name in NAMES], strict=True
    )
    loop.queues["c"].enqueue(*map(str, range(100)))
    client.config_resetstat()
    loop.run()
    assert ran == [str(number) for number in range(100)]
    # Ten claims; the rest is for registering, for the last look at all three, and for leaving.
    assert calls(client)["evalsha"] < 10 + 4 * len(NAMES)


def test_however_many_queues_are_empty_most_of_the_work_is_for_the_one_that_is_not(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []  # and each time takes a millisecond
    monkeypatch.setattr(consumer, "time", SimpleNamespace(monotonic=lambda: len(asked) / 1000))
    names = [f"queue{number}" for number in range(100)]
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, name) for name in names])
    loop.queues["queue50"].enqueue(*map(str, range(500)))
    for lane in loop.lanes:

        def take(queue: str, take: Callable[..., Any] = lane.take) -> Any:
            asked.append(queue)
            return take(queue)

        monkeypatch.setattr(lane, "take", take)
    loop.run()
    assert len(ran) == 500
    assert len(asked) < 500 * 3  # to ask all before each message, it was 50,000


def test_what_comes_into_a_queue_that_was_just_empty_is_found_before_the_loop_ends(redis_url: str) -> None:
    ran: list[str] = []

    def handle(message: str) -> None:
        ran.append(message)
        if message == "first":
            loop.queues["a"].enqueue("second")

    loop = Loop(redis_url, handle, strict=True)
    loop.queues["c"].enqueue("first")
    loop.run()
    assert ran == ["first", "second"]


def test_queues_of_both_deliveries_are_served_in_turn_each_message_once(
    redis_url: str, client: redis.Redis
) -> None:
    ran: list[str] = []
    loop = Loop(
        redis_url, ran.append, lanes=[at_least_once(redis_url, "a"), at_most_once(redis_url, "b", "c")]
    )
    for name in NAMES:
        loop.queues[name].enqueue(*(f"{name}{number}" for number in range(20)))
    loop.run()
    assert ran == [f"{name}{number}" for number in range(20) for name in NAMES]
    assert in_flight(client) == []


def test_what_was_revoked_before_it_was_begun_costs_its_queue_no_turn(redis_url: str) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, name, 2) for name in "ab"])
    revoked = iter([b"a2", b"b3"])
    awaited = next(revoked)

    def started(delivery: Delivery) -> bool:
        nonlocal awaited
        may_run = delivery.raw != awaited
        awaited = awaited if may_run else next(revoked, b"")
        return may_run

    for lane in loop.lanes:
        lane._progress.started = started  # type: ignore[attr-defined]
    for name in "ab":
        loop.queues[name].enqueue(*(f"{name}{number}" for number in range(6)))
    loop.run()
    assert ran == [f"{name}{number}" for number in range(6) for name in "ab"]


def test_a_strict_order_empties_the_first_queue_first(redis_url: str) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, strict=True)
    for name in reversed(NAMES):
        loop.queues[name].enqueue(f"{name}1", f"{name}2")
    loop.run()
    assert ran == ["a1", "a2", "b1", "b2", "c1", "c2"]


def test_a_message_for_an_idle_consumer_of_several_queues_runs_once_whichever_it_is(
    redis_url: str, client: redis.Redis, server: LiveServer
) -> None:
    ran: list[str] = []
    loop = Loop(
        redis_url, ran.append, lanes=[at_least_once(redis_url, "a"), at_most_once(redis_url, "b", "c")]
    )
    with loop.started():
        for number in range(10):
            for name in NAMES:
                wait_until(blocked(server, 2))
                loop.queues[name].enqueue(f"{name}{number}")
                wait_until(lambda expected=f"{name}{number}": ran[-1:] == [expected])
    assert len(ran) == 30
    assert in_flight(client) == []


def test_of_what_two_queues_bring_at_once_one_runs_and_the_other_waits_for_whoever_is_free(
    redis_url: str, client: redis.Redis, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "EMPTY_TIMES", 0.0)
    ran: list[str] = []
    go = threading.Event()

    def act(message: str) -> None:
        ran.append(message)
        go.wait(30)

    lanes = [at_least_once(redis_url, "a"), at_least_once(redis_url, "b"), at_most_once(redis_url, "c")]
    for lane, seconds in zip(lanes, [0.0, 60.0, 0.0], strict=True):  # how long each is known as empty

        def take(queue: str, take: Callable[..., Any] = lane.take, empty_s: float = seconds) -> Any:
            monkeypatch.setattr(consumer, "EMPTY_S", empty_s)
            return take(queue)

        monkeypatch.setattr(lane, "take", take)
    loop = Loop(redis_url, act, lanes=lanes, strict=True)
    with loop.started():
        wait_until(blocked(server, 3))
        with client.pipeline(transaction=True) as at_once:
            for name in reversed(NAMES):
                at_once.rpush(loop.queues[name].key, name)
            at_once.execute()
        try:
            wait_until(lambda: ran)
            assert ran == ["a"]
            assert [client.llen(loop.queues[name].key) for name in NAMES] == [0, 1, 1]
        finally:
            go.set()
        wait_until(lambda: ran == NAMES)


def test_a_claim_does_not_wait_long_while_a_queue_before_it_has_messages(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "EMPTY_S", 0.0)
    monkeypatch.setattr(consumer, "EMPTY_TIMES", 0.0)
    now_s = 100.0
    waiting: list[int] = []

    def act(message: str) -> None:
        nonlocal now_s
        if message == "50":  # in the middle of a claim
            loop.queues["a"].enqueue("slow", "next")
        elif message == "slow":
            now_s += 1.0
        elif message == "next":
            waiting.append(client.llen(loop.queues["b"].key))

    lanes = [at_least_once(redis_url, "a"), at_least_once(redis_url, "b", None)]
    lanes[1]._pace = Pace(None, clock=lambda: now_s)
    loop = Loop(redis_url, act, lanes=lanes, strict=True)
    loop.queues["b"].enqueue(*map(str, range(60)))
    loop.run()
    assert waiting == [9]
    assert in_flight(client) == []


def test_on_a_full_queue_at_least_once_costs_one_round_trip_and_five_commands_a_message(
    redis_url: str, client: redis.Redis
) -> None:
    loop = Loop(redis_url, lambda _: None, lanes=[lane := at_least_once(redis_url, "a")])
    loop.queues["a"].enqueue(*map(str, range(100)))
    lane.open()
    client.config_resetstat()
    loop.run()
    spent = calls(client)
    assert spent["evalsha"] == 100 + 1 + 1  # one that finds it empty, and one that retires
    assert spent["lmove"] == 100 + 1 + 1
    assert (spent["ltrim"], spent["hget"], spent["hset"], spent["hincrby"]) == (102, 102, 101, 100)
    assert spent["blmove"] == 0


def test_on_a_full_queue_at_most_once_costs_one_command_a_message(
    redis_url: str, client: redis.Redis, server: LiveServer
) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_most_once(redis_url, *NAMES)])
    for name in NAMES:
        loop.queues[name].enqueue(*map(str, range(30)))
    client.config_resetstat()
    with loop.started():
        wait_until(lambda: len(ran) == 90)
        wait_until(blocked(server, 1))
        spent = calls(client)
    assert spent["blpop"] == 90  # and one that still waits
    assert spent["lpop"] == spent["evalsha"] == 0


def test_an_idle_queue_costs_a_wait_and_an_acknowledgement_a_message(
    redis_url: str, client: redis.Redis, server: LiveServer
) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, "a")])
    with loop.started():
        wait_until(blocked(server, 1))
        client.config_resetstat()
        for number in range(20):
            loop.queues["a"].enqueue(str(number))
            wait_until(lambda number=number: len(ran) == number + 1)
            wait_until(blocked(server, 1))
        spent = calls(client)
    assert (spent["evalsha"], spent["blmove"]) == (20, 20)


@pytest.mark.parametrize("prefetch", [2, 3, 50])
def test_a_claim_of_several_is_acknowledged_by_one_round_trip(
    redis_url: str, client: redis.Redis, prefetch: int
) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, "a", prefetch)])
    loop.queues["a"].enqueue(*map(str, range(100)))
    client.config_resetstat()
    loop.run()
    assert ran == list(map(str, range(100)))
    assert calls(client)["evalsha"] <= 100 / prefetch + 5
    assert in_flight(client) == []


@pytest.mark.parametrize("prefetch", [1, 3])
def test_handlers_that_fail_in_the_middle_of_a_claim_bury_just_theirs(
    redis_url: str, client: redis.Redis, prefetch: int
) -> None:
    ran: list[str] = []

    def act(message: str) -> None:
        ran.append(message)
        if int(message) % 3 != 1:
            raise ValueError(message)

    loop = Loop(redis_url, act, lanes=[at_least_once(redis_url, "a", prefetch), at_most_once(redis_url, "b")])
    loop.queues["a"].enqueue(*map(str, range(10)))
    loop.run()
    assert ran == list(map(str, range(10)))
    assert client.zcard(keys.dead("a")) == 7
    assert in_flight(client) == []


def test_a_stop_lets_the_running_message_finish_and_leaves_the_rest(
    redis_url: str, client: redis.Redis
) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, "a", 3)])
    loop.queues["a"].enqueue(*"12345")

    def act(message: str) -> None:
        ran.append(message)
        loop.wakeup.set()

    loop.executor = Executor([loop.queues["a"].assignment(loop.queues["a"].worker(retries=0)(act))])
    loop.run(None)
    assert ran == ["1"]
    assert client.lrange(loop.queues["a"].key, 0, -1) == [b"2", b"3", b"4", b"5"]
    assert in_flight(client) == []


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """One that may be restarted, and keeps its data."""
    with fresh_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.mark.parametrize("lanes", ["at least once", "at most once", "both"])
def test_a_restart_while_it_waits_is_one_loss_and_one_return_before_any_message_comes(
    own_server: LiveServer, words: Words, lanes: str
) -> None:
    url = own_server.url
    chosen: dict[str, list[Lane]] = {
        "at least once": [at_least_once(url, name) for name in NAMES],
        "at most once": [at_most_once(url, *NAMES)],
        "both": [at_least_once(url, "a"), at_most_once(url, "b", "c")],
    }
    ran: list[str] = []
    loop = Loop(url, ran.append, lanes=chosen[lanes])
    with loop.started():
        wait_until(blocked(own_server, len(chosen[lanes])))
        own_server.restart()
        wait_until(blocked(own_server, len(chosen[lanes])))
        assert [event.name for event in words.events] == ["redis.lost", "redis.back"]
        for name in NAMES:
            loop.queues[name].enqueue(name)
        wait_until(lambda: sorted(ran) == NAMES)
    assert in_flight(own_server.admin) == []
    assert words.count("redis.lost") == words.count("redis.back") == 1


def test_a_redis_that_stays_away_is_lost_once_however_often_it_is_tried(
    own_server: LiveServer, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "BACK_OFF_S", (0.001, 0.02))
    tried: list[None] = []
    back_off = Consumer._back_off
    monkeypatch.setattr(Consumer, "_back_off", lambda *args: (tried.append(None), back_off(*args)))
    ran: list[str] = []
    loop = Loop(own_server.url, ran.append)
    with loop.started():
        wait_until(blocked(own_server, 3))
        own_server.kill()
        wait_until(lambda: len(tried) > 20)
        own_server.start()
        wait_until(lambda: words.count("redis.back"))
        loop.queues["b"].enqueue("after")
        wait_until(lambda: ran == ["after"])
    assert [event.name for event in words.events] == ["redis.lost", "redis.back", "message.done"]
    assert "Redis at 127.0.0.1" in str(words.events[0].fields["reason"])


def test_a_server_that_broke_a_wait_is_back_when_it_has_answered_and_not_when_another_has(
    redis_url: str, own_server: LiveServer, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_off = Consumer._back_off

    def with_something_elsewhere(*args: Any) -> None:
        loop.queues["a"].enqueue("elsewhere")
        back_off(*args)

    monkeypatch.setattr(Consumer, "_back_off", with_something_elsewhere)
    ran: list[str] = []
    lanes = [at_least_once(redis_url, "a"), at_least_once(own_server.url, "b")]
    loop = Loop(redis_url, ran.append, lanes=lanes, strict=True)
    with loop.started():
        wait_until(blocked(own_server, 1))
        own_server.kill()
        wait_until(lambda: ran)
        own_server.start()
        wait_until(lambda: words.count("redis.back"))
    told = [event.name for event in words.events if event.name != "message.done"]
    assert told == ["redis.lost", "redis.back"]


def test_what_was_done_while_redis_was_away_is_acknowledged_when_it_is_back(
    own_server: LiveServer, words: Words
) -> None:
    ran: list[str] = []

    def act(message: str) -> None:
        own_server.restart()
        ran.append(message)
        if message == "bad":
            raise ValueError(message)

    loop = Loop(own_server.url, act, lanes=[at_least_once(own_server.url, "a")])
    loop.queues["a"].enqueue("bad", "good")
    loop.run()
    assert ran == ["bad", "good"]
    assert own_server.admin.zcard(keys.dead("a")) == 1
    assert in_flight(own_server.admin) == []
    assert own_server.admin.llen(loop.queues["a"].key) == 0


def test_a_stop_ends_the_back_off(
    own_server: LiveServer, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "BACK_OFF_S", (3600.0, 3600.0))
    loop = Loop(own_server.url, print)
    with loop.started():
        wait_until(blocked(own_server, 3))
        own_server.stop()
        wait_until(lambda: words.count("redis.lost"))


class Away(AtMostOnce):
    """A lane whose server is not there."""

    def open(self) -> None:
        msg = "not there"
        raise NotSent(msg)


def test_the_back_off_doubles_from_a_tenth_of_a_second_to_thirty_with_jitter(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Away(["a"], Connection(Address.from_url(redis_url), CONSUMER_TIMEOUT_S), Unwatched())
    loop = Loop(redis_url, print, lanes=[lane])
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 60:
            loop.wakeup.set()

    monkeypatch.setattr("hotqueue.consumer.Waiter.pause", lambda _, seconds: pause(seconds))
    loop.run(None)
    for number, seconds in enumerate(paused):
        full = min(30.0, 0.1 * 2**number)
        assert full / 2 <= seconds <= full
    assert len({round(seconds, 6) for seconds in paused[10:]}) > 10


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def test_a_full_server_is_drained(redis_url: str, client: redis.Redis, words: Words) -> None:
    ran: list[str] = []

    def act(message: str) -> None:
        ran.append(message)
        if message == "a7":
            raise ValueError(message)

    loop = Loop(redis_url, act, lanes=[at_least_once(redis_url, "a"), at_most_once(redis_url, "b", "c")])
    for name in NAMES:
        loop.queues[name].enqueue(*(f"{name}{number}" for number in range(20)))
    with full(client):
        loop.run(0.3)  # it must come to a wait, however slow a look is
        assert sorted(ran) == sorted(f"{name}{number}" for name in NAMES for number in range(20))
        assert client.zcard(keys.dead("a")) == 1
        assert in_flight(client) == []
    assert words.count("redis.lost") == 0
    assert words.count("wait.refused") == 1


def test_on_a_full_server_it_looks_now_and_then_without_spinning_and_waits_again_when_there_is_room(
    redis_url: str, client: redis.Redis, words: Words, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    loop = Loop(redis_url, ran.append, lanes=[lane := at_least_once(redis_url, "a")])
    lane.open()
    monkeypatch.setattr(consumer, "LOOK_EVERY_S", 0.02)
    with full(client), loop.started():
        wait_until(lambda: words.count("wait.refused"))
        begun_s = time.monotonic()
        client.config_resetstat()
        wait_until(lambda: calls(client)["blmove"] >= 10)
        assert calls(client)["evalsha"] <= (time.monotonic() - begun_s) / 0.01 + 2
        assert client.zcard(keys.retired("a")) == 0
        client.config_set("maxmemory", 0)
        wait_until(blocked(server, 1))
        loop.queues["a"].enqueue("at last")
        wait_until(lambda: ran == ["at last"])
        assert words.count("wait.refused") == 1
        wait_until(blocked(server, 1))
        client.config_set("maxmemory", 1)
        client.client_unblock(lane.client_id)
        wait_until(lambda: words.count("wait.refused") == 2)


def test_who_may_not_wait_in_redis_looks_now_and_then(
    redis_url: str, client: redis.Redis, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "LOOK_EVERY_S", 0.01)
    commands = ["+@all", "-blmove", "-blpop"]
    client.acl_setuser("patient", enabled=True, nopass=True, keys=["*"], commands=commands)
    url = redis_url.replace("://", "://patient:any@")
    ran: list[str] = []
    try:
        for lanes in ([at_least_once(url, "a")], [at_most_once(url, "a")]):
            loop = Loop(url, ran.append, lanes=lanes)
            with loop.started():
                wait_until(lambda: words.count("wait.refused"))
                loop.queues["a"].enqueue("found")
                wait_until(lambda: ran == ["found"])
            ran.clear()
            words.events.clear()
    finally:
        client.acl_deluser("patient")


def test_before_a_message_of_one_queue_runs_what_is_done_of_another_is_acknowledged(
    redis_url: str, client: redis.Redis
) -> None:
    """So that a host that vanishes leaves at most one message to be run again for each child."""
    held: list[int] = []

    def act(message: str) -> None:
        held.append(sum(client.llen(key) for key in in_flight(client)))

    loop = Loop(redis_url, act)
    for name in NAMES:
        loop.queues[name].enqueue(*"12")
    loop.run()
    assert held == [1] * 6


@pytest.mark.parametrize("make", [at_least_once, at_most_once])
def test_a_message_is_not_dropped_because_another_queue_could_not_be_acknowledged(
    redis_url: str, client: redis.Redis, make: Callable[[str, str], Lane]
) -> None:
    ran: list[str] = []
    connection = Faulty(Address.from_url(redis_url))
    faulty = AtLeastOnce("b", connection, Unwatched())
    loop = Loop(redis_url, ran.append, lanes=[make(redis_url, "a"), faulty])
    faulty.open()
    begun = len(connection.sent)  # then comes a take with "b1", and the flush of that fails
    connection.faults[begun + 1] = Fault("request lost", begun + 1)
    loop.queues["a"].enqueue("a1", "a2", "a3")
    loop.queues["b"].enqueue("b1", "b2")
    loop.run()
    assert Counter(ran) == Counter(["a1", "a2", "a3", "b1", "b2"])
    assert connection.sent[begun + 1][0] == "EVALSHA"
    assert in_flight(client) == []


class Fallen(Exception):
    """A bug of ours."""


class Falls(Unwatched):
    """A progress that cannot be told what runs."""

    def started(self, delivery: Delivery) -> bool:
        raise Fallen


def test_a_bug_in_the_loop_ends_it_and_everything_goes_back(redis_url: str, client: redis.Redis) -> None:
    lanes = [at_least_once(redis_url, "a", 3), at_most_once(redis_url, "b", "c")]
    for lane in lanes:
        lane._progress = Falls()  # type: ignore[attr-defined]
    loop = Loop(redis_url, print, lanes=lanes)
    for name in NAMES:
        loop.queues[name].enqueue(*"123")
    with pytest.raises(Fallen):
        loop.run()
    for name in NAMES:
        assert client.lrange(loop.queues[name].key, 0, -1) == [b"1", b"2", b"3"]
    assert in_flight(client) == []
    assert client.zcard(keys.consumers("a")) == 0


def test_a_queue_without_a_handler_ends_the_loop_and_everything_goes_back(
    redis_url: str, client: redis.Redis
) -> None:
    loop = Loop(redis_url, print)
    loop.executor = Executor([])
    loop.queues["b"].enqueue("kept")
    with pytest.raises(KeyError):
        loop.run()
    assert client.lrange(loop.queues["b"].key, 0, -1) == [b"kept"]
    assert in_flight(client) == []


class ClosesBadly(AtMostOnce):
    """A lane that has a bug in its close."""

    def close(self) -> None:
        super().close()
        raise Fallen


def test_a_lane_that_cannot_be_closed_keeps_no_other_from_it(redis_url: str, client: redis.Redis) -> None:
    def connection() -> Connection:
        return Connection(Address.from_url(redis_url), CONSUMER_TIMEOUT_S)

    lanes = [
        at_least_once(redis_url, "a", 3),
        ClosesBadly(["b"], connection(), Unwatched()),
        at_least_once(redis_url, "c", 3),
    ]
    ran: list[str] = []

    def act(message: str) -> None:
        ran.append(message)
        loop.wakeup.set()

    loop = Loop(redis_url, act, lanes=lanes)
    for name in NAMES:
        loop.queues[name].enqueue(*"12")
    with pytest.raises(Fallen):
        loop.run()
    assert len(ran) == 1
    assert in_flight(client) == []
    assert sum(client.llen(queue.key) for queue in loop.queues.values()) == 5


def test_redis_lost_at_the_end_is_said_and_nothing_raised(own_server: LiveServer, words: Words) -> None:
    def act(message: str) -> None:
        loop.wakeup.set()
        own_server.stop()

    loop = Loop(own_server.url, act, lanes=[at_least_once(own_server.url, "a")])
    loop.queues["a"].enqueue("message")
    loop.run()
    lost = words.events[-1]
    assert (lost.name, lost.fields["queue"]) == ("redis.lost", "a")


def test_at_the_end_a_server_that_does_not_answer_is_waited_for_once_and_not_for_each_lane(
    redis_url: str, own_server: LiveServer, words: Words
) -> None:
    def act(message: str) -> None:
        loop.wakeup.set()
        os.kill(own_server.pid, signal.SIGSTOP)

    silent = Address.from_url(own_server.url)
    lanes = [AtLeastOnce(name, Connection(silent, 1.5), Unwatched()) for name in "abc"]
    loop = Loop(own_server.url, act, lanes=[*lanes, at_least_once(redis_url, "d")])
    loop.queues["a"].enqueue("message")
    for lane in lanes:
        lane.open()
    try:
        loop.run()
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    assert words.count("redis.lost") == 1


def test_what_a_task_does_at_its_end_does_not_keep_lanes_from_being_closed(
    redis_url: str, client: redis.Redis
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert in_flight(client) == []
            raise SystemExit from None

    tasks: list[asyncio.Task[None]] = []

    async def act(message: str) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    loop = Loop(redis_url, act, lanes=[at_least_once(redis_url, "a", 2)])
    loop.queues["a"].enqueue("1", "2", "3")
    with pytest.raises(SystemExit):
        loop.run()
    assert in_flight(client) == []
    assert isinstance(tasks[0].exception(), SystemExit)


def test_many_consumers_on_one_queue_share_its_messages(redis_url: str, client: redis.Redis) -> None:
    ran: list[str] = []
    with ExitStack() as stack:
        loops = [Loop(redis_url, ran.append, lanes=[at_least_once(redis_url, "a", 5)]) for _ in range(4)]
        for loop in loops:
            stack.enter_context(loop.started())
        for number in range(0, 600, 20):
            loops[0].queues["a"].enqueue(*map(str, range(number, number + 20)))
        wait_until(lambda: len(ran) >= 600)
    assert sorted(map(int, ran)) == list(range(600))
    assert in_flight(client) == []
