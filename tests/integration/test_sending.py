"""How one message is accepted: later, first, once per key, while there is room, on disk."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent, OutcomeUnknown, keys, outbox
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import ConfigurationError, Full, Refused
from hotqueue.upkeep import Upkeep
from tests.support.proxy import proxy_to
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

Q = "q"
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
def queue(any_server: LiveServer) -> HotQueue:
    return HotQueue(Q, url=any_server.url)


@pytest.fixture
def admin(any_server: LiveServer) -> redis.Redis:
    return any_server.admin


@pytest.fixture
def upkeep(any_server: LiveServer) -> Iterator[Upkeep]:
    with closing(Connection(Address.from_url(any_server.url), CONSUMER_TIMEOUT_S)) as connection:
        yield Upkeep(Q, connection)


def server_ms(admin: redis.Redis) -> float:
    seconds, microseconds = admin.time()
    return seconds * 1000 + microseconds / 1000


def due_ms(admin: redis.Redis) -> list[float]:
    return [score for _, score in admin.zrange(keys.delayed(Q), 0, -1, withscores=True)]


def waiting(queue: HotQueue) -> list[Any]:
    return list(queue.consume(block=False))


# Delays


@pytest.mark.parametrize("delay", [100, 100.0005, timedelta(seconds=100.0005)], ids=repr)
def test_a_delay_counts_from_now_by_the_clock_of_the_server(
    queue: HotQueue, admin: redis.Redis, delay: Any
) -> None:
    delay_ms = (delay.total_seconds() if isinstance(delay, timedelta) else delay) * 1000
    before = server_ms(admin)
    assert queue.send("a", delay=delay)
    after = server_ms(admin)
    (due,) = due_ms(admin)
    assert before + delay_ms - 0.001 <= due <= after + delay_ms + 0.001
    assert len(queue) == 0


def test_a_time_is_that_time_in_whatever_zone_it_is_said(queue: HotQueue, admin: redis.Redis) -> None:
    at = datetime(2099, 7, 1, 12, 0, 0, 250_700, tzinfo=UTC)
    queue.send("a", at=at)
    queue.send("b", at=at.astimezone(timezone(timedelta(hours=-7))))
    assert due_ms(admin) == [at.timestamp() * 1000] * 2


@pytest.mark.parametrize("terms", [{"delay": 0}, {"delay": timedelta()}, {"at": LONG_AGO}], ids=str)
def test_what_is_due_already_waits_at_once(
    queue: HotQueue, admin: redis.Redis, terms: dict[str, Any]
) -> None:
    queue.enqueue("a")
    queue.send("b", **terms)
    assert waiting(queue) == ["a", "b"]
    assert due_ms(admin) == []


def test_what_is_due_is_moved_in_the_order_of_its_time_and_nothing_earlier(
    queue: HotQueue, admin: redis.Redis, upkeep: Upkeep
) -> None:
    for message, delay_s in [("c", 1.0), ("a", 0.1), ("never", 1000), ("b", 0.1), ("b2", 0.1)]:
        queue.send(message, delay=delay_s)
    dues = due_ms(admin)
    moved: list[Any] = []
    while len(moved) < 4:
        upkeep.tend()
        now = server_ms(admin)
        moved += waiting(queue)
        assert len(moved) <= sum(due <= now for due in dues), "one came early"
    assert moved == ["a", "b", "b2", "c"]
    assert len(due_ms(admin)) == 1


@pytest.mark.parametrize("delay_s", [0.0004, 0.0015, 0.01, 0.3])
def test_the_upkeep_comes_again_when_the_next_message_is_due(
    queue: HotQueue, admin: redis.Redis, upkeep: Upkeep, delay_s: float
) -> None:
    before = server_ms(admin)
    queue.send("a", delay=delay_s)
    while not len(queue):
        time.sleep(upkeep.tend())
    assert server_ms(admin) - before >= delay_s * 1000
    assert upkeep.tend() == 1.0


def test_a_flood_of_due_messages_is_moved_in_order_in_small_steps(
    queue: HotQueue, any_server: LiveServer, upkeep: Upkeep
) -> None:
    count = 5_000
    with any_server.admin.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.zadd(keys.delayed(Q), {b"%06d" % number: number + 1})
        pipe.execute()
    steps = 0
    while upkeep.tend() == 0.0:
        steps += 1
    assert any_server.admin.lrange(queue.key, 0, -1) == [b"%06d" % number for number in range(count)]
    assert steps >= count / 500


def test_due_messages_of_megabytes_are_moved_one_at_a_time(
    queue: HotQueue, any_server: LiveServer, upkeep: Upkeep
) -> None:
    for number in range(3):
        any_server.admin.zadd(keys.delayed(Q), {b"%d" % number + bytes(1 << 20): 1})
    lengths = []
    for _ in range(3):
        upkeep.tend()
        lengths.append(len(queue))
    assert lengths == [1, 2, 3]


def test_a_full_server_still_moves_what_is_due(queue: HotQueue, admin: redis.Redis, upkeep: Upkeep) -> None:
    queue.send("a", delay=0.01)
    admin.config_set("maxmemory", 1)
    try:
        wait_until(lambda: upkeep.tend() and len(queue))
    finally:
        admin.config_set("maxmemory", 0)
    assert waiting(queue) == ["a"]


def test_a_loop_in_this_process_delivers_what_was_delayed(queue: HotQueue) -> None:
    done: list[Any] = []

    def handle(message: float) -> None:
        done.append((message, time.monotonic() - sent_s >= message))

    sent_s = time.monotonic()
    for delay_s in (0.0, 0.2, 0.4):  # the next one is due later, however long this takes
        queue.send(delay_s, delay=delay_s)
    queue.worker(handle).run(timeout=4)
    assert done == [(0.0, True), (0.2, True), (0.4, True)]


def test_what_is_sent_to_the_front_is_next(queue: HotQueue) -> None:
    queue.enqueue("a", "b")
    queue.send("first", front=True)
    assert waiting(queue) == ["first", "a", "b"]


# Once per key


def test_under_one_key_only_the_first_message_is_accepted_and_its_id_returned(queue: HotQueue) -> None:
    first = queue.send("a", unique="order 7")
    assert queue.send("b", unique="order 7") == first
    assert queue.send("b", unique="order 7", front=True, delay=None) == first
    assert queue.send("c", unique="order 8") != first
    assert waiting(queue) == ["a", "c"]


def test_neither_running_nor_clearing_nor_dying_frees_the_key(queue: HotQueue) -> None:
    def fail(message: object) -> None:
        raise ValueError

    first = queue.send("a", unique="k")
    queue.worker(retries=0)(fail).run(block=False)
    assert queue.send("b", unique="k") == first
    queue.dead.retry()
    queue.clear()
    assert queue.send("b", unique="k") == first
    assert len(queue) == 0


def test_the_key_is_free_again_after_its_time_from_the_first_send(
    queue: HotQueue, admin: redis.Redis
) -> None:
    first = queue.send("a", unique="k", unique_for=0.2)
    assert admin.pttl(keys.unique(Q, "k")) <= 200
    wait_until(lambda: queue.send("b", unique="k", unique_for=1000) != first, what="the key is free")
    assert waiting(queue) == ["a", "b"]


def test_a_key_counts_for_an_hour(queue: HotQueue, admin: redis.Redis) -> None:
    queue.send("a", unique="k")
    assert 3_590_000 < admin.pttl(keys.unique(Q, "k")) <= 3_600_000


def test_keys_belong_to_their_queue(queue: HotQueue, any_server: LiveServer) -> None:
    other = HotQueue("other", url=any_server.url)
    assert queue.send("a", unique="k") != other.send("a", unique="k")
    assert len(queue) == len(other) == 1


def test_many_senders_of_one_key_send_one_message(queue: HotQueue) -> None:
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda number=number: ids.append(queue.send(number, unique="k")))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 20
    assert len(set(ids)) == 1
    assert len(queue) == 1


@pytest.mark.parametrize("point", ["before the request", "before the reply", "inside the reply"])
@pytest.mark.parametrize("terms", [{}, {"delay": 100}, {"front": True}], ids=str)
def test_a_send_whose_outcome_is_unknown_is_safely_repeated(
    any_server: LiveServer, admin: redis.Redis, point: Any, terms: dict[str, Any]
) -> None:
    with proxy_to(any_server.port) as proxy:
        queue = HotQueue(Q, url=proxy.url)
        queue.send("warm up", unique="other")  # so that the server has the script
        proxy.harm(point, on=b"unique:k")
        with pytest.raises(OutcomeUnknown):
            queue.send("a", unique="k", **terms)
        queue.send("a", unique="k", **terms)
    assert len(queue_of(any_server)) + admin.zcard(keys.delayed(Q)) == 2


def test_a_repeated_send_hears_that_it_was_accepted_though_the_queue_is_full_by_now(
    any_server: LiveServer,
) -> None:
    queue = HotQueue(Q, url=any_server.url, max_length=1)
    first = queue.send("a", unique="k")
    assert queue.send("a", unique="k") == first
    with pytest.raises(Full):
        queue.send("b", unique="other")
    waiting(queue)
    assert queue.send("b", unique="other") != first  # what was refused has taken no key


def test_a_key_is_not_taken_by_a_send_that_is_refused(queue: HotQueue, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 1)
    try:
        for terms in ({}, {"delay": 10}, {"front": True}):
            with pytest.raises(Refused, match="OOM"):
                queue.send("a", unique="k", **terms)  # type: ignore[arg-type]
        with pytest.raises(NotSent):
            queue.send("a")
    finally:
        admin.config_set("maxmemory", 0)
    assert list(admin.scan_iter()) == []


def queue_of(server: LiveServer) -> HotQueue:
    return HotQueue(Q, url=server.url)


# Room


def test_a_full_queue_accepts_nothing_and_says_what_it_holds(any_server: LiveServer) -> None:
    queue = HotQueue(Q, url=any_server.url, max_length=3)
    queue.enqueue("a", "b")
    queue.send("c", delay=100)
    for accept in (lambda: queue.enqueue("d"), lambda: queue.send("d"), lambda: queue.send("d", delay=5)):
        with pytest.raises(Full) as caught:
            accept()
        assert str(caught.value) == "queue 'q' holds 3 messages, its max_length is 3: nothing was sent"
    assert waiting(queue) == ["a", "b"]
    queue.enqueue("d", "e")


def test_of_many_messages_all_are_accepted_or_none(any_server: LiveServer) -> None:
    queue = HotQueue(Q, url=any_server.url, max_length=3)
    queue.enqueue("a")
    with pytest.raises(Full):
        queue.enqueue("b", "c", "d")
    assert len(queue) == 1
    queue.enqueue("b", "c")
    assert waiting(queue) == ["a", "b", "c"]


def test_the_length_is_exact_however_many_send(any_server: LiveServer) -> None:
    queue = HotQueue(Q, url=any_server.url, max_length=50)
    refused: list[int] = []

    def send(accept: Callable[[int], object]) -> None:
        for number in range(30):
            try:
                accept(number)
            except Full:
                refused.append(number)

    acts = [
        queue.enqueue,
        queue.send,
        lambda n: queue.send(n, delay=100),
        lambda n: queue.send(n, front=True),
    ]
    threads = [threading.Thread(target=send, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(queue) + any_server.admin.zcard(keys.delayed(Q)) == 50
    assert len(refused) == 70


# On disk


def test_a_durable_message_is_confirmed_by_the_disk(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes", appendfsync="everysec") as server:
        queue = queue_of(server)
        first = queue.send("a", durable=True, unique="k")
        assert queue.send("a", durable=True, unique="k") == first
        server.kill()
        server.start()
        assert waiting(queue) == ["a"]


def test_without_anybody_to_confirm_it_a_durable_message_is_refused_before_it_is_sent(
    queue: HotQueue,
) -> None:
    with pytest.raises(ConfigurationError, match=r"set appendonly yes .* nothing was sent"):
        queue.send("a", durable=True)
    assert len(queue) == 0


def test_on_an_older_server_a_replica_confirms_a_durable_message(tmp_path: Path) -> None:
    with fresh_server(tmp_path, "redis", repl_diskless_sync_delay="0") as primary:
        place = f"127.0.0.1 {primary.port}"
        with fresh_server(tmp_path, "redis", replicaof=place) as replica:
            wait_until(lambda: replica.info["master_link_status"] == "up", 30, "the replica follows")
            queue = queue_of(primary)
            queue.send("a", durable=True)
            assert replica.admin.llen(queue.key) == 1


def test_what_nobody_confirms_in_time_was_accepted_and_its_outcome_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DURABLE_S", 0.3)
    with fresh_server(tmp_path, appendonly="yes", appendfsync="no") as server:
        queue = queue_of(server)
        with pytest.raises(OutcomeUnknown, match=r"was accepted, but it was not confirmed within 0\.3 s"):
            queue.send("a", durable=True)
        assert waiting(queue) == ["a"]


def test_whoever_repeats_a_durable_send_waits_for_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DURABLE_S", 0.3)
    with fresh_server(tmp_path, appendonly="yes", appendfsync="no") as server:
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="was accepted, but it was not confirmed"):
                queue_of(server).send("a", durable=True, unique="k", unique_for=100)  # by another connection
        assert 0 < server.admin.pttl(keys.unique(Q, "k")) <= 100_000
        server.admin.config_set("appendfsync", "always")
        monkeypatch.undo()
        queue_of(server).send("a", durable=True, unique="k")
        assert waiting(queue_of(server)) == ["a"]


def test_a_server_that_dies_before_it_confirms_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes") as server, proxy_to(server.port) as proxy:
        queue = HotQueue(Q, url=proxy.url)
        proxy.harm("before the reply", on=b"$3\r\n250\r\n")
        with pytest.raises(OutcomeUnknown):
            queue.send("a", durable=True)
        assert waiting(queue_of(server)) == ["a"]


# What makes no sense


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"delay": 1, "at": LONG_AGO}, "give delay= or at=, not both"),
        ({"front": True, "delay": 1}, "front=True is for messages that are due now"),
        ({"front": True, "at": LONG_AGO}, "front=True is for messages that are due now"),
        ({"at": datetime(2030, 1, 1)}, "at= needs a datetime with a time zone"),  # noqa: DTZ001
        ({"at": 1_900_000_000}, "at= needs a datetime with a time zone"),
        ({"delay": -1}, "delay must be seconds or a timedelta, not negative, got -1"),
        ({"delay": "1"}, "delay must be seconds or a timedelta, not negative, got '1'"),
        ({"delay": float("nan")}, "delay must be seconds"),
        ({"delay": float("inf")}, "delay must be seconds"),
        ({"delay": timedelta(days=-1)}, "delay must be seconds"),
        ({"expires": -0.1}, "expires must be seconds"),
        ({"expires": 5, "delay": 6}, "expires= must be longer than the delay: it would be too old before"),
        ({"expires": 5, "delay": timedelta(seconds=5)}, "expires= must be longer than the delay"),
        ({"expires": 5, "at": datetime(2099, 1, 1, tzinfo=UTC)}, "expires= must be longer than the delay"),
        ({"unique_for": 60}, "unique_for= says how long the key of unique= is taken: give both"),
        ({"unique": "k", "unique_for": -1}, "unique_for must be seconds"),
        ({"unique": ""}, "unique= must be text of 1 to 512 bytes, got ''"),
        ({"unique": "k" * 513}, "unique= must be text of 1 to 512 bytes, got 'kkk"),
        ({"unique": "\ud800"}, "unique= must be text of 1 to 512 bytes"),
        ({"unique": 7}, "unique= must be text of 1 to 512 bytes, got 7"),
        ({"unique": "k", "delay": 3600}, "unique_for= must be longer than the delay"),
        ({"unique": "k", "delay": 2, "unique_for": 2}, "unique_for= must be longer than the delay"),
        ({"unique": "k", "unique_for": 0}, "unique_for= must be longer than the delay"),
        ({"unique": "k", "at": datetime(2099, 1, 1, tzinfo=UTC)}, "unique_for= must be longer than"),
    ],
)
def test_terms_that_contradict_themselves_are_refused_in_one_line(terms: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HotQueue(Q, port=1).send("a", **terms)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("most", [0, -1, 1.5, "10", True])
def test_a_length_that_is_none_is_refused(most: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_length must be a whole number from 1"):
        HotQueue(Q, port=1, max_length=most)
