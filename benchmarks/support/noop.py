"""The handler that does nothing, except that it presses a stopwatch at a None."""

from collections.abc import Callable
from typing import Any

from support.stopwatch import Stopwatch

from hotqueue import HotQueue
from hotqueue.handler import Handler, Mode

QUEUE = "benchmark"
WARM_UP = 10  # one in so many messages comes before those that are measured


def work(payload: int, messages: int) -> list[bytes | None]:
    """Return all that a contender gets: some to warm up, then the measured ones between two None."""
    message = b"x" * payload
    return [message] * (messages // WARM_UP) + [None] + [message] * messages + [None]


def presser(watch: Stopwatch) -> Callable[[object], None]:
    """Return the function that every contender calls with every message."""

    def no_op(message: object) -> None:
        if message is None:
            watch.press()

    return no_op


def handler(url: str, delivery: Mode, no_op: Callable[[object], None]) -> Handler[Any, Any]:
    """Return it as the handler of the benchmark's queue."""
    return HotQueue(QUEUE, url=url).worker(delivery=delivery)(no_op)
