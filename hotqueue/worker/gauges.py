"""The gauges: what the queues hold, counted by keepers when somebody asks."""

import queue
import time
from typing import TYPE_CHECKING

from hotqueue.stats import Stats
from hotqueue.worker.keepers import Keepers

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_MOST_EVERY_S = 2.0
WAIT_S = 0.5  # for a keeper, which may itself be waiting for Redis
OLD_S = 60.0  # what was counted before is not told any more


class Gauges:
    """Asks the keepers of a generation from another thread, and does no work with Redis itself."""

    def __init__(self, keepers: Keepers) -> None:
        """Nobody has been asked yet."""
        self.keepers = keepers
        self._answers: queue.Queue[Sequence[Stats]] = queue.Queue()
        self._due = 0  # answers
        self._again_s = 0.0
        self._known: dict[str, tuple[Stats, float]] = {}

    def look(self) -> list[Stats]:
        """Return what the queues hold: as of now if the keepers answer soon, else as they said last."""
        now_s = time.monotonic()
        if now_s >= self._again_s and not self._due:
            self._again_s = now_s + AT_MOST_EVERY_S
            self._due = self.keepers.count(self._answers.put)
        self._hear(now_s + WAIT_S)
        now_s = time.monotonic()
        return [found for found, at_s in self._known.values() if now_s - at_s < OLD_S]

    def _hear(self, until_s: float) -> None:
        while self._due:
            try:
                found = self._answers.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                return
            self._due -= 1
            self._known |= {each.queue: (each, time.monotonic()) for each in found}
