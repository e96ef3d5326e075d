"""What the kernel is asked about processes: adopting, reaping, killing, and dying with a parent."""

import contextlib
import ctypes
import os
import platform
import select
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAST_WORDS_S = 1.0  # of programs that handlers have started

# Not on macOS. With the variable the tests try on Linux what is done there.
_HAS_PRCTL = sys.platform == "linux" and not os.environ.get("HOTQUEUE_NO_PRCTL")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 2, 4
_ADOPTION_S = 5.0
_POLL_S = 0.01
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
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def leave_orphans() -> None:
    """Let whoever is above this process adopt them, also if somebody else has asked for them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 0)


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


def follow(parent: int) -> None:
    """Send this process TERM if `parent` is dead, where the kernel knows no `die_with`."""
    if not _HAS_PRCTL and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def outlive_parent() -> None:
    """Take back what `die_with` asked for."""
    _prctl(_PR_SET_PDEATHSIG, 0)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used in its life."""

    peak_mib: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended process, its wait status, and what it used if we were the one to reap it."""

    pid: int
    status: int
    usage: Usage | None = None

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> "Ended":
        """Read what `dataclasses.asdict` made of one that somebody else has reaped."""
        return cls(**{**record, "usage": Usage(**record["usage"])})


def reap() -> Iterator[Ended]:
    """Yield every ended child of this process: SIGCHLD comes once for several."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        peak_mib = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        yield Ended(pid, status, Usage(round(peak_mib, 1), round(used.ru_utime + used.ru_stime, 2)))


def children() -> set[int]:
    """Return who has this process for its parent, or had until it died; nobody if the kernel does not say."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread has just ended
            found |= set(map(int, file.read_text().split()))
    return found


def end_children(but: Collection[int]) -> set[int]:
    """End whoever is left of our children, adopted ones and theirs too, except `but`; return who that was."""
    begun_s = time.monotonic()
    told: set[int] = set()
    _reap_all()
    while left := children() - set(but):
        passed_s = time.monotonic() - begun_s
        if passed_s > 2 * LAST_WORDS_S:  # one that hangs in the kernel never goes
            break
        for pid in left if passed_s > LAST_WORDS_S else left - told:
            kill(pid, signal.SIGKILL if pid in told else signal.SIGTERM)
        told |= left
        time.sleep(_POLL_S)
        _reap_all()
    return told


def _reap_all() -> None:
    for _ in reap():
        pass


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process, 0 where the kernel has no file about it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def wait_for(pid: int) -> int:
    """Wait for one child that is about to end, and return its status."""
    return os.waitpid(pid, 0)[1]


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child that has not been reaped yet, so that the pid cannot be another's.

    Nothing happens if it has become a user whose processes are not ours to signal.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def obey_barriers() -> bool:
    """Have this process take part in the barriers of others; False where the kernel has none."""
    return _membarrier(_REGISTER_GLOBAL_EXPEDITED)


def barrier() -> None:
    """Have every process that obeys pass a memory barrier: what it stored before a look is seen after this.

    See membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED. Nothing where the kernel has none.
    """
    _membarrier(_GLOBAL_EXPEDITED)


def tell(pid: int, number: signal.Signals) -> None:
    """Send a signal that does nothing by default to a process that may be gone, and its pid another's."""
    with contextlib.suppress(OSError):
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
    except PermissionError:  # an application may have become another user than its supervisor
        return True
    return True


def _membarrier(command: int) -> bool:
    number = _SYS_MEMBARRIER.get(platform.machine())
    if sys.platform != "linux" or number is None or sys.maxsize < 2**32:
        return False
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, command, 0, 0) == 0)


def _prctl(option: int, value: int) -> bool:
    if not _HAS_PRCTL:
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
