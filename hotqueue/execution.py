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
from hotqueue.envelope import EXPIRES, Envelope, Opened, noted, trail_of
from hotqueue.errors import BadMessage, Expired
from hotqueue.frame import WRAPPED, enqueued_ms, id_text
from hotqueue.retries import Reject, Retries, exponential
from hotqueue.trail import Scalar
from hotqueue.wakeup import Forced

TRACEBACK_CHARACTERS = 6000
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
            for step in (self._open, self._check_age, self._decode, self._call):
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
        fill(delivery, opened)

    def _check_age(self, run: Run) -> None:
        delivery = run.delivery
        expires = delivery.headers.get(EXPIRES)
        limits = [limit for limit in (expires, run.assignment.max_age_s) if isinstance(limit, int | float)]
        if limits and delivery.enqueued_ms is not None:
            age_s = time.time() - delivery.enqueued_ms / 1000
            if age_s > min(limits):
                run.outcome = "expired"
                run.error = Expired(f"the message was {age_s:.1f} s old, it had to start within {min(limits):g} s")

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
            outcome: Outcome = "rejected" if isinstance(error, Reject) else "failed"
            run.outcome, run.error = outcome, error.with_traceback(_from_handler_on(error.__traceback__))

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
            report(run, duration_ms, events.MESSAGE_DONE)
            return
        trail = trail_of(delivery.raw)
        if run.outcome in {"failed", "rejected"}:
            trail = trail.failed()
        delay_s = _delay_s(run, trail.failures)
        frame = noted(delivery.raw, trail.with_reason(**_reason(run, is_last=delay_s is None)))
        if delay_s is None:
            report(run, duration_ms, events.MESSAGE_BURIED)
            delivery.lane.bury(delivery, frame)
        else:
            report(run, duration_ms, events.MESSAGE_RETRIED, delay_s)
            delivery.lane.retry(delivery, frame, delay_s)


def fill(delivery: Delivery, opened: Opened) -> None:
    """Note on a delivery what its frame says."""
    delivery.headers, delivery.trail, delivery.attempt = opened.headers, opened.trail, opened.trail.attempt
    if opened.frame is not None and not opened.frame.flags & WRAPPED:
        delivery.id = id_text(opened.frame.message_id)
        delivery.enqueued_ms = enqueued_ms(opened.frame.message_id)


def bury_unreadable(delivery: Delivery, error: BadMessage) -> None:
    """Bury what cannot be decoded, where no handler is."""
    reason: dict[str, Scalar] = {"kind": "unreadable", "error": one_line(error), "at": int(time.time() * 1000)}
    events.emit(
        logging.ERROR, events.MESSAGE_BURIED,
        queue=delivery.queue, id=delivery.id, reason=f"unreadable: {one_line(error)}",
    )  # fmt: skip
    delivery.lane.bury(delivery, noted(delivery.raw, trail_of(delivery.raw).with_reason(**reason)))


def report(run: Run, duration_ms: float, event: str, again_in_s: float | None = None) -> None:
    """Log the end of a run."""
    level = _LEVELS[event]
    if not events.log.isEnabledFor(level):
        return
    delivery = run.delivery
    waited_ms = None if delivery.enqueued_ms is None else time.time() * 1000 - delivery.enqueued_ms - duration_ms
    events.emit(
        level,
        event,
        error=run.error if run.outcome == "failed" and again_in_s is None else None,
        queue=delivery.queue,
        id=delivery.id,
        handler=run.assignment.handler,
        attempt=delivery.attempt,
        duration_ms=round(duration_ms, 1),
        wait_ms=None if waited_ms is None else round(max(waited_ms, 0.0), 1),
        reason=None if run.outcome == "done" else f"{run.outcome}: {one_line(run.error)}",
        again_in_s=None if again_in_s is None else round(again_in_s, 1),
    )


def _delay_s(run: Run, failures: int) -> float | None:
    if run.outcome != "failed" or run.error is None:
        return None
    try:
        return run.assignment.retries.delay_s(run.error, failures)
    except Exception as error:  # noqa: BLE001 - a user's backoff function must not cost the message
        events.emit(logging.ERROR, events.BACKOFF_FAILED, error=error, handler=run.assignment.handler)
        return exponential(failures)


def _reason(run: Run, *, is_last: bool) -> dict[str, Scalar]:
    noted: dict[str, Scalar] = {
        "kind": run.outcome,
        "error": one_line(run.error),
        "handler": run.assignment.handler,
        "at": int(time.time() * 1000),
    }
    if is_last and run.outcome == "failed":
        noted["traceback"] = _traceback(run.error)
    return noted


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
