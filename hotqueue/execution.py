"""One delivery, from the bytes to the end of its handler, in short steps on one record."""

import asyncio
import contextvars
import inspect
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from hotqueue import events
from hotqueue.delivery import Delivery, running
from hotqueue.envelope import Envelope, Opened, noted, trail_of
from hotqueue.errors import BadMessage
from hotqueue.frame import WRAPPED, enqueued_ms, id_text
from hotqueue.trail import Trail
from hotqueue.wakeup import Forced

TRACEBACK_CHARACTERS = 6000
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
    opened: Opened | None = None
    message: Any = None
    outcome: Outcome = "done"
    error: BaseException | None = None


class Executor:
    """Runs deliveries one after the other. Coroutines share one event loop that lives as long as this does."""

    def __init__(self, assignments: list[Assignment]) -> None:
        """Each queue has exactly one assignment."""
        self._assignments = {assignment.queue: assignment for assignment in assignments}
        self._runner: asyncio.Runner | None = None

    def handler_of(self, delivery: Delivery) -> str:
        """Return the name of the handler that gets `delivery`."""
        return self._assignments[delivery.queue].handler

    def execute(self, delivery: Delivery) -> Outcome:
        """Run one delivery and settle it. Raises only what the lane raises: NotSent, Refused, OutcomeUnknown."""
        run = Run(delivery, self._assignments[delivery.queue])
        delivery.handler = run.assignment.handler
        delivery.lane.begin(delivery)
        with running(delivery):
            for step in (self._open, self._decode, self._call):
                if run.outcome == "done":
                    step(run)
        self._settle(run)
        return run.outcome

    def close(self) -> None:
        """Cancel what handlers left on the event loop, and close it."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _open(self, run: Run) -> None:
        delivery = run.delivery
        try:
            run.opened = opened = run.assignment.envelope().read(delivery.raw)
        except BadMessage as error:
            run.outcome, run.error = "unreadable", error
            return
        delivery.headers, delivery.trail, delivery.attempt = opened.headers, opened.trail, opened.trail.attempt
        if opened.frame is not None and not opened.frame.flags & WRAPPED:
            delivery.id = id_text(opened.frame.message_id)
            delivery.enqueued_ms = enqueued_ms(opened.frame.message_id)

    def _decode(self, run: Run) -> None:
        assert run.opened is not None
        try:
            run.message = run.assignment.envelope().decode(run.opened)
        except BaseException as error:  # noqa: BLE001 - an unpickled object may raise anything, SystemExit too
            run.outcome, run.error = "unreadable", error

    def _call(self, run: Run) -> None:
        try:
            result = run.assignment.call(run.message)
            if inspect.iscoroutine(result):
                self._await(result)
        except Forced:
            raise
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails; the child lives
            run.outcome, run.error = "failed", error.with_traceback(_from_handler_on(error.__traceback__))

    def _await(self, coroutine: Any) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        # A context for each message: the runner's own is a copy from when it ran its first one.
        self._runner.run(coroutine, context=contextvars.copy_context())

    def _settle(self, run: Run) -> None:
        delivery = run.delivery
        duration_ms = (time.monotonic() - run.started_s) * 1000
        if run.outcome == "done":
            delivery.lane.ack(delivery)
            self._report(run, duration_ms)
        else:
            self._report(run, duration_ms)
            delivery.lane.bury(delivery, noted(delivery.raw, self._trail(run)))

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
        waited_ms = None if delivery.enqueued_ms is None else time.time() * 1000 - delivery.enqueued_ms - duration_ms
        events.emit(
            level,
            events.MESSAGE_DONE if done else events.MESSAGE_BURIED,
            error=run.error if run.outcome == "failed" else None,
            queue=delivery.queue,
            id=delivery.id,
            handler=run.assignment.handler,
            attempt=delivery.attempt,
            duration_ms=round(duration_ms, 1),
            wait_ms=None if waited_ms is None else round(max(waited_ms, 0.0), 1),
            reason=None if done else f"{run.outcome}: {one_line(run.error)}",
        )


def one_line(error: BaseException | None) -> str:
    """Return the type and text of an error in one bounded line, whatever its `__str__` does."""
    try:
        text = " ".join(str(error).split())[:500]
    except Exception:  # noqa: BLE001 - the error comes from a user's class
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
    except Exception:  # noqa: BLE001 - the same
        return None
