"""Everything HotQueue raises on purpose. Each docstring says what happened and what to do."""

from redis.exceptions import ConnectionError as RedisConnectionError


class HotQueueError(Exception):
    """The root of all errors of HotQueue."""

    def __repr__(self) -> str:
        """Show what any exception shows; those that are also redis-py's would show something else."""
        return f"{type(self).__name__}({str(self)!r})"


class ConfigurationError(HotQueueError, ValueError):
    """Something you wrote cannot work: a name, an option, an address. The message says what to write instead.

    Also a ``ValueError``.
    """


class BadMessage(HotQueueError, ValueError):
    """A message could not be turned into bytes, or bytes from Redis could not be turned into a message."""


class TooLarge(BadMessage):
    """The message is larger than ``max_size``. Store the data elsewhere and enqueue a reference to it."""


class Expired(HotQueueError):
    """A message became older than ``expires=`` or its handler's ``max_age=`` allow, and was buried unrun."""


class SoftTimeLimit(HotQueueError):
    """Raised in a handler that runs longer than its ``soft_time_limit``, to let it clean up and end."""

    def __init__(self, message: str = "it has run longer than its soft time limit") -> None:
        """Have a text also where Python makes the error: a thread can only be sent the class of one."""
        super().__init__(message)


class TimeLimit(HotQueueError):
    """Why a message has failed whose process was killed: it ran longer than its handler's ``time_limit``."""


class Full(HotQueueError):
    """The queue already holds ``max_length`` messages: nothing was enqueued. Try again when some are done."""


class NotSent(HotQueueError, RedisConnectionError):
    """Redis was not reached, or refused: nothing happened there, so it is safe to try again.

    Also a ``redis.exceptions.ConnectionError``, so that code written for HotQueue 0.2 catches it.
    """


class Refused(NotSent):
    """Redis answered with an error and did nothing.

    ``code`` is the first word of its answer: ``OOM``, ``NOPERM``, ``WRONGPASS``, ``READONLY``, …
    """

    def __init__(self, message: str, code: str = "ERR") -> None:
        """Keep the code beside the text, so that callers need not parse it."""
        super().__init__(message)
        self.code = code


class OutcomeUnknown(HotQueueError, RedisConnectionError):
    """The command was sent and no reply came: Redis may or may not have carried it out.

    HotQueue never repeats it by itself. Repeat it only if doing it twice is harmless.
    Also a ``redis.exceptions.ConnectionError``, so that code written for HotQueue 0.2 catches it.
    """


class _OfBatch(HotQueueError):
    """What an error of a batch knows."""

    def __init__(self, message: str, ids: tuple[str | None, ...] = (), accepted: int = 0) -> None:
        super().__init__(message)
        self.ids = ids
        self.accepted = accepted


class BatchNotSent(_OfBatch, NotSent):
    """Redis was not reached, or refused: none of what a batch holds was sent, and it holds it still.

    ``ids`` are those of the messages it holds, in order, None for a bare body, which has none; ``accepted``
    is how many Redis had accepted before. ``batch.flush()`` tries again.
    """


class BatchFull(_OfBatch, Full):
    """There is no room for all that a batch holds: none of it was sent, and it holds it still.

    ``ids``, ``accepted`` and what to do as in ``BatchNotSent``.
    """


class BatchOutcomeUnknown(_OfBatch, OutcomeUnknown):
    """A batch was sent and no reply came: all of these messages were accepted, or none.

    ``ids`` are those of the messages, in order, None for a bare body, which has none; ``accepted`` is how
    many Redis had accepted before. The batch does not hold them any more, so that nothing is sent twice.
    """
