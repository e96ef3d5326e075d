"""A generation: one import of the application, and all that belongs to the children forked from it."""

import os
from collections.abc import Callable, Sequence

from hotqueue.worker.book import Book
from hotqueue.worker.keepers import Keepers
from hotqueue.worker.layout import Layout, new_file
from hotqueue.worker.overstays import Overstays
from hotqueue.worker.policy import NEVER
from hotqueue.worker.publication import Publication
from hotqueue.worker.recovery import Served
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings
from hotqueue.worker.stopping import ExitCode
from hotqueue.worker.tally import Tally
from hotqueue.worker.template_link import TemplateLink

MOST_QUEUES = 1024


class Generation:
    """A template, and once it has imported the application the queues, their scoreboard and their keepers.

    They belong together: new code may have other queues. Before its first child there is no `board`.
    """

    board: Scoreboard
    tally: Tally
    served: dict[str, Served]
    shortest_limit_s: float

    def __init__(
        self,
        settings: Settings,
        publication: Publication,
        book: Book,
        wake: Callable[[], None],
        *,
        adopting: bool,
    ) -> None:
        """Start the template. `wake` is called in other threads. Raises OSError if the kernel refuses."""
        self._settings = settings
        self._book = book
        most = Layout(MOST_QUEUES, settings.most_children, settings.seats)
        self._board_file: int | None = new_file(most.bytes)
        try:
            self.template = TemplateLink(settings, self._board_file, adopting=adopting)
        except OSError:
            self._close_board_file()
            raise
        self.keepers = Keepers(settings, publication, wake)
        self.overstays: Overstays | None = None
        self.problem: tuple[ExitCode, str] | None = None  # why it cannot serve
        self.is_proven = False  # a child of it was ready

    def meet(self, served: Sequence[Served]) -> None:
        """Learn from the template which queues there are, and begin to wait for their servers."""
        if len(served) > MOST_QUEUES:
            problem = f"one worker serves {MOST_QUEUES} queues at most, not {len(served)}"
            self.problem = ExitCode.USAGE, problem
        if self.problem is not None or self._board_file is None:
            return
        self.served = {each.queue: each for each in served}
        limits = [limit for each in served for limit in (each.time_limit, each.soft_time_limit) if limit]
        self.shortest_limit_s = min(limits, default=NEVER)
        queues, slots = list(self.served), self._settings.most_children
        self.board = Scoreboard(self._board_file, queues, slots, self._settings.seats)
        self.tally = Tally(self._board_file, queues, slots)
        self._book.begin(self.tally, {each.queue: each.handler for each in served})
        self._close_board_file()
        self.overstays = Overstays(self.board, served, self._settings, self.keepers.hand_back)
        try:
            self.keepers.begin(served, self.board)
        except RuntimeError as error:
            self.problem = ExitCode.UNCLEAN, f"Redis needs a thread, and there can be no more: {error}"

    def retire(self) -> bool:
        """Have everything end: no children are left, and nothing to give back. Return whether it has."""
        self.keepers.stop(0.0)
        self.template.close()
        self._close_board_file()
        if not (self.template.has_ended and self.keepers.have_ended):
            return False
        if self.overstays is not None:
            self._book.end(self.tally)
            del self.tally  # unmapped when the last one who is just reading it has done so
            self.board.close()
        return True

    def _close_board_file(self) -> None:
        """The map needs no descriptor."""
        if self._board_file is not None:
            os.close(self._board_file)
            self._board_file = None
