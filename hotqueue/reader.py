"""Messages for a caller of `dequeue` or `consume`: without a handler, at most once."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from hotqueue import events
from hotqueue.at_most_once import AtMostOnce
from hotqueue.delivery import Delivery, Unwatched
from hotqueue.durations import Seconds, idle_of
from hotqueue.ending import one_line
from hotqueue.envelope import Envelope, id_of, noted, trail_of
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.pool import Pool
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening


class Reader:
    """One call of `dequeue` or `consume`, to be used in a `with`.

    What was received and not begun goes back to the head of the queue at the end, whatever interrupts the
    caller before it has the message. Only an exception out of a signal handler while a reply is being read
    can lose one; with `block`, Ctrl-C is none.
    """

    def __init__(
        self,
        queue: str,
        pool: Pool,
        envelope: Callable[[], Envelope],
        *,
        block: bool,
        timeout: Seconds | None,
    ) -> None:
        """With `block`, `receive` waits `timeout` seconds, or for ever if that is None or 0."""
        self._queue = queue
        self._pool = pool
        self._envelope = envelope  # asked for anew for each message, because it may change
        self._timeout = idle_of(timeout)
        self._connection = pool.take()
        self._lane = AtMostOnce((queue,), self._connection, Unwatched())
        self._wakeup = Wakeup() if block else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            with self._holding_a_message():
                self._lane.give_back()
        finally:
            if self._wakeup is not None:
                self._wakeup.close()
            self._pool.give(self._connection)

    def receive(self) -> Delivery | None:
        """Return the next message, or None.

        Raises NotSent, OutcomeUnknown (a message may have been lost), or KeyboardInterrupt; while it waits
        that is put off until nothing can be lost by it.
        """
        if self._wakeup is None:
            return self._lane.take(self._queue)
        with self._ctrl_c_recorded():
            delivery = self._wait(self._wakeup)
        if self._wakeup.is_set:
            raise KeyboardInterrupt
        return delivery

    def decode(self, delivery: Delivery) -> Any:
        """Return the message. Raises BadMessage if it cannot be decoded; it is in the dead list then."""
        envelope = self._envelope()
        try:
            return envelope.decode(envelope.read(delivery.raw))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # unpickling may raise anything; taken again, it would do so again
            self._bury(delivery, one_line(error))
            raise

    def begin(self, delivery: Delivery) -> None:
        """Say that the caller has the message: from here on it is not given back."""
        self._lane.begin(delivery)

    def _wait(self, wakeup: Wakeup) -> Delivery | None:
        left = self._timeout or float("inf")
        end = time.monotonic() + left
        with contextlib.closing(Waiter(wakeup)) as waiter:
            while not wakeup.is_set and left > 0:  # once at the least, however slow we are
                if brought := waiter.wait((self._lane,), (self._queue,), left):
                    return brought[0]
                left = end - time.monotonic()
        return None

    def _bury(self, delivery: Delivery, error: str) -> None:
        trail = trail_of(delivery.raw).with_reason(kind="unreadable", error=error, at=int(time.time() * 1000))
        with self._holding_a_message():
            self._lane.begin(delivery)
            self._lane.bury(delivery, noted(delivery.raw, trail))
        events.emit(
            logging.ERROR,
            events.MESSAGE_BURIED,
            queue=self._queue,
            id=id_of(delivery.raw),
            reason=f"unreadable: {error}",
        )

    @contextlib.contextmanager
    def _holding_a_message(self) -> Iterator[None]:
        """Nobody else has the message: a command that is not sent means its loss."""
        try:
            with self._ctrl_c_recorded():
                yield
        except NotSent as error:
            msg = f"a message of queue {self._queue!r} may have been lost: {error}"
            raise OutcomeUnknown(msg) from error

    def _ctrl_c_recorded(self) -> contextlib.AbstractContextManager[None]:
        """Record Ctrl-C while waiting, unless the application handles it itself.

        An exception out of a signal handler would throw away a message that Redis has already popped.
        """
        main = threading.current_thread() is threading.main_thread()
        if self._wakeup and main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            return listening(self._wakeup, (signal.SIGINT,))
        return contextlib.nullcontext()
