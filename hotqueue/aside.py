"""What a consumer of several lanes sets aside: a server that is away must not hold up another."""

import time
from collections.abc import Iterable

from hotqueue.delivery import Lane

SHORTEST_S, LONGEST_S = 1.0, 30.0
TIMES = 10.0  # as long as it took to fail: to ask a server that does not answer takes seconds


class Aside:
    """Lanes that have failed while others did not, each until it works again."""

    def __init__(self, lanes: Iterable[Lane]) -> None:
        """Of these `lanes`; none is set aside."""
        self._all = tuple(lanes)
        self._until_s: dict[Lane, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until_s)

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._until_s

    def is_due(self, lane: Lane) -> bool:
        """Tell whether to ask it: it works, or it is time to see whether it does again."""
        return not self._until_s or self._until_s.get(lane, 0.0) <= time.monotonic()

    def works(self, lane: Lane) -> None:
        """Serve it again."""
        self._until_s.pop(lane, None)

    def doubt(self, lane: Lane) -> None:
        """It failed while it was waited for: ask it in its turn, and until then it is not known to work."""
        self._set([lane], 0.0)

    def put(self, lane: Lane, took_s: float) -> bool:
        """Set a lane aside that has needed `took_s` seconds to fail; False if no other is left to serve.

        If it had to be waited for, the others on that server are not even tried.
        """
        until_s = time.monotonic() + min(LONGEST_S, max(SHORTEST_S, TIMES * took_s))
        slow = [each for each in self._all if each.address == lane.address and took_s >= SHORTEST_S]
        return self._set([lane, *slow], until_s)

    def _set(self, lanes: Iterable[Lane], until_s: float) -> bool:
        self._until_s |= dict.fromkeys(lanes, until_s)
        if len(self._until_s) < len(self._all):
            return True
        self._until_s.clear()
        return False
