"""What somebody has to do for a queue now and then: leases, due messages, and what vanished consumers held.

The keeper of a supervisor does it, and a thread beside a loop in the caller's own process (`caretaker.py`).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from hotqueue import events, identity, keys, queue_scripts, scripts
from hotqueue.connection import Connection

LEASE_MS = 60_000
RENEW_EVERY_S = 10.0
TEND_EVERY_S = 1.0
LAPSED_FOR_S = 45.0  # between two looks at the same lease, by this observer's own clock


class Upkeep:
    """Looks after one queue. All methods raise NotSent, Refused or OutcomeUnknown, and then begin afresh."""

    def __init__(self, queue: str, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` must not jump."""
        self._queue = queue
        self._connection = connection
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}  # incarnation → end of its lease, when we first saw it over
        self.is_paused = False

    def renew(self, incarnations: list[str]) -> None:
        """Renew these leases, and release what consumers held whose lease has truly lapsed."""
        with self._remembering():
            if incarnations:
                scripts.renew(self._connection, self._queue, LEASE_MS, incarnations)
            self._take_over()

    def tend(self) -> float:
        """Move due messages to the queue and sweep retired lists; return in how many seconds to come again.

        A flood of due messages is moved in small steps, so that Redis serves others in between.
        """
        with self._remembering():
            return self._tend()

    def _tend(self) -> float:
        while True:
            tended = queue_scripts.tend(self._connection, self._queue)
            for incarnation in tended.sweeps:
                scripts.retire(self._connection, self._queue, incarnation, scripts.NO_CLAIM)
            if not tended.moved:
                self.is_paused = tended.paused
                return min(TEND_EVERY_S, tended.next_due_s)

    def _take_over(self) -> None:
        """Release what consumers held whose lease has truly lapsed.

        Redis away for a minute, or its clock jumping, must not release everybody's running work: a lease counts as
        lapsed only after two looks by the same observer, far enough apart on its own clock, with no lost
        connection and no renewal in between.
        """
        over = queue_scripts.lapsed(self._connection, self._queue)
        self._seen = {name: self._seen[name] for name, end in over.items() if self._seen.get(name, (0, 0))[0] == end}
        for name, end_ms in over.items():
            _, since_s = self._seen.setdefault(name, (end_ms, self._clock()))
            owner = self._connection.call("HGET", keys.owners(self._queue), name)
            if identity.is_gone(owner):
                self._release(name, "its process is gone")
            elif self._clock() - since_s >= LAPSED_FOR_S:
                self._release(name, "its lease has lapsed")

    def take_over_neighbours(self) -> None:
        """Release at once what processes of this very machine held that are gone: /proc knows, no lease is needed."""
        found = self._connection.call("HGETALL", keys.owners(self._queue))
        for name, owner in zip(found[::2], found[1::2], strict=True):
            if identity.is_gone(owner):
                self._release(name.decode(), "its process is gone")

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        """Forget what was seen if the connection is lost: a renewal may have been missed."""
        try:
            self._connection.open()
            yield
        except BaseException:
            self._seen.clear()
            raise

    def _release(self, name: str, reason: str) -> None:
        retired = scripts.retire(self._connection, self._queue, name, scripts.NO_CLAIM, sweep_ms=LEASE_MS)
        self._seen.pop(name, None)
        if retired.released:
            events.emit(
                logging.WARNING, events.MESSAGE_RELEASED,
                queue=self._queue, count=retired.released, incarnation=name, reason=reason,
            )  # fmt: skip
