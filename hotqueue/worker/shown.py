"""What a consumer in a child tells the supervisor, and people who look at processes."""

import time
from typing import Protocol

from hotqueue.delivery import Delivery
from hotqueue.envelope import trail_of
from hotqueue.wakeup import Wakeup
from hotqueue.worker import processes
from hotqueue.worker.company import Company
from hotqueue.worker.seat import Seat


class Sign(Protocol):
    """Where people see what is going on: the title of the process."""

    def idle(self) -> None:
        """Nothing runs."""

    def running(self, delivery: Delivery, now_ns: int) -> None:
        """It has just begun; `now_ns` is monotonic."""


class Shown:
    """A consumer's progress on the scoreboard and on a sign."""

    def __init__(self, seat: Seat, sign: Sign, wakeup: Wakeup, watched_by: int) -> None:
        """The hot methods are the seat's own."""
        self.watched_by: int | None = watched_by
        self._parent = watched_by
        self._seat = seat
        self._sign = sign
        self._wakeup = wakeup
        self.is_revoked = seat.is_revoked
        self.registered = seat.registered
        self.connected = seat.connected
        self.claimed = seat.claimed
        self.finished = seat.finished
        self.is_paused = seat.is_paused
        self.is_fresh = seat.is_fresh

    def idle(self) -> None:
        """Show that nothing runs. Raises OSError if a handler has closed what is ours, to end this child."""
        self._wakeup.check()
        processes.follow(self._parent)
        self._seat.idle()
        self._sign.idle()

    def started(self, delivery: Delivery) -> bool:
        """Show what runs, if it may."""
        now_ns = time.monotonic_ns()
        self._sign.running(delivery, now_ns)
        return self._seat.started(delivery, now_ns)


class ShownInCompany(Shown):
    """The same of one among several in a child. A suspect starts when nothing else runs there."""

    def __init__(self, company: Company, seat: Seat, sign: Sign, wakeup: Wakeup, watched_by: int) -> None:
        """`left` is to be called after each message."""
        super().__init__(seat, sign, wakeup, watched_by)
        self._company = company
        self._is_in = self._is_alone = False

    def started(self, delivery: Delivery) -> bool:
        """Show what runs, if it may: not what may have to wait long, and has others behind it."""
        alone = trail_of(delivery.raw).suspect
        if alone and self._seat.has_behind(delivery):
            return False
        if not self._company.enter(alone=alone):
            return False
        self._is_in, self._is_alone = True, alone
        return super().started(delivery)

    def left(self) -> None:
        """Let others start, after what has been started or was not."""
        if self._is_in:
            self._is_in = False
            self._company.leave(alone=self._is_alone)
