"""More queues than connections: a watch hears of their messages, and takes none."""

import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent, OutcomeUnknown, keys
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Delivery, Unwatched
from hotqueue.errors import Refused
from hotqueue.execution import Executor
from hotqueue.resp import ErrorReply, packed, parsed
from hotqueue.rota import Rota
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup
from hotqueue.watch import NO_WATCH, Watch, watches
from hotqueue.worker.company import Company
from hotqueue.worker.member import Member
from tests.support.faulty import Fault, Faulty, Kind
from tests.support.proxy import Proxy
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

MOST = 8
CHANGED = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$10\r\nhotqueue:a\r\n"
OWN = 6  # of them, each parked for a queue of its own; the others are those of the watch


class Crowd:
    """The lanes of many queues in one consumer, as a child has them."""

    def __init__(self, url: str, count: int) -> None:
        self.names = [f"q{number:02}" for number in range(count)]
        address = Address.from_url(url)
        self.lanes = [
            AtLeastOnce(name, watch or Connection(address, CONSUMER_TIMEOUT_S), Unwatched())
            for name, watch in zip(self.names, watches([address] * count, MOST), strict=True)
        ]
        self.wakeup = Wakeup()
        self.waiter = Waiter(self.wakeup)

    @property
    def watch(self) -> Watch:
        watch = self.lanes[-1].watch
        assert watch is not None
        return watch

    def wait(self, seconds: float = 30, order: Sequence[str] = ()) -> list[Delivery]:
        return self.waiter.wait(self.lanes, order or self.names, seconds)

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.watch.close()
        self.waiter.close()
        self.wakeup.close()


@pytest.fixture
def crowd(redis_url: str) -> Iterator[Crowd]:
    with closing(Crowd(redis_url, 20)) as crowd:
        yield crowd


@pytest.fixture
def settled(crowd: Crowd, client: redis.Redis) -> Crowd:
    """A crowd that has waited once, so that all of its queues are known to be empty."""
    assert crowd.wait(0.01) == []
    return crowd


def push(client: redis.Redis, name: str, *bodies: str) -> None:
    client.rpush(keys.key_for_name(name), *(bodies or "x"))


def waits(server: LiveServer, number: int = OWN) -> Callable[[], bool]:
    return lambda: int(server.admin.info("clients")["blocked_clients"]) == number


def once_waiting(server: LiveServer, act: Callable[[], Any], number: int = OWN) -> threading.Thread:
    def run() -> None:
        wait_until(waits(server, number))
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def settle(deliveries: Sequence[Delivery]) -> list[tuple[str, bytes]]:
    """Run them, so to say."""
    for delivery in deliveries:
        delivery.lane.begin(delivery)
        delivery.lane.ack(delivery)
        delivery.lane.flush()
    return [(delivery.queue, delivery.raw) for delivery in deliveries]


def calls(server: LiveServer, *commands: str) -> int:
    counted = server.admin.info("commandstats")
    return sum(counted.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in commands)


def test_up_to_as_many_queues_as_connections_each_has_its_own() -> None:
    one, other = Address.from_url("redis://a"), Address.from_url("redis://b")
    assert watches([one, other] * 4, 8) == [None] * 8
    assert watches([], 8) == []


def test_beyond_that_the_last_ones_are_watched_by_one_for_each_server() -> None:
    one, other = Address.from_url("redis://a"), Address.from_url("redis://b")
    assert [watch is None for watch in watches([one] * 9, 8)] == [True] * 6 + [False] * 3
    *own, first, second = watches([one, other, one, other, one, other], 5)
    assert own[0] is None
    assert len({*own[1:], first, second}) == 2
    assert [watch.address for watch in (first, second) if watch] == [one, other]
    assert None not in watches([one, other] * 2, 3)


@pytest.mark.parametrize("count", [9, 20, 50])
def test_a_message_of_any_of_many_queues_ends_the_wait_which_takes_eight_connections(
    redis_url: str, client: redis.Redis, server: LiveServer, count: int
) -> None:
    client.ping()  # by the connection that it keeps
    before = {each["id"] for each in server.admin.client_list()}
    found: list[int] = []
    with closing(Crowd(redis_url, count)) as crowd:
        for name in crowd.names:

            def act(name: str = name) -> None:
                found.append(len([1 for each in server.admin.client_list() if each["id"] not in before]))
                push(client, name)

            thread = once_waiting(server, act)
            assert settle(crowd.wait()) == [(name, b"x")]
            thread.join()
            assert waits(server, 0)()
    assert found[0] == MOST
    assert max(found) == MOST + 1  # and the one which calls back those that are parked
    assert client.keys("*:inflight:*") == []


