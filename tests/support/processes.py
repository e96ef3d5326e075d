"""The process table, as far as tests need it: who belongs to a session, and ending all of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import wait_until


class Entry(NamedTuple):
    pid: int
    parent: int
    session: int


def alive() -> list[Entry]:
    """Every process of this machine that is not a zombie."""
    if sys.platform != "linux":  # macOS shows no session; the group is the nearest thing
        listing = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], text=True)
        rows = [line.split() for line in listing.splitlines()]
        return [
            Entry(int(pid), int(parent), int(group)) for pid, parent, group, state in rows if "Z" not in state
        ]
    entries = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state not in "ZX":
                entries.append(Entry(int(folder.name), int(parent), int(session)))
    return entries


def state_of(pid: int) -> str:
    """Its letter in /proc, such as T for stopped. Linux only."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def started(pid: int) -> int:
    """When it did, in ticks since the boot. Linux only."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def members(sessions: Iterable[int], mark: str = "") -> set[int]:
    """Who is in one of the sessions or has `mark` in its environment, and all their descendants."""
    wanted = set(sessions)
    entries = alive()
    found = {e.pid for e in entries if e.session in wanted or (mark and _has_mark(e.pid, mark))}
    while more := {e.pid for e in entries if e.parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def inhabitants(folder: Path) -> set[int]:
    """Who has `folder` or one below it as working directory: servers have that of their data. Linux only."""
    home = folder.resolve()
    found = set()
    for entry in alive():
        with suppress(OSError):
            if Path(f"/proc/{entry.pid}/cwd").resolve().is_relative_to(home):
                found.add(entry.pid)
    return found - {os.getpid()}


def kill_all(find: Callable[[], set[int]], timeout: float = 10.0) -> None:
    """Kill whoever `find` finds, and assert that it then finds nobody."""

    def nobody_left() -> bool:
        left = find()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(nobody_left, timeout, "everybody is gone that had to go")
