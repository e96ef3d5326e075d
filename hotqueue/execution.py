"""One delivery, from the bytes to the end of its handler, in short steps on one record."""

import asyncio
import inspect
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from hotqueue import events
from hotqueue.delivery import Delivery, running
from hotqueue.envelope import Envelope, Opened, noted, trail_of
from hotqueue.frame import WRAPPED, enqueued_ms, id_text
from hotqueue.trail import Trail
from hotqueue.wakeup import Forced

TRACEBACK_CHARACTERS = 6000
LINE_CHARACTERS = 500
CANCEL_S = 1.0
_CALLERS = (str(Path(__file__).parent), str(Path(asyncio.__file__).parent))

Outcome = Literal["done", "failed", "unreadable"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A queue, how to open its messages, and what to call with them."""

    queue: str
    handler: str
    call: Callable[[Any], Any]
    envelope: Callable[[], Envelope]


@dataclass(slots=True)
class Run:
    """What becomes of one delivery."""

    delivery: Delivery
    assignment: Assignment
    started_s: float = field(default_factory=time.monotonic)
    message: Any = None
    outcome: Outcome = "done"
    error: BaseException | None = None


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
        """Acknowledge or bury it, and log that. Raises only what the lane raises."""
        delivery = run.delivery
        duration_ms = (time.monotonic() - run.started_s) * 1000
        try:
            if run.outcome == "done":
                delivery.lane.ack(delivery)
            else:
                delivery.lane.bury(delivery, noted(delivery.raw, self._trail(run)))
        finally:
            self._report(run, duration_ms)
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
            _describe(run.delivery, opened)
            run.message = envelope.decode(opened)
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
            run.outcome, run.error = "failed", error.with_traceback(_from_handler_on(error.__traceback__))

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

    def _trail(self, run: Run) -> Trail:
        trail = trail_of(run.delivery.raw)
        return (trail.failed() if run.outcome == "failed" else trail).with_reason(
            kind=run.outcome,
            error=one_line(run.error),
            traceback=_traceback(run.error) if run.outcome == "failed" else None,
            handler=run.assignment.handler,
            at=int(time.time() * 1000),
        )

    def _report(self, run: Run, duration_ms: float) -> None:
        done = run.outcome == "done"
        level = logging.INFO if done else logging.ERROR
        if not events.log.isEnabledFor(level):
            return
        delivery = run.delivery
        begun_ms = time.time() * 1000 - duration_ms
        waited_ms = None if delivery.enqueued_ms is None else max(begun_ms - delivery.enqueued_ms, 0.0)
        events.emit(
            level,
            events.MESSAGE_DONE if done else events.MESSAGE_BURIED,
            error=run.error if run.outcome == "failed" else None,
            queue=delivery.queue,
            id=delivery.id,
            handler=run.assignment.handler,
            attempt=delivery.attempt,
            duration_ms=round(duration_ms, 1),
            wait_ms=None if waited_ms is None else round(waited_ms, 1),
            reason=None if done else f"{run.outcome}: {one_line(run.error)}",
        )


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _describe(delivery: Delivery, opened: Opened) -> None:
    delivery.headers = opened.headers
    delivery.trail = opened.trail
    delivery.attempt = opened.trail.attempt
    frame = opened.frame
    if frame is not None and not frame.flags & WRAPPED:  # the id of a wrapping is none of the message's
        delivery.id = id_text(frame.message_id)
        delivery.enqueued_ms = enqueued_ms(frame.message_id)


def one_line(error: BaseException | None) -> str:
    """Return the type and text of an error in one bounded line, whatever its `__str__` does."""
    try:
        text = " ".join(str(error)[: 2 * LINE_CHARACTERS].split())[:LINE_CHARACTERS]
    except BaseException:  # noqa: BLE001 - the error comes from a user's class
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _from_handler_on(trace: TracebackType | None) -> TracebackType | None:
    """Leave out how we and asyncio called the handler; all of it if nothing else is there."""
    own = trace
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_CALLERS):
        own = own.tb_next
    return own or trace


def _traceback(error: BaseException | None) -> str | None:
    if error is None:
        return None
    try:
        return "".join(traceback.format_exception(error, limit=-20))[-TRACEBACK_CHARACTERS:]
    except BaseException:  # noqa: BLE001 - the same
        return None
