"""Lengths of time, as users give them."""

from datetime import timedelta
from typing import TypeAlias

from hotqueue.errors import ConfigurationError

Seconds: TypeAlias = float | timedelta

_MOST_S = 2**53 / 1000  # beyond it milliseconds are not exact any more


def seconds_of(name: str, value: object) -> float:
    """Return `value`, seconds or a timedelta, in seconds. Raises ConfigurationError that calls it `name`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _MOST_S:
        return float(seconds)
    msg = f"{name} must be seconds or a timedelta, not negative, got {value!r}"
    raise ConfigurationError(msg)
