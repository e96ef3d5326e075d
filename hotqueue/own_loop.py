"""At-least-once without a handler: `for delivery in queue.deliveries(): …; delivery.ack()`."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from hotqueue.caretaker import Caretaker
from hotqueue.delivery import Delivery, Lane
from hotqueue.ending import bury_unreadable
from hotqueue.envelope import Envelope, noted
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.execution import describe
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening


class OwnDelivery:
    """A message and its receipt. Settle it by exactly one of `ack`, `retry` and `reject`.

    All of them raise NotSent or OutcomeUnknown; the message then runs again.
    """

    def __init__(self, delivery: Delivery, message: Any) -> None:
        """Yielded by `HotQueue.deliveries`."""
        self._delivery = delivery
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
    def headers(self) -> Any:
        """What the producer passed to `send`."""
        return self._delivery.headers

    def ack(self) -> None:
        """It is done."""
        self._settle()
        self._delivery.lane.ack(self._delivery)
        self._delivery.lane.flush()

    def retry(self, delay: float = 0.0) -> None:
        """Run it again in `delay` seconds; it counts as a failure."""
        self._settle()
        frame = noted(self._delivery.raw, self._delivery.trail.failed())
        self._delivery.lane.retry(self._delivery, frame, delay)

    def reject(self, reason: str) -> None:
        """Move it to the dead list with this reason."""
        self._settle()
        trail = self._delivery.trail.failed()
        trail = trail.with_reason(kind="rejected", error=reason, at=int(time.time() * 1000))
        self._delivery.lane.bury(self._delivery, noted(self._delivery.raw, trail))

    def _settle(self) -> None:
        if self.is_settled:
            msg = "this delivery is settled already"
            raise ConfigurationError(msg)
        self.is_settled = True


def deliveries(
    queue: str, lane: Lane, caretaker: Caretaker, envelope: Callable[[], Envelope], timeout_s: float | None
) -> Iterator[OwnDelivery]:
    """Yield deliveries as they come, until nothing came for `timeout_s`, or Ctrl-C. Leaving the loop releases."""
    with contextlib.closing(Wakeup()) as wakeup, caretaker.caring(), contextlib.closing(lane):
        while (delivery := _next(queue, lane, wakeup, timeout_s)) is not None:
            try:
                describe(delivery, opened := envelope().read(delivery.raw))
                message = envelope().decode(opened)
            except BadMessage as error:
                lane.begin(delivery)
                bury_unreadable(delivery, error)
                continue
            own = OwnDelivery(delivery, message)
            lane.begin(delivery)
            yield own
            if not own.is_settled:
                msg = f"a delivery of queue {queue!r} was not settled: call ack(), retry() or reject()"
                raise ConfigurationError(msg)


def _next(queue: str, lane: Lane, wakeup: Wakeup, timeout_s: float | None) -> Delivery | None:
    end_s = float("inf") if not timeout_s else time.monotonic() + timeout_s
    with listening(wakeup, (signal.SIGINT,)), contextlib.closing(Waiter(wakeup)) as waiter:
        while not wakeup.is_set and (left_s := end_s - time.monotonic()) > 0:
            if (delivery := lane.take(queue)) is not None:
                return delivery
            if brought := waiter.wait((lane,), (queue,), left_s):
                return brought[0]
    return None
