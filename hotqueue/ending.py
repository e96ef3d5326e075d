"""What becomes of a message whose run has ended: done, again later, or dead with the reason."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from hotqueue import events
from hotqueue.delivery import Delivery
from hotqueue.envelope import EXPIRES, Envelope, noted, trail_of
from hotqueue.errors import Expired, TimeLimit
from hotqueue.frame import enqueued_ms
from hotqueue.retries import Reject, Retries, exponential

if TYPE_CHECKING:
    from hotqueue.trail import Scalar

TRACEBACK_CHARACTERS = 6000
LINE_CHARACTERS = 500
_CALLERS = (str(Path(__file__).parent), str(Path(asyncio.__file__).parent))
_OUTCOMES = {Reject, Expired}  # errors whose name says what the outcome says

Outcome = Literal["done", "failed", "rejected", "unreadable", "expired", "revoked"]
Verdict = Literal["done", "retried", "buried"]


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


def delay_s(run: Run) -> float | None:
    """Return in how many seconds a failed message runs again, None if it does not."""
    if run.outcome != "failed" or run.error is None:
        return None
    failures = run.delivery.trail.failures + 1
    try:
        return run.assignment.retries.delay_s(run.error, failures)
    except BaseException as error:  # noqa: BLE001 - a user's backoff function must not cost the message
        events.emit(logging.ERROR, events.BACKOFF_FAILED, error=error, handler=run.assignment.handler)
        return exponential(failures)


def frame_of(run: Run, *, is_last: bool) -> bytes:
    """Return the frame of a run that did not end well, with what happened in its trail."""
    trail = trail_of(run.delivery.raw)
    reason: dict[str, Scalar] = {
        "kind": run.outcome,
        "error": said(run.error),
        "handler": run.assignment.handler,
        "at": int(time.time() * 1000),
    }
    if run.outcome in {"failed", "rejected"}:
        trail = trail.failed()
    if is_last and run.outcome == "failed":
        reason["traceback"] = _traceback(run.error)
    return noted(run.delivery.raw, trail.with_reason(**reason))


def report_done(run: Run) -> None:
    """Log that a handler has returned, at a level that is enabled."""
    duration_ms = (time.monotonic() - run.started_s) * 1000
    events.record(logging.INFO, events.MESSAGE_DONE, _account(run, duration_ms))


def report_failed(run: Run, duration_ms: float, again_in_s: float | None) -> None:
    """Log that a run did not end well, and what becomes of the message."""
    is_last = again_in_s is None
    events.emit(
        logging.ERROR if is_last else logging.WARNING,
        events.MESSAGE_BURIED if is_last else events.MESSAGE_RETRIED,
        error=run.error if run.outcome == "failed" and is_last else None,
        **_account(run, duration_ms),
        reason=f"{run.outcome}: {said(run.error)}",
        again_in_s=None if again_in_s is None else round(again_in_s, 1),
    )


def _account(run: Run, duration_ms: float) -> dict[str, Any]:
    delivery = run.delivery
    account: dict[str, Any] = {"queue": delivery.queue}
    if delivery.message_id is not None:
        account["id"] = delivery.id
    account["handler"] = delivery.handler
    account["attempt"] = delivery.trail.attempt
    account["duration_ms"] = round(duration_ms, 1)
    if delivery.message_id is not None:
        waited_ms = time.time() * 1000 - duration_ms - enqueued_ms(delivery.message_id)
        account["wait_ms"] = round(max(waited_ms, 0.0), 1)
    return account


def bury_unrun(delivery: Delivery, kind: Outcome, error: BaseException) -> None:
    """Bury what cannot be handed out, where no handler is."""
    why = said(error)
    events.emit(
        logging.ERROR, events.MESSAGE_BURIED, queue=delivery.queue, id=delivery.id, reason=f"{kind}: {why}"
    )
    trail = trail_of(delivery.raw).with_reason(kind=kind, error=why, at=int(time.time() * 1000))
    delivery.lane.bury(delivery, noted(delivery.raw, trail))


def check_age(delivery: Delivery, max_age_s: float | None = None) -> None:
    """Raise Expired if it is too late to run it."""
    limits = (delivery.headers.get(EXPIRES), max_age_s)
    longest_s = min((limit for limit in limits if isinstance(limit, int | float)), default=None)
    if longest_s is None or delivery.enqueued_ms is None:
        return
    begun_ms = max(delivery.enqueued_ms, delivery.trail.revived)
    age_s = time.time() - begun_ms / 1000
    if age_s > longest_s:
        msg = f"the message was {age_s:.1f} s old, it had to start within {longest_s:g} s"
        raise Expired(msg)


def check_time(delivery: Delivery) -> None:
    """Raise TimeLimit if its last run was killed for that, and the failure is not settled yet."""
    limit_s = delivery.trail.overran_s
    if limit_s is not None:
        msg = f"it ran longer than {limit_s:g} s"
        raise TimeLimit(msg)


def one_line(error: BaseException | None) -> str:
    """Return the type and text of an error in one bounded line, whatever its `__str__` does."""
    text, name = _text(error), _name(type(error))
    return f"{name}: {text}" if text else name


def said(error: BaseException | None) -> str:
    """Return what is to stand behind the outcome: of a `Reject` the reason alone."""
    return (type(error) in _OUTCOMES and _text(error)) or one_line(error)


def _name(kind: type) -> str:
    try:
        return str(kind.__name__)
    except BaseException:  # noqa: BLE001 - a metaclass of a user's has a name of its own for it
        return "an error without a name"


def _text(error: BaseException | None) -> str:
    try:
        return " ".join(str(error)[: 2 * LINE_CHARACTERS].split())[:LINE_CHARACTERS]
    except BaseException:  # noqa: BLE001 - the error comes from a user's class
        return ""


def from_handler_on(trace: TracebackType | None) -> TracebackType | None:
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
