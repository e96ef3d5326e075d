"""The book: what the children of all generations have counted, and how they have ended."""

from collections import Counter
from collections.abc import Mapping

from hotqueue.worker.tally import Counted, Tally

Key = tuple[str, str]  # queue, handler


class Book:
    """Written by the main loop, and read in any thread without a lock: what belongs together is one value."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._open: tuple[dict[Key, Counted], dict[Tally, Mapping[str, str]]] = {}, {}
        self.exits: Counter[str] = Counter()  # of children, by cause
        self.broken_off: Counter[tuple[str, str, str]] = Counter()  # runs: queue, handler, what ended them

    def begin(self, tally: Tally, handlers: Mapping[str, str]) -> None:
        """Count the children of a new generation too; `handlers` are its handlers' names by queue."""
        ended, living = self._open
        self._open = ended, {**living, tally: handlers}

    def end(self, tally: Tally) -> None:
        """Keep what a generation has counted that has no children any more."""
        ended, living = self._open
        if tally in living:
            rest = {each: handlers for each, handlers in living.items() if each is not tally}
            self._open = _added(ended, tally, living[tally]), rest

    def totals(self) -> dict[Key, Counted]:
        """Return what has been counted since the worker was started."""
        totals, living = self._open
        for tally, handlers in living.items():
            totals = _added(totals, tally, handlers)
        return totals


def _added(totals: Mapping[Key, Counted], tally: Tally, handlers: Mapping[str, str]) -> dict[Key, Counted]:
    sums = dict(totals)
    for queue, counted in tally.counted().items():
        key = queue, handlers[queue]
        sums[key] = sums.get(key, Counted()) + counted
    return sums
