"""Recovery: what a dead child held goes back, and a crash is counted against the message that caused it."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotqueue import events, identity, keys, scripts
from hotqueue.address import Address
from hotqueue.connection import Connection
from hotqueue.envelope import id_of, noted, trail_of
from hotqueue.errors import Refused
from hotqueue.frame import is_frame
from hotqueue.upkeep import LEASE_MS
from hotqueue.worker import policy
from hotqueue.worker.layout import NO_CLAIM
from hotqueue.worker.reading import Place

if TYPE_CHECKING:
    from hotqueue.trail import Scalar


@dataclass(frozen=True, slots=True)
class Served:
    """One queue of the worker, as the template described it."""

    queue: str
    handler: str
    where: str
    delivery: str
    address: Address
    time_limit: float | None = None
    soft_time_limit: float | None = None
    prefetch: int | None = None  # by estimate


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead child held of one queue, and why it died."""

    child: int
    place: Place
    crashed: bool
    cause: str
    overran_s: float | None = None  # the time limit that the one which ran has overrun
    stack: str | None = None  # where the child was, if it could still say so
    suspected: bool = False  # it crashed while several ran, and this may be the one to blame

    @property
    def interrupted(self) -> bool:
        """Whether what ran is to blame for nothing."""
        return not (self.crashed or self.suspected) and self.overran_s is None


def served_from(report: Sequence[Mapping[str, object]]) -> list[Served]:
    """Read the template's report."""
    return [
        Served(**{**each, "address": Address.from_portable(each["address"])})  # type: ignore[arg-type]
        for each in report
    ]


def recover(connection: Connection, served: Served, left: Left, max_crashes: int) -> scripts.Retired:
    """Retire the dead child's incarnation. Raises NotSent or OutcomeUnknown; doing it again does no harm."""
    place = left.place
    if place.client_id and place.seen_as:
        # A command of the dead child may still be on its way. If the server refuses, because the
        # connection has gone by itself or an ACL forbids this, the sweep catches what comes late.
        # With its address: a server that has restarted counts again, and the number may be another's.
        with contextlib.suppress(Refused):
            connection.call("CLIENT", "KILL", "ID", place.client_id, "ADDR", place.seen_as)
    name = identity.text(place.incarnation)
    raw: bytes | None = None
    if place.is_running and place.claim != NO_CLAIM:
        raw = connection.call("LINDEX", keys.inflight(place.queue, name), place.started - 1)
    fate, frame = _fate(left, served, raw, max_crashes)
    retired = scripts.retire(
        connection, place.queue, name, -1 if place.claim == NO_CLAIM else place.claim,
        done=place.finished, fate=fate, frame=frame, sweep_ms=LEASE_MS,
    )  # fmt: skip
    ran: dict[str, Any] = {
        "queue": place.queue,
        "id": id_of(raw) if raw else None,
        "handler": served.handler,
    }
    if fate == "bury" and retired.believed:
        reason = f"crashed its child {max_crashes} times: {left.cause}"
        events.emit(logging.ERROR, events.MESSAGE_BURIED, **ran, child=left.child, reason=reason)
    interruptions = trail_of(frame).interruptions if fate == "replace" else 0
    if retired.believed and left.interrupted and interruptions >= policy.MANY_INTERRUPTIONS:
        events.emit(
            logging.WARNING, events.MESSAGE_INTERRUPTED, **ran, interruptions=interruptions,
            reason="it runs for longer than its workers live: see --shutdown-timeout",
        )  # fmt: skip
    if retired.released:
        events.emit(
            logging.WARNING, events.MESSAGE_RELEASED,
            **ran, child=left.child, count=retired.released, reason=_reason(left),
        )  # fmt: skip
    return retired


def hand_back(connection: Connection, place: Place) -> None:
    """Release what the claim of a living child holds and it will not start. Raises as `recover` does."""
    name = identity.text(place.incarnation)
    released = scripts.hand_back(connection, place.queue, name, place.claim, keep=place.started)
    if released:
        reason = "the message before takes long, or the worker begins nothing more"
        events.emit(
            logging.DEBUG, events.MESSAGE_RELEASED, queue=place.queue, count=released, incarnation=name,
            reason=reason,
        )  # fmt: skip


def _reason(left: Left) -> str:
    return f"{left.cause} while several ran: each runs alone next" if left.suspected else left.cause


def _fate(left: Left, served: Served, raw: bytes | None, max_crashes: int) -> tuple[scripts.Fate, bytes]:
    """Decide what becomes of the message that ran: only a crash counts against it, and only so many."""
    if raw is None:
        return "release", b""
    now_ms = int(time.time() * 1000)
    if left.overran_s is not None:  # whoever takes it next knows its handler's retries
        return "replace", noted(raw, trail_of(raw).overran(left.overran_s))
    if left.suspected:
        return "replace", noted(raw, trail_of(raw).suspected())
    if left.interrupted:
        # A bare body stays bare: whoever put it there may have another reader for it.
        return ("replace", noted(raw, trail_of(raw).interrupted())) if is_frame(raw) else ("release", b"")
    trail = trail_of(raw).crashed(now_ms)
    if policy.must_bury(trail.crashes, now_ms, max_crashes):
        reason: dict[str, Scalar] = {
            "kind": "crashed",
            "error": left.cause,
            "handler": served.handler,
            "at": now_ms,
        }
        trail = trail.with_reason(**reason, **({"traceback": left.stack} if left.stack else {}))
        return "bury", noted(raw, trail)
    return "replace", noted(raw, trail)
