"""An application whose handler takes a while, and tells when it began and ended."""

import time

from hotqueue import HotQueue

queue = HotQueue("benchmark")
times = HotQueue("benchmark-times", serializer="json")


@queue.worker
def take(seconds: float) -> None:
    began_s = time.monotonic()
    times.enqueue(["began", began_s])
    time.sleep(seconds)
    times.enqueue(["ended", time.monotonic()])
