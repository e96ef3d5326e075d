"""The loop: fetch, execute, settle, until somebody says stop or nothing comes any more."""

import contextlib
import logging
import os
import random
import signal
import time
from collections import deque
from collections.abc import Sequence

from hotqueue import events
from hotqueue.delivery import Delivery, Lane, Progress
from hotqueue.ending import Assignment, one_line
from hotqueue.errors import NotSent, OutcomeUnknown, Refused
from hotqueue.execution import Executor
from hotqueue.rota import Rota
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening

BACK_OFF_S = (0.1, 30.0)
LOOK_EVERY_S = 0.5  # where Redis lets nobody wait, or a queue is paused
_MOST_DOUBLINGS = 20
# A full server refuses BLMOVE, and an ACL may; to take by script still works, and must, to drain it.
MAY_TAKE = {"OOM", "NOPERM"}


class Consumer:
    """Takes messages from its lanes, in the order of its rota, and runs them one at a time."""

    def __init__(
        self, lanes: Sequence[Lane], executor: Executor, rota: Rota, wakeup: Wakeup, progress: Progress
    ) -> None:
        """Nothing is sent before `run`; the caller closes `wakeup`."""
        self._progress = progress
        self._lanes = {queue: lane for lane in lanes for queue in lane.queues}
        self._all = list(lanes)
        self._executor = executor
        self._rota = rota
        self._wakeup = wakeup
        self._waiter = Waiter(wakeup)
        self._ready: deque[Delivery] = deque()  # taken, not begun
        self._failures = 0
        self._may_wait = True
        self._pid = 0

    def run(self, idle_s: float | None = None) -> None:
        """Consume until the wake-up's flag is set, or nothing came for `idle_s` seconds (0: not at once).

        Whatever ends it, the lanes are closed, and what was taken and not done goes back. In a fork that a
        handler made and returned from, or raised in, it ends at once and touches nothing of its parent's.
        """
        self._pid = os.getpid()
        try:
            while not self._wakeup.is_set and not self._is_a_copy:
                try:
                    delivery = self._next(idle_s)
                    if delivery is None:
                        return
                    self._execute(delivery)
                except (NotSent, OutcomeUnknown) as error:
                    self._back_off(error)
        finally:
            if not self._is_a_copy:
                self._close()

    @property
    def _is_a_copy(self) -> bool:
        return os.getpid() != self._pid

    def _close(self) -> None:
        with contextlib.ExitStack() as ending:
            ending.callback(self._waiter.close)
            ending.callback(self._executor.close)  # after the lanes: a task of the user's may not want to end
            for lane in self._all:
                ending.callback(_close, lane)

    def _execute(self, delivery: Delivery) -> None:
        self._progress.running(delivery, self._executor.handler_of(delivery))
        with self._wakeup.interruptible():
            run = self._executor.run(delivery)
        if not self._is_a_copy:
            self._executor.settle(run)
        elif run.error is not None:
            raise run.error

    def _next(self, idle_s: float | None) -> Delivery | None:
        """Return the next message; None once the flag is set or nothing came for `idle_s`."""
        end = float("inf") if idle_s is None else time.monotonic() + idle_s
        while not self._wakeup.is_set:
            if self._ready:
                delivery = self._ready.popleft()
                if not self._progress.is_paused(delivery.queue):
                    self._rota.served(delivery.queue)
                    return delivery
                self._give_back(self._lanes[delivery.queue])
                continue
            if self._must_look(idle_s) and self._look():
                continue
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._wait(left)
        return None

    def _open_queues(self) -> Sequence[str]:
        order = self._rota.order()
        if any(map(self._progress.is_paused, order)):
            return [queue for queue in order if not self._progress.is_paused(queue)]
        return order

    def _give_back(self, lane: Lane) -> None:
        """What a wait has caught of a queue that is paused goes back unrun."""
        lane.give_back()
        self._ready = deque(each for each in self._ready if each.lane is not lane)

    def _must_look(self, idle_s: float | None) -> bool:
        """Tell whether to wait is not enough to get what is there."""
        parks_first = len(self._all) == 1 and self._all[0].parks_first
        return not parks_first or not self._may_wait or idle_s == 0

    def _look(self) -> bool:
        """Take from the first queue that has something; acknowledge what is done of the others."""
        order = self._open_queues()
        for queue in order:
            delivery = self._lanes[queue].take(queue)
            if delivery is not None:
                self._ready.append(delivery)
                break
        for lane in self._all:
            if not any(queue in order for queue in lane.queues):
                lane.give_back()
            lane.flush()
        self._recovered()
        return bool(self._ready)

    def _wait(self, seconds: float) -> None:
        if self._failures:
            for lane in self._all:
                lane.open()
            self._recovered()
        self._progress.idle()
        order = self._open_queues()
        if len(order) < len(self._lanes):
            seconds = min(seconds, LOOK_EVERY_S)
        lanes = [lane for lane in self._all if any(queue in order for queue in lane.queues)]
        if not lanes:
            self._waiter.pause(seconds)
            return
        try:
            self._ready.extend(self._waiter.wait(lanes, order, seconds))
            self._may_wait = True
        except Refused as refused:
            if refused.code not in MAY_TAKE:
                raise
            self._pause_instead(refused, seconds)

    def _pause_instead(self, refused: Refused, seconds: float) -> None:
        if self._may_wait:
            events.emit(logging.WARNING, events.WAIT_REFUSED, reason=one_line(refused))
        self._may_wait = False
        self._waiter.pause(min(seconds, LOOK_EVERY_S * _jitter()))

    def _back_off(self, error: NotSent | OutcomeUnknown) -> None:
        if not self._failures:
            events.emit(logging.WARNING, events.REDIS_LOST, reason=one_line(error))
        shortest, longest = BACK_OFF_S
        self._waiter.pause(min(longest, shortest * 2**self._failures) * _jitter())
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            events.emit(logging.INFO, events.REDIS_BACK)


def consume_here(lane: Lane, assignment: Assignment, idle_s: float | None, progress: Progress) -> None:
    """Run the loop in the caller's process and thread, for one queue.

    In the main thread INT and TERM finish the running message and return; the handlers are put back then.
    """
    with contextlib.closing(Wakeup()) as wakeup, listening(wakeup, (signal.SIGINT, signal.SIGTERM)):
        Consumer([lane], Executor([assignment]), Rota([assignment.queue]), wakeup, progress).run(idle_s)


def _close(lane: Lane) -> None:
    try:
        lane.close()
    except (NotSent, OutcomeUnknown) as error:
        reason = one_line(error)
        events.emit(logging.WARNING, events.REDIS_LOST, reason=reason, queue=",".join(lane.queues))


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
