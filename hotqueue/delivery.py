"""A delivery, and the protocol of the two ways to get one: `at_least_once.py` and `at_most_once.py`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from hotqueue.connection import Connection
from hotqueue.trail import Trail


@dataclass(slots=True, eq=False)
class Delivery:
    """One message handed to one consumer, as a handler sees it through `hotqueue.current()`.

    `id` is None for a bare body, which has none; `enqueued_at` (UTC, by the producer's clock) likewise.
    `attempt` is 1 the first time. `headers` are what the producer passed to `send`.
    """

    queue: str
    raw: bytes = field(repr=False)
    lane: "Lane" = field(repr=False)
    index: int = field(default=0, repr=False)
    id: str | None = None
    handler: str = ""
    attempt: int = 1
    enqueued_ms: int | None = field(default=None, repr=False)
    headers: Mapping[str, object] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail, repr=False)

    @property
    def enqueued_at(self) -> datetime | None:
        """When the producer enqueued it."""
        return None if self.enqueued_ms is None else datetime.fromtimestamp(self.enqueued_ms / 1000, UTC)


class Lane(Protocol):
    """How messages of some queues come in and are settled; the consumer knows only this.

    What talks to Redis raises NotSent, Refused or OutcomeUnknown. The lane remembers what it could not tell
    Redis, and tells it first when it is opened again.
    """

    queues: Sequence[str]
    client_id: int  # by which a wait can be unblocked; 0 if the server does not allow that
    parks_first: bool  # to park is all it takes to get what waits; otherwise `take` comes first

    def open(self) -> None:
        """Connect, and settle what an earlier failure left open; nothing to do if all is well."""

    def take(self, queue: str) -> Delivery | None:
        """Return the next message of `queue` if one waits, acknowledging what is done on the way."""

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        """Start to wait for a message of these queues, in this order; return the connection to poll."""

    def collect(self) -> Delivery | None:
        """Read what the wait brought. To be called once for each `park`."""

    def abandon(self) -> None:
        """Give up what was sent and not answered: close the connection, until the lane is opened again."""

    def begin(self, delivery: Delivery) -> None:
        """Say that the handler is about to be called."""

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

    def running(self, delivery: Delivery, handler: str) -> None:
        """`handler` is about to be given this message."""

    def is_paused(self, queue: str) -> bool:
        """Tell whether nothing of `queue` may be started now."""

    def is_fresh(self, queue: str) -> bool:
        """Tell whether the lease on `queue` was renewed lately, so that what was claimed is still ours."""

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """A new incarnation serves `queue` through the connection `client_id`; 0: none does any more."""

    def claimed(self, queue: str, claim: int) -> None:
        """The claim number is now `claim`, with nothing of it started."""

    def started(self, queue: str, index: int) -> None:
        """Frame `index` of the claim is about to run."""

    def finished(self, queue: str, index: int) -> None:
        """Frame `index` of the claim is done."""


class Unwatched:
    """The progress of a consumer that nobody watches."""

    watched_by: int | None = None

    def idle(self) -> None:
        """Tell nobody."""

    def running(self, delivery: Delivery, handler: str) -> None:
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

    def claimed(self, queue: str, claim: int) -> None:
        """Tell nobody."""

    def started(self, queue: str, index: int) -> None:
        """Tell nobody."""

    def finished(self, queue: str, index: int) -> None:
        """Tell nobody."""


_current: ContextVar[Delivery | None] = ContextVar("hotqueue_delivery", default=None)


def current() -> Delivery | None:
    """Return the delivery that the running handler was called for; None outside of one."""
    return _current.get()


@contextmanager
def running(delivery: Delivery) -> Iterator[None]:
    """Make `delivery` the current one."""
    token = _current.set(delivery)
    try:
        yield
    finally:
        _current.reset(token)
