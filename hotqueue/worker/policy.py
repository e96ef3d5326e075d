"""Decisions: pure functions of facts and a clock, tested without processes."""

import math
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hotqueue.worker import cgroups

NEVER = float("inf")  # as a time by any clock
MOST_BY_DEFAULT = 8
RESPAWN_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
BOOT_ROUNDS = 3  # of deaths before any child became ready, until the worker gives up
GOOD_LIFE_S = 10.0
MANY_INTERRUPTIONS = 3  # of one message, and each is worth a warning
CRASH_WINDOW_MS = 72 * 3600 * 1000
DEAF = 119  # how a template ends that an import has left no other way to say so
FORCE_AFTER_S = 1.0  # a second INT within this is the same Ctrl-C, delivered twice


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended, and what is known about it."""

    status: int  # as waitpid gave it
    was_ready: bool
    was_stopping: bool  # it said that it was told to stop, and that what ran is over
    was_told: bool  # we told it
    was_killed: bool  # we killed it
    lived_s: float
    did: int  # messages

    @property
    def is_clean(self) -> bool:
        """Whether it was told to stop, by whoever, and did."""
        return self.status == 0 and self.was_stopping

    @property
    def is_caused(self) -> bool:
        """Whether we ended it, if only because what ran in it had put back the default of TERM."""
        return self.was_killed or (self.was_told and self.status == signal.SIGTERM)

    @property
    def is_crash(self) -> bool:
        """Whether it counts against the message that ran: a death that was seen and not caused."""
        return not self.is_clean and not self.is_caused


def how_it_ended(status: int) -> str:
    """Say in words what a wait status means."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        named = number in {each.value for each in signal.Signals}
        return signal.Signals(number).name if named else f"signal {number}"
    return f"exit code {os.WEXITSTATUS(status)}"


def how_an_import_ended(status: int) -> str:
    """Say in words what a template died of that had not said anything."""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == DEAF:
        return "closed descriptors that are not its own"
    return f"ended the interpreter ({how_it_ended(status)})"


def crashes_in_a_row(before: int, *, lived_s: float, did: int = 0) -> int:
    """Count this death after `before` others in its place; a good life makes them forgotten."""
    return 1 if lived_s >= GOOD_LIFE_S or did else before + 1


def respawn_delay_s(crashes: int) -> float:
    """Return how long a slot waits after its `crashes`-th death in a row."""
    return RESPAWN_S[min(crashes, len(RESPAWN_S)) - 1] if crashes else 0.0


def must_give_up(deaths_before_ready: int, concurrency: int, *, ever_ready: bool) -> bool:
    """Tell whether no child will ever come up: each of them died before being ready, several times."""
    return not ever_ready and deaths_before_ready >= BOOT_ROUNDS * concurrency


def must_bury(crashes_ms: Sequence[int], now_ms: int, max_crashes: int) -> bool:
    """Tell whether a message has crashed its consumer too often of late."""
    return sum(1 for at in crashes_ms if now_ms - at <= CRASH_WINDOW_MS) >= max_crashes


def is_forced(first_stop_s: float, now_s: float) -> bool:
    """Tell whether an INT that comes after a stop had begun means: at once."""
    return now_s - first_stop_s >= FORCE_AFTER_S


def usable_cpus() -> tuple[int, str]:
    """Return how many CPUs this process may use, and what says so."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None and math.ceil(quota) < affinity:
        return max(1, math.ceil(quota)), f"the cgroup allows {quota:g} CPUs"
    return affinity, f"{affinity} usable CPUs"


def default_concurrency() -> tuple[int, str]:
    """Return the number of children where none was given, and why."""
    cpus, why = usable_cpus()
    return (
        (cpus, why) if cpus <= MOST_BY_DEFAULT else (MOST_BY_DEFAULT, f"{why}, {MOST_BY_DEFAULT} by default")
    )


def _cgroup_quota() -> float | None:
    """Return how many CPUs our cgroup and those around it leave us; None if as many as there are."""
    folders = (each for folder in cgroups.folders("cpu") for each in (folder, *folder.parents))
    return min((quota for each in folders if (quota := _quota_of(each)) is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdecimal() and int(period) else None
