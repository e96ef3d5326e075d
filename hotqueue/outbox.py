"""How one message is accepted by Redis: now or later, at either end, at most once per key, safely on disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from hotqueue import keys, queue_scripts
from hotqueue.address import Address
from hotqueue.connection import Connection
from hotqueue.durations import Seconds, seconds_of
from hotqueue.envelope import Envelope
from hotqueue.errors import ConfigurationError, Full, NotSent, OutcomeUnknown, Refused
from hotqueue.pool import Pool
from hotqueue.queue_scripts import Where
from hotqueue.resp import bulk

UNIQUE_FOR_S = 3600.0
LONGEST_UNIQUE_KEY = 512  # bytes
DURABLE_S = 5.0  # to wait until a message is on disk; a server that syncs every second takes one
_DURABLE_STEP_MS = 250  # of one reply, which must come before the connection's timeout
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller of `send` wants besides the message. Raises ConfigurationError for a contradiction."""

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
        if self.at is not None:
            _check_time(self.at)
        if self.delay is not None:
            seconds_of("delay", self.delay)
        if self.unique is not None:
            _check_key(self.unique)
            if self._delay_s >= seconds_of("unique_for", self.unique_for):
                _refuse("unique_for= must be longer than the delay: the key would be free before it is due")
        elif self.unique_for != UNIQUE_FOR_S:
            _refuse("unique_for= says how long the key of unique= is taken: give both")
        if self.expires_s is not None and self._delay_s > 0 and self._delay_s >= self.expires_s:
            _refuse("expires= must be longer than the delay: it would be too old before it is due")

    @property
    def _delay_s(self) -> float:
        if self.at is not None:
            return self.at.timestamp() - time.time()
        return 0.0 if self.delay is None else seconds_of("delay", self.delay)

    @property
    def where(self) -> tuple[Where, float]:
        """Which end of the queue, or when it is due in ms."""
        if self.at is not None:
            return "at", (self.at - _EPOCH) / timedelta(milliseconds=1)
        if self.delay is not None:
            return "in", seconds_of("delay", self.delay) * 1000
        return ("head" if self.front else "tail"), 0

    @property
    def unique_ms(self) -> int:
        """How long the unique key stays taken."""
        return max(1, int(seconds_of("unique_for", self.unique_for) * 1000))

    @property
    def expires_s(self) -> float | None:
        """How old the message may get."""
        return None if self.expires is None else seconds_of("expires", self.expires)


class Outbox:
    """Accepts messages for one queue, sealed by its `envelope`, which may be another one at any time."""

    def __init__(self, queue: str, address: Address | None, envelope: Envelope, most: int | None) -> None:
        """Hold `most` messages, waiting and delayed, at most; None for any number, or the default address."""
        if most is not None and (type(most) is not int or most < 1):
            _refuse(f"max_length must be a whole number from 1, got {most!r}")
        self.envelope = envelope
        self._queue = queue
        self._rpush = bulk(b"RPUSH") + bulk(keys.key_for_name(queue).encode())
        self._address = address
        self._most = most

    @cached_property
    def address(self) -> Address:
        """Where Redis is."""
        return self._address or Address.default()

    @cached_property
    def pool(self) -> Pool:
        """The connections of the queue."""
        return Pool(self.address)

    def enqueue(self, messages: Sequence[object]) -> None:
        """Accept messages, all of them in one command."""
        self.push(self.envelope.seal_all(messages))

    def push(self, frames: Sequence[bytes]) -> None:
        """Accept what is sealed already, likewise."""
        if self._most is None:
            self.pool.count(b"*%d\r\n%b%b" % (2 + len(frames), self._rpush, b"".join(map(bulk, frames))))
            return
        with self.pool.lent() as connection:
            accepted, length = queue_scripts.push(connection, self._queue, self._most, frames)
        if not accepted:
            raise self._full(length)

    def send(self, message: object, headers: Mapping[str, object] | None, terms: Terms) -> str:
        """Accept one message; return its id, or that of the first with the same unique key."""
        message_id, raw = self.envelope.seal_with_id(message, headers, terms.expires_s)
        where, at_ms = terms.where
        with self.pool.lent() as connection:
            if terms.durable:
                _check_durable(connection)
            verdict, what = queue_scripts.send(
                connection, self._queue, raw, message_id,
                where=where, at_ms=at_ms, most=self._most, unique=terms.unique, unique_ms=terms.unique_ms,
                durable=terms.durable,
            )  # fmt: skip
            if verdict < 0:
                raise self._full(what)
            if terms.durable:
                _confirm(connection)
        return message_id if verdict else str(what.decode())

    def _full(self, length: int) -> Full:
        most = f"its max_length is {self._most}"
        return Full(f"queue {self._queue!r} holds {length} messages, {most}: nothing was sent")


def _check_durable(connection: Connection) -> None:
    """Raise ConfigurationError, before anything was sent, where nobody would confirm it."""
    try:
        connection.call("WAITAOF", 1, 0, 1)
    except Refused as refused:
        if _is_unknown(refused) and connection.call("WAIT", 1, _DURABLE_STEP_MS):
            return
        if not _is_unknown(refused) and "appendonly" not in str(refused):
            raise
        msg = (
            f"durable=True needs a server that confirms it, and Redis at {connection.address} does not:"
            " set appendonly yes (from Redis 7.2), or give it a replica; nothing was sent"
        )
        raise ConfigurationError(msg) from refused


def _confirm(connection: Connection) -> None:
    """Wait until what this connection wrote is on disk, or on a replica."""
    end_s = time.monotonic() + DURABLE_S
    try:
        while not _confirmations(connection):
            if time.monotonic() > end_s:
                msg = f"the message was accepted, but it was not confirmed within {DURABLE_S:g} s as durable"
                raise OutcomeUnknown(msg)
    except NotSent as error:
        msg = f"the message was accepted, but whether it is durable is not known: {error}"
        raise OutcomeUnknown(msg) from error


def _confirmations(connection: Connection) -> int:
    try:
        return int(connection.call("WAITAOF", 1, 0, _DURABLE_STEP_MS)[0])
    except Refused as refused:
        if not _is_unknown(refused):
            raise
        return int(connection.call("WAIT", 1, _DURABLE_STEP_MS))


def _is_unknown(refused: Refused) -> bool:
    return "unknown command" in str(refused)


def _check_time(at: object) -> None:
    if not isinstance(at, datetime) or at.utcoffset() is None:
        _refuse("at= needs a datetime with a time zone, such as datetime.now(UTC) + timedelta(hours=1)")


def _check_key(key: object) -> None:
    try:
        if isinstance(key, str) and 0 < len(key.encode()) <= LONGEST_UNIQUE_KEY:
            return
    except UnicodeEncodeError:
        pass
    _refuse(f"unique= must be text of 1 to {LONGEST_UNIQUE_KEY} bytes, got {key!r:.60}")


def _refuse(problem: str) -> None:
    raise ConfigurationError(problem)
