"""A consumer among several in one child: it fetches, runs and settles by itself, and waits in company."""

from hotqueue.consumer import LOOK_EVERY_S, Consumer
from hotqueue.delivery import Delivery
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.execution import Executor
from hotqueue.wakeup import Wakeup
from hotqueue.worker.company import Company
from hotqueue.worker.shown import ShownInCompany
from hotqueue.worker.work import Work


class Member(Consumer):
    """The consumer of one seat. Its thread is not the main one, and signals do not reach it."""

    def __init__(
        self, work: Work, executor: Executor, wakeup: Wakeup, progress: ShownInCompany, company: Company
    ) -> None:
        """As `Consumer`; all that it shares with the others is the `company`."""
        super().__init__(work.lanes(progress), executor, work.rota(), wakeup, progress)
        self._shown = progress
        self._company = company
        self._is_watched = any(lane.watch for lane in self._all)

    def _must_look(self, idle_s: float | None) -> bool:
        """Always: what is there need not be waited for in turn."""
        del idle_s
        return True

    def _look(self) -> bool:
        return self._company.has_room() and super()._look()

    def _wait(self, seconds: float) -> None:
        """Wait on Redis for all others too, once it is our turn, and pass that on with what comes in hand."""
        self._progress.idle()
        within_s = LOOK_EVERY_S if self._aside else None  # there may be something to acknowledge
        if self._company.lead(within_s):
            self._empty_until_s.clear()  # that was before our turn
            try:
                # What has come since is heard of watched queues first, whatever their order.
                if not (self._is_watched and self._look()):
                    super()._wait(seconds)
            finally:
                self._company.pass_on()

    def _execute(self, delivery: Delivery) -> None:
        try:
            super()._execute(delivery)
        finally:
            if not self._is_a_copy:
                self._shown.left()

    def _announce(self, error: NotSent | OutcomeUnknown | None) -> None:
        """Only for the first seat that loses Redis, and the last that has it back: one child, to the log."""
        if self._company.back() if error is None else self._company.lost():
            super()._announce(error)
