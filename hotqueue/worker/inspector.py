"""The inspector: looks at the scoreboard, and says which children must be killed and why."""

from collections.abc import Iterator, Sequence

from hotqueue.worker import limits
from hotqueue.worker.children import Child
from hotqueue.worker.recycling import Recycling
from hotqueue.worker.settings import Settings
from hotqueue.worker.watchdog import Watchdog


class Inspector:
    """Time limits, the watchdog and recycling, in one look at all children."""

    def __init__(self, settings: Settings) -> None:
        """Nothing has been seen yet."""
        self._watchdog = Watchdog()
        self._recycling = Recycling(settings.max_messages, settings.max_memory)

    def look(self, children: Sequence[Child]) -> Iterator[tuple[Child, str]]:
        """Warn and mark children; yield those to kill."""
        self._recycling.look(children)
        for child in limits.look(children):
            yield child, "over its time limit"
        for child in self._watchdog.look(children):
            yield child, "alive, but not consuming"
