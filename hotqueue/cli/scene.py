"""What `hotqueue top` sees: queues and workers, and how fast both move since the look before."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from hotqueue import keys, stats, supervisors
from hotqueue.cli.access import Access
from hotqueue.cli.info import Moving, rates
from hotqueue.connection import Connection
from hotqueue.errors import HotQueueError, Refused
from hotqueue.supervisors import Child, Supervisor

if TYPE_CHECKING:
    from hotqueue.stats import Stats

EVERY_S = 1.0
WATCHED_MS = 5000
RECENT_MS = 60_000


@dataclass(frozen=True, slots=True)
class Crew:
    """A supervisor, and how many messages a second each child does, by its pid; not there where unknown.

    `past` is what it has told in the last minute, oldest first.
    """

    supervisor: Supervisor
    rates: Mapping[int, float] = field(default_factory=dict)
    past: Sequence[Supervisor] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """One look, and when it was by the monotonic clock. `problem` says why there was none after it."""

    queues: Sequence[Moving] = ()
    crews: Sequence[Crew] = ()
    problem: str = ""
    at_s: float = field(default_factory=time.monotonic)


class Observer:
    """Looks again and again in a thread of its own: to wait for Redis must not hold up the keyboard."""

    def __init__(self, access: Access) -> None:
        """Nothing is sent before `start`."""
        self._access = access
        self._queues: dict[str, Stats] = {}
        self._crews: dict[tuple[str, int, int], Crew] = {}
        self._may_say = True
        self.scene: Scene | None = None  # before the first look

    def start(self) -> None:
        """Begin; it ends with the process."""
        threading.Thread(target=self._run, name="hotqueue-observer", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.scene = self.look()
            except HotQueueError as error:
                before = self.scene or Scene()
                self.scene = replace(before, problem=str(error))
            time.sleep(EVERY_S)

    def look(self) -> Scene:
        """Look once. Raises NotSent, Refused or OutcomeUnknown."""
        names = self._access.all()
        with self._access.pool.lent() as connection:
            self._say(connection)
            now = {name: stats.look(connection, name) for name in names}
            known = supervisors.look(connection)
        queues = [Moving(each, rates(self._queues.get(name), each)) for name, each in now.items()]
        self._queues = now
        self._crews = {_key(each): self._compared(each) for each in known}
        return Scene(queues, list(self._crews.values()))

    def _say(self, connection: Connection) -> None:
        """Have supervisors tell of themselves every second, if we may."""
        if self._may_say:
            try:
                connection.call("SET", keys.WATCHED, 1, "PX", WATCHED_MS)
            except Refused:  # then they do so every ten
                self._may_say = False

    def _compared(self, now: Supervisor) -> Crew:
        before = self._crews.get(_key(now))
        if before is None:
            return Crew(now, past=[now])
        elapsed_s = (now.at_ms - before.supervisor.at_ms) / 1000
        if elapsed_s <= 0:  # it has told nothing new
            return replace(before, supervisor=now)
        done = {child.pid: child.done for child in before.supervisor.children}
        known = (child for child in now.children if child.pid in done)
        moved = {child.pid: (child.done - done[child.pid]) / elapsed_s for child in known}
        past = [each for each in before.past if each.at_ms >= now.at_ms - RECENT_MS]
        return Crew(now, moved, [*past, now])


def took(crew: Crew, child: Child) -> Sequence[int]:
    """Return how long its messages of the last minute took, by bucket; of all of them if it did none."""
    before = [each.took for each in crew.past[0].children if each.pid == child.pid] if crew.past else []
    recent = [now - then for now, then in zip_longest(child.took, *before[:1] or [()], fillvalue=0)]
    return recent if any(recent) else child.took


def running_s(supervisor: Supervisor, child: Child) -> float | None:
    """Return for how long a message runs by now; None without one."""
    return None if child.running_ms is None else child.running_ms / 1000 + supervisor.heard_s


def died_s(supervisor: Supervisor, child: int | None = None) -> float | None:
    """Return how long ago a child in that place died last, or any child; None if none is known to have."""
    times = [death.at_ms for death in supervisor.deaths if child in {None, death.child}]
    return max(0.0, (supervisor.at_ms - max(times)) / 1000 + supervisor.heard_s) if times else None


def _key(supervisor: Supervisor) -> tuple[str, int, int]:
    return supervisor.host, supervisor.pid, supervisor.started_ms
