"""The Python stacks of children: the C level of faulthandler writes them, even within C code or a crash."""

import errno
import faulthandler
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from hotqueue import events
from hotqueue.worker import processes
from hotqueue.worker.layout import new_file
from hotqueue.worker.reading import Running, told

MOST_BYTES = 65536  # of one child's stacks that are told: a child may have a hundred threads
SPARE = 8  # descriptors that are left for connections, files and the next template
LEAST_S, MOST_S = 0.1, 2.0  # to write one takes a child


class Stacks:
    """One file in memory for each child, which had it before anything went wrong."""

    def __init__(self, running: Callable[[int], Sequence[Running]]) -> None:
        """No child has one yet. `running` says what the child of a slot runs."""
        self._running = running
        self._files: dict[int, int] = {}  # slot → descriptor
        self._taken: dict[int, int] = {}  # slot → bytes
        self._asked: dict[int, tuple[int, float]] = {}  # slot → pid and when

    def add(self, slot: int) -> int:
        """Return the descriptor for the next child of a slot. Raises OSError if too few are left."""
        descriptor = new_file(0)
        if descriptor >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE:
            os.close(descriptor)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._files[slot] = descriptor
        self._taken[slot] = 0
        return self._files[slot]

    def remove(self, slot: int) -> None:
        """Close it, if it had one: the child has ended, or was not forked."""
        descriptor = self._files.pop(slot, None)
        if descriptor is not None:
            os.close(descriptor)
        self._asked.pop(slot, None)

    def take(self, slot: int) -> str | None:
        """Return what was written since the last time, if anything was."""
        data = os.pread(self._files[slot], MOST_BYTES, self._taken[slot])
        self._taken[slot] = os.fstat(self._files[slot]).st_size
        return data.decode(errors="replace").strip() or None

    def ask(self, pids: Mapping[int, int]) -> None:
        """Have these children write theirs, by slot."""
        for slot, pid in pids.items():
            self._asked[slot] = pid, time.monotonic()
            processes.kill(pid, signal.SIGUSR1)

    @property
    def is_due(self) -> bool:
        """Whether there is something to `tell` soon."""
        return bool(self._asked)

    def tell(self) -> None:
        """Log those that were asked for and have been written, or that will not be."""
        for slot, (pid, asked_s) in list(self._asked.items()):
            waited_s = time.monotonic() - asked_s
            text = self.take(slot) if waited_s > LEAST_S else None
            if text is None and waited_s <= MOST_S:
                continue
            del self._asked[slot]
            running = self._running(slot)
            events.emit(
                logging.INFO, events.CHILD_STACK, child=slot, pid=pid,
                **told(running),
                running_ms=running[0].for_ms if running else None,
                stack=text or "none: it is stopped, or hangs in the kernel",
            )  # fmt: skip


def write_to(descriptor: int) -> None:
    """Have this process write its stack there at USR1, and when it crashes."""
    faulthandler.enable(descriptor)
    # An application may have registered it: that would count, although the template has taken it back since.
    faulthandler.unregister(signal.SIGUSR1)
    faulthandler.register(signal.SIGUSR1, descriptor)
