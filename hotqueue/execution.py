"""One delivery, from the bytes to the end of its handler, in short steps on one record."""

import asyncio
import contextlib
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
from hotqueue.envelope import EXPIRES, Envelope, Opened, noted, trail_of
from hotqueue.errors import BadMessage, Expired
from hotqueue.frame import WRAPPED, enqueued_ms, id_text
from hotqueue.retries import Reject, Retries, exponential
from hotqueue.trail import Scalar
from hotqueue.wakeup import Forced

TRACEBACK_CHARACTERS = 6000
LINE_CHARACTERS = 500
CANCEL_S = 1.0
_CALLERS = (str(Path(__file__).parent), str(Path(asyncio.__file__).parent))

_LEVELS = {
    events.MESSAGE_DONE: logging.INFO,
    events.MESSAGE_RETRIED: logging.WARNING,
    events.MESSAGE_BURIED: logging.ERROR,
}

Outcome = Literal["done", "failed", "rejected", "unreadable", "expired"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A queue, how to open its messages, and what to call with them."""

    queue: str
    handler: str
    call: Callable[[Any], Any]
    envelope: Callable[[], Envelope]
    retries: Retries
    max_age_s: float | None = None


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
        """Acknowledge, retry or bury it, and log that. Raises only what the lane raises."""
        delivery = run.delivery
        duration_ms = (time.monotonic() - run.started_s) * 1000
        delay_s = _delay_s(run)
        try:
            if run.outcome == "done":
                delivery.lane.ack(delivery)
            elif delay_s is None:
                delivery.lane.bury(delivery, _frame(run, is_last=True))
            else:
                delivery.lane.retry(delivery, _frame(run, is_last=False), delay_s)
        finally:
            _report(run, duration_ms, delay_s)
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
            _check_age(run)
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
            run.error = error.with_traceback(_from_handler_on(error.__traceback__))

    def _finish(self, result: Any) -> None:
        """Bring to its end what has only begun when an async handler, or one that calls another, returns."""
        if inspect.isawaitable(result):
            self._await(result)
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            msg = "the handler has a yield, so to call it only makes a generator and runs nothing of it"
            raise TypeError(msg)

    def _await(self, awaitable: Awaitable[Any]) -> None:
        if self._runner is None or self._runner.get_loop().is_closed():
            self._runner = asyncio.Runner()
        loop = self._runner.get_loop()
        # Not `Runner.run`, whose context would be for ever the one of the first message.
        task = asyncio.ensure_future(awaitable, loop=loop)
        try:
            loop.run_until_complete(task)
        finally:
            if not task.done():  # a signal, or another task, has stopped the loop: not into the next message
                task.cancel()
                with contextlib.suppress(RuntimeError):  # somebody else's loop is running in this thread
                    loop.run_until_complete(asyncio.wait([task], timeout=CANCEL_S))


def _check_age(run: Run) -> None:
    delivery = run.delivery
    limits = (delivery.headers.get(EXPIRES), run.assignment.max_age_s)
    longest_s = min((limit for limit in limits if isinstance(limit, int | float)), default=None)
    if longest_s is None or delivery.enqueued_ms is None:
        return
    age_s = time.time() - delivery.enqueued_ms / 1000
    if age_s > longest_s:
        msg = f"the message was {age_s:.1f} s old, it had to start within {longest_s:g} s"
        raise Expired(msg)


def _delay_s(run: Run) -> float | None:
    """Return in how many seconds a failed message runs again, None if it does not."""
    if run.outcome != "failed" or run.error is None:
        return None
    failures = run.delivery.trail.failures + 1
    try:
        return run.assignment.retries.delay_s(run.error, failures)
    except Exception as error:  # noqa: BLE001 - a user's backoff function must not cost the message
        events.emit(logging.ERROR, events.BACKOFF_FAILED, error=error, handler=run.assignment.handler)
        return exponential(failures)


def _frame(run: Run, *, is_last: bool) -> bytes:
    """Return the frame of a run that did not end well, with what happened in its trail."""
    trail = trail_of(run.delivery.raw)
    reason: dict[str, Scalar] = {
        "kind": run.outcome,
        "error": one_line(run.error),
        "handler": run.assignment.handler,
        "at": int(time.time() * 1000),
    }
    if run.outcome in {"failed", "rejected"}:
        trail = trail.failed()
    if is_last and run.outcome == "failed":
        reason["traceback"] = _traceback(run.error)
    return noted(run.delivery.raw, trail.with_reason(**reason))


def _report(run: Run, duration_ms: float, again_in_s: float | None) -> None:
    if run.outcome == "done":
        event = events.MESSAGE_DONE
    else:
        event = events.MESSAGE_BURIED if again_in_s is None else events.MESSAGE_RETRIED
    level = _LEVELS[event]
    if not events.log.isEnabledFor(level):
        return
    delivery = run.delivery
    begun_ms = time.time() * 1000 - duration_ms
    waited_ms = None if delivery.enqueued_ms is None else max(begun_ms - delivery.enqueued_ms, 0.0)
    events.emit(
        level,
        event,
        error=run.error if run.outcome == "failed" and again_in_s is None else None,
        queue=delivery.queue,
        id=delivery.id,
        handler=run.assignment.handler,
        attempt=delivery.attempt,
        duration_ms=round(duration_ms, 1),
        wait_ms=None if waited_ms is None else round(waited_ms, 1),
        reason=None if run.outcome == "done" else f"{run.outcome}: {one_line(run.error)}",
        again_in_s=None if again_in_s is None else round(again_in_s, 1),
    )


def bury_unreadable(delivery: Delivery, error: BadMessage) -> None:
    """Bury what cannot be decoded, where no handler is."""
    reason: dict[str, Scalar] = {"kind": "unreadable", "error": one_line(error), "at": int(time.time() * 1000)}
    trail = trail_of(delivery.raw).with_reason(**reason)
    events.emit(
        logging.ERROR, events.MESSAGE_BURIED,
        queue=delivery.queue, id=delivery.id, reason=f"unreadable: {one_line(error)}",
    )  # fmt: skip
    delivery.lane.bury(delivery, noted(delivery.raw, trail))


def describe(delivery: Delivery, opened: Opened) -> None:
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
