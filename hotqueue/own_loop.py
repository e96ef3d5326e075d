"""At-least-once without a handler: `for delivery in queue.deliveries(): …; delivery.ack()`."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hotqueue.address import Address
from hotqueue.caretaker import Caretaker
from hotqueue.consumer import LOOK_EVERY_S, MAY_TAKE, close_lane
from hotqueue.delivery import Delivery, Lane
from hotqueue.durations import Seconds, seconds_of
from hotqueue.ending import bury_unrun, check_age
from hotqueue.envelope import Envelope, noted
from hotqueue.errors import ConfigurationError, Expired, Refused
from hotqueue.execution import describe
from hotqueue.version import check_server
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening


class OwnDelivery:
    """A message and its receipt. Settle it by exactly one of `ack`, `retry` and `reject`.

    They raise NotSent or OutcomeUnknown, and the message may run again; ConfigurationError the second time,
    and in a fork.
    """

    def __init__(self, delivery: Delivery, message: Any) -> None:
        """Yielded by `HotQueue.deliveries`."""
        self._delivery = delivery
        self._owner = os.getpid()
        self.message = message
        self.is_settled = False

    @property
    def id(self) -> str | None:
        """The id, None for a bare body."""
        return self._delivery.id

    @property
    def attempt(self) -> int:
        """1 the first time."""
        return self._delivery.attempt

    @property
    def headers(self) -> Mapping[str, object]:
        """What the producer passed to `send`."""
        return self._delivery.headers

    def ack(self) -> None:
        """It is done."""
        self._settle()
        self._delivery.lane.ack(self._delivery)
        self._delivery.lane.flush()

    def retry(self, delay: Seconds = 0.0) -> None:
        """Run it again in `delay` seconds; it counts as a failure."""
        delay_s = seconds_of("delay", delay)
        self._settle()
        frame = noted(self._delivery.raw, self._delivery.trail.failed())
        self._delivery.lane.retry(self._delivery, frame, delay_s)

    def reject(self, reason: str) -> None:
        """Move it to the dead list with this reason."""
        self._settle()
        trail = self._delivery.trail.failed()
        trail = trail.with_reason(kind="rejected", error=reason, at=int(time.time() * 1000))
        self._delivery.lane.bury(self._delivery, noted(self._delivery.raw, trail))

    def _settle(self) -> None:
        _refuse_in_fork(self._owner)
        if self.is_settled:
            msg = "this delivery is settled already"
            raise ConfigurationError(msg)
        self.is_settled = True


class OwnLoop:
    """Yields what one lane brings. What is not settled when it is left goes back to the head."""

    def __init__(
        self, queue: str, address: Address, lane: Lane, caretaker: Caretaker, envelope: Callable[[], Envelope]
    ) -> None:
        """Nothing is sent before `run`."""
        self._queue = queue
        self._address = address
        self._lane = lane
        self._caretaker = caretaker
        self._envelope = envelope

    def run(self, timeout_s: float | None) -> Iterator[OwnDelivery]:
        """Yield until nothing came for `timeout_s`, or Ctrl-C while it waits."""
        check_server(self._address)
        owner = os.getpid()
        with contextlib.closing(Wakeup()) as wakeup, self._caretaker.caring(), self._leaving():
            while (delivery := self._next(wakeup, timeout_s)) is not None:
                if not self._lane.begin(delivery):
                    self._lane.give_back()
                    continue
                own = self._opened(delivery)
                if own is None:
                    continue
                yield own
                _refuse_in_fork(owner)
                if not own.is_settled:
                    msg = f"a delivery of {self._queue!r} was not settled: call ack(), retry() or reject()"
                    raise ConfigurationError(msg)

    @contextlib.contextmanager
    def _leaving(self) -> Iterator[None]:
        """Close the lane in the end, but not in a fork: there it is a copy of somebody else's.

        Whatever is raised meanwhile, Ctrl-C above all, must not be replaced by an error of the closing.
        """
        owner = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == owner:
                close_lane(self._lane)

    def _opened(self, delivery: Delivery) -> OwnDelivery | None:
        """Return it with its message; None if it went to the dead list instead."""
        envelope = self._envelope()
        try:
            opened = envelope.read(delivery.raw)
            describe(delivery, opened)
            check_age(delivery)
            return OwnDelivery(delivery, envelope.decode(opened))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - an unpickled object may raise anything, SystemExit too
            bury_unrun(delivery, "expired" if isinstance(error, Expired) else "unreadable", error)
            return None

    def _next(self, wakeup: Wakeup, timeout_s: float | None) -> Delivery | None:
        left_s = timeout_s or float("inf")
        end_s = time.monotonic() + left_s
        with _ctrl_c_recorded(wakeup), contextlib.closing(Waiter(wakeup)) as waiter:
            while not wakeup.is_set and left_s > 0:  # once at the least, however slow we are
                if self._caretaker.is_paused(self._queue):
                    waiter.pause(min(left_s, LOOK_EVERY_S))
                else:
                    delivery = self._lane.take(self._queue) or self._wait(waiter, left_s)
                    if delivery is not None and not self._caretaker.is_paused(self._queue):
                        return delivery
                    self._lane.give_back()
                left_s = end_s - time.monotonic()
        return None

    def _wait(self, waiter: Waiter, seconds: float) -> Delivery | None:
        try:
            brought = waiter.wait((self._lane,), (self._queue,), seconds)
        except Refused as refused:
            if refused.code not in MAY_TAKE:
                raise
            waiter.pause(min(seconds, LOOK_EVERY_S))
            return None
        return brought[0] if brought else None


def _refuse_in_fork(owner: int) -> None:
    """Raise ConfigurationError in a copy of the process that took a message: nobody renews its lease."""
    if os.getpid() != owner:
        msg = "this delivery belongs to the process that forked this one, and can be settled only there"
        raise ConfigurationError(msg)


def _ctrl_c_recorded(wakeup: Wakeup) -> contextlib.AbstractContextManager[None]:
    """Have Ctrl-C end a wait, unless the application handles it itself."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return listening(wakeup, (signal.SIGINT,))
    return contextlib.nullcontext()
