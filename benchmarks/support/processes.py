"""What the processes of one contender have used of the CPU. Linux; elsewhere nothing is known."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_REAPED = slice(13, 15)  # after the name of the program: cutime and cstime
_TICKS_S = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


def family(pid: int) -> list[int]:
    """Return the process and all that descend from it; nothing if it has ended."""
    if not _PROC.exists():
        return []
    children: list[str] = []
    try:
        for thread in (_PROC / f"{pid}/task").iterdir():
            children += (thread / "children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_s(pids: list[int]) -> float:
    """Return the seconds that they, their threads and the children they reaped have run; NaN if not known."""
    if not pids:
        return float("nan")
    used_s = 0.0
    for pid in pids:
        with suppress(OSError):  # it has ended meanwhile, and whoever reaped it has its time
            threads = (_PROC / f"{pid}/task").iterdir()
            running_ns = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
            fields = (_PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
            used_s += running_ns / 1e9 + sum(map(int, fields[_REAPED])) / _TICKS_S
    return used_s


def adopt_orphans() -> None:
    """Have descendants whose parents end become children of this process: none gets out of its sight."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        msg = "the kernel knows no subreaper: this benchmark needs Linux"
        raise SystemExit(msg)
