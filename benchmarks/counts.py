"""Round trips, commands, bytes and system calls of one message, held against limits: `make counts`.

Counts hardly vary from machine to machine and run to run, so each has a limit; exit code 1 if one is passed.
System calls of the process that runs the messages are counted where `strace` is installed and may attach.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.course import Course
from support.noop import WARM_UP
from support.processes import cpu_s, family
from support.server import private_server

MESSAGES = 10_000
PAYLOAD = 100
_FOLDER = Path(__file__).resolve().parent
_PATIENCE_S = 30.0
_LOOP = (sys.executable, "-m", "support.application")
_WORKER = (sys.executable, "-m", "hotqueue.worker", "-c", "1", "--log-format", "json", "--log-level")
_AT_LEAST_ONCE, _AT_MOST_ONCE = "support.application:at_least_once", "support.application:at_most_once"


@dataclass(frozen=True)
class Counts:
    """Of one message; bytes are those that Redis gets and sends. System calls None: not counted."""

    trips: float
    commands: float
    bytes_in: float
    bytes_out: float
    system_calls: float | None

    def above(self, limits: "Counts") -> list[str]:
        """Name what passes its limit."""
        pairs = [(name, getattr(self, name), getattr(limits, name)) for name in vars(self)]
        return [
            f"{name} {value:.3f} > {limit:g}"
            for name, value, limit in pairs
            if value is not None and value > limit
        ]


@dataclass(frozen=True)
class Contender:
    command: tuple[str, ...]
    limits: Counts
    bare: bool = False


# Measured 7.00, 0.02, 0.02, 2.02 and 12.00 system calls. On a busy machine, and while it is traced, a message
# takes longer and claims become smaller: a log line otherwise costs 0.005 round trips. One more system call,
# or round trip, for each message is far beyond any of these limits.
CONTENDERS = {
    "BLPOP loop of redis-py": Contender((*_LOOP, "bare"), Counts(1.01, 1.02, 55, 160, 7.2), bare=True),
    "the claim script alone": Contender((*_LOOP, "claim"), Counts(0.006, 1.05, 3, 160, 0.1)),
    "worker, at-least-once": Contender((*_WORKER, "error", _AT_LEAST_ONCE), Counts(0.02, 1.1, 5, 160, 0.15)),
    "the same, a log line each": Contender(
        (*_WORKER, "info", _AT_LEAST_ONCE), Counts(0.1, 1.6, 25, 165, 2.6)
    ),
    "worker, at-most-once": Contender((*_WORKER, "error", _AT_MOST_ONCE), Counts(1.01, 1.03, 60, 190, 12.5)),
}


def main() -> None:
    failed = False
    heads = ("round trips", "commands", "bytes in", "bytes out", "system calls")
    print(" ".join([f"{f'of one of {MESSAGES} messages':28}", *(f"{head:>12}" for head in heads)]))
    for name, contender in CONTENDERS.items():
        found = _counted(contender)
        cells = ("–" if value is None else f"{value:.3f}" for value in vars(found).values())  # noqa: RUF001
        above = found.above(contender.limits)
        print(" ".join([f"{name:28}", *(f"{cell:>12}" for cell in cells), *above]), flush=True)
        failed = failed or bool(above)
    if not _may_trace():
        print("system calls are not counted: strace is not installed here, or may not attach")
    if failed:
        raise SystemExit(1)


def _counted(contender: Contender) -> Counts:
    """Log lines go to a file, as they would in real life."""
    with (
        private_server() as server,
        tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder,
        tempfile.TemporaryFile() as log,
    ):
        course = Course(server, Path(folder), PAYLOAD, MESSAGES)
        process = subprocess.Popen(
            contender.command,
            cwd=_FOLDER,
            env={**os.environ, **course.environment},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            course.wait_until_idle(1)
            with _traced(contender, process.pid, Path(folder, "calls")) as calls:
                measure = course.run(1, lambda: cpu_s(family(process.pid)), bare=contender.bare)
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)
    return Counts(
        measure.round_trips / MESSAGES,
        sum(measure.commands.values()) / MESSAGES,
        measure.bytes_in / MESSAGES,
        measure.bytes_out / MESSAGES,
        calls[0] / (MESSAGES + MESSAGES // WARM_UP) if calls else None,
    )


def _consumer(contender: Contender, pid: int) -> int:
    """Return the process that runs messages: the loop itself, or the child of a worker once it is there."""
    if contender.command[: len(_LOOP)] == _LOOP:
        return pid
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s:
        for each in family(pid):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"hotqueue: child"):
                    return each
        time.sleep(0.01)
    msg = "the worker has no child"
    raise SystemExit(msg)


@contextlib.contextmanager
def _traced(contender: Contender, started: int, output: Path) -> Iterator[list[int]]:
    """Count the system calls of who runs messages in the block; the list gets their number at its end."""
    counted: list[int] = []
    if not _may_trace():
        yield counted
        return
    pid = _consumer(contender, started)
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-o", str(output), "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    end_s = time.monotonic() + _PATIENCE_S
    while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > end_s:
            msg = f"strace does not attach to {pid}"
            raise SystemExit(msg)
        time.sleep(0.01)
    try:
        yield counted
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(_PATIENCE_S)
    total = re.search(r"^100\.00 +\S+ +\S+ +(\d+) .*total$", output.read_text(), re.MULTILINE)
    assert total is not None
    counted.append(int(total[1]))


def _may_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-c", "-o", os.devnull, "true"], stderr=subprocess.DEVNULL, check=False)
    return tried.returncode == 0


if __name__ == "__main__":
    main()
