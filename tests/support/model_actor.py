"""One consumer in the test's own process, with what a scoreboard would show of it, and faults on demand."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from hotqueue import HotQueue, identity
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import Connection
from hotqueue.ending import Assignment, Outcome
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.execution import Executor
from hotqueue.retries import Reject, Retries, Retry
from hotqueue.upkeep import LEASE_MS
from hotqueue.worker.reading import Place
from hotqueue.worker.recovery import Left, Served, recover
from tests.support.board import Board
from tests.support.faulty import Fault, Faulty, Kind
from tests.support.model_places import body_of

if TYPE_CHECKING:
    from hotqueue.delivery import Delivery

Verdict = Literal["well", "badly", "now again", "later again", "rejected"]

MAX_CRASHES = 2
RETRIES = Retries(2, (300.0,))
LATER_S = 90.0


class LeasedBoard(Board):
    """One whose lease is renewed, by a clock of the test's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._renewed_s = clock()
        self._lost = -1

    def renewed(self, *, gone: bool) -> None:
        """Note what the keeper has heard when it renewed the lease."""
        if gone:
            self._lost = self.incarnation
        else:
            self._renewed_s = self._clock()

    def is_fresh(self, queue: str) -> bool:
        return self.incarnation != self._lost and self._clock() - self._renewed_s < LEASE_MS / 2000

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        super().registered(queue, incarnation, client_id)
        self._renewed_s = self._clock()

    def started(self, delivery: "Delivery") -> bool:
        return self.is_fresh(delivery.queue) and super().started(delivery)


class Actor:
    """A consumer of one queue, which takes, runs and settles when it is told."""

    def __init__(self, queue: HotQueue, prefetch: int, clock: Callable[[], float]) -> None:
        self.queue = queue.name
        self.connection = Faulty(queue.address)
        self.board = LeasedBoard(clock)
        self.lane = AtLeastOnce(self.queue, self.connection, self.board, prefetch)
        self.hand: Delivery | None = None
        self._last = b""
        self._verdict: Verdict = "well"
        self._executor = Executor(
            [Assignment(self.queue, "handle", self._handle, lambda: queue._envelope, RETRIES)]
        )

    @property
    def name(self) -> str:
        """As it stands in Redis."""
        return identity.text(self.board.incarnation)

    @contextlib.contextmanager
    def mishap(self, fault: tuple[Kind, int] | None) -> Iterator[None]:
        """Have this happen to that command from the next on, if there is one in the block.

        What is late comes when the test delivers it.
        """
        if fault is not None:
            kind, place = fault
            number = len(self.connection.sent) + place
            self.connection.faults[number] = Fault(kind, number)
        with contextlib.suppress(NotSent, OutcomeUnknown):
            yield
        self.connection.faults.clear()

    def take(self, *, wait: bool) -> None:
        """Take as the loop does; what is in hand and not settled is dropped."""
        self.hand = None
        self.hand = self.lane.take(self.queue)
        if self.hand is None and wait:
            self.lane.park((self.queue,), 0.01)
            self.hand = self.lane.collect()

    @property
    def suspect(self) -> bytes | None:
        """The message that would be blamed for a crash now."""
        return self._last if self.board.begun > self.board.done else None

    def begin(self) -> None:
        """Start to run what is in hand, and come to no end."""
        assert self.hand
        self._last = body_of(self.hand.raw)
        self.lane.begin(self.hand)

    def run(self, verdict: Verdict, meanwhile: Callable[[], None] = lambda: None) -> Outcome:
        """Run and settle what is in hand; return how it ended. What happens meanwhile is over before that."""
        assert self.hand
        self._verdict, self._last = verdict, body_of(self.hand.raw)
        run = self._executor.run(self.hand)
        self.hand = None
        meanwhile()
        self._executor.settle(run)
        return run.outcome

    def give_back(self) -> None:
        self.hand = None
        self.lane.give_back()

    def close(self) -> None:
        self.hand = None
        self.lane.close()

    def recovered(self, connection: Connection, *, crashed: bool) -> None:
        """Do for it what a supervisor does after its death."""
        board = self.board
        if not board.incarnation:
            return
        place = Place(self.queue, board.incarnation, board.client_id, board.claim, board.begun, board.done)
        served = Served(self.queue, "handle", "here", "at-least-once", self.connection.address)
        recover(connection, served, Left(1, place, crashed, "killed by a test"), MAX_CRASHES)

    def _handle(self, message: object) -> None:
        if self._verdict == "rejected":
            raise Reject(self._verdict)
        if self._verdict in {"now again", "later again"}:
            raise Retry(delay=0 if self._verdict == "now again" else LATER_S)
        if self._verdict == "badly":
            raise ValueError
