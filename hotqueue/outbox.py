"""How one message is accepted by Redis: now or later, at either end, at most once per key, safely on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hotqueue import keys, queue_scripts
from hotqueue.connection import PRODUCER_TIMEOUT_S, Connection, Pool
from hotqueue.envelope import Envelope
from hotqueue.errors import ConfigurationError, Full, OutcomeUnknown, Refused
from hotqueue.queue_scripts import Where

UNIQUE_FOR_S = 3600.0
LONGEST_UNIQUE_KEY = 512  # characters

Seconds = float | timedelta


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller of `send` wants besides the message. Raises ConfigurationError for what contradicts itself."""

    delay: Seconds | None = None
    at: datetime | None = None
    unique: str | None = None
    unique_for: Seconds = UNIQUE_FOR_S
    expires: Seconds | None = None
    front: bool = False
    durable: bool = False

    def __post_init__(self) -> None:
        """Check."""
        if self.delay is not None and self.at is not None:
            _refuse("give delay= or at=, not both")
        if self.front and (self.delay is not None or self.at is not None):
            _refuse("front=True is for messages that are due now: leave out delay= and at=")
        if self.at is not None and self.at.tzinfo is None:
            _refuse("at= needs a datetime with a time zone, such as datetime.now(UTC) + timedelta(hours=1)")
        for name in ("delay", "expires", "unique_for"):
            value = getattr(self, name)
            if value is not None and _seconds(value) < 0:
                _refuse(f"{name}= must not be negative, got {value!r}")
        if self.unique is not None:
            self._check_unique(self.unique)

    def _check_unique(self, key: str) -> None:
        if not 0 < len(key) <= LONGEST_UNIQUE_KEY:
            _refuse(f"unique= must have 1 to {LONGEST_UNIQUE_KEY} characters, got {len(key)}")
        if self.delay is not None and _seconds(self.delay) >= _seconds(self.unique_for):
            _refuse("delay= must be shorter than unique_for=: the key would be free again before the message runs")

    @property
    def where(self) -> tuple[Where, int]:
        """Which end of the queue, or from when on in ms."""
        if self.at is not None:
            return "at", int(self.at.timestamp() * 1000)
        if self.delay is not None:
            return "in", int(_seconds(self.delay) * 1000)
        return ("head" if self.front else "tail"), 0


class Outbox:
    """Accepts messages for one queue."""

    def __init__(
        self, queue: str, pool: Callable[[], Pool], envelope: Callable[[], Envelope], most: int | None
    ) -> None:
        """Hold `most` messages, waiting and delayed, at most; None for any number."""
        if most is not None and most < 1:
            _refuse(f"max_length must be at least 1, got {most}")
        self._queue = queue
        self._key = keys.key_for_name(queue)
        self._pool = pool
        self._envelope = envelope
        self._most = most

    def enqueue(self, messages: Sequence[object]) -> None:
        """Accept messages, all of them in one command."""
        frames = [self._envelope().seal(message) for message in messages]
        if self._most is None:
            self._pool().call("RPUSH", self._key, *frames)
            return
        with self._pool().lent() as connection:
            verdict, length = queue_scripts.push(connection, self._queue, self._most, frames)
        if verdict < 0:
            raise Full(self._full(length))

    def send(self, message: object, headers: Mapping[str, object] | None, terms: Terms) -> str:
        """Accept one message; return its id, or that of the first with the same unique key."""
        expires_s = None if terms.expires is None else _seconds(terms.expires)
        message_id, raw = self._envelope().seal_with_id(message, headers, expires_s)
        where, at_ms = terms.where
        with self._pool().lent() as connection:
            verdict, what = queue_scripts.send(
                connection, self._queue, raw, message_id,
                where=where, at_ms=at_ms, most=self._most,
                unique=terms.unique, unique_ms=int(_seconds(terms.unique_for) * 1000),
            )  # fmt: skip
            if verdict < 0:
                raise Full(self._full(what))
            if terms.durable:
                _confirm(connection)
        return message_id if verdict else what.decode()

    def _full(self, length: int) -> str:
        return f"queue {self._queue!r} holds {length} messages, its max_length is {self._most}: nothing was enqueued"


def _confirm(connection: Connection) -> None:
    """Wait until what this connection wrote is on disk (WAITAOF), or on a replica where the server is too old."""
    timeout_ms = int(PRODUCER_TIMEOUT_S * 500)
    try:
        synced, _replicas = connection.call("WAITAOF", 1, 0, timeout_ms)
    except Refused as refused:
        if "unknown command" not in str(refused):
            msg = f"durable=True cannot be had, the message itself was accepted: {refused}"
            raise OutcomeUnknown(msg) from refused
        synced = connection.call("WAIT", 1, timeout_ms)
    if not synced:
        msg = f"the message was accepted, but nothing confirmed within {timeout_ms} ms that it is durable"
        raise OutcomeUnknown(msg)


def _seconds(value: Seconds) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _refuse(problem: str) -> None:
    raise ConfigurationError(problem)
