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
from hotqueue.address import Address
from hotqueue.aside import SHORTEST_S, Aside
from hotqueue.delivery import Delivery, Lane, Progress
from hotqueue.ending import Assignment, one_line
from hotqueue.errors import NotSent, OutcomeUnknown, Refused
from hotqueue.execution import Executor
from hotqueue.rota import Rota
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening
from hotqueue.watch import NO_WATCH

BACK_OFF_S = (0.1, 30.0)
LOOK_EVERY_S = 0.5  # where Redis lets nobody wait, or a queue is paused or set aside
EMPTY_S = 0.005  # a queue that was empty is not asked again, while others have something, or longer:
EMPTY_TIMES = 4.0  # as long as it takes to ask all, so that a fifth of the time goes into such questions
_MOST_DOUBLINGS = 20
# A full server refuses BLMOVE, an ACL that or a watch; to take by script still works, and must, to drain it.
MAY_TAKE = {"OOM", "NOPERM", NO_WATCH}


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
        self._only = lanes[0] if len(self._lanes) == 1 else None
        self._ready: deque[Delivery] = deque()  # taken, not begun
        self._aside = Aside(lanes)
        self._empty_until_s: dict[str, float] = {}
        self._failures = 0
        self._is_lost = False  # said to be
        self._may_wait = True
        self._is_a_copy = False

    def run(self, idle_s: float | None = None) -> None:
        """Consume until the wake-up's flag is set, or nothing came for `idle_s` seconds (0: not at once).

        The lanes are closed then, and what was taken and not done goes back. After an error that nobody
        thought of, that is left to who watches us, if somebody does: only then it counts against what ran. In
        a fork that a handler made and returned from, or raised in, it ends at once and touches nothing of its
        parent's.
        """
        _running.add(self)
        is_over = False
        try:
            while not self._wakeup.is_set and not self._is_a_copy:
                try:
                    delivery = self._next(idle_s)
                    if delivery is None:
                        break
                    self._execute(delivery)
                except (NotSent, OutcomeUnknown) as error:
                    self._back_off(error)
            is_over = True
        finally:
            _running.discard(self)
            if not self._is_a_copy and (is_over or self._progress.watched_by is None):
                self._close()

    def _close(self) -> None:
        silent: list[Address] = []
        with contextlib.ExitStack() as ending:
            ending.callback(self._waiter.close)
            ending.callback(self._executor.close)  # after the lanes: a task of the user's may not want to end
            for lane in self._all:
                if lane.watch is not None:
                    ending.callback(lane.watch.close)
            for lane in self._all:
                ending.callback(_close_unless_silent, lane, silent)

    def _execute(self, delivery: Delivery) -> None:
        self._wakeup.is_interruptible = True
        try:
            run = self._executor.run(delivery)
        finally:
            self._wakeup.is_interruptible = False
        if not self._is_a_copy:
            if self._only is None and run.outcome != "revoked":  # else it is still its queue's turn
                self._rota.served(delivery.queue)
            self._executor.settle(run)
        elif run.error is not None:
            raise run.error

    def _next(self, idle_s: float | None) -> Delivery | None:
        """Return the next message; None once the flag is set or nothing came for `idle_s`."""
        if self._only is not None and not self._ready:
            rest = self._only.rest()  # of a claim: nothing else has to be looked at
            if rest is not None:
                return rest
        end = float("inf") if idle_s is None else time.monotonic() + idle_s
        while not self._wakeup.is_set:
            if self._ready:
                delivery = self._ready.popleft()
                if not self._progress.is_paused(delivery.queue):
                    return delivery
                self._give_back(self._lanes[delivery.queue])
                continue
            left = end - time.monotonic()
            if (left <= 0 or self._must_look(idle_s)) and self._look():
                continue
            if left <= 0 and not self._aside:
                return None
            self._wait(left if left > 0 else LOOK_EVERY_S)  # it is not known what lies in the ones set aside
        return None

    def _open_queues(self) -> Sequence[str]:
        order = self._rota.order()
        if self._aside:
            order = [queue for queue in order if self._aside.is_due(self._lanes[queue])]
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
        """Take from the first queue that has something; acknowledge what is done of the others.

        A queue that was empty a moment ago is asked only if all others are: each question is a round trip.
        """
        order, now_s = self._open_queues(), time.monotonic()
        others: list[str] = []
        lately: list[str] = []
        for queue in order:
            (lately if now_s < self._empty_until_s.get(queue, 0.0) else others).append(queue)
        if not self._take_first(others):
            self._take_first(lately)
        all_open = len(order) == len(self._lanes)
        served = self._ready[0].lane if self._ready else None
        for lane in self._all:
            if lane is not served and lane not in self._aside:
                self._acknowledge(lane, keeps=all_open or any(queue in order for queue in lane.queues))
        self._recovered()
        return bool(self._ready)

    def _take_first(self, queues: Sequence[str]) -> bool:
        for queue in queues:
            lane, begun_s = self._lanes[queue], time.monotonic()
            if not self._aside.is_due(lane):  # since another queue was tried
                continue
            try:
                delivery = lane.take(queue)
            except (NotSent, OutcomeUnknown) as error:
                self._set_aside(lane, error, begun_s)
                continue
            self._aside.works(lane)
            if delivery is not None:
                self._ready.append(delivery)
                return True
            now_s = time.monotonic()
            longer_s = EMPTY_TIMES * len(self._lanes) * (now_s - begun_s)
            self._empty_until_s[queue] = now_s + max(EMPTY_S, min(LOOK_EVERY_S, longer_s))
        return False

    def _acknowledge(self, lane: Lane, *, keeps: bool) -> None:
        """Tell Redis what is done; where nothing may be started, also what was not."""
        begun_s = time.monotonic()
        try:
            if not keeps:
                lane.give_back()
            lane.flush()
        except (NotSent, OutcomeUnknown) as error:
            self._set_aside(lane, error, begun_s)

    def _set_aside(self, lane: Lane, error: NotSent | OutcomeUnknown, begun_s: float) -> None:
        """Serve the others meanwhile. Raises `error` if there are none."""
        self._say_lost(error)
        if not self._aside.put(lane, time.monotonic() - begun_s):
            raise error

    def _wait(self, seconds: float) -> None:
        order = self._open_queues()
        lanes = [lane for lane in self._all if any(queue in order for queue in lane.queues)]
        if self._failures:
            for lane in lanes:
                lane.open()
            self._recovered()
        self._progress.idle()
        if len(order) < len(self._lanes):
            seconds = min(seconds, LOOK_EVERY_S)
        self._empty_until_s.clear()  # however this ends, that was before
        if not lanes:
            self._waiter.pause(seconds)
            return
        try:
            brought = self._waiter.wait(lanes, order, seconds)
            self._may_wait = True
        except Refused as refused:
            if refused.code not in MAY_TAKE:
                raise
            self._pause_instead(refused, seconds)
        except (NotSent, OutcomeUnknown):
            if self._waiter.failed is not None:
                self._aside.doubt(self._waiter.failed)
            raise
        else:
            self._keep_one(sorted(brought, key=lambda each: order.index(each.queue)))

    def _keep_one(self, brought: Sequence[Delivery]) -> None:
        """Several queues may have had something at once. The first may take long, and others may idle."""
        self._ready.extend(brought[:1])
        for delivery in brought[1:]:
            self._acknowledge(delivery.lane, keeps=False)

    def _pause_instead(self, refused: Refused, seconds: float) -> None:
        if self._may_wait:
            events.emit(logging.WARNING, events.WAIT_REFUSED, reason=one_line(refused))
        self._may_wait = False
        self._waiter.pause(min(seconds, LOOK_EVERY_S * _jitter()))

    def _back_off(self, error: NotSent | OutcomeUnknown) -> None:
        self._say_lost(error)
        self._progress.idle()
        shortest, longest = BACK_OFF_S
        self._waiter.pause(min(longest, shortest * 2**self._failures) * _jitter())
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)

    def _say_lost(self, error: NotSent | OutcomeUnknown) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._announce(error)

    def _recovered(self) -> None:
        self._failures = 0
        if self._is_lost and not self._aside:
            self._is_lost = False
            self._announce(None)

    def _announce(self, error: NotSent | OutcomeUnknown | None) -> None:
        if error is None:
            events.emit(logging.INFO, events.REDIS_BACK)
        else:
            events.emit(logging.WARNING, events.REDIS_LOST, reason=one_line(error))


