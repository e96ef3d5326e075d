"""The function that does nothing, except that it says so at a None."""

import os
from pathlib import Path

QUEUE = "benchmark"
WARM_UP = 10  # one in so many messages comes before those that are measured
ENDED = "BENCHMARK_ENDED"  # names the pipe


def no_op(message: object) -> None:
    """Every contender calls it with every message. To write to a pipe costs Redis nothing."""
    if message is None:
        with Path(os.environ[ENDED]).open("wb") as pipe:
            pipe.write(b".")
