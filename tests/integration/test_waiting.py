"""Waiting on several lanes at once: whatever they bring is brought, and a stop is heard at any moment."""

import random
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest
import redis

from hotqueue import NotSent, OutcomeUnknown, at_least_once, keys, waiting
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.at_most_once import AtMostOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Delivery, Lane, Unwatched
from hotqueue.errors import Refused
from hotqueue.upkeep import Upkeep
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup
from tests.support.faulty import Fault, Faulty
from tests.support.proxy import Proxy
from tests.support.servers import LiveServer, free_port
from tests.support.waiting import wait_until

NAMES = ["a", "b", "c"]
TRIES = 200


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    with closing(Wakeup()) as wakeup:
        yield wakeup


@pytest.fixture
def waiter(wakeup: Wakeup) -> Iterator[Waiter]:
    with closing(Waiter(wakeup)) as waiter:
        yield waiter


def connections(url: str) -> Iterator[Connection]:
    while True:
        yield Connection(Address.from_url(url), CONSUMER_TIMEOUT_S)


def lane_on(url: str, name: str) -> AtLeastOnce:
    return AtLeastOnce(name, next(connections(url)), Unwatched())


@pytest.fixture
def lanes(redis_url: str) -> Iterator[list[AtLeastOnce]]:
    """One at-least-once lane for each name."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(lane_on(redis_url, name))) for name in NAMES]


@pytest.fixture
def mixed(redis_url: str, lanes: list[AtLeastOnce]) -> Iterator[list[Lane]]:
    """One lane at least once, and one for two queues at most once."""
    with closing(AtMostOnce(NAMES[1:], next(connections(redis_url)), Unwatched())) as popped:
        yield [lanes[0], popped]


def push(client: redis.Redis, name: str, body: str = "x") -> None:
    client.rpush(keys.key_for_name(name), body)


def settle(deliveries: Sequence[Delivery]) -> list[tuple[str, bytes]]:
    """Run them, so to say."""
    for delivery in deliveries:
        delivery.lane.begin(delivery)
        delivery.lane.ack(delivery)
    return [(delivery.queue, delivery.raw) for delivery in deliveries]


def blocked(server: LiveServer) -> int:
    return int(server.admin.info("clients")["blocked_clients"])


def while_waiting(server: LiveServer, number: int, act: Callable[[], Any]) -> threading.Thread:
    """Start a thread that acts once so many are blocked."""

    def run() -> None:
        wait_until(lambda: blocked(server) == number)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def lie_in_flight(client: redis.Redis) -> list[bytes]:
    return list(client.scan_iter("*:inflight:*"))


@pytest.mark.parametrize("name", NAMES)
def test_a_message_of_any_lane_ends_the_wait_and_no_lane_stays_blocked(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, server: LiveServer, name: str
) -> None:
    thread = while_waiting(server, 3, lambda: push(client, name))
    assert settle(waiter.wait(lanes, NAMES, 30)) == [(name, b"x")]
    thread.join()
    assert blocked(server) == 0


@pytest.mark.parametrize("name", NAMES)
def test_lanes_of_both_deliveries_wait_together(
    waiter: Waiter, mixed: list[Lane], client: redis.Redis, server: LiveServer, name: str
) -> None:
    thread = while_waiting(server, 2, lambda: push(client, name))
    assert settle(waiter.wait(mixed, NAMES, 30)) == [(name, b"x")]
    thread.join()


def test_what_several_lanes_bring_at_once_is_all_brought(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, server: LiveServer
) -> None:
    def push_all() -> None:
        with client.pipeline(transaction=True) as together:
            for name in NAMES:
                push(together, name)
            together.execute()

    thread = while_waiting(server, 3, push_all)
    assert sorted(settle(waiter.wait(lanes, NAMES, 30))) == [(name, b"x") for name in NAMES]
    thread.join()


def test_what_is_there_already_is_brought_at_once(
    waiter: Waiter, mixed: list[Lane], client: redis.Redis
) -> None:
    for name in NAMES:
        push(client, name)
    brought = settle(waiter.wait(mixed, ["b", "c", "a"], 30))
    assert set(brought) <= {("a", b"x"), ("b", b"x")}
    assert client.llen(keys.key_for_name("c")) == 1


def test_a_wait_ends_by_itself_with_nothing(waiter: Waiter, lanes: list[AtLeastOnce]) -> None:
    assert waiter.wait(lanes, NAMES, 0.05) == []
    assert waiter.wait(lanes, NAMES, 1e-9) == []


def test_no_command_blocks_longer_than_60_seconds(wakeup: Wakeup, waiter: Waiter, redis_url: str) -> None:
    connection = Faulty(Address.from_url(redis_url))
    wakeup.set()
    with closing(AtLeastOnce("a", connection, Unwatched())) as lane:
        assert waiter.wait([lane], ["a"], float("inf")) == []
    (command,) = [command for command in connection.sent if command[0] == "BLMOVE"]
    assert command[-1] == 60


def test_a_flag_that_is_set_already_ends_the_wait(
    wakeup: Wakeup, waiter: Waiter, mixed: list[Lane], server: LiveServer
) -> None:
    wakeup.set()
    assert waiter.wait(mixed, NAMES, 30) == []
    assert blocked(server) == 0


def test_a_wake_without_the_flag_ends_nothing(
    wakeup: Wakeup, waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, server: LiveServer
) -> None:
    def disturb() -> None:
        for _ in range(20):
            wakeup.wake()
        wait_until(lambda: not select.select([wakeup], [], [], 0)[0])  # or the wait would be a busy one
        wait_until(lambda: blocked(server) == 3)
        push(client, "b")

    thread = while_waiting(server, 3, disturb)
    assert settle(waiter.wait(lanes, NAMES, 30)) == [("b", b"x")]
    thread.join()


def test_a_pause_ends_with_the_flag(wakeup: Wakeup, waiter: Waiter) -> None:
    thread = threading.Thread(target=lambda: (wakeup.wake(), wakeup.set()))
    thread.start()
    waiter.pause(3600)
    thread.join()
    waiter.pause(3600)


def test_a_stop_at_any_moment_loses_and_strands_nothing(
    redis_url: str, mixed: list[Lane], client: redis.Redis
) -> None:
    chance = random.Random(11)
    sent: list[str] = []
    ran: list[bytes] = []
    for number in range(TRIES):
        body = str(number)
        acts: list[Callable[[], Any]] = [partial(push, client, chance.choice(NAMES), body)]
        with closing(Wakeup()) as wakeup, closing(Waiter(wakeup)) as waiter:
            acts.insert(chance.randrange(2), wakeup.set)
            sent.append(body)
            delay_s = chance.choice([0, 0.0005, 0.002])

            def disturb(acts: list[Callable[[], Any]] = acts, delay_s: float = delay_s) -> None:
                threading.Event().wait(delay_s)
                for act in acts:
                    act()

            thread = threading.Thread(target=disturb)
            thread.start()
            brought = waiter.wait(mixed, NAMES, 30)
            thread.join()
            if chance.random() < 0.5:
                ran += [raw for _, raw in settle(brought)]
            for lane in mixed:  # as at the end of a consumer; it is opened again for the next try
                lane.close()
    left = [body for name in NAMES for body in client.lrange(keys.key_for_name(name), 0, -1)]
    assert sorted(int(body) for body in [*ran, *left]) == sorted(map(int, sent))
    assert ran
    assert lie_in_flight(client) == []


@pytest.fixture
def restricted_url(client: redis.Redis, redis_url: str) -> Iterator[str]:
    """The same server for somebody who may not unblock others."""
    commands = ["+@all", "-client|unblock"]
    client.acl_setuser("restricted", enabled=True, passwords=["+secret"], keys=["*"], commands=commands)
    yield redis_url.replace("://", "://restricted:secret@")
    client.acl_deluser("restricted")


def test_who_may_not_unblock_waits_in_short_pieces_and_still_hears_the_stop(
    wakeup: Wakeup, waiter: Waiter, restricted_url: str, client: redis.Redis, server: LiveServer
) -> None:
    connection = Faulty(Address.from_url(restricted_url))
    with (
        closing(AtLeastOnce("a", connection, Unwatched())) as one,
        closing(AtMostOnce(["b"], next(connections(restricted_url)), Unwatched())) as other,
    ):
        thread = while_waiting(server, 2, lambda: push(client, "a"))
        while not (brought := waiter.wait([one, other], NAMES, 30)):
            pass
        assert settle(brought) == [("a", b"x")]
        thread.join()
        assert {command[-1] for command in connection.sent if command[0] == "BLMOVE"} == {waiting.SHORT_S}
        thread = while_waiting(server, 2, wakeup.set)
        while not wakeup.is_set:
            assert waiter.wait([one, other], NAMES, 30) == []
        thread.join()
        assert not one._connection.reply_due


def test_a_control_connection_that_was_cut_is_made_again(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, server: LiveServer
) -> None:
    for name in NAMES:
        thread = while_waiting(server, 3, lambda name=name: push(client, name))
        assert settle(waiter.wait(lanes, NAMES, 30)) == [(name, b"x")]
        thread.join()
        (control,) = waiter._controls
        client.client_kill_filter(_id=control.call("CLIENT", "ID"))
    assert lie_in_flight(client) != []  # as yet unacknowledged, so no life was given up
    for lane in lanes:
        assert lane.take(lane.queues[0]) is None
    assert lie_in_flight(client) == []


class Deaf(AtMostOnce):
    """A lane that cannot park."""

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        msg = "cannot park"
        raise NotSent(msg)


def test_if_one_lane_cannot_park_the_others_are_called_back_and_the_failure_is_raised(
    waiter: Waiter, lanes: list[AtLeastOnce], redis_url: str, server: LiveServer
) -> None:
    deaf = Deaf(["d"], next(connections(redis_url)), Unwatched())
    with closing(deaf), pytest.raises(NotSent, match="cannot park"):
        waiter.wait([*lanes, deaf], [*NAMES, "d"], 30)
    assert blocked(server) == 0
    assert not any(lane._connection.reply_due for lane in lanes)


def test_what_a_lane_brings_is_not_lost_because_another_fails(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, redis_url: str
) -> None:
    push(client, "a")
    deaf = Deaf(["d"], next(connections(redis_url)), Unwatched())
    with closing(deaf):
        assert settle(waiter.wait([*lanes, deaf], [*NAMES, "d"], 30)) == [("a", b"x")]


def test_a_server_that_is_not_there_is_raised_before_anything_waits(
    waiter: Waiter, lanes: list[AtLeastOnce], server: LiveServer
) -> None:
    absent = lane_on(f"redis://127.0.0.1:{free_port()}", "d")
    with pytest.raises(NotSent):
        waiter.wait([*lanes, absent], [*NAMES, "d"], 30)
    assert blocked(server) == 0


def test_a_refused_wait_is_raised_and_the_lane_goes_on_with_the_same_life(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis
) -> None:
    lane = lanes[0]
    push(client, "a")
    settle([lane.take("a")])  # type: ignore[list-item]
    lane.flush()
    client.config_set("maxmemory", 1)
    try:
        before = client.hgetall(keys.claims("a"))
        for _ in range(3):
            with pytest.raises(Refused, match="OOM"):
                waiter.wait(lanes, NAMES, 30)
        assert client.hgetall(keys.claims("a")) == before
        assert client.zcard(keys.retired("a")) == 0
    finally:
        client.config_set("maxmemory", 0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the waiter grants a reply, shortened for a test."""
    monkeypatch.setattr(waiting, "REPLY_MARGIN_S", 0.1)
    monkeypatch.setattr(waiting, "UNBLOCK_FOR_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_wait_that_nobody_answers_is_given_up_and_what_comes_late_is_found(
    waiter: Waiter, client: redis.Redis, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that only one side still believes in."""
    with closing(lane_on(proxy.url, "a")) as lane:
        lane.open()
        proxy.harm("freeze", on=b"BLMOVE")
        with pytest.raises(OutcomeUnknown, match=r"no reply from Redis at 127\.0\.0\.1:\d+/0 to a wait on a"):
            waiter.wait([lane], ["a"], 0.05)
        lane.open()
        push(client, "a")
        proxy.thaw()
        (late,) = wait_until(lambda: lie_in_flight(client), what="the late BLMOVE has taken the message")
        assert lane.take("a") is None
        client.zadd(keys.retired("a"), {late.rpartition(b":")[2]: 0})
        Upkeep("a", lane._connection).tend()
        delivery = lane.take("a")
        assert delivery is not None
        assert settle([delivery]) == [("a", b"x")]


def test_a_frozen_lane_does_not_take_the_others_with_it(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, proxy: Proxy, server: LiveServer
) -> None:
    with closing(lane_on(proxy.url, "d")) as frozen:
        frozen.open()
        proxy.harm("freeze", on=b"BLMOVE")
        thread = while_waiting(server, 3, lambda: push(client, "b"))
        assert settle(waiter.wait([*lanes, frozen], [*NAMES, "d"], 30)) == [("b", b"x")]
        thread.join()
        assert frozen._life is None
        assert not any(lane._life is None for lane in lanes)
        proxy.thaw()


@pytest.mark.usefixtures("impatient")
def test_a_stop_is_heard_though_redis_answers_nothing_any_more(
    wakeup: Wakeup, waiter: Waiter, proxy: Proxy
) -> None:
    with closing(lane_on(proxy.url, "a")) as lane:
        lane.open()
        proxy.harm("freeze", on=b"BLMOVE")
        wakeup.set()
        with pytest.raises(OutcomeUnknown):
            waiter.wait([lane], ["a"], 30)
        proxy.thaw()


def test_a_connection_that_is_cut_while_it_waits_is_an_error_at_once(
    waiter: Waiter, lanes: list[AtLeastOnce], client: redis.Redis, server: LiveServer
) -> None:
    for lane in lanes:
        lane.open()
    thread = while_waiting(server, 3, lambda: client.client_kill_filter(_id=lanes[1].client_id))
    with pytest.raises(OutcomeUnknown):
        waiter.wait(lanes, NAMES, 30)
    thread.join()
    push(client, "b")
    assert settle(waiter.wait(lanes, NAMES, 30)) == [("b", b"x")]


def test_a_lost_reply_strands_no_message(
    waiter: Waiter, client: redis.Redis, redis_url: str, lanes: list[AtLeastOnce]
) -> None:
    connection = Faulty(Address.from_url(redis_url))
    with closing(AtLeastOnce("a", connection, Unwatched())) as lane:
        lane.open()
        connection.faults[len(connection.sent)] = Fault("reply lost", len(connection.sent))
        push(client, "a")
        with pytest.raises(OutcomeUnknown):
            waiter.wait([lane, *lanes[1:]], NAMES, 30)
        assert settle(waiter.wait([lane, *lanes[1:]], NAMES, 30)) == [("a", b"x")]


def test_the_lease_is_longer_than_any_wait() -> None:
    """So that a list is swept only after the last late wait has ended by itself."""
    assert at_least_once.LEASE_MS / 1000 >= waiting.LONGEST_S
