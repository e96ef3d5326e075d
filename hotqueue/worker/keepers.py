"""All keepers of a worker: one for each Redis server that its queues lie on."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from hotqueue.worker.keeper import Connected, Drained, Hopeless, Keeper, Report
from hotqueue.worker.recovery import Left, Served
from hotqueue.worker.scoreboard import Scoreboard


class Keepers:
    """Hands work to the keeper of each queue, and makes one report of theirs."""

    def __init__(
        self, served: Sequence[Served], board: Scoreboard, max_crashes: int, wake: Callable[[], None]
    ) -> None:
        """`wake` is called in another thread when there is a report."""
        self._wake = wake
        self._reports: deque[Report] = deque()
        self._connected = 0
        self._looks: list[Drained] = []
        self._all: list[Keeper] = []
        self._of: dict[str, Keeper] = {}
        for group in _by_server(served):
            keeper = Keeper(group, board, max_crashes, self._note)
            self._all.append(keeper)
            self._of |= dict.fromkeys((each.queue for each in group), keeper)

    def start(self, connect_timeout_s: float) -> None:
        """Begin, by waiting for every server."""
        for keeper in self._all:
            keeper.start(connect_timeout_s)

    def recover(self, left: Left) -> None:
        """Give back what a dead child held of one queue."""
        self._of[left.place.queue].recover(left)

    def look_if_drained(self) -> None:
        """Report Drained once every server has been asked."""
        for keeper in self._all:
            keeper.look_if_drained()

    def reports(self) -> Iterator[Report]:
        """Yield what has come since the last time: Connected and Drained when all have said so."""
        while self._reports:
            report = self._reports.popleft()
            match report:
                case Hopeless():
                    yield report
                case Connected():
                    self._connected += 1
                    if self._connected == len(self._all):
                        yield report
                case Drained():
                    self._looks.append(report)
                    if len(self._looks) == len(self._all):
                        yield Drained(all(look.empty for look in self._looks))
                        self._looks.clear()

    def stop(self, within_s: float) -> int:
        """Finish giving back, for `within_s` at most; return of how many dead children that failed."""
        by_s = time.monotonic() + within_s
        for keeper in self._all:
            keeper.stop(by_s)
        return len({left.child for keeper in self._all for left in keeper.wait() if left.place.is_held})

    def _note(self, report: Report) -> None:
        self._reports.append(report)
        self._wake()


def _by_server(served: Sequence[Served]) -> list[list[Served]]:
    groups: list[list[Served]] = []
    for each in served:
        for group in groups:
            if group[0].address == each.address:
                group.append(each)
                break
        else:
            groups.append([each])
    return groups
