"""The children as their supervisor knows them."""

import logging
import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import sub

from hotqueue import events
from hotqueue.worker import layout, processes
from hotqueue.worker.generation import Generation
from hotqueue.worker.policy import Death
from hotqueue.worker.reading import Reading, Running, told
from hotqueue.worker.recovery import Left

FORK_S = 30.0  # at most; who takes longer hangs
LINGERS_S = 1.0  # after it was told to leave: what it runs takes its time


@dataclass(slots=True)
class Child:
    """One child as its supervisor knows it; without a pid while the template is forking it."""

    slot: int
    asked_s: float
    home: Generation
    pid: int = 0
    is_on_trial: bool = False  # the first one of new code
    is_leaving: bool = False  # as soon as a successor is ready
    told_s: float | None = None
    killed: bool = False
    warned: dict[int, int] = field(default_factory=dict)  # seat → which message has overrun its soft limit
    spread: float = field(default_factory=lambda: random.uniform(1.0, 1.1))  # noqa: S311 - nothing secret
    before: list[int] = field(init=False)  # how long what others in its slot ran took
    overran: dict[int, tuple[int, float]] = field(default_factory=dict)  # seat → since when, and its limit

    def __post_init__(self) -> None:
        """Note what is not its own."""
        self.before = self.home.tally.durations(self.slot)

    @property
    def took(self) -> list[int]:
        """How long what it ran took, as counts by bucket."""
        return list(map(sub, self.home.tally.durations(self.slot), self.before))

    @property
    def told(self) -> bool:
        """Whether we told it to leave."""
        return self.told_s is not None

    @property
    def lingers(self) -> bool:
        """Whether it was told to leave and has not for a while."""
        return self.told_s is not None and time.monotonic() - self.told_s >= LINGERS_S

    @property
    def is_ready(self) -> bool:
        """Whether it takes messages."""
        return self.home.board.state(self.slot) in {layout.IDLE, layout.BUSY}

    @property
    def is_busy(self) -> bool:
        """Whether it runs a message."""
        return self.home.board.state(self.slot) == layout.BUSY

    @property
    def running(self) -> list[Running]:
        """What it runs, oldest first."""
        return self.home.board.running(self.slot)

    def tell(self) -> None:
        """Tell it to finish what it runs and leave, once."""
        if not self.told:
            self.told_s = time.monotonic()
            processes.kill(self.pid, signal.SIGTERM)

    def kill(self, reason: str) -> list[Running]:
        """Kill it, log and return what it ran."""
        self.killed = True
        running = self.running
        events.emit(
            logging.WARNING, events.CHILD_KILLED, child=self.slot, pid=self.pid, reason=reason,
            **told(self.worst_first(running)),
        )  # fmt: skip
        processes.kill(self.pid, signal.SIGKILL)
        return running

    def remains(self, reading: Reading, cause: str, stack: str | None, *, crashed: bool) -> Iterator[Left]:
        """Say what it held at its end. A crash is counted only against what ran alone."""
        several = len(reading.running) > 1
        overran_s = {each.seat: self.overran_s(each) for each in reading.running}
        for seat, places in enumerate(reading.places):
            for place in places:
                if place.incarnation:
                    yield Left(
                        self.slot, place, crashed and not several, cause, overran_s.get(seat), stack,
                        suspected=crashed and several,
                    )  # fmt: skip

    def overran_s(self, running: Running) -> float | None:
        """Return the limit that what was running at its end had overrun."""
        since_ns, limit_s = self.overran.get(running.seat, (0, 0.0))
        return limit_s if running.since_ns == since_ns else None

    def worst_first(self, running: Sequence[Running]) -> list[Running]:
        """Sort what ran, oldest first, by who is to blame for the end."""
        return sorted(running, key=lambda each: each.seat not in self.overran)

    def ended(self, reading: Reading, status: int) -> Death:
        """Put together what is known about its end."""
        return Death(
            status=status,
            was_ready=reading.state in {layout.IDLE, layout.BUSY, layout.STOPPING},
            was_stopping=reading.state == layout.STOPPING,
            was_told=self.told,
            was_killed=self.killed,
            lived_s=time.monotonic() - self.asked_s,
            did=reading.ended,
        )


class Children(dict[int, Child]):
    """All children there are, by slot, of whatever generation."""

    def by_pid(self, pid: int) -> Child | None:
        """Return the child with this pid."""
        return next((child for child in self.values() if child.pid == pid), None)

    def forked(self) -> Iterator[Child]:
        """Go through those that have a pid."""
        return (child for child in self.values() if child.pid)

    def of(self, home: Generation | None) -> list[Child]:
        """Return those of a generation."""
        return [child for child in self.values() if child.home is home]

    def slots(self, home: Generation) -> list[int]:
        """Return the slots of those of a generation that have a pid."""
        return [child.slot for child in self.of(home) if child.pid]

    def staying(self, home: Generation | None) -> list[Child]:
        """Return those of a generation that nobody has told or will tell to leave."""
        return [child for child in self.of(home) if not child.told and not child.is_leaving]

    @property
    def forking(self) -> int:
        """How many are being forked."""
        return sum(not child.pid for child in self.values())

    @property
    def is_growing(self) -> bool:
        """Whether one is coming up: others may be waiting for it to be ready."""
        return any(not (child.told or child.is_leaving or child.is_ready) for child in self.values())

    @property
    def are_idle(self) -> bool:
        """Whether each waits, and none is not known yet and so not to be told anything."""
        return all(child.pid and child.home.board.state(child.slot) == layout.IDLE for child in self.values())

    @property
    def oldest_s(self) -> float | None:
        """For how long the longest of the running messages runs."""
        running = (each for child in self.values() for each in child.running)
        return max((each.for_ms / 1000 for each in running), default=None)

    def stuck(self, after_s: float) -> set[Generation]:
        """Return who was asked for a fork that long ago and has not answered, which takes milliseconds."""
        late_s = time.monotonic() - after_s
        return {child.home for child in self.values() if not child.pid and child.asked_s < late_s}
