"""The dead list of a queue: messages that ended badly, each with its reason, until somebody decides."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hotqueue import keys, queue_scripts, scripts
from hotqueue.connection import Pool
from hotqueue.envelope import Envelope, trail_of
from hotqueue.errors import BadMessage
from hotqueue.frame import WRAPPED, Frame, id_text, unpack, with_trail
from hotqueue.trail import Trail

PAGE = 500  # entries read at once
FIND_PAGE = 2000  # entries looked at in one script


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One entry. `reason` tells kind, error and traceback, as far as known; nothing in it is trusted."""

    queue: str
    id: str
    buried_at: datetime
    trail: Trail
    frame: Frame = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def reason(self) -> Any:
        """Why it is here."""
        return self.trail.reason

    @property
    def is_bare(self) -> bool:
        """Whether it came as a bare body; the id was given to it at its burial."""
        return bool(self.frame.flags & WRAPPED)


class DeadLetters:
    """What `queue.dead` returns. All methods raise NotSent, Refused or OutcomeUnknown."""

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
        """Yield all of them, oldest burial first, a page at a time."""
        return self.since(None)

    def since(self, when: datetime | None) -> Iterator[DeadMessage]:
        """Yield those buried at `when` or later; what is buried while this goes on is left out."""
        start: str | int = "-inf" if when is None else int(when.timestamp() * 1000)
        newest = self._pool().call("ZRANGE", self._key, -1, -1, "WITHSCORES")
        if not newest:
            return
        end = int(float(newest[1]))
        seen: set[bytes] = set()
        while True:
            page = self._pool().call(
                "ZRANGEBYSCORE", self._key, start, end, "WITHSCORES", "LIMIT", 0, PAGE + len(seen)
            )
            fresh = [(raw, int(float(at))) for raw, at in zip(page[::2], page[1::2], strict=True) if raw not in seen]
            if not fresh:
                return
            last = fresh[-1][1]
            for raw, at in fresh:
                yield self._read(raw, at)
            # The next page begins at the same millisecond; what was seen of it is passed over.
            seen = {raw for raw, at in fresh if at == last} | (seen if start == last else set())
            start = last

    def get(self, message_id: str) -> DeadMessage | None:
        """Return the one with this id, or None. Its id is looked for in Redis; the list is not sent."""
        try:
            wanted = UUID(message_id).bytes
        except ValueError:
            return None
        place = 0
        with self._pool().lent() as connection:
            while (found := queue_scripts.dead_find(connection, self._queue, place, FIND_PAGE, wanted)) is not None:
                if found:
                    return self._read(found[0], int(float(found[1])))
                place += FIND_PAGE
        return None

    def decode(self, message: DeadMessage) -> object:
        """Return the message itself. That unpickles it: do it only with what you trust. Raises BadMessage."""
        envelope = self._envelope()
        return envelope.decode(envelope.read(message.frame.body if message.is_bare else message.raw))

    def retry(self, messages: DeadMessage | Iterable[DeadMessage] | None = None) -> int:
        """Put these, by default all, at the tail of the queue, with fresh counters and their own id; return how many.

        A body that came bare goes back bare.
        """
        return self._move(messages, _revived)

    def drop(self, messages: DeadMessage | Iterable[DeadMessage] | None = None) -> int:
        """Delete these, by default all; return how many."""
        return self._move(messages, lambda _message: b"")

    def _move(
        self, messages: DeadMessage | Iterable[DeadMessage] | None, becomes: Callable[[DeadMessage], bytes]
    ) -> int:
        chosen = self if messages is None else [messages] if isinstance(messages, DeadMessage) else messages
        moved = 0
        with self._pool().lent() as connection:
            for batch in _batches((message.raw, becomes(message)) for message in chosen):
                moved += queue_scripts.dead_move(connection, self._queue, batch)
        return moved

    def _read(self, raw: bytes, at_ms: int) -> DeadMessage:
        try:
            frame = unpack(raw)
        except BadMessage:  # somebody else put it there
            frame = Frame(bytes(16), 0, WRAPPED, b"", raw, b"", b"", b"", b"")
        buried_at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return DeadMessage(self._queue, id_text(frame.message_id), buried_at, trail_of(raw), frame, raw)


def _revived(message: DeadMessage) -> bytes:
    return message.frame.body if message.is_bare else with_trail(message.raw, b"")


def _batches(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[bytes]]:
    """Group pairs so that one script moves at most 500 messages or about 1 MiB."""
    batch: list[bytes] = []
    size = 0
    for old, new in pairs:
        batch += (old, new)
        size += len(old)
        if len(batch) >= 2 * scripts.RELEASE_FRAMES or size >= scripts.RELEASE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
