"""What somebody has to do for a queue now and then: leases, due messages, what vanished consumers held.

The keeper of a supervisor does it, and a thread beside a loop in the caller's own process (`caretaker.py`).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from hotqueue import events, identity, keys, queue_scripts, scripts
from hotqueue.connection import Connection
from hotqueue.errors import Refused

LEASE_MS = 60_000
RENEW_EVERY_S = 10.0
TEND_EVERY_S = 1.0
LAPSED_FOR_S = 45.0  # between two looks at the same lease, by this observer's own clock


class Upkeep:
    """Looks after one queue. All methods raise NotSent, Refused or OutcomeUnknown, and then begin afresh."""

    def __init__(
        self, queue: str, connection: Connection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` must not jump."""
        self._queue = queue
        self._connection = connection
        self._clock = clock
        self._lapsed: dict[str, tuple[int, float]] = {}  # incarnation → end of its lease, when we saw it over
        self._times_connected = 0  # when that was seen
        self.is_paused = False

    def renew(self, incarnations: Sequence[str]) -> list[str]:
        """Renew these leases, and have the queue known to who looks at all; return those that are gone."""
        self._connection.open()
        with contextlib.suppress(Refused):  # a full server must still be drained
            self._connection.call("SADD", keys.QUEUES, self._queue)
        if not incarnations:
            return []
        return scripts.renew(self._connection, self._queue, LEASE_MS, list(incarnations))

    def take_over(self) -> None:
        """Release what consumers held whose lease has truly lapsed.

        Redis away for a minute, or its clock jumping, must not release everybody's running work: a lease has
        lapsed only after two looks by the same observer, far enough apart on its own clock, with no lost
        connection and no renewal in between. Of a process of this machine that is gone one look is enough.
        """
        self._connection.open()
        over = queue_scripts.lapsed(self._connection, self._queue, LEASE_MS)
        if self._connection.times_connected != self._times_connected:
            self._times_connected = self._connection.times_connected
            self._lapsed.clear()
        seen, now_s = self._lapsed, self._clock()
        self._lapsed = {
            name: seen[name] if name in seen and seen[name][0] == end_ms else (end_ms, now_s)
            for name, end_ms in over.items()
        }
        for name, (_, since_s) in list(self._lapsed.items()):
            if now_s - since_s >= LAPSED_FOR_S:
                self._release(name, "its lease has lapsed")
            elif identity.is_gone(self._connection.call("HGET", keys.owners(self._queue), name)):
                self._release(name, "its process is gone")

    def take_over_neighbours(self) -> None:
        """Release at once what processes of this very machine held that are gone."""
        self._connection.open()
        found = self._connection.call("HGETALL", keys.owners(self._queue))
        for name, owner in zip(found[::2], found[1::2], strict=True):
            if identity.is_gone(owner):
                self._release(name.decode(), "its process is gone")

    def tend(self) -> float:
        """Move due messages to the queue and sweep retired lists; return in how many seconds to come again.

        A flood of due messages is moved in small steps, so that Redis serves others in between.
        """
        self._connection.open()
        tended = queue_scripts.tend(self._connection, self._queue)
        self.is_paused = tended.paused
        for incarnation in tended.sweeps:
            scripts.retire(self._connection, self._queue, incarnation, scripts.NO_CLAIM)
        return min(TEND_EVERY_S, tended.next_due_s)

    def end_waits(self, client_ids: Iterable[int]) -> None:
        """Have these connections end a wait that began before a pause."""
        with contextlib.suppress(Refused):  # an ACL may forbid it; then their waits are short
            for client_id in client_ids:
                self._connection.call("CLIENT", "UNBLOCK", client_id)

    def _release(self, name: str, reason: str) -> None:
        retired = scripts.retire(self._connection, self._queue, name, scripts.NO_CLAIM, sweep_ms=LEASE_MS)
        self._lapsed.pop(name, None)
        if retired.released:
            events.emit(
                logging.WARNING, events.MESSAGE_RELEASED,
                queue=self._queue, count=retired.released, incarnation=name, reason=reason,
            )  # fmt: skip