def test_while_nothing_comes_nothing_is_asked(
    settled: Crowd, client: redis.Redis, server: LiveServer
) -> None:
    calls_then: list[int] = []
    asking = ("llen", "evalsha", "eval", "lmove", "blmove", "hello", "client|tracking")

    def act() -> None:
        for _ in range(3):
            calls_then.append(calls(server, *asking))
            threading.Event().wait(0.1)  # time for somebody who polls
        push(client, settled.names[-1])

    thread = once_waiting(server, act)
    settle(settled.wait())
    thread.join()
    assert len(set(calls_then)) == 1


def test_a_queue_that_is_known_to_be_empty_is_not_asked_again(
    settled: Crowd, client: redis.Redis, server: LiveServer
) -> None:
    before = calls(server, "evalsha")
    assert [lane.take(lane.queues[0]) for lane in settled.lanes[OWN:]] == [None] * 14
    assert calls(server, "evalsha") == before
    push(client, settled.names[-1])
    wait_until(lambda: settled.lanes[-1].take(settled.names[-1]))


def test_of_several_that_have_something_the_first_in_order_is_taken(
    settled: Crowd, client: redis.Redis
) -> None:
    for name in settled.names[10:]:
        push(client, name)
    assert settle(settled.wait()) == [(settled.names[10], b"x")]
    assert settle(settled.wait(order=settled.names[::-1])) == [(settled.names[-1], b"x")]
    assert client.llen(keys.key_for_name(settled.names[11])) == 1


class Companion(Unwatched):
    """The progress of a seat that nobody watches."""

    def left(self) -> None:
        """Nobody is told."""


def test_a_seat_that_has_waited_for_its_turn_keeps_a_strict_order(
    crowd: Crowd, redis_url: str, client: redis.Redis
) -> None:
    ran: list[str] = []

    def act(message: str) -> None:
        ran.append(message)

    queues = [HotQueue(name, serializer=None, url=redis_url) for name in crowd.names]
    executor: Any = Executor([queue.assignment(queue.worker(act)) for queue in queues])
    work: Any = SimpleNamespace(lanes=lambda _: crowd.lanes, rota=lambda: Rota(crowd.names, strict=True))
    progress: Any = Companion()
    company = Company()
    assert company.lead()
    seat = Member(work, executor, crowd.wakeup, progress, company)
    thread = threading.Thread(target=seat.run)
    thread.start()
    wait_until(lambda: company._lead._waiters)  # type: ignore[attr-defined]
    with client.pipeline(transaction=True) as at_once:
        at_once.rpush(queues[-1].key, "last")
        at_once.rpush(queues[0].key, "first")
        at_once.execute()
    company.pass_on()
    wait_until(lambda: len(ran) == 2)
    crowd.wakeup.set()
    thread.join()
    assert ran == ["first", "last"]


def test_what_somebody_else_has_taken_ends_no_wait(
    settled: Crowd, client: redis.Redis, server: LiveServer
) -> None:
    def act() -> None:
        for _ in range(50):
            with client.pipeline(transaction=True) as at_once:
                at_once.rpush(keys.key_for_name(settled.names[-1]), "not for you")
                at_once.lpop(keys.key_for_name(settled.names[-1]))
                at_once.execute()
            assert waits(server)()
        push(client, settled.names[-1])

    thread = once_waiting(server, act)
    assert settle(settled.wait()) == [(settled.names[-1], b"x")]
    thread.join()


@pytest.mark.parametrize("act", ["flushall", "rename", "clear", "lpush"])
def test_whatever_puts_a_message_there_is_heard(
    settled: Crowd, client: redis.Redis, server: LiveServer, act: str
) -> None:
    key = keys.key_for_name(settled.names[-1])
    deeds: dict[str, list[tuple[Any, ...]]] = {
        "flushall": [("RPUSH", key, "gone"), ("FLUSHALL",), ("RPUSH", key, "x")],
        "rename": [("RPUSH", "made elsewhere", "x"), ("RENAME", "made elsewhere", key)],
        "clear": [("RPUSH", key, "gone"), ("DEL", key), ("RPUSH", key, "x")],
        "lpush": [("LPUSH", key, "x")],
    }

    def do() -> None:
        for command in deeds[act]:
            client.execute_command(*command)

    thread = once_waiting(server, do)
    while not (brought := settled.wait()):  # after FLUSHALL nobody is registered any more
        pass
    assert brought[0].raw in {b"x", b"gone"}
    thread.join()


def test_no_message_is_overheard_whatever_happens_between_two_waits(
    crowd: Crowd, client: redis.Redis
) -> None:
    chance = random.Random(5)
    sent = [(chance.choice(crowd.names), str(number)) for number in range(400)]

    def send() -> None:
        for name, body in sent:
            push(client, name, body)
            threading.Event().wait(chance.choice([0, 0, 0.0005, 0.002]))

    thread = threading.Thread(target=send)
    thread.start()
    ran: list[tuple[str, bytes]] = []
    while len(ran) < len(sent):
        brought = settle(crowd.wait(20))
        assert brought, "a message lies there and was not heard of"
        ran += brought
    thread.join()
    assert sorted(ran) == sorted((name, body.encode()) for name, body in sent)