def _mark_copies() -> None:
    for consumer in _running:
        consumer._is_a_copy = True  # noqa: SLF001 - this is its own module


_running: set[Consumer] = set()  # not known by `os.getpid`, which is a system call, and one for each message
os.register_at_fork(after_in_child=_mark_copies)


def consume_here(lane: Lane, assignment: Assignment, idle_s: float | None, progress: Progress) -> None:
    """Run the loop in the caller's process and thread, for one queue.

    In the main thread INT and TERM finish the running message and return; the handlers are put back then.
    """
    with contextlib.closing(Wakeup()) as wakeup, listening(wakeup, (signal.SIGINT, signal.SIGTERM)):
        Consumer([lane], Executor([assignment]), Rota([assignment.queue]), wakeup, progress).run(idle_s)


def _close_unless_silent(lane: Lane, silent: list[Address]) -> None:
    """Close it, unless its server has not answered before: to wait for each would outlast a stop."""
    begun_s = time.monotonic()
    if lane.address in silent:
        lane.abandon()
    elif not close_lane(lane) and time.monotonic() - begun_s >= SHORTEST_S:
        silent.append(lane.address)


def close_lane(lane: Lane) -> bool:
    """Close it; where Redis cannot be told, that is logged and others take over what it held."""
    try:
        lane.close()
    except (NotSent, OutcomeUnknown) as error:
        reason = one_line(error)
        events.emit(logging.WARNING, events.REDIS_LOST, reason=reason, queue=",".join(lane.queues))
        return False
    return True


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
