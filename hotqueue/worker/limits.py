"""Time limits: the supervisor sees on the scoreboard how long a message runs, and does something about it."""

import signal
import time
from collections.abc import Iterable

from hotqueue.worker import processes
from hotqueue.worker.children import Child
from hotqueue.worker.policy import NEVER

PRECISION = 4  # looks within the shortest limit


def every_s(children: Iterable[Child]) -> float:
    """Return after how many seconds to look again, at the latest."""
    return min((child.home.shortest_limit_s for child in children), default=NEVER) / PRECISION


def look(children: Iterable[Child]) -> list[Child]:
    """Interrupt what has overrun its soft limit; return the children to kill for the hard one."""
    limited = (child for child in children if child.home.shortest_limit_s < NEVER)
    return [child for child in limited if not child.killed and _has_overrun(child)]


def _has_overrun(child: Child) -> bool:
    now_ns = time.monotonic_ns()
    for running in child.running:
        if running.since_ns > now_ns:  # it began after its number was read
            continue
        served = child.home.served[running.queue]
        ran_s = (now_ns - running.since_ns) / 1e9
        if ran_s >= (served.soft_time_limit or NEVER) and child.warned.get(running.seat) != running.number:
            child.warned[running.seat] = running.number
            child.home.board.warn(child.slot, running)
            processes.kill(child.pid, signal.SIGUSR2)
        if ran_s >= (served.time_limit or NEVER):
            child.overran[running.seat] = running.since_ns, served.time_limit or NEVER
    return bool(child.overran)
