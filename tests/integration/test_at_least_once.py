"""Whatever becomes of a command, at-least-once loses nothing, leaves nothing stuck, and repeats little."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import pytest
import redis

from hotqueue import OutcomeUnknown, at_least_once, identity, keys, scripts
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Delivery, Unwatched
from hotqueue.errors import NotSent
from hotqueue.upkeep import Upkeep
from tests.support.board import Board
from tests.support.faulty import Died, Fault, Faulty, Kind
from tests.support.servers import LiveServer

Q = "q"
WAITING = keys.key_for_name(Q)
BAD = b"bad"
FIRST = [b"a", BAD, b"c"]
LATER = [b"d", b"e"]  # each is pushed when the queue is empty
LAST = b"f"  # when the consumer has gone
PREFETCH = [1, 3]
FAILURES: list[Kind] = ["not sent", "refused", "request lost", "reply lost"]
DEATHS: list[Kind] = ["dies before", "dies after", "dies and late"]


class Session:
    """A consumer on one lane, with faults, and the account of it."""

    def __init__(self, server: LiveServer, *faults: Fault, prefetch: int = 1) -> None:
        self.client = server.admin
        self.client.flushall()
        self.client.rpush(WAITING, *FIRST)
        address = Address.from_url(server.url)
        self.connection = Faulty(address, *faults)
        self.plain = Connection(address, CONSUMER_TIMEOUT_S)
        self.board = Board()
        self.lane = AtLeastOnce(Q, self.connection, self.board, prefetch)
        self.ran: list[bytes] = []
        self.later = list(LATER)

    def work(self) -> None:
        """To the end, however often it has to be tried; or until it dies."""
        _until_it_succeeds(lambda: self.drain(self.lane))
        _until_it_succeeds(self.lane.close)

    def drain(self, lane: AtLeastOnce) -> None:
        while True:
            delivery = lane.take(Q)
            if delivery is None:
                if not self.later:
                    return
                self.client.rpush(WAITING, self.later.pop(0))
                lane.park((Q,), 0.05)
                delivery = lane.collect()
            if delivery is not None:
                self._run(lane, delivery)

    def _run(self, lane: AtLeastOnce, delivery: Delivery) -> None:
        lane.begin(delivery)
        self.ran.append(delivery.raw)
        if delivery.raw == BAD:
            lane.bury(delivery, BAD + b", and why")
        else:
            lane.ack(delivery)

    def give_back(self) -> None:
        """As a supervisor does after the death of a child, or of one that it takes for dead."""
        if self.board.incarnation:
            name = identity.text(self.board.incarnation)
            scripts.retire(self.plain, Q, name, self.board.claim, done=self.board.done, sweep_ms=60_000)

    def look_later(self) -> None:
        """A lease later, when everything that was late has come, another consumer takes what is there."""
        self.client.rpush(WAITING, LAST)
        self.connection.deliver_late()
        for name in self.client.zrange(keys.retired(Q), 0, -1):
            self.client.zadd(keys.retired(Q), {name: 0})
        Upkeep(Q, self.plain).tend()
        with closing(AtLeastOnce(Q, self.plain, Unwatched())) as lane:
            self.drain(lane)

    def check(self, repeats: int) -> None:
        """The account balances: each was run, the bad one is dead, and nothing lies anywhere else."""
        what = f"{self.connection.faults} in {self.connection.sent}, ran {self.ran}"
        times = Counter(self.ran)
        assert set(times) == {*FIRST, *LATER, LAST}, what
        assert sum(times.values()) - len(times) <= repeats, what
        assert self.client.zrange(keys.dead(Q), 0, -1) == [BAD + b", and why"], what
        assert holds_messages(self.client) == {keys.dead(Q)}, what

    @property
    def order(self) -> list[bytes]:
        """In which they were run first."""
        return list(dict.fromkeys(self.ran))


def holds_messages(client: redis.Redis) -> set[str]:
    """The keys that do. A consumer that dies before anybody knew of it stays registered."""
    registry = {keys.consumers(Q), keys.claims(Q), keys.owners(Q), keys.retired(Q), keys.counters(Q)}
    return {key.decode() for key in client.scan_iter()} - registry


def _until_it_succeeds(act: Callable[[], None]) -> None:
    for _ in range(5):
        try:
            act()
        except (NotSent, OutcomeUnknown):
            continue
        return
    msg = "it fails more often than there are faults"
    raise AssertionError(msg)


def commands(server: LiveServer, prefetch: int = 1) -> range:
    """The numbers of all commands that a session without a fault sends."""
    quiet = Session(server, prefetch=prefetch)
    quiet.work()
    return range(len(quiet.connection.sent))


@pytest.mark.parametrize("prefetch", PREFETCH)
def test_without_a_fault_each_message_runs_once_in_order_and_nothing_stays_behind(
    server: LiveServer, prefetch: int
) -> None:
    session = Session(server, prefetch=prefetch)
    session.work()
    assert session.ran == FIRST + LATER
    assert session.board.incarnation == 0
    assert set(session.client.scan_iter()) == {each.encode() for each in (keys.dead(Q), keys.counters(Q))}


@pytest.mark.parametrize("prefetch", PREFETCH)
@pytest.mark.parametrize("kind", FAILURES)
def test_whichever_command_or_reply_is_lost_no_message_is_and_none_runs_twice(
    server: LiveServer, kind: Kind, prefetch: int
) -> None:
    for at in commands(server, prefetch):
        session = Session(server, Fault(kind, at), prefetch=prefetch)
        session.work()
        session.look_later()
        session.check(repeats=0)
        assert session.order == [*FIRST, *LATER, LAST]


@pytest.mark.parametrize("first", ["request lost", "reply lost"])
@pytest.mark.parametrize("second", ["request lost", "reply lost"])
def test_a_second_loss_while_the_first_is_made_good_loses_nothing_either(
    server: LiveServer, first: Kind, second: Kind
) -> None:
    for at in commands(server):
        for after in range(1, 8):
            session = Session(server, Fault(first, at), Fault(second, at + after))
            session.work()
            session.look_later()
            session.check(repeats=0)


@pytest.mark.parametrize("late_by", [1, 2, 3, 4, 5, 6, 7, 8, 0])
def test_a_command_that_comes_late_does_nothing_or_is_made_good(server: LiveServer, late_by: int) -> None:
    """By so many commands, or after everything (0): before, between and behind what makes it good.

    Row 22b of the faults.
    """
    for at in commands(server):
        session = Session(server, Fault("late", at, late_by))
        session.work()
        session.look_later()
        session.check(repeats=0)


@pytest.mark.parametrize("prefetch", PREFETCH)
@pytest.mark.parametrize("kind", DEATHS)
def test_wherever_a_consumer_dies_what_it_held_goes_back_and_only_what_it_ran_runs_again(
    server: LiveServer, kind: Kind, prefetch: int
) -> None:
    for at in commands(server, prefetch):
        session = Session(server, Fault(kind, at), prefetch=prefetch)
        with pytest.raises(Died):
            session.work()
        session.give_back()
        session.give_back()  # the first reply was lost, say
        session.look_later()
        session.check(repeats=session.board.begun - session.board.done)


@pytest.mark.parametrize("lost", ["request lost", "reply lost"])
@pytest.mark.parametrize("kind", ["dies before", "dies after"])
def test_who_dies_while_a_loss_is_made_good_leaves_nothing_where_nobody_looks(
    server: LiveServer, lost: Kind, kind: Kind
) -> None:
    for at in commands(server):
        for after in range(1, 8):
            session = Session(server, Fault(lost, at), Fault(kind, at + after))
            with contextlib.suppress(Died):  # there may be no command so late
                session.work()
            session.give_back()
            session.look_later()
            session.check(repeats=session.board.begun - session.board.done)


@pytest.mark.parametrize("prefetch", PREFETCH)
def test_a_living_consumer_that_was_taken_for_dead_does_no_harm_and_begins_anew(
    server: LiveServer, prefetch: int
) -> None:
    """As after a long freeze: its late word destroys nothing, and at most what it held runs twice."""
    for at in commands(server, prefetch):
        session = Session(server, prefetch=prefetch)
        session.connection.before[at] = session.give_back
        session.work()
        session.look_later()
        session.check(repeats=prefetch)


def test_after_a_burial_in_the_middle_of_a_claim_the_rest_of_it_is_still_told_apart(
    server: LiveServer,
) -> None:
    session = Session(server, prefetch=4)
    session.client.rpush(WAITING, "not any more")
    for _ in range(3):
        session._run(session.lane, session.lane.take(Q))
    session.lane.close()
    assert session.ran == FIRST
    assert session.client.lrange(WAITING, 0, -1) == [b"not any more"]


def test_what_was_taken_back_while_a_message_failed_is_not_run_here_too(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The burial renumbers the rest of the claim, so the lane has to look whether the old one was revoked."""
    session = Session(server, prefetch=3)
    session._run(session.lane, session.lane.take(Q))
    bad = session.lane.take(Q)
    name = identity.text(session.board.incarnation)
    assert scripts.hand_back(session.plain, Q, name, session.board.claim, keep=2) == 1
    monkeypatch.setattr(session.board, "is_revoked", lambda _: True)
    session._run(session.lane, bad)
    assert session.lane.rest() is None
    monkeypatch.undo()
    session.work()
    assert session.ran == FIRST + LATER


