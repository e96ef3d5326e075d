"""Whether and when a failed message runs again."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotqueue.errors import ConfigurationError, HotQueueError

LIMIT = 10
FIRST_S = 15.0
LONGEST_S = 3600.0

Backoff = Callable[[int], float] | Sequence[float]


class Retry(HotQueueError):  # noqa: N818 - it is raised to ask for something, not because of an error
    """Raise it in a handler to have the message run again, after `delay` seconds or as the handler's backoff says."""

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        """It counts as a failure, so it does not go on for ever."""
        super().__init__(reason or "the handler asked for a retry")
        if delay is not None and delay < 0:
            msg = f"a delay must not be negative, got {delay}"
            raise ConfigurationError(msg)
        self.delay = delay


class Reject(HotQueueError):  # noqa: N818 - likewise
    """Raise it in a handler to move the message to the dead list at once, with this reason."""


def exponential(failures: int) -> float:
    """Return the default delay in seconds after the `failures`-th failure: half fixed, half random, of up to 1 h."""
    longest = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 20))
    return longest / 2 + random.uniform(0, longest / 2)  # noqa: S311 - it spreads load


@dataclass(frozen=True, slots=True)
class Retries:
    """What `@queue.worker` was told: how many, how long apart, and after which errors."""

    limit: int = LIMIT
    backoff: Backoff = exponential
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception

    def delay_s(self, error: BaseException, failures: int) -> float | None:
        """Return how long to wait after the `failures`-th failure; None to bury. May raise what a backoff raises."""
        if isinstance(error, Reject) or failures > self.limit:
            return None
        if isinstance(error, Retry):
            return self._backoff_s(failures) if error.delay is None else error.delay
        return self._backoff_s(failures) if isinstance(error, self.retry_on) else None

    def _backoff_s(self, failures: int) -> float:
        if callable(self.backoff):
            return max(0.0, float(self.backoff(failures)))
        return float(self.backoff[min(failures, len(self.backoff)) - 1])


def retries_from(
    retries: int | None,
    backoff: Backoff | float | None,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | None,
    *,
    at_most_once: bool,
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
    if isinstance(backoff, int | float):
        backoff = [backoff]
    if backoff is not None and not callable(backoff) and (not backoff or any(delay < 0 for delay in backoff)):
        msg = f"backoff must be seconds, a list of them or a function of the number of failures, got {backoff!r}"
        raise ConfigurationError(msg)
    return Retries(limit, exponential if backoff is None else backoff, Exception if retry_on is None else retry_on)
