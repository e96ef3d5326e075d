"""The loop: fetch, execute, settle, until somebody says stop or nothing comes any more."""

import contextlib
import logging
import random
import signal
import time
from collections import deque
from collections.abc import Sequence

from hotqueue import events
from hotqueue.delivery import Delivery, Lane, Progress
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.execution import Assignment, Executor, one_line
from hotqueue.rota import Rota
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening

BACK_OFF_S = (0.1, 30.0)
FULL_SERVER_RETRY_S = 0.5
PAUSE_LOOK_S = 0.5


class Consumer:
    """Takes messages from its lanes, in the order of its rota, and runs them one at a time."""

    def __init__(self, lanes: Sequence[Lane], executor: Executor, rota: Rota, wakeup: Wakeup, progress: Progress) -> None:
        """Nothing is sent before `run`; the caller closes `wakeup`."""
        self._progress = progress
        self._lanes = {queue: lane for lane in lanes for queue in lane.queues}
        self._all = list(lanes)
        self._parks_first = len(lanes) == 1 and lanes[0].parks_first
        self._executor = executor
        self._rota = rota
        self._wakeup = wakeup
        self._waiter = Waiter(wakeup)
        self._ready: deque[Delivery] = deque()
        self._failures = 0

    def run(self, idle_s: float | None = None) -> None:
        """Consume until the wake-up's flag is set, or nothing came for `idle_s` seconds (0: not at once)."""
        try:
            while not self._wakeup.is_set:
                try:
                    delivery = self._next(idle_s)
                    if delivery is None and not self._wakeup.is_set:
                        return
                    if delivery is not None and not self._wakeup.is_set:
                        self._progress.running(delivery, self._executor.handler_of(delivery))
                        self._executor.execute(delivery)
                    self._recovered()
                except (NotSent, OutcomeUnknown) as error:
                    self._back_off(error)
        finally:
            self._close()

    def _next(self, idle_s: float | None) -> Delivery | None:
        """Return the next message; None once the flag is set or nothing came for `idle_s`."""
        end = None if idle_s is None else time.monotonic() + idle_s
        while not self._wakeup.is_set:
            order = self._open_queues()
            delivery = self._ready.popleft() if self._ready else self._look(order, idle_s)
            if delivery is not None and self._progress.is_paused(delivery.queue):
                self._lanes[delivery.queue].give_back()
                self._ready.clear()
            elif delivery is not None:
                self._rota.served(delivery.queue)
                return delivery
            left = float("inf") if end is None else end - time.monotonic()
            if left <= 0:
                return None
            self._progress.idle()
            self._wait(order, left)
        return None

    def _open_queues(self) -> Sequence[str]:
        order = self._rota.order()
        if any(map(self._progress.is_paused, order)):
            return [queue for queue in order if not self._progress.is_paused(queue)]
        return order

    def _wait(self, order: Sequence[str], seconds: float) -> None:
        if len(order) < len(self._lanes):  # look again soon whether the pause is over
            seconds = min(seconds, PAUSE_LOOK_S)
        lanes = [lane for lane in self._all if any(queue in order for queue in lane.queues)]
        if lanes:
            self._ready.extend(self._waiter.wait(lanes, order, seconds))
        else:
            self._waiter.pause(seconds)

    def _look(self, order: Sequence[str], idle_s: float | None) -> Delivery | None:
        if self._parks_first and idle_s != 0:
            return None
        for queue in order:
            lane = self._lanes[queue]
            delivery = lane.take(queue)
            if delivery is not None:
                for other in self._all:
                    if other is not lane:
                        other.flush()
                return delivery
        return None

    def _back_off(self, error: NotSent | OutcomeUnknown) -> None:
        if not self._failures:
            events.emit(logging.WARNING, events.REDIS_LOST, reason=one_line(error))
        full = getattr(error, "code", "") == "OOM"  # BLMOVE is refused, but to claim and drain is not
        longest = FULL_SERVER_RETRY_S if full else BACK_OFF_S[1]
        self._waiter.pause(min(longest, BACK_OFF_S[0] * 2**self._failures) * random.uniform(0.5, 1.0))  # noqa: S311
        self._failures = min(self._failures + 1, 20)

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            events.emit(logging.INFO, events.REDIS_BACK)

    def _close(self) -> None:
        self._executor.close()
        for lane in self._all:
            try:
                lane.close()
            except (NotSent, OutcomeUnknown) as error:
                events.emit(logging.WARNING, events.REDIS_LOST, reason=one_line(error), queue=",".join(lane.queues))
        self._waiter.close()


def consume_here(lane: Lane, assignment: Assignment, idle_s: float | None, progress: Progress) -> None:
    """Run the loop in the caller's process and thread, for one queue.

    In the main thread INT and TERM finish the running message and return; the handlers are put back afterwards.
    """
    with contextlib.closing(Wakeup()) as wakeup, listening(wakeup, (signal.SIGINT, signal.SIGTERM)):
        Consumer([lane], Executor([assignment]), Rota([assignment.queue]), wakeup, progress).run(idle_s)

