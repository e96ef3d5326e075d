"""Lengths of time, as users give them."""

import re
from datetime import timedelta
from typing import TypeAlias

from hotqueue.errors import ConfigurationError

Seconds: TypeAlias = float | timedelta

_MOST_S = 2**53 / 1000  # beyond it milliseconds are not exact any more
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parsed(text: str) -> float | None:
    """Return the seconds of `30`, `30s`, `10m`, `2h` or `1d`; None for what is none of these."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", text.strip())
    return None if found is None else float(found[1]) * _UNITS_S[found[2]]


def seconds_of(name: str, value: object) -> float:
    """Return `value`, seconds or a timedelta, in seconds. Raises ConfigurationError that calls it `name`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _MOST_S:
        return float(seconds)
    msg = f"{name} must be seconds or a timedelta, not negative, got {value!r}"
    raise ConfigurationError(msg)


def idle_of(timeout: Seconds | None) -> float | None:
    """Return after how many idle seconds a loop ends; None for never, which 0 means too."""
    return None if timeout is None else seconds_of("timeout", timeout) or None