def test_who_takes_back_too_late_takes_nothing_of_what_came_since(server: LiveServer) -> None:
    session = Session(server, prefetch=3)
    session.lane.take(Q)
    name, claim = identity.text(session.board.incarnation), session.board.claim
    session.lane.give_back()
    assert session.client.lrange(WAITING, 0, -1) == FIRST
    session.client.ltrim(WAITING, 2, -1)
    session.lane.park((Q,), 1)
    delivery = session.lane.collect()
    assert delivery.raw == b"c"
    assert scripts.hand_back(session.plain, Q, name, claim, keep=0) == 0


@pytest.mark.parametrize("prefetch", PREFETCH)
def test_a_message_that_is_dropped_unsettled_comes_again_and_is_not_taken_for_done(
    server: LiveServer, prefetch: int
) -> None:
    session = Session(server, prefetch=prefetch)
    assert session.lane.take(Q).raw == b"a"
    session.work()
    assert session.ran == FIRST + LATER


def test_a_message_that_a_wait_brought_and_nobody_settled_comes_again(server: LiveServer) -> None:
    session = Session(server)
    session.drain(session.lane)
    session.client.rpush(WAITING, "x")
    session.lane.park((Q,), 1)
    assert session.lane.collect().raw == b"x"
    assert session.lane.take(Q).raw == b"x"


