"""A handler that tells when it began, and that does not end the first time: its child is to be killed."""

import os
import time

from hotqueue import HotQueue, current

queue = HotQueue("benchmark")
times = HotQueue("benchmark-times", serializer="json")


@queue.worker
def take(_message: object) -> None:
    delivery = current()
    assert delivery is not None
    times.enqueue([delivery.attempt, os.getpid(), time.monotonic()])
    if delivery.attempt == 1:
        time.sleep(60)
