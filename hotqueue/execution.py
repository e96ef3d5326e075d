"""One delivery, from the bytes to the end of its handler, in short steps on one record."""

import asyncio
import inspect
import time
from collections.abc import Awaitable
from typing import Any

from hotqueue import ending
from hotqueue.delivery import Delivery, running
from hotqueue.ending import Assignment, Run
from hotqueue.envelope import Opened
from hotqueue.errors import Expired
from hotqueue.frame import WRAPPED, enqueued_ms, id_text
from hotqueue.retries import Reject
from hotqueue.wakeup import Forced

CANCEL_S = 1.0


class Executor:
    """Runs deliveries one after the other. Coroutines share an event loop that lives as long as this does."""

    def __init__(self, assignments: list[Assignment]) -> None:
        """Each queue has exactly one assignment."""
        self._assignments = {assignment.queue: assignment for assignment in assignments}
        self._runner: asyncio.Runner | None = None

    def handler_of(self, delivery: Delivery) -> str:
        """Return the name of the handler that gets `delivery`."""
        return self._assignments[delivery.queue].handler

    def run(self, delivery: Delivery) -> Run:
        """Decode it and call its handler. Raises only `Forced`; whatever else happens is the outcome."""
        run = Run(delivery, self._assignments[delivery.queue])
        delivery.handler = run.assignment.handler
        delivery.lane.begin(delivery)
        with running(delivery):
            self._decode(run)
            if run.outcome == "done":
                self._call(run)
        return run

    def settle(self, run: Run) -> None:
        """Acknowledge, retry or bury it, and log that. Raises only what the lane raises."""
        delivery = run.delivery
        duration_ms = (time.monotonic() - run.started_s) * 1000
        delay_s = ending.delay_s(run)
        try:
            if run.outcome == "done":
                delivery.lane.ack(delivery)
            elif delay_s is None:
                delivery.lane.bury(delivery, ending.frame_of(run, is_last=True))
            else:
                delivery.lane.retry(delivery, ending.frame_of(run, is_last=False), delay_s)
        finally:
            ending.report(run, duration_ms, delay_s)
            run.error = None  # its traceback holds this run, and with it the message

    def close(self) -> None:
        """Cancel what handlers left on the event loop, and close it."""
        if self._runner is not None and not self._runner.get_loop().is_closed():
            self._runner.close()
        self._runner = None

    def _decode(self, run: Run) -> None:
        try:
            envelope = run.assignment.envelope()
            opened = envelope.read(run.delivery.raw)
            describe(run.delivery, opened)
            ending.check_age(run.delivery, run.assignment.max_age_s)
            run.message = envelope.decode(opened)
        except Expired as error:
            run.outcome, run.error = "expired", error
        except Forced:
            raise
        except BaseException as error:  # noqa: BLE001 - an unpickled object may raise anything, SystemExit too
            run.outcome, run.error = "unreadable", error

    def _call(self, run: Run) -> None:
        try:
            result = run.assignment.call(run.message)
            if result is not None:
                self._finish(result)
        except Forced:
            raise
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails; the child lives
            run.outcome = "rejected" if isinstance(error, Reject) else "failed"
            run.error = error.with_traceback(ending.from_handler_on(error.__traceback__))

    def _finish(self, result: Any) -> None:
        """Bring to its end what has only begun when an async handler, or one that calls another, returns."""
        if inspect.isawaitable(result):
            if _is_in_event_loop():
                getattr(result, "close", lambda: None)()  # Python would warn that nobody awaited it
                msg = "an async handler cannot run inside of a running event loop: consume in a thread"
                raise RuntimeError(msg)
            self._await(result)
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            msg = "the handler has a yield, so to call it only makes a generator and runs nothing of it"
            raise TypeError(msg)

    def _await(self, awaitable: Awaitable[Any]) -> None:
        loop = self._event_loop()
        # Not `Runner.run`, whose context would be for ever the one of the first message.
        task = asyncio.ensure_future(awaitable, loop=loop)
        try:
            loop.run_until_complete(task)
        finally:
            if not task.done():  # a signal, or another task, has stopped the loop: not into the next message
                task.cancel()
                loop.run_until_complete(asyncio.wait([task], timeout=CANCEL_S))

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._runner is None or self._runner.get_loop().is_closed():
            self._runner = asyncio.Runner()
        return self._runner.get_loop()


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def describe(delivery: Delivery, opened: Opened) -> None:
    """Note on a delivery what its frame says."""
    delivery.headers = opened.headers
    delivery.trail = opened.trail
    delivery.attempt = opened.trail.attempt
    frame = opened.frame
    if frame is not None and not frame.flags & WRAPPED:  # the id of a wrapping is none of the message's
        delivery.id = id_text(frame.message_id)
        delivery.enqueued_ms = enqueued_ms(frame.message_id)
