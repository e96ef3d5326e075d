"""All keepers of a generation: one for each Redis server that its queues lie on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from hotqueue.stats import Stats
from hotqueue.worker.keeper import Keeper
from hotqueue.worker.publication import Publication
from hotqueue.worker.reading import Place
from hotqueue.worker.recovery import Left, Served
from hotqueue.worker.reports import Broken, Connected, Drained, HandedBack, Hopeless, Report
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings


class Keepers:
    """Hands work to the keeper of each queue, and makes one report of theirs."""

    def __init__(self, settings: Settings, publication: Publication, wake: Callable[[], None]) -> None:
        """There are none yet. `wake` is called in another thread when there is a report."""
        self._settings = settings
        self._publication = publication
        self._wake = wake
        self._reports: deque[Report] = deque()
        self._connected = 0
        self._looks: list[Drained] = []
        self._all: list[Keeper] = []
        self._of: dict[str, Keeper] = {}

    def begin(self, served: Sequence[Served], board: Scoreboard) -> None:
        """Begin, by waiting for every server. Raises RuntimeError if there can be no more threads."""
        for group in _by_server(served):
            keeper = Keeper(group, board, self._settings, self._publication, self._note)
            keeper.start(self._settings.connect_timeout)
            self._all.append(keeper)
            self._of |= dict.fromkeys((each.queue for each in group), keeper)

    @property
    def have_redis(self) -> bool:
        """Whether every server was reached, and none has failed since it last answered."""
        return self.are_connected and all(keeper.has_redis for keeper in self._all)

    def recover(self, left: Left) -> None:
        """Give back what a dead child held of one queue."""
        self._of[left.place.queue].recover(left)

    def hand_back(self, place: Place) -> None:
        """Release what a living child holds and will not start."""
        self._of[place.queue].hand_back(place)

    def look_if_drained(self) -> None:
        """Report Drained once every server has been asked."""
        for keeper in self._all:
            keeper.look_if_drained()

    def count(self, note: Callable[[Sequence[Stats]], None]) -> int:
        """Have `note` called in other threads with what queues hold; return how often that will be."""
        for keeper in self._all:
            keeper.count(note)
        return len(self._all)

    def reports(self) -> Iterator[Report]:
        """Yield what has come since the last time: Connected and Drained when all have said so."""
        while self._reports:
            report = self._reports.popleft()
            match report:
                case Hopeless() | Broken() | HandedBack():
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

    @property
    def are_connected(self) -> bool:
        """Whether every server answers."""
        return 0 < self._connected == len(self._all)

    @property
    def are_settled(self) -> bool:
        """Whether all that dead children held has been given back."""
        return all(keeper.is_settled for keeper in self._all)

    @property
    def have_ended(self) -> bool:
        """Whether all that `stop` has told to end have."""
        return all(keeper.has_ended for keeper in self._all)

    def stop(self, by_s: float) -> None:
        """Do nothing any more but give back, until the monotonic clock says `by_s` at most."""
        for keeper in self._all:
            keeper.stop(by_s)

    def wait(self) -> int:
        """Wait for the end that `stop` asked for; return of how many dead children something stays."""
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
