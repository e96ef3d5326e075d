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
