"""An application whose handler takes a while, and tells when it began and ended."""

import importlib
import os
import time

from hotqueue import HotQueue

queue = HotQueue("benchmark")
times = HotQueue("benchmark-times", serializer="json")

for name in os.environ.get("BENCHMARK_IMPORTS", "").split():  # as a large application does
    importlib.import_module(name)


@queue.worker
def take(seconds: float) -> None:
    began_s = time.monotonic()
    times.enqueue(["began", began_s])
    time.sleep(seconds)
    times.enqueue(["ended", time.monotonic()])
