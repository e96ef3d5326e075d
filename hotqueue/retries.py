"""Whether and when a failed message runs again."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from hotqueue.durations import Seconds, seconds_of
from hotqueue.errors import ConfigurationError, HotQueueError

LIMIT = 10
FIRST_S = 15.0
LONGEST_S = 3600.0
_MOST_DOUBLINGS = 20

Backoff: TypeAlias = Callable[[int], Seconds] | Sequence[Seconds] | Seconds
Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


class Retry(HotQueueError):
    """Raise it in a handler to have its message run again, in `delay` seconds or as the backoff says.

    It counts as a failure, so it does not go on for ever. Raises ConfigurationError for a negative delay.
    """

    def __init__(self, reason: str = "", *, delay: Seconds | None = None) -> None:
        """Keep the delay in seconds."""
        super().__init__(reason or "the handler asked for it")
        self.delay_s = None if delay is None else seconds_of("delay", delay)


class Reject(HotQueueError):
    """Raise it in a handler to move the message to the dead list at once, with this reason."""


def exponential(failures: int) -> float:
    """Return the default delay in seconds: up to 15, doubled with each failure to 1 h, half of it random."""
    longest = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return longest / 2 + random.uniform(0, longest / 2)  # noqa: S311 - it spreads load


@dataclass(frozen=True, slots=True)
class Retries:
    """What `@queue.worker` was told: how many, how long apart, and after which errors."""

    limit: int = LIMIT
    backoff: Callable[[int], Seconds] | tuple[float, ...] = exponential
    retry_on: Kinds = BaseException  # a handler that calls sys.exit() has failed like any other

    def delay_s(self, error: BaseException, failures: int) -> float | None:
        """Return how long to wait after so many failures; None to bury. Raises what a backoff does."""
        kind = type(error)  # a user's class may say something else of itself
        if issubclass(kind, Reject) or failures > self.limit:
            return None
        if issubclass(kind, Retry):
            asked_s = cast("Retry", error).delay_s
            return self._backoff_s(failures) if asked_s is None else asked_s
        return self._backoff_s(failures) if issubclass(kind, self.retry_on) else None

    def _backoff_s(self, failures: int) -> float:
        if callable(self.backoff):
            return seconds_of("what the backoff returns", self.backoff(failures))
        return self.backoff[min(failures, len(self.backoff)) - 1]


def retries_from(
    retries: int | None, backoff: Backoff | None, retry_on: Kinds | None, *, at_most_once: bool
) -> Retries:
    """Check what a user gave. Raises ConfigurationError."""
    if at_most_once:
        if retries or backoff is not None or retry_on is not None:
            msg = "retries need delivery='at-least-once': at-most-once means that a message never runs twice"
            raise ConfigurationError(msg)
        return Retries(0)
    limit = LIMIT if retries is None else retries
    if type(limit) is not int or limit < 0:
        msg = f"retries must be a whole number from 0, got {retries!r}"
        raise ConfigurationError(msg)
    return Retries(limit, _checked_backoff(backoff), _checked_kinds(retry_on))


def _checked_backoff(backoff: Backoff | None) -> Callable[[int], Seconds] | tuple[float, ...]:
    if backoff is None:
        return exponential
    if callable(backoff):
        return backoff
    if isinstance(backoff, Sequence) and not isinstance(backoff, str | bytes) and backoff:
        return tuple(seconds_of("each backoff", delay) for delay in backoff)
    try:
        return (seconds_of("backoff", backoff),)
    except ConfigurationError as error:
        msg = f"backoff must be seconds, a list of them, or a function of how many failures, got {backoff!r}"
        raise ConfigurationError(msg) from error


def _checked_kinds(retry_on: Kinds | None) -> Kinds:
    if retry_on is None:
        return BaseException
    kinds: tuple[object, ...] = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        msg = f"retry_on must be a class of exceptions or a tuple of them, got {retry_on!r}"
        raise ConfigurationError(msg)
    return retry_on
