"""Overstays: what a child has claimed behind a message that takes too long goes back to those who wait.

The child is not asked, it may be in the middle of C code. It stores what it starts and then looks whether its
claim was revoked; here the claim is revoked first, and after a barrier in all processes what was started is
read. So whatever the child starts is seen here, or it sees that it must not. No clock takes part in that.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from hotqueue.pace import PATIENCE_S
from hotqueue.worker import processes
from hotqueue.worker.policy import NEVER
from hotqueue.worker.reading import Place
from hotqueue.worker.recovery import Served
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings

SOON_S = 0.001

_Where = tuple[int, int, int]  # slot, seat, queue


class Overstays:
    """Looks at the claims of all children, as long as one holds more than it runs."""

    def __init__(
        self,
        board: Scoreboard,
        served: Sequence[Served],
        settings: Settings,
        hand_back: Callable[[Place], None],
    ) -> None:
        """`hand_back` gives back what is not started, and must not wait."""
        self._board = board
        limit_s = settings.prefetch_ms / 1000 + PATIENCE_S
        self._limits_s = [limit_s if each.prefetch is None else NEVER for each in served]
        self._hand_back = hand_back
        self._watching = False

    def look(self, slots: Iterable[int], *, at_once: bool) -> float:
        """Take back what has waited too long, or all; return when to look again, by the monotonic clock."""
        slots = list(slots)
        due = self._due(slots, at_once=at_once)
        if self._watching and not due:
            self._board.watch(watching=False)
            processes.barrier()  # who has claimed meanwhile, and did not ring, is seen now
            due = self._due(slots, at_once=at_once)
        self._watching = bool(due)
        self._board.watch(watching=self._watching)
        now_s = time.monotonic()
        late = [place for place, at_s in due.items() if at_s <= now_s]
        if late:
            self._take_back(late)
            return now_s + SOON_S  # one may have claimed anew just before
        return min(due.values(), default=NEVER)

    def _due(self, slots: Iterable[int], *, at_once: bool) -> dict[_Where, float]:
        """Return by when the claims of which something is not started are to be over.

        One of a single message is given time: it starts at once, or waits until it can run alone.
        """
        board, limits_s = self._board, self._limits_s
        return {
            (slot, seat, index): 0.0 if at_once else board.touched_s(slot, seat) + limits_s[index]
            for slot in slots
            for seat in board.seats
            for index in board.buffered(slot, seat, 1 if at_once else 2)
        }

    def _take_back(self, late: Sequence[_Where]) -> None:
        for where in late:
            self._board.revoke(*where)
        processes.barrier()
        for where in late:
            place = self._board.revoked(*where)
            if place is not None:
                self._hand_back(place)
