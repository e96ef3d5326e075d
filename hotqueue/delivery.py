"""A delivery, and the protocol of the two ways to get one: `at_least_once.py` and `at_most_once.py`."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from hotqueue.address import Address
from hotqueue.connection import Connection
from hotqueue.envelope import NO_TRAIL
from hotqueue.frame import enqueued_ms, id_text
from hotqueue.trail import Trail
from hotqueue.watch import Watch


@dataclass(slots=True, eq=False, repr=False)
class Delivery:
    """One message handed to one consumer, as a handler sees it through `hotqueue.current()`.

    `headers` are what the producer passed to `send`.
    """

    queue: str
    raw: bytes
    lane: "Lane"
    index: int = 0
    handler: str = ""
    message_id: bytes | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    trail: Trail = NO_TRAIL

    def __repr__(self) -> str:
        """Show nothing of the message."""
        return f"<Delivery {self.id} of queue {self.queue!r}, attempt {self.attempt}>"

    @property
    def id(self) -> str | None:
        """The id; None for a bare body, which has none."""
        return None if self.message_id is None else id_text(self.message_id)

    @property
    def attempt(self) -> int:
        """Which run of the message this is: 1 the first time."""
        return self.trail.attempt

    @property
    def enqueued_ms(self) -> int | None:
        """When it was enqueued, in milliseconds since 1970."""
        return None if self.message_id is None else enqueued_ms(self.message_id)

    @property
    def enqueued_at(self) -> datetime | None:
        """When it was enqueued: UTC, by the producer's clock; None for a bare body."""
        return None if self.enqueued_ms is None else datetime.fromtimestamp(self.enqueued_ms / 1000, UTC)


class Lane(Protocol):
    """How messages of some queues come in and are settled; the consumer knows only this.

    What talks to Redis raises NotSent, Refused or OutcomeUnknown. The lane remembers what it could not tell
    Redis, and tells it first when it is opened again.
    """

    queues: Sequence[str]
    address: Address  # of the server
    client_id: int  # by which a wait can be unblocked; 0 if the server does not allow that
    watch: Watch | None  # which hears of messages for it, so that it need not park
    parks_first: bool  # to park is all it takes to get what waits; otherwise `take` comes first

    def open(self) -> None:
        """Connect, and settle what an earlier failure left open; nothing to do if all is well."""

    def rest(self) -> Delivery | None:
        """Return the next message of what has come already, if there is one."""

    def take(self, queue: str) -> Delivery | None:
        """Return the next message of `queue` if one waits, acknowledging what is done on the way."""

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        """Start to wait for a message of these queues, in this order; return the connection to poll."""

    def collect(self) -> Delivery | None:
        """Read what the wait brought. To be called once for each `park`."""

    def abandon(self) -> None:
        """Give up what was sent and not answered: close the connection, until the lane is opened again."""

    def begin(self, delivery: Delivery) -> bool:
        """Say that the handler is about to be called; False if all is to be given back instead."""

    def ack(self, delivery: Delivery) -> None:
        """Say that the handler is done; Redis is told with the next `take` or `flush`."""

    def bury(self, delivery: Delivery, frame: bytes) -> None:
        """Move it to the dead list as `frame`, which carries the reason."""

    def retry(self, delivery: Delivery, frame: bytes, delay_s: float) -> None:
        """Put it aside as `frame`, which carries what happened, to run again in `delay_s` seconds."""

    def give_back(self) -> None:
        """Put everything that was taken and not begun back to the head, as if never taken."""

    def flush(self) -> None:
        """Tell Redis what is done, if it does not know yet."""

    def close(self) -> None:
        """Settle everything, put what was not begun back to the head, and leave."""


class Progress(Protocol):
    """Told what a consumer is doing: the supervisor's scoreboard, the caretaker, or nobody."""

    watched_by: int | None  # the process that gives back what a dead consumer held

    def idle(self) -> None:
        """Every queue is empty, and the wait for the next message begins."""

    def is_paused(self, queue: str) -> bool:
        """Tell whether nothing of `queue` may be started now."""

    def is_fresh(self, queue: str) -> bool:
        """Tell whether the lease on `queue` was renewed lately, so that what was claimed is still ours."""

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """A new incarnation serves `queue` through the connection `client_id`; 0: none does any more."""

    def connected(self, queue: str, seen_as: str) -> None:
        """The connection of the incarnation that comes next is one that the server knows by this address."""

    def claimed(self, queue: str, claim: int, size: int) -> None:
        """The claim number is now `claim`, of so many frames, with nothing of it started."""

    def is_revoked(self, queue: str) -> bool:
        """Tell whether frames of the claim may have been taken back that were not started."""

    def started(self, delivery: Delivery) -> bool:
        """Tell that a message is about to run; False if it must not: it may be somebody else's by now."""

    def finished(self, queue: str, index: int) -> None:
        """Frame `index` of the claim is done."""


class Unwatched:
    """The progress of a consumer that nobody watches."""

    watched_by: int | None = None

    def idle(self) -> None:
        """Tell nobody."""

    def is_paused(self, queue: str) -> bool:
        """Know of no pause."""
        del queue
        return False

    def is_fresh(self, queue: str) -> bool:
        """Know of no lease."""
        del queue
        return True

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Tell nobody."""

    def connected(self, queue: str, seen_as: str) -> None:
        """Tell nobody."""

    def claimed(self, queue: str, claim: int, size: int) -> None:
        """Tell nobody."""

    def is_revoked(self, queue: str) -> bool:
        """Know of nobody who would."""
        del queue
        return False

    def started(self, delivery: Delivery) -> bool:
        """Tell nobody."""
        del delivery
        return True

    def finished(self, queue: str, index: int) -> None:
        """Tell nobody."""


CURRENT: ContextVar[Delivery | None] = ContextVar("hotqueue_delivery", default=None)


def current() -> Delivery | None:
    """Return the delivery that the running handler was called for; None outside of one."""
    return CURRENT.get()