def test_a_wait_that_was_broken_off_gives_its_reply_to_nobody(server: LiveServer) -> None:
    session = Session(server)
    session.drain(session.lane)
    session.client.rpush(WAITING, "x")
    session.lane.park((Q,), 30)
    assert session.lane.take(Q).raw == b"x"


def test_to_park_acknowledges_what_is_done(server: LiveServer) -> None:
    session = Session(server)
    for _ in range(2):
        session._run(session.lane, session.lane.take(Q))
    session.lane.ack(session.lane.take(Q))
    session.lane.park((Q,), 0.05)
    assert session.lane.collect() is None
    assert holds_messages(session.client) == {keys.dead(Q)}


def test_what_came_late_to_an_earlier_life_is_swept(server: LiveServer) -> None:
    session = Session(server)
    session.drain(session.lane)
    earlier = identity.text(session.board.incarnation)
    session.lane.park((Q,), 0.05)
    session.lane.abandon()  # as after a wait that nobody answers
    session.lane.open()
    session.client.rpush(WAITING, LAST)
    session.client.blmove(WAITING, keys.inflight(Q, earlier), 0.05, "LEFT", "RIGHT")
    session.drain(session.lane)
    assert LAST not in session.ran
    session.client.zadd(keys.retired(Q), {earlier: 0})
    Upkeep(Q, session.connection).tend()  # a lease later
    session.drain(session.lane)
    assert session.ran == [*FIRST, *LATER, LAST]


def test_a_server_that_forgets_at_once_who_consumes_is_an_error_and_no_endless_loop(
    server: LiveServer,
) -> None:
    session = Session(server)
    session.lane.open()
    for number in range(40):
        session.connection.before[number] = lambda: session.client.delete(keys.claims(Q))
    with pytest.raises(OutcomeUnknown, match="forgets who consumes queue 'q'"):
        session.lane.take(Q)
    assert session.client.lrange(WAITING, 0, -1) == FIRST


class Interrupted(KeyboardInterrupt):
    """By a signal handler that raises."""


@contextmanager
def interrupted_at(number: int) -> Iterator[None]:
    """Raise at the so many-th line that runs in at_least_once.py."""
    left = number

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != at_least_once.__file__:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("goes_on", [False, True])
def test_at_whatever_line_an_exception_breaks_in_the_lane_can_be_closed_or_used_again(
    server: LiveServer, *, goes_on: bool
) -> None:
    for number in range(10_000):
        session = Session(server, prefetch=2)
        try:
            with interrupted_at(number):
                session.work()
        except Interrupted:
            if goes_on:
                session.work()
            else:
                session.lane.close()
            session.look_later()
            session.check(repeats=1)
        else:
            break
    assert 200 < number < 9_000
