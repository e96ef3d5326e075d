"""One delivery, from the bytes to the end of its handler, in short steps on one record."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from hotqueue import ending, events
from hotqueue.delivery import CURRENT, Delivery
from hotqueue.ending import Assignment, Run, Verdict
from hotqueue.envelope import NO_TRAIL, Opened
from hotqueue.errors import Expired, TimeLimit
from hotqueue.retries import Reject
from hotqueue.wakeup import Forced

CANCEL_S = 1.0

Count: TypeAlias = Callable[[Run, Verdict], None]


class Executor:
    """Runs deliveries one after the other. Coroutines share an event loop that lives as long as this does."""

    def __init__(self, assignments: list[Assignment], count: Count | None = None) -> None:
        """Each queue has exactly one assignment. `count` is told how each run has ended."""
        self._count = count
        self._assignments = {assignment.queue: assignment for assignment in assignments}
        self._runner: asyncio.Runner | None = None
        self._is_calling = False
        self._task: asyncio.Future[Any] | None = None
        self._interruption: BaseException | None = None

    def run(self, delivery: Delivery) -> Run:
        """Decode it and call its handler. Raises only `Forced`; whatever else happens is the outcome."""
        assignment = self._assignments[delivery.queue]
        delivery.handler = assignment.handler
        may_run = delivery.lane.begin(delivery)
        run = Run(delivery, assignment)
        if not may_run:
            run.outcome = "revoked"
            return run
        token = CURRENT.set(delivery)
        try:
            self._decode(run)
            if run.outcome == "done":
                self._call(run)
        finally:
            CURRENT.reset(token)
        return run

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the handler that runs, if one does; to be called by a signal handler."""
        if not self._is_calling:
            return
        if self._task is None:
            raise error
        self._interruption = error
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def settle(self, run: Run) -> None:
        """Acknowledge, retry or bury it, and log that. Raises only what the lane raises."""
        delivery = run.delivery
        if run.outcome == "revoked":
            delivery.lane.give_back()
            return
        if run.outcome == "done":
            if self._count is not None:
                self._count(run, "done")
            try:
                delivery.lane.ack(delivery)
            finally:
                if events.log.isEnabledFor(logging.INFO):
                    ending.report_done(run)
            return
        duration_ms = (time.monotonic() - run.started_s) * 1000
        delay_s = ending.delay_s(run)
        if self._count is not None:
            self._count(run, "buried" if delay_s is None else "retried")
        try:
            if delay_s is None:
                delivery.lane.bury(delivery, ending.frame_of(run, is_last=True))
            else:
                delivery.lane.retry(delivery, ending.frame_of(run, is_last=False), delay_s)
        finally:
            ending.report_failed(run, duration_ms, delay_s)
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
            if opened.headers or run.assignment.max_age_s is not None:
                ending.check_age(run.delivery, run.assignment.max_age_s)
            if opened.trail is not NO_TRAIL:
                ending.check_time(run.delivery)
            run.message = envelope.decode(opened)
        except TimeLimit as error:
            run.outcome, run.error = "failed", error
        except Expired as error:
            run.outcome, run.error = "expired", error
        except Forced:
            raise
        except BaseException as error:  # noqa: BLE001 - an unpickled object may raise anything, SystemExit too
            run.outcome, run.error = "unreadable", error

    def _call(self, run: Run) -> None:
        try:
            self._run_handler(run)
        except Forced:
            raise
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails; the child lives
            run.outcome = "rejected" if issubclass(type(error), Reject) else "failed"
            # A user's class may have a method of its own under this name.
            run.error = BaseException.with_traceback(error, ending.from_handler_on(error.__traceback__))

    def _run_handler(self, run: Run) -> None:
        """What interrupts it, down to the last moment, is raised in here, where `_call` expects it."""
        self._is_calling = True
        try:
            result = run.assignment.call(run.message)
            if result is not None:
                self._finish(result)
        finally:
            self._is_calling = False

    def _finish(self, result: Any) -> None:
        """Bring to its end what has only begun when an async handler, or one that calls another, returns."""
        if inspect.isawaitable(result):
            if is_in_event_loop():
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
        self._task = task = asyncio.ensure_future(awaitable, loop=loop)
        task.add_done_callback(_stop_loop)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            if self._interruption is not None:
                raise self._interruption from None
            raise
        finally:
            self._task = self._interruption = None
            if not task.done():  # a signal, or another task, has stopped the loop: not into the next message
                task.cancel()
                loop.run_until_complete(asyncio.wait([task], timeout=CANCEL_S))

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._runner is None or self._runner.get_loop().is_closed():
            self._runner = asyncio.Runner()
        return self._runner.get_loop()


def _stop_loop(task: asyncio.Future[Any]) -> None:
    """Stop it as asyncio does, which asks the error for its `__class__`: by one that lies it would hang."""
    if task.cancelled() or not issubclass(type(task.exception()), SystemExit | KeyboardInterrupt):
        task.get_loop().stop()


def is_in_event_loop() -> bool:
    """Tell whether this thread is running one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def describe(delivery: Delivery, opened: Opened) -> None:
    """Note on a delivery what its frame says."""
    delivery.headers = opened.headers
    delivery.trail = opened.trail
    delivery.message_id = opened.message_id
