"""The children as their supervisor knows them, and their death certificates."""

import logging
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import Any

from hotqueue import events
from hotqueue.worker import layout, oom, policy, processes
from hotqueue.worker.book import Book
from hotqueue.worker.generation import Generation
from hotqueue.worker.policy import Death
from hotqueue.worker.processes import Ended
from hotqueue.worker.reading import Reading, Running, told
from hotqueue.worker.recovery import Left

LINGERS_S = 1.0  # after it was told to leave: what it runs takes its time
MOST_CERTIFICATES = 50
MOST_STACK = 2000  # characters of each


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


class Coroner:
    """Writes death certificates, and knows whether the kernel has killed for want of memory meanwhile."""

    def __init__(self, book: Book) -> None:
        """Count from now on, in `book` too."""
        self._book = book
        self._oom = oom.Witness()
        self.ends: Counter[int] = Counter()  # of children, by slot
        self.certificates: deque[dict[str, Any]] = deque(maxlen=MOST_CERTIFICATES)

    def cause_of(self, status: int) -> str:
        """Say how a child ended; of SIGKILL also whether memory was short in this cgroup."""
        cause = policy.how_it_ended(status)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and self._oom.explains_one():
            return f"{cause}, out of memory"
        return cause

    def report(self, child: Child, ended: Ended, death: Death, reading: Reading, **known: Any) -> None:
        """Log one `child.exited` with all that is known, and keep it. `known` has cause and stack."""
        running = child.worst_first(reading.running)
        served = [child.home.served[each.queue] for each in running]
        is_culprit = death.is_crash and len(running) == 1
        lost = sum(each.delivery == "at-most-once" for each in served)
        usage = ended.usage
        certificate: dict[str, Any] = {
            "child": child.slot,
            "pid": ended.pid,
            **known,
            "lived_s": round(death.lived_s, 1),
            "done": death.did,
            "peak_mib": usage.peak_mib if usage else None,
            "cpu_s": usage.cpu_s if usage else None,
            **told(running),
            "handler": served[0].handler if served else None,
            "running_ms": running[0].for_ms if running else None,
        }
        level = logging.ERROR if death.is_crash or lost else logging.INFO
        events.emit(level, events.CHILD_EXITED, **certificate, lost=lost or None)
        self.ends[child.slot] += 1
        self._book.exits[known["cause"]] += 1
        for ran, by in zip(running, served, strict=True):
            what = "lost" if by.delivery == "at-most-once" else "crashed" if is_culprit else "interrupted"
            if what == "lost" or child.overran_s(ran) is None:  # else it is retried or buried: counted then
                self._book.broken_off[by.queue, by.handler, what] += 1
        stack = (known["stack"] or "")[:MOST_STACK] or None
        self.certificates.append({**certificate, "stack": stack, "at_ms": round(time.time() * 1000)})
