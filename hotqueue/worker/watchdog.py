"""The watchdog: a child that should have come back from its wait long ago is alive, but not consuming.

So is one that waits although it was told to leave: what ran in it has taken its ear for TERM away.
"""

import time
from collections.abc import Iterable

from hotqueue.waiting import LONGEST_S, REPLY_MARGIN_S
from hotqueue.worker import layout
from hotqueue.worker.children import Child

GRACE_S = 25.0  # over the longest wait, or after TERM, for connecting and giving up
START_S = 60.0
AGAIN_S = 2.0  # it must still be so after that: whoever has stopped us all may just have let us go on


class Watchdog:
    """Looks when children touched the scoreboard last. It says nothing of those that run a message."""

    def __init__(self) -> None:
        """Nobody is suspected."""
        self._wait_s = LONGEST_S + REPLY_MARGIN_S + GRACE_S
        self._suspects: dict[int, float] = {}  # pid → since when

    def look(self, children: Iterable[Child]) -> list[Child]:
        """Return those that hang."""
        now_s = time.monotonic()
        suspects = {
            child.pid: child for child in children if not child.killed and self._is_late(child, now_s)
        }
        self._suspects = {pid: self._suspects.get(pid, now_s) for pid in suspects}
        return [suspects[pid] for pid, since_s in self._suspects.items() if now_s - since_s >= AGAIN_S]

    def _is_late(self, child: Child, now_s: float) -> bool:
        board = child.home.board
        match board.state(child.slot):
            case layout.BUSY:
                return False
            case layout.IDLE if child.told_s is not None and now_s - child.told_s > GRACE_S:
                return True
            case layout.IDLE | layout.STOPPING:
                return now_s - board.came_back_s(child.slot) > self._wait_s
            case _:
                return now_s - child.asked_s > START_S
