"""Waiting on a condition: the only way a test waits for anything."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# Deadlines are those of a quiet machine; one that is slow, or busy, has so many times as long.
PATIENCE = 4
_POLL_S = 0.005


def wait_until(condition: Callable[[], Value], timeout: float = 10.0, what: str = "") -> Value:
    """Return the first truthy answer of `condition`; AssertionError with `what` after `timeout` seconds."""
    seconds = timeout * PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        late = (
            time.monotonic() > deadline
        )  # looked at first: the condition gets its chance after the deadline too
        value = condition()
        if value:
            return value
        if late:
            msg = f"after {seconds:g} s still not: {what or condition}; the last answer was {value!r}"
            raise AssertionError(msg)
        time.sleep(_POLL_S)


def passes(seconds: float) -> None:
    """A time in which something must not happen."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 10)
