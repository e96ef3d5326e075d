"""At-most-once: a message is handed out once, and not lost as long as its consumer lives."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.resources import files

import pytest
import redis

from hotqueue import NotSent, OutcomeUnknown, keys
from hotqueue.address import Address
from hotqueue.at_most_once import AtMostOnce
from hotqueue.delivery import Delivery, Unwatched
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup
from tests.support.faulty import Fault, Faulty, Kind
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

TRIES = 500
LOSSES: list[Kind] = ["request lost", "reply lost"]


@pytest.fixture
def lane_on(server: LiveServer, redis_url: str) -> Iterator[Callable[..., AtMostOnce]]:
    """Makes lanes of some queues; `faults` strike commands after the three of connecting.

    The server has all scripts, so that a command has the same number in each run.
    """
    for script in files("hotqueue").joinpath("lua").iterdir():
        server.admin.script_load(script.read_text())
    lanes: list[AtMostOnce] = []

    def make(*queues: str, faults: tuple[Fault, ...] = ()) -> AtMostOnce:
        lanes.append(AtMostOnce(queues, Faulty(Address.from_url(redis_url), *faults), Unwatched()))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane._connection.close()


@pytest.fixture
def lane(lane_on: Callable[..., AtMostOnce]) -> AtMostOnce:
    return lane_on("q")


def push(client: redis.Redis, queue: str, *bodies: str) -> None:
    client.rpush(keys.key_for_name(queue), *bodies)


def waiting(client: redis.Redis, queue: str = "q") -> list[bytes]:
    return client.lrange(keys.key_for_name(queue), 0, -1)


def take(lane: AtMostOnce, queue: str = "q") -> Delivery:
    delivery = lane.take(queue)
    assert delivery is not None
    return delivery


def test_take_pops_from_the_head_and_an_empty_queue_gives_none(lane: AtMostOnce, client: redis.Redis) -> None:
    push(client, "q", "a", "b")
    assert [take(lane).raw, take(lane).raw, lane.take("q")] == [b"a", b"b", None]
    assert waiting(client) == []


def test_a_wait_brings_from_the_first_queue_in_the_order_of_the_moment(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis
) -> None:
    lane = lane_on("a", "b")
    for queue in ("a", "b"):
        push(client, queue, "1", "2")
    brought = []
    for order in (["b", "a"], ["a", "b"], ["b", "a"]):
        lane.park(order, 1)
        delivery = lane.collect()
        assert delivery is not None
        brought.append((delivery.queue, delivery.raw))
    assert brought == [("b", b"1"), ("a", b"1"), ("b", b"2")]


def test_what_was_not_begun_goes_back_to_the_head_of_its_queue_in_order(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis
) -> None:
    lane = lane_on("a", "b")
    push(client, "a", *"1234")
    push(client, "b", *"xyz")
    taken = [take(lane, queue) for queue in ("a", "b", "a", "b", "a")]
    lane.begin(taken[2])
    lane.close()
    assert waiting(client, "a") == [b"1", b"3", b"4"]
    assert waiting(client, "b") == [b"x", b"y", b"z"]


def test_what_was_begun_does_not_go_back(lane: AtMostOnce, client: redis.Redis) -> None:
    push(client, "q", "a", "b")
    delivery = take(lane)
    lane.begin(delivery)
    lane.ack(delivery)
    lane.close()
    assert waiting(client) == [b"b"]


def test_on_a_full_server_what_was_popped_goes_back_too(lane: AtMostOnce, client: redis.Redis) -> None:
    push(client, "q", "a", "b")
    take(lane)
    client.config_set("maxmemory", 1)
    try:
        lane.close()
    finally:
        client.config_set("maxmemory", 0)
    assert waiting(client) == [b"a", b"b"]


def test_what_could_not_go_back_is_kept_until_it_can(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis
) -> None:
    lane = lane_on("q", faults=(Fault("not sent", 3),))
    push(client, "q", "a", "b")
    take(lane)
    with pytest.raises(NotSent):
        lane.give_back()
    lane.give_back()
    assert waiting(client) == [b"a", b"b"]


def test_what_could_not_go_back_goes_back_before_another_is_popped(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis
) -> None:
    lane = lane_on("q", faults=(Fault("not sent", 4),))
    push(client, "q", "a", "b", "c")
    take(lane)
    take(lane)
    with pytest.raises(NotSent):
        lane.give_back()
    assert take(lane).raw == b"a"
    assert waiting(client) == [b"b", b"c"]


@pytest.mark.parametrize("kind", LOSSES)
def test_what_may_have_gone_back_is_not_pushed_twice(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis, kind: Kind
) -> None:
    lane = lane_on("q", faults=(Fault(kind, 3),))
    push(client, "q", "a", "b")
    take(lane)
    with pytest.raises(OutcomeUnknown):
        lane.give_back()
    lane.close()
    assert waiting(client) == ([b"a", b"b"] if kind == "reply lost" else [b"b"])


@pytest.mark.parametrize("kind", [*LOSSES, "not sent"])
def test_what_could_not_be_buried_is_buried_once_when_redis_is_back(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis, kind: Kind
) -> None:
    lane = lane_on("q", faults=(Fault(kind, 3),))
    push(client, "q", "bad", "good")
    delivery = take(lane)
    lane.begin(delivery)
    with pytest.raises(NotSent if kind == "not sent" else OutcomeUnknown):
        lane.bury(delivery, b"bad, and why")
    assert take(lane).raw == b"good"
    assert client.zrange(keys.dead("q"), 0, -1) == [b"bad, and why"]


def test_to_close_buries_what_is_left(lane_on: Callable[..., AtMostOnce], client: redis.Redis) -> None:
    lane = lane_on("q", faults=(Fault("not sent", 3),))
    push(client, "q", "bad")
    delivery = take(lane)
    lane.begin(delivery)
    with pytest.raises(NotSent):
        lane.bury(delivery, b"bad, and why")
    lane.close()
    assert client.zrange(keys.dead("q"), 0, -1) == [b"bad, and why"]


@pytest.mark.parametrize("kind", LOSSES)
def test_a_lost_reply_to_a_wait_is_raised_and_loses_one_message_at_most(
    lane_on: Callable[..., AtMostOnce], client: redis.Redis, kind: Kind
) -> None:
    lane = lane_on("q", faults=(Fault(kind, 2),))
    push(client, "q", "a", "b")
    lane.park(["q"], 1)
    with pytest.raises(OutcomeUnknown):
        lane.collect()
    assert take(lane).raw == (b"b" if kind == "reply lost" else b"a")


def test_a_wait_that_was_broken_off_gives_no_reply_to_the_next_command(
    lane: AtMostOnce, client: redis.Redis, server: LiveServer
) -> None:
    push(client, "q", "a")
    take(lane)
    lane.park(["q"], 30)
    wait_until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
    lane.close()
    assert waiting(client) == [b"a"]
    assert client.llen(keys.key_for_name("q")) == 1


def test_a_stop_while_it_waits_loses_nothing_even_if_a_message_comes_at_that_moment(
    lane: AtMostOnce, client: redis.Redis, redis_url: str
) -> None:
    chance = random.Random(20261124)
    ran: list[bytes] = []
    for number in range(TRIES):
        with closing(Wakeup()) as wakeup, closing(Waiter(wakeup)) as waiter:
            acts = [wakeup.set, lambda body=str(number): push(client, "q", body)]
            chance.shuffle(acts)
            pause_s = chance.choice([0, 0, 0.0005])

            def disturb(acts: list[Callable[[], None]] = acts, pause_s: float = pause_s) -> None:
                threading.Event().wait(chance.choice([0, 0.001]))
                acts[0]()
                threading.Event().wait(pause_s)
                acts[1]()

            thread = threading.Thread(target=disturb)
            thread.start()
            brought = waiter.wait([lane], ["q"], 30)
            thread.join()
            if number % 2:  # one half runs what came, the other stops without
                for delivery in brought:
                    lane.begin(delivery)
                    ran.append(delivery.raw)
            lane.close()
    left = waiting(client)
    assert sorted([*ran, *left], key=int) == [str(number).encode() for number in range(TRIES)]
    assert ran