def test_a_stop_ends_the_wait_and_takes_nothing(
    settled: Crowd, client: redis.Redis, server: LiveServer
) -> None:
    thread = once_waiting(server, settled.wakeup.set)
    assert settled.wait() == []
    thread.join()
    push(client, settled.names[-1])
    assert client.keys("*:inflight:*") == []


def test_two_consumers_share_what_comes_and_none_of_it_is_lost(
    redis_url: str, client: redis.Redis, server: LiveServer
) -> None:
    with ExitStack() as stack:
        crowds = [stack.enter_context(closing(Crowd(redis_url, 12))) for _ in range(2)]
        ran: list[list[tuple[str, bytes]]] = [[], []]

        def consume(crowd: Crowd, mine: list[tuple[str, bytes]]) -> None:
            while not crowd.wakeup.is_set:
                mine += settle(crowd.wait())

        threads = [threading.Thread(target=consume, args=each) for each in zip(crowds, ran, strict=True)]
        for thread in threads:
            thread.start()
        wait_until(waits(server, 2 * OWN))
        for number in range(200):
            push(client, crowds[0].names[number % 12], str(number))
        wait_until(lambda: sum(map(len, ran)) >= 200)
        for crowd in crowds:
            crowd.wakeup.set()
        for thread in threads:
            thread.join()
        assert sorted(int(body) for _, body in [*ran[0], *ran[1]]) == list(range(200))


