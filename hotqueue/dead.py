"""The dead list of a queue: messages that ended badly, each with its reason, until somebody decides."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn
from uuid import UUID

from hotqueue import keys, queue_scripts
from hotqueue.envelope import Envelope
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.frame import WRAPPED, Frame, id_text, unpack
from hotqueue.pool import Pool
from hotqueue.queue_scripts import RETRY_FRAMES, Way
from hotqueue.scripts import RELEASE_BYTES
from hotqueue.trail import Scalar, Trail

_CHOICE = "give one or several of queue.dead, such as queue.dead.get(ID), or nothing for all of them"


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One entry. Nothing in it was decoded or verified."""

    queue: str
    id: str
    buried_at: datetime
    frame: Frame = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def trail(self) -> Trail:
        """How often it was begun and what became of it."""
        return Trail.load(self.frame.trail)

    @property
    def reason(self) -> Mapping[str, Scalar]:
        """Why it is here, as far as known: kind, error, handler, at (ms since 1970), traceback."""
        return self.trail.reason

    @property
    def is_bare(self) -> bool:
        """Whether it came as a bare body; the id was given to it at its burial."""
        return bool(self.frame.flags & WRAPPED)


class DeadLetters:
    """What `queue.dead` returns. All methods raise NotSent, Refused, OutcomeUnknown or ConfigurationError."""

    def __init__(self, queue: str, pool: Callable[[], Pool], envelope: Callable[[], Envelope]) -> None:
        """Nothing is sent yet."""
        self._queue = queue
        self._pool = pool
        self._envelope = envelope
        self._key = keys.dead(queue)

    def __len__(self) -> int:
        """Return how many messages are dead."""
        return int(self._pool().call("ZCARD", self._key))

    def __iter__(self) -> Iterator[DeadMessage]:
        """Yield all of them, oldest burial first, a page at a time; what is buried meanwhile is left out."""
        return self.since(None)

    def __reversed__(self) -> Iterator[DeadMessage]:
        """Yield all of them, newest burial first, a page at a time."""
        return (self._entry(raw, at_ms) for raw, at_ms in self._walk("down", "+inf"))

    def since(self, when: datetime | None) -> Iterator[DeadMessage]:
        """Yield those buried at `when` or later, oldest first; what is buried meanwhile is left out."""
        end_ms = self._newest_ms()
        for raw, at_ms in self._walk("up", "-inf" if when is None else when.timestamp() * 1000):
            if at_ms > end_ms:
                return
            yield self._entry(raw, at_ms)

    def get(self, message_id: str) -> DeadMessage | None:
        """Return the one with this id, or None. It is looked for in Redis; the list is not sent."""
        if not isinstance(message_id, str):
            _refuse("dead.get() takes the id of a message, which is text", message_id)
        try:
            wanted = UUID(message_id).bytes
        except ValueError:
            return None
        with self._pool().lent() as connection:
            found = queue_scripts.dead_find(connection, self._queue, wanted)
        return None if found is None else self._entry(*found)

    def decode(self, message: DeadMessage) -> object:
        """Return the message itself. That unpickles it: do it only with what you trust. Raises BadMessage."""
        envelope = self._envelope()
        return envelope.decode(envelope.read(message.frame.body if message.is_bare else message.raw))

    def retry(self, messages: DeadMessage | Iterable[DeadMessage] | None = None) -> int:
        """Put `messages`, by default all, at the tail of the queue; return how many were still there.

        They begin with fresh counters, keep their ids, and expire anew: `expires` and `max_age` count from
        now. A body that came bare goes back bare.
        """
        if messages is None:
            return self._retry_all()
        retried = 0
        for batch in _batches(messages):
            with self._pool().lent() as connection:
                retried += queue_scripts.dead_retry(connection, self._queue, batch)
        return retried

    def drop(self, messages: DeadMessage | Iterable[DeadMessage] | None = None) -> int:
        """Delete `messages`, by default all; return how many were still there."""
        if messages is None:
            with self._pool().lent() as connection:
                return sum(queue_scripts.clear(connection, [self._key]))
        return sum(int(self._pool().call("ZREM", self._key, *batch)) for batch in _batches(messages))

    def _retry_all(self) -> int:
        """Leave out what is buried meanwhile: it may have been retried already.

        As many as there are now at most: the server's clock may jump back.
        """
        end_ms, count, retried = self._newest_ms(), len(self), 0
        with self._pool().lent() as connection:
            while retried < count:
                moved = queue_scripts.dead_retry_oldest(connection, self._queue, end_ms, count - retried)
                if not moved:
                    break
                retried += moved
        return retried

    def _newest_ms(self) -> float:
        newest = self._pool().call("ZRANGE", self._key, -1, -1, "WITHSCORES")
        return float(newest[1]) if newest else 0.0

    def _walk(self, way: Way, start: str | float) -> Iterator[tuple[bytes, float]]:
        """Yield frames and when they were buried, in order, passing over what a page brings again."""
        at: str | float = start
        after, past = None, None
        while True:
            with self._pool().lent() as connection:
                page = queue_scripts.dead_page(connection, self._queue, way, at, after)
            if not page:
                return
            for raw, at_ms in page:
                here = (at_ms, raw)  # the order of a sorted set
                if past is None or (here > past if way == "up" else here < past):
                    past = here
                    yield raw, at_ms
            after, at = page[-1]

    def _entry(self, raw: bytes, at_ms: float) -> DeadMessage:
        try:
            frame = unpack(raw)
        except BadMessage:  # somebody else put it there
            frame = Frame(bytes(16), 0, WRAPPED, b"", raw, b"", raw, len(raw))
        buried_at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return DeadMessage(self._queue, id_text(frame.message_id), buried_at, frame, raw)


def _batches(messages: DeadMessage | Iterable[DeadMessage]) -> Iterator[list[bytes]]:
    """Group frames so that one command moves at most 100 messages or about 1 MiB."""
    batch: list[bytes] = []
    size = 0
    chosen = [messages] if isinstance(messages, DeadMessage | str) else messages
    if not isinstance(chosen, Iterable):
        _refuse(_CHOICE, chosen)
    for message in chosen:
        if not isinstance(message, DeadMessage):
            _refuse(_CHOICE, message)
        batch.append(message.raw)
        size += len(message.raw)
        if len(batch) >= RETRY_FRAMES or size >= RELEASE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _refuse(wanted: str, given: object) -> NoReturn:
    msg = f"{wanted}; got {given!r:.60}"
    raise ConfigurationError(msg)
