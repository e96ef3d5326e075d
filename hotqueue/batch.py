"""A buffer in front of a queue: many messages in one command, and an account of what a failed one did."""

import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Never, Self, TypeAlias

from hotqueue.durations import Seconds, seconds_of
from hotqueue.envelope import id_of
from hotqueue.errors import (
    BatchFull,
    BatchNotSent,
    BatchOutcomeUnknown,
    ConfigurationError,
    Full,
    NotSent,
    OutcomeUnknown,
)
from hotqueue.outbox import Outbox

Failure: TypeAlias = BatchNotSent | BatchFull | BatchOutcomeUnknown

COUNT = 1000
BYTES = 1 << 20
SECONDS = 1.0


class Batch:
    """What `queue.batch()` returns: messages go out together, and when the `with` block ends.

    `accepted` is how many of them Redis has accepted, `len(batch)` how many are held. It is for one thread at
    a time. In a fork it is empty: what was held is its parent's.
    """

    def __init__(self, outbox: Outbox, count: int, size: int, seconds: Seconds) -> None:
        """Use `queue.batch()` instead."""
        for name, limit in (("count", count), ("bytes", size)):
            if type(limit) is not int or limit < 1:
                msg = f"{name} must be a whole number from 1, got {limit!r}"
                raise ConfigurationError(msg)
        self.accepted = 0
        self._outbox = outbox
        self._count = count
        self._most_bytes = size
        self._seconds = seconds_of("seconds", seconds)
        self._failure: Failure | None = None
        self._frames: list[bytes] = []
        self._bytes = 0
        self._began_s = 0.0  # when the first of them came
        self._pid = os.getpid()

    def send(
        self,
        message: object,
        *,
        headers: Mapping[str, object] | None = None,
        expires: Seconds | None = None,
        **others: Never,
    ) -> str:
        """Hold one message, with optional JSON `headers`, and return its id; `expires` as in `queue.send`.

        Sends what is held if that is enough now, and then raises what `flush` raises. Raises BadMessage,
        TooLarge or ConfigurationError for this message, which is not held then. What else `queue.send` takes
        (`others`) is refused: a batch goes to the tail of the queue, at once.
        """
        if len(others) > 0:
            msg = f"a batch only knows headers= and expires=: use queue.send() for {', '.join(others)}="
            raise ConfigurationError(msg)
        expires_s = None if expires is None else seconds_of("expires", expires)
        message_id, frame = self._outbox.envelope.seal_with_id(message, headers, expires_s)
        self._hold([frame])
        return message_id

    def enqueue(self, *messages: object) -> None:
        """Hold messages as `queue.enqueue` would write them. Raises what `send` raises."""
        self._hold(self._outbox.envelope.seal_all(messages))

    def flush(self) -> None:
        """Send what is held, in one command.

        Raises BatchNotSent or BatchFull, and then holds it still, to be sent by the next `flush` or `send`;
        or BatchOutcomeUnknown, and then holds it no more. Nothing is sent twice. Ctrl-C, or what else a
        signal handler of yours raises meanwhile, goes on with a BatchOutcomeUnknown as its `__cause__`.
        """
        self._disown_parents()
        frames, size = self._frames, self._bytes
        if not frames:
            return
        try:
            self._frames, self._bytes = [], 0  # first: whatever interrupts this, it may have been sent
            self._outbox.push(frames)
            self.accepted += len(frames)
        except (NotSent, Full) as error:
            self._frames, self._bytes = frames, size
            kind = BatchFull if isinstance(error, Full) else BatchNotSent
            raise self._failed(kind, error, frames) from error
        except OutcomeUnknown as error:
            raise self._failed(BatchOutcomeUnknown, error, frames) from error
        except BaseException as error:
            why = f"all may have been sent, or none: {type(error).__name__} has interrupted that"
            raise error from self._failed(BatchOutcomeUnknown, why, frames)

    def __len__(self) -> int:
        """Return how many messages are held."""
        return len(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Send what is held, whatever ended the block: a batch changes when messages go out, not whether."""
        if error is None or error is not self._failure:
            self.flush()

    def _hold(self, frames: list[bytes]) -> None:
        self._disown_parents()
        if not self._frames:
            self._began_s = time.monotonic()
        self._frames += frames
        self._bytes += sum(map(len, frames))
        enough = len(self._frames) >= self._count or self._bytes >= self._most_bytes
        if enough or time.monotonic() - self._began_s >= self._seconds:
            self.flush()

    def _disown_parents(self) -> None:
        """After a fork, what was held is sent by the process that was told to."""
        if self._pid != os.getpid():
            self._frames, self._bytes, self._pid = [], 0, os.getpid()

    def _failed(
        self,
        kind: type[Failure],
        why: object,
        frames: list[bytes],
    ) -> Failure:
        text = f"{len(frames)} messages of a batch after {self.accepted} that were accepted: {why}"
        self._failure = failure = kind(text, tuple(map(id_of, frames)), self.accepted)
        return failure
