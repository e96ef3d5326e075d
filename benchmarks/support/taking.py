"""Handlers that take their time: one computes for 1 ms, one waits for 100 ms and tells that."""

import os
import struct
import time

from hotqueue import HotQueue

COMPUTES_MS, WAITS_MS = 1, 100
TOLD = "BENCHMARK_TOLD"  # names a pipe
RECORD = struct.Struct("qqqq")  # which message, which child, when it began and ended: monotonic, in ns

computing = HotQueue("benchmark-computing")
waiting = HotQueue("benchmark-waiting")


@computing.worker
def compute(left: int) -> None:
    end_ns = time.monotonic_ns() + COMPUTES_MS * 1_000_000
    while time.monotonic_ns() < end_ns:
        pass
    if not left:
        _tell(0, end_ns)


@waiting.worker
def wait(number: int) -> None:
    began_ns = time.monotonic_ns()
    time.sleep(WAITS_MS / 1000)
    _tell(number, began_ns)


def _tell(number: int, began_ns: int) -> None:
    pipe = os.open(os.environ[TOLD], os.O_WRONLY)
    os.write(pipe, RECORD.pack(number, os.getpid(), began_ns, time.monotonic_ns()))
    os.close(pipe)
