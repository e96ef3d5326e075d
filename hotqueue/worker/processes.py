"""What the kernel is asked about processes: adopting, reaping, killing, and dying with a parent."""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ADOPTION_S = 5.0
_STDERR = 2


def open_standard_descriptors() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed, before another file gets its number.

    What is written to stderr would otherwise go into a socket or a pipe of ours.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keyword
    os.close(descriptor)


def adopt_orphans() -> bool:
    """Make this process the parent of its orphaned descendants; False where that is not to be had (macOS)."""
    if os.environ.get("HOTQUEUE_NO_SUBREAPER"):  # how the tests try the other way on Linux
        return False
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send `number` to this process when `parent` dies; False if it is dead already.

    Waits until `parent` has adopted this process: the kernel speaks of the parent of that moment.
    """
    end = time.monotonic() + _ADOPTION_S
    while os.getppid() != parent:
        if time.monotonic() > end or not _exists(parent):
            return False
        time.sleep(0.001)
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def outlive_parent() -> None:
    """Take back what `die_with` asked for."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def reap() -> Iterator[tuple[int, int]]:
    """Yield pid and wait status of every ended child of this process: SIGCHLD comes once for several."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def wait_for(pid: int) -> int:
    """Wait for one child that is about to end, and return its status."""
    return os.waitpid(pid, 0)[1]


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child that has not been reaped yet, so that the pid cannot be another's."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Handle:
    """Another process, recognised even when its pid is used again."""

    def __init__(self, pid: int) -> None:
        """Open a descriptor for it, where the kernel has them."""
        self.pid = pid
        self._gone = False
        self._descriptor: int | None = None
        if hasattr(os, "pidfd_open"):
            try:
                self._descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                self._gone = True
            except OSError:  # an old kernel, or no descriptors left
                pass

    @property
    def has_ended(self) -> bool:
        """Whether it is dead, as far as can be told."""
        if self._gone:
            return True
        if self._descriptor is None:
            return not _exists(self.pid)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._descriptor is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self._descriptor, number)

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
