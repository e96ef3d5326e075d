"""Which cores server and client run on: more than anything else, that decides wall-clock times."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNPINNED, SAME, DIFFERENT = "unpinned", "same core", "different cores"


def possible() -> list[str]:
    """Return what this machine can do."""
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return [UNPINNED]
    return [UNPINNED, SAME, DIFFERENT] if len(os.sched_getaffinity(0)) > 1 else [UNPINNED, SAME]


@contextmanager
def placed(placement: str, server_pid: int) -> Iterator[None]:
    """Pin the server, and this process with all that it starts, for the time of the block."""
    if placement == UNPINNED:
        yield
        return
    cores = os.sched_getaffinity(0)
    first, *others = sorted(cores)
    _pin(server_pid, {first})
    os.sched_setaffinity(0, {first} if placement == SAME else {others[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _pin(server_pid, cores)


def _pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)