def test_who_may_not_watch_is_told_so_and_can_still_take(redis_url: str, client: redis.Redis) -> None:
    rights = ["+@all", "-client|tracking"]
    client.acl_setuser("restricted", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
    try:
        with closing(Crowd(redis_url.replace("://", "://restricted:secret@"), 9)) as crowd:
            with pytest.raises(Refused) as refused:
                crowd.wait()
            assert refused.value.code == NO_WATCH
            push(client, crowd.names[-1])
            delivery = crowd.lanes[-1].take(crowd.names[-1])
            assert delivery is not None
            settle([delivery])
    finally:
        client.acl_deluser("restricted")


def test_connections_that_are_cut_are_made_again_and_each_life_has_its_own(
    settled: Crowd, client: redis.Redis, server: LiveServer
) -> None:
    lives = [lane._life for lane in settled.lanes]
    server.admin.client_kill_filter(_type="normal", skipme=True)
    push(client, settled.names[-1])
    assert settle(settled.wait()) == [(settled.names[-1], b"x")]
    assert not {id(lane._life) for lane in settled.lanes} & set(map(id, lives))
    assert len({lane.client_id for lane in settled.lanes[OWN:]}) == 1
    assert [client.zcard(keys.consumers(name)) for name in settled.names] == [1] * 20


def test_one_lane_whose_life_has_ended_does_not_end_what_another_runs(
    settled: Crowd, client: redis.Redis
) -> None:
    one, other = settled.lanes[-2:]
    push(client, one.queues[0])
    wait_until(lambda: not settled.watch.knows_empty(one.queues[0]))
    delivery, life = one.take(one.queues[0]), one._life
    other.abandon()
    other.open()
    assert delivery is not None
    assert settle([delivery]) == [(one.queues[0], b"x")]
    assert one.take(one.queues[0]) is None
    assert one._life is not life  # it has the connection that there is now
    assert client.keys("*:inflight:*") == []


@pytest.mark.parametrize("kind", ["not sent", "refused", "request lost", "reply lost"])
def test_whatever_command_of_lanes_with_one_connection_fails_nothing_is_lost(
    redis_url: str, client: redis.Redis, kind: Kind
) -> None:
    for at in range(100):
        client.flushall()
        sent = [(name, f"{name}{number}".encode()) for name in "ab" for number in range(3)]
        for name, body in sent:
            push(client, name, body.decode())
        watch = Watch(Address.from_url(redis_url))
        watch.commands = connection = Faulty(watch.address, Fault(kind, at))
        lanes = [AtLeastOnce(name, watch, Unwatched(), prefetch=2) for name in "ab"]
        ran: list[tuple[str, bytes]] = []
        while client.keys("*:inflight:*") or any(client.llen(keys.key_for_name(name)) for name in "ab"):
            for lane in lanes:
                with suppress(NotSent, OutcomeUnknown):
                    if delivery := lane.take(lane.queues[0]):
                        lane.begin(delivery)
                        ran.append((delivery.queue, delivery.raw))
                        lane.ack(delivery)
                    else:
                        lane.flush()
                        lane.open()
                        watch.not_empty("ab")
        for lane in lanes:
            with suppress(NotSent, OutcomeUnknown):
                lane.close()
        watch.close()
        assert set(ran) == set(sent)
        assert len(ran) == len(sent)  # what was run was known to be done, and is no other lane's fault
        if len(connection.sent) <= at:
            break
    assert 10 < at < 90


def test_a_watch_that_is_cut_off_is_given_up_and_made_again(
    redis_url: str, client: redis.Redis, server: LiveServer
) -> None:
    with closing(Watch(Address.from_url(redis_url))) as watch:
        assert watch.not_empty(["a", "b"]) == []
        server.admin.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises((NotSent, OutcomeUnknown)):
            watch.not_empty(["a", "b"])
        assert not watch.knows_empty("a")
        push(client, "a")
        assert watch.not_empty(["a", "b"]) == ["a"]


def test_a_watch_follows_its_lanes_to_another_server(
    proxy: Proxy, tmp_path: Path, client: redis.Redis
) -> None:
    with (
        fresh_server(tmp_path) as other,
        closing(Watch(Address.from_url(proxy.url))) as watch,
        closing(Wakeup()) as wakeup,
        closing(Waiter(wakeup)) as waiter,
    ):
        lane = AtLeastOnce("a", watch, Unwatched())
        assert waiter.wait([lane], ["a"], 0.01) == []
        proxy.lead_to(other.port)
        push(other.admin, "a")
        lane.abandon()  # as when the first one has become a replica, and refuses to be written to
        assert settle(waiter.wait([lane], ["a"], 1)) == [("a", b"x")]
        lane.close()
        assert client.keys("*:inflight:*") == []


@contextmanager
def answering(*answers: bytes) -> Iterator[Address]:
    """A server that says these things, one for each time that somebody says something to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connected, _ = listener.accept()
            with connected:
                for answer in answers:
                    connected.recv(4096)
                    connected.sendall(answer)
                connected.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Address.from_url(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    ("lengths", "not_empty"),
    [
        (b":0\r\n:0\r\n", []),
        (b":0\r\n:2\r\n", ["b"]),
        (CHANGED + b":0\r\n:0\r\n", []),
        (b":0\r\n" + CHANGED + b":0\r\n", ["a"]),
        (b":0\r\n:0\r\n" + CHANGED, ["a"]),
        (b":0\r\n:0\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n", ["a", "b"]),
    ],
)
def test_a_change_counts_only_if_it_is_said_after_the_length(lengths: bytes, not_empty: list[str]) -> None:
    greeting = b"%1\r\n$5\r\nproto\r\n:3\r\n"
    with answering(greeting, b"+OK\r\n", lengths) as address, closing(Watch(address)) as watch:
        assert watch.not_empty(["a", "b"]) == not_empty
        assert watch.knows_empty("a") is ("a" not in not_empty)


@pytest.mark.parametrize("said", [b":0\r\n-MOVED 1 there:1\r\n", b":0\r\n"])
def test_after_half_an_answer_nothing_is_known(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotqueue.watch.CONSUMER_TIMEOUT_S", 2.0)
    with answering(b":3\r\n", b"+OK\r\n", said) as address, closing(Watch(address)) as watch:
        with pytest.raises((Refused, OutcomeUnknown)):
            watch.not_empty(["a", "b"])
        assert not watch.knows_empty("a")
        assert watch.fileno() == -1


def test_to_be_told_what_nobody_has_asked_for_is_a_failure_like_any_other() -> None:
    said = b"-ERR you have been quiet for too long\r\n"
    with answering(b":3\r\n", b"+OK\r\n", b":0\r\n", said) as address, closing(Watch(address)) as watch:
        assert watch.not_empty(["a"]) == []
        watch._connection.write(b"go on")
        wait_until(lambda: not watch._connection.is_well)
        with pytest.raises(OutcomeUnknown):
            watch.not_empty(["a"])
        assert not watch.knows_empty("a")


def test_what_a_server_says_is_understood_in_any_pieces() -> None:
    said = (
        b"%1\r\n$5\r\nproto\r\n:3\r\n:0\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\na\r\n\r\n"
        b">2\r\n$10\r\ninvalidate\r\n_\r\n-NOPERM no\r\n+OK\r\n"
    )  # fmt: skip
    expected = [
        [b"proto", 3], 0, (b"invalidate", [b"a\r\n"]), (b"invalidate", None), "NOPERM no", b"OK",
    ]  # fmt: skip
    at, found = 0, []
    while at < len(said):
        for cut in range(at, len(said)):
            try:
                reply, end = parsed(said[:cut], at)
            except ValueError:
                continue
            assert cut == end
            break
        else:
            reply, end = parsed(said, at)
        found.append(reply)
        at = end
    assert found == expected
    assert isinstance(found[4], ErrorReply)
    assert parsed(packed(("LLEN", "a"))) == ([b"LLEN", b"a"], 21)
